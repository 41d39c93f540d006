//! The jobs of the worker, and the callers that wait for them.

use contracts::{
    Actor, Answer, Attempt, AttemptId, Found, GateRefusal, Mail, Mailbox, OperateError, Operation,
    OperationDone, SaleStats, ShopperKey, ShopperRecord, Told, Unavailable, WaitingPlace, WaitingQuery,
};
use runtime::queue::Deliveries;
use std::sync::Arc;
use tokio::sync::oneshot;

pub(crate) type Sender<T> = oneshot::Sender<Result<T, Unavailable>>;

/// The answer to the caller of an attempt.
pub(crate) type Said = Result<Told, Unavailable>;

pub(crate) enum Job {
    /// Its callers are in [`super::Queue`].
    Attempt(Attempt),
    Lookup(AttemptId, ShopperKey, Sender<Found>),
    Shopper(ShopperKey, Sender<ShopperRecord>),
    Operate(Actor, Operation, Sender<Result<OperationDone, OperateError>>),
    Stats(Sender<SaleStats>),
    Waiting(WaitingQuery, Sender<Vec<WaitingPlace>>),
    GateRefusals(Vec<GateRefusal>),
    PendingLookup(Box<PendingLookup>),
}

/// An attempt that may have been answered before: the kept answer comes first, and only without one
/// the answer given here.
pub(crate) struct PendingLookup {
    pub(crate) attempt: Attempt,
    pub(crate) waiter: Waiter,
    pub(crate) else_said: Said,
}

impl PendingLookup {
    pub(crate) fn tell(self, found: &Found, post: &mut Post) {
        let said = match found.basket {
            Some(kept) if kept == self.attempt.basket => Ok(Told::Answer(found.answer)),
            Some(_) => Ok(Told::Answer(Answer::KeyReused)),
            None => self.else_said,
        };
        post.tell(self.waiter, said);
    }
}

/// A caller that waits for an answer.
pub(crate) enum Waiter {
    One(Sender<Told>),
    Many(Arc<dyn Mailbox>, u64),
}

/// Answers on their way, each to its mailbox: one delivery for all that were decided together.
#[derive(Default)]
pub(crate) struct Post(Deliveries<dyn Mailbox, Mail>);

impl Post {
    pub(crate) fn tell(&mut self, waiter: Waiter, said: Said) {
        match waiter {
            // A waiter that has gone drops its receiver; there is no one to answer.
            Waiter::One(sender) => drop(sender.send(said)),
            Waiter::Many(to, token) => self.0.add(to, Mail { token, said }),
        }
    }

    pub(crate) fn deliver(self) {
        self.0.deliver(Mailbox::deliver);
    }
}
