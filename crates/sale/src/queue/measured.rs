//! How long decisions took lately, from which the waiting time of new attempts is estimated.

use std::time::Duration;
use units::TimeMs;

/// How far back the pace of decisions is measured, and for how long nothing may be decided before
/// there is no estimate.
pub(super) const LATELY_SECONDS: usize = 8;

/// How long a step of the worker takes, in the last seconds.
#[derive(Default)]
pub(super) struct Measured([Second; LATELY_SECONDS]);

#[derive(Default, Clone, Copy)]
struct Second {
    second: u64,
    all: Steps,
    /// The steps that took as many commands as a step may have.
    full: Steps,
}

#[derive(Default, Clone, Copy)]
struct Steps {
    count: u64,
    us: u64,
}

impl Measured {
    pub(super) fn note(&mut self, now: TimeMs, took: Duration, is_full: bool) {
        let second = now.0 / 1000;
        let slot = &mut self.0[(second % LATELY_SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Second { second, ..Second::default() };
        }
        for steps in [Some(&mut slot.all), is_full.then_some(&mut slot.full)].into_iter().flatten() {
            steps.count += 1;
            steps.us += took.as_micros() as u64;
        }
    }

    /// Milliseconds until the end of the step that decides an attempt with `before` others before
    /// it. The rate of decisions predicts that only for a long queue: a step of one takes hardly
    /// less time than a step of hundreds. `None` if no step with an attempt ended lately.
    pub(super) fn wait_ms(&self, now: TimeMs, before: u64, step_max: usize) -> Option<u64> {
        let lately = |slot: &&Second| now.0 / 1000 - slot.second.min(now.0 / 1000) < LATELY_SECONDS as u64;
        let sum = |of: fn(&Second) -> Steps| {
            self.0.iter().filter(lately).map(of).fold(Steps::default(), |sum, steps| Steps {
                count: sum.count + steps.count,
                us: sum.us + steps.us,
            })
        };
        let (all, full) = (sum(|second| second.all), sum(|second| second.full));
        let steps = if full.count > 0 { full } else { all };
        let needed = before / step_max as u64 + 1;
        (steps.count > 0).then(|| (needed * steps.us / steps.count).div_ceil(1000))
    }
}
