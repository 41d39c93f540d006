//! What tenants may have and their keys may do: how many topics, subscriptions and schedules, how
//! much in a second, how much at once. Counts begin anew with the process.

use crate::problem::{CONFLICT, KEY_LIMITED, Problem};
use contracts::TenantId;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use units::TimeMs;
use web::{
    metrics::{Metric, Registry},
    tenants::{OfTenant, Scope},
};

/// How far a key may be ahead of its rate: what it may post at once after a silence.
const BURST_US: u64 = 1_000_000;
/// The longest that one request may keep its key waiting.
const DEBT_US_MAX: u64 = 3_600_000_000;
/// Keys and tenants that are remembered: more than there can be at a time.
const KNOWN_MAX: usize = 2000;
/// Stands for tenants for which there is no row.
const OTHERS: &str = "others";

/// 0 is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Of a tenant.
    pub(crate) topics_max: usize,
    pub(crate) subscriptions_max: usize,
    pub(crate) schedules_max: usize,
    /// Of each key.
    pub(crate) events_per_second: u64,
    pub(crate) bytes_per_second: u64,
    pub(crate) pulls_max: usize,
    /// Also of keys with a role.
    pub(crate) streams_max: usize,
}

/// What a key holds of something that it may have so many of at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtOnce {
    Pulls,
    Streams,
}

impl AtOnce {
    const ALL: [Self; 2] = [Self::Pulls, Self::Streams];

    fn name(self) -> &'static str {
        match self {
            Self::Pulls => "pulls",
            Self::Streams => "streams",
        }
    }

    fn limit(self, limits: &Limits) -> (usize, &'static str) {
        match self {
            Self::Pulls => (limits.pulls_max, "key_pulls_max"),
            Self::Streams => (limits.streams_max, "key_streams_max"),
        }
    }
}

/// A key: until when what it has posted is paid for, by the generic cell rate algorithm (ITU-T
/// I.371), and what it has at once.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    events_until_us: u64,
    bytes_until_us: u64,
    at_once: [usize; AtOnce::ALL.len()],
}

impl Used {
    fn is_idle(&self, now_us: u64) -> bool {
        self.events_until_us.max(self.bytes_until_us) <= now_us && self.at_once == Self::default().at_once
    }
}

/// A tenant since the start of the process.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: u64,
    bytes: u64,
    limited: u64,
}

#[derive(Debug, Default)]
struct Known {
    keys: BTreeMap<String, Used>,
    tenants: BTreeMap<String, Counts>,
}

impl Known {
    fn counts(&mut self, tenant: &TenantId) -> &mut Counts {
        let is_known = self.tenants.contains_key(tenant.as_str()) || self.tenants.len() < KNOWN_MAX;
        let row = if is_known { tenant.as_str() } else { OTHERS };
        self.tenants.entry(row.to_owned()).or_default()
    }

    fn used(&mut self, key: &str, now_us: u64) -> &mut Used {
        if self.keys.len() >= KNOWN_MAX {
            self.keys.retain(|_, used| !used.is_idle(now_us));
        }
        self.keys.entry(key.to_owned()).or_default()
    }
}

/// The limits, and how much of them is used.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    limits: Limits,
    known: Mutex<Known>,
}

