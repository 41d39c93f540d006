//! What a context provides: a deterministic state machine. Everything else in this crate drives
//! one.

use crate::step::Step;
use engines::codec::{Codec, DecodeError};
use std::fmt;
use units::{Sequence, TimeMs};

/// The invariant that every machine has: a replay of its log gives the same bytes.
pub const REPLAY_INVARIANT: &str = "INV-7";

/// A deterministic state machine whose state is the fold of a log.
///
/// It has no clock, no disk, no thread and no randomness: time and commands go in, replies and
/// entries come out, and the same input gives the same output on every machine. `Default` is the
/// state of an empty log.
///
/// Live, [`crate::Worker`] calls [`tick`](Machine::tick) and then [`decide`](Machine::decide),
/// which apply each entry to the state as they push it to the [`Step`]. The worker appends the
/// step's entries as one batch, and passes the replies on when they are durable. From a log,
/// [`apply`](Machine::apply) is called with the same entries and must arrive at the same state.
///
/// A step is bounded: a machine that pushes many entries, or scans much, asks [`Step::is_full`]
/// before each and returns [`Progress::More`] or [`Decision::More`] when it is. The remaining work
/// is done in the next step.
pub trait Machine: Default + fmt::Debug + Send + 'static {
    /// Its commands.
    type Command: fmt::Debug + Send;
    /// Its replies.
    type Reply: fmt::Debug + Send;
    /// Its log entries.
    type Entry: Codec;
    /// State that is not in the log and is kept when the rest is rebuilt from it after a failed
    /// append. `()` if there is none.
    type Volatile: Clone + Default + fmt::Debug + Send;
    /// How far a command of several steps has come. `()` if what is left always follows from the
    /// state.
    type SoFar: Clone + Default + fmt::Debug + Send;

    /// The last entry of which the state is the fold; 0 for none.
    fn sequence(&self) -> Sequence;

    /// The time of that entry.
    fn time(&self) -> TimeMs;

    /// Does what is due by the time or by earlier decisions. Called at the start of every step.
    /// After [`Progress::More`] the worker appends what there is and ticks again before it decides
    /// anything; the remaining work must follow from the state alone, so that it is also done after
    /// a crash.
    fn tick(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken>;

    /// When [`Machine::tick`] has work next; a time in the past if it has work now.
    fn next_wakeup(&self) -> Option<TimeMs>;

    /// Decides a command, or answers it if it only reads. `so_far` is the default at first, and
    /// then what the previous call returned in [`Decision::More`]. It is lost if the process ends
    /// in between: the caller asks again.
    fn decide(
        &mut self,
        now: TimeMs,
        command: &Self::Command,
        so_far: &Self::SoFar,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken>;

    /// The last entries before an orderly end.
    fn finish(&mut self, _now: TimeMs, _out: &mut Step) -> Result<(), Broken> {
        Ok(())
    }

    /// Touches what deciding these commands will need, so that the processor waits for memory once
    /// for many of them.
    fn look_ahead(&self, _commands: &[Self::Command]) {}

    /// Applies the log's next entries, in order. After an error the state is that before the
    /// failing entry.
    fn apply(&mut self, entries: &[Self::Entry]) -> Result<(), Broken>;

    /// The state as bytes. They depend on the log alone.
    fn snapshot(&self) -> Vec<u8>;

    /// The state that [`Machine::snapshot`] wrote. Any bytes may come; none may panic.
    fn restore(bytes: &[u8]) -> Result<Self, SnapshotError>;

    /// The first entry of which more is needed than the state that it led to. Those before it, and
    /// before the last two snapshots, are trimmed. `None`: no entry ever is.
    fn kept_from(&self) -> Option<Sequence> {
        None
    }

    /// Whether a snapshot is of the version that this build writes. One of another version proves
    /// nothing.
    fn writes_like(snapshot: &[u8]) -> bool;

    /// The state that is not in the log.
    fn volatile(&self) -> Self::Volatile {
        Self::Volatile::default()
    }

    /// Restores that state, after the rest was rebuilt.
    fn set_volatile(&mut self, _volatile: Self::Volatile) {}

    /// The answer to a command that changes nothing; `None` for every other. It may be called
    /// between two steps of long work, and while nothing can be written.
    fn read(&self, command: &Self::Command) -> Option<Self::Reply>;

    /// Units of work that this reply took, in addition to what was [spent](Step::spend): a step,
    /// and the reads between two steps, end when theirs are used up. More than one for a reply
    /// that lists things.
    fn reply_work(&self, _reply: &Self::Reply) -> usize {
        1
    }

    /// The answer to a command that is not read-only, during a shortage.
    fn during_shortage(&self, command: &Self::Command) -> DuringShortage<Self::Reply>;

    /// Pushes the entry that says that a shortage is over. It is also the worker's probe: pushed,
    /// appended, and applied once it is durable. [`Progress::More`], with nothing pushed, if
    /// remaining work must be logged before it: then the worker ticks.
    fn shortage_over(&self, now: TimeMs, shortage: &Shortage, out: &mut Step) -> Progress;

    /// The answer to any command while the machine is not available.
    fn unavailable(outage: &Outage) -> Self::Reply;
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    Done,
    /// The step is full: append it, and call again.
    More,
}

/// The result of a command.
#[derive(Debug)]
pub enum Decision<M: Machine> {
    Done(M::Reply),
    /// The step is full: append it, tick until no work remains, and call again with the same
    /// command and this. A shortage or the process's end may come in between, and then no reply is
    /// sent: only for commands that may be retried.
    More(M::SoFar),
}

/// The reply during a shortage.
#[derive(Debug)]
pub enum DuringShortage<R> {
    /// An answer that needs no entry.
    Answer(R),
    /// A refusal that is counted in [`Shortage::turned_away`].
    TurnedAway(R),
}

/// A passing period in which nothing can be written: the disk is full, or there is no file handle
/// or no memory left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// When it began.
    pub since: TimeMs,
    /// Commands that were refused since.
    pub turned_away: u64,
}

/// Why the machine is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outage {
    /// Temporarily: the log cannot be read at the moment.
    Passing(String),
    /// The worker has stopped for good, and an operator must act.
    Stopped(String),
}

/// An entry that does not fit the state: the log was not written by this program, or this program
/// has a defect. The worker stops before it sends any reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The invariant (`INV-1` …) or the rule.
    pub rule: &'static str,
    pub detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for Broken {}

impl Broken {
    /// The invariant that it names, if the rule is one.
    pub fn invariant(&self) -> Option<&'static str> {
        self.rule.starts_with("INV-").then_some(self.rule)
    }
}

/// Fails with `detail` unless `holds`.
pub fn ensure(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { rule, detail: detail() }) }
}

/// A snapshot that cannot be used; the log can make a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotError(pub String);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore snapshot: {}", self.0)
    }
}

impl std::error::Error for SnapshotError {}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> Self {
        Self(error.0.to_owned())
    }
}
