//! Calls of a context in another process: each within a time, a number of bytes, and a number at
//! once. One that is not answered may have been done or not, as one of a database may; it is not
//! sent again by itself.

use super::{KEY_FIELD, PREFIX, Part};
use contracts::store::StoreError;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use web::warning::Warning;

/// Calls of one context that are made at once, and how long one waits for its turn.
pub(super) const AT_ONCE: usize = QUICK_AT_ONCE + USUAL_AT_ONCE + SLOW_AT_ONCE;
const QUICK_AT_ONCE: usize = 40;
const USUAL_AT_ONCE: usize = 32;
const SLOW_AT_ONCE: usize = 24;
const TURN: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
/// An answer's bytes: two hundred products with the longest texts.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Connections that nothing is asked on are closed before the other side closes them.
const IDLE: Duration = Duration::from_secs(5);

/// How long a call may take. Each has turns of its own, so that calls which hang leave room for
/// those that each page makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// What each page asks, and does without if there is no answer.
    Quick,
    Usual,
    /// What asks outside, or several other contexts.
    Slow,
}

impl Pace {
    fn of(port: &str, method: &str) -> Self {
        match (port, method) {
            ("accounts", "session") | ("carts", "units") | ("catalog", "categories") | ("stock", "shown") => {
                Self::Quick
            }
            ("provider", _) | ("carts", "change" | "check_out") | ("payments", "start") => Self::Slow,
            _ => Self::Usual,
        }
    }

    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Quick => 3,
            Self::Usual => 30,
            // A provider of identities may take 50.
            Self::Slow => 60,
        })
    }
}

/// A context of the store in another process.
pub(in crate::store) struct Elsewhere {
    part: Part,
    /// `http://HOST:PORT`
    origin: String,
    key: HeaderValue,
    client: Client<HttpConnector, Full<Bytes>>,
    /// By [`Pace`].
    turns: [Semaphore; 3],
    calls: AtomicU64,
    failed: AtomicU64,
    warning: Mutex<Warning>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why there is no answer.
enum Failed {
    /// All turns are taken.
    Busy,
    Late,
    Away(String),
    Refused(StatusCode),
    Unreadable(serde_json::Error),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many calls of it are under way"),
            Self::Late => f.write_str("it did not answer in time"),
            Self::Away(why) => f.write_str(why),
            Self::Refused(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                write!(f, "{status}: both sides need the same keys/services.key")
            }
            Self::Refused(status @ (StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY)) => {
                write!(f, "{status}: is it this context, and of this version?")
            }
            Self::Refused(status) => status.fmt(f),
            // The error's own words may quote what was read.
            Self::Unreadable(error) => {
                let (kind, column) = (error.classify(), error.column());
                write!(f, "its answer cannot be read ({kind:?} at byte {column}): is it of this version?")
            }
        }
    }
}

impl Elsewhere {
    /// `at` is `HOST:PORT`, which closes connections after `idle`. Nothing is asked of it yet.
    pub(super) fn new(part: Part, at: &str, key: &HeaderValue, idle: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE.min(idle / 2))
            .pool_max_idle_per_host(AT_ONCE)
            .build(connector);
        Self {
            part,
            origin: format!("http://{at}"),
            key: key.clone(),
            client,
            turns: [QUICK_AT_ONCE, USUAL_AT_ONCE, SLOW_AT_ONCE].map(Semaphore::new),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            warning: Mutex::default(),
        }
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// Calls that were made, and those of them that had no answer.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.calls.load(Relaxed), self.failed.load(Relaxed))
    }

    /// [`StoreError::Unavailable`] if there is no answer.
    pub(super) async fn ask<A: Serialize, T: DeserializeOwned>(
        &self,
        port: &'static str,
        method: &'static str,
        arguments: A,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Relaxed);
        let pace = Pace::of(port, method);
        let answered = match serde_json::to_vec(&arguments) {
            Ok(body) => {
                let asked = self.send(pace, port, method, body);
                tokio::time::timeout(pace.limit(), asked).await.unwrap_or(Err(Failed::Late))
            }
            Err(error) => Err(Failed::Unreadable(error)),
        };
        let answered = answered.and_then(|bytes| {
            serde_json::from_slice::<Result<T, StoreError>>(&bytes).map_err(Failed::Unreadable)
        });
        answered.unwrap_or_else(|failed| {
            self.failed.fetch_add(1, Relaxed);
            let due = self.warning.lock().unwrap_or_else(PoisonError::into_inner).due();
            if let Some(count) = due {
                let (part, origin) = (self.part.name(), &*self.origin);
                tracing::warn!(part, origin, port, method, count, why = %failed, "the store: a context in another process does not answer");
            }
            Err(StoreError::Unavailable(format!("{} cannot be asked now", self.part.words())))
        })
    }

    async fn send(&self, pace: Pace, port: &str, method: &str, body: Vec<u8>) -> Result<Bytes, Failed> {
        let turn = tokio::time::timeout(TURN, self.turns[pace as usize].acquire()).await;
        let _turn = turn.map_err(|_| Failed::Busy)?.map_err(|_| Failed::Busy)?;
        let request = Request::post(format!("{}{PREFIX}/{port}/{method}", self.origin))
            .header(KEY_FIELD, &self.key)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| Failed::Away(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            Failed::Away(format!("{error}: {}", cause.unwrap_or_default()))
        })?;
        if answer.status() != StatusCode::OK {
            return Err(Failed::Refused(answer.status()));
        }
        let whole = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(whole.map_err(|error| Failed::Away(error.to_string()))?.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::store::{AccountId, Accounts, Catalog};
    use std::sync::Arc;

    /// One that takes connections and says nothing.
    async fn silent() -> (tokio::net::TcpListener, Elsewhere) {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string();
        let key = HeaderValue::from_static("k");
        (silent, Elsewhere::new(Part::Account, &at, &key, Duration::from_secs(60)))
    }

    #[tokio::test]
    async fn a_context_that_is_away_is_a_shortage_that_passes_and_is_counted() {
        let (listener, away) = silent().await;
        drop(listener);
        let said = away.categories().await.unwrap_err();
        assert_eq!(said, StoreError::Unavailable("accounts cannot be asked now".into()));
        assert_eq!(away.counts(), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_end_in_time_and_leave_room_for_what_each_page_asks() {
        let (_listener, hangs) = silent().await;
        let hangs = Arc::new(hangs);
        let began = tokio::time::Instant::now();
        let account: AccountId = "00000000000000000000000000".parse().unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..2 * USUAL_AT_ONCE {
            let hangs = Arc::clone(&hangs);
            calls.spawn(async move { hangs.profile(account).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The line for usual calls is full; this one has a line of its own.
        let said = hangs.session("x".into()).await.unwrap_err();
        assert!(matches!(said, StoreError::Unavailable(_)), "{said:?}");
        let quick = began.elapsed() - Duration::from_secs(1);
        assert!(quick <= Pace::Quick.limit() + Duration::from_millis(20), "{quick:?}");
        while let Some(ended) = calls.join_next().await {
            assert!(matches!(ended.unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert!(began.elapsed() <= Pace::Usual.limit() + Duration::from_millis(20), "{:?}", began.elapsed());
        assert_eq!(hangs.counts().1, 2 * USUAL_AT_ONCE as u64 + 1);
    }
}
