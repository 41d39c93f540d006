//! One run: the production worker on a faulty disk, clients behind a faulty network, and a checker
//! that sees everything.
//!
//! Everything comes from the seed: the same seed is the same run, to the last byte.

use crate::disk::{Fault, SimDisk};
use crate::nemesis::{Nemesis, in_full, is_excused, is_only_short};
use crate::network::{Chance, Network};
use crate::story::{Check, EPOCH_MS, Story, Violation, clock, ensure};
use crate::system::{Command, Habits, Reply, Step, System};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition, ReadOnlyLog};
use engines::log::{Log, LogError, LogRead};
use runtime::{Broken, Budget, Decision, Machine, Progress, SHORTAGE_RETRY, Worker, recover};
use std::{collections::BTreeMap, ops::ControlFlow};
use units::{Prng, Sequence, TimeMs};

/// Steps in a row that may answer nothing and log nothing, although work remains.
const IDLE_STEPS_MAX: u32 = 3;

/// Messages that are taken in one step at the end.
const FINAL_BATCH: usize = 64;

/// The most steps, of the smallest size, until nothing is due any more.
const QUIET_STEPS_MAX: usize = 20_000;

/// The most batches of the code beside the machine, at the end.
const WIND_DOWN_MAX: usize = 200_000;

/// What a segment grows by at the least.
const PAGE_BYTES: u64 = 4096;

/// Of a hundred turns, after how many a reader in another process looks at the log.
const LOOKS: u64 = 4;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The same for the same seed.
    pub hash: u64,
    pub commands: u64,
    pub crashes: u64,
    pub entries: u64,
    /// How long it took in the run's own time.
    pub time_ms: u64,
    pub failure: Option<Violation>,
    /// The system's bounds, and whether the run has reached each.
    pub bounds: Vec<(&'static str, bool)>,
    /// The last lines of the trace, or all if a trace was requested.
    pub story: Vec<String>,
}

/// The process: the worker and what reads its log.
pub(crate) struct Server<S: System> {
    pub(crate) worker: Worker<S::Machine, EmbeddedLog<SimDisk>>,
    pub(crate) reader: Box<dyn LogRead>,
}

/// Everything in one run.
pub(crate) struct World<S: System> {
    system: S,
    prng: Prng,
    pub(crate) habits: Habits,
    /// What one step of the worker may do.
    budget: Budget,
    network: Network<S>,
    pub(crate) story: Story,
    pub(crate) disk: SimDisk,
    pub(crate) server: Option<Server<S>>,
    pub(crate) nemesis: Nemesis,
    /// A reader in another process.
    pub(crate) outside: Option<ReadOnlyLog<SimDisk>>,
    /// How wrong the clock is.
    pub(crate) skew_ms: i64,
    pub(crate) commands: u64,
}

/// Runs a seed for at least `commands` commands.
pub fn run<S: System>(seed: u64, commands: u64, trace: bool) -> Outcome {
    let mut prng = Prng::new(seed);
    let (system, habits) = S::new(&mut prng, commands);
    let mut world = World::<S> {
        system,
        prng,
        habits,
        budget: budget(seed),
        network: Network::new(),
        story: Story::new(trace),
        disk: SimDisk::new(),
        server: None,
        nemesis: Nemesis::new(seed, commands),
        outside: None,
        skew_ms: 0,
        commands: 0,
    };
    let ahead_ms = world.habits.ahead_at_start_ms;
    world.skew_ms = world.nemesis.first_skew_ms(seed, commands, ahead_ms);
    let failure = world.live(commands).err();
    if let Some(violation) = &failure {
        world.story.note(format!("FAILED: {}: {}", violation.rule, violation.what));
    }
    Outcome {
        hash: world.story.hash(),
        commands: world.commands,
        crashes: world.nemesis.crashes,
        entries: world.system.at(),
        time_ms: world.network.time_ms,
        failure,
        bounds: world.system.bounds(),
        story: world.story.into_lines(),
    }
}

