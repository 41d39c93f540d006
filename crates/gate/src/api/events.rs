//! The outcome of an attempt as server-sent events: the present answer, then a new one whenever it
//! changes, until it can no longer change by itself. The answers are those of `GET
//! …/attempts/{attempt}`.

use super::PassHolder;
use crate::{
    attempts::parse_attempt,
    decisions::current,
    front::Front,
    pass::Pass,
    problem::Problem,
    streams::{StreamPermit, Streams},
};
use axum::{
    extract::{Path, State},
    response::Response,
};
use contracts::AttemptId;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use units::Sequence;
use web::{
    protection::Protection,
    sse::{self, Event},
};

/// A busy log grows thousands of times a second. A shopper's answer is looked up no more often than
/// this.
const LOOKUP_EVERY: Duration = Duration::from_millis(500);

struct Followed {
    front: Arc<Front>,
    pass: Pass,
    attempt: AttemptId,
    sequence: watch::Receiver<Sequence>,
    sent: String,
    phase: Phase,
    _permit: StreamPermit,
}

#[derive(PartialEq, Eq)]
enum Phase {
    First,
    /// A place in line changes all the time, so it is looked up when the answer says so.
    Waiting {
        in_line: Option<Duration>,
    },
    Done,
}

/// `GET …/attempts/{attempt}/events`.
pub(super) async fn stream(
    PassHolder { front, pass, peer }: PassHolder,
    State(streams): State<Arc<Streams>>,
    State(protection): State<Arc<Protection>>,
    Path((_, attempt)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let attempt = parse_attempt(&attempt)?;
    let followed = Followed {
        _permit: streams.admit(peer, &pass)?,
        sequence: front.sale.sequence(),
        front,
        pass,
        attempt,
        sent: String::new(),
        phase: Phase::First,
    };
    let events = futures_util::stream::unfold(followed, |mut followed| async move {
        let data = followed.next().await?;
        Some((Event { name: "attempt", data }, followed))
    });
    Ok(sse::response(events, protection.draining.clone()))
}

impl Followed {
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.phase {
                Phase::First => {}
                Phase::Done => return None,
                Phase::Waiting { in_line: Some(wait) } => sleep(wait).await,
                Phase::Waiting { in_line: None } => {
                    self.sequence.changed().await.ok()?;
                    sleep(LOOKUP_EVERY).await;
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
                self.sent.clone_from(&text);
                return Some(text);
            }
        }
    }
}
