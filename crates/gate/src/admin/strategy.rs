//! `/api/v1/admin/strategy`: how strict the gate is, as ordered and as it stands.

use super::{authorize, operate::parse};
use crate::{
    api::json,
    ports::QueueFill,
    problem::{self, Problem},
    state::Gate,
    strategy::Plan,
};
use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::json as document;
use std::sync::Arc;
use web::{api_keys::Role, reason::Reasons};

/// 256 tiers have 10 KB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// `GET`: the plan, who ordered it, the stage, the load, and what each sale has.
pub(super) async fn read(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Result<Response, Problem> {
    authorize(&gate, &headers, Role::ReadOnly)?;
    let (plan, order) = gate.strategy.standing();
    let sales: Vec<_> = gate
        .sales
        .list()
        .into_iter()
        .filter_map(|id| {
            let sale = gate.sales.get(id.as_str())?;
            let QueueFill { length, max, line, line_max } = sale.queue();
            let rate = sale.view().rate_per_second;
            Some(document!({
                "sale": id, "rate_per_second": rate, "queue": length, "queue_max": max, "line": line, "line_max": line_max,
            }))
        })
        .collect();
    let ordered =
        order.map(|order| document!({ "since": order.since, "actor": order.actor, "reason": order.reason }));
    Ok(json(&document!({
        "plan": plan,
        "ordered": ordered,
        "stage": gate.strategy.stage(),
        "load_percent": gate.strategy.load(),
        "sales": sales,
    })))
}

/// `PUT ?reason=…`: another plan, whole.
pub(super) async fn order(
    State(gate): State<Arc<Gate>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let operator = authorize(&gate, &headers, Role::Operator)?;
    let actor = operator.actor(&Reasons::Needed.in_query(query.as_deref())?);
    let plan: Plan = parse(&gate, &headers, body, BODY_BYTES_MAX).await?;
    if let Some((field, want)) = plan.wrong() {
        return Err(Problem::new(&problem::INVALID, format!("{field}: {want}")));
    }
    let ordered = tokio::task::spawn_blocking(move || {
        let said = document!(plan).to_string();
        gate.strategy.order(plan, &actor, gate.now()).inspect(|()| {
            tracing::warn!(actor = actor.name, reason = actor.reason, plan = said, "a strategy was ordered");
        })
    });
    ordered.await.map_err(|_| Problem::internal())?.map_err(|error| {
        tracing::error!(%error, "order a strategy: not written");
        let why = "the strategy cannot be written, and does not hold: see the server's log";
        Problem::new(&problem::UNAVAILABLE, why).retry_after(5)
    })?;
    Ok(json(&document!({ "done": true })))
}
