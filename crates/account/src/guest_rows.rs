//! Guests in tables: the contact of each, with the order, and by which secrets that can be seen, of
//! which there are hashes only.

use crate::letters::{self, Kind};
use contracts::store::{AccountId, Language, OrderId};
use engines::{
    params,
    sql::{Row, SqlError, Tx, unexpected},
};
use units::{DurationMs, TimeMs};

pub(crate) const TABLES: &[&str] = &[
    "CREATE TABLE guests (
        shopper BINARY(16) PRIMARY KEY, hash BINARY(32) NOT NULL, order_id BINARY(16) NOT NULL,
        email VARCHAR(254) NOT NULL, language VARCHAR(2) NOT NULL, made_at BIGINT NOT NULL,
        letter BINARY(16) NOT NULL, letter_at BIGINT)",
    "CREATE UNIQUE INDEX guests_by_hash ON guests (hash)",
    "CREATE UNIQUE INDEX guests_by_letter ON guests (letter)",
    "CREATE TABLE guest_links (
        hash BINARY(32) PRIMARY KEY, shopper BINARY(16) NOT NULL, ends_at BIGINT NOT NULL)",
    "CREATE INDEX guest_links_of_guests ON guest_links (shopper)",
    "CREATE INDEX guest_links_by_end ON guest_links (ends_at)",
];

pub(crate) const INDEX_OF_LETTERS: &str = "CREATE INDEX guests_by_letter_time ON guests (letter_at, made_at)";

/// How long a letter's link is good: longer than a parcel may come back.
const LINK_FOR: DurationMs = DurationMs(180 * 86_400_000);
/// Checkouts that were cut off and are looked at in one go.
const CUT_OFF_MAX: usize = 50;

/// A guest in the table.
pub(crate) struct Stored {
    pub(crate) shopper: AccountId,
    pub(crate) order: OrderId,
    pub(crate) email: String,
    pub(crate) language: Language,
    pub(crate) letter: [u8; 16],
}

const COLUMNS: &str = "g.shopper, g.order_id, g.email, g.language, g.letter";

fn stored(row: &Row<'_>) -> Result<Stored, SqlError> {
    Ok(Stored {
        shopper: AccountId::from_bytes(row.array(0)?),
        order: OrderId::from_bytes(row.array(1)?),
        email: row.text(2)?,
        language: Language::from_name(&row.text(3)?).ok_or_else(|| unexpected(3, "a language"))?,
        letter: row.array(4)?,
    })
}

/// The guest of a secret, and whether it came by letter.
pub(crate) fn find(
    tx: &mut Tx<'_>,
    now: TimeMs,
    hash: &[u8; 32],
) -> Result<Option<(Stored, bool)>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM guests g WHERE g.hash = ?");
    if let Some(found) = tx.query_first(&text, params![hash], stored)? {
        return Ok(Some((found, false)));
    }
    let text = format!(
        "SELECT {COLUMNS} FROM guest_links l JOIN guests g ON g.shopper = l.shopper \
         WHERE l.hash = ? AND l.ends_at > ?"
    );
    Ok(tx.query_first(&text, params![hash, now.0], stored)?.map(|found| (found, true)))
}

/// The guest goes; what is left is in other contexts.
pub(crate) fn remove(tx: &mut Tx<'_>, shopper: AccountId) -> Result<bool, SqlError> {
    let id = shopper.to_bytes();
    tx.execute("DELETE FROM guest_links WHERE shopper = ?", params![&id])?;
    Ok(tx.execute("DELETE FROM guests WHERE shopper = ?", params![&id])? == 1)
}

