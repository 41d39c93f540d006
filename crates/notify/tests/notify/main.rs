//! The message service's tests: one binary.

mod core_rules;
mod earlier;
mod full_disk;
mod golden;
mod once;
mod paced;
mod pulled;
mod replay_far_back;
mod schedules;
mod seeds;
mod trimmed;
mod world;
