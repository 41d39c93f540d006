//! CPU time from a cart to a paid order, in the services of carts, orders, payments, stock and
//! catalogue with the sandbox as the provider, beside the same statements sent to the same engine
//! by its driver alone: `cargo xtask bench checkouts`.
//!
//! ```text
//! cargo run --release -p floodgate --example checkouts -- [--json] [--runs N] [--requests N]
//! ```
//!
//! A round fills two sets of databases alike. On the first, carts are bought by [`CLIENTS`] at
//! once, and what is asked of the databases is recorded. On the second, what was recorded is sent
//! again, a transaction at a time: all but a few must change as many rows as they did. Then the
//! carts are bought once more, without recording, and measured. No HTTP and no message service
//! takes part.
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use contracts::{
    Actor,
    store::{
        AccountId, Address, Asked, CartOwner, Carts, Category, CheckOut, Ended, HoldRef, Inbox, Localized,
        OrderId, PaymentId, Payments, Posts, Product, Pulled, Quantity, Receipt, SaleDecision, SaleHolds,
        ShippingMethod, StartPayment, StoreError, Variant,
    },
};
use engines::{
    chance::{Chance, SystemChance},
    clock::{Clock, SteadyClock},
    mariadb,
    sql::{
        Sql,
        recording::{Recording, Statement, Transaction, Value, record},
    },
    sqlite,
};
use mysql_async::prelude::Queryable;
use payment::sandbox::{Choice, Sandbox};
use server::MariaDb;
use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, oneshot},
    task::JoinSet,
};
use units::{Currency, Money};

#[path = "../../engines/tests/engines/mariadb/server.rs"]
mod server;

const CLIENTS: u64 = 16;
const SHARDS: usize = 4;
const SKUS: usize = 20;
/// How many times the CPU time of its statements a checkout may take.
const REACH: f64 = 2.0;
/// The databases of one round.
const NAMES: [&str; 4 + SHARDS] =
    ["catalog", "payments", "inventory", "order_list", "orders_0", "orders_1", "orders_2", "orders_3"];

struct Options {
    runs: usize,
    requests: u64,
    is_json: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { runs: 5, requests: 2000, is_json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().and_then(|value| value.parse::<u64>().ok());
                value.filter(|value| *value > 0).unwrap_or_else(|| panic!("{arg}: want a number above 0"))
            };
            match &*arg {
                "--json" => options.is_json = true,
                "--runs" => options.runs = number() as usize,
                "--requests" => options.requests = number(),
                _ => panic!("{arg}: want --json, --runs N or --requests N"),
            }
        }
        options
    }
}

/// A transaction, and in which of the databases it was.
type Recorded = (usize, Transaction);

/// What a checkout takes.
#[derive(Debug, Clone, Copy)]
struct Measured {
    cpu_us: f64,
    raw_cpu_us: f64,
    per_second: f64,
    transactions: f64,
    statements: f64,
}

/// The services of a shop, and their loops.
struct Shop {
    orders: Arc<order::service::Service>,
    payments: Arc<payment::service::Service>,
    sandbox: Arc<Sandbox>,
    paid: Arc<Paid>,
    _loops: Vec<JoinSet<()>>,
}

fn main() {
    let options = Options::read();
    let dir = tempfile::tempdir().expect("a directory");
    let on_sqlite: Vec<Measured> = (0..options.runs)
        .map(|round| {
            let at = |set: &str| dir.path().join(format!("{set}-{round}"));
            let open = |set: &str| -> Vec<Sql> {
                fs::create_dir_all(at(set)).expect("a directory");
                let file = |name: &&str| sqlite::open(&at(set).join(name)).expect("a database");
                NAMES.iter().map(file).collect()
            };
            let measured = measure(&options, &open, &|set, all| replay_on_sqlite(&at(set), all), &own_cpu);
            ["recorded", "raw", "measured"].iter().for_each(|set| drop(fs::remove_dir_all(at(set))));
            measured
        })
        .collect();
    let maria = MariaDb::start();
    let cpu = || own_cpu() + cpu_of(maria.pid());
    let on_mariadb: Vec<Measured> = (0..options.runs)
        .map(|round| {
            let name = |set: &str, name: &str| format!("{set}{round}_{name}");
            let open = |set: &str| -> Vec<Sql> {
                let one = |of: &&str| {
                    let name = name(set, of);
                    mariadb::open_or_make(&maria.url(&name), &name, &[]).expect("a database")
                };
                NAMES.iter().map(one).collect()
            };
            let urls = |set: &str| NAMES.map(|of| maria.url(&name(set, of)));
            measure(&options, &open, &|set, all| replay_on_mariadb(&urls(set), all), &cpu)
        })
        .collect();
    report(&options, &[("SQLite", on_sqlite), ("MariaDB", on_mariadb)]);
}

