//! A shopper's own data: all of it as a file, and how the account is deleted.

use super::{
    account::{many_tries, password_field, refused, too_many},
    form_page, passwords,
    settings::{own_password, wrong_password},
};
use crate::{
    design::{crumbs, refusal},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, ask_to_sign_in, end_session, session_of},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{CartOwner, Deleted, InTheWay, OrderView, SignedIn, StoreError};
use http::{StatusCode, header};
use maud::{Markup, html};
use serde_json::{Value, json};
use std::sync::Arc;
use web::{
    form::PlainForm,
    net::Peer,
    page::Lang,
    problem::{Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;
/// Orders that a file has: the newest ones. And those of one question.
const ORDERS_MAX: usize = 2_000;
const PAGE: usize = 100;
/// Bytes of orders that a file has.
const BYTES_MAX: usize = 8 << 20;

type Form = PlainForm<FORM_BYTES_MAX>;

/// `POST /account/data`: the data as a file.
pub(super) async fn download(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let signed_in = session_of(&visitor, &form)?;
    // It costs as much as some pages.
    ask_to_sign_in(&shop, peer)?;
    let data = collect(&shop, signed_in).await.map_err(of_store)?;
    let body = serde_json::to_string_pretty(&data)
        .map_err(|_| Problem::unavailable("the file cannot be written now"))?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"my-data.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}

/// All that the shop has of a shopper. Times are milliseconds since 1970, in UTC.
async fn collect(shop: &Shop, signed_in: &SignedIn) -> Result<Value, StoreError> {
    let account = signed_in.account;
    let profile = shop.accounts.profile(account).await?;
    let addresses = shop.accounts.addresses(account).await?;
    let ways = shop.accounts.log_in_ways(account).await?;
    let sessions = shop.accounts.sessions(account, signed_in.session.clone()).await?;
    let cart = shop.carts.cart(CartOwner::Account(account)).await?;
    let (orders, has_all_orders) = orders(shop, signed_in).await?;
    Ok(json!({
        "profile": profile.map(|profile| json!({
            "shopper": profile.account.to_string(),
            "email": profile.email,
            "name": profile.name,
            "created_at": profile.created_at,
        })),
        "has_password": ways.has_password,
        "connected_log_ins": ways.connected.iter().map(|log_in| json!({
            "issuer": log_in.issuer,
            "subject": log_in.subject,
            "connected_at": log_in.connected_at,
        })).collect::<Vec<_>>(),
        "addresses": addresses,
        "sessions": sessions.iter().map(|session| json!({
            "began_at": session.began_at,
            "ends_at": session.ends_at,
        })).collect::<Vec<_>>(),
        "cart": cart.lines.iter().map(|line| json!({
            "sku": line.sku,
            "name": line.name.en,
            "quantity": line.quantity,
        })).collect::<Vec<_>>(),
        "orders": orders,
        "has_all_orders": has_all_orders,
    }))
}

/// Orders with their steps, returns and payments, the newest first, and whether these are all.
async fn orders(shop: &Shop, signed_in: &SignedIn) -> Result<(Vec<Value>, bool), StoreError> {
    let (mut all, mut bytes, mut after) = (Vec::new(), 0, None);
    loop {
        let found = shop.orders.orders(signed_in.account, after, PAGE).await?;
        for order in found.rows {
            let one = with_payments(shop, &order).await?;
            bytes += one.to_string().len();
            if all.len() == ORDERS_MAX || bytes > BYTES_MAX {
                return Ok((all, false));
            }
            all.push(one);
        }
        match found.next {
            Some(next) => after = Some(next),
            None => return Ok((all, true)),
        }
    }
}

pub(super) async fn with_payments(shop: &Shop, order: &OrderView) -> Result<Value, StoreError> {
    let payments = shop.payments.of_order(order.id).await?;
    let unwritten = |_| StoreError::Unavailable("an order cannot be written now".into());
    let mut one = serde_json::to_value(order).map_err(unwritten)?;
    one["payments"] = serde_json::to_value(payments).map_err(unwritten)?;
    Ok(one)
}

/// `GET /account/delete`.
pub(super) async fn show_delete(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    if visitor.account().is_none() {
        return visitor.to_log_in();
    }
    delete_page(&shop, &visitor, None, None).await
}

async fn delete_page(
    shop: &Shop,
    visitor: &Visitor,
    refusal_of: Option<Markup>,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Delete your account", "注销账户"));
    let is_refused = refusal_of.is_some() || wrong.is_some();
    let Some(account) = visitor.account() else { return visitor.to_log_in() };
    let has_password = shop.accounts.log_in_ways(account).await.map_err(of_store)?.has_password;
    let profile = shop.accounts.profile(account).await.map_err(of_store)?;
    let email = profile.map(|profile| profile.email).unwrap_or_default();
    let body = html! {
        div class="narrow" {
            (crumbs(lang, &[("/account", lang.say("Your account", "我的账户"))]))
            h1 { (title) }
            @if let Some(why) = refusal_of {
                (refusal(lang.say("It cannot be deleted yet", "暂时无法注销"), &why))
            }
            p { (lang.say(
                "Your name, email, password, addresses, log-ins and cart are erased, and on your orders your name and address. You cannot send anything back afterwards.",
                "您的姓名、邮箱、密码、收货地址、登录记录和购物车将被删除，订单中的姓名和地址也会被清除。注销后将无法申请退货。",
            )) }
            p { (lang.say(
                "What the law makes us keep of orders stays: what was bought, when, for how much, and to which country it went. It does not say any more who you are.",
                "依法须保留的订单信息（商品、时间、金额和收货国家）会继续保留，但不再包含您的身份信息。",
            )) }
            @if has_password {
                form class="card" method="post" action="/account/delete" {
                    input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
                    (password_field("password", lang.say("Password", "密码"), wrong))
                    button class="danger wide" type="submit" { (lang.say("Delete my account", "永久注销账户")) }
                }
            } @else {
                p { (lang.say("Deleting it asks for the password: set one first, by a link.", "注销账户需要验证密码，请先通过链接设置密码。")) }
                (passwords::ask_for_link(lang, &email))
            }
        }
    };
    form_page(shop, visitor, title, &body, is_refused).await
}

/// Why not, with a link to what is in the way.
pub(super) fn why_not(lang: Lang, open: InTheWay) -> Markup {
    let (order, says) = match open {
        InTheWay::Order(order) => (
            order,
            lang.say(
                "One of your orders is not finished: it waits for its payment, its delivery or its money.",
                "您有未完成的订单：等待付款、发货、收货或退款。",
            ),
        ),
        InTheWay::Return(order) => {
            (order, lang.say("One of your returns is not finished.", "您有未完成的退货申请。"))
        }
    };
    html! { p { (says) " " a href={ "/orders/" (order) } { (lang.say("Look at the order", "查看订单")) } } }
}

/// `POST /account/delete`.
pub(super) async fn delete(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let own = own_password(&shop, peer, &visitor, (&form, "password"))?;
    let lang = visitor.lang;
    match shop.accounts.delete(own).await {
        Ok(Deleted::Yes) => {
            let mut response = Redirect::to("/account/log-in?done=deleted").into_response();
            end_session(&mut response);
            Ok(response)
        }
        Ok(Deleted::WrongPassword) => refused(
            delete_page(&shop, &visitor, None, Some(wrong_password(lang))).await?,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        Ok(Deleted::Not(open)) => refused(
            delete_page(&shop, &visitor, Some(why_not(lang, open)), None).await?,
            StatusCode::CONFLICT,
        ),
        Err(StoreError::TooMany { wait_seconds }) => {
            let why = many_tries(lang, wait_seconds);
            too_many(delete_page(&shop, &visitor, None, Some(&why)).await?, wait_seconds)
        }
        Err(error) => Err(of_store(error)),
    }
}
