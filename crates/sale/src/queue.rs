//! A sale's bounded queue, and the line behind it, which is where an attempt stands that the queue has no room for or that the
//! sale's rate holds back. Numbers are given at acceptance, and answers come in their order.
//!
//! It knows no clock and no sale: the time and the rate are passed in.

use crate::known::Known;
use crate::worker::STEP_COMMANDS_MAX;
use contracts::{
    Actor, Answer, Attempt, Found, LinePlace, Mail, Mailbox, OperateError, Operation, OperationDone,
    SaidAlone, SaleStats, ShopperRecord, Told, Unavailable,
};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use units::{AttemptId, OwnBits, ShopperKey, TimeMs};

pub(crate) type Sender<T> = oneshot::Sender<Result<T, Unavailable>>;

/// What is told to whoever put an attempt.
pub(crate) type Said = Result<Told, Unavailable>;

/// Attempts of one shopper in the line: an honest one has one for each press of a button on each device, and whoever makes
/// keys by the thousand leaves the line to others.
pub(crate) const LINE_OF_SHOPPER_MAX: u8 = 16;

/// Who waits for one attempt. Whoever comes after them is told its place at once.
const WAITERS_MAX: usize = 64;

/// How far back the pace of decisions is measured, and how long nothing may be decided before nobody knows how long it takes.
const LATELY_SECONDS: usize = 8;

/// A line that was longer gives its memory back when it has become empty.
const KEPT_ROOM: usize = 1 << 16;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Of turns that came while the worker was busy, those of so long are taken at once afterwards.
const CATCH_UP_NS: u64 = NS_PER_SECOND;

pub(crate) enum Job {
    /// Who waits for it stands in [`Queue::in_flight`].
    Attempt(Attempt),
    Lookup(AttemptId, ShopperKey, Sender<Found>),
    Shopper(ShopperKey, Sender<ShopperRecord>),
    Operate(Actor, Operation, Sender<Result<OperationDone, OperateError>>),
    Stats(Sender<SaleStats>),
    GateRefusals(Vec<SaidAlone>),
    Unheard(Box<Unheard>),
}

/// An attempt that may have been answered before: what was promised is said first, and only then what is said here.
pub(crate) struct Unheard {
    pub(crate) attempt: Attempt,
    pub(crate) waiter: Waiter,
    pub(crate) else_said: Said,
}

impl Unheard {
    pub(crate) fn tell(self, found: &Found, post: &mut Post) {
        let said = match found.basket {
            Some(kept) if kept == self.attempt.basket => Ok(Told::Answer(found.answer)),
            Some(_) => Ok(Told::Answer(Answer::KeyReused)),
            None => self.else_said,
        };
        post.tell(self.waiter, said);
    }
}

pub(crate) struct InFlight {
    attempt: Attempt,
    /// Its number among all attempts that were ever queued.
    number: u64,
    /// None if it was told its place and asks again.
    pub(crate) first: Option<Waiter>,
    /// Those who joined: seldom any.
    pub(crate) others: Vec<Waiter>,
}

/// Who waits for an answer.
pub(crate) enum Waiter {
    One(Sender<Told>),
    Many(Arc<dyn Mailbox>, u64),
}

/// Answers on their way, each to its mailbox: one delivery for all that were decided together.
#[derive(Default)]
pub(crate) struct Post(Vec<(Arc<dyn Mailbox>, Vec<Mail>)>);

impl Post {
    pub(crate) fn tell(&mut self, waiter: Waiter, said: Said) {
        match waiter {
            // A waiter that has gone away drops its receiver; nobody is left to tell.
            Waiter::One(sender) => drop(sender.send(said)),
            Waiter::Many(to, token) => {
                let mail = Mail { token, said };
                match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &to)) {
                    Some((_, mails)) => mails.push(mail),
                    None => self.0.push((to, vec![mail])),
                }
            }
        }
    }

    pub(crate) fn deliver(mut self) {
        for (to, mails) in &mut self.0 {
            to.deliver(mails);
        }
    }
}

/// What holds for whoever asks now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: TimeMs,
    /// Attempts a second that may leave the line; 0 if nobody is held back.
    pub(crate) rate: u32,
}

/// When the next attempt may go on: the generic cell rate algorithm (ITU-T I.371), whose last turn is kept instead of the next,
/// so that another rate counts from the moment at which it holds.
#[derive(Default)]
struct Pace {
    last_ns: u64,
}

