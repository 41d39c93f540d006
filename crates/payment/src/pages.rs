//! The operators' pages of payments: newest first, with what went back of each; and the provider's
//! books against the shop's, day by day.

use crate::{
    api::Parts,
    report::{Day, Difference, Kind, Movement, Report},
};
use axum::{
    extract::{Path, Query, State},
    response::Html,
};
use contracts::store::{CONSOLE_PLACES, PaymentId, PaymentState};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use units::Money;
use web::{
    api_keys::Role,
    operation::{Access, Operation, get},
    page::{Lang, wide},
    problem::{NOT_FOUND, Problem, of_store},
};

/// Payments on one page.
const PAGE_MAX: usize = 100;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![
        get("/console/payments", "showPaymentsOfAll", Access::Role(Role::ReadOnly), payments),
        get("/console/reconciliations", "showReconciliations", Access::Role(Role::ReadOnly), reports),
        get("/console/reconciliations/{day}", "showReconciliation", Access::Role(Role::ReadOnly), report),
    ]
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    before: Option<PaymentId>,
}

fn state_words(lang: Lang, state: PaymentState) -> &'static str {
    match state {
        PaymentState::Pending => lang.say("not paid yet", "未支付"),
        PaymentState::Succeeded => lang.say("received", "已收款"),
        PaymentState::Failed => lang.say("refused", "支付失败"),
        PaymentState::Refunding => lang.say("goes back", "退款中"),
        PaymentState::Refunded => lang.say("went back", "已退款"),
    }
}

/// `GET /console/payments`.
async fn payments(
    State(Parts { service, .. }): State<Parts>,
    Query(Shown { lang, before }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let found = service.newest(before, PAGE_MAX).await.map_err(of_store)?;
    let next = found.last().map(|last| last.id).filter(|_| found.len() == PAGE_MAX);
    let title = lang.say("Payments", "付款");
    let heads = [
        lang.say("Payment", "付款"),
        lang.say("Begun at", "开始时间"),
        lang.say("Order", "订单"),
        lang.say("State", "状态"),
        lang.say("Sum", "金额"),
        lang.say("Went back", "已退"),
        lang.say("At the provider", "支付商编号"),
    ];
    let body = html! {
        h1 { (title) }
        p { a href={ "/console/reconciliations?lang=" (lang.code()) } { (lang.say("Reconciliation with the provider", "与支付商对账")) } }
        @if found.is_empty() { p { (lang.say("There are none.", "暂无付款。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for of in &found { tr {
                    th scope="row" { (of.id) } td { time datetime=(of.created_at) { (of.created_at) } }
                    td { a href={ "/console/orders/" (of.order) "?lang=" (lang.code()) } { (of.order) } }
                    td { (state_words(lang, of.state)) } td { (of.amount) }
                    td { @if of.refunded_minor > 0 { (Money { amount_minor: of.refunded_minor, currency: of.amount.currency }) } @else { "–" } }
                    td { code { (of.provider_reference) } }
                } } }
            } }
        }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console/payments?lang=" (lang.code()) "&before=" (next) } { (lang.say("Older ones", "更早的付款")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/payments"), title, &body))
}

#[derive(Debug, Deserialize)]
struct ShownReports {
    lang: Option<String>,
    before: Option<Day>,
}

/// `GET /console/reconciliations`.
async fn reports(
    State(Parts { service, .. }): State<Parts>,
    Query(ShownReports { lang, before }): Query<ShownReports>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let found = service.reports(before, PAGE_MAX).await.map_err(of_store)?;
    let next = found.last().map(|last| last.day.clone()).filter(|_| found.len() == PAGE_MAX);
    let title = lang.say("Reconciliation", "对账");
    let heads = [
        lang.say("Day (UTC)", "日期（UTC）"),
        lang.say("Differences", "差异"),
        lang.say("Found in the books only", "仅在支付商账目中发现"),
        lang.say("Refunds that are late", "逾期未到账的退款"),
        lang.say("Compared at", "对账时间"),
    ];
    let body = html! {
        h1 { (title) }
        p { (lang.say(
            "What the payment provider has received and given back, against what the shop was told. A day is compared an hour after its end.",
            "将支付商的收款和退款与商店记录逐笔比对。每日结束一小时后自动对账。",
        )) }
        @if found.is_empty() { p { (lang.say("No day was compared yet.", "尚无对账记录。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for of in &found { tr {
                    th scope="row" { a href={ "/console/reconciliations/" (of.day) "?lang=" (lang.code()) } { (of.day) } }
                    td { (of.different) } td { (of.found_in_books) } td { (of.refunds_open) }
                    td { time datetime=(of.made_at) { (of.made_at) } }
                } } }
            } }
        }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console/reconciliations?lang=" (lang.code()) "&before=" (next) } { (lang.say("Earlier days", "更早的日期")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/reconciliations"), title, &body))
}

