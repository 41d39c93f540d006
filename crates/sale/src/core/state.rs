//! The state of one sale, and how each record changes it.
//!
//! [`State::fold`] is the only place that changes anything: the live sale, recovery, a rehearsal
//! and the simulator all go through it. It refuses a record that would break an invariant, wherever
//! the record comes from.

use super::command_keys::CommandKeys;
use super::deadlines::Deadlines;
use super::due::DueItems;
use super::long_chains::Has;
use super::record::{Entry, Record};
use super::refusal::RefusalKind;
use super::slots::{NewSlot, ShopperSet, SlotState, Slots};
use super::waitlist::{Waiter, WaitingList};
use contracts::{
    Attempt, AttemptId, Basket, DeniedShoppers, HoldState, LatePayment, ListKind, PauseCause, Refusal,
    SaleSpec, ShopperKey,
};
use runtime::{Broken, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use units::{DurationMs, Sequence, TimeMs};

/// What a round offers of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) stock: u64,
    pub(super) price_minor: u64,
    /// Units per shopper in this round; 0 is no limit.
    pub(super) limit: u32,
}

/// A round, with what operators have changed.
#[derive(Debug, Clone)]
pub(super) struct Round {
    /// When it is to open; once it has opened, when it did. The same for its end.
    pub(super) opens_at: TimeMs,
    pub(super) closes_at: TimeMs,
    /// By item of the sale.
    pub(super) offers: Vec<Option<Offer>>,
}

/// An item's units. INV-6: `initial + adjusted = free + held + sold`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stock {
    pub(super) initial: u64,
    pub(super) adjusted: i64,
    pub(super) free: u64,
    pub(super) held: u64,
    pub(super) sold: u64,
    /// If nothing is free: an entry since which this has been so. Not kept in snapshots: after a
    /// restore it is the snapshot's entry.
    pub(super) empty_since: Sequence,
}

impl Stock {
    /// Takes free units, as the entry says.
    fn take(&mut self, units: u64, entry: Sequence) -> Option<()> {
        self.free = self.free.checked_sub(units)?;
        if self.free == 0 {
            self.empty_since = entry;
        }
        Some(())
    }
}

/// A payment that a hold has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payment {
    pub(super) reference: Arc<str>,
    pub(super) kind: PaymentKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentKind {
    Confirmed,
    ConfirmedLate,
    Refund,
}

/// Counts since the log began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) granted: u64,
    pub(super) waitlisted: u64,
    pub(super) promoted: u64,
    /// Payments that must be refunded. Not in snapshots, for it follows from the payments.
    pub(super) refunds_due: u64,
    /// By [`RefusalKind`] number minus one; as journalled.
    pub(super) refused: [u64; RefusalKind::ALL.len()],
}

/// The fold of the log.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sequence: Sequence,
    /// Time of the last record: the sale's own time never runs backwards.
    pub(super) now: TimeMs,
    pub(super) spec: Option<Arc<SaleSpec>>,
    pub(super) rounds: Vec<Round>,
    pub(super) rounds_opened: u16,
    /// The last opened round is still open.
    pub(super) round_open: bool,
    pub(super) paused: bool,
    /// Why, if it is.
    pub(super) pause_cause: PauseCause,
    /// The time of the entry by which an operator last accepted that the log is ahead of the clock.
    pub(super) ahead_accepted: TimeMs,
    /// No place on a waitlist is given any more.
    pub(super) waitlist_ended: bool,
    /// A backup was restored, and this is what came of it.
    pub(super) is_restored: bool,
    /// The last entry journalled refusals while something was due, whose entry must follow.
    /// Never true between two batches, so not in snapshots.
    owes_timers: bool,
    /// An entry since which the sale has been open, paused or closed as it is. As
    /// [`Stock::empty_since`], not in snapshots.
    pub(super) state_since: Sequence,
    pub(super) stock: Vec<Stock>,
    pub(super) waiting: Vec<WaitingList>,
    pub(super) sale_limit: u32,
    pub(super) rate_per_second: u32,
    pub(super) slots: Slots,
    /// By slot.
    pub(super) payments: BTreeMap<u32, Vec<Payment>>,
    /// The slot for which a payment was reported, by its reference. Not in snapshots.
    pub(super) paid_for: BTreeMap<Arc<str>, u32>,
    /// Of operators' commands that were carried out.
    pub(super) command_keys: CommandKeys,
    /// Of every hold that is held.
    pub(super) deadlines: Deadlines,
    pub(super) reserved: ShopperSet,
    pub(super) allowed: ShopperSet,
    pub(super) denied: ShopperSet,
    /// The same for the public view. The writer asks its own table, which answers in one look-up.
    pub(super) denied_shown: Arc<DeniedShoppers>,
    pub(super) counts: Counts,
    /// Items of which units became free, or may be given again since the pause ended, and whose
    /// waitlist has not been checked for a place that fits.
    pub(super) due: DueItems,
}

