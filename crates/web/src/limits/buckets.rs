//! Token buckets in a table of fixed size: how often an address or a shopper may send requests. It
//! knows neither, only hashes and times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A slot holds 20 bits that identify its key and 44 bits of time in units of 10 µs (5 years since
/// the start).
const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const UNITS_PER_SECOND: u64 = 100_000;
/// Clock readings of different threads differ by less than this.
const CLOCKS_APART: u64 = 60 * UNITS_PER_SECOND;
/// Slots in which a key may live. When all are taken, the key whose debt ends first is dropped: an
/// attacker with many keys gains tokens for keys that have nearly no debt anyway, and no key is
/// refused for another's debt.
const WAYS: usize = 4;
/// The most tokens that one request may cost: one, and one more for each level of risk; four times
/// that in the stage `fortress`.
const TOKENS_MAX: u64 = 16;

/// Buckets for up to `slots` busy keys, by the generic cell rate algorithm (ITU-T I.371): one
/// number for each bucket.
#[derive(Debug)]
pub struct Buckets {
    slots: Vec<AtomicU64>,
    interval: u64,
    tolerance: u64,
    /// The time of the first request, from which the slots count.
    start_ms: OnceLock<u64>,
}

impl Buckets {
    /// `per_second` tokens are refilled a second, up to `burst`. `per_second` 0 is no limit.
    pub fn new(per_second: u32, burst: u32, slots: usize) -> Self {
        let interval = if per_second == 0 { 0 } else { (UNITS_PER_SECOND / u64::from(per_second)).max(1) };
        let slots = if per_second == 0 { WAYS } else { slots.next_power_of_two().max(WAYS) };
        Self {
            slots: std::iter::repeat_with(|| AtomicU64::new(0)).take(slots).collect(),
            interval,
            tolerance: interval * u64::from(burst.max(1) - 1),
            start_ms: OnceLock::new(),
        }
    }

    /// One token is refilled in `seconds`.
    pub fn slow(seconds: u32, burst: u32, slots: usize) -> Self {
        let interval = UNITS_PER_SECOND * u64::from(seconds);
        Self { interval, tolerance: interval * u64::from(burst.max(1) - 1), ..Self::new(1, 1, slots) }
    }

    /// Takes a token, or says how many whole seconds to wait for one. Two racing callers may share
    /// a token; the limit is a defence, not an account.
    pub fn take(&self, key: u64, now_ms: u64) -> Result<(), u32> {
        self.take_several(key, 1, now_ms)
    }

    /// Says how many whole seconds to wait for a token, without taking it.
    pub fn look(&self, key: u64, now_ms: u64) -> Result<(), u32> {
        self.take_several(key, 0, now_ms)
    }

    /// Takes up to [`TOKENS_MAX`] tokens if one is left, going into debt for the others.
    pub fn take_several(&self, key: u64, tokens: u64, now_ms: u64) -> Result<(), u32> {
        if self.interval == 0 {
            return Ok(());
        }
        let since_start_ms = now_ms.saturating_sub(*self.start_ms.get_or_init(|| now_ms));
        let now = (since_start_ms * (UNITS_PER_SECOND / 1000)) & TIME_MASK;
        let owner = (key >> TIME_BITS) << TIME_BITS;
        let first = (key as usize).wrapping_mul(WAYS) & (self.slots.len() - 1);
        let ways = &self.slots[first..first + WAYS];
        let mine = ways.iter().find(|s| s.load(Relaxed) & !TIME_MASK == owner);
        let free = || ways.iter().min_by_key(|s| s.load(Relaxed) & TIME_MASK);
        let Some((slot, known)) = mine.map(|s| (s, true)).or_else(|| free().map(|s| (s, false))) else {
            return Ok(());
        };
        // No key can owe more than this, unless the clock was set back meanwhile: then the debt is
        // forgotten. A small difference is no such case: threads that run at the same time read the
        // clock a little earlier or later.
        let most = now + self.tolerance + TOKENS_MAX * self.interval + CLOCKS_APART;
        let owed = Some(slot.load(Relaxed) & TIME_MASK).filter(|until| known && *until <= most);
        let paid_until = owed.unwrap_or(now).max(now);
        if paid_until - now > self.tolerance {
            let wait = paid_until - now - self.tolerance;
            return Err(wait.div_ceil(UNITS_PER_SECOND).max(1) as u32);
        }
        slot.store(owner | (paid_until + tokens.min(TOKENS_MAX) * self.interval) & TIME_MASK, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let buckets = Buckets::new(2, 3, 64);
        let key = 0xdead_beef_0000_0001;
        for _ in 0..3 {
            assert_eq!(buckets.take(key, 1000), Ok(()));
        }
        assert_eq!(buckets.take(key, 1000), Err(1));
        assert_eq!(buckets.take(0xbeef_dead_0000_0001, 1000), Ok(()), "another key with the same slots");
        assert_eq!(buckets.take(key, 1500), Ok(()));
        assert_eq!(buckets.take(key, 1501), Err(1));
        assert!((0..1000).all(|_| Buckets::new(0, 0, 64).take(key, 0).is_ok()));
    }

    #[test]
    fn an_older_clock_reading_of_another_thread_forgives_no_debt() {
        let buckets = Buckets::new(10, 5, 64);
        let key = 0xdead_beef_0000_0001;
        assert_eq!(buckets.take(7, 1000), Ok(()), "the clock as it was at the start");
        assert_eq!((0..6).filter(|_| buckets.take(key, 5000).is_ok()).count(), 5);
        assert_eq!(buckets.take(key, 5100), Ok(()));
        for stale_ms in [5099, 5050, 4000] {
            assert!(buckets.take(key, stale_ms).is_err(), "{stale_ms}");
        }
        assert!(buckets.take(key, 5100).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_block_a_bucket() {
        let buckets = Buckets::new(10, 5, 64);
        let key = 0xdead_beef_0000_0001;
        assert_eq!(buckets.take(7, 1000), Ok(()), "the clock as it was at the start");
        for _ in 0..3 {
            assert_eq!(buckets.take(key, 3_600_000), Ok(()));
        }
        assert_eq!(buckets.take(key, 2000), Ok(()));
    }

    #[test]
    fn a_request_that_costs_more_tokens_leaves_fewer() {
        let asked = |tokens| {
            let buckets = Buckets::new(10, 12, 64);
            (0..30).filter(|_| buckets.take_several(7, tokens, 1000).is_ok()).count()
        };
        assert_eq!([1, 2, 4, 16, 1000].map(asked), [12, 6, 3, 1, 1]);
        let buckets = Buckets::new(10, 1, 64);
        assert_eq!(buckets.take_several(7, 4, 1000), Ok(()));
        assert!(buckets.take(7, 1300).is_err() && buckets.take(7, 1400).is_ok(), "a debt of four");
    }

    #[test]
    fn a_slow_bucket_gives_one_token_per_many_seconds() {
        let buckets = Buckets::slow(10, 2, 64);
        assert_eq!((0..3).map(|_| buckets.take(7, 1000)).collect::<Vec<_>>(), [Ok(()), Ok(()), Err(10)]);
        assert_eq!(buckets.take(7, 10_999), Err(1));
        assert_eq!(buckets.take(7, 11_000), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_memory_and_refuses_no_other_key() {
        let buckets = Buckets::new(1, 1, 64);
        let refused =
            (0..100_000u64).filter(|k| buckets.take(k.wrapping_mul(0x9e37_79b9_7f4a_7c15), 5000).is_err());
        assert!(refused.count() < 50, "only keys that share 20 bits");
        assert_eq!(buckets.slots.len(), 64);
    }
}
