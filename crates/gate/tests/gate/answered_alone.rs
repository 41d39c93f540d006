//! Refusals that follow from the sale's view (sold out, not eligible) are sent by the gate itself,
//! to shoppers who have nothing in the sale. The sale is told afterwards.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running};
use contracts::{DeniedShoppers, Eligibility, GateRefusal, ItemState, SaleState};
use std::time::{Duration, Instant};
use units::Sequence;

const SALE: &str = "/api/v1/sales/demo";
const PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;

/// The pass of a shopper, whose tier may follow after a slash.
fn pass(gate: &Running, shopper: &str) -> String {
    let (id, tier) = shopper.split_once('/').unwrap_or((shopper, "0"));
    let bearer = format!("Bearer {}", gate.token_of_tier(id, tier.parse().unwrap()));
    let answer = send(gate.bound.shop, "POST", &format!("{SALE}/passes"), &[("authorization", &bearer)], "");
    answer.json()["pass"].as_str().unwrap().to_owned()
}

/// Attempts served by the loops, or by axum, which serves requests with chunked bodies.
fn attempt(gate: &Running, shopper: &str, key: &str, body: &str, chunked: bool) -> Answer {
    let url = format!("{SALE}/rounds/{}/attempts", gate.keys.round_key("demo", 0));
    let pass = pass(gate, shopper);
    let mut headers =
        vec![("floodgate-pass", &*pass), ("idempotency-key", key), ("content-type", "application/json")];
    // A request with `Expect: 100-continue` is left to axum.
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

/// What was reported to the sale, once it has this many reports.
fn heard(gate: &Running, count: u64) -> Vec<(u64, u64, u64)> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = gate.sale.said();
        if said.iter().map(GateRefusal::count).sum::<u64>() >= count || Instant::now() > deadline {
            let entries = |s: &GateRefusal| (s.entries().0.0, s.entries().1.0, s.count());
            return said.iter().map(entries).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_gate_answers_sold_out_by_itself_and_reports_it_to_the_sale() {
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
    assert_eq!(gate.sale.asked(), 1, "only alice's attempt");
    assert_eq!(heard(&gate, 2), [(60, 70, 1), (60, 70, 1)]);
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    assert!(metrics.contains("floodgate_gate_answered_alone_total{outcome=\"sold_out\"} 2\n"), "{metrics}");
    assert!(metrics.contains("floodgate_gate_answers_total{outcome=\"sold_out\"} 2\n"), "{metrics}");
}

#[test]
fn a_shopper_who_has_something_gets_the_sales_own_answer() {
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
fn the_gate_asks_the_sale_what_it_cannot_know() {
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
    assert!(!gate_knows("carol", &many(2)), "it may be over a limit");
    let bundle = r#"{"lines":[{"item":"phone","quantity":1},{"item":"watch","quantity":1}]}"#;
    assert!(!gate_knows("dave", bundle), "the items together may be over a limit");
    gate.sale.change_view(|view| view.state = SaleState::Paused);
    assert!(!gate_knows("eve", PHONE), "the answer must be paused");
}

/// Puts exactly these shoppers on the deny list, as of entry 40; the view is of entry 70.
fn deny(gate: &Running, shoppers: &[&str]) {
    let keys = shoppers.iter().map(|shopper| gate.keys.shopper_key(shopper)).collect();
    gate.sale.change_view(|view| {
        (view.as_of, view.state_since) = (Sequence(70), Sequence(30));
        view.denied = DeniedShoppers::default().and(keys, Sequence(40)).into();
    });
}

/// Why a shopper was refused, by the records of the gate.
fn reasons(gate: &Running, shopper: &str) -> Vec<(String, u64)> {
    let bearer = format!("Bearer {}", gate.owner);
    let path = format!("/api/v1/admin/refusals?shopper={shopper}");
    let told = send(gate.bound.admin, "GET", &path, &[("authorization", &bearer)], "").json();
    let refused = told["refused"].as_array().unwrap().iter();
    refused.map(|r| (r["reason"].as_str().unwrap().to_owned(), r["count"].as_u64().unwrap())).collect()
}

#[test]
fn the_gate_refuses_denied_shoppers_by_itself_and_operators_learn_why() {
    let gate = Running::start(true, false, |_| {});
    deny(&gate, &["mallory", "trent"]);
    for chunked in [false, true] {
        let told = attempt(&gate, "mallory", "k", PHONE, chunked);
        assert_eq!(told.status, 200, "{told:?}");
        let told = told.json();
        assert_eq!((&told["outcome"], &told["as_of"]), (&"not_eligible".into(), &70.into()), "{told}");
    }
    assert_eq!(gate.sale.asked(), 0);
    assert_eq!(heard(&gate, 2), [(40, 70, 1), (40, 70, 1)]);
    assert_eq!(attempt(&gate, "alice", "k", PHONE, false).json()["outcome"], "granted", "an honest shopper");
    assert_eq!(reasons(&gate, "mallory"), [("deny_list".to_owned(), 2)]);
    assert_eq!((reasons(&gate, "alice"), reasons(&gate, "trent")), (vec![], vec![]));
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    for line in [
        "floodgate_gate_answered_alone_total{outcome=\"not_eligible\"} 2\n",
        "floodgate_gate_answered_alone_total{outcome=\"sold_out\"} 0\n",
        "floodgate_gate_answers_total{outcome=\"not_eligible\"} 2\n",
        "floodgate_gate_filtered_total{reason=\"deny_list\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// The document is rendered once a second. A new list is still in force at once, for added and for
/// removed shoppers.
#[test]
fn a_new_deny_list_applies_to_the_next_attempt() {
    let gate = Running::start(true, false, |_| {});
    for round in 0..3 {
        for chunked in [false, true] {
            let key = format!("k-{round}-{chunked}");
            let outcome =
                |shopper: &str| attempt(&gate, shopper, &key, PHONE, chunked).json()["outcome"].clone();
            deny(&gate, &["mallory"]);
            let before = gate.sale.asked();
            assert_eq!(outcome("mallory"), "not_eligible");
            deny(&gate, &[]);
            assert_ne!(outcome("mallory-2"), "not_eligible");
            deny(&gate, &["mallory"]);
            assert_eq!(outcome("mallory"), "not_eligible");
            deny(&gate, &["alice", "bob"]);
            assert_ne!(outcome("mallory-3"), "not_eligible");
            assert_eq!(gate.sale.asked(), before + 2);
        }
    }
    // The same shopper who was refused a moment ago.
    deny(&gate, &[]);
    assert_ne!(attempt(&gate, "mallory", "k", PHONE, false).json()["outcome"], "not_eligible");
}

#[test]
fn a_denied_shopper_who_has_something_gets_the_sales_own_answer() {
    let gate = Running::start(true, false, |_| {});
    let first = attempt(&gate, "alice", "k1", PHONE, false).json();
    assert_eq!(first["outcome"], "granted");
    deny(&gate, &["alice"]);
    for chunked in [false, true] {
        let again = attempt(&gate, "alice", "k1", PHONE, chunked).json();
        assert_eq!((&again["outcome"], &again["attempt"]), (&first["outcome"], &first["attempt"]));
    }
    assert_eq!((gate.sale.asked(), gate.sale.said()), (3, Vec::new()));
    gate.sale.set_mood(Mood::NotEligible);
    for chunked in [false, true] {
        let other = attempt(&gate, "alice", "k2", PHONE, chunked).json();
        assert_eq!(other["outcome"], "not_eligible", "the answer is the sale's: {other}");
    }
    assert_eq!(gate.sale.asked(), 5);
    assert_eq!(reasons(&gate, "alice"), [("deny_list".to_owned(), 2)], "and operators learn why");
    // A shopper whom the sale refuses by a rule of its own is not recorded by the gate.
    assert_eq!(attempt(&gate, "bob", "k", PHONE, false).json()["outcome"], "not_eligible");
    assert_eq!(reasons(&gate, "bob"), []);
}

#[test]
fn paused_takes_precedence_over_not_eligible_and_not_eligible_over_sold_out() {
    let gate = Running::start(true, false, |_| {});
    sell_out(&gate, false);
    deny(&gate, &["mallory"]);
    let two = r#"{"lines":[{"item":"phone","quantity":2}]}"#;
    for (shopper, body, outcome) in
        [("mallory", PHONE, "not_eligible"), ("mallory", two, "not_eligible"), ("bob", PHONE, "sold_out")]
    {
        assert_eq!(attempt(&gate, shopper, "k", body, false).json()["outcome"], outcome, "{shopper} {body}");
    }
    assert_eq!(gate.sale.asked(), 0);
    for state in [SaleState::Scheduled, SaleState::Paused, SaleState::Closed] {
        gate.sale.change_view(|view| view.state = state);
        let before = gate.sale.asked();
        attempt(&gate, "mallory", "k", PHONE, false);
        assert_eq!(gate.sale.asked(), before + 1, "{state:?}, and the sale says that");
    }
}

#[test]
fn the_gate_refuses_a_pass_of_a_lower_tier_by_itself() {
    let gate = Running::start(true, false, |_| {});
    gate.sale.change_view(|view| {
        let mut spec = (*view.spec).clone();
        spec.eligibility = Eligibility::Tier { min: 2 };
        (view.spec, view.as_of, view.state_since) = (spec.into(), Sequence(70), Sequence(30));
    });
    for chunked in [false, true] {
        assert_eq!(attempt(&gate, "ann/1", "k", PHONE, chunked).json()["outcome"], "not_eligible");
    }
    assert_eq!(gate.sale.asked(), 0);
    assert_eq!(heard(&gate, 2), [(30, 70, 1), (30, 70, 1)]);
    assert_eq!(reasons(&gate, "ann"), [("tier".to_owned(), 2)]);
    assert_eq!(attempt(&gate, "bob/2", "k", PHONE, false).json()["outcome"], "granted");
}
