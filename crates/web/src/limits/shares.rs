//! How many of a resource each key holds now: connections of an address, streams of a shopper.

use contracts::IdentityBuildHasher;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many of a resource each key holds now, such as open streams. Only keys that hold some have
/// an entry.
#[derive(Debug, Default)]
pub struct Shares(Mutex<Counts>);

/// A key is the output of a keyed hash.
type Counts = HashMap<u64, usize, IdentityBuildHasher>;

impl Shares {
    /// A table with room for this many keys, so that it does not grow while a crowd arrives.
    pub fn with_room(keys: usize) -> Self {
        Self(Mutex::new(HashMap::with_capacity_and_hasher(keys, IdentityBuildHasher::default())))
    }

    /// One more for the key, until it is dropped; `None` if it has `max` already.
    pub fn take(self: &Arc<Self>, key: u64, max: usize) -> Option<Share> {
        let mut held = self.held();
        let count = held.entry(key).or_default();
        // Entries of 0 are removed, so an entry of 0 is new, and below any `max`.
        if *count >= max.max(1) {
            return None;
        }
        *count += 1;
        Some(Share { of: Arc::clone(self), key })
    }

    /// How many the key holds.
    pub fn of(&self, key: u64) -> usize {
        self.held().get(&key).copied().unwrap_or_default()
    }

    /// The table is consistent between two statements, so a panic of another holder leaves nothing
    /// half done.
    fn held(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One share of a key.
#[derive(Debug)]
pub struct Share {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_returned_when_dropped_and_a_key_without_shares_is_forgotten() {
        let shares = Arc::new(Shares::default());
        let held: Vec<_> = (0..2).map(|_| shares.take(7, 2).unwrap()).collect();
        assert!(shares.take(7, 2).is_none(), "two of two");
        assert!(shares.take(8, 2).is_some(), "another key");
        drop(held);
        assert!(shares.held().is_empty());
        assert!(shares.take(7, 2).is_some());
    }
}
