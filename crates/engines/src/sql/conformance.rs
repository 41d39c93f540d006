//! What every engine of the SQL port must do. `fresh` opens a new, empty database each time.

use super::{
    Migration, Sql, SqlError, Tx,
    outbox::{self, NotTold},
    together::{Bounds, Together},
};
use crate::{params, row};
use std::{
    future::ready,
    slice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet};

const MIGRATIONS: &[Migration] = &[Migration {
    name: "things and a list",
    statements: &[
        "CREATE TABLE things (id BINARY(16) PRIMARY KEY, name VARCHAR(64) NOT NULL, amount BIGINT NOT NULL, note MEDIUMTEXT)",
        "CREATE UNIQUE INDEX things_by_name ON things (name)",
        "CREATE TABLE list (number {serial}, body MEDIUMBLOB NOT NULL)",
    ],
}];

const OUTBOX: &[Migration] = &[Migration { name: "the outbox", statements: &[outbox::TABLE] }];

const LATER: &[Migration] = &[
    MIGRATIONS[0],
    Migration { name: "a column", statements: &["ALTER TABLE things ADD COLUMN more BIGINT"] },
];

const EDITED: &[Migration] =
    &[Migration { name: "things and a list", statements: &["CREATE TABLE things (id BIGINT)"] }];

type Opened<'a> = std::pin::Pin<Box<dyn Future<Output = Sql> + 'a>>;

/// Runs the whole suite.
///
/// # Panics
/// At the first promise that the engine breaks.
pub async fn check(fresh: &mut dyn FnMut() -> Opened<'static>) {
    what_was_written_is_read_as_it_was(&fresh().await).await;
    texts_are_compared_byte_for_byte(&fresh().await).await;
    a_refused_transaction_leaves_nothing(&fresh().await).await;
    one_transaction_sees_one_state(&fresh().await).await;
    a_read_may_ask_for_rows_that_others_lock(&fresh().await).await;
    what_two_look_at_together_is_changed_after_both(&fresh().await).await;
    the_last_unit_is_taken_once(&fresh().await).await;
    tables_are_made_once_and_only_by_versions_that_know_them(&fresh().await).await;
    a_panic_leaves_nothing_and_the_next_one_is_served(&fresh().await).await;
    serials_are_counted_up(&fresh().await).await;
    many_rows_are_inserted_without_those_that_are_there(&fresh().await).await;
    requests_that_wait_together_are_one_transaction(&fresh().await).await;
    a_request_that_cannot_be_carried_out_fails_for_itself(&fresh().await).await;
    events_are_told_in_their_order_until_they_are_taken(&fresh().await).await;
}

/// Functions that read rows to change them are used by those that only look, too.
async fn a_read_may_ask_for_rows_that_others_lock(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "one", 1, None)).await.expect("it is stored");
    let text = "SELECT amount FROM things WHERE name = ?";
    let read = sql.read(move |tx| tx.query_locked(text, params!["one"], |row| row.int(0)));
    assert_eq!(read.await, Ok(vec![1]));
}

/// Some transactions look at a row and count up another one, while one changes what they look at:
/// none of them is stored after the change with what it saw before.
async fn what_two_look_at_together_is_changed_after_both(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "door", 1, None)).await.expect("it is stored");
    sql.write(|tx| put(tx, 2, "after the door", 0, None)).await.expect("it is stored");
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let sql = sql.clone();
        all.spawn(async move {
            loop {
                let entered = sql.write(|tx| {
                    let text = "SELECT amount FROM things WHERE name = ?";
                    let open = tx.query_shared(text, params!["door"], |row| row.int(0))?;
                    if open != [1] {
                        return Ok(false);
                    }
                    let text = "UPDATE things SET amount = amount + 1 WHERE name = ?";
                    tx.execute(text, params!["after the door"])?;
                    Ok::<_, SqlError>(true)
                });
                if !entered.await.expect("it is stored") {
                    return;
                }
            }
        });
    }
    while sql.read(|tx| amount(tx, "after the door")).await.expect("it is read") < Some(20) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let shut = "UPDATE things SET amount = 0 WHERE name = 'door'";
    sql.write(move |tx| tx.execute(shut, &[])).await.expect("it is stored");
    let at_the_end = sql.read(|tx| amount(tx, "after the door")).await;
    while all.join_next().await.is_some() {}
    assert_eq!(sql.read(|tx| amount(tx, "after the door")).await, at_the_end);
}

