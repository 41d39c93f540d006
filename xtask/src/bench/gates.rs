//! The sale in one process and gates in processes of their own, on one port.

use super::{
    TempDir,
    client::Client,
    process::Running,
    servers::{self, Gate, PATIENCE},
    shoppers::flat,
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
    api_key: String,
    /// After the processes that write there, so that it is dropped last.
    dir: TempDir,
}

impl Gates {
    /// Starts a sale of this many units, and this many gates, each with one thread, all on these
    /// processors, with further settings.
    pub(super) fn start(
        program: &Path,
        dir: PathBuf,
        cores: &str,
        gates: usize,
        stock: u64,
        settings: &str,
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
                 [gate.connections]\nthreads = 1\nidle_timeout_seconds = 3600\n{settings}"
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
        let (program, api_key) = (program.to_owned(), key.trim().to_owned());
        Ok(Self { sale, gates: running, shop, attempts_path, program, api_key, dir })
    }

    /// Starts a store beside them, on these processors.
    pub(super) fn start_store(&self, cores: &str) -> Result<Running, Failure> {
        let (data, config) = self.places();
        let socket = servers::text(&self.dir.0.join("data/gates/socket"));
        let args = ["serve", "--data", &data, "--config", &config, "--role", "store", "--join", &socket];
        Running::start(cores, &self.program, &args, &self.log("store"))
    }

    /// Where a process writes its log.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.0.join(format!("log-{name}"))
    }

    /// A client of so many shoppers, on these processors, each with a token and an address of its
    /// own.
    pub(super) fn crowd(&self, cores: &str, program: &Path, count: usize) -> Result<Client, Failure> {
        let file = self.dir.0.join("tokens");
        let shoppers = count.to_string();
        fs::write(&file, self.floodgate(&["token", "--shopper", "shopper", "--count", &shoppers])?)?;
        let args = [
            ("--to", self.shop.to_string()),
            ("--from", "127.100.0.1".to_owned()),
            ("--per-address", "1".to_owned()),
            ("--connections", shoppers.clone()),
            ("--document", Gate::document_path()),
            ("--path", self.attempts_path.clone()),
            ("--credentials", file.to_string_lossy().into_owned()),
            ("--skip", "0".to_owned()),
            ("--attempts", shoppers),
        ];
        Client::start_on(cores, program, &flat(&args))
    }

    /// Waits until the store has so many orders: it looks a few times a second.
    pub(super) fn wait_for_orders(
        &self,
        store: SocketAddr,
        count: u64,
        within: Duration,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let found = self.orders(store)?;
            if found >= count {
                return Ok(());
            }
            if started.elapsed() > within {
                return Err(Failure(format!("{found} of {count} winners have an order")));
            }
            sleep(Duration::from_millis(200));
        }
    }

    /// How many orders the store has.
    fn orders(&self, store: SocketAddr) -> Result<u64, Failure> {
        let (mut found, mut before) = (0, String::new());
        loop {
            let page = servers::ask(
                store,
                &format!(
                    "GET /api/v1/store/orders?limit=100{before} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\
                     Authorization: Bearer {}\r\n\r\n",
                    self.api_key
                ),
            )?;
            let page: Value = serde_json::from_str(&page).map_err(|e| Failure(e.to_string()))?;
            found += page["orders"].as_array().map_or(0, Vec::len) as u64;
            match page["next"].as_str() {
                Some(next) => before = format!("&before={next}"),
                None => return Ok(found),
            }
        }
    }

    fn places(&self) -> (String, String) {
        (servers::text(&self.dir.0.join("data")), servers::text(&self.dir.0.join("floodgate.toml")))
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
        let (data, config) = self.places();
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
