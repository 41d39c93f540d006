//! A sync fails, and the kernel forgets that it did ("Can Applications Recover from fsync
//! Failures?", Rebello et al., USENIX ATC 2020): what was written reads as if it were there, and is
//! not.

use crate::world::{append, batch, check_all, open, read_all};
use engines::{
    embedded::ReadOnlyLog,
    log::{AppendError, Log},
};
use sim::disk::SimDisk;
use std::io::ErrorKind;
use units::{Prng, Sequence};

fn check_unknown(outcome: &Result<Sequence, AppendError>, what: &str) {
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{what}: {outcome:?}");
}

#[test]
fn a_failed_fsync_blocks_appends_until_a_reopen_cuts_the_batch() {
    for seed in 0..300 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        let before = seed % 4;
        for _ in 0..before {
            append(&mut log, 2).unwrap();
        }
        let last = log.last();
        disk.fail_next_sync(seed);
        check_unknown(&append(&mut log, 3), "the append");
        check_unknown(&append(&mut log, 3), "the next one");
        assert!(log.trim(last).is_err());
        assert_eq!(log.last(), last);
        check_all(&mut *log.reader(), last.0);

        assert_eq!(log.reopen().unwrap(), last);
        let mut reader = log.reader();
        // Another try of the same sequences must not be mixed up with the first.
        log.append(last, &batch(last, 3, 1)).unwrap();
        append(&mut log, 1).unwrap();
        let want = read_all(&mut *reader);
        assert_eq!(want.len() as u64, last.0 + 4);
        assert_eq!(read_all(&mut ReadOnlyLog::open(disk.clone()).unwrap()), want);

        let disk = disk.power_cut(&mut Prng::new(seed));
        let log = open(&disk).unwrap();
        assert_eq!(read_all(&mut *log.reader()), want, "seed {seed}");
    }
}

#[test]
fn a_process_started_after_a_failed_fsync_does_not_trust_the_page_cache() {
    for seed in 0..300 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 2).unwrap();
        disk.fail_next_sync(seed);
        check_unknown(&append(&mut log, 3), "the append");
        let mut disk = disk.kill();
        if seed % 2 == 0 {
            disk.drop_caches();
        }
        for round in 0..3 {
            // What this process finds it reports to clients; so it must survive a power cut.
            let log = open(&disk).unwrap();
            let told = read_all(&mut *log.reader());
            assert!(told.len() == 2 || told.len() == 5, "seed {seed}: {}", told.len());
            let was = disk.clone();
            disk = disk.power_cut(&mut Prng::new(seed * 8 + round));
            drop(was);
            assert_eq!(read_all(&mut *open(&disk).unwrap().reader()), told, "seed {seed} round {round}");
        }
    }
}

#[test]
fn a_write_that_fails_midway_is_unknown_and_cut_by_a_reopen() {
    for at in 0..150 {
        let disk = SimDisk::new();
        let mut log = open(&disk).unwrap();
        append(&mut log, 2).unwrap();
        disk.fail_write_after(at, ErrorKind::Other);
        check_unknown(&append(&mut log, 9), "the append");
        assert_eq!(log.reopen().unwrap(), Sequence(2));
        append(&mut log, 9).unwrap();
        drop(log);
        check_all(&mut *open(&disk).unwrap().reader(), 11);
    }
}

#[test]
fn a_failed_directory_sync_wrote_nothing_before_the_rename_and_is_unknown_after_it() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    // Before the fresh segment has its name: nothing was written, and the next try makes it anew.
    disk.fail_next_dir_sync();
    let last = loop {
        let last = log.last();
        match append(&mut log, 20) {
            Ok(_) => {}
            Err(AppendError::Shortage(_)) => break last,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(log.last(), last);
    check_all(&mut *log.reader(), last.0);
    append(&mut log, 20).unwrap();
    // After that it may be there or not.
    disk.fail_dir_sync_after(1);
    let last = loop {
        let last = log.last();
        match append(&mut log, 20) {
            Ok(_) => {}
            Err(AppendError::Unknown(_)) => break last,
            Err(error) => panic!("{error}"),
        }
    };
    disk.fail_next_dir_sync();
    assert!(log.reopen().is_err(), "it fails again");
    check_unknown(&append(&mut log, 1), "after that");
    assert_eq!(log.reopen().unwrap(), last);
    append(&mut log, 20).unwrap();
    let disk = disk.power_cut(&mut Prng::new(1));
    check_all(&mut *open(&disk).unwrap().reader(), last.0 + 20);
}

#[test]
fn a_reader_in_another_process_sees_an_unsynced_batch_cut() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    let mut reader = ReadOnlyLog::open(disk.clone()).unwrap();
    disk.fail_next_sync(1);
    check_unknown(&append(&mut log, 2), "the append");
    check_all(&mut reader, 2);
    log.reopen().unwrap();
    log.append(Sequence(0), &batch(Sequence(0), 1, 1)).unwrap();
    assert_eq!(read_all(&mut reader).len(), 1, "the file was replaced under it");
}
