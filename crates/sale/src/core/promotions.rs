//! Who may be promoted: what the state says of its waitlists.

use super::state::State;
use super::waitlist::Waiter;
use runtime::{Broken, ensure};
use units::TimeMs;

impl State {
    /// INV-2, second half. Promotions directly follow the entry that made them possible, so before
    /// any other entry no waiting place fits. For an item that is not due none can: each place was
    /// given because units were lacking.
    pub(super) fn nobody_waits_for_what_is_free(&self) -> Result<(), Broken> {
        let fits = self.due.iter().any(|item| self.first_fitting(item).is_some());
        ensure(!fits, "INV-2", || "somebody waits for what is free".into())
    }

    /// The first waiting place of an item that fits.
    pub(super) fn first_fitting(&self, item: u16) -> Option<&Waiter> {
        if self.waitlist_ended {
            return None;
        }
        self.waiting[usize::from(item)].first_fitting(self.stock[usize::from(item)].free)
    }

    /// When the waitlist will end, if a time is set and it has not ended.
    pub(super) fn waitlist_ends_at(&self) -> Option<TimeMs> {
        self.spec.as_ref().and_then(|spec| spec.waitlist_ends_at).filter(|_| !self.waitlist_ended)
    }

    /// The next place to take back, if the waitlist has ended.
    pub(super) fn next_to_leave(&self) -> Option<Waiter> {
        // Asked before every decision, so the lists are looked at only if there is something to do.
        if !self.waitlist_ended {
            return None;
        }
        self.waiting.iter().find_map(|list| list.first_fitting(u64::MAX)).copied()
    }

    /// Whether a promotion is due, which comes before anything else.
    pub(super) fn owes_promotions(&self) -> bool {
        self.owed_items().next().is_some()
    }

    /// The items of which a waiting shopper could be promoted.
    pub(super) fn owed_items(&self) -> impl Iterator<Item = u16> {
        self.due.iter().filter(|item| !self.paused && self.first_fitting(*item).is_some())
    }

    /// The next place to promote. An item with no place that fits is no longer due.
    pub(super) fn next_promotion(&mut self) -> Option<Waiter> {
        while !self.paused
            && let Some(item) = self.due.first()
        {
            if let Some(waiter) = self.first_fitting(item) {
                return Some(*waiter);
            }
            self.due.remove_first();
        }
        None
    }

    /// Finds the due items again, for a state that comes from a snapshot.
    pub(super) fn find_due(&mut self) {
        let due: Vec<u16> =
            (0..self.stock.len() as u16).filter(|item| self.first_fitting(*item).is_some()).collect();
        due.into_iter().for_each(|item| self.due.add(item));
    }
}
