//! Runs seeds: one from its beginning until all is at rest and checked, or many on several threads.

use crate::{
    checker,
    operators::{Books, Operators, break_things, pass_time},
    process::Outside,
    shoppers::{self, Baskets},
    world::World,
};
use sim::{Check, Violation, ensure};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use units::DurationMs;

/// The longest run, in the world's time.
const LONGEST: DurationMs = DurationMs(10 * 86_400_000);
/// How often it is looked whether all is at rest.
const LOOKS_MAX: u32 = 600;

/// How a run ended.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub failure: Option<Violation>,
    /// The end of the story, or all of it.
    pub story: Vec<String>,
    /// The fingerprint of all its lines.
    pub hash: u64,
    /// What was reached, and how often.
    pub reached: BTreeMap<String, u64>,
    pub processes: u64,
    pub time_ms: u64,
}

thread_local! {
    /// What a task of this thread's run has panicked with.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic of a task ends the task alone: the run is to know of it.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |of| {
            PANICKED.with(|said| {
                said.borrow_mut().get_or_insert_with(|| of.to_string());
            });
            before(of);
        }));
    });
}

/// Runs one seed.
///
/// # Panics
/// If the runtime cannot be made.
pub fn run_one(seed: u64, keeps_all: bool) -> Outcome {
    note_panics();
    PANICKED.with(|said| said.borrow_mut().take());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread");
    let (world, checked) = runtime.block_on(async {
        let world = World::new(seed, keeps_all);
        world.note(format_args!("seed {seed}: {:?}", world.manners));
        let checked = drive(&world).await;
        world.stop();
        (world, checked)
    });
    let failure = PANICKED.with(|said| said.borrow_mut().take());
    let failure = failure.map(|what| Violation { rule: "STORE-PANIC", what });
    let failure = failure.or(world.take_violation()).or(checked.err());
    let time_ms = runtime.block_on(async { world.now().0 }) - world.began_ms();
    let processes = world.lives();
    let (story, hash, reached) = world.end();
    Outcome { failure, story, hash, reached, processes, time_ms }
}

async fn drive(world: &Arc<World>) -> Check {
    let outside = Outside::new(world).map_err(|error| broken(error.to_string()))?;
    let (books, baskets) = (Arc::<Books>::default(), Arc::<Baskets>::default());
    let operators = || Operators { outside: Arc::clone(&outside), books: Arc::clone(&books) };
    outside.start();
    is_up(world).await?;
    operators().set_up().await;
    shoppers::send(&outside, &baskets);
    world.spawn(operators().work());
    world.spawn(break_things(Arc::clone(&outside), Arc::clone(&books)));
    world.spawn(pass_time(Arc::clone(world)));
    let ends_at = world.now().plus(LONGEST);
    let mut lives = world.lives();
    while world.busy.load(Ordering::SeqCst) > 0 {
        goes_on(world)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        checker::since_the_last_look(&outside)?;
        if world.lives() != lives {
            lives = world.lives();
            checker::always(&outside, &books)?;
        }
        ensure(world.now() < ends_at, "STORE-REST", || "shoppers do not come to an end".into())?;
    }
    world.note("faults stop");
    books.is_over.store(true, Ordering::SeqCst);
    world.calm();
    // The next one has the right time.
    world.dies();
    tokio::time::sleep(Duration::from_secs(1)).await;
    is_up(world).await?;
    operators().fill_up().await;
    rest(world, &outside).await?;
    checker::at_rest(&outside, &books, &baskets).await?;
    if world.percent(30) && outside.till.fail_late() > 0 {
        // Once a day it is asked which refunds have failed.
        world.rough();
        if world.percent(60) {
            world.crash_at(world.pick(&["before", "after"]), "list of refunds");
        }
        days(2).await;
        world.calm();
        world.dies();
        tokio::time::sleep(Duration::from_secs(1)).await;
        is_up(world).await?;
        days(2).await;
        rest(world, &outside).await?;
        checker::at_rest(&outside, &books, &baskets).await?;
    }
    goes_on(world)
}

/// Lets so many days pass.
async fn days(count: u64) {
    for _ in 0..count * 4 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        tokio::time::advance(Duration::from_secs(6 * 3_600)).await;
    }
}

/// Lets time pass until nothing is on its way.
async fn rest(world: &Arc<World>, outside: &Arc<Outside>) -> Check {
    let mut waits = Some("nothing was looked at".to_owned());
    for look in 0..LOOKS_MAX {
        tokio::time::sleep(Duration::from_secs(5)).await;
        goes_on(world)?;
        waits = checker::on_its_way(outside)?;
        if world.busy.load(Ordering::SeqCst) > 0 {
            waits.get_or_insert_with(|| "the provider is busy".into());
        }
        if waits.is_none() {
            break;
        }
        tokio::time::advance(Duration::from_secs(if look < 20 { 30 } else { 600 })).await;
    }
    ensure(waits.is_none(), "STORE-REST", || {
        format!("it does not come to rest: {}", waits.unwrap_or_default())
    })
}

fn broken(what: String) -> Violation {
    Violation { rule: "STORE-REST", what }
}

/// Whether nothing has gone wrong so far.
fn goes_on(world: &World) -> Check {
    match world.take_violation() {
        Some(violation) => Err(violation),
        None => PANICKED.with(|said| match &*said.borrow() {
            Some(what) => Err(Violation { rule: "STORE-PANIC", what: what.clone() }),
            None => Ok(()),
        }),
    }
}

/// Waits until a process serves.
async fn is_up(world: &World) -> Check {
    while world.process().is_none() {
        goes_on(world)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Which seeds, and on how many threads.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub from: u64,
    pub seeds: u64,
    pub jobs: usize,
}

/// The result of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    pub passed: u64,
    pub processes: u64,
    pub hours: u64,
    /// What was reached: in how many seeds, and how often.
    pub reached: BTreeMap<String, (u64, u64)>,
    /// The smallest failing seed, and how it ended.
    pub failed: Option<(u64, Outcome)>,
}

/// The command that runs a seed again.
pub fn replay_command(seed: u64) -> String {
    format!("cargo xtask chaos sim store --seed {seed}")
}

/// Runs the seeds of a plan until one fails; `progress` is told how many have passed.
pub fn run(plan: Plan, progress: &(dyn Fn(u64) + Sync)) -> Summary {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= plan.seeds {
                return;
            }
            let seed = plan.from + at;
            let outcome = run_one(seed, false);
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.processes += outcome.processes;
            summary.hours += outcome.time_ms / 3_600_000;
            for (what, count) in &outcome.reached {
                let of = summary.reached.entry(what.clone()).or_default();
                *of = (of.0 + 1, of.1 + count);
            }
            if outcome.failure.is_some() {
                stop.store(true, Ordering::Relaxed);
                if summary.failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                    summary.failed = Some((seed, outcome));
                }
            } else {
                summary.passed += 1;
                progress(summary.passed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(worker);
        }
    });
    summary.into_inner().unwrap_or_else(PoisonError::into_inner)
}
