//! The operators' pages of accounts: found by an address of mail or a number, one with its sessions
//! and what may be done with it. They show no secret, and work without JavaScript. What the shopper
//! has ordered is behind a link: orders are another context's.

use crate::{
    api::{Parts, id_of, trail_page},
    operated::Seen,
    operators::Command,
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{
    REASON_BYTES_MAX,
    store::{AccountId, CONSOLE_PLACES, Language},
};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use units::TimeMs;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Lang, wide},
    problem::{INVALID, NOT_FOUND, Problem, of_store},
    reason::Reasons,
    trail::{PAGE_MAX, ShownSteps, show},
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const SUPPORT: Access = Access::Role(Role::Support);
const FORM_BYTES_MAX: usize = 4096;
const ACCOUNTS_MAX: usize = 50;
const TRAIL: &str = "/console/trail/accounts";

type Form = SignedForm<FORM_BYTES_MAX>;

/// The pages, which the OpenAPI document does not describe.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![
        get("/console/accounts", "showAccounts", READ, accounts),
        get("/console/accounts/{account}", "showAccount", READ, account),
        post("/console/accounts/operate", "operateAccountForm", OPERATE, operate).form(),
        post("/console/accounts/send-reset", "sendResetForm", SUPPORT, send_reset).form(),
        get(TRAIL, "showAccountsTrail", READ, trail),
    ]
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    q: Option<String>,
    before: Option<AccountId>,
    sent: Option<String>,
}

/// `GET /console/accounts`.
async fn accounts(
    State(Parts { service, .. }): State<Parts>,
    Query(Shown { lang, q, before, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let wanted = q.unwrap_or_default().trim().to_owned();
    let found = match (wanted.is_empty(), wanted.parse::<AccountId>()) {
        (true, _) => service.newest(before, ACCOUNTS_MAX).await.map_err(of_store)?,
        (false, Ok(id)) => service.seen(id).await.map_err(of_store)?.into_iter().collect(),
        (false, Err(_)) => service.seen_by_email(&wanted).await.map_err(of_store)?.into_iter().collect(),
    };
    if let ([one], false) = (&found[..], wanted.is_empty()) {
        let to = format!("/console/accounts/{}?lang={}", one.profile.account, lang.code());
        return Ok(Redirect::to(&to).into_response());
    }
    let next = found.last().map(|seen| seen.profile.account).filter(|_| found.len() == ACCOUNTS_MAX);
    let title = lang.say("Customers", "客户");
    let heads = [
        lang.say("Account", "账户"),
        lang.say("Mail", "邮箱"),
        lang.say("Name", "姓名"),
        lang.say("Since", "注册时间"),
        lang.say("State", "状态"),
    ];
    let body = html! {
        h1 { (title) }
        form class="operate" method="get" action="/console/accounts" {
            input type="hidden" name="lang" value=(lang.code());
            label for="q" { (lang.say("Address of mail, or number of the account", "邮箱或账户编号")) }
            input id="q" name="q" type="search" value=(wanted) maxlength="254" autocomplete="off";
            button type="submit" { (lang.say("Find", "查询")) }
        }
        p { a href={ (TRAIL) "?lang=" (lang.code()) } { (lang.say("Who did what with accounts", "账户操作记录")) } }
        @if found.is_empty() { p { (lang.say("There is none.", "未找到账户。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for Seen { profile: of, locked_at } in &found { tr {
                    th scope="row" { a href={ "/console/accounts/" (of.account) "?lang=" (lang.code()) } { (of.account) } }
                    td { (of.email) } td { (of.name) } td { time datetime=(of.created_at) { (of.created_at) } }
                    td { @if locked_at.is_some() { (lang.say("locked", "已锁定")) } @else { (lang.say("open", "正常")) } }
                } } }
            } }
        }
        @if let Some(next) = next {
            p { a rel="next" href={ "/console/accounts?lang=" (lang.code()) "&before=" (next) } { (lang.say("Older ones", "更早的记录")) } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, "/console/accounts"), title, &body).into_response())
}

