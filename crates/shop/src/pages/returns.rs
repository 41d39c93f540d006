//! Sending something back.

use super::{
    addresses::{own_order, unknown},
    form_page,
};
use crate::{
    design::{crumbs, refusal},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, shopper_of},
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
    let Some(shopper) = visitor.shopper() else { return visitor.to_log_in() };
    let order = own_order(&shop, shopper, &order).await?;
    let id = order.id;
    match may_return(&order, shop.protection.now()) {
        true => return_page(&shop, &visitor, &order, &Typed::new(&order), None).await,
        false => Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
    }
}

/// What the form has in its fields.
struct Typed {
    /// By the order's lines.
    quantities: Vec<String>,
    wish: Option<Wish>,
    reason: String,
}

impl Typed {
    /// What a new form has: the whole of an order of one line.
    fn new(order: &OrderView) -> Self {
        let is_one = order.lines.len() == 1;
        let quantities = left(order).into_iter().map(|left| if is_one { left } else { 0 }.to_string());
        let wish = if order.total.amount_minor == 0 { Wish::Exchange } else { Wish::Refund };
        Self { quantities: quantities.collect(), wish: Some(wish), reason: String::new() }
    }

    fn of(order: &OrderView, form: &Form) -> Self {
        let typed = |(at, _)| form.field(&format!("line-{at}")).to_owned();
        Self {
            quantities: order.lines.iter().enumerate().map(typed).collect(),
            wish: Wish::from_name(form.field("wish")),
            reason: form.field("reason").to_owned(),
        }
    }
}

