//! Replicas that are late, away, frozen, or of another server: each reader reads what was written,
//! whichever server answers.

use super::{LEDGER, numbers, runtime, server::MariaDb};
use engines::{
    mariadb, params,
    sql::{Reads, Sql, SqlError, conformance},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{scope, sleep},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(40);
/// A read that a replica has failed takes less, also on a busy machine.
const SLOWEST: Duration = Duration::from_secs(9);

fn open(primary: &MariaDb, name: &str, replicas: &[&MariaDb]) -> Sql {
    try_open(primary, name, replicas).unwrap()
}

fn try_open(primary: &MariaDb, name: &str, replicas: &[&MariaDb]) -> Result<Sql, SqlError> {
    let urls: Vec<String> = replicas.iter().map(|replica| replica.server_url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    // It may be asked for within a runtime, where nothing may wait.
    let open = || mariadb::open_or_make(&primary.url("x"), name, &urls);
    scope(|threads| threads.spawn(open).join().unwrap())
}

fn reads(sql: &Sql) -> Reads {
    sql.reads().expect("it has replicas")
}

async fn insert(sql: &Sql, number: u64) -> Result<(), SqlError> {
    let text = "INSERT INTO ledger (number, body) VALUES (?, 'x')";
    sql.write(move |tx| tx.execute(text, params![number]).map(drop)).await
}

async fn count(sql: &Sql) -> Result<u64, SqlError> {
    let text = "SELECT COUNT(*) FROM ledger";
    Ok(sql.read(move |tx| tx.query_first(text, &[], |row| row.count(0))).await?.unwrap_or_default())
}

/// Reads until a replica has answered.
async fn until_a_replica_answers(sql: &Sql) {
    let (began, before) = (Instant::now(), reads(sql).by_replicas);
    while reads(sql).by_replicas == before {
        assert!(began.elapsed() < PATIENCE, "no replica answers: {:?}", reads(sql));
        // Any table is there in each database.
        sql.read(|tx| tx.query("SELECT 1", &[], |row| row.int(0))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn mariadb_with_a_replica_keeps_every_promise_of_the_port() {
    let primary = Arc::new(MariaDb::start_primary());
    let replica = Arc::new(primary.start_replica(1));
    let (mut number, opened) = (0, Arc::new(Mutex::new(Vec::new())));
    runtime().block_on(conformance::check(&mut || {
        number += 1;
        let (primary, replica) = (Arc::clone(&primary), Arc::clone(&replica));
        let open = move || open(&primary, &format!("fresh{number}"), &[&replica]);
        let opened = Arc::clone(&opened);
        Box::pin(async move {
            let sql = tokio::task::spawn_blocking(open).await.unwrap();
            until_a_replica_answers(&sql).await;
            opened.lock().unwrap().push((sql.clone(), reads(&sql).by_replicas));
            sql
        })
    }));
    let opened = opened.lock().unwrap();
    let by_replicas: u64 = opened.iter().map(|(sql, before)| reads(sql).by_replicas - before).sum();
    assert!(by_replicas > 0, "reads of the suite reach the replica");
}

#[test]
fn reads_reach_the_replica_and_see_what_was_written_before() {
    let primary = MariaDb::start_primary();
    let (first, second) = (primary.start_replica(1), primary.start_replica(2));
    let sql = open(&primary, "ledgers", &[&first, &second]);
    runtime().block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        until_a_replica_answers(&sql).await;
        for number in 1..=500 {
            insert(&sql, number).await.unwrap();
            assert_eq!(count(&sql).await, Ok(number));
        }
        let all = reads(&sql);
        // On a busy machine they may be late.
        assert!(all.by_replicas > 250 || all.late + all.failed > 0, "{all:?}");
        for replica in [&first, &second] {
            replica.execute("INSERT INTO ledgers.ledger (number, body) VALUES (1000, 'x')");
        }
        let (began, before) = (Instant::now(), reads(&sql).by_replicas);
        loop {
            let found = count(&sql).await;
            let is_by_a_replica = reads(&sql).by_replicas > before;
            assert_eq!(found, Ok(if is_by_a_replica { 501 } else { 500 }));
            if is_by_a_replica {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "no replica answers: {:?}", reads(&sql));
        }
        assert_eq!(count(&sql.primary()).await, Ok(500), "what is asked of the primary is not given to them");
    });
}

#[test]
fn what_was_written_is_read_while_the_replica_stands_still_or_is_delayed() {
    let primary = MariaDb::start_primary();
    let replica = primary.start_replica(1);
    let sql = open(&primary, "ledgers", &[&replica]);
    runtime().block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        until_a_replica_answers(&sql).await;
        let mut number = 0;
        for how in ["STOP SLAVE SQL_THREAD", "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 4; START SLAVE"] {
            replica.execute(how);
            let (before, began, first) = (reads(&sql), Instant::now(), number);
            while began.elapsed() < Duration::from_secs(3) {
                number += 1;
                insert(&sql, number).await.unwrap();
                assert_eq!(count(&sql).await, Ok(number), "{how}");
            }
            let after = reads(&sql);
            let (late, all) = (after.late - before.late, after.by_primary - before.by_primary);
            assert_eq!((after.by_replicas, all), (before.by_replicas, number - first), "{after:?}");
            // The others did not wait for what one of them has found out.
            assert!((1..=8).contains(&late), "{late}");
            replica.execute("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE");
            until_a_replica_answers(&sql).await;
            assert_eq!(count(&sql).await, Ok(number));
        }
    });
}

#[test]
fn reads_go_on_while_the_replica_is_killed_or_frozen_and_return_to_it() {
    let primary = MariaDb::start_primary();
    let mut replica = primary.start_replica(1);
    let sql = open(&primary, "ledgers", &[&replica]);
    runtime().block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        let mut number = 0;
        for is_killed in [true, false] {
            until_a_replica_answers(&sql).await;
            match is_killed {
                true => replica.kill(),
                false => replica.freeze(true),
            }
            let (before, mut slowest) = (reads(&sql), Duration::ZERO);
            for _ in 0..100 {
                number += 1;
                insert(&sql, number).await.unwrap();
                let began = Instant::now();
                assert_eq!(count(&sql).await, Ok(number), "killed: {is_killed}");
                slowest = slowest.max(began.elapsed());
            }
            let after = reads(&sql);
            assert!(after.failed > before.failed && after.replicas_in_use == 0, "{after:?}");
            assert!(slowest < SLOWEST, "{slowest:?}");
            match is_killed {
                true => replica.restart(),
                false => replica.freeze(false),
            }
        }
        until_a_replica_answers(&sql).await;
        assert_eq!(reads(&sql).replicas_in_use, 1);
        assert_eq!(count(&sql).await, Ok(number));
    });
}

