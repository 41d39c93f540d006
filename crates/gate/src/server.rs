//! The bound listeners of a gate, and what protects them.

use crate::{
    api::ATTEMPT,
    attempts::Attempts,
    challenge::Challenges,
    config::Config,
    decisions::Decisions,
    drafts::Drafts,
    filter::Filter,
    front::Fronts,
    hot::Hot,
    keys::Keyring,
    limits::Limits,
    metrics::Metrics,
    parts::{AllParts, Parts},
    passes::Passes,
    ports::{QueueFill, Sales},
    reference,
    shop_page::ShopPage,
    sold_counts::SoldCounts,
    strategy::{Load, Strategy},
    streams::Streams,
    way_back::WaysBack,
};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use web::{
    api_keys::ApiKeys,
    cors::Cors,
    jwt::JwtVerifier,
    limits::{AddressFilter, DenyList},
    operation::Callers,
    pressure::{Memory, Pressure, Watch, crowded_percent},
    problem::Kind,
    protection::{Counters, DRAIN_GRACE, Policy, Protection},
    server::{Buffers, Listening, Tls, listen, listen_once},
    wire::Loops,
};

/// The section of the configuration.
const SECTION: &str = "gate";

/// The most connections on the admin listener: a few people, stores and a scraper.
pub const ADMIN_OPEN_MAX: usize = 1024;
/// Threads of the admin listener. Payments are confirmed there, also while shoppers take all of the
/// others.
const ADMIN_THREADS: usize = 2;

/// The buffers of a shopper's connection: the largest request, with the default limit of its head,
/// fits, and so does a page. A crowd that reads slowly has no more than that.
const OF_SHOPPER: Buffers = Buffers { receive_bytes: 16 << 10, send_bytes: 64 << 10 };
/// Those of an operator's: lists of eligible shoppers come in, and feeds go out.
const OF_OPERATOR: Buffers = Buffers { receive_bytes: 64 << 10, send_bytes: 128 << 10 };

/// How much later than the other listeners the loops may close theirs.
const LOOPS_BEHIND: Duration = Duration::from_millis(50);

/// The fields that a page of another origin may send in addition to those that every page may.
const CORS_HEADERS: &str = "authorization, content-type, floodgate-pass, idempotency-key";

/// What a gate needs.
pub struct Options {
    pub config: Config,
    pub sales: Arc<dyn Sales>,
    pub keys: Arc<Keyring>,
    pub jwt: JwtVerifier,
    pub api_keys: Arc<ApiKeys>,
    pub challenges: Challenges,
    pub denied: DenyList,
    pub memory: Memory,
    pub strategy: Strategy,
    pub drafts: Drafts,
    /// The page sells to any visitor, payment is a sandbox, and loopback has no address limit.
    pub demo: bool,
    pub part: Part,
    /// Connections that may be open on the admin listener: [`ADMIN_OPEN_MAX`], or what the limit of
    /// open files allows.
    pub admin_open_max: usize,
}

/// Which part of a gate is in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Both listeners.
    #[default]
    All,
    /// The operators' listener alone: the gates for shoppers are in other processes.
    Operators,
    /// The shop's listener, on a port that other processes share, and a listener for operators with
    /// what concerns this process.
    Shoppers,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("demo", &self.demo)
            .finish_non_exhaustive()
    }
}

/// Where a server listens. The ports are the real ones, even if 0 was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// None in a process with the operators' listener alone.
    pub shop: Option<SocketAddr>,
    /// The shop over TLS, if `gate.tls.listen` is set.
    pub tls: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// The bound listeners, and what they serve.
#[derive(Debug)]
pub struct Server {
    /// One for each loop, all on the same port.
    shop: Vec<std::net::TcpListener>,
    tls: Option<(std::net::TcpListener, Arc<Tls>)>,
    admin: std::net::TcpListener,
    admin_open_max: usize,
    bound: Bound,
    parts: Parts,
    part: Part,
    drain: watch::Sender<bool>,
}

/// The gate's decisions about connections, and its counts.
struct GatePolicy {
    metrics: Arc<Metrics>,
    strategy: Arc<Strategy>,
}

impl Policy for GatePolicy {
    fn is_hurried(&self) -> bool {
        self.strategy.is_hurried()
    }

    fn closes(&self) -> bool {
        self.strategy.closes()
    }

    fn keeps(&self, operation: &'static str) -> bool {
        operation == ATTEMPT
    }

    fn took(&self, operation: &'static str, time: Duration) {
        self.metrics.took(operation, time);
    }

    fn refused(&self, kind: &'static Kind) {
        self.metrics.refused(kind);
    }
}

