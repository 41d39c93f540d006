//! `cargo xtask bench beside`: how long shoppers wait for their purchases while the sale's events
//! go out by the message service, compared with a server that has none. One subscriber takes
//! everything, one never answers, and one cannot be reached. Both servers have one processor; the
//! shoppers and the subscribers share the other.

use super::{
    Options, Programs, Spread, TempDir,
    probe::Endpoint,
    process::QUIET_FOR,
    servers::{Gate, Setup, ask, free_address},
    shoppers::{Shoppers, buy},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SHOPPERS: usize = 4_000;
const BUY_SECONDS: u64 = 8;
const REACH: f64 = 1.1;
/// How long the events of one round may take to come to the one who takes them.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let programs = Programs::ensure(options)?;
    let dir = TempDir::new("beside")?;
    let seconds = options.hold_seconds.unwrap_or(BUY_SECONDS);
    let without = Gate::start(&programs.floodgate, dir.0.join("without"), &Setup::OPEN)?;
    let with = Setup { has_messages: true, ..Setup::OPEN };
    let with = Gate::start(&programs.floodgate, dir.0.join("with"), &with)?;
    let taking = Endpoint::start(|_| 204)?;
    // Its connections are accepted by the kernel, and never read.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    subscribe(&with, "taking", taking.at)?;
    subscribe(&with, "silent", silent.local_addr()?)?;
    subscribe(&with, "unreachable", free_address()?)?;

    let mut rounds = Vec::new();
    let mut told = 0;
    for round in 0..options.runs {
        let mut pair = [None, None];
        for turn in 0..2 {
            let is_with = (round + turn) % 2 == 0;
            let (gate, name) = if is_with { (&with, "with") } else { (&without, "without") };
            gate.running.wait_until_quiet(QUIET_FOR)?;
            let name = format!("{name}{round}");
            let shoppers = buy(&programs, gate, (&name, SHOPPERS), 2 * round + turn, seconds)?;
            eprintln!("{}/{} {name}: {shoppers:?}", round + 1, options.runs);
            if shoppers.granted != SHOPPERS as u64 {
                return Err(Failure(format!("{} of {SHOPPERS} were granted", shoppers.granted)));
            }
            pair[usize::from(is_with)] = Some(shoppers);
        }
        // A round without its events would prove nothing.
        told = wait_for(&with, (round as u64 + 1) * SHOPPERS as u64)?;
        if let [Some(without), Some(with)] = pair {
            rounds.push((without, with));
        }
    }
    report(options, &rounds, told);
    Ok(())
}

fn subscribe(gate: &Gate, name: &str, to: SocketAddr) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        // The topic of the sales is made a moment after the start.
        let spec = json!({ "topic": "sales", "url": format!("http://{to}/") });
        match events(gate, "PUT", &format!("subscriptions/{name}"), &spec) {
            Ok(_) => return Ok(()),
            Err(error) if started.elapsed() > TOLD_WITHIN => return Err(error),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

fn events(gate: &Gate, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
    let at = gate.events.ok_or_else(|| Failure("it has no message service".into()))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /api/v1/{path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        gate.api_key,
        body.len()
    );
    serde_json::from_str(&ask(at, &request)?).map_err(|e| Failure(e.to_string()))
}

/// Waits until the one who takes them has had so many events.
fn wait_for(gate: &Gate, count: u64) -> Result<u64, Failure> {
    let started = Instant::now();
    loop {
        let seen = events(gate, "GET", "subscriptions/taking", &Value::Null)?;
        let delivered = seen["delivered"].as_u64().unwrap_or_default();
        if delivered >= count {
            return Ok(delivered);
        }
        if started.elapsed() > TOLD_WITHIN {
            return Err(Failure(format!("{delivered} of {count} events were delivered")));
        }
        sleep(Duration::from_millis(100));
    }
}

fn report(options: &Options, rounds: &[(Shoppers, Shoppers)], told: u64) {
    let spread = |of: &dyn Fn(&(Shoppers, Shoppers)) -> f64| Spread::of(rounds.iter().map(of));
    let p99 = spread(&|(without, with)| with.attempt_p99_ms / without.attempt_p99_ms);
    let p50 = spread(&|(without, with)| with.attempt_p50_ms / without.attempt_p50_ms);
    let reached = p99.median <= REACH;
    type Of = fn(&Shoppers) -> f64;
    let rows: [(&str, Of); 4] = [
        ("an attempt, p50 ms", |of| of.attempt_p50_ms),
        ("an attempt, p99 ms", |of| of.attempt_p99_ms),
        ("a purchase (pass and attempt), p99 ms", |of| of.p99_ms),
        ("the server's processor, percent", |of| 100.0 * of.server_cpu),
    ];
    if options.json {
        let rows = rows.map(|(what, of)| {
            let (without, with) = (spread(&|(without, _)| of(without)), spread(&|(_, with)| of(with)));
            json!({ "what": what, "without": without.json(), "with": with.json() })
        });
        println!(
            "{}",
            json!({
                "rounds": rounds.len(), "shoppers": SHOPPERS, "delivered": told, "rows": rows,
                "ratio_p50": p50.json(), "ratio_p99": p99.json(), "reach": REACH, "reached": reached,
            })
        );
        return;
    }
    println!("{} rounds of {SHOPPERS} shoppers; {told} events delivered meanwhile\n", rounds.len());
    println!("| shoppers | without messages | with messages |\n|---|---|---|");
    for (what, of) in rows {
        let (without, with) = (spread(&|(without, _)| of(without)), spread(&|(_, with)| of(with)));
        println!("| {what} | {} | {} |", without.text(2), with.text(2));
    }
    let verdict = if reached { "reached" } else { "**not reached**" };
    println!("\n| ratio of a round | reach | seen | |\n|---|---|---|---|");
    println!("| an attempt, p50 | | {} | |", p50.text(2));
    println!("| an attempt, p99 | ≤ {REACH} | {} | {verdict} |", p99.text(2));
}
