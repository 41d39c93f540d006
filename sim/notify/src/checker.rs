//! Checks every reply against the log: what it says must be in the log, what must come of it must
//! be logged, and nothing else may be.

mod once;
mod pulls;
mod reads;

use crate::consumers::Consumers;
use crate::courier::Courier;
use crate::model::{End, Model, Subscription};
use crate::names::operator;
use crate::subscribers::Subscribers;
use crate::underway::UnderWay;
use contracts::{Actor, SubscriptionId};
use engines::log::LogRead;
use notify::core::record::{Entry, EventNo, Key, Record, SubscriptionNo, TopicNo, Tried};
use notify::core::spec::{Retry, SubscriptionSpec, SubscriptionState};
use notify::core::{
    Accepted, Attempted, Command, From, NewEvent, Outcome, Post, Refused, Reply, Signing, Turn,
};
use sim::journal::Journal;
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;
use std::slice::Iter;
use units::{DurationMs, Sequence, TimeMs};

/// Turns in a row that may begin nothing and say that there is something.
const IDLE_TURNS_MAX: u32 = 50;
/// What is logged of an answer.
const SAID_BYTES_MAX: usize = 512;
/// The longest that an endpoint may ask to be left alone.
const RETRY_AFTER_MAX: DurationMs = DurationMs(24 * 3_600_000);
/// Within so many events of where it has looked last the service takes up what has ended.
const NEAR: u64 = 1024;
/// How far ahead an event may be due, and how long an earlier secret may sign.
const DUE_MAX: DurationMs = DurationMs(366 * 24 * 3_600_000);
const OLD_SECRET_MAX: DurationMs = DurationMs(30 * 24 * 3_600_000);

/// A step of the worker, as it looks from outside.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) now: TimeMs,
    pub(crate) commands: &'a [Command],
    pub(crate) replies: &'a [Reply],
    pub(crate) in_shortage: bool,
    pub(crate) next_wakeup: Option<TimeMs>,
    pub(crate) is_whole: bool,
    /// How often the state was built again; `None` if it cannot be shown.
    pub(crate) epoch: Option<u64>,
}

impl Step<'_> {
    /// It may have ended because there was too much to do by the time alone.
    fn may_be_full(&self) -> bool {
        self.replies.is_empty() && !self.is_whole
    }
}

/// Who else knows what is true.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witnesses<'a> {
    pub(crate) subscribers: &'a Subscribers,
    pub(crate) courier: &'a Courier,
    pub(crate) consumers: &'a Consumers,
}

/// The promises made so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) model: Model,
    journal: Journal,
    pub(crate) under_way: UnderWay,
    /// Every delivery that was ever pulled, by subscription, event and attempt, and when its first
    /// lease has ended.
    leased: BTreeMap<(u32, u64, u32), TimeMs>,
    /// Commands that were turned away since nothing could be written.
    turned_away: u64,
    /// Dead letters that a command of several steps has changed so far.
    begun: u64,
    idle_turns: u32,
    /// Leases that have ended with nothing to log, since work remains from earlier steps.
    pub(crate) unseen_ends: u32,
    /// The entries of the last step, for the trace.
    briefs: Vec<String>,
}

/// The entries of a step that are not accounted for yet.
struct News<'a> {
    now: TimeMs,
    entries: Iter<'a, Entry>,
    witnesses: Witnesses<'a>,
}

fn wrong(rule: &'static str, what: String) -> Violation {
    Violation { rule, what }
}

impl Checker {
    fn news(&mut self, reader: &mut dyn LogRead) -> Result<Vec<Entry>, Violation> {
        let first = self.journal.last() + 1;
        let news: Vec<Entry> = self.journal.news(reader)?;
        self.briefs =
            news.iter().zip(first..).map(|(entry, at)| format!("  {at}: {}", brief(entry))).collect();
        Ok(news)
    }

