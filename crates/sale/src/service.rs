//! Gives a worker its thread, its bounded queue and its snapshots, and everybody else a [`Handle`].

use crate::core::{self, Core, Record};
use crate::membership_filter::{Follower, MembershipFilter};
use crate::queue::{Job, Limits, Moment, Post, Queue, Sender, Waiter, Work};
use crate::worker::{Command, RecoverError, Recovery, Reply, STEP_COMMANDS_MAX, Worker, replay};
use arc_swap::ArcSwapOption;
use contracts::{
    Actor, Attempt, AttemptId, Basket, Found, GateRefusal, Mailbox, OperateError, Operation, OperationDone,
    SaleId, SaleSpec, SaleState, SaleStats, SaleView, SequenceRange, ShopperKey, ShopperRecord, Told,
    Unavailable, Winner, WinnerEvent,
};
use engines::clock::Clock;
use engines::log::{Log, LogRead, Snapshots};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use units::Sequence;

/// A reply that comes later. A dropped sender means that the process is stopping.
pub type Receiver<T> = oneshot::Receiver<Result<T, Unavailable>>;

/// Every default of the section `[sale]`, commented.
pub const DEFAULT_TOML: &str = include_str!("config.default.toml");

/// The smallest and largest value of each number in the section. What so many attempts take, `config.default.toml` says.
pub const RANGES: &[(&str, i64, i64)] =
    &[("queue_max", 1, 1_000_000), ("line_max", 0, 10_000_000), ("snapshot_every", 1, 1_000_000_000)];

/// The section `[sale]`: how the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Commands that may wait for the worker.
    pub queue_max: usize,
    /// Attempts that may stand in line behind them; 0 for no line.
    pub line_max: usize,
    /// Entries after which a new snapshot is made.
    pub snapshot_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        // 65,536 commands wait a tenth of a second at half a million decisions a second; four times as many in line half a second.
        Self { queue_max: 65_536, line_max: 262_144, snapshot_every: 500_000 }
    }
}

struct Shared {
    sale: SaleId,
    clock: Arc<dyn Clock>,
    limits: Limits,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Told when `stopping` is set, beside `work`, which only the worker may consume.
    ending: Condvar,
    view: ArcSwapOption<SaleView>,
    known: MembershipFilter,
    said: Mutex<Said>,
    sequence: watch::Sender<Sequence>,
    reader: Mutex<Box<dyn LogRead>>,
    /// Why the worker stopped for good.
    stopped: ArcSwapOption<String>,
    /// The invariants that were found broken, by the worker or by the thread that replays the log for snapshots.
    invariants: Mutex<BTreeSet<&'static str>>,
}

/// What gates have said by themselves and is not logged yet.
#[derive(Debug, Default)]
struct Said {
    counts: HashMap<SequenceRange, GateRefusal>,
    since: Option<Instant>,
    /// Answers that found no room here: they were given, and only their number is not logged.
    lost: u64,
}

impl Said {
    /// Stretches of entries that are counted apart: in a second a sale that is given back unit by unit makes some hundred.
    const COUNTS_MAX: usize = 8192;

    fn add(&mut self, counts: &[GateRefusal]) {
        for count in counts {
            let room = self.counts.len() < Self::COUNTS_MAX;
            match self.counts.entry(count.range()) {
                Entry::Occupied(mut known) => drop(known.get_mut().merge(count)),
                Entry::Vacant(new) if room => drop(new.insert(*count)),
                Entry::Vacant(_) => self.lost = self.lost.saturating_add(count.count()),
            }
        }
        if !self.counts.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// What is to be logged now.
    fn take_due(&mut self) -> Option<Vec<GateRefusal>> {
        let old =
            self.since.is_some_and(|since| since.elapsed() >= Duration::from_millis(core::REFUSALS_EVERY.0));
        old.then(|| self.take())
    }

    fn take(&mut self) -> Vec<GateRefusal> {
        self.since = None;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::warn!(
                lost,
                "gates answered alone in more stretches than are counted: so many answers are not in the log"
            );
        }
        let mut counts: Vec<GateRefusal> = self.counts.drain().map(|(_, count)| count).collect();
        counts.sort_unstable_by_key(GateRefusal::range);
        counts
    }
}

