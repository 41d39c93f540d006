//! The rules of the message service: what is posted is delivered to each subscription that wants
//! it, key by key in order, until it is done, dead or discarded.
//!
//! | module | what |
//! |---|---|
//! | [`spec`] | what operators set |
//! | [`record`] | the log's entries |
//! | `topic` | events that are kept, and who is to get them |
//! | `subscription` | lanes, retries, dead letters |
//! | `machine` | commands in, replies and entries out |

mod machine;
pub mod record;
pub mod spec;
mod subscription;
mod topic;

pub use machine::{
    Accepted, Attempted, Command, Delivery, EventSeen, Letter, NewEvent, Outcome, Owed, Post, Refused, Reply,
    SUBSCRIPTIONS_MAX, SubscriptionSeen, TopicSeen, Turn,
};
pub use subscription::DeadLetter;

use self::{
    record::{Entry, EventNo, Key, Record, SubscriptionNo, TopicNo},
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

    /// Something may be deliverable now.
    fn queue(&mut self, number: SubscriptionNo) {
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return };
        if !subscription.is_queued {
            subscription.is_queued = true;
            self.queued.push_back(number);
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
                let known = self.subscriptions.get_mut(subscription);
                let none = || Broken { rule: "known", detail: format!("no subscription {}", subscription.0) };
                known.ok_or_else(none)?.state = *state;
                self.queue(*subscription);
            }
            Record::Unsubscribed { subscription, .. } => {
                let gone = self.subscriptions.remove(subscription);
                let none = || Broken { rule: "known", detail: format!("no subscription {}", subscription.0) };
                let gone = gone.ok_or_else(none)?;
                self.subscription_nos.remove(&gone.name);
                if let Some(topic) = self.topics.get_mut(&gone.topic) {
                    topic.subscriptions.retain(|other| other != subscription);
                }
            }
            Record::Published { topic, identity, content, key, matched, .. } => {
                let known = self.topics.get_mut(topic);
                let none = || Broken { rule: "known", detail: format!("no topic {}", topic.0) };
                let known = known.ok_or_else(none)?;
                ensure(matched.is_sorted(), "matched", || format!("{matched:?}"))?;
                let number = known.publish(entry.at, sequence, *key, matched, (*identity, *content));
                for subscription in matched {
                    if let Some(known) = self.subscriptions.get_mut(subscription) {
                        known.last_matched = number.0;
                    }
                    self.queue(*subscription);
                }
            }
            Record::Delivered(tried) => {
                let (subscription, topic, key) = self.owed(tried.subscription, tried.event)?;
                let done = subscription.deliver(topic, key, tried.event);
                ensure(done, "owed", lost(tried.subscription, tried.event))?;
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
                let done = subscription.block(topic, key, tried);
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
                ensure(subscription.discard(key, *event), "owed", lost(*number, *event))?;
                self.queue(*number);
            }
            Record::Trimmed { topic, up_to } => {
                let known = self.topics.get_mut(topic);
                let none = || Broken { rule: "known", detail: format!("no topic {}", topic.0) };
                known.ok_or_else(none)?.trim(*up_to);
            }
            Record::Followed { log, up_to } => {
                let before = self.followed.insert(log.clone(), *up_to).unwrap_or_default();
                ensure(*up_to > before, "followed", || format!("{log}: {up_to} after {before}"))?;
            }
            Record::ShortageOver { .. } => {}
        }
        (self.now, self.sequence) = (entry.at, sequence);
        Ok(())
    }
}

fn parsed<T: serde::de::DeserializeOwned>(spec: &str) -> Result<T, Broken> {
    serde_json::from_str(spec).map_err(|error| Broken { rule: "spec", detail: error.to_string() })
}
