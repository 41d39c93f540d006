//! Where parcels go: the fields of a form, and the page on which an order's is changed.

use super::form_page;
use crate::{
    countries,
    design::{Field, crumbs, field},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, session_of, shopper_of},
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

/// The fields, in the order of the language; `wrong` names those that are.
pub(super) fn address_fields(lang: Lang, address: &Address, wrong: &[&str]) -> Markup {
    let line = |name: &'static str| {
        let says = says(lang, name);
        field(&Field {
            name,
            label: says.label,
            kind: if name == "phone" { "tel" } else { "text" },
            value: says.value(address),
            autocomplete: says.autocomplete,
            hint: "",
            error: wrong.contains(&name).then_some(says.error),
            is_optional: ["region", "postcode"].contains(&name),
        })
    };
    let order = match lang {
        Lang::En => ["name", "phone", "street", "city", "region", "postcode"],
        Lang::Zh => ["name", "phone", "region", "city", "street", "postcode"],
    };
    html! {
        @for name in order { (line(name)) }
        (country_field(lang, &address.country, wrong.contains(&"country")))
    }
}

/// What the form says of a field.
struct Says {
    label: &'static str,
    autocomplete: &'static str,
    error: &'static str,
    value: fn(&Address) -> &str,
}

impl Says {
    fn value<'a>(&self, address: &'a Address) -> &'a str {
        (self.value)(address)
    }
}

fn says(lang: Lang, name: &str) -> Says {
    match name {
        "name" => Says {
            label: lang.say("Name", "收货人"),
            autocomplete: "name",
            error: lang
                .say("Please enter a name of at most 80 characters.", "请填写收货人（最多 80 个字符）。"),
            value: |address| &address.name,
        },
        "phone" => Says {
            label: lang.say("Phone", "手机号码"),
            autocomplete: "tel",
            error: lang.say("Please enter a number of 5 to 20 digits.", "请填写 5 至 20 位的号码。"),
            value: |address| &address.phone,
        },
        "street" => Says {
            label: lang.say("Street and number", "详细地址"),
            autocomplete: "street-address",
            error: lang.say(
                "Please enter an address of at most 200 characters.",
                "请填写详细地址（最多 200 个字符）。",
            ),
            value: |address| &address.street,
        },
        "city" => Says {
            label: lang.say("City", "城市"),
            autocomplete: "address-level2",
            error: lang.say("Please enter the city.", "请填写城市。"),
            value: |address| &address.city,
        },
        "region" => Says {
            label: lang.say("Province or state (optional)", "省份（选填）"),
            autocomplete: "address-level1",
            error: lang.say("80 characters at the most.", "最多 80 个字符。"),
            value: |address| &address.region,
        },
        _ => Says {
            label: lang.say("Postcode (optional)", "邮政编码（选填）"),
            autocomplete: "postal-code",
            error: lang.say("16 characters at the most.", "最多 16 个字符。"),
            value: |address| &address.postcode,
        },
    }
}

fn country_field(lang: Lang, code: &str, is_wrong: bool) -> Markup {
    let code = if code.is_empty() { "CN" } else { code };
    let all = countries::all(lang);
    let is_listed = all.iter().any(|(listed, _)| *listed == code);
    html! {
        div class="field" {
            label for="country" { (lang.say("Country or region", "国家或地区")) }
            select id="country" name="country" required autocomplete="country" autofocus[is_wrong]
                aria-invalid=[is_wrong.then_some("true")] aria-describedby=[is_wrong.then_some("country-error")] {
                @if !is_listed { option value=(code) selected { (code) } }
                @for (listed, name) in &all { option value=(listed) selected[*listed == code] { (name) } }
            }
            @if is_wrong { p class="error" id="country-error" { (lang.say("Please choose the country.", "请选择国家或地区。")) } }
        }
    }
}

/// An address in lines, as they are written in the language.
pub(super) fn shown(lang: Lang, address: &Address) -> Markup {
    let Address { name, phone, street, city, region, postcode, country } = address;
    let country = countries::name(lang, country);
    let place = if region == city || region.is_empty() { city.clone() } else { format!("{region} {city}") };
    html! {
        address {
            @match lang {
                Lang::En => {
                    (name) br; (street) br;
                    @if !postcode.is_empty() { (postcode) " " } (city) @if !region.is_empty() { ", " (region) } br;
                    (country) br; (phone)
                },
                Lang::Zh => {
                    (name) " " (phone) br;
                    (place) " " (street) br;
                    @if !postcode.is_empty() { (postcode) br; }
                    (country)
                },
            }
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
    let Some(shopper) = visitor.shopper() else { return visitor.to_log_in() };
    let order = own_order(&shop, shopper, &order).await?;
    let known = match order.address {
        Some(address) => Some(address),
        None => shop.accounts.addresses(shopper).await.map_err(of_store)?.into_iter().next(),
    };
    address_page(&shop, &visitor, order.id, &known.unwrap_or_default(), &[]).await
}

async fn address_page(
    shop: &Shop,
    visitor: &Visitor,
    order: OrderId,
    address: &Address,
    wrong: &[&str],
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Delivery address", "收货地址"));
    let body = html! {
        div class="narrow" {
            (crumbs(lang, &[(&format!("/orders/{order}"), lang.say("Your order", "订单详情"))]))
            h1 { (title) }
            form class="card" method="post" action={ "/orders/" (order) "/address" } {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.order_csrf());
                (address_fields(lang, address, wrong))
                button class="wide" type="submit" { (lang.say("Save the address", "保存地址")) }
            }
        }
    };
    form_page(shop, visitor, title, &body, !wrong.is_empty()).await
}

/// `POST /orders/{order}/address`.
pub(super) async fn set(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let shopper = shopper_of(&visitor, &form)?;
    let id: OrderId = order.parse().map_err(|_| unknown())?;
    let typed = address_of(&form);
    match typed.clone().checked() {
        Ok(address) => {
            shop.orders.send_to(shopper, id, address.clone()).await.map_err(of_store)?;
            remember(&shop, shopper, address).await;
            Ok(Redirect::to(&format!("/orders/{id}")).into_response())
        }
        Err(_) => ask_again(&shop, &visitor, id, &typed).await,
    }
}

/// Shows the form again, with the fields that are wrong.
pub(super) async fn ask_again(
    shop: &Shop,
    visitor: &Visitor,
    order: OrderId,
    typed: &Address,
) -> Result<Response, Problem> {
    let mut shown = address_page(shop, visitor, order, typed, &typed.wrong_fields()).await?;
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
