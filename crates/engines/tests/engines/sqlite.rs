//! The SQL port on SQLite, over real files.

use crate::real_shortages::{again_on_a_small_disk, inside};
use engines::{
    params,
    sql::{Migration, Sql, SqlError, conformance},
    sqlite,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const COUNTERS: &[Migration] = &[Migration {
    name: "a ledger",
    statements: &["CREATE TABLE ledger (number BIGINT PRIMARY KEY, body MEDIUMTEXT NOT NULL)"],
}];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn insert(sql: &Sql, number: u64, body: String) -> impl Future<Output = Result<u64, SqlError>> + use<> {
    let sql = sql.clone();
    async move {
        sql.write(move |tx| {
            tx.execute("INSERT INTO ledger (number, body) VALUES (?, ?)", params![number, &body])
        })
        .await
    }
}

async fn numbers(sql: &Sql) -> Result<Vec<u64>, SqlError> {
    sql.read(|tx| tx.query("SELECT number FROM ledger ORDER BY number", &[], |row| row.count(0))).await
}

#[test]
fn sqlite_keeps_every_promise_of_the_port() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    runtime().block_on(conformance::check(&mut || {
        count += 1;
        let path = dir.path().join(format!("{count}.db"));
        Box::pin(async move { sqlite::open(&path).unwrap() })
    }));
}

#[test]
fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let sql = sqlite::open(&dir.path().join("a.db")).unwrap();
    runtime().block_on(sql.migrate(COUNTERS)).unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn transactions_that_wait_together_are_synced_together() {
    let dir = tempfile::tempdir().unwrap();
    let sql = sqlite::open(&dir.path().join("a.db")).unwrap();
    runtime().block_on(async {
        sql.migrate(COUNTERS).await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        (0..1000).for_each(|number| drop(all.spawn(insert(&sql, number, "x".into()))));
        all.join_all().await.into_iter().for_each(|done| assert_eq!(done, Ok(1)));
        // As many again are more than may wait.
        let mut all = tokio::task::JoinSet::new();
        (1000..9000).for_each(|number| drop(all.spawn(insert(&sql, number, "x".into()))));
        let ended = all.join_all().await;
        let refused = ended.iter().filter(|done| **done == Err(SqlError::Busy)).count();
        assert!(refused > 0 && ended.iter().all(|done| matches!(done, Ok(1) | Err(SqlError::Busy))));
        assert_eq!(numbers(&sql).await.unwrap().len(), 9000 - refused);
    });
}

#[test]
fn a_statement_without_end_is_stopped_and_the_next_one_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let sql = sqlite::open(&dir.path().join("a.db")).unwrap();
    runtime().block_on(async {
        sql.migrate(COUNTERS).await.unwrap();
        let began = Instant::now();
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";
        let stopped = sql.read(move |tx| tx.query(endless, &[], |row| row.int(0))).await;
        assert_eq!(stopped, Err(SqlError::TooLong));
        let stopped = sql.write(move |tx| {
            tx.execute("INSERT INTO ledger (number, body) VALUES (1, 'a')", &[])?;
            tx.query(endless, &[], |row| row.int(0))
        });
        assert_eq!(stopped.await, Err(SqlError::TooLong));
        assert!(began.elapsed() < Duration::from_secs(40));
        assert_eq!(numbers(&sql).await, Ok(vec![]));
        assert_eq!(insert(&sql, 2, "b".into()).await, Ok(1));
    });
}

/// Writes one after the other, and says so after each, until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var("FLOODGATE_TEST_DATABASE") else { return };
    let sql = sqlite::open(Path::new(&path)).unwrap();
    runtime().block_on(async {
        sql.migrate(COUNTERS).await.unwrap();
        let first = numbers(&sql).await.unwrap().last().map_or(0, |last| last + 1);
        for number in first.. {
            insert(&sql, number, "x".repeat(1 + (number as usize * 37) % 3000)).await.unwrap();
            writeln!(std::io::stdout(), "wrote {number}").unwrap();
        }
    });
}

#[test]
fn what_was_said_to_be_written_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut said = None;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::child_that_writes_until_it_is_killed", "--nocapture"])
            .env("FLOODGATE_TEST_DATABASE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = 0;
        while read < 50 + round * 20 {
            let line = lines.next().expect("it writes on").unwrap();
            let Some((_, number)) = line.split_once("wrote ") else { continue };
            said = Some(number.parse::<u64>().unwrap());
            read += 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let sql = sqlite::open(&path).unwrap();
        let found = runtime().block_on(numbers(&sql)).unwrap();
        let count = found.len() as u64;
        assert_eq!(found, (0..count).collect::<Vec<_>>(), "there is a gap");
        assert!(count > said.unwrap(), "{said:?} was said to be written, {count} are there");
    }
}

#[test]
fn a_full_disk_is_waited_out() {
    let Some(disk) = inside() else { return again_on_a_small_disk("sqlite::a_full_disk_is_waited_out") };
    let sql = sqlite::open(&disk.join("a.db")).unwrap();
    let ballast = disk.join("ballast");
    runtime().block_on(async {
        sql.migrate(COUNTERS).await.unwrap();
        insert(&sql, 0, "first".into()).await.unwrap();
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        let mut refused = 0;
        for number in 1..50 {
            match insert(&sql, number, "x".repeat(8192)).await {
                Err(error) => {
                    assert!(matches!(error, SqlError::Shortage(_)), "{error:?}");
                    refused += 1;
                }
                Ok(_) => assert_eq!(refused, 0, "there is room all of a sudden"),
            }
        }
        assert!(refused > 0);
        let before = numbers(&sql).await.unwrap();
        fs::remove_file(&ballast).unwrap();
        assert_eq!(insert(&sql, 100, "x".repeat(8192)).await, Ok(1));
        let after = numbers(&sql).await.unwrap();
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(after.first(), Some(&0));
    });
}

#[test]
fn a_file_that_is_no_database_or_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    fs::write(&path, "this is a text, and longer than the first page's head of a hundred bytes".repeat(10))
        .unwrap();
    let error = sqlite::open(&path).unwrap_err();
    assert!(matches!(&error, SqlError::Schema(why) if why.contains("a.db")), "{error:?}");
    fs::remove_file(&path).unwrap();
    runtime().block_on(async {
        let sql = sqlite::open(&path).unwrap();
        sql.migrate(COUNTERS).await.unwrap();
        for number in 0..100 {
            insert(&sql, number, "x".repeat(3000)).await.unwrap();
        }
    });
    // The last connection that is closed moves all into the file.
    let began = Instant::now();
    while dir.path().join("a.db-wal").exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not closed");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Every page but the first.
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() > 100_000, "{} bytes", bytes.len());
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0xa5; bytes.len() - 4096]).unwrap();
    let sql = sqlite::open(&path).unwrap();
    let read = runtime().block_on(numbers(&sql));
    assert!(matches!(read, Err(SqlError::Schema(_))), "{read:?}");
}

/// As `.cargo/config.toml` asks for it: threads of different databases wait for no common lock.
#[test]
fn it_does_not_count_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let sql = sqlite::open(&dir.path().join("any.db")).unwrap();
    let options =
        runtime().block_on(sql.read(|tx| tx.query("PRAGMA compile_options", &[], |row| row.text(0))));
    let options = options.unwrap();
    assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
}
