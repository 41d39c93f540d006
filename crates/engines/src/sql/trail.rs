//! The trail: what operators have changed in a database, written in the transaction that changed
//! it. It is only added to. It does not know what was changed.

use super::{SqlError, Tx};
use crate::params;
use units::TimeMs;

/// The statements that make the tables.
pub const TABLES: &[&str] = &[
    "CREATE TABLE trail (
        number {serial}, at BIGINT NOT NULL, actor VARCHAR(200) NOT NULL, did VARCHAR(40) NOT NULL,
        subject VARCHAR(100) NOT NULL, reason VARCHAR(200) NOT NULL, detail MEDIUMTEXT NOT NULL)",
    "CREATE INDEX trail_of_subjects ON trail (subject, number)",
];

/// Bytes of a detail: it says what was done, and is no copy of it.
const DETAIL_BYTES_MAX: usize = 1000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Who did it.
    pub actor: &'a str,
    /// Such as `product.put`.
    pub did: &'a str,
    /// The thing that it was done to, by its name.
    pub subject: &'a str,
    /// In the actor's words; may be empty.
    pub reason: &'a str,
    /// What changed; what is too long is cut.
    pub detail: &'a str,
}

/// A step that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub number: u64,
    pub at: TimeMs,
    pub actor: String,
    pub did: String,
    pub subject: String,
    pub reason: String,
    pub detail: String,
}

/// Notes a step.
pub fn note(tx: &mut Tx<'_>, at: TimeMs, step: Step<'_>) -> Result<(), SqlError> {
    let Step { actor, did, subject, reason, detail } = step;
    let detail = &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)];
    let text = "INSERT INTO trail (at, actor, did, subject, reason, detail) VALUES (?, ?, ?, ?, ?, ?)";
    tx.execute(text, params![at.0, actor, did, subject, reason, detail])?;
    Ok(())
}

/// Steps before this number, newest first; of one subject, or of all.
pub fn page(
    tx: &mut Tx<'_>,
    subject: Option<&str>,
    before: Option<u64>,
    at_most: usize,
) -> Result<Vec<Stored>, SqlError> {
    let before = before.unwrap_or(i64::MAX as u64).min(i64::MAX as u64);
    let read = |row: &super::Row<'_>| {
        Ok(Stored {
            number: row.count(0)?,
            at: TimeMs(row.count(1)?),
            actor: row.text(2)?,
            did: row.text(3)?,
            subject: row.text(4)?,
            reason: row.text(5)?,
            detail: row.text(6)?,
        })
    };
    const COLUMNS: &str = "SELECT number, at, actor, did, subject, reason, detail FROM trail";
    match subject {
        Some(subject) => {
            let text = format!("{COLUMNS} WHERE subject = ? AND number < ? ORDER BY number DESC LIMIT ?");
            tx.query(&text, params![subject, before, at_most], read)
        }
        None => {
            let text = format!("{COLUMNS} WHERE number < ? ORDER BY number DESC LIMIT ?");
            tx.query(&text, params![before, at_most], read)
        }
    }
}
