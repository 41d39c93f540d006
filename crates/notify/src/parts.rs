//! The parts of the message service. A handler takes only those that it uses.

use crate::{
    core::{Command, Notify, Reply, SubscriptionSeen},
    courier::Secrets,
    problem::{Problem, of_reply},
};
use axum::extract::FromRef;
use contracts::{SubscriptionId, TopicId};
use runtime::{Handle, NotQueued};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
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
    lately: Mutex<Option<(Instant, Arc<Vec<SubscriptionSeen>>)>>,
}

/// Subscriptions of one answer, at the most.
pub(crate) const PAGE_MAX: usize = 500;
const LATELY: Duration = Duration::from_secs(1);

impl Running {
    pub(crate) fn new(handle: Handle<Notify>, secrets: Secrets, reserved: Vec<TopicId>) -> Self {
        Self { handle, secrets, reserved, lately: Mutex::default() }
    }

    /// Asks the core, and waits for what is durable.
    pub async fn ask(&self, command: Command) -> Result<Reply, Problem> {
        let reply = self.handle.ask(command).map_err(|why| match why {
            NotQueued::QueueFull => Problem::unavailable("too many requests wait already"),
            NotQueued::Stopping => Problem::unavailable("the message service is stopping"),
        })?;
        reply.await.map_err(|_| Problem::unavailable("the message service is stopping"))
    }

    /// Those whose names come after this one, so many at the most.
    pub(crate) async fn subscriptions(
        &self,
        after: Option<SubscriptionId>,
        at_most: usize,
    ) -> Result<Vec<SubscriptionSeen>, Problem> {
        match self.ask(Command::Subscriptions { after, at_most }).await? {
            Reply::Subscriptions(seen) => Ok(seen),
            other => Err(of_reply(&other)),
        }
    }

    pub(crate) async fn subscription(&self, name: &SubscriptionId) -> Result<SubscriptionSeen, Problem> {
        match self.ask(Command::Subscription(name.clone())).await? {
            Reply::Subscription(seen) => Ok(*seen),
            other => Err(of_reply(&other)),
        }
    }

    /// Tells again what was told within the last second: the page of metrics is open to everybody.
    pub(crate) async fn seen_lately(&self) -> Result<Arc<Vec<SubscriptionSeen>>, Problem> {
        let mut lately = self.lately.lock().await;
        if let Some((at, seen)) = &*lately
            && at.elapsed() < LATELY
        {
            return Ok(Arc::clone(seen));
        }
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|seen: &SubscriptionSeen| seen.name.clone());
            let more = self.subscriptions(after, PAGE_MAX).await?;
            let is_last = more.len() < PAGE_MAX;
            all.extend(more);
            if is_last {
                break;
            }
        }
        let seen = Arc::new(all);
        *lately = Some((Instant::now(), Arc::clone(&seen)));
        Ok(seen)
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
