//! mollie/WooCommerce#1252: a payment that is reported late takes its stock a second time. Here a
//! payment is identified by its reference, and one that comes after the hold's end claims the units
//! once or is to be refunded.

use crate::harness::{
    Server, poll,
    shop::{self, Sale, hold, with},
};
use serde_json::{Value, json};

/// A hold that has run out.
fn expired(sale: &Sale, pass: &str) -> Value {
    let outcome = sale.granted(pass, "buy", "phone");
    poll("end of the hold", || {
        (sale.look(&outcome["attempt"], pass)["hold"]["state"] == "expired").then_some(())
    });
    outcome
}

#[test]
fn a_late_payment_reported_twice_takes_stock_once() {
    let server = Server::start();
    let sale = server.open_sale("launch", &with(shop::spec(&[("phone", 2)]), json!({ "hold_seconds": 1 })));
    let late = expired(&sale, &server.pass("launch", "late"));
    for _ in 0..3 {
        let paid = server.admin("POST", &hold(&late, "confirm"), &json!({ "payment": "tr_1" }));
        assert_eq!((&paid["result"], &paid["late"]), (&"confirmed".into(), &true.into()), "{paid}");
    }
    let twice = server.admin("POST", &hold(&late, "confirm"), &json!({ "payment": "tr_2" }));
    assert_eq!(twice["result"], "refund", "another payment for the same hold: {twice}");
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["sold"], &item["free"]), (&1.into(), &1.into()), "{item}");
}

#[test]
fn a_late_payment_is_refunded_if_the_unit_is_gone() {
    let server = Server::start();
    let sale = server.open_sale("launch", &with(shop::spec(&[("phone", 1)]), json!({ "hold_seconds": 1 })));
    let [a, b] = ["a", "b"].map(|shopper| server.pass("launch", shopper));
    let late = expired(&sale, &a);
    let other = sale.granted(&b, "buy", "phone");
    server.admin("POST", &hold(&other, "confirm"), &json!({ "payment": "tr_b" }));
    let pay = json!({ "payment": "tr_a" });
    assert_eq!(server.admin("POST", &hold(&late, "confirm"), &pay)["result"], "refund");
    // The answer to this payment stays, although there is stock again.
    server.admin("POST", "/sales/launch/items/phone/adjust", &json!({ "delta": 1, "reason": "found one" }));
    assert_eq!(server.admin("POST", &hold(&late, "confirm"), &pay)["result"], "refund");
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["sold"], &item["free"]), (&1.into(), &1.into()), "{item}");
}

#[test]
fn a_late_payment_is_refunded_if_the_policy_says_so() {
    let server = Server::start();
    let fields = json!({ "hold_seconds": 1, "late_payment": "refund" });
    let sale = server.open_sale("launch", &with(shop::spec(&[("phone", 1)]), fields));
    let late = expired(&sale, &server.pass("launch", "late"));
    for _ in 0..2 {
        let paid = server.admin("POST", &hold(&late, "confirm"), &json!({ "payment": "tr_1" }));
        assert_eq!(
            (&paid["result"], &paid["hold"]["state"]),
            (&"refund".into(), &"expired".into()),
            "{paid}"
        );
    }
    let item = server.audit()[0]["items"][0].clone();
    assert_eq!((&item["sold"], &item["free"]), (&0.into(), &1.into()), "{item}");
}
