//! A flood that arrives before shoppers: connections that ask too fast, or that were refused, are
//! served after them.

use crate::client::send;
use crate::fake::Running;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const SALE: &str = "/api/v1/sales/demo";
const ONE_PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections of the flood, and the requests that each sends in a row: fewer than a socket takes.
const CONNECTIONS: usize = 8;
const IN_A_ROW: usize = 100;

/// One loop, and no limit that a flood would reach: its requests are refused for other reasons.
fn gate(exempt: &[&str]) -> Running {
    Running::start(true, false, |config| {
        config.connections.threads = 1;
        config.limits.address_per_second = 0;
        config.limits.prefix_per_second = 0;
        config.limits.exempt_addresses = exempt.iter().map(|net| net.parse().unwrap()).collect();
    })
}

/// Connects from one of loopback's addresses.
fn connect_from(address: &str, gate: &Running) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{address}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&gate.bound.shop.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn guess() -> String {
    format!("POST {SALE}/rounds/{}/attempts HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "A".repeat(22))
}

fn document() -> String {
    format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn attempt(gate: &Running, shopper: &str) -> String {
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", gate.token(shopper));
    let pass = send(gate.bound.shop, "POST", &format!("{SALE}/passes"), &[("authorization", &bearer)], "");
    let pass = pass.json()["pass"].as_str().unwrap().to_owned();
    format!(
        "POST {url} HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: purchase-of-{shopper}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{ONE_PHONE}",
        ONE_PHONE.len()
    )
}

fn write(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads answers until this many are complete, and checks their status.
fn read(mut stream: &TcpStream, answers: usize, status: &str) {
    let mut text = String::new();
    let mut bytes = vec![0; 64 << 10];
    let whole = |text: &str| {
        let mut rest = text;
        let mut count = 0;
        while let Some((head, behind)) = rest.split_once("\r\n\r\n") {
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let Some(behind) = behind.get(length.parse().unwrap()..) else { break };
            rest = behind;
            count += 1;
        }
        count
    };
    while whole(&text) < answers {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "closed after {} of {answers}", whole(&text));
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert_eq!(whole(&text), answers);
}

fn has_answers(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(read) => read > 0,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

/// A flood and a shopper that a loop finds in the same turn. Returns how many requests of the flood
/// were answered before the shopper.
fn answered_before_a_shopper(gate: &Running, flood_from: &str) -> usize {
    let flood: Vec<_> = (0..CONNECTIONS).map(|_| connect_from(flood_from, gate)).collect();
    for stream in &flood {
        write(stream, &guess());
        read(stream, 1, "404");
    }
    let shopper = connect_from("127.0.0.3", gate);
    write(&shopper, &document());
    read(&shopper, 1, "200");
    let attempts = ["alice", "bob"].map(|name| (connect_from("127.0.0.3", gate), attempt(gate, name)));
    let holds = [gate.sale.hold_next(), gate.sale.hold_next()];
    let [(there, first), (there_again, second)] = holds;
    write(&attempts[0].0, &attempts[0].1);
    there.recv_timeout(PATIENCE).unwrap();
    // The loop is held inside the sale. It will find all of this at once, and the second attempt
    // holds it before the turn ends.
    for stream in &flood {
        write(stream, &guess().repeat(IN_A_ROW));
    }
    write(&shopper, &document());
    write(&attempts[1].0, &attempts[1].1);
    drop(first);
    there_again.recv_timeout(PATIENCE).unwrap();
    read(&shopper, 1, "200");
    let answered = flood.iter().filter(|stream| has_answers(stream)).count();
    drop(second);
    for stream in &flood {
        read(stream, IN_A_ROW, "404");
        write(stream, &document());
        read(stream, 1, "200");
    }
    for (stream, _) in &attempts {
        read(stream, 1, "200");
    }
    answered
}

#[test]
fn a_refused_address_is_served_after_shoppers_and_still_answered() {
    assert_eq!(answered_before_a_shopper(&gate(&[]), "127.0.0.2"), 0);
}

#[test]
fn an_exempt_address_never_has_low_priority() {
    assert_eq!(answered_before_a_shopper(&gate(&["127.0.0.2/32"]), "127.0.0.2"), CONNECTIONS);
}

#[test]
fn new_connections_of_a_refused_address_have_low_priority() {
    let gate = gate(&[]);
    write(&connect_from("127.0.0.2", &gate), &guess());
    let metrics = || send(gate.bound.admin, "GET", "/metrics", &[], "").body;
    while !metrics().contains("floodgate_gate_filtered_total{reason=\"round_key\"} 1\n") {
        std::thread::yield_now();
    }
    let (flood, shopper) = (connect_from("127.0.0.2", &gate), connect_from("127.0.0.3", &gate));
    let attempts = ["alice", "bob"].map(|name| (connect_from("127.0.0.3", &gate), attempt(&gate, name)));
    let [(there, first), (there_again, second)] = [gate.sale.hold_next(), gate.sale.hold_next()];
    write(&attempts[0].0, &attempts[0].1);
    there.recv_timeout(PATIENCE).unwrap();
    // Neither has sent a request yet. They differ only in that the address of one was refused.
    write(&flood, &document());
    write(&shopper, &document());
    write(&attempts[1].0, &attempts[1].1);
    drop(first);
    there_again.recv_timeout(PATIENCE).unwrap();
    read(&shopper, 1, "200");
    assert!(!has_answers(&flood));
    drop(second);
    read(&flood, 1, "200");
}

#[test]
fn a_connection_that_asks_too_fast_has_low_priority_without_a_refusal() {
    let gate = gate(&[]);
    let (hasty, shopper) = (connect_from("127.0.0.2", &gate), connect_from("127.0.0.3", &gate));
    write(&hasty, &document().repeat(IN_A_ROW));
    read(&hasty, IN_A_ROW, "200");
    let attempts = ["alice", "bob"].map(|name| (connect_from("127.0.0.3", &gate), attempt(&gate, name)));
    let [(there, first), (there_again, second)] = [gate.sale.hold_next(), gate.sale.hold_next()];
    write(&attempts[0].0, &attempts[0].1);
    there.recv_timeout(PATIENCE).unwrap();
    write(&hasty, &document());
    write(&shopper, &document());
    write(&attempts[1].0, &attempts[1].1);
    drop(first);
    there_again.recv_timeout(PATIENCE).unwrap();
    read(&shopper, 1, "200");
    assert!(!has_answers(&hasty));
    drop(second);
    read(&hasty, 1, "200");
}

#[test]
fn unread_requests_take_little_kernel_memory() {
    let gate = gate(&[]);
    let flood = connect_from("127.0.0.2", &gate);
    socket2::SockRef::from(&flood).set_send_buffer_size(4 << 10).unwrap();
    let bob = (connect_from("127.0.0.3", &gate), attempt(&gate, "bob"));
    let (there, release) = gate.sale.hold_next();
    write(&bob.0, &bob.1);
    there.recv_timeout(PATIENCE).unwrap();
    // The client reads nothing.
    flood.set_nonblocking(true).unwrap();
    let mut taken = 0;
    while let Ok(written) = (&flood).write(&[b'a'; 1024]) {
        taken += written;
        assert!(taken < 48 << 10, "the largest request and the sender's own buffer are less");
    }
    drop(release);
}
