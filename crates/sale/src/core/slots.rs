//! Every attempt that the sale keeps, found by its id or through its shopper.
//!
//! The ids are outputs of a keyed hash, so the tables use their low bits as they are: no hash is
//! computed, and without the key collisions cannot be produced on purpose.

use super::grown::{Parts, Pieces};
use super::long_chains::{Change, Has, LongChain, LongChains};
use contracts::{AttemptId, Basket, HoldState, LINES_MAX, Line, ShopperKey};
use hashbrown::hash_table::Entry;
use units::{Sequence, TimeMs};

/// No slot.
const NONE: u32 = u32::MAX;

/// The state of a stored attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    /// On the waitlist.
    Waiting,
    /// Was on the waitlist, and was released or voided there.
    Left,
    /// Has, or had, a hold.
    Hold(HoldState),
}

impl SlotState {
    /// True if its units count against its shopper's limits.
    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Hold(HoldState::Held | HoldState::Confirmed))
    }
}

/// A stored attempt, in 80 bytes.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) attempt: AttemptId,
    pub(super) shopper: ShopperKey,
    pub(super) pay_by: TimeMs,
    /// The entry by which it was granted (or promoted), or put on the waitlist.
    pub(super) as_of: Sequence,
    /// Place on the waitlist when it was put there, from 1; 0 if it was granted at once.
    pub(super) position: u32,
    /// Its neighbours among the slots of its shopper whose units count: the next older, and the
    /// next newer.
    next_active: u32,
    newer_active: u32,
    next_any: u32,
    pub(super) round: u16,
    pub(super) state: SlotState,
    line_count: u8,
    /// The first line; further lines are in `extra_lines` from `extra` on, for almost every basket
    /// has one.
    first_line: Line,
    extra: u32,
    /// Of the newest of a chain: how many slots it has. Of a slot in no chain 1, so that the usual
    /// first attempt need not set it; of all others it means nothing.
    chain_len: u32,
}

const EMPTY_SLOT: Slot = Slot {
    attempt: AttemptId([0; 16]),
    shopper: ShopperKey([0; 16]),
    pay_by: TimeMs(0),
    as_of: Sequence(0),
    position: 0,
    next_active: NONE,
    newer_active: NONE,
    next_any: NONE,
    round: 0,
    state: SlotState::Left,
    line_count: 0,
    first_line: Line { item: 0, quantity: 0 },
    extra: 0,
    chain_len: 1,
};

/// No shopper has this key: it is that of memory which is only touched.
const EMPTY_SHOPPER: Shopper = Shopper { key: ShopperKey([0; 16]), active: NONE, any: NONE };

#[derive(Debug, Clone)]
struct Shopper {
    key: ShopperKey,
    /// Slots whose units count, newest first.
    active: u32,
    /// All slots, newest first.
    any: u32,
}

/// The stored attempts.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Pieces<Slot>,
    extra_lines: Pieces<Line>,
    by_attempt: Parts<u32>,
    shoppers: Pieces<Shopper>,
    by_shopper: Parts<u32>,
    long_chains: LongChains,
    /// Slots for which there is to be memory, and the parts of the tables that are prepared.
    room: usize,
    parts_prepared: usize,
}

impl Slots {
    /// Makes room for `count` attempts. [`Slots::prepare`] then touches it piece by piece: in the
    /// middle of the storm the first touch of each page took a third of a grant.
    pub(super) fn reserve(&mut self, count: usize) {
        self.by_attempt.reserve(count, |&at| self.slots[at as usize].attempt.low_bits());
        self.by_shopper.reserve(count, |&at| self.shoppers[at as usize].key.low_bits());
        (self.room, self.parts_prepared) = (count, 0);
        // The room of a small sale is one piece.
        if count <= Pieces::<Slot>::PIECE {
            self.prepare();
        }
    }

    /// Whether there is room that is not prepared.
    pub(super) fn is_unprepared(&self) -> bool {
        self.slots.prepared() < self.room
    }

