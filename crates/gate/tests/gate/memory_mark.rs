//! What happens when the process uses too much memory: idle connections are closed first, then new
//! ones, and neither below the mark.

use crate::client::send;
use crate::fake::{MEMORY_LIMIT_BYTES, Running};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

const SALE: &str = "/api/v1/sales/demo";

/// 16 connections may be open, and no connection is closed if only two are.
fn start() -> Running {
    Running::start(true, false, |config| {
        (config.connections.open_max, config.connections.threads) = (16, 1);
        config.connections.memory_mark_percent = 50;
    })
}

fn set_percent(gate: &Running, percent: u64) {
    gate.resident_bytes.store(MEMORY_LIMIT_BYTES / 100 * percent, Relaxed);
}

/// A connection that has been served, and is idle.
fn resting(gate: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(is_served(&mut stream));
    stream
}

fn is_served(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4096];
    stream.write_all(format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).is_ok()
        && stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"))
}

fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn metric(gate: &Running, line: &str) -> u64 {
    let metrics = send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn above_the_memory_mark_idle_connections_are_closed_first_and_then_new_ones() {
    let gate = start();
    // One has sent a part of a request: it is not idle, and stays open.
    let mut busy = resting(&gate);
    busy.write_all(format!("GET {SALE} HTTP/1.1\r\nHo").as_bytes()).unwrap();
    let idle: Vec<TcpStream> = (0..8).map(|_| resting(&gate)).collect();
    set_percent(&gate, 49);
    wait("looked at", || metric(&gate, "floodgate_gate_memory_bytes") == MEMORY_LIMIT_BYTES / 100 * 49);
    assert_eq!(metric(&gate, "floodgate_gate_connections"), 9);
    set_percent(&gate, 60);
    assert!(idle.iter().all(is_closed));
    assert_eq!(metric(&gate, "floodgate_gate_connections_shed_total{which=\"idle\"}"), 8);
    assert_eq!(metric(&gate, "floodgate_gate_memory_mark_bytes"), MEMORY_LIMIT_BYTES / 100 * 50);
    busy.write_all(b"st: a\r\n\r\n").unwrap();
    let mut first = [0; 12];
    busy.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    // Connections with an incomplete head stay open; beyond the two, new connections are closed.
    let held: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
            let _ = stream.write_all(b"GET ");
            stream
        })
        .collect();
    wait("new connections are closed", || {
        let mut new = TcpStream::connect(gate.bound.shop).unwrap();
        new.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        !is_served(&mut new) && metric(&gate, "floodgate_gate_connections_shed_total{which=\"new\"}") > 0
    });
    set_percent(&gate, 44);
    wait("new connections are served", || {
        let mut new = TcpStream::connect(gate.bound.shop).unwrap();
        new.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        is_served(&mut new)
    });
    drop(held);
}

#[test]
fn the_longest_idle_connections_are_closed_first_a_portion_at_a_time() {
    // 50 connections are too few to close any: after a portion of 256 the remaining ten stay open.
    // Two thirds of the connections that may be open call for no stage.
    let gate = Running::start(true, false, |config| {
        (config.connections.open_max, config.connections.threads) = (400, 1);
        config.connections.memory_mark_percent = 50;
    });
    let mut young: Vec<TcpStream> = (0..10).map(|_| resting(&gate)).collect();
    let old: Vec<TcpStream> = (0..256).map(|_| resting(&gate)).collect();
    // Idle times differ by whole seconds.
    std::thread::sleep(Duration::from_millis(2100));
    assert!(young.iter_mut().all(is_served), "they connected first, and have just become idle");
    set_percent(&gate, 60);
    assert!(old.iter().all(is_closed));
    assert!(young.iter_mut().all(is_served));
    assert_eq!(metric(&gate, "floodgate_gate_connections_shed_total{which=\"idle\"}"), 256);
}

#[test]
fn few_idle_connections_are_kept_whatever_the_memory() {
    let gate = start();
    let mut two = [resting(&gate), resting(&gate)];
    set_percent(&gate, 90);
    wait("looked at", || metric(&gate, "floodgate_gate_memory_bytes") == MEMORY_LIMIT_BYTES / 100 * 90);
    assert!(two.iter_mut().all(is_served));
    assert_eq!(metric(&gate, "floodgate_gate_connections_shed_total{which=\"idle\"}"), 0);
}
