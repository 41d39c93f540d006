//! The operators' page of the flash sale: the sales in figures.

use crate::{
    front::Fronts,
    page::{state_in, state_name},
    problem::{Problem, reply},
    strategy::Strategy,
};
use axum::{extract::State, response::Html};
use contracts::{PauseCause, SaleStats, SaleView};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use web::{
    page::{Frame, Lang},
    protection::Protection,
    query::Query,
};

/// The pages of the operators' listener.
pub(super) fn places(lang: Lang) -> [(&'static str, &'static str); 3] {
    [
        ("/", lang.say("Sales", "活动")),
        ("/drafts", lang.say("Drafts", "草稿")),
        ("/problems", lang.say("Problem documents", "错误说明")),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    lang: Option<String>,
}

/// `GET /`: every sale in figures.
pub(super) async fn sales(
    State(fronts): State<Arc<Fronts>>,
    State(strategy): State<Arc<Strategy>>,
    State(protection): State<Arc<Protection>>,
    Query(Shown { lang }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let mut sales = Vec::new();
    for (_, sale) in fronts.each() {
        sales.push((sale.view(), reply(sale.stats()).await?));
    }
    let title = lang.say("Sales", "活动");
    let body = html! {
        h1 { (title) }
        (stage(lang, &strategy, protection.pressure.is_above()))
        @if sales.is_empty() { p { (lang.say("There is no sale yet.", "暂无活动。")) } }
        @for (view, stats) in &sales { (sale(lang, view, stats)) }
    };
    let frame = Frame {
        skip: lang.say("Skip to the figures", "跳到数据"),
        footer: lang.say(
            "Figures as of the moment when this page was made. Load it again for newer ones.",
            "数据为本页生成时的数据，刷新可获取最新数据。",
        ),
        places: &places(lang),
        is_wide: true,
        ..Frame::plain(lang, title, "/")
    };
    Ok(Html(frame.render(&body).into_string()))
}

fn stage(lang: Lang, strategy: &Strategy, is_above: bool) -> Markup {
    let (stage, load) = (strategy.stage(), strategy.load());
    let name = lang.say(stage.label(), stage.label_zh());
    html! {
        p {
            (lang.say("Stage ", "阶段：")) strong { (name) } (lang.say(", load ", "，负载 ")) (load.most()) " %"
            @if is_above { (lang.say("; memory is above the mark", "；内存超过警戒线")) }
            (lang.say(".", "。"))
        }
    }
}

fn sale(lang: Lang, view: &SaleView, stats: &SaleStats) -> Markup {
    let name = match (lang, &view.spec.name_zh) {
        (Lang::Zh, Some(name)) => name,
        _ => &view.spec.name,
    };
    let heads = [
        lang.say("Item", "商品"),
        lang.say("Initial", "初始"),
        lang.say("Adjusted", "调整"),
        lang.say("Free", "可售"),
        lang.say("Held", "预留"),
        lang.say("Sold", "已售"),
        lang.say("Waiting", "候补"),
    ];
    html! {
        section class="card" {
            h2 { (name) " (" (view.sale) ")" }
            p {
                (lang.say("State ", "状态：")) strong { (state_in(lang, view.state)) }
                (lang.say(", log sequence ", "，日志序号 ")) (stats.as_of)
                (lang.say(", ", "，")) (stats.queue) (lang.say(" waiting for a decision, ", " 个请求等待决定，"))
                (stats.line) (lang.say(" in line after them.", " 个在其后排队。"))
            }
            @if let Some(pause) = &stats.pause {
                p data-pause=(pause.cause.as_str()) {
                    strong {
                        (match pause.cause {
                            PauseCause::Operator => lang.say("An operator has paused it.", "已由运营人员暂停。"),
                            PauseCause::Clock => lang.say(
                                "It has paused itself: its log is ahead of this machine's clock. Set the clock right and restart, or resume it if the log's time is right.",
                                "已自行暂停：日志的时间超前于本机时钟。请校准时钟并重启；若日志时间正确，请恢复活动。",
                            ),
                            PauseCause::Restored => lang.say(
                                "It was restored from a backup, and waits: resume it once the server that the backup is of is gone for good.",
                                "已从备份恢复，等待确认：确认原服务器已停用后，请恢复活动。",
                            ),
                        })
                    }
                }
            }
            div class="scroll" tabindex="0" {
                table data-state=(state_name(view.state)) {
                    caption { (lang.say("Units: initial + adjustments = free + held + sold", "件数：初始 + 调整 = 可售 + 预留 + 已售")) }
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody {
                        @for i in &stats.items {
                            tr {
                                th scope="row" { (i.item.as_str()) }
                                td { (i.initial) } td { (i.adjustments) } td { (i.free) }
                                td { (i.held) } td { (i.sold) } td { (i.waiting) }
                            }
                        }
                    }
                }
            }
            p { a href={ "/sales/" (view.sale) "/waitlist?lang=" (lang.code()) } {
                (lang.say("Who waits", "候补名单")) span class="visually-hidden" { ": " (name) }
            } }
            h3 { (lang.say("Attempts so far, by outcome", "迄今的请求，按结果")) }
            dl {
                @for (outcome, count) in &stats.outcomes { dt { (outcome) } dd { (count) } }
            }
        }
    }
}
