//! A topic: which events it has, where they are, who is to get them, and which were posted lately.

use super::{
    record::{EventNo, Key, SubscriptionNo},
    spec::TopicSpec,
};
use contracts::TopicId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use units::{DurationMs, Sequence, TimeMs};

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
    pub(super) number: EventNo,
    pub(super) content: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) name: TopicId,
    pub(super) spec: TopicSpec,
    /// The number of the first event that is kept.
    pub(super) first: u64,
    pub(super) events: VecDeque<Kept>,
    /// The sets of subscriptions that events have matched, each once: there are few.
    sets: Vec<Vec<SubscriptionNo>>,
    #[serde(skip)]
    set_ids: BTreeMap<Vec<SubscriptionNo>, u32>,
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
            sets: Vec::new(),
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
        &self.sets[id as usize]
    }

    /// Whether the event with this number is for the subscription.
    pub(super) fn is_for(&self, number: u64, subscription: SubscriptionNo) -> Option<&Kept> {
        self.event(EventNo(number)).filter(|kept| self.set(kept.set).binary_search(&subscription).is_ok())
    }

    pub(super) fn recent(&self, identity: u128) -> Option<Recent> {
        self.recent.get(&identity).copied()
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
                let set = self.sets.len() as u32;
                self.sets.push(matched.to_vec());
                self.set_ids.insert(matched.to_vec(), set);
                set
            }
        };
        let number = EventNo(self.next());
        self.events.push_back(Kept { sequence, at, key, set });
        self.forget_old(at);
        self.recent.insert(identity, Recent { number, content });
        self.recent_by_time.push_back((at, identity));
        number
    }

    fn forget_old(&mut self, now: TimeMs) {
        let kept_for = DurationMs::seconds(self.spec.repeat_seconds);
        while let Some(&(at, identity)) = self.recent_by_time.front() {
            if at.plus(kept_for) >= now {
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
        while self.first <= up_to.0 && self.events.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// After [`Deserialize`], which leaves the index out.
    pub(super) fn index(&mut self) {
        self.set_ids = self.sets.iter().cloned().zip(0..).collect();
    }

    /// Whether what a snapshot brought fits together.
    pub(super) fn is_whole(&self) -> bool {
        self.first > 0
            && self.events.iter().all(|kept| (kept.set as usize) < self.sets.len())
            && self.sets.iter().all(|set| set.is_sorted())
            && self.recent_by_time.len() >= self.recent.len()
    }
}
