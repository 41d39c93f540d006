//! Passes: a shopper's token, and what a challenge asks for, is checked once, here, so that an
//! attempt costs one HMAC.

use super::{browser, json};
use crate::{
    challenge::{Asker, CodeAnswer, Refused, Solution, Solved, UseError},
    pass::{self, Pass},
    problem::{self, Problem},
    state::Gate,
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    response::Response,
};
use contracts::SaleId;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json as document;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use units::{DurationMs, TimeMs};
use web::{
    body::{bearer, want_media_type},
    jwt::{JwtError, Shopper},
    server::Peer,
};

/// The largest solution has some 600 bytes.
const BODY_BYTES_MAX: usize = 4096;

/// `POST …/passes` with `Authorization: Bearer <shopper's JWT>`, and a solution where a challenge
/// is asked for.
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let now = gate.now();
    // Before anything is noted of the address: whoever has no token must not be able to speak for
    // those who share it.
    let shopper = shopper(&gate, &headers)?;
    if let Some(wait) = gate.filter.asked_for_pass(peer.0, browser::is_bare(&headers), now) {
        let why = "this address takes passes like a machine, and gets none for a while: wait as Retry-After says, or use another network";
        return Err(Problem::new(&problem::LOOKS_AUTOMATED, why).retry_after(wait));
    }
    let sale = front.sale.view().sale.clone();
    // Read wherever nobody asks for it too: a mistake in it shows before the day on which somebody
    // does.
    let solution = solution(&gate, &headers, body).await?;
    if gate.challenges.is_asked(|| gate.strategy.needs_challenge()) {
        let (sale, shopper) = (sale.as_str().to_owned(), gate.keys.shopper_key(&shopper.id));
        let solved = redeem(&gate, Asker { sale, shopper, now: gate.now() }, solution.as_ref()).await?;
        gate.filter.solved(peer.0, solved.too_fast, gate.now());
    }
    let (pass, expires_at) = issue(&gate, &sale, &shopper)
        .ok_or_else(|| Problem::new(&problem::TOKEN_REFUSED, "token: sub is no shopper id"))?;
    gate.filter.gave_pass(peer.0, gate.keys.shopper_key(&shopper.id), now);
    Ok(json(&document!({ "pass": pass, "expires_at": expires_at })))
}

/// Whom the shop's token names.
pub(super) fn shopper(gate: &Gate, headers: &HeaderMap) -> Result<Shopper, Problem> {
    let token = bearer(headers).ok_or_else(|| {
        Problem::new(
            &problem::TOKEN_MISSING,
            "no shopper token: send Authorization: Bearer <JWT> from the shop's log-in",
        )
    })?;
    gate.jwt.verify(token, gate.now()).map_err(|error| match error {
        // Fetched again every ten seconds; until then the shopper has done nothing wrong.
        JwtError::NoKeysYet => Problem::unavailable(&error.to_string()).retry_after(10),
        _ => Problem::new(&problem::TOKEN_REFUSED, error.to_string()),
    })
}

/// The body, if there is one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassRequest {
    #[serde(default, deserialize_with = "there")]
    altcha: Option<String>,
    #[serde(default, deserialize_with = "there")]
    code: Option<CodeAnswer>,
}

/// A field that may be left out, and is not null.
fn there<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

async fn solution(gate: &Gate, headers: &HeaderMap, body: Body) -> Result<Option<Solution>, Problem> {
    let bytes = gate.body(body, BODY_BYTES_MAX).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    want_media_type(headers, "application/json")?;
    let request: PassRequest =
        serde_json::from_slice(&bytes).map_err(|e| Problem::new(&problem::INVALID, format!("body: {e}")))?;
    match (request.altcha, request.code) {
        (None, None) => Ok(None),
        (Some(altcha), None) => Ok(Some(Solution::Altcha(altcha))),
        (None, Some(code)) => Ok(Some(Solution::Code(code))),
        (Some(_), Some(_)) => Err(Problem::new(&problem::INVALID, "body: want altcha or code, not both")),
    }
}

async fn redeem(gate: &Gate, asker: Asker, solution: Option<&Solution>) -> Result<Solved, Problem> {
    let refused = match gate.challenges.redeem(&asker, solution).await {
        Ok(solved) => {
            gate.metrics.challenges_solved.fetch_add(1, Relaxed);
            return Ok(solved);
        }
        Err(refused) => refused,
    };
    let sale = asker.sale;
    Err(match refused {
        Refused::Missing => {
            let detail =
                format!("no solution: solve GET /api/v1/sales/{sale}/challenge, and send it in the body");
            Problem::new(&problem::CHALLENGE_MISSING, detail)
        }
        Refused::Solution(reason) => {
            gate.metrics.challenge_refused(reason);
            gate.filter.note_shopper(asker.shopper, crate::filter::CHALLENGE, asker.now);
            let detail = format!("solution: {reason}; get a new one at /api/v1/sales/{sale}/challenge");
            Problem::new(&problem::CHALLENGE_REFUSED, detail)
        }
        Refused::Unavailable(why) => {
            let seconds = if matches!(why, UseError::Disk(_)) { 5 } else { 1 };
            let detail =
                format!("{why}; nobody gets a pass meanwhile; the solution stays good as long as it lasts");
            Problem::new(&problem::UNAVAILABLE, detail).retry_after(seconds)
        }
    })
}

/// A pass from now on; `None` for an id that is not 1 to 64 bytes long.
pub(crate) fn issue(gate: &Gate, sale: &SaleId, shopper: &Shopper) -> Option<(String, TimeMs)> {
    let (key, sealed) = gate.keys.seal(&shopper.id)?;
    let expires_at = gate.now().plus(DurationMs::seconds(gate.config.pass_ttl_seconds));
    let pass = Pass { shopper: key, sealed, tier: shopper.tier, expires_at };
    Some((pass::issue(&gate.keys, sale, &pass), expires_at))
}
