//! Who may have something of the sale, for gates that answer "sold out" by themselves: a shopper of whom an attempt is kept, or
//! is not decided yet, gets the sale's own answer.
//!
//! Both are filters of fixed size over a keyed hash, so no crowd makes them larger. One who has nothing may be taken for one who
//! has something, and is then answered by the sale; the other way round is impossible.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use units::ShopperKey;

/// 1 MiB. With 200,000 shoppers who have something, one in 440 of the others is taken for one of them.
const BITS: u64 = 1 << 23;
/// 256 KiB. A full queue of 65,536 attempts fills two thirds of it.
const UNDECIDED: usize = 1 << 16;

/// Who may have something.
#[derive(Debug)]
pub struct Known {
    /// Two bits for each shopper (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970).
    kept: Vec<AtomicU64>,
    /// How many attempts are not decided yet, by a part of their shoppers' hash.
    undecided: Vec<AtomicU32>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            kept: std::iter::repeat_with(AtomicU64::default).take((BITS / 64) as usize).collect(),
            undecided: std::iter::repeat_with(AtomicU32::default).take(UNDECIDED).collect(),
        }
    }
}

impl Known {
    /// Words of the filter of those of whom something is kept.
    pub const WORDS: usize = (BITS / 64) as usize;

    /// Something is kept of this shopper from now on. To be said before anybody sees a view in which that is so.
    pub fn keep(&self, shopper: ShopperKey) {
        for bit in bits(shopper) {
            self.kept[(bit / 64) as usize].fetch_or(1 << (bit % 64), Ordering::Release);
        }
    }

    /// An attempt of this shopper is to be decided.
    pub(crate) fn ask(&self, shopper: ShopperKey) {
        self.undecided_of(shopper).fetch_add(1, Ordering::AcqRel);
    }

    /// It was decided, and what is kept of it has been [said](Known::keep).
    pub(crate) fn decided(&self, shopper: ShopperKey) {
        self.undecided_of(shopper).fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the sale itself must answer this shopper. To be asked after the view was taken that says "sold out": whoever has
    /// what is missing in it was kept before it could be seen.
    pub fn may_have(&self, shopper: ShopperKey) -> bool {
        // In this order: whoever leaves the first was put into the second before.
        self.undecided_of(shopper).load(Ordering::Acquire) > 0
            || bits(shopper)
                .into_iter()
                .all(|bit| self.kept[(bit / 64) as usize].load(Ordering::Acquire) & 1 << (bit % 64) != 0)
    }

    /// The filter of those of whom something is kept, for gates in processes of their own.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|word| word.load(Ordering::Acquire))
    }

    /// Adds all who are in another such filter.
    pub fn keep_words(&self, words: impl Iterator<Item = u64>) {
        for (mine, theirs) in self.kept.iter().zip(words) {
            mine.fetch_or(theirs, Ordering::Release);
        }
    }

    fn undecided_of(&self, shopper: ShopperKey) -> &AtomicU32 {
        &self.undecided[(shopper.low_bits() >> 46) as usize % UNDECIDED]
    }
}

fn bits(shopper: ShopperKey) -> [u64; 2] {
    let hash = shopper.low_bits();
    [hash % BITS, (hash >> 23) % BITS]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shopper(n: u64) -> ShopperKey {
        let hash = mixed(n);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&hash.to_le_bytes());
        key[8..].copy_from_slice(&hash.rotate_left(17).to_le_bytes());
        ShopperKey(key)
    }

    /// SplitMix64, which is as even as the keyed hash that keys come from.
    fn mixed(n: u64) -> u64 {
        let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn nobody_who_has_something_is_missed_and_few_others_are_taken_for_them() {
        let known = Known::default();
        (0..200_000).for_each(|n| known.keep(shopper(n)));
        assert!((0..200_000).all(|n| known.may_have(shopper(n))));
        let others = (200_000..400_000).filter(|n| known.may_have(shopper(*n))).count();
        assert!(others < 800, "{others} of 200,000 who have nothing");
        let copy = Known::default();
        copy.keep_words(known.words());
        assert!((0..200_000).all(|n| copy.may_have(shopper(n))));
        assert_eq!(known.words().count(), Known::WORDS);
    }

    #[test]
    fn an_undecided_attempt_is_known_until_it_is_decided() {
        let known = Known::default();
        assert!(!known.may_have(shopper(1)));
        known.ask(shopper(1));
        known.ask(shopper(1));
        known.decided(shopper(1));
        assert!(known.may_have(shopper(1)), "one of two is not decided");
        known.decided(shopper(1));
        assert!(!known.may_have(shopper(1)));
    }
}
