//! Queues of items that have much in common, in little memory. It does not know what they are.

use super::column::Column;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeSeq,
};
use std::{collections::VecDeque, fmt, marker::PhantomData};

/// Items that are packed together: with fewer the lists themselves cost more, and those of a topic
/// with few events are not packed.
pub(super) const CHUNK: usize = 512;

/// An item that can be packed together with others of its kind.
pub(super) trait Pack: Copy + fmt::Debug {
    type Packed: fmt::Debug;

    /// At most [`CHUNK`] items.
    fn pack(items: impl Iterator<Item = Self> + Clone) -> Self::Packed;

    /// The item at this place, at which one was packed.
    fn unpack(packed: &Self::Packed, at: usize) -> Self;
}

/// Numbers that mostly rise by one from item to item, as if they did not.
pub(super) fn level(numbers: impl Iterator<Item = u64> + Clone) -> Column {
    Column::of(numbers.enumerate().map(|(at, number)| number.wrapping_add(CHUNK as u64 - at as u64)))
}

/// The number at this place of a column that [`level`] has made.
pub(super) fn unlevel(column: &Column, at: usize) -> u64 {
    column.get(at).wrapping_sub(CHUNK as u64 - at as u64)
}

/// Items by number, without a gap.
#[derive(Debug)]
pub(super) struct PackedQueue<T: Pack> {
    /// The number of the first item, and of the one after the last.
    first: u64,
    next: u64,
    /// That of the first item of the first chunk, or else of the first one that is not packed.
    begin: u64,
    chunks: VecDeque<T::Packed>,
    /// The newest items.
    open: VecDeque<T>,
}

impl<T: Pack> Default for PackedQueue<T> {
    fn default() -> Self {
        Self { first: 0, next: 0, begin: 0, chunks: VecDeque::new(), open: VecDeque::new() }
    }
}

impl<T: Pack> PackedQueue<T> {
    /// The same items, the first of which has another number; `None` if the last would have none.
    pub(super) fn numbered_from(self, first: u64) -> Option<Self> {
        let moved = |number: u64| (number - self.first).checked_add(first);
        // The chunk of the first one begins with it, unless some were taken out.
        let begin = first.checked_sub(self.first - self.begin)?;
        Some(Self { first, next: moved(self.next)?, begin, ..self })
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

    pub(super) fn get(&self, number: u64) -> Option<T> {
        if !(self.first..self.next).contains(&number) {
            return None;
        }
        let at = (number - self.begin) as usize;
        match self.chunks.get(at / CHUNK) {
            Some(chunk) => Some(T::unpack(chunk, at % CHUNK)),
            None => self.open.get(at - self.chunks.len() * CHUNK).copied(),
        }
    }

    pub(super) fn push(&mut self, item: T) {
        self.open.push_back(item);
        self.next += 1;
        if self.open.len() == CHUNK {
            self.chunks.push_back(T::pack(self.open.iter().copied()));
            self.open.clear();
        }
    }

    /// Changes items, which are in the order of their numbers. Each chunk is packed again once.
    pub(super) fn change<A: Copy>(&mut self, items: &[(u64, A)], change: impl Fn(&mut T, A)) {
        let place = |number: u64| (number - self.begin) as usize;
        let begin = items.partition_point(|(number, _)| *number < self.first);
        let end = items.partition_point(|(number, _)| *number < self.next);
        let (items, packed) = (&items[begin..end.max(begin)], self.chunks.len() * CHUNK);
        for of_chunk in items.chunk_by(|(a, _), (b, _)| place(*a) / CHUNK == place(*b) / CHUNK) {
            let at = place(of_chunk[0].0) / CHUNK;
            if let Some(chunk) = self.chunks.get_mut(at) {
                let mut unpacked: Vec<T> = (0..CHUNK).map(|at| T::unpack(chunk, at)).collect();
                of_chunk.iter().for_each(|(number, to)| change(&mut unpacked[place(*number) % CHUNK], *to));
                *chunk = T::pack(unpacked.iter().copied());
            } else {
                of_chunk.iter().for_each(|(number, to)| change(&mut self.open[place(*number) - packed], *to));
            }
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<T> {
        let item = self.get(self.first)?;
        self.first += 1;
        if self.chunks.is_empty() {
            self.open.pop_front();
            self.begin = self.first;
        } else if self.first - self.begin == CHUNK as u64 {
            self.chunks.pop_front();
            self.begin = self.first;
        }
        Some(item)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        (self.first..self.next).filter_map(|number| self.get(number))
    }
}

impl<T: Pack + PartialEq> PartialEq for PackedQueue<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.first, self.next) == (other.first, other.next) && self.iter().eq(other.iter())
    }
}

/// As a list of items, numbered from 0.
impl<T: Pack + Serialize> Serialize for PackedQueue<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut seq = to.serialize_seq(Some(self.len() as usize))?;
        self.iter().try_for_each(|item| seq.serialize_element(&item))?;
        seq.end()
    }
}

impl<'de, T: Pack + Deserialize<'de>> Deserialize<'de> for PackedQueue<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: Pack + Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = PackedQueue<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut queue = PackedQueue::default();
                while let Some(item) = seq.next_element()? {
                    queue.push(item);
                }
                Ok(queue)
            }
        }
        from.deserialize_seq(Each(PhantomData))
    }
}
