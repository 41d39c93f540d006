//! What all requests of the page have in common: how a page is answered, and how a form is read.

use crate::{
    problem::{self, Problem},
    shop_page::ShopPage,
};
use axum::{
    extract::Query,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::Markup;
use web::body::{self, want_media_type};

/// A page or a redirect, unless it is a problem.
pub(super) type Shown = Result<Response, Problem>;

/// A page, with a cookie for its visitor if there is a new one.
pub(super) fn page(status: StatusCode, markup: Markup, cookie: Option<&str>) -> Response {
    let mut response = (status, Html(markup.into_string())).into_response();
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
    with_cookie(response, cookie)
}

/// An answer that no cache keeps, with a cookie for the visitor if there is a new one.
pub(super) fn with_cookie(mut response: Response, cookie: Option<&str>) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(Ok(cookie)) = cookie.map(str::parse) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

/// A page that says why something was not done, with the status of the problem and its Retry-After.
pub(super) fn refusal(problem: Problem, markup: Markup) -> Response {
    let status = StatusCode::from_u16(problem.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = problem.into_response().headers().get(header::RETRY_AFTER).cloned();
    let mut response = page(status, markup, None);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// A form of at most so many bytes.
pub(super) async fn form<T: serde::de::DeserializeOwned>(
    shop: &ShopPage,
    headers: &HeaderMap,
    body: axum::body::Body,
    bytes_max: usize,
) -> Result<T, Problem> {
    want_media_type(headers, "application/x-www-form-urlencoded")?;
    let bytes = body::read(body, bytes_max, shop.protection.body_timeout()).await?;
    // The query syntax of a URI is that of a form, and the framework reads it.
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let uri = format!("/?{text}")
        .parse::<http::Uri>()
        .map_err(|_| Problem::new(&problem::INVALID, "form: not url-encoded"))?;
    let form = Query::<T>::try_from_uri(&uri)
        .map_err(|e| Problem::new(&problem::INVALID, format!("form: {}", e.body_text())))?;
    Ok(form.0)
}
