//! The subscribers' endpoints: what they answer, and what has reached them, in which order.

use crate::model::Model;
use notify::core::{Attempted, Delivery, Outcome};
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use units::{DurationMs, Prng};

/// How an endpoint behaves, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    /// One in three fails.
    Flaky,
    /// Nothing comes back, or 503.
    Down,
    /// It takes what it gets, and half of its answers are lost.
    Mute,
    /// It refuses some events, always the same ones.
    Picky,
    /// 429, with a time.
    Busy,
    /// 410.
    Gone,
}

const MOODS: [(u64, Mood); 7] = [
    (45, Mood::Good),
    (15, Mood::Flaky),
    (14, Mood::Down),
    (8, Mood::Mute),
    (10, Mood::Picky),
    (5, Mood::Busy),
    (3, Mood::Gone),
];

/// What has reached an endpoint.
#[derive(Debug, Default)]
struct Had {
    arrived: BTreeSet<u64>,
    /// The last event of each publisher's key that has arrived.
    last: BTreeMap<u64, u64>,
    /// What it has answered with 2xx, whether or not the answer was heard.
    taken: BTreeSet<u64>,
    /// So many replays of its subscription have begun since.
    replays: usize,
}

/// All endpoints, by the number of their subscription.
#[derive(Debug)]
pub(crate) struct Subscribers {
    moods: BTreeMap<u32, Mood>,
    had: BTreeMap<u32, Had>,
    /// The endpoints whose subscription has a number that this divides are never up; 0: none.
    pub(crate) dead_each: u32,
    /// The faults are over: all others answer.
    pub(crate) is_over: bool,
}

impl Subscribers {
    pub(crate) fn new(dead_each: u32) -> Self {
        Self { moods: BTreeMap::new(), had: BTreeMap::new(), dead_each, is_over: false }
    }

    pub(crate) fn is_dead(&self, subscription: u32) -> bool {
        self.dead_each > 0 && subscription.is_multiple_of(self.dead_each)
    }

    /// Moods change now and then.
    pub(crate) fn live(&mut self, prng: &mut Prng, last_subscription: u32) {
        for subscription in 1..=last_subscription {
            let is_new = !self.moods.contains_key(&subscription);
            if is_new || prng.percent(4) {
                let mut at = prng.below(100);
                let mood = MOODS.iter().find(|(share, _)| {
                    let is_it = at < *share;
                    at = at.saturating_sub(*share);
                    is_it
                });
                self.moods.insert(subscription, mood.map_or(Mood::Good, |(_, mood)| *mood));
            }
        }
    }

    pub(crate) fn mood(&self, subscription: u32) -> Mood {
        if self.is_dead(subscription) {
            return Mood::Down;
        }
        let mood = self.moods.get(&subscription).copied().unwrap_or(Mood::Good);
        if self.is_over { Mood::Good } else { mood }
    }

    /// Whether the endpoint has said 2xx to this event.
    pub(crate) fn has_taken(&self, subscription: u32, event: u64) -> bool {
        self.had.get(&subscription).is_some_and(|had| had.taken.contains(&event))
    }

    /// A delivery is made that was begun after so many replays: what the courier hears of it.
    pub(crate) fn receive(
        &mut self,
        prng: &mut Prng,
        model: &Model,
        (delivery, replays): (&Delivery, usize),
    ) -> Result<Attempted, Violation> {
        let (subscription, event) = (delivery.subscription.0, delivery.event.0);
        let mood = self.mood(subscription);
        let refusal = |status| (Outcome::Failed { retry_after: None }, status);
        let (arrives, (outcome, status)) = match mood {
            Mood::Good => (true, (Outcome::Delivered, *prng.pick(&[200, 202, 204]))),
            Mood::Flaky if prng.percent(67) => (true, (Outcome::Delivered, 200)),
            Mood::Flaky => (prng.percent(50), refusal(*prng.pick(&[0, 302, 404, 500, 503]))),
            Mood::Down => (prng.percent(20), refusal(*prng.pick(&[0, 0, 408, 502, 503]))),
            Mood::Mute => (true, (Outcome::Delivered, 204)),
            Mood::Picky if event.is_multiple_of(5) => (true, refusal(*prng.pick(&[400, 422]))),
            Mood::Picky => (true, (Outcome::Delivered, 201)),
            Mood::Busy => {
                let wait = *prng.pick(&[1, 90, 3600, 200_000]);
                (true, (Outcome::Failed { retry_after: Some(DurationMs::seconds(wait)) }, 429))
            }
            Mood::Gone => (true, (Outcome::Gone, 410)),
        };
        if arrives {
            self.arrives(model, (delivery, replays))?;
        }
        if outcome == Outcome::Delivered {
            self.had.entry(subscription).or_default().taken.insert(event);
        }
        let is_lost = mood == Mood::Mute && prng.percent(50);
        // The courier could not read the event, or could not try for another reason that passes.
        let is_not_tried = !arrives && !self.is_over && prng.percent(10);
        let (outcome, status) = match (is_lost, is_not_tried) {
            (true, _) => refusal(0),
            (_, true) => (Outcome::NotTried, 0),
            _ => (outcome, status),
        };
        let said = match outcome {
            Outcome::Delivered => String::new(),
            _ if prng.percent(3) => format!("{}é and more", "x".repeat(511)),
            _ => format!("answer {status}"),
        };
        let took_ms = prng.below(2000) as u32;
        let (subscription, event) = (delivery.subscription, delivery.event);
        Ok(Attempted { subscription, event, attempt: delivery.attempt, outcome, status, took_ms, said })
    }

    /// What arrives for the first time, or for the first time after a replay, does so before all
    /// later events of its key, unless an operator has decided about it.
    fn arrives(&mut self, model: &Model, (delivery, replays): (&Delivery, usize)) -> Check {
        let (subscription, event) = (delivery.subscription.0, delivery.event.0);
        let had = self.had.entry(subscription).or_default();
        let Some(known) = model.subscriptions.get(&subscription) else { return Ok(()) };
        let Some(topic) = model.topics.get(&known.topic) else { return Ok(()) };
        let Some(posted) = topic.ever(event) else {
            let what = format!("{} gets an event that is not there: {event}", known.name);
            return Err(Violation { rule: "MSG-5", what });
        };
        for from in &known.replays[had.replays..] {
            had.arrived.retain(|event| event < from);
            had.last.clear();
            for event in &had.arrived {
                if let Some(key) = topic.ever(*event).and_then(|before| before.what.key) {
                    had.last.insert(key, *event);
                }
            }
        }
        had.replays = known.replays.len();
        // What was on its way at the replay says nothing of those that come again.
        if known.replays[replays..].iter().any(|from| *from <= event) {
            return Ok(());
        }
        let is_first = had.arrived.insert(event);
        let Some(key) = posted.what.key else { return Ok(()) };
        let last = had.last.entry(key).or_default();
        let is_decided = known.redriven.contains(&event) || known.discarded.contains(&event);
        ensure(!is_first || *last < event || is_decided, "MSG-2", || {
            format!("{} gets {event} of key {key} for the first time, and had {last}", known.name)
        })?;
        *last = (*last).max(event);
        Ok(())
    }
}
