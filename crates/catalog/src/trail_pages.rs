//! What operators have changed in the catalogue, over HTTP and as a page of the console.

use crate::{api::Parts, service::of_sql};
use axum::{
    extract::{Query as PageQuery, State},
    response::Html,
};
use contracts::store::CONSOLE_PLACES;
use engines::sql::trail::{self, Stored};
use http::HeaderMap;
use web::{
    api_keys::Role,
    json::JsonReply,
    operation::{Access, Operation, get},
    page::Lang,
    problem::{INVALID, Problem, UNAVAILABLE, of_store},
    query::Query,
    trail::{PAGE_MAX, ShownSteps, TrailPage, TrailStep, WantedSteps, show},
};

const READ: Access = Access::Role(Role::ReadOnly);
const PAGE: &str = "/console/trail/catalog";

/// The trail's operations.
pub fn operations() -> Vec<Operation<Parts>> {
    vec![
        get("/api/v1/store/trail/catalog", "listCatalogTrail", READ, list)
            .tagged()
            .does("What operators have changed in the catalogue, newest first: who, what, of which thing.")
            .query::<WantedSteps>()
            .replies::<TrailPage>("A page of it.")
            .problems(&[&INVALID, &UNAVAILABLE]),
    ]
}

/// The trail's page.
pub fn pages() -> Vec<Operation<Parts>> {
    vec![get(PAGE, "showCatalogTrail", READ, page)]
}

fn step(stored: Stored) -> TrailStep {
    let Stored { number, at, actor, did, subject, reason, detail } = stored;
    TrailStep { number, at, actor, did, subject, reason, detail }
}

async fn read(
    Parts { service, .. }: &Parts,
    subject: Option<String>,
    before: Option<u64>,
    limit: usize,
) -> Result<TrailPage, Problem> {
    let limit = limit.clamp(1, PAGE_MAX);
    let found = service.sql.read(move |tx| trail::page(tx, subject.as_deref(), before, limit)).await;
    let found: Vec<Stored> = found.map_err(|error| of_store(of_sql(&error)))?;
    Ok(TrailPage::of(found.into_iter().map(step).collect(), limit))
}

async fn list(
    State(parts): State<Parts>,
    Query(WantedSteps { subject, before, limit }): Query<WantedSteps>,
) -> Result<JsonReply<TrailPage>, Problem> {
    read(&parts, subject, before, limit).await.map(JsonReply)
}

async fn page(
    State(parts): State<Parts>,
    PageQuery(shown): PageQuery<ShownSteps>,
    headers: HeaderMap,
) -> Result<Html<String>, Problem> {
    let (lang, subject) = (Lang::of(shown.lang.as_deref(), &headers), shown.subject());
    let found = read(&parts, subject.clone(), shown.before, PAGE_MAX).await?;
    let title = lang.say("Changes of the catalogue", "商品目录变更记录");
    Ok(show(&CONSOLE_PLACES, (lang, PAGE), title, subject.as_deref(), &found))
}
