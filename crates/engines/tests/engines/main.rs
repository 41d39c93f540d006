//! The tests of the embedded log over real files, and of that on NATS with a real server, in one
//! binary.

mod bit_flip;
#[cfg(feature = "redis")]
mod cache;
mod conformance;
mod corpus;
mod crash_schedules;
mod failed_fsync;
mod foreign_file;
mod full_disk;
mod golden;
mod growing_segment;
#[cfg(feature = "mariadb")]
mod mariadb;
mod missing_segment;
#[cfg(feature = "nats")]
mod nats;
mod real_shortages;
#[cfg(feature = "sqlite")]
mod sqlite;
mod torn_tail;
mod two_writers;
mod world;
