//! Payments: money for orders, through providers. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`core`] | the rules: what a provider's word makes of a payment |
//! | [`provider`] | the port of providers |
//! | [`no_provider`] | for a shop that takes no payments by itself |
//! | [`sandbox`] | a provider that is built in, whose page lets the payer choose what happens |
//! | [`api`] | payments and webhooks over HTTP |
//! | [`pages`] | the operators' page |
//! | [`service`] | payments for other contexts, webhooks, and the loop that does what is due |
//! | `store` | payments in tables |

pub mod api;
pub mod core;
pub mod no_provider;
pub mod pages;
pub mod provider;
pub mod sandbox;
pub mod service;
mod store;
