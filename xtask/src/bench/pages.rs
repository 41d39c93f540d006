//! `cargo xtask bench pages`: what the shop spends on the page of a product, from its cache and
//! from its database, beside what nginx spends on the same bytes as a file that is kept open.
//!
//! All servers run at once and work in turn, each on the same processor and alone; the client has
//! another one.

use super::{
    Options, Programs, Spread, TempDir,
    client::{Measured, measure},
    gate::{Ask, check},
    process::{QUIET_FOR, Running, SERVER_CORE},
    servers::{Nginx, ask, free_address, text, wait_for},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

const CONNECTIONS: usize = 64;
const WARM_UP: usize = 5_000;
/// The store looks for changes and for work each second, so it is never wholly quiet.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);
const OPENS_WITHIN: Duration = Duration::from_secs(60);
/// A product of the demo that is bought by the cart, and a word of its page.
const PATH: &str = "/p/brook-mini";
const MARKER: &str = "Brook Mini";

/// Name, how many times nginx's CPU time it may be.
const ROWS: [(&str, f64); 2] = [("from its cache", 3.0), ("from its database", 10.0)];

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let programs = Programs::ensure(options)?;
    let dir = TempDir::new("pages")?;
    let shops = [
        Shop::start(&programs.floodgate, &dir.0.join("cached"), 64 << 20)?,
        Shop::start(&programs.floodgate, &dir.0.join("read"), 0)?,
    ];
    let page = shops[0].page()?;
    let nginx = Nginx::start(&dir.0.join("nginx"), &page)?;
    let servers: [(&str, SocketAddr, &str, &Running); 3] = [
        ("nginx, the same bytes", nginx.file, Nginx::FILE_PATH, &nginx.running),
        ("the shop, from its cache", shops[0].store, PATH, &shops[0].running),
        ("the shop, from its database", shops[1].store, PATH, &shops[1].running),
    ];
    let mut runs: [Vec<Measured>; 3] = Default::default();
    for round in 0..options.runs {
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            let (name, to, path, running) = servers[at];
            let ask = Ask {
                to,
                path: path.to_owned(),
                passes: String::new(),
                flags: &[],
                status: "200",
                marker: MARKER,
                connections: CONNECTIONS,
                requests: options.requests / 3,
                warm_up: WARM_UP,
            };
            let measured = measure(&programs.load, &ask.args(), &[running], SETTLES_WITHIN);
            let measured = check(name, &ask, measured, 0.0)?;
            eprintln!("{}/{}: {name}: {:.2} µs", round + 1, options.runs, measured.cpu_us());
            runs[at].push(measured);
        }
    }
    let spread = |at: usize, what: fn(&Measured) -> f64| Spread::of(runs[at].iter().map(what));
    let ratio = |at: usize| {
        Spread::of(runs[at].iter().zip(&runs[0]).map(|(ours, theirs)| ours.cpu_us() / theirs.cpu_us()))
    };
    if options.json {
        let rows: Vec<Value> = (0..servers.len())
            .map(|at| {
                json!({
                    "server": servers[at].0, "cpu_us": spread(at, Measured::cpu_us).json(),
                    "requests_per_second": spread(at, |of| of.requests_per_second).json(),
                    "p99_ms": spread(at, |of| of.p99_ms).json(), "answer_bytes": runs[at][0].answer_bytes,
                    "ratio": ratio(at).json(), "reach": (at > 0).then(|| ROWS[at - 1].1),
                })
            })
            .collect();
        println!("{}", json!({ "rounds": options.runs, "requests": options.requests / 3, "rows": rows }));
        return Ok(());
    }
    println!(
        "{} rounds of {} requests over {CONNECTIONS} connections; median (lowest to highest)\n",
        options.runs,
        options.requests / 3
    );
    println!(
        "| server | CPU-µs a request | requests/s | p99 ms | bytes | times nginx | reach | |\n|---|---|---|---|---|---|---|---|"
    );
    for (at, (name, ..)) in servers.iter().enumerate() {
        let of_nginx = ratio(at);
        let (reach, verdict) = match at.checked_sub(1).map(|row| ROWS[row].1) {
            None => (String::new(), ""),
            Some(reach) if of_nginx.median <= reach => (format!("≤ {reach}"), "reached"),
            Some(reach) => (format!("≤ {reach}"), "**not reached**"),
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {reach} | {verdict} |",
            spread(at, Measured::cpu_us).text(2),
            spread(at, |of| of.requests_per_second).text(0),
            spread(at, |of| of.p99_ms).text(2),
            runs[at][0].answer_bytes,
            of_nginx.text(2),
        );
    }
    Ok(())
}

/// `floodgate serve --demo` with its shop.
struct Shop {
    running: Running,
    store: SocketAddr,
}

impl Shop {
    /// With so many bytes for its cache.
    fn start(program: &Path, dir: &Path, cache_bytes: u64) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let (shop, admin, events, store) =
            (free_address()?, free_address()?, free_address()?, free_address()?);
        let config = dir.join("floodgate.toml");
        let settings = format!(
            "[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n\
             [gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\n[gate.connections]\nthreads = 1\n\
             [notify]\nlisten = \"{events}\"\nallowed_networks = [\"127.0.0.0/8\"]\n\
             [store]\nlisten = \"{store}\"\n[store.cache]\nbytes_max = {cache_bytes}\n"
        );
        fs::write(&config, settings)?;
        let (data, config, log) = (text(&dir.join("data")), text(&config), dir.join("log"));
        let args = ["serve", "--demo", "--data", &data, "--config", &config];
        let running = Running::start(SERVER_CORE, program, &args, &log)?;
        wait_for("the shop", store, &log)?;
        let shop = Self { running, store };
        let began = Instant::now();
        while let Err(error) = shop.page() {
            if began.elapsed() > OPENS_WITHIN {
                return Err(error);
            }
            sleep(Duration::from_millis(100));
        }
        shop.running.wait_until_quiet(QUIET_FOR.min(SETTLES_WITHIN))?;
        Ok(shop)
    }

    fn page(&self) -> Result<String, Failure> {
        ask(self.store, &format!("GET {PATH} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n"))
    }
}
