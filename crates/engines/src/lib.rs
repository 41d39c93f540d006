//! The ports through which contexts own state, and every engine that implements them.
//!
//! Today: [`log`] (one ordered decision log per stock partition), [`clock`], [`chance`] and, with
//! the feature `sql`, `sql` (transactions on tables), with the feature `search`, `search`
//! (documents by words), with the feature `cache`, `cache` (values for a while); engines:
//! [`embedded`] and, with the feature `nats`, `nats` for logs, with the feature `sqlite`, `sqlite`
//! for tables, for caches the process itself and, with the feature `redis`, Redis, and with the
//! feature `mail`, `mail`, by which letters leave the house. [`codec`] encodes records as the
//! log's bytes, [`background`] lowers the priority of background threads.

pub mod background;
#[cfg(feature = "cache")]
pub mod cache;
pub mod chance;
pub mod clock;
pub mod codec;
pub mod embedded;
pub mod log;
#[cfg(feature = "mail")]
pub mod mail;
#[cfg(feature = "mariadb")]
pub mod mariadb;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "search")]
pub mod search;
#[cfg(feature = "sql")]
#[cfg_attr(
    not(any(feature = "sqlite", feature = "mariadb")),
    allow(dead_code, reason = "a part of it is for engines")
)]
pub mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
