//! What all handlers share, and the checks that stand before most of them.

use crate::{
    challenge::Challenges,
    config::Config,
    filter::{self, Filter},
    front::{Front, Fronts},
    keys::Keyring,
    metrics::Metrics,
    outcome,
    pass::{self, Pass},
    ports::{Reply, Sales},
    problem::{self, Problem},
    strategy::Strategy,
};
use axum::body::{Body, Bytes};
use contracts::{Answer, GateRefusal, Refusal, Told};
use http::HeaderMap;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use units::TimeMs;
use web::{
    api_keys::ApiKeys,
    body::clip,
    jwt::JwtVerifier,
    limits::{Share, Shares, TooMany},
    protection::Protection,
    server::Peer,
};

/// The header that carries the pass.
pub(crate) const PASS_HEADER: &str = "floodgate-pass";

/// The gate.
pub struct Gate {
    pub(crate) config: Config,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) jwt: JwtVerifier,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) sales: Arc<dyn Sales>,
    pub(crate) demo: bool,
    pub(crate) challenges: Challenges,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Semaphore>,
    shopper_events: Arc<Shares>,
    address_events: Arc<Shares>,
    pub(crate) protection: Arc<Protection>,
    fronts: Fronts,
    pub(crate) filter: Filter,
    pub(crate) strategy: Arc<Strategy>,
}

