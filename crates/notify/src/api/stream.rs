//! The events of a topic as they are stored, as server-sent events. A stream has no state beyond
//! the connection: its reader knows the number up to which it has had everything, and asks from
//! there on again. Nothing is queued for it: it is read from the log at the reader's own pace.

use crate::{
    core::{Command, Numbered, Reply, record::EventNo},
    parts::Running,
    problem::{INVALID, Problem, of_reply},
    quotas::Taken,
    scope::KnownTopic,
    streams::Place,
};
use axum::{
    body::Bytes,
    extract::{Query, State},
    response::Response,
};
use contracts::TopicId;
use engines::log::LogError;
use futures_util::stream::unfold;
use http::{HeaderMap, header};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    io::Write,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep};
use units::Sequence;
use web::{
    api_keys::{ApiKeys, Operator, Role},
    protection::{Protection, drained},
    sse::{self, HEARTBEAT_EVERY},
    tenants::{Right, Scope},
};

/// The rights that a stream needs, at its beginning and for as long as it lasts.
pub(super) const RIGHTS: &[Right] = &[Right::Consume];
/// Events that are looked up, and bytes of them that are read, for one part of the answer. One
/// event may have more bytes.
const PART_EVENTS: usize = 256;
const PART_BYTES: usize = 64 << 10;
/// The pause before it is looked for new events again, when something was stored.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it is tried to read an event, a second apart, before it counts as damaged and is left
/// out, with a word.
const UNREAD_MAX: u32 = 120;
/// The wait when the events cannot be read at the moment.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// When a reader comes back whose connection broke, and one whose server stops: after the time in
/// which requests are still answered with 503, which no browser asks a second time, and not all at
/// once.
const BACK_AFTER_MS: u64 = 2000;
const BACK_AFTER_STOP_MS: u64 = 3000;
const BACK_SPREAD_MS: u64 = 4000;

/// From where on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// The number of the first event; the topic's next one if it is left out. With `Last-Event-ID`
    /// it does not count.
    #[serde(default)]
    from: Option<u64>,
}

/// `GET …/topics/{topic}/stream`.
#[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
pub(super) async fn stream(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    State(api_keys): State<Arc<ApiKeys>>,
    KnownTopic(topic): KnownTopic,
    operator: Operator,
    scope: Scope,
    Query(StreamQuery { from }): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    protection.refuse_draining()?;
    let last = last_event_id(&headers)?;
    let Numbered { next, .. } = numbered(&running, &topic, EventNo(u64::MAX), 0).await?;
    let taken = running.quotas.stream(operator.name(), &scope, protection.now())?;
    let place = running.streams.begin()?;
    let at = last.map(|last| last.saturating_add(1)).or(from).unwrap_or(next.0).max(1);
    let mut credentials = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::COOKIE] {
        credentials.extend(headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    let reader = Reader {
        sequence: running.handle.sequence(),
        draining: protection.draining.clone(),
        running,
        api_keys,
        credentials,
        checked: Instant::now(),
        topic,
        at,
        stage: Stage::Begins,
        unread: 0,
        _taken: taken,
        place,
    };
    let parts = unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) });
    Ok(sse::of_parts(parts))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong =
        || Problem::new(&INVALID, "Last-Event-ID: want the number of an event, as a stream has sent it");
    number.ok_or_else(wrong).map(Some)
}

