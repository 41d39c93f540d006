//! Passes: a shopper's token is checked once, here, so that an attempt costs one HMAC.

use super::json;
use crate::{
    jwt::{JwtError, Shopper},
    pass::{self, Pass},
    problem::{Kind, Problem},
    state::{Gate, Peer},
};
use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use http::{HeaderMap, header};
use serde_json::json as document;
use std::sync::Arc;
use units::{DurationMs, SaleId, TimeMs};

/// `POST …/passes` with `Authorization: Bearer <shopper's JWT>`.
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let token = bearer(&headers).ok_or_else(|| {
        Problem::new(
            Kind::TokenMissing,
            "no shopper token: send Authorization: Bearer <JWT> from the shop's log-in",
        )
    })?;
    let shopper = gate.jwt.verify(token, gate.now()).map_err(|error| match error {
        // Fetched again every ten seconds; until then the shopper has done nothing wrong.
        JwtError::NoKeysYet => Problem::unavailable(&error.to_string()).retry_after(10),
        _ => Problem::new(Kind::TokenRefused, error.to_string()),
    })?;
    let (pass, expires_at) = issue(&gate, &front.sale.view().sale, &shopper)
        .ok_or_else(|| Problem::new(Kind::TokenRefused, "token: sub is no shopper id"))?;
    Ok(json(&document!({ "pass": pass, "expires_at": expires_at })))
}

/// A pass from now on; `None` for an id that is not 1 to 64 bytes long.
pub(crate) fn issue(gate: &Gate, sale: &SaleId, shopper: &Shopper) -> Option<(String, TimeMs)> {
    let (key, sealed) = gate.keys.seal(&shopper.id)?;
    let expires_at = gate.now().plus(DurationMs::seconds(gate.config.pass_ttl_seconds));
    let pass = Pass { shopper: key, sealed, tier: shopper.tier, expires_at };
    Some((pass::issue(&gate.keys, sale, &pass), expires_at))
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