/// One round on one engine. `open` makes a set of databases, `replay` sends transactions to one,
/// and `cpu` is the CPU time of all that takes part so far, in seconds.
fn measure(
    options: &Options,
    open: &dyn Fn(&str) -> Vec<Sql>,
    replay: &dyn Fn(&str, &[Recorded]),
    cpu: &dyn Fn() -> f64,
) -> Measured {
    let count = options.requests;
    let recorded: Vec<Recorded> = {
        let (all, recordings): (Vec<Sql>, Vec<Recording>) = open("recorded").iter().map(record).unzip();
        let runtime = Runtime::new().expect("a runtime");
        let shop = runtime.block_on(Shop::open(all));
        recordings.iter().for_each(|recording| drop(recording.take()));
        runtime.block_on(shop.sell(count));
        runtime.shutdown_background();
        let of = |(at, recording): (usize, &Recording)| {
            recording.take().into_iter().map(move |transaction| (at, transaction)).collect::<Vec<_>>()
        };
        recordings.iter().enumerate().flat_map(of).collect()
    };
    {
        let runtime = Runtime::new().expect("a runtime");
        drop(runtime.block_on(Shop::open(open("raw"))));
    }
    let before = cpu();
    replay("raw", &recorded);
    let raw = cpu() - before;
    let runtime = Runtime::new().expect("a runtime");
    let shop = runtime.block_on(Shop::open(open("measured")));
    let (before, began) = (cpu(), Instant::now());
    runtime.block_on(shop.sell(count));
    let (own, lasted) = (cpu() - before, began.elapsed());
    let each = |seconds: f64| seconds * 1e6 / count as f64;
    let statements: usize = recorded.iter().map(|(_, of)| of.statements.len()).sum();
    Measured {
        cpu_us: each(own),
        raw_cpu_us: each(raw),
        per_second: count as f64 / lasted.as_secs_f64(),
        transactions: recorded.len() as f64 / count as f64,
        statements: statements as f64 / count as f64,
    }
}

