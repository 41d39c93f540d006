//! Orders of guests: the way to them by a letter's link, an account that takes one over, and their
//! own data.

use super::{
    account::{email_field, new_password_field, refused},
    form_page,
    own_data::{why_not, with_payments},
    page,
    passwords::secret,
};
use crate::{
    design::{Field, Mood, field, notice, refusal},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, ask_to_sign_in, begin_session, refuse_other_sites, remember_order},
};
use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{Deleted, Guest, OrderState, OrderView, StoreError, TakeOver};
use http::{HeaderMap, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use web::{
    form::PlainForm,
    net::Peer,
    page::Lang,
    problem::{FORM_REFUSED, Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;

type Form = PlainForm<FORM_BYTES_MAX>;

/// How a guest can be reached, in the form of a checkout.
pub(super) fn contact(lang: Lang, email: &str, is_wrong: bool) -> Markup {
    let why = lang.say("Please enter an email such as ann@example.com.", "请输入正确的邮箱地址。");
    html! {
        fieldset class="card" {
            legend { (lang.say("Your email", "您的邮箱")) }
            (email_field(lang, "email", email, is_wrong.then_some(why)))
            p class="soft" { (lang.say("We send you a link to your order. No account is needed.", "订单链接将发送到该邮箱，无需注册。")) }
            p { (lang.say("Do you have an account?", "已有账户？")) " " a class="apart" href="/account/log-in?next=%2Fcart%2Fcheck-out" { (lang.say("Log in", "登录")) } }
        }
    }
}

/// Links from elsewhere may have parameters of their own.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    link: String,
}

/// The guest whose letter had this link.
async fn guest_of(shop: &Shop, link: &str) -> Result<Option<Guest>, Problem> {
    let found = shop.guests.guest(link.to_owned()).await.map_err(of_store)?;
    Ok(found.filter(|guest| guest.proves_address))
}

/// `GET /guest/order`: the link of a letter. It uses nothing up.
pub(super) async fn open(
    State(shop): State<Arc<Shop>>,
    Query(Asked { link }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let Some(guest) = guest_of(&shop, &link).await? else { return over_page(&shop, &visitor).await };
    let mut response = Redirect::to(&format!("/orders/{}", guest.order)).into_response();
    remember_order(&shop, &visitor, &link, &mut response);
    visitor.remember(&mut response);
    Ok(secret(response))
}

async fn over_page(shop: &Shop, visitor: &Visitor) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("This link does not work any more", "链接已失效"));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            (notice(Mood::Bad, title, &html! { p { (lang.say(
                "If an account has taken the order over, log in to it.",
                "如果该订单已转入您的账户，请登录查看。",
            )) } }))
            p { a class="button" href="/account/log-in?next=%2Forders" { (lang.say("Log in", "登录")) } }
        }
    };
    refused(page(shop, visitor, title, &body).await.map(secret)?, StatusCode::UNPROCESSABLE_ENTITY)
}

/// What the page of a guest's order offers below it.
pub(super) fn offer(visitor: &Visitor, order: &OrderView) -> Markup {
    let Some((guest, link)) = &visitor.buyer else { return html! {} };
    let lang = visitor.lang;
    let is_paid = !matches!(order.state, OrderState::Created | OrderState::AwaitingPayment);
    html! {
        @if !guest.proves_address {
            (notice(Mood::Neutral, lang.say("Keep your order", "保存您的订单"), &html! { p {
                @match lang {
                    Lang::En => { "We have sent a link to " (guest.email) ". It leads here from any device, and lets you create an account that has this order." },
                    Lang::Zh => { "我们已向 " (guest.email) " 发送订单链接。您可以在任何设备上通过该链接查看订单，或注册账户并转入此订单。" },
                }
            } }))
        } @else {
            @if is_paid { (account_form(lang, guest, link, "", &[])) }
            h2 { (lang.say("Your data", "您的数据")) }
            div class="actions" {
                form method="post" action="/guest/data" {
                    input type="hidden" name=(TOKEN_FIELD) value=(guest.csrf);
                    input type="hidden" name="link" value=(link);
                    button class="quiet" type="submit" { (lang.say("Download my data", "下载我的数据")) }
                }
                details class="confirm" {
                    summary { (lang.say("Erase my data", "清除我的数据")) }
                    form method="post" action="/guest/forget" {
                        input type="hidden" name=(TOKEN_FIELD) value=(guest.csrf);
                        input type="hidden" name="link" value=(link);
                        p { (lang.say(
                            "Your email, and the name and address on this order, are erased. You cannot see it or send anything back afterwards.",
                            "您的邮箱以及订单中的姓名和地址将被清除。之后无法再查看订单或申请退货。",
                        )) }
                        button class="danger" type="submit" { (lang.say("Yes, erase it", "确认清除")) }
                    }
                }
            }
        }
    }
}

