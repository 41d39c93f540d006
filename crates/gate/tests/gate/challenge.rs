//! Challenges before a pass, over real sockets: which solutions are accepted, and how each of the
//! others is refused.

use crate::client::{Answer, send};
use crate::fake::Running;
use data_encoding::{BASE64, HEXLOWER};
use gate::config::ChallengeMode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering::Relaxed;

fn proof_of_work() -> Running {
    Running::start(true, false, |config| {
        config.challenge.mode = ChallengeMode::ProofOfWork;
        config.challenge.maxnumber = 500;
    })
}

fn challenge(gate: &Running, shopper: &str, query: &str) -> Answer {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let path = format!("/api/v1/sales/demo/challenge{query}");
    send(gate.bound.shop, "GET", &path, &[("authorization", &bearer)], "")
}

fn pass(gate: &Running, shopper: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &headers, body)
}

/// The body of `POST …/passes` that solves it.
fn solved(made: &Value) -> String {
    let digest = |n: u64| HEXLOWER.encode(&Sha256::digest(format!("{}{n}", made["salt"].as_str().unwrap())));
    let number = (0..=made["maxnumber"].as_u64().unwrap()).find(|&n| made["challenge"] == digest(n)).unwrap();
    let payload = json!({
        "algorithm": made["algorithm"], "challenge": made["challenge"], "number": number,
        "salt": made["salt"], "signature": made["signature"],
    });
    json!({ "altcha": BASE64.encode(payload.to_string().as_bytes()) }).to_string()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, problem: &str, word: &str) {
    assert_eq!((answer.status, &*answer.problem()), (status, problem), "{answer:?}");
    assert!(answer.body.contains(word), "{word}: {}", answer.body);
}

#[test]
fn a_pass_needs_no_challenge_by_default() {
    let gate = Running::start(true, false, |_| {});
    refused(&challenge(&gate, "alice", ""), 404, "not-found", "without one");
    assert_eq!(pass(&gate, "alice", "").status, 200);
    assert_eq!(pass(&gate, "alice", r#"{"altcha":"e30="}"#).status, 200, "no challenge was required");
    refused(
        &pass(&gate, "alice", r#"{"altcha":1}"#),
        422,
        "invalid",
        "altcha: want a text, and it is the number 1",
    );
    refused(
        &pass(&gate, "alice", r#"{"altcha":null}"#),
        422,
        "invalid",
        "altcha: want a text, and it is nothing",
    );
    assert!(!gate.data().join("challenges").exists());
}

#[test]
fn a_pass_costs_one_proof_of_work() {
    let gate = proof_of_work();
    refused(&pass(&gate, "alice", ""), 403, "challenge-missing", "/api/v1/sales/demo/challenge");
    refused(&pass(&gate, "alice", "{}"), 403, "challenge-missing", "in the body");
    let made = challenge(&gate, "alice", "");
    assert_eq!((made.status, made.header("cache-control")), (200, Some("no-store")), "{made:?}");
    let body = solved(&made.json());
    refused(&pass(&gate, "bob", &body), 403, "challenge-refused", "another shopper");
    let answer = pass(&gate, "alice", &body);
    assert!(answer.status == 200 && answer.json()["pass"].is_string(), "{answer:?}");
    refused(&pass(&gate, "alice", &body), 403, "challenge-refused", "used before");

    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    for line in [
        "floodgate_gate_challenges_issued_total 1",
        "floodgate_gate_challenges_solved_total 1",
        "floodgate_gate_challenges_refused_total{reason=\"used\"} 1",
        "floodgate_gate_challenges_refused_total{reason=\"not_yours\"} 1",
        "floodgate_gate_refusals_total{problem=\"challenge-missing\"} 2",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
}

#[test]
fn a_challenge_needs_a_shopper_and_is_limited_by_address() {
    let gate = Running::start(true, false, |config| {
        config.challenge.mode = ChallengeMode::ProofOfWork;
        (config.limits.address_per_second, config.limits.address_burst) = (1, 3);
    });
    let ask =
        |headers: &[(&str, &str)]| send(gate.bound.shop, "GET", "/api/v1/sales/demo/challenge", headers, "");
    refused(&ask(&[]), 401, "token-missing", "Bearer");
    refused(&ask(&[("authorization", "Bearer x")]), 401, "token-refused", "token");
    assert_eq!(challenge(&gate, "alice", "").status, 200);
    refused(&challenge(&gate, "alice", ""), 429, "rate-limited", "address");
    let none = send(gate.bound.shop, "GET", "/api/v1/sales/none/challenge", &[], "");
    refused(&none, 404, "not-found", "none");
}

#[test]
fn each_invalid_solution_is_refused_by_name() {
    let gate = proof_of_work();
    let check = |body: &str, status, problem: &str, word: &str| {
        refused(&pass(&gate, "alice", body), status, problem, word)
    };
    check("{", 422, "invalid", "body");
    check(r#"{"altcha":"","captcha":""}"#, 422, "invalid", "captcha");
    check(r#"{"altcha":"","code":{"id":"","answer":""}}"#, 422, "invalid", "not both");
    check(r#"{"code":{"id":""}}"#, 422, "invalid", "answer");
    check(r#"{"code":{"id":"x","answer":"y"}}"#, 403, "challenge-refused", "another kind");
    check(r#"{"altcha":"?"}"#, 403, "challenge-refused", "malformed");
    check(&format!("{{\"altcha\":\"{}\"}}", "A".repeat(4096)), 413, "body-too-large", "4096");
    let bearer = format!("Bearer {}", gate.token("alice"));
    let headers = [("authorization", &*bearer), ("content-type", "text/plain")];
    let plain = send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &headers, "{}");
    refused(&plain, 415, "media-type", "application/json");
    refused(&challenge(&gate, "alice", "?media=braille"), 422, "invalid", "braille");
}

#[test]
fn a_solution_expires_and_stays_used_when_the_clock_goes_back() {
    let gate = Running::start(true, false, |config| {
        config.challenge.mode = ChallengeMode::ProofOfWork;
    });
    let [early, late] = [(); 2].map(|()| solved(&challenge(&gate, "alice", "").json()));
    gate.sales.skew_ms.store(299_000 - 1000, Relaxed);
    assert_eq!(pass(&gate, "alice", &early).status, 200, "within its five minutes");
    gate.sales.skew_ms.store(300_000, Relaxed);
    refused(&pass(&gate, "alice", &late), 403, "challenge-refused", "expired");
    gate.sales.skew_ms.store(0, Relaxed);
    refused(&pass(&gate, "alice", &early), 403, "challenge-refused", "used before");
}

#[test]
fn a_guess_uses_an_image_code_up() {
    let gate = Running::start(true, false, |config| config.challenge.mode = ChallengeMode::Image);
    let made = challenge(&gate, "alice", "").json();
    assert!(made["code"]["image"].as_str().unwrap().starts_with("data:image/png;base64,"), "{made}");
    let body = |answer: &str| json!({ "code": { "id": made["code"]["id"], "answer": answer } }).to_string();
    refused(&pass(&gate, "bob", &body("AAAAA")), 403, "challenge-refused", "another shopper");
    refused(&pass(&gate, "alice", &body("?????")), 403, "challenge-refused", "wrong");
    refused(&pass(&gate, "alice", &body("AAAAA")), 403, "challenge-refused", "used before");
    let heard = challenge(&gate, "alice", "?media=audio").json();
    assert!(heard["code"]["audio"].as_str().unwrap().starts_with("data:audio/wav;base64,"));
}
