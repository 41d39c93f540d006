//! The worker: makes the core's decisions durable before anybody hears of them.
//!
//! It is a step function too: commands and the time go in, replies come out, and the log is the only thing it touches. The
//! thread that drives it stands in [`crate::service`]; the simulator drives the same function over a disk that breaks.

use crate::core::{Broken, Core, Entry, Record, ReplayError, SnapshotError, Tally};
use contracts::{
    Actor, Answer, Attempt, AttemptId, Found, GateRefusal, OperateError, Operation, OperationDone, Refusal,
    SaleStats, ShopperKey, ShopperRecord, Unavailable,
};
use engines::log::{AppendError, Batch, Log, LogError, LogRead};
use std::fmt;
use std::ops::ControlFlow;
use units::{DurationMs, Sequence, TimeMs};

/// Commands in one step: bounds how long the first of them waits for the last.
pub const STEP_COMMANDS_MAX: usize = 4096;

/// How often a sale that paused itself on a full disk looks whether there is room again.
pub const FULL_RETRY: DurationMs = DurationMs(1000);

/// How often one step decides anew after appends of unknown outcome. The second failure in a row is no passing one.
const UNKNOWN_MAX: u32 = 2;

/// What the worker is asked.
#[derive(Debug, Clone)]
pub enum Command {
    Attempt(Attempt),
    Lookup {
        attempt: AttemptId,
        shopper: ShopperKey,
    },
    Shopper(ShopperKey),
    Operate {
        actor: Actor,
        operation: Operation,
    },
    Stats,
    /// What gates have said by themselves.
    GateRefusals(Vec<GateRefusal>),
}

/// What it says, in the order of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Attempt`].
    Answer(Answer),
    /// To [`Command::Lookup`].
    Found(Found),
    Shopper(ShopperRecord),
    Done(Result<OperationDone, OperateError>),
    Stats(SaleStats),
    /// To [`Command::GateRefusals`].
    Noted,
    /// To any of them.
    Unavailable(Unavailable),
}

/// Why a sale could not be brought back from its log.
#[derive(Debug)]
pub enum RecoverError {
    Log(LogError),
    Replay(ReplayError),
    /// The snapshot knows more than the log: the log's end is missing.
    LogBehindSnapshot {
        snapshot: Sequence,
        log: Sequence,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Replay(error) => write!(f, "{error}; keep the log as it is and report this"),
            Self::LogBehindSnapshot { snapshot, log } => write!(
                f,
                "recover: a snapshot stands at entry {snapshot}, but the log ends at {log}: its end is missing. Put the \
                 segment files back from a backup; starting without them would forget what was promised"
            ),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            Self::Replay(error) => Some(error),
            Self::LogBehindSnapshot { .. } => None,
        }
    }
}

impl RecoverError {
    /// The invariants that the log breaks, if that is the reason.
    pub fn invariants(&self) -> Vec<&'static str> {
        match self {
            Self::Replay(error) => error.invariants().collect(),
            Self::Log(_) | Self::LogBehindSnapshot { .. } => Vec::new(),
        }
    }
}

impl From<LogError> for RecoverError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// How a sale came back.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The snapshot that was used.
    pub snapshot: Option<Sequence>,
    /// A snapshot that could not be used, and why.
    pub passed_over: Option<SnapshotError>,
    /// Entries replayed on top.
    pub replayed: u64,
    /// The time of the last entry; 0 if there is none.
    pub time: TimeMs,
}

/// The state at the end of a log: from the newest usable snapshot, or from the first entry.
pub fn recover(
    log: &mut dyn LogRead,
    snapshot: Option<(Sequence, Vec<u8>)>,
) -> Result<(Core, Recovery), RecoverError> {
    let mut recovery = Recovery::default();
    let mut core = Core::new();
    if let Some((at, bytes)) = snapshot {
        if at > log.last() {
            return Err(RecoverError::LogBehindSnapshot { snapshot: at, log: log.last() });
        }
        match Core::restore(&bytes) {
            Ok(restored) if restored.sequence() == at => {
                core = restored;
                recovery.snapshot = Some(at);
            }
            Ok(_) => {}
            Err(error) => recovery.passed_over = Some(error),
        }
    }
    recovery.replayed = replay(&mut core, log)?;
    recovery.time = core.time();
    Ok((core, recovery))
}

