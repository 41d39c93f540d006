//! One run: the production worker on a disk that breaks, clients beyond a network that does, and a checker that hears all.
//!
//! Everything comes from the seed: the same seed is the same run, to the last byte.

use crate::checker::{Checker, Step};
use crate::clients::Clients;
use crate::disk::SimDisk;
use crate::gate::Gate;
use crate::nemesis::Nemesis;
use crate::story::{Check, EPOCH_MS, Story, Violation, clock, ensure, name};
use crate::workload::Workload;
use contracts::Operation;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{Log, LogRead};
use sale::core::Core;
use sale::worker::{Command, Reply, Worker, recover};
use units::{Sequence, TimeMs};

/// Commands of the last questions that are put in one step.
const FINAL_BATCH: usize = 64;

/// Steps that it takes at most until nothing is due any more.
const QUIET_STEPS_MAX: usize = 64;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The same for the same seed.
    pub hash: u64,
    pub commands: u64,
    pub crashes: u64,
    pub entries: u64,
    pub failure: Option<Violation>,
    /// What happened: the last lines, or all where a trace was asked for.
    pub story: Vec<String>,
}

/// The process: the worker and what reads its log.
pub(crate) struct Server {
    pub(crate) worker: Worker<EmbeddedLog<SimDisk>>,
    pub(crate) reader: Box<dyn LogRead>,
}

/// Everything in one run.
pub(crate) struct World {
    pub(crate) work: Workload,
    clients: Clients,
    checker: Checker,
    pub(crate) story: Story,
    pub(crate) disk: SimDisk,
    pub(crate) server: Option<Server>,
    pub(crate) nemesis: Nemesis,
    gate: Gate,
    /// How wrong the clock is.
    pub(crate) skew_ms: i64,
    pub(crate) commands: u64,
}

/// Runs a seed for at least `commands` commands.
pub fn run(seed: u64, commands: u64, trace: bool) -> Outcome {
    let mut world = World {
        work: Workload::new(seed, commands),
        clients: Clients::default(),
        checker: Checker::default(),
        story: Story::new(trace),
        disk: SimDisk::new(),
        server: None,
        nemesis: Nemesis::new(seed, commands),
        gate: Gate::default(),
        skew_ms: 0,
        commands: 0,
    };
    let failure = world.live(commands).err();
    if let Some(violation) = &failure {
        world.story.note(format!("FAILED: {}: {}", violation.rule, violation.what));
    }
    Outcome {
        hash: world.story.hash(),
        commands: world.commands,
        crashes: world.nemesis.crashes,
        entries: world.checker.model.last,
        failure,
        story: world.story.into_lines(),
    }
}

impl World {
    fn live(&mut self, commands: u64) -> Check {
        self.start(false)?;
        for command in self.work.set_up() {
            self.clients.send(&mut self.work, command);
        }
        // A bound, for a run that gets nowhere: a turn brings more than one command.
        for _ in 0..20 * commands + 1000 {
            if self.commands >= commands && self.nemesis.crashes > 0 {
                return self.end();
            }
            self.turn()?;
        }
        Err(Violation { rule: "progress", what: format!("{} of {commands} commands", self.commands) })
    }

    /// What the server's clock shows.
    pub(crate) fn now(&self) -> TimeMs {
        TimeMs((EPOCH_MS + self.clients.time_ms).saturating_add_signed(self.skew_ms))
    }

    fn turn(&mut self) -> Check {
        self.pass_time();
        self.trouble()?;
        let wanted = 1 + self.work.prng.below(self.work.habits.batch_max);
        for _ in 0..wanted {
            self.ask();
        }
        self.clients.run(&mut self.work)?;
        let most = 1 + self.work.prng.below(2 * self.work.habits.batch_max) as usize;
        let mut batch = self.clients.take(most);
        if let Some(report) = self.gate_speaks()? {
            let at = self.work.prng.below(batch.len() as u64 + 1) as usize;
            batch.insert(at, (self.clients.ticket(&report), report));
        }
        self.step(batch)
    }

    /// A gate looks at the sale now and then, answers some shoppers from what it saw, and reports some time after.
    fn gate_speaks(&mut self) -> Result<Option<Command>, Violation> {
        let (prng, shoppers, model) = (&mut self.work.prng, &self.work.shoppers, &self.checker.model);
        if let (Some(server), Ok(name)) = (&self.server, "sim".parse())
            && prng.percent(30)
        {
            let view = server.worker.core().view(&name, server.worker.disk_full());
            self.gate.looks(view, model, shoppers);
        }
        self.gate.speaks(prng, model, shoppers)?;
        Ok(self.gate.reports(prng))
    }

