//! The events of a topic that somebody still needs although those round them are let go, in little
//! memory: some twelve bytes each.

use super::{
    column::Column,
    events::{Kept, PackedEvents},
    packed::{CHUNK, Pack, level, unlevel},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};
use std::{collections::BTreeMap, fmt};
use units::TimeMs;

/// Some events, packed; a part of them may be gone.
#[derive(Debug)]
struct Chunk {
    numbers: Column,
    events: PackedEvents,
    packed: usize,
    /// A bit for each that is gone, once there is one.
    gone: Option<Box<[u64; CHUNK / 64]>>,
    left: usize,
}

impl Chunk {
    fn of(events: &[(u64, Kept)]) -> Self {
        Self {
            numbers: level(events.iter().map(|(number, _)| *number)),
            events: Kept::pack(events.iter().map(|(_, kept)| *kept)),
            packed: events.len(),
            gone: None,
            left: events.len(),
        }
    }

    fn number(&self, at: usize) -> u64 {
        unlevel(&self.numbers, at)
    }

    fn is_left(&self, at: usize) -> bool {
        self.gone.as_ref().is_none_or(|gone| gone[at / 64] & (1 << (at % 64)) == 0)
    }

    /// The place of the first event with this number or a higher one.
    fn place(&self, number: u64) -> usize {
        let (mut from, mut to) = (0, self.packed);
        while from < to {
            let middle = from.midpoint(to);
            match self.number(middle) < number {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from
    }

    /// The place of the event with this number.
    fn find(&self, number: u64) -> Option<usize> {
        let at = self.place(number);
        (at < self.packed && self.number(at) == number && self.is_left(at)).then_some(at)
    }

    fn remove(&mut self, at: usize) -> Kept {
        self.gone.get_or_insert_default()[at / 64] |= 1 << (at % 64);
        self.left -= 1;
        Kept::unpack(&self.events, at)
    }

    fn events_from(&self, at: usize) -> impl Iterator<Item = (u64, Kept)> {
        let left = (at..self.packed).filter(|at| self.is_left(*at));
        left.map(|at| (self.number(at), Kept::unpack(&self.events, at)))
    }
}

/// Events by number, with gaps.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// By a number that is no higher than those of its events, and higher than all before it.
    chunks: BTreeMap<u64, Chunk>,
    /// The last ones.
    open: Vec<(u64, Kept)>,
    len: usize,
}

impl Apart {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, number: u64) -> Option<Kept> {
        if let Ok(at) = self.place_in_open(number) {
            return Some(self.open[at].1);
        }
        let (_, chunk) = self.chunks.range(..=number).next_back()?;
        Some(Kept::unpack(&chunk.events, chunk.find(number)?))
    }

    fn place_in_open(&self, number: u64) -> Result<usize, usize> {
        self.open.binary_search_by_key(&number, |(number, _)| *number)
    }

    /// Adds an event after all others; false if it is not after them.
    pub(super) fn push(&mut self, number: u64, kept: Kept) -> bool {
        let last = match self.open.last() {
            Some((last, _)) => Some(*last),
            None => self.chunks.last_key_value().map(|(_, chunk)| chunk.number(chunk.packed - 1)),
        };
        if last.is_some_and(|last| last >= number) {
            return false;
        }
        self.open.push((number, kept));
        self.len += 1;
        if self.open.len() == CHUNK {
            self.chunks.insert(self.open[0].0, Chunk::of(&self.open));
            self.open.clear();
        }
        true
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Kept> {
        if let Ok(at) = self.place_in_open(number) {
            self.len -= 1;
            return Some(self.open.remove(at).1);
        }
        let (&first, chunk) = self.chunks.range_mut(..=number).next_back()?;
        let at = chunk.find(number)?;
        let kept = chunk.remove(at);
        let is_sparse = chunk.left * 2 <= chunk.packed;
        self.len -= 1;
        if is_sparse {
            self.pack_again(first);
        }
        Some(kept)
    }

    /// Half of this chunk is gone: what is left is packed again, together with its neighbours if
    /// few are left of these, too. So there are never many chunks for few events.
    fn pack_again(&mut self, first: u64) {
        let Some(chunk) = self.chunks.remove(&first) else { return };
        let mut left: Vec<(u64, Kept)> = chunk.events_from(0).collect();
        let fits = |left: &[_], chunk: &Chunk| left.len() + chunk.left <= CHUNK / 2;
        let after = self.chunks.range(first..).next().filter(|(_, chunk)| fits(&left, chunk));
        if let Some((&after, _)) = after
            && let Some(chunk) = self.chunks.remove(&after)
        {
            left.extend(chunk.events_from(0));
        }
        let before = self.chunks.range(..first).next_back().filter(|(_, chunk)| fits(&left, chunk));
        if let Some((&before, _)) = before
            && let Some(chunk) = self.chunks.remove(&before)
        {
            left.splice(0..0, chunk.events_from(0));
        }
        if let Some((first, _)) = left.first() {
            self.chunks.insert(*first, Chunk::of(&left));
        }
    }

    /// The number of the first one with this number or a higher one.
    pub(super) fn first_from(&self, number: u64) -> Option<u64> {
        let around = self.chunks.range(..=number).next_back();
        let around = around.and_then(|(_, chunk)| chunk.events_from(chunk.place(number)).next());
        // No chunk is empty.
        let after = || self.chunks.range(number..).next().and_then(|(_, chunk)| chunk.events_from(0).next());
        let first = around.or_else(after).map(|(number, _)| number);
        let in_open = || match self.place_in_open(number) {
            Ok(at) | Err(at) => self.open.get(at).map(|(number, _)| *number),
        };
        first.or_else(in_open)
    }

    /// The number of the first one at this time or later.
    pub(super) fn first_since(&self, at: TimeMs) -> Option<u64> {
        // Times rise with the numbers.
        let may_have = |chunk: &&Chunk| Kept::unpack(&chunk.events, chunk.packed - 1).at >= at;
        let packed = self.chunks.values().filter(may_have).flat_map(|chunk| chunk.events_from(0));
        let mut all = packed.chain(self.open.iter().copied());
        all.find(|(_, kept)| kept.at >= at).map(|(number, _)| number)
    }

    /// In rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Kept)> {
        self.chunks.values().flat_map(|chunk| chunk.events_from(0)).chain(self.open.iter().copied())
    }
}