    /// Prepares room for one more piece of slots.
    pub(super) fn prepare(&mut self) {
        let left = self.room.saturating_sub(self.slots.prepared());
        if left == 0 {
            return;
        }
        let piece = left.min(Pieces::<Slot>::PIECE);
        self.slots.prepare(EMPTY_SLOT, piece);
        self.shoppers.prepare(EMPTY_SHOPPER, piece);
        let parts = (Parts::<u32>::PARTS - self.parts_prepared) * piece / left;
        for part in self.parts_prepared..self.parts_prepared + parts {
            self.by_attempt.touch(part);
            self.by_shopper.touch(part);
        }
        self.parts_prepared += parts;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slot numbers are given in order, so this is also the order of acceptance.
    #[inline]
    pub(super) fn find(&self, attempt: AttemptId) -> Option<u32> {
        self.by_attempt.find(attempt.low_bits(), |&at| self.slots[at as usize].attempt == attempt).copied()
    }

    pub(super) fn get(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    /// All shoppers who have a slot.
    pub(super) fn shoppers(&self) -> impl Iterator<Item = ShopperKey> {
        self.shoppers.iter().map(|shopper| shopper.key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.slots.iter().enumerate().map(|(at, slot)| (at as u32, slot))
    }

    /// The lines of a slot's basket.
    pub(super) fn basket(&self, slot: u32) -> Basket {
        let s = self.get(slot);
        let mut lines = [Line::default(); LINES_MAX];
        lines[0] = s.first_line;
        let count = usize::from(s.line_count);
        if count > 1 {
            let from = s.extra as usize;
            for (line, at) in lines[1..count].iter_mut().zip(from..) {
                *line = self.extra_lines[at];
            }
            return Basket::new(&lines[..count]).unwrap_or_default();
        }
        Basket::single(s.first_line.item, s.first_line.quantity)
    }

    /// The lines of a slot, without the copy for the usual one.
    #[inline]
    pub(super) fn each_line(&self, s: &Slot, mut f: impl FnMut(Line)) {
        // One place that calls it, so that the compiler puts it there.
        for n in 0..usize::from(s.line_count.max(1)) {
            f(if n == 0 { s.first_line } else { self.extra_lines[s.extra as usize + n - 1] });
        }
    }

    /// Adds a slot to be found after [`Slots::index`]; for a snapshot, which has them all at once.
    pub(super) fn push_unindexed(
        &mut self,
        attempt: AttemptId,
        shopper: ShopperKey,
        basket: &Basket,
        new: NewSlot,
    ) -> u32 {
        let slot = self.slots.len() as u32;
        let extra = self.extra_lines.len() as u32;
        basket[1..].iter().for_each(|line| self.extra_lines.push(*line));
        self.slots.push(Slot {
            attempt,
            shopper,
            pay_by: new.pay_by,
            as_of: new.as_of,
            position: new.position,
            next_active: NONE,
            newer_active: NONE,
            next_any: NONE,
            round: new.round,
            state: new.state,
            line_count: basket.len() as u8,
            first_line: basket[0],
            extra,
            chain_len: 1,
        });
        slot
    }

    /// Fills the tables from the slots, in the order of the tables: a million random places in
    /// memory would take several times as long.
    pub(super) fn index(&mut self) {
        let by_attempt = table_order(
            self.by_attempt.part_capacity(),
            self.slots.iter().map(|s| (s.attempt.low_bits(), ())),
        );
        for (hash, slot, ()) in by_attempt {
            let slots = &self.slots;
            self.by_attempt.insert_unique(hash, slot, |&at| slots[at as usize].attempt.low_bits());
        }
        let of_shopper = self.slots.iter().map(|s| (s.shopper.low_bits(), (s.shopper, s.state.is_active())));
        for (_, slot, (shopper, active)) in table_order(self.by_shopper.part_capacity(), of_shopper) {
            // The slots of one shopper come in order, so each becomes the newest.
            let owner = self.shopper_or_new(shopper);
            self.own(owner, slot, active);
        }
    }

    #[inline]
    fn own(&mut self, owner: u32, slot: u32, active: bool) {
        let before = std::mem::replace(&mut self.shoppers[owner as usize].any, slot);
        if before != NONE {
            self.slots[slot as usize].next_any = before;
        }
        if active {
            self.link(owner, slot);
        }
    }

    /// Keeps a new attempt; `None`, and nothing is kept, if there is one of this id.
    pub(super) fn insert(
        &mut self,
        attempt: AttemptId,
        shopper: ShopperKey,
        basket: &Basket,
        new: NewSlot,
    ) -> Option<u32> {
        let active = new.state.is_active();
        let slots = &self.slots;
        let same = |&at: &u32| slots[at as usize].attempt == attempt;
        match self.by_attempt.entry(attempt.low_bits(), same, |&at| slots[at as usize].attempt.low_bits()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => place.insert(slots.len() as u32),
        };
        let slot = self.push_unindexed(attempt, shopper, basket, new);
        let owner = self.shopper_or_new(shopper);
        self.own(owner, slot, active);
        Some(slot)
    }

    #[inline]
    fn shopper_or_new(&mut self, key: ShopperKey) -> u32 {
        let shoppers = &self.shoppers;
        match self.by_shopper.find(key.low_bits(), |&at| shoppers[at as usize].key == key) {
            Some(&at) => at,
            None => {
                let at = self.shoppers.len() as u32;
                self.shoppers.push(Shopper { key, active: NONE, any: NONE });
                let shoppers = &self.shoppers;
                self.by_shopper.insert_unique(key.low_bits(), at, |&at| shoppers[at as usize].key.low_bits());
                at
            }
        }
    }

    #[inline]
    fn shopper(&self, key: ShopperKey) -> Option<&Shopper> {
        let at = self.by_shopper.find(key.low_bits(), |&at| self.shoppers[at as usize].key == key)?;
        Some(&self.shoppers[*at as usize])
    }

    /// Puts the slot into its shopper's active chain, which is kept in descending order: the chain
    /// then depends on which slots are active and on nothing else, and a restored snapshot has the
    /// same one.
    #[inline]
    fn link(&mut self, owner: u32, slot: u32) {
        let head = self.shoppers[owner as usize].active;
        if head == NONE {
            // `next_active` and the length are already right: the usual first attempt touches
            // nothing else.
            self.shoppers[owner as usize].active = slot;
            return;
        }
        let len = self.slots[head as usize].chain_len + 1;
        if head < slot {
            self.slots[slot as usize].next_active = head;
            self.slots[head as usize].newer_active = slot;
            self.shoppers[owner as usize].active = slot;
        } else {
            self.link_behind(self.next_newer(head, slot), slot);
        }
        self.chain_changed(owner, slot, true, len);
    }

    /// The slot of a chain behind which a slot that is not its newest has its place.
    fn next_newer(&self, head: u32, slot: u32) -> u32 {
        if let Some(newer) = self.long_chain(head).and_then(|chain| chain.newer_than(slot)) {
            return newer;
        }
        let newer = self.active_from(head).map(|(at, _)| at).take_while(|at| *at > slot);
        newer.last().unwrap_or(head)
    }

    fn link_behind(&mut self, newer: u32, slot: u32) {
        let older = self.slots[newer as usize].next_active;
        self.slots[slot as usize].next_active = older;
        self.slots[slot as usize].newer_active = newer;
        self.slots[newer as usize].next_active = slot;
        if older != NONE {
            self.slots[older as usize].newer_active = slot;
        }
    }

    /// Removes the slot, wherever it is in the chain: holds of one shopper expire oldest first, and
    /// there may be thousands.
    fn unlink(&mut self, owner: u32, slot: u32) {
        let head = self.shoppers[owner as usize].active;
        let len = self.slots[head as usize].chain_len - 1;
        let Slot { next_active: older, newer_active: newer, .. } = self.slots[slot as usize];
        match newer {
            NONE => self.shoppers[owner as usize].active = older,
            _ => self.slots[newer as usize].next_active = older,
        }
        if older != NONE {
            self.slots[older as usize].newer_active = newer;
        }
        let s = &mut self.slots[slot as usize];
        (s.next_active, s.newer_active, s.chain_len) = (NONE, NONE, 1);
        self.chain_changed(owner, slot, false, len);
    }

    /// Notes the length of a chain that a slot has come into, or left.
    fn chain_changed(&mut self, owner: u32, slot: u32, is_added: bool, len: u32) {
        let Shopper { key, active: head, .. } = self.shoppers[owner as usize];
        if head == NONE {
            return;
        }
        self.slots[head as usize].chain_len = len;
        let change = Change { slot, round: self.get(slot).round, basket: self.basket(slot), is_added };
        if self.long_chains.follow(key, len, &change) {
            let mut chain = LongChain::default();
            for (at, slot) in self.active_from(head) {
                chain.add(at, slot.round, &self.basket(at));
            }
            self.long_chains.insert(key, chain);
        }
    }

    fn long_chain(&self, head: u32) -> Option<&LongChain> {
        let head = self.slots.get(head as usize)?;
        self.long_chains.find(head.shopper, head.chain_len)
    }

    /// What the shopper of this chain has of everything. The chain is given by its newest slot.
    pub(super) fn has(&self, newest: u32) -> Has {
        match self.long_chain(newest) {
            Some(chain) => chain.has(),
            None => self.walk(newest, |slot| self.units(slot, 0).0),
        }
    }

    /// The same of one item, in one round.
    pub(super) fn has_of(&self, newest: u32, round: u16, item: u16) -> Has {
        match self.long_chain(newest) {
            Some(chain) => chain.has_of(round, item),
            None => self.walk(newest, |slot| if slot.round == round { self.units(slot, item).1 } else { 0 }),
        }
    }

    fn walk(&self, newest: u32, units: impl Fn(&Slot) -> u32) -> Has {
        let mut has = Has::default();
        for (at, slot) in self.active_from(newest) {
            let units = units(slot);
            has.units += u64::from(units);
            has.newest = has.newest.or((units > 0).then_some(at));
        }
        has
    }

    /// Moves a slot to another state and updates its shopper's chain.
    pub(super) fn set_state(&mut self, slot: u32, state: SlotState) {
        let (was, key) = (self.get(slot).state, self.get(slot).shopper);
        self.slots[slot as usize].state = state;
        if was.is_active() != state.is_active() {
            let owner = self.shopper_or_new(key);
            if state.is_active() { self.link(owner, slot) } else { self.unlink(owner, slot) }
        }
    }

    /// Gives a waitlisted slot its hold.
    pub(super) fn promote(&mut self, slot: u32, pay_by: TimeMs, as_of: Sequence) {
        let s = &mut self.slots[slot as usize];
        s.pay_by = pay_by;
        s.as_of = as_of;
        self.set_state(slot, SlotState::Hold(HoldState::Held));
    }

    /// Whether the shopper has stored attempts.
    pub(super) fn is_known(&self, shopper: ShopperKey) -> bool {
        self.shopper(shopper).is_some()
    }

    /// The newest slot of a shopper whose units count, if there is one.
    pub(super) fn newest_active_of(&self, shopper: ShopperKey) -> Option<u32> {
        Some(self.newest_active(shopper)).filter(|slot| *slot != NONE)
    }

    /// The newest slot of a shopper whose units count, to be given to [`Slots::active_from`].
    pub(super) fn newest_active(&self, shopper: ShopperKey) -> u32 {
        self.shopper(shopper).map_or(NONE, |s| s.active)
    }

    /// The slots whose units count, from one of a shopper's on, newest first.
    pub(super) fn active_from(&self, newest: u32) -> impl Iterator<Item = (u32, &Slot)> {
        let mut at = newest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let number = at;
            at = slot.next_active;
            Some((number, slot))
        })
    }

    /// All slots of a shopper, newest first.
    pub(super) fn all_of(&self, shopper: ShopperKey) -> impl Iterator<Item = (u32, &Slot)> {
        let mut at = self.shopper(shopper).map_or(NONE, |s| s.any);
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let number = at;
            at = slot.next_any;
            Some((number, slot))
        })
    }

    /// Units of a slot: of all items, and of `item`.
    pub(super) fn units(&self, slot: &Slot, item: u16) -> (u32, u32) {
        let (mut all, mut of_item) = (0, 0);
        self.each_line(slot, |line| {
            all += u32::from(line.quantity);
            of_item += if line.item == item { u32::from(line.quantity) } else { 0 };
        });
        (all, of_item)
    }
}

