//! Determines what a directory holds, and whether anything that was durable is missing. Changes
//! nothing.
//!
//! The question to decide: a crash may tear the one append that was under way, and that tail is to
//! be cut; but invalid bytes may as well be an acknowledged batch that has been damaged, and that
//! must be refused. The writer never begins an append before the previous one is durable, so
//! anything that was written after a place proves that the place was durable: a later frame, a
//! later segment, a mark, a snapshot. Only without any such proof is a tail torn.

use super::{
    disk::{Disk, DiskFile},
    frame::{ALIGN, Key},
    options::Checks,
    segment::{FRAMES_AT, HeaderError, Kind, Mark, SegmentHeader, VERSION, kind, segment_name},
    walk::{self, Head, Walk},
};
use crate::log::{LogError, LogId, Partition};
use std::io;
use units::Sequence;

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Found {
    pub log_id: LogId,
    pub partition: Partition,
    /// The first sequences of the segments, ascending; never empty.
    pub starts: Vec<Sequence>,
    pub last: Sequence,
    /// Where the frames of the last segment end, and the chain value there.
    pub end: u64,
    pub previous: u32,
    /// Where the last frame of the last segment starts, if it has one that no mark proves.
    pub unproven_at: Option<u64>,
    /// How long that segment is, and how long it was made.
    pub capacity: u64,
    pub made_bytes: u64,
    /// The length that its header or its mark names.
    pub proven_bytes: u64,
    /// The newest mark in the last segment.
    pub mark: Option<Mark>,
    /// The tail to cut: up to this offset there are bytes after `end` that are not zero.
    pub torn_end: Option<u64>,
    /// Files that are no longer needed: unfinished, or already trimmed.
    pub superfluous: Vec<String>,
}

/// What the directory lists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub segments: Vec<Sequence>,
    pub snapshots: Vec<Sequence>,
    pub unfinished: Vec<String>,
}

pub(crate) fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LogError {
    let doing = doing.into();
    move |source| LogError::Io { doing, source }
}

pub(crate) fn path<D: Disk>(disk: &D, name: &str) -> String {
    format!("{}/{name}", disk.place())
}

