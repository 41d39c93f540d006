//! What a day's reconciliation says: the provider's books of that day against the shop's.

use contracts::store::PaymentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};
use time::{Date, Month};
use units::{DurationMs, Money, TimeMs};

/// Differences that a report lists; it counts all.
pub(crate) const LISTED_MAX: usize = 1_000;
/// What a day has is listed by the provider so long after its end.
pub(crate) const LISTED_AFTER: DurationMs = DurationMs(3_600_000);
const DAY: DurationMs = DurationMs(86_400_000);

/// A day in UTC, such as `2026-11-11`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "date"))]
pub struct Day(String);

impl Day {
    /// The day in which this moment is.
    pub fn of(at: TimeMs) -> Self {
        Self(at.to_string()[..10].to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn begins_at(&self) -> TimeMs {
        format!("{}T00:00:00Z", self.0).parse().unwrap_or(TimeMs(0))
    }

    pub(crate) fn ends_at(&self) -> TimeMs {
        self.begins_at().plus(DAY)
    }
}

/// Not a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoDay;

impl fmt::Display for NoDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("want a day such as 2026-11-11, from 1970 on")
    }
}

impl FromStr for Day {
    type Err = NoDay;
    fn from_str(text: &str) -> Result<Self, NoDay> {
        let of = |range| text.get(range).and_then(|part: &str| part.parse::<u16>().ok());
        let is_form = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let (Some(year), Some(month), Some(day)) = (of(0..4), of(5..7), of(8..10)) else {
            return Err(NoDay);
        };
        let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok()).ok_or(NoDay)?;
        let day = u8::try_from(day).map_err(|_| NoDay)?;
        let is_there = Date::from_calendar_date(year.into(), month, day).is_ok();
        if is_form && year >= 1970 && is_there { Ok(Self(text.to_owned())) } else { Err(NoDay) }
    }
}

impl TryFrom<String> for Day {
    type Error = NoDay;
    fn try_from(text: String) -> Result<Self, NoDay> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> String {
        day.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which way money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ReconciliationKind")]
pub enum Kind {
    /// From the shopper to the provider.
    Received,
    /// Back to the shopper.
    GivenBack,
}

impl Kind {
    /// Its name in JSON and in databases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::GivenBack => "given_back",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Received, Self::GivenBack].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Money that moved, as one of the two books has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReconciliationMovement")]
pub struct Movement {
    pub kind: Kind,
    pub amount: Money,
    /// Of which payment; a provider that was not told so does not say it.
    pub payment: Option<PaymentId>,
}

impl Movement {
    /// Whether the two say the same.
    pub(crate) fn is_as(self, theirs: Self) -> bool {
        let is_same_payment = theirs.payment.is_none() || theirs.payment == self.payment;
        (self.kind, self.amount) == (theirs.kind, theirs.amount) && is_same_payment
    }
}

/// One difference: it stands in one of the two books only, or with another sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReconciliationDifference")]
pub struct Difference {
    /// The provider's number of the money that moved.
    pub movement: String,
    /// When, by the clock of the books in which it stands; the provider's if it stands in both.
    pub at: TimeMs,
    pub ours: Option<Movement>,
    pub theirs: Option<Movement>,
}

/// The sums of a day in one currency, in its minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReconciliationTotals")]
pub struct Totals {
    pub ours_received_minor: u64,
    pub theirs_received_minor: u64,
    pub ours_given_back_minor: u64,
    pub theirs_given_back_minor: u64,
}

/// The figures of a day's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReconciliationSummary")]
pub struct Summary {
    pub day: Day,
    pub made_at: TimeMs,
    /// How many differences there are.
    pub different: u64,
    pub found_in_books: u64,
    pub refunds_open: u64,
}

/// A day's books, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Reconciliation")]
pub struct Report {
    pub provider: String,
    pub day: Day,
    pub made_at: TimeMs,
    /// By currency. Money that moved within minutes of midnight may stand in two days, one in each
    /// of the two books.
    pub totals: BTreeMap<String, Totals>,
    pub different: u64,
    /// The first of them, a thousand at the most.
    pub differences: Vec<Difference>,
    /// Money of which no webhook told, and that was followed when it was found in the provider's
    /// books.
    pub found_in_books: u64,
    /// Refunds that were wanted a week before this day's end, and have not gone back yet.
    pub refunds_open: u64,
    /// Refunds of which the shop has learnt on this day that they did not reach the shopper after
    /// all: they are asked for again. Reports of earlier builds do not say it.
    #[serde(default)]
    pub refunds_failed: u64,
}

impl Report {
    /// Whether the day was over, and all of it listed, when its books were compared.
    pub fn is_whole(&self) -> bool {
        self.made_at >= self.day.ends_at().plus(LISTED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days_of_the_calendar() {
        for good in ["1970-01-01", "2026-11-11", "2028-02-29"] {
            let day: Day = good.parse().unwrap();
            assert_eq!((Day::of(day.begins_at()), day.as_str()), (day.clone(), good));
            assert_eq!(day.ends_at().since(day.begins_at()), DAY);
            assert_eq!(Day::of(TimeMs(day.ends_at().0 - 1)), day);
        }
        for wrong in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "+026-01-01",
            "2026-11-11T",
            "1969-12-31",
            "２０26-11-11",
        ] {
            assert_eq!(wrong.parse::<Day>(), Err(NoDay), "{wrong}");
        }
    }
}
