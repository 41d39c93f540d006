//! Delivers one message to one HTTP endpoint, once. It decides neither whether to try again nor
//! when: the outcome says what a caller needs for that.
//!
//! Messages are signed as Standard Webhooks 1.0.0 has it (<https://www.standardwebhooks.com>).
//! Deliveries are at least once: an endpoint knows a repeated message by its `webhook-id`.
//! Redirects are never followed, as they could lead around the guard of addresses: a 3xx is
//! [`Outcome::Refused`].

mod connection;
mod dial;
mod guard;
mod pool;
mod request;
mod response;
mod secret;
mod shortage;
mod url;

pub use hyper::body::Bytes;
pub use ipnet::IpNet;
pub use secret::Secret;
pub use url::EndpointUrl;

use connection::Connection;
use dial::Dialer;
use guard::Guard;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use pool::{Budget, Pool, Pools};
use std::{fmt, io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use units::TimeMs;

/// Secrets of an endpoint that sign: room for a rotation in which receivers change over slowly.
pub const SECRETS_MAX: usize = 4;

/// How messages are delivered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Milliseconds for TCP to connect, over all addresses of a name, and once more for TLS.
    pub connect_ms: u64,
    /// Milliseconds for an attempt, with all that it waits for.
    pub total_ms: u64,
    /// Bytes of a response's body that are read. A connection with a longer one is closed.
    pub response_bytes_max: usize,
    /// Bytes of a response's body that are reported.
    pub excerpt_bytes_max: usize,
    /// Connections to one origin (scheme, host and port) that are open at once.
    pub connections_each_max: usize,
    /// Connections that are open at once, over all that share them.
    pub connections_max: usize,
    /// Looks for names that run at once, over all that share them, each with some files open, and
    /// on a thread of tokio's blocking pool, which has 512 threads for all that block.
    pub looks_max: usize,
    /// Milliseconds that a connection is kept open unused.
    pub idle_ms: u64,
    /// Networks that may be delivered to although they are not public, also by plain `http`.
    pub allowed_networks: Vec<IpNet>,
    /// Whether plain `http` to public addresses is allowed.
    pub http_allowed: bool,
    /// Whether a failure tells a name without an address from one that leads where nothing may be
    /// delivered, and which address that is. Those who may not know the network are told neither.
    pub names_addresses: bool,
    /// A file of root certificates, in PEM, which are trusted besides the machine's.
    pub roots: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            total_ms: 15_000,
            response_bytes_max: 64 * 1024,
            excerpt_bytes_max: 512,
            connections_each_max: 64,
            connections_max: 2_048,
            looks_max: 64,
            idle_ms: 30_000,
            allowed_networks: Vec::new(),
            http_allowed: false,
            names_addresses: true,
            roots: None,
        }
    }
}

impl Settings {
    fn check(&self) -> Result<(), String> {
        for (name, value, least, most) in [
            ("connect_ms", self.connect_ms, 1, 600_000),
            ("total_ms", self.total_ms, 1, 600_000),
            ("response_bytes_max", self.response_bytes_max as u64, 0, 16 * 1024 * 1024),
            ("excerpt_bytes_max", self.excerpt_bytes_max as u64, 0, 64 * 1024),
            ("connections_each_max", self.connections_each_max as u64, 1, 65_536),
            ("connections_max", self.connections_max as u64, 1, 65_536),
            ("looks_max", self.looks_max as u64, 1, 256),
            ("idle_ms", self.idle_ms, 0, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} {value}: want {least} to {most}"));
            }
        }
        Ok(())
    }
}

/// Where messages go.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The URL that each message is posted to.
    pub url: EndpointUrl,
    /// The newest first. Each signs, the first [`SECRETS_MAX`] of them; without any, a message has
    /// no signature.
    pub secrets: Vec<Secret>,
}

