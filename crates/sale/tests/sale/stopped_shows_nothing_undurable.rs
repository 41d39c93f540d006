//! A worker that has stopped holds decisions that never became durable: neither its view nor its
//! sequence may show them, for after the restart they will not have happened. What is shown is the
//! last durable state, and that nothing is sold now.

use crate::ledger::spec;
use contracts::{Actor, Operation, SaleState};
use engines::clock::{Clock, SteadyClock};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use sale::service::{Service, Settings};
use sim::disk::SimDisk;
use std::sync::Arc;

/// A sale on a disk that can fail, with a log of small segments.
fn start() -> (SimDisk, Arc<dyn Clock>, Service) {
    let disk = SimDisk::new();
    let options = Options::new(Partition(0), LogId(*b"0123456789abcdef"));
    let log = EmbeddedLog::open(disk.clone(), Options { segment_bytes: 16 << 10, ..options }).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::start());
    let sale = Service::start("launch".parse().unwrap(), log, clock.clone(), Settings::default()).unwrap();
    (disk, clock, sale)
}

#[test]
fn a_round_whose_opening_is_in_doubt_is_not_shown_as_open() {
    let (disk, clock, sale) = start();
    let handle = sale.handle();
    let mut opens_later = spec(5);
    opens_later.rounds[0].opens_at = clock.now().plus(units::DurationMs::seconds(3600));
    opens_later.rounds[0].closes_at = clock.now().plus(units::DurationMs::seconds(7200));
    opens_later.rounds.truncate(1);
    let operator = || Actor::new("test", "");
    let define = Operation::Define(Box::new(opens_later));
    handle.operate(operator(), define).blocking_recv().unwrap().unwrap().unwrap();
    let before = (*handle.view().unwrap()).clone();
    assert_eq!(before.state, SaleState::Scheduled);

    // The sync of the opening fails, and so does the segment that would replace the one in doubt.
    disk.fail_next_sync(1);
    disk.fail_next_dir_sync();
    let said = handle.operate(operator(), Operation::Open).blocking_recv().unwrap();
    assert!(said.is_err(), "{said:?}");
    assert!(handle.stopped().is_some());
    let after = (*handle.view().unwrap()).clone();
    assert_eq!((after.rounds_opened, after.as_of), (before.rounds_opened, before.as_of));
    assert_eq!(after.state, SaleState::Paused, "it sells nothing now, and says so");
    assert_eq!(*handle.sequence().borrow(), before.as_of);
    sale.stop();
}

#[test]
fn a_sale_whose_log_cannot_be_read_for_a_while_is_shown_as_paused() {
    let (disk, clock, sale) = start();
    let handle = sale.handle();
    let mut open_now = spec(5);
    open_now.rounds[0].opens_at = clock.now();
    open_now.rounds[0].closes_at = clock.now().plus(units::DurationMs::seconds(7200));
    open_now.rounds.truncate(1);
    let operator = || Actor::new("test", "");
    let operate = |operation| handle.operate(operator(), operation).blocking_recv().unwrap();
    operate(Operation::Define(Box::new(open_now))).unwrap().unwrap();
    let wait_for = |state: SaleState| {
        let began = std::time::Instant::now();
        while handle.view().unwrap().state != state {
            assert!(began.elapsed().as_secs() < 20, "{:?}", handle.view());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    wait_for(SaleState::Open);

    // The write fails, and there is no file handle to read the log again.
    disk.fail_next_sync(1);
    disk.fail_opens(true);
    let said = operate(Operation::Rate { per_second: 7 });
    assert!(said.is_err(), "{said:?}");
    let view = handle.view().unwrap();
    assert_eq!((view.state, view.disk_full, handle.stopped()), (SaleState::Paused, true, None));

    disk.fail_opens(false);
    wait_for(SaleState::Open);
    assert!(!handle.view().unwrap().disk_full);
    operate(Operation::Rate { per_second: 7 }).unwrap().unwrap();
    sale.stop();
}
