//! One process of the crowd: open-loop arrivals, a connection per shopper, retries like real
//! clients.
//!
//! It does not rely on the server's records: its ledger is what its shoppers were told.

use super::http::{Connection, Response};
use super::ledger::{Line, Paid, Told};
use crate::{CommandResult, Context};
use contracts::{AttemptId, SaleId, ShopperKey};
use gate::pass::{Pass, issue};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};
use units::{DurationMs, Prng, TimeMs};

/// Source addresses of one process: 28,000 ports each outlast a minute of closed connections.
const ADDRESSES: u64 = 200;

/// Keep-alive connections to the admin listener, over which the "payment provider" confirms.
const PROVIDERS: usize = 8;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    shop: SocketAddr,
    #[arg(long)]
    admin: SocketAddr,
    #[arg(long)]
    sale: SaleId,
    #[arg(long)]
    item: String,
    /// This process's number: chooses its shoppers and its addresses
    #[arg(long)]
    process: u64,
    #[arg(long)]
    shoppers: u64,
    /// Arrivals a second after the opening; before it, a hundredth of that
    #[arg(long)]
    rate: f64,
    /// Connections opened before the opening and kept until their shopper's turn
    #[arg(long)]
    early: u64,
    /// Connections open at once
    #[arg(long)]
    connections: u64,
    /// Unix time in milliseconds
    #[arg(long)]
    opens_at: u64,
    /// Unix time in milliseconds after which no shopper asks again
    #[arg(long)]
    gives_up_at: u64,
    #[arg(long)]
    no_show_percent: u64,
    /// How long a shopper looks at the answer before the connection is closed
    #[arg(long)]
    linger_ms: u64,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    ledger: PathBuf,
}

/// A line on standard output, once a second.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) decided: u64,
    pub(super) granted: u64,
    pub(super) confirmed: u64,
    pub(super) finished: u64,
    pub(super) open: u64,
    pub(super) requests: u64,
    /// Requests without an answer, or with one that is none of the sale's: neither a decision nor
    /// "not now".
    pub(super) errors: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    outcome: String,
    #[serde(default)]
    hold: Option<Hold>,
    #[serde(default)]
    position: Option<u32>,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Hold {
    id: AttemptId,
    state: String,
    pay_by: TimeMs,
}

