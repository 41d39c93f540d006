//! Accounts and sessions in tables: what is read and written within one transaction.

use crate::{
    connected,
    events::{self, Change},
    guest_rows, operated,
};
use contracts::store::{ADDRESSES_MAX, AccountId, Address, Profile};
use engines::{
    params,
    sql::{Migration, SqlError, Tx, outbox, unexpected},
};
use units::TimeMs;

/// Sessions of one account. The oldest ends when a further one begins.
const SESSIONS_MAX: usize = 20;

pub(crate) const MIGRATIONS: &[Migration] =
    &[ACCOUNTS, ADDRESSES, LETTERS, DELETIONS, LOCKS, CONNECTED, GUESTS, CUT_OFF, OUTBOX];

const OUTBOX: Migration = Migration { name: "the outbox", statements: &[outbox::TABLE] };

const CUT_OFF: Migration =
    Migration { name: "guests whose checkout was cut off", statements: &[guest_rows::INDEX_OF_LETTERS] };

const GUESTS: Migration = Migration { name: "guests", statements: guest_rows::TABLES };

const CONNECTED: Migration =
    Migration { name: "log-ins at a provider of identities", statements: connected::TABLES };

const LOCKS: Migration = Migration { name: "accounts that are locked", statements: operated::TABLES };

const DELETIONS: Migration = Migration {
    name: "accounts that are deleted, until all contexts have erased them",
    statements: &[
        "CREATE TABLE deletions (
            account BINARY(16) PRIMARY KEY, asked_at BIGINT NOT NULL, due_at BIGINT NOT NULL, tries BIGINT NOT NULL)",
        "CREATE INDEX deletions_by_due ON deletions (due_at)",
        "CREATE INDEX letters_of_addresses ON letters (email)",
    ],
};

const LETTERS: Migration = Migration {
    name: "letters, and links that set a password",
    statements: &[
        "CREATE TABLE letters (
            number {serial}, id BINARY(16) NOT NULL, kind VARCHAR(20) NOT NULL, email VARCHAR(254) NOT NULL,
            language VARCHAR(2) NOT NULL, written_at BIGINT NOT NULL, due_at BIGINT NOT NULL,
            tries BIGINT NOT NULL)",
        "CREATE INDEX letters_by_due ON letters (due_at, number)",
        "CREATE TABLE reset_links (
            hash BINARY(32) PRIMARY KEY, account BINARY(16) NOT NULL, ends_at BIGINT NOT NULL)",
        "CREATE INDEX reset_links_of_accounts ON reset_links (account, ends_at)",
        "CREATE INDEX reset_links_by_end ON reset_links (ends_at)",
    ],
};

const ADDRESSES: Migration = Migration {
    name: "where accounts' parcels went",
    statements: &["CREATE TABLE addresses (
            account BINARY(16) NOT NULL, hash BINARY(32) NOT NULL, document MEDIUMTEXT NOT NULL,
            used_at BIGINT NOT NULL, PRIMARY KEY (account, hash))"],
};

const ACCOUNTS: Migration = Migration {
    name: "accounts and sessions",
    statements: &[
        "CREATE TABLE accounts (
            id BINARY(16) PRIMARY KEY, email VARCHAR(254) NOT NULL, name VARCHAR(100) NOT NULL,
            password VARCHAR(200) NOT NULL, created_at BIGINT NOT NULL)",
        "CREATE UNIQUE INDEX accounts_by_email ON accounts (email)",
        "CREATE TABLE sessions (
            hash BINARY(32) PRIMARY KEY, account BINARY(16) NOT NULL,
            began_at BIGINT NOT NULL, ends_at BIGINT NOT NULL)",
        "CREATE INDEX sessions_of_accounts ON sessions (account, began_at)",
        "CREATE INDEX sessions_by_end ON sessions (ends_at)",
    ],
};

/// Returns false if the address has an account.
pub(crate) fn insert(tx: &mut Tx<'_>, profile: &Profile, password: &str) -> Result<bool, SqlError> {
    let is_new = tx.insert_new(
        "INSERT INTO accounts (id, email, name, password, created_at) VALUES (?, ?, ?, ?, ?)",
        params![&profile.account.to_bytes(), &profile.email, &profile.name, password, profile.created_at.0],
    )?;
    if is_new {
        events::put(tx, profile.created_at, profile.account, Change::Registered)?;
    }
    Ok(is_new)
}

