//! The gate and a proxy in front of it must agree on where one request ends and the next begins.
//! Each entry of the corpus is sent to the gate directly, and through nginx and HAProxy, with their
//! strict and their lax settings, over connections to the gate that the proxies keep open and
//! share. The gate's answers are compared with those that each client got.
mod corpus;

use crate::client::send;
use crate::fake::{Running, spec};
use crate::proxy::{Proxy, unused_address};
use crate::tls;
use corpus::{ENTRIES, Want};
use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

const ONE_PHONE: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
const HIDDEN: &str = "GET /api/v1/sales/hidden HTTP/1.1\r\nHost: a\r\n\r\n";
/// Sent after every entry. If the connection is still open, it is answered, and ends the
/// connection.
const BEHIND: &str = "GET /api/v1/sales/behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// The next shopper's request, over the remaining connection to the gate.
const NEXT: &str = "GET /api/v1/sales/next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A gate, and the values of the corpus's placeholders for it.
struct Shop {
    gate: Running,
    post: String,
}

impl Shop {
    fn open() -> Self {
        Self::open_with(|_| {})
    }

    fn open_with(change: impl FnOnce(&mut gate::Config)) -> Self {
        let gate = Running::start(true, false, |config| {
            change(config);
            config.connections.header_timeout_seconds = 1;
            config.connections.body_timeout_seconds = 1;
            config.limits.exempt_addresses = vec!["127.0.0.0/8".parse().unwrap()];
            config.limits.shopper_per_second = 0;
        });
        for sale in ["hidden", "behind", "next"] {
            gate.sales.add(sale, spec(0), true);
        }
        let bearer = format!("Bearer {}", gate.token("mallory"));
        let passes = "/api/v1/sales/demo/passes";
        let pass = send(gate.bound.shop, "POST", passes, &[("authorization", &bearer)], "").json();
        let sale = send(gate.bound.shop, "GET", "/api/v1/sales/demo", &[], "").json();
        let (pass, url) = (pass["pass"].as_str().unwrap(), sale["attempts_url"].as_str().unwrap());
        let post = format!(
            "POST {url} HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: k\r\n\
             Content-Type: application/json\r\n"
        );
        Self { gate, post }
    }

    /// The bytes of an entry.
    fn bytes(&self, entry: &str) -> Vec<u8> {
        Self::filled(entry, &self.post, "GET /api/v1/sales/demo HTTP/1.1\r\nHost: a\r\n", HIDDEN)
    }

    /// The same with these values of the placeholders.
    fn filled(entry: &str, post: &str, get: &str, hidden: &str) -> Vec<u8> {
        let text = entry
            .replace("@post", post)
            .replace("@get", get)
            .replace("@hidden", hidden)
            .replace("@hex", &format!("{:x}", hidden.len()));
        // The head ends at the first empty line, whatever ends its lines.
        let sent = text.trim_start();
        let ends = ["\r\n\r\n", "\n\n", "\r\n\n", "\r\r\n"];
        let body = ends.iter().filter_map(|end| sent.find(end).map(|at| at + end.len())).min().unwrap();
        let len = sent[body..].chars().count();
        let text = text.replace("@len", &len.to_string());
        text.chars().map(|c| u8::try_from(u32::from(c)).expect("one byte each")).collect()
    }
}

/// Sends all bytes, and reads to the end of the connection.
#[track_caller]
fn exchange(to: SocketAddr, bytes: &[u8], what: &str) -> Vec<String> {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    exchange_on(stream, bytes, what)
}

/// The same on a connection.
#[track_caller]
fn exchange_on(mut stream: impl Read + Write, bytes: &[u8], what: &str) -> Vec<String> {
    // A server that refuses may close before all bytes are sent.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}: {error}");
    }
    answers(&said)
}

