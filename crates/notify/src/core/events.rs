//! The events of a topic, in little memory: some ten bytes each.

use super::{
    column::Column,
    packed::{Pack, PackedQueue, level, unlevel},
    record::Key,
};
use serde::{Deserialize, Serialize, Serializer};
use units::{Sequence, TimeMs};

/// What is in memory of an event. Its body stays in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its entry in the log.
    pub(super) sequence: Sequence,
    pub(super) at: TimeMs,
    pub(super) key: Key,
    /// Who is to get it: the id of a set of subscriptions.
    pub(super) set: u32,
}

/// Events that are close to each other.
#[derive(Debug)]
pub(super) struct PackedEvents {
    sequences: Column,
    times: Column,
    keys: Column,
    sets: Column,
}

impl Pack for Kept {
    type Packed = PackedEvents;

    fn pack(events: impl Iterator<Item = Self> + Clone) -> PackedEvents {
        PackedEvents {
            sequences: level(events.clone().map(|kept| kept.sequence.0)),
            times: Column::of(events.clone().map(|kept| kept.at.0)),
            keys: Column::of(events.clone().map(|kept| kept.key.0)),
            sets: Column::of(events.map(|kept| u64::from(kept.set))),
        }
    }

    fn unpack(packed: &PackedEvents, at: usize) -> Self {
        Self {
            sequence: Sequence(unlevel(&packed.sequences, at)),
            at: TimeMs(packed.times.get(at)),
            key: Key(packed.keys.get(at)),
            set: packed.sets.get(at) as u32,
        }
    }
}

/// Events by number, without a gap.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Events(PackedQueue<Kept>);

impl Events {
    pub(super) fn starting_at(first: u64) -> Self {
        Self(PackedQueue::default().numbered_from(first).unwrap_or_default())
    }

    pub(super) fn first(&self) -> u64 {
        self.0.first()
    }

    pub(super) fn next(&self) -> u64 {
        self.0.next()
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<Kept> {
        self.0.get(number)
    }

    pub(super) fn push(&mut self, kept: Kept) {
        self.0.push(kept);
    }

    /// Other sets are to get these events, which are in the order of their numbers.
    pub(super) fn change_sets(&mut self, events: &[(u64, u32)]) {
        self.0.change(events, |kept, set| kept.set = set);
    }

    pub(super) fn pop_first(&mut self) -> Option<Kept> {
        self.0.pop_first()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Kept> {
        self.0.iter()
    }

    /// The number of the first one at this time or later.
    pub(super) fn first_since(&self, at: TimeMs) -> u64 {
        let (mut from, mut to) = (self.first(), self.next());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.get(middle).is_some_and(|kept| kept.at < at) {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }
}

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.first(), &self.0).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (first, events) = <(u64, PackedQueue<Kept>)>::deserialize(from)?;
        let numbered = events.numbered_from(first);
        numbered.map(Self).ok_or_else(|| serde::de::Error::custom("too many events"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use units::Prng;

    #[test]
    fn events_are_what_a_plain_list_has() {
        let mut prng = Prng::new(7);
        let (mut events, mut plain) = (Events::starting_at(1), VecDeque::new());
        let (mut sequence, mut at, mut first) = (1, 1, 1_u64);
        for step in 0..20_000 {
            let far = step % 3000 == 2999;
            sequence += 1 + prng.below(3) + if far { 1 << 33 } else { 0 };
            at += prng.below(2) * prng.below(1000) + if step % 5000 == 4999 { 1 << 34 } else { 0 };
            let key = Key(prng.next_u64());
            let kept = Kept { sequence: Sequence(sequence), at: TimeMs(at), key, set: prng.below(9) as u32 };
            events.push(kept);
            plain.push_back(kept);
            if step % 251 == 0 {
                let some: Vec<u64> =
                    (first.saturating_sub(3)..events.next() + 3).filter(|_| prng.percent(20)).collect();
                let sets: Vec<(u64, u32)> =
                    some.iter().map(|number| (*number, prng.below(9) as u32)).collect();
                events.change_sets(&sets);
                for (number, set) in sets {
                    let at = number.checked_sub(first).and_then(|at| plain.get_mut(at as usize));
                    at.into_iter().for_each(|kept: &mut Kept| kept.set = set);
                }
            }
            if prng.percent(40) {
                assert_eq!(events.pop_first(), plain.pop_front());
                first += 1;
            }
            assert_eq!((events.first(), events.len()), (first, plain.len() as u64));
            let at = prng.below(plain.len() as u64 + 2);
            assert_eq!(events.get(first + at), plain.get(at as usize).copied());
        }
        assert!(events.iter().eq(plain.iter().copied()));
        for probe in [0, at / 2, at, at + 1].into_iter().chain(plain.iter().step_by(97).map(|kept| kept.at.0))
        {
            let want = first + plain.partition_point(|kept| kept.at.0 < probe) as u64;
            assert_eq!(events.first_since(TimeMs(probe)), want, "{probe}");
        }
        let read: Events = postcard::from_bytes(&postcard::to_allocvec(&events).unwrap()).unwrap();
        assert!(read == events && read.get(first + 5) == plain.get(5).copied());
        while let Some(kept) = plain.pop_front() {
            assert_eq!(events.pop_first(), Some(kept));
        }
        assert_eq!((events.pop_first(), events.get(first), events.len()), (None, None, 0));
    }
}
