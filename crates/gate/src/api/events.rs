//! What becomes of an attempt, as server-sent events: the present answer, then a new one whenever
//! it changes, until nothing more can happen by itself. Reads the same answer as asking does.

use super::attempts::{current, parse_attempt};
use crate::{
    front::Front,
    pass::Pass,
    problem::Problem,
    state::{Gate, StreamPermit},
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use contracts::AttemptId;
use http::{HeaderMap, header};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use units::Sequence;
use web::protection::drained;
use web::server::Peer;

/// A busy log moves thousands of times a second; a shopper's own answer is looked up no more often
/// than this.
const LOOKUP_EVERY: Duration = Duration::from_millis(500);
/// Proxies cut connections that say nothing for a minute.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

struct Stream {
    front: Arc<Front>,
    pass: Pass,
    attempt: AttemptId,
    sequence: watch::Receiver<Sequence>,
    draining: watch::Receiver<bool>,
    sent: String,
    phase: Phase,
    _permit: StreamPermit,
}

#[derive(PartialEq, Eq)]
enum Phase {
    First,
    /// Whoever is in line is looked for when the answer says so, for a place changes all the time.
    Waiting {
        in_line: Option<Duration>,
    },
    Done,
}

/// `GET …/attempts/{attempt}/events`.
pub(super) async fn stream(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path((sale, attempt)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let pass = gate.pass(&headers, &sale)?;
    let attempt = parse_attempt(&attempt)?;
    let permit = gate.admit_stream(peer, &pass)?;
    let stream = Stream {
        sequence: front.sale.sequence(),
        draining: gate.protection.draining.clone(),
        front,
        pass,
        attempt,
        sent: String::new(),
        phase: Phase::First,
        _permit: permit,
    };
    let chunks = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, Infallible>(chunk), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

impl Stream {
    async fn next(&mut self) -> Option<String> {
        let heartbeat = Instant::now() + HEARTBEAT_EVERY;
        loop {
            match self.phase {
                Phase::First => {}
                Phase::Done => return None,
                Phase::Waiting { in_line } => {
                    tokio::select! {
                        changed = self.sequence.changed(), if in_line.is_none() => {
                            changed.ok()?;
                            sleep(LOOKUP_EVERY).await;
                        }
                        () = sleep(in_line.unwrap_or(LOOKUP_EVERY)), if in_line.is_some() => {}
                        () = sleep_until(heartbeat) => return Some(":\n\n".into()),
                        () = drained(&mut self.draining) => return None,
                    }
                }
            }
            self.sequence.mark_unchanged();
            let outcome = current(&self.front, &self.pass, self.attempt).await.ok()?.outcome;
            self.phase = match outcome.is_final() {
                true => Phase::Done,
                false => {
                    let in_line = outcome.retry_after_ms.filter(|_| outcome.is_queued());
                    Phase::Waiting { in_line: in_line.map(Duration::from_millis) }
                }
            };
            let text = serde_json::to_string(&outcome).expect("answers have no map with odd keys");
            if text != self.sent {
                let event = format!("event: attempt\ndata: {text}\n\n");
                self.sent = text;
                return Some(event);
            }
        }
    }
}
