//! The rows of a bucket, as they move from one database to another: read page by page, written,
//! read again, compared, removed. Every table of orders is here; a test holds this list against the
//! tables themselves.

use contracts::store::{Bucket, OrderId};
use engines::{
    params,
    sql::{Param, Row, SqlError, Tx, outbox, unexpected},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Orders of one page with all that belongs to them, lines of carts, and events.
const ORDERS_MAX: usize = 50;
const LINES_MAX: usize = 500;
const EVENTS_MAX: usize = 500;
/// Rows that one statement inserts.
const INSERTED_MAX: usize = 20;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Int,
    Text,
    Bytes,
}

use Type::{Bytes, Int, Text};

/// A table with its columns, and its key, by which its rows are sorted.
#[derive(Debug)]
struct Table {
    name: &'static str,
    columns: &'static [(&'static str, Type)],
    key: &'static str,
}

const ORDERS: Table = Table {
    name: "orders",
    columns: &[
        ("id", Bytes),
        ("shopper", Text),
        ("sale", Text),
        ("hold", Bytes),
        ("sale_log", Text),
        ("sale_sequence", Int),
        ("sale_logs_left", Text),
        ("state", Text),
        ("payment_seen", Text),
        ("payment", Bytes),
        ("currency", Text),
        ("total_minor", Int),
        ("pay_by", Int),
        ("carrier", Text),
        ("tracking", Text),
        ("created_at", Int),
        ("version", Int),
        ("charges", Text),
        ("address", Text),
        ("has_units", Int),
        ("refunded_minor", Int),
        ("payment_version", Int),
        ("other_payments", Text),
        ("erased_at", Int),
        ("bucket", Int),
    ],
    key: "id",
};

/// What belongs to orders, by `order_id`.
const OF_ORDERS: [Table; 6] = [
    Table {
        name: "order_lines",
        columns: &[
            ("order_id", Bytes),
            ("number", Int),
            ("sku", Text),
            ("name", Text),
            ("name_zh", Text),
            ("quantity", Int),
            ("price_minor", Int),
        ],
        key: "order_id, number",
    },
    Table {
        name: "order_history",
        columns: &[
            ("order_id", Bytes),
            ("number", Int),
            ("at", Int),
            ("from_state", Text),
            ("to_state", Text),
            ("actor", Text),
            ("reason", Text),
        ],
        key: "order_id, number",
    },
    // Their numbers are each database's own.
    Table {
        name: "tasks",
        columns: &[
            ("order_id", Bytes),
            ("kind", Text),
            ("payment", Bytes),
            ("reason", Text),
            ("due_at", Int),
            ("tries", Int),
        ],
        key: "order_id, kind, payment",
    },
    Table {
        name: "returns",
        columns: &[
            ("order_id", Bytes),
            ("number", Int),
            ("state", Text),
            ("wish", Text),
            ("value_minor", Int),
            ("units", Text),
        ],
        key: "order_id, number",
    },
    Table {
        name: "return_lines",
        columns: &[("order_id", Bytes), ("number", Int), ("sku", Text), ("quantity", Int)],
        key: "order_id, number, sku",
    },
    Table {
        name: "return_steps",
        columns: &[
            ("order_id", Bytes),
            ("number", Int),
            ("step", Int),
            ("at", Int),
            ("state", Text),
            ("actor", Text),
            ("reason", Text),
        ],
        key: "order_id, number, step",
    },
];

const CARTS: Table = Table {
    name: "cart_lines",
    columns: &[
        ("owner", Text),
        ("sku", Text),
        ("quantity", Int),
        ("added_at", Int),
        ("changed_at", Int),
        ("bucket", Int),
    ],
    key: "owner, sku",
};

/// Events of the outbox wait here until the bucket has arrived.
const EVENTS: Table = Table {
    name: "arriving_events",
    columns: &[("bucket", Int), ("number", Int), ("body", Text)],
    key: "bucket, number",
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::Int(value) => Param::Int(*value),
            Self::Text(text) => Param::Text(text),
            Self::Bytes(bytes) => Param::Bytes(bytes),
        }
    }
}

type Values = Vec<Value>;

