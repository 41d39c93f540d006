//! The simulator: a world that is the same for the same seed, and that breaks things on purpose.
//!
//! Today: [`disk`], which forgets what was not synced.

pub mod disk;
