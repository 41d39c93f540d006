//! The clock port. Cores never read it: their shells do, and pass the time in.

use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};
use units::TimeMs;

/// Tells the time. Never runs backwards between two calls on one value.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> TimeMs;
}

/// The machine's wall clock as it was at the start, advanced by the time since boot: a step of the
/// wall clock (NTP, an operator, a leap second) in the middle of a sale must not expire ten
/// thousand holds at once. Unlike CLOCK_MONOTONIC, the time since boot also counts while the
/// machine is suspended.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    wall: TimeMs,
    booted_ms: u64,
}

impl SteadyClock {
    /// Reads the wall clock once.
    pub fn start() -> Self {
        Self { wall: wall(), booted_ms: boot_ms() }
    }

    /// By how many milliseconds this clock is ahead of the wall clock (behind, if negative). More
    /// than a moment means that the wall clock was set, so that one of the two is wrong.
    pub fn ahead_of_wall_ms(&self) -> i64 {
        self.now().0 as i64 - wall().0 as i64
    }
}

fn wall() -> TimeMs {
    TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

impl Clock for SteadyClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.wall.0 + boot_ms().saturating_sub(self.booted_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_follows_the_wall_clock() {
        let clock = SteadyClock::start();
        assert!(clock.now().0.abs_diff(wall().0) < 1000);
        assert!(clock.ahead_of_wall_ms().abs() < 1000);
    }
}
