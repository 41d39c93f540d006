//! A full disk: decisions made before it turned out to be full are not durable, and must not be
//! answered. And refusals from before it was full stay counted, whatever the disk does meanwhile.

use crate::ledger::{OPENS, id, key, spec};
use contracts::{Actor, Answer, Attempt, Basket, Operation, Refusal, SealedShopper, Unavailable};
use engines::embedded::disk::Disk;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::Log;
use sale::core::{Entry, Record};
use sale::{Command, Reply, Worker};
use sim::disk::SimDisk;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use units::{Sequence, TimeMs};

fn attempt(n: u8, quantity: u16) -> Command {
    Command::Attempt(Attempt {
        id: id(n),
        shopper: key(n),
        sealed: SealedShopper::new(b"").unwrap(),
        tier: 0,
        basket: Basket::single(0, quantity),
    })
}

fn open(disk: &SimDisk) -> Worker<EmbeddedLog<SimDisk>> {
    let options = Options::new(Partition(0), LogId(*b"0123456789abcdef"));
    let mut worker = Worker::open(
        EmbeddedLog::open(disk.clone(), Options { segment_bytes: 16 << 10, ..options }).unwrap(),
    )
    .unwrap()
    .0;
    let operation = Operation::Define(Box::new(spec(1)));
    worker.step(TimeMs(OPENS), &[Command::Operate { actor: Actor::new("test", ""), operation }]);
    worker
}

#[test]
fn a_grant_that_met_a_full_disk_is_not_answered() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    disk.fail_write_after(0, ErrorKind::StorageFull);
    let replies = worker.step(TimeMs(OPENS), &[attempt(1, 1), attempt(2, 1)]).to_vec();
    let as_of = worker.machine().sequence();
    let paused = Reply::Answer(Answer::Refused { refusal: Refusal::Paused, as_of });
    assert_eq!(replies, [paused.clone(), paused]);
}

#[test]
fn refusals_before_a_full_disk_stay_counted_through_a_failed_sync() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    // Two phones where one may be had: refused, and not journalled for a second.
    worker.step(TimeMs(OPENS + 1), &[attempt(1, 2)]);
    disk.fail_write_after(0, ErrorKind::StorageFull);
    worker.step(TimeMs(OPENS + 2), &[attempt(2, 1)]);
    assert!(worker.in_shortage());
    disk.fail_next_sync(1);
    worker.step(TimeMs(OPENS + 1002), &[]);
    assert!(!worker.in_shortage(), "the record of the pause's end is in a fresh segment");
    assert_eq!(refusals(&worker), 1);
}

#[test]
fn a_failed_sync_on_a_full_disk_pauses_the_sale() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    // The segment that is to replace the one in doubt finds no room.
    disk.fail_next_sync(1);
    disk.limit_room(Some(0));
    let replies = worker.step(TimeMs(OPENS), &[attempt(1, 1)]).to_vec();
    // The grant may be there after a crash, so the shopper does not hear that it is not.
    assert!(matches!(replies[..], [Reply::Unavailable(Unavailable::Passing(_))]), "{replies:?}");
    for second in 1..4 {
        worker.step(TimeMs(OPENS + second * 1000), &[]);
        assert!(worker.in_shortage(), "{:?}", worker.stopped());
    }
    disk.limit_room(None);
    worker.step(TimeMs(OPENS + 4000), &[]);
    let replies = worker.step(TimeMs(OPENS + 5000), &[attempt(1, 1)]).to_vec();
    assert!(matches!(replies[..], [Reply::Answer(Answer::Granted(_))]), "{replies:?}");
}

#[test]
fn a_full_disk_only_pauses_a_sale_whose_snapshots_cannot_be_listed() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    // A copy that a person made by hand, next to the log.
    disk.create_new("seg-00000000000000000001.log.bak").unwrap();
    disk.fail_write_after(0, ErrorKind::StorageFull);
    worker.step(TimeMs(OPENS), &[attempt(1, 1)]);
    assert!(worker.in_shortage(), "{:?}", worker.stopped());
}

#[test]
fn an_orderly_stop_journals_the_last_refusals() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    worker.step(TimeMs(OPENS + 1), &[attempt(1, 2)]);
    assert_eq!(refusals(&worker), 0, "not for a second");
    worker.finish(TimeMs(OPENS + 2));
    assert_eq!(refusals(&worker), 1);
}

/// How many refusals are journalled.
fn refusals(worker: &Worker<EmbeddedLog<SimDisk>>) -> u64 {
    let mut journalled = 0;
    worker
        .log()
        .reader()
        .read(Sequence(1), &mut |_, bytes| {
            if let Record::Refusals { entries } = Entry::decode(bytes).unwrap().record {
                journalled += entries.iter().map(|e| e.count).sum::<u64>();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    journalled
}
