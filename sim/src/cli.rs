//! Runs a system in the simulator from the command line.
#![expect(clippy::print_stdout, reason = "printing is what such a program is for")]

use crate::runner::{self, COMMANDS, Plan};
use crate::system::System;
use crate::world;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: sim --seeds N [--from S] [--commands M] [--jobs J] [--coverage]
       sim --seed S [--commands M] [--trace]";

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 500;

struct Args {
    plan: Plan,
    seed: Option<u64>,
    trace: bool,
    coverage: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut plan = Plan { from: 1, seeds: 0, commands: COMMANDS, jobs };
    let (mut seed, mut trace, mut coverage) = (None, false, false);
    while let Some(flag) = args.next() {
        let mut number = || {
            let text = args.next().ok_or(format!("{flag}: no value"))?;
            text.parse::<u64>().map_err(|_| format!("{flag} {text}: want a whole number"))
        };
        match flag.as_str() {
            "--seeds" => plan.seeds = number()?,
            "--from" => plan.from = number()?,
            "--commands" => plan.commands = number()?.max(1),
            "--jobs" => plan.jobs = number()? as usize,
            "--seed" => seed = Some(number()?),
            "--trace" => trace = true,
            "--coverage" => coverage = true,
            _ => return Err(format!("{flag}: unknown\n{USAGE}")),
        }
    }
    if seed.is_none() && plan.seeds == 0 {
        Err(USAGE.to_owned())
    } else {
        Ok(Args { plan, seed, trace, coverage })
    }
}

fn one<S: System>(seed: u64, commands: u64, trace: bool) -> bool {
    let outcome = world::run::<S>(seed, commands, trace);
    if trace || outcome.failure.is_some() {
        outcome.story.iter().for_each(|line| println!("{line}"));
    }
    println!(
        "seed {seed}: {} commands, {} crashes, {} entries, {} s, trace {:016x}",
        outcome.commands,
        outcome.crashes,
        outcome.entries,
        outcome.time_ms / 1000,
        outcome.hash
    );
    outcome.failure.is_none()
}

fn many<S: System>(plan: Plan, coverage: bool) -> bool {
    let started = Instant::now();
    let rate = |passed: u64| passed as f64 / started.elapsed().as_secs_f64().max(1e-9);
    let summary = runner::run::<S>(plan, &|passed| {
        if passed % PROGRESS_EVERY == 0 {
            println!("{passed} seeds passed, {:.1} seeds/s", rate(passed));
        }
    });
    if let Some((seed, outcome)) = &summary.failed {
        println!("seed {seed} failed; the end of its story:");
        outcome.story.iter().for_each(|line| println!("  {line}"));
        println!("replay: {}", runner::replay_command::<S>(*seed, plan.commands));
    }
    println!(
        "{} commands, {} crashes, {} log entries, {:.1} seeds/s",
        summary.commands,
        summary.crashes,
        summary.entries,
        rate(summary.passed)
    );
    for (bound, seeds) in summary.bounds.iter().filter(|_| coverage) {
        println!("{seeds:6} seeds: {bound}");
    }
    println!("{} passed, {} failed", summary.passed, u64::from(summary.failed.is_some()));
    let misses_one = summary.bounds.values().any(|seeds| *seeds == 0);
    if coverage && misses_one {
        println!("a bound was reached by no seed");
    }
    summary.failed.is_none() && !(coverage && misses_one)
}

/// The whole program.
pub fn main<S: System>() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    let passed = match args.seed {
        Some(seed) => one::<S>(seed, args.plan.commands, args.trace),
        None => many::<S>(args.plan, args.coverage),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
