//! The store: accounts, catalogue, orders, payments and stock, each with its own database, and the
//! shop's pages over them, on a listener of their own. A sale waits for none of it: the store takes
//! its winners from the message service at its own pace, and may be down meanwhile.

use contexts::{Contexts, Seen};
use contracts::{Actor, TopicId, store::ShippingMethod};
use engines::clock::Clock;
use ports::Ports;
use serde::{Deserialize, Serialize};
use servers::{DatabasesUrl, ReplicaUrl};
pub(crate) use services::{Part, make_key};
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};
use web::{
    api_keys::ApiKeys,
    config::{AddressLimits, ConnectionsConfig},
    cors::Cors,
    limits::{AddressFilter, DenyList},
    metrics::{Naming, Registry as Metrics, ServerMetrics},
    operation::{Callers, Operation},
    pressure::{Memory, Pressure, Watch},
    problem::Kind,
    protection::{Counters, DRAIN_GRACE, Policy, Protection},
    server::{Buffers, Listening, listen_once},
};

mod cache;
mod contexts;
mod databases;
mod demo;
mod mail;
mod messages;
mod oidc;
mod pictures;
pub(crate) mod ports;
pub(crate) mod reference;
mod sale;
mod servers;
mod services;
mod shards;

pub(crate) use demo::picture_in_sale;
pub(crate) use shards::{open as open_orders, open_list};

/// Every default, with comments.
pub(crate) const DEFAULT_TOML: &str = include_str!("store.default.toml");
const SECTION: &str = "store";
const NAMING: Naming = Naming { prefix: "floodgate_store", section: SECTION };
/// Forms come in, and pages go out.
const BUFFERS: Buffers = Buffers { receive_bytes: 16 << 10, send_bytes: 64 << 10 };
/// Where a demo's shop is, unless the port is taken.
const DEMO_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a token for the sale is good.
const SALE_TOKEN_SECONDS: u64 = 900;

/// The topics of the store's own events.
pub(crate) const ORDERS: &str = "store-orders";
pub(crate) const PAYMENTS: &str = "store-payments";
pub(crate) const STOCK: &str = "store-stock";
pub(crate) const ACCOUNTS: &str = "store-accounts";
pub(crate) const CATALOG: &str = "store-catalog";

/// The section `[store]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) listen: String,
    pub(crate) open_max: usize,
    pub(crate) name: String,
    pub(crate) name_zh: String,
    pub(crate) public_url: String,
    pub(crate) sale_url: String,
    pub(crate) payments: String,
    pub(crate) databases: DatabasesUrl,
    pub(crate) replicas: Vec<ReplicaUrl>,
    pub(crate) orders: Vec<shards::Config>,
    pub(crate) tax_basis_points: u32,
    pub(crate) shipping: Vec<ShippingMethod>,
    pub(crate) cache: cache::Config,
    pub(crate) mail: mail::Config,
    pub(crate) stripe: StripeConfig,
    pub(crate) oidc: oidc::Config,
    pub(crate) services: services::Config,
}

/// The section `[store.stripe]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StripeConfig {
    secret_key_file: PathBuf,
    webhook_secret_file: PathBuf,
    api_url: String,
    methods: Vec<String>,
}

impl Default for StripeConfig {
    fn default() -> Self {
        let api_url = "https://api.stripe.com".to_owned();
        let methods = vec!["card".to_owned()];
        Self { secret_key_file: PathBuf::new(), webhook_secret_file: PathBuf::new(), api_url, methods }
    }
}

