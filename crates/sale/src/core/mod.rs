//! The rules of the flash sale: a deterministic state machine.
//!
//! A command and the time go in; an answer and the records to be logged come out. There is no clock in here, no disk, no
//! thread and no chance. Whoever drives it must make the records durable before anybody hears the answer: see
//! [`crate::worker`].

mod deadlines;
mod fields;
mod operate;
mod record;
mod slots;
mod snapshot;
mod state;
mod tally;
mod waitlist;

pub use record::{Entry, Record, RefusalCount, RefusalKind};
pub use snapshot::SnapshotError;
pub use state::Broken;
pub use tally::Tally;

use contracts::{
    Actor, Answer, Attempt, AttemptId, Basket, Found, GateRefusal, HoldState, HoldView, ItemState, ItemStats,
    ItemView, Place, Refusal, SaleId, SaleSpec, SaleState, SaleStats, SaleView, ShopperKey, ShopperRecord,
    StoredAttempt,
};
use engines::codec::DecodeError;
use engines::log::Batch;
use slots::{Slot, SlotState};
use state::State;
use std::fmt;
use std::sync::Arc;
use units::{DurationMs, Sequence, TimeMs};

/// Refusals are journalled this often, and before anything that could make one of them untrue.
pub const REFUSALS_EVERY: DurationMs = DurationMs(1000);

/// Holds that one call of [`Core::tick`] lets expire; the rest follow in the next. Bounds a batch when a hundred thousand
/// run out in the same second.
pub const EXPIRIES_MAX: usize = 1024;

/// Counts in one entry of what gates have said: 27 KB.
const GATE_REFUSALS_MAX: usize = 1024;

/// Attempts of one shopper that [`Core::shopper`] tells.
const SHOPPER_ATTEMPTS_MAX: usize = 100;

/// Why a log entry could not be replayed.
#[derive(Debug)]
pub enum ReplayError {
    Decode { sequence: Sequence, source: DecodeError },
    Broken { sequence: Sequence, source: Broken },
    Gap { want: Sequence, got: Sequence },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode { sequence, source } => write!(f, "replay entry {sequence}: {source}"),
            Self::Broken { sequence, source } => write!(f, "replay entry {sequence}: breaks {source}"),
            Self::Gap { want, got } => write!(f, "replay: entry {got} comes where {want} should"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl ReplayError {
    /// The invariants that this breaks: INV-7, for what cannot be replayed is no fold, and the one that is named.
    pub fn invariants(&self) -> impl Iterator<Item = &'static str> {
        let named = match self {
            Self::Broken { source, .. } => source.invariant(),
            Self::Decode { .. } | Self::Gap { .. } => None,
        };
        named.into_iter().chain(["INV-7"])
    }
}

/// One sale: the state and the rules.
#[derive(Debug, Default)]
pub struct Core {
    state: State,
    tally: Tally,
}

impl Core {
    /// A sale whose log is empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the log's next entry.
    pub fn replay(&mut self, sequence: Sequence, bytes: &[u8]) -> Result<(), ReplayError> {
        let entry = Entry::decode(bytes).map_err(|source| ReplayError::Decode { sequence, source })?;
        self.replay_entries(sequence, &[entry])
    }

    /// Applies the log's next entries, of which `first` is the first.
    pub fn replay_entries(&mut self, first: Sequence, entries: &[Entry]) -> Result<(), ReplayError> {
        let want = self.state.sequence.next();
        if first != want {
            return Err(ReplayError::Gap { want, got: first });
        }
        self.look_ahead(entries.iter().filter_map(|entry| match &entry.record {
            Record::Granted { attempt, .. } | Record::Waitlisted { attempt, .. } => Some(attempt),
            _ => None,
        }));
        for entry in entries {
            let sequence = self.state.sequence.next();
            self.state.fold(entry).map_err(|source| ReplayError::Broken { sequence, source })?;
        }
        Ok(())
    }

    /// The last entry of which this is the fold.
    pub fn sequence(&self) -> Sequence {
        self.state.sequence
    }

    /// The time of that entry.
    pub fn time(&self) -> TimeMs {
        self.state.now
    }

