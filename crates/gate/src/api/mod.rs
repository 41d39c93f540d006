//! The shoppers' API. Routes stand in one table, which the OpenAPI document is tested against.

pub(crate) mod attempts;
mod basket;
mod browser;
mod challenge;
mod events;
pub(crate) mod passes;
pub(crate) mod reservation;

pub(crate) use attempts::{
    BODY_BYTES_MAX as ATTEMPT_BODY_BYTES_MAX, Question, admit, ask, basket, item_index, key_reused, known,
    queue_full, round, standing_of, turn,
};
pub use basket::parse_basket;

use crate::{problem, state::Gate};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use http::{HeaderValue, header};
use std::sync::Arc;
pub(crate) use web::body::json;
use web::route::{Route, route};

/// The OpenAPI 3.1 description of both listeners.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// The routes of the shop's listener under `/api`.
pub fn routes() -> Vec<Route<Arc<Gate>>> {
    const SALE: &str = "/api/v1/sales/{sale}";
    const ATTEMPTS: &str = "/api/v1/sales/{sale}/attempts";
    const ATTEMPT: &str = "/api/v1/sales/{sale}/attempts/{attempt}";
    const EVENTS: &str = "/api/v1/sales/{sale}/attempts/{attempt}/events";
    const ROUND: &str = "/api/v1/sales/{sale}/rounds/{round_key}/attempts";
    const RESERVATION: &str = "/api/v1/sales/{sale}/reservation";
    const PASSES: &str = "/api/v1/sales/{sale}/passes";
    const CHALLENGE: &str = "/api/v1/sales/{sale}/challenge";
    let mut routes = vec![
        route("get", SALE, get(sale)),
        route("post", ROUND, post(attempts::create)),
        route("get", ATTEMPTS, get(attempts::list)),
        route("get", ATTEMPT, get(attempts::read)),
        route("get", EVENTS, get(events::stream)),
        route("put", RESERVATION, put(reservation::make)),
        route("get", RESERVATION, get(reservation::read)),
        route("delete", RESERVATION, delete(reservation::cancel)),
        route("post", PASSES, post(passes::create)),
        route("get", CHALLENGE, get(challenge::read)),
        route("get", "/api/v1/keys", get(keys)),
    ];
    routes.extend(shared_routes());
    routes
}

/// What both listeners serve.
pub(crate) fn shared_routes() -> Vec<Route<Arc<Gate>>> {
    let text = |kind: &'static str, body: &'static str| {
        move || async move { ([(header::CONTENT_TYPE, kind)], body) }
    };
    vec![
        route("get", "/api/v1/openapi.json", get(text("application/json", OPENAPI))),
        route("get", "/problems", get(text("text/markdown; charset=utf-8", problem::DOCUMENT))),
    ]
}

async fn sale(State(gate): State<Arc<Gate>>, Path(sale): Path<String>) -> Response {
    let front = match gate.front(&sale) {
        Ok(front) => front,
        Err(problem) => return problem.into_response(),
    };
    let body = front.rendered(&gate.keys, gate.now()).body.clone();
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
    response
}

async fn keys(State(gate): State<Arc<Gate>>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, gate.keys.jwks()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_openapi_document_has_exactly_the_routes() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                described.insert(format!("{method} {path}"));
                assert!(operation["operationId"].is_string(), "{method} {path}");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            }
        }
        let routes = routes().into_iter().chain(crate::admin::routes());
        let built: BTreeSet<String> = routes.map(|r| format!("{} {}", r.method, r.path)).collect();
        assert_eq!(described, built);
    }

    #[test]
    fn every_reference_in_the_openapi_document_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        for reference in OPENAPI.split("\"$ref\"").skip(1) {
            let target = reference.split('"').nth(1).unwrap();
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
    }
}
