//! What is refused at a start, and what an earlier version has left.

use super::*;
use crate::{directory::Held, store::MIGRATIONS};
use engines::{chance::SystemChance, params, sqlite};
use std::path::Path;

const NOW: TimeMs = TimeMs(1_795_521_600_000);

fn files(dir: &Path, names: &[(&str, &str)]) -> Vec<(String, Sql)> {
    let open = |file: &str| sqlite::open(&dir.join(file)).unwrap();
    names.iter().map(|(name, file)| ((*name).to_owned(), open(file))).collect()
}

async fn open(all: Vec<(String, Sql)>) -> Result<Shards, SqlError> {
    Shards::open(all, NOW, &SystemChance).await
}

async fn refused(all: Vec<(String, Sql)>) -> String {
    match open(all).await {
        Err(SqlError::Schema(why)) => why,
        other => panic!("{other:?}"),
    }
}

const FOUR: [(&str, &str); 4] =
    [("orders_0", "0.db"), ("orders_1", "1.db"), ("orders_2", "2.db"), ("orders_3", "3.db")];

/// An order as a version without a directory has written it.
async fn old_order(sql: &Sql, bucket: u16) {
    sql.migrate(&MIGRATIONS[..4]).await.unwrap();
    let id = contracts::store::OrderId::in_bucket(NOW, Bucket::numbered(bucket).unwrap(), [1; 16]);
    let insert = move |tx: &mut Tx<'_>| {
        let text = "INSERT INTO orders (id, shopper, state, payment_seen, currency, total_minor, created_at, version) \
                    VALUES (?, 's', 'created', 'none', 'CNY', 1, 1, 1)";
        tx.execute(text, params![&id.to_bytes()])
    };
    sql.write(insert).await.unwrap();
}

#[tokio::test]
async fn a_new_installation_is_spread_over_all_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let five = [&FOUR[..], &[("orders_x", "x.db")]].concat();
    let (version, all, moves) = open(files(dir.path(), &five)).await.unwrap().describe().await.unwrap();
    let counts: Vec<usize> = all.values().map(Vec::len).collect();
    assert_eq!((version, counts, moves), (1, vec![205, 205, 205, 205, 204], vec![]));
    // In another order: names are what counts.
    let mut turned = five.clone();
    turned.reverse();
    let again = open(files(dir.path(), &turned)).await.unwrap().describe().await.unwrap();
    assert_eq!((again.0, again.1), (1, all));
    // One that is new has no bucket yet.
    let six = [&five[..], &[("orders_y", "y.db")]].concat();
    let more = open(files(dir.path(), &six)).await.unwrap().describe().await.unwrap();
    assert_eq!(more.1["orders_y"], [0u16; 0]);
}

#[tokio::test]
async fn what_an_earlier_version_has_left_stays_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    old_order(&sqlite::open(&dir.path().join("2.db")).unwrap(), 700).await;
    // A fifth database that is added at the same time changes nothing.
    let five = [&[("orders_x", "x.db")], &FOUR[..]].concat();
    let shards = open(files(dir.path(), &five)).await.unwrap();
    let (_, all, _) = shards.describe().await.unwrap();
    let counts: Vec<usize> = all.values().map(Vec::len).collect();
    assert_eq!(counts, [256, 256, 256, 256, 0]);
    assert_eq!((all["orders_1"][0], all["orders_2"][0]), (256, 512));
    let text = "SELECT shopper FROM orders";
    let bucket = Bucket::numbered(700).unwrap();
    let read = shards.read(bucket, move |tx| tx.query(text, &[], |row| row.text(0)));
    assert_eq!(read.await, Ok::<_, SqlError>(vec!["s".to_owned()]));
}

#[tokio::test]
async fn databases_of_an_earlier_version_in_another_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    old_order(&sqlite::open(&dir.path().join("2.db")).unwrap(), 700).await;
    let swapped = [("orders_0", "0.db"), ("orders_1", "2.db"), ("orders_2", "1.db"), ("orders_3", "3.db")];
    let why = refused(files(dir.path(), &swapped)).await;
    assert!(why.contains("orders_1 has orders of bucket 700, which are orders_2's"), "{why}");
    let why = refused(files(dir.path(), &[FOUR[0], FOUR[2]])).await;
    assert!(why.contains("orders_1 is not one of store.orders"), "{why}");
    // Neither has harmed anything.
    open(files(dir.path(), &FOUR)).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_the_one_that_it_is_taken_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(files(dir.path(), &FOUR)).await.unwrap();
    let swapped = [FOUR[0], ("orders_1", "2.db"), ("orders_2", "1.db"), FOUR[3]];
    let why = refused(files(dir.path(), &swapped)).await;
    assert!(why.contains("configured as orders_1 says that it is orders_2"), "{why}");
    let why = refused(files(dir.path(), &FOUR[..3])).await;
    assert!(why.contains("bucket 768 is in orders_3") && why.contains("add it to store.orders"), "{why}");
    let why = refused(files(dir.path(), &FOUR[1..])).await;
    assert!(why.contains("one of them orders_0"), "{why}");
    // An empty one in the place of one with orders, and of the directory.
    let lost = [FOUR[0], FOUR[1], ("orders_2", "new.db"), FOUR[3]];
    let why = refused(files(dir.path(), &lost)).await;
    assert!(why.contains("orders_2 is empty"), "{why}");
    let lost = [("orders_0", "new-home.db"), FOUR[1], FOUR[2], FOUR[3]];
    let why = refused(files(dir.path(), &lost)).await;
    assert!(why.contains("put orders_0 back"), "{why}");
    // One of another shop, by its right name.
    let other = tempfile::tempdir().unwrap();
    open(files(other.path(), &FOUR)).await.unwrap();
    let mut all = files(dir.path(), &FOUR);
    all[3] = files(other.path(), &FOUR).remove(3);
    let why = refused(all).await;
    assert!(why.contains("orders_3 belongs to another installation"), "{why}");
    open(files(dir.path(), &FOUR)).await.unwrap();
}

#[tokio::test]
async fn a_transaction_waits_for_its_bucket_and_says_when_it_does_not_come() {
    let dir = tempfile::tempdir().unwrap();
    let shards = open(files(dir.path(), &FOUR)).await.unwrap();
    let bucket = Bucket::numbered(0).unwrap();
    let set = async |state| {
        let write = move |tx: &mut Tx<'_>| directory::set_held(tx, bucket, Some((state, None)));
        shards.home().write(write).await.unwrap();
    };
    set(Held::Leaving).await;
    assert_eq!(shards.read(bucket, |_| Ok::<_, SqlError>(7)).await, Ok(7));
    let began = Instant::now();
    let why = shards.write(bucket, |_| Ok::<_, SqlError>(7)).await.unwrap_err();
    assert_eq!(why, SqlError::Shortage("bucket 0 of orders is being moved".into()));
    assert!(began.elapsed() >= WAIT_MAX && why.passes());
    let other = Bucket::numbered(1).unwrap();
    assert_eq!(shards.write(other, |_| Ok::<_, SqlError>(7)).await, Ok(7));
    let (waiting, thawed) = tokio::join!(shards.write(bucket, |_| Ok::<_, SqlError>(7)), async {
        sleep(5 * PAUSE_MIN).await;
        set(Held::Here).await;
    });
    assert_eq!((waiting, thawed), (Ok(7), ()));
}
