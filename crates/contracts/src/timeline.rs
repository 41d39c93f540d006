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

/// Which entries are wanted; a field that is absent wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimelineFilter {
    pub shopper: Option<ShopperKey>,
    /// These attempts, in addition to those that name the shopper.
    pub attempts: HashSet<AttemptId>,
    /// The actor's name.
    pub by: Option<String>,
}

impl TimelineFilter {
    /// Whether an entry is wanted. Entries of a wanted shopper's holds name only the hold: the
    /// caller collects their attempts in [`TimelineFilter::attempts`].
    pub fn wants(&self, entry: &TimelineEntry) -> bool {
        let by = self.by.as_ref().is_none_or(|name| entry.by.as_ref().is_some_and(|by| by.name == *name));
        let any = self.shopper.is_none() && self.attempts.is_empty();
        let shopper = self.shopper.is_some() && entry.shopper == self.shopper;
        let attempt = entry.attempt.is_some_and(|attempt| self.attempts.contains(&attempt));
        by && (any || shopper || attempt)
    }
}
