//! `…/attempts`: attempts to buy, and their outcomes.

use super::PassHolder;
use crate::{
    attempts::{Admitted, Attempts, BODY_BYTES_MAX, Question, basket, parse_attempt},
    decisions::{Current, current, key_reused},
    keys::Keyring,
    outcome::{Outcome, outcome_of},
    passes::{PASS_HEADER, field_once},
    problem::{self, Problem, reply},
    ticket,
    way_back::WaysBack,
};
use axum::{
    Extension,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use contracts::{ItemId, Told};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::Sequence;
use web::{body, json::JsonReply, protection::Protection, query::Query, server::Peer};

/// What a shopper wants to buy, all or nothing.
#[derive(JsonSchema)]
#[schemars(example = Self::example())]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only described: the basket is read as it comes")]
pub(super) struct AttemptRequest {
    /// Lines of one item are added up. At most 8 different items.
    #[schemars(length(min = 1, max = 64))]
    lines: Vec<LineRequest>,
}

#[derive(JsonSchema)]
#[schemars(rename = "Line", deny_unknown_fields)]
#[expect(dead_code, reason = "it is only described")]
struct LineRequest {
    /// An item of the sale.
    item: ItemId,
    #[schemars(range(min = 1, max = 1000))]
    quantity: u16,
}

impl AttemptRequest {
    fn example() -> serde_json::Value {
        serde_json::json!({ "lines": [{ "item": "phone", "quantity": 1 }] })
    }
}

/// `Idempotency-Key`.
#[derive(JsonSchema)]
#[schemars(inline, extend("pattern" = "^[!-~]+$"))]
#[expect(dead_code, reason = "it is only described")]
pub(super) struct IdempotencyKey(#[schemars(length(min = 1, max = 64))] String);

/// The query with the shop's return URL.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReturnTo {
    /// The URL of the shop that is to get the outcome: one of gate.return_urls, or below one.
    #[schemars(length(max = 1024))]
    return_url: Option<String>,
}

/// `POST {attempts_url}`, where it is not served by the loops themselves (see `hot`).
pub(super) async fn create(
    State(attempts): State<Arc<Attempts>>,
    State(ways_back): State<Arc<WaysBack>>,
    State(protection): State<Arc<Protection>>,
    Extension(peer): Extension<Peer>,
    Path((sale, round_key)): Path<(String, String)>,
    back: Result<Query<ReturnTo>, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let now = protection.now();
    let (front, rendered) = attempts.round(peer, &sale, &round_key, now)?;
    let question = Question {
        sale: &sale,
        peer,
        now,
        pass: field_once(&head.headers, PASS_HEADER, &problem::PASS_REFUSED)?,
        content_type: head.headers.get("content-type").map(HeaderValue::as_bytes),
        idempotency_key: field_once(&head.headers, "idempotency-key", &problem::IDEMPOTENCY_KEY)?,
    };
    let Admitted { pass, key } = attempts.admit(&question)?;
    // After what counts guesses at round keys, and how often an address asks.
    let Query(back) = back?;
    let to = ways_back.named(back.return_url.as_deref())?;
    let body = body::read(body, BODY_BYTES_MAX, protection.body_timeout()).await?;
    let basket = basket(&body, &rendered.view.spec)?;
    let id = attempts.keys.attempt_id(&sale, pass.shopper, key);
    let told = attempts.decisions.ask(&front, &pass, id, basket).await?;
    let (status, mut outcome) = match told {
        Told::Answer(answer) => (StatusCode::OK, outcome_of(id, &answer).ok_or_else(key_reused)?),
        Told::InLine(place) => (StatusCode::ACCEPTED, Outcome::queued(id, place)),
    };
    outcome.return_url =
        to.and_then(|to| ways_back.signed(&to, &rendered.view, &outcome, &pass, Some(&basket)));
    let retry_after = outcome.retry_after_ms.map(|ms| [("retry-after", ms.div_ceil(1000).to_string())]);
    Ok((status, retry_after, JsonReply(outcome)).into_response())
}

/// `GET …/attempts/{attempt}`. Another shopper's attempt looks like one that was never made.
pub(super) async fn read(
    PassHolder { front, pass, .. }: PassHolder,
    State(ways_back): State<Arc<WaysBack>>,
    State(keys): State<Arc<Keyring>>,
    Path((_, attempt)): Path<(String, String)>,
    Query(back): Query<ReturnTo>,
) -> Result<JsonReply<Outcome>, Problem> {
    let attempt = parse_attempt(&attempt)?;
    let to = ways_back.named(back.return_url.as_deref())?;
    let Current { mut outcome, basket } = current(&front, &pass, attempt).await?;
    let view = front.sale.view();
    outcome.return_url = to.and_then(|to| ways_back.signed(&to, &view, &outcome, &pass, basket.as_ref()));
    if let (Some(hold), Some(basket)) = (&mut outcome.hold, &basket) {
        hold.ticket = ticket::sign(&keys, &view, &pass, basket, hold);
    }
    Ok(JsonReply(outcome))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AttemptList {
    #[schemars(length(max = 100))]
    attempts: Vec<ListedAttempt>,
    as_of: Sequence,
}

#[derive(Serialize, JsonSchema)]
struct ListedAttempt {
    #[serde(flatten)]
    outcome: Outcome,
    lines: Vec<ListedLine>,
}

#[derive(Serialize, JsonSchema)]
struct ListedLine {
    item: String,
    quantity: u16,
}

/// `GET …/attempts`: the shopper's attempts that the sale keeps, newest first.
pub(super) async fn list(
    PassHolder { front, pass, .. }: PassHolder,
) -> Result<JsonReply<AttemptList>, Problem> {
    let record = reply(front.sale.shopper(pass.shopper)).await?;
    let view = front.sale.view();
    let attempts = record.attempts.iter().filter_map(|stored| {
        let lines = stored.basket.iter().map(|line| ListedLine {
            item: ticket::item_name(&view.spec, line.item).to_owned(),
            quantity: line.quantity,
        });
        Some(ListedAttempt { outcome: outcome_of(stored.id, &stored.answer)?, lines: lines.collect() })
    });
    Ok(JsonReply(AttemptList { attempts: attempts.collect(), as_of: record.as_of }))
}
