//! What a caller had read before it changes something, by `If-Match` and `If-None-Match`, and the
//! tags of answers by which it says so (RFC 9110, sections 8.8.3 and 13.1).

use crate::problem::{INVALID, Problem};
use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};

use std::borrow::Cow;

/// An answer that is longer has no tag.
const TAGGED_BYTES_MAX: u64 = 4 << 20;

/// The state that a caller had read when it decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It did not say.
    Any,
    /// There was none of this name.
    Absent,
    /// There was one of this name.
    Present,
    /// The tag of what there was, without its quotes.
    Revision(String),
}

impl Expected {
    /// Whether what is stored, by its tag, is what the caller had read.
    pub fn is_met(&self, stored: Option<&str>) -> bool {
        match (self, stored) {
            (Self::Any, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Revision(revision), Some(stored)) => revision == stored,
            (Self::Absent, Some(_)) | (Self::Present | Self::Revision(_), None) => false,
        }
    }
}

/// [`Expected`] as a request says it: the `ETag` of an answer, or `*`.
#[derive(Debug)]
pub struct Precondition(pub Expected);

impl<S: Send + Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let expected =
            match (one(&parts.headers, header::IF_MATCH)?, one(&parts.headers, header::IF_NONE_MATCH)?) {
                (None, None) => Expected::Any,
                (Some("*"), None) => Expected::Present,
                (None, Some("*")) => Expected::Absent,
                (Some(tag), None) => {
                    let revision = unquoted(tag).ok_or_else(|| invalid("If-Match: want one ETag, or *"))?;
                    Expected::Revision(revision.to_owned())
                }
                _ => return Err(invalid("If-None-Match: want * alone, and no If-Match beside it")),
            };
        Ok(Self(expected))
    }
}

/// A tag without its quotes. A proxy that compresses answers makes their tags weak.
fn unquoted(tag: &str) -> Option<&str> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'))?;
    (!tag.contains('"')).then_some(tag)
}

/// The value of a field that a request has once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let (first, more) = (values.next(), values.next().is_some());
    let text = first.map(|value| value.to_str().unwrap_or_default().trim());
    if more || text.is_some_and(str::is_empty) {
        return Err(invalid(format!("{name}: want one value")));
    }
    Ok(text)
}

fn invalid(why: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(&INVALID, why)
}

/// The tag of an answer with this body.
pub fn tag_of(body: &[u8]) -> String {
    blake3::hash(body).to_hex()[..32].to_owned()
}

/// A tag as `ETag` has it.
pub fn quoted(tag: &str) -> HeaderValue {
    HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Gives the answer its `ETag`, and leaves its body out if the caller has it already: one of the
/// tags of `If-None-Match` is its own.
pub(crate) async fn tagged(asked: Vec<HeaderValue>, is_open: bool, response: Response) -> Response {
    let is_json = |response: &Response| {
        response.headers().get(header::CONTENT_TYPE).is_some_and(|of| of == "application/json")
    };
    let is_short = response.body().size_hint().exact().is_some_and(|bytes| bytes <= TAGGED_BYTES_MAX);
    if response.status() != StatusCode::OK || !is_json(&response) || !is_short {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is in memory already.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return Problem::internal().into_response() };
    let tag = tag_of(&bytes);
    parts.headers.insert(header::ETAG, quoted(&tag));
    // What everybody may read may be kept, and is asked for again each time.
    if is_open {
        parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    let tags = asked.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if tags.map(str::trim).any(|known| known == "*" || unquoted(known) == Some(&tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(asked: &[&str]) -> (StatusCode, String, usize) {
        let json = [(header::CONTENT_TYPE, "application/json")];
        let response = (json, "{\"a\":1}").into_response();
        let asked = asked.iter().map(|value| HeaderValue::from_str(value).unwrap()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let response = tagged(asked, true, response).await;
            let (status, tag) =
                (response.status(), response.headers()[header::ETAG].to_str().unwrap().to_owned());
            (status, tag, to_bytes(response.into_body(), 100).await.unwrap().len())
        })
    }

    #[test]
    fn a_caller_that_has_the_answer_gets_no_body() {
        let (status, tag, bytes) = answer(&[]);
        assert_eq!((status, bytes), (StatusCode::OK, 7));
        for has in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
            assert_eq!(answer(&[&has]), (StatusCode::NOT_MODIFIED, tag.clone(), 0), "{has}");
        }
        for other in ["\"x\"", "x", &tag[1..]] {
            assert_eq!(answer(&[other]), (StatusCode::OK, tag.clone(), 7), "{other}");
        }
    }

    #[test]
    fn what_was_read_is_met_by_the_same_state_only() {
        let of = |text: &str| Expected::Revision(text.into());
        for (expected, none, one, other) in [
            (Expected::Any, true, true, true),
            (Expected::Absent, true, false, false),
            (Expected::Present, false, true, true),
            (of("one"), false, true, false),
        ] {
            let met = [None, Some("one"), Some("other")].map(|stored| expected.is_met(stored));
            assert_eq!(met, [none, one, other], "{expected:?}");
        }
    }
}
