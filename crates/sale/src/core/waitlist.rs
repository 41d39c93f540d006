//! The places that wait for one item, in order, found by the quantity that fits.

use super::grown::OrderedQueue;
use contracts::SealedShopper;
use std::collections::BTreeMap;

/// A place on the waitlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) slot: u32,
    pub(super) tier: u8,
    pub(super) sealed: SealedShopper,
}

/// The waitlist of one item. Kept by arrival, for those who read it page by page, and by quantity,
/// so that the first that fits is found without walking past all that do not. Slot numbers grow, so
/// the smallest came first.
#[derive(Debug, Default)]
pub(super) struct WaitingList {
    waiters: BTreeMap<u32, Waiter>,
    /// The first of each still waits; after it may be some that have left. A tree would free so
    /// many small nodes that the allocator now and then stops for 20 ms to put them together.
    by_quantity: BTreeMap<u16, OrderedQueue<u32>>,
    firsts: Firsts,
}

impl WaitingList {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn push(&mut self, quantity: u16, waiter: Waiter) {
        let slot = waiter.slot;
        if self.waiters.insert(slot, waiter).is_some() {
            return;
        }
        let queue = self.by_quantity.entry(quantity).or_default();
        queue.insert(slot);
        if queue.front() == Some(slot) {
            self.firsts.set(quantity, Some(slot));
        }
    }

    /// The first in line that asks for no more than `free`.
    #[inline]
    pub(super) fn first_fitting(&self, free: u64) -> Option<&Waiter> {
        if free == 0 || self.waiters.is_empty() {
            return None;
        }
        let slot = self.firsts.of_at_most(u16::try_from(free).unwrap_or(u16::MAX))?;
        self.waiters.get(&slot)
    }

    /// Removes a slot, wherever it is in the list.
    pub(super) fn remove(&mut self, quantity: u16, slot: u32) {
        let Some(queue) = self.by_quantity.get_mut(&quantity) else { return };
        if self.waiters.remove(&slot).is_none() {
            return;
        }
        let was_first = queue.front() == Some(slot);
        queue.end(slot);
        if !was_first {
            return;
        }
        while let Some(first) = queue.front()
            && !self.waiters.contains_key(&first)
        {
            queue.pop_front();
        }
        let first = queue.front();
        self.firsts.set(quantity, first);
        if first.is_none() {
            self.by_quantity.remove(&quantity);
        }
    }

    /// The places in order, without those at the front for which `skip` holds. It must hold for
    /// none after one for which it does not.
    pub(super) fn after(&self, skip: impl Fn(&Waiter) -> bool) -> impl Iterator<Item = &Waiter> {
        let end = self.waiters.last_key_value().map_or(0, |(slot, _)| slot + 1);
        let (mut first, mut last) = (0, end);
        while first < last {
            let middle = first + (last - first) / 2;
            match self.waiters.range(middle..).next() {
                Some((slot, waiter)) if skip(waiter) => first = slot + 1,
                _ => last = middle,
            }
        }
        self.waiters.range(first..).map(|(_, waiter)| waiter)
    }

    /// All places, in order of arrival.
    pub(super) fn in_order(&self) -> impl ExactSizeIterator<Item = &Waiter> {
        self.waiters.values()
    }
}

/// Who is first of each quantity. A thousand different quantities may be waited for, and the first
/// of all that fit is looked for before each decision: so it is found in ten steps. A complete
/// binary tree: each node has the least of its two.
#[derive(Debug, Default)]
struct Firsts {
    /// The root is at 1, and quantity `q` at `q` in the second half.
    tree: Vec<u32>,
}

/// No place waits. No slot has this number.
const NO_SLOT: u32 = u32::MAX;

impl Firsts {
    fn set(&mut self, quantity: u16, first: Option<u32>) {
        let quantity = usize::from(quantity);
        self.grow(quantity + 1);
        let mut at = self.tree.len() / 2 + quantity;
        self.tree[at] = first.unwrap_or(NO_SLOT);
        while at > 1 {
            at /= 2;
            self.tree[at] = self.tree[2 * at].min(self.tree[2 * at + 1]);
        }
    }

    /// Almost all wait for one unit or two, so the tree is no larger than it must be.
    fn grow(&mut self, quantities: usize) {
        let (had, wanted) = (self.tree.len() / 2, quantities.next_power_of_two());
        if wanted <= had {
            return;
        }
        let mut tree = vec![NO_SLOT; 2 * wanted];
        tree[wanted..wanted + had].copy_from_slice(&self.tree[had..]);
        for at in (1..wanted).rev() {
            tree[at] = tree[2 * at].min(tree[2 * at + 1]);
        }
        self.tree = tree;
    }

    /// The first of all that ask for so many units or fewer.
    fn of_at_most(&self, quantity: u16) -> Option<u32> {
        let half = self.tree.len() / 2;
        let quantities = usize::from(quantity) + 1;
        if quantities >= half {
            return self.tree.get(1).copied().filter(|slot| *slot != NO_SLOT);
        }
        // Wherever `end` is a right child, all below its left neighbour comes before it.
        let (mut first, mut end) = (NO_SLOT, half + quantities);
        while end > 1 {
            if end % 2 == 1 {
                first = first.min(self.tree[end - 1]);
            }
            end /= 2;
        }
        Some(first).filter(|slot| *slot != NO_SLOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    #[test]
    fn the_first_that_fits_and_every_page_are_those_of_a_plain_list() {
        let sealed = SealedShopper::new(&[]).unwrap();
        let mut prng = Prng::new(3);
        for quantity_max in [1, 2, 3, 1000] {
            let (mut list, mut plain) = (WaitingList::default(), Vec::<(u32, u16)>::new());
            for slot in 0..3000 {
                let quantity = 1 + prng.below(quantity_max) as u16;
                list.push(quantity, Waiter { slot, tier: 0, sealed });
                plain.push((slot, quantity));
                // Later more leave than come.
                for _ in 0..prng.below(1 + u64::from(slot) / 1000) {
                    if plain.is_empty() {
                        break;
                    }
                    let at = match prng.below(2) {
                        0 => 0,
                        _ => prng.below(plain.len() as u64) as usize,
                    };
                    let (slot, quantity) = plain.remove(at);
                    list.remove(quantity, slot);
                }
                for free in [0, 1, 2, 3, prng.below(1200), u64::MAX] {
                    let first = plain.iter().find(|(_, quantity)| u64::from(*quantity) <= free);
                    assert_eq!(list.first_fitting(free).map(|w| w.slot), first.map(|(slot, _)| *slot));
                }
                assert_eq!(list.len(), plain.len());
                if slot % 100 == 0 {
                    let from = prng.below(u64::from(slot) + 2) as u32;
                    let page: Vec<u32> = list.after(|w| w.slot < from).map(|w| w.slot).collect();
                    let want = plain.iter().map(|(slot, _)| *slot).filter(|slot| *slot >= from);
                    assert_eq!(page, want.collect::<Vec<_>>());
                }
            }
        }
    }
}