impl State {
    /// The open round's number.
    pub(super) fn open_round(&self) -> Option<u16> {
        self.round_open.then(|| self.rounds_opened - 1)
    }

    /// Why the sale is paused, if it is.
    pub(super) fn pause(&self) -> Option<PauseCause> {
        self.paused.then_some(self.pause_cause)
    }

    /// The next round to open.
    pub(super) fn next_round(&self) -> Option<&Round> {
        self.rounds.get(usize::from(self.rounds_opened))
    }

    /// Whether there is room to prepare for attempts that may still come.
    pub(super) fn wants_room(&self) -> bool {
        self.slots.is_unprepared() && (self.round_open || self.next_round().is_some())
    }

    pub(super) fn offer(&self, round: u16, item: u16) -> Option<&Offer> {
        self.rounds.get(usize::from(round))?.offers.get(usize::from(item))?.as_ref()
    }

    /// The first line of the basket that asks for more than is free.
    pub(super) fn lacking(&self, basket: &Basket) -> Option<contracts::Line> {
        let lacks = |l: &&contracts::Line| {
            self.stock.get(usize::from(l.item)).is_none_or(|s| s.free < u64::from(l.quantity))
        };
        basket.iter().find(lacks).copied()
    }

    /// Whether the shopper may buy.
    pub(super) fn eligible(&self, shopper: ShopperKey, tier: u8) -> bool {
        let Some(rule) = self.spec.as_ref().map(|spec| spec.eligibility) else { return false };
        tier >= rule.tier_min()
            && (!rule.wants_reservation() || self.reserved.contains(shopper))
            && (!rule.wants_list() || self.allowed.contains(shopper))
            && !self.denied.contains(shopper)
    }

    /// Whether the round offers all that is in the basket.
    pub(super) fn offers(&self, round: u16, basket: &Basket) -> bool {
        basket.iter().all(|line| self.offer(round, line.item).is_some())
    }

    /// How long a hold waits to be paid.
    pub(super) fn hold_length(&self) -> DurationMs {
        DurationMs::seconds(self.spec.as_ref().map_or(0, |spec| spec.hold_seconds))
    }

    /// INV-5: whether granting this basket now would overtake a waiting place that fits.
    pub(super) fn overtakes(&self, basket: &Basket) -> bool {
        basket.iter().any(|line| self.first_fitting(line.item).is_some())
    }

    /// Places on the waitlist of an item.
    pub(super) fn waitlist_places(&self, item: u16) -> u64 {
        if self.waitlist_ended {
            return 0;
        }
        let stock = &self.stock[usize::from(item)];
        let units = stock.initial.saturating_add_signed(stock.adjusted);
        self.spec.as_ref().map_or(0, |spec| spec.waitlist.places(units))
    }

    /// INV-3: whether the shopper may have this basket in addition to what they have.
    pub(super) fn within_limits(
        &self,
        shopper: ShopperKey,
        basket: &Basket,
        round: u16,
    ) -> Result<(), Refusal> {
        let newest = self.slots.newest_active(shopper);
        let check = |units: u64, limit: u32, has: Has| {
            let held_by = has.newest.map(|slot| self.slots.get(slot).attempt);
            let over = limit > 0 && has.units + units > u64::from(limit);
            if over { Err(Refusal::LimitReached { held_by }) } else { Ok(()) }
        };
        if self.sale_limit > 0 {
            let units = basket.iter().map(|line| u64::from(line.quantity)).sum();
            check(units, self.sale_limit, self.slots.has(newest))?;
        }
        for line in basket.iter() {
            let limit = self.offer(round, line.item).map_or(0, |offer| offer.limit);
            if limit > 0 {
                check(line.quantity.into(), limit, self.slots.has_of(newest, round, line.item))?;
            }
        }
        Ok(())
    }

