//! Hostile crowds, as large as descriptors allow: they cost the process at most the memory stated
//! here, an honest shopper buys meanwhile, and none of their connections is left open.

use crate::harness::{Server, Setup, poll, shop};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};

/// Descriptors for everything else in either process, including tests that run at the same time.
const SPARE: u64 = 2000;

/// Raises the limit of descriptors of this process, and returns how many connections that allows,
/// up to this many.
fn connections(wanted: u64) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let count = limit.maximum.map_or(wanted, |max| wanted.min(max.saturating_sub(SPARE)));
    assert!(count >= 500, "the hard limit of open files is too low for any crowd: {limit:?}");
    count as usize
}

/// What a crowd does with the sockets that it holds; `@attempt` is the head of an attempt without
/// its framing.
enum Crowd {
    /// Sends these bytes, and then nothing.
    Sends(String),
    /// Sends requests without reading the answers, until nothing more is taken.
    AsksOn(String),
    /// The gate ends it by itself.
    IsEnded(String),
}

struct Shop {
    server: Server,
    sale: shop::Sale,
    pass: String,
}

impl Shop {
    fn open(patience_seconds: u32) -> Self {
        let settings = format!(
            "\n[gate.connections]\nheader_timeout_seconds = {patience_seconds}\nbody_timeout_seconds = {patience_seconds}\n"
        );
        let server = Server::with(Setup { settings, ..Setup::default() });
        let sale = server.open_sale("launch", &shop::spec(&[("phone", 1000)]));
        let pass = server.pass("launch", "honest");
        Self { server, sale, pass }
    }

    /// The head of an attempt without its framing.
    fn attempt(&self) -> String {
        let path = self.sale.attempts_url.split_once(&self.server.shop).unwrap().1;
        let pass = &self.pass;
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: crowd\r\n\
             Content-Type: application/json\r\n"
        )
    }

    fn resident_kib(&self) -> u64 {
        let pid = self.server.pid().as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn open_connections(&self) -> usize {
        let metrics = self.server.client.get(&self.server.admin_url("/metrics")).body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("floodgate_gate_connections "));
        line.unwrap().parse().unwrap()
    }

    fn is_alone(&self) {
        poll("the end of all connections", || (self.open_connections() == 0).then_some(()));
    }

    /// A crowd connects, an honest shopper buys, and the crowd ends. Each connection may cost this
    /// much memory.
    #[track_caller]
    fn check(&self, name: &str, count: usize, crowd: &Crowd, kib_each_max: u64) {
        self.is_alone();
        let before = self.resident_kib();
        let (Crowd::Sends(bytes) | Crowd::AsksOn(bytes) | Crowd::IsEnded(bytes)) = crowd;
        let bytes = bytes.replace("@attempt", &self.attempt());
        let held: Vec<TcpStream> = (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(&self.server.shop).unwrap();
                if matches!(crowd, Crowd::AsksOn(_)) {
                    stream.set_nonblocking(true).unwrap();
                    let mut taken = 0;
                    loop {
                        // The kernel's buffers on both sides take far less.
                        assert!(taken < 64 << 20, "{name}: it reads without end");
                        match stream.write(bytes.as_bytes()) {
                            Ok(written) => taken += written,
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) => panic!("{name}: {error}"),
                        }
                    }
                } else {
                    // A client that is refused early may not be able to send everything.
                    let _ = stream.write_all(bytes.as_bytes());
                }
                stream
            })
            .collect();
        if !matches!(crowd, Crowd::IsEnded(_)) {
            poll(name, || (self.open_connections() >= count).then_some(()));
        }
        let bought = self.sale.granted(&self.pass, &name.replace(" ", "-"), "phone");
        let hold = shop::hold(&bought, "release");
        self.server.admin("POST", &hold, &serde_json::json!({ "reason": "for the next crowd" }));
        let grown = self.resident_kib().saturating_sub(before);
        let most = 4096 + count as u64 * kib_each_max;
        assert!(grown <= most, "{name}: {count} cost {grown} KiB, want {most} at the most");
        if matches!(crowd, Crowd::AsksOn(_)) {
            held.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            drop(held);
            return self.is_alone();
        }
        // The clients stay, and the gate ends their connections; otherwise the crowd would have
        // ended them itself.
        self.is_alone();
        drop(held);
    }
}

#[test]
fn ten_thousand_half_open_connections_cost_little_and_hinder_no_shopper() {
    let shop = Shop::open(6);
    let count = connections(10_000);
    shop.check("half open", count, &Crowd::Sends("GET /api/v1/sales/launch HTTP/1.1\r\nHo".into()), 3);
}

#[test]
fn hostile_crowds_cost_little_and_hinder_no_shopper() {
    connections(10_000);
    let get = "GET /api/v1/sales/launch HTTP/1.1\r\nHost: a\r\n".to_owned();
    let attempt = "@attemptContent-Length: ";
    let crowds = [
        ("heads without end", 1000, Crowd::Sends(format!("{get}X: {}", "x".repeat(8000))), 20),
        ("bodies without end", 1000, Crowd::Sends(format!("{attempt}4000\r\n\r\n{}", " ".repeat(3000))), 12),
        (
            "chunks without end",
            500,
            Crowd::Sends(format!("@attemptTransfer-Encoding: chunked\r\n\r\n800\r\n{}", " ".repeat(1000))),
            64,
        ),
        ("4 GiB announced", 1000, Crowd::IsEnded(format!("{attempt}4294967296\r\n\r\n")), 4),
        ("bombs", 1000, Crowd::IsEnded(format!("{get}X: {}", "x".repeat(64_000))), 8),
        ("slow readers", 200, Crowd::AsksOn(format!("{get}\r\n").repeat(100)), 150),
    ];
    shop::in_parallel(3, &crowds, |(name, count, crowd, kib_each_max)| {
        // On a process that has not had a crowd yet: freed memory would hide the cost of this
        // crowd.
        Shop::open(2).check(name, *count, crowd, *kib_each_max);
    });
}
