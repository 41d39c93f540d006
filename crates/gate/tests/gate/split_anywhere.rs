//! The network splits bytes anywhere. A request to the gate, alone or in a pipeline, plain or
//! chunked, valid or malformed, gets the same answer wherever it is split in two.

use crate::client::send;
use crate::fake::Running;
use crate::mutants::mutants;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use web::wire::head::{Parsed, parse};

/// The fields that the gate reads in addition to those of every server.
const FIELDS: [&str; 2] = ["floodgate-pass", "idempotency-key"];
const SALE: &str = "GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n\r\n";
/// It ends the connection, so that the reader need not wait for a timeout.
const LAST: &str = "GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const ONE_PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
/// Connections open at once.
const AT_ONCE: usize = 500;

struct Shop {
    gate: Running,
    attempts_url: String,
    pass: String,
    /// A connection that stays open.
    bell: TcpStream,
}

impl Shop {
    fn open() -> Self {
        let gate = Running::start(true, false, |config| {
            config.connections.threads = 1;
            config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
            config.limits.shopper_per_second = 0;
        });
        let bearer = format!("Bearer {}", gate.token("alice"));
        let passes = "/api/v1/sales/demo/passes";
        let pass = send(gate.bound.shop, "POST", passes, &[("authorization", &bearer)], "").json();
        let sale = send(gate.bound.shop, "GET", "/api/v1/sales/demo", &[], "").json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let bell = TcpStream::connect(gate.bound.shop).unwrap();
        Self { attempts_url: text(&sale["attempts_url"]), pass: text(&pass["pass"]), bell, gate }
    }

    fn attempt(&self, key: &str, framing: &str, body: &str) -> String {
        format!(
            "POST {} HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {}\r\nIdempotency-Key: {key}\r\n\
             Content-Type: application/json\r\n{framing}\r\n{body}",
            self.attempts_url, self.pass
        )
    }

    fn plain(&self, key: &str, body: &str) -> String {
        self.attempt(key, &format!("Content-Length: {}\r\n", body.len()), body)
    }

    /// The body in chunks of this many bytes.
    fn chunked(&self, key: &str, body: &str, size: usize, extension: &str, trailers: &str) -> String {
        let chunks = body.as_bytes().chunks(size);
        let chunks: String = chunks
            .map(|chunk| format!("{:x}{extension}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        let body = format!("{chunks}0\r\n{trailers}\r\n");
        self.attempt(key, "Transfer-Encoding: chunked\r\n", &body)
    }

    /// Waits until the gate's one loop has read all that was sent before: it reads everything that
    /// is ready before it waits again.
    fn ring(&mut self) {
        self.bell.write_all(SALE.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.bell.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let len = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        self.bell.read_exact(&mut vec![0; len]).unwrap();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.gate.bound.shop).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Otherwise thousands of ports would be in TIME_WAIT for a minute.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream
    }

    /// The answer to these bytes in one piece, once it was found to be the same for every split.
    fn same_wherever_it_is_cut(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let whole = answers(&mut stream);
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        for cuts in cuts.chunks(AT_ONCE) {
            let mut streams: Vec<TcpStream> = cuts.iter().map(|_| self.connect()).collect();
            // It accepts 64 at a time.
            for _ in 0..=cuts.len() / 64 {
                self.ring();
            }
            for (stream, cut) in streams.iter_mut().zip(cuts) {
                stream.write_all(&bytes[..*cut]).unwrap();
            }
            self.ring();
            for (stream, cut) in streams.iter_mut().zip(cuts) {
                // It may have been refused by now.
                let _ = stream.write_all(&bytes[*cut..]);
            }
            for (stream, cut) in streams.iter_mut().zip(cuts) {
                let (first, second) = bytes.split_at(*cut);
                let said = answers(stream);
                assert_eq!(
                    said,
                    whole,
                    "{:?} and then {:?}",
                    String::from_utf8_lossy(first),
                    String::from_utf8_lossy(second)
                );
            }
        }
        whole
    }
}

/// The parts of each answer that must not depend on time: the status, the outcome, and whether it
/// is the last.
fn answers(stream: &mut TcpStream) -> Vec<String> {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&said)));
    let said = String::from_utf8_lossy(&said).replace("HTTP/1.0 ", "HTTP/1.1 ");
    let field = |answer: &str, name: &str| {
        let value = answer.split(&format!("\"{name}\":\"")).nth(1)?.split("\",").next()?;
        Some(value.trim_end_matches("\"}").to_owned())
    };
    let each = said.split("HTTP/1.1 ").filter(|answer| answer.starts_with(|c: char| c.is_ascii_digit()));
    each.map(|answer| {
        let what = ["outcome", "detail", "sale"].iter().find_map(|name| field(answer, name));
        let closes = answer.to_ascii_lowercase().contains("connection: close");
        format!("{} {} {closes}", answer.get(..3).unwrap_or_default(), what.unwrap_or_default())
    })
    // An interim answer is sent only if the body had not arrived yet.
    .filter(|answer| !answer.starts_with("100"))
    .collect()
}