    /// Applies the next record of the log, whether it was read from the log or has just been
    /// decided: both pass the same checks.
    pub(super) fn fold(&mut self, entry: &Entry) -> Result<(), Broken> {
        ensure(entry.at >= self.now, "time", || format!("record of {} after one of {}", entry.at, self.now))?;
        self.is_in_time(entry)?;
        if !self.due.is_empty() && !self.paused && !entry.record.may_precede_promotions() {
            self.nobody_waits_for_what_is_free()?;
            self.due.clear();
        }
        self.apply(entry, self.sequence.next())?;
        self.now = entry.at;
        self.sequence = self.sequence.next();
        Ok(())
    }

    /// Time has done its work before anything is decided: holds have expired and rounds have turned
    /// by then. The timers expire holds in the order of their ends, and journal refusals only
    /// directly before the entry that is due.
    fn is_in_time(&mut self, entry: &Entry) -> Result<(), Broken> {
        let Entry { at, record } = entry;
        if record.is_decision() {
            self.nothing_is_due(*at)?;
        }
        let owed = std::mem::take(&mut self.owes_timers);
        ensure(!owed || record.is_timers(), "INV-2", || {
            format!("a hold or a round was due at {}, and is not ended", self.now)
        })?;
        if matches!(record, Record::Refusals { .. }) {
            self.owes_timers = self.nothing_is_due(*at).is_err();
        }
        Ok(())
    }

    fn nothing_is_due(&self, at: TimeMs) -> Result<(), Broken> {
        if let Some((pay_by, slot)) = self.deadlines.first() {
            ensure(pay_by > at, "INV-2", || {
                format!(
                    "{} is still held at {at}, its time was over at {pay_by}",
                    self.slots.get(slot).attempt
                )
            })?;
        }
        let ended_at = self.waitlist_ends_at().filter(|ends_at| *ends_at <= at);
        ensure(ended_at.is_none(), "INV-4", || {
            format!("the waitlist goes on at {at}, and was to end at {}", ended_at.unwrap_or_default())
        })?;
        ensure(self.next_to_leave().is_none(), "INV-4", || "some wait after the waitlist's end".into())?;
        let turns_at = match self.open_round() {
            Some(round) => Some(self.rounds[usize::from(round)].closes_at),
            None => self.next_round().map(|next| next.opens_at),
        };
        let due = turns_at.filter(|turns_at| *turns_at <= at);
        ensure(due.is_none(), "rounds", || {
            let ends = if self.round_open { "close" } else { "open" };
            format!("at {at} a round was to {ends}, at {}", due.unwrap_or_default())
        })
    }

