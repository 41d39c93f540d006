//! Real clients, unmodified: each reads the sale, gets a pass, buys, and sends other usual
//! requests, on connections that it keeps alive if it can. Their programs are in the directory
//! `clients`.

use crate::harness::{Server, python_program, shop, shop::text};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interfaces/clients");

/// A shop, and a relay to it that counts connections.
struct Shop {
    server: Server,
    at: String,
    connections: Arc<AtomicU32>,
}

impl Shop {
    fn open() -> Self {
        let server = Server::start();
        server.open_sale("launch", &shop::spec(&[("phone", 10)]));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let (connections, to) = (Arc::<AtomicU32>::default(), server.shop.clone());
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, SeqCst);
                let Ok(gate) = TcpStream::connect(&to) else { return };
                let (back, forth) = (gate.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pump(&client, &gate));
                std::thread::spawn(move || pump(&back, &forth));
            }
        });
        Self { server, at, connections }
    }

    fn token(&self) -> String {
        self.server.output(&["token", "--shopper", "alice"]).trim().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// What a client's program prints.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| {
        panic!("start {}: {e}: `cargo xtask test` installs it", command.get_program().display())
    });
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    said.into_owned()
}

const USUAL: &str = "\
sale 200 open
head 200 0
nothing 404
pass 200
buy 200 granted
again 200 granted
";
const CHUNKED: &str = "chunked 200 granted\nafter 200\n";