async fn numbered(
    running: &Running,
    topic: &TopicId,
    from: EventNo,
    at_most: usize,
) -> Result<Numbered, Problem> {
    match running.ask(Command::Numbered { topic: topic.clone(), from, at_most }).await? {
        Reply::Numbered(numbered) => Ok(numbered),
        other => Err(of_reply(&other)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begins,
    Goes,
    Ends,
}

/// What comes next.
enum Part {
    Events(Bytes),
    /// There is none yet.
    None,
    /// There are some, and the log does not show them yet.
    NotYet,
}

/// A reader of a topic.
struct Reader {
    running: Arc<Running>,
    api_keys: Arc<ApiKeys>,
    sequence: watch::Receiver<Sequence>,
    draining: watch::Receiver<bool>,
    /// By what the caller is known; and when it was last checked that it still counts.
    credentials: HeaderMap,
    checked: Instant,
    topic: TopicId,
    /// The number of the next event.
    at: u64,
    stage: Stage,
    /// How often in a row the next event could not be read.
    unread: u32,
    _taken: Taken,
    place: Place,
}

impl Reader {
    /// The next part of the answer; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            Stage::Begins => {
                self.stage = Stage::Goes;
                // The number alone is no event, and is what a client comes back with that had none.
                let before = self.at - 1;
                return Some(format!("retry: {BACK_AFTER_MS}\nid: {before}\n\n").into());
            }
            Stage::Goes => {}
            Stage::Ends => return None,
        }
        let heartbeat = Instant::now() + HEARTBEAT_EVERY;
        loop {
            if *self.draining.borrow() {
                self.stage = Stage::Ends;
                let spread = self.place.number.wrapping_mul(997) % BACK_SPREAD_MS;
                return Some(format!("retry: {}\n\n", BACK_AFTER_STOP_MS + spread).into());
            }
            if self.checked.elapsed() >= HEARTBEAT_EVERY {
                self.checked = Instant::now();
                if !self.api_keys.may_still(&self.credentials, Role::ReadOnly, RIGHTS) {
                    return None;
                }
            }
            self.sequence.borrow_and_update();
            let is_readable = match self.part().await {
                Ok(Part::Events(part)) => {
                    self.unread = 0;
                    return Some(part);
                }
                Ok(Part::None) => true,
                Ok(Part::NotYet) | Err(_) => false,
            };
            self.unread += u32::from(!is_readable);
            if self.unread > UNREAD_MAX {
                self.unread = 0;
                return Some(self.gap(self.at + 1));
            }
            let left = heartbeat.saturating_duration_since(Instant::now());
            let wait = async {
                if !is_readable {
                    return sleep(AGAIN_AFTER).await;
                }
                if self.sequence.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                sleep(PAUSE).await;
            };
            tokio::select! {
                () = wait => {}
                () = drained(&mut self.draining) => {}
                () = sleep(left) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Goes on at this number, and says so.
    fn gap(&mut self, first: u64) -> Bytes {
        self.at = first;
        self.running.streams.gaps.fetch_add(1, Relaxed);
        let before = first - 1;
        format!("id: {before}\nevent: gap\ndata: {{\"first\":{first}}}\n\n").into()
    }

    /// The events that come next, or where they go on if some are gone.
    async fn part(&mut self) -> Result<Part, Problem> {
        let Numbered { first, next, events } =
            numbered(&self.running, &self.topic, EventNo(self.at), PART_EVENTS).await?;
        // Behind what is kept; or the topic was restored from a backup, and counts on from there.
        let goes_on = if self.at < first.0 { first } else { next };
        if self.at < first.0 || self.at > next.0 {
            return Ok(Part::Events(self.gap(goes_on.0)));
        }
        let sequences: Vec<Sequence> = events.iter().map(|(_, sequence)| *sequence).collect();
        if sequences.is_empty() {
            return Ok(Part::None);
        }
        let bodies = self.running.read_for_stream(move |reading| {
            let (mut bodies, mut bytes) = (Vec::new(), 0);
            for sequence in sequences {
                let Some(stored) = reading.event(sequence)? else { break };
                bytes += stored.body.len();
                // The first one is sent, however large.
                if bytes > PART_BYTES && !bodies.is_empty() {
                    break;
                }
                bodies.push(stored.body);
            }
            Ok::<_, LogError>(bodies)
        });
        let mut part = Vec::new();
        for ((number, _), body) in events.iter().zip(bodies.await?) {
            write_event(&mut part, *number, &body);
            self.at = number.0 + 1;
            self.running.streams.sent.fetch_add(1, Relaxed);
        }
        Ok(if part.is_empty() { Part::NotYet } else { Part::Events(part.into()) })
    }
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

fn write_event(out: &mut Vec<u8>, EventNo(number): EventNo, body: &[u8]) {
    let kind = serde_json::from_slice(body).map_or_else(|_| String::new(), |Typed { kind }| kind);
    // A line ends at each of these: what is between them would be a field of its own.
    let kind: String = kind.chars().filter(|c| !c.is_control()).collect();
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, "id: {number}");
    // What a stream or a browser says itself, no event can say.
    if !["gap", "error", "open", "message"].contains(&&*kind) {
        let _ = writeln!(out, "event: {kind}");
    }
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_so_that_no_text_of_it_is_a_field_of_its_own() {
        let check = |body: &str, want: &str| {
            let mut out = Vec::new();
            write_event(&mut out, EventNo(7), body.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), want);
        };
        check(r#"{"type":"a.b","data":1}"#, "id: 7\nevent: a.b\ndata: {\"type\":\"a.b\",\"data\":1}\n\n");
        check(r#"{"type":"gap","first":9}"#, "id: 7\ndata: {\"type\":\"gap\",\"first\":9}\n\n");
        check("{\"type\":\"a\\nid: 9\"}", "id: 7\nevent: aid: 9\ndata: {\"type\":\"a\\nid: 9\"}\n\n");
        check(
            "{\"type\":\"a\",\r\n\"data\":1}",
            "id: 7\nevent: a\ndata: {\"type\":\"a\",\ndata: \ndata: \"data\":1}\n\n",
        );
    }
}
