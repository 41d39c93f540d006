//! `cargo xtask bench idle`: the memory that a process has for connections that were served once
//! and wait.

use super::{
    Options, Programs, Spread, TempDir,
    client::Client,
    process::Running,
    servers::{Gate, Nginx, Setup},
};
use crate::shell::Failure;
use serde_json::json;
use std::net::SocketAddr;

/// Connections of one server: near the 20,000 files that a process may have open in many places.
const CONNECTIONS: usize = 18_000;
/// Clients, so that none has more files than it may.
const CLIENTS: usize = 2;
const REACH_BYTES: f64 = 1024.0;

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if options.only.is_some() {
        return Err(Failure("--only: bench idle has one row".into()));
    }
    let programs = Programs::ensure(options)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..options.runs {
        // Fresh processes: freed memory is not always returned.
        let dir = TempDir::new("idle")?;
        let gate = Gate::start(&programs.floodgate, dir.0.join("gate"), &Setup::OPEN)?;
        let nginx = Nginx::start(&dir.0.join("nginx"), &gate.document()?)?;
        let mut gate_turn = || -> Result<(), Failure> {
            ours.push(bytes_each(&programs, &gate.running, gate.shop)?);
            Ok(())
        };
        let mut nginx_turn = || -> Result<(), Failure> {
            theirs.push(bytes_each(&programs, &nginx.running, nginx.string)?);
            Ok(())
        };
        if round % 2 == 0 {
            gate_turn()?;
            nginx_turn()?;
        } else {
            nginx_turn()?;
            gate_turn()?;
        }
    }
    let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
    let reached = ours.median <= REACH_BYTES;
    if options.json {
        let document = json!({
            "rounds": options.runs, "connections": CONNECTIONS, "reach_bytes": REACH_BYTES, "reached": reached,
            "gate_bytes": ours.json(), "nginx_bytes": theirs.json(),
        });
        println!("{document}");
        return Ok(());
    }
    println!(
        "{CONNECTIONS} connections, each served once and waiting; {} rounds; median (lowest to highest)\n",
        options.runs
    );
    println!("| server | anonymous bytes a connection | reach | |\n|---|---|---|---|");
    let verdict = if reached { "reached" } else { "**not reached**" };
    println!("| gate | {} | ≤ {REACH_BYTES} | {verdict} |", ours.text(0));
    println!("| nginx, the same bytes by return | {} | | |", theirs.text(0));
    Ok(())
}

/// Anonymous memory a connection.
fn bytes_each(programs: &Programs, server: &Running, to: SocketAddr) -> Result<f64, Failure> {
    // What the first request creates now exists.
    drop(hold(programs, to, 1)?);
    let without = server.anonymous_bytes();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(hold(programs, to, CONNECTIONS / CLIENTS)?);
    }
    let with = server.anonymous_bytes();
    for client in &mut clients {
        client.go_on()?;
        let open = client.hear_json()?["open"].as_u64().unwrap_or_default();
        if open != (CONNECTIONS / CLIENTS) as u64 {
            return Err(Failure(format!(
                "only {open} connections of {} are still open",
                CONNECTIONS / CLIENTS
            )));
        }
    }
    let each = with.saturating_sub(without) as f64 / CONNECTIONS as f64;
    eprintln!("{to}: {without} bytes without, {with} with: {each:.0} each");
    Ok(each)
}

/// A client with this many connections, all of which were served.
fn hold(programs: &Programs, to: SocketAddr, connections: usize) -> Result<Client, Failure> {
    let args = ["--idle", "--to", &to.to_string(), "--path", &Gate::document_path()];
    let more = ["--connections", &connections.to_string(), "--marker", r#""state":"open""#];
    let args: Vec<String> = args.iter().chain(&more).map(|arg| (*arg).to_owned()).collect();
    let mut client = Client::start(&programs.load, &args)?;
    let report = client.hear_json()?;
    if report["matched"].as_u64() != Some(connections as u64) {
        return Err(Failure(format!("want {connections} answers with the sale's state, got {report}")));
    }
    Ok(client)
}
