//! The operators' pages of orders: those of all shoppers, one with each of its steps, and forms for
//! what is done with it and with what comes back of it. They work without JavaScript.

use crate::{
    api::Parts,
    core::{Command, returns::Step},
    service::{Service, of_order, of_return, of_sql},
    summary::OrderSummary,
    waiting_rows::{COUNTED_MAX, Waiting},
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{
    REASON_BYTES_MAX,
    store::{
        AccountId, Backlog, CONSOLE_PLACES, CameBack, Delivery, OrderId, OrderState, OrderView, Orders,
        PaymentSeen, ReturnState, ReturnView,
    },
};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use units::Money;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Lang, wide},
    problem::{INVALID, NOT_FOUND, Problem, of_store},
    reason::Reasons,
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const SUPPORT: Access = Access::Role(Role::Support);
/// What needs no more than that: it moves no units and no money.
const OF_SUPPORT: [&str; 3] = ["cancel", "approve", "reject"];
const FORM_BYTES_MAX: usize = 4096;
/// Orders on one page.
const PAGE_MAX: usize = 50;

type Form = SignedForm<FORM_BYTES_MAX>;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![
        get("/console", "showOrdersOfAll", READ, orders),
        get("/console/orders/{order}", "showOrderOf", READ, order),
        get("/console/returns", "showReturnsOfAll", READ, returns),
        post("/console/orders/operate", "operateOrderForm", OPERATE, operate).form(),
        post("/console/orders/support", "supportOrderForm", SUPPORT, support).form(),
    ]
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    state: Option<String>,
    before: Option<OrderId>,
    after: Option<OrderId>,
    number: Option<String>,
    /// Those of this account.
    shopper: Option<AccountId>,
    /// Where a page of them begins.
    from: Option<String>,
}

fn money(minor: u64, of: &OrderView) -> String {
    Money { amount_minor: minor, currency: of.total.currency }.to_string()
}

fn state_words(lang: Lang, state: OrderState) -> &'static str {
    match state {
        OrderState::Created => lang.say("waits for stock", "等待库存"),
        OrderState::AwaitingPayment => lang.say("waits for payment", "待付款"),
        OrderState::Paid => lang.say("paid", "已付款"),
        OrderState::Allocated => lang.say("to be packed", "待发货"),
        OrderState::Shipped => lang.say("shipped", "已发货"),
        OrderState::Delivered => lang.say("delivered", "已送达"),
        OrderState::Cancelled => lang.say("cancelled", "已取消"),
        OrderState::Expired => lang.say("expired", "已过期"),
        OrderState::Returned => lang.say("returned", "已退货"),
        OrderState::Refunded => lang.say("refunded", "已退款"),
        OrderState::PartRefunded => lang.say("refunded in part", "部分退款"),
    }
}

fn payment_words(lang: Lang, seen: PaymentSeen) -> &'static str {
    match seen {
        PaymentSeen::None => lang.say("none", "无"),
        PaymentSeen::BeingConfirmed => lang.say("the sale is asked", "等待活动确认"),
        PaymentSeen::Received => lang.say("received", "已收款"),
        PaymentSeen::ToRefund => lang.say("goes back", "待退款"),
        PaymentSeen::Refunded => lang.say("went back", "已退款"),
    }
}

fn return_words(lang: Lang, state: ReturnState) -> &'static str {
    match state {
        ReturnState::Requested => lang.say("asked for", "待审核"),
        ReturnState::Approved => lang.say("approved", "已批准"),
        ReturnState::Rejected => lang.say("rejected", "已拒绝"),
        ReturnState::Withdrawn => lang.say("withdrawn", "已撤回"),
        ReturnState::Received => lang.say("received; the money goes back", "已收货，退款中"),
        ReturnState::Refunded => lang.say("refunded", "已退款"),
        ReturnState::Exchanged => lang.say("exchanged", "已换货"),
    }
}

