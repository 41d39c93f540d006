//! Problem documents (RFC 9457): every answer that is not what was asked for. Each kind is explained in
//! `docs/api-problems.md`, which a test holds to this list.

use crate::{filter::Reason, ports::Unavailable};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;

/// The text that explains every kind, served at `/problems`.
pub(crate) const DOCUMENT: &str = include_str!("../../../docs/api-problems.md");

macro_rules! kinds {
    ($($name:ident $status:literal $slug:literal $title:literal,)*) => {
        /// What went wrong, by what the caller can do about it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($name,)* }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn status(self) -> StatusCode {
                let code = match self { $(Self::$name => $status,)* };
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The fragment of `type`, and the label in metrics.
            pub(crate) fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    BadRequest 400 "bad-request" "The request cannot be read",
    PassMissing 401 "pass-missing" "A pass is needed",
    PassRefused 401 "pass-refused" "The pass is not good",
    TokenMissing 401 "token-missing" "A shopper token is needed",
    TokenRefused 401 "token-refused" "The shopper token is not good",
    KeyMissing 401 "key-missing" "An API key is needed",
    KeyRefused 401 "key-refused" "The API key is not good",
    RoleRefused 403 "role-refused" "The API key's role does not allow this",
    FormRefused 403 "form-refused" "The form is not from this page",
    ChallengeMissing 403 "challenge-missing" "A challenge must be solved first",
    ChallengeRefused 403 "challenge-refused" "The solution is not good",
    AddressDenied 403 "address-denied" "The address is shut out",
    NotFound 404 "not-found" "There is nothing here",
    MethodNotAllowed 405 "method-not-allowed" "The method does not fit",
    BodyTimeout 408 "body-timeout" "The body came too slowly",
    Conflict 409 "conflict" "It does not fit the present state",
    BodyTooLarge 413 "body-too-large" "The body is too large",
    MediaType 415 "media-type" "The body is of the wrong type",
    Invalid 422 "invalid" "A value is wrong",
    IdempotencyKey 422 "idempotency-key" "The Idempotency-Key is missing or wrong",
    KeyReused 422 "key-reused" "The Idempotency-Key was used for something else",
    RateLimited 429 "rate-limited" "Too many requests",
    LooksAutomated 429 "looks-automated" "The address takes passes like a machine",
    HeadTooLarge 431 "head-too-large" "The head of the request is too large",
    Busy 429 "busy" "More attempts than the sale admits",
    TooManyInLine 429 "too-many-in-line" "The shopper has too many attempts in line",
    Internal 500 "internal" "The server failed",
    QueueFull 503 "queue-full" "The queue is full",
    Unavailable 503 "unavailable" "The sale cannot answer now",
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    detail: Cow<'static, str>,
    retry_after_seconds: Option<u32>,
    reason: Option<Reason>,
}

impl Problem {
    /// `detail` names the thing and what to do.
    pub(crate) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), retry_after_seconds: None, reason: None }
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Says why more exactly than the kind does.
    pub(crate) fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Why the gate refused, where it was not a limit: who meets one is noted where it is met.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let of_kind = match self.kind {
            Kind::PassMissing | Kind::PassRefused => Some(Reason::Pass),
            Kind::TokenMissing | Kind::TokenRefused => Some(Reason::Token),
            // That one is missing is how an honest shopper begins.
            Kind::ChallengeRefused => Some(Reason::Challenge),
            Kind::LooksAutomated => Some(Reason::Risk),
            Kind::AddressDenied => Some(Reason::Denied),
            _ => None,
        };
        self.reason.or(of_kind)
    }

    /// For a moment.
    pub(crate) fn unavailable(why: &str) -> Self {
        let detail = format!("{why}; this is no decision: asking the same again is safe");
        Self::new(Kind::Unavailable, detail).retry_after(1)
    }

    /// Until an operator acts, which is no matter of seconds: a crowd that asks every second would only be in the way. Why it
    /// stopped, with files and attempts in it, is for the log and the operators, not for whoever asks.
    fn stopped() -> Self {
        let detail = "the sale has stopped, and an operator must act first; this is no decision: asking the same again \
                      later is safe";
        Self::new(Kind::Unavailable, detail).retry_after(30)
    }

    /// A bug of ours.
    pub(crate) fn internal() -> Self {
        Self::new(Kind::Internal, "a bug of the server: asking again with the same Idempotency-Key is safe")
    }

    /// What is said, for a page.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Unavailable> for Problem {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::QueueFull => {
                let why = "the queue is full; this request did nothing: wait as Retry-After says";
                Self::new(Kind::QueueFull, why).retry_after(1)
            }
            Unavailable::LineFull { wait_ms } => {
                let why = "the queue is full, and so is the line behind it; this request decided nothing: wait as Retry-After says";
                Self::new(Kind::QueueFull, why).retry_after(seconds_in_line(wait_ms))
            }
            Unavailable::TooManyInLine { wait_ms } => {
                let why = "as many attempts of this shopper are in line as may be; this request decided nothing: wait for their answers";
                Self::new(Kind::TooManyInLine, why).retry_after(seconds_in_line(wait_ms))
            }
            Unavailable::Passing(why) => Self::unavailable(&why),
            Unavailable::Stopped(_) => Self::stopped(),
        }
    }
}

