//! Shopper tokens (RFC 7519), which the shop's log-in signs. Each key is bound to one algorithm
//! when it is loaded, so a token cannot choose how it is checked. A token is verified once, when
//! the pass is issued.

use crate::config::{JwtAlgorithm, JwtConfig};
use arc_swap::ArcSwap;
use contracts::{SHOPPER_ID_FORM, is_shopper_id};
use data_encoding::BASE64;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    errors::{Error, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};
use units::TimeMs;
use x509_cert::{
    der::{Decode, oid::ObjectIdentifier},
    spki::SubjectPublicKeyInfoOwned,
};

/// The clocks of the shop and of this server may differ by this much.
const LEEWAY_SECONDS: u64 = 30;
/// The most bytes of a token. Tokens of large identity providers have about 2,000.
const TOKEN_BYTES_MAX: usize = 4096;
const JWKS_BYTES_MAX: u64 = 256 * 1024;
const KEYS_MAX: usize = 32;
const SECRET_BYTES_MIN: usize = 32;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const FETCH_EVERY: Duration = Duration::from_secs(300);
/// The shortest time between two fetches of the set because of an unknown kid.
const FETCH_EVERY_MIN: Duration = Duration::from_secs(10);
const FILE_CHECK_EVERY_MS: u64 = 1000;

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
    /// Its `alg` is not among the configured ones.
    Algorithm,
    /// No key has its `alg` and `kid`.
    UnknownKey,
    /// No key is known yet, because the set could not be fetched. This says nothing about the
    /// token.
    NoKeysYet,
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
            Self::Algorithm => f.write_str("token: its alg is not one that this server accepts"),
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

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    tier: u8,
}

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Checks shopper tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    validation: Validation,
    keys: Arc<ArcSwap<Vec<Key>>>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Read again when the file changes.
    File {
        path: PathBuf,
        jwks: bool,
        stamp: std::sync::Mutex<Option<(SystemTime, u64)>>,
        checked_ms: AtomicU64,
        started: Instant,
    },
    /// A thread fetches the set. A message asks it to do so now.
    Url { wake: mpsc::SyncSender<()> },
}

impl JwtVerifier {
    /// Loads the keys that this section of the configuration names; `default_key_file` if it names
    /// none. Fails on a file that holds no key for a configured algorithm. With a URL that cannot
    /// be reached yet, tokens are refused until it can.
    pub fn open(section: &str, config: &JwtConfig, default_key_file: &Path) -> io::Result<Self> {
        let algorithms: Vec<Algorithm> = config.algorithms.iter().map(|&a| algorithm(a)).collect();
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
        if let Some((key, want)) = config.wrong() {
            return Err(invalid(&format!("{section}.{key}: {want}")));
        }
        let keys = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let source = if config.jwks_url.is_empty() {
            let jwks = !config.jwks_file.is_empty();
            let path = match (&*config.jwks_file, &*config.key_file) {
                ("", "") => default_key_file.to_owned(),
                ("", file) | (file, _) => PathBuf::from(file),
            };
            keys.store(Arc::new(load_file(&path, jwks, &algorithms)?));
            let stamp = std::sync::Mutex::new(stamp_of(&path));
            Source::File { path, jwks, stamp, checked_ms: AtomicU64::new(0), started: Instant::now() }
        } else {
            Source::Url {
                wake: spawn_fetcher(config.jwks_url.clone(), algorithms.clone(), Arc::clone(&keys))?,
            }
        };
        let mut validation = Validation::new(algorithms[0]);
        validation.algorithms = algorithms;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, against the caller's time.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self { validation, keys, source })
    }