    /// Logs a record and applies it.
    fn commit(&mut self, now: TimeMs, record: Record, out: &mut Batch) -> Result<(), Broken> {
        let entry = Entry { at: now.max(self.state.now), record };
        self.state.fold(&entry)?;
        out.push_record(&entry);
        Ok(())
    }

    /// Does what time demands: opens and closes rounds, lets holds expire, journals refusals. Call it before every
    /// batch of commands, and at [`Core::next_wakeup`].
    pub fn tick(&mut self, now: TimeMs, out: &mut Batch) -> Result<(), Broken> {
        let timer = || Actor::new("timer", "");
        loop {
            let round = self.state.rounds_opened;
            if self.state.round_open {
                if now < self.state.rounds[usize::from(round) - 1].closes_at {
                    break;
                }
                self.close_round(now, timer(), out)?;
            } else {
                if self.state.next_round().is_none_or(|next| now < next.opens_at) {
                    break;
                }
                self.open_round(now, timer(), out)?;
            }
        }
        for _ in 0..EXPIRIES_MAX {
            let Some((pay_by, slot)) = self.state.deadlines.first() else { break };
            if pay_by > now {
                break;
            }
            self.expire(now, slot, out)?;
        }
        if self.tally.since().is_some_and(|since| now.since(since) >= REFUSALS_EVERY) {
            self.journal_refusals(now, out)?;
        }
        Ok(())
    }

    /// When [`Core::tick`] has something to do next.
    pub fn next_wakeup(&self) -> Option<TimeMs> {
        let round = if self.state.round_open {
            Some(self.state.rounds[usize::from(self.state.rounds_opened) - 1].closes_at)
        } else {
            self.state.next_round().map(|next| next.opens_at)
        };
        let expiry = self.state.deadlines.first().map(|(pay_by, _)| pay_by);
        let refusals = self.tally.since().map(|since| since.plus(REFUSALS_EVERY));
        [round, expiry, refusals].into_iter().flatten().min()
    }

    /// Looks up all of a batch before any of it is decided, and returns how many are known already. The look-ups do not depend
    /// on each other, so the processor waits for memory once for several of them instead of once for each.
    pub fn look_ahead<'a>(&self, attempts: impl Iterator<Item = &'a Attempt>) -> usize {
        let known =
            |a: &Attempt| self.state.slots.find(a.id).is_some() | self.state.slots.is_known(a.shopper);
        attempts.filter(|a| known(a)).count()
    }

    /// Decides an attempt. [`Core::tick`] has been called for this `now`.
    pub fn attempt(&mut self, now: TimeMs, attempt: &Attempt, out: &mut Batch) -> Result<Answer, Broken> {
        if let Some(answer) = self.stored(attempt) {
            return Ok(answer);
        }
        match self.decide(attempt) {
            Decision::Grant { round } => {
                let pay_by = now.max(self.state.now).plus(self.state.hold_length());
                self.commit(now, Record::Granted { attempt: *attempt, round, pay_by }, out)?;
                let granted_as_of = self.state.sequence;
                Ok(Answer::Granted(HoldView { state: HoldState::Held, pay_by, granted_as_of }))
            }
            Decision::Wait { round, position } => {
                self.commit(now, Record::Waitlisted { attempt: *attempt, round, position }, out)?;
                Ok(Answer::Waitlisted { position, place: Place::Waiting })
            }
            Decision::Refuse { refusal, item, quantity } => {
                let as_of = self.state.sequence;
                self.tally.note(now, refusal.into(), item, quantity, as_of);
                Ok(Answer::Refused { refusal, as_of })
            }
        }
    }

    /// The answer to an attempt that was stored already; `None` if it is new.
    pub fn stored(&self, attempt: &Attempt) -> Option<Answer> {
        let slot = self.state.slots.find(attempt.id)?;
        let same = self.state.slots.get(slot).shopper == attempt.shopper
            && self.state.slots.basket(slot) == attempt.basket;
        Some(if same { self.stored_answer(slot) } else { Answer::KeyReused })
    }

