//! What the queue and the line before it promise, with a clock of the test's own.

use crate::membership_filter::MembershipFilter;
use crate::queue::{InFlight, Job, LINE_OF_SHOPPER_MAX, Limits, Moment, Queue, Said, WAITERS_MAX, Waiter};
use contracts::{
    Answer, Attempt, AttemptId, Basket, LinePlace, Refusal, SealedShopper, ShopperKey, Told, Unavailable,
};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;
use units::{Sequence, TimeMs};

/// A patience with which no caller is told to come back.
const PATIENT: u64 = u64::MAX;

fn attempt(n: u32, shopper: u32) -> Attempt {
    let bytes = |n: u32| u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes();
    let sealed = SealedShopper::new(b"x").unwrap();
    let (id, shopper) = (AttemptId(bytes(n)), ShopperKey(bytes(shopper)));
    Attempt { id, shopper, sealed, tier: 0, basket: Basket::single(0, 1) }
}

/// The answer to all attempts.
const SOLD_OUT: Answer = Answer::Refused { refusal: Refusal::SoldOut, as_of: Sequence(7) };

type Told1 = oneshot::Receiver<Said>;

fn taken(queue: &mut Queue) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    queue.jobs.take(&mut jobs);
    jobs
}

struct Rig {
    queue: Queue,
    known: MembershipFilter,
    now: TimeMs,
    rate: u32,
    is_paused: bool,
}

impl Rig {
    fn new(queue_max: usize, line_max: usize) -> Self {
        let queue = Queue::new(Limits { queue_max, line_max });
        Self {
            queue,
            known: MembershipFilter::default(),
            now: TimeMs(1_800_000_000_000),
            rate: 0,
            is_paused: false,
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, rate: self.rate, is_paused: self.is_paused }
    }

    /// Puts an attempt; returns its answer at once, or the receiver of a later one.
    fn put_with(&mut self, attempt: Attempt, patience_ms: u64) -> Result<Told1, Said> {
        let (sender, receiver) = oneshot::channel();
        let at = self.at();
        match self.queue.enqueue(attempt, Waiter::One(sender), at, patience_ms, &self.known) {
            None => Ok(receiver),
            Some((_, said)) => Err(said),
        }
    }

    fn put(&mut self, n: u32) -> Result<Told1, Said> {
        self.put_with(attempt(n, n), PATIENT)
    }

    fn asked(&mut self, n: u32) -> Option<Told> {
        let (attempt, at) = (attempt(n, n), self.at());
        self.queue.position(attempt.id, attempt.shopper, at, &self.known).unwrap()
    }

    fn place(&mut self, n: u32) -> Option<LinePlace> {
        self.asked(n).map(|told| match told {
            Told::InLine(place) => place,
            Told::Answer(answer) => panic!("{answer:?}"),
        })
    }

    fn position(&mut self, n: u32) -> Option<u64> {
        self.place(n).map(|place| place.position)
    }

    /// Releases the attempts whose turn it is, and decides all in the queue; returns their numbers.
    fn step(&mut self) -> Vec<u32> {
        let at = self.at();
        self.queue.release(at);
        self.decide()
    }

    fn decide(&mut self) -> Vec<u32> {
        let jobs = taken(&mut self.queue);
        let mut decided = Vec::new();
        for job in &jobs {
            let Job::Attempt(of) = job else { continue };
            decided.extend((0..1000).find(|n| attempt(*n, 0).id == of.id));
            self.queue.decide(of, Some(&SOLD_OUT), &self.known).unwrap();
        }
        if !decided.is_empty() {
            self.queue.note_step(self.now, Duration::from_millis(100), jobs.len());
        }
        decided
    }

    fn pass(&mut self, ms: u64) {
        self.now = TimeMs(self.now.0 + ms);
    }
}

fn in_line(position: u64, wait_ms: u64) -> Said {
    Ok(Told::InLine(LinePlace { position, wait_ms: Some(wait_ms) }))
}