    /// The entries of the last step, in a word each.
    pub(crate) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.briefs)
    }

    /// Checks the log after a restart: it must hold all that it held before, and perhaps a batch
    /// whose outcome was unknown.
    pub(crate) fn restarted(&mut self, reader: &mut dyn LogRead, witnesses: Witnesses<'_>) -> Check {
        self.journal.is_kept(reader, "MSG-1")?;
        (self.turned_away, self.begun, self.idle_turns) = (0, 0, 0);
        self.under_way.forget(0);
        for entry in self.news(reader)? {
            self.enter(&entry, witnesses)?;
        }
        Ok(())
    }

    /// Checks a step after which the worker goes on. True if an operator has redriven something, or
    /// has it delivered again.
    pub(crate) fn step(
        &mut self,
        step: &Step<'_>,
        reader: &mut dyn LogRead,
        witnesses: Witnesses<'_>,
    ) -> Result<bool, Violation> {
        let news = self.news(reader)?;
        let is_again =
            |entry: &Entry| matches!(entry.record, Record::Redriven { .. } | Record::Replayed { .. });
        let is_redriven = news.iter().any(is_again);
        if let Some(epoch) = step.epoch.filter(|epoch| *epoch != self.under_way.epoch) {
            self.under_way.forget(epoch);
        }
        let mut news = News { now: step.now, entries: news.iter(), witnesses };
        self.shortage_over(&mut news)?;
        if step.in_shortage {
            self.short(step)?;
        } else {
            self.ticked(step, &mut news)?;
            for (command, reply) in step.commands.iter().zip(step.replies) {
                self.decided(command, reply, &mut news)?;
            }
        }
        // What is left is of a command that takes several steps.
        while let Some(entry) = news.entries.next() {
            let is_letter = matches!(entry.record, Record::Redriven { .. } | Record::Discarded { .. });
            ensure(is_letter && !step.is_whole, "MSG-5", || format!("nothing explains {}", brief(entry)))?;
            self.enters(entry, &news)?;
            self.begun += 1;
        }
        ensure(!step.is_whole || self.begun == 0 || step.in_shortage, "reply", || {
            format!("{} letters were changed, and nobody is told", self.begun)
        })?;
        if !step.in_shortage && !step.may_be_full() {
            self.wakes(step)?;
        }
        if step.is_whole {
            self.unseen_ends = 0;
        }
        Ok(is_redriven)
    }

    /// What is due by the time comes first: delayed events are published, and leases end.
    fn ticked(&mut self, step: &Step<'_>, news: &mut News<'_>) -> Check {
        while let Some((due, delayed, topic)) = self.model.next_delayed().filter(|(due, ..)| *due <= step.now)
        {
            if news.entries.as_slice().is_empty() && step.may_be_full() {
                return Ok(());
            }
            let (topic, delayed) = (TopicNo(topic), Sequence(delayed));
            self.logs(news, &Record::Due { topic, due, delayed })?;
        }
        self.leases_end(step, news)
    }

    /// The worker wakes when the next delayed event is due, or the next lease ends.
    fn wakes(&self, step: &Step<'_>) -> Check {
        let due = self.model.next_delayed().map(|(due, ..)| due);
        let lease = self.under_way.first_lease().map(|(until, ..)| until);
        let wakeup = due.into_iter().chain(lease).min();
        ensure(step.next_wakeup == wakeup, "MSG-6", || {
            format!("it wakes at {:?}, and something is to be done at {wakeup:?}", step.next_wakeup)
        })
    }

    /// The end of a shortage comes first, after what was left open before it.
    fn shortage_over(&mut self, news: &mut News<'_>) -> Check {
        let is_end = |entry: &Entry| matches!(entry.record, Record::ShortageOver { .. });
        let Some(last) = news.entries.as_slice().iter().rposition(is_end) else { return Ok(()) };
        for _ in 0..=last {
            let Some(entry) = news.entries.next() else { break };
            if let Record::ShortageOver { turned_away, .. } = entry.record {
                let said = std::mem::take(&mut self.turned_away);
                ensure(turned_away == said, "reply", || {
                    format!("{turned_away} turned away by the log, and {said} were")
                })?;
            }
            self.enters(entry, news)?;
        }
        Ok(())
    }

    /// Nothing can be written: who asks for more than a look is turned away.
    fn short(&mut self, step: &Step<'_>) -> Check {
        self.begun = 0;
        for (command, reply) in step.commands.iter().zip(step.replies) {
            match reply {
                Reply::Unavailable(_) => {}
                Reply::Busy => {
                    ensure(!reads::is_read(command), "reply", || format!("{command:?} needs no room"))?;
                    self.turned_away += 1;
                }
                reply => self.read(command, reply)?,
            }
        }
        Ok(())
    }

    /// An entry of this step: it has the time of the step.
    fn enters(&mut self, entry: &Entry, news: &News<'_>) -> Check {
        let at = news.now.max(self.model.now);
        ensure(entry.at == at, "log", || format!("{}: not of {at}", brief(entry)))?;
        self.enter(entry, news.witnesses)
    }

    /// An entry: nothing in it is invented.
    fn enter(&mut self, entry: &Entry, witnesses: Witnesses<'_>) -> Check {
        let Witnesses { subscribers, courier, consumers } = witnesses;
        match &entry.record {
            Record::Delivered(tried) => {
                let (number, event) = (tried.subscription.0, tried.event.0);
                let is_done = || Some(consumers.has_done(self.name(number)?, event));
                let is_so = subscribers.has_taken(number, event) || is_done() == Some(true);
                ensure(is_so, "MSG-1", || format!("{tried:?}, and its endpoint has not taken it"))?;
            }
            Record::Failed { tried, .. } | Record::Died(tried) | Record::Blocked(tried) => {
                let is_so = courier.has_reported(tried) || self.has_given_up(tried, entry.at, consumers);
                ensure(is_so, "MSG-5", || format!("{tried:?} was not reported"))?;
            }
            _ => {}
        }
        let about = self.about(&entry.record);
        let first = |model: &Model, number: u32, key| Some(model.subscriptions.get(&number)?.first(key)?.0);
        if let Record::Replayed { subscription: SubscriptionNo(number), from, .. } = entry.record {
            self.under_way.replays(number, from.0, |key| first(&self.model, number, key));
        }
        let before = about.and_then(|(number, _, key)| first(&self.model, number, key));
        self.model.apply(entry)?;
        if let Some((number, event, key)) = about
            && (before == Some(event) || first(&self.model, number, key) != before)
        {
            self.under_way.is_decided(number, key);
        }
        match (&entry.record, about) {
            (Record::Unsubscribed { subscription, .. }, _) => self.under_way.is_gone(subscription.0),
            (Record::Redriven { .. }, _) | (_, None) => {}
            (_, Some((number, event, _))) => self.under_way.is_given_up(number, event),
        }
        Ok(())
    }

    fn name(&self, subscription: u32) -> Option<&SubscriptionId> {
        self.model.subscriptions.get(&subscription).map(|known| &known.name)
    }

    /// A consumer has said so, or has said nothing until its lease ended.
    fn has_given_up(&self, tried: &Tried, at: TimeMs, consumers: &Consumers) -> bool {
        let (number, event, attempt) = (tried.subscription.0, tried.event.0, tried.attempt);
        let is_over = || self.leased.get(&(number, event, attempt)).is_some_and(|until| *until <= at);
        match &*tried.said {
            pulls::NO_WORD => is_over(),
            pulls::GIVEN_UP => {
                self.name(number).is_some_and(|name| consumers.has_given_up(name, event, attempt))
            }
            _ => false,
        }
    }

    /// The subscription, the event and the key of which an entry says something.
    fn about(&self, record: &Record) -> Option<(u32, u64, Key)> {
        let (subscription, event) = match record {
            Record::Delivered(tried)
            | Record::Failed { tried, .. }
            | Record::Died(tried)
            | Record::Blocked(tried) => (tried.subscription, tried.event),
            Record::Redriven { subscription, event, .. } | Record::Discarded { subscription, event, .. } => {
                (*subscription, *event)
            }
            _ => return None,
        };
        let key = self.model.event_of(subscription.0, event.0)?.key;
        Some((subscription.0, event.0, key))
    }

    /// The next entry is this one.
    fn logs(&mut self, news: &mut News<'_>, expected: &Record) -> Check {
        let next = news.entries.next();
        let Some(entry) = next.filter(|entry| entry.record == *expected) else {
            let found = next.map(brief);
            return Err(wrong("log", format!("{} is not logged, but {found:?}", brief_record(expected))));
        };
        self.enters(entry, news)
    }

    /// A command was answered: exactly what must come of it is in the log, and the reply says so.
    fn decided(&mut self, command: &Command, reply: &Reply, news: &mut News<'_>) -> Check {
        let expected = match command {
            Command::DefineTopic { name, spec, by } => {
                let known = self.model.topic(name);
                if known.is_none_or(|(_, known)| known.spec != *spec) {
                    let topic = known.map_or(self.model.topics.len() as u32 + 1, |(number, _)| number);
                    let (topic, name, by) = (TopicNo(topic), name.clone(), by.clone());
                    let record = Record::TopicDefined { topic, name, spec: json(spec)?, by };
                    self.logs(news, &record)?;
                }
                Reply::Done
            }
            Command::Subscribe { name, spec, by, .. } => self.subscribe(name, spec, by, news)?,
            Command::SetState { name, state, by } => match self.model.subscription(name) {
                None => none(name),
                Some((number, known)) => {
                    if known.state != *state {
                        let (subscription, state, by) = (SubscriptionNo(number), *state, by.clone());
                        self.logs(news, &Record::StateSet { subscription, state, by })?;
                    }
                    Reply::Done
                }
            },
            Command::Unsubscribe { name, by } => match self.model.subscription(name) {
                None => none(name),
                Some((number, _)) => {
                    let (subscription, by) = (SubscriptionNo(number), by.clone());
                    self.logs(news, &Record::Unsubscribed { subscription, by })?;
                    Reply::Done
                }
            },
            Command::Post(post) => self.post(post, news)?,
            Command::Turn(turn) => return self.turn(turn, reply, news),
            Command::Pull { name, at_most, lease } => {
                return self.pull((name, *at_most, *lease), reply, news);
            }
            Command::Settle { name, ended } => self.settle(name, ended, news)?,
            Command::Once { key, command } => self.once(*key, command, news)?,
            command => match self.operated(command, news)? {
                Some(expected) => expected,
                None => return self.read(command, reply),
            },
        };
        let rule = if matches!(command, Command::Post(_)) { "MSG-3" } else { "reply" };
        ensure(*reply == expected, rule, || format!("{command:?} is answered {reply:?}, not {expected:?}"))
    }

    /// What must come of a command that may have a key.
    fn operated(&mut self, command: &Command, news: &mut News<'_>) -> Result<Option<Reply>, Violation> {
        Ok(Some(match command {
            Command::Redrive { name, event, .. } => {
                let record = |subscription, event| Record::Redriven { subscription, event, by: operator() };
                self.letters(name, (*event, true), record, news)?
            }
            Command::Discard { name, event, .. } => {
                let record = |subscription, event| Record::Discarded { subscription, event, by: operator() };
                self.letters(name, (*event, false), record, news)?
            }
            Command::Replay { name, from, by } => self.replay(name, *from, by, news)?,
            Command::RotateSecret { name, overlap, by } => self.rotate_secret(name, *overlap, by, news)?,
            _ => return Ok(None),
        }))
    }

    fn subscribe(
        &mut self,
        name: &SubscriptionId,
        spec: &SubscriptionSpec,
        by: &Actor,
        news: &mut News<'_>,
    ) -> Result<Reply, Violation> {
        let Some((topic, _)) = self.model.topic(&spec.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(spec.topic.clone())));
        };
        let known = self.model.subscription(name);
        let is_new = known.is_none();
        let number = known.map_or(self.model.last_subscription + 1, |(number, _)| number);
        if let Some((_, known)) = known.filter(|(_, known)| known.topic != topic) {
            return Ok(Reply::Refused(Refused::OtherTopic(known.spec.topic.clone())));
        }
        let subscription = SubscriptionNo(number);
        if known.is_none_or(|(_, known)| known.spec != *spec) {
            let (name, topic, spec, by) = (name.clone(), TopicNo(topic), json(spec)?, by.clone());
            self.logs(news, &Record::Subscribed { subscription, name, topic, spec, by })?;
        }
        let signing = self.signing(number)?;
        Ok(Reply::Subscribed { subscription, signing, is_new })
    }

    fn signing(&self, number: u32) -> Result<Signing, Violation> {
        let known = self.model.subscriptions.get(&number);
        known.map(|known| known.signing).ok_or_else(|| wrong("log", format!("no subscription {number}")))
    }

    /// The subscription gets again what it was to get from there on.
    fn replay(
        &mut self,
        name: &SubscriptionId,
        from: From,
        by: &Actor,
        news: &mut News<'_>,
    ) -> Result<Reply, Violation> {
        let Some((number, known)) = self.model.subscription(name) else { return Ok(none(name)) };
        let Some(topic) = self.model.topics.get(&known.topic) else { return Ok(Reply::Busy) };
        let first = match from {
            From::Event(event) => event.0,
            From::Time(at) => topic.first_since(at),
        };
        let from = EventNo(first.max(known.since).min(topic.last() + 1));
        if from.0 <= topic.last() {
            let (subscription, by) = (SubscriptionNo(number), by.clone());
            self.logs(news, &Record::Replayed { subscription, from, by })?;
        }
        Ok(Reply::Replays(from))
    }

    fn rotate_secret(
        &mut self,
        name: &SubscriptionId,
        overlap: DurationMs,
        by: &Actor,
        news: &mut News<'_>,
    ) -> Result<Reply, Violation> {
        let Some((number, _)) = self.model.subscription(name) else { return Ok(none(name)) };
        let (subscription, by) = (SubscriptionNo(number), by.clone());
        let old_until = news.now.max(self.model.now).plus(overlap.min(OLD_SECRET_MAX));
        self.logs(news, &Record::SecretRotated { subscription, old_until, by })?;
        Ok(Reply::Subscribed { subscription, signing: self.signing(number)?, is_new: true })
    }

    fn post(&mut self, post: &Post, news: &mut News<'_>) -> Result<Reply, Violation> {
        let Some((topic, _)) = self.model.topic(&post.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(post.topic.clone())));
        };
        if let Some((log, up_to)) = &post.followed {
            let before = self.model.followed.get(log).copied().unwrap_or_default();
            if before >= up_to.0 {
                return Ok(Reply::Refused(Refused::FollowedBefore(Sequence(before))));
            }
        }
        let Some(known) = self.model.topics.get(&topic) else { return Ok(Reply::Busy) };
        let now = news.now.max(self.model.now);
        // By name: its number and content.
        let mut new: BTreeMap<u128, (u64, u64)> = BTreeMap::new();
        let (mut accepted, mut next) = (Vec::new(), known.last() + 1);
        let is_delayed = |event: &NewEvent| event.due.is_some_and(|due| due > now);
        for (at, event) in post.events.iter().enumerate() {
            if event.due.is_some_and(|due| due > now.plus(DUE_MAX)) {
                return Ok(Reply::Refused(Refused::TooLate { at }));
            }
            let recent = known.recent(event.identity as u64, now);
            let recent = recent.map(|recent| (recent.number, recent.content));
            let earlier = new.get(&event.identity).copied().or(recent);
            if let Some((number, _)) = earlier.filter(|(_, content)| *content != event.content) {
                return Ok(Reply::Refused(Refused::Repeated { at, event: EventNo(number) }));
            }
            // One that is delayed has no number yet.
            let own = if is_delayed(event) { 0 } else { next };
            let number = earlier.map_or(own, |(number, _)| number);
            accepted.push(Accepted { event: EventNo(number), is_repeat: earlier.is_some() });
            if earlier.is_none() {
                new.insert(event.identity, (number, event.content));
                next += u64::from(number > 0);
            }
        }
        for (event, accepted) in post.events.iter().zip(&accepted).filter(|(_, accepted)| !accepted.is_repeat)
        {
            let sent = self.model.sent.get(&(event.identity as u64, event.content));
            let matched = sent.map(|what| self.model.matches(topic, what.kind)).unwrap_or_default();
            let matched = matched.into_iter().map(SubscriptionNo).collect();
            let (topic, identity, content) = (TopicNo(topic), event.identity, event.content);
            let (key, body) = (event.key, event.body.clone());
            if let Some(due) = event.due.filter(|_| is_delayed(event)) {
                let record = Record::Delayed { topic, identity, content, key, due, matched, body };
                self.logs(news, &record)?;
                continue;
            }
            // An event without a key has one of its own, which the model judges.
            let next = news.entries.as_slice().first().map(|entry| &entry.record);
            let own = match next {
                Some(Record::Published { key, .. }) => Some(*key),
                _ => None,
            };
            let key = key
                .or(own)
                .ok_or_else(|| wrong("MSG-1", format!("{accepted:?} is accepted, and {next:?} is logged")))?;
            self.logs(news, &Record::Published { topic, identity, content, key, matched, body })?;
        }
        if let Some((log, up_to)) = post.followed.clone() {
            self.logs(news, &Record::Followed { log, up_to })?;
        }
        Ok(Reply::Accepted(accepted))
    }

    fn letters(
        &mut self,
        name: &SubscriptionId,
        (event, takes_blocked): (Option<EventNo>, bool),
        record: impl Fn(SubscriptionNo, EventNo) -> Record,
        news: &mut News<'_>,
    ) -> Result<Reply, Violation> {
        let Some((number, known)) = self.model.subscription(name) else { return Ok(none(name)) };
        if let Some(event) = event {
            let key = self.model.event_of(number, event.0).map(|kept| kept.key);
            let has_failed = key.is_some_and(|key| {
                let is_begun =
                    known.first(key).is_some_and(|(first, wait)| first == event.0 && wait.attempts > 0);
                known.dead.contains_key(&event.0) || is_begun
            });
            if !has_failed {
                return Ok(Reply::Refused(Refused::NotFailed(event)));
            }
            self.logs(news, &record(SubscriptionNo(number), event))?;
            return Ok(Reply::Changed { changed: 1, left: 0 });
        }
        let mut count = std::mem::take(&mut self.begun);
        let mut all: Vec<u64> = known.dead.keys().copied().collect();
        if takes_blocked {
            let mut blocked: Vec<u64> = known.blocked().into_keys().collect();
            // One that is blocked is not, once an earlier event of its key is tried again.
            let key_of = |event: &u64| self.model.event_of(number, *event).map(|event| event.key);
            let freed: Vec<_> = all.iter().map(|event| (key_of(event), *event)).collect();
            blocked.retain(|event| !freed.iter().any(|(key, dead)| *key == key_of(event) && dead < event));
            all.extend(blocked);
        }
        for event in all {
            self.logs(news, &record(SubscriptionNo(number), EventNo(event)))?;
            count += 1;
        }
        Ok(Reply::Changed { changed: count, left: 0 })
    }

    /// What the courier has reported is logged, and what is due begins.
    fn turn(&mut self, turn: &Turn, reply: &Reply, news: &mut News<'_>) -> Check {
        let Reply::Turned { deliveries, epoch, next_at } = reply else {
            return Err(wrong("MSG-6", format!("a turn is answered {reply:?}")));
        };
        let now = news.now;
        ensure(*epoch == self.under_way.epoch, "MSG-2", || {
            format!("epoch {epoch}, and it is {}", self.under_way.epoch)
        })?;
        self.under_way.sees(now);
        // How many go at once is the core's affair; the model judges whether they may.
        let mut trims_any = false;
        while let Some(trims @ Record::Trimmed { .. }) =
            news.entries.as_slice().first().map(|entry| &entry.record)
        {
            self.logs(news, &trims.clone())?;
            trims_any = true;
        }
        for report in &turn.ended {
            self.ended(report, news)?;
        }
        let room = if turn.epoch == *epoch { turn.room } else { 0 };
        ensure(deliveries.len() <= room, "MSG-2", || {
            format!("{} begin, and {room} may, in epoch {} of {epoch}", deliveries.len(), turn.epoch)
        })?;
        for delivery in deliveries {
            ensure(delivery.spec.url.is_some(), "MSG-5", || format!("{delivery:?} is to be pulled"))?;
            self.under_way.begins(&self.model, delivery, now)?;
        }
        if next_at.is_none_or(|at| at > now) {
            // Nothing of an endpoint that is left alone until then, or for longer, is due before.
            let may_be_due = |number: &u32| {
                let until = self.under_way.left_alone_until(*number).filter(|until| *until > now);
                until.is_none_or(|until| next_at.is_none_or(|at| at > until))
            };
            let due = |(number, known): (&u32, &Subscription)| self.under_way.due(*number, known);
            let all = self.model.subscriptions.iter();
            let all = all.filter(|(number, known)| known.spec.url.is_some() && may_be_due(number));
            let due = all.filter_map(due).min();
            let is_in_time = due.is_none_or(|due| due > now && next_at.is_some_and(|at| at <= due));
            ensure(is_in_time, "MSG-6", || {
                format!("something is due at {due:?}, and the courier is to ask again at {next_at:?}")
            })?;
        }
        // A step that is full of what is let go begins nothing.
        let is_idle = turn.ended.is_empty() && deliveries.is_empty() && room > 0 && !trims_any;
        self.idle_turns =
            if is_idle && *next_at <= Some(now) && next_at.is_some() { self.idle_turns + 1 } else { 0 };
        ensure(self.idle_turns <= IDLE_TURNS_MAX, "MSG-6", || {
            "it says that something is due, and begins nothing".into()
        })
    }

    /// What must come of a report, and whether that is certain. Far from where the service has
    /// looked last, as after a replay, it may come to nothing: the event comes again.
    fn end(&self, report: &Attempted, news: &News<'_>) -> (End, bool) {
        let (number, end) = (report.subscription.0, self.model.end(report));
        let Some(known) = self.model.subscriptions.get(&number) else { return (end, true) };
        let is_near = report.event.0 < self.under_way.looked_up_to(number, known).saturating_add(NEAR);
        let next = news.entries.as_slice().first().and_then(|entry| entry.record.tried());
        let is_it = |tried: &Tried| (tried.subscription, tried.event) == (report.subscription, report.event);
        let stands = is_near || end == End::PutOff || next.is_some_and(is_it);
        (if stands { end } else { End::Nothing }, is_near)
    }

    /// A delivery has ended.
    fn ended(&mut self, report: &Attempted, news: &mut News<'_>) -> Check {
        let (number, event) = (report.subscription.0, report.event.0);
        let (subscription, event_no) = (report.subscription, report.event);
        let (end, is_certain) = self.end(report, news);
        let is_delivered = end == End::Delivered;
        let said =
            if is_delivered { "" } else { &report.said[..report.said.floor_char_boundary(SAID_BYTES_MAX)] };
        let tried = Tried {
            subscription,
            event: event_no,
            attempt: report.attempt,
            status: report.status,
            took_ms: report.took_ms,
            said: said.to_owned(),
        };
        let key = self.model.event_of(number, event).map(|event| event.key);
        let was_flying = self.under_way.ends(number, event, report.attempt);
        match end {
            End::Nothing => return Ok(()),
            End::PutOff => {
                if let Some(key) = key {
                    self.under_way.puts_off(number, key, news.now, was_flying && is_certain);
                }
                return Ok(());
            }
            End::Delivered => self.logs(news, &Record::Delivered(tried))?,
            End::Died => self.logs(news, &Record::Died(tried))?,
            End::Blocked => self.logs(news, &Record::Blocked(tried))?,
            End::Gone => {
                self.logs(news, &Record::Failed { tried, again_at: news.now })?;
                let by = Actor::new("endpoint", "it answered 410 Gone");
                self.logs(news, &Record::StateSet { subscription, state: SubscriptionState::Disabled, by })?;
            }
            End::Failed => {
                let next = news.entries.as_slice().first().map(|entry| &entry.record);
                let Some(Record::Failed { again_at, .. }) = next else {
                    return Err(wrong("MSG-4", format!("{report:?} is not logged, but {next:?}")));
                };
                let again_at = *again_at;
                self.is_as_set(report, again_at, news.now)?;
                self.logs(news, &Record::Failed { tried, again_at })?;
            }
        }
        let has_url = self.model.subscriptions.get(&number).is_some_and(|known| known.spec.url.is_some());
        let fails_for_all = report.status == 0 || report.status >= 500 || matches!(report.status, 408 | 429);
        let fails_for_all = fails_for_all && has_url;
        match is_delivered || !fails_for_all {
            true => self.under_way.answers(number),
            false => self.under_way.fails(number, news.now),
        }
        Ok(())
    }

    /// The next attempt is as late as the subscription and its endpoint want it.
    fn is_as_set(&self, report: &Attempted, again_at: TimeMs, now: TimeMs) -> Check {
        let Some(known) = self.model.subscriptions.get(&report.subscription.0) else { return Ok(()) };
        let middle_ms = wait_ms(&known.spec.retry, report.attempt);
        let asked_ms = match report.outcome {
            Outcome::Failed { retry_after: Some(asked) } => asked.min(RETRY_AFTER_MAX).0,
            _ => 0,
        };
        let wait_ms = again_at.since(now).0;
        let least = (middle_ms * 9 / 10).max(asked_ms);
        let most = (middle_ms * 11 / 10 + 1).max(asked_ms);
        ensure((least..=most).contains(&wait_ms), "MSG-4", || {
            format!("{report:?} is tried again after {wait_ms} ms, not {least} to {most}")
        })
    }

    /// Everything has come to its end.
    pub(crate) fn quiet(&self, subscribers: &Subscribers, consumers: &Consumers) -> Check {
        for (number, known) in &self.model.subscriptions {
            let owed = known.owed_count();
            ensure(owed == 0, "MSG-6", || format!("{} is still owed {owed} events", known.name))?;
            let Some(topic) = self.model.topics.get(&known.topic) else { continue };
            for event in 1..=topic.last() {
                let is_for =
                    topic.ever(event).is_some_and(|event| event.matched.binary_search(number).is_ok());
                let is_done = subscribers.has_taken(*number, event)
                    || consumers.has_done(&known.name, event)
                    || known.dead.contains_key(&event)
                    || known.given_up.contains(&event);
                ensure(!is_for || is_done, "MSG-1", || format!("{} never gets {event}", known.name))?;
            }
        }
        Ok(())
    }
}

