//! A subscription: which of its topic's events it has not had, key by key.
//!
//! Events from `cursor` on have not been looked at. Those before it that are not done are in lanes,
//! one for each key, in order. Only the first of a lane is ever tried; so its key waits, durably,
//! while other keys go on. The ready lanes are indexed: those that wait cost nothing.

use super::{
    queue::Queue,
    record::{EventNo, Key, Signing, SubscriptionNo, TopicNo, Tried},
    remembered::Commands,
    spec::{SubscriptionSpec, SubscriptionState},
    topic::Topic,
};
use contracts::SubscriptionId;
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use units::{DurationMs, TimeMs};

/// Failures in a row, of any keys, after which an endpoint is left alone for a while.
const BREAKER_FAILURES: u32 = 10;
/// How long at first, and at the most. These are no attempts: the budget of no event is spent.
const BREAKER_FIRST: DurationMs = DurationMs(1000);
const BREAKER_LONGEST: DurationMs = DurationMs(60_000);
/// Events and keys looked at for one that is to be delivered.
const LOOKS_MAX: usize = 1024;
/// Events in lanes, at the most: a key and its event have some two hundred bytes. While there are
/// so many, no further event is looked at.
const PARKED_MAX: u64 = 8_000_000;
/// Dead letters, at the most: one has up to a kilobyte. While there are so many, keys wait instead.
const DEAD_MAX: usize = 100_000;
/// How much further it is looked for the oldest event that it has not had, each time that one is
/// done; and for one answer, over all subscriptions in it.
const OLDEST_LOOKS: usize = 8;
pub(super) const OLDEST_LOOKS_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ready,
    /// Its first event is on its way, in this attempt.
    InFlight(EventNo, u32),
    Waiting(TimeMs),
    /// Until an operator resumes the key.
    Blocked,
}

#[derive(Debug)]
struct Lane {
    /// Never empty.
    queue: Queue,
    /// Attempts of the first event, and when the next one is due, if it has failed.
    attempts: u32,
    again_at: Option<TimeMs>,
    /// Not in the log, apart from what follows from the above, and whether it is blocked.
    stage: Stage,
}

impl Lane {
    fn is_first(&self, event: EventNo) -> bool {
        self.queue.first() == Some(event)
    }
}

/// An event whose attempts are used up: dead, or the one for which its key waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub died_at: TimeMs,
    pub attempts: u32,
    /// An HTTP status; 0 if no answer came.
    pub status: u16,
    pub said: String,
}

impl DeadLetter {
    fn of(died_at: TimeMs, tried: &Tried) -> Self {
        Self { died_at, attempts: tried.attempt, status: tried.status, said: tried.said.clone() }
    }
}

/// The endpoint's state, as far as it concerns all keys. It is not in the log: a restart tries.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<TimeMs>,
}

/// Spreads deliveries over time (the generic cell rate algorithm). It is not in the log: a restart
/// begins with a full allowance.
#[derive(Debug, Default)]
struct Pace {
    /// When the next delivery would be due if all were evenly spread, in microseconds.
    next_us: u64,
}

impl Pace {
    /// How far ahead of that deliveries may begin: a tenth of a second.
    const AHEAD_US: u64 = 100_000;

    /// When the next delivery may begin, if not now.
    fn wait(&mut self, now: TimeMs, rate: u32) -> Option<TimeMs> {
        let latest = now.0.saturating_mul(1000).saturating_add(Self::AHEAD_US);
        // Further ahead it can only be because the clock was set back.
        self.next_us = self.next_us.min(latest.saturating_add(Self::between_us(rate)));
        (self.next_us > latest).then(|| TimeMs((self.next_us - Self::AHEAD_US).div_ceil(1000)))
    }

    fn begin(&mut self, now: TimeMs, rate: u32) {
        self.next_us = self.next_us.max(now.0.saturating_mul(1000)).saturating_add(Self::between_us(rate));
    }

    fn between_us(rate: u32) -> u64 {
        1_000_000 / u64::from(rate.max(1))
    }
}

