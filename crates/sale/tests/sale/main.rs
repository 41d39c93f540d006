//! The tests of the rules of a sale and of their service over real logs, in one binary.

mod bounded_steps;
mod concurrent_duplicates;
mod core_rules;
mod corpus;
mod forged_logs;
mod forged_times;
mod full_disk_says_nothing_undurable;
mod golden_records;
mod ledger;
mod log_format;
mod not_eligible_alone;
mod repeated_commands;
mod stopped_for_an_invariant;
mod stopped_shows_nothing_undurable;
mod waiting_pages;
