//! Log-in at a provider of identities: the way there, the way back, and how an account is connected
//! with it. It knows no protocol.

use super::{
    account::{many_tries, refused, too_many},
    entrance::{provider, with},
    framed, leads_to, page,
    passwords::secret,
    settings::{own_password, settings_page, wrong_password},
};
use crate::{
    design::{Frame, Mood, notice},
    parts::Shop,
    visitor::{
        Visitor, ask_to_sign_in, begin_session, bring_cart, language, own_path, refuse_other_sites,
        session_of, set_at_provider,
    },
};
use axum::{
    Extension,
    extract::{RawQuery, State},
    response::{IntoResponse, Redirect, Response},
};
use contracts::store::{FromProvider, GoToProvider, NotSignedIn, ProviderAnswer, StoreError};
use http::{HeaderMap, StatusCode};
use maud::html;
use std::sync::Arc;
use web::{
    form::PlainForm,
    net::Peer,
    page::Lang,
    problem::{Problem, of_store},
};

/// Where the provider sends browsers back to.
pub const CALLBACK: &str = "/account/provider/callback";
const FORM_BYTES_MAX: usize = 8192;

type Form = PlainForm<FORM_BYTES_MAX>;

/// `POST /account/provider`.
pub(super) async fn go(
    State(shop): State<Arc<Shop>>,
    visitor: Visitor,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    refuse_other_sites(&headers)?;
    let next = own_path(form.field("next")).to_owned();
    match provider(&shop)?.port.go(next, language(visitor.lang)).await {
        Ok(there) => leave(&shop, &visitor, &there).await,
        Err(StoreError::Unavailable(_)) => not_page(&shop, &visitor, NotSignedIn::Away).await,
        Err(error) => Err(of_store(error)),
    }
}

async fn leave(shop: &Shop, visitor: &Visitor, there: &GoToProvider) -> Result<Response, Problem> {
    let (lang, name) = (visitor.lang, provider(shop)?.name(visitor.lang));
    let title = with(lang, name);
    let body = html! {
        h1 { (title) }
        p { (lang.say(
            "Its page opens now. If it does not, press the button.",
            "正在打开登录页面。如果没有自动跳转，请点击下面的按钮。",
        )) }
        p { a class="button" href=(there.url) rel="noreferrer" { (lang.say("Continue", "继续")) } }
    };
    let mut page = leads_to(page(shop, visitor, &title, &body).await?, &there.url);
    set_at_provider(shop, Some((&there.cookie, there.seconds)), &mut page);
    Ok(page)
}

/// `GET /account/provider/callback`: a browser comes back.
pub(super) async fn come_back(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let provider = provider(&shop)?;
    let Some(cookie) = visitor.at_provider.clone() else {
        return not_page(&shop, &visitor, NotSignedIn::Over).await;
    };
    // The provider is asked.
    ask_to_sign_in(&shop, peer)?;
    let account = visitor.account();
    let query = query.unwrap_or_default();
    let from = FromProvider { cookie, query, account, language: language(visitor.lang) };
    let mut response = match provider.port.come_back(from).await.map_err(of_store)? {
        ProviderAnswer::SignedIn(signed_in, next) => {
            let mut response = Redirect::to(own_path(&next)).into_response();
            begin_session(&shop, &signed_in, &mut response);
            bring_cart(&shop, &visitor, signed_in.account, &mut response).await;
            response
        }
        ProviderAnswer::Connected => Redirect::to("/account/settings?done=connected").into_response(),
        ProviderAnswer::Not(why) => not_page(&shop, &visitor, why).await?,
    };
    set_at_provider(&shop, None, &mut response);
    Ok(response)
}

