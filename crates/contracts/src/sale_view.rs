//! A sale as everybody may see it: what the gate needs in order to answer without asking.

use crate::SaleSpec;
use serde::Serialize;
use std::sync::Arc;
use units::{SaleId, Sequence, TimeMs};

/// Where a sale stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// A round is still to open, and none is open.
    Scheduled,
    Open,
    Paused,
    /// No round is open or to come.
    Closed,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Not offered now, but in a round to come.
    Upcoming,
    /// Units are free. Whether somebody who asks now may get one, the sale's state says.
    Available,
    /// No unit is free.
    SoldOut,
}

/// An item in a [`SaleView`], in the order of the sale's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemView {
    pub state: ItemState,
    /// The open round offers it, or one to come.
    pub offered: bool,
    /// The waitlist has room for one more.
    pub waitlist_open: bool,
    /// The price in the current round (or the next), in minor units.
    pub price_minor: u64,
}

/// What a sale publishes whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleView {
    pub sale: SaleId,
    pub spec: Arc<SaleSpec>,
    pub state: SaleState,
    /// Rounds that have opened so far; the last of them is the current one.
    pub rounds_opened: u16,
    /// Of the open round, or else of the next; of the last when all is over. What has happened already is told as it happened:
    /// when the round did open, when it did end.
    pub opens_at: TimeMs,
    pub closes_at: TimeMs,
    pub items: Vec<ItemView>,
    pub rate_per_second: u32,
    /// Paused because the disk is full, not by an operator.
    pub disk_full: bool,
    pub as_of: Sequence,
}
