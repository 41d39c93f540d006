//! Values with a meaning: money, sequences, points in time, a seeded generator.
//!
//! Arithmetic only. This crate knows no clock, no file, no network and no rule of any context.

mod money;
mod prng;
mod sequence;
mod time;

pub use money::{Currency, Money, MoneyError};
pub use prng::Prng;
pub use sequence::Sequence;
pub use time::{DurationMs, TimeError, TimeMs};
