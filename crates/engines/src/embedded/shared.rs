//! What one process knows of its log in memory.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use units::Sequence;

/// What the writer tells the readers in its process.
#[derive(Debug)]
pub(crate) struct Shared {
    durable: AtomicU64,
    /// The first sequences of the segments, ascending; never empty.
    starts: Mutex<Vec<Sequence>>,
    /// Held by the handle that writes a snapshot.
    snapshots: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(durable: Sequence, starts: Vec<Sequence>) -> Self {
        Self { durable: AtomicU64::new(durable.0), starts: Mutex::new(starts), snapshots: Mutex::default() }
    }

    pub(crate) fn durable(&self) -> Sequence {
        Sequence(self.durable.load(Ordering::Acquire))
    }

    /// Everything up to `last` is durable, and its bytes were written before this.
    pub(crate) fn set_durable(&self, last: Sequence) {
        self.durable.store(last.0, Ordering::Release);
    }

    /// One snapshot is written at a time: each removes what an earlier one has left.
    pub(crate) fn writing_snapshot(&self) -> MutexGuard<'_, ()> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn first(&self) -> Sequence {
        self.with_starts(|starts| starts[0])
    }

    pub(crate) fn with_starts<T>(&self, look: impl FnOnce(&mut Vec<Sequence>) -> T) -> T {
        look(&mut self.starts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
