//! Forms of the operators' pages. A browser sends a session's cookie with every request, also with
//! one that another page has made up, so a form carries a token that only the page of that session
//! can know.

use crate::{
    api_keys::{Operator, SignedIn},
    body::{read, want_media_type},
    problem::{FORM_REFUSED, INTERNAL, Problem},
    protection::Protection,
};
use axum::extract::{FromRef, FromRequest, Request};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The name of the field with the token.
pub const TOKEN_FIELD: &str = "form";

/// A form of at most `MAX` bytes. It does not tell who sent it: its handler finds that out, by a token
/// among the fields or by a path that only one page knows.
#[derive(Debug)]
pub struct PlainForm<const MAX: usize> {
    fields: Vec<(String, String)>,
}

impl<const MAX: usize> PlainForm<MAX> {
    /// The value of a field, without white space around it; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        value(&self.fields, name).trim()
    }

    /// The value of a field as it was sent, such as a password's; empty if there is none.
    pub fn whole_field(&self, name: &str) -> &str {
        value(&self.fields, name)
    }
}

impl<S, const MAX: usize> FromRequest<S> for PlainForm<MAX>
where
    S: Send + Sync,
    Arc<Protection>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        fields(request, state, MAX).await.map(|(_, fields)| Self { fields })
    }
}

async fn fields<S>(
    request: Request,
    state: &S,
    bytes_max: usize,
) -> Result<(http::request::Parts, Vec<(String, String)>), Problem>
where
    Arc<Protection>: FromRef<S>,
{
    let limit = Arc::<Protection>::from_ref(state).body_timeout();
    let (parts, body) = request.into_parts();
    want_media_type(&parts.headers, "application/x-www-form-urlencoded")?;
    let bytes = read(body, bytes_max, limit).await?;
    Ok((parts, form_urlencoded::parse(&bytes).into_owned().collect()))
}

/// A form of at most `MAX` bytes, and the operator who sent it from a page of their session, or
/// with an API key, which no other page has.
#[derive(Debug)]
pub struct SignedForm<const MAX: usize> {
    pub operator: Operator,
    fields: Vec<(String, String)>,
}

impl<const MAX: usize> SignedForm<MAX> {
    /// The value of a field, without white space around it; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        value(&self.fields, name).trim()
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
}

impl<S, const MAX: usize> FromRequest<S> for SignedForm<MAX>
where
    S: Send + Sync,
    Arc<Protection>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, fields) = fields(request, state, MAX).await?;
        if let Some(signed_in) = parts.extensions.get::<SignedIn>() {
            let token = value(&fields, TOKEN_FIELD);
            if !bool::from(token.as_bytes().ct_eq(signed_in.form_token().as_bytes())) {
                let why = "the form is not of this session: load the page again, and send its form";
                return Err(Problem::new(&FORM_REFUSED, why));
            }
            return Ok(Self { operator: signed_in.operator(), fields });
        }
        let operator = parts.extensions.get::<Operator>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "an operation takes a form and names no role");
            Problem::new(&INTERNAL, "this operation names no role: nothing was done")
        })?;
        Ok(Self { operator, fields })
    }
}
