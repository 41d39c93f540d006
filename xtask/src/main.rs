//! `cargo xtask`: the repository's checks, tests and measurements, the same for CI and for a
//! person.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the person who runs it")]

mod bench;
mod chaos;
mod fsync;
mod openapi;
mod shell;
mod steps;
mod tidy;
mod tools;

use shell::{Failure, cargo};
use std::process::ExitCode;
use steps::Steps;
use tools::Purpose;

const USAGE: &str = "\
test, ci, bench and chaos install what they need and do not find (packages of Debian and of Python)
cargo xtask test                 all tests
cargo xtask ci                   format, clippy with warnings denied, tidy, test
cargo xtask doctor [--markdown]  what tests, benches and chaos need, and what of it is there
cargo xtask tidy                 the repository's own rules: dependency edges, purity, sizes, names
cargo xtask openapi [--release]  writes openapi/<context>.json and the pages of problems; or says: this is a release
cargo xtask bench sale [--json]  the core, the log, recovery and HTTP, in figures
cargo xtask bench steps [--json] [--only HISTORY]
                                 the longest step of the worker, for long histories
cargo xtask bench inventory [--json] [--runs N] [--requests N] [--winners N] [--counted N]
                                 reservations of one hot SKU by 64 clients, beside a plain UPDATE, on both engines
cargo xtask bench search [--json] [--products N] [--requests N]
                                 searches over 100,000 products, beside SQLite's FTS5 and a comparison of texts
cargo xtask bench gate [--json] [--runs N] [--requests N] [--only ROW] [--binary FLOODGATE]
                                 CPU time a request beside nginx, and nginx with Redis
cargo xtask bench pages [--json] [--runs N] [--requests N] [--binary FLOODGATE]
                                 CPU time of a product's page, from the cache and the database, beside nginx
cargo xtask bench idle [--json] [--runs N] [--binary FLOODGATE]
                                 memory of a connection that waits
cargo xtask bench crowd [--json] [--connections N] [--gates N] [--hold-seconds N] [--binary FLOODGATE]
                                 200,000 connections that wait, over several gates, and a sale through them
cargo xtask bench flood [--json] [--runs N] [--hold-seconds N] [--binary FLOODGATE]
                                 shoppers who buy beside a flood of 20 times what the gate can refuse
cargo xtask bench beside [--json] [--runs N] [--hold-seconds N] [--binary FLOODGATE]
                                 shoppers who buy while the sale's events go out, beside a server without messages
cargo xtask bench storm [--json] [--runs N] [--hold-seconds N] [--binary FLOODGATE]
                                 how long the store's pages take in a launch's storm, beside a quiet hour
cargo xtask bench checkouts [--json] [--runs N] [--requests N]
                                 CPU time from a cart to a paid order, beside its statements alone, on both engines
cargo xtask bench notify [--json] [--runs N] [--hold-seconds N] [--requests N] [--only ROW] [--binary FLOODGATE]
                                 durable publishes beside NATS JetStream, deliveries to nginx, time to the first attempt
cargo xtask chaos sim [notify|store] [--seeds N] [--from S] | --seed S
                                 the sale, the message service, or the store, under injected faults
cargo xtask chaos mutants        every planted bug is caught by the simulator
cargo xtask chaos sale           a rehearsal with kill -9 in the middle
cargo xtask chaos fsync          strace: no grant is said before the fdatasync that covers it
cargo xtask chaos notify [--minutes N] [--seed S] [--log nats]
                                 the message service: kills, damage, a full disk, bad subscribers; ledgers must agree
cargo xtask chaos store [--minutes N] [--seed S] [--databases URL|mariadb]
                                 the shop: kills while winners and carts pay; the books of all sides must agree";

/// Seeds of the simulator in CI: of the sale, of the message service, and of the store.
const SIM_SEEDS: &str = "2000";
const NOTIFY_SEEDS: &str = "200";
const STORE_SEEDS: &str = "300";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = shell::enter_root().and_then(|()| run(&words));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["bench", ..] => tools::ensure(Purpose::Bench)?,
        ["chaos", ..] => tools::ensure(Purpose::Chaos)?,
        _ => {}
    }
    match words {
        ["test"] => timed(test),
        ["ci"] => timed(ci),
        ["tidy"] => tidy::run(),
        ["openapi"] => openapi::write(),
        ["openapi", "--release"] => openapi::release(),
        ["doctor"] => tools::doctor(),
        ["doctor", "--markdown"] => {
            print!("{}", tools::markdown());
            Ok(())
        }
        ["bench", "sale", rest @ ..] => bench::sale(rest),
        ["bench", "steps", rest @ ..] => bench::steps(rest),
        ["bench", "inventory", rest @ ..] => bench::inventory(rest),
        ["bench", "search", rest @ ..] => bench::search(rest),
        ["bench", "gate", rest @ ..] => bench::gate(rest),
        ["bench", "pages", rest @ ..] => bench::pages(rest),
        ["bench", "idle", rest @ ..] => bench::idle(rest),
        ["bench", "crowd", rest @ ..] => bench::crowd(rest),
        ["bench", "flood", rest @ ..] => bench::flood(rest),
        ["bench", "notify", rest @ ..] => bench::notify(rest),
        ["bench", "checkouts", rest @ ..] => bench::checkouts(rest),
        ["bench", "beside", rest @ ..] => bench::beside(rest),
        ["bench", "storm", rest @ ..] => bench::storm(rest),
        ["chaos", "sim", rest @ ..] => chaos::sim(rest),
        ["chaos", "mutants"] => chaos::mutants(),
        ["chaos", "sale", rest @ ..] => chaos::sale(rest),
        ["chaos", "fsync"] => fsync::run(),
        ["chaos", "notify", rest @ ..] => chaos::notify::run(rest),
        ["chaos", "store", rest @ ..] => chaos::store::run(rest),
        // The same, started by itself with a disk of its own.
        [chaos::notify::ON_DISK, rest @ ..] => chaos::notify::run_on_disk(rest),
        _ => Err(Failure(format!("not a task: {}\n{USAGE}", words.join(" ")))),
    }
}

/// Reports at the end which steps were the slowest, also after a failure.
fn timed(does: fn(&mut Steps) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let result = does(&mut steps);
    print!("{}", steps.report());
    result
}

fn test(steps: &mut Steps) -> Result<(), Failure> {
    steps.step("install what is missing", || tools::ensure(Purpose::Test))?;
    all_tests(steps)
}

fn ci(steps: &mut Steps) -> Result<(), Failure> {
    steps.step("install what is missing", || tools::ensure(Purpose::Ci))?;
    steps.step("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.step("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    })?;
    steps.step("tidy", tidy::run)?;
    all_tests(steps)
}

fn all_tests(steps: &mut Steps) -> Result<(), Failure> {
    chaos::forget_sims_of_tests();
    steps.cargo_test(&["--workspace", "--locked", "--no-fail-fast"])?;
    steps.step(&format!("{SIM_SEEDS} seeds of the simulator"), || {
        chaos::sim_of_tests(&["--seeds", SIM_SEEDS, "--coverage"])
    })?;
    let notify = format!("{NOTIFY_SEEDS} seeds of the message service");
    steps.step(&notify, || chaos::sim_of_tests(&["notify", "--seeds", NOTIFY_SEEDS]))?;
    let store = format!("{STORE_SEEDS} seeds of the store");
    steps.step(&store, || chaos::sim_of_tests(&["store", "--seeds", STORE_SEEDS, "--coverage"]))
}