/// Binds the listeners. Connections are queued by the kernel from here on, and answered by
/// [`Server::run`].
pub fn bind(options: Options) -> io::Result<Server> {
    let Options { config, sales, keys, jwt, api_keys, challenges, denied, memory, strategy, .. } = options;
    let Options { demo, part, admin_open_max, drafts, .. } = options;
    if part != Part::Shoppers {
        drafts.settle(&*sales);
    }
    let connections = &config.connections;
    let is_shared = part == Part::Shoppers;
    let (shop, shop_address) = match part {
        Part::Operators => (Vec::new(), None),
        Part::All | Part::Shoppers => {
            let (backlog, threads) = (connections.backlog, connections.threads());
            let at = config.shop_listen;
            let (shop, at) = listen("gate.shop_listen", at, backlog, threads, is_shared, OF_SHOPPER)?;
            (shop, Some(at))
        }
    };
    let (admin, admin_address) =
        listen_once("gate.admin_listen", config.admin_listen, 128, false, OF_OPERATOR)?;
    let tls = match config.tls.address().filter(|_| part != Part::Operators) {
        Some(at) => Some(listen_once("gate.tls.listen", at, connections.backlog, is_shared, OF_SHOPPER)?),
        None => None,
    };
    let bound = Bound { shop: shop_address, tls: tls.as_ref().map(|(_, at)| *at), admin: admin_address };
    let (drain, draining) = watch::channel(false);
    let (metrics, strategy) = (Arc::new(Metrics::new(&reference::ids())), Arc::new(strategy));
    let clock = Arc::clone(&sales);
    let (limits, open_max) = (config.limits.addresses(), connections.open_max);
    let protection = Arc::new(Protection {
        section: SECTION,
        addresses: Arc::new(AddressFilter::new(&limits, open_max, demo, denied)),
        pressure: Arc::new(Pressure::new(memory, connections.memory_mark_percent, open_max)),
        cors: Arc::new(Cors::new(&config.allowed_origins, CORS_HEADERS)),
        api_keys: Arc::clone(&api_keys),
        counters: Counters::default(),
        policy: Arc::new(GatePolicy { metrics: Arc::clone(&metrics), strategy: Arc::clone(&strategy) }),
        draining,
        turn_ms_max: AtomicU32::new(0),
        is_https: config.public_origin.starts_with("https://"),
        clock: Arc::new(move || clock.now()),
        settings: connections.clone(),
    });
    let tls = match tls {
        Some((listener, _)) => {
            Some((listener, Arc::new(Tls::open(SECTION, &config.tls, &protection.counters)?)))
        }
        None => None,
    };
    let filter = Filter::new(&config.limits, &config.risk, Arc::clone(&protection.addresses));
    let limits = Arc::new(Limits::new(filter, &strategy, &protection));
    let fronts = Arc::new(Fronts::new(&sales, &keys));
    let passes = Arc::new(Passes {
        keys: Arc::clone(&keys),
        jwt,
        challenges,
        ttl_seconds: config.pass_ttl_seconds,
        limits: Arc::clone(&limits),
        strategy: Arc::clone(&strategy),
        metrics: Arc::clone(&metrics),
        protection: Arc::clone(&protection),
    });
    let decisions = Arc::new(Decisions {
        strategy: Arc::clone(&strategy),
        limits: Arc::clone(&limits),
        metrics: Arc::clone(&metrics),
        protection: Arc::clone(&protection),
        wait_ms: config.decision_wait_ms,
    });
    let attempts = Arc::new(Attempts {
        fronts: Arc::clone(&fronts),
        limits: Arc::clone(&limits),
        passes: Arc::clone(&passes),
        decisions: Arc::clone(&decisions),
        keys: Arc::clone(&keys),
    });
    let ways_back = Arc::new(WaysBack {
        keys: Arc::clone(&keys),
        return_urls: config.return_urls,
        protection: Arc::clone(&protection),
    });
    let shop_page = Arc::new(ShopPage {
        attempts: Arc::clone(&attempts),
        ways_back: Arc::clone(&ways_back),
        protection: Arc::clone(&protection),
        demo,
        public_origin: config.public_origin,
        shop_url: config.shop_url,
        sold_counts: SoldCounts::default(),
    });
    let streams = Arc::new(Streams::new(&protection));
    let parts = Parts(Arc::new(AllParts {
        fronts,
        drafts: Arc::new(drafts),
        limits,
        passes,
        decisions,
        attempts,
        streams,
        ways_back,
        shop_page,
        keys,
        strategy,
        metrics,
        protection,
        api_keys,
    }));
    Ok(Server { shop, tls, admin, admin_open_max, bound, parts, part, drain })
}

