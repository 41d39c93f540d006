//! A full disk: what was decided before it turned out to be full is not durable, and nobody may hear of it. And what was
//! said before it was full stays counted, whatever the disk does meanwhile.

mod ledger;

use contracts::{Actor, Answer, Attempt, Basket, Operation, Refusal, SealedShopper};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::Log;
use ledger::{OPENS, id, key, spec};
use sale::core::{Entry, Record};
use sale::worker::{Command, Reply, Worker};
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
fn a_grant_that_met_a_full_disk_is_not_said() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    disk.fail_write_after(0, ErrorKind::StorageFull);
    let replies = worker.step(TimeMs(OPENS), &[attempt(1, 1), attempt(2, 1)]).to_vec();
    let as_of = worker.core().sequence();
    let paused = Reply::Answer(Answer::Refused { refusal: Refusal::Paused, as_of });
    assert_eq!(replies, [paused.clone(), paused]);
}

#[test]
fn refusals_from_before_are_counted_though_the_end_of_the_pause_met_a_failed_sync() {
    let disk = SimDisk::new();
    let mut worker = open(&disk);
    // Two phones where one may be had: refused, and not journalled for a second.
    worker.step(TimeMs(OPENS + 1), &[attempt(1, 2)]);
    disk.fail_write_after(0, ErrorKind::StorageFull);
    worker.step(TimeMs(OPENS + 2), &[attempt(2, 1)]);
    assert!(worker.disk_full());
    disk.fail_next_sync(1);
    worker.step(TimeMs(OPENS + 1002), &[]);
    assert!(worker.disk_full(), "the record of the pause's end did not become durable");
    worker.step(TimeMs(OPENS + 2002), &[]);
    assert!(!worker.disk_full());
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
    assert_eq!(journalled, 1);
}
