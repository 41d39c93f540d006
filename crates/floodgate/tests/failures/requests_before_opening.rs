//! newbee-ltd/newbee-mall#97: requests before the opening take stock, so that it is gone when the
//! sale opens. Here the URL for attempts does not exist before, and a shopper who knows an old one
//! is told `not_open` and takes nothing.

use crate::harness::{
    Server,
    shop::{self, basket, in_ms, in_parallel, with},
};
use serde_json::json;

#[test]
fn requests_before_the_opening_take_no_stock() {
    const STOCK: u64 = 5;
    let server = Server::start();
    let offer = json!([{ "item": "phone", "stock": STOCK, "price_minor": 1000 }]);
    let rounds = json!([
        { "opens_at": in_ms(3_600_000), "closes_at": in_ms(7_200_000), "items": offer },
        { "opens_at": in_ms(7_200_000), "closes_at": in_ms(9_000_000), "items": offer },
    ]);
    server.define("launch", &with(shop::spec(&[("phone", 0)]), json!({ "rounds": rounds })));
    let other = server.open_sale("other", &shop::spec(&[("phone", 1)]));
    let early = server.passes("launch", "early", 20);

    let seen = server.document("launch");
    assert_eq!((&seen["state"], &seen["attempts_url"]), (&"scheduled".into(), &json!(null)), "{seen}");
    let foreign = other.attempts_url.replace("/sales/other/", "/sales/launch/");
    let guessed = server.shop_url(&format!("/api/v1/sales/launch/rounds/{}/attempts", "A".repeat(22)));
    for url in [foreign, guessed] {
        let headers = shop::Sale::attempt_headers(&early[0], "too-early");
        let reply = server.client.send("POST", &url, &headers, &basket(&[("phone", 1)]));
        assert_eq!((reply.status, &*reply.problem()), (404, "not-found"));
    }

    // The first round ends unsold; its address is known, and the second round is not open yet.
    server.admin("POST", "/sales/launch/open", &json!({ "reason": "test" }));
    let sale = server.sale("launch");
    server.admin("POST", "/sales/launch/close", &json!({ "reason": "test" }));
    in_parallel(8, &early, |pass| {
        let outcome = sale.buy(pass, "between", "phone");
        assert_eq!(outcome["outcome"], "not_open", "{outcome}");
        assert!(outcome["as_of"].is_u64(), "{outcome}");
    });
    let item = server.stats("launch")["items"][0].clone();
    assert_eq!((&item["free"], &item["held"]), (&STOCK.into(), &0.into()), "{item}");

    // The unsold units of the first round are sold in the second. An early attempt gains nothing
    // and costs nothing.
    server.admin("POST", "/sales/launch/open", &json!({ "reason": "test" }));
    let sale = server.sale("launch");
    let outcomes = in_parallel(8, &early, |pass| sale.buy(pass, "between", "phone"));
    let granted = outcomes.iter().filter(|o| o["outcome"] == "granted").count();
    assert_eq!(granted as u64, 2 * STOCK, "{outcomes:?}");
    server.audit();
}
