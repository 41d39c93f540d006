//! The interfaces that other programs build on, each tested on the real binary over real HTTP.

#[path = "../harness/mod.rs"]
mod harness;

mod admin_separation;
mod audit_document;
mod backup_restore;
mod challenge;
mod clients;
mod config_errors;
mod demo;
mod denied_networks;
mod disk_full;
mod drafts;
mod drafts_and_crashes;
mod durable_directories;
mod earlier_events;
mod eligibility;
mod event_streams;
mod foreign_libraries;
mod gates;
mod hostile_crowds;
mod lifecycle;
mod log_in_words;
mod logs_on_nats;
mod messages;
mod not_eligible;
mod one_sale_down;
mod openapi_as_served;
mod operators_in_the_log;
mod public_times;
mod ready_for_the_storm;
mod refused_definition;
mod refused_requests;
mod rehearsal;
mod sales_on_a_mount;
mod schedules;
mod sign_in;
mod sold_out;
mod sold_out_events;
mod strategy;
mod tenants;
mod test_deliveries;
mod tls;
mod waitlist_events;
mod waitlist_pages;
mod winners_feed;
