//! The list against the orders, on both engines: events in any order, builds beside them, and
//! builds that are cut off.

use super::*;
use crate::{
    core::{By, Command},
    mariadb_server::MariaDb,
    return_rows::{self, ReturnError},
    shards::numbered,
    store::{NewOrder, OrderError},
};
use contracts::store::{
    Charges, Delivery, OrderLine, OrderState, OrderView, PaymentId, RequestReturn, ReturnState, StockLine,
    Wish,
};
use engines::{chance::SystemChance, mariadb, sqlite};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use units::TimeMs;

const NOW: TimeMs = TimeMs(1_795_521_600_000);
const BY: By<'_> = By { actor: "test", reason: "because" };
const SHARDS: usize = 2;

/// Orders over two databases, and their list.
struct Shop {
    shards: Shards,
    list: List,
}

/// Runs the test on SQLite, and on MariaDB.
fn on_both(test: impl AsyncFn(Shop)) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let open = async |all: Vec<Sql>| {
        let (list, shards) = all.split_first().unwrap();
        let shards = Shards::open(numbered(shards.to_vec()), NOW, &SystemChance).await.unwrap();
        Shop { list: List::open(list.clone(), &shards).await.unwrap(), shards }
    };
    let dir = tempfile::tempdir().unwrap();
    let file = |number: usize| sqlite::open(&dir.path().join(format!("{number}.db"))).unwrap();
    let files = (0..=SHARDS).map(file).collect();
    runtime().block_on(async { test(open(files).await).await });
    let server = MariaDb::start();
    let database = |number: usize| {
        let name = format!("shop_{number}");
        mariadb::open_or_make(&server.url(&name), &name, &[]).unwrap()
    };
    let databases = (0..=SHARDS).map(database).collect();
    runtime().block_on(async { test(open(databases).await).await });
}

fn new_order(number: u64, lines: usize) -> NewOrder {
    let shopper = format!("s{number}");
    let line = |nth: usize| OrderLine {
        sku: format!("SKU-{nth}").parse().unwrap(),
        name: format!("Name {nth}"),
        name_zh: "甲".into(),
        quantity: 1,
        price_minor: 100,
    };
    NewOrder {
        id: OrderId::in_bucket(
            TimeMs(NOW.0 + number),
            Bucket::of_shopper(&shopper),
            u128::from(number).to_be_bytes(),
        ),
        shopper,
        hold: None,
        currency: "CNY".parse().unwrap(),
        lines: (0..lines).map(line).collect(),
        charges: Charges::default(),
        address: None,
        pay_by: Some(NOW),
    }
}

impl Shop {
    async fn place(&self, number: u64, lines: usize) -> OrderId {
        let new = new_order(number, lines);
        let (id, bucket) = (new.id, new.id.bucket());
        let write = self.shards.write(bucket, move |tx| store::create(tx, NOW, BY, &new));
        let is_new: Result<bool, SqlError> = write.await;
        assert!(is_new.unwrap());
        id
    }

    async fn command(&self, order: OrderId, command: Command) {
        let write = self
            .shards
            .write(order.bucket(), move |tx| store::apply(tx, NOW, order, BY, command.clone()).map(drop));
        let done: Result<(), OrderError> = write.await;
        done.unwrap();
    }

    /// Everything from the stock's answer to its arrival.
    async fn deliver(&self, order: OrderId) {
        let payment = PaymentId::new(NOW, order.to_bytes());
        let parcel = Delivery { carrier: "SF".into(), tracking: "1".into() };
        for command in [
            Command::StockAnswered { is_whole: true },
            Command::Paid { payment, amount_minor: 100 },
            Command::Allocate,
            Command::Ship(parcel),
            Command::Deliver,
        ] {
            self.command(order, command).await;
        }
    }

