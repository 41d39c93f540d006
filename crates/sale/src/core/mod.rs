//! The flash sale as a deterministic state machine.
//!
//! A command and the time go in; an answer and the records to be logged come out. There is no clock
//! in here, no disk, no thread and no randomness. The caller must make the records durable before
//! the answer is sent: see [`runtime::Worker`].

mod command_keys;
mod deadlines;
mod due;
mod fields;
mod grown;
mod long_chains;
mod machine;
mod operate;
mod promotions;
mod record;
mod refusal;
mod rules;
mod slots;
mod snapshot;
mod snapshot_fields;
mod state;
mod tally;
mod waiting;
mod waitlist;

pub use command_keys::{COMMAND_KEYS_MAX, CommandAnswer};
pub use machine::{Command, Reply};
pub use operate::{Operated, SoFar};
pub use record::{Entry, Record};
pub use refusal::{RefusalCount, RefusalKind};
pub use rules::{CLOCK_AHEAD_MAX, Core, REFUSALS_EVERY};
pub use tally::Tally;
pub use waiting::WAITING_PAGE_MAX;
