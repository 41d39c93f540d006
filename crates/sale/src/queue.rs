//! A sale's bounded queue, and the line behind it, which is where an attempt stands that the queue has no room for or that the
//! sale's rate holds back. Numbers are given at acceptance, and answers come in their order.
//!
//! It knows no clock and no sale: the time and the rate are passed in.

use crate::membership_filter::MembershipFilter;
use crate::worker::STEP_COMMANDS_MAX;
use contracts::{
    Actor, Answer, Attempt, AttemptId, Found, GateRefusal, IdentityBuildHasher, LinePlace, Mail, Mailbox,
    OperateError, Operation, OperationDone, SaleStats, ShopperKey, ShopperRecord, Told, Unavailable,
};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use units::TimeMs;

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

/// Of turns that came while nobody asked, those of so long: loops put together what comes within some milliseconds.
const TOGETHER_NS: u64 = 10 * NS_PER_MS;

pub(crate) enum Job {
    /// Who waits for it stands in [`Queue::in_flight`].
    Attempt(Attempt),
    Lookup(AttemptId, ShopperKey, Sender<Found>),
    Shopper(ShopperKey, Sender<ShopperRecord>),
    Operate(Actor, Operation, Sender<Result<OperationDone, OperateError>>),
    Stats(Sender<SaleStats>),
    GateRefusals(Vec<GateRefusal>),
    PendingLookup(Box<PendingLookup>),
}

/// An attempt that may have been answered before: what was promised is said first, and only then what is said here.
pub(crate) struct PendingLookup {
    pub(crate) attempt: Attempt,
    pub(crate) waiter: Waiter,
    pub(crate) else_said: Said,
}

impl PendingLookup {
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
    /// It has stood in the line.
    is_from_line: bool,
    /// Its shopper was told a place, and may wait nowhere: they hear what came of it when they ask.
    is_told: bool,
}

/// Refusals of those who were told a place. What else came of an attempt the sale keeps; a refusal it forgets.
#[derive(Default)]
struct Refused {
    answers: HashMap<AttemptId, (ShopperKey, Answer), IdentityBuildHasher>,
    /// First to last.
    order: VecDeque<AttemptId>,
}

impl Refused {
    fn note(&mut self, attempt: &Attempt, answer: &Answer, max: usize) {
        if self.answers.insert(attempt.id, (attempt.shopper, *answer)).is_none() {
            self.order.push_back(attempt.id);
        }
        while self.order.len() > max {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.answers.remove(&oldest));
        }
    }

    fn forget(&mut self, attempt: AttemptId) {
        if !self.answers.is_empty() {
            self.answers.remove(&attempt);
        }
    }

    fn get(&self, attempt: AttemptId, shopper: ShopperKey) -> Option<Answer> {
        self.answers.get(&attempt).filter(|(of, _)| *of == shopper).map(|(_, answer)| *answer)
    }
}

