//! Books in tables: the shop's own, of what providers told; the provider's, as it was read there;
//! and the reports of what the two differ in.

use crate::{
    core::Said,
    provider::Event,
    report::{Day, Difference, Kind, LISTED_MAX, Movement, Report, Summary, Totals},
};
use contracts::store::PaymentId;
use engines::{
    params,
    sql::{Row, SqlError, Tx, unexpected},
};
use std::collections::BTreeMap;
use units::{Currency, Money, TimeMs};

/// Rows that are read at once.
const ROWS_MAX: usize = 500;

fn kind_of(said: Said) -> &'static str {
    match said {
        Said::Succeeded => Kind::Received.as_str(),
        Said::Refunded => Kind::GivenBack.as_str(),
        Said::Failed | Said::RefundFailed => unreachable!("no money moved"),
    }
}

/// Puts money that moved into the shop's books. Returns whether it is new there.
pub(crate) fn note_movement(
    tx: &mut Tx<'_>,
    at: TimeMs,
    provider: &str,
    payment: PaymentId,
    event: &Event,
    is_from_books: bool,
) -> Result<bool, SqlError> {
    tx.insert_new(
        "INSERT INTO movements (provider, id, payment, kind, currency, amount_minor, at, is_from_books) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            provider,
            &event.movement,
            &payment.to_bytes(),
            kind_of(event.said),
            event.amount.currency.as_str(),
            event.amount.amount_minor,
            at.0,
            is_from_books
        ],
    )
}

/// Takes money out of both books that has come back to the provider, for good. Returns whether the
/// shop's had it.
pub(crate) fn forget_movement(
    tx: &mut Tx<'_>,
    at: TimeMs,
    provider: &str,
    movement: &str,
) -> Result<bool, SqlError> {
    let text = "INSERT INTO failed_refunds (provider, id, at) VALUES (?, ?, ?)";
    tx.insert_new(text, params![provider, movement, at.0])?;
    let key = params![provider, movement];
    tx.execute("DELETE FROM provider_ledger WHERE provider = ? AND id = ?", key)?;
    Ok(tx.execute("DELETE FROM movements WHERE provider = ? AND id = ?", key)? > 0)
}

/// Whether this money has come back to the provider. A provider's numbers are used once.
pub(crate) fn has_failed(tx: &mut Tx<'_>, provider: &str, movement: &str) -> Result<bool, SqlError> {
    // Locked: a transaction that has read before would not see what another has committed since.
    let text = "SELECT 1 FROM failed_refunds WHERE provider = ? AND id = ?";
    Ok(!tx.query_locked(text, params![provider, movement], |_| Ok(()))?.is_empty())
}

pub(crate) fn is_known(tx: &mut Tx<'_>, provider: &str, movement: &str) -> Result<bool, SqlError> {
    let text = "SELECT 1 FROM movements WHERE provider = ? AND id = ?";
    Ok(!tx.query_locked(text, params![provider, movement], |_| Ok(()))?.is_empty())
}

/// How often money of this payment was received.
pub(crate) fn times_received(tx: &mut Tx<'_>, payment: PaymentId) -> Result<u64, SqlError> {
    let text = "SELECT COUNT(*) FROM movements WHERE payment = ? AND kind = ?";
    let id = payment.to_bytes();
    let key = params![&id, Kind::Received.as_str()];
    Ok(tx.query_first(text, key, |row| row.count(0))?.unwrap_or_default())
}

/// Keeps what stands in the provider's books.
pub(crate) fn keep(tx: &mut Tx<'_>, provider: &str, at: TimeMs, of: &Event) -> Result<(), SqlError> {
    let payment = of.payment.map(PaymentId::to_bytes);
    tx.insert_new(
        "INSERT INTO provider_ledger (provider, id, payment, reference, kind, currency, amount_minor, at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            provider,
            &of.movement,
            payment.as_ref(),
            &of.reference,
            kind_of(of.said),
            of.amount.currency.as_str(),
            of.amount.amount_minor,
            at.0
        ],
    )?;
    Ok(())
}

/// Since when the provider's books are kept, and until when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) since: TimeMs,
    pub(crate) read_until: TimeMs,
}

/// `None` if they never were read.
pub(crate) fn kept(tx: &mut Tx<'_>, provider: &str) -> Result<Option<Kept>, SqlError> {
    let text = "SELECT since, read_until FROM provider_books WHERE provider = ?";
    tx.query_first(text, params![provider], |row| {
        Ok(Kept { since: TimeMs(row.count(0)?), read_until: TimeMs(row.count(1)?) })
    })
}

