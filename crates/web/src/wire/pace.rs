//! How fast one connection sends requests. It knows times, and not the connection itself.

/// Requests of one connection within a second after which it has low priority. A page sends one a
/// second or so; a shopper may send 20 attempts at once (`gate.limits.shopper_burst`).
const PACE_MAX: u16 = 20;
/// How long a connection that sends too fast has low priority. New connections of a refused address
/// have it for as long.
pub(crate) const LOW_SECONDS: u32 = 10;

/// A connection's recent requests. Times are seconds since its loop began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    second: u32,
    asked: u16,
    /// It is in the queue of connections of low priority.
    pub(super) queued: bool,
    low_until: u32,
}

impl Pace {
    /// Counts a request, and returns whether it is one too many in its second.
    pub(crate) fn is_too_fast(&mut self, now: u32) -> bool {
        if self.second != now {
            (self.second, self.asked) = (now, 0);
        }
        self.asked = self.asked.saturating_add(1);
        self.asked > PACE_MAX
    }

    /// It is served after the others for a while.
    pub(crate) fn lower_priority(&mut self, now: u32) {
        self.low_until = now + LOW_SECONDS;
    }

    /// Whether it is served after the others now.
    pub(crate) fn is_low(&self, now: u32) -> bool {
        now < self.low_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_asks_too_fast_has_low_priority_for_a_while() {
        let mut pace = Pace::default();
        for second in 1..100 {
            assert!(
                (0..PACE_MAX).all(|_| !pace.is_too_fast(second)),
                "at the allowed rate, second after second"
            );
        }
        assert!(pace.is_too_fast(99));
        assert!(!pace.is_too_fast(100), "a new second");
        assert!(!pace.is_low(100), "it was not made low");
        pace.lower_priority(100);
        assert!(pace.is_low(100) && pace.is_low(109) && !pace.is_low(110));
    }
}
