//! The message service over its own listener: what is posted and what happens in a sale reaches an
//! endpoint, signed, in order, also across a kill.

use crate::harness::http::Reply;
use crate::harness::{Server, Setup, poll, run, shop, stdout};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What an endpoint was sent.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An endpoint on this machine, which answers what it is told.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) got: Arc<Mutex<Vec<Got>>>,
    pub(crate) status: Arc<Mutex<u16>>,
    /// Whether each connection ends with its answer.
    pub(crate) closes: Arc<AtomicBool>,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let status = Arc::new(Mutex::new(204));
        let endpoint = Self { url, got: Arc::default(), status, closes: Arc::default() };
        let this = endpoint.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream.unwrap()));
            }
        });
        endpoint
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut headers = std::collections::BTreeMap::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.trim().split_once(": ") {
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let of = |name: &str| headers[name].clone();
            let status = *self.status.lock().unwrap();
            if status < 300 {
                self.got.lock().unwrap().push(Got {
                    id: of("webhook-id"),
                    timestamp: of("webhook-timestamp"),
                    signature: of("webhook-signature"),
                    body: String::from_utf8(body).unwrap(),
                });
            }
            let closes = self.closes.load(Relaxed);
            let end = if closes { "connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n{end}\r\n");
            if stream.write_all(answer.as_bytes()).is_err() || closes {
                return;
            }
        }
    }

    pub(crate) fn wait_for(&self, count: usize) -> Vec<Got> {
        poll("deliveries", || Some(self.got.lock().unwrap().clone()).filter(|got| got.len() >= count))
    }
}

/// As Standard Webhooks has it: HMAC-SHA256 (RFC 2104) of `id.timestamp.body`.
pub(crate) fn signature(secret: &str, got: &Got) -> String {
    use sha2::{Digest, Sha256};
    let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
    let padded =
        |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let text = format!("{}.{}.{}", got.id, got.timestamp, got.body);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    format!("v1,{}", BASE64.encode(&outer))
}

pub(crate) fn start() -> Server {
    Server::with(Setup { notify: "allowed_networks = [\"127.0.0.0/8\"]\n".into(), ..Setup::default() })
}

/// A server with a topic `orders`, and a key of an owner.
pub(crate) fn with_topic() -> (Server, String) {
    let server = start();
    let key = server.new_key("owner", "owner");
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    (server, key)
}

pub(crate) fn ask(server: &Server, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    server.client.admin(method, &server.events_url(path), key, &body.to_string())
}

pub(crate) fn subscribe(server: &Server, key: &str, topic: &str, url: &str, retry: Value) -> String {
    let spec = json!({ "topic": topic, "url": url, "retry": retry });
    let made = ask(server, key, "PUT", "/api/v1/subscriptions/crm", &spec);
    assert_eq!(made.status, 200, "{made:?}");
    made.json()["secret"].as_str().unwrap().to_owned()
}

pub(crate) fn post(server: &Server, key: &str, content_type: &str, body: &str) -> Reply {
    let url = server.events_url("/api/v1/topics/orders/events");
    let authorization = format!("Bearer {key}");
    server.client.send(
        "POST",
        &url,
        &[("authorization", &authorization), ("content-type", content_type)],
        body,
    )
}

pub(crate) fn event(id: usize, key: usize) -> Value {
    json!({ "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "order.paid",
            "subject": format!("order-{key}"), "data": { "n": id } })
}

