//! Snapshots in a stream of their own, each in messages of one subject. The bytes in them are the
//! caller's.
//!
//! The subject says how many messages belong to it: one that has fewer was cut off while it was
//! written, and is no snapshot.

use super::api::{ApiError, Making, Published, Stored, Stream};
use super::connection::{PATIENCE, away, no_room, random};
use super::source::Source;
use crate::embedded::frame::{u32_at, u64_at};
use crate::log::{LogError, Snapshots};
use std::io;
use std::time::{Duration, Instant};
use units::Sequence;

const HEADER_BYTES: usize = 56;
const MAGIC: &[u8; 8] = b"FGLOGSNM";
const VERSION: u32 = 1;
const KEPT_COUNT: usize = 2;
/// The bytes of a message; less if the server takes no messages as long as that.
const PART_BYTES: usize = 512 << 10;
/// Random bits that tell tries to write a snapshot apart.
const TRY_BITS: u32 = 20;
/// What the server counts beside them.
const OVERHEAD_BYTES: usize = HEADER_BYTES + 512;
/// Messages, and bytes, that are read at once.
const AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 8 << 20;

/// The stream of a log's snapshots.
pub(super) fn snapshots_of(stream: &str) -> String {
    format!("{stream}-snapshots")
}

/// The snapshots of one log.
#[derive(Debug)]
pub(super) struct NatsSnapshots {
    source: Source,
    stream: Stream,
    replicas: usize,
}

/// A snapshot as the stream lists it. In the order of their age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    at: Sequence,
    /// The same state may be written again.
    again: u64,
    parts: u64,
    subject: String,
    is_whole: bool,
}

impl NatsSnapshots {
    pub(super) fn new(source: Source, replicas: usize) -> Self {
        let stream = source.stream.renamed(snapshots_of(source.stream.name()));
        Self { source, stream, replicas }
    }

    fn failed(&self, doing: &str, error: &ApiError) -> LogError {
        // It can be made again: that it is gone is no damage.
        if error.is_no_stream() {
            let doing = format!("{doing} stream {}", self.stream.name());
            return LogError::Io { doing, source: io::Error::other("it is not there") };
        }
        self.stream.failed(doing, error)
    }

    /// The snapshots, the oldest first, and the last message of the stream.
    fn list(&self) -> Result<(Vec<Listed>, u64), LogError> {
        let info = match self.stream.info_with_subjects() {
            Ok(info) => info,
            Err(error) if error.is_no_stream() => return Ok((Vec::new(), 0)),
            Err(error) => return Err(self.failed("list", &error)),
        };
        let mut listed: Vec<Listed> = info.subjects.into_iter().filter_map(parse).collect();
        listed.sort();
        Ok((listed, info.last))
    }

