//! What operators and payments may do, and when.

use super::command_keys::CommandAnswer;
use super::record::Record;
use super::rules::Core;
use super::slots::SlotState;
use super::state::PaymentKind;
use contracts::{
    Actor, AttemptId, Basket, CommandKey, ConfirmResult, HoldState, HoldView, LIST_CHUNK_MAX, LatePayment,
    OperateError, Operation, OperationDone, PauseCause, REASON_BYTES_MAX, RoundItemLimit, STOCK_MAX,
    SaleSpec, ShopperKey, VOID_BATCH_MAX, VoidTarget,
};
use engines::log::ENTRY_BYTES_MAX;
use runtime::{Broken, Progress, Step};
use units::TimeMs;

/// How far an operation of several steps has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoFar {
    voided: u64,
}

/// The result of an operation.
#[derive(Debug)]
pub enum Operated {
    Done(Result<OperationDone, OperateError>),
    /// The step is full: append it, tick until no work remains, and go on with this.
    More(SoFar),
}

/// Payments that one hold may see; a provider that sends more different references is broken.
const PAYMENTS_MAX: usize = 16;

const _: () = assert!(contracts::SPEC_BYTES_MAX + 4096 <= ENTRY_BYTES_MAX, "a document fits into an entry");

fn conflict(why: impl Into<String>) -> Result<Operated, Broken> {
    Ok(Operated::Done(Err(OperateError::Conflict(why.into()))))
}

fn not_found(why: impl Into<String>) -> Result<Operated, Broken> {
    Ok(Operated::Done(Err(OperateError::NotFound(why.into()))))
}

fn invalid(why: impl Into<String>) -> Result<Operated, Broken> {
    Ok(Operated::Done(Err(OperateError::Invalid(why.into()))))
}

const OK: Result<Operated, Broken> = Ok(Operated::Done(Ok(OperationDone::Ok)));

fn done(done: OperationDone) -> Result<Operated, Broken> {
    Ok(Operated::Done(Ok(done)))
}

/// The work of a payment in addition to its entry: finding and keeping its reference among a
/// million others takes up to 10 µs.
const PAYMENT_WORK: usize = 20;
/// The same for a hold or a place that is given up: it is found among a million that wait.
const RELEASE_WORK: usize = 8;

impl Core {
    /// Carries out a command, or goes on with it. [`Core::tick`] has finished for this `now`. The
    /// outer error stops the sale; the inner one is the answer.
    ///
    /// Promotions that an operation makes due follow from the state: the next ticks do them before
    /// anything else is decided.
    pub fn operate(
        &mut self,
        clock: TimeMs,
        by: Actor,
        operation: Operation,
        so_far: SoFar,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        let now = clock.max(self.state.now);
        if self.state.spec.is_none() && !matches!(operation, Operation::Define(_)) {
            return not_found("this sale has not been set up yet: PUT its document first");
        }
        match operation {
            Operation::Once { key, operation } => self.once(now, by, key, *operation, so_far, out),
            operation => self.carry_out(now, by, operation, so_far, out),
        }
    }

    /// Carries out a command that has a key, unless it was carried out under it before: then it
    /// repeats the answer. A command that was refused has changed nothing, and is decided afresh.
    ///
    /// The key is logged in the step in which the command is done. If the process ends between two
    /// steps of a void, the rest is voided by the retry, which then counts only that.
    fn once(
        &mut self,
        now: TimeMs,
        by: Actor,
        key: CommandKey,
        operation: Operation,
        so_far: SoFar,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        if let Some((known, answer)) = self.state.command_keys.find(key.id) {
            return match known == key {
                true => done(answer.into()),
                false => conflict(
                    "Idempotency-Key: it stands for another command, and nothing was done: use a new key for a new command",
                ),
            };
        }
        if !operation.takes_key() {
            return invalid("Idempotency-Key: this command takes none");
        }
        let operated = self.carry_out(now, by, operation, so_far, out)?;
        if let Operated::Done(Ok(done)) = &operated
            && let Some(answer) = CommandAnswer::of(done)
        {
            self.commit(now, Record::CommandDone { key, answer }, out)?;
        }
        Ok(operated)
    }

