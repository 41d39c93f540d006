//! Orders: what is in one, paying, and giving it up.

use super::{
    addresses::{self, address_fields, address_of, own_order, shown},
    framed, guests, page, returns,
};
use crate::{
    design::{Frame, Mood, crumbs, notice, price, state_badge, state_words, steps},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, shopper_of},
    words::{moment, money},
};
use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{
    Address, OrderId, OrderOrigin, OrderState, OrderView, PaymentSeen, PaymentState, StartPayment, StoreError,
};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    form::PlainForm,
    page::Lang,
    problem::{INVALID, Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;
/// Orders on one page.
const PAGE_MAX: usize = 20;
/// How soon a page looks again whose order is on its way, or whose payment is; later ever later.
const AGAIN_SECONDS: u64 = 2;
/// After so many looks for an order it does not look by itself any more.
const TRIES_MAX: u32 = 30;

type Form = PlainForm<FORM_BYTES_MAX>;

/// After how many seconds a page looks again that has looked so often.
fn again_after(tries: u32) -> u64 {
    match tries {
        0..TRIES_MAX => AGAIN_SECONDS,
        TRIES_MAX..60 => 5,
        _ => 30,
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    after: Option<String>,
}

/// `GET /orders`.
pub(super) async fn list(
    State(shop): State<Arc<Shop>>,
    Query(Listed { after }): Query<Listed>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(shopper) = visitor.account() else { return visitor.to_log_in() };
    let found = shop.orders.orders(shopper, after, PAGE_MAX).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, visitor.lang.say("Your orders", "我的订单"));
    let body = html! {
        h1 { (title) }
        @if found.rows.is_empty() {
            p { (lang.say("You have no orders yet.", "您还没有订单。")) }
            p class="actions" { a class="button" href="/" { (lang.say("Start shopping", "去逛逛")) } }
        }
        ul class="orders" {
            @for order in &found.rows {
                li class="card" {
                    a href={ "/orders/" (order.id) } {
                        span { strong { (short_names(lang, order)) } br; span class="soft" { (moment(order.created_at, lang)) } }
                        span {
                            @if is_exchange(order) { span class="badge plain" { (lang.say("Exchange", "换货")) } " " }
                            (state_badge(lang, order.state)) " " (price(lang, order.total))
                        }
                    }
                }
            }
        }
        @if let Some(next) = found.next {
            p class="actions" { a class="button quiet" rel="next" href={ "/orders?after=" (next) } { (lang.say("Older orders", "更早的订单")) } }
        }
    };
    page(&shop, &visitor, title, &body).await
}

fn name(lang: Lang, line: &contracts::store::OrderLine) -> &str {
    lang.say(&line.name, &line.name_zh)
}

fn names(lang: Lang, order: &OrderView) -> String {
    let names: Vec<&str> = order.lines.iter().map(|line| name(lang, line)).collect();
    names.join(lang.say(", ", "、"))
}

/// The same, of an order of many lines the first ones.
fn short_names(lang: Lang, order: &OrderView) -> String {
    const NAMED: usize = 2;
    let all = order.lines.len();
    if all <= NAMED + 1 {
        return names(lang, order);
    }
    let first: Vec<&str> = order.lines.iter().take(NAMED).map(|line| name(lang, line)).collect();
    match lang {
        Lang::En => format!("{} and {} more", first.join(", "), all - NAMED),
        Lang::Zh => format!("{}等 {all} 件商品", first.join("、")),
    }
}

/// What came in the place of something that was returned: it costs nothing.
fn is_exchange(order: &OrderView) -> bool {
    order.total.amount_minor == 0
}

/// How the shopper came to the page of an order.
#[derive(Debug, Deserialize)]
pub(super) struct Came {
    /// `payment`: from the provider's page.
    from: Option<String>,
    /// How often the page has looked before whether the provider has told something.
    #[serde(default)]
    tries: u32,
}

/// `GET /orders/{order}`.
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    Query(Came { from, tries }): Query<Came>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(shopper) = visitor.shopper() else { return visitor.to_log_in() };
    let mut order = own_order(&shop, shopper, &order).await?;
    let id = order.id;
    let mut last_payment = None;
    if order.payment == PaymentSeen::None {
        // What the provider has told, and the order has not heard yet.
        let payments = shop.payments.of_order(id).await.unwrap_or_default();
        let is_any = |state| payments.iter().any(|payment| payment.state == state);
        if is_any(PaymentState::Succeeded) {
            order.payment = PaymentSeen::BeingConfirmed;
        } else if is_any(PaymentState::Refunding) {
            order.payment = PaymentSeen::ToRefund;
        } else if is_any(PaymentState::Refunded) && !is_payable(&order) {
            order.payment = PaymentSeen::Refunded;
        }
        last_payment = payments.last().map(|payment| payment.state);
    }
    // The shopper comes from the provider's page, and no word of the payment has come.
    let is_unheard = from.as_deref() == Some("payment")
        && is_payable(&order)
        && last_payment == Some(PaymentState::Pending);
    let waits = is_unheard && tries < TRIES_MAX;
    let lang = visitor.lang;
    let now = shop.protection.now();
    let is_moving = order.payment == PaymentSeen::BeingConfirmed
        || (order.state == OrderState::Created && order.pay_by.is_some());
    let can_pay = is_payable(&order) && order.pay_by.is_none_or(|by| by > now);
    let is_over = !can_pay
        && order.payment == PaymentSeen::None
        && matches!(order.state, OrderState::AwaitingPayment | OrderState::Expired);
    let csrf = visitor.order_csrf();
    let saved = match (&order.address, can_pay) {
        (None, true) => shop.accounts.addresses(shopper).await.map_err(of_store)?.into_iter().next(),
        _ => None,
    };
    let goes_to = order.address.as_ref().or(saved.as_ref());
    let named = short_names(lang, &order);
    let title = format!("{named} – {}", state_words(lang, order.state));
    let has_failed = last_payment == Some(PaymentState::Failed) && can_pay;
    let body = html! {
        @if visitor.buyer.is_none() { (crumbs(lang, &[("/orders", lang.say("Your orders", "我的订单"))])) }
        h1 { (named) }
        (steps(lang, order.state))
        @if waits {
            (notice(Mood::Neutral, lang.say("One moment", "请稍候"), &html! { p { (lang.say(
                "We are waiting for the payment provider. This page updates by itself.",
                "正在等待支付结果，本页会自动刷新。",
            )) } }))
        } @else if is_unheard && can_pay {
            (notice(Mood::Neutral, lang.say("No word from the payment provider yet", "暂未收到支付结果"), &html! { p { (lang.say(
                "If you have paid, there is nothing to do: this order is updated as soon as we hear.",
                "如已付款，无需重复支付，收到结果后订单会自动更新。",
            )) } }))
        } @else if has_failed {
            (notice(Mood::Bad, lang.say("The payment did not go through", "付款未成功"), &html! { p {
                (lang.say("Nothing was charged. Try it again, or in another way.", "未产生扣款，请重试或更换支付方式。"))
                @if let Some(until) = pay_until(lang, &order) { @if lang == Lang::En { " " } (until) }
            } }))
        } @else {
            (news(lang, &order, can_pay))
        }
        @if can_pay && !waits {
            @if shop.takes_payments && goes_to.is_none() {
                form class="card" method="post" action={ "/orders/" (order.id) "/pay" } {
                    input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                    h2 { (lang.say("Where shall we send it?", "收货地址")) }
                    (address_fields(lang, &Address::default(), &[]))
                    button class="wide" type="submit" { (lang.say("Pay ", "支付 ")) (money(order.total, lang)) }
                }
            }
            div class="actions" {
                @if shop.takes_payments && goes_to.is_some() {
                    form method="post" action={ "/orders/" (order.id) "/pay" } {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        button type="submit" { (lang.say("Pay ", "支付 ")) (money(order.total, lang)) }
                    }
                }
                details class="confirm" {
                    summary { (lang.say("Cancel this order", "取消订单")) }
                    form method="post" action={ "/orders/" (order.id) "/cancel" } {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        p { (lang.say(
                            "What we keep for you goes back on sale at once. This cannot be undone.",
                            "为您保留的商品将立即重新开售，且无法恢复。",
                        )) }
                        button class="danger" type="submit" { (lang.say("Yes, cancel it", "确认取消")) }
                    }
                }
            }
        }
        @if is_over {
            p class="actions" { a class="button" href="/" { (lang.say("See what is left", "返回选购")) } }
        }
        div class="card" { (lines(lang, &order)) }
        @if let Some(address) = goes_to {
            div class="card" {
                p { strong { (lang.say("Delivery address", "收货地址")) } }
                (shown(lang, address))
                @if matches!(order.state, OrderState::AwaitingPayment | OrderState::Paid | OrderState::Allocated) {
                    p { a class="apart" href={ "/orders/" (order.id) "/address" } { (lang.say("Change the address", "修改地址")) } }
                }
            }
        }
        @if goes_to.is_none() && matches!(order.state, OrderState::Paid | OrderState::Allocated) {
            (notice(Mood::Bad, lang.say("Where shall we send it?", "收货地址"), &html! {
                p { a href={ "/orders/" (order.id) "/address" } { (lang.say("Enter your address", "请填写收货地址，以便发货")) } }
            }))
        }
        @if let Some(parcel) = &order.delivery {
            div class="card" { p { strong { (lang.say("Parcel", "包裹")) } } p { (parcel.carrier) " " (parcel.tracking) } }
        }
        (returns::shown(lang, now, &order, csrf))
        (guests::offer(&visitor, &order))
        h2 { (lang.say("Order history", "订单记录")) }
        ol class="history" {
            @for step in &order.history { li { (moment(step.at, lang)) " · " (state_words(lang, step.to)) } }
        }
        p class="soft" { (lang.say("Order number ", "订单号 ")) (order.id) }
    };
    let from = if waits { "from=payment&" } else { "" };
    let again = format!("/orders/{id}?{from}tries={}", tries.saturating_add(1));
    let refresh = (is_moving || waits).then_some((again_after(tries), again));
    framed(&shop, &visitor, &title, &body, |frame| Frame { refresh, ..frame }).await
}

