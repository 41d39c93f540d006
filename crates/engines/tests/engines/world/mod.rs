//! What the embedded engine's tests share: a small log, entries that tell their sequence, and a
//! check of all that is there.

#![allow(dead_code, reason = "each test file takes what it needs")]

use engines::{
    embedded::{EmbeddedLog, LogId, Options, Partition, ReadOnlyLog, disk::Disk},
    log::{AppendError, Batch, Log, LogError, LogRead},
};
use sim::disk::SimDisk;
use std::ops::ControlFlow;
use units::Sequence;

pub(crate) const SEGMENT_BYTES: u64 = 16 << 10;

pub(crate) fn options() -> Options {
    let segment_bytes = SEGMENT_BYTES;
    Options { segment_bytes, ..Options::new(Partition(3), LogId(*b"0123456789abcdef")) }
}

pub(crate) fn open(disk: &SimDisk) -> Result<EmbeddedLog<SimDisk>, LogError> {
    EmbeddedLog::open(disk.clone(), options())
}

/// As [`open`], with segments that grow in many steps.
pub(crate) fn open_long(disk: &SimDisk) -> Result<EmbeddedLog<SimDisk>, LogError> {
    EmbeddedLog::open(disk.clone(), Options { segment_bytes: 4 << 20, ..options() })
}

/// What entry `sequence` says when it was written by the `attempt`-th try to write it.
pub(crate) fn entry(sequence: u64, attempt: u64) -> Vec<u8> {
    let mut bytes = format!("entry {sequence} attempt {attempt} ").into_bytes();
    // Of many lengths, so that frames end at every place of their last eight bytes.
    bytes.resize(bytes.len() + (sequence * 7 + attempt * 3) as usize % 90, b'a' + (sequence % 26) as u8);
    bytes
}

pub(crate) fn batch(last: Sequence, count: u64, attempt: u64) -> Batch {
    let mut batch = Batch::default();
    for sequence in last.0 + 1..=last.0 + count {
        batch.push(&entry(sequence, attempt));
    }
    batch
}

pub(crate) fn append<D: Disk>(log: &mut EmbeddedLog<D>, count: u64) -> Result<Sequence, AppendError> {
    let last = log.last();
    log.append(last, &batch(last, count, 0))
}

/// Everything that is kept.
pub(crate) fn read_all(reader: &mut dyn LogRead) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let first = reader.first();
    reader
        .read(first, &mut |sequence, bytes| {
            assert_eq!(sequence.0, first.0 + all.len() as u64);
            all.push(bytes.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// Checks that the log is entries 1 to `last` of the first attempt.
pub(crate) fn check_all(reader: &mut dyn LogRead, last: u64) {
    let want: Vec<_> = (1..=last).map(|sequence| entry(sequence, 0)).collect();
    assert_eq!(read_all(reader), want);
}

/// Checks that neither a writer nor a reader takes what is on the disk, and that neither changes
/// it; returns what the writer was told.
pub(crate) fn check_refused(disk: &SimDisk, what: &str) -> LogError {
    let before = disk.files();
    let operations = disk.operations_count();
    let error = match open(disk) {
        Err(error) => error,
        Ok(log) => panic!("{what}: opened with {:?}", log.report()),
    };
    assert!(matches!(error, LogError::Damaged { .. } | LogError::Foreign { .. }), "{what}: {error}");
    assert!(ReadOnlyLog::open(disk.clone()).is_err(), "{what}: opened to read");
    assert!(disk.files() == before && disk.operations_count() == operations, "{what}: files were changed");
    error
}

/// The newest segment's name.
pub(crate) fn newest_segment(disk: &SimDisk) -> String {
    disk.files().into_keys().rfind(|name| name.starts_with("seg-")).unwrap()
}
