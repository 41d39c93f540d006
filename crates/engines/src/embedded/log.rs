//! The writer: one frame for each batch, durable before it is acknowledged.

use super::disk::{Disk, DiskFile, RealDisk, gone};
use super::frame::{self, Key};
use super::growth;
use super::options::Options;
use super::reader::{ReadOnlyLog, SharedReader};
use super::recover::{self, Found, io_error, path};
use super::report::Report;
use super::segment::{FRAMES_AT, Mark, SegmentHeader, segment_name};
use super::shared::Shared;
use super::snapshots::EmbeddedSnapshots;
use crate::log::{AppendError, Batch, Log, LogError, LogId, LogRead, Snapshots, UnknownOutcome, is_shortage};
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};
use units::Sequence;

/// Appends between two marks: often enough that a lost tail is noticed, seldom enough to cost
/// nothing.
const MARK_EVERY: u32 = 64;

/// The one writer of a log on a disk.
pub struct EmbeddedLog<D: Disk> {
    disk: D,
    _lock: D::Lock,
    options: Options,
    log_id: LogId,
    key: Key,
    shared: Arc<Shared>,
    active: Active<D::File>,
    /// The frame being written; kept for its memory.
    frame: Vec<u8>,
    /// Why the outcome of an append is unknown. Nothing is appended until [`Log::reopen`].
    broken: Option<UnknownOutcome>,
    /// The length of the longest frame for which there was no room. Until there is, nothing is
    /// appended: otherwise a log that has room for small frames only would seem to have recovered
    /// with each of these, and be short again with the next long one.
    owed_bytes: u64,
    report: Report,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Active<F> {
    file: F,
    first: Sequence,
    /// How long the file is, durably: frames are written within it.
    capacity: u64,
    /// How long it was made.
    made_bytes: u64,
    /// A sync of it has failed: what it seems to hold may not be on the disk, and no further sync
    /// says so. The next append begins another.
    is_doubtful: bool,
    /// Where the next frame goes, and the chain value for it.
    end: u64,
    previous: u32,
    /// Generation of the newest mark in this segment, and how many appends have followed it.
    generation: u64,
    unmarked: u32,
}

impl<D: Disk> fmt::Debug for EmbeddedLog<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("disk", &self.disk).field("last", &self.shared.durable()).finish()
    }
}

impl EmbeddedLog<RealDisk> {
    /// Opens the log in this directory; makes both if they are not there.
    pub fn open_dir(dir: &Path, options: Options) -> Result<Self, LogError> {
        let disk = RealDisk::create(dir).map_err(io_error(format!("create {}", dir.display())))?;
        Self::open(disk, options)
    }
}

/// Opens the log in this directory to read only; see [`ReadOnlyLog`].
pub fn open_read_only(dir: &Path) -> Result<ReadOnlyLog<RealDisk>, LogError> {
    ReadOnlyLog::open(RealDisk::existing(dir))
}

impl<D: Disk> EmbeddedLog<D> {
    /// Opens the log on this disk, checks every byte of it and cuts a torn tail; makes a new log if
    /// the disk is empty.
    pub fn open(disk: D, options: Options) -> Result<Self, LogError> {
        let place = disk.place();
        let lock = disk.lock().map_err(io_error(format!("lock {place}")))?;
        let Some(lock) = lock else { return Err(LogError::InUse { what: place }) };
        let found = recover::recover(&disk, Some(options.partition), options.checks)?;
        let Some(found) = found else { return Self::create(disk, lock, options) };

        let doing = || format!("recover {place}");
        let report = Report::of(&disk, &found);
        let first = found.starts[found.starts.len() - 1];
        let file = disk.open(&segment_name(first)).map_err(io_error(doing()))?;
        settle(&file, first, &found).map_err(io_error(doing()))?;
        let Found { end, previous, capacity, made_bytes, superfluous, .. } = found;
        let generation = found.mark.map_or(0, |mark| mark.generation);
        let is_named = capacity <= found.proven_bytes;
        let mut log = Self {
            disk,
            _lock: lock,
            options,
            log_id: found.log_id,
            key: Key::new(&found.log_id.0),
            shared: Arc::new(Shared::new(found.last, found.starts)),
            active: Active {
                file,
                first,
                capacity,
                made_bytes,
                is_doubtful: false,
                end,
                previous,
                generation,
                // A length that no mark names gets one with the first frame: a crash in the middle
                // of a step left it.
                unmarked: if is_named { u32::from(found.unproven_at.is_some()) } else { MARK_EVERY },
            },
            frame: Vec::new(),
            broken: None,
            owed_bytes: 0,
            report,
        };
        if !superfluous.is_empty() {
            // The mark that says what was trimmed may have been read from the page cache, after a
            // sync that failed. What it allows to be removed is removed only when it is on the
            // disk.
            let kept = log.shared.first();
            log.mark_active(kept).and_then(|()| log.active.file.sync_data()).map_err(io_error(doing()))?;
            for name in &superfluous {
                gone(log.disk.remove(name)).map_err(io_error(doing()))?;
            }
        }
        // This also syncs names that an earlier process had not synced: from here on the log relies
        // on them.
        log.disk.sync_dir().map_err(io_error(doing()))?;
        Ok(log)
    }

