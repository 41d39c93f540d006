//! A topic: which events it has, where they are, who is to get them, and which were posted lately.

use super::{
    record::{EventNo, Key, SubscriptionNo},
    spec::TopicSpec,
};
use contracts::TopicId;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use units::{DurationMs, Sequence, TimeMs};

/// Posted events that are remembered to recognise repetitions, at the most: a hundred bytes each.
const RECENT_MAX: usize = 1_000_000;

/// What is in memory of an event. Its body stays in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its entry in the log.
    pub(super) sequence: Sequence,
    pub(super) at: TimeMs,
    pub(super) key: Key,
    /// Who is to get it: an index of [`Topic::sets`].
    pub(super) set: u32,
}

/// An event that was posted lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    at: TimeMs,
    pub(super) number: EventNo,
    pub(super) content: u64,
}

/// A set of subscriptions, in rising order, and how many kept events have matched just these.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Matched {
    subscriptions: Arc<[SubscriptionNo]>,
    events: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) name: TopicId,
    pub(super) spec: TopicSpec,
    /// The number of the first event that is kept.
    pub(super) first: u64,
    pub(super) events: VecDeque<Kept>,
    /// The sets of subscriptions that kept events have matched, each once: there are few.
    sets: BTreeMap<u32, Matched>,
    /// The last id of a set that was given away.
    last_set: u32,
    #[serde(skip)]
    set_ids: BTreeMap<Arc<[SubscriptionNo]>, u32>,
    pub(super) subscriptions: Vec<SubscriptionNo>,
    recent: BTreeMap<u128, Recent>,
    /// In the order of their time.
    recent_by_time: VecDeque<(TimeMs, u128)>,
}

impl Topic {
    pub(super) fn new(name: TopicId, spec: TopicSpec) -> Self {
        Self {
            name,
            spec,
            first: 1,
            events: VecDeque::new(),
            sets: BTreeMap::new(),
            last_set: 0,
            set_ids: BTreeMap::new(),
            subscriptions: Vec::new(),
            recent: BTreeMap::new(),
            recent_by_time: VecDeque::new(),
        }
    }

    /// The number that the next event gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub(super) fn event(&self, number: EventNo) -> Option<&Kept> {
        let at = number.0.checked_sub(self.first)?;
        self.events.get(usize::try_from(at).ok()?)
    }

    /// Who is to get an event, in rising order.
    pub(super) fn set(&self, id: u32) -> &[SubscriptionNo] {
        self.sets.get(&id).map_or(&[], |set| &*set.subscriptions)
    }

    /// Whether the event with this number is for the subscription.
    pub(super) fn is_for(&self, number: u64, subscription: SubscriptionNo) -> Option<&Kept> {
        self.event(EventNo(number)).filter(|kept| self.set(kept.set).binary_search(&subscription).is_ok())
    }

    pub(super) fn recent(&self, identity: u128, now: TimeMs) -> Option<Recent> {
        self.recent.get(&identity).copied().filter(|recent| !self.is_old(recent.at, now))
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
        let number = EventNo(self.next());
        self.events.push_back(Kept { sequence, at, key, set });
        self.forget_old(at);
        self.recent.insert(identity, Recent { at, number, content });
        self.recent_by_time.push_back((at, identity));
        number
    }

    fn forget_old(&mut self, now: TimeMs) {
        while let Some(&(at, identity)) = self.recent_by_time.front() {
            if !self.is_old(at, now) && self.recent.len() < RECENT_MAX {
                break;
            }
            self.recent_by_time.pop_front();
            self.recent.remove(&identity);
        }
    }

    /// The last of the events, from the first on, that are old enough to go and that nobody is
    /// owed.
    pub(super) fn can_go(
        &self,
        now: TimeMs,
        at_most: usize,
        is_owed: impl Fn(EventNo, &Kept) -> bool,
    ) -> Option<EventNo> {
        let kept_for = DurationMs::seconds(self.spec.retain_seconds);
        let events = self.events.iter().zip(self.first..).take(at_most);
        let goes =
            |(kept, number): &(&Kept, u64)| kept.at.plus(kept_for) < now && !is_owed(EventNo(*number), kept);
        events.take_while(goes).last().map(|(_, number)| EventNo(number))
    }

    pub(super) fn trim(&mut self, up_to: EventNo) {
        while self.first <= up_to.0
            && let Some(kept) = self.events.pop_front()
        {
            self.first += 1;
            let Some(set) = self.sets.get_mut(&kept.set) else { continue };
            set.events -= 1;
            if set.events == 0 {
                self.set_ids.remove(&set.subscriptions);
                self.sets.remove(&kept.set);
            }
        }
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.set_ids = self.sets.iter().map(|(id, set)| (Arc::clone(&set.subscriptions), *id)).collect();
    }

    fn events_of_sets(&self) -> BTreeMap<u32, u64> {
        let mut counts = BTreeMap::new();
        self.events.iter().for_each(|kept| *counts.entry(kept.set).or_default() += 1);
        counts
    }

    /// Whether what a snapshot brought fits together.
    pub(super) fn is_whole(&self) -> bool {
        self.first > 0
            && self.recent_by_time.len() >= self.recent.len()
            && self.sets.values().all(|set| set.subscriptions.is_sorted())
            && self.events_of_sets() == self.sets.iter().map(|(id, set)| (*id, set.events)).collect()
    }
}
