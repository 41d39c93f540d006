//! The catalogue's search on SQLite and on a real MariaDB: what is found, and that the index
//! follows the tables.

mod follows_the_tables;
mod found_as_by_hand;
mod harness;
mod hostile_words;
mod what_was_meant;