async fn with_tables(sql: &Sql) {
    sql.migrate(MIGRATIONS).await.expect("tables are made");
}

fn put(tx: &mut Tx<'_>, id: u8, name: &str, amount: i64, note: Option<&str>) -> Result<u64, SqlError> {
    tx.execute(
        "INSERT INTO things (id, name, amount, note) VALUES (?, ?, ?, ?)",
        params![&[id; 16], name, amount, note],
    )
}

fn amount(tx: &mut Tx<'_>, name: &str) -> Result<Option<i64>, SqlError> {
    tx.query_first("SELECT amount FROM things WHERE name = ?", params![name], |row| row.int(0))
}

async fn what_was_written_is_read_as_it_was(sql: &Sql) {
    with_tables(sql).await;
    let texts = ["", "Phone", "手机 📱", "a'b\"c\\d\0e%_", &"长".repeat(60)];
    for (at, text) in texts.into_iter().enumerate() {
        let note = text.repeat(100);
        let row = (at as u8, text.to_owned(), i64::MIN + at as i64, note.clone());
        let written = row.clone();
        let put_one = move |tx: &mut Tx<'_>| put(tx, written.0, &written.1, written.2, Some(&written.3));
        assert_eq!(sql.write(put_one).await, Ok(1), "{text:?}");
        let read = sql.read(move |tx| {
            tx.query(
                "SELECT id, name, amount, note FROM things WHERE id = ?",
                params![&[at as u8; 16]],
                |row| Ok((row.array::<16>(0)?[0], row.text(1)?, row.int(2)?, row.text(3)?)),
            )
        });
        assert_eq!(read.await, Ok(vec![row]));
    }
    // The bytes of a blob are not a text.
    let blob: Vec<u8> = (0..=255).collect();
    let bytes = blob.clone();
    sql.write(move |tx| tx.insert_serial("INSERT INTO list (body) VALUES (?)", params![&bytes]))
        .await
        .unwrap();
    let read = sql.read(|tx| tx.query("SELECT body FROM list", &[], |row| row.bytes(0))).await;
    assert_eq!(read, Ok(vec![blob]));
    let read = sql.read(|tx| tx.query("SELECT body FROM list", &[], |row| row.text(0))).await;
    assert!(matches!(read, Err(SqlError::Schema(_))), "{read:?}");
    // NULL is told from everything else.
    sql.write(|tx| put(tx, 99, "none", 0, None)).await.unwrap();
    let note = |tx: &mut Tx<'_>| {
        tx.query_first("SELECT note FROM things WHERE name = 'none'", &[], |row| row.maybe_text(0))
    };
    assert_eq!(sql.read(note).await, Ok(Some(None)));
    // What is changed is counted, also if it is changed to what it was.
    let same = sql.write(|tx| tx.execute("UPDATE things SET amount = 0 WHERE name = 'none'", &[])).await;
    assert_eq!(same, Ok(1));
}

async fn texts_are_compared_byte_for_byte(sql: &Sql) {
    with_tables(sql).await;
    let names = ["phone", "Phone", "phone ", "phône", "ﬁ", "fi"];
    for (at, name) in names.into_iter().enumerate() {
        assert_eq!(sql.write(move |tx| put(tx, at as u8, name, at as i64, None)).await, Ok(1), "{name:?}");
    }
    for (at, name) in names.into_iter().enumerate() {
        assert_eq!(sql.read(move |tx| amount(tx, name)).await, Ok(Some(at as i64)), "{name:?}");
    }
    assert_eq!(sql.read(|tx| amount(tx, "PHONE")).await, Ok(None));
}

#[derive(Debug, PartialEq)]
enum Refused {
    SoldOut,
    Sql(SqlError),
}