#[test]
fn what_happens_to_a_hold_is_told_in_its_order() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    poll("the topic of all sales", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).json();
        topics["topics"].as_array()?.iter().any(|of| of["topic"] == "sales").then_some(())
    });
    let secret = subscribe(&server, &key, "sales", &endpoint.url, json!({}));
    let granted = sale.granted(&server.pass("launch", "alice"), "k", "phone");
    let hold = granted["hold"]["id"].as_str().unwrap().to_owned();
    server.admin("POST", &shop::hold(&granted, "confirm"), &json!({ "payment": "p-1" }));
    let of_hold = |got: &Got| got.event()["subject"] == hold.as_str();
    let got = poll("both events", || {
        let got: Vec<Got> = endpoint.got.lock().unwrap().iter().filter(|got| of_hold(got)).cloned().collect();
        (got.len() >= 2).then_some(got)
    });
    let kinds: Vec<Value> = got.iter().map(|got| got.event()["type"].clone()).collect();
    assert_eq!(kinds, ["floodgate.sale.granted", "floodgate.sale.confirmed"]);
    let data = &got[0].event()["data"];
    assert_eq!((&data["shopper"], &data["lines"][0]["item"]), (&json!("alice"), &json!("phone")), "{data}");
    assert_eq!(got[1].event()["data"]["payment"], "p-1");
    for got in &got {
        assert_eq!(got.signature, signature(&secret, got));
    }
    assert_ne!(got[0].id, got[1].id);
    let seen = poll("nothing is owed", || {
        let seen = ask(&server, &key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json();
        (seen["backlog"] == 0).then_some(seen)
    });
    assert_eq!(seen["secret"], Value::Null, "it is shown once: {seen}");
    server.audit();
}

#[test]
fn what_was_accepted_is_delivered_after_a_kill() {
    let mut server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    subscribe(&server, &key, "orders", &endpoint.url, json!({ "first_seconds": 1, "longest_seconds": 1 }));
    *endpoint.status.lock().unwrap() = 503;
    let batch: Vec<Value> = (0..40).map(|id| event(id, id % 4)).collect();
    let batch = Value::from(batch).to_string();
    let stored = post(&server, &key, "application/cloudevents-batch+json", &batch);
    assert_eq!((stored.status, stored.json()["events"][39]["number"].clone()), (202, json!(40)));
    server.kill();
    server.restart();
    let again = post(&server, &key, "application/cloudevents-batch+json", &batch);
    assert_eq!((again.status, again.json()["events"][0]["is_repeat"].clone()), (202, json!(true)));
    *endpoint.status.lock().unwrap() = 204;
    let got = endpoint.wait_for(40);
    for key in 0..4_usize {
        let of_key = got.iter().filter(|got| got.event()["subject"] == format!("order-{key}").as_str());
        let mut ids: Vec<usize> =
            of_key.map(|got| got.event()["data"]["n"].as_u64().unwrap() as usize).collect();
        ids.dedup();
        assert_eq!(ids, (0..40).filter(|id| id % 4 == key).collect::<Vec<_>>(), "in the order of its key");
    }
    let traced = ask(&server, &key, "GET", "/api/v1/topics/orders/events/1", &json!(null)).json();
    assert_eq!(traced["subscriptions"][0]["state"], "delivered", "{traced}");
}

#[test]
fn a_log_that_is_gone_is_not_taken_for_a_new_one_and_a_torn_append_is_named() {
    let mut server = start();
    let key = server.new_key("owner", "owner");
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    server.kill();
    let log = server.data.join("notify/p0");
    let segment = log.join("seg-00000000000000000001.log");
    let whole = std::fs::read(&segment).unwrap();
    std::fs::remove_file(&segment).unwrap();
    // The sales do not need the message service.
    server.restart();
    let says = |server: &Server, what: &str| {
        poll("a line of the server's", || server.errors().contains(what).then_some(()));
    };
    says(&server, "notify/p0 at byte 0: the log that was here is gone");
    server.kill();
    let mut torn = whole.clone();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    torn[end + 100] = 7;
    std::fs::write(&segment, torn).unwrap();
    server.restart();
    says(&server, "a torn append at the log's end was cut");
    let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).body;
    assert!(topics.contains("\"orders\""), "{topics}");
}

#[test]
fn an_event_that_nobody_takes_becomes_a_dead_letter_and_can_be_sent_again() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    let retry = json!({ "first_seconds": 1, "longest_seconds": 1, "attempts": 2 });
    subscribe(&server, &key, "orders", &endpoint.url, retry);
    *endpoint.status.lock().unwrap() = 422;
    post(&server, &key, "application/cloudevents+json", &event(7, 1).to_string());
    let letters = poll("a dead letter", || {
        let letters =
            ask(&server, &key, "GET", "/api/v1/subscriptions/crm/dead-letters", &json!(null)).json();
        letters["letters"].as_array().filter(|letters| letters.len() == 1).cloned()
    });
    assert_eq!((&letters[0]["attempts"], &letters[0]["status"]), (&json!(2), &json!(422)), "{letters:?}");
    *endpoint.status.lock().unwrap() = 200;
    let redriven =
        ask(&server, &key, "POST", "/api/v1/subscriptions/crm/redrive", &json!({ "reason": "mended" }));
    assert_eq!(redriven.json()["changed"], 1);
    assert_eq!(endpoint.wait_for(1)[0].event()["id"], "7");
    let metrics = server.client.get(&server.events_url("/metrics")).body;
    assert!(metrics.contains("floodgate_notify_delivered_total{subscription=\"crm\"} 1"), "{metrics}");
}

