//! How an account is deleted. One transaction takes the account, its sessions, links and addresses
//! away, and writes down that the other contexts are to erase what they have; from then on the
//! address is free. A task asks them until all have said that nothing is left, and then forgets
//! the deletion itself. Each of them may be asked again, so a crash between any two steps is safe.

use crate::{
    events::{self, Change},
    letters::{self, Kind},
    service::{Service, of_sql, random},
    store,
};
use contracts::store::{AccountId, Deleted, OwnPassword, StoreError};
use engines::{
    params,
    sql::{SqlError, Tx},
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use units::{DurationMs, TimeMs};
use web::warning::Warning;

/// Deletions that are looked at at once.
const READ_MAX: usize = 20;
/// How often it is looked for deletions, if nothing tells of one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a context may take to answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The first pause before the contexts are asked again, and the longest one.
const PAUSE_MIN: DurationMs = DurationMs(2_000);
const PAUSE_MAX: DurationMs = DurationMs(600_000);

/// How long after the beginning the contexts are asked for the last time: what a request of a
/// session that has just ended wrote is erased too.
const LAST_LOOK_AFTER: DurationMs = DurationMs(600_000);

/// A deletion that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfinished {
    account: AccountId,
    asked_at: TimeMs,
    tries: u64,
}

/// The account goes; what is left is that others are to erase what they have. `false` if there is
/// no such account with this hash of a password.
fn begin(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (account, password): (AccountId, &str),
    letter: (contracts::store::Language, [u8; 16]),
) -> Result<bool, SqlError> {
    let Some((email, _)) = store::locked_with(tx, account, password)? else { return Ok(false) };
    let id = account.to_bytes();
    remove_rows(tx, account)?;
    // A letter with a link would find no account any more.
    tx.execute("DELETE FROM letters WHERE email = ?", params![&email])?;
    tx.execute("DELETE FROM accounts WHERE id = ?", params![&id])?;
    events::put(tx, now, account, Change::Deleted)?;
    put(tx, now, account)?;
    let (language, id) = letter;
    letters::put(tx, now, &letters::New { id, kind: Kind::Deleted, email: &email, language })?;
    Ok(true)
}

/// Other contexts are to erase what they have.
pub(crate) fn put(tx: &mut Tx<'_>, now: TimeMs, shopper: AccountId) -> Result<(), SqlError> {
    let text = "INSERT INTO deletions (account, asked_at, due_at, tries) VALUES (?, ?, ?, 0)";
    tx.insert_new(text, params![&shopper.to_bytes(), now.0, now.0]).map(drop)
}

fn remove_rows(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    for table in ["addresses", "reset_links", "sessions", "connected_log_ins", "connections_begun"] {
        tx.execute(&format!("DELETE FROM {table} WHERE account = ?"), params![&account.to_bytes()])?;
    }
    Ok(())
}

fn due(tx: &mut Tx<'_>, now: TimeMs) -> Result<Vec<Unfinished>, SqlError> {
    let text =
        "SELECT account, asked_at, tries FROM deletions WHERE due_at <= ? ORDER BY due_at, account LIMIT ?";
    tx.query(text, params![now.0, READ_MAX], |row| {
        let account = AccountId::from_bytes(row.array(0)?);
        Ok(Unfinished { account, asked_at: TimeMs(row.count(1)?), tries: row.count(2)? })
    })
}

/// Also what a request wrote that was under way when the account went.
fn finish(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    remove_rows(tx, account)?;
    tx.execute("DELETE FROM deletions WHERE account = ?", params![&account.to_bytes()]).map(drop)
}

fn postpone(tx: &mut Tx<'_>, now: TimeMs, of: Unfinished) -> Result<(), SqlError> {
    let pause = PAUSE_MIN.0.saturating_mul(1 << of.tries.min(20)).min(PAUSE_MAX.0);
    let text = "UPDATE deletions SET due_at = ?, tries = ? WHERE account = ?";
    let id = of.account.to_bytes();
    tx.execute(text, params![now.plus(DurationMs(pause)).0, of.tries + 1, &id]).map(drop)
}

impl Service {
    pub(crate) async fn delete_one(&self, own: OwnPassword) -> Result<Deleted, StoreError> {
        let (account, language) = (own.account, own.language);
        let Some(checked) = self.checked(own).await? else { return Ok(Deleted::WrongPassword) };
        for context in &self.holds {
            if let Some(open) = context.in_the_way(account).await? {
                return Ok(Deleted::Not(open));
            }
        }
        let (now, letter) = (self.clock.now(), random()?);
        self.letter_limits.take_change(checked.key, now)?;
        let begun =
            self.sql.write(move |tx| begin(tx, now, (account, &checked.hash), (language, letter))).await;
        if !begun.map_err(|error| of_sql(&error))? {
            return Ok(Deleted::WrongPassword);
        }
        self.written.notify_one();
        self.deleting.notify_one();
        Ok(Deleted::Yes)
    }

    pub(crate) async fn finish_deletions(self: Arc<Self>) {
        let mut warning = Warning::default();
        loop {
            let is_more = match self.erase_due().await {
                Ok(is_more) => is_more,
                Err(error) => {
                    if let Some(count) = warning.due() {
                        tracing::warn!(%error, count, "accounts that are deleted cannot be read or settled now");
                    }
                    false
                }
            };
            if !is_more {
                let _ = tokio::time::timeout(LOOK_EVERY, self.deleting.notified()).await;
            }
        }
    }

    /// Returns whether more may be due at once.
    pub(crate) async fn erase_due(&self) -> Result<bool, SqlError> {
        let now = self.clock.now();
        let due = self.sql.primary().read(move |tx| due(tx, now)).await?;
        let is_more = due.len() == READ_MAX;
        for of in due {
            let account = of.account;
            let is_last = now.since(of.asked_at) >= LAST_LOOK_AFTER;
            match self.erased_everywhere(account).await && is_last {
                true => self.sql.write(move |tx| finish(tx, account)).await?,
                false => self.sql.write(move |tx| postpone(tx, now, of)).await?,
            }
        }
        Ok(is_more)
    }

    /// Asks all contexts, also those after one that has more to do.
    async fn erased_everywhere(&self, account: AccountId) -> bool {
        let mut is_all = true;
        for context in &self.holds {
            is_all &= match tokio::time::timeout(ANSWER_MAX, context.erase(account)).await {
                Ok(Ok(is_done)) => is_done,
                Ok(Err(error)) => {
                    let mut warning = self.not_erased.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(count) = warning.due() {
                        tracing::warn!(%account, %error, count, "a deleted account is not erased everywhere yet");
                    }
                    false
                }
                Err(_) => false,
            };
        }
        is_all
    }
}