/// A queue or a reader is whole between two statements, so a panic of another holder leaves nothing half done.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One sale, as everybody but its worker knows it.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.0.sale)
    }
}

/// A running sale; stop it with [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    worker: JoinHandle<()>,
    snapshots: JoinHandle<()>,
    /// What recovery found.
    pub recovery: Recovery,
}

impl Service {
    /// Brings the sale back from its log and starts its threads.
    pub fn start<L: Log + 'static>(
        sale: SaleId,
        log: L,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, RecoverError> {
        let (reader, snapshot_reader, snapshots) = (log.reader(), log.reader(), log.snapshots());
        let (worker, recovery) = Worker::open(log)?;
        let limits = Limits { queue_max: settings.queue_max, line_max: settings.line_max };
        let shared = Arc::new(Shared {
            clock,
            limits,
            queue: Mutex::new(Queue::new(limits)),
            work: Condvar::new(),
            ending: Condvar::new(),
            view: ArcSwapOption::from(worker.core().view(&sale, false).map(Arc::new)),
            known: MembershipFilter::of(limits.all()),
            said: Mutex::default(),
            sequence: watch::Sender::new(worker.core().sequence()),
            reader: Mutex::new(reader),
            stopped: ArcSwapOption::empty(),
            invariants: Mutex::default(),
            sale,
        });
        worker.core().shoppers().for_each(|shopper| shared.known.keep(shopper));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("{name}-{}", shared.sale)).spawn(run).map_err(|source| {
                engines::log::LogError::Io { doing: format!("start thread {name}"), source }
            })
        };
        let newest = recovery.snapshot.unwrap_or_default();
        let (a, b) = (Arc::clone(&shared), Arc::clone(&shared));
        let worker = spawn("sale", Box::new(move || run_worker(worker, &a)))?;
        let every = settings.snapshot_every;
        let snapshots = spawn(
            "snap",
            Box::new(move || {
                let _guard = SayOnPanic(&b.sale);
                if let Err(error) = engines::background::lower_priority() {
                    tracing::warn!(%error, "snapshots cannot stand back: they are made at the usual priority");
                }
                run_snapshots(&b, snapshot_reader, snapshots, newest, every);
            }),
        )?;
        Ok(Self { handle: Handle(shared), worker, snapshots, recovery })
    }

    /// For those who ask.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets the worker finish what is queued or in line, then ends its threads.
    pub fn stop(self) {
        lock(&self.handle.0.queue).stopping = true;
        self.handle.0.work.notify_one();
        self.handle.0.ending.notify_one();
        for thread in [self.worker, self.snapshots] {
            if thread.join().is_err() {
                tracing::error!(sale = %self.handle.0.sale, "a thread of the sale panicked");
            }
        }
    }
}

impl Handle {
    /// The sale's name.
    pub fn sale(&self) -> &SaleId {
        &self.0.sale
    }

    /// What everybody may know; `None` before the sale was set up.
    pub fn view(&self) -> Option<Arc<SaleView>> {
        self.0.view.load_full()
    }

    /// Why the sale can answer nobody any more, if so.
    pub fn stopped(&self) -> Option<Arc<String>> {
        self.0.stopped.load_full()
    }

