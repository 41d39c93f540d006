//! `/api/v1/admin/strategy`: how strict the gate is: the order, and the present state.

use super::Done;
use crate::{
    front::Fronts,
    ports::QueueFill,
    problem::{self, Problem},
    strategy::{Load, Plan, Stage, Strategy},
};
use axum::extract::{RawQuery, State};
use contracts::SaleId;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Operator,
    json::{JsonBody, JsonReply},
    protection::Protection,
    reason::Reasons,
};

/// Enough for 256 tiers, which have 10 KB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The strategy as it was ordered, and its present state.
#[derive(Serialize, JsonSchema)]
pub(super) struct Standing {
    plan: Plan,
    /// Null for the built-in plan.
    ordered: Option<Ordered>,
    stage: Stage,
    load_percent: Load,
    sales: Vec<SaleLoad>,
}

/// Who ordered it, when and why.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Ordered {
    since: TimeMs,
    actor: String,
    reason: String,
}

/// The load of a sale.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SaleLoad {
    sale: SaleId,
    rate_per_second: u32,
    queue: u64,
    queue_max: u64,
    /// Attempts that wait in line, after those in the queue.
    line: u64,
    line_max: u64,
}

/// `GET`: the plan, who ordered it, the stage, the load, and the queue of each sale.
pub(super) async fn read(
    State(fronts): State<Arc<Fronts>>,
    State(strategy): State<Arc<Strategy>>,
) -> JsonReply<Standing> {
    let (plan, order) = strategy.standing();
    let sales = fronts.each().map(|(id, sale)| {
        let QueueFill { length, max, line, line_max } = sale.queue();
        let rate_per_second = sale.view().rate_per_second;
        SaleLoad { sale: id, rate_per_second, queue: length, queue_max: max, line, line_max }
    });
    JsonReply(Standing {
        plan,
        ordered: order.map(|order| Ordered { since: order.since, actor: order.actor, reason: order.reason }),
        stage: strategy.stage(),
        load_percent: strategy.load(),
        sales: sales.collect(),
    })
}

/// `PUT ?reason=…`: replaces the whole plan.
pub(super) async fn order(
    operator: Operator,
    State(strategy): State<Arc<Strategy>>,
    State(protection): State<Arc<Protection>>,
    RawQuery(query): RawQuery,
    JsonBody(plan): JsonBody<Plan, BODY_BYTES_MAX>,
) -> Result<JsonReply<Done>, Problem> {
    let actor = operator.actor(&Reasons::Needed.in_query(query.as_deref())?);
    if let Some((field, want)) = plan.wrong() {
        return Err(Problem::new(&problem::INVALID, format!("{field}: {want}")));
    }
    let ordered = tokio::task::spawn_blocking(move || {
        let said = serde_json::to_string(&plan).unwrap_or_default();
        strategy.order(plan, &actor, protection.now()).inspect(|()| {
            tracing::warn!(actor = actor.name, reason = actor.reason, plan = said, "a strategy was ordered");
        })
    });
    ordered.await.map_err(|_| Problem::internal())?.map_err(|error| {
        tracing::error!(%error, "order a strategy: not written");
        let why = "the strategy cannot be written, and does not hold: see the server's log";
        Problem::new(&problem::UNAVAILABLE, why).retry_after(5)
    })?;
    Ok(JsonReply(Done::DONE))
}
