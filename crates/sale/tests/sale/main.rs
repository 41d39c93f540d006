//! The tests of the rules of a sale and of their service over real logs, in one binary.

mod bounded_steps;
mod concurrent_duplicates;
mod core_rules;
mod corpus;
mod filter_schedules;
mod forged_logs;
mod forged_times;
mod full_disk_says_nothing_undurable;
mod golden_records;
mod ledger;
mod log_format;
mod not_eligible_alone;
mod repeated_commands;
mod small_sale;
mod stopped_for_an_invariant;
mod stopped_shows_nothing_undurable;
mod sync;
mod waiting_pages;