fn is_payable(order: &OrderView) -> bool {
    order.state == OrderState::AwaitingPayment && order.payment == PaymentSeen::None
}

/// Until when the order waits for its payment.
fn pay_until(lang: Lang, order: &OrderView) -> Option<String> {
    let until = moment(order.pay_by?, lang);
    Some(match lang {
        Lang::En => format!("Pay by {until} to keep it."),
        Lang::Zh => format!("请在 {until} 前付款，逾期将自动取消并重新开售。"),
    })
}

/// The one thing that the shopper wants to know.
fn news(lang: Lang, order: &OrderView, can_pay: bool) -> Markup {
    let (mood, title, text) = match (order.payment, order.state) {
        (PaymentSeen::BeingConfirmed, _) => (
            Mood::Neutral,
            lang.say("Your payment has arrived", "已收到您的付款"),
            lang.say("It is being confirmed. This page updates by itself.", "正在确认，本页会自动刷新。")
                .to_owned(),
        ),
        (
            PaymentSeen::ToRefund | PaymentSeen::Refunded,
            OrderState::Paid | OrderState::Allocated | OrderState::Shipped | OrderState::Delivered,
        ) => (
            Mood::Good,
            state_words(lang, order.state),
            lang.say(
                "It was paid in another way. What you paid here is refunded.",
                "订单已通过其他方式付款，您在此支付的款项将退还。",
            )
            .to_owned(),
        ),
        (PaymentSeen::ToRefund, _) => (
            Mood::Bad,
            lang.say("Your payment will be refunded", "款项将退还给您"),
            lang.say(
                "It came too late, or the order was cancelled. We refund the full amount.",
                "付款超时或订单已取消，款项将全额退回。",
            )
            .to_owned(),
        ),
        (PaymentSeen::Refunded, _) => (
            Mood::Neutral,
            lang.say("Refunded", "已退款"),
            lang.say("We refunded the full amount.", "您支付的款项已全额退回。").to_owned(),
        ),
        (_, OrderState::Created) => (
            Mood::Neutral,
            lang.say("One moment", "请稍候"),
            lang.say(
                "We are setting it aside for you. This page updates by itself.",
                "正在为您保留库存，本页会自动刷新。",
            )
            .to_owned(),
        ),
        (_, OrderState::AwaitingPayment) if can_pay => {
            let text = pay_until(lang, order).unwrap_or_default();
            let title = match order.origin {
                OrderOrigin::Sale(_) => lang.say("You got it. Pay now", "抢购成功，请付款"),
                OrderOrigin::Cart => lang.say("Reserved for you", "已为您保留，请付款"),
            };
            (Mood::Good, title, text)
        }
        (_, OrderState::AwaitingPayment | OrderState::Expired) => (
            Mood::Bad,
            lang.say("Payment time expired", "付款时间已过"),
            lang.say(
                "It went back on sale. If you paid at the last moment, you get the item or your money back.",
                "商品已重新上架。如您在最后时刻付款，我们将为您发货或全额退款。",
            )
            .to_owned(),
        ),
        (_, OrderState::Paid | OrderState::Allocated) => (
            Mood::Good,
            lang.say("Paid: it is yours", "付款成功"),
            lang.say("We're packing it.", "我们正在备货。").to_owned(),
        ),
        (_, OrderState::Shipped) => (
            Mood::Good,
            lang.say("It is on its way", "已发货"),
            lang.say("Your tracking number is below.", "包裹单号见下方。").to_owned(),
        ),
        (_, OrderState::Delivered) => {
            (Mood::Good, lang.say("Delivered", "已送达"), lang.say("Enjoy it.", "祝您使用愉快。").to_owned())
        }
        (_, OrderState::Cancelled) => (
            Mood::Neutral,
            lang.say("Cancelled", "已取消"),
            lang.say("Anything you paid is refunded.", "如已付款，款项将退回。").to_owned(),
        ),
        (_, OrderState::Returned | OrderState::Refunded | OrderState::PartRefunded) => {
            (Mood::Neutral, state_words(lang, order.state), String::new())
        }
    };
    notice(mood, title, &html! { @if !text.is_empty() { p { (text) } } })
}

