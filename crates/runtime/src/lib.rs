//! Drives a deterministic state machine over a log: a context brings a [`Machine`], and gets a
//! writer that loses nothing, a bounded queue, recovery, snapshots and an audit.
//!
//! | module | what |
//! |---|---|
//! | [`machine`] | what a context writes: commands in, replies and entries out |
//! | [`step`] | the budget of one step |
//! | [`recover`] | a machine at the end of its log, from a snapshot or from the first entry |
//! | [`worker`] | a step function that makes decisions durable before any reply is sent |
//! | [`queue`], [`drive`], [`service`] | threads, queue and replies around a worker |
//! | [`audit`] | feeds a log to an auditor that does not trust the machine |
//!
//! `tests/ledger` has the smallest machine that is complete, with its auditor; copy it to
//! begin a new one.

pub mod audit;
pub mod drive;
pub mod machine;
pub mod queue;
pub mod recover;
pub mod service;
pub mod step;
mod sync;
pub mod worker;

/// The tests share a machine with those in `tests/`, which names this crate from outside.
#[cfg(test)]
extern crate self as runtime;

pub use machine::{
    Broken, Decision, DuringShortage, Machine, Outage, Progress, REPLAY_INVARIANT, Shortage, SnapshotError,
    ensure,
};
pub use recover::{RecoverError, Recovery, ReplayError, recover, replay, replay_entry, snapshot};
pub use service::{Handle, Mailbox, NotQueued, Service};
pub use step::{Budget, STEP_BYTES_MAX, STEP_WORK_MAX, Step};
pub use worker::{SHORTAGE_RETRY, STEP_COMMANDS_MAX, Worker};
