//! Servers that copy a database's primary, and answer reads of it.
//!
//! Before it answers, a replica waits until it has what this process has committed. One that is too
//! late for that, that fails, or that is not what it should be is left alone for a while, and the
//! primary answers: a read never has another answer because there are replicas.
//!
//! A server that copies another primary may have numbers of transactions that look right. So each
//! connection must show the mark, a row that this process has written on the primary at its start.

use super::{
    connection::{CONNECT_MAX, Open, Server, no_answer},
    position::{Gtids, Mark, Position, Wanted},
};
use crate::sql::{Job, Reads, SqlError};
use mysql_async::{Opts, prelude::Queryable};
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use units::Prng;

/// How long a read waits for a replica that has not yet copied what it is to see.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// How long a read waits for a connection to a replica, and for the answer to its first statement.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long a read may then take on a replica, all its statements together.
const READ_MAX: Duration = Duration::from_secs(2);
/// How long a replica is left alone after the first failure, and at the most.
const REST_MIN: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(10);
/// After so long without a failure the next one is the first again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);
/// The same for a replica that is late: any is at times.
const LATE_FORGIVEN_AFTER: Duration = Duration::from_secs(1);
/// What a server says of a table that it does not have.
const NO_TABLE: &str = "ERROR 42S02";
/// Whether a server can be written to, and which tables it leaves out or copies alone.
const HOW_IT_IS: &str = "SELECT CAST(@@global.read_only AS CHAR), CONCAT(@@global.replicate_do_db, \
     @@global.replicate_ignore_db, @@global.replicate_do_table, @@global.replicate_ignore_table, \
     @@global.replicate_wild_do_table, @@global.replicate_wild_ignore_table)";
/// How often the same is said in the log.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_replicas: AtomicU64,
    pub(super) by_primary: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
}

/// What takes a read back, and why if it does not: there is a queue before the primary.
pub(super) type FallBack = Arc<dyn Fn(Box<dyn Job>) -> Result<(), (Box<dyn Job>, SqlError)> + Send + Sync>;

/// The replicas of a database.
pub(super) struct Replicas {
    all: Vec<Replica>,
    next: AtomicUsize,
    position: Arc<Position>,
    counts: Arc<Counts>,
}

struct Replica {
    /// Without a read in it: whether the replica can be used is to be found out.
    asked: SyncSender<Option<Box<dyn Job>>>,
    health: Arc<Health>,
}

impl Replicas {
    /// Starts threads with a connection for each replica. Nothing is asked of the servers yet.
    pub(super) fn open(
        all: Vec<(String, Opts)>,
        (connections, queue_max): (usize, usize),
        fall_back: FallBack,
    ) -> Result<Self, SqlError> {
        let (position, counts) = (Arc::<Position>::default(), Arc::<Counts>::default());
        let started = all.into_iter().map(|(place, opts)| {
            let (asked, to_answer) = sync_channel(queue_max);
            let to_answer = Arc::new(Mutex::new(to_answer));
            let health = Arc::new(Health::new(place));
            for _ in 0..connections {
                let worker = Worker {
                    server: Server::new(opts.clone())?,
                    connection: None,
                    position: Arc::clone(&position),
                    health: Arc::clone(&health),
                    counts: Arc::clone(&counts),
                    fall_back: Arc::clone(&fall_back),
                };
                let to_answer = Arc::clone(&to_answer);
                let started = thread::Builder::new()
                    .name("sql-replica".into())
                    .spawn(move || answer_all(worker, &to_answer));
                started.map_err(|error| SqlError::Shortage(format!("start a thread: {error}")))?;
            }
            Ok(Replica { asked, health })
        });
        let all = started.collect::<Result<_, SqlError>>()?;
        Ok(Self { all, next: AtomicUsize::new(0), position, counts })
    }