impl Pace {
    fn interval_ns(rate: u32) -> u64 {
        NS_PER_SECOND / u64::from(rate.max(1))
    }

    fn next_ns(&self, rate: u32) -> u64 {
        self.last_ns + Self::interval_ns(rate)
    }

    fn is_due(&self, at: Moment) -> bool {
        at.rate == 0 || self.next_ns(at.rate) <= at.now.0 * NS_PER_MS
    }

    /// Takes a turn that is due. Out of the line, where turns may have come while nobody looked.
    fn take_from_line(&mut self, at: Moment) {
        let now = at.now.0 * NS_PER_MS;
        let due = if at.rate == 0 { now } else { self.next_ns(at.rate) };
        self.last_ns = due.max(now.saturating_sub(CATCH_UP_NS));
    }

    fn take_at_once(&mut self, at: Moment) {
        self.last_ns = at.now.0 * NS_PER_MS;
    }
}

/// How long a step of the worker takes, in the last seconds.
#[derive(Default)]
struct Measured([Second; LATELY_SECONDS]);

#[derive(Default, Clone, Copy)]
struct Second {
    second: u64,
    all: Steps,
    /// Those that took as many commands as a step may have.
    full: Steps,
}

#[derive(Default, Clone, Copy)]
struct Steps {
    count: u64,
    us: u64,
}

impl Measured {
    fn note(&mut self, now: TimeMs, took: Duration, is_full: bool) {
        let second = now.0 / 1000;
        let slot = &mut self.0[(second % LATELY_SECONDS as u64) as usize];
        if slot.second != second {
            *slot = Second { second, ..Second::default() };
        }
        for steps in [Some(&mut slot.all), is_full.then_some(&mut slot.full)].into_iter().flatten() {
            steps.count += 1;
            steps.us += took.as_micros() as u64;
        }
    }

    /// Milliseconds until the step that has an attempt with so many before it is over. Decisions a second say that of a long queue
    /// alone: a step of one takes hardly less time than a step of hundreds. `None` if no step with an attempt ended lately.
    fn wait_ms(&self, now: TimeMs, before: u64, step_max: usize) -> Option<u64> {
        let lately = |slot: &&Second| now.0 / 1000 - slot.second.min(now.0 / 1000) < LATELY_SECONDS as u64;
        let sum = |of: fn(&Second) -> Steps| {
            self.0.iter().filter(lately).map(of).fold(Steps::default(), |sum, steps| Steps {
                count: sum.count + steps.count,
                us: sum.us + steps.us,
            })
        };
        let (all, full) = (sum(|second| second.all), sum(|second| second.full));
        let steps = if full.count > 0 { full } else { all };
        let needed = before / step_max as u64 + 1;
        (steps.count > 0).then(|| (needed * steps.us / steps.count).div_ceil(1000))
    }
}

/// What a worker looks at before it sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    has_jobs: bool,
    has_line: bool,
}

impl Work {
    /// Whether there is something of which a worker that went to sleep over `was` does not know: that of a line it waits for the next
    /// turn, and that of none for nothing.
    pub(crate) fn is_news(self, was: Self) -> bool {
        (self.has_jobs && !was.has_jobs) || (self.has_line && !was.has_line)
    }
}

/// How long the queue and the line may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) queue_max: usize,
    pub(crate) line_max: usize,
}

