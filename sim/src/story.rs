//! The trace of a run, line by line: a failing seed prints the last lines, and the hash of all
//! lines is its fingerprint.

use std::collections::VecDeque;
use units::TimeMs;

/// Lines that a failing seed prints.
const KEPT: usize = 30;

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant (`INV-1` …), or another promise.
    pub rule: &'static str,
    pub what: String,
}

/// The outcome of a check.
pub type Check = Result<(), Violation>;

/// Fails with `what` unless `holds`.
pub fn ensure(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}

/// The trace of a run.
#[derive(Debug)]
pub struct Story {
    lines: VecDeque<String>,
    keep_all: bool,
    hash: u64,
}

impl Story {
    /// One that keeps all lines, or the last ones.
    pub fn new(keep_all: bool) -> Self {
        Self { lines: VecDeque::new(), keep_all, hash: 0xcbf2_9ce4_8422_2325 }
    }

    /// A further line.
    pub fn note(&mut self, line: String) {
        // FNV-1a: only to tell two runs apart.
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if !self.keep_all && self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The fingerprint of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// Seconds and milliseconds since the run began.
pub fn clock(at: TimeMs) -> String {
    let ms = i128::from(at.0) - i128::from(EPOCH_MS);
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// When every run begins: far enough from zero to jump back.
pub const EPOCH_MS: u64 = 1_000_000_000;
