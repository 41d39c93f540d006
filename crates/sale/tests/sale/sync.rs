//! The types of a model checker in the place of std's, for [`crate::filter_schedules`] and
//! [`crate::front_schedules`]: a file of the crate that is compiled again here finds them as
//! `crate::sync`.
//!
//! Time passes only where a thread sleeps until a moment, or a test says so.

use engines::clock::Clock;
use engines::log::LogError;
use runtime::drive::{Ending, Run};
use runtime::service::NAP;
use shuttle::rand::Rng;
use shuttle::{rand, thread};
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LockResult, PoisonError};
use std::time::Duration;
use units::TimeMs;

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Every word is modelled, and made anew for each schedule.
pub(crate) const FILTER_BITS: u64 = 1 << 9;

thread_local! {
    /// All threads of a model are one thread of the machine, so this is the clock of one schedule.
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

/// The clock of a schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelClock;

impl ModelClock {
    pub(crate) fn set(now_ms: u64) {
        NOW_MS.set(now_ms);
    }

    pub(crate) fn pass(ms: u64) {
        NOW_MS.set(NOW_MS.get() + ms);
    }
}

impl Clock for ModelClock {
    fn now(&self) -> TimeMs {
        TimeMs(NOW_MS.get())
    }
}

/// Any time may have passed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instant;

impl Instant {
    pub(crate) fn now() -> Self {
        Self
    }

    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_secs(rand::thread_rng().gen_range(0..3) * 1800)
    }
}

/// A sleep as long as [`NAP`] has no other reason than a clock that is set ahead, so it never ends
/// by itself: a wake-up that is lost is a deadlock. A shorter one ends when its time has come.
#[derive(Debug)]
pub(crate) struct Condvar(Arc<shuttle::sync::Condvar>);

/// Whether a sleep has ended by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(Arc::new(shuttle::sync::Condvar::new()))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        at_most: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
        let [over, awake] = [false, false].map(|flag| Arc::new(std::sync::atomic::AtomicBool::new(flag)));
        if at_most < NAP {
            let (sleeper, over, awake) = (Arc::clone(&self.0), Arc::clone(&over), Arc::clone(&awake));
            thread::spawn(move || {
                thread::yield_now();
                if !awake.load(SeqCst) {
                    ModelClock::pass(at_most.as_millis() as u64);
                    over.store(true, SeqCst);
                }
                // It may not sleep yet.
                while !awake.load(SeqCst) {
                    sleeper.notify_all();
                    thread::yield_now();
                }
            });
        }
        let guard = self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
        awake.store(true, SeqCst);
        Ok((guard, TimedOut(over.load(SeqCst))))
    }
}

/// A value that is replaced as a whole.
#[derive(Debug)]
pub(crate) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> From<Option<Arc<T>>> for ArcSwapOption<T> {
    fn from(value: Option<Arc<T>>) -> Self {
        Self(Mutex::new(value))
    }
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self::from(None)
    }

    pub(crate) fn load(&self) -> Option<Arc<T>> {
        self.load_full()
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// The worker's thread. What makes snapshots shares nothing with callers, and `runtime` has it
/// under the checker.
#[derive(Debug)]
pub(crate) struct Threads(thread::JoinHandle<()>);

impl Threads {
    pub(crate) fn start(
        _ending: &Ending,
        _snapshots: (&str, Run),
        worker: (&str, Run),
    ) -> Result<Self, LogError> {
        Ok(Self(thread::spawn(worker.1)))
    }

    pub(crate) fn join(self) {
        self.0.join().expect("the worker ends in order");
    }
}
