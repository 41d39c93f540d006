//! `cargo xtask bench flood`: how long honest shoppers wait while a flood of 20 times what the gate
//! can answer is offered to it from 5,000 addresses, compared with how long they wait without it.
//! The gate has one processor; shoppers and flood share the other, and the flood gets only what the
//! shoppers leave.

use super::{
    Options, Programs, Spread, TempDir,
    client::Client,
    crowd::Kernel,
    process::{CLIENT_CORE, SERVER_CORE},
    servers::{Gate, Setup},
    shoppers::{Shoppers, buy, flat},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// The flood's rate, as a multiple of the capacity.
const TIMES: f64 = 20.0;
const ADDRESSES: usize = 5_000;
const SHOPPERS: usize = 1_000;
/// Seconds within which all shoppers come, unless `--hold-seconds` says otherwise.
const BUY_SECONDS: u64 = 10;
/// Seconds for which the flood runs before the first shopper comes.
const FLOOD_AHEAD: Duration = Duration::from_secs(3);
const REACH: f64 = 3.0;
/// Requests that measure the capacity: some three seconds.
const CAPACITY_REQUESTS: usize = 200_000;

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let programs = Programs::ensure(options)?;
    let dir = TempDir::new("flood")?;
    let seconds = options.hold_seconds.unwrap_or(BUY_SECONDS);
    let gate =
        Gate::start(&programs.floodgate, dir.0.join("gate"), &Setup { is_limited: true, ..Setup::OPEN })?;
    let capacity = capacity(&programs, &gate)?;
    eprintln!("capacity: {capacity:.0} refusals a second");
    let flood_pass = gate.passes("flood", 1)?;
    let mut rounds = Vec::new();
    for round in 0..options.runs {
        let (mut quiet, mut flooded) = (None, None);
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                gate.running.wait_until_quiet(super::process::QUIET_FOR)?;
                quiet =
                    Some(buy(&programs, &gate, (&format!("quiet{round}"), SHOPPERS), 2 * round, seconds)?);
            } else {
                flooded = Some(flood(&programs, &gate, &flood_pass, TIMES * capacity, round, seconds)?);
            }
        }
        if let (Some(quiet), Some((flooded, flood))) = (quiet, flooded) {
            eprintln!("round {}: quiet {quiet:?}\nflooded {flooded:?}\nflood {flood:?}", round + 1);
            rounds.push(Round { quiet, flooded, flood });
        }
    }
    report(options, &gate, capacity, seconds, &rounds)
}

/// The results of a quiet run and of one under flood.
struct Round {
    quiet: Shoppers,
    flooded: Shoppers,
    flood: Flood,
}

/// The results of the flood.
#[derive(Debug)]
struct Flood {
    seconds: f64,
    due: u64,
    tried: u64,
    sent: u64,
    answers: BTreeMap<String, u64>,
    opened: u64,
    ended: u64,
    client_cpu: f64,
    /// Memory of the whole machine during the flood: both ends.
    buffers_mib: f64,
}

/// Attempts with a wrong round key a second, over 256 connections of one address: beyond its limit,
/// the cheapest refusal.
fn capacity(programs: &Programs, gate: &Gate) -> Result<f64, Failure> {
    let path = gate.attempts_path.replace("/rounds/", "/rounds/0");
    let passes = gate.passes("capacity", 1000)?;
    let count = CAPACITY_REQUESTS.to_string();
    let args = [
        ("--to", gate.shop.to_string()),
        ("--path", path),
        ("--passes", passes.to_string_lossy().into_owned()),
        ("--connections", "256".to_owned()),
        ("--requests", count),
        ("--warm-up", "10000".to_owned()),
        ("--status", "429".to_owned()),
    ];
    let mut client = Client::start(&programs.load, &flat(&args))?;
    client.hear()?;
    client.go_on()?;
    let report = client.hear_json()?;
    let (answers, refused) = (report["answers"].as_u64(), report["matched"].as_u64());
    if answers.is_none() || refused < answers.map(|n| n * 9 / 10) {
        return Err(Failure(format!("want refusals, got {report}")));
    }
    report["requests_per_second"].as_f64().ok_or_else(|| Failure(format!("no rate in {report}")))
}

/// Shoppers buy under flood.
fn flood(
    programs: &Programs,
    gate: &Gate,
    pass: &Path,
    rate: f64,
    round: usize,
    seconds: u64,
) -> Result<(Shoppers, Flood), Failure> {
    // The flood has low priority, so that shoppers do not wait for their own processor.
    let nice = [("-n", "19".to_owned())];
    let args = [
        ("--to", gate.shop.to_string()),
        ("--addresses", ADDRESSES.to_string()),
        ("--document", Gate::document_path()),
        ("--path", gate.attempts_path.clone()),
        ("--passes", pass.to_string_lossy().into_owned()),
        ("--per-second", rate.to_string()),
    ];
    let program = [programs.flood.to_string_lossy().into_owned()];
    let args = [&flat(&nice)[..], &program, &flat(&args)].concat();
    let mut client = Client::start(Path::new("nice"), &args)?;
    client.hear()?;
    client.go_on()?;
    sleep(FLOOD_AHEAD);
    let shoppers = buy(programs, gate, (&format!("flooded{round}"), SHOPPERS), 2 * round + 1, seconds)?;
    let buffers_mib = Kernel::now().tcp_pages as f64 * rustix::param::page_size() as f64 / (1 << 20) as f64;
    client.go_on()?;
    let report = client.hear_json()?;
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let answers = report["answers"].as_object().into_iter().flatten();
    let flood = Flood {
        seconds: number("seconds"),
        due: count("due"),
        tried: count("tried"),
        sent: count("sent"),
        answers: answers.map(|(status, n)| (status.clone(), n.as_u64().unwrap_or_default())).collect(),
        opened: count("opened"),
        ended: count("ended"),
        client_cpu: number("cpu_seconds") / number("seconds"),
        buffers_mib,
    };
    Ok((shoppers, flood))
}