/// In three seeds of eight a step is so small that long work takes several, as a promotion of a
/// million does with the real budget. It has a generator of its own, so that the other seeds run as
/// they would without it.
fn budget(seed: u64) -> Budget {
    let mut prng = Prng::new(seed ^ 0x6275_6467_6574_2121);
    match prng.below(8) {
        0..2 => Budget { work_max: 1 + prng.below(8) as usize, ..Budget::default() },
        2 => Budget { bytes_max: 1 + prng.below(2000) as usize, ..Budget::default() },
        _ => Budget::default(),
    }
}

impl<S: System> World<S> {
    fn live(&mut self, commands: u64) -> Check {
        self.start(false)?;
        for command in self.system.set_up(&mut self.prng) {
            self.send(command);
        }
        // A bound, for a run that makes no progress: a turn brings more than one command.
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
        TimeMs((EPOCH_MS + self.network.time_ms).saturating_add_signed(self.skew_ms))
    }

    /// Real time, which no clock shows.
    pub(crate) fn time_ms(&self) -> u64 {
        self.network.time_ms
    }

    fn send(&mut self, command: Command<S>) {
        self.network.send(&mut Chance { prng: &mut self.prng, habits: &self.habits }, command);
    }

    fn run_network(&mut self) -> Check {
        self.network.run(&mut Chance { prng: &mut self.prng, habits: &self.habits }, &mut self.system)
    }

    fn turn(&mut self) -> Check {
        self.pass_time();
        self.trouble()?;
        self.serve()?;
        if self.prng.percent(LOOKS) { self.look_from_outside() } else { Ok(()) }
    }

    /// Clients send commands, and the worker takes what has arrived.
    pub(crate) fn serve(&mut self) -> Check {
        let wanted = 1 + self.prng.below(self.habits.batch_max);
        for _ in 0..wanted {
            let now = self.now();
            let command = self.system.ask(&mut self.prng, now);
            self.send(command);
        }
        self.run_network()?;
        let most = 1 + self.prng.below(2 * self.habits.batch_max) as usize;
        let mut batch = self.network.take(most);
        let now = self.now();
        let crowd = self.system.crowd(&mut self.prng, now);
        let uncounted = if self.habits.counts_crowds { 0 } else { crowd.len() as u64 };
        batch.extend(crowd.into_iter().map(|command| (self.network.ticket(&command), command)));
        // What a worker has decided and could not take back must not be shown.
        let server = self.server.as_ref().filter(|server| !server.worker.is_stale());
        let machine = server.map(|server| (server.worker.machine(), server.worker.in_shortage()));
        if let Some(command) = self.system.beside(&mut self.prng, machine)? {
            let at = self.prng.below(batch.len() as u64 + 1) as usize;
            batch.insert(at, (self.network.ticket(&command), command));
        }
        let before = self.commands;
        self.steps(batch)?;
        self.commands -= uncounted.min(self.commands - before);
        Ok(())
    }

    fn pass_time(&mut self) {
        let now = self.now();
        let wakeup = self.server.as_ref().and_then(|server| server.worker.next_wakeup());
        let prng = &mut self.prng;
        let batch_max = self.habits.batch_max;
        let passed = match prng.below(100) {
            0..60 => prng.below(50 * batch_max),
            60..90 => prng.below(150 * batch_max),
            90..96 => wakeup.map_or(0, |at| at.since(now).0.min(30_000)),
            96..99 => prng.below(5000),
            _ => prng.below(self.habits.pause_ms_max),
        };
        self.network.time_ms += passed;
    }

    /// Runs as many steps of the worker as it takes to answer a whole batch, and checks each.
    fn steps(&mut self, batch: Vec<(usize, Command<S>)>) -> Check {
        let (tickets, commands): (Vec<usize>, Vec<Command<S>>) = batch.into_iter().unzip();
        let crashes = self.nemesis.crashes;
        let (mut answered, mut idle) = (0, 0);
        // Requests queued at a process that is gone are lost with it.
        while self.server.is_some() && self.nemesis.crashes == crashes {
            let before = self.system.at();
            let (count, is_whole) = self.step(&tickets[answered..], &commands[answered..])?;
            answered += count;
            let moves = is_whole || count > 0 || self.system.at() > before || self.nemesis.crashes > crashes;
            idle = if moves { 0 } else { idle + 1 };
            ensure(idle < IDLE_STEPS_MAX + self.system.unseen_steps(), "progress", || {
                "it says that it has more to do, and does nothing".into()
            })?;
            if is_whole && answered == commands.len() {
                break;
            }
            if !is_whole {
                self.strike_between_steps()?;
            }
        }
        Ok(())
    }

