//! `cargo xtask bench storm`: how long those wait who look at the store's pages while a sale's
//! launch storms the gate, compared with a quiet hour. The sales with the message service, the gate
//! and the store are processes of their own: once all on one processor, with the clients on the
//! other; and once the store and those who look at it on a processor that nothing of the sale's
//! runs on, as on a machine of its own.

use super::{
    Options, Programs, Spread, TempDir,
    client::Client,
    gates::Gates,
    process::{CLIENT_CORE, QUIET_FOR, Running, SERVER_CORE},
    servers::{self, ask},
};
use crate::shell::Failure;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

const SHOPPERS: usize = 16_000;
const STOCK: u64 = 2_000;
const STORM_SECONDS: u64 = 8;
const PAGES_PER_SECOND: usize = 100;
/// How many times its quiet value the p99 may be.
const REACH: f64 = 2.0;
/// Home, a list, three products and a search, of the demo.
const PATHS: [&str; 6] =
    ["/", "/c/phones", "/p/brook-mini", "/p/flood-one", "/search?q=phone", "/p/flood-buds"];
/// How long the store may take for its winners, after the storm.
const IMPORTED_WITHIN: Duration = Duration::from_secs(60);
const OPENS_WITHIN: Duration = Duration::from_secs(60);

/// On which processors everything runs.
#[derive(Debug)]
struct Place {
    name: &'static str,
    /// The sales with the message service, and the gate.
    sale: &'static str,
    crowd: &'static str,
    store: &'static str,
    browser: &'static str,
}

const PLACES: [Place; 2] = [
    Place {
        name: "all servers on one processor",
        sale: SERVER_CORE,
        crowd: CLIENT_CORE,
        store: SERVER_CORE,
        browser: CLIENT_CORE,
    },
    Place {
        name: "the store on a processor of its own",
        sale: SERVER_CORE,
        crowd: SERVER_CORE,
        store: CLIENT_CORE,
        browser: CLIENT_CORE,
    },
];

/// One round.
#[derive(Debug)]
struct Round {
    quiet: Waited,
    storm: Waited,
    /// Attempts of shoppers that were decided in the storm, a second.
    decided_per_second: f64,
    /// How long after the storm the last winner had an order.
    imported_after: Duration,
}

/// How long pages were waited for.
#[derive(Debug, Clone, Copy)]
struct Waited {
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let programs = Programs::ensure(options)?;
    let seconds = options.hold_seconds.unwrap_or(STORM_SECONDS);
    let mut rounds: [Vec<Round>; 2] = Default::default();
    for round in 0..options.runs {
        for turn in 0..PLACES.len() {
            let at = (round + turn) % PLACES.len();
            let one = storm(&programs, &PLACES[at], seconds)?;
            eprintln!("{}/{} {}: {one:?}", round + 1, options.runs, PLACES[at].name);
            rounds[at].push(one);
        }
    }
    report(options, &rounds);
    Ok(())
}

/// Starts everything afresh, and measures the pages first quiet and then in the storm.
fn storm(programs: &Programs, place: &Place, seconds: u64) -> Result<Round, Failure> {
    let dir = TempDir::new("storm")?;
    let store = servers::free_address()?;
    let settings = format!(
        "[notify]\nlisten = \"{}\"\n[store]\nlisten = \"{store}\"\npayments = \"sandbox\"\n",
        servers::free_address()?
    );
    let within = dir.0.join("gates");
    fill(&programs.floodgate, &within, &settings)?;
    let gates = Gates::start(&programs.floodgate, within, place.sale, 1, STOCK, &settings)?;
    let shop = gates.start_store(place.store)?;
    servers::wait_for("the store", store, &gates.log("store"))?;
    wait_for_pages(store)?;
    let paths = PATHS.map(str::to_owned);
    let args = [&[store.to_string()][..], &paths].concat();
    let mut browser = Client::start_on(place.browser, &programs.browse, &args)?;
    browser.hear()?;
    // Once unmeasured: caches are filled.
    look(&mut browser, 2)?;
    shop.wait_until_quiet(QUIET_FOR)?;
    let quiet = look(&mut browser, seconds)?;
    let mut crowd = gates.crowd(place.crowd, &programs.crowd, SHOPPERS)?;
    crowd.tell(&format!("buy {seconds}"))?;
    browser.tell(&format!("browse {seconds} {PAGES_PER_SECOND}"))?;
    let began = Instant::now();
    let bought = crowd.hear_json()?;
    let lasted = began.elapsed();
    let storm = waited(&browser.hear_json()?)?;
    let of = |outcome: &str| bought["outcomes"][outcome].as_u64().unwrap_or_default();
    if of("granted") != STOCK || of("granted") + of("sold_out") != SHOPPERS as u64 {
        return Err(Failure(format!(
            "{}: the sale was not sold as it should be: {}",
            place.name, bought["outcomes"]
        )));
    }
    let ended = Instant::now();
    gates.wait_for_orders(store, STOCK, IMPORTED_WITHIN)?;
    let decided_per_second = SHOPPERS as f64 / lasted.as_secs_f64();
    Ok(Round { quiet, storm, decided_per_second, imported_after: ended.elapsed() })
}

