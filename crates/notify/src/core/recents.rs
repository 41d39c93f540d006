//! Which events were posted lately.

use super::record::EventNo;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
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

/// Events in the order in which they were posted, each once, found by source and id. Some sixty
/// bytes each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Recents {
    order: VecDeque<Recent>,
    /// How many were forgotten so far.
    #[serde(skip)]
    gone: u64,
    /// Which one each is, counted from the first ever; by the first half of its identity.
    #[serde(skip)]
    places: HashTable<u64>,
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
        let recent = |place: &u64| self.order.get((place - self.gone) as usize);
        let is_it = |place: &u64| recent(place).is_some_and(|recent| recent.identity == identity);
        recent(self.places.find(identity[0], is_it)?).copied()
    }

    pub(super) fn push(&mut self, identity: u128, content: u64, number: EventNo, at: TimeMs) {
        self.order.push_back(Recent { identity: halves(identity), content, number, at });
        self.place(self.order.len() - 1);
    }

    fn place(&mut self, at: usize) {
        let Self { order, gone, places } = self;
        let half = |place: &u64| order.get((place - *gone) as usize).map_or(0, |recent| recent.identity[0]);
        let place = *gone + at as u64;
        places.insert_unique(half(&place), place, half);
    }

    pub(super) fn first(&self) -> Option<&Recent> {
        self.order.front()
    }

    pub(super) fn forget_first(&mut self) {
        let Some(first) = self.order.front() else { return };
        if let Ok(place) = self.places.find_entry(first.identity[0], |place| *place == self.gone) {
            place.remove();
        }
        self.order.pop_front();
        self.gone += 1;
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.places.clear();
        (0..self.order.len()).for_each(|at| self.place(at));
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
        assert_eq!(number(&recents, 5), Some(5), "95 has the same half");
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