impl From<SqlError> for Refused {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

async fn a_refused_transaction_leaves_nothing(sql: &Sql) {
    with_tables(sql).await;
    let refused = sql.write(|tx| {
        put(tx, 1, "phone", 1, None)?;
        Err::<(), Refused>(Refused::SoldOut)
    });
    assert_eq!(refused.await, Err(Refused::SoldOut));
    assert_eq!(sql.read(|tx| amount(tx, "phone")).await, Ok(None));
    // A key that is there is told from other errors, and the transaction may go on.
    sql.write(|tx| put(tx, 1, "phone", 1, None)).await.unwrap();
    let again = sql.write(|tx| {
        let text = "INSERT INTO things (id, name, amount) VALUES (?, ?, ?)";
        let by_name = tx.insert_new(text, params![&[2; 16], "phone", 2i64])?;
        let by_id = tx.insert_new(text, params![&[1; 16], "earbuds", 2i64])?;
        let new = tx.insert_new(text, params![&[3; 16], "earbuds", 3i64])?;
        Ok::<_, SqlError>((by_name, by_id, new))
    });
    assert_eq!(again.await, Ok((false, false, true)));
    let wrong = sql.write(|tx| put(tx, 4, "phone", 4, None)).await;
    assert!(matches!(wrong, Err(SqlError::Duplicate(_))), "{wrong:?}");
    // A wrong statement is a defect, not a shortage that would be waited for.
    let wrong = sql.write(|tx| tx.execute("INSERT INTO nothing (id) VALUES (1)", &[])).await;
    assert!(matches!(wrong, Err(SqlError::Defect(_))), "{wrong:?}");
    assert!(!wrong.unwrap_err().passes());
    assert_eq!(sql.read(|tx| amount(tx, "earbuds")).await, Ok(Some(3)));
}

async fn one_transaction_sees_one_state(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| {
        put(tx, 1, "from", 100, None)?;
        put(tx, 2, "to", 0, None)
    })
    .await
    .unwrap();
    let mut moves = JoinSet::new();
    for _ in 0..50 {
        let (writer, reader) = (sql.clone(), sql.clone());
        moves.spawn(async move {
            writer
                .write(|tx| {
                    tx.execute("UPDATE things SET amount = amount - 1 WHERE name = 'from'", &[])?;
                    tx.execute("UPDATE things SET amount = amount + 1 WHERE name = 'to'", &[])
                })
                .await
                .unwrap();
        });
        moves.spawn(async move {
            let sum = reader
                .read(|tx| Ok::<_, SqlError>(amount(tx, "from")?.unwrap() + amount(tx, "to")?.unwrap()));
            assert_eq!(sum.await, Ok(100));
        });
    }
    moves.join_all().await;
    assert_eq!(sql.read(|tx| amount(tx, "to")).await, Ok(Some(50)));
}

/// 64 clients, each of which reads what is left and then takes one.
async fn the_last_unit_is_taken_once(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "phone", 10, None)).await.unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        let sql = sql.clone();
        clients.spawn(async move {
            loop {
                let taken = sql.write(|tx| {
                    let left =
                        tx.query_locked("SELECT amount FROM things WHERE name = 'phone'", &[], |row| {
                            row.int(0)
                        })?;
                    if left == [0] {
                        return Err(Refused::SoldOut);
                    }
                    tx.execute("UPDATE things SET amount = ? WHERE name = 'phone'", params![left[0] - 1])?;
                    Ok(())
                });
                match taken.await {
                    Ok(()) => return true,
                    Err(Refused::SoldOut) => return false,
                    Err(Refused::Sql(error)) => assert!(error.passes(), "{error}"),
                }
            }
        });
    }
    let taken = clients.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 10);
    assert_eq!(sql.read(|tx| amount(tx, "phone")).await, Ok(Some(0)));
}

async fn tables_are_made_once_and_only_by_versions_that_know_them(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "phone", 1, None)).await.unwrap();
    with_tables(sql).await;
    assert_eq!(sql.migrate(LATER).await, Ok(()));
    let added = sql.read(|tx| tx.query("SELECT more FROM things", &[], |row| row.maybe_int(0)));
    assert_eq!(added.await, Ok(vec![None]));
    let older = sql.migrate(MIGRATIONS).await;
    assert!(matches!(&older, Err(SqlError::Schema(why)) if why.contains("newer version")), "{older:?}");
    let edited = sql.migrate(EDITED).await;
    assert!(matches!(edited, Err(SqlError::Schema(_))), "{edited:?}");
}

async fn a_panic_leaves_nothing_and_the_next_one_is_served(sql: &Sql) {
    with_tables(sql).await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let panicked = sql.write(move |tx| {
        put(tx, 1, "phone", 1, None)?;
        assert!(counted.fetch_add(1, Relaxed) > 9, "on purpose: a transaction that panics");
        Ok::<_, SqlError>(())
    });
    assert!(matches!(panicked.await, Err(SqlError::Defect(_))));
    assert_eq!(calls.load(Relaxed), 1);
    assert_eq!(sql.read(|tx| amount(tx, "phone")).await, Ok(None));
    assert_eq!(sql.write(|tx| put(tx, 1, "phone", 1, None)).await, Ok(1));
}

