//! The stock over HTTP, for those who run the shop: levels, the ledger, claims of sales, and what
//! is done with units by hand. What orders do, they do by the port.

use crate::{
    audit::Found,
    core::{Change, Claim, Reservation, Spot, State as Stage},
    service::{
        LedgerEntry, LevelView, Moved, Service,
        sheets::{NotTaken, Taken},
    },
    sheet,
    warehouses::Warehouse,
};
use axum::{
    extract::{FromRequestParts, Path, RawQuery, Request, State},
    http::request,
    response::Response,
};
use contracts::{
    SaleId,
    store::{OrderId, Sku, WarehouseId},
};
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;
use web::{
    api_keys::{Operator, Role},
    body::want_media_type,
    command_key::{CommandKeyField, sent},
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, delete, get, post, put},
    problem::{
        BODY_TIMEOUT, BODY_TOO_LARGE, CONFLICT, INVALID, MEDIA_TYPE, NOT_FOUND, Problem, UNAVAILABLE,
        of_store,
    },
    query::Query,
    reason::{NeededReason, Reasons},
    sheet::{download, refused},
};

mod transfers;

const STOCK: &str = "/api/v1/store/stock/{sku}";
const SHEET: &str = "/api/v1/store/stock-sheet";
const CLAIMS: &str = "/api/v1/store/claims/{sale}";
const BODY_BYTES_MAX: usize = 4096;
const SHEET_BYTES_MAX: usize = 16 << 20;
/// SKUs of a sheet that are read at once.
const EXPORTED_AT_ONCE: usize = 100;
const ONCE: &str = "New for each command, the same for each retry of it: the command is carried out once, and a retry \
                    gets the same answer; the same key with another command is 409. A key is remembered for a week.";

/// What the handlers use.
pub type Parts = web::parts::Parts<Service>;

/// Levels, by SKU.
#[derive(Debug, Serialize, JsonSchema)]
struct StockPage {
    stock: Vec<LevelView>,
    /// Ask with `after` set to this for those after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sku>,
}

/// Which SKUs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those that begin with this.
    #[serde(default)]
    prefix: Option<Sku>,
    /// Those after this one.
    #[serde(default)]
    after: Option<Sku>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

