//! The places that wait for one item, in order, found by the quantity that fits.

use contracts::SealedShopper;
use std::collections::BTreeMap;

/// A place on the waitlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) slot: u32,
    pub(super) tier: u8,
    pub(super) sealed: SealedShopper,
}

/// The waitlist of one item. Kept by quantity, so that the first that fits is found without walking
/// past all that do not. Slot numbers grow, so the smallest came first.
#[derive(Debug, Default)]
pub(super) struct WaitingList {
    by_quantity: BTreeMap<u16, BTreeMap<u32, Waiter>>,
    len: usize,
}

impl WaitingList {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, quantity: u16, waiter: Waiter) {
        let before = self.by_quantity.entry(quantity).or_default().insert(waiter.slot, waiter);
        self.len += usize::from(before.is_none());
    }

    /// The first in line that asks for no more than `free`.
    pub(super) fn first_fitting(&self, free: u64) -> Option<&Waiter> {
        let fitting = u16::try_from(free).unwrap_or(u16::MAX);
        self.by_quantity
            .range(..=fitting)
            .filter_map(|(_, queue)| queue.first_key_value())
            .map(|(_, waiter)| waiter)
            .min_by_key(|waiter| waiter.slot)
    }

    /// Removes a slot, wherever it is in the list.
    pub(super) fn remove(&mut self, quantity: u16, slot: u32) {
        let Some(queue) = self.by_quantity.get_mut(&quantity) else { return };
        self.len -= usize::from(queue.remove(&slot).is_some());
        if queue.is_empty() {
            self.by_quantity.remove(&quantity);
        }
    }

    /// For each quantity the places in order, without those at the front for which `skip` holds. It
    /// must hold for none after one for which it does not.
    pub(super) fn rows(
        &self,
        skip: impl Fn(&Waiter) -> bool,
    ) -> impl Iterator<Item = impl Iterator<Item = &Waiter>> {
        self.by_quantity.values().map(move |queue| {
            let (mut first, mut end) = (0, queue.last_key_value().map_or(0, |(slot, _)| slot + 1));
            while first < end {
                let middle = first + (end - first) / 2;
                match queue.range(middle..).next() {
                    Some((slot, waiter)) if skip(waiter) => first = slot + 1,
                    _ => end = middle,
                }
            }
            queue.range(first..).map(|(_, waiter)| waiter)
        })
    }

    /// All places, in order of arrival, with the quantity that they wait for.
    pub(super) fn in_order(&self) -> Vec<(u16, Waiter)> {
        let all =
            self.by_quantity.iter().flat_map(|(quantity, queue)| queue.values().map(|w| (*quantity, *w)));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|(_, waiter)| waiter.slot);
        all
    }
}
