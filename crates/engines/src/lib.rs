//! The ports that contexts own state through, and every engine behind them.
//!
//! Today: [`log`] (one ordered decision log per stock partition) and [`clock`]; engine:
//! [`embedded`]. [`codec`] is how records become the log's bytes, [`background`] for what works
//! beside all that.

pub mod background;
pub mod clock;
pub mod codec;
pub mod embedded;
pub mod log;
