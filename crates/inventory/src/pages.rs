//! The operators' pages of the stock: levels, one SKU in its warehouses with the ledger of each and
//! what is done with it by hand, the claims of a sale, and the warehouses. They work without
//! JavaScript.
//!
//! A form that sets a number says which one its operator has seen: what another operator has
//! changed meanwhile is not overwritten. A form that moves units has a key, so one that is sent
//! twice is done once.

use crate::{
    api::Parts,
    core::{Change, Kind, Spot},
    service::{LedgerEntry, LevelView},
    warehouses::Warehouse,
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{
    REASON_BYTES_MAX, SaleId,
    store::{CONSOLE_PLACES, Sku, StoreError, WarehouseId},
};
use data_encoding::BASE32_NOPAD;
use engines::sql::trail::Stored;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Lang, wide},
    problem::{INVALID, NOT_FOUND, Problem, of_store},
    reason::Reasons,
    secret::random_bytes,
    trail::{PAGE_MAX, ShownSteps, TrailPage, TrailStep, show},
};

mod transfers;

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const FORM_BYTES_MAX: usize = 4096;
const LEVELS_MAX: usize = 50;
const ENTRIES_MAX: usize = 50;
const CLAIMS_MAX: usize = 100;
const TRAIL: &str = "/console/trail/stock";

type Form = SignedForm<FORM_BYTES_MAX>;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![
        get("/console/stock", "showStock", READ, stock),
        get("/console/stock/{sku}", "showStockOf", READ, sku),
        get("/console/stock/{sku}/{warehouse}", "showStockIn", READ, in_warehouse),
        get("/console/claims", "showClaims", READ, claims),
        post("/console/stock/make-known", "makeKnownForm", OPERATE, make_known).form(),
        post("/console/stock/operate", "operateStockForm", OPERATE, operate).form(),
        post("/console/claims/operate", "operateClaimForm", OPERATE, operate_claim).form(),
        get("/console/warehouses", "showWarehouses", READ, warehouses),
        get(transfers::PATH, "showTransfers", READ, transfers::list),
        get("/console/transfers/{transfer}", "showTransfer", READ, transfers::one),
        post(transfers::PATH, "sendTransferForm", OPERATE, transfers::send).form(),
        post("/console/transfers/{transfer}/arrive", "arriveTransferForm", OPERATE, transfers::arrive).form(),
        post("/console/transfers/{transfer}/close", "closeTransferForm", OPERATE, transfers::close).form(),
        get(TRAIL, "showStockTrail", READ, trail),
        post("/console/warehouses/put", "putWarehouseForm", OPERATE, put_warehouse).form(),
    ]
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    q: Option<String>,
    after: Option<String>,
    before: Option<u64>,
    sale: Option<String>,
}

fn id_of<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.trim().parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

fn kind_words(lang: Lang, kind: Kind) -> &'static str {
    match kind {
        Kind::Receive => lang.say("received", "入库"),
        Kind::Adjust => lang.say("adjusted", "调整"),
        Kind::Count => lang.say("counted", "盘点"),
        Kind::Reserve => lang.say("reserved", "预留"),
        Kind::Confirm => lang.say("paid", "已付款"),
        Kind::Release => lang.say("given up", "释放"),
        Kind::Expire => lang.say("expired", "过期释放"),
        Kind::Ship => lang.say("shipped", "出库"),
        Kind::TakeBack => lang.say("came back", "退回"),
        Kind::Scrap => lang.say("scrapped", "报废"),
        Kind::Claim => lang.say("claimed for a sale", "划给活动"),
        Kind::Dispatch => lang.say("left for another warehouse", "调拨出库"),
        Kind::Expect => lang.say("on its way here", "调拨在途"),
        Kind::Arrive => lang.say("arrived from another warehouse", "调拨入库"),
        Kind::Lose => lang.say("lost on its way", "调拨丢失"),
        Kind::ReturnClaim => lang.say("given back by a sale", "活动退回"),
    }
}