#[test]
fn what_cannot_be_stored_or_delivered_is_refused_by_name() {
    let server = Server::start();
    let owner = server.new_key("owner", "owner");
    let reader = server.new_key("reader", "read-only");
    ask(&server, &owner, "PUT", "/api/v1/topics/orders", &json!({}));
    let problem = |reply: Reply| (reply.status, reply.problem());
    let good = event(1, 1).to_string();
    let of = |status, name: &str| (status, name.to_owned());
    let json_event = "application/cloudevents+json";
    assert_eq!(problem(post(&server, &reader, json_event, &good)), of(403, "role-refused"));
    assert_eq!(problem(post(&server, &owner, json_event, "{}")), of(422, "not-an-event"));
    assert_eq!(problem(post(&server, &owner, "application/json", &good)), of(415, "media-type"));
    let large =
        json!({ "specversion": "1.0", "id": "l", "source": "/s", "type": "t", "data": "x".repeat(300_000) });
    assert_eq!(problem(post(&server, &owner, json_event, &large.to_string())), of(413, "event-too-large"));
    assert_eq!(post(&server, &owner, json_event, &good).status, 202);
    let other = good.replace("order.paid", "order.lost");
    assert_eq!(problem(post(&server, &owner, json_event, &other)), of(409, "event-repeated"));
    let url = server.events_url("/api/v1/topics/nosuch/events");
    let authorization = format!("Bearer {owner}");
    let headers = [("authorization", &*authorization), ("content-type", json_event)];
    assert_eq!(problem(server.client.send("POST", &url, &headers, &good)), of(404, "not-found"));
    for (spec, why) in [
        (json!({ "topic": "orders", "url": "ftp://x" }), "url"),
        (json!({ "topic": "orders", "url": "https://x.example/", "filter": [] }), "filter"),
        (
            json!({ "topic": "orders", "url": "https://x.example/", "filters": [{ "exact": {} }] }),
            "attribute",
        ),
        (
            json!({ "topic": "orders", "url": "https://x.example/", "retry": { "attempts": 0 } }),
            "retry.attempts",
        ),
    ] {
        let refused = ask(&server, &owner, "PUT", "/api/v1/subscriptions/crm", &spec);
        assert_eq!((refused.status, &*refused.problem()), (422, "invalid"), "{spec}: {refused:?}");
        assert!(refused.body.contains(why), "{spec}: {refused:?}");
    }
    // An endpoint inside the shop's own network is not reached.
    let endpoint = Endpoint::start();
    subscribe(&server, &owner, "orders", &endpoint.url, json!({ "attempts": 1 }));
    post(&server, &owner, json_event, &event(2, 1).to_string());
    let letters = poll("a dead letter", || {
        let letters =
            ask(&server, &owner, "GET", "/api/v1/subscriptions/crm/dead-letters", &json!(null)).json();
        letters["letters"].as_array().filter(|letters| letters.len() == 1).cloned()
    });
    assert!(letters[0]["said"].as_str().unwrap().contains("127.0.0.1"), "{letters:?}");
    assert!(endpoint.got.lock().unwrap().is_empty());
}

