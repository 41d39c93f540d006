//! What the log says, read without the service's own code: plain lists, every event kept for ever,
//! and each thing that a subscription is owed under its key.

use crate::names::{What, passes};
use contracts::{CommandKey, SubscriptionId, TopicId};
use notify::core::record::{Entry, EventNo, Key, Record, SubscriptionNo, Tried};
use notify::core::spec::{Exhausted, SubscriptionSpec, SubscriptionState, TopicSpec};
use notify::core::{DeadLetter, Said, Signing};
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use units::{DurationMs, TimeMs};

/// An event that was published.
#[derive(Debug)]
pub(crate) struct Event {
    /// The entry that has its body: that of its post.
    pub(crate) sequence: u64,
    /// When it was published.
    pub(crate) at: TimeMs,
    /// As the log has it.
    pub(crate) key: Key,
    pub(crate) what: What,
    pub(crate) matched: Vec<u32>,
}

/// An event that is to be published later.
#[derive(Debug)]
struct Delayed {
    what: What,
    matched: Vec<u32>,
}

/// An event that was posted, to recognise its repetitions.
#[derive(Debug)]
pub(crate) struct Posted {
    /// 0 if it was delayed.
    pub(crate) number: u64,
    pub(crate) content: u64,
    at: TimeMs,
}

/// A command that was carried out under a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) key: CommandKey,
    pub(crate) at: TimeMs,
    pub(crate) said: Said,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicId,
    pub(crate) spec: TopicSpec,
    /// All that were ever published, the first one being number 1.
    events: Vec<Event>,
    /// Those up to this one are no longer kept, apart from those that somebody needs.
    pub(crate) trimmed: u64,
    apart: BTreeSet<u64>,
    /// Those that are to be published later, by their entries.
    delayed: BTreeMap<u64, Delayed>,
    /// All that were ever posted, in that order.
    posted: Vec<Posted>,
    /// So many of them were too old to be recognised when a later one was posted.
    forgotten: usize,
    /// The last one of each name.
    by_name: BTreeMap<u64, usize>,
    keys: BTreeSet<Key>,
}

impl Topic {
    pub(crate) fn last(&self) -> u64 {
        self.events.len() as u64
    }

    /// An event, kept or not.
    pub(crate) fn ever(&self, number: u64) -> Option<&Event> {
        self.events.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// An event that is kept.
    pub(crate) fn kept(&self, number: u64) -> Option<&Event> {
        self.ever(number).filter(|_| number > self.trimmed || self.apart.contains(&number))
    }

    pub(crate) fn kept_count(&self) -> u64 {
        self.last() - self.trimmed + self.apart.len() as u64
    }

    fn repeats_until(&self, at: TimeMs) -> TimeMs {
        at.plus(DurationMs::seconds(self.spec.repeat_seconds))
    }

    /// The event of this name of which another one would be a repetition.
    pub(crate) fn recent(&self, name: u64, at: TimeMs) -> Option<&Posted> {
        let place = *self.by_name.get(&name)?;
        let posted = self.posted.get(place)?;
        (place >= self.forgotten && self.repeats_until(posted.at) >= at).then_some(posted)
    }

    /// The first event that is kept and was published at this time or later; the next one if there
    /// is none.
    pub(crate) fn first_since(&self, at: TimeMs) -> u64 {
        let kept = self.apart.iter().copied().chain(self.trimmed + 1..=self.last());
        let is_since = |number: &u64| self.ever(*number).is_some_and(|event| event.at >= at);
        kept.into_iter().find(is_since).unwrap_or(self.last() + 1)
    }

    /// Whether few events are left of those from this one on, or of some of them.
    pub(crate) fn has_apart_since(&self, number: u64) -> bool {
        self.apart.range(number..).next().is_some()
    }

    pub(crate) fn delayed_count(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// The first entry whose body is still needed.
    fn first_body(&self) -> Option<u64> {
        let kept = self.apart.iter().copied().chain(self.trimmed + 1..=self.last());
        let kept = kept.filter_map(|number| Some(self.ever(number)?.sequence));
        kept.chain(self.delayed.keys().copied()).min()
    }

    /// An event is posted, and is no repetition.
    fn post(&mut self, name: u64, posted: Posted) -> Check {
        if let Some(repeated) = self.recent(name, posted.at) {
            return Err(wrong("MSG-3", format!("{posted:?} repeats {repeated:?}")));
        }
        while let Some(first) = self.posted.get(self.forgotten)
            && self.repeats_until(first.at) < posted.at
        {
            self.forgotten += 1;
        }
        self.by_name.insert(name, self.posted.len());
        self.posted.push(posted);
        Ok(())
    }
}

/// An event that a subscription has not had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) attempts: u32,
    pub(crate) again_at: Option<TimeMs>,
    /// What came of the last attempt, while its key waits for an operator.
    blocked: Option<DeadLetter>,
}

impl Wait {
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) name: SubscriptionId,
    pub(crate) topic: u32,
    pub(crate) spec: SubscriptionSpec,
    pub(crate) state: SubscriptionState,
    /// The first event that it can get.
    pub(crate) since: u64,
    /// The service has looked at all events before this one, as follows from the log.
    pub(crate) looked_up_to: u64,
    pub(crate) signing: Signing,
    /// Commands under a key, in their order.
    pub(crate) commands: Vec<Done>,
    pub(crate) owed: BTreeMap<Key, BTreeMap<u64, Wait>>,
    pub(crate) dead: BTreeMap<u64, DeadLetter>,
    pub(crate) discarded: BTreeSet<u64>,
    /// Those of them that were not replayed since.
    pub(crate) given_up: BTreeSet<u64>,
    /// From which events on it was to get all again, in the order of the commands.
    pub(crate) replays: Vec<u64>,
    /// Dead letters that an operator has redriven, and keys of which anything was redriven.
    pub(crate) redriven: BTreeSet<u64>,
    pub(crate) redriven_keys: BTreeSet<Key>,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
}

