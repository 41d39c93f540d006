//! The list of what moves, against the tables.

use super::*;
use crate::{
    shards::{Shards, numbered},
    store::MIGRATIONS,
};
use std::collections::BTreeSet;
use units::TimeMs;

/// What is each database's own.
const STAYS: [&str; 7] = [
    "migrations",
    "shard",
    "held_buckets",
    "bucket_directory",
    "directory_versions",
    "bucket_moves",
    "sqlite_sequence",
];

#[tokio::test]
async fn every_column_of_every_table_moves_or_is_known_to_stay() {
    let dir = tempfile::tempdir().unwrap();
    let sql = engines::sqlite::open(&dir.path().join("orders.db")).unwrap();
    sql.migrate(MIGRATIONS).await.unwrap();
    let read = sql.read(|tx| {
        let text = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let tables = tx.query(text, &[], |row| row.text(0))?;
        let columns = |tx: &mut Tx<'_>, table: &String| {
            let text = "SELECT name FROM pragma_table_info(?)";
            Ok((table.clone(), tx.query(text, params![table], |row| row.text(0))?))
        };
        tables.iter().map(|table| columns(tx, table)).collect::<Result<BTreeMap<_, _>, SqlError>>()
    });
    let mut there: BTreeMap<String, BTreeSet<String>> =
        read.await.unwrap().into_iter().map(|(table, of)| (table, of.into_iter().collect())).collect();
    for stays in STAYS {
        assert!(there.remove(stays).is_some(), "{stays}");
    }
    // Its rows move by way of `arriving_events`; tasks and events are counted by each database.
    assert_eq!(there.remove("outbox"), Some(["number", "body"].map(str::to_owned).into()));
    assert!(there.get_mut("tasks").unwrap().remove("number"));
    let all = [&ORDERS, &CARTS, &EVENTS].into_iter().chain(&OF_ORDERS);
    let moves: BTreeMap<String, BTreeSet<String>> = all
        .map(|table| (table.name.into(), table.columns.iter().map(|(name, _)| (*name).into()).collect()))
        .collect();
    assert_eq!(moves, there);
}

#[tokio::test]
async fn rows_that_an_earlier_version_wrote_get_their_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let sql = engines::sqlite::open(&dir.path().join("orders.db")).unwrap();
    let shards = Shards::open(numbered(vec![sql]), TimeMs(1), &engines::chance::SystemChance).await.unwrap();
    let sql = shards.home();
    sql.write(|tx| {
        for owner in 0..700 {
            let text = "INSERT INTO cart_lines (owner, sku, quantity, added_at, changed_at) VALUES (?, 'A', 1, 1, 1)";
            tx.execute(text, params![&format!("owner-{owner}")])?;
        }
        Ok::<_, SqlError>(())
    })
    .await
    .unwrap();
    assert_eq!(sql.write(number_some).await, Ok(true));
    assert_eq!(sql.write(number_some).await, Ok(false));
    let read = sql.read(|tx| {
        tx.query("SELECT owner, bucket FROM cart_lines", &[], |row| Ok((row.text(0)?, row.count(1)?)))
    });
    let all: Vec<(String, u64)> = read.await.map_err(|error: SqlError| error).unwrap();
    assert_eq!(all.len(), 700);
    for (owner, bucket) in all {
        assert_eq!(u64::from(Bucket::of_shopper(&owner).number()), bucket);
    }
}