#[test]
fn a_restored_copy_delivers_nothing_until_an_operator_says_so_and_tells_nothing_twice() {
    let mut server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    poll("the topic of all sales", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).json();
        topics["topics"].as_array()?.iter().any(|of| of["topic"] == "sales").then_some(())
    });
    subscribe(&server, &key, "sales", &endpoint.url, json!({}));
    sale.granted(&server.pass("launch", "alice"), "k", "phone");
    // All of them are told, and known to be, before the copy is made.
    let told = poll("alice's grant", || {
        let got = endpoint.got.lock().unwrap().clone();
        let owed = ask(&server, &key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json();
        let is_told = got.iter().any(|got| got.event()["data"]["shopper"] == "alice");
        (is_told && owed["backlog"] == 0).then_some(got.len())
    });
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    let said = server.output(&["backup", &backup.display().to_string()]);
    assert!(said.contains("message service"), "{said}");
    stdout(&run(&restored, None, &["restore", &backup.display().to_string()]));
    server.kill();
    let notify = "allowed_networks = [\"127.0.0.0/8\"]\n".to_owned();
    let copy = Server::with(Setup { notify, data: Some(restored), ..Setup::default() });
    let seen = ask(&copy, &key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json();
    assert_eq!(seen["state"], "paused", "{seen}");
    copy.admin("POST", "/sales/launch/resume", &json!({ "reason": "the other one is gone" }));
    let sale = copy.sale("launch");
    sale.granted(&copy.pass("launch", "bob"), "k", "phone");
    let resumed = ask(&copy, &key, "POST", "/api/v1/subscriptions/crm/resume", &json!({}));
    assert_eq!(resumed.json()["done"], true, "{resumed:?}");
    let got = poll("the grant after the restore", || {
        let got = endpoint.got.lock().unwrap().clone();
        got.iter().any(|got| got.event()["data"]["shopper"] == "bob").then_some(got)
    });
    let of_alice = got.iter().filter(|got| got.event()["data"]["shopper"] == "alice").count();
    assert_eq!(of_alice, got[..told].iter().filter(|got| got.event()["data"]["shopper"] == "alice").count());
}

#[test]
fn operators_see_what_each_subscription_is_owed_on_a_page_in_two_languages() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    subscribe(&server, &key, "orders", &endpoint.url, json!({ "attempts": 1 }));
    *endpoint.status.lock().unwrap() = 422;
    post(&server, &key, "application/cloudevents+json", &event(7, 1).to_string());
    let page = |path: &str| {
        let headers = [("authorization", &*format!("Bearer {key}")), ("accept", "text/html")];
        server.client.send("GET", &server.events_url(path), &headers, "")
    };
    let seen = poll("a dead letter on the page", || {
        let seen = page("/subscriptions/crm").body;
        seen.contains("<td>422</td>").then_some(seen)
    });
    assert!(seen.contains("<h2>Dead letters</h2>") && seen.contains(&endpoint.url), "{seen}");
    let list = page("/").body;
    assert!(list.contains("data-subscription=\"crm\"") && list.contains("<caption>"), "{list}");
    assert!(!list.contains("<script"), "it works without JavaScript");
    let style = list.split_once("stylesheet\" href=\"").unwrap().1.split('"').next().unwrap();
    assert_eq!(server.client.get(&server.events_url(style)).status, 200);
    let zh = page("/?lang=zh").body;
    assert!(zh.contains("lang=\"zh-Hans\"") && zh.contains("死信") && zh.contains("启用"), "{zh}");
    assert_eq!(page("/subscriptions/nosuch").status, 404);
    assert_eq!(server.client.get(&server.events_url("/")).status, 401);
}

#[test]
fn a_replay_sends_again_and_a_rotated_secret_signs_beside_the_old_one() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    let old = subscribe(&server, &key, "orders", &endpoint.url, json!({}));
    let post_one = |id| {
        let stored = post(&server, &key, "application/cloudevents+json", &event(id, 1).to_string());
        assert_eq!(stored.status, 202, "{stored:?}");
    };
    post_one(1);
    endpoint.wait_for(1);
    let rotate = json!({ "overlap_seconds": 2, "reason": "it was in a ticket" });
    let rotated = ask(&server, &key, "POST", "/api/v1/subscriptions/crm/secret", &rotate).json();
    let new = rotated["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    let replay = |body: Value| ask(&server, &key, "POST", "/api/v1/subscriptions/crm/replay", &body);
    assert_eq!(replay(json!({ "from": 1, "reason": "lost" })).json()["from"], 1);
    let got = endpoint.wait_for(2);
    assert_eq!(got[0].id, got[1].id, "the same event");
    let both = format!("{} {}", signature(&new, &got[1]), signature(&old, &got[1]));
    assert_eq!(got[1].signature, both);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    post_one(2);
    let got = endpoint.wait_for(3);
    assert_eq!(got[2].signature, signature(&new, &got[2]), "the overlap is over");
    assert_eq!(replay(json!({})).problem(), "invalid");
    assert_eq!(replay(json!({ "from": 1, "from_time": "2026-01-01T00:00:00Z" })).problem(), "invalid");
    assert_eq!(replay(json!({ "from_time": "2026-01-01T00:00:00Z" })).json()["from"], 1);
    endpoint.wait_for(5);
}

