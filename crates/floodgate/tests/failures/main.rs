//! Failures that real systems had, each tested on this server: one file each, named after the
//! failure.

#[path = "../harness/mod.rs"]
mod harness;

mod abandoned_holds_return;
mod abandoners_jam_the_queue;
mod ack_timeout_is_not_failure;
mod bundle_all_or_nothing;
mod cancel_restocks;
mod closed_tab_keeps_the_place;
mod concurrent_oversell;
mod crash_after_said_granted;
mod ghosts_counted;
mod late_paid_twice;
mod no_eta;
mod proof_is_no_identity;
mod refresh_gains_nothing;
mod repeat_click_burns_stock;
mod requests_before_opening;
mod signed_fields_spliced;
mod solution_replayed;
mod too_many_open_files;
