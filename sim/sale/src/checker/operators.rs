//! Checks what operators, payments and shoppers with a reservation are told against the log: a
//! command that was done has left exactly its own entries, and a refusal was true at an entry of
//! the step, in the order of the commands. No answer is taken on trust.

use crate::bounds::{LIMIT_MAX, LIMITS_MAX, PAYMENTS_MAX, is_within};
use crate::model::{Kept, Model, Standing};
use contracts::{
    Actor, AttemptId, ConfirmResult, LIST_CHUNK_MAX, OperateError, Operation, OperationDone,
    REASON_BYTES_MAX, STOCK_MAX, VOID_BATCH_MAX, VoidTarget,
};
use sale::core::Record;
use sim::{Check, ensure};
use units::TimeMs;

use super::standing;

/// The entries of commands for which no reply has accounted yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: Vec<Record>,
}

/// Whose entry it is; `None` if it is not an operator's.
fn author(record: &Record) -> Option<Option<&Actor>> {
    let by = match record {
        Record::Defined { by, .. }
        | Record::RoundOpened { by, .. }
        | Record::RoundClosed { by, .. }
        | Record::Paused { by }
        | Record::Resumed { by }
        | Record::Extended { by, .. }
        | Record::Adjusted { by, .. }
        | Record::Limits { by, .. }
        | Record::Rate { by, .. }
        | Record::List { by, .. }
        | Record::WaitlistEnded { by }
        | Record::Released { by, .. }
        | Record::Voided { by, .. }
        | Record::Left { by, .. } => Some(by),
        Record::Confirmed { by, .. } | Record::RefundDue { by, .. } => by.as_ref(),
        Record::Reserved { .. } | Record::CommandDone { .. } => return Some(None),
        _ => return None,
    };
    match by.map(|by| by.name.as_str()) {
        Some(Actor::TIMER | Actor::CLOCK) => None,
        _ => Some(by),
    }
}

impl Ledger {
    /// An entry of the log.
    pub(super) fn logged(&mut self, record: &Record) -> Check {
        if let Some(by) = author(record) {
            let honest = by.is_none_or(|by| *by == crate::workload::operator());
            ensure(honest, "operators", || format!("{record:?} names another actor"))?;
            self.open.push(record.clone());
        }
        Ok(())
    }

    /// A step in which all commands were answered has left no entry that no command asked for.
    pub(super) fn is_settled(&self) -> Check {
        ensure(self.open.is_empty(), "operators", || format!("nobody was told of {:?}", self.open))
    }

    fn take(&mut self, is_it: impl FnMut(&Record) -> bool) -> bool {
        let at = self.open.iter().position(is_it);
        at.map(|at| self.open.remove(at)).is_some()
    }

    /// Whether this is the answer that the command has earned, by the model at this entry; if so,
    /// accounts for its entries.
    pub(super) fn settles(
        &mut self,
        model: &Model,
        now: TimeMs,
        operation: &Operation,
        answer: &Result<OperationDone, OperateError>,
    ) -> bool {
        if model.spec.is_none() && !matches!(operation, Operation::Define(_)) {
            return matches!(answer, Err(OperateError::NotFound(_)));
        }
        if let Operation::Once { key, operation } = operation {
            return match (model.commands.get(&key.id), answer) {
                (Some((known, before)), Ok(done)) if known == key => {
                    let is_repeated = !self
                        .open
                        .iter()
                        .any(|r| matches!(r, Record::CommandDone { key: k, .. } if k == key));
                    before == done
                        && (is_repeated
                            || self.does(model, operation, done)
                                && self.take(|r| matches!(r, Record::CommandDone { key: k, .. } if k == key)))
                }
                (Some((known, _)), Err(OperateError::Conflict(_))) => known != key,
                (Some(_), _) | (None, Ok(_)) => false,
                (None, Err(error)) if operation.takes_key() => refuses(model, now, operation, error),
                (None, Err(error)) => matches!(error, OperateError::Invalid(_)),
            };
        }
        match answer {
            Ok(done) => self.does(model, operation, done),
            Err(error) => refuses(model, now, operation, error),
        }
    }

