//! The winners' feed: signed lines from the log, streamed as they are read. The reader keeps its
//! position (`after`), so a store that was down goes on where it stopped.

use crate::{
    api::AtSale,
    front::Front,
    keys::Keyring,
    ports::{Winner, WinnerEvent},
    problem::{self, Problem},
    winners::append_line,
};
use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::header;
use schemars::JsonSchema;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use units::Sequence;
use web::protection::{Protection, drained};

/// The most events in memory at once.
const CHUNK_EVENTS: usize = 1000;
const WAIT_SECONDS_MAX: u64 = 60;

/// Which events of the log a feed has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    Winners,
    Refunds,
}

struct Feed {
    lines: Lines,
    keys: Arc<Keyring>,
    front: Arc<Front>,
    after: Sequence,
    sequence: watch::Receiver<Sequence>,
    draining: watch::Receiver<bool>,
    deadline: Instant,
    sent: bool,
}

/// Which log the lines come from. A reader that sends it as `log` is told if its position belongs
/// to another log.
const LOG_HEADER: &str = "floodgate-log";

/// `GET …/winners.ndjson?after=SEQ&wait=SECONDS&log=ID`: all events after a sequence. If there are
/// none, waits for the first.
pub(super) async fn winners(
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    State(protection): State<Arc<Protection>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    feed(Lines::Winners, front, keys, &protection, query).await
}

/// `GET …/refunds.ndjson`, with the same query: the payments that must be refunded.
pub(super) async fn refunds(
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    State(protection): State<Arc<Protection>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    feed(Lines::Refunds, front, keys, &protection, query).await
}

async fn feed(
    lines: Lines,
    front: Arc<Front>,
    keys: Arc<Keyring>,
    protection: &Protection,
    query: Option<String>,
) -> Result<Response, Problem> {
    let Query { after, wait_seconds, log } = parse_query(query.as_deref().unwrap_or_default())?;
    let last = *front.sale.sequence().borrow();
    let log_id = front.sale.log_id().to_owned();
    if log.is_some_and(|log| log != log_id) {
        let why = format!(
            "log: the sale's log is {log_id} now (a backup was restored?): what was read from another one may never have \
             happened here; read from after=0 and compare"
        );
        return Err(Problem::new(&problem::CONFLICT, why));
    }
    if after > last {
        let why = format!(
            "after: the log ends at {last}: it is not the log that {after} was read from (a backup was restored?)"
        );
        return Err(Problem::new(&problem::CONFLICT, why));
    }
    let mut feed = Feed {
        lines,
        sequence: front.sale.sequence(),
        draining: protection.draining.clone(),
        keys,
        front,
        after,
        deadline: Instant::now() + Duration::from_secs(wait_seconds),
        sent: false,
    };
    // The first chunk is read before the status line is sent, so that an error of the sale sets the
    // status.
    let first = feed.next().await.map_err(|e| Problem::unavailable(&e.to_string()))?;
    let rest = futures_util::stream::unfold((first, feed), |(ready, mut feed)| async move {
        let chunk = match ready {
            Some(chunk) => Ok(chunk),
            None if !feed.sent => return None,
            None => feed.next().await.transpose()?,
        };
        Some((chunk, (None, feed)))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, [(LOG_HEADER, log_id)], Body::from_stream(rest)).into_response())
}

/// The query, which [`parse_query`] reads.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct FeedQuery {
    /// Events after this sequence.
    #[schemars(range(min = 0), default)]
    after: Option<u64>,
    /// Seconds to wait for the first event if there is none.
    #[schemars(range(max = 60), default)]
    wait: Option<u64>,
    /// The Floodgate-Log header of the answer that `after` was read from. 409 if the sale has
    /// another log now.
    log: Option<String>,
}

struct Query<'a> {
    after: Sequence,
    wait_seconds: u64,
    log: Option<&'a str>,
}

fn parse_query(query: &str) -> Result<Query<'_>, Problem> {
    let (mut after, mut wait, mut log) = (0, 0, None);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number: Option<u64> =
            Some(value).filter(|v| v.bytes().all(|b| b.is_ascii_digit())).and_then(|v| v.parse().ok());
        match (name, number) {
            ("log", _) => log = Some(value),
            ("after", Some(number)) => after = number,
            ("wait", Some(number)) if number <= WAIT_SECONDS_MAX => wait = number,
            ("after", None) => {
                return Err(Problem::new(&problem::INVALID, "after: want a sequence number, 0 for all"));
            }
            ("wait", _) => return Err(Problem::new(&problem::INVALID, "wait: want 0 to 60 seconds")),
            _ => {
                return Err(Problem::new(&problem::INVALID, "query: want after, wait and log, nothing else"));
            }
        }
    }
    Ok(Query { after: Sequence(after), wait_seconds: wait, log })
}

impl Feed {
    /// The next lines; `None` if the end of the log is reached and something was sent, or if no
    /// event came in time.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let durable = *self.sequence.borrow_and_update();
            if self.after < durable {
                let lines = self.read().await?;
                if !lines.is_empty() {
                    self.sent = true;
                    return Ok(Some(lines));
                }
                continue;
            }
            if self.sent {
                return Ok(None);
            }
            let changed = async {
                tokio::select! {
                    changed = self.sequence.changed() => changed.is_ok(),
                    () = drained(&mut self.draining) => false,
                }
            };
            if !timeout_at(self.deadline, changed).await.unwrap_or(false) {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let (keys, front, after) = (Arc::clone(&self.keys), Arc::clone(&self.front), self.after);
        let wanted = self.lines;
        let read = move || -> io::Result<(Vec<u8>, Sequence)> {
            let (winners, searched) = front.sale.winners(after, CHUNK_EVENTS).map_err(io::Error::other)?;
            let view = front.sale.view();
            let mut lines = Vec::with_capacity(winners.len() * 400);
            let is_wanted = |winner: &&Winner| {
                let is_refund = matches!(winner.event, WinnerEvent::RefundDue { .. });
                is_refund == (wanted == Lines::Refunds)
            };
            for winner in winners.iter().filter(is_wanted) {
                append_line(&keys, view.sale.as_str(), &view.spec, winner, &mut lines);
            }
            Ok((lines, searched))
        };
        let (lines, searched) = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        if searched <= self.after {
            return Err(io::Error::other("read winners: the log does not go on"));
        }
        self.after = searched;
        Ok(lines.into())
    }
}
