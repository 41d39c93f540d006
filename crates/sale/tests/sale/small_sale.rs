//! A sale of 50 units takes little of a real disk: its log, its snapshots, and a backup, which is
//! the log read entry by entry and written again.

use crate::ledger::{OPENS, spec};
use contracts::{Actor, Attempt, AttemptId, Basket, Operation, SealedShopper, ShopperKey};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{Batch, Log};
use sale::core::Core;
use sale::{Command, Worker};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use units::{Sequence, TimeMs};

/// Units that are sold, and shoppers who ask.
const UNITS: u64 = 50;
const SHOPPERS: u64 = 1000;

/// What each of the two directories may take.
const BYTES_MAX: u64 = 256 << 10;

fn open(dir: &Path) -> EmbeddedLog<engines::embedded::disk::RealDisk> {
    EmbeddedLog::open_dir(dir, Options::new(Partition(0), LogId([1; 16]))).unwrap()
}

/// By length or by blocks, whichever is more.
fn taken(dir: &Path) -> u64 {
    let files = dir.read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap());
    files.map(|file| file.len().max(file.blocks() * 512)).sum()
}

fn operate(operation: Operation) -> Command {
    Command::Operate { actor: Actor::new("test", ""), operation }
}

fn id(n: u64) -> [u8; 16] {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    id
}

fn attempt(n: u64) -> Command {
    Command::Attempt(Attempt {
        id: AttemptId(id(n)),
        shopper: ShopperKey(id(n)),
        sealed: SealedShopper::new(b"sealed by the gate, as long as ids are").unwrap(),
        tier: 0,
        basket: Basket::single(0, 1),
    })
}

#[test]
fn a_sale_of_fifty_units_takes_less_than_a_quarter_of_a_mebibyte_and_so_does_its_backup() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut worker = Worker::open(open(dir.path())).unwrap().0;
    worker.step(TimeMs(OPENS), &[operate(Operation::Define(Box::new(spec(UNITS))))]);
    // Each shopper alone, which makes the most frames; then the payments; then the refusals'
    // record.
    for n in 0..SHOPPERS {
        worker.step(TimeMs(OPENS + n), &[attempt(n)]);
    }
    for n in 0..UNITS {
        let paid = Operation::Confirm { hold: AttemptId(id(n)), payment: format!("payment {n}") };
        worker.step(TimeMs(OPENS + SHOPPERS), &[operate(paid)]);
    }
    worker.finish(TimeMs(OPENS + 2 * SHOPPERS));
    let stats = worker.machine().stats();
    assert_eq!((stats.items[0].sold, stats.items[0].free), (UNITS, 0));
    for _ in 0..2 {
        runtime::snapshot::<Core>(&mut *worker.log().reader(), &mut *worker.log().snapshots()).unwrap();
    }
    assert!(taken(dir.path()) <= BYTES_MAX, "{} bytes", taken(dir.path()));

    let mut copy = open(backup.path());
    let mut batch = Batch::default();
    let mut keep = |_: Sequence, entry: &[u8]| {
        batch.push(entry);
        ControlFlow::Continue(())
    };
    worker.log().reader().read(Sequence(1), &mut keep).unwrap();
    copy.append(Sequence(0), &batch).unwrap();
    assert_eq!(copy.last(), worker.log().last());
    assert!(taken(backup.path()) <= BYTES_MAX, "{} bytes", taken(backup.path()));
}