fn table(lang: Lang, orders: &[OrderSummary]) -> Markup {
    let heads = [
        lang.say("Order", "订单"),
        lang.say("At", "时间"),
        lang.say("State", "状态"),
        lang.say("Payment", "付款"),
        lang.say("What", "商品"),
        lang.say("Total", "金额"),
    ];
    html! {
        div class="scroll" tabindex="0" {
            table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for of in orders {
                        tr data-order=(of.id) {
                            th scope="row" { a href={ "/console/orders/" (of.id) "?lang=" (lang.code()) } { (of.id) } }
                            td { time datetime=(of.created_at) { (of.created_at) } }
                            td { (state_words(lang, of.state)) }
                            td { (payment_words(lang, of.payment)) }
                            td { @for line in &of.lines { (lang.say(&line.name, &line.name_zh)) " × " (line.quantity) br; } @if of.more_lines > 0 { "… +" (of.more_lines) } }
                            td { (of.total) }
                        }
                    }
                }
            }
        }
    }
}

/// How much waits, each with a link to it.
fn what_waits(lang: Lang, (waiting, refunds): &(Waiting, Option<u64>)) -> Markup {
    let Waiting { for_payment, for_stock, to_pack, returns_to_decide, returns_to_come } = *waiting;
    let rows = [
        (
            "/console?state=awaiting_payment",
            lang.say("Orders that wait for their payment", "待付款订单"),
            Some(for_payment),
        ),
        (
            "/console?state=paid",
            lang.say("Paid orders that wait for their units", "已付款、待备货订单"),
            Some(for_stock),
        ),
        ("/console?state=allocated", lang.say("Orders to be packed", "待发货订单"), Some(to_pack)),
        (
            "/console/returns?state=requested",
            lang.say("Returns to be decided", "待审核退货"),
            Some(returns_to_decide),
        ),
        (
            "/console/returns?state=approved",
            lang.say("Returns on their way", "待收货退货"),
            Some(returns_to_come),
        ),
        (
            "/console/payments?",
            lang.say("Refunds that the provider has yet to be asked for", "待提交的退款"),
            *refunds,
        ),
    ];
    // Where a database has as many as are counted, there are at least so many.
    let shown = |count: Option<u64>| match count {
        Some(count) if count >= COUNTED_MAX => format!("{count}+"),
        Some(count) => count.to_string(),
        None => lang.say("not known at the moment", "暂时无法得知").to_owned(),
    };
    html! {
        div class="scroll" tabindex="0" { table { tbody {
            @for (href, label, count) in rows { tr {
                th scope="row" { a href={ (href) "&lang=" (lang.code()) } { (label) } } td { (shown(count)) }
            } }
        } } }
    }
}

/// What follows something, and may be behind it.
#[derive(Debug, Clone, Copy)]
enum Follower {
    /// The orders follow the sales.
    Orders,
    /// The list follows the orders.
    List,
}

impl Follower {
    fn subscription(self) -> &'static str {
        match self {
            Self::Orders => "store-winners",
            Self::List => "store-listed",
        }
    }

    /// What is said if it is not known how far it is behind, if it is not, and of what it lacks.
    fn words(self, lang: Lang) -> [&'static str; 3] {
        match self {
            Self::Orders => [
                lang.say(
                    "Whether all winners have their orders is not known at the moment.",
                    "暂时无法得知抢购订单是否都已生成。",
                ),
                lang.say("The orders are up to date with the sales.", "订单与活动已同步。"),
                lang.say("Events of sales that are not in the orders yet: ", "活动中尚未进入订单的事件："),
            ],
            Self::List => [
                lang.say(
                    "Whether this list has the orders' last changes is not known at the moment.",
                    "暂时无法得知此列表是否包含最新变化。",
                ),
                lang.say("This list is up to date with the orders.", "此列表与订单已同步。"),
                lang.say(
                    "Changes of orders that this list does not show yet: ",
                    "此列表尚未显示的订单变化：",
                ),
            ],
        }
    }
}