    async fn ask_to_return(&self, order: OrderId) {
        let write = self.shards.write(order.bucket(), move |tx| {
            let lines = vec![StockLine { sku: "SKU-0".parse().unwrap(), quantity: 1 }];
            let (wish, reason) = (Wish::Refund, "it does not fit me".to_owned());
            let wanted = RequestReturn { number: 1, wish, lines, reason };
            return_rows::request(tx, NOW, order, BY, &wanted).map(drop)
        });
        let done: Result<(), ReturnError> = write.await;
        done.unwrap();
    }

    /// What was told since, in its order; nothing of it waits afterwards.
    async fn told(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for shard in self.shards.all() {
            let take = shard.sql.write(|tx| {
                let told = tx.query("SELECT body FROM outbox ORDER BY number", &[], |row| row.text(0))?;
                tx.execute("DELETE FROM outbox", &[])?;
                Ok::<_, SqlError>(told)
            });
            all.extend(take.await.unwrap().iter().map(|event| serde_json::from_str(event).unwrap()));
        }
        all
    }

    async fn take(&self, events: &[Value]) {
        let summary = |event: &Value| serde_json::from_value(event["data"]["summary"].clone()).unwrap();
        self.list.put(events.iter().map(summary).collect()).await.unwrap();
    }

    async fn listed(&self, state: Option<OrderState>, at_most: usize) -> Vec<OrderSummary> {
        let read = self.list.read(move |tx| list_rows::newest(tx, state, None, at_most)).await;
        read.unwrap().expect("it is whole")
    }

    async fn returned(&self, state: ReturnState, after: Option<OrderId>, at_most: usize) -> Vec<OrderId> {
        let read = self.list.read(move |tx| list_rows::with_returns(tx, state, after, at_most)).await;
        read.unwrap().expect("it is whole").into_iter().map(|of| of.id).collect()
    }

    /// All orders as their own tables have them, newest first.
    async fn orders(&self) -> Vec<OrderSummary> {
        let read = self.shards.read_all(|tx| {
            let ids = tx.query("SELECT id FROM orders", &[], |row| row.array(0).map(OrderId::from_bytes))?;
            let mut all: Vec<OrderView> = Vec::new();
            for id in ids {
                let stored = store::find(tx, id, false)?.unwrap();
                all.push(store::view(tx, stored)?);
            }
            Ok::<_, SqlError>(all)
        });
        let mut all: Vec<OrderSummary> =
            read.await.unwrap().concat().into_iter().map(OrderSummary::from).collect();
        all.sort_by_key(|of| std::cmp::Reverse(of.id));
        all
    }

    async fn build(&self) {
        while self.list.build_some(&self.shards).await.unwrap() != Progress::Done {}
    }
}