    /// Whether the command was done, and this is what it did. Where a command may find its work
    /// done already, it leaves no entry.
    fn does(&mut self, m: &Model, operation: &Operation, done: &OperationDone) -> bool {
        match (operation, done) {
            (Operation::Define(spec), OperationDone::Ok)
                if m.spec.as_ref() == Some(&**spec) && is_within(spec) =>
            {
                self.take(|r| matches!(r, Record::Defined { spec: s, .. } if s == spec));
                true
            }
            (Operation::Open, OperationDone::Ok) => self.take(|r| matches!(r, Record::RoundOpened { .. })),
            (Operation::Close, OperationDone::Ok) => self.take(|r| matches!(r, Record::RoundClosed { .. })),
            (Operation::Pause, OperationDone::Ok) if m.paused => {
                self.take(|r| matches!(r, Record::Paused { .. }));
                true
            }
            (Operation::Resume, OperationDone::Ok) if !m.paused => {
                self.take(|r| matches!(r, Record::Resumed { .. }));
                true
            }
            (Operation::Extend { closes_at }, OperationDone::Ok) => {
                let ends = m.open_round().map(|round| m.rounds[usize::from(round)].closes_at);
                ends == Some(*closes_at)
                    && self.take(|r| matches!(r, Record::Extended { closes_at: at, .. } if at == closes_at))
            }
            (Operation::Adjust { item, delta }, OperationDone::Adjusted { free }) => {
                let same = |r: &Record| matches!(r, Record::Adjusted { item: i, delta: d, .. } if i == item && d == delta);
                m.items.get(usize::from(*item)).is_some_and(|units| units.free == *free as i64)
                    && self.take(same)
            }
            (Operation::Limits { sale, items }, OperationDone::Ok) => self
                .take(|r| matches!(r, Record::Limits { sale: s, items: i, .. } if s == sale && i == items)),
            (Operation::EndWaitlist, OperationDone::Ok) if m.waitlist_ended => {
                self.take(|r| matches!(r, Record::WaitlistEnded { .. }));
                true
            }
            (Operation::Rate { per_second }, OperationDone::Ok) if m.rate == *per_second => {
                self.take(|r| matches!(r, Record::Rate { per_second: rate, .. } if rate == per_second));
                true
            }
            (Operation::List { list, clear, shoppers }, OperationDone::Ok) => {
                let same = (list, clear, shoppers);
                self.take(
                    |r| matches!(r, Record::List { list, clear, shoppers, .. } if (list, clear, shoppers) == same),
                )
            }
            (Operation::Void(target), OperationDone::Voided { count }) => self.voids(m, target, *count),
            (Operation::Confirm { hold, payment }, OperationDone::Confirmed { result, hold: view }) => {
                let Some(kept) = m.find(*hold) else { return false };
                let told = (standing(view.state), view.pay_by, view.granted_as_of.0);
                let is_so = told == (kept.standing(), kept.pay_by, kept.granted)
                    && settled(kept, payment).is_some_and(|how| how == *result);
                let entry = |r: &Record| match r {
                    Record::Confirmed { hold: h, payment: p, .. }
                    | Record::RefundDue { hold: h, payment: p, .. } => h == hold && p == payment,
                    _ => false,
                };
                if is_so {
                    self.take(entry);
                }
                is_so
            }
            (Operation::Release { hold }, OperationDone::Released { hold: view }) => {
                let end = view.map_or(Standing::Left, |view| standing(view.state));
                let is_over = !matches!(end, Standing::Held | Standing::Confirmed | Standing::Waiting);
                let is_so = is_over && m.find(*hold).is_some_and(|kept| kept.standing() == end);
                if is_so {
                    self.take(|r| match r {
                        Record::Released { hold: h, .. } => h == hold,
                        Record::Left { attempt, voided: false, .. } => attempt == hold,
                        _ => false,
                    });
                }
                is_so
            }
            (Operation::Reserve { shopper, reserved }, OperationDone::Reserved { reserved: told }) => {
                let is_so = told == reserved && m.reserved.contains(shopper) == *reserved;
                let entry = |r: &Record| matches!(r, Record::Reserved { shopper: s, reserved: is } if s == shopper && is == reserved);
                if is_so {
                    self.take(entry);
                }
                is_so
            }
            _ => false,
        }
    }

    /// Nothing of the target is left, and as many entries say so as were told.
    fn voids(&mut self, m: &Model, target: &VoidTarget, count: u64) -> bool {
        let is_of = |id: AttemptId| match target {
            VoidTarget::Shopper(shopper) => m.find(id).is_some_and(|kept| kept.attempt.shopper == *shopper),
            VoidTarget::Attempts(ids) => ids.contains(&id),
        };
        let is_entry = |r: &Record| match r {
            Record::Voided { hold: id, .. } | Record::Left { attempt: id, voided: true, .. } => is_of(*id),
            _ => false,
        };
        let is_active = |kept: &Kept| kept.standing().counts() && is_of(kept.attempt.id);
        let is_so =
            self.open.iter().filter(|r| is_entry(r)).count() as u64 == count && !m.kept.iter().any(is_active);
        if is_so {
            self.open.retain(|r| !is_entry(r));
        }
        is_so
    }
}

