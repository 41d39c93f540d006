//! Accounts: who a shopper is. The account's id is the shopper of a sale too, so one log-in serves
//! both. Its database is its own.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | accounts for other contexts |
//! | [`email`] | which texts are addresses, and which are the same |
//! | `password` | hashes of passwords |
//! | `store` | accounts and sessions in tables |

pub mod email;
mod password;
pub mod service;
mod store;
