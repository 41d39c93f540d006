//! What operators set of schedules: at which times an event is posted, and which.

use chrono::{DateTime, Utc};
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
        // Of a time within a second the library's next one would keep the fraction.
        let at = i64::try_from(at.0 / 1000).ok().and_then(|at| DateTime::<Utc>::from_timestamp(at, 0));
        if self.is_paused {
            return Ok(None);
        }
        let next = at.and_then(|at| cron.find_next_occurrence(&at.with_timezone(&time_zone), false).ok());
        Ok(next.and_then(|next| u64::try_from(next.timestamp_millis()).ok().map(TimeMs)))
    }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(CRON_BYTES_MAX)]
}
