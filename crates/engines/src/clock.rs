//! The clock port. Cores never read it: their shells do, and pass the time in.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use units::TimeMs;

/// Tells the time. Never runs backwards between two calls on one value.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> TimeMs;
}

/// The machine's wall clock as it was at the start, carried on by its monotonic clock: a step of the wall clock
/// (NTP, an operator, a leap second) in the middle of a sale must not expire ten thousand holds at once.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    wall: TimeMs,
    started: Instant,
}

impl SteadyClock {
    /// Reads the wall clock once.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: TimeMs(since_epoch.as_millis() as u64), started: Instant::now() }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.wall.0 + self.started.elapsed().as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_follows_the_wall_clock() {
        let clock = SteadyClock::start();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(clock.now().0.abs_diff(wall) < 1000);
    }
}