#[test]
fn each_change_is_told_with_what_lists_show_and_what_comes_late_or_again_changes_nothing() {
    on_both(async |shop| {
        let order = shop.place(1, 1).await;
        shop.deliver(order).await;
        shop.ask_to_return(order).await;
        let told = shop.told().await;
        let versions: Vec<u64> =
            told.iter().map(|event| event["data"]["summary"]["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, (1..=7).collect::<Vec<_>>(), "each version is told");
        for event in &told {
            shop.take(std::slice::from_ref(event)).await;
            let [listed] = shop.listed(None, 10).await.try_into().unwrap();
            assert_eq!(listed.version, event["data"]["version"], "{event}");
        }
        let want = shop.orders().await;
        assert_eq!(
            (want[0].state, want[0].returns[0].state),
            (OrderState::Delivered, ReturnState::Requested)
        );
        assert_eq!(shop.listed(None, 10).await, want);
        for event in told.iter().rev() {
            shop.take(std::slice::from_ref(event)).await;
            assert_eq!(shop.listed(None, 10).await, want, "{event}");
        }
        assert_eq!(shop.returned(ReturnState::Requested, None, 10).await, [order]);
        assert!(shop.listed(Some(OrderState::Paid), 10).await.is_empty(), "it is found by its last state");
        // What the shopper wrote is not in events, nor in the list.
        let all = format!("{told:?} {:?}", shop.listed(None, 10).await);
        assert!(!all.contains("fit me"), "{all}");
    });
}

#[test]
fn a_build_lists_the_orders_of_all_databases_in_their_order_page_by_page() {
    on_both(async |shop| {
        for number in 0..230 {
            let order = shop.place(number, if number == 7 { 23 } else { 1 }).await;
            if number % 50 == 3 {
                shop.deliver(order).await;
                shop.ask_to_return(order).await;
            }
        }
        let want = shop.orders().await;
        let here: Vec<usize> = shop
            .shards
            .read_all(|tx| {
                Ok::<_, SqlError>(tx.query("SELECT id FROM orders", &[], |row| row.array::<16>(0))?.len())
            })
            .await
            .unwrap();
        assert!(here.iter().all(|count| *count > PAGE_MAX / 2), "on one database alone: {here:?}");
        assert!(shop.listed(None, 1_000).await.is_empty(), "nothing has told of them");
        shop.list.begin().await.unwrap();
        // The first pages, by a process that ends.
        assert!(matches!(shop.list.build_some(&shop.shards).await, Ok(Progress::Buckets(_))));
        let first = shop.listed(None, 1_000).await.len();
        assert_eq!(first, PAGE_MAX);
        assert!(matches!(shop.list.build_some(&shop.shards).await, Ok(Progress::Buckets(_))));
        let then = shop.listed(None, 1_000).await.len();
        assert!(first < then && then < want.len(), "it goes on where it was: {then}");
        let again = List::open(shop.list.sql.clone(), &shop.shards).await.unwrap();
        let shop = Shop { list: again, ..shop };
        shop.build().await;
        assert_eq!(shop.listed(None, 1_000).await, want);
        let long = want.iter().find(|of| of.more_lines > 0).unwrap();
        assert_eq!((long.lines.len(), long.more_lines), (20, 3));
        // Its pages.
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page =
                shop.list.read(move |tx| list_rows::newest(tx, None, before, 60)).await.unwrap().unwrap();
            before = page.last().map(|of| of.id);
            all.extend(page);
            if all.len() % 60 != 0 {
                break;
            }
        }
        assert_eq!(all, want);
        let delivered = shop.listed(Some(OrderState::Delivered), 1_000).await;
        assert_eq!(delivered.len(), 5);
        let mut ids: Vec<OrderId> = delivered.iter().map(|of| of.id).collect();
        ids.reverse();
        assert_eq!(shop.returned(ReturnState::Requested, None, 10).await, ids);
        assert_eq!(shop.returned(ReturnState::Requested, Some(ids[1]), 2).await, ids[2..4]);
        assert!(shop.returned(ReturnState::Approved, None, 10).await.is_empty());
    });
}

#[test]
fn a_page_that_was_read_before_a_change_does_not_replace_it() {
    on_both(async |shop| {
        let order = shop.place(1, 1).await;
        shop.list.begin().await.unwrap();
        let build = shop.list.sql.read(list_rows::build).await.unwrap();
        let (page, next) = read_page(&shop.shards, Place::START).await.unwrap();
        shop.command(order, Command::StockAnswered { is_whole: true }).await;
        let told = shop.told().await;
        shop.take(&told).await;
        let written =
            shop.list.sql.write(move |tx| list_rows::put_page(tx, (build.number, Place::START), &page, next));
        written.await.unwrap();
        assert_eq!(shop.listed(None, 10).await, shop.orders().await);
        // A process that was slow writes nothing of a build that is further, or another one.
        let late: Vec<OrderSummary> = vec![OrderSummary { version: 99, ..shop.orders().await.remove(0) }];
        let written =
            shop.list.sql.write(move |tx| list_rows::put_page(tx, (build.number, Place::START), &late, next));
        written.await.unwrap();
        shop.build().await;
        assert_eq!(shop.listed(None, 10).await, shop.orders().await);
    });
}

#[test]
fn a_build_takes_away_what_there_is_not_and_what_is_ahead() {
    on_both(async |shop| {
        let order = shop.place(1, 1).await;
        shop.deliver(order).await;
        let told = shop.told().await;
        shop.take(&told).await;
        shop.ask_to_return(order).await;
        let told = shop.told().await;
        shop.take(&told).await;
        // As if the orders had been put back to a state in which this one was younger, and another
        // one was not there.
        let mut ahead = shop.orders().await.remove(0);
        (ahead.version, ahead.state) = (ahead.version + 10, OrderState::Refunded);
        let ghost = OrderSummary { id: new_order(2, 1).id, ..ahead.clone() };
        shop.list.put(vec![ahead, ghost]).await.unwrap();
        assert_eq!(shop.returned(ReturnState::Requested, None, 10).await.len(), 2);
        shop.list.begin().await.unwrap();
        assert_eq!(shop.listed(None, 10).await.len(), 2, "it answers meanwhile");
        shop.build().await;
        assert_eq!(shop.listed(None, 10).await, shop.orders().await);
        assert_eq!(shop.returned(ReturnState::Requested, None, 10).await, [order]);
    });
}

#[test]
fn builds_race_events_and_the_list_is_as_the_orders_are() {
    const ORDERS: u64 = 40;
    on_both(async |shop| {
        let mut orders = Vec::new();
        for number in 0..ORDERS {
            orders.push(shop.place(number, 1).await);
        }
        let (shop, is_over) = (Arc::new(shop), Arc::new(AtomicBool::new(false)));
        let builders = [(); 2].map(|()| {
            let (shop, is_over) = (Arc::clone(&shop), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut done = 0;
                while !is_over.load(Relaxed) || done == 0 {
                    match shop.list.build_some(&shop.shards).await {
                        Ok(Progress::Done) => {
                            done += 1;
                            shop.list.begin().await.unwrap();
                        }
                        Ok(_) => {}
                        Err(error) => assert!(error.passes(), "{error}"),
                    }
                }
                done
            })
        });
        for order in &orders {
            shop.deliver(*order).await;
            let told = shop.told().await;
            shop.take(&told).await;
            shop.ask_to_return(*order).await;
            let told = shop.told().await;
            shop.take(&told).await;
        }
        is_over.store(true, Relaxed);
        for builder in builders {
            assert!(builder.await.unwrap() > 0, "no build came to its end");
        }
        shop.build().await;
        assert_eq!(shop.listed(None, 1_000).await, shop.orders().await);
        assert_eq!(shop.returned(ReturnState::Requested, None, 1_000).await.len(), ORDERS as usize);
    });
}

