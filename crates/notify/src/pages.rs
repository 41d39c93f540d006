//! The operators' pages: subscriptions with what they are owed, and the dead letters of one. They
//! work without JavaScript.

use crate::{
    core::{
        Command, Letter, Letters, Reply, SubscriptionSeen, TopicSeen, record::EventNo,
        spec::SubscriptionState,
    },
    parts::{PAGE_MAX, Parts, Running},
    problem::{NOT_FOUND, Problem, of_reply},
};
use axum::{
    extract::{Path, Query, State},
    response::Html,
};
use contracts::SubscriptionId;
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use units::TimeMs;
use web::{
    api_keys::Role,
    operation::{Access, Operation, get},
    page::{Frame, Lang},
    protection::Protection,
};

const READ: Access = Access::Role(Role::ReadOnly);
/// Dead letters on one page.
const LETTERS_MAX: usize = 100;

/// What the OpenAPI document does not describe.
pub(crate) fn pages() -> Vec<Operation<Parts>> {
    let mut operations = vec![
        get("/", "showSubscriptions", READ, subscriptions),
        get("/subscriptions/{subscription}", "showSubscription", READ, subscription),
    ];
    operations.extend(web::sign_in::operations());
    operations
}

#[derive(Debug, Deserialize)]
struct Shown {
    lang: Option<String>,
    #[serde(default)]
    after: u64,
    /// Subscriptions whose names come after this one.
    named: Option<SubscriptionId>,
}

fn places(lang: Lang) -> [(&'static str, &'static str); 2] {
    [("/", lang.say("Subscriptions", "订阅")), ("/problems", lang.say("Problem documents", "错误说明"))]
}

fn page(lang: Lang, title: &str, path: &str, body: &Markup) -> Html<String> {
    let frame = Frame {
        lang,
        title,
        path,
        query: "",
        skip: lang.say("Skip to the figures", "跳到数据"),
        footer: lang.say(
            "Figures as of the moment when this page was made. Load it again for newer ones.",
            "数据为本页生成时的数据，刷新可获取最新数据。",
        ),
        script: None,
        refresh_seconds: None,
        places: &places(lang),
        is_wide: true,
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
        lang.say("Dead letters", "死信"),
        lang.say("Blocked keys", "阻塞的键"),
        lang.say("Dropped", "已丢弃"),
    ];
    html! {
        div class="scroll" {
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
                            }
                            td { (of.backlog) }
                            td { @if let Some(oldest) = of.oldest { (age(lang, oldest, now)) } @else { "–" } }
                            td { (of.in_flight) } td { (of.delivered) } td { (of.failed) } td { (of.dead) }
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
        div class="scroll" {
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

/// `GET /subscriptions/{subscription}`: its dead letters.
async fn subscription(
    State(running): State<Arc<Running>>,
    Path(name): Path<String>,
    Query(Shown { lang, after, .. }): Query<Shown>,
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
        }
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
        div class="scroll" {
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
