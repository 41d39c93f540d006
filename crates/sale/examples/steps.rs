//! Measures the longest step of the worker, in CPU time, and its largest batch, for long histories
//! that the limits allow; run by `cargo xtask bench steps`.
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use contracts::{
    Actor, Attempt, AttemptId, Basket, GateRefusal, ListKind, Operation, SaleSpec, SealedShopper, ShopperKey,
    SoldOutRange, VoidTarget, WaitingQuery,
};
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots, Visit};
use sale::{Command, Reply, Worker};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use units::{Prng, Sequence, TimeMs};

const MILLION: usize = 1_000_000;
/// Commands of one step.
const BATCH: usize = 4096;
/// Shoppers in one part of a list, and ids of one void.
const PART: usize = 4096;
/// What the project wants.
const MS_MAX: f64 = 20.0;
const BYTES_MAX: usize = 4 << 20;

/// A log that keeps nothing, and says how large its largest batch was.
#[derive(Debug, Clone, Default)]
struct NoLog {
    last: u64,
    largest: Arc<AtomicUsize>,
}

struct Nothing;

impl LogRead for Nothing {
    fn last(&self) -> Sequence {
        Sequence(0)
    }
    fn first(&self) -> Sequence {
        Sequence(1)
    }
    fn read(&mut self, _from: Sequence, _visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        Ok(Sequence(0))
    }
}

impl Snapshots for Nothing {
    fn latest(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        Ok(None)
    }
    fn write(&mut self, _at: Sequence, _bytes: &[u8]) -> Result<Option<LogError>, LogError> {
        Ok(None)
    }
}

impl Log for NoLog {
    fn last(&self) -> Sequence {
        Sequence(self.last)
    }
    fn append(&mut self, _expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        self.last += batch.entries().count() as u64;
        self.largest.fetch_max(batch.as_bytes().len(), Relaxed);
        Ok(self.last())
    }
    fn reopen(&mut self) -> Result<Sequence, LogError> {
        Ok(self.last())
    }
    fn trim(&mut self, _up_to: Sequence) -> Result<(), LogError> {
        Ok(())
    }
    fn reader(&self) -> Box<dyn LogRead> {
        Box::new(Nothing)
    }
    fn snapshots(&self) -> Box<dyn Snapshots> {
        Box::new(Nothing)
    }
}

/// A sale, and what its steps took since they were last asked for.
struct Rig {
    worker: Worker<NoLog>,
    now: TimeMs,
    largest: Arc<AtomicUsize>,
    longest: Duration,
    steps: usize,
}

/// The longest step, in milliseconds, the largest batch, in bytes, and the number of steps.
struct Steps(f64, usize, usize);

impl Rig {
    fn open(spec: SaleSpec) -> Self {
        let log = NoLog::default();
        let largest = Arc::clone(&log.largest);
        let (worker, _) = Worker::open(log).expect("an empty log");
        let now = spec.rounds[0].opens_at;
        let mut rig = Self { worker, now, largest, longest: Duration::ZERO, steps: 0 };
        rig.operate(Operation::Define(Box::new(spec)));
        rig
    }

    fn step(&mut self, commands: &[Command]) -> usize {
        let began = cpu_time();
        let replies = self.worker.step(self.now, commands);
        self.longest = self.longest.max(cpu_time().saturating_sub(began));
        self.steps += 1;
        for reply in replies {
            assert!(!matches!(reply, Reply::Unavailable(_) | Reply::Done(Err(_))), "{reply:?}");
        }
        replies.len()
    }

    fn ask(&mut self, commands: &[Command]) {
        let mut answered = 0;
        while answered < commands.len() {
            answered += self.step(&commands[answered..]);
        }
    }

    fn operate(&mut self, operation: Operation) {
        self.ask(&[command(operation)]);
    }

    /// Steps until nothing is due.
    fn settle(&mut self) {
        while self.worker.next_wakeup().is_some_and(|at| at <= self.now) {
            self.step(&[]);
        }
    }

    fn put(&mut self, attempts: &[Attempt]) {
        for chunk in attempts.chunks(BATCH) {
            self.ask(&chunk.iter().map(|attempt| Command::Attempt(*attempt)).collect::<Vec<_>>());
        }
    }

    /// What the steps took since the last time; forgets it.
    fn take(&mut self) -> Steps {
        let (longest, steps) = (std::mem::take(&mut self.longest), std::mem::take(&mut self.steps));
        Steps(longest.as_secs_f64() * 1000.0, self.largest.swap(0, Relaxed), steps)
    }
}

/// What this thread has used of a processor. Unlike the time that has passed, it does not depend on
/// what else runs.
fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn command(operation: Operation) -> Command {
    Command::Operate { actor: Actor::new("bench", "a reason"), operation }
}

