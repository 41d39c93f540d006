//! The pass: proof that a shopper was admitted to a sale, checked with one HMAC and nothing else.
//! It knows no HTTP.

use crate::keys::Keyring;
use contracts::{SaleId, SealedShopper, ShopperKey};
use data_encoding::BASE64URL_NOPAD;
use hmac::Mac;
use units::TimeMs;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Version, then sale (≤ 40), shopper key (16), sealed id (≤ 64), tier (1), expiry (8), each after
/// its length, then the MAC.
const PASS_BYTES_MAX: usize = 1 + 41 + 17 + 65 + 2 + 9 + MAC_BYTES;

/// The holder of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    pub shopper: ShopperKey,
    pub sealed: SealedShopper,
    /// 0 if the shop's token has none.
    pub tier: u8,
    pub expires_at: TimeMs,
}

/// Why a pass is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassError {
    /// Not a pass of this version.
    Malformed,
    /// Changed, or made with another secret.
    BadMac,
    /// Made for another sale.
    OtherSale,
    Expired,
}

impl PassError {
    /// What is wrong and what to do. It is a static text without the sale's name, so that a flood
    /// of wrong passes allocates no memory.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Malformed => "pass: malformed; POST /api/v1/sales/{sale}/passes gives a new one",
            Self::BadMac => {
                "pass: not made by this server, or changed; POST /api/v1/sales/{sale}/passes gives a new one"
            }
            Self::OtherSale => {
                "pass: made for another sale; POST /api/v1/sales/{sale}/passes gives one for this sale"
            }
            Self::Expired => "pass: expired; POST /api/v1/sales/{sale}/passes gives a new one",
        }
    }
}

/// Makes the pass's text: base64url of the fields and an HMAC-SHA256 over them. Every field comes
/// after its length, so that bytes cannot move from one field to the next under the same MAC
/// (typo3-altcha#33).
pub fn issue(keys: &Keyring, sale: &SaleId, pass: &Pass) -> String {
    let mut bytes = Vec::with_capacity(PASS_BYTES_MAX);
    bytes.push(VERSION);
    let expires_at = pass.expires_at.0.to_be_bytes();
    for field in [sale.as_str().as_bytes(), &pass.shopper.0, &pass.sealed, &[pass.tier], &expires_at] {
        bytes.push(field.len() as u8);
        bytes.extend_from_slice(field);
    }
    let mac = keys.pass_mac().chain_update(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&mac);
    BASE64URL_NOPAD.encode(&bytes)
}

