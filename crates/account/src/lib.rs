//! Accounts: who a shopper is. The account's id is the shopper of a sale too, so one log-in serves
//! both. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | accounts for other contexts |
//! | [`api`] | accounts over HTTP, for those who run the shop |
//! | [`pages`] | the operators' pages |
//! | [`email`] | which texts are addresses, and which are the same |
//! | `password` | hashes of passwords |
//! | `passwords` | how a password changes: by its owner, and by a link that was mailed |
//! | `deletion` | how an account is deleted, also of the other contexts |
//! | `operated` | what operators do with an account, in tables |
//! | `operators` | the same as a service |
//! | `guests` | shoppers who order without an account |
//! | `guest_rows` | the same in tables |
//! | `letters` | letters that wait, in a table |
//! | `limits` | how many letters may be asked for |
//! | `links` | links that set a password, in a table |
//! | `words` | what letters say |
//! | `post` | sends what waits |
//! | `events` | what becomes of accounts, for others |
//! | [`provider`] | log-in at a provider of identities (OpenID Connect) |
//! | `connected` | which log-ins there are connected with which account, in a table |
//! | `store` | accounts and sessions in tables |

pub mod api;
mod connected;
mod deletion;
pub mod email;
mod events;
mod guest_rows;
mod guests;
mod letters;
mod limits;
mod links;
mod operated;
mod operators;
pub mod pages;
mod password;
mod passwords;
mod post;
pub mod provider;
pub mod service;
mod store;
mod words;
