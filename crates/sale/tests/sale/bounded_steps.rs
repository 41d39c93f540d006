//! Long work is done in bounded steps: a million waiting shoppers and one `resume`, one shopper's
//! 40,000 holds, an audit of thousands of places that do not fit. Each takes as many steps as it
//! needs, and its time grows no faster than its length.

use crate::ledger::{HOLD_SECONDS, MemoryLog, OPENS, spec};
use contracts::{
    Actor, Answer, Attempt, AttemptId, Basket, ConfirmResult, Operation, OperationDone, Refusal, SaleSpec,
    SealedShopper, ShopperKey, VoidTarget, WaitingQuery, Waitlist,
};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use engines::log::{AppendError, Batch, Log, LogError, LogRead, Snapshots};
use runtime::{Budget, STEP_BYTES_MAX, STEP_WORK_MAX};
use sale::audit::audit;
use sale::core::{Entry, Record};
use sale::{Command, Reply, Worker};
use sim::disk::SimDisk;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use units::{Prng, Sequence, TimeMs};

/// A log in memory that says how large each append was.
#[derive(Clone, Default)]
struct Measured {
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    appends: Arc<Mutex<Vec<usize>>>,
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

impl Log for Measured {
    fn last(&self) -> Sequence {
        Sequence(self.entries.lock().unwrap().len() as u64)
    }
    fn append(&mut self, _expected: Sequence, batch: &Batch) -> Result<Sequence, AppendError> {
        self.entries.lock().unwrap().extend(batch.entries().map(<[u8]>::to_vec));
        self.appends.lock().unwrap().push(batch.as_bytes().len());
        Ok(self.last())
    }
    fn reopen(&mut self) -> Result<Sequence, LogError> {
        Ok(self.last())
    }
    fn trim(&mut self, _up_to: Sequence) -> Result<(), LogError> {
        Ok(())
    }
    fn reader(&self) -> Box<dyn LogRead> {
        Box::new(MemoryLog(self.entries.lock().unwrap().clone()))
    }
    fn snapshots(&self) -> Box<dyn Snapshots> {
        Box::new(NoSnapshots)
    }
}

fn bytes16(n: u64, salt: u64) -> [u8; 16] {
    Prng::new(n ^ salt).bytes16()
}

fn attempt(n: u64, shopper: u64, quantity: u16) -> Attempt {
    Attempt {
        id: AttemptId(bytes16(n, 0xa11e << 32)),
        shopper: ShopperKey(bytes16(shopper, 0x5409 << 32)),
        sealed: SealedShopper::new(&[7; 36]).unwrap(),
        tier: 0,
        basket: Basket::single(0, quantity),
    }
}

fn operate(operation: Operation) -> Command {
    Command::Operate { actor: Actor::new("ops", "test"), operation }
}

/// One item, no limits, a waitlist for all.
fn sale(stock: u64) -> SaleSpec {
    let mut sale = spec(stock);
    sale.waitlist = Waitlist::Places(1_000_000);
    sale.rounds[0].items.iter_mut().for_each(|item| item.limit_per_shopper = 0);
    sale
}

/// A worker and its commands.
struct Rig<L> {
    worker: Worker<L>,
    now: u64,
}

impl<L: Log> Rig<L> {
    fn open(log: L, sale: SaleSpec) -> Self {
        let mut rig = Self { worker: Worker::open(log).unwrap().0, now: OPENS };
        rig.ask(&[operate(Operation::Define(Box::new(sale)))]);
        rig
    }

    /// One step; the replies to those that it answered.
    fn step(&mut self, commands: &[Command]) -> Vec<Reply> {
        self.worker.step(TimeMs(self.now), commands).to_vec()
    }

    /// Steps until all are answered.
    fn ask(&mut self, commands: &[Command]) -> Vec<Reply> {
        let mut replies = Vec::new();
        while replies.len() < commands.len() {
            let before = replies.len();
            replies.extend(self.step(&commands[before..]));
        }
        replies
    }

    /// Steps until nothing is due.
    fn settle(&mut self) {
        while self.worker.next_wakeup().is_some_and(|at| at.0 <= self.now) {
            self.step(&[]);
        }
    }