#[test]
fn valid_requests_split_at_any_byte_get_the_same_answer() {
    let mut shop = Shop::open();
    let granted = |last: &str| format!("200 granted {last}");
    let sale = "200 demo false".to_owned();
    let last = "200 demo true".to_owned();
    let attempt = shop.plain("k", ONE_PHONE);
    let expect = shop.attempt(
        "k",
        &format!("Expect: 100-continue\r\nContent-Length: {}\r\n", ONE_PHONE.len()),
        ONE_PHONE,
    );
    let chunked = [
        shop.chunked("k", ONE_PHONE, 1, "", ""),
        shop.chunked("k", ONE_PHONE, 7, ";a=b", "X: y\r\n"),
        shop.chunked("k", ONE_PHONE, 1000, "", ""),
    ];
    let mut check = |bytes: &str, want: &[String]| {
        assert_eq!(shop.same_wherever_it_is_cut(bytes.as_bytes()), want, "{bytes}");
    };
    check(LAST, std::slice::from_ref(&last));
    check(&format!("{attempt}{LAST}"), &[granted("false"), last.clone()]);
    check(
        &format!("{SALE}{attempt}{attempt}{SALE}{LAST}"),
        &[sale.clone(), granted("false"), granted("false"), sale.clone(), last.clone()],
    );
    let nothing = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
    let none = "404 no such path: see /api/v1/openapi.json false".to_owned();
    check(
        &format!("{nothing}{attempt}{nothing}{LAST}"),
        &[none.clone(), granted("false"), none, last.clone()],
    );
    check(&format!("{expect}{LAST}"), &[granted("false"), last]);
    for attempt in chunked {
        // A request with a chunked body is the connection's last.
        check(&format!("{SALE}{attempt}"), &[sale.clone(), granted("true")]);
    }
}

#[test]
fn malformed_requests_split_at_any_byte_get_the_same_answer() {
    let mut shop = Shop::open();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X : a\r\n",
        "X: a\nY: b\r\n",
    ] {
        let evil = format!("{SALE}{}{LAST}", shop.attempt("k", fields, "0\r\n\r\n"));
        let said = shop.same_wherever_it_is_cut(evil.as_bytes());
        assert_eq!((said.len(), &said[1][..4]), (2, "400 "), "{fields}: {said:?}");
    }
    for chunks in ["zz\r\n", "-1\r\n{}\r\n", "2\r\n{}x\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let evil = shop.attempt("k", "Transfer-Encoding: chunked\r\n", chunks);
        let said = shop.same_wherever_it_is_cut(format!("{evil}{LAST}").as_bytes());
        assert_eq!((said.len(), &said[0][..1]), (1, "4"), "{chunks}: {said:?}");
    }
}

/// Whether every request in these bytes is complete, or one of them ends the connection: otherwise
/// only a timeout would end it.
fn comes_to_an_end(mut bytes: &[u8]) -> bool {
    loop {
        match parse(bytes, 8192, &FIELDS) {
            Parsed::Partial => return false,
            Parsed::Refused(_) => return true,
            Parsed::Whole(head) if head.chunked => {
                return bytes[head.len..].windows(5).any(|end| end == b"0\r\n\r\n");
            }
            Parsed::Whole(head) => {
                let end = head.len + usize::try_from(head.body_len).unwrap_or(usize::MAX / 2);
                if bytes.len() < end {
                    return false;
                }
                if head.close {
                    return true;
                }
                bytes = &bytes[end..];
            }
        }
    }
}

#[test]
fn mutated_requests_split_at_any_byte_get_the_same_answer() {
    let mut shop = Shop::open();
    let replace = |bytes: Vec<u8>, from: &str, to: &str| match bytes
        .windows(from.len())
        .position(|part| part == from.as_bytes())
    {
        Some(at) => [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat(),
        None => bytes,
    };
    let mut statuses = std::collections::BTreeMap::new();
    let mut compared = 0;
    for bytes in mutants(2000, 6) {
        let bytes = replace(bytes, "/api/v1/sales/demo/rounds/k/attempts", &shop.attempts_url);
        let bytes = replace(bytes, "Floodgate-Pass: p", &format!("Floodgate-Pass: {}", shop.pass));
        let bytes = [&bytes, LAST.as_bytes()].concat();
        if comes_to_an_end(&bytes) && compared < 200 {
            compared += 1;
            for said in shop.same_wherever_it_is_cut(&bytes) {
                *statuses.entry(said[..3].to_owned()).or_insert(0) += 1;
            }
        }
    }
    assert!(compared == 200 && statuses.len() >= 3, "{compared}: {statuses:?}");
}
