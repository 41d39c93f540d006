//! Checks every reply against the log: what it says must be in the log, and must have been true at
//! the entry that it names.
//!
//! It checks what leaves the worker, for any reply that has left may have been received.

mod replies;

use crate::model::{Model, Standing};
use crate::names::{brief, name};
use contracts::{Answer, AttemptId, Found, GateRefusal, HoldState, Operation, OperationDone};
use engines::log::LogRead;
use sale::core::{Entry, Record, RefusalKind};
use sale::{Command, Reply};
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use units::{Sequence, TimeMs};

/// By how much the log may be ahead of the clock in a sale that goes on by itself.
const AHEAD_MS_MAX: u64 = 60_000;

/// How late refusals may be journalled.
const REFUSALS_LATE_MS: u64 = 1000;

/// A refusal that was sent and is not journalled yet.
#[derive(Debug)]
struct Pending {
    kind: RefusalKind,
    as_of: u64,
    said_at: TimeMs,
}

/// A step of the worker, as it looks from outside.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) now: TimeMs,
    pub(crate) commands: &'a [Command],
    pub(crate) replies: &'a [Reply],
    /// After the step nothing can be written.
    pub(crate) in_shortage: bool,
    pub(crate) next_wakeup: Option<TimeMs>,
    /// No work remains from earlier steps.
    pub(crate) is_whole: bool,
}

/// Commands that were carried out, and their entries in the log.
#[derive(Debug, Default)]
struct Operations {
    /// The keys of commands that were carried out, and not repeated.
    keys: BTreeSet<[u8; 16]>,
    done: BTreeMap<&'static str, u64>,
    logged: BTreeMap<&'static str, u64>,
}

/// The promises made so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) model: Model,
    /// Every entry's bytes, as a hash: a durable entry never changes.
    hashes: Vec<u64>,
    pending: Vec<Pending>,
    /// Attempts that were answered `paused` because the disk was full, since it became full.
    refused_full: u64,
    /// How far each attempt's reported state has advanced.
    said: BTreeMap<AttemptId, usize>,
    /// Refusals of an unfinished step are counted with the next.
    operations: Operations,
    /// The entries of the last step, for the trace.
    briefs: Vec<String>,
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn standing(state: HoldState) -> Standing {
    match state {
        HoldState::Held => Standing::Held,
        HoldState::Confirmed => Standing::Confirmed,
        HoldState::Released => Standing::Released,
        HoldState::Expired => Standing::Expired,
        HoldState::Voided => Standing::Voided,
    }
}

fn unheard_of(id: AttemptId) -> Violation {
    Violation {
        rule: "INV-4",
        what: format!("{} was promised something, and the log does not know it", name(id)),
    }
}

