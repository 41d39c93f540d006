//! Values with a meaning: ids, money, quantities, points in time, a seeded generator.
//!
//! Arithmetic only. This crate knows no clock, no file, no network and no rule of any context.

mod id;
mod money;
mod own_bits;
mod prng;
mod time;

pub use id::{AttemptId, IdError, ItemId, SaleId, Sequence, ShopperKey};
pub use money::{Currency, Money, MoneyError};
pub use own_bits::{FirstEight, OwnBits};
pub use prng::Prng;
pub use time::{DurationMs, TimeError, TimeMs};