/// What a gate is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) sales: Arc<dyn Sales>,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) jwt: JwtVerifier,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) challenges: Challenges,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) strategy: Arc<Strategy>,
    pub(crate) protection: Arc<Protection>,
    pub(crate) demo: bool,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("demo", &self.demo).finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, sales, keys, jwt, api_keys, challenges, metrics, strategy, protection, demo } =
            parts;
        let filter = Filter::new(&config.limits, &config.risk, Arc::clone(&protection.addresses));
        Self {
            events: Arc::new(Semaphore::new(config.connections.events_max)),
            shopper_events: Arc::default(),
            address_events: Arc::default(),
            fronts: Fronts::default(),
            filter,
            config,
            keys,
            jwt,
            api_keys,
            sales,
            demo,
            metrics,
            strategy,
            challenges,
            protection,
        }
    }

    /// Whether visitors are made shoppers and payment is a sandbox: in a demo, and there for the
    /// sale `demo` alone.
    pub(crate) fn is_demo(&self, sale: &str) -> bool {
        self.demo && sale == "demo"
    }

    pub(crate) fn now(&self) -> TimeMs {
        self.sales.now()
    }

    pub(crate) fn decision_wait(&self) -> Duration {
        Duration::from_millis(self.config.decision_wait_ms)
    }

    /// The sale of this name, or 404.
    pub(crate) fn front(&self, sale: &str) -> Result<Arc<Front>, Problem> {
        self.fronts
            .get(&self.keys, &*self.sales, sale)
            .ok_or_else(|| Problem::new(&problem::NOT_FOUND, format!("no sale {:?}", clip(sale))))
    }

    /// Lets a shopper follow an attempt, if the shopper and the address do not follow too many
    /// already: neither may have all streams that there are.
    pub(crate) fn admit_stream(&self, peer: Peer, pass: &Pass) -> Result<StreamPermit, Problem> {
        let full = |whose: &str| {
            let why = format!("{whose}: ask for the attempt itself instead, every few seconds");
            Problem::new(&problem::QUEUE_FULL, why).retry_after(5)
        };
        let max = &self.config.connections;
        let shopper = self
            .shopper_events
            .take(pass.shopper.low_bits(), max.events_per_shopper_max)
            .ok_or_else(|| full("too many event streams of this shopper"))?;
        let address = match self.protection.addresses.is_exempt(peer.0) {
            true => None,
            false => Some(
                self.address_events
                    .take(self.protection.addresses.address_key(peer.0), max.events_per_address_max)
                    .ok_or_else(|| full("too many event streams of this address"))?,
            ),
        };
        let of_all = Arc::clone(&self.events).try_acquire_owned();
        let of_all = of_all.map_err(|_| full("too many event streams"))?;
        Ok(StreamPermit { _shopper: shopper, _address: address, _of_all: of_all })
    }

    /// Lets an address ask, or says when it may again.
    pub(crate) fn admit_address(&self, peer: Peer) -> Result<(), Problem> {
        self.admit_address_at(peer, self.now())
    }

    /// The same for who has read the clock: a request of the crowd reads it once.
    pub(crate) fn admit_address_at(&self, peer: Peer, now: TimeMs) -> Result<(), Problem> {
        self.filter.address(peer.0, self.strategy.tokens_factor(), now).map_err(|too_many| {
            limited("too many requests from this address or its network: wait as Retry-After says", too_many)
        })
    }

    /// Lets a shopper attempt, or says when they may again.
    pub(crate) fn admit_shopper(&self, pass: &Pass, now: TimeMs) -> Result<(), Problem> {
        self.filter.shopper(pass.shopper, now).map_err(|too_many| {
            limited("too many attempts by this shopper: wait as Retry-After says", too_many)
        })
    }

    /// Counts what a shopper was told without the sale being asked.
    pub(crate) fn note_alone(&self, pass: &Pass, said: &GateRefusal) {
        self.metrics.answered_alone(outcome::label(&Told::Answer(said.answer())));
        if let GateRefusal::NotEligible(said) = said {
            self.filter.note_shopper(pass.shopper, filter::reason_of(said.by), self.now());
        }
    }

    /// The same of what the sale has told them itself, where the rule can be seen.
    pub(crate) fn note_answer(&self, front: &Front, pass: &Pass, told: &Told) {
        self.metrics.answered(outcome::label(told));
        if let Told::Answer(Answer::Refused { refusal: Refusal::NotEligible, .. }) = told
            && let Some(by) = front.sale.view().ineligible_by(pass.shopper, pass.tier)
        {
            self.filter.note_shopper(pass.shopper, filter::reason_of(by), self.now());
        }
    }

    /// Lets a shopper make or give up a reservation, or says when they may again.
    pub(crate) fn admit_reservation(&self, pass: &Pass) -> Result<(), Problem> {
        self.filter.reservation(pass.shopper, self.now()).map_err(|too_many| {
            limited("too many changes of this reservation: wait as Retry-After says", too_many)
        })
    }

    /// The pass that the request carries.
    pub(crate) fn pass(&self, headers: &HeaderMap, sale: &str) -> Result<Pass, Problem> {
        self.verify_pass(headers.get(PASS_HEADER).map(http::HeaderValue::as_bytes), sale, self.now())
    }

    /// The pass in a field, if it is good.
    pub(crate) fn verify_pass(&self, field: Option<&[u8]>, sale: &str, now: TimeMs) -> Result<Pass, Problem> {
        let text = field.ok_or_else(|| {
            let why = "no Floodgate-Pass: POST /api/v1/sales/{sale}/passes gives one";
            Problem::new(&problem::PASS_MISSING, why)
        })?;
        pass::verify(&self.keys, text, sale, now)
            .map_err(|error| Problem::new(&problem::PASS_REFUSED, error.advice()))
    }

    /// Reads a whole body of at most `bytes_max`.
    pub(crate) async fn body(&self, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
        let limit = Duration::from_secs(self.protection.settings.body_timeout_seconds);
        web::body::read(body, bytes_max, limit).await
    }
}

fn limited(why: &'static str, too_many: TooMany) -> Problem {
    Problem::new(&problem::RATE_LIMITED, why).retry_after(too_many.wait_seconds)
}

/// One event stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    _shopper: Share,
    _address: Option<Share>,
    _of_all: OwnedSemaphorePermit,
}

/// Waits for a reply of the sale.
pub(crate) async fn reply<T>(reply: Reply<T>) -> Result<T, Problem> {
    match reply.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(unavailable)) => Err(problem::of_unavailable(unavailable)),
        Err(_) => Err(Problem::unavailable("the sale is stopping")),
    }
}