    fn carry_out(
        &mut self,
        now: TimeMs,
        by: Actor,
        operation: Operation,
        so_far: SoFar,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        match operation {
            Operation::Once { .. } => invalid("Idempotency-Key: only one for a command"),
            Operation::Define(spec) => self.define(now, by, spec, out),
            Operation::Open => self.open_now(now, by, out),
            Operation::Pause => self.set_paused(now, by, true, out),
            Operation::Resume => self.set_paused(now, by, false, out),
            Operation::Close => {
                if !self.state.round_open {
                    return conflict("close: no round is open");
                }
                self.close_round(now, by, out)?;
                OK
            }
            Operation::Extend { closes_at } => self.extend(now, by, closes_at, out),
            Operation::Adjust { item, delta } => self.adjust(now, by, item, delta, out),
            Operation::Limits { sale, items } => self.limits(now, by, sale, items, out),
            Operation::EndWaitlist => {
                if !self.state.waitlist_ended {
                    self.commit(now, Record::WaitlistEnded { by }, out)?;
                    // Those who are left are taken off by the next ticks, before anything else.
                    let _ = self.empty_waitlist(now, out)?;
                }
                OK
            }
            Operation::Rate { per_second } => {
                if self.state.rate_per_second != per_second {
                    self.commit(now, Record::Rate { per_second, by }, out)?;
                }
                OK
            }
            Operation::List { list, clear, shoppers } => {
                if shoppers.len() > LIST_CHUNK_MAX {
                    return invalid(format!(
                        "list: {} shoppers in a chunk, want at most {LIST_CHUNK_MAX}",
                        shoppers.len()
                    ));
                }
                self.journal_refusals(now, out)?;
                self.commit(now, Record::List { list, clear, shoppers, by }, out)?;
                OK
            }
            Operation::Void(target) => self.void(now, by, target, so_far, out),
            Operation::Confirm { hold, payment } => self.confirm(now, by, hold, payment, out),
            Operation::Release { hold } => self.release(now, by, hold, out),
            Operation::Reserve { shopper, reserved } => self.reserve(now, shopper, reserved, out),
        }
    }

    fn define(
        &mut self,
        now: TimeMs,
        by: Actor,
        spec: Box<SaleSpec>,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        if let Err(wrong) = spec.validate_new() {
            return invalid(wrong.to_string());
        }
        if self.state.spec.as_deref() == Some(&*spec) {
            return OK;
        }
        if self.state.rounds_opened > 0 {
            return conflict(
                "the sale's first round has opened, so its document is fixed: use adjust, limits, extend, rate, pause or close",
            );
        }
        self.journal_refusals(now, out)?;
        self.commit(now, Record::Defined { by, spec }, out)?;
        // A round that is due already opens with the same batch.
        let _ = self.tick(now, out)?;
        OK
    }

    fn open_now(&mut self, now: TimeMs, by: Actor, out: &mut Step) -> Result<Operated, Broken> {
        if self.state.round_open {
            return conflict("open: a round is open already");
        }
        let Some(next) = self.state.next_round() else {
            return conflict("open: the last round has ended");
        };
        if now >= next.closes_at {
            return conflict("open: the next round's time is over");
        }
        let _ = self.open_round(now, by, out)?;
        OK
    }

    fn set_paused(
        &mut self,
        now: TimeMs,
        by: Actor,
        paused: bool,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        if self.state.paused == paused {
            return OK;
        }
        self.journal_refusals(now, out)?;
        if paused {
            self.commit(now, Record::Paused { by }, out)?;
        } else {
            self.commit(now, Record::Resumed { by }, out)?;
            let _ = self.promote(now, out)?;
        }
        OK
    }

    fn extend(
        &mut self,
        now: TimeMs,
        by: Actor,
        closes_at: TimeMs,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        let Some(round) = self.state.open_round() else {
            return conflict("extend: no round is open");
        };
        let closes_now = self.state.rounds[usize::from(round)].closes_at;
        if closes_at <= closes_now {
            return invalid(format!(
                "closes_at: want a time after {closes_now}; to end the round earlier, use close"
            ));
        }
        if let Some(next) = self.state.next_round()
            && closes_at > next.opens_at
        {
            return conflict(format!("closes_at: the next round opens at {}", next.opens_at));
        }
        self.commit(now, Record::Extended { round, closes_at, by }, out)?;
        OK
    }

    fn adjust(
        &mut self,
        now: TimeMs,
        by: Actor,
        item: u16,
        delta: i64,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        let Some(stock) = self.state.stock.get(usize::from(item)) else {
            return not_found(format!("adjust: no item number {item}"));
        };
        if delta == 0 || delta.unsigned_abs() > STOCK_MAX {
            return invalid(format!("delta: want -{STOCK_MAX} to {STOCK_MAX}, and not 0"));
        }
        if self.state.rounds_opened == 0 {
            return conflict("adjust: no round has opened yet; change the sale's document instead");
        }
        if stock.free.checked_add_signed(delta).is_none() {
            return conflict(format!(
                "adjust: only {} units are free ({} held, {} sold); void holds first if more must go",
                stock.free, stock.held, stock.sold
            ));
        }
        if delta > 0 {
            self.before_restock(now, &Basket::single(item, 1), out)?;
        }
        self.commit(now, Record::Adjusted { item, delta, by }, out)?;
        // Answered once it is durable, although some may still be promoted: a second call would
        // adjust twice.
        let _ = self.promote(now, out)?;
        done(OperationDone::Adjusted { free: self.state.stock[usize::from(item)].free })
    }

