//! `cargo xtask bench idle`: the memory that a process has for connections that were served once
//! and wait.

use super::{
    Options, Programs, Spread, TempDir,
    client::Client,
    process::Running,
    servers::{Gate, Nginx, Setup, wait_for},
};
use crate::shell::{Failure, command};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Connections of one server: near the 20,000 files that a process may have open in many places.
const CONNECTIONS: usize = 18_000;
/// Clients, so that none has more files than it may.
const CLIENTS: usize = 2;
/// Connections over TLS, of one client.
const TLS_CONNECTIONS: usize = 6000;
/// The last answers are written, and their memory is freed.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

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
    let mut rows = vec![
        Row { server: "gate", each: Spread::of(ours), reach: Some(1024.0) },
        Row { server: "nginx, the same bytes by return", each: Spread::of(theirs), reach: None },
    ];
    for (protocol, server, reach) in
        [("http/1.1", "gate, TLS, HTTP/1.1", 8192.0), ("h2", "gate, TLS, HTTP/2", 12_288.0)]
    {
        let each: Result<Vec<f64>, Failure> =
            (0..options.runs).map(|_| bytes_each_over_tls(&programs, protocol)).collect();
        rows.push(Row { server, each: Spread::of(each?), reach: Some(reach) });
    }
    if options.json {
        let row = |row: &Row| {
            json!({
                "server": row.server, "bytes": row.each.json(), "reach_bytes": row.reach, "reached": row.reached(),
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        println!("{}", json!({ "rounds": options.runs, "connections": CONNECTIONS, "rows": rows }));
        return Ok(());
    }
    println!(
        "{CONNECTIONS} connections ({TLS_CONNECTIONS} over TLS), each served once and waiting; {} rounds; median (lowest to highest)\n",
        options.runs
    );
    println!("| server | anonymous bytes a connection | reach | |\n|---|---|---|---|");
    for row in &rows {
        let reach = row.reach.map_or_else(String::new, |reach| format!("≤ {reach}"));
        let verdict = match row.reached() {
            None => "",
            Some(true) => "reached",
            Some(false) => "**not reached**",
        };
        println!("| {} | {} | {reach} | {verdict} |", row.server, row.each.text(0));
    }
    Ok(())
}

struct Row {
    server: &'static str,
    each: Spread,
    reach: Option<f64>,
}

impl Row {
    fn reached(&self) -> Option<bool> {
        self.reach.map(|reach| self.each.median <= reach)
    }
}

/// Anonymous memory a connection, with a program that speaks TLS.
fn bytes_each_over_tls(programs: &Programs, protocol: &str) -> Result<f64, Failure> {
    let dir = TempDir::new("idle")?;
    let setup = Setup { has_tls: true, ..Setup::OPEN };
    let gate = Gate::start(&programs.floodgate, dir.0.join("gate"), &setup)?;
    let at = gate.tls.ok_or_else(|| Failure("the gate has no TLS listener".into()))?;
    wait_for("the gate", at, &dir.0.join("gate/log"))?;
    let script = dir.0.join("tls_crowd.py");
    fs::write(&script, include_str!("tls_crowd.py"))?;
    let mut crowd = command("python3")
        .arg(&script)
        .args([at.port().to_string(), protocol.to_owned(), TLS_CONNECTIONS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let each = crowd_bytes(&mut crowd, &gate.running);
    // It ends with its input; if it has failed, it has ended.
    drop(crowd.stdin.take());
    crowd.wait()?;
    let each = each?;
    eprintln!("{at}, {protocol}: {each:.0} each");
    Ok(each)
}

fn crowd_bytes(crowd: &mut Child, server: &Running) -> Result<f64, Failure> {
    let no_pipe = || Failure("the crowd has no pipe".into());
    let mut says = BufReader::new(crowd.stdout.take().ok_or_else(no_pipe)?).lines();
    let mut hear = |word: &str| match says.next() {
        Some(Ok(line)) if line == word => Ok(()),
        other => Err(Failure(format!("the crowd over TLS: want {word:?}, got {other:?}"))),
    };
    hear("warm")?;
    sleep(SETTLES_WITHIN);
    let without = server.anonymous_bytes();
    crowd.stdin.as_mut().ok_or_else(no_pipe)?.write_all(b"go on\n")?;
    hear("open")?;
    sleep(SETTLES_WITHIN);
    Ok(server.anonymous_bytes().saturating_sub(without) as f64 / TLS_CONNECTIONS as f64)
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