    fn apply(&mut self, entry: &Entry, sequence: Sequence) -> Result<(), Broken> {
        let at = entry.at;
        match &entry.record {
            Record::Defined { spec, .. } => self.define(spec),
            Record::RoundOpened { round, by } => {
                let early = by.is_timer() && self.next_round().is_some_and(|next| at < next.opens_at);
                ensure(!early, "rounds", || format!("round {round} opens at {at}, before its time"))?;
                self.state_since = sequence;
                self.open(*round, at)
            }
            Record::RoundClosed { round, by } => {
                ensure(self.open_round() == Some(*round), "rounds", || format!("round {round} is not open"))?;
                let closed = &mut self.rounds[usize::from(*round)];
                let early = by.is_timer() && at < closed.closes_at;
                ensure(!early, "rounds", || format!("round {round} closes at {at}, before its time"))?;
                closed.closes_at = at;
                self.state_since = sequence;
                self.round_open = false;
                Ok(())
            }
            Record::Paused { by } => {
                self.state_since = sequence;
                self.paused = true;
                self.pause_cause = PauseCause::of(by);
                self.is_restored |= self.pause_cause == PauseCause::Restored;
                Ok(())
            }
            Record::Resumed { .. } => {
                self.state_since = sequence;
                if self.pause() == Some(PauseCause::Clock) {
                    self.ahead_accepted = at;
                }
                self.paused = false;
                self.due.add_all(self.stock.len());
                Ok(())
            }
            Record::Extended { round, closes_at, .. } => {
                ensure(self.open_round() == Some(*round), "rounds", || format!("round {round} is not open"))?;
                let over = self.next_round().is_some_and(|next| *closes_at > next.opens_at);
                ensure(!over, "rounds", || format!("round {round} is extended into the next"))?;
                self.rounds[usize::from(*round)].closes_at = *closes_at;
                Ok(())
            }
            Record::Adjusted { item, delta, .. } => self.adjust(*item, *delta, sequence),
            Record::Limits { sale, items, .. } => {
                for limit in items {
                    let offer = self
                        .rounds
                        .get_mut(usize::from(limit.round))
                        .and_then(|r| r.offers.get_mut(usize::from(limit.item))?.as_mut());
                    offer.ok_or_else(|| Broken { rule: "limits", detail: "no such offer".into() })?.limit =
                        u32::from(limit.limit);
                }
                self.sale_limit = sale.unwrap_or(self.sale_limit);
                Ok(())
            }
            Record::Rate { per_second, .. } => {
                self.rate_per_second = *per_second;
                Ok(())
            }
            Record::List { list: ListKind::Allowed, clear, shoppers, .. } => {
                if *clear {
                    self.allowed.clear();
                }
                for shopper in shoppers {
                    self.allowed.insert(*shopper);
                }
                Ok(())
            }
            Record::List { list: ListKind::Denied, clear, shoppers, .. } => {
                if *clear {
                    self.denied.clear();
                    self.denied_shown = Arc::default();
                }
                self.deny(shoppers, sequence);
                Ok(())
            }
            Record::Reserved { shopper, reserved } => {
                if *reserved {
                    self.reserved.insert(*shopper);
                } else {
                    self.reserved.remove(*shopper);
                }
                Ok(())
            }
            Record::WaitlistEnded { by } => {
                let is_time = self.waitlist_ends_at().is_some_and(|ends_at| ends_at <= at);
                ensure(!by.is_timer() || is_time, "INV-4", || {
                    "the waitlist ends before its time, and no operator said so".into()
                })?;
                self.waitlist_ended = true;
                Ok(())
            }
            Record::CommandDone { key, answer } => {
                ensure(self.command_keys.insert(*key, *answer), "INV-4", || {
                    "a command was carried out a second time under its key".into()
                })
            }
            Record::Granted { attempt, round, pay_by } => {
                self.may_be_accepted(attempt, *round)?;
                self.is_hold_length(attempt.id, at, *pay_by)?;
                self.grant(attempt, *round, *pay_by, sequence)
            }
            Record::Waitlisted { attempt, round, position } => {
                self.may_be_accepted(attempt, *round)?;
                self.wait(attempt, *round, *position, sequence)
            }
            Record::Promoted { attempt, round, pay_by } => {
                self.is_hold_length(attempt.id, at, *pay_by)?;
                self.promote(attempt, *round, *pay_by, sequence)
            }
            Record::Confirmed { hold, payment, late, .. } => self.confirm(*hold, payment, *late, sequence),
            Record::RefundDue { hold, payment, .. } => {
                let slot = self.slot(*hold)?;
                let state = self.slots.get(slot).state;
                let over = matches!(state, SlotState::Hold(state) if state != HoldState::Held);
                ensure(over, "INV-4", || format!("{hold} is {state:?}, and its payment goes back"))?;
                self.note_payment(slot, payment, PaymentKind::Refund)
            }
            Record::Released { hold, .. } => {
                let slot = self.slot(*hold)?;
                match self.slots.get(slot).state {
                    SlotState::Waiting => self.leave(slot),
                    _ => self.end_hold(slot, HoldState::Released),
                }
            }
            Record::Expired { hold } => {
                let slot = self.slot(*hold)?;
                let pay_by = self.slots.get(slot).pay_by;
                ensure(at >= pay_by, "INV-4", || format!("{hold} expires at {at}, before {pay_by}"))?;
                let in_order = self.deadlines.first().is_none_or(|(first, _)| first >= pay_by);
                ensure(in_order, "INV-2", || {
                    format!("{hold} expires before one whose time was over earlier")
                })?;
                self.end_hold(slot, HoldState::Expired)
            }
            Record::Voided { hold, .. } => {
                let slot = self.slot(*hold)?;
                match self.slots.get(slot).state {
                    SlotState::Waiting => self.leave(slot),
                    _ => self.end_hold(slot, HoldState::Voided),
                }
            }
            Record::Left { attempt, by, .. } => {
                let slot = self.slot(*attempt)?;
                let denied = self.denied.contains(self.slots.get(slot).shopper);
                ensure(!by.is_timer() || denied || self.waitlist_ended, "INV-4", || {
                    format!("{attempt} is taken off the line, and its shopper is not denied")
                })?;
                let state = self.slots.get(slot).state;
                ensure(state == SlotState::Waiting, "INV-4", || {
                    format!("{attempt} is {state:?}, and leaves")
                })?;
                self.leave(slot)
            }
            Record::Refusals { entries } => {
                for e in entries {
                    self.count_refused(e.kind, e.count);
                }
                Ok(())
            }
            Record::GateRefusals { entries } => {
                for e in entries {
                    let known = usize::from(e.item) < self.stock.len();
                    ensure(
                        known && e.first_as_of <= e.last_as_of && e.last_as_of < sequence,
                        "INV-4",
                        || format!("item {} sold out as of {} to {}", e.item, e.first_as_of, e.last_as_of),
                    )?;
                    self.count_refused(RefusalKind::SoldOut, e.count);
                }
                Ok(())
            }
            Record::GateNotEligible { entries } => {
                for e in entries {
                    ensure(e.first_as_of <= e.last_as_of && e.last_as_of < sequence, "INV-4", || {
                        format!("not eligible as of {} to {}", e.first_as_of, e.last_as_of)
                    })?;
                    self.count_refused(RefusalKind::NotEligible, e.count);
                }
                Ok(())
            }
            Record::SpaceRegained { refused, .. } => {
                self.count_refused(RefusalKind::Paused, *refused);
                Ok(())
            }
        }
    }

