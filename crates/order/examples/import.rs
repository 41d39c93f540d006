//! How fast winners become orders: `cargo run --release -p order --example import`. A hundred
//! thousand grants are handed to the service as the message service would, in batches, over four
//! SQLite files on this machine's disk; the process is killed twice meanwhile, and what it had not
//! settled comes again. At the end each hold must have exactly one order.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use contracts::{
    SaleId,
    store::{
        Asked, CameBack, Catalog, Category, Ended, ForSale, HoldRef, Inbox, Listings, OrderId, PaymentId,
        PaymentView, Payments, Posts, Product, ProductQuery, ProductSlug, Pulled, Receipt, Reserved,
        SaleDecision, SaleHolds, Sku, StartPayment, StartedPayment, Stock, StockLevel, StockLine, StoreError,
        TakenFrom,
    },
};
use engines::{clock::SteadyClock, sql::SqlError, sqlite};
use order::{
    charges::Rules,
    list::List,
    service::{Follows, Needs, Service},
    shards::{Shards, numbered},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use units::TimeMs;

const WINNERS: u64 = 100_000;
const SHARDS: usize = 4;
const DIR: &str = "FLOODGATE_IMPORT_DIR";

fn main() {
    match env::var_os(DIR) {
        Some(dir) => child(&PathBuf::from(dir)),
        None => parent(),
    }
}

/// Kills the importing process at a third and at two thirds, and lets the third one end.
fn parent() {
    let dir = env::args().nth(1).map_or_else(env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("floodgate-import-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let began = Instant::now();
    for kill_at in [WINNERS / 3, 2 * WINNERS / 3, u64::MAX] {
        let exe = env::current_exe().expect("this program");
        let mut child = Command::new(exe).env(DIR, &dir).spawn().expect("it starts");
        loop {
            if let Some(status) = child.try_wait().expect("it is a child") {
                assert!(status.success(), "{status}");
                break;
            }
            if settled(&dir) >= kill_at {
                child.kill().expect("it runs");
                child.wait().expect("it is a child");
                break;
            }
            sleep(Duration::from_millis(2));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (orders, holds) = runtime.block_on(counted(&dir));
    println!("{WINNERS} winners in {seconds:.1} s, killed twice: {:.0}/s", WINNERS as f64 / seconds);
    println!("{orders} orders of {holds} holds");
    assert_eq!((orders, holds), (WINNERS, WINNERS), "each hold has one order");
    fs::remove_dir_all(&dir).expect("it is ours");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    (0..SHARDS).map(|shard| dir.join(format!("orders-{shard}.db"))).collect()
}

/// Orders, and different holds among them.
async fn counted(dir: &Path) -> (u64, u64) {
    let mut all = (0, 0);
    for file in files(dir) {
        let sql = sqlite::open(&file).expect("it opens");
        let count = "SELECT COUNT(*), COUNT(DISTINCT hold) FROM orders";
        let read = sql.read(move |tx| tx.query_first(count, &[], |row| Ok((row.count(0)?, row.count(1)?))));
        let (orders, holds) = read.await.expect("it counts").expect("a row");
        all = (all.0 + orders, all.1 + holds);
    }
    all
}

/// How many the message service would know to be done.
fn settled(dir: &Path) -> u64 {
    fs::read_to_string(dir.join("settled")).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn child(dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let opened = files(dir).iter().map(|file| sqlite::open(file)).collect::<Result<Vec<_>, SqlError>>();
        let (all, now) = (numbered(opened.expect("they open")), TimeMs(1_795_521_600_000));
        let shards = Shards::open(all, now, &engines::chance::SystemChance).await.expect("tables");
        let absent = Arc::new(Absent);
        let list = sqlite::open(&dir.join("order-list.db")).expect("it opens");
        let list = List::open(list, &shards).await.expect("tables");
        let service = Service::new(Needs {
            shards,
            list,
            clock: Arc::new(SteadyClock::start()),
            chance: Arc::new(engines::chance::SystemChance),
            catalog: absent.clone(),
            sales: absent.clone(),
            payments: absent.clone(),
            stock: absent.clone(),
            rules: Rules::free(),
        });
        let grants = Arc::new(Grants { dir: dir.to_owned(), next: AtomicU64::new(settled(dir)) });
        let follows = Follows { sales: grants, payments: absent.clone(), orders: absent.clone() };
        let _loops = service.start(follows, absent);
        while settled(dir) < WINNERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// The events of a sale in which each shopper wins one unit.
struct Grants {
    dir: PathBuf,
    next: AtomicU64,
}

fn grant(number: u64) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"log-{number}","source":"/sales/launch","type":"floodgate.sale.granted","subject":"{number:032x}","time":"2026-11-27T10:00:00Z","data":{{"sale":"launch","log":"bench","sequence":{},"hold":"{number:032x}","shopper":"shopper-{number}","currency":"CNY","pay_by":"2026-11-27T10:15:00.000Z","lines":[{{"item":"phone","quantity":1,"price_minor":199900}}]}}}}"#,
        number + 1
    )
}

impl Inbox for Grants {
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            let from = self.next.load(Relaxed);
            let to = WINNERS.min(from + at_most as u64);
            self.next.store(to, Relaxed);
            if from == to {
                tokio::time::sleep(wait).await;
            }
            let pulled = |number| Pulled { receipt: Receipt { number, attempt: 1 }, event: grant(number) };
            Ok((from..to).map(pulled).collect())
        })
    }

    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        Box::pin(async move {
            assert!(ended.iter().all(|(_, ended)| *ended == Ended::Done), "{ended:?}");
            let last = ended.iter().map(|(receipt, _)| receipt.number + 1).max().unwrap_or_default();
            let (new, file) = (self.dir.join("settled.new"), self.dir.join("settled"));
            fs::write(&new, last.to_string()).and_then(|()| fs::rename(&new, &file)).expect("it is written");
            Ok(())
        })
    }
}

