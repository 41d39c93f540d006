//! `cargo xtask chaos store`: the shop as its shoppers have it. The real server is killed while
//! winners come in and carts are paid, many of them as their holds end; with `--databases mariadb`
//! two servers of MariaDB are killed too, and orders move between their databases. At the end the
//! books of all sides must agree.

mod judge;
mod mariadb;
mod server;
mod shopper;

use super::dice::Dice;
use crate::shell::{Failure, release_binary};
use judge::{Seen, differences};
use mariadb::MariaDb;
use server::{PATIENCE, Server};
use shopper::{Ledger, Over, PRODUCTS, Shopper, attempt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const MINUTES_MAX: u64 = 240;
/// Shoppers with carts, and those who win and pay, at once.
const CARTS: u64 = 6;
const WINNERS: u64 = 3;
/// Winners who are never seen in the shop, each with a hold that ends by itself.
const STRANGERS_EACH_MINUTE: u64 = 300;
/// `--databases` for two servers of the run's own.
const OWN: &str = "mariadb";
/// How long one of them is away, at the most.
const AWAY_MS_MAX: u64 = 3000;
/// Over which orders are spread.
const BUCKETS: u64 = 1024;
/// A life of the server, in milliseconds: from the first moments of its start to calm work.
const LIFE_MS: (u64, u64) = (20, 4000);

struct Options {
    minutes: u64,
    seed: u64,
    databases: String,
}

impl Options {
    fn read(args: &[&str]) -> Result<Self, Failure> {
        let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        let mut options = Self { minutes: 5, seed: seconds, databases: "file:".into() };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args.next().copied();
            match (*flag, value, value.and_then(|value| value.parse().ok())) {
                ("--minutes", _, Some(minutes @ 1..=MINUTES_MAX)) => options.minutes = minutes,
                ("--seed", _, Some(seed)) => options.seed = seed,
                ("--databases", Some(url), _) => options.databases = url.to_owned(),
                _ => {
                    return Err(Failure(format!(
                        "{flag}: want --minutes 1 to {MINUTES_MAX}, --seed N, --databases URL, or mariadb for two servers of the run's own"
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// What one shopper does again and again.
type Work = Box<dyn Fn(&mut Shopper<'_>) -> Result<(), Over> + Send>;

/// The run, while the server is killed again and again.
struct Crowd {
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn start(server: &Server, passes: Vec<String>, seed: u64) -> Self {
        let (ledger, over) = (Arc::<Ledger>::default(), Arc::<AtomicBool>::default());
        let places = server.places.clone();
        let numbers = Arc::new(AtomicU64::new(0));
        let spawn = |seed: u64, work: Work| {
            let (ledger, over, places) = (Arc::clone(&ledger), Arc::clone(&over), places.clone());
            thread::spawn(move || {
                let mut shopper = Shopper::new(places, &ledger, &over, seed);
                while work(&mut shopper).is_ok() && !over.load(SeqCst) {}
            })
        };
        let mut threads = Vec::new();
        for cart in 0..CARTS {
            let named = AtomicBool::new(false);
            threads.push(spawn(
                seed ^ (cart << 32),
                Box::new(move |shopper| {
                    if !named.load(SeqCst) {
                        shopper.register(&format!("cart-{cart}"))?;
                        named.store(true, SeqCst);
                    }
                    shopper.buy()
                }),
            ));
        }
        for winner in 0..WINNERS {
            let numbers = Arc::clone(&numbers);
            let work = move |shopper: &mut Shopper<'_>| shopper.win_and_pay(numbers.fetch_add(1, SeqCst));
            threads.push(spawn(seed ^ (winner << 40), Box::new(work)));
        }
        let next = AtomicU64::new(0);
        let pause = Duration::from_millis(60_000 / STRANGERS_EACH_MINUTE);
        threads.push(spawn(
            seed,
            Box::new(move |shopper| {
                sleep(pause);
                match passes.get(next.fetch_add(1, SeqCst) as usize) {
                    Some(pass) => attempt(shopper, pass).map(drop),
                    None => Err(Over),
                }
            }),
        ));
        Self { ledger, over, threads }
    }

    fn end(self) -> Result<Arc<Ledger>, Failure> {
        self.over.store(true, SeqCst);
        for thread in self.threads {
            thread.join().map_err(|_| Failure("a shopper has panicked: see above".into()))?;
        }
        Ok(self.ledger)
    }
}

pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    let Options { minutes, seed, databases } = Options::read(args)?;
    let binary = release_binary("floodgate")?;
    let scratch = std::env::temp_dir().join(format!("floodgate-chaos-store-{}", std::process::id()));
    std::fs::create_dir(&scratch)?;
    println!("chaos store: {minutes} minutes, seed {seed}");
    let ran = run_in(&scratch, &binary, (minutes, seed, &databases));
    match &ran {
        Ok(()) => std::fs::remove_dir_all(&scratch)?,
        Err(_) => eprintln!("what the server said, and its data: {}", scratch.display()),
    }
    ran
}

fn run_in(
    scratch: &Path,
    binary: &Path,
    (minutes, seed, databases): (u64, u64, &str),
) -> Result<(), Failure> {
    let mut own = match databases {
        OWN => Some([MariaDb::begin(scratch, "first")?, MariaDb::begin(scratch, "second")?]),
        _ => None,
    };
    let settings = match &own {
        Some(servers) => mariadb::settings(servers),
        None => format!("databases = \"{databases}\"\n"),
    };
    let mut server = Server::begin(binary, scratch, &settings)?;
    let more = r#"{"units":1000000,"reason":"for the run"}"#;
    for (_, sku) in PRODUCTS {
        server.store("POST", &format!("/stock/{sku}/receive"), more)?;
    }
    let count = (minutes * STRANGERS_EACH_MINUTE).to_string();
    let said = server.run(&["token", "--shopper", "stranger", "--sale", "demo", "--count", &count])?;
    let pass = |line: &str| {
        let pass: Option<serde_json::Value> = serde_json::from_str(line).ok();
        pass.and_then(|of| of["pass"].as_str().map(str::to_owned))
    };
    let crowd = Crowd::start(&server, said.lines().filter_map(pass).collect(), seed);
    let (began, mut kills, mut dice) = (Instant::now(), Kills::default(), Dice(seed));
    while began.elapsed() < Duration::from_secs(60 * minutes) {
        kills.one(&mut server, own.as_mut(), &mut dice)?;
    }
    let ledger = crowd.end()?;
    if own.is_some() {
        server.run(&["store", "finish"])?;
        kills.moved = moved(&server.run(&["store", "shards"])?)?;
    }
    let (found, seen) = settled(&server, &ledger)?;
    print!("{}", table(&kills, &ledger, &seen));
    server.kill()?;
    // It derives everything anew from the sale's log.
    let audit: serde_json::Value = serde_json::from_str(&server.run(&["audit", "--json"])?)
        .map_err(|error| Failure(format!("the audit's document: {error}")))?;
    if !audit.as_array().is_some_and(|of| !of.is_empty() && of.iter().all(|sale| sale["proven"] == true)) {
        return Err(Failure(format!("the sale's audit: {audit}")));
    }
    let is_little = seen.orders.get("allocated").is_none_or(|count| *count < minutes * 10)
        || seen.of_winners_paid < minutes
        || kills.server + kills.databases < minutes * 5
        || ledger.around.load(SeqCst) < minutes
        || (own.is_some() && (kills.moves < minutes || kills.moved < 20 * minutes));
    match (found.is_empty(), is_little) {
        (true, false) => Ok(()),
        (true, true) => Err(Failure(format!("too little happened, which proves nothing: {seen:?}"))),
        (false, _) => Err(Failure(format!("chaos store, seed {seed}:\n{}", found.join("\n")))),
    }
}

/// What was killed.
#[derive(Debug, Default)]
struct Kills {
    server: u64,
    databases: u64,
    /// Movers that had not come to their end.
    moves: u64,
    /// Buckets that have come to another database.
    moved: u64,
}

/// How often a bucket has moved: each time made a version of the directory.
fn moved(shards: &str) -> Result<u64, Failure> {
    let version = shards.lines().next().and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    match version.filter(|_| !shards.contains("is being moved")) {
        Some(version) => Ok(version - 1),
        None => Err(Failure(format!("store shards says: {shards}"))),
    }
}

impl Kills {
    /// A life of the server, or of one of its databases, or of both; in half of them a mover's too.
    fn one(
        &mut self,
        server: &mut Server,
        own: Option<&mut [MariaDb; 2]>,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        let mut mover = match &own {
            Some(_) if dice.below(2) == 0 => Some(a_move(server, dice)?),
            _ => None,
        };
        sleep(Duration::from_millis(LIFE_MS.0 + dice.below(LIFE_MS.1 - LIFE_MS.0)));
        let database = own.filter(|_| dice.below(3) > 0).map(|own| &mut own[dice.below(2) as usize]);
        let is_server_killed = database.is_none() || dice.below(3) == 0;
        if is_server_killed {
            server.kill()?;
            self.server += 1;
        }
        if let Some(mover) = &mut mover {
            self.moves += u64::from(mover.try_wait()?.is_none());
            // It may have come to its end.
            let _ = mover.kill();
            mover.wait()?;
        }
        if let Some(database) = database {
            database.kill()?;
            self.databases += 1;
            sleep(Duration::from_millis(dice.below(AWAY_MS_MAX)));
            database.start()?;
        }
        if is_server_killed { server.start() } else { Ok(()) }
    }
}

/// Moves some buckets to one of the databases.
fn a_move(server: &Server, dice: &mut Dice) -> Result<std::process::Child, Failure> {
    let first = dice.below(BUCKETS);
    let last = (first + dice.below(100)).min(BUCKETS - 1);
    let to = dice.below(mariadb::ORDERS as u64);
    server.begin_move(&format!("{first}-{last}"), &format!("orders_{to}"))
}

/// Waits until all that was on its way has arrived; then nothing may differ.
fn settled(server: &Server, ledger: &Ledger) -> Result<(Vec<String>, Seen), Failure> {
    let began = Instant::now();
    loop {
        let (found, seen) = differences(server, ledger)?;
        if found.is_empty() || began.elapsed() > PATIENCE {
            return Ok((found, seen));
        }
        sleep(Duration::from_secs(1));
    }
}

fn table(kills: &Kills, ledger: &Ledger, seen: &Seen) -> String {
    let count = |set: &std::sync::Mutex<std::collections::BTreeSet<String>>| {
        set.lock().map_or(0, |set| set.len() as u64)
    };
    let rows = [
        ("SIGKILL of the server", kills.server),
        ("SIGKILL of a database's server", kills.databases),
        ("SIGKILL of a mover of orders", kills.moves),
        ("buckets of orders that have come to another database", kills.moved),
        ("holds that were granted", count(&ledger.holds)),
        ("orders from carts", count(&ledger.placed)),
        ("payments that shoppers were told they had made", count(&ledger.paid)),
        ("payments in the books", seen.payments),
        ("orders that were paid more than once, and once kept", seen.twice_paid),
        ("orders of winners that were paid", seen.of_winners_paid),
        ("orders that were given up", ledger.given_up.load(SeqCst)),
        ("payments around the end of their hold", ledger.around.load(SeqCst)),
    ];
    let rows = rows.iter().map(|(what, count)| format!("{count:>8}  {what}\n"));
    let states = seen.orders.iter().map(|(state, count)| format!("{count:>8}  orders that are {state}\n"));
    rows.chain(states).collect()
}