/// Readers whose statements are under way, and others who wait for those, when the replica stops
/// to answer.
#[test]
fn readers_in_the_middle_of_a_statement_do_not_wait_long_for_a_frozen_replica() {
    let primary = MariaDb::start_primary();
    let replica = primary.start_replica(1);
    let sql = open(&primary, "ledgers", &[&replica]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        insert(&sql, 1).await.unwrap();
        until_a_replica_answers(&sql).await;
    });
    let before = reads(&sql);
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let sql = sql.clone();
            runtime.spawn(async move {
                let (began, text) = (Instant::now(), "SELECT COUNT(*) + SLEEP(1) FROM ledger");
                let found = sql.read(move |tx| tx.query_first(text, &[], |row| row.count(0))).await;
                assert_eq!(found, Ok::<_, SqlError>(Some(1)));
                began.elapsed()
            })
        })
        .collect();
    let under_way = "SELECT COUNT(*) FROM information_schema.processlist WHERE command = 'Execute'";
    let began = Instant::now();
    while replica.execute(under_way) == "0" {
        assert!(began.elapsed() < PATIENCE, "{:?}", reads(&sql));
    }
    replica.freeze(true);
    let slowest = readers.into_iter().map(|of| runtime.block_on(of).unwrap()).max().unwrap();
    let after = reads(&sql);
    assert!(after.failed > before.failed && slowest < SLOWEST, "{slowest:?} {after:?}");
    replica.freeze(false);
    runtime.block_on(until_a_replica_answers(&sql));
}

