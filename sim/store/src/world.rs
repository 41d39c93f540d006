//! The world around the simulated process: its time, its dice, its troubles, what was reached, and
//! what has gone wrong. All that happens in a run follows from its seed.
//!
//! The runtime has one thread and a clock that stands while anything can be done, so the order in
//! which tasks are polled follows from the order in which they were woken. Transactions wait in
//! their database's queue, and calls to the outside take a moment of that time, both drawn by the
//! dice: so the steps of different actors come in different orders in different seeds.

use crate::services::Process;
use contracts::store::{OrderId, OrderState, OrderView, StoreError};
use engines::{
    chance::Chance,
    clock::Clock,
    sql::SqlError,
    sqlite::in_line::{Fate, Point},
};
use sim::{Violation, story::Story};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use units::{Prng, TimeMs};

/// 2026-11-11T10:00:00Z.
const EPOCH_MS: u64 = 1_794_391_200_000;

/// How the world behaves in a run.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// Whether the provider names payments as the shop does, as Stripe does; else it has its own
    /// references alone, as the sandbox does.
    pub(crate) names_payments: bool,
    /// How often in a hundred a call to the outside fails, before it took effect or after it.
    pub(crate) calls_fail: u64,
    /// The same of transactions, in a thousand.
    pub(crate) transactions_fail: u64,
    pub(crate) webhooks_lost: u64,
    /// The longest time that a transaction waits, in milliseconds.
    pub(crate) transaction_ms_max: u64,
    /// Between two crashes, on average, in points at which the process can end; 0 for none.
    pub(crate) points_between_crashes: u64,
    pub(crate) has_clock_trouble: bool,
    pub(crate) winners: u64,
    pub(crate) carts: u64,
}

impl Manners {
    fn draw(dice: &mut Prng) -> Self {
        Self {
            names_payments: dice.percent(50),
            calls_fail: *dice.pick(&[0, 2, 5, 15]),
            transactions_fail: *dice.pick(&[0, 2, 5, 20]),
            webhooks_lost: *dice.pick(&[0, 10, 40]),
            transaction_ms_max: *dice.pick(&[0, 1, 3, 20]),
            points_between_crashes: *dice.pick(&[0, 60, 200, 200, 1000]),
            has_clock_trouble: dice.percent(40),
            winners: 3 + dice.below(7),
            carts: 2 + dice.below(6),
        }
    }
}

/// An order as a shopper, or an operator, was shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) order: OrderId,
    pub(crate) version: u64,
    pub(crate) state: OrderState,
    /// The returns that it had, and how many steps each of them.
    pub(crate) returns: Vec<(u32, usize)>,
}

pub(crate) struct World {
    pub(crate) manners: Manners,
    started: Instant,
    dice: Mutex<Prng>,
    story: Mutex<Story>,
    reached: Mutex<BTreeMap<String, u64>>,
    violation: Mutex<Option<Violation>>,
    pub(crate) failed: Notify,
    /// The number of the process that lives; 0 if none does. (A `watch` would wake those that wait
    /// for its end in an order that is drawn by other dice.)
    life: AtomicU64,
    life_ends: Notify,
    lives: AtomicU64,
    process: Mutex<Option<Arc<Process>>>,
    skew_ms: AtomicI64,
    /// So many points are left to the next crash; 0 for no crash.
    crash_in: AtomicU64,
    /// The call at which the process is to end, and on which side of it.
    crash_at: Mutex<Option<(&'static str, &'static str)>>,
    /// Before or after a commit, and which of those from now on.
    crash_at_commit: Mutex<Option<(bool, u64)>>,
    /// Until when writes of each database fail for want of room.
    full_until: Mutex<BTreeMap<&'static str, Instant>>,
    is_calm: AtomicBool,
    /// When tasks outside of the process wake up.
    wakes: Mutex<BTreeMap<(Instant, u64), ()>>,
    next_wake: AtomicU64,
    pub(crate) shown: Mutex<Vec<Shown>>,
    /// Tasks outside of the process.
    outside: Mutex<JoinSet<()>>,
    /// Shoppers and others who have not ended.
    pub(crate) busy: AtomicU64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("manners", &self.manners).finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(seed: u64, keeps_all: bool) -> Arc<Self> {
        let mut dice = Prng::new(seed);
        let manners = Manners::draw(&mut dice);
        Arc::new(Self {
            manners,
            started: Instant::now(),
            dice: Mutex::new(dice),
            story: Mutex::new(Story::new(keeps_all)),
            reached: Mutex::default(),
            violation: Mutex::default(),
            failed: Notify::new(),
            life: AtomicU64::new(0),
            life_ends: Notify::new(),
            lives: AtomicU64::new(0),
            process: Mutex::default(),
            skew_ms: AtomicI64::new(0),
            crash_in: AtomicU64::new(0),
            crash_at: Mutex::default(),
            crash_at_commit: Mutex::default(),
            full_until: Mutex::default(),
            is_calm: AtomicBool::new(false),
            wakes: Mutex::default(),
            next_wake: AtomicU64::new(0),
            shown: Mutex::default(),
            outside: Mutex::default(),
            busy: AtomicU64::new(0),
        })
    }

