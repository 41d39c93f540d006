//! The two threads of a machine: one drives its worker, one makes snapshots. Between the callers
//! and the worker is a [`Front`]; [`crate::Service`] is the plain one.

use crate::machine::Machine;
use crate::recover::{RecoverError, snapshot_of};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Condvar, Mutex};
use crate::worker::{STEP_COMMANDS_MAX, Worker};
use engines::log::{Log, LogError, LogRead, Snapshots};
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use units::{Sequence, TimeMs};

/// What takes jobs from callers and passes them to the worker.
pub trait Front: Send + Sync + 'static {
    type Machine: Machine;
    /// A request, and where to send its reply.
    type Job: Send;

    fn now(&self) -> TimeMs;

    /// Sleeps until there are jobs or the time has come, and adds what there is to `jobs`; false
    /// when it is time to end. Does not sleep while `jobs` has some still.
    fn wait(&self, next_wakeup: Option<TimeMs>, jobs: &mut VecDeque<Self::Job>) -> bool;

    /// The command for the machine.
    fn command(job: &Self::Job) -> <Self::Machine as Machine>::Command;

    /// A step is over and its decisions are durable; no reply has been sent yet. `rest` are the
    /// jobs that it did not answer: the front may take some back.
    fn stepped(&self, step: &Stepped<'_, Self>, rest: &mut VecDeque<Self::Job>);

    /// Passes the replies on, one for each job.
    fn reply(&self, jobs: Vec<Self::Job>, replies: Vec<<Self::Machine as Machine>::Reply>, took: Duration);

    /// Entries up to this one may be trimmed: the machine needs none of them any more.
    fn may_trim(&self) -> Sequence {
        Sequence(0)
    }

    /// Jobs of the front's own that are to be done before the end.
    fn last_jobs(&self) -> Vec<Self::Job> {
        Vec::new()
    }
}

/// A step, as a front sees it.
#[derive(Debug)]
pub struct Stepped<'a, F: Front + ?Sized> {
    /// The state, unless it must not be shown because it may hold decisions that never became
    /// durable.
    pub machine: Option<&'a F::Machine>,
    /// Whether there are new entries, or a shortage began or ended.
    pub is_news: bool,
    pub in_shortage: bool,
    /// Why the worker has stopped for good, and the invariants that would have been broken.
    pub stopped: Option<(&'a str, &'a [&'static str])>,
    pub jobs: &'a [F::Job],
    pub replies: &'a [<F::Machine as Machine>::Reply],
}

/// A writer that panicked may have left its state half changed, but not its log: the process ends,
/// and starts again from the log.
#[derive(Debug)]
pub struct EndProcessOnPanic;

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Drives a worker until its front says that it is time to end, and then to an orderly end.
pub fn run_worker<F: Front, L: Log>(front: &F, mut worker: Worker<F::Machine, L>) {
    let _guard = EndProcessOnPanic;
    let mut jobs = VecDeque::new();
    let mut commands = Vec::new();
    // What is due is done at once, and not when the first job comes.
    let mut answered_all = step(front, &mut worker, &mut jobs, &mut commands);
    let mut trimmed = Sequence(0);
    loop {
        let looks = jobs.is_empty() || !answered_all;
        if looks && !front.wait(worker.next_wakeup(), &mut jobs) && jobs.is_empty() {
            break;
        }
        answered_all = step(front, &mut worker, &mut jobs, &mut commands);
        let up_to = front.may_trim();
        if up_to > trimmed && worker.trim(up_to) {
            trimmed = up_to;
        }
    }
    jobs.extend(front.last_jobs());
    while !jobs.is_empty() {
        step(front, &mut worker, &mut jobs, &mut commands);
    }
    worker.finish(front.now());
}

/// One step; true if it answered all that it was given.
fn step<F: Front, L: Log>(
    front: &F,
    worker: &mut Worker<F::Machine, L>,
    jobs: &mut VecDeque<F::Job>,
    commands: &mut Vec<<F::Machine as Machine>::Command>,
) -> bool {
    commands.clear();
    commands.extend(jobs.iter().take(STEP_COMMANDS_MAX).map(F::command));
    let before = (worker.log().last(), worker.in_shortage(), worker.is_stale());
    let began = Instant::now();
    worker.step(front.now(), commands);
    let took = began.elapsed();
    let mut replies = worker.take_replies();
    let answered_all = replies.len() == commands.len();
    let mut done: Vec<F::Job> = jobs.drain(..replies.len()).collect();
    if !answered_all {
        // Read-only commands do not wait for the end of long work.
        let begun = commands.len() - replies.len();
        let left: Vec<F::Job> = jobs.drain(..begun).collect();
        let mut kept = VecDeque::with_capacity(begun + jobs.len());
        let read = worker.read_some(&commands[commands.len() - begun..]);
        for (job, reply) in left.into_iter().zip(read) {
            match reply {
                Some(reply) => {
                    done.push(job);
                    replies.push(reply);
                }
                None => kept.push_back(job),
            }
        }
        kept.append(jobs);
        *jobs = kept;
    }
    let stepped = Stepped {
        machine: (!worker.is_stale()).then(|| worker.machine()),
        is_news: before != (worker.log().last(), worker.in_shortage(), worker.is_stale()),
        in_shortage: worker.in_shortage(),
        stopped: worker.stopped().map(|why| (why, worker.invariants())),
        jobs: &done,
        replies: &replies,
    };
    front.stepped(&stepped, jobs);
    front.reply(done, replies, took);
    answered_all
}

/// Tells threads that it is time to end.
#[derive(Debug, Default)]
pub struct Ending {
    is_due: Mutex<bool>,
    told: Condvar,
}

impl Ending {
    /// Signals that it is time to end.
    pub fn begin(&self) {
        *self.is_due.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    /// Sleeps for this long, or until it is time to end; true if it is.
    pub fn wait(&self, at_most: Duration) -> bool {
        let is_due = self.is_due.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_due {
            return true;
        }
        *self.told.wait_timeout(is_due, at_most).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How snapshots are made.
#[derive(Debug)]
pub struct SnapshotPlan {
    /// The machine's name, for messages.
    pub name: String,
    /// The entry of the newest snapshot.
    pub newest: Sequence,
    /// Entries after which another is made.
    pub every: u64,
}

/// Without this thread a machine goes on, and makes no snapshots: operators should know before the
/// next recovery takes long.
struct SayOnPanic<'a>(&'a str);

impl Drop for SayOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                name = self.0,
                "the thread that makes snapshots panicked: restart when the machine can be spared"
            );
        }
    }
}

