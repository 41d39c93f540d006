//! The list of orders in tables, in a database of its own: a row for each order of every shard, and
//! how far the list is built. It knows neither the shards nor the events.
//!
//! An order's row has the version of the order, and is replaced by a later version only: what comes
//! late or again changes nothing. A build writes the rows of all orders anew, one page after
//! another, beside the events. A row that an earlier build has written counts as of no version: it
//! may be of an order that there is no more, after shards were put back to an older state.

use crate::summary::OrderSummary;
use contracts::store::{BUCKETS, OrderId, OrderState, ReturnState};
use engines::{
    params,
    sql::{Migration, Row, SqlError, Tx, unexpected},
};

/// What the rows have. One that is greater than a list's own has that list built anew.
const FORMAT: u64 = 1;
/// Rows that one transaction looks at when a build removes what is left of earlier ones.
const LOOKED_AT_MAX: usize = 500;

pub(crate) const MIGRATIONS: &[Migration] = &[LIST];

const LIST: Migration = Migration {
    name: "the list of orders, and how far it is built",
    statements: &[
        "CREATE TABLE listed_orders (
            id BINARY(16) PRIMARY KEY, state VARCHAR(20) NOT NULL, version BIGINT NOT NULL,
            build BIGINT NOT NULL, summary MEDIUMTEXT NOT NULL)",
        "CREATE INDEX listed_orders_by_state ON listed_orders (state, id)",
        "CREATE TABLE listed_returns (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, state VARCHAR(20) NOT NULL,
            PRIMARY KEY (order_id, number))",
        "CREATE INDEX listed_returns_by_state ON listed_returns (state, order_id)",
        "CREATE TABLE list_builds (
            number BIGINT PRIMARY KEY, format BIGINT NOT NULL, build BIGINT NOT NULL,
            is_whole BIGINT NOT NULL, bucket BIGINT, after_id BINARY(16))",
    ],
};

/// Where a build goes on: behind this order of this bucket. Behind the last bucket it removes what
/// it has not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: u16,
    pub(crate) after: [u8; 16],
}

impl Place {
    pub(crate) const START: Self = Self { bucket: 0, after: [0; 16] };
    /// All orders are written.
    const WRITTEN: Self = Self { bucket: BUCKETS, after: [0; 16] };

    /// Behind all orders of the buckets before this one.
    pub(crate) fn at(bucket: u16) -> Self {
        Self { bucket, after: [0; 16] }
    }

    pub(crate) fn has_written_all(self) -> bool {
        self.bucket >= BUCKETS
    }
}

/// The newest build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) number: u64,
    /// All orders are listed: by this build or an earlier one.
    pub(crate) is_whole: bool,
    /// `None` once it is done.
    pub(crate) at: Option<Place>,
}

const BUILD: &str = "SELECT build, is_whole, bucket, after_id FROM list_builds WHERE number = 1";

fn build_of(row: &Row<'_>) -> Result<Build, SqlError> {
    let bucket = row.maybe_count(2)?.map(|of| u16::try_from(of).map_err(|_| unexpected(2, "a bucket")));
    let at = match bucket.transpose()? {
        Some(bucket) => Some(Place { bucket, after: row.array(3)? }),
        None => None,
    };
    Ok(Build { number: row.count(0)?, is_whole: row.count(1)? != 0, at })
}

fn only(found: Vec<Build>) -> Result<Build, SqlError> {
    let gone = || SqlError::Schema("the list of orders does not say how far it is built".into());
    found.into_iter().next().ok_or_else(gone)
}

/// The newest build, as a read sees it.
pub(crate) fn build(tx: &mut Tx<'_>) -> Result<Build, SqlError> {
    only(tx.query(BUILD, &[], build_of)?)
}

/// Begins the first build of a list that is new, and one of a list whose rows have less than they
/// are to have now.
pub(crate) fn begin_if_needed(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    let Place { bucket, after } = Place::START;
    let is_new = tx.insert_new(
        "INSERT INTO list_builds (number, format, build, is_whole, bucket, after_id) VALUES (1, ?, 1, 0, ?, ?)",
        params![FORMAT, bucket, &after],
    )?;
    if is_new {
        return Ok(());
    }
    let formats =
        tx.query_locked("SELECT format FROM list_builds WHERE number = 1", &[], |row| row.count(0))?;
    if formats.iter().any(|format| *format > FORMAT) {
        return Err(SqlError::Schema("a newer version wrote the list of orders: use that one".into()));
    }
    let text = "UPDATE list_builds SET format = ?, build = build + 1, is_whole = 0, bucket = ?, after_id = ? \
                WHERE number = 1 AND format < ?";
    tx.execute(text, params![FORMAT, bucket, &after, FORMAT]).map(drop)
}

/// Begins another build. The list answers meanwhile, as it did.
pub(crate) fn begin(tx: &mut Tx<'_>) -> Result<(), SqlError> {
    let Place { bucket, after } = Place::START;
    let text = "UPDATE list_builds SET build = build + 1, bucket = ?, after_id = ? WHERE number = 1";
    tx.execute(text, params![bucket, &after]).map(drop)
}

fn go_on_at(tx: &mut Tx<'_>, at: Place) -> Result<(), SqlError> {
    let text = "UPDATE list_builds SET bucket = ?, after_id = ? WHERE number = 1";
    tx.execute(text, params![at.bucket, &at.after]).map(drop)
}

