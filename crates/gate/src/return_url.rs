//! Where a page may send a shopper back to, by a list of origins with paths. A URL that two parsers
//! could read differently is refused: an open redirect would let anybody use the sale's good name.

use std::fmt::Write;
use web::cors::is_origin;

/// The most bytes of a URL. With the longest ticket after it, it stays below what browsers and
/// servers accept.
const URL_BYTES_MAX: usize = 1024;
/// The parameter that carries the outcome. Only the gate may set it: a return URL that already has
/// it is refused.
const PARAMETER: &str = "floodgate";

/// A URL of the list, or one below such a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReturnUrl(String);

impl ReturnUrl {
    /// `None` if no entry allows it, byte by byte. `allowed` has passed [`is_entry`].
    pub(crate) fn parse(text: &str, allowed: &[String]) -> Option<Self> {
        let is_below = |entry: &String| {
            text.strip_prefix(entry.as_str()).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(['/', '?']) || (entry.ends_with('/') && !is_root(entry))
            })
        };
        let below = allowed.iter().find(|entry| is_below(entry))?;
        let (_, path_and_query) = text.split_at(origin_of(below)?.len());
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let good = text.len() <= URL_BYTES_MAX && (path.is_empty() || is_path(path)) && is_query(query);
        good.then(|| Self(text.to_owned()))
    }

    /// The audience of an outcome that is sent there.
    pub(crate) fn origin(&self) -> &str {
        origin_of(&self.0).unwrap_or_default()
    }

    /// The URL with a signed outcome or a ticket added, which need no encoding.
    pub(crate) fn with(&self, signed: &str) -> String {
        let separator = match self.0.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        format!("{}{separator}{PARAMETER}={signed}", self.0)
    }

    /// The URL for a field of a form.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL encoded for the query of a link of the page.
    pub(crate) fn as_query(&self) -> String {
        let mut out = String::from("&return_url=");
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
                _ => drop(write!(out, "%{byte:02X}")),
            }
        }
        out
    }
}

/// Scheme, host and port at the start of a URL.
fn origin_of(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find(['/', '?']).map_or(url.len(), |at| host + at);
    Some(&url[..end])
}

fn is_root(entry: &str) -> bool {
    origin_of(entry).is_some_and(|origin| entry[origin.len()..] == *"/")
}

/// Whether an operator may name it in the list: an origin, with a path if not the whole origin is
/// meant. In clear only for this machine.
pub(crate) fn is_entry(text: &str) -> bool {
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let Some(origin) = origin_of(text) else { return false };
    let is_safe = origin.starts_with("https://")
        || local
            .iter()
            .any(|l| origin.strip_prefix(l).is_some_and(|port| port.is_empty() || port.starts_with(':')));
    let path = &text[origin.len()..];
    is_safe && is_origin(origin) && (path.is_empty() || is_path(path)) && text.len() <= URL_BYTES_MAX
}

/// Whether a server cannot resolve or decode the path into another one.
fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%".contains(&b);
    let Some(segments) = path.strip_prefix('/') else { return false };
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment == "." || segment == ".." || (segment.is_empty() && !is_last) {
            return false;
        }
    }
    // An encoded byte may be part of a letter of another script, but not a character with a meaning
    // in a path.
    path.bytes().all(plain) && encoded(path).is_some_and(|bytes| bytes.iter().all(|b| *b >= 0x80))
}

/// Whether no pair of the query is our parameter, or could be read as it.
fn is_query(query: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%=&+:,@/!*()".contains(&b);
    let is_ours = |key: &str| {
        key.contains(['%', '+']) || key.to_ascii_lowercase().trim_start_matches('_').starts_with(PARAMETER)
    };
    query.bytes().all(plain)
        && encoded(query).is_some_and(|bytes| bytes.iter().all(|b| *b >= 0x20 && *b != 0x7f))
        && !query.split('&').any(|pair| is_ours(pair.split('=').next().unwrap_or_default()))
}