    fn create(disk: D, lock: D::Lock, options: Options) -> Result<Self, LogError> {
        let Options { partition, new_log_id: log_id, first, .. } = options;
        let lengths = growth::first_lengths(FRAMES_AT, &options);
        let header = SegmentHeader { partition, log_id, first, kept: first, previous: 0, bytes: 0 };
        let active = make_segment_that_fits(&disk, header, lengths)
            .map_err(|failed| failed.source)
            .map_err(io_error(format!("create a log in {}", disk.place())))?;
        let last = Sequence(first.0 - 1);
        let report = Report { partition, log_id, first, last, segments_count: 1, torn: None };
        Ok(Self {
            disk,
            _lock: lock,
            options,
            log_id,
            key: Key::new(&log_id.0),
            shared: Arc::new(Shared::new(last, vec![first])),
            active,
            frame: Vec::new(),
            broken: None,
            owed_bytes: 0,
            report,
        })
    }

    /// The report of the opening.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// How long the longest frame is for which there was no room, in bytes; 0 if none is owed.
    /// Until there is room for it, every append is a shortage.
    pub fn owed_bytes(&self) -> u64 {
        self.owed_bytes
    }

    /// How far the log relies on the length of the file that it appends to. Unless its last append
    /// failed, the file is no longer than that, up to 7 bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.active.capacity
    }

    /// Goes on in a fresh segment, with room for a frame of `need` bytes.
    fn begin_segment(&mut self, need: u64) -> Result<(), MakeFailed> {
        let first = self.shared.durable().next();
        let header = SegmentHeader {
            partition: self.options.partition,
            log_id: self.log_id,
            first,
            kept: self.shared.first(),
            previous: self.active.previous,
            bytes: 0,
        };
        let lengths = growth::first_lengths(FRAMES_AT + need, &self.options);
        let fresh = make_segment_that_fits(&self.disk, header, lengths)?;
        let old = std::mem::replace(&mut self.active, fresh);
        // An old segment without an entry has lost its name to the fresh one. No reader of this
        // process can be in it.
        if old.first != first {
            self.shared.with_starts(|starts| starts.push(first));
            // Notes in the old segment that it is not the last one. If that fails, only this proof
            // is lost, and the old file's failure may be why a fresh one was begun.
            let mark = Mark { continued: true, ..self.mark(&old, old.generation + 1) };
            let _ = self.write_mark(&old.file, old.first, &mark).and_then(|()| old.file.sync_data());
        }
        Ok(())
    }

    fn mark(&self, of: &Active<D::File>, generation: u64) -> Mark {
        let grown_to = if of.capacity > of.made_bytes { of.capacity } else { 0 };
        let (last, kept) = (self.shared.durable(), self.shared.first());
        Mark { generation, last, end: of.end, kept, continued: false, grown_to }
    }

    fn write_mark(&self, file: &D::File, segment: Sequence, mark: &Mark) -> io::Result<()> {
        file.write_at(&mark.encode(self.key, segment), mark.place())
    }

    /// Notes in the active segment how far the log is durable. Not synced.
    fn mark_active(&mut self, kept: Sequence) -> io::Result<()> {
        let generation = self.active.generation + 1;
        let mark = Mark { kept, ..self.mark(&self.active, generation) };
        self.write_mark(&self.active.file, self.active.first, &mark)?;
        self.active.generation = generation;
        self.active.unmarked = 0;
        Ok(())
    }

    /// Lengthens the active segment so that it holds `wanted` bytes.
    ///
    /// Why a crash at any point loses nothing: the new length is durable before the mark that names
    /// it is written, and that mark is written before any frame that relies on the length, and is
    /// synced with it. So a mark is never ahead of the file, and an acknowledged frame is never
    /// beyond what the header or a mark proves: a file that was cut is still told from one that
    /// never was that long. What a crash leaves of a step is zeros after the last frame, or
    /// nothing. The next opening takes the length that it finds, and makes that durable.
    ///
    /// Each mark lies within a sector of its own. So a crash spoils the mark that is being written,
    /// and not the other.
    fn grow(&mut self, wanted: u64, lengths: [u64; 2]) -> Result<(), AppendError> {
        let mut grown = Ok(0);
        for len in lengths {
            grown = self.active.file.allocate(len).map(|()| len);
            let Err(error) = &grown else { break };
            // A part of a step may have been made before the room ran out.
            let _ = self.active.file.set_len(self.active.capacity);
            if !is_shortage(error) {
                break;
            }
        }
        let name = segment_name(self.active.first);
        let grown = match grown {
            Err(error) if is_shortage(&error) => {
                let why = format!("lengthen {} to {wanted} bytes: {error}", path(&self.disk, &name));
                return Err(AppendError::Shortage(why));
            }
            grown => grown.and_then(|len| {
                self.active.file.sync_data()?;
                self.active.capacity = len;
                self.mark_active(self.shared.first())
            }),
        };
        // Nothing was appended, but a step failed other than for want of room, and this file can be
        // trusted no longer: its new length may be one that it has in the page cache only. The room
        // of the step is given back, for nothing else does until the segment is dropped.
        grown.or_else(|_| {
            let _ = self.active.file.set_len(self.active.capacity);
            self.active.is_doubtful = true;
            self.begin_segment_for(wanted - self.active.end)
        })
    }

    fn begin_segment_for(&mut self, need: u64) -> Result<(), AppendError> {
        self.begin_segment(need).map_err(|MakeFailed { source, clean }| {
            let why = format!("begin a segment in {}: {source}", self.disk.place());
            if clean { AppendError::Shortage(why) } else { self.unknown(why, is_shortage(&source)) }
        })
    }

    /// Sees to it that a frame of `need` bytes fits into the active segment.
    fn make_room(&mut self, need: u64) -> Result<(), AppendError> {
        let owed = self.owed_bytes.max(need);
        let wanted = self.active.end + owed;
        let made = if self.active.is_doubtful {
            self.begin_segment_for(owed)
        } else if wanted <= self.active.capacity {
            Ok(())
        } else {
            match growth::lengths(self.active.capacity, wanted, &self.options) {
                Some(lengths) => self.grow(wanted, lengths),
                None => self.begin_segment_for(owed),
            }
        };
        let made = made.and_then(|()| if self.owed_bytes > 0 { self.prove_room(owed) } else { Ok(()) });
        match made {
            Ok(()) => self.owed_bytes = 0,
            Err(AppendError::Shortage(_)) => self.owed_bytes = owed,
            Err(_) => {}
        }
        made
    }

    /// Writes zeros, which are there already, where a frame did not fit. Some file systems reserve
    /// no room, or write elsewhere what is overwritten: there only a write shows that there is
    /// room.
    fn prove_room(&mut self, owed: u64) -> Result<(), AppendError> {
        self.frame.clear();
        self.frame.resize(owed as usize, 0);
        let doing = format!("write to {}", path(&self.disk, &segment_name(self.active.first)));
        if let Err(error) = self.active.file.write_at(&self.frame, self.active.end) {
            let why = format!("{doing}: {error}");
            return Err(if is_shortage(&error) {
                AppendError::Shortage(why)
            } else {
                self.unknown(why, false)
            });
        }
        // As for a frame: after a sync that failed, this file can be trusted no longer.
        self.active.file.sync_data().map_err(|error| {
            let why = format!("{doing}: sync: {error}");
            self.give_up(why, &error, owed)
        })
    }

    fn write_frame(&mut self) -> io::Result<()> {
        if self.active.unmarked >= MARK_EVERY {
            self.mark_active(self.shared.first())?;
        }
        self.active.file.write_at(&self.frame, self.active.end)
    }

    /// Takes back a frame that did not fit.
    fn undo(&mut self) -> io::Result<()> {
        self.frame.fill(0);
        self.active.file.write_at(&self.frame, self.active.end)?;
        // Synced, so that no part of it can reappear after a shorter frame that is written here
        // next.
        self.active.file.sync_data()
    }

    /// After an error that leaves open whether a frame of `need` bytes is on the disk, or will be.
    ///
    /// Where room is reserved late (delayed allocation, a network's file system), the sync is the
    /// first to say that there is none, and says so each time. So if it is a shortage, the frame is
    /// left behind at once as [`Log::reopen`] does, without a look at what can be read of it: once
    /// the fresh segment is durable, nothing was appended, for certain, and the shortage is waited
    /// out like any other. If none can be made, the outcome stays unknown.
    fn give_up(&mut self, why: String, error: &io::Error, need: u64) -> AppendError {
        if is_shortage(error) {
            self.owed_bytes = need;
            if self.begin_segment(0).is_ok() {
                return AppendError::Shortage(why);
            }
        }
        self.unknown(why, is_shortage(error))
    }

    fn unknown(&mut self, what: String, is_shortage: bool) -> AppendError {
        let why = UnknownOutcome { what, is_shortage };
        self.broken = Some(why.clone());
        AppendError::Unknown(why)
    }
}

