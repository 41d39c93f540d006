//! When holds expire. A hold's length is fixed once a sale has opened and its time never runs
//! backwards, so deadlines come in order: a queue replaces a heap, and an insertion costs a push.

use super::grown::OrderedQueue;
use units::TimeMs;

/// (pay_by, slot), soonest first. Holds that ended early stay in it until they reach the front.
#[derive(Debug, Default)]
pub(super) struct Deadlines(OrderedQueue<(TimeMs, u32)>);

impl Deadlines {
    /// The soonest: always one of a hold that is held, as long as [`Deadlines::drop_ended`] follows
    /// every end.
    pub(super) fn first(&self) -> Option<(TimeMs, u32)> {
        self.0.front()
    }

    /// Mostly at the end: only a foreign log, or a promotion (an old slot with a new deadline), has
    /// one that comes earlier.
    pub(super) fn push(&mut self, pay_by: TimeMs, slot: u32) {
        self.0.insert((pay_by, slot));
    }

    /// The hold is no longer held.
    pub(super) fn end(&mut self, pay_by: TimeMs, slot: u32) {
        self.0.end((pay_by, slot));
    }

    /// Removes entries from the front whose hold is no longer `held` with that deadline.
    pub(super) fn drop_ended(&mut self, held: impl Fn(TimeMs, u32) -> bool) {
        while let Some((pay_by, slot)) = self.0.front()
            && !held(pay_by, slot)
        {
            self.0.pop_front();
        }
    }
}
