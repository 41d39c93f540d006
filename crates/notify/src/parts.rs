//! The parts of the message service. A handler takes only those that it uses.

use crate::{
    core::{Command, Notify, Reply, SubscriptionSeen},
    courier::Secrets,
    problem::{NOT_FOUND, Problem, of_reply},
};
use axum::extract::FromRef;
use contracts::{SubscriptionId, TopicId};
use runtime::{Handle, NotQueued};
use std::sync::Arc;
use web::{
    api_keys::ApiKeys,
    metrics::{Registry, ServerMetrics},
    protection::Protection,
};

/// The running message service, for callers in this process.
#[derive(Debug)]
pub struct Running {
    pub(crate) handle: Handle<Notify>,
    pub(crate) secrets: Secrets,
    /// Topics to which only callers in this process post.
    pub(crate) reserved: Vec<TopicId>,
}

impl Running {
    /// Asks the core, and waits for what is durable.
    pub async fn ask(&self, command: Command) -> Result<Reply, Problem> {
        let reply = self.handle.ask(command).map_err(|why| match why {
            NotQueued::QueueFull => Problem::unavailable("too many requests wait already"),
            NotQueued::Stopping => Problem::unavailable("the message service is stopping"),
        })?;
        reply.await.map_err(|_| Problem::unavailable("the message service is stopping"))
    }

    pub(crate) async fn subscriptions(&self) -> Result<Vec<SubscriptionSeen>, Problem> {
        match self.ask(Command::Subscriptions).await? {
            Reply::Subscriptions(seen) => Ok(seen),
            other => Err(of_reply(&other)),
        }
    }

    pub(crate) async fn subscription(&self, name: &SubscriptionId) -> Result<SubscriptionSeen, Problem> {
        let seen = self.subscriptions().await?.into_iter().find(|seen| seen.name == *name);
        seen.ok_or_else(|| Problem::new(&NOT_FOUND, format!("no subscription {name}")))
    }

    /// Why it has stopped for good, if it has.
    pub fn stopped(&self) -> Option<String> {
        self.handle.stopped()
    }
}

/// The parts of the message service, as the state of a router.
#[derive(Clone)]
pub(crate) struct Parts(pub(crate) Arc<AllParts>);

pub(crate) struct AllParts {
    pub(crate) running: Arc<Running>,
    pub(crate) protection: Arc<Protection>,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) counts: Arc<ServerMetrics>,
    /// What is counted, in contrast to what is read at each scrape.
    pub(crate) counted: Registry,
}

impl FromRef<Parts> for Arc<Running> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.0.running)
    }
}

impl FromRef<Parts> for Arc<Protection> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.0.protection)
    }
}

impl FromRef<Parts> for Arc<ApiKeys> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.0.api_keys)
    }
}
