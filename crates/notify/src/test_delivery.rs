//! Test deliveries: one signed event to a subscription's endpoint at once, outside its lanes and
//! the log. It goes through the same guard, time-outs and limits of bytes as any delivery, over
//! connections of its own, spends no attempt, and tells the breaker nothing.

use crate::{
    core::SubscriptionSeen,
    courier::Secrets,
    problem::{CONFLICT, Problem, RATE_LIMITED},
    push::{Attempt, Endpoint, EndpointUrl, Failure, Message, Outcome, Pusher, Settings},
};
use contracts::SubscriptionId;
use data_encoding::HEXLOWER;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
};
use tokio::sync::Semaphore;
use units::TimeMs;
use web::{limits::Buckets, secret::random_bytes};

/// A subscription has three, and then one more every five seconds.
const EVERY_SECONDS: u32 = 5;
const BURST: u32 = 3;
const SLOTS: usize = 4096;
/// Results that are remembered for the operators' page.
const REMEMBERED_MAX: usize = 256;

/// What came of a test delivery.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Tested {
    /// The id of the event and the `webhook-id` of its delivery.
    pub(crate) id: String,
    pub(crate) at: TimeMs,
    /// Whether the endpoint answered with 2xx, which is success.
    pub(crate) delivered: bool,
    /// The HTTP status, if an answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    pub(crate) took_ms: u64,
    /// The address that was connected to, or tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// What failed, if no answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<Failed>,
    /// The beginning of the answer, or why there was none.
    pub(crate) said: String,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "TestFailure")]
pub(crate) enum Failed {
    /// The name has no address.
    Resolve,
    /// The address is not public, and in no allowed network.
    AddressRefused,
    Connect,
    Tls,
    TimedOut,
    /// No valid HTTP came back, or plain `http` is not allowed.
    Protocol,
    /// Nothing was sent: the server had no file handle, port or memory for it.
    Shortage,
}

impl Failed {
    fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Resolve(_) => Self::Resolve,
            Failure::AddressRefused(_) => Self::AddressRefused,
            Failure::Connect(_) => Self::Connect,
            Failure::Tls(_) => Self::Tls,
            Failure::TimedOut(_) => Self::TimedOut,
            Failure::Protocol(_) => Self::Protocol,
            Failure::Shortage(_) => Self::Shortage,
        }
    }
}

/// Makes test deliveries.
#[derive(Debug)]
pub(crate) struct Tester {
    pusher: Pusher,
    of_tenants: Pusher,
    places: Semaphore,
    rates: Buckets,
    results: Mutex<VecDeque<(SubscriptionId, Tested)>>,
}

impl Tester {
    /// So many at once, over all subscriptions, beside the deliveries and with their settings.
    /// Connections are not kept: a test is to see what a new one meets.
    pub(crate) fn new(
        deliveries: &Pusher,
        settings: Settings,
        of_tenants: Settings,
        at_once_max: usize,
    ) -> io::Result<Self> {
        let with =
            |settings: Settings| Settings { connections_each_max: at_once_max, idle_ms: 0, ..settings };
        Ok(Self {
            pusher: deliveries.beside(with(settings))?,
            of_tenants: deliveries.beside(with(of_tenants))?,
            places: Semaphore::new(at_once_max),
            rates: Buckets::slow(EVERY_SECONDS, BURST, SLOTS),
            results: Mutex::default(),
        })
    }

    /// Sends a test event to the subscription's endpoint, whatever state the subscription is in.
    pub(crate) async fn deliver(
        &self,
        to: &SubscriptionSeen,
        secrets: &Secrets,
        now: TimeMs,
    ) -> Result<Tested, Problem> {
        let SubscriptionSeen { number, name, spec, signing, .. } = to;
        let Some(url) = &spec.url else {
            let why =
                format!("subscription {name} has no endpoint: its consumers pull, and nothing is posted");
            return Err(Problem::new(&CONFLICT, why));
        };
        let url: EndpointUrl = url.parse().map_err(|e| Problem::new(&CONFLICT, format!("url: {e}")))?;
        let hash = blake3::hash(name.as_str().as_bytes());
        let key = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.rates.take(key, now.0).map_err(|wait| {
            let why = format!("subscription {name}: a test delivery every {EVERY_SECONDS} s is the most");
            Problem::new(&RATE_LIMITED, why).retry_after(wait)
        })?;
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| Problem::unavailable("too many test deliveries are on their way already"))?;
        let random = random_bytes::<16>().map_err(|error| {
            tracing::error!(%error, "no random bytes");
            Problem::internal()
        })?;
        let id = format!("test_{}", HEXLOWER.encode(&random));
        let event = json!({
            "specversion": "1.0", "id": id, "source": "/floodgate/test", "type": "floodgate.test",
            "subject": name, "time": now, "datacontenttype": "application/json",
            "data": { "subscription": name, "topic": spec.topic },
        });
        let message = Message {
            id: id.clone(),
            content_type: "application/cloudevents+json",
            body: event.to_string().into(),
            headers: Vec::new(),
        };
        let endpoint = Endpoint { url, secrets: secrets.at(now, *number, *signing) };
        let pusher = if name.is_of_tenant() { &self.of_tenants } else { &self.pusher };
        let tested = tested(id, now, pusher.push(&endpoint, &message, now).await);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.retain(|(of, _)| of != name);
        results.truncate(REMEMBERED_MAX - 1);
        results.push_front((name.clone(), tested.clone()));
        Ok(tested)
    }

    /// What came of the last one to this subscription, if it is still known.
    pub(crate) fn last(&self, name: &SubscriptionId) -> Option<Tested> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.iter().find(|(of, _)| of == name).map(|(_, tested)| tested.clone())
    }
}

fn tested(id: String, at: TimeMs, attempt: Attempt) -> Tested {
    let Attempt { outcome, took, address, excerpt } = attempt;
    let (status, failed, said) = match outcome {
        Outcome::Accepted { status } | Outcome::Refused { status, .. } => (Some(status), None, excerpt),
        Outcome::Failed(failure) => (None, Some(Failed::of(&failure)), failure.to_string()),
    };
    Tested {
        id,
        at,
        delivered: matches!(status, Some(200..=299)),
        status,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        address: address.map(|address| address.to_string()),
        failed,
        said,
    }
}
