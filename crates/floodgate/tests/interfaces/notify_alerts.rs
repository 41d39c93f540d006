//! What operators must hear of comes as events of the topic `notify`.

use crate::harness::{Server, poll};
use crate::messages::{Endpoint, ask, event, post, start, with_topic};
use serde_json::{Value, json};

/// The events of the topic so far, as (type, subject, data).
fn told(server: &Server, key: &str) -> Vec<(String, String, Value)> {
    let mut told = Vec::new();
    for number in 1.. {
        let reply = ask(server, key, "GET", &format!("/api/v1/topics/notify/events/{number}"), &Value::Null);
        if reply.status != 200 {
            break;
        }
        let event = reply.json()["event"].clone();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        told.push((text("type"), text("subject"), event["data"].clone()));
    }
    told
}

fn wait_for(server: &Server, key: &str, kind: &str) -> Value {
    poll(kind, || told(server, key).into_iter().find(|(of, ..)| of == kind).map(|(.., data)| data))
}

fn batch(ids: std::ops::Range<usize>) -> String {
    Value::from(ids.map(|id| event(id, id)).collect::<Vec<_>>()).to_string()
}

#[test]
fn what_a_full_topic_drops_is_told() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let spec = json!({ "events_max": 2000, "when_full": "drop-oldest" });
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &spec).status, 200);
    let worker = json!({ "topic": "orders" });
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/subscriptions/worker", &worker).status, 200);
    // Until the service has looked for the first time, nothing is news.
    poll("the topic", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &Value::Null).json();
        topics["topics"].as_array()?.iter().any(|of| of["topic"] == "notify").then_some(())
    });
    let mut next = 0;
    let data = poll("the news", || {
        let said = post(&server, &key, "application/cloudevents-batch+json", &batch(next..next + 900));
        assert_eq!(said.status, 202, "{said:?}");
        next += 900;
        told(&server, &key).into_iter().find(|(kind, ..)| kind == "floodgate.notify.dropped")
    });
    assert_eq!((&*data.1, &data.2["topic"]), ("worker", &json!("orders")));
    assert!(data.2["events"].as_u64().unwrap() > 0 && data.2["in_all"].as_u64() >= data.2["events"].as_u64());
    let own = server.events_url("/api/v1/topics/notify/events");
    let fields =
        [("authorization", &*format!("Bearer {key}")), ("content-type", "application/cloudevents+json")];
    let refused = server.client.send("POST", &own, &fields, &event(1, 1).to_string());
    assert!(refused.status == 409 && refused.body.contains("only this server posts there"), "{refused:?}");
}

#[test]
fn a_subscription_that_its_endpoint_disables_or_that_lags_is_told() {
    let (server, key) = with_topic();
    let (endpoint, path) = (Endpoint::start(), "/api/v1/subscriptions/crm");
    let spec = json!({ "topic": "orders", "url": endpoint.url, "lag_alert_seconds": 1 });
    assert_eq!(ask(&server, &key, "PUT", path, &spec).status, 200);
    *endpoint.status.lock().unwrap() = 410;
    assert_eq!(post(&server, &key, "application/cloudevents-batch+json", &batch(0..1)).status, 202);
    let data = wait_for(&server, &key, "floodgate.notify.disabled");
    assert_eq!(data, json!({ "subscription": "crm", "topic": "orders" }));
    wait_for(&server, &key, "floodgate.notify.lagging");
    *endpoint.status.lock().unwrap() = 204;
    let resumed = ask(&server, &key, "POST", &format!("{path}/resume"), &json!({}));
    assert_eq!(resumed.status, 200, "{resumed:?}");
    wait_for(&server, &key, "floodgate.notify.enabled");
    wait_for(&server, &key, "floodgate.notify.caught_up");
    let kinds: Vec<String> = told(&server, &key).into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds.len(), 4, "each once: {kinds:?}");
}