/// Which rows, by SKU.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct After {
    /// Those after this SKU.
    #[serde(default)]
    after: Option<Sku>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Before {
    /// Those of this warehouse.
    #[serde(default = "WarehouseId::main")]
    warehouse: WarehouseId,
    /// Those with a lower number than this.
    #[serde(default)]
    before: Option<u64>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

/// The ledger of a SKU in a warehouse, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockEntries")]
struct LedgerPage {
    entries: Vec<LedgerEntry>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// The SKU is known.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Known {
    /// Whether it was not before.
    is_new: bool,
}

/// Units that came in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockReceived")]
struct Received {
    /// Where.
    #[serde(default = "WarehouseId::main")]
    warehouse: WarehouseId,
    #[schemars(range(min = 1, max = 1_000_000_000))]
    units: u64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Units that were found or, if the number is negative, lost or broken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockAdjusted")]
struct Adjusted {
    /// Where.
    #[serde(default = "WarehouseId::main")]
    warehouse: WarehouseId,
    #[schemars(range(min = -1_000_000_000, max = 1_000_000_000))]
    change: i64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// How many units there are in a warehouse, reserved and claimed ones included.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockCounted")]
struct Counted {
    /// Where.
    #[serde(default = "WarehouseId::main")]
    warehouse: WarehouseId,
    #[schemars(range(max = 1_000_000_000_000i64))]
    counted: u64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// How many units a sale is to have in all, those of its orders included.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StockClaiming")]
struct Claiming {
    #[schemars(range(max = 1_000_000_000_000i64))]
    units: u64,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// Why something is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    #[serde(default)]
    #[schemars(!default)]
    #[expect(dead_code, reason = "it is only described: it is read from the query as it was sent")]
    reason: NeededReason,
}

/// How a sheet is taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SheetQuery {
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
    /// Whether SKUs that the stock does not know are made known.
    #[serde(default)]
    new_skus: bool,
}

/// What a sale has of a SKU.
#[derive(Debug, Serialize, JsonSchema)]
struct StockClaim {
    sku: Sku,
    /// `left` and `taken` together.
    units: u64,
    /// What no order has reserved.
    left: u64,
    /// What its orders have reserved, shipped units included.
    taken: u64,
    /// False once what was left was given back.
    is_open: bool,
}

fn claim_of(sku: Sku, claim: Claim) -> StockClaim {
    let Claim { left, taken, is_open } = claim;
    StockClaim { sku, units: left + taken, left, taken, is_open }
}

/// The claims of a sale, by SKU.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockClaims")]
struct ClaimsPage {
    claims: Vec<StockClaim>,
    /// Ask with `after` set to this for those after these.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sku>,
}

/// A claim, and the level that it left.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockClaimed")]
struct Claimed {
    claim: StockClaim,
    level: LevelView,
}

/// What a sale has given back.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StockClaimsReturned")]
struct GivenBack {
    returned: Vec<Returned>,
}

/// Units that are free again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct Returned {
    sku: Sku,
    units: u64,
}

/// The units that an order has.
#[derive(Debug, Serialize, JsonSchema)]
struct StockReservation {
    order: OrderId,
    state: Stage,
    /// The sale from whose claim units are taken first.
    #[serde(skip_serializing_if = "Option::is_none")]
    sale: Option<SaleId>,
    /// When what is only held is free again.
    until: TimeMs,
    lines: Vec<ReservedLine>,
    /// Why its units are taken from these warehouses; empty if there was one.
    why: String,
    version: u64,
}

/// Units of one SKU in one warehouse.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct ReservedLine {
    sku: Sku,
    warehouse: WarehouseId,
    quantity: u32,
    /// Of these, how many came out of the sale's claim.
    of_claim: u32,
    /// Of these, how many came back after they were shipped.
    came_back: u32,
}

/// All warehouses.
#[derive(Debug, Serialize, JsonSchema)]
struct Warehouses {
    warehouses: Vec<Warehouse>,
}

/// What a warehouse is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PutWarehouse")]
struct PutWarehouse {
    /// For operators.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// Whether orders are sent from it.
    ships: bool,
    /// What a parcel from it costs, in whatever unit all of them have.
    #[schemars(range(max = 1_000_000_000))]
    parcel_cost: u64,
    /// After how many days a parcel from it arrives.
    #[schemars(range(max = 365))]
    days: u32,
    /// The version that was seen of it; 0 of one that is to be new. If there is another by now,
    /// nothing is changed.
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    #[schemars(!default)]
    reason: NeededReason,
}

/// A warehouse after a change.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
struct WarehousePut {
    is_new: bool,
    #[serde(flatten)]
    warehouse: Warehouse,
}

/// The operator of a command, and its Idempotency-Key if it has one.
struct Caller {
    operator: Operator,
    key: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        Ok(Self { operator, key: sent(&parts.headers)? })
    }
}