    /// Puts shoppers on the deny list, as the entry says.
    pub(super) fn deny(&mut self, shoppers: &[ShopperKey], entry: Sequence) {
        let new = shoppers.iter().copied().filter(|shopper| self.denied.insert(*shopper)).collect();
        self.denied_shown = Arc::new(self.denied_shown.and(new, entry));
    }

    /// A count in a log may be any number; the sum saturates.
    fn count_refused(&mut self, kind: RefusalKind, count: u64) {
        let sum = &mut self.counts.refused[kind as usize - 1];
        *sum = sum.saturating_add(count);
    }

    fn slot(&self, attempt: AttemptId) -> Result<u32, Broken> {
        self.slots
            .find(attempt)
            .ok_or_else(|| Broken { rule: "INV-4", detail: format!("no attempt {attempt}") })
    }

    fn define(&mut self, spec: &SaleSpec) -> Result<(), Broken> {
        ensure(self.rounds_opened == 0 && self.slots.len() == 0, "define", || "the sale has begun".into())?;
        let stock_all = spec.rounds.iter().flat_map(|r| &r.items).map(|i| i.stock).sum::<u64>();
        // Half as much again for holds that expire and whose units are granted again; at most what
        // fits into 200 MiB.
        let room = (stock_all + stock_all / 2).min(2_000_000) as usize;
        self.slots.reserve(room);
        self.stock = vec![Stock::default(); spec.items.len()];
        self.waiting = spec.items.iter().map(|_| WaitingList::default()).collect();
        self.due.clear();
        self.sale_limit = spec.limit_per_shopper;
        self.rounds = rounds_of(spec);
        self.spec = Some(Arc::new(spec.clone()));
        Ok(())
    }

    fn open(&mut self, round: u16, at: TimeMs) -> Result<(), Broken> {
        let next = !self.round_open && round == self.rounds_opened && usize::from(round) < self.rounds.len();
        ensure(next, "rounds", || format!("round {round} cannot open now"))?;
        let opened = &mut self.rounds[usize::from(round)];
        opened.opens_at = at;
        for (stock, offer) in self.stock.iter_mut().zip(&opened.offers) {
            let units = offer.map_or(0, |o| o.stock);
            stock.initial += units;
            stock.free += units;
        }
        self.rounds_opened += 1;
        self.round_open = true;
        self.due.add_all(self.stock.len());
        Ok(())
    }

