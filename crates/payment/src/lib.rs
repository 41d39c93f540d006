//! Payments: money for orders, through providers. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: what a provider's word makes of a payment |
//! | [`provider`] | the port of providers |
//! | [`stripe`] | Stripe as a provider |
//! | [`no_provider`] | for a shop that takes no payments by itself |
//! | [`sandbox`] | a provider that is built in, whose page lets the payer choose what happens |
//! | `signature` | signatures of webhooks |
//! | [`api`] | payments, webhooks and reports over HTTP |
//! | [`pages`] | the operators' page |
//! | [`service`] | payments for other contexts, webhooks, and the loop that does what is due |
//! | [`reconcile`] | reads the provider's books, and compares them with the shop's |
//! | [`report`] | what a day's comparison says |
//! | `store` | payments in tables |
//! | `ledger` | books in tables |

pub mod api;
pub mod core;
mod ledger;
pub mod no_provider;
pub mod pages;
pub mod provider;
pub mod reconcile;
pub mod report;
pub mod sandbox;
pub mod service;
mod signature;
mod store;
pub mod stripe;
#[cfg(test)]
mod tests;
