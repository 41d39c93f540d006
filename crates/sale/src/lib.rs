//! The flash sale's business layer: [`core`] holds the rules, [`service`] gives the worker that
//! drives them a thread and callers a handle, [`membership_filter`] says which shoppers gates may
//! answer by themselves, [`free_units`] follows the stock in the log, [`audit`] derives everything
//! again from the log alone.

pub mod audit;
pub mod core;
pub mod free_units;
pub mod membership_filter;
#[cfg(test)]
mod membership_filter_tests;
mod queue;
#[cfg(test)]
mod queue_tests;
pub mod service;
mod sync;
pub mod timeline;

pub use core::{Command, Reply};

/// A sale's single writer.
pub type Worker<L> = runtime::Worker<core::Core, L>;
