//! The listeners of a gate, bound, and what protects them.

use crate::{
    admin, api,
    challenge::Challenges,
    config::Config,
    hot::Hot,
    keys::Keyring,
    metrics::{Metrics, RouteClass},
    page,
    ports::{QueueFill, Sales},
    state::{Gate, Parts},
    strategy::{Load, Strategy},
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
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use web::{
    api_keys::ApiKeys,
    cors::{Cors, preflights},
    jwt::JwtVerifier,
    limits::{AddressFilter, DenyList},
    pressure::{Memory, Pressure, Watch, crowded_percent},
    problem::Kind,
    protection::{Counters, Policy, Protection},
    server::{Callers, Listening, Tls, listen, listen_once},
    wire::Loops,
};

/// Connections on the admin listener: a few people, stores and a scraper.
const ADMIN_OPEN_MAX: usize = 1024;

/// What the kernel keeps of a shopper's connection until it is read: the largest request, with its
/// head's default limit, fits. By itself the kernel keeps ten times that and more, which adds up
/// where a flood is read slowly.
const UNREAD_BYTES_MAX: usize = 16 << 10;

/// What a page of another origin may send beside what every page may.
const CORS_HEADERS: &str = "authorization, content-type, floodgate-pass, idempotency-key";

/// What a gate is made of.
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
    /// The page sells to whoever comes, payment is a sandbox, and loopback has no address limit.
    pub demo: bool,
    pub part: Part,
}

/// What of a gate is in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Both listeners.
    #[default]
    All,
    /// The operators' listener alone: shoppers come to gates in processes of their own.
    Operators,
    /// The shop's listener, on a port that other processes share, and of the operators' what is
    /// about this process.
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

/// Where a server listens; the ports are real even if 0 was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// None in a process that has the operators' listener alone.
    pub shop: Option<SocketAddr>,
    /// The shop behind TLS, if `gate.tls.listen` says where.
    pub tls: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// The listeners, bound, and all that answers on them.
#[derive(Debug)]
pub struct Server {
    /// One for each loop, all of the same port.
    shop: Vec<std::net::TcpListener>,
    tls: Option<(TcpListener, Arc<Tls>)>,
    admin: TcpListener,
    bound: Bound,
    gate: Arc<Gate>,
    part: Part,
    drain: watch::Sender<bool>,
}

/// What the gate decides and counts of connections.
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

    fn class_of(&self, path: &str) -> u8 {
        RouteClass::of_path(path) as u8
    }

    fn keeps(&self, class: u8) -> bool {
        class == RouteClass::Attempt as u8
    }

    fn took(&self, class: u8, time: Duration) {
        let class = if self.keeps(class) { RouteClass::Attempt } else { RouteClass::Other };
        self.metrics.took(class, time);
    }

    fn refused(&self, kind: &'static Kind) {
        self.metrics.refused(kind);
    }
}

/// Binds the listeners. Connections are queued by the kernel from here on, and answered by
/// [`Server::run`].
pub fn bind(options: Options) -> io::Result<Server> {
    let Options { config, sales, keys, jwt, api_keys, challenges, denied, memory, strategy, demo, part } =
        options;
    let connections = &config.connections;
    let is_shared = part == Part::Shoppers;
    let (shop, shop_address) = match part {
        Part::Operators => (Vec::new(), None),
        Part::All | Part::Shoppers => {
            let (backlog, threads) = (connections.backlog, connections.threads());
            let (shop, at) = listen("gate.shop_listen", config.shop_listen, backlog, threads, is_shared)?;
            // Accepted sockets inherit it.
            for listener in &shop {
                socket2::SockRef::from(listener).set_recv_buffer_size(UNREAD_BYTES_MAX)?;
            }
            (shop, Some(at))
        }
    };
    let (admin, admin_address) = listen_once("gate.admin_listen", config.admin_listen, 128, false)?;
    let tls = match config.tls.address().filter(|_| part != Part::Operators) {
        Some(address) => Some(listen_once("gate.tls.listen", address, connections.backlog, is_shared)?),
        None => None,
    };
    let bound = Bound { shop: shop_address, tls: tls.as_ref().map(|(_, at)| *at), admin: admin_address };
    let (drain, draining) = watch::channel(false);
    let (metrics, strategy) = (Arc::new(Metrics::new()), Arc::new(strategy));
    let clock = Arc::clone(&sales);
    let (limits, open_max) = (config.limits.addresses(), connections.open_max);
    let protection = Arc::new(Protection {
        addresses: Arc::new(AddressFilter::new(&limits, open_max, demo, denied)),
        pressure: Arc::new(Pressure::new(memory, connections.memory_mark_percent, open_max)),
        cors: Arc::new(Cors::new(&config.allowed_origins, CORS_HEADERS)),
        counters: Counters::default(),
        policy: Arc::new(GatePolicy { metrics: Arc::clone(&metrics), strategy: Arc::clone(&strategy) }),
        draining,
        turn_ms_max: AtomicU32::new(0),
        is_https: config.public_origin.starts_with("https://"),
        clock: Arc::new(move || clock.now()),
        settings: connections.clone(),
    });
    let tls = match tls {
        Some((listener, _)) => Some((listener, Arc::new(Tls::open(&config.tls, &protection.counters)?))),
        None => None,
    };
    let gate = Arc::new(Gate::new(Parts {
        config,
        sales,
        keys,
        jwt,
        api_keys,
        challenges,
        metrics,
        strategy,
        protection,
        demo,
    }));
    Ok(Server { shop, tls, admin, bound, gate, part, drain })
}

