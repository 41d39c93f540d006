//! A server that is told to stop answers what had arrived: on its loops, on what they hand over,
//! and on the operators' listener; over TLS in `tls.rs`. Each answer says that the connection ends.

use crate::client::send;
use crate::fake::Running;
use gate::Config;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

const REQUESTS: usize = 64;
const ROUNDS: usize = 6;

fn start(change: impl FnOnce(&mut Config)) -> Running {
    Running::start(true, false, |config| {
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        change(config);
    })
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
}

/// Reads one answer with a length.
fn one_answer(stream: &mut TcpStream) -> String {
    let (mut said, mut byte) = (Vec::new(), [0; 1]);
    while !said.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let head = String::from_utf8(said).unwrap().to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; len.parse().unwrap()]).unwrap();
    head
}

/// What is wrong with the answers on these connections, of which each has one. Those that were
/// asked after the stop also say that the connection ends.
fn wrong(streams: Vec<TcpStream>, after: bool) -> Vec<String> {
    let said = streams.into_iter().map(|mut stream| {
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        (String::from_utf8_lossy(&said).to_ascii_lowercase(), ended)
    });
    let is_wrong = move |(said, ended): &(String, std::io::Result<usize>)| {
        ended.is_err() || !said.starts_with("http/1.1 200") || (after && !said.contains("connection: close"))
    };
    let wrong = said.filter(is_wrong);
    wrong.map(|(said, ended)| format!("{ended:?} {:?}", said.get(..60))).collect()
}

#[test]
fn requests_that_arrived_before_a_stop_are_all_answered() {
    for round in 0..ROUNDS {
        for (what, path) in
            [("loops", "/api/v1/sales/demo"), ("ordinary routes", "/problems"), ("admin", "/healthz")]
        {
            let mut gate = start(|_| {});
            let to = if what == "admin" { gate.bound.admin } else { gate.bound.shop };
            // Half of the connections were served before, and half are new: some of these are
            // still in the kernel's queue.
            let mut streams: Vec<TcpStream> = Vec::new();
            for n in 0..REQUESTS {
                let mut stream = connect(to);
                if n % 2 == 0 {
                    ask(&mut stream, path);
                    one_answer(&mut stream);
                }
                streams.push(stream);
            }
            streams.iter_mut().for_each(|stream| ask(stream, path));
            std::thread::sleep(Duration::from_micros(150 * round as u64));
            gate.tell_to_stop();
            let wrong = wrong(streams, false);
            assert!(wrong.is_empty(), "{what}, round {round}: {} of {REQUESTS}: {wrong:?}", wrong.len());
            gate.stop();
        }
    }
}

#[test]
fn a_request_that_was_under_way_when_the_server_was_told_to_stop_is_answered() {
    for (what, path) in
        [("loops", "/api/v1/sales/demo"), ("ordinary routes", "/problems"), ("admin", "/healthz")]
    {
        let mut gate = start(|_| {});
        let to = if what == "admin" { gate.bound.admin } else { gate.bound.shop };
        let mut idle: Vec<TcpStream> = (0..8).map(|_| connect(to)).collect();
        for stream in &mut idle[..4] {
            ask(stream, path);
            one_answer(stream);
        }
        gate.tell_to_stop();
        std::thread::sleep(Duration::from_millis(100));
        // One more connects, and one has sent half of its request.
        idle.push(connect(to));
        idle.iter_mut().for_each(|stream| ask(stream, path));
        let wrong = wrong(idle, true);
        assert!(wrong.is_empty(), "{what}: {wrong:?}");
        gate.stop();
        assert!(TcpStream::connect(to).is_err(), "{what}: the listener is closed");
    }
}

#[test]
fn idle_connections_of_balancers_are_answered_until_the_end_of_a_drain() {
    let mut gate = start(|config| {
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.connections.drain_seconds = 4;
    });
    let mut pooled: Vec<TcpStream> = (0..6).map(|_| connect(gate.bound.shop)).collect();
    let path = |n: usize| if n.is_multiple_of(2) { "/api/v1/sales/demo" } else { "/problems" };
    for (n, stream) in pooled.iter_mut().enumerate() {
        ask(stream, path(n));
        one_answer(stream);
    }
    gate.tell_to_stop();
    let stopping = Instant::now();
    std::thread::sleep(Duration::from_millis(1800));
    let _unused = pooled.pop();
    for (n, stream) in pooled.iter_mut().enumerate() {
        ask(stream, path(n));
    }
    let wrong = wrong(pooled, true);
    assert!(wrong.is_empty(), "{wrong:?}");
    gate.stop();
    assert!(stopping.elapsed() < Duration::from_secs(6), "{:?}", stopping.elapsed());
}

#[test]
fn idle_connections_do_not_hold_a_stop_up() {
    let mut gate = start(|_| {});
    let mut held: Vec<TcpStream> = [gate.bound.shop, gate.bound.admin].map(connect).into();
    for (path, stream) in ["/problems", "/healthz"].into_iter().zip(&mut held) {
        ask(stream, path);
        one_answer(stream);
    }
    held.extend([gate.bound.shop, gate.bound.admin].map(connect));
    let began = Instant::now();
    gate.stop();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn the_shop_tells_a_balancer_that_it_is_alive() {
    let gate = start(|_| {});
    for at in [gate.bound.shop, gate.bound.admin] {
        let answer = send(at, "GET", "/healthz", &[], "");
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
    }
    // What is for operators stays with them.
    assert_eq!(send(gate.bound.shop, "GET", "/readyz", &[], "").status, 404);
    assert_eq!(send(gate.bound.shop, "GET", "/metrics", &[], "").status, 404);
}
