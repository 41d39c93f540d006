//! The request that carries a message (Standard Webhooks 1.0.0). It knows no connection.

use super::{Endpoint, Failure, Message, SECRETS_MAX};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use hyper::body::Bytes;
use units::TimeMs;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("Floodgate-Notify/", env!("CARGO_PKG_VERSION")));
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Bytes of a message's id.
const ID_BYTES_MAX: usize = 256;
/// Bytes of `v1,`, a signature and a space.
const SIGNATURE_BYTES: usize = 3 + 44 + 1;
/// Headers of the connection, which no message may set: they would change where a request ends, or
/// how it is answered (RFC 9110, section 7.6.1).
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The request for one attempt, signed with the time of this attempt.
pub(super) fn build(
    endpoint: &Endpoint,
    message: &Message,
    now: TimeMs,
) -> Result<Request<Full<Bytes>>, Failure> {
    // A full stop in the id could move the border between the parts that are signed.
    let is_id = |b: u8| b.is_ascii_graphic() && b != b'.';
    if !(1..=ID_BYTES_MAX).contains(&message.id.len()) || !message.id.bytes().all(is_id) {
        return Err(wrong("id", "want 1 to 256 visible characters of ASCII without a full stop"));
    }
    let id = HeaderValue::from_str(&message.id).map_err(|_| wrong("id", "want visible ASCII"))?;
    let content_type = HeaderValue::from_str(message.content_type)
        .map_err(|_| wrong("content type", "want visible ASCII"))?;
    let timestamp = (now.0 / 1000).to_string();
    let mut signatures = String::with_capacity(SECRETS_MAX.min(endpoint.secrets.len()) * SIGNATURE_BYTES);
    for secret in endpoint.secrets.iter().take(SECRETS_MAX) {
        if !signatures.is_empty() {
            signatures.push(' ');
        }
        secret.sign(&message.id, &timestamp, &message.body, &mut signatures);
    }
    let mut headers = HeaderMap::with_capacity(message.headers.len() + 8);
    for (name, value) in &message.headers {
        if !OF_CONNECTION.contains(&name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(HOST, endpoint.url.host_header().clone());
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(message.body.len()));
    headers.insert(WEBHOOK_ID, id);
    headers.insert(WEBHOOK_TIMESTAMP, own(timestamp)?);
    headers.remove(WEBHOOK_SIGNATURE);
    if !signatures.is_empty() {
        headers.insert(WEBHOOK_SIGNATURE, own(signatures)?);
    }
    let mut request = Request::new(Full::new(message.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.url.target().clone();
    *request.headers_mut() = headers;
    Ok(request)
}

fn own(text: String) -> Result<HeaderValue, Failure> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|e| Failure::Protocol(e.to_string()))
}

fn wrong(part: &str, want: &str) -> Failure {
    Failure::Protocol(format!("message: {part}: {want}"))
}