    /// One step of the worker; returns how many commands it answered, and whether no work remains.
    fn step(&mut self, tickets: &[usize], commands: &[Command<S>]) -> Result<(usize, bool), Violation> {
        let now = self.now();
        let Some(server) = &mut self.server else { return Ok((commands.len(), true)) };
        let was_short = server.worker.in_shortage();
        let looks = was_short && server.worker.next_wakeup().is_some_and(|at| at <= now);
        drop(self.disk.take_struck());
        let last_before = server.worker.log().last();
        // Of interest where room is short: listing hundreds of segments takes longer than a step.
        let files_before = self.disk.room_bytes().map(|_| self.disk.lengths()).unwrap_or_default();
        let replies = server.worker.step(now, commands).to_vec();
        let struck = self.disk.take_struck();
        self.nemesis.note_refused(self.disk.take_refused());
        ensure(replies.len() <= commands.len(), "replies", || "more than there are commands".into())?;
        let answered_all = replies.len() == commands.len();
        let (tickets, commands) = (&tickets[..replies.len()], &commands[..replies.len()]);
        for (command, reply) in commands.iter().zip(&replies) {
            self.story.note(format!("{} {} → {}", clock(now), S::brief(command), S::brief_reply(reply)));
        }
        if let Some(why) = server.worker.stopped() {
            self.story.note(format!("{} the worker stopped: {why}", clock(now)));
            // What passes by itself is waited for.
            let names_one = ["(os error 24)", "no space left"].iter().any(|short| why.contains(short));
            let is_shortage = names_one || is_only_short(&struck);
            ensure(!is_shortage, "availability", || format!("it has stopped for good: {why}"))?;
            ensure(is_excused(&self.disk, why, &struck), "excuse", || {
                format!("{why}, and there was only {struck:?}")
            })?;
            // Its last decisions may never have become durable, and a refusal depends on them as
            // much as a grant.
            let said = replies.iter().find(|reply| !S::is_no_answer(reply));
            ensure(said.is_none(), "INV-4", || format!("{said:?} is said by a worker that has stopped"))?;
            let count = replies.len();
            self.deliver(tickets, replies);
            self.crash()?;
            return Ok((count, true));
        }
        self.commands += commands.len() as u64;
        let in_shortage = server.worker.in_shortage();
        let next_wakeup = server.worker.next_wakeup();
        ensure(!in_shortage || was_short || !struck.is_empty(), "excuse", || {
            "it has paused itself, and no fault has struck".into()
        })?;
        // Available again within a second after the fault is over.
        ensure(!(in_shortage && looks && struck.is_empty()), "availability", || {
            "nothing is short any more, and it does not go on".into()
        })?;
        let is_soon = next_wakeup.is_some_and(|at| at <= now.plus(SHORTAGE_RETRY));
        ensure(!in_shortage || is_soon, "availability", || format!("it looks again at {next_wakeup:?}"))?;
        if !self.disk.is_down() && !self.nemesis.in_turns {
            self.nothing_is_unfinished()?;
            if in_shortage {
                self.is_short_of_room(&struck, &files_before, last_before)?;
            } else {
                self.takes_what_it_uses()?;
            }
        }
        let Some(server) = &mut self.server else { return Ok((commands.len(), true)) };
        let is_whole = in_shortage || (answered_all && next_wakeup.is_none_or(|at| at > now));
        let is_stale = server.worker.is_stale();
        let step = Step { now, commands, replies: &replies, in_shortage, is_stale, next_wakeup, is_whole };
        self.disk.hold_faults(true);
        let checked = self.system.check(&step, server.worker.machine(), &mut *server.reader);
        self.disk.hold_faults(false);
        for line in self.system.take_news() {
            self.story.note(format!("{} {line}", clock(now)));
        }
        checked?;
        let (last, read) = (server.worker.machine().sequence().0, self.system.at());
        ensure(last == read || server.worker.is_stale(), "INV-7", || {
            format!("the machine is at {last}, and its log at {read}")
        })?;
        let count = replies.len();
        self.deliver(tickets, replies);
        if self.disk.is_down() {
            self.crash()?;
        }
        Ok((count, is_whole))
    }

