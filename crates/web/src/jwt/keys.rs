//! Keys that check tokens: from a JWK Set (RFC 7517, RFC 7518, RFC 8037), from PEM (RFC 7468), and
//! shared secrets. Each key is bound to one algorithm when it is read, so a token cannot choose how
//! it is checked. Keys are parsed once: a check is one signature.

use super::jose::{Item, Object, decode};
use crate::config::JwtAlgorithm;
use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use data_encoding::BASE64;
use std::fmt;
use x509_cert::{
    der::{
        Decode,
        asn1::{AnyRef, UintRef},
        oid::ObjectIdentifier,
    },
    spki::SubjectPublicKeyInfoOwned,
};

/// The most keys of a set, used or not.
const KEYS_MAX: usize = 256;
/// The most members of a key.
const MEMBERS_MAX: usize = 64;
/// RFC 7518, section 3.2: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// RFC 7518, section 3.3, and the longest key that the library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key with its algorithm.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: JwtAlgorithm,
    check: Check,
}

enum Check {
    Secret(Box<hmac::Key>),
    Public { key: ParsedPublicKey, signature_bytes: usize },
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A shared secret, for HS256.
    pub(super) fn of_secret(secret: &[u8]) -> Option<Self> {
        (secret.len() >= SECRET_BYTES_MIN).then(|| {
            let check = Check::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
            Self { kid: None, algorithm: JwtAlgorithm::HS256, check }
        })
    }

    fn of_rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        // RFC 7518, section 6.3.1.1: as few bytes as the value needs.
        let first = *n.first()?;
        let bits = n.len() * 8 - first.leading_zeros() as usize;
        // RFC 8017, section 3.1: an odd exponent of 3 or more.
        let is_exponent = e != [1] && e.last().is_some_and(|last| last % 2 == 1);
        if first == 0 || !RSA_BITS.contains(&bits) || !is_exponent {
            return None;
        }
        let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
        let check = Check::Public { key, signature_bytes: n.len() };
        Some(Self { kid: None, algorithm: JwtAlgorithm::RS256, check })
    }

    fn of_curve(algorithm: JwtAlgorithm, point: &[u8]) -> Option<Self> {
        let by: &'static dyn VerificationAlgorithm = match algorithm {
            JwtAlgorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
            JwtAlgorithm::EdDSA => &ED25519,
            JwtAlgorithm::HS256 | JwtAlgorithm::RS256 => return None,
        };
        let check = Check::Public { key: ParsedPublicKey::new(by, point).ok()?, signature_bytes: 64 };
        Some(Self { kid: None, algorithm, check })
    }

    /// Whether these bytes can be a signature by this key, by their length.
    pub(super) fn fits(&self, encoded: &[u8]) -> bool {
        let bytes = match &self.check {
            Check::Secret(_) => 32,
            Check::Public { signature_bytes, .. } => *signature_bytes,
        };
        encoded.len() == (bytes * 4).div_ceil(3)
    }

    /// Whether the key's holder signed a message. A shared secret is compared in constant time.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.check {
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public { key, .. } => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// The keys of a JWK Set that are for signatures and for these algorithms. The others are ignored,
/// as RFC 7517, section 5, wants: of an unknown type, without what they must have, or too weak.
pub(super) fn keys_of_set(bytes: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Vec<Key>, String> {
    let set = Object::parse(bytes, MEMBERS_MAX)?;
    let Some(Item::List(keys)) = set.get("keys") else {
        return Err("no JWK Set: want an object with the array keys".to_owned());
    };
    if keys.len() > KEYS_MAX {
        return Err(format!("{} keys, want {KEYS_MAX} or fewer", keys.len()));
    }
    Ok(keys.iter().filter_map(key_of_jwk).filter(|key| algorithms.contains(&key.algorithm)).collect())
}

fn key_of_jwk(item: &Item<'_>) -> Option<Key> {
    let Item::Object(jwk) = item else { return None };
    if !jwk.is_unique() {
        return None;
    }
    let text = |name: &str| jwk.get(name)?.text();
    let bytes = |name: &str| decode(text(name)?.as_bytes());
    // RFC 7518, section 6.2.1.2, and RFC 8037, section 2: all bytes of a coordinate, zeros too.
    let coordinate = |name: &str| bytes(name).filter(|bytes| bytes.len() == 32);
    let key = match (text("kty")?, text("crv")) {
        ("EC", Some("P-256")) => {
            let point = [&[4], &*coordinate("x")?, &*coordinate("y")?].concat();
            Key::of_curve(JwtAlgorithm::ES256, &point)
        }
        ("OKP", Some("Ed25519")) => Key::of_curve(JwtAlgorithm::EdDSA, &coordinate("x")?),
        ("RSA", _) => Key::of_rsa(&bytes("n")?, &bytes("e")?),
        ("oct", _) => Key::of_secret(&bytes("k")?),
        _ => None,
    }?;
    // A member that is there binds the key, also where it has the wrong form.
    let allows = |member: &str, want: &str| jwk.get(member).is_none_or(|item| item.text() == Some(want));
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.text()?.to_owned()),
    };
    let verifies = jwk.get("key_ops").is_none_or(|item| {
        let Some(operations) = item.texts() else { return false };
        let is_twice = operations.iter().enumerate().any(|(n, one)| operations[..n].contains(one));
        // RFC 7517, section 4.3: with `use`, all operations must agree with it.
        let is_signing = operations.iter().all(|one| matches!(*one, "sign" | "verify"));
        operations.contains(&"verify") && !is_twice && (is_signing || jwk.get("use").is_none())
    });
    let is_for_tokens = allows("alg", key.algorithm.name()) && allows("use", "sig") && verifies;
    is_for_tokens.then_some(Key { kid, ..key })
}

