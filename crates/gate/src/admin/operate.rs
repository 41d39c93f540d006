//! Operators' commands over HTTP: each is parsed, handed to the sale with its actor and reason, and
//! answered.

use super::{
    Done,
    caller::{Caller, Commanded},
    change::{change, sale_id},
};
use crate::{
    api::AtSale,
    attempts::parse_attempt,
    basket::known_item,
    drafts::Drafts,
    front::{Front, Fronts},
    keys::Keyring,
    problem::{self, Problem, of_operation, reply},
};
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use contracts::{
    Actor, AttemptId, ConfirmResult, HoldState, HoldView, ITEMS_MAX, ItemId, OperateError, Operation,
    OperationDone, ROUNDS_MAX, RoundItemLimit, SHOPPER_ID_FORM, SHOPPER_ID_PATTERN, SaleSpec, SaleStats,
    VOID_BATCH_MAX, VoidTarget,
};
use http::request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Operator,
    json::{JsonBody, JsonOrNothing, JsonReply},
    reason::{NO_CONTROLS, NeededReason, Reason, Reasons, check_text},
};

/// The size of the largest entry of the log. A sale of 100 items in 100 rounds has 800 KB.
const SPEC_BYTES_MAX: usize = 1 << 20;
/// Room for a void of 4,096 attempts, which has 150 KB.
const COMMAND_BYTES_MAX: usize = 256 << 10;

type Command<T> = JsonBody<T, COMMAND_BYTES_MAX>;
type CommandOrNothing<T> = JsonOrNothing<T, COMMAND_BYTES_MAX>;
type Handled<T = Done> = Result<JsonReply<T>, Problem>;

/// A command with nothing but a reason.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WithReason {
    reason: Reason,
}

/// A command with nothing but a reason, which is required.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WithNeededReason {
    #[serde(default)]
    #[schemars(!default)]
    pub(super) reason: NeededReason,
}

/// A new end of the open round.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    closes_at: TimeMs,
    #[serde(default)]
    reason: Reason,
}

/// A change of an item's stock.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Adjust {
    #[schemars(range(min = -100_000_000, max = 100_000_000), extend("not" = { "const": 0 }))]
    delta: i64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Attempts that are admitted a second.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    /// 0 removes the limit.
    #[schemars(range(max = 4_294_967_295_u32))]
    per_second: u32,
    #[serde(default)]
    reason: Reason,
}

/// New limits per shopper.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Units per shopper over all rounds; 0 removes the limit, absent leaves it as it is.
    #[schemars(range(max = 1000))]
    limit_per_shopper: Option<u32>,
    #[serde(default)]
    items: Vec<ItemLimit>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// A new limit per shopper for an item in a round.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ItemLimit {
    /// Counted from 0, as in the sale's document.
    #[schemars(range(max = 199))]
    round: u16,
    #[schemars(with = "ItemId")]
    item: String,
    #[schemars(range(max = 1000))]
    limit_per_shopper: u16,
}

/// Exactly one of shopper, attempt and attempts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["shopper"] }, { "required": ["attempt"] }, { "required": ["attempts"] },
]))]
pub(super) struct Void {
    #[schemars(with = "String", length(min = 1, max = 64), extend("pattern" = SHOPPER_ID_PATTERN))]
    #[serde(default)]
    shopper: Option<String>,
    #[schemars(with = "AttemptId")]
    #[serde(default)]
    attempt: Option<AttemptId>,
    #[schemars(with = "Vec<AttemptId>", length(min = 1, max = 4096))]
    #[serde(default)]
    attempts: Option<Vec<AttemptId>>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// A payment of a hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Payment {
    /// The provider's reference, by which a repeated payment is recognised.
    #[schemars(length(min = 1, max = 200), extend("pattern" = NO_CONTROLS))]
    payment: String,
    #[serde(default)]
    reason: Reason,
}

/// An item's figures after a change.
#[derive(Serialize, JsonSchema)]
pub(super) struct Adjusted {
    free: u64,
}

/// The result of a void.
#[derive(Serialize, JsonSchema)]
pub(super) struct Voided {
    voided: u64,
}

/// A hold as it is now.
#[derive(Serialize, JsonSchema)]
struct AdminHold {
    id: AttemptId,
    state: HoldState,
    pay_by: TimeMs,
}

/// The result of a payment.
#[derive(Serialize, JsonSchema)]
pub(super) struct Confirmed {
    result: PaymentResult,
    /// The payment came after the deadline, and stock was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<bool>,
    hold: AdminHold,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum PaymentResult {
    Confirmed,
    Refund,
}

/// The result of a release.
#[derive(Serialize, JsonSchema)]
pub(super) struct Released {
    hold: Option<AdminHold>,
}

fn invalid(why: impl Into<String>) -> Problem {
    Problem::new(&problem::INVALID, why.into())
}

/// The hold that the path names; 404 for a malformed id.
pub(super) struct HoldInPath(AttemptId);

impl<S: Send + Sync> FromRequestParts<S> for HoldInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let hold = Path::<String>::from_request_parts(parts, state).await;
        let Path(hold) = hold.map_err(|_| Problem::new(&problem::BAD_REQUEST, "the path cannot be read"))?;
        parse_attempt(&hold).map(Self)
    }
}

