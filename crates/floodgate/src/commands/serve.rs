//! `floodgate serve`: recovers every sale from its log, listens, and drains at SIGTERM.

use super::print;
use crate::data::Data;
use crate::logs::Logs;
use crate::registry::Registry;
use crate::{CommandResult, Context, feed, files, join, memory, message_service, sold_out, store};
use contracts::{Actor, SaleSpec};
use engines::clock::SteadyClock;
use gate::ports::Sales;
use serde_json::json;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
use units::{DurationMs, TimeMs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Set up a sale named `demo` that opens in a moment; it is forgotten at the end, unless --data
    /// or the configuration file names a data directory
    #[arg(long)]
    demo: bool,
    /// Seconds until the demo opens [default: 30]
    #[arg(long, value_name = "SECONDS", requires = "demo")]
    demo_opens_in: Option<u64>,
    /// Units of each of the demo's items [default: 100]
    #[arg(long, value_name = "N", requires = "demo")]
    demo_stock: Option<u64>,
    /// What this process is: all; the sales, the message service and the operators' listener, for
    /// gates and stores that join; such a gate; such a store; or one of its contexts alone
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
    /// The socket of the process with the sales: gates/socket in its data directory
    #[arg(long, value_name = "SOCKET", required_if_eq_any(JOINING.map(|role| ("role", role))), conflicts_with = "demo")]
    join: Option<PathBuf>,
    /// Where health, metrics and refusals of a gate are read [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", requires = "join")]
    admin_listen: Option<SocketAddr>,
}

/// The parts of the platform that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    All,
    Sale,
    Gate,
    Store,
    Account,
    Catalog,
    Order,
    Payment,
    Inventory,
    Shop,
}

/// The roles that join a process with the sales.
const JOINING: [&str; 8] = ["gate", "store", "account", "catalog", "order", "payment", "inventory", "shop"];

impl Role {
    /// What it has of the store.
    fn of_store(self) -> &'static [store::Part] {
        use store::Part;
        match self {
            Self::All | Self::Store => &Part::ALL,
            Self::Account => &[Part::Account],
            Self::Catalog => &[Part::Catalog],
            Self::Order => &[Part::Order],
            Self::Payment => &[Part::Payment],
            Self::Inventory => &[Part::Inventory],
            Self::Shop => &[Part::Shop],
            Self::Sale | Self::Gate => &[],
        }
    }
}

const DEMO: &str = "demo";
const DEMO_WITHOUT_CHALLENGE: &str = "demo: its page asks for no challenge, although gate.challenge is configured: a visitor of the demo has a pass already, \
     and only a shopper who comes with a token (POST /api/v1/sales/demo/passes) has to solve one\n";
const DEMO_OPENS_IN: u64 = 30;
const DEMO_STOCK: u64 = 100;

