//! A shopper's reservation, which is made before the sale, and checked by sales that require one.

use super::PassHolder;
use crate::{
    limits::Limits,
    problem::{Problem, of_operation, reply},
};
use axum::extract::State;
use contracts::{Actor, Operation, OperationDone};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use web::{json::JsonReply, protection::Protection};

#[derive(Serialize, JsonSchema)]
pub(super) struct Reservation {
    reserved: bool,
}

type Handled = Result<JsonReply<Reservation>, Problem>;

async fn reserve(limits: &Limits, PassHolder { front, pass, .. }: PassHolder, reserved: bool) -> Handled {
    limits.reservation(&pass)?;
    let operation = Operation::Reserve { shopper: pass.shopper, reserved };
    let done = reply(front.sale.operate(Actor::new(Actor::SHOPPER, ""), operation)).await?;
    let reserved = match done.map_err(of_operation)? {
        OperationDone::Reserved { reserved } => reserved,
        _ => reserved,
    };
    Ok(JsonReply(Reservation { reserved }))
}

/// `PUT …/reservation`.
pub(super) async fn make(holder: PassHolder, State(limits): State<Arc<Limits>>) -> Handled {
    reserve(&limits, holder, true).await
}

/// `DELETE …/reservation`.
pub(super) async fn cancel(holder: PassHolder, State(limits): State<Arc<Limits>>) -> Handled {
    reserve(&limits, holder, false).await
}

/// `GET …/reservation`.
pub(super) async fn read(
    PassHolder { front, pass, .. }: PassHolder,
    State(limits): State<Arc<Limits>>,
    State(protection): State<Arc<Protection>>,
) -> Handled {
    limits.shopper(&pass, protection.now())?;
    let record = reply(front.sale.shopper(pass.shopper)).await?;
    Ok(JsonReply(Reservation { reserved: record.reserved }))
}
