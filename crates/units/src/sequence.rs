//! The number of an entry in a log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of an entry in a log, counted from 1; 0 stands before the first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(inline, extend("format" = "int64"))]
pub struct Sequence(pub u64);

impl Sequence {
    /// The sequence `count` entries further on.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The sequence of the entry that follows.
    pub fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
