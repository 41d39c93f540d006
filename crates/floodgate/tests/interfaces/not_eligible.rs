//! Not eligible: answered by the gate itself from when the deny list is durable until it is
//! cleared, logged, and proven by the audit, through a restart.

use crate::harness::{
    Server, poll,
    shop::{self, with},
};
use serde_json::json;

/// Answers that the gate gave without asking the sale.
fn alone(server: &Server) -> u64 {
    let metrics = server.client.get(&server.admin_url("/metrics")).body;
    let name = "floodgate_gate_answered_alone_total{outcome=\"not_eligible\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

#[test]
fn the_gate_applies_a_changed_deny_list_and_the_log_proves_it() {
    let mut server = Server::start();
    let mut sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let [alice, bob, bot] = ["alice", "bob", "bot"].map(|shopper| server.pass("launch", shopper));
    let first = sale.granted(&alice, "k", "phone");
    // Once the upload is answered the list applies: no attempt after that gets through.
    server.deny("launch", "alice\nbot\n");
    for n in 0..10 {
        let told = sale.buy(&bot, &format!("k-{n}"), "phone");
        assert_eq!(told["outcome"], "not_eligible", "{told}");
    }
    assert_eq!(alone(&server), 10);
    assert_eq!(
        sale.buy(&alice, "k", "phone"),
        first,
        "a shopper who has something gets the sale's own answer"
    );
    assert_eq!(sale.buy(&alice, "k2", "phone")["outcome"], "not_eligible");
    assert_eq!(alone(&server), 10, "also where that is a refusal");
    let told = server.admin("GET", "/refusals?shopper=bot", &json!({}));
    assert_eq!(
        (&told["refused"][0]["reason"], &told["refused"][0]["count"]),
        (&"deny_list".into(), &10.into())
    );

    // After a kill and a restart it still knows the list, and the refusals are soon in the log.
    server.kill();
    server.restart();
    sale = server.sale("launch");
    assert_eq!(sale.buy(&bot, "again", "phone")["outcome"], "not_eligible");
    assert_eq!(alone(&server), 1);
    let said = |server: &Server| server.stats("launch")["outcomes"]["not_eligible"].as_u64().unwrap();
    poll("what the gate said, in the log", || (said(&server) >= 1).then_some(()));

    server.deny("launch", "");
    assert_eq!(sale.buy(&bot, "cleared", "phone")["outcome"], "granted", "removed from the list");
    server.deny("launch", "bob\n");
    assert_eq!(sale.buy(&bob, "k", "phone")["outcome"], "not_eligible");
    server.audit();
}

#[test]
fn the_gate_refuses_a_pass_of_a_lower_tier() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 5)]), json!({ "eligibility": { "kind": "tier", "min": 2 } }));
    let sale = server.open_sale("launch", &spec);
    let pass = server.pass("launch", "alice");
    assert_eq!(sale.buy(&pass, "k", "phone")["outcome"], "not_eligible");
    assert_eq!(alone(&server), 1);
    let told = server.admin("GET", "/refusals?shopper=alice", &json!({}));
    assert_eq!(told["refused"][0]["reason"], "tier", "{told}");
    let said = || server.stats("launch")["outcomes"]["not_eligible"].as_u64().unwrap();
    poll("what the gate said, in the log", || (said() >= 1).then_some(()));
    server.audit();
}
