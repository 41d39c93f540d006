//! The operators' pages: subscriptions with what they are owed, and of one its dead letters and
//! blocked keys, with forms for them. They work without JavaScript.

use crate::{
    core::{
        Command, Fill, Letter, Letters, Reply, SCHEDULES_MAX, ScheduleSeen, SubscriptionSeen, TopicSeen,
        record::EventNo, spec::SubscriptionState,
    },
    parts::{PAGE_MAX, Parts, Running},
    problem::{INVALID, NOT_FOUND, Problem, of_reply},
    test_delivery::{Failed, Tested},
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{REASON_BYTES_MAX, SubscriptionId};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::{SignedForm, TOKEN_FIELD},
    operation::{Access, Operation, get, post},
    page::{Frame, Lang},
    protection::Protection,
    reason::Reasons,
};

const READ: Access = Access::Role(Role::ReadOnly);
const OPERATE: Access = Access::Role(Role::Operator);
const OWN: Access = Access::Role(Role::Owner);
const FORM_BYTES_MAX: usize = 4096;
/// Dead letters on one page.
const LETTERS_MAX: usize = 100;

/// What the OpenAPI document does not describe.
pub(crate) fn pages() -> Vec<Operation<Parts>> {
    let mut operations = vec![
        get("/", "showSubscriptions", READ, subscriptions),
        get("/subscriptions/{subscription}", "showSubscription", READ, subscription),
        post("/subscriptions/operate", "operateForm", OPERATE, operate).form(),
        post("/subscriptions/discard", "discardForm", OWN, discard).form(),
    ];
    operations.extend(web::sign_in::operations("/"));
    operations
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    #[serde(default)]
    after: u64,
    /// Subscriptions whose names come after this one.
    named: Option<SubscriptionId>,
    /// What the form before this page did.
    done: Option<String>,
}

type Form = SignedForm<FORM_BYTES_MAX>;

fn places(lang: Lang) -> [(&'static str, &'static str); 2] {
    [("/", lang.say("Subscriptions", "订阅")), ("/problems", lang.say("Problem documents", "错误说明"))]
}

fn page(lang: Lang, title: &str, path: &str, body: &Markup) -> Html<String> {
    let frame = Frame {
        skip: lang.say("Skip to the figures", "跳到数据"),
        footer: lang.say(
            "Figures as of the moment when this page was made. Load it again for newer ones.",
            "数据为本页生成时的数据，刷新可获取最新数据。",
        ),
        places: &places(lang),
        is_wide: true,
        ..Frame::plain(lang, title, path)
    };
    Html(frame.render(body).into_string())
}

