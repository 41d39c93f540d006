//! The verdict on the ledgers: what was answered with 202 has arrived at each subscription or is
//! its dead letter, in the order of its key, and nothing else has. It knows no server.

use super::event::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Differences that are told of each subscription.
const TOLD_MAX: usize = 5;

/// What a subscriber was sent once.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) event: Event,
    /// A hash of the field `webhook-id`.
    pub(super) id: u64,
    /// How many arrivals there were when it was answered with 2xx; none if it was not.
    pub(super) accepted_at: Option<usize>,
    /// How often the server had been started.
    pub(super) life: u32,
}

/// What a subscriber must have had, and has had.
#[derive(Debug)]
pub(super) struct Subscription<'a> {
    /// Each posted event that it wants, by its number within the topic.
    pub(super) wanted: BTreeMap<u64, Event>,
    pub(super) arrivals: &'a [Arrival],
    pub(super) dead: &'a BTreeSet<Event>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) wanted: usize,
    pub(super) accepted: usize,
    pub(super) dead: usize,
    /// Arrivals of what had arrived before.
    pub(super) repeats: usize,
    /// Those of what had been accepted in the same life of the server.
    pub(super) repeats_in_one_life: usize,
    /// What must not be; the first few.
    pub(super) differences: Vec<String>,
}

impl Verdict {
    fn say(&mut self, what: String) {
        if self.differences.len() < TOLD_MAX {
            self.differences.push(what);
        }
    }
}

/// The last arrival of a key.
struct Last {
    number: u64,
    event: Event,
}