impl InFlight {
    /// Its shopper is told a place. Gates elsewhere hear of that, once: they know of their own attempts alone.
    fn tell_place(&mut self, known: &MembershipFilter) {
        if !std::mem::replace(&mut self.is_told, true) {
            known.tell_followers(self.attempt.shopper);
        }
    }
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
    /// All would hear that the sale is paused: those in line keep their places until it goes on.
    pub(crate) is_paused: bool,
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
        self.take(at, CATCH_UP_NS);
    }

    fn take_at_once(&mut self, at: Moment) {
        // At a slow rate nobody is to go a moment early.
        let together = if Self::interval_ns(at.rate) < TOGETHER_NS { TOGETHER_NS } else { 0 };
        self.take(at, together);
    }

    fn take(&mut self, at: Moment, late_ns: u64) {
        let now = at.now.0 * NS_PER_MS;
        let due = if at.rate == 0 { now } else { self.next_ns(at.rate) };
        self.last_ns = due.max(now.saturating_sub(late_ns));
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

impl Limits {
    /// Attempts that may be on their way.
    pub(crate) fn all(self) -> usize {
        self.queue_max + self.line_max
    }
}

pub(crate) struct Queue {
    limits: Limits,
    pub(crate) jobs: Vec<Job>,
    /// Those behind the queue, first to last. Whatever is kept of them stands in `in_flight`.
    line: VecDeque<AttemptId>,
    /// How many of each shopper's are in the line; its key is the output of a keyed hash, as an attempt's id is.
    in_line: HashMap<ShopperKey, u8, IdentityBuildHasher>,
    in_flight: HashMap<AttemptId, InFlight, IdentityBuildHasher>,
    /// What is said to those who found no room, unless something was promised to them before: that is being looked up.
    pending_lookups: HashMap<AttemptId, Unavailable, IdentityBuildHasher>,
    /// Attempts accepted, and attempts decided, since the start.
    queued: u64,
    decided: u64,
    /// Those who joined somebody's decision, of all attempts: no more than attempts may be, however often they ask.
    joined: usize,
    refused: Refused,
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
            pending_lookups: HashMap::default(),
            queued: 0,
            decided: 0,
            joined: 0,
            refused: Refused::default(),
            pace: Pace::default(),
            measured: Measured::default(),
            undecided_since: None,
            stopping: false,
        }
    }

    /// Takes an attempt up, or joins the decision of the same one. Whoever does not wait here is given back with what is to be
    /// said: the answer is no nearer than `patience_ms`, or there is no room, or the key stands for something else.
    pub(crate) fn enqueue(
        &mut self,
        attempt: Attempt,
        waiter: Waiter,
        at: Moment,
        patience_ms: u64,
        known: &MembershipFilter,
    ) -> Option<(Waiter, Said)> {
        let is_far = |place: &LinePlace| place.wait_ms.is_some_and(|wait_ms| wait_ms > patience_ms);
        if let Some(same_id) = self.in_flight.get(&attempt.id) {
            if same_id.attempt.shopper != attempt.shopper || same_id.attempt.basket != attempt.basket {
                return Some((waiter, Ok(Told::Answer(Answer::KeyReused))));
            }
            let place = self.place(same_id.number, at);
            let is_crowded = same_id.others.len() >= WAITERS_MAX || self.joined >= self.limits.all();
            let same_id = self.in_flight.get_mut(&attempt.id)?;
            if is_far(&place) || is_crowded {
                same_id.tell_place(known);
                return Some((waiter, Ok(Told::InLine(place))));
            }
            same_id.others.push(waiter);
            self.joined += 1;
            return None;
        }
        if self.stopping {
            return Some((waiter, Err(Unavailable::Passing("the sale is stopping".into()))));
        }
        // Where all hear that the sale is paused, nobody waits for a turn to hear it.
        let is_due = at.is_paused || self.pace.is_due(at);
        let at_once = self.line.is_empty() && self.jobs.len() < self.limits.queue_max && is_due;
        if !at_once && let Err(full) = self.has_room(attempt.shopper, at) {
            return Some((waiter, Err(full)));
        }
        // It may be answered otherwise now.
        self.refused.forget(attempt.id);
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
        let mut flight = InFlight {
            attempt,
            number,
            first: None,
            others: Vec::new(),
            is_from_line: !at_once,
            is_told: false,
        };
        let told = match is_far(&place) {
            true => {
                flight.tell_place(known);
                Some((waiter, Ok(Told::InLine(place))))
            }
            false => {
                flight.first = Some(waiter);
                None
            }
        };
        self.in_flight.insert(attempt.id, flight);
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
        let at = if self.stopping { Moment { rate: 0, is_paused: false, ..at } } else { at };
        while !at.is_paused && self.jobs.len() < self.limits.queue_max && self.pace.is_due(at) {
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

    /// The sale was paused before these jobs and those in the queue were done: who comes out of the line goes back to its head, where
    /// nobody is refused for that. Gives back the others of these jobs.
    pub(crate) fn requeue(&mut self, jobs: impl Iterator<Item = Job>) -> Vec<Job> {
        let mut back = Vec::new();
        let mut sort = |in_flight: &HashMap<AttemptId, InFlight, IdentityBuildHasher>, job: &Job| {
            let flight = match job {
                Job::Attempt(attempt) => in_flight.get(&attempt.id).filter(|flight| flight.is_from_line),
                _ => None,
            };
            back.extend(flight.map(|flight| (flight.attempt.id, flight.attempt.shopper)));
            flight.is_none()
        };
        let kept = jobs.filter(|job| sort(&self.in_flight, job)).collect();
        self.jobs.retain(|job| sort(&self.in_flight, job));
        for (id, shopper) in back.into_iter().rev() {
            self.line.push_front(id);
            *self.in_line.entry(shopper).or_default() += 1;
        }
        kept
    }

    /// When the next one in the line has its turn; `None` if nobody is held back.
    pub(crate) fn next_turn(&self, at: Moment) -> Option<TimeMs> {
        let is_held = at.rate > 0 && !at.is_paused && !self.line.is_empty();
        is_held.then(|| TimeMs(self.pace.next_ns(at.rate).div_ceil(NS_PER_MS)))
    }

    /// Counts an attempt as decided, and gives back who waits for it.
    pub(crate) fn decide(
        &mut self,
        attempt: &Attempt,
        answer: Option<&Answer>,
        known: &MembershipFilter,
    ) -> Option<InFlight> {
        self.decided += 1;
        let flight = self.in_flight.remove(&attempt.id)?;
        self.joined -= flight.others.len();
        if let Some(refusal @ Answer::Refused { .. }) = answer
            && flight.is_told
        {
            self.refused.note(attempt, refusal, self.limits.all());
        }
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
            self.pending_lookups.insert(attempt.id, full.clone());
        }
        self.jobs.push(Job::PendingLookup(Box::new(PendingLookup { attempt, waiter, else_said })));
    }

    /// It was.
    pub(crate) fn looked_up(&mut self, attempt: &Attempt) {
        self.pending_lookups.remove(&attempt.id);
    }

    /// Where a shopper's attempt stands that is not decided yet; or how it was refused, if they were told its place before and may not
    /// have heard; or what is to be said to it if it found no room, and is being looked up.
    pub(crate) fn position(
        &mut self,
        attempt: AttemptId,
        shopper: ShopperKey,
        at: Moment,
        known: &MembershipFilter,
    ) -> Result<Option<Told>, Unavailable> {
        let Some(flight) = self.in_flight.get_mut(&attempt) else {
            let refused = self.refused.get(attempt, shopper).map(Told::Answer);
            return self.pending_lookups.get(&attempt).map_or(Ok(refused), |full| Err(full.clone()));
        };
        if flight.attempt.shopper != shopper {
            return Ok(None);
        }
        flight.tell_place(known);
        let number = flight.number;
        Ok(Some(Told::InLine(self.place(number, at))))
    }

    fn place(&self, number: u64, at: Moment) -> LinePlace {
        let position = number.saturating_sub(self.decided);
        let measured_ms = self.measured.wait_ms(at.now, position, self.step_max());
        let left_line = self.queued.saturating_sub(self.line.len() as u64);
        let wait_ms = match number.checked_sub(left_line) {
            _ if self.is_stalled(at.now) => None,
            // Nobody knows when the sale goes on.
            Some(_) if at.is_paused && !self.stopping => None,
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
#[path = "queue_tests.rs"]
mod tests;
