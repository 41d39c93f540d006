//! The bodies of events, from the log: the newest are kept in memory.

use crate::core::record::{Entry, Record};
use engines::{
    codec::Codec,
    log::{LogError, LogRead},
};
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};
use units::Sequence;

/// Entries that are caught up with, at the most: older bodies are read when they are asked for.
const BEHIND_MAX: u64 = 50_000;
/// Bytes of bodies in memory.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Of source and id.
    pub identity: u128,
    /// In the JSON format of CloudEvents.
    pub body: Arc<[u8]>,
}

/// Reads bodies.
pub struct Bodies {
    reader: Box<dyn LogRead>,
    /// The first entry that was not looked at yet.
    next: Sequence,
    kept: BTreeMap<Sequence, Stored>,
    kept_bytes: usize,
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bodies")
            .field("next", &self.next)
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl Bodies {
    /// Follows the log from its present end on.
    pub fn new(reader: Box<dyn LogRead>) -> Self {
        let next = reader.last().next();
        Self { reader, next, kept: BTreeMap::new(), kept_bytes: 0 }
    }

    /// Looks at what has been appended since the last call.
    pub fn follow(&mut self) -> Result<(), LogError> {
        let Self { reader, next, kept, kept_bytes } = self;
        *next = (*next).max(Sequence(reader.last().0.saturating_sub(BEHIND_MAX)));
        let last = reader.read(*next, &mut |sequence, bytes| {
            if let Some(stored) = stored_in(bytes) {
                *kept_bytes += stored.body.len();
                kept.insert(sequence, stored);
            }
            while *kept_bytes > KEPT_BYTES_MAX {
                let Some((_, stored)) = kept.pop_first() else { break };
                *kept_bytes -= stored.body.len();
            }
            ControlFlow::Continue(())
        })?;
        *next = last.next();
        Ok(())
    }

    /// The event of this entry.
    pub fn get(&mut self, sequence: Sequence) -> Result<Option<Stored>, LogError> {
        if let Some(stored) = self.kept.get(&sequence) {
            return Ok(Some(stored.clone()));
        }
        let mut found = None;
        self.reader.read(sequence, &mut |_, bytes| {
            found = stored_in(bytes);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

fn stored_in(entry: &[u8]) -> Option<Stored> {
    if !Record::is_published(entry) {
        return None;
    }
    match Entry::decode(entry) {
        Ok(Entry { record: Record::Published { identity, body, .. }, .. }) => Some(Stored { identity, body }),
        _ => None,
    }
}
