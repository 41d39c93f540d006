//! Orders: what was bought, by whom, and how far it is. Its database is its own, spread over
//! shards by shopper.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: a pure state machine |
//! | [`store`] | orders in tables |
//! | [`service`] | orders for their shoppers, and the loops below |
//! | `winners` | holds that a sale has granted become orders |
//! | `tasks` | what is to be done outside: ask the sale, refund, tell others |

pub mod core;
pub mod service;
pub mod store;
mod tasks;
mod winners;
