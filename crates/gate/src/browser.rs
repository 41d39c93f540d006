//! Whether a request looks like one of a browser. That is easy to imitate: this only finds clients
//! that do not try.

use http::{HeaderMap, header};

/// The default names of libraries and tools. Libraries of phone apps are not among them.
const LIBRARIES: [&str; 15] = [
    "aiohttp",
    "apache-httpclient",
    "axios",
    "curl",
    "go-http-client",
    "got (",
    "java/",
    "libwww-perl",
    "node",
    "phantomjs",
    "python",
    "reqwest",
    "ruby",
    "scrapy",
    "wget",
];

/// True if no browser sends such headers.
pub(crate) fn is_bare(headers: &HeaderMap) -> bool {
    let field =
        |name: header::HeaderName| headers.get(name).map(|value| value.as_bytes().to_ascii_lowercase());
    let (Some(agent), Some(_)) = (field(header::USER_AGENT), field(header::ACCEPT)) else { return true };
    // Headless Chromium has its name in the middle.
    if LIBRARIES.iter().any(|name| agent.starts_with(name.as_bytes()))
        || memchr::memmem::find(&agent, b"headlesschrome").is_some()
    {
        return true;
    }
    // Browsers send Host first, if there is one: HTTP/2 has it elsewhere. Some balancers put their
    // own fields before it.
    let first = headers.keys().next();
    headers.contains_key(header::HOST)
        && !headers.contains_key("x-forwarded-for")
        && first.is_some_and(|name| name != header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&'static str, &str)], want: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        assert_eq!(is_bare(&headers), want, "{fields:?}");
    }

    #[test]
    fn a_browser_is_told_from_a_library() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let host = ("host", "shop");
        check(&[host, ("user-agent", firefox), ("accept", "*/*")], false);
        check(&[host, ("accept", "*/*"), ("user-agent", "okhttp/4.12.0")], false);
        check(&[("user-agent", firefox), ("accept", "*/*")], false);
        check(&[host, ("accept", "*/*")], true);
        check(&[host, ("user-agent", firefox)], true);
        check(&[("accept", "*/*"), host, ("user-agent", firefox)], true);
        check(&[("x-forwarded-for", "203.0.113.9"), host, ("accept", "*/*"), ("user-agent", firefox)], false);
        let headless = firefox.replace("Firefox", "HeadlessChrome");
        for library in ["curl/8.5.0", "python-requests/2.32", "Go-http-client/1.1", "Wget/1.21", &headless] {
            check(&[host, ("user-agent", library), ("accept", "*/*")], true);
        }
    }
}
