//! What the engine asks of JetStream: to make a stream, to tell how far it is, to store a message
//! if nothing came in between, to read messages and to forget them.
//!
//! Knows no entries. The requests are those of
//! <https://docs.nats.io/reference/reference-protocols/nats_api_reference>; messages are read by
//! direct gets (ADR-31 of nats-architecture-and-design).

use super::connection::{Connection, Unanswered, away};
use crate::log::LogError;
use async_nats::{HeaderMap, Message};
use serde_json::{Value, json};
use std::sync::Arc;
use std::{fmt, io};

/// Codes of the server's errors.
mod code {
    pub(super) const NO_STREAM: u64 = 10059;
    /// There is one of that name with other settings.
    pub(super) const OTHER_STREAM: u64 = 10058;
    pub(super) const WRONG_LAST: [u64; 2] = [10071, 10164];
    pub(super) const STORE_FAILED: u64 = 10077;
    /// The account, the server or the machine has no room left.
    pub(super) const NO_ROOM: [u64; 2] = [10023, 10047];
    /// JetStream, its leader, or the servers that have the stream are not there for the moment.
    pub(super) const NOT_NOW: [u64; 5] = [10008, 10009, 10039, 10076, 10118];
}

/// Status of an answer without a message.
const NOT_FOUND: u16 = 404;

/// The server's refusal, or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiError {
    Unanswered(Unanswered),
    Refused {
        code: u64,
        why: String,
    },
    /// It cannot be understood.
    Garbled(String),
}

impl ApiError {
    pub(super) fn is_no_stream(&self) -> bool {
        matches!(self, Self::Refused { code: code::NO_STREAM, .. })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(why) => why.fmt(f),
            Self::Refused { code, why } => write!(f, "the server refuses: {why} ({code})"),
            Self::Garbled(what) => write!(f, "the server's answer is not understood: {what}"),
        }
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It is stored, at the sequence after the expected one.
    Stored,
    /// Nothing was stored: the stream ends elsewhere.
    WrongLast,
    /// Nothing was stored, for there is no room.
    NoRoom(String),
    /// Nothing was stored: no server was there to do it.
    NotStored(String),
    /// It may be stored, or may yet be.
    Unknown(String),
}

/// How far a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// The first message that is kept; after the last one if there is none.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) config: Value,
    /// Messages of each subject, if asked for.
    pub(super) subjects: Vec<(String, u64)>,
}

/// A message with its sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) at: u64,
    pub(super) payload: Vec<u8>,
}

/// How a stream is made.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) subjects: &'a str,
    pub(super) replicas: usize,
    pub(super) description: &'a str,
    pub(super) log_id: &'a str,
}

/// A stream of the servers.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    connection: Arc<Connection>,
    name: String,
}

impl Stream {
    pub(super) fn new(connection: Arc<Connection>, name: String) -> Self {
        Self { connection, name }
    }

