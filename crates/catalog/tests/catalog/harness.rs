//! Services over an engine, a clock that the test sets, and products in short.

use catalog::service::Service;
use contracts::store::{Catalog as _, Category, Listings, Localized, Product, ProductQuery, Variant};
use engines::{clock::Clock, mariadb, sql::Sql, sqlite};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::time::{Duration, Instant};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use units::{Money, TimeMs};

#[path = "../../../engines/tests/engines/mariadb/server.rs"]
pub mod server;

const START: u64 = 1_795_521_600_000;
/// The longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Slug and names.
pub const CATEGORIES: [(&str, &str, &str); 3] =
    [("phones", "Phones", "手机"), ("audio", "Audio", "音频"), ("home", "Home", "家居")];

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

/// A catalogue with a service for each process that has it open.
pub struct Shop {
    pub services: Vec<Arc<Service>>,
    pub clock: Arc<TestClock>,
    pub sql: Vec<Sql>,
    following: Mutex<Vec<JoinSet<()>>>,
}

impl Shop {
    async fn open(sql: Vec<Sql>) -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(START)));
        let mut services = Vec::new();
        for pool in &sql {
            services.push(Service::open(pool.clone(), Arc::clone(&clock) as _).await.unwrap());
        }
        let shop = Self { services, clock, sql, following: Mutex::default() };
        let category =
            |(slug, en, zh): (&str, &str, &str)| Category { slug: slug.parse().unwrap(), name: said(en, zh) };
        shop.services[0].put_categories(CATEGORIES.map(category).to_vec()).await.unwrap();
        shop.follow();
        shop
    }

    /// Has all services follow.
    pub fn follow(&self) {
        *self.following.lock().unwrap() = self.services.iter().map(Service::start).collect();
    }

    /// They are there, and do not look any more.
    pub async fn stop_following(&self) {
        let stopped = std::mem::take(&mut *self.following.lock().unwrap());
        for mut loops in stopped {
            loops.shutdown().await;
        }
    }

    /// Another process that has just been started.
    pub async fn another(&self) -> Arc<Service> {
        Service::open(self.sql[0].clone(), Arc::clone(&self.clock) as _).await.unwrap()
    }

    /// Waits until all indexes have every change.
    pub async fn caught_up(&self) {
        for service in &self.services {
            caught_up(service).await;
        }
    }
}

pub async fn caught_up(service: &Service) {
    let began = Instant::now();
    loop {
        let figures = service.search_figures().await.unwrap();
        if figures.is_built && !figures.is_building && figures.behind == 0 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{figures:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

pub fn on_sqlite(test: impl AsyncFnOnce(&Shop)) {
    let dir = tempfile::tempdir().unwrap();
    let file = sqlite::open(&dir.path().join("catalog.db")).unwrap();
    runtime().block_on(async { test(&Shop::open(vec![file]).await).await });
}

/// With two pools of connections, as two processes have them.
pub fn on_mariadb(test: impl AsyncFnOnce(&Shop)) {
    let server = server::MariaDb::start();
    let pools = ["x", "x"].map(|name| mariadb::open_or_make(&server.url(name), "catalog", &[]).unwrap());
    runtime().block_on(async { test(&Shop::open(pools.into()).await).await });
}

pub fn said(en: &str, zh: &str) -> Localized {
    Localized { en: en.into(), zh: zh.into() }
}

/// A product that is published. Its SKU is its slug.
pub fn product(slug: &str, category: &str, name: Localized, description: Localized) -> Product {
    let price = Money { amount_minor: 100, currency: "CNY".parse().unwrap() };
    let sku = slug.to_uppercase().parse().unwrap();
    Product {
        slug: slug.parse().unwrap(),
        name,
        description,
        category: category.parse().unwrap(),
        variants: vec![Variant { sku, name: Localized::default(), price, offered_in: vec![] }],
        pictures: vec![],
        position: 1,
        is_published: true,
    }
}

pub async fn search(service: &Service, words: &str) -> Listings {
    let query = ProductQuery { words: Some(words.into()), at_most: 100, ..ProductQuery::default() };
    service.products(query).await.unwrap()
}

pub fn slugs(found: &Listings) -> Vec<&str> {
    found.rows.iter().map(|listing| listing.slug.as_str()).collect()
}
