//! Puts workload, shoppers, gate and checker together as one system.

use crate::checker::{self, Checker};
use crate::gate::Gate;
use crate::names::{name, shopper_name};
use crate::shoppers::{Later, Shoppers};
use crate::workload::Workload;
use contracts::Operation;
use engines::log::{Log, LogRead};
use sale::core::{Core, Entry};
use sale::free_units::FreeUnits;
use sale::{Command, Reply};
use sim::story::clock;
use sim::{Check, Habits, Step, System, Violation, ensure};
use std::ops::ControlFlow;
use units::{Prng, Sequence, TimeMs};

/// Commands of the last requests that are sent in one batch.
const FINAL_BATCH: usize = 64;

/// A sale, and everyone who uses it: shoppers, operators, a gate.
#[derive(Debug)]
pub struct Sale {
    work: Workload,
    shoppers: Shoppers,
    checker: Checker,
    gate: Gate,
}

impl System for Sale {
    type Machine = Core;

    const RUN: &'static str = "cargo xtask chaos sim";

    fn new(prng: &mut Prng, commands: u64) -> (Self, Habits) {
        let (work, habits) = Workload::new(prng, commands);
        let sale =
            Self { work, shoppers: Shoppers::default(), checker: Checker::default(), gate: Gate::default() };
        (sale, habits)
    }

    fn set_up(&mut self, prng: &mut Prng) -> Vec<Command> {
        self.work.set_up(prng)
    }

    fn ask(&mut self, prng: &mut Prng, now: TimeMs) -> Command {
        let work = &mut self.work;
        let operators = work.manners.operators;
        match prng.below(100) {
            n if n < operators => work.operation(prng, now),
            n if n < operators + 10 => work.look(prng),
            n if n < operators + 14 => work.stray_payment(prng).unwrap_or(Command::Stats),
            n if n < operators + 22 => match work.some_attempt(prng) {
                Some(attempt) if prng.percent(20) => Command::Attempt(work.reused(prng, attempt)),
                Some(attempt) => Command::Attempt(attempt),
                None => Command::Stats,
            },
            _ => Command::Attempt(work.attempt(prng)),
        }
    }

    fn crowd(&mut self, prng: &mut Prng, now: TimeMs) -> Vec<Command> {
        self.work.together(prng, &self.checker.model, now)
    }

    fn hear(&mut self, prng: &mut Prng, command: &Command, reply: &Reply, later: &mut Later) -> Check {
        self.shoppers.hear(&mut self.work, prng, command, reply, later)
    }

    /// A gate takes the sale's view now and then, answers some shoppers from it, and reports some
    /// time later.
    fn beside(&mut self, prng: &mut Prng, core: Option<(&Core, bool)>) -> Result<Option<Command>, Violation> {
        let (shoppers, model) = (&self.work.shoppers, &self.checker.model);
        if let (Some((core, in_shortage)), Ok(name)) = (core, "sim".parse())
            && prng.percent(30)
        {
            self.gate.looks(core.view(&name, in_shortage), model, shoppers);
        }
        self.gate.speaks(prng, model, shoppers)?;
        Ok(self.gate.reports(prng))
    }

    fn restarted(&mut self, core: &Core, reader: &mut dyn LogRead) -> Check {
        self.checker.restarted(reader)?;
        self.gate.restarted(core);
        // Between two steps of a promotion some places wait for free units: their promotion comes
        // first now.
        if core.owes_promotions() { Ok(()) } else { self.checker.model.nobody_waits_for_what_is_free() }
    }

    fn check(&mut self, step: &Step<'_, Self>, core: &Core, reader: &mut dyn LogRead) -> Check {
        self.gate.hears(step.commands, step.replies);
        let before = self.checker.model.last;
        let sim::Step { now, commands, replies, in_shortage, is_stale, next_wakeup, is_whole } = *step;
        let step = checker::Step { now, commands, replies, in_shortage, next_wakeup, is_whole };
        self.checker.step(&step, reader)?;
        if self.checker.model.last == before || is_stale {
            return Ok(());
        }
        self.checker.stats(&core.stats())?;
        let name = "sim".parse().map_err(|_| Violation { rule: "state", what: "no name".into() })?;
        self.checker.view(core.view(&name, in_shortage).as_ref())
    }

    fn take_news(&mut self) -> Vec<String> {
        self.checker.take_news()
    }

    fn at(&self) -> u64 {
        self.checker.model.last
    }

    fn probes(&self) -> Vec<Command> {
        self.work.probes(&self.checker.model)
    }

    /// Every shopper asks once more with the same key, whatever the earlier answer.
    fn last_questions(&mut self) -> Vec<Vec<Command>> {
        let batch = |chunk: &[contracts::Attempt]| {
            let again = chunk.iter().map(|attempt| Command::Attempt(*attempt));
            let look = chunk.iter().map(|a| Command::Lookup { attempt: a.id, shopper: a.shopper });
            again.chain(look).collect()
        };
        let asked = self.work.attempts.chunks(FINAL_BATCH).map(batch);
        asked.chain([self.work.pages(&self.checker.model)]).collect()
    }

