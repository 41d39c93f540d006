//! The reservation of an order: all of its basket or nothing. Whatever is said of it again changes
//! nothing.

use super::{
    level::{Kind, Movement, Unfit},
    shelf::{Claim, Move, Shelf, Shelves},
};
use contracts::{
    SaleId,
    store::{CameBack, Lacking, OrderId, Sku, StockLine},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use units::TimeMs;

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

/// What a reservation has of one SKU.
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
    pub lines: BTreeMap<Sku, Line>,
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
    /// The level of this SKU does not allow it: of units that are given back, a defect.
    Unfit(Sku, Unfit),
}

/// The lines of a basket of which nothing comes out of a claim.
pub fn free_lines(basket: &Basket) -> BTreeMap<Sku, Line> {
    let line = |quantity| Line { quantity, of_claim: 0, came_back: 0 };
    basket.iter().map(|(sku, quantity)| (sku.clone(), line(*quantity))).collect()
}

/// Takes a basket from the shelves: of each SKU first what is left of the sale's claim. All of it,
/// or nothing.
pub fn take(
    order: OrderId,
    sale: Option<&SaleId>,
    basket: &Basket,
    shelves: &mut Shelves,
) -> Result<BTreeMap<Sku, Line>, Refused> {
    let left_of = |shelf: &Shelf| {
        let claim = sale.and_then(|sale| shelf.claims.get(sale));
        claim.filter(|claim| claim.is_open).map_or(0, |claim| claim.left)
    };
    let (mut lines, mut lacking) = (BTreeMap::new(), Vec::new());
    for (sku, wanted) in basket {
        let (left, free) = shelves.get(sku).map_or((0, 0), |shelf| (left_of(shelf), shelf.level.free()));
        if u64::from(*wanted) > left + free {
            lacking.push(Lacking { sku: sku.clone(), wanted: *wanted, free: left + free });
        }
        // It is not more than what is wanted.
        let of_claim = left.min(u64::from(*wanted)) as u32;
        lines.insert(sku.clone(), Line { quantity: *wanted, of_claim, came_back: 0 });
    }
    if !lacking.is_empty() {
        return Err(Refused::Short(lacking));
    }
    apply(order, sale, Kind::Reserve, &lines, shelves)?;
    Ok(lines)
}

/// Makes the same movement of all lines, or of none.
fn apply(
    order: OrderId,
    sale: Option<&SaleId>,
    kind: Kind,
    lines: &BTreeMap<Sku, Line>,
    shelves: &mut Shelves,
) -> Result<(), Refused> {
    let mut after = Vec::with_capacity(lines.len());
    for (sku, line) in lines {
        let unfit = |why| Refused::Unfit(sku.clone(), why);
        let mut shelf = shelves.get(sku).cloned().ok_or_else(|| unfit(Unfit::NotSetAside))?;
        let claim = sale.and_then(|sale| shelf.claims.get_mut(sale));
        let of_claim = of_claim(kind, line, claim).map_err(unfit)?;
        let movement = Movement { kind, units: line.quantity.into(), of_claim };
        let moved = Move { movement, order: Some(order), sale: sale.filter(|_| line.of_claim > 0).cloned() };
        shelf.push(moved).map_err(unfit)?;
        after.push((sku.clone(), shelf));
    }
    shelves.extend(after);
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
        self.lines.iter().map(|(sku, line)| (sku.clone(), line.quantity)).collect()
    }

    /// The same is asked for again. Returns whether anything changed.
    pub fn reserve_again(
        &mut self,
        basket: &Basket,
        until: TimeMs,
        shelves: &mut Shelves,
    ) -> Result<bool, Refused> {
        match self.state {
            State::Released => Err(Refused::State(self.state)),
            _ if self.basket() != *basket => Err(Refused::OtherLines),
            State::Held | State::Confirmed | State::Shipped => Ok(false),
            State::Expired => {
                self.lines = take(self.order, self.sale.as_ref(), basket, shelves)?;
                self.until = until;
                self.enter(State::Held);
                Ok(true)
            }
        }
    }

    /// The order is paid. One that has expired is made again, if that can be.
    pub fn confirm(&mut self, shelves: &mut Shelves) -> Result<bool, Refused> {
        match self.state {
            State::Confirmed | State::Shipped => return Ok(false),
            State::Released => return Err(Refused::State(self.state)),
            State::Held => {}
            State::Expired => {
                self.lines = take(self.order, self.sale.as_ref(), &self.basket(), shelves)?;
            }
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
        for (sku, quantity) in basket {
            let line = lines.get_mut(sku).ok_or_else(|| Refused::NotShipped(sku.clone()))?;
            let came_back = line.came_back.saturating_add(*quantity);
            if came_back > line.quantity {
                return Err(Refused::NotShipped(sku.clone()));
            }
            line.came_back = came_back;
            let unfit = |why| Refused::Unfit(sku.clone(), why);
            let mut shelf = shelves.get(sku).cloned().ok_or_else(|| unfit(Unfit::NotSetAside))?;
            let scrapped = (what == CameBack::Scrap).then_some(Kind::Scrap);
            for kind in [Some(Kind::TakeBack), scrapped].into_iter().flatten() {
                let movement = Movement { kind, units: (*quantity).into(), of_claim: 0 };
                shelf.push(Move { movement, order: Some(self.order), sale: None }).map_err(unfit)?;
            }
            after.push((sku.clone(), shelf));
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
