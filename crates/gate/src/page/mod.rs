//! The shop's own page, rendered on the server: works without JavaScript, is live with it. It sells
//! in a demo only; a real shop's shoppers come with a pass from the shop.

mod handlers;
mod text;
mod view;
mod visitor;

use crate::state::Gate;
use axum::{
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::header;
use std::sync::Arc;
use web::{
    page::{STYLE, StaticFile, statics},
    route::{Route, route},
};

/// What makes the page live.
pub(crate) static SCRIPT: StaticFile =
    StaticFile::new("app", "js", "text/javascript; charset=utf-8", include_str!("app.js"));
/// The files that pages load.
pub(crate) static FILES: &[&StaticFile] = &[&STYLE, &SCRIPT];
/// For pages of shops.
const EMBEDDED: &str = include_str!("floodgate.js");

/// The pages of the shop's listener.
pub(crate) fn routes() -> Vec<Route<Arc<Gate>>> {
    let mut routes = vec![
        route("get", "/", get(handlers::index)),
        route("get", "/sales/{sale}", get(handlers::sale)),
        route("get", "/sales/{sale}/attempts/{attempt}", get(handlers::attempt)),
        route("post", "/sales/{sale}/buy", post(handlers::buy)),
        route("post", "/sales/{sale}/pay", post(handlers::pay)),
        route("get", "/time", get(handlers::time)),
        route("get", "/floodgate.js", get(embedded)),
    ];
    routes.extend(statics(FILES));
    routes
}

/// Its name stays, for it stands in pages that others keep; so it is asked for again every five
/// minutes.
async fn embedded() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    (headers, EMBEDDED).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shop_puts_into_its_page_is_small() {
        assert!(EMBEDDED.len() <= 5120, "{} bytes", EMBEDDED.len());
    }
}
