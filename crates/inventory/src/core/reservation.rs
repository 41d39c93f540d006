//! The reservation of an order: all of its basket or nothing. Whatever is said of it again changes
//! nothing.

use super::{
    allocation::{self, Houses, Plan, Units},
    basket::Basket,
    level::{Kind, Movement, Unfit},
    shelf::{Claim, Move, Shelf, Shelves, Spot},
};
use contracts::{
    SaleId,
    store::{CameBack, Lacking, OrderId, Sku, WarehouseId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use units::TimeMs;

/// How a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StockReservationState")]
pub enum State {
    /// Until a time.
    Held,
    /// Until the order is shipped, or released.
    Confirmed,
    Shipped,
    /// Its units are free again; they can be taken once more.
    Expired,
    /// For good.
    Released,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Held, Self::Confirmed, Self::Shipped, Self::Expired, Self::Released];

    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Expired => "expired",
            Self::Released => "released",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether units are set aside.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Held | Self::Confirmed)
    }
}

/// What a reservation has of one SKU in one warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub quantity: u32,
    /// Of these, how many came out of the sale's claim.
    pub of_claim: u32,
    /// Of these, how many came back after they were shipped.
    pub came_back: u32,
}

/// The reservation of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub order: OrderId,
    pub state: State,
    /// The sale from whose claim units are taken first.
    pub sale: Option<SaleId>,
    pub until: TimeMs,
    pub lines: BTreeMap<Spot, Line>,
    /// Why its units are taken from these warehouses.
    pub why: String,
    /// Counts changes.
    pub version: u64,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is too little of these.
    Short(Vec<Lacking>),
    /// The state does not allow it.
    State(State),
    /// It was reserved with other lines.
    OtherLines,
    /// More than was shipped would have come back, of this SKU.
    NotShipped(Sku),
    /// The level here does not allow it: of units that are given back, a defect.
    Unfit(Spot, Unfit),
}

/// From where a basket is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub lines: BTreeMap<Spot, Line>,
    pub why: String,
}

/// Takes a basket from the shelves, all of it or nothing. Of a SKU of which the sale has as much as
/// is wanted, only its own units are taken: what is free is for others.
pub fn take(
    order: OrderId,
    sale: Option<&SaleId>,
    basket: &Basket,
    houses: &Houses,
    shelves: &mut Shelves,
) -> Result<Taken, Refused> {
    let left_of = |shelf: &Shelf| {
        let claim = sale.and_then(|sale| shelf.claims.get(sale));
        claim.filter(|claim| claim.is_open).map_or(0, |claim| claim.left)
    };
    let mut there = Units::new();
    for (sku, wanted) in basket {
        let shelf = |warehouse: &WarehouseId| {
            let shelf = shelves.get(&Spot { sku: sku.clone(), warehouse: warehouse.clone() })?;
            Some((warehouse.clone(), left_of(shelf), shelf.level.free()))
        };
        let found: Vec<_> = houses.keys().filter_map(shelf).collect();
        let suffices = found.iter().map(|(_, left, _)| left).sum::<u64>() >= u64::from(*wanted);
        let units = found.into_iter().map(|(warehouse, left, free)| {
            let units = if suffices { left } else { left + free };
            (warehouse, units)
        });
        there.insert(sku.clone(), units.collect());
    }
    let Some(Plan { lines: planned, why }) = allocation::plan(basket, houses, &there) else {
        let there = |sku: &Sku| there.get(sku).map_or(0, |of| of.values().sum());
        let lacking = basket.iter().map(|(sku, wanted)| (sku, *wanted, there(sku)));
        let lacking = lacking.filter(|(_, wanted, free)| u64::from(*wanted) > *free);
        return Err(Refused::Short(
            lacking.map(|(sku, wanted, free)| Lacking { sku: sku.clone(), wanted, free }).collect(),
        ));
    };
    let mut lines = BTreeMap::new();
    for (sku, of_sku) in planned {
        for (warehouse, quantity) in of_sku {
            let spot = Spot { sku: sku.clone(), warehouse };
            // It is not more than what is wanted.
            let of_claim = shelves.get(&spot).map_or(0, left_of).min(u64::from(quantity)) as u32;
            lines.insert(spot, Line { quantity, of_claim, came_back: 0 });
        }
    }
    apply(order, sale, Kind::Reserve, &lines, shelves)?;
    // Of one warehouse there is nothing to say.
    let why = if houses.len() > 1 { why.to_string() } else { String::new() };
    Ok(Taken { lines, why })
}

/// Makes the same movement of all lines, or of none.
fn apply(
    order: OrderId,
    sale: Option<&SaleId>,
    kind: Kind,
    lines: &BTreeMap<Spot, Line>,
    shelves: &mut Shelves,
) -> Result<(), Refused> {
    let mut after = Vec::with_capacity(lines.len());
    for (spot, line) in lines {
        let unfit = |why| Refused::Unfit(spot.clone(), why);
        let shelf = shelves.get(spot).ok_or_else(|| unfit(Unfit::NotSetAside))?;
        let mut claim = sale.and_then(|sale| shelf.claims.get(sale)).copied();
        let of_claim = of_claim(kind, line, claim.as_mut()).map_err(unfit)?;
        let movement = Movement { kind, units: line.quantity.into(), of_claim };
        let level = shelf.level.after(movement).map_err(unfit)?;
        let sale = sale.filter(|_| line.of_claim > 0).cloned();
        after.push((spot, level, claim, Move { order: Some(order), sale, ..Move::of(movement) }));
    }
    for (spot, level, claim, moved) in after {
        let shelf = shelves.entry(spot.clone()).or_default();
        shelf.level = level;
        if let (Some(sale), Some(claim)) = (sale, claim) {
            shelf.claims.insert(sale.clone(), claim);
        }
        shelf.moves.push((moved, level));
    }
    Ok(())
}

