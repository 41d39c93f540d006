//! The plain front: a bounded queue of commands, a thread for the worker, one for snapshots, and a
//! [`Handle`] for all callers.

use crate::drive::{Ending, Front, SnapshotPlan, Stepped, run_snapshots, run_worker, spawn};
use crate::machine::Machine;
use crate::queue::{Deliveries, Queue};
use crate::recover::{RecoverError, Recovery};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::worker::Worker;
use engines::clock::Clock;
use engines::log::Log;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use units::{Sequence, TimeMs};

/// The longest sleep of a worker: a clock that is moved ahead is noticed within it.
pub const NAP: Duration = Duration::from_secs(1);

/// Why a command was not even queued. Nothing was decided: a retry is safe if the machine
/// recognises a repeated command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotQueued {
    QueueFull,
    Stopping,
}

impl fmt::Display for NotQueued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "the queue is full",
            Self::Stopping => "the process is stopping",
        })
    }
}

impl std::error::Error for NotQueued {}

/// Takes replies, from any thread: a caller with many requests gets its replies here, without a
/// channel for each.
pub trait Mailbox<R>: Send + Sync {
    /// Takes all of `mail`, each with the token under which the command was sent, and leaves it
    /// empty. Must not wait for anything.
    fn deliver(&self, mail: &mut Vec<(u64, R)>);
}

enum Waiter<R> {
    One(oneshot::Sender<R>),
    Many(Arc<dyn Mailbox<R>>, u64),
}

/// A command, and where to send its reply.
struct Job<M: Machine> {
    command: M::Command,
    waiter: Waiter<M::Reply>,
}

struct Shared<M: Machine> {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue<Job<M>>>,
    work: Condvar,
    ending: Ending,
    sequence: watch::Sender<Sequence>,
    stopped: Mutex<Option<String>>,
    invariants: Mutex<BTreeSet<&'static str>>,
    /// The last entry that may be trimmed.
    may_trim: AtomicU64,
}

/// A value is consistent between two statements, so a panic of another holder leaves nothing half
/// done.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a service runs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Commands that may wait.
    pub queue_max: usize,
    /// Entries after which a snapshot is made.
    pub snapshot_every: u64,
}

/// A running machine; stop it with [`Service::stop`].
pub struct Service<M: Machine> {
    shared: Arc<Shared<M>>,
    threads: Vec<JoinHandle<()>>,
    /// What recovery found.
    pub recovery: Recovery,
}

/// Sends commands to a running machine.
pub struct Handle<M: Machine>(Arc<Shared<M>>);

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("sequence", &*self.0.sequence.borrow()).finish_non_exhaustive()
    }
}

impl<M: Machine> fmt::Debug for Service<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

impl<M: Machine<Command: Clone>> Service<M> {
    /// Recovers the machine from its log and starts its threads, which are named after `name`.
    pub fn start<L: Log + 'static>(
        name: &str,
        log: L,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, RecoverError> {
        let (reader, snapshots) = (log.reader(), log.snapshots());
        let (worker, recovery) = Worker::<M, L>::open(log)?;
        let shared = Arc::new(Shared {
            clock,
            queue: Mutex::new(Queue::new(settings.queue_max)),
            work: Condvar::new(),
            ending: Ending::default(),
            sequence: watch::Sender::new(worker.machine().sequence()),
            stopped: Mutex::default(),
            invariants: Mutex::default(),
            may_trim: AtomicU64::new(0),
        });
        let newest = recovery.snapshot.unwrap_or_default();
        let plan = SnapshotPlan { name: name.to_owned(), newest, every: settings.snapshot_every };
        let (a, b) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![spawn(name, move || run_worker(&*a, worker))?];
        let mut service = Self { shared, threads, recovery };
        let snapshots = spawn(&format!("{name}-snap"), move || {
            let on_broken = |ids: &[&'static str]| lock(&b.invariants).extend(ids);
            let may_trim = |up_to: Sequence| {
                b.may_trim.fetch_max(up_to.0, Relaxed);
            };
            run_snapshots::<M>(plan, reader, snapshots, &b.ending, on_broken, may_trim);
        });
        match snapshots {
            Ok(thread) => service.threads.push(thread),
            Err(error) => {
                // Otherwise the worker would keep the log to itself, and nobody could try again.
                service.stop();
                return Err(error.into());
            }
        }
        Ok(service)
    }

    /// A handle for callers.
    pub fn handle(&self) -> Handle<M> {
        Handle(Arc::clone(&self.shared))
    }

    /// Lets the worker finish the queue, then ends its threads.
    pub fn stop(self) {
        lock(&self.shared.queue).stop();
        self.shared.work.notify_one();
        self.shared.ending.begin();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the machine panicked");
            }
        }
    }
}

