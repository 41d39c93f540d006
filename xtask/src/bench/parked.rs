//! What one subscriber costs the others who refuses every event of fifty thousand keys, while five
//! million events wait behind these: the others' time to a first attempt, the server's memory, and
//! how soon it delivers again after it was killed.
//!
//! A second server without such a subscriber stands beside it, and both are asked in turn.

use super::{
    Spread,
    client::Client,
    messages::Floodgate,
    probe::{Endpoint, Probes, part_of},
    process::{BOTH_CORES, QUIET_FOR},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const EVENTS: u64 = 5_000_000;
const FAILING_KEYS: u64 = 50_000;
const BATCH: u64 = 500;
const PRODUCERS: &str = "16";
/// Times that both servers are asked, and events of each time.
const ROUNDS: usize = 7;
const PROBES: usize = 200;
/// How long all first attempts of the failing keys may take.
const FAILED_WITHIN: Duration = Duration::from_secs(180);

const P99_RATIO_REACH: f64 = 1.25;
const MEMORY_REACH_MIB: f64 = 256.0;
const RESTART_REACH_SECONDS: f64 = 3.0;

/// What was seen.
pub(super) struct Parked {
    /// The p50 and p99 with such a subscriber, as parts of those without, of each round.
    p50_ratios: Vec<f64>,
    p99_ratios: Vec<f64>,
    p99_ms: Vec<f64>,
    memory_mib: f64,
    restart_seconds: f64,
}

impl Parked {
    pub(super) fn text(&self) -> String {
        let Self { memory_mib, restart_seconds, .. } = self;
        let [p50, p99, ms] =
            [&self.p50_ratios, &self.p99_ratios, &self.p99_ms].map(|of| Spread::of(of.iter().copied()));
        format!(
            "others' p50 {} and p99 {} of that without ({} ms), {memory_mib:.0} MiB above idle, delivers again after {restart_seconds:.2} s",
            p50.text(2),
            p99.text(2),
            ms.text(2)
        )
    }

    /// What, how much, with how many digits, and the most that is wanted.
    pub(super) fn rows(&self) -> [(&'static str, Spread, usize, f64); 3] {
        let one = |value: f64| Spread::of([value]);
        [
            (
                "5 M parked: others' p99, part of that without",
                Spread::of(self.p99_ratios.iter().copied()),
                2,
                P99_RATIO_REACH,
            ),
            ("5 M parked: memory above idle, MiB", one(self.memory_mib), 0, MEMORY_REACH_MIB),
            (
                "5 M parked: killed, delivers again after, s",
                one(self.restart_seconds),
                2,
                RESTART_REACH_SECONDS,
            ),
        ]
    }
}

/// A server whose topic is asked.
struct Asked {
    server: Floodgate,
    others: Endpoint,
    probes: Probes,
}

impl Asked {
    fn start(program: &Path, dir: &Path, name: &str) -> Result<Self, Failure> {
        let server = Floodgate::start(program, dir.join(name))?;
        let others = Endpoint::start(|_| 204)?;
        server.define_topic("bench")?;
        let filters = json!([{ "exact": { "type": "probe" } }]);
        subscribe(&server, "others", others.at, &filters)?;
        Ok(Self { server, others, probes: Probes::default() })
    }

    fn ask(&mut self, count: usize) -> Result<Vec<f64>, Failure> {
        self.probes.take(&self.server, &self.others, count)
    }
}

fn subscribe(server: &Floodgate, name: &str, to: SocketAddr, filters: &Value) -> Result<(), Failure> {
    // What has failed is tried again after the bench.
    let retry = json!({ "first_seconds": 3600, "longest_seconds": 7200 });
    let spec =
        json!({ "topic": "bench", "url": format!("http://{to}/"), "filters": filters, "retry": retry });
    server.ask("PUT", &format!("subscriptions/{name}"), &spec).map(drop)
}

/// Refuses what the publishers post, and takes the probes.
fn refuse_some(body: &[u8]) -> u16 {
    match memchr::memmem::find(body, b"\"partitionkey\":\"key-").is_some() {
        true => 422,
        false => 204,
    }
}

pub(super) fn measure(floodgate: &Path, publish: &Path, dir: &Path) -> Result<Parked, Failure> {
    let mut without = Asked::start(floodgate, dir, "without")?;
    let mut with = Asked::start(floodgate, dir, "parked")?;
    let refusing = Endpoint::start(refuse_some)?;
    subscribe(&with.server, "refusing", refusing.at, &json!([]))?;
    with.server.running.wait_until_quiet(QUIET_FOR)?;
    let idle_bytes = with.server.running.anonymous_bytes();

    let (to, key) = (with.server.at.to_string(), with.server.api_key.clone());
    let (batch, events, keys) = (BATCH.to_string(), EVENTS.to_string(), FAILING_KEYS.to_string());
    let args = [
        ["--to", &to],
        ["--run", "run"],
        ["--producers", PRODUCERS],
        ["--batch", &batch],
        ["--topic", "bench"],
        ["--api-key", &key],
        ["--events", &events],
        ["--keys", &keys],
    ];
    let args: Vec<String> = args.iter().flatten().map(|arg| (*arg).to_owned()).collect();
    let mut client = Client::start_on(BOTH_CORES, publish, &args)?;
    client.hear()?;
    client.go_on()?;
    client.hear_json()?;
    drop(client);
    let started = Instant::now();
    loop {
        let (_, failed) = with.server.delivered("refusing")?;
        let backlog = with.server.ask("GET", "subscriptions/refusing", &Value::Null)?["backlog"].clone();
        if failed >= FAILING_KEYS && backlog == EVENTS {
            break;
        }
        if started.elapsed() > FAILED_WITHIN {
            return Err(Failure(format!("{failed} keys have failed, and {backlog} events wait")));
        }
        sleep(Duration::from_millis(200));
    }
    with.server.running.wait_until_quiet(QUIET_FOR)?;
    let memory_mib =
        (with.server.running.anonymous_bytes().saturating_sub(idle_bytes)) as f64 / f64::from(1 << 20);

    let mut parked = Parked {
        p50_ratios: Vec::new(),
        p99_ratios: Vec::new(),
        p99_ms: Vec::new(),
        memory_mib,
        restart_seconds: f64::NAN,
    };
    for round in 0..ROUNDS {
        let (took, took_without) = if round % 2 == 0 {
            let took = with.ask(PROBES)?;
            (took, without.ask(PROBES)?)
        } else {
            let took_without = without.ask(PROBES)?;
            (with.ask(PROBES)?, took_without)
        };
        parked.p50_ratios.push(part_of(&took, 0.5) / part_of(&took_without, 0.5));
        parked.p99_ratios.push(part_of(&took, 0.99) / part_of(&took_without, 0.99));
        parked.p99_ms.push(part_of(&took, 0.99));
    }
    // Its other keys flow: each probe came to the refusing one too.
    for number in 0..ROUNDS * PROBES {
        refusing
            .next()
            .ok_or_else(|| Failure(format!("probe {number} did not come to the one who refuses")))?;
    }

    let killed = with.server.kill_and_start()?;
    with.ask(1)?;
    refusing.next().ok_or_else(|| Failure("nothing comes after the restart".into()))?;
    parked.restart_seconds = killed.elapsed().as_secs_f64();
    Ok(parked)
}
