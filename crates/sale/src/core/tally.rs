//! Counts refusals until they are journalled. Not part of the state: counts that are not in the log
//! yet do not follow from it.

use super::refusal::{RefusalCount, RefusalKind};
use units::{Sequence, TimeMs};

/// Different (kind, item, quantity) that are counted apart before the tally asks to be journalled
/// early.
const ENTRIES_MAX: usize = 512;

/// Refusals since they were last journalled.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    since: Option<TimeMs>,
    entries: Vec<RefusalCount>,
}

impl Tally {
    /// When the first of them was sent; long ago if the tally is full, so that it is journalled at
    /// once.
    pub(super) fn since(&self) -> Option<TimeMs> {
        if self.entries.len() >= ENTRIES_MAX { Some(TimeMs(0)) } else { self.since }
    }

    pub(super) fn note(&mut self, now: TimeMs, kind: RefusalKind, item: u16, quantity: u16, as_of: Sequence) {
        self.since.get_or_insert(now);
        let same = |e: &&mut RefusalCount| (e.kind, e.item, e.quantity) == (kind, item, quantity);
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.count += 1,
            None => self.entries.push(RefusalCount { kind, item, quantity, first_as_of: as_of, count: 1 }),
        }
    }

    /// Whether a refusal said that this item is sold out.
    pub(super) fn names_item(&self, item: u16) -> bool {
        self.entries.iter().any(|e| e.kind == RefusalKind::SoldOut && e.item == item)
    }

    pub(super) fn take(&mut self) -> Vec<RefusalCount> {
        self.since = None;
        std::mem::take(&mut self.entries)
    }
}