/// What became of a payment for a hold; `None` if it was not seen.
fn settled(kept: &Kept, payment: &str) -> Option<ConfirmResult> {
    let (_, how) = kept.payments.iter().find(|(seen, _)| seen == payment)?;
    // What was bought and voided since is refunded, however often the payment is reported again.
    Some(match how {
        Some(late) if kept.standing() == Standing::Confirmed => ConfirmResult::Confirmed { late: *late },
        _ => ConfirmResult::Refund,
    })
}

/// Whether this refusal of a command is true of the sale at this entry.
fn refuses(m: &Model, now: TimeMs, operation: &Operation, error: &OperateError) -> bool {
    use OperateError::{Conflict, Invalid, NotFound};
    let now = now.max(m.now);
    let ends = m.open_round().map(|round| m.rounds[usize::from(round)].closes_at);
    match (operation, error) {
        (Operation::Define(spec), Conflict(_)) => m.opened > 0 && m.spec.as_ref() != Some(&**spec),
        (Operation::Define(spec), Invalid(_)) => !is_within(spec),
        (Operation::Open, Conflict(_)) => {
            ends.is_some() || m.next_round().is_none_or(|next| now >= next.closes_at)
        }
        (Operation::Close, Conflict(_)) => ends.is_none(),
        (Operation::Extend { closes_at }, Conflict(_)) => ends.is_none_or(|ends| {
            *closes_at > ends && m.next_round().is_some_and(|next| *closes_at > next.opens_at)
        }),
        (Operation::Extend { closes_at }, Invalid(_)) => ends.is_some_and(|ends| *closes_at <= ends),
        (Operation::Adjust { item, .. }, NotFound(_)) => usize::from(*item) >= m.items.len(),
        (Operation::Adjust { item, delta }, Conflict(_)) => {
            let units = m.items.get(usize::from(*item));
            *delta != 0 && units.is_some_and(|units| m.opened == 0 || units.free + delta < 0)
        }
        (Operation::Adjust { item, delta }, Invalid(_)) => {
            usize::from(*item) < m.items.len() && (*delta == 0 || delta.unsigned_abs() > STOCK_MAX)
        }
        (Operation::Limits { items, .. }, NotFound(_)) => {
            items.iter().any(|limit| m.offer(limit.round, limit.item).is_none())
        }
        (Operation::Limits { sale, items }, Invalid(_)) => {
            let is_high = |limit: u32| limit > LIMIT_MAX;
            items.len() > LIMITS_MAX
                || sale.is_some_and(is_high)
                || items.iter().any(|limit| is_high(limit.limit.into()))
        }
        (Operation::List { shoppers, .. }, Invalid(_)) => shoppers.len() > LIST_CHUNK_MAX,
        (Operation::Void(VoidTarget::Attempts(ids)), Invalid(_)) => ids.len() > VOID_BATCH_MAX,
        (Operation::Void(VoidTarget::Attempts(ids)), NotFound(_)) => {
            ids.len() <= VOID_BATCH_MAX && ids.iter().any(|id| m.find(*id).is_none())
        }
        (Operation::Confirm { payment, .. }, Invalid(_)) => {
            payment.is_empty() || payment.len() > REASON_BYTES_MAX
        }
        (Operation::Confirm { hold, .. } | Operation::Release { hold }, NotFound(_)) => {
            m.find(*hold).is_none()
        }
        (Operation::Confirm { hold, payment }, Conflict(_)) => m.find(*hold).is_some_and(|kept| {
            let mut others = m.kept.iter().filter(|other| other.attempt.id != *hold);
            let is_of_another = others.any(|other| settled(other, payment).is_some());
            let has_no_hold = matches!(kept.standing(), Standing::Waiting | Standing::Left);
            settled(kept, payment).is_none()
                && (is_of_another || has_no_hold || kept.payments.len() >= PAYMENTS_MAX)
        }),
        (Operation::Release { hold }, Conflict(_)) => {
            m.find(*hold).is_some_and(|kept| kept.standing() == Standing::Confirmed)
        }
        (Operation::Reserve { shopper, reserved }, Conflict(_)) => {
            let wanted = m.spec.as_ref().is_some_and(|spec| spec.eligibility.wants_reservation());
            !wanted || m.opened > 0 && m.reserved.contains(shopper) != *reserved
        }
        _ => false,
    }
}
