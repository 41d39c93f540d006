//! Runs many seeds on several threads, and reports the first that fails.

use crate::system::System;
use crate::world::{self, Outcome};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Which seeds, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub from: u64,
    pub seeds: u64,
    pub commands: u64,
    pub jobs: usize,
}

/// The result of the run.
#[derive(Debug, Default)]
pub struct Summary {
    pub passed: u64,
    pub commands: u64,
    pub crashes: u64,
    pub entries: u64,
    /// The system's bounds, and how many seeds have reached each.
    pub bounds: BTreeMap<&'static str, u64>,
    /// The failing seed and how it ended; the smallest of those that failed before the run stopped.
    pub failed: Option<(u64, Outcome)>,
}

/// The command that replays a seed.
pub fn replay_command<S: System>(seed: u64, commands: u64) -> String {
    let commands = if commands == COMMANDS { String::new() } else { format!(" --commands {commands}") };
    format!("{} --seed {seed}{commands}", S::RUN)
}

/// Commands in a run, unless told otherwise.
pub const COMMANDS: u64 = 1000;

/// Runs the seeds of a plan until one fails; `progress` is told how many have passed.
pub fn run<S: System>(plan: Plan, progress: &(dyn Fn(u64) + Sync)) -> Summary {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let lock = || summary.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= plan.seeds {
                return;
            }
            let seed = plan.from + at;
            let mark = Running(replay_command::<S>(seed, plan.commands), seed);
            let outcome = world::run::<S>(seed, plan.commands, false);
            drop(mark);
            let mut summary = lock();
            summary.commands += outcome.commands;
            summary.crashes += outcome.crashes;
            summary.entries += outcome.entries;
            for (bound, is_reached) in &outcome.bounds {
                *summary.bounds.entry(bound).or_default() += u64::from(*is_reached);
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

/// Prints the command that replays a seed, should the run panic.
struct Running(String, u64);

impl Drop for Running {
    #[expect(clippy::print_stderr, reason = "a panic of the code under test must name its seed")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {} panicked; replay: {}", self.1, self.0);
        }
    }
}
