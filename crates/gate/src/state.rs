//! What all handlers share, and the checks that stand before most of them.

use crate::{
    admin::keys::ApiKeys,
    api::Asked,
    challenge::Challenges,
    config::Config,
    cors::Cors,
    filter::{Filter, Share, Shares, TooMany},
    front::{Front, Fronts},
    jwt::JwtVerifier,
    keys::Keyring,
    metrics::Metrics,
    pass::{self, Pass},
    ports::{Reply, Sales},
    pressure::Pressure,
    problem::{Kind, Problem},
    server::Options,
    strategy::Strategy,
};
use axum::body::{Body, Bytes, to_bytes};
use contracts::{Answer, GateRefusal, Refusal};
use http::{HeaderMap, header};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use units::TimeMs;

/// The header that carries the pass.
pub(crate) const PASS_HEADER: &str = "floodgate-pass";

/// The address that a request came from, after trusted proxies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The gate.
pub(crate) struct Gate {
    pub(crate) config: Config,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) jwt: JwtVerifier,
    pub(crate) api_keys: Arc<ApiKeys>,
    pub(crate) sales: Arc<dyn Sales>,
    pub(crate) demo: bool,
    pub(crate) challenges: Challenges,
    pub(crate) metrics: Metrics,
    pub(crate) events: Arc<Semaphore>,
    shopper_events: Arc<Shares>,
    address_events: Arc<Shares>,
    /// True once the server drains.
    pub(crate) draining: watch::Receiver<bool>,
    fronts: Fronts,
    pub(crate) filter: Filter,
    pub(crate) cors: Cors,
    pub(crate) pressure: Pressure,
    pub(crate) strategy: Strategy,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("demo", &self.demo).finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(options: Options, draining: watch::Receiver<bool>) -> Self {
        let Options {
            config,
            sales,
            keys,
            jwt,
            api_keys,
            challenges,
            denied,
            memory,
            strategy,
            demo,
            part: _,
        } = options;
        Self {
            cors: Cors::new(&config.allowed_origins),
            filter: Filter::new(&config.limits, &config.risk, config.connections.open_max, demo, denied),
            pressure: Pressure::new(
                memory,
                config.connections.memory_mark_percent,
                config.connections.open_max,
            ),
            events: Arc::new(Semaphore::new(config.connections.events_max)),
            shopper_events: Arc::default(),
            address_events: Arc::default(),
            metrics: Metrics::new(),
            fronts: Fronts::default(),
            config,
            keys,
            jwt,
            api_keys,
            sales,
            demo,
            strategy,
            challenges,
            draining,
        }
    }

    /// Whether visitors are made shoppers and payment is a sandbox: in a demo, and there for the sale `demo` alone.
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
            .ok_or_else(|| Problem::new(Kind::NotFound, format!("no sale {:?}", clip(sale))))
    }

    /// Lets a shopper follow an attempt, if the shopper and the address do not follow too many already: neither may have all
    /// streams that there are.
    pub(crate) fn admit_stream(&self, peer: Peer, pass: &Pass) -> Result<StreamPermit, Problem> {
        let full = |whose: &str| {
            let why = format!("{whose}: ask for the attempt itself instead, every few seconds");
            Problem::new(Kind::QueueFull, why).retry_after(5)
        };
        let max = &self.config.connections;
        let shopper = self
            .shopper_events
            .take(pass.shopper.low_bits(), max.events_per_shopper_max)
            .ok_or_else(|| full("too many event streams of this shopper"))?;
        let address = match self.filter.is_exempt(peer.0) {
            true => None,
            false => Some(
                self.address_events
                    .take(self.filter.address_key(peer.0), max.events_per_address_max)
                    .ok_or_else(|| full("too many event streams of this address"))?,
            ),
        };
        let of_all = Arc::clone(&self.events).try_acquire_owned();
        let of_all = of_all.map_err(|_| full("too many event streams"))?;
        Ok(StreamPermit { _shopper: shopper, _address: address, _of_all: of_all })
    }

    /// Refuses an address that an operator has shut out.
    pub(crate) fn refuse_denied(&self, address: IpAddr) -> Result<(), Problem> {
        if !self.filter.is_denied(address) {
            return Ok(());
        }
        let why = "this address, or its network, is shut out by an operator: use another network, or write to the shop";
        Err(Problem::new(Kind::AddressDenied, why))
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
        self.metrics.answered_alone(Asked::Answered(said.answer()).as_str());
        if let GateRefusal::NotEligible(said) = said {
            self.filter.note_shopper(pass.shopper, said.by.into(), self.now());
        }
    }

    /// The same of what the sale has told them itself, where the rule can be seen.
    pub(crate) fn note_answer(&self, front: &Front, pass: &Pass, asked: &Asked) {
        self.metrics.answered(asked.as_str());
        if let Asked::Answered(Answer::Refused { refusal: Refusal::NotEligible, .. }) = asked
            && let Some(by) = front.sale.view().ineligible_by(pass.shopper, pass.tier)
        {
            self.filter.note_shopper(pass.shopper, by.into(), self.now());
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
            Problem::new(Kind::PassMissing, why)
        })?;
        pass::verify(&self.keys, text, sale, now)
            .map_err(|error| Problem::new(Kind::PassRefused, error.advice()))
    }

    /// Who asks: the peer, or whom a trusted proxy names. `forwarded` are the X-Forwarded-For fields, last to first.
    pub(crate) fn believed_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl Iterator<Item = &'a [u8]>,
    ) -> IpAddr {
        if !self.filter.is_trusted(peer) {
            return peer;
        }
        // From the right, where the proxies wrote. What is not an address was not written by one of ours, and what stands left
        // of it was written by whoever likes.
        let mut believed = peer;
        for field in forwarded {
            for named in std::str::from_utf8(field).unwrap_or("?").rsplit(',') {
                let Some(address) = forwarded_address(named.trim()) else { return believed };
                believed = address;
                if !self.filter.is_trusted(address) {
                    return address;
                }
            }
        }
        believed
    }

    /// Reads a whole body of at most `bytes_max`.
    pub(crate) async fn body(&self, body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
        let limit = Duration::from_secs(self.config.connections.body_timeout_seconds);
        match tokio::time::timeout(limit, to_bytes(body, bytes_max)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(e)) if is_length_limit(&e) => {
                Err(Problem::new(Kind::BodyTooLarge, format!("body: more than {bytes_max} bytes")))
            }
            Ok(Err(e)) => Err(Problem::new(Kind::BadRequest, format!("body: {e}"))),
            Err(_) => {
                Err(Problem::new(Kind::BodyTimeout, format!("body: not here within {} s", limit.as_secs())))
            }
        }
    }
}

