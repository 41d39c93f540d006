//! Refusals that gates sent by themselves and that are not logged yet.

use crate::core::REFUSALS_EVERY;
use contracts::{GateRefusal, SequenceRange};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Refusals that gates sent by themselves and that are not logged yet.
#[derive(Debug, Default)]
pub(super) struct Said {
    counts: HashMap<SequenceRange, GateRefusal>,
    since: Option<Instant>,
    /// Refusals that found no room here: they were sent, and only their count is not logged.
    lost: u64,
}

impl Said {
    /// Ranges of entries that are counted separately: a sale whose units are released one by one
    /// makes some hundred in a second.
    const COUNTS_MAX: usize = 8192;

    pub(super) fn add(&mut self, counts: &[GateRefusal]) {
        for count in counts {
            let room = self.counts.len() < Self::COUNTS_MAX;
            match self.counts.entry(count.range()) {
                Entry::Occupied(mut known) => drop(known.get_mut().merge(count)),
                Entry::Vacant(new) if room => drop(new.insert(*count)),
                Entry::Vacant(_) => self.lost = self.lost.saturating_add(count.count()),
            }
        }
        if !self.counts.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// The refusals to log now.
    pub(super) fn take_due(&mut self) -> Option<Vec<GateRefusal>> {
        let old = self.since.is_some_and(|since| since.elapsed() >= Duration::from_millis(REFUSALS_EVERY.0));
        old.then(|| self.take())
    }

    pub(super) fn take(&mut self) -> Vec<GateRefusal> {
        self.since = None;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::warn!(
                lost,
                "gates answered alone in more ranges than are counted: so many answers are not in the log"
            );
        }
        let mut counts: Vec<GateRefusal> = self.counts.drain().map(|(_, count)| count).collect();
        counts.sort_unstable_by_key(GateRefusal::range);
        counts
    }
}
