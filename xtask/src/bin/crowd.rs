//! The client of `cargo xtask bench crowd|flood`: many connections from many addresses that send
//! requests at planned times, and are idle in between. It counts every one that the server closes.
//!
//! It reads one command a line and prints the result of each as one line of JSON:
//! `connect PER_SECOND` and `last PER_SECOND` ask once on each connection,
//! `hold SECONDS DOCUMENTS ATTEMPTS` on some, and `buy SECONDS` lets shoppers get a pass and buy,
//! and come again until they are told an outcome.
#![expect(clippy::print_stderr, reason = "it talks to the bench that started it")]

#[path = "../answers.rs"]
mod answers;
#[path = "../clients.rs"]
mod clients;

use answers::{ANSWER_BYTES_MAX, body_of};
use clients::{Outcome, cpu_seconds, hear, say};
use memchr::memmem::{self, Finder};
use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    net::{AddressFamily, SocketFlags, SocketType},
    process::{Resource, Rlimit},
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The time after which the client stops waiting for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time after which a shopper whose connection was closed comes again.
const COME_AGAIN: Duration = Duration::from_millis(200);
/// The part of a hold after which the sale's attempts begin, and in which they all come.
const SALE_AFTER: f64 = 1.0 / 3.0;
const SALE_SECONDS_MAX: f64 = 10.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match Settings::read(&args).and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Settings {
    to: SocketAddrV4,
    /// The first of its source addresses.
    from: Ipv4Addr,
    /// Connections of each: far fewer than it has ports.
    per_address: usize,
    connections: usize,
    document: Vec<u8>,
    attempts_path: String,
    passes_path: String,
    /// A pass, or the token for one.
    credentials: Vec<String>,
}

impl Settings {
    fn read(args: &[String]) -> Outcome<Self> {
        let text = |name: &str| {
            let at = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
            at.cloned().ok_or_else(|| format!("{name} is missing"))
        };
        let number = |name: &str| Ok::<usize, Box<dyn std::error::Error>>(text(name)?.parse()?);
        let (skip, count) = (number("--skip")?, number("--attempts")?);
        let lines = fs::read_to_string(text("--credentials")?)?;
        let credential = |line: &str| -> Outcome<String> {
            let document: Value = serde_json::from_str(line)?;
            let text = document["pass"].as_str().or(document["token"].as_str());
            Ok(text.ok_or("a line of --credentials has no pass and no token")?.to_owned())
        };
        Ok(Self {
            to: text("--to")?.parse()?,
            from: text("--from")?.parse()?,
            per_address: number("--per-address")?,
            connections: number("--connections")?,
            document: format!(
                "GET {} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: crowd/1\r\nAccept: application/json\r\n\r\n",
                text("--document")?
            )
            .into_bytes(),
            attempts_path: text("--path")?,
            passes_path: format!("{}/passes", text("--document")?),
            credentials: lines.lines().skip(skip).take(count).map(credential).collect::<Outcome<_>>()?,
        })
    }

    fn request(&self, what: What) -> Vec<u8> {
        match what {
            What::Document => self.document.clone(),
            What::Attempt(number) => self.attempt(number),
            What::Pass(number) => format!(
                "POST {} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: crowd/1\r\nAccept: application/json\r\n\
                 Accept-Language: en\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
                self.passes_path, self.credentials[number]
            )
            .into_bytes(),
        }
    }

    fn attempt(&self, number: usize) -> Vec<u8> {
        let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        format!(
            "POST {} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: crowd/1\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nFloodgate-Pass: {}\r\nIdempotency-Key: purchase-{number:024x}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.attempts_path,
            self.credentials[number],
            body.len()
        )
        .into_bytes()
    }
}

fn work(settings: Settings) -> Outcome<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let mut crowd = Crowd::new(settings)?;
    while let Some(line) = hear()? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let all = crowd.settings.connections;
        let plan = match words.as_slice() {
            ["connect" | "last", rate] => {
                evenly(all, all as f64 / rate.parse::<f64>()?, 0.0, |n| (n, What::Document))
            }
            ["hold", seconds, documents, attempts] => {
                let seconds: f64 = seconds.parse()?;
                let (documents, attempts) = (documents.parse::<usize>()?, attempts.parse::<usize>()?);
                // The connections that ask are spread over the crowd, and no two of a kind are the
                // same.
                let spread = move |n: usize, of: usize| n * all / of;
                let mut plan = evenly(documents, seconds, 0.0, |n| (spread(n, documents), What::Document));
                let lasts = (seconds * SALE_AFTER).min(SALE_SECONDS_MAX);
                plan.extend(evenly(attempts, lasts, seconds * SALE_AFTER, |n| {
                    (spread(n, attempts), What::Attempt(n))
                }));
                plan.sort_unstable_by_key(|planned| planned.due);
                plan
            }
            ["buy", seconds] => evenly(all, seconds.parse()?, 0.0, |n| (n, What::Pass(n))),
            _ => return Err(format!("no command: {line}").into()),
        };
        let hold =
            if words[0] == "hold" { Duration::from_secs_f64(words[1].parse()?) } else { Duration::ZERO };
        let report = crowd.run(plan, hold)?;
        say(&report.to_string())?;
    }
    Ok(())
}

