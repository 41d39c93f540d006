//! Secrets that sign messages (Standard Webhooks 1.0.0, <https://www.standardwebhooks.com>): their
//! text form and the signature. It knows no HTTP.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use std::{fmt, io, str::FromStr};

const PREFIX: &str = "whsec_";
/// Bytes of a secret (Standard Webhooks, "Signature scheme": 24 to 64).
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;
/// Bytes of a generated one: as many as the output of SHA-256.
const BYTES_GENERATED: usize = 32;

/// A shared secret. Its text form is `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone)]
pub struct Secret {
    key: hmac::Key,
    bytes: Vec<u8>,
}

impl Secret {
    /// A new secret of 32 bytes, from the system's randomness. The error says that there is none.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = vec![0; BYTES_GENERATED];
        getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("random bytes: {e}")))?;
        Ok(Self::new(bytes))
    }

    /// The text form, in clear: for the shop that checks signatures, and for storage.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.bytes))
    }

    fn new(bytes: Vec<u8>) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes }
    }

    /// Appends `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`.
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &[u8], signature: &mut String) {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        signature.push_str("v1,");
        BASE64.encode_append(context.sign().as_ref(), signature);
    }
}

impl FromStr for Secret {
    type Err = String;
    /// The error does not repeat the text, which may be most of a secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("secret: {why}: want {PREFIX} and the base64 of 24 to 64 bytes");
        let code = text.strip_prefix(PREFIX).ok_or_else(|| wrong("another beginning"))?;
        let bytes = BASE64.decode(code.as_bytes()).map_err(|_| wrong("not base64"))?;
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return Err(wrong(&format!("{} bytes", bytes.len())));
        }
        Ok(Self::new(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        let secret = Secret::generate().unwrap();
        let again: Secret = secret.expose().parse().unwrap();
        assert_eq!(again.expose(), secret.expose());
        assert_ne!(Secret::generate().unwrap().expose(), secret.expose());
        assert_eq!(format!("{secret:?}"), "Secret");
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(&vec![7; bytes]));
        for (text, is_good) in [
            (of(23), false),
            (of(24), true),
            (of(64), true),
            (of(65), false),
            (of(32).replace("whsec_", ""), false),
            (of(32).replace('=', ""), false),
            ("whsec_".into(), false),
        ] {
            let read = text.parse::<Secret>();
            assert_eq!(read.is_ok(), is_good, "{text}: {read:?}");
            assert!(read.err().is_none_or(|error| !error.contains("BwcH")), "tells the secret");
        }
    }

    /// What the package `standardwebhooks` (PyPI) signs.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let mut signature = String::new();
        secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#, &mut signature);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