/// All the others: no payment comes, and no event is taken.
struct Absent;

fn never<'a, T: 'a>() -> Asked<'a, T> {
    Box::pin(std::future::pending())
}

impl Inbox for Absent {
    fn pull(&self, _: usize, _: Duration) -> Asked<'_, Vec<Pulled>> {
        never()
    }
    fn settle(&self, _: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        never()
    }
}

impl Posts for Absent {
    fn post(&self, _: Vec<String>) -> Asked<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Catalog for Absent {
    fn categories(&self) -> Asked<'_, Vec<Category>> {
        never()
    }
    fn products(&self, _: ProductQuery) -> Asked<'_, Listings> {
        never()
    }
    fn product(&self, _: ProductSlug) -> Asked<'_, Option<Product>> {
        never()
    }
    fn for_sale(&self, _: Vec<Sku>) -> Asked<'_, Vec<ForSale>> {
        never()
    }
    fn of_sale(&self, _: SaleId) -> Asked<'_, Vec<Product>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl SaleHolds for Absent {
    fn confirm(&self, _: HoldRef, _: PaymentId) -> Asked<'_, SaleDecision> {
        never()
    }
    fn release(&self, _: HoldRef) -> Asked<'_, ()> {
        never()
    }
}

impl Payments for Absent {
    fn start(&self, _: StartPayment) -> Asked<'_, StartedPayment> {
        never()
    }
    fn of_order(&self, _: OrderId) -> Asked<'_, Vec<PaymentView>> {
        never()
    }
    fn refund(&self, _: PaymentId, _: String) -> Asked<'_, ()> {
        Box::pin(async { Err(StoreError::Unavailable("no payments here".into())) })
    }
    fn refund_part(&self, _: PaymentId, _: String, _: u64, _: String) -> Asked<'_, ()> {
        never()
    }
    fn forgo_part(&self, _: PaymentId, _: String, _: u64) -> Asked<'_, ()> {
        never()
    }
}

impl Stock for Absent {
    fn levels(&self, _: Vec<Sku>) -> Asked<'_, Vec<StockLevel>> {
        never()
    }
    fn reserve(&self, _: OrderId, _: TakenFrom, _: Vec<StockLine>, _: TimeMs) -> Asked<'_, Reserved> {
        never()
    }
    fn confirm(&self, _: OrderId) -> Asked<'_, Reserved> {
        never()
    }
    fn release(&self, _: OrderId, _: String) -> Asked<'_, ()> {
        never()
    }
    fn ship(&self, _: OrderId) -> Asked<'_, ()> {
        never()
    }
    fn take_back(&self, _: OrderId, _: String, _: Vec<StockLine>, _: CameBack) -> Asked<'_, ()> {
        never()
    }
}