async fn serials_are_counted_up(sql: &Sql) {
    with_tables(sql).await;
    let mut last = 0;
    for _ in 0..3 {
        let insert =
            |tx: &mut Tx<'_>| tx.insert_serial("INSERT INTO list (body) VALUES (?)", params![&b"x"[..]]);
        let number = sql.write(insert).await.unwrap();
        assert!(number > last);
        last = number;
        // A number is not given twice, also after its row is gone.
        sql.write(move |tx| tx.execute("DELETE FROM list WHERE number = ?", params![number])).await.unwrap();
    }
}

async fn many_rows_are_inserted_without_those_that_are_there(sql: &Sql) {
    with_tables(sql).await;
    let ids: Vec<[u8; 16]> = (0..43u8).map(|id| [id; 16]).collect();
    let names: Vec<String> = (0..43).map(|id| format!("thing {id}")).collect();
    let all = move |tx: &mut Tx<'_>, of: &[usize]| {
        let rows = of.iter().map(|&id| row![&ids[id], &names[id], id, None::<&str>]);
        tx.insert_all_new("INSERT INTO things (id, name, amount, note)", &rows.collect::<Vec<_>>())
    };
    let of = all.clone();
    assert_eq!(sql.write(move |tx| of(tx, &[])).await, Ok(vec![]));
    let of = all.clone();
    assert_eq!(sql.write(move |tx| of(tx, &[3, 20, 42])).await, Ok(vec![true; 3]));
    let is_new = sql.write(move |tx| all(tx, &(0..43).collect::<Vec<_>>())).await;
    let want: Vec<bool> = (0..43).map(|id| ![3, 20, 42].contains(&id)).collect();
    assert_eq!(is_new, Ok(want));
    let count = sql.read(|tx| tx.query("SELECT COUNT(*) FROM things", &[], |row| row.int(0)));
    assert_eq!(count.await, Ok(vec![43]));
    let refused = sql.write(|tx| {
        let insert = "INSERT INTO things (id, name, amount, note)";
        let rows = [1u8, 50].map(|id| [id; 16]);
        tx.insert_all(insert, &rows.each_ref().map(|id| row![id, "new", 1u64, None::<&str>]))
    });
    assert!(matches!(refused.await, Err(SqlError::Duplicate(_))));
}

const ALL_TOGETHER: Bounds = Bounds { waiting_max: 64, waiting_weight_max: 2000, weight_max: 100 };

/// The requests of each transaction.
type Calls = Arc<Mutex<Vec<Vec<i64>>>>;

/// Counts up an amount by each request, and refuses those that are odd; one of 8 panics, and one of
/// 6 is a defect. Each transaction waits until so many requests were made.
fn adding(sql: &Sql, asked: &Arc<AtomicU32>, wait_for: u32) -> (Together<i64, i64, SqlError>, Calls) {
    let (calls, asked) = (Calls::default(), Arc::clone(asked));
    let noted = Arc::clone(&calls);
    let body = move |tx: &mut Tx<'_>, amounts: &[i64]| {
        noted.lock().expect("no panic").push(amounts.to_vec());
        for _ in 0..5000 {
            if asked.load(Relaxed) < wait_for {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(!amounts.contains(&8), "on purpose: a transaction that panics");
        let mut said = Vec::new();
        for amount in amounts {
            if amount % 2 == 1 {
                said.push(Err(SqlError::Contended));
                continue;
            }
            let text = "UPDATE things SET amount = amount + ? WHERE name = ?";
            tx.execute(text, params![*amount, "sum"])?;
            said.push(Ok(*amount));
        }
        if amounts.contains(&6) {
            tx.execute("UPDATE no_such_table SET amount = 1", &[])?;
        }
        Ok(said)
    };
    (Together::new(sql.clone(), ALL_TOGETHER, body), calls)
}

async fn ask_all(
    together: &Together<i64, i64, SqlError>,
    asked: &Arc<AtomicU32>,
    amounts: impl Iterator<Item = i64>,
) -> Vec<(i64, Result<i64, SqlError>)> {
    let mut all = JoinSet::new();
    for amount in amounts {
        let (together, asked) = (together.clone(), Arc::clone(asked));
        all.spawn(async move {
            asked.fetch_add(1, Relaxed);
            (amount, together.ask(amount, 1).await)
        });
    }
    all.join_all().await
}

async fn requests_that_wait_together_are_one_transaction(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "sum", 0, None)).await.expect("it is stored");
    let asked = Arc::default();
    let (together, calls) = adding(sql, &asked, 64);
    let amounts = (10..74).map(|amount| if amount % 3 == 0 { 2 * amount } else { amount });
    let want: i64 = amounts.clone().filter(|amount| amount % 2 == 0).sum();
    for (amount, said) in ask_all(&together, &asked, amounts).await {
        assert_eq!(said, if amount % 2 == 1 { Err(SqlError::Contended) } else { Ok(amount) });
    }
    assert_eq!(sql.read(|tx| amount(tx, "sum")).await, Ok(Some(want)));
    let count = calls.lock().expect("no panic").len();
    assert!(count <= 16, "64 requests, and {count} transactions");
    // One that comes alone is carried out, and so is one that is heavier than a transaction.
    assert_eq!(together.ask(2, 1).await, Ok(2));
    assert_eq!(together.ask(2, 1000).await, Ok(2));
    assert_eq!(together.load(), (0, 0), "nothing is left under way");
    // More than may wait are refused, and those that wait are carried out.
    let (asked, many) = (Arc::default(), 64 + 64 * 3 + 1);
    let (together, _) = adding(sql, &asked, many);
    let said = ask_all(&together, &asked, (0..many).map(|_| 2)).await;
    let busy = said.iter().filter(|(_, said)| *said == Err(SqlError::Busy)).count();
    assert!(busy > 0 && said.iter().all(|(_, said)| matches!(said, Ok(2) | Err(SqlError::Busy))), "{said:?}");
    let sum = want + 4 + 2 * (said.len() - busy) as i64;
    assert_eq!(sql.read(|tx| amount(tx, "sum")).await, Ok(Some(sum)));
    assert_eq!(together.load(), (0, 0), "nothing is left under way");
}