/// One item, or as many as there may be.
fn spec(items: usize, stock: usize, places: usize) -> SaleSpec {
    let name = |n: usize| format!("item-{n}");
    let offers: Vec<_> = (0..items)
        .map(|n| json!({ "item": name(n), "stock": stock, "price_minor": 1, "limit_per_shopper": 0 }))
        .collect();
    let items: Vec<_> = (0..items).map(|n| json!({ "item": name(n), "name": "Phone" })).collect();
    serde_json::from_value(json!({
        "name": "Bench", "currency": "CNY", "waitlist": { "places": places }, "hold_seconds": 900,
        "items": items,
        "rounds": [{
            "opens_at": "2026-01-01T00:00:00Z", "closes_at": "2027-01-01T00:00:00Z", "items": offers,
        }],
    }))
    .expect("the bench's own document")
}

/// Of a shopper each, or all of the same one.
fn attempts(count: usize, one_shopper: bool) -> Vec<Attempt> {
    let mut prng = Prng::new(1);
    let sealed = SealedShopper::new(&[7; 64]).expect("64 bytes fit");
    let same = ShopperKey(prng.bytes16());
    let mut attempt = |_| {
        let (id, shopper) = (AttemptId(prng.bytes16()), ShopperKey(prng.bytes16()));
        let shopper = if one_shopper { same } else { shopper };
        Attempt { id, shopper, sealed, tier: 0, basket: Basket::single(0, 1) }
    };
    (0..count).map(&mut attempt).collect()
}

/// A sale in which all of these hold a unit.
fn held(attempts: &[Attempt]) -> Rig {
    let mut rig = Rig::open(spec(1, attempts.len(), 0));
    rig.put(attempts);
    rig
}

/// A sale in which the first holds the only unit, and all others wait.
fn waiting(attempts: &[Attempt]) -> Rig {
    let mut rig = Rig::open(spec(1, 1, MILLION));
    rig.put(attempts);
    rig
}

fn grants(all: &[Attempt]) -> Steps {
    held(all).take()
}

fn promotions(all: &[Attempt]) -> Steps {
    let mut rig = waiting(all);
    rig.operate(Operation::Pause);
    rig.operate(Operation::Adjust { item: 0, delta: all.len() as i64 });
    rig.take();
    rig.operate(Operation::Resume);
    rig.settle();
    rig.take()
}

fn waitlist_end(all: &[Attempt]) -> Steps {
    let mut rig = waiting(all);
    rig.take();
    rig.operate(Operation::EndWaitlist);
    rig.settle();
    rig.take()
}

/// In no order.
fn places_given_up(all: &[Attempt]) -> Steps {
    let mut rig = waiting(all);
    let mut leave: Vec<Command> =
        all[1..].iter().map(|a| command(Operation::Release { hold: a.id })).collect();
    let mut prng = Prng::new(7);
    for at in (1..leave.len()).rev() {
        leave.swap(at, prng.below(at as u64 + 1) as usize);
    }
    rig.take();
    for chunk in leave.chunks(BATCH) {
        rig.ask(chunk);
    }
    rig.take()
}

/// One shopper has all they may have of one item and 40,000 holds of another, and asks again.
fn refusals_of_one(own: &[Attempt]) -> Steps {
    let mut spec = spec(2, own.len(), 0);
    spec.rounds[0].items[1].limit_per_shopper = 1;
    let mut rig = Rig::open(spec);
    rig.put(own);
    let other =
        |n: u64| Attempt { id: AttemptId(Prng::new(n).bytes16()), basket: Basket::single(1, 1), ..own[0] };
    rig.put(&(0..=2 * BATCH as u64).map(other).collect::<Vec<_>>());
    rig.take()
}

/// All holds of one shopper expire, and are then paid, the newest first.
fn late_payments_of_one(own: &[Attempt]) -> Steps {
    let mut rig = held(own);
    rig.now = TimeMs(rig.now.0 + 900_000);
    rig.settle();
    rig.take();
    let pay = |a: &Attempt| command(Operation::Confirm { hold: a.id, payment: a.id.to_string() });
    let all: Vec<Command> = own.iter().rev().map(pay).collect();
    for chunk in all.chunks(BATCH) {
        rig.ask(chunk);
    }
    rig.take()
}

