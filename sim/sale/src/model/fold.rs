//! Reads the log, entry by entry, and says which rule one breaks.

use super::{Kept, Model, Round, Standing, Units};
use crate::bounds::{COMMAND_KEYS_MAX, PAYMENTS_MAX};
use crate::names::{name, shopper_name};
use contracts::{
    Attempt, AttemptId, Basket, IneligibleBy, LatePayment, ListKind, NotEligibleRange, SaleSpec, SoldOutRange,
};
use sale::core::{Entry, Record, RefusalCount, RefusalKind};
use sim::{Check, Violation, ensure};
use units::{DurationMs, TimeMs};

/// The actor that opens and closes rounds when no operator does.
const TIMER: &str = "timer";

impl Model {
    /// Reads the next entry, and says which rule it breaks.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Check {
        let seq = self.last + 1;
        ensure(entry.at >= self.now, "INV-7", || format!("entry {seq}: time runs backwards"))?;
        self.nothing_is_late(entry)?;
        if !is_of_the_line(&entry.record) {
            self.nobody_waits_for_what_is_free()?;
        }
        let hold = DurationMs::seconds(self.spec.as_ref().map_or(0, |spec| spec.hold_seconds));
        match &entry.record {
            Record::Defined { spec, .. } => self.define(spec)?,
            Record::RoundOpened { round, by } => {
                let early = by.name == TIMER && self.next_round().is_none_or(|next| entry.at < next.opens_at);
                ensure(!early, "rounds", || format!("round {round} opens before its time"))?;
                self.open(seq, *round)?;
            }
            Record::RoundClosed { round, by } => {
                ensure(self.open_round() == Some(*round), "rounds", || format!("{round} is not open"))?;
                let early = by.name == TIMER && entry.at < self.rounds[usize::from(*round)].closes_at;
                ensure(!early, "rounds", || format!("round {round} closes before its time"))?;
                (self.open, self.state_since) = (false, seq);
            }
            Record::Paused { by } => {
                (self.paused, self.state_since) = (true, seq);
                self.paused_by_clock = by.name == "clock";
            }
            Record::Resumed { .. } => {
                (self.paused, self.state_since) = (false, seq);
                if std::mem::take(&mut self.paused_by_clock) {
                    self.ahead_accepted = entry.at;
                }
            }
            Record::Extended { round, closes_at, .. } => {
                ensure(self.open_round() == Some(*round), "rounds", || format!("{round} is not open"))?;
                let next = self.next_round().map_or(TimeMs::MAX, |next| next.opens_at);
                let later = *closes_at > self.rounds[usize::from(*round)].closes_at && *closes_at <= next;
                ensure(later, "rounds", || format!("round {round} is extended to {closes_at}"))?;
                self.rounds[usize::from(*round)].closes_at = *closes_at;
            }
            Record::Adjusted { item, delta, .. } => {
                self.items[usize::from(*item)].adjusted += delta;
                self.shift(seq, *item, *delta, 0, 0);
            }
            Record::Limits { sale, items, .. } => {
                self.sale_limit = sale.unwrap_or(self.sale_limit);
                for limit in items {
                    let offer = self.rounds[usize::from(limit.round)].offers.get_mut(&limit.item);
                    offer.ok_or_else(|| broken("limits", "of an item that is not offered"))?.1 =
                        u32::from(limit.limit);
                }
            }
            Record::Rate { per_second, .. } => self.rate = *per_second,
            Record::WaitlistEnded { by } => {
                let is_time = self.waitlist_ends_at().is_some_and(|at| at <= entry.at);
                ensure(by.name != TIMER || is_time, "timer", || "the waitlist ends too early".into())?;
                self.waitlist_ended = true;
            }
            Record::CommandDone { key, answer } => {
                let before = self.commands.insert(key.id, (*key, (*answer).into()));
                ensure(before.is_none(), "INV-4", || "a command is done twice under one key".into())?;
                self.command_order.push_back(*key);
                if self.command_order.len() > COMMAND_KEYS_MAX
                    && let Some(oldest) = self.command_order.pop_front()
                {
                    self.commands.remove(&oldest.id);
                    self.forgotten_key = Some(oldest);
                }
            }
            Record::List { list, clear, shoppers, .. } => {
                let set = match list {
                    ListKind::Allowed => &mut self.allowed,
                    ListKind::Denied => &mut self.denied,
                };
                if *clear {
                    set.clear();
                }
                set.extend(shoppers);
                if *list == ListKind::Denied {
                    self.deny_lists.push((seq, !self.denied.is_empty()));
                }
            }
            Record::Reserved { shopper, reserved } => {
                ensure(self.opened == 0, "reservation", || "the sale has opened".into())?;
                if *reserved {
                    self.reserved.insert(*shopper);
                } else {
                    self.reserved.remove(shopper);
                }
            }
            Record::Granted { attempt, round, pay_by } => {
                let id = attempt.id;
                self.may_buy(attempt, *round)?;
                let lacking = self.lacking(&attempt.basket);
                ensure(lacking.is_none(), "INV-1", || format!("{} gets {lacking:?}: not free", name(id)))?;
                self.nobody_passed_by(id, &attempt.basket)?;
                ensure(*pay_by == entry.at.plus(hold), "hold", || format!("{}: pay_by {pay_by}", name(id)))?;
                let at = self.keep(seq, attempt, *round, Standing::Held);
                (self.kept[at].pay_by, self.kept[at].granted) = (*pay_by, seq);
                self.shift_basket(seq, &attempt.basket, -1, 1, 0);
                self.count("granted", 1);
            }
            Record::Waitlisted { attempt, round, position } => self.wait(seq, attempt, *round, *position)?,
            Record::Promoted { attempt, round, pay_by } => {
                ensure(*pay_by == entry.at.plus(hold), "hold", || {
                    format!("{}: pay_by {pay_by}", name(attempt.id))
                })?;
                self.promote(seq, attempt, *round, *pay_by)?;
            }
            Record::Confirmed { hold, payment, late, by } => {
                ensure(by.is_some(), "operators", || format!("{payment} is confirmed by nobody"))?;
                self.confirm(seq, *hold, payment, *late)?;
            }
            Record::RefundDue { hold, payment, by } => {
                ensure(by.is_some(), "operators", || format!("{payment} is refunded by nobody"))?;
                self.refund(*hold, payment)?;
            }
            Record::Released { hold, .. } => self.end(seq, *hold, Standing::Released)?,
            Record::Left { attempt, by, .. } => {
                let denied = self.denied.contains(&self.get(*attempt)?.1.attempt.shopper);
                ensure(by.name != TIMER || denied || self.waitlist_ended, "deny list", || {
                    format!("{} is taken off the line, and is not denied", name(*attempt))
                })?;
                self.leave(seq, *attempt)?;
            }
            Record::Expired { hold } => {
                let pay_by = self.get(*hold)?.1.pay_by;
                ensure(entry.at >= pay_by, "timer", || {
                    format!("{} expires before its time is over", name(*hold))
                })?;
                let mut held = self.kept.iter().filter(|kept| kept.standing() == Standing::Held);
                ensure(held.all(|kept| kept.pay_by >= pay_by), "timer", || {
                    format!("{} expires before one whose time was over earlier", name(*hold))
                })?;
                self.end(seq, *hold, Standing::Expired)?;
            }
            Record::Voided { hold, .. } => self.end(seq, *hold, Standing::Voided)?,
            Record::Refusals { entries } => self.refusals(seq, entries)?,
            Record::GateRefusals { entries } => self.gate_refusals(seq, entries)?,
            Record::GateNotEligible { entries } => self.gate_not_eligible(seq, entries)?,
            Record::SpaceRegained { refused, .. } => self.count("paused", *refused),
        }
        if self.state_since == seq {
            self.opened_and_shut.push((seq, self.open && !self.paused));
        }
        for item in 0..self.items.len() as u16 {
            let offered =
                self.open_round().is_some_and(|round| self.offered(round, &Basket::single(item, 1)));
            let none_left =
                offered && self.items[usize::from(item)].waiting.len() as i64 >= self.places(item);
            let known = &mut self.items[usize::from(item)].none_left;
            if known.last().is_none_or(|(_, before)| *before != none_left) {
                known.push((seq, none_left));
            }
        }
        (self.last, self.now) = (seq, entry.at);
        self.figures()
    }

    /// What is due happens before anything else is decided. The timers journal refusals, but only
    /// directly before the entry that is due.
    fn nothing_is_late(&mut self, entry: &Entry) -> Check {
        let owed = std::mem::take(&mut self.owes_timers);
        let timers = match &entry.record {
            Record::RoundOpened { by, .. } | Record::RoundClosed { by, .. } => by.name == TIMER,
            Record::Expired { .. } => true,
            _ => false,
        };
        ensure(!owed || timers, "timer", || "refusals are journalled, and nothing follows".into())?;
        let late = self.late(entry.at);
        match &entry.record {
            Record::Refusals { .. } => self.owes_timers = late.is_some(),
            Record::Promoted { .. } | Record::CommandDone { .. } | Record::SpaceRegained { .. } => {}
            Record::Left { by, .. } | Record::WaitlistEnded { by } if by.name == TIMER => {}
            _ if timers => {}
            _ => ensure(late.is_none(), "timer", || late.unwrap_or_default())?,
        }
        Ok(())
    }

    /// What was due by this time and has not happened.
    pub(crate) fn late(&self, now: TimeMs) -> Option<String> {
        if let Some(ends_at) = self.waitlist_ends_at().filter(|at| *at <= now) {
            return Some(format!("the waitlist was to end at {ends_at}"));
        }
        if self.waitlist_ended && self.items.iter().any(|units| !units.waiting.is_empty()) {
            return Some("some wait after the waitlist's end".into());
        }
        let ends = self.kept.iter().filter(|kept| kept.standing() == Standing::Held);
        if let Some(kept) = ends.filter(|kept| kept.pay_by <= now).min_by_key(|kept| kept.pay_by) {
            return Some(format!("{} outlasts its time, {}", name(kept.attempt.id), kept.pay_by));
        }
        let (what, due) = match self.open_round() {
            Some(round) => ("close", Some(self.rounds[usize::from(round)].closes_at)),
            None => ("open", self.next_round().map(|next| next.opens_at)),
        };
        due.filter(|due| *due <= now).map(|due| format!("a round was to {what} at {due}"))
    }

    /// INV-1 and INV-6.
    fn figures(&self) -> Check {
        for (item, u) in self.items.iter().enumerate() {
            let put_up = u.initial + u.adjusted;
            let sane = u.free >= 0 && u.held >= 0 && u.sold >= 0 && u.held + u.sold <= put_up;
            ensure(sane, "INV-1", || format!("item {item}: {} held, {} sold of {put_up}", u.held, u.sold))?;
            ensure(put_up == u.free + u.held + u.sold, "INV-6", || format!("item {item}: {u:?}"))?;
        }
        Ok(())
    }

    fn get(&self, id: AttemptId) -> Result<(usize, &Kept), Violation> {
        let at = self.by_id.get(&id).ok_or_else(|| broken("INV-4", &format!("no attempt {}", name(id))))?;
        Ok((*at, &self.kept[*at]))
    }

    fn count(&mut self, outcome: &str, count: u64) {
        match self.outcomes.get_mut(outcome) {
            Some(sum) => *sum += count,
            None => {
                self.outcomes.insert(outcome.to_owned(), count);
            }
        }
    }

    fn define(&mut self, spec: &SaleSpec) -> Check {
        ensure(self.opened == 0 && self.kept.is_empty(), "define", || "the sale has begun".into())?;
        self.items = spec.items.iter().map(|_| Units::default()).collect();
        self.sale_limit = spec.limit_per_shopper;
        let number =
            |item: &contracts::ItemId| spec.items.iter().position(|i| i.item == *item).unwrap_or(999) as u16;
        let round = |r: &contracts::RoundSpec| Round {
            opens_at: r.opens_at,
            closes_at: r.closes_at,
            offers: r.items.iter().map(|o| (number(&o.item), (o.stock, o.limit_per_shopper))).collect(),
        };
        self.rounds = spec.rounds.iter().map(round).collect();
        self.spec = Some(spec.clone());
        Ok(())
    }

    fn open(&mut self, seq: u64, round: u16) -> Check {
        let next = !self.open && usize::from(round) == self.opened && self.opened < self.rounds.len();
        ensure(next, "rounds", || format!("round {round} opens out of turn"))?;
        (self.open, self.opened, self.state_since) = (true, self.opened + 1, seq);
        self.first_opened.get_or_insert(seq);
        for (item, (stock, _)) in self.rounds[usize::from(round)].offers.clone() {
            self.items[usize::from(item)].initial += stock as i64;
            self.shift(seq, item, stock as i64, 0, 0);
        }
        Ok(())
    }

    fn shift(&mut self, seq: u64, item: u16, free: i64, held: i64, sold: i64) {
        let units = &mut self.items[usize::from(item)];
        units.free += free;
        units.held += held;
        units.sold += sold;
        units.history.push((seq, units.free));
    }

    fn shift_basket(&mut self, seq: u64, basket: &Basket, free: i64, held: i64, sold: i64) {
        for line in basket.iter() {
            let n = i64::from(line.quantity);
            self.shift(seq, line.item, free * n, held * n, sold * n);
        }
    }

    /// The conditions for a new attempt, apart from stock.
    fn may_buy(&self, attempt: &Attempt, round: u16) -> Check {
        let Attempt { id, shopper, basket, .. } = attempt;
        let open = self.open_round() == Some(round) && !self.paused;
        ensure(open, "INV-4", || format!("{} is accepted while round {round} is not open", name(*id)))?;
        ensure(!self.by_id.contains_key(id), "INV-4", || format!("{} is accepted twice", name(*id)))?;
        ensure(self.eligible(*shopper, attempt.tier), "eligibility", || {
            format!("{} of {} may not buy", name(*id), shopper_name(*shopper))
        })?;
        ensure(self.offered(round, basket), "rounds", || {
            format!("{} gets what round {round} does not offer", name(*id))
        })?;
        ensure(!self.over_limit(*shopper, basket, round, None), "INV-3", || {
            format!("{} puts {} over a limit", name(*id), shopper_name(*shopper))
        })
    }

    fn keep(&mut self, seq: u64, attempt: &Attempt, round: u16, standing: Standing) -> usize {
        let at = self.kept.len();
        self.by_id.insert(attempt.id, at);
        self.kept.push(Kept {
            attempt: *attempt,
            round,
            position: 0,
            pay_by: TimeMs(0),
            granted: 0,
            history: vec![(seq, standing)],
            payments: Vec::new(),
        });
        at
    }

    fn wait(&mut self, seq: u64, attempt: &Attempt, round: u16, position: u32) -> Check {
        self.may_buy(attempt, round)?;
        let id = attempt.id;
        let [line] = attempt.basket[..] else {
            return Err(broken("waitlist", &format!("{} waits for several things", name(id))));
        };
        ensure(self.lacking(&attempt.basket).is_some(), "INV-2", || {
            format!("{} is to wait for what is free", name(id))
        })?;
        let honest = i64::from(position) == self.items[usize::from(line.item)].waiting.len() as i64 + 1;
        ensure(honest, "INV-4", || format!("{} is told position {position}", name(id)))?;
        ensure(self.has_place(line), "waitlist", || format!("{} gets a place beyond the last", name(id)))?;
        let at = self.keep(seq, attempt, round, Standing::Waiting);
        self.kept[at].position = position;
        self.items[usize::from(line.item)].waiting.push(at);
        self.count("waitlisted", 1);
        Ok(())
    }

    fn promote(&mut self, seq: u64, attempt: &Attempt, round: u16, pay_by: TimeMs) -> Check {
        let id = attempt.id;
        let (at, kept) = self.get(id)?;
        let same = kept.attempt == *attempt && kept.round == round && kept.standing() == Standing::Waiting;
        ensure(same, "INV-4", || format!("{} is promoted as somebody else, or does not wait", name(id)))?;
        ensure(!self.denied.contains(&attempt.shopper), "deny list", || {
            format!("{} is promoted, and is denied", name(id))
        })?;
        ensure(!self.paused, "INV-4", || format!("{} is promoted while the sale is paused", name(id)))?;
        let item = attempt.basket[0].item;
        let first = self.first_fitting(item);
        ensure(first == Some(id), "INV-5", || format!("{} is promoted before {first:?}", name(id)))?;
        let kept = &mut self.kept[at];
        (kept.pay_by, kept.granted) = (pay_by, seq);
        kept.history.push((seq, Standing::Held));
        self.items[usize::from(item)].waiting.retain(|other| *other != at);
        self.shift_basket(seq, &attempt.basket, -1, 1, 0);
        self.count("promoted", 1);
        Ok(())
    }

    /// Whether a payment after the hold's end may still buy.
    fn may_claim(&self, kept: &Kept) -> bool {
        let Attempt { id, shopper, basket, .. } = &kept.attempt;
        self.spec.as_ref().is_some_and(|spec| spec.late_payment == LatePayment::ClaimIfFree)
            && self.lacking(basket).is_none()
            && self.nobody_passed_by(*id, basket).is_ok()
            && !self.over_limit(*shopper, basket, kept.round, Some(*id))
    }

    /// One payment pays for one hold.
    fn of_no_other(&self, hold: AttemptId, payment: &str) -> Check {
        let mut others = self.kept.iter().filter(|kept| kept.attempt.id != hold);
        let used = others.any(|kept| kept.payments.iter().any(|(seen, _)| seen == payment));
        ensure(!used, "INV-4", || format!("{payment} of {} is another's too", name(hold)))
    }

    fn confirm(&mut self, seq: u64, hold: AttemptId, payment: &str, late: bool) -> Check {
        self.of_no_other(hold, payment)?;
        let (at, kept) = self.get(hold)?;
        ensure(kept.payments.iter().all(|(seen, _)| seen != payment), "INV-4", || {
            format!("payment {payment} buys {} once more", name(hold))
        })?;
        has_room(kept, payment)?;
        let (was, basket) = (kept.standing(), kept.attempt.basket);
        if late {
            let over = matches!(was, Standing::Expired | Standing::Released);
            ensure(over, "INV-4", || format!("{} is {was:?}, and paid late", name(hold)))?;
            ensure(self.may_claim(kept), "late payment", || {
                format!("{} may not be claimed any more", name(hold))
            })?;
            self.shift_basket(seq, &basket, -1, 0, 1);
        } else {
            ensure(was == Standing::Held, "INV-4", || format!("{} is {was:?}, and paid", name(hold)))?;
            self.shift_basket(seq, &basket, 0, -1, 1);
        }
        self.kept[at].history.push((seq, Standing::Confirmed));
        self.kept[at].payments.push((payment.to_owned(), Some(late)));
        Ok(())
    }

    fn refund(&mut self, hold: AttemptId, payment: &str) -> Check {
        self.of_no_other(hold, payment)?;
        let (at, kept) = self.get(hold)?;
        ensure(kept.payments.iter().all(|(seen, _)| seen != payment), "INV-4", || {
            format!("payment {payment} of {} is settled twice", name(hold))
        })?;
        has_room(kept, payment)?;
        let due = match kept.standing() {
            Standing::Confirmed | Standing::Voided => true,
            Standing::Expired | Standing::Released => !self.may_claim(kept),
            Standing::Waiting | Standing::Left | Standing::Held => false,
        };
        ensure(due, "late payment", || format!("{}: {payment} is refunded, and need not be", name(hold)))?;
        self.kept[at].payments.push((payment.to_owned(), None));
        Ok(())
    }

    fn end(&mut self, seq: u64, hold: AttemptId, end: Standing) -> Check {
        let (at, kept) = self.get(hold)?;
        let (was, basket) = (kept.standing(), kept.attempt.basket);
        match (was, end) {
            (Standing::Held, _) => self.shift_basket(seq, &basket, 1, -1, 0),
            (Standing::Confirmed, Standing::Voided) => self.shift_basket(seq, &basket, 1, 0, -1),
            _ => return Err(broken("INV-4", &format!("{} is {was:?}, not to be {end:?}", name(hold)))),
        }
        self.kept[at].history.push((seq, end));
        Ok(())
    }

    fn leave(&mut self, seq: u64, id: AttemptId) -> Check {
        let (at, kept) = self.get(id)?;
        let (was, item) = (kept.standing(), kept.attempt.basket[0].item);
        ensure(was == Standing::Waiting, "INV-4", || format!("{} is {was:?}, and leaves", name(id)))?;
        self.items[usize::from(item)].waiting.retain(|other| *other != at);
        self.kept[at].history.push((seq, Standing::Left));
        Ok(())
    }

    /// INV-2, first half: each was true when it was sent, and stayed so until it was journalled.
    fn refusals(&mut self, seq: u64, entries: &[RefusalCount]) -> Check {
        for e in entries {
            let first = e.first_as_of.0;
            let kind = e.kind.as_str();
            ensure(self.journalled <= first && first < seq, "INV-4", || {
                format!("entry {seq}: {kind} as of {first}")
            })?;
            ensure(self.state_since <= first, "INV-4", || {
                format!("entry {seq}: {kind} as of {first}, and the sale's state has changed since")
            })?;
            if e.kind == RefusalKind::SoldOut {
                let history = &self.items[usize::from(e.item)].history;
                let since = history.iter().rposition(|(at, _)| *at <= first).unwrap_or(0);
                let most = history[since..].iter().map(|(_, free)| *free).max().unwrap_or(0);
                ensure(most < i64::from(e.quantity), "INV-2", || {
                    format!("entry {seq}: {} of item {} sold out, and {most} were free", e.quantity, e.item)
                })?;
            }
            self.count(kind, e.count);
        }
        self.journalled = seq;
        Ok(())
    }

    /// Refusals by gates were true at each entry that they named.
    fn gate_refusals(&mut self, seq: u64, entries: &[SoldOutRange]) -> Check {
        for e in entries {
            let (first, last) = (e.first_as_of.0, e.last_as_of.0);
            ensure(first <= last && last < seq, "INV-4", || format!("entry {seq}: as of {first} to {last}"))?;
            let open = throughout(&self.opened_and_shut, first, last, |open| *open);
            ensure(open, "INV-4", || format!("entry {seq}: the sale was not open from {first} to {last}"))?;
            let none = throughout(&self.items[usize::from(e.item)].history, first, last, |free| *free == 0);
            ensure(none, "INV-2", || {
                format!("entry {seq}: item {} was not sold out from {first} to {last}", e.item)
            })?;
            let left = !throughout(&self.items[usize::from(e.item)].none_left, last, last, |none| *none);
            ensure(!left, "INV-4", || {
                format!("entry {seq}: as of {last} item {} was not offered, or a place was left", e.item)
            })?;
            self.count("sold_out", e.count);
        }
        Ok(())
    }

    /// The same for shoppers whom gates told that they may not buy: it was by one list, or by the
    /// sale's document.
    fn gate_not_eligible(&mut self, seq: u64, entries: &[NotEligibleRange]) -> Check {
        for e in entries {
            let (first, last) = (e.first_as_of.0, e.last_as_of.0);
            ensure(first <= last && last < seq, "INV-4", || format!("entry {seq}: as of {first} to {last}"))?;
            let open = throughout(&self.opened_and_shut, first, last, |open| *open);
            ensure(open, "INV-4", || format!("entry {seq}: the sale was not open from {first} to {last}"))?;
            let rule = match e.by {
                IneligibleBy::DenyList => {
                    let last_list = self.deny_lists.iter().rfind(|(at, _)| *at <= last);
                    last_list.is_some_and(|(since, somebody)| *since <= first && *somebody)
                }
                IneligibleBy::Tier => {
                    let eligibility = self.spec.as_ref().map(|spec| spec.eligibility);
                    eligibility.is_some_and(|rule| rule.tier_min() > 0)
                }
            };
            ensure(rule, "INV-4", || format!("entry {seq}: {:?} was no rule from {first} to {last}", e.by))?;
            self.count("not_eligible", e.count);
        }
        Ok(())
    }
}

/// A hold sees no more payments than it may.
fn has_room(kept: &Kept, payment: &str) -> Check {
    ensure(kept.payments.len() < PAYMENTS_MAX, "payments", || {
        format!("{payment} of {} is one too many", name(kept.attempt.id))
    })
}

/// Whether an entry is a promotion, or takes a denied shopper's place instead of promoting it, or
/// says that the command which made a promotion due is done.
fn is_of_the_line(record: &Record) -> bool {
    match record {
        Record::Promoted { .. } | Record::CommandDone { .. } => true,
        Record::Left { by, .. } => by.name == TIMER,
        _ => false,
    }
}

/// Whether a condition holds after every entry from the first to the last. `history` has the
/// entries that changed it.
fn throughout<T>(history: &[(u64, T)], first: u64, last: u64, holds: impl Fn(&T) -> bool) -> bool {
    let Some(from) = history.iter().rposition(|(at, _)| *at <= first) else { return false };
    history[from..].iter().take_while(|(at, _)| *at <= last).all(|(_, value)| holds(value))
}

fn broken(rule: &'static str, what: &str) -> Violation {
    Violation { rule, what: what.to_owned() }
}