/// `GET /`.
async fn subscriptions(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    Query(Shown { lang, named, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let seen = running.subscriptions(named, PAGE_MAX).await?;
    let next = seen.last().map(|last| last.name.clone()).filter(|_| seen.len() == PAGE_MAX);
    let topics = match running.ask(Command::Topics).await? {
        Reply::Topics(topics) => topics,
        other => return Err(of_reply(&other)),
    };
    let schedules = running.schedules(None, SCHEDULES_MAX).await?;
    let title = lang.say("Subscriptions", "订阅");
    let body = html! {
        h1 { (title) }
        @if seen.is_empty() { p { (lang.say("There is no subscription yet.", "暂无订阅。")) } }
        @else { (table_of_subscriptions(lang, &seen, protection.now())) }
        @if let Some(next) = next {
            p { a href={ "/?lang=" (lang.code()) "&named=" (next) } { (lang.say("Further subscriptions", "更多订阅")) } }
        }
        h2 { (lang.say("Topics", "主题")) }
        @if topics.is_empty() { p { (lang.say("There is no topic yet.", "暂无主题。")) } }
        @else { (table_of_topics(lang, &topics)) }
        @if !schedules.is_empty() {
            h2 { (lang.say("Schedules", "定时发布")) }
            (table_of_schedules(lang, &schedules))
        }
    };
    Ok(page(lang, title, "/", &body))
}

fn state_in(lang: Lang, state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Active => lang.say("active", "启用"),
        SubscriptionState::Paused => lang.say("paused", "已暂停"),
        SubscriptionState::Disabled => lang.say("disabled by its endpoint", "已被接收方停用"),
    }
}

/// How long ago, in the largest unit that says it well.
fn age(lang: Lang, then: TimeMs, now: TimeMs) -> String {
    let seconds = now.since(then).0 / 1000;
    match seconds {
        0..120 => format!("{seconds} {}", lang.say("s", "秒")),
        120..7200 => format!("{} {}", seconds / 60, lang.say("min", "分钟")),
        7200..172_800 => format!("{} {}", seconds / 3600, lang.say("h", "小时")),
        _ => format!("{} {}", seconds / 86_400, lang.say("days", "天")),
    }
}

fn table_of_subscriptions(lang: Lang, seen: &[SubscriptionSeen], now: TimeMs) -> Markup {
    let heads = [
        lang.say("Subscription", "订阅"),
        lang.say("Topic", "主题"),
        lang.say("State", "状态"),
        lang.say("Owed", "待投递"),
        lang.say("Oldest", "最早"),
        lang.say("On the way", "投递中"),
        lang.say("Delivered", "已投递"),
        lang.say("Failed attempts", "失败次数"),
        lang.say("Attempt, ms", "每次耗时（毫秒）"),
        lang.say("Dead letters", "死信"),
        lang.say("Blocked keys", "阻塞的键"),
        lang.say("Dropped", "已丢弃"),
    ];
    html! {
        div class="scroll" tabindex="0" {
            table {
                caption { (lang.say(
                    "Owed: events that a subscription has not had, without its dead letters; at the most, because its filters are asked when an event's turn comes",
                    "待投递：尚未投递的事件（不含死信）；为上限值，因为轮到该事件时才应用过滤条件",
                )) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for of in seen {
                        tr data-subscription=(of.name) {
                            th scope="row" { a href={ "/subscriptions/" (of.name) "?lang=" (lang.code()) } { (of.name) } }
                            td { (of.spec.topic) }
                            td {
                                (state_in(lang, of.state))
                                @if of.left_alone_until.is_some_and(|until| until > now) {
                                    (lang.say("; its endpoint fails", "；接收方故障"))
                                }
                                @if of.is_lagging(now) {
                                    strong { (lang.say("; it lags", "；投递滞后")) }
                                }
                            }
                            td { (of.backlog) }
                            td { @if let Some(oldest) = of.oldest { (age(lang, oldest, now)) } @else { "–" } }
                            td { (of.in_flight) } td { (of.delivered) } td { (of.failed) }
                            td { @if let Some(took) = of.took_ms { (took) } @else { "–" } }
                            td { (of.dead) }
                            td { (of.blocked) } td { (of.dropped) }
                        }
                    }
                }
            }
        }
    }
}

fn table_of_topics(lang: Lang, topics: &[TopicSeen]) -> Markup {
    let heads = [
        lang.say("Topic", "主题"),
        lang.say("Events so far", "事件总数"),
        lang.say("Kept", "保留中"),
        lang.say("Kept for, days", "保留天数"),
    ];
    html! {
        div class="scroll" tabindex="0" {
            table {
                caption { (lang.say("Topics and their events", "主题及其事件")) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for topic in topics {
                        tr {
                            th scope="row" { (topic.name) }
                            td { (topic.last.0) } td { (topic.kept) }
                            td { (format!("{:.1}", topic.spec.retain_seconds as f64 / 86_400.0)) }
                        }
                    }
                }
            }
        }
    }
}

fn table_of_schedules(lang: Lang, seen: &[ScheduleSeen]) -> Markup {
    let heads = [
        lang.say("Schedule", "定时"),
        lang.say("Topic", "主题"),
        lang.say("Times", "时间表达式"),
        lang.say("Time zone", "时区"),
        lang.say("Next", "下次"),
        lang.say("Last", "上次"),
        lang.say("Events so far", "事件总数"),
    ];
    let at = |at: Option<TimeMs>| {
        html! { @if let Some(at) = at { time datetime=(at) { (at) } } @else { "–" } }
    };
    html! {
        div class="scroll" tabindex="0" {
            table {
                caption { (lang.say(
                    "Events that are posted at times of the clock; what was missed is made up for once",
                    "按时间自动发布的事件；错过的时间只补发一次",
                )) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for of in seen {
                        tr data-schedule=(of.name) {
                            th scope="row" { (of.name) }
                            td { (of.spec.topic) } td { code { (of.spec.cron) } } td { (of.spec.time_zone) }
                            td { @if of.spec.is_paused { (lang.say("paused", "已暂停")) } @else { (at(of.next)) } }
                            td { (at(of.last)) } td { (of.posted) }
                        }
                    }
                }
            }
        }
    }
}

/// `GET /subscriptions/{subscription}`: its dead letters.
async fn subscription(
    State(running): State<Arc<Running>>,
    Path(name): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, after, done, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let id: SubscriptionId =
        name.parse().map_err(|_| Problem::new(&NOT_FOUND, format!("no subscription {name:?}")))?;
    let seen = running.subscription(&id).await?;
    let dead = letters(&running, &id, Letters::Dead, after).await?;
    let blocked = letters(&running, &id, Letters::Blocked, after).await?;
    let last_of =
        |letters: &[Letter]| letters.last().filter(|_| letters.len() == LETTERS_MAX).map(|last| last.event.0);
    let next = last_of(&dead).into_iter().chain(last_of(&blocked)).min();
    let body = html! {
        h1 { (lang.say("Subscription ", "订阅 ")) (id) }
        p {
            (lang.say("Topic ", "主题 ")) strong { (seen.spec.topic) }
            @if let Some(url) = &seen.spec.url {
                (lang.say(", delivered to ", "，投递至 ")) code { (url) }
            } @else {
                (lang.say(", pulled by its consumers", "，由消费者拉取"))
            }
            (lang.say("; ", "；")) (state_in(lang, seen.state)) (lang.say(".", "。"))
            @if let Some(Fill { next, end }) = seen.fill {
                (lang.say(" Its filters are being asked for earlier events: ", " 正在对较早的事件应用过滤条件："))
                (next.0) "–" (end.0 - 1) (lang.say(" are left.", " 尚未处理。"))
            }
        }
        @if let Some(done) = done.and_then(|done| said(lang, &done)) { p role="status" { (done) } }
        @if let Some(tested) = running.tester.last(&id) { (told_of_test(lang, &tested)) }
        @if let Some(signed_in) = &signed_in { (forms(lang, signed_in, &seen)) }
        h2 { (lang.say("Dead letters", "死信")) }
        @if dead.is_empty() { p { (lang.say("None.", "无。")) } }
        @else { (table_of_letters(lang, &dead)) }
        h2 { (lang.say("Blocked keys", "阻塞的键")) }
        @if blocked.is_empty() { p { (lang.say("None.", "无。")) } }
        @else {
            p { (lang.say(
                "Later events of each key wait until an operator redrives or discards its event.",
                "每个键的后续事件将等待，直到运营人员重投或丢弃该事件。",
            )) }
            (table_of_letters(lang, &blocked))
        }
        @if let Some(next) = next {
            p { a href={ "/subscriptions/" (id) "?lang=" (lang.code()) "&after=" (next) } { (lang.say("Later ones", "更多")) } }
        }
    };
    let path = format!("/subscriptions/{id}");
    Ok(page(lang, id.as_str(), &path, &body))
}

/// What a form did.
fn said(lang: Lang, done: &str) -> Option<&'static str> {
    Some(match done {
        "pause" => {
            lang.say("It is paused: nothing is delivered until it is resumed.", "已暂停：恢复前不再投递。")
        }
        "resume" => lang.say("It is delivered to again.", "已恢复投递。"),
        "test" => {
            lang.say("The test event was sent; below is what came of it.", "测试事件已发送，结果见下。")
        }
        "redrive" => lang.say("They are tried again.", "正在重新投递。"),
        "discard" => lang.say("It is given up, and never delivered.", "已放弃，不再投递。"),
        _ => return None,
    })
}

