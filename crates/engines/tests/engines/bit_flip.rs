//! A bit on the disk has flipped. Acknowledged entries are never cut for it: the log is refused,
//! untouched.

use crate::world::{append, check_all, check_refused, newest_segment, open, options};
use engines::{
    embedded::{Checks, EmbeddedLog, Options, segment::FRAMES_AT},
    log::{Log, LogError},
};
use sim::disk::SimDisk;
use std::ops::ControlFlow;
use units::Sequence;

/// A log of three frames; where the first, the second and the third begin, and where that one ends.
fn three_frames(close: bool) -> (SimDisk, String, [u64; 4]) {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    let mut places = [FRAMES_AT; 4];
    for frame in 0..3 {
        append(&mut log, 2).unwrap();
        let written = &disk.files()[&newest_segment(&disk)];
        let end = written.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1;
        places[frame + 1] = end.next_multiple_of(8);
    }
    let name = newest_segment(&disk);
    let disk = if close { disk } else { disk.kill() };
    drop(log);
    (disk, name, places)
}

#[test]
fn a_bit_flip_in_a_frame_before_the_last_is_refused() {
    let (disk, name, places) = three_frames(false);
    for byte in places[0]..places[2] {
        let copy = disk.copy();
        copy.flip(&name, byte, (byte % 8) as u32);
        let error = check_refused(&copy, &format!("byte {byte}"));
        let LogError::Damaged { file, offset, .. } = error else { panic!("byte {byte}: {error}") };
        let frame = if byte < places[1] { places[0] } else { places[1] };
        assert_eq!((file, offset), (format!("sim/{name}"), frame), "byte {byte}");
    }
}

#[test]
fn a_bit_flip_in_the_last_frame_of_a_closed_log_is_refused() {
    let (disk, name, places) = three_frames(true);
    for byte in places[2]..places[3] {
        let copy = disk.copy();
        copy.flip(&name, byte, (byte % 8) as u32);
        check_refused(&copy, &format!("byte {byte}"));
    }
}

#[test]
fn a_bit_flip_in_the_last_frame_after_a_kill_passes_for_a_torn_append() {
    // Written down as it is: nothing on the disk tells the two apart. See docs/log-format.md.
    let (disk, name, places) = three_frames(false);
    disk.flip(&name, places[2] + 40, 0);
    let log = open(&disk).unwrap();
    assert!(log.report().torn.is_some());
    check_all(&mut *log.reader(), 4);
}

#[test]
fn a_bit_flip_in_the_last_frame_is_refused_if_a_snapshot_includes_it() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 2).unwrap();
    append(&mut log, 2).unwrap();
    log.snapshots().write(Sequence(4), b"the state at 4").unwrap();
    let disk = disk.kill();
    let name = newest_segment(&disk);
    let end = disk.files()[&name].iter().rposition(|&byte| byte != 0).unwrap() as u64;
    disk.flip(&name, end, 0);
    check_refused(&disk, "a snapshot at 4");
}

#[test]
fn a_bit_flip_in_a_segment_header_is_refused() {
    let (disk, name, _) = three_frames(true);
    for byte in 0..64 {
        let copy = disk.copy();
        copy.flip(&name, byte, (byte % 8) as u32);
        check_refused(&copy, &format!("byte {byte}"));
    }
}

#[test]
fn a_bit_flip_in_a_mark_does_no_harm() {
    let (disk, name, places) = three_frames(true);
    for byte in 64..places[0] {
        let copy = disk.copy();
        copy.flip(&name, byte, (byte % 8) as u32);
        check_all(&mut *open(&copy).unwrap().reader(), 6);
    }
}

#[test]
fn a_snapshot_with_a_bit_flip_is_skipped() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    append(&mut log, 9).unwrap();
    let mut snapshots = log.snapshots();
    snapshots.write(Sequence(3), b"three").unwrap();
    snapshots.write(Sequence(9), b"nine").unwrap();
    let name = "snap-00000000000000000009.snap";
    let bytes = disk.files()[name].clone();
    for byte in 0..bytes.len() as u64 {
        disk.flip(name, byte, 5);
        let latest = snapshots.latest().unwrap();
        // The last four bytes of the header say nothing.
        let want = if (52..56).contains(&byte) {
            (Sequence(9), b"nine".to_vec())
        } else {
            (Sequence(3), b"three".to_vec())
        };
        assert_eq!(latest, Some(want), "byte {byte}");
        disk.flip(name, byte, 5);
    }
}

#[test]
fn a_running_reader_reports_a_bit_flip_and_shows_nothing_of_its_frame() {
    let (disk, name, places) = three_frames(true);
    let log = open(&disk).unwrap();
    disk.flip(&name, places[1] + 50, 0);
    let mut seen = 0;
    let mut count = |_: Sequence, _: &[u8]| {
        seen += 1;
        ControlFlow::Continue(())
    };
    let error = log.reader().read(Sequence(1), &mut count).unwrap_err();
    assert!(matches!(error, LogError::Damaged { offset, .. } if offset == places[1]), "{error}");
    assert_eq!(seen, 2, "nothing of a damaged frame is shown");
}

#[test]
fn damage_before_the_snapshots_may_be_left_to_whoever_reads_it() {
    let disk = SimDisk::new();
    let mut log = open(&disk).unwrap();
    while disk.files().keys().filter(|name| name.starts_with("seg-")).count() < 5 {
        append(&mut log, 50).unwrap();
    }
    let last = log.last();
    // The older of the two newest snapshots counts.
    let segments: Vec<String> =
        disk.files().keys().filter(|name| name.starts_with("seg-")).cloned().collect();
    let begins = |name: &str| name[4..24].parse::<u64>().unwrap();
    for at in [begins(&segments[2]) + 10, last.0] {
        log.snapshots().write(Sequence(at), b"a state").unwrap();
    }
    drop(log);
    let since = || EmbeddedLog::open(disk.copy(), Options { checks: Checks::SinceSnapshots, ..options() });
    check_all(&mut *since().unwrap().reader(), last.0);
    for (at, name) in segments.iter().enumerate() {
        let whole = disk.copy();
        disk.flip(name, FRAMES_AT + 40, 3);
        assert!(open(&disk.copy()).is_err(), "{name}");
        match since() {
            Ok(log) => {
                assert!(at < 2, "{name} is read by a recovery");
                let read = log.reader().read(Sequence(begins(name)), &mut |_, _| ControlFlow::Continue(()));
                let Err(LogError::Damaged { file, .. }) = read else { panic!("{name}: {read:?}") };
                assert_eq!(file, format!("sim/{name}"));
            }
            Err(error) => assert!(at >= 2, "{name}: {error}"),
        }
        disk.flip(name, FRAMES_AT + 40, 3);
        assert_eq!(disk.files(), whole.files());
    }
}
