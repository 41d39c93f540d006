//! Operators' commands as HTTP: each is parsed, handed to the sale with its actor and reason, and
//! answered.

use super::authorize;
use crate::{
    api::{attempts::parse_attempt, item_index, json, reservation::operate_problem},
    front::Front,
    problem::{self, Problem},
    state::{Gate, reply},
};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use contracts::{
    AttemptId, ConfirmResult, HoldView, ITEMS_MAX, OperateError, Operation, OperationDone, ROUNDS_MAX,
    RoundItemLimit, SaleId, SaleSpec, VOID_BATCH_MAX, VoidTarget,
};
use http::HeaderMap;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json as document};
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Role,
    body::want_media_type,
    reason::{Reasons, check_text},
};

/// As much as one entry of the log; a sale of 100 items in 100 rounds has 800 KB.
const SPEC_BYTES_MAX: usize = 1 << 20;
/// A void of 4,096 attempts has 150 KB.
const COMMAND_BYTES_MAX: usize = 256 << 10;

type Handled = Result<Response, Problem>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Reason {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extend {
    closes_at: TimeMs,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjust {
    delta: i64,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    per_second: u32,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    limit_per_shopper: Option<u32>,
    #[serde(default)]
    items: Vec<ItemLimit>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemLimit {
    /// Counted from 0, as in the sale's document.
    round: u16,
    item: String,
    limit_per_shopper: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Void {
    shopper: Option<String>,
    attempt: Option<AttemptId>,
    attempts: Option<Vec<AttemptId>>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    payment: String,
    #[serde(default)]
    reason: String,
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(&problem::INVALID, why.into())
}

/// The body as JSON.
pub(super) async fn parse<T: DeserializeOwned>(
    gate: &Gate,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<T, Problem> {
    want_media_type(headers, "application/json")?;
    let bytes = gate.body(body, bytes_max).await?;
    serde_json::from_slice(&bytes).map_err(|e| invalid(format!("body: {e}")))
}

/// The reason in a body that may be left out where no reason is needed.
async fn parse_reason(
    gate: &Gate,
    headers: &HeaderMap,
    body: Body,
    needed: Reasons,
) -> Result<String, Problem> {
    let bytes = gate.body(body, COMMAND_BYTES_MAX).await?;
    let Reason { reason } = match bytes.is_empty() {
        true => Reason::default(),
        false => parse(gate, headers, bytes.into(), COMMAND_BYTES_MAX).await?,
    };
    needed.check(&reason).map(|()| reason)
}

async fn operate(
    front: &Front,
    actor: contracts::Actor,
    operation: Operation,
) -> Result<OperationDone, Problem> {
    reply(front.sale.operate(actor, operation)).await?.map_err(operate_problem)
}

fn hold_document(id: AttemptId, hold: &HoldView) -> Value {
    document!({ "id": id, "state": hold.state.as_str(), "pay_by": hold.pay_by })
}

fn done(hold: Option<AttemptId>, done: &OperationDone) -> Response {
    let id = hold.unwrap_or_default();
    json(&match done {
        OperationDone::Ok => document!({ "done": true }),
        OperationDone::Voided { count } => document!({ "voided": count }),
        OperationDone::Confirmed { result: ConfirmResult::Confirmed { late }, hold } => {
            document!({ "result": "confirmed", "late": late, "hold": hold_document(id, hold) })
        }
        OperationDone::Confirmed { result: ConfirmResult::Refund, hold } => {
            document!({ "result": "refund", "hold": hold_document(id, hold) })
        }
        OperationDone::Released { hold } => {
            document!({ "hold": hold.as_ref().map(|h| hold_document(id, h)) })
        }
        OperationDone::Adjusted { free } => document!({ "free": free }),
        OperationDone::Reserved { reserved } => document!({ "reserved": reserved }),
    })
}

/// `PUT …/sales/{sale}?reason=…`: sets a sale up, or anew as long as no round has opened.
pub(super) async fn define(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Owner)?;
    let reason = Reasons::Optional.in_query(query.as_deref())?;
    let sale: SaleId = sale.parse().map_err(|e: contracts::IdError| invalid(e.to_string()))?;
    let spec: SaleSpec = parse(&gate, &headers, body, SPEC_BYTES_MAX).await?;
    spec.validate().map_err(|e| invalid(e.to_string()))?;
    let sales = Arc::clone(&gate.sales);
    let made = tokio::task::spawn_blocking(move || sales.get_or_create(&sale)).await;
    let sale = made
        .map_err(|e| Problem::unavailable(&format!("set up the sale: {e}")))?
        .map_err(problem::of_unavailable)?;
    let operation = Operation::Define(Box::new(spec));
    let outcome = reply(sale.operate(operator.actor(&reason), operation)).await?.map_err(operate_problem)?;
    Ok(done(None, &outcome))
}

async fn simple(
    gate: &Arc<Gate>,
    sale: &str,
    headers: &HeaderMap,
    body: Body,
    operation: Operation,
    needed: Reasons,
) -> Handled {
    let operator = authorize(gate, headers, Role::Operator)?;
    let front = gate.front(sale)?;
    let reason = parse_reason(gate, headers, body, needed).await?;
    Ok(done(None, &operate(&front, operator.actor(&reason), operation).await?))
}

/// `POST …/open`: opens the next round now.
pub(super) async fn open(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    simple(&gate, &sale, &headers, body, Operation::Open, Reasons::Optional).await
}

/// `POST …/pause`.
pub(super) async fn pause(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    simple(&gate, &sale, &headers, body, Operation::Pause, Reasons::Optional).await
}

/// `POST …/resume`.
pub(super) async fn resume(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    simple(&gate, &sale, &headers, body, Operation::Resume, Reasons::Optional).await
}

/// `POST …/close {"reason"}`: ends the open round now.
pub(super) async fn close(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    simple(&gate, &sale, &headers, body, Operation::Close, Reasons::Needed).await
}

/// `POST …/extend {"closes_at"}`.
pub(super) async fn extend(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let front = gate.front(&sale)?;
    let Extend { closes_at, reason } = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    Reasons::Optional.check(&reason)?;
    Ok(done(None, &operate(&front, operator.actor(&reason), Operation::Extend { closes_at }).await?))
}

/// `POST …/limits {"limit_per_shopper", "items", "reason"}`.
pub(super) async fn limits(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let front = gate.front(&sale)?;
    let limits: Limits = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    Reasons::Needed.check(&limits.reason)?;
    if limits.items.len() > ITEMS_MAX * ROUNDS_MAX {
        return Err(invalid("items: too many"));
    }
    let view = front.sale.view();
    let mut items = Vec::with_capacity(limits.items.len());
    for change in &limits.items {
        let item = item_index(&view.spec, &change.item)?;
        if usize::from(change.round) >= view.spec.rounds.len() {
            return Err(invalid(format!("items: no round {}, the first is 0", change.round)));
        }
        items.push(RoundItemLimit { round: change.round, item, limit: change.limit_per_shopper });
    }
    let operation = Operation::Limits { sale: limits.limit_per_shopper, items };
    Ok(done(None, &operate(&front, operator.actor(&limits.reason), operation).await?))
}

/// `POST …/rate {"per_second"}`.
pub(super) async fn rate(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let front = gate.front(&sale)?;
    let Rate { per_second, reason } = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    Reasons::Optional.check(&reason)?;
    Ok(done(None, &operate(&front, operator.actor(&reason), Operation::Rate { per_second }).await?))
}

/// `POST …/items/{item}/adjust {"delta", "reason"}`.
pub(super) async fn adjust(
    State(gate): State<Arc<Gate>>,
    Path((sale, item)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let front = gate.front(&sale)?;
    let item = front.sale.view().spec.item_index(&item);
    let item = item.ok_or_else(|| Problem::new(&problem::NOT_FOUND, "the sale has no such item"))?;
    let Adjust { delta, reason } = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    Reasons::Needed.check(&reason)?;
    if delta.unsigned_abs() > contracts::STOCK_MAX {
        return Err(invalid(format!("delta: want {} at the most, either way", contracts::STOCK_MAX)));
    }
    let operation = Operation::Adjust { item, delta };
    Ok(done(None, &operate(&front, operator.actor(&reason), operation).await?))
}

/// `POST …/void`: by shopper, attempt or list of attempts.
pub(super) async fn void(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let front = gate.front(&sale)?;
    let void: Void = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    Reasons::Needed.check(&void.reason)?;
    let target = match (void.shopper, void.attempt, void.attempts) {
        (Some(shopper), None, None) => {
            let sealed = gate.keys.seal(&shopper).ok_or_else(|| invalid("shopper: want 1 to 64 bytes"))?;
            VoidTarget::Shopper(sealed.0)
        }
        (None, Some(attempt), None) => VoidTarget::Attempts(vec![attempt]),
        (None, None, Some(attempts)) if (1..=VOID_BATCH_MAX).contains(&attempts.len()) => {
            VoidTarget::Attempts(attempts)
        }
        (None, None, Some(_)) => return Err(invalid(format!("attempts: want 1 to {VOID_BATCH_MAX}"))),
        _ => return Err(invalid("want exactly one of shopper, attempt and attempts")),
    };
    Ok(done(None, &operate(&front, operator.actor(&void.reason), Operation::Void(target)).await?))
}

/// `GET …/stats`.
pub(super) async fn stats(
    State(gate): State<Arc<Gate>>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Handled {
    authorize(&gate, &headers, Role::ReadOnly)?;
    Ok(json(&reply(gate.front(&sale)?.sale.stats()).await?))
}

/// Carries a command out in the sale that has the hold. A hold's id says nothing of its sale, so
/// each is asked.
async fn on_hold(gate: &Gate, id: AttemptId, actor: &contracts::Actor, operation: &Operation) -> Handled {
    let mut silent = None;
    for sale in gate.sales.list() {
        let Some(sale) = gate.sales.get(sale.as_str()) else { continue };
        match reply(sale.operate(actor.clone(), operation.clone())).await {
            Ok(Err(OperateError::NotFound(_))) => {}
            Ok(Err(error)) => return Err(operate_problem(error)),
            Ok(Ok(outcome)) => return Ok(done(Some(id), &outcome)),
            // A sale that cannot answer must not keep the others' holds from being paid.
            Err(problem) => silent = Some(problem),
        }
    }
    Err(silent.unwrap_or_else(|| Problem::new(&problem::NOT_FOUND, format!("no hold {id}"))))
}

/// `POST …/holds/{hold}/confirm {"payment"}`.
pub(super) async fn confirm(
    State(gate): State<Arc<Gate>>,
    Path(hold): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let hold = parse_attempt(&hold)?;
    let Payment { payment, reason } = parse(&gate, &headers, body, COMMAND_BYTES_MAX).await?;
    check_text("payment", &payment, 1)?;
    Reasons::Optional.check(&reason)?;
    on_hold(&gate, hold, &operator.actor(&reason), &Operation::Confirm { hold, payment }).await
}

/// `POST …/holds/{hold}/release`.
pub(super) async fn release(
    State(gate): State<Arc<Gate>>,
    Path(hold): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Handled {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let hold = parse_attempt(&hold)?;
    let reason = parse_reason(&gate, &headers, body, Reasons::Optional).await?;
    on_hold(&gate, hold, &operator.actor(&reason), &Operation::Release { hold }).await
}
