//! Finds an entry among the messages of a stream, and reads on from there.
//!
//! Knows no server: where messages come from, and whether they are whole, is in [`Source`].

use super::connection::Connection;
use super::message::{Identity, Parts};
use super::snapshots::NatsSnapshots;
use super::source::{Extent, Source};
use crate::log::{LogError, LogId, LogRead, Partition, Snapshots as _, Visit};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use units::Sequence;

/// Messages that are read at once: few at first, because a caller may want one entry only.
const AT_ONCE_FIRST: usize = 4;
const AT_ONCE_MAX: usize = 512;
/// After so many bytes no further message is sent.
const BYTES_AT_ONCE: usize = 4 << 20;
/// Messages whose place among the entries is remembered: enough that the top of a search among
/// millions need not be asked for again.
const PROBES_MAX: usize = 512;

/// What a process knows of its log.
#[derive(Debug)]
pub(super) struct Shared {
    /// The last entry that is durable, and a message that is not before it.
    last: AtomicU64,
    last_at: AtomicU64,
    /// The first entry that is kept, and the message that it begins.
    first: AtomicU64,
    first_at: AtomicU64,
    /// The first entry after a trim that was asked for: it may have been done without an answer.
    asked_first: AtomicU64,
}

impl Shared {
    pub(super) fn new(extent: Extent) -> Self {
        let atomic = AtomicU64::new;
        Self {
            last: atomic(extent.last.0),
            last_at: atomic(extent.last_at),
            first: atomic(extent.first.0),
            first_at: atomic(extent.first_at),
            asked_first: atomic(extent.first.0),
        }
    }

    /// The log is about to be trimmed up to this entry.
    pub(super) fn asks_first(&self, first: Sequence) {
        self.asked_first.fetch_max(first.0, Ordering::AcqRel);
    }

    pub(super) fn asked_first(&self) -> Sequence {
        Sequence(self.asked_first.load(Ordering::Acquire))
    }

    pub(super) fn set_last(&self, last: Sequence, at: u64) {
        // In this order: a reader that sees the entry sees its message.
        self.last_at.store(at, Ordering::Release);
        self.last.store(last.0, Ordering::Release);
    }

    pub(super) fn set_first(&self, first: Sequence, at: u64) {
        // A reader may tell it too, and later than the writer: it never goes back.
        self.first_at.fetch_max(at, Ordering::AcqRel);
        self.first.fetch_max(first.0, Ordering::AcqRel);
    }

    pub(super) fn extent(&self) -> Extent {
        let load = |of: &AtomicU64| of.load(Ordering::Acquire);
        let (first, last) = (Sequence(load(&self.first)), Sequence(load(&self.last)));
        Extent { first, first_at: load(&self.first_at), last, last_at: load(&self.last_at) }
    }
}

/// Where the entries of a message belong.
#[derive(Debug, Clone, Copy)]
struct Probe {
    first: Sequence,
    part: u16,
}

/// Reads a log, beside its writer or in another process.
#[derive(Debug)]
pub struct NatsReader {
    source: Source,
    /// What the writer in this process tells; none in another process.
    shared: Option<Arc<Shared>>,
    extent: Extent,
    /// Where the last read ended: the entry that is due, and the message after those that were
    /// read.
    cursor: Option<(Sequence, u64)>,
    probes: BTreeMap<u64, Probe>,
}

/// Opens a log for reading only. Its writer, if there is one, goes on.
pub fn open_read_only(
    connection: &Arc<Connection>,
    name: &str,
    log_id: LogId,
    partition: Partition,
) -> Result<NatsReader, LogError> {
    connection.wait()?;
    let source = Source::new(connection, name, Identity { log_id, partition });
    let extent = source.extent()?;
    Ok(NatsReader::new(source, None, extent))
}

impl NatsReader {
    pub(super) fn new(source: Source, shared: Option<Arc<Shared>>, extent: Extent) -> Self {
        Self { source, shared, extent, cursor: None, probes: BTreeMap::new() }
    }

    /// The log's newest usable snapshot.
    pub fn latest_snapshot(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        NatsSnapshots::new(self.source.clone(), 1).latest()
    }

    fn current(&self) -> Extent {
        self.shared.as_ref().map_or(self.extent, |shared| shared.extent())
    }

