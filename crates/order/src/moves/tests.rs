//! Moves that end at every possible moment, and moves beside shoppers.

use super::*;
use crate::{
    cart_rows,
    core::By,
    directory::Wants,
    mariadb_server::MariaDb,
    shards::numbered,
    store::{self, NewOrder, TaskKind},
};
use contracts::store::{Charges, OrderId, OrderLine, PaymentId, Quantity};
use engines::{
    chance::SystemChance,
    mariadb,
    sql::Sql,
    sqlite::{
        self,
        in_line::{Database, Fate, Ran},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};
use units::TimeMs;

const NOW: TimeMs = TimeMs(1_795_521_600_000);

#[derive(Debug, Default)]
struct Wall(AtomicU64);

impl Clock for Wall {
    fn now(&self) -> TimeMs {
        TimeMs(NOW.0 + self.0.load(Relaxed))
    }
}

fn mover(shards: &Shards) -> Mover {
    Mover::new(shards.clone(), Arc::new(Wall::default()), &SystemChance).unwrap()
}

fn new_order(shopper: &str, number: u64) -> NewOrder {
    let random = u128::from(number).to_be_bytes();
    NewOrder {
        id: OrderId::in_bucket(NOW, Bucket::of_shopper(shopper), random),
        shopper: shopper.to_owned(),
        hold: None,
        currency: "CNY".parse().unwrap(),
        lines: vec![OrderLine {
            sku: "A".parse().unwrap(),
            name: "A".into(),
            name_zh: "甲".into(),
            quantity: 1,
            price_minor: 100,
        }],
        charges: Charges::default(),
        address: None,
        pay_by: Some(NOW),
    }
}

const BY: By<'_> = By { actor: "test", reason: "because" };

async fn place(shards: &Shards, shopper: &str, number: u64) -> Result<OrderId, SqlError> {
    let new = new_order(shopper, number);
    let (id, bucket) = (new.id, new.id.bucket());
    shards.write(bucket, move |tx| store::create(tx, NOW, BY, &new).map(drop)).await.map(|()| id)
}

/// Orders that a read of all of a database finds.
fn seen(tx: &mut Tx<'_>) -> Result<Vec<OrderId>, SqlError> {
    let here = directory::only_here(tx, "id", Wants::Read)?;
    tx.query(&format!("SELECT id FROM orders WHERE 1 = 1{here}"), &[], |row| {
        row.array(0).map(OrderId::from_bytes)
    })
}

/// A shopper of the bucket.
fn shopper_of(bucket: Bucket, nth: usize) -> String {
    let mut all = (0u32..).map(|n| format!("s{n}")).filter(|name| Bucket::of_shopper(name) == bucket);
    all.nth(nth).unwrap()
}

/// What the databases have of a bucket, by table; events by themselves.
type Contents = (BTreeMap<&'static str, Vec<String>>, Vec<String>);

fn contents(tx: &mut Tx<'_>, bucket: Bucket) -> Result<Contents, SqlError> {
    let (mut all, mut events, mut at) =
        (BTreeMap::<_, Vec<String>>::new(), Vec::new(), rows::Place::default());
    while let Some(page) = rows::read_page(tx, bucket, &at)? {
        for (table, rows) in page.texts() {
            match table {
                "arriving_events" => events.extend(rows),
                _ => all.entry(table).or_default().extend(rows),
            }
        }
        at = page.next();
    }
    all.retain(|_, rows| !rows.is_empty());
    Ok((all, events))
}

/// Two databases in memory, and what happens at each point at which a process can end.
struct World {
    databases: [Database; 2],
}

impl World {
    fn new() -> Self {
        Self { databases: [Database::in_memory().unwrap(), Database::in_memory().unwrap()] }
    }

    fn sql(&self) -> Vec<(String, Sql)> {
        numbered(self.databases.iter().map(|of| of.sql(Arc::new(|| Ok(())))).collect())
    }

    /// Runs it, until it has ended or `die_at` points were passed. Returns how many there were.
    fn run<T>(&self, die_at: Option<u64>, work: impl Future<Output = T>) -> (Option<T>, u64) {
        let (mut work, mut points) = (pin!(work), 0);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return (Some(done), points);
            }
            let mut is_any_run = false;
            for database in &self.databases {
                let ran = database.run_next(&mut |_| {
                    points += 1;
                    if Some(points) == die_at { Fate::Die } else { Fate::GoOn }
                });
                is_any_run |= ran.is_some();
                if ran == Some(Ran::Died) {
                    self.databases.iter().for_each(Database::forget_waiting);
                    return (None, points);
                }
            }
            assert!(is_any_run, "it waits for nothing");
        }
    }

    fn look<T>(&self, number: usize, read: impl FnOnce(&mut Tx<'_>) -> Result<T, SqlError>) -> T {
        self.databases[number].look(read).unwrap()
    }

    fn open(&self) -> Shards {
        self.run(None, Shards::open(self.sql(), NOW, &SystemChance)).0.unwrap().unwrap()
    }
}

/// A bucket of the first database with something in every table, and a neighbour that stays.
fn filled(world: &World, bucket: Bucket) -> Shards {
    let shards = world.open();
    let fill = async {
        for nth in 0..3 {
            for of in [bucket, Bucket::numbered(bucket.number() + 1).unwrap()] {
                let shopper = shopper_of(of, nth);
                let order = place(&shards, &shopper, nth as u64).await.unwrap();
                let more = move |tx: &mut Tx<'_>| {
                    let payment = PaymentId::new(NOW, [3; 16]);
                    store::add_task(tx, NOW, order, TaskKind::Refund, Some(payment), "twice")?;
                    let sku = "B".parse().unwrap();
                    match cart_rows::change(tx, NOW, &shopper, &sku, Quantity::Set(2)) {
                        Err(cart_rows::ChangeError::Sql(error)) => return Err(error),
                        other => other.unwrap(),
                    }
                    let id = order.to_bytes();
                    let text = "INSERT INTO returns (order_id, number, state, wish, value_minor) VALUES (?, 1, 'requested', 'refund', 100)";
                    tx.execute(text, params![&id])?;
                    let text =
                        "INSERT INTO return_lines (order_id, number, sku, quantity) VALUES (?, 1, 'A', 1)";
                    tx.execute(text, params![&id])?;
                    let text = "INSERT INTO return_steps (order_id, number, step, at, state, actor, reason) VALUES (?, 1, 1, 1, 'requested', 'a', 'r')";
                    tx.execute(text, params![&id])?;
                    Ok::<_, SqlError>(())
                };
                shards.write(of, more).await.unwrap();
            }
        }
    };
    world.run(None, fill).0.unwrap();
    shards
}

