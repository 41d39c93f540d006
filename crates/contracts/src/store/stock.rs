//! Stock: how many units of each SKU there are, and for whom they are set aside.

use super::{Asked, OrderId, Sku};
use crate::SaleId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;

/// How many units of a SKU there are. What is free is `on_hand - reserved - claimed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockLevel {
    pub sku: Sku,
    pub on_hand: u64,
    /// Set aside for orders that are not shipped.
    pub reserved: u64,
    /// Set aside for sales, without what was reserved of it for their orders.
    pub claimed: u64,
}

impl StockLevel {
    pub fn free(&self) -> u64 {
        self.on_hand.saturating_sub(self.reserved).saturating_sub(self.claimed)
    }
}

/// So many units of a SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockLine {
    pub sku: Sku,
    pub quantity: u32,
}

/// A SKU of which there was too little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lacking {
    pub sku: Sku,
    pub wanted: u32,
    pub free: u64,
}

/// What became of a reservation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserved {
    /// All of it is set aside.
    Whole,
    /// Nothing is: there is too little of these.
    Short(Vec<Lacking>),
}

/// From what an order's units are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TakenFrom {
    /// What is free.
    Free,
    /// What was claimed for this sale; if that is too little, what is free.
    Claim(SaleId),
}

/// What becomes of units that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CameBack {
    /// They can be sold again.
    Restock,
    /// They cannot.
    Scrap,
}

/// The port of the context `inventory`. Each order has one reservation, under its own id; saying
/// anything of it again is safe, changes nothing, and gets the same answer.
pub trait Stock: Send + Sync {
    /// Of those that are known, in the order in which they were asked for.
    fn levels(&self, skus: Vec<Sku>) -> Asked<'_, Vec<StockLevel>>;

    /// The same, for pages that show them: as they were up to a second ago.
    fn shown(&self, skus: Vec<Sku>) -> Asked<'_, Vec<StockLevel>> {
        self.levels(skus)
    }

    /// Sets units aside for an order, all of them or none. Unless they are confirmed, they are free
    /// again at `until`. [`Conflict`](super::StoreError::Conflict) if the order has a reservation
    /// of other lines, or one that was released.
    fn reserve(
        &self,
        order: OrderId,
        from: TakenFrom,
        lines: Vec<StockLine>,
        until: TimeMs,
    ) -> Asked<'_, Reserved>;

    /// The order is paid: its units stay set aside until they are shipped. A reservation that has
    /// expired is made again, if that can be.
    fn confirm(&self, order: OrderId) -> Asked<'_, Reserved>;

    /// The order does not want its units any more, also if they were confirmed. Nothing happens if
    /// there are none, or if they were shipped; the order can reserve none afterwards.
    fn release(&self, order: OrderId, reason: String) -> Asked<'_, ()>;

    /// The order's units have left the house.
    fn ship(&self, order: OrderId) -> Asked<'_, ()>;

    /// Units of an order came back; `key` tells one return from another.
    fn take_back(&self, order: OrderId, key: String, lines: Vec<StockLine>, what: CameBack) -> Asked<'_, ()>;
}