impl<D: Disk> Log for EmbeddedLog<D> {
    fn last(&self) -> Sequence {
        self.shared.durable()
    }

    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        assert!(!batch.is_empty(), "an append of nothing");
        if let Some(why) = &self.broken {
            return Err(AppendError::Unknown(why.clone()));
        }
        let actual = self.shared.durable();
        if expected != actual {
            return Err(AppendError::Conflict { actual });
        }
        let need = frame::frame_bytes(batch.as_bytes().len());
        self.make_room(need)?;

        let Active { end, previous, .. } = self.active;
        let (count, body) = (batch.count() as u32, batch.as_bytes());
        let crc = frame::encode(&mut self.frame, self.key, end, actual.next(), previous, count, body);
        if let Err(error) = self.write_frame() {
            let why = format!("write to {}: {error}", path(&self.disk, &segment_name(self.active.first)));
            if is_shortage(&error) && self.undo().is_ok() {
                self.owed_bytes = need;
                return Err(AppendError::Shortage(why));
            }
            return Err(self.give_up(why, &error, need));
        }
        if let Err(error) = self.active.file.sync_data() {
            let why = format!("sync {}: {error}", path(&self.disk, &segment_name(self.active.first)));
            return Err(self.give_up(why, &error, need));
        }
        self.active.end += need;
        self.active.previous = crc;
        self.active.unmarked += 1;
        let last = actual.plus(batch.count());
        self.shared.set_durable(last);
        Ok(last)
    }

    /// Cuts the uncertain batch. After a failed sync the pages of the batch may count as clean
    /// without being on the disk, so that neither reading them nor syncing again proves anything,
    /// and writing them again at the same place meets the same trouble. So nothing of it is read: a
    /// fresh segment, durable before this returns, begins with the sequence that the batch began
    /// with. From then on, what the old file holds from that sequence on is not part of the log,
    /// whether it is on the disk or not. If the process ends before that, the next opening finds
    /// the batch whole, makes it durable and keeps it, or cuts it.
    fn reopen(&mut self) -> Result<Sequence, LogError> {
        if self.broken.is_some() {
            self.begin_segment(0)
                .map_err(|failed| failed.source)
                .map_err(io_error(format!("reopen {}", self.disk.place())))?;
            self.broken = None;
        }
        Ok(self.shared.durable())
    }

    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError> {
        let place = self.disk.place();
        let doing = || format!("trim {place}");
        if let Some(why) = &self.broken {
            return Err(LogError::Io {
                doing: doing(),
                source: io::Error::other(format!("reopen it first: {why}")),
            });
        }
        let starts = self.shared.with_starts(|starts| starts.clone());
        // A segment may be removed if the next one begins no later than the first entry to be kept.
        // The last one stays.
        let trimmed = starts[1..].iter().take_while(|next| next.0 - 1 <= up_to.0).count();
        if trimmed == 0 {
            return Ok(());
        }
        let kept = starts[trimmed];
        // First noted durably, then done: otherwise a missing segment could not be told from a
        // trimmed one.
        if let Err(error) = self.mark_active(kept).and_then(|()| self.active.file.sync_data()) {
            // After a failed sync this file can be trusted as little as after one of an append.
            self.broken = Some(UnknownOutcome {
                what: format!("note a trim: {error}"),
                is_shortage: is_shortage(&error),
            });
            return Err(LogError::Io { doing: doing(), source: error });
        }
        self.shared.with_starts(|starts| starts.drain(..trimmed).count());
        for &first in &starts[..trimmed] {
            gone(self.disk.remove(&segment_name(first))).map_err(io_error(doing()))?;
        }
        self.disk.sync_dir().map_err(io_error(doing()))
    }

    fn reader(&self) -> Box<dyn LogRead> {
        Box::new(SharedReader::new(self.disk.clone(), self.shared.clone()))
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        let (log_id, partition) = (self.log_id, self.options.partition);
        Box::new(EmbeddedSnapshots::new(self.disk.clone(), log_id, partition, self.shared.clone()))
    }
}

