//! Keys of tenants: each operation of the message service with the keys that may ask it and those
//! that may not. What is another tenant's is answered as what does not exist.

use crate::harness::{Server, Setup, http::Reply, poll};
use crate::messages::{Endpoint, ask, event, signature};
use serde_json::{Value, json};
use web::{
    operation::{Access, Row},
    tenants::Right,
};

const RIGHTS: [Right; 3] = [Right::Produce, Right::Consume, Right::Manage];

/// What is sent to an operation, and the status for who may.
struct Sent {
    body: Value,
    status: u16,
}

/// An operation that tenants may ask has a row here.
fn sent(id: &str) -> Option<Sent> {
    let sent = |body, status| Some(Sent { body, status });
    match id {
        "postEvents" => sent(event(2, 1), 202),
        "readEvent" | "streamEvents" | "listAttempts" | "listTopics" | "listSubscriptions"
        | "readSubscription" => sent(json!({}), 200),
        "listDeadLetters" | "listBlockedKeys" | "settleEvents" | "unsubscribe" | "defineTopic" => {
            sent(json!({}), 200)
        }
        "pullEvents" | "pauseSubscription" | "resumeSubscription" | "rotateSecret" | "redrive" => {
            sent(json!({}), 200)
        }
        // Its consumers pull.
        "testDelivery" => sent(json!({}), 409),
        "subscribe" => sent(json!({ "topic": "acme.orders", "in_flight_max": 7 }), 200),
        "listSchedules" | "readSchedule" | "deleteSchedule" => sent(json!({}), 200),
        "setSchedule" => sent(hourly("acme.orders"), 200),
        "replay" => sent(json!({ "from": 1 }), 200),
        "discard" => sent(json!({ "reason": "r" }), 200),
        _ => None,
    }
}

/// A schedule of a topic.
fn hourly(topic: &str) -> Value {
    json!({ "topic": topic, "cron": "@hourly", "event": { "source": "/s", "type": "t" } })
}

/// A schedule has the name of a subscription.
fn filled(row: &Row, topic: &str, subscription: &str) -> String {
    let path = row.path.replace("{topic}", topic).replace("{subscription}", subscription);
    let path = path.replace("{schedule}", subscription);
    let path = path.replace("{number}", "1").replace("{file}", "none");
    assert!(!path.contains('{'), "{path}: a parameter that the test does not know");
    path
}

struct Tenants {
    server: Server,
    owner: String,
}

impl Tenants {
    fn start(notify: &str) -> Self {
        let notify = format!("tenant_networks = [\"127.0.0.0/8\"]\n{notify}");
        let server = Server::with(Setup { notify, ..Setup::default() });
        let owner = server.new_key("owner", "owner");
        Self { server, owner }
    }

    /// Two tenants, with the same in each.
    fn fill(&self) {
        for (path, body) in [
            ("topics/acme.orders", json!({})),
            ("topics/acme.stock", json!({})),
            ("topics/beta.orders", json!({})),
            ("subscriptions/acme.worker", json!({ "topic": "acme.orders" })),
            ("subscriptions/acme.stock", json!({ "topic": "acme.stock" })),
            ("subscriptions/beta.worker", json!({ "topic": "beta.orders" })),
            ("schedules/acme.worker", hourly("acme.orders")),
            ("schedules/beta.worker", hourly("beta.orders")),
            // An operator's, who looks on.
            ("schedules/auditor", hourly("acme.orders")),
            ("subscriptions/auditor", json!({ "topic": "acme.orders" })),
        ] {
            let made = self.ask(&self.owner, "PUT", path, &body);
            assert_eq!(made.status, 200, "{path}: {made:?}");
        }
        assert_eq!(self.post(&self.owner, "acme.orders", &event(1, 1)).status, 202);
    }

    fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        ask(&self.server, key, method, &format!("/api/v1/{path}"), body)
    }

    fn post(&self, key: &str, topic: &str, event: &Value) -> Reply {
        self.send(key, "POST", &format!("/api/v1/topics/{topic}/events"), event)
    }

    /// With the type that the operation takes.
    fn send(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        let content_type = match method == "POST" && path.ends_with("/events") {
            true => "application/cloudevents+json",
            false => "application/json",
        };
        let fields = [("authorization", &*format!("Bearer {key}")), ("content-type", content_type)];
        let fields = if key.is_empty() { &fields[1..] } else { &fields };
        self.server.client.send(method, &self.server.events_url(path), fields, &body.to_string())
    }

    /// All that an operator sees of a tenant, without what an operation of another may wait for.
    fn seen(&self) -> [String; 3] {
        ["topics", "subscriptions", "schedules"].map(|of| self.ask(&self.owner, "GET", of, &json!(null)).body)
    }
}

