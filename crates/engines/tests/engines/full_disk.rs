//! The disk is full. The log stays as it was, and goes on once there is room.

use crate::world::{SEGMENT_BYTES, append, check_all, open};
use engines::log::{AppendError, Log};
use sim::disk::SimDisk;
use std::io::ErrorKind;
use units::Prng;

#[test]
fn no_room_for_a_new_segment_is_a_shortage() {
    let disk = SimDisk::new();
    disk.limit_room(Some(2 * SEGMENT_BYTES));
    let mut log = open(&disk).unwrap();
    let refused = loop {
        if let Err(error) = append(&mut log, 10) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    let last = log.last().0;
    for _ in 0..3 {
        assert!(matches!(append(&mut log, 10), Err(AppendError::Shortage(_))));
        check_all(&mut *log.reader(), last);
    }
    disk.limit_room(None);
    append(&mut log, 10).unwrap();
    check_all(&mut *log.reader(), last + 10);
    drop(log);
    check_all(&mut *open(&disk).unwrap().reader(), last + 10);
}

#[test]
fn no_room_within_a_frame_is_a_shortage_at_every_byte() {
    for at in 0..900 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        disk.fail_write_after(at, ErrorKind::StorageFull);
        match append(&mut log, 20) {
            Err(AppendError::Shortage(_)) => {}
            Ok(_) => break,
            Err(error) => panic!("byte {at}: {error}"),
        }
        check_all(&mut *log.reader(), 3);
        // A shorter frame goes where a part of the long one was.
        append(&mut log, 1).unwrap();
        let disk = disk.power_cut(&mut Prng::new(at));
        check_all(&mut *open(&disk).unwrap().reader(), 4);
    }
}

#[test]
fn creating_a_log_without_room_is_refused() {
    let disk = SimDisk::new();
    disk.limit_room(Some(100));
    assert!(open(&disk).is_err());
    disk.limit_room(None);
    append(&mut open(&disk).unwrap(), 1).unwrap();
}

#[test]
fn no_file_handle_for_a_new_segment_is_a_shortage() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    disk.fail_opens(true);
    let refused = loop {
        if let Err(error) = append(&mut log, 10) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    disk.fail_opens(false);
    let last = log.last().0;
    append(&mut log, 10).unwrap();
    drop(log);
    check_all(&mut *open(&disk).unwrap().reader(), last + 10);
}

#[test]
fn a_snapshot_without_room_leaves_no_files() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 3).unwrap();
    let before: Vec<String> = disk.files().into_keys().collect();
    for room in [0, 10, 5000] {
        disk.limit_room(Some(room));
        assert!(log.snapshots().write(log.last(), &[7; 6000]).is_err());
        assert_eq!(disk.files().into_keys().collect::<Vec<_>>(), before, "with room for {room} bytes");
    }
    disk.limit_room(None);
    log.snapshots().write(log.last(), &[7; 6000]).unwrap();
    assert_eq!(log.snapshots().latest().unwrap(), Some((log.last(), vec![7; 6000])));
}
