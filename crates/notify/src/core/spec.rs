//! What operators set: topics and subscriptions.

use crate::filter::Filter;
use contracts::TopicId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::DurationMs;

/// The longest schedule of retries.
const ATTEMPTS_MAX: u32 = 100;
const DAY_SECONDS: u64 = 86_400;
const SECONDS_MAX: u64 = 30 * DAY_SECONDS;
/// Deliveries at once to one endpoint, at the most.
const IN_FLIGHT_MAX: u32 = 1000;
/// Deliveries a second to one endpoint, at the most, if they are limited at all.
const RATE_MAX: u32 = 100_000;
/// Events of a topic, at the most: some forty bytes of memory each. Two batches fit.
const EVENTS_MAX: u64 = 20_000_000;
const EVENTS_MAX_LEAST: u64 = 2000;
const URL_BYTES_MAX: usize = 2048;

/// How a topic keeps events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicSpec {
    /// How long an event can be looked at after all of its subscriptions have had it.
    pub retain_seconds: u64,
    /// How many such events are kept, at the most.
    pub retain_events: u64,
    /// How long a repeated (source, id) is recognised.
    pub repeat_seconds: u64,
    /// With so many events, the oldest of which a subscription has not had, the topic is full.
    pub events_max: u64,
    pub when_full: WhenFull,
}

/// What happens to a topic that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum WhenFull {
    /// Publishers are refused.
    #[default]
    Refuse,
    /// The oldest events are dropped, also for those who have not had them.
    DropOldest,
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self {
            retain_seconds: 7 * DAY_SECONDS,
            retain_events: 1_000_000,
            repeat_seconds: DAY_SECONDS,
            events_max: EVENTS_MAX,
            when_full: WhenFull::Refuse,
        }
    }
}

impl TopicSpec {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let within = |name, seconds, least| {
            let fits = (least..=SECONDS_MAX).contains(&seconds);
            (!fits).then(|| format!("{name}: {seconds}, want {least} to {SECONDS_MAX}"))
        };
        let number = |name, number, least| {
            let fits = (least..=EVENTS_MAX).contains(&number);
            (!fits).then(|| format!("{name}: {number}, want {least} to {EVENTS_MAX}"))
        };
        within("retain_seconds", self.retain_seconds, 60)
            .or_else(|| number("retain_events", self.retain_events, 0))
            .or_else(|| number("events_max", self.events_max, EVENTS_MAX_LEAST))
            .or_else(|| within("repeat_seconds", self.repeat_seconds, 0))
    }
}

/// What happens to an event when its last attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// It becomes a dead letter, and the next event of its key is delivered.
    #[default]
    DeadLetter,
    /// Its key waits until an operator resumes it.
    BlockKey,
}

/// When a failed delivery is tried again: after `first_seconds`, then each time `factor` times as
/// long as before, and never longer than `longest_seconds`; a tenth more or less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Retry {
    pub first_seconds: u64,
    pub factor: u32,
    pub longest_seconds: u64,
    /// Attempts in all.
    pub attempts: u32,
}

impl Default for Retry {
    /// About three days in all, as Standard Webhooks recommends.
    fn default() -> Self {
        Self { first_seconds: 5, factor: 4, longest_seconds: 6 * 3600, attempts: 18 }
    }
}

impl Retry {
    /// How long to wait after this attempt, the first being 1, has failed. `salt` spreads the
    /// retries of many events over time.
    pub fn after(&self, attempt: u32, salt: u64) -> DurationMs {
        let mut ms = self.first_seconds.saturating_mul(1000);
        let longest_ms = self.longest_seconds.saturating_mul(1000);
        for _ in 1..attempt {
            if ms >= longest_ms {
                break;
            }
            ms = ms.saturating_mul(u64::from(self.factor));
        }
        let ms = ms.min(longest_ms);
        let fifth = (ms / 5).max(1);
        DurationMs(ms - ms / 10 + salt % fifth)
    }
}

/// A subscription as its operator wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSpec {
    pub topic: TopicId,
    /// Where events are posted to. Without it nothing is posted, and its consumers pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// All of them must pass; none: every event of the topic.
    #[serde(default)]
    pub filters: Vec<Filter>,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub exhausted: Exhausted,
    /// Deliveries at once.
    #[serde(default = "in_flight_default")]
    pub in_flight_max: u32,
    /// Deliveries that begin in a second, at the most, evenly spread; 0 is no limit.
    #[serde(default)]
    pub rate_max: u32,
    /// It lags when an event is so old that it has not had: operators are warned.
    #[serde(default = "lag_default")]
    pub lag_alert_seconds: u64,
}

fn in_flight_default() -> u32 {
    64
}

fn lag_default() -> u64 {
    300
}

impl SubscriptionSpec {
    /// What it costs to ask whether an event is for it.
    pub(crate) fn comparisons(&self) -> usize {
        1 + self.filters.iter().map(Filter::comparisons).sum::<usize>()
    }

    /// What is wrong with it. The URL is judged where it is used.
    pub fn problem(&self) -> Option<String> {
        let Retry { first_seconds, factor, longest_seconds, attempts } = self.retry;
        if let Some(url) = self.url.as_ref().filter(|url| url.len() > URL_BYTES_MAX) {
            return Some(format!("url: {} bytes, want {URL_BYTES_MAX} at the most", url.len()));
        }
        if !(1..=ATTEMPTS_MAX).contains(&attempts) {
            return Some(format!("retry.attempts: {attempts}, want 1 to {ATTEMPTS_MAX}"));
        }
        if !(1..=100).contains(&factor) {
            return Some(format!("retry.factor: {factor}, want 1 to 100"));
        }
        if !(1..=SECONDS_MAX).contains(&longest_seconds) || !(1..=longest_seconds).contains(&first_seconds) {
            return Some(format!(
                "retry: first_seconds {first_seconds} and longest_seconds {longest_seconds}, want 1 to {SECONDS_MAX}, \
                 and the first no longer than the longest"
            ));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight_max) {
            return Some(format!("in_flight_max: {}, want 1 to {IN_FLIGHT_MAX}", self.in_flight_max));
        }
        if self.rate_max > RATE_MAX {
            return Some(format!("rate_max: {}, want 1 to {RATE_MAX}, or 0 for no limit", self.rate_max));
        }
        if !(1..=SECONDS_MAX).contains(&self.lag_alert_seconds) {
            return Some(format!("lag_alert_seconds: {}, want 1 to {SECONDS_MAX}", self.lag_alert_seconds));
        }
        Filter::check(&self.filters).err().map(|error| error.to_string())
    }
}

/// Whether a subscription is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionState {
    Active,
    /// By an operator: events are kept for it.
    Paused,
    /// By its endpoint, which answered 410 Gone: events are kept for it until an operator decides.
    Disabled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_are_spread_by_a_tenth() {
        let retry = Retry { first_seconds: 5, factor: 4, longest_seconds: 100, attempts: 9 };
        for (attempt, middle_ms) in [(1, 5000), (2, 20_000), (3, 80_000), (4, 100_000), (99, 100_000)] {
            let waits: Vec<u64> = (0..1000).map(|salt| retry.after(attempt, salt * 7919).0).collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(
                *least >= middle_ms * 9 / 10 && *most <= middle_ms * 11 / 10,
                "{attempt}: {least} {most}"
            );
            assert!(most - least > middle_ms / 10, "{attempt}: {least} to {most} is no spread");
        }
        let days: u64 = (1..Retry::default().attempts).map(|at| Retry::default().after(at, 0).0).sum();
        assert!((2..4).contains(&(days / 86_400_000)), "{days} ms");
    }
}
