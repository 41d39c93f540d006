//! A small context that uses this crate alone: one hot route that answers at once, one whose answer
//! comes from another thread, and one ordinary route. It has the same protection as the flash sale.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use units::TimeMs;
use web::{
    api_keys::ApiKeys,
    config::{AddressLimits, ConnectionsConfig},
    cors::Cors,
    limits::{AddressFilter, DenyList, Reason},
    metrics::{self, Naming, Registry, ServerMetrics},
    operation::{Access, Callers, Text, get},
    pressure::{Memory, Pressure},
    problem::{INVALID, KINDS, Kind, Problem, RATE_LIMITED},
    protection::{Counters, Policy, Protection},
    server::{Buffers, Listening, listen},
    wire::{Before, Hot, HotRequest, Io, Loops, Served, Token},
};

/// Counts what every server counts, under the context's own names.
struct Counted {
    registry: Registry,
    metrics: ServerMetrics,
}

impl Counted {
    fn new() -> Self {
        let (mut registry, naming) = (Registry::default(), Naming { prefix: "doubler", section: "doubler" });
        let metrics = ServerMetrics::new(naming, KINDS, &["hello"], &mut registry);
        Self { registry, metrics }
    }
}

impl Policy for Counted {
    fn keeps(&self, _: &'static str) -> bool {
        true
    }
    fn took(&self, operation: &'static str, time: Duration) {
        self.metrics.took(operation, time);
    }
    fn refused(&self, kind: &'static Kind) {
        self.metrics.refused(kind);
    }
}

/// Doubles numbers: `POST /now` at once, `POST /later` on another thread.
struct Doubler(Arc<Protection>);

impl Hot for Doubler {
    type Letter = (u64, u64);
    const FIELDS: &'static [&'static str] = &["x-unit"];

    fn is_hot(target: &str) -> bool {
        target == "/now" || target == "/later"
    }

    fn head(&mut self, io: &mut Io<Self::Letter>, asked: &HotRequest<'_>) -> Before {
        if asked.head.method != "POST" {
            return Before::Other;
        }
        match self.0.addresses.ask(asked.address, 1, asked.now) {
            Ok(()) => Before::Body { bytes_max: 20 },
            Err(too_many) => {
                let problem = Problem::new(&RATE_LIMITED, "too many").retry_after(too_many.wait_seconds);
                io.refuse(asked.conn, &problem, false);
                Before::Answered
            }
        }
    }

    fn request(&mut self, io: &mut Io<Self::Letter>, asked: &HotRequest<'_>, body: &[u8]) -> Served {
        let number = std::str::from_utf8(body).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(number) = number else {
            io.refuse(asked.conn, &Problem::new(&INVALID, "body: want a number"), false);
            return Served::Answered;
        };
        let unit = asked.head.fields.own[0].map_or(2, |unit| unit.len() as u64);
        if asked.head.target == "/now" {
            io.json(asked.conn, "200 OK", None, false, |out| web::wire::number(out, number * unit));
            return Served::Answered;
        }
        io.wait(asked.conn);
        let (inbox, conn) = (Arc::clone(io.inbox()), asked.conn.to_u64());
        io.runtime().spawn(async move { inbox.tell([(conn, number * unit)]) });
        Served::Waits
    }

    fn letter(&mut self, io: &mut Io<Self::Letter>, (conn, doubled): Self::Letter) {
        let conn = Token::from_u64(conn);
        let Some(close) = io.begin_answer(conn) else { return };
        io.json(conn, "200 OK", None, close, |out| web::wire::number(out, doubled));
        io.end_answer(conn, close);
    }

    fn turn(&mut self, _: &mut Io<Self::Letter>) {}
    fn end_of_turn(&mut self, _: &mut Io<Self::Letter>) {}
    fn due(&self) -> Option<Instant> {
        None
    }
}

struct Running {
    at: SocketAddr,
    protection: Arc<Protection>,
    drain: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
    loops: Option<Loops<(u64, u64)>>,
    _dir: tempfile::TempDir,
}