/// `GET /console/accounts/{account}`.
async fn account(
    State(Parts { service, .. }): State<Parts>,
    Path(account): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, sent, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let id = id_of(&account)?;
    let found = service.seen(id).await.map_err(of_store)?;
    let seen = found.ok_or_else(|| Problem::new(&NOT_FOUND, "account: there is none"))?;
    let sessions = service.sessions_of(id).await.map_err(of_store)?;
    let of = &seen.profile;
    let row = |label: &str, value: &Markup| html! { tr { th scope="row" { (label) } td { (value) } } };
    let time = |at: TimeMs| html! { time datetime=(at) { (at) } };
    let body = html! {
        h1 { (of.name) }
        @if sent.is_some() { p role="status" { (lang.say("The letter is on its way.", "邮件已提交发送。")) } }
        div class="scroll" tabindex="0" { table { tbody {
            (row(lang.say("Number", "编号"), &html! { code { (of.account) } }))
            (row(lang.say("Mail", "邮箱"), &html! { (of.email) }))
            (row(lang.say("Since", "注册时间"), &time(of.created_at)))
            (row(lang.say("State", "状态"), &html! {
                @match seen.locked_at {
                    Some(at) => { (lang.say("locked since ", "锁定于 ")) (time(at)) }
                    None => (lang.say("open", "正常")),
                }
            }))
        } } }
        p {
            a href={ "/console?lang=" (lang.code()) "&shopper=" (of.account) } { (lang.say("Orders of this shopper", "该客户的订单")) } " · "
            a href={ (TRAIL) "?lang=" (lang.code()) "&subject=" (of.account) } { (lang.say("What operators did with it", "操作记录")) }
        }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Support)) { (forms(lang, by, &seen)) }
        h2 { (lang.say("Sessions", "登录会话")) }
        @if sessions.is_empty() { p { (lang.say("There are none.", "暂无。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                thead { tr { th scope="col" { (lang.say("Began", "开始")) } th scope="col" { (lang.say("Ends", "到期")) } } }
                tbody { @for (began_at, ends_at) in &sessions { tr { td { (time(*began_at)) } td { (time(*ends_at)) } } } }
            } }
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, &format!("/console/accounts/{id}")), &of.name, &body))
}

/// What may be done with the account.
fn forms(lang: Lang, by: &SignedIn, seen: &Seen) -> Markup {
    let one = |action: &str, what: &str, summary: &str, hint: &str, button: &str| {
        html! {
            details { summary { (summary) }
                p { (hint) }
                form class="operate" method="post" action=(action) {
                    input type="hidden" name=(TOKEN_FIELD) value=(by.form_token());
                    input type="hidden" name="lang" value=(lang.code());
                    input type="hidden" name="account" value=(seen.profile.account);
                    input type="hidden" name="what" value=(what);
                    label for={ "reason-" (what) } { (lang.say("Reason", "原因")) }
                    input id={ "reason-" (what) } name="reason" type="text" required maxlength=(REASON_BYTES_MAX) autocomplete="off";
                    button type="submit" { (button) }
                }
            }
        }
    };
    let operate = "/console/accounts/operate";
    html! {
        (one("/console/accounts/send-reset", "send-reset", lang.say("Send a link for a new password", "发送重设密码链接"),
            lang.say("It goes to the account's address alone.", "仅发送至该账户的邮箱。"), lang.say("Send it", "发送")))
        @if by.may(Role::Operator) {
            (one(operate, "end-sessions", lang.say("End all sessions", "结束所有会话"),
                lang.say("The shopper may log in again.", "客户可重新登录。"), lang.say("End them", "结束")))
            @if seen.locked_at.is_none() {
                (one(operate, "lock", lang.say("Lock the account", "锁定账户"),
                    lang.say("Its sessions end, and no log-in succeeds. Orders stay as they are.", "会话立即结束，且无法登录；已有订单不受影响。"), lang.say("Lock it", "锁定")))
            } @else {
                (one(operate, "unlock", lang.say("Unlock the account", "解锁账户"),
                    lang.say("Its shopper may log in again.", "客户可重新登录。"), lang.say("Unlock it", "解锁")))
            }
        }
    }
}

/// `POST /console/accounts/operate`.
async fn operate(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let command = match form.field("what") {
        "lock" => Command::Lock,
        "unlock" => Command::Unlock,
        "end-sessions" => Command::EndSessions,
        _ => return Err(Problem::new(&INVALID, "what: want one of the page's forms")),
    };
    let id = id_of(form.field("account"))?;
    let by = form.operator.actor(form.field("reason"));
    service.operate(by, id, command).await.map_err(of_store)?;
    let lang = Lang::of(Some(form.field("lang")), &headers).code();
    Ok(Redirect::to(&format!("/console/accounts/{id}?lang={lang}")).into_response())
}

/// `POST /console/accounts/send-reset`.
async fn send_reset(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let (lang, id) = (Lang::of(Some(form.field("lang")), &headers), id_of(form.field("account"))?);
    let language = match lang {
        Lang::En => Language::En,
        Lang::Zh => Language::Zh,
    };
    let by = form.operator.actor(form.field("reason"));
    service.operate(by, id, Command::SendReset(language)).await.map_err(of_store)?;
    Ok(Redirect::to(&format!("/console/accounts/{id}?lang={}&sent=1", lang.code())).into_response())
}

/// `GET /console/trail/accounts`.
async fn trail(
    State(Parts { service, .. }): State<Parts>,
    Query(shown): Query<ShownSteps>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let (lang, subject) = (Lang::of(shown.lang.as_deref(), &headers), shown.subject());
    let found = trail_page(&service, subject.clone(), shown.before, PAGE_MAX).await?;
    let title = lang.say("What operators did with accounts", "账户操作记录");
    Ok(show(&CONSOLE_PLACES, (lang, TRAIL), title, subject.as_deref(), &found))
}
