//! What an order wants of the stock.

use contracts::store::{Sku, StockLine};
use std::{collections::BTreeMap, fmt};

/// Lines of a basket, at the most.
pub const LINES_MAX: usize = 1000;
/// Units of one SKU in a basket, at the most.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// How many units of each SKU are wanted.
pub type Basket = BTreeMap<Sku, u32>;

/// Why lines are no basket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BasketError {
    Empty,
    TooLong {
        count: usize,
    },
    /// The line with this number, from 0.
    Nothing {
        line: usize,
    },
    TooMany {
        line: usize,
    },
}

impl fmt::Display for BasketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("lines: want at least one"),
            Self::TooLong { count } => {
                write!(f, "lines: want {LINES_MAX} at the most, and there are {count}")
            }
            Self::Nothing { line } => write!(f, "lines[{line}].quantity: want at least 1"),
            Self::TooMany { line } => {
                write!(f, "lines[{line}].quantity: want {QUANTITY_MAX} units of one sku at the most")
            }
        }
    }
}

impl std::error::Error for BasketError {}

/// Adds up the lines of each SKU.
pub fn basket(lines: &[StockLine]) -> Result<Basket, BasketError> {
    if lines.is_empty() {
        return Err(BasketError::Empty);
    }
    if lines.len() > LINES_MAX {
        return Err(BasketError::TooLong { count: lines.len() });
    }
    let mut basket = Basket::new();
    for (line, StockLine { sku, quantity }) in lines.iter().enumerate() {
        if *quantity == 0 {
            return Err(BasketError::Nothing { line });
        }
        let sum = basket.entry(sku.clone()).or_default();
        *sum = sum.saturating_add(*quantity);
        if *sum > QUANTITY_MAX {
            return Err(BasketError::TooMany { line });
        }
    }
    Ok(basket)
}
