//! Pulling and posting for callers in this process, with the promises of the interface.

use crate::{
    core::{
        Command, Delivery, From as Start, NewEvent, Outcome, Post, Reply, Settled,
        cloud_events::from_json,
        record::EventNo,
        spec::{SubscriptionSpec, TopicSpec},
    },
    parts::Running,
    problem::{Problem, of_reply},
};
use contracts::{
    Actor, SubscriptionId, TopicId,
    store::{Backlog, Ended, Pulled, Receipt},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use units::DurationMs;

/// How long what was pulled is the consumer's.
const LEASE: DurationMs = DurationMs(60_000);
/// How long a consumer that waits does not ask, at the most.
const NAP: Duration = Duration::from_millis(250);

impl Running {
    /// Makes the topic, if it is not there. What an operator has changed of it stays.
    pub async fn has_topic(&self, name: &TopicId, by: Actor) -> Result<(), Problem> {
        let topics = match self.ask(Command::Topics).await? {
            Reply::Topics(topics) => topics,
            other => return Err(of_reply(&other)),
        };
        if topics.iter().any(|topic| topic.name == *name) {
            return Ok(());
        }
        match self.ask(Command::DefineTopic { name: name.clone(), spec: TopicSpec::default(), by }).await? {
            Reply::Done => Ok(()),
            other => Err(of_reply(&other)),
        }
    }

    /// Makes the subscription, from the topic's first event on, if it is not there. What an
    /// operator has changed of it stays.
    pub async fn has_subscription(
        &self,
        name: &SubscriptionId,
        spec: SubscriptionSpec,
        by: Actor,
    ) -> Result<(), Problem> {
        match self.ask(Command::Subscription(name.clone())).await? {
            Reply::Subscription(_) => return Ok(()),
            Reply::Refused(_) => {}
            other => return Err(of_reply(&other)),
        }
        let from = Some(Start::Event(EventNo(1)));
        match self.ask(Command::Subscribe { name: name.clone(), spec, from, by }).await? {
            Reply::Subscribed { .. } => {
                self.fills.notify_one();
                Ok(())
            }
            other => Err(of_reply(&other)),
        }
    }

    /// How far it is behind.
    pub async fn backlog(&self, name: &SubscriptionId) -> Result<Backlog, Problem> {
        let seen = self.subscription(name).await?;
        let events = seen.backlog + u64::from(seen.in_flight);
        Ok(Backlog { events, oldest: seen.oldest, dead: seen.dead })
    }

    /// Takes events of a subscription without an endpoint, and waits for so long if there is none.
    /// What is not settled within a minute has failed.
    pub async fn pull(
        &self,
        name: &SubscriptionId,
        at_most: usize,
        wait: Duration,
    ) -> Result<Vec<Pulled>, Problem> {
        let deadline = Instant::now() + wait;
        let mut sequence = self.handle.sequence();
        loop {
            sequence.borrow_and_update();
            let command = Command::Pull { name: name.clone(), at_most, lease: LEASE };
            let mut deliveries = match self.ask(command).await? {
                Reply::Pulled { deliveries, .. } => deliveries,
                other => return Err(of_reply(&other)),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if !deliveries.is_empty() {
                deliveries.sort_by_key(|delivery| delivery.event);
                return self.read_pulled(name, deliveries).await;
            }
            if left.is_zero() {
                return Ok(Vec::new());
            }
            // What another consumer gives back, or what is due, is not in the log.
            let _ = tokio::time::timeout(NAP.min(left), sequence.changed()).await;
        }
    }

    /// The events of deliveries. Those that do not fit into one answer are given back.
    async fn read_pulled(
        &self,
        name: &SubscriptionId,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Pulled>, Problem> {
        let receipt = |of: &Delivery| Receipt { number: of.event.0, attempt: of.attempt };
        let read = self.events(deliveries.iter().map(|delivery| delivery.sequence).collect()).await;
        let read = match read {
            Ok(read) => read,
            Err(problem) => {
                let ended = deliveries.iter().map(|delivery| (receipt(delivery), Ended::Later));
                self.settle(name, ended.collect()).await?;
                return Err(problem);
            }
        };
        let fit = read.iter().take_while(|event| event.is_some()).count();
        let rest = deliveries[fit..].iter().map(|delivery| (receipt(delivery), Ended::Later));
        let rest: Vec<_> = rest.collect();
        if !rest.is_empty() {
            self.settle(name, rest).await?;
        }
        let events = deliveries.iter().zip(read.into_iter().flatten());
        let pulled = |(delivery, event): (&Delivery, Box<serde_json::value::RawValue>)| Pulled {
            receipt: receipt(delivery),
            event: event.get().to_owned(),
        };
        Ok(events.map(pulled).collect())
    }

    /// How the work on pulled events ended.
    pub async fn settle(&self, name: &SubscriptionId, ended: Vec<(Receipt, Ended)>) -> Result<(), Problem> {
        let ended = ended.into_iter().map(|(Receipt { number, attempt }, ended)| {
            let outcome = match ended {
                Ended::Done => Outcome::Delivered,
                Ended::Failed => Outcome::Failed { retry_after: None },
                Ended::Later => Outcome::NotTried,
            };
            Settled { event: EventNo(number), attempt, outcome }
        });
        match self.ask(Command::Settle { name: name.clone(), ended: ended.collect() }).await? {
            Reply::Settled { .. } => Ok(()),
            other => Err(of_reply(&other)),
        }
    }

    /// Posts CloudEvents in the JSON format, all of them or none. They are durable when it answers.
    pub async fn post(&self, topic: &TopicId, events: &[String]) -> Result<(), Problem> {
        let read = events.iter().map(|event| from_json(event.as_bytes()));
        let events = read.collect::<Result<Vec<NewEvent>, _>>().map_err(|error| {
            tracing::error!(%error, %topic, "an event cannot be told: a defect");
            Problem::internal()
        })?;
        let post = Arc::new(Post { topic: topic.clone(), events, followed: None });
        match self.ask(Command::Post(post)).await? {
            Reply::Accepted(_) => Ok(()),
            other => Err(of_reply(&other)),
        }
    }
}
