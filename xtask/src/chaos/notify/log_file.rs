//! The log's files, read as docs/log-format.md describes them and by nothing of the server, to find
//! what to damage: a frame that is certainly durable, and the place after the last whole one.

use crate::shell::Failure;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FRAMES_AT: usize = 4096;
const HEADER_BYTES: usize = 32;
/// Where the two marks are, and how long each is.
const MARKS_AT: [u64; 2] = [512, 1024];
const MARK_BYTES: u64 = 48;
pub(super) const SEGMENT_HEADER_BYTES: u64 = 64;

/// A batch in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) at: u64,
    pub(super) end: u64,
    first: u64,
    count: u32,
    crc: u32,
}

/// A segment, and its whole frames.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: PathBuf,
    log_id: [u8; 16],
    bytes: u64,
    pub(super) frames: Vec<Frame>,
}

impl Segment {
    /// How much can be appended before the file must grow.
    pub(super) fn room_bytes(&self) -> u64 {
        self.bytes - self.frames.last().map_or(FRAMES_AT as u64, |frame| frame.end)
    }
}

/// CRC-32C (RFC 3720, appendix B.4), of these after those before them.
fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut crc, mut bit) = (at as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[at] = crc;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!before, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 255) as usize] ^ (crc >> 8))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The CRC of a frame's header that stands at this offset.
fn header_crc(log_id: &[u8; 16], at: u64, header: &[u8]) -> u32 {
    crc32c(crc32c(crc32c(0, log_id), &at.to_le_bytes()), &header[..28])
}

/// The whole frame at this offset, if there is one.
fn frame(bytes: &[u8], log_id: &[u8; 16], at: usize) -> Option<Frame> {
    let header = bytes.get(at..at + HEADER_BYTES)?;
    let length = u32_at(header, 0) as usize;
    let crc = u32_at(header, 28);
    if length == 0 || crc != header_crc(log_id, at as u64, header) {
        return None;
    }
    let end = at + (HEADER_BYTES + length).next_multiple_of(8);
    let body = bytes.get(at + HEADER_BYTES..end)?;
    let is_whole = crc32c(0, body) == u32_at(header, 20);
    is_whole.then(|| Frame {
        at: at as u64,
        end: end as u64,
        first: u64_at(header, 8),
        count: u32_at(header, 4),
        crc,
    })
}

fn segment(file: PathBuf) -> Result<Segment, Failure> {
    let bytes = fs::read(&file)?;
    let log_id: Option<[u8; 16]> = bytes.get(16..32).and_then(|id| id.try_into().ok());
    let log_id = log_id.ok_or_else(|| Failure(format!("{}: no header", file.display())))?;
    let (mut frames, mut at) = (Vec::new(), FRAMES_AT);
    while let Some(found) = frame(&bytes, &log_id, at) {
        at = found.end as usize;
        frames.push(found);
    }
    Ok(Segment { file, log_id, bytes: bytes.len() as u64, frames })
}

fn named(dir: &Path, front: &str, back: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(front) && name.ends_with(back)
    });
    files.sort();
    Ok(files)
}

/// The log's segments in order, and in each its whole frames.
pub(super) fn segments(dir: &Path) -> Result<Vec<Segment>, Failure> {
    named(dir, "seg-", ".log")?.into_iter().map(segment).collect()
}

/// The newest snapshot, if there is one.
pub(super) fn snapshot(dir: &Path) -> Result<Option<PathBuf>, Failure> {
    Ok(named(dir, "snap-", ".snap")?.pop())
}

/// Where the newest of a segment's two marks may be: damage to either of them must be survived.
pub(super) fn in_a_mark(which: u64, at: u64) -> u64 {
    MARKS_AT[(which % 2) as usize] + at % MARK_BYTES
}

/// A bit that was changed, and can be changed back.
#[derive(Debug)]
pub(super) struct Flipped {
    pub(super) file: PathBuf,
    pub(super) at: u64,
    bit: u32,
}

/// Changes a bit of a file.
pub(super) fn flip(file: &Path, at: u64, bit: u32) -> Result<Flipped, Failure> {
    let flipped = Flipped { file: file.to_owned(), at, bit };
    flipped.turn()?;
    Ok(flipped)
}

impl Flipped {
    /// A second turn undoes the first.
    fn turn(&self) -> Result<(), Failure> {
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at)?;
        byte[0] ^= 1 << self.bit;
        Ok(file.write_all_at(&byte, self.at)?)
    }

    pub(super) fn undo(self) -> Result<(), Failure> {
        self.turn()
    }
}

/// Leaves what a crash leaves of an append that was under way: the header of the next frame, and a
/// part of its body, cut after `share` thousandths of the frame. False if the file has no room.
pub(super) fn tear(segment: &Segment, share: u64) -> Result<bool, Failure> {
    const BODY_BYTES: usize = 3000;
    let Some(last) = segment.frames.last() else { return Ok(false) };
    let mut torn = vec![0; HEADER_BYTES];
    torn[..4].copy_from_slice(&(BODY_BYTES as u32).to_le_bytes());
    torn[4..8].copy_from_slice(&1u32.to_le_bytes());
    torn[8..16].copy_from_slice(&(last.first + u64::from(last.count)).to_le_bytes());
    torn[16..20].copy_from_slice(&last.crc.to_le_bytes());
    // Of a body that is never there as a whole.
    torn[20..24].copy_from_slice(&0x7357_7357_u32.to_le_bytes());
    let crc = header_crc(&segment.log_id, last.end, &torn);
    torn[28..].copy_from_slice(&crc.to_le_bytes());
    torn.extend((0..BODY_BYTES).map(|at| at as u8 | 1));
    if last.end + torn.len() as u64 > segment.bytes {
        return Ok(false);
    }
    let length = (torn.len() as u64 * share / 1000).max(1) as usize;
    let file: File = OpenOptions::new().write(true).open(&segment.file)?;
    file.write_all_at(&torn[..length], last.end)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::root;

    #[test]
    fn the_examples_of_the_format_are_read_to_their_end() {
        let golden = root().join("crates/engines/tests/engines/golden/v1");
        let segments = segments(&golden).unwrap();
        assert_eq!(segments.len(), 2);
        let mut next = 1;
        for frame in segments.iter().flat_map(|segment| &segment.frames) {
            assert_eq!(frame.first, next);
            next += u64::from(frame.count);
        }
        assert!(next > 101, "the second segment begins with entry 101: {next}");
        assert!(snapshot(&golden).unwrap().is_some());
    }

    #[test]
    fn a_changed_bit_ends_the_whole_frames_and_is_changed_back() {
        let dir = std::env::temp_dir().join(format!("xtask-log-file-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let golden = root().join("crates/engines/tests/engines/golden/v1");
        let name = "seg-00000000000000000001.log";
        fs::write(dir.join(name), fs::read(golden.join(name)).unwrap()).unwrap();
        let before = segments(&dir).unwrap().remove(0);
        let second = before.frames[1];
        let flipped = flip(&before.file, second.end - 1, 3).unwrap();
        assert_eq!(segments(&dir).unwrap()[0].frames, before.frames[..1]);
        flipped.undo().unwrap();
        assert_eq!(segments(&dir).unwrap()[0].frames, before.frames);
        assert!(tear(&before, 900).unwrap());
        assert_eq!(segments(&dir).unwrap()[0].frames, before.frames, "what is torn is no frame");
        fs::remove_dir_all(dir).unwrap();
    }
}
