//! Where parcels go: the fields of a form, and the page on which an order's is changed.

use super::page;
use crate::{
    design::{Field, field},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, session_of},
};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{AccountId, Address, OrderId, OrderView};
use http::StatusCode;
use maud::{Markup, html};
use std::sync::Arc;
use web::{
    form::PlainForm,
    page::Lang,
    problem::{NOT_FOUND, Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;

type Form = PlainForm<FORM_BYTES_MAX>;

/// For what is no order of the visitor.
pub(super) fn unknown() -> Problem {
    Problem::new(&NOT_FOUND, "order: you have none of this number")
}

/// The shopper's order of this number.
pub(super) async fn own_order(shop: &Shop, shopper: AccountId, number: &str) -> Result<OrderView, Problem> {
    let id: OrderId = number.parse().map_err(|_| unknown())?;
    shop.orders.order(shopper, id).await.map_err(of_store)?.ok_or_else(unknown)
}

/// As it was typed.
pub(super) fn address_of<const MAX: usize>(form: &PlainForm<MAX>) -> Address {
    let field = |name: &str| form.field(name).to_owned();
    Address {
        name: field("name"),
        phone: field("phone"),
        street: field("street"),
        city: field("city"),
        region: field("region"),
        postcode: field("postcode"),
        country: field("country").to_uppercase(),
    }
}

/// The fields; `wrong` names the one that is.
pub(super) fn address_fields(lang: Lang, address: &Address, wrong: Option<&str>) -> Markup {
    let of = |name: &str, words: &'static str| (wrong == Some(name)).then_some(words);
    let line = |name: &'static str, label, value, autocomplete, is_optional, error| Field {
        name,
        label,
        kind: if name == "phone" { "tel" } else { "text" },
        value,
        autocomplete,
        hint: "",
        error,
        is_optional,
    };
    let country = if address.country.is_empty() { "CN" } else { &address.country };
    html! {
        (field(&line("name", lang.say("Name", "收货人"), &address.name, "name", false,
            of("name", lang.say("Please enter a name of at most 80 characters.", "请填写收货人（最多 80 个字符）。")))))
        (field(&line("phone", lang.say("Phone", "手机号码"), &address.phone, "tel", false,
            of("phone", lang.say("Please enter a number of 5 to 20 digits.", "请填写 5 至 20 位的号码。")))))
        (field(&line("street", lang.say("Street and number", "详细地址"), &address.street, "street-address", false,
            of("street", lang.say("Please enter an address of at most 200 characters.", "请填写详细地址（最多 200 个字符）。")))))
        (field(&line("city", lang.say("City", "城市"), &address.city, "address-level2", false,
            of("city", lang.say("Please enter the city.", "请填写城市。")))))
        (field(&line("region", lang.say("Province or state (if any)", "省份（选填）"), &address.region, "address-level1", true,
            of("region", lang.say("80 characters at the most.", "最多 80 个字符。")))))
        (field(&line("postcode", lang.say("Postcode (if any)", "邮政编码（选填）"), &address.postcode, "postal-code", true,
            of("postcode", lang.say("16 characters at the most.", "最多 16 个字符。")))))
        (field(&line("country", lang.say("Country (two letters, such as CN)", "国家代码（两个字母，如 CN）"), country, "country", false,
            of("country", lang.say("Two letters, such as CN.", "两个字母，如 CN。")))))
    }
}

/// An address in lines.
pub(super) fn shown(address: &Address) -> Markup {
    let Address { name, phone, street, city, region, postcode, country } = address;
    html! {
        address {
            (name) br; (street) br;
            @if !postcode.is_empty() { (postcode) " " } (city) @if !region.is_empty() { ", " (region) } br;
            (country) br; (phone)
        }
    }
}

/// For the next time. The order does not wait for it.
pub(super) async fn remember(shop: &Shop, account: AccountId, address: Address) {
    if let Err(error) = shop.accounts.use_address(account, address).await {
        tracing::warn!(%account, %error, "an address is not remembered");
    }
}

/// `GET /orders/{order}/address`.
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(shopper) = visitor.account() else { return visitor.to_log_in() };
    let order = own_order(&shop, shopper, &order).await?;
    let known = match order.address {
        Some(address) => Some(address),
        None => shop.accounts.addresses(shopper).await.map_err(of_store)?.into_iter().next(),
    };
    address_page(&shop, &visitor, order.id, &known.unwrap_or_default(), None).await
}

async fn address_page(
    shop: &Shop,
    visitor: &Visitor,
    order: OrderId,
    address: &Address,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Delivery address", "收货地址"));
    let body = html! {
        div class="narrow" {
            p class="crumbs" { a href={ "/orders/" (order) } { (lang.say("Your order", "订单详情")) } }
            h1 { (title) }
            form class="card" method="post" action={ "/orders/" (order) "/address" } {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
                (address_fields(lang, address, wrong))
                button class="wide" type="submit" { (lang.say("Save the address", "保存地址")) }
            }
        }
    };
    page(shop, visitor, title, &body).await
}

/// `POST /orders/{order}/address`.
pub(super) async fn set(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = session_of(&visitor, &form)?.account;
    let id: OrderId = order.parse().map_err(|_| unknown())?;
    let typed = address_of(&form);
    match typed.clone().checked() {
        Ok(address) => {
            shop.orders.send_to(shopper, id, address.clone()).await.map_err(of_store)?;
            remember(&shop, shopper, address).await;
            Ok(Redirect::to(&format!("/orders/{id}")).into_response())
        }
        Err((field, _)) => ask_again(&shop, &visitor, id, &typed, field).await,
    }
}

/// Shows the form again, with the field that is wrong.
pub(super) async fn ask_again(
    shop: &Shop,
    visitor: &Visitor,
    order: OrderId,
    typed: &Address,
    wrong: &str,
) -> Result<Response, Problem> {
    let mut shown = address_page(shop, visitor, order, typed, Some(wrong)).await?;
    *shown.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(shown)
}

/// `POST /account/addresses/forget`.
pub(super) async fn forget(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = session_of(&visitor, &form)?.account;
    shop.accounts.forget_address(shopper, address_of(&form)).await.map_err(of_store)?;
    Ok(Redirect::to("/account").into_response())
}