/// Brings a core up to the log's end; returns how many entries it took.
pub fn replay(core: &mut Core, log: &mut dyn LogRead) -> Result<u64, RecoverError> {
    /// Entries applied together: see [`Core::look_ahead`].
    const TOGETHER: usize = 512;
    let from = core.sequence().next();
    let mut entries: Vec<Entry> = Vec::with_capacity(TOGETHER);
    let mut failed = None;
    log.read(from, &mut |sequence, bytes| {
        let applied = Entry::decode(bytes)
            .map_err(|source| ReplayError::Decode { sequence, source })
            .and_then(|entry| {
                let want = core.sequence().plus(entries.len() as u64 + 1);
                entries.push(entry);
                if sequence == want { Ok(()) } else { Err(ReplayError::Gap { want, got: sequence }) }
            })
            .and_then(|()| if entries.len() < TOGETHER { Ok(()) } else { apply(core, &mut entries) });
        match applied {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed.map_or_else(|| apply(core, &mut entries), Err) {
        Ok(()) => Ok(core.sequence().0 + 1 - from.0),
        Err(error) => Err(RecoverError::Replay(error)),
    }
}

fn apply(core: &mut Core, entries: &mut Vec<Entry>) -> Result<(), ReplayError> {
    let applied = core.replay_entries(core.sequence().next(), entries);
    entries.clear();
    applied
}

/// An error and what caused it: the worker's last word should say which disk said what.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// True if the log could not be made ready because there is no room for it.
fn is_full(error: &RecoverError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, RecoverError::Log(LogError::Io { source, .. }) if matches!(source.kind(), StorageFull | QuotaExceeded))
}

#[derive(Debug)]
enum Mode {
    Running,
    /// The disk is full. The sale has paused itself; `refused` were told so since.
    Full {
        since: TimeMs,
        next_try: TimeMs,
        refused: u64,
    },
    /// It must not go on: somebody else writes the log, or an invariant broke.
    Stopped(String),
}

/// One sale's single writer.
#[derive(Debug)]
pub struct Worker<L> {
    core: Core,
    log: L,
    batch: Batch,
    replies: Vec<Reply>,
    mode: Mode,
    /// The invariants for which it stopped.
    invariants: Vec<&'static str>,
    /// This is the last step.
    finishing: bool,
}

impl<L: Log> Worker<L> {
    /// Brings the sale back to where its log ends.
    pub fn open(log: L) -> Result<(Self, Recovery), RecoverError> {
        let (core, recovery) = recover(&mut *log.reader(), log.snapshots().latest()?)?;
        let (batch, replies, mode) = (Batch::default(), Vec::new(), Mode::Running);
        let invariants = Vec::new();
        Ok((Self { core, log, batch, replies, mode, invariants, finishing: false }, recovery))
    }

    /// The state. Between two steps everything in it is durable, unless the worker has [stopped](Self::stopped): then it may
    /// hold decisions that never became so, and must not be shown to anybody.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The log, for readers of it.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// True while the sale has paused itself because the disk is full.
    pub fn disk_full(&self) -> bool {
        matches!(self.mode, Mode::Full { .. })
    }

    /// Why the worker has stopped for good, if it has.
    pub fn stopped(&self) -> Option<&str> {
        match &self.mode {
            Mode::Stopped(why) => Some(why),
            _ => None,
        }
    }

    /// The invariants that would have been broken, if that is why the worker has stopped.
    pub fn invariants(&self) -> &[&'static str] {
        &self.invariants
    }

    /// When to call [`Worker::step`] next, commands or not.
    pub fn next_wakeup(&self) -> Option<TimeMs> {
        match &self.mode {
            Mode::Running => self.core.next_wakeup(),
            Mode::Full { next_try, .. } => Some(*next_try),
            Mode::Stopped(_) => None,
        }
    }

    /// Decides the commands, in order, makes what they changed durable, and returns the replies, one for each. Not one of
    /// them may be passed on before this returns, for a refusal too stands on decisions of the same batch.
    pub fn step(&mut self, now: TimeMs, commands: &[Command]) -> &[Reply] {
        self.replies.clear();
        match self.mode {
            Mode::Running => self.step_running(now, commands),
            Mode::Full { .. } => self.step_full(now, commands),
            Mode::Stopped(_) => self.all_unavailable(commands.len()),
        }
        debug_assert_eq!(self.replies.len(), commands.len());
        &self.replies
    }

    /// The last step before an orderly end: what was refused since the last record of refusals is journalled, so that only a
    /// crash can lose that.
    pub fn finish(&mut self, now: TimeMs) {
        if matches!(self.mode, Mode::Running) {
            self.finishing = true;
            self.step_running(now, &[]);
        }
    }

    /// The replies of the last step, to be kept.
    pub fn take_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    fn step_running(&mut self, now: TimeMs, commands: &[Command]) {
        for _ in 0..UNKNOWN_MAX {
            let expected = self.core.sequence();
            let tally_before = self.core.tally();
            self.batch.clear();
            self.replies.clear();
            if let Err(broken) = self.decide(now, commands) {
                self.invariants.extend(broken.invariant());
                return self.stop(format!("stopped before saying anything: {broken}"), commands.len());
            }
            if self.batch.is_empty() {
                return;
            }
            match self.log.append(expected, &self.batch) {
                Ok(last) => {
                    debug_assert_eq!(last, self.core.sequence());
                    return;
                }
                Err(conflict @ AppendError::Conflict { .. }) => {
                    return self.stop(conflict.to_string(), commands.len());
                }
                Err(AppendError::Full(why)) => {
                    return self.pause_full(now, commands, tally_before, &why);
                }
                Err(AppendError::Unknown(why)) => {
                    tracing::error!(sequence = expected.0, %why, "append of unknown outcome: reading the log again");
                    match self.settle_unknown(expected) {
                        Ok(true) => return,
                        Ok(false) => self.core.set_tally(tally_before),
                        // The log stays unable to append until there is room to make it anew: see `try_room`.
                        Err(error) if is_full(&error) => {
                            return self.pause_full(now, commands, tally_before, &with_causes(&error));
                        }
                        Err(error) => return self.stop_for(&error, commands.len()),
                    }
                }
            }
        }
        self.stop(
            "the log's outcome was unknown twice in a row: see to the disk, then restart".into(),
            commands.len(),
        );
    }

    /// Goes back to what is durable and pauses the sale until there is room.
    fn pause_full(&mut self, now: TimeMs, commands: &[Command], tally: Tally, why: &str) {
        if let Err(error) = self.rebuild() {
            return self.stop_for(&error, commands.len());
        }
        self.core.set_tally(tally);
        tracing::error!(sequence = self.core.sequence().0, %why, "disk full: the sale has paused itself");
        self.mode = Mode::Full { since: now, next_try: now.plus(FULL_RETRY), refused: 0 };
        self.step_full(now, commands);
    }

    /// Finds out whether the batch behind `expected` became durable after all. Afterwards the core is the fold of what did.
    fn settle_unknown(&mut self, expected: Sequence) -> Result<bool, RecoverError> {
        let last = self.log.reopen()?;
        let landed = last == expected.plus(self.batch.count()) && {
            let mut ours = self.batch.entries();
            let mut same = true;
            self.log.reader().read(expected.next(), &mut |_, bytes| {
                same &= ours.next() == Some(bytes);
                if same { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            same
        };
        if !landed {
            self.rebuild()?;
        }
        Ok(landed)
    }

    fn rebuild(&mut self) -> Result<(), RecoverError> {
        // A snapshot is an optimisation: a place for snapshots that cannot be read must not stop a sale that has its log.
        let snapshot = self.log.snapshots().latest().unwrap_or_else(|error| {
            tracing::warn!(%error, "no snapshot can be read: replaying the whole log");
            None
        });
        self.core = recover(&mut *self.log.reader(), snapshot)?.0;
        Ok(())
    }

    fn decide(&mut self, now: TimeMs, commands: &[Command]) -> Result<(), Broken> {
        self.core.tick(now, &mut self.batch)?;
        if self.finishing {
            self.core.journal_refusals(now, &mut self.batch)?;
        }
        let attempts = commands.iter().filter_map(|command| match command {
            Command::Attempt(attempt) => Some(attempt),
            _ => None,
        });
        let known = self.core.look_ahead(attempts);
        tracing::trace!(commands = commands.len(), known, "decide a batch");
        for command in commands {
            let reply = match command {
                Command::Attempt(attempt) => {
                    Reply::Answer(self.core.attempt(now, attempt, &mut self.batch)?)
                }
                Command::Operate { actor, operation } => {
                    Reply::Done(self.core.operate(now, actor.clone(), operation.clone(), &mut self.batch)?)
                }
                Command::GateRefusals(counts) => {
                    self.core.gate_refusals(now, counts, &mut self.batch)?;
                    Reply::Noted
                }
                read => self.read(read),
            };
            self.replies.push(reply);
        }
        Ok(())
    }

    /// Answers what changes nothing.
    fn read(&self, command: &Command) -> Reply {
        match command {
            Command::Lookup { attempt, shopper } => Reply::Found(self.core.lookup(*attempt, *shopper)),
            Command::Shopper(shopper) => Reply::Shopper(self.core.shopper(*shopper)),
            Command::Stats => Reply::Stats(self.core.stats()),
            Command::Attempt(_) | Command::Operate { .. } | Command::GateRefusals(_) => {
                Reply::Unavailable(Unavailable::Passing("this command changes the sale".into()))
            }
        }
    }

    fn step_full(&mut self, now: TimeMs, commands: &[Command]) {
        let Mode::Full { since, next_try, mut refused } = self.mode else { return };
        // What was decided before the disk turned out to be full is not durable and must not be said.
        self.replies.clear();
        if now >= next_try {
            match self.try_room(now, since, refused) {
                Ok(true) => return self.step_running(now, commands),
                Ok(false) => {}
                Err(error) => return self.stop(error, commands.len()),
            }
        }
        for command in commands {
            let reply = match command {
                Command::Attempt(attempt) => match self.core.stored(attempt) {
                    Some(answer) => Reply::Answer(answer),
                    None => {
                        refused += 1;
                        let as_of = self.core.sequence();
                        Reply::Answer(Answer::Refused { refusal: Refusal::Paused, as_of })
                    }
                },
                Command::Operate { .. } => Reply::Unavailable(Unavailable::Passing(
                    "the disk is full, so nothing can be changed; free some room and the sale goes on by itself".into(),
                )),
                read => self.read(read),
            };
            self.replies.push(reply);
        }
        let next_try = if now >= next_try { now.plus(FULL_RETRY) } else { next_try };
        self.mode = Mode::Full { since, next_try, refused };
    }

    /// Journals the end of the pause, if there is room for that.
    fn try_room(&mut self, now: TimeMs, since: TimeMs, refused: u64) -> Result<bool, String> {
        let at = now.max(self.core.time());
        self.batch.clear();
        self.batch.push_with(|bytes| Record::SpaceRegained { since, refused }.encode(at, bytes));
        match self.log.append(self.core.sequence(), &self.batch) {
            Ok(_) => {}
            Err(AppendError::Full(_)) => return Ok(false),
            Err(AppendError::Unknown(_)) => {
                let tally = self.core.tally();
                let landed = match self.settle_unknown(self.core.sequence()) {
                    Err(error) if is_full(&error) => return Ok(false),
                    settled => settled.map_err(|error| self.reason(&error))?,
                };
                if !landed {
                    // The core was built again from the log, which does not have these yet.
                    self.core.set_tally(tally);
                    return Ok(false);
                }
            }
            Err(conflict @ AppendError::Conflict { .. }) => return Err(conflict.to_string()),
        }
        replay(&mut self.core, &mut *self.log.reader()).map_err(|error| self.reason(&error))?;
        tracing::info!(sequence = self.core.sequence().0, refused, "there is room again: the sale goes on");
        self.mode = Mode::Running;
        Ok(true)
    }

    /// Why the worker must stop, and for which invariants.
    fn reason(&mut self, error: &RecoverError) -> String {
        self.invariants.extend(error.invariants());
        with_causes(error)
    }

    fn stop_for(&mut self, error: &RecoverError, replies: usize) {
        let why = self.reason(error);
        self.stop(why, replies);
    }

    fn stop(&mut self, why: String, replies: usize) {
        tracing::error!(sequence = self.core.sequence().0, %why, "the sale's worker has stopped");
        self.mode = Mode::Stopped(why);
        self.all_unavailable(replies);
    }

    fn all_unavailable(&mut self, count: usize) {
        let Mode::Stopped(why) = &self.mode else { return };
        self.replies.clear();
        self.replies.resize(count, Reply::Unavailable(Unavailable::Stopped(why.clone())));
    }
}
