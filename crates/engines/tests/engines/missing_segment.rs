//! A segment file is missing, was cut, or was put in another's place.

use crate::world::{SEGMENT_BYTES, append, check_all, check_refused, open};
use engines::log::{Log, LogError};
use sim::disk::SimDisk;
use units::Sequence;

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.files().into_keys().filter(|name| name.starts_with("seg-")).collect()
}

/// A log over five segments or so.
fn long_log() -> SimDisk {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    while segments(&disk).len() < 5 {
        append(&mut log, 20).unwrap();
    }
    append(&mut log, 20).unwrap();
    drop(log);
    assert!(open(&disk).is_ok());
    disk
}

#[test]
fn any_missing_segment_is_refused() {
    let disk = long_log();
    for name in segments(&disk) {
        let copy = disk.copy();
        copy.take(&name).unwrap();
        let error = check_refused(&copy, &name);
        assert!(matches!(error, LogError::Damaged { .. }), "{name}: {error}");
    }
}

#[test]
fn the_first_segment_missing_after_a_trim_is_refused() {
    let disk = long_log();
    let mut log = open(&disk).unwrap();
    let second: u64 = segments(&disk)[1][4..24].parse().unwrap();
    log.trim(Sequence(second - 1)).unwrap();
    drop(log);
    assert_eq!(segments(&disk).len(), 4);
    disk.take(&segments(&disk)[0]).unwrap();
    check_refused(&disk, "the first that was kept");
}

#[test]
fn a_snapshot_without_any_segment_is_refused() {
    let disk = long_log();
    let log = open(&disk).unwrap();
    log.snapshots().write(Sequence(20), b"state").unwrap();
    drop(log);
    for name in segments(&disk) {
        disk.take(&name).unwrap();
    }
    check_refused(&disk, "a snapshot alone");
}

#[test]
fn a_segment_cut_at_any_length_is_refused() {
    let disk = long_log();
    for name in segments(&disk) {
        let whole = disk.files()[&name].clone();
        for len in (0..whole.len()).step_by(97) {
            let copy = disk.copy();
            copy.put(&name, whole[..len].to_vec());
            check_refused(&copy, &format!("{name} cut at {len}"));
        }
    }
}

#[test]
fn a_segment_whose_frames_are_zeros_is_refused() {
    let disk = long_log();
    for name in segments(&disk) {
        let copy = disk.copy();
        let mut bytes = copy.take(&name).unwrap();
        bytes[4096..].fill(0);
        copy.put(&name, bytes);
        check_refused(&copy, &name);
    }
}

#[test]
fn a_segment_under_another_segments_name_is_refused() {
    let disk = long_log();
    let names = segments(&disk);
    let copy = disk.copy();
    copy.put(&names[2], disk.files()[&names[1]].clone());
    let error = check_refused(&copy, "a segment under another's name");
    assert!(matches!(error, LogError::Foreign { .. }), "{error}");
}

#[test]
fn a_log_opens_after_a_trim_that_was_cut_short() {
    let disk = long_log();
    let starts: Vec<u64> = segments(&disk).iter().map(|name| name[4..24].parse().unwrap()).collect();
    let mut log = open(&disk).unwrap();
    // The mark and its sync, then one removal.
    disk.die_after_operations(3);
    assert!(log.trim(Sequence(starts[3] - 1)).is_err());
    let disk = disk.kill();
    // Of the removals any may have become durable.
    disk.take(&segments(&disk)[1]);
    let log = open(&disk).unwrap();
    assert_eq!(log.reader().first(), Sequence(starts[3]));
    assert_eq!(segments(&disk).len(), 2, "the leftover segments are removed");
}

#[test]
fn a_batch_larger_than_a_segment_gets_its_own_segment() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    for count in [1, 2000, 1, 3000, 3000, 1] {
        append(&mut log, count).unwrap();
    }
    assert!(disk.files().values().any(|bytes| bytes.len() as u64 > 4 * SEGMENT_BYTES));
    drop(log);
    check_all(&mut *open(&disk).unwrap().reader(), 8003);
}