/// Lists the directory, and refuses files that are not the log's.
pub(crate) fn list<D: Disk>(disk: &D) -> Result<Listing, LogError> {
    let mut listing = Listing { segments: Vec::new(), snapshots: Vec::new(), unfinished: Vec::new() };
    for name in disk.list().map_err(io_error(format!("list {}", disk.place())))? {
        match kind(&name) {
            Kind::Lock => {}
            Kind::Segment(first) => listing.segments.push(first),
            Kind::Snapshot(at) => listing.snapshots.push(at),
            Kind::Unfinished => listing.unfinished.push(name),
            Kind::Foreign => {
                let why = "not a file of a decision log".to_owned();
                return Err(LogError::Foreign { file: path(disk, &name), why });
            }
        }
    }
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// Opens a segment to read and checks its header; returns with it the page that holds the marks.
pub(crate) fn open_segment<D: Disk>(
    disk: &D,
    first: Sequence,
) -> Result<(D::File, SegmentHeader, Vec<u8>), LogError> {
    let name = segment_name(first);
    let file = path(disk, &name);
    let damaged = |offset, why: &str| LogError::Damaged { file: file.clone(), offset, why: why.to_owned() };
    let open = disk.open_read(&name).map_err(io_error(format!("open {file}")))?;
    let mut page = vec![0; FRAMES_AT as usize];
    let len = open.read_at(&mut page, 0).map_err(io_error(format!("read {file}")))?;
    page.truncate(len);
    let header = SegmentHeader::decode(&page).map_err(|error| match error {
        HeaderError::Version(version) => LogError::Foreign {
            file: file.clone(),
            why: format!("format version {version}, and this build reads version {VERSION}"),
        },
        // A segment gets its name only when its header is durable, so this is no creation that was
        // cut short.
        HeaderError::Magic => damaged(0, "the segment header is missing or was overwritten"),
        HeaderError::Crc => damaged(0, "the segment header fails its CRC"),
    })?;
    let len = open.len().map_err(io_error(format!("read {file}")))?;
    // The length in the header was durable before the segment got its name, and one in a mark
    // before the mark was written. Asked for after the page was read: a live writer never makes it
    // shorter than what they name.
    let bytes = proven_bytes(&header, Mark::newest(&page, Key::new(&header.log_id.0), first));
    if len < bytes {
        return Err(damaged(len, &format!("the file ends here and should be {bytes} bytes long")));
    }
    if header.first != first {
        let why = format!("its header says that it begins with entry {}; it was renamed", header.first);
        return Err(LogError::Foreign { file, why });
    }
    Ok((open, header, page))
}

/// How long a segment's file is at least.
fn proven_bytes(header: &SegmentHeader, mark: Option<Mark>) -> u64 {
    mark.map_or(0, |mark| mark.grown_to).max(header.bytes)
}

/// What the directory holds; `None` if there is no log in it yet.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    want: Option<Partition>,
    checks: Checks,
) -> Result<Option<Found>, LogError> {
    let mut listing = list(disk)?;
    let Some(&newest) = listing.segments.last() else {
        return match listing.snapshots.last() {
            None => Ok(None),
            Some(at) => Err(LogError::Damaged {
                file: path(disk, &segment_name(Sequence(1))),
                offset: 0,
                why: format!("all segments are missing, and there is a snapshot at entry {at}"),
            }),
        };
    };

    let (newest_file, newest_header, newest_page) = open_segment(disk, newest)?;
    let SegmentHeader { partition, log_id, .. } = newest_header;
    if want.is_some_and(|want| want != partition) {
        let why = format!("it belongs to partition {}", partition.0);
        return Err(LogError::Foreign { file: path(disk, &segment_name(newest)), why });
    }
    let key = Key::new(&log_id.0);
    let mark = Mark::newest(&newest_page, key, newest);
    if mark.is_some_and(|mark| mark.continued) {
        let why = "a further segment was begun, and it is missing".to_owned();
        return Err(LogError::Damaged { file: path(disk, &segment_name(newest)), offset: FRAMES_AT, why });
    }

    // A trim that was cut short leaves segments, perhaps with gaps: entries that it had marked as
    // trimmed are skipped.
    let kept = mark.map_or(newest_header.kept, |mark| mark.kept.max(newest_header.kept));
    let trimmed = listing.segments.partition_point(|&first| first < kept);
    let mut superfluous = listing.unfinished;
    superfluous.extend(listing.segments.drain(..trimmed).map(segment_name));
    let starts = listing.segments;
    if starts.first() != Some(&kept) {
        let why = format!("this segment is missing, and the log should begin with entry {kept}");
        return Err(LogError::Damaged { file: path(disk, &segment_name(kept)), offset: 0, why });
    }

    // If the newest snapshot cannot be used, the one before it is.
    let read_from = match checks {
        Checks::All => Sequence(0),
        Checks::SinceSnapshots => listing.snapshots.first().map_or(Sequence(0), |at| at.next()),
    };
    let mut chain = None;
    for pair in starts.windows(2) {
        chain = match pair[1] <= read_from {
            true => begin(disk, pair[0], &newest_header, None).map(|_| None)?,
            false => Some(walk_sealed(disk, pair[0], pair[1], &newest_header, chain)?),
        };
    }
    let proof = Proof { mark, snapshot: listing.snapshots.last().copied() };
    let tail = walk_last(disk, newest, &newest_header, chain, &proof)?;
    let doing = format!("read {}", path(disk, &segment_name(newest)));
    let len = newest_file.len().map_err(io_error(doing))?;
    Ok(Some(Found {
        log_id,
        partition,
        starts,
        last: Sequence(tail.next.0 - 1),
        end: tail.at,
        previous: tail.previous,
        capacity: (len / ALIGN * ALIGN).max(tail.at),
        made_bytes: newest_header.bytes,
        proven_bytes: proven_bytes(&newest_header, mark),
        unproven_at: tail.last_frame_at.filter(|_| mark.is_none_or(|mark| mark.end < tail.at)),
        mark,
        torn_end: tail.torn_end,
        superfluous,
    }))
}

/// Begins to walk a segment, once it is sure that it follows the one before.
fn begin<D: Disk>(
    disk: &D,
    first: Sequence,
    log: &SegmentHeader,
    chain: Option<u32>,
) -> Result<Walk<D::File>, LogError> {
    let (file, header, _) = open_segment(disk, first)?;
    if (header.partition, header.log_id) != (log.partition, log.log_id) {
        let why = "it belongs to another log than the newest segment here".to_owned();
        return Err(LogError::Foreign { file: path(disk, &segment_name(first)), why });
    }
    if chain.is_some_and(|chain| chain != header.previous) {
        let why = "it does not continue the segment before it".to_owned();
        return Err(LogError::Damaged { file: path(disk, &segment_name(first)), offset: 0, why });
    }
    Ok(Walk::new(file, Key::new(&header.log_id.0), first, header.previous))
}

/// Walks a segment that is followed by another: every entry before the next segment's first was
/// durable. What follows them in the file does not count: after a failed sync the writer goes on in
/// a fresh segment, and leaves what may be there.
fn walk_sealed<D: Disk>(
    disk: &D,
    first: Sequence,
    until: Sequence,
    log: &SegmentHeader,
    chain: Option<u32>,
) -> Result<u32, LogError> {
    let name = segment_name(first);
    let doing = || format!("read {}", path(disk, &name));
    let mut walk = begin(disk, first, log, chain)?;
    while walk.next < until {
        let why = match walk.head().map_err(io_error(doing()))? {
            Head::Frame(header) => match walk.body(&header).map_err(io_error(doing()))? {
                Some(_) => {
                    walk.pass(&header);
                    continue;
                }
                None => "the frame here fails its CRC".to_owned(),
            },
            Head::Zero => {
                format!("it ends before entry {}, and the next segment here begins with {until}", walk.next)
            }
            Head::UnexpectedFrame(header) => {
                format!("entry {} should be here, and there is a frame from {} on", walk.next, header.first)
            }
            Head::Broken => "the frame header here fails its CRC".to_owned(),
        };
        return Err(LogError::Damaged { file: path(disk, &name), offset: walk.at, why });
    }
    if walk.next > until {
        let why = format!("the next segment begins with entry {until}, in the middle of a frame of this one");
        return Err(LogError::Damaged { file: path(disk, &name), offset: walk.at, why });
    }
    Ok(walk.previous)
}