    fn end(&mut self, core: &Core, log: &dyn Log) -> Check {
        self.checker.quiet()?;
        let model = &self.checker.model;
        self.shoppers.agree(|id| model.find(id).map(|kept| (kept.position, kept.pay_by, kept.granted)))?;
        self.audit(core, log)
    }

    /// A sale of many units prepares memory for its attempts, a piece in each step.
    fn unseen_steps(&self) -> u32 {
        const PIECES_MAX: u32 = 2_000_000 / 16_384 + 1;
        let is_large = |spec: &contracts::SaleSpec| {
            spec.rounds.iter().flat_map(|round| &round.items).map(|offer| offer.stock).sum::<u64>() > 10_000
        };
        if self.checker.model.spec.as_ref().is_some_and(is_large) { PIECES_MAX } else { 0 }
    }

    fn bounds(&self) -> Vec<(&'static str, bool)> {
        self.checker.reached.table()
    }

    fn is_no_answer(reply: &Reply) -> bool {
        matches!(reply, Reply::Unavailable(_))
    }

    fn brief(command: &Command) -> String {
        brief(command)
    }

    fn brief_reply(reply: &Reply) -> String {
        Shoppers::brief(reply)
    }
}

impl Sale {
    /// `floodgate audit` proves every invariant from this log, and counts what the checker counts.
    fn audit(&self, core: &Core, log: &dyn Log) -> Check {
        let broken = |what: String| Violation { rule: "audit", what };
        let snapshot = log.snapshots().latest().map_err(|e| broken(e.to_string()))?;
        let report = sale::audit::audit(&mut *log.reader(), snapshot).map_err(|e| broken(e.to_string()))?;
        for verdict in &report.invariants {
            ensure(verdict.holds, "audit", || format!("{}: {}", verdict.id, verdict.how))?;
        }
        let model = &self.checker.model;
        ensure(report.entries == model.last, "audit", || format!("{} entries", report.entries))?;
        for (audited, units) in report.items.iter().zip(&model.items) {
            let counted = (units.free, units.held, units.sold, units.waiting.len() as u64);
            let told = (audited.free, audited.held, audited.sold, audited.waiting);
            ensure(told == counted, "audit", || format!("{audited:?}, counted {counted:?}"))?;
        }
        // What a reader of the log alone, for whom nothing is judged, makes of it.
        let mut free = FreeUnits::default();
        let mut see = |sequence, bytes: &[u8]| match Entry::decode(bytes) {
            Ok(entry) => {
                free.see(sequence, &entry);
                ControlFlow::Continue(())
            }
            Err(_) => ControlFlow::Break(()),
        };
        log.reader().read(Sequence(1), &mut see).map_err(|e| broken(e.to_string()))?;
        ensure(free.at() == Sequence(model.last), "free", || format!("read to {}", free.at()))?;
        for (item, units) in (0..).zip(&model.items) {
            let read = free.of(item).unwrap_or_default();
            ensure(read == units.free, "free", || format!("item {item}: {read}, counted {units:?}"))?;
        }
        self.checker.outcomes(&report.outcomes)?;
        ensure(core.sequence() == Sequence(model.last), "audit", || "the core's end".into())
    }
}

fn brief(command: &Command) -> String {
    match command {
        Command::Attempt(a) => {
            format!("{} {} tier {} {:?}", shopper_name(a.shopper), name(a.id), a.tier, a.basket)
        }
        Command::Lookup { attempt, .. } => format!("lookup {}", name(*attempt)),
        Command::Shopper(shopper) => format!("all of {}", shopper_name(*shopper)),
        Command::Stats => "stats".into(),
        Command::Waiting(query) => format!("{query:?}"),
        Command::GateRefusals(counts) => format!("{counts:?}"),
        Command::Operate { operation: Operation::Confirm { hold, payment }, .. } => {
            format!("{payment} for {}", name(*hold))
        }
        Command::Operate { operation: Operation::Release { hold }, .. } => format!("release {}", name(*hold)),
        Command::Operate { operation: Operation::Define(spec), .. } => {
            format!("define {}", spec_brief(spec))
        }
        Command::Operate { operation, .. } => format!("{operation:?}"),
    }
}

fn spec_brief(spec: &contracts::SaleSpec) -> String {
    let rounds: Vec<String> = spec
        .rounds
        .iter()
        .map(|r| {
            let items: Vec<String> =
                r.items.iter().map(|i| format!("{}×{} ≤{}", i.item, i.stock, i.limit_per_shopper)).collect();
            format!("{}–{} {}", clock(r.opens_at), clock(r.closes_at), items.join(", "))
        })
        .collect();
    let (eligibility, waitlist) = (spec.eligibility, spec.waitlist);
    format!(
        "{eligibility:?} {waitlist:?} {:?} sale limit {} hold {} s: {}",
        spec.late_payment,
        spec.limit_per_shopper,
        spec.hold_seconds,
        rounds.join("; ")
    )
}
