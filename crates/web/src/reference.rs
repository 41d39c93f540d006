//! The reference of a context's API: the OpenAPI document, and what each type of problem means, as
//! Markdown and, for a person with a browser, as a page.

use crate::{
    openapi::{self, About},
    operation::{Access, Callers, Operation, Row, Text, get},
    page::{Frame, Lang},
    problem::Kind,
};
use axum::{
    body::Bytes,
    extract::RawQuery,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use maud::{Markup, html};
use schemars::JsonSchema;
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

/// The source of a context's OpenAPI document and page of problems.
#[derive(Debug)]
pub struct Reference {
    openapi: Bytes,
    problems: Bytes,
    page: [Bytes; 2],
}

/// An OpenAPI document.
#[derive(JsonSchema)]
#[schemars(inline)]
struct AnyObject(#[expect(dead_code, reason = "it is only described")] BTreeMap<String, serde_json::Value>);

/// The operations of the reference, for each of a context's listeners.
pub fn operations<S: Clone + Send + Sync + 'static>(reference: &Arc<Reference>) -> Vec<Operation<S>> {
    let (document, problems) = (Arc::clone(reference), Arc::clone(reference));
    let openapi =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], document.openapi.clone()) };
    let problems = move |RawQuery(query): RawQuery, headers: HeaderMap| async move {
        problems.answer(query.as_deref(), &headers)
    };
    vec![
        get("/api/v1/openapi.json", "readOpenapi", Access::Open, openapi)
            .does("This document, on each listener.")
            .replies::<AnyObject>("OpenAPI 3.1."),
        get("/problems", "readProblems", Access::Open, problems)
            .does("What each problem type means, on each listener. Browsers get a page.")
            .replies_as::<Text>("text/markdown", "Markdown."),
    ]
}

impl Reference {
    /// An empty reference, for a table that needs its paths before there is one.
    pub fn empty() -> Self {
        Self { openapi: Bytes::new(), problems: Bytes::new(), page: Default::default() }
    }

    /// The OpenAPI document.
    pub fn openapi(&self) -> &str {
        std::str::from_utf8(&self.openapi).unwrap_or_default()
    }

    /// What each problem means, in Markdown.
    pub fn problems(&self) -> &str {
        std::str::from_utf8(&self.problems).unwrap_or_default()
    }

    /// The reference of a context with these operations and kinds of problems.
    pub fn new(about: &About, rows: &[(Callers, Row)], kinds: &[&'static Kind]) -> Self {
        let explained: Vec<Explained> = kinds.iter().map(|kind| Explained::new(kind, rows)).collect();
        let page = [Lang::En, Lang::Zh].map(|lang| Bytes::from(page(lang, &explained).into_string()));
        Self { openapi: openapi::document(about, rows).into(), problems: markdown(&explained).into(), page }
    }

    fn answer(&self, query: Option<&str>, headers: &HeaderMap) -> Response {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut response = if accept.contains("text/html") {
            let of = usize::from(Lang::asked(query, headers) == Lang::Zh);
            Html(self.page[of].clone()).into_response()
        } else {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], self.problems.clone()).into_response()
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-language"));
        response
    }
}

/// A kind, and the operations that may answer with it.
struct Explained {
    kind: &'static Kind,
    operations: Vec<&'static str>,
    by_all: bool,
}

impl Explained {
    fn new(kind: &'static Kind, rows: &[(Callers, Row)]) -> Self {
        let described = || rows.iter().filter(|(_, row)| row.is_described());
        let may = |(_, row): &&(Callers, Row)| row.problems().iter().any(|known| std::ptr::eq(*known, kind));
        let mut operations: Vec<_> = described().filter(may).map(|(_, row)| row.id).collect();
        let by_all = operations.len() == described().count();
        operations.sort_unstable();
        operations.dedup();
        Self { kind, operations, by_all }
    }

    /// The sentence on the operations that may answer so, in English.
    fn answered_by(&self) -> String {
        match (self.by_all, &*self.operations) {
            (true, _) => "Any operation may answer with it.".to_owned(),
            (false, []) => String::new(),
            (false, ids) => format!("Operations that may answer with it: {}.", ids.join(", ")),
        }
    }
}

const INTRODUCTION: &str = "Every answer that is not what was asked for is a problem document (RFC 9457): \
    `application/problem+json` with `type` (`/problems#` and one of the names below), `title`, `status` and `detail`. \
    `detail` names the thing that is wrong. Where waiting helps, `Retry-After` says how many seconds. A head that is \
    over the limit is answered with a bare 431: such a request is not read.";

fn markdown(explained: &[Explained]) -> String {
    let mut text = format!("# Problem documents\n\n{INTRODUCTION}\n");
    for this in explained {
        let Kind { slug, status, title, advice, .. } = this.kind;
        let _ = write!(text, "\n## {slug}\n\n`{status}` {title}. {advice}\n");
        let by = this.answered_by();
        if !by.is_empty() {
            let _ = write!(text, "\n{by}\n");
        }
    }
    text
}

/// The explanations are for developers, and in English on both pages.
fn page(lang: Lang, explained: &[Explained]) -> Markup {
    let title = lang.say("Problem documents", "错误说明");
    let body = html! {
        h1 { (title) }
        @if lang == Lang::Zh { p { "以下说明面向开发者，仅提供英文。" } }
        div lang="en" {
            p { (code(INTRODUCTION)) }
            @for this in explained {
                section class="card" aria-labelledby=(this.kind.slug) {
                    h2 id=(this.kind.slug) { (this.kind.slug) }
                    p { strong { (this.kind.status) " " (this.kind.title) "." } " " (code(this.kind.advice)) }
                    @let by = this.answered_by();
                    @if !by.is_empty() { p class="small" { (by) } }
                }
            }
        }
    };
    Frame::plain(lang, title, "/problems").render(&body)
}

/// Text with code between backticks.
fn code(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
