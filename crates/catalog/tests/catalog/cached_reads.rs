//! What pages read is kept, and is what the tables say: at once where it was changed, and within
//! moments in other processes, with a Redis between them and without.

use crate::{
    harness::{CATEGORIES, product, runtime, said},
    redis_server::RedisServer,
};
use catalog::{cached::Settings, service::Service};
use contracts::store::{Catalog, Category, Product, ProductQuery, ProductSlug};
use engines::{
    cache::{loading::Shared, redis::Redis},
    clock::SteadyClock,
    sqlite,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use units::Prng;

const PATIENCE: Duration = Duration::from_secs(30);

/// What pages read of the catalogue.
#[derive(Debug, PartialEq)]
struct Seen {
    products: Vec<Option<Product>>,
    first_page: Vec<ProductSlug>,
    of_audio: Vec<ProductSlug>,
    categories: Vec<Category>,
}

fn all_slugs() -> impl Iterator<Item = ProductSlug> {
    (0..6).map(|number| format!("p{number}").parse().unwrap())
}

async fn look(service: &Service) -> Seen {
    let mut products = Vec::new();
    for slug in all_slugs() {
        products.push(service.product(slug).await.unwrap());
    }
    let list = async |category: Option<&str>| {
        let category = category.map(|slug| slug.parse().unwrap());
        let query = ProductQuery { category, at_most: 24, ..ProductQuery::default() };
        let found = service.products(query).await.unwrap();
        found.rows.into_iter().map(|listing| listing.slug).collect()
    };
    Seen {
        products,
        first_page: list(None).await,
        of_audio: list(Some("audio")).await,
        categories: service.categories().await.unwrap(),
    }
}

async fn open(file: &Path, shared: Option<Shared>) -> (Arc<Service>, JoinSet<()>) {
    let settings = Settings { bytes_max: 1 << 20, kept_for: Duration::from_secs(3_600), shared };
    let sql = sqlite::open(file).unwrap();
    let service = Service::open_cached(sql, Arc::new(SteadyClock::start()), Some(settings)).await.unwrap();
    let following = service.start();
    (service, following)
}

async fn agree_while_products_change(seed: u64, mut redis: Option<&mut RedisServer>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("catalog.db");
    let shared = |redis: &Option<&mut RedisServer>| {
        redis.as_ref().map(|server| Arc::new(Redis::new(&server.url(), "catalog").unwrap()) as Shared)
    };
    let truth = Service::open(sqlite::open(&file).unwrap(), Arc::new(SteadyClock::start())).await.unwrap();
    let mut processes = Vec::new();
    for _ in 0..2 {
        processes.push(open(&file, shared(&redis)).await);
    }
    let category =
        |(slug, en, zh): (&str, &str, &str)| Category { slug: slug.parse().unwrap(), name: said(en, zh) };
    let mut categories: Vec<Category> = CATEGORIES.map(category).to_vec();
    let (mut random, mut stored) = (Prng::new(seed), BTreeMap::<ProductSlug, Product>::new());
    for round in 0..8u64 {
        let writer = random.below(2) as usize;
        let service = &processes[writer].0;
        if round % 4 == 0 {
            // One that no product is of yet, so that nothing else changes.
            categories.push(category((&format!("new{round}"), "New", "新")));
            service.put_categories(categories.clone()).await.unwrap();
            assert_eq!(service.categories().await.unwrap(), categories);
        }
        match (round, &mut redis) {
            (3, Some(server)) => server.kill(),
            (5, Some(server)) => server.restart(),
            _ => {}
        }
        for slug in all_slugs() {
            let what = format!("seed {seed}, round {round}, process {writer}, {slug}");
            if random.percent(30) {
                service.remove(slug.clone()).await.unwrap();
                stored.remove(&slug);
            } else if random.percent(70) {
                let of = if random.percent(50) { "audio" } else { "phones" };
                let mut changed =
                    product(slug.as_str(), of, said(&format!("Round {round}"), "轮"), said("", ""));
                changed.is_published = random.percent(80);
                service.put(changed.clone()).await.unwrap();
                stored.insert(slug.clone(), changed);
            }
            // Where it was changed, that is seen at once.
            let want = stored.get(&slug).filter(|product| product.is_published);
            assert_eq!(service.product(slug.clone()).await.unwrap().as_ref(), want, "{what}");
        }
        let want = look(&truth).await;
        assert_eq!(look(&processes[writer].0).await, want, "seed {seed}, round {round}");
        let began = Instant::now();
        while look(&processes[1 - writer].0).await != want {
            assert!(began.elapsed() < PATIENCE, "seed {seed}, round {round}: the other does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for _ in 0..10 {
            for (service, _) in &processes {
                assert_eq!(look(service).await, want, "seed {seed}, round {round}");
            }
        }
    }
    let figures: Vec<_> = processes.iter().map(|(service, _)| service.cache_figures().unwrap()).collect();
    assert!(figures.iter().all(|of| of.hits > 5 * of.loads && of.loads > 10), "{figures:?}");
    let shared_hits: u64 = figures.iter().map(|of| of.shared_hits).sum();
    assert_eq!(shared_hits > 0, redis.is_some(), "{figures:?}");
    assert!(figures.iter().all(|of| (of.shared_failures > 0) == redis.is_some()), "{figures:?}");
    assert_eq!(truth.cache_figures(), None);
}

#[test]
fn two_processes_show_what_the_tables_say() {
    runtime().block_on(agree_while_products_change(1, None));
}

#[test]
fn with_redis_between_them_also_while_it_is_away_and_when_it_comes_back() {
    let mut server = RedisServer::start();
    runtime().block_on(agree_while_products_change(2, Some(&mut server)));
}
