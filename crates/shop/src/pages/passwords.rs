//! A password that was forgotten: the page that asks for a link by mail, and the page to which the
//! link leads. What they say does not depend on whether an address has an account.

use super::{
    account::{email_field, new_password_field, refused, too_many},
    form_page, framed, page,
};
use crate::{
    design::{Frame, Mood, notice},
    parts::Shop,
    visitor::{Visitor, ask_to_sign_in, end_session, language, refuse_other_sites},
};
use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{AskReset, ResetPassword, StoreError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    form::PlainForm,
    net::Peer,
    page::Lang,
    problem::{Problem, of_store},
};

const FORM_BYTES_MAX: usize = 8192;

type Form = PlainForm<FORM_BYTES_MAX>;

/// `GET /account/forgot`.
pub(super) async fn show_forgot(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    forgot_page(&shop, &visitor, "", None).await
}

fn title_of_forgot(lang: Lang) -> &'static str {
    lang.say("Forgot your password?", "忘记密码")
}

async fn forgot_page(
    shop: &Shop,
    visitor: &Visitor,
    email: &str,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, title_of_forgot(visitor.lang));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            p { (lang.say(
                "Tell us the email of your account. We send you a link that sets a new password.",
                "请输入您注册时使用的邮箱，我们会发送一个用于设置新密码的链接。",
            )) }
            form class="card" method="post" action="/account/forgot" {
                (email_field(lang, "username", email, error))
                button class="wide" type="submit" { (lang.say("Send the link", "发送链接")) }
            }
            p { a class="apart" href="/account/log-in" { (lang.say("Back to log in", "返回登录")) } }
        }
    };
    form_page(shop, visitor, title, &body, error.is_some()).await
}

/// What stands in the place of a form with the password, for an account that has none.
pub(super) fn ask_for_link(lang: Lang, email: &str) -> Markup {
    html! {
        form class="card" method="post" action="/account/forgot" {
            h2 { (lang.say("Password", "密码")) }
            p { (lang.say(
                "Your account has no password. We can send you a link that sets one.",
                "您的账户尚未设置密码。我们可以发送一个用于设置密码的链接。",
            )) }
            input type="hidden" name="email" value=(email);
            button class="wide" type="submit" { (lang.say("Send the link", "发送链接")) }
        }
    }
}

/// `POST /account/forgot`.
pub(super) async fn ask(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    let network = ask_to_sign_in(&shop, peer)?;
    let (lang, email) = (visitor.lang, form.field("email"));
    let ask = AskReset { email: email.to_owned(), network, language: language(lang) };
    match shop.accounts.ask_reset(ask).await {
        Ok(()) => sent_page(&shop, &visitor).await,
        Err(StoreError::Invalid(_)) => {
            let why = lang.say("Please enter an address such as ann@example.com.", "请输入正确的邮箱地址。");
            refused(forgot_page(&shop, &visitor, email, Some(why)).await?, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(StoreError::TooMany { wait_seconds }) => {
            let minutes = wait_seconds.div_ceil(60);
            let why = match lang {
                Lang::En => {
                    format!("Too many emails requested. Check your inbox, or try again in {minutes} min.")
                }
                Lang::Zh => format!("请求次数过多。请查看邮箱，或在 {minutes} 分钟后重试。"),
            };
            too_many(forgot_page(&shop, &visitor, email, Some(&why)).await?, wait_seconds)
        }
        Err(error) => Err(of_store(error)),
    }
}

async fn sent_page(shop: &Shop, visitor: &Visitor) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, title_of_forgot(visitor.lang));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            (notice(Mood::Good, lang.say("Check your email", "请查收邮件"), &html! {
                p { (lang.say(
                    "If the address has an account here, an email is on its way to it. Its link works once, within 30 minutes.",
                    "如果该邮箱已注册，重置邮件将很快送达。链接 30 分钟内有效，且只能使用一次。",
                )) }
                p { (lang.say(
                    "No email? Check your spam folder, and the address.",
                    "没有收到？请检查垃圾邮件文件夹，并确认邮箱地址是否正确。",
                )) }
                @if shop.is_demo {
                    p { (lang.say(
                        "This is a demo: the email is a file in the directory store/mail of its data.",
                        "演示商店：邮件以文件形式保存在数据目录的 store/mail 中。",
                    )) }
                }
            }))
            p { a class="apart" href="/account/log-in" { (lang.say("Back to log in", "返回登录")) } }
        }
    };
    page(shop, visitor, title, &body).await
}

