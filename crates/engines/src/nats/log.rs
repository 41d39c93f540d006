//! The writer: one message for each batch, stored only if nothing came in between, and acknowledged
//! when the servers have it on their disks.

use super::api::{Info, Making, Published, Stream};
use super::connection::{Connection, PATIENCE, away, no_room, random};
use super::message::{HEADER_BYTES, Header, Identity, encode};
use super::reader::{NatsReader, Shared};
use super::snapshots::{NatsSnapshots, snapshots_of};
use super::source::{Extent, Source};
use crate::log::{AppendError, Batch, Log, LogError, LogId, LogRead, Partition, Snapshots, UnknownOutcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io, thread};
use units::Sequence;

/// What a message needs beside its body, in what the server counts: our header, and theirs.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 512;
/// A body is never so short that a batch would need thousands of messages.
const BODY_BYTES_MIN: usize = 4096;
/// How often a mark is tried again because something came in between.
const FENCE_TRIES: usize = 8;

/// Which log to open, and how it is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stream's name.
    pub stream: String,
    pub log_id: LogId,
    pub partition: Partition,
    /// On how many servers each message is; 1, 3 or 5.
    pub replicas: usize,
    /// What the log is of, for people who list streams.
    pub description: String,
    /// The first entry of a log that is made. A copy of a log that lost its beginning begins later
    /// than with 1.
    pub first: Sequence,
}

/// Messages at the log's end that belong to a batch which was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub stream: String,
    pub messages: u64,
}

/// The one writer of a log on NATS.
pub struct NatsLog {
    source: Source,
    options: Options,
    /// Tells this handle's messages from another's.
    writer: u64,
    shared: Arc<Shared>,
    end: End,
    torn: Option<Torn>,
    /// Why the outcome of an append is unknown. Nothing is appended until [`Log::reopen`].
    broken: Option<UnknownOutcome>,
    /// Nothing is appended before a mark: parts of a batch were stored and there was no room for
    /// the rest, or there was none for the mark with which a handle begins.
    owes_mark: bool,
}

/// The stream's last message, as far as this writer knows.
#[derive(Debug, Clone, Copy)]
struct End {
    at: u64,
    crc: u32,
    last: Sequence,
}

impl fmt::Debug for NatsLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLog")
            .field("stream", &self.options.stream)
            .field("last", &self.end.last)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

/// Removes a log with its snapshots. One that is not there is as good as removed.
pub fn remove(connection: &Arc<Connection>, stream: &str) -> Result<(), LogError> {
    connection.wait()?;
    for name in [stream.to_owned(), snapshots_of(stream)] {
        let stream = Stream::new(Arc::clone(connection), name);
        stream.delete().map_err(|error| stream.failed("remove", &error))?;
    }
    Ok(())
}

impl NatsLog {
    /// Makes a log's stream, unless it is there, and opens it.
    pub fn make(connection: &Arc<Connection>, options: Options) -> Result<Self, LogError> {
        connection.wait()?;
        let stream = Stream::new(Arc::clone(connection), options.stream.clone());
        let log_id = hex(options.log_id);
        let making = Making {
            subjects: &options.stream,
            replicas: options.replicas,
            description: &options.description,
            log_id: &log_id,
        };
        stream.make(&making).map_err(|error| stream.failed("make", &error))?;
        Self::begin(connection, options, true)
    }

    /// Opens a log that was made before: if its stream is gone or empty, that is damage.
    pub fn open(connection: &Arc<Connection>, options: Options) -> Result<Self, LogError> {
        connection.wait()?;
        Self::begin(connection, options, false)
    }

