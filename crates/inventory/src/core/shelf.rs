//! What a transaction holds of the stock while it decides: of each SKU in each warehouse the level,
//! the claims of the sales in question, and the movements that were decided.

use super::{
    allocation::Houses,
    level::{Kind, Level, Movement, Unfit},
};
use contracts::{
    SaleId,
    store::{OrderId, Sku, TransferId, WarehouseId},
};
use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// Where units lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub sku: Sku,
    pub warehouse: WarehouseId,
}

impl From<Sku> for Spot {
    /// In the main warehouse.
    fn from(sku: Sku) -> Self {
        Self { sku, warehouse: WarehouseId::main() }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in warehouse {}", self.sku, self.warehouse)
    }
}

/// What a sale has of one SKU in one warehouse. The units that were set aside for it are the sum of
/// both.
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
    pub transfer: Option<TransferId>,
}

impl Move {
    /// For nobody in particular.
    pub fn of(movement: Movement) -> Self {
        Self { movement, order: None, sale: None, transfer: None }
    }
}

/// A movement with its number in its ledger, and the level after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub at: Spot,
    pub sequence: u64,
    pub moved: Move,
    pub level: Level,
}

/// The stock of one SKU in one warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shelf {
    pub level: Level,
    /// The number of its last movement that is in the ledger.
    pub sequence: u64,
    pub claims: BTreeMap<SaleId, Claim>,
    /// Movements that are not in the ledger yet, in their order, and the level after each.
    pub moves: Vec<(Move, Level)>,
}

/// What is done by hand with the units of one SKU in one warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many came in.
    Receive { units: u64 },
    /// So many more were found; if it is negative, so many were lost or broken.
    Adjust { change: i64 },
    /// So many are there.
    Count { counted: u64 },
}

/// How many units of a SKU were counted in a warehouse, in a line of a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetCount {
    pub line: u64,
    pub at: Spot,
    pub on_hand: u64,
    /// The number of the last entry of the ledger when the sheet was written. It has none if it
    /// was written by hand.
    pub sequence: Option<u64>,
}

/// The stock of some SKUs, in all their warehouses.
pub type Shelves = BTreeMap<Spot, Shelf>;

/// Makes these movements, each on another shelf: all of them, or none.
pub(super) fn move_each(shelves: &mut Shelves, moves: Vec<(Spot, Move)>) -> Result<(), (Spot, Unfit)> {
    let level = |(spot, moved): &(Spot, Move)| {
        let level = shelves.get(spot).map(|shelf| shelf.level).ok_or(Unfit::NotSetAside);
        level.and_then(|level| level.after(moved.movement)).map_err(|why| (spot.clone(), why))
    };
    let levels = moves.iter().map(level).collect::<Result<Vec<_>, _>>()?;
    for ((spot, moved), level) in moves.into_iter().zip(levels) {
        let shelf = shelves.entry(spot).or_default();
        shelf.level = level;
        shelf.moves.push((moved, level));
    }
    Ok(())
}

/// What a sale has of one SKU in all its warehouses.
pub fn claim_of(shelves: &Shelves, sku: &Sku, sale: &SaleId) -> Claim {
    let claims = shelves.iter().filter(|(spot, _)| spot.sku == *sku);
    let claims = claims.filter_map(|(_, shelf)| shelf.claims.get(sale));
    claims.fold(Claim::default(), |all, of| Claim {
        left: all.left + of.left,
        taken: all.taken + of.taken,
        is_open: all.is_open || of.is_open,
    })
}

/// The sale is to have so many units of a SKU in all. Those that its orders have stay theirs. More
/// are taken from warehouses that orders are sent from, first from where most is free; fewer leave
/// what is left there. What is left where no orders are sent from any more is of no use to it, and
/// goes back.
pub fn claim(
    shelves: &mut Shelves,
    houses: &Houses,
    sku: &Sku,
    sale: &SaleId,
    units: u64,
) -> Result<(), Unfit> {
    let taken = claim_of(shelves, sku, sale).taken;
    let left = units.checked_sub(taken).ok_or(Unfit::NotSetAside)?;
    let has = |shelf: &Shelf| shelf.claims.get(sale).map_or(0, |claim| claim.left);
    let of_sku = shelves.iter().filter(|(spot, _)| spot.sku == *sku);
    let of_sku = of_sku.map(|(spot, shelf)| (spot.clone(), shelf.clone()));
    let (mut sent_from, others): (Vec<_>, Vec<_>) =
        of_sku.partition(|(spot, _)| houses.contains_key(&spot.warehouse));
    sent_from.sort_by_key(|(_, shelf)| Reverse(shelf.level.free()));
    let before: u64 = sent_from.iter().map(|(_, shelf)| has(shelf)).sum();
    let free: u64 = sent_from.iter().map(|(_, shelf)| shelf.level.free()).sum();
    let (mut more, mut fewer) = (left.saturating_sub(before), before.saturating_sub(left));
    if more > free {
        return Err(Unfit::TooFew { free });
    }
    let mut after = Vec::with_capacity(sent_from.len() + others.len());
    for (spot, mut shelf) in sent_from {
        let (gets, gives) = (shelf.level.free().min(more), has(&shelf).min(fewer));
        (more, fewer) = (more - gets, fewer - gives);
        let left = has(&shelf) + gets - gives;
        shelf.set_claim(sale, left, true)?;
        after.push((spot, shelf));
    }
    for (spot, mut shelf) in others.into_iter().filter(|(_, shelf)| shelf.claims.contains_key(sale)) {
        shelf.set_claim(sale, 0, true)?;
        after.push((spot, shelf));
    }
    shelves.extend(after);
    Ok(())
}

impl Shelf {
    pub(super) fn push(&mut self, moved: Move) -> Result<(), Unfit> {
        self.level = self.level.after(moved.movement)?;
        self.moves.push((moved, self.level));
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
        self.push(Move::of(movement))?;
        Ok(units)
    }

    /// So much is left of what the sale has here.
    fn set_claim(&mut self, sale: &SaleId, left: u64, is_open: bool) -> Result<(), Unfit> {
        let mut claim = self.claims.get(sale).copied().unwrap_or_default();
        let (kind, moved) = match left >= claim.left {
            true => (Kind::Claim, left - claim.left),
            false => (Kind::ReturnClaim, claim.left - left),
        };
        if moved > 0 {
            self.push_of_sale(kind, moved, sale)?;
        }
        (claim.left, claim.is_open) = (left, is_open);
        self.claims.insert(sale.clone(), claim);
        Ok(())
    }

    /// The sale gives back what is left of its claim here. Returns how many that are.
    pub fn return_claim(&mut self, sale: &SaleId) -> Result<u64, Unfit> {
        let Some(left) = self.claims.get(sale).map(|claim| claim.left) else { return Ok(0) };
        self.set_claim(sale, 0, false)?;
        Ok(left)
    }

    fn push_of_sale(&mut self, kind: Kind, units: u64, sale: &SaleId) -> Result<(), Unfit> {
        let units = i64::try_from(units).map_err(|_| Unfit::TooMany)?;
        let movement = Movement { kind, units, of_claim: 0 };
        self.push(Move { sale: Some(sale.clone()), ..Move::of(movement) })
    }
}
