//! A topic: which events it has, where they are, who is to get them, and which were posted lately.

use super::{
    apart::Apart,
    events::{Events, Kept},
    recents::{Recent, Recents},
    record::{EventNo, Key, SubscriptionNo},
    spec::{TopicSpec, WhenFull},
};
use contracts::TopicId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use units::{DurationMs, Sequence, TimeMs};

/// Posted events that are remembered to recognise repetitions, at the most.
const RECENT_MAX: usize = 1_000_000;
/// Events that are kept because a key or a dead letter needs them, although those round them are
/// let go.
const APART_MAX: usize = 1_000_000;

/// A set of subscriptions, in rising order, and how many kept and delayed events have matched just
/// these.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Matched {
    subscriptions: Arc<[SubscriptionNo]>,
    events: u64,
}

/// An event that is to be published later.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Delayed {
    key: Option<Key>,
    /// Who is to get it: the id of a set of subscriptions.
    set: u32,
}

/// The same as snapshots of version 2 have it.
#[derive(Debug, Deserialize)]
pub(super) struct DelayedV2 {
    key: Option<Key>,
    matched: Vec<SubscriptionNo>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topic<D = Delayed> {
    pub(super) name: TopicId,
    #[serde(with = "super::as_json")]
    pub(super) spec: TopicSpec,
    events: Events,
    /// Earlier ones that somebody still needs.
    apart: Apart,
    /// Events that are not due yet, by when they are, and by their entries.
    pub(super) delayed: BTreeMap<(TimeMs, Sequence), D>,
    /// The sets of subscriptions that kept events have matched, each once: there are few.
    sets: BTreeMap<u32, Matched>,
    /// The last id of a set that was given away.
    last_set: u32,
    #[serde(skip)]
    set_ids: BTreeMap<Arc<[SubscriptionNo]>, u32>,
    pub(super) subscriptions: Vec<SubscriptionNo>,
    recents: Recents,
}

impl From<Topic<DelayedV2>> for Topic {
    fn from(before: Topic<DelayedV2>) -> Self {
        let Topic { name, spec, events, apart, delayed, sets, last_set, set_ids, subscriptions, recents } =
            before;
        let mut topic = Self {
            name,
            spec,
            events,
            apart,
            delayed: BTreeMap::new(),
            sets,
            last_set,
            set_ids,
            subscriptions,
            recents,
        };
        topic.index();
        for (at, DelayedV2 { key, matched }) in delayed {
            let set = topic.take_set(&matched);
            topic.delayed.insert(at, Delayed { key, set });
        }
        topic
    }
}

impl Topic {
    pub(super) fn new(name: TopicId, spec: TopicSpec) -> Self {
        Self {
            name,
            spec,
            events: Events::starting_at(1),
            apart: Apart::default(),
            delayed: BTreeMap::new(),
            sets: BTreeMap::new(),
            last_set: 0,
            set_ids: BTreeMap::new(),
            subscriptions: Vec::new(),
            recents: Recents::default(),
        }
    }

    /// The number that the next event gets.
    pub(super) fn next(&self) -> u64 {
        self.events.next()
    }

    /// The number of the first event, apart from those of which few are left.
    pub(super) fn first(&self) -> u64 {
        self.events.first()
    }

    /// Events that are kept, without those of which few are left.
    pub(super) fn len(&self) -> u64 {
        self.events.len()
    }

    /// Whether it takes no further event, and drops none for it.
    pub(super) fn refuses_more(&self) -> bool {
        self.spec.when_full == WhenFull::Refuse && self.len() >= self.spec.events_max
    }

    /// Events that are kept.
    pub(super) fn kept(&self) -> u64 {
        self.events.len() + self.apart.len() as u64
    }

    pub(super) fn event(&self, number: EventNo) -> Option<Kept> {
        match number.0 < self.first() {
            true => self.apart.get(number.0),
            false => self.events.get(number.0),
        }
    }

    /// Where events are in the log, from this number on, without those of which few are left.
    pub(super) fn numbered(&self, from: EventNo, at_most: usize) -> Vec<(EventNo, Sequence)> {
        let numbers = (from.0.max(self.first())..self.next()).take(at_most);
        numbers.filter_map(|number| Some((EventNo(number), self.events.get(number)?.sequence))).collect()
    }

