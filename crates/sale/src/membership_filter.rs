//! The shoppers who may have something in the sale, for gates that answer by themselves: a shopper
//! with a kept or an undecided attempt gets the sale's own answer.
//!
//! Both are filters of fixed size over a keyed hash, so no crowd makes them larger. False positives
//! are possible, and are then answered by the sale; false negatives are not.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, FILTER_BITS as BITS, Mutex, MutexGuard};
use contracts::{Answer, ShopperKey};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

/// Counters per possible undecided attempt: when all are on their way, one in seven of the other
/// shoppers is a false positive with the default settings, and one in two with the longest line.
const COUNTERS: usize = 4;
/// 64 MiB.
const COUNTERS_MAX: usize = 1 << 24;

/// The filter of shoppers who may have something in the sale.
#[derive(Debug)]
pub struct MembershipFilter {
    /// Two bits for each shopper (Bloom, "Space/time trade-offs in hash coding with allowable
    /// errors", 1970).
    kept: Vec<AtomicU64>,
    /// The number of undecided attempts, by a part of their shoppers' hash.
    undecided: Vec<AtomicU32>,
    followers: Mutex<Vec<Weak<Follower>>>,
    is_followed: AtomicBool,
}

/// Receives every shopper of whom something is kept from now on.
#[derive(Debug, Default)]
pub struct Follower(Mutex<Vec<ShopperKey>>);

/// A list is consistent between two statements, so a panic of another holder leaves nothing half
/// done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    /// Adds one.
    pub(crate) fn push(&self, shopper: ShopperKey) {
        lock(&self.0).push(shopper);
    }

    /// The shoppers since the last call.
    pub fn take(&self) -> Vec<ShopperKey> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// For a gate, which expects no more than some thousands.
impl Default for MembershipFilter {
    fn default() -> Self {
        Self::of(1 << 16)
    }
}

impl MembershipFilter {
    /// Words of the filter of shoppers of whom something is kept.
    pub const WORDS: usize = (BITS / 64) as usize;

    /// A filter for this many undecided attempts.
    pub fn of(attempts: usize) -> Self {
        let counters = attempts.saturating_mul(COUNTERS).clamp(1, COUNTERS_MAX).next_power_of_two();
        Self {
            kept: std::iter::repeat_with(AtomicU64::default).take((BITS / 64) as usize).collect(),
            undecided: std::iter::repeat_with(AtomicU32::default).take(counters).collect(),
            followers: Mutex::default(),
            is_followed: AtomicBool::new(false),
        }
    }

    /// Something is kept of this shopper from now on. Call it before a view that includes it is
    /// published.
    pub fn keep(&self, shopper: ShopperKey) {
        for bit in bits(shopper) {
            self.kept[(bit / 64) as usize].fetch_or(1 << (bit % 64), Ordering::SeqCst);
        }
        self.tell_followers(shopper);
    }

    /// Notes the answer that a shopper is about to get: a shopper who gets a hold or a place is
    /// [kept](MembershipFilter::keep).
    pub fn hear(&self, shopper: ShopperKey, answer: &Answer) {
        if let Answer::Granted(_) | Answer::Waitlisted { .. } = answer {
            self.keep(shopper);
        }
    }

    /// Follows all shoppers who are kept from now on. A caller that takes
    /// [`MembershipFilter::words`] after this misses none.
    pub fn follow(&self) -> Arc<Follower> {
        let follower = Arc::new(Follower::default());
        lock(&self.followers).push(Arc::downgrade(&follower));
        self.is_followed.store(true, Ordering::SeqCst);
        follower
    }

    /// Tells followers of a shopper who was told a place in line: gates elsewhere know only their
    /// own attempts.
    pub fn tell_followers(&self, shopper: ShopperKey) {
        if self.is_followed.load(Ordering::SeqCst) {
            lock(&self.followers)
                .retain(|follower| follower.upgrade().map(|follower| follower.push(shopper)).is_some());
        }
    }

    /// An attempt of this shopper is queued.
    pub fn ask(&self, shopper: ShopperKey) {
        self.undecided_of(shopper).fetch_add(1, Ordering::AcqRel);
    }

    /// The attempt was decided, and what is kept of it has been [noted](MembershipFilter::keep).
    pub fn decided(&self, shopper: ShopperKey) {
        self.undecided_of(shopper).fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the sale itself must answer this shopper. Ask after taking the view that refuses
    /// them: a shopper who has got something by then was kept before the view could show it.
    pub fn may_have(&self, shopper: ShopperKey) -> bool {
        // In this order: a shopper is put into the second filter before leaving the first.
        self.undecided_of(shopper).load(Ordering::Acquire) > 0 || self.keeps(shopper)
    }

    /// Whether something is kept of this shopper; false positives are possible.
    pub fn keeps(&self, shopper: ShopperKey) -> bool {
        bits(shopper)
            .into_iter()
            .all(|bit| self.kept[(bit / 64) as usize].load(Ordering::Acquire) & 1 << (bit % 64) != 0)
    }

    /// The filter of shoppers of whom something is kept, for gates in processes of their own.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|word| word.load(Ordering::SeqCst))
    }

    /// Adds all shoppers of another such filter.
    pub fn keep_words(&self, words: impl Iterator<Item = u64>) {
        for (mine, theirs) in self.kept.iter().zip(words) {
            mine.fetch_or(theirs, Ordering::Release);
        }
    }

    /// How many receive shoppers, or have since the last one was kept.
    #[cfg(test)]
    pub(crate) fn followers_count(&self) -> usize {
        lock(&self.followers).len()
    }

    fn undecided_of(&self, shopper: ShopperKey) -> &AtomicU32 {
        &self.undecided[(shopper.low_bits() >> 40) as usize % self.undecided.len()]
    }
}

fn bits(shopper: ShopperKey) -> [u64; 2] {
    let hash = shopper.low_bits();
    [hash % BITS, (hash >> 23) % BITS]
}
