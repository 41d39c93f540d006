//! Sending something back.

use super::{
    addresses::{own_order, unknown},
    page,
};
use crate::{
    design::{Mood, notice},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, session_of},
    words::{moment, money},
};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{
    OrderId, OrderState, OrderView, RETURN_WITHIN, RequestReturn, ReturnState, ReturnView, StockLine,
    StoreError, Wish,
};
use http::StatusCode;
use maud::{Markup, html};
use std::{collections::BTreeMap, sync::Arc};
use units::{Money, TimeMs};
use web::{
    form::PlainForm,
    page::Lang,
    problem::{INVALID, Problem, of_store},
};

const FORM_BYTES_MAX: usize = 16 << 10;
/// Characters of a shopper's reason.
const REASON_MAX: usize = 200;

type Form = PlainForm<FORM_BYTES_MAX>;

/// Units of each line that are not in a return yet.
fn left(order: &OrderView) -> Vec<u32> {
    let mut gone = BTreeMap::<&str, u32>::new();
    let alive = order.returns.iter().filter(|of| of.state.is_alive());
    for line in alive.flat_map(|of| &of.lines) {
        *gone.entry(line.sku.as_str()).or_default() += line.quantity;
    }
    let mut left = Vec::new();
    for line in &order.lines {
        let gone = gone.entry(line.sku.as_str()).or_default();
        let taken = (*gone).min(line.quantity);
        *gone -= taken;
        left.push(line.quantity - taken);
    }
    left
}

/// Whether something of the order may be sent back.
fn may_return(order: &OrderView, now: TimeMs) -> bool {
    let delivered = order.history.iter().rev().find(|step| step.to == OrderState::Delivered);
    matches!(order.state, OrderState::Delivered | OrderState::PartRefunded)
        && delivered.is_some_and(|step| step.at.plus(RETURN_WITHIN) >= now)
        && left(order).iter().any(|left| *left > 0)
}

/// `GET /orders/{order}/return`.
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(shopper) = visitor.account() else { return visitor.to_log_in() };
    let order = own_order(&shop, shopper, &order).await?;
    let id = order.id;
    match may_return(&order, shop.protection.now()) {
        true => return_page(&shop, &visitor, &order, None).await,
        false => Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
    }
}

async fn return_page(
    shop: &Shop,
    visitor: &Visitor,
    order: &OrderView,
    why: Option<&str>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Return something", "申请退货"));
    let is_exchange_only = order.total.amount_minor == 0;
    let body = html! {
        div class="narrow" {
            p class="crumbs" { a href={ "/orders/" (order.id) } { (lang.say("Your order", "订单详情")) } }
            h1 { (title) }
            @if let Some(why) = why { (notice(Mood::Bad, lang.say("That did not work", "提交失败"), &html! { p { (why) } })) }
            form class="card" method="post" action={ "/orders/" (order.id) "/return" } {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
                input type="hidden" name="number" value=(order.returns.len() + 1);
                fieldset {
                    legend { (lang.say("What would you like to return?", "退回哪些商品？")) }
                    @for (at, (line, left)) in order.lines.iter().zip(left(order)).enumerate().filter(|(_, (_, left))| *left > 0) {
                        div class="field" {
                            label for={ "line-" (at) } { (lang.say(&line.name, &line.name_zh)) " " span class="soft" { (lang.say("of ", "最多 ")) (left) } }
                            input id={ "line-" (at) } name={ "line-" (at) } type="number" min="0" max=(left) required value=(if order.lines.len() == 1 { left } else { 0 });
                        }
                    }
                }
                fieldset {
                    legend { (lang.say("What would you like instead?", "您希望如何处理？")) }
                    @if !is_exchange_only {
                        label class="choice" { input type="radio" name="wish" value="refund" required checked; span { (lang.say("My money back", "退款")) } }
                    }
                    label class="choice" { input type="radio" name="wish" value="exchange" required checked[is_exchange_only]; span { (lang.say("The same again", "换货")) } }
                }
                div class="field" {
                    label for="reason" { (lang.say("Why are you returning it?", "退货原因")) }
                    input id="reason" name="reason" type="text" required maxlength=(REASON_MAX);
                }
                button class="wide" type="submit" { (lang.say("Request the return", "提交申请")) }
                p class="soft" { (lang.say("We will answer soon. Please do not send anything before that.", "我们会尽快审核，审核通过前请勿寄出。")) }
            }
        }
    };
    page(shop, visitor, title, &body).await
}

