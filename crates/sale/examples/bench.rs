//! Measures the core, the core over the embedded log, and recovery; run by `cargo xtask bench
//! sale`, which adds HTTP. Every figure is the median of several runs, with the lowest and the
//! highest.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program prints its measurements")]

use contracts::{Actor, Answer, Attempt, AttemptId, Basket, Operation, SaleSpec, SealedShopper, ShopperKey};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::Log;
use runtime::snapshot;
use runtime::{Progress, Step};
use sale::core::{Core, SoFar};
use sale::{Command, Reply, Worker};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};
use units::{Prng, TimeMs};

const SHOPPERS: usize = 1_000_000;
const BATCH: usize = 4096;

struct Row {
    what: &'static str,
    unit: &'static str,
    /// What the project wants, as a sentence's end.
    reach: &'static str,
    runs: Vec<f64>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let runs: usize = flag("--runs").and_then(|n| n.parse().ok()).unwrap_or(5);
    let mut rows = Vec::new();
    let attempts = attempts(SHOPPERS);
    rows.push(repeat("core, mixed storm, 4 of 5 refused", "M decisions/s", "≥ 5", runs, || {
        core_storm(&attempts, SHOPPERS / 5)
    }));
    rows.push(repeat("core, grants only", "M decisions/s", "≥ 2", runs, || {
        core_storm(&attempts, SHOPPERS)
    }));
    let (mut promoted, mut longest) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (rate, longest_ms) = promotions(&attempts);
        promoted.push(rate);
        longest.push(longest_ms);
    }
    rows.push(Row {
        what: "core, a million promoted after one resume",
        unit: "M promotions/s",
        reach: "",
        runs: promoted,
    });
    rows.push(Row { what: "  the longest of its steps", unit: "ms", reach: "≤ 10", runs: longest });
    let mut rates = Vec::new();
    let (mut p50, mut p99, mut cold, mut warm) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let d = durable(&attempts);
        rates.push(d.rate);
        p50.push(d.p50_ms);
        p99.push(d.p99_ms);
        cold.push(d.recovery_cold_s);
        warm.push(d.recovery_warm_s);
    }
    rows.push(Row {
        what: "core + log, durable grants, batch 4096",
        unit: "M grants/s",
        reach: "≥ 1",
        runs: rates,
    });
    rows.push(Row { what: "  time of a batch, p50", unit: "ms", reach: "", runs: p50 });
    rows.push(Row { what: "  time of a batch, p99", unit: "ms", reach: "", runs: p99 });
    rows.push(Row { what: "recovery of 1 M grants, no snapshot", unit: "s", reach: "≤ 1", runs: cold });
    rows.push(Row { what: "recovery of 1 M grants, snapshot", unit: "s", reach: "≤ 0.3", runs: warm });
    if let Some(binary) = flag("--binary") {
        http(Path::new(&binary), runs.min(3), &mut rows);
        launch(Path::new(&binary), &mut rows);
    }
    print_rows(&rows, args.iter().any(|a| a == "--json"));
}

fn repeat(
    what: &'static str,
    unit: &'static str,
    reach: &'static str,
    runs: usize,
    f: impl Fn() -> f64,
) -> Row {
    Row { what, unit, reach, runs: (0..runs).map(|_| f()).collect() }
}

fn print_rows(rows: &[Row], as_json: bool) {
    let stat = |runs: &[f64]| {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
    };
    if as_json {
        let all: Vec<Value> = rows
            .iter()
            .map(|r| {
                let (median, min, max) = stat(&r.runs);
                json!({ "what": r.what.trim(), "unit": r.unit, "reach": r.reach, "median": median, "min": min, "max": max })
            })
            .collect();
        println!("{}", Value::from(all));
        return;
    }
    println!("| what | unit | reach | median | lowest | highest |\n|---|---|---|---|---|---|");
    for r in rows {
        let (median, min, max) = stat(&r.runs);
        println!("| {} | {} | {} | {median:.3} | {min:.3} | {max:.3} |", r.what, r.unit, r.reach);
    }
}

fn spec(stock: usize) -> SaleSpec {
    serde_json::from_value(json!({
        "name": "Bench", "currency": "CNY", "limit_per_shopper": 2, "waitlist": { "places": 0 },
        "items": [{ "item": "phone", "name": "Phone" }],
        "rounds": [{
            "opens_at": "2026-01-01T00:00:00Z", "closes_at": "2027-01-01T00:00:00Z",
            "items": [{ "item": "phone", "stock": stock, "price_minor": 1 }],
        }],
    }))
    .expect("the bench's own document")
}

