//! aws-solutions/virtual-waiting-room-on-aws#208: shoppers who left are still counted as waiting.
//! Here a shopper who leaves is gone from every figure at once, and the next place is counted
//! without them.

use crate::harness::{
    Server, poll,
    shop::{self, text, with},
};
use serde_json::{Value, json};

#[test]
fn shoppers_who_left_are_not_counted_as_waiting() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 5 } }));
    let sale = server.open_sale("launch", &spec);
    let passes = server.passes("launch", "crowd", 8);
    sale.granted(&passes[0], "k", "phone");
    let waiting: Vec<Value> = passes[1..6].iter().map(|pass| sale.buy(pass, "k", "phone")).collect();
    assert_eq!(waiting[4]["position"], 5, "{waiting:?}");
    assert_eq!(sale.buy(&passes[6], "k", "phone")["outcome"], "sold_out", "every place is taken");

    server.admin("POST", &format!("/holds/{}/release", text(&waiting[0]["attempt"])), &json!({}));
    let gone = [&waiting[1]["attempt"], &waiting[2]["attempt"]];
    let void = json!({ "attempts": gone, "reason": "left" });
    assert_eq!(server.admin("POST", "/sales/launch/void", &void)["voided"], 2);
    assert_eq!(server.stats("launch")["items"][0]["waiting"], 2);
    assert_eq!(server.audit()[0]["items"][0]["waiting"], 2);
    let next = sale.buy(&passes[6], "k", "phone");
    assert_eq!((&next["outcome"], &next["position"]), (&"waitlisted".into(), &3.into()), "{next}");

    // Nor are attempts counted as queued once they are decided, whether or not their clients stayed
    // for the answer.
    poll("an empty queue", || {
        let metrics = server.client.get(&server.admin_url("/metrics")).body;
        metrics.contains("floodgate_sale_queue_length{sale=\"launch\"} 0\n").then_some(())
    });
}