#[test]
fn a_process_that_starts_reads_what_the_one_before_has_written_and_soon_what_others_write() {
    let primary = MariaDb::start_primary();
    let replica = primary.start_replica(1);
    runtime().block_on(async {
        let before = open(&primary, "ledgers", &[&replica]);
        before.migrate(LEDGER).await.unwrap();
        until_a_replica_answers(&before).await;
        replica.execute("STOP SLAVE SQL_THREAD");
        insert(&before, 1).await.unwrap();
        drop(before);
        let sql = open(&primary, "ledgers", &[&replica]);
        assert_eq!(count(&sql).await, Ok(1));
        replica.execute("START SLAVE SQL_THREAD");
        until_a_replica_answers(&sql).await;

        // Another process, and a replica that stands still: it has all that this one has written.
        replica.execute("STOP SLAVE SQL_THREAD");
        let other = open(&primary, "ledgers", &[]);
        assert_eq!(other.reads(), None);
        for number in 2..12 {
            insert(&other, number).await.unwrap();
            assert_eq!(count(&sql.primary()).await, Ok(number));
            insert(&other, number + 100).await.unwrap();
            sql.catch_up();
            assert_eq!(numbers(&sql).await.unwrap().last(), Some(&(number + 100)));
            let text = "DELETE FROM ledger WHERE number > 100";
            other.write(|tx| tx.execute(text, &[])).await.unwrap();
            sql.catch_up();
            assert_eq!(count(&sql).await, Ok(number));
        }
        replica.execute("START SLAVE SQL_THREAD");
        until_a_replica_answers(&sql).await;
        replica.execute("STOP SLAVE SQL_THREAD");
        insert(&other, 12).await.unwrap();
        let began = Instant::now();
        while count(&sql).await != Ok(12) {
            assert!(began.elapsed() < SLOWEST, "{:?}", reads(&sql));
        }
        // What is not found is asked of the primary.
        replica.execute("START SLAVE SQL_THREAD");
        until_a_replica_answers(&sql).await;
        replica.execute("STOP SLAVE SQL_THREAD");
        insert(&other, 13).await.unwrap();
        let text = "SELECT number FROM ledger WHERE number = 13";
        assert_eq!(sql.find(move |tx| tx.query_first(text, &[], |row| row.count(0))).await, Ok(Some(13)));
    });
}