impl Table {
    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    fn read(&self, row: &Row<'_>) -> Result<Values, SqlError> {
        let value = |(column, (_, kind)): (usize, &(&str, Type))| {
            Ok(match kind {
                Int => row.maybe_int(column)?.map_or(Value::Null, Value::Int),
                Text => row.maybe_text(column)?.map_or(Value::Null, Value::Text),
                Bytes => row.maybe_bytes(column)?.map_or(Value::Null, Value::Bytes),
            })
        };
        self.columns.iter().enumerate().map(value).collect()
    }

    fn select(&self, tx: &mut Tx<'_>, of: &str, key: &[Param<'_>]) -> Result<Vec<Values>, SqlError> {
        let text = format!("SELECT {} FROM {} WHERE {of}", self.names(), self.name);
        tx.query(&text, key, |row| self.read(row))
    }

    fn insert(&self, tx: &mut Tx<'_>, rows: &[Values]) -> Result<(), SqlError> {
        let marks = format!("({})", vec!["?"; self.columns.len()].join(", "));
        for some in rows.chunks(INSERTED_MAX) {
            let all = vec![&*marks; some.len()].join(", ");
            let text = format!("INSERT INTO {} ({}) VALUES {all}", self.name, self.names());
            let values: Vec<Param<'_>> = some.iter().flatten().map(Value::param).collect();
            tx.execute(&text, &values)?;
        }
        Ok(())
    }
}

/// Where a page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Start,
    AfterOrder(Vec<u8>),
    Carts,
    AfterLine(String, String),
    AfterEvent(u64),
}

/// Some rows, of some tables.
#[derive(Debug)]
pub(crate) struct Page {
    tables: Vec<(&'static Table, Vec<Values>)>,
    next: Place,
}

impl Page {
    pub(crate) fn next(&self) -> Place {
        self.next.clone()
    }

    /// What stands in it, for tests.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> Vec<(&'static str, Vec<String>)> {
        let text = |(at, value): (usize, &Value)| (at, value.clone());
        let row = |table: &Table, row: &Values| {
            // An event has another number in each database.
            let kept =
                row.iter().enumerate().map(text).filter(|(at, _)| table.name != EVENTS.name || *at != 1);
            format!("{:?}", kept.collect::<Vec<_>>())
        };
        let tables = self.tables.iter();
        tables.map(|(table, rows)| (table.name, rows.iter().map(|of| row(table, of)).collect())).collect()
    }

    /// The numbers that events have in the old database.
    pub(crate) fn events(&self) -> impl Iterator<Item = i64> + '_ {
        let rows =
            self.tables.iter().filter(|(table, _)| table.name == EVENTS.name).flat_map(|(_, rows)| rows);
        rows.filter_map(|row| match row.get(1) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        })
    }
}

/// The next rows of a bucket that leaves; `None` behind the last.
pub(crate) fn read_page(tx: &mut Tx<'_>, bucket: Bucket, from: &Place) -> Result<Option<Page>, SqlError> {
    match from {
        Place::Start => orders(tx, bucket, &[]).map(Some),
        Place::AfterOrder(id) => orders(tx, bucket, id).map(Some),
        Place::Carts => carts(tx, bucket, ("", "")).map(Some),
        Place::AfterLine(owner, sku) => carts(tx, bucket, (owner, sku)).map(Some),
        Place::AfterEvent(number) => events(tx, bucket, *number),
    }
}

/// The same where the bucket arrives.
pub(crate) fn read_arrived(tx: &mut Tx<'_>, bucket: Bucket, from: &Place) -> Result<Option<Page>, SqlError> {
    let Place::AfterEvent(after) = from else { return read_page(tx, bucket, from) };
    let key = params![bucket.number(), *after, EVENTS_MAX];
    let rows = EVENTS.select(tx, "bucket = ? AND number > ? ORDER BY bucket, number LIMIT ?", key)?;
    let last = rows.last().and_then(|row| match row.get(1) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    });
    Ok(last.map(|last| Page { tables: vec![(&EVENTS, rows)], next: Place::AfterEvent(last) }))
}

