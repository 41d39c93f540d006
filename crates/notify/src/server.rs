//! The message service as it runs: its log's worker, its courier, and the listener.

use crate::{
    alerts,
    bodies::{Bodies, LogReader},
    config::Config,
    core::Notify,
    courier::{Courier, Secrets},
    filler,
    parts::{AllParts, Parts, Running},
    problem::{self, Kind},
    push::Pusher,
    quotas::Quotas,
    reference,
    streams::Streams,
    test_delivery::Tester,
};
use contracts::TopicId;
use engines::{
    clock::Clock,
    log::{Log, LogRead},
};
use runtime::{RecoverError, Service, service::Settings};
use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicU32},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::watch;
use web::{
    api_keys::ApiKeys,
    config::{AddressLimits, ConnectionsConfig},
    cors::Cors,
    limits::{AddressFilter, DenyList},
    metrics::{Naming, Registry, ServerMetrics},
    operation::Callers,
    pressure::{Memory, Pressure, Watch},
    protection::{Counters, DRAIN_GRACE, Policy, Protection},
    server::{Buffers, Listening, listen_once},
};

const SECTION: &str = "notify";
const NAMING: Naming = Naming { prefix: "floodgate_notify", section: SECTION };
/// Commands that may wait for the worker.
const QUEUE_MAX: usize = 10_000;
/// Reads of the log that may wait, besides those of deliveries.
const READS_MAX: usize = 1024;
/// Entries after which a snapshot is made.
const SNAPSHOT_EVERY: u64 = 500_000;
/// A batch comes in, and lists go out.
const BUFFERS: Buffers = Buffers { receive_bytes: 128 << 10, send_bytes: 128 << 10 };

/// What the message service needs.
pub struct Options {
    pub config: Config,
    /// The limits of connections, of which `open_max` is replaced by that of the section.
    pub connections: ConnectionsConfig,
    pub limits: AddressLimits,
    pub api_keys: Arc<ApiKeys>,
    pub denied: DenyList,
    pub memory: Memory,
    pub clock: Arc<dyn Clock>,
    pub exempts_loopback: bool,
    /// Topics to which only callers in this process post.
    pub reserved: Vec<TopicId>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("config", &self.config).finish_non_exhaustive()
    }
}

struct Counting(Arc<ServerMetrics>);

impl Policy for Counting {
    fn keeps(&self, _operation: &'static str) -> bool {
        true
    }

    fn took(&self, operation: &'static str, time: Duration) {
        self.0.took(operation, time);
    }

    fn refused(&self, kind: &'static Kind) {
        self.0.refused(kind);
    }
}

/// The message service, started.
pub struct Server {
    service: Service<Notify>,
    courier: JoinHandle<()>,
    courier_ends: watch::Sender<bool>,
    listener: std::net::TcpListener,
    parts: Parts,
    drain: watch::Sender<bool>,
    open_max: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("service", &self.service).finish_non_exhaustive()
    }
}

/// The message service, brought back from its log, with readers of it.
pub struct Recovered {
    service: Service<Notify>,
    bodies: Bodies,
    reader: Box<dyn LogRead>,
    for_streams: Box<dyn LogRead>,
}

impl fmt::Debug for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Brings the message service back from its log.
pub fn recover<L: Log + 'static>(log: L, clock: Arc<dyn Clock>) -> Result<Recovered, RecoverError> {
    let (bodies, reader, for_streams) = (Bodies::new(log.reader()), log.reader(), log.reader());
    let settings = Settings { queue_max: QUEUE_MAX, snapshot_every: SNAPSHOT_EVERY };
    let service = Service::<Notify>::start("notify", log, clock, settings)?;
    Ok(Recovered { service, bodies, reader, for_streams })
}

/// The listener, which queues connections until [`Server::run`] answers them.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    options: Options,
}

/// Binds the listener.
pub fn bind(options: Options) -> io::Result<Bound> {
    let wanted = options.config.address().ok_or_else(|| io::Error::other("notify.listen: no address"))?;
    let backlog = options.connections.backlog.min(1024);
    let (listener, address) = listen_once("notify.listen", wanted, backlog, false, BUFFERS)?;
    Ok(Bound { listener, address, options })
}

