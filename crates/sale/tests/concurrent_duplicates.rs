//! The service's side of an attempt: duplicates join one decision, the queue is bounded, a stop lets what is queued finish, and
//! gates know whom they may answer by themselves.
//! The log's appends are held up by the test, so that "meanwhile" is a state and not a race.

mod ledger;

use contracts::*;
use engines::clock::Clock;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots};
use ledger::{OPENS, by, id, key, spec};
use sale::core::{Entry, Record};
use sale::service::{Handle, Receiver, Service, Settings};
use std::sync::mpsc::{self, Receiver as Inbox, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use units::{Sequence, TimeMs};

/// Asks before each append, and waits to be let.
struct HeldLog<L> {
    log: L,
    arrived: Sender<u64>,
    let_on: Inbox<()>,
}

impl<L: Log> Log for HeldLog<L> {
    fn last(&self) -> Sequence {
        self.log.last()
    }
    fn append(&mut self, expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        self.arrived.send(batch.count()).unwrap();
        self.let_on.recv().unwrap();
        self.log.append(expected, batch)
    }
    fn reopen(&mut self) -> Result<Sequence, LogError> {
        self.log.reopen()
    }
    fn trim(&mut self, up_to: Sequence) -> Result<(), LogError> {
        self.log.trim(up_to)
    }
    fn reader(&self) -> Box<dyn LogRead> {
        self.log.reader()
    }
    fn snapshots(&self) -> Box<dyn Snapshots> {
        self.log.snapshots()
    }
}

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> TimeMs {
        TimeMs(OPENS)
    }
}

struct Rig {
    service: Service,
    handle: Handle,
    arrived: Inbox<u64>,
    let_on: Sender<()>,
    _dir: tempfile::TempDir,
}

/// An open sale of `stock` phones, whose appends wait for [`Rig::let_on`].
fn rig(stock: u64, queue_max: usize) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_dir(dir.path(), Options::new(Partition(0), LogId([1; 16]))).unwrap();
    let (arrived_in, arrived) = mpsc::channel();
    let (let_on, let_on_in) = mpsc::channel();
    let log = HeldLog { log, arrived: arrived_in, let_on: let_on_in };
    let settings = Settings { queue_max, ..Settings::default() };
    let service = Service::start("test".parse().unwrap(), log, Arc::new(StoppedClock), settings).unwrap();
    let handle = service.handle();
    let defined = handle.operate(by(), Operation::Define(Box::new(spec(stock))));
    arrived.recv().unwrap();
    let_on.send(()).unwrap();
    assert_eq!(wait(defined), Ok(OperationDone::Ok));
    Rig { service, handle, arrived, let_on, _dir: dir }
}

fn wait<T>(receiver: Receiver<T>) -> T {
    receiver.blocking_recv().unwrap().unwrap()
}

fn attempt(n: u8, quantity: u16) -> Attempt {
    let sealed = SealedShopper::new(b"x").unwrap();
    Attempt { id: id(n), shopper: key(n), sealed, tier: 0, basket: Basket::single(1, quantity) }
}

#[test]
fn duplicates_join_one_decision() {
    let rig = rig(5, 100);
    let (position, first) = rig.handle.attempt(attempt(1, 1)).unwrap();
    assert_eq!(position, 0);
    assert_eq!(rig.arrived.recv().unwrap(), 1, "the grant is on its way to the disk");
    let duplicates: Vec<_> = (0..50).map(|_| rig.handle.attempt(attempt(1, 1)).unwrap().1).collect();
    assert_eq!(rig.handle.position(id(1), key(1)), Some(0));
    assert_eq!(
        wait(rig.handle.attempt(attempt(1, 2)).unwrap().1),
        Answer::KeyReused,
        "the same key, another body"
    );
    rig.let_on.send(()).unwrap();
    let answer = wait(first);
    assert!(matches!(answer, Answer::Granted(_)), "{answer:?}");
    for duplicate in duplicates {
        assert_eq!(wait(duplicate), answer);
    }
    let stats = wait(rig.handle.stats());
    assert_eq!((stats.items[1].held, stats.as_of), (1, Sequence(3)), "one unit, one entry");
    assert_eq!(rig.handle.position(id(1), key(1)), None);
    rig.service.stop();
}

#[test]
fn nobody_hears_of_a_grant_that_is_not_durable() {
    let rig = rig(5, 100);
    let (_, mut granted) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    assert!(granted.try_recv().is_err(), "the append has not returned");
    let mut looked = rig.handle.lookup(id(1), key(1));
    assert!(looked.try_recv().is_err(), "neither may a look-up tell");
    rig.let_on.send(()).unwrap();
    assert!(matches!(wait(granted), Answer::Granted(_)));
    assert!(matches!(wait(looked), Found { answer: Answer::Granted(_), basket: Some(_) }));
    rig.service.stop();
}