impl Shop {
    /// Brings the tables up to date, fills the catalogue and the stock, and starts the loops.
    async fn open(all: Vec<Sql>) -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock::start());
        let [catalog, payments, stock, list] = [0, 1, 2, 3].map(|at| all[at].clone());
        let catalog =
            catalog::service::Service::open(catalog, Arc::clone(&clock)).await.expect("a catalogue");
        payment::service::migrate(&payments).await.expect("tables");
        let sandbox = Sandbox::new(payments.clone(), Arc::clone(&clock), &[7; 32]);
        let payments = payment::service::Service::new(
            payments,
            Arc::clone(&clock),
            Arc::new(SystemChance),
            Arc::clone(&sandbox) as _,
        );
        let stock = inventory::service::Service::open(stock, Arc::clone(&clock)).await.expect("tables");
        let shards = order::shards::Shards::open(
            order::shards::numbered(all[4..].to_vec()),
            clock.now(),
            &SystemChance,
        )
        .await
        .expect("tables");
        let way = ShippingMethod {
            id: "standard".into(),
            name: "Standard delivery".into(),
            name_zh: "标准配送".into(),
            price_minor: 0,
        };
        let tax = Arc::new(order::charges::IncludedTax { basis_points: 1300 });
        let list = order::list::List::open(list, &shards).await.expect("tables");
        let orders = order::service::Service::new(order::service::Needs {
            shards,
            list,
            clock,
            chance: Arc::new(SystemChance),
            catalog: Arc::clone(&catalog) as _,
            sales: Arc::new(NoSales),
            payments: Arc::clone(&payments) as _,
            stock: Arc::clone(&stock) as _,
            rules: order::charges::Rules { shipping: vec![way], tax },
        });
        fill(&catalog, &stock).await;
        let (told, paid) = (Arc::new(Pipe::default()), Arc::new(Paid::default()));
        let follows = order::service::Follows {
            sales: Arc::new(NoSales),
            payments: Arc::clone(&told) as _,
            orders: Arc::clone(&paid.listed) as _,
        };
        let mut webhooks = JoinSet::new();
        webhooks.spawn(Arc::clone(&sandbox).send_webhooks(Arc::clone(&payments)));
        let loops = vec![
            payments.start(told),
            stock.start(Arc::new(Unheard)),
            orders.start(follows, Arc::clone(&paid) as _),
            webhooks,
        ];
        Arc::new(Self { orders, payments, sandbox, paid, _loops: loops })
    }

    /// Shoppers buy so many carts, some at once.
    async fn sell(self: &Arc<Self>, count: u64) {
        let left = Arc::new(AtomicU64::new(count));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (left, shop) = (Arc::clone(&left), Arc::clone(self));
            clients.spawn(async move {
                while let Ok(number) = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                    shop.buy(number).await;
                }
            });
        }
        clients.join_all().await;
    }

    /// A new shopper puts two products into a cart, checks out, pays, and has a paid order.
    async fn buy(&self, number: u64) {
        let account = AccountId::new(SteadyClock::start().now(), SystemChance.bytes16().expect("chance"));
        let owner = CartOwner::Account(account);
        for offset in [0, 7] {
            let sku = sku((number as usize + offset) % SKUS).parse().expect("a sku");
            self.orders.change(owner.clone(), sku, Quantity::Add(1)).await.expect("a line");
        }
        let cart = self.orders.cart(owner).await.expect("a cart");
        let quotes = self.orders.quotes(cart.goods.expect("goods")).await.expect("quotes");
        let (_, quote) = quotes.into_iter().find(|(way, _)| way.id == "standard").expect("a quote");
        let check_out = CheckOut {
            shopper: account,
            cart: None,
            key: self.orders.new_key(account).await.expect("a key"),
            address: Address {
                name: "Ann".into(),
                phone: "13800138000".into(),
                street: "Chang'an Street 1".into(),
                city: "Beijing".into(),
                country: "CN".into(),
                ..Address::default()
            },
            shipping: "standard".into(),
            total_minor: quote.total.amount_minor,
        };
        let order = self.orders.check_out(check_out).await.expect("an order");
        let paid = self.paid.wait_for(order.id);
        let start = StartPayment {
            order: order.id,
            shopper: account,
            amount: order.total,
            return_path: format!("/orders/{}", order.id),
        };
        let started = Payments::start(&*self.payments, start).await.expect("a payment");
        let reference = started.url.rsplit('/').next().expect("a path").to_owned();
        self.sandbox.charge(reference.clone()).await.expect("a charge").expect("a charge");
        self.sandbox.choose(reference, Choice::Pay).await.expect("a choice");
        paid.await.expect("the order is paid");
    }
}

fn sku(number: usize) -> String {
    format!("SKU-{number}")
}

async fn fill(catalog: &catalog::service::Service, stock: &inventory::service::Service) {
    let said = |text: &str| Localized { en: text.into(), zh: text.into() };
    let category = Category { slug: "lamps".parse().expect("a slug"), name: said("Lamps") };
    catalog.put_categories(vec![category]).await.expect("categories");
    let currency: Currency = "CNY".parse().expect("a currency");
    for number in 0..SKUS {
        let sku = sku(number).parse().expect("a sku");
        let variant = Variant {
            sku,
            name: Localized::default(),
            price: Money { amount_minor: 4_900, currency },
            offered_in: Vec::new(),
        };
        stock
            .open_with(Actor::new("bench", "more"), variant.sku.clone(), 1_000_000, None)
            .await
            .expect("units");
        let product = Product {
            slug: format!("lamp-{number}").parse().expect("a slug"),
            name: said("Lamp"),
            description: said("It shines."),
            category: "lamps".parse().expect("a slug"),
            variants: vec![variant],
            pictures: Vec::new(),
            position: number as u32,
            is_published: true,
        };
        catalog.put(product).await.expect("a product");
    }
}

/// No order here is a winner's.
struct NoSales;