    // Time.

    /// The time outside of the process: of the sale, the provider and the shoppers.
    pub(crate) fn now(&self) -> TimeMs {
        TimeMs(EPOCH_MS + self.started.elapsed().as_millis() as u64)
    }

    /// When the run began.
    pub(crate) fn began_ms(&self) -> u64 {
        EPOCH_MS
    }

    /// Waits until then. The wait is known, so that time can be passed over in which nothing else
    /// happens.
    pub(crate) async fn sleep_until(&self, at: TimeMs) {
        let wait = Duration::from_millis(at.0.saturating_sub(self.now().0));
        self.sleep(wait).await;
    }

    pub(crate) async fn sleep(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let key = (until, self.next_wake.fetch_add(1, SeqCst));
        lock(&self.wakes).insert(key, ());
        tokio::time::sleep_until(until).await;
        lock(&self.wakes).remove(&key);
    }

    /// Waits for a time between these, in milliseconds.
    pub(crate) async fn pause(&self, from_ms: u64, to_ms: u64) {
        let wait = from_ms + self.below(to_ms - from_ms + 1);
        self.sleep(Duration::from_millis(wait)).await;
    }

    /// How long it is until such a task wakes up.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let wakes = lock(&self.wakes);
        let ((at, _), ()) = wakes.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    // Dice.

    pub(crate) fn below(&self, bound: u64) -> u64 {
        lock(&self.dice).below(bound)
    }

    pub(crate) fn percent(&self, percent: u64) -> bool {
        lock(&self.dice).percent(percent)
    }

    pub(crate) fn bytes16(&self) -> [u8; 16] {
        lock(&self.dice).bytes16()
    }

    pub(crate) fn pick<T: Clone>(&self, among: &[T]) -> T {
        lock(&self.dice).pick(among).clone()
    }

    /// Whether something goes wrong: never, once faults have stopped.
    pub(crate) fn fault(&self, percent: u64) -> bool {
        !self.is_calm() && self.percent(percent)
    }

    fn rare_fault(&self, in_a_thousand: u64) -> bool {
        !self.is_calm() && in_a_thousand > 0 && self.below(1000) < in_a_thousand
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.load(SeqCst)
    }