    fn put(&mut self, count: u64, shopper: impl Fn(u64) -> u64, quantity: u16) {
        for first in (0..count).step_by(4096) {
            let chunk = first..count.min(first + 4096);
            let commands: Vec<Command> =
                chunk.map(|n| Command::Attempt(attempt(n, shopper(n), quantity))).collect();
            self.ask(&commands);
        }
    }
}

fn stock<L: Log>(rig: &Rig<L>) -> (u64, u64, u64) {
    let item = &rig.worker.machine().stats().items[0];
    (item.free, item.held, item.waiting)
}

/// A paused sale with `waiting` waiting shoppers, and as many free units.
fn about_to_resume(waiting: u64) -> (Rig<Measured>, Measured) {
    let log = Measured::default();
    let mut rig = Rig::open(log.clone(), sale(1));
    // The only unit is taken first.
    rig.put(waiting + 1, |n| n, 1);
    rig.ask(&[operate(Operation::Pause), operate(Operation::Adjust { item: 0, delta: waiting as i64 })]);
    assert_eq!(stock(&rig), (waiting, 1, waiting));
    log.appends.lock().unwrap().clear();
    (rig, log)
}

/// How long it takes to promote this many.
fn resume(waiting: u64) -> Duration {
    let (mut rig, log) = about_to_resume(waiting);
    let before = rig.worker.machine().sequence();
    let commands = [
        Command::Attempt(attempt(5_000_000, 5_000_000, 1)),
        operate(Operation::Resume),
        Command::Attempt(attempt(5_000_001, 5_000_001, 1)),
    ];
    let started = cpu_time();
    // The pause's last refusal and the resume are answered after the first step, and nothing is
    // decided before the last.
    let replies = rig.step(&commands);
    let [Reply::Answer(Answer::Refused { refusal: Refusal::Paused, .. }), Reply::Done(Ok(OperationDone::Ok))] =
        replies[..]
    else {
        panic!("{replies:?}")
    };
    let mut steps = 1;
    let (said, mut read) = loop {
        let replies = rig.step(&commands[2..]);
        steps += 1;
        if let [reply] = &replies[..] {
            break (reply.clone(), 0);
        }
        // Read-only commands are answered in between, from the durable state.
        let look = Command::Lookup { attempt: attempt(1, 1, 1).id, shopper: attempt(1, 1, 1).shopper };
        assert!(matches!(rig.worker.read(&look), Some(Reply::Found(_))));
        assert!(rig.worker.read(&commands[2]).is_none());
    };
    let took = cpu_time() - started;
    assert!(matches!(said, Reply::Answer(Answer::Waitlisted { .. })), "{said:?}");
    assert_eq!(stock(&rig), (0, waiting + 1, 1));
    let appends = log.appends.lock().unwrap().clone();
    // A step ends at the first entry at which it is full.
    assert!(appends.iter().all(|bytes| *bytes <= STEP_BYTES_MAX + 4096), "{appends:?}");
    assert!(steps as u64 >= waiting / STEP_WORK_MAX as u64, "{steps} steps");
    for bytes in log.entries.lock().unwrap().iter().skip(before.0 as usize) {
        read += u64::from(matches!(Entry::decode(bytes).unwrap().record, Record::Promoted { .. }));
    }
    assert_eq!(read, waiting);
    took
}

#[test]
fn a_million_waiting_shoppers_are_promoted_in_bounded_steps_and_in_linear_time() {
    let tenth = resume(100_000);
    let all = resume(1_000_000);
    assert!(all < 30 * tenth, "100,000 took {tenth:?}, and ten times as many {all:?}");
}

#[test]
fn an_adjustment_is_answered_once_durable_and_promotes_in_later_steps() {
    let log = Measured::default();
    let mut rig = Rig::open(log, sale(1));
    rig.worker.set_budget(Budget { work_max: 10, ..Budget::default() });
    rig.put(101, |n| n, 1);
    let replies = rig.step(&[operate(Operation::Adjust { item: 0, delta: 150 }), Command::Stats]);
    let [Reply::Done(Ok(OperationDone::Adjusted { free }))] = replies[..] else { panic!("{replies:?}") };
    assert_eq!((free, stock(&rig)), (150 - 3, (147, 4, 97)));
    rig.settle();
    assert_eq!(stock(&rig), (50, 101, 0));
}

/// What this thread has taken of a processor: others' work does not count.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The shortest of five: what else runs on the machine makes some longer.
fn best(run: impl Fn() -> Duration) -> Duration {
    (0..5).map(|_| run()).min().unwrap()
}

/// One shopper with this many holds; returns the time that it takes to end them, and to audit that.
fn end_all(holds: u64, end: impl Fn(&mut Rig<Measured>)) -> (Duration, Duration) {
    let log = Measured::default();
    let mut rig = Rig::open(log.clone(), sale(holds));
    rig.put(holds, |_| 1, 1);
    assert_eq!(stock(&rig), (0, holds, 0));
    log.appends.lock().unwrap().clear();
    let started = cpu_time();
    end(&mut rig);
    let took = cpu_time() - started;
    assert_eq!(stock(&rig), (holds, 0, 0));
    let appends = log.appends.lock().unwrap().clone();
    assert!(appends.len() as u64 >= holds / STEP_WORK_MAX as u64, "{} appends", appends.len());
    assert!(appends.iter().all(|bytes| *bytes <= STEP_BYTES_MAX + 4096), "{appends:?}");
    // The auditor reads the same history, and takes no longer for it than its length.
    let started = cpu_time();
    let report = audit(&mut *log.reader(), None).unwrap();
    let audited = cpu_time() - started;
    assert!(report.holds(), "{:?}", report.invariants);
    (took, audited)
}

fn expire(rig: &mut Rig<Measured>) {
    rig.now += HOLD_SECONDS * 1000;
    rig.settle();
}

fn void(rig: &mut Rig<Measured>) {
    let holds = stock(rig).1;
    let target = VoidTarget::Shopper(attempt(0, 1, 1).shopper);
    let replies = rig.ask(&[operate(Operation::Void(target))]);
    let Reply::Done(Ok(OperationDone::Voided { count })) = replies[0] else { panic!("{replies:?}") };
    assert_eq!(count, holds);
}

/// Ten times as many holds of one shopper take about ten times as long to end, and to audit.
fn is_linear(end: impl Fn(&mut Rig<Measured>)) {
    let runs = |holds: u64| (0..3).map(|_| end_all(holds, &end)).collect::<Vec<_>>();
    let (tenth, all) = (runs(4_000), runs(40_000));
    for part in [|run: &(Duration, Duration)| run.0, |run: &(Duration, Duration)| run.1] {
        let least = |runs: &[(Duration, Duration)]| runs.iter().map(part).min().unwrap();
        let (tenth, all) = (least(&tenth), least(&all));
        assert!(all < 40 * tenth, "4,000 took {tenth:?}, and ten times as many {all:?}");
    }
}

#[test]
fn forty_thousand_holds_of_one_shopper_expire_in_bounded_steps_and_in_linear_time() {
    is_linear(expire);
}

#[test]
fn forty_thousand_holds_of_one_shopper_are_voided_in_bounded_steps_and_in_linear_time() {
    is_linear(void);
}

/// One shopper with this many holds, who then asks 4,096 times for an item of which they have as
/// many as they may have, or after the sale's limit was lowered; the time that the refusals take.
fn refuse_one(holds: u64, is_lowered: bool) -> Duration {
    let mut sale = sale(100_000);
    sale.rounds[0].items[1].limit_per_shopper = u32::from(!is_lowered);
    let mut rig = Rig::open(Measured::default(), sale);
    rig.put(holds, |_| 1, 1);
    let mut ask = attempt(holds, 1, 1);
    ask.basket = Basket::single(1, 1);
    rig.ask(&[Command::Attempt(ask)]);
    if is_lowered {
        rig.ask(&[operate(Operation::Limits { sale: Some(2), items: vec![] })]);
    }
    let again: Vec<Command> =
        (1..=4096).map(|n| Command::Attempt(Attempt { id: attempt(holds + n, 1, 1).id, ..ask })).collect();
    let started = cpu_time();
    let replies = rig.ask(&again);
    let took = cpu_time() - started;
    let held_by = Some(ask.id);
    let want = Refusal::LimitReached { held_by };
    let refused =
        |reply: &Reply| matches!(reply, Reply::Answer(Answer::Refused { refusal, .. }) if *refusal == want);
    assert!(replies.iter().all(refused), "{:?}", replies[0]);
    took
}

#[test]
fn what_a_shopper_with_forty_thousand_holds_asks_for_is_refused_as_fast_as_anybodys() {
    for is_lowered in [false, true] {
        let few = best(|| refuse_one(400, is_lowered));
        let many = best(|| refuse_one(40_000, is_lowered));
        assert!(many < 4 * few, "with 400 it took {few:?}, with 40,000 {many:?}");
    }
}

/// All holds of one shopper are paid after their end, the newest first.
fn pay_late(rig: &mut Rig<Measured>) {
    let holds = stock(rig).1;
    expire(rig);
    let pay = |n: u64| Operation::Confirm { hold: attempt(n, 1, 1).id, payment: format!("pay-{n}") };
    let all: Vec<Command> = (0..holds).rev().map(|n| operate(pay(n))).collect();
    for chunk in all.chunks(4096) {
        let replies = rig.ask(chunk);
        let is_late = |reply: &Reply| {
            let Reply::Done(Ok(OperationDone::Confirmed { result, .. })) = reply else { return false };
            *result == ConfirmResult::Confirmed { late: true }
        };
        assert!(replies.iter().all(is_late), "{:?}", replies[0]);
    }
    // The units come back, as with the other ends.
    let target = VoidTarget::Shopper(attempt(0, 1, 1).shopper);
    rig.ask(&[operate(Operation::Void(target))]);
}

#[test]
fn forty_thousand_holds_of_one_shopper_are_paid_late_in_linear_time() {
    is_linear(pay_late);
}

/// So many wait, each for another quantity than the one before; the time until all are promoted.
fn promote_quantities(waiting: u64, different: u64) -> Duration {
    let mut rig = Rig::open(Measured::default(), sale(1000));
    rig.put(1, |n| n, 1000);
    let of = |n: u64| Command::Attempt(attempt(n, n, 1000 - (n % different) as u16));
    for first in (1..=waiting).step_by(4096) {
        rig.ask(&(first..=waiting.min(first + 4095)).map(of).collect::<Vec<_>>());
    }
    assert_eq!(stock(&rig), (0, 1000, waiting));
    let units = waiting as i64 * 1000;
    rig.ask(&[operate(Operation::Pause), operate(Operation::Adjust { item: 0, delta: units })]);
    let started = cpu_time();
    rig.ask(&[operate(Operation::Resume)]);
    rig.settle();
    let took = cpu_time() - started;
    assert_eq!(stock(&rig).2, 0);
    took
}

#[test]
fn who_waits_for_a_thousand_different_quantities_is_promoted_as_fast_as_for_one() {
    let one = best(|| promote_quantities(20_000, 1));
    let thousand = best(|| promote_quantities(20_000, 1000));
    assert!(thousand < 4 * one, "one quantity took {one:?}, a thousand {thousand:?}");
}

#[test]
fn a_page_of_a_waitlist_takes_the_work_of_its_places() {
    let mut rig = Rig::open(Measured::default(), sale(1));
    rig.put(2000, |n| n, 1);
    let page = WaitingQuery { item: None, after: Sequence(0), max: 1000 };
    let replies = rig.step(&vec![Command::Waiting(page); 4096]);
    assert!((1..=20).contains(&replies.len()), "{} pages in a step", replies.len());
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Waiting(page) if page.len() == 1000)));
}

