//! The language of a page, of the two that there are.

use crate::body::cookie;
use http::{HeaderMap, header};

/// The cookie in which a visitor's choice of the language stays.
pub const LANGUAGE_COOKIE: &str = "shop_lang";

/// The page's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    En,
    Zh,
}

impl Lang {
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// As pages name it (BCP 47).
    pub fn tag(self) -> &'static str {
        self.say("en", "zh-Hans")
    }

    /// The language that the query names, else the one that a cookie remembers; see [`Lang::of`].
    pub fn chosen(query: Option<&str>, headers: &HeaderMap) -> Self {
        let mut pairs = query.unwrap_or_default().split('&');
        let named = pairs.find_map(|pair| pair.strip_prefix("lang="));
        Self::of(named.or_else(|| cookie(headers, LANGUAGE_COOKIE)), headers)
    }

    /// The language by the whole query; see [`Lang::of`].
    pub fn asked(query: Option<&str>, headers: &HeaderMap) -> Self {
        let mut pairs = query.unwrap_or_default().split('&');
        Self::of(pairs.find_map(|pair| pair.strip_prefix("lang=")), headers)
    }

    /// `?lang=` first, then Accept-Language (RFC 9110, section 12.5.4), then English.
    pub fn of(lang: Option<&str>, headers: &HeaderMap) -> Self {
        let named = |tag: &str| match tag.trim().get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("zh") => Some(Self::Zh),
            Some("en") => Some(Self::En),
            _ => None,
        };
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut best = (0.0, Self::En);
        for range in accepted.split(',') {
            let (tag, q) = range.split_once(";q=").unwrap_or((range, "1"));
            let q: f32 = q.trim().parse().unwrap_or(0.0);
            if let Some(lang) = named(tag).filter(|_| q > best.0) {
                best = (q, lang);
            }
        }
        lang.and_then(named).unwrap_or(best.1)
    }
}

impl Lang {
    /// The text in this language.
    pub fn say<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_or_accept_language_sets_the_language() {
        let check = |lang: Option<&str>, accept: &str, want| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
            assert_eq!(Lang::of(lang, &headers), want, "{lang:?} {accept}");
        };
        check(None, "", Lang::En);
        check(None, "zh-CN,zh;q=0.9,en;q=0.8", Lang::Zh);
        check(None, "en;q=0.5,zh-Hans;q=0.6", Lang::Zh);
        check(None, "de,fr;q=0.9", Lang::En);
        check(Some("en"), "zh", Lang::En);
        check(Some("xx"), "zh", Lang::Zh);
    }

    #[test]
    fn a_choice_is_remembered_until_the_query_names_another() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=1; shop_lang=zh".parse().unwrap());
        assert_eq!(Lang::chosen(None, &headers), Lang::Zh);
        assert_eq!(Lang::chosen(Some("q=1&lang=en"), &headers), Lang::En);
        assert_eq!(Lang::asked(None, &headers), Lang::En, "pages of operators know no cookie");
    }
}
