//! Fault injection that takes too long for every run of the tests.

mod dice;
mod http;
pub(crate) mod notify;
pub(crate) mod store;

use crate::shell::{Failure, cargo, release_binary, run, target};

/// The packages that run a system in the simulator, and their programs.
const SALE: (&str, &str) = ("sim-sale", "sim");
const NOTIFY: (&str, &str) = ("sim-notify", "sim-notify");
const STORE: (&str, &str) = ("sim-store", "sim-store");

/// The simulator, with the sale, or with the message service or the store if the first word says
/// so: `--seeds N`, `--from S`, `--seed S` are passed to it unchanged.
pub(crate) fn sim(args: &[&str]) -> Result<(), Failure> {
    let ((package, program), args) = named(args);
    let mut all = vec!["run", "--release", "--locked", "--package", package, "--bin", program, "--"];
    all.extend(args);
    cargo(&all)
}

/// The same, as the tests of the workspace have just built it: that checks itself more than a
/// release build does, and is hardly slower, since most of the time goes to SQLite.
pub(crate) fn sim_of_tests(args: &[&str]) -> Result<(), Failure> {
    let ((_, program), args) = named(args);
    run(&target().join("debug").join(program).to_string_lossy(), args)
}

/// Removes those that earlier tests have built: if the tests build none, none is run.
pub(crate) fn forget_sims_of_tests() {
    for (_, program) in [SALE, NOTIFY, STORE] {
        // There may be none.
        let _ = std::fs::remove_file(target().join("debug").join(program));
    }
}

fn named<'a>(args: &'a [&'a str]) -> ((&'static str, &'static str), &'a [&'a str]) {
    match args {
        ["notify", rest @ ..] => (NOTIFY, rest),
        ["store", rest @ ..] => (STORE, rest),
        args => (SALE, args),
    }
}

/// Every planted bug must be caught, of the sale, of its threads, of the message service and of the
/// store.
pub(crate) fn mutants() -> Result<(), Failure> {
    let run =
        |package, program| cargo(&["run", "--release", "--locked", "--package", package, "--bin", program]);
    run(SALE.0, "mutants")?;
    run(SALE.0, "mutants-schedules")?;
    run(NOTIFY.0, "mutants-notify")?;
    run(STORE.0, "mutants-store")
}

/// A rehearsal whose server is killed four times. Further flags go to `floodgate rehearse`.
pub(crate) fn sale(args: &[&str]) -> Result<(), Failure> {
    let binary = release_binary("floodgate")?;
    let binary = binary.to_string_lossy();
    let mut all = vec!["rehearse", "--shoppers", "100000", "--stock", "20000", "--kill-at", "10,30,60,90"];
    all.extend(args);
    run(&binary, &all)
}
