//! What the shop's pages show of a sale.

use crate::{ItemId, SaleId, SaleState};
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
