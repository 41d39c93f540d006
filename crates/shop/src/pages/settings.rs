//! What shoppers change about their own accounts: the name, the password, and where they are
//! logged in.

use super::{
    account::{many_tries, new_password_field, password_field, refused, too_many},
    form_page, passwords,
};
use crate::{
    design::{Field, Mood, crumbs, field, notice},
    parts::Shop,
    visitor::{TOKEN_FIELD, Visitor, ask_to_sign_in, begin_session, language, session_of},
    words,
};
use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{LogInWays, OwnPassword, SignedIn, StoreError};
use http::StatusCode;
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
    done: Option<String>,
}

/// What is wrong with a form: the field, and the words beside it.
type Wrong<'a> = Option<(&'a str, &'a str)>;

/// `GET /account/settings`.
pub(super) async fn show(
    State(shop): State<Arc<Shop>>,
    Query(Asked { done }): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let lang = visitor.lang;
    let done = match done.as_deref() {
        Some("name") => Some(lang.say("Your name is changed", "姓名已修改")),
        Some("password") => Some(lang.say("Your password is changed", "密码已修改")),
        Some("connected") => Some(lang.say("It is connected", "绑定成功")),
        Some("disconnected") => Some(lang.say("It is disconnected", "已解除绑定")),
        Some("sessions") => Some(lang.say("You are logged out everywhere else", "其他设备已退出登录")),
        _ => None,
    };
    settings_page(&shop, &visitor, done, None).await
}

pub(super) async fn settings_page(
    shop: &Shop,
    visitor: &Visitor,
    done: Option<&str>,
    wrong: Wrong<'_>,
) -> Result<Response, Problem> {
    let Some(signed_in) = &visitor.signed_in else { return visitor.to_log_in() };
    let profile = shop.accounts.profile(signed_in.account).await.map_err(of_store)?;
    let email = profile.map(|profile| profile.email).unwrap_or_default();
    let ways = shop.accounts.log_in_ways(signed_in.account).await.map_err(of_store)?;
    let sessions =
        shop.accounts.sessions(signed_in.account, signed_in.session.clone()).await.map_err(of_store)?;
    let (lang, title) = (visitor.lang, visitor.lang.say("Name and password", "姓名与密码"));
    let of = |field: &str| wrong.filter(|(name, _)| *name == field).map(|(_, words)| words);
    let csrf = visitor.csrf();
    let body = html! {
        div class="narrow" {
            (crumbs(lang, &[("/account", lang.say("Your account", "我的账户"))]))
            h1 { (title) }
            @if let Some(done) = done { (notice(Mood::Good, done, &html! {})) }
            form class="card" method="post" action="/account/name" {
                h2 { (lang.say("Name", "姓名")) }
                input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                (field(&Field {
                    name: "name", label: lang.say("What we call you", "我们如何称呼您"), kind: "text", value: &signed_in.name,
                    autocomplete: "name", hint: "", error: of("name"), is_optional: false,
                }))
                button class="wide" type="submit" { (lang.say("Save the name", "保存姓名")) }
            }
            @if ways.has_password {
                form class="card" method="post" action="/account/password" {
                    h2 { (lang.say("Password", "密码")) }
                    input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                    // Password managers want to know whose it is.
                    input type="text" name="username" value=(email) autocomplete="username" hidden;
                    (password_field("current", lang.say("Current password", "当前密码"), of("current")))
                    (new_password_field(lang, "new", lang.say("New password", "新密码"), of("new")))
                    button class="wide" type="submit" { (lang.say("Change the password", "修改密码")) }
                }
            } @else {
                (passwords::ask_for_link(lang, &email))
            }
            (connected(shop, visitor, &ways, of("own")))
            section class="card" {
                h2 { (lang.say("Where you are logged in", "已登录的设备")) }
                ul {
                    @for session in &sessions {
                        li {
                            (lang.say("Since ", "登录于 ")) (words::moment(session.began_at, lang))
                            @if session.is_this { " " span class="badge plain" { (lang.say("This device", "当前设备")) } }
                        }
                    }
                }
                @if ways.has_password {
                    form method="post" action="/account/log-out-elsewhere" {
                        input type="hidden" name=(TOKEN_FIELD) value=(csrf);
                        (password_field("password", lang.say("Password", "密码"), of("password")))
                        button class="quiet wide" type="submit" { (lang.say("Log out everywhere else", "退出其他设备")) }
                    }
                }
            }
        }
    };
    form_page(shop, visitor, title, &body, wrong.is_some()).await
}