pub(super) fn judge(subscription: &Subscription<'_>) -> Verdict {
    let Subscription { wanted, arrivals, dead } = subscription;
    let mut verdict = Verdict { wanted: wanted.len(), dead: dead.len(), ..Verdict::default() };
    let numbers: HashMap<Event, u64> = wanted.iter().map(|(number, event)| (*event, *number)).collect();
    let mut by_key: HashMap<u64, BTreeSet<u64>> = HashMap::new();
    for (number, event) in wanted {
        by_key.entry(event.key()).or_default().insert(*number);
    }
    // When each event was accepted first, and in which life.
    let mut accepted: HashMap<Event, (usize, u32)> = HashMap::new();
    for Arrival { event, accepted_at, life, .. } in *arrivals {
        let Some(at) = accepted_at else { continue };
        let first = accepted.entry(*event).or_insert((*at, *life));
        *first = (*first).min((*at, *life));
    }
    let mut ids: HashMap<u64, Event> = HashMap::new();
    let mut id_of: HashMap<Event, u64> = HashMap::new();
    let mut last_of_key: HashMap<u64, Last> = HashMap::new();
    for (at, Arrival { event, id, life, .. }) in arrivals.iter().enumerate() {
        let Some(&number) = numbers.get(event) else {
            verdict.say(format!("{event} has arrived, and was never accepted or is not wanted"));
            continue;
        };
        if *id_of.entry(*event).or_insert(*id) != *id || *ids.entry(*id).or_insert(*event) != *event {
            verdict.say(format!("{event} has another webhook-id than before, or one of another event"));
        }
        // An event comes only after the one before it is done.
        let is_done =
            |other: Event| dead.contains(&other) || accepted.get(&other).is_some_and(|(then, _)| *then <= at);
        let key = event.key();
        match last_of_key.get(&key) {
            Some(last) if last.number == number => {
                verdict.repeats += 1;
                let is_same_life = |(then, before): &(usize, u32)| *then <= at && before == life;
                verdict.repeats_in_one_life += usize::from(accepted.get(event).is_some_and(is_same_life));
                continue;
            }
            Some(last) if last.number > number => {
                verdict.repeats += 1;
                verdict.say(format!("{event} ({number}) comes after {} ({})", last.event, last.number));
                continue;
            }
            Some(last) if !is_done(last.event) => {
                verdict.say(format!("{event} comes while {} of its key is not done", last.event));
            }
            _ => {}
        }
        let from = last_of_key.get(&key).map_or(0, |last| last.number + 1);
        if let Some(skipped) = by_key[&key].range(from..number).find(|other| !dead.contains(&wanted[other])) {
            verdict.say(format!("{event} ({number}) comes before {} ({skipped})", wanted[skipped]));
        }
        last_of_key.insert(key, Last { number, event: *event });
    }
    for (number, event) in wanted {
        match (accepted.contains_key(event), dead.contains(event)) {
            (true, _) => verdict.accepted += 1,
            (false, true) => {}
            (false, false) => verdict.say(format!("{event} ({number}) has not arrived")),
        }
    }
    if let Some(event) = dead.iter().find(|event| !numbers.contains_key(event)) {
        verdict.say(format!("{event} is a dead letter, and was never accepted or is not wanted"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of one key, in their order.
    fn of_one_key(count: usize) -> Vec<Event> {
        let all = (0..100_000).map(|number| Event { producer: 1, number, is_big: false });
        all.filter(|event| event.key() == 5).take(count).collect()
    }

    /// What is wrong with these arrivals of three events of one key, of which one has another key.
    /// An arrival is the event's place, and whether it is accepted.
    fn differences(arrivals: &[(usize, bool)], dead: &[usize]) -> Vec<String> {
        let events = of_one_key(4);
        let wanted = (1..).zip(events[..3].iter().copied()).collect();
        let arrivals: Vec<Arrival> = arrivals
            .iter()
            .enumerate()
            .map(|(at, (place, is_accepted))| Arrival {
                event: events[*place],
                id: *place as u64,
                accepted_at: is_accepted.then_some(at + 1),
                life: 1,
            })
            .collect();
        let dead = dead.iter().map(|place| events[*place]).collect();
        judge(&Subscription { wanted, arrivals: &arrivals, dead: &dead }).differences
    }

    #[test]
    fn ledgers_that_agree_have_no_differences() {
        for (arrivals, dead) in [
            (&[(0, true), (1, true), (2, true)][..], &[][..]),
            (&[(0, false), (0, true), (0, true), (1, true), (2, false), (2, true)], &[]),
            (&[(0, true), (1, false), (1, false), (2, true)], &[1]),
            (&[(0, true), (2, true)], &[1]),
            (&[(0, false), (1, false), (2, false)], &[0, 1, 2]),
        ] {
            assert_eq!(differences(arrivals, dead), [""; 0], "{arrivals:?}");
        }
    }

    #[test]
    fn each_kind_of_false_ledger_is_found() {
        for (arrivals, dead, why) in [
            (&[(0, true), (1, true)][..], &[][..], "has not arrived"),
            (&[(0, true), (1, true), (2, false)], &[], "has not arrived"),
            (&[(0, true), (1, true), (2, true), (3, true)], &[], "was never accepted"),
            (&[(0, true), (1, true), (2, true)], &[3], "is a dead letter"),
            (&[(1, true), (0, true), (2, true)], &[], "comes before"),
            (&[(0, true), (1, true), (0, true), (2, true)], &[], "comes after"),
            (&[(0, true), (1, false), (2, true), (1, true)], &[], "is not done"),
        ] {
            let found = differences(arrivals, dead);
            assert!(found.iter().any(|difference| difference.contains(why)), "{arrivals:?}: {found:?}");
        }
    }

    #[test]
    fn a_webhook_id_belongs_to_one_event() {
        let events = of_one_key(2);
        let judged = |ids: [u64; 3]| {
            let arrivals: Vec<Arrival> = [events[0], events[0], events[1]]
                .into_iter()
                .zip(ids)
                .enumerate()
                .map(|(at, (event, id))| Arrival { event, id, accepted_at: Some(at + 1), life: at as u32 })
                .collect();
            let wanted = (1..).zip(events.iter().copied()).collect();
            judge(&Subscription { wanted, arrivals: &arrivals, dead: &BTreeSet::new() })
        };
        let fine = judged([7, 7, 8]);
        assert_eq!((fine.differences.len(), fine.repeats, fine.repeats_in_one_life), (0, 1, 0));
        assert_eq!(judged([7, 8, 9]).differences.len(), 1);
        assert_eq!(judged([7, 7, 7]).differences.len(), 1);
    }
}
