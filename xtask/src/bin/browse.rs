//! The shoppers of `cargo xtask bench storm` who look at a shop's pages: requests at planned times
//! over connections that are kept, whose waiting is counted from the planned time, so that a server
//! that is late for one is late for all that were due meanwhile.
//!
//! It prints `ready`, and for each line `browse SECONDS PER_SECOND` the result as one line of JSON.
#![expect(clippy::print_stderr, reason = "it talks to the bench that started it")]

#[path = "../answers.rs"]
mod answers;
#[path = "../clients.rs"]
mod clients;

use answers::{ANSWER_BYTES_MAX, body_of};
use clients::{Outcome, cpu_seconds, hear, say};
use memchr::memmem::Finder;
use serde_json::json;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

/// Enough that none waits for another at the rates of the bench.
const CONNECTIONS: usize = 64;
/// The time after which the shop counts as dead.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match work(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("browse: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(args: &[String]) -> Outcome<()> {
    let [to, paths @ ..] = args else { return Err("want an address and paths".into()) };
    let to: SocketAddr = to.parse()?;
    say("ready")?;
    while let Some(line) = hear()? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["browse", seconds, per_second] = words[..] else {
            return Err(format!("not a command: {line:?}").into());
        };
        let (seconds, rate): (f64, f64) = (seconds.parse()?, per_second.parse()?);
        let (count, used) = ((seconds * rate) as usize, cpu_seconds());
        let began = Instant::now() + Duration::from_millis(50);
        let due = move |number: usize| began + Duration::from_secs_f64(number as f64 / rate);
        let waited: Result<Vec<Vec<u64>>, String> = scope(|scope| {
            let of = |first: usize| {
                scope.spawn(move || {
                    let mine = (first..count).step_by(CONNECTIONS);
                    browse(to, mine.map(|number| (due(number), &*paths[number % paths.len()])))
                })
            };
            let threads: Vec<_> = (0..CONNECTIONS.min(count)).map(of).collect();
            let said = threads.into_iter().map(|thread| match thread.join() {
                Ok(Ok(waited)) => Ok(waited),
                Ok(Err(error)) => Err(error),
                Err(_) => Err("a thread has panicked".into()),
            });
            said.collect()
        });
        let waited: Vec<u64> = waited?.into_iter().flatten().collect();
        let used = cpu_seconds() - used;
        say(&json!({ "pages": waited.len(), "cpu_seconds": used, "waited_us": waited }).to_string())?;
    }
    Ok(())
}

/// Asks for each page when it is due. Returns how long each was waited for, in microseconds.
fn browse<'a>(to: SocketAddr, pages: impl Iterator<Item = (Instant, &'a str)>) -> Result<Vec<u64>, String> {
    let named = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let mut stream = TcpStream::connect(to).map_err(|error| named("connect", &error))?;
    stream.set_nodelay(true).map_err(|error| named("connect", &error))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| named("connect", &error))?;
    let (head_end, mut buffer, mut waited) =
        (Finder::new(b"\r\n\r\n"), vec![0; ANSWER_BYTES_MAX], Vec::new());
    for (due, path) in pages {
        sleep(due.saturating_duration_since(Instant::now()));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: browse/1\r\nAccept: text/html\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|error| named(path, &error))?;
        let mut filled = 0;
        let body = loop {
            match stream.read(&mut buffer[filled..]).map_err(|error| named(path, &error))? {
                0 => return Err(format!("{path}: the connection was closed")),
                read => filled += read,
            }
            if head_end.find(&buffer[..filled]).is_some()
                && let Some(body) =
                    body_of(&buffer[..filled], &head_end).map_err(|error| named(path, &error))?
            {
                break body;
            }
        };
        let status = buffer.get(9..12).unwrap_or_default();
        if status != b"200" || body.end != filled {
            return Err(format!("{path}: status {}", String::from_utf8_lossy(status)));
        }
        waited.push(due.elapsed().as_micros() as u64);
    }
    Ok(waited)
}
