//! The ports that contexts own state through, and every engine behind them.
//!
//! Today: [`log`] (one ordered decision log per stock partition) and [`clock`]; engine: [`embedded`].

pub mod clock;
pub mod embedded;
pub mod log;