/// A sale of as many items as there may be, in which these wait for 1 to 1,000 units each.
fn waiting_for_many(all: &[Attempt], items: usize) -> Rig {
    let mut rig = Rig::open(spec(items, 1000, MILLION / items));
    let (taken, waiting) = all.split_at(items);
    let of = |at: usize, quantity: u16, a: &Attempt| Attempt {
        basket: Basket::single((at % items) as u16, quantity),
        ..*a
    };
    rig.put(&taken.iter().enumerate().map(|(n, a)| of(n, 1000, a)).collect::<Vec<_>>());
    let quantity = |n: usize| 1000 - (n / items % 1000) as u16;
    rig.put(&waiting.iter().enumerate().map(|(n, a)| of(n, quantity(n), a)).collect::<Vec<_>>());
    rig
}

fn promotions_of_many_quantities(all: &[Attempt]) -> Steps {
    let mut rig = waiting_for_many(all, 1);
    rig.operate(Operation::Pause);
    rig.operate(Operation::Adjust { item: 0, delta: 99_000_000 });
    rig.take();
    rig.operate(Operation::Resume);
    rig.settle();
    rig.take()
}

fn waitlist_end_of_many_quantities(all: &[Attempt]) -> Steps {
    let mut rig = waiting_for_many(all, 200);
    rig.take();
    rig.operate(Operation::EndWaitlist);
    rig.settle();
    rig.take()
}

/// Operators read the waitlist, all items together.
fn waiting_pages(all: &[Attempt]) -> Steps {
    let mut rig = waiting_for_many(all, 200);
    rig.take();
    let page = WaitingQuery { item: None, after: Sequence(all.len() as u64 / 2), max: 1000 };
    rig.ask(&vec![Command::Waiting(page); BATCH / 8]);
    rig.take()
}

/// Shoppers read what they have, a hundred attempts each.
fn attempts_of_shoppers(all: &[Attempt]) -> Steps {
    let of = |(n, a): (usize, &Attempt)| Attempt { shopper: all[n % 2000].shopper, ..*a };
    let mut rig = held(&all.iter().enumerate().map(of).collect::<Vec<_>>());
    rig.take();
    rig.ask(&all[..2000].iter().map(|a| Command::Shopper(a.shopper)).collect::<Vec<_>>());
    rig.take()
}

/// All are paid but the first, whose end then comes.
fn one_expiry_before_many_paid(all: &[Attempt]) -> Steps {
    let mut rig = held(all);
    let pay = |a: &Attempt| command(Operation::Confirm { hold: a.id, payment: a.id.to_string() });
    for chunk in all[1..].chunks(BATCH) {
        rig.ask(&chunk.iter().map(pay).collect::<Vec<_>>());
    }
    rig.take();
    rig.now = TimeMs(rig.now.0 + 900_000);
    rig.settle();
    rig.take()
}

fn expiries(all: &[Attempt]) -> Steps {
    let mut rig = held(all);
    rig.take();
    rig.now = TimeMs(rig.now.0 + 900_000);
    rig.settle();
    rig.take()
}

fn voids_of_one(own: &[Attempt]) -> Steps {
    let mut rig = held(own);
    rig.take();
    rig.operate(Operation::Void(VoidTarget::Shopper(own[0].shopper)));
    rig.settle();
    rig.take()
}

fn voids_by_id(all: &[Attempt]) -> Steps {
    let mut rig = held(all);
    rig.take();
    for chunk in all.chunks(PART) {
        rig.operate(Operation::Void(VoidTarget::Attempts(chunk.iter().map(|a| a.id).collect())));
    }
    rig.settle();
    rig.take()
}

/// The deadline of all is in the same step as their payments.
fn payments_at_the_deadline(all: &[Attempt]) -> Steps {
    let mut rig = held(all);
    rig.take();
    rig.now = TimeMs(rig.now.0 + 900_000);
    let pay = |a: &Attempt| command(Operation::Confirm { hold: a.id, payment: format!("{:0>64}", a.id) });
    for chunk in all.chunks(BATCH) {
        rig.ask(&chunk.iter().map(pay).collect::<Vec<_>>());
    }
    rig.settle();
    rig.take()
}

fn list(kind: ListKind, count: usize) -> Steps {
    let mut rig = Rig::open(spec(1, 1, 0));
    let mut prng = Prng::new(3);
    rig.take();
    for part in 0..count.div_ceil(PART) {
        let shoppers = (0..PART).map(|_| ShopperKey(prng.bytes16())).collect();
        rig.operate(Operation::List { list: kind, clear: part == 0, shoppers });
    }
    // A new upload replaces it.
    rig.operate(Operation::List { list: kind, clear: true, shoppers: vec![ShopperKey(prng.bytes16())] });
    rig.take()
}

