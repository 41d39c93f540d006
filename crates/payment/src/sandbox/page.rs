//! The sandbox's page: where a real provider asks for a card, the payer chooses what happens.
//! A visitor who knows a charge's reference may choose, as with a real provider's page.

use super::{Charge, Choice, Sandbox};
use axum::{
    extract::{Path, RawQuery, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use contracts::store::StoreError;
use http::HeaderMap;
use maud::html;
use web::{
    form::PlainForm,
    operation::{Access, Operation, get, post},
    page::{Frame, Lang},
    problem::{INVALID, NOT_FOUND, Problem},
    words::money,
};

const FORM_BYTES_MAX: usize = 1024;

/// What the handlers use.
pub type Parts = web::parts::Parts<Sandbox>;

/// The page and its form.
pub fn operations() -> Vec<Operation<Parts>> {
    vec![
        get("/sandbox/{reference}", "showSandbox", Access::Open, show),
        post("/sandbox/{reference}", "payInSandbox", Access::Open, choose),
    ]
}

async fn show(
    State(parts): State<Parts>,
    Path(reference): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let lang = Lang::chosen(query.as_deref(), &headers);
    let charge = parts.service.charge(reference).await.map_err(of_store)?.ok_or_else(unknown)?;
    Ok(page(lang, &charge).into_response())
}

async fn choose(
    State(parts): State<Parts>,
    Path(reference): Path<String>,
    form: PlainForm<FORM_BYTES_MAX>,
) -> Result<Response, Problem> {
    let wanted = form.field("choice");
    let choice = Choice::ALL.into_iter().find(|choice| choice.as_str() == wanted);
    let choice = choice.ok_or_else(|| Problem::new(&INVALID, "choice: want one of the page's buttons"))?;
    let charge = parts.service.choose(reference, choice).await.map_err(of_store)?.ok_or_else(unknown)?;
    Ok(Redirect::to(&charge.return_path).into_response())
}

fn unknown() -> Problem {
    Problem::new(&NOT_FOUND, "the sandbox has no such payment: begin it again in the shop")
}

fn of_store(error: StoreError) -> Problem {
    Problem::unavailable(&error.to_string())
}

fn page(lang: Lang, charge: &Charge) -> Html<String> {
    let title = lang.say("Sandbox payment", "沙盒支付");
    let says = |choice: Choice| match choice {
        Choice::Pay => lang.say("Pay", "付款"),
        Choice::Fail => lang.say("Let the card be refused", "模拟拒付"),
        Choice::PayLate => lang.say("Pay a minute later", "一分钟后付款"),
        Choice::PayTwice => lang.say("Pay twice by mistake", "误付两次"),
        Choice::TellTwice => lang.say("Pay, and tell the shop twice", "付款，重复通知商店"),
        Choice::TellNever => lang.say("Pay, and do not tell the shop", "付款，但不通知商店"),
    };
    let path = format!("/sandbox/{}", charge.reference);
    let body = html! {
        section class="card" aria-labelledby="sandbox-title" {
            h1 id="sandbox-title" { (title) }
            p { (lang.say(
                "This page stands in for a payment provider. No money moves: choose what is to happen.",
                "本页面模拟支付服务商，不会产生真实扣款。请选择要模拟的结果。",
            )) }
            p class="price" { strong { (money(charge.amount, lang)) } }
            @if charge.is_open {
                form method="post" action=(path) {
                    @for choice in Choice::ALL {
                        p { button class=[(choice != Choice::Pay).then_some("quiet")] type="submit" name="choice" value=(choice.as_str()) { (says(choice)) } }
                    }
                }
            } @else {
                p role="status" { (lang.say("This payment is over.", "这笔支付已经结束。")) }
            }
            p { a href=(charge.return_path) { (lang.say("Back to the shop", "返回商店")) } }
        }
    };
    Html(Frame::plain(lang, title, &path).render(&body).into_string())
}
