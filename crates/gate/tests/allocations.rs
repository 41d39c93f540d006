//! The hot path allocates nothing for a request, whatever its outcome: counted over all threads of
//! the process.

#[path = "gate/client.rs"]
mod client;
#[path = "gate/fake/mod.rs"]
mod fake;

use client::send;
use contracts::ItemState;
use fake::{Mood, Running};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SALE: &str = "/api/v1/sales/demo";
/// Requests that are counted, after as many that warm up buffers and tables.
const REQUESTS: usize = 2000;
/// What timers and the runtime may allocate meanwhile.
const BESIDE: u64 = 20;

/// Sends this many requests, one after the other, and returns how many blocks the process allocated
/// meanwhile.
fn blocks(gate: &Running, request: &str, status: &str) -> u64 {
    let mut stream = TcpStream::connect(gate.bound.shop).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 8192];
    let mut ask = || {
        stream.write_all(request.as_bytes()).unwrap();
        let mut have = 0;
        loop {
            have += stream.read(&mut answer[have..]).unwrap();
            assert!(have > 0, "closed");
            let head = answer[..have].windows(4).position(|w| w == b"\r\n\r\n");
            let Some(head) = head else { continue };
            let text = std::str::from_utf8(&answer[..head]).unwrap();
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if have == head + 4 + length {
                assert!(text.starts_with(status), "{text}");
                return;
            }
        }
    };
    (0..REQUESTS).for_each(|_| ask());
    let before = dhat::HeapStats::get().total_blocks;
    (0..REQUESTS).for_each(|_| ask());
    dhat::HeapStats::get().total_blocks - before
}

#[test]
fn no_request_of_the_hot_routes_allocates() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let gate = Running::start(true, false, |config| {
        config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.shopper_per_second = 0;
    });
    let url = send(gate.bound.shop, "GET", SALE, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", gate.token("alice"));
    let pass = send(gate.bound.shop, "POST", &format!("{SALE}/passes"), &[("authorization", &bearer)], "");
    let pass = pass.json()["pass"].as_str().unwrap().to_owned();
    let attempt = |url: &str, pass: &str| {
        let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        let length = body.len();
        format!(
            "POST {url} HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nfloodgate-pass: {pass}\r\n\
             idempotency-key: k\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let say = |state| {
        gate.sale.change_view(|view| {
            for item in &mut view.items {
                (item.state, item.waitlist_open) = (state, false);
            }
        });
    };
    say(ItemState::SoldOut);
    let guessed = format!("{SALE}/rounds/AAAAAAAAAAAAAAAAAAAAAA/attempts");
    let rows = [
        ("the sale's document", format!("GET {SALE} HTTP/1.1\r\nhost: shop\r\n\r\n"), "HTTP/1.1 200"),
        ("sold out", attempt(&url, &pass), "HTTP/1.1 200"),
        ("a wrong round key", attempt(&guessed, &pass), "HTTP/1.1 404"),
        ("a wrong pass", attempt(&url, "AAAA"), "HTTP/1.1 401"),
        ("no pass", attempt(&url, &pass).replace("floodgate-pass", "x-pass"), "HTTP/1.1 401"),
    ];
    for (what, request, status) in rows {
        let blocks = blocks(&gate, &request, status);
        assert!(blocks <= BESIDE, "{what}: {blocks} blocks for {REQUESTS} requests");
    }
    say(ItemState::Available);
    gate.sale.set_mood(Mood::Grants);
    let granted = blocks(&gate, &attempt(&url, &pass), "HTTP/1.1 200");
    assert!(granted <= BESIDE, "granted: {granted} blocks for {REQUESTS} requests");
}