/// The key in a file that holds one. The error says what is wrong and what to do.
pub(super) fn key_of_file(bytes: &[u8]) -> Result<Key, String> {
    if is_pem(bytes) {
        return key_of_pem(bytes);
    }
    let secret = shared_secret(bytes)?;
    Key::of_secret(secret)
        .ok_or_else(|| "an HS256 secret needs 32 bytes or more (RFC 7518, section 3.2)".to_owned())
}

/// Whether a file has PEM in it, perhaps with text before it.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"-----BEGIN ").is_some()
}

/// The secret in a file: its bytes as they are, without one line end behind them. What everybody
/// knows must not become a secret, so public keys are refused.
pub fn shared_secret(file: &[u8]) -> Result<&[u8], String> {
    let secret = file.strip_suffix(b"\n").unwrap_or(file);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if is_pem(file) {
        return Err("holds a key in PEM, which is no shared secret: want the secret itself".into());
    }
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(file).is_ok() {
        return Err("holds JSON, which is no shared secret: a JWK Set is for jwks_file".into());
    }
    if [&b"ssh-"[..], b"ecdsa-sha2-"].iter().any(|start| file.starts_with(start)) {
        return Err("holds a public key of SSH, which is no shared secret: want it in PEM".into());
    }
    let is_der =
        SubjectPublicKeyInfoOwned::from_der(file).is_ok() || x509_cert::Certificate::from_der(file).is_ok();
    if is_der {
        return Err("holds a public key in DER, which is no shared secret: want it in PEM".into());
    }
    Ok(secret)
}

/// The public key of the first block of a PEM, which is a certificate or the key alone. Its type
/// says which algorithm it is for.
fn key_of_pem(pem: &[u8]) -> Result<Key, String> {
    let parts = || {
        let text = std::str::from_utf8(pem).ok()?;
        let (label, rest) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
        let (encoded, _) = rest.split_once("-----END ")?;
        let encoded: String = encoded.split_ascii_whitespace().collect();
        Some((label, BASE64.decode(encoded.as_bytes()).ok()?))
    };
    let (label, der) = parts().ok_or("its PEM cannot be read: put it back as it was made")?;
    if label.ends_with("PRIVATE KEY") {
        return Err("holds a private key, which only the shop may have: want the public key".into());
    }
    let key = match label {
        "PUBLIC KEY" => SubjectPublicKeyInfoOwned::from_der(&der).ok().and_then(|info| key_of_spki(&info)),
        "CERTIFICATE" => x509_cert::Certificate::from_der(&der)
            .ok()
            .and_then(|certificate| key_of_spki(&certificate.tbs_certificate.subject_public_key_info)),
        "RSA PUBLIC KEY" => key_of_pkcs1(&der),
        _ => None,
    };
    key.ok_or_else(|| {
        "no key that can be used: want RSA of 2,048 to 8,192 bits, P-256 or Ed25519, in PEM".to_owned()
    })
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
        RSA => key_of_pkcs1(key),
        EC if curve() == Some(P256) => Key::of_curve(JwtAlgorithm::ES256, key),
        ED25519 => Key::of_curve(JwtAlgorithm::EdDSA, key),
        _ => None,
    }
}

/// RFC 8017, appendix A.1.1.
fn key_of_pkcs1(der: &[u8]) -> Option<Key> {
    let numbers = AnyRef::from_der(der).ok()?;
    let numbers = numbers.sequence(|reader| Ok((UintRef::decode(reader)?, UintRef::decode(reader)?)));
    let (n, e) = numbers.ok()?;
    Key::of_rsa(n.as_bytes(), e.as_bytes())
}
