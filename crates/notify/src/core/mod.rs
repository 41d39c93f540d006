//! The rules of the message service: what is posted is delivered to each subscription that wants
//! it, key by key in order, until it is done, dead or discarded.
//!
//! | module | what |
//! |---|---|
//! | [`cloud_events`] | what publishers send |
//! | [`spec`] | what operators set |
//! | [`record`] | the log's entries |
//! | [`times`] | what operators set of schedules |
//! | `schedule` | events that are posted at times of the clock |
//! | `topic`, `events`, `apart`, `recents` | events that are kept, and who is to get them |
//! | `packed`, `column` | what there is much of, in little memory |
//! | `subscription`, `queue` | lanes, retries, dead letters |
//! | `fill` | subscriptions that begin with earlier events |
//! | `command`, `machine` | commands in, replies and entries out |
//! | `commanded`, `remembered` | commands that are carried out once |
//! | `snapshot` | the state as bytes |

mod apart;
pub mod cloud_events;
mod column;
mod command;
mod commanded;
mod events;
mod fill;
mod machine;
mod packed;
mod queue;
mod recents;
pub mod record;
mod remembered;
mod schedule;
mod snapshot;
pub mod spec;
mod subscription;
pub mod times;
mod topic;

pub use command::{
    Accepted, Attempted, Command, Delivery, EventSeen, FillSeen, From, Letter, Letters, NewEvent, Numbered,
    Outcome, Owed, Post, Refused, Reply, ScheduleSeen, Settled, SubscriptionSeen, TopicSeen, Turn,
};
pub use machine::SUBSCRIPTIONS_MAX;
pub use record::{Said, Signing};
pub use schedule::SCHEDULES_MAX;
pub use subscription::{DeadLetter, Fill};

use self::{
    record::{Entry, EventNo, Key, Record, SubscriptionNo, TopicNo},
    schedule::Schedules,
    spec::{SubscriptionSpec, SubscriptionState, TopicSpec},
    subscription::Subscription,
    topic::Topic,
};
use contracts::{Actor, SubscriptionId, TopicId};
use engines::codec::{Codec, Writer};
use runtime::{Broken, Step, ensure};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use units::{Sequence, TimeMs};

/// The message service's state: the fold of its log.
#[derive(Debug, Default)]
pub struct Notify {
    sequence: Sequence,
    now: TimeMs,
    topics: BTreeMap<TopicNo, Topic>,
    topic_nos: BTreeMap<TopicId, TopicNo>,
    last_topic: u32,
    subscriptions: BTreeMap<SubscriptionNo, Subscription>,
    subscription_nos: BTreeMap<SubscriptionId, SubscriptionNo>,
    last_subscription: u32,
    /// How far other logs have been followed.
    followed: BTreeMap<String, Sequence>,
    /// How often the state was built again from the log. Not in the log.
    epoch: u64,
    /// Subscriptions that may have something to deliver, each once.
    queued: VecDeque<SubscriptionNo>,
    /// Those that have nothing before a time. One may be here more than once.
    later: BTreeSet<(TimeMs, SubscriptionNo)>,
    /// Those that wait until a delivery ends, of any subscription.
    crowded: Vec<SubscriptionNo>,
    /// Deliveries that a consumer has pulled. Not in the log: after a restart they are pulled
    /// again.
    leases: BTreeMap<(SubscriptionNo, EventNo), Lease>,
    lease_ends: BTreeSet<(TimeMs, SubscriptionNo, EventNo)>,
    /// Events that are to be published later, of all topics.
    delayed: BTreeSet<(TimeMs, Sequence, TopicNo)>,
    schedules: Schedules,
    /// Subscriptions that begin with earlier events for which their filters are still to be asked.
    filling: BTreeSet<SubscriptionNo>,
    /// The topic whose old events were looked at last.
    trimmed_last: Option<TopicNo>,
    /// Deleted ones, whose memory is given back piece by piece.
    withering: Vec<Subscription>,
}

/// A delivery that a consumer has pulled.
#[derive(Debug, Clone, Copy)]
struct Lease {
    attempt: u32,
    began: TimeMs,
    /// Until when the consumer may answer.
    until: TimeMs,
}