#[test]
fn every_operation_is_for_the_keys_that_its_row_names() {
    let tenants = Tenants::start("");
    let server = &tenants.server;
    tenants.fill();
    let with = RIGHTS
        .map(|right| (right, server.tenant_key(&format!("acme-{right}"), "acme", &right.to_string(), &[])));
    let all = "produce,consume,manage";
    let narrowed = server.tenant_key("acme-narrowed", "acme", all, &["--topics", "acme.stock"]);
    let foreign = server.tenant_key("beta-all", "beta", all, &[]);
    let mut asked = 0;
    for (_, row) in notify::reference::operations() {
        let path = filled(&row, "acme.orders", "acme.worker");
        let what = format!("{} {}", row.method, row.path);
        let Access::Shared(_, rights) = row.access else {
            for key in with.iter().map(|(_, key)| key).chain([&narrowed, &foreign]) {
                let reply = tenants.send(key, row.method, &path, &json!({}));
                match row.access {
                    Access::Open => {
                        assert!(reply.status < 400 || path.ends_with("/none"), "{what}: {reply:?}")
                    }
                    _ => assert_eq!((reply.status, &*reply.problem()), (403, "right-refused"), "{what}"),
                }
            }
            continue;
        };
        asked += 1;
        let Sent { body, status } = sent(row.id).unwrap_or_else(|| panic!("{}: no row in this test", row.id));
        let send = |key: &str, path: &str| tenants.send(key, row.method, path, &body);
        let none = send("", &path);
        assert_eq!((none.status, &*none.problem()), (401, "key-missing"), "{what}");

        let before = tenants.seen();
        let is_named = ["{topic}", "{subscription}", "{schedule}"].iter().any(|name| row.path.contains(name));
        let of_another = send(&foreign, &path);
        if is_named {
            let nothing = filled(&row, "acme.nothing", "acme.nobody");
            let of_nothing = send(&foreign, &nothing);
            let plain = |reply: &Reply| {
                let body = reply.body.replace("acme.nothing", "NAME").replace("acme.nobody", "NAME");
                let body = body.replace("acme.orders", "NAME").replace("acme.worker", "NAME");
                let mut headers = reply.headers.clone();
                headers.remove("date");
                headers.remove("content-length");
                (reply.status, body, headers)
            };
            assert_eq!((of_another.status, &*of_another.problem()), (404, "not-found"), "{what}");
            assert_eq!(plain(&of_another), plain(&of_nothing), "{what}: it tells what is there");
        } else {
            assert_eq!(of_another.status, 200, "{what}: {of_another:?}");
            assert!(!of_another.body.contains("acme") && of_another.body.contains("beta"), "{of_another:?}");
        }
        for (right, key) in with.iter().filter(|(right, _)| !rights.contains(right)) {
            let reply = send(key, &path);
            assert_eq!((reply.status, &*reply.problem()), (403, "right-refused"), "{right}: {what}");
        }
        let of_narrowed = send(&narrowed, &path);
        if rights.contains(&Right::Manage) {
            assert_eq!(of_narrowed.status, status, "{what}: {of_narrowed:?}");
        } else {
            assert_eq!((of_narrowed.status, &*of_narrowed.problem()), (404, "not-found"), "{what}");
            assert_eq!(tenants.seen(), before, "{what}: something was changed");
        }
        for (right, key) in with.iter().filter(|(right, _)| rights.contains(right)) {
            tenants.fill();
            if row.id == "streamEvents" {
                // It has no end.
                let bearer = format!("Bearer {key}");
                let url = server.events_url(&path);
                let first = server.client.lines(&url, &[("authorization", &bearer)]).next();
                assert_eq!(first.as_deref(), Some("retry: 2000"));
                continue;
            }
            let reply = send(key, &path);
            assert_eq!(reply.status, status, "{right}: {what}: {reply:?}");
            let own = reply.body.replace("acme.orders", "");
            assert!(!own.contains("beta") && !own.contains("auditor"), "{what}: {reply:?}");
        }
        tenants.fill();
    }
    assert!(asked >= 23, "{asked} operations");
    // The log names the key.
    let log = std::fs::read(server.data.join("notify/p0/seg-00000000000000000001.log")).unwrap();
    assert!(log.windows(11).any(|bytes| bytes == b"acme-manage"));
}

