//! Which bounds of a sale a run has reached, by what the log and the replies say.

use crate::bounds::{LIMITS_MAX, PAYMENTS_MAX, REFUSAL_KINDS_MAX, SHOPPER_ATTEMPTS_MAX, WAITING_PAGE_MAX};
use crate::model::{Kept, Model, Standing};
use contracts::{
    Answer, ITEMS_MAX, LINES_MAX, LIST_CHUNK_MAX, OperateError, Operation, OperationDone, QUANTITY_MAX,
    REASON_BYTES_MAX, ROUNDS_MAX, Refusal, STOCK_MAX, VOID_BATCH_MAX, VoidTarget,
};
use sale::core::Record;
use sale::{Command, Reply};
use std::collections::BTreeSet;

/// Ranges in an entry of refusals by gates.
const GATE_RANGES_MAX: usize = 1024;
/// A shopper with more active attempts is counted otherwise.
const WALKED_MAX: usize = 16;
/// The deadlines of more holds than this are kept in several pieces.
const HOLDS: usize = 4096;

/// What seeds are to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    KeyForgotten,
    Payments,
    PaymentTooMany,
    Items,
    Rounds,
    DocumentTooLarge,
    Lines,
    Quantity,
    Stock,
    LongChain,
    Units,
    AttemptsTold,
    Page,
    Refusals,
    GateRanges,
    Holds,
    ListPart,
    ListPartTooLong,
    Void,
    VoidTooLong,
    Limits,
    LimitsTooMany,
    Reference,
    ReferenceTooLong,
}

const BOUNDS: [(Bound, &str); 24] = [
    (Bound::KeyForgotten, "a command's key is forgotten for 4,096 newer ones"),
    (Bound::Payments, "a hold sees its 16th payment"),
    (Bound::PaymentTooMany, "a hold's 17th payment is refused"),
    (Bound::Items, "a unit of the 200th item is held"),
    (Bound::Rounds, "the 200th round opens"),
    (Bound::DocumentTooLarge, "a document with 201 items or rounds is refused"),
    (Bound::Lines, "a basket of 8 lines is held"),
    (Bound::Quantity, "a line of 1,000 units is held"),
    (Bound::Stock, "100,000,000 units of an item are put up"),
    (Bound::LongChain, "a limit binds a shopper with more than 16 active attempts"),
    (Bound::Units, "a shopper has more than 65,535 active units"),
    (Bound::AttemptsTold, "a shopper with more than 100 attempts is told of 100"),
    (Bound::Page, "more than 1,000 wait, and a page has 1,000"),
    (Bound::Refusals, "512 different refusals wait for the log"),
    (Bound::GateRanges, "a gate reports more than 1,024 ranges"),
    (Bound::Holds, "more than 4,096 holds at once"),
    (Bound::ListPart, "a part of a list has 4,096 shoppers"),
    (Bound::ListPartTooLong, "a part of a list with 4,097 is refused"),
    (Bound::Void, "a void names 4,096 attempts"),
    (Bound::VoidTooLong, "a void of 4,097 is refused"),
    (Bound::Limits, "a command sets 1,000 limits"),
    (Bound::LimitsTooMany, "a command with 1,001 limits is refused"),
    (Bound::Reference, "a payment's reference has 200 bytes"),
    (Bound::ReferenceTooLong, "a reference of 201 bytes is refused"),
];

/// What a run has reached.
#[derive(Debug, Default)]
pub(crate) struct Reached(BTreeSet<Bound>);

impl Reached {
    pub(crate) fn table(&self) -> Vec<(&'static str, bool)> {
        BOUNDS.iter().map(|(bound, name)| (*name, self.0.contains(bound))).collect()
    }

    fn note(&mut self, bound: Bound, is_reached: bool) {
        if is_reached {
            self.0.insert(bound);
        }
    }