impl Quotas {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a key post, if what it has posted before is paid for. With 0 events it is only asked.
    /// One request may be over the rate, and the next one waits for it.
    pub(crate) fn post(
        &self,
        scope: &Scope,
        (events, bytes): (usize, usize),
        now: TimeMs,
    ) -> Result<(), Problem> {
        let Some(of) = scope.of_tenant() else { return Ok(()) };
        let Limits { events_per_second, bytes_per_second, .. } = self.limits;
        let now_us = now.0 * 1000;
        let mut known = self.known();
        let used = *known.used(&of.key, now_us);
        for (what, per_second, until_us, setting) in [
            ("events", events_per_second, used.events_until_us, "key_events_per_second"),
            ("bytes of events", bytes_per_second, used.bytes_until_us, "key_bytes_per_second"),
        ] {
            let wait_us = until_us.saturating_sub(now_us + BURST_US);
            if per_second > 0 && wait_us > 0 {
                known.counts(&of.tenant).limited += 1;
                let why = format!(
                    "API key {:?} may post {per_second} {what} a second (notify.{setting}): wait as Retry-After says",
                    of.key
                );
                let seconds = u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
                return Err(Problem::new(&KEY_LIMITED, why).retry_after(seconds));
            }
        }
        if events == 0 {
            return Ok(());
        }
        let later = |until_us: u64, cost: usize, per_second: u64| {
            let cost_us = (cost as u64).saturating_mul(1_000_000).checked_div(per_second).unwrap_or(0);
            until_us.max(now_us).saturating_add(cost_us).min(now_us + DEBT_US_MAX)
        };
        let slot = known.used(&of.key, now_us);
        slot.events_until_us = later(used.events_until_us, events, events_per_second);
        slot.bytes_until_us = later(used.bytes_until_us, bytes, bytes_per_second);
        let counts = known.counts(&of.tenant);
        (counts.events, counts.bytes) = (counts.events + events as u64, counts.bytes + bytes as u64);
        Ok(())
    }

    /// Lets a key pull, until this is dropped. Keys with a role have no limit.
    pub(crate) fn pull(self: &Arc<Self>, scope: &Scope, now: TimeMs) -> Result<Option<Taken>, Problem> {
        let Some(of) = scope.of_tenant() else { return Ok(None) };
        self.take(&of.key, scope, AtOnce::Pulls, now).map(Some)
    }

    /// Lets a key have one more stream, until this is dropped.
    pub(crate) fn stream(self: &Arc<Self>, key: &str, scope: &Scope, now: TimeMs) -> Result<Taken, Problem> {
        self.take(key, scope, AtOnce::Streams, now)
    }

    fn take(self: &Arc<Self>, key: &str, scope: &Scope, what: AtOnce, now: TimeMs) -> Result<Taken, Problem> {
        let (max, setting) = what.limit(&self.limits);
        let mut known = self.known();
        let count = &mut known.used(key, now.0 * 1000).at_once[what as usize];
        if max > 0 && *count >= max {
            if let Some(of) = scope.of_tenant() {
                known.counts(&of.tenant).limited += 1;
            }
            let why = format!("API key {key:?} has {max} {} at once (notify.{setting})", what.name());
            return Err(Problem::new(&KEY_LIMITED, why));
        }
        *count += 1;
        Ok(Taken { quotas: Arc::clone(self), key: key.to_owned(), what })
    }

    /// Whether a tenant may have one more topic.
    pub(crate) fn topic(&self, of: &OfTenant, has: usize) -> Result<(), Problem> {
        one_more(of, has, self.limits.topics_max, "topics", "tenant_topics_max")
    }

    /// Whether a tenant may have one more subscription.
    pub(crate) fn subscription(&self, of: &OfTenant, has: usize) -> Result<(), Problem> {
        one_more(of, has, self.limits.subscriptions_max, "subscriptions", "tenant_subscriptions_max")
    }

    /// Whether a tenant may have one more schedule.
    pub(crate) fn schedule(&self, of: &OfTenant, has: usize) -> Result<(), Problem> {
        one_more(of, has, self.limits.schedules_max, "schedules", "tenant_schedules_max")
    }

    /// Registers the counts of tenants.
    pub(crate) fn read(&self, now: &mut Registry) {
        let tenants = self.known().tenants.clone();
        let mut row = |name: &'static str, help: &'static str, value: fn(&Counts) -> u64| {
            let rows = tenants.iter().map(|(tenant, counts)| ([("tenant", tenant.clone())], value(counts)));
            now.values(Metric::counter(name, help), rows);
        };
        row("floodgate_notify_tenant_events_total", "Events that a tenant's keys have posted", |of| {
            of.events
        });
        row("floodgate_notify_tenant_bytes_total", "Bytes of these events", |of| of.bytes);
        row(
            "floodgate_notify_tenant_limited_total",
            "Requests of a tenant's keys that were over a limit",
            |of| of.limited,
        );
    }
}