pub(crate) fn run(context: Context, args: &Args, data_given: bool) -> CommandResult {
    start_logging(&context);
    wear_brand(&context.config)?;
    match (args.role, &args.join) {
        (Role::Gate, Some(socket)) => return run_gate(&context, args, socket),
        (Role::All | Role::Sale, Some(_)) => {
            return Err("--join is for a gate, a store or a part of one alone: add --role gate, --role store or the part".into());
        }
        (role, Some(socket)) => return run_store(&context, socket, role.of_store()),
        (_, None) => {}
    }
    // A demo leaves no files unless a directory was named.
    let scratch = match args.demo && !data_given && !context.config.names_data {
        true => Some(tempfile::Builder::new().prefix("floodgate-demo-").tempdir()?),
        false => None,
    };
    let dir = scratch.as_ref().map_or(context.data.as_path(), |scratch| scratch.path());
    let config_file = context.config_file.as_deref().map(|path| path.display().to_string());
    tracing::info!(data = %dir.display(), config = config_file, "starting");
    // Nothing else removes the streams of logs whose directory is gone.
    let logs = if scratch.is_some() { Logs::in_files() } else { context.logs.clone() };
    let data = Data::open(dir, logs)?;
    let keys = Arc::new(gate::Keyring::open(data.dir())?);
    gate::open_jwt_secret(data.dir())?;
    // The sales do not wait for the shop.
    if let Err(error) = store::make_key(&data.dir().join("keys")) {
        tracing::error!(%error, "contexts of the store as services of their own cannot start");
    }
    let api_keys = Arc::new(web::api_keys::ApiKeys::open(data.dir())?);
    let jwt =
        web::jwt::JwtVerifier::open("gate", &context.config.gate.jwt, &data.dir().join("keys/jwt.key"))?;
    let challenges = gate::Challenges::open(&context.config.gate.challenge, &keys, data.dir())?;
    let denied = web::limits::DenyList::open(data.dir())?;
    let strategy = gate::Strategy::open(data.dir())?;
    let drafts = gate::Drafts::open(data.dir())?;
    let kept = scratch.is_none().then(|| data.dir().to_owned());
    let mut gate_config = context.config.gate.clone();
    let mut notify_config = context.config.notify.clone();
    let mut store_config = context.config.store.clone();
    // Beside `sale`, the store is a process of its own, as the gates are.
    let of_store = match notify_config.listen.is_empty() || args.role == Role::Sale {
        true => 0,
        false => store_config.files_max(args.demo),
    };
    let room = fit_connections(&mut gate_config, &mut notify_config, (join::GATES_MAX, of_store));
    let fits_store = store_config.fit(room.of_store, args.role.of_store());
    if of_store > 0 && !fits_store {
        tracing::error!("the store is not served: there are too few open files (see `ulimit -n`)");
    }
    let asks_for_challenges = gate_config.challenge.mode != gate::config::ChallengeMode::Off;
    let registry = Arc::new(Registry::open(data, context.config.sale)?);
    sold_out::forget(registry.dir(), &registry.all());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        // Before anybody is told that it serves: who starts it may end it at once.
        let told = until_told();
        let sales: Arc<dyn Sales> = registry.clone();
        let socket = join::socket(registry.dir());
        let (tell_messages, told_messages) = tokio::sync::watch::channel(None);
        let ports = store::ports::Ports::here(&sales, &told_messages);
        let joining = join::Joining {
            registry: Arc::clone(&registry),
            keys: Arc::clone(&keys),
            challenges: challenges.ledger(),
            store: ports.clone(),
        };
        match join::serve_gates(&socket, room.of_gates, joining) {
            Ok(serving) => drop(tokio::spawn(serving)),
            Err(error) if args.role == Role::Sale => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "no gate in a process of its own can join"),
        }
        let store = match fits_store {
            true => {
                let demo_stock = args.demo.then_some(args.demo_stock.unwrap_or(DEMO_STOCK));
                bind_store(store_config, &gate_config, &api_keys, registry.dir(), demo_stock)?
            }
            false => None,
        };
        let shop = store.as_ref().map(|store| store_origin(&context.config.store.public_url, store));
        let opens_at = match args.demo {
            true => Some(set_up_demo(&sales, args, shop.as_deref()).await?),
            false => None,
        };
        if let (true, "", Some(shop)) = (args.demo, &*gate_config.shop_url, shop) {
            gate_config.shop_url = shop;
        }
        if let Some(store) = store.as_ref().filter(|_| args.demo) {
            // Its pages have the sale's script, or lead to the sale's page and back.
            for host in ["127.0.0.1", "localhost"] {
                let origin = format!("http://{host}:{}", store.address.port());
                gate_config.return_urls.push(format!("{origin}{}", shop::RETURN_PATH));
                gate_config.allowed_origins.push(origin);
            }
        }
        // A gate in a process of its own has its own lists.
        let lacking = store.as_ref().filter(|_| args.role == Role::All).map(|store| store.lacks(&gate_config));
        for lacking in lacking.unwrap_or_default() {
            tracing::warn!("{lacking}: shoppers whom the store's page sends to a sale are refused; add it and restart");
        }
        let (message_keys, store_keys, served_config) =
            (Arc::clone(&keys), Arc::clone(&keys), gate_config.clone());
        let server = gate::bind(gate::Options {
            config: gate_config,
            sales: Arc::clone(&sales),
            keys,
            jwt,
            api_keys: Arc::clone(&api_keys),
            challenges,
            denied,
            strategy,
            drafts,
            memory: memory_of_this_process(),
            demo: args.demo,
            part: if args.role == Role::Sale { gate::Part::Operators } else { gate::Part::All },
            admin_open_max: room.of_operators,
        })?;
        let bound = server.bound();
        match bound.shop {
            Some(shop) => print(&format!("shop:  http://{shop}/\n")),
            None => print(&format!("shop:  floodgate serve --role gate --join {}\n", socket.display())),
        }
        if let Some(tls) = bound.tls {
            print(&format!("shop:  https://{tls}/\n"));
        }
        let messages = bind_messages(&registry, &served_config, notify_config, &api_keys, args.demo)?;
        let messages = messages.map(|bound| {
            print(&format!("events: http://{}/\n", bound.address()));
            let (end, ends) = tokio::sync::oneshot::channel::<()>();
            let serving =
                message_service::serve(bound, Arc::clone(&registry), message_keys, tell_messages, ends);
            (end, tokio::spawn(serving))
        });
        let store = store.map(|store| {
            print(&format!("store: http://{}/\n", store.address));
            let (end, ends) = tokio::sync::oneshot::channel::<()>();
            let sale = match &*context.config.store.sale_url {
                "" => bound.shop.map(|shop| format!("http://{shop}")).unwrap_or_default(),
                url => url.trim_end_matches('/').to_owned(),
            };
            let beside = store::Beside {
                data: registry.dir().to_owned(),
                clock: registry.clock(),
                keys: store_keys,
                ports,
                sale_origin: sale,
            };
            (end, tokio::spawn(store.serve(beside, ends)))
        });
        if let Some(opens_at) = opens_at {
            let one_time = api_keys.mint_one_time()?;
            print(&format!("admin: http://{}/sign-in?key={one_time} (works once)\n", bound.admin));
            print(&demo_words(opens_at, sales.now(), kept.as_deref()));
            if asks_for_challenges {
                print(DEMO_WITHOUT_CHALLENGE);
            }
        } else {
            print(&format!(
                "admin: http://{}/ (make a key: floodgate key new NAME; then a link for a browser: floodgate key sign-in NAME)\n",
                bound.admin
            ));
        }
        tokio::spawn(watch_clock(registry.clock()));
        tokio::spawn(start_waiting(Arc::clone(&registry)));
        let views = Arc::clone(&registry);
        tokio::spawn(sold_out::keep(registry.dir().to_owned(), move || views.views()));
        let served = server.run(told).await;
        if let Some((end, serving)) = store {
            drop(end);
            serving.await?;
        }
        // The sales have told all that they will tell. What is not delivered yet is delivered after
        // the next start.
        if let Some((end, serving)) = messages {
            drop(end);
            serving.await?;
        }
        served.map_err(Box::<dyn std::error::Error>::from)
    });
    sold_out::forget(registry.dir(), &registry.all());
    registry.stop();
    served?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// Only a gate, for the sales of another process. It reads that process's keys, and writes nothing.