/// What is delivered.
#[derive(Debug, Clone)]
pub struct Message {
    /// The same at each attempt: 1 to 256 visible characters of ASCII, without a full stop.
    pub id: String,
    /// Such as `application/json`.
    pub content_type: &'static str,
    /// What is signed.
    pub body: Bytes,
    /// Further headers. Those that the push sets itself, and those of the connection, such as
    /// `transfer-encoding`, are left out.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The report of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The address that was last connected to, or tried.
    pub address: Option<IpAddr>,
    /// The beginning of the response's body, as text without control characters: at most
    /// `excerpt_bytes_max` bytes.
    pub excerpt: String,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has the message: a status of 2xx, whatever became of the response's body.
    Accepted { status: u16 },
    /// Any other status. `retry_after` is what the endpoint asks for, a day at most.
    Refused { status: u16, retry_after: Option<Duration> },
    /// There was no response. The endpoint may have the message all the same.
    Failed(Failure),
}

/// Why there was no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The name has no address, or its name server does not answer.
    Resolve(String),
    /// All addresses of the name are private or reserved; this is the first one.
    AddressRefused(IpAddr),
    /// No connection.
    Connect(String),
    /// No TLS: such as a certificate that has expired, or is for another name.
    Tls(String),
    /// No time was left in this phase: `resolve`, `wait for a connection`, `connect`,
    /// `tls handshake` or `response`, which begins with the request.
    TimedOut(&'static str),
    /// The connection closed early, no valid HTTP/1.1 came back, or the message cannot be sent as
    /// HTTP or over plain `http`.
    Protocol(String),
    /// Nothing was sent: this machine had no file handle, port or memory for it. That says nothing
    /// about the endpoint.
    Shortage(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(why) => write!(f, "resolve {why}"),
            Self::AddressRefused(ip) => write!(f, "address {ip}: not public, and in no allowed network"),
            Self::Connect(why) => write!(f, "connect to {why}"),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::TimedOut(phase) => write!(f, "{phase}: timed out"),
            Self::Protocol(why) | Self::Shortage(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// Delivers messages, and keeps connections open between them.
pub struct Pusher {
    dialer: Dialer,
    pools: Arc<Pools>,
    total: Duration,
    response_bytes_max: usize,
    excerpt_bytes_max: usize,
    names_addresses: bool,
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").field("guard", &self.dialer.guard).finish_non_exhaustive()
    }
}

impl Pusher {
    /// Reads the root certificates; it blocks for some milliseconds. The error names the setting or
    /// the file, and what to do.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let budget = Arc::new(Budget::new(settings.connections_max));
        Self::within(settings, budget)
    }

    /// One for other callers, which uses none of this one's connections. Both together have open
    /// what this one may have: its `connections_max` holds, and not that of `settings`.
    pub fn beside(&self, settings: Settings) -> io::Result<Self> {
        Self::within(settings, Arc::clone(&self.pools.budget))
    }

    fn within(settings: Settings, budget: Arc<Budget>) -> io::Result<Self> {
        settings.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let guard =
            Guard { allowed_networks: settings.allowed_networks, http_allowed: settings.http_allowed };
        let connect_max = Duration::from_millis(settings.connect_ms);
        let response_bytes_max = settings.response_bytes_max;
        let dialer = Dialer::new(
            guard,
            connect_max,
            response_bytes_max,
            settings.looks_max,
            settings.roots.as_deref(),
        )?;
        let idle_max = Duration::from_millis(settings.idle_ms);
        let pools = Pools::new(budget, settings.connections_each_max, idle_max);
        Ok(Self {
            dialer,
            pools,
            total: Duration::from_millis(settings.total_ms),
            response_bytes_max,
            excerpt_bytes_max: settings.excerpt_bytes_max,
            names_addresses: settings.names_addresses,
        })
    }

    /// Posts a message, signed with this time, and waits for the response: `total_ms` at most. All
    /// calls are made within one runtime of tokio. If the future is dropped, its connection closes;
    /// the endpoint may have the message.
    ///
    /// A connection from an earlier message may have been closed by the endpoint in the meantime.
    /// If it ends before a byte of the response has come, the message is sent once more, on a new
    /// connection. The endpoint may then have it twice, as after any other repeat.
    pub async fn push(&self, endpoint: &Endpoint, message: &Message, now: TimeMs) -> Attempt {
        let started = Instant::now();
        let mut push = Push {
            pusher: self,
            endpoint,
            now,
            deadline: started + self.total,
            address: None,
            excerpt: String::new(),
        };
        let outcome = push.run(message).await.unwrap_or_else(|failure| {
            Outcome::Failed(match failure {
                Failure::Resolve(_) | Failure::AddressRefused(_) if !self.names_addresses => {
                    Failure::Resolve("the name: it has no address to which deliveries may go".into())
                }
                failure => failure,
            })
        });
        Attempt { outcome, took: started.elapsed(), address: push.address, excerpt: push.excerpt }
    }
}

/// One attempt under way.
struct Push<'a> {
    pusher: &'a Pusher,
    endpoint: &'a Endpoint,
    now: TimeMs,
    deadline: Instant,
    address: Option<IpAddr>,
    excerpt: String,
}

