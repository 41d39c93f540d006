//! Pictures over HTTP. A picture's name follows from its bytes, so it may be cached for ever.

use crate::{served::Served, service::Service};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use std::sync::Arc;
use web::{
    operation::{Access, Operation, get},
    problem::{NOT_FOUND, Problem},
};

/// Characters of a picture's name.
const NAME_MAX: usize = 100;

/// `GET /media/{name}`.
pub fn operations() -> Vec<Operation<Arc<Service>>> {
    vec![get("/media/{name}", "readPicture", Access::Open, read)]
}

async fn read(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let unknown = || Problem::new(&NOT_FOUND, "no such picture");
    if name.len() > NAME_MAX {
        return Err(unknown());
    }
    let tag = format!("\"{name}\"");
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // The name says which bytes they are: what a browser has of it is what there is.
    let is_known =
        asked.is_some_and(|tags| tags.split(',').any(|of| of.trim().trim_start_matches("W/") == tag));
    let found = service.picture(name).await.map_err(|error| Problem::unavailable(&error.to_string()))?;
    let Served { media_type, bytes } = found.ok_or_else(unknown)?;
    let headers = [
        (header::ETAG, tag),
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".into()),
        // A picture that is opened by itself is no page: it runs nothing and loads nothing.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".into()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
    ];
    match is_known {
        true => Ok((StatusCode::NOT_MODIFIED, headers).into_response()),
        false => Ok((headers, bytes).into_response()),
    }
}
