//! One sale, as seen by all code except its worker.

use super::shared::{Shared, lock};
use crate::membership_filter::{Follower, MembershipFilter};
use crate::queue::{Job, Post, Queue, Sender, Waiter, Work};
use crate::sync::MutexGuard;
use contracts::{
    Actor, Attempt, AttemptId, Found, GateRefusal, Mailbox, OperateError, Operation, OperationDone, SaleId,
    SaleStats, SaleView, ShopperKey, ShopperRecord, Told, Unavailable, WaitingPlace, WaitingQuery,
};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use units::Sequence;

/// A reply that comes later. A dropped sender means that the process is stopping.
pub type Receiver<T> = oneshot::Receiver<Result<T, Unavailable>>;

/// One sale, as seen by all code except its worker.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.0.sale)
    }
}

impl Handle {
    /// The sale's name.
    pub fn sale(&self) -> &SaleId {
        &self.0.sale
    }

    /// The public view; `None` before the sale was set up.
    pub fn view(&self) -> Option<Arc<SaleView>> {
        self.0.view.load_full()
    }

    /// Why the sale has stopped answering, if it has.
    pub fn stopped(&self) -> Option<Arc<String>> {
        self.0.stopped.load_full()
    }

    /// The invariants that were found broken: the sale has stopped for them, or its log cannot be
    /// replayed.
    pub fn invariants_broken(&self) -> Vec<&'static str> {
        lock(&self.0.invariants).iter().copied().collect()
    }

    /// Queues an attempt, or joins the decision of the same one. The receiver gets its answer; or
    /// at once its place, if the answer is expected later than in `patience_ms`, and then the
    /// caller does not wait here.
    pub fn attempt(&self, attempt: Attempt, patience_ms: u64) -> Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue([(attempt, Waiter::One(sender))], patience_ms);
        receiver
    }

    /// The same for many at once: their answers come to `to` under their tokens. `batch` is left
    /// empty.
    pub fn attempts(&self, to: &Arc<dyn Mailbox>, patience_ms: u64, batch: &mut Vec<(u64, Attempt)>) {
        let waiter = |(token, attempt)| (attempt, Waiter::Many(Arc::clone(to), token));
        self.enqueue(batch.drain(..).map(waiter), patience_ms);
    }

    fn enqueue(&self, batch: impl IntoIterator<Item = (Attempt, Waiter)>, patience_ms: u64) {
        let shared = &*self.0;
        let at = shared.moment();
        let mut post = Post::default();
        let mut queue = lock(&shared.queue);
        let was = queue.work();
        for (attempt, waiter) in batch {
            let Some((waiter, said)) = queue.enqueue(attempt, waiter, at, patience_ms, &shared.known) else {
                continue;
            };
            // An earlier answer to this same attempt comes first, if there is room to look it up.
            let is_answer = matches!(said, Ok(Told::Answer(_)));
            let may_look = !queue.jobs.is_stopping() && shared.has_room_to_ask(&queue);
            if !is_answer && may_look && shared.known.keeps(attempt.shopper) {
                queue.look_up_first(attempt, waiter, said);
            } else {
                post.tell(waiter, said);
            }
        }
        self.wake(queue, was);
        post.deliver();
    }

    /// Wakes the worker if it may sleep and does not know of the new work.
    fn wake(&self, queue: MutexGuard<'_, Queue>, was: Work) {
        let is_news = queue.work().is_news(was);
        drop(queue);
        if is_news {
            self.0.work.notify_one();
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, job: Job) {
        let was = queue.work();
        queue.jobs.push(job);
        self.wake(queue, was);
    }

    /// Whether the sale itself must answer this shopper: see [`MembershipFilter::may_have`].
    pub fn may_have(&self, shopper: ShopperKey) -> bool {
        self.0.known.may_have(shopper)
    }

    /// The shoppers who may have something in the sale.
    pub fn known(&self) -> &MembershipFilter {
        &self.0.known
    }

    /// Takes a gate's report of refusals that it sent by itself; they are logged within
    /// [`crate::core::REFUSALS_EVERY`]. What no published view said is not logged.
    pub fn gate_refused(&self, counts: &[GateRefusal]) {
        lock(&self.0.said).report(counts);
    }

    /// Follows all shoppers whom a gate elsewhere must not answer by itself from now on: those of
    /// whom something is kept, and those who were told a place in line. Those who wait now are
    /// reported at once.
    pub fn follow(&self) -> Arc<Follower> {
        let queue = lock(&self.0.queue);
        let follower = self.0.known.follow();
        queue.shoppers().for_each(|shopper| follower.push(shopper));
        follower
    }

    /// The place of a shopper's undecided attempt, or its recent refusal, if the shopper had been
    /// told a place; or the answer for an attempt that found no room, while it is not yet known
    /// whether it was answered before.
    pub fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Result<Option<Told>, Unavailable> {
        let at = self.0.moment();
        lock(&self.0.queue).position(attempt, shopper, at, &self.0.known)
    }

    /// The state that is kept of an attempt.
    pub fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Receiver<Found> {
        self.ask(|sender| Job::Lookup(attempt, shopper, sender))
    }

    /// All that is kept of a shopper.
    pub fn shopper(&self, shopper: ShopperKey) -> Receiver<ShopperRecord> {
        self.ask(|sender| Job::Shopper(shopper, sender))
    }

    /// Carries out a command.
    pub fn operate(
        &self,
        actor: Actor,
        operation: Operation,
    ) -> Receiver<Result<OperationDone, OperateError>> {
        self.ask(|sender| Job::Operate(actor, operation, sender))
    }

    /// The sale in figures.
    pub fn stats(&self) -> Receiver<SaleStats> {
        self.ask(Job::Stats)
    }

    /// A page of those who wait.
    pub fn waiting(&self, query: WaitingQuery) -> Receiver<Vec<WaitingPlace>> {
        self.ask(|sender| Job::Waiting(query, sender))
    }

    /// The last durable entry, and every new one.
    pub fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence.subscribe()
    }

    /// Attempts in the queue, and attempts in line before it.
    pub fn queue_len(&self) -> (usize, usize) {
        let queue = lock(&self.0.queue);
        (queue.len(), queue.line_len())
    }

    /// The most of either.
    pub fn queue_max(&self) -> (usize, usize) {
        (self.0.limits.queue_max, self.0.limits.line_max)
    }

    fn ask<T>(&self, job: impl FnOnce(Sender<T>) -> Job) -> Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let queue = lock(&self.0.queue);
        let refused = match self.0.has_room_to_ask(&queue) {
            _ if queue.jobs.is_stopping() => Unavailable::Passing("the sale is stopping".into()),
            true => {
                self.push(queue, job(sender));
                return receiver;
            }
            false => Unavailable::QueueFull,
        };
        // The receiver still exists here.
        let _ = sender.send(Err(refused));
        receiver
    }
}
