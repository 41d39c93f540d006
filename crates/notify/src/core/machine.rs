//! Commands in, replies and entries out.

use super::{
    Notify,
    record::{Entry, EventNo, Key, Record, SubscriptionNo, TopicNo, Tried},
    spec::{Exhausted, SubscriptionSpec, SubscriptionState, TopicSpec},
    subscription::{self, DeadLetter, Next, Subscription},
    topic::{Kept, Topic},
};
use crate::filter::Attributes;
use contracts::{Actor, SubscriptionId, TopicId};
use runtime::{Broken, Decision, DuringShortage, Machine, Outage, Progress, Shortage, SnapshotError, Step};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use units::{DurationMs, Sequence, TimeMs};

/// Topics, subscriptions in all, and subscriptions of one topic: each posted event names those that
/// it matched.
pub const TOPICS_MAX: usize = 1000;
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
pub const SUBSCRIPTIONS_EACH_MAX: usize = 1000;
/// Events of a topic that are kept, at the most: some forty bytes of memory each. While a
/// subscription is owed the oldest, the topic is full.
const EVENTS_MAX: usize = 20_000_000;
/// The longest that an endpoint may ask to be left alone.
const RETRY_AFTER_MAX: DurationMs = DurationMs(24 * 3600 * 1000);
/// How long a key waits when its event could not be tried.
const NOT_TRIED_WAIT: DurationMs = DurationMs(1000);
/// What of an endpoint's answer is logged.
const SAID_BYTES_MAX: usize = 512;
/// Old events that are let go for each one that is posted.
const TRIMS_EACH: usize = 4;
const SNAPSHOT_VERSION: u8 = 1;

/// An event that is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Of source and id.
    pub identity: u128,
    /// Of the whole event.
    pub content: u64,
    /// `None`: in no order.
    pub key: Option<Key>,
    pub attributes: Attributes,
    /// In the JSON format of CloudEvents.
    pub body: Arc<[u8]>,
}

/// Events to be stored, all of them or none.
#[derive(Debug, Clone)]
pub struct Post {
    pub topic: TopicId,
    pub events: Vec<NewEvent>,
    /// They are derived from another log, up to this entry.
    pub followed: Option<(String, Sequence)>,
}

/// An event that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub event: EventNo,
    /// It was stored before.
    pub is_repeat: bool,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// It may be tried again, after a time that the endpoint named.
    Failed {
        retry_after: Option<DurationMs>,
    },
    /// The endpoint wants no more (410).
    Gone,
    /// It was not tried, for a reason that passes. No attempt is spent.
    NotTried,
}

/// A delivery that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    pub subscription: SubscriptionNo,
    pub event: EventNo,
    pub attempt: u32,
    pub outcome: Outcome,
    /// An HTTP status; 0 if no answer came.
    pub status: u16,
    pub took_ms: u32,
    /// The beginning of the answer, or why there was none.
    pub said: String,
}

/// Deliveries that have ended, and how many more may begin.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// That of the last reply; 0 at first. Under another one nothing begins: see
    /// [`Reply::Turned`].
    pub epoch: u64,
    pub ended: Vec<Attempted>,
    pub room: usize,
}

/// An event to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub subscription: SubscriptionNo,
    pub name: SubscriptionId,
    pub spec: Arc<SubscriptionSpec>,
    pub event: EventNo,
    /// Its entry in the log.
    pub sequence: Sequence,
    /// 1 for the first.
    pub attempt: u32,
    /// When the subscription was made.
    pub made_at: TimeMs,
}