/// What the operator may do with a subscription.
fn forms(lang: Lang, signed_in: &SignedIn, seen: &SubscriptionSeen) -> Markup {
    let common = |what: &str| {
        html! {
            input type="hidden" name=(TOKEN_FIELD) value=(signed_in.form_token());
            input type="hidden" name="lang" value=(lang.code());
            input type="hidden" name="subscription" value=(seen.name);
            input type="hidden" name="what" value=(what);
        }
    };
    let reason = |what: &str, is_needed: bool| {
        let id = format!("reason-{what}");
        html! {
            label for=(id) { (lang.say("Reason", "原因")) }
            input id=(id) type="text" name="reason" required[is_needed] maxlength=(REASON_BYTES_MAX) autocomplete="off";
        }
    };
    let number = |what: &str| {
        let id = format!("number-{what}");
        html! {
            label for=(id) { (lang.say("Event", "事件")) }
            input id=(id) type="text" inputmode="numeric" name="number" required pattern="[0-9]+" autocomplete="off";
        }
    };
    let (turn, label) = match seen.state {
        SubscriptionState::Active => ("pause", lang.say("Pause", "暂停")),
        SubscriptionState::Paused | SubscriptionState::Disabled => ("resume", lang.say("Resume", "恢复")),
    };
    html! {
        @if signed_in.may(Role::Operator) {
            form class="operate" method="post" action="/subscriptions/operate" {
                (common(turn)) (reason(turn, false)) button type="submit" { (label) }
            }
            @if seen.spec.url.is_some() {
                form class="operate" method="post" action="/subscriptions/operate" {
                    (common("test"))
                    button type="submit" { (lang.say("Send a test event", "发送测试事件")) }
                }
            }
            @if seen.dead + seen.blocked > 0 {
                form class="operate" method="post" action="/subscriptions/operate" {
                    (common("redrive")) (reason("redrive", false))
                    button type="submit" {
                        (lang.say("Try dead letters and blocked keys again", "重投死信与阻塞的键"))
                    }
                }
            }
        }
        @if signed_in.may(Role::Owner) && seen.dead + seen.blocked > 0 {
            form class="operate" method="post" action="/subscriptions/discard" {
                (common("discard")) (number("discard")) (reason("discard", true))
                button type="submit" { (lang.say("Give this event up", "放弃该事件")) }
            }
        }
    }
}

