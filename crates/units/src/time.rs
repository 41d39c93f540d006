//! Points in time and lengths of time, in whole milliseconds. It reads no clock.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TimeMs(pub u64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationMs(pub u64);

impl DurationMs {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }
}

impl TimeMs {
    /// The last moment that has a text form: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// This much later (never past [`TimeMs::MAX`]).
    pub fn plus(self, length: DurationMs) -> Self {
        Self(self.0.saturating_add(length.0).min(Self::MAX.0))
    }

    /// As [`fmt::Display`] writes it. By hand, for every answer has a time in it.
    pub fn text(self) -> [u8; 24] {
        let ms = self.0.min(Self::MAX.0);
        let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
        // The civil calendar of a day count, in eras of 400 years that begin on 1 March (Hinnant,
        // "chrono-compatible low-level date algorithms", civil_from_days).
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (end, digits, value) in [
            (4, 4, year),
            (7, 2, month),
            (10, 2, day),
            (13, 2, of_day / 3_600_000),
            (16, 2, of_day / 60_000 % 60),
            (19, 2, of_day / 1000 % 60),
            (23, 3, of_day % 1000),
        ] {
            let mut rest = value;
            for at in (end - digits..end).rev() {
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        text
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

/// A text that is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeError(String);

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time {:?}: want RFC 3339, such as 2026-11-11T10:00:00Z", self.0)
    }
}

impl std::error::Error for TimeError {}

impl fmt::Display for TimeMs {
    /// RFC 3339 in UTC with milliseconds: `2026-11-11T10:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for TimeMs {
    type Err = TimeError;

    /// RFC 3339, section 5.6, with any offset; digits past the millisecond are dropped.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let refused = || TimeError(text.chars().take(40).collect());
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refused())?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map(TimeMs).map_err(|_| refused())
    }
}

/// Its text form.
impl JsonSchema for TimeMs {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "examples": ["2026-11-11T10:00:00.000Z"] })
    }
}

impl Serialize for TimeMs {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return to.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default());
        }
        to.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for TimeMs {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return String::deserialize(from)?.parse().map_err(serde::de::Error::custom);
        }
        u64::deserialize(from).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_a_round_trip_through_rfc_3339_text() {
        let check = |text: &str, ms: u64| {
            assert_eq!(text.parse(), Ok(TimeMs(ms)), "{text}");
        };
        check("1970-01-01T00:00:00Z", 0);
        check("2026-11-11T10:00:00.250Z", 1_794_391_200_250);
        check("2026-11-11T18:00:00.250+08:00", 1_794_391_200_250);
        check("2026-11-11T05:00:00.25-05:00", 1_794_391_200_250);
        check("2028-02-29T23:59:59.999999Z", 1_835_481_599_999);
        assert_eq!(TimeMs(1_794_391_200_250).to_string(), "2026-11-11T10:00:00.250Z");
        assert_eq!(TimeMs(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn an_invalid_time_is_refused() {
        for text in [
            "",
            "2026-11-11",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-11T24:00:00Z",
            "2026-11-11T10:00:00",
            "2026-11-11T10:00:00.Z",
            "2026-11-11T10:00:00+0800",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+08:00",
            "2026-11-11T10:00:00Zx",
        ] {
            assert!(text.parse::<TimeMs>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_a_round_trip_through_text() {
        for day in 0..146_097 {
            // With a different time of day on each.
            let time = TimeMs(day * 86_400_000 + day * 591_319 % 86_400_000);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