impl StripeConfig {
    /// Reads the secrets. `shop` is the shop's origin.
    fn open(&self, shop: &str) -> Result<payment::stripe::Settings, String> {
        let read = |key: &str, path: &Path| {
            let wrong = |why: String| format!("store.stripe.{key}: {why}");
            let bytes = web::secret::read_secret(path).map_err(|error| wrong(error.to_string()))?;
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| wrong(format!("{}: it is no text", path.display())))?;
            Ok::<_, String>(text.trim().to_owned())
        };
        Ok(payment::stripe::Settings {
            secret_key: read("secret_key_file", &self.secret_key_file)?,
            webhook_secret: read("webhook_secret_file", &self.webhook_secret_file)?,
            api: self.api_url.parse().map_err(|want| format!("store.stripe.api_url: {want}"))?,
            shop: shop.to_owned(),
            methods: self.methods.clone(),
        })
    }
}

/// The dearest way of shipping: far from where sums could overflow.
const SHIPPING_MINOR_MAX: u64 = 1_000_000_000;
/// With fewer connections there is no store.
const OPEN_MIN: usize = 16;

/// `payments` for the provider that is built in, and takes no money.
const SANDBOX: &str = payment::sandbox::NAME;
const STRIPE: &str = payment::stripe::NAME;

impl Config {
    /// Why the section cannot be used, with the key.
    pub(crate) fn wrong(&self, has_messages: bool) -> Option<(&'static str, String)> {
        for (key, url) in [("public_url", &self.public_url), ("sale_url", &self.sale_url)] {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let is_host = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
            };
            if !url.is_empty() && !host.is_some_and(is_host) {
                return Some((key, "want an origin such as \"https://shop.example\", without a path".into()));
            }
        }
        let of_oidc = || self.oidc.wrong(&self.public_url);
        if let Some(wrong) = self.mail.wrong().or_else(|| self.cache.wrong()).or_else(of_oidc) {
            return Some(wrong);
        }
        if !self.mail.smtp.is_empty() && self.public_url.is_empty() {
            return Some((
                "public_url",
                "links in letters lead to it: want the shop's origin, as mail.smtp is set".into(),
            ));
        }
        if let Some(wrong) = databases::wrong(self).or_else(|| self.services.wrong()) {
            return Some(wrong);
        }
        let is_id = |id: &str| {
            (1..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        };
        for (key, name) in [("name", &self.name), ("name_zh", &self.name_zh)] {
            if !(1..=40).contains(&name.chars().count()) || name.chars().any(char::is_control) {
                return Some((key, "want what the shop is called, in 1 to 40 characters".into()));
            }
        }
        let is_way = |way: &ShippingMethod| {
            let names = [&way.name, &way.name_zh];
            let are_names = names.iter().all(|name| (1..=40).contains(&name.chars().count()));
            is_id(&way.id) && are_names && way.price_minor <= SHIPPING_MINOR_MAX
        };
        let ids: BTreeSet<&str> = self.shipping.iter().map(|way| &*way.id).collect();
        if !(1..=10).contains(&self.shipping.len())
            || ids.len() != self.shipping.len()
            || !self.shipping.iter().all(is_way)
        {
            let want = "want 1 to 10 ways, each with another id of a-z and -, names of 1 to 40 characters and a price";
            return Some(("shipping", want.into()));
        }
        if !["", SANDBOX, STRIPE].contains(&&*self.payments) {
            return Some(("payments", "want \"stripe\", \"sandbox\" or \"\"".into()));
        }
        if self.payments == STRIPE {
            if self.public_url.is_empty() {
                return Some(("public_url", "Stripe's page leads back to it: want the shop's origin".into()));
            }
            let files = [
                ("stripe.secret_key_file", &self.stripe.secret_key_file),
                ("stripe.webhook_secret_file", &self.stripe.webhook_secret_file),
            ];
            if let Some((key, _)) = files.into_iter().find(|(_, path)| path.as_os_str().is_empty()) {
                return Some((key, "store.payments is \"stripe\": want a file".into()));
            }
        }
        if !payment::stripe::are_methods(&self.stripe.methods) {
            return Some(("stripe.methods", "want 1 to 20 names of a-z and _, such as \"card\"".into()));
        }
        if let Err(want) = self.stripe.api_url.parse::<payment::stripe::ApiUrl>() {
            return Some(("stripe.api_url", want.into()));
        }
        if self.listen.is_empty() {
            return None;
        }
        if self.listen.parse::<SocketAddr>().is_err() {
            return Some((
                "listen",
                "want an address with a port, such as \"127.0.0.1:8090\", or \"\"".into(),
            ));
        }
        if !has_messages {
            return Some((
                "listen",
                "the store takes its winners from the message service: set notify.listen".into(),
            ));
        }
        None
    }

