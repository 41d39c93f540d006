//! What a transaction holds of the stock while it decides: of each SKU the level, the claims of the
//! sales in question, and the movements that were decided.

use super::level::{Kind, Level, Movement, Unfit};
use contracts::{
    SaleId,
    store::{OrderId, Sku},
};
use std::collections::BTreeMap;

/// What a sale has of one SKU. The units that were set aside for it are the sum of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// What no order has reserved yet.
    pub left: u64,
    /// What its orders have reserved, shipped units included.
    pub taken: u64,
    /// Until the sale gives back what is left. What its orders give up is free after that.
    pub is_open: bool,
}

/// A movement, with that for which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub movement: Movement,
    pub order: Option<OrderId>,
    pub sale: Option<SaleId>,
}

/// The stock of one SKU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shelf {
    pub level: Level,
    /// The number of its last movement that is in the ledger.
    pub sequence: u64,
    pub claims: BTreeMap<SaleId, Claim>,
    /// Movements that are not in the ledger yet, in their order.
    pub moves: Vec<Move>,
}

/// What is done with the units of one SKU by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many came in.
    Receive { units: u64 },
    /// So many more were found; if it is negative, so many were lost or broken.
    Adjust { change: i64 },
    /// So many are there.
    Count { counted: u64 },
}

/// The stock of some SKUs.
pub type Shelves = BTreeMap<Sku, Shelf>;

impl Shelf {
    pub(super) fn push(&mut self, moved: Move) -> Result<(), Unfit> {
        self.level = self.level.after(moved.movement)?;
        self.moves.push(moved);
        Ok(())
    }

    /// Carries out what was done by hand. Returns by how many units it changed what is on hand.
    pub fn change(&mut self, change: Change) -> Result<i64, Unfit> {
        let (kind, units) = match change {
            Change::Receive { units } => (Kind::Receive, i64::try_from(units).map_err(|_| Unfit::TooMany)?),
            Change::Adjust { change } => (Kind::Adjust, change),
            Change::Count { counted } => {
                let counted = i64::try_from(counted).map_err(|_| Unfit::TooMany)?;
                // What is on hand is far below what the type can say.
                (Kind::Count, counted - self.level.on_hand as i64)
            }
        };
        let movement = Movement { kind, units, of_claim: 0 };
        self.push(Move { movement, order: None, sale: None })?;
        Ok(units)
    }

    /// The sale is to have so many units in all. Those that its orders have stay theirs.
    pub fn claim(&mut self, sale: &SaleId, units: u64) -> Result<(), Unfit> {
        let mut claim = self.claims.get(sale).copied().unwrap_or_default();
        let left = units.checked_sub(claim.taken).ok_or(Unfit::NotSetAside)?;
        let (kind, moved) = match left >= claim.left {
            true => (Kind::Claim, left - claim.left),
            false => (Kind::ReturnClaim, claim.left - left),
        };
        if moved > 0 {
            self.push_of_sale(kind, moved, sale)?;
        }
        (claim.left, claim.is_open) = (left, true);
        self.claims.insert(sale.clone(), claim);
        Ok(())
    }

    /// The sale gives back what is left of its claim. Returns how many that are.
    pub fn return_claim(&mut self, sale: &SaleId) -> Result<u64, Unfit> {
        let Some(mut claim) = self.claims.get(sale).copied() else { return Ok(0) };
        let left = claim.left;
        if left > 0 {
            self.push_of_sale(Kind::ReturnClaim, left, sale)?;
        }
        (claim.left, claim.is_open) = (0, false);
        self.claims.insert(sale.clone(), claim);
        Ok(left)
    }

    fn push_of_sale(&mut self, kind: Kind, units: u64, sale: &SaleId) -> Result<(), Unfit> {
        let units = i64::try_from(units).map_err(|_| Unfit::TooMany)?;
        let movement = Movement { kind, units, of_claim: 0 };
        self.push(Move { movement, order: None, sale: Some(sale.clone()) })
    }
}
