//! A sale's bounded queue, and the line before it, where attempts wait for which the queue has no
//! room or which the sale's rate holds back. Numbers are given at acceptance, and answers come in
//! their order.
//!
//! It knows no clock and no sale: the time and the rate are passed in.

mod job;
mod measured;
mod pace;
mod refused;

pub(crate) use job::{Job, PendingLookup, Post, Said, Sender, Waiter};
pub(crate) use pace::Moment;

use crate::membership_filter::MembershipFilter;
use contracts::{Answer, Attempt, AttemptId, IdentityBuildHasher, LinePlace, ShopperKey, Told, Unavailable};
use measured::{LATELY_SECONDS, Measured};
use pace::{NS_PER_MS, Pace};
use refused::Refused;
use runtime::STEP_COMMANDS_MAX;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use units::TimeMs;

/// Attempts of one shopper in the line: an honest shopper has one for each press of a button on
/// each device, and a shopper who makes thousands of keys cannot fill the line.
pub(crate) const LINE_OF_SHOPPER_MAX: u8 = 16;

/// Callers that wait for one attempt. Those beyond this are told its place at once.
pub(crate) const WAITERS_MAX: usize = 64;

/// A line that was longer frees its memory when it has become empty.
const KEPT_ROOM: usize = 1 << 16;

pub(crate) struct InFlight {
    attempt: Attempt,
    /// Its number among all attempts that were ever queued.
    number: u64,
    /// None if the caller was told the place and asks again.
    pub(crate) first: Option<Waiter>,
    /// Callers that joined: seldom any.
    pub(crate) others: Vec<Waiter>,
    /// The attempt was in the line.
    is_from_line: bool,
    /// Its shopper was told a place, and may not be waiting: they get the outcome when they ask.
    is_told: bool,
}

impl InFlight {
    /// Its shopper is told a place. Gates elsewhere are told once, for they know only their own
    /// attempts.
    fn tell_place(&mut self, known: &MembershipFilter) {
        if !std::mem::replace(&mut self.is_told, true) {
            known.tell_followers(self.attempt.shopper);
        }
    }
}

/// What a worker checks before it sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    has_jobs: bool,
    has_line: bool,
}

impl Work {
    /// Whether there is work that a worker which went to sleep at `was` does not know of: with a
    /// line it sleeps until the next turn, without one indefinitely.
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
    /// The most attempts that may be undecided.
    pub(crate) fn all(self) -> usize {
        self.queue_max + self.line_max
    }
}

