//! Sold out: answered by the gate itself, shown by a file next to the log, logged, and proven by
//! the audit, through a restart.

use crate::harness::{
    Server, poll,
    shop::{self, hold, with},
};
use serde_json::{Value, json};

#[test]
fn the_gate_answers_sold_out_by_itself_a_file_shows_it_and_the_log_proves_it() {
    let mut server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 0 } }));
    let mut sale = server.open_sale("launch", &spec);
    let file = server.data.join("sales/launch/sold-out");
    assert!(!file.exists());
    let [a, b] = ["a", "b"].map(|shopper| server.pass("launch", shopper));
    let first = sale.granted(&a, "k", "phone");
    let alone = |server: &Server| -> u64 {
        let metrics = server.client.get(&server.admin_url("/metrics")).body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("floodgate_gate_answered_alone_total{outcome=\"sold_out\"} "));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let told = sale.buy(&b, "k", "phone");
    assert_eq!(told["outcome"], "sold_out");
    assert_eq!(
        sale.buy(&a, "k", "phone")["outcome"],
        "granted",
        "a shopper who has something gets that answer"
    );
    poll("the file that says sold out", || file.exists().then_some(()));
    let shown: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(shown["sale"], "launch", "{shown}");

    // After a kill and a restart it still knows which shoppers have something, and that nothing is
    // left.
    server.kill();
    std::fs::remove_file(&file).unwrap();
    server.restart();
    sale = server.sale("launch");
    assert_eq!(sale.buy(&a, "k", "phone")["outcome"], "granted");
    for n in 0..50 {
        assert_eq!(sale.buy(&b, &format!("again-{n}"), "phone")["outcome"], "sold_out");
    }
    poll("the file after a restart", || file.exists().then_some(()));
    assert_eq!(alone(&server), 50);
    // The refusals are soon in the log, and each answer is checked at the entries that it names.
    let said = |server: &Server| server.stats("launch")["outcomes"]["sold_out"].as_u64().unwrap();
    poll("what the gate said, in the log", || (said(&server) >= 50).then_some(()));

    server.admin("POST", &hold(&first, "release"), &json!({ "reason": "gave it back" }));
    poll("the file goes when a unit is back", || (!file.exists()).then_some(()));
    assert_eq!(sale.buy(&b, "last", "phone")["outcome"], "granted");
    poll("and comes again", || file.exists().then_some(()));
    server.audit();
}