/// Why a connection gave no response.
enum Lost {
    /// It ended before a byte of the response.
    Unanswered(String),
    Failed(Failure),
}

impl Push<'_> {
    async fn run(&mut self, message: &Message) -> Result<Outcome, Failure> {
        let Pusher { dialer, pools, .. } = self.pusher;
        let (url, deadline) = (&self.endpoint.url, self.deadline);
        let request = request::build(self.endpoint, message, self.now)?;
        let pool = pools.of(url.origin());
        let slot = timed(deadline, "wait for a connection", pool.slots.acquire()).await?;
        let _slot = slot.expect("the semaphore is never closed");
        let request = match pool.take().await {
            None => request,
            Some(kept) => match self.exchange(&pool, kept, request).await {
                Ok(outcome) => return Ok(outcome),
                Err(Lost::Failed(failure)) => return Err(failure),
                // Built again, so that the usual message is not copied for the rare repeat.
                Err(Lost::Unanswered(_)) => request::build(self.endpoint, message, self.now)?,
            },
        };
        let fresh = dialer.open(pools, &pool, url, deadline, &mut self.address).await?;
        self.exchange(&pool, Box::new(fresh), request).await.map_err(|lost| match lost {
            Lost::Unanswered(why) => Failure::Protocol(why),
            Lost::Failed(failure) => failure,
        })
    }

    /// Sends the request and reads the response. The connection is kept if it can be used again.
    async fn exchange(
        &mut self,
        pool: &Pool,
        mut connection: Box<Connection>,
        request: Request<Full<Bytes>>,
    ) -> Result<Outcome, Lost> {
        let Pusher { pools, response_bytes_max, excerpt_bytes_max, .. } = self.pusher;
        self.address = Some(connection.address());
        let sent = timed(self.deadline, "response", connection.send(request)).await.map_err(Lost::Failed)?;
        let response = sent.map_err(|lost| match lost.is_unanswered {
            true => Lost::Unanswered(lost.reason),
            false => Lost::Failed(Failure::Protocol(lost.reason)),
        })?;
        let (head, body) = response.into_parts();
        let mut kept = Vec::new();
        // The status is the answer. A body that takes too long changes nothing about it: the
        // message would only be sent again to an endpoint that has it.
        let body = connection.read_body(body, *response_bytes_max, &mut kept, *excerpt_bytes_max);
        let is_whole = timeout_at(self.deadline, body).await.unwrap_or(false);
        self.excerpt = response::excerpt(&kept, *excerpt_bytes_max);
        let is_http = head.status != StatusCode::SWITCHING_PROTOCOLS;
        if is_whole && is_http && connection.is_ready().await {
            pools.keep(pool, connection);
        }
        Ok(response::outcome(head.status, &head.headers, self.now))
    }
}

/// Waits for a phase, until the deadline.
async fn timed<T>(
    deadline: Instant,
    phase: &'static str,
    wait: impl Future<Output = T>,
) -> Result<T, Failure> {
    timeout_at(deadline, wait).await.map_err(|_| Failure::TimedOut(phase))
}
