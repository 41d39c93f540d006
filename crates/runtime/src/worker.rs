//! The worker: makes a machine's decisions durable before any reply is sent.
//!
//! It is a step function too: commands and the time go in, replies come out, and the log is the
//! only thing it touches. The thread that drives it is in [`crate::drive`]; a simulator drives the
//! same function over a disk with injected faults.

use crate::machine::{Broken, Decision, DuringShortage, Machine, Outage, Progress, Shortage};
use crate::recover::{RecoverError, Recovery, ReplayError, recover};
use crate::step::{Budget, READS_WORK_MAX, Step};
use engines::codec::Codec;
use engines::log::{AppendError, Log};
use std::ops::ControlFlow;
use units::{DurationMs, Sequence, TimeMs};

/// The most commands in one step: bounds how long the first of them waits for the last.
pub const STEP_COMMANDS_MAX: usize = 4096;

/// How often, during a shortage, the worker tries whether it is over.
pub const SHORTAGE_RETRY: DurationMs = DurationMs(1000);

/// How often one step decides again after appends of unknown outcome. A second failure in a row is
/// not a passing one.
const UNKNOWN_MAX: u32 = 2;

/// An error and what caused it: the worker's last message should name the disk and its error.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[derive(Debug)]
enum Mode<V> {
    Running,
    /// Nothing can be written for the time being.
    Short {
        shortage: Shortage,
        next_try: TimeMs,
        /// The state could not be built again from the log yet: it has decisions that are not
        /// durable, and must not be shown. This is what to keep when it is rebuilt.
        stale: Option<V>,
    },
    /// It must not go on: another writer appends to the log, or an invariant broke.
    Stopped(String),
}

/// The single writer of a machine's log.
#[derive(Debug)]
pub struct Worker<M: Machine, L> {
    machine: M,
    log: L,
    step: Step,
    replies: Vec<M::Reply>,
    mode: Mode<M::Volatile>,
    /// How far the first command of the next step has got, if it was begun.
    so_far: Option<M::SoFar>,
    /// The invariants for which the worker stopped.
    invariants: Vec<&'static str>,
    /// This is the last step.
    finishing: bool,
    /// An append is of unknown outcome, and the log could not be opened again since.
    uncertain: bool,
}

impl<M: Machine, L: Log> Worker<M, L> {
    /// Recovers the machine at the end of its log.
    pub fn open(log: L) -> Result<(Self, Recovery), RecoverError> {
        let (machine, recovery) = recover(&mut *log.reader(), log.snapshots().latest()?)?;
        let worker = Self {
            machine,
            log,
            step: Step::default(),
            replies: Vec::new(),
            mode: Mode::Running,
            so_far: None,
            invariants: Vec::new(),
            finishing: false,
            uncertain: false,
        };
        Ok((worker, recovery))
    }

    /// Sets the budget of each later step.
    pub fn set_budget(&mut self, budget: Budget) {
        self.step = Step::with_budget(budget);
    }

    /// The state. Between two steps everything in it is durable, unless the worker [cannot show
    /// it](Self::is_stale).
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Lets the log forget its entries up to this one; false if it cannot be done now.
    pub fn trim(&mut self, up_to: Sequence) -> bool {
        let may_write = matches!(self.mode, Mode::Running) && !self.uncertain;
        let trimmed = may_write.then(|| self.log.trim(up_to));
        if let Some(Err(error)) = &trimmed {
            tracing::warn!(%error, %up_to, "the log was not trimmed");
        }
        trimmed.is_some()
    }

    /// The log, for readers of it.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// True while nothing can be written, for want of room, file handles or memory.
    pub fn in_shortage(&self) -> bool {
        matches!(self.mode, Mode::Short { .. })
    }

    /// True if the state may hold decisions that never became durable: it must not be shown.
    pub fn is_stale(&self) -> bool {
        matches!(self.mode, Mode::Stopped(_) | Mode::Short { stale: Some(_), .. })
    }