fn none(name: &SubscriptionId) -> Reply {
    Reply::Refused(Refused::NoSubscription(name.clone()))
}

fn json<T: serde::Serialize>(spec: &T) -> Result<String, Violation> {
    serde_json::to_string(spec).map_err(|error| wrong("log", error.to_string()))
}

/// How long an event waits after this attempt, a tenth more or less.
fn wait_ms(retry: &Retry, attempt: u32) -> u64 {
    let grown = f64::from(retry.factor).powi(attempt as i32 - 1) * retry.first_seconds as f64;
    (grown.min(retry.longest_seconds as f64) * 1000.0) as u64
}

fn brief(entry: &Entry) -> String {
    brief_record(&entry.record)
}

fn brief_record(record: &Record) -> String {
    match record {
        Record::TopicDefined { name, spec, .. } => format!("topic {name} {spec}"),
        Record::Subscribed { subscription, name, spec, .. } => format!("{name} is {} {spec}", subscription.0),
        Record::StateSet { subscription, state, .. } => format!("{} is {state:?}", subscription.0),
        Record::Unsubscribed { subscription, .. } => format!("{} is gone", subscription.0),
        Record::Published { topic, identity, key, matched, .. } => {
            let matched: Vec<u32> = matched.iter().map(|number| number.0).collect();
            format!("topic {} has {identity} key {} for {matched:?}", topic.0, key.0)
        }
        Record::Delayed { topic, identity, due, matched, .. } => {
            let matched: Vec<u32> = matched.iter().map(|number| number.0).collect();
            format!("topic {} will have {identity} at {} for {matched:?}", topic.0, sim::story::clock(*due))
        }
        Record::Due { topic, delayed, .. } => format!("topic {} has entry {delayed}", topic.0),
        Record::Replayed { subscription, from, .. } => format!("{} again from {}", subscription.0, from.0),
        Record::Delivered(tried) => {
            format!("{} has {} at {}", tried.subscription.0, tried.event.0, tried.attempt)
        }
        Record::Failed { tried, again_at } => {
            let at = sim::story::clock(*again_at);
            format!("{} fails {} at {}: again at {at}", tried.subscription.0, tried.event.0, tried.attempt)
        }
        Record::Redriven { subscription, event, .. } => format!("{} again {}", subscription.0, event.0),
        Record::Discarded { subscription, event, .. } => format!("{} without {}", subscription.0, event.0),
        Record::Trimmed { topic, up_to } => format!("topic {} lets go up to {}", topic.0, up_to.0),
        record => format!("{record:?}"),
    }
}
