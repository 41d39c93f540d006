//! Which log-ins at a provider of identities open which account, in a table; and which log-ins were
//! used up, so that each is good once. A log-in is known by its provider and by the provider's own
//! name of the shopper, never by an address of mail, which can change its owner.

use contracts::store::{AccountId, ConnectedLogIn, LogInWays};
use engines::{
    params,
    sql::{SqlError, Tx},
};
use units::TimeMs;

pub(crate) const TABLES: &[&str] = &[
    // `is_of_address`: the provider has checked that the account's address is the shopper's.
    "CREATE TABLE connected_log_ins (
        id BINARY(32) PRIMARY KEY, account BINARY(16) NOT NULL, issuer VARCHAR(255) NOT NULL,
        subject VARCHAR(255) NOT NULL, is_of_address BIGINT NOT NULL, connected_at BIGINT NOT NULL)",
    "CREATE INDEX connected_log_ins_of_accounts ON connected_log_ins (account, connected_at)",
    "CREATE TABLE log_ins_used (hash BINARY(32) PRIMARY KEY, ends_at BIGINT NOT NULL)",
    "CREATE INDEX log_ins_used_by_end ON log_ins_used (ends_at)",
    // Accounts whose shoppers have proved the password, and are at the provider to be connected.
    "CREATE TABLE connections_begun (
        hash BINARY(32) PRIMARY KEY, account BINARY(16) NOT NULL, ends_at BIGINT NOT NULL)",
    "CREATE INDEX connections_begun_by_end ON connections_begun (ends_at)",
    "CREATE INDEX connections_begun_of_accounts ON connections_begun (account)",
];

/// Log-ins of one account that are read.
const READ_MAX: usize = 20;

/// A provider's log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogIn {
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

impl LogIn {
    /// By which it is known: databases differ in which texts are the same.
    fn id(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        hash.update(&(self.issuer.len() as u64).to_le_bytes());
        hash.update(self.issuer.as_bytes()).update(self.subject.as_bytes());
        *hash.finalize().as_bytes()
    }
}

pub(crate) fn account_of(tx: &mut Tx<'_>, log_in: &LogIn) -> Result<Option<AccountId>, SqlError> {
    let text = "SELECT account FROM connected_log_ins WHERE id = ?";
    tx.query_first(text, params![&log_in.id()], |row| Ok(AccountId::from_bytes(row.array(0)?)))
}

/// The same, as it is now for every transaction, and stays until this one ends.
pub(crate) fn account_of_locked(tx: &mut Tx<'_>, log_in: &LogIn) -> Result<Option<AccountId>, SqlError> {
    let text = "SELECT account FROM connected_log_ins WHERE id = ?";
    let found =
        tx.query_locked(text, params![&log_in.id()], |row| Ok(AccountId::from_bytes(row.array(0)?)))?;
    Ok(found.into_iter().next())
}

/// What the provider says of the address today.
pub(crate) fn note_address(tx: &mut Tx<'_>, log_in: &LogIn, is_of_address: bool) -> Result<(), SqlError> {
    let text = "UPDATE connected_log_ins SET is_of_address = ? WHERE id = ?";
    tx.execute(text, params![u64::from(is_of_address), &log_in.id()]).map(drop)
}

/// The account's shopper has proved the password, and goes to the provider.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (hash, account): (&[u8; 32], AccountId),
    ends_at: TimeMs,
) -> Result<(), SqlError> {
    let over = "SELECT hash FROM connections_begun WHERE ends_at <= ? LIMIT 10";
    for gone in tx.query(over, params![now.0], |row| row.array::<32>(0))? {
        tx.execute("DELETE FROM connections_begun WHERE hash = ?", params![&gone])?;
    }
    let text = "INSERT INTO connections_begun (hash, account, ends_at) VALUES (?, ?, ?)";
    tx.execute(text, params![hash, &account.to_bytes(), ends_at.0]).map(drop)
}