    /// Open files that the store may need.
    pub(crate) fn files_max(&self, is_demo: bool) -> usize {
        if self.listen.is_empty() && !is_demo {
            0
        } else {
            self.open_max + databases::files(self, &Part::ALL)
        }
    }

    /// Makes do with so many files for a process with these parts. Returns false if they are too
    /// few.
    pub(crate) fn fit(&mut self, files_max: usize, parts: &[Part]) -> bool {
        let others = databases::files(self, parts) + services::files(parts);
        self.open_max = self.open_max.min(files_max.saturating_sub(others));
        self.open_max >= OPEN_MIN
    }

    /// What is not configured that a process with these parts needs.
    pub(crate) fn lacks(&self, parts: &[Part]) -> Option<String> {
        let (key, listen) = self.listens(parts);
        if listen.is_empty() {
            return Some(format!("the store has no listener: set {key}"));
        }
        let [part] = parts else { return None };
        self.services.lacks(*part).or_else(|| {
            let is_known = *part == Part::Shop || !self.public_url.is_empty() || !self.listen.is_empty();
            let name = part.name();
            let want = || format!("the role `{name}` has links to the shop: set store.public_url");
            (!is_known).then(want)
        })
    }

    /// Where a process with these parts has its pages and its API.
    fn listens(&self, parts: &[Part]) -> (String, &str) {
        let own = match parts {
            [part] => {
                self.services.listens(*part).map(|at| (format!("store.services.{}.listen", part.name()), at))
            }
            _ => None,
        };
        own.unwrap_or_else(|| ("store.listen".to_owned(), &self.listen))
    }

    /// What orders cost beside their lines.
    fn rules(&self) -> order::charges::Rules {
        let tax = order::charges::IncludedTax { basis_points: self.tax_basis_points };
        order::charges::Rules { shipping: self.shipping.clone(), tax: Arc::new(tax) }
    }

    /// Whether payments are the sandbox's, which takes no money.
    pub(crate) fn is_sandbox(&self, is_demo: bool) -> bool {
        self.payments == SANDBOX || (is_demo && self.payments.is_empty())
    }
}

fn way(id: &str, name: &str, name_zh: &str, price_minor: u64) -> ShippingMethod {
    ShippingMethod { id: id.into(), name: name.into(), name_zh: name_zh.into(), price_minor }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: String::new(),
            open_max: 2048,
            name: "Floodgate".into(),
            name_zh: "Floodgate".into(),
            public_url: String::new(),
            sale_url: String::new(),
            payments: String::new(),
            databases: DatabasesUrl::default(),
            replicas: Vec::new(),
            orders: Vec::new(),
            tax_basis_points: 0,
            shipping: vec![
                way("standard", "Standard delivery", "标准配送", 0),
                way("express", "Express delivery", "特快配送", 2_000),
            ],
            stripe: StripeConfig::default(),
            mail: mail::Config::default(),
            cache: cache::Config::default(),
            oidc: oidc::Config::default(),
            services: services::Config::default(),
        }
    }
}

/// The smallest and largest value of each number in the section, by its name.
pub(crate) const RANGES: &[(&str, i64, i64)] = &[
    ("open_max", 1, 100_000),
    ("tax_basis_points", 0, 10_000),
    ("cache.bytes_max", 0, 1 << 40),
    ("cache.kept_seconds", 1, 3_600),
];