/// Links from elsewhere may have parameters of their own.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    link: String,
}

/// `GET /account/reset`. Programs that look at links in letters use nothing up.
pub(super) async fn show_reset(
    State(shop): State<Arc<Shop>>,
    Query(Asked { link }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    match shop.accounts.reset_link_is_good(link.clone()).await.map_err(of_store)? {
        true => reset_page(&shop, &visitor, &link, None).await,
        false => over_page(&shop, &visitor).await,
    }
}

fn title_of_reset(lang: Lang) -> &'static str {
    lang.say("Set a new password", "设置新密码")
}

/// The page's address opens an account: no other site is told more than the shop's origin. With
/// `no-referrer` browsers would say `Origin: null` of the page's own form, which is refused.
pub(super) fn secret(mut response: Response) -> Response {
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    response
}

async fn reset_page(
    shop: &Shop,
    visitor: &Visitor,
    link: &str,
    error: Option<&str>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, title_of_reset(visitor.lang));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            form class="card" method="post" action="/account/reset" {
                input type="hidden" name="link" value=(link);
                (new_password_field(lang, "password", lang.say("New password", "新密码"), error))
                button class="wide" type="submit" { (lang.say("Set the password", "保存新密码")) }
            }
            p class="soft" { (lang.say(
                "You are logged out on all devices then, and log in with the new password.",
                "保存后，所有设备将退出登录，请使用新密码重新登录。",
            )) }
        }
    };
    let query: String = form_urlencoded::byte_serialize(link.as_bytes()).collect();
    let (here, is_refused) = (Some(format!("/account/reset?link={query}")), error.is_some());
    framed(shop, visitor, title, &body, |frame| Frame { here, is_refused, ..frame }).await.map(secret)
}

async fn over_page(shop: &Shop, visitor: &Visitor) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, title_of_reset(visitor.lang));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            (notice(Mood::Bad, lang.say("This link has expired", "链接已失效"), &html! {
                p { (lang.say(
                    "It works once, within 30 minutes, and only as long as the password was not changed.",
                    "链接 30 分钟内有效，且只能使用一次；密码修改后也会失效。",
                )) }
            }))
            p { a class="button" href="/account/forgot" { (lang.say("Send a new link", "重新获取链接")) } }
        }
    };
    refused(page(shop, visitor, title, &body).await.map(secret)?, StatusCode::UNPROCESSABLE_ENTITY)
}

/// `POST /account/reset`.
pub(super) async fn reset(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    ask_to_sign_in(&shop, peer)?;
    let (lang, link) = (visitor.lang, form.field("link"));
    let password = form.whole_field("password").to_owned();
    let reset = ResetPassword { link: link.to_owned(), password, language: language(lang) };
    match shop.accounts.reset_password(reset).await {
        Ok(true) => {
            let mut response = Redirect::to("/account/log-in?done=reset").into_response();
            end_session(&mut response);
            Ok(response)
        }
        Ok(false) => over_page(&shop, &visitor).await,
        Err(StoreError::Invalid(_)) => {
            let why =
                lang.say("Please choose one of 10 to 128 characters.", "密码长度应为 10 至 128 个字符。");
            refused(reset_page(&shop, &visitor, link, Some(why)).await?, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(error) => Err(of_store(error)),
    }
}