#[test]
fn a_move_that_ends_at_any_moment_is_finished_or_taken_back_and_nothing_is_lost_or_served_twice() {
    let (bucket, neighbour) = (Bucket::numbered(5).unwrap(), Bucket::numbered(6).unwrap());
    let mut ends = 0;
    for die_at in 1.. {
        let world = World::new();
        let shards = filled(&world, bucket);
        let before = world.look(0, |tx| contents(tx, bucket));
        assert_eq!((before.0.len(), before.1.len()), (8, 3), "something in every table");
        let beside = world.look(0, |tx| contents(tx, neighbour));
        let (ended, _) = world.run(Some(die_at), mover(&shards).move_to(bucket, "orders_1"));
        // Whatever has happened, one of the two at the most has it, and then all of it.
        let mut serving = 0;
        for number in 0..2 {
            if world.look(number, |tx| directory::is_here(tx, bucket, Wants::Read)) {
                serving += 1;
                let found = world.look(number, |tx| contents(tx, bucket));
                assert_eq!(found, before, "{die_at}");
            }
        }
        assert!(serving <= 1, "{die_at}: it is served twice");
        let seen_by_lists: usize = (0..2).map(|number| world.look(number, seen).len()).sum();
        assert_eq!(seen_by_lists, 3 + 3 * serving, "{die_at}");
        // Another process.
        let shards = world.open();
        let again = mover(&shards);
        let (finished, _) = world.run(None, again.finish());
        assert!(finished.unwrap().unwrap() <= 1);
        world.run(None, again.move_to(bucket, "orders_1")).0.unwrap().unwrap();
        let found = world.look(1, |tx| contents(tx, bucket));
        assert_eq!(found, before, "{die_at}");
        let left = world.look(0, |tx| contents(tx, bucket));
        assert_eq!(left, Contents::default(), "{die_at}");
        assert_eq!(world.look(0, |tx| contents(tx, neighbour)), beside, "{die_at}");
        let (described, _) = world.run(None, shards.describe());
        let (version, all, moves) = described.unwrap().unwrap();
        assert_eq!((version, moves), (2, vec![]), "{die_at}");
        assert!(all["orders_1"].contains(&5) && all["orders_0"].len() == 511);
        assert!(world.look(1, |tx| directory::is_here(tx, bucket, Wants::Change)));
        let text = "SELECT COUNT(*) FROM held_buckets";
        let rows =
            [0, 1].map(|of| world.look(of, |tx| tx.query_first(text, &[], |row| row.count(0))).unwrap());
        assert_eq!(rows, [511, 513], "{die_at}");
        if ended.is_some() {
            break;
        }
        ends += 1;
    }
    assert!(ends > 50, "{ends} moments");
}

