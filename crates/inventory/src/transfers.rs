//! Transfers in their tables.

use crate::core::{Basket, Spot, Transfer, TransferLine, TransferState};
use contracts::store::{Sku, TransferId, WarehouseId};
use engines::{
    params, row,
    sql::{Migration, Row, SqlError, Tx, unexpected},
};
use std::collections::BTreeMap;
use units::TimeMs;

pub(crate) const TRANSFERS: Migration = Migration {
    name: "transfers between warehouses, and what is in transit",
    statements: &[
        "CREATE TABLE transfers (
            id VARCHAR(40) PRIMARY KEY, from_warehouse VARCHAR(40) NOT NULL,
            to_warehouse VARCHAR(40) NOT NULL, state VARCHAR(20) NOT NULL, sent_at BIGINT NOT NULL,
            expected_at BIGINT, version BIGINT NOT NULL)",
        "CREATE INDEX transfers_by_state ON transfers (state, id)",
        "CREATE TABLE transfer_lines (
            transfer VARCHAR(40) NOT NULL, sku VARCHAR(64) NOT NULL, sent BIGINT NOT NULL,
            arrived BIGINT NOT NULL, lost BIGINT NOT NULL, PRIMARY KEY (transfer, sku),
            CHECK (arrived >= 0 AND lost >= 0 AND sent >= arrived + lost))",
        "ALTER TABLE levels ADD COLUMN in_transit BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE entries ADD COLUMN transfer VARCHAR(40)",
    ],
};

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) transfer: TransferId,
    pub(crate) from: WarehouseId,
    pub(crate) to: WarehouseId,
    pub(crate) basket: Basket,
    pub(crate) expected_at: Option<TimeMs>,
}

pub(crate) fn quantity(row: &Row<'_>, column: usize) -> Result<u32, SqlError> {
    u32::try_from(row.count(column)?).map_err(|_| unexpected(column, "a quantity"))
}

const COLUMNS: &str = "id, from_warehouse, to_warehouse, state, sent_at, expected_at, version";

fn transfer(row: &Row<'_>) -> Result<Transfer, SqlError> {
    let state = TransferState::from_name(&row.text(3)?).ok_or_else(|| unexpected(3, "a state"))?;
    Ok(Transfer {
        transfer: row.parsed(0, "a transfer")?,
        from: row.parsed(1, "a warehouse")?,
        to: row.parsed(2, "a warehouse")?,
        state,
        sent_at: TimeMs(row.count(4)?),
        expected_at: row.maybe_count(5)?.map(TimeMs),
        lines: BTreeMap::new(),
        version: row.count(6)?,
    })
}

fn lines_of(tx: &mut Tx<'_>, transfer: &TransferId) -> Result<BTreeMap<Sku, TransferLine>, SqlError> {
    let text = "SELECT sku, sent, arrived, lost FROM transfer_lines WHERE transfer = ?";
    let lines = tx.query(text, params![transfer.as_str()], |row| {
        let (sent, arrived, lost) = (quantity(row, 1)?, quantity(row, 2)?, quantity(row, 3)?);
        Ok((row.parsed(0, "a sku")?, TransferLine { sent, arrived, lost }))
    })?;
    Ok(lines.into_iter().collect())
}

/// Makes a new transfer's row, without its lines, unless there is one of its name.
pub(crate) fn begin(tx: &mut Tx<'_>, sent_at: TimeMs, of: &Sending) -> Result<bool, SqlError> {
    let (state, expected_at) = (TransferState::InTransit, of.expected_at.map(|at| at.0));
    tx.insert_new(
        "INSERT INTO transfers (id, from_warehouse, to_warehouse, state, sent_at, expected_at, version) \
         VALUES (?, ?, ?, ?, ?, ?, 1)",
        params![
            of.transfer.as_str(),
            of.from.as_str(),
            of.to.as_str(),
            state.as_str(),
            sent_at.0,
            expected_at
        ],
    )
}

