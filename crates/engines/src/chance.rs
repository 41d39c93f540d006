//! The port of chance: random bytes for ids that cannot be guessed. A simulator's follow from its
//! seed, so that a run can be repeated.

use std::io;

/// Draws random bytes.
pub trait Chance: Send + Sync {
    /// Sixteen bytes. They may not be to be had for a moment.
    fn bytes16(&self) -> io::Result<[u8; 16]>;
}

/// The operating system's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn bytes16(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(format!("random bytes: {error}")))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_not_drawn_again() {
        assert_ne!(SystemChance.bytes16().unwrap(), SystemChance.bytes16().unwrap());
    }
}