/// Lets a mover do so many transactions. Returns whether it has ended before.
fn is_over_within(world: &World, mut slow: Pin<&mut impl Future>, transactions: usize) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..transactions {
        if slow.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        world.databases.iter().for_each(|of| {
            let _ = of.run_next(&mut |_| Fate::GoOn);
        });
    }
    false
}

#[test]
fn a_mover_that_was_thought_to_be_dead_changes_nothing_any_more() {
    let bucket = Bucket::numbered(5).unwrap();
    let mut overtaken = 0;
    for slow_at in 1..200 {
        let world = World::new();
        let shards = filled(&world, bucket);
        let before = world.look(0, |tx| contents(tx, bucket));
        let slow = mover(&shards);
        let mut slow = pin!(slow.move_to(bucket, "orders_1"));
        // It stops between two transactions, and another one finishes the move.
        if is_over_within(&world, slow.as_mut(), slow_at) {
            break;
        }
        let other = world.open();
        let (done, _) = world.run(None, async {
            let other = mover(&other);
            other.finish().await?;
            other.move_to(bucket, "orders_1").await
        });
        let is_done = done.unwrap();
        let (ended, _) = world.run(None, slow);
        let ended = ended.unwrap();
        assert!(is_done.is_ok() || ended.is_ok(), "{slow_at}: {is_done:?}, {ended:?}");
        overtaken += u32::from(matches!(ended, Err(MoveError::Overtaken(5))));
        assert_eq!(world.look(1, |tx| contents(tx, bucket)), before, "{slow_at}: {ended:?}");
        assert!(world.look(1, |tx| directory::is_here(tx, bucket, Wants::Change)), "{slow_at}");
        assert_eq!(world.look(0, |tx| contents(tx, bucket)), Contents::default(), "{slow_at}");
    }
    assert!(overtaken > 5, "{overtaken}");
}

/// It was moved and moved back while this mover stood still: what it does then is taken back, or a
/// move that others can finish.
#[test]
fn a_slow_mover_leaves_no_bucket_without_a_place() {
    let bucket = Bucket::numbered(5).unwrap();
    let mut tries = 0;
    for slow_at in 1..200 {
        let world = World::new();
        let shards = filled(&world, bucket);
        let before = world.look(0, |tx| contents(tx, bucket));
        let slow = mover(&shards);
        let mut slow = pin!(slow.move_to(bucket, "orders_1"));
        if is_over_within(&world, slow.as_mut(), slow_at) {
            break;
        }
        tries += 1;
        let other = world.open();
        let (done, _) = world.run(None, async {
            let other = mover(&other);
            other.finish().await?;
            other.move_to(bucket, "orders_1").await?;
            other.move_to(bucket, "orders_0").await
        });
        done.unwrap().unwrap();
        let (ended, _) = world.run(None, slow);
        let ended = ended.unwrap();
        let (finished, _) = world.run(None, mover(&other).finish());
        assert!(finished.unwrap().is_ok(), "{slow_at}: {ended:?}");
        let places: Vec<usize> =
            (0..2).filter(|at| world.look(*at, |tx| directory::is_here(tx, bucket, Wants::Change))).collect();
        let [place] = places[..] else { panic!("{slow_at}: {places:?}, {ended:?}") };
        assert_eq!(world.look(place, |tx| contents(tx, bucket)), before, "{slow_at}: {ended:?}");
        assert_eq!(world.look(1 - place, |tx| contents(tx, bucket)), Contents::default(), "{slow_at}");
        assert_eq!(world.run(None, other.describe()).0.unwrap().unwrap().2, [], "{slow_at}: {ended:?}");
    }
    assert!(tries > 10, "{tries}");
}