    pub(super) fn position(&self) -> &Arc<Position> {
        &self.position
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    pub(super) fn reads(&self) -> Reads {
        let Counts { by_replicas, by_primary, late, failed } = &*self.counts;
        Reads {
            by_replicas: by_replicas.load(Relaxed),
            by_primary: by_primary.load(Relaxed),
            late: late.load(Relaxed),
            failed: failed.load(Relaxed),
            replicas: self.all.len() as u64,
            replicas_in_use: self.all.iter().filter(|replica| replica.health.is_in_use()).count() as u64,
        }
    }

    /// Gives a read to a replica, in turns. Returns it if the primary is to answer.
    pub(super) fn take(&self, mut job: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let now = Instant::now();
        if !self.position.is_known(now) {
            return Some(job);
        }
        let first = self.next.fetch_add(1, Relaxed);
        for at in 0..self.all.len() {
            let replica = &self.all[first.wrapping_add(at) % self.all.len()];
            match replica.health.choose(now) {
                Choice::Use => match replica.asked.try_send(Some(job)) {
                    Ok(()) => return None,
                    Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back?,
                },
                Choice::Probe => {
                    if replica.asked.try_send(None).is_err() {
                        replica.health.note_unprobed();
                    }
                }
                Choice::Leave => {}
            }
        }
        Some(job)
    }
}

/// Why a replica does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unused {
    Late,
    /// It is away, or refuses what the primary may answer.
    Failed(SqlError),
    /// It is not what it should be, and a person is to see to it.
    Unfit(&'static str),
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it is later than reads wait for"),
            Self::Failed(error) => error.fmt(f),
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

/// What becomes of a read.
enum Choice {
    Use,
    /// Nothing yet, but the replica is to be looked at.
    Probe,
    Leave,
}

/// How a replica is, as all its connections have found.
struct Health {
    /// Its host, port and database.
    place: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_use_since: Option<Instant>,
    /// Otherwise: until when it is left alone.
    until: Instant,
    is_probed: bool,
    failures: u32,
    /// What was last said of it in the log, and when.
    said: Option<(Unused, Instant)>,
    is_well_said: bool,
    random: Prng,
}

impl Health {
    fn new(place: String) -> Self {
        // So that the processes that lost a replica at once do not come back at once.
        let random = Prng::new(RandomState::new().hash_one(&place));
        let state = State {
            in_use_since: None,
            until: Instant::now(),
            is_probed: false,
            failures: 0,
            said: None,
            is_well_said: false,
            random,
        };
        Self { place, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_use(&self) -> bool {
        self.lock().in_use_since.is_some()
    }

    fn choose(&self, now: Instant) -> Choice {
        let mut state = self.lock();
        match state.in_use_since {
            Some(_) => Choice::Use,
            None if state.until <= now && !state.is_probed => {
                state.is_probed = true;
                Choice::Probe
            }
            None => Choice::Leave,
        }
    }

    /// It was not looked at.
    fn note_unprobed(&self) {
        self.lock().is_probed = false;
    }

    /// It can answer.
    fn note_well(&self, now: Instant) {
        let mut state = self.lock();
        state.is_probed = false;
        state.in_use_since.get_or_insert(now);
        if !state.is_well_said {
            state.is_well_said = true;
            tracing::info!(replica = self.place, "reads go to a replica");
        }
    }

    /// It is left alone for a while.
    fn note_unused(&self, why: Unused, now: Instant) {
        let mut state = self.lock();
        state.is_probed = false;
        // Of several reads that it fails at once, the first has said it.
        if state.in_use_since.is_none() && state.until > now {
            return;
        }
        let forgiven_after = if why == Unused::Late { LATE_FORGIVEN_AFTER } else { FORGIVEN_AFTER };
        state.failures = match state.in_use_since.take() {
            Some(since) if since + forgiven_after < now => 0,
            _ => state.failures.saturating_add(1),
        };
        let longest = match why {
            Unused::Unfit(_) => REST_MAX,
            _ => REST_MAX.min(REST_MIN.saturating_mul(1 << state.failures.min(10))),
        };
        state.until = now + longest.mul_f64(0.5 + state.random.unit() / 2.0);
        let is_said =
            state.said.as_ref().is_some_and(|(said, at)| *said == why && now < *at + SAID_AGAIN_AFTER);
        if !is_said {
            tracing::warn!(replica = self.place, %why, "a replica is not used for now: others or the primary answer");
            state.said = Some((why, now));
            state.is_well_said = false;
        }
    }
}

/// A thread's connection, and what is known of the server that is there.
struct Following {
    open: Open,
    mark: Mark,
    /// It has come so far, or further.
    at: Gtids,
}

struct Worker {
    server: Server,
    connection: Option<Following>,
    position: Arc<Position>,
    health: Arc<Health>,
    counts: Arc<Counts>,
    fall_back: FallBack,
}

fn answer_all(mut worker: Worker, asked: &Mutex<Receiver<Option<Box<dyn Job>>>>) {
    loop {
        let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(Some(job)) => worker.answer(job),
            Ok(None) => worker.probe(),
            Err(_) => return,
        }
    }
}

impl Worker {
    fn answer(&mut self, mut job: Box<dyn Job>) {
        // Those that wait behind one that it has failed do not wait for it, too.
        if self.health.is_in_use()
            && let Some(wanted) = self.position.wanted(Instant::now())
        {
            match self.read(&mut *job, &wanted) {
                Ok(()) => {
                    self.counts.by_replicas.fetch_add(1, Relaxed);
                    return job.end(Ok(()), true);
                }
                Err(why) => {
                    let count = if why == Unused::Late { &self.counts.late } else { &self.counts.failed };
                    count.fetch_add(1, Relaxed);
                    self.note_unused(why);
                }
            }
        }
        if let Err((job, error)) = (self.fall_back)(job) {
            job.end(Err(error), false);
        }
    }

    fn read(&mut self, job: &mut dyn Job, wanted: &Wanted) -> Result<(), Unused> {
        match self.begin(wanted) {
            Some(Err(Unused::Failed(error))) if error != no_answer() => self.begin_anew(wanted)?,
            Some(begun) => begun?,
            None => self.begin_anew(wanted)?,
        }
        let Some(following) = &mut self.connection else { return Err(Unused::Late) };
        self.server.read(&mut following.open, job, (READ_MAX, ANSWER_MAX)).map_err(Unused::Failed)
    }

    /// Finds out whether the replica can be used. No read waits for it.
    fn probe(&mut self) {
        let now = Instant::now();
        let Some(wanted) = self.position.wanted(now) else {
            return self.health.note_unprobed();
        };
        match self.follow(&wanted, (CONNECT_MAX, WAIT_MAX)) {
            Ok(()) => self.health.note_well(Instant::now()),
            Err(why) => self.note_unused(why),
        }
    }

    fn note_unused(&mut self, why: Unused) {
        if why != Unused::Late {
            self.connection = None;
        }
        self.health.note_unused(why, Instant::now());
    }

    /// Makes a connection, and looks whether the server follows the primary.
    fn follow(&mut self, wanted: &Wanted, (connect, wait): (Duration, Duration)) -> Result<(), Unused> {
        self.connection = None;
        let mut open = self.server.connect(connect, READ_MAX).map_err(Unused::Failed)?;
        if !open.is_mariadb {
            return Err(Unused::Unfit("it is not MariaDB: take it out of the replicas"));
        }
        let said = self.server.answer_of(ANSWER_MAX, open.conn.query_first::<(String, String), _>(HOW_IT_IS));
        let Some((read_only, filters)) = said.map_err(Unused::Failed)? else {
            return Err(Unused::Failed(SqlError::Defect("it does not say how it is set up".into())));
        };
        if ["0", "OFF"].contains(&&*read_only) {
            return Err(Unused::Unfit(
                "it can be written to: set read_only on it, or take it out of the replicas",
            ));
        }
        if !filters.is_empty() {
            return Err(Unused::Unfit(
                "it leaves out databases or tables: take its replicate_do and replicate_ignore settings out",
            ));
        }
        wait_for(&self.server, &mut open, (&wanted.gtids, wait), "DO 0")?;
        let question = "SELECT COUNT(*) FROM replica_marks WHERE mark = ?";
        let found = open.conn.exec_first::<u64, _, _>(question, (wanted.mark.as_slice(),));
        let is_there = match self.server.answer_of(ANSWER_MAX, found) {
            Ok(count) => count.is_some_and(|count| count > 0),
            Err(SqlError::Defect(why)) if why.contains(NO_TABLE) => false,
            Err(error) => return Err(Unused::Failed(error)),
        };
        if !is_there {
            self.position.miss_mark(&wanted.mark, Instant::now());
            return Err(Unused::Unfit(
                "what this process wrote in replica_marks is not there: let it copy the primary, all tables",
            ));
        }
        self.connection = Some(Following { open, mark: wanted.mark, at: wanted.gtids.clone() });
        Ok(())
    }

    /// The same on a connection that is made now: the one before broke while it was idle, or there
    /// was none.
    fn begin_anew(&mut self, wanted: &Wanted) -> Result<(), Unused> {
        self.follow(wanted, (ANSWER_MAX, WAIT_MAX))?;
        self.begin(wanted).unwrap_or(Err(Unused::Late))
    }

    /// Begins a read, once the replica is where it is wanted. `None` if there is no connection of
    /// which that can be said.
    fn begin(&mut self, wanted: &Wanted) -> Option<Result<(), Unused>> {
        let following = self.connection.as_mut().filter(|of| of.mark == wanted.mark)?;
        const BEGIN: &str = "START TRANSACTION READ ONLY";
        let begun = match following.at.covers(&wanted.gtids) {
            true => {
                let begun = self.server.answer_of(ANSWER_MAX, following.open.conn.query_drop(BEGIN));
                begun.map_err(Unused::Failed)
            }
            false => wait_for(&self.server, &mut following.open, (&wanted.gtids, WAIT_MAX), BEGIN),
        };
        if begun.is_ok() {
            following.at.raise(&wanted.gtids);
        }
        Some(begun)
    }
}

/// Waits until a replica is there, and asks another thing in the same breath.
fn wait_for(
    server: &Server,
    open: &mut Open,
    (gtids, wait): (&Gtids, Duration),
    then: &str,
) -> Result<(), Unused> {
    let text = format!("SELECT MASTER_GTID_WAIT('{gtids}', {}); {then}", wait.as_secs_f64());
    let waited = server.answer_of(wait + ANSWER_MAX, async {
        let mut answer = open.conn.query_iter(text).await?;
        let waited: Vec<Option<i64>> = answer.collect().await?;
        answer.drop_result().await?;
        Ok(waited.into_iter().next().flatten())
    });
    match waited {
        Ok(Some(0)) => Ok(()),
        Ok(_) => Err(Unused::Late),
        Err(error) => Err(Unused::Failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(health: &Health, now: Instant) -> Duration {
        health.lock().until - now
    }

    /// Found well and then too late again and again, as one that is always a little late.
    #[test]
    fn a_replica_that_is_late_as_soon_as_it_is_used_is_left_alone_for_longer_and_longer() {
        let (health, mut now) = (Health::new("r".into()), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..8 {
            health.note_well(now);
            now += Duration::from_millis(60);
            health.note_unused(Unused::Late, now);
            rests.push(rest(&health, now));
            // Another of its readers, who waited at the same time.
            health.note_unused(Unused::Late, now + Duration::from_millis(1));
            now += rest(&health, now);
        }
        assert!(rests[0] <= 2 * REST_MIN, "{rests:?}");
        assert!(rests[6] >= REST_MAX / 2 && rests[7] >= REST_MAX / 2, "{rests:?}");
        // It was prompt for a while.
        health.note_well(now);
        now += Duration::from_secs(2);
        health.note_unused(Unused::Late, now);
        assert!(rest(&health, now) <= REST_MIN, "{:?}", rest(&health, now));
    }
}