    /// The first event that is kept, from this number on.
    pub(super) fn first_from(&self, number: u64) -> u64 {
        if number >= self.first() {
            return number;
        }
        self.apart.first_from(number).unwrap_or_else(|| self.first())
    }

    /// The first event that is kept and was posted at this time or later.
    pub(super) fn first_since(&self, at: TimeMs) -> u64 {
        self.apart.first_since(at).unwrap_or_else(|| self.events.first_since(at))
    }

    /// Who is to get an event, in rising order.
    pub(super) fn set(&self, id: u32) -> &[SubscriptionNo] {
        self.sets.get(&id).map_or(&[], |set| &*set.subscriptions)
    }

    /// Whether the event with this number is for the subscription.
    pub(super) fn is_for(&self, number: u64, subscription: SubscriptionNo) -> Option<Kept> {
        self.event(EventNo(number)).filter(|kept| self.set(kept.set).binary_search(&subscription).is_ok())
    }

    pub(super) fn recent(&self, identity: u128, now: TimeMs) -> Option<Recent> {
        self.recents.get(identity).filter(|recent| !self.is_old(recent.at, now))
    }

    fn is_old(&self, at: TimeMs, now: TimeMs) -> bool {
        at.plus(DurationMs::seconds(self.spec.repeat_seconds)) < now
    }

    pub(super) fn publish(
        &mut self,
        at: TimeMs,
        sequence: Sequence,
        key: Key,
        matched: &[SubscriptionNo],
        (identity, content): (u128, u64),
    ) -> EventNo {
        let number = self.add(at, sequence, key, matched);
        self.forget_old(at);
        self.recents.push(identity, content, number, at);
        number
    }

    /// An event is stored that is to be published later.
    pub(super) fn delay(
        &mut self,
        at: TimeMs,
        (due, sequence): (TimeMs, Sequence),
        key: Option<Key>,
        matched: &[SubscriptionNo],
        (identity, content): (u128, u64),
    ) {
        let set = self.take_set(matched);
        self.delayed.insert((due, sequence), Delayed { key, set });
        self.forget_old(at);
        self.recents.push(identity, content, EventNo(0), at);
    }

    /// How many a delayed event is for.
    pub(super) fn matched_of(&self, delayed: (TimeMs, Sequence)) -> usize {
        self.delayed.get(&delayed).map_or(0, |delayed| self.set(delayed.set).len())
    }

    /// Publishes an event that was delayed, to those of its subscriptions that are left. Its
    /// number, and who is to get it.
    pub(super) fn publish_delayed(
        &mut self,
        at: TimeMs,
        (due, sequence): (TimeMs, Sequence),
    ) -> Option<(EventNo, Vec<SubscriptionNo>)> {
        let Delayed { key, set } = self.delayed.remove(&(due, sequence))?;
        let mut matched = self.set(set).to_vec();
        // They are in rising order, as their numbers are given away.
        matched.retain(|number| self.subscriptions.binary_search(number).is_ok());
        let key = key.unwrap_or(Key(!self.next()));
        let number = self.add(at, sequence, key, &matched);
        self.give_set_back(set);
        Some((number, matched))
    }

    fn add(&mut self, at: TimeMs, sequence: Sequence, key: Key, matched: &[SubscriptionNo]) -> EventNo {
        let set = self.take_set(matched);
        let number = EventNo(self.next());
        self.events.push(Kept { sequence, at, key, set });
        number
    }

    /// The id of the set of these subscriptions, for one more event.
    fn take_set(&mut self, matched: &[SubscriptionNo]) -> u32 {
        let set = match self.set_ids.get(matched) {
            Some(&set) => set,
            None => {
                // Ids are used again after four thousand million: those of old sets are long free.
                let mut set = self.last_set;
                while self.sets.contains_key(&set) {
                    set = set.wrapping_add(1);
                }
                self.last_set = set;
                let subscriptions: Arc<[SubscriptionNo]> = matched.into();
                self.set_ids.insert(Arc::clone(&subscriptions), set);
                self.sets.insert(set, Matched { subscriptions, events: 0 });
                set
            }
        };
        if let Some(set) = self.sets.get_mut(&set) {
            set.events += 1;
        }
        set
    }

