//! A context's trail over HTTP and as a page: which operator changed what, newest first. It does
//! not know the context.

use crate::page::{Lang, wide};
use axum::response::Html;
use maud::html;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use units::TimeMs;

/// Steps of one answer, at the most.
pub const PAGE_MAX: usize = 100;

/// What an operator changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "TrailStep")]
pub struct TrailStep {
    /// Grows; a step that ends later may have a lower one.
    pub number: u64,
    pub at: TimeMs,
    /// The name of the API key.
    pub actor: String,
    /// What was done, such as `product.put`.
    pub did: String,
    /// The thing that it was done to, by its name.
    pub subject: String,
    /// In the actor's words; may be empty.
    pub reason: String,
    /// What changed, in short.
    pub detail: String,
}

/// Which steps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedSteps {
    /// Those of this thing.
    #[serde(default)]
    pub subject: Option<String>,
    /// Those with a lower number than this.
    #[serde(default)]
    pub before: Option<u64>,
    /// So many at the most, up to 100.
    #[serde(default = "twenty")]
    pub limit: usize,
}

fn twenty() -> usize {
    20
}

/// Steps, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TrailPage")]
pub struct TrailPage {
    pub steps: Vec<TrailStep>,
    /// Ask with `before` set to this for older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl TrailPage {
    /// The page of these, of which there may be more if there are as many as were asked for.
    pub fn of(steps: Vec<TrailStep>, limit: usize) -> Self {
        let next = steps.last().map(|step| step.number).filter(|_| steps.len() == limit);
        Self { steps, next }
    }
}

/// The query of a trail's page.
#[derive(Debug, Default, Deserialize)]
pub struct ShownSteps {
    pub lang: Option<String>,
    pub subject: Option<String>,
    pub before: Option<u64>,
}

impl ShownSteps {
    /// The thing whose steps are wanted, if it is one.
    pub fn subject(&self) -> Option<String> {
        self.subject.as_deref().map(str::trim).filter(|subject| !subject.is_empty()).map(str::to_owned)
    }
}

/// Shows a page of a trail at `path`.
pub fn show(
    places: &[(&str, &str, &str)],
    (lang, path): (Lang, &str),
    title: &str,
    subject: Option<&str>,
    page: &TrailPage,
) -> Html<String> {
    let heads = [
        lang.say("At", "时间"),
        lang.say("Who", "操作人"),
        lang.say("Did", "操作"),
        lang.say("To", "对象"),
        lang.say("Reason", "原因"),
        lang.say("What changed", "变更内容"),
    ];
    let of: String = form_urlencoded::byte_serialize(subject.unwrap_or_default().as_bytes()).collect();
    let body = html! {
        h1 { (title) }
        form class="operate" method="get" action=(path) {
            input type="hidden" name="lang" value=(lang.code());
            label for="subject" { (lang.say("Of one thing, by its name or number", "按对象名称或编号查询")) }
            input id="subject" name="subject" type="search" value=(subject.unwrap_or_default()) maxlength="100" autocomplete="off";
            button type="submit" { (lang.say("Show", "查询")) }
        }
        @if page.steps.is_empty() { p { (lang.say("Nothing was changed.", "暂无变更。")) } }
        @else {
            div class="scroll" tabindex="0" { table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for step in &page.steps { tr {
                    td { time datetime=(step.at) { (step.at) } } td { (step.actor) } td { code { (step.did) } }
                    th scope="row" { (step.subject) } td { (step.reason) } td { (step.detail) }
                } } }
            } }
        }
        @if let Some(next) = page.next {
            p { a rel="next" href={ (path) "?lang=" (lang.code()) "&subject=" (of) "&before=" (next) } { (lang.say("Older ones", "更早的")) } }
        }
    };
    wide(places, (lang, path), title, &body)
}
