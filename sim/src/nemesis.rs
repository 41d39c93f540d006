//! The faults that may happen, and what each of them explains. Every fault occurs on real machines:
//! see [`crate::disk`] for the state after each.

use units::{Prng, TimeMs};

/// Injects the faults, with a generator of its own, so that the clients' behaviour does not change
/// the faults.
#[derive(Debug)]
pub(crate) struct Nemesis {
    pub(crate) prng: Prng,
    pub(crate) crashes: u64,
    /// A fault of the disk is armed, or was since the process started.
    pub(crate) armed: bool,
    /// A write will fail because the disk is full, or has since the process started.
    pub(crate) full_write: bool,
    pub(crate) room_is_short: bool,
    /// When there is room again; `None` once there is.
    pub(crate) room_until: Option<TimeMs>,
    /// At this command the power fails, in any case.
    pub(crate) crash_at: u64,
    pub(crate) last: bool,
}

impl Nemesis {
    pub(crate) fn new(seed: u64, commands: u64) -> Self {
        let mut prng = Prng::new(seed ^ 0x6e65_6d65_7369_7321);
        let crash_at = commands / 4 + prng.below(commands / 2 + 1);
        Self {
            prng,
            crashes: 0,
            armed: false,
            full_write: false,
            room_is_short: false,
            room_until: None,
            crash_at,
            last: false,
        }
    }

    /// Whether a worker may stop for this reason: the disk is broken, and no rule and no promise of
    /// the log is violated.
    pub(crate) fn explains(&self, why: &str) -> bool {
        let defects = [
            "before saying anything",
            "another writer",
            "replay",
            "nothing was changed",
            "its end is missing",
        ];
        (self.armed || self.room_is_short) && !defects.iter().any(|defect| why.contains(defect))
    }

    /// The process has started; a fault for its start may still be armed.
    pub(crate) fn calm(&mut self, armed: bool) {
        self.armed = armed;
        self.full_write = false;
        self.room_is_short &= self.room_until.is_some();
    }

    /// Whether nothing may be written for a while: the disk is full, or a fault met a segment that
    /// was being made.
    pub(crate) fn may_be_short(&self) -> bool {
        self.room_is_short || self.full_write || self.armed
    }

    /// Whether a worker that paused itself must go on at its next check.
    pub(crate) fn has_room(&self) -> bool {
        !self.armed && self.room_until.is_none()
    }

    /// No faults from now on.
    pub(crate) fn last(&mut self) {
        self.last = true;
        self.room_until = None;
    }
}
