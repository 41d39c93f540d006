//! What opening a log found.

use super::disk::Disk;
use super::recover::{Found, path};
use super::segment::segment_name;
use crate::log::{LogId, Partition};
use units::Sequence;

/// What opening a log found, for the caller to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub partition: Partition,
    pub log_id: LogId,
    pub first: Sequence,
    pub last: Sequence,
    pub segments_count: usize,
    /// A torn append at the end: the batch in it was never acknowledged.
    pub torn: Option<Torn>,
}

/// A tail that was cut, or, by a reader, skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
}

impl Report {
    pub(super) fn of<D: Disk>(disk: &D, found: &Found) -> Self {
        let newest = found.starts[found.starts.len() - 1];
        let torn = found.torn_end.map(|torn_end| Torn {
            file: path(disk, &segment_name(newest)),
            offset: found.end,
            bytes: torn_end - found.end,
        });
        Self {
            partition: found.partition,
            log_id: found.log_id,
            first: found.starts[0],
            last: found.last,
            segments_count: found.starts.len(),
            torn,
        }
    }

    /// How many entries the log holds.
    pub fn entries_count(&self) -> u64 {
        self.last.next().0 - self.first.0
    }
}
