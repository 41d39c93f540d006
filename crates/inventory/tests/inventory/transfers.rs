//! Transfers between warehouses on both databases: sent, arrived and lost, each once, beside orders
//! that want the same units.

use crate::harness::{Stock, by, lines, on_both, order, sku};
use contracts::{
    Actor,
    store::{Reserved, Stock as _, StockLine, StoreError, TakenFrom, TransferId, WarehouseId},
};
use inventory::{
    core::{Change, Spot, TransferState},
    service::transfers::{Send, TransferView},
    warehouses::Warehouse,
};
use tokio::task::JoinSet;

fn place(name: &str) -> WarehouseId {
    name.parse().unwrap()
}

fn id(name: &str) -> TransferId {
    name.parse().unwrap()
}

fn to_east(name: &str, of: Vec<StockLine>) -> Send {
    Send { transfer: id(name), from: WarehouseId::main(), to: place("east"), lines: of, expected_at: None }
}

async fn with_east(stock: &Stock, ships: bool) {
    let (warehouse, name) = (place("east"), "East".to_owned());
    let of = Warehouse { warehouse, name, ships, parcel_cost: 5, days: 2, version: 0 };
    stock.service(0).put_warehouse(by(), of, None).await.unwrap();
}

/// Sent, arrived, lost and in transit, of its only line.
fn figures(of: &TransferView) -> [u32; 4] {
    let line = &of.lines[0];
    [line.sent, line.arrived, line.lost, line.in_transit]
}

#[test]
fn a_transfer_is_sent_once_and_what_arrives_can_be_sold_there() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        with_east(stock, true).await;
        let service = stock.service(0);
        let of = to_east("t-1", lines(&[("A", 6)]));
        let (sent, is_new) = service.send_transfer(by(), of.clone()).await.unwrap();
        assert_eq!((figures(&sent), is_new), ([6, 0, 0, 6], true));
        let (again, is_new) = stock.service(1).send_transfer(by(), of).await.unwrap();
        assert_eq!((again, is_new), (sent, false));
        let other = service.send_transfer(by(), to_east("t-1", lines(&[("A", 1)]))).await;
        assert!(matches!(other, Err(StoreError::Conflict(_))), "{other:?}");
        // What is on its way is on hand nowhere, and nobody's.
        assert_eq!(stock.figures("A").await, [4, 0, 0, 4]);
        let short = stock.reserve(1, &[("A", 5)]).await.unwrap();
        assert!(matches!(short, Reserved::Short(_)), "{short:?}");
        let arrive = |key: &str, units| {
            let (service, key) = (stock.service(0), Some(key.to_owned()));
            async move { service.arrive(by(), key, id("t-1"), lines(&[("A", units)])).await }
        };
        assert_eq!(figures(&arrive("first", 4).await.unwrap()), [6, 4, 0, 2]);
        assert_eq!(figures(&arrive("first", 4).await.unwrap()), [6, 4, 0, 2], "it is said again");
        assert!(matches!(arrive("first", 1).await, Err(StoreError::Conflict(_))));
        assert!(matches!(arrive("second", 3).await, Err(StoreError::Conflict(_))), "two are on their way");
        assert_eq!(stock.reserve(1, &[("A", 5)]).await, Ok(Reserved::Whole));
        assert_eq!(stock.figures("A").await, [8, 5, 0, 3]);
        let closed = service.close_transfer(by(), id("t-1")).await.unwrap();
        assert_eq!((figures(&closed), closed.state), ([6, 4, 2, 0], TransferState::Closed));
        assert_eq!(service.close_transfer(by(), id("t-1")).await, Ok(closed));
        assert!(matches!(arrive("third", 1).await, Err(StoreError::Conflict(_))));
        let open = service.transfers(TransferState::InTransit, String::new(), 10).await.unwrap();
        let ended = service.transfers(TransferState::Closed, String::new(), 10).await.unwrap();
        assert_eq!((open.len(), ended.len()), (0, 1));
        stock.assert_audited().await;
    });
}

