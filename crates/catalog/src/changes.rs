//! Which products have changed, in which order: what the search follows. A change is written in the
//! transaction that makes it.
//!
//! Transactions that change products go one after the other: each begins by locking the one row of
//! `catalog_state`. So a transaction that sees a change sees all with lower numbers, on every
//! engine.

use contracts::store::ProductSlug;
use engines::{
    params,
    sql::{SqlError, Tx},
};
use units::TimeMs;

/// Changes that one transaction forgets.
const FORGOTTEN_AT_ONCE: usize = 500;

pub(crate) const TABLES: &[&str] = &[
    // `forgotten_to`: what has followed less far builds everything anew.
    "CREATE TABLE catalog_state (id BIGINT PRIMARY KEY, number BIGINT NOT NULL, forgotten_to BIGINT NOT NULL)",
    // The last change of each product.
    "CREATE TABLE catalog_changes (slug VARCHAR(64) PRIMARY KEY, number BIGINT NOT NULL, changed_at BIGINT NOT NULL)",
    "CREATE UNIQUE INDEX catalog_changes_in_order ON catalog_changes (number)",
];

/// Makes the row of the state, once.
pub(crate) fn begin(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    tx.insert_new("INSERT INTO catalog_state (id, number, forgotten_to) VALUES (1, 0, 0)", &[])?;
    Ok(())
}

/// The number of the last change, and up to where changes were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) number: u64,
    pub(crate) forgotten_to: u64,
}

const STATE: &str = "SELECT number, forgotten_to FROM catalog_state WHERE id = 1";

pub(crate) fn state(tx: &mut Tx<'_>) -> Result<State, SqlError> {
    let read =
        tx.query_first(STATE, &[], |row| Ok(State { number: row.count(0)?, forgotten_to: row.count(1)? }));
    read?.ok_or_else(|| SqlError::Schema("the row of catalog_state is missing".into()))
}

/// Waits until no other transaction changes products. It comes before everything else in such a
/// transaction.
pub(crate) fn take_turn(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    tx.query_locked(STATE, &[], |_| Ok(())).map(drop)
}

/// Notes that this product is another one than before, or gone.
pub(crate) fn note(tx: &mut Tx<'_>, at: TimeMs, slug: &ProductSlug) -> Result<(), SqlError> {
    let number = next_number(tx)?;
    tx.execute("DELETE FROM catalog_changes WHERE slug = ?", params![slug.as_str()])?;
    let text = "INSERT INTO catalog_changes (slug, number, changed_at) VALUES (?, ?, ?)";
    tx.execute(text, params![slug.as_str(), number, at.0])?;
    Ok(())
}

/// Notes that lists are others than before, and products the same.
pub(crate) fn note_lists(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    next_number(tx).map(drop)
}

/// Notes that everything is to be built anew.
pub(crate) fn note_all(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    let number = next_number(tx)?;
    tx.execute("UPDATE catalog_state SET forgotten_to = ? WHERE id = 1", params![number])?;
    Ok(())
}

fn next_number(tx: &mut Tx<'_>) -> Result<u64, SqlError> {
    tx.execute("UPDATE catalog_state SET number = number + 1 WHERE id = 1", &[])?;
    state(tx).map(|state| state.number)
}

/// The changes after this number, oldest first.
pub(crate) fn after(
    tx: &mut Tx<'_>,
    number: u64,
    at_most: usize,
) -> Result<Vec<(u64, ProductSlug)>, SqlError> {
    let text = "SELECT number, slug FROM catalog_changes WHERE number > ? ORDER BY number LIMIT ?";
    tx.query(text, params![number, at_most], |row| Ok((row.count(0)?, row.parsed(1, "a slug")?)))
}

/// Forgets some changes that were made before this time: a process that has not followed them
/// builds everything anew.
pub(crate) fn forget(tx: &mut Tx<'_>, before: TimeMs) -> Result<(), SqlError> {
    take_turn(tx)?;
    let text = "SELECT number, changed_at FROM catalog_changes ORDER BY number LIMIT ?";
    let oldest = tx.query(text, params![FORGOTTEN_AT_ONCE], |row| Ok((row.count(0)?, row.count(1)?)))?;
    let old = oldest.iter().take_while(|(_, changed_at)| *changed_at < before.0);
    let Some((last, _)) = old.last() else { return Ok(()) };
    tx.execute("DELETE FROM catalog_changes WHERE number <= ?", params![*last])?;
    let text = "UPDATE catalog_state SET forgotten_to = ? WHERE id = 1 AND forgotten_to < ?";
    tx.execute(text, params![*last, *last])?;
    Ok(())
}
