//! The message service in the simulator: publishers, subscribers, operators and a courier, and an
//! independent reading of the log against which every reply, every entry and every delivery is
//! checked.
//!
//! | module | what |
//! |---|---|
//! | `names` | what the seeds' events, topics and subscriptions are called |
//! | `model` | what the log says, in plain lists |
//! | `underway` | what the service knows and does not log |
//! | `subscribers` | endpoints: what they answer, and what they have had |
//! | `consumers` | those of subscriptions without an endpoint: they pull and settle |
//! | `courier` | takes what is due, delivers it, reports what came of it |
//! | `workload` | publishers and operators |
//! | `checker` | compares every reply and every entry with the model |
//! | `system` | puts them together |

mod checker;
mod consumers;
mod courier;
mod model;
mod names;
mod subscribers;
mod system;
mod underway;
mod workload;

pub use system::Messages;
