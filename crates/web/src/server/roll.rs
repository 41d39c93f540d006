//! The open connections of a listener that has no loops: which of them are idle, and since when. If
//! room is needed, those that have been idle longest are told to close. So connections that no
//! caller uses keep no one out, however many there are.

use super::low_priority::Pace;
use crate::wire::{Slab, Token};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::Notify;

/// All open connections of a listener.
#[derive(Debug)]
pub(super) struct Roll {
    entries: Mutex<Slab<Arc<Entry>>>,
    started: Instant,
}

impl Default for Roll {
    fn default() -> Self {
        Self { entries: Mutex::default(), started: Instant::now() }
    }
}

/// Which connections may be told to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    All,
    /// All but those of balancers and exempt addresses, which many people share.
    Strangers,
    /// Those of this address or network.
    Of(u64),
}

/// Whom a connection is from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    /// The keys of its address and of its network, which are keys of nothing else.
    pub(super) address: u64,
    pub(super) network: u64,
    /// A balancer, or an exempt address.
    pub(super) is_shared: bool,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Entry {
    origin: Origin,
    /// Requests that are not answered yet.
    busy: AtomicU32,
    /// When the last one was answered, or else when the connection was accepted.
    idle_since_ms: AtomicU64,
    /// Nobody waits on the connection while it is told.
    told: AtomicBool,
    close: Notify,
    started: Instant,
    pub(super) pace: Mutex<Pace>,
}

impl Entry {
    /// A request has arrived.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    /// A request was answered.
    pub(super) fn end(&self) {
        self.idle_since_ms.store(self.started.elapsed().as_millis() as u64, Relaxed);
        self.busy.fetch_sub(1, Relaxed);
    }

    /// Ready once the connection is to be closed.
    pub(super) async fn told_to_close(&self) {
        while !self.told.load(Relaxed) {
            self.close.notified().await;
        }
    }

    fn tell(&self) {
        self.told.store(true, Relaxed);
        // Kept for the connection, if it does not wait now.
        self.close.notify_one();
    }

    fn is_among(&self, among: Among) -> bool {
        match among {
            Among::All => true,
            Among::Strangers => !self.origin.is_shared,
            Among::Of(key) => self.origin.address == key || self.origin.network == key,
        }
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Relaxed) == 0 && !self.told.load(Relaxed)
    }
}

/// A connection's place on the roll, until it is dropped.
#[derive(Debug)]
pub(super) struct Enrolled {
    roll: Arc<Roll>,
    token: Token,
    pub(super) entry: Arc<Entry>,
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.roll.entries().remove(self.token);
    }
}

impl Roll {
    pub(super) fn enrol(self: &Arc<Self>, origin: Origin, pace: Pace) -> Enrolled {
        let entry = Arc::new(Entry {
            origin,
            busy: AtomicU32::new(0),
            idle_since_ms: AtomicU64::new(self.started.elapsed().as_millis() as u64),
            told: AtomicBool::new(false),
            close: Notify::new(),
            started: self.started,
            pace: Mutex::new(pace),
        });
        let token = self.entries().insert(Arc::clone(&entry));
        Enrolled { roll: Arc::clone(self), token, entry }
    }

    /// Tells idle connections among these to close, at most this many, the longest idle first.
    /// Returns how many were told.
    pub(super) fn close_idle(&self, max: usize, among: Among) -> usize {
        let entries = self.entries();
        let mut idle = Vec::new();
        entries.find(&mut idle, |entry| entry.is_idle() && entry.is_among(among));
        let since = |token: &Token| entries.peek(*token).map_or(u64::MAX, |e| e.idle_since_ms.load(Relaxed));
        if idle.len() > max {
            idle.select_nth_unstable_by_key(max, since);
            idle.truncate(max);
        }
        idle.iter().filter_map(|token| entries.peek(*token)).for_each(|entry| entry.tell());
        idle.len()
    }

    fn entries(&self) -> MutexGuard<'_, Slab<Arc<Entry>>> {
        // It is consistent between two statements, so a panic of another holder leaves nothing half
        // done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_idle_connections_are_told_first() {
        let roll = Arc::new(Roll::default());
        let enrolled: Vec<Enrolled> = (0..6)
            .map(|n| {
                let origin = Origin { address: n % 2, network: 10 + n / 3, is_shared: n == 0 };
                let it = roll.enrol(origin, Pace::default());
                it.entry.idle_since_ms.store(10 - n, Relaxed);
                it
            })
            .collect();
        let told = || enrolled.iter().map(|it| it.entry.told.load(Relaxed)).collect::<Vec<_>>();
        enrolled[5].entry.begin();
        assert_eq!(roll.close_idle(1, Among::All), 1);
        assert_eq!(told(), [false, false, false, false, true, false], "5 has a request");
        assert_eq!(roll.close_idle(1, Among::Of(1)), 1);
        assert_eq!(told(), [false, false, false, true, true, false], "of one address");
        enrolled[5].entry.end();
        assert_eq!(roll.close_idle(1, Among::Of(10)), 1);
        assert_eq!(told(), [false, false, true, true, true, false], "of one network");
        assert_eq!(roll.close_idle(9, Among::Strangers), 2);
        assert_eq!(told(), [false, true, true, true, true, true], "but the one that many share");
        drop(enrolled);
        assert_eq!(roll.close_idle(9, Among::All), 0);
    }
}