/// (hash, position, value) of each, sorted by where a table of this capacity keeps the hash, near
/// enough that neighbours share their cache lines. Stable: equal hashes stay in order. One pass of
/// a counting sort. `capacity` is that of a part of the table.
fn table_order<T: Copy + Default>(
    capacity: usize,
    all: impl Iterator<Item = (u64, T)> + Clone,
) -> Vec<(u64, u32, T)> {
    /// Neighbourhoods of a part.
    const BITS: u32 = 4;
    // hashbrown keeps a hash at its low bits, in tables of a power of two at most 7/8 full.
    let places = (capacity * 8 / 7).next_power_of_two().max(1 << BITS) as u64;
    let shift = places.trailing_zeros() - BITS;
    let part = |hash: u64| Parts::<u32>::part(hash) << BITS | ((hash & (places - 1)) >> shift) as usize;
    let mut starts = vec![0usize; (Parts::<u32>::PARTS << BITS) + 1];
    let mut count = 0;
    for (hash, _) in all.clone() {
        starts[part(hash) + 1] += 1;
        count += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut sorted = vec![(0, 0, T::default()); count];
    for (position, (hash, value)) in all.enumerate() {
        let place = &mut starts[part(hash)];
        sorted[*place] = (hash, position as u32, value);
        *place += 1;
    }
    sorted
}

/// The parts of a new slot that [`Slots::insert`] cannot derive.
#[derive(Debug)]
pub(super) struct NewSlot {
    pub(super) pay_by: TimeMs,
    pub(super) as_of: Sequence,
    pub(super) position: u32,
    pub(super) round: u16,
    pub(super) state: SlotState,
}

/// A set of shoppers, such as an uploaded list.
#[derive(Debug, Default)]
pub(super) struct ShopperSet(Parts<ShopperKey>);

impl ShopperSet {
    #[inline]
    pub(super) fn contains(&self, shopper: ShopperKey) -> bool {
        self.0.find(shopper.low_bits(), |k| *k == shopper).is_some()
    }

    /// True if the shopper was not in it yet.
    pub(super) fn insert(&mut self, shopper: ShopperKey) -> bool {
        let is_new = !self.contains(shopper);
        if is_new {
            self.0.insert_unique(shopper.low_bits(), shopper, |k| k.low_bits());
        }
        is_new
    }

    pub(super) fn remove(&mut self, shopper: ShopperKey) {
        if let Some(found) = self.0.find_entry(shopper.low_bits(), |k| *k == shopper) {
            found.remove();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = Parts::default();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// In order, so that a snapshot does not depend on the history of the set.
    pub(super) fn sorted(&self) -> Vec<ShopperKey> {
        let mut keys: Vec<ShopperKey> = self.0.iter().copied().collect();
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_the_size_that_a_sales_memory_estimate_assumes() {
        assert_eq!(size_of::<Slot>(), 80);
    }

    /// What a shopper has, counted slot by slot.
    fn counted(slots: &Slots, shopper: ShopperKey, of: Option<(u16, u16)>) -> Has {
        let mut has = Has::default();
        for (at, slot) in slots.iter().filter(|(_, s)| s.shopper == shopper && s.state.is_active()) {
            let lines = slots.basket(at);
            let counts = |l: &&Line| of.is_none_or(|(round, item)| slot.round == round && l.item == item);
            let units: u64 = lines.iter().filter(counts).map(|l| u64::from(l.quantity)).sum();
            has.units += units;
            has.newest = if units > 0 { Some(at) } else { has.newest };
        }
        has
    }

    #[test]
    fn what_a_shopper_has_is_the_same_by_walk_and_by_sums_at_every_length_of_the_chain() {
        let mut slots = Slots::default();
        let mut prng = units::Prng::new(5);
        let shoppers = [ShopperKey([1; 16]), ShopperKey([2; 16])];
        // Chains grow to a hundred and shrink to nothing, several times.
        for n in 0..4000_u128 {
            let grows = n / 200 % 2 == 0;
            let shopper = shoppers[prng.below(2) as usize];
            if grows || prng.below(8) == 0 {
                let line = |item| Line { item, quantity: 1 + item };
                let items = [0, 1 + prng.below(3) as u16].map(line);
                let basket = Basket::new(&items[..1 + prng.below(2) as usize]).unwrap();
                let new = NewSlot {
                    pay_by: TimeMs(0),
                    as_of: Sequence(1),
                    position: 0,
                    round: prng.below(2) as u16,
                    state: SlotState::Hold(HoldState::Held),
                };
                slots.insert(AttemptId(n.to_le_bytes()), shopper, &basket, new).unwrap();
            }
            let slot = prng.below(slots.len() as u64) as u32;
            if !grows {
                let newest = slots.newest_active_of(shopper);
                let slot = if prng.below(2) == 0 { newest.unwrap_or(slot) } else { slot };
                slots.set_state(slot, SlotState::Hold(HoldState::Expired));
            }
            // Late payments, of any.
            if prng.below(8) == 0 {
                slots.set_state(slot, SlotState::Hold(HoldState::Confirmed));
            }
            for shopper in shoppers {
                let newest = slots.newest_active(shopper);
                let chain: Vec<u32> = slots.active_from(newest).map(|(at, _)| at).collect();
                assert!(chain.is_sorted_by(|newer, older| newer > older), "{chain:?}");
                if let Some(head) = chain.first() {
                    assert_eq!(slots.get(*head).chain_len as usize, chain.len());
                }
                assert_eq!(slots.has(newest), counted(&slots, shopper, None));
                for (round, item) in [(0, 0), (1, 0), (0, 1), (1, 3)] {
                    let counted = counted(&slots, shopper, Some((round, item)));
                    assert_eq!(slots.has_of(newest, round, item), counted, "{round} {item}");
                }
            }
        }
    }

    #[test]
    fn room_is_prepared_once_however_often_it_is_asked_for() {
        let mut slots = Slots::default();
        for _ in 0..3 {
            slots.reserve(100_000);
            while slots.is_unprepared() {
                slots.prepare();
            }
            let prepared = slots.slots.prepared();
            assert!((100_000..100_000 + Pieces::<Slot>::PIECE).contains(&prepared), "{prepared}");
        }
        // What is stored counts, as after a restart.
        for n in 0..50_000_u128 {
            let new = NewSlot {
                pay_by: TimeMs(0),
                as_of: Sequence(1),
                position: 0,
                round: 0,
                state: SlotState::Left,
            };
            let (id, of) = (AttemptId(n.to_le_bytes()), ShopperKey(n.to_le_bytes()));
            slots.insert(id, of, &Basket::single(0, 1), new).unwrap();
        }
        slots.reserve(60_000);
        assert!(!slots.is_unprepared());
        slots.reserve(1_000_000);
        while slots.is_unprepared() {
            slots.prepare();
        }
        let prepared = slots.slots.prepared();
        assert!((1_000_000..1_000_000 + Pieces::<Slot>::PIECE).contains(&prepared), "{prepared}");
    }

    #[test]
    fn a_shoppers_active_slots_stay_in_order_as_slots_come_and_go() {
        let mut slots = Slots::default();
        let shopper = ShopperKey([7; 16]);
        for n in 0..6u8 {
            let new = NewSlot {
                pay_by: TimeMs(0),
                as_of: Sequence(1),
                position: 0,
                round: 0,
                state: SlotState::Hold(HoldState::Held),
            };
            slots.insert(AttemptId([n; 16]), shopper, &Basket::single(0, 1), new).unwrap();
        }
        let check = |slots: &Slots, want: &[u32]| {
            let active = slots.active_from(slots.newest_active(shopper)).map(|(at, _)| at);
            assert_eq!(active.collect::<Vec<_>>(), want);
        };
        let end = |slots: &mut Slots, slot| slots.set_state(slot, SlotState::Hold(HoldState::Expired));
        let again = |slots: &mut Slots, slot| slots.set_state(slot, SlotState::Hold(HoldState::Confirmed));
        check(&slots, &[5, 4, 3, 2, 1, 0]);
        end(&mut slots, 0);
        end(&mut slots, 3);
        end(&mut slots, 5);
        check(&slots, &[4, 2, 1]);
        again(&mut slots, 3);
        again(&mut slots, 5);
        again(&mut slots, 0);
        check(&slots, &[5, 4, 3, 2, 1, 0]);
        [1, 5, 3, 0, 4, 2].into_iter().for_each(|slot| end(&mut slots, slot));
        check(&slots, &[]);
    }
}
