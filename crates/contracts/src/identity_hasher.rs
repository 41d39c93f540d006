//! Tables whose keys need no hashing.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds hashers for keys that are outputs of a keyed hash: their first 8 bytes are the hash. It
/// is wrong for keys that a client may choose, because all of them could then collide.
pub type IdentityBuildHasher = BuildHasherDefault<IdentityHasher>;

/// Takes the first 8 bytes that it is given as the hash.
#[derive(Debug, Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(bits) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*bits);
        }
    }

    // The length that stands before an array's bytes.
    fn write_usize(&mut self, _: usize) {}
}
