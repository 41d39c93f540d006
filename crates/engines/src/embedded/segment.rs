//! A segment file's name, header and marks as bytes. Pure functions.
//!
//! The layout is in `docs/log-format.md`, and it is a promise.

use super::{
    disk::LOCK_NAME,
    frame::{ALIGN, Key, u32_at, u64_at},
};
use crate::log::{LogId, Partition};
use units::Sequence;

/// The version of the format that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// Frames start here: the header and the two marks have a page to themselves, so that writing one
/// of them can tear no frame.
pub const FRAMES_AT: u64 = 4096;
const HEADER_BYTES: usize = 64;
const MARK_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"FGLOGSEG";
const MARK_MAGIC: u32 = u32::from_le_bytes(*b"MARK");

/// What a file in the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lock,
    Segment(Sequence),
    Snapshot(Sequence),
    /// Unfinished when the process stopped: never renamed, so never part of the log.
    Unfinished,
    Foreign,
}

pub(crate) fn kind(name: &str) -> Kind {
    let numbered = |name: &str, front: &str, back: &str| {
        let digits = name.strip_prefix(front)?.strip_suffix(back)?;
        let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().map(Sequence)
    };
    if name == LOCK_NAME {
        return Kind::Lock;
    }
    let whole = name.strip_suffix(".tmp").unwrap_or(name);
    let kind = match (numbered(whole, "seg-", ".log"), numbered(whole, "snap-", ".snap")) {
        (Some(first), _) if first.0 > 0 => Kind::Segment(first),
        (_, Some(at)) => Kind::Snapshot(at),
        _ => return Kind::Foreign,
    };
    if whole == name { kind } else { Kind::Unfinished }
}

pub(crate) fn segment_name(first: Sequence) -> String {
    format!("seg-{:020}.log", first.0)
}

pub(crate) fn snapshot_name(at: Sequence) -> String {
    format!("snap-{:020}.snap", at.0)
}

/// True for the name of an [`Kind::Unfinished`] snapshot.
pub(crate) fn is_unfinished_snapshot(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|whole| matches!(kind(whole), Kind::Snapshot(_)))
}

/// The header that a segment gets when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub partition: Partition,
    pub log_id: LogId,
    /// The sequence of its first entry. All before it was durable when this segment was made.
    pub first: Sequence,
    /// The first entry that the log still kept then.
    pub kept: Sequence,
    /// The header CRC of the last frame before this segment; 0 if there is none.
    pub previous: u32,
    /// How long its file was made. One that is shorter has lost its end; one that has grown since
    /// says so in its marks.
    pub bytes: u64,
}

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a segment of a log at all.
    Magic,
    Version(u32),
    Crc,
}

impl SegmentHeader {
    /// The header's bytes, to stand at the start of the file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.partition.0.to_le_bytes());
        out[16..32].copy_from_slice(&self.log_id.0);
        out[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.kept.0.to_le_bytes());
        out[48..52].copy_from_slice(&self.previous.to_le_bytes());
        out[52..60].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let bytes = &bytes[..HEADER_BYTES];
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderError::Crc);
        }
        let log_id = LogId(bytes[16..].first_chunk().copied().unwrap_or_default());
        Ok(Self {
            partition: Partition(u32_at(bytes, 12)),
            log_id,
            first: Sequence(u64_at(bytes, 32)),
            kept: Sequence(u64_at(bytes, 40)),
            previous: u32_at(bytes, 48),
            bytes: u64_at(bytes, 52),
        })
    }
}

/// A note in a segment of what was durable when it was written. It is written after the fact, so it
/// may be out of date, and it is never ahead. Two places alternate, so that a torn mark leaves the
/// previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub generation: u64,
    /// The last durable entry, and where its frame ends in this segment.
    pub last: Sequence,
    pub end: u64,
    /// The first entry that is kept.
    pub kept: Sequence,
    /// A further segment was made, durably.
    pub continued: bool,
    /// How long the file was, durably, if it had grown beyond the length in its header; else 0. A
    /// multiple of [`ALIGN`].
    pub grown_to: u64,
}

impl Mark {
    /// Where this mark goes.
    pub(crate) fn place(&self) -> u64 {
        512 + 512 * (self.generation % 2)
    }

    pub(crate) fn encode(&self, key: Key, segment: Sequence) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..4].copy_from_slice(&MARK_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&u32::from(self.continued).to_le_bytes());
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..24].copy_from_slice(&self.last.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.end.to_le_bytes());
        out[32..40].copy_from_slice(&self.kept.0.to_le_bytes());
        let grown_to = u32::try_from(self.grown_to / ALIGN).unwrap_or(u32::MAX);
        out[40..44].copy_from_slice(&grown_to.to_le_bytes());
        let crc = Self::crc(key, segment, self.place(), &out[..44]);
        out[44..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The newest valid mark in a segment's first page.
    pub(crate) fn newest(page: &[u8], key: Key, segment: Sequence) -> Option<Self> {
        let at = |place: usize| {
            let bytes = page.get(place..place + MARK_BYTES)?;
            let mark = Self {
                generation: u64_at(bytes, 8),
                last: Sequence(u64_at(bytes, 16)),
                end: u64_at(bytes, 24),
                kept: Sequence(u64_at(bytes, 32)),
                continued: u32_at(bytes, 4) & 1 == 1,
                grown_to: u64::from(u32_at(bytes, 40)) * ALIGN,
            };
            let whole = u32_at(bytes, 0) == MARK_MAGIC
                && mark.place() == place as u64
                && Self::crc(key, segment, place as u64, &bytes[..44]) == u32_at(bytes, 44);
            whole.then_some(mark)
        };
        at(512).into_iter().chain(at(1024)).max_by_key(|mark| mark.generation)
    }

    fn crc(key: Key, segment: Sequence, place: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(key.crc_at(place, &segment.0.to_le_bytes()), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_file_names_are_recognised() {
        let check = |name: &str, want: Kind| assert_eq!(kind(name), want, "{name}");
        check("LOCK", Kind::Lock);
        check("seg-00000000000000000001.log", Kind::Segment(Sequence(1)));
        check("snap-00000000000000000009.snap", Kind::Snapshot(Sequence(9)));
        check("seg-00000000000000000001.log.tmp", Kind::Unfinished);
        check("seg-00000000000000000000.log", Kind::Foreign);
        check("seg-1.log", Kind::Foreign);
        check("seg-99999999999999999999.log", Kind::Foreign);
        check("seg-0000000000000000000a.log", Kind::Foreign);
        check("notes.txt", Kind::Foreign);
        check("x.tmp", Kind::Foreign);
    }

    #[test]
    fn the_newest_valid_mark_wins() {
        let key = Key::new(&[1; 16]);
        let mark = |generation| Mark {
            generation,
            last: Sequence(generation),
            end: 4096,
            kept: Sequence(1),
            continued: false,
            grown_to: generation << 20,
        };
        let mut page = vec![0; 4096];
        assert_eq!(Mark::newest(&page, key, Sequence(1)), None);
        for generation in [4, 5] {
            let at = mark(generation).place() as usize;
            page[at..at + 48].copy_from_slice(&mark(generation).encode(key, Sequence(1)));
        }
        assert_eq!(Mark::newest(&page, key, Sequence(1)), Some(mark(5)));
        assert_eq!(Mark::newest(&page, key, Sequence(2)), None, "of another segment");
        page[1024 + 17] ^= 1;
        assert_eq!(Mark::newest(&page, key, Sequence(1)), Some(mark(4)));
    }
}
