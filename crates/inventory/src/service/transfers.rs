//! Transfers between warehouses, as operators make them.

use super::{KEYS, Service, invalid, of_stock, once};
use crate::{
    core::{self, Basket, Transfer, TransferState},
    transactions::{StockError, transfers},
    transfers::{self as rows, Sending},
};
use contracts::{
    Actor, CommandKey,
    store::{Sku, StockLine, StoreError, TransferId, WarehouseId},
};
use engines::sql::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;
use web::command_key::hash;

const COMMANDS: &str = "floodgate inventory arrivals v1";

/// Units on their way from one warehouse to another, or that were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StockTransfer")]
pub struct TransferView {
    pub transfer: TransferId,
    pub from: WarehouseId,
    pub to: WarehouseId,
    pub state: TransferState,
    pub sent_at: TimeMs,
    /// When they are thought to arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_at: Option<TimeMs>,
    pub lines: Vec<TransferLineView>,
    /// Counts changes.
    pub version: u64,
}

/// What it has of one SKU. `sent` is the sum of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StockTransferLine")]
pub struct TransferLineView {
    pub sku: Sku,
    pub sent: u32,
    pub arrived: u32,
    pub lost: u32,
    pub in_transit: u32,
}

impl From<Transfer> for TransferView {
    fn from(of: Transfer) -> Self {
        let Transfer { transfer, from, to, state, sent_at, expected_at, lines, version } = of;
        let lines = lines.into_iter().map(|(sku, line)| TransferLineView {
            sku,
            sent: line.sent,
            arrived: line.arrived,
            lost: line.lost,
            in_transit: line.in_transit(),
        });
        Self { transfer, from, to, state, sent_at, expected_at, lines: lines.collect(), version }
    }
}

/// A transfer in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "StockTransferListed")]
pub struct TransferListed {
    pub transfer: TransferId,
    pub from: WarehouseId,
    pub to: WarehouseId,
    pub state: TransferState,
    pub sent_at: TimeMs,
    /// When it is thought to arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_at: Option<TimeMs>,
    /// How many SKUs it has.
    pub lines: u64,
    /// Units of all of them that are on their way.
    pub in_transit: u64,
    /// Counts changes.
    pub version: u64,
}

impl From<rows::Listed> for TransferListed {
    fn from(rows::Listed { transfer: of, lines, in_transit }: rows::Listed) -> Self {
        let Transfer { transfer, from, to, state, sent_at, expected_at, version, .. } = of;
        Self { transfer, from, to, state, sent_at, expected_at, lines, in_transit, version }
    }
}

/// Each SKU once: one that is pasted twice is not sent twice.
fn each_once(lines: &[StockLine]) -> Result<Basket, StoreError> {
    let basket = core::basket(lines).map_err(invalid)?;
    match basket.len() == lines.len() {
        true => Ok(basket),
        false => Err(invalid("lines: want each SKU once")),
    }
}

/// What is to be sent, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    pub transfer: TransferId,
    pub from: WarehouseId,
    pub to: WarehouseId,
    pub lines: Vec<StockLine>,
    pub expected_at: Option<TimeMs>,
}

impl Service {
    /// Sends units from one warehouse to another. The same again changes nothing. Returns the
    /// transfer, and whether it is new.
    pub async fn send_transfer(&self, by: Actor, of: Send) -> Result<(TransferView, bool), StoreError> {
        let Send { transfer, from, to, lines, expected_at } = of;
        let basket = each_once(&lines)?;
        let expected_at = expected_at.map(|at| at.min(TimeMs::MAX));
        let (now, of) = (self.clock.now(), Sending { transfer, from, to, basket, expected_at });
        let done = self.write(move |tx| transfers::send(tx, now, &by, &of)).await;
        done.map(|(of, is_new)| (of.into(), is_new)).map_err(of_stock)
    }

    /// Units of a transfer arrive; with a key, once.
    pub async fn arrive(
        &self,
        by: Actor,
        key: Option<String>,
        transfer: TransferId,
        lines: Vec<StockLine>,
    ) -> Result<TransferView, StoreError> {
        let (basket, now) = (each_once(&lines)?, self.clock.now());
        let key = key.map(|key| {
            let lines = basket.iter().flat_map(|(sku, units)| [sku.to_string(), units.to_string()]);
            let said: Vec<String> =
                [by.reason.clone(), transfer.to_string()].into_iter().chain(lines).collect();
            let said: Vec<&str> = said.iter().map(String::as_str).collect();
            CommandKey { id: hash(KEYS, &[&by.name, &key]), command: hash(COMMANDS, &said) }
        });
        let done = self.write(move |tx| {
            let arrive =
                |tx: &mut Tx<'_>| transfers::arrive(tx, now, &by, &transfer, &basket).map(TransferView::from);
            match key {
                Some(key) => once(tx, now, key, arrive),
                None => arrive(tx),
            }
        });
        done.await.map_err(of_stock)
    }

    /// What has not arrived of a transfer is lost. Repeated, it changes nothing.
    pub async fn close_transfer(&self, by: Actor, transfer: TransferId) -> Result<TransferView, StoreError> {
        let now = self.clock.now();
        let done = self.write(move |tx| transfers::close(tx, now, &by, &transfer));
        done.await.map(Into::into).map_err(of_stock)
    }

    pub async fn transfer(&self, transfer: TransferId) -> Result<TransferView, StoreError> {
        let id = transfer.clone();
        let found = self.read(move |tx| rows::find(tx, &id, false)).await?;
        found.map(Into::into).ok_or_else(|| of_stock(StockError::NoTransfer(transfer)))
    }

    /// Transfers in a state, with names after `after`.
    pub async fn transfers(
        &self,
        state: TransferState,
        after: String,
        at_most: usize,
    ) -> Result<Vec<TransferListed>, StoreError> {
        let found = self.read(move |tx| rows::page(tx, state, &after, at_most.clamp(1, 100))).await?;
        Ok(found.into_iter().map(Into::into).collect())
    }
}
