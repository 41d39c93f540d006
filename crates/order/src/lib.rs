//! Orders: what was bought, by whom, and how far it is. Its database is its own, spread over
//! shards by shopper.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: a pure state machine |
//! | [`store`] | orders in tables |
//! | [`shards`] | the databases, and transactions where a bucket is |
//! | [`directory`] | which database has which bucket |
//! | [`moves`], `rows` | buckets move to another database |
//! | [`api`] | orders over HTTP, for those who run the shop |
//! | [`service`] | orders for their shoppers, and the loops below |
//! | [`charges`] | what an order costs beside its lines |
//! | `carts`, `cart_rows` | carts, and how one becomes an order |
//! | [`pages`] | the operators' pages |
//! | `names` | what a sale's items are called |
//! | `winners` | holds that a sale has granted become orders |
//! | [`return_rows`], `returned` | returns: their steps, and how they stand |
//! | `erased` | what goes when a shopper's account is deleted |
//! | [`list`], `list_rows` | the list of all orders, in a database of its own, and its building |
//! | `listed` | the list follows the orders' events, and answers |
//! | [`summary`] | an order as lists and events have it |
//! | `waiting_rows` | how much waits, for the console |
//! | `tasks` | what is to be done outside: ask the sale, refund, tell others |

pub mod api;
mod cart_rows;
mod carts;
pub mod charges;
pub mod core;
pub mod directory;
mod erased;
pub mod list;
mod list_rows;
mod listed;
#[cfg(test)]
#[path = "../../engines/tests/engines/mariadb/server.rs"]
mod mariadb_server;
pub mod moves;
mod names;
pub mod pages;
pub mod return_rows;
mod returned;
mod rows;
pub mod service;
pub mod shards;
pub mod store;
pub mod summary;
mod tasks;
mod waiting_rows;
mod winners;