#[test]
fn the_queue_is_bounded_and_the_place_in_it_is_told() {
    let rig = rig(5, 2);
    let (_, first) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    let (second_position, second) = rig.handle.attempt(attempt(2, 1)).unwrap();
    let (third_position, third) = rig.handle.attempt(attempt(3, 1)).unwrap();
    assert_eq!((second_position, third_position), (1, 2), "those on their way to the disk count");
    assert!(rig.handle.attempt(attempt(4, 1)).is_none(), "two wait, and no more may");
    assert!(rig.handle.attempt(attempt(3, 1)).is_some(), "but a duplicate takes no place");
    let stats = rig.handle.stats();
    rig.let_on.send(()).unwrap();
    assert_eq!(rig.arrived.recv().unwrap(), 2, "both in one append");
    rig.let_on.send(()).unwrap();
    for answer in [first, second, third] {
        assert!(matches!(wait(answer), Answer::Granted(_)));
    }
    assert_eq!(wait(stats).items[1].held, 3, "operators get through a full house");
    rig.service.stop();
}

#[test]
fn a_queue_that_is_full_of_questions_says_so_and_not_that_it_stops() {
    let rig = rig(5, 2);
    let (_, first) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    let asked: Vec<_> = (0..4).map(|_| rig.handle.stats()).collect();
    let looked = rig.handle.lookup(id(1), key(1)).blocking_recv().unwrap();
    assert_eq!(looked, Err(Unavailable::QueueFull));
    let commanded = rig.handle.operate(by(), Operation::Pause).blocking_recv().unwrap();
    assert_eq!(commanded, Err(Unavailable::QueueFull));
    rig.let_on.send(()).unwrap();
    assert!(matches!(wait(first), Answer::Granted(_)));
    for stats in asked {
        assert_eq!(wait(stats).items[1].held, 1);
    }
    assert!(
        matches!(wait(rig.handle.lookup(id(1), key(1))).answer, Answer::Granted(_)),
        "there is room again"
    );
    rig.service.stop();
}

