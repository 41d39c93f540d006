//! A second writer opens the same log; and readers do, which is allowed.

use crate::world::{append, check_all, entry, open, options};
use engines::{
    embedded::{EmbeddedLog, open_read_only},
    log::{Log, LogError, LogRead},
};
use sim::disk::SimDisk;
use std::{ops::ControlFlow, thread};
use units::Sequence;

#[test]
fn a_second_writer_is_refused_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = EmbeddedLog::open_dir(dir.path(), options()).unwrap();
    append(&mut first, 3).unwrap();
    let refused = EmbeddedLog::open_dir(dir.path(), options()).unwrap_err();
    assert!(matches!(refused, LogError::InUse { .. }), "{refused}");
    append(&mut first, 3).unwrap();
    drop(first);
    check_all(&mut *EmbeddedLog::open_dir(dir.path(), options()).unwrap().reader(), 6);
}

#[test]
fn a_second_writer_is_refused_on_a_simulated_disk() {
    let disk = SimDisk::new();
    let first = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(LogError::InUse { .. })));
    let next_life = disk.kill();
    let second = open(&next_life).unwrap();
    drop(first);
    assert!(
        matches!(open(&next_life), Err(LogError::InUse { .. })),
        "a dead one's lock is no longer its own"
    );
    drop(second);
    open(&next_life).unwrap();
}

#[test]
fn an_outside_reader_follows_a_writer_that_rolls_and_trims() {
    const ENTRIES: u64 = 6000;
    let dir = tempfile::tempdir().unwrap();
    let mut log = EmbeddedLog::open_dir(dir.path(), options()).unwrap();
    append(&mut log, 1).unwrap();
    let mut reader = open_read_only(dir.path()).unwrap();
    let path = dir.path().to_owned();
    let following = thread::spawn(move || {
        let mut next = 1;
        let mut skipped = 0;
        while next <= ENTRIES {
            let read = reader.read(Sequence(next), &mut |sequence, bytes| {
                assert_eq!((sequence, bytes), (Sequence(next), &entry(next, 0)[..]));
                next += 1;
                ControlFlow::Continue(())
            });
            match read {
                Ok(last) => assert_eq!(last.0, next - 1),
                Err(LogError::Trimmed { first, .. }) => {
                    skipped += first.0 - next;
                    next = first.0;
                }
                Err(error) => panic!("{error}"),
            }
            open_read_only(&path).unwrap();
        }
        skipped
    });
    let mut round = 0;
    while log.last().0 < ENTRIES {
        round += 1;
        let count = (1 + round % 23).min(ENTRIES - log.last().0);
        append(&mut log, count).unwrap();
        if round % 50 == 0 {
            log.trim(Sequence(log.last().0 - 300)).unwrap();
        }
    }
    let skipped = following.join().expect("the reader saw what the writer wrote");
    assert!(skipped < ENTRIES);
}

#[test]
fn a_reader_refuses_a_directory_without_a_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open_read_only(dir.path()), Err(LogError::Io { .. })));
    assert!(dir.path().read_dir().unwrap().next().is_none(), "a reader makes nothing");
}
