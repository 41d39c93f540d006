//! Who looks at the page of a sale, and the token in that visitor's forms: a shopper whom the shop
//! has sent with its token, or, in a demo, anybody.

use crate::{
    keys::Keyring,
    pass::{self, Pass},
    passes::Passes,
    shop_page::ShopPage,
};
use contracts::SaleId;
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use units::{DurationMs, TimeMs};
use web::{body::cookie, jwt::Shopper, secret::random_bytes};

/// How long the page knows a shopper, unless passes are good for less: from well before an opening
/// until what was bought is paid. The shop sends its shopper anew with one button.
pub(super) const ENTERED_SECONDS_MAX: u64 = 6 * 3600;
const DEMO_COOKIE: &str = "floodgate_demo";
const DEMO_COOKIE_SECONDS: u64 = 30 * 86_400;

/// The visitor of a sale's page.
#[derive(Debug, Clone)]
pub(super) enum Visitor {
    /// The cookie is a pass: it proves that the shop's token and a solution were checked.
    Shopper(Pass),
    Demo(DemoVisitor),
}

impl Visitor {
    /// The visitor whose cookies these are; none if this gate did not make them, or they are over.
    pub(super) fn known(shop: &ShopPage, sale: &str, headers: &HeaderMap) -> Option<Self> {
        let (keys, now) = (&shop.attempts.keys, shop.protection.now());
        let entered = cookie(headers, &cookie_name(shop, sale))
            .and_then(|text| pass::verify(keys, text.as_bytes(), sale, now).ok());
        let of_demo = || DemoVisitor::known(keys, headers).filter(|_| shop.is_demo(sale));
        entered.map(Self::Shopper).or_else(|| of_demo().map(Self::Demo))
    }

    /// With what the visitor makes attempts.
    pub(super) fn pass(&self, keys: &Keyring, now: TimeMs) -> Option<Pass> {
        match self {
            Self::Shopper(pass) => Some(*pass),
            Self::Demo(visitor) => visitor.pass(keys, now),
        }
    }

    /// The pass for the page's script.
    pub(super) fn issue(&self, passes: &Passes, sale: &SaleId) -> Option<String> {
        match self {
            Self::Shopper(known) => Some(pass::issue(&passes.keys, sale, known)),
            Self::Demo(visitor) => passes.issue(sale, &visitor.shopper()).map(|(pass, _)| pass),
        }
    }

    /// The token in the forms of this visitor. Another site cannot read it, and so cannot forge a
    /// form; and a page of one shopper is not sent as another who has entered since.
    pub(super) fn csrf(&self, keys: &Keyring, sale: &str) -> String {
        match self {
            Self::Shopper(pass) => keys.page_token("csrf of a shopper", &[&pass.shopper.to_string(), sale]),
            Self::Demo(visitor) => keys.page_token("csrf", &[&visitor.id, sale]),
        }
    }

    pub(super) fn is_csrf(&self, keys: &Keyring, sale: &str, token: &str) -> bool {
        match self {
            Self::Shopper(pass) => {
                keys.is_page_token(token, "csrf of a shopper", &[&pass.shopper.to_string(), sale])
            }
            Self::Demo(visitor) => keys.is_page_token(token, "csrf", &[&visitor.id, sale]),
        }
    }
}

/// The cookie of a shopper at one sale, so that two sales in one browser do not disturb each other.
/// With TLS no other host of the domain can set it: who could would have shoppers buy for another.
fn cookie_name(shop: &ShopPage, sale: &str) -> String {
    let prefix = if shop.protection.is_https { "__Host-" } else { "" };
    format!("{prefix}floodgate-{sale}")
}

/// Gives the shopper the cookie for so many seconds; takes it away with 0.
pub(super) fn entered_cookie(shop: &ShopPage, sale: &str, pass: &str, seconds: u64) -> String {
    let secure = if shop.protection.is_https { "; Secure" } else { "" };
    let name = cookie_name(shop, sale);
    format!("{name}={pass}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// A demo's shopper. The cookie proves no identity; it only distinguishes the shoppers of a demo.
#[derive(Debug, Clone)]
pub(super) struct DemoVisitor {
    id: String,
}

impl DemoVisitor {
    fn known(keys: &Keyring, headers: &HeaderMap) -> Option<Self> {
        let (id, proof) = cookie(headers, DEMO_COOKIE)?.split_once('.')?;
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
            "{DEMO_COOKIE}={}.{proof}; Path=/; Max-Age={DEMO_COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}",
            self.id
        )
    }

    fn shopper(&self) -> Shopper {
        Shopper { id: format!("demo-{}", self.id), tier: 0 }
    }

    fn pass(&self, keys: &Keyring, now: TimeMs) -> Option<Pass> {
        let (shopper, sealed) = keys.seal(&self.shopper().id)?;
        Some(Pass { shopper, sealed, tier: 0, expires_at: now.plus(DurationMs::seconds(60)) })
    }
}