    /// The invariants that were found broken: the sale has stopped for them, or its log cannot be replayed.
    pub fn invariants_broken(&self) -> Vec<&'static str> {
        lock(&self.0.invariants).iter().copied().collect()
    }

    /// Queues an attempt, or joins the decision of the same one. What comes is its answer; or at once its place, if the answer is
    /// expected later than in `patience_ms`, and then nobody waits here.
    pub fn attempt(&self, attempt: Attempt, patience_ms: u64) -> Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue([(attempt, Waiter::One(sender))], patience_ms);
        receiver
    }

    /// The same for many at once: what is said to them comes to `to` under their tokens. `batch` is left empty.
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
            // What was promised to this very attempt before is said first, if there is room to look.
            let is_answer = matches!(said, Ok(Told::Answer(_)));
            let may_look = !queue.stopping && shared.has_room_to_ask(&queue);
            if !is_answer && may_look && shared.known.keeps(attempt.shopper) {
                queue.look_up_first(attempt, waiter, said);
            } else {
                post.tell(waiter, said);
            }
        }
        self.wake(queue, was);
        post.deliver();
    }

    /// Wakes the worker if it may sleep and does not know of what there is to do.
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

    /// Who may have something.
    pub fn known(&self) -> &MembershipFilter {
        &self.0.known
    }

    /// Takes the report of what a gate has said by itself; it is logged within [`core::REFUSALS_EVERY`].
    pub fn gate_refused(&self, counts: &[GateRefusal]) {
        lock(&self.0.said).add(counts);
    }

    /// Hears of everybody whom a gate elsewhere must not answer by itself from now on: of whom something is kept, or who was told
    /// a place in line. Those who wait now are heard of at once.
    pub fn follow(&self) -> Arc<Follower> {
        let queue = lock(&self.0.queue);
        let follower = self.0.known.follow();
        queue.shoppers().for_each(|shopper| follower.push(shopper));
        follower
    }

    /// Where a shopper's attempt stands that is not decided yet, or how it was refused lately, if they had been told its place; or what
    /// is said to it, if it found no room and it is not clear yet whether something was promised to it before.
    pub fn position(&self, attempt: AttemptId, shopper: ShopperKey) -> Result<Option<Told>, Unavailable> {
        let at = self.0.moment();
        lock(&self.0.queue).position(attempt, shopper, at, &self.0.known)
    }

    /// What is kept of an attempt.
    pub fn lookup(&self, attempt: AttemptId, shopper: ShopperKey) -> Receiver<Found> {
        self.ask(|sender| Job::Lookup(attempt, shopper, sender))
    }

    /// What is kept of a shopper.
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

    /// The last durable entry, and every new one.
    pub fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence.subscribe()
    }

    /// Attempts that wait, and attempts in line behind them.
    pub fn queue_len(&self) -> (usize, usize) {
        let queue = lock(&self.0.queue);
        (queue.len(), queue.line_len())
    }

    /// How many there may be of either.
    pub fn queue_max(&self) -> (usize, usize) {
        (self.0.limits.queue_max, self.0.limits.line_max)
    }

    fn ask<T>(&self, job: impl FnOnce(Sender<T>) -> Job) -> Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let queue = lock(&self.0.queue);
        let refused = match self.0.has_room_to_ask(&queue) {
            _ if queue.stopping => Unavailable::Passing("the sale is stopping".into()),
            true => {
                self.push(queue, job(sender));
                return receiver;
            }
            false => Unavailable::QueueFull,
        };
        // The receiver is right here.
        let _ = sender.send(Err(refused));
        receiver
    }

    /// Events of holds after `after`, `max` at the most, and how far the log was searched. Reads the disk.
    pub fn winners(&self, after: Sequence, max: usize) -> Result<(Vec<Winner>, Sequence), Unavailable> {
        /// Entries looked at in one call, so that a long run of entries without winners does not hold the reader for long.
        const ENTRIES_MAX: u64 = 200_000;
        let Some(view) = self.view() else { return Ok((Vec::new(), after)) };
        let mut winners = Vec::new();
        let mut searched = after;
        let mut undecodable = None;
        let mut reader = lock(&self.0.reader);
        let read = reader.read(after.next(), &mut |sequence, bytes| {
            match core::Entry::decode(bytes) {
                Ok(entry) => winners.extend(winner(sequence, entry, &view.spec)),
                Err(error) => {
                    undecodable = Some(format!("entry {sequence}: {error}"));
                    return ControlFlow::Break(());
                }
            }
            searched = sequence;
            let enough = winners.len() >= max || sequence.0 - after.0 >= ENTRIES_MAX;
            if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match (read, undecodable) {
            (Ok(_), None) => Ok((winners, searched)),
            (Err(error), _) => Err(Unavailable::Passing(error.to_string())),
            (_, Some(why)) => Err(Unavailable::Stopped(why)),
        }
    }
}

/// What a store hears of an entry, if it concerns it.
fn winner(sequence: Sequence, entry: core::Entry, spec: &SaleSpec) -> Option<Winner> {
    let prices = |basket: &Basket, round: u16| {
        let offers = &spec.rounds.get(usize::from(round))?.items;
        let price = |item: u16| {
            let item = &spec.items.get(usize::from(item))?.item;
            Some(offers.iter().find(|offer| offer.item == *item)?.price_minor)
        };
        basket.iter().map(|line| price(line.item)).collect::<Option<Vec<u64>>>()
    };
    let (hold, event) = match entry.record {
        Record::Granted { attempt, round, pay_by } | Record::Promoted { attempt, round, pay_by } => {
            let prices_minor = prices(&attempt.basket, round)?;
            let (sealed, shopper, basket) = (attempt.sealed, attempt.shopper, attempt.basket);
            (attempt.id, WinnerEvent::Granted { sealed, shopper, basket, prices_minor, pay_by })
        }
        Record::Confirmed { hold, payment, late, .. } => (hold, WinnerEvent::Confirmed { payment, late }),
        Record::Released { hold, .. } => (hold, WinnerEvent::Released),
        Record::Expired { hold } => (hold, WinnerEvent::Expired),
        Record::Voided { hold, by } => (hold, WinnerEvent::Voided { reason: by.reason }),
        _ => return None,
    };
    Some(Winner { sequence, at: entry.at, hold, event })
}

/// A writer that panicked may have left anything half done. Its log has not: the process ends, and starts from that.
struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Without its thread a sale goes on, and makes no snapshot: that is to be known before the next recovery takes long.
struct SayOnPanic<'a>(&'a SaleId);

