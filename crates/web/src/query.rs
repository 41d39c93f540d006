//! The query of a request, with what is wrong with it in words.

use crate::{
    json::in_words,
    problem::{BAD_REQUEST, Problem},
};
use axum::extract::{self, FromRequestParts};
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The fields of a query.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = extract::Query::try_from_uri(&parts.uri);
        let extract::Query(fields) = read.map_err(|rejection| {
            let said = rejection.body_text();
            let message = said.split_once("query string: ").map_or(&*said, |(_, message)| message);
            Problem::new(&BAD_REQUEST, in_words::of_message("query", message))
        })?;
        Ok(Self(fields))
    }
}