/// Promotions, each of another item, while all other items are due too.
fn restocks_of_all_items() -> Steps {
    const ITEMS: usize = 200;
    let mut rig = Rig::open(spec(ITEMS, 1, 5000));
    let of_item = |item: usize, mut a: Attempt| {
        a.basket = Basket::single(item as u16, 1);
        a
    };
    let all: Vec<Attempt> =
        attempts(200_000, false).into_iter().enumerate().map(|(n, a)| of_item(n % ITEMS, a)).collect();
    rig.put(&all);
    rig.operate(Operation::Pause);
    for item in 0..ITEMS as u16 {
        rig.operate(Operation::Adjust { item, delta: 2000 });
    }
    rig.take();
    rig.operate(Operation::Resume);
    rig.settle();
    rig.take()
}

fn gate_refusals() -> Steps {
    let mut rig = Rig::open(spec(1, 0, 0));
    rig.take();
    let last_as_of = rig.worker.machine().sequence();
    let said = |n: u64| {
        let range = SoldOutRange { item: 0, first_as_of: last_as_of, last_as_of, count: 1 + n };
        GateRefusal::SoldOut(range)
    };
    rig.ask(&[Command::GateRefusals((0..8192).map(said).collect())]);
    rig.take()
}

fn main() {
    let is_json = std::env::args().any(|arg| arg == "--json");
    let (million, forty) = (attempts(MILLION, false), attempts(40_000, true));
    let (some, more) = (&million[..100_000], &million[..200_000]);
    type Case<'a> = (&'static str, Box<dyn Fn() -> Steps + 'a>);
    let cases: Vec<Case<'_>> = vec![
        ("1 M grants", Box::new(|| grants(&million))),
        ("1 M who wait are promoted after one resume", Box::new(|| promotions(&million))),
        ("the waitlist of 1 M ends", Box::new(|| waitlist_end(&million))),
        ("1 M who wait leave, in no order", Box::new(|| places_given_up(&million))),
        ("1 M are paid, and the oldest hold expires", Box::new(|| one_expiry_before_many_paid(&million))),
        ("1 M holds expire at once", Box::new(|| expiries(&million))),
        ("40,000 holds of one shopper expire at once", Box::new(|| expiries(&forty))),
        ("40,000 holds of one shopper are voided", Box::new(|| voids_of_one(&forty))),
        ("1 M holds are voided by their ids", Box::new(|| voids_by_id(&million))),
        ("1 M payments come at the deadline", Box::new(|| payments_at_the_deadline(&million))),
        ("5 M shoppers are denied", Box::new(|| list(ListKind::Denied, 5 * MILLION))),
        ("5 M shoppers are allowed", Box::new(|| list(ListKind::Allowed, 5 * MILLION))),
        ("200 items are restocked, 200,000 wait", Box::new(restocks_of_all_items)),
        ("one of 40,000 holds is refused 8,192 times", Box::new(|| refusals_of_one(&forty))),
        ("40,000 ended holds of one are paid late", Box::new(|| late_payments_of_one(&forty))),
        ("100,000 wait for 1 to 1,000, are promoted", Box::new(|| promotions_of_many_quantities(some))),
        ("200,000 wait so for 200 items, and leave", Box::new(|| waitlist_end_of_many_quantities(more))),
        ("512 pages of 1,000 who wait are read", Box::new(|| waiting_pages(more))),
        ("2,000 read 100 attempts each", Box::new(|| attempts_of_shoppers(more))),
        ("the largest report of a gate's refusals", Box::new(gate_refusals)),
    ];
    let only = std::env::args().skip_while(|arg| arg != "--only").nth(1).unwrap_or_default();
    let mut rows = Vec::new();
    if !is_json {
        println!("{:44} {:>8} {:>12} {:>16}", "history", "steps", "longest, ms", "largest, KiB");
    }
    for (what, run) in cases.into_iter().filter(|(what, _)| what.contains(&only)) {
        // The least of three: caches that another program has filled make a step longer.
        let runs: Vec<Steps> = (0..3).map(|_| run()).collect();
        let ms = runs.iter().map(|Steps(ms, ..)| *ms).fold(f64::MAX, f64::min);
        let bytes = runs.iter().map(|Steps(_, bytes, _)| *bytes).max().unwrap_or(0);
        let steps = runs[0].2;
        let missed = if ms > MS_MAX || bytes > BYTES_MAX { "  missed" } else { "" };
        if !is_json {
            println!("{what:44} {steps:>8} {ms:>12.2} {:>16}{missed}", bytes / 1024);
        }
        rows.push(json!({ "what": what, "steps": steps, "longest_ms": ms, "largest_bytes": bytes }));
    }
    if is_json {
        println!(
            "{}",
            json!({ "reach": { "longest_ms": MS_MAX, "largest_bytes": BYTES_MAX }, "rows": rows })
        );
    } else {
        println!("reach: {MS_MAX} ms of deciding, {} KiB", BYTES_MAX / 1024);
    }
}