fn lines(lang: Lang, order: &OrderView) -> Markup {
    let sum = |amount_minor: u64| units::Money { amount_minor, currency: order.total.currency };
    html! {
        table {
            thead { tr { th scope="col" { (lang.say("Product", "商品")) } th scope="col" class="number" { (lang.say("Price", "小计")) } } }
            tbody {
                @for line in &order.lines {
                    tr {
                        td { (name(lang, line)) @if line.quantity > 1 { " × " (line.quantity) } }
                        td class="number" { (price(lang, sum(line.price_minor.saturating_mul(line.quantity.into())))) }
                    }
                }
            }
            @if let Some(method) = &order.charges.shipping {
                tbody { tr {
                    td { (lang.say(&method.name, &method.name_zh)) }
                    td class="number" { @if method.price_minor == 0 { (lang.say("Free", "免运费")) } @else { (price(lang, sum(method.price_minor))) } }
                } }
            }
            @if order.charges.tax_minor > 0 {
                tbody { tr class="soft" {
                    td { @if order.charges.tax_is_included { (lang.say("Tax (included)", "其中税额")) } @else { (lang.say("Tax", "税")) } }
                    td class="number" { (price(lang, sum(order.charges.tax_minor))) }
                } }
            }
            tfoot { tr { th scope="row" { (lang.say("Total", "合计")) } td class="number" { (price(lang, order.total)) } } }
        }
    }
}

