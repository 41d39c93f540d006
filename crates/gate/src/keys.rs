//! One master secret and everything derived from it: shopper keys, sealed names, attempt ids, round
//! keys, MAC keys and the signing key. This module knows no request and no clock. Only the 32 bytes
//! need to be stored.

use crate::jws::{JwsKey, PublicKey, SigningKey};
use arrayvec::ArrayString;
use contracts::{AttemptId, SHOPPER_ID_BYTES_MAX, SaleId, SealedShopper, ShopperKey, is_shopper_id};
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::Sha256;
use std::{fmt, fs, io, path::Path};
use subtle::ConstantTimeEq;
use web::secret::{invalid, random_bytes, read_or_create_secret, read_secret};

const MASTER_BYTES: usize = 32;

/// The keys of one installation. They depend on the master secret alone, so they survive a restart.
/// Deleting the secret makes every shopper's name in every log and backup unreadable.
pub struct Keyring {
    shopper: [u8; 32],
    seal: [u8; 32],
    attempt: [u8; 32],
    round: [u8; 32],
    page: [u8; 32],
    challenge: [u8; 32],
    challenge_mac: Hmac<Sha256>,
    peer: [u8; 32],
    pass: Hmac<Sha256>,
    winners: SigningKey,
    tickets: JwsKey,
    outcomes: JwsKey,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("winners", &self.winners).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads `keys/master.key` under the data directory, or creates it at the first start. Refuses
    /// a file of another length, and a file that others can read.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("keys/master.key");
        // An entry that cannot be read may be one: a new secret would part it from its shoppers.
        let may_be_sale = |entry: io::Result<fs::DirEntry>| {
            entry.map_or(true, |entry| {
                entry.file_name().to_str().is_some_and(|name| name.parse::<SaleId>().is_ok())
            })
        };
        let has_sales = fs::read_dir(data.join("sales")).is_ok_and(|mut sales| sales.any(may_be_sale));
        if has_sales && !path.exists() {
            let why = "is gone, and there are sales whose shoppers nobody can be told apart without it: put it back from a \
                       backup. If it was deleted to erase their names, move the sales away too";
            return Err(invalid(&path, why));
        }
        let bytes = read_or_create_secret(&path, || random_bytes().map(|b: [u8; MASTER_BYTES]| b.to_vec()))?;
        let master = <[u8; MASTER_BYTES]>::try_from(bytes.as_slice()).map_err(|_| {
            invalid(&path, &format!("{} bytes, want {MASTER_BYTES}: restore it from a backup", bytes.len()))
        })?;
        Ok(Self::from_master(&master))
    }

    /// Reads `keys/master.key`, which another process has made.
    pub fn open_existing(data: &Path) -> io::Result<Self> {
        let path = data.join("keys/master.key");
        let master = <[u8; MASTER_BYTES]>::try_from(read_secret(&path)?.as_slice());
        master.map(|master| Self::from_master(&master)).map_err(|_| {
            invalid(&path, &format!("want {MASTER_BYTES} bytes: give --data of the process with the sales"))
        })
    }

    /// Derives the keys from a master secret. The context strings must never change: a change would
    /// give all shoppers other keys than those in the log.
    pub fn from_master(master: &[u8; 32]) -> Self {
        let derive = |context: &str| blake3::derive_key(context, master);
        Self {
            shopper: derive("floodgate gate shopper key v1"),
            seal: derive("floodgate gate sealed shopper v1"),
            attempt: derive("floodgate gate attempt id v1"),
            round: derive("floodgate gate round key v1"),
            page: derive("floodgate gate page tokens v1"),
            challenge: derive("floodgate gate challenge binding v1"),
            challenge_mac: hmac_of(&derive("floodgate gate challenge mac v1")),
            peer: derive("floodgate gate peer proof v1"),
            pass: hmac_of(&derive("floodgate gate pass mac v1")),
            winners: SigningKey::from_seed(&derive("floodgate gate ed25519 signing key v1")),
            tickets: JwsKey::from_seed(
                &derive("floodgate gate ed25519 ticket key v1"),
                "floodgate-ticket+jws",
            ),
            outcomes: JwsKey::from_seed(
                &derive("floodgate gate ed25519 outcome key v1"),
                "floodgate-outcome+jws",
            ),
        }
    }

    /// Proves to another process of this installation that this one has the master key: a hash over
    /// `said`, whose meaning is the caller's.
    pub fn peer_proof(&self, said: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.peer, said).as_bytes()
    }

    /// Whether this is the [proof](Self::peer_proof), compared in constant time.
    pub fn is_peer_proof(&self, said: &[u8], proof: &[u8; 32]) -> bool {
        self.peer_proof(said).ct_eq(proof).into()
    }

    /// The key of a shopper in the log.
    pub fn shopper_key(&self, id: &str) -> ShopperKey {
        ShopperKey(short_hash(blake3::keyed_hash(&self.shopper, id.as_bytes())))
    }

    /// Encrypts a shopper id; `None` for what is [none](is_shopper_id). The shopper key is the
    /// synthetic IV (the construction of RFC 5297), so the same id seals to the same bytes and
    /// needs no nonce.
    pub fn seal(&self, id: &str) -> Option<(ShopperKey, SealedShopper)> {
        if !is_shopper_id(id) {
            return None;
        }
        let key = self.shopper_key(id);
        let mut bytes = [0; SHOPPER_ID_BYTES_MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id.as_bytes());
        self.xor_stream(key, &mut bytes[..id.len()]);
        Some((key, SealedShopper::new(&bytes[..id.len()])?))
    }

    /// Decrypts, and accepts the result only if its hash is the shopper key.
    pub fn unseal(
        &self,
        key: ShopperKey,
        sealed: &SealedShopper,
    ) -> Option<ArrayString<SHOPPER_ID_BYTES_MAX>> {
        let mut bytes = [0; SHOPPER_ID_BYTES_MAX];
        let bytes = bytes.get_mut(..sealed.len())?;
        bytes.copy_from_slice(sealed);
        self.xor_stream(key, bytes);
        let id = std::str::from_utf8(bytes).ok()?;
        let is_it = bool::from(self.shopper_key(id).0.ct_eq(&key.0));
        ArrayString::from(id).ok().filter(|_| is_it)
    }

    fn xor_stream(&self, key: ShopperKey, bytes: &mut [u8]) {
        let mut stream = [0; SHOPPER_ID_BYTES_MAX];
        blake3::Hasher::new_keyed(&self.seal).update(&key.0).finalize_xof().fill(&mut stream);
        for (byte, pad) in bytes.iter_mut().zip(stream) {
            *byte ^= pad;
        }
    }

    /// The attempt that a shopper makes in a sale under an Idempotency-Key. Fields are
    /// length-prefixed, so no two different triples hash the same bytes.
    pub fn attempt_id(&self, sale: &str, shopper: ShopperKey, idempotency_key: &str) -> AttemptId {
        let mut hasher = blake3::Hasher::new_keyed(&self.attempt);
        for field in [sale.as_bytes(), &shopper.0, idempotency_key.as_bytes()] {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
        }
        AttemptId(short_hash(hasher.finalize()))
    }

    /// The key in the attempts' URL of a round, counted from 0: 22 URL-safe characters that cannot
    /// be guessed before the round opens.
    pub fn round_key(&self, sale: &str, round: u16) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.round);
        hasher
            .update(&(sale.len() as u64).to_le_bytes())
            .update(sale.as_bytes())
            .update(&round.to_le_bytes());
        BASE64URL_NOPAD.encode(&short_hash(hasher.finalize()))
    }

    /// The same in a sale that goes on from a backup. The log's id is not that of the log that the
    /// backup was made of, so a URL of the one server is none of the other.
    pub fn round_key_of_copy(&self, sale: &str, log_id: &str, round: u16) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.round);
        for field in [sale, log_id] {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field.as_bytes());
        }
        hasher.update(&round.to_le_bytes());
        BASE64URL_NOPAD.encode(&short_hash(hasher.finalize()))
    }

    /// An HMAC-SHA256 state with the key of passes.
    pub(crate) fn pass_mac(&self) -> Hmac<Sha256> {
        self.pass.clone()
    }

    /// An HMAC-SHA256 state with the key of proofs of work.
    pub(crate) fn challenge_mac(&self) -> Hmac<Sha256> {
        self.challenge_mac.clone()
    }

    /// A keyed hash that binds a challenge's fields to each other and to their purpose. Each field
    /// comes after its length, so that no byte can move from one field to the next
    /// (typo3-altcha#33).
    pub(crate) fn challenge_binding(&self, purpose: &str, fields: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.challenge);
        for field in std::iter::once(&purpose.as_bytes()).chain(fields) {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
        }
        short_hash(hasher.finalize())
    }

    /// A token of 22 URL-safe characters that binds a page's fields (CSRF token, demo cookie,
    /// refusal shown after a redirect) to their purpose.
    pub(crate) fn page_token(&self, purpose: &str, fields: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.page);
        for field in std::iter::once(&purpose).chain(fields) {
            hasher.update(&(field.len() as u64).to_le_bytes()).update(field.as_bytes());
        }
        BASE64URL_NOPAD.encode(&short_hash(hasher.finalize()))
    }

    /// Whether `token` is the page token of these fields, in constant time.
    pub(crate) fn is_page_token(&self, token: &str, purpose: &str, fields: &[&str]) -> bool {
        token.as_bytes().ct_eq(self.page_token(purpose, fields).as_bytes()).into()
    }

    /// Signs winners.
    pub(crate) fn winners(&self) -> &SigningKey {
        &self.winners
    }

    /// Signs tickets.
    pub(crate) fn tickets(&self) -> &JwsKey {
        &self.tickets
    }

    /// Signs outcomes for return URLs.
    pub(crate) fn outcomes(&self) -> &JwsKey {
        &self.outcomes
    }

    /// The id of the key that signs winners, which identifies this installation.
    pub fn kid(&self) -> &str {
        self.winners.kid()
    }

    /// The public keys as a JWK Set (RFC 7517, RFC 8037): first the key of winners, then that of
    /// tickets, then that of signed outcomes.
    pub fn jwks(&self) -> KeySet {
        let keys = [&self.winners, self.tickets.key(), self.outcomes.key()].map(SigningKey::jwk);
        KeySet { keys: keys.into() }
    }
}

