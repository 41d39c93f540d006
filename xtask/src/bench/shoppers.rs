//! Shoppers who buy within some seconds, each from an address of its own, and how long each waited.

use super::{Programs, client::Client, servers::Gate};
use crate::shell::Failure;
use serde_json::Value;
use std::time::Instant;

/// The shoppers' results.
#[derive(Debug)]
pub(super) struct Shoppers {
    pub(super) granted: u64,
    /// Purchases: from the shopper's intended start, with pass, attempt and all retries.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) attempt_p50_ms: f64,
    pub(super) attempt_p99_ms: f64,
    /// Requests that were sent again, as Retry-After said or because a connection was closed.
    pub(super) again: u64,
    pub(super) closed: u64,
    /// Outcomes, and statuses of answers without one.
    pub(super) outcomes: Value,
    /// Use of the gate's processor.
    pub(super) server_cpu: f64,
}

pub(super) fn flat(args: &[(&str, String)]) -> Vec<String> {
    args.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]).collect()
}

/// New shoppers buy, each from a new address.
pub(super) fn buy(
    programs: &Programs,
    gate: &Gate,
    (name, count): (&str, usize),
    network: usize,
    seconds: u64,
) -> Result<Shoppers, Failure> {
    let tokens = gate.tokens(name, count)?;
    let args = [
        ("--to", gate.shop.to_string()),
        ("--from", format!("127.{}.0.1", 100 + network)),
        ("--per-address", "1".to_owned()),
        ("--connections", count.to_string()),
        ("--document", Gate::document_path()),
        ("--path", gate.attempts_path.clone()),
        ("--credentials", tokens.to_string_lossy().into_owned()),
        ("--skip", "0".to_owned()),
        ("--attempts", count.to_string()),
    ];
    let mut client = Client::start(&programs.crowd, &flat(&args))?;
    let (before, started) = (gate.running.cpu(), Instant::now());
    client.tell(&format!("buy {seconds}"))?;
    let report = client.hear_json()?;
    let (after, lasted) = (gate.running.cpu(), started.elapsed().as_secs_f64());
    let spread = |name: &str| {
        let mut times: Vec<u64> =
            report[name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        [0.5, 0.99]
            .map(|part| times.get((last as f64 * part) as usize).map_or(f64::NAN, |us| *us as f64 / 1e3))
    };
    let ([p50_ms, p99_ms], [attempt_p50_ms, attempt_p99_ms]) =
        (spread("purchases_us"), spread("attempts_us"));
    let counted = |name: &str| report[name].as_u64().unwrap_or_default();
    Ok(Shoppers {
        granted: report["outcomes"]["granted"].as_u64().unwrap_or_default(),
        p50_ms,
        p99_ms,
        attempt_p50_ms,
        attempt_p99_ms,
        again: counted("again"),
        closed: counted("closed") + counted("reset"),
        outcomes: report["outcomes"].clone(),
        server_cpu: (after.user + after.system - before.user - before.system) / lasted,
    })
}
