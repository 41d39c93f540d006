//! What a sale publishes: winners for a store, and a shopper's own record.

use crate::{AttemptId, Basket, SealedShopper, ShopperKey, StoredAttempt};
use serde::{Deserialize, Serialize};
use std::fmt;
use units::{Sequence, TimeMs};

/// One event of a hold, as a line of the winners' feed for a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    pub sequence: Sequence,
    pub at: TimeMs,
    pub hold: AttemptId,
    pub event: WinnerEvent,
}

/// What happened to the hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WinnerEvent {
    Granted {
        sealed: SealedShopper,
        shopper: ShopperKey,
        basket: Basket,
        /// Price of a unit of each of the basket's lines, in minor units.
        prices_minor: Vec<u64>,
        pay_by: TimeMs,
    },
    Confirmed {
        payment: String,
        late: bool,
    },
    Released,
    Expired,
    Voided {
        reason: String,
    },
    /// A payment came that bought nothing, and must be refunded. It is no line of the winners'
    /// feed, but of the feed of refunds.
    RefundDue {
        payment: String,
    },
}

/// What a sale tells the other contexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaleEvent {
    /// Of a hold.
    Hold(Winner),
    /// A round, the first being 0, opened or closed.
    RoundOpened {
        sequence: Sequence,
        at: TimeMs,
        round: u16,
    },
    RoundClosed {
        sequence: Sequence,
        at: TimeMs,
        round: u16,
    },
    /// No unit of the item is free after this entry; before, one was, or nothing was told yet.
    SoldOut {
        sequence: Sequence,
        at: TimeMs,
        item: u16,
    },
}

/// All that a sale keeps of one shopper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShopperRecord {
    /// Newest first, 100 at the most.
    pub attempts: Vec<StoredAttempt>,
    pub reserved: bool,
    pub as_of: Sequence,
}

/// The sale cannot answer at all. Nothing was decided that the caller may rely on; a retry with the
/// same key is safe. The variants differ in how long it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unavailable {
    /// The queue is full. This request was not even queued.
    QueueFull,
    /// Neither the queue nor the line before it has room for this attempt; `wait_ms` is the length
    /// of the line, if it is known.
    LineFull { wait_ms: Option<u64> },
    /// The shopper has the most attempts in the line that one may have; `wait_ms` as above.
    TooManyInLine { wait_ms: Option<u64> },
    /// Temporary: the process is stopping, or the disk is full.
    Passing(String),
    /// The writer has stopped for good, and an operator must act.
    Stopped(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the queue is full"),
            Self::LineFull { .. } => f.write_str("the queue is full, and so is the line for it"),
            Self::TooManyInLine { .. } => f.write_str("too many attempts of this shopper are in line"),
            Self::Passing(why) | Self::Stopped(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unavailable {}