    /// The refusals that were said and are not journalled yet.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Takes them over into a core that was built again from the log.
    pub fn set_tally(&mut self, tally: Tally) {
        self.tally = tally;
    }

    fn decide(&self, attempt: &Attempt) -> Decision {
        let refuse = |refusal| Decision::Refuse { refusal, item: 0, quantity: 0 };
        let state = &self.state;
        if state.spec.is_none() {
            return refuse(Refusal::NotOpen);
        }
        let Some(round) = state.open_round() else {
            let over = state.next_round().is_none();
            return refuse(if over { Refusal::Closed } else { Refusal::NotOpen });
        };
        if state.paused {
            return refuse(Refusal::Paused);
        }
        if !state.eligible(attempt.shopper, attempt.tier) {
            return refuse(Refusal::NotEligible);
        }
        if !state.offers(round, &attempt.basket) {
            return refuse(Refusal::NotOpen);
        }
        if let Err(refusal) = state.within_limits(attempt.shopper, &attempt.basket, round, None) {
            return refuse(refusal);
        }
        let Some(lacking) = state.lacking(&attempt.basket) else { return Decision::Grant { round } };
        let item = usize::from(lacking.item);
        let stock = &state.stock[item];
        // Nobody is told to wait for more than there will ever be.
        let may_fit = u64::from(lacking.quantity) <= stock.free + stock.held + stock.sold;
        let waiting = state.waiting[item].len() as u64;
        if attempt.basket.len() == 1 && may_fit && waiting < state.waitlist_places(lacking.item) {
            return Decision::Wait { round, position: waiting as u32 + 1 };
        }
        Decision::Refuse { refusal: Refusal::SoldOut, item: lacking.item, quantity: lacking.quantity }
    }

    fn hold_view(slot: &Slot, state: HoldState) -> HoldView {
        HoldView { state, pay_by: slot.pay_by, granted_as_of: slot.as_of }
    }

    fn stored_answer(&self, slot: u32) -> Answer {
        let slot = self.state.slots.get(slot);
        match slot.state {
            SlotState::Hold(state) if slot.position == 0 => Answer::Granted(Self::hold_view(slot, state)),
            SlotState::Hold(state) => {
                let place = Place::Promoted(Self::hold_view(slot, state));
                Answer::Waitlisted { position: slot.position, place }
            }
            SlotState::Waiting => Answer::Waitlisted { position: slot.position, place: Place::Waiting },
            SlotState::Left => Answer::Waitlisted { position: slot.position, place: Place::Left },
        }
    }

    /// What is kept of a shopper's attempt. Somebody else's attempt looks like none.
    pub fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Found {
        match self.state.slots.find(attempt) {
            Some(slot) if self.state.slots.get(slot).shopper == shopper => {
                Found { answer: self.stored_answer(slot), basket: Some(self.state.slots.basket(slot)) }
            }
            _ => Found { answer: Answer::None { as_of: self.state.sequence }, basket: None },
        }
    }

    /// What is kept of a shopper.
    pub fn shopper(&self, shopper: ShopperKey) -> ShopperRecord {
        let stored = |(at, slot): (u32, &Slot)| StoredAttempt {
            id: slot.attempt,
            basket: self.state.slots.basket(at),
            answer: self.stored_answer(at),
        };
        ShopperRecord {
            attempts: self.state.slots.all_of(shopper).take(SHOPPER_ATTEMPTS_MAX).map(stored).collect(),
            reserved: self.state.reserved.contains(shopper),
            as_of: self.state.sequence,
        }
    }

    /// Gives what has become free to those who wait for it, first come first served.
    fn promote(&mut self, now: TimeMs, item: u16, out: &mut Batch) -> Result<(), Broken> {
        while !self.state.paused {
            let free = self.state.stock[usize::from(item)].free;
            let Some(waiter) = self.state.waiting[usize::from(item)].first_fitting(free).copied() else {
                break;
            };
            let slot = self.state.slots.get(waiter.slot);
            let attempt = Attempt {
                id: slot.attempt,
                shopper: slot.shopper,
                sealed: waiter.sealed,
                tier: waiter.tier,
                basket: self.state.slots.basket(waiter.slot),
            };
            let round = slot.round;
            let pay_by = now.max(self.state.now).plus(self.state.hold_length());
            self.commit(now, Record::Promoted { attempt, round, pay_by }, out)?;
        }
        Ok(())
    }