#[test]
fn what_cannot_leave_is_named_and_stays() {
    on_both(async |stock| {
        stock.put("A", 10).await;
        assert_eq!(stock.reserve(1, &[("A", 4)]).await, Ok(Reserved::Whole));
        let service = stock.service(0);
        let why = |of: Send| async { service.send_transfer(by(), of).await.unwrap_err().to_string() };
        let few = to_east("t", lines(&[("A", 7)]));
        assert_eq!(why(few.clone()).await, "warehouse east: there is none of this name: make it first");
        with_east(stock, false).await;
        assert_eq!(why(few).await, "lines: of sku A only 6 units are free; what is set aside stays");
        assert_eq!(
            why(to_east("t", lines(&[("A", 1), ("NONE", 1)]))).await,
            "sku NONE: the stock does not know it: make it known first"
        );
        let back = Send { from: place("east"), to: WarehouseId::main(), ..to_east("t", lines(&[("A", 1)])) };
        assert_eq!(why(back).await, "lines: of sku A only 0 units are free; what is set aside stays");
        let twice = lines(&[("A", 1), ("A", 1)]);
        assert_eq!(why(to_east("t", twice)).await, "lines: want each SKU once");
        let here = Send { to: WarehouseId::main(), ..to_east("t", lines(&[("A", 1)])) };
        assert_eq!(why(here).await, "transfer t: from and to are the same warehouse");
        assert!(
            matches!(service.transfer(id("t")).await, Err(StoreError::NotFound(_))),
            "nothing was stored"
        );
        assert_eq!(stock.figures("A").await, [10, 4, 0, 6]);
        stock.assert_audited().await;
    });
}

/// Orders, transfers there and back, arrivals and counts, all at once: no unit is lost but those
/// that are said to be, and no transaction waits for one that waits for it.
#[test]
fn transfers_beside_orders_meet_no_deadlock_and_lose_nothing() {
    on_both(async |stock| {
        for name in ["A", "B", "C"] {
            stock.put(name, 300).await;
        }
        with_east(stock, true).await;
        let east = |name: &str| Spot { sku: sku(name), warehouse: place("east") };
        for name in ["A", "B", "C"] {
            stock.service(0).change(by(), None, east(name), Change::Receive { units: 300 }).await.unwrap();
        }
        let mut clients = JoinSet::new();
        for client in 0..24u64 {
            let (service, until) = (stock.service(client), stock.until());
            clients.spawn(async move {
                let mut basket = vec![("A", 1), ("B", 2), ("C", 1)];
                if client % 2 == 1 {
                    basket.reverse();
                }
                for round in 0..4 {
                    if client % 3 > 0 {
                        let of = order(client * 10 + round);
                        let said = service.reserve(of, TakenFrom::Free, lines(&basket), until).await;
                        assert_eq!(said, Ok(Reserved::Whole), "client {client}, round {round}");
                        continue;
                    }
                    let mut of = to_east(&format!("t-{client}-{round}"), lines(&basket));
                    if client % 2 == 1 {
                        (of.from, of.to) = (of.to, of.from);
                    }
                    let name = of.transfer.clone();
                    let by = || Actor::new("alice", "a test");
                    service.send_transfer(by(), of).await.unwrap();
                    service.arrive(by(), None, name.clone(), lines(&basket[..2])).await.unwrap();
                    service.close_transfer(by(), name).await.unwrap();
                }
            });
        }
        clients.join_all().await;
        // Eight clients sent four transfers each. Of those of even numbers C was lost, of the
        // others A.
        let figures = [stock.figures("A").await, stock.figures("B").await, stock.figures("C").await];
        let of = |lost: u64, reserved: u64| [600 - lost, reserved, 0, 600 - lost - reserved];
        assert_eq!(figures, [of(16, 64), of(0, 128), of(16, 64)]);
        stock.assert_audited().await;
        assert_eq!(stock.deadlocks().await, 0);
    });
}
