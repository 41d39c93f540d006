//! What operators set of schedules: at which times an event is posted, and which.

use chrono::{DateTime, MappedLocalTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use contracts::TopicId;
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;
use units::TimeMs;

const CRON_BYTES_MAX: usize = 200;

/// A schedule as its operator wants it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    pub topic: TopicId,
    /// Minute, hour, day of the month, month and day of the week, as cron has them, such as
    /// `0 10 * * MON-FRI`; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub cron: String,
    /// The time zone of these times by its name in the IANA's database, such as `Asia/Shanghai`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// While it is paused, nothing is posted, and nothing of that time is made up for.
    #[serde(default)]
    pub is_paused: bool,
    /// The event in the JSON format of CloudEvents, without `specversion`, `id` and `time`, which
    /// it gets each time: `id` is the schedule and the time, `time` that for which it was due.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub event: Box<RawValue>,
}

fn utc() -> String {
    "UTC".into()
}

impl PartialEq for ScheduleSpec {
    fn eq(&self, other: &Self) -> bool {
        let Self { topic, cron, time_zone, is_paused, event } = self;
        (topic, cron, time_zone, is_paused, event.get())
            == (&other.topic, &other.cron, &other.time_zone, &other.is_paused, other.event.get())
    }
}

impl ScheduleSpec {
    /// What is wrong with its times.
    pub(super) fn problem_of_times(&self, now: TimeMs) -> Option<String> {
        match self.next_after(now) {
            Err(why) => Some(why),
            Ok(None) if !self.is_paused => {
                Some(format!("cron: {:?} names no time that ever comes", self.cron))
            }
            Ok(_) => None,
        }
    }

    fn times(&self) -> Result<(Cron, Tz), String> {
        let unknown =
            |_| format!("time_zone: {:?} is no name such as UTC or Asia/Shanghai", clip(&self.time_zone));
        let time_zone: Tz = self.time_zone.parse().map_err(unknown)?;
        if self.cron.len() > CRON_BYTES_MAX {
            return Err(format!("cron: {} bytes, want {CRON_BYTES_MAX} at the most", self.cron.len()));
        }
        let cron = CronParser::builder().seconds(Seconds::Disallowed).build().parse(&self.cron);
        let cron = cron.map_err(|error| {
            format!("cron: {:?}: {error} Want five fields, such as \"0 10 * * MON-FRI\"", clip(&self.cron))
        })?;
        Ok((cron, time_zone))
    }

    /// The first time after this one; none if it is paused, or its expression names no time that
    /// ever comes.
    pub(super) fn next_after(&self, at: TimeMs) -> Result<Option<TimeMs>, String> {
        let (cron, time_zone) = self.times()?;
        let at = i64::try_from(at.0 / 1000).ok().filter(|_| !self.is_paused);
        let zone = Zone(time_zone);
        let next = at.and_then(|at| match self.goes_by_the_hour() {
            // A time that is skipped comes all the same.
            true => zone.next_of_many(&cron, at).into_iter().chain(zone.next_of_few(&cron, at)).min(),
            false => zone.next_of_few(&cron, at),
        });
        Ok(next.and_then(|next| u64::try_from(next).ok()).map(|next| TimeMs(next * 1000)))
    }

    /// Whether it is meant for hour after hour, or minute after minute: it is due whenever the
    /// clocks show one of its times. Otherwise it is due once for each of them.
    fn goes_by_the_hour(&self) -> bool {
        let mut fields = self.cron.split_whitespace();
        self.cron.eq_ignore_ascii_case("@hourly") || fields.by_ref().take(2).any(|field| field.contains('*'))
    }
}

/// A time zone. Times are seconds since 1970 in UTC, local ones as if the zone were UTC: the
/// library computes with these alone, because the rules for clocks that change are those of this
/// module.
struct Zone(Tz);

/// How much local times may be off from UTC, and more.
const OFFSET_MAX: i64 = 26 * 3600;
/// Clocks that change twice within a week are taken to change once.
const WEEK: i64 = 7 * 86_400;
/// How often clocks change between two times of a schedule that goes by the hour, at the most.
const CHANGES_MAX: usize = 64;
/// Local times that come a second time when clocks are set back, at the most: those of six hours.
const REPEATED_MAX: usize = 360;