struct Crowd {
    args: Args,
    keys: gate::Keyring,
    admin_key: String,
    /// The path of the round's attempts, once the server has named it.
    attempts: watch::Receiver<Option<String>>,
    started: Instant,
    started_wall_ms: u64,
    provider: Vec<tokio::sync::Mutex<Option<Connection>>>,
    /// One permit for each connection that may be open: a shopper who finds none waits, and the
    /// wait counts as latency.
    places: Rc<Semaphore>,
    progress: Cell<Progress>,
    lines: RefCell<BufWriter<std::fs::File>>,
    failed: Cell<bool>,
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub(crate) fn run(context: &Context, args: &Args) -> CommandResult {
    /// Other connections than shoppers': visitors, providers, the ledger.
    const OTHERS: u64 = 500;
    crate::files::reserve(crate::files::raise_limit().min(args.connections + OTHERS));
    let keys = gate::Keyring::open(&context.data)?;
    let admin_key = std::env::var("FLOODGATE_ADMIN_KEY").map_err(|_| "FLOODGATE_ADMIN_KEY is not set")?;
    let lines = RefCell::new(BufWriter::new(std::fs::File::create(&args.ledger)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let (url, attempts) = watch::channel(None);
    let crowd = Rc::new(Crowd {
        args: args.clone(),
        keys,
        admin_key,
        attempts,
        started: Instant::from_std(std::time::Instant::now()),
        started_wall_ms: wall_ms(),
        provider: (0..PROVIDERS).map(|_| tokio::sync::Mutex::new(None)).collect(),
        places: Rc::new(Semaphore::new(args.connections as usize)),
        progress: Cell::default(),
        lines,
        failed: Cell::new(false),
    });
    let main = Rc::clone(&crowd);
    local.block_on(&runtime, async move {
        tokio::task::spawn_local(find_round(Rc::clone(&main), url));
        tokio::task::spawn_local(report(Rc::clone(&main)));
        tokio::task::spawn_local(visitors(Rc::clone(&main)));
        arrivals(main).await;
    });
    say(crowd.progress.get());
    crowd.lines.borrow_mut().flush()?;
    Ok(if crowd.failed.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn say(progress: Progress) {
    if let Ok(text) = serde_json::to_string(&progress) {
        super::super::print(&format!("{text}\n"));
    }
}

async fn report(crowd: Rc<Crowd>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        say(crowd.progress.get());
    }
}

/// Asks for the sale's state until it names the URL for attempts. A page's countdown knows the
/// moment, so it asks then; the time until a page's next poll is not latency of the server.
async fn find_round(crowd: Rc<Crowd>, url: watch::Sender<Option<String>>) {
    #[derive(Deserialize)]
    struct State {
        attempts_url: Option<String>,
    }
    let request = format!("GET /api/v1/sales/{} HTTP/1.1\r\nHost: rehearsal\r\n\r\n", crowd.args.sale);
    let mut connection = None;
    loop {
        if let Ok(response) =
            exchange(&mut connection, crowd.address(0), crowd.args.shop, request.as_bytes()).await
            && let Ok(State { attempts_url: Some(found) }) = serde_json::from_slice(&response.body)
        {
            let path = found.find("/api/").map_or(found.as_str(), |at| &found[at..]).to_owned();
            let _ = url.send(Some(path));
            return std::future::pending().await;
        }
        let until_opening = crowd.args.opens_at.saturating_sub(crowd.now_ms());
        sleep(Duration::from_millis(until_opening.clamp(2, 100))).await;
    }
}

/// Before the opening shoppers read the page, a hundredth as many a second as will buy: the opening
/// is a hundredfold step.
async fn visitors(crowd: Rc<Crowd>) {
    let mut prng = Prng::new(crowd.args.seed ^ 0x7061_6765 ^ crowd.args.process);
    let request = format!("GET /api/v1/sales/{} HTTP/1.1\r\nHost: rehearsal\r\n\r\n", crowd.args.sale);
    let request: Rc<str> = request.into();
    while crowd.now_ms() < crowd.args.opens_at {
        sleep(Duration::from_secs_f64(-(1.0 - prng.unit()).ln() * 100.0 / crowd.args.rate)).await;
        let (visitor, request) = (Rc::clone(&crowd), Rc::clone(&request));
        let address = crowd.address(prng.next_u64());
        tokio::task::spawn_local(async move {
            visitor.count(|p| p.requests += 1);
            let looked = exchange(&mut None, address, visitor.args.shop, request.as_bytes()).await;
            if !looked.is_ok_and(|response| response.status == 200) {
                visitor.count(|p| p.errors += 1);
            }
        });
    }
}

/// One request over a connection that is opened if there is none, and dropped if it fails.
async fn exchange(
    connection: &mut Option<Connection>,
    from: IpAddr,
    to: SocketAddr,
    request: &[u8],
) -> std::io::Result<Response> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(from, to).await?,
    };
    let response = open.ask(request).await?;
    *connection = Some(open);
    Ok(response)
}

/// Starts each shopper at its intended time, whatever the server does.
async fn arrivals(crowd: Rc<Crowd>) {
    let args = &crowd.args;
    let mut prng = Prng::new(args.seed ^ args.process.wrapping_mul(0x9e37_79b9));
    let mut running = tokio::task::JoinSet::new();
    // Early shoppers connect over the seconds before the opening, at a hundredth of the rate plus
    // what it takes to connect all of them; they ask within the first second.
    let opens_in_ms = args.opens_at.saturating_sub(wall_ms()) as f64;
    let early = args.early.min(args.shoppers);
    let opening = crowd.started + Duration::from_secs_f64(opens_in_ms / 1000.0);
    let early_window = (opens_in_ms - 1000.0).max(0.0) / 1000.0;
    let mut at = 0.0;
    let mut plans: Vec<(Instant, Instant, u64)> = Vec::with_capacity(args.shoppers as usize);
    for n in 0..early {
        let connects = crowd.started + Duration::from_secs_f64(early_window * n as f64 / early as f64);
        // Human hands: most within the first two seconds.
        plans.push((connects, opening + Duration::from_secs_f64(2.0 * prng.unit()), n));
    }
    for n in early..args.shoppers {
        // Poisson arrivals: exponential gaps.
        at += -(1.0 - prng.unit()).ln() / args.rate;
        let due = opening + Duration::from_secs_f64(at);
        plans.push((due, due, n));
    }
    plans.sort_unstable();
    for (starts, due, n) in plans {
        sleep_until(starts).await;
        running.spawn_local(shopper(Rc::clone(&crowd), n, due, prng.next_u64()));
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

impl Crowd {
    fn address(&self, n: u64) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 10 + self.args.process as u8, (n % ADDRESSES) as u8, 1))
    }

    fn count(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.get();
        change(&mut progress);
        self.progress.set(progress);
    }

    fn now_ms(&self) -> u64 {
        self.started_wall_ms + self.started.elapsed().as_millis() as u64
    }

    fn given_up(&self) -> bool {
        self.now_ms() >= self.args.gives_up_at
    }
}

impl Line {
    /// Notes an answer; returns false, and counts a contradiction, if it does not agree with an
    /// earlier one. A grant or a place must be repeated with the same hold, `pay_by` and position;
    /// a refusal may have become a grant.
    fn take(&mut self, answer: &Answer) -> bool {
        let told = match answer.outcome.as_str() {
            "granted" => Told::Granted,
            "waitlisted" => Told::Waitlisted,
            "sold_out" => Told::SoldOut,
            _ => Told::Refused,
        };
        let whole = match told {
            Told::Granted => answer.hold.is_some(),
            Told::Waitlisted => answer.position.is_some(),
            _ => answer.hold.is_none(),
        };
        let stays = !matches!(self.told, Told::Granted | Told::Waitlisted) || told == self.told;
        let position = answer.position.unwrap_or(0);
        let same_place = self.position == 0 || position == self.position;
        let same_hold = match &answer.hold {
            Some(hold) => hold.id == self.attempt && (!self.held || hold.pay_by == self.pay_by),
            None => !self.held,
        };
        let stands = whole && stays && same_place && same_hold;
        if !stands {
            self.contradictions += 1;
            return false;
        }
        self.told = told;
        self.position = position;
        if let Some(hold) = &answer.hold {
            self.held = true;
            self.pay_by = hold.pay_by;
        }
        true
    }
}

/// A shopper at work.
struct Shopper {
    crowd: Rc<Crowd>,
    address: IpAddr,
    connection: Option<Connection>,
    has_place: bool,
    prng: Prng,
    key: ShopperKey,
    attempt: AttemptId,
    pass: String,
    idempotency_key: String,
    line: Line,
}

async fn shopper(crowd: Rc<Crowd>, n: u64, due: Instant, seed: u64) {
    let id = format!("rehearsal-{}-{n}", crowd.args.process);
    let Some((key, sealed)) = crowd.keys.seal(&id) else { return crowd.failed.set(true) };
    let expires_at = TimeMs(crowd.args.gives_up_at).plus(DurationMs::seconds(3600));
    let pass = issue(&crowd.keys, &crowd.args.sale, &Pass { shopper: key, sealed, tier: 0, expires_at });
    let mut prng = Prng::new(seed);
    let idempotency_key = format!("{:016x}", prng.next_u64());
    let attempt = crowd.keys.attempt_id(crowd.args.sale.as_str(), key, &idempotency_key);
    let address = crowd.address(n);
    let mut it = Shopper {
        crowd,
        address,
        connection: None,
        has_place: false,
        prng,
        key,
        attempt,
        pass,
        idempotency_key,
        line: Line::new(attempt),
    };
    if Instant::now() < due {
        // Early: the connection is open and idle until the opening.
        it.take_place().await;
        it.connection = Connection::open(it.address, it.crowd.args.shop).await.ok();
        sleep_until(due).await;
    }
    it.visit(due).await;
    it.linger().await;
    it.leave();
    it.crowd.count(|p| p.finished += 1);
    if it.line.write(&mut *it.crowd.lines.borrow_mut()).is_err() {
        it.crowd.failed.set(true);
    }
}

impl Shopper {
    async fn take_place(&mut self) {
        if self.has_place {
            return;
        }
        // The semaphore is never closed.
        if let Ok(place) = self.crowd.places.acquire().await {
            place.forget();
            self.has_place = true;
            self.crowd.count(|p| p.open += 1);
        }
    }