    fn deliver(&mut self, tickets: &[usize], replies: Vec<Reply<S>>) {
        for (ticket, reply) in tickets.iter().zip(replies) {
            let mut chance = Chance { prng: &mut self.prng, habits: &self.habits };
            self.network.reply(&mut chance, *ticket, reply);
        }
    }

    /// The power fails, or the process dies; either way it is restarted. What it knew to be the end
    /// of its log is the end: only after an append of unknown outcome may more be found.
    pub(crate) fn crash(&mut self) -> Check {
        let mut server = self.server.take();
        let live = server.as_ref().map(|Server { worker, .. }| {
            let state = (!worker.is_stale()).then(|| worker.machine().snapshot());
            (worker.log().last(), worker.is_uncertain(), state)
        });
        // A log that is closed notes where it ends. Mostly the process does not come to that.
        if self.nemesis.prng.percent(20) {
            drop(server.take());
        }
        self.break_down();
        drop(server);
        self.network.server_gone();
        self.start(true)?;
        let (Some(server), Some((at, is_uncertain, state))) = (&self.server, live) else { return Ok(()) };
        let machine = server.worker.machine();
        let found = machine.sequence();
        ensure(at <= found, "INV-4", || format!("back to {found} from {at}"))?;
        ensure(at == found || is_uncertain, "durable", || {
            format!(
                "restarted at {found}, and nothing after {at} was appended, as the worker said for certain"
            )
        })?;
        let is_same = at < found || state.is_none_or(|bytes| bytes == machine.snapshot());
        ensure(is_same, "INV-7", || format!("the restarted machine at entry {at} is not what it was"))
    }

    /// Opens the log and the sale, perhaps dying again on the way.
    fn start(&mut self, trouble: bool) -> Check {
        let options = Options {
            first_bytes: self.habits.first_bytes,
            segment_bytes: self.habits.segment_bytes,
            ..Options::new(Partition(0), LogId(*b"simulated log id"))
        };
        for tries_left in (0..4).rev() {
            if trouble && tries_left > 0 {
                self.arm_for_start();
            }
            if tries_left == 0 {
                // A log that cannot be synced cannot be opened either: room is made for it.
                self.disk.limit_sync_room(None, 0);
            }
            let opened = EmbeddedLog::open(self.disk.clone(), options).map_err(|error| in_full(&error));
            let opened =
                opened.and_then(|log| Worker::<S::Machine, _>::open(log).map_err(|error| in_full(&error)));
            let struck = self.disk.take_struck();
            match opened {
                Ok((mut worker, recovery)) if !self.disk.is_down() => {
                    worker.set_budget(self.budget);
                    let (at, from) = (worker.machine().sequence(), recovery.snapshot.unwrap_or_default());
                    self.story.note(format!("{} started at {at}, snapshot {from}", clock(self.now())));
                    let mut reader = worker.log().reader();
                    self.disk.hold_faults(true);
                    let checked = self.system.restarted(worker.machine(), &mut *reader);
                    for line in self.system.take_news() {
                        self.story.note(format!("found {line}"));
                    }
                    checked?;
                    self.nothing_is_unfinished()?;
                    self.same_bytes(&worker)?;
                    self.disk.hold_faults(false);
                    self.server = Some(Server { worker, reader });
                    return Ok(());
                }
                Ok(_) => {}
                Err(why) => {
                    self.story.note(format!("{} cannot start: {why}", clock(self.now())));
                    ensure(is_excused(&self.disk, &why, &struck), "excuse", || {
                        format!("{why}, and there was only {struck:?}")
                    })?;
                }
            }
            self.break_down();
        }
        Err(Violation { rule: "recovery", what: "does not start again".into() })
    }

    /// No file is left that a failed call, or a life that has ended, has begun; unless the call
    /// that was to remove that very file was refused in this life.
    pub(crate) fn nothing_is_unfinished(&self) -> Check {
        let mut files = self.disk.lengths_of(|name| name.ends_with(".tmp"));
        files.retain(|name, _| !self.nemesis.not_removed.contains(name));
        ensure(files.is_empty(), "leftover", || format!("{:?} is left", files.keys()))
    }