impl PartialEq for Apart {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Serialize for Apart {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.len))?;
        self.iter().try_for_each(|(number, kept)| map.serialize_entry(&number, &kept))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Apart {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Apart;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("events by number")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Apart, A::Error> {
                let mut apart = Apart::default();
                while let Some((number, kept)) = map.next_entry()? {
                    if !apart.push(number, kept) {
                        return Err(A::Error::custom("events in no order"));
                    }
                }
                Ok(apart)
            }
        }
        from.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Key;
    use units::{Prng, Sequence};

    #[test]
    fn events_apart_are_what_a_plain_map_has_and_few_take_few_chunks() {
        let mut prng = Prng::new(7);
        let (mut apart, mut plain) = (Apart::default(), BTreeMap::new());
        let (mut number, mut at) = (0, 0);
        for step in 0..60_000 {
            let is_draining = step % 20_000 > 12_000;
            if !is_draining {
                number += 1 + if prng.percent(30) { prng.below(1 << 20) } else { 0 };
                at += prng.below(2) * prng.below(1000);
                let (sequence, key) = (Sequence(prng.below(1 << 40)), Key(prng.next_u64()));
                let kept = Kept { sequence, at: TimeMs(at), key, set: prng.below(9) as u32 };
                assert!(apart.push(number, kept) && !apart.push(number, kept));
                plain.insert(number, kept);
            }
            let probe = prng.below(number + 2);
            let gone = plain.range(probe..).next().map(|(number, _)| *number);
            assert_eq!(apart.first_from(probe), gone);
            assert_eq!(apart.get(probe), plain.get(&probe).copied());
            if is_draining || prng.percent(40) {
                let gone = gone.or_else(|| plain.keys().next().copied()).unwrap_or(probe);
                assert_eq!(apart.get(gone), plain.get(&gone).copied());
                assert_eq!(apart.remove(gone), plain.remove(&gone));
                assert_eq!((apart.get(gone), apart.remove(gone)), (None, None));
            }
            assert_eq!(apart.len(), plain.len());
            assert!(apart.chunks.len() <= 2 + apart.len() * 4 / (CHUNK / 2), "{}", apart.chunks.len());
            if step % 997 == 0 {
                assert!(apart.iter().eq(plain.iter().map(|(number, kept)| (*number, *kept))));
                let (bytes, same) = (postcard::to_allocvec(&apart), postcard::to_allocvec(&plain));
                assert_eq!(bytes, same);
                assert!(postcard::from_bytes::<Apart>(&bytes.unwrap()).unwrap() == apart);
                let probe = TimeMs(prng.below(at + 2));
                let since = plain.iter().find(|(_, kept)| kept.at >= probe).map(|(number, _)| *number);
                assert_eq!(apart.first_since(probe), since);
            }
        }
        while let Some((number, kept)) = plain.pop_last() {
            assert_eq!(apart.remove(number), Some(kept));
        }
        assert_eq!((apart.len(), apart.chunks.len(), apart.first_from(0)), (0, 0, None));
    }

    #[test]
    fn bytes_with_events_in_no_order_are_refused() {
        let kept = Kept { sequence: Sequence(1), at: TimeMs(1), key: Key(1), set: 0 };
        for numbers in [[2, 1], [2, 2]] {
            let bytes = postcard::to_allocvec(&numbers.map(|number| (number, kept)).to_vec()).unwrap();
            assert!(postcard::from_bytes::<Apart>(&bytes).is_err());
        }
    }
}