/// A request of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Document,
    Attempt(usize),
    /// After which follows the attempt.
    Pass(usize),
}

/// A request, and when to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    due: Duration,
    conn: usize,
    what: What,
}

/// So many within some seconds, from a moment on.
fn evenly(count: usize, seconds: f64, from: f64, of: impl Fn(usize) -> (usize, What)) -> Vec<Planned> {
    let planned = |n: usize| {
        let (conn, what) = of(n);
        Planned { due: Duration::from_secs_f64(from + seconds * n as f64 / count as f64), conn, what }
    };
    (0..count).map(planned).collect()
}

#[derive(Default)]
struct Conn {
    stream: Option<TcpStream>,
    /// It is connected once and not again.
    was_open: bool,
    /// The request that was sent, and its intended time.
    asked: Option<(Duration, What)>,
    /// The shopper's intended start.
    began: Option<Duration>,
    /// The start of an incomplete answer.
    early: Vec<u8>,
}

/// The answers during one command.
#[derive(Default)]
struct Seen {
    documents_us: Vec<u64>,
    attempts_us: Vec<u64>,
    passes_us: Vec<u64>,
    /// From a shopper's intended start to the outcome.
    purchases_us: Vec<u64>,
    /// By outcome, or by status where there is none.
    outcomes: BTreeMap<String, u64>,
    /// Requests that were planned on a connection that was closed, or whose last answer had not
    /// come.
    unasked: u64,
    lost: u64,
    closed: u64,
    reset: u64,
    connect_failed: u64,
    again: u64,
}

struct Crowd {
    settings: Settings,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// Connections that wait for an answer.
    waiting: usize,
    again: BinaryHeap<Reverse<Planned>>,
    head_end: Finder<'static>,
}

impl Crowd {
    fn new(settings: Settings) -> Outcome<Self> {
        let mut conns = Vec::new();
        conns.resize_with(settings.connections, Conn::default);
        Ok(Self {
            settings,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            conns,
            waiting: 0,
            again: BinaryHeap::new(),
            head_end: Finder::new(b"\r\n\r\n"),
        })
    }