    /// Checks a token at a time.
    pub fn verify(&self, token: &str, now: TimeMs) -> Result<Shopper, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| JwtError::Malformed)?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(JwtError::Algorithm);
        }
        self.reread_if_changed();
        let keys = self.keys.load();
        // A set without a usable key is never installed, so an empty one was never fetched.
        if keys.is_empty() && matches!(self.source, Source::Url { .. }) {
            return Err(JwtError::NoKeysYet);
        }
        let fits = |key: &&Key| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.kid.is_none() || key.kid == header.kid)
        };
        let mut refused = JwtError::UnknownKey;
        let validation = Validation { algorithms: vec![header.alg], ..self.validation.clone() };
        for key in keys.iter().filter(fits) {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return accept(token.claims, now),
                Err(e) => refused = refusal(&e),
            }
        }
        if let (JwtError::UnknownKey, Source::Url { wake }) = (&refused, &self.source) {
            let _ = wake.try_send(());
        }
        Err(refused)
    }

    fn reread_if_changed(&self) {
        let Source::File { path, jwks, stamp, checked_ms, started } = &self.source else { return };
        let now = started.elapsed().as_millis() as u64;
        let checked = checked_ms.load(Relaxed);
        let due = now >= checked + FILE_CHECK_EVERY_MS;
        if !due || checked_ms.compare_exchange(checked, now, Relaxed, Relaxed).is_err() {
            return;
        }
        let new = stamp_of(path);
        let mut stamp = stamp.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if new.is_none() || *stamp == new {
            return;
        }
        *stamp = new;
        match load_file(path, *jwks, &self.validation.algorithms) {
            Ok(keys) => {
                tracing::info!(path = %path.display(), keys = keys.len(), "shopper token keys read again");
                self.keys.store(Arc::new(keys));
            }
            Err(error) => tracing::error!(%error, "shopper token keys not read: the old ones stay in use"),
        }
    }
}

fn accept(claims: Claims, now: TimeMs) -> Result<Shopper, JwtError> {
    let seconds = now.0 / 1000;
    if seconds >= claims.exp.saturating_add(LEEWAY_SECONDS) {
        return Err(JwtError::Expired);
    }
    if claims.nbf > seconds + LEEWAY_SECONDS {
        return Err(JwtError::NotYet);
    }
    if !is_shopper_id(&claims.sub) {
        return Err(JwtError::Claim(format!("sub: want {SHOPPER_ID_FORM}")));
    }
    Ok(Shopper { id: claims.sub, tier: claims.tier })
}

fn refusal(error: &Error) -> JwtError {
    match error.kind() {
        ErrorKind::InvalidIssuer => JwtError::Issuer,
        ErrorKind::InvalidAudience => JwtError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => JwtError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => JwtError::Audience,
        ErrorKind::MissingRequiredClaim(claim) => JwtError::Claim(format!("no {claim}")),
        ErrorKind::InvalidClaimFormat(claim) => JwtError::Claim(format!("{claim} has the wrong form")),
        ErrorKind::Json(e) => JwtError::Claim(format!("claims: {e}")),
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => JwtError::Malformed,
        _ => JwtError::Signature,
    }
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
    struct Signed<'a> {
        iss: &'a str,
        aud: &'a str,
        sub: &'a str,
        tier: u8,
        iat: u64,
        exp: u64,
    }
    let iat = now.0 / 1000;
    let (iss, aud, sub) = (&*config.issuer, &*config.audience, &*shopper.id);
    let claims = Signed { iss, aud, sub, tier: shopper.tier, iat, exp: iat + valid_seconds };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .expect("HS256 signs whatever is given")
}

