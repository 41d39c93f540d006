//! `floodgate rehearse`: a server process and a crowd in separate processes; at the end what the
//! crowd was told is compared with the log.

mod compare;
mod http;
mod ledger;
pub(crate) mod load;
mod objectives;

use super::print;
use crate::logs::Logs;
use crate::{CommandResult, Context, data};
use compare::{Comparison, compare};
use contracts::SaleSpec;
use ledger::{Line, Paid, Told};
use load::Progress;
use objectives::{Limits, Objective, Seen};
use sale::audit::{Report, audit};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use units::{Sequence, TimeMs};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shoppers, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    shoppers: u64,
    /// Units on sale
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    stock: u64,
    /// Arrivals a second after the opening; before it, a hundredth of that
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    rate: u64,
    /// Connections that stand open, waiting for the opening
    #[arg(long, value_name = "N", default_value_t = 16_000)]
    early: u64,
    /// Shoppers in a hundred that do not pay for what they got
    #[arg(long, value_name = "PERCENT", default_value_t = 20)]
    no_shows: u64,
    /// How long a hold waits to be paid
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    hold_seconds: u64,
    /// Load processes
    #[arg(long, value_name = "N", default_value_t = 2)]
    processes: u64,
    /// Kill the server (SIGKILL) when so many hundredths of the stock are granted, and start it
    /// again
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    kill_at: Vec<u64>,
    #[command(flatten)]
    limits: Limits,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// The result of a rehearsal.
#[derive(Debug, Serialize)]
struct Outcome {
    shoppers: u64,
    stock: u64,
    /// True if every objective is met and nothing else went wrong.
    go: bool,
    objectives: Vec<Objective>,
    /// What went wrong, if anything.
    problems: Vec<String>,
    told: BTreeMap<&'static str, u64>,
    retries: u64,
    /// From the intended time of sending to the first decision, in milliseconds.
    latency_ms: Latency,
    connections_open_max: u64,
    decisions_per_second: f64,
    seconds: f64,
    server_kills: usize,
    server_memory_max_mib: f64,
    comparison: Comparison,
    audit: Report,
}

#[derive(Debug, Default, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Connections of the whole crowd: what a server with the usual limit of 20,000 files has room for.
const CONNECTIONS_MAX: u64 = 18_000;
const SALE: &str = "rehearsal";
const ITEM: &str = "phone";

