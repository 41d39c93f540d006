//! Ed25519 keys (RFC 8032), and compact JSON Web Signatures made with them (RFC 7515, `EdDSA` as in
//! RFC 8037). The caller defines what the claims mean.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;

/// A signing key, and the name under which its public half is published.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
    kid: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key of a seed, as in RFC 8032, section 5.1.5.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes is a key");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let kid = BASE64URL_NOPAD.encode(&blake3::hash(&public).as_bytes()[..12]);
        Self { pair, public, kid }
    }

    /// Signs a message. The same message always has the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// The public half.
    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The key's id in a JWK Set.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// Whether this key has signed the message.
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }

    /// The public half as a JSON Web Key (RFC 7517, RFC 8037).
    pub(crate) fn jwk(&self) -> PublicKey {
        PublicKey {
            kty: "OKP",
            crv: "Ed25519",
            usage: "sig",
            alg: "EdDSA",
            kid: self.kid.clone(),
            x: BASE64URL_NOPAD.encode(self.public()),
        }
    }
}

/// The public half of a key, as a JSON Web Key (RFC 8037, section 2).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct PublicKey {
    #[schemars(extend("const" = "OKP"))]
    kty: &'static str,
    #[schemars(extend("const" = "Ed25519"))]
    crv: &'static str,
    #[serde(rename = "use")]
    #[schemars(extend("const" = "sig"))]
    usage: &'static str,
    #[schemars(extend("const" = "EdDSA"))]
    alg: &'static str,
    kid: String,
    x: String,
}

/// Signs claims of one type.
#[derive(Debug)]
pub(crate) struct JwsKey {
    key: SigningKey,
    /// The protected header in base64url, which is the same for all signatures.
    header: String,
}

impl JwsKey {
    /// `typ` is the type in the header (RFC 7515, section 4.1.9).
    pub(crate) fn from_seed(seed: &[u8; 32], typ: &str) -> Self {
        let key = SigningKey::from_seed(seed);
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{typ}"}}"#, key.kid);
        Self { header: BASE64URL_NOPAD.encode(header.as_bytes()), key }
    }

    /// The key that signs.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The claims of what this key has signed; `None` of anything else.
    pub(crate) fn verify(&self, text: &str) -> Option<Vec<u8>> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        let is_ours = header == self.header && self.key.has_signed(signed.as_bytes(), &signature);
        is_ours.then(|| BASE64URL_NOPAD.decode(claims.as_bytes()).ok()).flatten()
    }

    /// The compact serialization of the claims, which are JSON.
    pub(crate) fn sign(&self, claims: &[u8]) -> String {
        let encoded_len = |bytes: usize| BASE64URL_NOPAD.encode_len(bytes);
        let mut text =
            String::with_capacity(self.header.len() + encoded_len(claims.len()) + encoded_len(64) + 2);
        text.push_str(&self.header);
        text.push('.');
        BASE64URL_NOPAD.encode_append(claims, &mut text);
        let signature = self.key.sign(text.as_bytes());
        text.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, Signer, VerifyingKey};

    #[test]
    fn another_library_has_the_same_key_and_the_same_signatures() {
        let (ours, theirs) =
            (SigningKey::from_seed(&[7; 32]), ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
        assert_eq!(ours.public(), theirs.verifying_key().as_bytes());
        for length in 0..300 {
            let message = vec![length as u8; length];
            assert_eq!(ours.sign(&message), theirs.sign(&message).to_bytes(), "{length} bytes");
        }
    }

    #[test]
    fn a_signature_covers_header_and_claims() {
        let key = JwsKey::from_seed(&[7; 32], "x+jws");
        let text = key.sign(br#"{"a":1}"#);
        let [header, claims, signature]: [&str; 3] = text.split('.').collect::<Vec<_>>().try_into().unwrap();
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
        let header_text = String::from_utf8(decode(header)).unwrap();
        assert_eq!(header_text, format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"x+jws"}}"#, key.key().kid()));
        assert_eq!(decode(claims), br#"{"a":1}"#);
        let signature = Signature::from_slice(&decode(signature)).unwrap();
        let public = VerifyingKey::from_bytes(key.key().public()).unwrap();
        public.verify_strict(format!("{header}.{claims}").as_bytes(), &signature).unwrap();
        assert!(public.verify_strict(format!("{header}.{claims}A").as_bytes(), &signature).is_err());
    }
}
