//! Collections that grow in pieces. A vector or a table that doubles copies all that it has: with
//! millions of attempts the sale would stand still for a tenth of a second. These copy little at a
//! time, however long they are.

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// A vector in pieces of a fixed length; only the last one grows.
#[derive(Debug)]
pub(super) struct Pieces<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
    /// Empty pieces whose memory was written to before it was needed.
    spare: Vec<Vec<T>>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0, spare: Vec::new() }
    }
}

impl<T> Pieces<T> {
    const BITS: u32 = 14;
    /// Elements of a piece.
    pub(super) const PIECE: usize = 1 << Self::BITS;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at >> Self::BITS)?.get(at % Self::PIECE)
    }

    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.len += 1;
        match self.pieces.last_mut() {
            Some(last) if last.len() < Self::PIECE => last.push(value),
            _ => self.push_to_new(value),
        }
    }

    #[cold]
    fn push_to_new(&mut self, value: T) {
        let mut new = match self.spare.pop() {
            Some(spare) => spare,
            // Only the first grows: a sale of a few units needs little.
            None if self.pieces.is_empty() => Vec::new(),
            None => Vec::with_capacity(Self::PIECE),
        };
        new.push(value);
        self.pieces.push(new);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.pieces.iter().flatten()
    }
}

impl<T: Clone> Pieces<T> {
    /// Elements that it has, or has memory for that was written to.
    pub(super) fn prepared(&self) -> usize {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        self.len.next_multiple_of(Self::PIECE) + spare
    }

    /// Adds a piece whose memory has been written to, of at most `len` elements.
    pub(super) fn prepare(&mut self, value: T, len: usize) {
        let mut spare = Vec::with_capacity(len.min(Self::PIECE));
        spare.resize(len.min(Self::PIECE), value);
        spare.clear();
        // A last piece that is shorter is used last: in the middle it would have to grow.
        self.spare.insert(0, spare);
    }
}

impl<T> Index<usize> for Pieces<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.pieces[at >> Self::BITS][at % Self::PIECE]
    }
}

impl<T> IndexMut<usize> for Pieces<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.pieces[at >> Self::BITS][at % Self::PIECE]
    }
}

/// A hash table in parts, which grow one by one. The hashes are random, so the parts are about
/// equally long; they reach a length at which they grow at different moments.
#[derive(Debug)]
pub(super) struct Parts<T> {
    parts: Box<[HashTable<T>; PARTS]>,
    /// Something was ever put into it: most sales have no list, and ask it with each attempt.
    is_used: bool,
}

const PARTS: usize = 256;

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { parts: Box::new(std::array::from_fn(|_| HashTable::new())), is_used: false }
    }
}

impl<T> Parts<T> {
    pub(super) const PARTS: usize = PARTS;

    /// The part of a hash. A table uses the low bits for the place, and the highest seven to tell
    /// neighbours apart.
    pub(super) fn part(hash: u64) -> usize {
        (hash >> 48) as usize % Self::PARTS
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, same: impl FnMut(&T) -> bool) -> Option<&T> {
        if !self.is_used {
            return None;
        }
        self.parts[Self::part(hash)].find(hash, same)
    }

    pub(super) fn find_entry(
        &mut self,
        hash: u64,
        same: impl FnMut(&T) -> bool,
    ) -> Option<OccupiedEntry<'_, T>> {
        self.parts[Self::part(hash)].find_entry(hash, same).ok()
    }

    pub(super) fn entry(
        &mut self,
        hash: u64,
        same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Entry<'_, T> {
        self.is_used = true;
        self.parts[Self::part(hash)].entry(hash, same, hasher)
    }

    pub(super) fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) {
        self.is_used = true;
        self.parts[Self::part(hash)].insert_unique(hash, value, hasher);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flatten()
    }

    /// Room in each part for its share of `count` more.
    pub(super) fn reserve(&mut self, count: usize, hasher: impl Fn(&T) -> u64) {
        let share = count / Self::PARTS;
        // Four times the deviation of a part's length.
        let more = share + 4 * share.isqrt();
        self.parts.iter_mut().for_each(|part| part.reserve(more, &hasher));
    }

    /// The room of the part that has least.
    pub(super) fn part_capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).min().unwrap_or_default()
    }
}

impl Parts<u32> {
    /// Writes to the memory of a part that is empty and has room.
    pub(super) fn touch(&mut self, part: usize) {
        let Some(table) = self.parts.get_mut(part).filter(|table| table.is_empty()) else { return };
        let (count, places) = (table.capacity() as u64, table.capacity().next_power_of_two() as u64);
        for at in 0..count {
            // In the order of the table, so that the next place is near. Nothing is moved, as there
            // is room.
            let place = at * places / count;
            table.insert_unique(place, 0, |_| place);
        }
        table.clear();
    }
}

/// An ordered queue in pieces, mostly pushed at the back and popped at the front. Values that are
/// over may stay in it until they reach the front. A piece that has no others is dropped at once:
/// so there are at most two pieces of them in a row at the front.
#[derive(Debug)]
pub(super) struct OrderedQueue<T> {
    /// None is empty.
    pieces: VecDeque<Piece<T>>,
}

#[derive(Debug)]
struct Piece<T> {
    values: VecDeque<T>,
    /// At least so many of them are over.
    over: usize,
}

impl<T> Default for OrderedQueue<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new() }
    }
}

impl<T: Copy + Ord> OrderedQueue<T> {
    const PIECE: usize = 4096;

    pub(super) fn front(&self) -> Option<T> {
        self.pieces.front()?.values.front().copied()
    }

