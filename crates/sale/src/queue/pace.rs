//! How fast attempts may leave the line. It knows no clock: the time and the rate are passed in.

use units::TimeMs;

pub(super) const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Of the turns that came due while the worker was busy, at most those of this span are taken at
/// once afterwards.
const CATCH_UP_NS: u64 = NS_PER_SECOND;

/// Of the turns that came due unused, at most those of this span are taken together: loops batch
/// the attempts of some milliseconds.
const TOGETHER_NS: u64 = 10 * NS_PER_MS;

/// The conditions for an attempt at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: TimeMs,
    /// Attempts a second that may leave the line; 0 if none is held back.
    pub(crate) rate: u32,
    /// Every attempt would be answered `paused`: those in line keep their places until the sale
    /// resumes.
    pub(crate) is_paused: bool,
}

/// When the next attempt may go on: the generic cell rate algorithm (ITU-T I.371), whose last turn
/// is kept instead of the next, so that a new rate applies from the moment at which it is set.
#[derive(Default)]
pub(super) struct Pace {
    last_ns: u64,
}

impl Pace {
    pub(super) fn interval_ns(rate: u32) -> u64 {
        NS_PER_SECOND / u64::from(rate.max(1))
    }

    pub(super) fn next_ns(&self, rate: u32) -> u64 {
        self.last_ns + Self::interval_ns(rate)
    }

    pub(super) fn is_due(&self, at: Moment) -> bool {
        at.rate == 0 || self.next_ns(at.rate) <= at.now.0 * NS_PER_MS
    }

    /// Takes a turn that is due, for an attempt in line, where several turns may have come due
    /// since the last look.
    pub(super) fn take_from_line(&mut self, at: Moment) {
        self.take(at, CATCH_UP_NS);
    }

    pub(super) fn take_at_once(&mut self, at: Moment) {
        // At a slow rate no attempt may go early.
        let together = if Self::interval_ns(at.rate) < TOGETHER_NS { TOGETHER_NS } else { 0 };
        self.take(at, together);
    }

    fn take(&mut self, at: Moment, late_ns: u64) {
        let now = at.now.0 * NS_PER_MS;
        let due = if at.rate == 0 { now } else { self.next_ns(at.rate) };
        self.last_ns = due.max(now.saturating_sub(late_ns));
    }
}
