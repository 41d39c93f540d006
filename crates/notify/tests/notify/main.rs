//! The message service's tests: one binary.

mod core_rules;
mod seeds;
mod world;
