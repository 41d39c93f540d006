//! Attempts: asking once, and asking again what came of it.

use super::{
    basket::{known_item, parse_basket},
    json,
};
use crate::{
    filter,
    front::{Expected, Front, Rendered},
    outcome::{Outcome, outcome_of},
    pass::Pass,
    ports::Reply,
    problem::{self, Problem},
    state::{Gate, PASS_HEADER, reply},
    ticket,
    way_back::{self, way_back},
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use contracts::{Answer, Attempt, AttemptId, Basket, Found, SaleSpec, ShopperKey, Told, Unavailable};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use units::{Sequence, TimeMs};
use web::{body::check_media_type, server::Peer};

/// How long the sale may take to say where an attempt stands, which it does without its writer.
const STANDING_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of an attempt's body.
pub(crate) const BODY_BYTES_MAX: usize = 4096;
const KEY_BYTES_MAX: usize = 64;

/// An attempt as it came, before its body is looked at.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) sale: &'a str,
    pub(crate) peer: Peer,
    pub(crate) now: TimeMs,
    pub(crate) pass: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) idempotency_key: Option<&'a [u8]>,
}

/// A shopper who may attempt.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) pass: Pass,
    pub(crate) key: &'a str,
}

/// The sale's front, if a round that has opened has this key. It is looked at before anything else,
/// so that whoever guesses learns nothing. A wrong key counts against the address like an attempt,
/// so nobody guesses on.
pub(crate) fn round(
    gate: &Gate,
    peer: Peer,
    sale: &str,
    round_key: &str,
    now: TimeMs,
) -> Result<(Arc<Front>, Arc<Rendered>), Problem> {
    let front = gate.front(sale)?;
    let rendered = front.rendered(&gate.keys, now);
    if rendered.knows_round_key(round_key) {
        return Ok((front, rendered));
    }
    gate.admit_address_at(peer, now)?;
    Err(Problem::new(
        &problem::NOT_FOUND,
        "no round with this key: use the attempts_url that the sale publishes while a round is open",
    )
    .because(filter::ROUND_KEY))
}

/// Lets an attempt in whose round is open, or refuses it, in the order of cost.
pub(crate) fn admit<'a>(gate: &Gate, question: &Question<'a>) -> Result<Admitted<'a>, Problem> {
    gate.admit_address_at(question.peer, question.now)?;
    let pass = gate.verify_pass(question.pass, question.sale, question.now)?;
    check_media_type(question.content_type, "application/json")?;
    let key = idempotency_key(question.idempotency_key)?;
    gate.admit_shopper(&pass, question.now)?;
    Ok(Admitted { pass, key })
}

/// The basket that an attempt's body asks for, or 422.
pub(crate) fn basket(body: &[u8], spec: &SaleSpec) -> Result<Basket, Problem> {
    parse_basket(body, spec).map_err(|why| Problem::new(&problem::INVALID, why))
}

/// Where the shop waits for what comes of it.
#[derive(Deserialize)]
pub(super) struct Back {
    return_url: Option<String>,
}

/// `POST {attempts_url}`, where it is not served by the loops themselves (see `wire`).
pub(super) async fn create(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path((sale, round_key)): Path<(String, String)>,
    Query(back): Query<Back>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let field = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    let now = gate.now();
    let (front, rendered) = round(&gate, peer, &sale, &round_key, now)?;
    let question = Question {
        sale: &sale,
        peer,
        now,
        pass: field(PASS_HEADER),
        content_type: field("content-type"),
        idempotency_key: field("idempotency-key"),
    };
    let Admitted { pass, key } = admit(&gate, &question)?;
    let to = way_back::named(&gate, back.return_url.as_deref())?;
    let body = gate.body(body, BODY_BYTES_MAX).await?;
    let basket = basket(&body, &rendered.view.spec)?;
    let id = gate.keys.attempt_id(&sale, pass.shopper, key);
    let asked = ask(&gate, &front, &pass, id, basket).await?;
    let (status, mut outcome) = match asked {
        Told::Answer(answer) => (StatusCode::OK, outcome_of(id, &answer).ok_or_else(key_reused)?),
        Told::InLine(place) => (StatusCode::ACCEPTED, Outcome::queued(id, place)),
    };
    outcome.return_url =
        to.and_then(|to| way_back(&gate, &to, &rendered.view, &outcome, &pass, Some(&basket)));
    let retry_after = outcome.retry_after_ms.map(|ms| [("retry-after", ms.div_ceil(1000).to_string())]);
    Ok((status, retry_after, json(&outcome)).into_response())
}

/// 422: the key stands for something else.
pub(crate) fn key_reused() -> Problem {
    Problem::new(
        &problem::KEY_REUSED,
        "this Idempotency-Key stands for another basket: use a new key for a new purchase",
    )
}