    fn adjust(&mut self, item: u16, delta: i64, sequence: Sequence) -> Result<(), Broken> {
        let stock = self.stock.get_mut(usize::from(item));
        let stock = stock.ok_or_else(|| Broken { rule: "INV-6", detail: format!("no item {item}") })?;
        let free = stock.free.checked_add_signed(delta);
        stock.free = free.ok_or_else(|| Broken {
            rule: "INV-1",
            detail: format!("adjusting item {item} by {delta} takes what is held or sold"),
        })?;
        if stock.free == 0 && delta != 0 {
            stock.empty_since = sequence;
        }
        stock.adjusted = stock.adjusted.checked_add(delta).ok_or_else(|| Broken {
            rule: "INV-6",
            detail: format!("adjusting item {item} by {delta} leaves what can be counted"),
        })?;
        self.due.add(item);
        self.check_stock(item)
    }

    /// Moves units of a basket, line by line, and checks INV-6 after each.
    fn move_units(
        &mut self,
        basket: &Basket,
        moved: impl Fn(&mut Stock, u64) -> Option<()>,
    ) -> Result<(), Broken> {
        for line in basket.iter() {
            let stock = self.stock.get_mut(usize::from(line.item));
            let done = stock.and_then(|s| moved(s, u64::from(line.quantity)));
            ensure(done.is_some(), "INV-1", || {
                format!("item {}: {} units are not there", line.item, line.quantity)
            })?;
            self.check_stock(line.item)?;
        }
        Ok(())
    }

    fn check_stock(&self, item: u16) -> Result<(), Broken> {
        let s = &self.stock[usize::from(item)];
        let put_up = i128::from(s.initial) + i128::from(s.adjusted);
        let there = i128::from(s.free) + i128::from(s.held) + i128::from(s.sold);
        ensure(put_up == there, "INV-6", || format!("item {item}: put up {put_up}, but there are {there}"))
    }

    fn take_free(&mut self, basket: &Basket, sequence: Sequence) -> Result<(), Broken> {
        self.move_units(basket, |s, n| {
            s.take(n, sequence)?;
            s.held += n;
            Some(())
        })
    }

    /// The conditions for an attempt to be accepted, apart from limits and stock.
    fn may_be_accepted(&self, attempt: &Attempt, round: u16) -> Result<(), Broken> {
        let open = self.open_round() == Some(round) && !self.paused;
        ensure(open, "rounds", || format!("attempt {} in round {round}, which is not open", attempt.id))?;
        ensure(self.offers(round, &attempt.basket), "rounds", || {
            format!("attempt {} for what round {round} does not offer", attempt.id)
        })?;
        ensure(self.eligible(attempt.shopper, attempt.tier), "INV-3", || {
            format!("attempt {} of a shopper who may not buy", attempt.id)
        })
    }

    /// A hold that is granted at `at` can be paid for exactly as long as the sale says.
    fn is_hold_length(&self, hold: AttemptId, at: TimeMs, pay_by: TimeMs) -> Result<(), Broken> {
        let honest = pay_by == at.plus(self.hold_length());
        ensure(honest, "INV-4", || format!("{hold}, of {at}, is to be paid by {pay_by}"))
    }

    /// Keeps a new attempt and counts again what its shopper has with it. Both happen where the
    /// tables are touched anyway: to look first, as deciding does, and then to insert took a
    /// quarter of a grant.
    fn keep(&mut self, attempt: &Attempt, new: NewSlot) -> Result<u32, Broken> {
        let slot = self.slots.insert(attempt.id, attempt.shopper, &attempt.basket, new);
        let slot =
            slot.ok_or_else(|| Broken { rule: "INV-4", detail: format!("attempt {} again", attempt.id) })?;
        self.check_limits(slot)?;
        Ok(slot)
    }

    /// INV-3 after a new attempt, by what its shopper has with it. The newest slot is the first of
    /// its shopper's.
    fn check_limits(&self, newest: u32) -> Result<(), Broken> {
        let new = self.slots.get(newest);
        let fits = |has: Has, limit: u32| limit == 0 || has.units <= u64::from(limit);
        let mut within = self.sale_limit == 0 || fits(self.slots.has(newest), self.sale_limit);
        self.slots.each_line(new, |line| {
            let limit = self.offer(new.round, line.item).map_or(0, |offer| offer.limit);
            within &= limit == 0 || fits(self.slots.has_of(newest, new.round, line.item), limit);
        });
        ensure(within, "INV-3", || format!("attempt {} is over a limit", new.attempt))
    }

