//! How many reservations of one hot SKU a second 64 clients get, on SQLite and on MariaDB, beside
//! the same number of plain `UPDATE … WHERE free >= 1`, which know no order, no ledger and no
//! repeat: `cargo xtask bench inventory`.
//!
//! ```text
//! cargo run --release -p inventory --example hot_sku -- [--json] [--runs N] [--requests N]
//! ```
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use contracts::{
    Actor,
    store::{OrderId, Reserved, Sku, Stock as _, StockLine, TakenFrom},
};
use engines::{
    clock::{Clock, SteadyClock},
    mariadb, params,
    sql::{Migration, Sql, SqlError},
    sqlite,
};
use inventory::{core::Change, service::Service};
use server::MariaDb;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::task::JoinSet;
use units::DurationMs;

#[path = "../../engines/tests/engines/mariadb/server.rs"]
mod server;

const CLIENTS: usize = 64;
const SKU: &str = "HOT";

const PLAIN: &[Migration] = &[Migration {
    name: "a number",
    statements: &["CREATE TABLE plain (sku VARCHAR(64) PRIMARY KEY, free BIGINT NOT NULL)"],
}];

struct Options {
    runs: usize,
    requests: u64,
    is_json: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { runs: 5, requests: 4000, is_json: false };
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

/// What is measured on one engine.
struct Measured {
    engine: &'static str,
    /// A second, of each run.
    reserved: Vec<f64>,
    plain: Vec<f64>,
}

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let open = |name: &str| sqlite::open(&dir.path().join(name)).expect("a database");
    let (stock, plain) = (open("inventory.db"), open("plain.db"));
    let on_sqlite = runtime.block_on(measure("SQLite", stock, plain, &options));
    let maria = MariaDb::start();
    let open = |name: &str| mariadb::open_or_make(&maria.url(name), name, &[]).expect("a database");
    let (stock, plain) = (open("inventory"), open("plain"));
    let on_mariadb = runtime.block_on(measure("MariaDB", stock, plain, &options));
    report(&[on_sqlite, on_mariadb], &options);
}

async fn measure(engine: &'static str, stock: Sql, plain: Sql, options: &Options) -> Measured {
    let clock = Arc::new(SteadyClock::start());
    let service = Service::open(stock, Arc::clone(&clock) as _).await.expect("tables");
    let sku = SKU.parse().expect("a sku");
    service.make_known(sku).await.expect("a level");
    plain.migrate(PLAIN).await.expect("a table");
    let insert = |tx: &mut engines::sql::Tx<'_>| {
        tx.execute("INSERT INTO plain (sku, free) VALUES (?, 1000000000)", params![SKU])
    };
    plain.write(insert).await.expect("a row");
    let next = Arc::new(AtomicU64::new(0));
    let (mut reserved, mut updated) = (Vec::new(), Vec::new());
    for run in 0..=options.runs {
        let sku: Sku = SKU.parse().expect("a sku");
        let receive = Change::Receive { units: options.requests };
        service.change(Actor::new("bench", "more"), None, sku, receive).await.expect("units");
        let (of, numbers, until) =
            (Arc::clone(&service), Arc::clone(&next), clock.now().plus(DurationMs(3_600_000)));
        let one = many(options.requests, move || {
            let (service, number) = (Arc::clone(&of), numbers.fetch_add(1, Relaxed));
            async move {
                let line = StockLine { sku: SKU.parse().expect("a sku"), quantity: 1 };
                let order = OrderId::from_bytes(u128::from(number).to_be_bytes());
                let said = service.reserve(order, TakenFrom::Free, vec![line], until).await;
                assert_eq!(said, Ok(Reserved::Whole));
            }
        });
        let of_stock = one.await;
        let sql = plain.clone();
        let of_plain = many(options.requests, move || {
            let sql = sql.clone();
            async move {
                let text = "UPDATE plain SET free = free - 1 WHERE sku = ? AND free >= 1";
                let said = sql.write(move |tx| tx.execute(text, params![SKU])).await;
                assert_eq!(said, Ok::<u64, SqlError>(1));
            }
        });
        let of_plain = of_plain.await;
        // The first run fills caches.
        if run > 0 {
            reserved.push(of_stock);
            updated.push(of_plain);
        }
    }
    let found = service.audit(String::new(), 1).await.expect("an audit");
    assert_eq!(found.differences, [], "the ledger adds up");
    Measured { engine, reserved, plain: updated }
}

/// Calls it so often, by all clients together. Returns how many were done a second.
async fn many<F>(requests: u64, call: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let (left, began) = (Arc::new(AtomicU64::new(requests)), Instant::now());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (left, call) = (Arc::clone(&left), call.clone());
        clients.spawn(async move {
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                call().await;
            }
        });
    }
    clients.join_all().await;
    requests as f64 / began.elapsed().as_secs_f64()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(all: &[Measured], options: &Options) {
    let figures = all.iter().map(|of| (of, median(&of.reserved), median(&of.plain)));
    if options.is_json {
        let rows: Vec<_> = figures
            .map(|(of, reserved, plain)| {
                serde_json::json!({
                    "engine": of.engine,
                    "reservations_per_second": reserved,
                    "plain_updates_per_second": plain,
                    "ratio": reserved / plain,
                    "runs": { "reserved": of.reserved, "plain": of.plain },
                })
            })
            .collect();
        println!("{}", serde_json::json!({ "clients": CLIENTS, "requests": options.requests, "rows": rows }));
        return;
    }
    println!("| engine | reservations/s | plain UPDATE/s | ratio |\n|---|---|---|---|");
    for (of, reserved, plain) in figures {
        println!("| {} | {reserved:.0} | {plain:.0} | {:.2} |", of.engine, reserved / plain);
    }
    println!("\n{CLIENTS} clients, one SKU, {} requests a run, median of {}", options.requests, options.runs);
}