#[test]
fn an_audit_checks_thousands_of_places_that_do_not_fit_in_linear_time() {
    let audited = |waiting: u64| {
        let log = Measured::default();
        let mut rig = Rig::open(log.clone(), sale(3));
        // All ask for four of three units, which might become more; and one unit is granted and
        // released again and again.
        rig.ask(&[operate(Operation::Adjust { item: 0, delta: 1 })]);
        rig.ask(&[Command::Attempt(attempt(9_000_000, 9_000_000, 1))]);
        rig.put(waiting, |n| n, 4);
        let started = cpu_time();
        let report = audit(&mut *log.reader(), None).unwrap();
        assert!(report.holds(), "{:?}", report.invariants);
        assert_eq!(report.items[0].waiting, waiting);
        cpu_time() - started
    };
    let (tenth, all) = (best(|| audited(4_000)), best(|| audited(40_000)));
    assert!(all < 40 * tenth, "4,000 took {tenth:?}, and ten times as many {all:?}");
}

#[test]
fn promotions_that_a_full_disk_interrupts_resume_before_anything_else() {
    let disk = SimDisk::new();
    let options = Options { segment_bytes: 64 << 10, ..Options::new(Partition(0), LogId([1; 16])) };
    let mut rig = Rig::open(EmbeddedLog::open(disk.clone(), options).unwrap(), sale(1));
    rig.put(101, |n| n, 1);
    rig.ask(&[operate(Operation::Pause), operate(Operation::Adjust { item: 0, delta: 100 })]);
    rig.worker.set_budget(Budget { work_max: 10, ..Budget::default() });
    rig.step(&[operate(Operation::Resume)]);
    disk.fail_write_after(0, std::io::ErrorKind::StorageFull);
    let attempt = [Command::Attempt(attempt(7_000, 7_000, 1))];
    let replies = rig.step(&attempt);
    assert!(matches!(replies[..], [Reply::Answer(Answer::Refused { refusal: Refusal::Paused, .. })]));
    assert!(rig.worker.in_shortage() && stock(&rig).2 > 0);
    rig.now += 1000;
    // The end of the pause is logged when all waiting shoppers have their units: an entry in
    // between would overtake them.
    let replies = rig.ask(&attempt);
    assert!(matches!(replies[..], [Reply::Answer(Answer::Waitlisted { position: 1, .. })]), "{replies:?}");
    assert_eq!(stock(&rig), (0, 101, 1));
    let report = audit(&mut *rig.worker.log().reader(), None).unwrap();
    assert!(report.holds(), "{:?}", report.invariants);
}

