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
//! | `store` | products in tables |

pub mod api;
pub mod media;
pub mod pages;
pub mod rules;
pub mod service;
pub mod sheet;
mod store;
