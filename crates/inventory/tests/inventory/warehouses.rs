//! Several warehouses: from which of them an order's units are taken, and that together they sell
//! what they have, once.

use crate::harness::{Stock, by, lines, on_both, order, sale, sku};
use contracts::store::{CameBack, Lacking, Reserved, Sku, Stock as _, StoreError, TakenFrom, WarehouseId};
use inventory::{
    core::{Change, Spot},
    warehouses::Warehouse,
};
use tokio::task::JoinSet;

fn house(name: &str) -> WarehouseId {
    name.parse().unwrap()
}

fn spot(name: &str, at: &str) -> Spot {
    Spot { sku: sku(name), warehouse: house(at) }
}

fn warehouse(name: &str, ships: bool, parcel_cost: u64) -> Warehouse {
    Warehouse {
        warehouse: house(name),
        name: format!("Warehouse {name}"),
        ships,
        parcel_cost,
        days: 2,
        version: 0,
    }
}

impl Stock {
    async fn set(&self, of: Warehouse) {
        self.services[0].put_warehouse(by(), of, None).await.unwrap();
    }

    async fn receive(&self, name: &str, at: &str, units: u64) {
        self.services[0].make_known(sku(name)).await.unwrap();
        self.services[0].change(by(), None, spot(name, at), Change::Receive { units }).await.unwrap();
    }

    /// `sku@warehouse*units` of what an order has.
    async fn parcels(&self, number: u64) -> Vec<String> {
        let found = self.services[0].reservation(order(number)).await.unwrap();
        let line = |(at, line): (&Spot, &inventory::core::Line)| {
            format!("{}@{}*{}", at.sku, at.warehouse, line.quantity)
        };
        found.lines.iter().map(line).collect()
    }
}

#[test]
fn an_order_is_sent_in_the_fewest_parcels_and_comes_back_to_where_it_was_sent_from() {
    on_both(async |stock| {
        stock.set(warehouse("east", true, 9)).await;
        stock.set(warehouse("west", true, 5)).await;
        stock.set(warehouse("returns", false, 0)).await;
        for (name, at, units) in [("A", "main", 2), ("A", "east", 2), ("B", "east", 1), ("B", "returns", 50)]
        {
            stock.receive(name, at, units).await;
        }
        assert_eq!(stock.figures("A").await, [4, 0, 0, 4]);
        assert_eq!(stock.figures("B").await, [1, 0, 0, 1], "what orders are not sent from is not for sale");
        // Main would be cheaper for A, but needs a second parcel for B.
        assert_eq!(stock.reserve(1, &[("A", 1), ("B", 1)]).await, Ok(Reserved::Whole));
        assert_eq!(stock.parcels(1).await, ["A@east*1", "B@east*1"]);
        let why = stock.service(0).reservation(order(1)).await.unwrap().why;
        assert_eq!(why, "fewest parcels: 1; cost: 9; days: 2; ways compared: 1");
        assert_eq!(stock.reserve(2, &[("A", 3)]).await, Ok(Reserved::Whole));
        assert_eq!(stock.parcels(2).await, ["A@east*1", "A@main*2"]);
        let lacking = |name: &str, wanted, free| Lacking { sku: sku(name), wanted, free };
        let short = vec![lacking("A", 1, 0), lacking("B", 9, 0)];
        assert_eq!(stock.reserve(3, &[("A", 1), ("B", 9)]).await, Ok(Reserved::Short(short)));

        let service = stock.service(0);
        for number in [1, 2] {
            assert_eq!(service.confirm(order(number)).await, Ok(Reserved::Whole));
            service.ship(order(number)).await.unwrap();
        }
        let back =
            |key: &str, n| service.take_back(order(2), key.into(), lines(&[("A", n)]), CameBack::Restock);
        back("one", 2).await.unwrap();
        back("one", 2).await.unwrap();
        assert!(matches!(back("two", 2).await, Err(StoreError::Conflict(_))), "two of three are back");
        back("three", 1).await.unwrap();
        for (at, units) in [("east", 1), ("main", 2)] {
            let moved = service.change(by(), None, spot("A", at), Change::Count { counted: units }).await;
            assert_eq!(moved.unwrap().change, 0, "{at}");
        }
        stock.assert_audited().await;
    });
}