    fn read(&self, listed: &Listed) -> Result<Option<Vec<u8>>, LogError> {
        let mut bytes = Vec::new();
        let mut until = Instant::now() + PATIENCE;
        let (mut part, mut from) = (0, 1);
        while part < listed.parts {
            let found = self.stream.get_many(from, Some(&listed.subject), AT_ONCE, BYTES_AT_ONCE);
            let found = found.map_err(|error| self.failed("read", &error))?;
            if found.is_empty() && Instant::now() > until {
                return Ok(None);
            }
            if found.is_empty() {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            until = Instant::now() + PATIENCE;
            for message in found {
                let Some(body) = self.body(&message, listed, part) else { return Ok(None) };
                bytes.extend_from_slice(body);
                (part, from) = (part + 1, message.at + 1);
            }
        }
        Ok(Some(bytes))
    }

    /// The bytes of a part, if it is the one that is due and whole.
    fn body<'a>(&self, message: &'a Stored, listed: &Listed, part: u64) -> Option<&'a [u8]> {
        let (head, body) = message.payload.split_at_checked(HEADER_BYTES)?;
        let want = self.header(listed.at, listed.parts, part, body);
        (head == want && u32_at(head, 8) == VERSION && u64_at(head, 40) == part).then_some(body)
    }

    /// The header of a part.
    fn header(&self, at: Sequence, parts: u64, part: u64, body: &[u8]) -> Vec<u8> {
        let identity = self.source.identity;
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&identity.partition.0.to_le_bytes());
        out.extend_from_slice(&identity.log_id.0);
        out.extend_from_slice(&at.0.to_le_bytes());
        out.extend_from_slice(&part.to_le_bytes());
        out.extend_from_slice(&(parts as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Writes the parts under a subject. After an error some of them may be there.
    fn put(
        &self,
        subject: &str,
        at: Sequence,
        parts: u64,
        bytes: &[u8],
        room: usize,
    ) -> Result<(), LogError> {
        // A snapshot of nothing is one empty part.
        let bodies = bytes.chunks(room).chain(bytes.is_empty().then_some(&[][..]));
        for (part, body) in (0..parts).zip(bodies) {
            let mut message = self.header(at, parts, part, body);
            message.extend_from_slice(body);
            let doing = format!("write to stream {}", self.stream.name());
            return Err(match self.stream.publish(subject, None, message) {
                Published::Stored => continue,
                Published::NoRoom(why) => no_room(doing, why),
                Published::NotStored(why) | Published::Unknown(why) => away(doing, why),
                Published::WrongLast => {
                    LogError::Io { doing, source: io::Error::other("wrong last sequence") }
                }
            });
        }
        Ok(())
    }
}

impl Snapshots for NatsSnapshots {
    fn latest(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        let (listed, _) = self.list()?;
        for snapshot in listed.iter().rev().filter(|snapshot| snapshot.is_whole) {
            if let Some(bytes) = self.read(snapshot)? {
                return Ok(Some((snapshot.at, bytes)));
            }
        }
        Ok(None)
    }

    fn write(&mut self, at: Sequence, bytes: &[u8]) -> Result<Option<LogError>, LogError> {
        let making = Making {
            subjects: &format!("{}.*.*.*", self.stream.name()),
            replicas: self.replicas,
            description: "snapshots; they can be made again from the log",
            log_id: self.source.stream.name(),
        };
        self.stream.make(&making).map_err(|error| self.failed("make", &error))?;
        let purge = |snapshot: &Listed| {
            self.stream.purge_subject(&snapshot.subject).map_err(|error| self.failed("trim", &error))
        };
        let (listed, last) = self.list()?;
        // What an earlier try has left takes room from the log.
        for unfinished in listed.iter().filter(|snapshot| !snapshot.is_whole) {
            purge(unfinished)?;
        }
        let room = self.stream.connection().message_bytes_max().saturating_sub(OVERHEAD_BYTES);
        let room = room.clamp(1024, PART_BYTES);
        let parts = bytes.len().div_ceil(room).max(1) as u64;
        // No two tries have the same subject: what is late of one harms no other.
        let again = (last + 1) << TRY_BITS | random() & ((1 << TRY_BITS) - 1);
        let subject = subject(self.stream.name(), at, again, parts);
        if let Err(error) = self.put(&subject, at, parts, bytes, room) {
            // If it cannot be reached, the next one removes it.
            let _ = self.stream.purge_subject(&subject);
            return Err(error);
        }
        // Of each entry the newest one, and of these the newest two.
        let mut kept: Vec<Sequence> = vec![at];
        let mut superfluous = Vec::new();
        for snapshot in listed.iter().rev().filter(|snapshot| snapshot.is_whole) {
            if kept.len() < KEPT_COUNT && !kept.contains(&snapshot.at) {
                kept.push(snapshot.at);
            } else {
                superfluous.push(snapshot);
            }
        }
        Ok(superfluous.into_iter().try_for_each(purge).err())
    }
}

fn subject(stream: &str, at: Sequence, again: u64, parts: u64) -> String {
    format!("{stream}.{at}.{again}.{parts}", at = at.0)
}

fn parse((subject, count): (String, u64)) -> Option<Listed> {
    let mut numbers = subject.rsplitn(4, '.').take(3).map(str::parse);
    let parts = numbers.next()?.ok()?;
    let again = numbers.next()?.ok()?;
    let at = Sequence(numbers.next()?.ok()?);
    Some(Listed { at, again, parts, is_whole: count == parts, subject })
}