/// The account of an address, its name and the hash of its password.
pub(crate) fn by_email(
    tx: &mut Tx<'_>,
    email: &str,
) -> Result<Option<(AccountId, String, String)>, SqlError> {
    let text = "SELECT id, name, password FROM accounts WHERE email = ?";
    tx.query_first(text, params![email], |row| {
        Ok((AccountId::from_bytes(row.array(0)?), row.text(1)?, row.text(2)?))
    })
}

pub(crate) fn profile(tx: &mut Tx<'_>, account: AccountId) -> Result<Option<Profile>, SqlError> {
    let text = "SELECT email, name, created_at FROM accounts WHERE id = ?";
    tx.query_first(text, params![&account.to_bytes()], |row| {
        Ok(Profile { account, email: row.text(0)?, name: row.text(1)?, created_at: TimeMs(row.count(2)?) })
    })
}

/// The address and the name of an account that has still this hash of a password and is not
/// locked by an operator. Its row stays as it is until the transaction ends: what was checked
/// before it is not true for ever.
pub(crate) fn locked_with(
    tx: &mut Tx<'_>,
    account: AccountId,
    password: &str,
) -> Result<Option<(String, String)>, SqlError> {
    let text = "SELECT email, name FROM accounts WHERE id = ? AND password = ? AND locked_at IS NULL";
    let found = tx
        .query_locked(text, params![&account.to_bytes(), password], |row| Ok((row.text(0)?, row.text(1)?)))?;
    Ok(found.into_iter().next())
}

/// The address and the name of an account that is not locked by an operator. Its row stays as it is
/// until the transaction ends.
pub(crate) fn locked(tx: &mut Tx<'_>, account: AccountId) -> Result<Option<(String, String)>, SqlError> {
    let text = "SELECT email, name FROM accounts WHERE id = ? AND locked_at IS NULL";
    let found =
        tx.query_locked(text, params![&account.to_bytes()], |row| Ok((row.text(0)?, row.text(1)?)))?;
    Ok(found.into_iter().next())
}

