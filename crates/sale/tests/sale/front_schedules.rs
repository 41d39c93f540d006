//! The sale's own front under a model checker: in each of many schedules another thread goes on
//! between any two uses of what callers, gates and the worker share. Every attempt is answered,
//! once, however often and by however many it is sent; a wake-up that is lost is a deadlock.
//!
//! The worker, the log and its disk are the real ones, and the log is read at the end.

use crate::ledger::{CLOSES, OPENS, by, id, key, spec};
use crate::service::{Handle, Receiver, Service, Settings};
use crate::sync::ModelClock;
use contracts::*;
use engines::clock::Clock;
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::Log;
use sale::core::{Entry, Record};
use sale::{Command, Worker};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, Runner, thread};
use sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use units::{Sequence, TimeMs};

/// Schedules of each kind: at random, and by priorities that change at a few points, which meet the
/// orders that need a thread to be held back for long.
const AT_RANDOM: usize = 1500;
const BY_PRIORITY: usize = 1500;
const PRIORITY_CHANGES: usize = 4;

const CASE: u16 = 1;
const PATIENT: u64 = u64::MAX;

fn in_many_schedules(run: impl Fn() + Send + Sync + 'static) {
    let run = Arc::new(run);
    let config = || {
        let mut config = Config::new();
        // The worker keeps a step on its stack.
        config.stack_size = 1 << 20;
        config
    };
    let again = Arc::clone(&run);
    Runner::new(RandomScheduler::new(AT_RANDOM), config()).run(move || again());
    Runner::new(PctScheduler::new(PRIORITY_CHANGES, BY_PRIORITY), config()).run(move || run());
}

/// Takes answers by their tokens, and wakes those who wait for them.
#[derive(Default)]
struct Inbox {
    mail: Mutex<BTreeMap<u64, Result<Told, Unavailable>>>,
    came: Condvar,
}

impl Mailbox for Inbox {
    fn deliver(&self, mail: &mut Vec<Mail>) {
        let mut inbox = self.mail.lock().unwrap();
        for Mail { token, said } in mail.drain(..) {
            let before = inbox.insert(token, said);
            assert!(before.is_none(), "token {token} is answered twice");
        }
        self.came.notify_all();
    }
}

impl Inbox {
    fn wait_for(&self, token: u64) -> Result<Told, Unavailable> {
        let mut mail = self.mail.lock().unwrap();
        loop {
            match mail.get(&token) {
                Some(said) => return said.clone(),
                None => mail = self.came.wait(mail).unwrap(),
            }
        }
    }
}

/// A running sale, and the disk of its log.
struct Rig {
    service: Service,
    disk: SimDisk,
}

fn log(disk: &SimDisk) -> EmbeddedLog<SimDisk> {
    EmbeddedLog::open(disk.clone(), Options::new(Partition(0), LogId([7; 16]))).unwrap()
}

impl Rig {
    /// An open sale of `stock` phones and cases, after these commands of an operator.
    fn open(stock: u64, (queue_max, line_max): (usize, usize), operations: &[Operation]) -> Self {
        ModelClock::set(OPENS);
        let disk = SimDisk::new();
        {
            let mut worker = Worker::open(log(&disk)).unwrap().0;
            let mut spec = spec(stock);
            spec.waitlist = Waitlist::Places(0);
            let operations = [&[Operation::Define(Box::new(spec))][..], operations].concat();
            let commands: Vec<Command> =
                operations.into_iter().map(|operation| Command::Operate { actor: by(), operation }).collect();
            worker.step(TimeMs(OPENS - 1), &commands);
            worker.step(TimeMs(OPENS), &[]);
            assert!(worker.machine().view(&"sale".parse().unwrap(), false).unwrap().state == SaleState::Open);
        }
        let settings = Settings { queue_max, line_max, ..Settings::default() };
        let clock = Arc::new(ModelClock);
        let service = Service::start("sale".parse().unwrap(), log(&disk), clock, settings).unwrap();
        Self { service, disk }
    }

    fn handle(&self) -> Handle {
        self.service.handle()
    }

    /// Stops the sale, whose front must have nothing left; what its log says then.
    fn stop(self) -> Logged {
        let handle = self.handle();
        self.service.stop();
        assert_eq!(handle.queue_len(), (0, 0));
        Logged::read(&self.disk)
    }
}

/// What the log says of attempts and of gates' refusals.
#[derive(Debug, Default)]
struct Logged {
    granted: Vec<(AttemptId, Sequence, TimeMs)>,
    by_gates: u64,
}

