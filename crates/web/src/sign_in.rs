//! Signing in: a browser exchanges a one-time key for a session.

use crate::{
    api_keys::{ApiKeys, SESSION_COOKIE, Taken},
    operation::{Access, Credential, Operation, Sent, get},
    problem::{KEY_REFUSED, Problem},
};
use axum::{
    extract::{FromRef, RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{Method, header};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use units::TimeMs;

/// The one-time key, in the URL that `floodgate key sign-in` prints, or a demo at its start.
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
    let now = TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64);
    if method == Method::HEAD && (keys.is_one_time(key) || keys.is_sign_in(key, now)) {
        return Ok(Redirect::to("/").into_response());
    }
    let of_this_process = keys.sign_in(key).map(|session| Taken::Session { name: "session".into(), session });
    let taken = match of_this_process {
        Some(taken) => Ok(taken),
        None => {
            let key = key.to_owned();
            let taken = tokio::task::spawn_blocking(move || keys.take_sign_in(&key, now)).await;
            taken.map_err(std::io::Error::other).flatten()
        }
    };
    // The operators' own record of who came in: a warning, as for everything that they order.
    match taken {
        Ok(Taken::Session { name, session }) => {
            tracing::warn!(by = name, "an operator signed in with a one-time link");
            let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
        }
        Ok(Taken::Refused { name, why }) => {
            tracing::warn!(by = name, why, "a one-time link was refused");
            let why = format!("sign-in key: {why}: `floodgate key sign-in` makes another");
            Err(Problem::new(&KEY_REFUSED, why))
        }
        Ok(Taken::Unknown) => Err(Problem::new(
            &KEY_REFUSED,
            "sign-in key: unknown, or used already: `floodgate key sign-in` makes another, and a restart of a demo too",
        )),
        Err(error) => {
            tracing::error!(%error, "a one-time link cannot be used up: nobody is signed in");
            Err(Problem::unavailable("sign-in key: it cannot be used up now: see the server's log"))
        }
    }
}
