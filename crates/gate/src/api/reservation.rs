//! A shopper's reservation: made before the sale, checked when it is eligibility.

use super::json;
use crate::{
    pass::Pass,
    problem::{self, Problem},
    state::{Gate, reply},
};
use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use contracts::{Actor, OperateError, Operation, OperationDone};
use http::HeaderMap;
use serde_json::json as document;
use std::sync::Arc;
use web::server::Peer;

type Handled = Result<Response, Problem>;

fn shopper(gate: &Gate, peer: Peer, sale: &str, headers: &HeaderMap) -> Result<Pass, Problem> {
    gate.front(sale)?;
    gate.admit_address(peer)?;
    let pass = gate.pass(headers, sale)?;
    gate.admit_shopper(&pass, gate.now())?;
    Ok(pass)
}

async fn reserve(gate: &Gate, peer: Peer, sale: &str, headers: &HeaderMap, reserved: bool) -> Handled {
    let pass = shopper(gate, peer, sale, headers)?;
    gate.admit_reservation(&pass)?;
    let operation = Operation::Reserve { shopper: pass.shopper, reserved };
    let done = reply(gate.front(sale)?.sale.operate(Actor::new("shopper", ""), operation)).await?;
    let reserved = match done.map_err(operate_problem)? {
        OperationDone::Reserved { reserved } => reserved,
        _ => reserved,
    };
    Ok(json(&document!({ "reserved": reserved })))
}

/// `PUT …/reservation`.
pub(super) async fn make(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Handled {
    reserve(&gate, peer, &sale, &headers, true).await
}

/// `DELETE …/reservation`.
pub(super) async fn cancel(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Handled {
    reserve(&gate, peer, &sale, &headers, false).await
}

/// `GET …/reservation`.
pub(super) async fn read(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    Path(sale): Path<String>,
    headers: HeaderMap,
) -> Handled {
    let pass = shopper(&gate, peer, &sale, &headers)?;
    let record = reply(gate.front(&sale)?.sale.shopper(pass.shopper)).await?;
    Ok(json(&document!({ "reserved": record.reserved })))
}

/// The sale's refusal of a command, by what the caller can do about it.
pub(crate) fn operate_problem(error: OperateError) -> Problem {
    match error {
        OperateError::Conflict(why) => Problem::new(&problem::CONFLICT, why),
        OperateError::NotFound(why) => Problem::new(&problem::NOT_FOUND, why),
        OperateError::Invalid(why) => Problem::new(&problem::INVALID, why),
    }
}
