//! The sale in one process and gates in processes of their own, on one port.

use super::{
    TempDir,
    process::Running,
    servers::{self, Gate, PATIENCE},
};
use crate::shell::{Failure, output};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(super) struct Gates {
    pub(super) sale: Running,
    pub(super) gates: Vec<Running>,
    pub(super) shop: SocketAddr,
    pub(super) attempts_path: String,
    program: PathBuf,
    /// After the processes that write there, so that it is dropped last.
    dir: TempDir,
}

impl Gates {
    /// Starts a sale of this many units, and this many gates, each with one thread, all on these
    /// processors.
    pub(super) fn start(
        program: &Path,
        dir: PathBuf,
        cores: &str,
        gates: usize,
        stock: u64,
    ) -> Result<Self, Failure> {
        let dir = TempDir::at(dir)?;
        let (shop, admin) = (servers::free_address()?, servers::free_address()?);
        let (data, config) =
            (servers::text(&dir.0.join("data")), servers::text(&dir.0.join("floodgate.toml")));
        // No connection is closed because a whole crowd comes from one machine, or because it is
        // idle for longer than usual.
        fs::write(
            &config,
            format!(
                "[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n\
                 [gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\n\
                 [gate.connections]\nthreads = 1\nidle_timeout_seconds = 3600\n{}",
                servers::no_messages(program)?
            ),
        )?;
        let args = ["serve", "--data", &data, "--config", &config];
        let log = dir.0.join("log-sale");
        let sale = Running::start(cores, program, &[&args[..], &["--role", "sale"]].concat(), &log)?;
        servers::wait_for("the process with the sale", admin, &log)?;
        let key =
            output(&servers::text(program), &["key", "new", "bench", "--role", "owner", "--data", &data])?;
        servers::define(admin, &key, stock)?;
        let socket = servers::text(&dir.0.join("data/gates/socket"));
        let mut running = Vec::new();
        for number in 0..gates {
            let (own, log) = (servers::free_address()?.to_string(), dir.0.join(format!("log-gate-{number}")));
            let more = ["--role", "gate", "--join", &socket, "--admin-listen", &own];
            running.push(Running::start(cores, program, &[&args[..], &more].concat(), &log)?);
            let own = own.parse().map_err(|_| Failure(format!("no address: {own}")))?;
            servers::wait_for("a gate", own, &log)?;
            wait_until_it_knows_the_sale(own)?;
        }
        let document = servers::ask(
            shop,
            &format!("GET {} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", Gate::document_path()),
        )?;
        let document: Value = serde_json::from_str(&document).map_err(|e| Failure(e.to_string()))?;
        let url = document["attempts_url"].as_str().ok_or_else(|| Failure("the sale is not open".into()))?;
        let attempts_path = url[url.find("/api/").unwrap_or(0)..].to_owned();
        Ok(Self { sale, gates: running, shop, attempts_path, program: program.to_owned(), dir })
    }

    /// A file of passes of so many shoppers.
    pub(super) fn passes(&self, count: usize) -> Result<PathBuf, Failure> {
        let file = self.dir.0.join("passes");
        let count = count.to_string();
        let args = ["token", "--sale", Gate::SALE, "--shopper", "shopper", "--count", &count];
        fs::write(&file, self.floodgate(&args)?)?;
        Ok(file)
    }

    /// The audit's result for the current log.
    pub(super) fn audit(&self) -> Result<Value, Failure> {
        let report = self.floodgate(&["audit", "--json"])?;
        let reports: Value = serde_json::from_str(&report).map_err(|e| Failure(e.to_string()))?;
        Ok(reports[0].clone())
    }

    /// Lines of all processes' logs that report a change of stage, or an error on which a person
    /// must act.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir.0).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("log-") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                let told = |line: &&str| line.contains("stage has changed") || line.contains("ERROR");
                found.extend(log.lines().filter(told).map(|line| format!("{name}: {line}")));
            }
        }
        found
    }

    fn floodgate(&self, args: &[&str]) -> Result<String, Failure> {
        let (data, config) =
            (servers::text(&self.dir.0.join("data")), servers::text(&self.dir.0.join("floodgate.toml")));
        output(
            &servers::text(&self.program),
            &[&args[..1], &["--data", &data, "--config", &config], &args[1..]].concat(),
        )
    }
}

fn wait_until_it_knows_the_sale(admin: SocketAddr) -> Result<(), Failure> {
    let line = format!("floodgate_sale_log_sequence{{sale=\"{}\"}}", Gate::SALE);
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let metrics = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        if servers::ask(admin, metrics)?.contains(&line) {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    Err(Failure(format!("the gate at {admin} has not heard of the sale")))
}