fn attempts(count: usize) -> Vec<Attempt> {
    let mut prng = Prng::new(1);
    let sealed = SealedShopper::new(&[7; 36]).expect("36 bytes fit");
    (0..count)
        .map(|_| Attempt {
            id: AttemptId(prng.bytes16()),
            shopper: ShopperKey(prng.bytes16()),
            sealed,
            tier: 0,
            basket: Basket::single(0, 1),
        })
        .collect()
}

/// Millions of decisions a second. Limits, idempotency and timers are on; nothing is written.
fn core_storm(attempts: &[Attempt], stock: usize) -> f64 {
    let mut core = Core::new();
    let mut step = Step::default();
    let spec = spec(stock);
    let mut now = spec.rounds[0].opens_at;
    let define = Operation::Define(Box::new(spec));
    core.operate(now, Actor::new("bench", ""), define, SoFar::default(), &mut step)
        .expect("no invariant breaks");
    step.clear();
    // A sale prepares its room long before it opens.
    while core.next_wakeup() == Some(TimeMs(0)) {
        let _ = core.tick(TimeMs(now.0 - 1), &mut step).expect("no invariant breaks");
    }
    let started = Instant::now();
    let (mut granted, mut known) = (0, 0);
    for chunk in attempts.chunks(BATCH) {
        step.clear();
        now = TimeMs(now.0 + 1);
        let _ = core.tick(now, &mut step).expect("no invariant breaks");
        known += core.look_ahead(chunk.iter());
        for attempt in chunk {
            let answer = core.attempt(now, attempt, &mut step).expect("no invariant breaks");
            granted += usize::from(matches!(answer, Answer::Granted(_)));
        }
    }
    let took = started.elapsed();
    assert_eq!((granted, known), (stock, 0), "exactly the stock, each attempt once");
    attempts.len() as f64 / took.as_secs_f64() / 1e6
}

/// Millions of promotions a second, and the milliseconds of the longest step. All wait, the sale is
/// paused, and there is one more unit for each.
fn promotions(attempts: &[Attempt]) -> (f64, f64) {
    let mut core = Core::new();
    let mut step = Step::default();
    let mut spec = spec(1);
    spec.waitlist = contracts::Waitlist::Places(attempts.len() as u32);
    let now = spec.rounds[0].opens_at;
    let operate = |core: &mut Core, operation, step: &mut Step| {
        core.operate(now, Actor::new("bench", ""), operation, SoFar::default(), step)
            .expect("no invariant breaks");
        step.clear();
    };
    operate(&mut core, Operation::Define(Box::new(spec)), &mut step);
    for attempt in attempts {
        core.attempt(now, attempt, &mut step).expect("no invariant breaks");
        step.clear();
    }
    operate(&mut core, Operation::Pause, &mut step);
    operate(&mut core, Operation::Adjust { item: 0, delta: attempts.len() as i64 }, &mut step);
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    operate(&mut core, Operation::Resume, &mut step);
    loop {
        let began = Instant::now();
        let progress = core.tick(now, &mut step).expect("no invariant breaks");
        longest = longest.max(began.elapsed());
        step.clear();
        if progress == Progress::Done {
            break;
        }
    }
    let took = started.elapsed();
    assert_eq!(core.stats().items[0].waiting, 0, "all are promoted");
    (attempts.len() as f64 / took.as_secs_f64() / 1e6, longest.as_secs_f64() * 1000.0)
}

struct Durable {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    recovery_cold_s: f64,
    recovery_warm_s: f64,
}

/// The production worker over the production log, on the file system that holds the temporary
/// directory.
fn durable(attempts: &[Attempt]) -> Durable {
    let dir = tempfile::Builder::new().prefix("floodgate-bench-").tempdir().expect("a temporary directory");
    let open = || {
        EmbeddedLog::open_dir(dir.path(), Options::new(Partition(0), LogId([1; 16]))).expect("the log opens")
    };
    let (mut worker, _) = Worker::open(open()).expect("an empty log");
    let spec = spec(attempts.len());
    let mut now = spec.rounds[0].opens_at;
    let define = Operation::Define(Box::new(spec));
    let before = TimeMs(now.0 - 1);
    worker.step(before, &[Command::Operate { actor: Actor::new("bench", ""), operation: define }]);
    while worker.next_wakeup() == Some(TimeMs(0)) {
        worker.step(before, &[]);
    }
    let batches: Vec<Vec<Command>> =
        attempts.chunks(BATCH).map(|chunk| chunk.iter().map(|a| Command::Attempt(*a)).collect()).collect();
    let mut times = Vec::with_capacity(batches.len());
    let started = Instant::now();
    for batch in &batches {
        now = TimeMs(now.0 + 1);
        let begun = Instant::now();
        let replies = worker.step(now, batch);
        times.push(begun.elapsed());
        assert!(replies.iter().all(|r| matches!(r, Reply::Answer(Answer::Granted(_)))), "all are granted");
    }
    let rate = attempts.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1000.0;
    drop(worker);
    let recover = || {
        let started = Instant::now();
        let (worker, recovery) = Worker::open(open()).expect("it comes back");
        let took = started.elapsed();
        (worker, recovery, took)
    };
    let (worker, recovery, cold) = recover();
    assert_eq!(recovery.snapshot, None, "no snapshot yet");
    let log = worker.log();
    snapshot::<Core>(&mut *log.reader(), &mut *log.snapshots()).expect("a snapshot");
    drop(worker);
    let (_, recovery, warm) = recover();
    assert_eq!(recovery.replayed, 0, "the snapshot stands at the end");
    Durable {
        rate,
        p50_ms: ms(times.len() / 2),
        p99_ms: ms(times.len() * 99 / 100),
        recovery_cold_s: cold.as_secs_f64(),
        recovery_warm_s: warm.as_secs_f64(),
    }
}

