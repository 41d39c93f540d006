//! Hashes of passwords: Argon2id (RFC 9106), with OWASP's first choice of cost: 19 MiB, 2 passes.
//! The cost stands in each hash, so that it can be raised later.

use argon2::{Algorithm, Argon2, Params, Version};
use contracts::store::StoreError;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const HASH_BYTES: usize = 32;
pub(crate) const SALT_BYTES: usize = 16;

/// Characters of a password. Longer ones are no safer, and cost more.
const LENGTH_MIN: usize = 10;
pub(crate) const LENGTH_MAX: usize = 128;

/// Refuses a password that is too short or too long.
pub(crate) fn check(password: &str) -> Result<(), StoreError> {
    match (LENGTH_MIN..=LENGTH_MAX).contains(&password.chars().count()) {
        true => Ok(()),
        false => Err(StoreError::Invalid("password: want 10 to 128 characters".into())),
    }
}

/// The hash as it is stored: `argon2id$19456$2$salt$hash`. Takes some 30 ms of CPU and 19 MiB.
pub(crate) fn hash(password: &str, salt: [u8; SALT_BYTES]) -> Option<String> {
    let hash = raw(password, &salt, MEMORY_KIB, PASSES)?;
    let (salt, hash) = (BASE64URL_NOPAD.encode(&salt), BASE64URL_NOPAD.encode(&hash));
    Some(format!("argon2id${MEMORY_KIB}${PASSES}${salt}${hash}"))
}

/// Whether this is the password. A text that is no hash of ours is none's.
pub(crate) fn is_of(password: &str, stored: &str) -> bool {
    let mut parts = stored.split('$');
    let mut next = || parts.next();
    let (Some("argon2id"), Some(memory), Some(passes), Some(salt), Some(want)) =
        (next(), next(), next(), next(), next())
    else {
        return false;
    };
    let (Ok(memory), Ok(passes)) = (memory.parse(), passes.parse()) else { return false };
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    let (Some(salt), Some(want)) = (decode(salt), decode(want)) else { return false };
    raw(password, &salt, memory, passes).is_some_and(|hash| hash[..].ct_eq(&want).into())
}

fn raw(password: &str, salt: &[u8], memory_kib: u32, passes: u32) -> Option<[u8; HASH_BYTES]> {
    let params = Params::new(memory_kib, passes, 1, Some(HASH_BYTES)).ok()?;
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_no_other_is() {
        let stored = hash("correct horse battery", [7; SALT_BYTES]).unwrap();
        assert!(is_of("correct horse battery", &stored));
        assert!(!is_of("correct horse batterz", &stored));
        assert!(!is_of("", &stored));
        assert_ne!(hash("correct horse battery", [8; SALT_BYTES]).unwrap(), stored);
        for wrong in
            ["", "argon2id", "argon2i$19456$2$AA$AA", "argon2id$0$0$AAAAAAAAAAAAAAAAAAAAAA$AA", "plain"]
        {
            assert!(!is_of("", wrong) && !is_of("plain", wrong), "{wrong:?}");
        }
    }

    /// RFC 9106 has no vector without secret and data, so this one is by the reference program:
    /// `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32`.
    #[test]
    fn the_function_is_argon2id() {
        let hash = raw("password", b"somesalt", 65_536, 2).unwrap();
        let want = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(data_encoding::HEXLOWER.encode(&hash), want);
    }
}
