//! Signing in: a browser exchanges a one-time key for a session.

use crate::{
    api_keys::{ApiKeys, SESSION_COOKIE},
    operation::{Access, Credential, Operation, Sent, get},
    problem::{KEY_REFUSED, Problem},
};
use axum::{
    extract::{FromRef, RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{Method, header};
use std::sync::Arc;

/// The one-time key, in the URL that the server prints at its start.
static ONE_TIME_KEY: Credential =
    Credential { name: "oneTimeKey", sent: Sent::Query("key"), missing: &KEY_REFUSED, refused: &KEY_REFUSED };

/// The operation that begins a session.
pub fn operations<S>() -> Vec<Operation<S>>
where
    S: Clone + Send + Sync + 'static,
    Arc<ApiKeys>: FromRef<S>,
{
    vec![get("/sign-in", "signIn", Access::Credential(&ONE_TIME_KEY), sign_in)]
}

/// `GET /sign-in?key=…`. What looks at links, as mail programs do, asks with `HEAD` (RFC 9110,
/// section 9.2.1: a safe method), and must not use the key up.
async fn sign_in(
    State(keys): State<Arc<ApiKeys>>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let key = query.as_deref().and_then(|q| q.strip_prefix("key=")).unwrap_or_default();
    if method == Method::HEAD && keys.is_one_time(key) {
        return Ok(Redirect::to("/").into_response());
    }
    let session = keys.sign_in(key).ok_or_else(|| {
        Problem::new(
            &KEY_REFUSED,
            "sign-in key: unknown, or used already; a restart of the server prints a new one",
        )
    })?;
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}