/// Finds the highest load that the server decides (offered far more than it can), then measures
/// latency at 70 % of it.
fn http(binary: &Path, runs: usize, rows: &mut Vec<Row>) {
    let (mut highest, mut p50, mut p99, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        // More than it can, for long enough that payments are part of the load.
        let capacity = rehearse(binary, 150_000, 20_000)["decisions_per_second"].as_f64().unwrap_or(0.0);
        highest.push(capacity);
        let rate = (capacity * 0.7) as u64;
        let calm = rehearse(binary, rate * 15, rate);
        p50.push(calm["latency_ms"]["p50"].as_f64().unwrap_or(f64::NAN));
        p99.push(calm["latency_ms"]["p99"].as_f64().unwrap_or(f64::NAN));
        memory.push(calm["server_memory_max_mib"].as_f64().unwrap_or(f64::NAN));
    }
    rows.push(Row {
        what: "HTTP, highest load, a connection a shopper",
        unit: "decisions/s",
        reach: "",
        runs: highest,
    });
    rows.push(Row { what: "HTTP, p50 at 70 % of it", unit: "ms", reach: "", runs: p50 });
    rows.push(Row {
        what: "HTTP, p99 at 70 %, a snapshot meanwhile", unit: "ms", reach: "≤ 10", runs: p99
    });
    rows.push(Row { what: "  memory of serve", unit: "MiB", reach: "", runs: memory });
}

/// A launch: a million shoppers for 100,000 units, once, for it takes some minutes.
fn launch(binary: &Path, rows: &mut Vec<Row>) {
    let report = run_rehearsal(binary, &["--shoppers", "1000000", "--stock", "100000"]);
    let figure = |path: &str| vec![report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)];
    rows.extend([
        Row {
            what: "launch of 1 M shoppers, 100 k stock: memory of serve",
            unit: "MiB",
            reach: "≤ 512",
            runs: figure("/server_memory_max_mib"),
        },
        Row {
            what: "  connections open at once",
            unit: "",
            reach: "≥ 15000",
            runs: figure("/connections_open_max"),
        },
        Row { what: "  decisions", unit: "/s", reach: "", runs: figure("/decisions_per_second") },
        Row { what: "  p50 from the intended time", unit: "ms", reach: "", runs: figure("/latency_ms/p50") },
        Row { what: "  p99 from the intended time", unit: "ms", reach: "", runs: figure("/latency_ms/p99") },
    ]);
}

fn rehearse(binary: &Path, shoppers: u64, rate: u64) -> Value {
    let (shoppers, rate, stock) = (shoppers.to_string(), rate.to_string(), (shoppers / 5).to_string());
    // A crowd that stands ready would be asked for within two seconds: here the rate is what
    // counts, so no shopper comes early.
    let flags =
        ["--early", "0", "--hold-seconds", "5", "--shoppers", &shoppers, "--rate", &rate, "--stock", &stock];
    run_rehearsal(binary, &flags)
}

fn run_rehearsal(binary: &Path, flags: &[&str]) -> Value {
    let out = Process::new(binary)
        .args(["rehearse", "--json"])
        .args(flags)
        .stderr(Stdio::null())
        .output()
        .expect("floodgate rehearse runs");
    let report: Value = serde_json::from_slice(&out.stdout).expect("floodgate rehearse --json prints JSON");
    if !out.status.success() {
        eprintln!("the rehearsal found problems: {}", report["problems"]);
    }
    std::thread::sleep(Duration::from_secs(1));
    report
}