fn limited(why: &'static str, too_many: TooMany) -> Problem {
    Problem::new(Kind::RateLimited, why).retry_after(too_many.wait_seconds)
}

/// One event stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    _shopper: Share,
    _address: Option<Share>,
    _of_all: OwnedSemaphorePermit,
}

/// `203.0.113.9`, `203.0.113.9:5100`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5100`.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        if e.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = e.source();
    }
    false
}

/// Waits for a reply of the sale.
pub(crate) async fn reply<T>(reply: Reply<T>) -> Result<T, Problem> {
    match reply.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(unavailable)) => Err(unavailable.into()),
        Err(_) => Err(Problem::unavailable("the sale is stopping")),
    }
}

/// Refuses a body of another type. Parameters such as `charset=utf-8` may follow.
pub(crate) fn want_media_type(headers: &HeaderMap, want: &'static str) -> Result<(), Problem> {
    check_media_type(headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes), want)
}

/// The same, of the field alone.
pub(crate) fn check_media_type(field: Option<&[u8]>, want: &'static str) -> Result<(), Problem> {
    let got = field.and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let essence = got.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(want) {
        return Ok(());
    }
    Err(Problem::new(Kind::MediaType, format!("Content-Type {:?}: want {want}", clip(got))))
}

/// A stranger's text, short enough to be repeated.
pub(crate) fn clip(text: &str) -> &str {
    let end = (0..=text.len().min(60)).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or_default()]
}

/// Ready once the server drains.
pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|d| *d).await;
}