impl Drop for SayOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(sale = %self.0, "the thread that makes snapshots panicked: restart when the sale allows it");
        }
    }
}

fn run_worker<L: Log>(mut worker: Worker<L>, shared: &Shared) {
    let _guard = EndProcessOnPanic;
    let mut jobs: Vec<Job> = Vec::new();
    let mut commands: Vec<Command> = Vec::new();
    while wait_for_work(&worker, shared, &mut jobs) {
        let mut rest = std::mem::take(&mut jobs).into_iter();
        loop {
            let batch: Vec<Job> = rest.by_ref().take(STEP_COMMANDS_MAX).collect();
            commands.clear();
            commands.extend(batch.iter().map(command));
            let before = worker.core().sequence();
            let was_full = worker.disk_full();
            let began = Instant::now();
            worker.step(shared.clock.now(), &commands);
            let took = began.elapsed();
            let replies = worker.take_replies();
            // Who has something is known before anybody can see that there is nothing left, or hears of it.
            for (job, reply) in batch.iter().zip(&replies) {
                if let (Job::Attempt(attempt), Reply::Answer(answer)) = (job, reply) {
                    shared.known.hear(attempt.shopper, answer);
                }
            }
            // The view next: who hears that the last unit is theirs must not then read that it is still on sale.
            match worker.stopped() {
                None if worker.core().sequence() != before || worker.disk_full() != was_full => {
                    shared.view.store(worker.core().view(&shared.sale, worker.disk_full()).map(Arc::new));
                    shared.sequence.send_replace(worker.core().sequence());
                }
                None => {}
                Some(why) => {
                    lock(&shared.invariants).extend(worker.invariants());
                    shared.show_stopped(why);
                }
            }
            if shared.moment().is_paused {
                let mut queue = lock(&shared.queue);
                if !queue.stopping {
                    rest = queue.requeue(rest).into_iter();
                }
            }
            let more = rest.len() > 0;
            reply_all(shared, batch, replies, took);
            if !more {
                break;
            }
        }
    }
    let said = lock(&shared.said).take();
    worker.step(shared.clock.now(), &[Command::GateRefusals(said)]);
    worker.finish(shared.clock.now());
}

