//! The strategy that operators order, and its stages under load, over real sockets.

use crate::client::{Answer, send};
use crate::fake::{MEMORY_LIMIT_BYTES, Mood, Running};
use gate::{Config, config::ChallengeMode};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};
use units::TimeMs;
use web::api_keys::Role;

const SALE: &str = "/api/v1/sales/demo";
const STRATEGY: &str = "/api/v1/admin/strategy";

fn start(change: impl FnOnce(&mut Config)) -> Running {
    Running::start(true, false, |config| {
        // So that the use of memory is the load.
        config.connections.memory_mark_percent = 100;
        // The small test client does not look like a browser.
        config.risk.bare_client_points = 0;
        config.challenge.maxnumber = 100;
        change(config);
    })
}

fn admin(gate: &Running, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    send(gate.bound.admin, method, path, &headers, &body.to_string())
}

fn strategy(gate: &Running) -> Value {
    admin(gate, &gate.owner, "GET", STRATEGY, &json!({})).json()
}

/// Orders the plan in force with some fields changed.
fn order(gate: &Running, changes: &Value) {
    let mut plan = strategy(gate)["plan"].clone();
    for (field, value) in changes.as_object().unwrap() {
        plan[field] = value.clone();
    }
    let answer = admin(gate, &gate.owner, "PUT", &format!("{STRATEGY}?reason=launch+day"), &plan);
    assert_eq!((answer.status, answer.json()), (200, json!({ "done": true })), "{answer:?}");
}

fn shopper(gate: &Running, method: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {}", gate.token("alice"));
    send(gate.bound.shop, method, &format!("{SALE}/{path}"), &[("authorization", &bearer)], "")
}

fn maxnumber(gate: &Running) -> u64 {
    shopper(gate, "GET", "challenge").json()["maxnumber"].as_u64().unwrap()
}

fn metric(gate: &Running, line: &str) -> u64 {
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    let found = metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line}: {metrics}")).parse().unwrap()
}

/// Uses this much of the memory, and waits until the gate is in a stage.
#[track_caller]
fn load(gate: &Running, percent: u64, stage: &str) {
    gate.resident_bytes.store(MEMORY_LIMIT_BYTES / 100 * percent, Relaxed);
    let started = Instant::now();
    while metric(gate, &format!("floodgate_gate_stage{{stage=\"{stage}\"}}")) == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "not {stage} at {percent} %");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the connection is still open after a request for the document, or after another request,
/// which axum serves.
fn goes_on(gate: &Running, path: &str) -> bool {
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut one = || {
        let asked = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let mut answer = [0; 8192];
        asked.is_ok() && stream.read(&mut answer).is_ok_and(|read| read > 0)
    };
    assert!(one(), "the first is answered");
    one()
}

