//! The machine stops in the middle of an append. Acknowledged entries are there afterwards, and the
//! batch that was not acknowledged is there whole or not at all.

use crate::world::{append, check_all, newest_segment, open};
use engines::{
    embedded::ReadOnlyLog,
    log::{AppendError, Log},
};
use sim::disk::SimDisk;
use units::{Prng, Sequence};

/// Counts of entries, chosen so that a segment fills on the way.
const RUN: [u64; 9] = [1, 3, 2, 90, 1, 80, 1, 5, 2];

/// Appends the run until something fails; returns what was acknowledged, and what would have been.
fn run(disk: &SimDisk) -> (Sequence, Sequence) {
    let Ok(mut log) = open(disk) else { return (Sequence(0), Sequence(0)) };
    for count in RUN {
        let last = log.last();
        match append(&mut log, count) {
            Ok(_) => {}
            Err(AppendError::Unknown(_)) => return (last, last.plus(count)),
            Err(error) => panic!("{error}"),
        }
    }
    (log.last(), log.last())
}

fn check_after(disk: &SimDisk, (acknowledged, hoped): (Sequence, Sequence), what: &str) {
    let mut log = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let last = log.last();
    assert!(last == acknowledged || last == hoped, "{what}: {last}, want {acknowledged} or {hoped}");
    check_all(&mut *log.reader(), last.0);
    append(&mut log, 4).unwrap();
    append(&mut log, 1).unwrap();
    check_all(&mut *log.reader(), last.0 + 5);
    drop(log);
    check_all(&mut ReadOnlyLog::open(disk.clone()).unwrap(), last.0 + 5);
}

#[test]
fn a_crash_at_any_written_byte_keeps_acknowledged_entries() {
    let disk = SimDisk::new();
    run(&disk);
    let bytes = disk.written_bytes();
    for at in 0..=bytes {
        for seed in 0..3 {
            let disk = SimDisk::new();
            disk.die_after_bytes(at);
            let outcome = run(&disk);
            let disk = if seed == 0 { disk.kill() } else { disk.power_cut(&mut Prng::new(at ^ seed << 32)) };
            check_after(&disk, outcome, &format!("byte {at} seed {seed}"));
        }
    }
}

#[test]
fn a_crash_before_any_disk_operation_keeps_acknowledged_entries() {
    let disk = SimDisk::new();
    run(&disk);
    let operations = disk.operations_count();
    for at in 0..=operations {
        for seed in 0..20 {
            let disk = SimDisk::new();
            disk.die_after_operations(at);
            let outcome = run(&disk);
            let disk = if seed == 0 { disk.kill() } else { disk.power_cut(&mut Prng::new(at ^ seed << 32)) };
            check_after(&disk, outcome, &format!("operation {at} seed {seed}"));
        }
    }
}

#[test]
fn a_torn_append_is_reported_when_it_is_cut_and_skipped_by_a_reader() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 5).unwrap();
    disk.die_after_bytes(100);
    assert!(matches!(append(&mut log, 5), Err(AppendError::Unknown(_))));
    let disk = disk.kill();

    let before = disk.files();
    let mut reader = ReadOnlyLog::open(disk.clone()).unwrap();
    let seen = reader.report().torn.clone().expect("a torn tail");
    check_all(&mut reader, 5);
    assert!(disk.files() == before, "a reader changed something");

    let log = open(&disk).unwrap();
    assert_eq!(log.report().torn.as_ref(), Some(&seen));
    assert_eq!(log.report().entries_count(), 5);
    // Up to the last byte that is not zero, of the hundred that were written.
    assert!((90..=100).contains(&seen.bytes), "{seen:?}");
    assert_eq!(seen.file, format!("sim/{}", newest_segment(&disk)));
    drop(log);
    assert_eq!(open(&disk).unwrap().report().torn, None, "cut once, it is gone");
}
