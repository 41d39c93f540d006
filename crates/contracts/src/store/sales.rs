//! What the shop's pages show of a sale, and what a shopper brings back from it.

use crate::{AttemptId, ItemId, SaleId, SaleState};
use units::TimeMs;

/// A sale and one of its items, as of a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaleSeen {
    pub state: SaleState,
    pub opens_at: TimeMs,
    /// The item is gone, and no place on its waitlist is left.
    pub is_sold_out: bool,
}

/// The port of sales, for what is shown of them. It never waits for a sale.
pub trait SaleViews: Send + Sync {
    /// `None` of a sale or an item that is not known here.
    fn seen(&self, sale: &SaleId, item: &ItemId) -> Option<SaleSeen>;
}

/// What a sale says of an attempt in a return URL, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleReturn {
    pub sale: SaleId,
    pub attempt: AttemptId,
    /// Whose attempt it is: the subject of the shop's token.
    pub shopper: String,
    pub outcome: ReturnedOutcome,
}

/// How an attempt has ended, or stands, when its shopper goes back to the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnedOutcome {
    /// A ticket: something is held for the shopper, or paid.
    Won,
    Waitlisted,
    SoldOut,
    LimitReached,
    NotEligible,
    Closed,
    /// Given back.
    Released,
    /// Not paid in time.
    Expired,
    /// Taken back by an operator.
    Voided,
}

impl ReturnedOutcome {
    /// By the name that a signed outcome has; a ticket is not one.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "waitlisted" => Self::Waitlisted,
            "sold_out" => Self::SoldOut,
            "limit_reached" => Self::LimitReached,
            "not_eligible" => Self::NotEligible,
            "closed" => Self::Closed,
            "released" => Self::Released,
            "expired" => Self::Expired,
            "voided" => Self::Voided,
            _ => return None,
        })
    }
}

/// The port that reads return URLs.
pub trait SaleReturns: Send + Sync {
    /// What the sale has signed for this shop; `None` of anything else, and of an outcome that is
    /// too old to be shown.
    fn read(&self, signed: &str) -> Option<SaleReturn>;
}
