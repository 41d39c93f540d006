//! The service's side of an attempt: duplicates join one decision, the queue and the line before it
//! are bounded, queued attempts are decided before a stop, and gates know which shoppers they may
//! answer by themselves. The test holds up the log's appends, so that "meanwhile" is a state and
//! not a race.

use crate::ledger::{OPENS, by, id, key, spec};
use contracts::*;
use engines::clock::Clock;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots};
use sale::core::{Entry, Record};
use sale::service::{Handle, Receiver, Service, Settings};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver as Inbox, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot::error::TryRecvError;
use units::{Sequence, TimeMs};

/// Signals before each append, and waits for permission.
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

/// A clock that stands still unless the test moves it.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> TimeMs {
        TimeMs(OPENS + self.0.load(SeqCst))
    }
}

struct Rig {
    service: Service,
    handle: Handle,
    arrived: Inbox<u64>,
    let_on: Sender<()>,
    clock: Arc<TestClock>,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// Sends an attempt, and waits for as long as it takes.
    fn put(&self, n: u8) -> Receiver<Told> {
        self.handle.attempt(attempt(n, 1), u64::MAX)
    }

    fn position(&self, n: u8) -> Option<u64> {
        self.handle.position(id(n), key(n)).unwrap().map(|told| match told {
            Told::InLine(place) => place.position,
            Told::Answer(answer) => panic!("{answer:?}"),
        })
    }

    /// Lets the next append through.
    fn append(&self) -> u64 {
        let count = self.arrived.recv().unwrap();
        self.let_on.send(()).unwrap();
        count
    }

    fn operate(&self, operation: Operation) {
        let done = self.handle.operate(by(), operation);
        self.append();
        wait(done).unwrap();
    }
}

/// An open sale of `stock` phones, whose appends wait for [`Rig::let_on`].
fn rig(stock: u64, queue_max: usize) -> Rig {
    rig_with(stock, Settings { queue_max, line_max: 0, ..Settings::default() })
}

fn rig_with(stock: u64, settings: Settings) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open_dir(dir.path(), Options::new(Partition(0), LogId([1; 16]))).unwrap();
    let (arrived_in, arrived) = mpsc::channel();
    let (let_on, let_on_in) = mpsc::channel();
    let log = HeldLog { log, arrived: arrived_in, let_on: let_on_in };
    let clock = Arc::new(TestClock::default());
    let service = Service::start("test".parse().unwrap(), log, clock.clone(), settings).unwrap();
    let handle = service.handle();
    let defined = handle.operate(by(), Operation::Define(Box::new(spec(stock))));
    arrived.recv().unwrap();
    let_on.send(()).unwrap();
    assert_eq!(wait(defined), Ok(OperationDone::Ok));
    Rig { service, handle, arrived, let_on, clock, _dir: dir }
}

fn wait<T>(mut receiver: Receiver<T>) -> T {
    /// Far beyond what a busy machine needs.
    const PATIENCE: Duration = Duration::from_secs(30);
    let start = Instant::now();
    loop {
        match receiver.try_recv() {
            Err(TryRecvError::Empty) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            came => return came.expect("it comes").unwrap(),
        }
    }
}

fn answer(told: Receiver<Told>) -> Answer {
    match wait(told) {
        Told::Answer(answer) => answer,
        Told::InLine(place) => panic!("in line at {place:?}"),
    }
}

fn attempt(n: u8, quantity: u16) -> Attempt {
    let sealed = SealedShopper::new(b"x").unwrap();
    Attempt { id: id(n), shopper: key(n), sealed, tier: 0, basket: Basket::single(1, quantity) }
}

#[test]
fn duplicates_join_one_decision() {
    let rig = rig(5, 100);
    let first = rig.put(1);
    assert_eq!(rig.position(1), Some(0));
    assert_eq!(rig.arrived.recv().unwrap(), 1, "the grant is on its way to the disk");
    let duplicates: Vec<_> = (0..50).map(|_| rig.put(1)).collect();
    assert_eq!(rig.position(1), Some(0));
    assert_eq!(answer(rig.handle.attempt(attempt(1, 2), 0)), Answer::KeyReused, "the same key, another body");
    rig.let_on.send(()).unwrap();
    let granted = answer(first);
    assert!(matches!(granted, Answer::Granted(_)), "{granted:?}");
    for duplicate in duplicates {
        assert_eq!(answer(duplicate), granted);
    }
    let stats = wait(rig.handle.stats());
    assert_eq!((stats.items[1].held, stats.as_of), (1, Sequence(3)), "one unit, one entry");
    assert_eq!(rig.position(1), None);
    rig.service.stop();
}

