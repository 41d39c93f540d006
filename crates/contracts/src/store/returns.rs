//! Returns: units of an order that come back, and money that goes back for them.

use super::{StockLine, stock::CameBack};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::{DurationMs, TimeMs};

/// How long after its delivery units of an order may come back.
pub const RETURN_WITHIN: DurationMs = DurationMs(30 * 86_400_000);

/// How far a return is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReturnState {
    /// The shopper wants to send something back.
    Requested,
    /// It may be sent back.
    Approved,
    Rejected,
    /// The shopper keeps it after all.
    Withdrawn,
    /// It came back, and what was wished is on its way: money, or other units.
    Received,
    /// The money is back.
    Refunded,
    /// Another order sends other units.
    Exchanged,
}

impl ReturnState {
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Approved,
        Self::Rejected,
        Self::Withdrawn,
        Self::Received,
        Self::Refunded,
        Self::Exchanged,
    ];

    /// Its name in JSON and in databases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Received => "received",
            Self::Refunded => "refunded",
            Self::Exchanged => "exchanged",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether its units count as sent back, or may be.
    pub fn is_alive(self) -> bool {
        !matches!(self, Self::Rejected | Self::Withdrawn)
    }
}

/// What the shopper wants for what comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    Refund,
    /// The same again.
    Exchange,
}

impl Wish {
    /// Its name in JSON, in databases and in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Exchange => "exchange",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Refund, Self::Exchange].into_iter().find(|wish| wish.as_str() == name)
    }
}

/// One step of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnStep {
    pub at: TimeMs,
    pub to: ReturnState,
    pub actor: String,
    pub reason: String,
}

/// A return; one without lines is money that an operator gave back for nothing that was returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnView {
    /// Counts the order's returns, from 1.
    pub number: u32,
    pub state: ReturnState,
    pub lines: Vec<StockLine>,
    pub wish: Wish,
    /// What goes back, in minor units of the order's currency.
    pub refund_minor: u64,
    /// What became of the units; none until they have come.
    pub units: Option<CameBack>,
    /// Oldest first; the first has the shopper's reason.
    pub history: Vec<ReturnStep>,
}

/// A shopper wants to send something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReturn {
    pub lines: Vec<StockLine>,
    pub wish: Wish,
    pub reason: String,
    /// What the return is to be numbered: one more than the order has. So the same request twice is
    /// one return.
    pub number: u32,
}