    /// Another stream of the same servers.
    pub(super) fn renamed(&self, name: String) -> Self {
        Self::new(Arc::clone(&self.connection), name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The error of something that was not answered as it should be.
    pub(super) fn failed(&self, doing: &str, error: &ApiError) -> LogError {
        let doing = format!("{doing} stream {}", self.name);
        match error {
            ApiError::Unanswered(why) => away(doing, why.to_string()),
            ApiError::Refused { code: code::NO_STREAM, .. } => LogError::Damaged {
                file: format!("stream {} on {}", self.name, self.connection.place()),
                offset: 0,
                why: "the log that was here is gone".into(),
            },
            ApiError::Refused { code, .. } if code::NOT_NOW.contains(code) => away(doing, error.to_string()),
            ApiError::Refused { code, .. } if code::NO_ROOM.contains(code) => {
                let source = io::Error::new(io::ErrorKind::StorageFull, error.to_string());
                LogError::Io { doing, source }
            }
            ApiError::Refused { .. } | ApiError::Garbled(_) => {
                LogError::Io { doing, source: io::Error::other(error.to_string()) }
            }
        }
    }

    fn api(&self, what: &str, body: &Value) -> Result<Value, ApiError> {
        let subject = format!("$JS.API.STREAM.{what}.{}", self.name);
        let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer =
            self.connection.ask(&subject, HeaderMap::new(), payload).map_err(ApiError::Unanswered)?;
        parse(&answer.payload)
    }

    /// Makes the stream; if it is there already, that is as good.
    ///
    /// Messages stay until they are purged; nothing else may remove one. A full stream refuses,
    /// instead of forgetting what is old.
    pub(super) fn make(&self, making: &Making<'_>) -> Result<(), ApiError> {
        let config = json!({
            "name": self.name, "subjects": [making.subjects], "num_replicas": making.replicas,
            "description": making.description, "metadata": { "floodgate-log": making.log_id },
            "retention": "limits", "storage": "file", "discard": "new", "max_age": 0, "max_msgs": -1,
            "max_bytes": -1, "max_msgs_per_subject": -1, "allow_direct": true, "deny_delete": true,
            "deny_purge": false, "allow_rollup_hdrs": false,
        });
        match self.api("CREATE", &config) {
            Err(ApiError::Refused { code: code::OTHER_STREAM, .. }) => Ok(()),
            made => made.map(drop),
        }
    }

    pub(super) fn delete(&self) -> Result<(), ApiError> {
        match self.api("DELETE", &Value::Null) {
            Err(error) if error.is_no_stream() => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    pub(super) fn info(&self) -> Result<Info, ApiError> {
        self.info_with(&Value::Null)
    }

    /// With the messages of each subject.
    pub(super) fn info_with_subjects(&self) -> Result<Info, ApiError> {
        self.info_with(&json!({ "subjects_filter": ">" }))
    }

    fn info_with(&self, body: &Value) -> Result<Info, ApiError> {
        let answer = self.api("INFO", body)?;
        let state = &answer["state"];
        let number = |name: &str| {
            state[name].as_u64().ok_or_else(|| ApiError::Garbled(format!("a state without {name}")))
        };
        let subjects = state["subjects"].as_object().into_iter().flatten();
        let subjects = subjects.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect();
        Ok(Info {
            first: number("first_seq")?,
            last: number("last_seq")?,
            config: answer["config"].clone(),
            subjects,
        })
    }

    /// Stores a message as the one after `expected`, or as whichever is next if none is expected.
    /// It is durable when this returns [`Published::Stored`].
    pub(super) fn publish(&self, subject: &str, expected: Option<u64>, payload: Vec<u8>) -> Published {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", self.name.as_str());
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Sequence", expected.to_string());
        }
        let answer = match self.connection.ask(subject, headers, payload) {
            Ok(answer) => answer,
            Err(Unanswered::NotSent(why)) => return Published::NotStored(why),
            Err(Unanswered::Lost(why)) => return Published::Unknown(why),
        };
        let said = match parse(&answer.payload) {
            Ok(said) => said,
            Err(ApiError::Refused { code, .. }) if code::WRONG_LAST.contains(&code) => {
                return Published::WrongLast;
            }
            Err(ApiError::Refused { code, why }) => {
                let is_full =
                    code::NO_ROOM.contains(&code) || code == code::STORE_FAILED && why.contains("maximum");
                let why = format!("{}: the server refuses: {why} ({code})", self.connection.place());
                return match is_full {
                    true => Published::NoRoom(why),
                    false if code::NOT_NOW.contains(&code) => Published::NotStored(why),
                    false => Published::Unknown(why),
                };
            }
            Err(error) => return Published::Unknown(error.to_string()),
        };
        let at = said["seq"].as_u64();
        let is_ours = said["duplicate"] != json!(true) && expected.is_none_or(|last| at == Some(last + 1));
        if at.is_some() && is_ours {
            Published::Stored
        } else {
            Published::Unknown(format!("{}: stored elsewhere than expected: {said}", self.connection.place()))
        }
    }

    /// The message at a sequence.
    pub(super) fn get(&self, at: u64) -> Result<Option<Stored>, ApiError> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let body = json!({ "seq": at }).to_string().into_bytes();
        let answer = self.connection.ask(&subject, HeaderMap::new(), body).map_err(ApiError::Unanswered)?;
        stored(answer)
    }

    /// The messages from a sequence on: at most so many, and no further ones after so many bytes.
    /// Fewer come, or none, if there are no more.
    pub(super) fn get_many(
        &self,
        from: u64,
        of_subject: Option<&str>,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, ApiError> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name);
        let mut body = json!({ "seq": from, "batch": count, "max_bytes": bytes });
        if let Some(of_subject) = of_subject {
            body["next_by_subj"] = json!(of_subject);
        }
        let answers = self
            .connection
            .ask_many(&subject, body.to_string().into_bytes(), |answer| answer.status.is_some());
        let mut all = Vec::new();
        for answer in answers.map_err(ApiError::Unanswered)? {
            // The last one says that there are no more, or that there are none.
            if answer.status.is_some_and(|status| status.as_u16() == 204) {
                break;
            }
            all.extend(stored(answer)?);
        }
        Ok(all)
    }

    /// Forgets the messages before this one.
    pub(super) fn purge_before(&self, at: u64) -> Result<(), ApiError> {
        self.api("PURGE", &json!({ "seq": at })).map(drop)
    }

    /// Forgets the messages of a subject.
    pub(super) fn purge_subject(&self, subject: &str) -> Result<(), ApiError> {
        self.api("PURGE", &json!({ "filter": subject })).map(drop)
    }
}

fn parse(payload: &[u8]) -> Result<Value, ApiError> {
    let said: Value =
        serde_json::from_slice(payload).map_err(|error| ApiError::Garbled(error.to_string()))?;
    let error = &said["error"];
    if error.is_null() {
        return Ok(said);
    }
    let why = error["description"].as_str().unwrap_or("no reason is given").to_owned();
    Err(ApiError::Refused { code: error["err_code"].as_u64().unwrap_or_default(), why })
}

fn stored(answer: Message) -> Result<Option<Stored>, ApiError> {
    if let Some(status) = answer.status {
        let status = status.as_u16();
        return match status {
            NOT_FOUND => Ok(None),
            503 => Err(ApiError::Unanswered(Unanswered::NotSent("no server answers for this stream".into()))),
            _ => Err(ApiError::Garbled(format!("status {status}"))),
        };
    }
    let at = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Sequence"));
    let at = at.and_then(|at| at.as_str().parse().ok());
    let at = at.ok_or_else(|| ApiError::Garbled("a message without its sequence".into()))?;
    Ok(Some(Stored { at, payload: answer.payload.to_vec() }))
}
