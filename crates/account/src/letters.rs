//! Letters that wait to be sent, in a table: each is put there by the transaction that decided it,
//! and says what is to be written to which address. The words, and a link's secret, are made when
//! it is sent: no database has a secret that opens an account.

use contracts::store::Language;
use engines::{
    params,
    sql::{Row, SqlError, Tx, unexpected},
};
use units::{DurationMs, TimeMs};

/// Letters that may wait when a further one is asked for, and when one is about a change: the
/// change is refused then.
const WAIT_MAX: usize = 10_000;
const WAIT_MAX_OF_CHANGES: usize = 20_000;
/// The first pause after a letter did not leave, and the longest one: each is twice the one before.
const PAUSE_MIN: DurationMs = DurationMs(5_000);
const PAUSE_MAX: DurationMs = DurationMs(3_600_000);
/// How long the one who sends a letter has it: longer than the port of mail takes.
const CLAIMED_FOR: DurationMs = DurationMs(120_000);
/// How long a letter with a link is of use, and every other one.
const RESET_FOR: DurationMs = DurationMs(3_600_000);
const OTHERS_FOR: DurationMs = DurationMs(86_400_000);

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A link that sets a new password, if the address has an account.
    Reset,
    PasswordChanged,
    /// The account is deleted.
    Deleted,
    /// A provider's log-in opens the account now.
    Connected,
    /// A guest has ordered, with a link to the order.
    Ordered,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Reset, Self::PasswordChanged, Self::Deleted, Self::Connected, Self::Ordered];

    /// How long it is tried. One that is older is not sent.
    pub(crate) fn tried_for(self) -> DurationMs {
        match self {
            Self::Reset => RESET_FOR,
            Self::PasswordChanged | Self::Deleted | Self::Connected | Self::Ordered => OTHERS_FOR,
        }
    }

    /// Its name in the database and in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::PasswordChanged => "password_changed",
            Self::Deleted => "deleted",
            Self::Connected => "connected",
            Self::Ordered => "ordered",
        }
    }
}

/// A letter that waits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) number: u64,
    pub(crate) id: [u8; 16],
    pub(crate) kind: Kind,
    pub(crate) email: String,
    pub(crate) language: Language,
    pub(crate) written_at: TimeMs,
    /// How often it was tried.
    pub(crate) tries: u64,
}

/// A letter that is decided.
pub(crate) struct New<'a> {
    pub(crate) id: [u8; 16],
    pub(crate) kind: Kind,
    pub(crate) email: &'a str,
    pub(crate) language: Language,
}

/// A letter about a change, in the transaction of the change.
pub(crate) fn put(tx: &mut Tx<'_>, now: TimeMs, new: &New<'_>) -> Result<(), SqlError> {
    match is_full(tx, WAIT_MAX_OF_CHANGES)? {
        true => Err(SqlError::Shortage("very many letters wait".into())),
        false => insert(tx, now, new),
    }
}

fn is_full(tx: &mut Tx<'_>, at: usize) -> Result<bool, SqlError> {
    let text = "SELECT number FROM letters ORDER BY number LIMIT 1 OFFSET ?";
    Ok(tx.query_first(text, params![at - 1], |row| row.count(0))?.is_some())
}

fn insert(tx: &mut Tx<'_>, now: TimeMs, new: &New<'_>) -> Result<(), SqlError> {
    let text = "INSERT INTO letters (id, kind, email, language, written_at, due_at, tries) \
                VALUES (?, ?, ?, ?, ?, ?, 0)";
    let row = params![&new.id, new.kind.as_str(), new.email, new.language.as_str(), now.0, now.0];
    tx.execute(text, row)?;
    Ok(())
}

/// A letter that anybody may ask for, unless very many wait. Returns whether it waits now.
pub(crate) fn put_if_room(tx: &mut Tx<'_>, now: TimeMs, new: &New<'_>) -> Result<bool, SqlError> {
    let is_full = is_full(tx, WAIT_MAX)?;
    if !is_full {
        insert(tx, now, new)?;
    }
    Ok(!is_full)
}

/// Those that are due, the one that has waited longest first. One that would wait for longer than
/// any was put off while the clock was ahead, and is due.
pub(crate) fn due(tx: &mut Tx<'_>, now: TimeMs, at_most: usize) -> Result<Vec<Waiting>, SqlError> {
    let text = "SELECT number, id, kind, email, language, written_at, tries FROM letters \
                WHERE due_at <= ? OR due_at > ? ORDER BY due_at, number LIMIT ?";
    let farthest = now.plus(PAUSE_MAX).0.min(u64::MAX >> 1);
    tx.query(text, params![now.0, farthest, at_most], |row| {
        Ok(Waiting {
            number: row.count(0)?,
            id: row.array(1)?,
            kind: kind_of(row, 2)?,
            email: row.text(3)?,
            language: Language::from_name(&row.text(4)?).ok_or_else(|| unexpected(4, "a language"))?,
            written_at: TimeMs(row.count(5)?),
            tries: row.count(6)?,
        })
    })
}

fn kind_of(row: &Row<'_>, column: usize) -> Result<Kind, SqlError> {
    let name = row.text(column)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
    kind.ok_or_else(|| unexpected(column, "a kind of letters"))
}

pub(crate) fn remove(tx: &mut Tx<'_>, number: u64) -> Result<(), SqlError> {
    tx.execute("DELETE FROM letters WHERE number = ?", params![number])?;
    Ok(())
}

/// Who is going to send a letter says so first, and only one can: a letter whose row cannot be
/// written is not sent. If that process ends before it has settled the letter, another one finds
/// it when the claim is over.
pub(crate) fn claim(tx: &mut Tx<'_>, now: TimeMs, letter: &Waiting) -> Result<bool, SqlError> {
    let text = "UPDATE letters SET due_at = ?, tries = tries + 1 WHERE number = ? AND tries = ?";
    Ok(tx.execute(text, params![now.plus(CLAIMED_FOR).0, letter.number, letter.tries])? == 1)
}

/// Makes those due that are claimed, or due as soon as a claim would be over.
pub(crate) fn release(tx: &mut Tx<'_>, now: TimeMs) -> Result<(), SqlError> {
    let text = "UPDATE letters SET due_at = ? WHERE due_at > ? AND due_at <= ?";
    tx.execute(text, params![now.0, now.0, now.plus(CLAIMED_FOR).0])?;
    Ok(())
}

/// A letter that was claimed is tried again after a pause.
pub(crate) fn postpone(tx: &mut Tx<'_>, now: TimeMs, letter: &Waiting) -> Result<(), SqlError> {
    let pause = PAUSE_MIN.0.saturating_mul(1 << letter.tries.min(20)).min(PAUSE_MAX.0);
    let text = "UPDATE letters SET due_at = ? WHERE number = ? AND tries = ?";
    tx.execute(text, params![now.plus(DurationMs(pause)).0, letter.number, letter.tries + 1])?;
    Ok(())
}