    /// Sends each planned request when it is due, whether or not earlier ones were answered, and
    /// reads all answers.
    fn run(&mut self, plan: Vec<Planned>, at_least: Duration) -> Outcome<Value> {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let mut plan = plan.into_iter().peekable();
        let mut seen = Seen::default();
        let mut events = Vec::with_capacity(1024);
        let mut scratch = vec![0; ANSWER_BYTES_MAX];
        let mut heard = started;
        loop {
            let now = started.elapsed();
            while let Some(next) = self.next_due(&mut plan, now) {
                self.ask(next, &mut seen)?;
            }
            let next = plan.peek().map(|planned| planned.due);
            let again = self.again.peek().map(|Reverse(planned)| planned.due);
            let is_done = next.is_none() && again.is_none();
            if is_done && now >= at_least && (self.waiting == 0 || heard.elapsed() > PATIENCE) {
                break;
            }
            let until = next.into_iter().chain(again).min().unwrap_or(now + Duration::from_millis(100));
            let wait = until.saturating_sub(now).min(Duration::from_millis(100));
            let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                // A copy, for the struct is packed.
                let data = event.data;
                heard = Instant::now();
                self.receive(data.u64() as usize, started, &mut scratch, &mut seen)?;
            }
        }
        let open = self.conns.iter().filter(|conn| conn.stream.is_some()).count();
        Ok(json!({
            "passes_us": seen.passes_us, "purchases_us": seen.purchases_us, "again": seen.again,
            "documents_us": seen.documents_us, "attempts_us": seen.attempts_us, "outcomes": seen.outcomes,
            "unasked": seen.unasked, "lost": seen.lost + self.waiting as u64, "closed": seen.closed, "reset": seen.reset,
            "connect_failed": seen.connect_failed, "open": open,
            "seconds": started.elapsed().as_secs_f64(), "cpu_seconds": cpu_seconds() - cpu,
        }))
    }

    fn next_due(
        &mut self,
        plan: &mut std::iter::Peekable<std::vec::IntoIter<Planned>>,
        now: Duration,
    ) -> Option<Planned> {
        if self.again.peek().is_some_and(|Reverse(planned)| planned.due <= now) {
            return self.again.pop().map(|Reverse(planned)| planned);
        }
        plan.next_if(|planned| planned.due <= now)
    }

    fn ask(&mut self, planned: Planned, seen: &mut Seen) -> Outcome<()> {
        let Planned { due, mut conn, what } = planned;
        let buys = matches!(what, What::Pass(_)) || self.conns[conn].began.is_some();
        if buys {
            self.conns[conn].began.get_or_insert(due);
        }
        if self.conns[conn].stream.is_none() && (buys || !self.conns[conn].was_open) {
            self.connect(conn, seen)?;
        }
        // A neighbour, if this connection is waiting for an answer.
        for _ in 0..100 {
            let place = &self.conns[conn];
            if buys || what == What::Document && place.stream.is_none() {
                break;
            }
            if place.asked.is_none() && place.stream.is_some() {
                break;
            }
            conn = (conn + 1) % self.conns.len();
        }
        let bytes = self.settings.request(what);
        let place = &mut self.conns[conn];
        let written = match place.stream.as_mut().filter(|_| place.asked.is_none()) {
            Some(stream) => stream.write(&bytes).is_ok_and(|written| written == bytes.len()),
            None => false,
        };
        if written {
            place.asked = Some((due, what));
            self.waiting += 1;
        } else if buys {
            // Reconnected in a moment.
            place.stream = None;
            self.come_again(conn, due + COME_AGAIN, what, seen);
        } else {
            seen.unasked += 1;
        }
        Ok(())
    }

    fn come_again(&mut self, conn: usize, due: Duration, what: What, seen: &mut Seen) {
        seen.again += 1;
        self.again.push(Reverse(Planned { due, conn, what }));
    }

    fn connect(&mut self, number: usize, seen: &mut Seen) -> Outcome<()> {
        self.conns[number].was_open = true;
        let from = u32::from(self.settings.from) + (number / self.settings.per_address) as u32;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::from(from), 0)))?;
        if rustix::net::connect(&socket, &self.settings.to).is_err() {
            seen.connect_failed += 1;
            return Ok(());
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
        self.conns[number].stream = Some(stream);
        Ok(())
    }

    fn receive(
        &mut self,
        number: usize,
        started: Instant,
        scratch: &mut [u8],
        seen: &mut Seen,
    ) -> Outcome<()> {
        let conn = &mut self.conns[number];
        let Some(stream) = &mut conn.stream else { return Ok(()) };
        let early = conn.early.len();
        scratch[..early].copy_from_slice(&conn.early);
        let read = match stream.read(&mut scratch[early..]) {
            Ok(0) => {
                seen.closed += 1;
                0
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => {
                seen.reset += 1;
                0
            }
        };
        if read == 0 {
            conn.stream = None;
            conn.early = Vec::new();
            let buys = conn.began.is_some();
            if let Some((_, what)) = conn.asked.take() {
                self.waiting -= 1;
                if buys {
                    self.come_again(number, started.elapsed() + COME_AGAIN, what, seen);
                } else {
                    seen.lost += 1;
                }
            }
            return Ok(());
        }
        let bytes = &scratch[..early + read];
        let Some(body) = body_of(bytes, &self.head_end)? else {
            conn.early = bytes.to_vec();
            return Ok(());
        };
        conn.early = Vec::new();
        let Some((due, what)) = conn.asked.take() else {
            return Err(format!("an answer that nobody asked for: {}", String::from_utf8_lossy(bytes)).into());
        };
        self.waiting -= 1;
        let now = started.elapsed();
        let took_us = now.saturating_sub(due).as_micros() as u64;
        let wait = retry_after(&bytes[..body.start]);
        let (status, body) = (&bytes[9..12], &bytes[body]);
        let said = match what {
            What::Document => {
                seen.documents_us.push(took_us);
                memmem::find(body, br#""state":"open""#).map(|_| "document".to_owned())
            }
            What::Pass(_) => {
                seen.passes_us.push(took_us);
                text_of(body, br#""pass":""#)
            }
            What::Attempt(_) => {
                seen.attempts_us.push(took_us);
                text_of(body, br#""outcome":""#)
            }
        };
        let said = said.filter(|_| status == b"200");
        let key = String::from_utf8_lossy(status).into_owned();
        match (what, said) {
            (What::Pass(shopper), Some(pass)) => {
                self.settings.credentials[shopper] = pass;
                // At once: it is the same shopper's next request.
                self.again.push(Reverse(Planned { due: now, conn: number, what: What::Attempt(shopper) }));
            }
            (_, Some(said)) => {
                *seen.outcomes.entry(said).or_default() += 1;
                let began = self.conns[number].began.take();
                seen.purchases_us.extend(began.map(|began| now.saturating_sub(began).as_micros() as u64));
            }
            (What::Attempt(_) | What::Pass(_), None) if matches!(status, b"202" | b"429" | b"503") => {
                *seen.outcomes.entry(key).or_default() += 1;
                self.come_again(number, now + wait, what, seen);
            }
            (_, None) => *seen.outcomes.entry(key).or_default() += 1,
        }
        Ok(())
    }
}

/// The text value after its name in an answer's document.
fn text_of(body: &[u8], name: &[u8]) -> Option<String> {
    let rest = &body[memmem::find(body, name)? + name.len()..];
    let end = memchr::memchr(b'"', rest)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// The answer's Retry-After, or a second.
fn retry_after(head: &[u8]) -> Duration {
    let name = memmem::find(head, b"retry-after: ").or_else(|| memmem::find(head, b"Retry-After: "));
    let digits = name.map(|at| &head[at + b"retry-after: ".len()..]).unwrap_or_default();
    let seconds = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let seconds = seconds.fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    Duration::from_secs(seconds.clamp(1, 60))
}
