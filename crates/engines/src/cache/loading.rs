//! Values that are loaded when they are not kept: first looked for in the process, then in the
//! cache that processes share, if there is one.
//!
//! - Those who ask at once for what is not there wait for one load, which goes on without them.
//! - Absence is kept too, in the process alone and for a shorter time.
//! - How long a value is kept is shortened a little by chance, so that values that were loaded
//!   together do not go together.
//! - A value is loaded anew a little before its time by one of those who get it: the sooner, the
//!   longer its load took (XFetch; Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic
//!   Cache Stampede Prevention", VLDB 2015).
//! - What was forgotten is not given any more, and no caller joins a load that began before.
//! - Without the shared cache all of this goes on. What could not be forgotten there is made up for
//!   before anything is read from it again.

use super::{Cache, CacheError, KEPT_FOR_MAX, Key, Looked, Mark, VALUE_BYTES_MAX, memory::Memory};
use crate::clock::Clock;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{HashMap, hash_map::Entry as Place},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::watch;
use units::{Prng, TimeMs};

/// By up to how many percent the time for which a value is kept is shortened.
const JITTER_PERCENT: u64 = 20;

/// What a cache is like.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of all values in the process; with none, each is loaded again.
    pub bytes_max: u64,
    pub kept_for: Duration,
    /// The same, for the absence of a value.
    pub none_kept_for: Duration,
}

/// The cache that processes share.
pub type Shared = Arc<dyn Cache<Vec<u8>>>;

/// A value as the process has it.
struct Held<V> {
    value: Option<Arc<V>>,
    until: TimeMs,
    /// How long it took to load.
    took_ms: u64,
    bytes: usize,
}

// It needs no `V: Clone`.
impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), until: self.until, took_ms: self.took_ms, bytes: self.bytes }
    }
}

/// A value as the shared cache has it.
#[derive(Serialize, Deserialize)]
struct Written<V> {
    value: V,
    took_ms: u64,
}

type Outcome<V, E> = Option<Result<Option<Arc<V>>, E>>;

/// A load that is on its way, and the mark under which it began.
struct Load<V, E> {
    mark: Mark,
    number: u64,
    outcome: watch::Receiver<Outcome<V, E>>,
}

/// What happened in a cache, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Given from the process.
    pub hits: u64,
    /// Given from the shared cache.
    pub shared_hits: u64,
    /// Loaded because neither had it.
    pub loads: u64,
    /// Loaded before their time was over.
    pub early_loads: u64,
    /// Waited for the load of another one.
    pub joined: u64,
    /// Groups that were forgotten.
    pub forgotten: u64,
    /// What the shared cache did not answer.
    pub shared_failures: u64,
    /// Of all that is kept in the process.
    pub bytes: u64,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    shared_hits: AtomicU64,
    loads: AtomicU64,
    early_loads: AtomicU64,
    joined: AtomicU64,
    forgotten: AtomicU64,
    shared_failures: AtomicU64,
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Relaxed);
}

/// A cache of values that are loaded.
pub struct Loading<V, E> {
    memory: Memory<Held<V>>,
    shared: Option<Shared>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    loads: Mutex<HashMap<Key, Load<V, E>>>,
    loads_begun: AtomicU64,
    random: Mutex<Prng>,
    counts: Counts,
    failure: Mutex<Option<CacheError>>,
    /// How often something could not be forgotten in the shared cache, and how many of these were
    /// made up for: all of it is forgotten before it is used again.
    owed: AtomicU64,
    paid: AtomicU64,
    pays: AtomicBool,
}