    /// What was found at the end.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    pub fn log_id(&self) -> LogId {
        self.options.log_id
    }

    fn begin(connection: &Arc<Connection>, options: Options, is_new: bool) -> Result<Self, LogError> {
        let identity = Identity { log_id: options.log_id, partition: options.partition };
        let source = Source::new(connection, &options.stream, identity);
        let info = found(&source.stream)?;
        check_config(&source, &info, &options)?;
        let room = connection.message_bytes_max();
        if room < OVERHEAD_BYTES + BODY_BYTES_MIN {
            let doing = format!("open stream {}", options.stream);
            let why = format!("the server takes no message longer than {room} bytes: raise its max_payload");
            return Err(LogError::Io { doing, source: io::Error::other(why) });
        }
        let is_empty = info.last == 0;
        if is_empty && !is_new {
            return Err(source.damaged(0, "the stream is empty: what was in it is gone"));
        }
        let (mut first, mut torn) = (options.first, None);
        let mut end = End { at: 0, crc: 0, last: Sequence(first.0 - 1) };
        if !is_empty {
            let extent = source.extent()?;
            let message = source.get(extent.last_at)?;
            let (header, crc, _) = source.decode(&message)?;
            if !header.is_last_part() {
                let messages = u64::from(header.part) + 1;
                torn = Some(Torn { stream: options.stream.clone(), messages });
            }
            (end, first) = (End { at: extent.last_at, crc, last: extent.last }, extent.first);
        }
        let first_at = info.first.max(1);
        let extent = Extent { first, first_at, last: end.last, last_at: end.at };
        let mut log = Self {
            source,
            options,
            writer: random(),
            shared: Arc::new(Shared::new(extent)),
            end,
            torn,
            broken: None,
            owes_mark: false,
        };
        // From now on whatever another writer sends comes too late.
        match log.fence(|_, _| Ok(())) {
            // A full log can be read, and trimmed; and who can append nothing needs no fence yet.
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::StorageFull => {
                log.owes_mark = true;
            }
            fenced => fenced?,
        }
        Ok(log)
    }

    /// Appends a mark. What was sent before and is still on its way can then no longer be stored,
    /// for it expects another message before it. `check` sees each message that came in between.
    fn fence(&mut self, check: impl Fn(&Source, &Header) -> Result<(), LogError>) -> Result<(), LogError> {
        const AGAIN_AFTER: Duration = Duration::from_millis(100);
        let doing = format!("append to stream {}", self.options.stream);
        let until = Instant::now() + PATIENCE;
        let mut overtaken = 0;
        while overtaken < FENCE_TRIES {
            let info = found(&self.source.stream)?;
            let before = self.end.at;
            self.catch_up(&info, &check)?;
            let header = Header::mark(self.end.at + 1, self.writer, self.end.last.next());
            let (message, crc) = encode(self.source.identity, &header, &[]);
            match self.source.stream.publish(&self.options.stream, Some(self.end.at), message) {
                Published::Stored => {
                    self.end = End { at: header.at, crc, ..self.end };
                    self.shared.set_last(self.end.last, self.end.at);
                    self.owes_mark = false;
                    return Ok(());
                }
                Published::WrongLast if self.end.at > before => overtaken += 1,
                // The leader counts what is on its way to the other servers, and tells only what
                // has come there: no other writer need be the reason.
                Published::WrongLast if Instant::now() > until => {
                    return Err(away(
                        doing,
                        "what was sent last is not settled between the servers yet".into(),
                    ));
                }
                Published::WrongLast => thread::sleep(AGAIN_AFTER),
                Published::NoRoom(why) => return Err(no_room(doing, why)),
                Published::NotStored(why) | Published::Unknown(why) => return Err(away(doing, why)),
            }
        }
        Err(LogError::InUse { what: format!("stream {}", self.options.stream) })
    }

    /// Reads what was stored after the last message that is known.
    fn catch_up(
        &mut self,
        info: &Info,
        check: &impl Fn(&Source, &Header) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        if info.last < self.end.at {
            let (at, last) = (self.end.at, info.last);
            let why =
                format!("it was acknowledged, and the stream now ends at {last}: the servers have lost it");
            return Err(self.source.damaged(at, &why));
        }
        if self.end.at >= info.first.max(1) {
            let message = self.source.get(self.end.at)?;
            if self.source.decode(&message)?.1 != self.end.crc {
                let why = "it was acknowledged, and another one is in its place: the servers have lost it";
                return Err(self.source.damaged(self.end.at, why));
            }
        }
        while self.end.at < info.last {
            let message = self.source.get(self.end.at + 1)?;
            let (header, crc, _) = self.source.decode(&message)?;
            check(&self.source, &header)?;
            if header.first != self.end.last.next() {
                return Err(self.source.damaged(message.at, "its entries are not those that are due"));
            }
            self.end = End { at: message.at, crc, last: header.last() };
        }
        Ok(())
    }

    /// The same, of a handle that is in use: messages of another writer mean that it has been
    /// replaced.
    fn fence_again(&mut self) -> Result<(), LogError> {
        let writer = self.writer;
        self.fence(|source, header| {
            if header.writer == writer {
                return Ok(());
            }
            Err(LogError::InUse { what: format!("stream {}", source.stream.name()) })
        })
    }

    /// The server says that the stream does not end where this writer left it.
    fn overtaken(&mut self) -> AppendError {
        let actual = match self.source.extent() {
            Ok(extent) if extent.last_at > self.end.at => extent.last,
            Ok(_) => {
                let stream = &self.options.stream;
                return self.unknown(format!("stream {stream}: it does not end where it was left"), false);
            }
            // Another writer, whichever it was.
            Err(_) => self.end.last,
        };
        AppendError::Conflict { actual }
    }

    fn unknown(&mut self, what: String, is_shortage: bool) -> AppendError {
        let outcome = UnknownOutcome { what, is_shortage };
        self.broken = Some(outcome.clone());
        AppendError::Unknown(outcome)
    }

    /// Stores a batch, in as many messages as it needs. It counts when the last one is stored.
    fn store(&mut self, batch: &Batch) -> Result<(), AppendError> {
        let room = self.source.stream.connection().message_bytes_max().saturating_sub(OVERHEAD_BYTES);
        let room = room.max(BODY_BYTES_MIN);
        let bytes = batch.as_bytes();
        let parts = bytes.len().div_ceil(room);
        assert!(parts <= usize::from(u16::MAX), "a batch of {} bytes", bytes.len());
        let parts = parts as u16;
        let first = self.end.last.next();
        for (part, body) in (0..parts).zip(bytes.chunks(room)) {
            let (at, writer) = (self.end.at + 1, self.writer);
            let header = Header { at, writer, first, count: batch.count() as u32, part, parts };
            let (message, crc) = encode(self.source.identity, &header, body);
            match self.source.stream.publish(&self.options.stream, Some(self.end.at), message) {
                Published::Stored => {
                    self.end = End { at, crc, last: header.last() };
                    self.owes_mark = !header.is_last_part();
                }
                Published::WrongLast => return Err(self.overtaken()),
                Published::NoRoom(why) | Published::NotStored(why) => {
                    return Err(AppendError::Shortage(why));
                }
                Published::Unknown(why) => return Err(self.unknown(why, true)),
            }
        }
        self.shared.set_last(self.end.last, self.end.at);
        Ok(())
    }
}

