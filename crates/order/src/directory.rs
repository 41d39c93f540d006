//! The directory of buckets in tables: which database has which bucket, in which version; and in
//! each database, which buckets are its own. It moves nothing.
//!
//! The directory is a way to find a bucket, and may be old. What is true stands in the database
//! itself: each transaction looks at the row of its bucket there, and does nothing if the bucket is
//! not that database's. So a process that has not heard of a move harms nothing.

use contracts::store::{BUCKETS, Bucket};
use engines::{
    params,
    sql::{Migration, SqlError, Tx, unexpected},
};
use std::collections::BTreeSet;
use units::TimeMs;

/// The database that has the directory. It is there in every installation.
pub const HOME: &str = "orders_0";

pub(crate) const DIRECTORY: Migration = Migration {
    name: "the directory of buckets, and which of them each database has",
    statements: &[
        "CREATE TABLE shard (name VARCHAR(40) PRIMARY KEY, installation BINARY(16) NOT NULL)",
        "CREATE TABLE held_buckets (
            bucket BIGINT PRIMARY KEY, state VARCHAR(10) NOT NULL, mover BINARY(16))",
        "CREATE TABLE bucket_directory (bucket BIGINT PRIMARY KEY, shard VARCHAR(40) NOT NULL)",
        "CREATE TABLE directory_versions (
            version BIGINT PRIMARY KEY, at BIGINT NOT NULL, what VARCHAR(200) NOT NULL)",
        "CREATE TABLE bucket_moves (
            bucket BIGINT PRIMARY KEY, from_shard VARCHAR(40) NOT NULL, to_shard VARCHAR(40) NOT NULL,
            mover BINARY(16) NOT NULL, seen_at BIGINT NOT NULL)",
        "CREATE TABLE arriving_events (
            bucket BIGINT NOT NULL, number BIGINT NOT NULL, body MEDIUMTEXT NOT NULL,
            PRIMARY KEY (bucket, number))",
        "ALTER TABLE orders ADD COLUMN bucket BIGINT",
        "CREATE INDEX orders_by_bucket ON orders (bucket, id)",
        "ALTER TABLE cart_lines ADD COLUMN bucket BIGINT",
        "CREATE INDEX cart_lines_by_bucket ON cart_lines (bucket, owner, sku)",
    ],
};

/// How a database has a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Here,
    /// It is being copied to another one: it can be read, and is not changed.
    Leaving,
    /// It is being copied here.
    Arriving,
    /// It is another one's, and its rows are not removed yet.
    Left,
}

impl Held {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Here => "held",
            Self::Leaving => "leaving",
            Self::Arriving => "arriving",
            Self::Left => "left",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Here, Self::Leaving, Self::Arriving, Self::Left].into_iter().find(|of| of.as_str() == name)
    }
}

/// What a transaction wants of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Read,
    Change,
}

/// Whether the bucket is this database's. To change something this is asked in the transaction that
/// changes it: until that has ended, the bucket stays.
pub(crate) fn is_here(tx: &mut Tx<'_>, bucket: Bucket, wants: Wants) -> Result<bool, SqlError> {
    let text = "SELECT state FROM held_buckets WHERE bucket = ?";
    let found = tx.query_shared(text, params![bucket.number()], |row| row.text(0))?;
    Ok(match (found.first().and_then(|name| Held::from_name(name)), wants) {
        (Some(Held::Here), _) | (Some(Held::Leaving), Wants::Read) => true,
        (Some(Held::Leaving | Held::Arriving | Held::Left) | None, _) => false,
    })
}

/// The buckets that are read here.
pub(crate) fn read_here(tx: &mut Tx<'_>) -> Result<BTreeSet<u16>, SqlError> {
    let text = "SELECT bucket FROM held_buckets WHERE state IN (?, ?) LIMIT ?";
    let key = params![Held::Here.as_str(), Held::Leaving.as_str(), BUCKETS];
    Ok(tx.query(text, key, |row| number(row.count(0)?))?.into_iter().collect())
}

fn number(count: u64) -> Result<u16, SqlError> {
    u16::try_from(count).ok().filter(|of| *of < BUCKETS).ok_or_else(|| unexpected(0, "a bucket"))
}

