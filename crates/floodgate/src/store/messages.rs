//! What the store takes from the message service of this process, and tells it. The message service
//! may not be there yet, or not any more: then the store waits.

use super::by_store;
use contracts::{
    SubscriptionId, TopicId,
    store::{Asked, Backlog, Ended, Inbox, Posts, Pulled, Receipt, StoreError},
};
use notify::{core::spec::SubscriptionSpec, parts::Running};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;
use web::problem::Problem;

/// The message service, once it runs.
pub(crate) type Messages = watch::Receiver<Option<Arc<Running>>>;

fn running(messages: &Messages) -> Result<Arc<Running>, StoreError> {
    let running = messages.borrow().clone();
    running.ok_or_else(|| StoreError::Unavailable("the message service is not there yet".into()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed as a function")]
fn of(problem: Problem) -> StoreError {
    StoreError::Unavailable(problem.detail().to_owned())
}

/// One subscription of the store, made when it is first asked.
pub(super) struct Subscribed {
    messages: Messages,
    name: SubscriptionId,
    topic: TopicId,
    is_made: AtomicBool,
}

impl Subscribed {
    pub(super) fn new(messages: Messages, name: &str, topic: TopicId) -> Self {
        let name = name.parse().expect("it is a name");
        Self { messages, name, topic, is_made: AtomicBool::new(false) }
    }

    async fn running(&self) -> Result<Arc<Running>, StoreError> {
        let running = running(&self.messages)?;
        if !self.is_made.load(Relaxed) {
            let by = || by_store("what the store follows");
            // An event that cannot be done is tried again for some hours, and then is a dead
            // letter.
            let spec: SubscriptionSpec = serde_json::from_value(json!({
                "topic": self.topic,
                "retry": { "first_seconds": 1, "factor": 2, "longest_seconds": 600, "attempts": 50 },
                "in_flight_max": 1000,
            }))
            .map_err(|error| StoreError::Invalid(error.to_string()))?;
            running.has_topic(&self.topic, by()).await.map_err(of)?;
            running.has_subscription(&self.name, spec, by()).await.map_err(of)?;
            self.is_made.store(true, Relaxed);
        }
        Ok(running)
    }
}

impl Inbox for Subscribed {
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>> {
        Box::pin(async move {
            let running = self.running().await?;
            running.pull(&self.name, at_most, wait).await.map_err(|problem| {
                // An operator may have deleted it.
                self.is_made.store(false, Relaxed);
                of(problem)
            })
        })
    }

    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()> {
        Box::pin(async move { running(&self.messages)?.settle(&self.name, ended).await.map_err(of) })
    }

    fn backlog(&self) -> Asked<'_, Option<Backlog>> {
        Box::pin(async move { self.running().await?.backlog(&self.name).await.map(Some).map_err(of) })
    }
}

/// One topic of the store.
pub(super) struct Told {
    pub(super) messages: Messages,
    pub(super) topic: TopicId,
}

impl Posts for Told {
    fn post(&self, events: Vec<String>) -> Asked<'_, ()> {
        Box::pin(async move {
            let running = running(&self.messages)?;
            running.has_topic(&self.topic, by_store("what the store tells")).await.map_err(of)?;
            running.post(&self.topic, &events).await.map_err(of)
        })
    }
}