/// Why the visitor is not logged in, and what to do.
fn words_of(lang: Lang, name: &str, why: NotSignedIn) -> (StatusCode, &'static str, String) {
    let of = |en: String, zh: String| match lang {
        Lang::En => en,
        Lang::Zh => zh,
    };
    let not = lang.say("You are not logged in", "登录未完成");
    match why {
        NotSignedIn::Over => (
            StatusCode::UNPROCESSABLE_ENTITY,
            not,
            of(
                "This log-in is over: it works once, in one browser, within ten minutes. Start again.".into(),
                "本次登录已失效：须在同一浏览器中十分钟内完成，且只能使用一次。请重新登录。".into(),
            ),
        ),
        NotSignedIn::Cancelled => (
            StatusCode::UNPROCESSABLE_ENTITY,
            not,
            of(format!("You cancelled it at {name}."), format!("您已在 {name} 取消登录。")),
        ),
        NotSignedIn::Refused => (
            StatusCode::UNPROCESSABLE_ENTITY,
            not,
            of(
                format!("{name} did not confirm the log-in. Start again, or log in with your password."),
                format!("{name} 未确认本次登录，请重试或使用密码登录。"),
            ),
        ),
        NotSignedIn::Away => (
            StatusCode::SERVICE_UNAVAILABLE,
            not,
            of(
                format!("{name} does not answer now. Try again in a moment, or log in with your password."),
                format!("{name} 暂时无法访问，请稍后重试或使用密码登录。"),
            ),
        ),
        NotSignedIn::NoAddress => (
            StatusCode::UNPROCESSABLE_ENTITY,
            lang.say("There is no account yet", "尚未注册"),
            of(
                format!(
                    "{name} has not confirmed an email of yours. Create an account here, and connect it with {name} on the page “Name and password”."
                ),
                format!("{name} 没有您已验证的邮箱。请先在此注册，然后在“姓名与密码”页面绑定 {name}。"),
            ),
        ),
        NotSignedIn::HasAccount => (
            StatusCode::CONFLICT,
            lang.say("You have an account already", "该邮箱已注册"),
            of(
                format!(
                    "There is an account with your email. Log in with its password, and connect it with {name} on the page “Name and password”. Forgot the password? Have a link mailed."
                ),
                format!(
                    "您的邮箱已注册。请使用密码登录，然后在“姓名与密码”页面绑定 {name}。忘记密码时可通过邮件重置。"
                ),
            ),
        ),
        NotSignedIn::OfAnother => (
            StatusCode::CONFLICT,
            lang.say("It is not connected", "未能绑定"),
            of(
                format!(
                    "Another account is connected with this log-in at {name}. Disconnect it there first."
                ),
                format!("该 {name} 登录已绑定其他账户，请先在那个账户中解除绑定。"),
            ),
        ),
        NotSignedIn::HasAnother => (
            StatusCode::CONFLICT,
            lang.say("It is not connected", "未能绑定"),
            of(
                format!(
                    "Your account is connected with another log-in at {name}. Disconnect that one first."
                ),
                format!("您的账户已绑定另一个 {name} 登录，请先解除绑定。"),
            ),
        ),
        NotSignedIn::Locked => (
            StatusCode::UNPROCESSABLE_ENTITY,
            not,
            of("You cannot log in to this account.".into(), "无法登录该账户。".into()),
        ),
    }
}

async fn not_page(shop: &Shop, visitor: &Visitor, why: NotSignedIn) -> Result<Response, Problem> {
    let lang = visitor.lang;
    let (status, title, words) = words_of(lang, provider(shop)?.name(lang), why);
    let body = html! {
        div class="narrow" {
            h1 { (title) }
            (notice(Mood::Bad, title, &html! { p { (words) } }))
            @if visitor.signed_in.is_some() {
                p { a class="button" href="/account/settings" { (lang.say("Name and password", "姓名与密码")) } }
            } @else {
                p { a class="button" href="/account/log-in" { (lang.say("Log in", "登录")) } }
                @if why == NotSignedIn::HasAccount { p { a class="apart" href="/account/forgot" { (lang.say("Forgot your password?", "忘记密码？")) } } }
                @if why == NotSignedIn::NoAddress { p { a class="apart" href="/account/register" { (lang.say("Create an account", "注册")) } } }
            }
        }
    };
    // The page's own address has what the provider has said.
    let here = Some("/account/log-in".to_owned());
    let shown = framed(shop, visitor, title, &body, |frame| Frame { here, ..frame }).await.map(secret)?;
    refused(shown, status)
}

/// `POST /account/provider/connect`.
pub(super) async fn connect(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    let own = own_password(&shop, peer, &visitor, (&form, "own"))?;
    match provider(&shop)?.port.connect(own).await {
        Ok(Some(there)) => leave(&shop, &visitor, &there).await,
        Ok(None) => ask_again(&shop, &visitor, wrong_password(visitor.lang)).await,
        Err(StoreError::TooMany { wait_seconds }) => wait(&shop, &visitor, wait_seconds).await,
        Err(StoreError::Unavailable(_)) => not_page(&shop, &visitor, NotSignedIn::Away).await,
        Err(error) => Err(of_store(error)),
    }
}

/// `POST /account/provider/disconnect`.
pub(super) async fn disconnect(
    State(shop): State<Arc<Shop>>,
    Extension(peer): Extension<Peer>,
    visitor: Visitor,
    form: Form,
) -> Result<Response, Problem> {
    session_of(&visitor, &form)?;
    let own = own_password(&shop, peer, &visitor, (&form, "own"))?;
    match shop.accounts.disconnect(own).await {
        Ok(Some(signed_in)) => {
            let mut response = Redirect::to("/account/settings?done=disconnected").into_response();
            begin_session(&shop, &signed_in, &mut response);
            Ok(response)
        }
        Ok(None) => ask_again(&shop, &visitor, wrong_password(visitor.lang)).await,
        Err(StoreError::TooMany { wait_seconds }) => wait(&shop, &visitor, wait_seconds).await,
        Err(error) => Err(of_store(error)),
    }
}

async fn ask_again(shop: &Shop, visitor: &Visitor, words: &str) -> Result<Response, Problem> {
    let shown = settings_page(shop, visitor, None, Some(("own", words))).await?;
    refused(shown, StatusCode::UNPROCESSABLE_ENTITY)
}

async fn wait(shop: &Shop, visitor: &Visitor, wait_seconds: u64) -> Result<Response, Problem> {
    let why = many_tries(visitor.lang, wait_seconds);
    too_many(settings_page(shop, visitor, None, Some(("own", &why))).await?, wait_seconds)
}