    fn pass_time(&mut self) {
        let now = self.now();
        let wakeup = self.server.as_ref().and_then(|server| server.worker.next_wakeup());
        let prng = &mut self.work.prng;
        let batch_max = self.work.habits.batch_max;
        let passed = match prng.below(100) {
            0..60 => prng.below(50 * batch_max),
            60..90 => prng.below(150 * batch_max),
            90..96 => wakeup.map_or(0, |at| at.since(now).0.min(30_000)),
            96..99 => prng.below(5000),
            _ => prng.below(30_000),
        };
        self.clients.time_ms += passed;
    }

    /// Somebody wants something.
    fn ask(&mut self) {
        let now = self.now();
        let operators = self.work.habits.operators;
        let work = &mut self.work;
        let command = match work.prng.below(100) {
            n if n < operators => work.operation(now),
            n if n < operators + 10 => work.look(),
            n if n < operators + 14 => work.stray_payment().unwrap_or(Command::Stats),
            n if n < operators + 22 => match work.some_attempt() {
                Some(attempt) if work.prng.percent(20) => Command::Attempt(work.reused(attempt)),
                Some(attempt) => Command::Attempt(attempt),
                None => Command::Stats,
            },
            _ => Command::Attempt(work.attempt()),
        };
        self.clients.send(work, command);
    }

    /// One step of the worker, and all that is to be said about it.
    fn step(&mut self, batch: Vec<(usize, Command)>) -> Check {
        let now = self.now();
        let Some(server) = &mut self.server else { return Ok(()) };
        let (tickets, commands): (Vec<usize>, Vec<Command>) = batch.into_iter().unzip();
        let looks = server.worker.disk_full() && server.worker.next_wakeup().is_some_and(|at| at <= now);
        let replies = server.worker.step(now, &commands).to_vec();
        for (command, reply) in commands.iter().zip(&replies) {
            self.story.note(format!("{} {} → {}", clock(now), brief(command), Clients::brief(reply)));
        }
        if let Some(why) = server.worker.stopped() {
            self.story.note(format!("{} the worker stopped: {why}", clock(now)));
            ensure(self.nemesis.explains(why), "worker", || why.to_owned())?;
            // Whatever it decided last may never have become durable, and a refusal stands on that as much as a grant.
            let said = replies.iter().find(|reply| !matches!(reply, Reply::Unavailable(_)));
            ensure(said.is_none(), "INV-4", || format!("{said:?} is said by a worker that has stopped"))?;
            self.deliver(tickets, replies);
            return self.crash();
        }
        self.gate.hears(&commands, &replies);
        self.commands += commands.len() as u64;
        let full = server.worker.disk_full();
        ensure(!full || self.nemesis.may_be_full(), "worker", || "the disk is not full".into())?;
        let stuck = full && looks && self.nemesis.has_room();
        ensure(!stuck, "worker", || "there is room, and the sale does not go on".into())?;
        let next_wakeup = server.worker.next_wakeup();
        let step = Step { now, commands: &commands, replies: &replies, full, next_wakeup };
        let checked = self.checker.step(&step, &mut *server.reader);
        let news = self.checker.take_news();
        for line in &news {
            self.story.note(format!("{} {line}", clock(now)));
        }
        checked?;
        if !news.is_empty() {
            self.checker.stats(&server.worker.core().stats())?;
        }
        let last = server.worker.core().sequence().0;
        ensure(last == self.checker.model.last, "INV-7", || format!("the core is at {last}"))?;
        self.deliver(tickets, replies);
        if self.disk.is_down() { self.crash() } else { Ok(()) }
    }

    fn deliver(&mut self, tickets: Vec<usize>, replies: Vec<Reply>) {
        for (ticket, reply) in tickets.into_iter().zip(replies) {
            self.clients.reply(&mut self.work, ticket, reply);
        }
    }

    /// The power fails, or the process dies; either way it comes back.
    pub(crate) fn crash(&mut self) -> Check {
        let live = self.server.take().and_then(|server| {
            let core = server.worker.core();
            server.worker.stopped().is_none().then(|| (core.sequence(), core.snapshot()))
        });
        self.break_down();
        self.clients.server_gone();
        self.start(true)?;
        let Some(server) = &self.server else { return Ok(()) };
        let core = server.worker.core();
        match live {
            Some((at, bytes)) if at == core.sequence() => ensure(bytes == core.snapshot(), "INV-7", || {
                format!("the restarted sale at entry {at} is not what it was")
            }),
            Some((at, _)) => {
                ensure(at <= core.sequence(), "INV-4", || format!("back to {} from {at}", core.sequence()))
            }
            None => Ok(()),
        }
    }