fn attempt_head(gate: &Running, pass: &str, key: &str) -> String {
    let url = gate.keys.round_key("demo", 0);
    let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
    format!(
        "POST {SALE}/rounds/{url}/attempts HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends an attempt on a new connection, and does not wait for the answer.
fn sent(gate: &Running, pass: &str, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(attempt_head(gate, pass, key).as_bytes()).unwrap();
    stream
}

/// Status and the rest of the answer.
fn answer(mut stream: &TcpStream) -> (String, String) {
    let mut bytes = [0; 8192];
    let read = stream.read(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    (text[9..12].to_owned(), text)
}

#[test]
fn the_load_raises_the_stage_and_the_stage_raises_the_price() {
    let gate = start(|config| {
        config.challenge.mode = ChallengeMode::Fortress;
        config.connections.open_max = 64;
        (config.limits.address_per_second, config.limits.address_burst) = (1, 1000);
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    let quick = |up: u32, down: u32| json!({ "up_percent": up, "down_percent": down, "down_seconds": 0 });
    order(&gate, &json!({ "guarded": quick(50, 40), "fortress": quick(80, 60) }));
    let pass = shopper(&gate, "POST", "passes").json()["pass"].as_str().unwrap().to_owned();
    // Memory alone calls for no stage: a sale may be using it.
    gate.resident_bytes.store(MEMORY_LIMIT_BYTES / 100 * 99, Relaxed);
    let deadline = Instant::now() + Duration::from_millis(700);
    while Instant::now() < deadline {
        assert_eq!(metric(&gate, "floodgate_gate_stage{stage=\"normal\"}"), 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    gate.resident_bytes.store(0, Relaxed);
    let _crowd: Vec<_> = (0..10).map(|_| TcpStream::connect(gate.bound.shop).unwrap()).collect();
    load(&gate, 10, "normal");
    assert_eq!(maxnumber(&gate), 100);
    assert!(goes_on(&gate, SALE) && goes_on(&gate, "/nothing"));

    load(&gate, 55, "guarded");
    assert_eq!(maxnumber(&gate), 300);
    assert_eq!(strategy(&gate)["load_percent"]["memory"], 55, "{}", strategy(&gate));
    assert!(goes_on(&gate, SALE) && goes_on(&gate, "/nothing"));
    assert_eq!(shopper(&gate, "POST", "passes").status, 200);

    load(&gate, 85, "fortress");
    assert_eq!(maxnumber(&gate), 1000);
    assert!(!goes_on(&gate, SALE) && !goes_on(&gate, "/nothing"));
    let refused = shopper(&gate, "POST", "passes");
    assert_eq!((refused.status, refused.problem()), (403, "challenge-missing".into()));
    // An attempt keeps its connection.
    let mut stream = sent(&gate, &pass, "a");
    assert_eq!(answer(&stream).0, "200");
    stream.write_all(attempt_head(&gate, &pass, "a").as_bytes()).unwrap();
    assert_eq!(answer(&stream).0, "200");

    load(&gate, 50, "guarded");
    load(&gate, 30, "normal");
    assert_eq!(shopper(&gate, "POST", "passes").status, 200);
    for effect in ["harder_challenge", "slowed", "closed", "challenge_needed"] {
        assert!(metric(&gate, &format!("floodgate_gate_strategy_effects_total{{effect=\"{effect}\"}}")) > 0);
    }
}

#[test]
fn a_raised_stage_closes_idle_connections_sooner() {
    let gate = start(|config| config.connections.idle_timeout_seconds = 300);
    order(&gate, &json!({ "stage": "guarded" }));
    let mut resting = TcpStream::connect(gate.bound.shop).unwrap();
    resting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    resting.write_all(format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    assert!(resting.read(&mut [0; 8192]).unwrap() > 0);
    assert_eq!(resting.read(&mut [0; 1]).unwrap(), 0, "closed after 15 s, and not after 300");
}

#[test]
fn a_raised_stage_counts_each_request_several_times() {
    let asked = |stage: &str| {
        let gate = start(|config| {
            (config.limits.address_per_second, config.limits.address_burst) = (1, 16);
        });
        order(&gate, &json!({ "stage": stage }));
        (0..16).filter(|_| shopper(&gate, "GET", "challenge").status != 429).count()
    };
    assert_eq!(["normal", "guarded", "fortress"].map(asked), [16, 8, 4]);
}

#[test]
fn a_dry_run_of_a_strategy_counts_effects_and_applies_none() {
    let gate = start(|config| config.challenge.mode = ChallengeMode::Fortress);
    order(&gate, &json!({ "stage": "fortress", "queue_percent": 50, "dry_run": true }));
    assert_eq!((maxnumber(&gate), goes_on(&gate, SALE), goes_on(&gate, "/nothing")), (100, true, true));
    let pass = shopper(&gate, "POST", "passes").json()["pass"].as_str().unwrap().to_owned();
    gate.sale.set_queue(90);
    assert_eq!(answer(&sent(&gate, &pass, "a")).0, "200");
    assert_eq!(strategy(&gate)["stage"], "fortress", "an operator sees the stage of a dry run");
    for effect in ["harder_challenge", "slowed", "closed", "challenge_needed", "queue_share"] {
        assert!(metric(&gate, &format!("floodgate_gate_strategy_effects_total{{effect=\"{effect}\"}}")) > 0);
    }
}

#[test]
fn attempts_fill_the_queue_up_to_queue_percent_and_kept_answers_are_still_given() {
    let gate = start(|_| {});
    let pass = shopper(&gate, "POST", "passes").json()["pass"].as_str().unwrap().to_owned();
    let granted = answer(&sent(&gate, &pass, "a"));
    assert_eq!(granted.0, "200");
    for plan in [
        json!({ "queue_percent": 50 }),
        json!({ "queue_percent": 100, "tiers": [{ "tier": 0, "percent": 50 }] }),
    ] {
        order(&gate, &plan);
        gate.sale.set_queue(50);
        let (status, full) = answer(&sent(&gate, &pass, "b"));
        assert!(status == "503" && full.contains("queue-full") && full.contains("retry-after: 1"), "{full}");
        // Through axum too.
        let url = format!("{SALE}/rounds/{}/attempts?", gate.keys.round_key("demo", 0));
        let headers =
            [("floodgate-pass", &*pass), ("idempotency-key", "b"), ("content-type", "application/json")];
        let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        assert_eq!(send(gate.bound.shop, "POST", &url, &headers, body).problem(), "queue-full");
        let again = answer(&sent(&gate, &pass, "a"));
        assert!(again.0 == "200" && again.1.contains("granted"), "{again:?}");
        // An attempt in line is answered with its place, and not with a time to retry.
        gate.sale.set_mood(Mood::InLine);
        let place = answer(&sent(&gate, &pass, "b"));
        assert!(place.0 == "202" && place.1.contains("\"position\":41"), "{place:?}");
        assert_eq!(send(gate.bound.shop, "POST", &url, &headers, body).json()["position"], 41);
        gate.sale.set_mood(Mood::Answers);
        gate.sale.set_queue(49);
        assert_eq!(answer(&sent(&gate, &pass, "c")).0, "200");
    }
    order(&gate, &json!({ "tiers": [{ "tier": 1, "percent": 10 }] }));
    gate.sale.set_queue(90);
    assert_eq!(answer(&sent(&gate, &pass, "d")).0, "200", "another tier has its own part");
}

#[test]
fn a_tier_may_use_only_its_share_of_the_rate() {
    let busy = |tier: u8| {
        let gate = start(|config| config.decision_wait_ms = 1000);
        let pass = shopper(&gate, "POST", "passes").json()["pass"].as_str().unwrap().to_owned();
        // Half of the rate is one a second: the third of three attempts would have to wait for two
        // seconds, which is longer than the gate lets a request wait.
        gate.sale.change_view(|view| view.rate_per_second = 2);
        order(&gate, &json!({ "tiers": [{ "tier": tier, "percent": 50 }] }));
        let streams: Vec<_> = ["a", "b", "c"].iter().map(|key| sent(&gate, &pass, key)).collect();
        streams.iter().filter(|stream| answer(stream).0 == "429").count()
    };
    assert_eq!((busy(1), busy(0)), (0, 1));
}

#[test]
fn a_strategy_is_replaced_whole_with_a_reason_and_by_an_operator() {
    let gate = start(|_| {});
    let key = |name, role| gate.api_keys.create(name, role, TimeMs(0)).unwrap();
    let (reader, operator) = (key("reader", Role::ReadOnly), key("night-shift", Role::Operator));
    let told = admin(&gate, &reader, "GET", STRATEGY, &json!({})).json();
    assert_eq!((&told["ordered"], &told["stage"]), (&Value::Null, &json!("normal")), "{told}");
    assert_eq!(
        told["sales"][0],
        json!({
            "sale": "demo", "rate_per_second": 0, "queue": 0, "queue_max": 100, "line": 1000, "line_max": 5000,
        })
    );
    let plan = told["plan"].clone();
    let put = |key: &str, plan: &Value| admin(&gate, key, "PUT", &format!("{STRATEGY}?reason=why"), plan);
    assert_eq!(put(&reader, &plan).problem(), "role-refused");
    assert_eq!(admin(&gate, &operator, "PUT", STRATEGY, &plan).problem(), "invalid");
    let mut partial = plan.clone();
    partial.as_object_mut().unwrap().remove("dry_run");
    assert_eq!(put(&operator, &partial).problem(), "invalid");
    for (field, value) in [
        ("queue_percent", json!(0)),
        ("queue_percent", json!(101)),
        ("tiers", json!([{ "tier": 1, "percent": 0 }])),
        ("tiers", json!([{ "tier": 1, "percent": 5 }, { "tier": 1, "percent": 6 }])),
        ("guarded", json!({ "up_percent": 50, "down_percent": 50, "down_seconds": 1 })),
        ("fortress", json!({ "up_percent": 50, "down_percent": 5, "down_seconds": 1 })),
        ("stage", json!("panic")),
    ] {
        let mut wrong = plan.clone();
        wrong[field] = value;
        let answer = put(&operator, &wrong);
        assert_eq!((answer.status, answer.problem()), (422, "invalid".into()), "{wrong}");
    }
    assert_eq!(strategy(&gate)["ordered"], Value::Null, "none of the invalid plans was taken");
    let mut good = plan;
    good["stage"] = json!("guarded");
    assert_eq!(put(&operator, &good).status, 200);
    let told = strategy(&gate);
    assert_eq!((&told["plan"], &told["stage"]), (&good, &json!("guarded")));
    assert_eq!(
        (&told["ordered"]["actor"], &told["ordered"]["reason"]),
        (&json!("night-shift"), &json!("why"))
    );
    // On the operators' page, in both languages.
    let one_time = gate.api_keys.mint_one_time().unwrap();
    let signed_in = send(gate.bound.admin, "POST", &format!("/sign-in?key={one_time}"), &[], "");
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for (path, stage) in [("/", "<strong>guarded</strong>"), ("/?lang=zh", "<strong>戒备</strong>")] {
        let page = send(gate.bound.admin, "GET", path, &[("cookie", &cookie)], "").body;
        assert!(page.contains(stage), "{path}: {page}");
    }
}