/// The stream as it is. A server that has only just started may not know all of its streams yet.
fn found(stream: &Stream) -> Result<Info, LogError> {
    const AGAIN_AFTER: Duration = Duration::from_millis(100);
    let until = Instant::now() + PATIENCE;
    loop {
        match stream.info() {
            Ok(info) => return Ok(info),
            Err(error) if error.is_no_stream() && Instant::now() < until => thread::sleep(AGAIN_AFTER),
            Err(error) => return Err(stream.failed("open", &error)),
        }
    }
}

/// Refuses a stream that may forget entries by itself, or that is another log's.
fn check_config(source: &Source, info: &Info, options: &Options) -> Result<(), LogError> {
    let foreign = |why: String| LogError::Foreign { file: format!("stream {}", options.stream), why };
    let ours = info.config["metadata"]["floodgate-log"].as_str();
    if ours != Some(hex(source.identity.log_id).as_str()) {
        return Err(foreign("it belongs to another log".into()));
    }
    let wanted = [
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("discard", json!("new")),
        ("max_age", json!(0)),
        ("max_msgs", json!(-1)),
        ("max_msgs_per_subject", json!(-1)),
    ];
    for (name, want) in wanted {
        if info.config[name] != want {
            let is = &info.config[name];
            return Err(foreign(format!("its setting {name} is {is}, and a log needs {want}: set it back")));
        }
    }
    let replicas = info.config["num_replicas"].as_u64().unwrap_or(1);
    if replicas < options.replicas as u64 {
        let (doing, want) = (format!("open stream {}", options.stream), options.replicas);
        let why = format!(
            "it is kept on {replicas} of the servers, and logs.replicas is {want}: `nats stream edit --replicas {want}`, or set logs.replicas"
        );
        return Err(LogError::Io { doing, source: io::Error::other(why) });
    }
    // The default, and all that older servers have.
    let mode = &info.config["persist_mode"];
    if !matches!(mode, Value::Null) && mode != "default" {
        return Err(foreign(format!("its setting persist_mode is {mode}, and a log needs the default")));
    }
    Ok(())
}