impl Subscription {
    pub(crate) fn owes(&self, key: Key, event: u64) -> Option<&Wait> {
        self.owed.get(&key)?.get(&event)
    }

    /// The next event of a key.
    pub(crate) fn first(&self, key: Key) -> Option<(u64, &Wait)> {
        self.owed.get(&key)?.first_key_value().map(|(event, wait)| (*event, wait))
    }

    /// The events for which keys wait.
    pub(crate) fn blocked(&self) -> BTreeMap<u64, DeadLetter> {
        let firsts = self.owed.values().filter_map(BTreeMap::first_key_value);
        firsts.filter_map(|(event, wait)| Some((*event, wait.blocked.clone()?))).collect()
    }

    pub(crate) fn owed_count(&self) -> u64 {
        self.owed.values().map(|lane| lane.len() as u64).sum()
    }

    fn take(&mut self, key: Key, event: u64) -> bool {
        let Some(lane) = self.owed.get_mut(&key) else { return false };
        let was_there = lane.remove(&event).is_some();
        if lane.is_empty() {
            self.owed.remove(&key);
        }
        was_there
    }
}

/// What must come of the end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is of no interest any more.
    Nothing,
    PutOff,
    Delivered,
    Failed,
    Gone,
    Died,
    Blocked,
}

/// The fold of the log.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) last: u64,
    pub(crate) now: TimeMs,
    pub(crate) topics: BTreeMap<u32, Topic>,
    pub(crate) subscriptions: BTreeMap<u32, Subscription>,
    pub(crate) last_subscription: u32,
    /// What was last set of each, also of those that were deleted.
    pub(crate) specs: BTreeMap<SubscriptionId, SubscriptionSpec>,
    pub(crate) followed: BTreeMap<String, u64>,
    /// Events that are to be published later: when, their entries, and their topics.
    delayed: BTreeSet<(TimeMs, u64, u32)>,
    /// What publishers have sent, by name and content.
    pub(crate) sent: BTreeMap<(u64, u64), What>,
    /// Derived events since the last entry that says how far their log was followed.
    derived: Vec<u64>,
}

fn wrong(rule: &'static str, what: impl Into<String>) -> Violation {
    Violation { rule, what: what.into() }
}

impl Model {
    pub(crate) fn topic(&self, name: &TopicId) -> Option<(u32, &Topic)> {
        self.topics.iter().find(|(_, topic)| topic.name == *name).map(|(number, topic)| (*number, topic))
    }