/// Writes the row of an order, unless it has one of this version or a later one. Returns whether it
/// did.
fn put(tx: &mut Tx<'_>, build: u64, of: &OrderSummary) -> Result<bool, SqlError> {
    let (id, state) = (of.id.to_bytes(), of.state.as_str());
    let summary = serde_json::to_string(of);
    let summary = summary.map_err(|error| SqlError::Defect(format!("an order's summary: {error}")))?;
    let is_new = tx.insert_new(
        "INSERT INTO listed_orders (id, state, version, build, summary) VALUES (?, ?, ?, ?, ?)",
        params![&id, state, of.version, build, &summary],
    )?;
    if !is_new {
        let changed = tx.execute(
            "UPDATE listed_orders SET state = ?, version = ?, build = ?, summary = ? \
             WHERE id = ? AND (version < ? OR build < ?)",
            params![state, of.version, build, &summary, &id, of.version, build],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        tx.execute("DELETE FROM listed_returns WHERE order_id = ?", params![&id])?;
    }
    for one in &of.returns {
        tx.execute(
            "INSERT INTO listed_returns (order_id, number, state) VALUES (?, ?, ?)",
            params![&id, one.number, one.state.as_str()],
        )?;
    }
    Ok(true)
}

/// Writes what events have told.
pub(crate) fn put_told(tx: &mut Tx<'_>, told: &[OrderSummary]) -> Result<(), SqlError> {
    // No build begins before this has ended.
    let build = only(tx.query_shared(BUILD, &[], build_of)?)?;
    for of in told {
        put(tx, build.number, of)?;
    }
    Ok(())
}

/// Writes a page that was read for this build at this place, unless another process has gone on
/// meanwhile.
pub(crate) fn put_page(
    tx: &mut Tx<'_>,
    (build, at): (u64, Place),
    page: &[OrderSummary],
    next: Place,
) -> Result<(), SqlError> {
    let now = only(tx.query_locked(BUILD, &[], build_of)?)?;
    if (now.number, now.at) != (build, Some(at)) {
        return Ok(());
    }
    for of in page {
        put(tx, build, of)?;
    }
    go_on_at(tx, next)
}

/// Removes some rows of orders that this build has not found, and ends the build behind the last.
pub(crate) fn remove_some(tx: &mut Tx<'_>, build: u64, at: Place) -> Result<(), SqlError> {
    let now = only(tx.query_locked(BUILD, &[], build_of)?)?;
    if (now.number, now.at) != (build, Some(at)) {
        return Ok(());
    }
    let text = "SELECT id, build FROM listed_orders WHERE id > ? ORDER BY id LIMIT ?";
    let rows =
        tx.query(text, params![&at.after, LOOKED_AT_MAX], |row| Ok((row.array::<16>(0)?, row.count(1)?)))?;
    for (id, _) in rows.iter().filter(|(_, of)| *of < build) {
        let gone = tx.execute("DELETE FROM listed_orders WHERE id = ? AND build < ?", params![id, build])?;
        if gone > 0 {
            tx.execute("DELETE FROM listed_returns WHERE order_id = ?", params![id])?;
        }
    }
    match rows.last() {
        Some((last, _)) if rows.len() == LOOKED_AT_MAX => {
            go_on_at(tx, Place { after: *last, ..Place::WRITTEN })
        }
        _ => {
            let text = "UPDATE list_builds SET is_whole = 1, bucket = NULL, after_id = NULL WHERE number = 1";
            tx.execute(text, &[]).map(drop)
        }
    }
}

/// In which version an order is listed.
pub(crate) fn version(tx: &mut Tx<'_>, order: OrderId) -> Result<Option<u64>, SqlError> {
    let text = "SELECT version FROM listed_orders WHERE id = ?";
    tx.query_first(text, params![&order.to_bytes()], |row| row.count(0))
}

fn summary(row: &Row<'_>) -> Result<OrderSummary, SqlError> {
    serde_json::from_str(&row.text(0)?).map_err(|_| unexpected(0, "an order's summary"))
}

/// Orders, newest first, older than `before`; of all states, or of one.
pub(crate) fn newest(
    tx: &mut Tx<'_>,
    state: Option<OrderState>,
    before: Option<OrderId>,
    at_most: usize,
) -> Result<Vec<OrderSummary>, SqlError> {
    let before = before.map_or([0xff; 16], OrderId::to_bytes);
    match state {
        Some(state) => tx.query(
            "SELECT summary FROM listed_orders WHERE state = ? AND id < ? ORDER BY id DESC LIMIT ?",
            params![state.as_str(), &before, at_most],
            summary,
        ),
        None => tx.query(
            "SELECT summary FROM listed_orders WHERE id < ? ORDER BY id DESC LIMIT ?",
            params![&before, at_most],
            summary,
        ),
    }
}

/// Orders that have a return in this state, oldest first, later than `after`.
pub(crate) fn with_returns(
    tx: &mut Tx<'_>,
    state: ReturnState,
    after: Option<OrderId>,
    at_most: usize,
) -> Result<Vec<OrderSummary>, SqlError> {
    let after = after.map_or([0; 16], OrderId::to_bytes);
    let text = "SELECT DISTINCT order_id FROM listed_returns WHERE state = ? AND order_id > ? \
                ORDER BY order_id LIMIT ?";
    let ids = tx.query(text, params![state.as_str(), &after, at_most], |row| row.array::<16>(0))?;
    let mut all = Vec::new();
    for id in ids {
        all.extend(tx.query("SELECT summary FROM listed_orders WHERE id = ?", params![&id], summary)?);
    }
    Ok(all)
}
