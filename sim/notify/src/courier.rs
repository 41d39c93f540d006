//! The courier, as `notify::courier` is: it takes what is due, delivers it, and reports what came
//! of it. It is in the service's own process and dies with it; what is on its way then may arrive.

use crate::model::Model;
use crate::subscribers::Subscribers;
use crate::underway::UnderWay;
use contracts::SubscriptionId;
use notify::core::{Attempted, Command, Delivery, Outcome, Reply, Turn};
use sim::{Check, Violation, ensure};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use units::{Prng, TimeMs};

/// Reports that may come a second time.
const LATELY: usize = 12;

/// Further than the service looks at once.
const FAR: u64 = 1100;

/// The courier of one process after the other.
#[derive(Debug)]
pub(crate) struct Courier {
    in_flight_max: usize,
    /// Of a hundred turns, in how many it reports once more some of what it has reported lately.
    repeats: u64,
    epoch: u64,
    is_unsure: bool,
    /// Each with the number of replays that its subscription had had.
    under_way: Vec<(Delivery, usize)>,
    ended: Vec<Attempted>,
    /// What it has reported lately, the last one last.
    reported: VecDeque<Attempted>,
    /// Ask again then.
    pub(crate) next_at: Option<TimeMs>,
    /// Every failure that was ever reported: subscription, event, attempt, status.
    failures: BTreeSet<(u32, u64, u32, u16)>,
}

impl Courier {
    pub(crate) fn new(in_flight_max: usize, repeats: u64) -> Self {
        Self {
            in_flight_max,
            repeats,
            epoch: 0,
            is_unsure: false,
            under_way: Vec::new(),
            ended: Vec::new(),
            reported: VecDeque::new(),
            next_at: None,
            failures: BTreeSet::new(),
        }
    }

    /// Nothing is under way, and nothing is to be reported.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.ended.is_empty()
    }

    /// The subscriptions of which something is on its way that is far from their first event.
    pub(crate) fn far_on_the_way<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a SubscriptionId> {
        self.under_way.iter().filter_map(|(delivery, _)| {
            let known = model.subscriptions.get(&delivery.subscription.0)?;
            (delivery.event.0 > known.since + FAR).then_some(&known.name)
        })
    }

    pub(crate) fn has_reported(&self, tried: &notify::core::record::Tried) -> bool {
        self.failures.contains(&(tried.subscription.0, tried.event.0, tried.attempt, tried.status))
    }

    /// Of what is under way some ends, and the next turn is taken.
    pub(crate) fn turns(
        &mut self,
        prng: &mut Prng,
        model: &Model,
        subscribers: &mut Subscribers,
    ) -> Result<Command, Violation> {
        let share = if subscribers.is_over { 90 } else { *prng.pick(&[10, 50, 90, 100]) };
        for (delivery, replays) in std::mem::take(&mut self.under_way) {
            if !prng.percent(share) {
                self.under_way.push((delivery, replays));
                continue;
            }
            let ended = subscribers.receive(prng, model, (&delivery, replays))?;
            self.failures.insert((ended.subscription.0, ended.event.0, ended.attempt, ended.status));
            self.ended.push(ended);
        }
        let in_flight = self.under_way.len() + self.ended.len();
        self.is_unsure &= !self.under_way.is_empty();
        let room = if self.is_unsure { 0 } else { self.in_flight_max.saturating_sub(in_flight) };
        let mut ended = self.ended.clone();
        if prng.percent(self.repeats) {
            let again = self.reported.iter().filter(|_| prng.percent(50));
            ended.extend(again.cloned());
        }
        Ok(Command::Turn(Arc::new(Turn { epoch: self.epoch, ended, room, free: usize::MAX })))
    }

    /// The answer to the turn. `model` is what the log says after it.
    pub(crate) fn hears(&mut self, reply: &Reply, model: &Model, known: &UnderWay) -> Check {
        // What was reported is reported again.
        let Reply::Turned { deliveries, epoch, next_at } = reply else { return Ok(()) };
        // An attempt that was not made comes again under its number.
        let ended = self.ended.drain(..).filter(|report| report.outcome != Outcome::NotTried);
        self.reported.extend(ended);
        self.reported.drain(..self.reported.len().saturating_sub(LATELY));
        self.is_unsure |= *epoch != self.epoch;
        self.epoch = *epoch;
        self.next_at = *next_at;
        for delivery in deliveries {
            let replays = known.begun_after(delivery.subscription.0, delivery.event.0);
            self.begins((delivery, replays), model)?;
        }
        Ok(())
    }

    /// Nothing of this key is on its way, also not from before the state was built again.
    fn begins(&mut self, (delivery, replays): (&Delivery, usize), model: &Model) -> Check {
        let key = |delivery: &Delivery| {
            let known = model.subscriptions.get(&delivery.subscription.0)?;
            let event = model.topics.get(&known.topic)?.ever(delivery.event.0)?;
            let is_decided =
                known.redriven_keys.contains(&event.key) || known.discarded.contains(&delivery.event.0);
            (!is_decided).then_some((delivery.subscription, event.key))
        };
        let own = key(delivery);
        let other = self.under_way.iter().find(|(other, _)| own.is_some() && key(other) == own);
        ensure(other.is_none(), "MSG-2", || {
            let other = other.map(|(other, _)| (other.event, other.attempt));
            format!("{:?} begins, and {other:?} of its key is under way", (delivery.event, delivery.attempt))
        })?;
        self.under_way.push((delivery.clone(), replays));
        Ok(())
    }

    /// An operator has decided about a dead letter or a key, or has all delivered again: an earlier
    /// report says nothing any more.
    pub(crate) fn forgets_reports(&mut self) {
        self.reported.clear();
    }

    /// The process has ended. Of what was on its way some arrives.
    pub(crate) fn dies(&mut self, prng: &mut Prng, model: &Model, subscribers: &mut Subscribers) -> Check {
        for (delivery, replays) in std::mem::take(&mut self.under_way) {
            if prng.percent(50) {
                subscribers.receive(prng, model, (&delivery, replays))?;
            }
        }
        let (in_flight_max, repeats) = (self.in_flight_max, self.repeats);
        let failures = std::mem::take(&mut self.failures);
        *self = Self { failures, ..Self::new(in_flight_max, repeats) };
        Ok(())
    }
}
