//! The catalogue: what is for sale, in two languages. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | the catalogue for other contexts, and what changes it |
//! | [`api`] | products and categories over HTTP |
//! | [`media`] | pictures over HTTP |
//! | [`pages`] | the operators' pages |
//! | [`sheet`] | products as comma-separated values |
//! | [`rules`] | which products and categories are taken |
//! | [`search`] | the index by which products are found, and how it follows the tables |
//! | [`cached`] | what pages read most, kept for a while |
//! | `tokens` | texts as tokens |
//! | `store` | products in tables |
//! | `changes` | which products have changed, in tables |

pub mod api;
pub mod cached;
mod changes;
pub mod media;
pub mod pages;
pub mod rules;
pub mod search;
pub mod service;
pub mod sheet;
mod store;
mod tokens;
