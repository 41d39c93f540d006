//! A segment begins small and grows. The machine may stop, the disk may be full and a sync may fail
//! at any point of a step; and logs of builds that made whole segments are still read.

use crate::world::{append, check_all, check_refused, newest_segment, open_long, options};
use engines::{
    embedded::{
        EmbeddedLog, Options, ReadOnlyLog,
        disk::{Disk, DiskFile},
    },
    log::{AppendError, Batch, Log},
};
use sim::disk::SimDisk;
use std::{io::ErrorKind, os::unix::fs::MetadataExt};
use units::Prng;

const STEP: u64 = 64 << 10;

/// Entries of some 100 bytes in an append; a few dozen appends fill a step.
const COUNT: u64 = 20;

fn len(disk: &SimDisk) -> u64 {
    disk.files()[&newest_segment(disk)].len() as u64
}

/// A log that meets the end of the first step with one of the next appends.
fn nearly_full() -> (SimDisk, EmbeddedLog<SimDisk>) {
    let disk = SimDisk::new();
    let mut log = open_long(&disk).unwrap();
    let written = || disk.files()[&newest_segment(&disk)].iter().rposition(|&byte| byte != 0);
    while written().is_none_or(|end| (end as u64) < STEP - 4000) {
        append(&mut log, COUNT).unwrap();
    }
    assert_eq!(len(&disk), STEP);
    (disk, log)
}

#[test]
fn a_segment_doubles_and_every_entry_can_be_read() {
    let disk = SimDisk::new();
    let mut log = open_long(&disk).unwrap();
    let mut lengths = vec![len(&disk)];
    while lengths.len() < 5 {
        append(&mut log, COUNT).unwrap();
        if lengths.last() != Some(&len(&disk)) {
            lengths.push(len(&disk));
            check_all(&mut ReadOnlyLog::open(disk.clone()).unwrap(), log.last().0);
        }
    }
    assert_eq!(lengths, [STEP, 2 * STEP, 4 * STEP, 8 * STEP, 16 * STEP]);
    assert_eq!(disk.files().len(), 1);
    let last = log.last().0;
    check_all(&mut *log.reader(), last);
    drop(log);
    let mut log = open_long(&disk).unwrap();
    append(&mut log, COUNT).unwrap();
    check_all(&mut *log.reader(), last + COUNT);
}

