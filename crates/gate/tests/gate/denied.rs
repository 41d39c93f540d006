//! Networks that operators denied, over real connections: they are refused at once, also behind a
//! balancer, and no other address is.

use crate::client::{Answer, send};
use crate::fake::Running;
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use units::TimeMs;
use web::api_keys::Role;

const SALE: &str = "/api/v1/sales/demo";
const DENIED: &str = "/api/v1/admin/denied-networks";

fn admin(gate: &Running, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    send(gate.bound.admin, method, path, &headers, &body.to_string())
}

fn deny(gate: &Running, networks: &[&str]) -> Answer {
    admin(
        gate,
        &gate.owner,
        "PUT",
        DENIED,
        &json!({ "networks": networks, "reason": "bots of the last sale" }),
    )
}

fn allow(gate: &Running, network: &str) -> Answer {
    let path = format!("{DENIED}?network={network}&reason=a+mistake");
    admin(gate, &gate.owner, "DELETE", &path, &json!({}))
}

/// The status of the sale's document on a new connection; `None` if that is closed without an
/// answer.
fn look(gate: &Running) -> Option<String> {
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    look_on(&mut stream, "")
}

fn look_on(stream: &mut TcpStream, fields: &str) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).ok()?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).ok()?;
    Some(String::from_utf8_lossy(&first[9..]).into_owned())
}

#[test]
fn a_denied_host_is_closed_on_connect_and_served_again_once_allowed() {
    let gate = Running::start(true, false, |_| {});
    let mut open = TcpStream::connect(gate.bound.shop).unwrap();
    assert_eq!(look_on(&mut open, "Accept: a\r\n").as_deref(), Some("200"));
    let denied = deny(&gate, &["127.0.0.0/8"]);
    assert_eq!((denied.status, denied.json()), (200, json!({ "added": 1 })));
    assert_eq!(look(&gate), None, "closed without an answer");
    // An open connection gets one answer.
    let mut rest = Vec::new();
    let _ = open.write_all(format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    open.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 403"), "and the connection ends");
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    assert!(metrics.contains("floodgate_gate_filtered_total{reason=\"denied\"} 2\n"), "{metrics}");
    let told =
        admin(&gate, &gate.owner, "GET", "/api/v1/admin/refusals?address=127.0.0.1", &json!({})).json();
    let denied = &told["address"]["denied"];
    assert_eq!((&denied["network"], &denied["actor"]), (&json!("127.0.0.0/8"), &json!("boss")), "{told}");
    assert_eq!(denied["reason"], "bots of the last sale", "{told}");
    assert_eq!((&told["refused"][0]["reason"], &told["refused"][0]["count"]), (&json!("denied"), &json!(2)));
    assert_eq!(allow(&gate, "127.0.0.0/8").status, 200);
    assert_eq!(look(&gate).as_deref(), Some("200"));
}

#[test]
fn a_denied_address_behind_a_balancer_is_told_what_to_do() {
    let gate = Running::start(true, false, |config| {
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.limits.exempt_addresses = vec!["203.0.113.200".parse().unwrap()];
    });
    assert_eq!(
        deny(&gate, &["203.0.113.0/24", "127.0.0.0/8", "2001:db8::/32"]).json(),
        json!({ "added": 3 })
    );
    let url = format!("{SALE}/rounds/{}/attempts", gate.keys.round_key("demo", 0));
    let (passes, guessed) = (format!("{SALE}/passes"), format!("{SALE}/rounds/{}/attempts", "A".repeat(22)));
    // The hot routes, the rest of the API, and pages.
    for (method, path) in
        [("GET", SALE), ("POST", &url), ("POST", &guessed), ("POST", &passes), ("GET", "/sales/demo")]
    {
        for address in ["203.0.113.9", "2001:db8:1::9"] {
            let answer = send(gate.bound.shop, method, path, &[("x-forwarded-for", address)], "");
            assert_eq!((answer.status, answer.problem()), (403, "address-denied".into()), "{method} {path}");
            assert!(answer.body.contains("use another network"), "{answer:?}");
        }
    }
    // Neither the balancer, nor its other clients, nor an exempted address.
    for address in ["203.0.114.1", "127.0.0.1", "203.0.113.200"] {
        let answer = send(gate.bound.shop, "GET", SALE, &[("x-forwarded-for", address)], "");
        assert_eq!(answer.status, 200, "{address}: {answer:?}");
    }
    let told =
        admin(&gate, &gate.owner, "GET", "/api/v1/admin/refusals?address=203.0.113.9", &json!({})).json();
    assert_eq!((&told["refused"][0]["reason"], &told["refused"][0]["count"]), (&json!("denied"), &json!(5)));
}

#[test]
fn the_list_of_denied_networks_names_its_actors_and_refuses_invalid_entries() {
    let gate = Running::start(true, false, |_| {});
    let list = || admin(&gate, &gate.owner, "GET", DENIED, &json!({})).json();
    assert_eq!(list(), json!({ "networks": [] }));
    for (body, want) in [
        (json!({ "networks": ["10.0.0.0/8"] }), "reason"),
        (json!({ "networks": ["10.0.0.0/8"], "reason": "two\nlines" }), "reason"),
        (json!({ "networks": [], "reason": "r" }), "networks"),
        (json!({ "networks": ["10.0.0.0/33"], "reason": "r" }), "10.0.0.0/33"),
        (json!({ "networks": ["example.com"], "reason": "r" }), "example.com"),
        (json!({ "network": ["10.0.0.0/8"], "reason": "r" }), "network"),
    ] {
        let answer = admin(&gate, &gate.owner, "PUT", DENIED, &body);
        assert_eq!((answer.status, answer.problem()), (422, "invalid".into()), "{body}");
        assert!(answer.body.contains(want), "{answer:?}");
    }
    let many: Vec<String> = (0..10_001).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255)).collect();
    let full = deny(&gate, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((full.status, full.problem()), (409, "conflict".into()));
    assert_eq!(list(), json!({ "networks": [] }), "none of the invalid entries was taken");

    let (reader, operator) = (Role::ReadOnly, Role::Operator);
    let key = |name, role| gate.api_keys.create(name, role, TimeMs(0)).unwrap();
    let (reader, operator) = (key("reader", reader), key("night-shift", operator));
    let body = json!({ "networks": ["10.9.8.7/8"], "reason": "bots" });
    assert_eq!(admin(&gate, &reader, "PUT", DENIED, &body).problem(), "role-refused");
    assert_eq!(admin(&gate, &operator, "PUT", DENIED, &body).json(), json!({ "added": 1 }));
    assert_eq!(admin(&gate, &operator, "PUT", DENIED, &body).json(), json!({ "added": 0 }));
    let mut listed = admin(&gate, &reader, "GET", DENIED, &json!({})).json();
    assert!(listed["networks"][0]["since"].take().is_string());
    let entry = json!({ "network": "10.0.0.0/8", "since": null, "actor": "night-shift", "reason": "bots" });
    assert_eq!(listed, json!({ "networks": [entry] }));

    let without_reason = format!("{DENIED}?network=10.0.0.0/8");
    assert_eq!(admin(&gate, &operator, "DELETE", &without_reason, &json!({})).problem(), "invalid");
    assert_eq!(allow(&gate, "10.1.0.0/16").problem(), "not-found");
    assert_eq!(allow(&gate, "10.0.0.1/8").status, 200);
    assert_eq!(list(), json!({ "networks": [] }));
}
