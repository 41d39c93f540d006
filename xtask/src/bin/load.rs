//! The load of `cargo xtask bench gate|idle`: a closed loop over keep-alive connections that costs
//! as little as possible, so that the measurement is of the server. Requests are complete bytes
//! before the clock starts, and of an answer only the status, the length and one marker are read.
//! It does not know what it measures.
//!
//! It prints `ready`, waits for a line, works, and prints the result as one line of JSON. Its
//! connections stay open until it reads another line, or the end of its input.
#![expect(clippy::print_stderr, reason = "it talks to the bench that started it")]

#[path = "../answers.rs"]
mod answers;
#[path = "../clients.rs"]
mod clients;

use answers::{ANSWER_BYTES_MAX, body_of};
use clients::{Outcome, cpu_seconds, hear, say};
use memchr::memmem::Finder;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    process::ExitCode,
    time::Instant,
};

/// The time after which the server counts as dead: many times the two seconds after which it says
/// that an attempt must wait.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let settings = Settings::read(&args);
    let result = settings.and_then(|settings| if settings.idle { idle(&settings) } else { load(&settings) });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Settings {
    to: SocketAddr,
    connections: usize,
    /// Requests that are counted, and warm-up requests before them.
    requests: usize,
    warm_up: usize,
    path: String,
    /// Lines of JSON with `pass`, used in turn; without them, it is a GET.
    passes: Option<String>,
    /// A field that comes twice, so that the request is not the usual one.
    twice: bool,
    /// Passes have a wrong signature.
    forged: bool,
    status: String,
    marker: String,
    idle: bool,
}

impl Settings {
    fn read(args: &[String]) -> Outcome<Self> {
        let flag = |name: &str| args.iter().any(|arg| arg == name);
        let text = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
        let count = |name: &str, default: usize| text(name).map_or(Ok(default), |n| n.parse::<usize>());
        Ok(Self {
            to: text("--to").ok_or("--to ADDRESS is missing")?.parse()?,
            connections: count("--connections", 256)?,
            requests: count("--requests", 0)?,
            warm_up: count("--warm-up", 0)?,
            path: text("--path").ok_or("--path PATH is missing")?,
            passes: text("--passes"),
            twice: flag("--twice"),
            forged: flag("--forged"),
            status: text("--status").unwrap_or_else(|| "200".into()),
            marker: text("--marker").unwrap_or_default(),
            idle: flag("--idle"),
        })
    }

    /// All requests in one piece, and where each begins and ends.
    fn prepare(&self) -> Outcome<Requests> {
        let mut all = Requests::default();
        let Some(file) = &self.passes else {
            all.push(&format!(
                "GET {} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: load/1\r\nAccept: application/json\r\n\r\n",
                self.path
            ));
            return Ok(all);
        };
        let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        let twice =
            if self.twice { "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n" } else { "" };
        let lines = fs::read_to_string(file)?;
        let passes = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let count = if self.requests == 0 { passes.len() } else { self.requests + self.warm_up };
        for (number, document) in passes.iter().cycle().take(count).enumerate() {
            let mut pass = document["pass"].as_str().ok_or("a line of --passes has no pass")?.to_owned();
            if self.forged {
                // A digit in the middle of the signature.
                let at = pass.len() - 8;
                let other = if pass.as_bytes()[at] == b'A' { "B" } else { "A" };
                pass.replace_range(at..=at, other);
            }
            all.push(&format!(
                "POST {} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: load/1\r\nAccept: application/json\r\n\
                 Content-Type: application/json\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: purchase-{number:024x}\r\n\
                 {twice}Content-Length: {}\r\n\r\n{body}",
                self.path,
                body.len()
            ));
        }
        Ok(all)
    }
}

#[derive(Default)]
struct Requests {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
}

impl Requests {
    fn push(&mut self, text: &str) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        self.places.push(start..self.bytes.len());
    }

    fn get(&self, number: usize) -> &[u8] {
        &self.bytes[self.places[number % self.places.len()].clone()]
    }
}

struct Conn {
    stream: TcpStream,
    sent: Instant,
    /// The start of an answer that is not whole.
    early: Vec<u8>,
}

/// The answers.
#[derive(Default)]
struct Seen {
    latency_ns: Vec<u32>,
    /// Expected answers.
    matched: usize,
    /// Other answers, by status.
    others: BTreeMap<String, usize>,
    /// The first of the others.
    odd: Option<String>,
}

fn load(settings: &Settings) -> Outcome<()> {
    let requests = settings.prepare()?;
    let mut crowd = Crowd::connect(settings, &requests)?;
    if settings.warm_up > 0 {
        crowd.run(0, settings.warm_up)?;
    }
    say("ready")?;
    if hear()?.is_none() {
        return Ok(());
    }
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let mut seen = crowd.run(settings.warm_up, settings.requests)?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    seen.latency_ns.sort_unstable();
    let at = |part: f64| {
        let last = seen.latency_ns.len() - 1;
        f64::from(seen.latency_ns[(last as f64 * part) as usize]) / 1e6
    };
    let answers = seen.latency_ns.len();
    let report = json!({
        "answers": answers, "matched": seen.matched, "others": seen.others, "odd": seen.odd, "seconds": seconds,
        "requests_per_second": answers as f64 / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
        "client_cpu_us": cpu * 1e6 / answers as f64, "client_busy": cpu / seconds,
        "request_bytes": requests.get(0).len(), "answer_bytes": crowd.answer_bytes,
    });
    say(&report.to_string())?;
    hear().map(drop)
}

