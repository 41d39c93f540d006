//! The outbox: events that are written in the transaction that caused them, and told to others
//! afterwards, at least once. It does not know to whom.

use super::{Sql, SqlError, Tx};
use crate::{params, row};
use std::{convert::Infallible, fmt, time::Duration};
use tokio::sync::Notify;

/// The statement that makes the table.
pub const TABLE: &str = "CREATE TABLE outbox (number {serial}, body MEDIUMTEXT NOT NULL)";

/// Events of one database that are told at once, and their bytes.
const TOLD_MAX: usize = 500;
const TOLD_BYTES_MAX: usize = 1 << 20;
/// How often it is looked for events, if nothing tells of one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Puts an event into the outbox.
pub fn put(tx: &mut Tx<'_>, event: &str) -> Result<(), SqlError> {
    tx.execute("INSERT INTO outbox (body) VALUES (?)", params![event])?;
    Ok(())
}

/// Puts events into the outbox, in their order.
pub fn put_all(tx: &mut Tx<'_>, events: &[String]) -> Result<(), SqlError> {
    let rows: Vec<_> = events.iter().map(|event| row![event]).collect();
    tx.insert_all("INSERT INTO outbox (body)", &rows)
}

/// Events that are to be told, oldest first, with their numbers.
fn oldest(tx: &mut Tx<'_>) -> Result<Vec<(u64, String)>, SqlError> {
    tx.query("SELECT number, body FROM outbox ORDER BY number LIMIT ?", params![TOLD_MAX], |row| {
        Ok((row.count(0)?, row.text(1)?))
    })
}

fn remove(tx: &mut Tx<'_>, numbers: &[u64]) -> Result<(), SqlError> {
    for number in numbers {
        tx.execute("DELETE FROM outbox WHERE number = ?", params![*number])?;
    }
    Ok(())
}

/// Why events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTold<E> {
    /// They cannot be read, or it cannot be written that they were told.
    Sql(SqlError),
    /// They were not taken.
    Post(E),
}

impl<E: fmt::Display> fmt::Display for NotTold<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Post(error) => error.fmt(f),
        }
    }
}

/// Hands the events of these databases to `post`, those of each in their order, for ever. What was
/// handed over when the process ended, and not yet removed, is handed over again. `written` says
/// that there may be new ones; `failed` is called each time that events have to wait.
pub async fn tell<E, F>(
    databases: &[Sql],
    written: &Notify,
    post: impl Fn(Vec<String>) -> F,
    mut failed: impl FnMut(NotTold<E>),
) -> Infallible
where
    F: Future<Output = Result<(), E>>,
{
    loop {
        let mut is_more = false;
        for sql in databases {
            match tell_some(sql, &post).await {
                Ok(more) => is_more |= more,
                Err(why) => failed(why),
            }
        }
        if !is_more {
            let _ = tokio::time::timeout(LOOK_EVERY, written.notified()).await;
        }
    }
}

/// Returns whether there may be more.
async fn tell_some<E, F>(sql: &Sql, post: &impl Fn(Vec<String>) -> F) -> Result<bool, NotTold<E>>
where
    F: Future<Output = Result<(), E>>,
{
    // A replica may not know yet what another process has told and removed: it would be told twice.
    let mut found = sql.primary().read(oldest).await.map_err(NotTold::Sql)?;
    let mut is_more = found.len() == TOLD_MAX;
    let mut bytes = 0;
    let fits = found.iter().take_while(|(_, event)| {
        bytes += event.len();
        bytes <= TOLD_BYTES_MAX
    });
    // One that is larger than that goes alone.
    let count = fits.count().max(1);
    if count < found.len() {
        found.truncate(count);
        is_more = true;
    }
    let (numbers, events): (Vec<u64>, Vec<String>) = found.into_iter().unzip();
    if !events.is_empty() {
        post(events).await.map_err(NotTold::Post)?;
        sql.write(move |tx| remove(tx, &numbers)).await.map_err(NotTold::Sql)?;
    }
    Ok(is_more)
}