#[derive(Debug, Clone)]
pub enum Command {
    DefineTopic {
        name: TopicId,
        spec: TopicSpec,
        by: Actor,
    },
    /// Makes a subscription, from the next event of its topic on, or changes it.
    Subscribe {
        name: SubscriptionId,
        spec: SubscriptionSpec,
        by: Actor,
    },
    SetState {
        name: SubscriptionId,
        state: SubscriptionState,
        by: Actor,
    },
    Unsubscribe {
        name: SubscriptionId,
        by: Actor,
    },
    Post(Arc<Post>),
    Turn(Arc<Turn>),
    /// Tries a dead letter again, or a blocked or waiting event at once; all dead letters if none
    /// is named.
    Redrive {
        name: SubscriptionId,
        event: Option<EventNo>,
        by: Actor,
    },
    /// Gives a dead letter, or a blocked or waiting event, up; all dead letters if none is named.
    Discard {
        name: SubscriptionId,
        event: Option<EventNo>,
        by: Actor,
    },
    Topics,
    Subscriptions,
    /// Dead letters after this event, so many at the most.
    Letters {
        name: SubscriptionId,
        after: EventNo,
        at_most: usize,
    },
    Event {
        topic: TopicId,
        event: EventNo,
    },
    /// How far another log has been followed.
    Followed {
        log: String,
    },
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    NoTopic(TopicId),
    NoSubscription(SubscriptionId),
    /// A subscription cannot move to another topic.
    OtherTopic(TopicId),
    TooMany {
        what: &'static str,
        max: usize,
    },
    /// Another event with the source and id of this one of the batch (from 0) was posted lately.
    Repeated {
        at: usize,
        event: EventNo,
    },
    /// So many events are kept already, because some subscription has not had the oldest.
    Full {
        kept: usize,
    },
    /// The event is neither dead, blocked nor waiting.
    NotFailed(EventNo),
    /// The other log was followed further than this already.
    FollowedBefore(Sequence),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Done,
    /// The subscription has this number.
    Subscribed {
        subscription: SubscriptionNo,
        made_at: TimeMs,
        is_new: bool,
    },
    /// So many dead letters were changed.
    Changed(u64),
    Accepted(Vec<Accepted>),
    Turned {
        deliveries: Vec<Delivery>,
        /// Another than before if the state was built again from the log. It does not know then
        /// what is under way: begin nothing before that has ended, or it is overtaken.
        epoch: u64,
        /// Ask again then, if nothing happens before.
        next_at: Option<TimeMs>,
    },
    Refused(Refused),
    Topics(Vec<TopicSeen>),
    Subscriptions(Vec<SubscriptionSeen>),
    Letters(Vec<Letter>),
    Event(Option<EventSeen>),
    Followed(Sequence),
    /// Nothing can be written at the moment.
    Busy,
    Unavailable(Outage),
}

/// A topic, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSeen {
    pub name: TopicId,
    pub spec: TopicSpec,
    /// Events that are kept, and the number of the last one that was posted.
    pub kept: u64,
    pub last: EventNo,
}

/// A subscription, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionSeen {
    pub name: SubscriptionId,
    pub spec: Arc<SubscriptionSpec>,
    pub state: SubscriptionState,
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    pub dead: u64,
    /// Events that it has not had: at the most, if some were not looked at yet.
    pub backlog: u64,
    pub in_flight: u32,
    /// When the oldest of these was posted.
    pub oldest: Option<TimeMs>,
    pub left_alone_until: Option<TimeMs>,
}

/// A dead letter, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    pub event: EventNo,
    pub sequence: Sequence,
    pub letter: DeadLetter,
}

/// An event, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSeen {
    pub sequence: Sequence,
    pub at: TimeMs,
    pub owed: Vec<Owed>,
}

/// What a subscription has had of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Owed {
    Delivered { to: SubscriptionId },
    Waiting { to: SubscriptionId, attempts: u32, again_at: Option<TimeMs>, is_blocked: bool },
    Dead { to: SubscriptionId, letter: DeadLetter },
}

/// Everything that is in the log.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u8,
    sequence: u64,
    now: u64,
    topics: BTreeMap<TopicNo, Topic>,
    last_topic: u32,
    subscriptions: Vec<subscription::Saved>,
    last_subscription: u32,
    followed: BTreeMap<String, u64>,
}

impl Notify {
    fn subscription(&self, name: &SubscriptionId) -> Result<&Subscription, Refused> {
        let number = self.subscription_nos.get(name);
        let known = number.and_then(|number| self.subscriptions.get(number));
        known.ok_or_else(|| Refused::NoSubscription(name.clone()))
    }