impl Logged {
    fn read(disk: &SimDisk) -> Self {
        let log = log(disk);
        let mut found = Self::default();
        let read = log.reader().read(Sequence(1), &mut |sequence, bytes| {
            let entry = Entry::decode(bytes).unwrap();
            match entry.record {
                Record::Granted { attempt, .. } => found.granted.push((attempt.id, sequence, entry.at)),
                Record::GateRefusals { entries } => {
                    found.by_gates += entries.iter().map(|range| range.count).sum::<u64>();
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
        read.unwrap();
        let report = sale::audit::audit(&mut *log.reader(), None).unwrap();
        assert!(report.holds(), "{:?}", report.invariants);
        found
    }

    fn granted(&self, attempt: AttemptId) -> Option<Sequence> {
        let mut all = self.granted.iter().filter(|(id, ..)| *id == attempt);
        let first = all.next().map(|(_, sequence, _)| *sequence);
        assert!(all.next().is_none(), "{attempt:?} is granted twice");
        first
    }
}

/// Shopper `n`'s attempt `n`, of one case.
fn attempt(n: u8) -> Attempt {
    let sealed = SealedShopper::new(b"x").unwrap();
    Attempt { id: id(n), shopper: key(n), sealed, tier: 0, basket: Basket::single(CASE, 1) }
}

fn send(handle: &Handle, inbox: &Arc<Inbox>, batch: &[(u64, u8)]) {
    let to: Arc<dyn Mailbox> = Arc::clone(inbox) as _;
    let mut batch = batch.iter().map(|(token, n)| (*token, attempt(*n))).collect();
    handle.attempts(&to, PATIENT, &mut batch);
}

fn answer(told: Result<Told, Unavailable>) -> Answer {
    match told {
        Ok(Told::Answer(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn hear<T>(receiver: Receiver<T>) -> Result<T, Unavailable> {
    block_on(receiver).expect("what was accepted is answered")
}

fn operate(handle: &Handle, operation: Operation) {
    hear(handle.operate(by(), operation)).unwrap().unwrap();
}

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn every_caller_of_the_same_attempt_hears_the_same_and_no_wake_up_is_lost() {
    in_many_schedules(|| {
        let rig = Rig::open(100, (100, 0), &[]);
        let callers: Vec<_> = (0..3)
            .map(|caller: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    // One of its own, and one that all send; the worker may sleep in between.
                    let own = caller + 1;
                    [own, 9, own + 10].map(|n| {
                        send(&handle, &inbox, &[(n.into(), n)]);
                        (n, answer(inbox.wait_for(n.into())))
                    })
                })
            })
            .collect();
        let heard: Vec<_> = join(callers).concat();
        let log = rig.stop();
        for (n, answer) in &heard {
            let Answer::Granted(hold) = answer else { panic!("{n}: {answer:?}") };
            assert_eq!(log.granted(id(*n)), Some(hold.granted_as_of));
        }
        assert_eq!(log.granted.len(), 7);
    });
}

#[test]
fn a_line_before_a_full_queue_lets_each_in_once_and_in_order() {
    in_many_schedules(|| {
        let rig = Rig::open(100, (1, 3), &[]);
        let callers: Vec<_> = (0..3)
            .map(|caller: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    let (first, second) = (2 * caller, 2 * caller + 1);
                    send(&handle, &inbox, &[(0, first), (1, second)]);
                    let mut said = [inbox.wait_for(0), inbox.wait_for(1)];
                    // The order of those that found room together.
                    let together = said.iter().all(Result::is_ok);
                    for (n, said) in [first, second].into_iter().zip(&mut said) {
                        let mut token = u64::from(n) * 1000 + 2;
                        while let Err(Unavailable::LineFull { .. }) = said {
                            thread::yield_now();
                            send(&handle, &inbox, &[(token, n)]);
                            *said = inbox.wait_for(token);
                            token += 1;
                        }
                        assert!(matches!(answer(said.clone()), Answer::Granted(_)));
                    }
                    (first, second, together)
                })
            })
            .collect();
        let handle = rig.handle();
        let onlooker = thread::spawn(move || {
            let mut before = u64::MAX;
            for _ in 0..6 {
                let (queue, line) = handle.queue_len();
                assert!(queue <= 2 && line <= 3, "{queue} in the queue and at the worker, {line} in line");
                if let Ok(Some(Told::InLine(place))) = handle.position(id(3), key(3)) {
                    assert!(place.position <= before, "{place:?} after {before}");
                    before = place.position;
                }
                thread::yield_now();
            }
        });
        let orders = join(callers);
        onlooker.join().unwrap();
        let log = rig.stop();
        assert_eq!(log.granted.len(), 6);
        for (first, second, together) in orders {
            assert!(log.granted(id(first)) < log.granted(id(second)) || !together);
        }
    });
}

/// While the worker sleeps until its next turn, or without one, no attempt waits for ever.
#[test]
fn a_rate_lets_in_one_after_the_other_and_forgets_none() {
    const TURN_MS: u64 = 100;
    in_many_schedules(|| {
        let rig = Rig::open(100, (100, 100), &[Operation::Rate { per_second: 10 }]);
        let callers: Vec<_> = (0..3)
            .map(|n: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    send(&handle, &inbox, &[(0, n)]);
                    assert!(matches!(answer(inbox.wait_for(0)), Answer::Granted(_)));
                })
            })
            .collect();
        join(callers);
        let log = rig.stop();
        assert_eq!(log.granted.len(), 3);
        for (turns, (.., at)) in (0..).zip(&log.granted) {
            assert!(at.0 >= OPENS + turns * TURN_MS, "{:?}", log.granted);
        }
        assert!(ModelClock.now().0 < CLOSES);
    });
}