fn algorithm(configured: JwtAlgorithm) -> Algorithm {
    match configured {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

fn stamp_of(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn load_file(path: &Path, jwks: bool, algorithms: &[Algorithm]) -> io::Result<Vec<Key>> {
    let invalid =
        |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let bytes = fs::read(path).map_err(named)?;
    let keys = if jwks {
        keys_of_set(&bytes, algorithms).map_err(|e| invalid(&e.to_string()))?
    } else if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        key_of_pem(&bytes).into_iter().collect()
    } else {
        let secret = crate::secret::read_secret(path)?.trim_ascii().to_vec();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(invalid("an HS256 secret needs 32 bytes or more (RFC 7518, section 3.2)"));
        }
        vec![Key { kid: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(&secret) }]
    };
    let keys: Vec<Key> = keys.into_iter().filter(|k| algorithms.contains(&k.algorithm)).collect();
    if keys.is_empty() { Err(invalid("no key for any of jwt.algorithms")) } else { Ok(keys) }
}

/// The public key of a PEM (RFC 7468), which is a certificate or the key alone. Its type says which
/// algorithm it is for.
fn key_of_pem(pem: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(pem).ok()?;
    let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
    let (encoded, _) = rest.split_once("-----END ")?;
    let encoded: String = encoded.split_ascii_whitespace().collect();
    let der = BASE64.decode(encoded.as_bytes()).ok()?;
    match label {
        "PUBLIC KEY" => key_of_spki(&SubjectPublicKeyInfoOwned::from_der(&der).ok()?),
        "CERTIFICATE" => {
            let certificate = x509_cert::Certificate::from_der(&der).ok()?;
            key_of_spki(&certificate.tbs_certificate.subject_public_key_info)
        }
        // RFC 8017, appendix A.1.1.
        "RSA PUBLIC KEY" => Some(bound(Algorithm::RS256, DecodingKey::from_rsa_der(&der))),
        _ => None,
    }
}

fn bound(algorithm: Algorithm, key: DecodingKey) -> Key {
    Key { kid: None, algorithm, key }
}

/// By its type: RFC 3279, section 2.3.1; RFC 5480, section 2.1.1; RFC 8410, section 3.
fn key_of_spki(info: &SubjectPublicKeyInfoOwned) -> Option<Key> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    let key = info.subject_public_key.as_bytes()?;
    let curve = || info.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok();
    match info.algorithm.oid {
        RSA => Some(bound(Algorithm::RS256, DecodingKey::from_rsa_der(key))),
        EC if curve() == Some(P256) => Some(bound(Algorithm::ES256, DecodingKey::from_ec_der(key))),
        ED25519 => Some(bound(Algorithm::EdDSA, DecodingKey::from_ed_der(key))),
        _ => None,
    }
}

/// The keys of a JWK Set that are for signatures and for these algorithms. Others are ignored, as
/// RFC 7517 requires.
fn keys_of_set(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, serde_json::Error> {
    let set: JwkSet = serde_json::from_slice(bytes)?;
    let keys = set.keys.iter().filter_map(key_of_jwk).filter(|k| algorithms.contains(&k.algorithm));
    Ok(keys.take(KEYS_MAX).collect())
}

fn key_of_jwk(jwk: &Jwk) -> Option<Key> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(p) if is_long_enough(&p.value) => {
            (Algorithm::HS256, KeyAlgorithm::HS256)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let for_this = common.key_algorithm.is_none_or(|named| named == name);
    let for_signatures = common.public_key_use.as_ref().is_none_or(|u| *u == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| for_this && for_signatures)?;
    Some(Key { kid: common.key_id.clone(), algorithm, key })
}

/// RFC 7518, section 3.2: an HS256 secret has 32 bytes or more. `secret` is in base64url.
fn is_long_enough(secret: &str) -> bool {
    data_encoding::BASE64URL_NOPAD
        .decode(secret.as_bytes())
        .is_ok_and(|bytes| bytes.len() >= SECRET_BYTES_MIN)
}

fn spawn_fetcher(
    url: String,
    algorithms: Vec<Algorithm>,
    keys: Arc<ArcSwap<Vec<Key>>>,
) -> io::Result<mpsc::SyncSender<()>> {
    let (wake, woken) = mpsc::sync_channel(1);
    // A public key set cannot hold a shared secret.
    let public: Vec<Algorithm> = algorithms.into_iter().filter(|&a| a != Algorithm::HS256).collect();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider)).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(FETCH_TIMEOUT))
        // A redirect must not leave the origin that vouches for the keys.
        .https_only(url.starts_with("https://"))
        .build()
        .into();
    let fetch = move || -> Result<Vec<Key>, String> {
        let mut response = agent.get(&url).call().map_err(|e| e.to_string())?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(JWKS_BYTES_MAX)
            .read_to_vec()
            .map_err(|e| e.to_string())?;
        keys_of_set(&bytes, &public).map_err(|e| e.to_string())
    };
    let run = move || {
        loop {
            match fetch() {
                Ok(new) if !new.is_empty() => keys.store(Arc::new(new)),
                Ok(_) => tracing::warn!("fetch JWKS: no usable key in it; the old ones stay in use"),
                Err(error) => tracing::warn!(error, "fetch JWKS: failed; the old keys stay in use"),
            }
            std::thread::sleep(FETCH_EVERY_MIN);
            if keys.load().is_empty() {
                continue;
            }
            match woken.recv_timeout(FETCH_EVERY) {
                Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("jwks".into()).spawn(run)?;
    Ok(wake)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
