//! Which events were posted lately.

use super::{
    column::Column,
    packed::{Pack, PackedQueue, level, unlevel},
    record::EventNo,
};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use units::TimeMs;

/// Tables of the index. A table doubles when it is seven eighths full: that many keep a million
/// events in three quarters of the room that one would take, and no step waits for all of them.
const TABLES: u64 = 36;

/// An event that was posted lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    /// Of source and id: a hash, in two halves.
    identity: [u64; 2],
    pub(super) content: u64,
    pub(super) number: EventNo,
    pub(super) at: TimeMs,
}

#[derive(Debug)]
pub(super) struct PackedRecents {
    /// Hashes, which have nothing in common.
    identities: Box<[[u64; 2]]>,
    contents: Box<[u64]>,
    numbers: Column,
    times: Column,
}

impl Pack for Recent {
    type Packed = PackedRecents;

    fn pack(recents: impl Iterator<Item = Self> + Clone) -> PackedRecents {
        PackedRecents {
            identities: recents.clone().map(|recent| recent.identity).collect(),
            contents: recents.clone().map(|recent| recent.content).collect(),
            numbers: level(recents.clone().map(|recent| recent.number.0)),
            times: Column::of(recents.map(|recent| recent.at.0)),
        }
    }

    fn unpack(packed: &PackedRecents, at: usize) -> Self {
        Self {
            identity: packed.identities[at],
            content: packed.contents[at],
            number: EventNo(unlevel(&packed.numbers, at)),
            at: TimeMs(packed.times.get(at)),
        }
    }
}

/// Events in the order in which they were posted, each once, found by source and id. Some thirty
/// bytes each.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Recents {
    /// Numbered from the first one ever.
    order: PackedQueue<Recent>,
    /// The last half of the number that each has in `order`, by the first half of its identity.
    #[serde(skip)]
    tables: Vec<HashTable<u32>>,
}

impl PartialEq for Recents {
    fn eq(&self, other: &Self) -> bool {
        self.order.iter().eq(other.order.iter())
    }
}

fn halves(identity: u128) -> [u64; 2] {
    [identity as u64, (identity >> 64) as u64]
}

/// The table of a hash. A table itself looks at the hash's lower and highest bits.
fn table_of(half: u64) -> usize {
    ((((half >> 16) & 0xffff_ffff) * TABLES) >> 32) as usize
}

/// The whole number of a place in the order, of which there are never as many as half a number has.
fn whole(order: &PackedQueue<Recent>, place: u32) -> u64 {
    order.first() + u64::from(place.wrapping_sub(order.first() as u32))
}

impl Recents {
    pub(super) fn len(&self) -> usize {
        self.order.len() as usize
    }

    pub(super) fn get(&self, identity: u128) -> Option<Recent> {
        let identity = halves(identity);
        let recent = |place: &u32| self.order.get(whole(&self.order, *place));
        let is_it = |place: &u32| recent(place).is_some_and(|recent| recent.identity == identity);
        recent(self.tables.get(table_of(identity[0]))?.find(identity[0], is_it)?)
    }

    pub(super) fn push(&mut self, identity: u128, content: u64, number: EventNo, at: TimeMs) {
        let recent = Recent { identity: halves(identity), content, number, at };
        self.order.push(recent);
        self.place(self.order.next() - 1, &recent);
    }

    fn place(&mut self, number: u64, recent: &Recent) {
        let Self { order, tables } = self;
        tables.resize_with(TABLES as usize, HashTable::new);
        let half = |place: &u32| order.get(whole(order, *place)).map_or(0, |recent| recent.identity[0]);
        let this = recent.identity[0];
        tables[table_of(this)].insert_unique(this, number as u32, half);
    }

    pub(super) fn first(&self) -> Option<Recent> {
        self.order.get(self.order.first())
    }

    pub(super) fn forget_first(&mut self) {
        let Some(first) = self.first() else { return };
        let (half, number) = (first.identity[0], self.order.first() as u32);
        if let Some(table) = self.tables.get_mut(table_of(half))
            && let Ok(place) = table.find_entry(half, |place| *place == number)
        {
            place.remove();
        }
        self.order.pop_first();
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.tables.clear();
        for number in self.order.first()..self.order.next() {
            if let Some(recent) = self.order.get(number) {
                self.place(number, &recent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use units::Prng;

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

    /// Half of them are delayed, and so have no number yet; the places in the index begin again
    /// at 0.
    #[test]
    fn a_few_thousand_events_are_found_as_in_a_plain_map_in_any_order() {
        let mut prng = Prng::new(7);
        let order = PackedQueue::default().numbered_from(u64::from(u32::MAX) - 2500).unwrap();
        let mut recents = Recents { order, ..Recents::default() };
        let mut plain = VecDeque::new();
        for n in 0..6000_u64 {
            let identity = u128::from(prng.next_u64()) << 64 | u128::from(prng.next_u64());
            let number = EventNo(if prng.percent(50) { 0 } else { n });
            recents.push(identity, n, number, TimeMs(n / 3));
            plain.push_back((identity, n, number, TimeMs(n / 3)));
            if prng.percent(60) {
                recents.forget_first();
                let (gone, ..) = plain.pop_front().unwrap();
                assert_eq!(recents.get(gone), None);
            }
            if let Some(&(identity, content, number, at)) =
                plain.get(prng.below(plain.len() as u64 + 1) as usize)
            {
                let want = Recent { identity: halves(identity), content, number, at };
                assert_eq!(recents.get(identity), Some(want));
            }
            assert_eq!(recents.len(), plain.len());
        }
        let mut restored: Recents = postcard::from_bytes(&postcard::to_allocvec(&recents).unwrap()).unwrap();
        restored.index();
        assert!(restored == recents && plain.len() > 2000);
        for (identity, content, ..) in plain {
            assert_eq!(restored.get(identity).unwrap().content, content);
        }
    }
}