    /// The file that is appended to is no longer than the log knows: what a failed allocation has
    /// made of it is given back.
    fn takes_what_it_uses(&self) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let newest = self.disk.newest_of(|name| name.starts_with("seg-") && name.ends_with(".log"));
        let used = server.worker.log().capacity_bytes();
        ensure(newest.as_ref().is_some_and(|(_, len)| *len < used + 8), "leftover", || {
            format!("{newest:?} is longer than the {used} bytes that the log knows")
        })
    }

    /// A step that ended in a shortage for want of room alone has taken none, if it appended
    /// nothing; and there is not enough for the frame that is owed. Where room is reserved late,
    /// a file's length says nothing of the room that it takes.
    fn is_short_of_room(
        &self,
        struck: &[Fault],
        before: &BTreeMap<String, u64>,
        last_before: Sequence,
    ) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let is_why = !struck.is_empty() && struck.iter().all(|fault| *fault == Fault::Full);
        let Some(room) = self.disk.room_bytes().filter(|_| is_why) else { return Ok(()) };
        let after = self.disk.lengths();
        // A part may have been appended, and another segment begun on the way.
        let is_same = after.len() == before.len() && server.worker.log().last() == last_before;
        let longer = after.iter().find(|(name, len)| before.get(*name).is_some_and(|was| was < *len));
        let takes_none = !is_same || self.nemesis.reserves_late || longer.is_none();
        ensure(takes_none, "leftover", || format!("{longer:?} has taken room, and nothing was appended"))?;
        // A file grows by whole pages, and a fresh one begins with one. Where only what is written
        // takes room, a header, a mark and the names take less than a page.
        let pages = if self.nemesis.reserves_late { 1 } else { 2 };
        let need = server.worker.log().owed_bytes() + pages * PAGE_BYTES;
        ensure(room < need, "availability", || {
            format!("it is short of room for {need} bytes, and there is room for {room}")
        })
    }

    /// INV-7: the recovered machine equals the replay of the whole log, and the restore of its own
    /// snapshot.
    fn same_bytes(&self, worker: &Worker<S::Machine, EmbeddedLog<SimDisk>>) -> Check {
        let bytes = worker.machine().snapshot();
        let replayed = recover::<S::Machine>(&mut *worker.log().reader(), None);
        let (whole, _) = replayed.map_err(|error| Violation { rule: "INV-7", what: error.to_string() })?;
        ensure(whole.snapshot() == bytes, "INV-7", || "the whole log gives other bytes".into())?;
        let restored = S::Machine::restore(&bytes).map(|machine| machine.snapshot());
        ensure(restored.is_ok_and(|again| again == bytes), "INV-7", || {
            "its snapshot gives other bytes".into()
        })?;
        let recovered = S::Machine::restore(&bytes);
        recovered.map_or(Ok(()), |recovered| self.same_answers(recovered, whole))
    }

    /// Two machines at the same entry, one of them from a snapshot, answer the same and log the
    /// same, whatever is asked next. Their bytes say only that a snapshot of both would have the
    /// same fields, and not that these are all.
    pub(crate) fn same_answers(&self, mut restored: S::Machine, mut replayed: S::Machine) -> Check {
        let now = self.now().max(replayed.time());
        for command in self.system.probes() {
            let ask = |machine: &mut S::Machine| {
                let (reply, logged) = answer(machine, now, &command)?;
                Ok::<_, Broken>((S::of_the_log(reply), logged))
            };
            let (a, b) = (ask(&mut restored), ask(&mut replayed));
            ensure(a == b, "INV-7", || {
                let at = replayed.sequence();
                format!(
                    "{} at {at}: restored from a snapshot it is {a:?}, replayed {b:?}",
                    S::brief(&command)
                )
            })?;
        }
        Ok(())
    }

    /// A reader in another process sees what is durable, all of it, in order; and no more, unless
    /// an append is of unknown outcome.
    fn look_from_outside(&mut self) -> Check {
        let Some(server) = &self.server else { return Ok(()) };
        let is_certain = !server.worker.is_uncertain();
        let (last, from) = (server.worker.log().last(), Sequence(1 + self.prng.below(self.system.at() + 1)));
        let mut own = server.worker.log().reader();
        self.disk.hold_faults(true);
        let mut outside = match self.outside.take().filter(|_| self.prng.percent(80)) {
            Some(outside) => outside,
            None => ReadOnlyLog::open(self.disk.clone()).map_err(|error| broken(&error))?,
        };
        let (seen, durable) = (entries_from(&mut outside, from)?, entries_from(&mut *own, from)?);
        self.disk.hold_faults(false);
        let sees_more = outside.last() > last || seen.len() > durable.len();
        ensure(seen.starts_with(&durable) && !(is_certain && sees_more), "durable", || {
            let seen = seen.len();
            format!(
                "from {from} a reader outside sees {seen} entries up to {}, and {last} is the last",
                outside.last()
            )
        })?;
        self.outside = Some(outside);
        Ok(())
    }

    /// The faults stop; then the last requests, the last deadlines, and the audit.
    fn end(&mut self) -> Check {
        self.disk.limit_room(None);
        self.disk.limit_sync_room(None, 0);
        self.disk.fail_opens(false);
        self.nemesis.last();
        self.crash()?;
        let until_ms = self.network.time_ms + 100 * self.commands.max(10_000);
        while let Some(at) = self.network.next() {
            self.network.time_ms = self.network.time_ms.max(at);
            self.run_network()?;
            let batch = self.network.take(FINAL_BATCH);
            self.steps(batch)?;
            if self.network.time_ms > until_ms {
                break;
            }
        }
        for batch in self.system.last_questions() {
            let batch = batch.into_iter().map(|command| (self.network.ticket(&command), command)).collect();
            self.steps(batch)?;
        }
        self.wind_down()?;
        for _ in 0..QUIET_STEPS_MAX {
            let Some(wakeup) = self.server.as_ref().and_then(|server| server.worker.next_wakeup()) else {
                break;
            };
            self.network.time_ms += wakeup.since(self.now()).0;
            self.steps(Vec::new())?;
        }
        let Some(server) = &self.server else { return Ok(()) };
        self.system.end(server.worker.machine(), server.worker.log())?;
        self.same_bytes(&server.worker)
    }

    /// The code beside the machine finishes what it has to do.
    fn wind_down(&mut self) -> Check {
        for _ in 0..WIND_DOWN_MAX {
            let now = self.now();
            let Some((in_ms, commands)) = self.system.winds_down(&mut self.prng, now)? else {
                return Ok(());
            };
            self.network.time_ms += in_ms;
            let batch =
                commands.into_iter().map(|command| (self.network.ticket(&command), command)).collect();
            self.steps(batch)?;
        }
        Err(Violation { rule: "progress", what: "the code beside the machine never finishes".into() })
    }
}