fn account_form(lang: Lang, guest: &Guest, link: &str, name: &str, wrong: &[&str]) -> Markup {
    let of = |field: &str, words: &'static str| wrong.contains(&field).then_some(words);
    html! {
        form class="card" method="post" action="/guest/account" {
            h2 { (lang.say("Create an account with this order", "注册账户并转入此订单")) }
            p { (lang.say("Email: ", "邮箱：")) (guest.email) }
            input type="hidden" name=(TOKEN_FIELD) value=(guest.csrf);
            input type="hidden" name="link" value=(link);
            input type="text" name="username" value=(guest.email) autocomplete="username" hidden;
            (field(&Field {
                name: "name", label: lang.say("Name", "姓名"), kind: "text", value: name, autocomplete: "name", hint: "", is_optional: false,
                error: of("name", lang.say("Please tell us your name, in 80 characters at the most.", "请填写姓名（最多 80 个字符）。")),
            }))
            (new_password_field(lang, "password", lang.say("Password", "密码"),
                of("password", lang.say("Please choose one of 10 to 128 characters.", "密码长度应为 10 至 128 个字符。"))))
            button class="wide" type="submit" { (lang.say("Create an account", "注册")) }
        }
    }
}

/// The guest of a form, after it was checked that a page for it sent it.
async fn guest_of_form(shop: &Shop, headers: &HeaderMap, form: &Form) -> Result<Option<Guest>, Problem> {
    refuse_other_sites(headers)?;
    let Some(guest) = guest_of(shop, form.field("link")).await? else { return Ok(None) };
    match bool::from(form.field(TOKEN_FIELD).as_bytes().ct_eq(guest.csrf.as_bytes())) {
        true => Ok(Some(guest)),
        false => Err(Problem::new(&FORM_REFUSED, "the form is not of this order: load the page again")),
    }
}

/// `POST /guest/account`.
pub(super) async fn take_over(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let Some(guest) = guest_of_form(&shop, &headers, &form).await? else {
        return over_page(&shop, &visitor).await;
    };
    ask_to_sign_in(&shop, peer)?;
    let (lang, link, name) = (visitor.lang, form.field("link"), form.field("name"));
    let password = form.whole_field("password").to_owned();
    let take = TakeOver { link: link.to_owned(), name: name.to_owned(), password };
    match shop.guests.take_over(take).await {
        Ok(signed_in) => {
            let mut response = Redirect::to(&format!("/orders/{}", guest.order)).into_response();
            begin_session(&shop, &signed_in, &mut response);
            Ok(response)
        }
        Err(StoreError::Invalid(why)) => {
            let wrong = if why.starts_with("name") { "name" } else { "password" };
            let title = lang.say("Create an account", "注册");
            let body = html! { div class="narrow" { h1 { (title) } (account_form(lang, &guest, link, name, &[wrong])) } };
            let shown = form_page(&shop, &visitor, title, &body, true).await.map(secret)?;
            refused(shown, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(StoreError::Conflict(_)) => {
            let title = lang.say("You have an account already", "该邮箱已注册");
            let body = html! {
                div class="narrow" {
                    h1 { (title) }
                    (notice(Mood::Bad, title, &html! { p { (lang.say(
                        "There is an account with your email. This order stays where it is: its link goes on working.",
                        "您的邮箱已注册。此订单保持不变，仍可通过链接查看。",
                    )) } }))
                    p { a class="button" href={ "/orders/" (guest.order) } { (lang.say("Back to the order", "返回订单")) } }
                }
            };
            refused(page(&shop, &visitor, title, &body).await?, StatusCode::CONFLICT)
        }
        Err(StoreError::NotFound(_)) => over_page(&shop, &visitor).await,
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /guest/data`: what the shop has of a guest, as a file.
pub(super) async fn download(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let Some(guest) = guest_of_form(&shop, &headers, &form).await? else {
        return over_page(&shop, &visitor).await;
    };
    ask_to_sign_in(&shop, peer)?;
    let mut orders = Vec::new();
    if let Some(order) = shop.orders.order(guest.shopper, guest.order).await.map_err(of_store)? {
        orders.push(with_payments(&shop, &order).await.map_err(of_store)?);
    }
    let data = json!({ "shopper": guest.shopper.to_string(), "email": guest.email, "orders": orders });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"my-data.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, data.to_string()).into_response())
}

/// `POST /guest/forget`.
pub(super) async fn forget(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    if guest_of_form(&shop, &headers, &form).await?.is_none() {
        return over_page(&shop, &visitor).await;
    }
    ask_to_sign_in(&shop, peer)?;
    let lang = visitor.lang;
    let title = lang.say("Erase my data", "清除我的数据");
    let forgotten = shop.guests.forget(form.field("link").to_owned()).await.map_err(of_store)?;
    let (body, status) = match forgotten {
        Deleted::Yes => (
            notice(
                Mood::Good,
                lang.say("Your data will be erased shortly", "您的数据将很快被清除"),
                &html! {},
            ),
            StatusCode::OK,
        ),
        Deleted::Not(open) => (
            refusal(lang.say("It cannot be erased yet", "暂时无法清除"), &why_not(lang, open)),
            StatusCode::CONFLICT,
        ),
        Deleted::WrongPassword => return over_page(&shop, &visitor).await,
    };
    let body = html! { div class="narrow" { h1 { (title) } (body) } };
    refused(page(&shop, &visitor, title, &body).await?, status)
}