#[test]
fn attempts_beyond_the_queue_wait_in_line_and_are_decided_in_the_order_of_acceptance() {
    let mut rig = Rig::new(2, 100);
    let waiting: Vec<Told1> = (0..7).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!((rig.queue.len(), rig.queue.line_len()), (2, 5));
    assert_eq!(
        (0..8).map(|n| rig.position(n)).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None]
    );
    assert_eq!(rig.decide(), [0, 1]);
    // There is room, and attempts are in line: a new one goes after them.
    let _late = rig.put(7).unwrap();
    assert_eq!((rig.position(2), rig.position(7)), (Some(0), Some(5)));
    assert_eq!(rig.asked(0), Some(Told::Answer(SOLD_OUT)), "it was told a place, above");
    assert_eq!((rig.step(), rig.step(), rig.step()), (vec![2, 3], vec![4, 5], vec![6, 7]));
    assert_eq!((rig.queue.len(), rig.queue.line_len()), (0, 0));
    assert_eq!(rig.queue.remembered()[..2], [0, 0]);
    assert!(!rig.known.may_have(attempt(3, 3).shopper), "all are decided");
    drop(waiting);
    let _at_once = rig.put(8).unwrap();
    assert_eq!((rig.queue.len(), rig.queue.line_len()), (1, 0));
}

#[test]
fn the_rate_releases_one_attempt_a_turn_and_predicts_exactly_when() {
    let mut rig = Rig::new(100, 100);
    rig.rate = 10;
    let _waiting: Vec<Told1> = (0..5).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!((rig.queue.len(), rig.queue.line_len()), (1, 4));
    assert_eq!(rig.queue.next_turn(rig.at()), Some(TimeMs(rig.now.0 + 100)));
    let waits = |rig: &mut Rig| (1..5).map(|n| rig.place(n).unwrap().wait_ms.unwrap()).collect::<Vec<_>>();
    assert_eq!(waits(&mut rig), [100, 200, 300, 400]);
    assert_eq!(rig.step(), [0]);
    rig.pass(99);
    assert_eq!(rig.step(), [0; 0]);
    rig.pass(1);
    assert_eq!(rig.step(), [1]);
    assert_eq!((rig.position(2), rig.place(4).unwrap().wait_ms), (Some(0), Some(300)));
    // Two turns while the worker was busy.
    rig.pass(250);
    assert_eq!(rig.step(), [2, 3]);
    rig.pass(50);
    assert_eq!(rig.step(), [4]);
    assert_eq!(rig.queue.next_turn(rig.at()), None);
    // A worker that was busy for long does not release a crowd at once.
    let _more: Vec<Told1> = (5..50).map(|n| rig.put(n).unwrap()).collect();
    rig.pass(60_000);
    assert_eq!(rig.step().len(), 11, "those of a second, and whose turn it is");
}

#[test]
fn a_new_rate_applies_at_once_to_the_line() {
    let mut rig = Rig::new(100, 100);
    rig.rate = 1;
    let _waiting: Vec<Told1> = (0..9).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.step(), [0]);
    assert_eq!(rig.place(2).unwrap().wait_ms, Some(2000));
    rig.rate = 100;
    assert_eq!(rig.place(2).unwrap().wait_ms, Some(100), "a step takes so long");
    rig.pass(10);
    assert_eq!(rig.step(), [1]);
    rig.rate = 1;
    rig.pass(990);
    assert_eq!(rig.step(), [0; 0]);
    // No rate: also while all are refused anyway, for which the service says 0.
    rig.rate = 0;
    assert_eq!(rig.queue.next_turn(rig.at()), None);
    assert_eq!(rig.step(), [2, 3, 4, 5, 6, 7, 8]);
    rig.rate = 10;
    let _next: Vec<Told1> = (9..12).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.step(), [0; 0], "no turns are saved up while there is no rate");
}

#[test]
fn a_stopping_queue_decides_its_line_and_accepts_no_new_attempts() {
    let mut rig = Rig::new(2, 100);
    rig.rate = 1;
    let _waiting: Vec<Told1> = (0..5).map(|n| rig.put(n).unwrap()).collect();
    rig.queue.jobs.stop();
    assert!(matches!(rig.put(9), Err(Err(Unavailable::Passing(_)))));
    assert_eq!((rig.step(), rig.step(), rig.step()), (vec![0, 1], vec![2, 3], vec![4]));
    assert_eq!(rig.queue.line_len(), 0);
}