/// The operations.
pub fn operations() -> Vec<Operation<Parts>> {
    let (read_only, operate) = (Access::Role(Role::ReadOnly), Access::Role(Role::Operator));
    let commanded = [&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE];
    let mut all = transfers::operations();
    all.extend([
        get("/api/v1/store/stock", "listStock", read_only, list)
            .tagged()
            .does("How many units of each SKU there are, in all and in each warehouse, and for whom they are set aside, by SKU.")
            .query::<Wanted>()
            .replies::<StockPage>("A page of them.")
            .problems(&[&UNAVAILABLE]),
        get(STOCK, "readStock", read_only, read)
            .tagged()
            .does("How many units of a SKU there are.")
            .replies::<LevelView>("Its level.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(STOCK, "putStock", operate, make_known)
            .does("Makes a SKU known to the stock, with nothing on hand. Repeated, it changes nothing.")
            .replies::<Known>("It is known.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/store/stock/{sku}/ledger", "listStockEntries", read_only, ledger)
            .tagged()
            .does("Every movement of a SKU in a warehouse, newest first: when, who, why.")
            .query::<Before>()
            .replies::<LedgerPage>("A page of them.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/store/stock/{sku}/receive", "receiveStock", operate, receive)
            .does("Units came into a warehouse.")
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .takes::<Received>()
            .replies::<Moved>("The level after it.")
            .problems(&commanded),
        post("/api/v1/store/stock/{sku}/adjust", "adjustStock", operate, adjust)
            .does("Units were found, lost or broken. What is reserved or claimed cannot be lost.")
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .takes::<Adjusted>()
            .replies::<Moved>("The level after it.")
            .problems(&commanded),
        post("/api/v1/store/stock/{sku}/count", "countStock", operate, count)
            .does("Units were counted: the ledger gets the difference. There cannot be fewer than are reserved and claimed.")
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .takes::<Counted>()
            .replies::<Moved>("The difference, and the level after it.")
            .problems(&commanded),
        get(CLAIMS, "listStockClaims", read_only, claims)
            .tagged()
            .does("What a sale has of the stock, by SKU.")
            .query::<After>()
            .replies::<ClaimsPage>("A page of it.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put("/api/v1/store/claims/{sale}/{sku}", "putStockClaim", operate, claim)
            .does("Sets how many units of a SKU a sale has in all; they are taken from what is free. Repeated, it changes nothing.")
            .takes::<Claiming>()
            .replies::<Claimed>("The claim, and the level after it.")
            .problems(&commanded),
        delete(CLAIMS, "returnStockClaims", operate, return_claims)
            .does("What is left of a sale's claims is free again, and what its orders give up later is too. Repeated, it changes nothing.")
            .query::<Because>()
            .replies::<GivenBack>("What it gave back.")
            .problems(&commanded),
        get("/api/v1/store/warehouses", "listWarehouses", read_only, warehouses)
            .tagged()
            .does("Where stock lies, and what it costs to send a parcel from there. Each basket is sent in the fewest parcels; of those ways, at the lowest cost; then the soonest; then from where there is most of it.")
            .replies::<Warehouses>("All of them.")
            .problems(&[&UNAVAILABLE]),
        put("/api/v1/store/warehouses/{warehouse}", "putWarehouse", operate, put_warehouse)
            .does("Makes a warehouse, or changes it. Repeated, it changes nothing. What is set aside in one that orders are no longer sent from stays so.")
            .takes::<PutWarehouse>()
            .replies::<WarehousePut>("The warehouse.")
            .problems(&commanded),
        get(SHEET, "exportStock", read_only, export)
            .does("The stock as comma-separated values: a row for each SKU in each warehouse.")
            .replies_as::<String>("text/csv", "The sheet.")
            .problems(&[&UNAVAILABLE]),
        post(SHEET, "importStock", operate, import)
            .does(
                "Takes such a sheet (`text/csv`, UTF-8, 16 MiB and 100,000 lines at the most): its columns `sku`, `on_hand` and, if \
                 there is another than the main one, `warehouse` say what was counted. A row with a `sequence` is refused if units have \
                 come or gone there since. If anything is wrong with it, nothing is stored, and what is wrong is said by line; what changes \
                 meanwhile may stop it half-way, which is said too. With an `Idempotency-Key` it is safe to send again: what was \
                 stored of it is not counted again.",
            )
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .query::<SheetQuery>()
            .takes_as::<String>("text/csv")
            .replies::<Taken>("What it has changed.")
            .problems(&[&CONFLICT, &INVALID, &UNAVAILABLE, &BODY_TIMEOUT, &BODY_TOO_LARGE, &MEDIA_TYPE]),
        get("/api/v1/store/reservations/{order}", "readReservation", read_only, reservation)
            .tagged()
            .does("The units that are set aside for an order, or were shipped.")
            .replies::<StockReservation>("Its reservation.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/store/stock-audit", "auditStock", read_only, audit)
            .tagged()
            .does("Derives levels again from the ledger, the reservations, the claims and the transfers, and says where they differ.")
            .query::<After>()
            .replies::<Found>("What was found.")
            .problems(&[&UNAVAILABLE]),
    ]);
    all
}

fn id_of<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

fn text_of(sku: Option<Sku>) -> String {
    sku.map(String::from).unwrap_or_default()
}

async fn list(
    State(Parts { service, .. }): State<Parts>,
    Query(Wanted { prefix, after, limit }): Query<Wanted>,
) -> Result<JsonReply<StockPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let stock = service.list(text_of(prefix), text_of(after), limit).await.map_err(of_store)?;
    let next = stock.last().map(|level| level.sku.clone()).filter(|_| stock.len() == limit);
    Ok(JsonReply(StockPage { stock, next }))
}

async fn read(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
) -> Result<JsonReply<LevelView>, Problem> {
    service.level(id_of(&sku)?).await.map(JsonReply).map_err(of_store)
}

async fn make_known(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
) -> Result<JsonReply<Known>, Problem> {
    let is_new = service.make_known(id_of(&sku)?).await.map_err(of_store)?;
    Ok(JsonReply(Known { is_new }))
}

async fn ledger(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
    Query(Before { warehouse, before, limit }): Query<Before>,
) -> Result<JsonReply<LedgerPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let at = Spot { sku: id_of(&sku)?, warehouse };
    let entries = service.ledger(at, before, limit).await.map_err(of_store)?;
    let next = entries.last().map(|entry| entry.sequence).filter(|_| entries.len() == limit);
    Ok(JsonReply(LedgerPage { entries, next }))
}