/// What is signed has full stops between its parts, so that the id of a message has none.
#[test]
fn what_is_delivered_of_a_tenants_topic_is_signed_as_any_other() {
    let tenants = Tenants::start("");
    tenants.fill();
    let (acme, endpoint) = (tenants.server.tenant_key("acme", "acme", "manage", &[]), Endpoint::start());
    let spec = json!({ "topic": "acme.stock", "url": endpoint.url });
    let made = tenants.ask(&acme, "PUT", "subscriptions/acme.crm", &spec).json();
    assert_eq!(tenants.post(&tenants.owner, "acme.stock", &event(1, 1)).status, 202);
    let got = endpoint.wait_for(1).remove(0);
    assert!(got.id.starts_with("acme_stock_1_") && !got.id.contains('.'), "{got:?}");
    assert_eq!(got.signature, signature(made["secret"].as_str().unwrap(), &got));
}

#[test]
fn a_key_for_some_topics_sees_those_and_the_subscriptions_to_them() {
    let tenants = Tenants::start("");
    tenants.fill();
    let args = ["--topics", "acme.stock"];
    let key = tenants.server.tenant_key("narrow", "acme", "produce,consume", &args);
    let get = |path: &str| tenants.ask(&key, "GET", path, &json!(null));
    let (topics, subscriptions) = (get("topics").json(), get("subscriptions").json());
    let names = |list: &Value, of: &str, name: &str| -> Vec<String> {
        list[of].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&topics, "topics", "topic"), ["acme.stock"]);
    assert_eq!(names(&subscriptions, "subscriptions", "subscription"), ["acme.stock"]);
    assert_eq!(tenants.post(&key, "acme.stock", &event(1, 1)).status, 202);
    assert_eq!(tenants.post(&key, "acme.orders", &event(1, 1)).status, 404);
    assert_eq!(get("topics/acme.stock/events/1").status, 200);
    assert_eq!(get("topics/acme.orders/events/1").status, 404);
    assert_eq!(get("subscriptions/acme.stock").status, 200);
    // One that is there, and one that is not.
    let plain = |name: &str| get(&format!("subscriptions/{name}")).body.replace(name, "NAME");
    assert_eq!(plain("acme.worker"), plain("acme.nobody"));
}

#[test]
fn many_at_once_make_no_more_than_a_tenant_may_have() {
    let limits = "tenant_topics_max = 3\ntenant_subscriptions_max = 3\ntenant_schedules_max = 2\n";
    let tenants = Tenants::start(limits);
    let key = tenants.server.tenant_key("acme", "acme", "manage", &[]);
    let made = |what: &str, body: Value| {
        let put = |at: usize| tenants.ask(&key, "PUT", &format!("{what}/acme.n{at}"), &body).status;
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..12).map(|at| scope.spawn(move || put(at))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    };
    assert_eq!(made("topics", json!({})), 3);
    let topics = tenants.ask(&key, "GET", "topics", &json!(null)).json();
    let topic = topics["topics"][0]["topic"].clone();
    assert_eq!(made("subscriptions", json!({ "topic": topic })), 3);
    assert_eq!(made("schedules", hourly(topic.as_str().unwrap())), 2);
    let of_others = tenants.ask(&key, "PUT", "schedules/acme.n0", &hourly("sales"));
    assert_eq!(of_others.status, 404, "{of_others:?}");
}

