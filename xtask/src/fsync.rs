//! `cargo xtask chaos fsync`: watches the real server's system calls and shows that no grant leaves
//! before the fdatasync that covers it has returned.

use crate::shell::{Failure, command, output, release_binary};
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SHOPPERS: usize = 300;
const STOCK: usize = 200;

pub(crate) fn run() -> Result<(), Failure> {
    let binary = release_binary("floodgate")?;
    let dir = std::env::temp_dir().join(format!("floodgate-fsync-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let result = watch(&binary, &dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn watch(binary: &Path, dir: &Path) -> Result<(), Failure> {
    let data = dir.join("data");
    let trace = dir.join("trace");
    let free = || -> Result<SocketAddr, Failure> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
    let (shop, admin) = (free()?, free()?);
    let config = dir.join("floodgate.toml");
    fs::write(
        &config,
        format!("[gate]\nshop_listen = \"{shop}\"\nadmin_listen = \"{admin}\"\n[notify]\nlisten = \"\"\n"),
    )?;
    let mut server = command("strace")
        .args(["-f", "-qq", "-y", "-xx", "-s", "1000000"])
        .args(["-e", "trace=pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(binary)
        .args(["serve", "--demo", "--demo-opens-in", "1", "--demo-stock", &STOCK.to_string(), "--data"])
        .arg(&data)
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .spawn()?;
    let stormed = storm(binary, &data, shop);
    let ended = end(&mut server);
    stormed?;
    ended?;
    let found = check(&fs::read_to_string(&trace)?);
    println!(
        "{} grants said over sockets, {} fdatasync calls on the log, {} appends; {} grants said too early",
        found.grants,
        found.syncs,
        found.appends,
        found.early.len()
    );
    if let Some(first) = found.early.first() {
        return Err(Failure(format!("attempt {first} was told `granted` before its entry was durable")));
    }
    if found.grants < STOCK {
        return Err(Failure(format!(
            "only {} grants were seen of {STOCK}: the check saw too little",
            found.grants
        )));
    }
    Ok(())
}

/// Ends strace's child, and with it strace.
fn end(server: &mut Child) -> Result<(), Failure> {
    let children = output("pgrep", &["-P", &server.id().to_string()])?;
    for pid in children.lines() {
        output("kill", &["-TERM", pid])?;
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if server.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    server.kill()?;
    Err(Failure("the server did not drain within 30 s".into()))
}

fn storm(binary: &Path, data: &Path, shop: SocketAddr) -> Result<(), Failure> {
    let url = attempts_path(shop)?;
    let passes = output(
        &binary.to_string_lossy(),
        &[
            "token",
            "--data",
            &data.to_string_lossy(),
            "--shopper",
            "s",
            "--sale",
            "demo",
            "--count",
            &SHOPPERS.to_string(),
        ],
    )?;
    let passes: Vec<String> = passes
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["pass"].as_str().map(str::to_owned)
        })
        .collect();
    let threads: Vec<_> = passes
        .chunks(SHOPPERS / 20)
        .map(|chunk| {
            let (chunk, url) = (chunk.to_vec(), url.clone());
            thread::spawn(move || chunk.iter().all(|pass| buy(shop, &url, pass).is_ok()))
        })
        .collect();
    for thread in threads {
        if !thread.join().unwrap_or(false) {
            return Err(Failure("a purchase got no answer".into()));
        }
    }
    Ok(())
}

fn attempts_path(shop: SocketAddr) -> Result<String, Failure> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if let Ok(text) = ask(shop, "GET /api/v1/sales/demo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            && let Some((_, rest)) = text.split_once("\"attempts_url\":\"")
            && let Some(url) = rest.split('"').next()
        {
            return Ok(url[url.find("/api/").unwrap_or(0)..].to_owned());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(Failure("the demo did not open within 30 s".into()))
}

fn ask(shop: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(shop)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn buy(shop: SocketAddr, path: &str, pass: &str) -> std::io::Result<String> {
    let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
    ask(
        shop,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nFloodgate-Pass: {pass}\r\nIdempotency-Key: k\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    grants: usize,
    syncs: usize,
    appends: usize,
    /// Attempts that were answered too early.
    early: Vec<String>,
}

/// Reads a trace in the order of the system calls and their returns.
fn check(trace: &str) -> Found {
    let mut found = Found::default();
    let mut told = HashSet::new();
    // Bytes written to segments, in hex: not synced; covered by a sync under way, by its process;
    // durable.
    let mut written: Vec<String> = Vec::new();
    let mut covered: Vec<(String, Vec<String>)> = Vec::new();
    let mut durable = String::new();
    for line in trace.lines() {
        let Some((pid, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        let segment = call.contains("/seg-") || bytes_of(call).is_some_and(|path| path.contains("/seg-"));
        if call.starts_with("pwrite64(") && segment {
            found.appends += 1;
            written.push(hex_of(call));
        } else if (call.starts_with("fdatasync(") || call.starts_with("fsync(")) && segment {
            found.syncs += 1;
            let now = std::mem::take(&mut written);
            if call.contains("unfinished") {
                covered.push((pid.to_owned(), now));
            } else if call.trim_end().ends_with("= 0") {
                durable.extend(now);
            }
        } else if call.starts_with("<... fdatasync resumed") || call.starts_with("<... fsync resumed") {
            if let Some(at) = covered.iter().position(|(who, _)| who == pid) {
                let (_, now) = covered.remove(at);
                if call.trim_end().ends_with("= 0") {
                    durable.extend(now);
                }
            }
        } else if ["write(", "writev(", "sendto(", "sendmsg("].iter().any(|name| call.starts_with(name)) {
            let text = text_of(call);
            for answer in text.split("\"attempt\":\"").skip(1) {
                let attempt = answer.split('"').next().unwrap_or_default();
                let granted = answer
                    .split("\"attempt\":")
                    .next()
                    .is_some_and(|a| a.contains("\"outcome\":\"granted\""));
                if granted && told.insert(attempt.to_owned()) {
                    found.grants += 1;
                    if !durable.contains(attempt) {
                        found.early.push(attempt.to_owned());
                    }
                }
            }
        }
    }
    found
}

/// The hex digits of a call's data: `"\x01\x02"…` → `0102`.
fn hex_of(call: &str) -> String {
    call.split('"').skip(1).step_by(2).map(|data| data.replace("\\x", "")).collect()
}

/// A call's data as text.
fn text_of(call: &str) -> String {
    let hex = hex_of(call);
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name after a descriptor, where strace printed it in hex: `3<\x2f\x74>`.
fn bytes_of(call: &str) -> Option<String> {
    let name = call.split_once('<')?.1.split_once('>')?.0;
    if !name.starts_with("\\x") {
        return None;
    }
    Some(text_of(&format!("\"{name}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|b| format!("\\x{b:02x}")).collect()
    }

    fn trace(lines: &[String]) -> Found {
        check(&lines.join("\n"))
    }

    #[test]
    fn a_grant_answered_before_its_fdatasync_is_found() {
        let append = "11 pwrite64(5</d/seg-1.log>, \"\\xab\\xcd\", 2, 4096) = 2".to_owned();
        let answer = format!(
            "12 writev(9<TCP:[1]>, [{{iov_base=\"{}\"}}], 1) = 9",
            hex(r#"{"attempt":"abcd","outcome":"granted"}"#)
        );
        let begun = "11 fdatasync(5</d/seg-1.log> <unfinished ...>".to_owned();
        let done = "11 <... fdatasync resumed>) = 0".to_owned();
        let failed = "11 <... fdatasync resumed>) = -1 EIO (Input/output error)".to_owned();
        let early =
            |lines: &[&String]| trace(&lines.iter().map(|l| (*l).clone()).collect::<Vec<_>>()).early.len();
        assert_eq!(early(&[&append, &begun, &done, &answer]), 0);
        assert_eq!(early(&[&append, &begun, &answer, &done]), 1);
        assert_eq!(early(&[&append, &answer, &begun, &done]), 1);
        assert_eq!(early(&[&begun, &append, &done, &answer]), 1, "the sync began before the write");
        assert_eq!(early(&[&append, &begun, &failed, &answer]), 1);
        assert_eq!(early(&[&answer]), 1);
    }
}
