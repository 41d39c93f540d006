//! woocommerce/woocommerce#44273 and #44231: draft orders of shoppers who left keep the stock from
//! others who would buy. Here an unpaid hold expires by itself and its unit goes to a waiting
//! shopper, or back on sale.

use crate::harness::{
    Server, poll,
    shop::{self, with},
};
use serde_json::json;

#[test]
fn abandoned_holds_return_to_the_stock() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 2)]), json!({ "hold_seconds": 1 }));
    let sale = server.open_sale("launch", &spec);
    let [a, b, c] = ["a", "b", "c"].map(|shopper| server.pass("launch", shopper));
    let gone = [sale.granted(&a, "buy", "phone"), sale.granted(&b, "buy", "phone")];
    let later = poll("a unit for the third", || {
        let outcome = sale.buy(&c, "buy", "phone");
        (outcome["outcome"] != "sold_out").then_some(outcome)
    });
    assert_eq!(later["outcome"], "granted", "{later}");
    assert!(later["hold"]["pay_by"].as_str() > gone[0]["hold"]["pay_by"].as_str());
    poll("end of both holds", || {
        let states = [sale.look(&gone[0]["attempt"], &a), sale.look(&gone[1]["attempt"], &b)];
        states.iter().all(|s| s["hold"]["state"] == "expired").then_some(())
    });
    let report = server.audit()[0].clone();
    assert_eq!(
        report["holds"]["expired"].as_u64().unwrap_or(0) + report["items"][0]["held"].as_u64().unwrap(),
        3
    );
}

#[test]
fn abandoned_holds_go_to_waiting_shoppers() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "hold_seconds": 1, "waitlist": { "places": 5 } }));
    let sale = server.open_sale("launch", &spec);
    let [a, b] = ["a", "b"].map(|shopper| server.pass("launch", shopper));
    let gone = sale.granted(&a, "buy", "phone");
    let waiting = sale.buy(&b, "buy", "phone");
    assert_eq!((&waiting["outcome"], &waiting["position"]), (&"waitlisted".into(), &1.into()), "{waiting}");
    let promoted = poll("promotion", || {
        let now = sale.look(&waiting["attempt"], &b);
        (now["place"] == "promoted").then_some(now)
    });
    assert_eq!(promoted["outcome"], "waitlisted", "the outcome stays");
    assert_eq!(sale.look(&gone["attempt"], &a)["hold"]["state"], "expired");
    server.audit();
}
