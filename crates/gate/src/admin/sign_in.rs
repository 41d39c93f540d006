//! One page for whoever started a demo: the sales in figures, behind a one-time key. The operators'
//! console is another thing.

use crate::{
    problem::{self, Problem},
    state::{Gate, reply},
};
use axum::{
    extract::{RawQuery, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::{SaleStats, SaleView};
use http::{HeaderMap, header};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

const COOKIE: &str = "floodgate_session";

/// Whether the browser has signed in.
pub(super) fn has_session(gate: &Gate, headers: &HeaderMap) -> bool {
    web::body::cookie(headers, COOKIE).is_some_and(|session| gate.api_keys.is_session(session))
}

/// `GET /sign-in?key=…`.
pub(super) async fn sign_in(
    State(gate): State<Arc<Gate>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let key = query.as_deref().and_then(|q| q.strip_prefix("key=")).unwrap_or_default();
    let session = gate.api_keys.sign_in(key).ok_or_else(|| {
        Problem::new(
            &problem::KEY_REFUSED,
            "sign-in key: unknown, or used already; a restart of the server prints a new one",
        )
    })?;
    let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict");
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

/// `GET /`: every sale in figures.
pub(super) async fn stats_page(
    State(gate): State<Arc<Gate>>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    if !has_session(&gate, &headers) {
        let why = "not signed in: open the sign-in URL that the server printed at its start";
        return Err(Problem::new(&problem::KEY_MISSING, why));
    }
    let mut sales = Vec::new();
    for id in gate.sales.list() {
        let Some(sale) = gate.sales.get(id.as_str()) else { continue };
        sales.push((sale.view(), reply(sale.stats()).await?));
    }
    Ok(Html(render(&gate, &sales).into_string()))
}

fn render(gate: &Gate, sales: &[(Arc<SaleView>, SaleStats)]) -> Markup {
    let (stage, load) = (gate.strategy.stage(), gate.strategy.load());
    let above = gate.protection.pressure.is_above();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Sales · Floodgate" }
                link rel="stylesheet" href=(web::page::STYLE.path());
            }
            body {
                main class="wide" {
                    h1 { "Sales" }
                    p { "Stage " strong { (stage.label()) } ", load " (load.most()) " %" @if above { "; memory is above the mark" } "." }
                    p lang="zh" { "阶段：" strong { (stage.label_zh()) } "，负载 " (load.most()) "%" @if above { "；内存超过警戒线" } "。" }
                    @for (view, stats) in sales {
                        section class="card" {
                            h2 { (view.spec.name) " (" (view.sale) ")" }
                            p { "State " strong { (format!("{:?}", view.state).to_lowercase()) } ", log sequence " (stats.as_of) ", " (stats.queue) " waiting for a decision, " (stats.line) " in line behind them." }
                            div class="scroll" {
                                table {
                                    caption { "Units: initial + adjustments = free + held + sold" }
                                    thead { tr { @for h in ["Item", "Initial", "Adjusted", "Free", "Held", "Sold", "Waiting"] { th scope="col" { (h) } } } }
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
                            dl {
                                @for (outcome, count) in &stats.outcomes { dt { (outcome) } dd { (count) } }
                            }
                        }
                    }
                    p { a href="/" { "Refresh" } }
                }
            }
        }
    }
}