#[test]
fn what_has_expired_is_taken_from_where_it_is_by_then() {
    on_both(async |stock| {
        stock.set(warehouse("east", true, 9)).await;
        stock.receive("A", "main", 2).await;
        assert_eq!(stock.reserve(1, &[("A", 2)]).await, Ok(Reserved::Whole));
        stock.clock.advance(crate::harness::HELD_MS);
        assert_eq!(stock.service(0).expire_due().await, Ok(1));
        let service = stock.service(1);
        service.change(by(), None, spot("A", "main"), Change::Adjust { change: -1 }).await.unwrap();
        stock.receive("A", "east", 1).await;
        assert_eq!(service.confirm(order(1)).await, Ok(Reserved::Whole));
        assert_eq!(stock.parcels(1).await, ["A@east*1", "A@main*1"]);
        service.ship(order(1)).await.unwrap();
        assert_eq!(stock.figures("A").await, [0, 0, 0, 0]);
        stock.assert_audited().await;
    });
}

#[test]
fn a_sales_claim_is_spread_over_warehouses_and_its_winners_have_it() {
    on_both(async |stock| {
        stock.set(warehouse("east", true, 9)).await;
        stock.receive("A", "main", 3).await;
        stock.receive("A", "east", 4).await;
        let (service, launch) = (stock.service(0), sale("launch"));
        let too_many = service.claim(by(), launch.clone(), sku("A"), 8).await;
        assert!(matches!(too_many, Err(StoreError::Conflict(_))), "{too_many:?}");
        for units in [6, 5] {
            let claim = service.claim(by(), launch.clone(), sku("A"), units).await.unwrap();
            assert_eq!((claim.left, claim.taken, claim.is_open), (units, 0, true));
            assert_eq!(stock.figures("A").await, [7, 0, units, 7 - units]);
        }
        let from = TakenFrom::Claim(launch.clone());
        let taken = service.reserve(order(1), from, lines(&[("A", 5)]), stock.until()).await;
        assert_eq!(taken, Ok(Reserved::Whole));
        assert_eq!(stock.figures("A").await, [7, 5, 0, 2]);
        service.release(order(1), "not wanted".into()).await.unwrap();
        assert_eq!(stock.figures("A").await, [7, 0, 5, 2]);
        assert_eq!(service.return_claim(by(), launch.clone()).await, Ok(vec![(sku("A"), 5)]));
        assert_eq!(service.return_claim(by(), launch).await, Ok(vec![(sku("A"), 0)]));
        assert_eq!(stock.figures("A").await, [7, 0, 0, 7]);
        stock.assert_audited().await;
    });
}

/// Many deliveries of one SKU come into a new warehouse at once: one of them makes it known there,
/// and the others, which waited, find it.
#[test]
fn what_comes_into_a_new_warehouse_at_once_is_received() {
    on_both(async |stock| {
        stock.receive("A", "main", 1).await;
        for number in 0..8 {
            let name = format!("w{number}");
            stock.set(warehouse(&name, true, 1)).await;
            let mut clients = JoinSet::new();
            for client in 0..12 {
                let (service, at) = (stock.service(client), spot("A", &name));
                clients
                    .spawn(async move { service.change(by(), None, at, Change::Receive { units: 1 }).await });
            }
            let received = clients.join_all().await;
            let refused: Vec<_> = received.iter().filter(|received| received.is_err()).collect();
            assert!(refused.is_empty(), "{name}: {refused:?}");
        }
        assert_eq!(stock.figures("A").await, [97, 0, 0, 97]);
        stock.assert_audited().await;
    });
}

/// vendure#3588 and medusa#15132: what lies in two places cannot be sent as one order, or is
/// reserved where there is none of it.
#[test]
fn vendure_3588_and_medusa_15132_each_item_of_an_order_comes_from_where_it_is() {
    on_both(async |stock| {
        stock.set(warehouse("east", true, 9)).await;
        stock.receive("A", "main", 1).await;
        stock.receive("B", "east", 1).await;
        assert_eq!(stock.reserve(1, &[("A", 1), ("B", 1)]).await, Ok(Reserved::Whole));
        assert_eq!(stock.parcels(1).await, ["A@main*1", "B@east*1"]);
        let service = stock.service(0);
        assert_eq!(service.confirm(order(1)).await, Ok(Reserved::Whole));
        service.ship(order(1)).await.unwrap();
        assert_eq!((stock.figures("A").await, stock.figures("B").await), ([0; 4], [0; 4]));
        stock.assert_audited().await;
    });
}

