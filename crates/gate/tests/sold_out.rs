//! Once it is sold out the gate says so alone, to whoever has nothing of the sale; the sale hears of it afterwards.

#[path = "fake/client.rs"]
mod client;
#[path = "fake/mod.rs"]
mod fake;

use client::{Answer, send};
use contracts::{ItemState, SaleState};
use fake::Running;
use std::time::{Duration, Instant};
use units::Sequence;

const SALE: &str = "/api/v1/sales/demo";
const PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;

fn pass(gate: &Running, shopper: &str) -> String {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let answer = send(gate.bound.shop, "POST", &format!("{SALE}/passes"), &[("authorization", &bearer)], "");
    answer.json()["pass"].as_str().unwrap().to_owned()
}

/// Attempts on the loops' own way, or on axum's, where requests with chunked bodies go.
fn attempt(gate: &Running, shopper: &str, key: &str, body: &str, chunked: bool) -> Answer {
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let pass = pass(gate, shopper);
    let mut headers =
        vec![("floodgate-pass", &*pass), ("idempotency-key", key), ("content-type", "application/json")];
    // What expects a word before its body is sent is axum's.
    headers.extend(chunked.then_some(("expect", "100-continue")));
    let answer = send(gate.bound.shop, "POST", &url, &headers, body);
    match answer.status {
        100 => {
            let (head, body) = answer.body.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            Answer { status, head: head.to_owned(), body: body.to_owned() }
        }
        _ => answer,
    }
}

fn sell_out(gate: &Running, waitlist_open: bool) {
    gate.sale.change_view(|view| {
        view.as_of = Sequence(70);
        for item in &mut view.items {
            (item.state, item.waitlist_open) = (ItemState::SoldOut, waitlist_open);
            item.sold_out_since = Sequence(60);
        }
    });
}

/// What the sale heard of it, once it has heard of so many.
fn heard(gate: &Running, count: u64) -> Vec<(u16, u64, u64, u64)> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = gate.sale.said();
        if said.iter().map(|s| s.count).sum::<u64>() >= count || Instant::now() > deadline {
            return said.iter().map(|s| (s.item, s.first_as_of.0, s.last_as_of.0, s.count)).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_gate_answers_alone_and_the_sale_hears_what_was_said() {
    let gate = Running::start(true, false, |_| {});
    let first = attempt(&gate, "alice", "k1", PHONE, false).json();
    assert_eq!(first["outcome"], "granted");
    sell_out(&gate, false);
    for chunked in [false, true] {
        let told = attempt(&gate, "bob", "k", PHONE, chunked);
        assert_eq!(told.status, 200, "{told:?}");
        let told = told.json();
        assert_eq!((&told["outcome"], &told["as_of"]), (&"sold_out".into(), &70.into()), "{told}");
        assert_eq!(told["attempt"].as_str().unwrap().len(), 32);
    }
    assert_eq!(gate.sale.asked(), 1, "alice's alone");
    assert_eq!(heard(&gate, 2), [(0, 60, 70, 1), (0, 60, 70, 1)]);
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    assert!(metrics.contains("floodgate_gate_answered_alone_total 2\n"), "{metrics}");
    assert!(metrics.contains("floodgate_gate_answers_total{outcome=\"sold_out\"} 2\n"), "{metrics}");
}

#[test]
fn who_has_something_gets_the_sales_own_answer() {
    let gate = Running::start(true, false, |_| {});
    let first = attempt(&gate, "alice", "k1", PHONE, false).json();
    sell_out(&gate, false);
    for chunked in [false, true] {
        let again = attempt(&gate, "alice", "k1", PHONE, chunked).json();
        assert_eq!((&again["outcome"], &again["attempt"]), (&first["outcome"], &first["attempt"]));
        let other = attempt(&gate, "alice", "k2", PHONE, chunked).json();
        assert_eq!(other["outcome"], "limit_reached", "{other}");
    }
    assert_eq!((gate.sale.asked(), gate.sale.said()), (5, Vec::new()));
}

#[test]
fn what_the_gate_cannot_know_the_sale_is_asked() {
    let gate = Running::start(true, false, |_| {});
    let gate_knows = |shopper: &str, body: &str| {
        let before = gate.sale.asked();
        assert_eq!(attempt(&gate, shopper, "k", body, false).status, 200);
        gate.sale.asked() == before
    };
    sell_out(&gate, true);
    assert!(!gate_knows("ann", PHONE), "a place on the waitlist");
    gate.sale.change_view(|view| view.items.iter_mut().for_each(|item| item.waitlist_open = false));
    assert!(gate_knows("bob", PHONE));
    let many = |quantity: u16| format!(r#"{{"lines":[{{"item":"phone","quantity":{quantity}}}]}}"#);
    assert!(!gate_knows("carol", &many(2)), "perhaps over a limit");
    let bundle = r#"{"lines":[{"item":"phone","quantity":1},{"item":"watch","quantity":1}]}"#;
    assert!(!gate_knows("dave", bundle), "perhaps over a limit together");
    gate.sale.change_view(|view| view.state = SaleState::Paused);
    assert!(!gate_knows("eve", PHONE), "paused, and that is what is said");
}
