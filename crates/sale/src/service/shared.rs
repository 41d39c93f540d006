//! The state that the sale's threads and its callers share.

use super::gate_reports::Said;
use crate::membership_filter::MembershipFilter;
use crate::queue::{Limits, Moment, Queue};
use crate::sync::{ArcSwapOption, Condvar, Mutex, MutexGuard};
use contracts::{SaleId, SaleState, SaleView};
use engines::clock::Clock;
use engines::log::LogRead;
use runtime::drive::Ending;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;
use units::Sequence;

pub(super) struct Shared {
    pub(super) sale: SaleId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) queue: Mutex<Queue>,
    pub(super) work: Condvar,
    pub(super) ending: Ending,
    pub(super) view: ArcSwapOption<SaleView>,
    pub(super) known: MembershipFilter,
    pub(super) said: Mutex<Said>,
    pub(super) sequence: watch::Sender<Sequence>,
    pub(super) reader: Mutex<Box<dyn LogRead>>,
    /// Why the worker stopped for good.
    pub(super) stopped: ArcSwapOption<String>,
    /// The invariants that were found broken, by the worker or by the thread that replays the log
    /// for snapshots.
    pub(super) invariants: Mutex<BTreeSet<&'static str>>,
}

/// A queue or a reader is consistent between two statements, so a panic of another holder leaves
/// nothing half done.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether the rate holds attempts back now. Refusals cost nothing: while all are refused, none
    /// waits for a turn; and asking before the opening gains no place in line.
    pub(super) fn moment(&self) -> Moment {
        let view = self.view.load();
        let now = self.clock.now();
        let is_paused = |view: &SaleView| {
            // Between two rounds the view may be paused too, but then all would be told that no
            // round is open.
            view.state == SaleState::Paused && (view.opens_at..view.closes_at).contains(&now)
        };
        let sells =
            |view: &SaleView| (view.state == SaleState::Open || is_paused(view)) && !view.is_sold_out();
        let view = view.as_deref().filter(|_| self.stopped.load().is_none());
        let rate = view.filter(|view| sells(view)).map_or(0, |view| view.rate_per_second);
        Moment { now, rate, is_paused: view.is_some_and(is_paused) }
    }

    /// Whether a job that is not an attempt is accepted: operators get through when the queue is
    /// full of attempts.
    pub(super) fn has_room_to_ask(&self, queue: &Queue) -> bool {
        !queue.jobs.is_crammed()
    }

    /// The state of a stopped worker may never have become durable: the last durable view stays, as
    /// one of a sale that sells nothing now.
    pub(super) fn show_stopped(&self, why: &str) {
        if self.stopped.load().is_some() {
            return;
        }
        self.show_paused(false);
        self.stopped.store(Some(Arc::new(why.to_owned())));
    }

    /// Shows the last view as that of a sale which sells nothing now: the worker's state must not
    /// be shown. `disk_full`: the sale resumes by itself once it can write again.
    pub(super) fn show_paused(&self, disk_full: bool) {
        let Some(view) = self.view.load_full() else { return };
        let state = if view.state == SaleState::Closed { SaleState::Closed } else { SaleState::Paused };
        self.view.store(Some(Arc::new(SaleView { state, disk_full, ..(*view).clone() })));
    }
}
