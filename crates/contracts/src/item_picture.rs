//! An item's picture on the sale's page. Browsers load it from where it is: the sale never does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Origins of the pictures of one sale. Each is a word of a header of its page.
pub const PICTURE_ORIGINS_MAX: usize = 8;
const URL_BYTES_MAX: usize = 1024;
const HOST_BYTES_MAX: usize = 253;
const SIDE_PIXELS_MAX: u32 = 10_000;
const ALT_CHARS_MAX: usize = 200;

/// A picture of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemPicture {
    /// Where browsers load it: an origin of https (or http) and a path, and no fragment.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    /// Its size in pixels, so that it keeps its room while it loads.
    #[schemars(range(min = 1, max = 10_000))]
    pub width: u32,
    #[schemars(range(min = 1, max = 10_000))]
    pub height: u32,
    /// What it shows, in words.
    #[schemars(length(min = 1, max = 200))]
    pub alt: String,
    /// The same on Chinese pages; `alt` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub alt_zh: Option<String>,
}

impl ItemPicture {
    /// Scheme, host and port, as browsers write them.
    pub fn origin(&self) -> Option<&str> {
        split(&self.url).map(|(origin, _)| origin)
    }

    /// Whether a sale's document may have it.
    pub fn is_good(&self) -> bool {
        self.wrong().is_none()
    }

    /// The field that is wrong, and what it should be.
    pub(crate) fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let is_alt = |alt: &str| (1..=ALT_CHARS_MAX).contains(&alt.chars().count());
        let is_side = |pixels| (1..=SIDE_PIXELS_MAX).contains(&pixels);
        if self.url.len() > URL_BYTES_MAX || !split(&self.url).is_some_and(|(_, path)| is_path(path)) {
            let want = "want such as \"https://media.example/phone.webp\": https (or http), a host in small letters, a path, no user, no fragment, \
                 no port that is the scheme's own, other characters encoded, at most 1024 bytes";
            return Some(("url", want));
        }
        if !is_side(self.width) || !is_side(self.height) {
            let name = if is_side(self.width) { "height" } else { "width" };
            return Some((name, "want 1 to 10000 pixels"));
        }
        if !is_alt(&self.alt) {
            return Some(("alt", "want what the picture shows, in 1 to 200 characters"));
        }
        let is_right = self.alt_zh.as_deref().is_none_or(is_alt);
        (!is_right).then_some(("alt_zh", "want 1 to 200 characters"))
    }

    /// Whether browsers would load it without TLS, from another machine than theirs.
    pub(crate) fn is_in_clear(&self) -> bool {
        let host = self.url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next());
        host.is_some_and(|host| !matches!(host, Some("127.0.0.1" | "localhost")))
    }
}

/// Origin, and path with query. The origin becomes a word of a Content-Security-Policy, so nothing
/// is in it that could end a word there.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let own_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let (authority, _) = rest.split_at(rest.find('/')?);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    // Browsers take what ends in a number for an address.
    let is_number =
        |host: &str| host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    let is_host = |host: &str| {
        host.len() <= HOST_BYTES_MAX
            && host.split('.').all(is_label)
            && (!is_number(host) || host.parse::<std::net::Ipv4Addr>().is_ok())
    };
    let is_port =
        |port: &str| port != own_port && port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port);
    let is_good = is_host(host) && port.is_none_or(is_port);
    is_good.then(|| url.split_at(scheme.len() + "://".len() + authority.len()))
}

/// A path with a query, in the characters of RFC 3986.
fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%/!$&'()*+,;=:@?".contains(&b);
    let is_code = |part: &str| {
        part.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    path.bytes().all(plain) && path.split('%').skip(1).all(is_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(url: &str) -> ItemPicture {
        ItemPicture { url: url.into(), width: 1, height: 10_000, alt: "A phone".into(), alt_zh: None }
    }

    #[test]
    fn a_url_is_an_origin_and_a_path() {
        for (good, origin) in [
            ("https://media.example/phone.webp", "https://media.example"),
            ("https://media.example:8443/a/b.svg?v=2&w=%20", "https://media.example:8443"),
            ("http://127.0.0.1:8090/media/a.svg", "http://127.0.0.1:8090"),
        ] {
            let picture = picture(good);
            assert_eq!((picture.wrong(), picture.origin()), (None, Some(origin)), "{good}");
        }
        let long = format!("https://media.example/{}", "a".repeat(1024));
        let long_label = format!("https://{}.example/a", "a".repeat(64));
        let long_host = format!("https://{}example/a", "aaaaaaaaa.".repeat(25));
        for bad in [
            "",
            "/phone.webp",
            "https://media.example",
            "https:///phone.webp",
            "ftp://media.example/a",
            "data:image/png;base64,AA==",
            "javascript://a/%0aalert(1)",
            "https://Media.example/a",
            "https://user@media.example/a",
            "https://media.example:443/a",
            "http://media.example:80/a",
            "https://media.example:0/a",
            "https://media.example:/a",
            "https://*/a",
            "https://*.example/a",
            "https://media..example/a",
            "https://media.example; script-src */a",
            "https://media.example 'unsafe-inline'/a",
            "https://media.example\r\nx: y/a",
            "https://[::1]/a",
            "https://媒体.example/a",
            "https://media.example/手机.webp",
            "https://media.example/a#b",
            "https://media.example/a b",
            "https://media.example/%2",
            "https://media.example/\"><script>",
            "https://media_1.example/a",
            "https://1/a",
            "https://media.1/a",
            "https://1.2.3.256/a",
            &long_label,
            &long_host,
            &long,
        ] {
            assert_eq!(picture(bad).wrong().map(|(field, _)| field), Some("url"), "{bad}");
        }
    }

    #[test]
    fn a_wrong_field_of_a_picture_is_named() {
        let check = |change: fn(&mut ItemPicture), want| {
            let mut picture = picture("https://media.example/phone.webp");
            change(&mut picture);
            assert_eq!(picture.wrong().map(|(field, _)| field), want);
        };
        check(|_| {}, None);
        check(|p| p.width = 0, Some("width"));
        check(|p| p.height = 10_001, Some("height"));
        check(|p| p.alt.clear(), Some("alt"));
        check(|p| p.alt = "图".repeat(201), Some("alt"));
        check(|p| p.alt_zh = Some(String::new()), Some("alt_zh"));
        check(|p| p.alt_zh = Some("手机".into()), None);
    }

    #[test]
    fn only_a_picture_of_another_machine_in_clear_is_in_clear() {
        for (url, want) in [
            ("https://media.example/a", false),
            ("http://media.example/a", true),
            ("http://127.0.0.1:8090/a", false),
            ("http://localhost/a", false),
            ("http://localhost.example/a", true),
        ] {
            assert_eq!(picture(url).is_in_clear(), want, "{url}");
        }
    }
}
