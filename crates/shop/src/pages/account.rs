//! Logging in and out, registration, and the token for the sale.

use super::{addresses, entrance, framed, page};
use crate::{
    design::{Field, Frame, Mood, field, notice, refusal},
    parts::Shop,
    visitor::{
        TOKEN_FIELD, Visitor, ask_to_sign_in, begin_session, bring_cart, end_session, own_path,
        refuse_other_sites, session_of,
    },
};
use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{Credentials, NewAccount, StoreError};
use http::{HeaderMap, StatusCode, header};
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

/// Links from elsewhere may have parameters of their own.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    next: Option<String>,
    done: Option<String>,
}

/// `GET /account/log-in`.
pub(super) async fn show_log_in(
    State(shop): State<Arc<Shop>>,
    Query(Asked { next, done }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let next = own_path(next.as_deref().unwrap_or_default()).to_owned();
    let news = match done.as_deref() {
        Some("reset") => News::PasswordIsSet,
        Some("deleted") => News::AccountIsDeleted,
        _ => News::None,
    };
    log_in_page(&shop, &visitor, (&next, ""), news).await
}

/// What the log-in page says above its form.
enum News<'a> {
    None,
    Refused(&'a str),
    PasswordIsSet,
    AccountIsDeleted,
}

async fn log_in_page(
    shop: &Shop,
    visitor: &Visitor,
    (next, email): (&str, &str),
    news: News<'_>,
) -> Result<Response, Problem> {
    let (lang, title) = (visitor.lang, visitor.lang.say("Log in", "登录"));
    let query: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    let is_refused = matches!(news, News::Refused(_));
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            @match news {
                News::None => {},
                News::Refused(why) => (refusal(lang.say("Login failed", "登录失败"), &html! { p { (why) } })),
                News::PasswordIsSet => (notice(Mood::Good, lang.say("Your new password is set", "新密码已设置"), &html! {
                    p { (lang.say("Log in with it.", "请使用新密码登录。")) }
                })),
                News::AccountIsDeleted => (notice(Mood::Good, lang.say("Your account is deleted", "账户已注销"), &html! {
                    p { (lang.say("Your personal data will be erased shortly.", "您的个人信息将很快被清除。")) }
                })),
            }
            form class="card" method="post" action="/account/log-in" {
                input type="hidden" name="next" value=(next);
                (email_field(lang, "username", email, None))
                (password_field("password", lang.say("Password", "密码"), None))
                button class="wide" type="submit" { (title) }
            }
            (entrance::button(shop, lang, next))
            p { a class="apart" href="/account/forgot" { (lang.say("Forgot your password?", "忘记密码？")) } }
            p { (lang.say("New here?", "还没有账户？")) " " a class="apart" href={ "/account/register?next=" (query) } { (lang.say("Create an account", "注册")) } }
        }
    };
    let here = Some(format!("/account/log-in?next={query}"));
    framed(shop, visitor, title, &body, |frame| Frame { here, is_refused, ..frame }).await
}

pub(super) fn email_field(lang: Lang, autocomplete: &str, value: &str, error: Option<&str>) -> Markup {
    field(&Field {
        name: "email",
        label: lang.say("Email", "邮箱"),
        kind: "email",
        value,
        autocomplete,
        hint: "",
        error,
        is_optional: false,
    })
}

/// For a password that there is.
pub(super) fn password_field(name: &str, label: &str, error: Option<&str>) -> Markup {
    field(&Field {
        name,
        label,
        kind: "password",
        value: "",
        autocomplete: "current-password",
        hint: "",
        error,
        is_optional: false,
    })
}

/// For a password that is to be.
pub(super) fn new_password_field(lang: Lang, name: &str, label: &str, error: Option<&str>) -> Markup {
    field(&Field {
        name,
        label,
        kind: "password",
        value: "",
        autocomplete: "new-password",
        hint: lang.say("At least 10 characters. A few words are fine.", "至少 10 个字符。"),
        error,
        is_optional: false,
    })
}

