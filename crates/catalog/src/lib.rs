//! The catalogue: what is for sale, in two languages. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | the catalogue for other contexts, and what changes it |
//! | [`api`] | products and categories over HTTP |
//! | [`media`] | pictures over HTTP |
//! | [`rules`] | which products and categories are taken |
//! | `store` | products in tables |

pub mod api;
pub mod media;
pub mod rules;
pub mod service;
mod store;
