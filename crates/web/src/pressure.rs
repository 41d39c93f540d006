//! How much memory the process uses, and what happens when it is too much: idle connections are
//! closed first, then new ones. A thread of low priority checks a few times a second; the
//! connection loops act.
//!
//! Sales and their logs use memory too, which closing connections does not free. So no connection
//! is closed while there are few.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How often memory is checked; and while no connection is open, so that there is none to close.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(1);
/// Checks above the mark after which new connections are closed too. By then the memory of closed
/// connections has been freed.
const LOOKS_UNTIL_SHEDDING: u32 = 4;
/// The pressure ends below this part of the mark, so that it does not begin again at once.
const OVER_PERCENT: u64 = 90;
/// Connections that a loop closes at each check.
pub const CLOSED_AT_ONCE: usize = 256;
/// With this many connections or fewer, none is closed for memory; nor with fewer than an eighth of
/// the maximum.
const FEW: usize = 1024;
/// How long a connection may be idle between two requests while memory is short, or while the gate
/// is under load.
const HURRIED_IDLE_SECONDS: u32 = 15;

/// The process's memory, as the program that starts the server measures it.
#[derive(Clone)]
pub struct Memory {
    /// Bytes in use now. Called up to a few times a second.
    pub resident_bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Bytes that it may use.
    pub limit_bytes: u64,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("limit_bytes", &self.limit_bytes).finish_non_exhaustive()
    }
}

/// The result of the last check, for the loops.
#[derive(Debug)]
pub struct Pressure {
    memory: Memory,
    pub mark_bytes: u64,
    few: u64,
    pub resident_bytes: AtomicU64,
    above: AtomicBool,
    sheds: AtomicBool,
    /// Checks that found too much memory in use.
    looks_above: AtomicU64,
    pub idle_closed: AtomicU64,
    pub new_closed: AtomicU64,
}

/// A change that is worth a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Above,
    Sheds,
    Over,
}

impl Pressure {
    pub fn new(memory: Memory, mark_percent: u64, open_max: usize) -> Self {
        Self {
            mark_bytes: memory.limit_bytes / 100 * mark_percent,
            few: FEW.min(open_max / 8) as u64,
            memory,
            resident_bytes: AtomicU64::new(0),
            above: AtomicBool::new(false),
            sheds: AtomicBool::new(false),
            looks_above: AtomicU64::new(0),
            idle_closed: AtomicU64::new(0),
            new_closed: AtomicU64::new(0),
        }
    }

    /// How much of the mark is used, in percent.
    pub fn load_percent(&self, open: u64) -> u32 {
        // Memory of a sale is not caused by a crowd.
        if open <= self.few {
            return 0;
        }
        let percent = self.resident_bytes.load(Relaxed).saturating_mul(100) / self.mark_bytes.max(1);
        percent.min(1000) as u32
    }

    pub fn is_above(&self) -> bool {
        self.above.load(Relaxed)
    }

    /// Whether new connections are closed, with this many open.
    pub fn sheds(&self, open: u64) -> bool {
        self.sheds.load(Relaxed) && open > self.few
    }

    /// The number of the check, if it found too much memory in use and there are enough connections
    /// to close some.
    pub fn closing(&self, open: u64) -> Option<u64> {
        (self.is_above() && open > self.few).then(|| self.looks_above.load(Relaxed))
    }

    /// How long a connection may be idle while memory is short.
    pub fn idle_seconds(configured: u32, hurried: bool) -> u32 {
        if hurried { configured.min(HURRIED_IDLE_SECONDS) } else { configured }
    }

    fn look(&self, looks: &mut u32) -> Option<Change> {
        let resident = (self.memory.resident_bytes)();
        self.resident_bytes.store(resident, Relaxed);
        let was_above = self.is_above();
        if resident < self.mark_bytes {
            *looks = 0;
            let over = resident < self.mark_bytes / 100 * OVER_PERCENT;
            if was_above && over {
                self.above.store(false, Relaxed);
                self.sheds.store(false, Relaxed);
                return Some(Change::Over);
            }
            return None;
        }
        *looks += 1;
        self.looks_above.fetch_add(1, Relaxed);
        self.above.store(true, Relaxed);
        if !was_above {
            return Some(Change::Above);
        }
        let begins = *looks >= LOOKS_UNTIL_SHEDDING && !self.sheds.swap(true, Relaxed);
        begins.then_some(Change::Sheds)
    }
}

