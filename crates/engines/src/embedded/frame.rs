//! A frame: one batch of entries as bytes. Pure functions, which do not know where the bytes come
//! from.
//!
//! The layout is in `docs/log-format.md`, and it is a promise.

use units::Sequence;

/// The length of a frame's header.
pub const HEADER_BYTES: usize = 32;
/// Frames start at multiples of this.
pub const ALIGN: u64 = 8;
/// No frame's entries are longer than this in all; a batch of the sale is a few hundred KiB.
pub const BODY_BYTES_MAX: usize = 1 << 30;

/// Distinguishes the frames of one log from those of any other: the CRC of the log's id, from which
/// every header's CRC starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u32);

impl Key {
    /// The key of the log with this id.
    pub fn new(log_id: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(log_id))
    }

    /// The CRC of `bytes` as they stand at `offset` of a file of this log. With the offset in it, a
    /// frame that was copied to or left at another place is invalid.
    pub(crate) fn crc_at(self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &offset.to_le_bytes()), bytes)
    }
}

/// A frame's header, its CRC checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the entries with their length words, without the padding after them.
    pub body_bytes: u32,
    pub count: u32,
    pub first: Sequence,
    /// The header CRC of the frame before: a frame left over from an abandoned part of the same log
    /// does not fit.
    pub previous: u32,
    /// CRC of the entries and the padding after them.
    pub body_crc: u32,
    /// This header's own CRC.
    pub crc: u32,
}

impl Header {
    /// The header in `bytes`, which stand at `offset` of their segment; `None` if there is none
    /// that is whole.
    pub fn decode(bytes: &[u8], key: Key, offset: u64) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let header = Self {
            body_bytes: u32_at(bytes, 0),
            count: u32_at(bytes, 4),
            first: Sequence(u64_at(bytes, 8)),
            previous: u32_at(bytes, 16),
            body_crc: u32_at(bytes, 20),
            crc: u32_at(bytes, 28),
        };
        let sound = (5..=BODY_BYTES_MAX).contains(&(header.body_bytes as usize))
            && header.count > 0
            && u32_at(bytes, 24) == 0
            && (1..u64::MAX / 2).contains(&header.first.0);
        // The cheap tests come first: recovery tries every eighth byte of a broken tail.
        (sound && key.crc_at(offset, &bytes[..28]) == header.crc).then_some(header)
    }

    /// The sequence of the last entry.
    pub fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.count) - 1)
    }

    /// Bytes from the start of this frame to the start of the next.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_bytes as usize)
    }

    /// The body in `rest`, the frame after its header, padding included, if it is valid: its CRC
    /// matches, and it is `count` entries and nothing else.
    pub fn body<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        if rest.len() as u64 != self.frame_bytes() - HEADER_BYTES as u64
            || crc32c::crc32c(rest) != self.body_crc
        {
            return None;
        }
        let body = &rest[..self.body_bytes as usize];
        let count = entries(body).try_fold(0u32, |count, entry| entry.map(|_| count + 1));
        (count == Some(self.count)).then_some(body)
    }
}

/// The length of a frame whose entries with their length words take `body_bytes`.
pub fn frame_bytes(body_bytes: usize) -> u64 {
    (HEADER_BYTES as u64 + body_bytes as u64).next_multiple_of(ALIGN)
}

/// The entries of a body, first to last; `None` as the last item if the body does not end with an
/// entry.
pub fn entries(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = rest.split_first_chunk::<4>().and_then(|(len, tail)| {
            let len = u32::from_le_bytes(*len) as usize;
            (len > 0).then(|| tail.split_at_checked(len)).flatten()
        });
        rest = entry.map_or(&[], |(_, tail)| tail);
        Some(entry.map(|(entry, _)| entry))
    })
}

/// Puts the frame of `body` (`count` entries from `first` on) for `offset` into `out`, replacing
/// what is there; returns its header's CRC, which the next frame names.
///
/// # Panics
/// If the body is empty or longer than [`BODY_BYTES_MAX`].
pub fn encode(
    out: &mut Vec<u8>,
    key: Key,
    offset: u64,
    first: Sequence,
    previous: u32,
    count: u32,
    body: &[u8],
) -> u32 {
    assert!((5..=BODY_BYTES_MAX).contains(&body.len()), "a batch of {} bytes", body.len());
    assert!(offset.is_multiple_of(ALIGN) && count > 0 && first.0 > 0);
    out.clear();
    out.resize(HEADER_BYTES, 0);
    out.extend_from_slice(body);
    out.resize(frame_bytes(body.len()) as usize, 0);
    let body_crc = crc32c::crc32c(&out[HEADER_BYTES..]);
    out[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out[4..8].copy_from_slice(&count.to_le_bytes());
    out[8..16].copy_from_slice(&first.0.to_le_bytes());
    out[16..20].copy_from_slice(&previous.to_le_bytes());
    out[20..24].copy_from_slice(&body_crc.to_le_bytes());
    let crc = key.crc_at(offset, &out[..28]);
    out[28..32].copy_from_slice(&crc.to_le_bytes());
    crc
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_valid_only_where_it_was_written() {
        let key = Key::new(&[7; 16]);
        let mut out = Vec::new();
        let crc = encode(&mut out, key, 4096, Sequence(5), 99, 2, b"\x01\0\0\0a\x02\0\0\0bc");
        let header = Header::decode(&out, key, 4096).unwrap();
        assert_eq!((header.crc, header.previous, header.last()), (crc, 99, Sequence(6)));
        assert_eq!(header.body(&out[HEADER_BYTES..]), Some(&out[HEADER_BYTES..HEADER_BYTES + 11]));
        assert_eq!(out.len() as u64, header.frame_bytes());
        assert_eq!(Header::decode(&out, key, 4104), None, "another offset");
        assert_eq!(Header::decode(&out, Key::new(&[8; 16]), 4096), None, "another log");
        assert_eq!(Header::decode(&out[..31], key, 4096), None, "cut");
    }

    #[test]
    fn a_frame_body_that_does_not_end_with_an_entry_is_invalid() {
        let check = |body: &[u8], want: Option<usize>| {
            assert_eq!(entries(body).try_fold(0, |n, entry| entry.map(|_| n + 1)), want, "{body:?}");
        };
        check(b"", Some(0));
        check(b"\x01\0\0\0a", Some(1));
        check(b"\x01\0\0", None);
        check(b"\x02\0\0\0a", None);
        check(b"\0\0\0\0", None);
        check(b"\xff\xff\xff\xffa", None);
    }
}
