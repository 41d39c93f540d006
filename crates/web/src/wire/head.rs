//! The head of an HTTP/1.1 request (RFC 9112): the fields that hot routes need, where it ends, and
//! how long the body is.
//!
//! Anything that a proxy in front might read differently is refused here, whether the loops or axum
//! would serve the request: a bare LF, several lengths, a length together with a transfer coding,
//! no Host or two. Legal but rare requests (chunked bodies, HTTP/1.0, Expect) are reported as such,
//! and left to hyper. This module reads bytes and knows neither sockets nor routes.

/// The most fields in one head: browsers send some 20.
const FIELDS_MAX: usize = 64;

/// A complete and unambiguous head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    pub method: &'a str,
    pub target: &'a str,
    /// Bytes of the head, its empty line included.
    pub len: usize,
    /// Bytes of the body after it; 0 if there is none or if it is [`Form::Rare`].
    pub body_len: u64,
    pub form: Form,
    /// The body's length is in its chunks.
    pub chunked: bool,
    /// The client will send no further request on this connection.
    pub close: bool,
    pub fields: Fields<'a>,
}

/// How a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// HTTP/1.1, a target in origin form, and a length or no body.
    Plain,
    /// Legal, but not handled in the hot path: HTTP/1.0, a chunked body, Expect, Upgrade, an API
    /// key, a target in another form.
    Rare,
}

/// The most fields that a context may name in addition to those that every server reads.
pub const OWN_FIELDS_MAX: usize = 4;

/// The fields that hot routes read, as they came. If one came twice, the request is [`Form::Rare`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    /// The fields that the context named, in its order.
    pub own: [Option<&'a [u8]>; OWN_FIELDS_MAX],
    pub content_type: Option<&'a [u8]>,
    /// The origin of the page, if a browser sent the request.
    pub origin: Option<&'a [u8]>,
    /// The client's address, as the proxies name it.
    pub forwarded_for: Option<&'a [u8]>,
}

/// What the bytes are so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// They may still become a head.
    Partial,
    Whole(Head<'a>),
    /// They cannot become a head: answer, and close, because the start of the next request is
    /// unknown.
    Refused(Refusal),
}

/// Why bytes are not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many bytes or fields.
    TooLarge,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    Version,
    Malformed(&'static str),
}

/// Reads the head at the start of `bytes`, of which no more than `bytes_max` may be head. `own`
/// names up to [`OWN_FIELDS_MAX`] fields that the context reads.
pub fn parse<'a>(bytes: &'a [u8], bytes_max: usize, own: &[&str]) -> Parsed<'a> {
    let mut storage = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut storage);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len > bytes_max => return Parsed::Refused(Refusal::TooLarge),
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= bytes_max => {
            return Parsed::Refused(Refusal::TooLarge);
        }
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(error) => return Parsed::Refused(refusal(error)),
    };
    match check(&request, &bytes[..len], own) {
        Ok(head) => Parsed::Whole(head),
        Err(why) => Parsed::Refused(why),
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Refusal::TooLarge,
        Error::Version => Refusal::Version,
        Error::HeaderName => Refusal::Malformed("a field's name has a character that none may have"),
        Error::HeaderValue => Refusal::Malformed("a field's value has a character that none may have"),
        Error::NewLine | Error::Status => Refusal::Malformed("a line does not end as it should"),
        Error::Token => Refusal::Malformed("the request line cannot be read"),
    }
}

fn check<'a>(
    request: &httparse::Request<'_, 'a>,
    bytes: &'a [u8],
    own: &[&str],
) -> Result<Head<'a>, Refusal> {
    let malformed = |why| Err(Refusal::Malformed(why));
    // httparse takes a bare LF for the end of a line, as RFC 9112, section 2.2 allows; not every
    // proxy in front of us does.
    if memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r') {
        return malformed("a line ends in a bare LF, want CR LF");
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return malformed("the request line cannot be read");
    };
    let mut fields = Fields::default();
    let mut length: Option<u64> = None;
    let mut hosts = 0;
    let (mut coded, mut close, mut keep_alive, mut rare) = (false, false, false, version == 0);
    for field in request.headers.iter() {
        let (name, value) = (field.name.as_bytes(), field.value);
        let is = |want: &str| name.eq_ignore_ascii_case(want.as_bytes());
        // By length first: most fields of a browser's request are not among these.
        match name.len() {
            4 if is("host") => hosts += 1,
            6 if is("expect") => rare = true,
            6 if is("origin") => take(&mut fields.origin, &mut rare, value),
            7 if is("upgrade") => rare = true,
            10 if is("connection") => {
                for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if is("content-type") => take(&mut fields.content_type, &mut rare, value),
            // A tenant's key is refused, and the loops know no keys.
            13 if is("authorization") => rare |= memchr::memmem::find(value, b"fgk_").is_some(),
            14 if is("content-length") => {
                if length.is_some() {
                    return malformed("Content-Length came twice");
                }
                length = Some(number(value).ok_or(Refusal::Malformed("Content-Length is not a number"))?);
            }
            15 if is("x-forwarded-for") => take(&mut fields.forwarded_for, &mut rare, value),
            17 if is("transfer-encoding") => {
                if coded || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return malformed("Transfer-Encoding: want chunked, once, or none");
                }
                coded = true;
            }
            len => {
                for (place, name) in fields.own.iter_mut().zip(own) {
                    if name.len() == len && is(name) {
                        take(place, &mut rare, value);
                    }
                }
            }
        }
    }
    // RFC 9112, section 6.1: a client must not send both, and a proxy in front may go by the other
    // one.
    if coded && length.is_some() {
        return malformed("Content-Length and Transfer-Encoding came together");
    }
    if coded && version == 0 {
        return malformed("Transfer-Encoding came with HTTP/1.0");
    }
    // RFC 9112, section 3.2.
    if hosts > 1 || (hosts == 0 && version == 1) {
        return malformed("want one Host field");
    }
    rare |= coded || !target.starts_with('/');
    let form = if rare { Form::Rare } else { Form::Plain };
    let close = close || (version == 0 && !keep_alive);
    Ok(Head {
        method,
        target,
        len: bytes.len(),
        body_len: length.unwrap_or(0),
        form,
        chunked: coded,
        close,
        fields,
    })
}

