//! The stock on SQLite and on a real MariaDB, asked by many at once, killed, and audited.

mod baskets_in_opposite_orders;
mod harness;
mod killed;
mod last_unit;
mod made_together;
mod public_failures;
mod random_commands;
mod said_again;
mod sheets;
mod told;
mod transfers;
mod warehouses;