fn broken(error: &LogError) -> Violation {
    Violation { rule: "durable", what: in_full(error) }
}

fn entries_from(reader: &mut dyn LogRead, from: Sequence) -> Result<Vec<Vec<u8>>, Violation> {
    let mut entries = Vec::new();
    let mut keep = |_: Sequence, bytes: &[u8]| {
        entries.push(bytes.to_vec());
        ControlFlow::Continue(())
    };
    reader.read(from, &mut keep).map_err(|error| broken(&error))?;
    Ok(entries)
}

/// What a machine answers to a command, and the entries that it would log with it; or how it
/// breaks.
type Answered<M> = Result<(<M as Machine>::Reply, Vec<u8>), Broken>;

fn answer<M: Machine>(machine: &mut M, now: TimeMs, command: &M::Command) -> Answered<M> {
    let mut logged = Vec::new();
    let mut so_far = M::SoFar::default();
    loop {
        let mut step = runtime::Step::default();
        let progress = machine.tick(now, &mut step)?;
        let decided = match progress {
            Progress::Done => Some(machine.decide(now, command, &so_far, &mut step)?),
            Progress::More => None,
        };
        logged.extend_from_slice(step.batch().as_bytes());
        match decided {
            Some(Decision::Done(reply)) => return Ok((reply, logged)),
            Some(Decision::More(further)) => so_far = further,
            None => {}
        }
    }
}