#[test]
fn a_crash_at_any_operation_of_a_step_keeps_acknowledged_entries() {
    for operation in 0..30 {
        for seed in 0..12 {
            let (disk, mut log) = nearly_full();
            disk.die_after_operations(operation);
            let mut acknowledged = log.last().0;
            for _ in 0..8 {
                match append(&mut log, COUNT) {
                    Ok(last) => acknowledged = last.0,
                    Err(_) => break,
                }
            }
            let mut prng = Prng::new(operation << 8 | seed);
            let mut disk = if seed == 0 { disk.kill() } else { disk.power_cut(&mut prng) };
            for _ in 0..3 {
                let what = format!("operation {operation} seed {seed}");
                let mut log = open_long(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
                let last = log.last().0;
                assert!(last == acknowledged || last == acknowledged + COUNT, "{what}: {last}");
                check_all(&mut *log.reader(), last);
                acknowledged = append(&mut log, COUNT).unwrap().0;
                disk = disk.power_cut(&mut prng);
            }
        }
    }
}

#[test]
fn a_failed_sync_in_a_step_appends_nothing_twice_and_loses_nothing() {
    for failing in 0..8 {
        for seed in 0..10 {
            let (disk, mut log) = nearly_full();
            for at in 0..12 {
                if at == failing {
                    disk.fail_next_sync(seed);
                }
                match append(&mut log, COUNT) {
                    Ok(_) => {}
                    Err(AppendError::Unknown(_)) => drop(log.reopen().unwrap()),
                    Err(error) => panic!("{error}"),
                }
            }
            let last = log.last().0;
            check_all(&mut *log.reader(), last);
            let disk = disk.power_cut(&mut Prng::new(seed));
            check_all(&mut *open_long(&disk).unwrap().reader(), last);
        }
    }
}

#[test]
fn a_file_whose_step_could_not_be_synced_is_not_used_again() {
    for seed in 0..30 {
        let (disk, mut log) = nearly_full();
        // Up to the last append before the step.
        let before = loop {
            let copy = disk.copy();
            append(&mut log, COUNT).unwrap();
            if len(&disk) > STEP {
                break copy;
            }
        };
        let mut log = open_long(&before).unwrap();
        let last = log.last().0;
        before.fail_opens(true);
        before.fail_next_sync(seed);
        let refused = append(&mut log, COUNT).unwrap_err();
        assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
        before.fail_opens(false);
        append(&mut log, COUNT).unwrap();
        let mut disk = before.kill();
        disk.drop_caches();
        for _ in 0..2 {
            check_all(&mut *open_long(&disk).unwrap().reader(), last + COUNT);
            disk = disk.power_cut(&mut Prng::new(seed));
        }
    }
}

#[test]
fn a_step_without_room_takes_what_there_is_and_then_is_a_shortage() {
    let (disk, mut log) = nearly_full();
    disk.limit_room(Some(10_000));
    let refused = loop {
        if let Err(error) = append(&mut log, COUNT) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
    assert_eq!(len(&disk), STEP + 8192, "two pages, and no part of a third");
    let last = log.last().0;
    check_all(&mut *log.reader(), last);
    disk.limit_room(None);
    append(&mut log, COUNT).unwrap();
    check_all(&mut *log.reader(), last + COUNT);
}

#[test]
fn a_log_that_was_short_of_a_long_frame_takes_no_small_one_before_there_is_room() {
    let whole = |disk: &SimDisk, log: &mut EmbeddedLog<SimDisk>, short: &dyn Fn(bool)| {
        let mut long = Batch::default();
        long.push(&vec![7; 200_000]);
        short(true);
        for _ in 0..5 {
            let refused = log.append(log.last(), &long).unwrap_err();
            assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
            // The end of a shortage is noted in a small frame: it would flap between the two.
            let refused = append(log, 1).unwrap_err();
            assert!(matches!(refused, AppendError::Shortage(_)), "{refused}");
        }
        short(false);
        let last = append(log, 1).unwrap();
        log.append(last, &long).unwrap();
        assert_eq!(open_long(&disk.copy()).unwrap().last(), last.next());
    };
    let (disk, mut log) = nearly_full();
    let room = |is_short: bool| disk.limit_room(is_short.then_some(20_000));
    whole(&disk, &mut log, &room);
    // The same for a segment that cannot be made.
    let disk = SimDisk::new();
    let mut log = EmbeddedLog::open(disk.clone(), options()).unwrap();
    whole(&disk, &mut log, &|is_short| disk.fail_opens(is_short));
}

#[test]
fn a_write_without_room_proves_that_there_is_room_before_anything_else_is_appended() {
    let disk = SimDisk::new();
    let mut log = open_long(&disk).unwrap();
    append(&mut log, 1).unwrap();
    disk.fail_write_after(2000, ErrorKind::StorageFull);
    assert!(matches!(append(&mut log, 40), Err(AppendError::Shortage(_))));
    disk.fail_write_after(2000, ErrorKind::StorageFull);
    assert!(matches!(append(&mut log, 1), Err(AppendError::Shortage(_))), "as long as the one before");
    append(&mut log, 1).unwrap();
    check_all(&mut *log.reader(), 2);
}

#[test]
fn a_grown_segment_that_was_cut_is_refused() {
    let disk = SimDisk::new();
    let mut log = open_long(&disk).unwrap();
    while len(&disk) < 4 * STEP {
        append(&mut log, COUNT).unwrap();
    }
    append(&mut log, COUNT).unwrap();
    // Killed: no mark says how far the entries go, only how long the file was.
    let disk = disk.kill();
    let name = newest_segment(&disk);
    let whole = disk.files()[&name].clone();
    for bytes in (0..whole.len()).step_by(4099) {
        let copy = disk.copy();
        copy.put(&name, whole[..bytes].to_vec());
        check_refused(&copy, &format!("cut at {bytes}"));
    }
    check_all(&mut *open_long(&disk.copy()).unwrap().reader(), log.last().0);
}

/// The length was made, and the power failed before a mark named it. The next process appends
/// beyond the old length.
#[test]
fn a_length_that_a_crash_left_without_a_mark_is_named_before_it_is_relied_on() {
    let disk = SimDisk::new();
    let mut log = open_long(&disk).unwrap();
    append(&mut log, COUNT).unwrap();
    let old = len(&disk) as usize;
    drop(log);
    let name = newest_segment(&disk);
    let mut longer = disk.files()[&name].clone();
    longer.resize(2 * old, 0);
    disk.put(&name, longer);
    let mut log = open_long(&disk).unwrap();
    while (log.last().0 / COUNT) < 2 || log_end(&disk) <= old {
        append(&mut log, COUNT).unwrap();
    }
    let disk = disk.kill();
    let cut = disk.copy();
    cut.put(&name, disk.files()[&name][..old].to_vec());
    check_refused(&cut, "cut at the old length");
    check_all(&mut *open_long(&disk).unwrap().reader(), log.last().0);
}

/// Up to where there are bytes in the newest segment.
fn log_end(disk: &SimDisk) -> usize {
    let file = disk.files()[&newest_segment(disk)].clone();
    file.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn a_log_with_segments_that_were_made_whole_is_read_and_goes_on() {
    // Such a segment has its full length in its header, and no mark with another one.
    let whole = Options { segment_bytes: 32 << 10, ..options() };
    for (segments, close) in [(0, true), (1, true), (3, true), (1, false), (3, false)] {
        let disk = SimDisk::new();
        let mut log = EmbeddedLog::open(disk.clone(), whole).unwrap();
        assert_eq!(len(&disk), 32 << 10);
        while disk.files().len() < segments || log.last().0 < 10 * segments as u64 {
            append(&mut log, COUNT).unwrap();
        }
        let last = log.last().0;
        let disk = if close { disk } else { disk.kill() };
        drop(log);
        let mut log = open_long(&disk).unwrap();
        check_all(&mut *log.reader(), last);
        for _ in 0..60 {
            append(&mut log, COUNT).unwrap();
        }
        assert!(len(&disk) >= STEP, "the segment has grown");
        drop(log);
        check_all(&mut *open_long(&disk).unwrap().reader(), last + 60 * COUNT);
    }
}

#[test]
fn a_log_of_a_small_sale_takes_less_than_a_hundred_kilobytes_of_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let taken = || -> u64 {
        let files = dir.path().read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap());
        files.map(|file| (file.blocks() * 512).max(file.len())).sum()
    };
    let id = options().new_log_id;
    let mut log = EmbeddedLog::open_dir(dir.path(), Options::new(options().partition, id)).unwrap();
    // 50 units sold: a grant and a payment each, and as much again for refusals and commands.
    for _ in 0..200 {
        append(&mut log, 1).unwrap();
    }
    assert!(taken() <= 100_000, "{} bytes", taken());
    drop(log);
    let mut log = EmbeddedLog::open_dir(dir.path(), Options::new(options().partition, id)).unwrap();
    for _ in 0..200 {
        append(&mut log, COUNT).unwrap();
    }
    assert!(taken() > 300_000, "it has grown");
    let last = log.last();
    drop(log);
    check_all(&mut *EmbeddedLog::open_dir(dir.path(), options()).unwrap().reader(), last.0);
}

#[test]
fn a_length_that_no_sync_has_made_durable_is_made_so_by_the_next_opening() {
    for seed in 0..50 {
        let (disk, log) = nearly_full();
        let name = newest_segment(&disk);
        // A step whose sync fails: the file reads as if it were longer, and is not.
        let file = disk.open(&name).unwrap();
        file.allocate(2 * STEP).unwrap();
        disk.fail_next_sync(seed);
        assert!(file.sync_data().is_err());
        drop((file, log));
        let disk = disk.kill();
        let mut log = open_long(&disk).unwrap();
        for _ in 0..10 {
            append(&mut log, COUNT).unwrap();
        }
        let last = log.last().0;
        let disk = disk.power_cut(&mut Prng::new(seed));
        check_all(&mut *open_long(&disk).unwrap().reader(), last);
    }
}