async fn operate(front: &Front, commanded: Commanded) -> Result<OperationDone, Problem> {
    let Commanded { actor, operation, as_before } = commanded;
    let first = reply(front.sale.operate(actor.clone(), operation)).await?;
    let done = match (first, as_before) {
        // If the key stands for another command, it may be this one as an earlier build wrote it.
        // Otherwise the sale refuses it again.
        (Err(OperateError::Conflict(_)), Some(as_before)) => {
            reply(front.sale.operate(actor, as_before)).await?
        }
        (first, _) => first,
    };
    done.map_err(of_operation)
}

impl AdminHold {
    fn new(id: AttemptId, hold: &HoldView) -> Self {
        Self { id, state: hold.state, pay_by: hold.pay_by }
    }
}

/// `PUT …/sales/{sale}?reason=…`: sets a sale up, or changes it, as long as no round has opened.
pub(super) async fn define(
    operator: Operator,
    State(fronts): State<Arc<Fronts>>,
    State(drafts): State<Arc<Drafts>>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
    JsonBody(spec): JsonBody<SaleSpec, SPEC_BYTES_MAX>,
) -> Handled {
    let reason = Reasons::Optional.in_query(query.as_deref())?;
    let (sale, by) = (sale_id(&sale)?, operator.actor(&reason));
    spec.validate_new().map_err(|e| invalid(e.to_string()))?;
    change(drafts, &fronts, move |drafts, sales| drafts.define(sales, &sale, by, Box::new(spec))).await?;
    Ok(JsonReply(Done::DONE))
}

async fn simple(caller: &Caller, AtSale(front): AtSale, reason: &str, operation: Operation) -> Handled {
    operate(&front, caller.command(reason, operation)).await?;
    Ok(JsonReply(Done::DONE))
}

/// `POST …/open`: opens the next round now.
pub(super) async fn open(
    caller: Caller,
    sale: AtSale,
    JsonOrNothing(WithReason { reason }): CommandOrNothing<WithReason>,
) -> Handled {
    Reasons::Optional.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Open).await
}

/// `POST …/pause`.
pub(super) async fn pause(
    caller: Caller,
    sale: AtSale,
    JsonOrNothing(WithReason { reason }): CommandOrNothing<WithReason>,
) -> Handled {
    Reasons::Optional.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Pause).await
}

/// `POST …/resume`.
pub(super) async fn resume(
    caller: Caller,
    sale: AtSale,
    JsonOrNothing(WithReason { reason }): CommandOrNothing<WithReason>,
) -> Handled {
    Reasons::Optional.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Resume).await
}

/// `POST …/close {"reason"}`: ends the open round now.
pub(super) async fn close(
    caller: Caller,
    sale: AtSale,
    JsonOrNothing(WithNeededReason { reason }): CommandOrNothing<WithNeededReason>,
) -> Handled {
    Reasons::Needed.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Close).await
}

/// `POST …/end-waitlist {"reason"}`: all who wait leave.
pub(super) async fn end_waitlist(
    caller: Caller,
    sale: AtSale,
    JsonBody(WithNeededReason { reason }): Command<WithNeededReason>,
) -> Handled {
    Reasons::Needed.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::EndWaitlist).await
}

/// `POST …/extend {"closes_at"}`.
pub(super) async fn extend(
    caller: Caller,
    sale: AtSale,
    JsonBody(Extend { closes_at, reason }): Command<Extend>,
) -> Handled {
    Reasons::Optional.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Extend { closes_at }).await
}

/// `POST …/limits {"limit_per_shopper", "items", "reason"}`.
pub(super) async fn limits(caller: Caller, sale: AtSale, JsonBody(limits): Command<Limits>) -> Handled {
    Reasons::Needed.check(&limits.reason.0)?;
    if limits.items.len() > ITEMS_MAX * ROUNDS_MAX {
        return Err(invalid("items: too many"));
    }
    let view = sale.0.sale.view();
    let mut items = Vec::with_capacity(limits.items.len());
    for change in &limits.items {
        let item = known_item(&view.spec, &change.item).map_err(invalid)?;
        if usize::from(change.round) >= view.spec.rounds.len() {
            return Err(invalid(format!("items: no round {}, the first is 0", change.round)));
        }
        items.push(RoundItemLimit { round: change.round, item, limit: change.limit_per_shopper });
    }
    let operation = Operation::Limits { sale: limits.limit_per_shopper, items };
    simple(&caller, sale, &limits.reason.0, operation).await
}

/// `POST …/rate {"per_second"}`.
pub(super) async fn rate(
    caller: Caller,
    sale: AtSale,
    JsonBody(Rate { per_second, reason }): Command<Rate>,
) -> Handled {
    Reasons::Optional.check(&reason.0)?;
    simple(&caller, sale, &reason.0, Operation::Rate { per_second }).await
}

