//! The bodies of events, from the log: the newest are kept in memory, and older ones are read by a
//! thread of their own, many at a time.

use crate::core::record::{Entry, Record};
use engines::{
    codec::Codec,
    log::{LogError, LogRead},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
};
use units::Sequence;

/// Entries that are caught up with, at the most: older bodies are read when they are asked for.
const BEHIND_MAX: u64 = 50_000;
/// Bytes of the newest bodies in memory, and of older ones.
const NEW_BYTES_MAX: usize = 64 << 20;
const OLD_BYTES_MAX: usize = 16 << 20;
/// Bytes that are read at once, and entries: of an old event those after it are soon wanted.
const AHEAD_BYTES: usize = 512 << 10;
const AHEAD_ENTRIES: usize = 4096;

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Of source and id.
    pub identity: u128,
    /// In the JSON format of CloudEvents.
    pub body: Arc<[u8]>,
}

/// Bodies in memory; the first to come is the first to go.
#[derive(Default)]
struct Kept {
    bodies: BTreeMap<Sequence, Stored>,
    order: VecDeque<Sequence>,
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, sequence: Sequence, stored: Stored, bytes_max: usize) {
        self.bytes += stored.body.len();
        self.order.push_back(sequence);
        if let Some(before) = self.bodies.insert(sequence, stored) {
            self.bytes -= before.body.len();
        }
        while self.bytes > bytes_max
            && let Some(first) = self.order.pop_front()
        {
            let gone = self.bodies.remove(&first);
            self.bytes -= gone.map_or(0, |gone| gone.body.len());
        }
    }
}

/// The newest bodies.
pub struct Bodies {
    reader: Box<dyn LogRead>,
    /// The first entry that was not looked at yet.
    next: Sequence,
    kept: Kept,
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bodies").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Bodies {
    /// Follows the log from its present end on.
    pub fn new(reader: Box<dyn LogRead>) -> Self {
        let next = reader.last().next();
        Self { reader, next, kept: Kept::default() }
    }

    /// Looks at what has been appended since the last call.
    pub fn follow(&mut self) -> Result<(), LogError> {
        let Self { reader, next, kept } = self;
        *next = (*next).max(Sequence(reader.last().0.saturating_sub(BEHIND_MAX)));
        let last = reader.read(*next, &mut |sequence, bytes| {
            if let Some(stored) = stored_in(bytes) {
                kept.keep(sequence, stored, NEW_BYTES_MAX);
            }
            ControlFlow::Continue(())
        })?;
        *next = last.next();
        Ok(())
    }

    /// The event of this entry, if it is in memory.
    pub fn get(&self, sequence: Sequence) -> Option<Stored> {
        self.kept.bodies.get(&sequence).cloned()
    }
}

/// Reads old bodies on a thread of its own. With each `T` that it is asked about the answer is
/// passed on.
#[derive(Debug)]
pub struct OldBodies<T>(SyncSender<Vec<(Sequence, T)>>);

impl<T: Send + 'static> OldBodies<T> {
    /// Starts the thread, which ends some time after this is dropped. `asks_max` is how many calls of
    /// [`Self::ask`] may be unanswered. The answer has no event if none is there.
    pub fn start(
        mut reader: Box<dyn LogRead>,
        asks_max: usize,
        pass_on: impl Fn(T, Result<Option<Stored>, LogError>) + Send + 'static,
    ) -> io::Result<Self> {
        let (ask, asked) = sync_channel::<Vec<(Sequence, T)>>(asks_max);
        let answer = move || {
            let mut kept = Kept::default();
            while let Ok(mut wanted) = asked.recv() {
                // What stands behind one another in the log is read together.
                wanted.sort_by_key(|(sequence, _)| *sequence);
                for (sequence, with) in wanted {
                    pass_on(with, old(&mut *reader, &mut kept, sequence));
                }
            }
        };
        std::thread::Builder::new().name("notify-reader".into()).spawn(answer)?;
        Ok(Self(ask))
    }

    /// Asks for the events of these entries. They are dropped if too much is asked for already, or
    /// if the thread has ended.
    pub fn ask(&self, wanted: Vec<(Sequence, T)>) {
        drop(self.0.try_send(wanted));
    }
}

fn old(reader: &mut dyn LogRead, kept: &mut Kept, sequence: Sequence) -> Result<Option<Stored>, LogError> {
    if let Some(stored) = kept.bodies.get(&sequence) {
        return Ok(Some(stored.clone()));
    }
    let mut found = None;
    let (mut bytes, mut entries) = (0, 0);
    let read = reader.read(sequence, &mut |at, entry| {
        (bytes, entries) = (bytes + entry.len(), entries + 1);
        if let Some(stored) = stored_in(entry) {
            if at == sequence {
                found = Some(stored.clone());
            }
            kept.keep(at, stored, OLD_BYTES_MAX);
        }
        match bytes < AHEAD_BYTES && entries < AHEAD_ENTRIES {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    // What is wrong further on is no concern of this one.
    if found.is_none() { read.map(|_| None) } else { Ok(found) }
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