fn take<'a>(place: &mut Option<&'a [u8]>, twice: &mut bool, value: &'a [u8]) {
    *twice |= place.replace(value).is_some();
}

/// Only digits: `+5`, `5 5` and `0x5` mean different things to different parsers (RFC 9110, section
/// 8.6).
fn number(value: &[u8]) -> Option<u64> {
    // 18 digits fit into 63 bits.
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8192;
    const OWN: [&str; 2] = ["floodgate-pass", "idempotency-key"];

    fn whole(text: &str) -> Head<'_> {
        match parse(text.as_bytes(), MAX, &OWN) {
            Parsed::Whole(head) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_plain_request_is_read() {
        let text = "POST /api/v1/sales/demo/rounds/k/attempts HTTP/1.1\r\nHost: shop\r\nFloodgate-Pass: p\r\n\
                    idempotency-key: one\r\nContent-Type: application/json\r\ncontent-length: 12\r\n\r\n{}";
        let head = whole(text);
        assert_eq!((head.method, head.body_len, head.form, head.close), ("POST", 12, Form::Plain, false));
        assert_eq!(head.len, text.len() - 2);
        assert_eq!(head.fields.own, [Some(&b"p"[..]), Some(&b"one"[..]), None, None]);
        assert_eq!(head.target, "/api/v1/sales/demo/rounds/k/attempts");
    }

    #[test]
    fn every_prefix_of_a_request_is_partial() {
        let text = b"GET /api/v1/sales/demo HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end], MAX, &OWN), Parsed::Partial, "{end}");
        }
        assert!(matches!(parse(text, MAX, &OWN), Parsed::Whole(_)));
        assert_eq!(parse(text, text.len() - 1, &OWN), Parsed::Refused(Refusal::TooLarge));
        assert_eq!(parse(&text[..40], 40, &OWN), Parsed::Refused(Refusal::TooLarge));
    }

    #[test]
    fn an_ambiguous_request_is_refused() {
        let check = |text: &str| match parse(text.as_bytes(), MAX, &OWN) {
            Parsed::Refused(Refusal::Malformed(why)) => why,
            other => panic!("{text:?}: {other:?}"),
        };
        for (fields, want) in [
            ("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "came together"),
            ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n", "came together"),
            ("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", "came twice"),
            ("Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "came twice"),
            ("Host: a\r\nContent-Length: 5, 5\r\n", "not a number"),
            ("Host: a\r\nContent-Length: +5\r\n", "not a number"),
            ("Host: a\r\nContent-Length: -1\r\n", "not a number"),
            ("Host: a\r\nContent-Length: 0x5\r\n", "not a number"),
            ("Host: a\r\nContent-Length:\r\n", "not a number"),
            ("Host: a\r\nContent-Length: 99999999999999999999\r\n", "not a number"),
            ("Host: a\r\nTransfer-Encoding: chunked, identity\r\n", "want chunked"),
            ("Host: a\r\nTransfer-Encoding: xchunked\r\n", "want chunked"),
            ("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "want chunked"),
            ("Host: a\r\nHost: b\r\n", "one Host"),
            ("Accept: a\r\n", "one Host"),
            ("Host: a\nAccept: b\r\n", "bare LF"),
            ("Host: a\r\nX: b\n", "bare LF"),
            ("Host : a\r\n", "name"),
            ("Host: a\r\n X: folded\r\n", "name"),
            ("Host: a\r\nX: a\0b\r\n", "value"),
            ("Host: a\r\nX: a\rb\r\n", "value"),
            ("Host: a\r\nX\0: b\r\n", "name"),
        ] {
            let why = check(&format!("POST / HTTP/1.1\r\n{fields}\r\n"));
            assert!(why.contains(want), "{fields:?}: {why}");
        }
        let why = check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(why.contains("HTTP/1.0"), "{why}");
        assert_eq!(parse(b"GET / HTTP/2.0\r\n\r\n", MAX, &OWN), Parsed::Refused(Refusal::Version));
    }

    #[test]
    fn a_legal_but_rare_request_is_left_to_hyper() {
        for text in [
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nFloodgate-Pass: a\r\nFloodgate-Pass: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\nOrigin: https://b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fgk_a_b\r\n\r\n",
        ] {
            assert_eq!(whole(text).form, Form::Rare, "{text:?}");
        }
    }

    #[test]
    fn connection_close_from_the_client_is_recognised() {
        let check = |text: &str, want| assert_eq!(whole(text).close, want, "{text:?}");
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false);
        check("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", true);
        check("GET / HTTP/1.1\r\nHost: a\r\nConnection: te, close\r\n\r\n", true);
        check("GET / HTTP/1.0\r\n\r\n", true);
        check("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false);
    }
}
