//! The time from a publish to its first attempt, one event at a time, and an endpoint that says
//! when a delivery has come.

use super::{messages::Floodgate, servers::PATIENCE};
use crate::shell::Failure;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// The pause before each event.
const PAUSE: Duration = Duration::from_millis(10);

/// Which status a delivery with this body gets.
type StatusOf = fn(&[u8]) -> u16;

/// An endpoint with a thread for each connection. It ends with the bench: it has nothing to put
/// away.
pub(super) struct Endpoint {
    pub(super) at: SocketAddr,
    arrivals: Receiver<Instant>,
}

impl Endpoint {
    /// What gets 204 is told.
    pub(super) fn start(status_of: StatusOf) -> Result<Self, Failure> {
        let endpoint = TcpListener::bind("127.0.0.1:0")?;
        let at = endpoint.local_addr()?;
        let (came, arrivals) = channel();
        spawn(move || {
            endpoint.incoming().flatten().for_each(|stream| {
                let came = came.clone();
                drop(spawn(move || answer_all(stream, status_of, &came)));
            });
        });
        Ok(Self { at, arrivals })
    }

    /// When the next delivery came that got 204.
    pub(super) fn next(&self) -> Option<Instant> {
        self.arrivals.recv_timeout(PATIENCE).ok()
    }
}

/// Answers each request of a connection.
fn answer_all(stream: TcpStream, status_of: StatusOf, came: &Sender<Instant>) {
    let Ok(mut to) = stream.try_clone() else { return };
    let _ = to.set_nodelay(true);
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    // A line, or the empty one that ends a head.
    while from.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        let is_end = line == "\r\n";
        line.clear();
        if !is_end {
            continue;
        }
        let mut body = vec![0; length];
        if from.read_exact(&mut body).is_err() {
            return;
        }
        let status = status_of(&body);
        if status == 204 && came.send(Instant::now()).is_err() {
            return;
        }
        let answer = match status {
            204 => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            _ => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"),
        };
        if to.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Numbers events, so that none is like another.
#[derive(Default)]
pub(super) struct Probes {
    posted: usize,
}

impl Probes {
    /// The milliseconds from the moment when an event begins to be sent until it has come to the
    /// endpoint, of so many events.
    pub(super) fn take(
        &mut self,
        server: &Floodgate,
        endpoint: &Endpoint,
        count: usize,
    ) -> Result<Vec<f64>, Failure> {
        let mut stream = TcpStream::connect(server.at)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut took_ms = Vec::with_capacity(count);
        let filler = "x".repeat(800);
        for _ in 0..count {
            self.posted += 1;
            let number = self.posted;
            let event = format!(
                "{{\"specversion\":\"1.0\",\"type\":\"probe\",\"source\":\"/probe\",\"id\":\"{number}\",\
                 \"partitionkey\":\"probe-{number}\",\"data\":{{\"filler\":\"{filler}\"}}}}"
            );
            let request = format!(
                "POST /api/v1/topics/bench/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/cloudevents+json\r\nContent-Length: {}\r\n\r\n{event}",
                server.api_key,
                event.len()
            );
            sleep(PAUSE);
            let sent = Instant::now();
            stream.write_all(request.as_bytes())?;
            let mut answer = [0; 4096];
            let read = stream.read(&mut answer)?;
            if !answer[..read].starts_with(b"HTTP/1.1 202") {
                return Err(Failure(format!("not stored: {}", String::from_utf8_lossy(&answer[..read]))));
            }
            let came = endpoint.next().ok_or_else(|| Failure(format!("event {number} was not delivered")))?;
            took_ms.push((came - sent).as_secs_f64() * 1e3);
        }
        Ok(took_ms)
    }
}

/// The value of which this part of all is lower.
pub(super) fn part_of(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or(f64::NAN)
}
