//! The message service: an event is posted once, stored durably, and delivered to each
//! subscription that wants it.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: a pure state machine over a log |
//! | [`filter`] | which events a subscription wants |
//! | [`bodies`] | events in the log |
//! | [`push`] | delivers one message to one endpoint |
//! | `test_delivery` | one event to one endpoint at once, to see what it answers |
//! | [`courier`] | takes what is due from the core, and delivers it |
//! | [`server`], `api`, `pages`, `health` | the listener for publishers and operators |
//! | `command_key` | commands that are carried out once |
//! | `scope`, `quotas` | what a tenant may know of, and how much its keys may do |
//! | `filler` | asks the filters of subscriptions that begin with earlier events |
//! | `alerts` | what operators must hear of, as events |
//! | `inbox` | pulling and posting for callers in this process |
//! | `pulls` | deliveries for consumers who pull |
//! | `streams` | how many streams are open |
//! | [`parts`], [`reference`] | what its handlers use; its documents |

mod alerts;
mod api;
pub mod bodies;
mod command_key;
pub mod config;
pub mod core;
pub mod courier;
mod filler;
pub mod filter;
mod health;
mod inbox;
mod pages;
pub mod parts;
mod problem;
mod pulls;
pub mod push;
mod quotas;
pub mod reference;
mod scope;
pub mod server;
mod streams;
mod test_delivery;
