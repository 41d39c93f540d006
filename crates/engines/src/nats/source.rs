//! A stream as a log: its messages, each checked when it is read. Nothing that is damaged, missing
//! or foreign is passed over.
//!
//! Knows messages, and not how entries are found in them.

use super::api::{ApiError, Stored, Stream};
use super::connection::{Connection, PATIENCE, Unanswered, away};
use super::message::{Header, Identity, Wrong, decode};
use crate::log::LogError;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use units::Sequence;

/// From where to where a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: Sequence,
    pub(super) first_at: u64,
    pub(super) last: Sequence,
    pub(super) last_at: u64,
}

/// A stream as a log: its messages, checked.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) stream: Stream,
    pub(super) identity: Identity,
}

impl Source {
    pub(super) fn new(connection: &Arc<Connection>, name: &str, identity: Identity) -> Self {
        Self { stream: Stream::new(Arc::clone(connection), name.to_owned()), identity }
    }

    pub(super) fn damaged(&self, at: u64, why: &str) -> LogError {
        let (name, place) = (self.stream.name(), self.stream.connection().place());
        let file = format!("message {at} of stream {name} on {place}");
        LogError::Damaged { file, offset: 0, why: why.into() }
    }

    pub(super) fn wrong(&self, at: u64, wrong: Wrong) -> LogError {
        match wrong {
            Wrong::Damaged(why) => self.damaged(at, why),
            Wrong::Foreign(why) => {
                let file = format!("message {at} of stream {}", self.stream.name());
                LogError::Foreign { file, why: why.into() }
            }
        }
    }

    pub(super) fn decode<'a>(&self, message: &'a Stored) -> Result<(Header, u32, &'a [u8]), LogError> {
        decode(self.identity, message.at, &message.payload).map_err(|wrong| self.wrong(message.at, wrong))
    }

    /// A message that the stream has. With several servers the one that answers may not have it
    /// yet.
    pub(super) fn get(&self, at: u64) -> Result<Stored, LogError> {
        let mut found = self.insist(at, || Ok(self.stream.get(at)?.into_iter().collect()))?;
        Ok(found.swap_remove(0))
    }

    /// Asks again until there are messages, the first of which must be that at `at`.
    pub(super) fn insist(
        &self,
        at: u64,
        ask: impl Fn() -> Result<Vec<Stored>, ApiError>,
    ) -> Result<Vec<Stored>, LogError> {
        const AGAIN_AFTER: Duration = Duration::from_millis(50);
        let until = Instant::now() + PATIENCE;
        loop {
            let found = match ask() {
                Ok(found) => found,
                // No server answers for a stream that is gone, nor for one that will soon be back.
                Err(error @ ApiError::Unanswered(Unanswered::NotSent(_))) => {
                    let error = self.stream.info().err().unwrap_or(error);
                    return Err(self.stream.failed("read", &error));
                }
                Err(error) => return Err(self.stream.failed("read", &error)),
            };
            if found.first().is_some_and(|first| first.at == at) {
                return Ok(found);
            }
            let info = self.stream.info().map_err(|error| self.stream.failed("read", &error))?;
            if info.first > at || info.last < at {
                let (first, last) = (info.first, info.last);
                return Err(self.damaged(at, &format!("the stream has only those from {first} to {last}")));
            }
            if let Some(first) = found.first() {
                let why = format!("it is missing: the next one that is there is {}", first.at);
                return Err(self.damaged(at, &why));
            }
            if Instant::now() > until {
                let doing = format!("read stream {}", self.stream.name());
                return Err(away(doing, format!("the server that answers has no message {at} yet")));
            }
            thread::sleep(AGAIN_AFTER);
        }
    }

    /// From where to where the log goes, as the server tells it.
    pub(super) fn extent(&self) -> Result<Extent, LogError> {
        let info = self.stream.info().map_err(|error| self.stream.failed("read", &error))?;
        if info.last == 0 || info.first > info.last {
            return Err(self.damaged(info.last, "the stream is empty: what was in it is gone"));
        }
        let (last, ..) = self.decode(&self.get(info.last)?)?;
        let (first, ..) = self.decode(&self.get(info.first)?)?;
        if first.part > 0 {
            return Err(self.damaged(info.first, "the log begins in the middle of a batch"));
        }
        Ok(Extent { first: first.first, first_at: info.first, last: last.last(), last_at: info.last })
    }
}
