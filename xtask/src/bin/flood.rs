//! The sender of `cargo xtask bench flood`: offers requests from many addresses at a rate that no
//! answer slows down, several in a row on connections that are kept, and one on each of others that
//! are new. Requests that the sockets do not take are not sent, and are reported.
//!
//! It prints `ready` once its connections are open, begins at the next line, and ends at the one
//! after, or at the end of its input.
#![expect(clippy::print_stderr, reason = "it talks to the bench that started it")]

#[path = "../clients.rs"]
mod clients;

use clients::{Outcome, cpu_seconds, hear, say};
use memchr::memmem::Finder;
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
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Requests that are written in a row on a connection that is kept.
const IN_A_ROW: usize = 10;
/// One in this many turns is for a new connection.
const NEW_EVERY: usize = 50;
/// New connections that have had no answer yet.
const NEW_MAX: usize = 4000;
/// Requests that are late by this much are no longer offered.
const BEHIND_MAX: Duration = Duration::from_millis(100);

static ENDS: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match work(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(args: &[String]) -> Outcome<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let text = |name: &str| {
        let at = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
        at.cloned().ok_or_else(|| format!("{name} is missing"))
    };
    let pass: Value =
        serde_json::from_str(fs::read_to_string(text("--passes")?)?.lines().next().unwrap_or(""))?;
    let pass = pass["pass"].as_str().ok_or("--passes has no pass")?;
    let rate: f64 = text("--per-second")?.parse()?;
    let mut flood = Flood::new(
        text("--to")?.parse()?,
        text("--addresses")?.parse()?,
        kinds(&text("--document")?, &text("--path")?, pass),
    )?;
    flood.connect_all()?;
    say("ready")?;
    if hear()?.is_none() {
        return Ok(());
    }
    std::thread::spawn(|| {
        let _ = hear();
        ENDS.store(true, Ordering::Relaxed);
    });
    let report = flood.run(rate)?;
    say(&report.to_string())
}

/// A request of each kind: wrong round keys, forged passes, attempts of one shopper again and
/// again, and documents.
fn kinds(document: &str, path: &str, pass: &str) -> Vec<Vec<u8>> {
    let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
    let post = |path: &str, pass: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: flood/1\r\nAccept: */*\r\nContent-Type: application/json\r\n\
             Floodgate-Pass: {pass}\r\nIdempotency-Key: flood-0123456789\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let other = |text: &str, at: usize| {
        let mut text = text.to_owned();
        let letter = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        text.replace_range(at..=at, letter);
        text
    };
    let key_at = path.find("/rounds/").map_or(0, |at| at + "/rounds/".len());
    let get = format!(
        "GET {document} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: flood/1\r\nAccept: */*\r\n\r\n"
    );
    [post(&other(path, key_at), pass), post(path, &other(pass, pass.len() - 8)), post(path, pass), get]
        .map(String::into_bytes)
        .into()
}

struct Conn {
    stream: TcpStream,
    address: usize,
    /// Bytes of its requests that the socket has taken, counted from the start of one.
    taken: usize,
    is_new: bool,
}

#[derive(Default)]
struct Counts {
    due: u64,
    tried: u64,
    sent: u64,
    /// Answers by status.
    answers: BTreeMap<String, u64>,
    opened: u64,
    unopened: u64,
    ended: u64,
}

struct Flood {
    to: SocketAddrV4,
    addresses: usize,
    /// One request of each kind, and as many in a row as are written at once.
    kinds: Vec<(usize, Vec<u8>)>,
    epoll: OwnedFd,
    /// The connections that are kept, by address, and after them the new ones.
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    turn: usize,
    counts: Counts,
    status: Finder<'static>,
}

