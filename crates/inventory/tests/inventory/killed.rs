//! A process, or a server, that is killed in the middle: what was said is there, what was not said
//! is there as a whole or not at all, and saying it again makes it whole.

use crate::harness::{by, lines, open, order, pools, runtime, server::MariaDb, sku};
use contracts::store::{Reserved, Stock as _, StoreError, TakenFrom};
use engines::sqlite;
use inventory::service::Service;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use units::TimeMs;

const FILE: &str = "FLOODGATE_TEST_INVENTORY";
const UNITS: u64 = 1_000_000;
const BASKET: [(&str, u32); 3] = [("C", 1), ("A", 2), ("B", 1)];

async fn on_file(path: &Path) -> Arc<Service> {
    let clock = Arc::new(engines::clock::SteadyClock::start());
    Service::open(sqlite::open(path).unwrap(), clock).await.unwrap()
}

/// Eight clients reserve, confirm and ship one order after the other, and say so after each, until
/// the process is killed.
#[test]
fn child_that_sells_until_it_is_killed() {
    let Ok(path) = std::env::var(FILE) else { return };
    runtime().block_on(async {
        let service = on_file(Path::new(&path)).await;
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let (service, next) = (Arc::clone(&service), Arc::clone(&next));
            clients.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    sell(&service, number).await;
                    writeln!(std::io::stdout(), "sold {number}").unwrap();
                }
            });
        }
        clients.join_all().await;
    });
}

async fn sell(service: &Service, number: u64) {
    let until = TimeMs(u64::MAX);
    let reserved = service.reserve(order(number), TakenFrom::Free, lines(&BASKET), until).await;
    assert_eq!(reserved, Ok(Reserved::Whole));
    assert_eq!(service.confirm(order(number)).await, Ok(Reserved::Whole));
    if number.is_multiple_of(2) {
        assert_eq!(service.ship(order(number)).await, Ok(()));
    }
}

#[test]
fn a_process_that_is_killed_leaves_whole_baskets_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.db");
    let runtime = runtime();
    runtime.block_on(async {
        let service = on_file(&path).await;
        for name in ["A", "B", "C"] {
            service.open_with(by(), sku(name), UNITS, None).await.unwrap();
        }
    });
    let mut said = std::collections::BTreeSet::new();
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child_that_sells_until_it_is_killed", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        // It begins with orders that were made before: they are not made again.
        let mut new = 0;
        while new < 40 * round {
            let line = output.next().expect("it goes on").unwrap();
            let Some((_, number)) = line.split_once("sold ") else { continue };
            new += u64::from(said.insert(number.parse::<u64>().unwrap()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        runtime.block_on(async {
            let service = on_file(&path).await;
            let found = service.audit(String::new(), 10).await.unwrap();
            assert_eq!((found.skus, found.differences), (3, vec![]));
            let levels = service.levels(["A", "B", "C"].map(sku).into()).await.unwrap();
            let sold: Vec<u64> = levels.iter().map(|level| UNITS - level.on_hand + level.reserved).collect();
            assert_eq!(sold, [2 * sold[1], sold[1], sold[1]], "whole baskets");
            assert!(sold[1] >= said.len() as u64, "{} were said to be sold, {} are", said.len(), sold[1]);
            for number in &said {
                let state = service.reservation(order(*number)).await.unwrap().state;
                let want = if number.is_multiple_of(2) { "shipped" } else { "confirmed" };
                assert_eq!(state.as_str(), want, "order {number}");
            }
        });
    }
}

#[test]
fn a_server_that_is_killed_while_many_buy_is_waited_for_and_no_unit_is_sold_twice() {
    const ORDERS: u64 = 200;
    const STOCKED: u64 = 150;
    let mut server = MariaDb::start();
    let pools = pools(&server);
    let runtime = runtime();
    let stock = runtime.block_on(open(pools, true));
    runtime.block_on(async {
        for (name, each) in [("A", 2), ("B", 1), ("C", 1)] {
            stock.put(name, STOCKED * each).await;
        }
    });
    let (answered, mut clients) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for client in 0..8 {
        let (service, answered, until) = (stock.service(client), Arc::clone(&answered), stock.until());
        let buy = async move {
            let mut whole = Vec::new();
            for number in (0..ORDERS).filter(|number| number % 8 == client) {
                // Each order is asked for until there is an answer.
                let reserved = loop {
                    let from = TakenFrom::Free;
                    match service.reserve(order(number), from, lines(&BASKET), until).await {
                        Ok(reserved) => break reserved,
                        Err(StoreError::Unavailable(_)) => {
                            tokio::time::sleep(Duration::from_millis(50)).await
                        }
                        Err(error) => panic!("order {number}: {error}"),
                    }
                };
                answered.fetch_add(1, Relaxed);
                whole.extend((reserved == Reserved::Whole).then_some(number));
            }
            whole
        };
        clients.spawn_on(buy, runtime.handle());
    }
    for kill_at in [30, 90, 150] {
        while answered.load(Relaxed) < kill_at {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.kill();
        std::thread::sleep(Duration::from_millis(200));
        server.restart();
    }
    runtime.block_on(async {
        let whole: Vec<u64> = clients.join_all().await.into_iter().flatten().collect();
        assert_eq!(whole.len() as u64, STOCKED, "each unit is sold, and once");
        assert_eq!(stock.figures("A").await, [2 * STOCKED, 2 * STOCKED, 0, 0]);
        assert_eq!(stock.figures("B").await, [STOCKED, STOCKED, 0, 0]);
        stock.assert_audited().await;
    });
}
