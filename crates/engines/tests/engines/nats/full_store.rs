//! The server has no room left: nothing is appended, and it goes on when there is room.

use super::{append, begin, read_all, reopened};
use engines::log::{AppendError, Batch, Log};
use engines::nats::NatsLog;
use units::Sequence;

/// Three messages each.
fn batch(nth: u64) -> Batch {
    let mut batch = Batch::default();
    (0..3).for_each(|part| batch.push(&vec![nth as u8 + part; 50_000]));
    batch
}

fn fill(log: &mut NatsLog) -> u64 {
    for nth in 0.. {
        match log.append(log.last(), &batch(nth)) {
            Ok(_) => {}
            Err(AppendError::Shortage(why)) => {
                assert!(why.contains("refuses"), "{why}");
                return nth;
            }
            Err(other) => panic!("a full store: {other:?}"),
        }
    }
    unreachable!("the store has an end")
}

#[test]
fn a_full_store_refuses_whole_batches_and_a_trim_makes_room() {
    let (server, mut log) = begin("max_file_store: 2MB", "max_payload: 65536");
    let batches = fill(&mut log);
    assert!(batches > 5, "{batches} batches fit");
    let last = Sequence(batches * 3);
    assert_eq!(log.last(), last);
    let full = read_all(&mut *log.reader()).unwrap();
    assert_eq!(full.len() as u64, last.0);
    for _ in 0..3 {
        assert!(matches!(log.append(last, &batch(99)), Err(AppendError::Shortage(_))));
        assert_eq!(log.reopen().unwrap(), last);
    }
    assert_eq!(read_all(&mut *log.reader()).unwrap(), full);

    log.trim(Sequence(last.0 / 2)).unwrap();
    log.append(last, &batch(50)).unwrap();
    append(&mut log, b"small").unwrap();
    let (first, all) = (log.reader().first(), read_all(&mut *log.reader()).unwrap());
    assert!(first > Sequence(1) && first.0 <= last.0 / 2 + 1, "{first}");
    assert_eq!(all.len() as u64, log.last().0 - first.0 + 1);
    assert_eq!(all[..(last.0 - first.0 + 1) as usize], full[first.0 as usize - 1..]);
    assert_eq!(all.last().unwrap(), b"small");
    let mut again = reopened(&server).unwrap();
    assert_eq!((again.reader().first(), again.last()), (first, log.last()));
    assert_eq!(read_all(&mut *again.reader()).unwrap(), all);
    append(&mut again, b"more").unwrap();
}

#[test]
fn a_batch_that_was_cut_off_is_no_part_of_the_log() {
    let (server, mut log) = begin("max_file_store: 1800KB", "max_payload: 65536");
    // Room for the first part of the next batch, and not for all of it.
    let last = Sequence(fill(&mut log) * 3);
    let before = read_all(&mut *log.reader()).unwrap();
    drop(log);
    // A full log can be opened, read and trimmed; it is appended to when there is room.
    let mut log = reopened(&server).unwrap();
    assert!(log.torn().is_some(), "nothing was cut off");
    assert_eq!((log.last(), read_all(&mut *log.reader()).unwrap()), (last, before.clone()));
    assert!(matches!(log.append(last, &batch(99)), Err(AppendError::Shortage(_))));
    log.trim(Sequence(9)).unwrap();
    append(&mut log, b"next").unwrap();
    let mut again = reopened(&server).unwrap();
    assert_eq!(again.torn(), None);
    let all = read_all(&mut *again.reader()).unwrap();
    assert_eq!(all.last().unwrap(), b"next");
    assert_eq!(all[..all.len() - 1], before[again.reader().first().0 as usize - 1..]);
    append(&mut again, b"more").unwrap();
}