struct Crowd<'a> {
    settings: &'a Settings,
    requests: &'a Requests,
    epoll: std::os::fd::OwnedFd,
    conns: Vec<Conn>,
    head_end: Finder<'static>,
    marker: Finder<'static>,
    answer_bytes: usize,
}

impl<'a> Crowd<'a> {
    fn connect(settings: &'a Settings, requests: &'a Requests) -> Outcome<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut conns = Vec::with_capacity(settings.connections);
        for number in 0..settings.connections {
            let stream = TcpStream::connect(settings.to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(number as u64), EventFlags::IN)?;
            conns.push(Conn { stream, sent: Instant::now(), early: Vec::new() });
        }
        Ok(Self {
            settings,
            requests,
            epoll,
            conns,
            head_end: Finder::new(b"\r\n\r\n"),
            marker: Finder::new(settings.marker.as_bytes()).into_owned(),
            answer_bytes: 0,
        })
    }

    /// Sends requests `from..from + count`, one at a time on each connection, and takes
    /// all answers.
    fn run(&mut self, from: usize, count: usize) -> Outcome<Seen> {
        let mut seen = Seen { latency_ns: Vec::with_capacity(count), ..Seen::default() };
        let end = from + count;
        let mut next = from;
        for number in 0..self.conns.len().min(count) {
            self.send(number, next, Instant::now())?;
            next += 1;
        }
        let mut events = Vec::with_capacity(self.conns.len());
        let mut scratch = vec![0; ANSWER_BYTES_MAX];
        while seen.latency_ns.len() < count {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&PATIENCE))?;
            if events.is_empty() {
                return Err(format!("no answer for {} s", PATIENCE.tv_sec).into());
            }
            for event in &events {
                // A copy, for the struct is packed.
                let data = event.data;
                let number = data.u64() as usize;
                let Some(now) = self.receive(number, &mut scratch, &mut seen)? else { continue };
                if next < end {
                    self.send(number, next, now)?;
                    next += 1;
                }
            }
        }
        Ok(seen)
    }

    fn send(&mut self, number: usize, request: usize, now: Instant) -> Outcome<()> {
        let conn = &mut self.conns[number];
        conn.sent = now;
        let bytes = self.requests.get(request);
        if conn.stream.write(bytes)? != bytes.len() {
            return Err("a request did not fit into the socket's buffer".into());
        }
        Ok(())
    }

    /// Reads what has arrived; returns the time, if an answer is complete.
    fn receive(&mut self, number: usize, scratch: &mut [u8], seen: &mut Seen) -> Outcome<Option<Instant>> {
        let conn = &mut self.conns[number];
        let early = conn.early.len();
        scratch[..early].copy_from_slice(&conn.early);
        let read = match conn.stream.read(&mut scratch[early..]) {
            Ok(0) => return Err(format!("the server closed connection {number}").into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bytes = &scratch[..early + read];
        let Some(body) = body_of(bytes, &self.head_end)? else {
            conn.early.clear();
            conn.early.extend_from_slice(bytes);
            return Ok(None);
        };
        conn.early.clear();
        if body.end != bytes.len() {
            return Err("there is something behind an answer".into());
        }
        let now = Instant::now();
        seen.latency_ns.push(u32::try_from((now - conn.sent).as_nanos()).unwrap_or(u32::MAX));
        self.answer_bytes = bytes.len();
        let status = &bytes[9..12];
        let right = status == self.settings.status.as_bytes() && self.marker.find(&bytes[body]).is_some();
        if right {
            seen.matched += 1;
        } else {
            let status = String::from_utf8_lossy(status).into_owned();
            *seen.others.entry(status).or_default() += 1;
            seen.odd.get_or_insert_with(|| String::from_utf8_lossy(bytes).into_owned());
        }
        Ok(Some(now))
    }
}

/// Opens connections, has each served once, all at the same time, and keeps them.
fn idle(settings: &Settings) -> Outcome<()> {
    let requests = settings.prepare()?;
    let mut conns = Vec::with_capacity(settings.connections);
    for _ in 0..settings.connections {
        conns.push(TcpStream::connect(settings.to)?);
    }
    for (number, conn) in conns.iter_mut().enumerate() {
        conn.write_all(requests.get(number))?;
    }
    let head_end = Finder::new(b"\r\n\r\n");
    let mut scratch = vec![0; ANSWER_BYTES_MAX];
    let mut matched = 0;
    for conn in &mut conns {
        let mut have = 0;
        let body = loop {
            let read = conn.read(&mut scratch[have..])?;
            have += read;
            if read == 0 {
                return Err("the server closed a connection".into());
            }
            if let Some(body) = body_of(&scratch[..have], &head_end)? {
                break body;
            }
        };
        let right = &scratch[9..12] == settings.status.as_bytes();
        matched += usize::from(right && Finder::new(&settings.marker).find(&scratch[body]).is_some());
    }
    say(&json!({ "answers": conns.len(), "matched": matched }).to_string())?;
    if hear()?.is_none() {
        return Ok(());
    }
    // A connection that was closed meanwhile reads an end; one that is still open would have to
    // wait.
    let mut open = 0;
    for conn in &mut conns {
        conn.set_nonblocking(true)?;
        let kind = conn.read(&mut scratch).map_err(|error| error.kind());
        open += usize::from(kind == Err(ErrorKind::WouldBlock));
    }
    say(&json!({ "open": open }).to_string())?;
    hear().map(drop)
}
