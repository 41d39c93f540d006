//! Orders over HTTP, for those who run the shop: all orders, and what is done with them. Shoppers
//! have their pages.

use crate::{
    core::Command,
    service::{Service, of_order, of_sql},
};
use axum::extract::{Path, State};
use contracts::store::{Delivery, OrderId, OrderState, OrderView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use web::{
    api_keys::{Operator, Role},
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, get, post},
    problem::{CONFLICT, INVALID, NOT_FOUND, Problem, UNAVAILABLE, of_store},
    query::Query,
    reason::{NO_CONTROLS, NeededReason, Reasons},
};

const ORDER: &str = "/api/v1/store/orders/{order}";
const BODY_BYTES_MAX: usize = 4096;
/// Characters of a carrier's name and of a parcel's number.
const PARCEL_MAX: usize = 100;

/// What the handlers use.
pub type Parts = web::parts::Parts<Service>;

/// Orders, newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct OrdersPage {
    orders: Vec<OrderView>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<OrderId>,
}

/// Which orders.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those in this state.
    #[serde(default)]
    state: Option<OrderState>,
    /// Those that are older than this one.
    #[serde(default)]
    before: Option<OrderId>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// Why something is done with an order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Who takes the parcel, and its number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shipment {
    #[schemars(length(min = 1, max = 100), extend("pattern" = NO_CONTROLS))]
    carrier: String,
    #[schemars(length(min = 1, max = 100), extend("pattern" = NO_CONTROLS))]
    tracking: String,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (read_only, operate) = (Access::Role(Role::ReadOnly), Access::Role(Role::Operator));
    vec![
        get("/api/v1/store/orders", "listOrders", read_only, list)
            .does("Orders of all shoppers, newest first.")
            .query::<Wanted>()
            .replies::<OrdersPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get(ORDER, "readOrder", read_only, read)
            .does("An order, with each of its steps: when, who, why.")
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/cancel", "cancelOrderOf", operate, cancel)
            .does("Gives up an order that waits for its payment. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/allocate", "allocateOrder", operate, allocate)
            .does("Stock is set aside for an order that is paid. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/ship", "shipOrder", operate, ship)
            .does("The parcel of an allocated order is on its way. Repeated, it changes nothing.")
            .takes::<Shipment>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/deliver", "deliverOrder", operate, deliver)
            .does("The parcel has arrived. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
    ]
}

fn id_of(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { state, before, limit }): Query<Wanted>,
) -> Result<JsonReply<OrdersPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let orders = service.newest(state, before, limit).await.map_err(|error| of_store(of_sql(&error)))?;
    let next = orders.last().map(|order| order.id).filter(|_| orders.len() == limit);
    Ok(JsonReply(OrdersPage { orders, next }))
}

async fn read(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
) -> Result<JsonReply<OrderView>, Problem> {
    let id = id_of(&order)?;
    let found = service.find(id).await.map_err(|error| of_store(of_sql(&error)))?;
    Ok(JsonReply(found.ok_or_else(|| Problem::new(&NOT_FOUND, format!("order {id}: there is none")))?))
}

/// Carries out a command in the operator's name.
async fn operate(
    service: &Service,
    order: &str,
    operator: &Operator,
    reason: &str,
    command: Command,
) -> Result<JsonReply<OrderView>, Problem> {
    Reasons::Needed.check(reason)?;
    let (id, actor) = (id_of(order)?, operator.name().to_owned());
    let done = service.command(id, actor, reason.to_owned(), command).await;
    done.map(JsonReply).map_err(|error| of_store(of_order(error)))
}

async fn cancel(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    operate(&service, &order, &operator, &reason.0, Command::Cancel).await
}

async fn allocate(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    operate(&service, &order, &operator, &reason.0, Command::Allocate).await
}

async fn ship(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(Shipment { carrier, tracking, reason }): JsonBody<Shipment, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    for (field, text) in [("carrier", &carrier), ("tracking", &tracking)] {
        let count = text.chars().count();
        if !(1..=PARCEL_MAX).contains(&count) || text.chars().any(char::is_control) {
            return Err(Problem::new(&INVALID, format!("{field}: want 1 to {PARCEL_MAX} characters")));
        }
    }
    let command = Command::Ship(Delivery { carrier, tracking });
    operate(&service, &order, &operator, &reason.0, command).await
}

async fn deliver(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    operate(&service, &order, &operator, &reason.0, Command::Deliver).await
}
