//! Who waits, by page, over the API and as a page for people.

use super::pages::places;
use crate::{
    api::AtSale,
    front::Front,
    keys::Keyring,
    problem::{self, Problem, reply},
};
use axum::{extract::State, response::Html};
use contracts::{AttemptId, ItemId, SaleSpec, WaitingPlace, WaitingQuery};
use http::HeaderMap;
use maud::html;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use units::{Sequence, TimeMs};
use web::{
    body::clip,
    json::JsonReply,
    page::{Frame, Lang},
    query::Query,
};

const PAGE_PLACES: usize = 100;
const PAGE_PLACES_MAX: usize = 1000;

/// Which places.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitlistQuery {
    /// Places that were given after this entry of the log: `next` of the page before, or 0.
    #[serde(default)]
    after: u64,
    /// The most places of the page. There may be fewer, also before the last page.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    max: Option<usize>,
    /// Only those who wait for this item.
    #[serde(default)]
    #[schemars(with = "Option<ItemId>")]
    item: Option<String>,
}

/// A page of those who wait.
#[derive(Serialize, JsonSchema)]
pub(super) struct WaitlistPage {
    /// In the order in which the places were given.
    places: Vec<WaitingLine>,
    /// The next page has `after` from here; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sequence>,
}

/// A place on a waitlist.
#[derive(Serialize, JsonSchema)]
struct WaitingLine {
    /// As the shopper was told, among those who wait for the item.
    position: u32,
    /// The shopper's id, if its key still exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper: Option<String>,
    item: ItemId,
    quantity: u16,
    since: TimeMs,
    attempt: AttemptId,
    /// The entry of the log by which the place was given.
    sequence: Sequence,
}

/// `GET …/waitlist`.
pub(super) async fn read(
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    Query(query): Query<WaitlistQuery>,
) -> Result<JsonReply<WaitlistPage>, Problem> {
    page(&front, &keys, &query).await.map(JsonReply)
}

async fn page(front: &Front, keys: &Keyring, query: &WaitlistQuery) -> Result<WaitlistPage, Problem> {
    let max = query.max.unwrap_or(PAGE_PLACES);
    if !(1..=PAGE_PLACES_MAX).contains(&max) {
        return Err(Problem::new(&problem::INVALID, format!("max: want 1 to {PAGE_PLACES_MAX}")));
    }
    let spec = Arc::clone(&front.sale.view().spec);
    let item = query.item.as_deref().map(|item| {
        let none =
            || Problem::new(&problem::NOT_FOUND, format!("item: the sale has no item {:?}", clip(item)));
        spec.item_index(item).ok_or_else(none)
    });
    let item = item.transpose()?;
    let after = Sequence(query.after);
    let found = reply(front.sale.waiting(WaitingQuery { item, after, max })).await?;
    let given: Vec<Sequence> = found.iter().map(|place| place.as_of).collect();
    let sale = Arc::clone(&front.sale);
    let times = tokio::task::spawn_blocking(move || sale.times(&given)).await;
    let times = times.map_err(|_| Problem::internal())?.map_err(problem::of_unavailable)?;
    let is_cut = found.len() == max || times.len() < found.len();
    let places: Vec<WaitingLine> =
        found.iter().zip(times).filter_map(|(place, since)| line(keys, &spec, place, since)).collect();
    Ok(WaitlistPage { next: places.last().filter(|_| is_cut).map(|place| place.sequence), places })
}

fn line(keys: &Keyring, spec: &SaleSpec, place: &WaitingPlace, since: TimeMs) -> Option<WaitingLine> {
    let line = place.basket.first()?;
    Some(WaitingLine {
        position: place.position,
        shopper: keys.unseal(place.shopper, &place.sealed).map(|name| name.to_string()),
        item: spec.items.get(usize::from(line.item))?.item.clone(),
        quantity: line.quantity,
        since,
        attempt: place.attempt,
        sequence: place.as_of,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    lang: Option<String>,
    #[serde(default)]
    after: u64,
}

/// `GET /sales/{sale}/waitlist`: the same as a page for people.
pub(super) async fn show(
    AtSale(front): AtSale,
    State(keys): State<Arc<Keyring>>,
    Query(Shown { lang, after }): Query<Shown>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let lang = Lang::of(lang.as_deref(), &headers);
    let found = page(&front, &keys, &WaitlistQuery { after, max: None, item: None }).await?;
    let sale = front.sale.view().sale.clone();
    let title = lang.say("Who waits", "候补名单");
    let heads = [
        lang.say("Place", "位次"),
        lang.say("Shopper", "顾客"),
        lang.say("Item", "商品"),
        lang.say("Quantity", "数量"),
        lang.say("Since", "自"),
    ];
    let path = format!("/sales/{sale}/waitlist");
    let body = html! {
        h1 { (title) ": " (sale) }
        @if found.places.is_empty() { p { (lang.say("Nobody waits.", "无人候补。")) } }
        @else {
            div class="scroll" tabindex="0" {
                table {
                    caption { (lang.say("In the order in which the places were given", "按候补先后排序")) }
                    thead { tr { @for head in heads { th scope="col" { (head) } } } }
                    tbody {
                        @for place in &found.places {
                            tr data-attempt=(place.attempt) {
                                th scope="row" { (place.position) }
                                td { (place.shopper.as_deref().unwrap_or("?")) } td { (place.item) }
                                td { (place.quantity) } td { time datetime=(place.since) { (place.since) } }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(next) = found.next {
            p { a rel="next" href={ (path) "?lang=" (lang.code()) "&after=" (next) } { (lang.say("Next page", "下一页")) } }
        }
        p { a href={ "/?lang=" (lang.code()) } { (lang.say("Back to the sales", "返回活动")) } }
    };
    let query = format!("&after={after}");
    let frame = Frame {
        query: &query,
        skip: lang.say("Skip to the waitlist", "跳到候补名单"),
        footer: lang.say(
            "As of the moment when this page was made. Load it again for newer places.",
            "数据为本页生成时的数据，刷新可获取最新数据。",
        ),
        places: &places(lang),
        is_wide: true,
        ..Frame::plain(lang, title, &path)
    };
    Ok(Html(frame.render(&body).into_string()))
}
