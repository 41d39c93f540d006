//! The visitor of the page: the demo's cookie and the form's token. The cookie proves no identity;
//! it only distinguishes the shoppers of a demo.

use crate::{keys::Keyring, pass::Pass, shop_page::ShopPage};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use units::{DurationMs, TimeMs};
use web::{body::cookie, jwt::Shopper, secret::random_bytes};

const COOKIE: &str = "floodgate_demo";
const COOKIE_SECONDS: u64 = 30 * 86_400;

/// A demo shopper.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    id: String,
}

impl Visitor {
    /// The visitor whose cookie this is; none if this gate did not make it.
    pub(super) fn known(keys: &Keyring, headers: &HeaderMap) -> Option<Self> {
        let (id, proof) = cookie(headers, COOKIE)?.split_once('.')?;
        (id.len() == 22 && keys.is_page_token(proof, "demo cookie", &[id]))
            .then(|| Self { id: id.to_owned() })
    }

    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { id: BASE64URL_NOPAD.encode(&random_bytes::<16>()?) })
    }

    pub(super) fn set_cookie(&self, shop: &ShopPage) -> String {
        let proof = shop.attempts.keys.page_token("demo cookie", &[&self.id]);
        let secure = if shop.protection.is_https { "; Secure" } else { "" };
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

    /// The token in the forms of this visitor. Another site cannot read it, and so cannot forge a
    /// form.
    pub(super) fn csrf(&self, keys: &Keyring, sale: &str) -> String {
        keys.page_token("csrf", &[&self.id, sale])
    }

    pub(super) fn is_csrf(&self, keys: &Keyring, sale: &str, token: &str) -> bool {
        keys.is_page_token(token, "csrf", &[&self.id, sale])
    }
}
