//! Subscriptions that begin with events from before they were made.

use crate::harness::{Server, poll};
use crate::messages::{Endpoint, ask, event, post, with_topic};
use serde_json::{Value, json};

fn with_events(count: usize) -> (Server, String) {
    let (server, key) = with_topic();
    for from in (0..count).step_by(500) {
        let batch: Vec<Value> = (from..(from + 500).min(count))
            .map(|id| {
                let mut event = event(id, id % 7);
                event["type"] = json!(if id % 3 == 0 { "order.paid" } else { "order.made" });
                event
            })
            .collect();
        let said = post(&server, &key, "application/cloudevents-batch+json", &Value::from(batch).to_string());
        assert_eq!(said.status, 202, "{said:?}");
    }
    (server, key)
}

fn numbers(endpoint: &Endpoint) -> Vec<u64> {
    let got = endpoint.got.lock().unwrap();
    let mut all: Vec<u64> =
        got.iter().map(|got| got.event()["id"].as_str().unwrap().parse().unwrap()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn a_new_subscription_gets_earlier_events_by_its_filters_also_across_a_kill() {
    let (mut server, key) = with_events(3000);
    let endpoint = Endpoint::start();
    let spec =
        json!({ "topic": "orders", "url": endpoint.url, "filters": [{ "exact": { "type": "order.paid" } }] });
    let made = ask(&server, &key, "PUT", "/api/v1/subscriptions/crm?from=1001", &spec);
    assert_eq!(made.status, 200, "{made:?}");
    server.kill();
    server.restart();
    poll("the message service", || {
        let mut late = event(5000, 1);
        late["type"] = json!("order.paid");
        let said = post(&server, &key, "application/cloudevents+json", &late.to_string());
        (said.status == 202).then_some(())
    });
    let want: Vec<u64> = (1000..3000).filter(|id| id % 3 == 0).chain([5000]).collect();
    poll("all events", || (numbers(&endpoint).len() >= want.len()).then_some(()));
    assert_eq!(numbers(&endpoint), want);
    let seen = poll("nothing is left", || {
        let seen = ask(&server, &key, "GET", "/api/v1/subscriptions/crm", &Value::Null).json();
        (seen["backlog"] == 0).then_some(seen)
    });
    assert_eq!(seen.get("fill"), None, "{seen}");
}

#[test]
fn one_without_filters_gets_all_that_are_kept_and_one_of_both_starts_is_wanted() {
    let (server, key) = with_events(1200);
    let put = |name: &str, query: &str| {
        ask(
            &server,
            &key,
            "PUT",
            &format!("/api/v1/subscriptions/{name}{query}"),
            &json!({ "topic": "orders" }),
        )
    };
    assert_eq!(put("all", "?from=1").status, 200);
    let pull = json!({ "max": 100, "wait_ms": 10_000 });
    let pulled = ask(&server, &key, "POST", "/api/v1/subscriptions/all/pull", &pull).json();
    let numbers: Vec<u64> =
        pulled["events"].as_array().unwrap().iter().map(|of| of["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7], "one of each key");
    let both = put("both", "?from=1&from_time=2026-01-01T00:00:00Z");
    assert!(both.status == 422 && both.body.contains("want one of from and from_time"), "{both:?}");
    assert_eq!(put("bad", "?from=x").status, 400);
    assert_eq!(put("timed", "?from_time=2026-01-01T00:00:00Z").status, 200);
    poll("all of its backlog", || {
        let seen = ask(&server, &key, "GET", "/api/v1/subscriptions/timed", &Value::Null).json();
        (seen["backlog"] == 1200 && seen.get("fill").is_none()).then_some(())
    });
}
