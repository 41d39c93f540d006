//! The HTTP layer of the flash sale: verifies who asks, queues the question, returns the answer. It owns no stock.

pub mod admin;
mod admission;
pub mod api;
mod challenge;
pub mod config;
mod cors;
mod filter;
mod front;
mod jws;
pub mod jwt;
pub mod keys;
mod metrics;
mod orders;
mod page;
pub mod pass;
pub mod ports;
mod pressure;
mod problem;
mod return_url;
mod server;
mod state;
mod strategy;
#[cfg(test)]
mod testing;
mod ticket;
pub mod winners;
pub mod wire;

pub use challenge::Challenges;
pub use config::{Config, DEFAULT_TOML};
pub use filter::DenyList;
pub use keys::{Keyring, open_jwt_secret};
pub use pressure::Memory;
pub use server::{Bound, Options, Part, Server, bind};
pub use strategy::Strategy;