/// Carries out a change in the operator's name.
async fn operate(
    service: &Service,
    (sku, warehouse): (&str, WarehouseId),
    Caller { operator, key }: Caller,
    reason: &str,
    change: Change,
) -> Result<JsonReply<Moved>, Problem> {
    Reasons::Needed.check(reason)?;
    let at = Spot { sku: id_of(sku)?, warehouse };
    let done = service.change(operator.actor(reason), key, at, change).await;
    done.map(JsonReply).map_err(of_store)
}

async fn receive(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
    caller: Caller,
    JsonBody(Received { warehouse, units, reason }): JsonBody<Received, BODY_BYTES_MAX>,
) -> Result<JsonReply<Moved>, Problem> {
    operate(&service, (&sku, warehouse), caller, &reason.0, Change::Receive { units }).await
}

async fn adjust(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
    caller: Caller,
    JsonBody(Adjusted { warehouse, change, reason }): JsonBody<Adjusted, BODY_BYTES_MAX>,
) -> Result<JsonReply<Moved>, Problem> {
    operate(&service, (&sku, warehouse), caller, &reason.0, Change::Adjust { change }).await
}

async fn count(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
    caller: Caller,
    JsonBody(Counted { warehouse, counted, reason }): JsonBody<Counted, BODY_BYTES_MAX>,
) -> Result<JsonReply<Moved>, Problem> {
    operate(&service, (&sku, warehouse), caller, &reason.0, Change::Count { counted }).await
}

async fn claims(
    State(Parts { service, .. }): State<Parts>,
    Path(sale): Path<String>,
    Query(After { after, limit }): Query<After>,
) -> Result<JsonReply<ClaimsPage>, Problem> {
    let limit = limit.clamp(1, 100);
    let found = service.claims(id_of(&sale)?, text_of(after), limit).await.map_err(of_store)?;
    let next = found.last().map(|(sku, _)| sku.clone()).filter(|_| found.len() == limit);
    let claims = found.into_iter().map(|(sku, claim)| claim_of(sku, claim)).collect();
    Ok(JsonReply(ClaimsPage { claims, next }))
}

async fn claim(
    State(Parts { service, .. }): State<Parts>,
    Path((sale, sku)): Path<(String, String)>,
    operator: Operator,
    JsonBody(Claiming { units, reason }): JsonBody<Claiming, BODY_BYTES_MAX>,
) -> Result<JsonReply<Claimed>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let by = operator.actor(&reason.0);
    let done = service.claim_one(by, id_of(&sale)?, id_of(&sku)?, units).await;
    let (claim, level) = done.map_err(of_store)?;
    Ok(JsonReply(Claimed { claim: claim_of(level.sku.clone(), claim), level }))
}

async fn return_claims(
    State(Parts { service, .. }): State<Parts>,
    Path(sale): Path<String>,
    operator: Operator,
    RawQuery(query): RawQuery,
) -> Result<JsonReply<GivenBack>, Problem> {
    let reason = Reasons::Needed.in_query(query.as_deref())?;
    let returned = service.return_claim(operator.actor(&reason), id_of(&sale)?).await.map_err(of_store)?;
    let returned = returned.into_iter().map(|(sku, units)| Returned { sku, units }).collect();
    Ok(JsonReply(GivenBack { returned }))
}

