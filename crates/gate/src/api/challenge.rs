//! What must be solved before a pass: `GET …/challenge`.

use super::{browser, json, passes};
use crate::{
    challenge::{Asker, Wish},
    problem::{self, Problem},
    state::Gate,
};
use axum::{
    Extension,
    extract::{Path, Query, State},
    response::Response,
};
use http::HeaderMap;
use serde::Deserialize;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use web::body::clip;
use web::server::Peer;

#[derive(Debug, Deserialize)]
pub(super) struct ChallengeQuery {
    media: Option<String>,
}

/// `GET …/challenge` with `Authorization: Bearer <shopper's JWT>`, so that the challenge is this
/// shopper's alone.
pub(super) async fn read(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    Query(query): Query<ChallengeQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let sound = match query.media.as_deref() {
        None | Some("image") => false,
        Some("audio") => true,
        Some(other) => {
            let detail = format!("media {:?}: want image or audio", clip(other));
            return Err(Problem::new(&problem::INVALID, detail));
        }
    };
    let shopper = passes::shopper(&gate, &headers)?;
    gate.filter.asked(peer.0, browser::is_bare(&headers), gate.now());
    let asker = Asker {
        sale: front.sale.view().sale.as_str().to_owned(),
        shopper: gate.keys.shopper_key(&shopper.id),
        now: gate.now(),
    };
    let risk = gate.filter.challenge_level(peer.0, gate.now()) + gate.strategy.harder_levels();
    let made = gate.challenges.make(asker, Wish { risk, sound }).await;
    let made = made.map_err(|error| {
        if error.kind() == std::io::ErrorKind::TimedOut {
            return Problem::new(
                &problem::QUEUE_FULL,
                "too many codes are asked for: wait as Retry-After says",
            )
            .retry_after(2);
        }
        tracing::error!(%error, "make a challenge: failed");
        Problem::unavailable("no challenge can be made")
    })?;
    let challenge = made.ok_or_else(|| {
        Problem::new(&problem::NOT_FOUND, "no challenge is asked for: POST …/passes gives a pass without one")
    })?;
    gate.metrics.challenges_issued.fetch_add(1, Relaxed);
    Ok(json(&challenge))
}