    fn promote_basket(&mut self, now: TimeMs, basket: &Basket, out: &mut Batch) -> Result<(), Broken> {
        basket.iter().try_for_each(|line| self.promote(now, line.item, out))
    }

    fn promote_all(&mut self, now: TimeMs, out: &mut Batch) -> Result<(), Broken> {
        (0..self.state.stock.len()).try_for_each(|item| self.promote(now, item as u16, out))
    }

    pub(crate) fn journal_refusals(&mut self, now: TimeMs, out: &mut Batch) -> Result<(), Broken> {
        match self.tally.take() {
            entries if entries.is_empty() => Ok(()),
            entries => self.commit(now, Record::Refusals { entries }, out),
        }
    }

    fn open_round(&mut self, now: TimeMs, by: Actor, out: &mut Batch) -> Result<(), Broken> {
        self.journal_refusals(now, out)?;
        self.commit(now, Record::RoundOpened { round: self.state.rounds_opened, by }, out)?;
        self.promote_all(now, out)
    }

    fn close_round(&mut self, now: TimeMs, by: Actor, out: &mut Batch) -> Result<(), Broken> {
        self.journal_refusals(now, out)?;
        self.commit(now, Record::RoundClosed { round: self.state.rounds_opened - 1, by }, out)
    }

    /// Journals what has been refused if this makes units of the basket free, so that each refusal stands in the log before
    /// the first entry that could make it untrue.
    fn before_restock(&mut self, now: TimeMs, basket: &Basket, out: &mut Batch) -> Result<(), Broken> {
        let names = basket.iter().any(|line| self.tally.names_item(line.item));
        if names { self.journal_refusals(now, out) } else { Ok(()) }
    }

    fn expire(&mut self, now: TimeMs, slot: u32, out: &mut Batch) -> Result<(), Broken> {
        let hold = self.state.slots.get(slot).attempt;
        self.end_hold(now, slot, Record::Expired { hold }, out)
    }

    fn end_hold(&mut self, now: TimeMs, slot: u32, record: Record, out: &mut Batch) -> Result<(), Broken> {
        let basket = self.state.slots.basket(slot);
        self.before_restock(now, &basket, out)?;
        self.commit(now, record, out)?;
        self.promote_basket(now, &basket, out)
    }

    /// Everybody of whom an attempt is kept.
    pub fn shoppers(&self) -> impl Iterator<Item = ShopperKey> {
        self.state.slots.shoppers()
    }

    /// Logs what gates have told shoppers by themselves. A count of an item or an entry that there is not is left out.
    pub fn gate_refusals(
        &mut self,
        now: TimeMs,
        counts: &[GateRefusal],
        out: &mut Batch,
    ) -> Result<(), Broken> {
        let (mut sold_out, mut not_eligible) = (Vec::new(), Vec::new());
        for said in counts {
            let (first, last) = said.entries();
            if first > last || last > self.state.sequence {
                continue;
            }
            match *said {
                GateRefusal::SoldOut(said) if usize::from(said.item) < self.state.stock.len() => {
                    sold_out.push(said);
                }
                GateRefusal::SoldOut(_) => {}
                GateRefusal::NotEligible(said) => not_eligible.push(said),
            }
        }
        for chunk in sold_out.chunks(GATE_REFUSALS_MAX) {
            self.commit(now, Record::GateRefusals { entries: chunk.to_vec() }, out)?;
        }
        for chunk in not_eligible.chunks(GATE_REFUSALS_MAX) {
            self.commit(now, Record::GateNotEligible { entries: chunk.to_vec() }, out)?;
        }
        Ok(())
    }

