//! What happens to an address that looks like a script, over real sockets. The clock of the sales
//! is advanced where minutes must pass.

use crate::client::{Answer, send};
use crate::fake::Running;
use gate::{Config, config::ChallengeMode};
use serde_json::Value;
use std::sync::atomic::Ordering::Relaxed;

const SALE: &str = "/api/v1/sales/demo";

/// Behind a balancer, so that a test can use many addresses.
fn start(change: impl FnOnce(&mut Config)) -> Running {
    Running::start(true, false, |config| {
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.limits.exempt_addresses = vec!["203.0.113.200".parse().unwrap()];
        config.challenge.mode = ChallengeMode::ProofOfWork;
        config.challenge.maxnumber = 100;
        change(config);
    })
}

fn ask(gate: &Running, method: &str, path: &str, address: &str, shopper: &str, browser: bool) -> Answer {
    let bearer = format!("Bearer {}", gate.token(shopper));
    let mut headers = vec![("authorization", &*bearer), ("x-forwarded-for", address)];
    if browser {
        headers.extend([("user-agent", "Mozilla/5.0"), ("accept", "*/*")]);
    }
    send(gate.bound.shop, method, &format!("{SALE}/{path}"), &headers, "")
}

/// How hard a proof of work an address gets.
fn maxnumber(gate: &Running, address: &str, browser: bool) -> u64 {
    ask(gate, "GET", "challenge", address, "alice", browser).json()["maxnumber"].as_u64().unwrap()
}

fn risk(gate: &Running, address: &str) -> Value {
    let bearer = format!("Bearer {}", gate.owner);
    let path = format!("/api/v1/admin/refusals?address={address}");
    send(gate.bound.admin, "GET", &path, &[("authorization", &bearer)], "").json()
}

fn metric(gate: &Running, line: &str) -> u64 {
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    let found = metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line}: {metrics}")).parse().unwrap()
}

#[test]
fn a_bare_client_is_given_harder_challenges_and_a_browser_is_not() {
    let gate = start(|config| (config.risk.bare_client_points, config.risk.levels) = (10, vec![20, 40, 60]));
    let script: Vec<_> = (0..7).map(|_| maxnumber(&gate, "203.0.113.9", false)).collect();
    assert_eq!(script, [100, 300, 300, 1000, 1000, 3000, 3000]);
    for (address, browser) in [("203.0.113.10", true), ("203.0.113.200", false), ("127.0.0.1", false)] {
        for _ in 0..7 {
            assert_eq!(maxnumber(&gate, address, browser), 100, "{address}");
        }
        assert_eq!(risk(&gate, address)["address"]["risk"]["level"], 0, "{address}");
    }
    let told = risk(&gate, "203.0.113.9");
    assert_eq!(told["address"]["risk"]["level"], 3, "{told}");
    assert!(told["address"]["risk"]["points"]["bare_client"].as_u64() >= Some(60), "{told}");
    assert_eq!(metric(&gate, "floodgate_gate_risk_signals_total{signal=\"bare_client\"}"), 7);
    assert_eq!(metric(&gate, "floodgate_gate_risk_effects_total{effect=\"harder_challenge\"}"), 6);
    // The points fade.
    gate.sales.skew_ms.fetch_add(3_600_000, Relaxed);
    assert_eq!(maxnumber(&gate, "203.0.113.9", true), 100);
}

#[test]
fn a_dry_run_of_risk_counts_effects_and_applies_none() {
    let gate = start(|config| {
        (config.risk.bare_client_points, config.risk.levels) = (10, vec![20, 40, 60]);
        config.risk.dry_run = true;
    });
    assert!((0..7).all(|_| maxnumber(&gate, "203.0.113.9", false) == 100));
    assert_eq!(metric(&gate, "floodgate_gate_risk_effects_total{effect=\"harder_challenge\"}"), 6);
    assert_eq!(
        risk(&gate, "203.0.113.9")["address"]["risk"]["level"],
        3,
        "an operator sees the risk in a dry run"
    );
}

#[test]
fn a_bare_client_may_send_fewer_requests() {
    let asked = |browser: bool| {
        let gate = start(|config| {
            (config.risk.bare_client_points, config.risk.levels) = (10, vec![10, 20, 30]);
            (config.limits.address_per_second, config.limits.address_burst) = (1, 13);
        });
        let statuses =
            (0..13).map(|_| ask(&gate, "GET", "challenge", "203.0.113.9", "alice", browser).status);
        statuses.filter(|status| *status == 200).count()
    };
    // 1 + 2 + 3 + 4 + 4 tokens.
    assert_eq!([asked(true), asked(false)], [13, 5]);
}

#[test]
fn an_address_that_takes_passes_at_a_steady_cadence_gets_none_for_a_while() {
    let check = |dry_run: bool| {
        let gate = start(|config| {
            config.challenge.mode = ChallengeMode::Off;
            (config.risk.steady_cadence_points, config.risk.refuse_at) = (200, 320);
            config.risk.dry_run = dry_run;
        });
        let pass = |address: &str, shopper: &str| ask(&gate, "POST", "passes", address, shopper, true);
        let mut answers = Vec::new();
        for n in 0..10 {
            gate.sales.skew_ms.fetch_add(10_000, Relaxed);
            answers.push(pass("203.0.113.9", &format!("shopper{n}")));
        }
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
        assert!(metric(&gate, "floodgate_gate_risk_effects_total{effect=\"pass_refused\"}") > 0);
        (gate, refused.into_iter().cloned().collect::<Vec<_>>())
    };
    let (gate, refused) = check(false);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|answer| answer.problem() == "looks-automated"), "{refused:?}");
    assert!(refused[0].body.contains("another network"), "{refused:?}");
    let wait: u64 = refused[1].header("retry-after").unwrap().parse().unwrap();
    let told = risk(&gate, "203.0.113.9");
    let reasons: Vec<_> = told["refused"].as_array().unwrap().iter().map(|r| &r["reason"]).collect();
    assert_eq!(reasons, ["risk"], "{told}");
    assert!(told["address"]["risk"]["refused_seconds"].is_u64(), "{told}");
    assert_eq!(ask(&gate, "POST", "passes", "203.0.113.10", "bob", true).status, 200, "another address");
    gate.sales.skew_ms.fetch_add((wait + 1) * 1000, Relaxed);
    assert_eq!(ask(&gate, "POST", "passes", "203.0.113.9", "alice", true).status, 200, "as Retry-After said");
    assert!(check(true).1.is_empty(), "a dry run");
}

#[test]
fn an_address_of_many_shoppers_is_not_refused() {
    let gate = start(|config| {
        config.challenge.mode = ChallengeMode::Off;
        (config.risk.many_shoppers_points, config.risk.shoppers_max) = (1000, 5);
        config.risk.refuse_at = 1;
    });
    for n in 0..30 {
        let answer = ask(&gate, "POST", "passes", "203.0.113.9", &format!("shopper{n}"), true);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let told = risk(&gate, "203.0.113.9");
    assert_eq!(told["address"]["risk"]["level"], 3, "{told}");
    assert!(told["address"]["risk"]["points"]["many_shoppers"].is_u64(), "{told}");
}