/// Events from before a subscription was made, for which its filters are still to be asked: from
/// `next` up to, and without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    pub next: EventNo,
    pub end: EventNo,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) number: SubscriptionNo,
    pub(super) name: SubscriptionId,
    pub(super) topic: TopicNo,
    pub(super) spec: Arc<SubscriptionSpec>,
    pub(super) state: SubscriptionState,
    /// The first event that it can get.
    pub(super) since: u64,
    pub(super) signing: Signing,
    pub(super) commands: Commands,
    /// The last event that its filters passed.
    pub(super) last_matched: u64,
    pub(super) fill: Option<Fill>,
    cursor: u64,
    /// The first event after all that the log says something about.
    said_up_to: u64,
    lanes: BTreeMap<Key, Lane>,
    /// Lanes that may be tried. A key may be here that has nothing to be tried any more.
    ready: VecDeque<Key>,
    waiting: BTreeSet<(TimeMs, Key)>,
    pub(super) dead: BTreeMap<EventNo, DeadLetter>,
    /// Those for which their keys wait.
    pub(super) blocked: BTreeMap<EventNo, DeadLetter>,
    /// All before this are done. Not in the log.
    low: Cell<u64>,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    /// Events that its topic dropped although it had not had them.
    pub(super) dropped: u64,
    /// Events in lanes.
    parked: u64,
    in_flight: u32,
    breaker: Breaker,
    pace: Pace,
    /// Sixteen times the average milliseconds of the latest attempts that its consumer answered.
    /// Not in the log.
    took_16ths_ms: Option<u32>,
    /// It is in the queue of those that may have something to deliver.
    pub(super) is_queued: bool,
}

/// What to deliver next, or when to ask again.
pub(super) enum Next {
    Deliver {
        event: EventNo,
        attempt: u32,
    },
    /// There may be more, further on: ask again.
    Again,
    /// Nothing before this.
    At(TimeMs),
    /// Nothing until something happens.
    Nothing,
    /// Nothing until a delivery ends, of any subscription.
    Crowded,
}

impl Subscription {
    pub(super) fn new(
        number: SubscriptionNo,
        name: SubscriptionId,
        topic: TopicNo,
        spec: Arc<SubscriptionSpec>,
        (since, made_at): (u64, TimeMs),
    ) -> Self {
        Self {
            number,
            name,
            topic,
            spec,
            state: SubscriptionState::Active,
            since,
            signing: Signing { made_at, rotations: 0, old_until: TimeMs::default() },
            commands: Commands::default(),
            last_matched: 0,
            fill: None,
            cursor: since,
            said_up_to: since,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            dead: BTreeMap::new(),
            blocked: BTreeMap::new(),
            low: Cell::new(since),
            delivered: 0,
            failed: 0,
            dropped: 0,
            parked: 0,
            in_flight: 0,
            breaker: Breaker::default(),
            pace: Pace::default(),
            took_16ths_ms: None,
            is_queued: false,
        }
    }

    /// Takes the next event into its lane; false if there is none.
    fn look_at_next(&mut self, topic: &Topic) -> bool {
        let next = topic.first_from(self.cursor);
        if next >= topic.next() {
            self.cursor = next;
            return false;
        }
        if self.filled_up_to(topic).is_some_and(|filled| next >= filled) {
            return false;
        }
        self.cursor = next + 1;
        if let Some(kept) = topic.is_for(next, self.number) {
            self.park(kept.key, EventNo(next));
        }
        true
    }

    /// The first event for which its filters are still to be asked, if there is one. What the topic
    /// let go meanwhile is not asked for any more.
    pub(super) fn filled_up_to(&self, topic: &Topic) -> Option<u64> {
        let Fill { next, end } = self.fill?;
        Some(next.0.max(topic.first())).filter(|next| *next < end.0)
    }

    /// It begins with this earlier event.
    pub(super) fn start_earlier(&mut self, from: u64) {
        self.fill = Some(Fill { next: EventNo(from), end: EventNo(self.since) });
        (self.since, self.cursor, self.said_up_to) = (from, from, from);
        self.low.set(from);
    }

