//! Turns of the listeners without loops: requests on a connection that asks too fast, or that was
//! refused a short time ago, are begun after the others, one at a time.

pub(super) use crate::wire::Pace;

use crate::{
    limits::Shares,
    problem::{Problem, RATE_LIMITED},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// The time between two such requests. Each takes some 50 µs, so they take no more than a
/// twentieth of a processor.
const EVERY: Duration = Duration::from_millis(1);
/// Requests that may wait for their turn, of all and of one address; beyond that they are refused.
const WAITING_MAX: usize = 4096;
const WAITING_OF_ADDRESS_MAX: usize = 256;

/// The turns of requests of low priority.
#[derive(Debug)]
pub(super) struct Turns {
    next: Mutex<Instant>,
    waiting: AtomicUsize,
    by_address: Arc<Shares>,
}

impl Default for Turns {
    fn default() -> Self {
        let (next, waiting) = (Mutex::new(Instant::now()), AtomicUsize::new(0));
        Self { next, waiting, by_address: Arc::default() }
    }
}

impl Turns {
    /// Waits for a turn. `address` is the address's key.
    pub(super) async fn wait(&self, address: u64) -> Result<(), Problem> {
        let waiting = Waiting::among(&self.waiting);
        let share = self.by_address.take(address, WAITING_OF_ADDRESS_MAX);
        if waiting.others >= WAITING_MAX || share.is_none() {
            let why = "too many requests of this address or connection: wait as Retry-After says";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_leaves_turns_for_others() {
        let turns = Arc::new(Turns::default());
        let ask = |address| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.wait(address).await.is_ok() })
        };
        let flood: Vec<_> = (0..2 * WAITING_OF_ADDRESS_MAX).map(|_| ask(1)).collect();
        let other = ask(2);
        let mut served = 0;
        for asked in flood {
            served += usize::from(asked.await.unwrap());
        }
        assert_eq!(served, WAITING_OF_ADDRESS_MAX);
        assert!(other.await.unwrap());
        // All shares are free again.
        assert!(turns.wait(1).await.is_ok());
    }
}