#[test]
fn a_stop_lets_what_is_queued_finish() {
    let rig = rig(5, 100);
    let (_, first) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    let (_, second) = rig.handle.attempt(attempt(2, 1)).unwrap();
    let stopping = Mutex::new(Some(rig.service));
    std::thread::scope(|scope| {
        scope.spawn(|| stopping.lock().unwrap().take().unwrap().stop());
        // Once it is stopping, who asks is turned away at once.
        while !matches!(rig.handle.stats().try_recv(), Ok(Err(Unavailable::Passing(_)))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        rig.let_on.send(()).unwrap();
        rig.arrived.recv().unwrap();
        rig.let_on.send(()).unwrap();
    });
    assert!(matches!(wait(first), Answer::Granted(_)));
    assert!(matches!(wait(second), Answer::Granted(_)));
    let after = rig.handle.lookup(id(1), key(1)).blocking_recv().unwrap();
    assert!(matches!(after, Err(Unavailable::Passing(_))), "nobody waits for ever: {after:?}");
}

/// The same for the deny list: it is known as soon as it is durable, and who has something is asked about all the same.
#[test]
fn a_gate_knows_the_deny_list_when_it_is_durable_and_until_it_is_cleared() {
    let rig = rig(5, 100);
    let operate = |operation: Operation| {
        let done = rig.handle.operate(by(), operation);
        rig.arrived.recv().unwrap();
        done
    };
    let list = |clear, shoppers: &[u8]| {
        let shoppers = shoppers.iter().map(|n| key(*n)).collect();
        Operation::List { list: ListKind::Denied, clear, shoppers }
    };
    let told = |n: u8| {
        let view = rig.handle.view().unwrap();
        let said = view.alone(key(n), 0, &Basket::single(1, 1), || rig.handle.may_have(key(n)))?;
        assert_eq!(said.answer(), Answer::Refused { refusal: Refusal::NotEligible, as_of: view.as_of });
        Some((said.entries().0.0, said.entries().1.0))
    };
    let (_, granted) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    rig.let_on.send(()).unwrap();
    assert!(matches!(wait(granted), Answer::Granted(_)));
    let denied = operate(list(true, &[1, 2, 3]));
    assert_eq!(told(2), None, "the list is not durable");
    // Somebody on it asks meanwhile: what is not decided is the sale's to answer.
    let (_, undecided) = rig.handle.attempt(attempt(3, 1)).unwrap();
    rig.let_on.send(()).unwrap();
    assert_eq!(wait(denied), Ok(OperationDone::Ok));
    assert_eq!(told(2), Some((4, 4)), "whoever hears that the list is taken finds it in force");
    assert_eq!(told(4), None, "an honest shopper");
    assert_eq!(told(1), None, "who has a hold gets the sale's own answer");
    let (_, again) = rig.handle.attempt(attempt(1, 1)).unwrap();
    assert!(matches!(wait(again), Answer::Granted(_)), "which is that they have it");
    assert!(matches!(wait(undecided), Answer::Refused { refusal: Refusal::NotEligible, .. }));
    assert_eq!(told(3), Some((4, 4)), "it is decided, and they have nothing");

    rig.handle.said_alone(&[rig
        .handle
        .view()
        .unwrap()
        .not_eligible(key(2), 0)
        .map(SaidAlone::NotEligible)
        .unwrap()]);
    let cleared = operate(list(true, &[]));
    assert_eq!(told(2), Some((4, 4)), "as long as that is not durable");
    rig.let_on.send(()).unwrap();
    assert_eq!(wait(cleared), Ok(OperationDone::Ok));
    assert_eq!(told(2), None, "whoever hears that it is cleared may buy at once");
    let (mut log, handle, let_on, dir) = (None, rig.handle.clone(), rig.let_on.clone(), &rig._dir);
    let_on.send(()).unwrap();
    rig.service.stop();
    drop(handle);
    let reopened = EmbeddedLog::open_dir(dir.path(), Options::new(Partition(0), LogId([1; 16]))).unwrap();
    let read = reopened.reader().read(Sequence(1), &mut |_, bytes| {
        if let Record::GateNotEligible { entries } = Entry::decode(bytes).unwrap().record {
            log = Some(entries);
        }
        std::ops::ControlFlow::Continue(())
    });
    read.unwrap();
    let (by, entry) = (IneligibleBy::DenyList, Sequence(4));
    let said = NotEligibleCount { by, first_as_of: entry, last_as_of: entry, count: 1 };
    assert_eq!(log, Some(vec![said]), "what was said is logged, also once the list is another one");
    let report = sale::audit::audit(&mut *reopened.reader(), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

/// Takes what a shopper would be told by a gate alone.
fn told_alone(handle: &Handle, n: u8) -> Option<SoldOutCount> {
    let said = handle.view().unwrap().sold_out(&Basket::single(1, 1))?;
    (!handle.may_have(key(n))).then_some(said)
}

#[test]
fn a_gate_answers_by_itself_whoever_has_nothing_and_nobody_else() {
    let rig = rig(1, 100);
    let (_, winner) = rig.handle.attempt(attempt(1, 1)).unwrap();
    rig.arrived.recv().unwrap();
    assert_eq!(told_alone(&rig.handle, 2), None, "the last unit is not durably gone");
    assert!(rig.handle.may_have(key(1)), "an attempt that is not decided");
    rig.let_on.send(()).unwrap();
    let Answer::Granted(hold) = wait(winner) else { panic!("the first in line") };
    let said = told_alone(&rig.handle, 2).expect("it is sold out, and there is no waitlist place");
    assert_eq!((said.first_as_of, said.last_as_of), (hold.granted_as_of, hold.granted_as_of));
    assert_eq!(told_alone(&rig.handle, 1), None, "who has a hold gets the sale's own answer");
    assert_eq!(rig.handle.view().unwrap().sold_out(&Basket::single(1, 2)), None, "perhaps over a limit");

    // What was said is logged, also behind a restock, and by the sale's end at the latest.
    rig.handle.said_alone(&[SaidAlone::SoldOut(said); 2]);
    let released = rig.handle.operate(by(), Operation::Release { hold: id(1) });
    rig.arrived.recv().unwrap();
    rig.let_on.send(()).unwrap();
    wait(released).unwrap();
    assert_eq!(told_alone(&rig.handle, 2), None, "the unit is back");
    assert!(rig.handle.may_have(key(1)), "their attempt is still kept");
    let (mut log, handle, let_on, dir) = (None, rig.handle, rig.let_on, rig._dir);
    let_on.send(()).unwrap();
    rig.service.stop();
    drop(handle);
    let reopened = EmbeddedLog::open_dir(dir.path(), Options::new(Partition(0), LogId([1; 16]))).unwrap();
    let read = reopened.reader().read(Sequence(1), &mut |_, bytes| {
        if let Record::GateRefusals { entries } = Entry::decode(bytes).unwrap().record {
            log = Some(entries);
        }
        std::ops::ControlFlow::Continue(())
    });
    read.unwrap();
    assert_eq!(log, Some(vec![SoldOutCount { count: 2, ..said }]));

    // After a restart, who has something is known at once.
    let service =
        Service::start("test".parse().unwrap(), reopened, Arc::new(StoppedClock), Settings::default())
            .unwrap();
    assert!(service.handle().may_have(key(1)) && !service.handle().may_have(key(2)));
    service.stop();
}