#[test]
fn servers_that_cannot_have_replicas_are_refused_and_others_than_replicas_are_not_used() {
    let alone = MariaDb::start();
    let primary = MariaDb::start_primary();
    let replica = primary.start_replica(1);
    let error = try_open(&alone, "ledgers", &[&replica]).unwrap_err();
    assert!(!error.passes() && error.to_string().contains("log_bin"), "{error}");
    let url = primary.url("x");
    let error =
        mariadb::open_or_make(&url, "ledgers", &["mysql://u:secret@h:99999"]).unwrap_err().to_string();
    assert!(error.contains("the URL of a replica") && !error.contains("secret"), "{error}");

    // Another shop's servers: the same names of databases, and higher numbers in the same domain.
    let other = MariaDb::start_primary();
    let others = other.start_replica(2);
    let elsewhere = open(&other, "ledgers", &[]);
    let sql = open(&primary, "ledgers", &[&others]);
    let writable = primary.start_replica(3);
    writable.execute("SET GLOBAL read_only = 0");
    let itself = open(&primary, "ledgers", &[&writable, &primary]);
    runtime().block_on(async {
        for sql in [&sql, &elsewhere] {
            sql.migrate(LEDGER).await.unwrap();
        }
        for number in 1..200 {
            insert(&elsewhere, number).await.unwrap();
        }
        insert(&sql, 1).await.unwrap();
        let began = Instant::now();
        // Both have copied all: they are not used for what they are.
        let rows = |of: &MariaDb| of.execute("SELECT COUNT(*) FROM ledgers.ledger");
        while rows(&others) != "199" || rows(&writable) != "1" {
            assert!(began.elapsed() < PATIENCE, "{} {}", rows(&others), rows(&writable));
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            assert_eq!(count(&sql).await, Ok(1));
            assert_eq!(count(&itself).await, Ok(1));
        }
        for sql in [&sql, &itself] {
            let all = reads(sql);
            assert_eq!((all.by_replicas, all.replicas_in_use), (0, 0), "{all:?}");
        }
        // It leaves a table out, and says so.
        writable.execute("SET GLOBAL read_only = 1; STOP SLAVE; SET GLOBAL replicate_ignore_table = 'ledgers.ledger'; START SLAVE");
        insert(&itself, 2).await.unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            assert_eq!(count(&itself).await, Ok(2));
        }
        assert_eq!(reads(&itself).by_replicas, 0);
        // It is put right, and found to be so.
        writable.execute("STOP SLAVE; SET GLOBAL replicate_ignore_table = ''; START SLAVE");
        writable.execute("INSERT INTO ledgers.ledger (number, body) VALUES (2, 'x')");
        until_a_replica_answers(&itself).await;
        assert_eq!(count(&itself).await, Ok(2));
    });
}

/// Shoppers who write and look at once, while the replicas stand still, freeze and are killed.
#[test]
fn each_writer_reads_what_it_has_written_whatever_becomes_of_the_replicas() {
    let primary = MariaDb::start_primary();
    let (mut first, second) = (primary.start_replica(1), primary.start_replica(2));
    let sql = open(&primary, "ledgers", &[&first, &second]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        until_a_replica_answers(&sql).await;
    });
    let writers: Vec<_> = (0..8u64)
        .map(|writer| {
            let (sql, is_over) = (sql.clone(), Arc::clone(&is_over));
            runtime.spawn(async move {
                let mut written = 0;
                while !is_over.load(Relaxed) {
                    written += 1;
                    let number = writer * 1_000_000 + written;
                    insert(&sql, number).await.unwrap();
                    let text = "SELECT COUNT(*) FROM ledger WHERE number BETWEEN ? AND ?";
                    let (from, to) = (writer * 1_000_000, number);
                    let look = move |tx: &mut engines::sql::Tx<'_>| {
                        tx.query_first(text, params![from, to], |row| row.count(0))
                    };
                    assert_eq!(sql.read(look).await, Ok::<_, SqlError>(Some(written)), "writer {writer}");
                }
                written
            })
        })
        .collect();
    for round in 0..3 {
        sleep(Duration::from_millis(700));
        second.execute("STOP SLAVE SQL_THREAD");
        sleep(Duration::from_millis(700));
        match round {
            1 => first.freeze(true),
            _ => first.kill(),
        }
        sleep(Duration::from_millis(700));
        second.execute("START SLAVE SQL_THREAD");
        match round {
            1 => first.freeze(false),
            _ => first.restart(),
        }
    }
    sleep(Duration::from_secs(1));
    is_over.store(true, Relaxed);
    let written: u64 = writers.into_iter().map(|of| runtime.block_on(of).unwrap()).sum();
    let all = reads(&sql);
    assert!(written > 0 && all.by_replicas > 0 && all.late + all.failed > 0, "{written} {all:?}");
    runtime.block_on(until_a_replica_answers(&sql));
}