fn number(lang: Lang, label: &str, units: u64) -> Markup {
    html! { tr { th scope="row" { (label) } td { (units) " " (lang.say("units", "件")) } } }
}

/// `GET /console/stock`: levels by SKU.
async fn stock(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, q, after, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let mut prefix = q.unwrap_or_default().trim().to_owned();
    let after = after.unwrap_or_default();
    let mut found = Vec::new();
    // As it was written, or in capitals, which most SKUs have.
    for of in [prefix.clone(), prefix.to_uppercase()] {
        if found.is_empty() && (of.is_empty() || of.parse::<Sku>().is_ok()) {
            found = service.list(of.clone(), after.clone(), LEVELS_MAX).await.map_err(of_store)?;
            prefix = if found.is_empty() { prefix } else { of };
        }
    }
    let next = found.last().map(|level| level.sku.clone()).filter(|_| found.len() == LEVELS_MAX);
    let title = lang.say("Stock", "库存");
    let body = html! {
        h1 { (title) }
        form class="operate" method="get" action="/console/stock" {
            input type="hidden" name="lang" value=(lang.code());
            label for="q" { (lang.say("SKUs that begin with", "SKU 前缀")) }
            input id="q" name="q" type="search" value=(prefix) maxlength="64" autocomplete="off";
            button type="submit" { (lang.say("Find", "查询")) }
        }
        p { a href={ "/console/claims?lang=" (lang.code()) } { (lang.say("What sales have of it", "活动占用的库存")) }
            " · " a href={ "/console/warehouses?lang=" (lang.code()) } { (lang.say("Warehouses", "仓库")) }
            " · " a href={ (transfers::PATH) "?lang=" (lang.code()) } { (lang.say("Transfers", "调拨")) }
            " · " a href="/api/v1/store/stock-sheet" { (lang.say("All as a sheet (CSV)", "导出全部（CSV）")) } }
        @if found.is_empty() { p { (lang.say("There are none.", "没有匹配的 SKU。")) } }
        @else { (levels(lang, &found)) }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console/stock?lang=" (lang.code()) "&q=" (prefix) "&after=" (next) } { (lang.say("Further ones", "更多")) } }
        }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Operator)) {
            h2 { (lang.say("A new SKU", "新增 SKU")) }
            form class="operate" method="post" action="/console/stock/make-known" {
                input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
                input type="hidden" name="lang" value=(lang.code());
                label for="sku" { "SKU" }
                input id="sku" name="sku" type="text" required maxlength="64" autocomplete="off";
                button type="submit" { (lang.say("Keep a stock of it", "建立库存")) }
            }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/stock"), title, &body))
}

fn levels(lang: Lang, all: &[LevelView]) -> Markup {
    let heads = [
        "SKU",
        lang.say("On hand", "在库"),
        lang.say("Free", "可售"),
        lang.say("Reserved for orders", "订单预留"),
        lang.say("Claimed for sales", "活动占用"),
    ];
    html! {
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in all { tr {
                th scope="row" { a href={ "/console/stock/" (of.sku) "?lang=" (lang.code()) } { (of.sku) } }
                td { (of.on_hand) } td { (of.free) } td { (of.reserved) } td { (of.claimed) }
            } } }
        } }
    }
}

/// `GET /console/stock/{sku}`: in the main warehouse.
async fn sku(
    state: State<Parts>,
    Path(sku): Path<String>,
    signed_in: MaybeSignedIn,
    query: Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    in_warehouse(state, Path((sku, WarehouseId::MAIN.into())), signed_in, query, headers).await
}