#[test]
fn a_command_that_is_sent_again_under_its_key_is_carried_out_once() {
    let (mut server, key) = with_topic();
    let endpoint = Endpoint::start();
    let old = subscribe(&server, &key, "orders", &endpoint.url, json!({}));
    post(&server, &key, "application/cloudevents+json", &event(1, 1).to_string());
    endpoint.wait_for(1);
    let command = |server: &Server, what: &str, id: &str, body: Value| {
        let url = server.events_url(&format!("/api/v1/subscriptions/crm/{what}"));
        let bearer = format!("Bearer {key}");
        let fields =
            [("authorization", &*bearer), ("content-type", "application/json"), ("idempotency-key", id)];
        server.client.send("POST", &url, &fields, &body.to_string())
    };
    let rotate =
        |server: &Server, reason: &str| command(server, "secret", "r-1", json!({ "reason": reason }));
    let new = rotate(&server, "leaked").json();
    assert_eq!(rotate(&server, "leaked").json(), new, "the answer was lost");
    server.kill();
    server.restart();
    assert_eq!(rotate(&server, "leaked").json(), new, "over a kill");
    assert_eq!(rotate(&server, "another").problem(), "conflict");
    assert_eq!(command(&server, "secret", "", json!({})).problem(), "invalid");
    let again = || command(&server, "replay", "a-1", json!({ "from": 1, "reason": "lost" }));
    assert_eq!((again().json(), again().json()), (json!({ "from": 1 }), json!({ "from": 1 })));
    let got = endpoint.wait_for(2);
    // Receivers that have either secret take it: the first one is the one before the last.
    let both =
        format!("{} {}", signature(new["secret"].as_str().unwrap(), &got[1]), signature(&old, &got[1]));
    assert_eq!(got[1].signature, both);
    post(&server, &key, "application/cloudevents+json", &event(2, 1).to_string());
    let ids: Vec<Value> = endpoint.wait_for(3).iter().map(|got| got.event()["id"].clone()).collect();
    assert_eq!(ids, ["1", "1", "2"], "replayed once");
}

