//! Derives the levels again: from the ledger, from the reservations that are open, from the claims
//! that are left, and from the transfers that are on their way. Each must say the same. It changes
//! nothing.

use crate::{
    core::{Level, Spot},
    store::{self, Entry, Stored},
    transfers,
};
use contracts::store::{Sku, WarehouseId};
use engines::sql::{Sql, SqlError, Tx};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Entries that are read at once.
const READ_MAX: usize = 2000;
/// Entries after which no further SKU is begun.
const ENTRIES_MAX: u64 = 200_000;

/// Something of which two parts of the database say different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    #[schemars(with = "Sku")]
    pub sku: String,
    pub warehouse: WarehouseId,
    /// Which figure, and where from it was derived.
    pub what: String,
    /// As the level says.
    pub level: u64,
    /// As it was derived.
    pub derived: u64,
}

/// What an audit has found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(rename = "StockAudit")]
pub struct Found {
    /// SKUs that were looked at.
    pub skus: u64,
    /// Entries of the ledger that were added up.
    pub entries: u64,
    pub differences: Vec<Difference>,
    /// Ask with `after` set to this for the SKUs after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Sku>")]
    pub next: Option<String>,
}

/// One state of the levels, and what others say of them.
struct Read {
    levels: Vec<Stored>,
    is_more: bool,
    by_orders: BTreeMap<Spot, u64>,
    by_sales: BTreeMap<Spot, u64>,
    by_transfers: BTreeMap<Spot, u64>,
}

fn read(tx: &mut Tx<'_>, after: &str, at_most: usize) -> Result<Read, SqlError> {
    let (levels, is_more) = store::levels(tx, "", after, at_most)?;
    let to = levels.last().map_or(after, |last| last.at.sku.as_str()).to_owned();
    let by_orders = store::reserved_by_orders(tx, after, &to)?;
    let by_sales = store::left_of_claims(tx, after, &to)?;
    let by_transfers = transfers::in_transit(tx, after, &to)?;
    Ok(Read { levels, is_more, by_orders, by_sales, by_transfers })
}

/// Audits SKUs after `after`.
pub(crate) async fn audit(sql: &Sql, after: String, at_most: usize) -> Result<Found, SqlError> {
    // Of two replicas the later one would lack entries that the other has counted.
    let sql = &sql.primary();
    let of = sql.read(move |tx| read(tx, &after, at_most)).await?;
    let mut found = Found::default();
    let (mut by_orders, mut by_sales, mut by_transfers) = (of.by_orders, of.by_sales, of.by_transfers);
    let mut levels = of.levels.into_iter().peekable();
    while let Some(stored) = levels.next() {
        let ledger = add_up(sql, &stored).await?;
        let by = |all: &mut BTreeMap<Spot, u64>| all.remove(&stored.at).unwrap_or_default();
        let figures = [
            ("on_hand, by the ledger", stored.level.on_hand, ledger.level.on_hand),
            ("reserved, by the ledger", stored.level.reserved, ledger.level.reserved),
            ("claimed, by the ledger", stored.level.claimed, ledger.level.claimed),
            ("reserved, by the orders", stored.level.reserved, by(&mut by_orders)),
            ("claimed, by the sales", stored.level.claimed, by(&mut by_sales)),
            ("in_transit, by the ledger", stored.level.in_transit, ledger.level.in_transit),
            ("in_transit, by the transfers", stored.level.in_transit, by(&mut by_transfers)),
            ("entries of the ledger", stored.sequence, ledger.entries),
        ];
        let differ = figures.into_iter().filter(|(_, level, derived)| level != derived);
        let Spot { sku, warehouse } = &stored.at;
        found.differences.extend(differ.map(|(what, level, derived)| Difference {
            sku: sku.to_string(),
            warehouse: warehouse.clone(),
            what: what.into(),
            level,
            derived,
        }));
        found.differences.extend(ledger.impossible.map(|sequence| Difference {
            sku: sku.to_string(),
            warehouse: warehouse.clone(),
            what: "the first entry that does not fit, by its number".into(),
            level: stored.sequence,
            derived: sequence,
        }));
        found.entries += ledger.entries;
        if levels.peek().is_some_and(|next| next.at.sku == *sku) {
            continue;
        }
        found.skus += 1;
        let has_more = levels.peek().is_some() || of.is_more;
        if has_more && (levels.peek().is_none() || found.entries >= ENTRIES_MAX) {
            found.next = Some(sku.to_string());
            break;
        }
    }
    // What is set aside where the stock has no level at all.
    let is_passed = |at: &Spot| found.next.as_ref().is_none_or(|next| at.sku.as_str() <= next.as_str());
    let of = |what: &'static str, all: BTreeMap<Spot, u64>| all.into_iter().map(move |of| (what, of));
    let strays = of("reserved, by the orders", by_orders)
        .chain(of("claimed, by the sales", by_sales))
        .chain(of("in_transit, by the transfers", by_transfers));
    let strays = strays.filter(|(_, (at, _))| is_passed(at)).map(|(what, (at, derived))| Difference {
        sku: at.sku.to_string(),
        warehouse: at.warehouse,
        what: what.into(),
        level: 0,
        derived,
    });
    let strays: Vec<Difference> = strays.collect();
    found.differences.extend(strays);
    Ok(found)
}

/// What the ledger of a SKU adds up to.
#[derive(Debug, Default)]
struct Ledger {
    level: Level,
    entries: u64,
    impossible: Option<u64>,
}

/// Adds up the entries that the level says it has. They do not change, so they need not be read at
/// once.
async fn add_up(sql: &Sql, stored: &Stored) -> Result<Ledger, SqlError> {
    let mut ledger = Ledger::default();
    let mut after = 0;
    loop {
        let at = stored.at.clone();
        let entries = sql.read(move |tx| store::oldest_entries(tx, &at, after, READ_MAX)).await?;
        let Some(last) = entries.last().map(|entry| entry.sequence) else { return Ok(ledger) };
        for entry in entries.iter().take_while(|entry| entry.sequence <= stored.sequence) {
            add(&mut ledger, entry);
        }
        if last >= stored.sequence {
            return Ok(ledger);
        }
        after = last;
    }
}

fn add(ledger: &mut Ledger, entry: &Entry) {
    ledger.entries += 1;
    match ledger.level.after(entry.moved.movement) {
        Ok(level) => ledger.level = level,
        Err(_) => ledger.impossible = ledger.impossible.or(Some(entry.sequence)),
    }
}