impl Notify {
    /// The entries by which a restored copy stands still, encoded. Every subscription is paused,
    /// for the copy would deliver again what its original has delivered since the backup. And logs
    /// that have another name now, `moved` from one to the other and with this last entry, are
    /// followed on from the same place.
    pub fn stand_still(&self, by: &Actor, moved: &[(String, String, Sequence)]) -> Vec<Vec<u8>> {
        let active = self.subscriptions.values().filter(|known| known.state == SubscriptionState::Active);
        let pause = |known: &Subscription| {
            let (subscription, state, by) = (known.number, SubscriptionState::Paused, by.clone());
            Record::StateSet { subscription, state, by }
        };
        let follow = |(from, to, last): &(String, String, Sequence)| {
            let up_to = (*self.followed.get(from).filter(|_| from != to)?).min(*last);
            Some(Record::Followed { log: to.clone(), up_to })
        };
        let encode = |record| {
            let mut bytes = Vec::new();
            Entry { at: self.now, record }.encode(&mut Writer::new(&mut bytes));
            bytes
        };
        active.map(pause).chain(moved.iter().filter_map(follow)).map(encode).collect()
    }

    fn commit(&mut self, now: TimeMs, record: Record, out: &mut Step) -> Result<(), Broken> {
        let entry = Entry { at: now.max(self.now), record };
        self.fold(&entry)?;
        out.push(&entry);
        Ok(())
    }

    fn topic(&self, number: TopicNo) -> Result<&Topic, Broken> {
        let none = || Broken { rule: "known", detail: format!("no topic {}", number.0) };
        self.topics.get(&number).ok_or_else(none)
    }

    fn known_topic(&mut self, number: TopicNo) -> Result<&mut Topic, Broken> {
        let none = || Broken { rule: "known", detail: format!("no topic {}", number.0) };
        self.topics.get_mut(&number).ok_or_else(none)
    }

    fn known(&mut self, number: SubscriptionNo) -> Result<&mut Subscription, Broken> {
        let none = || Broken { rule: "known", detail: format!("no subscription {}", number.0) };
        self.subscriptions.get_mut(&number).ok_or_else(none)
    }

    /// The subscription, its topic, and the key of one of its events.
    fn owed(
        &mut self,
        number: SubscriptionNo,
        event: EventNo,
    ) -> Result<(&mut Subscription, &Topic, Key), Broken> {
        let none = |what: &str| Broken { rule: "known", detail: format!("no {what} {number:?} {event:?}") };
        let subscription = self.subscriptions.get_mut(&number).ok_or_else(|| none("subscription"))?;
        let topic = self.topics.get(&subscription.topic).ok_or_else(|| none("topic"))?;
        let kept = topic.is_for(event.0, number).ok_or_else(|| none("event"))?;
        Ok((subscription, topic, kept.key))
    }

    /// Lets an event go that was kept apart, once no subscription needs it any more.
    fn release(&mut self, topic: TopicNo, event: EventNo) {
        let Some(known) = self.topics.get_mut(&topic).filter(|known| event.0 < known.first()) else { return };
        let Some(kept) = known.event(event) else { return };
        let needs = |number: &SubscriptionNo| {
            let known = self.subscriptions.get(number);
            known.is_some_and(|known| known.still_needs(kept.key, event) != Some(false))
        };
        if !known.set(kept.set).iter().any(needs) {
            known.release(event);
        }
    }

    /// The topic lets its events up to this one go, or drops them.
    fn shift(&mut self, topic: TopicNo, up_to: EventNo, drops: bool) -> Result<(), Broken> {
        let none = || Broken { rule: "known", detail: format!("no topic {}", topic.0) };
        let known = self.topics.get_mut(&topic).ok_or_else(none)?;
        while known.first() <= up_to.0 {
            let event = EventNo(known.first());
            let Some(kept) = known.event(event) else { break };
            let mut is_needed = false;
            let topic = &*known;
            for number in topic.set(kept.set) {
                let Some(subscription) = self.subscriptions.get_mut(number) else { continue };
                if drops {
                    subscription.lose(topic, kept.key, event);
                } else {
                    is_needed |= subscription.leave_behind(topic, kept.key, event);
                }
            }
            known.shift(is_needed);
        }
        Ok(())
    }

    /// What a consumer has pulled of a subscription is no longer its own.
    fn forget_leases(&mut self, subscription: SubscriptionNo) {
        let (first, last) = ((subscription, EventNo(0)), (subscription, EventNo(u64::MAX)));
        let all: Vec<_> = self.leases.range(first..=last).map(|(of, lease)| (*of, lease.until)).collect();
        for (of, until) in all {
            self.leases.remove(&of);
            self.lease_ends.remove(&(until, of.0, of.1));
        }
    }

