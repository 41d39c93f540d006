//! The reference of the store's API: the tables of its contexts as one document.

use catalog::api as of_products;
use contracts::{
    SaleId,
    store::{AccountId, OrderId, ProductSlug, Sku, TransferId, WarehouseId},
};
use inventory::api as of_stock;
use order::api as of_orders;
use payment::{api as of_payments, report::Day};
use std::sync::{Arc, LazyLock};
use web::{
    health,
    openapi::{About, Listener, PathParameter},
    operation::{Callers, Operation, Row, schema_of},
    problem::{KINDS, Kind},
    reference::{self, Reference},
};

static ABOUT: About = About {
    title: "Floodgate Store",
    summary: "The shop behind the sale: products for everybody, orders, payments and stock for those who run the shop.",
    description: "Products that are published can be read by everybody. What changes the catalogue, and what has to do with orders, \
                  payments and stock, needs an API key of a role (`floodgate key new`). Shoppers have the shop's pages.",
    listeners: &[Listener {
        callers: Callers::Public,
        tag: "store",
        url: "http://127.0.0.1:8090",
        description: "The shop's listener.",
    }],
    path_parameters: &[
        PathParameter { name: "product", means: "The product's slug.", schema: schema_of::<ProductSlug> },
        PathParameter {
            name: "picture",
            means: "The picture's name: the last part of its path.",
            schema: schema_of::<String>,
        },
        PathParameter { name: "account", means: "The account's number.", schema: schema_of::<AccountId> },
        PathParameter { name: "order", means: "The order's number.", schema: schema_of::<OrderId> },
        PathParameter {
            name: "number",
            means: "The number of the order's return.",
            schema: schema_of::<u32>,
        },
        PathParameter { name: "sku", means: "The SKU.", schema: schema_of::<Sku> },
        PathParameter { name: "warehouse", means: "The warehouse.", schema: schema_of::<WarehouseId> },
        PathParameter { name: "transfer", means: "The transfer.", schema: schema_of::<TransferId> },
        PathParameter { name: "sale", means: "The sale.", schema: schema_of::<SaleId> },
        PathParameter { name: "day", means: "The day, in UTC.", schema: schema_of::<Day> },
        PathParameter {
            name: "provider",
            means: "The provider's name, such as `sandbox`.",
            schema: schema_of::<String>,
        },
    ],
};

/// The rows of the operations that the document describes.
fn rows() -> Vec<(Callers, Row)> {
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(of_products::operations().into_iter().map(|operation| operation.row));
    rows.extend(catalog::trail_pages::operations().into_iter().map(|operation| operation.row));
    rows.extend(account::api::operations().into_iter().map(|operation| operation.row));
    rows.extend(of_orders::operations().into_iter().map(|operation| operation.row));
    rows.extend(of_payments::operations().into_iter().map(|operation| operation.row));
    rows.extend(of_stock::operations().into_iter().map(|operation| operation.row));
    rows.extend(own(&Arc::new(Reference::empty())).into_iter().map(|operation| operation.row));
    rows.into_iter().map(|row| (Callers::Public, row)).collect()
}

/// The operations of no context: the document itself, and liveness.
pub(super) fn own(reference: &Arc<Reference>) -> Vec<Operation<()>> {
    let mut all = reference::operations(reference);
    all.push(health::alive());
    all
}

/// The ids of the operations of the API.
pub(super) fn ids() -> Vec<&'static str> {
    rows().iter().map(|(_, row)| row.id).collect()
}

/// Every kind that the store may answer with, in the order of their status.
pub(super) fn all_kinds() -> Vec<&'static Kind> {
    let mut all: Vec<_> = KINDS.iter().chain(of_payments::OWN_KINDS).copied().collect();
    all.sort_by_key(|kind| (kind.status, kind.slug));
    all
}

/// The documents of the operations.
pub(crate) fn reference() -> &'static Arc<Reference> {
    static REFERENCE: LazyLock<Arc<Reference>> =
        LazyLock::new(|| Arc::new(Reference::new(&ABOUT, &rows(), &all_kinds())));
    &REFERENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../../openapi/store.json");
    const PROBLEMS: &str = include_str!("../../../../docs/store-problems.md");

    #[test]
    fn the_documents_in_the_repository_follow_from_the_tables() {
        let made = "made from the tables: cargo xtask openapi";
        assert!(DOCUMENT == reference().openapi(), "openapi/store.json is not {made}");
        assert!(PROBLEMS == reference().problems(), "docs/store-problems.md is not {made}");
    }
}