/// Milliseconds until its tier's part of the sale's rate, if it has no more than one, lets an
/// attempt go on to the sale; 429 if that is longer than anybody is made to wait here. What the
/// tier may not have, others may.
pub(crate) fn turn(gate: &Gate, front: &Front, tier: u8) -> Result<u64, Problem> {
    let rate = front.sale.view().rate_per_second;
    let (now_ms, wait_ms_max) = (gate.now().0, gate.config.decision_wait_ms);
    let Some(rate) = (rate > 0).then(|| gate.strategy.tier_rate(tier, rate)).flatten() else { return Ok(0) };
    match front.tier_admissions[usize::from(tier)].turn(rate, now_ms, wait_ms_max) {
        Err(wait) if gate.strategy.is_over_rate_share() => {
            let why = "the sale admits no more attempts now; this request decided nothing: wait as Retry-After says";
            Err(Problem::new(&problem::BUSY, why).retry_after(wait))
        }
        Ok(wait_ms) if wait_ms > 0 && gate.strategy.is_over_rate_share() => Ok(wait_ms),
        _ => Ok(0),
    }
}

/// 503: the part of the queue that it may fill has no room.
pub(crate) fn queue_full() -> Problem {
    let why = "the queue is full; this request decided nothing: wait as Retry-After says";
    Problem::new(&problem::QUEUE_FULL, why).retry_after(1)
}

/// What was said to this very attempt before, if it was for good, or its place if it is on its way;
/// else that there is no room for it now.
pub(crate) async fn known(
    front: &Front,
    id: AttemptId,
    shopper: ShopperKey,
    basket: Basket,
    full: Problem,
) -> Result<Told, Problem> {
    // In this order: see `current`.
    let place = standing(front, id, shopper).await;
    let found = reply(front.sale.lookup(id, shopper)).await?;
    match (found.basket, place) {
        (Some(kept), _) if kept == basket => Ok(Told::Answer(found.answer)),
        (Some(_), _) => Err(key_reused()),
        // It may be on its way under this key with another basket, and then its answer says so.
        (None, Ok(Some(told @ Told::InLine(_)))) => Ok(told),
        (None, _) => Err(full),
    }
}

/// Where an attempt stands, or how it was refused lately, as the sale says. Whoever asks waits for
/// the sale no longer than [`STANDING_WITHIN`], and never hears that nothing was done: it is not
/// this question that would have done anything.
pub(crate) async fn standing(
    front: &Front,
    id: AttemptId,
    shopper: ShopperKey,
) -> Result<Option<Told>, Problem> {
    standing_of(front.sale.position(id, shopper)).await
}

/// The same for a question that was put.
pub(crate) async fn standing_of(asked: Reply<Option<Told>>) -> Result<Option<Told>, Problem> {
    let silent = || Problem::unavailable("the sale does not say where this attempt stands");
    match timeout(STANDING_WITHIN, asked).await {
        Ok(Ok(Ok(told))) => Ok(told),
        // It found no room, and whether something was promised to it before is being looked up.
        Ok(Ok(Err(full @ (Unavailable::LineFull { .. } | Unavailable::TooManyInLine { .. })))) => {
            Err(problem::of_unavailable(full))
        }
        Ok(Ok(Err(stopped @ Unavailable::Stopped(_)))) => Err(problem::of_unavailable(stopped)),
        _ => Err(silent()),
    }
}

/// Puts an attempt to the sale and waits for the answer, but not for long.
pub(crate) async fn ask(
    gate: &Gate,
    front: &Front,
    pass: &Pass,
    id: AttemptId,
    basket: Basket,
) -> Result<Told, Problem> {
    let start = Instant::now();
    if let Some(said) = front.alone(&front.sale.view(), pass, &basket) {
        front.sale.gate_refused(&[said]);
        gate.note_alone(pass, &said);
        return Ok(Told::Answer(said.answer()));
    }
    let mut expected = None;
    match turn(gate, front, pass.tier) {
        Ok(0) => {}
        Ok(wait_ms) => {
            expected = Some(Expected::new(front, pass.shopper));
            sleep_until(start + Duration::from_millis(wait_ms)).await;
        }
        Err(busy) => return known(front, id, pass.shopper, basket, busy).await,
    }
    let attempt = Attempt { id, shopper: pass.shopper, sealed: pass.sealed, tier: pass.tier, basket };
    let mut one = vec![(0, attempt)];
    let over = gate.strategy.over_queue_share(|| front.sale.queue(), &mut one);
    if !over.is_empty() {
        return known(front, id, pass.shopper, basket, queue_full()).await;
    }
    let until = start + gate.decision_wait();
    let patience_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
    let mut told = pin!(reply(front.sale.attempt(attempt, patience_ms)));
    // It is the sale's now, which knows it.
    drop(expected);
    let asked = match timeout_at(until, &mut told).await {
        Ok(told) => told?,
        Err(_) => match standing(front, id, pass.shopper).await? {
            Some(told) => told,
            // It was decided just now, and the answer is on its way.
            None => match timeout(STANDING_WITHIN, told).await {
                Ok(told) => told?,
                Err(_) => return Err(Problem::unavailable("the sale does not answer")),
            },
        },
    };
    gate.note_answer(front, pass, &asked);
    Ok(asked)
}

