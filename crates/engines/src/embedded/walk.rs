//! Walks the frames of one segment in big blocks.
//!
//! It says what is at a place and never what to do about it: whether a bad frame is a torn tail or
//! damage depends on the rest of the log ([`super::recover`]).

use super::{
    disk::DiskFile,
    frame::{HEADER_BYTES, Header, Key},
    segment::FRAMES_AT,
};
use std::io;
use units::Sequence;

/// The first block read, and the largest: a reader near the end needs little, one that replays
/// needs few calls.
const BLOCK_BYTES_MIN: usize = 32 << 10;
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// What is at the place of the next frame.
#[derive(Debug)]
pub(crate) enum Head {
    /// The header of the frame that follows.
    Frame(Header),
    /// A zero length word, or the end of the file.
    Zero,
    /// A whole header, but not of the frame that follows the one before.
    UnexpectedFrame(Header),
    /// Neither.
    Broken,
}

/// Where a frame starts, its first sequence, and the chain value of the frame before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) next: Sequence,
    pub(crate) previous: u32,
}

#[derive(Debug)]
pub(crate) struct Walk<F> {
    file: F,
    key: Key,
    buf: Vec<u8>,
    /// Offset in the file of `buf[0]`, and how much of `buf` is filled.
    buf_at: u64,
    buf_len: usize,
    block_bytes: usize,
    /// Where the next frame starts, and its first sequence and chain value.
    pub(crate) at: u64,
    pub(crate) next: Sequence,
    pub(crate) previous: u32,
}

impl<F: DiskFile> Walk<F> {
    /// At the first frame of a segment whose header said this.
    pub(crate) fn new(file: F, key: Key, first: Sequence, previous: u32) -> Self {
        let buf = Vec::new();
        let block_bytes = BLOCK_BYTES_MIN;
        Self { file, key, buf, buf_at: 0, buf_len: 0, block_bytes, at: FRAMES_AT, next: first, previous }
    }

    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// Goes on in `file`, which may be another one of the same name by now.
    pub(crate) fn reopen(&mut self, file: F) {
        self.file = file;
        self.refresh();
    }

    /// Drops what was buffered: a writer may have changed it since. What is read next may be
    /// little.
    pub(crate) fn refresh(&mut self) {
        self.buf_len = 0;
        self.block_bytes = BLOCK_BYTES_MIN;
    }

    /// Where the next frame starts.
    pub(crate) fn mark(&self) -> Mark {
        Mark { at: self.at, next: self.next, previous: self.previous }
    }

    /// Goes to a frame of this segment.
    pub(crate) fn go_to(&mut self, mark: Mark) {
        Mark { at: self.at, next: self.next, previous: self.previous } = mark;
    }

    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let (at, key) = (self.at, self.key);
        let (next, previous) = (self.next, self.previous);
        let bytes = self.bytes(HEADER_BYTES)?;
        if bytes.len() < 4 || bytes[..4] == [0; 4] {
            return Ok(Head::Zero);
        }
        Ok(match Header::decode(bytes, key, at) {
            Some(header) if header.first == next && header.previous == previous => Head::Frame(header),
            Some(header) => Head::UnexpectedFrame(header),
            None => Head::Broken,
        })
    }

    /// The entries after `header`, which [`Walk::head`] has just returned; `None` if they are not
    /// what was written.
    pub(crate) fn body(&mut self, header: &Header) -> io::Result<Option<&[u8]>> {
        // The header's CRC vouches for the length, so that it cannot make this ask for more memory
        // than a frame has.
        let bytes = self.bytes(header.frame_bytes() as usize)?;
        Ok(bytes.get(HEADER_BYTES..).and_then(|rest| header.body(rest)))
    }

    /// Moves to the place after the frame of `header`.
    pub(crate) fn pass(&mut self, header: &Header) {
        self.at += header.frame_bytes();
        self.next = header.last().next();
        self.previous = header.crc;
    }

    /// The next `want` bytes, or as many as the file has.
    fn bytes(&mut self, want: usize) -> io::Result<&[u8]> {
        let have = (self.buf_at + self.buf_len as u64).saturating_sub(self.at);
        if self.at < self.buf_at || have < want as u64 {
            let block = want.max(self.block_bytes);
            self.block_bytes = (self.block_bytes * 2).min(BLOCK_BYTES_MAX);
            if self.buf.len() < block {
                let len = self.file.len()?.saturating_sub(self.at).min(block as u64) as usize;
                self.buf.resize(len.max(self.buf.len()), 0);
            }
            let block = block.min(self.buf.len());
            self.buf_at = self.at;
            self.buf_len = 0;
            self.buf_len = self.file.read_at(&mut self.buf[..block], self.at)?;
        }
        let from = (self.at - self.buf_at) as usize;
        Ok(&self.buf[from..self.buf_len.min(from + want)])
    }
}

/// What follows the last good frame of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    /// The offset after the last byte that is not zero; `None` if all are.
    pub end: Option<u64>,
    /// Where the header of a later frame stands.
    pub later: Option<u64>,
}

/// Looks at all of `file` from `from` on for bytes that are not zero, and for headers of frames
/// that begin after `next`.
pub(crate) fn rest<F: DiskFile>(file: &F, key: Key, from: u64, next: Sequence) -> io::Result<Rest> {
    let mut rest = Rest::default();
    // Blocks overlap by a header, so that none is missed at a border.
    let mut buf = vec![0; BLOCK_BYTES_MAX + HEADER_BYTES];
    let mut at = from;
    loop {
        let len = file.read_at(&mut buf, at)?;
        let block = &buf[..len];
        let used = block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if used > 0 {
            rest.end = Some(at + used as u64);
        }
        for start in (0..used).step_by(8) {
            // The frame at `from` itself is the one in question.
            let place = at + start as u64;
            if place > from
                && rest.later.is_none()
                && Header::decode(&block[start..], key, place).is_some_and(|header| header.first > next)
            {
                rest.later = Some(place);
            }
        }
        if len < buf.len() {
            return Ok(rest);
        }
        at += BLOCK_BYTES_MAX as u64;
    }
}
