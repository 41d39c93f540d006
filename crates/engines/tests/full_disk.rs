//! There is no room. The log stays as it was, and goes on when there is.

mod world;

use engines::log::{AppendError, Log};
use sim::disk::SimDisk;
use std::io::ErrorKind;
use units::Prng;
use world::{SEGMENT_BYTES, append, check_all, open};

#[test]
fn for_a_further_segment() {
    let disk = SimDisk::new();
    disk.limit_room(Some(2 * SEGMENT_BYTES));
    let mut log = open(&disk).unwrap();
    let refused = loop {
        if let Err(error) = append(&mut log, 10) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    let last = log.last().0;
    for _ in 0..3 {
        assert!(matches!(append(&mut log, 10), Err(AppendError::Full(_))));
        check_all(&mut *log.reader(), last);
    }
    disk.limit_room(None);
    append(&mut log, 10).unwrap();
    check_all(&mut *log.reader(), last + 10);
    drop(log);
    check_all(&mut *open(&disk).unwrap().reader(), last + 10);
}

#[test]
fn in_the_middle_of_a_frame_at_every_byte() {
    for at in 0..900 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 3).unwrap();
        disk.fail_write_after(at, ErrorKind::StorageFull);
        match append(&mut log, 20) {
            Err(AppendError::Full(_)) => {}
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
fn for_a_new_log() {
    let disk = SimDisk::new();
    disk.limit_room(Some(100));
    assert!(open(&disk).is_err());
    disk.limit_room(None);
    append(&mut open(&disk).unwrap(), 1).unwrap();
}