#[tokio::test]
async fn a_list_that_is_not_built_yet_does_not_answer_and_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| sqlite::open(&dir.path().join(name)).unwrap();
    let sql = open("list.db");
    sql.migrate(list_rows::MIGRATIONS).await.unwrap();
    sql.write(list_rows::begin_if_needed).await.unwrap();
    let list = List { sql: sql.clone() };
    assert_eq!(list.read(|tx| list_rows::newest(tx, None, None, 10)).await.unwrap(), None);
    let shards = Shards::open(numbered(vec![open("orders.db")]), NOW, &SystemChance).await.unwrap();
    let list = List::open(sql.clone(), &shards).await.unwrap();
    assert_eq!(list.read(|tx| list_rows::newest(tx, None, None, 10)).await.unwrap(), Some(Vec::new()));
    // One of an earlier format is built anew, and one of a later format is another version's.
    let set = |format: u64| {
        sql.write(move |tx| tx.execute("UPDATE list_builds SET format = ?", params![format]).map(drop))
    };
    set(0).await.unwrap();
    sql.write(list_rows::begin_if_needed).await.unwrap();
    let build = sql.read(list_rows::build).await.unwrap();
    assert_eq!((build.number, build.is_whole, build.at), (2, false, Some(Place::START)));
    set(99).await.unwrap();
    assert!(matches!(List::open(sql, &shards).await, Err(SqlError::Schema(_))));
}