/// Other evidence of what was durable.
#[derive(Debug)]
struct Proof {
    mark: Option<Mark>,
    snapshot: Option<Sequence>,
}

/// Where the last segment's good frames end.
struct Tail {
    at: u64,
    next: Sequence,
    previous: u32,
    last_frame_at: Option<u64>,
    torn_end: Option<u64>,
}

fn walk_last<D: Disk>(
    disk: &D,
    first: Sequence,
    log: &SegmentHeader,
    chain: Option<u32>,
    proof: &Proof,
) -> Result<Tail, LogError> {
    let name = segment_name(first);
    let file = path(disk, &name);
    let mut walk = begin(disk, first, log, chain)?;
    let mut last_frame_at = None;
    let torn_end = loop {
        match step(&mut walk, &file)? {
            Step::Passed { at } => last_frame_at = Some(at),
            Step::End { torn_end } => break torn_end,
        }
    };
    let last = Sequence(walk.next.0 - 1);
    let durable = proof.mark.map_or(Sequence(0), |mark| mark.last).max(proof.snapshot.unwrap_or_default());
    if durable > last || proof.mark.is_some_and(|mark| mark.end > walk.at) {
        let why = format!("the log ends here with entry {last}, and entry {durable} was durable");
        return Err(LogError::Damaged { file, offset: walk.at, why });
    }
    Ok(Tail { at: walk.at, next: walk.next, previous: walk.previous, last_frame_at, torn_end })
}

/// One step in the last segment.
pub(crate) enum Step {
    /// A good frame, which started here.
    Passed { at: u64 },
    /// The end of the segment's frames; the bytes after it that are not zero end at `torn_end`.
    End { torn_end: Option<u64> },
}

/// Passes the next frame of a last segment, or says that the log ends before it.
fn step<F: DiskFile>(walk: &mut Walk<F>, file: &str) -> Result<Step, LogError> {
    if let Some(at) = pass(walk, file)? {
        return Ok(Step::Passed { at });
    }
    match judge_tail(walk, file)? {
        Verdict::End { torn_end } => Ok(Step::End { torn_end }),
        Verdict::Passable => match pass(walk, file)? {
            Some(at) => Ok(Step::Passed { at }),
            None => Ok(Step::End { torn_end: None }),
        },
    }
}

fn pass<F: DiskFile>(walk: &mut Walk<F>, file: &str) -> Result<Option<u64>, LogError> {
    let doing = || format!("read {file}");
    let at = walk.at;
    if let Head::Frame(header) = walk.head().map_err(io_error(doing()))?
        && walk.body(&header).map_err(io_error(doing()))?.is_some()
    {
        walk.pass(&header);
        return Ok(Some(at));
    }
    Ok(None)
}

/// The verdict on a place without a good frame.
pub(crate) enum Verdict {
    /// The end of the log; the bytes after it that are not zero end at `torn_end`.
    End { torn_end: Option<u64> },
    /// By now a good frame is here: a writer was active.
    Passable,
}

/// Judges the place where `walk` stands, in a last segment, after no good frame was found there.
pub(crate) fn judge_tail<F: DiskFile>(walk: &mut Walk<F>, file: &str) -> Result<Verdict, LogError> {
    let doing = || format!("read {file}");
    let rest = walk::rest(walk.file(), walk.key(), walk.at, walk.next).map_err(io_error(doing()))?;
    // Read once more: with a live writer the frame may have been half written at the first read.
    // Anything that `rest` found after it was begun once it was durable, so from now on it must be
    // whole.
    walk.refresh();
    let head = walk.head().map_err(io_error(doing()))?;
    if let Head::Frame(header) = head
        && walk.body(&header).map_err(io_error(doing()))?.is_some()
    {
        return Ok(Verdict::Passable);
    }
    let why = match (head, rest.later) {
        // One append writes all of a header or a part of it, and never a complete and wrong one.
        (Head::UnexpectedFrame(header), _) => {
            format!("entry {} should be here, and there is a frame from {} on", walk.next, header.first)
        }
        (_, Some(later)) => format!("no whole frame is here, and a later one is at byte {later}"),
        // Other bytes after this place prove nothing: they may be of an append that was taken back,
        // of which the disk has kept what the page cache no longer showed.
        (_, None) => return Ok(Verdict::End { torn_end: rest.end }),
    };
    Err(LogError::Damaged { file: file.to_owned(), offset: walk.at, why })
}