fn hex(log_id: LogId) -> String {
    log_id.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Log for NatsLog {
    fn last(&self) -> Sequence {
        self.shared.extent().last
    }

    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        assert!(!batch.is_empty(), "an empty batch is a caller's bug");
        if let Some(why) = &self.broken {
            return Err(AppendError::Unknown(why.clone()));
        }
        let actual = self.end.last;
        if expected != actual {
            return Err(AppendError::Conflict { actual });
        }
        if self.owes_mark {
            match self.fence_again() {
                Ok(()) => {}
                Err(error) if error.is_shortage() => {
                    return Err(AppendError::Shortage(with_source(&error)));
                }
                Err(error) => return Err(self.unknown(with_source(&error), false)),
            }
            // What this writer had given up for lost was stored after all.
            if self.end.last != expected {
                return Err(self.unknown("an earlier append has taken effect".into(), false));
            }
        }
        self.store(batch)?;
        Ok(self.end.last)
    }

    /// Makes sure that nothing which was sent before can arrive any more, by a mark; what has
    /// arrived is then part of the log, or not, for good.
    fn reopen(&mut self) -> Result<Sequence, LogError> {
        if self.broken.is_some() {
            self.fence_again()?;
            self.broken = None;
        }
        Ok(self.end.last)
    }

    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError> {
        if self.shared.asked_first() > self.shared.extent().first {
            // An earlier trim got no answer.
            let there = self.source.extent()?;
            self.shared.set_first(there.first, there.first_at);
        }
        let extent = self.shared.extent();
        // The last batch stays: it says which entry is due.
        let keep = up_to.next().min(extent.last);
        if keep <= extent.first {
            return Ok(());
        }
        let mut reader = NatsReader::new(self.source.clone(), Some(Arc::clone(&self.shared)), extent);
        let (at, first) = reader.find(keep, &extent)?;
        if at <= extent.first_at {
            return Ok(());
        }
        self.shared.asks_first(first);
        self.source.stream.purge_before(at).map_err(|error| self.source.stream.failed("trim", &error))?;
        self.shared.set_first(first, at);
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogRead> {
        let shared = Arc::clone(&self.shared);
        Box::new(NatsReader::new(self.source.clone(), Some(shared), self.shared.extent()))
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        Box::new(NatsSnapshots::new(self.source.clone(), self.options.replicas))
    }
}

fn with_source(error: &LogError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