impl<V, E> fmt::Debug for Loading<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loading").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<V, E> Loading<V, E>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: From<CacheError> + Clone + Send + Sync + 'static,
{
    /// An empty cache over the shared one, from which nothing is taken that was kept before: this
    /// process does not know what it could not forget when it ended.
    pub fn new(settings: Settings, shared: Option<Shared>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(settings.bytes_max, Arc::clone(&clock), |held: &Held<V>| held.bytes),
            settings,
            owed: AtomicU64::new(u64::from(shared.is_some())),
            paid: AtomicU64::new(0),
            pays: AtomicBool::new(false),
            shared,
            random: Mutex::new(Prng::new(clock.now().0)),
            clock,
            loads: Mutex::default(),
            loads_begun: AtomicU64::new(0),
            counts: Counts::default(),
            failure: Mutex::default(),
        })
    }

    /// The value, or that there is none. `load` reads it from where it comes from.
    pub async fn get<L>(
        self: &Arc<Self>,
        key: Key,
        load: impl FnOnce() -> L + Send + 'static,
    ) -> Result<Option<Arc<V>>, E>
    where
        L: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        let Looked { value, mark, .. } = self.memory.get(&key);
        let Some(held) = value else {
            let mut outcome = self.join(key, mark, false, load);
            let loaded = outcome.wait_for(Option::is_some).await;
            let loaded = loaded.map(|loaded| loaded.clone());
            return loaded.ok().flatten().unwrap_or_else(|| Err(CacheError("a load panicked".into()).into()));
        };
        count(&self.counts.hits);
        if self.is_due_early(&held) {
            drop(self.join(key, mark, true, load));
        }
        Ok(held.value)
    }

    /// Whether this one of those who get the value loads it anew.
    fn is_due_early(&self, held: &Held<V>) -> bool {
        let left_ms = held.until.0.saturating_sub(self.clock.now().0);
        // An exponential variable above 36 comes once in 2^52 draws.
        if left_ms > held.took_ms.saturating_mul(36) {
            return false;
        }
        let drawn = 1.0 - self.random.lock().unwrap_or_else(PoisonError::into_inner).unit();
        held.took_ms as f64 * -drawn.ln() >= left_ms as f64
    }

    /// The load of this key that began under this mark, or a new one, which goes on by itself.
    fn join<L>(
        self: &Arc<Self>,
        key: Key,
        mark: Mark,
        is_early: bool,
        load: impl FnOnce() -> L + Send + 'static,
    ) -> watch::Receiver<Outcome<V, E>>
    where
        L: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let place = loads.entry(key.clone());
        // Marks grow: a load of a later one began after all that this caller may know.
        if let Place::Occupied(place) = &place
            && place.get().mark.0 >= mark.0
        {
            if !is_early {
                count(&self.counts.joined);
            }
            return place.get().outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let number = self.loads_begun.fetch_add(1, Relaxed);
        place.insert_entry(Load { mark, number, outcome: outcome.clone() });
        drop(loads);
        let ends = Ends { of: Arc::clone(self), key, number };
        tokio::spawn(async move {
            let loaded = ends.of.load(&ends.key, mark, is_early, load).await;
            // Those who come from now on find what is kept.
            drop(ends);
            tell.send_replace(Some(loaded));
        });
        outcome
    }

    async fn load<L>(
        &self,
        key: &Key,
        mark: Mark,
        is_early: bool,
        load: impl FnOnce() -> L,
    ) -> Result<Option<Arc<V>>, E>
    where
        L: Future<Output = Result<Option<V>, E>>,
    {
        let looked = self.look_shared(key).await;
        if let Some(written) =
            looked.as_ref().and_then(|looked| looked.value.as_deref()).filter(|_| !is_early)
            && let Some(held) =
                self.read(written, looked.as_ref().map_or(Duration::ZERO, |looked| looked.left))
        {
            count(&self.counts.shared_hits);
            return Ok(self.hold(key, mark, held));
        }
        count(if is_early { &self.counts.early_loads } else { &self.counts.loads });
        let began = self.clock.now();
        let value = load().await?;
        let now = self.clock.now();
        let took_ms = now.0.saturating_sub(began.0).max(1);
        let kept_for = if value.is_some() { self.settings.kept_for } else { self.settings.none_kept_for };
        let kept_for = self.jittered(kept_for);
        // It is as old as the beginning of its load.
        let until = TimeMs(began.0 + kept_for.as_millis() as u64);
        let Some(value) = value else {
            return Ok(self.hold(key, mark, Held { value: None, until, took_ms, bytes: 0 }));
        };
        let written = Written { value, took_ms };
        // Its length stands for what it costs in memory.
        let bytes = serde_json::to_vec(&written).unwrap_or_default();
        let held = Held { value: Some(Arc::new(written.value)), until, took_ms, bytes: bytes.len() };
        if let (Some(shared), Some(looked)) = (&self.shared, looked)
            && (1..=VALUE_BYTES_MAX).contains(&bytes.len())
        {
            let left = Duration::from_millis(until.0.saturating_sub(now.0));
            self.note(shared.keep(key, bytes, left, looked.mark).await);
        }
        Ok(self.hold(key, mark, held))
    }

    fn read(&self, written: &[u8], left: Duration) -> Option<Held<V>> {
        // What another version has written may be none for this one.
        let Written { value, took_ms } = serde_json::from_slice(written).ok()?;
        let left = left.min(self.settings.kept_for).min(KEPT_FOR_MAX);
        let until = TimeMs(self.clock.now().0 + left.as_millis() as u64);
        Some(Held { value: Some(Arc::new(value)), until, took_ms, bytes: written.len() })
    }

    fn hold(&self, key: &Key, mark: Mark, held: Held<V>) -> Option<Arc<V>> {
        let kept_for = Duration::from_millis(held.until.0.saturating_sub(self.clock.now().0));
        let value = held.value.clone();
        self.memory.put(key, held, kept_for, mark);
        value
    }

    fn jittered(&self, kept_for: Duration) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = 100 - random.below(JITTER_PERCENT + 1);
        kept_for.min(KEPT_FOR_MAX) * percent as u32 / 100
    }

    /// What the shared cache has, if it answers.
    async fn look_shared(&self, key: &Key) -> Option<Looked<Vec<u8>>> {
        let shared = self.shared.as_ref()?;
        let owed = self.owed.load(SeqCst);
        if self.paid.load(SeqCst) < owed {
            // One at a time; the others load meanwhile.
            if self.pays.swap(true, SeqCst) {
                return None;
            }
            let _pays = Pays(&self.pays);
            self.note(shared.forget_all().await)?;
            self.paid.fetch_max(owed, SeqCst);
        }
        self.note(shared.look(key).await)
    }

    fn note<T>(&self, answer: Result<T, CacheError>) -> Option<T> {
        if let Err(error) = &answer {
            count(&self.counts.shared_failures);
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
        answer.ok()
    }

    /// The last failure of the shared cache that was not asked for yet.
    pub fn take_failure(&self) -> Option<CacheError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Forgets these groups, everywhere; what is in other processes goes as they hear of it. To be
    /// called after what is loaded was changed, before that is said to be done.
    pub async fn forget(&self, groups: &[String]) {
        self.counts.forgotten.fetch_add(groups.len() as u64, Relaxed);
        self.memory.remove(groups);
        if let Some(shared) = &self.shared {
            let mut forgetting = Forgetting { of: self, groups, is_done: false };
            forgetting.is_done = self.note(shared.forget(groups).await).is_some();
        }
    }

    /// Forgets everything, everywhere.
    pub async fn forget_all(&self) {
        count(&self.counts.forgotten);
        self.memory.clear();
        if let Some(shared) = &self.shared {
            let mut forgetting = Forgetting { of: self, groups: &[], is_done: false };
            forgetting.is_done = self.note(shared.forget_all().await).is_some();
        }
    }

    pub fn figures(&self) -> Figures {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let Counts { hits, shared_hits, loads, early_loads, joined, forgotten, shared_failures } =
            &self.counts;
        Figures {
            hits: of(hits),
            shared_hits: of(shared_hits),
            loads: of(loads),
            early_loads: of(early_loads),
            joined: of(joined),
            forgotten: of(forgotten),
            shared_failures: of(shared_failures),
            bytes: self.memory.bytes(),
        }
    }
}

/// What is under way in the shared cache, of all groups if none is named. When it ends, also if the
/// caller does not wait for it, what was taken from there meanwhile goes, and what was not done is
/// owed.
struct Forgetting<'a, V, E>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: From<CacheError> + Clone + Send + Sync + 'static,
{
    of: &'a Loading<V, E>,
    groups: &'a [String],
    is_done: bool,
}

impl<V, E> Drop for Forgetting<'_, V, E>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: From<CacheError> + Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if !self.is_done {
            self.of.owed.fetch_add(1, SeqCst);
        }
        match self.groups {
            [] => self.of.memory.clear(),
            groups => self.of.memory.remove(groups),
        }
    }
}

/// Somebody makes up for what is owed, and stops, however that ends.
struct Pays<'a>(&'a AtomicBool);

impl Drop for Pays<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// Takes a load off the list, however it ends.
struct Ends<V, E> {
    of: Arc<Loading<V, E>>,
    key: Key,
    number: u64,
}

impl<V, E> Drop for Ends<V, E> {
    fn drop(&mut self) {
        let mut loads = self.of.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.get(&self.key).is_some_and(|load| load.number == self.number) {
            loads.remove(&self.key);
        }
    }
}