#[test]
fn no_grant_is_answered_before_it_is_durable() {
    let rig = rig(5, 100);
    let mut granted = rig.put(1);
    rig.arrived.recv().unwrap();
    assert!(granted.try_recv().is_err(), "the append has not returned");
    let mut looked = rig.handle.lookup(id(1), key(1));
    assert!(looked.try_recv().is_err(), "neither may a look-up tell");
    rig.let_on.send(()).unwrap();
    assert!(matches!(answer(granted), Answer::Granted(_)));
    assert!(matches!(wait(looked), Found { answer: Answer::Granted(_), basket: Some(_) }));
    rig.service.stop();
}

#[test]
fn the_queue_is_bounded_and_tells_each_place() {
    let rig = rig(5, 2);
    let first = rig.put(1);
    rig.arrived.recv().unwrap();
    let (second, third) = (rig.put(2), rig.put(3));
    assert_eq!(
        (rig.position(2), rig.position(3)),
        (Some(1), Some(2)),
        "those on their way to the disk count"
    );
    let full = rig.put(4).blocking_recv().unwrap();
    assert!(matches!(full, Err(Unavailable::LineFull { .. })), "two wait, and no more may");
    let same = rig.put(3);
    assert_eq!(rig.position(4), None, "but a duplicate takes no place");
    let stats = rig.handle.stats();
    rig.let_on.send(()).unwrap();
    assert_eq!(rig.arrived.recv().unwrap(), 2, "both in one append");
    rig.let_on.send(()).unwrap();
    for told in [first, second, third, same] {
        assert!(matches!(answer(told), Answer::Granted(_)));
    }
    assert_eq!(wait(stats).items[1].held, 3, "operators get through a full house");
    rig.service.stop();
}

