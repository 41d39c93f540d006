//! Changes of what sales there are, which wait for the disk.

use crate::{
    drafts::{Drafts, Expected},
    front::Fronts,
    ports::Sales,
    problem::{self, Problem},
};
use axum::extract::FromRequestParts;
use contracts::SaleId;
use http::{HeaderMap, HeaderName, header, request};
use std::{borrow::Cow, sync::Arc};

/// A sale's name in a request.
pub(super) fn sale_id(text: &str) -> Result<SaleId, Problem> {
    text.parse().map_err(|e: contracts::IdError| Problem::new(&problem::INVALID, e.to_string()))
}

/// Makes a change on a thread that may wait for the disk.
pub(super) async fn change<T: Send + 'static>(
    drafts: Arc<Drafts>,
    fronts: &Fronts,
    change: impl FnOnce(&Drafts, &dyn Sales) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let sales = Arc::clone(fronts.sales());
    let changed = tokio::task::spawn_blocking(move || change(&drafts, &*sales)).await;
    changed.unwrap_or_else(|_| Err(Problem::internal()))
}

/// The draft that the caller had read, by `If-Match` or `If-None-Match` (RFC 9110, section
/// 13.1): the `ETag` of a draft, or `*`.
pub(super) struct Precondition(pub(super) Expected);

impl<S: Send + Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let expected =
            match (one(&parts.headers, header::IF_MATCH)?, one(&parts.headers, header::IF_NONE_MATCH)?) {
                (None, None) => Expected::Any,
                (Some("*"), None) => Expected::Present,
                (None, Some("*")) => Expected::Absent,
                (Some(tag), None) => {
                    // A proxy that compresses answers makes their tags weak.
                    let tag = tag.strip_prefix("W/").unwrap_or(tag);
                    let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                    let revision = revision.filter(|revision| !revision.contains('"'));
                    let revision =
                        revision.ok_or_else(|| invalid("If-Match: want one ETag of a draft, or *"))?;
                    Expected::Revision(revision.to_owned())
                }
                _ => return Err(invalid("If-None-Match: want * alone, and no If-Match beside it")),
            };
        Ok(Self(expected))
    }
}

/// The value of a field that a request has once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let (first, more) = (values.next(), values.next().is_some());
    let text = first.map(|value| value.to_str().unwrap_or_default().trim());
    if more || text.is_some_and(str::is_empty) {
        return Err(invalid(format!("{name}: want one value")));
    }
    Ok(text)
}

fn invalid(why: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(&problem::INVALID, why)
}
