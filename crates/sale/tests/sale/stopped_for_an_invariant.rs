//! A sale that stops because an invariant would break says which: operators are alerted by it.

use crate::ledger::{Ledger, MemoryLog, OPENS, by, id, spec};
use contracts::{Actor, Operation};
use engines::clock::Clock;
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots};
use sale::core::Record;
use sale::service::{Service, Settings};
use sale::{Command, Reply, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use units::{Sequence, TimeMs};

/// An honest log that cannot be appended to, and that is a different log when it is read again.
struct Swapped {
    honest: Vec<Vec<u8>>,
    forged: Vec<Vec<u8>>,
    swapped: Arc<AtomicBool>,
}

struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn latest(&self) -> Result<Option<(Sequence, Vec<u8>)>, LogError> {
        Ok(None)
    }

    fn write(&mut self, _at: Sequence, _bytes: &[u8]) -> Result<Option<LogError>, LogError> {
        Ok(None)
    }
}

impl Log for Swapped {
    fn last(&self) -> Sequence {
        Sequence(self.honest.len() as u64)
    }

    fn append(&mut self, _expected: Sequence, _batch: &Batch) -> Result<Sequence, AppendError> {
        self.swapped.store(true, Relaxed);
        Err(AppendError::Shortage("no room".into()))
    }

    fn reopen(&mut self) -> Result<Sequence, LogError> {
        Ok(self.last())
    }

    fn trim(&mut self, _up_to: Sequence) -> Result<(), LogError> {
        Ok(())
    }

    fn reader(&self) -> Box<dyn LogRead> {
        let log = if self.swapped.load(Relaxed) { &self.forged } else { &self.honest };
        Box::new(MemoryLog(log.clone()))
    }

    fn snapshots(&self) -> Box<dyn Snapshots> {
        Box::new(NoSnapshots)
    }
}

/// A log whose second reading expires a hold that never existed.
fn swapped() -> Swapped {
    let honest = Ledger::open(spec(1)).log;
    let mut forged = honest.clone();
    let mut bytes = Vec::new();
    Record::Expired { hold: id(1) }.encode(TimeMs(OPENS), &mut bytes);
    forged.push(bytes);
    Swapped { honest, forged, swapped: Arc::default() }
}

fn pause() -> Operation {
    Operation::Pause
}

#[test]
fn the_worker_names_the_invariant_that_it_stopped_for() {
    let mut worker = Worker::open(swapped()).unwrap().0;
    assert!(worker.invariants().is_empty());
    let replies =
        worker.step(TimeMs(OPENS), &[Command::Operate { actor: by(), operation: pause() }]).to_vec();
    assert!(matches!(replies[..], [Reply::Unavailable(_)]), "{replies:?}");
    assert_eq!(worker.invariants(), ["INV-4", "INV-7"]);
    assert!(
        worker.stopped().is_some_and(|why| why.contains("breaks INV-4: no attempt")),
        "{:?}",
        worker.stopped()
    );
}

struct Still;

impl Clock for Still {
    fn now(&self) -> TimeMs {
        TimeMs(OPENS)
    }
}

#[test]
fn the_handle_names_the_invariant_that_the_worker_stopped_for() {
    let service =
        Service::start("launch".parse().unwrap(), swapped(), Arc::new(Still), Settings::default()).unwrap();
    let handle = service.handle();
    assert!(handle.invariants_broken().is_empty() && handle.stopped().is_none());
    drop(handle.operate(Actor::new("ops", ""), pause()));
    let started = Instant::now();
    while handle.stopped().is_none() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(handle.invariants_broken(), ["INV-4", "INV-7"]);
    service.stop();
}