/// A JWK Set (RFC 7517, section 5).
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

/// The secret for shopper tokens (HS256) in `keys/jwt.key`, created at the first start: 43
/// characters of base64url, used without decoding, so that the shop's token library takes the
/// content of the file as it is.
pub fn open_jwt_secret(data: &Path) -> io::Result<Vec<u8>> {
    let path = data.join("keys/jwt.key");
    read_or_create_secret(&path, || {
        random_bytes().map(|b: [u8; 32]| (BASE64URL_NOPAD.encode(&b) + "\n").into_bytes())
    })
    .and_then(|text| {
        let secret = web::jwt::shared_secret(&text).map_err(|why| web::secret::invalid(&path, &why))?;
        Ok(secret.to_vec())
    })
}

fn hmac_of(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn short_hash(hash: blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use web::secret::write_secret;

    #[test]
    fn a_sealed_name_opens_only_with_its_own_key() {
        let keys = Keyring::from_master(&[7; 32]);
        for id in ["a", "al\"ice", &"x".repeat(64)] {
            let (key, sealed) = keys.seal(id).unwrap();
            assert_ne!(&*sealed, id.as_bytes());
            assert_eq!(keys.unseal(key, &sealed).as_deref(), Some(id));
            assert_eq!(keys.unseal(keys.shopper_key("other"), &sealed), None);
            assert_eq!(Keyring::from_master(&[8; 32]).unseal(key, &sealed), None);
        }
        let over = "x".repeat(65);
        for id in ["", " bot ", "bot\r", "bot\n", "b\0t", "\u{feff}bot", "b ot", "bot\u{200b}", "小明", &over]
        {
            assert!(keys.seal(id).is_none(), "{id:?}");
        }
    }

    #[test]
    fn derived_values_never_change() {
        let keys = Keyring::from_master(&[7; 32]);
        let shopper = keys.shopper_key("alice");
        let all = format!(
            "{shopper} {} {} {}",
            keys.attempt_id("demo", shopper, "k1"),
            keys.round_key("demo", 0),
            keys.kid()
        );
        assert_eq!(all, GOLDEN);
        assert_ne!(keys.round_key_of_copy("demo", "1f", 0), keys.round_key("demo", 0));
        assert_ne!(keys.round_key_of_copy("demo", "1f", 0), keys.round_key_of_copy("demo", "2f", 0));
        assert_ne!(keys.attempt_id("demo", shopper, "k1"), keys.attempt_id("demok", shopper, "1"));
        assert_ne!(keys.challenge_binding("p", &[b"ab", b"c"]), keys.challenge_binding("p", &[b"a", b"bc"]));
        assert_ne!(keys.challenge_binding("p", &[b"q"]), keys.challenge_binding("pq", &[b""]));
    }

    const GOLDEN: &str = "768939556959d31cea9056b18611c847 acc05919dfe4088e2a36e41d5ea80577 9ORLtJDupBIipTZnA-zFHg LSbaZBcVDQrge4Af";

    #[test]
    fn the_master_secret_is_created_once_and_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let kid = Keyring::open(dir.path()).unwrap().kid().to_owned();
        assert_eq!(Keyring::open(dir.path()).unwrap().kid(), kid);
        let path = dir.path().join("keys/master.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Keyring::open(dir.path()).unwrap_err().to_string().contains("mode 640 lets others in"));
        write_secret(&path, &[0; 31]).unwrap();
        assert!(Keyring::open(dir.path()).unwrap_err().to_string().contains("31 bytes, want 32"));
    }
}
