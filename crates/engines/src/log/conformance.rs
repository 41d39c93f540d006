//! What every engine of the log port promises, as one suite. An engine's tests call [`run`]; it
//! panics at the first broken promise.
//!
//! It knows no engine. How an engine survives its own failures (torn tails, lost servers) is in
//! that engine's tests.

use super::{AppendError, Batch, ENTRY_BYTES_MAX, Log, LogError, LogRead};
use std::{ops::ControlFlow, thread};
use units::{Prng, Sequence};

/// How the suite gets logs of an engine.
pub trait Harness {
    /// A log with nothing in it.
    fn fresh(&mut self) -> Box<dyn Log>;
    /// The same log as a process sees it that starts after the one that had it has ended.
    fn restart(&mut self, log: Box<dyn Log>) -> Box<dyn Log>;
}

/// Checks every promise.
///
/// # Panics
/// If one is broken.
pub fn run(harness: &mut dyn Harness) {
    an_empty_log_is_at_zero(harness);
    entries_come_back_in_order_from_anywhere(harness);
    a_stale_writer_is_fenced(harness);
    everything_survives_a_restart(harness);
    the_largest_entry_fits(harness);
    a_reader_follows_the_writer(harness);
    a_reader_stops_when_told(harness);
    the_newest_two_snapshots_stay(harness);
    trimming_forgets_no_more_than_was_allowed(harness);
    reopening_a_sound_log_changes_nothing(harness);
}

/// The bytes that entry `sequence` has in this suite: of many lengths, none like another.
fn entry(sequence: u64) -> Vec<u8> {
    let mut prng = Prng::new(sequence);
    let mut bytes = sequence.to_le_bytes().to_vec();
    bytes.extend((0..prng.below(200)).map(|_| prng.next_u64() as u8));
    bytes
}

/// Appends `count` entries of [`entry`] as one batch.
fn append(log: &mut dyn Log, count: u64) -> Sequence {
    let last = log.last();
    let mut batch = Batch::default();
    for sequence in last.0 + 1..=last.0 + count {
        batch.push(&entry(sequence));
    }
    let appended = log.append(last, &batch).expect("an append to a sound log");
    assert_eq!((appended, log.last()), (last.plus(count), last.plus(count)));
    appended
}

/// Reads from `from` on, and checks that it is every entry up to `last`.
fn check_from(reader: &mut dyn LogRead, from: u64, last: u64) {
    let mut next = from;
    let visited = reader
        .read(Sequence(from), &mut |sequence, bytes| {
            assert_eq!(sequence, Sequence(next), "read from {from}");
            assert_eq!(bytes, entry(next), "entry {next}");
            next += 1;
            ControlFlow::Continue(())
        })
        .expect("a read of a sound log");
    assert_eq!(visited, Sequence(last.max(from - 1)), "read from {from}");
    assert_eq!(next, visited.0 + 1, "read from {from}");
}

fn an_empty_log_is_at_zero(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    for _ in 0..2 {
        assert_eq!(log.last(), Sequence(0));
        let mut reader = log.reader();
        assert_eq!((reader.last(), reader.first()), (Sequence(0), Sequence(1)));
        check_from(&mut *reader, 1, 0);
        check_from(&mut *reader, 9, 0);
        assert!(log.snapshots().latest().unwrap().is_none());
        drop(reader);
        log = harness.restart(log);
    }
}

fn entries_come_back_in_order_from_anywhere(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    for count in [1, 7, 1, 300, 2, 90] {
        append(&mut *log, count);
    }
    let mut reader = log.reader();
    assert_eq!((reader.last(), reader.first()), (Sequence(401), Sequence(1)));
    for from in (1..405).chain([401, 3, 200, 150, 9, 1]) {
        check_from(&mut *reader, from, 401);
    }
    let mut from_zero = 0;
    let mut count = |_: Sequence, _: &[u8]| {
        from_zero += 1;
        ControlFlow::Continue(())
    };
    assert_eq!(reader.read(Sequence(0), &mut count).unwrap(), Sequence(401));
    assert_eq!(from_zero, 401, "0 counts as 1");
}

fn a_stale_writer_is_fenced(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    append(&mut *log, 3);
    let mut batch = Batch::default();
    batch.push(b"stale");
    for expected in [0, 2, 4, 99] {
        match log.append(Sequence(expected), &batch) {
            Err(AppendError::Conflict { actual }) => assert_eq!(actual, Sequence(3)),
            other => panic!("append after {expected} of 3: {other:?}"),
        }
    }
    check_from(&mut *log.reader(), 1, 3);
    append(&mut *log, 1);
    check_from(&mut *log.reader(), 1, 4);
}