    /// Closes the connection, if there is one.
    fn leave(&mut self) {
        self.connection = None;
        if std::mem::take(&mut self.has_place) {
            self.crowd.places.add_permits(1);
            self.crowd.count(|p| p.open -= 1);
        }
    }

    /// Keeps the connection for a while after the answer, unless others wait for it.
    async fn linger(&mut self) {
        const STEP: Duration = Duration::from_millis(50);
        let until = Instant::now() + Duration::from_millis(self.crowd.args.linger_ms);
        while self.connection.is_some() && Instant::now() < until && self.crowd.places.available_permits() > 0
        {
            sleep(STEP).await;
        }
    }

    async fn visit(&mut self, due: Instant) {
        let Some(answer) = self.buy().await else { return };
        self.line.latency_us = due.elapsed().as_micros() as u64;
        self.crowd.count(|p| p.decided += 1);
        self.take(&answer);
        // One in twenty asks again, as after a reload or from another device: the answer must be
        // the same.
        if self.prng.percent(5) {
            self.connection = None;
            if let Some(again) = self.buy().await {
                self.take(&again);
            }
        }
        match self.line.told {
            Told::Granted => self.maybe_pay().await,
            Told::Waitlisted => self.wait_for_turn().await,
            // One in twenty does not give up: units come back when holds run out.
            Told::SoldOut if self.prng.percent(5) => self.come_back().await,
            _ => {}
        }
    }

