//! How the contexts of the store get what others tell, and tell it: through the message service.

use super::Asked;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use units::TimeMs;

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

/// How far a subscription is behind its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// Events that are not done.
    pub events: u64,
    /// When the oldest of them was posted.
    pub oldest: Option<TimeMs>,
    /// Events that were given up after many tries: they wait for an operator.
    pub dead: u64,
}

/// One subscription. What is not settled comes again; events of one subject come in their order.
pub trait Inbox: Send + Sync {
    /// Waits for so long if there is none.
    fn pull(&self, at_most: usize, wait: Duration) -> Asked<'_, Vec<Pulled>>;

    /// How each ended.
    fn settle(&self, ended: Vec<(Receipt, Ended)>) -> Asked<'_, ()>;

    /// How much there is to take; `None` if this one cannot say.
    fn backlog(&self) -> Asked<'_, Option<Backlog>> {
        Box::pin(async { Ok(None) })
    }
}

/// Where a context tells its events.
pub trait Posts: Send + Sync {
    /// Posts CloudEvents in the JSON format, all of them or none. They are durable when it answers;
    /// those that were posted before are not posted again.
    fn post(&self, events: Vec<String>) -> Asked<'_, ()>;
}