impl SaleHolds for NoSales {
    fn confirm(&self, _: HoldRef, _: PaymentId) -> Asked<'_, SaleDecision> {
        Box::pin(async { Err(StoreError::Invalid("there is no sale".into())) })
    }

    fn release(&self, _: HoldRef) -> Asked<'_, ()> {
        Box::pin(async { Err(StoreError::Invalid("there is no sale".into())) })
    }
}

impl Inbox for NoSales {
    fn pull(&self, _: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(Vec::new())
        })
    }

    fn settle(&self, _: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// The events of payments, on their way to the orders.
#[derive(Default)]
struct Pipe {
    events: Mutex<(u64, VecDeque<Pulled>)>,
    news: Notify,
}

impl Posts for Pipe {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        let mut all = self.events.lock().expect("not poisoned");
        for event in events {
            all.0 += 1;
            let receipt = Receipt { number: all.0, attempt: 1 };
            all.1.push_back(Pulled { receipt, event });
        }
        self.news.notify_one();
        Box::pin(async { Ok(()) })
    }
}

impl Inbox for Pipe {
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            let take = || {
                let mut all = self.events.lock().expect("not poisoned");
                let count = at_most.min(all.1.len());
                all.1.drain(..count).collect::<Vec<_>>()
            };
            let taken = take();
            if !taken.is_empty() {
                return Ok(taken);
            }
            let _ = tokio::time::timeout(wait, self.news.notified()).await;
            Ok(take())
        })
    }

    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        assert!(ended.iter().all(|(_, ended)| *ended == Ended::Done), "{ended:?}");
        Box::pin(async { Ok(()) })
    }
}

/// What is posted here goes nowhere.
struct Unheard;

impl Posts for Unheard {
    fn post(&self, _: Vec<String>) -> Asked<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Hears which orders are paid, and hands all that it hears to their list.
#[derive(Default)]
struct Paid {
    waiting: Mutex<HashMap<OrderId, oneshot::Sender<()>>>,
    listed: Arc<Pipe>,
}

impl Paid {
    fn wait_for(&self, order: OrderId) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().expect("not poisoned").insert(order, tell);
        told
    }
}

impl Posts for Paid {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        for event in &events {
            let event: serde_json::Value = serde_json::from_str(event).expect("JSON");
            if event["type"] == "floodgate.order.paid" {
                let order = event["subject"].as_str().expect("a subject").parse().expect("an order");
                let tell = self.waiting.lock().expect("not poisoned").remove(&order);
                // It is told at least once.
                if let Some(tell) = tell {
                    let _ = tell.send(());
                }
            }
        }
        self.listed.post(events)
    }
}

/// The statements alone, by the driver of SQLite: each transaction is committed by itself.
fn replay_on_sqlite(dir: &Path, all: &[Recorded]) {
    let open = |name: &&str| {
        let connection = rusqlite::Connection::open(dir.join(name)).expect("a database");
        connection.pragma_update(None, "synchronous", "FULL").expect("a setting");
        connection.set_prepared_statement_cache_capacity(128);
        connection
    };
    let connections: Vec<rusqlite::Connection> = NAMES.iter().map(open).collect();
    let mut compared = Compared::default();
    for (at, transaction) in all {
        let connection = &connections[*at];
        let begin = if transaction.is_read { "BEGIN" } else { "BEGIN IMMEDIATE" };
        connection.prepare_cached(begin).and_then(|mut of| of.execute([])).expect("a transaction");
        for statement in &transaction.statements {
            let params = rusqlite::params_from_iter(statement.params.iter().map(|param| match param {
                Value::Null => rusqlite::types::Value::Null,
                Value::Int(value) => rusqlite::types::Value::Integer(*value),
                Value::Text(value) => rusqlite::types::Value::Text(value.clone()),
                Value::Bytes(value) => rusqlite::types::Value::Blob(value.clone()),
            }));
            let mut prepared = connection.prepare_cached(&statement.text).expect("a statement");
            if !statement.is_query {
                compared.add(statement, prepared.execute(params).expect("a change") as u64);
                continue;
            }
            let columns = prepared.column_count();
            let mut rows = prepared.query(params).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                for column in 0..columns {
                    std::hint::black_box(row.get_ref(column).expect("a value"));
                }
            }
        }
        connection.prepare_cached("COMMIT").and_then(|mut of| of.execute([])).expect("a commit");
    }
}