    fn take(&mut self, answer: &Answer) {
        let had = self.line.held;
        self.line.take(answer);
        if self.line.told == Told::Granted && !had {
            self.crowd.count(|p| p.granted += 1);
        }
    }

    /// Sends the attempt until it is decided; nothing if the time is over before.
    async fn buy(&mut self) -> Option<Answer> {
        let mut attempts = self.crowd.attempts.clone();
        let path = attempts.wait_for(Option::is_some).await.ok()?.clone()?;
        let body = format!(r#"{{"lines":[{{"item":"{}","quantity":1}}]}}"#, self.crowd.args.item);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: rehearsal\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Floodgate-Pass: {}\r\nIdempotency-Key: {}\r\n\r\n{body}",
            body.len(),
            self.pass,
            self.idempotency_key
        );
        self.ask_until_answered(&request).await
    }

    async fn look(&mut self) -> Option<Answer> {
        let request = format!(
            "GET /api/v1/sales/{}/attempts/{} HTTP/1.1\r\nHost: rehearsal\r\nFloodgate-Pass: {}\r\n\r\n",
            self.crowd.args.sale, self.attempt, self.pass
        );
        self.ask_until_answered(&request).await
    }

    async fn ask_until_answered(&mut self, request: &str) -> Option<Answer> {
        let mut pause_ms = 100;
        while !self.crowd.given_up() {
            self.take_place().await;
            self.crowd.count(|p| p.requests += 1);
            let response =
                exchange(&mut self.connection, self.address, self.crowd.args.shop, request.as_bytes()).await;
            let wait_ms = match response {
                Ok(response) => match self.read(&response) {
                    Ok(answer) => return Some(answer),
                    Err(wait_ms) => wait_ms,
                },
                Err(_) => {
                    self.crowd.count(|p| p.errors += 1);
                    None
                }
            };
            self.line.retries += 1;
            let wait_ms = wait_ms.unwrap_or(pause_ms);
            // Jitter, so that shoppers who failed together do not retry together.
            sleep(Duration::from_millis(wait_ms / 2 + self.prng.below(wait_ms + 1))).await;
            pause_ms = (pause_ms * 2).min(5000);
        }
        None
    }

    /// The decision, or how long to wait before a retry (as the server said, if it did).
    fn read(&self, response: &Response) -> Result<Answer, Option<u64>> {
        let asked_to_wait = response.retry_after_seconds.map(|s| s * 1000);
        if !matches!(response.status, 200 | 202) {
            if !matches!(response.status, 404 | 429 | 503) {
                self.crowd.count(|p| p.errors += 1);
            }
            return Err(asked_to_wait);
        }
        match serde_json::from_slice::<Answer>(&response.body) {
            Ok(answer) if matches!(answer.outcome.as_str(), "queued" | "not_open" | "paused" | "none") => {
                Err(answer.retry_after_ms.or(asked_to_wait))
            }
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.crowd.count(|p| p.errors += 1);
                Err(asked_to_wait)
            }
        }
    }

    async fn maybe_pay(&mut self) {
        if self.prng.percent(self.crowd.args.no_show_percent) {
            return;
        }
        // Looks for the card.
        sleep(Duration::from_millis(200 + self.prng.below(1800))).await;
        self.line.paid = self.pay().await;
        if self.line.paid == Paid::Confirmed {
            self.crowd.count(|p| p.confirmed += 1);
        }
    }

