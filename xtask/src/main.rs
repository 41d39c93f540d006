//! `cargo xtask`: what is done to the repository, so that CI and a person do the same.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the person who runs it")]

mod bench;
mod chaos;
mod fsync;
mod shell;
mod tidy;

use shell::{Failure, cargo, ensure_programs, ensure_python, ensure_services};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test                 all tests; installs what they need when missing (Debian and Python packages)
cargo xtask ci                   format, clippy with warnings denied, tidy, test
cargo xtask tidy                 the repository's own rules: dependency edges, purity, sizes, names
cargo xtask bench sale [--json]  the core, the log, recovery and HTTP, in figures
cargo xtask bench gate [--json] [--runs N] [--requests N] [--only ROW] [--binary FLOODGATE]
                                 CPU time a request beside nginx, and nginx with Redis
cargo xtask bench idle [--json] [--runs N] [--binary FLOODGATE]
                                 memory of a connection that waits
cargo xtask bench crowd [--json] [--connections N] [--gates N] [--hold-seconds N] [--binary FLOODGATE]
                                 200,000 connections that wait, over several gates, and a sale through them
cargo xtask bench flood [--json] [--runs N] [--hold-seconds N] [--binary FLOODGATE]
                                 shoppers who buy beside a flood of 20 times what the gate can refuse
cargo xtask chaos sim [--seeds N] [--from S] | --seed S
cargo xtask chaos mutants        every planted bug is caught by the simulator
cargo xtask chaos sale           a rehearsal with kill -9 in the middle
cargo xtask chaos fsync          strace: no grant is said before the fdatasync that covers it";

/// Seeds of the simulator in CI.
const SIM_SEEDS: &str = "2000";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = shell::enter_root().and_then(|()| match words.as_slice() {
        ["test"] => test(),
        ["ci"] => ci(),
        ["tidy"] => tidy::run(),
        ["bench", "sale", rest @ ..] => bench::sale(rest),
        ["bench", "gate", rest @ ..] => bench::gate(rest),
        ["bench", "idle", rest @ ..] => bench::idle(rest),
        ["bench", "crowd", rest @ ..] => bench::crowd(rest),
        ["bench", "flood", rest @ ..] => bench::flood(rest),
        ["chaos", "sim", rest @ ..] => chaos::sim(rest),
        ["chaos", "mutants"] => chaos::mutants(),
        ["chaos", "sale", rest @ ..] => chaos::sale(rest),
        ["chaos", "fsync"] => fsync::run(),
        _ => Err(Failure(format!("not a task: {}\n{USAGE}", words.join(" ")))),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), Failure> {
    ensure_programs(&[("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("strace", "strace")])?;
    ensure_services(&[("haproxy", "haproxy"), ("nginx", "nginx")])?;
    ensure_python(&["aiohttp==3.14.5", "altcha==2.3.0", "requests==2.34.2", "schemathesis==4.32.5"])?;
    cargo(&["test", "--workspace", "--locked"])?;
    chaos::sim(&["--seeds", SIM_SEEDS])
}

fn ci() -> Result<(), Failure> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    tidy::run()?;
    test()
}
