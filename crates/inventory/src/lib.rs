//! The stock: how many units of each SKU there are in each warehouse, for whom they are set aside,
//! and every movement that made it so. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: levels, movements, reservations, claims of sales |
//! | [`api`] | the stock over HTTP, for those who run the shop |
//! | [`pages`] | the operators' pages |
//! | [`service`] | the stock for other contexts and for operators, and the loops |
//! | [`audit`] | derives the levels again from the ledger |
//! | `transactions` | what is done in one transaction |
//! | `events` | what others are told |
//! | `store` | the stock in tables |
//! | [`warehouses`] | the warehouses in theirs |

pub mod api;
pub mod audit;
pub mod core;
mod events;
pub mod pages;
pub mod service;
pub mod sheet;
mod store;
mod transactions;
mod transfers;
pub mod warehouses;
