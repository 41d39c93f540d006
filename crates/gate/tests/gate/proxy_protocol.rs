//! The client's address, as a balancer names it in a header of the PROXY protocol: for the filter,
//! for connection limits, in the loops and in axum, and with a real balancer.

use crate::client::send;
use crate::fake::Running;
use crate::proxy::{Proxy, unused_address};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

const SALE: &str = "/api/v1/sales/demo";

fn start(change: impl FnOnce(&mut gate::Config)) -> Running {
    Running::start(true, false, |config| {
        config.connections.proxy_protocol = true;
        config.limits.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        change(config);
    })
}

/// The header for a connection from an IPv4 address, with a TLV after the ports.
fn from(address: [u8; 4]) -> Vec<u8> {
    let tlv = [0xea, 0, 2, 1, 2];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11", &address[..], &[10, 0, 0, 1, 0xc3, 0x50, 0, 80], &tlv].concat()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Writes some bytes, and returns the status of the first answer, if one comes.
fn status(mut stream: &TcpStream, bytes: &[u8]) -> Option<String> {
    stream.write_all(bytes).ok()?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).ok()?;
    Some(String::from_utf8_lossy(&first[9..]).into_owned())
}

/// A forged pass is noted for the address that sent it.
fn forged_pass(gate: &Running) -> Vec<u8> {
    let url = gate.keys.round_key("demo", 0);
    format!("POST {SALE}/rounds/{url}/attempts HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: x\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 0\r\n\r\n")
        .into_bytes()
}

/// How often the gate refused an address for its pass.
fn forged_by(gate: &Running, address: &str) -> u64 {
    let bearer = format!("Bearer {}", gate.owner);
    let path = format!("/api/v1/admin/refusals?address={address}");
    let told = send(gate.bound.admin, "GET", &path, &[("authorization", &bearer)], "").json();
    let refused = told["refused"].as_array().unwrap();
    refused.iter().filter(|r| r["reason"] == "pass").map(|r| r["count"].as_u64().unwrap()).sum()
}

#[test]
fn the_filter_sees_the_address_that_the_proxy_header_names() {
    let gate = start(|_| {});
    let plain = connect(gate.bound.shop);
    assert_eq!(status(&plain, &[from([203, 0, 113, 9]), forged_pass(&gate)].concat()).unwrap(), "401");
    // Byte by byte, and then another request of the same connection, which axum serves.
    let mut slow = connect(gate.bound.shop);
    slow.set_nodelay(true).unwrap();
    for byte in from([203, 0, 113, 10]) {
        slow.write_all(&[byte]).unwrap();
    }
    let visit = format!("GET {SALE}/attempts HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    assert_eq!(status(&slow, visit.as_bytes()).unwrap(), "401");
    assert_eq!(
        ["203.0.113.9", "203.0.113.10", "127.0.0.1", "192.0.2.1"].map(|address| forged_by(&gate, address)),
        [1, 1, 0, 0]
    );
}

#[test]
fn a_connection_counts_for_the_address_that_the_proxy_header_names() {
    let gate = start(|config| config.limits.address_connections_max = 2);
    let ask = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let open = |address| {
        let stream = connect(gate.bound.shop);
        let served = status(&stream, &[from(address), ask.clone()].concat());
        (stream, served.as_deref() == Some("200"))
    };
    let held: Vec<_> = (0..2).map(|_| open([203, 0, 113, 9])).collect();
    assert!(held.iter().all(|(_, served)| *served));
    assert!(!open([203, 0, 113, 9]).1, "a third connection");
    assert!(open([203, 0, 113, 10]).1, "another address behind the same balancer");
    drop(held);
    let started = Instant::now();
    while !open([203, 0, 113, 9]).1 {
        assert!(started.elapsed() < Duration::from_secs(20), "its share was not given back");
    }
}

#[test]
fn a_balancers_health_check_counts_for_the_balancer_itself() {
    let gate = start(|_| {});
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0";
    let look = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&connect(gate.bound.shop), &[&local[..], look.as_bytes()].concat()).unwrap(), "200");
}

#[test]
fn a_balancer_without_a_proxy_header_and_a_client_with_one_are_refused() {
    let look = format!("GET {SALE} HTTP/1.1\r\nHost: a\r\n\r\n");
    let gate = start(|_| {});
    let answer = send(gate.bound.shop, "GET", SALE, &[], "");
    assert_eq!((answer.status, answer.problem()), (400, "bad-request".into()));
    assert!(answer.body.contains("gate.connections.proxy_protocol"), "{answer:?}");
    let stranger = start(|config| config.limits.trusted_proxies = vec!["192.0.2.1".parse().unwrap()]);
    let off = start(|config| config.connections.proxy_protocol = false);
    for gate in [&stranger, &off] {
        let headed = [from([203, 0, 113, 9]), look.clone().into_bytes()].concat();
        assert_eq!(status(&connect(gate.bound.shop), &headed).unwrap(), "400");
        assert_eq!(status(&connect(gate.bound.shop), look.as_bytes()).unwrap(), "200");
    }
}

#[test]
fn an_unfinished_proxy_header_is_cut_off_at_the_header_timeout() {
    let gate = start(|config| config.connections.header_timeout_seconds = 1);
    let mut silent = connect(gate.bound.shop);
    silent.write_all(&from([203, 0, 113, 9])[..14]).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "closed before the reader's timeout of 20 s");
}

#[test]
fn haproxys_proxy_header_is_understood() {
    let gate = start(|_| {});
    let listen = unused_address();
    let config = gate.data().join("haproxy.cfg");
    // 127.0.0.2 is not one of our balancers; it is the client that HAProxy names.
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         listen gate\n bind {listen}\n server gate {} send-proxy-v2 check inter 100\n",
        gate.bound.shop
    );
    fs::write(&config, text).unwrap();
    let _haproxy = Proxy::start("haproxy", &["-db", "-f", config.to_str().unwrap()], listen);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&listen.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(status(&stream, &forged_pass(&gate)).unwrap(), "401");
    assert_eq!([forged_by(&gate, "127.0.0.2"), forged_by(&gate, "127.0.0.1")], [1, 0]);
}
