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
use runtime::{Handle, RecoverError, Service, service::Settings};
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
    listening: Arc<Listening>,
    watch: Watch,
    parts: Parts,
    drain: watch::Sender<bool>,
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
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    needs: Needs,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The options, as far as a start needs them: it may be tried several times.
struct Needs {
    config: Config,
    connections: ConnectionsConfig,
    addresses: Arc<AddressFilter>,
    api_keys: Arc<ApiKeys>,
    memory: Memory,
    clock: Arc<dyn Clock>,
    reserved: Vec<TopicId>,
}

/// The message service could not be started. Nothing of it runs, and its log is closed; it can be
/// tried again.
#[derive(Debug)]
pub struct NotStarted {
    pub bound: Bound,
    pub error: io::Error,
}

/// Binds the listener.
pub fn bind(options: Options) -> io::Result<Bound> {
    let wanted = options.config.address().ok_or_else(|| io::Error::other("notify.listen: no address"))?;
    let backlog = options.connections.backlog.min(1024);
    let (listener, address) = listen_once("notify.listen", wanted, backlog, false, BUFFERS)?;
    let Options { config, connections, limits, api_keys, denied, memory, clock, exempts_loopback, reserved } =
        options;
    let addresses = Arc::new(AddressFilter::new(&limits, config.open_max, exempts_loopback, denied));
    let connections = ConnectionsConfig { open_max: config.open_max, ..connections };
    let reserved = [reserved, vec![alerts::topic()]].concat();
    let needs = Needs { config, connections, addresses, api_keys, memory, clock, reserved };
    Ok(Bound { listener, address, needs })
}

impl Bound {
    /// Where it listens. The port is the real one, even if 0 was configured.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads what a start needs besides the log, which may be long. `data` is the directory of the
    /// keys. The error names the file or the setting, and what to do.
    pub fn prepare(&self, data: &Path) -> io::Result<Prepared> {
        let config = &self.needs.config;
        let secrets = Secrets::open(data)?;
        let pusher = Arc::new(Pusher::new(config.push())?);
        let of_tenants = Arc::new(pusher.beside(config.push_of_tenants())?);
        let tester = Tester::new(&pusher, config.push(), config.push_of_tenants(), config.tests_max())?;
        Ok(Prepared { secrets, pusher, of_tenants, tester })
    }

    /// Starts to deliver, within a runtime of tokio.
    pub fn start(self, recovered: Recovered, prepared: Prepared) -> Result<Server, Box<NotStarted>> {
        let Recovered { service, bodies, reader, for_streams } = recovered;
        match self.needs.assemble(service.handle(), (bodies, reader, for_streams), prepared) {
            Ok(Assembled { courier, courier_ends, listening, watch, parts, drain }) => {
                let listener = self.listener;
                Ok(Server { service, courier, courier_ends, listener, listening, watch, parts, drain })
            }
            Err(error) => {
                service.stop();
                Err(Box::new(NotStarted { bound: self, error }))
            }
        }
    }
}

/// What a start needs besides the log.
#[derive(Debug)]
pub struct Prepared {
    secrets: Secrets,
    pusher: Arc<Pusher>,
    of_tenants: Arc<Pusher>,
    tester: Tester,
}

/// What runs beside the worker.
struct Assembled {
    courier: JoinHandle<()>,
    courier_ends: watch::Sender<bool>,
    listening: Arc<Listening>,
    watch: Watch,
    parts: Parts,
    drain: watch::Sender<bool>,
}

impl Needs {
    /// Makes everything but the worker. The courier comes last: all else ends when it is dropped.
    fn assemble(
        &self,
        handle: Handle<Notify>,
        (bodies, reader, for_streams): (Bodies, Box<dyn LogRead>, Box<dyn LogRead>),
        prepared: Prepared,
    ) -> io::Result<Assembled> {
        let Self { config, connections, addresses, api_keys, memory, clock, reserved } = self;
        let Prepared { secrets, pusher, of_tenants, tester } = prepared;
        let reader = LogReader::start(reader, READS_MAX + config.in_flight_max)?;
        let streams = Streams::start(config.streams(), for_streams)?;
        let (drain, draining) = watch::channel(false);
        let mut counted = Registry::default();
        let kinds = problem::all_kinds();
        let counts = Arc::new(ServerMetrics::new(NAMING, &kinds, &reference::ids(), &mut counted));
        let (clock, now) = (Arc::clone(clock), Arc::clone(clock));
        let protection = Arc::new(Protection {
            section: SECTION,
            addresses: Arc::clone(addresses),
            pressure: Arc::new(Pressure::new(
                memory.clone(),
                connections.memory_mark_percent,
                config.open_max,
            )),
            cors: Arc::new(Cors::new(&[], "")),
            api_keys: Arc::clone(api_keys),
            counters: Counters::default(),
            policy: Arc::new(Counting(Arc::clone(&counts))),
            draining,
            turn_ms_max: AtomicU32::new(0),
            is_https: false,
            clock: Arc::new(move || now.now()),
            settings: connections.clone(),
        });
        let running = Running::new(
            handle.clone(),
            reader.clone(),
            secrets.clone(),
            reserved.clone(),
            Arc::new(Quotas::new(config.limits())),
            streams,
            tester,
        );
        let parts = Parts(Arc::new(AllParts {
            running: Arc::new(running),
            protection: Arc::clone(&protection),
            api_keys: Arc::clone(api_keys),
            counts,
            counted,
        }));
        let operations = reference::operations_served();
        let listening = Arc::new(Listening::new(
            &protection,
            operations,
            parts.clone(),
            Callers::Operators,
            config.open_max,
        ));
        let relieved = Arc::clone(&listening);
        let at_look = {
            let addresses = Arc::clone(addresses);
            // What operators deny is noticed here; what cannot be read is said by the gate.
            move || drop(addresses.denied().refresh())
        };
        let (pressure, of) = (Arc::clone(&protection.pressure), protection);
        let (open, relieve) = (move || of.open(), move || relieved.relieve());
        let watch = Watch::start(SECTION, pressure, open, at_look, relieve)?;
        let (courier_ends, ends) = watch::channel(false);
        let in_flight_max = config.in_flight_max;
        let courier = Courier { handle, bodies, reader, pusher, of_tenants, secrets, clock, in_flight_max };
        let courier = courier.start(ends)?;
        Ok(Assembled { courier, courier_ends, listening, watch, parts, drain })
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
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(Arc::clone(&protection).note_lateness());
        beside.spawn(filler::run(self.running()));
        let clock = Arc::clone(&protection);
        beside.spawn(alerts::run(self.running(), move || clock.now()));
        let Self { service, courier, courier_ends, listener, listening, watch, parts, drain } = self;
        drop(parts);
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(Arc::clone(&listening).accept(listener));
        let failed = tokio::select! {
            () = shutdown => None,
            // It accepts until the server drains, or not at all.
            ended = accepting.join_next() => Some(match ended {
                Some(Ok(Err(error))) => error,
                _ => io::Error::other("accept connections: ended"),
            }),
        };
        drain.send_replace(true);
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
        courier_ends.send_replace(true);
        tokio::task::spawn_blocking(move || {
            drop(watch);
            // Bounded by the time of one attempt.
            if courier.join().is_err() {
                tracing::error!("the courier panicked");
            }
            service.stop();
        })
        .await
        .map_err(io::Error::other)?;
        failed.map_or(Ok(()), Err)
    }
}
