//! Links that set a new password, in a table: the hash of each one's secret, whose account it is
//! for, and until when.

use contracts::store::AccountId;
use engines::{
    params,
    sql::{SqlError, Tx},
};
use units::{DurationMs, TimeMs};

/// How long a link is good, from when its letter is sent.
pub(crate) const GOOD_FOR: DurationMs = DurationMs(30 * 60_000);
/// Links of one account that are good at once; a further one takes the place of the oldest.
const OF_ACCOUNT_MAX: usize = 5;

pub(crate) fn put(tx: &mut Tx<'_>, now: TimeMs, account: AccountId, hash: &[u8; 32]) -> Result<(), SqlError> {
    // What is over goes, some at a time.
    let over = "SELECT hash FROM reset_links WHERE ends_at <= ? LIMIT 10";
    let over = tx.query(over, params![now.0], |row| row.array::<32>(0))?;
    let id = account.to_bytes();
    let known = "SELECT hash FROM reset_links WHERE account = ? ORDER BY ends_at DESC, hash LIMIT 100";
    let known = tx.query(known, params![&id], |row| row.array::<32>(0))?;
    for gone in over.iter().chain(known.iter().skip(OF_ACCOUNT_MAX - 1)) {
        tx.execute("DELETE FROM reset_links WHERE hash = ?", params![gone])?;
    }
    let text = "INSERT INTO reset_links (hash, account, ends_at) VALUES (?, ?, ?)";
    tx.execute(text, params![hash, &id, now.plus(GOOD_FOR).0])?;
    Ok(())
}

/// The link's letter is sent again: it is good from now on. Returns whether it was still there.
pub(crate) fn prolong(tx: &mut Tx<'_>, now: TimeMs, hash: &[u8; 32]) -> Result<bool, SqlError> {
    let text = "UPDATE reset_links SET ends_at = ? WHERE hash = ?";
    Ok(tx.execute(text, params![now.plus(GOOD_FOR).0, hash])? == 1)
}

/// Whose link it is, if it is good. One that would be good for longer than any was made while the
/// clock was wrong, and is not.
pub(crate) fn account_of(
    tx: &mut Tx<'_>,
    now: TimeMs,
    hash: &[u8; 32],
) -> Result<Option<AccountId>, SqlError> {
    let text = "SELECT account FROM reset_links WHERE hash = ? AND ends_at > ? AND ends_at <= ?";
    tx.query_first(text, params![hash, now.0, now.plus(GOOD_FOR).0], |row| {
        Ok(AccountId::from_bytes(row.array(0)?))
    })
}

/// Uses a link up. Returns whether it was still there: of two who use it at once only one has it.
pub(crate) fn take(tx: &mut Tx<'_>, hash: &[u8; 32]) -> Result<bool, SqlError> {
    Ok(tx.execute("DELETE FROM reset_links WHERE hash = ?", params![hash])? == 1)
}

pub(crate) fn remove_all(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    tx.execute("DELETE FROM reset_links WHERE account = ?", params![&account.to_bytes()])?;
    Ok(())
}