    /// Its filters were asked for all events up to this one, and the topic's first one is now
    /// `first`: what it let go before that is lost. Whether there are more.
    pub(super) fn filled(&mut self, up_to: u64, first: u64) -> bool {
        let Some(Fill { next, end }) = self.fill else { return false };
        let after = EventNo(up_to.saturating_add(1));
        self.dropped += first.min(after.0).saturating_sub(next.0);
        self.fill = (after < end).then_some(Fill { next: after, end });
        self.fill.is_some()
    }

    fn park(&mut self, key: Key, event: EventNo) {
        match self.lanes.get_mut(&key) {
            Some(lane) => {
                // One that was on its way at a replay is there already.
                if !lane.queue.insert(event) {
                    return;
                }
            }
            None => {
                let queue = Queue::of(event);
                let lane = Lane { queue, attempts: 0, again_at: None, stage: Stage::Ready };
                self.lanes.insert(key, lane);
                self.ready.push_back(key);
            }
        }
        self.parked += 1;
    }

    /// The next delivery, and how much was looked at for it. It counts as on its way from now on.
    /// `free` is how many may be on their way in all: a subscription takes no more than it leaves.
    pub(super) fn next(&mut self, now: TimeMs, topic: &Topic, free: usize) -> (Next, usize) {
        let mut looks = 0;
        let next = self.look(now, topic, free, &mut looks);
        (next, looks)
    }

