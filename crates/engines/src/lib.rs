//! The ports that contexts own state through, and every engine behind them.
//!
//! Today: [`log`] (one ordered decision log per stock partition) and [`clock`]; engine: [`embedded`]. [`background`] is for what works
//! beside them.

pub mod background;
pub mod clock;
pub mod embedded;
pub mod log;
