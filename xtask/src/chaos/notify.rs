//! `cargo xtask chaos notify`: the message service as its users have it. The real server is killed,
//! its disk damaged and filled, and its subscribers misbehave, while producers post; at the end the
//! ledgers of producers and subscribers must agree. With `--log nats` its log is on a nats-server,
//! which is killed and frozen instead of the disk.

mod event;
mod judge;
mod log_file;
mod nats;
mod producer;
mod server;
mod subscriber;

use super::dice::Dice;
use crate::shell::{Failure, command, finish, release_binary};
use event::Event;
use judge::{Subscription, Verdict, judge};
use log_file::{SEGMENT_HEADER_BYTES, Segment, flip, in_a_mark, segments, snapshot, tear};
use nats::Nats;
use producer::Posting;
use serde_json::{Value, json};
use server::{CANNOT_BE_BROUGHT_BACK, PATIENCE, Server, Started};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};
use subscriber::{Manners, Subscriber};

const PRODUCERS: u32 = 4;
/// Requests of a producer are at most so far apart; and while more than so many events are owed to
/// a subscriber, so that what is owed at the end is delivered soon on a slow machine too.
const PAUSE_MS_MAX: u64 = 60;
const LONG_PAUSE_MS_MAX: u64 = 2000;
const OWED_MAX: u64 = 3000;
/// The disk, and what each minute adds to it: nothing of the log is trimmed. It is in memory.
const DISK_MIB: u64 = 192;
const DISK_MIB_EACH_MINUTE: u64 = 48;
const MINUTES_MAX: u64 = 240;
/// Refusals after which a full disk counts as noticed, and how long that may take.
const REFUSALS_NOTICED: u64 = 5;
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
/// The room in the log's file with which the disk is filled, at the most: all of it is used then.
const ROOM_BYTES_MAX: u64 = 12 << 20;
/// Frames before the log's end among which one is changed while the server needs it.
const RECENT_FRAMES: usize = 40;
/// The word by which this program is started once more, on the small disk.
pub(crate) const ON_DISK: &str = "chaos-notify-on-disk";

/// Where the server's log is, as the flag and this program itself say it.
const ON_NATS: &str = "nats";
const IN_FILES: &str = "files";

struct Options {
    minutes: u64,
    seed: u64,
    log: &'static str,
}