    /// Opens the log and the sale, perhaps dying again on the way.
    fn start(&mut self, trouble: bool) -> Check {
        let options = Options {
            segment_bytes: self.work.habits.segment_bytes,
            ..Options::new(Partition(0), LogId(*b"simulated log id"))
        };
        for tries_left in (0..4).rev() {
            let armed = trouble && tries_left > 0 && self.arm_for_start();
            let opened = EmbeddedLog::open(self.disk.clone(), options).map_err(|error| error.to_string());
            let opened = opened.and_then(|log| Worker::open(log).map_err(|error| error.to_string()));
            match opened {
                Ok((worker, recovery)) if !self.disk.is_down() => {
                    let (at, from) = (worker.core().sequence(), recovery.snapshot.unwrap_or_default());
                    self.story.note(format!("{} started at {at}, snapshot {from}", clock(self.now())));
                    let mut reader = worker.log().reader();
                    let checked = self.checker.restarted(&mut *reader);
                    for line in self.checker.take_news() {
                        self.story.note(format!("found {line}"));
                    }
                    checked?;
                    self.same_bytes(&worker)?;
                    self.gate.restarted(worker.core());
                    self.server = Some(Server { worker, reader });
                    self.nemesis.calm(armed);
                    return Ok(());
                }
                Ok(_) => {}
                Err(why) => {
                    self.story.note(format!("{} cannot start: {why}", clock(self.now())));
                    ensure(armed, "recovery", || why.clone())?;
                }
            }
            self.break_down();
        }
        Err(Violation { rule: "recovery", what: "does not start again".into() })
    }

    /// INV-7: what the sale came back as is what the whole log gives, and what its own snapshot gives.
    fn same_bytes(&self, worker: &Worker<EmbeddedLog<SimDisk>>) -> Check {
        let bytes = worker.core().snapshot();
        let replayed = recover(&mut *worker.log().reader(), None).map_err(|error| error.to_string());
        let (whole, _) = replayed.map_err(|what| Violation { rule: "INV-7", what })?;
        ensure(whole.snapshot() == bytes, "INV-7", || "the whole log gives other bytes".into())?;
        let restored = Core::restore(&bytes).map(|core| core.snapshot());
        ensure(restored.is_ok_and(|again| again == bytes), "INV-7", || {
            "its snapshot gives other bytes".into()
        })
    }

    /// Everything heals; then the last questions, the last deadlines, and the audit.
    fn end(&mut self) -> Check {
        self.disk.limit_room(None);
        self.nemesis.last();
        self.crash()?;
        while let Some(at) = self.clients.next() {
            self.clients.time_ms = self.clients.time_ms.max(at);
            self.clients.run(&mut self.work)?;
            let batch = self.clients.take(FINAL_BATCH);
            self.step(batch)?;
            if self.clients.time_ms > 100 * self.commands.max(10_000) {
                break;
            }
        }
        // Everybody asks once more with the same key, whatever was heard.
        let attempts = self.work.attempts.clone();
        for chunk in attempts.chunks(FINAL_BATCH) {
            let again = chunk.iter().map(|attempt| Command::Attempt(*attempt));
            let look = chunk.iter().map(|a| Command::Lookup { attempt: a.id, shopper: a.shopper });
            let batch = again.chain(look).map(|command| (self.clients.ticket(&command), command)).collect();
            self.step(batch)?;
        }
        for _ in 0..QUIET_STEPS_MAX {
            let Some(wakeup) = self.server.as_ref().and_then(|server| server.worker.next_wakeup()) else {
                break;
            };
            self.clients.time_ms += wakeup.since(self.now()).0;
            self.step(Vec::new())?;
        }
        self.checker.quiet()?;
        let model = &self.checker.model;
        self.clients.agree(|id| model.find(id).map(|kept| (kept.position, kept.pay_by, kept.granted)))?;
        self.audit()
    }

    /// `floodgate audit` proves every invariant from this log, and counts what the checker counts.
    fn audit(&self) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let log = server.worker.log();
        let snapshot =
            log.snapshots().latest().map_err(|e| Violation { rule: "audit", what: e.to_string() })?;
        let report = sale::audit::audit(&mut *log.reader(), snapshot)
            .map_err(|e| Violation { rule: "audit", what: e.to_string() })?;
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
        self.checker.outcomes(&report.outcomes)?;
        self.same_bytes(&server.worker)?;
        ensure(server.worker.core().sequence() == Sequence(model.last), "audit", || "the core's end".into())
    }
}

fn brief(command: &Command) -> String {
    match command {
        Command::Attempt(a) => {
            format!("{} {} tier {} {:?}", crate::story::shopper_name(a.shopper), name(a.id), a.tier, a.basket)
        }
        Command::Lookup { attempt, .. } => format!("lookup {}", name(*attempt)),
        Command::Shopper(shopper) => format!("all of {}", crate::story::shopper_name(*shopper)),
        Command::Stats => "stats".into(),
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