/// How far something is behind what it follows.
fn behind(lang: Lang, of: Follower, behind: Option<Backlog>) -> Markup {
    let [unknown, none, some] = of.words(lang);
    let subscription = of.subscription();
    let words = match behind {
        None => unknown.to_owned(),
        Some(Backlog { events, oldest, dead }) => {
            let dead = match (dead, lang) {
                (0, _) => String::new(),
                (dead, Lang::En) => format!(
                    " {dead} were given up after many tries: see the dead letters of the subscription {subscription}."
                ),
                (dead, Lang::Zh) => {
                    format!(" 另有 {dead} 条多次重试后放弃：请查看订阅 {subscription} 的死信。")
                }
            };
            let waits = match (events, oldest, lang) {
                (0, _, _) => none.to_owned(),
                (events, Some(at), Lang::En) => format!("{some}{events}, the oldest of {at}."),
                (events, Some(at), Lang::Zh) => format!("{some}{events} 条，最早的来自 {at}。"),
                (events, None, Lang::En) => format!("{some}{events}."),
                (events, None, Lang::Zh) => format!("{some}{events} 条。"),
            };
            waits + &dead
        }
    };
    html! { p data-follows=(subscription) data-behind=[behind.map(|of| of.events)] { (words) } }
}

/// The orders of one account, newest first.
async fn of_shopper(
    service: &Service,
    lang: Lang,
    shopper: AccountId,
    from: Option<String>,
) -> Result<Html<String>, Problem> {
    let found = service.orders(shopper, from, PAGE_MAX).await.map_err(of_store)?;
    let title = lang.say("Orders of a shopper", "客户订单");
    let body = html! {
        h1 { (title) }
        p { a href={ "/console/accounts/" (shopper) "?lang=" (lang.code()) } { (lang.say("The account", "客户账户")) } }
        @if found.rows.is_empty() { p { (lang.say("There are none.", "暂无订单。")) } }
        @else { (table(lang, &found.rows.iter().cloned().map(OrderSummary::from).collect::<Vec<_>>())) }
        @if let Some(next) = &found.next {
            p { a rel="next" href={ "/console?lang=" (lang.code()) "&shopper=" (shopper) "&from=" (next) } { (lang.say("Older ones", "更早的")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console"), title, &body))
}

/// `GET /console`: orders, newest first.
async fn orders(
    State(Parts { service, .. }): State<Parts>,
    Query(Shown { lang, state, before, number, shopper, from, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    if let Some(number) = number.filter(|number| !number.is_empty()) {
        let id = id_of(number.trim())?;
        return Ok(Redirect::to(&format!("/console/orders/{id}?lang={}", lang.code())).into_response());
    }
    if let Some(shopper) = shopper {
        return of_shopper(&service, lang, shopper, from).await.map(IntoResponse::into_response);
    }
    let state = state.as_deref().and_then(OrderState::from_name);
    let found = service.newest(state, before, PAGE_MAX).await.map_err(of_store)?;
    let next = found.last().map(|order| order.id).filter(|_| found.len() == PAGE_MAX);
    // The first page says how much there is to do.
    let waiting = match before.is_none() && state.is_none() {
        true => Some((service.waiting().await.map_err(of_store)?, service.behind_sales().await)),
        false => None,
    };
    let list = service.behind_orders().await;
    let title = lang.say("Orders", "订单");
    let body = html! {
        h1 { (title) }
        @if let Some((waiting, of_sales)) = &waiting {
            (what_waits(lang, waiting))
            (behind(lang, Follower::Orders, *of_sales))
        }
        (behind(lang, Follower::List, list))
        form class="operate" method="get" action="/console" {
            input type="hidden" name="lang" value=(lang.code());
            label for="state" { (lang.say("State", "状态")) }
            select id="state" name="state" {
                option value="" { (lang.say("all", "全部")) }
                @for of in OrderState::ALL { option value=(of.as_str()) selected[state == Some(of)] { (state_words(lang, of)) } }
            }
            label for="number" { (lang.say("or its number", "或订单号")) }
            input id="number" name="number" type="text" autocomplete="off";
            button type="submit" { (lang.say("Show", "查询")) }
        }
        @if found.is_empty() { p { (lang.say("There are none.", "暂无订单。")) } }
        @else { (table(lang, &found)) }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console?lang=" (lang.code()) "&state=" (state.map_or("", OrderState::as_str)) "&before=" (next) } { (lang.say("Older ones", "更早的订单")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console"), title, &body).into_response())
}

fn id_of(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|error| Problem::new(&NOT_FOUND, format!("{error}")))
}

/// `GET /console/returns`: those that wait for somebody.
async fn returns(
    State(Parts { service, .. }): State<Parts>,
    Query(Shown { lang, state, after, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let state = state.as_deref().and_then(ReturnState::from_name).unwrap_or(ReturnState::Requested);
    let found = service.with_returns(state, after, PAGE_MAX).await.map_err(of_store)?;
    let list = service.behind_orders().await;
    let next = found.last().map(|order| order.id).filter(|_| found.len() == PAGE_MAX);
    let title = lang.say("Returns", "退货");
    let body = html! {
        h1 { (title) }
        (behind(lang, Follower::List, list))
        form class="operate" method="get" action="/console/returns" {
            input type="hidden" name="lang" value=(lang.code());
            label for="state" { (lang.say("State", "状态")) }
            select id="state" name="state" {
                @for of in ReturnState::ALL { option value=(of.as_str()) selected[state == of] { (return_words(lang, of)) } }
            }
            button type="submit" { (lang.say("Show", "查询")) }
        }
        @if found.is_empty() { p { (lang.say("There are none.", "暂无退货。")) } }
        @else { (table(lang, &found)) }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console/returns?lang=" (lang.code()) "&state=" (state.as_str()) "&after=" (next) } { (lang.say("Later ones", "更多")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/returns"), title, &body))
}

/// `GET /console/orders/{order}`.
async fn order(
    State(Parts { service, .. }): State<Parts>,
    Path(order): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let id = id_of(&order)?;
    let found = service.find(id).await.map_err(|error| of_store(of_sql(&error)))?;
    let of = found.ok_or_else(|| Problem::new(&NOT_FOUND, format!("order {id}: there is none")))?;
    let operator = signed_in.as_ref().filter(|signed_in| signed_in.may(Role::Support));
    let body = html! {
        h1 { (lang.say("Order ", "订单 ")) (id) }
        p { (lang.say("It is ", "状态：")) strong { (state_words(lang, of.state)) } (lang.say("; its payment: ", "；付款：")) (payment_words(lang, of.payment))
            (lang.say("; its shopper: ", "；用户：")) a href={ "/console/accounts/" (of.shopper) "?lang=" (lang.code()) } { code { (of.shopper) } } (lang.say(".", "。")) }
        div class="scroll" tabindex="0" {
            table {
                thead { tr { @for head in [lang.say("SKU", "SKU"), lang.say("What", "商品"), lang.say("Quantity", "数量"), lang.say("Price", "单价")] { th scope="col" { (head) } } } }
                tbody {
                    @for line in &of.lines {
                        tr { th scope="row" { (line.sku) } td { (lang.say(&line.name, &line.name_zh)) } td { (line.quantity) } td { (money(line.price_minor, &of)) } }
                    }
                    @if let Some(method) = &of.charges.shipping {
                        tr { th scope="row" { (lang.say("Delivery", "配送")) } td { (lang.say(&method.name, &method.name_zh)) } td {} td { (money(method.price_minor, &of)) } }
                    }
                }
                tfoot { tr { th scope="row" { (lang.say("Total", "合计")) } td {} td {} td { (of.total) } } }
            }
        }
        @if let Some(to) = &of.address {
            h2 { (lang.say("Where it goes", "收货地址")) }
            p { (to.name) ", " (to.phone) br; (to.street) br; (to.postcode) " " (to.city) " " (to.region) " " (to.country) }
        }
        @if let Some(parcel) = &of.delivery { p { (lang.say("Parcel: ", "包裹：")) (parcel.carrier) " " (parcel.tracking) } }
        @if let Some(operator) = operator { (forms(lang, operator, &of)) }
        @for one in &of.returns { (return_of(lang, operator, &of, one)) }
        h2 { (lang.say("What happened", "记录")) }
        div class="scroll" tabindex="0" {
            table {
                tbody { @for step in &of.history { tr {
                    td { time datetime=(step.at) { (step.at) } } th scope="row" { (state_words(lang, step.to)) } td { (step.actor) } td { (step.reason) }
                } } }
            }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, &format!("/console/orders/{id}")), &id.to_string(), &body))
}

/// A form for one thing; what it needs besides the reason stands in `more`.
fn form(lang: Lang, by: &SignedIn, of: &OrderView, (what, label): (&str, &str), more: &Markup) -> Markup {
    let id = format!("reason-{what}");
    // Forms of returns have the return's number after what they do.
    let is_of_support = OF_SUPPORT.contains(&what.split('-').next().unwrap_or_default());
    let action = if is_of_support { "/console/orders/support" } else { "/console/orders/operate" };
    if !is_of_support && !by.may(Role::Operator) {
        return html! {};
    }
    html! {
        form class="operate" method="post" action=(action) {
            input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
            input type="hidden" name="lang" value=(lang.code());
            input type="hidden" name="order" value=(of.id);
            input type="hidden" name="what" value=(what);
            (more)
            label for=(id) { (lang.say("Reason", "原因")) }
            input id=(id) type="text" name="reason" required maxlength=(REASON_BYTES_MAX) autocomplete="off";
            button type="submit" { (label) }
        }
    }
}

fn field(name: &str, label: &str) -> Markup {
    html! { label for=(name) { (label) } input id=(name) name=(name) type="text" required maxlength="100" autocomplete="off"; }
}

/// What may be done with the order.
fn forms(lang: Lang, by: &SignedIn, of: &OrderView) -> Markup {
    let nothing = html! {};
    let parcel = html! {
        (field("carrier", lang.say("Carrier", "承运商"))) (field("tracking", lang.say("Parcel number", "运单号")))
    };
    let refund = html! {
        input type="hidden" name="number" value=(of.returns.len() + 1);
        label for="amount" { (lang.say("Sum, in the smallest unit of the currency", "金额（最小货币单位）")) }
        input id="amount" name="amount" type="text" inputmode="numeric" pattern="[0-9]+" required autocomplete="off";
    };
    let one = |what, label, more: &Markup| form(lang, by, of, (what, label), more);
    html! {
        @match of.state {
            OrderState::Created | OrderState::AwaitingPayment => (one("cancel", lang.say("Cancel it", "取消订单"), &nothing)),
            OrderState::Paid => (one("allocate", lang.say("Its units are set aside", "已备货"), &nothing)),
            OrderState::Allocated => (one("ship", lang.say("It is on its way", "发货"), &parcel)),
            OrderState::Shipped => (one("deliver", lang.say("It has arrived", "已送达"), &nothing)),
            _ => {},
        }
        @if of.payment == PaymentSeen::Received && of.total.amount_minor > 0 && by.may(Role::Operator) {
            details { summary { (lang.say("Give money back", "退款")) } (one("refund", lang.say("Give it back", "退款"), &refund)) }
        }
    }
}

fn return_of(lang: Lang, by: Option<&SignedIn>, of: &OrderView, one: &ReturnView) -> Markup {
    let id = |what: &str| format!("{what}-{}", one.number);
    let units = html! {
        fieldset { legend { (lang.say("The units", "退回商品")) }
        @for (value, label) in [("restock", lang.say("can be sold again", "可再次销售")), ("scrap", lang.say("cannot", "报废"))] {
            input id={ (id(value)) } type="radio" name="units" value=(value) required; label for=(id(value)) { (label) }
        } }
    };
    let number = html! { input type="hidden" name="number" value=(one.number); };
    let nothing = html! {};
    let button = |what: &str, label: &str, more: &Markup| {
        by.map(|by| form(lang, by, of, (&id(what), label), &html! { (number) (more) }))
    };
    html! {
        h2 { (lang.say("Return ", "退货 ")) (one.number) (lang.say(": ", "：")) (return_words(lang, one.state)) }
        p {
            @for line in &one.lines { (line.sku) " × " (line.quantity) br; }
            @if one.refund_minor > 0 { (lang.say("For ", "退款 ")) (money(one.refund_minor, of)) } @else { (lang.say("In exchange", "换货")) }
        }
        ul { @for step in &one.history { li { time datetime=(step.at) { (step.at) } " " (return_words(lang, step.to)) ", " (step.actor) ": " (step.reason) } } }
        @match one.state {
            ReturnState::Requested => { (button("approve", lang.say("Approve it", "批准"), &nothing).unwrap_or_default()) (button("reject", lang.say("Reject it", "拒绝"), &nothing).unwrap_or_default()) },
            ReturnState::Received => (button("settle", lang.say("The money went back elsewhere", "已线下退款"), &nothing).unwrap_or_default()),
            ReturnState::Exchanged => (button("giveup", lang.say("Send nothing: give the money back", "不再换货，改为退款"), &nothing).unwrap_or_default()),
            ReturnState::Approved => (button("receive", lang.say("It has come", "已收货"), &units).unwrap_or_default()),
            _ => {},
        }
    }
}

/// `POST /console/orders/support`.
async fn support(parts: State<Parts>, headers: HeaderMap, form: Form) -> Result<Response, Problem> {
    match OF_SUPPORT.contains(&form.field("what").split('-').next().unwrap_or_default()) {
        true => operate(parts, headers, form).await,
        false => Err(Problem::new(&INVALID, "what: want one of the page's forms")),
    }
}

/// `POST /console/orders/operate`.
async fn operate(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let reason = form.field("reason").to_owned();
    Reasons::Needed.check(&reason)?;
    let (id, actor) = (id_of(form.field("order"))?, form.operator.name().to_owned());
    let wrong = |field: &str, want: &str| Problem::new(&INVALID, format!("{field}: want {want}"));
    // Forms of returns have the return's number behind what they do.
    let what = form.field("what").split('-').next().unwrap_or_default().to_owned();
    let number = || form.field("number").parse::<u32>().map_err(|_| wrong("number", "a return's"));
    let command = |command| service.command(id, actor.clone(), reason.clone(), command);
    let step =
        |number, step, units| service.step_return((id, number), actor.clone(), reason.clone(), step, units);
    match &*what {
        "cancel" => drop(command(Command::Cancel).await.map_err(|error| of_store(of_order(error)))?),
        "allocate" => drop(command(Command::Allocate).await.map_err(|error| of_store(of_order(error)))?),
        "deliver" => drop(command(Command::Deliver).await.map_err(|error| of_store(of_order(error)))?),
        "ship" => {
            let parcel =
                Delivery { carrier: form.field("carrier").into(), tracking: form.field("tracking").into() };
            crate::api::check_parcel(&parcel)?;
            drop(command(Command::Ship(parcel)).await.map_err(|error| of_store(of_order(error)))?);
        }
        "refund" => {
            let amount = form.field("amount").parse().map_err(|_| wrong("amount", "a number"))?;
            let sum = (amount, number()?);
            let done = service.refund_by_hand(id, actor.clone(), reason.clone(), sum).await;
            drop(done.map_err(|error| of_store(of_return(error)))?);
        }
        "approve" | "reject" | "receive" | "settle" | "giveup" => {
            let units = match form.field("units") {
                "restock" => Some(CameBack::Restock),
                "scrap" => Some(CameBack::Scrap),
                _ if what == "receive" => return Err(wrong("units", "restock or scrap")),
                _ => None,
            };
            let of = match &*what {
                "approve" => Step::Approve,
                "reject" => Step::Reject,
                "settle" => Step::Refunded,
                "giveup" => Step::GiveUp,
                _ => Step::Receive,
            };
            drop(step(number()?, of, units).await.map_err(|error| of_store(of_return(error)))?);
        }
        _ => return Err(wrong("what", "one of the page's forms")),
    }
    let lang = Lang::of(Some(form.field("lang")), &headers).code();
    // A redirect, so that loading the page again does nothing twice.
    Ok(Redirect::to(&format!("/console/orders/{id}?lang={lang}")).into_response())
}
