//! The catalogue: what is for sale, in two languages. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | the catalogue for other contexts, and what changes it |
//! | [`api`] | products and categories over HTTP |
//! | [`media`] | pictures over HTTP |
//! | [`pages`] | the operators' pages |
//! | `category_pages` | the operators' page of the categories |
//! | `trail` | what operators have changed |
//! | [`trail_pages`] | the same over HTTP and as a page |
//! | `picture_pages` | the operators' forms for a product's pictures |
//! | [`pictures`] | uploads made into pictures of several sizes |
//! | [`sheet`] | products as comma-separated values |
//! | [`rules`] | which products and categories are taken |
//! | [`search`] | the index by which products are found, and how it follows the tables |
//! | [`cached`] | what pages read most, kept for a while |
//! | `served` | pictures as they are sent, kept for a while |
//! | `tokens` | texts as tokens |
//! | `uploads` | the pictures of a product, as operators change them |
//! | `store` | products in tables |
//! | `picture_rows` | pictures in tables |
//! | `changes` | which products have changed, in tables |
//! | `events` | what has changed, for others |

pub mod api;
pub mod cached;
mod category_pages;
mod changes;
mod events;
pub mod media;
pub mod pages;
mod picture_pages;
mod picture_rows;
pub mod pictures;
pub mod rules;
pub mod search;
mod served;
pub mod service;
pub mod sheet;
mod store;
mod tokens;
mod trail;
pub mod trail_pages;
mod uploads;
