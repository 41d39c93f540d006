//! The rules of the stock, without a database: what a movement does to a level, what becomes of a
//! basket, and what a sale's claim takes and gives back.
//!
//! Always, of each SKU: `on_hand >= reserved + claimed`, so that nothing is promised twice; and the
//! level is what the movements of its ledger add up to, from nothing.

mod level;
mod reservation;
mod shelf;

#[cfg(test)]
mod tests;

pub use level::{Kind, Level, Movement, UNITS_MAX, Unfit};
pub use reservation::{
    Basket, BasketError, LINES_MAX, Line, QUANTITY_MAX, Refused, Reservation, State, basket, free_lines, take,
};
pub use shelf::{Change, Claim, Move, Shelf, Shelves};