/// What came of the last test delivery.
fn told_of_test(lang: Lang, tested: &Tested) -> Markup {
    let Tested { at, delivered, status, took_ms, address, failed, said, .. } = tested;
    let outcome = match (delivered, failed) {
        (true, _) => lang.say("the endpoint took it", "接收方已接收"),
        (false, None) => lang.say("the endpoint refused it", "接收方拒绝"),
        (false, Some(Failed::Resolve)) => lang.say("the name has no address", "域名无法解析"),
        (false, Some(Failed::AddressRefused)) => lang.say(
            "the address is not public, and in no allowed network",
            "该地址不是公网地址，且不在允许的网络中",
        ),
        (false, Some(Failed::Connect)) => lang.say("no connection", "无法连接"),
        (false, Some(Failed::Tls)) => lang.say("no TLS", "TLS 握手失败"),
        (false, Some(Failed::TimedOut)) => lang.say("no answer in time", "超时未响应"),
        (false, Some(Failed::Protocol)) => lang.say("no valid answer", "响应无效"),
        (false, Some(Failed::Shortage)) => lang.say(
            "not sent: this server is short of file handles, ports or memory",
            "未发送：本服务器缺少文件句柄、端口或内存",
        ),
    };
    html! {
        p id="tested" {
            (lang.say("Last test event, ", "上次测试事件，")) time datetime=(at) { (at) } (lang.say(": ", "："))
            strong { (outcome) }
            @if let Some(status) = status { (lang.say(", status ", "，状态码 ")) (status) }
            (lang.say(", after ", "，用时 ")) (took_ms) (lang.say(" ms", " 毫秒"))
            @if let Some(address) = address { (lang.say(", at ", "，地址 ")) code { (address) } }
            (lang.say(".", "。"))
            @if !said.is_empty() { " " code { (said) } }
        }
    }
}

