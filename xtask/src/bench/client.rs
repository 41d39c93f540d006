//! The load's side of a measurement: starts the client, and reads the servers' CPU time before and
//! after its work, and once more when they are quiet, so that deferred work counts.

use super::process::{CLIENT_CORE, Cpu, Running, pinned};
use crate::shell::Failure;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

/// A running client. It ends when dropped.
pub(super) struct Client {
    // Before `running`: the end of its input makes it end by itself.
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _running: Running,
}

impl Client {
    pub(super) fn start(load: &Path, args: &[String]) -> Result<Self, Failure> {
        Self::start_on(CLIENT_CORE, load, args)
    }

    /// The same on other processors.
    pub(super) fn start_on(cores: &str, program: &Path, args: &[String]) -> Result<Self, Failure> {
        let mut command = pinned(cores, program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut running = Running::spawn(&mut command)?;
        let child = running.child();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure("the client has no pipes".into()));
        };
        Ok(Self { input, output: BufReader::new(output), _running: running })
    }

    /// The next line that it prints; if it cannot go on, it prints the reason itself.
    pub(super) fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() { Err(Failure("the client ended before it was done".into())) } else { Ok(line) }
    }

    pub(super) fn hear_json(&mut self) -> Result<Value, Failure> {
        let line = self.hear()?;
        serde_json::from_str(&line).map_err(|e| Failure(format!("the client said {line:?}: {e}")))
    }

    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        self.tell("")
    }

    pub(super) fn tell(&mut self, command: &str) -> Result<(), Failure> {
        Ok(self.input.write_all(format!("{command}\n").as_bytes())?)
    }
}

/// The resources that a server used for some requests, and the client's results.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// CPU time of a request while the client was at work.
    pub(super) user_us: f64,
    pub(super) system_us: f64,
    /// CPU time of deferred work, until the server was quiet again, also for each request.
    pub(super) later_us: f64,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Part of its processor that the client used: near 1, the server may have waited for it.
    pub(super) client_busy: f64,
    pub(super) matched: u64,
    pub(super) answers: u64,
    /// Unexpected answers, by status, and the first of them.
    pub(super) others: Value,
    pub(super) odd: String,
    pub(super) request_bytes: u64,
    pub(super) answer_bytes: u64,
}

impl Measured {
    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us + self.later_us
    }
}

/// Measures `servers` from one quiet moment to the next.
pub(super) fn measure(
    load: &Path,
    args: &[String],
    servers: &[&Running],
    quiet_for: Duration,
) -> Result<Measured, Failure> {
    let mut client = Client::start(load, args)?;
    client.hear()?;
    for server in servers {
        server.wait_until_quiet(quiet_for)?;
    }
    let before = total(servers);
    client.go_on()?;
    let report = client.hear_json()?;
    let after = total(servers);
    for server in servers {
        server.wait_until_quiet(quiet_for)?;
    }
    let later = total(servers);
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    let each = |seconds: f64| seconds * 1e6 / number("answers");
    Ok(Measured {
        user_us: each(after.user - before.user),
        system_us: each(after.system - before.system),
        // Differences of numbers that are not exact: never less than nothing.
        later_us: each(later.user + later.system - after.user - after.system).max(0.0) + 0.0,
        requests_per_second: number("requests_per_second"),
        p50_ms: number("p50_ms"),
        p99_ms: number("p99_ms"),
        client_busy: number("client_busy"),
        matched: count("matched"),
        answers: count("answers"),
        others: report["others"].clone(),
        odd: report["odd"].as_str().unwrap_or_default().to_owned(),
        request_bytes: count("request_bytes"),
        answer_bytes: count("answer_bytes"),
    })
}

fn total(servers: &[&Running]) -> Cpu {
    servers
        .iter()
        .map(|server| server.cpu())
        .fold(Cpu::default(), |a, b| Cpu { user: a.user + b.user, system: a.system + b.system })
}
