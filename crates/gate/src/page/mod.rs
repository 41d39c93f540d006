//! The sale's own page, rendered on the server. It works without JavaScript, and is live with it.
//! It sells to shoppers whom their shop has sent with its token, and in a demo to anybody.

mod art;
mod does;
mod enter;
mod enter_view;
mod handlers;
mod outcome_view;
mod picture;
mod reply;
mod text;
mod view;
mod visitor;

pub(crate) use text::state_in;
pub(crate) use view::state_name;

use crate::parts::Parts;
use axum::response::{IntoResponse, Response};
use http::header;
use web::{
    operation::{Access, Operation, get, post},
    page::{BASE, STYLE, StaticFile, statics},
};

/// The script that makes the page live.
pub(crate) static SCRIPT: StaticFile =
    StaticFile::new("app", "js", "text/javascript; charset=utf-8", include_str!("app.js"));
/// The style sheet of shoppers' pages.
static SHEET: StaticFile = StaticFile::style("sale", &[BASE, include_str!("sale.css")]);
/// The files that pages load.
pub(crate) static FILES: &[&StaticFile] = &[&STYLE, &SHEET, &SCRIPT];
/// The script for pages of shops.
const EMBEDDED: &str = include_str!("floodgate.js");

/// The pages of the shop's listener. A form carries a token for the visitor's cookie, which the
/// handler checks.
pub(crate) fn operations() -> Vec<Operation<Parts>> {
    let mut operations = vec![
        get("/", "showShop", Access::Open, handlers::index),
        get("/sales/{sale}", "showSale", Access::Open, handlers::sale),
        get("/sales/{sale}/attempts/{attempt}", "showAttempt", Access::Open, handlers::attempt),
        post("/sales/{sale}/enter", "enterSale", Access::Open, enter::enter),
        post("/sales/{sale}/leave", "leaveSale", Access::Open, handlers::leave),
        post("/sales/{sale}/buy", "buy", Access::Open, handlers::buy),
        post("/sales/{sale}/pay", "pay", Access::Open, handlers::pay),
        post("/sales/{sale}/give-back", "giveBack", Access::Open, handlers::give_back),
        get("/time", "readTime", Access::Open, handlers::time),
        get("/floodgate.js", "readScript", Access::Open, embedded),
    ];
    operations.extend(statics(FILES));
    operations
}

/// Its name must not change, because the pages of shops refer to it; so browsers ask for it again
/// every five minutes.
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
    fn the_script_for_pages_of_shops_is_small() {
        assert!(EMBEDDED.len() <= 9216, "{} bytes", EMBEDDED.len());
    }
}