async fn a_request_that_cannot_be_carried_out_fails_for_itself(sql: &Sql) {
    with_tables(sql).await;
    sql.write(|tx| put(tx, 1, "sum", 0, None)).await.expect("it is stored");
    let asked = Arc::default();
    let (together, calls) = adding(sql, &asked, 20);
    // What comes first holds the places until the others wait.
    for (amount, said) in ask_all(&together, &asked, [10, 10, 10].into_iter().chain(0..17)).await {
        match amount {
            6 | 8 => assert!(matches!(said, Err(SqlError::Defect(_))), "{amount}: {said:?}"),
            _ if amount % 2 == 1 => assert_eq!(said, Err(SqlError::Contended)),
            _ => assert_eq!(said, Ok(amount)),
        }
    }
    let calls = calls.lock().expect("no panic").clone();
    assert!(calls.iter().any(|call| call.len() > 1 && call.contains(&8)), "{calls:?}");
    assert!(calls.contains(&vec![6]) && calls.contains(&vec![8]), "{calls:?}");
    assert_eq!(sql.read(|tx| amount(tx, "sum")).await, Ok(Some(30 + 72 - 14)));
    assert_eq!(together.load(), (0, 0), "nothing is left under way");
}

async fn events_are_told_in_their_order_until_they_are_taken(sql: &Sql) {
    sql.migrate(OUTBOX).await.expect("tables are made");
    // Two small ones go together, and of the large ones each alone.
    for (event, count) in [("a", 1), ("b", 1), ("c", 700 << 10), ("d", 700 << 10), ("e", 2 << 20)] {
        let event = event.repeat(count);
        sql.write(move |tx| outbox::put(tx, &event)).await.expect("an event is put");
    }
    let (asked, written) = (AtomicU32::new(0), Notify::new());
    let told = Mutex::new(Vec::new());
    let post = |events: Vec<String>| {
        if asked.fetch_add(1, Relaxed) < 2 {
            return ready(Err("away"));
        }
        let firsts: String = events.iter().map(|event| &event[..1]).collect();
        told.lock().expect("no panic").push(firsts);
        ready(Ok(()))
    };
    let failed = |why: NotTold<&str>| {
        assert_eq!(why, NotTold::Post("away"));
        written.notify_one();
    };
    let all = outbox::tell(slice::from_ref(sql), &written, post, failed);
    assert!(tokio::time::timeout(Duration::from_secs(3), all).await.is_err(), "it never ends");
    assert_eq!(*told.lock().expect("no panic"), ["abc", "d", "e"]);
    let left = sql.read(|tx| tx.query("SELECT number FROM outbox", &[], |row| row.count(0))).await;
    assert_eq!(left, Ok(vec![]));
}