impl Server {
    /// Where it listens.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Serves until `shutdown` is ready, then waits at most `gate.connections.drain_seconds` for
    /// open requests to end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let parts = &self.parts;
        let protection = &parts.protection;
        let of_operators = match self.part {
            Part::All | Part::Operators => reference::of_operators(),
            Part::Shoppers => reference::of_a_gate(),
        };
        let listening = |operations, callers, open_max| {
            Arc::new(Listening::new(protection, operations, parts.clone(), callers, open_max))
        };
        let shop = listening(reference::of_shop(), Callers::Public, protection.settings.open_max);
        let admin = listening(of_operators, Callers::Operators, self.admin_open_max);
        let tls = self.tls.map(|(listener, tls)| (listener, Arc::new(shop.over_tls(Arc::clone(&tls))), tls));
        // Room for all connections that may be open, so that a loop never waits for axum.
        let (to_axum, from_loops) = mpsc::channel(shop.open_max());
        let hot = |inbox: &_| Hot::new(parts, inbox);
        let loops = Loops::start(protection, self.shop, shop.permits(), &to_axum, hot)?;
        let relieved = [Some(&admin), tls.as_ref().map(|(_, listening, _)| listening)];
        let relieved: Vec<_> = relieved.into_iter().flatten().map(Arc::clone).collect();
        let wake = loops.waker();
        let relieve = move || {
            wake();
            relieved.iter().for_each(|listening| listening.relieve());
        };
        let at_look = at_look(parts.clone());
        let of = Arc::clone(protection);
        let open = move || of.open();
        let watch = Watch::start(SECTION, Arc::clone(&protection.pressure), open, at_look, relieve)?;
        // Until the end: they are cut off when the set is dropped.
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(Arc::clone(&shop).serve_travelling(from_loops));
        beside.spawn(Arc::clone(protection).note_lateness());
        let threads = OperatorsThreads::start()?;
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn_on(Arc::clone(&admin).accept(self.admin), threads.handle());
        if let Some((listener, listening, tls)) = tls {
            accepting.spawn(listening.accept(listener));
            let protection = Arc::clone(protection);
            beside.spawn(async move { tls.watch(&protection.counters, || protection.now()).await });
        }
        shutdown.await;
        loops.drain();
        self.drain.send_replace(true);
        let closed = async {
            // Until then connections are accepted. The loops begin a moment later than this does.
            tokio::time::sleep(DRAIN_GRACE + LOOPS_BEHIND).await;
            while accepting.join_next().await.is_some() {}
            shop.all_closed().await;
            admin.all_closed().await;
        };
        let limit = Duration::from_secs(protection.settings.drain_seconds);
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!(
                seconds = limit.as_secs(),
                "drained for as long as allowed: requests were cut off"
            );
        }
        drop((beside, threads));
        tokio::task::spawn_blocking(|| {
            drop(watch);
            loops.end();
        })
        .await
        .map_err(io::Error::other)
    }
}

/// The threads of the operators' listener.
struct OperatorsThreads(Option<tokio::runtime::Runtime>);

impl OperatorsThreads {
    fn start() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(ADMIN_THREADS).thread_name("gate-admin").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("it is there until it is dropped").handle()
    }
}

impl Drop for OperatorsThreads {
    fn drop(&mut self) {
        // It is dropped on a thread of another runtime, which must not wait for it.
        self.0.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

/// What happens at each check of memory: orders of the operators are read, and the stage is chosen.
fn at_look(parts: Parts) -> impl FnMut() + Send + 'static {
    let mut orders_said = false;
    move || {
        // If the gates have separate processes, operators give their orders to another process.
        match parts.protection.addresses.denied().refresh().and(parts.strategy.refresh()) {
            Ok(()) => orders_said = false,
            Err(error) if !orders_said => {
                orders_said = true;
                tracing::error!(%error, "what operators ordered cannot be read: what held before goes on");
            }
            Err(_) => {}
        }
        parts.strategy.look(load(&parts), parts.protection.now());
    }
}

/// How much of each resource is used.
fn load(parts: &Parts) -> Load {
    let percent = |part: u64, whole: u64| (part.saturating_mul(100) / whole.max(1)).min(1000) as u32;
    let protection = &parts.protection;
    let open = protection.open();
    let fullest = parts.fronts.each().map(|(_, sale)| {
        let QueueFill { length, max, .. } = sale.queue();
        percent(length, max)
    });
    Load {
        queue: fullest.max().unwrap_or(0),
        connections: crowded_percent(open, protection.settings.open_max as u64),
        memory: protection.pressure.load_percent(open),
        lag: parts.strategy.load().next_lag(protection.turn_ms_max.swap(0, Relaxed)),
    }
}