impl Flood {
    fn new(to: SocketAddrV4, addresses: usize, kinds: Vec<Vec<u8>>) -> Outcome<Self> {
        let mut conns = Vec::new();
        conns.resize_with(addresses + NEW_MAX, || None);
        Ok(Self {
            to,
            addresses,
            kinds: kinds.into_iter().map(|one| (one.len(), one.repeat(IN_A_ROW))).collect(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            conns,
            free: (addresses..addresses + NEW_MAX).collect(),
            turn: 0,
            counts: Counts::default(),
            status: Finder::new(b"HTTP/1.1 "),
        })
    }

    fn connect_all(&mut self) -> Outcome<()> {
        for address in 0..self.addresses {
            self.connect(address, address, false)?;
            // The listen queue is not measured here.
            if address % 50 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Each address has a network of its own.
    fn connect(&mut self, place: usize, address: usize, is_new: bool) -> Outcome<()> {
        let from = Ipv4Addr::new(127, 20 + (address / 250) as u8, (address % 250) as u8, 1);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let connected = rustix::net::bind(&socket, &SocketAddr::from((from, 0)))
            .and_then(|()| rustix::net::connect(&socket, &self.to));
        if !matches!(connected, Ok(()) | Err(rustix::io::Errno::INPROGRESS)) {
            self.counts.unopened += 1;
            return Ok(());
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
        self.counts.opened += 1;
        self.conns[place] = Some(Conn { stream, address, taken: 0, is_new });
        Ok(())
    }

    fn run(&mut self, rate: f64) -> Outcome<Value> {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let mut events = Vec::with_capacity(1024);
        let mut scratch = vec![0; 256 << 10];
        let behind_max = (rate * BEHIND_MAX.as_secs_f64()) as u64;
        // Requests that are not tried still count as due.
        let mut passed_over = 0;
        while !ENDS.load(Ordering::Relaxed) {
            let due = (rate * started.elapsed().as_secs_f64()) as u64;
            self.counts.due = due;
            let behind = due - passed_over - self.counts.tried.min(due - passed_over);
            passed_over += behind.saturating_sub(behind_max);
            for _ in 0..(behind.min(behind_max) as usize / IN_A_ROW).min(200) {
                self.offer()?;
            }
            events.clear();
            let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&no_wait))?;
            for event in &events {
                // A copy, for the struct is packed.
                let data = event.data;
                self.receive(data.u64() as usize, &mut scratch);
            }
        }
        let Counts { due, tried, sent, answers, opened, unopened, ended } = &self.counts;
        let seconds = started.elapsed().as_secs_f64();
        Ok(json!({
            "seconds": seconds, "cpu_seconds": cpu_seconds() - cpu, "due": due, "tried": tried, "sent": sent,
            "answers": answers, "opened": opened, "unopened": unopened, "ended": ended,
        }))
    }

    /// One turn: requests in a row on a connection that is kept, or a new connection.
    fn offer(&mut self) -> Outcome<()> {
        self.turn += 1;
        let address = self.turn % self.addresses;
        if self.turn.is_multiple_of(NEW_EVERY) {
            self.counts.tried += 1;
            if let Some(place) = self.free.pop() {
                self.connect(place, address, true)?;
                if self.conns[place].is_none() {
                    self.free.push(place);
                }
                self.send(place);
            }
            return Ok(());
        }
        self.counts.tried += IN_A_ROW as u64;
        if self.conns[address].is_none() {
            return self.connect(address, address, false);
        }
        self.send(address);
        Ok(())
    }

    fn send(&mut self, place: usize) {
        let Some(conn) = &mut self.conns[place] else { return };
        let (length, all) = &self.kinds[conn.address % self.kinds.len()];
        let end = if conn.is_new { *length } else { all.len() };
        let begins = conn.taken % length;
        let Ok(written) = conn.stream.write(&all[begins..end]) else { return };
        self.counts.sent += ((begins + written) / length) as u64;
        conn.taken = begins + written;
    }

    fn receive(&mut self, place: usize, scratch: &mut [u8]) {
        let Some(conn) = &mut self.conns[place] else { return };
        match conn.stream.read(scratch) {
            Ok(read) if read > 0 => {
                // An answer that is split in its first twelve bytes is missed; few are.
                for at in self.status.find_iter(&scratch[..read]) {
                    let status = scratch.get(at + 9..(at + 12).min(read)).unwrap_or_default();
                    let status = String::from_utf8_lossy(status).into_owned();
                    *self.counts.answers.entry(status).or_default() += 1;
                }
                if !conn.is_new {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => self.counts.ended += 1,
        }
        if self.conns[place].take().is_some_and(|conn| conn.is_new) {
            self.free.push(place);
        }
    }
}
