//! A request's body: its media type, and its bytes, within limits of size and time.

use crate::problem::{BAD_REQUEST, BODY_TIMEOUT, BODY_TOO_LARGE, MEDIA_TYPE, Problem};
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use std::time::Duration;

/// Reads a whole body of at most `bytes_max`, within `limit`.
pub async fn read(body: Body, bytes_max: usize, limit: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(limit, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_length_limit(&e) => {
            Err(Problem::new(&BODY_TOO_LARGE, format!("body: more than {bytes_max} bytes")))
        }
        Ok(Err(e)) => Err(Problem::new(&BAD_REQUEST, format!("body: {e}"))),
        Err(_) => Err(late(limit.as_secs())),
    }
}

/// Of a body that is too large, so many times its limit are read and dropped: a caller who is still
/// sending does not read the answer.
const DROPPED_TIMES: usize = 4;

/// The same, of a body that may be large: what has come is in memory once.
pub async fn read_large(body: Body, bytes_max: usize, limit: Duration) -> Result<Bytes, Problem> {
    let said = usize::try_from(HttpBody::size_hint(&body).lower()).unwrap_or(usize::MAX);
    let whole = async {
        let (mut body, mut come) = (body, 0usize);
        let mut bytes = Vec::with_capacity(if said <= bytes_max { said } else { 0 });
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::new(&BAD_REQUEST, format!("body: {error}")))?;
            // What is no data is a trailer, which says nothing here.
            let Ok(data) = frame.into_data() else { continue };
            come += data.len();
            if said.max(come) <= bytes_max {
                bytes.extend_from_slice(&data);
                continue;
            }
            bytes = Vec::new();
            if come > bytes_max.saturating_mul(DROPPED_TIMES) {
                break;
            }
        }
        match said.max(come) > bytes_max {
            true => Err(Problem::new(&BODY_TOO_LARGE, format!("body: more than {bytes_max} bytes"))),
            false => Ok(Bytes::from(bytes)),
        }
    };
    tokio::time::timeout(limit, whole).await.unwrap_or_else(|_| Err(late(limit.as_secs())))
}

/// 408: the body did not arrive in time.
pub fn late(seconds: u64) -> Problem {
    Problem::new(&BODY_TIMEOUT, format!("body: not here within {seconds} s"))
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

/// Refuses a body of another type. Parameters such as `charset=utf-8` may follow.
pub fn want_media_type(headers: &HeaderMap, want: &'static str) -> Result<(), Problem> {
    check_media_type(headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes), want)
}

/// The same, for the header field alone.
pub fn check_media_type(field: Option<&[u8]>, want: &'static str) -> Result<(), Problem> {
    let got = field.and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
    let essence = got.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(want) {
        return Ok(());
    }
    Err(Problem::new(&MEDIA_TYPE, format!("Content-Type {:?}: want {want}", clip(got))))
}

/// A caller's text, shortened to be quoted in an answer.
pub fn clip(text: &str) -> &str {
    let end = (0..=text.len().min(60)).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or_default()]
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut pairs =
        headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
