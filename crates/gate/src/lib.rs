//! The HTTP layer of the flash sale: verifies who asks, queues the question, returns the answer. It
//! owns no stock.

pub mod admin;
mod admission;
pub mod api;
mod challenge;
pub mod config;
mod filter;
mod front;
mod hot;
mod hot_route;
mod jws;
pub mod keys;
mod metrics;
mod outcome;
mod page;
pub mod pass;
pub mod ports;
mod problem;
mod return_url;
mod server;
mod state;
mod strategy;
#[cfg(test)]
mod testing;
mod ticket;
mod way_back;
pub mod winners;

pub use challenge::Challenges;
pub use config::{Config, DEFAULT_TOML};
pub use hot_route::{HotRoute, hot_route};
pub use keys::{Keyring, open_jwt_secret};
pub use server::{Bound, Options, Part, Server, bind};
pub use strategy::Strategy;