/// The encoded bytes in a text; `None` if a `%` does not begin one.
fn encoded(text: &str) -> Option<Vec<u8>> {
    let digits = |part: &str| {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    };
    text.split('%').skip(1).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<String> {
        ["https://shop.example/checkout", "https://other.example", "http://127.0.0.1:9000/back/"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn only_what_is_listed_or_below_it_is_a_way_back() {
        for good in [
            "https://shop.example/checkout",
            "https://shop.example/checkout/",
            "https://shop.example/checkout/cart/7",
            "https://shop.example/checkout?cart=7&step=pay",
            "https://shop.example/checkout/%E5%95%86%E5%BA%97?q=%2Fa+b",
            "https://other.example",
            "https://other.example/",
            "https://other.example/any/where?x=1",
            "https://other.example?x",
            "http://127.0.0.1:9000/back/here",
        ] {
            assert_eq!(ReturnUrl::parse(good, &list()).as_ref().map(ReturnUrl::as_str), Some(good));
        }
        for (bad, why) in HOSTILE {
            assert_eq!(ReturnUrl::parse(bad, &list()), None, "{bad:?}: {why}");
        }
        let long = format!("https://other.example/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(ReturnUrl::parse(&long, &list()), None);
        assert_eq!(ReturnUrl::parse("https://shop.example/", &[]), None);
    }

    const HOSTILE: [(&str, &str); 52] = [
        ("", "nothing"),
        ("/checkout", "relative"),
        ("//evil.example/checkout", "without a scheme"),
        ("https:/shop.example/checkout", "one slash"),
        ("https:shop.example/checkout", "no slash"),
        ("https:\\\\shop.example\\checkout", "backslashes"),
        ("http://shop.example/checkout", "another scheme"),
        ("HTTPS://shop.example/checkout", "another spelling"),
        ("javascript:alert(1)//https://shop.example/checkout", "a script"),
        ("data:text/html,https://shop.example/checkout", "a document"),
        (" https://shop.example/checkout", "a space in front"),
        ("\thttps://shop.example/checkout", "a tab in front"),
        ("https://evil.example/https://shop.example/checkout", "another host"),
        ("https://evil.example?https://shop.example/checkout", "another host"),
        ("https://shop.example.evil.example/checkout", "a longer host"),
        ("https://evilshop.example/checkout", "a longer host in front"),
        ("https://shop.example:443/checkout", "a port"),
        ("https://shop.example:8443/checkout", "another port"),
        ("https://shop.example@evil.example/checkout", "a user"),
        ("https://shop.example:x@evil.example/checkout", "a user with a password"),
        ("https://user@shop.example/checkout", "a user at our host"),
        ("https://other.example@evil.example", "a user after an origin"),
        ("https://other.example.evil.example", "a longer host after an origin"),
        ("https://other.example:8443/", "a port behind an origin"),
        ("https://other.example\\.evil.example", "a backslash behind an origin"),
        ("https://other.example\\@evil.example", "a backslash and a user"),
        ("https://other.example%2f@evil.example", "an encoded slash and a user"),
        ("https://other.example#@evil.example", "a fragment behind an origin"),
        ("https://other.example;@evil.example", "a semicolon"),
        ("https://other.example//evil.example", "two slashes"),
        ("https://other.example/a//evil.example", "two slashes later"),
        ("https://other.example/\\evil.example", "a slash and a backslash"),
        ("https://other.example/%5cevil.example", "an encoded backslash"),
        ("https://shop.example/checkoutevil", "no border of a segment"),
        ("https://shop.example/checkout.evil", "no border either"),
        ("https://shop.example/checkout%2fx", "an encoded border"),
        ("https://shop.example/", "above the path"),
        ("https://shop.example/checkout/../admin", "up"),
        ("https://shop.example/checkout/..", "up, at the end"),
        ("https://shop.example/checkout/./x", "here"),
        ("https://shop.example/checkout/%2e%2e/admin", "encoded up"),
        ("https://shop.example/checkout/.%2E/admin", "half encoded up"),
        ("https://shop.example/checkout/..;/admin", "up with a parameter"),
        ("https://shop.example/checkout/%00", "an encoded nothing"),
        ("https://shop.example/checkout/%zz", "no code"),
        ("https://shop.example/checkout?x=%0d%0aset-cookie:%20a", "an encoded line's end"),
        ("https://shop.example/checkout?x=\r\nset-cookie: a", "a line's end"),
        ("https://shop.example/checkout#x", "a fragment, behind which the outcome would be lost"),
        ("https://shop.example/checkout?floodgate=forged", "an outcome of their own"),
        ("https://shop.example/checkout?x=1&%66loodgate=forged", "the same, encoded"),
        ("https://shop.example/checkout?x=1;floodgate=forged", "the same, for older readers"),
        ("https://shop.example/checkout?x=1&FloodGate[]=forged", "the same, as a list"),
    ];

    #[test]
    fn an_entry_of_the_list_is_a_place_and_nothing_else() {
        assert!(list().iter().all(|entry| is_entry(entry)));
        for bad in [
            "",
            "shop.example",
            "http://shop.example/checkout",
            "http://127.0.0.1.evil.example",
            "http://localhostevil.example",
            "https://shop.example/check out",
            "https://shop.example/checkout?x",
            "https://shop.example/checkout#x",
            "https://shop.example//checkout",
            "https://shop.example/../checkout",
            "https://user@shop.example/",
            "https://shop.example:443/",
            "https://*.example/",
        ] {
            assert!(!is_entry(bad), "{bad:?}");
        }
    }
}