/// `POST /orders/{order}/pay`: begins a payment, and leads to the provider's page.
pub(super) async fn pay(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = shopper_of(&visitor, &form)?;
    let order = own_order(&shop, shopper, &order).await?;
    let id = order.id;
    let return_path = format!("/orders/{id}?from=payment");
    if !is_payable(&order) {
        return Ok(Redirect::to(&format!("/orders/{id}")).into_response());
    }
    if order.address.is_none() {
        let saved = shop.accounts.addresses(shopper).await.map_err(of_store)?.into_iter().next();
        let typed = address_of(&form);
        let address = match (saved, typed.name.is_empty()) {
            (Some(saved), true) => saved,
            _ => match typed.clone().checked() {
                Ok(address) => address,
                Err(_) => return addresses::ask_again(&shop, &visitor, id, &typed).await,
            },
        };
        shop.orders.send_to(shopper, id, address.clone()).await.map_err(of_store)?;
        addresses::remember(&shop, shopper, address).await;
    }
    let start = StartPayment { order: id, shopper, amount: order.total, return_path };
    match shop.payments.start(start).await {
        Ok(started) if started.url.starts_with('/') => Ok(Redirect::to(&started.url).into_response()),
        Ok(started) => leave(&shop, &visitor, &started.url).await,
        // It was paid meanwhile: its page says so.
        Err(StoreError::Conflict(_)) => Ok(Redirect::to(&format!("/orders/{id}")).into_response()),
        Err(error) => Err(of_store(error)),
    }
}

/// Leads to a provider's page of another origin. A redirect would not do: a form of the shop may be
/// sent to the shop alone (`form-action`), and browsers follow no redirect from it to elsewhere.
async fn leave(shop: &Shop, visitor: &Visitor, url: &str) -> Result<Response, Problem> {
    let lang = visitor.lang;
    let title = lang.say("On to the payment", "前往支付");
    let body = html! {
        h1 { (title) }
        p { (lang.say(
            "The payment provider's page opens now. If it does not, press the button.",
            "正在打开支付页面。如果没有自动跳转，请点击下面的按钮。",
        )) }
        p { a class="button" href=(url) rel="noreferrer" { (lang.say("Continue to the payment", "继续支付")) } }
    };
    Ok(super::leads_to(page(shop, visitor, title, &body).await?, url))
}

/// `POST /orders/{order}/cancel`.
pub(super) async fn cancel(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = shopper_of(&visitor, &form)?;
    let id: OrderId = order.parse().map_err(|_| Problem::new(&INVALID, "order: no number of an order"))?;
    shop.orders.cancel(shopper, id).await.map_err(of_store)?;
    Ok(Redirect::to(&format!("/orders/{id}")).into_response())
}