    /// Something may be deliverable now.
    fn queue(&mut self, number: SubscriptionNo) {
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return };
        if !subscription.is_queued {
            subscription.is_queued = true;
            self.queued.push_back(number);
        }
    }

    /// An event of these subscriptions' topic is for them.
    fn tell(&mut self, matched: &[SubscriptionNo], number: EventNo) {
        for subscription in matched {
            if let Some(known) = self.subscriptions.get_mut(subscription) {
                known.last_matched = number.0;
            }
            self.queue(*subscription);
        }
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), Broken> {
        ensure(entry.at >= self.now, "time", || format!("{} after {}", entry.at, self.now))?;
        let sequence = self.sequence.next();
        let lost = |number: SubscriptionNo, event: EventNo| {
            move || format!("subscription {} does not wait for event {}", number.0, event.0)
        };
        match &entry.record {
            Record::TopicDefined { topic, name, spec, .. } => {
                let spec: TopicSpec = parsed(spec)?;
                match self.topics.get_mut(topic) {
                    Some(known) => known.spec = spec,
                    None => {
                        ensure(topic.0 == self.last_topic + 1, "numbers", || format!("topic {}", topic.0))?;
                        self.last_topic = topic.0;
                        self.topic_nos.insert(name.clone(), *topic);
                        self.topics.insert(*topic, Topic::new(name.clone(), spec));
                    }
                }
            }
            Record::Subscribed { subscription, name, topic, spec, .. } => {
                let spec: Arc<SubscriptionSpec> = Arc::new(parsed(spec)?);
                let since = self.topic(*topic)?.next();
                match self.subscriptions.get_mut(subscription) {
                    Some(known) => known.spec = spec,
                    None => {
                        let is_next = subscription.0 == self.last_subscription + 1;
                        ensure(is_next, "numbers", || format!("subscription {}", subscription.0))?;
                        self.last_subscription = subscription.0;
                        self.subscription_nos.insert(name.clone(), *subscription);
                        let new =
                            Subscription::new(*subscription, name.clone(), *topic, spec, (since, entry.at));
                        self.subscriptions.insert(*subscription, new);
                        let topic = self.topics.get_mut(topic);
                        topic.into_iter().for_each(|topic| topic.subscriptions.push(*subscription));
                    }
                }
                self.queue(*subscription);
            }
            Record::StateSet { subscription, state, .. } => {
                self.known(*subscription)?.state = *state;
                self.queue(*subscription);
            }
            Record::Unsubscribed { subscription, .. } => {
                self.known(*subscription)?;
                let Some(gone) = self.subscriptions.remove(subscription) else { return Ok(()) };
                self.subscription_nos.remove(&gone.name);
                self.filling.remove(subscription);
                let number = gone.topic;
                self.forget_leases(*subscription);
                let topic = self.known_topic(number)?;
                topic.subscriptions.retain(|other| other != subscription);
                let needed = |(event, key): &(EventNo, Key)| gone.still_needs(*key, *event) != Some(false);
                let apart: Vec<EventNo> = topic.apart().filter(needed).map(|(event, _)| event).collect();
                apart.into_iter().for_each(|event| self.release(number, event));
                self.withering.push(gone);
            }
            Record::Published { topic, identity, content, key, matched, .. } => {
                let known = self.known_topic(*topic)?;
                ensure(matched.is_sorted(), "matched", || format!("{matched:?}"))?;
                let number = known.publish(entry.at, sequence, *key, matched, (*identity, *content));
                self.tell(matched, number);
            }
            Record::Delayed { topic, identity, content, key, due, matched, .. } => {
                let known = self.known_topic(*topic)?;
                ensure(matched.is_sorted(), "matched", || format!("{matched:?}"))?;
                known.delay(entry.at, (*due, sequence), *key, matched, (*identity, *content));
                self.delayed.insert((*due, sequence, *topic));
            }
            Record::Due { topic, due, delayed } => {
                let none = || Broken {
                    rule: "known",
                    detail: format!("no delayed event {delayed} of topic {}", topic.0),
                };
                let known = self.topics.get_mut(topic).ok_or_else(none)?;
                let published = known.publish_delayed(entry.at, (*due, *delayed));
                let (number, matched) = published.ok_or_else(none)?;
                self.delayed.remove(&(*due, *delayed, *topic));
                self.tell(&matched, number);
            }
            Record::Delivered(tried) => {
                let (subscription, topic, key) = self.owed(tried.subscription, tried.event)?;
                let (done, of) = (subscription.deliver(topic, key, tried.event), subscription.topic);
                ensure(done, "owed", lost(tried.subscription, tried.event))?;
                self.release(of, tried.event);
                self.queue(tried.subscription);
            }
            Record::Failed { tried, again_at } => {
                let (subscription, topic, key) = self.owed(tried.subscription, tried.event)?;
                let done = subscription.fail(topic, key, tried, *again_at);
                ensure(done, "owed", lost(tried.subscription, tried.event))?;
                self.queue(tried.subscription);
            }
            Record::Died(tried) => {
                let (subscription, topic, key) = self.owed(tried.subscription, tried.event)?;
                let done = subscription.die(topic, key, entry.at, tried);
                ensure(done, "owed", lost(tried.subscription, tried.event))?;
                self.queue(tried.subscription);
            }
            Record::Blocked(tried) => {
                let (subscription, topic, key) = self.owed(tried.subscription, tried.event)?;
                let done = subscription.block(topic, key, entry.at, tried);
                ensure(done, "owed", lost(tried.subscription, tried.event))?;
                self.queue(tried.subscription);
            }
            Record::Redriven { subscription: number, event, .. } => {
                let (subscription, _, key) = self.owed(*number, *event)?;
                ensure(subscription.redrive(key, *event), "owed", lost(*number, *event))?;
                self.queue(*number);
            }
            Record::Discarded { subscription: number, event, .. } => {
                let (subscription, _, key) = self.owed(*number, *event)?;
                let (done, of) = (subscription.discard(key, *event), subscription.topic);
                ensure(done, "owed", lost(*number, *event))?;
                self.release(of, *event);
                self.queue(*number);
            }
            Record::Trimmed { topic, up_to } => self.shift(*topic, *up_to, false)?,
            Record::Dropped { topic, up_to } => self.shift(*topic, *up_to, true)?,
            Record::Replayed { subscription, from, .. } => {
                // What a consumer holds stays leased: nothing of its key is pulled before that
                // ends.
                self.known(*subscription)?.replay(from.0);
                self.queue(*subscription);
            }
            Record::SecretRotated { subscription, old_until, .. } => {
                let signing = &mut self.known(*subscription)?.signing;
                (signing.rotations, signing.old_until) = (signing.rotations + 1, *old_until);
            }
            Record::CommandDone { subscription, key, said } => {
                self.known(*subscription)?.commands.remember(entry.at, *key, *said);
            }
            Record::Followed { log, up_to } => {
                let before = self.followed.insert(log.clone(), *up_to).unwrap_or_default();
                ensure(*up_to > before, "followed", || format!("{log}: {up_to} after {before}"))?;
            }
            Record::StartedEarlier { subscription, from } => {
                let known = self.known(*subscription)?;
                ensure(from.0 < known.since, "numbers", || format!("it begins with {}", known.since))?;
                known.start_earlier(from.0);
                self.filling.insert(*subscription);
            }
            Record::Filled { subscription: number, up_to, matched } => {
                let is_rising = matched.is_sorted_by(|a, b| a < b);
                ensure(is_rising, "matched", || format!("{matched:?}"))?;
                let topic = self.known(*number)?.topic;
                let first = self.topic(topic)?.first();
                let known = self.known(*number)?;
                let is_more = known.filled(up_to.0, first);
                let last = matched.last().map_or(0, |last| last.0);
                known.last_matched = known.last_matched.max(last);
                if !is_more {
                    self.filling.remove(number);
                }
                self.known_topic(topic)?.add_to_sets(matched, *number);
                self.queue(*number);
            }
            Record::ScheduleSet { name, topic, spec, next, .. } => {
                self.topic(*topic)?;
                self.schedules.set(name, *topic, parsed(spec)?, *next);
            }
            Record::ScheduleDeleted { name, .. } => {
                ensure(self.schedules.delete(name), "known", || format!("no schedule {name}"))?;
            }
            Record::SchedulePosted { name, next } => {
                ensure(self.schedules.posted(name, *next), "known", || format!("no schedule {name}"))?;
            }
            Record::ShortageOver { .. } => {}
        }
        (self.now, self.sequence) = (entry.at, sequence);
        Ok(())
    }
}

fn json<T: serde::Serialize>(spec: &T) -> Result<String, Broken> {
    serde_json::to_string(spec).map_err(|error| Broken { rule: "spec", detail: error.to_string() })
}

fn parsed<T: serde::de::DeserializeOwned>(spec: &str) -> Result<T, Broken> {
    serde_json::from_str(spec).map_err(|error| Broken { rule: "spec", detail: error.to_string() })
}

/// Specifications are JSON in snapshots too, so that a later build reads what it has added as left
/// out.
mod as_json {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned, ser};

    pub(super) fn serialize<T: Serialize, S: Serializer>(spec: &T, to: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(spec).map_err(ser::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}
