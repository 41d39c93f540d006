//! Answers as bytes: status line, fields, body. The parts that all answers share are written here
//! only.

use crate::problem::{METHOD_NOT_ALLOWED, Problem};

/// The fields of every answer of the gate that is not a page. `server` adds the same fields to
/// axum's answers.
macro_rules! always {
    () => {
        "x-content-type-options: nosniff\r\nreferrer-policy: same-origin\r\nx-frame-options: DENY\r\n\
         content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
    };
}

/// The date of an answer (RFC 9110, section 6.6.1), formatted once a second.
#[derive(Debug)]
pub(super) struct Date {
    second: u64,
    text: String,
}

impl Date {
    pub(super) fn new() -> Self {
        Self { second: u64::MAX, text: String::new() }
    }

    /// Moves on to `now_ms`, in milliseconds since 1970.
    pub(super) fn at(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if second != self.second {
            self.second = second;
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            self.text = httpdate::fmt_http_date(time);
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Appends an answer in JSON that no cache may keep. `cors` are the fields for the page that asks.
pub(super) fn json(
    out: &mut Vec<u8>,
    status: &str,
    body: &[u8],
    retry_after: Option<u64>,
    cors: &str,
    date: &Date,
    close: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(
        concat!("\r\ncontent-type: application/json\r\ncache-control: no-store\r\n", always!()).as_bytes(),
    );
    out.extend_from_slice(cors.as_bytes());
    if let Some(seconds) = retry_after {
        field(out, "retry-after", seconds);
    }
    end(out, body, date, close);
}

/// Appends a problem document.
pub(super) fn problem(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    problem: &Problem,
    cors: &str,
    date: &Date,
    close: bool,
) {
    let kind = problem.kind;
    let reason = http::StatusCode::from_u16(kind.status).ok().and_then(|status| status.canonical_reason());
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(kind.status));
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(
        concat!("\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n", always!())
            .as_bytes(),
    );
    out.extend_from_slice(cors.as_bytes());
    if let Some(seconds) = problem.retry_after_seconds() {
        field(out, "retry-after", u64::from(seconds));
    }
    if let Some(scheme) = kind.scheme {
        out.extend_from_slice(b"www-authenticate: ");
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if problem.is(&METHOD_NOT_ALLOWED) {
        out.extend_from_slice(b"allow: POST\r\n");
    }
    scratch.clear();
    problem.write_document(scratch);
    end(out, scratch, date, close);
}

/// Appends a document that is the same for all clients, and may be cached for a second.
pub(super) fn public(out: &mut Vec<u8>, body: &[u8], cors: &str, date: &Date, close: bool) {
    out.extend_from_slice(
        concat!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: public, max-age=1\r\n",
            always!()
        )
        .as_bytes(),
    );
    out.extend_from_slice(cors.as_bytes());
    end(out, body, date, close);
}

fn end(out: &mut Vec<u8>, body: &[u8], date: &Date, close: bool) {
    field(out, "content-length", body.len() as u64);
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date.as_str().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

fn field(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(decimal(&mut [0; 20], value));
}

/// A number in decimal, without `format!`: each answer has several.
fn decimal(digits: &mut [u8; 20], value: u64) -> &[u8] {
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &digits[at..]
}