    fn define_topic(
        &mut self,
        now: TimeMs,
        name: &TopicId,
        spec: &TopicSpec,
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let topic = match self.topic_nos.get(name) {
            Some(&known) if self.topics[&known].spec == *spec => return Ok(Reply::Done),
            Some(&known) => known,
            None if self.topics.len() >= TOPICS_MAX => {
                return Ok(Reply::Refused(Refused::TooMany { what: "topics", max: TOPICS_MAX }));
            }
            None => TopicNo(self.last_topic + 1),
        };
        let record = Record::TopicDefined { topic, name: name.clone(), spec: json(spec)?, by: by.clone() };
        self.commit(now, record, out)?;
        Ok(Reply::Done)
    }

    fn subscribe(
        &mut self,
        now: TimeMs,
        name: &SubscriptionId,
        spec: &SubscriptionSpec,
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let Some(&topic) = self.topic_nos.get(&spec.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(spec.topic.clone())));
        };
        let mut is_new = false;
        let subscription = match self.subscription(name) {
            Ok(known) if *known.spec == *spec => {
                let (subscription, made_at) = (known.number, known.made_at);
                return Ok(Reply::Subscribed { subscription, made_at, is_new: false });
            }
            Ok(known) if known.topic != topic => {
                return Ok(Reply::Refused(Refused::OtherTopic(known.spec.topic.clone())));
            }
            Ok(known) => known.number,
            Err(_) => {
                for (what, count, max) in [
                    ("subscriptions", self.subscriptions.len(), SUBSCRIPTIONS_MAX),
                    (
                        "subscriptions of one topic",
                        self.topics[&topic].subscriptions.len(),
                        SUBSCRIPTIONS_EACH_MAX,
                    ),
                ] {
                    if count >= max {
                        return Ok(Reply::Refused(Refused::TooMany { what, max }));
                    }
                }
                is_new = true;
                SubscriptionNo(self.last_subscription + 1)
            }
        };
        let (name, spec, by) = (name.clone(), json(spec)?, by.clone());
        self.commit(now, Record::Subscribed { subscription, name, topic, spec, by }, out)?;
        let made_at = self.subscriptions.get(&subscription).map_or(self.now, |known| known.made_at);
        Ok(Reply::Subscribed { subscription, made_at, is_new })
    }

    fn post(&mut self, now: TimeMs, post: &Post, out: &mut Step) -> Result<Reply, Broken> {
        let Some(&topic) = self.topic_nos.get(&post.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(post.topic.clone())));
        };
        if let Some((log, up_to)) = &post.followed
            && let Some(&before) = self.followed.get(log)
            && before >= *up_to
        {
            return Ok(Reply::Refused(Refused::FollowedBefore(before)));
        }
        if let Some(up_to) = self.can_go(topic, TRIMS_EACH * post.events.len()) {
            self.commit(now, Record::Trimmed { topic, up_to }, out)?;
        }
        let kept = self.topics[&topic].events.len();
        if kept + post.events.len() > EVENTS_MAX {
            return Ok(Reply::Refused(Refused::Full { kept }));
        }
        // All are judged before the first is stored. Two of one batch may repeat each other.
        let at_now = now.max(self.now);
        let known = &self.topics[&topic];
        let mut new: BTreeMap<u128, (usize, u64)> = BTreeMap::new();
        for (at, event) in post.events.iter().enumerate() {
            let earlier = new.get(&event.identity).map(|(at, content)| (known.next() + *at as u64, *content));
            let earlier = earlier.or_else(|| {
                known.recent(event.identity, at_now).map(|recent| (recent.number.0, recent.content))
            });
            match earlier {
                Some((number, content)) if content != event.content => {
                    return Ok(Reply::Refused(Refused::Repeated { at, event: EventNo(number) }));
                }
                Some(_) => {}
                None => drop(new.insert(event.identity, (new.len(), event.content))),
            }
        }
        let subscriptions: Vec<(SubscriptionNo, Arc<SubscriptionSpec>)> = known
            .subscriptions
            .iter()
            .filter_map(|number| Some((*number, Arc::clone(&self.subscriptions.get(number)?.spec))))
            .collect();
        let mut accepted = Vec::with_capacity(post.events.len());
        for event in &post.events {
            let known = &self.topics[&topic];
            if let Some(recent) = known.recent(event.identity, at_now) {
                accepted.push(Accepted { event: recent.number, is_repeat: true });
                continue;
            }
            let number = known.next();
            let passes = |(_, spec): &&(SubscriptionNo, Arc<SubscriptionSpec>)| {
                spec.filters.iter().all(|filter| filter.passes(&event.attributes))
            };
            let matched: Vec<SubscriptionNo> =
                subscriptions.iter().filter(passes).map(|(number, _)| *number).collect();
            out.spend(subscriptions.len() / 16);
            let (identity, content, body) = (event.identity, event.content, Arc::clone(&event.body));
            // An event in no order has a key of its own.
            let key = event.key.unwrap_or(Key(!number));
            let record = Record::Published { topic, identity, content, key, matched, body };
            self.commit(now, record, out)?;
            accepted.push(Accepted { event: EventNo(number), is_repeat: false });
        }
        if let Some((log, up_to)) = post.followed.clone() {
            self.commit(now, Record::Followed { log, up_to }, out)?;
        }
        Ok(Reply::Accepted(accepted))
    }

    /// The events of a topic that can be let go.
    fn can_go(&self, topic: TopicNo, at_most: usize) -> Option<EventNo> {
        let topic = self.topics.get(&topic)?;
        topic.can_go(self.now, at_most, |event, kept| {
            topic.set(kept.set).iter().any(|number| {
                self.subscriptions
                    .get(number)
                    .is_some_and(|known| known.dead.contains_key(&event) || known.owes(kept.key, event))
            })
        })
    }

    fn end(&mut self, now: TimeMs, ended: &Attempted, out: &mut Step) -> Result<(), Broken> {
        // The subscription may have been deleted, and the event let go, while it was on its way.
        let Ok((subscription, topic, key)) = self.owed(ended.subscription, ended.event) else {
            return Ok(());
        };
        subscription.reach(topic, ended.event);
        let (number, event) = (ended.subscription, ended.event);
        let tried = Tried {
            subscription: number,
            event,
            attempt: ended.attempt,
            status: ended.status,
            took_ms: ended.took_ms,
            said: String::new(),
        };
        if ended.outcome == Outcome::Delivered {
            // Also when another attempt has failed meanwhile: it has arrived.
            if subscription.owes(key, event) {
                return self.commit(now, Record::Delivered(tried), out);
            }
            subscription.give_back(key, event);
            self.queue(number);
            return Ok(());
        }
        let is_counted = subscription.attempts(key, event) == Some(ended.attempt - 1);
        if ended.outcome == Outcome::NotTried || !is_counted {
            match is_counted {
                true => subscription.put_off(key, event, now.plus(NOT_TRIED_WAIT)),
                false => subscription.give_back(key, event),
            }
            self.queue(number);
            return Ok(());
        }
        let is_of_endpoint = ended.status == 0 || ended.status >= 500 || matches!(ended.status, 408 | 429);
        match is_of_endpoint {
            true => subscription.endpoint_failed(now),
            false => subscription.endpoint_answered(),
        }
        let said = ended.said[..ended.said.floor_char_boundary(SAID_BYTES_MAX)].to_owned();
        let tried = Tried { said, ..tried };
        let (retry, exhausted) = (&subscription.spec.retry, subscription.spec.exhausted);
        match ended.outcome {
            Outcome::Gone => {
                self.commit(now, Record::Failed { tried, again_at: now }, out)?;
                let by = Actor::new("endpoint", "it answered 410 Gone");
                let state = SubscriptionState::Disabled;
                self.commit(now, Record::StateSet { subscription: number, state, by }, out)
            }
            _ if ended.attempt >= retry.attempts => match exhausted {
                Exhausted::DeadLetter => self.commit(now, Record::Died(tried), out),
                Exhausted::BlockKey => self.commit(now, Record::Blocked(tried), out),
            },
            Outcome::Failed { retry_after } => {
                let salt = key.0 ^ event.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(ended.attempt);
                let wait = retry.after(ended.attempt, salt);
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.commit(now, Record::Failed { tried, again_at: now.plus(wait.max(asked)) }, out)
            }
            Outcome::Delivered | Outcome::NotTried => Ok(()),
        }
    }

    fn turn(&mut self, now: TimeMs, turn: &Turn, out: &mut Step) -> Result<Reply, Broken> {
        for ended in &turn.ended {
            self.end(now, ended, out)?;
        }
        while let Some(&(at, number)) = self.later.first() {
            if at > now {
                break;
            }
            self.later.pop_first();
            self.queue(number);
        }
        let mut deliveries = Vec::new();
        let room = if turn.epoch == self.epoch { turn.room } else { 0 };
        while deliveries.len() < room && !out.is_full() {
            let Some(number) = self.queued.pop_front() else { break };
            let Some(subscription) = self.subscriptions.get_mut(&number) else { continue };
            let Some(topic) = self.topics.get(&subscription.topic) else { continue };
            subscription.is_queued = false;
            out.spend(1);
            match subscription.next(now, topic) {
                Next::Deliver { event, attempt } => {
                    if let Some(kept) = topic.event(event) {
                        deliveries.push(Delivery {
                            subscription: number,
                            name: subscription.name.clone(),
                            spec: Arc::clone(&subscription.spec),
                            event,
                            sequence: kept.sequence,
                            attempt,
                            made_at: subscription.made_at,
                        });
                    }
                    self.queue(number);
                }
                // The looks that it took cost about as much as a few entries.
                Next::Again => {
                    out.spend(32);
                    self.queue(number);
                }
                Next::At(at) => drop(self.later.insert((at, number))),
                Next::Nothing => {}
            }
        }
        let next_at = if self.queued.is_empty() { self.later.first().map(|(at, _)| *at) } else { Some(now) };
        Ok(Reply::Turned { deliveries, epoch: self.epoch, next_at })
    }

    /// Redrives or discards. `so_far` letters are done.
    fn change_letters(
        &mut self,
        now: TimeMs,
        (name, event): (&SubscriptionId, Option<EventNo>),
        so_far: u64,
        record: impl Fn(SubscriptionNo, EventNo) -> Record,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken> {
        let known = match self.subscription(name) {
            Ok(known) => known,
            Err(refused) => return Ok(Decision::Done(Reply::Refused(refused))),
        };
        let number = known.number;
        if let Some(event) = event {
            let kept = self.topics.get(&known.topic).and_then(|topic| topic.is_for(event.0, number));
            let has_failed = |kept: &Kept| {
                let (attempts, ..) = known.waits(kept.key, event);
                known.dead.contains_key(&event) || attempts > 0
            };
            if !kept.is_some_and(has_failed) {
                return Ok(Decision::Done(Reply::Refused(Refused::NotFailed(event))));
            }
            self.commit(now, record(number, event), out)?;
            return Ok(Decision::Done(Reply::Changed(1)));
        }
        let mut count = so_far;
        loop {
            let first = self.subscriptions.get(&number).and_then(|known| known.dead.keys().next().copied());
            let Some(event) = first else { return Ok(Decision::Done(Reply::Changed(count))) };
            if out.is_full() {
                return Ok(Decision::More(count));
            }
            self.commit(now, record(number, event), out)?;
            count += 1;
        }
    }

    fn see_event(&self, topic: &TopicId, event: EventNo) -> Result<Option<EventSeen>, Refused> {
        let topic = self.topic_nos.get(topic).ok_or_else(|| Refused::NoTopic(topic.clone()))?;
        let topic = &self.topics[topic];
        Ok(topic.event(event).map(|kept| {
            let known = topic.set(kept.set).iter().filter_map(|number| self.subscriptions.get(number));
            let owed = known.map(|known| {
                let to = known.name.clone();
                if let Some(letter) = known.dead.get(&event) {
                    return Owed::Dead { to, letter: letter.clone() };
                }
                if !known.owes(kept.key, event) {
                    return Owed::Delivered { to };
                }
                let (attempts, again_at, is_blocked) = known.waits(kept.key, event);
                Owed::Waiting { to, attempts, again_at, is_blocked }
            });
            EventSeen { sequence: kept.sequence, at: kept.at, owed: owed.collect() }
        }))
    }

    fn see_subscription(&self, known: &Subscription) -> SubscriptionSeen {
        let topic = &self.topics[&known.topic];
        SubscriptionSeen {
            name: known.name.clone(),
            spec: Arc::clone(&known.spec),
            state: known.state,
            delivered: known.delivered,
            failed: known.failed,
            dead: known.dead.len() as u64,
            backlog: known.backlog(topic),
            in_flight: known.in_flight(),
            oldest: known.oldest(topic),
            left_alone_until: known.left_alone_until(),
        }
    }
}

