//! `…/passes` and `…/challenge`: a shopper's token, and the solution of a challenge, are checked
//! once, here, so that the check of an attempt costs one HMAC.

use super::TokenHolder;
use crate::{
    browser,
    challenge::{CodeAnswer, Made, Solution},
    limits::Limits,
    passes::Passes,
    problem::{self, Problem},
};
use axum::extract::{FromRequest, Request, State};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::TimeMs;
use web::{
    body::clip,
    json::{JsonOrNothing, JsonReply},
    protection::Protection,
    query::Query,
};

/// Enough for a solution, which has at most some 600 bytes.
const BODY_BYTES_MAX: usize = 4096;

/// The optional body, with at most one of the two fields.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = { "required": ["altcha", "code"] }))]
pub(super) struct PassRequest {
    /// The payload of an ALTCHA widget: base64 of JSON with algorithm, challenge, number, salt and
    /// signature.
    #[serde(default, deserialize_with = "there")]
    #[schemars(with = "String")]
    altcha: Option<String>,
    #[serde(default, deserialize_with = "there")]
    #[schemars(with = "CodeAnswer")]
    code: Option<CodeAnswer>,
}

/// A field that is optional, and never null.
fn there<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl PassRequest {
    fn solution(self) -> Result<Option<Solution>, Problem> {
        match (self.altcha, self.code) {
            (None, None) => Ok(None),
            (Some(altcha), None) => Ok(Some(Solution::Altcha(altcha))),
            (None, Some(code)) => Ok(Some(Solution::Code(code))),
            (Some(_), Some(_)) => Err(Problem::new(&problem::INVALID, "body: want altcha or code, not both")),
        }
    }
}

/// A pass, and when it expires.
#[derive(Serialize, JsonSchema)]
pub(super) struct Pass {
    #[schemars(extend("pattern" = "^[A-Za-z0-9_-]+$"))]
    pass: String,
    expires_at: TimeMs,
}

/// `POST …/passes` with `Authorization: Bearer <shopper's JWT>`, and a solution if a challenge is
/// required.
pub(super) async fn create(
    TokenHolder { front, peer, shopper }: TokenHolder,
    State(passes): State<Arc<Passes>>,
    State(protection): State<Arc<Protection>>,
    request: Request,
) -> Result<JsonReply<Pass>, Problem> {
    passes.let_ask(peer, request.headers())?;
    let sale = front.sale.view().sale.clone();
    // The body is read even if no challenge is required, so that a mistake in it shows before one
    // is.
    let JsonOrNothing(asked) =
        JsonOrNothing::<PassRequest, BODY_BYTES_MAX>::from_request(request, &protection).await?;
    passes.redeem(&sale, &shopper, peer, asked.solution()?.as_ref()).await?;
    let (pass, expires_at) = passes.give(&sale, &shopper, peer, u64::MAX)?;
    Ok(JsonReply(Pass { pass, expires_at }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChallengeQuery {
    /// The form of a code: a picture or a sound. Image, if it is left out.
    #[schemars(extend("enum" = ["image", "audio"]))]
    media: Option<String>,
}

/// `GET …/challenge` with `Authorization: Bearer <shopper's JWT>`, so that the challenge is for
/// this shopper only.
pub(super) async fn challenge(
    TokenHolder { front, peer, shopper }: TokenHolder,
    State(limits): State<Arc<Limits>>,
    State(passes): State<Arc<Passes>>,
    State(protection): State<Arc<Protection>>,
    Query(query): Query<ChallengeQuery>,
    headers: HeaderMap,
) -> Result<JsonReply<Made>, Problem> {
    let sound = match query.media.as_deref() {
        None | Some("image") => false,
        Some("audio") => true,
        Some(other) => {
            let detail = format!("media {:?}: want image or audio", clip(other));
            return Err(Problem::new(&problem::INVALID, detail));
        }
    };
    limits.filter.asked(peer.0, browser::is_bare(&headers), protection.now());
    passes.challenge(&front.sale.view().sale, &shopper, peer, sound).await.map(JsonReply)
}