fn everything_survives_a_restart(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    for round in 1..20 {
        append(&mut *log, round);
        let last = log.last();
        log = harness.restart(log);
        assert_eq!(log.last(), last);
        check_from(&mut *log.reader(), 1, last.0);
    }
}

fn the_largest_entry_fits(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    let large = vec![0xa5; ENTRY_BYTES_MAX];
    let mut batch = Batch::default();
    batch.push(&entry(1));
    batch.push(&large);
    batch.push(&entry(3));
    log.append(Sequence(0), &batch).expect("the largest entry");
    append(&mut *log, 1);
    log = harness.restart(log);
    let mut lens = Vec::new();
    let mut note = |_: Sequence, bytes: &[u8]| {
        assert!(bytes.len() < ENTRY_BYTES_MAX || bytes == large);
        lens.push(bytes.len());
        ControlFlow::Continue(())
    };
    assert_eq!(log.reader().read(Sequence(1), &mut note).unwrap(), Sequence(4));
    assert_eq!(lens, [entry(1).len(), ENTRY_BYTES_MAX, entry(3).len(), entry(4).len()]);
}

fn a_reader_follows_the_writer(harness: &mut dyn Harness) {
    const ENTRIES: u64 = 2000;
    let mut log = harness.fresh();
    let mut reader = log.reader();
    let following = thread::spawn(move || {
        let mut next = 1;
        while next <= ENTRIES {
            let known = reader.last();
            let visited = reader
                .read(Sequence(next), &mut |sequence, bytes| {
                    assert_eq!((sequence, bytes), (Sequence(next), &entry(next)[..]));
                    next += 1;
                    ControlFlow::Continue(())
                })
                .expect("a read beside the writer");
            assert!(visited >= known, "read to {visited} when {known} was known");
            thread::yield_now();
        }
    });
    let mut prng = Prng::new(1);
    while log.last().0 < ENTRIES {
        let count = (1 + prng.below(20)).min(ENTRIES - log.last().0);
        append(&mut *log, count);
    }
    following.join().expect("the reader saw what the writer wrote");
}

fn a_reader_stops_when_told(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    append(&mut *log, 10);
    append(&mut *log, 10);
    let mut reader = log.reader();
    for stop in [1, 5, 10, 11, 14, 20, 3] {
        let mut until = |sequence: Sequence, _: &[u8]| match sequence.0 == stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        assert_eq!(reader.read(Sequence(2.min(stop)), &mut until).unwrap(), Sequence(stop));
        check_from(&mut *reader, stop + 1, 20);
    }
}

fn the_newest_two_snapshots_stay(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    append(&mut *log, 9);
    let mut snapshots = log.snapshots();
    for at in [0, 3, 7, 9] {
        let bytes = vec![at as u8; 10_000 * at as usize];
        snapshots.write(Sequence(at), &bytes).unwrap();
        assert_eq!(snapshots.latest().unwrap(), Some((Sequence(at), bytes)));
    }
    snapshots.write(Sequence(9), b"again").unwrap();
    drop(snapshots);
    log = harness.restart(log);
    assert_eq!(log.snapshots().latest().unwrap(), Some((Sequence(9), b"again".to_vec())));
}

fn trimming_forgets_no_more_than_was_allowed(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    for _ in 0..60 {
        append(&mut *log, 100);
    }
    for up_to in [0, 1, 2500, 2500, 5999, 6000] {
        log.trim(Sequence(up_to)).unwrap();
        let mut reader = log.reader();
        let first = reader.first();
        assert!(first.0 <= up_to + 1, "trimmed up to {up_to}, and the log begins with {first}");
        check_from(&mut *reader, first.0, 6000);
        check_from(&mut *reader, up_to + 1, 6000);
        if first > Sequence(1) {
            match reader.read(Sequence(1), &mut |_, _| ControlFlow::Continue(())) {
                Err(LogError::Trimmed { from: Sequence(1), first: told }) => assert_eq!(told, first),
                other => panic!("a read of what was trimmed: {other:?}"),
            }
        }
        drop(reader);
        log = harness.restart(log);
        assert_eq!((log.last(), log.reader().first()), (Sequence(6000), first));
    }
    append(&mut *log, 1);
}

fn reopening_a_sound_log_changes_nothing(harness: &mut dyn Harness) {
    let mut log = harness.fresh();
    assert_eq!(log.reopen().unwrap(), Sequence(0));
    append(&mut *log, 5);
    assert_eq!(log.reopen().unwrap(), Sequence(5));
    append(&mut *log, 5);
    check_from(&mut *log.reader(), 1, 10);
}
