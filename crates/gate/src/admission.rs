//! How fast the attempts of a tier go on to the sale, if the tier has a part of the sale's rate.
//! The rate of all attempts is kept by the sale itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Admissions at a rate that may change: gives each attempt the time at which it may go on.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    next_us: AtomicU64,
}

impl Admission {
    /// Milliseconds to wait until this attempt's turn; `Err` with whole seconds if that is more
    /// than `wait_ms_max`, and then no turn is taken.
    pub(crate) fn turn(&self, per_second: u32, now_ms: u64, wait_ms_max: u64) -> Result<u64, u32> {
        let (interval, now) = (1_000_000 / u64::from(per_second.max(1)), now_ms * 1000);
        let mut turn = 0;
        let taken = self.next_us.fetch_update(Relaxed, Relaxed, |next| {
            turn = next.max(now);
            (turn - now <= wait_ms_max * 1000).then_some(turn + interval.max(1))
        });
        let wait_us = turn - now;
        taken.map(|_| wait_us / 1000).map_err(|_| wait_us.div_ceil(1_000_000) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_spreads_a_burst_over_time() {
        let admission = Admission::default();
        let waits: Vec<_> = (0..4).map(|_| admission.turn(10, 5000, 250)).collect();
        assert_eq!(waits, [Ok(0), Ok(100), Ok(200), Err(1)]);
        assert_eq!(admission.turn(10, 5300, 250), Ok(0));
    }
}