/// Keeps a guest. What was typed again before there is an order takes the place of what was.
/// `false` of a guest who has ordered something else, or whose data are being erased: the secret
/// is over.
pub(crate) fn keep(tx: &mut Tx<'_>, now: TimeMs, hash: &[u8; 32], of: &Stored) -> Result<bool, SqlError> {
    let id = of.shopper.to_bytes();
    let text = "SELECT account FROM deletions WHERE account = ?";
    if !tx.query_locked(text, params![&id], |_| Ok(()))?.is_empty() {
        return Ok(false);
    }
    if insert(tx, now, hash, of)? {
        return Ok(true);
    }
    let text = "SELECT hash, email, order_id, letter_at FROM guests WHERE shopper = ?";
    let known = tx.query_locked(text, params![&id], |row| {
        Ok((row.array::<32>(0)?, row.text(1)?, row.array(2)?, row.maybe_count(3)?))
    })?;
    let Some((known, email, order, letter_at)) = known.into_iter().next() else { return Ok(false) };
    if letter_at.is_some() || known != *hash {
        return Ok(known == *hash && email == of.email && order == of.order.to_bytes());
    }
    let text = "UPDATE guests SET email = ?, language = ?, order_id = ?, made_at = ? WHERE shopper = ?";
    let order = of.order.to_bytes();
    let row = params![&of.email, of.language.as_str(), &order, now.0, &id];
    tx.execute(text, row).map(|_| true)
}

/// Guests whose checkout began before this time and was cut off: neither did its order's letter get
/// written, nor was it refused.
pub(crate) fn cut_off(tx: &mut Tx<'_>, before: TimeMs) -> Result<Vec<AccountId>, SqlError> {
    let text = "SELECT shopper FROM guests WHERE letter_at IS NULL AND made_at < ? ORDER BY made_at LIMIT ?";
    tx.query(text, params![before.0, CUT_OFF_MAX], |row| Ok(AccountId::from_bytes(row.array(0)?)))
}

fn insert(tx: &mut Tx<'_>, now: TimeMs, hash: &[u8; 32], of: &Stored) -> Result<bool, SqlError> {
    let text = "INSERT INTO guests (shopper, hash, order_id, email, language, made_at, letter) \
                VALUES (?, ?, ?, ?, ?, ?, ?)";
    let (shopper, order) = (of.shopper.to_bytes(), of.order.to_bytes());
    let row = params![&shopper, hash, &order, &of.email, of.language.as_str(), now.0, &of.letter];
    tx.insert_new(text, row)
}

/// The letter about the order, once.
pub(crate) fn write_letter(tx: &mut Tx<'_>, now: TimeMs, shopper: AccountId) -> Result<bool, SqlError> {
    let id = shopper.to_bytes();
    let text = "UPDATE guests SET letter_at = ? WHERE shopper = ? AND letter_at IS NULL";
    if tx.execute(text, params![now.0, &id])? != 1 {
        return Ok(false);
    }
    let text = format!("SELECT {COLUMNS} FROM guests g WHERE g.shopper = ?");
    let Some(of) = tx.query_first(&text, params![&id], stored)? else { return Ok(false) };
    let new = letters::New { id: of.letter, kind: Kind::Ordered, email: &of.email, language: of.language };
    match letters::put_if_room(tx, now, &new)? {
        true => Ok(true),
        // Without it, the order is in the browser alone: it is not noted as written.
        false => Err(SqlError::Shortage("very many letters wait at the moment".into())),
    }
}

/// The order that a letter is about, whose link has this hash from now on; `None` if the guest is
/// gone.
pub(crate) fn link(
    tx: &mut Tx<'_>,
    now: TimeMs,
    letter: &[u8; 16],
    hash: &[u8; 32],
) -> Result<Option<OrderId>, SqlError> {
    // What is over goes, some at a time.
    let over = "SELECT hash FROM guest_links WHERE ends_at <= ? LIMIT 10";
    for gone in tx.query(over, params![now.0], |row| row.array::<32>(0))? {
        tx.execute("DELETE FROM guest_links WHERE hash = ?", params![&gone])?;
    }
    let text = format!("SELECT {COLUMNS} FROM guests g WHERE g.letter = ?");
    let Some(of) = tx.query_first(&text, params![letter], stored)? else { return Ok(None) };
    let text = "INSERT INTO guest_links (hash, shopper, ends_at) VALUES (?, ?, ?)";
    tx.insert_new(text, params![hash, &of.shopper.to_bytes(), now.plus(LINK_FOR).0])?;
    Ok(Some(of.order))
}