    fn limits(
        &mut self,
        now: TimeMs,
        by: Actor,
        sale: Option<u32>,
        items: Vec<RoundItemLimit>,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        if let Some(wrong) = items.iter().find(|l| self.state.offer(l.round, l.item).is_none()) {
            return not_found(format!(
                "limits: round {} does not offer item number {}",
                wrong.round, wrong.item
            ));
        }
        if sale.is_some_and(|limit| limit > 1000) || items.iter().any(|l| l.limit > 1000) {
            return invalid("limits: want 0 (none) to 1000");
        }
        if items.len() > 1000 {
            return invalid("limits: want at most 1000 at once");
        }
        self.journal_refusals(now, out)?;
        self.commit(now, Record::Limits { sale, items, by }, out)?;
        OK
    }

    fn void(
        &mut self,
        now: TimeMs,
        by: Actor,
        target: VoidTarget,
        mut so_far: SoFar,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        let attempts = match target {
            VoidTarget::Shopper(shopper) => {
                // The newest that is still active, until none is: an earlier one's stock may have
                // gone to a later one.
                while let Some(slot) = self.state.slots.newest_active_of(shopper) {
                    if out.is_full() {
                        return Ok(Operated::More(so_far));
                    }
                    self.void_slot(now, slot, &by, &mut so_far, out)?;
                }
                return done(OperationDone::Voided { count: so_far.voided });
            }
            VoidTarget::Attempts(attempts) => attempts,
        };
        if attempts.len() > VOID_BATCH_MAX {
            return invalid(format!("void: {} attempts, want at most {VOID_BATCH_MAX}", attempts.len()));
        }
        if let Some(unknown) = attempts.iter().find(|id| self.state.slots.find(**id).is_none()) {
            return not_found(format!("void: no attempt {unknown}; nothing was voided"));
        }
        for slot in attempts.iter().filter_map(|id| self.state.slots.find(*id)).collect::<Vec<_>>() {
            // Checked again for each: one may be named twice, or have been voided in the step
            // before.
            if !self.state.slots.get(slot).state.is_active() {
                continue;
            }
            if out.is_full() {
                return Ok(Operated::More(so_far));
            }
            self.void_slot(now, slot, &by, &mut so_far, out)?;
        }
        done(OperationDone::Voided { count: so_far.voided })
    }

    /// Takes back a hold or a place. Called only while no promotion is due and the step is not
    /// full.
    fn void_slot(
        &mut self,
        now: TimeMs,
        slot: u32,
        by: &Actor,
        so_far: &mut SoFar,
        out: &mut Step,
    ) -> Result<(), Broken> {
        let s = self.state.slots.get(slot);
        let (attempt, waits, by) = (s.attempt, s.state == SlotState::Waiting, by.clone());
        so_far.voided += 1;
        if waits {
            return self.commit(now, Record::Left { attempt, voided: true, by }, out);
        }
        let _ = self.end_hold(now, slot, Record::Voided { hold: attempt, by }, out)?;
        Ok(())
    }

    fn view_of(&self, slot: u32) -> HoldView {
        let slot = self.state.slots.get(slot);
        let state = match slot.state {
            SlotState::Hold(state) => state,
            SlotState::Waiting | SlotState::Left => HoldState::Released,
        };
        Self::hold_view(slot, state)
    }

    /// Expires the hold if its time is over but the timer has not reached it yet.
    fn expire_if_due(&mut self, now: TimeMs, slot: u32, out: &mut Step) -> Result<Progress, Broken> {
        let s = self.state.slots.get(slot);
        if s.state == SlotState::Hold(HoldState::Held) && s.pay_by <= now {
            return self.expire(now, slot, out);
        }
        Ok(Progress::Done)
    }

