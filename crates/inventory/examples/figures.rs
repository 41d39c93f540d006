//! The figures of the stock, on SQLite and on MariaDB: `cargo xtask bench inventory`.
//!
//! - How many reservations of one hot SKU a second 64 clients get, beside the same number of plain
//!   `UPDATE … WHERE free >= 1`, which know no order, no ledger and no repeat.
//! - How long it takes until all winners of a sale have units out of its claim, from 12 warehouses.
//! - What a line of a basket costs, by the number of its lines.
//!
//! ```text
//! cargo run --release -p inventory@0.1.0 --example figures -- \
//!     [--json] [--runs N] [--requests N] [--winners N] [--counted N]
//! ```
#![expect(clippy::print_stdout, reason = "a measuring program prints its measurements")]

use contracts::{
    Actor, SaleId,
    store::{OrderId, Reserved, Sku, Stock as _, StockLine, TakenFrom},
};
use engines::{
    clock::{Clock, SteadyClock},
    mariadb, params,
    sql::{Migration, Sql, SqlError},
    sqlite,
};
use inventory::{
    core::{Change, Spot},
    service::Service,
    warehouses::Warehouse,
};
use server::MariaDb;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::task::JoinSet;
use units::{DurationMs, TimeMs};

#[path = "../../engines/tests/engines/mariadb/server.rs"]
mod server;

const CLIENTS: usize = 64;
const HELD: DurationMs = DurationMs(3_600_000);
const SKU: &str = "HOT";
const WAREHOUSES: usize = 12;
/// Lines of a basket, and SKUs that they are of.
const LINES: [usize; 3] = [10, 100, 1000];
const SKUS: usize = 2000;
const LINES_IN_ALL: usize = 40_000;

const PLAIN: &[Migration] = &[Migration {
    name: "a number",
    statements: &["CREATE TABLE plain (sku VARCHAR(64) PRIMARY KEY, free BIGINT NOT NULL)"],
}];

struct Options {
    runs: usize,
    requests: u64,
    winners: u64,
    /// Lines of a sheet.
    counted: usize,
    is_json: bool,
}

