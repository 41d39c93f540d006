//! A message's bytes: a part of a batch, or a mark that separates what one writer appended from
//! whatever else may still be on its way.
//!
//! Knows no server. The layout is in `docs/engines.md`.

use crate::embedded::frame::{u32_at, u64_at};
use crate::log::{LogId, Partition};
use units::Sequence;

pub(super) const HEADER_BYTES: usize = 72;
const MAGIC: &[u8; 8] = b"FGLOGMSG";
const VERSION: u32 = 1;

/// The stream that a message must belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) log_id: LogId,
    pub(super) partition: Partition,
}

/// What the header of a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The stream's sequence of this message.
    pub(super) at: u64,
    /// The handle that wrote it.
    pub(super) writer: u64,
    /// The first entry of the batch; of a mark, the entry that is due next.
    pub(super) first: Sequence,
    /// Entries in the whole batch; 0 for a mark.
    pub(super) count: u32,
    /// Which part of the batch this is, from 0.
    pub(super) part: u16,
    /// Of how many.
    pub(super) parts: u16,
}

impl Header {
    pub(super) fn mark(at: u64, writer: u64, due: Sequence) -> Self {
        Self { at, writer, first: due, count: 0, part: 0, parts: 1 }
    }

    pub(super) fn is_mark(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_last_part(&self) -> bool {
        self.part + 1 == self.parts
    }

    /// The last entry of the log if this is its last message. A batch counts with its last part.
    pub(super) fn last(&self) -> Sequence {
        let counted = if self.is_last_part() { u64::from(self.count) } else { 0 };
        Sequence(self.first.0 - 1 + counted)
    }
}

/// A message, and its check sum.
pub(super) fn encode(identity: Identity, header: &Header, body: &[u8]) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&identity.partition.0.to_le_bytes());
    out.extend_from_slice(&identity.log_id.0);
    out.extend_from_slice(&header.at.to_le_bytes());
    out.extend_from_slice(&header.writer.to_le_bytes());
    out.extend_from_slice(&header.first.0.to_le_bytes());
    out.extend_from_slice(&header.count.to_le_bytes());
    out.extend_from_slice(&header.part.to_le_bytes());
    out.extend_from_slice(&header.parts.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
    (out, crc)
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It was never ours, or is of a later version.
    Foreign(&'static str),
    /// It is not what was written.
    Damaged(&'static str),
}

/// A message of the stream's sequence `at`: its header, its check sum and its body.
pub(super) fn decode(identity: Identity, at: u64, message: &[u8]) -> Result<(Header, u32, &[u8]), Wrong> {
    let Some((head, body)) = message.split_at_checked(HEADER_BYTES).filter(|(head, _)| &head[..8] == MAGIC)
    else {
        return Err(Wrong::Foreign("it is no message of a decision log"));
    };
    if u32_at(head, 8) != VERSION {
        return Err(Wrong::Foreign("its version is not known to this build"));
    }
    let crc = u32_at(head, 64);
    if crc != crc32c::crc32c_append(crc32c::crc32c(&head[..64]), body) {
        return Err(Wrong::Damaged("its check sum does not match"));
    }
    if head[16..32] != identity.log_id.0 || u32_at(head, 12) != identity.partition.0 {
        return Err(Wrong::Foreign("it belongs to another log"));
    }
    let u16_at = |place: usize| u16::from_le_bytes([head[place], head[place + 1]]);
    let header = Header {
        at: u64_at(head, 32),
        writer: u64_at(head, 40),
        first: Sequence(u64_at(head, 48)),
        count: u32_at(head, 56),
        part: u16_at(60),
        parts: u16_at(62),
    };
    if header.at != at {
        return Err(Wrong::Damaged("it was written as another message of this stream"));
    }
    let is_whole = header.first.0 > 0 && header.part < header.parts;
    let is_mark = header.is_mark() && header.parts == 1 && body.is_empty();
    if !is_whole || (header.is_mark() && !is_mark) || (!header.is_mark() && body.is_empty()) {
        return Err(Wrong::Damaged("its header contradicts itself"));
    }
    Ok((header, crc, body))
}

/// The parts of a message once more, as one, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The header of the part before, and the bytes so far.
    begun: Option<Header>,
    bytes: Vec<u8>,
}

impl Parts {
    /// Takes the next message. A mark sets aside what was begun before it and never ended.
    pub(super) fn take(&mut self, header: Header, body: &[u8]) -> Result<Option<&[u8]>, Wrong> {
        let before = self.begun.take();
        if header.is_mark() {
            self.bytes.clear();
            return Ok(None);
        }
        let fits = match before {
            None => header.part == 0,
            Some(before) => {
                let next = Header { at: before.at + 1, part: before.part + 1, ..before };
                header == next
            }
        };
        if !fits {
            return Err(Wrong::Damaged("it is no continuation of the message before"));
        }
        if header.part == 0 {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(body);
        if header.is_last_part() {
            return Ok(Some(&self.bytes));
        }
        self.begun = Some(header);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { log_id: LogId([7; 16]), partition: Partition(3) }
    }

    fn part(at: u64, part: u16, parts: u16) -> Header {
        Header { at, writer: 5, first: Sequence(10), count: 4, part, parts }
    }

    /// Version 1 as it was first written: stored bytes are a promise.
    #[test]
    fn a_message_has_these_bytes() {
        let (message, crc) = encode(identity(), &part(9, 1, 2), b"x");
        let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        let want = [
            "46474c4f474d5347",
            "01000000",
            "03000000",
            "07070707070707070707070707070707",
            "0900000000000000",
            "0500000000000000",
            "0a00000000000000",
            "04000000",
            "0100",
            "0200",
            "4bfe1967",
            "00000000",
            "78",
        ];
        assert_eq!(hex, want.concat());
        assert_eq!(crc, 0x6719fe4b);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let header = part(9, 0, 1);
        let (message, crc) = encode(identity(), &header, b"four entries");
        assert_eq!(decode(identity(), 9, &message), Ok((header, crc, &b"four entries"[..])));
        // The last four bytes of the header say nothing.
        for place in (0..message.len()).filter(|place| !(68..72).contains(place)) {
            let mut changed = message.clone();
            changed[place] ^= 0x10;
            assert!(decode(identity(), 9, &changed).is_err(), "byte {place}");
            assert!(decode(identity(), 9, &message[..place]).is_err(), "cut at {place}");
        }
        let moved = decode(identity(), 10, &message);
        assert_eq!(moved, Err(Wrong::Damaged("it was written as another message of this stream")));
        let other = Identity { log_id: LogId([8; 16]), ..identity() };
        assert_eq!(decode(other, 9, &message), Err(Wrong::Foreign("it belongs to another log")));
    }

    #[test]
    fn a_batch_counts_with_its_last_part_and_a_mark_sets_a_begun_one_aside() {
        let mut parts = Parts::default();
        assert_eq!(parts.take(part(1, 0, 3), b"a"), Ok(None));
        assert_eq!(parts.take(part(2, 1, 3), b"b"), Ok(None));
        assert_eq!(parts.take(part(3, 2, 3), b"c"), Ok(Some(&b"abc"[..])));
        assert_eq!(parts.take(part(4, 0, 2), b"lost"), Ok(None));
        assert_eq!(parts.take(Header::mark(5, 6, Sequence(10)), b""), Ok(None));
        assert_eq!(parts.take(part(6, 0, 1), b"d"), Ok(Some(&b"d"[..])));
        assert_eq!((part(1, 0, 3).last(), part(3, 2, 3).last()), (Sequence(9), Sequence(13)));
        assert_eq!(Header::mark(5, 6, Sequence(10)).last(), Sequence(9));
        for wrong in [part(7, 1, 2), part(8, 0, 2)] {
            let mut parts = Parts::default();
            parts.take(part(7, 0, 3), b"a").unwrap();
            assert!(parts.take(wrong, b"b").is_err(), "{wrong:?}");
        }
        assert!(Parts::default().take(part(1, 1, 2), b"b").is_err());
    }
}