/// `GET /console/stock/{sku}/{warehouse}`.
async fn in_warehouse(
    State(Parts { service, .. }): State<Parts>,
    Path((sku, warehouse)): Path<(String, String)>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, before, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let (sku, warehouse): (Sku, WarehouseId) = (id_of(&sku)?, id_of(&warehouse)?);
    let level = service.level(sku.clone()).await.map_err(of_store)?;
    let all = service.warehouses().await.map_err(of_store)?;
    let at = Spot { sku: sku.clone(), warehouse };
    let entries = service.ledger(at.clone(), before, ENTRIES_MAX).await.map_err(of_store)?;
    let older = entries.last().map(|entry| entry.sequence).filter(|_| entries.len() == ENTRIES_MAX);
    let path = format!("/console/stock/{sku}/{}", at.warehouse);
    let name = all.iter().find(|of| of.warehouse == at.warehouse).map_or("", |of| &of.name);
    let body = html! {
        h1 { (sku) }
        div class="scroll" tabindex="0" { table { tbody {
            (number(lang, lang.say("On hand", "在库"), level.on_hand))
            (number(lang, lang.say("Free", "可售"), level.free))
            (number(lang, lang.say("Reserved for orders", "订单预留"), level.reserved))
            (number(lang, lang.say("Claimed for sales", "活动占用"), level.claimed))
            (number(lang, lang.say("On its way", "在途"), level.in_transit))
        } } }
        @if all.len() > 1 { (in_each(lang, &at, &level, &all)) h2 { (name) } }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Operator)) { (forms(lang, by, &level, &at)) }
        h2 { (lang.say("Ledger", "库存流水")) }
        @if entries.is_empty() { p { (lang.say("Nothing has moved yet.", "暂无流水。")) } }
        @else { (ledger(lang, &entries)) }
        @if let Some(older) = older {
            p { a rel="next" href={ (path) "?lang=" (lang.code()) "&before=" (older) } { (lang.say("Older ones", "更早的记录")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, &path), sku.as_str(), &body))
}

/// The level in each warehouse, with the one whose ledger and forms are shown marked.
fn in_each(lang: Lang, at: &Spot, level: &LevelView, all: &[Warehouse]) -> Markup {
    let heads = [
        lang.say("Warehouse", "仓库"),
        lang.say("On hand", "在库"),
        lang.say("Free", "可售"),
        lang.say("Reserved for orders", "订单预留"),
        lang.say("Claimed for sales", "活动占用"),
        lang.say("On its way here", "在途"),
        lang.say("Sends orders", "是否发货"),
    ];
    let of = |of: &Warehouse| level.warehouses.iter().find(|level| level.warehouse == of.warehouse);
    html! {
        h2 { (lang.say("In each warehouse", "各仓库存")) }
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for one in all { tr {
                th scope="row" {
                    a href={ "/console/stock/" (at.sku) "/" (one.warehouse) "?lang=" (lang.code()) }
                        aria-current=[(one.warehouse == at.warehouse).then_some("true")] { (one.name) }
                }
                @for units in of(one).map_or([0; 5], |of| [of.on_hand, of.free, of.reserved, of.claimed, of.in_transit]) { td { (units) } }
                td { @if one.ships { (lang.say("yes", "是")) } @else { (lang.say("no", "否")) } }
            } } }
        } }
    }
}

fn ledger(lang: Lang, entries: &[LedgerEntry]) -> Markup {
    let heads = [
        lang.say("No.", "序号"),
        lang.say("At", "时间"),
        lang.say("What", "类型"),
        lang.say("Units", "数量"),
        lang.say("Of a claim", "其中活动占用"),
        lang.say("For", "用于"),
        lang.say("By", "操作人"),
        lang.say("Reason", "原因"),
    ];
    html! {
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in entries { tr {
                td { (of.sequence) } td { time datetime=(of.at) { (of.at) } } th scope="row" { (kind_words(lang, of.kind)) }
                td { (of.units) } td { (of.of_claim) }
                td {
                    @if let Some(order) = &of.order { a href={ "/console/orders/" (order) "?lang=" (lang.code()) } { (order) } }
                    @else if let Some(of) = &of.transfer { a href={ (transfers::PATH) "/" (of) "?lang=" (lang.code()) } { (of) } }
                    @else if let Some(sale) = &of.sale { a href={ "/console/claims?sale=" (sale) "&lang=" (lang.code()) } { (sale) } }
                }
                td { (of.actor) } td { (of.reason) }
            } } }
        } }
    }
}

