//! Token buckets in a table of fixed size: how often an address or a shopper may ask. Knows neither; it sees hashes and times.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A slot holds 20 bits that tell its owner and 44 bits of time in units of 10 µs (5 years since the start).
const TIME_BITS: u32 = 44;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const UNITS_PER_SECOND: u64 = 100_000;
/// Slots in which a key may live. When all are taken, the one whose debt ends first is given up: an attacker with many
/// keys gains tokens for keys that are nearly free of debt anyway, and nobody else is refused in another's place.
const WAYS: usize = 4;

/// Buckets for up to `slots` busy keys, by the generic cell rate algorithm (ITU-T I.371): one number a bucket.
#[derive(Debug)]
pub(crate) struct Buckets {
    slots: Vec<AtomicU64>,
    interval: u64,
    tolerance: u64,
    /// The time of the first question, from which the slots count.
    start_ms: OnceLock<u64>,
}

impl Buckets {
    /// `per_second` tokens come back a second, `burst` fit. `per_second` 0 is no limit.
    pub(crate) fn new(per_second: u32, burst: u32, slots: usize) -> Self {
        let interval = if per_second == 0 { 0 } else { (UNITS_PER_SECOND / u64::from(per_second)).max(1) };
        let slots = if per_second == 0 { WAYS } else { slots.next_power_of_two().max(WAYS) };
        Self {
            slots: std::iter::repeat_with(|| AtomicU64::new(0)).take(slots).collect(),
            interval,
            tolerance: interval * u64::from(burst.max(1) - 1),
            start_ms: OnceLock::new(),
        }
    }

    /// One token comes back in `seconds`.
    pub(crate) fn slow(seconds: u32, burst: u32, slots: usize) -> Self {
        let interval = UNITS_PER_SECOND * u64::from(seconds);
        Self { interval, tolerance: interval * u64::from(burst.max(1) - 1), ..Self::new(1, 1, slots) }
    }

    /// Takes a token, or says how many whole seconds to wait for one. Two racing callers may share a token; the limit is a
    /// defence, not an account.
    pub(crate) fn take(&self, key: u64, now_ms: u64) -> Result<(), u32> {
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
        let paid_until = if known { (slot.load(Relaxed) & TIME_MASK).max(now) } else { now };
        if paid_until - now > self.tolerance {
            let wait = paid_until - now - self.tolerance;
            return Err(wait.div_ceil(UNITS_PER_SECOND).max(1) as u32);
        }
        slot.store(owner | (paid_until + self.interval) & TIME_MASK, Relaxed);
        Ok(())
    }
}

/// How much of a thing each key has now, such as open streams. It holds the keys that have some, and no others.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<HashMap<u64, usize>>);

impl Shares {
    /// One more for the key, until it is dropped; `None` if it has `max` already.
    pub(crate) fn take(self: &Arc<Self>, key: u64, max: usize) -> Option<Share> {
        let mut held = self.held();
        let count = held.entry(key).or_default();
        // An entry is there only if it counts something, so one that was just made is below any `max`.
        if *count >= max.max(1) {
            return None;
        }
        *count += 1;
        Some(Share { of: Arc::clone(self), key })
    }

    /// It is whole between two statements, so a panic of another holder leaves nothing half done.
    fn held(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of what a key has.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Shares>,
    key: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// Admissions of a sale at a rate that may change: hands out the moments at which attempts may go on.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    next_us: AtomicU64,
}

impl Admission {
    /// Milliseconds to wait until this attempt's turn; `Err` with whole seconds if that is more than `wait_ms_max`, and
    /// then no turn is taken.
    pub(crate) fn turn(&self, per_second: u32, now_ms: u64, wait_ms_max: u64) -> Result<u64, u32> {
        if per_second == 0 {
            return Ok(0);
        }
        let (interval, now) = (1_000_000 / u64::from(per_second), now_ms * 1000);
        let mut turn = 0;
        let taken = self.next_us.fetch_update(Relaxed, Relaxed, |next| {
            turn = next.max(now);
            (turn - now <= wait_ms_max * 1000).then_some(turn + interval.max(1))
        });
        let wait_us = turn - now;
        taken.map(|_| wait_us / 1000).map_err(|_| wait_us.div_ceil(1_000_000) as u32)
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
        assert_eq!(buckets.take(0xbeef_dead_0000_0001, 1000), Ok(()), "a neighbour in the table");
        assert_eq!(buckets.take(key, 1500), Ok(()));
        assert_eq!(buckets.take(key, 1501), Err(1));
        assert!((0..1000).all(|_| Buckets::new(0, 0, 64).take(key, 0).is_ok()));
    }

    #[test]
    fn a_slow_bucket_gives_a_token_in_many_seconds() {
        let buckets = Buckets::slow(10, 2, 64);
        assert_eq!((0..3).map(|_| buckets.take(7, 1000)).collect::<Vec<_>>(), [Ok(()), Ok(()), Err(10)]);
        assert_eq!(buckets.take(7, 10_999), Err(1));
        assert_eq!(buckets.take(7, 11_000), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_needs_no_more_memory_and_refuses_nobody_else() {
        let buckets = Buckets::new(1, 1, 64);
        let refused =
            (0..100_000u64).filter(|k| buckets.take(k.wrapping_mul(0x9e37_79b9_7f4a_7c15), 5000).is_err());
        assert!(refused.count() < 50, "only keys that share 20 bits");
        assert_eq!(buckets.slots.len(), 64);
    }

    #[test]
    fn a_share_is_given_back_and_a_key_that_has_none_is_forgotten() {
        let shares = Arc::new(Shares::default());
        let held: Vec<_> = (0..2).map(|_| shares.take(7, 2).unwrap()).collect();
        assert!(shares.take(7, 2).is_none(), "two of two");
        assert!(shares.take(8, 2).is_some(), "another key");
        drop(held);
        assert!(shares.held().is_empty());
        assert!(shares.take(7, 2).is_some());
    }

    #[test]
    fn admission_spreads_a_burst_over_time() {
        let admission = Admission::default();
        let waits: Vec<_> = (0..4).map(|_| admission.turn(10, 5000, 250)).collect();
        assert_eq!(waits, [Ok(0), Ok(100), Ok(200), Err(1)]);
        assert_eq!(admission.turn(10, 5300, 250), Ok(0));
        assert_eq!(admission.turn(0, 5300, 0), Ok(0));
    }
}