async fn warehouses(State(Parts { service, .. }): State<Parts>) -> Result<JsonReply<Warehouses>, Problem> {
    let warehouses = service.warehouses().await.map_err(of_store)?;
    Ok(JsonReply(Warehouses { warehouses }))
}

async fn put_warehouse(
    State(Parts { service, .. }): State<Parts>,
    Path(warehouse): Path<String>,
    operator: Operator,
    JsonBody(body): JsonBody<PutWarehouse, BODY_BYTES_MAX>,
) -> Result<JsonReply<WarehousePut>, Problem> {
    let PutWarehouse { name, ships, parcel_cost, days, version: seen, reason } = body;
    Reasons::Needed.check(&reason.0)?;
    let of = Warehouse { warehouse: id_of(&warehouse)?, name, ships, parcel_cost, days, version: 0 };
    let (warehouse, is_new) =
        service.put_warehouse(operator.actor(&reason.0), of, seen).await.map_err(of_store)?;
    Ok(JsonReply(WarehousePut { is_new, warehouse }))
}

async fn export(State(Parts { service, .. }): State<Parts>) -> Result<Response, Problem> {
    let first = service.list(String::new(), String::new(), EXPORTED_AT_ONCE).await.map_err(of_store)?;
    let after =
        |page: &[LevelView]| page.last().map(|of| of.sku.clone()).filter(|_| page.len() == EXPORTED_AT_ONCE);
    let (head, next) = (sheet::write(&first, true), after(&first));
    let pages = futures_util::stream::unfold((service, next), move |(service, next)| async move {
        let found = service.list(String::new(), next?.into(), EXPORTED_AT_ONCE).await;
        let next = found.as_ref().ok().and_then(|page| after(page));
        Some((found.map(|page| sheet::write(&page, false)), (service, next)))
    });
    Ok(download("stock.csv", futures_util::stream::once(async { Ok(head) }).chain(pages)))
}

async fn import(
    State(Parts { service, protection }): State<Parts>,
    Caller { operator, key }: Caller,
    Query(SheetQuery { reason, new_skus }): Query<SheetQuery>,
    request: Request,
) -> Result<JsonReply<Taken>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let (parts, body) = request.into_parts();
    want_media_type(&parts.headers, "text/csv")?;
    let bytes = web::body::read(body, SHEET_BYTES_MAX, protection.body_timeout()).await?;
    let counts = sheet::read(&bytes).map_err(|errors| refused(&errors))?;
    let all = counts.len();
    let taken = service.take_sheet(operator.actor(&reason.0), key, counts, new_skus).await;
    taken.map(JsonReply).map_err(|why| match why {
        NotTaken::Wrong(errors) => refused(&errors),
        NotTaken::Changed { line, stored, why } => {
            let stored = stored.lines;
            Problem::new(&CONFLICT, format!("line {line}: {why}; {stored} of {all} lines are stored"))
        }
        NotTaken::Unavailable { stored, why } => {
            let stored = stored.lines;
            let why = format!(
                "{why}; {stored} of {all} lines are stored: with an Idempotency-Key, send it again with the same key"
            );
            Problem::new(&UNAVAILABLE, why)
        }
    })
}

async fn reservation(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
) -> Result<JsonReply<StockReservation>, Problem> {
    let found = service.reservation(id_of(&order)?).await.map_err(of_store)?;
    let Reservation { order, state, sale, until, lines, why, version } = found;
    let lines = lines.into_iter().map(|(Spot { sku, warehouse }, line)| ReservedLine {
        sku,
        warehouse,
        quantity: line.quantity,
        of_claim: line.of_claim,
        came_back: line.came_back,
    });
    Ok(JsonReply(StockReservation { order, state, sale, until, lines: lines.collect(), why, version }))
}

async fn audit(
    State(Parts { service, .. }): State<Parts>,
    Query(After { after, limit }): Query<After>,
) -> Result<JsonReply<Found>, Problem> {
    let found = service.audit(text_of(after), limit.clamp(1, 100)).await;
    found.map(JsonReply).map_err(of_store)
}
