//! Snapshots as files next to the segments. The bytes in them are the caller's.

use super::{
    disk::{Disk, DiskFile, gone},
    frame::{u32_at, u64_at},
    recover::{io_error, list, path},
    segment::{VERSION, is_unfinished_snapshot, snapshot_name},
    shared::Shared,
};
use crate::log::{LogError, LogId, Partition, Snapshots};
use std::{io, sync::Arc};
use units::Sequence;

const HEADER_BYTES: usize = 56;
const MAGIC: &[u8; 8] = b"FGLOGSNP";
const KEPT_COUNT: usize = 2;

/// The snapshots of one log.
#[derive(Debug)]
pub(crate) struct EmbeddedSnapshots<D> {
    disk: D,
    log_id: LogId,
    partition: Partition,
    shared: Arc<Shared>,
}

/// A snapshot's file: the header, then `bytes`.
pub(crate) fn encode(partition: Partition, log_id: LogId, at: Sequence, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&partition.0.to_le_bytes());
    out.extend_from_slice(&log_id.0);
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), bytes);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(bytes);
    out
}

/// The caller's bytes in a snapshot's file, if it is whole and of this log.
fn decode(file: &[u8], partition: Partition, log_id: LogId, at: Sequence) -> Option<&[u8]> {
    let (header, bytes) = file.split_at_checked(HEADER_BYTES)?;
    let whole = &header[..8] == MAGIC
        && u32_at(header, 8) == VERSION
        && u32_at(header, 12) == partition.0
        && header[16..32] == log_id.0
        && u64_at(header, 32) == at.0
        && u64_at(header, 40) == bytes.len() as u64
        && u32_at(header, 48) == crc32c::crc32c_append(crc32c::crc32c(&header[..48]), bytes);
    whole.then_some(bytes)
}

impl<D: Disk> EmbeddedSnapshots<D> {
    pub(crate) fn new(disk: D, log_id: LogId, partition: Partition, shared: Arc<Shared>) -> Self {
        Self { disk, log_id, partition, shared }
    }

    fn read(&self, at: Sequence) -> Result<Vec<u8>, LogError> {
        let name = snapshot_name(at);
        let doing = || format!("read {}", path(&self.disk, &name));
        let open = self.disk.open_read(&name).map_err(io_error(doing()))?;
        let mut file = vec![0; open.len().map_err(io_error(doing()))? as usize];
        let len = open.read_at(&mut file, 0).map_err(io_error(doing()))?;
        file.truncate(len);
        Ok(file)
    }

    /// Writes the snapshot, durably, or nothing. One of this name that was there before stays.
    fn put(&self, name: &str, is_new: bool, file: &[u8]) -> io::Result<()> {
        let unfinished = format!("{name}.tmp");
        let write = || {
            let open = self.disk.create_new(&unfinished)?;
            // If there is no room, this says so before any of it is taken from the log.
            open.allocate(file.len() as u64)?;
            open.write_at(file, 0)?;
            open.sync_data()?;
            // As for a segment: no file of an earlier try may reappear under the new name.
            self.disk.sync_dir()?;
            self.disk.rename(&unfinished, name)?;
            self.disk.sync_dir()
        };
        write().inspect_err(|_| {
            // If there was no room for all of it, the part that was written would take room from
            // the log.
            drop(self.disk.remove(&unfinished));
            // A rename that failed may have been done, and the name that it gave may not be
            // durable. Such a name must not count as one of those that are kept: those that it
            // would supersede may be the only ones on the disk.
            if is_new {
                drop(self.disk.remove(name));
            }
        })
    }

    /// Removes what an earlier snapshot could not remove when it failed; returns the finished ones.
    fn remove_unfinished(&self) -> Result<Vec<Sequence>, LogError> {
        let listing = list(&self.disk)?;
        for name in listing.unfinished.iter().filter(|name| is_unfinished_snapshot(name)) {
            gone(self.disk.remove(name)).map_err(io_error(format!("remove {}", path(&self.disk, name))))?;
        }
        Ok(listing.snapshots)
    }

    /// Removes all but the newest, which are durable.
    fn remove_superseded(&self) -> Result<(), LogError> {
        let snapshots = list(&self.disk)?.snapshots;
        let superseded = snapshots.len().saturating_sub(KEPT_COUNT);
        for &old in &snapshots[..superseded] {
            let name = snapshot_name(old);
            gone(self.disk.remove(&name)).map_err(io_error(format!("remove {}", path(&self.disk, &name))))?;
        }
        Ok(())
    }
}

impl<D: Disk> Snapshots for EmbeddedSnapshots<D> {
    fn latest(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        let mut shortage = None;
        for &at in list(&self.disk)?.snapshots.iter().rev() {
            let mut file = match self.read(at) {
                Ok(file) => file,
                // Superseded and removed since it was listed, or unreadable: an older one will do.
                Err(error) => {
                    shortage = Some(error).filter(LogError::is_shortage).or(shortage);
                    continue;
                }
            };
            if decode(&file, self.partition, self.log_id, at).is_some() {
                file.drain(..HEADER_BYTES);
                return Ok(Some((at, file)));
            }
        }
        // That there is none can be said once all of them could be read.
        shortage.map_or(Ok(None), Err)
    }

    fn write(&mut self, at: Sequence, bytes: &[u8]) -> Result<Option<LogError>, LogError> {
        let name = snapshot_name(at);
        let doing = format!("write {}", path(&self.disk, &name));
        // A snapshot proves at the next opening that the log once reached it. One of entries that
        // may yet be lost would make a torn tail look like damage.
        let durable = self.shared.durable();
        if at > durable {
            let why = format!("entry {at} is not durable, the last one that is is {durable}");
            return Err(LogError::Io { doing, source: io::Error::new(io::ErrorKind::InvalidInput, why) });
        }
        let _alone = self.shared.writing_snapshot();
        let is_new = !self.remove_unfinished()?.contains(&at);
        let file = encode(self.partition, self.log_id, at, bytes);
        self.put(&name, is_new, &file).map_err(io_error(doing))?;
        Ok(self.remove_superseded().err())
    }
}