/// The address of an account, and the hash of its password: a text without characters if it has
/// none.
pub(crate) fn email_and_password(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Option<(String, String)>, SqlError> {
    let text = "SELECT email, password FROM accounts WHERE id = ?";
    tx.query_first(text, params![&account.to_bytes()], |row| Ok((row.text(0)?, row.text(1)?)))
}

/// Returns the account's address; `None` if there is no such account.
pub(crate) fn set_password(
    tx: &mut Tx<'_>,
    account: AccountId,
    password: &str,
) -> Result<Option<String>, SqlError> {
    let id = account.to_bytes();
    tx.execute("UPDATE accounts SET password = ? WHERE id = ?", params![password, &id])?;
    let text = "SELECT email FROM accounts WHERE id = ?";
    tx.query_first(text, params![&id], |row| row.text(0))
}

pub(crate) fn rename(tx: &mut Tx<'_>, at: TimeMs, account: AccountId, name: &str) -> Result<(), SqlError> {
    let text = "UPDATE accounts SET name = ? WHERE id = ? AND name <> ?";
    match tx.execute(text, params![name, &account.to_bytes(), name])? {
        0 => Ok(()),
        _ => events::put(tx, at, account, Change::Renamed),
    }
}

pub(crate) fn begin_session(
    tx: &mut Tx<'_>,
    hash: &[u8; 32],
    account: AccountId,
    (now, ends_at): (TimeMs, TimeMs),
) -> Result<(), SqlError> {
    let id = account.to_bytes();
    // What is over goes, some at a time.
    tx.query("SELECT hash FROM sessions WHERE ends_at <= ? LIMIT 10", params![now.0], |row| {
        row.array::<32>(0)
    })?
    .into_iter()
    .try_for_each(|over| end_session(tx, &over))?;
    let of_account = "SELECT hash FROM sessions WHERE account = ? ORDER BY began_at DESC, hash LIMIT 100";
    tx.query(of_account, params![&id], |row| row.array::<32>(0))?
        .into_iter()
        .skip(SESSIONS_MAX - 1)
        .try_for_each(|oldest| end_session(tx, &oldest))?;
    tx.execute(
        "INSERT INTO sessions (hash, account, began_at, ends_at) VALUES (?, ?, ?, ?)",
        params![hash, &id, now.0, ends_at.0],
    )?;
    Ok(())
}

pub(crate) fn end_session(tx: &mut Tx<'_>, hash: &[u8; 32]) -> Result<(), SqlError> {
    tx.execute("DELETE FROM sessions WHERE hash = ?", params![hash])?;
    Ok(())
}

/// Ends all sessions of an account.
pub(crate) fn end_sessions(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    connected::end_begun(tx, account)?;
    tx.execute("DELETE FROM sessions WHERE account = ?", params![&account.to_bytes()]).map(drop)
}

/// Sessions that are not over, each with its hash, its beginning and its end; the one that began
/// last first.
pub(crate) fn sessions(
    tx: &mut Tx<'_>,
    account: AccountId,
    now: TimeMs,
) -> Result<Vec<([u8; 32], TimeMs, TimeMs)>, SqlError> {
    let text = "SELECT hash, began_at, ends_at FROM sessions WHERE account = ? AND ends_at > ? \
                ORDER BY began_at DESC, hash LIMIT ?";
    tx.query(text, params![&account.to_bytes(), now.0, SESSIONS_MAX], |row| {
        Ok((row.array(0)?, TimeMs(row.count(1)?), TimeMs(row.count(2)?)))
    })
}

/// The account of a session that is not over, its name, and the end of the session.
pub(crate) fn session(
    tx: &mut Tx<'_>,
    hash: &[u8; 32],
    now: TimeMs,
) -> Result<Option<(AccountId, String, TimeMs)>, SqlError> {
    tx.query_first(
        "SELECT a.id, a.name, s.ends_at FROM sessions s JOIN accounts a ON a.id = s.account \
         WHERE s.hash = ? AND s.ends_at > ?",
        params![hash, now.0],
        |row| Ok((AccountId::from_bytes(row.array(0)?), row.text(1)?, TimeMs(row.count(2)?))),
    )
}

/// The one that was used last first.
pub(crate) fn addresses(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<Address>, SqlError> {
    let text = "SELECT document FROM addresses WHERE account = ? ORDER BY used_at DESC, hash LIMIT ?";
    tx.query(text, params![&account.to_bytes(), ADDRESSES_MAX], |row| {
        serde_json::from_str(&row.text(0)?).map_err(|_| unexpected(0, "an address"))
    })
}

/// An address's document, and the hash by which it is known.
fn known_by(address: &Address) -> Result<(String, [u8; 32]), SqlError> {
    let document =
        serde_json::to_string(address).map_err(|error| SqlError::Defect(format!("an address: {error}")))?;
    let hash = *blake3::hash(document.as_bytes()).as_bytes();
    Ok((document, hash))
}

pub(crate) fn use_address(
    tx: &mut Tx<'_>,
    at: TimeMs,
    account: AccountId,
    address: &Address,
) -> Result<(), SqlError> {
    let ((document, hash), id) = (known_by(address)?, account.to_bytes());
    let found =
        tx.query_locked("SELECT id FROM accounts WHERE id = ?", params![&id], |row| row.array::<16>(0))?;
    if found.is_empty() {
        // The account was deleted while the order was made.
        return Ok(());
    }
    tx.execute("DELETE FROM addresses WHERE account = ? AND hash = ?", params![&id, &hash])?;
    let known = "SELECT hash FROM addresses WHERE account = ? ORDER BY used_at DESC, hash LIMIT 100";
    let others = tx.query(known, params![&id], |row| row.array::<32>(0))?;
    for over in others.iter().skip(ADDRESSES_MAX - 1) {
        tx.execute("DELETE FROM addresses WHERE account = ? AND hash = ?", params![&id, over])?;
    }
    let text = "INSERT INTO addresses (account, hash, document, used_at) VALUES (?, ?, ?, ?)";
    tx.execute(text, params![&id, &hash, &document, at.0])?;
    Ok(())
}

pub(crate) fn forget_address(tx: &mut Tx<'_>, account: AccountId, address: &Address) -> Result<(), SqlError> {
    let (_, hash) = known_by(address)?;
    tx.execute("DELETE FROM addresses WHERE account = ? AND hash = ?", params![&account.to_bytes(), &hash])?;
    Ok(())
}
