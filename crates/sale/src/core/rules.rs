//! How a sale decides an attempt, what it does when time is due, and its public view. Operators'
//! commands and payments are in [`super::operate`].

use super::record::{Entry, Record};
use super::refusal::RefusalKind;
use super::slots::{Slot, SlotState};
use super::state::{Offer, State};
use super::tally::Tally;
use contracts::{
    Actor, Answer, Attempt, AttemptId, Basket, Found, GateRefusal, HoldState, HoldView, ItemState, ItemStats,
    ItemView, Pause, PauseCause, Place, Refusal, SaleId, SaleSpec, SaleState, SaleStats, SaleView,
    ShopperKey, ShopperRecord, StoredAttempt,
};
use runtime::{Broken, Progress, Step};
use std::sync::Arc;
use units::{DurationMs, Sequence, TimeMs};

/// Refusals are journalled this often, and before anything that could make one of them untrue.
pub const REFUSALS_EVERY: DurationMs = DurationMs(1000);

/// By how much the log may be ahead of the clock, which two machines that follow NTP never are.
pub const CLOCK_AHEAD_MAX: DurationMs = DurationMs(60_000);

/// The work of a promotion in addition to its entry: it takes about twice as long as a grant, and
/// touches pages for the first time.
const PROMOTION_WORK: usize = 3;

/// The same for a hold that expires, and for a place that is taken back.
const END_WORK: usize = 2;

/// Counts in one entry of refusals by gates: 27 KB. A report has 8,192 counts at the most (see
/// `service`), so its entries fit into one step.
const GATE_REFUSALS_MAX: usize = 1024;

/// The most attempts of one shopper that [`Core::shopper`] returns.
const SHOPPER_ATTEMPTS_MAX: usize = 100;

/// One sale: the state and the rules.
#[derive(Debug, Default)]
pub struct Core {
    pub(super) state: State,
    pub(super) tally: Tally,
}

