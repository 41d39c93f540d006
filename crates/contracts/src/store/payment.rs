//! Payments: money for an order, through a provider.

use super::{AccountId, Asked, OrderId, PaymentId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::{Money, TimeMs};

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// The shopper has not paid yet.
    Pending,
    /// The provider has the money.
    Succeeded,
    /// The provider refused it. The shopper may try again with another one.
    Failed,
    /// A refund was asked for, and the provider has not said yet that it was done.
    Refunding,
    Refunded,
}

impl PaymentState {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Succeeded, Self::Failed, Self::Refunding, Self::Refunded];

    /// Its name in JSON, in databases and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentView {
    pub id: PaymentId,
    pub order: OrderId,
    pub state: PaymentState,
    pub amount: Money,
    /// What is back with the shopper, in minor units.
    pub refunded_minor: u64,
    /// What the provider calls it.
    pub provider_reference: String,
    pub created_at: TimeMs,
}

/// What is to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPayment {
    pub order: OrderId,
    pub shopper: AccountId,
    pub amount: Money,
    /// Where the provider's page leads back to: a path of the shop.
    pub return_path: String,
}

/// A payment that the shopper can make now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedPayment {
    pub payment: PaymentId,
    /// Where the shopper pays: the provider's page.
    pub url: String,
}

/// The port of the context `payment`.
pub trait Payments: Send + Sync {
    /// Starts a payment, or finds the pending one of the same order and amount.
    fn start(&self, start: StartPayment) -> Asked<'_, StartedPayment>;

    /// Of an order, oldest first.
    fn of_order(&self, order: OrderId) -> Asked<'_, Vec<PaymentView>>;

    /// All of it goes back to the shopper, or what has not gone back yet. Saying it again is safe.
    fn refund(&self, payment: PaymentId, reason: String) -> Asked<'_, ()>;

    /// A part of it goes back. `key` tells one part from another, and is told with it: saying the
    /// same again is safe. [`Conflict`](super::StoreError::Conflict) if so much is not left.
    fn refund_part(
        &self,
        payment: PaymentId,
        key: String,
        amount_minor: u64,
        reason: String,
    ) -> Asked<'_, ()>;

    /// The part with this key, of this sum, went back elsewhere: it does not go back here any more,
    /// also if it is asked for later. Saying it again is safe.
    /// [`Conflict`](super::StoreError::Conflict) if it goes back here: so much is left, or the
    /// provider has taken it.
    fn forgo_part(&self, payment: PaymentId, key: String, amount_minor: u64) -> Asked<'_, ()>;
}
