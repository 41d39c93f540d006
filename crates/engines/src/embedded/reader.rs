//! Readers: in the writer's process, where the writer tells them how far the log is durable, or of
//! a directory that another process may be writing.

use super::{
    disk::{Disk, DiskFile},
    frame::{self, Header, Key},
    options::Checks,
    recover::{self, Found, Verdict, io_error, judge_tail, path},
    report::Report,
    segment::segment_name,
    shared::Shared,
    snapshots::EmbeddedSnapshots,
    walk::{Head, Mark, Walk},
};
use crate::log::{LogError, LogRead, Snapshots, Visit};
use std::{collections::BTreeMap, fmt, io, ops::ControlFlow, sync::Arc};
use units::Sequence;

/// The segment that holds `next`, and where the segment after it begins.
fn locate(starts: &[Sequence], next: Sequence) -> Option<(Sequence, Option<Sequence>)> {
    let following = starts.partition_point(|&first| first <= next);
    let start = *starts.get(following.checked_sub(1)?)?;
    Some((start, starts.get(following).copied()))
}

/// How far apart marks are, and in how many segments a reader has them.
const MARK_EVERY_BYTES: u64 = 256 << 10;
const MARKED_SEGMENTS_MAX: usize = 1024;

/// Frames of a segment that were passed, so that going back does not begin at its start.
#[derive(Default)]
struct Marks(Vec<Mark>);

impl Marks {
    /// Notes where the walk is, if it is far from the last mark.
    fn note(&mut self, here: Mark) {
        let last = self.0.last().map_or(0, |mark| mark.at);
        if here.at >= last + MARK_EVERY_BYTES {
            self.0.push(here);
        }
    }