pub(crate) struct Queue {
    limits: Limits,
    pub(crate) jobs: Vec<Job>,
    /// Those behind the queue, first to last. Whatever is kept of them stands in `in_flight`.
    line: VecDeque<AttemptId>,
    /// How many of each shopper's are in the line; its key is the output of a keyed hash, as an attempt's id is.
    in_line: HashMap<ShopperKey, u8, OwnBits>,
    in_flight: HashMap<AttemptId, InFlight, OwnBits>,
    /// What is said to those who found no room, unless something was promised to them before: that is being looked up.
    unheard: HashMap<AttemptId, Unavailable, OwnBits>,
    /// Attempts accepted, and attempts decided, since the start.
    queued: u64,
    decided: u64,
    pace: Pace,
    measured: Measured,
    /// Since when nothing has been decided, while something is to be that is not in the line.
    undecided_since: Option<TimeMs>,
    pub(crate) stopping: bool,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            jobs: Vec::new(),
            line: VecDeque::new(),
            in_line: HashMap::default(),
            in_flight: HashMap::default(),
            unheard: HashMap::default(),
            queued: 0,
            decided: 0,
            pace: Pace::default(),
            measured: Measured::default(),
            undecided_since: None,
            stopping: false,
        }
    }

    /// Takes an attempt up, or joins the decision of the same one. Whoever does not wait here is given back with what is to be
    /// said: the answer is no nearer than `patience_ms`, or there is no room, or the key stands for something else.
    pub(crate) fn take_up(
        &mut self,
        attempt: Attempt,
        waiter: Waiter,
        at: Moment,
        patience_ms: u64,
        known: &Known,
    ) -> Option<(Waiter, Said)> {
        let is_far = |place: &LinePlace| place.wait_ms.is_some_and(|wait_ms| wait_ms > patience_ms);
        if let Some(same_id) = self.in_flight.get(&attempt.id) {
            if same_id.attempt.shopper != attempt.shopper || same_id.attempt.basket != attempt.basket {
                return Some((waiter, Ok(Told::Answer(Answer::KeyReused))));
            }
            let place = self.place(same_id.number, at);
            if is_far(&place) || same_id.others.len() >= WAITERS_MAX {
                return Some((waiter, Ok(Told::InLine(place))));
            }
            if let Some(same_id) = self.in_flight.get_mut(&attempt.id) {
                same_id.others.push(waiter);
            }
            return None;
        }
        if self.stopping {
            return Some((waiter, Err(Unavailable::Passing("the sale is stopping".into()))));
        }
        let at_once = self.line.is_empty() && self.jobs.len() < self.limits.queue_max && self.pace.is_due(at);
        if !at_once && let Err(full) = self.has_room(attempt.shopper, at) {
            return Some((waiter, Err(full)));
        }
        let number = self.queued;
        self.queued += 1;
        known.ask(attempt.shopper);
        if at_once {
            self.pace.take_at_once(at);
            self.undecided_since.get_or_insert(at.now);
            self.jobs.push(Job::Attempt(attempt));
        } else {
            self.line.push_back(attempt.id);
            *self.in_line.entry(attempt.shopper).or_default() += 1;
        }
        let place = self.place(number, at);
        let (first, told) = match is_far(&place) {
            true => (None, Some((waiter, Ok(Told::InLine(place))))),
            false => (Some(waiter), None),
        };
        self.in_flight.insert(attempt.id, InFlight { attempt, number, first, others: Vec::new() });
        told
    }

    fn has_room(&self, shopper: ShopperKey, at: Moment) -> Result<(), Unavailable> {
        let wait_ms = || self.place(self.queued, at).wait_ms;
        if self.line.len() >= self.limits.line_max {
            Err(Unavailable::LineFull { wait_ms: wait_ms() })
        } else if self.in_line.get(&shopper).is_some_and(|count| *count >= LINE_OF_SHOPPER_MAX) {
            Err(Unavailable::TooManyInLine { wait_ms: wait_ms() })
        } else {
            Ok(())
        }
    }

    /// Lets those out of the line whose turn it is, as far as the queue has room. At the end nobody is held back.
    pub(crate) fn release(&mut self, at: Moment) {
        let at = if self.stopping { Moment { rate: 0, ..at } } else { at };
        while self.jobs.len() < self.limits.queue_max && self.pace.is_due(at) {
            let Some(id) = self.line.pop_front() else { break };
            self.pace.take_from_line(at);
            let Some(flight) = self.in_flight.get(&id) else { continue };
            if let Entry::Occupied(mut of_shopper) = self.in_line.entry(flight.attempt.shopper) {
                *of_shopper.get_mut() -= 1;
                if *of_shopper.get() == 0 {
                    of_shopper.remove();
                }
            }
            self.undecided_since.get_or_insert(at.now);
            self.jobs.push(Job::Attempt(flight.attempt));
        }
        if self.line.is_empty() && self.line.capacity() > KEPT_ROOM {
            self.line.shrink_to(0);
            self.in_line.shrink_to(0);
            self.in_flight.shrink_to(2 * self.limits.queue_max);
        }
    }

    /// When the next one in the line has its turn; `None` if nobody is held back.
    pub(crate) fn next_turn(&self, at: Moment) -> Option<TimeMs> {
        let is_held = at.rate > 0 && !self.line.is_empty();
        is_held.then(|| TimeMs(self.pace.next_ns(at.rate).div_ceil(NS_PER_MS)))
    }

    /// Counts an attempt as decided, and gives back who waits for it.
    pub(crate) fn decide(&mut self, attempt: &Attempt, known: &Known) -> Option<InFlight> {
        self.decided += 1;
        let flight = self.in_flight.remove(&attempt.id)?;
        known.decided(attempt.shopper);
        Some(flight)
    }

    /// Notes how long a step of so many commands took, in which attempts were decided.
    pub(crate) fn note_step(&mut self, now: TimeMs, took: Duration, commands: usize) {
        self.measured.note(now, took, commands >= self.step_max());
        self.undecided_since = (self.len() > 0).then_some(now);
    }

    /// Has it looked up whether something was promised to an attempt before. Else `else_said` is said.
    pub(crate) fn look_up_first(&mut self, attempt: Attempt, waiter: Waiter, else_said: Said) {
        if let Err(full) = &else_said {
            self.unheard.insert(attempt.id, full.clone());
        }
        self.jobs.push(Job::Unheard(Box::new(Unheard { attempt, waiter, else_said })));
    }

    /// It was.
    pub(crate) fn looked_up(&mut self, attempt: &Attempt) {
        self.unheard.remove(&attempt.id);
    }

    /// Where a shopper's attempt stands that is not decided yet; or what is to be said to it if it found no room, and is being looked
    /// up.
    pub(crate) fn position(
        &self,
        attempt: AttemptId,
        shopper: ShopperKey,
        at: Moment,
    ) -> Result<Option<LinePlace>, Unavailable> {
        let Some(flight) = self.in_flight.get(&attempt) else {
            return self.unheard.get(&attempt).map_or(Ok(None), |full| Err(full.clone()));
        };
        Ok((flight.attempt.shopper == shopper).then(|| self.place(flight.number, at)))
    }

    fn place(&self, number: u64, at: Moment) -> LinePlace {
        let position = number.saturating_sub(self.decided);
        let measured_ms = self.measured.wait_ms(at.now, position, self.step_max());
        let left_line = self.queued.saturating_sub(self.line.len() as u64);
        let wait_ms = match number.checked_sub(left_line) {
            _ if self.is_stalled(at.now) => None,
            Some(before) if at.rate > 0 && !self.stopping => {
                let now_ns = at.now.0 * NS_PER_MS;
                let turn_ns = self.pace.next_ns(at.rate).max(now_ns) + before * Pace::interval_ns(at.rate);
                Some((turn_ns - now_ns).div_ceil(NS_PER_MS).max(measured_ms.unwrap_or(0)))
            }
            _ => measured_ms,
        };
        LinePlace { position, wait_ms }
    }

    fn is_stalled(&self, now: TimeMs) -> bool {
        self.undecided_since.is_some_and(|since| now.since(since).0 > LATELY_SECONDS as u64 * 1000)
    }

    fn step_max(&self) -> usize {
        STEP_COMMANDS_MAX.min(self.limits.queue_max)
    }

    pub(crate) fn work(&self) -> Work {
        Work { has_jobs: !self.jobs.is_empty(), has_line: !self.line.is_empty() }
    }

    /// Attempts that are not decided and not in the line.
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len() - self.line.len()
    }

    /// Attempts in the line.
    pub(crate) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// Whose attempts are not decided.
    pub(crate) fn shoppers(&self) -> impl Iterator<Item = ShopperKey> {
        self.in_flight.values().map(|flight| flight.attempt.shopper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{Basket, SealedShopper};

    /// Nobody is told to come back.
    const PATIENT: u64 = u64::MAX;

    fn attempt(n: u32, shopper: u32) -> Attempt {
        let bytes =
            |n: u32| u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_le_bytes();
        let sealed = SealedShopper::new(b"x").unwrap();
        let (id, shopper) = (AttemptId(bytes(n)), ShopperKey(bytes(shopper)));
        Attempt { id, shopper, sealed, tier: 0, basket: Basket::single(0, 1) }
    }

    type Told1 = oneshot::Receiver<Said>;

    struct Rig {
        queue: Queue,
        known: Known,
        now: TimeMs,
        rate: u32,
    }

    impl Rig {
        fn new(queue_max: usize, line_max: usize) -> Self {
            let queue = Queue::new(Limits { queue_max, line_max });
            Self { queue, known: Known::default(), now: TimeMs(1_800_000_000_000), rate: 0 }
        }

        fn at(&self) -> Moment {
            Moment { now: self.now, rate: self.rate }
        }

        /// Puts an attempt; what it hears at once, or where it hears it later.
        fn put_with(&mut self, attempt: Attempt, patience_ms: u64) -> Result<Told1, Said> {
            let (sender, receiver) = oneshot::channel();
            let at = self.at();
            match self.queue.take_up(attempt, Waiter::One(sender), at, patience_ms, &self.known) {
                None => Ok(receiver),
                Some((_, said)) => Err(said),
            }
        }

        fn put(&mut self, n: u32) -> Result<Told1, Said> {
            self.put_with(attempt(n, n), PATIENT)
        }

        fn place(&self, n: u32) -> Option<LinePlace> {
            let attempt = attempt(n, n);
            self.queue.position(attempt.id, attempt.shopper, self.at()).unwrap()
        }

        fn position(&self, n: u32) -> Option<u64> {
            self.place(n).map(|place| place.position)
        }

        /// Lets out whose turn it is, and decides all that are in the queue; their numbers.
        fn step(&mut self) -> Vec<u32> {
            let at = self.at();
            self.queue.release(at);
            self.decide()
        }

        fn decide(&mut self) -> Vec<u32> {
            let jobs = std::mem::take(&mut self.queue.jobs);
            let mut decided = Vec::new();
            for job in &jobs {
                let Job::Attempt(of) = job else { continue };
                decided.extend((0..1000).find(|n| attempt(*n, 0).id == of.id));
                self.queue.decide(of, &self.known).unwrap();
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
    fn whoever_finds_no_room_stands_in_line_and_all_are_decided_in_the_order_of_acceptance() {
        let mut rig = Rig::new(2, 100);
        let waiting: Vec<Told1> = (0..7).map(|n| rig.put(n).unwrap()).collect();
        assert_eq!((rig.queue.len(), rig.queue.line_len()), (2, 5));
        assert_eq!(
            (0..8).map(|n| rig.position(n)).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None]
        );
        assert_eq!(rig.decide(), [0, 1]);
        // There is room, and some are in line: whoever is new goes behind them.
        let _late = rig.put(7).unwrap();
        assert_eq!((rig.position(2), rig.position(7), rig.position(0)), (Some(0), Some(5), None));
        assert_eq!((rig.step(), rig.step(), rig.step()), (vec![2, 3], vec![4, 5], vec![6, 7]));
        assert_eq!((rig.queue.len(), rig.queue.line_len()), (0, 0));
        assert!(rig.queue.in_line.is_empty() && rig.queue.in_flight.is_empty());
        assert!(!rig.known.may_have(attempt(3, 3).shopper), "all are decided");
        drop(waiting);
        let _at_once = rig.put(8).unwrap();
        assert_eq!((rig.queue.len(), rig.queue.line_len()), (1, 0));
    }

    #[test]
    fn the_rate_lets_one_go_at_each_turn_and_says_exactly_when() {
        let mut rig = Rig::new(100, 100);
        rig.rate = 10;
        let _waiting: Vec<Told1> = (0..5).map(|n| rig.put(n).unwrap()).collect();
        assert_eq!((rig.queue.len(), rig.queue.line_len()), (1, 4));
        assert_eq!(rig.queue.next_turn(rig.at()), Some(TimeMs(rig.now.0 + 100)));
        let waits = |rig: &Rig| (1..5).map(|n| rig.place(n).unwrap().wait_ms.unwrap()).collect::<Vec<_>>();
        assert_eq!(waits(&rig), [100, 200, 300, 400]);
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
        // A worker that was busy for long does not let a crowd go for that.
        let _more: Vec<Told1> = (5..50).map(|n| rig.put(n).unwrap()).collect();
        rig.pass(60_000);
        assert_eq!(rig.step().len(), 11, "those of a second, and whose turn it is");
    }

    #[test]
    fn another_rate_counts_at_once_for_those_in_line() {
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
        // None at all: also where all are refused anyway, for which the service says 0.
        rig.rate = 0;
        assert_eq!(rig.queue.next_turn(rig.at()), None);
        assert_eq!(rig.step(), [2, 3, 4, 5, 6, 7, 8]);
        rig.rate = 10;
        let _next: Vec<Told1> = (9..12).map(|n| rig.put(n).unwrap()).collect();
        assert_eq!(rig.step(), [0; 0], "no turns are saved up while there is no rate");
    }

    #[test]
    fn a_stop_decides_all_who_are_in_line_and_takes_nobody_up() {
        let mut rig = Rig::new(2, 100);
        rig.rate = 1;
        let _waiting: Vec<Told1> = (0..5).map(|n| rig.put(n).unwrap()).collect();
        rig.queue.stopping = true;
        assert!(matches!(rig.put(9), Err(Err(Unavailable::Passing(_)))));
        assert_eq!((rig.step(), rig.step(), rig.step()), (vec![0, 1], vec![2, 3], vec![4]));
        assert_eq!(rig.queue.line_len(), 0);
    }

    #[test]
    fn a_full_line_takes_nobody_up_and_says_how_long_it_is() {
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
    fn whoever_would_wait_for_too_long_is_told_at_once_and_leaves_nothing_here_however_often_they_ask() {
        let mut rig = Rig::new(100, 100);
        rig.rate = 1;
        let _first: Vec<Told1> = (0..3).map(|n| rig.put_with(attempt(n, n), 2000).unwrap()).collect();
        let third = attempt(3, 3);
        for _ in 0..1000 {
            assert_eq!(rig.put_with(third, 2000).unwrap_err(), in_line(3, 3000));
        }
        let waiters = |rig: &Rig, of: Attempt| {
            let flight = &rig.queue.in_flight[&of.id];
            usize::from(flight.first.is_some()) + flight.others.len()
        };
        assert_eq!((waiters(&rig, third), waiters(&rig, attempt(2, 2))), (0, 1));
        assert!(rig.known.may_have(third.shopper), "it is not decided");
        let other = Attempt { basket: Basket::single(0, 2), ..third };
        assert_eq!(rig.put_with(other, 2000).unwrap_err(), Ok(Told::Answer(Answer::KeyReused)));
        // Nearer by: now it waits.
        rig.pass(1000);
        assert_eq!(rig.step(), [0, 1]);
        let heard = rig.put_with(third, 2000);
        assert_eq!((heard.is_ok(), waiters(&rig, third)), (true, 1));
        // Those who join where nobody knows how long it takes are bounded too.
        rig.rate = 0;
        let _joined: Vec<_> = (0..WAITERS_MAX + 1).map(|_| rig.put(3)).collect();
        assert_eq!(waiters(&rig, third), WAITERS_MAX);
        assert!(matches!(rig.put(3).unwrap_err(), Ok(Told::InLine(LinePlace { position: 1, .. }))));
    }

    #[test]
    fn how_long_it_takes_is_measured_and_nothing_is_said_where_nothing_moves() {
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

        // A lone attempt whose step takes a while says nothing bad of a crowd's.
        let mut rig = Rig::new(100_000, 100);
        let _one = rig.put(0).unwrap();
        assert_eq!(rig.decide(), [0]);
        let _crowd: Vec<Told1> = (0..3000).map(|n| rig.put_with(attempt(n, n), 2000).unwrap()).collect();
        assert_eq!(rig.place(2999).unwrap(), LinePlace { position: 2999, wait_ms: Some(100) });
    }

    #[test]
    fn the_worker_is_woken_for_jobs_and_for_a_line_that_it_does_not_know() {
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
        assert_eq!(rig.queue.in_line.len(), 2, "a number for each shopper, and no more");
        assert_eq!((rig.step(), rig.step()), (vec![0], vec![1]));
        assert!(rig.put_with(attempt(17, 7), PATIENT).is_ok());
    }

    #[test]
    fn an_attempt_in_line_takes_what_the_settings_say() {
        // `config.default.toml` tells operators what a full line takes: these, in tables that are half full at the worst.
        assert!(size_of::<(AttemptId, InFlight)>() <= 216, "{}", size_of::<(AttemptId, InFlight)>());
        assert!(size_of::<(ShopperKey, u8)>() <= 17);
        assert!(size_of::<AttemptId>() <= 16);
    }
}