/// What the store needs of the process.
pub(crate) struct Options {
    pub(crate) config: Config,
    /// What of the store this process has: all of it, or one part.
    pub(crate) parts: &'static [Part],
    pub(crate) connections: ConnectionsConfig,
    pub(crate) limits: AddressLimits,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) memory: Memory,
    /// For a demo, the units of each item in its sale.
    pub(crate) demo_stock: Option<u64>,
    /// What signs the shoppers' tokens for the sale; none if the sale takes others' tokens.
    pub(crate) signer: Option<Signer>,
}

/// Signs the tokens by which the sale knows the shoppers.
pub(crate) struct Signer {
    pub(crate) secret: Vec<u8>,
    pub(crate) config: web::config::JwtConfig,
}

/// What the store stands beside, in this process or in one that it has joined.
pub(crate) struct Beside {
    /// The data directory.
    pub(crate) data: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    /// The installation's, with which the sale signs what shoppers bring back.
    pub(crate) keys: Arc<gate::Keyring>,
    pub(crate) ports: Ports,
    /// Where shoppers reach the sale; empty if that is not known.
    pub(crate) sale_origin: String,
}

/// The listener, which queues connections until [`Bound::serve`] answers them.
pub(crate) struct Bound {
    listener: std::net::TcpListener,
    pub(crate) address: SocketAddr,
    /// Where a part that is a process of its own answers the others, once it is open: until then
    /// they are refused at once, and do not wait.
    ports: Option<SocketAddr>,
    options: Options,
}