    /// The message with which to begin: of the batch that has this entry, which is not before the
    /// first that is kept, nor after the last.
    pub(super) fn find(&mut self, entry: Sequence, extent: &Extent) -> Result<(u64, Sequence), LogError> {
        // The last message whose entries do not begin after it is the last of its batch.
        let (mut low, mut high) = (extent.first_at, extent.last_at);
        self.probes.retain(|&at, _| at >= low);
        for (&at, probe) in &self.probes {
            if probe.first <= entry {
                low = low.max(at);
            } else {
                high = high.min(at - 1);
                break;
            }
        }
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.probe(middle)?.first <= entry {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let found = self.probe(low)?;
        Ok((low - u64::from(found.part), found.first))
    }

    /// As [`Self::find`], also after a trim that took effect and whose answer was lost: what it
    /// removed is not missing.
    fn find_settled(&mut self, entry: Sequence, extent: &Extent) -> Result<(u64, Sequence), LogError> {
        match (self.find(entry, extent), &self.shared) {
            (Err(LogError::Damaged { .. }), Some(shared)) if shared.asked_first() > extent.first => {
                let shared = Arc::clone(shared);
                let there = self.source.extent()?;
                shared.set_first(there.first, there.first_at);
                self.probes.clear();
                self.find(entry, &Extent { first: there.first, first_at: there.first_at, ..*extent })
            }
            (found, _) => found,
        }
    }

    fn probe(&mut self, at: u64) -> Result<Probe, LogError> {
        if let Some(probe) = self.probes.get(&at) {
            return Ok(*probe);
        }
        let message = self.source.get(at)?;
        let (header, ..) = self.source.decode(&message)?;
        let probe = Probe { first: header.first, part: header.part };
        if self.probes.len() >= PROBES_MAX {
            self.probes.clear();
        }
        self.probes.insert(at, probe);
        Ok(probe)
    }

    /// Visits the entries from the message at `at` on, as far as the extent goes. Returns the last
    /// one visited, and whether the visitor wants to go on.
    fn scan(
        &mut self,
        from: Sequence,
        mut at: u64,
        extent: &Extent,
        visit: &mut Visit<'_>,
    ) -> Result<(Sequence, ControlFlow<()>), LogError> {
        let source = self.source.clone();
        let (mut due, mut visited) = (None, Sequence(from.0 - 1));
        let (mut parts, mut count) = (Parts::default(), AT_ONCE_FIRST);
        while visited < extent.last {
            let wanted = at;
            let found =
                source.insist(wanted, || source.stream.get_many(wanted, None, count, BYTES_AT_ONCE))?;
            for message in &found {
                if message.at != at {
                    return Err(source.damaged(at, "it is missing"));
                }
                let (header, _, body) = source.decode(message)?;
                if due.is_some_and(|due| header.first != due) {
                    return Err(source.damaged(at, "its entries are not those that are due"));
                }
                due = Some(header.first);
                at += 1;
                let Some(batch) =
                    parts.take(header, body).map_err(|wrong| source.wrong(message.at, wrong))?
                else {
                    continue;
                };
                due = Some(Sequence(header.first.0 + u64::from(header.count)));
                let entries = entries(batch, header.count)
                    .ok_or_else(|| source.damaged(message.at, "its entries are not as many as it says"))?;
                for (nth, entry) in entries.enumerate() {
                    let sequence = Sequence(header.first.0 + nth as u64);
                    if sequence < from || sequence > extent.last {
                        continue;
                    }
                    visited = sequence;
                    if visit(sequence, entry).is_break() {
                        return Ok((visited, ControlFlow::Break(())));
                    }
                }
                self.cursor = Some((visited.next(), at));
                if visited >= extent.last {
                    break;
                }
            }
            count = (count * 4).min(AT_ONCE_MAX);
        }
        Ok((visited, ControlFlow::Continue(())))
    }
}

/// The entries of a batch, if it has exactly so many.
fn entries(batch: &[u8], count: u32) -> Option<impl Iterator<Item = &[u8]>> {
    fn split(rest: &[u8]) -> Option<(&[u8], &[u8])> {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        tail.split_at_checked(u32::from_le_bytes(*len) as usize).filter(|(entry, _)| !entry.is_empty())
    }
    let mut rest = batch;
    for _ in 0..count {
        rest = split(rest)?.1;
    }
    let mut left = batch;
    rest.is_empty().then(|| {
        std::iter::from_fn(move || {
            let (entry, tail) = split(left)?;
            left = tail;
            Some(entry)
        })
    })
}

impl LogRead for NatsReader {
    fn last(&self) -> Sequence {
        self.current().last
    }

    fn first(&self) -> Sequence {
        self.current().first
    }

    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        if self.shared.is_none() {
            self.extent = self.source.extent()?;
        }
        let extent = self.current();
        let from = from.max(Sequence(1));
        let trimmed = |first: Sequence| Err(LogError::Trimmed { from, first });
        if from < extent.first {
            return trimmed(extent.first);
        }
        if from > extent.last {
            return Ok(Sequence(from.0 - 1));
        }
        let begun = match self.cursor.take() {
            Some((due, at)) if due == from => Ok(at),
            _ => match self.find_settled(from, &extent) {
                Ok((_, first)) if first > from => return trimmed(first),
                found => found.map(|(at, _)| at),
            },
        };
        let read = begun.and_then(|at| self.scan(from, at, &extent, visit));
        match read {
            Ok((visited, ControlFlow::Break(()))) => {
                self.cursor = None;
                Ok(visited)
            }
            Ok((visited, ControlFlow::Continue(()))) => Ok(visited),
            Err(error) => {
                self.cursor = None;
                // What was trimmed meanwhile is not missing.
                let first = match &self.shared {
                    Some(shared) => shared.asked_first(),
                    None => self.source.extent()?.first,
                };
                if from < first && matches!(error, LogError::Damaged { .. }) {
                    return trimmed(first);
                }
                Err(error)
            }
        }
    }
}
