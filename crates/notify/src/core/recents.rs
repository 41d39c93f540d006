//! Which events were posted lately.

use super::record::EventNo;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};
use units::TimeMs;

/// An event that was posted lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    /// Of source and id: a hash, in two halves.
    identity: [u64; 2],
    pub(super) content: u64,
    pub(super) number: EventNo,
    pub(super) at: TimeMs,
}

/// The first half of an identity is a hash already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Events in the order in which they were posted, found by source and id. Some eighty bytes each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Recents {
    order: VecDeque<Recent>,
    /// How many were forgotten so far.
    #[serde(skip)]
    gone: u64,
    /// By the first half of the identity: which one it is, counted from the first ever. Of two with
    /// the same half, the later one.
    #[serde(skip)]
    places: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
}

impl PartialEq for Recents {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

fn halves(identity: u128) -> [u64; 2] {
    [identity as u64, (identity >> 64) as u64]
}

impl Recents {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn get(&self, identity: u128) -> Option<Recent> {
        let identity = halves(identity);
        let place = self.places.get(&identity[0])?.checked_sub(self.gone)?;
        self.order.get(usize::try_from(place).ok()?).copied().filter(|recent| recent.identity == identity)
    }

    pub(super) fn push(&mut self, identity: u128, content: u64, number: EventNo, at: TimeMs) {
        let identity = halves(identity);
        self.places.insert(identity[0], self.gone + self.order.len() as u64);
        self.order.push_back(Recent { identity, content, number, at });
    }

    pub(super) fn first(&self) -> Option<&Recent> {
        self.order.front()
    }

    pub(super) fn forget_first(&mut self) {
        let Some(first) = self.order.pop_front() else { return };
        if self.places.get(&first.identity[0]) == Some(&self.gone) {
            self.places.remove(&first.identity[0]);
        }
        self.gone += 1;
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.places.reserve(self.order.len());
        for (recent, place) in self.order.iter().zip(self.gone..) {
            self.places.insert(recent.identity[0], place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_until_they_are_forgotten_and_after_a_snapshot() {
        let mut recents = Recents::default();
        for n in 0..100_u64 {
            recents.push(u128::from(n) << 64 | u128::from(n % 90), n, EventNo(n), TimeMs(n));
        }
        let number = |recents: &Recents, n: u64| {
            recents.get(u128::from(n) << 64 | u128::from(n % 90)).map(|recent| recent.number.0)
        };
        assert_eq!(
            (number(&recents, 50), number(&recents, 99), number(&recents, 100)),
            (Some(50), Some(99), None)
        );
        assert_eq!(number(&recents, 5), None, "95 has the same half");
        (0..10).for_each(|_| recents.forget_first());
        assert_eq!(
            (number(&recents, 9), number(&recents, 10), number(&recents, 95)),
            (None, Some(10), Some(95))
        );
        let mut restored: Recents = postcard::from_bytes(&postcard::to_allocvec(&recents).unwrap()).unwrap();
        restored.index();
        assert_eq!(
            (restored == recents, number(&restored, 50), number(&restored, 9)),
            (true, Some(50), None)
        );
        restored.forget_first();
        assert_eq!((restored.len(), number(&restored, 10), number(&restored, 11)), (89, None, Some(11)));
    }
}