impl Checker {
    /// Reads the entries after those that are known.
    fn news(&mut self, reader: &mut dyn LogRead) -> Result<Vec<Entry>, Violation> {
        let mut news = Vec::new();
        let mut wrong = None;
        let hashes = &mut self.hashes;
        let read = reader.read(Sequence(self.model.last + 1), &mut |sequence, bytes| {
            hashes.push(hash(bytes));
            match Entry::decode(bytes) {
                Ok(entry) if hashes.len() as u64 == sequence.0 => news.push(entry),
                Ok(_) => wrong = Some(format!("entry {sequence} comes out of turn")),
                Err(error) => wrong = Some(format!("entry {sequence}: {error}")),
            }
            if wrong.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let first = self.model.last + 1;
        self.briefs =
            news.iter().zip(first..).map(|(entry, at)| format!("  {at}: {}", brief(&entry.record))).collect();
        match (read, wrong) {
            (Ok(_), None) => Ok(news),
            (Err(error), _) => Err(Violation { rule: "log", what: error.to_string() }),
            (_, Some(what)) => Err(Violation { rule: "log", what }),
        }
    }

    /// The entries of the last step, in a word each.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.briefs)
    }

    /// Checks the log after a restart: it must hold all that it held before, and perhaps a batch
    /// whose outcome was unknown.
    pub(crate) fn restarted(&mut self, reader: &mut dyn LogRead) -> Check {
        let known = std::mem::take(&mut self.hashes);
        let mut found = Vec::new();
        let read = reader.read(Sequence(1), &mut |_, bytes| {
            found.push(hash(bytes));
            if found.len() < known.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        ensure(read.is_ok(), "log", || format!("{read:?}"))?;
        found.truncate(known.len());
        let same = found.iter().zip(&known).take_while(|(a, b)| a == b).count();
        ensure(same == known.len(), "INV-4", || {
            format!("entry {} was durable, and is gone or changed; {} were known", same + 1, known.len())
        })?;
        self.hashes = known;
        // Refusals that were sent and not journalled are lost with the process; its last decisions
        // may have been journalled without being sent.
        let mut said = Some(std::mem::take(&mut self.pending));
        self.refused_full = 0;
        for entry in self.news(reader)? {
            if let Record::Refusals { entries } = &entry.record
                && let Some(said) = said.take()
            {
                for kind in RefusalKind::ALL {
                    let logged: u64 = entries.iter().filter(|e| e.kind == kind).map(|e| e.count).sum();
                    let told = said.iter().filter(|p| p.kind == kind).count() as u64;
                    ensure(logged >= told, "refusals", || format!("{kind:?}: {told} said, {logged} logged"))?;
                }
            }
            self.model.apply(&entry)?;
        }
        self.operations = Operations::default();
        Ok(())
    }

    /// Checks a step after which the worker goes on.
    pub(crate) fn step(&mut self, step: &Step<'_>, reader: &mut dyn LogRead) -> Check {
        let before = self.model.last;
        let news = self.news(reader)?;
        let after = before + news.len() as u64;
        ensure(step.replies.len() == step.commands.len(), "replies", || "not one for each command".into())?;
        self.order(step, before, after)?;
        self.note_refusals(step);

        let logged: Vec<_> = news.iter().flat_map(as_gate_refusals).collect();
        let mut news = news.iter();
        let mut operations = std::mem::take(&mut self.operations);
        let was_begun = !operations.logged.is_empty();
        let mut order = step.commands.iter().zip(step.replies).peekable();
        loop {
            // A reply that names an entry is checked with the model at that entry; replies come in
            // the order of their entries.
            while let Some(&(command, reply)) = order.peek()
                && as_of(reply).is_none_or(|at| at <= self.model.last)
            {
                self.as_of(command, reply, step.in_shortage)?;
                order.next();
            }
            let Some(entry) = news.next() else { break };
            self.journal(entry)?;
            operations.logged(&entry.record);
            self.model.apply(entry)?;
        }
        gate_refusals(step, &logged)?;
        for (command, reply) in step.commands.iter().zip(step.replies) {
            // While not even the log can be read, nobody is answered.
            if step.in_shortage && matches!(reply, Reply::Unavailable(_)) {
                continue;
            }
            self.standing_reply(command, reply, before)?;
            operations.done(command, reply);
        }
        self.toggles(step)?;
        if !step.is_whole {
            self.operations = operations;
            return Ok(());
        }
        // A command that was begun and met a shortage is in the log, and was not answered.
        if !(step.in_shortage && was_begun) {
            operations.check()?;
        }
        // Promotions that are due wait for the end of a shortage.
        if !step.in_shortage {
            self.model.nobody_waits_for_what_is_free()?;
        }
        if step.in_shortage {
            let refused = |reply: &&Reply| matches!(reply, Reply::Answer(Answer::Refused { .. }));
            self.refused_full += step.replies.iter().filter(refused).count() as u64;
            return Ok(());
        }
        self.timers(step)
    }

    /// Every reply names an entry of the log, within the step, and the entries never go back.
    fn order(&self, step: &Step<'_>, before: u64, after: u64) -> Check {
        let mut last = before;
        for reply in step.replies {
            if let Some(at) = as_of(reply) {
                ensure((before..=after).contains(&at), "INV-4", || {
                    format!("a reply as of {at}, but {before} to {after} are durable")
                })?;
                ensure(at >= last, "INV-5", || format!("a reply as of {at} behind one as of {last}"))?;
                last = at;
            }
        }
        Ok(())
    }

    fn note_refusals(&mut self, step: &Step<'_>) {
        for reply in step.replies {
            let Reply::Answer(Answer::Refused { refusal, as_of }) = reply else { continue };
            if !step.in_shortage {
                self.pending.push(Pending { kind: (*refusal).into(), as_of: as_of.0, said_at: step.now });
            }
        }
    }

    /// The refusals in the log are exactly those that were sent.
    fn journal(&mut self, entry: &Entry) -> Check {
        let seq = self.model.last + 1;
        match &entry.record {
            Record::Refusals { entries } => {
                let (now, later): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.pending).into_iter().partition(|p| p.as_of < seq);
                self.pending = later;
                for kind in RefusalKind::ALL {
                    let logged: u64 = entries.iter().filter(|e| e.kind == kind).map(|e| e.count).sum();
                    let said = now.iter().filter(|p| p.kind == kind).count() as u64;
                    ensure(logged == said, "refusals", || {
                        format!("entry {seq}: {logged} {}, and {said} were said", kind.as_str())
                    })?;
                }
                Ok(())
            }
            Record::SpaceRegained { refused, .. } => {
                let said = std::mem::take(&mut self.refused_full);
                ensure(*refused == said, "refusals", || {
                    format!("entry {seq}: {refused} refused while the disk was full, and {said} were")
                })
            }
            _ => Ok(()),
        }
    }

    /// The last command on pausing and on a reservation determines the state.
    fn toggles(&self, step: &Step<'_>) -> Check {
        // A repeated answer toggles nothing; what a new one does is in the log.
        let keyed = |c: &Command| matches!(c, Command::Operate { operation: Operation::Once { .. }, .. });
        let last = step.commands.iter().zip(step.replies).rev().find_map(|asked| match asked {
            (Command::Operate { operation: Operation::Pause, .. }, Reply::Done(Ok(_))) => Some(true),
            (Command::Operate { operation: Operation::Resume, .. }, Reply::Done(Ok(_))) => Some(false),
            _ => None,
        });
        let paused = self.model.paused;
        let is_sure = !step.commands.iter().any(keyed);
        ensure(!is_sure || last.is_none_or(|last| last == paused), "pause", || {
            format!("paused: {paused}, told {last:?}")
        })?;
        let last = step.commands.iter().zip(step.replies).rev().find_map(|asked| match asked {
            (
                Command::Operate { operation: Operation::Reserve { shopper, .. }, .. },
                Reply::Done(Ok(OperationDone::Reserved { reserved })),
            ) => Some((*shopper, *reserved)),
            _ => None,
        });
        let so = last.is_none_or(|(shopper, reserved)| self.model.reserved.contains(&shopper) == reserved);
        ensure(so, "reservation", || format!("{last:?} was told"))
    }

    /// All that is due is done, and the worker will wake for what is due next.
    fn timers(&self, step: &Step<'_>) -> Check {
        let m = &self.model;
        for kept in m.kept.iter().filter(|kept| kept.standing() == Standing::Held) {
            ensure(kept.pay_by > step.now, "timer", || {
                format!("{} is still held, its time was over at {}", name(kept.attempt.id), kept.pay_by)
            })?;
            ensure(step.next_wakeup.is_some_and(|at| at <= kept.pay_by), "timer", || {
                format!("the worker sleeps past the end of {}", name(kept.attempt.id))
            })?;
        }
        let is_ahead = m.now.since(step.now).0 > AHEAD_MS_MAX && m.now != m.ahead_accepted;
        ensure(!is_ahead || m.paused || m.spec.is_none(), "clock", || {
            format!("the log is at {}, the clock at {}, and the sale goes on", m.now, step.now)
        })?;
        let turn = |operation: &Operation| match operation {
            Operation::Once { operation, .. } => matches!(**operation, Operation::Close | Operation::Open),
            operation => matches!(operation, Operation::Close | Operation::Open),
        };
        let turned =
            step.commands.iter().any(|c| matches!(c, Command::Operate { operation, .. } if turn(operation)));
        let due = match m.open_round() {
            Some(round) => Some(m.rounds[usize::from(round)].closes_at),
            None => m.next_round().map(|next| next.opens_at),
        };
        ensure(turned || due.is_none_or(|due| due > step.now), "rounds", || "a round did not turn".into())?;
        let wakes = due.is_none_or(|due| step.next_wakeup.is_some_and(|at| at <= due));
        ensure(wakes, "rounds", || "the worker sleeps past a round's time".into())?;
        // By the first that was sent: the clock may have been set back since.
        let late = self.pending.first().filter(|p| step.now.since(p.said_at).0 >= REFUSALS_LATE_MS);
        ensure(late.is_none(), "refusals", || format!("{late:?} is not journalled yet"))
    }

    /// The run is over: no hold is running, no refusal waits for its record.
    pub(crate) fn quiet(&self) -> Check {
        let held = self.model.kept.iter().find(|kept| kept.standing() == Standing::Held);
        ensure(held.is_none(), "timer", || format!("{held:?} is held for ever"))?;
        ensure(self.pending.is_empty(), "refusals", || format!("{:?} never journalled", self.pending))?;
        self.model.nobody_waits_for_what_is_free()
    }
}

/// The counts in an entry of refusals by gates.
fn as_gate_refusals(entry: &Entry) -> Vec<GateRefusal> {
    match &entry.record {
        Record::GateRefusals { entries } => entries.iter().copied().map(GateRefusal::SoldOut).collect(),
        Record::GateNotEligible { entries } => {
            entries.iter().copied().map(GateRefusal::NotEligible).collect()
        }
        _ => Vec::new(),
    }
}

/// Refusals by gates are logged as they reported them, each report once, `sold_out` first.
fn gate_refusals(step: &Step<'_>, logged: &[GateRefusal]) -> Check {
    let reported = step.commands.iter().zip(step.replies).flat_map(|asked| match asked {
        (Command::GateRefusals(counts), Reply::Noted) => {
            let mut counts = counts.clone();
            counts.sort_by_key(|said| !matches!(said, GateRefusal::SoldOut(_)));
            counts
        }
        _ => Vec::new(),
    });
    ensure(reported.eq(logged.iter().copied()), "refusals", || {
        format!("{logged:?} is not what gates have reported")
    })
}

/// The entry that a reply names, if that is the one at which it was decided.
fn as_of(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Answer(Answer::Refused { as_of, .. })
        | Reply::Found(Found { answer: Answer::None { as_of }, .. }) => Some(as_of.0),
        Reply::Shopper(record) => Some(record.as_of.0),
        Reply::Stats(stats) => Some(stats.as_of.0),
        _ => None,
    }
}

impl Operations {
    fn done(&mut self, command: &Command, reply: &Reply) {
        let (Command::Operate { operation, .. }, Reply::Done(Ok(done))) = (command, reply) else { return };
        let operation = match operation {
            Operation::Once { key, .. } if !self.keys.remove(&key.id) => return,
            Operation::Once { operation, .. } => operation,
            operation => operation,
        };
        let (what, count) = match (operation, done) {
            (Operation::Void(_), OperationDone::Voided { count }) => ("void", *count),
            (Operation::Adjust { .. }, _) => ("adjust", 1),
            (Operation::Limits { .. }, _) => ("limits", 1),
            (Operation::List { .. }, _) => ("list", 1),
            (Operation::Extend { .. }, _) => ("extend", 1),
            (Operation::Close, _) => ("close", 1),
            (Operation::Open, _) => ("open", 1),
            _ => return,
        };
        if count > 0 {
            *self.done.entry(what).or_default() += count;
        }
    }

    fn logged(&mut self, record: &Record) {
        if let Record::CommandDone { key, .. } = record {
            self.keys.insert(key.id);
        }
        let what = match record {
            // The sale itself takes back the places of denied shoppers.
            Record::Left { by, .. } if by.name == "timer" => return,
            Record::Voided { .. } | Record::Left { voided: true, .. } => "void",
            Record::Adjusted { .. } => "adjust",
            Record::Limits { .. } => "limits",
            Record::List { .. } => "list",
            Record::Extended { .. } => "extend",
            Record::RoundClosed { by, .. } if by.name != "timer" => "close",
            Record::RoundOpened { by, .. } if by.name != "timer" => "open",
            _ => return,
        };
        *self.logged.entry(what).or_default() += 1;
    }

    fn check(&self) -> Check {
        ensure(self.done == self.logged, "replies", || {
            format!("told as done {:?}, logged {:?}", self.done, self.logged)
        })
    }
}
