//! The gate over real sockets: which requests are accepted, which are refused, and with which
//! texts.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running, spec};
use contracts::SaleId;
use gate::ports::SaleHealth;
use serde_json::json;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};
use units::TimeMs;
use web::{api_keys::Role, operation::Callers};

const ONE_PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;

fn pass(gate: &Running, shopper: &str) -> String {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let answer =
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", &bearer)], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["pass"].as_str().unwrap().to_owned()
}

fn attempts_url(gate: &Running) -> String {
    let sale = send(gate.bound.shop, "GET", "/api/v1/sales/demo", &[], "").json();
    sale["attempts_url"].as_str().unwrap().to_owned()
}

fn attempt(gate: &Running, pass: &str, key: &str, body: &str) -> Answer {
    let headers = [("floodgate-pass", pass), ("idempotency-key", key), ("content-type", "application/json")];
    send(gate.bound.shop, "POST", &attempts_url(gate), &headers, body)
}

fn admin(gate: &Running, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    send(gate.bound.admin, method, path, &headers, body)
}

#[test]
fn the_sales_document_is_the_same_for_all_and_gets_its_attempts_url_at_the_opening() {
    let gate = Running::start(false, false, |_| {});
    let get = || send(gate.bound.shop, "GET", "/api/v1/sales/demo", &[], "");
    let before = get();
    assert_eq!(before.header("cache-control"), Some("public, max-age=1"));
    assert_eq!(before.json()["state"], "scheduled");
    assert_eq!(before.json()["items"][0]["price"]["amount_minor"], 199_900);
    assert!(before.json().get("attempts_url").is_none());
    gate.sale.open();
    let open = get();
    assert_eq!(open.json()["items"][1]["state"], "available");
    let url = open.json()["attempts_url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/api/v1/sales/demo/rounds/") && url.len() > 50, "{url}");
    let same = (0..20).filter(|_| get().body == open.body).count();
    assert!(same >= 10, "rendered once a second, not once a request: {same}");
}

#[test]
fn a_guessed_round_key_is_not_found_before_the_body_is_checked() {
    let gate = Running::start(true, false, |_| {});
    for key in ["x", "AAAAAAAAAAAAAAAAAAAAAA", "%FF"] {
        let path = format!("/api/v1/sales/demo/rounds/{key}/attempts");
        let answer =
            send(gate.bound.shop, "POST", &path, &[("content-type", "text/plain")], &"x".repeat(9000));
        assert!(matches!(&*answer.problem(), "not-found" | "bad-request"), "{answer:?}");
    }
    let closed = Running::start(false, false, |_| {});
    let future = format!("/api/v1/sales/demo/rounds/{}/attempts", closed.keys.round_key("demo", 0));
    assert_eq!(send(closed.bound.shop, "POST", &future, &[], "").problem(), "not-found");
}