impl Server {
    /// Where it listens.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Serves until `shutdown` is ready, then lets open requests end for
    /// `gate.connections.drain_seconds` at the most.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let gate = &self.gate;
        let protection = &gate.protection;
        let mut shop_routes: Vec<_> = api::routes().into_iter().chain(page::routes()).collect();
        shop_routes.extend(preflights(&shop_routes, &protection.cors));
        let admin_routes = match self.part {
            Part::All | Part::Operators => admin::routes().into_iter().chain(admin::pages()).collect(),
            Part::Shoppers => admin::routes_of_a_gate(),
        };
        let listening = |routes, callers, open_max| {
            Arc::new(Listening::new(protection, routes, Arc::clone(gate), callers, open_max))
        };
        let shop = listening(shop_routes, Callers::Public, protection.settings.open_max);
        let admin = listening(admin_routes, Callers::Operators, ADMIN_OPEN_MAX);
        // As many as may be open: a loop never waits for axum.
        let (to_axum, from_loops) = mpsc::channel(shop.open_max());
        let hot = |inbox: &_| Hot::new(gate, inbox);
        let loops = Loops::start(protection, self.shop, shop.permits(), &to_axum, hot)?;
        let watch = Watch::start(Arc::clone(&protection.pressure), at_look(Arc::clone(gate)), loops.waker())?;
        let travelling = tokio::spawn(Arc::clone(&shop).serve_travelling(from_loops));
        let behind_tls = async {
            let Some((listener, tls)) = self.tls else { return std::future::pending().await };
            let watch = Arc::clone(&tls).watch(&protection.counters, || gate.now());
            let listening = Arc::new(shop.behind(tls));
            tokio::join!(watch, listening.accept(listener)).0
        };
        tokio::select! {
            () = Arc::clone(&admin).accept(self.admin) => {}
            () = behind_tls => {}
            () = shutdown => {}
        }
        loops.drain();
        self.drain.send_replace(true);
        let closed = async {
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
        travelling.abort();
        tokio::task::spawn_blocking(|| {
            drop(watch);
            loops.end();
        })
        .await
        .map_err(io::Error::other)
    }
}

/// What happens each time that memory is looked at: orders of the operators are followed, and the
/// stage is found.
fn at_look(gate: Arc<Gate>) -> impl FnMut() + Send + 'static {
    let mut orders_said = false;
    move || {
        // Where gates are in processes of their own, operators order elsewhere.
        match gate.protection.addresses.denied().refresh().and(gate.strategy.refresh()) {
            Ok(()) => orders_said = false,
            Err(error) if !orders_said => {
                orders_said = true;
                tracing::error!(%error, "what operators ordered cannot be read: what held before goes on");
            }
            Err(_) => {}
        }
        gate.strategy.look(load(&gate), gate.now());
    }
}

/// How much of each thing is used.
fn load(gate: &Gate) -> Load {
    let percent = |part: u64, whole: u64| (part.saturating_mul(100) / whole.max(1)).min(1000) as u32;
    let protection = &gate.protection;
    let open = protection.open();
    let sales = gate.sales.list().into_iter().filter_map(|id| gate.sales.get(id.as_str()));
    let fullest = sales.map(|sale| {
        let QueueFill { length, max, .. } = sale.queue();
        percent(length, max)
    });
    Load {
        queue: fullest.max().unwrap_or(0),
        connections: crowded_percent(open, protection.settings.open_max as u64),
        memory: protection.pressure.load_percent(open),
        lag: gate.strategy.load().next_lag(protection.turn_ms_max.swap(0, Relaxed)),
    }
}