#[test]
fn a_sale_that_is_stopped_at_any_time_answers_all_that_it_has_accepted() {
    in_many_schedules(|| {
        let rig = Rig::open(100, (2, 2), &[]);
        let callers: Vec<_> = (0..2)
            .map(|caller: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    let (first, second) = (2 * caller, 2 * caller + 1);
                    send(&handle, &inbox, &[(0, first), (1, second)]);
                    let asked = handle.stats();
                    let said = [(first, inbox.wait_for(0)), (second, inbox.wait_for(1))];
                    if let Err(why) = hear(asked) {
                        assert!(matches!(why, Unavailable::Passing(_) | Unavailable::QueueFull), "{why:?}");
                    }
                    said
                })
            })
            .collect();
        let (handle, disk) = (rig.handle(), rig.disk.clone());
        rig.service.stop();
        let heard: Vec<_> = join(callers).concat();
        assert_eq!(handle.queue_len(), (0, 0));
        let log = Logged::read(&disk);
        for (n, said) in heard {
            let told = match said {
                Ok(Told::Answer(Answer::Granted(hold))) => Some(hold.granted_as_of),
                Err(Unavailable::Passing(_) | Unavailable::LineFull { .. }) => None,
                other => panic!("{n}: {other:?}"),
            };
            assert_eq!(told, log.granted(id(n)), "{n}");
        }
    });
}

/// A shopper who was told a place, and asks again and again, is told the place or the outcome, and
/// never that nothing is known.
#[test]
fn between_the_line_and_the_outcome_no_shopper_is_unknown() {
    in_many_schedules(|| {
        let rig = Rig::open(2, (1, 3), &[]);
        let shoppers: Vec<_> = (0..4)
            .map(|n: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    let to: Arc<dyn Mailbox> = Arc::clone(&inbox) as _;
                    handle.attempts(&to, 0, &mut vec![(0, attempt(n))]);
                    let mut told = match inbox.wait_for(0) {
                        Ok(told) => told,
                        Err(Unavailable::LineFull { .. }) => return (n, None),
                        Err(other) => panic!("{other}"),
                    };
                    while let Told::InLine(_) = told {
                        thread::yield_now();
                        told = match handle.position(id(n), key(n)).unwrap() {
                            Some(told) => told,
                            None => Told::Answer(hear(handle.lookup(id(n), key(n))).unwrap().answer),
                        };
                    }
                    let Told::Answer(answer) = told else { unreachable!("it is not in line") };
                    match answer {
                        Answer::Granted(hold) => (n, Some(hold.granted_as_of)),
                        Answer::Refused { refusal: Refusal::SoldOut, .. } => (n, None),
                        other => panic!("{n}: {other:?}"),
                    }
                })
            })
            .collect();
        let heard = join(shoppers);
        let log = rig.stop();
        assert_eq!(log.granted.len(), 2);
        for (n, granted) in heard {
            assert_eq!(log.granted(id(n)), granted, "{n}");
        }
    });
}