#[test]
fn a_full_line_refuses_new_attempts_and_says_how_long_it_is() {
    let mut rig = Rig::new(100, 3);
    rig.rate = 2;
    let _waiting: Vec<Told1> = (0..4).map(|n| rig.put(n).unwrap()).collect();
    let full = Err(Unavailable::LineFull { wait_ms: Some(2000) });
    assert_eq!(rig.put(4).unwrap_err(), full);
    assert!(rig.put(3).is_ok(), "the same one takes no place");
    assert!(!rig.known.may_have(attempt(4, 4).shopper));
    rig.pass(500);
    assert_eq!(rig.step(), [0, 1]);
    assert!(rig.put(4).is_ok());

    let mut rig = Rig::new(2, 0);
    let _waiting: Vec<Told1> = (0..2).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.put(2).unwrap_err(), Err(Unavailable::LineFull { wait_ms: None }), "no line at all");
    let mut rig = Rig::new(2, 0);
    rig.rate = 1;
    let _first = rig.put(0).unwrap();
    assert_eq!(rig.put(1).unwrap_err(), Err(Unavailable::LineFull { wait_ms: Some(1000) }));
}

#[test]
fn a_shopper_with_too_long_a_wait_is_told_at_once_and_retries_leave_no_state() {
    let mut rig = Rig::new(100, 100);
    rig.rate = 1;
    let _first: Vec<Told1> = (0..3).map(|n| rig.put_with(attempt(n, n), 2000).unwrap()).collect();
    let third = attempt(3, 3);
    for _ in 0..1000 {
        assert_eq!(rig.put_with(third, 2000).unwrap_err(), in_line(3, 3000));
    }
    let waiters = |rig: &Rig, of: Attempt| rig.queue.waiters(of.id);
    assert_eq!((waiters(&rig, third), waiters(&rig, attempt(2, 2))), (0, 1));
    assert!(rig.known.may_have(third.shopper), "it is not decided");
    let other = Attempt { basket: Basket::single(0, 2), ..third };
    assert_eq!(rig.put_with(other, 2000).unwrap_err(), Ok(Told::Answer(Answer::KeyReused)));
    // Nearer by: now it waits.
    rig.pass(1000);
    assert_eq!(rig.step(), [0, 1]);
    let heard = rig.put_with(third, 2000);
    assert_eq!((heard.is_ok(), waiters(&rig, third)), (true, 1));
    // Callers that join while no waiting time is known are bounded too.
    rig.rate = 0;
    let _joined: Vec<_> = (0..WAITERS_MAX + 1).map(|_| rig.put(3)).collect();
    assert_eq!(waiters(&rig, third), WAITERS_MAX);
    assert!(matches!(rig.put(3).unwrap_err(), Ok(Told::InLine(LinePlace { position: 1, .. }))));
}

#[test]
fn duplicates_that_join_attempts_are_bounded_over_all_attempts() {
    let mut rig = Rig::new(2, 2);
    let _waiting: Vec<Told1> = (0..4).map(|n| rig.put(n).unwrap()).collect();
    let _joined: Vec<Told1> = (0..4).map(|n| rig.put(n).unwrap()).collect();
    assert!(matches!(rig.put(0).unwrap_err(), Ok(Told::InLine(_))), "as many as there may be attempts");
    assert_eq!(rig.step(), [0, 1]);
    assert!(rig.put(2).is_ok());
}

#[test]
fn a_paused_sale_keeps_its_line() {
    let mut rig = Rig::new(2, 100);
    rig.rate = 10;
    let _waiting: Vec<Told1> = (0..4).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.step(), [0]);
    rig.is_paused = true;
    rig.pass(60_000);
    assert_eq!((rig.step(), rig.queue.next_turn(rig.at())), (vec![], None));
    assert_eq!(rig.place(2), Some(LinePlace { position: 1, wait_ms: None }), "it is unknown when");
    let _behind = rig.put(4).unwrap();
    assert_eq!(rig.position(4), Some(3), "a new attempt goes after them");
    rig.is_paused = false;
    rig.rate = 0;
    assert_eq!(rig.step(), [1, 2]);
    rig.is_paused = true;
    rig.queue.jobs.stop();
    assert_eq!(rig.step(), [3, 4], "at the end all are decided");
}

