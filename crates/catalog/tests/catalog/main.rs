//! The catalogue's search on SQLite and on a real MariaDB: what is found, and that the index
//! follows the tables; and its cache, in processes and in a real Redis.

mod cached_reads;
mod follows_the_tables;
mod found_as_by_hand;
mod harness;
mod hostile_words;
#[path = "../../../engines/tests/engines/cache/server.rs"]
mod redis_server;
mod what_was_meant;
