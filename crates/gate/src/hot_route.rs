//! Which targets the connection loops serve themselves.

/// A path of a hot route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HotRoute<'a> {
    /// `/api/v1/sales/{sale}`
    Sale(&'a str),
    /// `/api/v1/sales/{sale}/rounds/{key}/attempts`
    Round { sale: &'a str, key: &'a str },
}

/// The hot route that a target names, if it has no query and nothing that would have to be decoded.
pub fn hot_route(target: &str) -> Option<HotRoute<'_>> {
    let rest = target.strip_prefix("/api/v1/sales/")?;
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let Some((sale, rest)) = rest.split_once('/') else {
        return plain(rest).then_some(HotRoute::Sale(rest));
    };
    let key = rest.strip_prefix("rounds/")?.strip_suffix("/attempts")?;
    (plain(sale) && plain(key)).then_some(HotRoute::Round { sale, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_hot() {
        let path = "/api/v1/sales/demo/rounds/k/attempts";
        assert_eq!(hot_route(path), Some(HotRoute::Round { sale: "demo", key: "k" }));
    }

    #[test]
    fn only_plain_paths_are_hot() {
        assert_eq!(hot_route("/api/v1/sales/demo"), Some(HotRoute::Sale("demo")));
        for cold in [
            "/",
            "/api/v1/sales/",
            "/api/v1/sales/demo?x=1",
            "/api/v1/sales/d%65mo",
            "/api/v1/sales/demo/",
            "/api/v1/sales/demo/rounds//attempts",
            "/api/v1/sales/demo/rounds/a/b/attempts",
            "/api/v1/sales/../rounds/k/attempts",
            "/api/v1/sales/demo/attempts",
        ] {
            assert_eq!(hot_route(cold), None, "{cold}");
        }
    }
}