impl Running {
    fn start(limits: &AddressLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (drain, draining) = watch::channel(false);
        let memory = Memory { resident_bytes: Arc::new(|| 0), limit_bytes: 1 << 30 };
        let settings = ConnectionsConfig { threads: 1, open_max: 100, ..ConnectionsConfig::default() };
        let policy = Arc::new(Counted::new());
        let denied = DenyList::open(dir.path()).unwrap();
        let protection = Arc::new(Protection {
            section: "doubler",
            addresses: Arc::new(AddressFilter::new(limits, settings.open_max, false, denied)),
            pressure: Arc::new(Pressure::new(memory, 50, settings.open_max)),
            cors: Arc::new(Cors::new(&[], "content-type")),
            api_keys: Arc::new(ApiKeys::open(dir.path()).unwrap()),
            counters: Counters::default(),
            policy: Arc::clone(&policy) as _,
            draining,
            turn_ms_max: AtomicU32::new(0),
            is_https: false,
            clock: Arc::new(|| TimeMs(1_000_000)),
            settings,
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let buffers = Buffers { receive_bytes: 16 << 10, send_bytes: 64 << 10 };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listeners, at) = listen("test", any, 16, 1, false, buffers).unwrap();
        let loops = runtime.block_on(async {
            let counted = Arc::clone(&protection);
            let figures = move || {
                let mut now = Registry::default();
                policy.metrics.read(&counted, &mut now);
                std::future::ready(metrics::answer(&[&policy.registry, &now]))
            };
            let operations = vec![
                get("/hello", "hello", Access::Open, || async { "hello" })
                    .does("Greets.")
                    .replies_as::<Text>("text/plain", "A greeting."),
                get("/metrics", "metrics", Access::Open, figures),
            ];
            let listening = Arc::new(Listening::new(&protection, operations, (), Callers::Public, 100));
            let (to_axum, from_loops) = mpsc::channel(100);
            let doubler = |_: &_| Doubler(Arc::clone(&protection));
            let loops = Loops::start(&protection, listeners, listening.permits(), &to_axum, doubler).unwrap();
            tokio::spawn(listening.serve_travelling(from_loops));
            loops
        });
        Self { at, protection, drain, runtime, loops: Some(loops), _dir: dir }
    }

    /// Sends a request on a connection and reads one answer.
    fn ask(&self, stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.drain.send(true);
        let loops = self.loops.take();
        self.runtime.block_on(async { tokio::task::spawn_blocking(|| loops.map(Loops::end)).await }).unwrap();
    }
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn hot_and_ordinary_requests_share_one_connection() {
    let server = Running::start(&AddressLimits::default());
    let mut stream = server.connect();
    for (request, want) in [
        (post("/now", "21"), "\r\n\r\n42"),
        (post("/later", "4"), "\r\n\r\n8"),
        ("GET /hello HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "\r\n\r\nhello"),
        (post("/now", "5").replace("host", "X-Unit: abc\r\nhost"), "\r\n\r\n15"),
        (post("/now", "x"), "want a number"),
        ("GET /now HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "/problems#not-found"),
        (post("/later", "1"), "\r\n\r\n2"),
        (post("/now", &"1".repeat(21)), "/problems#body-too-large"),
    ] {
        let answer = server.ask(&mut stream, &request);
        assert!(answer.contains(want), "{request:?}: {answer}");
    }
    let figures = server.ask(&mut server.connect(), "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
    for line in [
        "doubler_refusals_total{problem=\"invalid\"} 1\n",
        "doubler_refusals_total{problem=\"not-found\"} 1\n",
        "doubler_refusals_total{problem=\"body-too-large\"} 1\n",
        "doubler_request_seconds_count{route=\"hello\"} 1\n",
        "doubler_request_seconds_count{route=\"none\"} 1\n",
        "doubler_memory_mark_bytes 536870900\n",
        "# HELP doubler_connections_refused_total Connections over doubler.connections.open_max.\n",
    ] {
        assert!(figures.contains(line), "{line}{figures}");
    }
}

#[test]
fn a_new_contexts_callers_have_limits_without_code_of_its_own() {
    let limits = AddressLimits {
        address_per_second: 1,
        address_burst: 2,
        address_connections_max: 3,
        ..AddressLimits::default()
    };
    let server = Running::start(&limits);
    let mut stream = server.connect();
    let statuses: Vec<String> =
        (0..3).map(|_| server.ask(&mut stream, &post("/now", "1"))[9..12].to_owned()).collect();
    assert_eq!(statuses, ["200", "200", "429"]);
    assert_eq!(server.protection.addresses.count_of(Reason::ADDRESS_RATE), 1);

    let _two = [server.connect(), server.connect()];
    let mut fourth = server.connect();
    assert_eq!(fourth.read(&mut [0; 1]).unwrap(), 0, "the address is at its limit of connections");
}

#[test]
fn a_runtime_whose_tasks_are_late_counts_as_a_loop_with_a_long_turn() {
    let server = Running::start(&AddressLimits::default());
    // While no connection is open it is measured once a second.
    let mut stream = server.connect();
    server.ask(&mut stream, &post("/now", "1"));
    server.runtime.spawn(Arc::clone(&server.protection).note_lateness());
    std::thread::sleep(Duration::from_millis(250));
    server.protection.turn_ms_max.store(0, Ordering::Relaxed);
    // Its one thread does something else for longer than there is between two measurements.
    server.runtime.spawn(async { std::thread::sleep(Duration::from_millis(500)) });
    let asked = Instant::now();
    while server.protection.turn_ms_max.load(Ordering::Relaxed) < 300 {
        assert!(asked.elapsed() < Duration::from_secs(20), "it was not noted");
        std::thread::sleep(Duration::from_millis(10));
    }
}
