//! Shopper tokens (RFC 7519), which the shop's log-in signs. A token is verified once, when the
//! pass is issued.
//!
//! Reading is strict ([`jose`]), each key is bound to one algorithm when it is read ([`keys`]), and
//! a token is refused for good only with keys that are newer than itself ([`source`]). A refused
//! token costs at most two signatures, as many as an accepted one may cost.

mod jose;
mod keys;
mod source;

pub use keys::shared_secret;

use crate::config::{JwtAlgorithm, JwtConfig};
use aws_lc_rs::hmac;
use contracts::{SHOPPER_ID_FORM, is_shopper_id};
use data_encoding::BASE64URL_NOPAD;
use jose::{Compact, Header, Item, Object, decode};
use keys::Key;
use serde::Serialize;
use source::{FileSource, Pace, Source, UrlSource, Verdict};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use units::TimeMs;

/// The clocks of the shop and of this server may differ by this much.
const LEEWAY_SECONDS: f64 = 30.0;
/// Keys that a token is tried against: the old and the new one, while a signer changes its key. If
/// more fit, the token must name its key.
const KEYS_TRIED_MAX: usize = 2;
/// The most members of a token's claims.
const CLAIMS_MAX: usize = 256;

/// The shopper whom a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shopper {
    /// 1 to 64 bytes.
    pub id: String,
    pub tier: u8,
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtError {
    Malformed,
    /// A member of its header is wrong.
    Header(&'static str),
    /// Its `alg` is not among the configured ones.
    Algorithm,
    /// Its `typ` is not the configured one.
    Type,
    /// It names no key, and more keys have its `alg` than are tried.
    KeyNotNamed,
    /// No key has its `alg` and `kid`.
    UnknownKey,
    /// No key is known yet, because the set could not be fetched. This says nothing about the
    /// token.
    NoKeysYet,
    /// No known key has signed it, and newer keys are being fetched. This says nothing about the
    /// token.
    KeysOutdated {
        retry_after_seconds: u32,
    },
    Signature,
    Issuer,
    Audience,
    Expired,
    /// `nbf` is in the future.
    NotYet,
    /// A claim is missing or has the wrong form.
    Claim(String),
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("token: no JWT"),
            Self::Header(why) => write!(f, "token: header: {why}"),
            Self::Algorithm => f.write_str("token: its alg is not one that this server accepts"),
            Self::Type => f.write_str("token: its typ is not the one that this server accepts"),
            Self::KeyNotNamed => {
                f.write_str("token: no kid, and several keys have its alg: the signer must name the key")
            }
            Self::KeysOutdated { .. } => {
                f.write_str("token: no known key has signed it; newer keys (jwt.jwks_url) are being fetched")
            }
            Self::NoKeysYet => {
                f.write_str("token: the keys to check it with (jwt.jwks_url) could not be fetched yet")
            }
            Self::UnknownKey => f.write_str("token: no known key for its alg and kid"),
            Self::Signature => f.write_str("token: wrong signature"),
            Self::Issuer => f.write_str("token: wrong or no iss"),
            Self::Audience => f.write_str("token: wrong or no aud"),
            Self::Expired => f.write_str("token: expired"),
            Self::NotYet => f.write_str("token: not valid yet (nbf)"),
            Self::Claim(why) => write!(f, "token: {why}"),
        }
    }
}

impl std::error::Error for JwtError {}

/// Checks shopper tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    issuer: String,
    audience: String,
    typ: String,
    algorithms: Vec<JwtAlgorithm>,
    source: Source,
}

impl JwtVerifier {
    /// Loads the keys that this section of the configuration names; `default_key_file` if it names
    /// none. Fails on a file that holds no key for a configured algorithm. With a URL that cannot
    /// be reached yet, tokens are refused until it can.
    pub fn open(section: &str, config: &JwtConfig, default_key_file: &Path) -> io::Result<Self> {
        Self::open_at(section, config, default_key_file, Pace::USUAL)
    }

