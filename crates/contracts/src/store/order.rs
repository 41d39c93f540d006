//! Orders: what was bought, by whom, and how far it is.

use super::{
    AccountId, Address, Asked, OrderId, PaymentId, RequestReturn, ReturnView, Sku, catalog::Page,
    charges::Charges,
};
use crate::{AttemptId, SaleId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::{Money, TimeMs};

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// A cart has become it, and its units are not set aside yet.
    Created,
    /// It waits for its payment.
    AwaitingPayment,
    /// It is paid for, and what was bought is the shopper's.
    Paid,
    /// Stock of a warehouse is set aside for it.
    Allocated,
    Shipped,
    Delivered,
    /// The shopper or an operator gave it up before it was shipped.
    Cancelled,
    /// It was not paid for in time.
    Expired,
    /// What was bought came back.
    Returned,
    /// All that was paid went back.
    Refunded,
    /// A part of it did.
    PartRefunded,
}

impl OrderState {
    pub const ALL: [Self; 11] = [
        Self::Created,
        Self::AwaitingPayment,
        Self::Paid,
        Self::Allocated,
        Self::Shipped,
        Self::Delivered,
        Self::Cancelled,
        Self::Expired,
        Self::Returned,
        Self::Refunded,
        Self::PartRefunded,
    ];

    /// Its name in JSON, in databases and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Paid => "paid",
            Self::Allocated => "allocated",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Returned => "returned",
            Self::Refunded => "refunded",
            Self::PartRefunded => "part_refunded",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A hold in a sale.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct HoldRef {
    pub sale: SaleId,
    pub hold: AttemptId,
}

/// Where an order comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderOrigin {
    /// A hold that was granted in a sale.
    Sale(HoldRef),
    /// A cart.
    Cart,
}

/// A line of an order, as it was bought: later changes of the catalogue do not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderLine {
    /// The stock-keeping unit, or the sale's item if the catalogue has no product for it.
    pub sku: Sku,
    pub name: String,
    pub name_zh: String,
    pub quantity: u32,
    /// Of one unit, in minor units of the order's currency.
    pub price_minor: u64,
}

/// One step of an order: who did it, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    pub at: TimeMs,
    /// `None` for the first one.
    pub from: Option<OrderState>,
    pub to: OrderState,
    pub actor: String,
    pub reason: String,
}

/// How the payment of an order stands, as far as the order knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentSeen {
    /// None has succeeded.
    None,
    /// It was received, and the sale has not said yet whether the hold was still good.
    BeingConfirmed,
    /// It was received, and paid for the order.
    Received,
    /// It came too late, or twice: it goes back to the shopper.
    ToRefund,
    Refunded,
}

impl PaymentSeen {
    pub const ALL: [Self; 5] =
        [Self::None, Self::BeingConfirmed, Self::Received, Self::ToRefund, Self::Refunded];

    /// Its name in JSON and in databases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::BeingConfirmed => "being_confirmed",
            Self::Received => "received",
            Self::ToRefund => "to_refund",
            Self::Refunded => "refunded",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|seen| seen.as_str() == name)
    }
}

/// Where a parcel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    pub carrier: String,
    pub tracking: String,
}

/// An order as its shopper and its seller see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderView {
    pub id: OrderId,
    pub shopper: String,
    pub origin: OrderOrigin,
    pub state: OrderState,
    pub payment: PaymentSeen,
    pub lines: Vec<OrderLine>,
    pub charges: Charges,
    pub total: Money,
    /// Where it goes; none until the shopper has said so.
    pub address: Option<Address>,
    /// Until when it waits for its payment.
    pub pay_by: Option<TimeMs>,
    pub delivery: Option<Delivery>,
    pub created_at: TimeMs,
    /// Counts its changes; a change names the version that it was made for.
    pub version: u64,
    /// Oldest first.
    pub history: Vec<Transition>,
    /// By their numbers.
    pub returns: Vec<ReturnView>,
}

/// The port of the context `order`, for the shopper whose orders they are: another shopper's order
/// is not found.
pub trait Orders: Send + Sync {
    /// Newest first.
    fn orders(&self, shopper: AccountId, after: Option<String>, at_most: usize)
    -> Asked<'_, Page<OrderView>>;

    fn order(&self, shopper: AccountId, order: OrderId) -> Asked<'_, Option<OrderView>>;

    /// The order of a hold, once it has come in from the sale.
    fn of_hold(&self, shopper: AccountId, hold: HoldRef) -> Asked<'_, Option<OrderView>>;

    /// Says where an order goes that is not packed yet.
    fn send_to(&self, shopper: AccountId, order: OrderId, address: Address) -> Asked<'_, OrderView>;

    /// Asks to send units back. The order's new view has the return.
    fn request_return(
        &self,
        shopper: AccountId,
        order: OrderId,
        wanted: RequestReturn,
    ) -> Asked<'_, OrderView>;

    /// The shopper keeps what was to come back.
    fn withdraw_return(&self, shopper: AccountId, order: OrderId, number: u32) -> Asked<'_, OrderView>;

    /// Gives an order up that waits for its payment.
    fn cancel(&self, shopper: AccountId, order: OrderId) -> Asked<'_, OrderView>;
}

/// What a sale said to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaleDecision {
    /// The units are the shopper's.
    Confirmed,
    /// They are not: the payment goes back.
    Refund,
}

/// What orders ask of a sale; `floodgate` wires the sales into it, of this process or of another.
pub trait SaleHolds: Send + Sync {
    /// The hold was paid. Saying it again is safe, and gets the same answer.
    fn confirm(&self, hold: HoldRef, payment: PaymentId) -> Asked<'_, SaleDecision>;

    /// The shopper gives the hold back.
    fn release(&self, hold: HoldRef) -> Asked<'_, ()>;
}
