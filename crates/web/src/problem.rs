//! Problem documents (RFC 9457): every answer other than the requested one. Here are the kinds that
//! every HTTP server has; each context declares its own beside its rules, with
//! [`kinds!`](crate::kinds).

use crate::limits::Reason;
use axum::response::{IntoResponse, Response};
use contracts::store::StoreError;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;

/// A kind of problem. Kinds differ by what the caller can do about them.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The fragment of `type`, and the label in metrics.
    pub slug: &'static str,
    /// An HTTP status code.
    pub status: u16,
    pub title: &'static str,
    /// What it means and what to do, in Markdown.
    pub advice: &'static str,
    /// The scheme of a 401's challenge (RFC 9110, section 11.6.1).
    pub scheme: Option<&'static str>,
    /// Seconds after which the problem may be over, unless the answer knows better.
    pub retry_after_seconds: Option<u32>,
    /// The reason that is noted for the address that met it.
    pub reason: Option<Reason>,
}

impl Kind {
    /// A kind with no more than this.
    pub const fn new(status: u16, slug: &'static str, title: &'static str, advice: &'static str) -> Self {
        Self { slug, status, title, advice, scheme: None, retry_after_seconds: None, reason: None }
    }

    /// The same, with the scheme of its challenge.
    pub const fn scheme(self, scheme: &'static str) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// The same, with the seconds after which it may be over.
    pub const fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }

    /// The same, with the reason that is noted for the address.
    pub const fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Whether the problem may end by itself. Every such answer then has `Retry-After`.
    pub(crate) fn may_pass(&self) -> bool {
        self.retry_after_seconds.is_some()
    }

    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Declares kinds of problems as statics, and a list of all of them.
#[macro_export]
macro_rules! kinds {
    ($(#[$doc:meta])* $list:ident: $($name:ident = $kind:expr;)*) => {
        $(pub static $name: $crate::problem::Kind = $kind;)*
        $(#[$doc])*
        pub static $list: &[&$crate::problem::Kind] = &[$(&$name,)*];
    };
}

kinds! {
    /// The kinds that every HTTP server has.
    KINDS:
    BAD_REQUEST = Kind::new(
        400,
        "bad-request",
        "The request cannot be read",
        "The path, the query or the request itself cannot be read. Correct it; repeating it does \
         not help.",
    );
    KEY_MISSING = Kind::new(
        401,
        "key-missing",
        "An API key is needed",
        "Send an API key as `Authorization: Bearer fgk_…`. Make one with `floodgate key new`.",
    ).scheme("Bearer");
    KEY_REFUSED = Kind::new(
        401,
        "key-refused",
        "The API key was refused",
        "The API key is unknown or revoked; or the link to sign in with is unknown, was used before or \
         has expired. `detail` says which. `floodgate key` makes keys and links.",
    ).scheme("Bearer");
    ROLE_REFUSED = Kind::new(
        403,
        "role-refused",
        "The API key's role does not allow this",
        "The key's role is too small: `read-only` keys read, `support` keys help the store's shoppers, \
         `operator` keys run what is set up, \
         `owner` keys also set it up.",
    );
    RIGHT_REFUSED = Kind::new(
        403,
        "right-refused",
        "The API key's rights do not allow this",
        "A tenant's key is for the message service only: `produce` posts events, `consume` takes \
         them and looks after what could not be delivered, `manage` makes topics and subscriptions. \
         `detail` says which right is missing. Everywhere else such a key is refused, whatever it \
         asks.",
    );
    FORM_REFUSED = Kind::new(
        403,
        "form-refused",
        "The form is not from this page",
        "The form's token does not fit the visitor's cookie. Load the page again, with cookies \
         allowed.",
    );
    ADDRESS_DENIED = Kind::new(
        403,
        "address-denied",
        "The address is shut out",
        "The address that the request came from, or its network, was shut out by an operator. Use \
         another network, such as a mobile one, or write to the shop; asking again from here does \
         not help. Operators find out who did it and why with `GET \
         /api/v1/admin/refusals?address=…`.",
    ).because(Reason::DENIED);
    NOT_FOUND = Kind::new(
        404,
        "not-found",
        "There is nothing here",
        "No such path, or nothing of that name; `detail` says what was looked for.",
    );
    METHOD_NOT_ALLOWED = Kind::new(
        405,
        "method-not-allowed",
        "The method does not fit",
        "The path knows other methods; `Allow` lists them.",
    );
    // A body that was slow once may not be slow again; but callers who try again at once would be a
    // flood.
    BODY_TIMEOUT = Kind::new(
        408,
        "body-timeout",
        "The body came too slowly",
        "The body did not arrive in time. Send it again with the same `Idempotency-Key`, after \
         `Retry-After`.",
    ).retry_after(1);
    CONFLICT = Kind::new(
        409,
        "conflict",
        "It does not fit the present state",
        "The command does not fit the present state; `detail` says why.",
    );
    CHANGED = Kind::new(
        412,
        "changed",
        "It has changed since it was read",
        "`If-Match` or `If-None-Match` names another state than there is now. Nothing was done. Read it \
         again, and decide again, with its `ETag` as `If-Match`.",
    );
    BODY_TOO_LARGE = Kind::new(
        413,
        "body-too-large",
        "The body is too large",
        "The body is over the limit that `detail` names.",
    );
    MEDIA_TYPE = Kind::new(
        415,
        "media-type",
        "The body is of the wrong type",
        "Send the `Content-Type` that `detail` names.",
    );
    INVALID = Kind::new(
        422,
        "invalid",
        "A value is wrong",
        "The body or a value in it is wrong; `detail` names the field, and the item or line where \
         there is one.",
    );
    RATE_LIMITED = Kind::new(
        429,
        "rate-limited",
        "Too many requests",
        "This address or this caller asks too often. Wait as long as `Retry-After` says; being \
         early gains nothing.",
    ).retry_after(1);
    HEAD_TOO_LARGE = Kind::new(
        431,
        "head-too-large",
        "The head of the request is too large",
        "The request line and the header fields together take more bytes, or are more fields, than \
         the server reads. Send fewer cookies.",
    );
    // The next request may not meet the same bug.
    INTERNAL = Kind::new(
        500,
        "internal",
        "The server failed",
        "A bug of the server. Asking again with the same `Idempotency-Key` is safe; wait as long \
         as `Retry-After` says.",
    ).retry_after(1);
    UNAVAILABLE = Kind::new(
        503,
        "unavailable",
        "It cannot be answered now",
        "It cannot be answered now, and `detail` says why; this is no decision. Ask the same \
         again, with the same `Idempotency-Key` where there is one: if it was decided, that answer \
         comes. `Retry-After` is 30 if an operator must act first.",
    ).retry_after(1);
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: &'static Kind,
    detail: Cow<'static, str>,
    retry_after_seconds: Option<u32>,
    reason: Option<Reason>,
}

/// What a context of the store says, as a problem.
pub fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::Invalid(why) => Problem::new(&INVALID, why),
        StoreError::Conflict(why) => Problem::new(&CONFLICT, why),
        StoreError::NotFound(why) => Problem::new(&NOT_FOUND, why),
        StoreError::TooMany { wait_seconds } => {
            let wait = u32::try_from(wait_seconds).unwrap_or(u32::MAX);
            Problem::new(&RATE_LIMITED, "too many tries: wait as Retry-After says").retry_after(wait)
        }
        StoreError::Unavailable(why) => Problem::unavailable(&why),
    }
}

impl Problem {
    /// `detail` names what is wrong and what to do.
    pub fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), retry_after_seconds: None, reason: None }
    }

    /// The same, with the seconds after which the caller may try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Sets a more exact reason than that of the kind.
    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: &'static Kind) -> bool {
        std::ptr::eq(self.kind, kind)
    }

    /// The reason that is noted for the address that met it, if any.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.or(self.kind.reason)
    }

    /// For a moment.
    pub fn unavailable(why: &str) -> Self {
        let detail = format!("{why}; this is no decision: asking the same again is safe");
        Self::new(&UNAVAILABLE, detail).retry_after(1)
    }

    /// A bug of this server.
    pub fn internal() -> Self {
        Self::new(&INTERNAL, "a bug of the server: asking again with the same Idempotency-Key is safe")
    }

    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The detail, for a page.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Seconds after which to try again, if that helps.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds.or(self.kind.retry_after_seconds)
    }

    /// Appends the problem document.
    pub fn write_document(&self, out: &mut Vec<u8>) {
        let Kind { status, title, .. } = *self.kind;
        let document = Document { kind: TypeUri(self.kind), title, status, detail: &self.detail };
        // Writing into a Vec cannot fail, and all keys of the document are strings.
        let _ = serde_json::to_writer(out, &document);
    }
}

