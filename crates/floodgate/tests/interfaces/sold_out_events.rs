//! That an item is sold out is told once each time, also when the server is killed in between.

use crate::{
    harness::{poll, shop},
    messages::{ask, start},
};
use serde_json::{Value, json};

fn told(server: &crate::harness::Server, key: &str) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    for number in 1.. {
        let path = format!("/api/v1/topics/sales/events/{number}");
        let seen = ask(server, key, "GET", &path, &json!(null));
        if seen.status != 200 {
            break;
        }
        let event = seen.json()["event"].clone();
        let kind = event["type"].as_str().unwrap().trim_start_matches("floodgate.sale.").to_owned();
        told.push((kind, event["data"].clone()));
    }
    told
}

fn wait_for(server: &crate::harness::Server, key: &str, kinds: &[&str]) -> Vec<(String, Value)> {
    let same =
        |told: &Vec<(String, Value)>| told.iter().map(|(kind, _)| kind.as_str()).eq(kinds.iter().copied());
    poll(&format!("{kinds:?}"), || Some(told(server, key)).filter(same))
}

#[test]
fn an_item_is_told_to_be_sold_out_each_time_that_its_last_unit_goes() {
    let mut server = start();
    let key = server.new_key("owner", "owner");
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 1), ("case", 5)]));
    let alice = sale.granted(&server.pass("launch", "alice"), "k", "phone");
    let events = wait_for(&server, &key, &["opened", "granted", "sold_out"]);
    let data = &events[2].1;
    assert_eq!((&data["item"], &data["sale"]), (&json!("phone"), &json!("launch")), "{data}");

    // After a restart, from the place that was stored: nothing is told twice.
    server.kill();
    server.restart();
    let sale = server.sale("launch");
    sale.granted(&server.pass("launch", "bob"), "k", "case");
    wait_for(&server, &key, &["opened", "granted", "sold_out", "granted"]);

    server.admin("POST", &shop::hold(&alice, "release"), &json!({}));
    wait_for(&server, &key, &["opened", "granted", "sold_out", "granted", "released"]);
    sale.granted(&server.pass("launch", "carol"), "k", "phone");
    wait_for(&server, &key, &["opened", "granted", "sold_out", "granted", "released", "granted", "sold_out"]);
}
