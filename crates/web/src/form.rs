//! Forms of the operators' pages. A browser sends a session's cookie with every request, also with
//! one that another page has made up, so a form carries a token that only the page of that session
//! can know.

use crate::{
    api_keys::{Operator, SignedIn},
    body::{clip, read, read_large, want_media_type},
    multipart,
    problem::{FORM_REFUSED, INTERNAL, INVALID, MEDIA_TYPE, Problem},
    protection::Protection,
};
use axum::{
    body::Bytes,
    extract::{FromRef, FromRequest, Request},
};
use http::header;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The name of the field with the token.
pub const TOKEN_FIELD: &str = "form";

/// A form of at most `MAX` bytes. It does not tell who sent it: its handler finds that out, by a
/// token among the fields or by a path that only one page knows.
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
        Ok(Self { operator: sender(&parts, &fields)?, fields })
    }
}

/// Who sent these fields: an operator from a page of their session, or with an API key.
fn sender(parts: &http::request::Parts, fields: &[(String, String)]) -> Result<Operator, Problem> {
    if let Some(signed_in) = parts.extensions.get::<SignedIn>() {
        let token = value(fields, TOKEN_FIELD);
        if !bool::from(token.as_bytes().ct_eq(signed_in.form_token().as_bytes())) {
            let why = "the form is not of this session: load the page again, and send its form";
            return Err(Problem::new(&FORM_REFUSED, why));
        }
        return Ok(signed_in.operator());
    }
    parts.extensions.get::<Operator>().cloned().ok_or_else(|| {
        tracing::error!(path = parts.uri.path(), "an operation takes a form and names no role");
        Problem::new(&INTERNAL, "this operation names no role: nothing was done")
    })
}

/// A form with a file, and the operator who sent it, proven as for a [`SignedForm`].
#[derive(Debug)]
pub struct UploadForm {
    pub operator: Operator,
    /// The bytes of the first file; empty if there is none.
    pub file: Bytes,
    fields: Vec<(String, String)>,
}

impl UploadForm {
    /// Reads a form whose file and fields have at most so many bytes. It is no extractor, so that
    /// its handler can first see whether there is room for it.
    pub async fn read(request: Request, bytes_max: usize, protection: &Protection) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|field| field.to_str().ok());
        let content_type = content_type.unwrap_or_default();
        let boundary = multipart::boundary(content_type).ok_or_else(|| {
            let got = clip(content_type);
            Problem::new(&MEDIA_TYPE, format!("Content-Type {got:?}: want multipart/form-data; boundary=…"))
        })?;
        let body = read_large(body, bytes_max, protection.body_timeout()).await?;
        let parts = multipart::parts(&body, boundary).map_err(|why| Problem::new(&INVALID, why))?;
        let (mut file, mut fields) = (None, Vec::new());
        for part in parts {
            if part.is_file {
                file = file.or_else(|| Some(body.slice_ref(part.content)));
                continue;
            }
            let text = std::str::from_utf8(part.content);
            let text = text.map_err(|_| Problem::new(&INVALID, "form: a field is not UTF-8"))?;
            fields.push((part.name, text.to_owned()));
        }
        Ok(Self { operator: sender(&head, &fields)?, file: file.unwrap_or_default(), fields })
    }

    /// The value of a field, without white space around it; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        value(&self.fields, name).trim()
    }
}