/// Checks a pass for a sale at a given time. The MAC is checked first, in constant time. Allocates
/// nothing.
pub fn verify(keys: &Keyring, text: &[u8], sale: &str, now: TimeMs) -> Result<Pass, PassError> {
    let mut buffer = [0; PASS_BYTES_MAX];
    let len = BASE64URL_NOPAD.decode_len(text.len()).map_err(|_| PassError::Malformed)?;
    let bytes = buffer.get_mut(..len).ok_or(PassError::Malformed)?;
    BASE64URL_NOPAD.decode_mut(text, bytes).map_err(|_| PassError::Malformed)?;
    let (fields, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(PassError::Malformed)?;
    if fields.first() != Some(&VERSION) {
        return Err(PassError::Malformed);
    }
    keys.pass_mac().chain_update(fields).verify_slice(mac).map_err(|_| PassError::BadMac)?;

    let mut rest = &fields[1..];
    let named_sale = take(&mut rest)?;
    let shopper = ShopperKey(fixed(take(&mut rest)?)?);
    let sealed = SealedShopper::new(take(&mut rest)?).ok_or(PassError::Malformed)?;
    let [tier] = fixed(take(&mut rest)?)?;
    let expires_at = TimeMs(u64::from_be_bytes(fixed(take(&mut rest)?)?));
    if !rest.is_empty() {
        return Err(PassError::Malformed);
    }
    if named_sale != sale.as_bytes() {
        return Err(PassError::OtherSale);
    }
    if now >= expires_at {
        return Err(PassError::Expired);
    }
    Ok(Pass { shopper, sealed, tier, expires_at })
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PassError> {
    let (&len, after) = rest.split_first().ok_or(PassError::Malformed)?;
    let (field, after) = after.split_at_checked(usize::from(len)).ok_or(PassError::Malformed)?;
    *rest = after;
    Ok(field)
}

fn fixed<const N: usize>(field: &[u8]) -> Result<[u8; N], PassError> {
    field.try_into().map_err(|_| PassError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(keys: &Keyring, id: &str) -> Pass {
        let (shopper, sealed) = keys.seal(id).unwrap();
        Pass { shopper, sealed, tier: 3, expires_at: TimeMs(1000) }
    }

    #[test]
    fn a_pass_is_good_for_its_sale_until_it_expires() {
        let keys = Keyring::from_master(&[7; 32]);
        let pass = pass(&keys, &"x".repeat(64));
        let sale: SaleId = "a".repeat(40).parse().unwrap();
        let text = issue(&keys, &sale, &pass);
        let check = |sale: &str, now| verify(&keys, text.as_bytes(), sale, TimeMs(now));
        assert_eq!(check(sale.as_str(), 999), Ok(pass));
        assert_eq!(check(sale.as_str(), 1000), Err(PassError::Expired));
        assert_eq!(check("demo", 0), Err(PassError::OtherSale));
        let other = Keyring::from_master(&[8; 32]);
        assert_eq!(verify(&other, text.as_bytes(), sale.as_str(), TimeMs(0)), Err(PassError::BadMac));
    }

    #[test]
    fn no_spliced_or_changed_pass_is_good() {
        let keys = Keyring::from_master(&[7; 32]);
        let text = issue(&keys, &"demo".parse().unwrap(), &pass(&keys, "alice"));
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = BASE64URL_NOPAD.encode(&changed);
            assert!(verify(&keys, changed.as_bytes(), "demo", TimeMs(0)).is_err(), "byte {at}");
        }
        // The head of one pass with the tail of another.
        let other = issue(&keys, &"demo".parse().unwrap(), &pass(&keys, "mallo"));
        let spliced = format!("{}{}", &text[..40], &other[40..]);
        assert_eq!(verify(&keys, spliced.as_bytes(), "demo", TimeMs(0)), Err(PassError::BadMac));
        for text in ["", "x", "AQ", "????", &"A".repeat(300)] {
            assert_eq!(
                verify(&keys, text.as_bytes(), "demo", TimeMs(0)),
                Err(PassError::Malformed),
                "{text}"
            );
        }
    }

    /// The fields after their lengths, with the MAC of another split of the same bytes.
    fn framed(fields: &[Vec<u8>], mac: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        for field in fields {
            bytes.push(field.len() as u8);
            bytes.extend_from_slice(field);
        }
        BASE64URL_NOPAD.encode(&[&bytes[..], mac].concat())
    }

    /// typo3-altcha#33: one letter moves from the sale's name through the shopper's key to the
    /// sealed id. Both are complete passes whose fields, without the lengths, are the same bytes. A
    /// MAC over those bytes alone would accept one as the other.
    #[test]
    fn two_splits_of_the_same_bytes_are_two_passes() {
        let keys = Keyring::from_master(&[7; 32]);
        let pass = pass(&keys, "alice");
        let text = issue(&keys, &"demo".parse().unwrap(), &pass);
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        let mac = &bytes[bytes.len() - MAC_BYTES..];
        let tail = [vec![pass.tier], pass.expires_at.0.to_be_bytes().to_vec()];
        let fields = |sale: &[u8], shopper: &[u8], sealed: &[u8]| {
            [&[sale.to_vec(), shopper.to_vec(), sealed.to_vec()][..], &tail].concat()
        };
        let honest = fields(b"demo", &pass.shopper.0, &pass.sealed);
        assert_eq!(framed(&honest, mac), text, "the test frames passes like the code");
        assert_eq!(verify(&keys, text.as_bytes(), "demo", TimeMs(0)), Ok(pass));
        let (last, head) = pass.shopper.0.split_last().unwrap();
        let moved = fields(b"dem", &[b"o", head].concat(), &[&[*last][..], &pass.sealed].concat());
        assert_eq!(moved.concat(), honest.concat(), "the same bytes");
        assert_eq!(verify(&keys, framed(&moved, mac).as_bytes(), "dem", TimeMs(0)), Err(PassError::BadMac));
    }
}