#[test]
fn a_copy_that_differs_is_taken_back() {
    let (world, bucket) = (World::new(), Bucket::numbered(5).unwrap());
    let shards = filled(&world, bucket);
    let before = world.look(0, |tx| contents(tx, bucket));
    // A disk that loses what was written to it: a trigger of this test.
    let trigger = "CREATE TRIGGER forgets AFTER INSERT ON order_lines BEGIN \
                   UPDATE order_lines SET quantity = 9 WHERE order_id = NEW.order_id; END";
    world.look(1, |tx| tx.execute(trigger, &[]));
    let (moved, _) = world.run(None, mover(&shards).move_to(bucket, "orders_1"));
    assert_eq!(moved.unwrap(), Err(MoveError::Differs { bucket: 5, table: "order_lines" }));
    assert_eq!(world.look(0, |tx| contents(tx, bucket)), before);
    assert!(world.look(0, |tx| directory::is_here(tx, bucket, Wants::Change)));
    assert_eq!(world.look(1, |tx| contents(tx, bucket)), Contents::default());
    assert_eq!(world.run(None, shards.describe()).0.unwrap().unwrap().2, []);
}

#[test]
fn buckets_are_read_as_people_write_them() {
    let numbers =
        |text: &str| parse_buckets(text).map(|all| all.into_iter().map(Bucket::number).collect::<Vec<_>>());
    assert_eq!(numbers("7"), Ok(vec![7]));
    assert_eq!(numbers("1023, 0-2,1"), Ok(vec![0, 1, 2, 1023]));
    for wrong in ["", "1024", "3-1", "-", "a", "1-", "0-1024"] {
        assert!(numbers(wrong).unwrap_err().contains("0 to 1023"), "{wrong:?}");
    }
}

