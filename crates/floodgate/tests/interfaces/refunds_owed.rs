//! A payment that buys nothing is owed back: the feed of refunds, the figures and the topic of all
//! sales say so.

use crate::harness::{
    poll,
    shop::{self, hold},
};
use crate::messages::{Endpoint, Got, ask, start, subscribe};
use serde_json::{Value, json};

#[test]
fn a_refund_that_is_owed_is_in_the_feed_and_in_the_topic_of_all_sales() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    poll("the topic of all sales", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).json();
        topics["topics"].as_array()?.iter().any(|of| of["topic"] == "sales").then_some(())
    });
    subscribe(&server, &key, "sales", &endpoint.url, json!({}));
    let granted = sale.granted(&server.pass("launch", "alice"), "k", "phone");
    let confirm = |payment: &str| {
        server.admin("POST", &hold(&granted, "confirm"), &json!({ "payment": payment }))["result"].clone()
    };
    assert_eq!(confirm("p-1"), "confirmed");
    assert_eq!((confirm("p-2"), confirm("p-2")), (json!("refund"), json!("refund")), "paid twice");
    assert_eq!(server.stats("launch")["refunds_due"], 1);

    let lines = |feed: &str| -> Vec<Value> {
        let reply = server.admin_send("GET", &format!("/sales/launch/{feed}.ndjson?after=0"), "");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let [owed] = &lines("refunds")[..] else { panic!("{:?}", lines("refunds")) };
    let of = |line: &Value| [line["type"].clone(), line["hold"].clone(), line["payment"].clone()];
    assert_eq!(of(owed), [json!("refund_due"), granted["hold"]["id"].clone(), json!("p-2")]);
    assert!(owed["sig"].is_string(), "{owed}");
    let kinds: Vec<Value> = lines("winners").iter().map(|line| line["type"].clone()).collect();
    assert_eq!(kinds, ["granted", "confirmed"], "a refund is no winner");

    let told = poll("the event", || {
        let got = endpoint.got.lock().unwrap();
        let mut events = got.iter().map(Got::event);
        events.find(|event| event["type"] == "floodgate.sale.refund_due")
    });
    assert_eq!((&told["subject"], &told["data"]["payment"]), (&granted["hold"]["id"], &json!("p-2")));
    assert_eq!(told["data"]["hold"], granted["hold"]["id"]);
    server.audit();
}
