//! The bodies of events, from the log: the newest are kept in memory, and older ones are read by a
//! thread of their own, many at a time.

use crate::core::record::{End, Entry, EventNo, Record, SubscriptionNo, Tried};
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
use units::{Sequence, TimeMs};

/// Entries that are caught up with, at the most: older bodies are read when they are asked for.
const BEHIND_MAX: u64 = 50_000;
/// Bytes of the newest bodies in memory, and of older ones. A delivery that is further behind is as
/// fast: bodies are read in large pieces, and the kernel has these in memory.
const NEW_BYTES_MAX: usize = 16 << 20;
const OLD_BYTES_MAX: usize = 16 << 20;
/// What a body costs besides its bytes: where it is found, and what the allocator rounds up.
const BESIDE_BYTES: usize = 256;
/// Bytes that are read at once, and entries: of an old event those after it are soon wanted.
const AHEAD_BYTES: usize = 512 << 10;
const AHEAD_ENTRIES: usize = 4096;
/// Entries that are searched at once for attempts.
const ATTEMPTS_ENTRIES: usize = 20_000;

/// An event as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Of source and id.
    pub identity: u128,
    /// In the JSON format of CloudEvents.
    pub body: Arc<[u8]>,
}

impl Stored {
    /// What it costs in memory.
    fn bytes(&self) -> usize {
        self.body.len() + BESIDE_BYTES
    }
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
        self.bytes += stored.bytes();
        self.order.push_back(sequence);
        if let Some(before) = self.bodies.insert(sequence, stored) {
            self.bytes -= before.bytes();
        }
        while self.bytes > bytes_max
            && let Some(first) = self.order.pop_front()
        {
            let gone = self.bodies.remove(&first);
            self.bytes -= gone.map_or(0, |gone| gone.bytes());
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

/// What is asked of a [`LogReader`].
type Job = Box<dyn FnOnce(&mut Reading) + Send>;

/// Reads the log on a thread of its own, for those who must not wait for the disk.
#[derive(Debug, Clone)]
pub struct LogReader(SyncSender<Job>);

impl LogReader {
    /// Starts the thread, which ends some time after the last of these is dropped. So many jobs may
    /// wait for it.
    pub fn start(reader: Box<dyn LogRead>, jobs_max: usize) -> io::Result<Self> {
        let (ask, jobs) = sync_channel::<Job>(jobs_max);
        let run = move || {
            let mut reading = Reading { reader, kept: Kept::default(), read_bytes: 0 };
            jobs.iter().for_each(|job| job(&mut reading));
        };
        std::thread::Builder::new().name("notify-reader".into()).spawn(run)?;
        Ok(Self(ask))
    }

    /// Has something read. The job is dropped if too many wait already.
    pub fn ask(&self, job: impl FnOnce(&mut Reading) + Send + 'static) {
        drop(self.0.try_send(Box::new(job)));
    }
}

/// The log, while it is read.
pub struct Reading {
    reader: Box<dyn LogRead>,
    kept: Kept,
    /// Bytes of entries that were read so far, those further on too.
    read_bytes: usize,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Reading {
    /// The event of an entry; `None` if none is there. It costs least in the order of the entries.
    pub fn event(&mut self, sequence: Sequence) -> Result<Option<Stored>, LogError> {
        let Self { reader, kept, read_bytes } = self;
        if let Some(stored) = kept.bodies.get(&sequence) {
            return Ok(Some(stored.clone()));
        }
        let mut found = None;
        let (mut bytes, mut entries) = (0, 0);
        let read = reader.read(sequence, &mut |at, entry| {
            (bytes, entries) = (bytes + entry.len(), entries + 1);
            *read_bytes = read_bytes.wrapping_add(entry.len());
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

    /// Bytes of entries that were read for events so far. Only differences mean something.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// The attempts to deliver an event, from an entry on, each with its time; and from where on to
    /// look for more, if the log goes on. It looks at some thousand entries at a time.
    pub fn attempts(
        &mut self,
        (from, event): (Sequence, EventNo),
        of_topic: &[SubscriptionNo],
    ) -> Result<(Vec<Noted>, Option<Sequence>), LogError> {
        let mut noted = Vec::new();
        let mut entries = 0;
        let last = self.reader.read(from, &mut |_, bytes| {
            entries += 1;
            if Record::is_attempt(bytes)
                && let Ok(entry) = Entry::decode(bytes)
                && let (Some(tried), Some(outcome)) = (entry.record.tried(), entry.record.end())
                && tried.event == event
                && of_topic.contains(&tried.subscription)
            {
                let (tried, again_at) = (tried.clone(), entry.record.again_at());
                noted.push(Noted { at: entry.at, tried, outcome, again_at });
            }
            match entries < ATTEMPTS_ENTRIES {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        let more = (last < self.reader.last()).then(|| last.next());
        Ok((noted, more))
    }
}

/// An attempt in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    pub at: TimeMs,
    pub tried: Tried,
    pub outcome: End,
    /// When the next one is due, if this one failed and is not the last.
    pub again_at: Option<TimeMs>,
}

fn stored_in(entry: &[u8]) -> Option<Stored> {
    if !Record::has_event(entry) {
        return None;
    }
    match Entry::decode(entry) {
        Ok(Entry {
            record: Record::Published { identity, body, .. } | Record::Delayed { identity, body, .. },
            ..
        }) => Some(Stored { identity, body }),
        _ => None,
    }
}