/// What a line takes out of its claim, or puts back into it.
fn of_claim(kind: Kind, line: &Line, claim: Option<&mut Claim>) -> Result<u64, Unfit> {
    let units = u64::from(line.of_claim);
    if units == 0 || !matches!(kind, Kind::Reserve | Kind::Release | Kind::Expire) {
        return Ok(0);
    }
    let claim = claim.ok_or(Unfit::NotSetAside)?;
    let less = |of: u64| of.checked_sub(units).ok_or(Unfit::NotSetAside);
    if kind == Kind::Reserve {
        (claim.left, claim.taken) = (less(claim.left)?, claim.taken + units);
        return Ok(units);
    }
    claim.taken = less(claim.taken)?;
    // A sale that has given back what was left has no use for more.
    let back = if claim.is_open { units } else { 0 };
    claim.left += back;
    Ok(back)
}

impl Reservation {
    /// How many units of each SKU it is for.
    pub fn basket(&self) -> Basket {
        let mut basket = Basket::new();
        for (spot, line) in &self.lines {
            *basket.entry(spot.sku.clone()).or_default() += line.quantity;
        }
        basket
    }

    fn take(&mut self, houses: &Houses, shelves: &mut Shelves) -> Result<(), Refused> {
        let taken = take(self.order, self.sale.as_ref(), &self.basket(), houses, shelves)?;
        (self.lines, self.why) = (taken.lines, taken.why);
        Ok(())
    }

    /// The same is asked for again. Returns whether anything changed.
    pub fn reserve_again(
        &mut self,
        basket: &Basket,
        until: TimeMs,
        houses: &Houses,
        shelves: &mut Shelves,
    ) -> Result<bool, Refused> {
        match self.state {
            State::Released => Err(Refused::State(self.state)),
            _ if self.basket() != *basket => Err(Refused::OtherLines),
            State::Held | State::Confirmed | State::Shipped => Ok(false),
            State::Expired => {
                self.take(houses, shelves)?;
                self.until = until;
                self.enter(State::Held);
                Ok(true)
            }
        }
    }

    /// The order is paid. One that has expired is made again, if that can be.
    pub fn confirm(&mut self, houses: &Houses, shelves: &mut Shelves) -> Result<bool, Refused> {
        match self.state {
            State::Confirmed | State::Shipped => return Ok(false),
            State::Released => return Err(Refused::State(self.state)),
            State::Held => {}
            State::Expired => self.take(houses, shelves)?,
        }
        self.move_all(Kind::Confirm, shelves)?;
        self.enter(State::Confirmed);
        Ok(true)
    }

    /// The order does not want its units any more.
    pub fn release(&mut self, shelves: &mut Shelves) -> Result<bool, Refused> {
        match self.state {
            State::Shipped | State::Released => return Ok(false),
            State::Expired => {}
            State::Held | State::Confirmed => self.move_all(Kind::Release, shelves)?,
        }
        self.enter(State::Released);
        Ok(true)
    }

    /// The time has come, unless the order was paid.
    pub fn expire(&mut self, now: TimeMs, shelves: &mut Shelves) -> Result<bool, Refused> {
        if self.state != State::Held || self.until > now {
            return Ok(false);
        }
        self.move_all(Kind::Expire, shelves)?;
        self.enter(State::Expired);
        Ok(true)
    }

    /// The units left the house.
    pub fn ship(&mut self, shelves: &mut Shelves) -> Result<bool, Refused> {
        match self.state {
            State::Shipped => return Ok(false),
            State::Held | State::Expired | State::Released => return Err(Refused::State(self.state)),
            State::Confirmed => self.move_all(Kind::Ship, shelves)?,
        }
        self.enter(State::Shipped);
        Ok(true)
    }

    /// Units came back, to be sold again or not.
    pub fn take_back(
        &mut self,
        basket: &Basket,
        what: CameBack,
        shelves: &mut Shelves,
    ) -> Result<(), Refused> {
        if self.state != State::Shipped {
            return Err(Refused::State(self.state));
        }
        let (mut lines, mut after) = (self.lines.clone(), Vec::with_capacity(basket.len()));
        // Units come back to a warehouse that they were sent from. Of a SKU that was sent from
        // several, nobody says which parcel it was: the first of them has them.
        let mut missing = basket.clone();
        for (spot, line) in &mut lines {
            let Some(missing) = missing.get_mut(&spot.sku) else { continue };
            let units = line.quantity.saturating_sub(line.came_back).min(*missing);
            if units == 0 {
                continue;
            }
            (*missing, line.came_back) = (*missing - units, line.came_back + units);
            let unfit = |why| Refused::Unfit(spot.clone(), why);
            let mut shelf = shelves.get(spot).cloned().ok_or_else(|| unfit(Unfit::NotSetAside))?;
            let scrapped = (what == CameBack::Scrap).then_some(Kind::Scrap);
            for kind in [Some(Kind::TakeBack), scrapped].into_iter().flatten() {
                let movement = Movement { kind, units: units.into(), of_claim: 0 };
                shelf.push(Move { order: Some(self.order), ..Move::of(movement) }).map_err(unfit)?;
            }
            after.push((spot.clone(), shelf));
        }
        if let Some((sku, _)) = missing.into_iter().find(|(_, units)| *units > 0) {
            return Err(Refused::NotShipped(sku));
        }
        shelves.extend(after);
        self.lines = lines;
        self.version += 1;
        Ok(())
    }

    fn move_all(&self, kind: Kind, shelves: &mut Shelves) -> Result<(), Refused> {
        apply(self.order, self.sale.as_ref(), kind, &self.lines, shelves)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.version += 1;
    }
}