impl Bound {
    /// Where it listens. The port is the real one, even if 0 was configured.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to deliver. `data` is the directory of the keys.
    pub fn start(self, recovered: Recovered, data: &Path) -> io::Result<Server> {
        let Self { listener, address: _, options } = self;
        let Options {
            config,
            connections,
            limits,
            api_keys,
            denied,
            memory,
            clock,
            exempts_loopback,
            mut reserved,
        } = options;
        reserved.push(alerts::topic());
        let Recovered { service, bodies, reader, for_streams } = recovered;
        let secrets = Secrets::open(data)?;
        let pusher = Arc::new(Pusher::new(config.push())?);
        let of_tenants = Arc::new(Pusher::new(config.push_of_tenants())?);
        let reader = LogReader::start(reader, READS_MAX + config.in_flight_max)?;
        let (courier_ends, ends) = watch::channel(false);
        let (handle, in_flight_max) = (service.handle(), config.in_flight_max);
        let courier = Courier {
            handle: handle.clone(),
            bodies,
            reader: reader.clone(),
            pusher,
            of_tenants,
            secrets: secrets.clone(),
            clock: Arc::clone(&clock),
            in_flight_max,
        };
        let courier = courier.start(ends)?;
        let (drain, draining) = watch::channel(false);
        let mut counted = Registry::default();
        let kinds = problem::all_kinds();
        let counts = Arc::new(ServerMetrics::new(NAMING, &kinds, &reference::ids(), &mut counted));
        let connections = ConnectionsConfig { open_max: config.open_max, ..connections };
        let open_max = config.open_max;
        let protection = Arc::new(Protection {
            section: SECTION,
            addresses: Arc::new(AddressFilter::new(&limits, open_max, exempts_loopback, denied)),
            pressure: Arc::new(Pressure::new(memory, connections.memory_mark_percent, open_max)),
            cors: Arc::new(Cors::new(&[], "")),
            api_keys: Arc::clone(&api_keys),
            counters: Counters::default(),
            policy: Arc::new(Counting(Arc::clone(&counts))),
            draining,
            turn_ms_max: AtomicU32::new(0),
            is_https: false,
            clock: Arc::new(move || clock.now()),
            settings: connections,
        });
        let tester = Tester::new(config.push(), config.push_of_tenants())?;
        let streams = Streams::start(config.streams(), for_streams)?;
        let quotas = Arc::new(Quotas::new(config.limits()));
        let running = Arc::new(Running::new(handle, reader, secrets, reserved, quotas, streams, tester));
        let parts = Parts(Arc::new(AllParts { running, protection, api_keys, counts, counted }));
        Ok(Server { service, courier, courier_ends, listener, parts, drain, open_max })
    }
}

impl Server {
    /// The message service, for callers in this process.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.parts.0.running)
    }

    /// Serves until `shutdown` is ready, then answers the requests that have come, lets deliveries
    /// that are under way end, and closes the log.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let protection = Arc::clone(&self.parts.0.protection);
        let operations = reference::operations_served();
        let listening = Arc::new(Listening::new(
            &protection,
            operations,
            self.parts.clone(),
            Callers::Operators,
            self.open_max,
        ));
        let relieved = Arc::clone(&listening);
        let at_look = {
            let protection = Arc::clone(&protection);
            // What operators deny is noticed here; what cannot be read is said by the gate.
            move || drop(protection.addresses.denied().refresh())
        };
        let of = Arc::clone(&protection);
        let (open, relieve) = (move || of.open(), move || relieved.relieve());
        let watch = Watch::start(SECTION, Arc::clone(&protection.pressure), open, at_look, relieve)?;
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(Arc::clone(&protection).note_lateness());
        beside.spawn(filler::run(self.running()));
        let clock = Arc::clone(&protection);
        beside.spawn(alerts::run(self.running(), move || clock.now()));
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(Arc::clone(&listening).accept(self.listener));
        shutdown.await;
        self.drain.send_replace(true);
        let closed = async {
            tokio::time::sleep(DRAIN_GRACE).await;
            while accepting.join_next().await.is_some() {}
            listening.all_closed().await;
        };
        let limit = Duration::from_secs(protection.settings.drain_seconds);
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!(seconds = limit.as_secs(), "message service: requests were cut off");
        }
        drop(beside);
        self.courier_ends.send_replace(true);
        let (courier, service) = (self.courier, self.service);
        tokio::task::spawn_blocking(move || {
            drop(watch);
            // Bounded by the time of one attempt.
            if courier.join().is_err() {
                tracing::error!("the courier panicked");
            }
            service.stop();
        })
        .await
        .map_err(io::Error::other)
    }
}