/// A problem as in RFC 9457, section 3. Every type is explained at /problems.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document<'a> {
    #[serde(rename = "type")]
    #[schemars(with = "String", extend("format" = "uri-reference"))]
    kind: TypeUri,
    title: &'a str,
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What is wrong, and what to do.
    detail: &'a str,
}

struct TypeUri(&'static Kind);

impl Serialize for TypeUri {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("/problems#{}", self.0.slug))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = self.kind;
        let mut document = Vec::with_capacity(256);
        self.write_document(&mut document);
        let mut response = (kind.status_code(), document).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(scheme) = kind.scheme {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        let reason = self.reason();
        response.extensions_mut().insert(Explained { kind, detail: self.detail, reason });
        response
    }
}

/// The problem of a response, for metrics and for pages.
#[derive(Debug, Clone)]
pub struct Explained {
    pub kind: &'static Kind,
    pub detail: Cow<'static, str>,
    pub reason: Option<Reason>,
}

/// Puts a problem document in place of a bare error answer of the framework.
pub fn ensure(response: Response) -> Response {
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE)
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !bare {
        return response;
    }
    let kind = KINDS.iter().find(|kind| kind.status_code() == status).copied().unwrap_or(&BAD_REQUEST);
    let allow = response.headers().get(header::ALLOW).cloned();
    let detail = match kind.status {
        405 => "this path knows other methods: see Allow",
        404 => "no such path: see /api/v1/openapi.json",
        _ => "the path or query cannot be read",
    };
    let mut response = Problem::new(kind, detail).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