pub(crate) fn set_kept(tx: &mut Tx<'_>, provider: &str, kept: Kept) -> Result<(), SqlError> {
    let Kept { since, read_until } = kept;
    let text = "INSERT INTO provider_books (provider, since, read_until) VALUES (?, ?, ?)";
    if !tx.insert_new(text, params![provider, since.0, read_until.0])? {
        let text = "UPDATE provider_books SET read_until = ? WHERE provider = ?";
        tx.execute(text, params![read_until.0, provider])?;
    }
    Ok(())
}

/// A row of either of the two books, with the other's row if there is one.
struct Pair {
    id: String,
    this: Movement,
    other: Option<Movement>,
    is_from_books: bool,
}

fn movement(row: &Row<'_>, from: usize) -> Result<Option<Movement>, SqlError> {
    let Some(kind) = row.maybe_text(from)? else { return Ok(None) };
    let currency: Currency = row.parsed(from + 1, "a currency")?;
    Ok(Some(Movement {
        kind: Kind::from_name(&kind).ok_or_else(|| unexpected(from, "a kind"))?,
        amount: Money { currency, amount_minor: row.count(from + 2)? },
        payment: row.maybe_bytes(from + 3)?.and_then(|id| Some(PaymentId::from_bytes(id.try_into().ok()?))),
    }))
}

/// One of the two books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Books {
    Ours,
    Theirs,
}

impl Books {
    fn tables(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ours => ("movements", "provider_ledger", "a.is_from_books"),
            Self::Theirs => ("provider_ledger", "movements", "0"),
        }
    }
}

/// Rows of these times, in order, after the row `after`.
fn pairs(
    tx: &mut Tx<'_>,
    books: Books,
    provider: &str,
    (from, to): (TimeMs, TimeMs),
    after: &(u64, String),
) -> Result<Vec<(u64, Pair)>, SqlError> {
    let (a, b, flag) = books.tables();
    let text = format!(
        "SELECT a.id, a.at, a.kind, a.currency, a.amount_minor, a.payment, b.kind, b.currency, b.amount_minor, \
         b.payment, {flag} FROM {a} a LEFT JOIN {b} b ON b.provider = a.provider AND b.id = a.id \
         WHERE a.provider = ? AND a.at >= ? AND a.at < ? AND (a.at > ? OR (a.at = ? AND a.id > ?)) \
         ORDER BY a.at, a.id LIMIT ?"
    );
    let params = params![provider, from.0, to.0, after.0, after.0, &after.1, ROWS_MAX];
    tx.query(&text, params, |row| {
        let this = movement(row, 2)?.ok_or_else(|| unexpected(2, "a kind"))?;
        let pair =
            Pair { id: row.text(0)?, this, other: movement(row, 6)?, is_from_books: row.count(10)? > 0 };
        Ok((row.count(1)?, pair))
    })
}

/// How far a comparison is: it is made in parts, each a transaction that reads.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    provider: &'static str,
    times: (TimeMs, TimeMs),
    books: Option<Books>,
    after: (u64, String),
    pub(crate) totals: BTreeMap<String, Totals>,
    pub(crate) differences: Vec<Difference>,
    pub(crate) different: u64,
    pub(crate) found_in_books: u64,
}

impl Comparison {
    pub(crate) fn new(provider: &'static str, from: TimeMs, to: TimeMs) -> Self {
        Self {
            provider,
            times: (from, to),
            books: Some(Books::Theirs),
            after: (0, String::new()),
            totals: BTreeMap::new(),
            differences: Vec::new(),
            different: 0,
            found_in_books: 0,
        }
    }

    /// Goes on; returns whether there is more.
    pub(crate) fn go_on(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        let Some(books) = self.books else { return Ok(false) };
        let rows = pairs(tx, books, self.provider, self.times, &self.after)?;
        let is_last = rows.len() < ROWS_MAX;
        for (at, pair) in rows {
            self.after = (at, pair.id.clone());
            self.take(books, at, pair);
        }
        if is_last {
            self.books = (books == Books::Theirs).then_some(Books::Ours);
            self.after = (0, String::new());
        }
        Ok(self.books.is_some())
    }

