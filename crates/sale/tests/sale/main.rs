//! The tests of the rules of a sale and of their service over real logs, in one binary.
//!
//! What the service's threads share is compiled here once more, over the types of a model checker
//! (`sync.rs`), for the two files of schedules.

mod bounded_steps;
mod concurrent_duplicates;
mod core_rules;
mod corpus;
mod filter_schedules;
mod forged_logs;
mod forged_times;
mod front_schedules;
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

#[path = "../../src/membership_filter.rs"]
#[allow(dead_code, reason = "the gates' part of it")]
mod membership_filter;
#[path = "../../src/queue/mod.rs"]
#[allow(dead_code, reason = "what its own tests read")]
mod queue;
#[path = "../../src/service/mod.rs"]
#[allow(dead_code, unused_imports, reason = "pages of the log, and the settings' names")]
mod service;

use sale::{Worker, core, free_units, timeline};
