//! The log port: one ordered, durable sequence of entries with one writer.
//!
//! It knows nothing of what the entries say. Every engine passes [`conformance`].

use crate::codec::{Codec, Writer};
use std::{
    fmt,
    io::{self, ErrorKind},
    ops::ControlFlow,
};
use units::Sequence;

pub mod conformance;

/// Which partition of the stock a log belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// Tells one log's bytes from another's. Give each new log a random one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// The largest entry that a log takes, in bytes. A decision record is about 100 bytes; a chunk of
/// an uploaded list is 64 KiB.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Entries to be appended as one: all or none, in this order. Reused between appends, so that
/// filling it allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Each entry as its length (u32, little-endian) and its bytes.
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// Adds the entry that `write` appends to the buffer.
    ///
    /// # Panics
    /// If the entry is empty or longer than [`ENTRY_BYTES_MAX`]: the caller encodes bounded
    /// records.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let len = self.bytes.len() - start - 4;
        assert!((1..=ENTRY_BYTES_MAX).contains(&len), "an entry of {len} bytes");
        self.bytes[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
        self.count += 1;
    }

    /// Adds this entry. Panics as [`Batch::push_with`] does.
    pub fn push(&mut self, entry: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(entry));
    }

    /// Adds a record; debug builds assert that it decodes to itself. Panics as [`Batch::push_with`]
    /// does.
    pub fn push_record<R: Codec>(&mut self, record: &R) {
        let start = self.bytes.len() + 4;
        self.push_with(|bytes| record.encode(&mut Writer::new(bytes)));
        debug_assert_eq!(R::decode(&self.bytes[start..]).as_ref(), Ok(record), "what its bytes say");
    }

    /// How many entries it holds.
    pub fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// True if there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries, each after its length (u32, little-endian).
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The entries, first to last.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (entry, tail) = tail.split_at(u32::from_le_bytes(*len) as usize);
            rest = tail;
            Some(entry)
        })
    }

    /// Forgets the entries and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Why a batch was not appended, by what the caller must do about it.
#[derive(Debug)]
pub enum AppendError {
    /// Another writer has appended: the last entry is `actual`, not what the caller expected.
    /// Nothing was written. The caller is a stale writer and stops.
    Conflict { actual: Sequence },
    /// Nothing was appended, for certain, and the log is as it was; the same append may succeed
    /// later. There is no room, no file handle or no memory, or a fresh segment could not be made.
    Shortage(String),
    /// The outcome is unknown: the batch may be durable or may not. The caller stops, calls
    /// [`Log::reopen`], reads what is there, and only then sends any reply.
    Unknown(UnknownOutcome),
}