    /// The last one from which `next` can be reached.
    fn before(&self, next: Sequence) -> Option<Mark> {
        let after = self.0.partition_point(|mark| mark.next <= next);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

/// A segment that is being read. Its place is kept between reads, so that following the end of the
/// log costs a short read.
struct Place<F> {
    segment: Sequence,
    walk: Walk<F>,
    /// The last frame that was passed: a reader that stopped in it may come back to the rest of it.
    following: Option<(u64, Sequence, u32)>,
}

/// Where one read starts, and how far it goes.
struct Cursor<'a, 'b> {
    next: Sequence,
    visit: &'a mut Visit<'b>,
    stopped: bool,
}

impl Cursor<'_, '_> {
    /// Visits the requested entries of a frame; false once the visitor stops.
    fn frame(&mut self, header: &Header, body: &[u8]) -> bool {
        for (sequence, entry) in (header.first.0..).map(Sequence).zip(frame::entries(body).flatten()) {
            if sequence < self.next {
                continue;
            }
            self.next = sequence.next();
            if (self.visit)(sequence, entry) == ControlFlow::Break(()) {
                self.stopped = true;
                return false;
            }
        }
        true
    }
}

impl<F: DiskFile> Place<F> {
    fn open<D: Disk<File = F>>(disk: &D, segment: Sequence) -> Result<Self, LogError> {
        let (file, header, _) = recover::open_segment(disk, segment)?;
        let walk = Walk::new(file, Key::new(&header.log_id.0), segment, header.previous);
        Ok(Self { segment, walk, following: None })
    }

    /// Goes back to the last frame if `next` is in it; false if `next` is even further back.
    fn seek(&mut self, next: Sequence) -> bool {
        self.walk.refresh();
        if let Some((at, first, previous)) = self.following.take()
            && (first..self.walk.next).contains(&next)
        {
            (self.walk.at, self.walk.next, self.walk.previous) = (at, first, previous);
        }
        self.walk.next <= next
    }

    /// True if the last frame that was read is still there. With a live writer, a frame may have
    /// been read that was never acknowledged, and has since been cut, or left in a file that
    /// another has replaced.
    fn stands(&mut self, file: F) -> io::Result<bool> {
        self.walk.reopen(file);
        let Some((at, first, previous)) = self.following else { return Ok(false) };
        let end = (self.walk.at, self.walk.next, self.walk.previous);
        (self.walk.at, self.walk.next, self.walk.previous) = (at, first, previous);
        let head = self.walk.head()?;
        (self.walk.at, self.walk.next, self.walk.previous) = end;
        Ok(matches!(head, Head::Frame(header) if header.crc == end.2))
    }

    fn go_to(&mut self, mark: Mark) {
        self.following = None;
        self.walk.go_to(mark);
    }

    fn pass(&mut self, header: &Header) {
        self.following = Some((self.walk.at, header.first, self.walk.previous));
        self.walk.pass(header);
    }

    /// Reads on to `until`, which is known to be durable and in this segment.
    fn read_durable(
        &mut self,
        file: &str,
        cursor: &mut Cursor<'_, '_>,
        until: Sequence,
        marks: &mut Marks,
    ) -> Result<(), LogError> {
        while self.walk.next <= until {
            marks.note(self.walk.mark());
            let head = self.walk.head().map_err(io_error(format!("read {file}")))?;
            let at = self.walk.at;
            let damaged =
                |why: &str| LogError::Damaged { file: file.to_owned(), offset: at, why: why.to_owned() };
            let Head::Frame(header) = head else {
                return Err(damaged(
                    "entries that are known to be durable should be here, and no whole frame is",
                ));
            };
            if header.last() >= cursor.next {
                let body = self.walk.body(&header).map_err(io_error(format!("read {file}")))?;
                let body = body.ok_or_else(|| damaged("the frame here fails its CRC"))?;
                if !cursor.frame(&header, body) {
                    return Ok(());
                }
            }
            self.pass(&header);
        }
        Ok(())
    }

    /// Reads on to wherever this segment, the last one, ends.
    fn read_to_end(&mut self, file: &str, cursor: &mut Cursor<'_, '_>) -> Result<(), LogError> {
        loop {
            if let Head::Frame(header) = self.walk.head().map_err(io_error(format!("read {file}")))?
                && let Some(body) = self.walk.body(&header).map_err(io_error(format!("read {file}")))?
            {
                if !cursor.frame(&header, body) {
                    return Ok(());
                }
                self.pass(&header);
                continue;
            }
            if let Verdict::End { .. } = judge_tail(&mut self.walk, file)? {
                return Ok(());
            }
        }
    }
}

/// A reader in the writer's process. It reads what is durable and never more.
pub(crate) struct SharedReader<D: Disk> {
    disk: D,
    shared: Arc<Shared>,
    place: Option<Place<D::File>>,
    /// By segment. All are durable, and so stay where they are.
    marks: BTreeMap<Sequence, Marks>,
}

impl<D: Disk> SharedReader<D> {
    pub(crate) fn new(disk: D, shared: Arc<Shared>) -> Self {
        Self { disk, shared, place: None, marks: BTreeMap::new() }
    }

    /// Goes to the frame of `next`, or to one before it, in its segment.
    fn place(
        &mut self,
        segment: Sequence,
        next: Sequence,
    ) -> Result<(&mut Place<D::File>, &mut Marks), LogError> {
        if self.marks.len() >= MARKED_SEGMENTS_MAX && !self.marks.contains_key(&segment) {
            self.marks.pop_first();
        }
        let marks = self.marks.entry(segment).or_default();
        let mark = marks.before(next);
        let place = self.place.take().filter(|place| place.segment == segment);
        let place = place.and_then(|mut place| place.seek(next).then_some(place));
        let mut place = match place {
            Some(place) => place,
            None => Place::open(&self.disk, segment)?,
        };
        if let Some(mark) = mark.filter(|mark| mark.next > place.walk.next) {
            place.go_to(mark);
        }
        Ok((self.place.insert(place), marks))
    }
}

impl<D: Disk> LogRead for SharedReader<D> {
    fn last(&self) -> Sequence {
        self.shared.durable()
    }

    fn first(&self) -> Sequence {
        self.shared.first()
    }

    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        // Taken once and first: everything read after this is complete up to here.
        let limit = self.shared.durable();
        let mut cursor = Cursor { next: from.max(Sequence(1)), visit, stopped: false };
        while cursor.next <= limit && !cursor.stopped {
            let next = cursor.next;
            let (first, found) = self.shared.with_starts(|starts| (starts[0], locate(starts, next)));
            let Some((segment, following)) = found else {
                return Err(LogError::Trimmed { from: next, first });
            };
            let until = following.map_or(limit, |following| limit.min(Sequence(following.0 - 1)));
            let file = path(&self.disk, &segment_name(segment));
            match self.place(segment, next) {
                Ok((place, marks)) => place.read_durable(&file, &mut cursor, until, marks)?,
                Err(error) => {
                    // Trimmed between reading the list and opening the file.
                    let first = self.shared.first();
                    return Err(if first > next { LogError::Trimmed { from: next, first } } else { error });
                }
            }
        }
        Ok(Sequence(cursor.next.0 - 1))
    }
}

/// A log that is only read: a copy, or one that another process may be writing. Locks nothing,
/// repairs nothing, writes nothing.
///
/// With a live writer it may see the newest batch a moment before the writer's sync has returned.
pub struct ReadOnlyLog<D: Disk> {
    disk: D,
    place: Option<Place<D::File>>,
    snapshots: EmbeddedSnapshots<D>,
    report: Report,
    first: Sequence,
    last: Sequence,
}

impl<D: Disk> fmt::Debug for ReadOnlyLog<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyLog").field("disk", &self.disk).field("report", &self.report).finish()
    }
}

