//! `floodgate audit --json` as another program reads it.

use crate::harness::{
    Server,
    shop::{self, hold},
};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// A reader that refuses a document with a duplicate name, as RFC 8259 allows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    sale: String,
    proven: bool,
    torn_bytes: u64,
    entries: u64,
    items: Vec<Item>,
    outcomes: BTreeMap<String, u64>,
    holds: BTreeMap<String, u64>,
    refunds_due: u64,
    invariants: Vec<Verdict>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    item: String,
    initial: u64,
    adjustments: i64,
    free: u64,
    held: u64,
    sold: u64,
    waiting: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    id: String,
    holds: bool,
    found: String,
    how: String,
}

#[test]
fn the_audit_document_has_each_name_once_and_the_sales_figures() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 3)]));
    let bought = sale.granted(&server.pass("launch", "a"), "buy", "phone");
    server.admin("POST", &hold(&bought, "confirm"), &json!({ "payment": "p-1" }));
    sale.granted(&server.pass("launch", "b"), "buy", "phone");
    // A second payment for what is paid buys nothing.
    server.admin("POST", &hold(&bought, "confirm"), &json!({ "payment": "p-2" }));

    // While the server runs.
    let text = server.output(&["audit", "--json"]);
    let reports: Vec<Report> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert!(report.sale == "launch" && report.proven && report.torn_bytes == 0, "{report:?}");
    assert!(report.entries >= 5, "{report:?}");
    let i = &report.items[0];
    assert_eq!((&*i.item, i.initial, i.adjustments), ("phone", 3, 0));
    assert_eq!((i.free, i.held, i.sold, i.waiting), (1, 1, 1, 0));
    assert_eq!(report.outcomes, BTreeMap::from([("granted".into(), 2)]));
    assert_eq!(report.holds, BTreeMap::from([("confirmed".into(), 1), ("held".into(), 1)]));
    assert_eq!(report.refunds_due, 1);
    let ids: Vec<&str> = report.invariants.iter().map(|v| &*v.id).collect();
    assert_eq!(ids, ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7"]);
    assert!(report.invariants.iter().all(|v| v.holds && v.found == "proven" && !v.how.is_empty()));

    let words = server.output(&["audit"]);
    assert!(
        words.contains("sale launch") && words.contains("refunds due: 1") && words.contains("INV-7 proven"),
        "{words}"
    );
}
