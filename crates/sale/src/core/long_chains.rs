//! What the shoppers with many active slots have, in sums. An attempt asks what its shopper has
//! already; to walk through 40,000 holds each time would make a step as long as the chain.
//!
//! Almost every shopper has a few slots, which are walked, and nothing here.

use contracts::{Basket, ShopperKey};
use std::collections::{BTreeMap, BTreeSet};

/// A chain that is longer than this gets its sums: a walk of so many slots takes about 1 µs if none
/// of them is in a cache.
pub(super) const WALK_MAX: u32 = 16;

/// A chain that has become as short as this loses them. Less than [`WALK_MAX`], so that a shopper
/// who buys and gives back does not have them made each time.
const KEPT_MIN: u32 = WALK_MAX / 2;

/// What a shopper has: units, and the newest slot with some of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Has {
    /// A million places of 1,000 units each, of 200 items, are more than 32 bits hold.
    pub(super) units: u64,
    pub(super) newest: Option<u32>,
}

/// Slots, in order, and their units.
#[derive(Debug, Default)]
struct Sum {
    units: u64,
    slots: BTreeSet<u32>,
}

impl Sum {
    fn add(&mut self, slot: u32, units: u64) {
        self.units += units;
        self.slots.insert(slot);
    }

    fn remove(&mut self, slot: u32, units: u64) {
        if self.slots.remove(&slot) {
            self.units = self.units.saturating_sub(units);
        }
    }

    fn has(&self) -> Has {
        Has { units: self.units, newest: self.slots.last().copied() }
    }
}

/// The active slots of one shopper.
#[derive(Debug, Default)]
pub(super) struct LongChain {
    all: Sum,
    /// By round and item.
    of: BTreeMap<(u16, u16), Sum>,
}

fn units(basket: &Basket) -> u64 {
    basket.iter().map(|line| u64::from(line.quantity)).sum()
}

impl LongChain {
    pub(super) fn add(&mut self, slot: u32, round: u16, basket: &Basket) {
        self.all.add(slot, units(basket));
        for line in basket.iter() {
            self.of.entry((round, line.item)).or_default().add(slot, line.quantity.into());
        }
    }

    fn remove(&mut self, slot: u32, round: u16, basket: &Basket) {
        self.all.remove(slot, units(basket));
        for line in basket.iter() {
            if let Some(sum) = self.of.get_mut(&(round, line.item)) {
                sum.remove(slot, line.quantity.into());
                if sum.slots.is_empty() {
                    self.of.remove(&(round, line.item));
                }
            }
        }
    }

    pub(super) fn has(&self) -> Has {
        self.all.has()
    }

    pub(super) fn has_of(&self, round: u16, item: u16) -> Has {
        self.of.get(&(round, item)).map_or_else(Has::default, Sum::has)
    }

    /// The next newer slot than this one.
    pub(super) fn newer_than(&self, slot: u32) -> Option<u32> {
        self.all.slots.range(slot + 1..).next().copied()
    }
}

/// Those of all shoppers with long chains.
#[derive(Debug, Default)]
pub(super) struct LongChains(BTreeMap<ShopperKey, LongChain>);

/// A slot that has come into its shopper's chain, or left it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) slot: u32,
    pub(super) round: u16,
    pub(super) basket: Basket,
    pub(super) is_added: bool,
}

impl LongChains {
    /// The sums of a shopper whose chain has this length, if it has them.
    #[inline]
    pub(super) fn find(&self, shopper: ShopperKey, len: u32) -> Option<&LongChain> {
        if len <= KEPT_MIN { None } else { self.0.get(&shopper) }
    }

    /// Follows a change, after which the chain has the length; true if its sums must be
    /// [made](Self::insert) now.
    pub(super) fn follow(&mut self, shopper: ShopperKey, len: u32, change: &Change) -> bool {
        if len <= KEPT_MIN {
            if len == KEPT_MIN && !change.is_added {
                self.0.remove(&shopper);
            }
            return false;
        }
        match self.0.get_mut(&shopper) {
            Some(chain) if change.is_added => chain.add(change.slot, change.round, &change.basket),
            Some(chain) => chain.remove(change.slot, change.round, &change.basket),
            None => return len > WALK_MAX,
        }
        false
    }

    pub(super) fn insert(&mut self, shopper: ShopperKey, chain: LongChain) {
        self.0.insert(shopper, chain);
    }
}