impl Core {
    /// A sale whose log is empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the log's next entries.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        self.look_ahead(entries.iter().filter_map(|entry| match &entry.record {
            Record::Granted { attempt, .. } | Record::Waitlisted { attempt, .. } => Some(attempt),
            _ => None,
        }));
        entries.iter().try_for_each(|entry| self.state.fold(entry))
    }

    /// The last entry of the log that this is the fold of.
    pub fn sequence(&self) -> Sequence {
        self.state.sequence
    }

    /// The time of that entry.
    pub fn time(&self) -> TimeMs {
        self.state.now
    }

    /// Logs a record and applies it.
    pub(super) fn commit(&mut self, now: TimeMs, record: Record, out: &mut Step) -> Result<(), Broken> {
        let entry = Entry { at: now.max(self.state.now), record };
        self.state.fold(&entry)?;
        out.push(&entry);
        Ok(())
    }

    /// Does the promotions that are due, and then what the time requires: opens and closes rounds,
    /// expires holds, journals refusals. Call it before every batch of commands, and at
    /// [`Core::next_wakeup`]. What is due is due by the sale's own time, which is the log's if the
    /// clock is behind it.
    pub fn tick(&mut self, clock: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        let timer = || Actor::new(Actor::TIMER, "");
        let now = clock.max(self.state.now);
        let mut progress = self.promote(now, out)?;
        if progress == Progress::Done && self.state.waitlist_ends_at().is_some_and(|at| at <= now) {
            if out.is_full() {
                return Ok(Progress::More);
            }
            // Before holds expire: who waited gets no unit that comes free from now on.
            let by = Actor::new(Actor::TIMER, "its time is over");
            self.commit(now, Record::WaitlistEnded { by }, out)?;
        }
        if progress == Progress::Done {
            progress = self.empty_waitlist(now, out)?;
        }
        while progress == Progress::Done {
            let round = self.state.rounds_opened;
            let due = if self.state.round_open {
                now >= self.state.rounds[usize::from(round) - 1].closes_at
            } else {
                self.state.next_round().is_some_and(|next| now >= next.opens_at)
            };
            if !due {
                break;
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
            progress = match self.state.round_open {
                true => self.close_round(now, timer(), out).map(|()| Progress::Done)?,
                false => self.open_round(now, timer(), out)?,
            };
        }
        while progress == Progress::Done
            && let Some((pay_by, slot)) = self.state.deadlines.first()
        {
            if pay_by > now {
                break;
            }
            progress = if out.is_full() { Progress::More } else { self.expire(now, slot, out)? };
        }
        if progress == Progress::Done && self.is_ahead_of(clock) {
            if out.is_full() {
                return Ok(Progress::More);
            }
            self.pause_for_the_clock(clock, out)?;
        }
        let due = self.tally.since().is_some_and(|since| clock.since(since) >= REFUSALS_EVERY);
        if progress == Progress::Done && due {
            self.journal_refusals(now, out)?;
        }
        if progress == Progress::Done && out.batch().as_bytes().is_empty() && self.state.wants_room() {
            self.state.slots.prepare();
        }
        Ok(progress)
    }

    /// Whether the log is so far ahead of the clock that one of the two must be wrong, and no
    /// operator has said yet that it may go on.
    fn is_ahead_of(&self, clock: TimeMs) -> bool {
        let state = &self.state;
        state.now.since(clock) > CLOCK_AHEAD_MAX
            && state.spec.is_some()
            // A restored copy waits for an operator already, and for the graver reason.
            && !matches!(state.pause(), Some(PauseCause::Clock | PauseCause::Restored))
            && state.now > state.ahead_accepted
    }

    fn pause_for_the_clock(&mut self, clock: TimeMs, out: &mut Step) -> Result<(), Broken> {
        let now = self.state.now;
        let ahead_s = now.since(clock).0 / 1000;
        let reason = format!("the log's last entry is {ahead_s} s ahead of this machine's clock");
        self.journal_refusals(now, out)?;
        self.commit(now, Record::Paused { by: Actor::new(Actor::CLOCK, &reason) }, out)
    }

    /// Whether a promotion is due, which comes before anything else.
    pub fn owes_promotions(&self) -> bool {
        self.state.owes_promotions()
    }

    /// The items of which it could be: [`Core::owes_promotions`].
    pub fn owed_items(&self) -> impl Iterator<Item = u16> {
        self.state.owed_items()
    }

    /// When [`Core::tick`] has something to do next.
    pub fn next_wakeup(&self) -> Option<TimeMs> {
        let owes = self.state.owes_promotions() || self.state.next_to_leave().is_some();
        if owes || self.state.wants_room() {
            return Some(TimeMs(0));
        }
        let round = if self.state.round_open {
            Some(self.state.rounds[usize::from(self.state.rounds_opened) - 1].closes_at)
        } else {
            self.state.next_round().map(|next| next.opens_at)
        };
        let expiry = self.state.deadlines.first().map(|(pay_by, _)| pay_by);
        let refusals = self.tally.since().map(|since| since.plus(REFUSALS_EVERY));
        [round, self.state.waitlist_ends_at(), expiry, refusals].into_iter().flatten().min()
    }

    /// Looks up all of a batch before any of it is decided, and returns how many are known already.
    /// The look-ups do not depend on each other, so the processor waits for memory once for several
    /// of them instead of once for each.
    pub fn look_ahead<'a>(&self, attempts: impl Iterator<Item = &'a Attempt>) -> usize {
        let known =
            |a: &Attempt| self.state.slots.find(a.id).is_some() | self.state.slots.is_known(a.shopper);
        attempts.filter(|a| known(a)).count()
    }

    /// Decides an attempt. [`Core::tick`] has been called for this `now`.
    pub fn attempt(&mut self, now: TimeMs, attempt: &Attempt, out: &mut Step) -> Result<Answer, Broken> {
        if let Some(answer) = self.stored(attempt) {
            return Ok(answer);
        }
        // Each line has stock, a limit and a waitlist of its own.
        out.spend(attempt.basket.len().saturating_sub(1));
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

    /// The refusals that are not journalled yet.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Restores them in a core that was rebuilt from the log.
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
        if let Err(refusal) = state.within_limits(attempt.shopper, &attempt.basket, round) {
            return refuse(refusal);
        }
        let Some(lacking) = state.lacking(&attempt.basket) else { return Decision::Grant { round } };
        let item = usize::from(lacking.item);
        let stock = &state.stock[item];
        // No place is given for more units than there will ever be.
        let may_fit = u64::from(lacking.quantity) <= stock.free + stock.held + stock.sold;
        let waiting = state.waiting[item].len() as u64;
        if attempt.basket.len() == 1 && may_fit && waiting < state.waitlist_places(lacking.item) {
            return Decision::Wait { round, position: waiting as u32 + 1 };
        }
        Decision::Refuse { refusal: Refusal::SoldOut, item: lacking.item, quantity: lacking.quantity }
    }

    pub(super) fn hold_view(slot: &Slot, state: HoldState) -> HoldView {
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

    /// The state that is kept of a shopper's attempt. Another shopper's attempt is reported as
    /// none.
    pub fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Found {
        match self.state.slots.find(attempt) {
            Some(slot) if self.state.slots.get(slot).shopper == shopper => {
                Found { answer: self.stored_answer(slot), basket: Some(self.state.slots.basket(slot)) }
            }
            _ => Found { answer: Answer::None { as_of: self.state.sequence }, basket: None },
        }
    }

    /// All that is kept of a shopper.
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

    /// Gives freed units to waiting shoppers, first come first served, as far as the step's budget
    /// goes. A shopper who is on the deny list when the turn comes loses the place. Other lists do
    /// not take a place back: an upload comes in parts, and the first clears the list. After
    /// [`Progress::More`] the caller must decide nothing else before the remaining promotions.
    pub(super) fn promote(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        while let Some(waiter) = self.state.next_promotion() {
            if out.is_full() {
                return Ok(Progress::More);
            }
            let slot = self.state.slots.get(waiter.slot);
            if self.state.denied.contains(slot.shopper) {
                let by = Actor::new(Actor::TIMER, "on the deny list");
                let attempt = slot.attempt;
                self.commit(now, Record::Left { attempt, voided: true, by }, out)?;
                out.spend(1);
                continue;
            }
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
            out.spend(PROMOTION_WORK);
        }
        Ok(Progress::Done)
    }

    /// Takes all places back once the waitlist has ended, as far as the step's budget goes.
    pub(super) fn empty_waitlist(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        while let Some(waiter) = self.state.next_to_leave() {
            if out.is_full() {
                return Ok(Progress::More);
            }
            let attempt = self.state.slots.get(waiter.slot).attempt;
            let by = Actor::new(Actor::TIMER, "the waitlist has ended");
            self.commit(now, Record::Left { attempt, voided: true, by }, out)?;
            out.spend(END_WORK);
        }
        Ok(Progress::Done)
    }

    pub(super) fn journal_refusals(&mut self, now: TimeMs, out: &mut Step) -> Result<(), Broken> {
        match self.tally.take() {
            entries if entries.is_empty() => Ok(()),
            entries => self.commit(now, Record::Refusals { entries }, out),
        }
    }

    pub(super) fn open_round(&mut self, now: TimeMs, by: Actor, out: &mut Step) -> Result<Progress, Broken> {
        self.journal_refusals(now, out)?;
        self.commit(now, Record::RoundOpened { round: self.state.rounds_opened, by }, out)?;
        self.promote(now, out)
    }

    pub(super) fn close_round(&mut self, now: TimeMs, by: Actor, out: &mut Step) -> Result<(), Broken> {
        self.journal_refusals(now, out)?;
        self.commit(now, Record::RoundClosed { round: self.state.rounds_opened - 1, by }, out)
    }

    /// Journals what has been refused if this makes units of the basket free, so that each refusal
    /// is in the log before the first entry that could make it untrue.
    pub(super) fn before_restock(
        &mut self,
        now: TimeMs,
        basket: &Basket,
        out: &mut Step,
    ) -> Result<(), Broken> {
        let names = basket.iter().any(|line| self.tally.names_item(line.item));
        if names { self.journal_refusals(now, out) } else { Ok(()) }
    }

    pub(super) fn expire(&mut self, now: TimeMs, slot: u32, out: &mut Step) -> Result<Progress, Broken> {
        let hold = self.state.slots.get(slot).attempt;
        out.spend(END_WORK);
        self.end_hold(now, slot, Record::Expired { hold }, out)
    }

    pub(super) fn end_hold(
        &mut self,
        now: TimeMs,
        slot: u32,
        record: Record,
        out: &mut Step,
    ) -> Result<Progress, Broken> {
        let basket = self.state.slots.basket(slot);
        self.before_restock(now, &basket, out)?;
        self.commit(now, record, out)?;
        self.promote(now, out)
    }

    /// All shoppers of whom an attempt is kept.
    pub fn shoppers(&self) -> impl Iterator<Item = ShopperKey> {
        self.state.slots.shoppers()
    }

    /// Logs refusals that gates sent by themselves. A count for an item or an entry that does not
    /// exist is left out.
    pub fn gate_refusals(
        &mut self,
        now: TimeMs,
        counts: &[GateRefusal],
        out: &mut Step,
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

    /// The sale in figures. `queue` and `line` are filled in by the driver.
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
            pause: state.pause().map(|cause| Pause { cause, as_of: state.state_since }),
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
            refunds_due: state.counts.refunds_due,
            queue: 0,
            line: 0,
        }
    }

    /// The public view; `None` before the sale was set up.
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
            let offer = round.offers[at].or_else(|| self.offer_elsewhere(at));
            ItemView {
                state: match state.stock[at].free {
                    _ if !offered_now && offered_later => ItemState::Upcoming,
                    // After the last round too: an item with free units is never called sold out.
                    1.. => ItemState::Available,
                    0 => ItemState::SoldOut,
                },
                offered: offered_now || offered_later,
                waitlist_open: offered_now
                    && (state.waiting[at].len() as u64) < state.waitlist_places(at as u16),
                price_minor: offer.map_or(0, |o| o.price_minor),
                limit_per_shopper: offer.map_or(0, |o| o.limit),
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
            limit_per_shopper: state.sale_limit,
            rate_per_second: state.rate_per_second,
            disk_full,
            pause: state.pause(),
            is_restored: state.is_restored,
            state_since: state.state_since,
            denied: Arc::clone(&state.denied_shown),
            as_of: state.sequence,
        })
    }

    /// The offer of an item that the current round does not offer: the next one, or the last one.
    fn offer_elsewhere(&self, item: usize) -> Option<Offer> {
        let rounds = &self.state.rounds;
        let later = rounds[usize::from(self.state.rounds_opened).min(rounds.len())..].iter();
        later.chain(rounds.iter().rev()).find_map(|r| r.offers[item])
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
    /// `item` and `quantity`: what was not free, if that was the reason.
    Refuse {
        refusal: Refusal,
        item: u16,
        quantity: u16,
    },
}
