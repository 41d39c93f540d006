//! Connections that are kept open between messages, by origin, and how many may be open at once,
//! over all that share a [`Budget`]. It knows neither names nor certificates.

use super::connection::Connection;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

/// The longest that a connection is kept, however busy: an endpoint that has moved to another
/// address is then followed, also if its old server still answers.
const AGE_MAX: Duration = Duration::from_secs(300);
/// Looks for names of one origin that run at the same time: so few that an origin with a slow
/// name server leaves room for the others.
const RESOLVES_EACH_MAX: usize = 2;
/// The longest time between two sweeps.
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(1);

/// What those that deliver for different callers have together: a connection of one is used by no
/// other, but it makes room for another.
pub(super) struct Budget {
    /// One permit for each connection that may be open.
    open: Arc<Semaphore>,
    /// Pushes that wait for a permit. While there are any, no connection is kept idle.
    waiting: AtomicUsize,
    members: Mutex<Vec<Weak<Pools>>>,
}

/// The pools of all origins.
pub(super) struct Pools {
    map: Mutex<Map>,
    pub(super) budget: Arc<Budget>,
    each_max: usize,
    idle_max: Duration,
}

#[derive(Default)]
struct Map {
    pools: HashMap<Arc<str>, Arc<Pool>>,
    /// Runs while there are pools.
    sweeper: Option<JoinHandle<()>>,
}

/// The connections of one origin. Whoever uses one, or opens one, has a permit of `slots`; one is
/// opened only if none is idle. So no more are open than there are slots.
pub(super) struct Pool {
    pub(super) slots: Semaphore,
    pub(super) resolves: Arc<Semaphore>,
    /// The last one is the one that was used last.
    #[expect(clippy::vec_box, reason = "each push takes one out and puts it back: it moves a pointer")]
    idle: Mutex<Vec<Box<Connection>>>,
}

impl Budget {
    pub(super) fn new(open_max: usize) -> Self {
        Self {
            open: Arc::new(Semaphore::new(open_max)),
            waiting: AtomicUsize::new(0),
            members: Mutex::default(),
        }
    }

    /// A permit to open a connection. If too many are open, the one that was idle for longest is
    /// closed for it, of any caller, or the next one that would become idle.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        // After the count has gone up: `keep` then either sees it, or has already put its
        // connection where this finds it.
        drop(self.take_longest_idle());
        Arc::clone(&self.open).acquire_owned().await.expect("the semaphore is never closed")
    }

    fn take_longest_idle(&self) -> Option<Box<Connection>> {
        let members: Vec<Arc<Pools>> = lock(&self.members).iter().filter_map(Weak::upgrade).collect();
        let oldest = members.iter().filter_map(|pools| Some((pools.idle_since()?, pools)));
        oldest.min_by_key(|(at, _)| *at)?.1.take_longest_idle()
    }
}

impl Pools {
    pub(super) fn new(budget: Arc<Budget>, each_max: usize, idle_max: Duration) -> Arc<Self> {
        let pools = Arc::new(Self { map: Mutex::default(), budget, each_max, idle_max });
        let mut members = lock(&pools.budget.members);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&pools));
        drop(members);
        pools
    }

    /// The pool of an origin. Within a runtime of tokio.
    pub(super) fn of(self: &Arc<Self>, origin: &Arc<str>) -> Arc<Pool> {
        let mut map = lock(&self.map);
        if let Some(pool) = map.pools.get(origin) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool {
            slots: Semaphore::new(self.each_max),
            resolves: Arc::new(Semaphore::new(RESOLVES_EACH_MAX)),
            idle: Mutex::default(),
        });
        map.pools.insert(Arc::clone(origin), Arc::clone(&pool));
        if map.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            let every = (self.idle_max / 2).clamp(Duration::from_millis(1), SWEEP_EVERY_MAX);
            map.sweeper = Some(tokio::spawn(sweep(Arc::downgrade(self), every)));
        }
        pool
    }

    /// Keeps a connection that is ready for the next message; or closes it, if it is old, or if
    /// another one waits for room.
    pub(super) fn keep(&self, pool: &Pool, mut connection: Box<Connection>) {
        connection.used = Instant::now();
        if connection.used.duration_since(connection.opened) >= AGE_MAX {
            return;
        }
        let mut idle = lock(&pool.idle);
        if self.budget.waiting.load(SeqCst) == 0 {
            idle.push(connection);
        }
    }

    /// Since when the connection is idle that has been so for longest.
    fn idle_since(&self) -> Option<Instant> {
        let map = lock(&self.map);
        map.pools.values().filter_map(|pool| lock(&pool.idle).first().map(|kept| kept.used)).min()
    }

    fn take_longest_idle(&self) -> Option<Box<Connection>> {
        let map = lock(&self.map);
        let since = |pool: &Pool| lock(&pool.idle).first().map(|connection| connection.used);
        let oldest =
            map.pools.values().filter_map(|pool| Some((since(pool)?, pool))).min_by_key(|(at, _)| *at);
        let mut idle = lock(&oldest?.1.idle);
        if idle.is_empty() { None } else { Some(idle.remove(0)) }
    }

    /// Closes what was idle for too long, and forgets pools without connections or users. Returns
    /// whether there is nothing left to sweep.
    fn sweep(&self) -> bool {
        let mut closed = Vec::new();
        let mut map = lock(&self.map);
        map.pools.retain(|_, pool| {
            let mut idle = lock(&pool.idle);
            let stale = idle.partition_point(|connection| connection.used.elapsed() >= self.idle_max);
            closed.extend(idle.drain(..stale));
            // Users get it under the map's lock, which is held here.
            !idle.is_empty() || Arc::strong_count(pool) > 1
        });
        let is_empty = map.pools.is_empty();
        if is_empty {
            map.sweeper = None;
        }
        is_empty
    }
}

async fn sweep(pools: Weak<Pools>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if pools.upgrade().is_none_or(|pools| pools.sweep()) {
            return;
        }
    }
}

impl Pool {
    /// An idle connection that is still open as far as is known; the one that was used last, so
    /// that those that are not needed become old.
    pub(super) async fn take(&self) -> Option<Box<Connection>> {
        loop {
            let last = lock(&self.idle).pop();
            let mut connection = last?;
            if connection.is_ready().await {
                return Some(connection);
            }
        }
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