    fn grant(
        &mut self,
        attempt: &Attempt,
        round: u16,
        pay_by: TimeMs,
        as_of: Sequence,
    ) -> Result<(), Broken> {
        ensure(self.lacking(&attempt.basket).is_none(), "INV-1", || {
            format!("attempt {}: not free", attempt.id)
        })?;
        ensure(!self.overtakes(&attempt.basket), "INV-5", || {
            format!("attempt {} overtakes the waitlist", attempt.id)
        })?;
        self.take_free(&attempt.basket, as_of)?;
        let state = SlotState::Hold(HoldState::Held);
        let new = NewSlot { pay_by, as_of, position: 0, round, state };
        let slot = self.keep(attempt, new)?;
        self.deadlines.push(pay_by, slot);
        self.counts.granted += 1;
        Ok(())
    }

    fn wait(&mut self, attempt: &Attempt, round: u16, position: u32, as_of: Sequence) -> Result<(), Broken> {
        let [line] = attempt.basket[..] else {
            return Err(Broken { rule: "waitlist", detail: "a basket of several lines".into() });
        };
        let lacks = self.lacking(&attempt.basket).is_some();
        ensure(lacks, "INV-2", || format!("attempt {} waits for what is free", attempt.id))?;
        let Some(list) = self.waiting.get_mut(usize::from(line.item)) else {
            return Err(Broken { rule: "waitlist", detail: format!("no item {}", line.item) });
        };
        let honest = u64::from(position) == list.len() as u64 + 1;
        ensure(honest, "INV-4", || format!("attempt {}: position {position}", attempt.id))?;
        let places = self.waitlist_places(line.item);
        ensure(u64::from(position) <= places, "INV-3", || {
            format!("attempt {}: place {position} of {places}", attempt.id)
        })?;
        let new = NewSlot { pay_by: TimeMs(0), as_of, position, round, state: SlotState::Waiting };
        let slot = self.keep(attempt, new)?;
        self.waiting[usize::from(line.item)]
            .push(line.quantity, Waiter { slot, tier: attempt.tier, sealed: attempt.sealed });
        self.counts.waitlisted += 1;
        Ok(())
    }

    fn promote(
        &mut self,
        attempt: &Attempt,
        round: u16,
        pay_by: TimeMs,
        as_of: Sequence,
    ) -> Result<(), Broken> {
        let slot = self.slot(attempt.id)?;
        let basket = self.slots.basket(slot);
        let s = self.slots.get(slot);
        let same = (s.shopper, basket, s.round) == (attempt.shopper, attempt.basket, round);
        ensure(same && !self.paused && !self.waitlist_ended, "INV-4", || {
            format!("{} is promoted as something else, or while nobody is", attempt.id)
        })?;
        let line = basket[0];
        let free = self.stock[usize::from(line.item)].free;
        let first = self.waiting[usize::from(line.item)].first_fitting(free).map(|w| w.slot);
        ensure(first == Some(slot), "INV-5", || {
            format!("attempt {} is not the first that fits", attempt.id)
        })?;
        self.waiting[usize::from(line.item)].remove(line.quantity, slot);
        self.take_free(&basket, as_of)?;
        self.slots.promote(slot, pay_by, as_of);
        self.deadlines.push(pay_by, slot);
        self.counts.promoted += 1;
        Ok(())
    }

    /// Older logs may have one payment for several holds: the first of them is named.
    pub(super) fn note_paid_for(&mut self, reference: Arc<str>, slot: u32) {
        self.paid_for.entry(reference).and_modify(|first| *first = slot.min(*first)).or_insert(slot);
    }

    fn note_payment(&mut self, slot: u32, reference: &str, kind: PaymentKind) -> Result<(), Broken> {
        let seen = self.payments.entry(slot).or_default();
        let fresh = seen.iter().all(|p| *p.reference != *reference);
        ensure(fresh, "INV-4", || format!("payment {reference} of slot {slot} again"))?;
        let reference: Arc<str> = reference.into();
        seen.push(Payment { reference: Arc::clone(&reference), kind });
        self.counts.refunds_due += u64::from(kind == PaymentKind::Refund);
        self.note_paid_for(reference, slot);
        Ok(())
    }