/// `POST …/items/{item}/adjust {"delta", "reason"}`.
pub(super) async fn adjust(
    caller: Caller,
    AtSale(front): AtSale,
    Path((_, item)): Path<(String, String)>,
    JsonBody(Adjust { delta, reason }): Command<Adjust>,
) -> Handled<Adjusted> {
    let item = front.sale.view().spec.item_index(&item);
    let item = item.ok_or_else(|| Problem::new(&problem::NOT_FOUND, "the sale has no such item"))?;
    Reasons::Needed.check(&reason.0)?;
    if delta.unsigned_abs() > contracts::STOCK_MAX {
        return Err(invalid(format!("delta: want {} at the most, either way", contracts::STOCK_MAX)));
    }
    match operate(&front, caller.command(&reason.0, Operation::Adjust { item, delta })).await? {
        OperationDone::Adjusted { free } => Ok(JsonReply(Adjusted { free })),
        other => Err(unexpected(&other)),
    }
}

/// A sale answered a command other than the one that it was given, which is a bug.
fn unexpected(done: &OperationDone) -> Problem {
    tracing::error!(?done, "a sale answered another command than the one that it was given");
    Problem::internal()
}

/// `POST …/void`: by shopper, attempt or list of attempts.
pub(super) async fn void(
    caller: Caller,
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    JsonBody(void): Command<Void>,
) -> Handled<Voided> {
    Reasons::Needed.check(&void.reason.0)?;
    let target = match (void.shopper, void.attempt, void.attempts) {
        (Some(shopper), None, None) => {
            let sealed =
                keys.seal(&shopper).ok_or_else(|| invalid(format!("shopper: want {SHOPPER_ID_FORM}")))?;
            VoidTarget::Shopper(sealed.0)
        }
        (None, Some(attempt), None) => VoidTarget::Attempts(vec![attempt]),
        (None, None, Some(attempts)) if (1..=VOID_BATCH_MAX).contains(&attempts.len()) => {
            VoidTarget::Attempts(attempts)
        }
        (None, None, Some(_)) => return Err(invalid(format!("attempts: want 1 to {VOID_BATCH_MAX}"))),
        _ => return Err(invalid("want exactly one of shopper, attempt and attempts")),
    };
    match operate(&front, caller.command(&void.reason.0, Operation::Void(target))).await? {
        OperationDone::Voided { count } => Ok(JsonReply(Voided { voided: count })),
        other => Err(unexpected(&other)),
    }
}

/// `GET …/stats`.
pub(super) async fn stats(AtSale(front): AtSale) -> Handled<SaleStats> {
    reply(front.sale.stats()).await.map(JsonReply)
}

/// Carries out a command in the sale that has the hold. A hold's id does not name its sale, so each
/// sale is asked.
async fn on_hold(
    fronts: &Fronts,
    hold: AttemptId,
    actor: &Actor,
    operation: &Operation,
) -> Result<OperationDone, Problem> {
    let mut silent = None;
    for (_, sale) in fronts.each() {
        match reply(sale.operate(actor.clone(), operation.clone())).await {
            Ok(Err(OperateError::NotFound(_))) => {}
            Ok(Err(error)) => return Err(of_operation(error)),
            Ok(Ok(done)) => return Ok(done),
            // A sale that cannot answer must not prevent payments for the holds of other sales.
            Err(problem) => silent = Some(problem),
        }
    }
    Err(silent.unwrap_or_else(|| Problem::new(&problem::NOT_FOUND, format!("no hold {hold}"))))
}

/// `POST …/holds/{hold}/confirm {"payment"}`.
pub(super) async fn confirm(
    operator: Operator,
    HoldInPath(hold): HoldInPath,
    State(fronts): State<Arc<Fronts>>,
    JsonBody(Payment { payment, reason }): Command<Payment>,
) -> Handled<Confirmed> {
    check_text("payment", &payment, 1)?;
    Reasons::Optional.check(&reason.0)?;
    let confirm = Operation::Confirm { hold, payment };
    let (result, late, view) = match on_hold(&fronts, hold, &operator.actor(&reason.0), &confirm).await? {
        OperationDone::Confirmed { result: ConfirmResult::Confirmed { late }, hold } => {
            (PaymentResult::Confirmed, Some(late), hold)
        }
        OperationDone::Confirmed { result: ConfirmResult::Refund, hold } => {
            (PaymentResult::Refund, None, hold)
        }
        other => return Err(unexpected(&other)),
    };
    Ok(JsonReply(Confirmed { result, late, hold: AdminHold::new(hold, &view) }))
}

/// `POST …/holds/{hold}/release`.
pub(super) async fn release(
    operator: Operator,
    HoldInPath(hold): HoldInPath,
    State(fronts): State<Arc<Fronts>>,
    JsonOrNothing(WithReason { reason }): CommandOrNothing<WithReason>,
) -> Handled<Released> {
    Reasons::Optional.check(&reason.0)?;
    match on_hold(&fronts, hold, &operator.actor(&reason.0), &Operation::Release { hold }).await? {
        OperationDone::Released { hold: view } => {
            Ok(JsonReply(Released { hold: view.map(|view| AdminHold::new(hold, &view)) }))
        }
        other => Err(unexpected(&other)),
    }
}