fn one_more(of: &OfTenant, has: usize, max: usize, what: &str, setting: &'static str) -> Result<(), Problem> {
    if max == 0 || has < max {
        return Ok(());
    }
    let why = format!("tenant {} has {has} {what}, and {max} are the most (notify.{setting})", of.tenant);
    Err(Problem::new(&CONFLICT, why))
}

/// One of what a key has at once.
#[derive(Debug)]
pub(crate) struct Taken {
    quotas: Arc<Quotas>,
    key: String,
    what: AtOnce,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut known = self.quotas.known();
        if let Some(used) = known.keys.get_mut(&self.key) {
            let count = &mut used.at_once[self.what as usize];
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(key: &str) -> Scope {
        let tenant = "acme".parse().unwrap();
        Scope::Tenant(Arc::new(OfTenant { key: key.into(), tenant, topics: None }))
    }

    #[test]
    fn a_key_has_its_rate_and_a_seconds_worth_at_once_and_no_other_key_pays_for_it() {
        let limits = Limits { events_per_second: 10, bytes_per_second: 1000, ..Limits::default() };
        let quotas = Quotas::new(limits);
        let post = |key: &str, events, bytes, at| {
            let said = quotas.post(&scope(key), (events, bytes), TimeMs(at));
            said.map_err(|problem| (problem.detail().to_owned(), problem.retry_after_seconds()))
        };
        for _ in 0..11 {
            post("till", 1, 1, 5000).unwrap();
        }
        let (why, wait) = post("till", 1, 1, 5000).unwrap_err();
        assert!(why.starts_with("API key \"till\" may post 10 events a second"), "{why}");
        assert_eq!(wait, Some(1));
        post("shop", 1, 1, 5000).unwrap();
        post("till", 0, 0, 5100).unwrap();
        post("till", 1, 1, 5100).unwrap();
        assert!(post("till", 0, 0, 5100).is_err(), "also when it is only asked");
        // A batch of five seconds' worth is let in, and keeps the next one waiting.
        post("shop", 50, 10, 9000).unwrap();
        assert_eq!(post("shop", 1, 1, 9000).unwrap_err().1, Some(4));
        assert!(post("shop", 1, 1, 12_999).is_err() && post("shop", 1, 1, 13_000).is_ok());
        post("large", 1, 3000, 9000).unwrap();
        let (why, wait) = post("large", 1, 1, 9000).unwrap_err();
        assert!(why.contains("1000 bytes of events a second") && wait == Some(2), "{why} {wait:?}");
        assert!(
            (0..1000).all(|_| quotas.post(&Scope::All, (1000, 1 << 20), TimeMs(1)).is_ok()),
            "an operator"
        );
        let none = Quotas::default();
        assert!(
            (0..1000).all(|_| none.post(&scope("till"), (1000, 1 << 20), TimeMs(1)).is_ok()),
            "0 is no limit"
        );
    }

    #[test]
    fn what_a_key_has_at_once_is_given_back_and_idle_keys_are_forgotten() {
        let quotas = Arc::new(Quotas::new(Limits { pulls_max: 2, ..Limits::default() }));
        let take = |key: &str| quotas.pull(&scope(key), TimeMs(7));
        let (first, _second) = (take("till").unwrap(), take("till").unwrap());
        assert!(take("till").unwrap_err().detail().contains("2 pulls at once (notify.key_pulls_max)"));
        assert!(take("shop").unwrap().is_some() && quotas.pull(&Scope::All, TimeMs(7)).unwrap().is_none());
        drop(first);
        let _third = take("till").unwrap();
        for key in 0..10_000 {
            take(&format!("k{key}")).unwrap();
        }
        assert!(quotas.known().keys.len() <= KNOWN_MAX && take("till").is_err());
    }
}