/// What distinguishes each answer: the sale of its document, or else its status and whether it is
/// the proxy's own.
fn answers(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said).replace("HTTP/1.0 ", "HTTP/1.1 ");
    let mut each: Vec<String> = Vec::new();
    for answer in text.split("HTTP/1.1 ") {
        let status = answer.get(..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        let sale = answer.split("{\"sale\":\"").nth(1).and_then(|rest| rest.split('"').next());
        match (status, sale) {
            // The answer to a request without a version is only a body.
            (Some("200") | None, Some(sale)) => each.push(sale.to_owned()),
            (Some("100") | None, _) => {}
            (Some(status), _) if answer.to_ascii_lowercase().contains("content-type: text/html") => {
                each.push(format!("{status} of the proxy"));
            }
            (Some(status), _) => each.push(status.to_owned()),
        }
    }
    each
}

fn is_refusal(answer: &str) -> bool {
    answer.starts_with('4') || answer == "505"
}

#[test]
fn the_gate_alone_finds_the_request_boundaries_that_the_corpus_expects() {
    let shop = Shop::open();
    check_boundaries(&shop, |bytes, name| exchange(shop.gate.bound.shop, bytes, name));
}

#[test]
fn the_tls_listener_finds_the_same_request_boundaries() {
    let (files, made) = (tempfile::tempdir().unwrap(), tls::make(2040));
    tls::put(files.path(), &made);
    let shop = Shop::open_with(|config| tls::with_files(config, files.path()));
    let client = tls::client(&[&made], "http/1.1");
    check_boundaries(&shop, |bytes, name| {
        exchange_on(tls::raw(shop.gate.bound.tls.unwrap(), Arc::clone(&client)).unwrap(), bytes, name)
    });
}

