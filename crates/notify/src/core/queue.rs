//! The events of one key for which a subscription waits, in little memory: some four bytes each.

use super::record::EventNo;
use std::collections::VecDeque;

/// How far before its first event a queue has room for others.
const ROOM_BEFORE: u64 = 1 << 31;

/// Events in rising order, each once.
#[derive(Debug)]
pub(super) enum Queue {
    /// How much more each is than `base`.
    Near { base: u64, after: VecDeque<u32> },
    /// They are too far from each other for that.
    Far(VecDeque<u64>),
}

impl Queue {
    pub(super) fn of(event: EventNo) -> Self {
        let base = event.0.saturating_sub(ROOM_BEFORE);
        Self::Near { base, after: VecDeque::from([(event.0 - base) as u32]) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Near { after, .. } => after.len(),
            Self::Far(events) => events.len(),
        }
    }

    fn get(&self, at: usize) -> Option<EventNo> {
        match self {
            Self::Near { base, after } => after.get(at).map(|after| EventNo(base + u64::from(*after))),
            Self::Far(events) => events.get(at).copied().map(EventNo),
        }
    }

    pub(super) fn first(&self) -> Option<EventNo> {
        self.get(0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = EventNo> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Where the event is, or else where it belongs.
    fn search(&self, event: EventNo) -> Result<usize, usize> {
        match self {
            Self::Near { base, after } => match event.0.checked_sub(*base) {
                Some(more) => after.binary_search_by(|after| u64::from(*after).cmp(&more)),
                None => Err(0),
            },
            Self::Far(events) => events.binary_search(&event.0),
        }
    }

    pub(super) fn contains(&self, event: EventNo) -> bool {
        self.search(event).is_ok()
    }

    /// False if it is there already.
    pub(super) fn insert(&mut self, event: EventNo) -> bool {
        let Err(at) = self.search(event) else { return false };
        if let Self::Near { base, after } = self {
            let more = event.0.checked_sub(*base).and_then(|more| u32::try_from(more).ok());
            if let Some(more) = more {
                make_room(after);
                after.insert(at, more);
                return true;
            }
            *self = Self::Far(self.iter().map(|event| event.0).collect());
        }
        if let Self::Far(events) = self {
            make_room(events);
            events.insert(at, event.0);
        }
        true
    }

    /// Where it was.
    pub(super) fn remove(&mut self, event: EventNo) -> Option<usize> {
        let at = self.search(event).ok()?;
        match self {
            Self::Near { after, .. } => {
                after.remove(at);
                give_room_back(after);
            }
            Self::Far(events) => {
                events.remove(at);
                give_room_back(events);
            }
        }
        Some(at)
    }
}

/// Makes room for one more. There are many queues, so a quarter is spare, and not half.
fn make_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact((queue.len() / 4).max(4));
    }
}

/// Gives memory back once most of it is spare.
fn give_room_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 64 && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use units::Prng;

    /// Numbers far from each other, close to each other, and before the first.
    #[test]
    fn a_queue_is_what_a_plain_set_is() {
        for (seed, far) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut prng = Prng::new(seed);
            let first = 1 + prng.below(5_000_000_000);
            let (mut queue, mut plain) = (Queue::of(EventNo(first)), BTreeSet::from([first]));
            for step in 0..4000 {
                let is_draining = step % 1000 > 600;
                let near = (first - prng.below(first.min(1000))) + prng.below(3000);
                let number = if far && prng.percent(1) { prng.below(1 << 40) } else { near };
                match plain.first().copied().filter(|_| is_draining || prng.percent(20)) {
                    Some(first) => {
                        assert_eq!(queue.remove(EventNo(first)), Some(0));
                        plain.remove(&first);
                    }
                    None => assert_eq!(queue.insert(EventNo(number)), plain.insert(number)),
                }
                if prng.percent(10) {
                    let at = plain.range(..near).count();
                    let want = plain.remove(&near).then_some(at);
                    assert_eq!(queue.remove(EventNo(near)), want);
                }
                assert_eq!(queue.contains(EventNo(near)), plain.contains(&near));
                assert_eq!(queue.first(), plain.first().copied().map(EventNo));
                assert_eq!(queue.len(), plain.len());
            }
            assert!(queue.iter().eq(plain.into_iter().map(EventNo)), "{seed} {far}");
        }
    }
}
