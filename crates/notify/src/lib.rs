//! The message service: an event is posted once, stored durably, and delivered to each
//! subscription that wants it.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: a pure state machine over a log |
//! | [`filter`] | which events a subscription wants |

pub mod core;
pub mod filter;
