//! The rules of the stock, without a database: what a movement does to a level, what becomes of a
//! basket, and what a sale's claim takes and gives back.
//!
//! Always, of each SKU in each warehouse: `on_hand >= reserved + claimed`, so that nothing is
//! promised twice; and the level is what the movements of its ledger add up to, from nothing.

mod allocation;
mod basket;
mod level;
mod reservation;
mod shelf;
mod transfer;

#[cfg(test)]
mod allocation_tests;
#[cfg(test)]
mod tests;

pub use allocation::{House, Houses, Plan, Units, Why, plan};
pub use basket::{Basket, BasketError, LINES_MAX, QUANTITY_MAX, basket};
pub use level::{Kind, Level, Movement, UNITS_MAX, Unfit};
pub use reservation::{Line, Refused, Reservation, State, Taken, take};
pub use shelf::{Change, Claim, Move, SheetCount, Shelf, Shelves, Spot, Written, claim, claim_of};
pub use transfer::{Transfer, TransferLine, TransferRefused, TransferState};
