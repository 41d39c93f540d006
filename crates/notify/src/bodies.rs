//! The bodies of events, from the log: the newest are kept in memory.

use crate::core::record::{Entry, Record};
use engines::{
    codec::Codec,
    log::{LogError, LogRead},
};
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};
use units::Sequence;

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
        let mut found = Vec::new();
        let last = self.reader.read(self.next, &mut |sequence, bytes| {
            found.extend(body_of(bytes).map(|body| (sequence, body)));
            ControlFlow::Continue(())
        })?;
        self.next = last.next();
        for (sequence, body) in found {
            self.kept_bytes += body.len();
            self.kept.insert(sequence, body);
        }
        while self.kept_bytes > KEPT_BYTES_MAX {
            let Some((_, body)) = self.kept.pop_first() else { break };
            self.kept_bytes -= body.len();
        }
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