/// Returns whether it was begun, and nothing has ended it since.
pub(crate) fn take_begun(
    tx: &mut Tx<'_>,
    now: TimeMs,
    (hash, account): (&[u8; 32], AccountId),
) -> Result<bool, SqlError> {
    let text = "DELETE FROM connections_begun WHERE hash = ? AND account = ? AND ends_at > ?";
    Ok(tx.execute(text, params![hash, &account.to_bytes(), now.0])? == 1)
}

/// What was begun under sessions that are over is over too.
pub(crate) fn end_begun(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    tx.execute("DELETE FROM connections_begun WHERE account = ?", params![&account.to_bytes()]).map(drop)
}

/// Returns false if an account has it already.
pub(crate) fn put(
    tx: &mut Tx<'_>,
    now: TimeMs,
    account: AccountId,
    log_in: &LogIn,
    is_of_address: bool,
) -> Result<bool, SqlError> {
    let text = "INSERT INTO connected_log_ins (id, account, issuer, subject, is_of_address, connected_at) \
                VALUES (?, ?, ?, ?, ?, ?)";
    let (id, account) = (log_in.id(), account.to_bytes());
    let row = params![&id, &account, &log_in.issuer, &log_in.subject, u64::from(is_of_address), now.0];
    tx.insert_new(text, row)
}

fn of_account(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<ConnectedLogIn>, SqlError> {
    let text = "SELECT issuer, subject, connected_at FROM connected_log_ins WHERE account = ? \
                ORDER BY connected_at, id LIMIT ?";
    tx.query(text, params![&account.to_bytes(), READ_MAX], |row| {
        let connected_at = TimeMs(row.count(2)?);
        Ok(ConnectedLogIn { issuer: row.text(0)?, subject: row.text(1)?, connected_at })
    })
}

/// Whether the account has a log-in of this provider.
pub(crate) fn has_one_of(tx: &mut Tx<'_>, account: AccountId, issuer: &str) -> Result<bool, SqlError> {
    Ok(of_account(tx, account)?.iter().any(|log_in| log_in.issuer == issuer))
}

pub(crate) fn ways(tx: &mut Tx<'_>, account: AccountId) -> Result<LogInWays, SqlError> {
    let text = "SELECT password FROM accounts WHERE id = ?";
    let password = tx.query_first(text, params![&account.to_bytes()], |row| row.text(0))?;
    let has_password = password.is_some_and(|password| !password.is_empty());
    Ok(LogInWays { has_password, connected: of_account(tx, account)? })
}

pub(crate) fn remove_all(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    tx.execute("DELETE FROM connected_log_ins WHERE account = ?", params![&account.to_bytes()]).map(drop)
}

/// Takes the log-ins away whose provider has not said that the account's address is the shopper's.
pub(crate) fn remove_of_other_addresses(tx: &mut Tx<'_>, account: AccountId) -> Result<(), SqlError> {
    let text = "DELETE FROM connected_log_ins WHERE account = ? AND is_of_address = 0";
    tx.execute(text, params![&account.to_bytes()]).map(drop)
}

/// Uses a log-in up. Returns whether it was still good: of two who bring it at once only one has
/// it.
pub(crate) fn use_up(
    tx: &mut Tx<'_>,
    now: TimeMs,
    hash: &[u8; 32],
    ends_at: TimeMs,
) -> Result<bool, SqlError> {
    // What is over goes, some at a time.
    let over = "SELECT hash FROM log_ins_used WHERE ends_at <= ? LIMIT 10";
    for gone in tx.query(over, params![now.0], |row| row.array::<32>(0))? {
        tx.execute("DELETE FROM log_ins_used WHERE hash = ?", params![&gone])?;
    }
    tx.insert_new("INSERT INTO log_ins_used (hash, ends_at) VALUES (?, ?)", params![hash, ends_at.0])
}
