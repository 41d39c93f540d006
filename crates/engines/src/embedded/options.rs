//! Which log it is, and how its files are made.

use crate::log::{LogId, Partition};
use units::Sequence;

/// Some 600 decisions.
const FIRST_BYTES: u64 = 64 << 10;

/// About 600,000 decisions, reached in ten steps.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The options of a log to open.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub partition: Partition,
    /// The id to give to the log if there is none yet.
    pub new_log_id: LogId,
    /// The first entry of a log that is made. A copy of a log that lost its beginning begins later
    /// than with 1.
    pub first: Sequence,
    /// How long a segment is at first.
    pub first_bytes: u64,
    /// How long a segment may become; it begins small and grows. A longer batch gets a segment of
    /// its own.
    pub segment_bytes: u64,
    pub checks: Checks,
}

/// What is read and checked when a log is opened. Whatever is read later is checked then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Every frame: damage is found at the start.
    All,
    /// The frames that a recovery reads, and the header of every segment: damage of what is older
    /// than the snapshots is found when it is read. For a log of many gigabytes.
    SinceSnapshots,
}

impl Options {
    /// With segments of 64 KiB that grow up to 64 MiB, all of which are checked.
    pub fn new(partition: Partition, new_log_id: LogId) -> Self {
        Self {
            partition,
            new_log_id,
            first: Sequence(1),
            first_bytes: FIRST_BYTES,
            segment_bytes: SEGMENT_BYTES,
            checks: Checks::All,
        }
    }
}