/// Why a return was refused.
enum Why {
    Quantities(&'static str),
    Reason(&'static str),
    Otherwise(&'static str),
}

async fn return_page(
    shop: &Shop,
    visitor: &Visitor,
    order: &OrderView,
    typed: &Typed,
    why: Option<Why>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Return something", "申请退货"));
    let is_exchange_only = order.total.amount_minor == 0;
    let of_quantities = if let Some(Why::Quantities(words)) = why { Some(words) } else { None };
    let of_reason = if let Some(Why::Reason(words)) = why { Some(words) } else { None };
    let quantities_id = of_quantities.map(|_| "lines-error");
    let reason_id = of_reason.map(|_| "reason-error");
    let invalid = |words: Option<&str>| words.map(|_| "true");
    let body = html! {
        div class="narrow" {
            (crumbs(lang, &[(&format!("/orders/{}", order.id), lang.say("Your order", "订单详情"))]))
            h1 { (title) }
            @if let Some(Why::Otherwise(words)) = why { (refusal(lang.say("Return not sent", "提交失败"), &html! { p { (words) } })) }
            form class="card" method="post" action={ "/orders/" (order.id) "/return" } {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.order_csrf());
                input type="hidden" name="number" value=(order.returns.len() + 1);
                fieldset {
                    legend { (lang.say("What would you like to return?", "退回哪些商品？")) }
                    @if let Some(words) = of_quantities { p class="error" id="lines-error" { (words) } }
                    @for (at, (line, left)) in order.lines.iter().zip(left(order)).enumerate().filter(|(_, (_, left))| *left > 0) {
                        div class="field" {
                            label for={ "line-" (at) } { (lang.say(&line.name, &line.name_zh)) " " span class="soft" { (lang.say("(up to ", "（最多 ")) (left) (lang.say(")", "）")) } }
                            input id={ "line-" (at) } name={ "line-" (at) } type="number" inputmode="numeric" min="0" max=(left) required
                                value=(typed.quantities.get(at).map_or("0", String::as_str)) autofocus[of_quantities.is_some()]
                                aria-describedby=[quantities_id] aria-invalid=[invalid(of_quantities)];
                        }
                    }
                }
                fieldset {
                    legend { (lang.say("What would you like?", "您希望如何处理？")) }
                    @if !is_exchange_only {
                        label class="choice" { input type="radio" name="wish" value="refund" required checked[typed.wish == Some(Wish::Refund)]; span { (lang.say("Refund", "退款")) } }
                    }
                    label class="choice" { input type="radio" name="wish" value="exchange" required checked[typed.wish == Some(Wish::Exchange)]; span { (lang.say("Exchange for the same item", "换货")) } }
                }
                div class="field" {
                    label for="reason" { (lang.say("Why are you returning it?", "退货原因")) }
                    input id="reason" name="reason" type="text" required maxlength=(REASON_MAX) value=(typed.reason) autofocus[of_reason.is_some()]
                        aria-describedby=[reason_id] aria-invalid=[invalid(of_reason)];
                    @if let Some(words) = of_reason { p class="error" id="reason-error" { (words) } }
                }
                button class="wide" type="submit" { (lang.say("Request the return", "提交申请")) }
                p class="soft" { (lang.say("We will answer soon. Please do not send anything before that.", "我们会尽快审核，审核通过前请勿寄出。")) }
            }
        }
    };
    form_page(shop, visitor, title, &body, why.is_some()).await
}

/// `POST /orders/{order}/return`.
pub(super) async fn request(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = shopper_of(&visitor, &form)?;
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
        let why = Why::Reason(visitor.lang.say(
            "Please tell us why, in 200 characters at the most.",
            "请填写退货原因（最多 200 个字符）。",
        ));
        return ask_again(&shop, &visitor, &order, &form, why).await;
    }
    let wish = Wish::from_name(form.field("wish")).ok_or_else(|| wrong("wish"))?;
    let number = form.field("number").parse().map_err(|_| wrong("number"))?;
    let wanted = RequestReturn { lines, wish, reason: reason.to_owned(), number };
    let why = match shop.orders.request_return(shopper, id, wanted).await {
        Ok(_) => return Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
        Err(StoreError::Invalid(_)) => Why::Quantities(visitor.lang.say(
            "Please choose at least one, and no more than you bought.",
            "请至少选择一件，且不超过购买数量。",
        )),
        Err(StoreError::Conflict(_)) => Why::Otherwise(
            visitor
                .lang
                .say("It can't be returned online. Please contact us.", "无法在线申请退货，请联系商家。"),
        ),
        Err(error) => return Err(of_store(error)),
    };
    ask_again(&shop, &visitor, &order, &form, why).await
}

/// Shows the form again, as it was filled in.
async fn ask_again(
    shop: &Shop,
    visitor: &Visitor,
    order: &OrderView,
    form: &Form,
    why: Why,
) -> Result<Response, Problem> {
    let mut shown = return_page(shop, visitor, order, &Typed::of(order, form), Some(why)).await?;
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
    let shopper = shopper_of(&visitor, &form)?;
    let id: OrderId = order.parse().map_err(|_| unknown())?;
    let number = number.parse().map_err(|_| unknown())?;
    shop.orders.withdraw_return(shopper, id, number).await.map_err(of_store)?;
    Ok(Redirect::to(&format!("/orders/{id}")).into_response())
}

fn state_words(lang: Lang, of: &ReturnView) -> &'static str {
    match of.state {
        ReturnState::Requested => lang.say("Return requested", "待审核"),
        ReturnState::Approved => lang.say("Return approved: please send it back", "已通过，请寄回"),
        ReturnState::Rejected => lang.say("Return declined", "未通过"),
        ReturnState::Withdrawn => lang.say("Return cancelled", "已撤回"),
        ReturnState::Received if of.lines.is_empty() => lang.say("Your refund is on its way", "退款处理中"),
        ReturnState::Received => lang.say("Return received: your refund is on its way", "已收货，退款处理中"),
        ReturnState::Refunded => lang.say("Refunded", "已退款"),
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
                p { strong { (state_words(lang, of)) } @if of.refund_minor > 0 && !matches!(of.state, ReturnState::Rejected | ReturnState::Withdrawn) { " " (money(Money { amount_minor: of.refund_minor, currency: order.total.currency }, lang)) } }
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
            p { a class="apart" href={ "/orders/" (order.id) "/return" } { (lang.say("Return something", "申请退货")) } }
        }
    }
}
