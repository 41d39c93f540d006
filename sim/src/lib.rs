//! The simulator: a world that is the same for the same seed, and that injects faults.
//!
//! It knows no context. A context brings a [`System`]: commands, a model that reads the log by
//! itself, and a checker that compares every reply with it. [`world`] drives the production worker
//! over [`disk`], which loses unsynced writes; [`runner`] runs many seeds, and [`cli`] is the
//! program around it. `sim/sale` and `sim/notify` are systems.

pub mod cli;
pub mod disk;
pub mod journal;
pub mod mutants;
mod nemesis;
mod network;
pub mod runner;
pub mod story;
pub mod system;
mod trouble;
pub mod world;

pub use story::{Check, Violation, ensure};
pub use system::{Batch, Habits, Step, System};