/// Has a demo fill the store with its products.
fn fill(program: &Path, dir: &Path, settings: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)?;
    let [shop, admin] = [servers::free_address()?, servers::free_address()?];
    let config = dir.join("fill.toml");
    let text = format!("[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n{settings}");
    std::fs::write(&config, text)?;
    let (data, config, log) =
        (servers::text(&dir.join("data")), servers::text(&config), dir.join("log-fill"));
    let args = ["serve", "--demo", "--data", &data, "--config", &config];
    let running = Running::start(SERVER_CORE, program, &args, &log)?;
    let listen = settings.rsplit("listen = \"").next().and_then(|rest| rest.split('"').next());
    let store: SocketAddr =
        listen.and_then(|at| at.parse().ok()).ok_or_else(|| Failure("no store.listen".into()))?;
    servers::wait_for("the demo", store, &log)?;
    wait_for_pages(store)?;
    drop(running);
    Ok(())
}

fn wait_for_pages(store: SocketAddr) -> Result<(), Failure> {
    let began = Instant::now();
    while let Err(error) = ask(store, "GET /p/brook-mini HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")
    {
        if began.elapsed() > OPENS_WITHIN {
            return Err(error);
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn look(browser: &mut Client, seconds: u64) -> Result<Waited, Failure> {
    browser.tell(&format!("browse {seconds} {PAGES_PER_SECOND}"))?;
    waited(&browser.hear_json()?)
}

fn waited(said: &Value) -> Result<Waited, Failure> {
    let mut all: Vec<u64> =
        said["waited_us"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    all.sort_unstable();
    let (Some(last), true) = (all.len().checked_sub(1), said["pages"] == all.len()) else {
        return Err(Failure(format!("pages: {}", said["pages"])));
    };
    let at = |part: f64| all[(last as f64 * part) as usize] as f64 / 1e3;
    Ok(Waited { p50_ms: at(0.5), p99_ms: at(0.99) })
}

fn report(options: &Options, rounds: &[Vec<Round>; 2]) {
    let spread = |at: usize, of: fn(&Round) -> f64| Spread::of(rounds[at].iter().map(of));
    type Of = fn(&Round) -> f64;
    let columns: [(&str, Of); 7] = [
        ("quiet p50 ms", |of| of.quiet.p50_ms),
        ("quiet p99 ms", |of| of.quiet.p99_ms),
        ("storm p50 ms", |of| of.storm.p50_ms),
        ("storm p99 ms", |of| of.storm.p99_ms),
        ("storm/quiet p99", |of| of.storm.p99_ms / of.quiet.p99_ms),
        ("attempts/s", |of| of.decided_per_second),
        ("last order after s", |of| of.imported_after.as_secs_f64()),
    ];
    let ratio = |at: usize| spread(at, columns[4].1);
    let reached = |at: usize| ratio(at).median <= REACH;
    if options.json {
        let rows: Vec<Value> = (0..PLACES.len())
            .map(|at| {
                let figures = columns.iter().map(|(name, of)| ((*name).to_owned(), spread(at, *of).json()));
                json!({
                    "place": PLACES[at].name, "figures": figures.collect::<serde_json::Map<_, _>>(),
                    "reach": REACH, "reached": reached(at),
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "rounds": options.runs, "shoppers": SHOPPERS, "pages_per_second": PAGES_PER_SECOND, "rows": rows })
        );
        return;
    }
    println!(
        "{} rounds of {SHOPPERS} shoppers at the gate, and {PAGES_PER_SECOND} pages a second of the store; median \
         (lowest to highest); reach of storm/quiet p99: {REACH}\n",
        options.runs
    );
    let heads: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    println!("| | {} | |\n|---|{}---|", heads.join(" | "), "---|".repeat(columns.len()));
    for (at, Place { name, .. }) in PLACES.iter().enumerate() {
        let figures: Vec<String> = columns.iter().map(|(_, of)| spread(at, *of).text(2)).collect();
        let verdict = if reached(at) { "reached" } else { "**not reached**" };
        println!("| {name} | {} | {verdict} |", figures.join(" | "));
    }
}
