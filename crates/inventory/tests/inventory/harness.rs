//! Services over an engine, a clock that the test sets, and short names for what tests do often.

use contracts::{
    Actor, SaleId,
    store::{OrderId, Reserved, Sku, Stock as _, StockLevel, StockLine, StoreError, TakenFrom},
};
use engines::{
    clock::Clock,
    mariadb,
    sql::{Sql, SqlError},
    sqlite,
};
use inventory::{core::Change, service::Service};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::runtime::{Builder, Runtime};
use units::TimeMs;

#[path = "../../../engines/tests/engines/mariadb/server.rs"]
pub mod server;

/// When the tests begin.
const START: u64 = 1_795_521_600_000;
/// How long reservations are held, unless a test says otherwise.
pub const HELD_MS: u64 = 60_000;

#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Relaxed))
    }
}

impl TestClock {
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

/// A database with a service on each pool of connections to it.
pub struct Stock {
    pub services: Vec<Arc<Service>>,
    pub sql: Sql,
    pub clock: Arc<TestClock>,
    pub is_mariadb: bool,
}

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

pub async fn open(pools: Vec<Sql>, is_mariadb: bool) -> Stock {
    let clock = Arc::new(TestClock(AtomicU64::new(START)));
    let (sql, mut services) = (pools[0].clone(), Vec::new());
    for pool in pools {
        services.push(Service::open(pool, Arc::clone(&clock) as _).await.unwrap());
    }
    Stock { services, sql, clock, is_mariadb }
}

/// Two pools of connections, as two processes have them.
pub fn pools(server: &server::MariaDb) -> Vec<Sql> {
    ["x", "x"].map(|name| mariadb::open_or_make(&server.url(name), "inventory", &[]).unwrap()).into()
}

/// Runs the test on SQLite, and on MariaDB with two pools.
pub fn on_both(test: impl AsyncFn(&Stock)) {
    let dir = tempfile::tempdir().unwrap();
    let file = sqlite::open(&dir.path().join("inventory.db")).unwrap();
    runtime().block_on(async { test(&open(vec![file], false).await).await });
    let server = server::MariaDb::start();
    let pools = pools(&server);
    runtime().block_on(async { test(&open(pools, true).await).await });
}

pub fn by() -> Actor {
    Actor::new("alice", "a test")
}

pub fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

pub fn sale(text: &str) -> SaleId {
    text.parse().unwrap()
}

/// As real ones, later numbers are larger.
pub fn order(number: u64) -> OrderId {
    OrderId::from_bytes((u128::from(START) << 80 | u128::from(number)).to_be_bytes())
}

pub fn lines(of: &[(&str, u32)]) -> Vec<StockLine> {
    of.iter().map(|(name, quantity)| StockLine { sku: sku(name), quantity: *quantity }).collect()
}

impl Stock {
    /// One of the services.
    pub fn service(&self, number: u64) -> Arc<Service> {
        Arc::clone(&self.services[number as usize % self.services.len()])
    }

    pub async fn put(&self, name: &str, units: u64) {
        let service = &self.services[0];
        service.make_known(sku(name)).await.unwrap();
        service.change(by(), None, sku(name), Change::Receive { units }).await.unwrap();
    }

    pub fn until(&self) -> TimeMs {
        TimeMs(self.clock.now().0 + HELD_MS)
    }

    pub async fn reserve(&self, number: u64, of: &[(&str, u32)]) -> Result<Reserved, StoreError> {
        self.service(number).reserve(order(number), TakenFrom::Free, lines(of), self.until()).await
    }

    pub async fn level(&self, name: &str) -> StockLevel {
        self.services[0].levels(vec![sku(name)]).await.unwrap().pop().unwrap()
    }

    /// On hand, reserved, claimed, free.
    pub async fn figures(&self, name: &str) -> [u64; 4] {
        let level = self.level(name).await;
        [level.on_hand, level.reserved, level.claimed, level.free()]
    }

    /// All levels are what the ledger, the orders and the sales say.
    pub async fn assert_audited(&self) {
        let (mut after, mut skus) = (String::new(), 0);
        loop {
            let found = self.services[0].audit(after, 2).await.unwrap();
            assert_eq!(found.differences, []);
            skus += found.skus;
            match found.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert!(skus > 0, "nothing was audited");
    }

    /// How many deadlocks the server has found, all together.
    pub async fn deadlocks(&self) -> u64 {
        if !self.is_mariadb {
            return 0;
        }
        let text = "SELECT variable_value FROM information_schema.global_status \
                    WHERE variable_name = 'INNODB_DEADLOCKS'";
        let found = self.sql.read(move |tx| tx.query_first(text, &[], |row| row.text(0))).await;
        let found: Option<String> = found.map_err(|error: SqlError| error.to_string()).unwrap();
        found.expect("the server counts deadlocks").parse().unwrap()
    }
}