#[test]
fn a_tenant_has_no_more_than_it_may_and_an_operator_may_give_it_more() {
    let tenants = Tenants::start("tenant_topics_max = 2\ntenant_subscriptions_max = 1\n");
    let acme = tenants.server.tenant_key("acme", "acme", "manage,consume", &[]);
    let put = |key: &str, path: &str, body: Value| {
        let reply = tenants.ask(key, "PUT", path, &body);
        (reply.status, reply.body)
    };
    assert_eq!(put(&acme, "topics/acme.a", json!({})).0, 200);
    assert_eq!(put(&acme, "topics/acme.b", json!({})).0, 200);
    let (status, why) = put(&acme, "topics/acme.c", json!({}));
    assert!(status == 409 && why.contains("notify.tenant_topics_max"), "{status} {why}");
    assert_eq!(put(&acme, "topics/acme.b", json!({ "retain_seconds": 60 })).0, 200, "it changes what it has");
    for path in ["topics/sales", "topics/orders", "topics/acme", "topics/beta.a", "topics/acmes.a"] {
        assert_eq!(put(&acme, path, json!({})).0, 404, "{path}");
    }
    assert_eq!(put(&acme, "subscriptions/acme.s", json!({ "topic": "sales" })).0, 404);
    assert_eq!(put(&tenants.owner, "topics/acme.c", json!({})).0, 200);
    assert_eq!(put(&acme, "subscriptions/acme.s", json!({ "topic": "acme.a" })).0, 200);
    assert_eq!(put(&acme, "subscriptions/acme.t", json!({ "topic": "acme.a" })).0, 409);
    // An operator's subscription of another's topic is the tenant's, who may not point it
    // elsewhere.
    poll("the topic of all sales", || {
        let topics = tenants.ask(&tenants.owner, "GET", "topics", &json!(null));
        topics.body.contains("\"sales\"").then_some(())
    });
    assert_eq!(put(&tenants.owner, "subscriptions/acme.sales", json!({ "topic": "sales" })).0, 200);
    assert_eq!(put(&acme, "subscriptions/acme.sales", json!({ "topic": "sales" })).0, 404);
    let seen = tenants.ask(&acme, "GET", "subscriptions", &json!(null)).json();
    let names: Vec<&str> = seen["subscriptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["subscription"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["acme.s", "acme.sales"]);
    assert_eq!(tenants.ask(&acme, "POST", "subscriptions/acme.sales/pull", &json!({})).status, 200);
    // Lists are paged within the tenant.
    let page = tenants.ask(&acme, "GET", "subscriptions?limit=1", &json!(null)).json();
    assert_eq!(
        (&page["subscriptions"][0]["subscription"], &page["next"]),
        (&json!("acme.s"), &json!("acme.s"))
    );
    let page = tenants.ask(&acme, "GET", "subscriptions?limit=1&after=acme.s", &json!(null)).json();
    assert_eq!(page["subscriptions"][0]["subscription"], "acme.sales");
    let page = tenants.ask(&acme, "GET", "subscriptions?after=acme.sales", &json!(null)).json();
    assert_eq!(page, json!({ "subscriptions": [] }));
}

#[test]
fn a_key_posts_at_its_rate_and_pulls_at_once_as_much_as_it_may() {
    let tenants = Tenants::start("key_events_per_second = 5\nkey_pulls_max = 1\n");
    tenants.fill();
    let acme = tenants.server.tenant_key("acme", "acme", "produce,consume", &[]);
    let beta = tenants.server.tenant_key("beta", "beta", "produce", &[]);
    let batch: Vec<Value> = (10..30).map(|id| event(id, id)).collect();
    let fields = [
        ("authorization", &*format!("Bearer {acme}")),
        ("content-type", "application/cloudevents-batch+json"),
    ];
    let url = tenants.server.events_url("/api/v1/topics/acme.orders/events");
    let body = Value::from(batch).to_string();
    assert_eq!(tenants.server.client.send("POST", &url, &fields, &body).status, 202);
    let over = tenants.server.client.send("POST", &url, &fields, &body);
    assert_eq!(
        (over.status, &*over.problem(), over.header("retry-after")),
        (429, "key-limited", "3"),
        "{over:?}"
    );
    assert!(over.body.contains("acme") && over.body.contains("notify.key_events_per_second"), "{over:?}");
    assert_eq!(tenants.post(&beta, "beta.orders", &event(1, 1)).status, 202, "no other key pays for it");
    assert_eq!(tenants.post(&tenants.owner, "acme.orders", &event(50, 1)).status, 202);
    let metrics = |key: &str| tenants.send(key, "GET", "/metrics", &json!(null)).body;
    let told = metrics(&tenants.owner);
    for row in [
        "floodgate_notify_tenant_events_total{tenant=\"acme\"} 20",
        "floodgate_notify_tenant_limited_total{tenant=\"acme\"} 1",
        "floodgate_notify_backlog{subscription=\"acme.worker\"}",
    ] {
        assert!(told.contains(row), "{row}: {told}");
    }
    for key in ["", &*acme] {
        let told = metrics(key);
        assert!(told.contains("{subscription=\"auditor\"}") && !told.contains("acme"), "{told}");
    }
    let pull = |wait_ms: u64, subscription: &str| {
        let path = format!("subscriptions/{subscription}/pull");
        tenants.ask(&acme, "POST", &path, &json!({ "wait_ms": wait_ms }))
    };
    std::thread::scope(|scope| {
        // Until it is the one that is let in.
        let waits = scope
            .spawn(|| poll("a pull", || Some(pull(3000, "acme.stock")).filter(|reply| reply.status == 200)));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let refused =
            poll("a pull beside it", || Some(pull(0, "acme.worker")).filter(|reply| reply.status != 200));
        assert_eq!((refused.status, &*refused.problem()), (429, "key-limited"), "{refused:?}");
        waits.join().unwrap();
    });
    assert_eq!(pull(0, "acme.worker").status, 200);
}

#[test]
fn a_tenants_key_is_made_and_revoked_by_name() {
    let tenants = Tenants::start("");
    let server = &tenants.server;
    tenants.fill();
    let key = server.tenant_key("till", "acme", "produce,consume", &["--topics", "acme.orders"]);
    let listed = server.output(&["key", "list"]);
    assert!(listed.contains("till\tacme: produce, consume (acme.orders)\t"), "{listed}");
    assert_eq!(tenants.post(&key, "acme.orders", &event(9, 1)).status, 202);
    let refused = |args: &[&str]| {
        let output = server.command(args);
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let foreign = ["key", "new", "x", "--tenant", "acme", "--rights", "produce", "--topics", "beta.orders"];
    assert!(refused(&foreign).contains("begin with acme."));
    assert!(refused(&["key", "new", "x", "--tenant", "acme"]).contains("--rights"));
    assert!(refused(&["key", "new", "x", "--tenant", "a.b", "--rights", "produce"]).contains("tenant"));
    assert!(refused(&["key", "new", "x", "--tenant", "acme", "--rights", "own"]).contains("want produce"));
    let both = ["key", "new", "x", "--tenant", "acme", "--rights", "produce", "--role", "owner"];
    assert!(refused(&both).contains("--role"));
    let said = refused(&["key", "sign-in", "--at", "http://127.0.0.1:1", "till"]);
    assert!(said.contains("no page to sign in to"), "{said}");
    server.output(&["key", "revoke", "till"]);
    let gone = poll("the end of the key", || {
        Some(tenants.post(&key, "acme.orders", &event(9, 1))).filter(|reply| reply.status == 401)
    });
    assert_eq!(gone.problem(), "key-refused");
}

#[test]
fn a_tenant_does_not_reach_what_operators_may_and_is_not_told_which_address_it_is() {
    let notify = "allowed_networks = [\"127.0.0.0/8\"]\n".to_owned();
    let server = Server::with(Setup { notify, ..Setup::default() });
    let owner = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    for topic in ["orders", "acme.orders"] {
        ask(&server, &owner, "PUT", &format!("/api/v1/topics/{topic}"), &json!({}));
    }
    let spec = |topic: &str, url: &str| json!({ "topic": topic, "url": url, "retry": { "attempts": 1 } });
    let unknown = "http://no-such-name.invalid/";
    for (name, topic, url) in [
        ("crm", "orders", &*endpoint.url),
        ("acme.crm", "acme.orders", &endpoint.url),
        ("acme.unknown", "acme.orders", unknown),
    ] {
        let path = format!("/api/v1/subscriptions/{name}");
        assert_eq!(ask(&server, &owner, "PUT", &path, &spec(topic, url)).status, 200);
    }
    let test = |name: &str| {
        let path = format!("/api/v1/subscriptions/{name}/test");
        ask(&server, &owner, "POST", &path, &json!({})).json()
    };
    assert_eq!(test("crm")["delivered"], true);
    let (inside, unknown) = (test("acme.crm"), test("acme.unknown"));
    assert_eq!((&inside["failed"], &inside["said"]), (&unknown["failed"], &unknown["said"]), "{inside}");
    assert!(inside["address"].is_null() && !inside["said"].as_str().unwrap().contains("127."), "{inside}");
    let posted = server.client.send(
        "POST",
        &server.events_url("/api/v1/topics/acme.orders/events"),
        &[("authorization", &format!("Bearer {owner}")), ("content-type", "application/cloudevents+json")],
        &event(1, 1).to_string(),
    );
    assert_eq!(posted.status, 202);
    let letters = poll("both are dead", || {
        let letters = |name: &str| {
            let path = format!("/api/v1/subscriptions/{name}/dead-letters");
            ask(&server, &owner, "GET", &path, &json!(null)).json()["letters"][0]["said"].clone()
        };
        let said = [letters("acme.crm"), letters("acme.unknown")];
        said.iter().all(|said| !said.is_null()).then_some(said)
    });
    assert_eq!(letters[0], letters[1]);
}