    #[cold]
    fn push_to_new(&mut self, value: T) {
        // Only the first grows: a sale of a few units needs little.
        let room = if self.pieces.is_empty() { 1 } else { Self::PIECE };
        let mut values = VecDeque::with_capacity(room);
        values.push_back(value);
        self.pieces.push_back(Piece { values, over: 0 });
    }

    /// Removes the front, which is over.
    pub(super) fn pop_front(&mut self) -> Option<T> {
        let first = self.pieces.front_mut()?;
        let popped = first.values.pop_front();
        first.over = first.over.saturating_sub(1);
        if first.values.is_empty() {
            self.pieces.pop_front();
        }
        popped
    }

    /// The last piece that begins with a value that is not greater, or else the first one.
    fn piece_of(&self, value: T) -> usize {
        let begins = |piece: &Piece<T>| piece.values.front().is_some_and(|front| *front <= value);
        self.pieces.partition_point(begins).saturating_sub(1)
    }

    /// Inserts a value after all that are not greater.
    pub(super) fn insert(&mut self, value: T) {
        let last = self.pieces.back_mut();
        if last.as_ref().and_then(|last| last.values.back()).is_none_or(|back| *back <= value) {
            match last.filter(|last| last.values.len() < Self::PIECE) {
                Some(last) => last.values.push_back(value),
                None => self.push_to_new(value),
            }
            return;
        }
        let at = self.piece_of(value);
        let Some(piece) = self.pieces.get_mut(at) else { return };
        let place = piece.values.partition_point(|other| *other <= value);
        piece.values.insert(place, value);
        if piece.values.len() > 2 * Self::PIECE {
            let values = piece.values.split_off(Self::PIECE);
            // Which half has those that are over is not known, so neither is dropped for them.
            piece.over = 0;
            self.pieces.insert(at + 1, Piece { values, over: 0 });
        }
    }

    /// A value that is in the queue, of which there is only one, is over. Called for it once.
    pub(super) fn end(&mut self, value: T) {
        let at = self.piece_of(value);
        let Some(piece) = self.pieces.get_mut(at) else { return };
        piece.over += 1;
        if piece.over == piece.values.len() {
            self.pieces.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::Prng;

    #[test]
    fn pieces_are_a_vector() {
        let (mut pieces, mut vec) = (Pieces::default(), Vec::new());
        for n in 0..3 * Pieces::<u64>::PIECE as u64 {
            if n == 40_000 {
                pieces.prepare(0, usize::MAX);
            }
            pieces.push(n);
            vec.push(n);
        }
        pieces[17_000] = 5;
        vec[17_000] = 5;
        assert!(pieces.iter().eq(&vec));
        assert_eq!((pieces.len(), pieces.get(vec.len()), pieces.get(9)), (vec.len(), None, Some(&9)));
    }

    #[test]
    fn no_prepared_piece_grows_before_the_last() {
        let mut pieces = Pieces::default();
        for len in [usize::MAX, usize::MAX, 1_000] {
            pieces.prepare(0, len);
        }
        (0..2 * Pieces::<u32>::PIECE as u32 + 1_000).for_each(|n| pieces.push(n));
        assert!(pieces.pieces.iter().all(|piece| piece.capacity() <= Pieces::<u32>::PIECE));
        assert_eq!(pieces.pieces.last().map(Vec::capacity), Some(1_000));
    }

    #[test]
    fn no_part_of_a_table_is_much_longer_than_the_others() {
        let (mut parts, mut prng) = (Parts::<u64>::default(), Prng::new(3));
        parts.reserve(100_000, |hash| *hash);
        let room = parts.part_capacity();
        let hashes: Vec<u64> = (0..100_000).map(|_| prng.next_u64()).collect();
        hashes.iter().for_each(|hash| parts.insert_unique(*hash, *hash, |hash| *hash));
        assert_eq!((parts.len(), parts.part_capacity()), (100_000, room), "there was room");
        assert!(hashes.iter().all(|hash| parts.find(*hash, |other| other == hash).is_some()));
        assert!(parts.find(prng.next_u64(), |_| false).is_none());
        parts.find_entry(hashes[0], |other| *other == hashes[0]).unwrap().remove();
        assert_eq!(parts.iter().count(), 99_999);
    }

    #[test]
    fn an_ordered_queue_stays_in_order() {
        let (mut queue, mut sorted, mut prng) = (OrderedQueue::default(), Vec::new(), Prng::new(5));
        for n in 0..60_000_u64 {
            let value = if prng.percent(60) { n } else { prng.below(n + 1) };
            queue.insert(value);
            sorted.push(value);
        }
        sorted.sort_unstable();
        let all: Vec<u64> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert!(all == sorted && queue.front().is_none());
        queue.insert(4);
        assert_eq!(queue.front(), Some(4));
    }

    #[test]
    fn what_is_over_does_not_pile_up_after_the_front() {
        let (mut queue, mut over) = (OrderedQueue::default(), vec![false; 100_000]);
        (0..100_000_u64).for_each(|n| queue.insert(n));
        let mut prng = Prng::new(9);
        let mut order: Vec<u64> = (1..99_999).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, prng.below(at as u64 + 1) as usize);
        }
        for n in order {
            queue.end(n);
            over[n as usize] = true;
        }
        // The first and the last are not over: what lies between is in their two pieces.
        let left: Vec<u64> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert!(left.len() <= 2 * OrderedQueue::<u64>::PIECE, "{}", left.len());
        let lasts: Vec<u64> = left.into_iter().filter(|n| !over[*n as usize]).collect();
        assert_eq!(lasts, [0, 99_999]);
    }
}