    /// True while it is not known whether the last append took effect: a crash may bring decisions
    /// that the state does not have. So nothing that they could contradict is said.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
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
            Mode::Running => self.machine.next_wakeup(),
            Mode::Short { next_try, .. } => Some(*next_try),
            Mode::Stopped(_) => None,
        }
    }

    /// Decides the commands, in order, as far as one bounded step goes; makes what they changed
    /// durable; and returns the replies to the first of them, one for each. The caller steps again
    /// with those that are left, the same one first. No reply may be passed on before this returns,
    /// for refusals too depend on decisions of the same batch.
    ///
    /// No command is answered while the machine has work left from earlier decisions.
    pub fn step(&mut self, now: TimeMs, commands: &[M::Command]) -> &[M::Reply] {
        self.replies.clear();
        match &mut self.mode {
            Mode::Running => self.step_running(now, commands),
            Mode::Short { next_try, .. } => {
                // A clock that was set back does not make the pause longer.
                *next_try = (*next_try).min(now.plus(SHORTAGE_RETRY));
                self.step_short(now, commands);
            }
            Mode::Stopped(_) => self.all_unavailable(commands.len()),
        }
        debug_assert!(self.replies.len() <= commands.len());
        &self.replies
    }

    /// The answer to a command that changes nothing, between two steps.
    pub fn read(&self, command: &M::Command) -> Option<M::Reply> {
        if self.is_stale() { None } else { self.machine.read(command) }
    }

    /// Answers those of the commands that change nothing, between two steps, as far as a bounded
    /// amount of work goes: for each command a reply, or none.
    pub fn read_some(&self, commands: &[M::Command]) -> Vec<Option<M::Reply>> {
        let mut work = 0;
        let answer = |command| {
            let reply = if work < READS_WORK_MAX { self.read(command) } else { None };
            work += reply.as_ref().map_or(0, |reply| self.machine.reply_work(reply));
            reply
        };
        commands.iter().map(answer).collect()
    }

    /// The last steps before an orderly end, in which the machine [finishes](Machine::finish).
    pub fn finish(&mut self, now: TimeMs) {
        self.finishing = true;
        // Remaining work comes first, as always; a machine that never finishes it would be a
        // defect.
        while self.finishing && matches!(self.mode, Mode::Running) {
            self.step_running(now, &[]);
        }
    }

    /// The replies of the last step, to be kept.
    pub fn take_replies(&mut self) -> Vec<M::Reply> {
        std::mem::take(&mut self.replies)
    }

    fn step_running(&mut self, now: TimeMs, commands: &[M::Command]) {
        let mut unknown = String::new();
        for _ in 0..UNKNOWN_MAX {
            let expected = self.machine.sequence();
            let volatile_before = self.machine.volatile();
            self.step.clear();
            self.replies.clear();
            let reached = match self.decide(now, commands) {
                Ok(reached) => reached,
                Err(broken) => {
                    self.invariants.extend(broken.invariant());
                    return self.stop(format!("stopped before saying anything: {broken}"), commands.len());
                }
            };
            if self.step.batch().is_empty() {
                return self.reach(reached);
            }
            match self.log.append(expected, self.step.batch()) {
                Ok(last) => {
                    debug_assert_eq!(last, self.machine.sequence());
                    return self.reach(reached);
                }
                Err(conflict @ AppendError::Conflict { .. }) => {
                    return self.stop(conflict.to_string(), commands.len());
                }
                Err(AppendError::Shortage(why)) => {
                    return self.pause_short(now, commands, volatile_before, &why);
                }
                Err(AppendError::Unknown(why)) => {
                    tracing::error!(sequence = expected.0, %why, "append of unknown outcome: reading the log again");
                    match self.settle_unknown(expected) {
                        Ok(true) => return self.reach(reached),
                        Ok(false) if why.is_shortage => {
                            return self.pause_short(now, commands, volatile_before, &why.what);
                        }
                        Ok(false) => {
                            self.machine.set_volatile(volatile_before);
                            unknown = why.what;
                        }
                        // The log stays unable to append until there is room to reopen it: see
                        // `try_again`.
                        Err(error) if error.is_shortage() => {
                            return self.pause_short(now, commands, volatile_before, &with_causes(&error));
                        }
                        Err(error) => return self.stop_for(&error, commands.len()),
                    }
                }
            }
        }
        self.stop(
            format!("the log's outcome was unknown twice in a row: {unknown}: see to the disk, then restart"),
            commands.len(),
        );
    }

    /// Records how far a step got, once it is durable.
    fn reach(&mut self, reached: Reached<M>) {
        self.so_far = reached.so_far;
        self.finishing &= !reached.finished;
    }

    fn decide(&mut self, now: TimeMs, commands: &[M::Command]) -> Result<Reached<M>, Broken> {
        let mut so_far = self.so_far.clone();
        if self.machine.tick(now, &mut self.step)? == Progress::More {
            return Ok(Reached { so_far, finished: false });
        }
        let finished = self.finishing && !self.step.is_full();
        if finished {
            self.machine.finish(now, &mut self.step)?;
        }
        self.machine.look_ahead(commands);
        for command in commands {
            if self.step.is_full() {
                break;
            }
            let begun = so_far.take().unwrap_or_default();
            match self.machine.decide(now, command, &begun, &mut self.step)? {
                Decision::Done(reply) => {
                    self.step.spend(self.machine.reply_work(&reply));
                    self.replies.push(reply);
                }
                Decision::More(further) => {
                    so_far = Some(further);
                    break;
                }
            }
        }
        Ok(Reached { so_far, finished })
    }

    /// Goes back to what is durable and pauses until the shortage is over.
    fn pause_short(&mut self, now: TimeMs, commands: &[M::Command], volatile: M::Volatile, why: &str) {
        tracing::error!(sequence = self.log.last().0, %why, "nothing can be written: paused until that passes");
        self.so_far = None;
        let stale = match self.rebuild() {
            Ok(()) => {
                self.machine.set_volatile(volatile);
                None
            }
            Err(error) if error.is_shortage() => Some(volatile),
            Err(error) => return self.stop_for(&error, commands.len()),
        };
        let shortage = Shortage { since: now, turned_away: 0 };
        self.mode = Mode::Short { shortage, next_try: now.plus(SHORTAGE_RETRY), stale };
        self.step_short(now, commands);
    }

    /// Determines whether the batch after `expected` became durable after all. Afterwards the state
    /// is the fold of the durable entries.
    fn settle_unknown(&mut self, expected: Sequence) -> Result<bool, RecoverError> {
        self.uncertain = true;
        let last = self.log.reopen()?;
        self.uncertain = false;
        let batch = self.step.batch();
        let landed = last == expected.plus(batch.count()) && {
            let mut ours = batch.entries();
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
        // A snapshot is an optimisation: unreadable snapshots must not stop a machine that has its
        // log.
        let snapshot = match self.log.snapshots().latest() {
            Ok(snapshot) => snapshot,
            // Without it there is no way to the first entry that is left.
            Err(error) if self.log.reader().first() > Sequence(1) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "no snapshot can be read: replaying the whole log");
                None
            }
        };
        self.machine = recover(&mut *self.log.reader(), snapshot)?.0;
        Ok(())
    }

    fn step_short(&mut self, now: TimeMs, commands: &[M::Command]) {
        let Mode::Short { next_try, .. } = &mut self.mode else { return };
        // What was decided before the shortage is not durable and must not be answered.
        self.replies.clear();
        if now >= *next_try {
            *next_try = now.plus(SHORTAGE_RETRY);
            match self.try_again(now) {
                Ok(true) => return self.step_running(now, commands),
                Ok(false) => {}
                Err(why) => return self.stop(why, commands.len()),
            }
        }
        let Mode::Short { shortage, stale, .. } = &mut self.mode else { return };
        let mut work = 0;
        for command in commands {
            if work >= READS_WORK_MAX {
                break;
            }
            let reply = if stale.is_some() {
                M::unavailable(&Outage::Passing("the log cannot be read at the moment".into()))
            } else if let Some(reply) = self.machine.read(command) {
                reply
            } else if self.uncertain {
                // What was decided may come back after a crash: a refusal would be a lie then.
                M::unavailable(&Outage::Passing(
                    "it is not known yet whether the last append took effect".into(),
                ))
            } else {
                match self.machine.during_shortage(command) {
                    DuringShortage::Answer(reply) => reply,
                    DuringShortage::TurnedAway(reply) => {
                        shortage.turned_away += 1;
                        reply
                    }
                }
            };
            work += self.machine.reply_work(&reply);
            self.replies.push(reply);
        }
    }

    /// Logs the end of the shortage, if there is room for that.
    fn try_again(&mut self, now: TimeMs) -> Result<bool, String> {
        let Mode::Short { shortage, stale, .. } = &mut self.mode else { return Ok(false) };
        let shortage = *shortage;
        if let Some(volatile) = stale.clone() {
            match self.rebuild() {
                Ok(()) => self.machine.set_volatile(volatile),
                Err(error) if error.is_shortage() => return Ok(false),
                Err(error) => return Err(self.reason(&error)),
            }
            if let Mode::Short { stale, .. } = &mut self.mode {
                *stale = None;
            }
        }
        let at = now.max(self.machine.time());
        let mut was_settled = false;
        loop {
            self.step.clear();
            let is_first = self.machine.shortage_over(at, &shortage, &mut self.step) == Progress::More;
            let (volatile, expected) = (self.machine.volatile(), self.machine.sequence());
            if is_first {
                // Work that was begun before the shortage comes first.
                self.step.clear();
                let ticked = self.machine.tick(now, &mut self.step);
                let _ = ticked.map_err(|broken| {
                    self.invariants.extend(broken.invariant());
                    format!("stopped before saying anything: {broken}")
                })?;
            }
            if self.step.batch().is_empty() {
                return Err("a shortage cannot end: the machine owes nothing, and does not say so".into());
            }
            match self.append_again(expected, volatile)? {
                Again::Done if is_first => {}
                Again::Done => break,
                // The log had to be opened again first: now it can be appended to.
                Again::Settled if !was_settled => was_settled = true,
                Again::Settled | Again::Short => return Ok(false),
            }
        }
        self.apply_probe().map_err(|error| self.reason(&error))?;
        let turned_away = shortage.turned_away;
        tracing::info!(sequence = self.machine.sequence().0, turned_away, "there is room again: it goes on");
        self.mode = Mode::Running;
        Ok(true)
    }

    /// Appends during a shortage. If that fails, the state is the fold of the log again.
    fn append_again(&mut self, expected: Sequence, volatile: M::Volatile) -> Result<Again, String> {
        let undone = match self.log.append(expected, self.step.batch()) {
            Ok(_) => return Ok(Again::Done),
            Err(conflict @ AppendError::Conflict { .. }) => return Err(conflict.to_string()),
            Err(AppendError::Shortage(_)) if self.machine.sequence() == expected => return Ok(Again::Short),
            Err(AppendError::Shortage(_)) => self.rebuild().map(|()| Again::Short),
            Err(AppendError::Unknown(_)) => {
                let landed = self.settle_unknown(expected);
                landed.map(|landed| if landed { Again::Done } else { Again::Settled })
            }
        };
        match undone {
            Ok(Again::Done) => return Ok(Again::Done),
            // The state was rebuilt from the log, which does not have these yet.
            Ok(again) => {
                self.machine.set_volatile(volatile);
                return Ok(again);
            }
            Err(error) if error.is_shortage() => {
                if let Mode::Short { stale, .. } = &mut self.mode
                    && self.machine.sequence() != expected
                {
                    *stale = Some(volatile);
                }
            }
            Err(error) => return Err(self.reason(&error)),
        }
        Ok(Again::Short)
    }

    /// Applies the entry that has just become durable.
    fn apply_probe(&mut self) -> Result<(), RecoverError> {
        let sequence = self.machine.sequence().next();
        let entries: Result<Vec<M::Entry>, _> = self.step.batch().entries().map(M::Entry::decode).collect();
        let entries = entries.map_err(|source| ReplayError::Decode { sequence, source });
        let applied = entries.and_then(|entries| {
            self.machine.apply(&entries).map_err(|source| ReplayError::Broken { sequence, source })
        });
        applied.map_err(RecoverError::Replay)
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
        tracing::error!(sequence = self.machine.sequence().0, %why, "the worker has stopped");
        self.mode = Mode::Stopped(why);
        self.all_unavailable(replies);
    }

    fn all_unavailable(&mut self, count: usize) {
        let Mode::Stopped(why) = &self.mode else { return };
        let outage = Outage::Stopped(why.clone());
        self.replies.clear();
        self.replies.extend(std::iter::repeat_with(|| M::unavailable(&outage)).take(count));
    }
}

/// The outcome of an append during a shortage.
enum Again {
    Done,
    /// Nothing was appended, and the shortage is not over.
    Short,
    /// Nothing was appended, and it is known again what the log holds.
    Settled,
}

/// How far a step got.
struct Reached<M: Machine> {
    so_far: Option<M::SoFar>,
    /// [`Machine::finish`] was called.
    finished: bool,
}
