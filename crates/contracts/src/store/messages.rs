//! How the contexts of the store get what others tell, and tell it: through the message service.

use super::Asked;
use std::time::Duration;

/// An event that was taken, to be settled within its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub receipt: Receipt,
    /// A CloudEvent in the JSON format.
    pub event: String,
}

/// Which event was taken, and for the how manieth time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub number: u64,
    pub attempt: u32,
}

/// One subscription. What is not settled comes again; events of one subject come in their order.
pub trait Inbox: Send + Sync {
    /// Waits for so long if there is none.
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>>;

    /// What was done, and what is to come again later.
    fn settle(&self, done: Vec<Receipt>, failed: Vec<Receipt>) -> Asked<'_, ()>;
}

/// Where a context tells its events.
pub trait Posts: Send + Sync {
    /// Posts CloudEvents in the JSON format, all of them or none. They are durable when it answers;
    /// those that were posted before are not posted again.
    fn post(&self, events: Vec<String>) -> Asked<'_, ()>;
}