fn json<T: Serialize>(spec: &T) -> Result<String, Broken> {
    serde_json::to_string(spec).map_err(|error| Broken { rule: "spec", detail: error.to_string() })
}

impl Machine for Notify {
    type Command = Command;
    type Reply = Reply;
    type Entry = Entry;
    /// How often the state was built again.
    type Volatile = u64;
    /// Dead letters changed so far.
    type SoFar = u64;

    fn sequence(&self) -> Sequence {
        self.sequence
    }

    fn time(&self) -> TimeMs {
        self.now
    }

    fn tick(&mut self, _now: TimeMs, _out: &mut Step) -> Result<Progress, Broken> {
        Ok(Progress::Done)
    }

    fn next_wakeup(&self) -> Option<TimeMs> {
        None
    }

    fn decide(
        &mut self,
        now: TimeMs,
        command: &Command,
        so_far: &u64,
        out: &mut Step,
    ) -> Result<Decision<Self>, Broken> {
        Ok(Decision::Done(match command {
            Command::DefineTopic { name, spec, by } => self.define_topic(now, name, spec, by, out)?,
            Command::Subscribe { name, spec, by } => self.subscribe(now, name, spec, by, out)?,
            Command::SetState { name, state, by } => match self.subscription(name) {
                Err(refused) => Reply::Refused(refused),
                Ok(known) if known.state == *state => Reply::Done,
                Ok(known) => {
                    let (subscription, state, by) = (known.number, *state, by.clone());
                    self.commit(now, Record::StateSet { subscription, state, by }, out)?;
                    Reply::Done
                }
            },
            Command::Unsubscribe { name, by } => match self.subscription(name) {
                Err(refused) => Reply::Refused(refused),
                Ok(known) => {
                    let (subscription, by) = (known.number, by.clone());
                    self.commit(now, Record::Unsubscribed { subscription, by }, out)?;
                    Reply::Done
                }
            },
            Command::Post(post) => self.post(now, post, out)?,
            Command::Turn(turn) => self.turn(now, turn, out)?,
            Command::Redrive { name, event, by } => {
                let record = |subscription, event| Record::Redriven { subscription, event, by: by.clone() };
                return self.change_letters(now, (name, *event), *so_far, record, out);
            }
            Command::Discard { name, event, by } => {
                let record = |subscription, event| Record::Discarded { subscription, event, by: by.clone() };
                return self.change_letters(now, (name, *event), *so_far, record, out);
            }
            Command::Topics
            | Command::Subscriptions
            | Command::Letters { .. }
            | Command::Event { .. }
            | Command::Followed { .. } => self.read(command).unwrap_or(Reply::Busy),
        }))
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        entries.iter().try_for_each(|entry| self.fold(entry))
    }