/// What a query over all orders adds to its conditions, so that it does not find rows of buckets
/// that are not this database's. `column` has orders' ids. It is empty unless something moves.
pub(crate) fn only_here(tx: &mut Tx<'_>, column: &str, wants: Wants) -> Result<String, SqlError> {
    let frozen = if wants == Wants::Change { Held::Leaving } else { Held::Left };
    let text = "SELECT bucket FROM held_buckets WHERE state IN (?, ?, ?) ORDER BY bucket LIMIT ?";
    let key = params![Held::Arriving.as_str(), Held::Left.as_str(), frozen.as_str(), BUCKETS];
    let hidden = tx.query(text, key, |row| number(row.count(0)?))?;
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for bucket in hidden {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == bucket => *last = bucket,
            _ => ranges.push((bucket, bucket)),
        }
    }
    // Ten bits after the 48 of the time: the seventh byte of the id and the first two bits of the
    // eighth.
    let range = |(first, last): &(u16, u16)| {
        let (from, to) = (first << 6, last << 6 | 0x3f);
        format!(" AND NOT (SUBSTR({column}, 7, 2) BETWEEN X'{from:04X}' AND X'{to:04X}')")
    };
    Ok(ranges.iter().map(range).collect())
}

/// A row of `held_buckets`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldRow {
    pub(crate) state: Held,
    /// The mover's number.
    pub(crate) mover: Option<[u8; 16]>,
}

/// The row of a bucket, locked.
pub(crate) fn held(tx: &mut Tx<'_>, bucket: Bucket) -> Result<Option<HeldRow>, SqlError> {
    let text = "SELECT state, mover FROM held_buckets WHERE bucket = ?";
    let found = tx.query_locked(text, params![bucket.number()], |row| {
        let state = Held::from_name(&row.text(0)?).ok_or_else(|| unexpected(0, "a bucket's state"))?;
        let mover = row.maybe_bytes(1)?.map(<[u8; 16]>::try_from).transpose();
        Ok(HeldRow { state, mover: mover.map_err(|_| unexpected(1, "a mover"))? })
    })?;
    Ok(found.into_iter().next())
}

/// Writes how this database has a bucket; `None`: it has nothing of it.
pub(crate) fn set_held(
    tx: &mut Tx<'_>,
    bucket: Bucket,
    to: Option<(Held, Option<&[u8; 16]>)>,
) -> Result<(), SqlError> {
    let Some((state, mover)) = to else {
        return tx.execute("DELETE FROM held_buckets WHERE bucket = ?", params![bucket.number()]).map(drop);
    };
    let text = "UPDATE held_buckets SET state = ?, mover = ? WHERE bucket = ?";
    if tx.execute(text, params![state.as_str(), mover, bucket.number()])? == 0 {
        let text = "INSERT INTO held_buckets (bucket, state, mover) VALUES (?, ?, ?)";
        tx.execute(text, params![bucket.number(), state.as_str(), mover])?;
    }
    Ok(())
}

/// What a database says of itself: its name, and the installation to which it belongs.
pub(crate) fn identity(tx: &mut Tx<'_>) -> Result<Option<(String, [u8; 16])>, SqlError> {
    let text = "SELECT name, installation FROM shard LIMIT 1";
    tx.query_first(text, &[], |row| Ok((row.text(0)?, row.array(1)?)))
}

/// Gives a database its name, for good, and the buckets that are its own, unless it has one.
pub(crate) fn name_it(
    tx: &mut Tx<'_>,
    (name, installation): (&str, &[u8; 16]),
    buckets: &[u16],
) -> Result<(), SqlError> {
    let text = "INSERT INTO shard (name, installation) VALUES (?, ?)";
    // Another process may do the same at this moment.
    if identity(tx)?.is_some() || !tx.insert_new(text, params![name, installation])? {
        return Ok(());
    }
    for bucket in buckets {
        let text = "INSERT INTO held_buckets (bucket, state) VALUES (?, ?)";
        tx.execute(text, params![*bucket, Held::Here.as_str()])?;
    }
    Ok(())
}