#[test]
fn a_pause_puts_attempts_that_just_left_the_line_back() {
    let mut rig = Rig::new(3, 100);
    let _waiting: Vec<Told1> = (0..10).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.decide(), [0, 1, 2]);
    // The worker takes three, and the next ones get the room.
    let at = rig.at();
    rig.queue.release(at);
    let mut at_work = taken(&mut rig.queue);
    rig.queue.release(at);
    assert_eq!(rig.queue.line_len(), 1);
    rig.is_paused = true;
    let (sender, _asked) = oneshot::channel();
    rig.queue.jobs.push(Job::Stats(sender));
    rig.queue.requeue(&mut at_work);
    let asked = taken(&mut rig.queue);
    assert!(at_work.is_empty() && asked.len() == 1, "what is asked is answered");
    assert!(matches!(asked[0], Job::Stats(_)));
    assert_eq!((rig.queue.len(), rig.queue.line_len()), (0, 7));
    assert_eq!((3..10).map(|n| rig.position(n)).collect::<Vec<_>>(), (0..7).map(Some).collect::<Vec<_>>());
    rig.is_paused = false;
    assert_eq!((rig.step(), rig.step(), rig.step()), (vec![3, 4, 5], vec![6, 7, 8], vec![9]));
    assert_eq!(rig.queue.remembered()[0], 0);
    // Attempts that were never in line are told that the sale is paused, without waiting for a
    // turn.
    rig.is_paused = true;
    rig.rate = 1;
    let _at_once: Vec<Told1> = (10..13).map(|n| rig.put(n).unwrap()).collect();
    let mut jobs = taken(&mut rig.queue);
    rig.queue.requeue(&mut jobs);
    assert_eq!((jobs.len(), rig.queue.line_len()), (3, 0));
}

#[test]
fn a_kept_refusal_is_forgotten_once_its_attempt_is_retried() {
    let mut rig = Rig::new(2, 1);
    let _first = rig.put(0).unwrap();
    assert_eq!(rig.position(0), Some(0));
    assert_eq!(rig.step(), [0]);
    assert_eq!(rig.asked(0), Some(Told::Answer(SOLD_OUT)));
    let _again = rig.put(0).unwrap();
    assert_eq!(rig.step(), [0]);
    assert_eq!(rig.asked(0), None, "its answer is on its way, and may be another one");
}

#[test]
fn a_shopper_who_was_told_a_place_gets_the_refusal_when_asking() {
    let mut rig = Rig::new(2, 1);
    rig.rate = 1;
    let followed = rig.known.follow();
    let _first = rig.put(0).unwrap();
    assert!(rig.put_with(attempt(1, 1), 0).is_err(), "told at once");
    assert_eq!(rig.position(0), Some(0), "asked when its patience had ended");
    assert_eq!(rig.position(0), Some(0));
    let told: Vec<ShopperKey> = [1, 0].map(|n| attempt(n, n).shopper).into();
    assert_eq!(followed.take(), told, "gates elsewhere hear of each once");
    rig.pass(1000);
    assert_eq!(rig.step(), [0, 1]);
    assert_eq!([0, 1].map(|n| rig.asked(n)), [Some(Told::Answer(SOLD_OUT)); 2]);
    let (other, at) = (attempt(0, 5), rig.at());
    let asked = rig.queue.position(other.id, other.shopper, at, &rig.known);
    assert_eq!(asked, Ok(None), "not for another shopper");
    // A caller that received its refusal needs none kept; and no more are kept than may be on their
    // way.
    for n in 2..9 {
        rig.pass(2000);
        let _waits = rig.put(n).unwrap();
        if n != 5 {
            assert_eq!(rig.position(n), Some(0));
        }
        assert_eq!(rig.step(), [n]);
    }
    let kept: Vec<u32> = (0..9).filter(|n| rig.asked(*n).is_some()).collect();
    assert_eq!(kept, [6, 7, 8]);
    assert_eq!(rig.queue.remembered()[2], 3);
}

#[test]
fn a_rate_of_thousands_a_second_is_reached_with_a_clock_of_milliseconds() {
    for (queue_max, line_max) in [(100_000, 0), (100_000, 1000)] {
        let mut rig = Rig::new(queue_max, line_max);
        rig.rate = 5000;
        let mut decided = 0;
        for _ in 0..1000 {
            rig.pass(1);
            for n in 0..20 {
                drop(rig.put_with(attempt(decided as u32 * 20 + n, n + 1000 * decided as u32), PATIENT));
            }
            let at = rig.at();
            rig.queue.release(at);
            decided += taken(&mut rig.queue)
                .iter()
                .filter(|job| match job {
                    Job::Attempt(of) => rig.queue.decide(of, None, &rig.known).is_some(),
                    _ => false,
                })
                .count();
        }
        assert!((4990..=5060).contains(&decided), "{decided} with a line of {line_max}");
    }
}

