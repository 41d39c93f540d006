//! What an order costs beside its lines: shipping and tax.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::Money;

/// A way in which parcels go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShippingMethod {
    pub id: String,
    pub name: String,
    pub name_zh: String,
    /// In minor units of the cart's currency.
    pub price_minor: u64,
}

/// What an order of a cart would cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    pub goods: Money,
    pub shipping: Money,
    /// Part of the total.
    pub tax: Money,
    /// The prices have it already.
    pub tax_is_included: bool,
    pub total: Money,
}

/// What an order costs beside its lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Charges {
    /// In which way the parcel goes, at the price of then; none for what a sale sold.
    pub shipping: Option<ShippingMethod>,
    /// In minor units, as all sums here.
    pub tax_minor: u64,
    /// The lines' prices have it already; otherwise it comes on top.
    pub tax_is_included: bool,
}
