//! The decision log as people read it: who, when, what, why.

use crate::{Actor, AttemptId, SealedShopper, ShopperKey};
use std::collections::HashSet;
use units::{Sequence, TimeMs};

/// An entry of a sale's log, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    pub sequence: Sequence,
    pub at: TimeMs,
    /// The entry's name in `docs/log-format.md`.
    pub kind: &'static str,
    /// Who caused it; none if the log names no actor.
    pub by: Option<Actor>,
    pub shopper: Option<ShopperKey>,
    /// The shopper's id, encrypted, where the entry has it.
    pub sealed: Option<SealedShopper>,
    /// The attempt, whose id is also that of the hold.
    pub attempt: Option<AttemptId>,
    pub what: String,
}

/// Which entries are wanted: those that fit every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineFilter {
    pub shopper: Option<ShopperKey>,
    /// Attempts of the wanted shopper, whose later entries do not name the shopper.
    pub shoppers_attempts: HashSet<AttemptId>,
    /// A hold, or another attempt.
    pub attempt: Option<AttemptId>,
    /// The actor's name.
    pub by: Option<String>,
}

impl TimelineFilter {
    /// Whether an entry is wanted. Entries of a wanted shopper's holds name only the hold: the
    /// caller collects their attempts in [`TimelineFilter::shoppers_attempts`].
    pub fn wants(&self, entry: &TimelineEntry) -> bool {
        let by = self.by.as_ref().is_none_or(|name| entry.by.as_ref().is_some_and(|by| by.name == *name));
        let is_shoppers = || entry.attempt.is_some_and(|attempt| self.shoppers_attempts.contains(&attempt));
        let shopper = self.shopper.is_none() || entry.shopper == self.shopper || is_shoppers();
        let attempt = self.attempt.is_none() || entry.attempt == self.attempt;
        by && shopper && attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_must_fit_every_filter_that_is_set() {
        let [alice, bob] = [1, 2].map(|n| ShopperKey([n; 16]));
        let [of_alice, of_bob] = [3, 4].map(|n| AttemptId([n; 16]));
        let entry = |shopper, attempt, by: &str| TimelineEntry {
            sequence: Sequence(1),
            at: TimeMs(0),
            kind: "granted",
            by: Some(Actor::new(by, "")),
            shopper,
            sealed: None,
            attempt,
            what: String::new(),
        };
        let (granted, paid) =
            (entry(Some(alice), Some(of_alice), "timer"), entry(None, Some(of_alice), "till"));
        let (other, paused) = (entry(Some(bob), Some(of_bob), "timer"), entry(None, None, "till"));
        let check = |shopper: Option<ShopperKey>, attempt, by: Option<&str>, wanted: [bool; 4]| {
            let shoppers_attempts = match shopper {
                Some(shopper) if shopper == alice => HashSet::from([of_alice]),
                Some(_) => HashSet::from([of_bob]),
                None => HashSet::new(),
            };
            let filter = TimelineFilter { shopper, shoppers_attempts, attempt, by: by.map(str::to_owned) };
            let wants = [&granted, &paid, &other, &paused].map(|entry| filter.wants(entry));
            assert_eq!(wants, wanted, "{filter:?}");
        };
        check(None, None, None, [true; 4]);
        check(Some(alice), None, None, [true, true, false, false]);
        check(None, Some(of_alice), None, [true, true, false, false]);
        check(Some(alice), Some(of_alice), None, [true, true, false, false]);
        check(Some(alice), Some(of_bob), None, [false; 4]);
        check(Some(bob), Some(of_bob), Some("timer"), [false, false, true, false]);
        check(Some(alice), None, Some("till"), [false, true, false, false]);
        check(None, None, Some("till"), [false, true, false, true]);
    }
}
