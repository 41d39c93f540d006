//! Signatures of webhooks: `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY`
//! (Stripe's scheme, docs "Verify webhook signatures manually"). It knows no provider.

use crate::provider::WebhookError;
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use http::HeaderMap;
use units::{DurationMs, TimeMs};

/// How far a signature's time may be from now.
const TOLERANCE: DurationMs = DurationMs(300_000);
/// Signatures of one webhook that are looked at: while a secret is changed there are two.
const SIGNATURES_MAX: usize = 8;

/// What stands in the header.
pub(crate) fn sign(secret: &hmac::Key, at: TimeMs, body: &[u8]) -> String {
    let seconds = (at.0 / 1000).to_string();
    let signature = HEXLOWER.encode(hmac::sign(secret, &signed_text(&seconds, body)).as_ref());
    format!("t={seconds},v1={signature}")
}

/// Whether a webhook is the provider's: it has the header once, and one of its signatures is right
/// and not old.
pub(crate) fn verify(
    secret: &hmac::Key,
    (headers, name): (&HeaderMap, &str),
    body: &[u8],
    now: TimeMs,
) -> Result<(), WebhookError> {
    let refused = || WebhookError::Signature;
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(refused()) };
    let value = value.to_str().map_err(|_| refused())?;
    let parts = || value.split(',').filter_map(|part| part.trim().split_once('='));
    let seconds = parts().find(|(key, _)| *key == "t").ok_or_else(refused)?.1;
    let at: u64 = seconds.parse().map_err(|_| refused())?;
    let at = TimeMs(at.saturating_mul(1000));
    if now.since(at).0.max(at.since(now).0) > TOLERANCE.0 {
        return Err(refused());
    }
    let text = signed_text(seconds, body);
    let is_right = |signature: &str| {
        let signature = HEXLOWER.decode(signature.as_bytes());
        // It compares in constant time.
        signature.is_ok_and(|signature| hmac::verify(secret, &text, &signature).is_ok())
    };
    let mut signatures = parts().filter(|(key, _)| *key == "v1").take(SIGNATURES_MAX);
    if signatures.any(|(_, signature)| is_right(signature)) { Ok(()) } else { Err(refused()) }
}

fn signed_text(seconds: &str, body: &[u8]) -> Vec<u8> {
    [seconds.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_800_000_000_000);
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn check(headers: &[&str], body: &[u8], now: TimeMs) -> Result<(), WebhookError> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append("stripe-signature", value.parse().unwrap());
        }
        verify(&key(b"whsec_test"), (&map, "stripe-signature"), body, now)
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_for_this_body_alone() {
        let good = sign(&key(b"whsec_test"), NOW, BODY);
        assert_eq!(check(&[&good], BODY, NOW), Ok(()));
        assert_eq!(check(&[&good], BODY, NOW.plus(DurationMs(300_000))), Ok(()));
        assert_eq!(check(&[&good], BODY, TimeMs(NOW.0 - 300_000)), Ok(()));
        let refused = Err(WebhookError::Signature);
        assert_eq!(check(&[&good], BODY, NOW.plus(DurationMs(300_001))), refused);
        assert_eq!(check(&[&good], BODY, TimeMs(NOW.0 - 300_001)), refused);
        assert_eq!(check(&[&good], br#"{"id":"evt_2"}"#, NOW), refused);
        let forged = sign(&key(b"whsec_tess"), NOW, BODY);
        assert_eq!(check(&[&forged], BODY, NOW), refused);
        // While the secret is changed, the old one's signature stands beside the new one's.
        let both = format!("{forged},{}", good.split_once(',').unwrap().1);
        assert_eq!(check(&[&both], BODY, NOW), Ok(()));
        assert_eq!(check(&[&good, &good], BODY, NOW), refused);
        let moved = good.replace("t=1800000000", "t=1800000001");
        for wrong in ["", "t=1800000000", "v1=00", "t=x,v1=00", "t=1800000000,v1=zz", &moved] {
            assert_eq!(check(&[wrong], BODY, NOW), refused, "{wrong}");
        }
        assert_eq!(check(&[], BODY, NOW), refused);
    }

    /// From Stripe's own libraries' description: the text is the header's time, a point, the body.
    #[test]
    fn the_scheme_is_stripes() {
        let header = sign(&key(b"whsec_test_secret"), TimeMs(12_345_000), b"{}");
        let text = hmac::sign(&key(b"whsec_test_secret"), b"12345.{}");
        assert_eq!(header, format!("t=12345,v1={}", HEXLOWER.encode(text.as_ref())));
    }
}
