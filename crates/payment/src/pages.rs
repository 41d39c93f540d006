//! The operators' page of payments: newest first, with what went back of each.

use crate::api::Parts;
use axum::{
    extract::{Query, State},
    response::Html,
};
use contracts::store::{CONSOLE_PLACES, PaymentId, PaymentState};
use http::HeaderMap;
use maud::html;
use serde::Deserialize;
use units::Money;
use web::{
    api_keys::Role,
    operation::{Access, Operation, get},
    page::{Lang, wide},
    problem::{Problem, of_store},
};

/// Payments on one page.
const PAGE_MAX: usize = 100;

/// The page, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![get("/console/payments", "showPaymentsOfAll", Access::Role(Role::ReadOnly), payments)]
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
        @if found.is_empty() { p { (lang.say("There are none.", "暂无付款。")) } }
        @else {
            div class="scroll" { table {
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
