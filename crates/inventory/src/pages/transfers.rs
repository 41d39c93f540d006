//! The operators' pages of transfers: what is on its way, what leaves, what arrives.

use super::{Parts, answer_at, hidden, id_of, key_of, reason};
use crate::{
    core::TransferState,
    service::transfers::{Send, TransferListed, TransferView},
    warehouses::Warehouse,
};
use axum::{
    extract::{Path, Query, State},
    response::{Html, Response},
};
use contracts::store::{CONSOLE_PLACES, StockLine, StoreError, TransferId};
use http::HeaderMap;
use maud::{Markup, html};
use serde::Deserialize;
use web::{
    api_keys::{MaybeSignedIn, Role, SignedIn},
    form::SignedForm,
    page::{Lang, wide},
    problem::{INVALID, Problem, of_store},
    reason::Reasons,
};

pub(super) const PATH: &str = "/console/transfers";
const TRANSFERS_MAX: usize = 50;

/// A thousand lines.
type Form = SignedForm<{ 128 << 10 }>;

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    lang: Option<String>,
    after: Option<String>,
    closed: Option<String>,
}

fn state_words(lang: Lang, state: TransferState) -> &'static str {
    match state {
        TransferState::InTransit => lang.say("on its way", "在途"),
        TransferState::Closed => lang.say("closed", "已完成"),
    }
}

/// `GET /console/transfers`.
pub(super) async fn list(
    State(Parts { service, .. }): State<Parts>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, after, closed }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let (lang, is_closed) = (Lang::of(lang.as_deref(), &headers), closed.is_some());
    let state = if is_closed { TransferState::Closed } else { TransferState::InTransit };
    let all = service.transfers(state, after.unwrap_or_default(), TRANSFERS_MAX).await.map_err(of_store)?;
    let next = all.last().map(|of| of.transfer.clone()).filter(|_| all.len() == TRANSFERS_MAX);
    let warehouses = service.warehouses().await.map_err(of_store)?;
    let title = match is_closed {
        true => lang.say("Closed transfers", "已完成的调拨"),
        false => lang.say("Transfers on their way", "在途调拨"),
    };
    let of_state = if is_closed { "&closed=1" } else { "" };
    let body = html! {
        h1 { (title) }
        p {
            @if is_closed { a href={ (PATH) "?lang=" (lang.code()) } { (lang.say("Transfers on their way", "在途调拨")) } }
            @else { a href={ (PATH) "?closed=1&lang=" (lang.code()) } { (lang.say("Closed transfers", "已完成的调拨")) } }
        }
        @if all.is_empty() { p { (lang.say("There are none.", "暂无调拨。")) } }
        @else { (table(lang, &all)) }
        @if let Some(next) = next {
            p { a rel="next" href={ (PATH) "?lang=" (lang.code()) (of_state) "&after=" (next) } { (lang.say("Further ones", "更多")) } }
        }
        @if let Some(by) = signed_in.as_ref().filter(|by| by.may(Role::Operator) && warehouses.len() > 1) {
            (send_form(lang, by, &warehouses))
        }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, PATH), title, &body))
}

fn table(lang: Lang, all: &[TransferListed]) -> Markup {
    let heads = [
        lang.say("Transfer", "调拨单"),
        lang.say("From", "发出仓"),
        lang.say("To", "接收仓"),
        lang.say("Sent at", "发出时间"),
        lang.say("Expected at", "预计到达"),
        lang.say("Units on their way", "在途数量"),
    ];
    html! {
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for of in all { tr {
                th scope="row" { a href={ (PATH) "/" (of.transfer) "?lang=" (lang.code()) } { (of.transfer) } }
                td { (of.from) } td { (of.to) } td { time datetime=(of.sent_at) { (of.sent_at) } }
                td { @if let Some(at) = of.expected_at { time datetime=(at) { (at) } } }
                td { (of.in_transit) }
            } } }
        } }
    }
}

fn send_form(lang: Lang, by: &SignedIn, all: &[Warehouse]) -> Markup {
    let place = |name: &str, label: &str| {
        html! {
            label for=(name) { (label) }
            select id=(name) name=(name) required {
                option value="" { (lang.say("Choose one", "请选择")) }
                @for of in all { option value=(of.warehouse) { (of.name) } }
            }
        }
    };
    html! {
        details { summary { (lang.say("Send units to another warehouse", "新建调拨")) }
            form class="operate" method="post" action=(PATH) {
                (hidden(lang, by))
                label for="transfer" { (lang.say("Transfer name (lowercase letters, digits and -)", "调拨单号（小写字母、数字和 -）")) }
                input id="transfer" name="transfer" type="text" required maxlength="40" pattern="[a-z0-9\\-]+" autocomplete="off";
                (place("from", lang.say("From", "发出仓")))
                (place("to", lang.say("To", "接收仓")))
                label for="lines" { (lang.say("SKUs and units, such as PHONE-1 20, one in each line", "SKU 与数量，每行一个，例如 PHONE-1 20")) }
                textarea id="lines" name="lines" rows="5" required {}
                (reason(lang, "reason-send"))
                button type="submit" { (lang.say("Send them", "确认发出")) }
            }
        }
    }
}