    fn confirm(
        &mut self,
        now: TimeMs,
        by: Actor,
        hold: AttemptId,
        payment: String,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        out.spend(PAYMENT_WORK);
        if payment.is_empty() || payment.len() > REASON_BYTES_MAX {
            return invalid(format!("payment: want the provider's reference, 1 to {REASON_BYTES_MAX} bytes"));
        }
        let Some(slot) = self.state.slots.find(hold) else {
            return not_found(format!("confirm: no hold {hold}"));
        };
        let by = Some(by);
        if self.expire_if_due(now, slot, out)? == Progress::More {
            return Ok(Operated::More(SoFar::default()));
        }
        let seen = self.state.payments.get(&slot).map_or(&[][..], Vec::as_slice);
        if let Some(known) = seen.iter().find(|p| *p.reference == *payment) {
            let state = self.state.slots.get(slot).state;
            // A void after the payment means a refund, however often the payment is reported again.
            let result = match known.kind {
                PaymentKind::Refund => ConfirmResult::Refund,
                _ if state != SlotState::Hold(HoldState::Confirmed) => ConfirmResult::Refund,
                PaymentKind::Confirmed => ConfirmResult::Confirmed { late: false },
                PaymentKind::ConfirmedLate => ConfirmResult::Confirmed { late: true },
            };
            return done(OperationDone::Confirmed { result, hold: self.view_of(slot) });
        }
        if let Some(other) = self.state.paid_for.get(&*payment) {
            let other = self.state.slots.get(*other).attempt;
            return conflict(format!(
                "confirm: payment {payment} was reported for hold {other}: one payment pays for one hold"
            ));
        }
        if seen.len() >= PAYMENTS_MAX {
            return conflict(format!(
                "confirm: hold {hold} has seen {PAYMENTS_MAX} different payments already"
            ));
        }
        let result = match self.state.slots.get(slot).state {
            SlotState::Waiting | SlotState::Left => {
                return conflict(format!(
                    "confirm: {hold} has a place on the waitlist and no hold to pay for"
                ));
            }
            SlotState::Hold(HoldState::Held) => {
                self.commit(now, Record::Confirmed { hold, payment, late: false, by }, out)?;
                ConfirmResult::Confirmed { late: false }
            }
            // The other server may have sold the units since the backup, and a refund is final.
            SlotState::Hold(HoldState::Expired | HoldState::Released)
                if self.state.pause() == Some(PauseCause::Restored) =>
            {
                return conflict(format!(
                    "confirm: {hold} is over, and this is a restored copy: resume the sale first, then send the payment again"
                ));
            }
            SlotState::Hold(HoldState::Expired | HoldState::Released) if self.may_claim_late(slot) => {
                self.commit(now, Record::Confirmed { hold, payment, late: true, by }, out)?;
                ConfirmResult::Confirmed { late: true }
            }
            SlotState::Hold(_) => {
                self.commit(now, Record::RefundDue { hold, payment, by }, out)?;
                ConfirmResult::Refund
            }
        };
        done(OperationDone::Confirmed { result, hold: self.view_of(slot) })
    }

    /// Whether a payment that comes after the hold's end still buys the units: they are free, no
    /// other shopper waits for them, and the shopper has not bought up to the limit meanwhile.
    fn may_claim_late(&self, slot: u32) -> bool {
        let state = &self.state;
        let (s, basket) = (state.slots.get(slot), state.slots.basket(slot));
        let policy = state.spec.as_ref().map(|spec| spec.late_payment);
        policy == Some(LatePayment::ClaimIfFree)
            && state.lacking(&basket).is_none()
            && !state.overtakes(&basket)
            && state.within_limits(s.shopper, &basket, s.round).is_ok()
    }

    fn release(
        &mut self,
        now: TimeMs,
        by: Actor,
        hold: AttemptId,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        out.spend(RELEASE_WORK);
        let Some(slot) = self.state.slots.find(hold) else {
            return not_found(format!("release: no hold {hold}"));
        };
        if self.expire_if_due(now, slot, out)? == Progress::More {
            return Ok(Operated::More(SoFar::default()));
        }
        match self.state.slots.get(slot).state {
            SlotState::Hold(HoldState::Held) => {
                let _ = self.end_hold(now, slot, Record::Released { hold, by }, out)?;
            }
            SlotState::Waiting => {
                self.commit(now, Record::Left { attempt: hold, voided: false, by }, out)?;
            }
            SlotState::Hold(HoldState::Confirmed) => {
                return conflict(format!(
                    "release: hold {hold} is paid; void it, with a reason, and refund it"
                ));
            }
            SlotState::Left => return done(OperationDone::Released { hold: None }),
            SlotState::Hold(_) => {}
        }
        let left = self.state.slots.get(slot).state == SlotState::Left;
        done(OperationDone::Released { hold: (!left).then(|| self.view_of(slot)) })
    }

    fn reserve(
        &mut self,
        now: TimeMs,
        shopper: ShopperKey,
        reserved: bool,
        out: &mut Step,
    ) -> Result<Operated, Broken> {
        let wanted = self.state.spec.as_ref().is_some_and(|spec| spec.eligibility.wants_reservation());
        if !wanted {
            return conflict("reservation: this sale takes none");
        }
        if self.state.reserved.contains(shopper) == reserved {
            return done(OperationDone::Reserved { reserved });
        }
        if self.state.rounds_opened > 0 {
            return conflict("reservation: the sale has opened, so reservations are closed");
        }
        self.commit(now, Record::Reserved { shopper, reserved }, out)?;
        done(OperationDone::Reserved { reserved })
    }
}