/// What is connected at the provider of identities, and a form.
fn connected(shop: &Shop, visitor: &Visitor, ways: &LogInWays, wrong: Option<&str>) -> Markup {
    let lang = visitor.lang;
    let name =
        shop.provider.as_ref().map_or(lang.say("Another log-in", "第三方登录"), |of| of.name(lang));
    if shop.provider.is_none() && ways.connected.is_empty() {
        return html! {};
    }
    let form = |action: &str, button: &str, kind: &str| {
        html! {
            form method="post" action=(action) {
                input type="hidden" name=(TOKEN_FIELD) value=(visitor.csrf());
                (password_field("own", lang.say("Password", "密码"), wrong))
                button class={ (kind) " wide" } type="submit" { (button) }
            }
        }
    };
    html! {
        section class="card" {
            h2 { (name) }
            @for log_in in &ways.connected {
                p { (lang.say("Connected since ", "绑定于 ")) (words::moment(log_in.connected_at, lang)) }
            }
            @if !ways.has_password {
                p { (lang.say(
                    "To disconnect it, set a password first.",
                    "如需解除绑定，请先设置密码。",
                )) }
            } @else if ways.connected.is_empty() {
                p { (lang.say("Connect it to log in without your password.", "绑定后可直接登录，无需输入密码。")) }
                (form("/account/provider/connect", lang.say("Connect", "绑定"), ""))
            } @else {
                (form("/account/provider/disconnect", lang.say("Disconnect", "解除绑定"), "quiet"))
            }
        }
    }
}

async fn ask_again(shop: &Shop, visitor: &Visitor, field: &str, words: &str) -> Result<Response, Problem> {
    let shown = settings_page(shop, visitor, None, Some((field, words))).await?;
    refused(shown, StatusCode::UNPROCESSABLE_ENTITY)
}

/// `POST /account/name`.
pub(super) async fn rename(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let account = session_of(&visitor, &form)?.account;
    match shop.accounts.rename(account, form.field("name").to_owned()).await {
        Ok(()) => Ok(Redirect::to("/account/settings?done=name").into_response()),
        Err(StoreError::Invalid(_)) => {
            let why = visitor.lang.say(
                "Please tell us your name, in 80 characters at the most.",
                "请填写姓名（最多 80 个字符）。",
            );
            ask_again(&shop, &visitor, "name", why).await
        }
        Err(error) => Err(of_store(error)),
    }
}

/// The password that a form of the session has in this field.
pub(super) fn own_password(
    shop: &Shop,
    peer: Peer,
    visitor: &Visitor,
    (form, field): (&Form, &str),
) -> Result<OwnPassword, Problem> {
    let signed_in = session_of(visitor, form)?;
    Ok(OwnPassword {
        account: signed_in.account,
        session: signed_in.session.clone(),
        password: form.whole_field(field).to_owned(),
        network: ask_to_sign_in(shop, peer)?,
        language: language(visitor.lang),
    })
}

pub(super) fn wrong_password(lang: Lang) -> &'static str {
    lang.say("This is not your password.", "密码不正确。")
}

/// `POST /account/password`.
pub(super) async fn change_password(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let own = own_password(&shop, peer, &visitor, (&form, "current"))?;
    let changed = shop.accounts.change_password(own, form.whole_field("new").to_owned()).await;
    if let Err(StoreError::Invalid(_)) = changed {
        let why =
            visitor.lang.say("Please choose one of 10 to 128 characters.", "密码长度应为 10 至 128 个字符。");
        return ask_again(&shop, &visitor, "new", why).await;
    }
    settled(&shop, &visitor, changed, ("current", "/account/settings?done=password")).await
}

/// `POST /account/log-out-elsewhere`.
pub(super) async fn log_out_elsewhere(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let own = own_password(&shop, peer, &visitor, (&form, "password"))?;
    let ended = shop.accounts.log_out_elsewhere(own).await;
    settled(&shop, &visitor, ended, ("password", "/account/settings?done=sessions")).await
}

/// What became of a form that has the current password in this field.
async fn settled(
    shop: &Shop,
    visitor: &Visitor,
    done: Result<Option<SignedIn>, StoreError>,
    (field, to): (&str, &str),
) -> Result<Response, Problem> {
    match done {
        Ok(Some(signed_in)) => {
            let mut response = Redirect::to(to).into_response();
            begin_session(shop, &signed_in, &mut response);
            Ok(response)
        }
        Ok(None) => ask_again(shop, visitor, field, wrong_password(visitor.lang)).await,
        Err(StoreError::TooMany { wait_seconds }) => {
            let why = many_tries(visitor.lang, wait_seconds);
            too_many(settings_page(shop, visitor, None, Some((field, &why))).await?, wait_seconds)
        }
        Err(error) => Err(of_store(error)),
    }
}
