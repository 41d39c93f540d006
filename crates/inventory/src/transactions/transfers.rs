//! Transfers: each step in one transaction.

use super::{StockError, has_shelf};
use crate::{
    core::{Basket, Shelves, Spot, Transfer, TransferLine, TransferRefused},
    store::{self, Locked},
    transfers::{self, Sending},
    warehouses,
};
use contracts::{
    Actor,
    store::{Sku, TransferId, WarehouseId},
};
use engines::sql::{SqlError, Tx};
use std::collections::BTreeSet;
use units::TimeMs;

/// Sends units off, unless that is done already. Returns the transfer, and whether it is new.
pub(crate) fn send(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    of: &Sending,
) -> Result<(Transfer, bool), StockError> {
    let refused = |why| StockError::Transfer(of.transfer.clone(), why);
    // Before the levels are locked, as those do who change it.
    if !transfers::begin(tx, now, of)? {
        let found = transfers::find(tx, &of.transfer, false)?;
        return repeated(found.ok_or(SqlError::Contended)?, of);
    }
    let known = warehouses::all(tx)?;
    if let Some(none) = [&of.from, &of.to].into_iter().find(|id| known.iter().all(|of| of.warehouse != **id))
    {
        return Err(StockError::UnknownWarehouse(none.clone()));
    }
    let spots = of.basket.keys().flat_map(|sku| [&of.from, &of.to].map(|place| spot(sku, place)));
    let spots: BTreeSet<Spot> = spots.collect();
    let mut locked = Locked::default();
    for at in &spots {
        store::lock_also(tx, at, &mut locked)?;
    }
    let here: BTreeSet<Sku> = locked.shelves.keys().map(|at| at.sku.clone()).collect();
    for sku in of.basket.keys().filter(|sku| !here.contains(*sku)) {
        if store::levels_of(tx, sku)?.is_empty() {
            return Err(StockError::UnknownSku(sku.clone()));
        }
    }
    for at in &spots {
        has_shelf(tx, at, &mut locked)?;
    }
    let (places, times) = ([of.from.clone(), of.to.clone()], (now, of.expected_at));
    let sent = Transfer::send(of.transfer.clone(), places, &of.basket, times, &mut locked.shelves);
    let sent = sent.map_err(refused)?;
    transfers::put_lines(tx, &sent)?;
    store::save(tx, now, by, &mut locked)?;
    Ok((sent, true))
}

fn repeated(found: Transfer, of: &Sending) -> Result<(Transfer, bool), StockError> {
    let has_line = |(sku, line): (_, &TransferLine)| of.basket.get(sku) == Some(&line.sent);
    let is_same = found.from == of.from
        && found.to == of.to
        && found.expected_at == of.expected_at
        && found.lines.len() == of.basket.len()
        && found.lines.iter().all(has_line);
    match is_same {
        true => Ok((found, false)),
        false => Err(StockError::OtherTransfer(of.transfer.clone())),
    }
}

fn spot(sku: &Sku, warehouse: &WarehouseId) -> Spot {
    Spot { sku: sku.clone(), warehouse: warehouse.clone() }
}

/// Units of it arrive.
pub(crate) fn arrive(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    id: &TransferId,
    basket: &Basket,
) -> Result<Transfer, StockError> {
    change(
        tx,
        now,
        by,
        id,
        |sku, _| basket.contains_key(sku),
        |of, shelves| of.arrive(basket, shelves).map(|()| true),
    )
}

/// What has not arrived is lost.
pub(crate) fn close(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    id: &TransferId,
) -> Result<Transfer, StockError> {
    change(tx, now, by, id, |_, line| line.in_transit() > 0, Transfer::close)
}

/// Changes a transfer. The levels of the lines that are `wanted` are locked, where they arrive.
fn change(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    id: &TransferId,
    wanted: impl Fn(&Sku, &TransferLine) -> bool,
    act: impl FnOnce(&mut Transfer, &mut Shelves) -> Result<bool, TransferRefused>,
) -> Result<Transfer, StockError> {
    let before = transfers::find(tx, id, true)?.ok_or_else(|| StockError::NoTransfer(id.clone()))?;
    let mut locked = Locked::default();
    for (sku, _) in before.lines.iter().filter(|(sku, line)| wanted(sku, line)) {
        store::lock_also(tx, &spot(sku, &before.to), &mut locked)?;
    }
    let mut of = before.clone();
    let acted = act(&mut of, &mut locked.shelves);
    if acted.map_err(|why| StockError::Transfer(id.clone(), why))? {
        transfers::put(tx, &before, &of)?;
        store::save(tx, now, by, &mut locked)?;
    }
    Ok(of)
}
