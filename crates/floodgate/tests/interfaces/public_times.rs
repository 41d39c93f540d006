//! The public document says when a sale really opened and ended, and never calls free units sold
//! out.

use crate::harness::{
    Server,
    shop::{self, in_ms, now, text},
};
use serde_json::json;
use units::TimeMs;

fn time(seen: &serde_json::Value, field: &str) -> TimeMs {
    text(&seen[field]).parse().unwrap()
}

#[test]
fn an_early_opening_and_an_early_end_are_shown_at_their_real_times() {
    let mut server = Server::start();
    let mut spec = shop::spec(&[("phone", 2), ("case", 1)]);
    let planned = [in_ms(1_800_000), in_ms(3_600_000)];
    spec["rounds"][0]["opens_at"] = planned[0].clone().into();
    spec["rounds"][0]["closes_at"] = planned[1].clone().into();
    server.define("launch", &spec);
    let seen = server.document("launch");
    assert_eq!([&seen["opens_at"], &seen["closes_at"]], [&planned[0], &planned[1]], "as planned");

    let before = now();
    server.admin("POST", "/sales/launch/open", &json!({}));
    let sale = server.sale("launch");
    let open = server.document("launch");
    let opened_at = time(&open, "opens_at");
    assert!(before.0 - 2000 <= opened_at.0 && opened_at.0 <= now().0 + 2000, "{open}");
    assert_eq!(open["closes_at"], planned[1], "the end is still as planned");

    sale.granted(&server.pass("launch", "alice"), "k", "case");
    let before = now();
    server.admin("POST", "/sales/launch/close", &json!({ "reason": "enough" }));
    let closed = crate::harness::poll("the end", || {
        Some(server.document("launch")).filter(|seen| seen["state"] == "closed")
    });
    let closed_at = time(&closed, "closes_at");
    assert!(before.0 - 2000 <= closed_at.0 && closed_at.0 <= now().0 + 2000, "{closed}");
    assert_eq!(time(&closed, "opens_at"), opened_at);
    let states = [&closed["items"][0]["state"], &closed["items"][1]["state"]];
    assert_eq!(states, ["available", "sold_out"], "two phones are left: {closed}");

    server.kill();
    server.restart();
    let again = server.document("launch");
    for field in ["opens_at", "closes_at", "items", "state"] {
        assert_eq!(again[field], closed[field], "after a restart: {field}");
    }
}