    fn open_at(section: &str, config: &JwtConfig, default_key_file: &Path, pace: Pace) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        if let Some((key, want)) = config.wrong() {
            return Err(invalid(&format!("{section}.{key}: {want}")));
        }
        let algorithms = config.algorithms.clone();
        let source = if config.jwks_url.is_empty() {
            let is_set = !config.jwks_file.is_empty();
            let path = match (&*config.jwks_file, &*config.key_file) {
                ("", "") => default_key_file.to_owned(),
                ("", file) | (file, _) => PathBuf::from(file),
            };
            Source::File(FileSource::open(path, is_set, &algorithms)?)
        } else {
            Source::Url(UrlSource::open(config.jwks_url.clone(), &algorithms, pace)?)
        };
        let (issuer, audience, typ) = (config.issuer.clone(), config.audience.clone(), config.typ.clone());
        Ok(Self { issuer, audience, typ, algorithms, source })
    }

    /// Checks a token at a time.
    pub fn verify(&self, token: &str, now: TimeMs) -> Result<Shopper, JwtError> {
        let token = Compact::parse(token)?;
        let algorithm = self.check_header(&token.header)?;
        match self.try_keys(&token, algorithm)? {
            Ok(()) => self.accept(&token, now),
            Err(refused) => match self.source.verdict(token.signature) {
                Verdict::Final => Err(refused),
                Verdict::Later { retry_after_seconds } => Err(JwtError::KeysOutdated { retry_after_seconds }),
                Verdict::Again => self.try_keys(&token, algorithm)?.and_then(|()| self.accept(&token, now)),
            },
        }
    }

    fn check_header(&self, header: &Header) -> Result<JwtAlgorithm, JwtError> {
        let algorithm = JwtAlgorithm::of(&header.alg).filter(|of| self.algorithms.contains(of));
        let algorithm = algorithm.ok_or(JwtError::Algorithm)?;
        // RFC 8725, section 3.11: a token that is meant for something else says so. Most that are
        // meant for a log-in say "JWT", or nothing.
        let is_plain = self.typ.eq_ignore_ascii_case("JWT") && header.typ.is_none();
        match is_plain || header.is_typed(&self.typ) {
            true => Ok(algorithm),
            false => Err(JwtError::Type),
        }
    }

    /// Looks for the key that signed a token. The inner error may be over with newer keys.
    fn try_keys(
        &self,
        token: &Compact<'_>,
        algorithm: JwtAlgorithm,
    ) -> Result<Result<(), JwtError>, JwtError> {
        let kid = token.header.kid.as_deref();
        let tried = self.source.with_keys(|keys| {
            let mut signature = None;
            let mut refused = JwtError::UnknownKey;
            for (n, key) in candidates(keys, algorithm, kid).enumerate() {
                if n == KEYS_TRIED_MAX {
                    return Err(JwtError::KeyNotNamed);
                }
                refused = JwtError::Signature;
                if !key.fits(token.signature) {
                    continue;
                }
                let signature = match &mut signature {
                    Some(signature) => signature,
                    none => none.insert(decode(token.signature).ok_or(JwtError::Malformed)?),
                };
                if key.has_signed(token.signed, signature) {
                    return Ok(Ok(()));
                }
            }
            Ok(Err(refused))
        });
        // Of a file there is always a key.
        tried.unwrap_or(Err(JwtError::NoKeysYet))
    }

    /// Checks the claims of a token whose signature is right.
    fn accept(&self, token: &Compact<'_>, now: TimeMs) -> Result<Shopper, JwtError> {
        let claim = |why: String| JwtError::Claim(why);
        let bytes = decode(token.claims).ok_or(JwtError::Malformed)?;
        let claims = Object::parse(&bytes, CLAIMS_MAX).map_err(|why| claim(format!("claims: {why}")))?;
        match claims.get("iss") {
            Some(Item::Text(issuer)) if *issuer == self.issuer => {}
            _ => return Err(JwtError::Issuer),
        }
        let is_for_us = claims.get("aud").is_some_and(|audience| match audience {
            Item::Text(one) => *one == self.audience,
            many => many.texts().is_some_and(|many| many.contains(&&*self.audience)),
        });
        if !is_for_us {
            return Err(JwtError::Audience);
        }
        let date = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(item) => match item.seconds() {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(claim(format!("{name}: want seconds since 1970, as a number"))),
            },
        };
        let seconds = now.0 as f64 / 1000.0;
        let expires = date("exp")?.ok_or_else(|| claim("no exp".to_owned()))?;
        if seconds >= expires + LEEWAY_SECONDS {
            return Err(JwtError::Expired);
        }
        if date("nbf")?.is_some_and(|begins| begins > seconds + LEEWAY_SECONDS) {
            return Err(JwtError::NotYet);
        }
        date("iat")?;
        let id = match claims.get("sub") {
            None => return Err(claim("no sub".to_owned())),
            Some(Item::Text(id)) => id,
            Some(_) => return Err(claim("sub: want a string".to_owned())),
        };
        if !is_shopper_id(id) {
            let why = format!("sub: want {SHOPPER_ID_FORM}");
            return Err(claim(why));
        }
        let tier = match claims.get("tier") {
            None => Some(0),
            Some(Item::Whole(tier)) => u8::try_from(*tier).ok(),
            Some(_) => None,
        };
        let tier = tier.ok_or_else(|| claim("claims: tier: want 0 to 255".to_owned()))?;
        Ok(Shopper { id: id.clone().into_owned(), tier })
    }
}

/// The keys that may have signed a token: those of its algorithm under the name that it gives, then
/// those without a name. Without a name in the token: all of its algorithm.
fn candidates<'a>(
    keys: &'a [Key],
    algorithm: JwtAlgorithm,
    kid: Option<&'a str>,
) -> impl Iterator<Item = &'a Key> {
    let all = move || keys.iter().filter(move |key| key.algorithm == algorithm);
    let named = all().filter(move |key| kid.is_none() || key.kid.as_deref() == kid);
    named.chain(all().filter(move |key| kid.is_some() && key.kid.is_none()))
}

/// Signs a token with HS256, for `floodgate token`.
pub fn sign_token(
    secret: &[u8],
    config: &JwtConfig,
    shopper: &Shopper,
    now: TimeMs,
    valid_seconds: u64,
) -> String {
    #[derive(Serialize)]
    struct Head<'a> {
        alg: &'static str,
        typ: &'a str,
    }
    #[derive(Serialize)]
    struct Signed<'a> {
        iss: &'a str,
        aud: &'a str,
        sub: &'a str,
        tier: u8,
        iat: u64,
        exp: u64,
    }
    let encoded = |json: serde_json::Result<Vec<u8>>| {
        BASE64URL_NOPAD.encode(&json.expect("strings and numbers are JSON"))
    };
    let iat = now.0 / 1000;
    let (iss, aud, sub) = (&*config.issuer, &*config.audience, &*shopper.id);
    let claims = Signed { iss, aud, sub, tier: shopper.tier, iat, exp: iat + valid_seconds };
    let head = Head { alg: "HS256", typ: &config.typ };
    let signed = format!("{}.{}", encoded(serde_json::to_vec(&head)), encoded(serde_json::to_vec(&claims)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
