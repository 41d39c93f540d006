//! When holds expire. A hold's length is fixed once a sale has opened and its time never runs
//! backwards, so deadlines come in order: a queue replaces a heap, and an insertion costs a push.

use std::collections::VecDeque;
use units::TimeMs;

/// (pay_by, slot), soonest first. Holds that ended early stay in it until they reach the front.
#[derive(Debug, Default)]
pub(super) struct Deadlines(VecDeque<(TimeMs, u32)>);

impl Deadlines {
    /// The soonest: always one of a hold that is held, as long as [`Deadlines::drop_ended`] follows
    /// every end.
    pub(super) fn first(&self) -> Option<(TimeMs, u32)> {
        self.0.front().copied()
    }

    pub(super) fn push(&mut self, pay_by: TimeMs, slot: u32) {
        let in_order = self.0.back().is_none_or(|last| *last <= (pay_by, slot));
        if in_order {
            self.0.push_back((pay_by, slot));
        } else {
            // Only a foreign log, or a promotion (an old slot with a new deadline), gets here.
            let at = self.0.partition_point(|d| *d <= (pay_by, slot));
            self.0.insert(at, (pay_by, slot));
        }
    }

    /// Removes entries from the front whose hold is no longer `held` with that deadline.
    pub(super) fn drop_ended(&mut self, held: impl Fn(TimeMs, u32) -> bool) {
        while let Some(&(pay_by, slot)) = self.0.front()
            && !held(pay_by, slot)
        {
            self.0.pop_front();
        }
    }

    /// Makes room for `count` more, and touches it.
    pub(super) fn reserve(&mut self, count: usize) {
        let len = self.0.len();
        self.0.resize(len + count, (TimeMs(0), 0));
        self.0.truncate(len);
    }
}
