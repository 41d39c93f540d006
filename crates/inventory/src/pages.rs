//! The operators' pages of the stock: levels, one SKU with its ledger and what is done with it by
//! hand, and the claims of a sale. They work without JavaScript.
//!
//! A form that sets a number says which one its operator has seen: what another operator has
//! changed meanwhile is not overwritten. A form that moves units has a key, so one that is sent
//! twice is done once.

use crate::{
    api::Parts,
    core::{Change, Kind},
    service::{LedgerEntry, LevelView},
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{
    REASON_BYTES_MAX, SaleId,
    store::{CONSOLE_PLACES, Sku, StoreError},
};
use data_encoding::BASE32_NOPAD;
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
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const FORM_BYTES_MAX: usize = 4096;
const LEVELS_MAX: usize = 50;
const ENTRIES_MAX: usize = 50;
const CLAIMS_MAX: usize = 100;

type Form = SignedForm<FORM_BYTES_MAX>;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![
        get("/console/stock", "showStock", READ, stock),
        get("/console/stock/{sku}", "showStockOf", READ, sku),
        get("/console/claims", "showClaims", READ, claims),
        post("/console/stock/make-known", "makeKnownForm", OPERATE, make_known).form(),
        post("/console/stock/operate", "operateStockForm", OPERATE, operate).form(),
        post("/console/claims/operate", "operateClaimForm", OPERATE, operate_claim).form(),
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
        p { a href={ "/console/claims?lang=" (lang.code()) } { (lang.say("What sales have of it", "活动占用的库存")) } }
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
        div class="scroll" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in all { tr {
                th scope="row" { a href={ "/console/stock/" (of.sku) "?lang=" (lang.code()) } { (of.sku) } }
                td { (of.on_hand) } td { (of.free) } td { (of.reserved) } td { (of.claimed) }
            } } }
        } }
    }
}

/// `GET /console/stock/{sku}`.
async fn sku(
    State(Parts { service, .. }): State<Parts>,
    Path(sku): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, before, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let sku: Sku = id_of(&sku)?;
    let level = service.level(sku.clone()).await.map_err(of_store)?;
    let entries = service.ledger(sku.clone(), before, ENTRIES_MAX).await.map_err(of_store)?;
    let older = entries.last().map(|entry| entry.sequence).filter(|_| entries.len() == ENTRIES_MAX);
    let path = format!("/console/stock/{sku}");
    let body = html! {
        h1 { (sku) }
        div class="scroll" { table { tbody {
            (number(lang, lang.say("On hand", "在库"), level.on_hand))
            (number(lang, lang.say("Free", "可售"), level.free))
            (number(lang, lang.say("Reserved for orders", "订单预留"), level.reserved))
            (number(lang, lang.say("Claimed for sales", "活动占用"), level.claimed))
        } } }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Operator)) { (forms(lang, by, &level)) }
        h2 { (lang.say("Ledger", "库存流水")) }
        @if entries.is_empty() { p { (lang.say("Nothing has moved yet.", "暂无流水。")) } }
        @else { (ledger(lang, &entries)) }
        @if let Some(older) = older {
            p { a rel="next" href={ (path) "?lang=" (lang.code()) "&before=" (older) } { (lang.say("Older ones", "更早的记录")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, &path), sku.as_str(), &body))
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
        div class="scroll" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in entries { tr {
                td { (of.sequence) } td { time datetime=(of.at) { (of.at) } } th scope="row" { (kind_words(lang, of.kind)) }
                td { (of.units) } td { (of.of_claim) }
                td {
                    @if let Some(order) = &of.order { a href={ "/console/orders/" (order) "?lang=" (lang.code()) } { (order) } }
                    @else if let Some(sale) = &of.sale { a href={ "/console/claims?sale=" (sale) "&lang=" (lang.code()) } { (sale) } }
                }
                td { (of.actor) } td { (of.reason) }
            } } }
        } }
    }
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

/// What is done by hand.
fn forms(lang: Lang, by: &SignedIn, level: &LevelView) -> Markup {
    let one = |what: &str, summary: &str, label: &str, button: &str, min: &str| {
        html! {
            details { summary { (summary) }
                form class="operate" method="post" action="/console/stock/operate" {
                    (hidden(lang, by))
                    input type="hidden" name="sku" value=(level.sku);
                    input type="hidden" name="what" value=(what);
                    input type="hidden" name="seen" value=(level.on_hand);
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
    match done {
        Ok(()) => Ok(Redirect::to(page).into_response()),
        Err(StoreError::Invalid(why) | StoreError::Conflict(why)) => {
            let title = lang.say("Nothing was changed", "未作更改");
            let body = html! {
                h1 { (title) }
                p role="alert" { (why) }
                p { a href=(page) { (lang.say("Back", "返回")) } }
            };
            let shown = wide(&CONSOLE_PLACES, (lang, "/console/stock"), title, &body);
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
    let key = Some(form.field("key")).filter(|key| (1..=64).contains(&key.len())).map(str::to_owned);
    let done = service.change_seen(by, key, sku.clone(), change, seen).await;
    answer(lang, &format!("/console/stock/{sku}?lang={}", lang.code()), done.map(drop))
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
                div class="scroll" { table {
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
