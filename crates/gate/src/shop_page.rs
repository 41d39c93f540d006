//! The state of the shop's page.

use crate::{attempts::Attempts, sold_counts::SoldCounts, way_back::WaysBack};
use std::{fmt, sync::Arc};
use web::protection::Protection;

/// The parts of the shop's page.
pub(crate) struct ShopPage {
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) ways_back: Arc<WaysBack>,
    pub(crate) protection: Arc<Protection>,
    /// The page sells to any visitor, and payment is a sandbox.
    pub(crate) demo: bool,
    /// Where shoppers reach this server; empty if the operator has not said it.
    pub(crate) public_origin: String,
    /// Where the page leads outside a demo; empty if the operator has named no shop.
    pub(crate) shop_url: String,
    pub(crate) sold_counts: SoldCounts,
}

impl fmt::Debug for ShopPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShopPage").field("demo", &self.demo).finish_non_exhaustive()
    }
}

impl ShopPage {
    /// Whether every visitor is a shopper and payment is a sandbox: in a demo, and only for the
    /// sale `demo`.
    pub(crate) fn is_demo(&self, sale: &str) -> bool {
        self.demo && sale == "demo"
    }
}