#[test]
fn each_invalid_attempt_is_refused_by_name() {
    let gate = Running::start(true, false, |c| c.limits.shopper_burst = 100);
    let pass = pass(&gate, "alice");
    let url = attempts_url(&gate);
    let good = [("floodgate-pass", &*pass), ("idempotency-key", "k"), ("content-type", "application/json")];
    let check = |change: Option<(&'static str, &str)>, body: &str, status: u16, problem: &str, word: &str| {
        let mut headers = good.to_vec();
        if let Some((name, value)) = change {
            headers.retain(|(n, _)| *n != name);
            headers.extend((!value.is_empty()).then_some((name, value)));
        }
        let answer = send(gate.bound.shop, "POST", &url, &headers, body);
        assert_eq!((answer.status, &*answer.problem()), (status, problem), "{answer:?}");
        assert!(answer.body.contains(word), "{word}: {}", answer.body);
    };
    check(Some(("floodgate-pass", "")), ONE_PHONE, 401, "pass-missing", "passes");
    check(Some(("floodgate-pass", "AQx")), ONE_PHONE, 401, "pass-refused", "malformed");
    check(Some(("content-type", "text/plain")), ONE_PHONE, 415, "media-type", "application/json");
    check(Some(("idempotency-key", "")), ONE_PHONE, 422, "idempotency-key", "missing");
    check(Some(("idempotency-key", "a b")), ONE_PHONE, 422, "idempotency-key", "visible ASCII");
    check(Some(("idempotency-key", &"k".repeat(65))), ONE_PHONE, 422, "idempotency-key", "64");
    check(None, &format!("{ONE_PHONE}{}", " ".repeat(4096)), 413, "body-too-large", "4096");
    check(None, "{", 422, "invalid", "body");
    check(None, r#"{"lines":[]}"#, 422, "invalid", "lines");
    check(None, r#"{"lines":[{"item":"tv","quantity":1}]}"#, 422, "invalid", r#"no item \"tv\""#);
    check(None, r#"{"lines":[{"item":"phone","quantity":0}]}"#, 422, "invalid", "phone");
    check(None, r#"{"lines":[{"item":"phone","quantity":-1}]}"#, 422, "invalid", "-1");
    check(None, r#"{"lines":[{"item":"phone","quantity":1}],"price":1}"#, 422, "invalid", "price");
    let twice = r#"{"lines":[{"item":"phone","quantity":600},{"item":"phone","quantity":600}]}"#;
    check(None, twice, 422, "invalid", "phone");
    assert!(gate.sale.operations().is_empty());
}

#[test]
fn a_pass_is_good_for_its_own_sale_until_it_expires() {
    let gate = Running::start(true, false, |c| c.pass_ttl_seconds = 60);
    gate.sales.add("other", spec(0), true);
    let pass = pass(&gate, "alice");
    let ask = |sale: &str| {
        send(
            gate.bound.shop,
            "GET",
            &format!("/api/v1/sales/{sale}/attempts"),
            &[("floodgate-pass", &pass)],
            "",
        )
    };
    assert_eq!(ask("demo").status, 200);
    assert!(ask("other").body.contains("another sale"));
    gate.sales.skew_ms.store(61_000, Relaxed);
    assert!(ask("demo").body.contains("expired"));
    let wrong =
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", "Bearer a.b.c")], "");
    assert_eq!((wrong.problem(), wrong.header("www-authenticate")), ("token-refused".into(), Some("Bearer")));
    let none = send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[], "");
    assert_eq!(none.problem(), "token-missing");
}

/// An attempt as it is read, after a check that its hold has a ticket, and without that ticket.
fn without_ticket(mut outcome: serde_json::Value) -> serde_json::Value {
    let ticket = outcome["hold"].as_object_mut().unwrap().remove("ticket");
    assert!(ticket.is_some_and(|ticket| ticket.is_string()), "{outcome}");
    outcome
}

#[test]
fn a_retry_with_the_same_key_gets_the_same_answer_and_other_shoppers_cannot_read_it() {
    let gate = Running::start(true, false, |_| {});
    let (alice, bob) = (pass(&gate, "alice"), pass(&gate, "bob"));
    let first = attempt(&gate, &alice, "k1", ONE_PHONE);
    let granted = first.json();
    assert_eq!((first.status, &granted["outcome"]), (200, &"granted".into()));
    assert_eq!(granted["hold"]["state"], "held");
    assert_eq!(attempt(&gate, &alice, "k1", ONE_PHONE).body, first.body, "the same bytes");
    let reused = attempt(&gate, &alice, "k1", r#"{"lines":[{"item":"watch","quantity":1}]}"#);
    assert_eq!((reused.status, &*reused.problem()), (422, "key-reused"));
    let limit = attempt(&gate, &alice, "k2", ONE_PHONE).json();
    assert_eq!((&limit["outcome"], &limit["held_by"]), (&"limit_reached".into(), &granted["attempt"]));

    let path = format!("/api/v1/sales/demo/attempts/{}", granted["attempt"].as_str().unwrap());
    let read = |pass: &str| send(gate.bound.shop, "GET", &path, &[("floodgate-pass", pass)], "").json();
    assert_eq!(without_ticket(read(&alice)), granted);
    assert_eq!(read(&bob)["outcome"], "none");
    let list =
        send(gate.bound.shop, "GET", "/api/v1/sales/demo/attempts", &[("floodgate-pass", &alice)], "").json();
    assert_eq!(list["attempts"][0]["hold"], granted["hold"]);
    assert_eq!(list["attempts"][0]["lines"][0]["item"], "phone");
}

#[test]
fn a_slow_decision_is_answered_with_a_place_and_a_full_queue_with_queue_full() {
    let gate = Running::start(true, false, |_| {});
    let pass = pass(&gate, "alice");
    gate.sale.set_mood(Mood::Silent);
    let queued = attempt(&gate, &pass, "k", ONE_PHONE);
    assert_eq!(
        (queued.status, &queued.json()["outcome"], &queued.json()["position"]),
        (202, &"queued".into(), &5.into())
    );
    assert_eq!(queued.header("retry-after"), Some("1"));
    assert!(queued.json().get("wait_ms").is_none(), "the time is unknown: {queued:?}");
    for (mood, status, problem, retry_after) in [
        (Mood::Full, 503, "queue-full", "7"),
        (Mood::TooMany, 429, "too-many-in-line", "20"),
        (Mood::Passing, 503, "unavailable", "1"),
        // Nothing changes until an operator acts.
        (Mood::Unavailable, 503, "unavailable", "30"),
        (Mood::Panics, 500, "internal", "1"),
    ] {
        gate.sale.set_mood(mood);
        let answer = attempt(&gate, &pass, "k", ONE_PHONE);
        assert_eq!((answer.status, &*answer.problem()), (status, problem));
        assert_eq!(answer.header("retry-after"), Some(retry_after), "{answer:?}");
        assert_eq!(answer.body.contains("operator must act"), retry_after == "30", "{answer:?}");
    }
}

#[test]
fn a_request_over_a_limit_is_told_when_to_retry() {
    let gate =
        Running::start(true, false, |c| (c.limits.shopper_per_second, c.limits.shopper_burst) = (1, 2));
    let pass = pass(&gate, "alice");
    let answers: Vec<Answer> = (0..3).map(|_| attempt(&gate, &pass, "k", ONE_PHONE)).collect();
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [200, 200, 429]);
    assert_eq!((answers[2].problem(), answers[2].header("retry-after")), ("rate-limited".into(), Some("1")));

    let gate =
        Running::start(true, false, |c| (c.limits.address_per_second, c.limits.address_burst) = (1, 3));
    let status = |_| send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[], "").status;
    assert_eq!((0..4).map(status).collect::<Vec<_>>(), [401, 401, 401, 429]);

    let gate = Running::start(true, false, |_| {});
    let pass = self::pass(&gate, "alice");
    // The sale keeps its own rate: the gate refuses no attempt for it.
    gate.sale.change_view(|v| v.rate_per_second = 1);
    let first = attempt(&gate, &pass, "k", ONE_PHONE);
    assert_eq!(first.status, 200);
    assert_eq!(attempt(&gate, &pass, "k2", ONE_PHONE).status, 200);
    gate.sale.set_mood(Mood::Full);
    assert_eq!(attempt(&gate, &pass, "k3", ONE_PHONE).status, 503);
    let again = attempt(&gate, &pass, "k", ONE_PHONE);
    assert_eq!(
        (again.status, again.body),
        (200, first.body),
        "a final answer is repeated, however long the line is"
    );
}

#[test]
fn a_shopper_in_line_is_told_the_place_and_the_time_at_once() {
    // Longer than this test would wait.
    let gate = Running::start(true, false, |c| c.decision_wait_ms = 60_000);
    let pass = pass(&gate, "alice");
    gate.sale.set_mood(Mood::InLine);
    let url = attempts_url(&gate);
    let fields = [("floodgate-pass", &*pass), ("idempotency-key", "k"), ("content-type", "application/json")];
    // A request with a query, or with `Expect: 100-continue`, is left to axum.
    let axums = send(gate.bound.shop, "POST", &format!("{url}?"), &fields, ONE_PHONE);
    for told in [attempt(&gate, &pass, "k", ONE_PHONE), axums] {
        assert_eq!((told.status, told.header("retry-after")), (202, Some("5")), "{told:?}");
        let document = told.json();
        assert_eq!(
            document,
            json!({
                "attempt": document["attempt"], "outcome": "queued", "position": 41, "wait_ms": 90_000,
                "retry_after_ms": 5000,
            })
        );
        let path = format!("/api/v1/sales/demo/attempts/{}", document["attempt"].as_str().unwrap());
        let read = send(gate.bound.shop, "GET", &path, &[("floodgate-pass", &pass)], "").json();
        assert_eq!(read, document);
        let mut events = TcpStream::connect(gate.bound.shop).unwrap();
        let request = format!("GET {path}/events HTTP/1.1\r\nhost: x\r\nfloodgate-pass: {pass}\r\n\r\n");
        events.write_all(request.as_bytes()).unwrap();
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        while !heard.contains("\n\n\r\n") {
            let len = events.read(&mut buffer).unwrap();
            assert!(len > 0, "{heard}");
            heard.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        }
        assert!(heard.contains(r#""position":41,"wait_ms":90000,"retry_after_ms":5000"#), "{heard}");
    }
    // A shopper who has something gets that answer, in line or not.
    gate.sale.set_mood(Mood::Answers);
    let granted = attempt(&gate, &pass, "k", ONE_PHONE);
    gate.sale.set_mood(Mood::InLine);
    let again = attempt(&gate, &pass, "k", ONE_PHONE);
    assert_eq!((again.status, &again.body), (200, &granted.body));
    let path = format!("/api/v1/sales/demo/attempts/{}", again.json()["attempt"].as_str().unwrap());
    let read = send(gate.bound.shop, "GET", &path, &[("floodgate-pass", &pass)], "").json();
    assert_eq!(without_ticket(read), granted.json());
}

#[test]
fn a_shopper_sent_away_with_a_place_is_not_told_none_while_the_outcome_is_unknown() {
    let gate = Running::start(true, false, |_| {});
    let pass = pass(&gate, "alice");
    gate.sale.set_mood(Mood::MuteInLine);
    let told = attempt(&gate, &pass, "k", ONE_PHONE).json();
    assert_eq!(told["outcome"], "queued");
    let path = format!("/api/v1/sales/demo/attempts/{}", told["attempt"].as_str().unwrap());
    let read = || send(gate.bound.shop, "GET", &path, &[("floodgate-pass", &pass)], "");
    let unknown = read();
    assert_eq!((unknown.status, &*unknown.problem()), (503, "unavailable"), "`none` would be for good");
    gate.sale.set_mood(Mood::RefusedInLine);
    assert_eq!((read().json()["outcome"].as_str(), read().status), (Some("sold_out"), 200));
    gate.sale.set_mood(Mood::Full);
    assert_eq!(read().json()["outcome"], "none", "the attempt is not in the queue");
}

#[test]
fn a_connection_with_an_unread_body_is_closed() {
    use std::io::{Read, Write};
    let gate = Running::start(true, false, |c| c.connections.idle_timeout_seconds = 1);
    let mut stream = std::net::TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    // Headers and body in one packet, refused before the body is read.
    stream.write_all(b"POST /api/v1/sales/demo/rounds/guessed/attempts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server closes the connection");
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn every_invalid_request_gets_a_problem_document() {
    let gate = Running::start(true, false, |_| {});
    let check = |method: &str, path: &str, status: u16, problem: &str| {
        let answer = send(gate.bound.shop, method, path, &[], "");
        assert_eq!((answer.status, &*answer.problem()), (status, problem), "{method} {path}");
        answer
    };
    check("GET", "/api/v1/nothing", 404, "not-found");
    check("GET", "/api/v1/sales/nothing", 404, "not-found");
    check("GET", "/api/v1/sales/%FF", 400, "bad-request");
    check("GET", "/static/none.js", 404, "not-found");
    let allow = check("PUT", "/api/v1/sales/demo", 405, "method-not-allowed");
    assert!(allow.header("allow").is_some_and(|a| a.contains("GET")));
    let headers = send(gate.bound.shop, "GET", "/api/v1/keys", &[], "");
    assert_eq!(headers.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(headers.json()["keys"][0]["crv"], "Ed25519");
}

#[test]
fn events_follow_an_attempt_to_its_end() {
    let gate = Running::start(true, false, |_| {});
    let alice = pass(&gate, "alice");
    let granted = attempt(&gate, &alice, "k1", ONE_PHONE).json();
    let id = granted["attempt"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/sales/demo/attempts/{id}/events");
    let shop = gate.bound.shop;
    let reader = std::thread::spawn(move || send(shop, "GET", &path, &[("floodgate-pass", &alice)], ""));
    std::thread::sleep(Duration::from_millis(300));
    let confirm = format!("/api/v1/admin/holds/{id}/confirm");
    let paid = admin(&gate, &gate.owner, "POST", &confirm, r#"{"payment":"p-1"}"#);
    assert_eq!(paid.json()["result"], "confirmed", "{paid:?}");
    let events = reader.join().unwrap();
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.body.matches("event: attempt").count(), 2, "{}", events.body);
    assert!(events.body.contains(r#""state":"held""#) && events.body.contains(r#""state":"confirmed""#));
}

/// Neither one shopper nor one address can take all streams.
#[test]
fn event_streams_are_limited_by_shopper_and_by_address() {
    let open = |gate: &Running, pass: &str, id: &str| {
        let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "GET /api/v1/sales/demo/attempts/{id}/events HTTP/1.1\r\nhost: x\r\nfloodgate-pass: {pass}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (String::from_utf8_lossy(&start[9..]).into_owned(), stream)
    };
    let waiting = |gate: &Running, pass: &str| {
        gate.sale.set_mood(Mood::Waitlists);
        attempt(gate, pass, "k", ONE_PHONE).json()["attempt"].as_str().unwrap().to_owned()
    };
    let gate = Running::start(true, false, |c| c.connections.events_per_shopper_max = 2);
    let [alice, bob] = ["alice", "bob"].map(|shopper| pass(&gate, shopper));
    let (hers, his) = (waiting(&gate, &alice), waiting(&gate, &bob));
    let mut held: Vec<_> = (0..2).map(|_| open(&gate, &alice, &hers)).collect();
    assert!(held.iter().all(|(status, _)| status == "200"), "{held:?}");
    assert_eq!(open(&gate, &alice, &hers).0, "503", "two of two streams are open");
    assert_eq!(open(&gate, &bob, &his).0, "200", "another shopper has another limit");
    held.clear();
    let deadline = Instant::now() + Duration::from_secs(30);
    while open(&gate, &alice, &hers).0 != "200" {
        assert!(Instant::now() < deadline, "the permit of an ended stream is returned");
        std::thread::sleep(Duration::from_millis(100));
    }

    let gate = Running::start(true, false, |c| c.connections.events_per_address_max = 1);
    let [alice, bob] = ["alice", "bob"].map(|shopper| pass(&gate, shopper));
    let (hers, his) = (waiting(&gate, &alice), waiting(&gate, &bob));
    let _held = open(&gate, &alice, &hers);
    let path = format!("/api/v1/sales/demo/attempts/{his}/events");
    let refused = send(gate.bound.shop, "GET", &path, &[("floodgate-pass", &bob)], "");
    assert_eq!((refused.problem(), refused.header("retry-after")), ("queue-full".into(), Some("5")));
    assert!(refused.body.contains("of this address"), "{refused:?}");
}

#[test]
fn a_token_is_not_blamed_for_keys_that_were_never_fetched() {
    let gate = Running::start(true, false, |c| c.jwt.jwks_url = "http://127.0.0.1:9/keys".into());
    let bearer = format!("Bearer {}", gate.token("alice"));
    let answer =
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", &bearer)], "");
    assert_eq!((answer.status, &*answer.problem()), (503, "unavailable"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("10"));
}

/// A body that never arrives: 408, with the time to try again.
#[test]
fn a_body_that_is_too_slow_gets_408_and_a_time_to_retry() {
    let gate = Running::start(true, false, |c| c.connections.body_timeout_seconds = 1);
    let pass = pass(&gate, "alice");
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nfloodgate-pass: {pass}\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        attempts_url(&gate)
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = vec![0; 2048];
    let len = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 408") && answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[test]
fn reservations_are_made_and_taken_back() {
    let gate = Running::start(false, false, |_| {});
    let pass = pass(&gate, "alice");
    let ask = |method: &str| {
        send(gate.bound.shop, method, "/api/v1/sales/demo/reservation", &[("floodgate-pass", &pass)], "")
            .json()["reserved"]
            .clone()
    };
    assert_eq!([ask("GET"), ask("PUT"), ask("GET"), ask("DELETE")], [false, true, true, false]);
}

#[test]
fn admin_routes_do_not_exist_on_the_shop_listener() {
    let gate = Running::start(true, true, |_| {});
    for (_, row) in gate::operations().iter().filter(|(callers, _)| *callers == Callers::Operators) {
        let path =
            row.path.replace("{sale}", "demo").replace("{item}", "phone").replace("{hold}", &"0".repeat(32));
        let bearer = format!("Bearer {}", gate.owner);
        let answer = send(gate.bound.shop, row.method, &path, &[("authorization", &bearer)], "");
        let is_on_both = gate::operations().iter().any(|(callers, other)| {
            *callers == Callers::Public && (other.method, other.path) == (row.method, row.path)
        });
        if !is_on_both {
            assert_eq!(answer.problem(), "not-found", "{} {path}", row.method);
        }
    }
    assert_eq!(send(gate.bound.shop, "GET", "/sign-in?key=x", &[], "").status, 404);
    assert_eq!(send(gate.bound.admin, "GET", "/api/v1/sales/demo", &[], "").status, 404);
}

#[test]
fn operators_routes_check_roles_and_revoked_keys() {
    let gate = Running::start(true, false, |_| {});
    let reader = gate.api_keys.create("reader", Role::ReadOnly, TimeMs(0)).unwrap();
    let operator = gate.api_keys.create("operator", Role::Operator, TimeMs(0)).unwrap();
    let stats = "/api/v1/admin/sales/demo/stats";
    let open = "/api/v1/admin/sales/demo/open";
    let spec = serde_json::to_string(&spec(60)).unwrap();
    assert_eq!(send(gate.bound.admin, "GET", stats, &[], "").problem(), "key-missing");
    assert_eq!(admin(&gate, "fgk_boss_x", "GET", stats, "").problem(), "key-refused");
    assert_eq!(admin(&gate, &reader, "GET", stats, "").status, 200);
    assert_eq!(admin(&gate, &reader, "POST", open, "{}").problem(), "role-refused");
    assert_eq!(admin(&gate, &operator, "POST", open, r#"{"reason":"early"}"#).status, 200);
    assert_eq!(gate.sale.operations()[0].0, contracts::Actor::new("operator", "early"));
    assert_eq!(admin(&gate, &operator, "PUT", "/api/v1/admin/sales/new", &spec).problem(), "role-refused");
    assert_eq!(admin(&gate, &gate.owner, "PUT", "/api/v1/admin/sales/new", &spec).status, 200);
    web::api_keys::ApiKeys::open(gate.data()).unwrap().revoke("operator").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(admin(&gate, &operator, "POST", open, "{}").problem(), "key-refused");
}

#[test]
fn operators_commands_are_checked_and_carried_out() {
    let gate = Running::start(true, false, |_| {});
    let check = |path: &str, body: &str, status: u16, want: &str| {
        let answer = admin(&gate, &gate.owner, "POST", &format!("/api/v1/admin{path}"), body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(answer.body.contains(want), "{path} {body}: {answer:?}");
    };
    check("/sales/demo/pause", "{}", 409, "paused already");
    check("/sales/demo/extend", r#"{"closes_at":"tomorrow"}"#, 422, "RFC 3339");
    check("/sales/demo/extend", r#"{"closes_at":"2030-01-01T00:00:00Z"}"#, 200, "true");
    check("/sales/demo/rate", r#"{"per_second":100}"#, 200, "true");
    check("/sales/demo/close", r#"{"reason":"all is said"}"#, 200, "true");
    check(
        "/sales/demo/limits",
        r#"{"items":[{"round":0,"item":"tv","limit_per_shopper":1}],"reason":"r"}"#,
        422,
        "tv",
    );
    check(
        "/sales/demo/limits",
        r#"{"items":[{"round":9,"item":"phone","limit_per_shopper":1}],"reason":"r"}"#,
        422,
        "round 9",
    );
    check("/sales/demo/items/phone/adjust", r#"{"delta":-1,"reason":"broken"}"#, 200, "free");
    check("/sales/demo/items/phone/adjust", r#"{"delta":-1,"reason":""}"#, 422, "reason");
    check("/sales/demo/items/tv/adjust", r#"{"delta":-1,"reason":"x"}"#, 404, "item");
    check("/sales/demo/void", r#"{"shopper":"alice","reason":"fraud"}"#, 200, "voided");
    check("/sales/demo/void", r#"{"reason":"fraud"}"#, 422, "exactly one");
    check("/sales/demo/void", r#"{"attempts":[],"reason":"fraud"}"#, 422, "4096");
    check("/sales/none/open", "{}", 404, "none");
    check(&format!("/holds/{}/release", "0".repeat(32)), "", 404, "no hold");
    check(&format!("/holds/{}/release", "0".repeat(32)), "{}", 404, "no hold");
}

/// One row for each command: how it is sent, whether it needs a reason, and that the reason is
/// passed on as it was given.
#[test]
fn commands_that_change_a_promise_need_a_reason_and_every_command_accepts_one() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let ask = |method: &str, path: &str, kind: &str, body: &str| {
        let headers = [("authorization", &*bearer), ("content-type", kind)];
        send(gate.bound.admin, method, &format!("/api/v1/admin{path}"), &headers, body)
    };
    let said = |what: &str, answer: &Answer, reason: &str| {
        assert!(matches!(answer.status, 200 | 404 | 409), "{what}: {answer:?}");
        let operations = gate.sale.operations();
        let (actor, _) = operations.last().unwrap();
        assert_eq!((&*actor.name, &*actor.reason), ("boss", reason), "{what}");
    };
    let json = |path: &str, fields: &str, needed: bool| {
        let with = |reason: &str| {
            let comma = if fields.is_empty() || reason.is_empty() { "" } else { "," };
            ask("POST", path, "application/json", &format!("{{{fields}{comma}{reason}}}"))
        };
        said(path, &with(r#""reason":"it rains & pours""#), "it rains & pours");
        let without = with("");
        if needed {
            assert_eq!((without.status, &*without.problem()), (422, "invalid"), "{path}");
            assert!(without.body.contains("reason: want 1 to 200 bytes"), "{path}: {without:?}");
        } else {
            said(path, &without, "");
        }
        let long = with(&format!(r#""reason":"{}""#, "x".repeat(201)));
        assert!(long.status == 422 && long.body.contains("reason"), "{path}: {long:?}");
    };
    let hold = "0".repeat(32);
    json("/sales/demo/open", "", false);
    json("/sales/demo/pause", "", false);
    json("/sales/demo/resume", "", false);
    json("/sales/demo/close", "", true);
    json("/sales/demo/extend", r#""closes_at":"2030-01-01T00:00:00Z""#, false);
    json("/sales/demo/limits", r#""limit_per_shopper":3"#, true);
    json("/sales/demo/rate", r#""per_second":3"#, false);
    json("/sales/demo/items/phone/adjust", r#""delta":1"#, true);
    json("/sales/demo/void", r#""shopper":"alice""#, true);
    json(&format!("/holds/{hold}/confirm"), r#""payment":"p""#, false);
    json(&format!("/holds/{hold}/release"), "", false);
    let empty = ask("POST", "/sales/demo/close", "", "");
    assert!(empty.status == 422 && empty.body.contains("reason"), "{empty:?}");

    let spec = serde_json::to_string(&spec(60)).unwrap();
    for (path, kind, body, needed) in [
        ("/sales/demo", "application/json", &*spec, false),
        ("/sales/demo/list", "text/plain", "alice", false),
        ("/sales/demo/denylist", "text/plain", "alice", true),
    ] {
        let with = |query: &str| ask("PUT", &format!("{path}{query}"), kind, body);
        said(path, &with("?reason=50%25%20are+b%C3%B6ts"), "50% are b\u{f6}ts");
        let without = with("");
        if needed {
            assert!(without.status == 422 && without.body.contains("reason: want 1"), "{path}: {without:?}");
        } else {
            said(path, &without, "");
        }
        for wrong in [&*format!("?reason={}", "x".repeat(201)), "?reason=%0A", "?reason=%FF", "?raeson=x"] {
            let refused = with(wrong);
            assert!(refused.status == 422 && refused.body.contains("reason"), "{path}{wrong}: {refused:?}");
        }
    }
}

#[test]
fn a_long_list_streams_in_chunks() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let headers = [("authorization", &*bearer), ("content-type", "text/plain; charset=utf-8")];
    let put = |body: &str| send(gate.bound.admin, "PUT", "/api/v1/admin/sales/demo/list", &headers, body);
    let ids: String = (0..10_000).map(|n| format!("shopper-{n}\r\n")).collect();
    assert_eq!(put(&ids).json()["shoppers"], 10_000);
    let chunks: Vec<(bool, usize)> = gate
        .sale
        .operations()
        .iter()
        .map(|(_, operation)| match operation {
            contracts::Operation::List { clear, shoppers, .. } => (*clear, shoppers.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(chunks, [(true, 4096), (false, 4096), (false, 1808)]);
    assert_eq!(put("").json()["shoppers"], 0, "an empty list is valid");
    let long = put(&format!("a\n{}\nb", "x".repeat(65)));
    assert_eq!((long.status, long.body.contains("line 2")), (422, true), "{long:?}");
}

#[test]
fn an_uploaded_list_is_applied_whole_although_its_client_has_gone() {
    let gate = Running::start(true, false, |_| {});
    gate.sale.set_mood(Mood::Slow);
    let body: String = (0..10_000).map(|n| format!("shopper-{n}\n")).collect();
    let mut stream = std::net::TcpStream::connect(gate.bound.admin).unwrap();
    let head = format!(
        "PUT /api/v1/admin/sales/demo/denylist?reason=bots HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
         content-type: text/plain\r\ncontent-length: {}\r\n\r\n",
        gate.owner,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let begun = || gate.sale.operations().len();
    while begun() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    drop(stream);
    let started = std::time::Instant::now();
    while begun() < 3 {
        assert!(started.elapsed().as_secs() < 20, "{} of 3 parts came", begun());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_request_with_two_passes_or_two_keys_is_refused() {
    let gate = Running::start(true, false, |_| {});
    let (alice, bob, url) = (pass(&gate, "alice"), pass(&gate, "bob"), attempts_url(&gate));
    let ask = |more: &[(&str, &str)]| {
        let mut headers = vec![("content-type", "application/json"), ("floodgate-pass", &*alice)];
        headers.push(("idempotency-key", "k1"));
        headers.extend(more);
        send(gate.bound.shop, "POST", &url, &headers, ONE_PHONE)
    };
    assert_eq!(ask(&[("floodgate-pass", &bob)]).problem(), "pass-refused");
    assert_eq!(ask(&[("Idempotency-Key", "k2")]).problem(), "idempotency-key");
    assert_eq!(gate.sale.asked(), 0);
    let list = [("floodgate-pass", &*alice), ("floodgate-pass", &*bob)];
    let listed = send(gate.bound.shop, "GET", "/api/v1/sales/demo/attempts", &list, "");
    assert_eq!(listed.problem(), "pass-refused");
    assert_eq!(ask(&[]).status, 200);
}

#[test]
fn operators_read_a_whole_definition_before_the_sale_opens() {
    let gate = Running::start(false, false, |_| {});
    let read = |path: &str| admin(&gate, &gate.owner, "GET", &format!("/api/v1/admin/sales{path}"), "");
    let listed = read("").json();
    let (sale, state) = (&listed["sales"][0]["sale"], &listed["sales"][0]["state"]);
    assert_eq!((sale, state), (&json!("demo"), &json!("scheduled")), "{listed}");
    let seen = read("/demo").json();
    assert_eq!(
        seen["definition"],
        serde_json::to_value(&*gate::ports::Sale::view(&*gate.sale).spec).unwrap()
    );
    let says = seen["says"].to_string();
    for words in [
        "round 1: ",
        "2 × phone at 1999.00 CNY each, at most 1 for one shopper",
        "every shopper who is not on the deny list may buy",
    ] {
        assert!(says.contains(words), "{words}: {says}");
    }
    assert_eq!(seen["warnings"], json!([]));
    assert_eq!(read("/nosuch").problem(), "not-found");
}

#[test]
fn every_place_takes_the_same_shopper_ids() {
    let gate = Running::start(true, false, |_| {});
    let (owner, token) = (format!("Bearer {}", gate.owner), |id: &str| format!("Bearer {}", gate.token(id)));
    let passes = |id: &str| {
        let headers = [("authorization", &*token(id))];
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &headers, "").status
    };
    let list = |id: &str| {
        let headers = [("authorization", &*owner), ("content-type", "text/plain")];
        let path = "/api/v1/admin/sales/demo/denylist?reason=bots";
        send(gate.bound.admin, "PUT", path, &headers, &format!("alice\n{id}\nbob\n")).status
    };
    let void = |id: &str| {
        let body = json!({ "shopper": id, "reason": "bot" }).to_string();
        admin(&gate, &gate.owner, "POST", "/api/v1/admin/sales/demo/void", &body).status
    };
    assert_eq!((passes("bot:1@shop"), list("bot:1@shop"), void("bot:1@shop")), (200, 200, 200));
    for id in ["b ot", "b\0t", "b\u{feff}ot", "bot\u{200b}", "\u{202e}tob", "小明", "bo\u{301}t"] {
        assert_eq!((passes(id), list(id), void(id)), (401, 422, 422), "{id:?}");
    }
    // A list's line ends where its text ends; an id is never trimmed.
    for id in [" bot", "bot ", "bot\r", "\u{feff}bot"] {
        assert_eq!((passes(id), void(id)), (401, 422), "{id:?}");
    }
}

#[test]
fn an_uploaded_list_may_begin_with_a_byte_order_mark() {
    let gate = Running::start(true, false, |_| {});
    let bearer = format!("Bearer {}", gate.owner);
    let headers = [("authorization", &*bearer), ("content-type", "text/plain")];
    send(gate.bound.admin, "PUT", "/api/v1/admin/sales/demo/list", &headers, "\u{feff}alice\r\nbob\nalice");
    match &gate.sale.operations()[0].1 {
        contracts::Operation::List { shoppers, .. } => {
            let mut want = ["alice", "bob"].map(|id| gate.keys.shopper_key(id));
            want.sort();
            assert_eq!(*shoppers, want, "each once");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_winners_feed_resumes_where_the_store_stopped() {
    let gate = Running::start(true, false, |_| {});
    let feed = |query: &str| {
        admin(&gate, &gate.owner, "GET", &format!("/api/v1/admin/sales/demo/winners.ndjson?{query}"), "")
    };
    assert_eq!(feed("").body, "");
    assert_eq!(feed("wait=61").problem(), "invalid");
    assert_eq!(feed("after=-1").problem(), "invalid");
    let alice = pass(&gate, "alice");
    let granted = attempt(&gate, &alice, "k1", ONE_PHONE).json();
    let all = feed("after=0");
    assert_eq!(all.header("content-type"), Some("application/x-ndjson"));
    let line: serde_json::Value = serde_json::from_str(all.body.trim_end()).unwrap();
    assert_eq!((&line["hold"], &line["shopper"]), (&granted["attempt"], &"alice".into()));
    let after = line["seq"].as_u64().unwrap();
    assert_eq!(feed(&format!("after={after}")).body, "");
    let start = Instant::now();
    let id = granted["attempt"].as_str().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| feed(&format!("after={after}&wait=10")));
        std::thread::sleep(Duration::from_millis(300));
        admin(&gate, &gate.owner, "POST", &format!("/api/v1/admin/holds/{id}/release"), "{}");
        assert!(waiting.join().unwrap().body.contains(r#""type":"released""#));
    });
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn figures_and_health_are_on_the_admin_listener() {
    let gate = Running::start(true, false, |_| {});
    let alice = pass(&gate, "alice");
    attempt(&gate, &alice, "k1", ONE_PHONE);
    let get = |path: &str| send(gate.bound.admin, "GET", path, &[], "");
    assert_eq!((get("/healthz").status, get("/readyz").status), (200, 200));
    let metrics = get("/metrics").body;
    for line in [
        "floodgate_sale_stopped{sale=\"demo\"} 0\n",
        "floodgate_invariant_broken{sale=\"demo\",invariant=\"INV-7\"} 0\n",
        "floodgate_gate_answers_total{outcome=\"granted\"} 1\n",
        "floodgate_gate_request_seconds_count{route=\"attempt\"} 1\n",
        "floodgate_sale_state{sale=\"demo\",state=\"open\"} 1\n",
        "floodgate_sale_log_sequence{sale=\"demo\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

/// What a parser of Prometheus' text format requires: each family once and complete, each sample in
/// the family of its name. The documents have the same rows.
#[test]
fn metrics_are_in_the_text_of_prometheus_and_are_those_of_the_documents() {
    let gate = Running::start(true, false, |_| {});
    let answer = send(gate.bound.admin, "GET", "/metrics", &[], "");
    let text = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(text)));
    let mut rows = BTreeSet::new();
    for family in answer.body.split("# HELP ").skip(1) {
        let (help, rest) = family.split_once("\n# TYPE ").unwrap();
        let (kind, samples) = rest.split_once('\n').unwrap();
        let (name, kind) = kind.split_once(' ').unwrap();
        assert!(help.strip_prefix(name).unwrap().ends_with('.'), "{help}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        for line in samples.lines() {
            let sample = line.split(['{', ' ']).next().unwrap();
            let part = sample.strip_prefix(name).unwrap();
            let parts: &[&str] = if kind == "histogram" { &["_sum", "_count", "_bucket"] } else { &[""] };
            assert!(parts.contains(&part), "{line}");
        }
        assert!(rows.insert(format!("| `{name}` | {kind} |")), "{name} is there twice");
    }
    let documents = include_str!("../../../../docs/operating.md").lines();
    let mut documented: BTreeSet<_> = documents
        .filter(|line| line.starts_with("| `floodgate_"))
        .map(|line| line.splitn(4, '|').take(3).collect::<Vec<_>>().join("|") + "|")
        .collect();
    // It is absent without TLS.
    assert!(documented.remove("| `floodgate_gate_certificate_expires_seconds` | gauge |"));
    assert_eq!(rows, documented);
}

#[test]
fn metrics_show_a_sale_that_stopped_for_an_invariant_and_one_that_is_down() {
    let gate = Running::start(true, false, |_| {});
    let stopped = |invariants_broken: &[&'static str]| SaleHealth {
        stopped: true,
        invariants_broken: invariants_broken.to_vec(),
    };
    let down: SaleId = "gone".parse().unwrap();
    gate.sales.down.lock().unwrap().push(down.clone());
    let health = [("demo".parse().unwrap(), stopped(&["INV-1"])), (down, stopped(&["INV-3", "INV-7"]))];
    gate.sales.health.lock().unwrap().extend(health);
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    let ones: Vec<&str> = metrics
        .lines()
        .filter(|l| l.starts_with("floodgate_sale_stopped{") || l.starts_with("floodgate_invariant_broken{"))
        .filter(|l| l.ends_with(" 1"))
        .collect();
    assert_eq!(
        ones,
        [
            "floodgate_sale_stopped{sale=\"demo\"} 1",
            "floodgate_sale_stopped{sale=\"gone\"} 1",
            "floodgate_invariant_broken{sale=\"demo\",invariant=\"INV-1\"} 1",
            "floodgate_invariant_broken{sale=\"gone\",invariant=\"INV-3\"} 1",
            "floodgate_invariant_broken{sale=\"gone\",invariant=\"INV-7\"} 1",
        ]
    );
}

#[test]
fn an_idle_connection_is_reused_and_a_slow_head_is_cut_off() {
    let gate = Running::start(true, false, |c| c.connections.header_timeout_seconds = 1);
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4096];
    for pause_ms in [0, 2500, 100] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        stream.write_all(b"GET /time HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let len = stream.read(&mut buffer).unwrap();
        assert!(buffer[..len].starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&buffer[..len]));
    }
    stream.write_all(b"GET /time HT").unwrap();
    let start = Instant::now();
    assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0);
    assert!(start.elapsed() < Duration::from_secs(6));
}

#[test]
fn draining_lets_an_open_request_end() {
    let mut gate = Running::start(true, false, |c| c.decision_wait_ms = 1500);
    let pass = pass(&gate, "alice");
    let url = attempts_url(&gate);
    gate.sale.set_mood(Mood::Silent);
    let shop = gate.bound.shop;
    let asking = std::thread::spawn(move || {
        let headers =
            [("floodgate-pass", &*pass), ("idempotency-key", "k"), ("content-type", "application/json")];
        send(shop, "POST", &url, &headers, ONE_PHONE)
    });
    std::thread::sleep(Duration::from_millis(300));
    gate.stop();
    assert_eq!(asking.join().unwrap().status, 202);
    assert!(TcpStream::connect(shop).is_err());
}

#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let gate = Running::start(true, false, |_| {});
    let inner = "GET /api/v1/keys HTTP/1.1\r\nhost: x\r\n\r\n";
    for (head, tail) in [
        (
            format!("POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", inner.len()),
            inner.to_owned(),
        ),
        (
            "POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        ),
    ] {
        let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let _ = stream.write_all(tail.as_bytes());
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..len]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = Running::start(true, false, |_| {});
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let half = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\nGET /time HTTP/1.1\r\nho";
    stream.write_all(half.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stream.write_all(b"st: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses, ["404", "200"], "{answers}");
}