#[test]
fn consumers_without_an_endpoint_pull_and_settle_and_each_attempt_can_be_read() {
    let server = start();
    let key = server.new_key("owner", "owner");
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    let retry = json!({ "first_seconds": 1, "longest_seconds": 1, "attempts": 2 });
    let spec = json!({ "topic": "orders", "retry": retry });
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/subscriptions/worker", &spec).status, 200);
    let pull = |body: Value| ask(&server, &key, "POST", "/api/v1/subscriptions/worker/pull", &body).json();
    let settle =
        |body: Value| ask(&server, &key, "POST", "/api/v1/subscriptions/worker/settle", &body).json();
    assert_eq!(pull(json!({}))["events"], json!([]));
    // It waits for what is posted meanwhile.
    let pulled = std::thread::scope(|scope| {
        let waits = scope.spawn(|| pull(json!({ "wait_ms": 20_000, "max": 10 })));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let batch = json!([event(1, 1), event(2, 1), event(3, 2)]).to_string();
        assert_eq!(post(&server, &key, "application/cloudevents-batch+json", &batch).status, 202);
        waits.join().unwrap()
    });
    let numbers = |pulled: &Value| -> Vec<u64> {
        let events = pulled["events"].as_array().unwrap();
        events.iter().map(|event| event["number"].as_u64().unwrap()).collect()
    };
    assert_eq!((numbers(&pulled), &pulled["events"][1]["event"]), (vec![1, 3], &event(3, 2)));
    let receipt = |number| json!({ "number": number, "attempt": 1 });
    let settled = settle(json!({ "done": [receipt(3)], "failed": [receipt(1)] }));
    assert_eq!(settled, json!({ "settled": 2, "late": 0 }));
    let again = pull(json!({ "wait_ms": 10_000 }));
    assert_eq!((numbers(&again), &again["events"][0]["attempt"]), (vec![1], &json!(2)));
    let settled = settle(json!({ "failed": [{ "number": 1, "attempt": 2 }] }));
    assert_eq!(settled["settled"], 1);
    assert_eq!(numbers(&pull(json!({ "wait_ms": 10_000 }))), [2], "the dead letter lets its key go on");
    let told = ask(&server, &key, "GET", "/api/v1/topics/orders/events/1", &json!(null)).json();
    assert_eq!((&told["event"], &told["subscriptions"][0]["state"]), (&event(1, 1), &json!("dead")));
    let attempts = ask(&server, &key, "GET", "/api/v1/topics/orders/events/1/attempts", &json!(null)).json();
    let outcomes: Vec<&Value> =
        attempts["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "dead-letter"], "{attempts}");
    assert_eq!(attempts["attempts"][0]["subscription"], "worker");
    assert_eq!(attempts["next"], Value::Null);
    let refused = ask(&server, &key, "POST", "/api/v1/subscriptions/worker/pull", &json!({ "max": 0 }));
    assert_eq!(refused.problem(), "invalid");
}

#[test]
fn data_that_some_parsers_do_not_take_is_handed_out_as_it_came() {
    let server = start();
    let key = server.new_key("owner", "owner");
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    ask(&server, &key, "PUT", "/api/v1/subscriptions/worker", &json!({ "topic": "orders" }));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let all = [r#""\ud800""#, "1e400", &*deep, "{\"n\":1}"];
    for (id, data) in all.iter().enumerate() {
        let event = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"t","data":{data}}}"#);
        assert_eq!(post(&server, &key, "application/cloudevents+json", &event).status, 202, "{data}");
    }
    let pulled = ask(&server, &key, "POST", "/api/v1/subscriptions/worker/pull", &json!({ "max": 10 }));
    for data in all {
        assert!(pulled.body.contains(&format!("\"data\":{data}")), "{data} in {}", pulled.body);
    }
    for number in 1..=4 {
        let path = format!("/api/v1/topics/orders/events/{number}");
        assert_eq!(ask(&server, &key, "GET", &path, &json!(null)).status, 200, "{number}");
    }
}

#[test]
fn a_consumer_that_went_away_takes_nothing_and_those_who_wait_share() {
    let server = start();
    let key = server.new_key("owner", "owner");
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    ask(&server, &key, "PUT", "/api/v1/subscriptions/worker", &json!({ "topic": "orders" }));
    for _ in 0..3 {
        let mut gone = TcpStream::connect(server.events_url("").trim_start_matches("http://")).unwrap();
        let body = r#"{"wait_ms":30000,"lease_seconds":3600}"#;
        write!(
            gone,
            "POST /api/v1/subscriptions/worker/pull HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let wait = json!({ "wait_ms": 20_000, "max": 1 });
    let pull = || ask(&server, &key, "POST", "/api/v1/subscriptions/worker/pull", &wait).json();
    let pulled: Vec<Value> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..5).map(|_| scope.spawn(pull)).collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let batch: Vec<Value> = (1..=5).map(|id| event(id, id)).collect();
        let stored =
            post(&server, &key, "application/cloudevents-batch+json", &Value::from(batch).to_string());
        assert_eq!(stored.status, 202);
        waiting.into_iter().map(|waits| waits.join().unwrap()).collect()
    });
    let mut taken: Vec<(u64, u64)> = pulled
        .iter()
        .flat_map(|pulled| pulled["events"].as_array().unwrap())
        .map(|event| (event["number"].as_u64().unwrap(), event["attempt"].as_u64().unwrap()))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
}