    /// These events, in the order of their numbers, are for this subscription too, as far as they
    /// are not kept just for others.
    pub(super) fn add_to_sets(&mut self, numbers: &[EventNo], subscription: SubscriptionNo) {
        let mut changed = Vec::new();
        for number in numbers {
            let Some(kept) = self.events.get(number.0) else { continue };
            let mut matched = self.set(kept.set).to_vec();
            let Err(at) = matched.binary_search(&subscription) else { continue };
            matched.insert(at, subscription);
            let set = self.take_set(&matched);
            self.give_set_back(kept.set);
            changed.push((number.0, set));
        }
        self.events.change_sets(&changed);
    }

    /// How much [`Self::add_to_sets`] copies and compares.
    pub(super) fn sets_work(&self, numbers: &[EventNo]) -> usize {
        let sets = numbers.iter().filter_map(|number| self.events.get(number.0));
        sets.map(|kept| self.set(kept.set).len() / 8).sum()
    }

    fn forget_old(&mut self, now: TimeMs) {
        while let Some(first) = self.recents.first() {
            if !self.is_old(first.at, now) && self.recents.len() < RECENT_MAX {
                break;
            }
            self.recents.forget_first();
        }
    }

    /// The last of the events, from the first on, that can be let go, if any: they are old enough,
    /// or too many. `is_needed` says of each whether somebody needs it (then it is kept apart), or
    /// `None` if it must stay where it is.
    pub(super) fn can_go(
        &self,
        now: TimeMs,
        at_most: usize,
        mut is_needed: impl FnMut(EventNo, Kept) -> Option<bool>,
    ) -> Option<EventNo> {
        let kept_for = DurationMs::seconds(self.spec.retain_seconds);
        let too_many = self.events.len().saturating_sub(self.spec.retain_events);
        let mut room = APART_MAX.saturating_sub(self.apart.len());
        let mut last = None;
        for (at, (kept, number)) in self.events.iter().zip(self.first()..).take(at_most).enumerate() {
            if at as u64 >= too_many && kept.at.plus(kept_for) >= now {
                break;
            }
            match is_needed(EventNo(number), kept) {
                Some(false) => {}
                Some(true) if room > 0 => room -= 1,
                _ => break,
            }
            last = Some(EventNo(number));
        }
        last
    }

    /// Lets the first event go, or keeps it apart if somebody needs it.
    pub(super) fn shift(&mut self, is_needed: bool) {
        let number = self.first();
        let Some(kept) = self.events.pop_first() else { return };
        if is_needed {
            self.apart.push(number, kept);
        } else {
            self.give_set_back(kept.set);
        }
    }

    /// Lets an event go that was kept apart.
    pub(super) fn release(&mut self, number: EventNo) {
        if let Some(kept) = self.apart.remove(number.0) {
            self.give_set_back(kept.set);
        }
    }

    /// Those that are kept apart.
    pub(super) fn apart(&self) -> impl Iterator<Item = (EventNo, Key)> {
        self.apart.iter().map(|(number, kept)| (EventNo(number), kept.key))
    }

    /// One event less has matched the set with this id.
    fn give_set_back(&mut self, id: u32) {
        let Some(set) = self.sets.get_mut(&id) else { return };
        set.events -= 1;
        if set.events == 0 {
            self.set_ids.remove(&set.subscriptions);
            self.sets.remove(&id);
        }
    }

    /// The first entry whose body is needed.
    pub(super) fn oldest_entry(&self) -> Option<Sequence> {
        let kept = self.all_kept().map(|kept| kept.sequence);
        kept.chain(self.delayed.keys().map(|(_, sequence)| *sequence)).min()
    }

    fn all_kept(&self) -> impl Iterator<Item = Kept> {
        self.apart.iter().map(|(_, kept)| kept).chain(self.events.iter())
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.recents.index();
        self.set_ids = self.sets.iter().map(|(id, set)| (Arc::clone(&set.subscriptions), *id)).collect();
    }

    fn events_of_sets(&self) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        let kept = self.all_kept().map(|kept| kept.set);
        let delayed = self.delayed.values().map(|delayed| delayed.set);
        kept.chain(delayed).for_each(|set| *counts.entry(set).or_default() += 1);
        counts
    }

    /// Whether what a snapshot brought fits together.
    pub(super) fn is_whole(&self) -> bool {
        self.first() > 0
            && self.apart.iter().all(|(number, _)| number < self.first())
            && self.sets.values().all(|set| set.subscriptions.is_sorted())
            && self.events_of_sets() == self.sets.iter().map(|(id, set)| (*id, set.events)).collect()
    }
}
