//! The simulator: a world that is the same for the same seed, and that breaks things on purpose.
//!
//! [`world`] drives the production worker over [`disk`], which forgets what was not synced, and holds every reply and every
//! entry against a reading of the log of its own. [`runner`] runs many seeds.

mod checker;
mod clients;
pub mod disk;
mod gate;
mod model;
mod nemesis;
pub mod runner;
mod story;
mod workload;
pub mod world;

pub use story::Violation;
