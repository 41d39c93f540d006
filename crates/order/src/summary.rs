//! An order as the seller's lists show it. It is small, and has nothing of a person but the number
//! of the shopper's account: events carry it, and the list keeps it.

use contracts::store::{OrderId, OrderLine, OrderOrigin, OrderState, OrderView, PaymentSeen, ReturnState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::{Money, TimeMs};

/// Lines that a summary has. With names of the greatest length these are 35 KiB, an eighth of what
/// an event may have.
pub(crate) const LINES_MAX: usize = 20;

/// An order as lists show it: without its address, its steps, and the reasons that were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderSummary {
    pub id: OrderId,
    pub shopper: String,
    pub origin: OrderOrigin,
    pub state: OrderState,
    pub payment: PaymentSeen,
    /// The first of its lines, up to 20.
    pub lines: Vec<OrderLine>,
    /// So many more lines than these the order has.
    pub more_lines: usize,
    pub total: Money,
    pub created_at: TimeMs,
    /// Counts the order's changes.
    pub version: u64,
    /// By their numbers.
    pub returns: Vec<ReturnSummary>,
}

/// A return of an order, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnSummary {
    pub number: u32,
    pub state: ReturnState,
}

impl From<OrderView> for OrderSummary {
    fn from(view: OrderView) -> Self {
        let OrderView { id, shopper, origin, state, payment, mut lines, total, .. } = view;
        let more_lines = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        let returns = view.returns.iter();
        let returns = returns.map(|of| ReturnSummary { number: of.number, state: of.state }).collect();
        let (created_at, version) = (view.created_at, view.version);
        Self { id, shopper, origin, state, payment, lines, more_lines, total, created_at, version, returns }
    }
}
