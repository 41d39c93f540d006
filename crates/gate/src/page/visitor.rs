//! Who looks at the page and in which language: the demo's cookie, the form's token, the query. A visitor proves nothing; the
//! cookie only keeps one demo shopper apart from the next.

use crate::{
    jwt::Shopper,
    keys::{Keyring, random_bytes},
    pass::Pass,
    state::Gate,
};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, header};
use units::{DurationMs, TimeMs};

const COOKIE: &str = "floodgate_demo";
const COOKIE_SECONDS: u64 = 30 * 86_400;

/// The page's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lang {
    En,
    Zh,
}

impl Lang {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// `?lang=` first, then Accept-Language (RFC 9110, section 12.5.4), then English.
    pub(super) fn of(lang: Option<&str>, headers: &HeaderMap) -> Self {
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

/// A demo shopper.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    id: String,
}

impl Visitor {
    /// The visitor whose cookie this is; none if it is not of our making.
    pub(super) fn known(keys: &Keyring, headers: &HeaderMap) -> Option<Self> {
        let (id, proof) = cookie(headers, COOKIE)?.split_once('.')?;
        (id.len() == 22 && keys.is_page_token(proof, "demo cookie", &[id]))
            .then(|| Self { id: id.to_owned() })
    }

    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { id: BASE64URL_NOPAD.encode(&random_bytes::<16>()?) })
    }

    pub(super) fn set_cookie(&self, gate: &Gate) -> String {
        let proof = gate.keys.page_token("demo cookie", &[&self.id]);
        let secure = if gate.config.public_origin.starts_with("https://") { "; Secure" } else { "" };
        format!(
            "{COOKIE}={}.{proof}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}",
            self.id
        )
    }

    pub(super) fn shopper(&self) -> Shopper {
        Shopper { id: format!("demo-{}", self.id), tier: 0 }
    }

    pub(super) fn pass(&self, keys: &Keyring, now: TimeMs) -> Option<Pass> {
        let (shopper, sealed) = keys.seal(&self.shopper().id)?;
        Some(Pass { shopper, sealed, tier: 0, expires_at: now.plus(DurationMs::seconds(60)) })
    }

    /// What a form of this visitor's carries; another site cannot read it and so cannot forge the form.
    pub(super) fn csrf(&self, keys: &Keyring, sale: &str) -> String {
        keys.page_token("csrf", &[&self.id, sale])
    }

    pub(super) fn is_csrf(&self, keys: &Keyring, sale: &str, token: &str) -> bool {
        keys.is_page_token(token, "csrf", &[&self.id, sale])
    }
}

/// A cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut pairs =
        headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs.find_map(|pair| pair.trim().split_once('=').filter(|(n, _)| *n == name).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_asked_for_or_accepted() {
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
}