fn idempotency_key(field: Option<&[u8]>) -> Result<&str, Problem> {
    let refused = |why: &str| {
        let want = format!(
            "Idempotency-Key: {why}, want 1 to {KEY_BYTES_MAX} visible ASCII characters, new for each purchase"
        );
        Problem::new(&problem::IDEMPOTENCY_KEY, want)
    };
    let key = field.ok_or_else(|| refused("missing"))?;
    let visible = key.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(key) {
        Ok(key) if visible && (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(key),
        _ => Err(refused("wrong")),
    }
}

/// The place of an item by name, or 422 naming it.
pub(crate) fn item_index(spec: &SaleSpec, item: &str) -> Result<u16, Problem> {
    known_item(spec, item).map_err(|why| Problem::new(&problem::INVALID, why))
}

/// `GET …/attempts/{attempt}`. Another shopper's attempt looks like one that was never made.
pub(super) async fn read(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path((sale, attempt)): Path<(String, String)>,
    Query(back): Query<Back>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let pass = gate.pass(&headers, &sale)?;
    let attempt = parse_attempt(&attempt)?;
    let to = way_back::named(&gate, back.return_url.as_deref())?;
    let Current { mut outcome, basket } = current(&front, &pass, attempt).await?;
    let view = front.sale.view();
    outcome.return_url = to.and_then(|to| way_back(&gate, &to, &view, &outcome, &pass, basket.as_ref()));
    if let (Some(hold), Some(basket)) = (&mut outcome.hold, &basket) {
        hold.ticket = ticket::sign(&gate.keys, &view, &pass, basket, hold);
    }
    Ok(json(&outcome))
}

pub(crate) fn parse_attempt(text: &str) -> Result<AttemptId, Problem> {
    text.parse().map_err(|e: contracts::IdError| Problem::new(&problem::NOT_FOUND, e.to_string()))
}

/// What is known of an attempt now, and what it asked for, if the sale keeps it.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) outcome: Outcome,
    pub(crate) basket: Option<Basket>,
}

/// Looks an attempt up. Another shopper's attempt looks like one that was never made.
pub(crate) async fn current(front: &Front, pass: &Pass, attempt: AttemptId) -> Result<Current, Problem> {
    // In this order: what is not on its way any more has been decided. What was promised to it
    // before stands, even if it was put once more and is on its way again, or found no room.
    let place = standing(front, attempt, pass.shopper).await;
    let Found { mut answer, basket } = reply(front.sale.lookup(attempt, pass.shopper)).await?;
    if let Answer::None { .. } = &answer {
        match place {
            Ok(Some(Told::InLine(place))) => {
                return Ok(Current { outcome: Outcome::queued(attempt, place), basket });
            }
            Ok(Some(Told::Answer(refusal))) => answer = refusal,
            Ok(None) => {}
            // It found no room: nothing is on its way.
            Err(full) if full.is(&problem::QUEUE_FULL) || full.is(&problem::TOO_MANY_IN_LINE) => {}
            // "Nothing" would be for good, and nobody knows that.
            Err(silent) => return Err(silent),
        }
    }
    let outcome = outcome_of(attempt, &answer).ok_or_else(key_reused)?;
    Ok(Current { outcome, basket })
}

#[derive(Serialize)]
struct AttemptList<'a> {
    attempts: Vec<ListedAttempt<'a>>,
    as_of: Sequence,
}

#[derive(Serialize)]
struct ListedAttempt<'a> {
    #[serde(flatten)]
    outcome: Outcome,
    lines: Vec<ListedLine<'a>>,
}

#[derive(Serialize)]
struct ListedLine<'a> {
    item: &'a str,
    quantity: u16,
}

/// `GET …/attempts`: what the sale keeps of the shopper, newest first.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let front = gate.front(&sale)?;
    gate.admit_address(peer)?;
    let pass = gate.pass(&headers, &sale)?;
    let record = reply(front.sale.shopper(pass.shopper)).await?;
    let view = front.sale.view();
    let attempts = record.attempts.iter().filter_map(|stored| {
        let lines = stored
            .basket
            .iter()
            .map(|l| ListedLine { item: ticket::item_name(&view.spec, l.item), quantity: l.quantity });
        Some(ListedAttempt { outcome: outcome_of(stored.id, &stored.answer)?, lines: lines.collect() })
    });
    Ok(json(&AttemptList { attempts: attempts.collect(), as_of: record.as_of }))
}
