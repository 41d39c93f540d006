//! The HTTP layer of the flash sale: checks the caller, submits the request to the sale, returns
//! the answer. It owns no stock.

mod admin;
mod admission;
mod api;
mod attempts;
mod basket;
mod browser;
mod challenge;
pub mod config;
mod decisions;
mod drafts;
mod filter;
mod front;
mod hot;
mod hot_route;
mod jws;
pub mod keys;
mod limits;
mod metrics;
mod outcome;
mod page;
mod parts;
pub mod pass;
mod passes;
pub mod ports;
mod problem;
mod read_back;
mod reference;
mod return_url;
mod server;
mod shop_page;
mod sold_counts;
mod strategy;
mod streams;
#[cfg(test)]
mod testing;
mod ticket;
mod way_back;
pub mod winners;

pub use basket::parse_basket;
pub use challenge::Challenges;
pub use config::{Config, DEFAULT_TOML};
pub use drafts::Drafts;
pub use hot_route::{HotRoute, hot_route};
pub use keys::{Keyring, open_jwt_secret};
pub use read_back::read_back;
pub use reference::{operations, reference};
pub use server::{ADMIN_OPEN_MAX, Bound, Options, Part, Server, bind};
pub use strategy::Strategy;