/// `POST /subscriptions/operate`.
async fn operate(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Optional.check(form.field("reason"))?;
    let (name, by) = (named(&form)?, form.operator.actor(form.field("reason")));
    let command = match form.field("what") {
        "pause" => Command::SetState { name: name.clone(), state: SubscriptionState::Paused, by },
        "resume" => Command::SetState { name: name.clone(), state: SubscriptionState::Active, by },
        "redrive" => Command::Redrive { name: name.clone(), event: None, by },
        "test" => {
            let seen = running.subscription(&name).await?;
            running.tester.deliver(&seen, &running.secrets, protection.now()).await?;
            return answer(&form, &headers, &name, Reply::Done);
        }
        what => {
            let why = format!("what: {what:?}, want pause, resume, redrive or test");
            return Err(Problem::new(&INVALID, why));
        }
    };
    answer(&form, &headers, &name, running.ask(command).await?)
}

/// `POST /subscriptions/discard`.
async fn discard(
    State(running): State<Arc<Running>>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let (name, by) = (named(&form)?, form.operator.actor(form.field("reason")));
    let number = form.field("number").parse();
    let number = number.map_err(|_| Problem::new(&INVALID, "number: want that of an event"))?;
    let command = Command::Discard { name: name.clone(), event: Some(EventNo(number)), by };
    answer(&form, &headers, &name, running.ask(command).await?)
}

fn named(form: &Form) -> Result<SubscriptionId, Problem> {
    let name = form.field("subscription");
    name.parse().map_err(|_| Problem::new(&NOT_FOUND, format!("no subscription {name:?}")))
}

/// A redirect, so that loading the page again does nothing twice.
fn answer(
    form: &Form,
    headers: &HeaderMap,
    name: &SubscriptionId,
    reply: Reply,
) -> Result<Response, Problem> {
    match reply {
        Reply::Done | Reply::Changed { .. } => {
            let lang = Lang::of(Some(form.field("lang")), headers);
            let what = form.field("what");
            let what =
                ["pause", "resume", "redrive", "discard", "test"].into_iter().find(|known| *known == what);
            let to = format!("/subscriptions/{name}?lang={}&done={}", lang.code(), what.unwrap_or_default());
            Ok(Redirect::to(&to).into_response())
        }
        other => Err(of_reply(&other)),
    }
}

async fn letters(
    running: &Running,
    name: &SubscriptionId,
    which: Letters,
    after: u64,
) -> Result<Vec<Letter>, Problem> {
    let (name, after) = (name.clone(), EventNo(after));
    match running.ask(Command::Letters { name, which, after, at_most: LETTERS_MAX }).await? {
        Reply::Letters(letters) => Ok(letters),
        other => Err(of_reply(&other)),
    }
}

fn table_of_letters(lang: Lang, letters: &[Letter]) -> Markup {
    let heads = [
        lang.say("Event", "事件"),
        lang.say("Given up at", "放弃时间"),
        lang.say("Attempts", "尝试次数"),
        lang.say("Status", "状态码"),
        lang.say("Last answer", "最后响应"),
    ];
    html! {
        div class="scroll" tabindex="0" {
            table {
                caption { (lang.say("Events whose attempts are used up, the oldest first", "尝试次数已用尽的事件（从旧到新）")) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for Letter { event, letter, .. } in letters {
                        tr {
                            th scope="row" { (event.0) }
                            td { time datetime=(letter.died_at) { (letter.died_at) } }
                            td { (letter.attempts) }
                            td { @if letter.status > 0 { (letter.status) } @else { "–" } }
                            td { (letter.said) }
                        }
                    }
                }
            }
        }
    }
}