fn run_gate(context: &Context, args: &Args, socket: &Path) -> CommandResult {
    let data = &context.data;
    tracing::info!(data = %data.display(), socket = %socket.display(), "starting a gate");
    let mut config = context.config.gate.clone();
    config.admin_listen = args.admin_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut no_messages = notify::config::Config { listen: String::new(), ..context.config.notify.clone() };
    let room = fit_connections(&mut config, &mut no_messages, (0, 0));
    let keys = Arc::new(gate::Keyring::open_existing(data)?);
    let api_keys = Arc::new(web::api_keys::ApiKeys::open(data)?);
    let jwt = web::jwt::JwtVerifier::open("gate", &config.jwt, &data.join("keys/jwt.key"))?;
    let joined = join::Joined::open(socket, &keys)?;
    let challenges = gate::Challenges::with(&config.challenge, &keys, Arc::new(joined.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anybody is told that it serves: who starts it may end it at once.
        let told = until_told();
        let server = gate::bind(gate::Options {
            config,
            sales: Arc::new(joined),
            keys,
            jwt,
            api_keys,
            challenges,
            denied: web::limits::DenyList::open(data)?,
            strategy: gate::Strategy::open(data)?,
            drafts: gate::Drafts::open(data)?,
            memory: memory_of_this_process(),
            demo: false,
            part: gate::Part::Shoppers,
            admin_open_max: room.of_operators,
        })?;
        let bound = server.bound();
        bound.shop.iter().for_each(|shop| print(&format!("shop:  http://{shop}/\n")));
        print(&format!("admin: http://{}/metrics, of this gate alone\n", bound.admin));
        server.run(told).await
    })?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// Only the store, or a part of it, beside the sales and the message service of another process.
/// Its pages do not wait for that process: what they need of it waits until it is there.
fn run_store(context: &Context, socket: &Path, parts: &'static [store::Part]) -> CommandResult {
    let (data, mut config) = (&context.data, context.config.store.clone());
    if let Some(missing) = config.lacks(parts) {
        return Err(missing.into());
    }
    tracing::info!(data = %data.display(), socket = %socket.display(), ?parts, "starting a store");
    if !config.fit(files::room_of_store(files::raise_limit()), parts) {
        return Err("there are too few open files for a store (see `ulimit -n`)".into());
    }
    let keys = Arc::new(gate::Keyring::open_existing(data)?);
    let api_keys = Arc::new(web::api_keys::ApiKeys::open(data)?);
    let joined = join::Joined::open_later(socket, &keys)?;
    let gate = &context.config.gate;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anybody is told that it serves: who starts it may end it at once.
        let told = until_told();
        let sale_origin = config.sale_url.trim_end_matches('/').to_owned();
        let store = store::bind(store_options((config, parts), gate, &api_keys, data, None)?)?;
        let Some(store) = store else { return Ok(()) };
        print(&format!("store: http://{}/\n", store.address));
        let beside = store::Beside {
            data: data.clone(),
            keys,
            ports: join::store_ports(&joined),
            clock: Arc::new(SteadyClock::start()),
            sale_origin,
        };
        let (end, ends) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(store.serve(beside, ends));
        told.await;
        drop(end);
        serving.await.map_err(Box::<dyn std::error::Error>::from)
    })?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// Limits the connections to what the limit of open files allows, and lowers the limits of one
