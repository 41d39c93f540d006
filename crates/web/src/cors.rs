//! Which other origins' pages may read the API's answers: CORS, as in the Fetch standard
//! (https://fetch.spec.whatwg.org/#http-cors-protocol), with a list of exact origins. It decides
//! what a browser shows to a page. Who may buy is decided by the pass.
//!
//! `*`, which would allow every page, is never sent, and credentials are never allowed. The API
//! takes a caller's credentials from fields that a page sets on purpose, so a cookie could only add
//! those of another person.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The fields that such a page may read in addition to those that every page may (type and length
/// of the body).
const EXPOSE_HEADERS: &str = "retry-after";
/// How long a browser may cache the answer to a preflight: the longest time that Chromium accepts.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");
const VARY: &str = "vary: origin\r\n";

/// The origins that are allowed.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<Allowed>,
    /// The fields that a page of another origin may send in addition to those that every page may.
    allow_headers: HeaderValue,
}

#[derive(Debug)]
struct Allowed {
    origin: String,
    /// The fields of an answer to such a page, as lines of HTTP/1.1.
    lines: String,
}

/// The origin of the page that sent a request: one of the list, or any other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller(Option<u16>);

impl Cors {
    /// `allow_headers` are the fields that such a page may send, in lower case, with commas between
    /// them.
    pub fn new(origins: &[String], allow_headers: &'static str) -> Self {
        let allowed = |origin: &String| Allowed {
            origin: origin.clone(),
            lines: format!(
                "access-control-allow-origin: {origin}\r\naccess-control-expose-headers: {EXPOSE_HEADERS}\r\n{VARY}"
            ),
        };
        let allow_headers = HeaderValue::from_static(allow_headers);
        Self { origins: origins.iter().map(allowed).collect(), allow_headers }
    }

    /// The origin by the Origin field of a request, compared byte by byte. A page that hides its
    /// origin sends `null`.
    pub fn of(&self, origin: Option<&[u8]>) -> Caller {
        let at = origin.and_then(|origin| self.origins.iter().position(|a| a.origin.as_bytes() == origin));
        Caller(at.and_then(|at| u16::try_from(at).ok()))
    }

    fn of_headers(&self, headers: &HeaderMap) -> Caller {
        let mut fields = headers.get_all(header::ORIGIN).iter();
        match (fields.next(), fields.next()) {
            (Some(origin), None) => self.of(Some(origin.as_bytes())),
            _ => Caller::default(),
        }
    }

    /// Whether the page that sent a request is of an origin of the list.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        self.allowed(self.of_headers(headers)).is_some()
    }

    /// The fields of an answer, each with its line end. A cache must not give one origin the answer
    /// for another, so with a list every answer varies by Origin.
    pub fn lines(&self, caller: Caller) -> &str {
        match self.allowed(caller) {
            Some(allowed) => &allowed.lines,
            None if self.origins.is_empty() => "",
            None => VARY,
        }
    }

    /// The same for an answer of axum.
    pub fn put(&self, caller: Caller, headers: &mut HeaderMap) {
        if !self.origins.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.allowed(caller).and_then(|a| HeaderValue::from_str(&a.origin).ok()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static(EXPOSE_HEADERS);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    fn allowed(&self, caller: Caller) -> Option<&Allowed> {
        caller.0.and_then(|at| self.origins.get(usize::from(at)))
    }

    /// The origin of the page that sent a request of the API; `None` for all other paths, which
    /// serve our own pages.
    pub fn caller<B>(&self, request: &http::Request<B>) -> Option<Caller> {
        request.uri().path().starts_with("/api/").then(|| self.of_headers(request.headers()))
    }
}

/// Whether this is an origin as a browser writes it: scheme, host and, unless it is the default of
/// the scheme, port.
pub fn is_origin(text: &str) -> bool {
    let (host, own_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, ":443"),
        (_, Some(host)) => (host, ":80"),
        _ => return false,
    };
    let of_host = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'[' | b']' | b':' | b'_');
    let is_whole = text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| authority.as_str() == host)
    });
    let port = host.rsplit_once(':').filter(|(name, _)| !name.starts_with('[') || name.ends_with(']'));
    let port_is_good = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|n| n.to_string() == port));
    is_whole && host.bytes().all(of_host) && port_is_good && !host.ends_with(own_port)
}

impl Cors {
    /// Answers a preflight, which a browser sends before the request of a page of another origin.
    /// The field for the page's origin is in every answer anyway.
    pub(crate) fn preflight(&self, headers: &HeaderMap, methods: HeaderValue) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let out = response.headers_mut();
        if self.allowed(self.of_headers(headers)).is_some()
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.allow_headers.clone());
            out.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        }
        out.insert(header::ALLOW, methods);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in [
            "https://shop.example",
            "http://127.0.0.1:8080",
            "https://shop.example:8443",
            "http://[::1]:80801",
        ] {
            assert_eq!(is_origin(good), good != "http://[::1]:80801", "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/checkout",
            "https://shop.example?x",
            "https://shop.example#x",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://shop.example:",
            "https://shop.example:08443",
            "https://user@shop.example",
            "https://*.shop.example",
            "https://shop.example, https://other.example",
            "https://shop.example\r\nx: y",
            "https://商店.example",
            "ftp://shop.example",
        ] {
            assert!(!is_origin(bad), "{bad:?}");
        }
    }
}
