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

/// Reads bodies.
pub struct Bodies {
    reader: Box<dyn LogRead>,
    /// The first entry that was not looked at yet.
    next: Sequence,
    kept: BTreeMap<Sequence, Arc<[u8]>>,
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
            if let Some(body) = body_of(bytes) {
                *kept_bytes += body.len();
                kept.insert(sequence, body);
            }
            while *kept_bytes > KEPT_BYTES_MAX {
                let Some((_, body)) = kept.pop_first() else { break };
                *kept_bytes -= body.len();
            }
            ControlFlow::Continue(())
        })?;
        *next = last.next();
        Ok(())
    }

    /// The body that this entry has.
    pub fn get(&mut self, sequence: Sequence) -> Result<Option<Arc<[u8]>>, LogError> {
        if let Some(body) = self.kept.get(&sequence) {
            return Ok(Some(Arc::clone(body)));
        }
        let mut found = None;
        self.reader.read(sequence, &mut |_, bytes| {
            found = body_of(bytes);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

fn body_of(entry: &[u8]) -> Option<Arc<[u8]>> {
    if !Record::is_published(entry) {
        return None;
    }
    match Entry::decode(entry) {
        Ok(Entry { record: Record::Published { body, .. }, .. }) => Some(body),
        _ => None,
    }
}