#[test]
fn a_signed_in_operator_pauses_and_redrives_by_forms_and_only_an_owner_discards() {
    let server = start();
    let key = server.new_key("owner", "owner");
    server.new_key("nora", "operator");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    subscribe(&server, &key, "orders", &endpoint.url, json!({ "attempts": 1 }));
    *endpoint.status.lock().unwrap() = 422;
    post(&server, &key, "application/cloudevents+json", &event(7, 1).to_string());
    let page = |cookie: &str, path: &str| {
        server.client.send("GET", &server.events_url(path), &[("cookie", cookie)], "").body
    };
    let sign_in = |name: &str| {
        let link = stdout(&server.command(&["key", "sign-in", "--at", &server.events_url(""), name]));
        let signed_in = server.client.send("POST", link.trim(), &[], "");
        assert_eq!(signed_in.status, 303, "{signed_in:?}");
        signed_in.header("set-cookie").split(';').next().unwrap().to_owned()
    };
    let (nora, owner) = (sign_in("nora"), sign_in("owner"));
    let shown = poll("the forms", || {
        let shown = page(&nora, "/subscriptions/crm");
        shown.contains("value=\"redrive\"").then_some(shown)
    });
    assert!(shown.contains("value=\"pause\"") && !shown.contains("/subscriptions/discard"), "{shown}");
    let send = |cookie: &str, path: &str, fields: &str| {
        let token = page(cookie, "/subscriptions/crm");
        let token =
            token.split_once("name=\"form\" value=\"").unwrap().1.split('"').next().unwrap().to_owned();
        let headers = [("cookie", cookie), ("content-type", "application/x-www-form-urlencoded")];
        let body = format!("form={token}&lang=en&subscription=crm&{fields}");
        server.client.send("POST", &server.events_url(path), &headers, &body)
    };
    let paused = send(&nora, "/subscriptions/operate", "what=pause&reason=look");
    assert_eq!((paused.status, paused.header("location")), (303, "/subscriptions/crm?lang=en&done=pause"));
    assert!(page(&nora, paused.header("location")).contains("role=\"status\""));
    assert_eq!(send(&nora, "/subscriptions/discard", "what=discard&number=1&reason=x").status, 403);
    assert_eq!(send(&nora, "/subscriptions/operate", "what=resume").status, 303);
    assert_eq!(send(&nora, "/subscriptions/operate", "what=delete").problem(), "invalid");
    let forged = [("cookie", &*nora), ("content-type", "application/x-www-form-urlencoded")];
    let url = server.events_url("/subscriptions/operate");
    let forged = server.client.send("POST", &url, &forged, "form=x&subscription=crm&what=pause");
    assert_eq!(forged.problem(), "form-refused");
    *endpoint.status.lock().unwrap() = 200;
    assert_eq!(send(&nora, "/subscriptions/operate", "what=redrive&reason=mended").status, 303);
    endpoint.wait_for(1);
    *endpoint.status.lock().unwrap() = 422;
    post(&server, &key, "application/cloudevents+json", &event(8, 1).to_string());
    poll("the next dead letter", || {
        page(&owner, "/subscriptions/crm").contains("<td>422</td>").then_some(())
    });
    let discarded = send(&owner, "/subscriptions/discard", "what=discard&number=2&reason=test");
    assert_eq!(discarded.status, 303, "{discarded:?}");
    let seen = ask(&server, &key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json();
    assert_eq!((&seen["dead_letters"], &seen["state"]), (&json!(0), &json!("active")), "{seen}");
}

#[test]
fn an_event_is_delivered_when_it_is_due() {
    let server = start();
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({}));
    subscribe(&server, &key, "orders", &endpoint.url, json!({}));
    let kind = "application/cloudevents+json";
    let mut later = event(1, 1);
    later["deliverat"] = shop::in_ms(1500).into();
    let stored = post(&server, &key, kind, &later.to_string()).json();
    assert_eq!(stored["events"][0], json!({ "is_repeat": false }), "no number yet");
    post(&server, &key, kind, &event(2, 1).to_string());
    let ids: Vec<Value> = endpoint.wait_for(2).iter().map(|got| got.event()["id"].clone()).collect();
    assert_eq!(ids, ["2", "1"]);
    later["id"] = "3".into();
    later["deliverat"] = "tomorrow".into();
    let refused = post(&server, &key, kind, &later.to_string());
    assert!(refused.problem() == "not-an-event" && refused.body.contains("deliverat"), "{refused:?}");
}