#[test]
fn waiting_times_are_measured_and_left_out_while_the_line_stands_still() {
    let mut rig = Rig::new(2, 100);
    let _waiting: Vec<Told1> = (0..9).map(|n| rig.put(n).unwrap()).collect();
    assert_eq!(rig.place(8).unwrap(), LinePlace { position: 8, wait_ms: None }, "nothing was measured");
    assert_eq!(rig.decide(), [0, 1]);
    // Steps of two take a tenth of a second each; the one that has it counts.
    let waits: Vec<_> = (2..9).map(|n| rig.place(n).unwrap().wait_ms).collect();
    assert_eq!(waits, [100, 100, 200, 200, 300, 300, 400].map(Some));
    let at = rig.at();
    rig.queue.release(at);
    rig.pass(7000);
    assert_eq!(rig.place(8).unwrap().wait_ms, Some(400));
    rig.pass(2000);
    assert_eq!(rig.place(8).unwrap(), LinePlace { position: 6, wait_ms: None }, "the disk stands still");
    rig.rate = 1;
    assert_eq!(rig.place(8).unwrap().wait_ms, None, "whatever the rate would be");
    rig.rate = 0;
    assert_eq!(rig.decide(), [2, 3]);
    assert_eq!(rig.place(8).unwrap(), LinePlace { position: 4, wait_ms: Some(300) });

    // A lone attempt whose step takes a while does not worsen a crowd's estimate.
    let mut rig = Rig::new(100_000, 100);
    let _one = rig.put(0).unwrap();
    assert_eq!(rig.decide(), [0]);
    let _crowd: Vec<Told1> = (0..3000).map(|n| rig.put_with(attempt(n, n), 2000).unwrap()).collect();
    assert_eq!(rig.place(2999).unwrap(), LinePlace { position: 2999, wait_ms: Some(100) });
}

#[test]
fn the_worker_is_woken_for_jobs_and_for_a_new_line() {
    let mut rig = Rig::new(100, 100);
    rig.rate = 1;
    let mut is_news = |n: u32| {
        let was = rig.queue.work();
        let _told = rig.put(n).unwrap();
        rig.queue.work().is_news(was)
    };
    assert_eq!([0, 1, 2].map(&mut is_news), [true, true, false], "a job, a line, and one more in it");
    assert_eq!(rig.step(), [0]);
    let was = rig.queue.work();
    let (sender, _receiver) = oneshot::channel();
    rig.queue.jobs.push(Job::Stats(sender));
    assert!(rig.queue.work().is_news(was), "a question, while it waits for a turn");
}

#[test]
fn one_shopper_does_not_fill_the_line() {
    let mut rig = Rig::new(1, 100);
    let _before = rig.put(0).unwrap();
    let mut mine = Vec::new();
    for n in 1..=u32::from(LINE_OF_SHOPPER_MAX) {
        mine.push(rig.put_with(attempt(n, 7), PATIENT).unwrap());
    }
    let too_many = rig.put_with(attempt(17, 7), PATIENT).unwrap_err();
    assert_eq!(too_many, Err(Unavailable::TooManyInLine { wait_ms: None }));
    assert!(rig.put_with(attempt(5, 7), PATIENT).is_ok(), "one that is there already");
    assert!(rig.put(18).is_ok(), "another shopper");
    assert_eq!(rig.queue.remembered()[0], 2, "a number for each shopper, and no more");
    assert_eq!((rig.step(), rig.step()), (vec![0], vec![1]));
    assert!(rig.put_with(attempt(17, 7), PATIENT).is_ok());
}

#[test]
fn an_attempt_in_line_takes_the_memory_that_the_settings_document() {
    // `config.default.toml` tells operators what a full line takes: these, in tables that are half
    // full at the worst.
    assert!(size_of::<(AttemptId, InFlight)>() <= 216, "{}", size_of::<(AttemptId, InFlight)>());
    assert!(size_of::<(AttemptId, (ShopperKey, Answer))>() <= 88);
    assert!(size_of::<(ShopperKey, u8)>() <= 17);
    assert!(size_of::<AttemptId>() <= 16);
}
