//! The events of a topic, in little memory: some twenty bytes each.

use super::record::Key;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use std::{collections::VecDeque, fmt};
use units::{Sequence, TimeMs};

const CHUNK: usize = 1024;

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

/// An event, beside the first one of its chunk.
#[derive(Debug, Clone, Copy)]
struct Slot {
    sequence_after: u32,
    ms_after: u32,
    key: [u32; 2],
    set: u32,
}

/// Events that are close to each other.
#[derive(Debug)]
struct Chunk {
    /// The number of its first event.
    first: u64,
    sequence: Sequence,
    at: TimeMs,
    slots: Vec<Slot>,
}

impl Chunk {
    fn begin(first: u64, kept: &Kept) -> Self {
        Self { first, sequence: kept.sequence, at: kept.at, slots: Vec::new() }
    }

    /// The slot of an event; `None` if it is too far from the first one, or there is no room.
    fn slot(&self, kept: &Kept) -> Option<Slot> {
        if self.slots.len() == CHUNK {
            return None;
        }
        Some(Slot {
            sequence_after: u32::try_from(kept.sequence.0.checked_sub(self.sequence.0)?).ok()?,
            ms_after: u32::try_from(kept.at.0.checked_sub(self.at.0)?).ok()?,
            key: [kept.key.0 as u32, (kept.key.0 >> 32) as u32],
            set: kept.set,
        })
    }

    fn event(&self, number: u64) -> Option<Kept> {
        let slot = self.slots.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        Some(Kept {
            sequence: Sequence(self.sequence.0 + u64::from(slot.sequence_after)),
            at: TimeMs(self.at.0 + u64::from(slot.ms_after)),
            key: Key(u64::from(slot.key[0]) | u64::from(slot.key[1]) << 32),
            set: slot.set,
        })
    }

    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }
}

/// Events by number, without a gap.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The number of the first one, and of the one after the last.
    first: u64,
    next: u64,
    chunks: VecDeque<Chunk>,
}

impl Events {
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, next: first, chunks: VecDeque::new() }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn len(&self) -> u64 {
        self.next - self.first
    }

    pub(super) fn get(&self, number: u64) -> Option<Kept> {
        if !(self.first..self.next).contains(&number) {
            return None;
        }
        let after = self.chunks.partition_point(|chunk| chunk.first <= number);
        self.chunks.get(after.checked_sub(1)?)?.event(number)
    }

    pub(super) fn push(&mut self, kept: Kept) {
        let slot = self.chunks.back().and_then(|chunk| chunk.slot(&kept));
        if slot.is_none() {
            self.chunks.push_back(Chunk::begin(self.next, &kept));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            // The first of a chunk is always close to itself.
            chunk.slots.extend(slot.or_else(|| chunk.slot(&kept)));
        }
        self.next += 1;
    }

    /// Another set is to get the event.
    pub(super) fn change_set(&mut self, number: u64, set: u32) {
        let after = self.chunks.partition_point(|chunk| chunk.first <= number);
        let chunk = after.checked_sub(1).and_then(|at| self.chunks.get_mut(at));
        let slot = chunk.and_then(|chunk| {
            let at = usize::try_from(number.checked_sub(chunk.first)?).ok()?;
            chunk.slots.get_mut(at)
        });
        if let Some(slot) = slot {
            slot.set = set;
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<Kept> {
        let kept = self.get(self.first)?;
        self.first += 1;
        if self.chunks.front().is_some_and(|chunk| chunk.next() <= self.first) {
            self.chunks.pop_front();
        }
        Some(kept)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Kept> {
        let numbers = self
            .chunks
            .iter()
            .flat_map(|chunk| (chunk.first.max(self.first)..chunk.next()).map(move |number| (chunk, number)));
        numbers.filter_map(|(chunk, number)| chunk.event(number))
    }

    /// An entry no later than those of all events.
    pub(super) fn oldest_entry(&self) -> Option<Sequence> {
        self.chunks.iter().map(|chunk| chunk.sequence).min()
    }

    /// The number of the first one at this time or later.
    pub(super) fn first_since(&self, at: TimeMs) -> u64 {
        let after = self.chunks.partition_point(|chunk| chunk.at < at);
        let Some(chunk) = after.checked_sub(1).and_then(|at| self.chunks.get(at)) else { return self.first };
        let later = chunk.slots.partition_point(|slot| chunk.at.0 + u64::from(slot.ms_after) < at.0);
        (chunk.first + later as u64).max(self.first)
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        (self.first, self.next) == (other.first, other.next) && self.iter().eq(other.iter())
    }
}

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.first, Seq(self)).serialize(to)
    }
}

struct Seq<'a>(&'a Events);

impl Serialize for Seq<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut seq = to.serialize_seq(Some(self.0.len() as usize))?;
        self.0.iter().try_for_each(|kept| seq.serialize_element(&kept))?;
        seq.end()
    }
}

struct Read(Events);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Read;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Read, A::Error> {
                let mut events = Events::default();
                while let Some(kept) = seq.next_element()? {
                    events.push(kept);
                }
                Ok(Read(events))
            }
        }
        from.deserialize_seq(Each)
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (first, Read(mut events)) = <(u64, Read)>::deserialize(from)?;
        // They were numbered from 0.
        let next =
            events.next.checked_add(first).ok_or_else(|| serde::de::Error::custom("too many events"))?;
        (events.first, events.next) = (first, next);
        events.chunks.iter_mut().for_each(|chunk| chunk.first += first);
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    #[test]
    fn events_are_what_a_plain_list_has() {
        let mut prng = Prng::new(7);
        let (mut events, mut plain) = (Events::starting_at(1), VecDeque::new());
        let (mut sequence, mut at, mut first) = (1, 1, 1);
        for step in 0..20_000 {
            let far = step % 3000 == 2999;
            sequence += 1 + prng.below(3) + if far { 1 << 33 } else { 0 };
            at += prng.below(2) * prng.below(1000) + if step % 5000 == 4999 { 1 << 34 } else { 0 };
            let key = Key(prng.next_u64());
            let kept = Kept { sequence: Sequence(sequence), at: TimeMs(at), key, set: prng.below(9) as u32 };
            events.push(kept);
            plain.push_back(kept);
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
        assert_eq!((events.pop_first(), events.get(first), events.chunks.len()), (None, None, 0));
    }
}
