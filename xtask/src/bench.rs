//! Benchmarks: run the measuring programs and print their table.

use crate::shell::{Failure, cargo, release_binary};

/// `cargo xtask bench sale`.
pub(crate) fn sale(args: &[&str]) -> Result<(), Failure> {
    let binary = release_binary("floodgate")?;
    let binary = binary.to_string_lossy().into_owned();
    let mut all = vec!["run", "--release", "--locked", "--package", "sale", "--example", "bench", "--"];
    all.extend(["--binary", &binary]);
    all.extend(args);
    cargo(&all)
}