/// Binds the listener, and of a part alone also that for the others, unless there is to be none.
pub(crate) fn bind(options: Options) -> io::Result<Option<Bound>> {
    let (key, listen) = options.config.listens(options.parts);
    let backlog = options.connections.backlog.min(1024);
    let at = |address| listen_once(&key, address, backlog, false, BUFFERS);
    let bound = match (listen, options.demo_stock.is_some()) {
        ("", false) => return Ok(None),
        ("", true) => at(DEMO_LISTEN).or_else(|_| at(SocketAddr::new(DEMO_LISTEN.ip(), 0)))?,
        (listen, _) => at(listen.parse().map_err(io::Error::other)?)?,
    };
    let (listener, address) = bound;
    let answers = match options.parts {
        [part] => options.config.services.answers(*part).transpose().map_err(io::Error::other)?,
        _ => None,
    };
    // What is wrong with the address is said now.
    answers.map(|at| services::listen(at, backlog).map(drop)).transpose()?;
    Ok(Some(Bound { listener, address, ports: answers, options }))
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

/// Why the store is not there.
#[derive(Debug)]
struct NotOpen {
    why: String,
    /// It may be there later.
    passes: bool,
}

impl From<engines::sql::SqlError> for NotOpen {
    fn from(error: engines::sql::SqlError) -> Self {
        Self { passes: error.passes(), why: error.to_string() }
    }
}

impl From<io::Error> for NotOpen {
    fn from(error: io::Error) -> Self {
        Self { why: error.to_string(), passes: true }
    }
}

impl Config {
    /// Where the shop says that it is, or its listener, which for another part is elsewhere.
    fn origin(&self, address: SocketAddr, parts: &[Part]) -> String {
        match &*self.public_url {
            "" if parts.contains(&Part::Shop) || self.listen.is_empty() => format!("http://{address}"),
            "" => format!("http://{}", self.listen),
            url => url.trim_end_matches('/').to_owned(),
        }
    }
}

impl Bound {
    /// The entries that the gate's lists lack: without them the gate refuses shoppers whom the
    /// shop's pages send.
    pub(crate) fn lacks(&self, gate: &gate::Config) -> Vec<String> {
        let origin = self.options.config.origin(self.address, self.options.parts);
        let back = format!("{origin}{}", shop::RETURN_PATH);
        let lacking = |list: &[String], key: &str, entry: &str| {
            (!list.iter().any(|listed| listed == entry)).then(|| format!("{key} has no {entry:?}"))
        };
        let lists = [
            lacking(&gate.allowed_origins, "gate.allowed_origins", &origin),
            lacking(&gate.return_urls, "gate.return_urls", &back),
        ];
        lists.into_iter().flatten().collect()
    }

    /// Opens the databases, and serves until `ends`, beside the sales: they do not wait for it.
    pub(crate) async fn serve(self, beside: Beside, mut ends: oneshot::Receiver<()>) {
        let Self { listener, address, ports, mut options } = self;
        let mut counted = Metrics::default();
        let (kinds, ids) = (reference::all_kinds(), reference::ids());
        let counts = Arc::new(ServerMetrics::new(NAMING, &kinds, &ids, &mut counted));
        let of_ports = ports.is_some().then(|| Arc::new(services::counts(&mut counted)));
        let signer = Arc::new(options.signer.take());
        let here = Listener { section: SECTION, limits: &options.limits, open_max: options.config.open_max };
        let (protection, drain) = match here.protect(&options, &beside, &counts) {
            Ok(protected) => protected,
            Err(error) => return tracing::error!(%error, "the store is not served"),
        };
        let store = loop {
            let opened = Contexts {
                beside: &beside,
                address,
                config: &options.config,
                parts: options.parts,
                demo_stock: options.demo_stock,
                protection: &protection,
                signer: &signer,
            };
            match opened.open().await {
                Ok(store) => break store,
                Err(NotOpen { why, passes: true }) => {
                    tracing::warn!(%why, "the store waits until it can be opened");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN_AFTER) => {}
                        _ = &mut ends => return,
                    }
                }
                Err(NotOpen { why, .. }) => {
                    return tracing::error!(%why, "the store cannot be opened: see the reason, then restart");
                }
            }
        };
        let mut seen = vec![(Arc::clone(&protection), counts)];
        let mut others = JoinSet::new();
        let (end_others, others_end) = oneshot::channel::<()>();
        if let (Some(at), Some(counts)) = (ports, of_ports) {
            let there =
                match ForOthers::open(&options, &beside, (at, store.offered), &counts, &mut ends).await {
                    Some(there) => there,
                    None => return,
                };
            seen.push((Arc::clone(&there.protection), counts));
            others.spawn(there.serve(others_end));
        }
        let open_max = options.config.open_max;
        let mut operations = store.operations;
        operations.extend(health(&protection, seen, counted, store.seen));
        let mut listening = Listening::new(&protection, operations, (), Callers::Public, open_max);
        if let Some(page) = store.problem_page {
            listening = listening.with_problem_page(page);
        }
        let listening = Arc::new(listening);
        let (end, own_end) = oneshot::channel::<()>();
        let mut own = std::pin::pin!(run(&protection, &listening, listener, drain, own_end));
        let mut end = Some(end);
        let mut others_ended = None;
        // A part that does not answer the others any more is no part: it ends, to be started again.
        let served = loop {
            tokio::select! {
                served = &mut own => break served,
                _ = &mut ends, if end.is_some() => drop(end.take()),
                Some(ended) = others.join_next(), if others_ended.is_none() => {
                    others_ended = Some(ended);
                    drop(end.take());
                }
            }
        };
        // The other contexts may still ask for what the last shoppers want.
        drop(end_others);
        let others_ended = match others_ended {
            Some(ended) => Some(ended),
            None => others.join_next().await,
        };
        match others_ended {
            Some(Ok(Err(error))) => tracing::error!(%error, "the listener for other contexts has ended"),
            Some(Err(error)) => {
                tracing::error!(%error, "the listener for other contexts has ended: a defect")
            }
            Some(Ok(Ok(()))) | None => {}
        }
        drop(store.loops);
        if let Err(error) = served {
            tracing::error!(%error, "the store has ended");
        }
    }
}

