//! The consumers of subscriptions without an endpoint: they pull, take their time, and say what
//! came of it, or nothing, or too late, twice, or of what they do not have. They live on when the
//! service dies.

use crate::subscribers::{Mood, Subscribers};
use contracts::SubscriptionId;
use notify::core::record::EventNo;
use notify::core::{Command, Delivery, Outcome, Reply, Settled};
use std::collections::{BTreeSet, VecDeque};
use units::{DurationMs, Prng};

/// Deliveries that a consumer remembers, to say something of them once more.
const LATELY: usize = 12;

/// All consumers of a seed.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    lately: VecDeque<Delivery>,
    /// What a consumer has ever said to be done, whether or not it was heard.
    done: BTreeSet<(SubscriptionId, u64)>,
    /// Every attempt that a consumer has ever given up.
    given_up: BTreeSet<(SubscriptionId, u64, u32)>,
    /// What is to be said in the next batch, once the faults are over.
    pub(crate) to_say: Vec<Command>,
}

impl Consumers {
    pub(crate) fn has_done(&self, name: &SubscriptionId, event: u64) -> bool {
        self.done.contains(&(name.clone(), event))
    }

    pub(crate) fn has_given_up(&self, name: &SubscriptionId, event: u64, attempt: u32) -> bool {
        self.given_up.contains(&(name.clone(), event, attempt))
    }

    /// A consumer pulls.
    pub(crate) fn pull(prng: &mut Prng, name: SubscriptionId) -> Command {
        let lease = DurationMs(*prng.pick(&[1, 500, 2000, 30_000, 30_000, 600_000]));
        Command::Pull { name, at_most: *prng.pick(&[0, 1, 1, 3, 10, 100]), lease }
    }

    /// A consumer has the answer to its pull. What it says of it comes later.
    pub(crate) fn hear(
        &mut self,
        prng: &mut Prng,
        subscribers: &Subscribers,
        (command, reply): (&Command, &Reply),
        later: &mut Vec<(u64, Command)>,
    ) {
        let (Command::Pull { name, lease, .. }, Reply::Pulled { deliveries, .. }) = (command, reply) else {
            return;
        };
        self.lately.extend(deliveries.iter().cloned());
        self.lately.drain(..self.lately.len().saturating_sub(LATELY));
        let mut ended: Vec<Settled> =
            deliveries.iter().filter_map(|delivery| says(prng, subscribers, delivery)).collect();
        // Now and then of what is not its own, or of an attempt that nobody has made.
        if prng.percent(10) && !self.lately.is_empty() {
            let other = prng.below(self.lately.len() as u64) as usize;
            let Delivery { event, attempt, .. } = self.lately[other];
            let (event, attempt) = match prng.below(3) {
                0 => (event, attempt),
                1 => (EventNo(event.0 + prng.below(3)), 1),
                _ => (event, attempt + 1),
            };
            let outcome = *prng.pick(&[Outcome::Delivered, FAILED, Outcome::NotTried]);
            ended.push(Settled { event, attempt, outcome });
        }
        // All at once, or one by one; in time or too late.
        let size = if prng.percent(50) { ended.len().max(1) } else { 1 };
        for part in ended.chunks(size) {
            let takes_ms = match prng.below(10) {
                0 => prng.below(2 * lease.0 + 2),
                1..3 => prng.below(5000),
                _ => prng.below(200),
            };
            later.push((takes_ms, self.settle(name, part.to_vec())));
            // It does not know whether it was heard, or another one says something else.
            if prng.percent(10) {
                let outcome = *prng.pick(&[Outcome::Delivered, FAILED, Outcome::NotTried]);
                let is_same = prng.percent(50);
                let again = |settled: &Settled| match is_same {
                    true => *settled,
                    false => Settled { outcome, ..*settled },
                };
                let again = part.iter().map(again).collect();
                later.push((takes_ms + prng.below(2000), self.settle(name, again)));
            }
        }
    }

    /// Once the faults are over each answers at once, but for those that never do.
    pub(crate) fn hear_at_the_end(
        &mut self,
        subscribers: &Subscribers,
        name: &SubscriptionId,
        deliveries: &[Delivery],
    ) {
        let all = deliveries.iter().filter(|delivery| !subscribers.is_dead(delivery.subscription.0));
        let done = |delivery: &Delivery| Settled {
            event: delivery.event,
            attempt: delivery.attempt,
            outcome: Outcome::Delivered,
        };
        let ended: Vec<Settled> = all.map(done).collect();
        if !ended.is_empty() {
            let says = self.settle(name, ended);
            self.to_say.push(says);
        }
    }

    fn settle(&mut self, name: &SubscriptionId, ended: Vec<Settled>) -> Command {
        for Settled { event, attempt, outcome } in &ended {
            match outcome {
                Outcome::Delivered => drop(self.done.insert((name.clone(), event.0))),
                _ => drop(self.given_up.insert((name.clone(), event.0, *attempt))),
            }
        }
        Command::Settle { name: name.clone(), ended }
    }
}

const FAILED: Outcome = Outcome::Failed { retry_after: None };

/// What a consumer says of a delivery, by its mood; `None` if it goes away.
fn says(prng: &mut Prng, subscribers: &Subscribers, delivery: &Delivery) -> Option<Settled> {
    let Delivery { event, attempt, .. } = *delivery;
    let outcome = match subscribers.mood(delivery.subscription.0) {
        Mood::Good => Outcome::Delivered,
        Mood::Flaky => *prng.pick(&[Outcome::Delivered, Outcome::Delivered, FAILED, Outcome::NotTried]),
        Mood::Down if prng.percent(50) => return None,
        Mood::Down => FAILED,
        Mood::Mute if prng.percent(50) => return None,
        Mood::Mute => Outcome::Delivered,
        Mood::Picky if event.0.is_multiple_of(5) => FAILED,
        Mood::Picky => Outcome::Delivered,
        Mood::Busy => {
            let wait = *prng.pick(&[1, 90, 3600, 200_000]);
            Outcome::Failed { retry_after: Some(DurationMs::seconds(wait)) }
        }
        Mood::Gone => return None,
    };
    Some(Settled { event, attempt, outcome })
}