    fn snapshot(&self) -> Vec<u8> {
        let head = (SNAPSHOT_VERSION, self.sequence.0, self.now.0);
        let followed: BTreeMap<&str, u64> =
            self.followed.iter().map(|(log, up_to)| (log.as_str(), up_to.0)).collect();
        let subscriptions: Vec<subscription::Saved> =
            self.subscriptions.values().map(Subscription::save).collect();
        let counts = (self.last_topic, subscriptions, self.last_subscription);
        let parts = (head, &self.topics, counts, followed);
        postcard::to_allocvec(&parts).expect("every part is of plain fields")
    }

    fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let snapshot: Snapshot =
            postcard::from_bytes(bytes).map_err(|error| SnapshotError(error.to_string()))?;
        if snapshot.version != SNAPSHOT_VERSION {
            return Err(SnapshotError("of another version".into()));
        }
        let mut notify = Self {
            sequence: Sequence(snapshot.sequence),
            now: TimeMs(snapshot.now),
            topics: snapshot.topics,
            last_topic: snapshot.last_topic,
            last_subscription: snapshot.last_subscription,
            followed: snapshot.followed.into_iter().map(|(log, up_to)| (log, Sequence(up_to))).collect(),
            ..Self::default()
        };
        for (number, topic) in &mut notify.topics {
            topic.index();
            if !topic.is_whole() {
                return Err(SnapshotError(format!("topic {} does not fit together", topic.name)));
            }
            notify.topic_nos.insert(topic.name.clone(), *number);
        }
        for saved in snapshot.subscriptions {
            if !notify.topics.contains_key(&saved.topic) {
                return Err(SnapshotError("a subscription to no topic".into()));
            }
            let restored = Subscription::restore(saved);
            let number = restored.number;
            notify.subscription_nos.insert(restored.name.clone(), number);
            notify.subscriptions.insert(number, restored);
            notify.queue(number);
        }
        Ok(notify)
    }

    fn volatile(&self) -> u64 {
        self.epoch
    }

    fn set_volatile(&mut self, before: u64) {
        self.epoch = before + 1;
    }

    fn writes_like(snapshot: &[u8]) -> bool {
        snapshot.first() == Some(&SNAPSHOT_VERSION)
    }

    fn read(&self, command: &Command) -> Option<Reply> {
        let refused = Reply::Refused;
        Some(match command {
            Command::Topics => Reply::Topics(
                self.topics
                    .values()
                    .map(|topic| TopicSeen {
                        name: topic.name.clone(),
                        spec: topic.spec.clone(),
                        kept: topic.events.len() as u64,
                        last: EventNo(topic.next() - 1),
                    })
                    .collect(),
            ),
            Command::Subscriptions => Reply::Subscriptions(
                self.subscriptions.values().map(|known| self.see_subscription(known)).collect(),
            ),
            Command::Letters { name, after, at_most } => match self.subscription(name) {
                Err(why) => refused(why),
                Ok(known) => {
                    let topic = &self.topics[&known.topic];
                    let letters = known.dead.range(EventNo(after.0.saturating_add(1))..).take(*at_most);
                    let seen = letters.filter_map(|(event, letter)| {
                        let sequence = topic.event(*event)?.sequence;
                        Some(Letter { event: *event, sequence, letter: letter.clone() })
                    });
                    Reply::Letters(seen.collect())
                }
            },
            Command::Event { topic, event } => {
                self.see_event(topic, *event).map_or_else(refused, Reply::Event)
            }
            Command::Followed { log } => Reply::Followed(self.followed.get(log).copied().unwrap_or_default()),
            _ => return None,
        })
    }

    fn during_shortage(&self, _command: &Command) -> DuringShortage<Reply> {
        DuringShortage::TurnedAway(Reply::Busy)
    }

    fn shortage_over(&self, now: TimeMs, shortage: &Shortage, out: &mut Step) -> Progress {
        let Shortage { since, turned_away } = *shortage;
        out.push(&Entry { at: now, record: Record::ShortageOver { since, turned_away } });
        Progress::Done
    }

    fn unavailable(outage: &Outage) -> Reply {
        Reply::Unavailable(outage.clone())
    }
}
