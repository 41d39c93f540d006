//! Values in the memory of the process, by moka: what is asked for most often stays, and all of it
//! together has a bound in bytes.

use super::{Answer, Cache, KEPT_FOR_MAX, Key, Looked, MARKS, Mark, mark_of};
use crate::clock::Clock;
use moka::sync::Cache as Moka;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use units::TimeMs;

/// Bytes that an entry costs beside its key and its value.
const ENTRY_BYTES: usize = 500;

#[derive(Clone)]
struct Kept<V> {
    value: V,
    until: TimeMs,
    mark: u64,
}

/// The engine. Values are cloned when they are given: make that cheap.
pub struct Memory<V> {
    kept: Moka<Key, Kept<V>>,
    marks: Box<[AtomicU64]>,
    clock: Arc<dyn Clock>,
}

impl<V> fmt::Debug for Memory<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> Memory<V> {
    /// An empty cache for so many bytes; with none, it keeps nothing. `bytes_of` says what a value
    /// costs.
    pub fn new(
        bytes_max: u64,
        clock: Arc<dyn Clock>,
        bytes_of: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        let weigher = move |key: &Key, kept: &Kept<V>| {
            let bytes = ENTRY_BYTES + key.group.len() + key.name.len() + bytes_of(&kept.value);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let kept = Moka::builder().max_capacity(bytes_max).weigher(weigher);
        let marks = (0..MARKS).map(|_| AtomicU64::new(0));
        Self { kept: kept.time_to_live(KEPT_FOR_MAX).build(), marks: marks.collect(), clock }
    }

    pub fn get(&self, key: &Key) -> Looked<V> {
        let mark = self.mark(key);
        let now = self.clock.now();
        let found = self.kept.get(key).filter(|kept| kept.mark == mark.0 && now < kept.until);
        let left = found.as_ref().map_or(0, |kept| kept.until.0 - now.0);
        Looked { value: found.map(|kept| kept.value), left: Duration::from_millis(left), mark }
    }

    pub fn put(&self, key: &Key, value: V, kept_for: Duration, mark: Mark) {
        if key.is_too_long() || self.mark(key) != mark {
            return;
        }
        let kept_for = kept_for.min(KEPT_FOR_MAX).as_millis() as u64;
        let kept = Kept { value, until: TimeMs(self.clock.now().0 + kept_for), mark: mark.0 };
        self.kept.insert(key.clone(), kept);
    }

    /// Of the key's group.
    pub fn mark(&self, key: &Key) -> Mark {
        Mark(self.marks[mark_of(&key.group)].load(SeqCst))
    }

    pub fn remove(&self, groups: &[String]) {
        for group in groups {
            self.marks[mark_of(group)].fetch_add(1, SeqCst);
        }
    }

    pub fn clear(&self) {
        for mark in &self.marks {
            mark.fetch_add(1, SeqCst);
        }
        self.kept.invalidate_all();
    }

    /// What is kept costs so much, and something more for a moment.
    pub fn bytes(&self) -> u64 {
        self.kept.run_pending_tasks();
        self.kept.weighted_size()
    }
}

impl<V: Clone + Send + Sync + 'static> Cache<V> for Memory<V> {
    fn look<'a>(&'a self, key: &'a Key) -> Answer<'a, Looked<V>> {
        Box::pin(async move { Ok(self.get(key)) })
    }

    fn keep<'a>(&'a self, key: &'a Key, value: V, kept_for: Duration, mark: Mark) -> Answer<'a, ()> {
        Box::pin(async move {
            self.put(key, value, kept_for, mark);
            Ok(())
        })
    }

    fn forget<'a>(&'a self, groups: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.remove(groups);
            Ok(())
        })
    }

    fn forget_all(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.clear();
            Ok(())
        })
    }
}
