//! The shop's own page, rendered on the server: works without JavaScript, is live with it. It sells in a demo only; a real
//! shop's shoppers come with a pass from the shop.

mod handlers;
mod text;
mod view;
mod visitor;

pub(crate) use visitor::cookie;

use crate::{
    api::{Route, route},
    problem::{Explained, Kind, Problem},
};
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, header};
use std::sync::OnceLock;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("app.js");
/// For pages of shops.
const EMBEDDED: &str = include_str!("floodgate.js");

/// Pages load nothing from elsewhere and run nothing that stands in them.
pub(crate) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages of the shop's listener.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        route("get", "/", get(handlers::index)),
        route("get", "/sales/{sale}", get(handlers::sale)),
        route("get", "/sales/{sale}/attempts/{attempt}", get(handlers::attempt)),
        route("post", "/sales/{sale}/buy", post(handlers::buy)),
        route("post", "/sales/{sale}/pay", post(handlers::pay)),
        route("get", "/time", get(handlers::time)),
        route("get", "/floodgate.js", get(embedded)),
    ];
    routes.extend(statics());
    routes
}

/// The files that pages load.
pub(crate) fn statics() -> Vec<Route> {
    vec![route("get", "/static/{file}", get(file)), route("get", "/favicon.ico", get(icon))]
}

/// A person with a browser, to whom a problem is shown as a page; programs get the document.
#[derive(Debug)]
pub(crate) struct Reader(visitor::Lang);

impl Reader {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Option<Self> {
        let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let query = request.uri().query().unwrap_or_default();
        let lang = query.split('&').find_map(|pair| pair.strip_prefix("lang="));
        let reads = accept.contains("text/html") && !request.uri().path().starts_with("/api/");
        reads.then(|| Self(visitor::Lang::of(lang, request.headers())))
    }

    pub(crate) fn show(&self, problem: &Explained, response: &mut Response) {
        let page = view::problem(self.0, problem.kind.title(), &problem.detail).into_string();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.remove(header::CONTENT_LENGTH);
        *response.body_mut() = page.into();
    }
}

async fn icon() -> Response {
    let svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect width='16' height='16' rx='4' fill='#0b5d5e'/>\
               <path d='M4 5h8M4 8h8M4 11h5' stroke='#fff' stroke-width='1.6'/></svg>";
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")], svg)
        .into_response()
}

/// Its name stays, for it stands in pages that others keep; so it is asked for again every five minutes.
async fn embedded() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    (headers, EMBEDDED).into_response()
}

/// A file's name carries its content's hash, so it may be kept for ever.
async fn file(Path(file): Path<String>) -> Result<Response, Problem> {
    let path = format!("/static/{file}");
    let (kind, body) = match () {
        () if path == style_path() => ("text/css; charset=utf-8", STYLE),
        () if path == script_path() => ("text/javascript; charset=utf-8", SCRIPT),
        () => return Err(Problem::new(Kind::NotFound, "no such file: load the page again")),
    };
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, body).into_response())
}

pub(crate) fn style_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| hashed("style", STYLE, "css"))
}

fn script_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| hashed("app", SCRIPT, "js"))
}

fn hashed(name: &str, content: &str, extension: &str) -> String {
    format!("/static/{name}-{}.{extension}", &blake3::hash(content.as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shop_puts_into_its_page_is_small() {
        assert!(EMBEDDED.len() <= 5120, "{} bytes", EMBEDDED.len());
    }
}