impl Zone {
    /// How much the clocks are ahead of UTC, in seconds.
    fn offset(&self, at: i64) -> Option<i64> {
        let at = DateTime::<Utc>::from_timestamp(at, 0)?;
        Some(i64::from(self.0.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
    }

    /// The first second after `from`, and up to `to`, at which this is so; it is so from then on.
    fn first_second(from: i64, to: i64, is_so: impl Fn(i64) -> Option<bool>) -> Option<i64> {
        let (mut from, mut to) = (from, to);
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            match is_so(middle)? {
                true => to = middle,
                false => from = middle,
            }
        }
        Some(to)
    }

    /// Each local time comes once: one that is skipped when the clocks go on, and one that comes
    /// twice the first time.
    fn next_of_few(&self, cron: &Cron, at: i64) -> Option<i64> {
        let mut local = at + self.offset(at)?;
        for _ in 0..REPEATED_MAX {
            local = after(cron, local)?;
            let next =
                match self.0.from_local_datetime(&DateTime::<Utc>::from_timestamp(local, 0)?.naive_utc()) {
                    MappedLocalTime::Single(next) | MappedLocalTime::Ambiguous(next, _) => next.timestamp(),
                    MappedLocalTime::None => {
                        let is_over = |at: i64| Some(at + self.offset(at)? >= local);
                        Self::first_second(local - OFFSET_MAX, local + OFFSET_MAX, is_over)?
                    }
                };
            if next > at {
                return Some(next);
            }
        }
        None
    }

    /// Of local times that come whenever the clocks show them.
    fn next_of_many(&self, cron: &Cron, at: i64) -> Option<i64> {
        let mut at = at;
        for _ in 0..CHANGES_MAX {
            let offset = self.offset(at)?;
            let next = after(cron, at + offset)? - offset;
            if self.offset(next)? == offset {
                return Some(next);
            }
            // The clocks change before: what they show then may be a time of it, too.
            let has_changed = |at: i64| Some(self.offset(at)? != offset);
            let (mut before, mut until) = (at, (at + WEEK).min(next));
            while !has_changed(until)? {
                (before, until) = (until, (until + WEEK).min(next));
            }
            let change = Self::first_second(before, until, has_changed)?;
            let shown = change + self.offset(change)?;
            if after(cron, shown - 1)? == shown {
                return Some(change);
            }
            at = change;
        }
        None
    }
}

/// The first local time after this one.
fn after(cron: &Cron, local: i64) -> Option<i64> {
    let next = cron.find_next_occurrence(&DateTime::<Utc>::from_timestamp(local, 0)?, false).ok()?;
    Some(next.timestamp())
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(CRON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, time_zone: &str, from: &str, count: usize) -> Vec<String> {
        let document = serde_json::json!({ "topic": "t", "cron": cron, "time_zone": time_zone, "event": {} });
        let spec: ScheduleSpec = serde_json::from_str(&document.to_string()).unwrap();
        let mut at: TimeMs = from.parse().unwrap();
        let mut next = || {
            let next = spec.next_after(at).unwrap().unwrap();
            assert!(next > at, "{cron} in {time_zone}: {next} after {at}");
            at = next;
            next.to_string()[..16].to_owned()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_time_that_is_skipped_comes_when_the_clocks_go_on_and_one_that_comes_twice_once() {
        let berlin = |cron: &str, from: &str, want: &[&str]| {
            assert_eq!(times(cron, "Europe/Berlin", from, want.len()), want, "{cron} from {from}");
        };
        let (spring, autumn) = ("2027-03-27T12:00:00Z", "2027-10-30T12:00:00Z");
        berlin("30 2 * * *", spring, &["2027-03-28T01:00", "2027-03-29T00:30"]);
        berlin("0,30 2 * * *", spring, &["2027-03-28T01:00", "2027-03-29T00:00"]);
        berlin("*/15 2 * * *", spring, &["2027-03-28T01:00", "2027-03-29T00:00"]);
        berlin("30 2 * * *", autumn, &["2027-10-31T00:30", "2027-11-01T01:30"]);
        // In the second of the two hours, in which its first time is past.
        berlin("30 2 * * *", "2027-10-31T01:10:00Z", &["2027-11-01T01:30"]);
        berlin("0-59 1-3 * * *", "2027-10-31T00:58:30Z", &["2027-10-31T00:59", "2027-10-31T02:00"]);
    }

    #[test]
    fn one_that_goes_by_the_hour_comes_whenever_the_clocks_show_it() {
        let berlin = |cron: &str, from: &str, want: &[&str]| {
            assert_eq!(times(cron, "Europe/Berlin", from, want.len()), want, "{cron} from {from}");
        };
        let hours = ["2027-10-31T00:00", "2027-10-31T01:00", "2027-10-31T02:00", "2027-10-31T03:00"];
        berlin("@hourly", "2027-10-30T23:00:00Z", &hours);
        berlin("0 * * * *", "2027-10-30T23:00:00Z", &hours);
        berlin("*/30 * * * *", "2027-10-31T00:10:00Z", &["2027-10-31T00:30", "2027-10-31T01:00"]);
        berlin("*/30 * * * *", "2027-03-28T00:40:00Z", &["2027-03-28T01:00", "2027-03-28T01:30"]);
        // Twice on this day, from a day on which the clocks are as they are after it.
        berlin(
            "*/30 2 31 10 *",
            "2027-01-01T00:00:00Z",
            &["2027-10-31T00:00", "2027-10-31T00:30", "2027-10-31T01:00"],
        );
        // The clocks of Lord Howe change by half an hour, those of Troll by two.
        let howe = times("*/10 * * * *", "Australia/Lord_Howe", "2027-04-03T14:20:00Z", 9);
        assert_eq!(howe.last().unwrap(), "2027-04-03T15:50");
        let troll = times("15 * * * *", "Antarctica/Troll", "2027-10-30T23:20:00Z", 4);
        assert_eq!(troll.last().unwrap(), "2027-10-31T03:15");
    }

    /// Whatever the rules of a zone: times rise, and are those that its clocks show or skip.
    #[test]
    fn times_rise_in_every_zone() {
        for zone in chrono_tz::TZ_VARIANTS.iter().step_by(29) {
            for cron in ["*/20 * * * *", "30 1,2 * * *", "0-59 0-3 31 * *", "@daily"] {
                times(cron, zone.name(), "2027-03-01T00:00:00Z", 500);
                times(cron, zone.name(), "2027-10-15T00:00:00Z", 1000);
            }
        }
    }
}
