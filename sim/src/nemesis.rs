//! The faults that may happen, and what each of them explains. Every fault occurs on real machines:
//! see [`crate::disk`] for the state after each.

use crate::disk::{Call, Fault, SimDisk};
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
    /// The files whose removal was refused in this life, but for those of snapshots that a later
    /// snapshot was to remove.
    pub(crate) not_removed: Vec<String>,
    /// The calls that were refused since the last snapshot was begun.
    pub(crate) refused: Vec<(Call, String)>,
    pub(crate) last: bool,
}

/// By how much a clock may be wrong at the start, and how far it jumps at the most.
pub(crate) const HOURS_MS: u64 = 3 * 3_600_000;

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
            refused: Vec::new(),
            last: false,
        }
    }

    /// By how much the clock is wrong at the start, until a later command: by `ahead_ms`, and
    /// otherwise in one seed of twelve.
    pub(crate) fn first_skew_ms(&mut self, seed: u64, commands: u64, ahead_ms: u64) -> i64 {
        let mut prng = Prng::new(seed ^ 0x636c_6f63_6b21_2121);
        if ahead_ms == 0 && !prng.percent(8) {
            return 0;
        }
        self.clock_set_at = Some(prng.below(commands / 8 + 1));
        if ahead_ms > 0 { ahead_ms as i64 } else { prng.below(2 * HOURS_MS) as i64 - HOURS_MS as i64 }
    }

    /// Notes which calls were refused.
    pub(crate) fn note_refused(&mut self, refused: Vec<(Call, String)>) {
        let removals = refused.iter().filter(|(call, _)| *call == Call::Remove);
        self.not_removed.extend(removals.map(|(_, name)| name.clone()));
        self.refused.extend(refused);
    }

    /// Forgets which removals of snapshots' files were refused: a snapshot that met no refusal has
    /// removed what was left of them.
    pub(crate) fn snapshots_removed(&mut self) {
        self.not_removed.retain(|name| !name.starts_with("snap-"));
    }

    /// No faults from now on.
    pub(crate) fn last(&mut self) {
        self.last = true;
        (self.room_until_ms, self.handles_until_ms) = (None, None);
    }
}

/// Whether nothing but shortages has struck: what comes of them is no reason to stop for good.
pub(crate) fn is_only_short(struck: &[Fault]) -> bool {
    !struck.is_empty() && struck.iter().all(|fault| fault.is_shortage())
}

/// Whether a failure is excused: its words must name a fault that has struck just now. One that was
/// armed and has not struck, or that struck before, explains nothing; and a second failure in a row
/// needs a second fault.
fn is_explained(why: &str, struck: &[Fault]) -> bool {
    let is_named = struck.iter().any(|fault| fault.is_named(why));
    let is_enough = struck.len() >= 2 || !why.contains("twice in a row");
    is_named && is_enough && !DEFECTS.iter().any(|defect| why.contains(defect))
}

/// As [`is_explained`]. A machine that is down may have been stopped by another call.
pub(crate) fn is_excused(disk: &SimDisk, why: &str, struck: &[Fault]) -> bool {
    is_explained(why, struck) || (disk.is_down() && is_explained(why, &[Fault::Death]))
}

/// An error and what caused it.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{EIO, EMFILE};

    #[test]
    fn an_excuse_names_a_fault_that_has_struck() {
        let check = |why: &str, struck: &[Fault], want| assert_eq!(is_explained(why, struck), want, "{why}");
        check("sync seg-1: input/output error of a file", &[Fault::Sync], true);
        check("sync seg-1: input/output error of a file", &[], false);
        check("sync seg-1: input/output error of a file", &[Fault::Full], false);
        check("reopen: input/output error of the directory", &[Fault::Sync], false);
        check("open seg-1: Too many open files (os error 24)", &[Fault::NoHandles], true);
        check("open seg-1: Input/output error (os error 5)", &[Fault::Refused(Call::Open, EIO)], true);
        check("open seg-1: Input/output error (os error 5)", &[Fault::Refused(Call::Open, EMFILE)], false);
        check("open seg-1: Input/output error (os error 5)", &[Fault::Refused(Call::Rename, EIO)], false);
        let twice =
            "the log's outcome was unknown twice in a row: write to seg-1: the write stopped in the middle";
        check(twice, &[Fault::Write], false);
        check(twice, &[Fault::Sync, Fault::Write], true);
        check(twice, &[Fault::Sync, Fault::SyncDir], false);
        check("replay entry 7: input/output error of a file", &[Fault::Sync], false);
    }
}