fn orders(tx: &mut Tx<'_>, bucket: Bucket, after: &[u8]) -> Result<Page, SqlError> {
    let key = params![bucket.number(), after, ORDERS_MAX];
    let found = ORDERS.select(tx, "bucket = ? AND id > ? ORDER BY id LIMIT ?", key)?;
    let ids: Vec<Vec<u8>> = found
        .iter()
        .filter_map(|row| match row.first() {
            Some(Value::Bytes(id)) => Some(id.clone()),
            _ => None,
        })
        .collect();
    let Some(last) = ids.last().cloned() else {
        return Ok(Page { tables: Vec::new(), next: Place::Carts });
    };
    let mut tables = vec![(&ORDERS, found)];
    // Always as many, so that it is one statement.
    let marks = vec!["?"; ORDERS_MAX].join(", ");
    let key: Vec<Param<'_>> = (0..ORDERS_MAX).map(|at| Param::from(ids.get(at).unwrap_or(&last))).collect();
    for table in &OF_ORDERS {
        let of = format!("order_id IN ({marks}) ORDER BY {}", table.key);
        tables.push((table, table.select(tx, &of, &key)?));
    }
    let next = if ids.len() < ORDERS_MAX { Place::Carts } else { Place::AfterOrder(last) };
    Ok(Page { tables, next })
}

fn carts(tx: &mut Tx<'_>, bucket: Bucket, (owner, sku): (&str, &str)) -> Result<Page, SqlError> {
    let of = "bucket = ? AND (owner > ? OR owner = ? AND sku > ?) ORDER BY owner, sku LIMIT ?";
    let rows = CARTS.select(tx, of, params![bucket.number(), owner, owner, sku, LINES_MAX])?;
    let next = match rows.last().map(Vec::as_slice) {
        Some([Value::Text(owner), Value::Text(sku), ..]) if rows.len() == LINES_MAX => {
            Place::AfterLine(owner.clone(), sku.clone())
        }
        _ => Place::AfterEvent(0),
    };
    Ok(Page { tables: vec![(&CARTS, rows)], next })
}

#[derive(Deserialize)]
struct Told {
    subject: OrderId,
}

fn is_of(body: &str, bucket: Bucket) -> Result<bool, SqlError> {
    let told: Told = serde_json::from_str(body).map_err(|_| unexpected(1, "an event of an order"))?;
    Ok(told.subject.bucket() == bucket)
}

/// The outbox has no buckets: all its events are looked at.
fn events(tx: &mut Tx<'_>, bucket: Bucket, after: u64) -> Result<Option<Page>, SqlError> {
    let text = "SELECT number, body FROM outbox WHERE number > ? ORDER BY number LIMIT ?";
    let found = tx.query(text, params![after, EVENTS_MAX], |row| Ok((row.int(0)?, row.text(1)?)))?;
    let Some((last, _)) = found.last() else { return Ok(None) };
    let next = Place::AfterEvent(u64::try_from(*last).map_err(|_| unexpected(0, "a number"))?);
    let mut rows = Vec::new();
    for (number, body) in found {
        if is_of(&body, bucket)? {
            rows.push(vec![Value::Int(bucket.number().into()), Value::Int(number), Value::Text(body)]);
        }
    }
    Ok(Some(Page { tables: vec![(&EVENTS, rows)], next }))
}

/// Writes rows where the bucket arrives.
pub(crate) fn put_page(tx: &mut Tx<'_>, page: &Page) -> Result<(), SqlError> {
    page.tables.iter().try_for_each(|(table, rows)| table.insert(tx, rows))
}

/// Removes some rows of a bucket. Returns whether there may be more.
pub(crate) fn remove_some(tx: &mut Tx<'_>, bucket: Bucket) -> Result<bool, SqlError> {
    let text = "SELECT id FROM orders WHERE bucket = ? LIMIT ?";
    let ids = tx.query(text, params![bucket.number(), ORDERS_MAX], |row| row.array::<16>(0))?;
    for id in &ids {
        for table in &OF_ORDERS {
            tx.execute(&format!("DELETE FROM {} WHERE order_id = ?", table.name), params![id])?;
        }
        tx.execute("DELETE FROM orders WHERE id = ?", params![id])?;
    }
    let text = "SELECT owner, sku FROM cart_lines WHERE bucket = ? LIMIT ?";
    let lines =
        tx.query(text, params![bucket.number(), LINES_MAX], |row| Ok((row.text(0)?, row.text(1)?)))?;
    for (owner, sku) in &lines {
        tx.execute("DELETE FROM cart_lines WHERE owner = ? AND sku = ?", params![owner, sku])?;
    }
    let text = "SELECT number FROM arriving_events WHERE bucket = ? LIMIT ?";
    let events = tx.query(text, params![bucket.number(), EVENTS_MAX], |row| row.count(0))?;
    for number in &events {
        let text = "DELETE FROM arriving_events WHERE bucket = ? AND number = ?";
        tx.execute(text, params![bucket.number(), *number])?;
    }
    Ok(ids.len() == ORDERS_MAX || lines.len() == LINES_MAX || events.len() == EVENTS_MAX)
}

