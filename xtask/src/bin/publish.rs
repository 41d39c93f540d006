//! The publishers of `cargo xtask bench notify`: each has a connection, posts one event or one
//! batch, waits until it is stored, and posts the next. It speaks the message service's HTTP, the
//! protocol of NATS (docs.nats.io/reference/reference-protocols/nats-protocol) and AMQP 0-9-1, so
//! that all have the same client. It does not know what it measures.
//!
//! It prints `ready`, waits for a line, works, and prints the result as one line of JSON.
#![expect(clippy::print_stderr, reason = "it talks to the bench that started it")]

#[path = "../amqp.rs"]
mod amqp;
#[path = "../answers.rs"]
mod answers;
#[path = "../clients.rs"]
mod clients;

use amqp::Confirmed;
use answers::{ANSWER_BYTES_MAX, body_of};
use clients::{Outcome, cpu_seconds, hear, say};
use memchr::memmem::Finder;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};
use serde_json::json;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The time after which the server counts as dead.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// Bytes of an event in the JSON format, which is what both servers are sent.
const EVENT_BYTES: usize = 1024;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match Settings::read(&args).and_then(|settings| publish(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("publish: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Nats,
    Amqp,
}

struct Settings {
    to: SocketAddr,
    protocol: Protocol,
    producers: usize,
    /// Events of a request.
    batch: usize,
    /// It ends after this time, or after so many events.
    time: Duration,
    events: u64,
    keys: u64,
    /// The topic, the subject, or the queue.
    topic: String,
    api_key: String,
    /// Differs from run to run, so that no event is a repetition.
    run: String,
}

impl Settings {
    fn read(args: &[String]) -> Outcome<Self> {
        let text = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
        let count = |name: &str, default: u64| text(name).map_or(Ok(default), |n| n.parse::<u64>());
        let needed = |name: &str| text(name).ok_or_else(|| format!("{name} is missing"));
        Ok(Self {
            to: needed("--to")?.parse()?,
            protocol: match () {
                () if args.iter().any(|arg| arg == "--nats") => Protocol::Nats,
                () if args.iter().any(|arg| arg == "--amqp") => Protocol::Amqp,
                () => Protocol::Http,
            },
            producers: count("--producers", 64)? as usize,
            batch: count("--batch", 1)? as usize,
            time: Duration::from_millis(count("--ms", 3_600_000)?),
            events: count("--events", u64::MAX)?,
            keys: count("--keys", 1000)?,
            topic: needed("--topic")?,
            api_key: text("--api-key").unwrap_or_default(),
            run: needed("--run")?,
        })
    }

    /// A whole event. The key is the order: events of one key are delivered one after the other.
    fn event(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let (run, key) = (&self.run, number % self.keys);
        let head = format!(
            r#"{{"specversion":"1.0","type":"bench","source":"/bench","id":"{run}-{number}","partitionkey":"key-{key}","datacontenttype":"application/json","data":{{"filler":""#
        );
        out.extend_from_slice(head.as_bytes());
        out.resize(start + EVENT_BYTES - 3, b'x');
        out.extend_from_slice(br#""}}"#);
    }

    /// The request for these events.
    fn request(&self, producer: usize, first: u64, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Http => self.http(first, out),
            Protocol::Nats => self.nats(producer, first, out),
            Protocol::Amqp => self.amqp(first, out),
        }
    }

    fn amqp(&self, first: u64, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(EVENT_BYTES);
        for number in first..first + self.batch as u64 {
            body.clear();
            self.event(number, &mut body);
            amqp::publish(&self.topic, &body, out);
        }
    }

    fn http(&self, first: u64, out: &mut Vec<u8>) {
        let (kind, length) = match self.batch {
            1 => ("application/cloudevents+json", EVENT_BYTES),
            batch => ("application/cloudevents-batch+json", batch * (EVENT_BYTES + 1) + 1),
        };
        let head = format!(
            "POST /api/v1/topics/{}/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n",
            self.topic, self.api_key
        );
        out.extend_from_slice(head.as_bytes());
        if self.batch == 1 {
            return self.event(first, out);
        }
        for number in first..first + self.batch as u64 {
            out.push(if number == first { b'[' } else { b',' });
            self.event(number, out);
        }
        out.push(b']');
    }

    /// One message with an inbox for the acknowledgement, or an atomic batch (ADR-50), of which
    /// the last message has it.
    fn nats(&self, producer: usize, first: u64, out: &mut Vec<u8>) {
        let (subject, inbox) = (&self.topic, inbox(producer));
        for at in 1..=self.batch {
            let is_last = at == self.batch;
            let reply = if is_last { format!(" {inbox}") } else { String::new() };
            if self.batch == 1 {
                out.extend_from_slice(format!("PUB {subject}{reply} {EVENT_BYTES}\r\n").as_bytes());
            } else {
                let commit = if is_last { "Nats-Batch-Commit:1\r\n" } else { "" };
                let head = format!(
                    "NATS/1.0\r\nNats-Batch-Id:{}-{first}\r\nNats-Batch-Sequence:{at}\r\n{commit}\r\n",
                    self.run
                );
                let (of_head, all) = (head.len(), head.len() + EVENT_BYTES);
                out.extend_from_slice(format!("HPUB {subject}{reply} {of_head} {all}\r\n{head}").as_bytes());
            }
            self.event(first + at as u64 - 1, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn inbox(producer: usize) -> String {
    format!("_INBOX.bench.{producer}")
}

struct Producer {
    stream: TcpStream,
    sent: Instant,
    request: Vec<u8>,
    /// Bytes of it that the socket has taken.
    written: usize,
    /// The start of an answer that is not whole.
    early: Vec<u8>,
    /// Of AMQP: what it has published, and what of it is confirmed.
    published: u64,
    confirmed: Confirmed,
}

fn connect(settings: &Settings, producer: usize) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(settings.to)?;
    stream.set_nodelay(true)?;
    if settings.protocol == Protocol::Amqp {
        amqp::begin(&mut stream, &settings.topic)?;
    }
    if settings.protocol == Protocol::Nats {
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"rust\",\
             \"version\":\"1\",\"protocol\":1}}\r\nSUB {} 1\r\nPING\r\n",
            inbox(producer)
        );
        stream.write_all(hello.as_bytes())?;
        let mut seen = Vec::new();
        while memchr::memmem::find(&seen, b"PONG\r\n").is_none() {
            let mut some = [0; 4096];
            let read = stream.read(&mut some)?;
            seen.extend_from_slice(&some[..read]);
            if read == 0 || memchr::memmem::find(&seen, b"-ERR").is_some() {
                return Err(format!("NATS said {:?}", String::from_utf8_lossy(&seen)).into());
            }
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

struct Crowd<'a> {
    settings: &'a Settings,
    epoll: OwnedFd,
    producers: Vec<Producer>,
    head_end: Finder<'static>,
    /// The number of the next event.
    next: u64,
    latency_ns: Vec<u32>,
}

fn publish(settings: &Settings) -> Outcome<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut producers = Vec::with_capacity(settings.producers);
    for number in 0..settings.producers {
        let stream = connect(settings, number)?;
        let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&epoll, &stream, EventData::new_u64(number as u64), wanted)?;
        producers.push(Producer {
            stream,
            sent: Instant::now(),
            request: Vec::new(),
            written: 0,
            early: Vec::new(),
            published: 0,
            confirmed: Confirmed::default(),
        });
    }
    let head_end = Finder::new(b"\r\n\r\n");
    let mut crowd = Crowd { settings, epoll, producers, head_end, next: 0, latency_ns: Vec::new() };
    say("ready")?;
    if hear()?.is_none() {
        return Ok(());
    }
    let (started, cpu) = (Instant::now(), cpu_seconds());
    crowd.run(started)?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    crowd.latency_ns.sort_unstable();
    let at = |part: f64| {
        let last = crowd.latency_ns.len().saturating_sub(1) as f64;
        crowd.latency_ns.get((last * part) as usize).map_or(0.0, |ns| f64::from(*ns) / 1e6)
    };
    let events = crowd.latency_ns.len() * settings.batch;
    let report = json!({
        "events": events, "seconds": seconds, "events_per_second": events as f64 / seconds,
        "p50_ms": at(0.5), "p99_ms": at(0.99), "client_busy": cpu / seconds,
    });
    say(&report.to_string())?;
    hear().map(drop)
}

impl Crowd<'_> {
    fn is_over(&self, now: Instant, started: Instant) -> bool {
        now - started >= self.settings.time || self.next >= self.settings.events
    }

    fn run(&mut self, started: Instant) -> Outcome<()> {
        let mut open = 0_usize;
        for number in 0..self.producers.len() {
            if !self.is_over(Instant::now(), started) {
                self.post(number, Instant::now())?;
                open += 1;
            }
        }
        let mut events = Vec::with_capacity(self.producers.len());
        let mut scratch = vec![0; ANSWER_BYTES_MAX];
        while open > 0 {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&PATIENCE))?;
            if events.is_empty() {
                return Err(format!("no answer for {} s", PATIENCE.tv_sec).into());
            }
            for event in &events {
                // Copies, for the struct is packed.
                let (data, flags) = (event.data, event.flags);
                let number = data.u64() as usize;
                if flags.contains(EventFlags::OUT) {
                    self.write(number)?;
                }
                while let Some(now) = self.receive(number, &mut scratch)? {
                    if self.is_over(now, started) {
                        open -= 1;
                        break;
                    }
                    self.post(number, now)?;
                }
            }
        }
        Ok(())
    }

    fn post(&mut self, number: usize, now: Instant) -> Outcome<()> {
        let producer = &mut self.producers[number];
        producer.sent = now;
        producer.written = 0;
        producer.published += self.settings.batch as u64;
        producer.request.clear();
        self.settings.request(number, self.next, &mut producer.request);
        self.next += self.settings.batch as u64;
        self.write(number)
    }

    /// Writes what the socket takes. The rest follows when it takes more.
    fn write(&mut self, number: usize) -> Outcome<()> {
        let producer = &mut self.producers[number];
        while producer.written < producer.request.len() {
            match producer.stream.write(&producer.request[producer.written..]) {
                Ok(written) => producer.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has arrived; returns the time, if an answer is complete.
    fn receive(&mut self, number: usize, scratch: &mut [u8]) -> Outcome<Option<Instant>> {
        let producer = &mut self.producers[number];
        let read = match producer.stream.read(scratch) {
            Ok(0) => return Err(format!("the server closed connection {number}").into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        producer.early.extend_from_slice(&scratch[..read]);
        let is_stored = match self.settings.protocol {
            Protocol::Http => http_answer(&mut producer.early, &self.head_end)?,
            Protocol::Nats => nats_answer(producer)?,
            Protocol::Amqp => producer.confirmed.read(&mut producer.early)? == producer.published,
        };
        if !is_stored {
            // More may have arrived: an edge is told once.
            return self.receive(number, scratch);
        }
        let now = Instant::now();
        let ns = (now - producer.sent).as_nanos();
        self.latency_ns.push(u32::try_from(ns).unwrap_or(u32::MAX));
        Ok(Some(now))
    }
}

/// Whether the answer is there. Any other than "stored" is an error.
fn http_answer(early: &mut Vec<u8>, head_end: &Finder<'_>) -> Outcome<bool> {
    let Some(body) = body_of(early, head_end)? else { return Ok(false) };
    let is_new = memchr::memmem::find(&early[body], br#""is_repeat":true"#).is_none();
    if early.get(9..12) != Some(b"202") || !is_new {
        return Err(format!("not stored: {}", String::from_utf8_lossy(early)).into());
    }
    early.clear();
    Ok(true)
}

/// The same of NATS, whose answer is a message to the inbox; its pings are answered.
fn nats_answer(producer: &mut Producer) -> Outcome<bool> {
    let early = &mut producer.early;
    while let Some(end) = memchr::memmem::find(early, b"\r\n") {
        let line = &early[..end];
        if line == b"PING" {
            producer.stream.write_all(b"PONG\r\n")?;
            early.drain(..end + 2);
            continue;
        }
        if line.starts_with(b"PONG") || line.starts_with(b"INFO") {
            early.drain(..end + 2);
            continue;
        }
        let length = std::str::from_utf8(line)?.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
        let (true, Some(length)) = (line.starts_with(b"MSG "), length) else {
            return Err(format!("NATS said {:?}", String::from_utf8_lossy(early)).into());
        };
        let all = end + 2 + length + 2;
        if early.len() < all {
            return Ok(false);
        }
        let said = &early[end + 2..end + 2 + length];
        if memchr::memmem::find(said, br#""seq":"#).is_none()
            || memchr::memmem::find(said, b"error").is_some()
        {
            return Err(format!("not stored: {}", String::from_utf8_lossy(said)).into());
        }
        early.drain(..all);
        return Ok(true);
    }
    Ok(false)
}