/// When to come back to a line that is so long: places in it become free all the time, so not much later than a crowd may be asked to.
fn seconds_in_line(wait_ms: Option<u64>) -> u32 {
    // Nobody knows how long it is if nothing was decided lately.
    wait_ms.map_or(5, |wait_ms| wait_ms.div_ceil(1000).clamp(1, 30) as u32)
}

/// A problem as RFC 9457, section 3 writes it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: TypeUri,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

struct TypeUri(Kind);

impl Serialize for TypeUri {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("/problems#{}", self.0.slug()))
    }
}

impl Problem {
    /// Appends the problem document.
    pub(crate) fn write_document(&self, out: &mut Vec<u8>) {
        let kind = self.kind;
        let status = kind.status().as_u16();
        let document = Document { kind: TypeUri(kind), title: kind.title(), status, detail: &self.detail };
        // A Vec takes whatever is written, and the document has no map with odd keys.
        let _ = serde_json::to_writer(out, &document);
    }

    /// When to ask again, if that helps.
    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        // A body that was slow once, or a bug met once, may not come again; asking at once would be the same as a flood.
        let may_pass = matches!(self.kind, Kind::BodyTimeout | Kind::Internal).then_some(1);
        self.retry_after_seconds.or(may_pass)
    }

    /// The challenge of a 401.
    pub(crate) fn scheme(&self) -> Option<&'static str> {
        match self.kind {
            Kind::PassMissing | Kind::PassRefused => Some("Floodgate-Pass"),
            Kind::TokenMissing | Kind::TokenRefused | Kind::KeyMissing | Kind::KeyRefused => Some("Bearer"),
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let mut document = Vec::with_capacity(256);
        self.write_document(&mut document);
        let mut response = (kind.status(), document).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(scheme) = self.scheme() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        let reason = self.reason();
        response.extensions_mut().insert(Explained { kind, detail: self.detail, reason });
        response
    }
}

/// Which problem a response is, for those who count it or show it to people.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    pub(crate) kind: Kind,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) reason: Option<Reason>,
}

/// Puts a problem document in place of a bare error answer of the framework.
pub(crate) fn ensure(response: Response) -> Response {
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE)
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !bare {
        return response;
    }
    let kind = Kind::ALL.iter().find(|k| k.status() == status).copied().unwrap_or(Kind::BadRequest);
    let allow = response.headers().get(header::ALLOW).cloned();
    let detail = match kind {
        Kind::MethodNotAllowed => "this path knows other methods: see Allow",
        Kind::NotFound => "no such path: see /api/v1/openapi.json",
        _ => "the path or query cannot be read",
    };
    let mut response = Problem::new(kind, detail).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_explained() {
        let headings: Vec<&str> = DOCUMENT.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        let slugs: Vec<&str> = Kind::ALL.iter().map(|k| k.slug()).collect();
        assert_eq!(headings, slugs);
        for kind in Kind::ALL {
            let status = format!("`{}`", kind.status().as_u16());
            let section = DOCUMENT.split(&format!("## {}\n", kind.slug())).nth(1).unwrap();
            assert!(section.trim_start().starts_with(&status), "{}: {status}", kind.slug());
        }
    }
}