/// `POST /orders/{order}/return`.
pub(super) async fn request(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = session_of(&visitor, &form)?.account;
    let order = own_order(&shop, shopper, &order).await?;
    let id = order.id;
    let wrong =
        |what: &str| Problem::new(&INVALID, format!("{what}: load the page again, and send its form"));
    let mut lines = Vec::new();
    for (at, line) in order.lines.iter().enumerate() {
        let typed = form.field(&format!("line-{at}"));
        let quantity = if typed.is_empty() { 0 } else { typed.parse().map_err(|_| wrong("line"))? };
        if quantity > 0 {
            lines.push(StockLine { sku: line.sku.clone(), quantity });
        }
    }
    let reason = form.field("reason");
    if reason.is_empty() || reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(Problem::new(&INVALID, format!("reason: want 1 to {REASON_MAX} characters")));
    }
    let wish = Wish::from_name(form.field("wish")).ok_or_else(|| wrong("wish"))?;
    let number = form.field("number").parse().map_err(|_| wrong("number"))?;
    let wanted = RequestReturn { lines, wish, reason: reason.to_owned(), number };
    let words = match shop.orders.request_return(shopper, id, wanted).await {
        Ok(_) => return Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
        Err(StoreError::Invalid(_)) => visitor.lang.say(
            "Please choose at least one, and no more than you bought.",
            "请至少选择一件，且不超过购买数量。",
        ),
        Err(StoreError::Conflict(_)) => visitor
            .lang
            .say("It cannot be sent back this way: write to the shop.", "无法在线申请退货，请联系商家。"),
        Err(error) => return Err(of_store(error)),
    };
    let mut shown = return_page(&shop, &visitor, &order, Some(words)).await?;
    *shown.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(shown)
}

/// `POST /orders/{order}/returns/{number}/withdraw`.
pub(super) async fn withdraw(
    State(shop): State<Arc<Shop>>,
    Path((order, number)): Path<(String, String)>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = session_of(&visitor, &form)?.account;
    let id: OrderId = order.parse().map_err(|_| unknown())?;
    let number = number.parse().map_err(|_| unknown())?;
    shop.orders.withdraw_return(shopper, id, number).await.map_err(of_store)?;
    Ok(Redirect::to(&format!("/orders/{id}")).into_response())
}

fn state_words(lang: Lang, of: &ReturnView) -> &'static str {
    match of.state {
        ReturnState::Requested => lang.say("Return requested", "待审核"),
        ReturnState::Approved => lang.say("Return approved: please send it to us", "已通过，请寄回"),
        ReturnState::Rejected => lang.say("Return declined", "未通过"),
        ReturnState::Withdrawn => lang.say("Return cancelled", "已撤回"),
        ReturnState::Received if of.lines.is_empty() => lang.say("Your money is on its way", "退款处理中"),
        ReturnState::Received => lang.say("Return received: your money is on its way", "已收货，退款处理中"),
        ReturnState::Refunded => lang.say("Your money is back", "已退款"),
        ReturnState::Exchanged => {
            lang.say("Return received: we are sending you another one", "已收货，换货订单已生成")
        }
    }
}

/// What the page of an order shows of its returns.
pub(super) fn shown(lang: Lang, now: TimeMs, order: &OrderView, csrf: &str) -> Markup {
    html! {
        @for of in &order.returns {
            div class="card" {
                p { strong { (state_words(lang, of)) } @if of.refund_minor > 0 { " " (money(Money { amount_minor: of.refund_minor, currency: order.total.currency }, lang)) } }
                @if !of.lines.is_empty() {
                    p { @for line in &of.lines {
                        @let named = order.lines.iter().find(|bought| bought.sku == line.sku);
                        @if let Some(bought) = named { (lang.say(&bought.name, &bought.name_zh)) " × " (line.quantity) br; }
                    } }
                }
                @if let Some(last) = of.history.last() { p class="soft" { (moment(last.at, lang)) @if of.state == ReturnState::Rejected { " · " (last.reason) } } }
                @if matches!(of.state, ReturnState::Requested | ReturnState::Approved) {
                    form class="actions" method="post" action={ "/orders/" (order.id) "/returns/" (of.number) "/withdraw" } {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        button class="quiet" type="submit" { (lang.say("Cancel the return", "撤回申请")) }
                    }
                }
            }
        }
        @if may_return(order, now) {
            p { a href={ "/orders/" (order.id) "/return" } { (lang.say("Return something", "申请退货")) } }
        }
    }
}
