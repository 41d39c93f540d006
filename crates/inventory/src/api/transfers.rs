//! Transfers between warehouses over HTTP.

use super::{BODY_BYTES_MAX, Caller, ONCE, Parts, id_of, twenty};
use crate::{
    core::TransferState,
    service::transfers::{Send, TransferListed, TransferView},
};
use axum::extract::{Path, State};
use contracts::store::{StockLine, TransferId, WarehouseId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;
use web::{
    api_keys::{Operator, Role},
    command_key::CommandKeyField,
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, get, post, put},
    problem::{CONFLICT, INVALID, NOT_FOUND, Problem, UNAVAILABLE, of_store},
    query::Query,
    reason::{NeededReason, Reasons},
};

const TRANSFER: &str = "/api/v1/store/transfers/{transfer}";
/// A thousand lines.
const LINES_BYTES_MAX: usize = 128 << 10;

/// Which transfers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those that stand so.
    #[serde(default = "in_transit")]
    state: TransferState,
    /// Those after this one, by name.
    #[serde(default)]
    after: Option<TransferId>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn in_transit() -> TransferState {
    TransferState::InTransit
}

/// Transfers, by their names.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockTransfers")]
struct TransferPage {
    transfers: Vec<TransferListed>,
    /// Ask with `after` set to this for those after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<TransferId>,
}

/// Units that leave a warehouse for another one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SendStock")]
struct SendStock {
    from: WarehouseId,
    to: WarehouseId,
    /// Each SKU once.
    #[schemars(length(min = 1, max = 1000))]
    lines: Vec<StockLine>,
    /// When they are thought to arrive.
    #[serde(default)]
    expected_at: Option<TimeMs>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// A transfer is under way.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockTransferSent")]
struct Sent {
    /// Whether it was not before.
    is_new: bool,
    transfer: TransferView,
}

/// Units that arrived.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockArrived")]
struct Arrived {
    /// Each SKU once.
    #[schemars(length(min = 1, max = 1000))]
    lines: Vec<StockLine>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Why something is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloseTransfer")]
struct Close {
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

pub(super) fn operations() -> Vec<Operation<Parts>> {
    let (read_only, operate) = (Access::Role(Role::ReadOnly), Access::Role(Role::Operator));
    let commanded = [&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE];
    vec![
        get("/api/v1/store/transfers", "listTransfers", read_only, list)
            .tagged()
            .does("Transfers from one warehouse to another, by their names.")
            .query::<Wanted>()
            .replies::<TransferPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get(TRANSFER, "readTransfer", read_only, read)
            .tagged()
            .does("A transfer.")
            .replies::<TransferView>("It.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(TRANSFER, "sendTransfer", operate, send)
            .does("Sends units from one warehouse to another, under a name that was not used before. They are on hand in neither until they arrive. What is set aside stays. Repeated, it changes nothing.")
            .takes::<SendStock>()
            .replies::<Sent>("The transfer.")
            .problems(&commanded),
        post("/api/v1/store/transfers/{transfer}/arrive", "arriveTransfer", operate, arrive)
            .does("Units of a transfer arrive, all or some of them. With the last of them it is closed.")
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .takes::<Arrived>()
            .replies::<TransferView>("The transfer after it.")
            .problems(&commanded),
        post("/api/v1/store/transfers/{transfer}/close", "closeTransfer", operate, close)
            .does("What has not arrived is lost. Repeated, it changes nothing.")
            .takes::<Close>()
            .replies::<TransferView>("The transfer after it.")
            .problems(&commanded),
    ]
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { state, after, limit }): Query<Wanted>,
) -> Result<JsonReply<TransferPage>, Problem> {
    let (limit, after) = (limit.clamp(1, 100), after.map(String::from).unwrap_or_default());
    let transfers = service.transfers(state, after, limit).await.map_err(of_store)?;
    let next = transfers.last().map(|of| of.transfer.clone()).filter(|_| transfers.len() == limit);
    Ok(JsonReply(TransferPage { transfers, next }))
}

async fn read(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
) -> Result<JsonReply<TransferView>, Problem> {
    service.transfer(id_of(&transfer)?).await.map(JsonReply).map_err(of_store)
}

async fn send(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    operator: Operator,
    JsonBody(SendStock { from, to, lines, expected_at, reason }): JsonBody<SendStock, LINES_BYTES_MAX>,
) -> Result<JsonReply<Sent>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let of = Send { transfer: id_of(&transfer)?, from, to, lines, expected_at };
    let (transfer, is_new) = service.send_transfer(operator.actor(&reason.0), of).await.map_err(of_store)?;
    Ok(JsonReply(Sent { is_new, transfer }))
}

async fn arrive(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    Caller { operator, key }: Caller,
    JsonBody(Arrived { lines, reason }): JsonBody<Arrived, LINES_BYTES_MAX>,
) -> Result<JsonReply<TransferView>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let done = service.arrive(operator.actor(&reason.0), key, id_of(&transfer)?, lines).await;
    done.map(JsonReply).map_err(of_store)
}

async fn close(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    operator: Operator,
    JsonBody(Close { reason }): JsonBody<Close, BODY_BYTES_MAX>,
) -> Result<JsonReply<TransferView>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let done = service.close_transfer(operator.actor(&reason.0), id_of(&transfer)?).await;
    done.map(JsonReply).map_err(of_store)
}