/// Each entry, with another request after it, is answered as the corpus has it.
#[track_caller]
fn check_boundaries(shop: &Shop, exchange: impl Fn(&[u8], &str) -> Vec<String> + Sync) {
    let wrong = Mutex::new(Vec::new());
    // Some entries are answered only after a timeout.
    std::thread::scope(|scope| {
        for part in ENTRIES.chunks(ENTRIES.len().div_ceil(8)) {
            let (exchange, wrong) = (&exchange, &wrong);
            scope.spawn(move || {
                for (name, entry, want) in part {
                    let bytes = [&shop.bytes(entry), BEHIND.as_bytes()].concat();
                    let said = exchange(&bytes, name);
                    let said: Vec<&str> = said.iter().map(String::as_str).collect();
                    let held = match (want, &said[..]) {
                        (Want::Refused, [only]) => is_refusal(only),
                        (Want::Last | Want::Never, [only]) => *only != "hidden" && *only != "behind",
                        (Want::One, [first, "behind"]) => *first != "hidden",
                        (Want::Both, [_, "hidden", "behind"]) => true,
                        _ => false,
                    };
                    if !held {
                        wrong.lock().unwrap().push(format!("{name}: want {want:?}, got {said:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_admin_listener_finds_the_same_request_boundaries() {
    // Only the hidden request is answered with 200.
    const ASKED: &str = "/nothing HTTP/1.1\r\nHost: a\r\n";
    const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let shop = Shop::open();
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for part in ENTRIES.chunks(ENTRIES.len().div_ceil(8)) {
            let (shop, wrong) = (&shop, &wrong);
            scope.spawn(move || {
                for (name, entry, want) in part {
                    let bytes =
                        Shop::filled(entry, &format!("POST {ASKED}"), &format!("GET {ASKED}"), HEALTH);
                    let behind = format!("GET {ASKED}Connection: close\r\n\r\n");
                    let bytes = [&*bytes, behind.as_bytes()].concat();
                    let said = exchange(shop.gate.bound.admin, &bytes, name);
                    let hidden = said.iter().filter(|said| *said == "200").count();
                    let held = match want {
                        // A length that is too large for the shop is no mistake here.
                        Want::Refused => {
                            let is_ours = said.first().is_some_and(|said| said != "404");
                            said.len() == 1 && is_refusal(&said[0]) && (is_ours || name.contains("wraps"))
                        }
                        // A body that nobody reads ends the connection.
                        Want::Last | Want::Never | Want::One => hidden == 0 && !said.is_empty(),
                        Want::Both => hidden <= 1,
                    };
                    if !held {
                        wrong.lock().unwrap().push(format!("{name}: want {want:?}, got {said:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A relay between a proxy and the gate, which records what passes.
struct Tap {
    at: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

/// What passed since it was last taken. A connection is known by its number.
#[derive(Default)]
struct Heard {
    /// The connections on which something was sent to the gate.
    asked: BTreeSet<usize>,
    /// What the gate answered, on which connection.
    said: Vec<(usize, Vec<u8>)>,
}

impl Tap {
    fn open(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Heard>>::default());
        let noted = Arc::clone(&heard);
        // Its threads end with the sockets, at the latest with the process.
        std::thread::spawn(move || {
            for (number, front) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(back) = TcpStream::connect(gate) else { return };
                let (front_2, back_2) = (front.try_clone().unwrap(), back.try_clone().unwrap());
                let (asked, said) = (Arc::clone(&noted), Arc::clone(&noted));
                std::thread::spawn(move || {
                    pump(&front, &back, |_| {
                        asked.lock().unwrap().asked.insert(number);
                    })
                });
                std::thread::spawn(move || {
                    pump(&back_2, &front_2, |bytes| said.lock().unwrap().said.push((number, bytes.to_vec())))
                });
            }
        });
        Self { at, heard }
    }

    /// The gate's answers, and the connections on which it was asked. Left out are refusals on
    /// connections that an incomplete request has spoiled: the gate refuses it when it times out,
    /// or when the proxy gives up, and that may be in the middle of a later exchange.
    fn take(&self, spoiled: &BTreeSet<usize>) -> (Vec<String>, BTreeSet<usize>) {
        let Heard { asked, said } = std::mem::take(&mut *self.heard.lock().unwrap());
        let is_late_refusal = |number: &usize, bytes: &[u8]| {
            let said = answers(bytes);
            spoiled.contains(number) && !said.is_empty() && said.iter().all(|answer| is_refusal(answer))
        };
        let kept = said.into_iter().filter(|(number, bytes)| !is_late_refusal(number, bytes));
        let bytes: Vec<u8> = kept.flat_map(|(_, bytes)| bytes).collect();
        (answers(&bytes), asked)
    }
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, note: impl Fn(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // Noted before it is forwarded: once the client has the answer, it is here.
        note(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn nginx(dir: &std::path::Path, name: &str, more: &str, gate: SocketAddr) -> (Proxy, SocketAddr) {
    let (listen, file) = (unused_address(), dir.join(format!("{name}.conf")));
    let text = format!(
        "daemon off;\nmaster_process off;\npid {name}.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_header_timeout 1;\nclient_body_timeout 1;\nlingering_time 1;\nlingering_timeout 1;\n\
         client_body_temp_path {name}.body;\nproxy_temp_path {name}.proxy;\nfastcgi_temp_path {name}.f;\n\
         uwsgi_temp_path {name}.u;\nscgi_temp_path {name}.s;\n\
         upstream gate {{ server {gate} max_fails=0; keepalive 1; }}\n\
         server {{ listen {listen}; {more} location / {{ proxy_pass http://gate; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_next_upstream off; proxy_read_timeout 5; }} }}\n}}\n"
    );
    fs::write(&file, text).unwrap();
    let (prefix, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
    (Proxy::start("nginx", &["-p", prefix, "-c", file, "-e", "stderr"], listen), listen)
}

fn haproxy(dir: &std::path::Path, name: &str, more: &str, gate: SocketAddr) -> (Proxy, SocketAddr) {
    let (listen, file) = (unused_address(), dir.join(format!("{name}.cfg")));
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 1s\n timeout server 5s\n\
         timeout http-request 1s\n timeout http-keep-alive 1s\n http-reuse always\n retries 0\n\
         listen gate\n bind {listen}\n {more}\n server gate {gate}\n"
    );
    fs::write(&file, text).unwrap();
    (Proxy::start("haproxy", &["-db", "-f", file.to_str().unwrap()], listen), listen)
}

/// Sends the whole corpus through one proxy, and returns the differences.
fn through(shop: &Shop, front: SocketAddr, tap: &Tap) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut served = 0;
    let mut spoiled = BTreeSet::new();
    for (name, entry, want) in ENTRIES {
        tap.take(&spoiled);
        let bytes = [&shop.bytes(entry), BEHIND.as_bytes()].concat();
        let front_said = exchange(front, &bytes, name);
        let passed_on: Vec<&String> =
            front_said.iter().filter(|said| !said.ends_with("of the proxy")).collect();
        let (gate_said, asked) = tap.take(&spoiled);
        let mut is_wrong =
            |why: &str| wrong.push(format!("{name}: {why}: {front_said:?}, the gate {gate_said:?}"));
        let want_len = match want {
            Want::Never => 0,
            Want::Refused | Want::Last => 1,
            Want::One => 2,
            Want::Both => 3,
        };
        if want_len == 0 {
            // Both time out at the same moment, so whether the client gets an answer is a matter of
            // chance.
            if front_said.iter().chain(&gate_said).any(|said| said == "hidden" || said == "behind") {
                is_wrong("bytes that are not a request were answered");
            }
        } else {
            // A request that only the gate saw, or only the proxy, would be an answer without a
            // client. Where the proxy finds a separate request in bytes that the gate alone would
            // refuse, both find it.
            if passed_on.iter().map(|said| said.as_str()).ne(gate_said.iter().map(String::as_str)) {
                is_wrong("the gate's answers are not those that the client got");
            }
            if front_said.iter().rev().skip(1).any(|said| said.ends_with("of the proxy")) {
                is_wrong("something was answered after a proxy's refusal");
            }
            let by_proxy = front_said.last().is_some_and(|said| said.ends_with("of the proxy"));
            if !by_proxy && front_said.len() < want_len {
                is_wrong("too few answers");
            }
        }
        served += usize::from(front_said.last().is_some_and(|said| said == "behind"));
        // Nothing is left on the connection that the proxy keeps to the gate.
        if *want == Want::Never {
            spoiled.extend(asked);
        }
        let next = exchange(front, NEXT.as_bytes(), name);
        let (gate_said, _) = tap.take(&spoiled);
        if next != ["next"] || gate_said != ["next"] {
            wrong.push(format!("{name}: the next shopper got {next:?}, the gate said {gate_said:?}"));
        }
    }
    assert!(served >= 8, "the proxy forwarded nearly nothing: {served}");
    wrong
}

#[test]
fn the_gate_and_proxies_in_front_find_the_same_request_boundaries() {
    let shop = Shop::open();
    let dir = tempfile::tempdir().unwrap();
    type Start = fn(&std::path::Path, &str, &str, SocketAddr) -> (Proxy, SocketAddr);
    // The lax settings let through what the documentation of the proxies advises against.
    let lax = "proxy_request_buffering off; ignore_invalid_headers off; underscores_in_headers on;";
    let fronts: [(&str, Start, &str); 4] = [
        ("nginx", nginx, ""),
        ("nginx, lax", nginx, lax),
        ("haproxy", haproxy, ""),
        ("haproxy, lax", haproxy, "option accept-invalid-http-request"),
    ];
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = fronts
            .iter()
            .map(|(name, start, more)| {
                let (shop, dir) = (&shop, dir.path());
                scope.spawn(move || {
                    let tap = Tap::open(shop.gate.bound.shop);
                    let (_proxy, front) = start(dir, &name.replace(", ", "-"), more, tap.at);
                    let wrong = through(shop, front, &tap);
                    wrong.into_iter().map(|wrong| format!("{name}: {wrong}")).collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The gate has seen no attempt that it would not have seen without the proxies.
    let buy =
        format!("{}Content-Length: {}\r\nConnection: close\r\n\r\n{ONE_PHONE}", shop.post, ONE_PHONE.len());
    assert_eq!(exchange(shop.gate.bound.shop, buy.as_bytes(), "an honest purchase"), ["200"]);
}
