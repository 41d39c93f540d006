//! The warehouses in their table.

use crate::core::{House, Houses};
use contracts::store::WarehouseId;
use engines::{
    params,
    sql::{Migration, Row, SqlError, Tx, trail, unexpected},
};
use schemars::JsonSchema;
use serde::Serialize;

/// Warehouses, at the most. All are read for each basket.
pub(crate) const WAREHOUSES_MAX: usize = 64;

pub(crate) const WAREHOUSES: Migration = Migration {
    name: "warehouses, and why a basket is taken from some of them",
    statements: &[
        "CREATE TABLE warehouses (
            id VARCHAR(40) PRIMARY KEY, name VARCHAR(100) NOT NULL, ships BIGINT NOT NULL,
            parcel_cost BIGINT NOT NULL, days BIGINT NOT NULL, version BIGINT NOT NULL)",
        // It may be run again, after an end of the process in the middle of it.
        "REPLACE INTO warehouses (id, name, ships, parcel_cost, days, version)
            VALUES ('main', 'Main warehouse', 1, 0, 0, 1)",
        "ALTER TABLE reservations ADD COLUMN why VARCHAR(200) NOT NULL DEFAULT ''",
    ],
};

/// What operators change of them.
pub(crate) const TRAIL: Migration = Migration { name: "what operators change", statements: trail::TABLES };

/// A warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Warehouse {
    pub warehouse: WarehouseId,
    pub name: String,
    /// Whether orders are sent from it. What lies in one that they are not sent from is for none of
    /// them, such as in a place for what came back.
    pub ships: bool,
    /// What a parcel from it costs, in whatever unit all of them have.
    pub parcel_cost: u64,
    /// After how many days a parcel from it arrives.
    pub days: u32,
    /// Counts changes.
    pub version: u64,
}

fn warehouse(row: &Row<'_>) -> Result<Warehouse, SqlError> {
    Ok(Warehouse {
        warehouse: row.parsed(0, "a warehouse")?,
        name: row.text(1)?,
        ships: row.count(2)? != 0,
        parcel_cost: row.count(3)?,
        days: u32::try_from(row.count(4)?).map_err(|_| unexpected(4, "days"))?,
        version: row.count(5)?,
    })
}

const ALL: &str = "SELECT id, name, ships, parcel_cost, days, version FROM warehouses ORDER BY id";

/// All of them, by their ids.
pub(crate) fn all(tx: &mut Tx<'_>) -> Result<Vec<Warehouse>, SqlError> {
    tx.query(ALL, &[], warehouse)
}

/// The same, and no other transaction changes them, or makes one, before this one has ended.
pub(crate) fn all_locked(tx: &mut Tx<'_>) -> Result<Vec<Warehouse>, SqlError> {
    tx.query_locked(ALL, &[], warehouse)
}

/// Those that orders are sent from.
pub(crate) fn houses(tx: &mut Tx<'_>) -> Result<Houses, SqlError> {
    let house = |of: Warehouse| (of.warehouse, House { parcel_cost: of.parcel_cost, days: of.days });
    Ok(all(tx)?.into_iter().filter(|of| of.ships).map(house).collect())
}

/// Stores a warehouse under its id. Returns whether it is new.
pub(crate) fn put(tx: &mut Tx<'_>, of: &Warehouse) -> Result<bool, SqlError> {
    let id = of.warehouse.as_str();
    let is_new = tx.insert_new(
        "INSERT INTO warehouses (id, name, ships, parcel_cost, days, version) VALUES (?, ?, ?, ?, ?, 1)",
        params![id, &of.name, of.ships, of.parcel_cost, of.days],
    )?;
    if !is_new {
        tx.execute(
            "UPDATE warehouses SET name = ?, ships = ?, parcel_cost = ?, days = ?, version = version + 1 \
             WHERE id = ?",
            params![&of.name, of.ships, of.parcel_cost, of.days, id],
        )?;
    }
    Ok(is_new)
}