/// The same by the driver of MariaDB.
fn replay_on_mariadb(urls: &[String], all: &[Recorded]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (mut connections, mut compared) = (Vec::new(), Compared::default());
        for url in urls {
            let opts = mysql_async::Opts::from_url(url).expect("a URL");
            let opts = mysql_async::OptsBuilder::from_opts(opts);
            let opts = opts.client_found_rows(true).stmt_cache_size(128).tcp_nodelay(true);
            connections.push(mysql_async::Conn::new(opts).await.expect("a connection"));
        }
        for (at, transaction) in all {
            let connection = &mut connections[*at];
            connection.query_drop("BEGIN").await.expect("a transaction");
            for statement in &transaction.statements {
                let params: Vec<mysql_async::Value> = statement
                    .params
                    .iter()
                    .map(|param| match param {
                        Value::Null => mysql_async::Value::NULL,
                        Value::Int(value) => mysql_async::Value::Int(*value),
                        Value::Text(value) => mysql_async::Value::Bytes(value.clone().into_bytes()),
                        Value::Bytes(value) => mysql_async::Value::Bytes(value.clone()),
                    })
                    .collect();
                let params = match params.is_empty() {
                    true => mysql_async::Params::Empty,
                    false => mysql_async::Params::Positional(params),
                };
                if statement.is_query {
                    let rows: Vec<mysql_async::Row> =
                        connection.exec(&*statement.text, params).await.expect("rows");
                    std::hint::black_box(rows);
                } else {
                    connection.exec_drop(&*statement.text, params).await.expect("a change");
                    compared.add(statement, connection.affected_rows());
                }
            }
            connection.query_drop("COMMIT").await.expect("a commit");
        }
    });
}

/// A replay that changes other rows would measure something else. Few may: transactions that end at
/// the same moment on several connections are recorded in any order.
#[derive(Default)]
struct Compared {
    changes: u64,
    others: u64,
}

impl Compared {
    fn add(&mut self, statement: &Statement, rows: u64) {
        self.changes += 1;
        self.others += u64::from(rows != statement.rows);
    }
}

impl Drop for Compared {
    fn drop(&mut self) {
        let Self { changes, others } = self;
        assert!(100 * *others <= *changes, "{others} of {changes} changes were of other rows than before");
    }
}

/// CPU time of this process so far, in seconds.
fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The same of another one.
fn cpu_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    // utime and stime: fields 14 and 15 in proc(5), whose third is the first here; in USER_HZ.
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// Median, lowest and highest.
fn spread(of: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    [sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1]]
}

fn report(options: &Options, engines: &[(&str, Vec<Measured>)]) {
    type Of = fn(&Measured) -> f64;
    let columns: [(&str, usize, Of); 6] = [
        ("CPU-µs a checkout", 0, |of| of.cpu_us),
        ("CPU-µs of its statements alone", 0, |of| of.raw_cpu_us),
        ("ratio", 2, |of| of.cpu_us / of.raw_cpu_us),
        ("checkouts/s", 0, |of| of.per_second),
        ("transactions", 1, |of| of.transactions),
        ("statements", 1, |of| of.statements),
    ];
    if options.is_json {
        let rows: Vec<_> = engines
            .iter()
            .map(|(engine, all)| {
                let figures = columns.map(|(name, _, of)| (name, spread(all.iter().map(of))));
                let figures: HashMap<&str, [f64; 3]> = figures.into_iter().collect();
                serde_json::json!({ "engine": engine, "median, lowest, highest": figures, "reach": REACH })
            })
            .collect();
        println!("{}", serde_json::json!({ "clients": CLIENTS, "requests": options.requests, "rows": rows }));
        return;
    }
    println!(
        "{CLIENTS} shoppers at once, {} checkouts a round; median (lowest to highest) of {} rounds; reach of the ratio: \
         {REACH}\n",
        options.requests, options.runs
    );
    println!("| engine | {} | |", columns.map(|(name, ..)| name).join(" | "));
    println!("|---|{}---|", "---|".repeat(columns.len()));
    for (engine, all) in engines {
        let figures = columns.map(|(_, digits, of)| {
            let [median, lowest, highest] = spread(all.iter().map(of));
            format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
        });
        let ratio = spread(all.iter().map(columns[2].2))[0];
        let verdict = if ratio <= REACH { "reached" } else { "**not reached**" };
        println!("| {engine} | {} | {verdict} |", figures.join(" | "));
    }
}
