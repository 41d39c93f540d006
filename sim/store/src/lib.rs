//! The store in a simulator: the real services of orders, payments and stock, on SQLite, wired with
//! each other as `floodgate` wires them, in one thread whose time and chance follow from a seed.
//!
//! | module | what |
//! |---|---|
//! | `world` | time, dice, crashes, faults, and what was reached |
//! | `process`, `services` | the services of one life, on databases that outlive it |
//! | `bus`, `sale`, `provider`, `catalog` | models of what the services meet |
//! | `shoppers`, `operators` | the people, and what breaks |
//! | `checker` | the model that all books are compared with |
//! | [`runner`], [`cli`] | many seeds, and the program |

mod bus;
mod catalog;
mod checker;
pub mod cli;
mod operators;
mod process;
mod provider;
pub mod reached;
pub mod runner;
mod sale;
mod services;
mod shoppers;
mod world;