pub(crate) fn run(context: Context, args: &Args, data_given: bool) -> CommandResult {
    if args.shoppers == 0 || args.stock == 0 || args.rate == 0 || !(1..=64).contains(&args.processes) {
        return Err("rehearse: --shoppers, --stock and --rate want at least 1, --processes 1 to 64".into());
    }
    if args.no_shows > 100 || args.kill_at.iter().any(|at| *at > 100) {
        return Err("rehearse: --no-shows and --kill-at want percentages, 0 to 100".into());
    }
    let scratch = tempfile::Builder::new().prefix("floodgate-rehearsal-").tempdir()?;
    let dir = if data_given { context.data.clone() } else { scratch.path().join("data") };
    if dir.join("sales").is_dir() && !data::sales(&dir)?.is_empty() {
        return Err(format!(
            "rehearse: {} has sales in it; a rehearsal wants a directory of its own",
            dir.display()
        )
        .into());
    }
    fs::create_dir_all(&dir)?;
    let base = match &context.config_file {
        Some(file) => {
            say(&format!(
                "rehearse: the server runs with {}, but with free ports for gate.shop_listen and gate.admin_listen, without TLS, \
                 with gate.limits.exempt_addresses = [\"127.0.0.0/8\"], and with a data directory of its own",
                file.display()
            ));
            toml::from_str(&fs::read_to_string(file)?)?
        }
        None => toml::Table::new(),
    };
    let outcome = Rehearsal::new(args, &dir, &context.logs, scratch.path(), base)?.run();
    if !data_given {
        remove_outside(&context.logs, &dir);
    }
    let outcome = outcome?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&outcome)?));
    } else {
        print(&text(&outcome));
        if data_given {
            print(&format!("the log is kept: floodgate audit --data {}\n", dir.display()));
        }
    }
    Ok(if outcome.go { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes what the logs of a scratch directory have on NATS.
fn remove_outside(logs: &Logs, dir: &Path) {
    let sale = SALE.parse().map(|sale| data::partition_dir(dir, &sale));
    for log in sale.into_iter().chain([data::notify_dir(dir)]) {
        if let Err(error) = logs.remove_outside(&log) {
            say(&format!(
                "rehearse: remove the log that {} notes: {}",
                log.display(),
                crate::with_causes(&error)
            ));
        }
    }
}

struct Rehearsal<'a> {
    args: &'a Args,
    dir: &'a Path,
    logs: &'a Logs,
    scratch: &'a Path,
    shop: SocketAddr,
    admin: SocketAddr,
    admin_key: String,
    memory_max_kib: u64,
}

/// The given configuration, with the rehearsal's own listeners. The crowd is on one machine, so
/// many shoppers share each loopback address.
fn server_config(base: toml::Table, shop: SocketAddr, admin: SocketAddr, stock: u64) -> toml::Table {
    fn section<'a>(table: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
        let value = table.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        value.as_table_mut().expect("the configuration was checked: a section is a table")
    }
    let mut config = base;
    let gate = section(&mut config, "gate");
    gate.insert("shop_listen".into(), shop.to_string().into());
    gate.insert("admin_listen".into(), admin.to_string().into());
    // The crowd comes in clear, and the shop's own port may be taken by the shop.
    if gate.contains_key("tls") {
        section(gate, "tls").insert("listen".into(), "".into());
    }
    // What happens in the sale is told to the message service, as it would be.
    let notify = section(&mut config, "notify");
    if notify.get("listen").and_then(toml::Value::as_str) != Some("") {
        notify.insert("listen".into(), "127.0.0.1:0".into());
    }
    let gate = section(&mut config, "gate");
    let exempt = toml::Value::Array(vec!["127.0.0.0/8".into()]);
    section(gate, "limits").insert("exempt_addresses".into(), exempt);
    // Unless the file says otherwise, often enough that some snapshots are made in the middle of
    // the storm.
    let every = i64::try_from(stock / 4).unwrap_or(i64::MAX).clamp(1000, 1_000_000_000);
    section(&mut config, "sale").entry("snapshot_every").or_insert_with(|| every.into());
    config
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Ends the server with the rehearsal, however that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and only its status to collect.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Rehearsal<'a> {
    /// `base` is the configuration file that was given, which has been checked.
    fn new(
        args: &'a Args,
        dir: &'a Path,
        logs: &'a Logs,
        scratch: &'a Path,
        base: toml::Table,
    ) -> Result<Self, Failure> {
        let keys = web::api_keys::ApiKeys::open(dir)?;
        let admin_key = keys.create("rehearsal", web::api_keys::Role::Owner, TimeMs(wall_ms()))?;
        let (shop, admin) = (free_port()?, free_port()?);
        let config = server_config(base, shop, admin, args.stock);
        fs::write(scratch.join("server.toml"), toml::to_string(&config)?)?;
        Ok(Self { args, dir, logs, scratch, shop, admin, admin_key, memory_max_kib: 0 })
    }

    fn start_server(&self) -> Result<Server, Failure> {
        let log = File::options().create(true).append(true).open(self.scratch.join("server.log"))?;
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--data"])
            .arg(self.dir)
            .arg("--config")
            .arg(self.scratch.join("server.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Server(child);
        let started = Instant::now();
        loop {
            if let Some(status) = server.0.try_wait()? {
                let log = fs::read_to_string(self.scratch.join("server.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!(
                    "rehearse: the server ended at its start ({status}): {}",
                    tail.join(" / ")
                )
                .into());
            }
            if self.admin_call("GET", "/readyz", "").is_ok_and(|(status, _)| status == 200) {
                return Ok(server);
            }
            if started.elapsed() > Duration::from_secs(60) {
                return Err("rehearse: the server was not ready within a minute".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request to the admin listener.
    fn admin_call(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: rehearsal\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.admin_key,
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok((status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }

    fn set_up(&self, opens_at: u64, closes_at: u64) -> Result<(), Failure> {
        let spec: SaleSpec = serde_json::from_value(json!({
            "name": "Rehearsal", "currency": "CNY", "hold_seconds": self.args.hold_seconds,
            "items": [{ "item": ITEM, "name": "Phone" }],
            "rounds": [{
                "opens_at": TimeMs(opens_at), "closes_at": TimeMs(closes_at),
                "items": [{ "item": ITEM, "stock": self.args.stock, "price_minor": 199_900, "limit_per_shopper": 1 }],
            }],
        }))?;
        let path = format!("/api/v1/admin/sales/{SALE}");
        let (status, body) = self.admin_call("PUT", &path, &serde_json::to_string(&spec)?)?;
        if !(200..300).contains(&status) {
            return Err(format!("rehearse: setting the sale up gave {status}: {body}").into());
        }
        Ok(())
    }

    fn run(mut self) -> Result<Outcome, Failure> {
        let args = self.args;
        let mut server = self.start_server()?;
        // Connecting the early shoppers takes time: 4,000 a second.
        let opens_at = wall_ms() + 3000 + args.early.min(args.shoppers) / 4;
        let arrivals_ms = args.shoppers * 1000 / args.rate;
        // After the last arrival: two lifetimes of no-shows' holds, and the payments of promoted
        // shoppers.
        let gives_up_at = opens_at + arrivals_ms * 2 + 4 * args.hold_seconds * 1000 + 15_000;
        self.set_up(opens_at, gives_up_at + 3_600_000)?;
        let seen: Arc<Mutex<Vec<Progress>>> =
            Arc::new(Mutex::new(vec![Progress::default(); args.processes as usize]));
        let mut crowd = Vec::new();
        for process in 0..args.processes {
            crowd.push(self.start_load(process, opens_at, gives_up_at, &seen)?);
        }
        let started = Instant::now();
        let mut kill_at: Vec<u64> = args.kill_at.iter().map(|percent| args.stock * percent / 100).collect();
        kill_at.sort_unstable_by(|a, b| b.cmp(a));
        let mut problems = Vec::new();
        let mut kills = 0;
        let mut open_max = 0;
        let mut said = Instant::now();
        // A file or the log of a build server would get a line each second.
        let is_watched = io::stderr().is_terminal();
        let mut last_decided = (opens_at, 0);
        while crowd.iter_mut().any(|load| matches!(load.child.try_wait(), Ok(None))) {
            thread::sleep(Duration::from_millis(20));
            self.memory_max_kib = self.memory_max_kib.max(memory_peak_kib(server.0.id()));
            let total = sum(&seen);
            open_max = open_max.max(total.open);
            if total.decided > last_decided.1 {
                last_decided = (wall_ms(), total.decided);
            }
            if kill_at.last().is_some_and(|at| total.granted >= *at) {
                kill_at.pop();
                kills += 1;
                // Dropping it sends SIGKILL.
                drop(server);
                server = self.start_server()?;
            }
            if let Some(status) = server.0.try_wait()? {
                problems.push(format!("the server ended by itself: {status}"));
                break;
            }
            if is_watched && said.elapsed() >= Duration::from_secs(1) {
                said = Instant::now();
                bar(total, args.shoppers, opens_at);
            }
        }
        for load in &mut crowd {
            let ended_well = load.child.wait()?.success();
            let was_read = load.reader.take().is_none_or(|reader| reader.join().is_ok());
            if !ended_well || !was_read {
                problems.push("a load process failed".into());
            }
        }
        if !kill_at.is_empty() {
            problems.push(format!("{} of the kills never came: too little was granted", kill_at.len()));
        }
        self.wait_until_quiet();
        stop(server, &mut problems);
        let mut lines: Vec<Line> = Vec::with_capacity(args.shoppers as usize);
        for load in &crowd {
            lines.extend(ledger::read(BufReader::new(File::open(&load.ledger)?))?);
        }
        let decision_seconds = last_decided.0.saturating_sub(opens_at) as f64 / 1000.0;
        let served = Served { kills, open_max, decision_seconds, took: started.elapsed(), total: sum(&seen) };
        self.outcome(&lines, problems, &served)
    }

    /// Waits until unpaid holds have expired and their units have gone to waiting shoppers, so that
    /// the result is final.
    fn wait_until_quiet(&self) {
        const GENERATIONS: u64 = 6;
        let started = Instant::now();
        let longest = Duration::from_secs(GENERATIONS * (self.args.hold_seconds + 1));
        while started.elapsed() < longest {
            let stats = self.admin_call("GET", &format!("/api/v1/admin/sales/{SALE}/stats"), "");
            let stats =
                stats.ok().and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(&body).ok());
            let held = stats.and_then(|stats| stats["items"][0]["held"].as_u64());
            if held == Some(0) {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn start_load(
        &self,
        process: u64,
        opens_at: u64,
        gives_up_at: u64,
        seen: &Arc<Mutex<Vec<Progress>>>,
    ) -> Result<Load, Failure> {
        let args = self.args;
        let share = |all: u64| all / args.processes + u64::from(process < all % args.processes);
        let ledger = self.scratch.join(format!("ledger-{process}"));
        let flags = [
            ("--shop", self.shop.to_string()),
            ("--admin", self.admin.to_string()),
            ("--sale", SALE.into()),
            ("--item", ITEM.into()),
            ("--process", process.to_string()),
            ("--shoppers", share(args.shoppers).to_string()),
            ("--rate", (args.rate as f64 / args.processes as f64).to_string()),
            ("--early", share(args.early).to_string()),
            ("--connections", share(CONNECTIONS_MAX).to_string()),
            ("--opens-at", opens_at.to_string()),
            ("--gives-up-at", gives_up_at.to_string()),
            ("--no-show-percent", args.no_shows.to_string()),
            // Shoppers who read their answer keep as many connections open as waited for the
            // opening.
            ("--linger-ms", (args.early * 1000 / args.rate).min(5000).to_string()),
            ("--seed", args.seed.to_string()),
        ];
        let mut child = Command::new(std::env::current_exe()?)
            .args(["rehearse-load", "--data"])
            .arg(self.dir)
            .args(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]))
            .arg("--ledger")
            .arg(&ledger)
            .env("FLOODGATE_ADMIN_KEY", &self.admin_key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("rehearse: a load process without output")?;
        let seen = Arc::clone(seen);
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(progress) = serde_json::from_str(&line) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner)[process as usize] = progress;
                }
            }
        });
        Ok(Load { child, ledger, reader: Some(reader) })
    }

    fn outcome(
        &self,
        lines: &[Line],
        mut problems: Vec<String>,
        served: &Served,
    ) -> Result<Outcome, Failure> {
        let partition = data::partition_dir(self.dir, &SALE.parse()?);
        let mut log = self.logs.read(&partition)?;
        let snapshot = log.latest_snapshot()?;
        let report = audit(&mut log, snapshot)?;
        let comparison = compare(lines, self.args.stock, &mut log)?;
        problems.extend(comparison.differences.iter().map(|(what, count)| format!("{count} × {what}")));
        if lines.len() as u64 != self.args.shoppers {
            problems.push(format!("{} shoppers left a line, not {}", lines.len(), self.args.shoppers));
        }
        let mut told: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut latencies: Vec<u64> = Vec::new();
        for line in lines {
            *told.entry(line.told.as_str()).or_default() += 1;
            if line.told != Told::Nothing {
                latencies.push(line.latency_us);
            }
        }
        latencies.sort_unstable();
        let decided = latencies.len() as f64;
        let latency_ms = percentiles(&latencies);
        let unanswered = |line: &&Line| line.told == Told::Nothing || line.paid == Paid::Unknown;
        let missing = self.args.shoppers.saturating_sub(lines.len() as u64);
        let seen = Seen {
            p99_ms: (!latencies.is_empty()).then_some(latency_ms.p99),
            requests: served.total.requests,
            errors: served.total.errors,
            lost: lines.iter().filter(unanswered).count() as u64 + missing,
            differences: comparison.differences.values().sum(),
            kills: !self.args.kill_at.is_empty(),
        };
        let invariants = report.invariants.iter().map(|v| (v.id, v.holds, v.found.as_str()));
        let objectives = objectives::judge(self.args.limits, &seen, invariants);
        Ok(Outcome {
            shoppers: self.args.shoppers,
            stock: self.args.stock,
            go: problems.is_empty() && objectives.iter().all(|objective| objective.is_met),
            objectives,
            problems,
            told,
            retries: lines.iter().map(|line| u64::from(line.retries)).sum(),
            latency_ms,
            connections_open_max: served.open_max,
            decisions_per_second: match served.decision_seconds {
                seconds if seconds > 0.0 => decided / seconds,
                _ => 0.0,
            },
            seconds: served.took.as_secs_f64(),
            server_kills: served.kills,
            server_memory_max_mib: self.memory_max_kib as f64 / 1024.0,
            comparison,
            audit: report,
        })
    }
}

/// What the server's processes and the crowd's counters showed.
struct Served {
    kills: usize,
    open_max: u64,
    decision_seconds: f64,
    took: Duration,
    total: Progress,
}

struct Load {
    child: Child,
    ledger: PathBuf,
    /// Reads its figures, the last of which come at its end.
    reader: Option<thread::JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sum(seen: &Mutex<Vec<Progress>>) -> Progress {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.iter().fold(Progress::default(), |mut sum, p| {
        sum.decided += p.decided;
        sum.granted += p.granted;
        sum.confirmed += p.confirmed;
        sum.finished += p.finished;
        sum.open += p.open;
        sum.requests += p.requests;
        sum.errors += p.errors;
        sum
    })
}

/// SIGTERM, and SIGKILL if that does not end it: then it is a problem.
fn stop(mut server: Server, problems: &mut Vec<String>) {
    let pid = server.0.id().cast_signed();
    let told = rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok());
    let started = Instant::now();
    while told && started.elapsed() < Duration::from_secs(30) {
        match server.0.try_wait() {
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => return problems.push(format!("the server drained, but ended with {status}")),
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
    problems.push("the server did not drain within 30 seconds of SIGTERM".into());
}

/// The process's highest resident memory so far.
fn memory_peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

fn percentiles(sorted_us: &[u64]) -> Latency {
    let at = |share: f64| {
        let index = ((sorted_us.len() as f64 * share) as usize).min(sorted_us.len().saturating_sub(1));
        sorted_us.get(index).map_or(0.0, |us| *us as f64 / 1000.0)
    };
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

#[expect(clippy::print_stderr, reason = "for the person who waits; the result goes to standard output")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "progress is for the person who waits; the result goes to standard output"
)]
fn bar(p: Progress, shoppers: u64, opens_at: u64) {
    const WIDTH: u64 = 30;
    let full = p.finished * WIDTH / shoppers;
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    let opens = opens_at.saturating_sub(wall_ms()) / 1000;
    let when = if opens > 0 { format!("opens in {opens} s") } else { "open".into() };
    let text = format!(
        "[{bar}] {when}: {} open, {} decided, {} granted, {} paid, {} done, {} errors",
        p.open, p.decided, p.granted, p.confirmed, p.finished, p.errors
    );
    eprint!("\r\x1b[K{text}");
}

fn text(o: &Outcome) -> String {
    let told: Vec<String> = o.told.iter().map(|(what, count)| format!("{what} {count}")).collect();
    let mut lines = vec![
        format!(
            "\n{} shoppers, {} units, {:.0} s, server killed {} times",
            o.shoppers, o.stock, o.seconds, o.server_kills
        ),
        format!("told:       {}", told.join(", ")),
        format!(
            "latency:    p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1} (from the intended time of sending)",
            o.latency_ms.p50, o.latency_ms.p90, o.latency_ms.p99, o.latency_ms.p999, o.latency_ms.max
        ),
        format!(
            "load:       {:.0} decisions/s, {} connections open at most, {} retries",
            o.decisions_per_second, o.connections_open_max, o.retries
        ),
        format!("server:     {:.0} MiB of memory at most", o.server_memory_max_mib),
        format!("ledgers:    {}", o.comparison.summary()),
    ];
    for i in &o.audit.items {
        lines.push(format!(
            "stock:      {} put up: {} sold, {} held, {} free",
            i.initial, i.sold, i.held, i.free
        ));
    }
    for verdict in &o.audit.invariants {
        lines.push(format!("{} {}: {}", verdict.id, verdict.found.as_str(), verdict.how));
    }
    lines.extend(objectives::lines(&o.objectives));
    lines.extend(o.problems.iter().map(|problem| format!("PROBLEM: {problem}")));
    lines.push(if o.go { "GO".into() } else { "NO GO".into() });
    lines.join("\n") + "\n"
}

/// Sequence of the first entry.
const FIRST: Sequence = Sequence(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsals_server_runs_with_the_given_configuration() {
        let base = "data = \"x\"\n[gate]\nshop_listen = \"1.2.3.4:80\"\ndecision_wait_ms = 7\n[gate.tls]\nlisten = \"0.0.0.0:443\"\n[gate.limits]\n\
                    shopper_burst = 3\nexempt_addresses = []\n[sale]\nqueue_max = 9\n";
        let [shop, admin] = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let config = server_config(toml::from_str(base).unwrap(), shop, admin, 40_000);
        let want = "data = \"x\"\n[gate]\nshop_listen = \"127.0.0.1:1\"\nadmin_listen = \"127.0.0.1:2\"\n\
                    decision_wait_ms = 7\n[gate.tls]\nlisten = \"\"\n[gate.limits]\nshopper_burst = 3\nexempt_addresses = [\"127.0.0.0/8\"]\n\
                    [sale]\nqueue_max = 9\nsnapshot_every = 10000\n[notify]\nlisten = \"127.0.0.1:0\"\n";
        assert_eq!(config, toml::from_str(want).unwrap());
        let alone = server_config(toml::Table::new(), shop, admin, 8);
        assert_eq!(alone["sale"]["snapshot_every"].as_integer(), Some(1000));
    }
}
