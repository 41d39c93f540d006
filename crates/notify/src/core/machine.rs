//! Commands in, replies and entries out.

use super::{
    Lease, Notify,
    command::{
        Accepted, Attempted, Command, Delivery, EventSeen, From, Letter, Letters, NewEvent, Numbered,
        Outcome, Owed, Post, Refused, Reply, Settled, SubscriptionSeen, TopicSeen, Turn,
    },
    events::Kept,
    json,
    record::{Entry, EventNo, Key, Record, SubscriptionNo, TopicNo, Tried},
    snapshot,
    spec::{Exhausted, SubscriptionSpec, SubscriptionState, TopicSpec, WhenFull},
    subscription::{Next, OLDEST_LOOKS_MAX, Subscription},
    topic::Topic,
};
use contracts::{Actor, ITEMS_MAX, SubscriptionId, TopicId};
use runtime::{Broken, Decision, DuringShortage, Machine, Outage, Progress, Shortage, SnapshotError, Step};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use units::{DurationMs, Sequence, TimeMs};

/// Topics, subscriptions in all, and subscriptions of one topic: each posted event names those that
/// it matched.
pub const TOPICS_MAX: usize = 1000;
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
pub const SUBSCRIPTIONS_EACH_MAX: usize = 1000;
/// The longest that an endpoint may ask to be left alone.
const RETRY_AFTER_MAX: DurationMs = DurationMs(24 * 3600 * 1000);
/// How long a key waits when its event could not be tried.
const NOT_TRIED_WAIT: DurationMs = DurationMs(1000);
/// What of an endpoint's answer is logged.
const SAID_BYTES_MAX: usize = 512;
/// What one turn does to let old events go, at the most: topics, events, and subscriptions that are
/// asked whether they need one.
const TRIM_TOPICS: usize = 4;
const TRIM_EVENTS: u64 = 8192;
const TRIM_LOOKS: usize = 20_000;
/// Comparisons for one post: so many take some milliseconds.
const COMPARISONS_MAX: usize = 250_000;
/// So many events from another log fit into one post, whatever they cost: an entry may say that all
/// items of a sale are sold out.
const FOLLOWED_LEAST: usize = ITEMS_MAX + 8;
/// Events that a full topic drops for one post.
const DROPS_MAX: u64 = 4000;
/// Dead letters that are changed by one command.
const LETTERS_MAX: u64 = 10_000;
/// How long the secret before the last rotation signs as well.
const OLD_SECRET_MAX: DurationMs = DurationMs(30 * 24 * 3600 * 1000);
/// Lanes of a deleted subscription that are let go at a time.
const WITHER: usize = 1000;
/// Delayed events of a topic and in all, at the most, and how far ahead they may be due.
const DELAYED_MAX: usize = 100_000;
const DELAYED_IN_ALL_MAX: usize = 1_000_000;
const DUE_MAX: DurationMs = DurationMs(366 * 24 * 3600 * 1000);
impl Notify {
    pub(super) fn subscription(&self, name: &SubscriptionId) -> Result<&Subscription, Refused> {
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
        (name, spec): (&SubscriptionId, &SubscriptionSpec),
        from: Option<From>,
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let Some(&topic) = self.topic_nos.get(&spec.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(spec.topic.clone())));
        };
        let mut is_new = false;
        let subscription = match self.subscription(name) {
            Ok(known) if *known.spec == *spec => {
                let (subscription, signing) = (known.number, known.signing);
                return Ok(Reply::Subscribed { subscription, signing, is_new: false });
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
        if let Some(from) = from.filter(|_| is_new) {
            self.start_earlier(now, (subscription, topic), from, out)?;
        }
        let signing = self.known(subscription)?.signing;
        Ok(Reply::Subscribed { subscription, signing, is_new })
    }

    fn replay(
        &mut self,
        now: TimeMs,
        (name, from): (&SubscriptionId, From),
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let known = match self.subscription(name) {
            Ok(known) => known,
            Err(refused) => return Ok(Reply::Refused(refused)),
        };
        let topic = self.topic(known.topic)?;
        let from = match from {
            From::Event(event) => event.0,
            From::Time(at) => topic.first_since(at),
        };
        let (subscription, from) = (known.number, EventNo(from.max(known.since)));
        if from.0 >= topic.next() {
            return Ok(Reply::Replays(EventNo(topic.next())));
        }
        self.commit(now, Record::Replayed { subscription, from, by: by.clone() }, out)?;
        Ok(Reply::Replays(from))
    }

    fn rotate_secret(
        &mut self,
        now: TimeMs,
        (name, overlap): (&SubscriptionId, DurationMs),
        by: &Actor,
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let subscription = match self.subscription(name) {
            Ok(known) => known.number,
            Err(refused) => return Ok(Reply::Refused(refused)),
        };
        let old_until = now.max(self.now).plus(overlap.min(OLD_SECRET_MAX));
        self.commit(now, Record::SecretRotated { subscription, old_until, by: by.clone() }, out)?;
        let signing = self.known(subscription)?.signing;
        Ok(Reply::Subscribed { subscription, signing, is_new: true })
    }

    pub(super) fn post(&mut self, now: TimeMs, post: &Post, out: &mut Step) -> Result<Reply, Broken> {
        let Some(&topic) = self.topic_nos.get(&post.topic) else {
            return Ok(Reply::Refused(Refused::NoTopic(post.topic.clone())));
        };
        if let Some((log, up_to)) = &post.followed {
            let before = self.followed.get(log).copied().unwrap_or_default();
            if before >= *up_to {
                return Ok(Reply::Refused(Refused::FollowedBefore(before)));
            }
        }
        let comparisons: usize = self.topics[&topic]
            .subscriptions
            .iter()
            .filter_map(|number| Some(self.subscriptions.get(number)?.spec.comparisons()))
            .sum();
        let fit = (COMPARISONS_MAX / comparisons.max(1)).max(1);
        // What one entry of another log becomes is stored as one.
        let least = if post.followed.is_some() { FOLLOWED_LEAST } else { 1 };
        if post.events.len() > fit.max(least) {
            return Ok(Reply::Refused(Refused::TooManyComparisons { fit }));
        }
        let known = &self.topics[&topic];
        let kept = known.len();
        let over = (kept + post.events.len() as u64).saturating_sub(known.spec.events_max);
        if over > 0 {
            let drops = match known.spec.when_full {
                WhenFull::DropOldest => over.min(DROPS_MAX).min(kept),
                WhenFull::Refuse => 0,
            };
            if drops > 0 {
                let up_to = EventNo(known.first() + drops - 1);
                out.spend(drops as usize);
                self.commit(now, Record::Dropped { topic, up_to }, out)?;
            }
            // While more has to be dropped than one post may, publishers are refused.
            if drops < over {
                return Ok(Reply::Refused(Refused::Full { kept }));
            }
        }
        // All are judged before the first is stored. Two of one batch may repeat each other.
        let at_now = now.max(self.now);
        let known = &self.topics[&topic];
        let mut new: BTreeMap<u128, (u64, u64)> = BTreeMap::new();
        let mut next = known.next();
        let is_delayed = |event: &&NewEvent| event.due.is_some_and(|due| due > at_now);
        let new_delayed = post.events.iter().filter(is_delayed).count();
        for (what, delayed, max) in [
            ("delayed events of one topic", known.delayed.len(), DELAYED_MAX),
            ("delayed events in all", self.delayed.len(), DELAYED_IN_ALL_MAX),
        ] {
            if new_delayed > 0 && delayed + new_delayed > max {
                return Ok(Reply::Refused(Refused::TooMany { what, max }));
            }
        }
        for (at, event) in post.events.iter().enumerate() {
            if event.due.is_some_and(|due| due > at_now.plus(DUE_MAX)) {
                return Ok(Reply::Refused(Refused::TooLate { at }));
            }
            let earlier = new.get(&event.identity).copied().or_else(|| {
                known.recent(event.identity, at_now).map(|recent| (recent.number.0, recent.content))
            });
            match earlier {
                Some((number, content)) if content != event.content => {
                    return Ok(Reply::Refused(Refused::Repeated { at, event: EventNo(number) }));
                }
                Some(_) => {}
                None => {
                    // One that is delayed takes no number yet.
                    let number = if is_delayed(&event) { 0 } else { next };
                    next += u64::from(number > 0);
                    new.insert(event.identity, (number, event.content));
                }
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
            out.spend(comparisons / 16);
            let (identity, content, body) = (event.identity, event.content, Arc::clone(&event.body));
            if let Some(due) = event.due.filter(|due| *due > at_now) {
                let key = event.key;
                self.commit(now, Record::Delayed { topic, identity, content, key, due, matched, body }, out)?;
                accepted.push(Accepted { event: EventNo(0), is_repeat: false });
                continue;
            }
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

    /// Lets old events go, of one topic after another.
    fn trim(&mut self, now: TimeMs, out: &mut Step) -> Result<(), Broken> {
        let (mut events, mut looks) = (TRIM_EVENTS, 0);
        for _ in 0..TRIM_TOPICS.min(self.topics.len()) {
            let after = self.trimmed_last.map_or(Bound::Unbounded, Bound::Excluded);
            let mut from_there_on = self.topics.range((after, Bound::Unbounded)).chain(&self.topics);
            let Some((&topic, known)) = from_there_on.next() else { break };
            let up_to = self.can_go(known, now, events, &mut looks);
            let first = known.first();
            self.trimmed_last = Some(topic);
            if let Some(up_to) = up_to {
                events -= up_to.0 + 1 - first;
                self.commit(now, Record::Trimmed { topic, up_to }, out)?;
            }
        }
        out.spend(((TRIM_EVENTS - events) as usize + looks) / 16);
        Ok(())
    }

    /// The last event of a topic that can be let go now.
    fn can_go(&self, topic: &Topic, now: TimeMs, at_most: u64, looks: &mut usize) -> Option<EventNo> {
        topic.can_go(now.max(self.now), at_most as usize, |event, kept| {
            let mut is_needed = false;
            for number in topic.set(kept.set) {
                *looks += 1;
                let Some(known) = self.subscriptions.get(number) else { continue };
                is_needed |= known.still_needs(kept.key, event)?;
            }
            (*looks < TRIM_LOOKS).then_some(is_needed)
        })
    }

    fn end(&mut self, now: TimeMs, ended: &Attempted, out: &mut Step) -> Result<(), Broken> {
        // The subscription may have been deleted, and the event let go, while it was on its way.
        let Ok((subscription, topic, key)) = self.owed(ended.subscription, ended.event) else {
            return Ok(());
        };
        if !subscription.can_reach(topic, ended.event) {
            let number = ended.subscription;
            subscription.let_go(key, ended.event, ended.attempt);
            self.queue(number);
            return Ok(());
        }
        if ended.outcome != Outcome::NotTried {
            subscription.note_time(ended.took_ms);
        }
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
            subscription.give_back(key, event, ended.attempt);
            self.queue(number);
            return Ok(());
        }
        let is_counted = subscription.attempts(key, event) == Some(ended.attempt - 1);
        if ended.outcome == Outcome::NotTried || !is_counted {
            match is_counted {
                true => subscription.put_off(key, event, ended.attempt, now.plus(NOT_TRIED_WAIT)),
                false => subscription.give_back(key, event, ended.attempt),
            }
            self.queue(number);
            return Ok(());
        }
        let is_of_endpoint = ended.status == 0 || ended.status >= 500 || matches!(ended.status, 408 | 429);
        match is_of_endpoint && subscription.spec.url.is_some() {
            true => subscription.endpoint_failed(now),
            false => subscription.endpoint_answered(),
        }
        let said = ended.said[..ended.said.floor_char_boundary(SAID_BYTES_MAX)].to_owned();
        let tried = Tried { said, ..tried };
        let (retry, exhausted) = (&subscription.spec.retry, subscription.spec.exhausted);
        let has_room = subscription.has_room_for_dead();
        match ended.outcome {
            Outcome::Gone => {
                self.commit(now, Record::Failed { tried, again_at: now }, out)?;
                let by = Actor::new(Actor::ENDPOINT, "it answered 410 Gone");
                let state = SubscriptionState::Disabled;
                self.commit(now, Record::StateSet { subscription: number, state, by }, out)
            }
            _ if ended.attempt >= retry.attempts => match exhausted {
                Exhausted::DeadLetter if has_room => self.commit(now, Record::Died(tried), out),
                Exhausted::DeadLetter | Exhausted::BlockKey => self.commit(now, Record::Blocked(tried), out),
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
        self.trim(now, out)?;
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
        for number in std::mem::take(&mut self.crowded) {
            self.queue(number);
        }
        self.wither();
        let mut deliveries = Vec::new();
        let room = if turn.epoch == self.epoch { turn.room } else { 0 };
        while deliveries.len() < room && !out.is_full() {
            let Some(number) = self.queued.pop_front() else { break };
            let Some(subscription) = self.subscriptions.get_mut(&number) else { continue };
            let Some(topic) = self.topics.get(&subscription.topic) else { continue };
            subscription.is_queued = false;
            if subscription.spec.url.is_none() {
                continue;
            }
            let free = turn.free.saturating_sub(deliveries.len());
            let (next, looks) = subscription.next(now, topic, free);
            out.spend(1 + looks / 16);
            match next {
                Next::Deliver { event, attempt } => {
                    deliveries.extend(delivery(subscription, topic, event, attempt));
                    self.queue(number);
                }
                Next::Again => self.queue(number),
                Next::Crowded => self.crowded.push(number),
                Next::At(at) => drop(self.later.insert((at, number))),
                Next::Nothing => {}
            }
        }
        let next_at = if self.queued.is_empty() { self.later.first().map(|(at, _)| *at) } else { Some(now) };
        Ok(Reply::Turned { deliveries, epoch: self.epoch, next_at })
    }

    fn pull(
        &mut self,
        now: TimeMs,
        (name, at_most, lease): (&SubscriptionId, usize, DurationMs),
        out: &mut Step,
    ) -> Reply {
        let number = match self.subscription(name) {
            Ok(known) if known.spec.url.is_some() => {
                return Reply::Refused(Refused::HasEndpoint(name.clone()));
            }
            Ok(known) => known.number,
            Err(refused) => return Reply::Refused(refused),
        };
        let until = now.plus(lease);
        let (mut deliveries, mut next_at) = (Vec::new(), None);
        while deliveries.len() < at_most {
            let Some(subscription) = self.subscriptions.get_mut(&number) else { break };
            let Some(topic) = self.topics.get(&subscription.topic) else { break };
            let (next, looks) = subscription.next(now, topic, usize::MAX);
            out.spend(1 + looks / 16);
            match next {
                Next::Deliver { event, attempt } => {
                    deliveries.extend(delivery(subscription, topic, event, attempt));
                    let lease = Lease { attempt, began: now, until };
                    if let Some(before) = self.leases.insert((number, event), lease) {
                        self.lease_ends.remove(&(before.until, number, event));
                    }
                    self.lease_ends.insert((until, number, event));
                }
                Next::Again if out.is_full() => {
                    next_at = Some(now);
                    break;
                }
                Next::Again => {}
                Next::At(at) => {
                    next_at = Some(at);
                    break;
                }
                Next::Nothing | Next::Crowded => break,
            }
        }
        Reply::Pulled { deliveries, until, next_at }
    }

    fn settle(
        &mut self,
        now: TimeMs,
        (name, ended): (&SubscriptionId, &[Settled]),
        out: &mut Step,
    ) -> Result<Reply, Broken> {
        let subscription = match self.subscription(name) {
            Ok(known) if known.spec.url.is_some() => {
                return Ok(Reply::Refused(Refused::HasEndpoint(name.clone())));
            }
            Ok(known) => known.number,
            Err(refused) => return Ok(Reply::Refused(refused)),
        };
        let (mut counted, mut late) = (0, 0);
        for &Settled { event, attempt, outcome } in ended {
            let began = self.end_lease(subscription, event, attempt);
            match began {
                Some(_) => counted += 1,
                None => late += 1,
            }
            // An event without a lease is for its next consumer to settle, unless it is done; and
            // only the first of a key can have been pulled.
            let is_first = |(known, _, key): (&mut Subscription, &Topic, Key)| known.is_first(key, event);
            let is_done = outcome == Outcome::Delivered;
            if began.is_none() && !(is_done && self.owed(subscription, event).is_ok_and(is_first)) {
                continue;
            }
            let took_ms = began.map_or(0, |began| u32::try_from(now.since(began).0).unwrap_or(u32::MAX));
            let said =
                if outcome == Outcome::Delivered { String::new() } else { "the consumer failed".into() };
            let ended = Attempted { subscription, event, attempt, outcome, status: 0, took_ms, said };
            self.end(now, &ended, out)?;
        }
        Ok(Reply::Settled { counted, late })
    }

    /// When the lease of this attempt began, which ends now.
    fn end_lease(&mut self, subscription: SubscriptionNo, event: EventNo, attempt: u32) -> Option<TimeMs> {
        let lease = *self.leases.get(&(subscription, event)).filter(|lease| lease.attempt == attempt)?;
        self.leases.remove(&(subscription, event));
        self.lease_ends.remove(&(lease.until, subscription, event));
        Some(lease.began)
    }

    /// Deliveries whose consumers have said nothing have failed.
    fn end_leases(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        while let Some(&(until, subscription, event)) = self.lease_ends.first() {
            if until > now {
                break;
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
            out.spend(1);
            self.lease_ends.pop_first();
            let Some(Lease { attempt, began, .. }) = self.leases.remove(&(subscription, event)) else {
                continue;
            };
            let took_ms = u32::try_from(until.since(began).0).unwrap_or(u32::MAX);
            let (outcome, said) = (
                Outcome::Failed { retry_after: None },
                "no word from the consumer within its lease".to_owned(),
            );
            self.end(
                now,
                &Attempted { subscription, event, attempt, outcome, status: 0, took_ms, said },
                out,
            )?;
        }
        Ok(Progress::Done)
    }

    /// Publishes what is due.
    fn publish_due(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        while let Some(&(due, delayed, topic)) = self.delayed.first() {
            if due > now {
                break;
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
            let topic_of = self.topics.get(&topic);
            out.spend(topic_of.map_or(0, |known| known.matched_of((due, delayed)) / 16));
            self.commit(now, Record::Due { topic, due, delayed }, out)?;
        }
        Ok(Progress::Done)
    }

    /// Gives some memory of deleted subscriptions back.
    fn wither(&mut self) {
        if let Some(gone) = self.withering.last_mut()
            && !gone.wither(WITHER)
        {
            self.withering.pop();
        }
    }

    /// Redrives or discards. `so_far` letters are done. Without an event, keys that wait for an
    /// operator are meant too if `takes_blocked`.
    fn change_letters(
        &mut self,
        now: TimeMs,
        (name, event, takes_blocked): (&SubscriptionId, Option<EventNo>, bool),
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
            let has_failed = |kept: Kept| {
                let (attempts, ..) = known.waits(kept.key, event);
                known.dead.contains_key(&event) || attempts > 0
            };
            if !kept.is_some_and(has_failed) {
                return Ok(Decision::Done(Reply::Refused(Refused::NotFailed(event))));
            }
            self.commit(now, record(number, event), out)?;
            return Ok(Decision::Done(Reply::Changed { changed: 1, left: 0 }));
        }
        let mut changed = so_far;
        loop {
            let known = self.known(number)?;
            let blocked = known.blocked.keys().next().filter(|_| takes_blocked);
            let first = known.dead.keys().next().or(blocked).copied();
            let left = known.dead.len() + if takes_blocked { known.blocked.len() } else { 0 };
            let Some(event) = first.filter(|_| changed < LETTERS_MAX) else {
                return Ok(Decision::Done(Reply::Changed { changed, left: left as u64 }));
            };
            if out.is_full() {
                return Ok(Decision::More(changed));
            }
            self.commit(now, record(number, event), out)?;
            changed += 1;
        }
    }

    fn see_event(&self, topic: &TopicId, event: EventNo) -> Result<Option<EventSeen>, Refused> {
        let topic = self.topic_nos.get(topic).ok_or_else(|| Refused::NoTopic(topic.clone()))?;
        let topic = &self.topics[topic];
        Ok(topic.event(event).map(|kept| {
            let known = topic.set(kept.set).iter().filter_map(|number| self.subscriptions.get(number));
            let numbers = known.clone().map(|known| (known.number, known.name.clone())).collect();
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
            EventSeen { sequence: kept.sequence, at: kept.at, owed: owed.collect(), numbers }
        }))
    }

    /// With so many looks for the oldest events that are not had.
    fn see_subscription(&self, known: &Subscription, looks: &mut usize) -> SubscriptionSeen {
        let topic = &self.topics[&known.topic];
        SubscriptionSeen {
            number: known.number,
            name: known.name.clone(),
            spec: Arc::clone(&known.spec),
            state: known.state,
            delivered: known.delivered,
            failed: known.failed,
            dead: known.dead.len() as u64,
            blocked: known.blocked.len() as u64,
            fill: known.fill,
            dropped: known.dropped,
            backlog: known.backlog(topic),
            in_flight: known.in_flight(),
            oldest: known.oldest(topic, looks),
            left_alone_until: known.left_alone_until(),
            took_ms: known.took_ms(),
            signing: known.signing,
        }
    }
}

fn delivery(subscription: &Subscription, topic: &Topic, event: EventNo, attempt: u32) -> Option<Delivery> {
    Some(Delivery {
        subscription: subscription.number,
        name: subscription.name.clone(),
        spec: Arc::clone(&subscription.spec),
        event,
        sequence: topic.event(event)?.sequence,
        attempt,
        signing: subscription.signing,
    })
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

    fn tick(&mut self, now: TimeMs, out: &mut Step) -> Result<Progress, Broken> {
        for part in [Self::publish_due, Self::post_scheduled, Self::end_leases] {
            if part(self, now, out)? == Progress::More {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn next_wakeup(&self) -> Option<TimeMs> {
        let lease = self.lease_ends.first().map(|(until, ..)| *until);
        let due = self.delayed.first().map(|(due, ..)| *due);
        lease.into_iter().chain(due).chain(self.schedules.next_wakeup()).min()
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
            Command::Subscribe { name, spec, from, by } => {
                self.subscribe(now, (name, spec), *from, by, out)?
            }
            Command::Fill { subscription, next, up_to, matched } => {
                self.fill(now, (*subscription, *next, *up_to), matched, out)?
            }
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
                return self.change_letters(now, (name, *event, true), *so_far, record, out);
            }
            Command::Discard { name, event, by } => {
                let record = |subscription, event| Record::Discarded { subscription, event, by: by.clone() };
                return self.change_letters(now, (name, *event, false), *so_far, record, out);
            }
            Command::Pull { name, at_most, lease } => self.pull(now, (name, *at_most, *lease), out),
            Command::Settle { name, ended } => self.settle(now, (name, ended), out)?,
            Command::Replay { name, from, by } => self.replay(now, (name, *from), by, out)?,
            Command::RotateSecret { name, overlap, by } => {
                self.rotate_secret(now, (name, *overlap), by, out)?
            }
            Command::Once { key, command } => return self.once(now, (*key, command), *so_far, out),
            Command::SetSchedule { name, spec, by } => self.set_schedule(now, (name, spec), by, out)?,
            Command::DeleteSchedule { name, by } => self.delete_schedule(now, name, by, out)?,
            Command::Topics
            | Command::Fills
            | Command::Schedule(_)
            | Command::Schedules { .. }
            | Command::Subscription(_)
            | Command::Subscriptions { .. }
            | Command::Letters { .. }
            | Command::Event { .. }
            | Command::Numbered { .. }
            | Command::Followed { .. } => self.read(command).unwrap_or(Reply::Busy),
        }))
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Broken> {
        entries.iter().try_for_each(|entry| self.fold(entry))
    }

    fn snapshot(&self) -> Vec<u8> {
        snapshot::write(self)
    }

    fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        snapshot::restore(bytes)
    }

    fn volatile(&self) -> u64 {
        self.epoch
    }

    fn set_volatile(&mut self, before: u64) {
        self.epoch = before + 1;
    }

    fn kept_from(&self) -> Option<Sequence> {
        let bodies = self.topics.values().filter_map(Topic::oldest_entry).min();
        Some(bodies.unwrap_or_else(|| self.sequence.next()))
    }

    fn writes_like(snapshot: &[u8]) -> bool {
        snapshot::is_newest(snapshot)
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
                        kept: topic.kept(),
                        last: EventNo(topic.next() - 1),
                        delayed: topic.delayed.len() as u64,
                    })
                    .collect(),
            ),
            Command::Fills => Reply::Fills(self.see_fills()),
            Command::Schedule(name) => match self.see_schedule(name) {
                None => refused(Refused::NoSchedule(name.clone())),
                Some(seen) => Reply::Schedules(vec![seen]),
            },
            Command::Schedules { after, at_most } => {
                Reply::Schedules(self.see_schedules(after.as_ref(), *at_most))
            }
            Command::Subscription(name) => match self.subscription(name) {
                Err(why) => refused(why),
                Ok(known) => {
                    let mut looks = OLDEST_LOOKS_MAX;
                    Reply::Subscription(Box::new(self.see_subscription(known, &mut looks)))
                }
            },
            Command::Subscriptions { after, at_most } => {
                let after = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let those = self.subscription_nos.range((after, Bound::Unbounded)).take(*at_most);
                let mut looks = OLDEST_LOOKS_MAX;
                let seen = those.filter_map(|(_, number)| {
                    self.subscriptions.get(number).map(|known| self.see_subscription(known, &mut looks))
                });
                Reply::Subscriptions(seen.collect())
            }
            Command::Letters { name, which, after, at_most } => match self.subscription(name) {
                Err(why) => refused(why),
                Ok(known) => {
                    let topic = &self.topics[&known.topic];
                    let letters = match which {
                        Letters::Dead => &known.dead,
                        Letters::Blocked => &known.blocked,
                    };
                    let letters = letters.range(EventNo(after.0.saturating_add(1))..).take(*at_most);
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
            Command::Numbered { topic, from, at_most } => {
                match self.topic_nos.get(topic).and_then(|number| self.topics.get(number)) {
                    None => refused(Refused::NoTopic(topic.clone())),
                    Some(known) => Reply::Numbered(Numbered {
                        first: EventNo(known.first()),
                        next: EventNo(known.next()),
                        events: known.numbered(*from, *at_most),
                    }),
                }
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
