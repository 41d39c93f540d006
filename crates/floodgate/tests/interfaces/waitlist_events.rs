//! A place on the waitlist, followed by server-sent events until its end.

use crate::harness::{
    Server,
    shop::{self, hold, with},
};
use serde_json::{Value, json};

#[test]
fn a_promotion_is_sent_to_the_event_stream_that_follows_the_place() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 2 } }));
    let sale = server.open_sale("launch", &spec);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|shopper| server.pass("launch", shopper));
    let first = sale.granted(&a, "k", "phone");
    let waiting = sale.buy(&b, "k", "phone");
    assert_eq!(sale.buy(&c, "k", "phone")["position"], 2);
    assert_eq!(sale.buy(&d, "k", "phone")["outcome"], "sold_out", "the waitlist is full");

    let url = format!("{}/attempts/{}/events", sale.base, shop::text(&waiting["attempt"]));
    let mut events = sale.client.lines(&url, &[("floodgate-pass", &b)]).filter_map(|line| {
        line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap())
    });
    assert_eq!(events.next().unwrap(), waiting, "the present answer comes first");

    server.admin("POST", &hold(&first, "release"), &json!({ "reason": "gave it back" }));
    let promoted = events.next().unwrap();
    assert_eq!((&promoted["outcome"], &promoted["place"]), (&"waitlisted".into(), &"promoted".into()));
    assert_eq!(promoted["hold"]["state"], "held", "{promoted}");
    assert_eq!(sale.buy(&b, "k", "phone"), promoted, "a retry gets the same answer");
    assert_eq!(sale.look(&promoted["attempt"], &b), promoted, "with a valid ticket");

    server.admin("POST", &hold(&promoted, "confirm"), &json!({ "payment": "p-1" }));
    assert_eq!(events.next().unwrap()["hold"]["state"], "confirmed");
    assert_eq!(events.next(), None, "the outcome can no longer change by itself, so the stream ends");
    server.audit();
}

#[test]
fn all_who_follow_their_places_hear_that_the_waitlist_has_ended() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 3 } }));
    let sale = server.open_sale("launch", &spec);
    sale.granted(&server.pass("launch", "first"), "k", "phone");
    let passes = server.passes("launch", "waiting", 3);
    let mut followed: Vec<_> = passes
        .iter()
        .map(|pass| {
            let place = sale.buy(pass, "k", "phone");
            let url = format!("{}/attempts/{}/events", sale.base, shop::text(&place["attempt"]));
            let lines = sale.client.lines(&url, &[("floodgate-pass", pass)]);
            let mut events = lines.filter_map(|line| {
                line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap())
            });
            assert_eq!(events.next().unwrap(), place);
            events
        })
        .collect();
    server.admin("POST", "/sales/launch/end-waitlist", &json!({ "reason": "the sale is over" }));
    for events in &mut followed {
        let left = events.next().unwrap();
        assert_eq!((&left["outcome"], &left["place"]), (&"waitlisted".into(), &"left".into()), "{left}");
        assert_eq!(events.next(), None, "nothing follows");
    }
    server.audit();
}
