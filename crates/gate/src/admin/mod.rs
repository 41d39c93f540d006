//! The operators' API, on a listener of its own. Nothing here is reachable from the shop's
//! listener.

mod denied;
mod feed;
mod health;
mod lists;
mod operate;
mod refusals;
mod sign_in;
mod strategy;

use crate::{
    api::shared_routes,
    problem::{self, Problem},
    state::Gate,
};
use axum::routing::{delete, get, post, put};
use contracts::Actor;
use http::HeaderMap;
use std::sync::Arc;
use web::{
    api_keys::Role,
    body::bearer,
    route::{Route, route},
};

/// The routes of the admin listener.
pub fn routes() -> Vec<Route<Arc<Gate>>> {
    const SALE: &str = "/api/v1/admin/sales/{sale}";
    const STRATEGY: &str = "/api/v1/admin/strategy";
    const DENIED: &str = "/api/v1/admin/denied-networks";
    let mut routes = vec![
        route("put", SALE, put(operate::define)),
        route("post", "/api/v1/admin/sales/{sale}/open", post(operate::open)),
        route("post", "/api/v1/admin/sales/{sale}/pause", post(operate::pause)),
        route("post", "/api/v1/admin/sales/{sale}/resume", post(operate::resume)),
        route("post", "/api/v1/admin/sales/{sale}/close", post(operate::close)),
        route("post", "/api/v1/admin/sales/{sale}/extend", post(operate::extend)),
        route("post", "/api/v1/admin/sales/{sale}/limits", post(operate::limits)),
        route("post", "/api/v1/admin/sales/{sale}/rate", post(operate::rate)),
        route("post", "/api/v1/admin/sales/{sale}/items/{item}/adjust", post(operate::adjust)),
        route("post", "/api/v1/admin/sales/{sale}/void", post(operate::void)),
        route("put", "/api/v1/admin/sales/{sale}/list", put(lists::allowed)),
        route("put", "/api/v1/admin/sales/{sale}/denylist", put(lists::denied)),
        route("get", "/api/v1/admin/sales/{sale}/stats", get(operate::stats)),
        route("get", "/api/v1/admin/sales/{sale}/winners.ndjson", get(feed::winners)),
        route("post", "/api/v1/admin/holds/{hold}/confirm", post(operate::confirm)),
        route("post", "/api/v1/admin/holds/{hold}/release", post(operate::release)),
        route("get", STRATEGY, get(strategy::read)),
        route("put", STRATEGY, put(strategy::order)),
        route("get", DENIED, get(denied::list)),
        route("put", DENIED, put(denied::add)),
        route("delete", DENIED, delete(denied::remove)),
    ];
    routes.extend(routes_of_a_gate());
    routes
}

/// Those that are about one process, whether it has the sales or not.
pub(crate) fn routes_of_a_gate() -> Vec<Route<Arc<Gate>>> {
    let mut routes = vec![
        route("get", "/api/v1/admin/refusals", get(refusals::read)),
        route("get", "/healthz", get(health::healthz)),
        route("get", "/readyz", get(health::readyz)),
        route("get", "/metrics", get(health::metrics)),
    ];
    routes.extend(shared_routes());
    routes
}

/// Routes that no document describes: pages, and the files that they load.
pub(crate) fn pages() -> Vec<Route<Arc<Gate>>> {
    let mut routes =
        vec![route("get", "/", get(sign_in::stats_page)), route("get", "/sign-in", get(sign_in::sign_in))];
    routes.extend(web::page::statics(crate::page::FILES));
    routes
}

/// Who asks, if their role is enough.
pub(crate) fn authorize(gate: &Arc<Gate>, headers: &HeaderMap, want: Role) -> Result<Operator, Problem> {
    let known = match bearer(headers) {
        Some(text) => gate.api_keys.verify(text),
        // A session reads and does nothing, so it needs no defence against forged requests.
        None if want == Role::ReadOnly && sign_in::has_session(gate, headers) => {
            Some(("session".to_owned(), Role::ReadOnly))
        }
        None => {
            let why = "no API key: send Authorization: Bearer fgk_…; floodgate key new makes one";
            return Err(Problem::new(&problem::KEY_MISSING, why));
        }
    };
    let (name, role) =
        known.ok_or_else(|| Problem::new(&problem::KEY_REFUSED, "API key: unknown or revoked"))?;
    if role < want {
        let role_name = |role| match role {
            Role::ReadOnly => "read-only",
            Role::Operator => "operator",
            Role::Owner => "owner",
        };
        let why = format!("API key {name:?} is {}: this needs {}", role_name(role), role_name(want));
        return Err(Problem::new(&problem::ROLE_REFUSED, why));
    }
    Ok(Operator { name })
}

/// Somebody who may.
#[derive(Debug)]
pub(crate) struct Operator {
    name: String,
}

impl Operator {
    pub(crate) fn actor(&self, reason: &str) -> Actor {
        Actor::new(&self.name, reason)
    }
}