/// `GET /console/reconciliations/{day}`.
async fn report(
    State(Parts { service, .. }): State<Parts>,
    Path(day): Path<Day>,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let path = format!("/console/reconciliations/{day}");
    let none = || Problem::new(&NOT_FOUND, "that day was not compared");
    let report = service.report(day).await.map_err(of_store)?.ok_or_else(none)?;
    let title = format!("{} {}", lang.say("Reconciliation of", "对账"), report.day);
    Ok(wide(&CONSOLE_PLACES, (lang, &path), &title, &report_body(lang, &title, &report)))
}

fn report_body(lang: Lang, title: &str, report: &Report) -> Markup {
    let sum = |currency: &str, amount_minor| {
        let currency = currency.parse().unwrap_or(units::Currency::NONE);
        Money { amount_minor, currency }
    };
    let heads = [
        lang.say("Number at the provider", "支付商编号"),
        lang.say("Time", "时间"),
        lang.say("In the shop's books", "商店账目"),
        lang.say("In the provider's", "支付商账目"),
    ];
    let of_totals = [
        lang.say("Currency", "货币"),
        lang.say("Received: shop", "收款：商店"),
        lang.say("Received: provider", "收款：支付商"),
        lang.say("Given back: shop", "退款：商店"),
        lang.say("Given back: provider", "退款：支付商"),
    ];
    html! {
        h1 { (title) }
        p { (report.provider) " · " (lang.say("compared at", "对账时间")) " " time datetime=(report.made_at) { (report.made_at) } }
        @if report.totals.is_empty() { p { (lang.say("No money moved on this day.", "当日无资金往来。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                caption { (lang.say("Sums. What moved within minutes of midnight may be in two days.", "合计。临近午夜的款项可能计入不同日期。")) }
                thead { tr { @for head in of_totals { th scope="col" { (head) } } } }
                tbody { @for (currency, of) in &report.totals { tr {
                    th scope="row" { (currency) }
                    td { (sum(currency, of.ours_received_minor)) } td { (sum(currency, of.theirs_received_minor)) }
                    td { (sum(currency, of.ours_given_back_minor)) } td { (sum(currency, of.theirs_given_back_minor)) }
                } } }
            } }
        }
        @if !report.is_whole() {
            p role="status" { (lang.say("The day was not over yet: this is how its books stood then.", "对账时当日尚未结束，以下为当时的账目。")) }
        }
        p { (lang.say("Found in the provider's books only, and followed from there: ", "仅在支付商账目中发现并已入账：")) (report.found_in_books) }
        p { (lang.say("Refunds that have not gone back within a week: ", "一周内未到账的退款：")) (report.refunds_open) }
        p { (lang.say("Refunds that failed after all, and are asked for again: ", "退款失败、将再次发起的笔数：")) (report.refunds_failed) }
        @if report.different == 0 { p role="status" { (lang.say("The two books agree.", "双方账目一致。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                caption {
                    (lang.say("Differences", "差异")) ": " (report.different)
                    @if report.different > report.differences.len() as u64 { " · " (lang.say("the first are listed", "仅列出前一部分")) }
                }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for Difference { movement, at, ours, theirs } in &report.differences { tr {
                    th scope="row" { code { (movement) } } td { time datetime=(at) { (at) } }
                    td { (side(lang, ours.as_ref())) } td { (side(lang, theirs.as_ref())) }
                } } }
            } }
        }
    }
}

/// What one of the two books says.
fn side(lang: Lang, of: Option<&Movement>) -> Markup {
    let Some(Movement { kind, amount, payment }) = of else { return html! { (lang.say("nothing", "无")) } };
    let kind = match kind {
        Kind::Received => lang.say("received", "收款"),
        Kind::GivenBack => lang.say("given back", "退款"),
    };
    html! { (kind) " " (amount) @if let Some(payment) = payment { " · " code { (payment) } } }
}
