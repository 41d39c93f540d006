//! The program: runs one seed, or many.
#![expect(clippy::print_stdout, reason = "printing is what such a program is for")]

use crate::runner::{self, Plan};
use std::{process::ExitCode, time::Instant};

const USAGE: &str = "usage: sim-store --seeds N [--from S] [--jobs J] [--coverage]
       sim-store --seed S [--trace]";
/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 100;

struct Args {
    plan: Plan,
    seed: Option<u64>,
    trace: bool,
    coverage: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut plan = Plan { from: 1, seeds: 0, jobs };
    let (mut seed, mut trace, mut coverage) = (None, false, false);
    while let Some(flag) = args.next() {
        let mut number = || {
            let text = args.next().ok_or(format!("{flag}: no value"))?;
            text.parse::<u64>().map_err(|_| format!("{flag} {text}: want a whole number"))
        };
        match flag.as_str() {
            "--seeds" => plan.seeds = number()?,
            "--from" => plan.from = number()?,
            "--jobs" => plan.jobs = number()? as usize,
            "--seed" => seed = Some(number()?),
            "--trace" => trace = true,
            "--coverage" => coverage = true,
            _ => return Err(format!("{flag}: unknown\n{USAGE}")),
        }
    }
    match seed.is_none() && plan.seeds == 0 {
        true => Err(USAGE.to_owned()),
        false => Ok(Args { plan, seed, trace, coverage }),
    }
}

fn one(seed: u64, trace: bool) -> bool {
    let outcome = runner::run_one(seed, trace);
    if trace || outcome.failure.is_some() {
        outcome.story.iter().for_each(|line| println!("{line}"));
    }
    if let Some(failure) = &outcome.failure {
        println!("FAILED: {}: {}", failure.rule, failure.what);
    }
    println!(
        "seed {seed}: {} processes, {} s, trace {:016x}",
        outcome.processes,
        outcome.time_ms / 1000,
        outcome.hash
    );
    outcome.failure.is_none()
}

fn many(plan: Plan, coverage: bool) -> bool {
    let started = Instant::now();
    let rate = |passed: u64| passed as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let summary = runner::run(plan, &|passed| {
        if passed % PROGRESS_EVERY == 0 {
            println!("{passed} seeds passed, {:.1} seeds/s", rate(passed));
        }
    });
    if let Some((seed, outcome)) = &summary.failed {
        println!("seed {seed} failed; the end of its story:");
        outcome.story.iter().for_each(|line| println!("  {line}"));
        if let Some(failure) = &outcome.failure {
            println!("FAILED: {}: {}", failure.rule, failure.what);
        }
        println!("replay: {}", runner::replay_command(*seed));
    }
    println!(
        "{} processes, {} simulated hours, {:.1} seeds/s",
        summary.processes,
        summary.hours,
        rate(summary.passed)
    );
    let missed = crate::reached::missed(&summary.reached);
    if coverage {
        for (what, (seeds, times)) in &summary.reached {
            println!("{seeds:6} seeds, {times:8} times: {what}");
        }
        missed.iter().for_each(|what| println!("never reached: {what}"));
    }
    println!("{} passed, {} failed", summary.passed, u64::from(summary.failed.is_some()));
    summary.failed.is_none() && (missed.is_empty() || !coverage)
}

/// The whole program.
pub fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    let passed = match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(args.plan, args.coverage),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