/// address and network accordingly. Returns what there is for others.
fn fit_connections(
    config: &mut gate::Config,
    notify: &mut notify::config::Config,
    (gates, store): (usize, usize),
) -> files::Room {
    let connections = &mut config.connections;
    let room = room_for_connections(connections.open_max, notify, (gates, store));
    connections.open_max = connections.open_max.min(room.of_shoppers);
    let (open_max, limits) = (connections.open_max, &mut config.limits);
    if limits.leave_room(open_max) {
        tracing::warn!(
            open_max,
            address_connections_max = limits.address_connections_max,
            prefix_connections_max = limits.prefix_connections_max,
            "gate.limits: fewer connections of an address or a network, so that none has all that may be open"
        );
    }
    room
}

/// The message service's listener, unless the configuration has none.
fn bind_messages(
    registry: &Arc<Registry>,
    gate: &gate::Config,
    config: notify::config::Config,
    api_keys: &Arc<web::api_keys::ApiKeys>,
    demo: bool,
) -> Result<Option<notify::server::Bound>, Box<dyn std::error::Error>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let bound = notify::server::bind(notify::server::Options {
        config,
        connections: gate.connections.clone(),
        limits: gate.limits.addresses(),
        api_keys: Arc::clone(api_keys),
        denied: web::limits::DenyList::open(registry.dir())?,
        memory: memory_of_this_process(),
        clock: registry.clock(),
        exempts_loopback: demo,
        reserved: [
            feed::TOPIC,
            store::ORDERS,
            store::PAYMENTS,
            store::STOCK,
            store::ACCOUNTS,
            store::CATALOG,
        ]
        .into_iter()
        .map(str::parse)
        .collect::<Result<_, _>>()?,
    })?;
    Ok(Some(bound))
}

/// The store's listener, unless the configuration has none.
fn bind_store(
    config: store::Config,
    gate: &gate::Config,
    api_keys: &Arc<web::api_keys::ApiKeys>,
    data: &Path,
    demo_stock: Option<u64>,
) -> Result<Option<store::Bound>, Box<dyn std::error::Error>> {
    let bound = store::bind(store_options((config, &store::Part::ALL), gate, api_keys, data, demo_stock)?);
    // The sales do not wait for the shop behind them.
    Ok(bound.unwrap_or_else(|error| {
        tracing::error!(%error, "the store is not served: free its port, or change store.listen, and restart");
        None
    }))
}

