//! Turns of the listeners without loops: requests on a connection that asks too fast, or that was
//! refused a short time ago, are begun after the others, one at a time.

pub(super) use crate::wire::Pace;

use crate::problem::{Problem, RATE_LIMITED};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// The time between two such requests. Each takes some 50 µs, so they take no more than a
/// twentieth of a processor.
const EVERY: Duration = Duration::from_millis(1);
/// Requests that may wait for their turn; beyond that they are refused.
const WAITING_MAX: usize = 4096;

/// The turns of requests of low priority.
#[derive(Debug)]
pub(super) struct Turns {
    next: Mutex<Instant>,
    waiting: AtomicUsize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { next: Mutex::new(Instant::now()), waiting: AtomicUsize::new(0) }
    }
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn wait(&self) -> Result<(), Problem> {
        let waiting = Waiting::among(&self.waiting);
        if waiting.others >= WAITING_MAX {
            let why = "too many requests on this connection: wait as Retry-After says";
            return Err(Problem::new(&RATE_LIMITED, why).retry_after(5));
        }
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + EVERY;
        Ok(())
    }
}

/// A request that waits, also while its client goes away.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    others: usize,
}

impl<'a> Waiting<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        Self { all, others: all.fetch_add(1, Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}