    /// The sale in figures. `queue` and `line` are the driver's to fill in.
    pub fn stats(&self) -> SaleStats {
        let state = &self.state;
        let items = state.spec.iter().flat_map(|spec| &spec.items).zip(&state.stock).zip(&state.waiting);
        let mut outcomes: std::collections::BTreeMap<String, u64> = RefusalKind::ALL
            .iter()
            .map(|kind| (kind.as_str().to_owned(), state.counts.refused[*kind as usize - 1]))
            .collect();
        outcomes.insert("granted".into(), state.counts.granted);
        outcomes.insert("waitlisted".into(), state.counts.waitlisted);
        outcomes.insert("promoted".into(), state.counts.promoted);
        SaleStats {
            as_of: state.sequence,
            items: items
                .map(|((item, stock), waiting)| ItemStats {
                    item: item.item.clone(),
                    initial: stock.initial,
                    adjustments: stock.adjusted,
                    free: stock.free,
                    held: stock.held,
                    sold: stock.sold,
                    waiting: waiting.len() as u64,
                })
                .collect(),
            outcomes,
            reservations: state.reserved.len() as u64,
            denied: state.denied.len() as u64,
            allowed: state.allowed.len() as u64,
            rate_per_second: state.rate_per_second,
            queue: 0,
            line: 0,
        }
    }

    /// What everybody may see; `None` before the sale was set up.
    pub fn view(&self, sale: &SaleId, disk_full: bool) -> Option<SaleView> {
        let state = &self.state;
        let spec = state.spec.as_ref()?;
        let current = if state.round_open {
            usize::from(state.rounds_opened) - 1
        } else {
            usize::from(state.rounds_opened)
        };
        let current = current.min(state.rounds.len() - 1);
        let round = &state.rounds[current];
        let sale_state = match (state.round_open, state.next_round()) {
            (false, None) => SaleState::Closed,
            _ if state.paused || disk_full => SaleState::Paused,
            (true, _) => SaleState::Open,
            (false, Some(_)) => SaleState::Scheduled,
        };
        let later = &state.rounds[usize::from(state.rounds_opened).min(state.rounds.len())..];
        let item = |at: usize| {
            let offered_now = state.round_open && round.offers[at].is_some();
            let offered_later = later.iter().any(|r| r.offers[at].is_some());
            ItemView {
                state: match state.stock[at].free {
                    _ if !offered_now && offered_later => ItemState::Upcoming,
                    // Behind the last round too: nobody is ever told "sold out" of what is there.
                    1.. => ItemState::Available,
                    0 => ItemState::SoldOut,
                },
                offered: offered_now || offered_later,
                waitlist_open: offered_now
                    && (state.waiting[at].len() as u64) < state.waitlist_places(at as u16),
                price_minor: round.offers[at].map_or_else(|| self.price(at), |o| o.price_minor),
                sold_out_since: state.stock[at].empty_since.max(state.state_since),
            }
        };
        Some(SaleView {
            sale: sale.clone(),
            spec: Arc::clone(spec),
            state: sale_state,
            rounds_opened: state.rounds_opened,
            opens_at: round.opens_at,
            closes_at: round.closes_at,
            items: (0..state.stock.len()).map(item).collect(),
            rate_per_second: state.rate_per_second,
            disk_full,
            state_since: state.state_since,
            denied: Arc::clone(&state.denied_shown),
            as_of: state.sequence,
        })
    }

    /// The price of an item that the current round does not offer: the next one's, or the last one's.
    fn price(&self, item: usize) -> u64 {
        let rounds = &self.state.rounds;
        let later = rounds[usize::from(self.state.rounds_opened).min(rounds.len())..].iter();
        later.chain(rounds.iter().rev()).find_map(|r| r.offers[item]).map_or(0, |offer| offer.price_minor)
    }

    /// The sale's document, as it was last set.
    pub fn spec(&self) -> Option<&Arc<SaleSpec>> {
        self.state.spec.as_ref()
    }
}

enum Decision {
    Grant {
        round: u16,
    },
    Wait {
        round: u16,
        position: u32,
    },
    /// `item` and `quantity`: what was not free, where that was the reason.
    Refuse {
        refusal: Refusal,
        item: u16,
        quantity: u16,
    },
}
