//! What the catalogue calls the items of each sale, and when it was asked.

use contracts::{SaleId, store::Product};
use std::{collections::BTreeMap, sync::Arc};
use units::TimeMs;

pub(crate) type Names = BTreeMap<SaleId, (TimeMs, Arc<Vec<Product>>)>;