/// Runs a client that takes the shop's address and a shopper's token, and prints a line for each
/// answer. Our side ends a connection after a chunked body, and for no other reason.
#[track_caller]
fn buys(program: impl AsRef<OsStr>, args: &[&str], source: &str, expects: bool, connections: u32) {
    let shop = Shop::open();
    let mut command = Command::new(program);
    command.args(args).arg(Path::new(PROGRAMS).join(source)).args([&shop.at, &shop.token()]);
    // Go keeps what it has compiled, and downloads nothing.
    command.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    command.envs([("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "")]);
    let said = run(&mut command);
    let lines: String = said.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let expect = if expects { "expect 200 granted\n" } else { "" };
    assert_eq!(lines, format!("{USUAL}{expect}{CHUNKED}"));
    assert_eq!(shop.connections.load(SeqCst), connections, "connections are kept alive");
    let stats = shop.server.stats("launch");
    assert_eq!(stats["outcomes"]["granted"], 1, "{stats}");
}

#[test]
fn python_http_client_buys() {
    buys(python_program("python"), &[], "http_client.py", false, 2);
}

#[test]
fn python_requests_over_urllib3_buys() {
    buys(python_program("python"), &[], "requests_session.py", false, 2);
}

#[test]
fn python_aiohttp_buys() {
    buys(python_program("python"), &[], "aiohttp_session.py", false, 2);
}

#[test]
fn go_net_http_buys() {
    buys("go", &["run"], "client.go", true, 2);
}

#[test]
fn node_http_buys() {
    buys("node", &[], "node_http.mjs", false, 2);
}

#[test]
fn node_fetch_buys() {
    // It ends a connection after HEAD itself, in case a body follows.
    buys("node", &[], "node_fetch.mjs", false, 3);
}

#[test]
fn java_http_client_buys() {
    buys("java", &[], "Client.java", true, 2);
}

#[test]
fn curl_buys() {
    let shop = Shop::open();
    let sale = shop.url("/api/v1/sales/launch");
    let scratch = shop.server.scratch();
    let curl = |requests: &[&[&str]]| {
        let mut command = Command::new("curl");
        // What it prints for each request: the status, the connections made for it, the body.
        for (n, request) in requests.iter().enumerate() {
            command.args(if n == 0 { &[][..] } else { &["--next"] });
            command.args(["-sS", "-m", "20", "-w", "\n%{http_code} %{num_connects}\n"]).args(*request);
        }
        let said = run(&mut command);
        // For each request: the text before its line of figures, and that line.
        let mut found = Vec::new();
        let mut body = String::new();
        for line in said.lines() {
            match line.split_once(' ').filter(|(code, _)| code.len() == 3 && code.parse::<u16>().is_ok()) {
                Some(_) => found.push((std::mem::take(&mut body), line.to_owned())),
                None => body.push_str(line),
            }
        }
        assert_eq!(found.len(), requests.len(), "{said}");
        found
    };
    let figures = |found: &[(String, String)]| found.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
    let bearer = format!("Authorization: Bearer {}", shop.token());
    let passes = format!("{sale}/passes");
    let found = curl(&[
        &[&sale],
        &["-I", &sale],
        &[&shop.url("/nothing")],
        &["-X", "POST", "-H", &bearer, &passes],
        &[&sale],
    ]);
    assert_eq!(figures(&found), ["200 1", "200 0", "404 0", "200 0", "200 0"]);
    let document: serde_json::Value = serde_json::from_str(&found[0].0).unwrap();
    let url = shop.url(text(&document["attempts_url"]));
    let pass: serde_json::Value = serde_json::from_str(&found[3].0).unwrap();
    let pass = format!("Floodgate-Pass: {}", text(&pass["pass"]));
    let basket = shop::basket(&[("phone", 1)]);
    let headers = ["-H", &pass, "-H", "Idempotency-Key: curl", "-H", "Content-Type: application/json"];
    let large = scratch.join("large");
    std::fs::write(&large, " ".repeat(2 << 20)).unwrap();
    let large = format!("@{}", large.display());
    let with = |more: &[&'static str], data: &str| -> Vec<String> {
        let all = headers.iter().copied().chain(more.iter().copied()).chain(["--data-binary", data, &url]);
        all.map(str::to_owned).collect()
    };
    let attempts = [
        with(&[], &basket),
        with(&["-H", "Expect: 100-continue"], &basket),
        // The client does so by itself for such a large body.
        with(&[], &large),
        with(&["-H", "Transfer-Encoding: chunked"], &basket),
        with(&["--http1.0"], &basket),
        with(&["--http1.0", "-H", "Connection: keep-alive"], &basket),
        with(&[], &basket),
    ];
    let attempts: Vec<Vec<&str>> =
        attempts.iter().map(|args| args.iter().map(String::as_str).collect()).collect();
    let attempts: Vec<&[&str]> = attempts.iter().map(Vec::as_slice).collect();
    let found = curl(&attempts);
    let statuses: Vec<String> = figures(&found).iter().map(|line| line[..3].to_owned()).collect();
    assert_eq!(statuses, ["200", "200", "413", "200", "200", "200", "200"], "{found:?}");
    assert_eq!(found[1].1, "200 0", "a client that expects 100 keeps the connection");
    for (n, (body, _)) in found.iter().enumerate() {
        assert_eq!(body.contains("\"outcome\":\"granted\""), n != 2, "{body}");
    }
    // The server did not wait for the large body.
    assert!(found[2].0.contains("/problems#body-too-large"), "{:?}", found[2]);
}

#[test]
fn ab_is_served_over_http_1_0() {
    let shop = Shop::open();
    let sale = shop.server.sale("launch");
    let body = shop.server.scratch().join("body");
    std::fs::write(&body, shop::basket(&[("phone", 1)])).unwrap();
    let pass = format!("Floodgate-Pass: {}", shop.server.pass("launch", "alice"));
    let path = sale.attempts_url.split_once(&shop.server.shop).unwrap().1;
    for keep in [&[][..], &["-k"]] {
        let post = [
            "-p",
            body.to_str().unwrap(),
            "-T",
            "application/json",
            "-H",
            &pass,
            "-H",
            "Idempotency-Key: ab",
        ];
        for (method, url) in [(&[][..], shop.url("/api/v1/sales/launch")), (&post, shop.url(path))] {
            let said =
                run(Command::new("ab").args(["-l", "-n", "50", "-c", "2"]).args(keep).args(method).arg(&url));
            let holds =
                |line: &str| said.lines().any(|said| said.split_whitespace().eq(line.split_whitespace()));
            assert!(holds("Complete requests: 50") && holds("Failed requests: 0"), "{said}");
            assert!(!said.contains("Non-2xx"), "{said}");
            assert!(keep.is_empty() || holds("Keep-Alive requests: 50"), "{said}");
        }
    }
}

#[test]
fn wrk_is_served_pipelined_requests() {
    let shop = Shop::open();
    let sale = shop.server.sale("launch");
    let pass = shop.server.pass("launch", "alice");
    let path = sale.attempts_url.split_once(&shop.server.shop).unwrap().1;
    let script = Path::new(PROGRAMS).join("wrk.lua");
    let mut command = Command::new("wrk");
    command
        .args(["-t", "1", "-c", "4", "-d", "1s", "-s"])
        .arg(script)
        .arg(shop.url(""))
        .args(["--", path, &pass]);
    let said = run(&mut command);
    let line = said.lines().find_map(|line| line.strip_prefix("requests ")).unwrap();
    let (requests, failed) = line.split_once(" failed ").unwrap();
    assert_eq!(failed, "0", "{said}");
    assert!(requests.parse::<u32>().unwrap() > 50, "{said}");
    // It first tests the address with one more connection.
    assert_eq!(shop.connections.load(SeqCst), 1 + 4, "connections are kept alive");
}