/// The key of a form, if it has one.
fn key_of(field: &str) -> Option<String> {
    (1..=64).contains(&field.len()).then(|| field.to_owned())
}

/// What is hidden in a form: whose it is, and its key.
fn hidden(lang: Lang, by: &SignedIn) -> Markup {
    let key = random_bytes::<15>().map(|bytes| BASE32_NOPAD.encode(&bytes)).unwrap_or_default();
    html! {
        input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
        input type="hidden" name="lang" value=(lang.code());
        input type="hidden" name="key" value=(key);
    }
}

fn reason(lang: Lang, id: &str) -> Markup {
    html! {
        label for=(id) { (lang.say("Reason", "原因")) }
        input id=(id) type="text" name="reason" required maxlength=(REASON_BYTES_MAX) autocomplete="off";
    }
}

/// What is done by hand in a warehouse.
fn forms(lang: Lang, by: &SignedIn, level: &LevelView, at: &Spot) -> Markup {
    let here = level.warehouses.iter().find(|of| of.warehouse == at.warehouse);
    let on_hand = here.map_or(0, |of| of.on_hand);
    let one = |what: &str, summary: &str, label: &str, button: &str, min: &str| {
        html! {
            details { summary { (summary) }
                form class="operate" method="post" action="/console/stock/operate" {
                    (hidden(lang, by))
                    input type="hidden" name="sku" value=(at.sku);
                    input type="hidden" name="warehouse" value=(at.warehouse);
                    input type="hidden" name="what" value=(what);
                    input type="hidden" name="seen" value=(on_hand);
                    label for={ "units-" (what) } { (label) }
                    input id={ "units-" (what) } name="units" type="number" min=(min) max="1000000000" required autocomplete="off";
                    (reason(lang, &format!("reason-{what}")))
                    button type="submit" { (button) }
                }
            }
        }
    };
    html! {
        (one("receive", lang.say("Units came in", "入库"), lang.say("How many", "数量"), lang.say("Receive them", "确认入库"), "1"))
        (one("adjust", lang.say("Units were found or lost", "调整"), lang.say("How many more; fewer with a minus", "增减数量（减少填负数）"), lang.say("Adjust it", "确认调整"), "-1000000000"))
        (one("count", lang.say("Units were counted", "盘点"), lang.say("How many there are, with reserved and claimed ones", "实际数量（含预留与占用）"), lang.say("Set it", "确认盘点"), "0"))
    }
}

/// Back to a page, or what was wrong, with a link to it.
fn answer(lang: Lang, page: &str, done: Result<(), StoreError>) -> Result<Response, Problem> {
    answer_at((lang, "/console/stock"), page, done)
}

