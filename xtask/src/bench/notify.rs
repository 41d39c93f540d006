//! `cargo xtask bench notify`: durable publishes a second beside NATS JetStream and RabbitMQ at the
//! same durability, deliveries a second to an nginx, the time from a publish to its first attempt,
//! and what a subscriber costs who does not take five million events.
//!
//! Servers, publishers and endpoint share both processors. A server is fresh in each round, and
//! has them alone; every round has every row once, and the servers' order changes from round to
//! round.

use super::{
    Options, Spread, TempDir,
    client::Client,
    messages::{Accepting, Floodgate, Nats, RabbitMq},
    parked::{self, Parked},
    probe::{Endpoint, Probes, part_of},
    process::{BOTH_CORES, Cpu, Running},
};
use crate::shell::{Failure, release_binary, release_binary_of};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const BATCH: usize = 500;
/// Publishers of batches. JetStream has room for 50 open batches of a stream.
const BATCH_PRODUCERS: usize = 16;
/// Events that are delivered, unless fewer requests are wanted.
const DELIVERED: usize = 100_000;
/// Publishers beside a delivery, so that the backlog grows and the deliveries are the limit.
const DELIVERY_PRODUCERS: usize = 2;
/// Events whose first attempt is timed.
const PROBES: usize = 300;
/// How long a delivery of all events may take.
const DELIVERED_WITHIN: Duration = Duration::from_secs(180);

/// A row of publishing.
struct Publishing {
    name: &'static str,
    producers: usize,
    batch: usize,
    /// How many times JetStream's events a second are wanted.
    reach: f64,
}

const PUBLISHING: &[Publishing] = &[
    Publishing { name: "publish-64", producers: 64, batch: 1, reach: 8.0 },
    Publishing { name: "publish-256", producers: 256, batch: 1, reach: 8.0 },
    Publishing { name: "publish-batches", producers: BATCH_PRODUCERS, batch: BATCH, reach: 2.0 },
];
const DELIVERIES: &str = "deliveries";
const DELIVERIES_REACH: f64 = 20_000.0;
const FIRST_ATTEMPT: &str = "first-attempt";
const PARKED: &str = "parked";
const FIRST_ATTEMPT_REACH_MS: (f64, f64) = (1.0, 8.0);

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let wants = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let names: Vec<&str> =
        PUBLISHING.iter().map(|row| row.name).chain([DELIVERIES, FIRST_ATTEMPT, PARKED]).collect();
    if !names.iter().any(|name| wants(name)) {
        return Err(Failure(format!("--only: want one of {}", names.join(", "))));
    }
    let floodgate = match &options.binary {
        Some(binary) => binary.clone(),
        None => release_binary("floodgate")?,
    };
    let dir = TempDir::new("notify")?;
    let publish = release_binary_of("xtask", "publish")?;
    let bench = Bench { floodgate, publish, dir: &dir.0, seconds: options.hold_seconds.unwrap_or(5) };
    let events = options.requests.min(DELIVERED);
    let mut found = Found::default();
    for round in 0..options.runs {
        for row in PUBLISHING.iter().filter(|row| wants(row.name)) {
            for turn in 0..Server::ALL.len() {
                let server = Server::ALL[(round + turn) % Server::ALL.len()];
                let published = bench.publish_to(server, row)?;
                let name = server.name();
                eprintln!("{}/{} {}: {name}: {}", round + 1, options.runs, row.name, published.text());
                found.published.push((row.name, server, published));
            }
        }
        if wants(DELIVERIES) {
            let delivered = bench.deliver(events)?;
            eprintln!("{}/{} {DELIVERIES}: {}", round + 1, options.runs, delivered.text());
            found.delivered.push(delivered);
        }
        if wants(FIRST_ATTEMPT) {
            let (p50, p99) = bench.first_attempt()?;
            eprintln!("{}/{} {FIRST_ATTEMPT}: p50 {p50:.2} ms, p99 {p99:.2} ms", round + 1, options.runs);
            found.first_attempt_ms.push((p50, p99));
        }
    }
    if wants(PARKED) {
        // Once: it compares two servers that stand side by side, and takes minutes.
        let parked = parked::measure(&bench.floodgate, &bench.publish, bench.dir)?;
        eprintln!("{PARKED}: {}", parked.text());
        found.parked = Some(parked);
    }
    let rows = found.rows();
    if options.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!(
            "{}",
            json!({ "rounds": options.runs, "seconds": bench.seconds, "file_system": dir.file_system(), "rows": rows })
        );
        return Ok(());
    }
    println!(
        "{} rounds of {} s, events of 1 KiB, logs on {}; median (lowest to highest)\n",
        options.runs,
        bench.seconds,
        dir.file_system()
    );
    println!("| what | seen | CPU-µs an event of the server | reach | |\n|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{}", row.text()));
    Ok(())
}