/// The thread that checks, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it, for a server of this section of the configuration. At each check it calls
    /// `at_look`, and `relieve` while memory is above the mark. `open` is how many connections are
    /// open.
    pub fn start(
        section: &'static str,
        pressure: Arc<Pressure>,
        open: impl Fn() -> u64 + Send + 'static,
        mut at_look: impl FnMut() + Send + 'static,
        relieve: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let run = move || watch(section, &pressure, &open, &mut at_look, &relieve, &stopped);
        let thread = std::thread::Builder::new().name(format!("{section}-watch")).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches memory panicked");
        }
    }
}

fn watch(
    section: &str,
    pressure: &Pressure,
    open: &dyn Fn() -> u64,
    at_look: &mut dyn FnMut(),
    relieve: &dyn Fn(),
    stopped: &Receiver<()>,
) {
    if let Err(error) = engines::background::lower_priority() {
        tracing::warn!(%error, "memory is looked at with the usual priority");
    }
    let mut looks = 0;
    loop {
        let is_idle = open() == 0 && !pressure.is_above();
        let every = if is_idle { LOOK_EVERY_IDLE } else { LOOK_EVERY };
        if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let change = pressure.look(&mut looks);
        let (resident_mib, mark_mib) =
            (pressure.resident_bytes.load(Relaxed) >> 20, pressure.mark_bytes >> 20);
        match change {
            Some(Change::Above) => tracing::warn!(
                resident_mib,
                mark_mib,
                "memory is above the mark ({section}.connections.memory_mark_percent): idle connections are closed, those that rest longest first"
            ),
            Some(Change::Sheds) => {
                tracing::warn!(
                    resident_mib,
                    mark_mib,
                    "memory is still above the mark: new connections are closed"
                );
            }
            Some(Change::Over) => tracing::warn!(resident_mib, mark_mib, "memory is below the mark again"),
            None => {}
        }
        at_look();
        if pressure.is_above() {
            relieve();
        }
    }
}

/// How much of the last fifth of the connections is in use, in percent. A crowd that waits for the
/// opening is within the planned room, and is no load.
pub fn crowded_percent(open: u64, open_max: u64) -> u32 {
    let last = open_max.div_ceil(5).max(1);
    (open.saturating_sub(open_max - last.min(open_max)).saturating_mul(100) / last).min(100) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_pressure_begins_at_the_mark_and_ends_well_below_it() {
        let now = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&now);
        let memory = Memory { resident_bytes: Arc::new(move || read.load(Relaxed)), limit_bytes: 200_000 };
        let pressure = Pressure::new(memory, 50, 60_000);
        let mut looks = 0;
        let mut look = |resident: u64| {
            now.store(resident, Relaxed);
            let change = pressure.look(&mut looks);
            (change, pressure.is_above(), pressure.sheds(2000))
        };
        assert_eq!(look(99_999), (None, false, false));
        assert_eq!(look(100_000), (Some(Change::Above), true, false));
        assert_eq!(look(95_000), (None, true, false), "not over yet");
        assert_eq!(look(101_000), (None, true, false), "and no second line");
        assert_eq!([look(101_000), look(101_000)], [(None, true, false); 2]);
        assert_eq!(look(101_000), (Some(Change::Sheds), true, true));
        assert_eq!(look(95_000), (None, true, true));
        assert_eq!(look(89_999), (Some(Change::Over), false, false));
        assert_eq!(look(150_000), (Some(Change::Above), true, false));
        assert_eq!([0, 80, 90, 96, 99, 100].map(|open| crowded_percent(open, 100)), [0, 0, 50, 80, 95, 100]);
        assert_eq!([0, 1, 2].map(|open| crowded_percent(open, 1)), [0, 100, 100]);
        assert_eq!((pressure.load_percent(2000), pressure.load_percent(1024)), (150, 0));
        assert!(
            pressure.closing(1024).is_none() && pressure.closing(1025).is_some(),
            "with few connections open"
        );
    }
}