/// When the next snapshot is to be made.
#[derive(Debug)]
struct Turn {
    /// The entry of the newest one.
    newest: Sequence,
    every: u64,
    /// When to try once more what met a shortage.
    again_at: Option<Instant>,
}

impl Turn {
    fn is_due(&self, last: Sequence, now: Instant) -> bool {
        last.0.saturating_sub(self.newest.0) >= self.every || self.again_at.is_some_and(|at| now >= at)
    }

    fn made(&mut self, at: Sequence) {
        (self.newest, self.again_at) = (at, None);
    }

    /// A shortage passes: the snapshot is tried again a little later. After any other failure none
    /// is made before as many further entries.
    fn failed(&mut self, last: Sequence, now: Instant, is_shortage: bool) {
        /// Long enough that replaying the log for nothing does not load the machine.
        const AGAIN: Duration = Duration::from_secs(30);
        (self.newest, self.again_at) = (last, is_shortage.then_some(now + AGAIN));
    }
}

/// Follows the log with a machine of its own and writes that machine's state now and then: the
/// worker never waits for a snapshot, and every snapshot is a replay that worked. `on_broken` hears
/// of invariants that the log breaks, and `may_trim` up to where it may be trimmed.
pub fn run_snapshots<M: Machine>(
    plan: SnapshotPlan,
    mut reader: Box<dyn LogRead>,
    mut snapshots: Box<dyn Snapshots>,
    ending: &Ending,
    on_broken: impl Fn(&[&'static str]),
    may_trim: impl Fn(Sequence),
) {
    const LOOK: Duration = Duration::from_millis(500);
    /// Looks after a snapshot at which its memory is given back: an allocator waits about a second.
    const GIVES_BACK: u32 = 6;
    let SnapshotPlan { name, newest, every } = plan;
    let mut turn = Turn { newest, every, again_at: None };
    // The newest two snapshots stay, and the older one must be of use without the newer.
    let mut older = newest;
    let mut gives_back = 0;
    let _guard = SayOnPanic(&name);
    if let Err(error) = engines::background::lower_priority() {
        tracing::warn!(%error, "snapshots cannot stand back: they are made at the usual priority");
    }
    loop {
        let ends = ending.wait(LOOK);
        if gives_back > 0 {
            gives_back -= 1;
            have_memory_given_back();
        }
        if turn.is_due(reader.last(), Instant::now()) {
            gives_back = GIVES_BACK;
            match snapshot_apart::<M>(&name, &mut *reader, &mut *snapshots) {
                Ok((at, kept_from, took)) => {
                    let before = std::mem::replace(&mut older, at);
                    if let Some(kept_from) = kept_from {
                        may_trim(before.min(Sequence(kept_from.0.saturating_sub(1))));
                    }
                    tracing::info!(name, sequence = at.0, ms = took.as_millis() as u64, "snapshot written");
                    turn.made(at);
                }
                Err(why) => {
                    on_broken(&why.invariants());
                    tracing::warn!(name, %why, "no snapshot: recovery will take longer");
                    turn.failed(reader.last(), Instant::now(), why.is_shortage());
                }
            }
        }
        if ends {
            return;
        }
    }
}

/// An allocator gives back what another thread has freed when it is next asked for a large piece.
/// In a process with nothing to do that may be never, and in a busy one a request would wait.
fn have_memory_given_back() {
    const LARGE_BYTES: usize = 1 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
}

/// A snapshot, made on a thread that ends with it: an allocator keeps what a thread has freed for
/// as long as the thread may want it again, and the machine and its bytes are large. Its entry,
/// what the machine needs of the log, and how long it took.
fn snapshot_apart<M: Machine>(
    name: &str,
    reader: &mut dyn LogRead,
    snapshots: &mut dyn Snapshots,
) -> Result<(Sequence, Option<Sequence>, Duration), RecoverError> {
    let make = || {
        let (machine, took) = snapshot_of::<M>(reader, snapshots)?;
        Ok((machine.sequence(), machine.kept_from(), took))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(format!("{name}-snap"));
        let thread = thread.spawn_scoped(scope, make).map_err(|source| LogError::Io {
            doing: format!("start a thread for a snapshot of {name}"),
            source,
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a thread runs.
pub type Run = Box<dyn FnOnce() + Send>;

/// Starts the threads of a machine, or none: a worker that went on alone would keep the log's lock
/// for ever, and the next try would find the log in use.
#[derive(Debug)]
pub struct Threads {
    snapshots: JoinHandle<()>,
    worker: JoinHandle<()>,
}

impl Threads {
    /// Starts both, each under its name. The one for snapshots comes first, for it holds no lock
    /// and is ended by `ending`; what a thread that cannot be started would have run is dropped.
    pub fn start(ending: &Ending, snapshots: (&str, Run), worker: (&str, Run)) -> Result<Self, LogError> {
        Self::start_by(spawn, ending, snapshots, worker)
    }

    pub(crate) fn start_by(
        mut spawn: impl FnMut(&str, Run) -> Result<JoinHandle<()>, LogError>,
        ending: &Ending,
        snapshots: (&str, Run),
        worker: (&str, Run),
    ) -> Result<Self, LogError> {
        let snapshots = spawn(snapshots.0, snapshots.1)?;
        match spawn(worker.0, worker.1) {
            Ok(worker) => Ok(Self { snapshots, worker }),
            Err(error) => {
                ending.begin();
                join(snapshots);
                Err(error)
            }
        }
    }

    /// Waits until both have ended.
    pub fn join(self) {
        [self.worker, self.snapshots].into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(name, "a thread of a machine panicked");
    }
}

/// Starts a thread of a machine.
pub(crate) fn spawn(name: &str, run: Run) -> Result<JoinHandle<()>, LogError> {
    Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| LogError::Io { doing: format!("start thread {name}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_met_a_shortage_is_tried_again_and_another_failure_waits_for_entries() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut turn = Turn { newest: Sequence(100), every: 50, again_at: None };
        assert!(!turn.is_due(Sequence(149), began));
        assert!(turn.is_due(Sequence(150), began));
        turn.failed(Sequence(150), began, true);
        assert!(!turn.is_due(Sequence(150), after(29)));
        assert!(turn.is_due(Sequence(150), after(30)));
        turn.failed(Sequence(150), after(30), false);
        assert!(!turn.is_due(Sequence(199), after(9999)));
        assert!(turn.is_due(Sequence(200), after(31)));
        turn.made(Sequence(200));
        assert!(!turn.is_due(Sequence(200), after(9999)));
    }
}