    fn confirm(
        &mut self,
        hold: AttemptId,
        payment: &str,
        late: bool,
        sequence: Sequence,
    ) -> Result<(), Broken> {
        let slot = self.slot(hold)?;
        let basket = self.slots.basket(slot);
        let s = self.slots.get(slot);
        match (s.state, late) {
            (SlotState::Hold(HoldState::Held), false) => {
                self.move_units(&basket, |s, n| {
                    s.held = s.held.checked_sub(n)?;
                    s.sold += n;
                    Some(())
                })?;
            }
            (SlotState::Hold(HoldState::Expired | HoldState::Released), true) => {
                let policy = self.spec.as_ref().map(|spec| spec.late_payment);
                ensure(policy == Some(LatePayment::ClaimIfFree), "INV-4", || {
                    format!("{hold} is paid late, which the sale does not take")
                })?;
                let limits = self.within_limits(s.shopper, &basket, s.round);
                ensure(limits.is_ok(), "INV-3", || format!("late payment of {hold} is over a limit"))?;
                ensure(!self.overtakes(&basket), "INV-5", || {
                    format!("late payment of {hold} overtakes the waitlist")
                })?;
                self.move_units(&basket, |s, n| {
                    s.take(n, sequence)?;
                    s.sold += n;
                    Some(())
                })?;
            }
            (state, _) => {
                return Err(Broken {
                    rule: "INV-4",
                    detail: format!("{hold} is {state:?}, confirmed late: {late}"),
                });
            }
        }
        self.set_hold(slot, HoldState::Confirmed);
        self.note_payment(
            slot,
            payment,
            if late { PaymentKind::ConfirmedLate } else { PaymentKind::Confirmed },
        )
    }

    fn leave(&mut self, slot: u32) -> Result<(), Broken> {
        let line = self.slots.basket(slot)[0];
        self.waiting[usize::from(line.item)].remove(line.quantity, slot);
        self.slots.set_state(slot, SlotState::Left);
        Ok(())
    }

    fn end_hold(&mut self, slot: u32, end: HoldState) -> Result<(), Broken> {
        let basket = self.slots.basket(slot);
        let s = self.slots.get(slot);
        match (s.state, end) {
            (SlotState::Hold(HoldState::Held), _) => {
                self.move_units(&basket, |s, n| {
                    s.held = s.held.checked_sub(n)?;
                    s.free += n;
                    Some(())
                })?;
            }
            (SlotState::Hold(HoldState::Confirmed), HoldState::Voided) => {
                self.move_units(&basket, |s, n| {
                    s.sold = s.sold.checked_sub(n)?;
                    s.free += n;
                    Some(())
                })?
            }
            (state, _) => {
                let attempt = s.attempt;
                return Err(Broken {
                    rule: "INV-4",
                    detail: format!("{attempt} is {state:?}, not to be {end:?}"),
                });
            }
        }
        self.set_hold(slot, end);
        basket.iter().for_each(|line| self.due.add(line.item));
        Ok(())
    }

    fn set_hold(&mut self, slot: u32, state: HoldState) {
        let was = self.slots.get(slot);
        if was.state == SlotState::Hold(HoldState::Held) && state != HoldState::Held {
            self.deadlines.end(was.pay_by, slot);
        }
        self.slots.set_state(slot, SlotState::Hold(state));
        let slots = &self.slots;
        self.deadlines.drop_ended(|pay_by, slot| {
            let s = slots.get(slot);
            s.state == SlotState::Hold(HoldState::Held) && s.pay_by == pay_by
        });
    }
}

/// The rounds as the document has them.
pub(super) fn rounds_of(spec: &SaleSpec) -> Vec<Round> {
    let rounds = spec.rounds.iter().map(|round| {
        let mut offers = vec![None; spec.items.len()];
        for offer in &round.items {
            if let Some(at) = spec.item_index(offer.item.as_str()) {
                offers[usize::from(at)] = Some(Offer {
                    stock: offer.stock,
                    price_minor: offer.price_minor,
                    limit: offer.limit_per_shopper,
                });
            }
        }
        Round { opens_at: round.opens_at, closes_at: round.closes_at, offers }
    });
    rounds.collect()
}