/// `GET /console/transfers/{transfer}`.
pub(super) async fn one(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    MaybeSignedIn(signed_in): MaybeSignedIn,
    Query(Shown { lang, .. }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let of = service.transfer(id_of(&transfer)?).await.map_err(of_store)?;
    let may_act =
        signed_in.as_ref().filter(|by| by.may(Role::Operator) && of.state == TransferState::InTransit);
    let heads = [
        "SKU",
        lang.say("Sent", "发出"),
        lang.say("Arrived", "已到"),
        lang.say("Lost", "丢失"),
        lang.say("On its way", "在途"),
    ];
    let body = html! {
        h1 { (of.transfer) }
        p { (of.from) " → " (of.to) (lang.say(": ", "：")) (state_words(lang, of.state)) }
        p {
            (lang.say("Sent at ", "发出时间：")) time datetime=(of.sent_at) { (of.sent_at) }
            @if let Some(at) = of.expected_at { (lang.say(", expected at ", "，预计到达：")) time datetime=(at) { (at) } }
        }
        div class="scroll" tabindex="0" { table {
            thead { tr { @for head in heads { th scope="col" { (head) } } } }
            tbody { @for line in &of.lines { tr {
                th scope="row" { a href={ "/console/stock/" (line.sku) "/" (of.to) "?lang=" (lang.code()) } { (line.sku) } }
                td { (line.sent) } td { (line.arrived) } td { (line.lost) } td { (line.in_transit) }
            } } }
        } }
        @if let Some(by) = may_act { (forms(lang, by, &of)) }
        p { a href={ (PATH) "?lang=" (lang.code()) } { (lang.say("All transfers", "全部调拨")) } }
    };
    Ok(wide(&CONSOLE_PLACES, (lang, PATH), of.transfer.as_str(), &body))
}

fn forms(lang: Lang, by: &SignedIn, of: &TransferView) -> Markup {
    let coming = of.lines.iter().filter(|line| line.in_transit > 0);
    html! {
        details open { summary { (lang.say("Units have arrived", "到货登记")) }
            form class="operate" method="post" action={ (PATH) "/" (of.transfer) "/arrive" } {
                (hidden(lang, by))
                @for line in coming {
                    label for={ "units." (line.sku) } { (line.sku) }
                    input id={ "units." (line.sku) } name={ "units." (line.sku) } type="number" min="0" max=(line.in_transit) value=(line.in_transit) required autocomplete="off";
                }
                (reason(lang, "reason-arrive"))
                button type="submit" { (lang.say("Receive them", "确认入库")) }
            }
        }
        details { summary { (lang.say("Close with units missing", "剩余未到（报损）")) }
            form class="operate" method="post" action={ (PATH) "/" (of.transfer) "/close" } {
                (hidden(lang, by))
                p { (lang.say("What has not arrived is written off as lost.", "未到货的部分将记为丢失。")) }
                (reason(lang, "reason-close"))
                button type="submit" { (lang.say("Write it off", "确认报损")) }
            }
        }
    }
}

/// One in each line.
fn lines_of(text: &str) -> Result<Vec<StockLine>, StoreError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(at, line)| {
        let wrong = |why: String| StoreError::Invalid(format!("line {}: {why}", at + 1));
        let mut words = line.split_whitespace();
        let (Some(sku), Some(units), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("want a SKU and a number of units".into()));
        };
        let sku = sku.parse().map_err(|error| wrong(format!("sku: {error}")))?;
        let quantity = units.parse().map_err(|_| wrong(format!("units: {units:?}, want a number from 1")))?;
        Ok(StockLine { sku, quantity })
    });
    read.collect()
}

/// `POST /console/transfers`.
pub(super) async fn send(
    State(Parts { service, .. }): State<Parts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let invalid = |field: &str, why: String| StoreError::Invalid(format!("{field}: {why}"));
    let read = || {
        Ok(Send {
            transfer: form.field("transfer").parse().map_err(|why| invalid("transfer", format!("{why}")))?,
            from: form.field("from").parse().map_err(|why| invalid("from", format!("{why}")))?,
            to: form.field("to").parse().map_err(|why| invalid("to", format!("{why}")))?,
            lines: lines_of(form.field("lines"))?,
            expected_at: None,
        })
    };
    let (page, done) = match read() {
        Ok(of) => {
            let page = format!("{PATH}/{}?lang={}", of.transfer, lang.code());
            (page, service.send_transfer(form.operator.actor(form.field("reason")), of).await.map(drop))
        }
        Err(error) => (String::new(), Err(error)),
    };
    let back = format!("{PATH}?lang={}", lang.code());
    answer_at((lang, PATH), if done.is_ok() { &page } else { &back }, done)
}

/// `POST /console/transfers/{transfer}/arrive`.
pub(super) async fn arrive(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let transfer: TransferId = id_of(&transfer)?;
    let of = service.transfer(transfer.clone()).await.map_err(of_store)?;
    let mut lines = Vec::new();
    for line in of.lines {
        let units = match form.field(&format!("units.{}", line.sku)) {
            "" => 0,
            units => units
                .parse::<u32>()
                .map_err(|_| Problem::new(&INVALID, format!("units.{}: want a number from 0", line.sku)))?,
        };
        if units > 0 {
            lines.push(StockLine { sku: line.sku, quantity: units });
        }
    }
    let by = form.operator.actor(form.field("reason"));
    let key = key_of(form.field("key"));
    let page = format!("{PATH}/{transfer}?lang={}", lang.code());
    let done = service.arrive(by, key, transfer, lines).await.map(drop);
    answer_at((lang, PATH), &page, done)
}

/// `POST /console/transfers/{transfer}/close`.
pub(super) async fn close(
    State(Parts { service, .. }): State<Parts>,
    Path(transfer): Path<String>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    Reasons::Needed.check(form.field("reason"))?;
    let lang = Lang::of(Some(form.field("lang")), &headers);
    let transfer: TransferId = id_of(&transfer)?;
    let page = format!("{PATH}/{transfer}?lang={}", lang.code());
    let done = service.close_transfer(form.operator.actor(form.field("reason")), transfer).await;
    answer_at((lang, PATH), &page, done.map(drop))
}