    pub(crate) fn subscription(&self, name: &SubscriptionId) -> Option<(u32, &Subscription)> {
        let found = self.subscriptions.iter().find(|(_, known)| known.name == *name);
        found.map(|(number, known)| (*number, known))
    }

    /// Who wants an event that is posted now.
    pub(crate) fn matches(&self, topic: u32, kind: usize) -> Vec<u32> {
        let all = self.subscriptions.iter().filter(|(_, known)| known.topic == topic);
        let wants = |known: &Subscription| passes(&known.spec.filters, kind) == Some(true);
        all.filter(|(_, known)| wants(known)).map(|(number, _)| *number).collect()
    }

    /// Whether somebody has not had it, or has it as a dead letter.
    pub(crate) fn is_owed(&self, number: u64, event: &Event) -> bool {
        event
            .matched
            .iter()
            .filter_map(|known| self.subscriptions.get(known))
            .any(|known| known.dead.contains_key(&number) || known.owes(event.key, number).is_some())
    }

    /// The last event that can be let go: those before it are old enough, or too many.
    pub(crate) fn can_go(&self, topic: &Topic) -> Option<u64> {
        let kept_for = DurationMs::seconds(topic.spec.retain_seconds);
        let too_many = topic.last().saturating_sub(topic.spec.retain_events);
        let goes = |number: &u64| {
            let is_old = |event: &Event| event.at.plus(kept_for) < self.now;
            *number <= too_many || topic.ever(*number).is_some_and(is_old)
        };
        (topic.trimmed + 1..=topic.last()).take_while(goes).last()
    }

    /// The event of a subscription, if it is kept and for it.
    pub(crate) fn event_of(&self, subscription: u32, number: u64) -> Option<&Event> {
        let topic = self.topics.get(&self.subscriptions.get(&subscription)?.topic)?;
        topic.kept(number).filter(|event| event.matched.binary_search(&subscription).is_ok())
    }

    /// What must come of a report.
    pub(crate) fn end(&self, report: &notify::core::Attempted) -> End {
        use notify::core::Outcome;
        let (subscription, number) = (report.subscription.0, report.event.0);
        let Some(event) = self.event_of(subscription, number) else { return End::Nothing };
        let Some(known) = self.subscriptions.get(&subscription) else { return End::Nothing };
        if report.outcome == Outcome::Delivered {
            return if known.owes(event.key, number).is_some() { End::Delivered } else { End::Nothing };
        }
        let is_next = known.first(event.key).is_some_and(|(first, wait)| {
            first == number && !wait.is_blocked() && wait.attempts + 1 == report.attempt
        });
        let is_last = report.attempt >= known.spec.retry.attempts;
        match report.outcome {
            _ if !is_next => End::Nothing,
            Outcome::NotTried => End::PutOff,
            Outcome::Gone => End::Gone,
            _ if is_last && known.spec.exhausted == Exhausted::BlockKey => End::Blocked,
            _ if is_last => End::Died,
            _ => End::Failed,
        }
    }