/// `POST /account/log-in`.
pub(super) async fn log_in(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    let network = ask_to_sign_in(&shop, peer)?;
    let (next, email) = (own_path(form.field("next")), form.field("email"));
    let credentials =
        Credentials { email: email.to_owned(), password: form.whole_field("password").to_owned(), network };
    let lang = visitor.lang;
    match shop.accounts.log_in(credentials).await {
        Ok(Some(signed_in)) => {
            let mut response = Redirect::to(next).into_response();
            begin_session(&shop, &signed_in, &mut response);
            bring_cart(&shop, &visitor, signed_in.account, &mut response).await;
            Ok(response)
        }
        Ok(None) => {
            let why = lang
                .say("Email or password is incorrect. Please try again.", "邮箱或密码不正确，请检查后重试。");
            refused(
                log_in_page(&shop, &visitor, (next, email), News::Refused(why)).await?,
                StatusCode::UNPROCESSABLE_ENTITY,
            )
        }
        Err(StoreError::TooMany { wait_seconds }) => {
            let why = many_tries(lang, wait_seconds);
            let shown = log_in_page(&shop, &visitor, (next, email), News::Refused(&why)).await?;
            too_many(shown, wait_seconds)
        }
        Err(error) => Err(of_store(error)),
    }
}

pub(super) fn many_tries(lang: Lang, wait_seconds: u64) -> String {
    match lang {
        Lang::En => format!("Too many attempts. Try again in {wait_seconds} seconds."),
        Lang::Zh => format!("尝试次数过多，请在 {wait_seconds} 秒后重试。"),
    }
}

/// The page, as the answer to a form that may be sent again after so many seconds.
pub(super) fn too_many(shown: Response, wait_seconds: u64) -> Result<Response, Problem> {
    let mut response = refused(shown, StatusCode::TOO_MANY_REQUESTS)?;
    response.headers_mut().insert(header::RETRY_AFTER, wait_seconds.into());
    Ok(response)
}

#[expect(clippy::unnecessary_wraps, reason = "the handlers' type")]
pub(super) fn refused(mut response: Response, status: StatusCode) -> Result<Response, Problem> {
    *response.status_mut() = status;
    Ok(response)
}

/// `GET /account/register`.
pub(super) async fn show_register(
    State(shop): State<Arc<Shop>>,
    Query(Asked { next, .. }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let next = own_path(next.as_deref().unwrap_or_default()).to_owned();
    register_page(&shop, &visitor, &next, ("", ""), &[]).await
}

/// What is wrong with a form of registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WrongField {
    Name,
    Email,
    /// There is an account with it.
    EmailTaken,
    Password,
}

/// All fields that are wrong: what the accounts have refused, and what can be seen here.
fn wrong_fields(name: &str, password: &str, refused: &StoreError) -> Vec<WrongField> {
    let is_of = |field: &str, why: &str| why.split(':').next() == Some(field);
    let mut wrong = Vec::new();
    match refused {
        StoreError::Conflict(_) => wrong.push(WrongField::EmailTaken),
        StoreError::Invalid(why) if is_of("email", why) => wrong.push(WrongField::Email),
        StoreError::Invalid(why) if is_of("name", why) => wrong.push(WrongField::Name),
        _ => wrong.push(WrongField::Password),
    }
    let is_name = (1..=80).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    let is_password = (10..=128).contains(&password.chars().count());
    for (field, is_good) in [(WrongField::Name, is_name), (WrongField::Password, is_password)] {
        if !is_good && !wrong.contains(&field) {
            wrong.push(field);
        }
    }
    wrong
}

async fn register_page(
    shop: &Shop,
    visitor: &Visitor,
    next: &str,
    (email, name): (&str, &str),
    wrong: &[WrongField],
) -> Result<Response, Problem> {
    let query: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    let (lang, title) = (visitor.lang, visitor.lang.say("Create an account", "注册"));
    let of = |field: WrongField, words: &'static str| wrong.contains(&field).then_some(words);
    let email_error = of(
        WrongField::Email,
        lang.say("Please enter an email such as ann@example.com.", "请输入正确的邮箱地址。"),
    )
    .or_else(|| {
        of(
            WrongField::EmailTaken,
            lang.say(
                "There is already an account with this email. Log in instead.",
                "该邮箱已注册，请直接登录。",
            ),
        )
    });
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            form class="card" method="post" action="/account/register" {
                input type="hidden" name="next" value=(next);
                (field(&Field {
                    name: "name", label: lang.say("Name", "姓名"), kind: "text", value: name, autocomplete: "name", hint: "", is_optional: false,
                    error: of(WrongField::Name, lang.say("Please tell us your name, in 80 characters at the most.", "请填写姓名（最多 80 个字符）。")),
                }))
                (email_field(lang, "email", email, email_error))
                @if wrong.contains(&WrongField::EmailTaken) {
                    p { a class="apart" href={ "/account/log-in?next=" (query) } { (lang.say("Log in", "登录")) } }
                }
                (new_password_field(lang, "password", lang.say("Password", "密码"),
                    of(WrongField::Password, lang.say("Please choose one of 10 to 128 characters.", "密码长度应为 10 至 128 个字符。"))))
                button class="wide" type="submit" { (title) }
            }
            (entrance::button(shop, lang, next))
        }
    };
    let (here, is_refused) = (Some(format!("/account/register?next={query}")), !wrong.is_empty());
    framed(shop, visitor, title, &body, |frame| Frame { here, is_refused, ..frame }).await
}

