//! The table of all operations, and its documents: the OpenAPI document, and the page of problems.

use crate::{admin, api, page, parts::Parts, problem};
use contracts::{AttemptId, ItemId, SaleId};
use schemars::JsonSchema;
use std::sync::{Arc, LazyLock};
use web::{
    openapi::{About, Listener, PathParameter},
    operation::{Callers, Operation, Row, schema_of},
    page::statics,
    reference::{self, Reference},
};

/// A key of a round, as in `attempts_url`.
#[derive(JsonSchema)]
#[schemars(inline, extend("pattern" = "^[A-Za-z0-9_-]+$"))]
#[expect(dead_code, reason = "it is only described")]
struct RoundKey(#[schemars(length(min = 22))] String);

static ABOUT: About = About {
    title: "Floodgate",
    summary: "A flash sale that sells exactly its stock.",
    description: "Operations tagged admin, and /readyz and /metrics, are on the admin listener only. A path that does not exist answers \
                  404, another method 405, both with a Problem. On the shop listeners HEAD is answered wherever GET is, and \
                  OPTIONS on every path of the API with 204, Allow, and what CORS asks for if the Origin is one of gate.allowed_origins.",
    listeners: &[
        Listener {
            callers: Callers::Public,
            tag: "shop",
            url: "http://127.0.0.1:8080",
            description: "Shop listener.",
        },
        Listener {
            callers: Callers::Operators,
            tag: "admin",
            url: "http://127.0.0.1:8081",
            description: "Admin listener.",
        },
    ],
    path_parameters: &[
        PathParameter { name: "sale", means: "The sale's id.", schema: schema_of::<SaleId> },
        PathParameter {
            name: "attempt",
            means: "The attempt's id; a hold has the id of its attempt.",
            schema: schema_of::<AttemptId>,
        },
        PathParameter { name: "hold", means: "The hold's id.", schema: schema_of::<AttemptId> },
        PathParameter { name: "item", means: "The item's id.", schema: schema_of::<ItemId> },
        PathParameter { name: "round_key", means: "As attempts_url has it.", schema: schema_of::<RoundKey> },
    ],
};

/// The operations of the shop's listener.
pub(crate) fn of_shop() -> Vec<Operation<Parts>> {
    let mut all = api::operations();
    all.extend(page::operations());
    all.extend(reference::operations(reference()));
    all
}

/// The operations of the operators' listener.
pub(crate) fn of_operators() -> Vec<Operation<Parts>> {
    let mut all = admin::operations();
    all.extend(admin::pages());
    all.extend(reference::operations(reference()));
    all
}

/// The operators' operations that concern one process, whether it has the sales or not.
pub(crate) fn of_a_gate() -> Vec<Operation<Parts>> {
    let mut all = admin::of_a_gate();
    all.extend(statics(page::FILES));
    all.extend(reference::operations(reference()));
    all
}

/// Every operation of the gate, on the listener of these callers.
pub fn operations() -> Vec<(Callers, Row)> {
    rows(of_shop(), of_operators())
}

fn rows(shop: Vec<Operation<Parts>>, operators: Vec<Operation<Parts>>) -> Vec<(Callers, Row)> {
    let shop = shop.into_iter().map(|operation| (Callers::Public, operation.row));
    shop.chain(operators.into_iter().map(|operation| (Callers::Operators, operation.row))).collect()
}

/// The ids of the operations of the API, the most frequent first.
pub(crate) fn ids() -> Vec<&'static str> {
    let mut rows: Vec<Row> = operations().into_iter().map(|(_, row)| row).collect();
    rows.sort_by_key(|row| !row.is_hot);
    let mut ids: Vec<&'static str> = Vec::new();
    for row in rows.iter().filter(|row| row.is_described()) {
        if !ids.contains(&row.id) {
            ids.push(row.id);
        }
    }
    ids
}

/// The documents of the operations.
pub fn reference() -> &'static Arc<Reference> {
    static REFERENCE: LazyLock<Arc<Reference>> = LazyLock::new(|| {
        let (mut shop, mut operators) = (api::operations(), admin::operations());
        // The operations of the reference are in it too.
        let itself = Arc::new(Reference::empty());
        shop.extend(reference::operations(&itself));
        operators.extend(reference::operations(&itself));
        Arc::new(Reference::new(&ABOUT, &rows(shop, operators), &problem::all_kinds()))
    });
    &REFERENCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ATTEMPT, READ_SALE},
        hot_route,
    };
    use web::operation::Access;

    const DOCUMENT: &str = include_str!("../../../openapi/gate.json");
    const PROBLEMS: &str = include_str!("../../../docs/api-problems.md");

    #[test]
    fn the_documents_in_the_repository_follow_from_the_table() {
        let made = "made from the table: cargo xtask openapi";
        assert!(DOCUMENT == reference().openapi(), "openapi/gate.json is not {made}");
        assert!(PROBLEMS == reference().problems(), "docs/api-problems.md is not {made}");
    }

    #[test]
    fn the_loops_serve_exactly_the_hot_operations_of_the_table() {
        for (callers, row) in operations() {
            let path =
                row.path.replace("{sale}", "demo").replace("{round_key}", "k").replace("{attempt}", "a");
            let is_public = callers == Callers::Public;
            assert_eq!(hot_route(&path).is_some() && is_public, row.is_hot, "{} {path}", row.method);
        }
        let hot = operations().into_iter().filter(|(_, row)| row.is_hot);
        let hot: Vec<_> = hot.map(|(_, row)| (row.method, row.id)).collect();
        assert_eq!(hot, [("GET", READ_SALE), ("POST", ATTEMPT)]);
        assert_eq!(ids()[..2], [READ_SALE, ATTEMPT]);
    }

    #[test]
    fn every_reference_in_the_openapi_document_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(reference().openapi()).unwrap();
        let references: Vec<_> = reference().openapi().split("\"$ref\"").skip(1).collect();
        assert!(references.len() > 100);
        for reference in references {
            let target = reference.split('"').nth(1).unwrap();
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
    }

    #[test]
    fn operations_of_the_api_are_described_and_no_others_are() {
        for (callers, row) in operations() {
            let is_api = row.path.starts_with("/api/")
                || ["/healthz", "/readyz", "/metrics", "/problems"].contains(&row.path);
            assert_eq!(row.is_described(), is_api, "{} {}", row.method, row.path);
            let is_admin = row.path.starts_with("/api/v1/admin/");
            assert!(!is_admin || callers == Callers::Operators, "{} is an operators' operation", row.id);
            assert!(!is_admin || matches!(row.access, Access::Role(_)), "{} has no role", row.id);
        }
    }
}