    /// Applies the next entry, which must be possible here.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Check {
        ensure(entry.at >= self.now, "log", || format!("an entry of {} after {}", entry.at, self.now))?;
        self.last += 1;
        self.now = entry.at;
        let is_derived = matches!(entry.record, Record::Published { .. } | Record::Followed { .. });
        if !is_derived {
            self.derived.clear();
        }
        match &entry.record {
            Record::TopicDefined { topic, name, spec, .. } => self.topic_defined(topic.0, name, spec),
            Record::Subscribed { subscription, name, topic, spec, .. } => {
                self.subscribed(subscription.0, name, topic.0, spec)
            }
            Record::StateSet { subscription, state, .. } => {
                self.known(*subscription)?.state = *state;
                Ok(())
            }
            Record::Unsubscribed { subscription, .. } => {
                self.known(*subscription)?;
                self.subscriptions.remove(&subscription.0);
                Ok(())
            }
            Record::Published { topic, identity, content, key, matched, body } => {
                let what = self.posted(topic.0, (*identity, *content), matched, body)?;
                self.published(topic.0, what, *key)
            }
            Record::Delayed { topic, identity, content, key, due, matched, body } => {
                let what = self.posted(topic.0, (*identity, *content), matched, body)?;
                self.delays(topic.0, what, (key.map(|key| key.0), *due))
            }
            Record::Due { topic, due, delayed } => self.comes_due((*due, delayed.0, topic.0)),
            Record::Replayed { subscription, from, .. } => self.replayed(*subscription, from.0),
            Record::SecretRotated { subscription, old_until, .. } => {
                let signing = &mut self.known(*subscription)?.signing;
                (signing.rotations, signing.old_until) = (signing.rotations + 1, *old_until);
                Ok(())
            }
            Record::Delivered(tried) => {
                let (known, key) = self.waiting(tried.subscription, tried.event)?;
                known.delivered += 1;
                known.take(key, tried.event.0);
                Ok(())
            }
            Record::Failed { tried, again_at } => {
                let wait = self.tried(tried)?;
                (wait.attempts, wait.again_at) = (tried.attempt, Some(*again_at));
                Ok(())
            }
            Record::Died(tried) => {
                self.tried(tried)?;
                let letter = self.letter(tried);
                let (known, key) = self.waiting(tried.subscription, tried.event)?;
                known.take(key, tried.event.0);
                known.dead.insert(tried.event.0, letter);
                Ok(())
            }
            Record::Blocked(tried) => {
                let letter = self.letter(tried);
                let wait = self.tried(tried)?;
                (wait.attempts, wait.again_at, wait.blocked) = (tried.attempt, None, Some(letter));
                Ok(())
            }
            Record::Redriven { subscription, event, .. } => self.redriven(*subscription, *event),
            Record::Discarded { subscription, event, .. } => self.discarded(*subscription, *event),
            Record::Trimmed { topic, up_to } => self.let_go(topic.0, up_to.0),
            Record::Followed { log, up_to } => self.has_followed(log, up_to.0),
            Record::CommandDone { subscription, key, said } => {
                let done = Done { key: *key, at: entry.at, said: *said };
                self.known(*subscription)?.commands.push(done);
                Ok(())
            }
            Record::ShortageOver { .. } => Ok(()),
            other => Err(wrong("log", format!("nobody asked for {other:?}"))),
        }?;
        if let Some(tried) = entry.record.tried() {
            self.has_looked(tried);
        }
        self.let_the_rest_go();
        Ok(())
    }

    /// The last attempt of an event has failed.
    fn letter(&self, tried: &Tried) -> DeadLetter {
        let Tried { attempt: attempts, status, ref said, .. } = *tried;
        DeadLetter { died_at: self.now, attempts, status, said: said.clone() }
    }

    /// What was kept apart goes once nobody needs it.
    fn let_the_rest_go(&mut self) {
        let mut topics = std::mem::take(&mut self.topics);
        for topic in topics.values_mut() {
            let apart = std::mem::take(&mut topic.apart);
            let is_needed =
                |number: &u64| topic.ever(*number).is_some_and(|event| self.is_owed(*number, event));
            topic.apart = apart.into_iter().filter(is_needed).collect();
        }
        self.topics = topics;
    }

    fn known(&mut self, subscription: SubscriptionNo) -> Result<&mut Subscription, Violation> {
        let none = || wrong("MSG-5", format!("{subscription:?} is not there at entry {}", self.last));
        self.subscriptions.get_mut(&subscription.0).ok_or_else(none)
    }

    /// The log says something of an attempt: the service has looked at all events up to that one.
    fn has_looked(&mut self, tried: &Tried) {
        if let Some(known) = self.subscriptions.get_mut(&tried.subscription.0) {
            known.looked_up_to = known.looked_up_to.max(tried.event.0 + 1);
        }
    }

    fn topic_defined(&mut self, topic: u32, name: &TopicId, spec: &str) -> Check {
        let spec: TopicSpec = serde_json::from_str(spec).map_err(|error| wrong("log", error.to_string()))?;
        if let Some(known) = self.topics.get_mut(&topic) {
            ensure(known.name == *name, "log", || format!("topic {topic} has another name: {name}"))?;
            known.spec = spec;
            return Ok(());
        }
        let is_new = topic as usize == self.topics.len() + 1 && self.topic(name).is_none();
        ensure(is_new, "log", || format!("a second topic {topic} or {name}"))?;
        let new = Topic {
            name: name.clone(),
            spec,
            events: Vec::new(),
            trimmed: 0,
            apart: BTreeSet::new(),
            delayed: BTreeMap::new(),
            posted: Vec::new(),
            forgotten: 0,
            by_name: BTreeMap::new(),
            keys: BTreeSet::new(),
        };
        self.topics.insert(topic, new);
        Ok(())
    }

    fn subscribed(&mut self, number: u32, name: &SubscriptionId, topic: u32, spec: &str) -> Check {
        let spec: SubscriptionSpec =
            serde_json::from_str(spec).map_err(|error| wrong("log", error.to_string()))?;
        let is_there = self.topics.get(&topic).is_some_and(|known| known.name == spec.topic);
        ensure(is_there, "log", || format!("{name} is of no topic {topic}"))?;
        self.specs.insert(name.clone(), spec.clone());
        if let Some(known) = self.subscriptions.get_mut(&number) {
            let is_same = known.name == *name && known.topic == topic;
            ensure(is_same, "log", || format!("subscription {number} is another one: {name}"))?;
            known.spec = spec;
            return Ok(());
        }
        let is_new = number == self.last_subscription + 1 && self.subscription(name).is_none();
        ensure(is_new, "log", || format!("a second subscription {number} or {name}"))?;
        self.last_subscription = number;
        let since = self.topics.get(&topic).map_or(0, Topic::last) + 1;
        let new = Subscription {
            name: name.clone(),
            topic,
            spec,
            state: SubscriptionState::Active,
            since,
            looked_up_to: since,
            signing: Signing { made_at: self.now, rotations: 0, old_until: TimeMs::default() },
            commands: Vec::new(),
            owed: BTreeMap::new(),
            dead: BTreeMap::new(),
            discarded: BTreeSet::new(),
            given_up: BTreeSet::new(),
            replays: Vec::new(),
            redriven: BTreeSet::new(),
            redriven_keys: BTreeSet::new(),
            delivered: 0,
            failed: 0,
        };
        self.subscriptions.insert(number, new);
        Ok(())
    }

    /// The event is one that a publisher has sent, and names all who want it.
    fn posted(
        &self,
        topic: u32,
        (identity, content): (u128, u64),
        matched: &[SubscriptionNo],
        body: &[u8],
    ) -> Result<What, Violation> {
        let sequence = self.last;
        let sent = self.sent.get(&(identity as u64, content)).filter(|what| {
            let event = what.event();
            event.identity == identity && *event.body == *body
        });
        let what =
            sent.ok_or_else(|| wrong("MSG-5", format!("entry {sequence}: nobody has sent {identity}")))?;
        let wanted = self.matches(topic, what.kind);
        ensure(matched.iter().map(|number| number.0).eq(wanted.iter().copied()), "MSG-5", || {
            format!("entry {sequence} is for {matched:?}, and {wanted:?} want it")
        })?;
        Ok(what.clone())
    }

    fn known_topic(&mut self, topic: u32) -> Result<&mut Topic, Violation> {
        let last = self.last;
        self.topics.get_mut(&topic).ok_or_else(|| wrong("log", format!("entry {last} is of no topic")))
    }

    /// The event is no repetition, and gets the next number.
    fn published(&mut self, topic: u32, what: What, key: Key) -> Check {
        let (sequence, at, matched) = (self.last, self.now, self.matches(topic, what.kind));
        ensure(what.due.is_none_or(|due| due <= at), "MSG-5", || {
            format!("entry {sequence} of {at} publishes at once {what:?}")
        })?;
        self.derived.push(what.name);
        let known = self.known_topic(topic)?;
        let number = known.last() + 1;
        known.post(what.name, Posted { number, content: what.content, at })?;
        self.gets_number(topic, Event { sequence, at, key, what, matched })
    }

    /// The event is no repetition, and waits until it is due.
    fn delays(&mut self, topic: u32, what: What, (key, due): (Option<u64>, TimeMs)) -> Check {
        let (sequence, at, matched) = (self.last, self.now, self.matches(topic, what.kind));
        ensure(what.key == key && what.due == Some(due) && due > at, "MSG-5", || {
            format!("entry {sequence} of {at} is due at {due}, with the key {key:?}: it is {what:?}")
        })?;
        self.delayed.insert((due, sequence, topic));
        let known = self.known_topic(topic)?;
        known.post(what.name, Posted { number: 0, content: what.content, at })?;
        known.delayed.insert(sequence, Delayed { what, matched });
        Ok(())
    }

    /// The first event that is due is published, to those of its subscriptions that are left.
    fn comes_due(&mut self, is_due: (TimeMs, u64, u32)) -> Check {
        let (due, sequence, topic) = is_due;
        let (last, now, first) = (self.last, self.now, self.delayed.pop_first());
        ensure(first == Some(is_due) && due <= now, "MSG-6", || {
            format!(
                "entry {last} of {now} publishes what is due at {due}, entry {sequence}; next is {first:?}"
            )
        })?;
        let known = self.known_topic(topic)?;
        let next = known.last() + 1;
        let none = || wrong("MSG-5", format!("entry {last}: entry {sequence} is not delayed"));
        let Delayed { what, mut matched } = known.delayed.remove(&sequence).ok_or_else(none)?;
        // As documented: an event in no order has a key of its own.
        let key = Key(what.key.unwrap_or(!next));
        matched.retain(|number| self.subscriptions.contains_key(number));
        self.gets_number(topic, Event { sequence, at: now, key, what, matched })
    }

    /// The event has the next number of its topic, and is owed to those whom it is for.
    fn gets_number(&mut self, topic: u32, event: Event) -> Check {
        let (last, key, own) = (self.last, event.key, event.what.key);
        let known = self.known_topic(topic)?;
        let has_key = own.map_or(!known.keys.contains(&key), |own| key == Key(own));
        ensure(has_key, "MSG-2", || format!("entry {last} has the key {key:?}, and not {own:?}"))?;
        known.keys.insert(key);
        let (number, matched) = (known.last() + 1, event.matched.clone());
        known.events.push(event);
        for subscription in matched {
            if let Some(known) = self.subscriptions.get_mut(&subscription) {
                known.owed.entry(key).or_default().insert(number, Wait::default());
            }
        }
        Ok(())
    }

    /// The first event that is to be published later: when, its entry, and its topic.
    pub(crate) fn next_delayed(&self) -> Option<(TimeMs, u64, u32)> {
        self.delayed.first().copied()
    }

    /// When the last of them is to be published.
    pub(crate) fn last_delayed(&self) -> Option<TimeMs> {
        self.delayed.last().map(|(due, ..)| *due)
    }

    /// The first entry of which the log must still have the body.
    pub(crate) fn first_body(&self) -> Option<u64> {
        self.topics.values().filter_map(Topic::first_body).min()
    }

    /// The subscription is to get again what it was to get from this event on: all that is kept.
    fn replayed(&mut self, number: SubscriptionNo, from: u64) -> Check {
        let topic = self.known(number)?.topic;
        let Some(topic) = self.topics.get(&topic) else { return Err(wrong("log", "of no topic")) };
        let Some(known) = self.subscriptions.get_mut(&number.0) else { return Ok(()) };
        ensure((known.since..=topic.last()).contains(&from), "MSG-5", || {
            format!("{} is to get all from {from} on again, and was made before {}", known.name, known.since)
        })?;
        known.dead.retain(|event, _| *event < from);
        known.replays.push(from);
        known.looked_up_to = known.looked_up_to.min(from);
        for event in from..=topic.last() {
            let Some(kept) = topic.kept(event) else { continue };
            if kept.matched.binary_search(&number.0).is_ok() {
                known.owed.entry(kept.key).or_default().insert(event, Wait::default());
                known.given_up.remove(&event);
            }
        }
        Ok(())
    }

    /// The subscription, which waits for the event, and the event's key.
    fn waiting(
        &mut self,
        number: SubscriptionNo,
        event: EventNo,
    ) -> Result<(&mut Subscription, Key), Violation> {
        let last = self.last;
        let none = || wrong("MSG-5", format!("entry {last}: {number:?} is not owed {event:?}"));
        let key = self.event_of(number.0, event.0).map(|event| event.key).ok_or_else(none)?;
        let known = self.subscriptions.get_mut(&number.0).ok_or_else(none)?;
        known.owes(key, event.0).ok_or_else(none)?;
        Ok((known, key))
    }

    /// The event has failed, which was the first of its key, and this was its next attempt.
    fn tried(&mut self, tried: &Tried) -> Result<&mut Wait, Violation> {
        let last = self.last;
        let (known, key) = self.waiting(tried.subscription, tried.event)?;
        known.failed += 1;
        let lane = known.owed.get_mut(&key).and_then(BTreeMap::first_entry);
        let lane = lane.filter(|first| *first.key() == tried.event.0);
        let out_of_turn = || wrong("MSG-2", format!("entry {last}: {tried:?} was not its key's turn"));
        let wait = lane.ok_or_else(out_of_turn)?.into_mut();
        ensure(wait.attempts + 1 == tried.attempt && !wait.is_blocked(), "MSG-4", || {
            format!("entry {last}: {tried:?} after {wait:?}")
        })?;
        Ok(wait)
    }

    fn redriven(&mut self, number: SubscriptionNo, event: EventNo) -> Check {
        let last = self.last;
        let key = self.event_of(number.0, event.0).map(|event| event.key);
        let known = self.known(number)?;
        let none = || wrong("MSG-1", format!("entry {last}: {event:?} is no event of {number:?}"));
        let key = key.ok_or_else(none)?;
        known.redriven_keys.insert(key);
        if known.dead.remove(&event.0).is_some() {
            known.redriven.insert(event.0);
            let lane = known.owed.entry(key).or_default();
            lane.insert(event.0, Wait::default());
            // What waits behind it begins anew.
            if lane.first_key_value().is_some_and(|(first, _)| *first == event.0) {
                lane.values_mut().for_each(|wait| *wait = Wait::default());
            }
            return Ok(());
        }
        let first = known.owed.get_mut(&key).and_then(BTreeMap::first_entry);
        let begun = first.filter(|first| *first.key() == event.0 && first.get().attempts > 0);
        *begun.ok_or_else(none)?.into_mut() = Wait::default();
        Ok(())
    }

    fn discarded(&mut self, number: SubscriptionNo, event: EventNo) -> Check {
        let last = self.last;
        let key = self.event_of(number.0, event.0).map(|event| event.key);
        let known = self.known(number)?;
        let none = || wrong("MSG-1", format!("entry {last}: {event:?} has not failed for {number:?}"));
        let key = key.ok_or_else(none)?;
        known.discarded.insert(event.0);
        known.given_up.insert(event.0);
        if known.dead.remove(&event.0).is_some() {
            return Ok(());
        }
        let is_begun = known.first(key).is_some_and(|(first, wait)| first == event.0 && wait.attempts > 0);
        ensure(is_begun && known.take(key, event.0), "MSG-1", || none().what)
    }

    fn let_go(&mut self, topic: u32, up_to: u64) -> Check {
        let Some(known) = self.topics.get(&topic) else { return Err(wrong("log", "trims no topic")) };
        let possible = self.can_go(known);
        ensure(possible.is_some_and(|most| up_to <= most) && up_to > known.trimmed, "MSG-1", || {
            format!("the events of {} up to {up_to} are let go, and only {possible:?} can", known.name)
        })?;
        if let Some(known) = self.topics.get_mut(&topic) {
            known.apart.extend(known.trimmed + 1..=up_to);
            known.trimmed = up_to;
        }
        Ok(())
    }

    /// Each entry of the other log has one event, in their order, right before this entry.
    fn has_followed(&mut self, log: &str, up_to: u64) -> Check {
        let before = self.followed.insert(log.to_owned(), up_to).unwrap_or_default();
        let derived = std::mem::take(&mut self.derived);
        let wanted: Vec<u64> = (before + 1..=up_to).map(crate::names::derived_name).collect();
        ensure(derived.ends_with(&wanted) && up_to > before, "MSG-1", || {
            format!("{log} was followed from {before} to {up_to}, and {derived:?} was published for that")
        })
    }
}
