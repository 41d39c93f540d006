//! Checks every reply against the log: what it says must be in the log, and must have been true at
//! the entry that it names.
//!
//! It checks what leaves the worker, for any reply that has left may have been received.

mod operators;
mod replies;

use crate::bounds::REFUSAL_KINDS_MAX;
use crate::model::{Model, Standing};
use crate::names::{brief, name};
use crate::reached::Reached;
use contracts::{
    Answer, AttemptId, Found, GateRefusal, HoldState, Line, Operation, Refusal, SaleState, SaleView,
};
use engines::log::LogRead;
use operators::Ledger;
use sale::core::{Entry, Record, RefusalKind};
use sale::{Command, Reply};
use sim::journal::Journal;
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use units::TimeMs;

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
    /// What was sold out, if that was the reason and nothing else was asked for.
    line: Option<Line>,
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

/// The promises made so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) model: Model,
    journal: Journal,
    pending: Vec<Pending>,
    /// Attempts that were answered `paused` because the disk was full, since it became full.
    refused_full: u64,
    /// How far each attempt's reported state has advanced.
    said: BTreeMap<AttemptId, usize>,
    /// Entries of a command that takes several steps are accounted for when it is answered.
    ledger: Ledger,
    pub(crate) reached: Reached,
    /// The entries of the last step, for the trace.
    briefs: Vec<String>,
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
        let first = self.model.last + 1;
        let news: Vec<Entry> = self.journal.news(reader)?;
        self.briefs =
            news.iter().zip(first..).map(|(entry, at)| format!("  {at}: {}", brief(&entry.record))).collect();
        Ok(news)
    }

    /// The entries of the last step, in a word each.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.briefs)
    }

    /// Checks the log after a restart: it must hold all that it held before, and perhaps a batch
    /// whose outcome was unknown.
    pub(crate) fn restarted(&mut self, reader: &mut dyn LogRead) -> Check {
        self.journal.is_kept(reader, "INV-4")?;
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
        self.ledger = Ledger::default();
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
        // The sale looks at the clock before it decides anything.
        let is_by_clock =
            |entry: &Entry| matches!(&entry.record, Record::Paused { by } if by.name == "clock");
        let looked_at_clock =
            news.as_slice().iter().rposition(is_by_clock).map_or(0, |at| before + at as u64 + 1);
        let mut ledger = std::mem::take(&mut self.ledger);
        let mut order = step.commands.iter().zip(step.replies).peekable();
        loop {
            // Each reply is checked with the model at the entry at which it was decided: the one
            // that it names, or, after those before it, the first at which it is true.
            while let Some(&(command, reply)) = order.peek()
                && self.model.last >= looked_at_clock
                && self.is_decided(command, reply, step, &mut ledger)?
            {
                order.next();
            }
            let Some(entry) = news.next() else { break };
            self.journals_refusals(entry)?;
            ledger.logged(&entry.record)?;
            self.model.apply(entry)?;
            self.reached.logged(&entry.record, &self.model);
        }
        if let Some((command, reply)) = order.next() {
            let what =
                format!("{command:?} is answered {reply:?}: not so at any entry from {before} to {after}");
            return Err(Violation { rule: "operators", what });
        }
        gate_refusals(step, &logged)?;
        for (command, reply) in step.commands.iter().zip(step.replies) {
            self.reached.said(command, reply, &self.model);
            // While not even the log can be read, nobody is answered.
            if step.in_shortage && matches!(reply, Reply::Unavailable(_)) {
                continue;
            }
            self.standing_reply(command, reply, before)?;
        }
        if !step.is_whole {
            self.ledger = ledger;
            return Ok(());
        }
        // A command that was begun and met a shortage is in the log, and was not answered.
        if !step.in_shortage {
            ledger.is_settled()?;
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
        self.timers(step, before)
    }

    /// Whether a reply was decided at this entry, and not at a later one; checks it if it names
    /// this one.
    fn is_decided(
        &self,
        command: &Command,
        reply: &Reply,
        step: &Step<'_>,
        ledger: &mut Ledger,
    ) -> Result<bool, Violation> {
        if let (Command::Operate { operation, .. }, Reply::Done(answer)) = (command, reply) {
            return Ok(ledger.settles(&self.model, step.now, operation, answer));
        }
        if let (Command::Waiting(query), Reply::Waiting(page)) = (command, reply) {
            return Ok(self.model.page(query) == *page);
        }
        if as_of(reply).is_some_and(|at| at > self.model.last) {
            return Ok(false);
        }
        self.as_of(command, reply, step.in_shortage)?;
        if let Reply::Answer(Answer::Refused { .. }) = reply
            && !step.in_shortage
        {
            // Units that a hold has kept for too long are refused to nobody.
            let late = self.model.late(step.now.max(self.model.now));
            ensure(late.is_none(), "timer", || format!("a refusal, and {}", late.unwrap_or_default()))?;
        }
        Ok(true)
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
        for asked in step.commands.iter().zip(step.replies) {
            let (Command::Attempt(attempt), Reply::Answer(Answer::Refused { refusal, as_of })) = asked else {
                continue;
            };
            if !step.in_shortage {
                let is_one = *refusal == Refusal::SoldOut && attempt.basket.len() == 1;
                let line = is_one.then(|| attempt.basket[0]);
                let (kind, as_of, said_at) = ((*refusal).into(), as_of.0, step.now);
                self.pending.push(Pending { kind, as_of, said_at, line });
            }
        }
    }

    /// The refusals in the log are exactly those that were sent.
    fn journals_refusals(&mut self, entry: &Entry) -> Check {
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
                for entry in entries.iter().filter(|e| e.kind == RefusalKind::SoldOut) {
                    let line = Line { item: entry.item, quantity: entry.quantity };
                    let said = now.iter().filter(|p| p.line == Some(line)).count() as u64;
                    ensure(said <= entry.count, "refusals", || {
                        format!("entry {seq}: {} of {line:?} sold out, and {said} were said", entry.count)
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

    /// Whether the sale's view is what the log says, in what operators determine.
    pub(crate) fn view(&self, view: Option<&SaleView>) -> Check {
        let m = &self.model;
        let Some(view) = view else {
            return ensure(m.spec.is_none(), "state", || "a sale that is set up has no view".into());
        };
        let state = match (m.open_round(), m.next_round()) {
            (None, None) => SaleState::Closed,
            _ if m.paused || view.disk_full => SaleState::Paused,
            (Some(_), _) => SaleState::Open,
            (None, Some(_)) => SaleState::Scheduled,
        };
        let told = (view.state, view.pause.is_some(), usize::from(view.rounds_opened), view.rate_per_second);
        ensure(told == (state, m.paused, m.opened, m.rate), "state", || {
            format!(
                "the sale is {told:?}, by the log {state:?}, paused: {}, {}, {}",
                m.paused, m.opened, m.rate
            )
        })?;
        ensure(m.spec.as_ref() == Some(&*view.spec), "state", || "another document than the log's".into())?;
        let current = m.open_round().map_or(m.next_round(), |round| m.rounds.get(usize::from(round)));
        ensure(current.is_none_or(|round| round.closes_at == view.closes_at), "state", || {
            format!("the round ends at {}, by the log it is {current:?}", view.closes_at)
        })?;
        ensure(view.as_of.0 == m.last, "state", || format!("a view as of {}", view.as_of))
    }

    /// All that is due is done, and the worker will wake for what is due next.
    fn timers(&self, step: &Step<'_>, before: u64) -> Check {
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
        // A step that was full of promotions has not looked at the clock yet, nor has one since the
        // sale was set up in it: the next one does, before it decides anything.
        let is_define =
            |command: &Command| matches!(command, Command::Operate { operation: Operation::Define(_), .. });
        let is_set_up = step.commands.iter().any(is_define);
        let has_looked = before == m.last || !step.commands.is_empty() && !is_set_up;
        ensure(!is_ahead || m.paused || m.spec.is_none() || !has_looked, "clock", || {
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
        // Each kind is found among all, so they are not many.
        let lines: BTreeSet<_> = self.pending.iter().filter_map(|p| p.line).collect();
        ensure(lines.len() < REFUSAL_KINDS_MAX, "refusals", || {
            format!("{} different refusals are not journalled yet", lines.len())
        })?;
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