impl<D: Disk> Drop for EmbeddedLog<D> {
    /// Notes how far the log is durable, so that damage to the last frame is not taken for a torn
    /// append. If that fails, the log is as after a crash, which is harmless.
    fn drop(&mut self) {
        if self.broken.is_none() && self.active.unmarked > 0 {
            let _ = self.mark_active(self.shared.first()).and_then(|()| self.active.file.sync_data());
        }
    }
}

/// Makes what was found at the end of the last segment durable, one way or the other.
fn settle<F: DiskFile>(file: &F, segment: Sequence, found: &Found) -> io::Result<()> {
    // Where the next frame goes there must be no header, on the disk either: after a failed sync
    // the page cache may show zeros over a frame that was taken back. Without a header, the rest of
    // that frame cannot be read as one again.
    let header_end = found.capacity.min(found.end + frame::HEADER_BYTES as u64);
    let zeros = vec![0; 1 << 20];
    let zeros_end = found.torn_end.unwrap_or(0).max(header_end);
    let mut at = found.end;
    while at < zeros_end {
        let len = (zeros_end - at).min(zeros.len() as u64);
        file.write_at(&zeros[..len as usize], at)?;
        at += len;
    }
    // The last frame was read from the page cache. If the process before this one met a failed
    // sync, it may be there and not on the disk, with nothing left to be written back. Written
    // again, its pages are dirty again, and the sync takes effect.
    if let Some(at) = found.unproven_at {
        let mut frame = vec![0; (found.end - at) as usize];
        let len = file.read_at(&mut frame, at)?;
        file.write_at(&frame[..len], at)?;
    }
    // The same holds for the newest mark. The next mark overwrites the one before it, which may be
    // the only one on the disk until this one is written.
    if let Some(mark) = found.mark {
        file.write_at(&mark.encode(Key::new(&found.log_id.0), segment), mark.place())?;
    }
    // And for the length, if the file has grown and no mark says how far: with its last byte
    // written it is that long on the disk, too. Frames may be written up to there from now on.
    let proven_bytes = found.mark.map_or(0, |mark| mark.grown_to).max(found.made_bytes);
    if found.capacity > proven_bytes.max(found.end) {
        file.write_at(&[0], found.capacity - 1)?;
    }
    file.sync_data()
}