#[test]
fn a_queue_full_of_reads_answers_queue_full_and_not_stopping() {
    let rig = rig(5, 2);
    let first = rig.put(1);
    rig.arrived.recv().unwrap();
    let asked: Vec<_> = (0..4).map(|_| rig.handle.stats()).collect();
    let looked = rig.handle.lookup(id(1), key(1)).blocking_recv().unwrap();
    assert_eq!(looked, Err(Unavailable::QueueFull));
    let commanded = rig.handle.operate(by(), Operation::Pause).blocking_recv().unwrap();
    assert_eq!(commanded, Err(Unavailable::QueueFull));
    rig.let_on.send(()).unwrap();
    assert!(matches!(answer(first), Answer::Granted(_)));
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
fn queued_attempts_are_decided_before_a_stop() {
    let rig = rig(5, 100);
    let first = rig.put(1);
    rig.arrived.recv().unwrap();
    let second = rig.put(2);
    let stopping = Mutex::new(Some(rig.service));
    std::thread::scope(|scope| {
        scope.spawn(|| stopping.lock().unwrap().take().unwrap().stop());
        // Once it is stopping, new requests are refused at once.
        while !matches!(rig.handle.stats().try_recv(), Ok(Err(Unavailable::Passing(_)))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        rig.let_on.send(()).unwrap();
        rig.arrived.recv().unwrap();
        rig.let_on.send(()).unwrap();
    });
    assert!(matches!(answer(first), Answer::Granted(_)));
    assert!(matches!(answer(second), Answer::Granted(_)));
    let after = rig.handle.lookup(id(1), key(1)).blocking_recv().unwrap();
    assert!(matches!(after, Err(Unavailable::Passing(_))), "no caller waits for ever: {after:?}");
}

/// The deny list applies as soon as it is durable, and the sale is still asked about shoppers who
/// have something.
#[test]
fn a_gate_applies_a_deny_list_once_it_is_durable_and_until_it_is_cleared() {
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
    let granted = rig.put(1);
    rig.arrived.recv().unwrap();
    rig.let_on.send(()).unwrap();
    assert!(matches!(answer(granted), Answer::Granted(_)));
    let denied = operate(list(true, &[1, 2, 3]));
    assert_eq!(told(2), None, "the list is not durable");
    // A denied shopper asks meanwhile: an undecided attempt is the sale's to answer.
    let undecided = rig.put(3);
    rig.let_on.send(()).unwrap();
    assert_eq!(wait(denied), Ok(OperationDone::Ok));
    assert_eq!(told(2), Some((4, 4)), "once the upload is answered the list applies");
    assert_eq!(told(4), None, "an honest shopper");
    assert_eq!(told(1), None, "who has a hold gets the sale's own answer");
    let again = rig.put(1);
    assert!(matches!(answer(again), Answer::Granted(_)), "which is that they have it");
    assert!(matches!(answer(undecided), Answer::Refused { refusal: Refusal::NotEligible, .. }));
    assert_eq!(told(3), Some((4, 4)), "it is decided, and they have nothing");

    rig.handle.gate_refused(&[rig
        .handle
        .view()
        .unwrap()
        .not_eligible(key(2), 0)
        .map(GateRefusal::NotEligible)
        .unwrap()]);
    let cleared = operate(list(true, &[]));
    assert_eq!(told(2), Some((4, 4)), "as long as that is not durable");
    rig.let_on.send(()).unwrap();
    assert_eq!(wait(cleared), Ok(OperationDone::Ok));
    assert_eq!(told(2), None, "once the clearing is answered the shopper may buy");
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
    let said = NotEligibleRange { by, first_as_of: entry, last_as_of: entry, count: 1 };
    assert_eq!(log, Some(vec![said]), "what was said is logged, also once the list is another one");
    let report = sale::audit::audit(&mut *reopened.reader(), None).unwrap();
    assert!(report.holds(), "{report:#?}");
}

/// A sale whose queue has room for many, so that only the rate holds attempts back.
fn paced(stock: u64, per_second: u32, line_max: usize) -> Rig {
    let rig = rig_with(stock, Settings { line_max, ..Settings::default() });
    rig.operate(Operation::Rate { per_second });
    rig
}

#[test]
fn the_rate_applies_to_all_shoppers_and_the_line_moves_when_a_turn_is_due() {
    let rig = paced(9, 10, 100);
    let mut told: Vec<_> = (1..=4).map(|n| rig.put(n)).collect();
    assert_eq!(rig.append(), 1);
    assert!(matches!(answer(told.remove(0)), Answer::Granted(_)));
    assert_eq!([2, 3, 4].map(|n| rig.position(n)), [Some(0), Some(1), Some(2)]);
    let stats = wait(rig.handle.stats());
    assert_eq!((stats.queue, stats.line), (0, 3));
    assert_eq!((rig.handle.queue_len(), rig.handle.queue_max()), ((0, 3), (65_536, 100)));
    assert!(told[0].try_recv().is_err());
    // Only the clock wakes the worker.
    rig.clock.0.store(100, SeqCst);
    assert_eq!(rig.append(), 1);
    assert!(matches!(answer(told.remove(0)), Answer::Granted(_)));
    // Another rate counts at once.
    rig.operate(Operation::Rate { per_second: 0 });
    assert_eq!(rig.append(), 2);
    assert!(told.into_iter().all(|told| matches!(answer(told), Answer::Granted(_))));
    rig.service.stop();
}

#[test]
fn the_rate_holds_no_attempt_back_while_all_are_refused() {
    let rig = paced(1, 1, 100);
    // Both items, for one that is left could still be granted.
    rig.operate(Operation::Adjust { item: 0, delta: -1 });
    let winner = rig.put(1);
    let others: Vec<_> = (2..=9).map(|n| rig.put(n)).collect();
    rig.append();
    assert!(matches!(answer(winner), Answer::Granted(_)));
    // The clock stands still: no turn has come.
    for told in others {
        assert!(matches!(answer(told), Answer::Refused { refusal: Refusal::SoldOut, .. }));
    }
    assert!(!rig.handle.may_have(key(5)));
    rig.let_on.send(()).unwrap();
    rig.service.stop();
}

#[test]
fn attempts_in_line_keep_their_places_through_a_pause() {
    let rig = paced(9, 1, 100);
    let mut told: Vec<_> = (1..=3).map(|n| rig.put(n)).collect();
    rig.append();
    assert!(matches!(answer(told.remove(0)), Answer::Granted(_)));
    rig.operate(Operation::Pause);
    rig.clock.0.store(1500, SeqCst);
    // Had they been let go, they would be decided before this.
    assert_eq!(wait(rig.handle.stats()).line, 2);
    let behind = rig.put(4);
    assert_eq!([2, 3, 4].map(|n| rig.position(n)), [Some(0), Some(1), Some(2)]);
    rig.operate(Operation::Rate { per_second: 0 });
    rig.operate(Operation::Resume);
    rig.append();
    assert!(told.into_iter().chain([behind]).all(|told| matches!(answer(told), Answer::Granted(_))));
    rig.service.stop();
}

#[test]
fn a_shopper_sent_away_with_a_place_gets_the_refusal_when_asking() {
    let rig = paced(2, 1, 100);
    rig.operate(Operation::Adjust { item: 0, delta: -2 });
    let (winner, second) = (rig.put(1), rig.handle.attempt(attempt(2, 1), 0));
    rig.append();
    assert!(matches!(answer(winner), Answer::Granted(_)));
    assert!(matches!(wait(second), Told::InLine(_)));
    let third = rig.handle.attempt(Attempt { basket: Basket::single(1, 2), ..attempt(3, 1) }, 0);
    assert!(matches!(wait(third), Told::InLine(_)));
    rig.operate(Operation::Rate { per_second: 0 });
    rig.append();
    let found = wait(rig.handle.lookup(id(3), key(3)));
    assert_eq!(found.basket, None, "the sale keeps no refusal");
    let heard = rig.handle.position(id(3), key(3)).unwrap();
    assert!(
        matches!(heard, Some(Told::Answer(Answer::Refused { refusal: Refusal::SoldOut, .. }))),
        "{heard:?}"
    );
    assert_eq!(rig.handle.position(id(2), key(2)), Ok(None), "what it got is kept");
    assert_eq!(rig.handle.position(id(3), key(4)), Ok(None));
    rig.let_on.send(()).unwrap();
    rig.service.stop();
}

#[test]
fn a_stop_decides_every_attempt_in_line() {
    let rig = paced(9, 1, 100);
    let told: Vec<_> = (1..=5).map(|n| rig.put(n)).collect();
    assert_eq!(rig.append(), 1);
    let Rig { service, let_on, arrived, .. } = rig;
    std::thread::scope(|scope| {
        scope.spawn(|| service.stop());
        assert_eq!(arrived.recv().unwrap(), 4, "all at once");
        let_on.send(()).unwrap();
    });
    assert!(told.into_iter().all(|told| matches!(answer(told), Answer::Granted(_))));
}

#[test]
fn a_shopper_in_line_is_told_so_at_once_unless_the_sale_has_an_answer() {
    let rig = paced(9, 1, 2);
    let far = |n: u8| wait(rig.handle.attempt(attempt(n, 1), 500));
    let first = rig.handle.attempt(attempt(1, 1), 500);
    rig.append();
    let granted = answer(first);
    let follower = rig.handle.follow();
    let place = LinePlace { position: 0, wait_ms: Some(1000) };
    assert_eq!(far(2), Told::InLine(place));
    assert_eq!(far(2), Told::InLine(place), "and again");
    assert!(rig.handle.may_have(key(2)), "it is not decided");
    assert_eq!(follower.take(), [key(2)], "gates elsewhere do not answer them alone, and hear of them once");
    assert_eq!(rig.handle.follow().take(), [key(2)], "and those that come later neither");
    // In line too, where it does no harm; but its kept answer is sent.
    assert_eq!(far(1), Told::Answer(granted));
    let other = Attempt { basket: Basket::single(1, 2), ..attempt(1, 1) };
    assert_eq!(wait(rig.handle.attempt(other, 500)), Told::Answer(Answer::KeyReused));
    let full = rig.put(3).blocking_recv().unwrap();
    assert_eq!(full, Err(Unavailable::LineFull { wait_ms: Some(3000) }));
    rig.operate(Operation::Rate { per_second: 0 });
    rig.append();
    assert!(matches!(answer(rig.put(2)), Answer::Granted(_)));
    assert_eq!(answer(rig.put(1)), granted);

    // A full line, and it is not yet known whether the attempt was answered before: a caller out of
    // patience is told that the line is full.
    rig.operate(Operation::Rate { per_second: 1 });
    rig.clock.0.store(1000, SeqCst);
    let (fourth, _more) = (rig.put(4), [rig.put(5), rig.put(6)]);
    rig.arrived.recv().unwrap();
    let mut again = rig.put(1);
    assert!(again.try_recv().is_err());
    assert!(matches!(rig.handle.position(id(1), key(1)), Err(Unavailable::LineFull { .. })));
    rig.let_on.send(()).unwrap();
    assert!(matches!(answer(fourth), Answer::Granted(_)));
    assert_eq!((answer(again), rig.position(1)), (granted, None));
    rig.let_on.send(()).unwrap();
    rig.service.stop();
}

/// Returns the answer that a gate would give by itself.
fn told_alone(handle: &Handle, n: u8) -> Option<SoldOutRange> {
    let said = handle.view().unwrap().sold_out(&Basket::single(1, 1))?;
    (!handle.may_have(key(n))).then_some(said)
}

#[test]
fn a_gate_refuses_by_itself_only_shoppers_who_have_nothing_in_the_sale() {
    let rig = rig(1, 100);
    let winner = rig.put(1);
    rig.arrived.recv().unwrap();
    assert_eq!(told_alone(&rig.handle, 2), None, "the last unit is not durably gone");
    assert!(rig.handle.may_have(key(1)), "an attempt that is not decided");
    rig.let_on.send(()).unwrap();
    let Answer::Granted(hold) = answer(winner) else { panic!("the first in line") };
    let said = told_alone(&rig.handle, 2).expect("it is sold out, and there is no waitlist place");
    assert_eq!((said.first_as_of, said.last_as_of), (hold.granted_as_of, hold.granted_as_of));
    assert_eq!(told_alone(&rig.handle, 1), None, "who has a hold gets the sale's own answer");
    assert_eq!(rig.handle.view().unwrap().sold_out(&Basket::single(1, 2)), None, "perhaps over a limit");

    // Refusals by gates are logged, also after a restock, and by the sale's end at the latest.
    rig.handle.gate_refused(&[GateRefusal::SoldOut(said); 2]);
    // What no view said is not logged: the audit would call it a false refusal for ever.
    let (first_as_of, last_as_of) = (said.first_as_of, said.last_as_of);
    let not_eligible = |by| NotEligibleRange { by, first_as_of, last_as_of, count: 1 };
    rig.handle.gate_refused(&[
        GateRefusal::SoldOut(SoldOutRange { item: 0, ..said }),
        GateRefusal::SoldOut(SoldOutRange { item: 9, ..said }),
        GateRefusal::SoldOut(SoldOutRange { first_as_of: Sequence(1), ..said }),
        GateRefusal::SoldOut(SoldOutRange { last_as_of: Sequence(last_as_of.0 + 1), ..said }),
        GateRefusal::NotEligible(not_eligible(IneligibleBy::DenyList)),
        GateRefusal::NotEligible(not_eligible(IneligibleBy::Tier)),
    ]);
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
        match Entry::decode(bytes).unwrap().record {
            Record::GateRefusals { entries } => assert_eq!(log.replace(entries), None, "one report"),
            Record::GateNotEligible { entries } => panic!("no rule bars anybody: {entries:?}"),
            _ => {}
        }
        std::ops::ControlFlow::Continue(())
    });
    read.unwrap();
    assert_eq!(log, Some(vec![SoldOutRange { count: 2, ..said }]));

    // After a restart, the filter knows at once which shoppers have something.
    let service = Service::start(
        "test".parse().unwrap(),
        reopened,
        Arc::new(TestClock::default()),
        Settings::default(),
    )
    .unwrap();
    assert!(service.handle().may_have(key(1)) && !service.handle().may_have(key(2)));
    service.stop();
}