impl Options {
    fn read(args: &[&str]) -> Result<Self, Failure> {
        let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        let mut options = Self { minutes: 5, seed: seconds, log: IN_FILES };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args.next().copied();
            if let ("--log", Some(log)) = (*flag, value)
                && let Some(log) = [IN_FILES, ON_NATS].into_iter().find(|known| *known == log)
            {
                options.log = log;
                continue;
            }
            match (*flag, value.and_then(|value| value.parse().ok())) {
                ("--minutes", Some(minutes @ 1..=MINUTES_MAX)) => options.minutes = minutes,
                ("--seed", Some(seed)) => options.seed = seed,
                _ => {
                    return Err(Failure(format!(
                        "{flag}: want --minutes 1 to {MINUTES_MAX}, --seed N, --log files or nats"
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// A directory that is gone when this is dropped, unless it is kept.
struct Dir {
    path: PathBuf,
    is_kept: bool,
}

impl Dir {
    fn make(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("floodgate-chaos-notify-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| Failure(format!("make {}: {error}", path.display())))?;
        Ok(Self { path, is_kept: false })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Mounts the small disk where no other process sees it, and goes on there. It is gone when the run
/// is, however that ends.
pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    let Options { minutes, seed, log } = Options::read(args)?;
    let binary = release_binary("floodgate")?;
    let point = Dir::make(Path::new("/dev/shm"))?;
    let mib = DISK_MIB + minutes * DISK_MIB_EACH_MINUTE;
    // In a chroot `/` is a plain directory; `/dev/shm` is a mount there too.
    let mount = format!(
        "mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm && \
         mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\""
    );
    let is_root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] = if is_root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mut unshare = command("unshare");
    unshare.args(["--propagation", "unchanged"]).args(namespaces).args(["sh", "-c", &mount]);
    unshare.arg(&point.path).arg(std::env::current_exe()?).arg(ON_DISK).arg(&point.path).arg(binary);
    finish(unshare.args([minutes.to_string(), seed.to_string(), log.to_owned()]))
}

/// The run itself.
pub(crate) fn run_on_disk(args: &[&str]) -> Result<(), Failure> {
    let &[disk, binary, minutes, seed, log] = args else {
        return Err(Failure(format!("{ON_DISK} is for `chaos notify` alone")));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|error| Failure(format!("{text}: {error}")));
    let (minutes, seed) = (number(minutes)?, number(seed)?);
    let mut scratch = Dir::make(&std::env::temp_dir())?;
    let disk = Path::new(disk);
    let nats = if log == ON_NATS { Some(Nats::begin(disk, &scratch.path)?) } else { None };
    let mut world = World::begin(Path::new(binary), disk, &scratch.path, seed, nats)?;
    println!("seed {seed}, {minutes} minutes, log in {log}");
    let ended = world.run(Duration::from_secs(60 * minutes));
    print!("{}", world.table());
    let ended = ended.and_then(|()| world.differences());
    if ended.is_err() {
        scratch.is_kept = true;
        let kept = keep(&world.server.data, &scratch.path.join("data"));
        println!("the server's log and data are in {}: {kept:?}", scratch.path.display());
    }
    ended
}

/// Copies a directory for a person to look at. The copy need not be durable.
fn keep(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            keep(&from, &to)?;
        } else if from.is_file() {
            fs::write(to, fs::read(&from)?)?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Stop,
    TornTail,
    FlippedFrame,
    FlippedHeader,
    FlippedMark,
    FlippedSnapshot,
    FlippedUnderWay,
    FullDisk,
    NatsKilled,
    NatsFrozen,
    BothKilled,
}
use Fault::{
    BothKilled, FlippedFrame, FlippedHeader, FlippedMark, FlippedSnapshot, FlippedUnderWay, FullDisk, Kill,
    NatsFrozen, NatsKilled, Stop, TornTail,
};

/// Each as often as it is here.
const FAULTS: [Fault; 20] = [
    Kill,
    FlippedFrame,
    FullDisk,
    TornTail,
    FlippedUnderWay,
    Kill,
    FullDisk,
    FlippedHeader,
    Stop,
    FlippedFrame,
    Kill,
    FullDisk,
    TornTail,
    FlippedMark,
    FlippedUnderWay,
    Kill,
    FlippedFrame,
    FlippedSnapshot,
    TornTail,
    Kill,
];

/// The same, of a log on NATS.
const FAULTS_ON_NATS: [Fault; 10] =
    [NatsKilled, Kill, NatsFrozen, NatsKilled, BothKilled, Stop, NatsKilled, NatsFrozen, BothKilled, Kill];

struct World {
    server: Server,
    nats: Option<Nats>,
    subscribers: Vec<Subscriber>,
    posting: Arc<Posting>,
    producers: Vec<JoinHandle<()>>,
    dice: Dice,
    ballast: PathBuf,
    /// What was done, and what was seen of it.
    tally: BTreeMap<&'static str, u64>,
    verdicts: BTreeMap<&'static str, Verdict>,
    faults: Vec<String>,
}

impl World {
    fn begin(
        binary: &Path,
        disk: &Path,
        scratch: &Path,
        seed: u64,
        nats: Option<Nats>,
    ) -> Result<Self, Failure> {
        let settings = nats.as_ref().map(Nats::settings).unwrap_or_default();
        let mut server = Server::new(binary, &disk.join("data"), scratch, &settings)?;
        server.start_well()?;
        let key = server.make_key()?;
        created(&server, "/api/v1/topics/chaos", &json!({}))?;
        let everything: fn(Event) -> bool = |_| true;
        let prompt = Manners::default();
        let flaky = Manners { refuses: 80, hangs_up: 30, ..prompt };
        let slow = Manners { dawdles: 60, dawdle_ms_max: 2600, ..prompt };
        let strict = Manners { refuses_poison: true, ..prompt };
        let patient = json!({ "first_seconds": 1, "longest_seconds": 2, "attempts": 100 });
        let impatient = json!({ "first_seconds": 1, "longest_seconds": 1, "attempts": 3 });
        let mut subscribers = Vec::new();
        for (name, wants, manners, retry, filters) in [
            ("steady", everything, prompt, &patient, json!([])),
            ("flaky", everything, flaky, &patient, json!([])),
            ("slow", everything, slow, &patient, json!([])),
            (
                "paid",
                |event: Event| event.kind() == "order.paid",
                flaky,
                &patient,
                json!([{ "exact": { "type": "order.paid" } }]),
            ),
            ("strict", everything, strict, &impatient, json!([])),
        ] {
            let seed = seed ^ subscribers.len() as u64;
            let subscriber = Subscriber::start(name, wants, manners, seed, &server.life)?;
            let spec =
                json!({ "topic": "chaos", "url": subscriber.url(), "retry": retry, "filters": filters });
            created(&server, &format!("/api/v1/subscriptions/{name}"), &spec)?;
            subscribers.push(subscriber);
        }
        let posting = Arc::new(Posting::new(server.events, key, PAUSE_MS_MAX, nats.is_some()));
        let producers = (0..PRODUCERS).map(|producer| {
            let (posting, seed) = (Arc::clone(&posting), seed.wrapping_add(u64::from(producer) << 40));
            thread::spawn(move || producer::run(&posting, producer, seed))
        });
        Ok(Self {
            producers: producers.collect(),
            server,
            nats,
            subscribers,
            posting,
            dice: Dice(seed),
            ballast: disk.join("ballast"),
            tally: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            faults: Vec::new(),
        })
    }

    fn did(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Waits between so many milliseconds and three times as many.
    fn nap(&mut self, ms: u64) {
        sleep(Duration::from_millis(ms + self.dice.below(2 * ms)));
    }

    fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < time {
            self.nap(1000);
            let victim = self.dice.below(2 * self.subscribers.len() as u64) as usize;
            if (1..self.subscribers.len()).contains(&victim) && self.subscribers[victim].name != "strict" {
                self.subscribers[victim].kill();
                self.did("a subscriber was killed, and came back");
                self.nap(500);
            }
            // Each fault once, and then as it comes.
            let faults = if self.nats.is_some() { &FAULTS_ON_NATS[..] } else { &FAULTS };
            let at =
                if rounds < faults.len() { rounds } else { self.dice.below(faults.len() as u64) as usize };
            self.strike(faults[at])?;
            rounds += 1;
            self.set_the_pace()?;
            self.nap(300);
            for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.is_killed()) {
                subscriber.revive()?;
            }
        }
        self.end()
    }

    fn strike(&mut self, fault: Fault) -> Result<(), Failure> {
        match fault {
            Kill => {
                self.server.kill()?;
                self.did("SIGKILL");
                self.server.start_well()
            }
            Stop => {
                self.server.stop()?;
                self.did("SIGTERM: it ended in order");
                self.server.start_well()
            }
            TornTail => self.tear_the_tail(),
            FlippedFrame => {
                self.server.kill()?;
                let segments = segments(&self.server.log_dir())?;
                let Some((file, at, end)) = self.durable_frame(&segments, usize::MAX) else {
                    return self.server.start_well();
                };
                let place = at + self.dice.below(end - at);
                self.refuse_changed(
                    &file,
                    (at, place),
                    "SIGKILL, a bit of a durable frame: refused, and named",
                )
            }
            FlippedHeader => {
                self.server.kill()?;
                let segments = segments(&self.server.log_dir())?;
                let which = self.dice.below(segments.len() as u64) as usize;
                let place = self.dice.below(SEGMENT_HEADER_BYTES);
                let file = segments[which].file.clone();
                self.refuse_changed(&file, (0, place), "SIGKILL, a bit of a header: refused, and named")
            }
            FlippedMark => {
                self.server.kill()?;
                let segments = segments(&self.server.log_dir())?;
                let place = in_a_mark(self.dice.next(), self.dice.next());
                let last = segments.last().map(|segment| segment.file.clone());
                let file = last.ok_or_else(|| Failure("the log has no segment".into()))?;
                flip(&file, place, self.dice.below(8) as u32)?;
                self.did("SIGKILL, a bit of a mark: survived");
                self.server.start_well()
            }
            FlippedSnapshot => {
                self.server.kill()?;
                if let Some(file) = snapshot(&self.server.log_dir())? {
                    let place = self.dice.below(fs::metadata(&file)?.len());
                    flip(&file, place, self.dice.below(8) as u32)?;
                    self.did("SIGKILL, a bit of a snapshot: survived");
                }
                self.server.start_well()
            }
            FlippedUnderWay => self.flip_under_way(),
            FullDisk => self.fill_the_disk(),
            NatsKilled => self.kill_nats(),
            NatsFrozen => {
                self.nats()?.signal("-STOP")?;
                self.nap(1500);
                self.nats()?.signal("-CONT")?;
                self.did("nats-server was frozen, and went on");
                self.until_it_goes_on()
            }
            BothKilled => {
                self.server.kill()?;
                self.nats()?.kill()?;
                self.nats()?.start()?;
                self.did("SIGKILL of both");
                self.server.start_well()
            }
        }
    }

    fn nats(&mut self) -> Result<&mut Nats, Failure> {
        self.nats.as_mut().ok_or_else(|| Failure("this run has no nats-server".into()))
    }

    fn kill_nats(&mut self) -> Result<(), Failure> {
        let before = self.posting.counts.unavailable.load(SeqCst);
        self.nats()?.kill()?;
        if self.are_refused_since(before) {
            self.did("SIGKILL of nats-server: publishers were refused");
        }
        self.nap(500);
        self.nats()?.start()?;
        self.did("SIGKILL of nats-server, which came back");
        self.until_it_goes_on()
    }

    /// Waits until publishers are refused; whether they were.
    fn are_refused_since(&self, before: u64) -> bool {
        let refusals = || self.posting.counts.unavailable.load(SeqCst);
        let began = Instant::now();
        while refusals() < before + REFUSALS_NOTICED && began.elapsed() < NOTICED_WITHIN {
            sleep(Duration::from_millis(50));
        }
        refusals() >= before + REFUSALS_NOTICED
    }

    fn until_it_goes_on(&self) -> Result<(), Failure> {
        let taken = || self.posting.counts.taken.load(SeqCst);
        let arrived = || self.subscribers[0].arrivals_count();
        let (taken_before, arrived_before) = (taken(), arrived());
        until("there is room again: events are taken and delivered", || {
            Ok(taken() > taken_before + 2 && arrived() > arrived_before)
        })
    }

    fn tear_the_tail(&mut self) -> Result<(), Failure> {
        self.server.kill()?;
        let segments = segments(&self.server.log_dir())?;
        let last = segments.last().ok_or_else(|| Failure("the log has no segment".into()))?;
        let is_torn = tear(last, self.dice.below(1000))?;
        let said = self.server.said_bytes();
        self.server.start_well()?;
        if is_torn {
            self.did("SIGKILL, a torn tail: survived, and named");
            let said = self.server.said_since(said);
            if !said.contains("torn append") {
                self.faults.push(format!("a torn tail was cut and not named: {said}"));
            }
        }
        Ok(())
    }

    /// A frame among the last so many that is not the very last one: it is certainly durable.
    fn durable_frame(&mut self, segments: &[Segment], recent: usize) -> Option<(PathBuf, u64, u64)> {
        let frames =
            segments.iter().flat_map(|segment| segment.frames.iter().map(move |frame| (segment, frame)));
        let mut frames: Vec<_> = frames.collect();
        frames.pop();
        let from = frames.len().saturating_sub(recent);
        let at = from + self.dice.below((frames.len() - from) as u64) as usize;
        frames.get(at).map(|(segment, frame)| (segment.file.clone(), frame.at, frame.end))
    }

    /// Changes a bit at `place`, starts the server, which must refuse and name the file and the
    /// byte `at`, and changes the bit back.
    fn refuse_changed(
        &mut self,
        file: &Path,
        (at, place): (u64, u64),
        what: &'static str,
    ) -> Result<(), Failure> {
        let flipped = flip(file, place, self.dice.below(8) as u32)?;
        let arrivals =
            |world: &Self| -> usize { world.subscribers.iter().map(Subscriber::arrivals_count).sum() };
        // What was sent before the kill is on its way for a moment.
        sleep(Duration::from_millis(200));
        let before = arrivals(self);
        match self.server.start()? {
            Started::Ready => {
                self.faults.push(format!("{flipped:?} was not noticed at the start"));
            }
            Started::Refused(said) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // A header that names another version is not called damaged.
                let is_named = said.contains(&format!("{name} at byte {at}:"))
                    || (at == 0 && said.contains(&format!("{name}: format version")));
                if !said.contains(CANNOT_BE_BROUGHT_BACK) || !is_named {
                    self.faults.push(format!("{flipped:?} was not named with byte {at}: {said}"));
                }
                sleep(Duration::from_millis(300));
                if arrivals(self) > before {
                    self.faults.push(format!("{flipped:?}: something was delivered all the same"));
                }
            }
        }
        self.server.kill()?;
        flipped.undo()?;
        self.did(what);
        self.server.start_well()
    }

    /// Changes a bit of what is to be delivered while the server runs, and changes it back later.
    fn flip_under_way(&mut self) -> Result<(), Failure> {
        // The attempts of the strict one would be used up.
        let patient = self.subscribers.iter_mut().filter(|subscriber| subscriber.name != "strict");
        patient.for_each(Subscriber::kill);
        self.nap(1000);
        // The next process has no event in memory.
        self.server.kill()?;
        let segments = segments(&self.server.log_dir())?;
        let found = self.durable_frame(&segments, RECENT_FRAMES);
        self.server.start_well()?;
        let Some((file, at, end)) = found else { return Ok(()) };
        let said = self.server.said_bytes();
        let flipped = flip(&file, at + self.dice.below(end - at), self.dice.below(8) as u32)?;
        self.subscribers.iter_mut().try_for_each(Subscriber::revive)?;
        self.nap(1500);
        flipped.undo()?;
        self.did("a bit changed under the running server, and back");
        if self.server.said_since(said).contains("cannot be read") {
            self.did("a bit changed under the running server: it needed that event, and said so");
        }
        Ok(())
    }

    fn fill_the_disk(&mut self) -> Result<(), Failure> {
        let room = segments(&self.server.log_dir())?.last().map_or(0, Segment::room_bytes);
        if room > ROOM_BYTES_MAX {
            // The log would not notice before its file is full.
            return self.strike(Kill);
        }
        let before = self.posting.counts.unavailable.load(SeqCst);
        self.posting.is_big.store(true, SeqCst);
        fill(&self.ballast)?;
        let is_noticed = self.are_refused_since(before);
        self.did("the disk was full, and free again");
        if is_noticed {
            self.did("the disk was full: publishers were refused");
        }
        // Often longer than the server waits for an answer: then nothing is under way any more.
        self.nap(1000);
        if self.dice.is_one_of_a_thousand(400) {
            self.server.kill()?;
            self.did("the disk was full: SIGKILL, and a start meanwhile");
            if let Started::Refused(said) = self.server.start()? {
                self.did("the disk was full: the message service did not start");
                if !said.contains("(os error 28)") {
                    self.faults.push(format!("a start on a full disk: {said}"));
                }
                self.server.kill()?;
            }
        }
        self.posting.is_big.store(false, SeqCst);
        fs::remove_file(&self.ballast)?;
        if !self.server.is_running() {
            self.server.start_well()?;
        }
        self.until_it_goes_on()
    }

    /// Ends all faults, waits until nothing is owed, and judges.
    fn end(&mut self) -> Result<(), Failure> {
        self.posting.ends.store(true, SeqCst);
        self.subscribers.iter_mut().try_for_each(Subscriber::revive)?;
        self.subscribers.iter().for_each(Subscriber::calm_down);
        until("every request is answered", || Ok(self.producers.iter().all(JoinHandle::is_finished)))?;
        for producer in std::mem::take(&mut self.producers) {
            if producer.join().is_err() {
                self.faults.push("a producer panicked".into());
            }
        }
        self.until_nothing_is_owed()?;
        let accepted = self.posting.accepted_so_far();
        let mut dead_of = Vec::new();
        for subscriber in &self.subscribers {
            let dead = dead_letters(&self.server, subscriber.name, &accepted)?;
            let ledger = subscriber.ledger();
            let wants = |(_, event): &(u64, Event)| (subscriber.wants)(*event);
            let wanted = accepted.iter().map(|(event, number)| (*number, *event)).filter(wants).collect();
            let verdict = judge(&Subscription { wanted, arrivals: &ledger, dead: &dead });
            self.verdicts.insert(subscriber.name, verdict);
            dead_of.push(dead);
        }
        self.check_the_topic(&accepted)?;
        for (subscriber, dead) in self.subscribers.iter().zip(&dead_of) {
            let is_strict = subscriber.name == "strict";
            // Others have so many attempts that none is used up.
            if let Some(event) = dead.iter().find(|event| !is_strict || !event.is_poison()) {
                self.faults.push(format!("{}: {event} is a dead letter", subscriber.name));
            }
            if !is_strict {
                continue;
            }
            let poison = accepted.keys().filter(|event| event.is_poison()).count();
            if dead.len() != poison {
                self.faults.push(format!("{poison} poisonous events, and {} dead letters", dead.len()));
            }
            subscriber.mend();
            let redriven = self.server.ask("POST", "/api/v1/subscriptions/strict/redrive", "{}")?;
            let changed: Value = serde_json::from_str(&redriven.body).unwrap_or_default();
            if changed["changed"] != dead.len() {
                self.faults.push(format!("redrive of {}: {redriven:?}", dead.len()));
            }
        }
        self.until_nothing_is_owed()?;
        for (subscriber, dead) in self.subscribers.iter().zip(&dead_of) {
            if let Some(event) = subscriber.not_accepted(dead).first() {
                self.faults.push(format!("{}: {event} was redriven and has not arrived", subscriber.name));
            }
        }
        self.restart_in_peace()
    }

    /// After an orderly restart nothing is delivered again.
    fn restart_in_peace(&mut self) -> Result<(), Failure> {
        let before: Vec<usize> = self.subscribers.iter().map(Subscriber::arrivals_count).collect();
        self.server.stop()?;
        self.server.start_well()?;
        sleep(Duration::from_secs(2));
        for (subscriber, before) in self.subscribers.iter().zip(before) {
            let more = subscriber.arrivals_count() - before;
            if more > 0 {
                self.faults.push(format!("{}: {more} came again after an orderly end", subscriber.name));
            }
        }
        self.server.stop()
    }

    /// The subscriptions as the server sees them.
    fn views(&self) -> Result<Vec<Value>, Failure> {
        let answer = self.server.ask("GET", "/api/v1/subscriptions", "")?;
        let seen: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let views = seen["subscriptions"].as_array().filter(|views| views.len() == self.subscribers.len());
        views.cloned().ok_or_else(|| Failure(format!("subscriptions: {answer:?}")))
    }

    fn set_the_pace(&self) -> Result<(), Failure> {
        let owed = self.views()?.iter().filter_map(|view| view["backlog"].as_u64()).max();
        let is_behind = owed.is_some_and(|owed| owed > OWED_MAX);
        let pause = if is_behind { LONG_PAUSE_MS_MAX } else { PAUSE_MS_MAX };
        self.posting.pause_ms_max.store(pause, SeqCst);
        Ok(())
    }

    fn until_nothing_is_owed(&self) -> Result<(), Failure> {
        let owed = |name: &str, view: &Value| view[name].as_u64() != Some(0);
        let mut views = Vec::new();
        let waited = until("nothing is owed", || {
            views = self.views()?;
            Ok(!views.iter().any(|view| owed("backlog", view) || owed("in_flight", view)))
        });
        waited.map_err(|failure| Failure(format!("{failure}: {views:?}")))
    }

    /// Each event has a number of its own, and nothing else has one.
    fn check_the_topic(&mut self, accepted: &BTreeMap<Event, u64>) -> Result<(), Failure> {
        let answer = self.server.ask("GET", "/api/v1/topics", "")?;
        let topics: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let topics = topics["topics"].as_array().cloned().unwrap_or_default();
        let chaos = topics.iter().find(|topic| topic["topic"] == "chaos").cloned().unwrap_or_default();
        let numbers: BTreeSet<u64> = accepted.values().copied().collect();
        if chaos["last"].as_u64() != Some(accepted.len() as u64) || numbers.len() != accepted.len() {
            let (events, numbers) = (accepted.len(), numbers.len());
            self.faults.push(format!("{events} events of {numbers} numbers were accepted: {chaos}"));
        }
        Ok(())
    }

    /// All that must not be. A run that has seen too little is a failure too.
    fn differences(&self) -> Result<(), Failure> {
        let mut found = self.faults.clone();
        found.extend(self.posting.faults_so_far());
        found.extend(self.subscribers.iter().flat_map(Subscriber::faults));
        for (name, verdict) in &self.verdicts {
            found.extend(verdict.differences.iter().map(|difference| format!("{name}: {difference}")));
            if verdict.wanted == 0 {
                found.push(format!("{name}: it wanted nothing, which proves nothing"));
            }
        }
        let said = self.server.said_since(0);
        let panics = said.lines().filter(|line| line.contains("panicked")).map(str::to_owned);
        found.extend(panics.take(3));
        // What damage, a full disk and a server that is away must make it say.
        let is_expected = |line: &str| {
            line.contains(CANNOT_BE_BROUGHT_BACK)
                || line.contains("(os error 28)")
                || (self.nats.is_some() && line.contains("nats://"))
        };
        let errors = said.lines().filter(|line| line.contains(" ERROR ") && !is_expected(line));
        found.extend(errors.take(3).map(|line| format!("the server said: {line}")));
        let was_done = |what| self.tally.get(what).is_some_and(|times| *times > 0);
        let must_be_noticed = match self.nats {
            Some(_) => "SIGKILL of nats-server: publishers were refused",
            None => "the disk was full: publishers were refused",
        };
        if !was_done(must_be_noticed) {
            found.push(format!("it never came to this, which proves nothing: {must_be_noticed}"));
        }
        if found.is_empty() { Ok(()) } else { Err(Failure(format!("chaos notify:\n{}", found.join("\n")))) }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for (what, times) in &self.tally {
            text.push_str(&format!("{times:>8}  {what}\n"));
        }
        let counts = &self.posting.counts;
        for (what, count) in [
            ("requests that were taken", &counts.taken),
            ("requests without an answer, and posted again", &counts.unanswered),
            ("requests that could not be stored (503), and posted again", &counts.unavailable),
            ("events that were recognised as repeats", &counts.repeats),
            ("batches with an altered event, refused", &counts.altered),
        ] {
            text.push_str(&format!("{:>8}  {what}\n", count.load(SeqCst)));
        }
        let log_bytes = segments(&self.server.log_dir()).map_or(0, |segments| {
            segments.iter().filter_map(|segment| segment.frames.last()).map(|frame| frame.end).sum::<u64>()
        });
        text.push_str(&format!("{log_bytes:>8}  bytes of the log\n\n"));
        text.push_str("subscription   wanted  accepted   dead  again  of these in one life\n");
        for (name, verdict) in &self.verdicts {
            let Verdict { wanted, accepted, dead, repeats, repeats_in_one_life, .. } = verdict;
            text.push_str(&format!(
                "{name:<12} {wanted:>8} {accepted:>9} {dead:>6} {repeats:>6}  {repeats_in_one_life}\n"
            ));
        }
        text
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_so()? {
        if began.elapsed() > PATIENCE {
            return Err(Failure(format!("{what}: not within {PATIENCE:?}")));
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn created(server: &Server, path: &str, spec: &Value) -> Result<(), Failure> {
    let answer = server.ask("PUT", path, &spec.to_string())?;
    if answer.status == 200 { Ok(()) } else { Err(Failure(format!("PUT {path}: {answer:?}"))) }
}

/// All dead letters of a subscription, page by page.
fn dead_letters(
    server: &Server,
    name: &str,
    accepted: &BTreeMap<Event, u64>,
) -> Result<BTreeSet<Event>, Failure> {
    let by_number: BTreeMap<u64, Event> = accepted.iter().map(|(event, number)| (*number, *event)).collect();
    let (mut dead, mut after) = (BTreeSet::new(), 0);
    loop {
        let path = format!("/api/v1/subscriptions/{name}/dead-letters?after={after}&limit=100");
        let answer = server.ask("GET", &path, "")?;
        let page: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        for letter in page["letters"].as_array().ok_or_else(|| Failure(format!("{path}: {answer:?}")))? {
            let event = letter["number"].as_u64().and_then(|number| by_number.get(&number));
            let event = event.ok_or_else(|| Failure(format!("{name}: {letter} is of no event")))?;
            dead.insert(*event);
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(dead),
        }
    }
}

/// Takes all room of the disk.
fn fill(ballast: &Path) -> Result<(), Failure> {
    let mut file = File::create(ballast)?;
    // Ever smaller pieces, down to a page.
    for piece in [1 << 20, 64 << 10, 4096] {
        let piece = vec![1; piece];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
