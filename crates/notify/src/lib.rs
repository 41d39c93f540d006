//! The message service: an event is posted once, stored durably, and delivered to each
//! subscription that wants it.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: a pure state machine over a log |
//! | [`filter`] | which events a subscription wants |
//! | [`cloud_events`] | what publishers send |
//! | [`bodies`] | events in the log |

pub mod bodies;
pub mod cloud_events;
pub mod core;
pub mod filter;
