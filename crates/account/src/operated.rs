//! What operators do with an account, in tables: it is locked, and what was done is on a trail.

use contracts::store::{AccountId, Profile};
use engines::{
    params,
    sql::{Row, SqlError, Tx, trail},
};
use units::TimeMs;

pub(crate) const TABLES: &[&str] =
    &["ALTER TABLE accounts ADD COLUMN locked_at BIGINT", trail::TABLES[0], trail::TABLES[1]];

/// An account as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) profile: Profile,
    pub(crate) locked_at: Option<TimeMs>,
}

fn seen(row: &Row<'_>) -> Result<Seen, SqlError> {
    let profile = Profile {
        account: AccountId::from_bytes(row.array(0)?),
        email: row.text(1)?,
        name: row.text(2)?,
        created_at: TimeMs(row.count(3)?),
    };
    Ok(Seen { profile, locked_at: row.maybe_count(4)?.map(TimeMs) })
}

const FIND: &str = "SELECT id, email, name, created_at, locked_at FROM accounts WHERE id = ?";

pub(crate) fn find(tx: &mut Tx<'_>, account: AccountId) -> Result<Option<Seen>, SqlError> {
    tx.query_first(FIND, params![&account.to_bytes()], seen)
}

/// The same, which stays as it is until the transaction ends: no session begins meanwhile.
pub(crate) fn find_locked(tx: &mut Tx<'_>, account: AccountId) -> Result<Option<Seen>, SqlError> {
    Ok(tx.query_locked(FIND, params![&account.to_bytes()], seen)?.into_iter().next())
}

pub(crate) fn by_email(tx: &mut Tx<'_>, email: &str) -> Result<Option<Seen>, SqlError> {
    let text = "SELECT id, email, name, created_at, locked_at FROM accounts WHERE email = ?";
    tx.query_first(text, params![email], seen)
}

/// Newest first, before this one.
pub(crate) fn newest(
    tx: &mut Tx<'_>,
    before: Option<AccountId>,
    at_most: usize,
) -> Result<Vec<Seen>, SqlError> {
    let before = before.map_or([0xff; 16], AccountId::to_bytes);
    let text = "SELECT id, email, name, created_at, locked_at FROM accounts WHERE id < ? \
                ORDER BY id DESC LIMIT ?";
    tx.query(text, params![&before, at_most], seen)
}

pub(crate) fn set_lock(
    tx: &mut Tx<'_>,
    account: AccountId,
    locked_at: Option<TimeMs>,
) -> Result<(), SqlError> {
    let text = "UPDATE accounts SET locked_at = ? WHERE id = ?";
    tx.execute(text, params![locked_at.map(|at| at.0), &account.to_bytes()]).map(drop)
}
