//! The port of payment providers: companies that take a shopper's money, and tell of it by
//! webhooks.

use crate::core::Said;
use contracts::store::{Asked, OrderId, PaymentId};
use http::HeaderMap;
use units::{DurationMs, Money, TimeMs};

/// A payment to be made at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Also the key by which the provider recognises a repeat.
    pub payment: PaymentId,
    pub order: OrderId,
    pub amount: Money,
    /// Where the provider's page leads back to: a path of the shop.
    pub return_path: String,
}

/// The same at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// What the provider calls it.
    pub reference: String,
    /// Where the shopper pays.
    pub url: String,
}

/// Money that is to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundAsked {
    pub payment: PaymentId,
    pub reference: String,
    /// With the payment, what the provider recognises a repeat by.
    pub key: String,
    pub amount: Money,
}

/// One thing that a provider tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The provider's own; the same event again has the same one.
    pub id: String,
    /// Which payment, if the provider was told so; else it is found by the reference.
    pub payment: Option<PaymentId>,
    /// What the provider calls the payment, from now on if it said something else before.
    pub reference: String,
    pub said: Said,
    /// The provider's number of the money that was taken or given back: the same in all that tells
    /// of it, so that it counts once. Empty if no money moved.
    pub movement: String,
    /// What was taken, or given back.
    pub amount: Money,
    /// Of what went back: the key of the refund that the shop asked for.
    pub refund_key: Option<String>,
}

/// A page of a provider's books, by its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerPage {
    /// Money that was taken or given back, and when; and refunds that have failed, by the time at
    /// which they were asked for.
    pub movements: Vec<(TimeMs, Event)>,
    /// What asks for the next page; none if this is the last.
    pub next: Option<String>,
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookError {
    /// It is not signed by the provider, or its signature is too old.
    Signature,
    /// It is signed, and cannot be read: a defect, or a newer version of the provider's interface.
    Form(String),
}

/// A provider.
pub trait Provider: Send + Sync {
    /// Its name in URLs and in the database: `sandbox`, `stripe`.
    fn name(&self) -> &'static str;

    /// Whether its events name the payment as the shop does; else they have its reference alone.
    fn names_payments(&self) -> bool {
        false
    }

    /// Whether it has books of what it took and gave back.
    fn has_books(&self) -> bool {
        true
    }

    /// For how long a payment that was begun can be made; after that another one is begun.
    fn good_for(&self) -> DurationMs {
        DurationMs(u64::MAX)
    }

    /// Starts a payment. Repeated, it finds the same.
    fn start(&self, intent: Intent) -> Asked<'_, Started>;

    /// Gives money of a payment back. Repeated, it gives it back once, and tells what became of it
    /// if that is known already.
    fn refund(&self, refund: RefundAsked) -> Asked<'_, Option<Event>>;

    /// Reads a webhook: what it tells, which may be nothing of interest.
    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, WebhookError>;

    /// The provider's books of this time: all that it has taken and given back, whether a webhook
    /// told of it or not. `after` is the [`next`](LedgerPage::next) of the page before.
    fn ledger(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage>;

    /// Of its books of this time the refunds alone, for a provider whose refunds may fail days
    /// later: those that were made, and those that have failed since.
    fn refunds(&self, _from: TimeMs, _to: TimeMs, _after: Option<String>) -> Asked<'_, LedgerPage> {
        Box::pin(std::future::ready(Ok(LedgerPage::default())))
    }
}