impl Options {
    fn read() -> Self {
        let mut options =
            Self { runs: 5, requests: 4000, winners: 100_000, counted: 100_000, is_json: false };
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
                "--winners" => options.winners = number(),
                "--counted" => options.counted = number() as usize,
                _ => panic!("{arg}: want --json, --runs N, --requests N, --winners N or --counted N"),
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
    /// Seconds until all winners have theirs.
    winners: f64,
    /// Microseconds a line, by [`LINES`].
    line: Vec<f64>,
    /// Seconds until a sheet of new SKUs is stored, and until another one that counts
    /// each of them anew is.
    sheet: [f64; 2],
    /// Deadlocks that the server has counted meanwhile.
    deadlocks: Option<u64>,
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
        let (of, numbers, until) = (Arc::clone(&service), Arc::clone(&next), clock.now().plus(HELD));
        let one = many(options.requests, move || {
            let (service, number) = (Arc::clone(&of), numbers.fetch_add(1, Relaxed));
            async move {
                let line = StockLine { sku: SKU.parse().expect("a sku"), quantity: 1 };
                let said = service.reserve(order(0, number), TakenFrom::Free, vec![line], until).await;
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
    let line = lines(&service, clock.now()).await;
    let winners = winners(&service, clock.now(), options.winners).await;
    let sheet = sheet(&service, options.counted).await;
    let mut after = Some(String::new());
    while let Some(from) = after {
        let found = service.audit(from, 500).await.expect("an audit");
        assert_eq!(found.differences, [], "the ledger adds up");
        after = found.next;
    }
    let deadlocks = deadlocks(&plain).await;
    Measured { engine, reserved, plain: updated, winners, line, sheet, deadlocks }
}

/// All winners of a sale, whose stock lies in several warehouses.
async fn winners(service: &Arc<Service>, now: TimeMs, winners: u64) -> f64 {
    let (by, sku): (_, Sku) = (Actor::new("bench", "a sale"), "PHONE".parse().expect("a sku"));
    let sale: SaleId = "launch".parse().expect("a sale");
    service.make_known(sku.clone()).await.expect("a level");
    for number in 0..WAREHOUSES {
        let id = if number == 0 { "main".into() } else { format!("w{number}") };
        let warehouse = Warehouse {
            warehouse: id.parse().expect("a warehouse"),
            name: id,
            ships: true,
            parcel_cost: number as u64,
            days: 1,
            version: 0,
        };
        let at = Spot { sku: sku.clone(), warehouse: warehouse.warehouse.clone() };
        service.put_warehouse(by.clone(), warehouse, None).await.expect("a warehouse");
        let units = winners.div_ceil(WAREHOUSES as u64);
        service.change(by.clone(), None, at, Change::Receive { units }).await.expect("units");
    }
    service.claim(by, sale.clone(), sku.clone(), winners).await.expect("a claim");
    let (of, next, until) = (Arc::clone(service), Arc::new(AtomicU64::new(0)), now.plus(HELD));
    let a_second = many(winners, move || {
        let (service, number) = (Arc::clone(&of), next.fetch_add(1, Relaxed));
        let (line, from) = (StockLine { sku: sku.clone(), quantity: 1 }, TakenFrom::Claim(sale.clone()));
        async move {
            let said = service.reserve(order(1, number), from, vec![line], until).await;
            assert_eq!(said, Ok(Reserved::Whole));
        }
    });
    winners as f64 / a_second.await
}

/// Baskets of many lines, of SKUs that others want too.
async fn lines(service: &Arc<Service>, now: TimeMs) -> Vec<f64> {
    let by = Actor::new("bench", "many");
    for number in 0..SKUS {
        let (sku, units): (Sku, _) = (format!("S{number}").parse().expect("a sku"), LINES_IN_ALL as u64);
        service.make_known(sku.clone()).await.expect("a level");
        service.change(by.clone(), None, sku, Change::Receive { units }).await.expect("units");
    }
    let mut each = Vec::new();
    for (group, lines) in LINES.into_iter().enumerate() {
        let (of, next, until) = (Arc::clone(service), Arc::new(AtomicU64::new(0)), now.plus(HELD));
        let baskets = (LINES_IN_ALL / lines) as u64;
        let a_second = many(baskets, move || {
            let (service, number) = (Arc::clone(&of), next.fetch_add(1, Relaxed));
            async move {
                let line = |line: usize| {
                    let sku = (number as usize * 7919 + line) % SKUS;
                    StockLine { sku: format!("S{sku}").parse().expect("a sku"), quantity: 1 }
                };
                let basket = (0..lines).map(line).collect();
                let order = order(2 + group as u64, number);
                let said = service.reserve(order, TakenFrom::Free, basket, until).await;
                assert_eq!(said, Ok(Reserved::Whole));
            }
        });
        each.push(1e6 / a_second.await / lines as f64);
    }
    each
}

/// Sheets of many lines.
async fn sheet(service: &Arc<Service>, counted: usize) -> [f64; 2] {
    let mut seconds = [0.0; 2];
    for (seconds, units) in seconds.iter_mut().zip([5, 6]) {
        let lines = (0..counted).map(|number| format!("C{number:06},{units}\n"));
        let text: String = std::iter::once("sku,on_hand\n".to_owned()).chain(lines).collect();
        let began = Instant::now();
        let counts = inventory::sheet::read(text.as_bytes()).expect("a sheet");
        let taken =
            service.take_sheet(Actor::new("bench", "counted"), None, counts, true).await.expect("a sheet");
        assert_eq!(taken.changed, counted);
        *seconds = began.elapsed().as_secs_f64();
    }
    seconds
}

fn order(group: u64, number: u64) -> OrderId {
    OrderId::from_bytes((u128::from(group) << 64 | u128::from(number)).to_be_bytes())
}

/// What the server has counted, if there is one.
async fn deadlocks(sql: &Sql) -> Option<u64> {
    let text = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS \
                WHERE VARIABLE_NAME = 'INNODB_DEADLOCKS'";
    sql.read(move |tx| tx.query_first(text, &[], |row| row.count(0))).await.ok().flatten()
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
                    "winners_seconds": of.winners,
                    "microseconds_a_line": LINES.iter().zip(&of.line).collect::<Vec<_>>(),
                    "sheet_seconds": of.sheet,
                    "deadlocks": of.deadlocks,
                })
            })
            .collect();
        let of = serde_json::json!({
            "clients": CLIENTS,
            "requests": options.requests,
            "winners": options.winners,
            "warehouses": WAREHOUSES,
            "counted": options.counted,
            "rows": rows,
        });
        println!("{of}");
        return;
    }
    println!(
        "| engine | reservations/s | plain UPDATE/s | ratio | all winners, s | µs a line of 10 | of 100 | of 1,000 | a sheet of new SKUs, s | one that counts them, s | deadlocks |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (of, reserved, plain) in figures {
        let line: Vec<String> = of.line.iter().map(|of| format!("{of:.0}")).collect();
        let (ratio, deadlocks) = (reserved / plain, of.deadlocks.map_or("".into(), |of| of.to_string()));
        println!(
            "| {} | {reserved:.0} | {plain:.0} | {ratio:.2} | {:.1} | {} | {:.1} | {:.1} | {deadlocks} |",
            of.engine,
            of.winners,
            line.join(" | "),
            of.sheet[0],
            of.sheet[1],
        );
    }
    println!(
        "\n{CLIENTS} clients; one SKU, {} requests a run, median of {}; {} winners, {WAREHOUSES} warehouses; \
         baskets of {SKUS} SKUs; sheets of {} lines",
        options.requests, options.runs, options.winners, options.counted
    );
}