#[test]
fn promotions_that_a_crash_interrupts_resume_in_the_next_process() {
    for crash_after in 1..12 {
        let disk = SimDisk::new();
        let options = || Options { segment_bytes: 64 << 10, ..Options::new(Partition(0), LogId([1; 16])) };
        let open = |disk: &SimDisk| EmbeddedLog::open(disk.clone(), options()).unwrap();
        let mut rig = Rig::open(open(&disk), sale(1));
        rig.put(101, |n| n, 1);
        rig.ask(&[operate(Operation::Pause), operate(Operation::Adjust { item: 0, delta: 100 })]);
        rig.worker.set_budget(Budget { work_max: 10, ..Budget::default() });
        rig.step(&[operate(Operation::Resume)]);
        (1..crash_after).for_each(|_| drop(rig.step(&[])));
        let promoted = 100 - stock(&rig).2;
        // A snapshot in the middle includes the promotions that are due, too.
        if crash_after % 2 == 0 {
            let log = rig.worker.log();
            runtime::snapshot::<sale::core::Core>(&mut *log.reader(), &mut *log.snapshots()).unwrap();
        }
        let disk = disk.power_cut(&mut Prng::new(crash_after));
        let worker = Worker::open(open(&disk)).unwrap().0;
        let mut rig = Rig { worker, now: OPENS + 1 };
        assert_eq!(100 - stock(&rig).2, promoted);
        rig.worker.set_budget(Budget { work_max: 10, ..Budget::default() });
        // A new attempt comes after all of them.
        let replies = rig.ask(&[Command::Attempt(attempt(7_000, 7_000, 1))]);
        assert!(
            matches!(replies[..], [Reply::Answer(Answer::Waitlisted { position: 1, .. })]),
            "{replies:?}"
        );
        assert_eq!(stock(&rig), (0, 101, 1));
        let report = audit(&mut *rig.worker.log().reader(), None).unwrap();
        assert!(report.holds(), "{:?}", report.invariants);
        let mut last = None;
        let mut note = |_: Sequence, bytes: &[u8]| {
            last = Some(Entry::decode(bytes).unwrap().record);
            ControlFlow::Continue(())
        };
        rig.worker.log().reader().read(Sequence(1), &mut note).unwrap();
        assert!(matches!(last, Some(Record::Waitlisted { .. })));
    }
}

#[test]
fn the_largest_report_of_gate_refusals_fits_into_a_step() {
    let log = Measured::default();
    let mut rig = Rig::open(log.clone(), sale(1));
    rig.put(2, |n| n, 1);
    let as_of = rig.worker.machine().sequence();
    let counts = (0..8192).map(|_| {
        let range = contracts::SoldOutRange { item: 0, first_as_of: as_of, last_as_of: as_of, count: 1 };
        contracts::GateRefusal::SoldOut(range)
    });
    let replies = rig.ask(&[Command::GateRefusals(counts.collect())]);
    assert_eq!(replies, [Reply::Noted]);
    assert!(log.appends.lock().unwrap().iter().all(|bytes| *bytes <= STEP_BYTES_MAX));
}
