//! What protects a listener: limits of addresses and connections, the memory mark, timeouts,
//! counters. A context composes it once, and gives it to all listeners for one kind of caller.

use crate::{
    api_keys::ApiKeys,
    config::ConnectionsConfig,
    cors::Cors,
    limits::{AddressFilter, TooMany},
    pressure::Pressure,
    problem::{Kind, Problem, RATE_LIMITED},
};
use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;
use units::TimeMs;

/// How often it is measured how late tasks are, and while no connection is open.
const LATENESS_EVERY: Duration = Duration::from_millis(100);
const LATENESS_EVERY_IDLE: Duration = Duration::from_secs(1);

/// A context's decisions about connections while it is under load, and its counts.
pub trait Policy: Send + Sync {
    /// Whether idle connections are closed soon now.
    fn is_hurried(&self) -> bool {
        false
    }

    /// Whether an answer that is not worth an open connection ends its connection now.
    fn closes(&self) -> bool {
        false
    }

    /// Whether answers of the operation with this id are worth an open connection.
    fn keeps(&self, operation: &'static str) -> bool;

    /// Records how long a request for this operation took; [`NO_OPERATION`] if the table has none
    /// for it.
    fn took(&self, operation: &'static str, time: Duration);

    /// Counts a problem document that was sent.
    fn refused(&self, kind: &'static Kind);
}

/// Stands for the operation of a request for which the table has none.
pub const NO_OPERATION: &str = "none";
/// Stands for pages and the files that they load.
pub const PAGE: &str = "page";
/// Stands for preflights.
pub const PREFLIGHT: &str = "preflight";

/// Counts of connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open now.
    pub connections: AtomicU64,
    /// Closed because the most connections that are allowed were open.
    pub connections_refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Changes of the certificate's files that could not be used.
    pub certificate_failures: AtomicU64,
    /// When the certificate expires, in seconds since 1970; 0 if there is none.
    pub certificate_expires_seconds: AtomicU64,
}

/// What protects the listeners of one kind of caller.
pub struct Protection {
    /// The section of the configuration with its settings, for messages.
    pub section: &'static str,
    pub settings: ConnectionsConfig,
    pub addresses: Arc<AddressFilter>,
    pub pressure: Arc<Pressure>,
    pub cors: Arc<Cors>,
    /// The keys of operators.
    pub api_keys: Arc<ApiKeys>,
    pub counters: Counters,
    pub policy: Arc<dyn Policy>,
    /// True once the server drains.
    pub draining: watch::Receiver<bool>,
    /// The longest turn of a loop, and the most that the runtime was late for a timer, since this
    /// value was last taken, in milliseconds. A runtime is late when all of its threads are busy.
    pub turn_ms_max: AtomicU32,
    /// Whether browsers may be told to use TLS only.
    pub is_https: bool,
    pub clock: Arc<dyn Fn() -> TimeMs + Send + Sync>,
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Protection {
    /// The time, which never runs backwards.
    pub fn now(&self) -> TimeMs {
        (self.clock)()
    }

    /// Notes how late the tasks of a runtime are, as the loops note their turns: TLS connections
    /// have no loop. It never ends.
    pub async fn note_lateness(self: Arc<Self>) {
        loop {
            let is_idle = self.counters.connections.load(Relaxed) == 0;
            let every = if is_idle { LATENESS_EVERY_IDLE } else { LATENESS_EVERY };
            let due = tokio::time::Instant::now() + every;
            tokio::time::sleep_until(due).await;
            self.turn_ms_max.fetch_max(due.elapsed().as_millis() as u32, Relaxed);
        }
    }

    /// How long a connection may be idle between two requests now.
    pub fn idle_seconds(&self) -> u32 {
        let configured = self.settings.idle_timeout_seconds as u32;
        Pressure::idle_seconds(configured, self.pressure.is_above() || self.policy.is_hurried())
    }

    /// How long the body of a request may take to arrive.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.body_timeout_seconds)
    }

    /// Refuses while the server drains.
    pub fn refuse_draining(&self) -> Result<(), Problem> {
        match *self.draining.borrow() {
            true => Err(Problem::unavailable("the server is stopping")),
            false => Ok(()),
        }
    }

    /// How long an idle connection of this peer stays open while the server drains. A balancer
    /// keeps idle connections for its next requests, and a request on one that is just being closed
    /// is lost to it: such a connection ends with its next answer, or just before the drain does.
    pub fn drain_patience(&self, peer: IpAddr) -> Duration {
        let all = Duration::from_secs(self.settings.drain_seconds);
        match self.addresses.is_trusted(peer) {
            true => all.saturating_sub(Duration::from_secs(1)).max(DRAIN_GRACE),
            false => DRAIN_GRACE,
        }
    }

    /// Lets an address send a request of any kind, or refuses it as too many.
    pub fn let_read(&self, address: IpAddr, now: TimeMs) -> Result<(), Problem> {
        self.addresses.ask_any(address, now).map_err(of_too_many)
    }

    /// The same for requests of which fewer are let in.
    pub(crate) fn let_ask(&self, address: IpAddr, now: TimeMs) -> Result<(), Problem> {
        self.addresses.ask(address, 1, now).map_err(of_too_many)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.counters.connections.load(Relaxed)
    }

    /// Whether a new connection is closed at once, because memory is short; it is counted.
    pub fn sheds(&self) -> bool {
        let sheds = self.pressure.sheds(self.open());
        if sheds {
            self.pressure.new_closed.fetch_add(1, Relaxed);
        }
        sheds
    }
}

fn of_too_many(too_many: TooMany) -> Problem {
    let why = "too many requests from this address or its network: wait as Retry-After says";
    Problem::new(&RATE_LIMITED, why).retry_after(too_many.wait_seconds)
}

/// How long a server that drains still accepts connections and waits for requests on idle ones.
/// What was sent before the client could know has then arrived, and is answered: closing at once
/// would reset it.
pub const DRAIN_GRACE: Duration = Duration::from_millis(300);

/// Ready once the server drains.
pub async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|d| *d).await;
}

/// Ready once the server has drained for this long.
pub async fn drained_for(draining: &mut watch::Receiver<bool>, patience: Duration) {
    drained(draining).await;
    tokio::time::sleep(patience).await;
}