fn answer_at(at: (Lang, &str), page: &str, done: Result<(), StoreError>) -> Result<Response, Problem> {
    let (lang, _) = at;
    match done {
        Ok(()) => Ok(Redirect::to(page).into_response()),
        Err(StoreError::Invalid(why) | StoreError::Conflict(why) | StoreError::NotFound(why)) => {
            let title = lang.say("Nothing was changed", "未作更改");
            let body = html! {
                h1 { (title) }
                p role="alert" { (why) }
                p { a href=(page) { (lang.say("Back", "返回")) } }
            };
            let shown = wide(&CONSOLE_PLACES, at, title, &body);
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /console/stock/make-known`.
async fn make_known(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let page = |rest: &str| format!("/console/stock{rest}?lang={}", lang.code());
    match form.field("sku").parse::<Sku>() {
        Ok(sku) => {
            let done = service.make_known(sku.clone()).await.map(drop);
            answer(lang, &page(&format!("/{sku}")), done)
        }
        Err(error) => answer(lang, &page(""), Err(StoreError::Invalid(format!("sku: {error}")))),
    }
}

/// `POST /console/stock/operate`.
async fn operate(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let sku: Sku = id_of(form.field("sku"))?;
    let warehouse = match form.field("warehouse") {
        "" => WarehouseId::main(),
        named => id_of(named)?,
    };
    let wrong = |field: &str, want: &str| Problem::new(&INVALID, format!("{field}: want {want}"));
    let units = || form.field("units").parse().map_err(|_| wrong("units", "a number from 0"));
    let seen = || form.field("seen").parse().map(Some).map_err(|_| wrong("seen", "what the page said"));
    // Only what sets a number can overwrite one; the others add to what is there.
    let (change, seen) = match form.field("what") {
        "receive" => (Change::Receive { units: units()? }, None),
        "adjust" => {
            let change = form.field("units").parse().map_err(|_| wrong("units", "a number"))?;
            (Change::Adjust { change }, None)
        }
        "count" => (Change::Count { counted: units()? }, seen()?),
        _ => return Err(wrong("what", "one of the page's forms")),
    };
    let by = form.operator.actor(form.field("reason"));
    let key = key_of(form.field("key"));
    let page = format!("/console/stock/{sku}/{warehouse}?lang={}", lang.code());
    let done = service.change_seen(by, key, Spot { sku, warehouse }, change, seen).await;
    answer(lang, &page, done.map(drop))
}

/// `GET /console/claims`: what a sale has of the stock.
async fn claims(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, sale, after, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let name = sale.unwrap_or_default().trim().to_owned();
    let sale = name.parse::<SaleId>().ok();
    let found = match &sale {
        Some(sale) => {
            let found = service.claims(sale.clone(), after.unwrap_or_default(), CLAIMS_MAX).await;
            found.map_err(of_store)?
        }
        None => Vec::new(),
    };
    let next = found.last().map(|(sku, _)| sku.clone()).filter(|_| found.len() == CLAIMS_MAX);
    let title = lang.say("Claims of sales", "活动占用");
    let by = signed_in.as_ref().filter(|by| by.may(Role::Operator));
    let heads = [
        "SKU",
        lang.say("In all", "总数"),
        lang.say("Left", "剩余"),
        lang.say("Taken by orders", "订单已用"),
        lang.say("State", "状态"),
    ];
    let body = html! {
        h1 { (title) }
        form class="operate" method="get" action="/console/claims" {
            input type="hidden" name="lang" value=(lang.code());
            label for="sale" { (lang.say("Sale", "活动")) }
            input id="sale" name="sale" type="search" value=(name) maxlength="40" autocomplete="off";
            button type="submit" { (lang.say("Show", "查询")) }
        }
        @if let Some(sale) = &sale {
            @if found.is_empty() { p { (lang.say("It has none.", "该活动未占用库存。")) } }
            @else {
                div class="scroll" tabindex="0" { table {
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody { @for (sku, of) in &found { tr {
                        th scope="row" { a href={ "/console/stock/" (sku) "?lang=" (lang.code()) } { (sku) } }
                        td { (of.left + of.taken) } td { (of.left) } td { (of.taken) }
                        td { @if of.is_open { (lang.say("open", "占用中")) } @else { (lang.say("given back", "已退回")) } }
                    } } }
                } }
            }
            @if let Some(next) = next {
                p { a rel="next" href={ "/console/claims?lang=" (lang.code()) "&sale=" (sale) "&after=" (next) } { (lang.say("Further ones", "更多")) } }
            }
            @if let Some(by) = by { (claim_forms(lang, by, sale, &found)) }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/claims"), title, &body))
}

fn claim_forms(lang: Lang, by: &SignedIn, sale: &SaleId, found: &[(Sku, crate::core::Claim)]) -> Markup {
    let form = |what: &str, more: &Markup, button: &str| {
        html! {
            form class="operate" method="post" action="/console/claims/operate" {
                (hidden(lang, by))
                input type="hidden" name="sale" value=(sale);
                input type="hidden" name="what" value=(what);
                (more)
                (reason(lang, &format!("reason-{what}")))
                button type="submit" { (button) }
            }
        }
    };
    let label = lang.say("How many the sale is to have in all", "活动总共占用数量");
    let one = |at: usize, sku: &Sku, units: u64| {
        html! {
            details { summary { (sku) }
                (form(&format!("set-{at}"), &html! {
                    input type="hidden" name="sku" value=(sku);
                    input type="hidden" name="seen" value=(units);
                    label for={ "units-" (at) } { (label) }
                    input id={ "units-" (at) } name="units" type="number" min="0" max="1000000000" value=(units) required autocomplete="off";
                }, lang.say("Set it", "保存")))
            }
        }
    };
    html! {
        h2 { (lang.say("Change a claim", "调整占用")) }
        @for (at, (sku, of)) in found.iter().enumerate() { (one(at, sku, of.left + of.taken)) }
        details { summary { (lang.say("Claim another SKU", "为其他 SKU 设置占用")) }
            (form("set", &html! {
                input type="hidden" name="seen" value="0";
                label for="sku" { "SKU" }
                input id="sku" name="sku" type="text" required maxlength="64" autocomplete="off";
                label for="units" { (label) }
                input id="units" name="units" type="number" min="0" max="1000000000" required autocomplete="off";
            }, lang.say("Claim them", "占用")))
        }
        @if found.iter().any(|(_, of)| of.is_open) {
            details { summary { (lang.say("The sale is over", "活动已结束")) }
                p { (lang.say("What is left of all its claims is free again.", "剩余占用将全部恢复可售。")) }
                (form("return", &html! {}, lang.say("Give back what is left", "退回剩余库存")))
            }
        }
    }
}

/// `POST /console/claims/operate`.
async fn operate_claim(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let sale: SaleId = id_of(form.field("sale"))?;
    let by = form.operator.actor(form.field("reason"));
    let wrong = |field: &str, want: &str| Problem::new(&INVALID, format!("{field}: want {want}"));
    let number = |name: &str| form.field(name).parse::<u64>().map_err(|_| wrong(name, "a number from 0"));
    let what = form.field("what").split('-').next().unwrap_or_default();
    let done = match what {
        "set" => {
            let (sku, units, seen) = (id_of(form.field("sku"))?, number("units")?, number("seen")?);
            service.claim_seen(by, (sale.clone(), sku), units, Some(seen)).await.map(drop)
        }
        "return" => service.return_claim(by, sale.clone()).await.map(drop),
        _ => return Err(wrong("what", "one of the page's forms")),
    };
    answer(lang, &format!("/console/claims?sale={sale}&lang={}", lang.code()), done)
}

/// `GET /console/warehouses`.
async fn warehouses(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let all = service.warehouses().await.map_err(of_store)?;
    let title = lang.say("Warehouses", "仓库");
    let heads = [
        lang.say("Warehouse", "仓库"),
        lang.say("Name", "名称"),
        lang.say("Sends orders", "是否发货"),
        lang.say("Cost of a parcel", "单包裹成本"),
        lang.say("Days", "送达天数"),
    ];
    let body = html! {
        h1 { (title) }
        p { (lang.say(
            "An order is sent in the fewest parcels; of those ways, at the lowest cost; then the soonest; then from where there is most of it.",
            "订单优先以最少包裹发出，其次比较成本、时效，最后从库存最多的仓库发货。",
        )) }
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in &all { tr {
                th scope="row" { (of.warehouse) } td { (of.name) }
                td { @if of.ships { (lang.say("yes", "是")) } @else { (lang.say("no", "否")) } }
                td { (of.parcel_cost) } td { (of.days) }
            } } }
        } }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Operator)) {
            @for of in &all { (warehouse_form(lang, by, Some(of))) }
            (warehouse_form(lang, by, None))
        }
        p { a href={ (TRAIL) "?lang=" (lang.code()) } { (lang.say("What operators have changed", "变更记录")) } }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/warehouses"), title, &body))
}

/// `GET /console/trail/stock`: what operators have changed of the warehouses.
async fn trail(
    State(Parts { service, .. }): State<Parts>,
    Query(shown): Query<ShownSteps>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let (lang, subject) = (Lang::of(shown.lang.as_deref(), &headers), shown.subject());
    let found = service.trail(subject.clone(), shown.before, PAGE_MAX).await.map_err(of_store)?;
    let step = |Stored { number, at, actor, did, subject, reason, detail }| TrailStep {
        number,
        at,
        actor,
        did,
        subject,
        reason,
        detail,
    };
    let page = TrailPage::of(found.into_iter().map(step).collect(), PAGE_MAX);
    let title = lang.say("Changes of the warehouses", "仓库变更记录");
    Ok(show(&CONSOLE_PLACES, (lang, TRAIL), title, subject.as_deref(), &page))
}

/// Changes a warehouse, or makes one.
fn warehouse_form(lang: Lang, by: &SignedIn, of: Option<&Warehouse>) -> Markup {
    // A new one has no id yet, which no warehouse can have.
    let id = |field: &str| format!("{field}.{}", of.map_or("", |of| of.warehouse.as_str()));
    let (ships, cost, days) = of.map_or((true, 0, 0), |of| (of.ships, of.parcel_cost, of.days));
    html! {
        details {
            summary { @if let Some(of) = of { (of.name) } @else { (lang.say("A new warehouse", "新增仓库")) } }
            form class="operate" method="post" action="/console/warehouses/put" {
                (hidden(lang, by))
                input type="hidden" name="seen" value=(of.map_or(0, |of| of.version));
                @if let Some(of) = of { input type="hidden" name="warehouse" value=(of.warehouse); }
                @else {
                    label for=(id("warehouse")) { (lang.say("Its id: lowercase letters, digits and -", "编号（小写字母、数字和 -）")) }
                    input id=(id("warehouse")) name="warehouse" type="text" required maxlength="40" pattern="[a-z0-9\\-]+" autocomplete="off";
                }
                label for=(id("name")) { (lang.say("Name", "名称")) }
                input id=(id("name")) name="name" type="text" required maxlength="100" value=(of.map_or("", |of| &of.name)) autocomplete="off";
                label for=(id("ships")) { (lang.say("Orders are sent from it", "是否发货")) }
                select id=(id("ships")) name="ships" {
                    option value="yes" selected[ships] { (lang.say("yes", "是")) }
                    option value="no" selected[!ships] { (lang.say("no", "否")) }
                }
                label for=(id("cost")) { (lang.say("What a parcel costs, in the same unit everywhere", "单包裹成本（各仓单位一致）")) }
                input id=(id("cost")) name="parcel_cost" type="number" min="0" max="1000000000" required value=(cost);
                label for=(id("days")) { (lang.say("Days until it arrives", "送达天数")) }
                input id=(id("days")) name="days" type="number" min="0" max="365" required value=(days);
                (reason(lang, &id("reason")))
                button type="submit" { (lang.say("Save", "保存")) }
            }
        }
    }
}

/// `POST /console/warehouses/put`.
async fn put_warehouse(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let page = format!("/console/warehouses?lang={}", lang.code());
    let number = |name: &'static str| {
        let number = form.field(name).parse::<u32>();
        number.map_err(|_| StoreError::Invalid(format!("{name}: want a number from 0")))
    };
    let read = || -> Result<(Warehouse, u64), StoreError> {
        let id = form.field("warehouse").trim().parse();
        let of = Warehouse {
            warehouse: id.map_err(|error| StoreError::Invalid(format!("warehouse: {error}")))?,
            name: form.field("name").to_owned(),
            ships: form.field("ships") == "yes",
            parcel_cost: number("parcel_cost")?.into(),
            days: number("days")?,
            version: 0,
        };
        Ok((of, number("seen")?.into()))
    };
    let done = match read() {
        Ok((of, seen)) => {
            let by = form.operator.actor(form.field("reason"));
            service.put_warehouse(by, of, Some(seen)).await.map(drop)
        }
        Err(error) => Err(error),
    };
    answer(lang, &page, done)
}
