//! The return to a shop with something that it can check: a ticket, or the signed outcome of an
//! attempt.

use crate::{
    keys::Keyring,
    outcome::Outcome,
    pass::Pass,
    problem::{self, Problem},
    return_url::ReturnUrl,
    ticket,
};
use contracts::{AttemptId, Basket, HoldState, SHOPPER_ID_BYTES_MAX, SaleView};
use serde::Serialize;
use std::{fmt, sync::Arc};
use units::{Sequence, TimeMs};
use web::protection::Protection;

/// How long a signed outcome is valid: enough for a slow phone to return to the shop.
const GOOD_FOR_SECONDS: u64 = 600;

/// The signed outcome of an attempt without a ticket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) sale: &'a str,
    pub(crate) attempt: AttemptId,
    pub(crate) outcome: &'a str,
    pub(crate) as_of: Option<Sequence>,
    pub(crate) shopper: Option<&'a str>,
}

/// The claims, with the names of RFC 7519 where it has them.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    sale: &'a str,
    attempt: AttemptId,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper: Option<&'a str>,
    iat: u64,
    exp: u64,
}

/// The return URLs that this gate allows.
pub(crate) struct WaysBack {
    pub(crate) keys: Arc<Keyring>,
    /// The list of the configuration.
    pub(crate) return_urls: Vec<String>,
    pub(crate) protection: Arc<Protection>,
}

impl fmt::Debug for WaysBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaysBack").field("return_urls", &self.return_urls).finish_non_exhaustive()
    }
}

impl WaysBack {
    /// The return URL of a request, or 422 if it is not allowed.
    pub(crate) fn named(&self, text: Option<&str>) -> Result<Option<ReturnUrl>, Problem> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        let url = ReturnUrl::parse(text, &self.return_urls);
        url.map(Some).ok_or_else(|| {
            let why = "return_url: not one of gate.return_urls, nor below one, to the letter";
            Problem::new(&problem::INVALID, why)
        })
    }

    /// The return URL with what the shop can check: the ticket while the hold is held or confirmed,
    /// otherwise the outcome. `None` while nothing is decided, or if the decision is about this
    /// moment only. `basket` is what the attempt asked for, if the sale keeps it.
    pub(crate) fn signed(
        &self,
        to: &ReturnUrl,
        view: &SaleView,
        outcome: &Outcome,
        pass: &Pass,
        basket: Option<&Basket>,
    ) -> Option<String> {
        let name = match (&outcome.hold, outcome.outcome) {
            (Some(hold), _) if matches!(hold.state, HoldState::Held | HoldState::Confirmed) => {
                return ticket::sign(&self.keys, view, pass, basket?, hold).map(|ticket| to.with(&ticket));
            }
            (Some(hold), _) => hold.state.as_str(),
            (None, "queued" | "none" | "not_open" | "paused") => return None,
            (None, name) => name,
        };
        let (attempt, as_of) = (outcome.attempt, outcome.as_of);
        let shopper = self.keys.unseal(pass.shopper, &pass.sealed);
        let said =
            Said { sale: view.sale.as_str(), attempt, outcome: name, as_of, shopper: shopper.as_deref() };
        Some(to.with(&sign(&self.keys, to, said, self.protection.now())))
    }
}

/// Signs an outcome for the shop at a return URL: a compact JWS (RFC 7515), valid for ten minutes.
pub(crate) fn sign(keys: &Keyring, to: &ReturnUrl, said: Said<'_>, now: TimeMs) -> String {
    let Said { sale, attempt, outcome, as_of, shopper } = said;
    let shopper = shopper.filter(|id| id.len() <= SHOPPER_ID_BYTES_MAX);
    let iat = now.0 / 1000;
    let exp = iat + GOOD_FOR_SECONDS;
    let claims = Claims { aud: to.origin(), sale, attempt, outcome, as_of, shopper, iat, exp };
    let claims = serde_json::to_vec(&claims).expect("claims have no map with odd keys");
    keys.outcomes().sign(&claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signature, VerifyingKey};

    #[test]
    fn a_signed_outcome_is_for_one_shop_and_ten_minutes() {
        let keys = Keyring::from_master(&[7; 32]);
        let to = ReturnUrl::parse(
            "https://shop.example/checkout?cart=7",
            &["https://shop.example/checkout".to_owned()],
        )
        .unwrap();
        let (attempt, as_of) = (AttemptId([1; 16]), Some(Sequence(9)));
        let said = Said { sale: "demo", attempt, outcome: "sold_out", as_of, shopper: Some("al\"ice") };
        let text = sign(&keys, &to, said, TimeMs(5_500));
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let signature =
            Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
        let public = VerifyingKey::from_bytes(keys.outcomes().key().public()).unwrap();
        public.verify_strict(signed.as_bytes(), &signature).unwrap();
        for other in [keys.tickets().key().public(), keys.winners().public()] {
            let other = VerifyingKey::from_bytes(other).unwrap();
            assert!(other.verify_strict(signed.as_bytes(), &signature).is_err(), "each key has one purpose");
        }
        let parts: Vec<String> = signed
            .split('.')
            .map(|part| String::from_utf8(BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap())
            .collect();
        assert!(parts[0].contains(r#""typ":"floodgate-outcome+jws""#), "{}", parts[0]);
        let want = r#"{"aud":"https://shop.example","sale":"demo","attempt":"01010101010101010101010101010101","outcome":"sold_out","as_of":9,"shopper":"al\"ice","iat":5,"exp":605}"#;
        assert_eq!(parts[1], want);
        assert_eq!(to.with(&text), format!("https://shop.example/checkout?cart=7&floodgate={text}"));
    }
}