impl<D: Disk> ReadOnlyLog<D> {
    /// Opens what is there and checks all of it. A live writer may roll to a further segment or
    /// trim meanwhile; then this looks again, a few times.
    pub fn open(disk: D) -> Result<Self, LogError> {
        let mut looks = 8;
        let found = loop {
            looks -= 1;
            let before = recover::list(&disk)?;
            match recover::recover(&disk, None, Checks::All) {
                Ok(found) => break found,
                Err(error) if looks == 0 || recover::list(&disk)? == before => return Err(error),
                Err(_) => {}
            }
        };
        let Some(found) = found else {
            let source = io::Error::new(io::ErrorKind::NotFound, "no decision log is here");
            return Err(LogError::Io { doing: format!("open {}", disk.place()), source });
        };
        let shared = Arc::new(Shared::new(Sequence(u64::MAX), Vec::new()));
        let snapshots = EmbeddedSnapshots::new(disk.clone(), found.log_id, found.partition, shared);
        let report = Report::of(&disk, &found);
        let Found { starts, last, .. } = found;
        Ok(Self { disk, place: None, snapshots, report, first: starts[0], last })
    }

    /// The report of the opening.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The log's snapshots, to read: only the writer may write snapshots.
    pub fn latest_snapshot(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        self.snapshots.latest()
    }

    fn read_once(&mut self, cursor: &mut Cursor<'_, '_>) -> Result<(), LogError> {
        let mut starts = recover::list(&self.disk)?.segments;
        starts.retain(|&start| start >= self.first);
        let Some(&first) = starts.first() else {
            let file = path(&self.disk, &segment_name(self.first));
            return Err(LogError::Damaged { file, offset: 0, why: "all segments are missing".to_owned() });
        };
        self.first = first;
        while !cursor.stopped {
            let Some((segment, following)) = locate(&starts, cursor.next) else {
                return Err(LogError::Trimmed { from: cursor.next, first });
            };
            let file = path(&self.disk, &segment_name(segment));
            let place = match self.place.take().filter(|place| place.segment == segment) {
                Some(mut place) => {
                    let open = self
                        .disk
                        .open_read(&segment_name(segment))
                        .map_err(io_error(format!("open {file}")))?;
                    let stands = place.stands(open).map_err(io_error(format!("read {file}")))?;
                    (stands && place.seek(cursor.next)).then_some(place)
                }
                None => None,
            };
            let place = match place {
                Some(place) => self.place.insert(place),
                None => self.place.insert(Place::open(&self.disk, segment)?),
            };
            match following {
                Some(following) => {
                    place.read_durable(&file, cursor, Sequence(following.0 - 1), &mut Marks::default())?;
                }
                None => {
                    place.read_to_end(&file, cursor)?;
                    self.last = Sequence(place.walk.next.0 - 1);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl<D: Disk> LogRead for ReadOnlyLog<D> {
    fn last(&self) -> Sequence {
        self.last
    }

    fn first(&self) -> Sequence {
        self.first
    }

    fn read(&mut self, from: Sequence, visit: &mut Visit<'_>) -> Result<Sequence, LogError> {
        let mut cursor = Cursor { next: from.max(Sequence(1)), visit, stopped: false };
        let mut looks = 8;
        loop {
            looks -= 1;
            match self.read_once(&mut cursor) {
                Ok(()) => return Ok(Sequence(cursor.next.0 - 1)),
                // Trimmed since it was listed: look again.
                Err(LogError::Io { source, .. }) if looks > 0 && source.kind() == io::ErrorKind::NotFound => {
                }
                Err(error) => return Err(error),
            }
        }
    }
}
