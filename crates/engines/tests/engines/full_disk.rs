//! The disk is full. The log stays as it was, and goes on once there is room.

use crate::world::{SEGMENT_BYTES, append, check_all, newest_segment, open};
use engines::log::{AppendError, Log};
use sim::disk::{Call, EIO, SimDisk};
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
fn a_new_segment_is_content_with_the_room_that_there_is() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    disk.limit_room(Some(9000));
    while disk.files().len() == 1 {
        append(&mut log, 10).unwrap();
    }
    assert_eq!(disk.lengths()[&newest_segment(&disk)], 8192, "one page for the header, one for the frame");
    let last = log.last().0;
    check_all(&mut *log.reader(), last);
    drop(log);
    check_all(&mut *open(&disk).unwrap().reader(), last);
}

/// A frame of so many has more than 20,000 bytes.
const MANY: u64 = 2000;

#[test]
fn a_shortage_that_only_a_sync_finds_is_waited_out_however_often_it_comes() {
    for seed in 0..100 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        // Room for the segments that leave a frame behind, and not for the frame.
        disk.limit_sync_room(Some(20_000), seed);
        for count in [MANY, MANY, 1, MANY, 1] {
            let refused = append(&mut log, count).unwrap_err();
            assert!(matches!(refused, AppendError::Shortage(_)), "seed {seed}: {refused}");
            check_all(&mut *log.reader(), 3);
        }
        // Certainly not appended: not on the disk either, whatever the syncs left there.
        let copy = disk.copy();
        check_all(&mut *open(&copy).unwrap().reader(), 3);
        let again = seed.is_multiple_of(2);
        if again {
            disk.limit_sync_room(None, 0);
            append(&mut log, MANY).unwrap();
        }
        let disk = disk.power_cut(&mut Prng::new(seed));
        disk.limit_sync_room(None, 0);
        check_all(&mut *open(&disk).unwrap().reader(), if again { 3 + MANY } else { 3 });
    }
}

#[test]
fn a_shortage_in_which_no_sync_at_all_has_room_is_unknown_until_it_is_over() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 3).unwrap();
    disk.limit_sync_room(Some(0), 7);
    assert!(matches!(append(&mut log, 20), Err(AppendError::Unknown(_))));
    for _ in 0..3 {
        assert!(log.reopen().unwrap_err().is_shortage());
        assert!(matches!(append(&mut log, 20), Err(AppendError::Unknown(_))));
    }
    disk.limit_sync_room(None, 0);
    assert_eq!(log.reopen().unwrap().0, 3);
    append(&mut log, 20).unwrap();
    check_all(&mut *open(&disk.power_cut(&mut Prng::new(7))).unwrap().reader(), 23);
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

/// Snapshots' files, finished or not.
fn snapshots(disk: &SimDisk) -> Vec<String> {
    disk.files().into_keys().filter(|name| name.starts_with("snap-")).collect()
}

#[test]
fn a_snapshot_that_failed_at_any_call_leaves_no_files_and_no_shortage() {
    for call in [Call::Create, Call::Rename, Call::RenameDone] {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        disk.limit_room(Some(7000));
        disk.refuse_after(call, 0, EIO);
        log.snapshots().write(log.last(), &[7; 6000]).unwrap_err();
        assert!(snapshots(&disk).is_empty(), "{call:?}: {:?}", snapshots(&disk));
        log.snapshots().write(log.last(), &[7; 6000]).unwrap();
        assert_eq!(snapshots(&disk).len(), 1, "{call:?}");
    }
}

#[test]
fn a_snapshot_that_could_not_be_taken_back_is_removed_by_the_next_one_or_the_next_start() {
    for restart in [false, true] {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        disk.fail_write_after(5000, ErrorKind::Other);
        disk.refuse_after(Call::Remove, 0, EIO);
        log.snapshots().write(log.last(), &[7; 6000]).unwrap_err();
        assert_eq!(snapshots(&disk), ["snap-00000000000000000003.snap.tmp"], "it could not be removed");
        append(&mut log, 1).unwrap();
        if restart {
            drop(log);
            log = open(&disk.kill()).unwrap();
            assert!(snapshots(&disk).is_empty());
        }
        log.snapshots().write(log.last(), &[7; 6000]).unwrap();
        assert_eq!(snapshots(&disk), ["snap-00000000000000000004.snap"]);
    }
}

#[test]
fn a_snapshot_whose_name_cannot_be_synced_supersedes_no_other() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    for _ in 0..2 {
        append(&mut log, 1).unwrap();
        log.snapshots().write(log.last(), b"state").unwrap();
    }
    let before = snapshots(&disk);
    for _ in 0..10 {
        append(&mut log, 1).unwrap();
        disk.fail_dir_sync_after(1);
        log.snapshots().write(log.last(), b"state").unwrap_err();
        assert_eq!(snapshots(&disk), before);
    }
    // Nor is one lost that was written before, when another is to be written at its entry.
    log.snapshots().write(log.last(), b"state").unwrap();
    let before = snapshots(&disk);
    disk.fail_dir_sync_after(1);
    log.snapshots().write(log.last(), b"state").unwrap_err();
    assert_eq!(snapshots(&disk), before);
}

#[test]
fn a_snapshot_that_is_written_is_not_reported_as_failed_when_an_older_one_stays() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    for count in 1..=2 {
        append(&mut log, count).unwrap();
        assert!(log.snapshots().write(log.last(), b"state").unwrap().is_none());
    }
    append(&mut log, 1).unwrap();
    disk.refuse_after(Call::Remove, 0, EIO);
    let left = log.snapshots().write(log.last(), b"newest").unwrap();
    assert!(left.is_some_and(|error| error.to_string().contains("remove sim/snap-")));
    assert_eq!(log.snapshots().latest().unwrap(), Some((log.last(), b"newest".to_vec())));
    assert_eq!(snapshots(&disk).len(), 3);
    append(&mut log, 1).unwrap();
    assert!(log.snapshots().write(log.last(), b"state").unwrap().is_none());
    assert_eq!(snapshots(&disk).len(), 2, "the next one removes it");
}

#[test]
fn room_that_comes_back_by_removing_snapshots_ends_a_shortage() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 3).unwrap();
    log.snapshots().write(log.last(), &[7; 60_000]).unwrap();
    disk.limit_room(Some(1000));
    let refused = loop {
        if let Err(error) = append(&mut log, 10) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    assert!(matches!(append(&mut log, 10), Err(AppendError::Shortage(_))));
    disk.take(&snapshots(&disk)[0]).unwrap();
    append(&mut log, 10).unwrap();
}

#[test]
fn a_segment_that_failed_at_any_call_leaves_no_files() {
    for call in [Call::Create, Call::Rename, Call::RenameDone] {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        disk.refuse_after(call, 0, EIO);
        let refused = loop {
            if let Err(error) = append(&mut log, 20) {
                break error;
            }
        };
        let is_clean = call != Call::RenameDone;
        assert_eq!(matches!(refused, AppendError::Shortage(_)), is_clean, "{call:?}: {refused}");
        assert_eq!(disk.files().len(), if is_clean { 1 } else { 2 }, "{call:?}");
        let last = log.last();
        if !is_clean {
            assert!(matches!(append(&mut log, 20), Err(AppendError::Unknown(_))));
            assert_eq!(log.reopen().unwrap(), last);
        }
        append(&mut log, 20).unwrap();
        drop(log);
        check_all(&mut *open(&disk).unwrap().reader(), last.0 + 20);
    }
}