pub(crate) fn put_lines(tx: &mut Tx<'_>, of: &Transfer) -> Result<(), SqlError> {
    let rows = of.lines.iter().map(|(sku, TransferLine { sent, arrived, lost })| {
        row![of.transfer.as_str(), sku.as_str(), *sent, *arrived, *lost]
    });
    let text = "INSERT INTO transfer_lines (transfer, sku, sent, arrived, lost)";
    tx.insert_all(text, &rows.collect::<Vec<_>>())
}

/// Writes a transfer that has changed, and its lines where they have.
pub(crate) fn put(tx: &mut Tx<'_>, before: &Transfer, of: &Transfer) -> Result<(), SqlError> {
    let id = of.transfer.as_str();
    let text = "UPDATE transfers SET state = ?, version = ? WHERE id = ?";
    tx.execute(text, params![of.state.as_str(), of.version, id])?;
    for (sku, line) in of.lines.iter().filter(|(sku, line)| before.lines.get(*sku) != Some(*line)) {
        let text = "UPDATE transfer_lines SET arrived = ?, lost = ? WHERE transfer = ? AND sku = ?";
        tx.execute(text, params![line.arrived, line.lost, id, sku.as_str()])?;
    }
    Ok(())
}

/// A transfer. `is_locked`: no other transaction changes it before this one has ended.
pub(crate) fn find(tx: &mut Tx<'_>, id: &TransferId, is_locked: bool) -> Result<Option<Transfer>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM transfers WHERE id = ?");
    let found = match is_locked {
        true => tx.query_locked(&text, params![id.as_str()], transfer)?,
        false => tx.query(&text, params![id.as_str()], transfer)?,
    };
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    Ok(Some(Transfer { lines: lines_of(tx, id)?, ..found }))
}

/// A transfer in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Without its lines.
    pub(crate) transfer: Transfer,
    pub(crate) lines: u64,
    pub(crate) in_transit: u64,
}

/// Transfers in a state, with names after `after`.
pub(crate) fn page(
    tx: &mut Tx<'_>,
    state: TransferState,
    after: &str,
    at_most: usize,
) -> Result<Vec<Listed>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM transfers WHERE state = ? AND id > ? ORDER BY id LIMIT ?");
    let found = tx.query(&text, params![state.as_str(), after, at_most], transfer)?;
    let sums = found.into_iter().map(|transfer| {
        let text = "SELECT COUNT(*), CAST(SUM(sent - arrived - lost) AS SIGNED) FROM transfer_lines WHERE transfer = ?";
        let sums = tx.query_first(text, params![transfer.transfer.as_str()], |row| {
            Ok((row.count(0)?, row.maybe_count(1)?.unwrap_or_default()))
        })?;
        let (lines, in_transit) = sums.unwrap_or_default();
        Ok(Listed { transfer, lines, in_transit })
    });
    sums.collect()
}

/// Units on their way of each SKU after `after`, up to `to`, by where they will arrive.
pub(crate) fn in_transit(tx: &mut Tx<'_>, after: &str, to: &str) -> Result<BTreeMap<Spot, u64>, SqlError> {
    let rows = tx.query(
        "SELECT l.sku, t.to_warehouse, CAST(SUM(l.sent - l.arrived - l.lost) AS SIGNED) \
         FROM transfers t JOIN transfer_lines l ON l.transfer = t.id \
         WHERE t.state = ? AND l.sku > ? AND l.sku <= ? GROUP BY l.sku, t.to_warehouse",
        params![TransferState::InTransit.as_str(), after, to],
        |row| {
            let at = Spot { sku: row.parsed(0, "a sku")?, warehouse: row.parsed(1, "a warehouse")? };
            Ok((at, row.count(2)?))
        },
    )?;
    Ok(rows.into_iter().filter(|(_, units)| *units > 0).collect())
}