    /// From now on calls and transactions fail once more.
    pub(crate) fn rough(&self) {
        self.is_calm.store(false, SeqCst);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, SeqCst);
        self.crash_in.store(0, SeqCst);
        *lock(&self.crash_at) = None;
        *lock(&self.crash_at_commit) = None;
        lock(&self.full_until).clear();
    }

    // What is told.

    pub(crate) fn note(&self, line: impl std::fmt::Display) {
        let ms = self.started.elapsed().as_millis();
        lock(&self.story).note(format!("{}.{:03} {line}", ms / 1000, ms % 1000));
    }

    pub(crate) fn reach(&self, what: impl Into<String>) {
        *lock(&self.reached).entry(what.into()).or_default() += 1;
    }

    pub(crate) fn violate(&self, violation: Violation) {
        let mut first = lock(&self.violation);
        if first.is_none() {
            self.note(format_args!("FAILED: {}: {}", violation.rule, violation.what));
            *first = Some(violation);
            self.failed.notify_one();
        }
    }

    pub(crate) fn take_violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    /// The story's lines and its fingerprint, and what was reached.
    pub(crate) fn end(&self) -> (Vec<String>, u64, BTreeMap<String, u64>) {
        let story = std::mem::replace(&mut *lock(&self.story), Story::new(false));
        let hash = story.hash();
        (story.into_lines(), hash, std::mem::take(&mut lock(&self.reached)))
    }

    // Tasks outside of the process.

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.outside).spawn(task);
    }

    /// A task that the end of the run waits for.
    pub(crate) fn spawn_actor(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let world = Arc::clone(self);
        self.busy.fetch_add(1, SeqCst);
        self.spawn(async move {
            task.await;
            world.busy.fetch_sub(1, SeqCst);
        });
    }

    pub(crate) fn stop(&self) {
        *lock(&self.outside) = JoinSet::new();
    }

    // The process's life.

    pub(crate) fn life(&self) -> u64 {
        self.life.load(SeqCst)
    }

    /// The number of the next process.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn lives(&self) -> u64 {
        self.lives.load(SeqCst)
    }

    pub(crate) fn is_born(&self, life: u64) {
        self.life.store(life, SeqCst);
    }

    pub(crate) fn serves(&self, process: Option<Arc<Process>>) {
        *lock(&self.process) = process;
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        lock(&self.process).clone()
    }

    pub(crate) fn dies(&self) {
        self.life.store(0, SeqCst);
        self.life_ends.notify_waiters();
    }

    /// Waits for the end of the process that lives.
    pub(crate) async fn death(&self, life: u64) {
        while self.life() == life {
            self.life_ends.notified().await;
        }
    }

    /// What was of a process that has ended does nothing more.
    pub(crate) async fn only_of(&self, life: u64) {
        if self.life() != life {
            std::future::pending::<()>().await;
        }
    }

    /// In this life the process's clock is so far from the world's.
    pub(crate) fn set_skew(&self, ms: i64) {
        self.skew_ms.store(ms, SeqCst);
    }

    /// The process is to end after so many further points.
    pub(crate) fn crash_after(&self, points: u64) {
        self.crash_in.store(points, SeqCst);
    }

    /// The process is to end at the next one of these calls.
    pub(crate) fn crash_at(&self, when: &'static str, call: &'static str) {
        *lock(&self.crash_at) = Some((when, call));
    }

    /// The process is to end before, or after, so many further commits.
    pub(crate) fn crash_at_commit(&self, is_before: bool, commits: u64) {
        *lock(&self.crash_at_commit) = Some((is_before, commits));
    }

    /// Whether this is the commit at which it is to end.
    fn is_meant(&self, is_before: bool) -> bool {
        let mut meant = lock(&self.crash_at_commit);
        match &mut *meant {
            Some((before, left)) if *before == is_before => {
                *left = left.saturating_sub(1);
                meant.take_if(|(_, left)| *left == 0).is_some()
            }
            _ => false,
        }
    }

    /// Whether the process ends here.
    fn is_the_end(&self) -> bool {
        let left = self.crash_in.load(SeqCst);
        self.crash_in.store(left.saturating_sub(1), SeqCst);
        left == 1
    }

    /// A point of a call to the outside at which the process may end. If it does, the caller does
    /// nothing more.
    async fn point(&self, life: u64, call: &'static str, when: &'static str) {
        let is_meant = *lock(&self.crash_at) == Some((when, call));
        if self.is_the_end() || is_meant {
            *lock(&self.crash_at) = None;
            self.note(format_args!("the process ends {when} {call}"));
            self.reach(format!("crash {when} {call}"));
            self.dies();
        }
        self.only_of(life).await;
    }

    /// A call of the process to the outside: it takes a moment, and may fail before it took effect
    /// or after it.
    pub(crate) async fn call<T>(
        &self,
        life: u64,
        call: &'static str,
        effect: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.only_of(life).await;
        let ms = match self.fault(2) {
            true => self.pick(&[500, 4_000, 7_000, 35_000]),
            false => self.below(8),
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.only_of(life).await;
        if self.fault(self.manners.calls_fail) {
            self.reach(format!("fault before {call}"));
            return Err(StoreError::Unavailable(format!("{call}: it does not answer")));
        }
        self.point(life, call, "before").await;
        let done = effect();
        self.point(life, call, "after").await;
        if self.fault(self.manners.calls_fail) {
            self.reach(format!("fault after {call}"));
            return Err(StoreError::Unavailable(format!("{call}: the answer was lost")));
        }
        done
    }

    /// Asks the process something. No answer comes if it ends before, or if the caller goes away.
    pub(crate) async fn ask<T, F>(&self, call: impl FnOnce(Arc<Process>) -> F) -> Option<T>
    where
        F: Future<Output = T>,
    {
        let life = self.life();
        let Some(process) = self.process().filter(|_| life != 0) else {
            // The connection is refused.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return None;
        };
        let patience = match self.fault(3) {
            true => Duration::from_millis(self.below(12)),
            false => Duration::from_secs(120),
        };
        tokio::select! {
            biased;
            () = self.death(life) => None,
            answer = call(process) => Some(answer),
            () = tokio::time::sleep(patience) => {
                self.reach("a caller goes away");
                None
            }
        }
    }

    // Databases.

    /// Writes of this database fail until then.
    pub(crate) fn fill(&self, database: &'static str, length: Duration) {
        lock(&self.full_until).insert(database, Instant::now() + length);
    }

    /// Whether a transaction is taken.
    pub(crate) fn is_taken(&self) -> Result<(), SqlError> {
        match self.rare_fault(self.manners.transactions_fail) {
            true => Err(SqlError::Busy),
            false => Ok(()),
        }
    }

    /// What happens at a point of a transaction of this database; `tables` collects what it writes.
    pub(crate) fn fate(&self, database: &'static str, tables: &mut Tables, point: Point<'_>) -> Fate {
        if let Point::Statement(text) = point {
            tables.0.insert(table_of(text));
        }
        let is_meant = match point {
            Point::Statement(_) => false,
            Point::Commit => self.is_meant(true),
            Point::Committed => self.is_meant(false),
        };
        let is_end = self.is_the_end() || is_meant;
        let kind = |when: &str| format!("{when} the commit of {database}: {}", tables.name());
        if is_end {
            let place = match point {
                Point::Statement(text) => format!("before a statement on {} {}", database, table_of(text)),
                Point::Commit => kind("before"),
                Point::Committed => kind("after"),
            };
            self.note(format_args!("the process ends {place}"));
            self.reach(format!("crash {place}"));
            return Fate::Die;
        }
        let fails = |error| {
            self.note(format_args!("{database}: {error}"));
            self.reach(format!("a transaction fails: {error}"));
            Fate::Fail(error)
        };
        match point {
            Point::Statement(_) => {
                let is_full =
                    lock(&self.full_until).get(database).is_some_and(|until| *until > Instant::now());
                match is_full {
                    true => fails(SqlError::Shortage("no room".into())),
                    false => Fate::GoOn,
                }
            }
            Point::Commit if self.rare_fault(self.manners.transactions_fail) => match self.percent(50) {
                true => fails(SqlError::Contended),
                false => fails(SqlError::Unknown("not stored".into())),
            },
            Point::Commit => Fate::GoOn,
            Point::Committed => {
                self.reach(format!("commit of {database}: {}", tables.name()));
                match self.rare_fault(self.manners.transactions_fail) {
                    true => fails(SqlError::Unknown("stored".into())),
                    false => Fate::GoOn,
                }
            }
        }
    }

    /// An order that a caller was shown: it may not be lost afterwards.
    pub(crate) fn is_shown(&self, order: &OrderView) {
        let returns = order.returns.iter().map(|of| (of.number, of.history.len())).collect();
        let Shown { order, version, state, returns } =
            Shown { order: order.id, version: order.version, state: order.state, returns };
        lock(&self.shown).push(Shown { order, version, state, returns });
    }
}

/// The tables that a transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeSet<String>);

impl Tables {
    fn name(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("+")
    }
}

/// The table that a statement changes.
fn table_of(statement: &str) -> String {
    let mut words = statement.split_whitespace();
    let table = match words.next() {
        Some("UPDATE") => words.next(),
        _ => words.nth(1),
    };
    table.unwrap_or("?").to_owned()
}

/// The process's own clock.
#[derive(Debug)]
pub(crate) struct SimClock(pub(crate) Arc<World>);

impl Clock for SimClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.now().0.saturating_add_signed(self.0.skew_ms.load(SeqCst)))
    }
}

/// Bytes that follow from the seed.
#[derive(Debug)]
pub(crate) struct SimChance(pub(crate) Arc<World>);

impl Chance for SimChance {
    fn bytes16(&self) -> io::Result<[u8; 16]> {
        Ok(self.0.bytes16())
    }
}