/// The buckets of some rows that a database has: of its first and last order, and of a cart. Of an
/// empty one there are none.
pub(crate) fn buckets_of_rows(tx: &mut Tx<'_>) -> Result<Vec<Bucket>, SqlError> {
    let mut found = Vec::new();
    for text in
        ["SELECT id FROM orders ORDER BY id LIMIT 1", "SELECT id FROM orders ORDER BY id DESC LIMIT 1"]
    {
        let id = tx.query(text, &[], |row| row.array(0).map(contracts::store::OrderId::from_bytes))?;
        found.extend(id.into_iter().map(contracts::store::OrderId::bucket));
    }
    let owner = tx.query("SELECT owner FROM cart_lines LIMIT 1", &[], |row| row.text(0))?;
    found.extend(owner.iter().map(|owner| Bucket::of_shopper(owner)));
    Ok(found)
}

/// The directory's version; `None` while there is no directory.
pub(crate) fn version(tx: &mut Tx<'_>) -> Result<Option<u64>, SqlError> {
    let text = "SELECT version FROM directory_versions ORDER BY version DESC LIMIT 1";
    tx.query_first(text, &[], |row| row.count(0))
}

/// The whole of it: for each bucket the name of its database.
pub(crate) fn read(tx: &mut Tx<'_>) -> Result<Vec<String>, SqlError> {
    let text = "SELECT bucket, shard FROM bucket_directory ORDER BY bucket LIMIT ?";
    let found = tx.query(text, params![BUCKETS], |row| Ok((row.count(0)?, row.text(1)?)))?;
    let is_whole = found.len() == usize::from(BUCKETS)
        && found.iter().zip(0..).all(|((bucket, _), number)| *bucket == number);
    if !is_whole {
        let why =
            format!("the directory has {} of {BUCKETS} buckets: put it back from a backup", found.len());
        return Err(SqlError::Schema(why));
    }
    Ok(found.into_iter().map(|(_, shard)| shard).collect())
}

/// Writes the first version, unless there is one.
pub(crate) fn write_first(
    tx: &mut Tx<'_>,
    at: TimeMs,
    shards: &[String],
    what: &str,
) -> Result<(), SqlError> {
    if version(tx)?.is_some() {
        return Ok(());
    }
    // Of two processes that begin at once, the second one finds this row.
    let text = "INSERT INTO directory_versions (version, at, what) VALUES (1, ?, ?)";
    if !tx.insert_new(text, params![at.0, what])? {
        return Ok(());
    }
    for (bucket, shard) in shards.iter().enumerate() {
        let text = "INSERT INTO bucket_directory (bucket, shard) VALUES (?, ?)";
        tx.execute(text, params![bucket, shard])?;
    }
    Ok(())
}

/// The bucket is another database's from now on. Returns the new version.
pub(crate) fn switch(
    tx: &mut Tx<'_>,
    at: TimeMs,
    bucket: Bucket,
    (from, to): (&str, &str),
) -> Result<u64, SqlError> {
    // Locked, so that two movers do not make the same version.
    let text = "SELECT version FROM directory_versions ORDER BY version DESC LIMIT 1";
    let last = tx.query_locked(text, &[], |row| row.count(0))?.into_iter().next().unwrap_or_default();
    let text = "UPDATE bucket_directory SET shard = ? WHERE bucket = ? AND shard = ?";
    if tx.execute(text, params![to, bucket.number(), from])? != 1 {
        let why = format!("the directory does not give bucket {} to {from}", bucket.number());
        return Err(SqlError::Schema(why));
    }
    let what = format!("bucket {} from {from} to {to}", bucket.number());
    let text = "INSERT INTO directory_versions (version, at, what) VALUES (?, ?, ?)";
    tx.execute(text, params![last + 1, at.0, &what])?;
    Ok(last + 1)
}

/// A move that is under way, or was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    pub bucket: u16,
    pub from: String,
    pub to: String,
    /// When its mover was last known to work on it.
    pub seen_at: TimeMs,
}

pub(crate) fn moves(tx: &mut Tx<'_>) -> Result<Vec<UnderWay>, SqlError> {
    let text = "SELECT bucket, from_shard, to_shard, seen_at FROM bucket_moves ORDER BY bucket LIMIT ?";
    tx.query(text, params![BUCKETS], |row| {
        let (bucket, seen_at) = (number(row.count(0)?)?, TimeMs(row.count(3)?));
        Ok(UnderWay { bucket, from: row.text(1)?, to: row.text(2)?, seen_at })
    })
}