impl<M: Machine<Command: Clone>> Handle<M> {
    /// Queues a command. A dropped sender means that the process is stopping.
    pub fn ask(&self, command: M::Command) -> Result<oneshot::Receiver<M::Reply>, NotQueued> {
        let (sender, receiver) = oneshot::channel();
        self.push(Job { command, waiter: Waiter::One(sender) })?;
        Ok(receiver)
    }

    /// Queues a command whose reply comes to `to` under `token`.
    pub fn send(
        &self,
        to: &Arc<dyn Mailbox<M::Reply>>,
        token: u64,
        command: M::Command,
    ) -> Result<(), NotQueued> {
        self.push(Job { command, waiter: Waiter::Many(Arc::clone(to), token) })
    }

    /// The last durable entry, and every new one.
    pub fn sequence(&self) -> watch::Receiver<Sequence> {
        self.0.sequence.subscribe()
    }

    /// Why the worker has stopped for good, if it has.
    pub fn stopped(&self) -> Option<String> {
        lock(&self.0.stopped).clone()
    }

    /// The invariants that were found broken, by the worker or by the thread that replays the log.
    pub fn invariants_broken(&self) -> Vec<&'static str> {
        lock(&self.0.invariants).iter().copied().collect()
    }

    fn push(&self, job: Job<M>) -> Result<(), NotQueued> {
        let mut queue = lock(&self.0.queue);
        if queue.is_stopping() {
            return Err(NotQueued::Stopping);
        }
        if queue.is_full() {
            return Err(NotQueued::QueueFull);
        }
        let is_first = queue.is_empty();
        queue.push(job);
        drop(queue);
        if is_first {
            self.0.work.notify_one();
        }
        Ok(())
    }
}

impl<M: Machine<Command: Clone>> Front for Shared<M> {
    type Machine = M;
    type Job = Job<M>;

    fn now(&self) -> TimeMs {
        self.clock.now()
    }

    fn wait(&self, next_wakeup: Option<TimeMs>, jobs: &mut VecDeque<Job<M>>) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            queue.take(jobs);
            if !jobs.is_empty() {
                return true;
            }
            if queue.is_stopping() {
                return false;
            }
            let until = next_wakeup.map(|at| Duration::from_millis(at.since(self.clock.now()).0));
            let nap = until.map_or(NAP, |until| until.min(NAP));
            if nap.is_zero() {
                return true;
            }
            let waited = self.work.wait_timeout(queue, nap).unwrap_or_else(PoisonError::into_inner);
            queue = waited.0;
            // The machine is asked again when it wants to wake: the clock may have been set back.
            if waited.1.timed_out() && next_wakeup.is_some() {
                return true;
            }
        }
    }

    fn command(job: &Job<M>) -> M::Command {
        job.command.clone()
    }

    fn may_trim(&self) -> Sequence {
        Sequence(self.may_trim.load(Relaxed))
    }

    fn stepped(&self, step: &Stepped<'_, Self>, _rest: &mut VecDeque<Job<M>>) {
        if let Some((why, invariants)) = step.stopped {
            *lock(&self.stopped) = Some(why.to_owned());
            lock(&self.invariants).extend(invariants);
        }
        if let Some(machine) = step.machine.filter(|_| step.is_news) {
            self.sequence.send_replace(machine.sequence());
        }
    }

    fn reply(&self, jobs: Vec<Job<M>>, replies: Vec<M::Reply>, _took: Duration) {
        let mut deliveries = Deliveries::default();
        for (job, reply) in jobs.into_iter().zip(replies) {
            match job.waiter {
                // A caller that has gone has dropped the receiver; there is no one to reply to.
                Waiter::One(sender) => drop(sender.send(reply)),
                Waiter::Many(to, token) => deliveries.add(to, (token, reply)),
            }
        }
        deliveries.deliver(Mailbox::deliver);
    }
}

#[cfg(test)]
#[path = "service_schedules.rs"]
mod schedules;