    fn take(&mut self, books: Books, at: u64, Pair { id, this, other, is_from_books }: Pair) {
        let totals = self.totals.entry(this.amount.currency.as_str().to_owned()).or_default();
        let (ours, theirs) = match books {
            Books::Ours => (Some(this), other),
            Books::Theirs => (other, Some(this)),
        };
        let sum = match (books, this.kind) {
            (Books::Ours, Kind::Received) => &mut totals.ours_received_minor,
            (Books::Ours, Kind::GivenBack) => &mut totals.ours_given_back_minor,
            (Books::Theirs, Kind::Received) => &mut totals.theirs_received_minor,
            (Books::Theirs, Kind::GivenBack) => &mut totals.theirs_given_back_minor,
        };
        *sum = sum.saturating_add(this.amount.amount_minor);
        self.found_in_books += u64::from(is_from_books);
        // What stands in both books is compared once, with the provider's.
        let is_same = match (ours, theirs) {
            (Some(ours), Some(theirs)) => books == Books::Ours || ours.is_as(theirs),
            _ => false,
        };
        if !is_same {
            self.different += 1;
            if self.differences.len() < LISTED_MAX {
                self.differences.push(Difference { movement: id, at: TimeMs(at), ours, theirs });
            }
        }
    }
}

pub(crate) fn put_report(tx: &mut Tx<'_>, report: &Report) -> Result<(), SqlError> {
    let document = serde_json::to_string(report)
        .map_err(|error| SqlError::Defect(format!("a report of {}: {error}", report.day)))?;
    let Report { provider, day, made_at, different, found_in_books, refunds_open, .. } = report;
    let (day, made_at) = (day.as_str(), made_at.0);
    let text = "INSERT INTO reconciliations (made_at, different, found_in_books, refunds_open, document, \
                provider, day) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let row = params![made_at, *different, *found_in_books, *refunds_open, &document, provider, day];
    if !tx.insert_new(text, row)? {
        let text = "UPDATE reconciliations SET made_at = ?, different = ?, found_in_books = ?, \
                    refunds_open = ?, document = ? WHERE provider = ? AND day = ?";
        tx.execute(text, row)?;
    }
    Ok(())
}

/// Newest first, of days before this one.
pub(crate) fn reports(
    tx: &mut Tx<'_>,
    provider: &str,
    before: Option<&Day>,
    at_most: usize,
) -> Result<Vec<Summary>, SqlError> {
    let text = "SELECT day, made_at, different, found_in_books, refunds_open FROM reconciliations \
                WHERE provider = ? AND day < ? ORDER BY day DESC LIMIT ?";
    tx.query(text, params![provider, before.map_or("9999-99-99", Day::as_str), at_most], |row| {
        Ok(Summary {
            day: row.parsed(0, "a day")?,
            made_at: TimeMs(row.count(1)?),
            different: row.count(2)?,
            found_in_books: row.count(3)?,
            refunds_open: row.count(4)?,
        })
    })
}

pub(crate) fn report_of(tx: &mut Tx<'_>, provider: &str, day: &Day) -> Result<Option<Report>, SqlError> {
    let text = "SELECT document FROM reconciliations WHERE provider = ? AND day = ?";
    tx.query_first(text, params![provider, day.as_str()], |row| {
        serde_json::from_str(&row.text(0)?).map_err(|_| unexpected(0, "a report"))
    })
}

/// Refunds of which the shop has learnt in this time that they have failed.
pub(crate) fn refunds_failed(
    tx: &mut Tx<'_>,
    provider: &str,
    (from, to): (TimeMs, TimeMs),
) -> Result<u64, SqlError> {
    let text = "SELECT COUNT(*) FROM failed_refunds WHERE provider = ? AND at >= ? AND at < ?";
    Ok(tx.query_first(text, params![provider, from.0, to.0], |row| row.count(0))?.unwrap_or_default())
}

/// Refunds of this provider's payments that were wanted before this time, and have not gone back.
pub(crate) fn refunds_open(tx: &mut Tx<'_>, provider: &str, before: TimeMs) -> Result<u64, SqlError> {
    let text = "SELECT COUNT(*) FROM refund_parts r JOIN payments p ON p.id = r.payment \
                WHERE r.state IN ('due', 'asked') AND r.wanted_at < ? AND p.provider = ?";
    Ok(tx.query_first(text, params![before.0, provider], |row| row.count(0))?.unwrap_or_default())
}