/// Why the outcome of an append is unknown.
#[derive(Debug, Clone)]
pub struct UnknownOutcome {
    pub what: String,
    /// It is for want of room, a file handle or memory, which may pass.
    pub is_shortage: bool,
}

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { actual } => {
                write!(f, "append: another writer is at sequence {actual}; this one must stop")
            }
            Self::Shortage(why) => write!(f, "append: nothing was appended: {why}"),
            Self::Unknown(why) => write!(f, "append: outcome unknown: {why}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Why a log could not be opened or read.
#[derive(Debug)]
pub enum LogError {
    /// Another process (or another value in this one) has it open for writing.
    InUse { what: String },
    /// Bytes that were durable are no longer what they were, or a part is missing. Never repaired
    /// silently: the message names the file and the offset and says what to do.
    Damaged { file: String, offset: u64, why: String },
    /// A file that is not ours, or of a version that this build does not know.
    Foreign { file: String, why: String },
    /// The entries from `from` on were asked for, and those before `first` were trimmed. Going on
    /// after the gap would give a wrong fold without any sign of it; the reader begins with a
    /// snapshot instead.
    Trimmed { from: Sequence, first: Sequence },
    /// The operating system refused.
    Io { doing: String, source: std::io::Error },
}

/// Whether this passes by itself: the disk or a quota is full, there is no file handle or no memory
/// left, or a server of logs cannot be reached. Errors that have no kind of their own in std are
/// known by Linux's numbers; that of the server has no number, for a disk may say the same of
/// itself, and means something else.
pub fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let numbers = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::NOSPC, Errno::DQUOT];
    let by_number =
        error.raw_os_error().is_some_and(|raw| numbers.iter().any(|errno| errno.raw_os_error() == raw));
    let is_away = error.raw_os_error().is_none() && error.kind() == ErrorKind::NotConnected;
    by_number || is_away || matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl LogError {
    /// Whether it is a shortage that passes: see [`is_shortage`].
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_shortage(source))
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { what } => {
                write!(f, "open {what}: another process has it open; stop that one first")
            }
            Self::Damaged { file, offset, why } => write!(
                f,
                "read {file} at byte {offset}: {why}; nothing was changed. Put this file back from a backup \
                 or from a replica; do not delete or cut it, for what follows would be lost"
            ),
            Self::Foreign { file, why } => {
                write!(
                    f,
                    "read {file}: {why}; move it away if it does not belong here, or use the build that wrote it"
                )
            }
            Self::Trimmed { from, first } => {
                write!(
                    f,
                    "read from entry {from}: trimmed; the first that is kept is {first}, begin with a snapshot"
                )
            }
            Self::Io { doing, .. } => write!(f, "{doing}"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What a reader does with each entry: its sequence and its bytes.
pub type Visit<'a> = dyn FnMut(Sequence, &[u8]) -> ControlFlow<()> + 'a;

/// Reads a log that another handle may be writing. A handle of its own: cheap to make, able to move
/// to another thread.
pub trait LogRead: Send {
    /// The last entry known to be durable; 0 if there is none. Grows while the writer goes on (for
    /// a reader in another process: at each call of [`LogRead::read`]).
    fn last(&self) -> Sequence;

    /// The first entry that is still kept (1 before anything was trimmed).
    fn first(&self) -> Sequence;

    /// Visits the entries from `from` to [`LogRead::last`], in order, until told to stop; returns
    /// the sequence of the last entry visited (`from - 1` if none was). Starting past the end
    /// visits nothing, 0 counts as 1, and starting before [`LogRead::first`] is
    /// [`LogError::Trimmed`].
    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError>;
}

/// The place for snapshots: an optimisation, never the truth. A handle of its own, so that they are
/// made off the hot path.
pub trait Snapshots: Send {
    /// The newest snapshot that is whole, with the sequence that it stands at. A damaged one is
    /// skipped in favour of an older one or of none, for it can be made again from the log. A
    /// shortage for which none can be read is an error.
    fn latest(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError>;

    /// Keeps `bytes` as the snapshot at `at`, durably and as one, and drops those that it makes
    /// superfluous (the newest two stay). If only that failed, returns why: the snapshot is
    /// written, and the next one tries to drop them again. After an error nothing of it is left,
    /// unless that could not be removed. A snapshot of entries that are not durable is a caller's
    /// bug.
    fn write(&mut self, at: Sequence, bytes: &[u8]) -> Result<Option<LogError>, LogError>;
}

/// The one writer of a log.
pub trait Log: Send {
    /// The last entry known to be durable; 0 if there is none.
    fn last(&self) -> Sequence;

    /// Appends a batch after the entry `expected`, as one: after a crash all of it is there or
    /// nothing. Returns once it is durable, with the sequence of its last entry. An empty batch is
    /// a caller's bug.
    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError>;

    /// After [`AppendError::Unknown`]: determines what is durable, makes the log ready to append
    /// again, and returns its last entry. What was durable before the failed append still is.
    fn reopen(&mut self) -> Result<Sequence, LogError>;

    /// Allows the engine to forget entries up to and including `up_to`; it may keep more than
    /// asked. After an error, the next append may be [`AppendError::Unknown`] with nothing
    /// appended, as after any failure of the disk.
    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError>;

    /// A reader of this log.
    fn reader(&self) -> Box<dyn LogRead>;

    /// This log's snapshots.
    fn snapshots(&self) -> Box<dyn Snapshots>;
}

/// A log of whichever engine.
impl<L: Log + ?Sized> Log for Box<L> {
    fn last(&self) -> Sequence {
        (**self).last()
    }

    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        (**self).append(expected, batch)
    }

    fn reopen(&mut self) -> Result<Sequence, LogError> {
        (**self).reopen()
    }

    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError> {
        (**self).trim(up_to)
    }

    fn reader(&self) -> Box<dyn LogRead> {
        (**self).reader()
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        (**self).snapshots()
    }
}