fn store_options(
    (config, parts): (store::Config, &'static [store::Part]),
    gate: &gate::Config,
    api_keys: &Arc<web::api_keys::ApiKeys>,
    data: &Path,
    demo_stock: Option<u64>,
) -> Result<store::Options, Box<dyn std::error::Error>> {
    let jwt = &gate.jwt;
    let signs = jwt.jwks_file.is_empty()
        && jwt.jwks_url.is_empty()
        && jwt.key_file.is_empty()
        && jwt.algorithms.contains(&gate::config::JwtAlgorithm::HS256);
    let signer = match signs {
        true => Some(store::Signer { secret: gate::open_jwt_secret(data)?, config: jwt.clone() }),
        false => None,
    };
    Ok(store::Options {
        config,
        parts,
        connections: gate.connections.clone(),
        limits: gate.limits.addresses(),
        api_keys: Arc::clone(api_keys),
        memory: memory_of_this_process(),
        demo_stock,
        signer,
    })
}

/// Tries again and again to start the sales whose logs could not be opened for a reason that
/// passes.
async fn start_waiting(registry: Arc<Registry>) {
    const AGAIN_AFTER: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(AGAIN_AFTER).await;
        let registry = Arc::clone(&registry);
        if let Err(error) = tokio::task::spawn_blocking(move || registry.start_waiting()).await {
            return tracing::error!(%error, "sales that wait for their logs are not started: a defect");
        }
    }
}

fn memory_of_this_process() -> web::pressure::Memory {
    web::pressure::Memory {
        resident_bytes: Arc::new(memory::resident_bytes),
        limit_bytes: memory::limit_bytes(),
    }
}

fn start_logging(context: &Context) {
    let log = &context.config.log;
    // The configuration has no other levels than these.
    let level: LevelFilter = log.level.parse().unwrap_or(LevelFilter::INFO);
    // A client can make these write a line for each of its frames.
    let of_strangers =
        ["h2", "hyper", "hyper_util", "rustls", "tokio_rustls", "axum", "ureq", "ureq_proto", "async_nats"];
    let levels = of_strangers.into_iter().map(|target| (target, level.min(LevelFilter::ERROR)));
    let levels = Targets::new().with_default(level).with_targets(levels);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(levels);
    // Fails only where one was set before, in a test.
    let _ = if log.json { registry.with(lines.json()).try_init() } else { registry.with(lines).try_init() };
}

/// How many connections the limit of open files allows; the kernel's table is grown for them at
/// once.
fn room_for_connections(
    wanted: usize,
    notify: &mut notify::config::Config,
    (gates, store): (usize, usize),
) -> files::Room {
    let limit = files::raise_limit();
    let messages = if notify.listen.is_empty() { 0 } else { notify.files_max() };
    let room = files::room(limit, files::Wanted { operators: gate::ADMIN_OPEN_MAX, messages, gates, store });
    notify.fit(room.of_messages);
    files::reserve(limit.min((wanted + room.of_others()) as u64));
    if room.of_shoppers < wanted {
        tracing::warn!(
            open_max = room.of_shoppers,
            wanted,
            admin_open_max = room.of_operators,
            "the limit of open files allows fewer connections than gate.connections.open_max (see `ulimit -n`)"
        );
    }
    room
}

