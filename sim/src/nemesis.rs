//! The faults that may happen, and what each of them explains. Every fault occurs on real machines:
//! see [`crate::disk`] for the state after each.

use crate::disk::{Call, SimDisk};
use std::iter::successors;
use units::Prng;

/// Injects the faults, with a generator of its own, so that the clients' behaviour does not change
/// the faults.
#[derive(Debug)]
pub(crate) struct Nemesis {
    pub(crate) prng: Prng,
    pub(crate) crashes: u64,
    /// When, in real time, there is room again, and there are file handles; `None` once there are.
    pub(crate) room_until_ms: Option<u64>,
    pub(crate) handles_until_ms: Option<u64>,
    /// At this command the power fails, in any case.
    pub(crate) crash_at: u64,
    /// At this command a clock that was wrong at the start is set.
    pub(crate) clock_set_at: Option<u64>,
    /// A snapshot is being written, in turns with the worker.
    pub(crate) in_turns: bool,
    /// By how much more room is left when the disk is nearly full.
    pub(crate) room_factor: u64,
    /// The disk reserves room only when a file is synced.
    pub(crate) reserves_late: bool,
    /// The files whose removal was refused in this life.
    pub(crate) not_removed: Vec<String>,
    pub(crate) last: bool,
}

/// By how much a clock may be wrong at the start, and how far it jumps at the most.
pub(crate) const HOURS_MS: u64 = 3 * 3_600_000;

/// What the caller of a call that a fault has struck is told.
const TOLD: [(&str, &str); 7] = [
    ("a sync fails", "input/output error"),
    ("a sync of the directory fails", "input/output error"),
    ("a write fails", "the write stopped in the middle"),
    ("the disk is full", "no space left on device"),
    ("no file handle is left", "os error 24"),
    ("a call is refused", "os error"),
    ("the machine dies", "the machine is down"),
];

/// The faults that are shortages, which pass by themselves.
const SHORTAGES: [&str; 2] = ["the disk is full", "no file handle is left"];

/// What is never an excuse: a rule or a promise of the log is violated, whatever the disk did.
const DEFECTS: [&str; 5] =
    ["before saying anything", "another writer", "replay", "nothing was changed", "its end is missing"];

impl Nemesis {
    pub(crate) fn new(seed: u64, commands: u64) -> Self {
        let mut prng = Prng::new(seed ^ 0x6e65_6d65_7369_7321);
        let crash_at = commands / 4 + prng.below(commands / 2 + 1);
        Self {
            prng,
            crashes: 0,
            room_until_ms: None,
            handles_until_ms: None,
            crash_at,
            clock_set_at: None,
            in_turns: false,
            // Generators of their own, so that the other seeds run as they would without them.
            room_factor: if Prng::new(seed ^ 0x6d6f_7265_726f_6f6d).percent(25) { 4 } else { 1 },
            reserves_late: Prng::new(seed ^ 0x6c61_7465_726f_6f6d).percent(25),
            not_removed: Vec::new(),
            last: false,
        }
    }

    /// By how much the clock is wrong at the start: in one seed of twelve, until a later command.
    pub(crate) fn first_skew_ms(&mut self, seed: u64, commands: u64) -> i64 {
        let mut prng = Prng::new(seed ^ 0x636c_6f63_6b21_2121);
        if !prng.percent(8) {
            return 0;
        }
        self.clock_set_at = Some(prng.below(commands / 8 + 1));
        prng.below(2 * HOURS_MS) as i64 - HOURS_MS as i64
    }

    /// Notes which calls were refused.
    pub(crate) fn note_refused(&mut self, refused: Vec<(Call, String)>) {
        let removals = refused.into_iter().filter(|(call, _)| *call == Call::Remove);
        self.not_removed.extend(removals.map(|(_, name)| name));
    }

    /// No faults from now on.
    pub(crate) fn last(&mut self) {
        self.last = true;
        (self.room_until_ms, self.handles_until_ms) = (None, None);
    }
}

/// Whether nothing but shortages has struck: what comes of them is no reason to stop for good.
pub(crate) fn is_only_short(struck: &[&str]) -> bool {
    !struck.is_empty() && struck.iter().all(|fault| SHORTAGES.contains(fault))
}

/// Whether a failure is excused: its words must name a fault that has struck just now. One that was
/// armed and has not struck, or that struck before, explains nothing.
fn is_explained(why: &str, struck: &[&str]) -> bool {
    let is_named = TOLD.iter().any(|(fault, told)| struck.contains(fault) && why.contains(told));
    let is_twice = struck.len() >= 2 && why.contains("unknown twice in a row");
    (is_named || is_twice) && !DEFECTS.iter().any(|defect| why.contains(defect))
}

/// As [`is_explained`]. A machine that is down may have been stopped by another call.
pub(crate) fn is_excused(disk: &SimDisk, why: &str, struck: &[&str]) -> bool {
    is_explained(why, struck) || (disk.is_down() && is_explained(why, &["the machine dies"]))
}

/// An error and what caused it.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_names_a_fault_that_has_struck() {
        let check = |why: &str, struck: &[&str], want| assert_eq!(is_explained(why, struck), want, "{why}");
        check("sync seg-1: input/output error", &["a sync fails"], true);
        check("sync seg-1: input/output error", &[], false);
        check("sync seg-1: input/output error", &["the disk is full"], false);
        check("open seg-1: Too many open files (os error 24)", &["no file handle is left"], true);
        check("the log's outcome was unknown twice in a row", &["a sync fails"], false);
        check("the log's outcome was unknown twice in a row", &["a sync fails", "a write fails"], true);
        check("replay entry 7: input/output error", &["a sync fails"], false);
    }
}