impl Shared {
    /// Whom the rate holds back now. Refusals cost nothing: where all hear one, nobody waits for that; and asking before the
    /// opening gains no place in line.
    fn moment(&self) -> Moment {
        let view = self.view.load();
        let now = self.clock.now();
        let is_paused = |view: &SaleView| {
            // Between two rounds it says so too, and then all would hear that none is open.
            view.state == SaleState::Paused && (view.opens_at..view.closes_at).contains(&now)
        };
        let sells =
            |view: &SaleView| (view.state == SaleState::Open || is_paused(view)) && !view.is_sold_out();
        let view = view.as_deref().filter(|_| self.stopped.load().is_none());
        let rate = view.filter(|view| sells(view)).map_or(0, |view| view.rate_per_second);
        Moment { now, rate, is_paused: view.is_some_and(is_paused) }
    }

    /// Twice as many as attempts: operators get through a full house.
    fn has_room_to_ask(&self, queue: &Queue) -> bool {
        queue.jobs.len() < 2 * self.limits.queue_max
    }

    /// What a worker that stopped holds may never have become durable: the last view that was stays, as one of a sale that
    /// sells nothing now.
    fn show_stopped(&self, why: &str) {
        if self.stopped.load().is_some() {
            return;
        }
        if let Some(view) = self.view.load_full() {
            let state = if view.state == SaleState::Closed { SaleState::Closed } else { SaleState::Paused };
            self.view.store(Some(Arc::new(SaleView { state, ..(*view).clone() })));
        }
        self.stopped.store(Some(Arc::new(why.to_owned())));
    }
}

