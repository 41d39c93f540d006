//! Fault injection that takes too long for every run of the tests.

pub(crate) mod notify;

use crate::shell::{Failure, cargo, release_binary, run};

/// The simulator: `--seeds N`, `--from S`, `--seed S` are passed to it unchanged.
pub(crate) fn sim(args: &[&str]) -> Result<(), Failure> {
    let mut all = vec!["run", "--release", "--locked", "--package", "sim-sale", "--bin", "sim", "--"];
    all.extend(args);
    cargo(&all)
}

/// Every planted bug must be caught.
pub(crate) fn mutants() -> Result<(), Failure> {
    cargo(&["run", "--release", "--locked", "--package", "sim-sale", "--bin", "mutants"])
}

/// A rehearsal whose server is killed four times. Further flags go to `floodgate rehearse`.
pub(crate) fn sale(args: &[&str]) -> Result<(), Failure> {
    let binary = release_binary("floodgate")?;
    let binary = binary.to_string_lossy();
    let mut all = vec!["rehearse", "--shoppers", "100000", "--stock", "20000", "--kill-at", "10,30,60,90"];
    all.extend(args);
    run(&binary, &all)
}
