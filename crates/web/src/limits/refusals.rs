//! Why a client was refused recently, for an operator who asks. The records are kept in memory
//! only, by the hash of a key, in a table of fixed size: it holds no address and no shopper's id,
//! and no crowd makes it larger.

use super::{REASONS_MAX, Reason};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Slots in which a key may live. When all are taken, the one that was refused longest ago is
/// forgotten.
const WAYS: usize = 4;
/// A slot's first word holds 24 bits that identify its key and 40 bits of the time in seconds.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const COUNT_WORDS: usize = REASONS_MAX / 8;

/// A key's refusals.
#[derive(Debug, Default)]
struct Slot {
    owner_and_seconds: AtomicU64,
    /// A byte for each [`Reason`], which stops at 255; eight bytes in a word.
    counts: [AtomicU64; COUNT_WORDS],
}

/// The refusals of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Unix time of the last refusal.
    pub last_seconds: u64,
    /// By [`Reason`]; 255 stands for 255 or more.
    pub counts: [u8; REASONS_MAX],
}

impl Refused {
    /// Both refusals combined, for the same key.
    pub fn and(mut self, other: Self) -> Self {
        self.last_seconds = self.last_seconds.max(other.last_seconds);
        self.counts
            .iter_mut()
            .zip(other.counts)
            .for_each(|(count, more)| *count = count.saturating_add(more));
        self
    }
}

/// The refusals of up to `slots` keys.
#[derive(Debug)]
pub struct Refusals(Vec<Slot>);

impl Refusals {
    /// `slots` is a power of two; each takes 24 bytes.
    pub fn new(slots: usize) -> Self {
        Self(std::iter::repeat_with(Slot::default).take(slots.next_power_of_two().max(WAYS)).collect())
    }

    /// Notes a refusal. Of two at the same moment one may be lost.
    pub fn note(&self, key: u64, reason: Reason, now_ms: u64) {
        let (owner, ways) = self.ways(key);
        let mine = ways.iter().find(|slot| slot.owner() == owner);
        let oldest = || ways.iter().min_by_key(|slot| slot.owner_and_seconds.load(Relaxed) & TIME_MASK);
        let Some(slot) = mine.or_else(oldest) else { return };
        if mine.is_none() {
            slot.counts.iter().for_each(|word| word.store(0, Relaxed));
        }
        let (word, byte) = (&slot.counts[usize::from(reason.at) / 8], usize::from(reason.at) % 8);
        let mut counts = word.load(Relaxed).to_le_bytes();
        counts[byte] = counts[byte].saturating_add(1);
        word.store(u64::from_le_bytes(counts), Relaxed);
        slot.owner_and_seconds.store(owner | (now_ms / 1000) & TIME_MASK, Relaxed);
    }

    /// Why the key was refused; `None` if it was not, or if that is forgotten.
    pub fn of(&self, key: u64) -> Option<Refused> {
        let (owner, ways) = self.ways(key);
        let slot = ways.iter().find(|slot| slot.owner() == owner)?;
        let last_seconds = slot.owner_and_seconds.load(Relaxed) & TIME_MASK;
        let words = slot.counts.each_ref().map(|word| word.load(Relaxed).to_le_bytes());
        let mut counts = [0; REASONS_MAX];
        counts.iter_mut().zip(words.as_flattened()).for_each(|(count, stored)| *count = *stored);
        (last_seconds > 0).then_some(Refused { last_seconds, counts })
    }

    fn ways(&self, key: u64) -> (u64, &[Slot]) {
        let owner = (key >> TIME_BITS) << TIME_BITS;
        let first = (key as usize).wrapping_mul(WAYS) & (self.0.len() - 1);
        (owner, &self.0[first..first + WAYS])
    }
}

impl Slot {
    fn owner(&self) -> u64 {
        self.owner_and_seconds.load(Relaxed) & !TIME_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_by_their_own_key_only() {
        let refusals = Refusals::new(64);
        let key = 0x1234_5678_9abc_def0;
        assert_eq!(refusals.of(key), None);
        for second in 1..=300 {
            refusals.note(key, Reason::ADDRESS_RATE, second * 1000);
        }
        refusals.note(key, Reason::DENIED, 400_000);
        let mut counts = [0; REASONS_MAX];
        counts[usize::from(Reason::ADDRESS_RATE.at)] = 255;
        counts[usize::from(Reason::DENIED.at)] = 1;
        assert_eq!(refusals.of(key), Some(Refused { last_seconds: 400, counts }));
        assert_eq!(refusals.of(key ^ 1 << 60), None, "another key with the same slots");
    }

    #[test]
    fn the_key_refused_longest_ago_is_forgotten_first() {
        let refusals = Refusals::new(WAYS);
        let key = |n: u64| (n + 1) << TIME_BITS;
        for n in 0..5 {
            refusals.note(key(n), Reason::PREFIX_RATE, 1000 + n * 1000);
        }
        assert_eq!(refusals.of(key(0)), None);
        assert!((1..5).all(|n| refusals.of(key(n)).is_some_and(|known| known.last_seconds == n + 1)));
    }
}