/// Gates answer from the view while the last unit is sold, given back and sold again, and while the
/// disk has no room. What they say is true, and is logged: each refusal once.
#[test]
fn what_gates_say_by_themselves_is_true_and_logged_once() {
    in_many_schedules(|| {
        let rig = Rig::open(1, (10, 0), &[]);
        let said = Arc::new(AtomicU64::new(0));
        let buyers: Vec<_> = (1..3)
            .map(|n: u8| {
                let handle = rig.handle();
                thread::spawn(move || {
                    let told = answer(hear(handle.attempt(attempt(n), PATIENT)));
                    // Whatever the shopper has got, the view that is shown now knows of it.
                    if let Answer::Granted(hold) = told {
                        let view = handle.view().unwrap();
                        assert!(view.as_of >= hold.granted_as_of);
                        assert!(handle.may_have(key(n)));
                        assert!(*handle.sequence().borrow() >= hold.granted_as_of);
                    }
                    n
                })
            })
            .collect();
        let gates: Vec<_> = (0..2)
            .map(|_| {
                let (handle, said) = (rig.handle(), Arc::clone(&said));
                thread::spawn(move || {
                    let mut told = Vec::new();
                    for n in [1, 2, 3, 1, 2, 3] {
                        let view = handle.view().unwrap();
                        let basket = Basket::single(CASE, 1);
                        if let Some(refusal) = view.alone(key(n), 0, &basket, || handle.may_have(key(n))) {
                            handle.gate_refused(&[refusal]);
                            said.fetch_add(1, SeqCst);
                            told.push((n, refusal.entries().1));
                        }
                        thread::yield_now();
                    }
                    told
                })
            })
            .collect();
        let (handle, disk) = (rig.handle(), rig.disk.clone());
        let trouble = thread::spawn(move || {
            disk.fail_write_after(0, ErrorKind::StorageFull);
            // Meets the full disk, or is met by it.
            drop(hear(handle.operate(by(), Operation::Adjust { item: CASE, delta: 1 })));
            ModelClock::pass(2000);
            drop(hear(handle.stats()));
        });
        join(buyers);
        trouble.join().unwrap();
        let told = join(gates).concat();
        // Room again, for what a full disk has kept from the log.
        ModelClock::pass(2000);
        hear(rig.handle().stats()).unwrap();
        let log = rig.stop();
        assert_eq!(log.by_gates, said.load(SeqCst), "logged, and said");
        for (n, as_of) in told {
            let granted = log.granted(id(n));
            assert!(granted.is_none_or(|at| at > as_of), "{n} had something as of {as_of}: {granted:?}");
        }
    });
}

/// Attempts in line are not refused for a pause, and none of them sleeps through its end.
#[test]
fn a_pause_holds_the_line_and_its_end_lets_it_go_on() {
    in_many_schedules(|| {
        let rig = Rig::open(100, (1, 4), &[]);
        let callers: Vec<_> = (0..2)
            .map(|caller: u8| {
                let (handle, inbox) = (rig.handle(), Arc::new(Inbox::default()));
                thread::spawn(move || {
                    let batch = [(0, 2 * caller), (1, 2 * caller + 1)];
                    send(&handle, &inbox, &batch);
                    batch.map(|(token, n)| (n, answer(inbox.wait_for(token))))
                })
            })
            .collect();
        let handle = rig.handle();
        operate(&handle, Operation::Pause);
        assert_eq!(handle.view().unwrap().state, SaleState::Paused);
        operate(&handle, Operation::Resume);
        let heard: Vec<_> = join(callers).concat();
        let log = rig.stop();
        for (n, answer) in heard {
            let granted = match answer {
                Answer::Granted(hold) => Some(hold.granted_as_of),
                Answer::Refused { refusal: Refusal::Paused, .. } => None,
                other => panic!("{n}: {other:?}"),
            };
            assert_eq!(log.granted(id(n)), granted);
        }
    });
}

/// A worker that has stopped for good: no reader sees that it has, and a sale that still sells.
#[test]
fn a_stopped_sale_is_never_shown_as_selling() {
    in_many_schedules(|| {
        let rig = Rig::open(100, (10, 0), &[]);
        let (handle, disk) = (rig.handle(), rig.disk.clone());
        let before = handle.view().unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let handle = rig.handle();
                thread::spawn(move || {
                    for _ in 0..8 {
                        let stopped = handle.stopped();
                        let view = handle.view().unwrap();
                        assert!(stopped.is_none() || view.state == SaleState::Paused, "{stopped:?}");
                        thread::yield_now();
                    }
                })
            })
            .collect();
        // The sync fails, and so does the segment that would replace the one in doubt.
        disk.fail_next_sync(1);
        disk.fail_next_dir_sync();
        assert!(hear(handle.attempt(attempt(1), PATIENT)).is_err());
        assert!(handle.stopped().is_some());
        assert!(hear(handle.attempt(attempt(2), PATIENT)).is_err(), "and it goes on answering");
        join(readers);
        assert_eq!(handle.view().unwrap().as_of, before.as_of);
        rig.service.stop();
    });
}