/// vendure#4030: of ten and fifteen, thirteen were allocated, and what was allocated before was not
/// counted for the next order.
#[test]
fn vendure_4030_what_is_allocated_already_counts_in_every_warehouse() {
    on_both(async |stock| {
        stock.set(warehouse("east", true, 0)).await;
        stock.receive("A", "main", 10).await;
        stock.receive("A", "east", 15).await;
        for (number, quantity) in [(1, 13), (2, 12)] {
            assert_eq!(stock.reserve(number, &[("A", quantity)]).await, Ok(Reserved::Whole), "{number}");
        }
        assert_eq!(stock.figures("A").await, [25, 25, 0, 0]);
        let lacking = Lacking { sku: sku("A"), wanted: 1, free: 0 };
        assert_eq!(stock.reserve(3, &[("A", 1)]).await, Ok(Reserved::Short(vec![lacking])));
        stock.assert_audited().await;
    });
}

/// Twelve warehouses have one or two units each; 64 clients want one, two or three.
#[test]
fn the_last_units_of_twelve_warehouses_are_sold_once() {
    on_both(async |stock| {
        let mut units = 0;
        for number in 0..12 {
            let name = format!("w{number}");
            stock.set(warehouse(&name, true, number % 3)).await;
            stock.receive("LAST", &name, 1 + number % 2).await;
            units += 1 + number % 2;
        }
        let mut clients = JoinSet::new();
        for client in 0..64u64 {
            let (service, until) = (stock.service(client), stock.until());
            let wanted = 1 + (client % 3) as u32;
            let lines = lines(&[("LAST", wanted)]);
            clients.spawn(async move {
                match service.reserve(order(client), TakenFrom::Free, lines, until).await.unwrap() {
                    Reserved::Whole => u64::from(wanted),
                    Reserved::Short(lacking) => {
                        assert!(lacking[0].free < u64::from(wanted), "{lacking:?}");
                        0
                    }
                }
            });
        }
        let sold: u64 = clients.join_all().await.into_iter().sum();
        assert_eq!((sold, stock.figures("LAST").await), (units, [units, units, 0, 0]));
        assert_eq!(stock.deadlocks().await, 0);
        stock.assert_audited().await;
    });
}

#[test]
fn what_names_an_unknown_warehouse_is_refused_and_changes_nothing() {
    on_both(async |stock| {
        let service = stock.service(0);
        stock.receive("A", "main", 5).await;
        let known: Sku = sku("A");
        let missing = service.change(by(), None, spot("A", "nowhere"), Change::Receive { units: 1 }).await;
        let why = StoreError::NotFound("warehouse nowhere: there is none of this name: make it first".into());
        assert_eq!(missing, Err(why));
        let unknown = service.change(by(), None, spot("B", "main"), Change::Receive { units: 1 }).await;
        assert!(matches!(unknown, Err(StoreError::NotFound(why)) if why.starts_with("sku B:")));
        for (wrong, field) in [
            (Warehouse { name: " ".into(), ..warehouse("east", true, 1) }, "name"),
            (Warehouse { name: "a\nb".into(), ..warehouse("east", true, 1) }, "name"),
            (warehouse("east", true, u64::MAX), "parcel_cost"),
            (Warehouse { days: 366, ..warehouse("east", true, 1) }, "days"),
        ] {
            let said = service.put_warehouse(by(), wrong, None).await.unwrap_err();
            assert!(matches!(&said, StoreError::Invalid(why) if why.starts_with(field)), "{said:?}");
        }
        assert_eq!(service.warehouses().await.unwrap().len(), 1, "none of these was made");
        let (made, is_new) = service.put_warehouse(by(), warehouse("east", true, 1), Some(0)).await.unwrap();
        assert_eq!((made.version, is_new), (1, true));
        let late = service.put_warehouse(by(), warehouse("east", false, 1), Some(0)).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "another operator has made it: {late:?}");
        let same = service.put_warehouse(by(), warehouse("east", true, 1), Some(0)).await.unwrap();
        assert_eq!((same.0.version, same.1), (1, false));
        for number in 2..64 {
            stock.set(warehouse(&format!("w{number}"), true, 1)).await;
        }
        let more = service.put_warehouse(by(), warehouse("more", true, 1), None).await;
        assert!(matches!(more, Err(StoreError::Conflict(_))), "{more:?}");
        let held = service.reserve(order(1), TakenFrom::Free, lines(&[("A", 1)]), stock.until()).await;
        assert_eq!(held, Ok(Reserved::Whole));
        // What is set aside stays so in a warehouse that orders are no longer sent from.
        stock.set(warehouse("main", false, 1)).await;
        let (short, lacking) =
            (stock.reserve(2, &[("A", 1)]).await, Lacking { sku: known, wanted: 1, free: 0 });
        assert_eq!(short, Ok(Reserved::Short(vec![lacking])));
        assert_eq!(service.confirm(order(1)).await, Ok(Reserved::Whole));
        service.ship(order(1)).await.unwrap();
        stock.assert_audited().await;
    });
}
