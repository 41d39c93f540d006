//! The URL of an endpoint, judged by its form alone: which addresses it leads to, and whether a
//! message may go there, is judged at each connection.

use http::{HeaderValue, Uri};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

const URL_BYTES_MAX: usize = 2048;
/// Characters of a host name, and of one label of it (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// An `https` or `http` URL with a host, and without credentials or a fragment. At most 2,048
/// bytes. Plain `http` is refused later where [`super::Settings`] do not allow it.
#[derive(Clone)]
pub struct EndpointUrl {
    text: Box<str>,
    is_https: bool,
    host: Host,
    port: u16,
    /// Scheme, host and port, in one form: what connections are shared by.
    origin: Arc<str>,
    /// What the request's first line has.
    target: Uri,
    /// What the header `host` has.
    host_header: HeaderValue,
}

#[derive(Debug, Clone)]
pub(super) enum Host {
    Name(Arc<str>),
    Address(IpAddr),
}

impl EndpointUrl {
    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is `https`.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    pub(super) fn target(&self) -> &Uri {
        &self.target
    }

    pub(super) fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

impl FromStr for EndpointUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("url of {} bytes: want at most {URL_BYTES_MAX}", text.len()));
        }
        let wrong = |why: &str| format!("url {text:?}: {why}");
        // `Uri` takes some that RFC 3986 does not, and drops a fragment without a word.
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(*c)) {
            return Err(wrong(&format!("character {c:?}: write it percent-encoded, a name as xn--")));
        }
        if text.contains('#') {
            return Err(wrong("has a fragment: leave it out"));
        }
        let uri: Uri =
            text.parse().map_err(|e| wrong(&format!("{e}: want such as https://shop.example/hook")))?;
        let (is_https, port_usual) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(wrong("want https://")),
        };
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("has credentials: leave them out, each message is signed"));
        }
        let name = uri.host().unwrap_or_default();
        let port = match authority.strip_prefix(name) {
            Some("") => port_usual,
            Some(port) => {
                let port = port.strip_prefix(':').filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
                let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
                port.ok_or_else(|| wrong("port: want 1 to 65535"))?
            }
            None => return Err(wrong("host: want a name or an address")),
        };
        let host =
            host(name).ok_or_else(|| wrong("host: want a name such as shop.example, or an address"))?;
        let shown = match &host {
            Host::Name(name) => name.to_string(),
            Host::Address(IpAddr::V4(v4)) => v4.to_string(),
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        let scheme = if is_https { "https" } else { "http" };
        let header = if port == port_usual { shown.clone() } else { format!("{shown}:{port}") };
        let target =
            format!("{}{}", uri.path(), uri.query().map(|query| format!("?{query}")).unwrap_or_default());
        Ok(Self {
            is_https,
            host,
            port,
            origin: format!("{scheme}://{shown}:{port}").into(),
            target: target.parse().map_err(|e| wrong(&format!("path: {e}")))?,
            host_header: HeaderValue::try_from(header).map_err(|e| wrong(&format!("host: {e}")))?,
            text: text.into(),
        })
    }
}

/// A host name or an address. A name that ends in a number is neither: resolvers take `0x7f.1` for
/// an address, and a reader does not.
fn host(text: &str) -> Option<Host> {
    if let Some(v6) = text.strip_prefix('[') {
        return v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|v6| Host::Address(v6.into()));
    }
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Some(Host::Address(v4.into()));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let ends_in_number = name.rsplit('.').next()?.starts_with(|c: char| c.is_ascii_digit());
    let is_name = name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label) && !ends_in_number;
    is_name.then(|| Host::Name(text.to_ascii_lowercase().into()))
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl PartialEq for EndpointUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EndpointUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_one_meaning() {
        for (text, want) in [
            ("https://shop.example", "https://shop.example:443 shop.example /"),
            ("https://Shop.Example/Hook?a=b", "https://shop.example:443 shop.example /Hook?a=b"),
            ("https://shop.example?a=b", "https://shop.example:443 shop.example /?a=b"),
            ("https://shop.example:8443/", "https://shop.example:8443 shop.example:8443 /"),
            ("http://shop.example:80/", "http://shop.example:80 shop.example /"),
            ("HTTP://10.0.0.1/a", "http://10.0.0.1:80 10.0.0.1 /a"),
            ("https://[::1]:1/", "https://[::1]:1 [::1]:1 /"),
            ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example:443 xn--bcher-kva.example /"),
        ] {
            let url: EndpointUrl = text.parse().unwrap();
            let host = url.host_header.to_str().unwrap();
            assert_eq!(format!("{} {host} {}", url.origin, url.target), want);
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn what_has_another_form_is_refused_with_a_reason() {
        let long = format!("https://shop.example/{}", "a".repeat(URL_BYTES_MAX));
        for (text, want) in [
            ("", "url \"\""),
            ("shop.example", "want https://"),
            ("ftp://shop.example/", "want https://"),
            ("/hook", "want https://"),
            ("https://", "url \"https://\""),
            ("https:///hook", "url \"https:///hook\""),
            ("https://user:word@shop.example/", "credentials"),
            ("https://shop.example@10.0.0.1/", "credentials"),
            ("https://shop.example/#part", "fragment"),
            ("https://shop.example/ a", "character ' '"),
            ("https://shop.example\\@a/", "character '\\\\'"),
            ("https://bücher.example/", "character 'ü'"),
            ("https://shop.example:0/", "port"),
            ("https://shop.example:99999/", "port"),
            ("https://shop.example:/", "port"),
            ("https://0x7f.1/", "host"),
            ("https://2130706433/", "host"),
            ("https://127.1/", "host"),
            ("https://a..b/", "host"),
            ("https://a.%41/", "url"),
            ("https://[fe80::1%25eth0]/", "url"),
            (&long, "want at most 2048"),
        ] {
            let error = text.parse::<EndpointUrl>().expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
