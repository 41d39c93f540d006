//! The report of an audit.

use contracts::ItemId;
use runtime::audit::Verdict;
use serde::Serialize;
use std::collections::BTreeMap;

/// The result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    pub items: Vec<ItemReport>,
    /// Attempts by the answer that they got.
    pub outcomes: BTreeMap<String, u64>,
    /// Holds by their current state.
    pub holds: BTreeMap<String, u64>,
    /// Payments that bought nothing and must be refunded.
    pub refunds_due: u64,
    pub invariants: Vec<Verdict>,
}

/// An item's figures.
#[derive(Debug, Clone, Serialize)]
pub struct ItemReport {
    pub item: ItemId,
    pub initial: u64,
    pub adjustments: i64,
    pub free: i64,
    pub held: i64,
    pub sold: i64,
    pub waiting: u64,
}

impl Report {
    /// True if the log proves every invariant.
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(|v| v.holds)
    }
}