pub(crate) struct Queue {
    limits: Limits,
    pub(crate) jobs: runtime::queue::Queue<Job>,
    /// The attempts in line, first to last. Their state is in `in_flight`.
    line: VecDeque<AttemptId>,
    /// How many of each shopper's are in the line; its key is the output of a keyed hash, as an
    /// attempt's id is.
    in_line: HashMap<ShopperKey, u8, IdentityBuildHasher>,
    in_flight: HashMap<AttemptId, InFlight, IdentityBuildHasher>,
    /// The answers for attempts that found no room, unless the sale has an answer for them already:
    /// that is being looked up.
    pending_lookups: HashMap<AttemptId, Unavailable, IdentityBuildHasher>,
    /// Attempts accepted, and attempts decided, since the start.
    queued: u64,
    decided: u64,
    /// Callers that joined a decision, over all attempts: at most as many as there may be attempts,
    /// however often they ask.
    joined: usize,
    refused: Refused,
    pace: Pace,
    measured: Measured,
    /// The time since which nothing has been decided, while attempts wait that are not in the line.
    undecided_since: Option<TimeMs>,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            jobs: runtime::queue::Queue::new(limits.queue_max),
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
        }
    }

    /// Accepts an attempt, or joins the decision of the same one. A caller that does not wait here
    /// is returned with its answer: the decision is further away than `patience_ms`, or there is no
    /// room, or the key stands for something else.
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
        if self.jobs.is_stopping() {
            return Some((waiter, Err(Unavailable::Passing("the sale is stopping".into()))));
        }
        // While every answer is `paused`, no attempt waits for a turn to get it.
        let is_due = at.is_paused || self.pace.is_due(at);
        let at_once = self.line.is_empty() && !self.jobs.is_full() && is_due;
        if !at_once && let Err(full) = self.has_room(attempt.shopper, at) {
            return Some((waiter, Err(full)));
        }
        // It may get another answer now.
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

    /// Releases the attempts whose turn it is from the line, as far as the queue has room. During a
    /// stop none is held back.
    pub(crate) fn release(&mut self, at: Moment) {
        let at = if self.jobs.is_stopping() { Moment { rate: 0, is_paused: false, ..at } } else { at };
        while !at.is_paused && !self.jobs.is_full() && self.pace.is_due(at) {
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

    /// The sale was paused before these jobs and those in the queue were done: attempts that came
    /// from the line go back to its head, where they are not refused for the pause. The other jobs
    /// stay.
    pub(crate) fn requeue(&mut self, jobs: &mut VecDeque<Job>) {
        let mut back = Vec::new();
        let mut sort = |in_flight: &HashMap<AttemptId, InFlight, IdentityBuildHasher>, job: &Job| {
            let flight = match job {
                Job::Attempt(attempt) => in_flight.get(&attempt.id).filter(|flight| flight.is_from_line),
                _ => None,
            };
            back.extend(flight.map(|flight| (flight.attempt.id, flight.attempt.shopper)));
            flight.is_none()
        };
        jobs.retain(|job| sort(&self.in_flight, job));
        self.jobs.retain(|job| sort(&self.in_flight, job));
        for (id, shopper) in back.into_iter().rev() {
            self.line.push_front(id);
            *self.in_line.entry(shopper).or_default() += 1;
        }
    }

    /// When the next attempt in line has its turn; `None` if none is held back.
    pub(crate) fn next_turn(&self, at: Moment) -> Option<TimeMs> {
        let is_held = at.rate > 0 && !at.is_paused && !self.line.is_empty();
        is_held.then(|| TimeMs(self.pace.next_ns(at.rate).div_ceil(NS_PER_MS)))
    }

    /// Counts an attempt as decided, and returns the callers that wait for it.
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

    /// Notes how long a step took in which attempts were decided, and its number of commands.
    pub(crate) fn note_step(&mut self, now: TimeMs, took: Duration, commands: usize) {
        self.measured.note(now, took, commands >= self.step_max());
        self.undecided_since = (self.len() > 0).then_some(now);
    }

    /// Has the sale look up whether an attempt was answered before. If not, `else_said` is the
    /// answer.
    pub(crate) fn look_up_first(&mut self, attempt: Attempt, waiter: Waiter, else_said: Said) {
        if let Err(full) = &else_said {
            self.pending_lookups.insert(attempt.id, full.clone());
        }
        self.jobs.push(Job::PendingLookup(Box::new(PendingLookup { attempt, waiter, else_said })));
    }

    /// It was looked up.
    pub(crate) fn looked_up(&mut self, attempt: &Attempt) {
        self.pending_lookups.remove(&attempt.id);
    }

    /// The place of a shopper's undecided attempt; or its refusal, if the shopper was told a place
    /// before and may not have received the refusal; or the answer for an attempt that found no
    /// room and is being looked up.
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
            // It is unknown when the sale resumes.
            Some(_) if at.is_paused && !self.jobs.is_stopping() => None,
            Some(before) if at.rate > 0 && !self.jobs.is_stopping() => {
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

    /// Undecided attempts that are not in the line.
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len() - self.line.len()
    }

    /// Attempts in the line.
    pub(crate) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// The shoppers of undecided attempts.
    pub(crate) fn shoppers(&self) -> impl Iterator<Item = ShopperKey> {
        self.in_flight.values().map(|flight| flight.attempt.shopper)
    }
}

#[cfg(test)]
impl Queue {
    /// What is remembered: shoppers in the line, undecided attempts, refusals.
    pub(crate) fn remembered(&self) -> [usize; 3] {
        [self.in_line.len(), self.in_flight.len(), self.refused.len()]
    }

    /// Callers that wait for an undecided attempt.
    pub(crate) fn waiters(&self, attempt: AttemptId) -> usize {
        let flight = self.in_flight.get(&attempt);
        flight.map_or(0, |flight| usize::from(flight.first.is_some()) + flight.others.len())
    }
}
