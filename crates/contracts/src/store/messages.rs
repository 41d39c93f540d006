//! How the contexts of the store get what others tell, and tell it: through the message service.

use super::Asked;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An event that was taken, to be settled within its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    pub receipt: Receipt,
    /// A CloudEvent in the JSON format.
    pub event: String,
}

/// Which event was taken, and which attempt at it this is, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Receipt {
    pub number: u64,
    pub attempt: u32,
}

/// How the work on an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    Done,
    /// It cannot be done as it is. It comes again some times, later and later, and then waits for
    /// an operator.
    Failed,
    /// It was not tried, for a reason that passes. It comes again.
    Later,
}

/// One subscription. What is not settled comes again; events of one subject come in their order.
pub trait Inbox: Send + Sync {
    /// Waits for so long if there is none.
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>>;

    /// How each ended.
    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()>;
}

/// Where a context tells its events.
pub trait Posts: Send + Sync {
    /// Posts CloudEvents in the JSON format, all of them or none. They are durable when it answers;
    /// those that were posted before are not posted again.
    fn post(&self, events: Vec<String>) -> Asked<'_, ()>;
}