/// `POST /account/register`.
pub(super) async fn register(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    ask_to_sign_in(&shop, peer)?;
    let (next, email, name) = (own_path(form.field("next")), form.field("email"), form.field("name"));
    let new = NewAccount {
        email: email.to_owned(),
        name: name.to_owned(),
        password: form.whole_field("password").to_owned(),
    };
    match shop.accounts.register(new).await {
        Ok(signed_in) => {
            let mut response = Redirect::to(next).into_response();
            begin_session(&shop, &signed_in, &mut response);
            bring_cart(&shop, &visitor, signed_in.account, &mut response).await;
            Ok(response)
        }
        Err(refusal @ (StoreError::Invalid(_) | StoreError::Conflict(_))) => {
            let wrong = wrong_fields(name, form.whole_field("password"), &refusal);
            let shown = register_page(&shop, &visitor, next, (email, name), &wrong).await?;
            refused(shown, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /account/log-out`.
pub(super) async fn log_out(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let session = session_of(&visitor, &form)?.session.clone();
    shop.accounts.log_out(session).await.map_err(of_store)?;
    let mut response = Redirect::to("/").into_response();
    end_session(&mut response);
    Ok(response)
}

/// `GET /account`.
pub(super) async fn show(State(shop): State<Arc<Shop>>, visitor: Visitor) -> Result<Response, Problem> {
    let Some(account) = visitor.account() else { return visitor.to_log_in() };
    let profile = shop.accounts.profile(account).await.map_err(of_store)?;
    let known = shop.accounts.addresses(account).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, visitor.lang.say("Your account", "我的账户"));
    let csrf = visitor.csrf();
    let body = html! {
        h1 { (title) }
        @if let Some(profile) = profile {
            div class="card" {
                p { strong { (profile.name) } }
                p { (profile.email) }
            }
        }
        div class="actions" {
            a class="button" href="/orders" { (lang.say("Your orders", "我的订单")) }
            a class="button quiet" href="/account/settings" { (lang.say("Name and password", "姓名与密码")) }
            form method="post" action="/account/log-out" {
                input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                button class="quiet" type="submit" { (lang.say("Log out", "退出登录")) }
            }
        }
        @if !known.is_empty() {
            h2 { (lang.say("Your addresses", "收货地址")) }
            @for address in &known {
                div class="card" {
                    (addresses::shown(lang, address))
                    form class="actions" method="post" action="/account/addresses/forget" {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        @for (name, value) in [("name", &address.name), ("phone", &address.phone), ("street", &address.street), ("city", &address.city),
                            ("region", &address.region), ("postcode", &address.postcode), ("country", &address.country)] {
                            input type="hidden" name=(name) value=(value);
                        }
                        button class="quiet" type="submit" { (lang.say("Delete", "删除")) span class="hidden" { ": " (address.street) } }
                    }
                }
            }
        }
        h2 { (lang.say("Your data", "您的数据")) }
        div class="actions" {
            form method="post" action="/account/data" {
                input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                button class="quiet" type="submit" { (lang.say("Download my data", "下载我的数据")) }
            }
            a class="apart" href="/account/delete" { (lang.say("Delete the account", "注销账户")) }
        }
    };
    page(&shop, &visitor, title, &body).await
}

/// `GET /account/sale-token`: the token by which the sale knows the shopper, as text. Only scripts
/// of the shop's own pages get it: no other origin may read the answer.
pub(super) async fn sale_token(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    let no_store = (header::CACHE_CONTROL, "no-store");
    let Some(signed_in) = &visitor.signed_in else {
        visitor.to_log_in()?;
        return Ok((StatusCode::UNAUTHORIZED, [no_store], "log in").into_response());
    };
    let token = shop.accounts.sale_token(signed_in.account).await.map_err(of_store)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), no_store], token).into_response())
}