/// Sales follow the clock as it was at the start. If the machine's clock is set meanwhile, one of
/// the two is wrong, and a person must decide which.
async fn watch_clock(clock: Arc<SteadyClock>) {
    const LOOK_EVERY: Duration = Duration::from_secs(10);
    const TOLERANCE_MS: i64 = 5_000;
    let mut said = 0;
    loop {
        let ahead_ms = clock.ahead_of_wall_ms();
        if (ahead_ms - said).abs() > TOLERANCE_MS {
            said = ahead_ms;
            tracing::error!(
                ahead_ms,
                "the machine's clock was set while sales run: they go by the old time; restart to go by the new one"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends once the process is told to end, from this call on.
fn until_told() -> impl Future<Output = ()> + Send + 'static {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            _ => {
                tracing::error!("signals cannot be received: only SIGKILL will end this process");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The shop's origin, as browsers reach it.
fn store_origin(public_url: &str, store: &store::Bound) -> String {
    match public_url.trim_end_matches('/') {
        "" => match store.address.ip().is_unspecified() {
            true => format!("http://127.0.0.1:{}", store.address.port()),
            false => format!("http://{}", store.address),
        },
        url => url.to_owned(),
    }
}

/// What shoppers' pages look like, from here on.
fn wear_brand(config: &crate::config::Config) -> Result<(), Box<dyn std::error::Error>> {
    let (brand, store) = (&config.brand, &config.store);
    let logo = match brand.logo_file.as_os_str().is_empty() {
        true => None,
        false => {
            let wrong =
                |error: std::io::Error| format!("brand.logo_file: {}: {error}", brand.logo_file.display());
            if !std::fs::metadata(&brand.logo_file).map_err(wrong)?.is_file() {
                return Err(wrong(std::io::Error::other("it is no file")).into());
            }
            let file = std::fs::File::open(&brand.logo_file).map_err(wrong)?;
            // One that is too long is refused with the number of bytes that are allowed.
            let (mut logo, most) = (String::new(), web::brand::LOGO_BYTES_MAX as u64 + 1);
            std::io::Read::read_to_string(&mut std::io::Read::take(file, most), &mut logo).map_err(wrong)?;
            Some(logo)
        }
    };
    web::brand::wear(web::brand::Brand::new(brand, [store.name.clone(), store.name_zh.clone()], logo)?);
    Ok(())
}

/// Sets the demo up, or finds it on existing data. Returns when its round opens or opened.
async fn set_up_demo(
    sales: &Arc<dyn Sales>,
    args: &Args,
    shop: Option<&str>,
) -> Result<TimeMs, Box<dyn std::error::Error>> {
    if let Some(existing) = sales.get(DEMO) {
        if args.demo_opens_in.is_some() || args.demo_stock.is_some() {
            print(
                "the data directory has a demo sale already: it goes on as it is, and --demo-opens-in and --demo-stock are ignored\n",
            );
        }
        return Ok(existing.view().opens_at);
    }
    let opens_at = sales.now().plus(DurationMs::seconds(args.demo_opens_in.unwrap_or(DEMO_OPENS_IN)));
    let mut spec = demo_spec(opens_at, args.demo_stock.unwrap_or(DEMO_STOCK))?;
    for item in &mut spec.items {
        item.picture = shop.and_then(|shop| store::picture_in_sale(shop, item.item.as_str()));
    }
    let (sales, sale) = (Arc::clone(sales), DEMO.parse()?);
    let actor = Actor::new(Actor::DEMO, "floodgate serve --demo");
    tokio::task::spawn_blocking(move || sales.define(&sale, actor, Box::new(spec))).await???;
    Ok(opens_at)
}

fn demo_spec(opens_at: TimeMs, stock: u64) -> Result<SaleSpec, serde_json::Error> {
    let offer = |item: &str, price_minor: u64| json!({ "item": item, "stock": stock, "price_minor": price_minor, "limit_per_shopper": 1 });
    serde_json::from_value(json!({
        "name": "Launch day", "name_zh": "首发日", "currency": "CNY", "hold_seconds": 900,
        "items": [
            { "item": "phone", "name": "Phone", "name_zh": "手机" },
            { "item": "earbuds", "name": "Earbuds", "name_zh": "耳机" },
        ],
        "rounds": [{
            "opens_at": opens_at,
            "closes_at": opens_at.plus(DurationMs::seconds(7 * 86_400)),
            "items": [offer("phone", 199_900), offer("earbuds", 29_900)],
        }],
    }))
}

fn demo_words(opens_at: TimeMs, now: TimeMs, kept: Option<&Path>) -> String {
    let opens = match opens_at.since(now).0 {
        0 => format!("sale `demo` opened at {opens_at}"),
        ms => format!("sale `demo` opens in {} s, at {opens_at}", ms.div_ceil(1000)),
    };
    let kept = match kept {
        Some(dir) => format!("kept in {}", dir.display()),
        None => "forgotten at the end; --data DIR keeps it".into(),
    };
    format!(
        "{opens}; {kept}\n\
         demo: every visitor is a shopper, payment is a sandbox, and loopback is exempt from address limits\n"
    )
}
