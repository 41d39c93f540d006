//! A file in the directory does not belong to this log.

use crate::world::{append, check_all, check_refused, newest_segment, open, options};
use engines::{
    embedded::{EmbeddedLog, LogId, Options, Partition},
    log::{Log, LogError},
};
use sim::disk::SimDisk;
use units::Sequence;

fn check_foreign(disk: &SimDisk, what: &str, why: &str) {
    let error = check_refused(disk, what);
    assert!(matches!(error, LogError::Foreign { .. }), "{what}: {error}");
    assert!(error.to_string().contains(why), "{what}: {error}");
}

fn small_log() -> SimDisk {
    let disk = SimDisk::new();
    append(&mut open(&disk).unwrap(), 3).unwrap();
    disk
}

#[test]
fn an_unknown_file_in_a_log_directory_is_refused() {
    for name in ["notes.txt", "seg-1.log", "seg-00000000000000000001.log.bak"] {
        let disk = small_log();
        disk.put(name, b"hello".to_vec());
        check_foreign(&disk, name, name);
    }
}

#[test]
fn an_unknown_file_in_an_empty_directory_is_refused() {
    let disk = SimDisk::new();
    disk.put("photo.jpg", vec![1; 100]);
    check_foreign(&disk, "photo.jpg", "photo.jpg");
}

#[test]
fn a_segment_of_a_later_version_is_refused() {
    let disk = small_log();
    let name = newest_segment(&disk);
    let mut bytes = disk.take(&name).unwrap();
    bytes[8] = 2;
    disk.put(&name, bytes);
    check_foreign(&disk, "version 2", "format version 2");
}

#[test]
fn a_log_of_another_partition_is_refused() {
    let disk = small_log();
    let before = disk.files();
    let other = Options { partition: Partition(4), ..options() };
    let error = EmbeddedLog::open(disk.clone(), other).unwrap_err();
    assert!(error.to_string().contains("it belongs to partition 3"), "{error}");
    assert!(disk.files() == before);
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let disk = small_log();
    let other = SimDisk::new();
    let options = Options { new_log_id: LogId([9; 16]), ..options() };
    let mut log = EmbeddedLog::open(other.clone(), options).unwrap();
    while newest_segment(&other) == newest_segment(&disk) {
        append(&mut log, 50).unwrap();
    }
    let name = newest_segment(&other);
    disk.put(&name, other.files()[&name].clone());
    check_foreign(&disk, "a segment of another log", "another log");
}

#[test]
fn an_existing_log_keeps_its_id_whatever_the_caller_offers() {
    let disk = small_log();
    let offer = Options { new_log_id: LogId([9; 16]), ..options() };
    let log = EmbeddedLog::open(disk, offer).unwrap();
    assert_eq!(log.report().log_id, options().new_log_id);
    check_all(&mut *log.reader(), 3);
}

#[test]
fn a_snapshot_of_another_log_is_skipped() {
    let other = SimDisk::new();
    let options = Options { new_log_id: LogId([9; 16]), ..options() };
    let mut log = EmbeddedLog::open(other.clone(), options).unwrap();
    append(&mut log, 2).unwrap();
    log.snapshots().write(Sequence(2), b"theirs").unwrap();
    let disk = small_log();
    let name = "snap-00000000000000000002.snap";
    disk.put(name, other.files()[name].clone());
    assert_eq!(open(&disk).unwrap().snapshots().latest().unwrap(), None);
}

#[test]
fn unfinished_files_are_removed_and_not_read() {
    let disk = small_log();
    disk.put("seg-00000000000000000004.log.tmp", vec![7; 50]);
    disk.put("snap-00000000000000000002.snap.tmp", vec![7; 50]);
    let log = open(&disk).unwrap();
    check_all(&mut *log.reader(), 3);
    assert_eq!(disk.files().len(), 1);
}
