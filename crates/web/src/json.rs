//! JSON bodies of requests and of answers.

pub mod in_words;
mod objects;

use crate::{
    body::{read, want_media_type},
    problem::{INVALID, Problem},
    protection::Protection,
};
use axum::{
    body::Bytes,
    extract::{FromRef, FromRequest, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

const MEDIA_TYPE: &str = "application/json";

/// A request's JSON body, of at most `MAX` bytes.
#[derive(Debug)]
pub struct JsonBody<T, const MAX: usize>(pub T);

/// The same where the body may be left out. Without a body it is the default.
#[derive(Debug)]
pub struct JsonOrNothing<T, const MAX: usize>(pub T);

async fn bytes<S>(request: Request, state: &S, bytes_max: usize) -> Result<(HeaderMap, Bytes), Problem>
where
    Arc<Protection>: FromRef<S>,
{
    let limit = Arc::<Protection>::from_ref(state).body_timeout();
    let (parts, body) = request.into_parts();
    Ok((parts.headers, read(body, bytes_max, limit).await?))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    in_words::from_slice("body", bytes).map_err(|why| Problem::new(&INVALID, why))
}

impl<S, T, const MAX: usize> FromRequest<S> for JsonBody<T, MAX>
where
    S: Send + Sync,
    T: DeserializeOwned,
    Arc<Protection>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        want_media_type(request.headers(), MEDIA_TYPE)?;
        let (_, bytes) = bytes(request, state, MAX).await?;
        parse(&bytes).map(Self)
    }
}

impl<S, T, const MAX: usize> FromRequest<S> for JsonOrNothing<T, MAX>
where
    S: Send + Sync,
    T: DeserializeOwned + Default,
    Arc<Protection>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (headers, bytes) = bytes(request, state, MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        want_media_type(&headers, MEDIA_TYPE)?;
        parse(&bytes).map(Self)
    }
}

/// An answer in JSON that no cache may keep.
#[derive(Debug)]
pub struct JsonReply<T>(pub T);

impl<T: Serialize> IntoResponse for JsonReply<T> {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("answers have no map with odd keys");
        let headers = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
        (headers, body).into_response()
    }
}
