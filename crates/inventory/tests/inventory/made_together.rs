//! Reservations that many ask for at once are made by few transactions, and each has an answer of
//! its own: what is short for one is not short for the others, and nobody waits for ever.

use crate::harness::{Stock, by, lines, on_both, open, order, pools, runtime, server::MariaDb, sku};
use contracts::store::{Asked, Lacking, Posts, Reserved, Stock as _, StoreError, TakenFrom};
use inventory::{
    core::{Change, Spot},
    warehouses::Warehouse,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

async fn put_in(stock: &Stock, warehouse: &str, name: &str, units: u64) {
    let warehouse: contracts::store::WarehouseId = warehouse.parse().unwrap();
    let of = Warehouse {
        warehouse: warehouse.clone(),
        name: "Another".into(),
        ships: true,
        parcel_cost: 1,
        days: 1,
        version: 0,
    };
    let service = stock.service(0);
    service.put_warehouse(by(), of, None).await.unwrap();
    service.change(by(), None, Spot { sku: sku(name), warehouse }, Change::Receive { units }).await.unwrap();
}

/// All are asked for at the same moment, in the order of their numbers.
async fn reserve_all(
    stock: &Stock,
    wanted: Vec<(u64, Vec<(&'static str, u32)>)>,
) -> Vec<(u64, Result<Reserved, StoreError>)> {
    let mut all = JoinSet::new();
    for (number, basket) in wanted {
        let (service, until) = (stock.service(number), stock.until());
        let basket = lines(&basket);
        all.spawn(
            async move { (number, service.reserve(order(number), TakenFrom::Free, basket, until).await) },
        );
    }
    all.join_all().await
}

#[test]
fn an_order_that_is_asked_for_twice_at_once_has_one_answer() {
    on_both(async |stock| {
        stock.put("A", 50).await;
        stock.put("B", 1).await;
        let twice = |number: u64| {
            // Every third one is short, however often it is asked for.
            let basket = if number.is_multiple_of(3) { vec![("A", 1), ("B", 2)] } else { vec![("A", 1)] };
            [(number, basket.clone()), (number, basket)]
        };
        let short = Reserved::Short(vec![Lacking { sku: sku("B"), wanted: 2, free: 1 }]);
        for (number, said) in reserve_all(stock, (1..=60).flat_map(twice).collect()).await {
            let want = if number.is_multiple_of(3) { short.clone() } else { Reserved::Whole };
            assert_eq!(said, Ok(want), "order {number}");
        }
        assert_eq!(stock.figures("A").await, [50, 40, 0, 10]);
        assert_eq!(stock.figures("B").await, [1, 0, 0, 1]);
        let refused = stock.service(0).reservation(order(3)).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
        stock.assert_audited().await;
    });
}

#[test]
fn what_is_short_for_some_is_whole_for_the_others_from_several_warehouses() {
    on_both(async |stock| {
        for name in ["A", "B", "C", "D"] {
            stock.put(name, 20).await;
            put_in(stock, "east", name, 20).await;
        }
        let wanted = (0..200).map(|number: u64| {
            let basket = match number % 4 {
                0 => vec![("A", 1)],
                1 => vec![("B", 1), ("A", 1)],
                2 => vec![("C", 100), ("D", 1)],
                _ => vec![("D", 1)],
            };
            (number, basket)
        });
        let mut whole = BTreeMap::<u64, u64>::new();
        for (number, said) in reserve_all(stock, wanted.collect()).await {
            match said {
                Ok(Reserved::Whole) => *whole.entry(number % 4).or_default() += 1,
                Ok(Reserved::Short(lacking)) => assert!(!lacking.is_empty(), "order {number}"),
                Err(error) => panic!("order {number}: {error:?}"),
            }
        }
        // Forty of each; nobody got so many C.
        let of = |kind| whole.get(&kind).copied().unwrap_or_default();
        assert_eq!((of(0) + of(1), of(2), of(3)), (40, 0, 40));
        assert_eq!(stock.figures("A").await, [40, 40, 0, 0]);
        assert_eq!(stock.figures("B").await, [40, of(1), 0, 40 - of(1)]);
        assert_eq!(stock.figures("C").await, [40, 0, 0, 40]);
        assert_eq!(stock.figures("D").await, [40, 40, 0, 0]);
        stock.assert_audited().await;
        assert_eq!(stock.deadlocks().await, 0);
    });
}

#[derive(Default)]
struct Told(Mutex<Vec<Value>>);

impl Posts for Told {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        let read = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
        self.0.lock().unwrap().extend(read);
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn what_is_told_of_them_has_the_level_after_each_in_the_order_of_the_ledger() {
    on_both(async |stock| {
        stock.put("A", 1000).await;
        // The later ones first: the order in which they are asked for is not that of their ids.
        let wanted = (0..100).rev().map(|number| (number, vec![("A", number as u32 % 3 + 1)]));
        for (number, said) in reserve_all(stock, wanted.collect()).await {
            assert_eq!(said, Ok(Reserved::Whole), "order {number}");
        }
        let told = Arc::new(Told::default());
        let loops = stock.service(0).start(Arc::clone(&told) as _);
        for _ in 0..200 {
            if told.0.lock().unwrap().len() > 100 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(loops);
        let events = told.0.lock().unwrap().clone();
        assert_eq!(events.len(), 101);
        let mut reserved = 0;
        for (at, event) in events.iter().enumerate().skip(1) {
            let line = &event["data"]["lines"][0];
            reserved += line["units"].as_u64().unwrap();
            let said =
                ["sequence", "on_hand", "reserved", "free"].map(|figure| line[figure].as_u64().unwrap());
            assert_eq!(said, [at as u64 + 1, 1000, reserved, 1000 - reserved], "{event}");
        }
    });
}

#[test]
fn while_the_server_is_away_each_is_refused_at_once_and_served_when_it_is_back() {
    let mut server = MariaDb::start();
    let pools = pools(&server);
    let runtime = runtime();
    let stock = runtime.block_on(open(pools, true));
    runtime.block_on(stock.put("A", 100));
    server.kill();
    let began = Instant::now();
    let away = (0..50).map(|number| (number, vec![("A", 1)])).collect();
    for (number, said) in runtime.block_on(reserve_all(&stock, away)) {
        assert!(matches!(said, Err(StoreError::Unavailable(_))), "order {number}: {said:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    server.restart();
    let back = (0..50).map(|number| (number, vec![("A", 1)])).collect();
    for (number, said) in runtime.block_on(reserve_all(&stock, back)) {
        assert_eq!(said, Ok(Reserved::Whole), "order {number}");
    }
    assert_eq!(runtime.block_on(stock.figures("A")), [100, 50, 0, 50]);
    runtime.block_on(stock.assert_audited());
}