/// Removes these events from the outbox of the old database.
pub(crate) fn remove_events(tx: &mut Tx<'_>, numbers: &[i64]) -> Result<(), SqlError> {
    for number in numbers {
        tx.execute("DELETE FROM outbox WHERE number = ?", params![*number])?;
    }
    Ok(())
}

/// The events that came with the bucket are told from here, before any that comes later.
pub(crate) fn put_events_out(tx: &mut Tx<'_>, bucket: Bucket) -> Result<(), SqlError> {
    let text = "SELECT body FROM arriving_events WHERE bucket = ? ORDER BY number";
    for body in tx.query(text, params![bucket.number()], |row| row.text(0))? {
        outbox::put(tx, &body)?;
    }
    tx.execute("DELETE FROM arriving_events WHERE bucket = ?", params![bucket.number()]).map(drop)
}

/// Events that wait in a database.
pub(crate) fn count_events(tx: &mut Tx<'_>) -> Result<u64, SqlError> {
    let found = tx.query_first("SELECT COUNT(*) FROM outbox", &[], |row| row.count(0))?;
    Ok(found.unwrap_or_default())
}

/// Writes the bucket into some rows that versions without a directory have written. Returns whether
/// there may be more.
pub(crate) fn number_some(tx: &mut Tx<'_>) -> Result<bool, SqlError> {
    let text = "SELECT id FROM orders WHERE bucket IS NULL LIMIT ?";
    let ids = tx.query(text, params![LINES_MAX], |row| row.array(0).map(OrderId::from_bytes))?;
    for id in &ids {
        let text = "UPDATE orders SET bucket = ? WHERE id = ?";
        tx.execute(text, params![id.bucket().number(), &id.to_bytes()])?;
    }
    let text = "SELECT DISTINCT owner FROM cart_lines WHERE bucket IS NULL LIMIT ?";
    let owners = tx.query(text, params![LINES_MAX], |row| row.text(0))?;
    for owner in &owners {
        let text = "UPDATE cart_lines SET bucket = ? WHERE owner = ?";
        tx.execute(text, params![Bucket::of_shopper(owner).number(), owner])?;
    }
    Ok(ids.len() == LINES_MAX || owners.len() == LINES_MAX)
}

/// How many rows of each table there were, and what stood in them.
#[derive(Debug, Default)]
pub(crate) struct Digest(BTreeMap<&'static str, (u64, blake3::Hasher)>);

impl Digest {
    pub(crate) fn add(&mut self, page: &Page) {
        for (table, rows) in &page.tables {
            let (count, hasher) = self.0.entry(table.name).or_default();
            *count += rows.len() as u64;
            for value in rows.iter().flatten() {
                let (tag, bytes): (u8, &[u8]) = match value {
                    Value::Null => (0, &[]),
                    Value::Int(value) => (1, &value.to_be_bytes()),
                    Value::Text(text) => (2, text.as_bytes()),
                    Value::Bytes(bytes) => (3, bytes),
                };
                hasher.update(&[tag]).update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
            }
        }
    }

    /// A table that is not the same in the other.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let sum = |of: &Self, name: &str| {
            of.0.get(name).map(|(count, hasher)| (*count, hasher.finalize())).filter(|(count, _)| *count > 0)
        };
        let names = self.0.keys().chain(other.0.keys());
        names.copied().find(|name| sum(self, name) != sum(other, name))
    }

    pub(crate) fn orders(&self) -> u64 {
        self.0.get(ORDERS.name).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }
}

#[cfg(test)]
mod tests;
