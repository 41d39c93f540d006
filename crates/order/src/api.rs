//! Orders over HTTP, for those who run the shop: all orders, and what is done with them. Shoppers
//! have their pages.

use crate::{
    core::{Command, returns::Step},
    service::{Service, of_order, of_return, of_sql},
    summary::OrderSummary,
};
use axum::extract::{Path, State};
use contracts::store::{CameBack, Delivery, OrderId, OrderState, OrderView, ReturnState};
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
    orders: Vec<OrderSummary>,
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

/// Orders with returns, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
struct ReturnsPage {
    orders: Vec<OrderSummary>,
    /// Ask with `after` set to this for later ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<OrderId>,
}

/// Which returns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WantedReturns {
    /// Those in this state.
    #[serde(default = "requested")]
    state: ReturnState,
    /// Those of orders that are later than this one.
    #[serde(default)]
    after: Option<OrderId>,
    /// So many orders at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn requested() -> ReturnState {
    ReturnState::Requested
}

/// What came back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Came {
    /// Whether it can be sold again.
    units: CameBack,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Money that goes back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ByHand {
    /// One more than the order has returns.
    #[schemars(range(min = 1, max = 20))]
    number: u32,
    /// In minor units of the order's currency; at the most what has not gone back yet.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    amount_minor: u64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (read_only, operate) = (Access::Role(Role::ReadOnly), Access::Role(Role::Operator));
    let support = Access::Role(Role::Support);
    vec![
        get("/api/v1/store/orders", "listOrders", read_only, list)
            .tagged()
            .does("Orders of all shoppers, newest first. The list follows the orders, and may lack the last changes.")
            .query::<Wanted>()
            .replies::<OrdersPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get(ORDER, "readOrder", read_only, read)
            .tagged()
            .does("An order, with each of its steps: when, who, why.")
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/cancel", "cancelOrderOf", support, cancel)
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
        get("/api/v1/store/returns", "listReturns", read_only, list_returns)
            .tagged()
            .does("Orders that have a return in a state, oldest first. The list follows the orders, and may lack the last changes.")
            .query::<WantedReturns>()
            .replies::<ReturnsPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/returns/{number}/approve", "approveReturn", support, approve)
            .does("The shopper may send back what the return names. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/returns/{number}/reject", "rejectReturn", support, reject)
            .does("The shopper may not. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/returns/{number}/receive", "receiveReturn", operate, receive)
            .does("The units are here: the money goes back, or the same units go out again. Repeated, it changes nothing.")
            .takes::<Came>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/returns/{number}/give-up", "giveUpExchange", operate, give_up)
            .does("What was to be sent in exchange for a return is not sent: its money goes back instead. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/returns/{number}/settle", "settleReturn", operate, settle)
            .does("The money of a return that was received went back elsewhere, by hand. Repeated, it changes nothing.")
            .takes::<Because>()
            .replies::<OrderView>("The order.")
            .problems(&[&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE]),
        post("/api/v1/store/orders/{order}/refunds", "refundOrder", operate, refund)
            .does("Gives money back for nothing that was returned. Repeated with the same number, it changes nothing.")
            .takes::<ByHand>()
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
    let orders = service.newest(state, before, limit).await.map_err(of_store)?;
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

pub(crate) fn check_parcel(Delivery { carrier, tracking }: &Delivery) -> Result<(), Problem> {
    for (field, text) in [("carrier", carrier), ("tracking", tracking)] {
        let count = text.chars().count();
        if !(1..=PARCEL_MAX).contains(&count) || text.chars().any(char::is_control) {
            return Err(Problem::new(&INVALID, format!("{field}: want 1 to {PARCEL_MAX} characters")));
        }
    }
    Ok(())
}

async fn ship(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(Shipment { carrier, tracking, reason }): JsonBody<Shipment, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    let parcel = Delivery { carrier, tracking };
    check_parcel(&parcel)?;
    let command = Command::Ship(parcel);
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

async fn list_returns(
    State(Parts { service, .. }): State<Parts>,
    Query(WantedReturns { state, after, limit }): Query<WantedReturns>,
) -> Result<JsonReply<ReturnsPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let orders = service.with_returns(state, after, limit).await.map_err(of_store)?;
    let next = orders.last().map(|order| order.id).filter(|_| orders.len() == limit);
    Ok(JsonReply(ReturnsPage { orders, next }))
}

/// A step of a return in the operator's name.
async fn step(
    service: &Service,
    (order, number): &(String, String),
    operator: &Operator,
    reason: &str,
    (step, units): (Step, Option<CameBack>),
) -> Result<JsonReply<OrderView>, Problem> {
    Reasons::Needed.check(reason)?;
    let number = number.parse::<u32>();
    let number = number.map_err(|_| Problem::new(&NOT_FOUND, "return: want its number, from 1"))?;
    let (id, actor) = (id_of(order)?, operator.name().to_owned());
    let done = service.step_return((id, number), actor, reason.to_owned(), step, units).await;
    done.map(JsonReply).map_err(|error| of_store(of_return(error)))
}

async fn approve(
    State(Parts { service, .. }): State<Parts>,
    Path(of): Path<(String, String)>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    step(&service, &of, &operator, &reason.0, (Step::Approve, None)).await
}

async fn reject(
    State(Parts { service, .. }): State<Parts>,
    Path(of): Path<(String, String)>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    step(&service, &of, &operator, &reason.0, (Step::Reject, None)).await
}

async fn give_up(
    State(Parts { service, .. }): State<Parts>,
    Path(of): Path<(String, String)>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    step(&service, &of, &operator, &reason.0, (Step::GiveUp, None)).await
}

async fn settle(
    State(Parts { service, .. }): State<Parts>,
    Path(of): Path<(String, String)>,
    operator: Operator,
    JsonBody(Because { reason }): JsonBody<Because, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    step(&service, &of, &operator, &reason.0, (Step::Refunded, None)).await
}

async fn receive(
    State(Parts { service, .. }): State<Parts>,
    Path(of): Path<(String, String)>,
    operator: Operator,
    JsonBody(Came { units, reason }): JsonBody<Came, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    step(&service, &of, &operator, &reason.0, (Step::Receive, Some(units))).await
}

async fn refund(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    operator: Operator,
    JsonBody(ByHand { number, amount_minor, reason }): JsonBody<ByHand, BODY_BYTES_MAX>,
) -> Result<JsonReply<OrderView>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let (id, actor) = (id_of(&order)?, operator.name().to_owned());
    let done = service.refund_by_hand(id, actor, reason.0, (amount_minor, number)).await;
    done.map(JsonReply).map_err(|error| of_store(of_return(error)))
}