/// A segment could not be made.
struct MakeFailed {
    source: io::Error,
    /// Nothing of it is left.
    clean: bool,
}

/// Makes a segment with the first of these lengths for which there is room.
fn make_segment_that_fits<D: Disk>(
    disk: &D,
    header: SegmentHeader,
    [best, least]: [u64; 2],
) -> Result<Active<D::File>, MakeFailed> {
    let made = make_segment(disk, &SegmentHeader { bytes: best, ..header });
    made.or_else(|failed| {
        if failed.clean && least < best && is_shortage(&failed.source) {
            make_segment(disk, &SegmentHeader { bytes: least, ..header })
        } else {
            Err(failed)
        }
    })
}

/// Makes a segment, durably, in place of an empty one of the same name if there is one. It gets its
/// name when its header is durable, so that a segment without a header is always damage.
fn make_segment<D: Disk>(disk: &D, header: &SegmentHeader) -> Result<Active<D::File>, MakeFailed> {
    let name = segment_name(header.first);
    let unfinished = format!("{name}.tmp");
    let mut may_be_renamed = false;
    let write = |may_be_renamed: &mut bool| {
        gone(disk.remove(&unfinished))?;
        let file = disk.create_new(&unfinished)?;
        file.allocate(header.bytes)?;
        file.write_at(&header.encode(), 0)?;
        file.sync_data()?;
        // An earlier try may have left a file of this name, whose removal is no more durable than
        // this one's creation. Its bytes must not reappear under the new name.
        disk.sync_dir()?;
        *may_be_renamed = true;
        disk.rename(&unfinished, &name)?;
        Ok(file)
    };
    let file = write(&mut may_be_renamed).map_err(|source| {
        let removed = disk.remove(&unfinished);
        // A rename that failed may have taken effect all the same (a network's file system asks
        // twice): then the old name is gone, and that proves nothing.
        let clean = if may_be_renamed { removed.is_ok() } else { gone(removed).is_ok() };
        MakeFailed { source, clean }
    })?;
    // From the rename on the segment may be there after a crash or not.
    disk.sync_dir().map_err(|source| MakeFailed { source, clean: false })?;
    Ok(Active {
        file,
        first: header.first,
        capacity: header.bytes,
        made_bytes: header.bytes,
        is_doubtful: false,
        end: FRAMES_AT,
        previous: header.previous,
        generation: 0,
        unmarked: 0,
    })
}