    /// The payment provider reports to the sale, until it is answered.
    async fn pay(&mut self) -> Paid {
        let body = format!(r#"{{"payment":"pay-{}"}}"#, self.attempt);
        let request = format!(
            "POST /api/v1/admin/holds/{}/confirm HTTP/1.1\r\nHost: rehearsal\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.attempt,
            self.crowd.admin_key,
            body.len()
        );
        while !self.crowd.given_up() {
            let which = self.key.low_bits() as usize % PROVIDERS;
            let mut provider = self.crowd.provider[which].lock().await;
            self.crowd.count(|p| p.requests += 1);
            let response =
                exchange(&mut provider, self.crowd.address(0), self.crowd.args.admin, request.as_bytes())
                    .await;
            drop(provider);
            match response {
                Ok(response) if response.status == 200 => {
                    let text = String::from_utf8_lossy(&response.body).into_owned();
                    return if text.contains(r#""refund""#) { Paid::Refund } else { Paid::Confirmed };
                }
                Ok(response) if !matches!(response.status, 429 | 503) => {
                    self.crowd.count(|p| p.errors += 1);
                    return Paid::Unknown;
                }
                unanswered => {
                    if unanswered.is_err() {
                        self.crowd.count(|p| p.errors += 1);
                    }
                    self.line.retries += 1;
                    sleep(Duration::from_millis(100 + self.prng.below(400))).await;
                }
            }
        }
        Paid::Unknown
    }

    async fn wait_for_turn(&mut self) {
        /// A waiting shopper closes the page, and checks now and then for two minutes.
        const LOOKS: u32 = 30;
        for _ in 0..LOOKS {
            if self.crowd.given_up() {
                return;
            }
            self.leave();
            sleep(Duration::from_millis(3000 + self.prng.below(2000))).await;
            let Some(answer) = self.look().await else { return };
            if !self.line.take(&answer) {
                return;
            }
            match answer.hold.as_ref().map(|hold| hold.state.as_str()) {
                Some("held") => {
                    self.crowd.count(|p| p.granted += 1);
                    return self.maybe_pay().await;
                }
                Some(_) => return,
                None => {}
            }
        }
    }

    async fn come_back(&mut self) {
        /// Even persistent shoppers give up: after some 45 seconds, in which the holds of no-shows
        /// expire twice.
        const TRIES: u32 = 6;
        for _ in 0..TRIES {
            if self.crowd.given_up() {
                return;
            }
            self.leave();
            sleep(Duration::from_millis(5000 + self.prng.below(5000))).await;
            let Some(answer) = self.buy().await else { return };
            self.take(&answer);
            match self.line.told {
                Told::Granted => return self.maybe_pay().await,
                Told::Waitlisted => return self.wait_for_turn().await,
                Told::SoldOut => {}
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(id: u8, pay_by: &str) -> String {
        let id = AttemptId([id; 16]);
        format!(r#"{{"outcome":"granted","hold":{{"id":"{id}","state":"held","pay_by":"{pay_by}"}}}}"#)
    }

    /// The answers to a shopper, in order, and how many of them contradict an earlier one.
    fn check(answers: &[&str], contradictions: u32) {
        let mut line = Line::new(AttemptId([7; 16]));
        for answer in answers {
            line.take(&serde_json::from_str(answer).unwrap());
        }
        assert_eq!(line.contradictions, contradictions, "{answers:#?}");
    }

    #[test]
    fn a_later_answer_that_differs_is_a_contradiction() {
        const SOON: &str = "2026-11-24T10:15:00.000Z";
        const LATER: &str = "2026-11-24T10:15:00.001Z";
        let sold_out = r#"{"outcome":"sold_out","as_of":9}"#;
        let place = |n: u32| format!(r#"{{"outcome":"waitlisted","position":{n},"place":"waiting"}}"#);
        let turn = |n: u32, pay_by: &str| {
            let hold = granted(7, pay_by).replace(r#"{"outcome":"granted","#, "");
            format!(r#"{{"outcome":"waitlisted","position":{n},"place":"promoted",{hold}"#)
        };
        check(&[&granted(7, SOON), &granted(7, SOON)], 0);
        check(&[sold_out, sold_out, &granted(7, SOON)], 0);
        check(&[sold_out, &place(3), &place(3), &turn(3, SOON), &turn(3, SOON)], 0);
        check(&[&granted(7, SOON), &granted(7, LATER)], 1);
        check(&[&granted(8, SOON)], 1);
        check(&[&granted(7, SOON), sold_out, &place(1)], 2);
        check(&[r#"{"outcome":"granted"}"#], 1);
        check(&[&place(3), &place(2)], 1);
        check(&[&place(3), &granted(7, SOON)], 1);
        check(&[&place(3), &turn(3, SOON), &turn(3, LATER), &place(3)], 2);
        check(&[r#"{"outcome":"waitlisted"}"#, sold_out], 1);
    }
}