/// Sleeps until there are jobs, or a timer or a turn is due; false when it is time to end.
fn wait_for_work<L: Log>(worker: &Worker<L>, shared: &Shared, jobs: &mut Vec<Job>) -> bool {
    /// The longest sleep: a clock that is moved ahead is noticed within it.
    const NAP: Duration = Duration::from_secs(1);
    let mut queue = lock(&shared.queue);
    loop {
        let at = shared.moment();
        queue.release(at);
        if !queue.jobs.is_empty() {
            std::mem::swap(&mut queue.jobs, jobs);
            // The room that this makes is theirs who are next, not theirs who come next.
            queue.release(at);
            jobs.extend(lock(&shared.said).take_due().map(Job::GateRefusals));
            return true;
        }
        if queue.stopping {
            return false;
        }
        if let Some(counts) = lock(&shared.said).take_due() {
            jobs.push(Job::GateRefusals(counts));
            return true;
        }
        let next = [worker.next_wakeup(), queue.next_turn(at)].into_iter().flatten().min();
        let nap = match next {
            Some(next) => Duration::from_millis(next.since(at.now).0).min(NAP),
            None => NAP,
        };
        if nap.is_zero() {
            return true;
        }
        queue = shared.work.wait_timeout(queue, nap).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn command(job: &Job) -> Command {
    match job {
        Job::Attempt(attempt) => Command::Attempt(*attempt),
        Job::Lookup(attempt, shopper, _) => Command::Lookup { attempt: *attempt, shopper: *shopper },
        Job::Shopper(shopper, _) => Command::Shopper(*shopper),
        Job::Operate(actor, operation, _) => {
            Command::Operate { actor: actor.clone(), operation: operation.clone() }
        }
        Job::Stats(_) => Command::Stats,
        Job::GateRefusals(counts) => Command::GateRefusals(counts.clone()),
        Job::PendingLookup(of) => Command::Lookup { attempt: of.attempt.id, shopper: of.attempt.shopper },
    }
}

fn reply_all(shared: &Shared, batch: Vec<Job>, replies: Vec<Reply>, took: Duration) {
    let (queue_len, line_len);
    let mut answers = Vec::with_capacity(batch.len());
    {
        let mut queue = lock(&shared.queue);
        let mut has_attempts = false;
        for (job, reply) in batch.iter().zip(&replies) {
            match job {
                Job::Attempt(attempt) => {
                    has_attempts = true;
                    let answer = match reply {
                        Reply::Answer(answer) => Some(answer),
                        _ => None,
                    };
                    if let Some(flight) = queue.decide(attempt, answer, &shared.known) {
                        answers.push((flight, reply));
                    }
                }
                Job::PendingLookup(of) => queue.looked_up(&of.attempt),
                _ => {}
            }
        }
        if has_attempts {
            queue.note_step(shared.clock.now(), took, batch.len());
        }
        (queue_len, line_len) = (queue.len() as u64, queue.line_len() as u64);
    }
    let mut post = Post::default();
    for (flight, reply) in answers {
        for waiter in flight.others.into_iter().chain(flight.first) {
            post.tell(waiter, as_answer(reply.clone()));
        }
    }
    for (job, reply) in batch.into_iter().zip(replies) {
        match job {
            Job::PendingLookup(of) => match reply {
                Reply::Found(found) => of.tell(&found, &mut post),
                other => post.tell(of.waiter, Err(unavailable(other))),
            },
            Job::Attempt(_) => {}
            Job::Lookup(_, _, sender) => drop(sender.send(match reply {
                Reply::Found(found) => Ok(found),
                other => Err(unavailable(other)),
            })),
            Job::Shopper(_, sender) => drop(sender.send(match reply {
                Reply::Shopper(record) => Ok(record),
                other => Err(unavailable(other)),
            })),
            Job::Operate(_, _, sender) => drop(sender.send(match reply {
                Reply::Done(done) => Ok(done),
                other => Err(unavailable(other)),
            })),
            Job::GateRefusals(counts) => {
                // The disk is full, or the worker has stopped: they are logged later, if ever.
                if let Reply::Unavailable(Unavailable::Passing(_)) = reply {
                    lock(&shared.said).add(&counts);
                }
            }
            Job::Stats(sender) => drop(sender.send(match reply {
                Reply::Stats(stats) => Ok(SaleStats { queue: queue_len, line: line_len, ..stats }),
                other => Err(unavailable(other)),
            })),
        }
    }
    post.deliver();
}

fn as_answer(reply: Reply) -> Result<Told, Unavailable> {
    match reply {
        Reply::Answer(answer) => Ok(Told::Answer(answer)),
        other => Err(unavailable(other)),
    }
}

fn unavailable(reply: Reply) -> Unavailable {
    match reply {
        Reply::Unavailable(why) => why,
        other => Unavailable::Passing(format!("the worker gave another reply than was asked for: {other:?}")),
    }
}

/// Follows the log with a core of its own and writes that core's state now and then: the worker never waits for a
/// snapshot, and every snapshot is a replay that worked.
fn run_snapshots(
    shared: &Shared,
    mut reader: Box<dyn LogRead>,
    mut snapshots: Box<dyn Snapshots>,
    mut newest: Sequence,
    every: u64,
) {
    const LOOK: Duration = Duration::from_millis(500);
    loop {
        let stopping = {
            let queue = lock(&shared.queue);
            let queue = if queue.stopping {
                queue
            } else {
                shared.ending.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner).0
            };
            queue.stopping
        };
        let behind = reader.last().0.saturating_sub(newest.0);
        if behind >= every {
            match snapshot(&mut *reader, &mut *snapshots) {
                Ok((at, took)) => {
                    tracing::info!(sale = %shared.sale, sequence = at.0, ms = took.as_millis() as u64, "snapshot written");
                    newest = at;
                }
                Err(why) => {
                    lock(&shared.invariants).extend(why.invariants());
                    tracing::warn!(sale = %shared.sale, %why, "no snapshot: recovery will take longer");
                    // Not again before as many entries have come.
                    newest = reader.last();
                }
            }
        }
        if stopping {
            return;
        }
    }
}

/// Writes a snapshot of the log's end.
pub fn snapshot(
    reader: &mut dyn LogRead,
    snapshots: &mut dyn Snapshots,
) -> Result<(Sequence, Duration), RecoverError> {
    let started = Instant::now();
    let mut core = match snapshots.latest()? {
        Some((at, bytes)) if at <= reader.last() => Core::restore(&bytes).unwrap_or_default(),
        _ => Core::new(),
    };
    replay(&mut core, reader)?;
    snapshots.write(core.sequence(), &core.snapshot())?;
    Ok((core.sequence(), started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_says_every_default() {
        #[derive(Deserialize)]
        struct File {
            sale: Settings,
        }
        let file: File = toml::from_str(DEFAULT_TOML).unwrap();
        assert_eq!(file.sale, Settings::default());
    }
}
