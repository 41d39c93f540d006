//! The SQL port on a real MariaDB.

use engines::{
    mariadb, params,
    sql::{Migration, Sql, SqlError, conformance},
};
use server::MariaDb;
use std::sync::Arc;

mod replicas;
mod server;

const LEDGER: &[Migration] = &[Migration {
    name: "a ledger",
    statements: &["CREATE TABLE ledger (number BIGINT PRIMARY KEY, body MEDIUMTEXT NOT NULL)"],
}];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn numbers(sql: &Sql) -> Result<Vec<u64>, SqlError> {
    sql.read(|tx| tx.query("SELECT number FROM ledger ORDER BY number", &[], |row| row.count(0))).await
}

#[test]
fn mariadb_keeps_every_promise_of_the_port() {
    let server = Arc::new(MariaDb::start());
    let mut count = 0;
    runtime().block_on(conformance::check(&mut || {
        count += 1;
        let server = Arc::clone(&server);
        let open = move || mariadb::open_or_make(&server.url("x"), &format!("fresh{count}"), &[]).unwrap();
        Box::pin(async move { tokio::task::spawn_blocking(open).await.unwrap() })
    }));
}

#[test]
fn a_server_that_is_killed_is_waited_for_and_what_was_said_to_be_written_is_there() {
    let mut server = MariaDb::start();
    let runtime = runtime();
    let sql = mariadb::open_or_make(&server.url("x"), "ledgers", &[]).unwrap();
    runtime.block_on(sql.migrate(LEDGER)).unwrap();
    let (mut said, mut unknown, mut refused) = (Vec::new(), Vec::new(), 0);
    for number in 0..300u64 {
        if number % 100 == 60 {
            server.kill();
            let down = runtime.block_on(numbers(&sql));
            assert!(matches!(down, Err(SqlError::Shortage(_))), "{down:?}");
        }
        let body = "x".repeat(1 + (number as usize * 37) % 3000);
        let insert = sql.write(move |tx| {
            tx.execute("INSERT INTO ledger (number, body) VALUES (?, ?)", params![number, &body])
        });
        match runtime.block_on(insert) {
            Ok(_) => said.push(number),
            Err(SqlError::Unknown(_)) => unknown.push(number),
            Err(error) => {
                assert!(error.passes(), "{number}: {error:?}");
                refused += 1;
                if number % 100 == 65 {
                    server.restart();
                }
            }
        }
    }
    assert!(said.len() > 200 && refused > 0, "{} were written, {refused} refused", said.len());
    let found = runtime.block_on(numbers(&sql)).unwrap();
    let missing: Vec<_> = said.iter().filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "said to be written, and gone: {missing:?}");
    let invented: Vec<_> =
        found.iter().filter(|number| !said.contains(number) && !unknown.contains(number)).collect();
    assert!(invented.is_empty(), "refused, and there: {invented:?}");
}

#[test]
fn transactions_that_lock_each_other_out_are_run_again() {
    let server = MariaDb::start();
    let sql = mariadb::open_or_make(&server.url("x"), "locks", &[]).unwrap();
    runtime().block_on(async {
        sql.migrate(LEDGER).await.unwrap();
        for number in [1u64, 2] {
            let insert = move |tx: &mut engines::sql::Tx<'_>| {
                tx.execute("INSERT INTO ledger (number, body) VALUES (?, '0')", params![number])
            };
            sql.write(insert).await.unwrap();
        }
        let mut all = tokio::task::JoinSet::new();
        for client in 0..16u64 {
            let sql = sql.clone();
            // Half of them take the two rows in the one order, half in the other.
            let order = if client % 2 == 0 { [1u64, 2] } else { [2, 1] };
            all.spawn(async move {
                sql.write(move |tx| {
                    for number in order {
                        let text = "SELECT body FROM ledger WHERE number = ?";
                        let body = tx.query_locked(text, params![number], |row| row.text(0))?;
                        let next = (body[0].parse::<u64>().unwrap() + 1).to_string();
                        tx.execute("UPDATE ledger SET body = ? WHERE number = ?", params![&next, number])?;
                    }
                    Ok::<_, SqlError>(())
                })
                .await
            });
        }
        all.join_all().await.into_iter().for_each(|done| assert_eq!(done, Ok(())));
        let bodies = sql.read(|tx| tx.query("SELECT body FROM ledger", &[], |row| row.text(0))).await;
        assert_eq!(bodies, Ok(vec!["16".to_owned(), "16".to_owned()]));
    });
}

#[test]
fn a_url_that_cannot_be_read_does_not_say_its_password() {
    let error = mariadb::open("mysql://root:secret@127.0.0.1:port/x").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}
