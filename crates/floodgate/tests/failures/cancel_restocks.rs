//! HiEventsDev/Hi.Events#790: a cancelled order does not give its stock back. Here a released hold
//! and a voided purchase do, each once, however often the command is repeated.

use crate::harness::{
    Server,
    shop::{self, hold, text},
};
use serde_json::json;

#[test]
fn a_cancelled_purchase_returns_its_stock_once() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let [a, b, c] = ["a", "b", "c"].map(|shopper| server.pass("launch", shopper));

    let first = sale.granted(&a, "buy", "phone");
    assert_eq!(sale.buy(&b, "buy", "phone")["outcome"], "sold_out");
    for _ in 0..3 {
        let released = server.admin("POST", &hold(&first, "release"), &json!({ "reason": "cancelled" }));
        assert_eq!(released["hold"]["state"], "released", "{released}");
        let item = server.stats("launch")["items"][0].clone();
        assert_eq!((&item["free"], &item["held"]), (&1.into(), &0.into()), "{item}");
    }
    assert_eq!(
        sale.buy(&a, "buy", "phone")["hold"]["state"],
        "released",
        "the outcome stays, and the state shows the void"
    );

    // An attempt with the key that was refused is decided again.
    let second = sale.granted(&b, "buy", "phone");
    server.admin("POST", &hold(&second, "confirm"), &json!({ "payment": "p-1" }));
    let refused = server.admin_send("POST", &hold(&second, "release"), "");
    assert_eq!(
        (refused.status, &*refused.problem()),
        (409, "conflict"),
        "it is paid: only a void can take it back"
    );
    assert_eq!(sale.buy(&c, "buy", "phone")["outcome"], "sold_out");
    let void = json!({ "attempt": second["attempt"], "reason": "chargeback" });
    assert_eq!(server.admin("POST", "/sales/launch/void", &void)["voided"], 1);
    assert_eq!(
        server.admin("POST", "/sales/launch/void", &void)["voided"],
        0,
        "a repeated void does nothing"
    );
    assert_eq!(sale.look(&second["attempt"], &b)["hold"]["state"], "voided");
    assert_eq!(text(&sale.granted(&c, "buy", "phone")["hold"]["state"]), "held");

    let report = server.audit()[0].clone();
    assert_eq!(report["holds"], json!({ "held": 1, "released": 1, "voided": 1 }), "{report}");
}
