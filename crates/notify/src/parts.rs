//! The parts of the message service. A handler takes only those that it uses.

use crate::{
    bodies::{LogReader, Reading, Stored},
    core::{Command, Notify, Reply, ScheduleSeen, SubscriptionSeen},
    courier::Secrets,
    problem::{Problem, of_reply},
    pulls::Pulls,
    quotas::Quotas,
    streams::Streams,
    test_delivery::Tester,
};
use axum::extract::FromRef;
use contracts::{ScheduleId, SubscriptionId, TopicId};
use engines::log::LogError;
use runtime::{Handle, NotQueued};
use serde_json::value::RawValue;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Notify as Wanted, oneshot};
use units::Sequence;
use web::{
    api_keys::ApiKeys,
    metrics::{Registry, ServerMetrics},
    protection::Protection,
};

/// The running message service, for callers in this process.
#[derive(Debug)]
pub struct Running {
    pub(crate) handle: Handle<Notify>,
    reader: LogReader,
    pub(crate) secrets: Secrets,
    /// Topics to which only callers in this process post.
    pub(crate) reserved: Vec<TopicId>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) streams: Streams,
    pub(crate) pulls: Pulls,
    /// Told when a subscription may begin with earlier events.
    pub(crate) fills: Wanted,
    pub(crate) tester: Tester,
    /// Held while a tenant makes a topic, a subscription or a schedule, so that it makes no more
    /// than it may.
    pub(crate) makes: Mutex<()>,
    /// Held while a schedule is judged.
    pub(crate) judges: Mutex<()>,
    lately: Mutex<Option<(Instant, Arc<Vec<SubscriptionSeen>>)>>,
}

/// Subscriptions of one answer, at the most.
pub(crate) const PAGE_MAX: usize = 500;
/// Bytes of events after which an answer takes no further one.
const EVENTS_BYTES_MAX: usize = 2 << 20;
const LATELY: Duration = Duration::from_secs(1);

impl Running {
    pub(crate) fn new(
        handle: Handle<Notify>,
        reader: LogReader,
        secrets: Secrets,
        reserved: Vec<TopicId>,
        quotas: Arc<Quotas>,
        streams: Streams,
        tester: Tester,
    ) -> Self {
        Self {
            handle,
            reader,
            secrets,
            reserved,
            quotas,
            streams,
            pulls: Pulls::default(),
            fills: Wanted::default(),
            tester,
            makes: Mutex::default(),
            judges: Mutex::default(),
            lately: Mutex::default(),
        }
    }

    /// The events of these entries, as they were posted, as far as they fit into one answer. They
    /// are not parsed: what is JSON need not be what a parser takes (numbers, depth, surrogates).
    pub(crate) async fn events(
        &self,
        sequences: Vec<Sequence>,
    ) -> Result<Vec<Option<Box<RawValue>>>, Problem> {
        let read = self.read(move |reading| {
            let mut bytes = 0;
            sequences
                .into_iter()
                .map_while(|sequence| {
                    let event = (bytes < EVENTS_BYTES_MAX).then(|| reading.event(sequence))?;
                    bytes +=
                        event.as_ref().ok().and_then(Option::as_ref).map_or(0, |stored| stored.body.len());
                    Some(event)
                })
                .collect::<Result<Vec<Option<Stored>>, LogError>>()
        });
        let parse =
            |stored: Option<Stored>| stored.and_then(|stored| serde_json::from_slice(&stored.body).ok());
        Ok(read.await?.into_iter().map(parse).collect())
    }

    /// Reads the log.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reading) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, Problem> {
        read_with(&self.reader, read).await
    }

    /// Reads the log for a stream.
    pub(crate) async fn read_for_stream<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reading) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, Problem> {
        read_with(&self.streams.reader, read).await
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

    /// Those whose names come after this one, so many at the most.
    pub(crate) async fn schedules(
        &self,
        after: Option<ScheduleId>,
        at_most: usize,
    ) -> Result<Vec<ScheduleSeen>, Problem> {
        match self.ask(Command::Schedules { after, at_most }).await? {
            Reply::Schedules(seen) => Ok(seen),
            other => Err(of_reply(&other)),
        }
    }

    pub(crate) async fn schedule(&self, name: &ScheduleId) -> Result<ScheduleSeen, Problem> {
        match self.ask(Command::Schedule(name.clone())).await? {
            Reply::Schedules(mut seen) => seen.pop().ok_or_else(Problem::internal),
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
        let seen = Arc::new(self.all_subscriptions().await?);
        *lately = Some((Instant::now(), Arc::clone(&seen)));
        Ok(seen)
    }

    /// All of them, page by page.
    pub(crate) async fn all_subscriptions(&self) -> Result<Vec<SubscriptionSeen>, Problem> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|seen: &SubscriptionSeen| seen.name.clone());
            let more = self.subscriptions(after, PAGE_MAX).await?;
            let is_last = more.len() < PAGE_MAX;
            all.extend(more);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Why it has stopped for good, if it has.
    pub fn stopped(&self) -> Option<String> {
        self.handle.stopped()
    }
}

async fn read_with<T: Send + 'static>(
    reader: &LogReader,
    read: impl FnOnce(&mut Reading) -> Result<T, LogError> + Send + 'static,
) -> Result<T, Problem> {
    let (tell, told) = oneshot::channel();
    reader.ask(move |reading| drop(tell.send(read(reading))));
    let read = told.await.map_err(|_| Problem::unavailable("too much is read from the log already"))?;
    read.map_err(|error| {
        tracing::warn!(%error, "the message service's log cannot be read");
        Problem::unavailable("the log cannot be read at the moment")
    })
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
