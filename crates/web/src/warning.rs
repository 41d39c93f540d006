//! Lines of the log that a stranger could cause, rationed. It knows no log.

use std::time::{Duration, Instant};

/// The shortest time between two warnings about connections that cannot be served.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A warning that every connection of a flood could cause, and that is written now and then.
#[derive(Debug, Default)]
pub struct Warning {
    count: u64,
    written: Option<Instant>,
}

impl Warning {
    /// Counts one event. Returns how many there were since the start, if it is time to write the
    /// warning.
    pub fn due(&mut self) -> Option<u64> {
        self.count += 1;
        let is_due = self.written.is_none_or(|at| at.elapsed() > WARN_EVERY);
        is_due.then(|| {
            self.written = Some(Instant::now());
            self.count
        })
    }
}