    /// An entry of the log, which the model has read.
    pub(crate) fn logged(&mut self, record: &Record, m: &Model) {
        match record {
            Record::CommandDone { .. } => self.note(Bound::KeyForgotten, m.forgotten_key.is_some()),
            Record::Confirmed { hold, .. } | Record::RefundDue { hold, .. } => {
                let seen = m.find(*hold).map_or(0, |kept| kept.payments.len());
                self.note(Bound::Payments, seen == PAYMENTS_MAX);
            }
            Record::Granted { attempt, .. } | Record::Promoted { attempt, .. } => {
                let basket = &attempt.basket;
                self.note(Bound::Items, basket.iter().any(|line| usize::from(line.item) == ITEMS_MAX - 1));
                self.note(Bound::Lines, basket.len() == LINES_MAX);
                self.note(Bound::Quantity, basket.iter().any(|line| line.quantity == QUANTITY_MAX));
                self.note(Bound::Units, m.has(attempt.shopper, None, None) > u32::from(u16::MAX));
                if m.kept.len() > HOLDS && !self.0.contains(&Bound::Holds) {
                    let held = m.kept.iter().filter(|kept| kept.standing() == Standing::Held);
                    self.note(Bound::Holds, held.count() > HOLDS);
                }
            }
            Record::RoundOpened { round, .. } => {
                self.note(Bound::Rounds, usize::from(*round) == ROUNDS_MAX - 1);
                self.note(Bound::Stock, m.items.iter().any(|units| units.initial >= STOCK_MAX as i64));
            }
            Record::Adjusted { delta, .. } => self.note(Bound::Stock, *delta == STOCK_MAX as i64),
            Record::Refusals { entries } => self.note(Bound::Refusals, entries.len() >= REFUSAL_KINDS_MAX),
            Record::GateRefusals { entries } => {
                self.note(Bound::GateRanges, entries.len() >= GATE_RANGES_MAX);
            }
            Record::List { shoppers, .. } => self.note(Bound::ListPart, shoppers.len() == LIST_CHUNK_MAX),
            _ => {}
        }
    }

    /// A reply, with the model after its step.
    pub(crate) fn said(&mut self, command: &Command, reply: &Reply, m: &Model) {
        match (command, reply) {
            (
                Command::Attempt(attempt),
                Reply::Answer(Answer::Refused {
                    refusal: Refusal::LimitReached { held_by: Some(_) }, ..
                }),
            ) => {
                let active =
                    |kept: &&Kept| kept.attempt.shopper == attempt.shopper && kept.standing().counts();
                self.note(Bound::LongChain, m.kept.iter().filter(active).count() > WALKED_MAX);
            }
            (Command::Shopper(shopper), Reply::Shopper(record)) => {
                let all = m.kept.iter().filter(|kept| kept.attempt.shopper == *shopper).count();
                let told = record.attempts.len();
                self.note(Bound::AttemptsTold, told == SHOPPER_ATTEMPTS_MAX && all > told);
            }
            (Command::Waiting(_), Reply::Waiting(page)) => {
                let all: usize = m.items.iter().map(|units| units.waiting.len()).sum();
                self.note(Bound::Page, page.len() == WAITING_PAGE_MAX && all > page.len());
            }
            (Command::Operate { operation, .. }, Reply::Done(done)) => self.operated(operation, done, m),
            _ => {}
        }
    }

    fn operated(&mut self, operation: &Operation, done: &Result<OperationDone, OperateError>, m: &Model) {
        let is_done = done.is_ok();
        let is_invalid = matches!(done, Err(OperateError::Invalid(_)));
        match operation {
            Operation::Once { operation, .. } => self.operated(operation, done, m),
            Operation::Define(_) => self.note(Bound::DocumentTooLarge, is_invalid),
            Operation::List { .. } => self.note(Bound::ListPartTooLong, is_invalid),
            Operation::Void(VoidTarget::Attempts(ids)) => {
                self.note(Bound::Void, is_done && ids.len() == VOID_BATCH_MAX);
                self.note(Bound::VoidTooLong, is_invalid);
            }
            Operation::Limits { items, .. } => {
                self.note(Bound::Limits, is_done && items.len() == LIMITS_MAX);
                self.note(Bound::LimitsTooMany, is_invalid && items.len() > LIMITS_MAX);
            }
            Operation::Confirm { hold, payment } => {
                self.note(Bound::Reference, is_done && payment.len() == REASON_BYTES_MAX);
                self.note(Bound::ReferenceTooLong, is_invalid && payment.len() > REASON_BYTES_MAX);
                let is_full = m.find(*hold).is_some_and(|kept| {
                    kept.payments.len() == PAYMENTS_MAX && kept.payments.iter().all(|(p, _)| p != payment)
                });
                let is_conflict = matches!(done, Err(OperateError::Conflict(_)));
                self.note(Bound::PaymentTooMany, is_conflict && is_full);
            }
            _ => {}
        }
    }
}