    fn look(&mut self, now: TimeMs, topic: &Topic, free: usize, looks: &mut usize) -> Next {
        if self.state != SubscriptionState::Active {
            return Next::Nothing;
        }
        let is_probe = match self.breaker.open_until {
            Some(until) if until > now => return Next::At(until),
            until => until.is_some(),
        };
        // While it is tried whether an endpoint answers again, one delivery is on its way.
        let room = if is_probe { 1 } else { self.spec.in_flight_max };
        if self.in_flight >= room {
            return Next::Nothing;
        }
        if self.in_flight > 0 && self.in_flight as usize >= free {
            return Next::Crowded;
        }
        let rate = self.spec.rate_max;
        if rate > 0
            && let Some(at) = self.pace.wait(now, rate)
        {
            return Next::At(at);
        }
        while let Some(&(at, key)) = self.waiting.first() {
            if at > now {
                break;
            }
            if *looks >= LOOKS_MAX {
                return Next::Again;
            }
            *looks += 1;
            self.waiting.pop_first();
            if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.stage == Stage::Waiting(at)) {
                lane.stage = Stage::Ready;
                self.ready.push_back(key);
            }
        }
        while *looks < LOOKS_MAX {
            *looks += 1;
            let Some(key) = self.ready.pop_front() else {
                if self.parked < PARKED_MAX && self.look_at_next(topic) {
                    continue;
                }
                return self.waiting.first().map_or(Next::Nothing, |&(at, _)| Next::At(at));
            };
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.stage == Stage::Ready) else {
                continue;
            };
            let Some(event) = lane.queue.first() else { continue };
            let attempt = lane.attempts + 1;
            lane.stage = Stage::InFlight(event, attempt);
            self.in_flight += 1;
            if rate > 0 {
                self.pace.begin(now, rate);
            }
            return Next::Deliver { event, attempt };
        }
        Next::Again
    }

    /// How many attempts the event has had, if it is the first of its key and its attempts count.
    /// One may end while its key waits: a state that was built again does not know of it.
    pub(super) fn attempts(&self, key: Key, event: EventNo) -> Option<u32> {
        let lane = self.lanes.get(&key)?;
        (lane.is_first(event) && lane.stage != Stage::Blocked).then_some(lane.attempts)
    }

    /// Whether the event is the next one of its key.
    pub(super) fn is_first(&self, key: Key, event: EventNo) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.is_first(event))
    }

    /// Whether the event is in a lane, or will be.
    pub(super) fn owes(&self, key: Key, event: EventNo) -> bool {
        let is_parked = || self.lanes.get(&key).is_some_and(|lane| lane.queue.contains(event));
        event.0 >= self.cursor || is_parked()
    }

    /// When the event is tried again, if its key waits for that; and its attempts so far.
    pub(super) fn waits(&self, key: Key, event: EventNo) -> (u32, Option<TimeMs>, bool) {
        match self.lanes.get(&key).filter(|lane| lane.is_first(event)) {
            Some(Lane { attempts, stage: Stage::Waiting(at), .. }) => (*attempts, Some(*at), false),
            Some(Lane { attempts, stage, .. }) => (*attempts, None, *stage == Stage::Blocked),
            None => (0, None, false),
        }
    }

    /// The delivery that is on its way in this lane has ended, or this attempt of it.
    fn landed(&mut self, key: Key, event: EventNo, attempt: Option<u32>) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && let Stage::InFlight(on_its_way, its_attempt) = lane.stage
            && on_its_way == event
            && attempt.is_none_or(|attempt| attempt == its_attempt)
        {
            lane.stage = Stage::Ready;
            self.in_flight -= 1;
        }
    }

    /// An attempt has ended and nothing of it is logged: the event is tried again at once, unless a
    /// later attempt is on its way.
    pub(super) fn give_back(&mut self, key: Key, event: EventNo, attempt: u32) {
        self.landed(key, event, Some(attempt));
        self.ready.push_back(key);
    }

    /// As [`Self::give_back`], for an event that could not be tried: its key waits a little.
    pub(super) fn put_off(&mut self, key: Key, event: EventNo, attempt: u32, until: TimeMs) {
        self.landed(key, event, Some(attempt));
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.stage == Stage::Ready
        {
            lane.stage = Stage::Waiting(until);
            self.waiting.insert((until, key));
        }
    }

    /// Looks at all events up to this one, as a result of an earlier life of the state may be about
    /// one that this life has not come to; false if it is far from there, as after a replay from an
    /// earlier event.
    pub(super) fn can_reach(&mut self, topic: &Topic, event: EventNo) -> bool {
        let is_near = event.0 < self.cursor.saturating_add(LOOKS_MAX as u64);
        if is_near {
            self.reach(topic, event);
        }
        is_near
    }

    /// An attempt has ended that was on its way at a replay, far from where that began: the event
    /// comes again, in its order, once it is looked at.
    pub(super) fn let_go(&mut self, key: Key, event: EventNo, attempt: u32) {
        let is_it = |lane: &Lane| lane.stage == Stage::InFlight(event, attempt);
        if self.lanes.get(&key).is_some_and(is_it) {
            self.take_out(key, event);
        }
    }

    fn reach(&mut self, topic: &Topic, event: EventNo) {
        while self.cursor <= event.0 && self.look_at_next(topic) {}
    }

    /// Folds that the log says something about the event: all before it have been looked at.
    fn heard_of(&mut self, topic: &Topic, event: EventNo) {
        self.reach(topic, event);
        self.said_up_to = self.said_up_to.max(event.0 + 1);
    }

    /// Looks on for the oldest event that it has not had.
    fn raise_low(&mut self, topic: &Topic, looks: usize) {
        self.first_owed(topic, &mut { looks });
    }

    /// The first event that it has not had, or an earlier one if that is far from where it was
    /// looked for last: it is looked for from there the next time.
    fn first_owed(&self, topic: &Topic, looks: &mut usize) -> u64 {
        let mut low = topic.first_from(self.low.get());
        while let Some(left) = looks.checked_sub(1) {
            let is_owed =
                || topic.is_for(low, self.number).is_some_and(|kept| self.owes(kept.key, EventNo(low)));
            if low >= self.cursor || is_owed() {
                break;
            }
            *looks = left;
            low = topic.first_from(low + 1);
        }
        self.low.set(low);
        low
    }

    /// Takes the event out of its lane; false if it is not there.
    fn take_out(&mut self, key: Key, event: EventNo) -> bool {
        self.landed(key, event, None);
        self.blocked.remove(&event);
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        let Some(at) = lane.queue.remove(event) else { return false };
        self.parked -= 1;
        if at == 0 {
            if let Stage::Waiting(until) = lane.stage {
                self.waiting.remove(&(until, key));
            }
            (lane.attempts, lane.again_at) = (0, None);
            if !matches!(lane.stage, Stage::InFlight(..)) {
                lane.stage = Stage::Ready;
                self.ready.push_back(key);
            }
        }
        if lane.queue.first().is_none() {
            self.lanes.remove(&key);
        } else if at > 0 && lane.stage == Stage::Ready {
            // One was put before it while it was on its way.
            self.ready.push_back(key);
        }
        true
    }

    pub(super) fn deliver(&mut self, topic: &Topic, key: Key, event: EventNo) -> bool {
        self.heard_of(topic, event);
        self.delivered += 1;
        self.breaker = Breaker::default();
        let done = self.take_out(key, event);
        self.raise_low(topic, OLDEST_LOOKS);
        done
    }

    pub(super) fn fail(&mut self, topic: &Topic, key: Key, tried: &Tried, again_at: TimeMs) -> bool {
        self.heard_of(topic, tried.event);
        self.landed(key, tried.event, None);
        self.failed += 1;
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_first(tried.event)) else {
            return false;
        };
        if let Stage::Waiting(until) = lane.stage {
            self.waiting.remove(&(until, key));
        }
        (lane.attempts, lane.again_at) = (tried.attempt, Some(again_at));
        lane.stage = Stage::Waiting(again_at);
        self.waiting.insert((again_at, key));
        true
    }

    pub(super) fn die(&mut self, topic: &Topic, key: Key, at: TimeMs, tried: &Tried) -> bool {
        self.heard_of(topic, tried.event);
        self.failed += 1;
        self.dead.insert(tried.event, DeadLetter::of(at, tried));
        let done = self.take_out(key, tried.event);
        self.raise_low(topic, OLDEST_LOOKS);
        done
    }

    /// Whether there is room for a further dead letter.
    pub(super) fn has_room_for_dead(&self) -> bool {
        self.dead.len() < DEAD_MAX
    }

    pub(super) fn block(&mut self, topic: &Topic, key: Key, at: TimeMs, tried: &Tried) -> bool {
        self.heard_of(topic, tried.event);
        self.landed(key, tried.event, None);
        self.failed += 1;
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_first(tried.event)) else {
            return false;
        };
        if let Stage::Waiting(until) = lane.stage {
            self.waiting.remove(&(until, key));
        }
        (lane.attempts, lane.again_at) = (tried.attempt, None);
        lane.stage = Stage::Blocked;
        self.blocked.insert(tried.event, DeadLetter::of(at, tried));
        true
    }

    /// A dead letter goes back into its lane, or a blocked or waiting key on; false if it is
    /// neither.
    pub(super) fn redrive(&mut self, key: Key, event: EventNo) -> bool {
        if self.dead.remove(&event).is_some() {
            // It comes before the event for which its key waits, if it does.
            let first = self.lanes.get(&key).and_then(|lane| lane.queue.first());
            first.filter(|first| event < *first).map(|first| self.blocked.remove(&first));
            self.park(key, event);
            self.low.set(self.low.get().min(event.0));
            // Its key may wait with a later event, which is no longer the first.
            if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_first(event)) {
                if let Stage::Waiting(until) = lane.stage {
                    self.waiting.remove(&(until, key));
                }
                (lane.attempts, lane.again_at) = (0, None);
                if !matches!(lane.stage, Stage::InFlight(..)) {
                    lane.stage = Stage::Ready;
                    self.ready.push_back(key);
                }
            }
            return true;
        }
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_first(event)) else { return false };
        if lane.attempts == 0 {
            return false;
        }
        self.blocked.remove(&event);
        if let Stage::Waiting(until) = lane.stage {
            self.waiting.remove(&(until, key));
        }
        (lane.attempts, lane.again_at) = (0, None);
        if !matches!(lane.stage, Stage::InFlight(..)) {
            lane.stage = Stage::Ready;
            self.ready.push_back(key);
        }
        true
    }

    /// A dead letter, or the first event of a blocked or waiting key, is given up.
    pub(super) fn discard(&mut self, key: Key, event: EventNo) -> bool {
        if self.dead.remove(&event).is_some() {
            return true;
        }
        let is_begun = |lane: &Lane| lane.is_first(event) && lane.attempts > 0;
        self.lanes.get(&key).is_some_and(is_begun) && self.take_out(key, event)
    }

    /// The breaker hears of a failure that says something about the whole endpoint.
    pub(super) fn endpoint_failed(&mut self, now: TimeMs) {
        // Those that were on their way when it failed say nothing new.
        if self.breaker.open_until.is_some_and(|until| until > now) {
            return;
        }
        self.breaker.failures = self.breaker.failures.saturating_add(1);
        if let Some(over) = self.breaker.failures.checked_sub(BREAKER_FAILURES) {
            let wait = BREAKER_FIRST.0.saturating_mul(1 << over.min(10)).min(BREAKER_LONGEST.0);
            self.breaker.open_until = Some(now.plus(DurationMs(wait)));
        }
    }

    /// The endpoint has answered: what is wrong is wrong with one event.
    pub(super) fn endpoint_answered(&mut self) {
        self.breaker = Breaker::default();
    }

    /// Until when its endpoint is left alone.
    pub(super) fn left_alone_until(&self) -> Option<TimeMs> {
        self.breaker.open_until
    }

    /// Events that it has not had, without its dead letters. Those that were not looked at yet are
    /// counted as if all were for it.
    pub(super) fn backlog(&self, topic: &Topic) -> u64 {
        let not_looked_at = match self.cursor < topic.first() {
            // After a replay: also those of which few are left.
            true => topic.kept(),
            false => topic.next().saturating_sub(self.cursor),
        };
        self.parked + if self.has_more(topic) { not_looked_at } else { 0 }
    }

    /// Whether an event that it has not looked at is for it. After a replay it may be one that is
    /// kept for another subscription.
    fn has_more(&self, topic: &Topic) -> bool {
        self.last_matched >= topic.first_from(self.cursor)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// About when the oldest event that it has not had was posted; too early rather than too late,
    /// if there are not enough looks left to find it.
    pub(super) fn oldest(&self, topic: &Topic, looks: &mut usize) -> Option<TimeMs> {
        let has_any = self.parked > 0 || self.has_more(topic);
        let low = match self.parked {
            0 => topic.first_from(self.low.get().max(self.cursor)),
            _ => self.first_owed(topic, looks),
        };
        topic.event(EventNo(low)).filter(|_| has_any).map(|kept| kept.at)
    }

    /// The average milliseconds of the latest attempts, if there were any.
    pub(super) fn took_ms(&self) -> Option<u32> {
        self.took_16ths_ms.map(|sixteenths| sixteenths.div_ceil(16))
    }

    /// Each attempt moves the average by an eighth of the difference.
    pub(super) fn note_time(&mut self, took_ms: u32) {
        let took = took_ms.min(1 << 24) * 16;
        self.took_16ths_ms = Some(match self.took_16ths_ms {
            Some(before) => before - before / 8 + took / 8,
            None => took,
        });
    }

    /// The topic lets this event go, and the log says of all events up to it what became of them.
    /// Whether it is still needed.
    pub(super) fn leave_behind(&mut self, topic: &Topic, key: Key, event: EventNo) -> bool {
        self.heard_of(topic, event);
        self.needs(key, event)
    }

    /// Whether the event is still needed; `None` if its turn comes soon, or it was not looked at.
    pub(super) fn still_needs(&self, key: Key, event: EventNo) -> Option<bool> {
        if event.0 >= self.cursor {
            return None;
        }
        let is_needed = self.needs(key, event);
        let is_stuck = || self.lanes.get(&key).is_none_or(|lane| lane.attempts > 0);
        (!is_needed || is_stuck()).then_some(is_needed)
    }

    fn needs(&self, key: Key, event: EventNo) -> bool {
        self.dead.contains_key(&event) || self.owes(key, event)
    }

    /// The topic drops this event, although it may be owed.
    pub(super) fn lose(&mut self, topic: &Topic, key: Key, event: EventNo) {
        self.heard_of(topic, event);
        let is_lost = self.take_out(key, event) || self.dead.remove(&event).is_some();
        self.dropped += u64::from(is_lost);
    }

    /// Begins again at this event.
    pub(super) fn replay(&mut self, from: u64) {
        let again: Vec<(Key, EventNo)> = self
            .lanes
            .iter()
            .flat_map(|(key, lane)| lane.queue.iter().map(|event| (*key, event)))
            .filter(|(_, event)| event.0 >= from)
            .collect();
        for (key, event) in again {
            // What is on its way stays, so that nothing of its key begins before it has ended.
            let on_its_way = self
                .lanes
                .get_mut(&key)
                .filter(|lane| matches!(lane.stage, Stage::InFlight(of, _) if of == event));
            match on_its_way {
                Some(lane) => (lane.attempts, lane.again_at) = (0, None),
                None => drop(self.take_out(key, event)),
            }
        }
        self.dead.retain(|event, _| event.0 < from);
        (self.cursor, self.said_up_to) = (self.cursor.min(from), self.said_up_to.min(from));
        self.low.set(self.low.get().min(from));
    }

    /// Lets go of some lanes of a subscription that is deleted; false if there are none.
    pub(super) fn wither(&mut self, lanes: usize) -> bool {
        (0..lanes).all(|_| self.lanes.pop_first().is_some())
    }

    pub(super) fn save(&self) -> Saved {
        let mut parked = Vec::new();
        let mut begun = Vec::new();
        for (key, lane) in &self.lanes {
            parked.extend(
                lane.queue.iter().filter(|event| event.0 < self.said_up_to).map(|event| (event, *key)),
            );
            if lane.attempts > 0 {
                begun.push(Begun { key: *key, attempts: lane.attempts, again_at: lane.again_at });
            }
        }
        parked.sort_unstable();
        Saved {
            number: self.number,
            name: self.name.clone(),
            topic: self.topic,
            spec: (*self.spec).clone(),
            state: self.state,
            since: self.since,
            signing: self.signing,
            last_matched: self.last_matched,
            said_up_to: self.said_up_to,
            parked,
            begun,
            dead: self.dead.clone(),
            blocked: self.blocked.clone(),
            delivered: self.delivered,
            failed: self.failed,
            dropped: self.dropped,
        }
    }

    pub(super) fn restore(saved: Saved) -> Self {
        let Saved { number, name, topic, spec, state, since, said_up_to, parked, begun, .. } = saved;
        let mut restored = Self::new(number, name, topic, Arc::new(spec), (since, saved.signing.made_at));
        restored.signing = saved.signing;
        restored.last_matched = saved.last_matched;
        (restored.cursor, restored.said_up_to) = (said_up_to, said_up_to);
        restored.low.set(parked.first().map_or(said_up_to, |(event, _)| event.0));
        parked.into_iter().for_each(|(event, key)| restored.park(key, event));
        for Begun { key, attempts, again_at } in begun {
            let Some(lane) = restored.lanes.get_mut(&key) else { continue };
            (lane.attempts, lane.again_at) = (attempts, again_at);
            if lane.queue.first().is_some_and(|first| saved.blocked.contains_key(&first)) {
                lane.stage = Stage::Blocked;
            } else if let Some(at) = again_at {
                lane.stage = Stage::Waiting(at);
                restored.waiting.insert((at, key));
            }
        }
        restored.state = state;
        (restored.dead, restored.blocked) = (saved.dead, saved.blocked);
        restored.delivered = saved.delivered;
        restored.failed = saved.failed;
        restored.dropped = saved.dropped;
        restored
    }
}

/// What is in the log of a subscription, and nothing of what was only looked at.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) number: SubscriptionNo,
    name: SubscriptionId,
    pub(super) topic: TopicNo,
    #[serde(with = "super::as_json")]
    spec: SubscriptionSpec,
    state: SubscriptionState,
    since: u64,
    signing: Signing,
    last_matched: u64,
    said_up_to: u64,
    /// In rising order.
    parked: Vec<(EventNo, Key)>,
    begun: Vec<Begun>,
    dead: BTreeMap<EventNo, DeadLetter>,
    blocked: BTreeMap<EventNo, DeadLetter>,
    delivered: u64,
    failed: u64,
    dropped: u64,
}

/// A key whose first event has been tried.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Begun {
    key: Key,
    attempts: u32,
    again_at: Option<TimeMs>,
}
