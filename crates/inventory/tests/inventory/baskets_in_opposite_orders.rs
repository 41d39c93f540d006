//! Baskets of the same SKUs in opposite orders, reserved, confirmed, given up and expired by 64
//! clients at once: no transaction waits for one that waits for it.

use crate::harness::{HELD_MS, lines, on_both, order, sku};
use contracts::store::{Reserved, Stock as _, TakenFrom};
use tokio::task::JoinSet;

const CLIENTS: u64 = 64;
const ROUNDS: u64 = 4;
const SKUS: [&str; 5] = ["A", "B", "C", "D", "E"];

/// erpnext#47787: two documents over the same items, inserted into one ledger, lock each other out.
#[test]
fn erpnext_47787_baskets_in_opposite_orders_meet_no_deadlock() {
    on_both(async |stock| {
        for name in SKUS {
            stock.put(name, CLIENTS * ROUNDS).await;
        }
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (service, until) = (stock.service(client), stock.until());
            clients.spawn(async move {
                let mut basket = SKUS.map(|name| (name, 1));
                if client % 2 == 1 {
                    basket.reverse();
                }
                for round in 0..ROUNDS {
                    let order = order(client * ROUNDS + round);
                    let reserved = service.reserve(order, TakenFrom::Free, lines(&basket), until).await;
                    assert_eq!(reserved, Ok(Reserved::Whole), "client {client}, round {round}");
                    match round {
                        0 => assert_eq!(service.confirm(order).await, Ok(Reserved::Whole)),
                        1 => assert_eq!(service.release(order, "not wanted".into()).await, Ok(())),
                        2 => {
                            assert_eq!(service.confirm(order).await, Ok(Reserved::Whole));
                            assert_eq!(service.ship(order).await, Ok(()));
                        }
                        _ => {}
                    }
                }
            });
        }
        clients.join_all().await;
        let (all, each) = (CLIENTS * ROUNDS, CLIENTS);
        for name in SKUS {
            assert_eq!(stock.figures(name).await, [all - each, 2 * each, 0, all - 3 * each], "{name}");
        }
        // What was not paid expires, while others go on buying.
        stock.clock.advance(HELD_MS);
        let mut both = JoinSet::new();
        for client in 0..CLIENTS {
            let (service, until) = (stock.service(client), stock.until());
            both.spawn(async move {
                if client % 8 == 0 {
                    while service.expire_due().await.unwrap() > 0 {}
                    return;
                }
                let basket = [("E", 1), ("A", 1)];
                let reserved =
                    service.reserve(order(10_000 + client), TakenFrom::Free, lines(&basket), until).await;
                assert_eq!(reserved, Ok(Reserved::Whole), "client {client}");
            });
        }
        both.join_all().await;
        assert_eq!(stock.figures("B").await, [all - each, each, 0, all - 2 * each]);
        assert_eq!(stock.deadlocks().await, 0, "deadlocks that the server found");
        stock.assert_audited().await;
    });
}

/// erpnext#36825: a few hundred documents, and lock time-outs.
#[test]
fn erpnext_36825_a_thousand_lines_are_one_transaction() {
    on_both(async |stock| {
        let names: Vec<String> = (0..1000).map(|number| format!("S{number}")).collect();
        let mut fill = JoinSet::new();
        for name in names.clone() {
            let service = stock.service(0);
            fill.spawn(async move {
                let by = crate::harness::by();
                service.open_with(by, sku(&name), 4, None).await.unwrap();
            });
        }
        fill.join_all().await;
        let mut clients = JoinSet::new();
        for client in 0..4 {
            let (service, until) = (stock.service(client), stock.until());
            let mut basket: Vec<(&str, u32)> = names.iter().map(|name| (&**name, 1)).collect();
            if client % 2 == 1 {
                basket.reverse();
            }
            let lines = lines(&basket);
            clients.spawn(async move {
                let reserved = service.reserve(order(client), TakenFrom::Free, lines, until).await;
                assert_eq!(reserved, Ok(Reserved::Whole), "client {client}");
            });
        }
        clients.join_all().await;
        assert_eq!(stock.figures("S999").await, [4, 4, 0, 0]);
        assert_eq!(stock.deadlocks().await, 0);
    });
}