/// The listener on which a part answers the other contexts.
struct ForOthers {
    listener: std::net::TcpListener,
    listening: Arc<Listening>,
    protection: Arc<Protection>,
    drain: watch::Sender<bool>,
}

impl ForOthers {
    /// Opens it, once its port is free; `None` if the process is to end before.
    async fn open(
        options: &Options,
        beside: &Beside,
        (at, offered): (SocketAddr, services::Offered),
        counts: &Arc<ServerMetrics>,
        ends: &mut oneshot::Receiver<()>,
    ) -> Option<Self> {
        let (limits, open_max) = (services::limits(), services::OPEN_MAX);
        let of = Listener { section: SECTION, limits: &limits, open_max };
        let try_open = || {
            let key = services::key(&beside.data.join("keys"))?;
            let (listener, _) = services::listen(at, options.connections.backlog)?;
            let (protection, drain) = of.protect(options, beside, counts)?;
            Ok::<_, io::Error>((listener, key, protection, drain))
        };
        loop {
            match try_open() {
                Ok((listener, key, protection, drain)) => {
                    let listening = Arc::new(services::listening(offered, key, &protection));
                    return Some(Self { listener, listening, protection, drain });
                }
                Err(error) => tracing::warn!(%error, "the store waits until it can answer other contexts"),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                _ = &mut *ends => return None,
            }
        }
    }

    async fn serve(self, ends: oneshot::Receiver<()>) -> io::Result<()> {
        run(&self.protection, &self.listening, self.listener, self.drain, ends).await
    }
}

/// What is protected: the public listener, or that for other contexts.
struct Listener<'a> {
    section: &'static str,
    limits: &'a AddressLimits,
    open_max: usize,
}

impl Listener<'_> {
    /// Its protection, and what tells it to drain.
    fn protect(
        &self,
        options: &Options,
        beside: &Beside,
        counts: &Arc<ServerMetrics>,
    ) -> io::Result<(Arc<Protection>, watch::Sender<bool>)> {
        let open_max = self.open_max;
        let (drain, draining) = watch::channel(false);
        let connections = ConnectionsConfig { open_max, ..options.connections.clone() };
        let denied = DenyList::open(&beside.data)?;
        let clock = Arc::clone(&beside.clock);
        let is_demo = options.demo_stock.is_some();
        let pressure = Pressure::new(options.memory.clone(), connections.memory_mark_percent, open_max);
        let protection = Protection {
            section: self.section,
            addresses: Arc::new(AddressFilter::new(self.limits, open_max, is_demo, denied)),
            pressure: Arc::new(pressure),
            cors: Arc::new(Cors::new(&[], "")),
            api_keys: Arc::clone(&options.api_keys),
            counters: Counters::default(),
            policy: Arc::new(Counting(Arc::clone(counts))),
            draining,
            turn_ms_max: AtomicU32::new(0),
            is_https: options.config.public_url.starts_with("https://"),
            clock: Arc::new(move || clock.now()),
            settings: connections,
        };
        Ok((Arc::new(protection), drain))
    }
}

/// Serves until `ends`, then answers the requests that have come.
async fn run(
    protection: &Arc<Protection>,
    listening: &Arc<Listening>,
    listener: std::net::TcpListener,
    drain: watch::Sender<bool>,
    ends: oneshot::Receiver<()>,
) -> io::Result<()> {
    let (of, relieved, denied) = (Arc::clone(protection), Arc::clone(listening), Arc::clone(protection));
    // What operators deny is noticed here; what cannot be read is said by the gate.
    let at_look = move || drop(denied.addresses.denied().refresh());
    let (open, relieve) = (move || of.open(), move || relieved.relieve());
    let watch = Watch::start(protection.section, Arc::clone(&protection.pressure), open, at_look, relieve)?;
    let mut beside = JoinSet::new();
    beside.spawn(Arc::clone(protection).note_lateness());
    let mut accepting = JoinSet::new();
    accepting.spawn(Arc::clone(listening).accept(listener));
    let _ = ends.await;
    drain.send_replace(true);
    let closed = async {
        tokio::time::sleep(DRAIN_GRACE).await;
        while accepting.join_next().await.is_some() {}
        listening.all_closed().await;
    };
    let limit = Duration::from_secs(protection.settings.drain_seconds);
    if tokio::time::timeout(limit, closed).await.is_err() {
        tracing::warn!(seconds = limit.as_secs(), "store: requests were cut off");
    }
    tokio::task::spawn_blocking(move || drop(watch)).await.map_err(io::Error::other)
}