fn report(
    options: &Options,
    gate: &Gate,
    capacity: f64,
    seconds: u64,
    rounds: &[Round],
) -> Result<(), Failure> {
    let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
    let p50 = spread(&|round| round.flooded.p50_ms / round.quiet.p50_ms);
    let p99 = spread(&|round| round.flooded.p99_ms / round.quiet.p99_ms);
    let rate =
        |of: fn(&Flood) -> u64| spread(&move |round: &Round| of(&round.flood) as f64 / round.flood.seconds);
    let all_granted =
        rounds.iter().all(|r| r.quiet.granted == SHOPPERS as u64 && r.flooded.granted == SHOPPERS as u64);
    let mut answers: BTreeMap<&str, u64> = BTreeMap::new();
    for (status, count) in rounds.iter().flat_map(|round| &round.flood.answers) {
        *answers.entry(status).or_default() += count;
    }
    let reached = p99.median <= REACH && all_granted;
    type Row<'a> = (&'a str, &'a dyn Fn(&Shoppers) -> f64, usize);
    let rows: [Row<'_>; 8] = [
        ("granted", &|of| of.granted as f64, 0),
        ("a purchase (pass and attempt), p50 ms", &|of| of.p50_ms, 2),
        ("a purchase, p99 ms", &|of| of.p99_ms, 2),
        ("an attempt alone, p50 ms", &|of| of.attempt_p50_ms, 2),
        ("an attempt alone, p99 ms", &|of| of.attempt_p99_ms, 2),
        ("asked again", &|of| of.again as f64, 0),
        ("connections of shoppers that were closed", &|of| of.closed as f64, 0),
        ("the gate's processor, percent", &|of| 100.0 * of.server_cpu, 0),
    ];
    if options.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(what, of, _)| {
                json!({
                    "what": what, "quiet": spread(&|round| of(&round.quiet)).json(),
                    "flooded": spread(&|round| of(&round.flooded)).json(),
                })
            })
            .collect();
        let document = json!({
            "rounds": rounds.len(), "shoppers": SHOPPERS, "buy_seconds": seconds, "addresses": ADDRESSES, "capacity_per_second": capacity,
            "rows": rows, "ratio_p50": p50.json(), "ratio_p99": p99.json(), "reach": REACH, "reached": reached, "all_granted": all_granted,
            "due_per_second": rate(|f| f.due).json(), "tried_per_second": rate(|f| f.tried).json(), "sent_per_second": rate(|f| f.sent).json(),
            "opened_per_second": rate(|f| f.opened).json(), "ended_per_second": rate(|f| f.ended).json(), "answers": answers,
            "buffers_mib": spread(&|round| round.flood.buffers_mib).json(), "client_cpu": spread(&|round| round.flood.client_cpu).json(), "stages": gate.stages(),
        });
        println!("{document}");
        return Ok(());
    }
    println!(
        "{} rounds; {SHOPPERS} shoppers in {seconds} s, each from an address of their own; gate on processor {SERVER_CORE}, clients on {CLIENT_CORE}\n",
        rounds.len()
    );
    println!("| honest shoppers | in quiet | under flood |\n|---|---|---|");
    for (what, of, digits) in rows {
        let (quiet, flooded) = (spread(&|round| of(&round.quiet)), spread(&|round| of(&round.flooded)));
        println!("| {what} | {} | {} |", quiet.text(digits), flooded.text(digits));
    }
    println!("\n| ratio of a round | reach | seen | |\n|---|---|---|---|");
    println!("| purchase, p50 | | {} | |", p50.text(2));
    let verdict = if reached { "reached" } else { "**not reached**" };
    println!("| purchase, p99, and all granted | ≤ {REACH} | {} | {verdict} |", p99.text(2));
    println!("\n| the flood, from {ADDRESSES} addresses | a second |\n|---|---|");
    println!("| capacity: refusals of the gate | {capacity:.0} |");
    println!("| offered: {TIMES} times that | {} |", rate(|f| f.due).text(0));
    println!("| for which the sender had time | {} |", rate(|f| f.tried).text(0));
    println!("| taken by the sockets | {} |", rate(|f| f.sent).text(0));
    println!("| answered | {} |", rate(|f| f.answers.values().sum()).text(0));
    println!(
        "| connections opened; ended by the gate | {}; {} |",
        rate(|f| f.opened).text(0),
        rate(|f| f.ended).text(0)
    );
    println!(
        "| buffers of the kernel, both ends, MiB; sender's processor, percent | {}; {} |",
        spread(&|round| round.flood.buffers_mib).text(0),
        spread(&|round| 100.0 * round.flood.client_cpu).text(0)
    );
    println!("\nanswers to the flood by status: {answers:?}");
    rounds.iter().for_each(|round| println!("shoppers under flood were told {}", round.flooded.outcomes));
    gate.stages().iter().for_each(|line| println!("{line}"));
    Ok(())
}