/// Two processes take orders of many shoppers while buckets go to another database and back.
async fn orders_are_placed_while_buckets_move(pools: impl Fn() -> Vec<(String, Sql)>) {
    const SHOPPERS: u64 = 12;
    /// Nobody takes the events.
    const ORDERS_MAX: u64 = 250;
    let open = async || Shards::open(pools(), NOW, &SystemChance).await.unwrap();
    let (first, second, moving) = (open().await, open().await, open().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut all = tokio::task::JoinSet::new();
    for shopper in 0..SHOPPERS {
        let (shards, is_over) =
            (if shopper % 2 == 0 { &first } else { &second }.clone(), Arc::clone(&is_over));
        all.spawn(async move {
            let (mut placed, mut number) = (Vec::new(), 0);
            while !is_over.load(Relaxed) {
                number = ORDERS_MAX.min(number + 1);
                let name = format!("s{shopper}");
                let id = loop {
                    match place(&shards, &name, number).await {
                        Ok(id) => break id,
                        Err(error) => assert!(error.passes(), "{error}"),
                    }
                };
                placed.push(id);
                // What was said to be there is there, wherever it is now.
                let read = shards.read(id.bucket(), move |tx| store::find(tx, id, false));
                match read.await {
                    Ok(found) => assert!(found.is_some(), "{id}"),
                    Err(error) => assert!(error.passes(), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            placed
        });
    }
    let (listing, ends) = (first.clone(), Arc::clone(&is_over));
    let lists = tokio::spawn(async move {
        let (mut count, mut least) = (0, 0);
        while !ends.load(Relaxed) {
            let read = listing.read_all(seen);
            let Ok(found) = read.await else { continue };
            let ids: Vec<OrderId> = found.concat();
            let different: BTreeSet<OrderId> = ids.iter().copied().collect();
            assert_eq!(different.len(), ids.len(), "an order is listed twice");
            assert!(ids.len() >= least, "an order is not listed any more");
            (count, least) = (count + 1, ids.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        count
    });
    let (mover, mut moved) = (mover(&moving), Moved::default());
    let buckets: BTreeSet<Bucket> = (0..SHOPPERS).map(|of| Bucket::of_shopper(&format!("s{of}"))).collect();
    for to in ["orders_1", "orders_2", "orders_0"] {
        for bucket in &buckets {
            let done = mover.move_to(*bucket, to).await.unwrap().unwrap_or_default();
            moved = Moved { orders: moved.orders + done.orders, rows: moved.rows + done.rows, ..done };
        }
    }
    is_over.store(true, Relaxed);
    let listed = lists.await.unwrap();
    let placed: BTreeSet<OrderId> = all.join_all().await.into_iter().flatten().collect();
    assert!(listed > 3 && placed.len() > 100 && moved.orders > 100, "{listed} {} {moved:?}", placed.len());
    let (mut found, mut events) = (Vec::new(), Vec::new());
    for shard in first.all() {
        let sql = shard.sql.primary();
        let read = sql.read(|tx| {
            let ids = tx.query("SELECT id FROM orders", &[], |row| row.array(0).map(OrderId::from_bytes))?;
            Ok::<_, SqlError>((ids, tx.query("SELECT body FROM outbox", &[], |row| row.text(0))?))
        });
        let (ids, bodies) = read.await.unwrap();
        assert!(shard.name == "orders_0" || ids.is_empty(), "{} has {}", shard.name, ids.len());
        found.extend(ids);
        events.extend(bodies);
    }
    assert_eq!(found.len(), placed.len(), "each order is in one database");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), placed);
    let told: BTreeSet<String> = events
        .iter()
        .map(|body| {
            serde_json::from_str::<serde_json::Value>(body).unwrap()["subject"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((events.len(), told.len()), (placed.len(), placed.len()), "each order has its event once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_placed_in_files_while_buckets_move() {
    let dir = tempfile::tempdir().unwrap();
    let file = |number: u8| sqlite::open(&dir.path().join(format!("{number}.db"))).unwrap();
    orders_are_placed_while_buckets_move(|| numbered((0..3).map(file).collect())).await;
}

/// The database of orders with this number.
fn open_on(server: &MariaDb, number: usize, replicas: &[&MariaDb]) -> Sql {
    let (url, replicas) = (server.url("x"), replicas.iter().map(|of| of.server_url()).collect::<Vec<_>>());
    let opened = std::thread::spawn(move || {
        let replicas: Vec<&str> = replicas.iter().map(String::as_str).collect();
        mariadb::open_or_make(&url, &format!("orders_{number}"), &replicas)
    });
    opened.join().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_placed_on_two_servers_while_buckets_move() {
    let servers = [MariaDb::start(), MariaDb::start()];
    let open = |number: usize| open_on(&servers[number % 2], number, &[]);
    orders_are_placed_while_buckets_move(|| numbered((0..4).map(open).collect())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_placed_on_two_servers_with_replicas_while_buckets_move() {
    let servers = [MariaDb::start_primary(), MariaDb::start_primary()];
    let replicas = [servers[0].start_replica(1), servers[1].start_replica(2)];
    let opened = std::sync::Mutex::new(Vec::new());
    let open = |number: usize| {
        let sql = open_on(&servers[number % 2], number, &[&replicas[number % 2]]);
        opened.lock().unwrap().push(sql.clone());
        sql
    };
    orders_are_placed_while_buckets_move(|| numbered((0..4).map(open).collect())).await;
    let all: Vec<_> = opened.lock().unwrap().iter().filter_map(Sql::reads).collect();
    assert!(all.iter().map(|of| of.by_replicas).sum::<u64>() > 0, "{all:?}");
}

/// A replica that stands still has the bucket as it was before it went away, and says that it is
/// there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_comes_back_is_not_read_as_it_was_when_it_left() {
    let server = MariaDb::start_primary();
    let replica = server.start_replica(1);
    let open = |replicas: &[&MariaDb]| numbered((0..3).map(|of| open_on(&server, of, replicas)).collect());
    let shards = Shards::open(open(&[&replica]), NOW, &SystemChance).await.unwrap();
    let mover = mover(&Shards::open(open(&[]), NOW, &SystemChance).await.unwrap());
    let (bucket, at) = (Bucket::numbered(400).unwrap(), "orders_1");
    let shopper = shopper_of(bucket, 0);
    assert_eq!(shards.of(bucket).unwrap().name, at);
    let sql = shards.named(at).unwrap().sql.clone();
    let find = async |id: OrderId| {
        let found = shards.read(id.bucket(), move |tx| store::find(tx, id, false)).await;
        found.unwrap().is_some()
    };
    for number in 0..3 {
        let before = place(&shards, &shopper, 2 * number).await.unwrap();
        let answered = sql.reads().unwrap().by_replicas;
        while sql.reads().unwrap().by_replicas == answered {
            assert!(find(before).await);
        }
        replica.execute("STOP SLAVE SQL_THREAD");
        mover.move_to(bucket, "orders_2").await.unwrap();
        let id = place(&shards, &shopper, 2 * number + 1).await.unwrap();
        // Its position is new, and of before the bucket came back.
        sql.primary().read(|_| Ok::<_, SqlError>(())).await.unwrap();
        mover.move_to(bucket, at).await.unwrap();
        shards.refresh().await.unwrap();
        assert!(find(id).await, "{number}");
        replica.execute("START SLAVE SQL_THREAD");
    }
}
