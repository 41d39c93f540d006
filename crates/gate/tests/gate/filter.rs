//! What the filter refuses over real connections, and what an operator is told about it.

use crate::client::send;
use crate::fake::Running;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const SALE: &str = "/api/v1/sales/demo";

fn connect(gate: &Running) -> TcpStream {
    let stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Whether the connection is served; if not, it has been closed.
fn is_served(mut stream: &TcpStream) -> bool {
    let asked = stream.write_all(format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let mut first = [0; 12];
    asked.is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"HTTP/1.1 200"
}

fn refusals(gate: &Running, of: &str) -> Value {
    let bearer = format!("Bearer {}", gate.owner);
    let path = format!("/api/v1/admin/refusals?{of}");
    let answer = send(gate.bound.admin, "GET", &path, &[("authorization", &bearer)], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// How often each reason is counted, as `reason=count`.
fn counts(told: &Value) -> Vec<String> {
    let refused = told["refused"].as_array().unwrap();
    refused.iter().map(|r| format!("{}={}", r["reason"].as_str().unwrap(), r["count"])).collect()
}

#[test]
fn a_host_at_its_connection_limit_may_connect_again_after_closing_some() {
    let gate = Running::start(true, false, |config| config.limits.address_connections_max = 3);
    let mut held: Vec<_> = (0..3).map(|_| connect(&gate)).collect();
    assert!(held.iter().all(is_served));
    assert!(!is_served(&connect(&gate)), "a fourth connection");
    let told = refusals(&gate, "address=127.0.0.1");
    assert_eq!(counts(&told), ["connections=1"]);
    assert_eq!(told["address"]["connections"], 3, "{told}");
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    assert!(metrics.contains("floodgate_gate_filtered_total{reason=\"connections\"} 1\n"), "{metrics}");
    // One of the three is handed over to axum before it ends: it counts all the time.
    held[0].write_all(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let _ = held[0].read_to_end(&mut Vec::new());
    drop(held);
    // The server notices the end of the other two a moment later.
    let started = Instant::now();
    while !is_served(&connect(&gate)) {
        assert!(started.elapsed() < Duration::from_secs(20), "no connection was freed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_operator_is_told_why_an_address_was_refused() {
    let gate = Running::start(true, false, |config| {
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        // One of the four is for the guess.
        (config.limits.address_per_second, config.limits.address_burst) = (1, 4);
    });
    let ask = |method: &str, path: &str, address: &str, header: (&str, &str)| {
        send(gate.bound.shop, method, path, &[("x-forwarded-for", address), header], "").status
    };
    let guessed = format!("{SALE}/rounds/{}/attempts", "A".repeat(22));
    assert_eq!(ask("POST", &guessed, "203.0.113.9", ("a", "b")), 404);
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let attempt = |pass| ask("POST", &url, "203.0.113.9", ("floodgate-pass", pass));
    assert_eq!(
        [attempt("forged"), attempt("forged"), attempt("forged"), attempt("forged")],
        [401, 401, 401, 429]
    );
    // Through axum too.
    assert_eq!(ask("POST", &format!("{SALE}/passes"), "203.0.113.10", ("authorization", "Bearer x")), 401);

    let told = refusals(&gate, "address=203.0.113.9");
    assert_eq!(counts(&told), ["address_rate=1", "round_key=1", "pass=3"], "{told}");
    assert!(told["last_at"].is_string() && told["refused"][0]["advice"].is_string(), "{told}");
    assert_eq!(counts(&refusals(&gate, "address=203.0.113.10")), ["token=1"]);
    let innocent = refusals(&gate, "address=203.0.113.11");
    assert_eq!((counts(&innocent).len(), innocent.get("last_at")), (0, None));
    let proxy = refusals(&gate, "address=127.0.0.1");
    assert_eq!(
        (counts(&proxy).len(), &proxy["address"]["trusted_proxy"]),
        (0, &Value::Bool(true)),
        "{proxy}"
    );
}

#[test]
fn guesses_at_round_keys_count_against_the_address_limit() {
    let gate = Running::start(true, false, |config| {
        (config.limits.address_per_second, config.limits.address_burst) = (1, 4);
    });
    let guess = |query: &str| {
        let guessed = format!("{SALE}/rounds/{}/attempts{query}", "A".repeat(22));
        send(gate.bound.shop, "POST", &guessed, &[], "").status
    };
    // With a query, axum serves them.
    assert_eq!(
        [guess(""), guess("?a"), guess(""), guess("?a"), guess(""), guess("?a")],
        [404, 404, 404, 404, 429, 429]
    );
    assert_eq!(counts(&refusals(&gate, "address=127.0.0.1")), ["address_rate=2", "round_key=4"]);
}

#[test]
fn an_operator_is_told_why_a_shopper_was_refused() {
    let gate = Running::start(true, false, |config| {
        (config.limits.shopper_per_second, config.limits.shopper_burst) = (1, 1);
    });
    let bearer = format!("Bearer {}", gate.token("mallory"));
    let passes = format!("{SALE}/passes");
    let pass =
        send(gate.bound.shop, "POST", &passes, &[("authorization", &bearer)], "").json()["pass"].clone();
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let attempt = |key: &str| {
        let headers = [
            ("floodgate-pass", pass.as_str().unwrap()),
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        send(gate.bound.shop, "POST", &url, &headers, r#"{"lines":[{"item":"phone","quantity":1}]}"#).status
    };
    assert_eq!([attempt("a"), attempt("b")], [200, 429]);
    assert_eq!(counts(&refusals(&gate, "shopper=mallory")), ["shopper_rate=1"]);
    assert!(counts(&refusals(&gate, "shopper=alice")).is_empty());
}

#[test]
fn a_query_for_refusals_must_name_one_address_or_one_shopper() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    for query in ["", "?address=example.com", "?address=1.2.3.4&shopper=alice"] {
        let path = format!("/api/v1/admin/refusals{query}");
        let answer = send(gate.bound.admin, "GET", &path, &[("authorization", &bearer)], "");
        assert_eq!((answer.status, answer.problem()), (422, "invalid".into()), "{query}");
    }
    assert_eq!(send(gate.bound.admin, "GET", "/api/v1/admin/refusals?shopper=a", &[], "").status, 401);
}

#[test]
fn a_port_that_loops_share_is_not_shared_with_another_server() {
    let gate = Running::start(true, false, |config| config.connections.threads = 2);
    assert!((0..20).all(|_| is_served(&connect(&gate))));
    // This is how a server binds its first listener.
    let second = std::net::TcpListener::bind(gate.bound.shop).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
}