/// The API's documents, liveness for a balancer, and metrics for those with an API key: the
/// listener is public. `listeners` are all of this process, with their counts.
fn health(
    protection: &Protection,
    listeners: Vec<(Arc<Protection>, Arc<ServerMetrics>)>,
    counted: Metrics,
    seen: Seen,
) -> Vec<Operation<()>> {
    use web::{
        api_keys::Role,
        operation::{Access, get},
    };
    let counted = Arc::new(counted);
    let keys = Arc::clone(&protection.api_keys);
    let metrics = move || {
        let mut now = Metrics::default();
        listeners.iter().for_each(|(protection, counts)| counts.read(protection, &mut now));
        let (counted, seen) = (Arc::clone(&counted), seen.clone());
        async move {
            if let Some(catalog) = &seen.catalog {
                if let Ok(figures) = catalog.search_figures().await {
                    search_metrics(&figures, &mut now);
                }
                cache::metrics(catalog, &mut now);
            }
            databases::metrics(&seen.databases, &mut now);
            seen.others.metrics(&mut now);
            web::metrics::answer(&[&*counted, &now])
        }
    };
    let mut all = reference::own(reference::reference());
    let sign_in = web::sign_in::operations::<Arc<ApiKeys>>("/console").into_iter();
    all.extend(sign_in.map(|operation| operation.with_state(Arc::clone(&keys))));
    all.push(get("/metrics", "metrics", Access::Role(Role::ReadOnly), metrics));
    all
}

fn search_metrics(figures: &catalog::search::Figures, into: &mut Metrics) {
    let gauge = |name, help| web::metrics::Metric::gauge(format!("floodgate_store_search_{name}"), help);
    into.value(gauge("documents", "Products in the search's index"), figures.documents);
    into.value(gauge("behind", "Changes of the catalogue that the search's index lacks"), figures.behind);
    into.value(gauge("bytes", "Memory of the search's index"), figures.bytes);
    into.value(gauge("is_built", "1 if searches use the index"), u64::from(figures.is_built));
}

fn topic_of(name: &str) -> TopicId {
    name.parse().expect("it is a name")
}

/// The name under which the store acts.
fn by_store(reason: &str) -> Actor {
    Actor::new(Actor::STORE, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn secrets_of_stripe_are_read_from_files_that_only_their_owner_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let config = StripeConfig {
            secret_key_file: file("key", "sk_test_1\n", 0o600),
            webhook_secret_file: file("webhook", "whsec_1\n", 0o600),
            ..StripeConfig::default()
        };
        let settings = config.open("https://shop.example").unwrap();
        assert_eq!((&*settings.secret_key, &*settings.webhook_secret), ("sk_test_1", "whsec_1"));
        assert!(!format!("{settings:?}").contains("_1"), "{settings:?}");
        let open = StripeConfig { webhook_secret_file: file("open", "whsec_1", 0o644), ..config.clone() };
        let why = open.open("https://shop.example").unwrap_err();
        assert!(why.starts_with("store.stripe.webhook_secret_file: ") && why.contains("chmod 600"), "{why}");
        let missing = StripeConfig { secret_key_file: dir.path().join("none"), ..config };
        let why = missing.open("https://shop.example").unwrap_err();
        assert!(why.starts_with("store.stripe.secret_key_file: "), "{why}");
    }
}
