//! The bytes of format version 1 are a promise: this build reads the files that the first one
//! wrote, and writes the same.
//!
//! Run with `GOLDEN=write` to put the files there. For a version that was released that is never
//! right.

use crate::world::{append, entry, read_all};
use engines::{
    embedded::{EmbeddedLog, LogId, Options, Partition, ReadOnlyLog},
    log::{Batch, Log, LogRead},
};
use sim::disk::SimDisk;
use std::{collections::BTreeMap, fs, path::PathBuf};
use units::Sequence;

fn dir() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "engines", "golden", "v1"].iter().collect()
}

fn golden_files() -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// A log of two segments, the first with a mark from the middle of it and one from its end, and
/// with a snapshot.
fn write_log() -> SimDisk {
    let disk = SimDisk::new();
    let id = LogId(*b"golden log, v. 1");
    let options = Options { segment_bytes: 16 << 10, ..Options::new(Partition(7), id) };
    let mut log = EmbeddedLog::open(disk.clone(), options).unwrap();
    append(&mut log, 30).unwrap();
    for _ in 0..70 {
        append(&mut log, 1).unwrap();
    }
    let mut long = Batch::default();
    long.push(&[0xee; 5000]);
    long.push(b"x");
    log.append(log.last(), &long).unwrap();
    log.snapshots().write(Sequence(42), b"the state after entry 42").unwrap();
    disk
}

#[test]
fn this_build_writes_the_golden_bytes() {
    let files = write_log().files();
    if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
        fs::create_dir_all(dir()).unwrap();
        for (name, bytes) in &files {
            fs::write(dir().join(name), bytes).unwrap();
        }
    }
    let golden = golden_files();
    assert!(files.keys().eq(golden.keys()), "{:?}, want {:?}", files.keys(), golden.keys());
    for (name, bytes) in &files {
        let first = bytes.iter().zip(&golden[name]).position(|(got, want)| got != want);
        assert!(bytes == &golden[name], "{name} differs from byte {first:?} on");
    }
}

#[test]
fn this_build_reads_the_golden_files() {
    let disk = SimDisk::new();
    for (name, bytes) in golden_files() {
        disk.put(&name, bytes);
    }
    let mut log = ReadOnlyLog::open(disk).unwrap();
    let report = log.report();
    assert_eq!((report.partition, report.log_id), (Partition(7), LogId(*b"golden log, v. 1")));
    assert_eq!((log.first(), log.last()), (Sequence(1), Sequence(102)));
    let mut want: Vec<_> = (1..=100).map(|sequence| entry(sequence, 0)).collect();
    want.push(vec![0xee; 5000]);
    want.push(b"x".to_vec());
    assert_eq!(read_all(&mut log), want);
    assert_eq!(log.latest_snapshot().unwrap(), Some((Sequence(42), b"the state after entry 42".to_vec())));
}