/// What is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Floodgate,
    JetStream,
    RabbitMq,
}

impl Server {
    const ALL: [Self; 3] = [Self::Floodgate, Self::JetStream, Self::RabbitMq];

    fn name(self) -> &'static str {
        match self {
            Self::Floodgate => "floodgate",
            Self::JetStream => "JetStream",
            Self::RabbitMq => "RabbitMQ",
        }
    }
}

struct Bench<'a> {
    floodgate: PathBuf,
    publish: PathBuf,
    dir: &'a Path,
    seconds: u64,
}

/// What one run of publishers or of a delivery has shown.
#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    /// CPU time of the server for an event.
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    client_busy: f64,
}

impl Measured {
    fn text(&self) -> String {
        let Self { per_second, cpu_us, p50_ms, p99_ms, client_busy } = self;
        format!(
            "{per_second:.0}/s, {cpu_us:.1} µs of CPU each, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, client busy {:.0} %",
            client_busy * 100.0
        )
    }
}

impl Bench<'_> {
    fn ours(&self) -> Result<Floodgate, Failure> {
        Floodgate::start(&self.floodgate, self.dir.join("floodgate"))
    }

    fn publish_to(&self, server: Server, row: &Publishing) -> Result<Measured, Failure> {
        match server {
            Server::Floodgate => {
                let server = self.ours()?;
                server.define_topic("bench")?;
                let args = ["--topic", "bench", "--api-key", &server.api_key];
                self.publish(row, &server.running, server.at, &args)
            }
            Server::JetStream => {
                let server = Nats::start(self.dir.join("nats"))?;
                self.publish(row, &server.running, server.at, &["--topic", Nats::SUBJECT, "--nats"])
            }
            Server::RabbitMq => {
                let server = RabbitMq::start(&self.dir.join("rabbitmq"))?;
                self.publish(row, &server.running, server.at, &["--topic", RabbitMq::QUEUE, "--amqp"])
            }
        }
    }

    fn publish(
        &self,
        row: &Publishing,
        server: &Running,
        to: SocketAddr,
        args: &[&str],
    ) -> Result<Measured, Failure> {
        let ms = (self.seconds * 1000).to_string();
        let mut client = self.publishers(to, row.producers, row.batch, &[args, &["--ms", &ms]].concat())?;
        client.hear()?;
        let before = server.cpu();
        client.go_on()?;
        let report = client.hear_json()?;
        let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        Ok(Measured {
            per_second: number("events_per_second"),
            cpu_us: cpu_us(server, before, number("events")),
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
            client_busy: number("client_busy"),
        })
    }

    fn publishers(
        &self,
        to: SocketAddr,
        producers: usize,
        batch: usize,
        more: &[&str],
    ) -> Result<Client, Failure> {
        let (to, producers, batch) = (to.to_string(), producers.to_string(), batch.to_string());
        let args = ["--to", &to, "--run", "run", "--producers", &producers, "--batch", &batch];
        let args: Vec<String> = args.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        Client::start_on(BOTH_CORES, &self.publish, &args)
    }

    /// Events of 1,000 keys are published in batches, and delivered meanwhile. Timed from the
    /// first publish until all are delivered.
    fn deliver(&self, events: usize) -> Result<Measured, Failure> {
        let endpoint = Accepting::start(&self.dir.join("endpoint"))?;
        let server = self.ours()?;
        server.define_topic("bench")?;
        server.subscribe("endpoint", "bench", endpoint.at)?;
        let count = events.to_string();
        let more = ["--topic", "bench", "--api-key", &server.api_key, "--events", &count];
        let mut client = self.publishers(server.at, DELIVERY_PRODUCERS, BATCH, &more)?;
        client.hear()?;
        let (before, started) = (server.running.cpu(), Instant::now());
        client.go_on()?;
        let report = client.hear_json()?;
        let published = report["events"].as_u64().unwrap_or_default();
        loop {
            let (delivered, failed) = server.delivered("endpoint")?;
            if failed > 0 || started.elapsed() > DELIVERED_WITHIN {
                return Err(Failure(format!("{delivered} of {published} delivered, {failed} failed")));
            }
            if delivered == published {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        Ok(Measured {
            per_second: published as f64 / started.elapsed().as_secs_f64(),
            cpu_us: cpu_us(&server.running, before, published as f64),
            p50_ms: report["p50_ms"].as_f64().unwrap_or(f64::NAN),
            p99_ms: report["p99_ms"].as_f64().unwrap_or(f64::NAN),
            client_busy: report["client_busy"].as_f64().unwrap_or(f64::NAN),
        })
    }

    /// One event at a time, p50 and p99 in ms.
    fn first_attempt(&self) -> Result<(f64, f64), Failure> {
        let endpoint = Endpoint::start(|_| 204)?;
        let server = self.ours()?;
        server.define_topic("bench")?;
        server.subscribe("probe", "bench", endpoint.at)?;
        let took_ms = Probes::default().take(&server, &endpoint, PROBES)?;
        Ok((part_of(&took_ms, 0.5), part_of(&took_ms, 0.99)))
    }
}

fn cpu_us(server: &Running, before: Cpu, events: f64) -> f64 {
    let after = server.cpu();
    (after.user + after.system - before.user - before.system) * 1e6 / events
}

#[derive(Default)]
struct Found {
    /// By row and server.
    published: Vec<(&'static str, Server, Measured)>,
    delivered: Vec<Measured>,
    first_attempt_ms: Vec<(f64, f64)>,
    parked: Option<Parked>,
}

/// A line of the table.
struct Row {
    what: String,
    seen: Spread,
    digits: usize,
    cpu_us: Option<Spread>,
    /// As a text, and whether the median has reached it.
    reach: Option<(String, bool)>,
}

impl Found {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for row in PUBLISHING {
            let of = |server: Server| -> Vec<Measured> {
                let of = self.published.iter().filter(|(name, to, _)| *name == row.name && *to == server);
                of.map(|(_, _, measured)| *measured).collect()
            };
            let ours = of(Server::Floodgate);
            if ours.is_empty() {
                continue;
            }
            for server in Server::ALL {
                rows.push(Row::of_rate(format!("{}, {}, events/s", row.name, server.name()), &of(server)));
            }
            for (server, reach) in [(Server::JetStream, Some(row.reach)), (Server::RabbitMq, None)] {
                let theirs = of(server);
                let ratios =
                    ours.iter().zip(&theirs).map(|(ours, theirs)| ours.per_second / theirs.per_second);
                let seen = Spread::of(ratios);
                let reach = reach.map(|reach| (format!("≥ {reach}"), seen.median >= reach));
                let what = format!("{}, times {} in a round", row.name, server.name());
                rows.push(Row { what, seen, digits: 2, cpu_us: None, reach });
            }
        }
        if !self.delivered.is_empty() {
            let row = Row::of_rate(format!("{DELIVERIES}/s, published meanwhile"), &self.delivered);
            let reach = Some((format!("≥ {DELIVERIES_REACH}"), row.seen.median >= DELIVERIES_REACH));
            rows.push(Row { reach, ..row });
        }
        if !self.first_attempt_ms.is_empty() {
            let mut push = |name: &str, seen: Spread, reach: f64| {
                let reach = Some((format!("≤ {reach}"), seen.median <= reach));
                let what = format!("publish to first attempt, idle, {name} ms");
                rows.push(Row { what, seen, digits: 2, cpu_us: None, reach });
            };
            let all = &self.first_attempt_ms;
            push("p50", Spread::of(all.iter().map(|(p50, _)| *p50)), FIRST_ATTEMPT_REACH_MS.0);
            push("p99", Spread::of(all.iter().map(|(_, p99)| *p99)), FIRST_ATTEMPT_REACH_MS.1);
        }
        for (what, seen, digits, reach) in self.parked.iter().flat_map(Parked::rows) {
            let reach = Some((format!("≤ {reach}"), seen.median <= reach));
            rows.push(Row { what: what.into(), seen, digits, cpu_us: None, reach });
        }
        rows
    }
}

impl Row {
    fn of_rate(what: String, measured: &[Measured]) -> Self {
        let seen = Spread::of(measured.iter().map(|of| of.per_second));
        let cpu_us = Some(Spread::of(measured.iter().map(|of| of.cpu_us)));
        Self { what, seen, digits: 0, cpu_us, reach: None }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "seen": self.seen.json(), "cpu_us": self.cpu_us.map(Spread::json),
            "reach": self.reach.as_ref().map(|(reach, _)| reach), "reached": self.reach.as_ref().map(|(_, is)| is),
        })
    }

    fn text(&self) -> String {
        let cpu = self.cpu_us.map_or_else(String::new, |cpu| cpu.text(1));
        let (reach, verdict) = match &self.reach {
            Some((reach, true)) => (&**reach, "reached"),
            Some((reach, false)) => (&**reach, "**not reached**"),
            None => ("", ""),
        };
        format!("| {} | {} | {cpu} | {reach} | {verdict} |", self.what, self.seen.text(self.digits))
    }
}
