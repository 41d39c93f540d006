//! What is done in one transaction: lock, let the core decide, write. It may be run again from its
//! beginning, and changes nothing but the database.

use crate::{
    core::{self, Basket, Change, Refused, Reservation, Shelves, State, UNITS_MAX, Unfit},
    store::{self, Locked, Stored},
};
use contracts::{
    Actor, SaleId,
    store::{CameBack, OrderId, Sku},
};
use engines::sql::{SqlError, Tx};
use std::{collections::BTreeSet, fmt};
use units::{DurationMs, TimeMs};
use web::command_key::hash;

const TAKE_BACKS: &str = "floodgate inventory take-backs v1";
/// A reservation whose end the core refuses, for its tables do not agree, is tried again after
/// this: it is not in the way of others.
const REFUSED_FOR: DurationMs = DurationMs(3_600_000);

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StockError {
    Sql(SqlError),
    UnknownSku(Sku),
    /// A number does not fit the level of the SKU.
    Number {
        field: &'static str,
        sku: Sku,
        why: Unfit,
    },
    /// The sale's orders have so many of it.
    Taken {
        sale: SaleId,
        sku: Sku,
        taken: u64,
    },
    /// What an operator has seen is not so any more.
    Changed {
        sku: Sku,
        what: &'static str,
        units: u64,
    },
    NoClaim(SaleId),
    NoReservation(OrderId),
    Order(OrderId, Refused),
    /// The key was used before, for something else.
    OtherTakeBack {
        order: OrderId,
        key: String,
    },
    OtherCommand,
}

impl From<SqlError> for StockError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl fmt::Display for StockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::UnknownSku(sku) => write!(f, "sku {sku}: the stock does not know it: make it known first"),
            Self::Number { field, sku, why: Unfit::TooFew { free } } => {
                write!(f, "{field}: of sku {sku} only {free} units are free; what is set aside stays")
            }
            Self::Number { field, sku, why: Unfit::TooMany } => {
                write!(f, "{field}: of sku {sku} there would be more than {UNITS_MAX} units")
            }
            Self::Number { field, sku, why: Unfit::NotSetAside } => {
                write!(f, "{field}: of sku {sku} fewer units are set aside")
            }
            Self::Taken { sale, sku, taken } => {
                write!(f, "units: orders of sale {sale} have {taken} of sku {sku}: want as many or more")
            }
            Self::NoClaim(sale) => write!(f, "sale {sale}: no stock was claimed for it"),
            Self::NoReservation(order) => write!(f, "order {order}: it has no reservation"),
            Self::Order(order, Refused::Short(lacking)) => {
                write!(f, "order {order}: there is too little of {} skus", lacking.len())
            }
            Self::Order(order, Refused::State(state)) => {
                write!(f, "order {order}: its reservation is {}", state.as_str())
            }
            Self::Order(order, Refused::OtherLines) => {
                write!(f, "order {order}: it has a reservation of other lines")
            }
            Self::Order(order, Refused::NotShipped(sku)) => {
                write!(f, "order {order}: more units of sku {sku} would have come back than were shipped")
            }
            Self::Order(order, Refused::Unfit(sku, _)) => {
                write!(f, "order {order}: its reservation and the level of sku {sku} do not agree")
            }
            Self::Changed { sku, what, units } => {
                write!(f, "sku {sku}: {units} units are {what} by now: look at them again")
            }
            Self::OtherTakeBack { order, key } => {
                write!(f, "order {order}: the key {key:?} was used for another return")
            }
            Self::OtherCommand => f.write_str("the Idempotency-Key was used before, for another command"),
        }
    }
}

impl std::error::Error for StockError {}

/// The names of those who move units without an API key.
fn by_orders(reason: &str) -> Actor {
    Actor::new(Actor::STORE, reason)
}

fn set_of(sale: Option<&SaleId>) -> BTreeSet<SaleId> {
    sale.cloned().into_iter().collect()
}

/// Sets a basket aside for an order.
pub(crate) fn reserve(
    tx: &mut Tx<'_>,
    now: TimeMs,
    order: OrderId,
    sale: Option<&SaleId>,
    basket: &Basket,
    until: TimeMs,
) -> Result<(), StockError> {
    if !store::begin(tx, order, State::Held, sale, until)? {
        let by = by_orders("asked for again");
        return change(tx, now, order, &by, |reservation, shelves| {
            reservation.reserve_again(basket, until, shelves)
        });
    }
    // Of what is free the lines are known already: they are not written while others wait for the
    // levels.
    let known = sale.is_none().then(|| core::free_lines(basket));
    if let Some(lines) = &known {
        store::put_lines(tx, order, lines)?;
    }
    let mut locked = store::lock(tx, basket.keys(), &set_of(sale))?;
    let taken = core::take(order, sale, basket, &mut locked.shelves);
    let taken = taken.map_err(|why| StockError::Order(order, why))?;
    if known.is_none() {
        store::put_lines(tx, order, &taken)?;
    }
    store::save(tx, now, &by_orders("ordered"), &mut locked)?;
    Ok(())
}

/// Does something with the reservation of an order; nothing, if that says that nothing changed.
fn change(
    tx: &mut Tx<'_>,
    now: TimeMs,
    order: OrderId,
    by: &Actor,
    act: impl FnOnce(&mut Reservation, &mut Shelves) -> Result<bool, Refused>,
) -> Result<(), StockError> {
    let (mut reservation, mut locked) = lock_order(tx, order)?;
    let before = reservation.clone();
    let acted = act(&mut reservation, &mut locked.shelves);
    if acted.map_err(|why| StockError::Order(order, why))? {
        store::put(tx, &before, &reservation)?;
        store::save(tx, now, by, &mut locked)?;
    }
    Ok(())
}

fn lock_order(tx: &mut Tx<'_>, order: OrderId) -> Result<(Reservation, Locked), StockError> {
    let found = store::reservations(tx, &BTreeSet::from([order]), true)?.pop();
    let reservation = found.ok_or(StockError::NoReservation(order))?;
    let locked = store::lock(tx, reservation.lines.keys(), &set_of(reservation.sale.as_ref()))?;
    Ok((reservation, locked))
}

/// The order is paid.
pub(crate) fn confirm(tx: &mut Tx<'_>, now: TimeMs, order: OrderId) -> Result<(), StockError> {
    change(tx, now, order, &by_orders("paid"), Reservation::confirm)
}

/// The order does not want its units any more, and none later.
pub(crate) fn release(tx: &mut Tx<'_>, now: TimeMs, order: OrderId, reason: &str) -> Result<(), StockError> {
    // What is released before it is reserved is not reserved afterwards.
    if store::begin(tx, order, State::Released, None, now)? {
        return Ok(());
    }
    change(tx, now, order, &by_orders(reason), Reservation::release)
}

/// The units left the house.
pub(crate) fn ship(tx: &mut Tx<'_>, now: TimeMs, order: OrderId) -> Result<(), StockError> {
    change(tx, now, order, &by_orders("shipped"), Reservation::ship)
}

/// Units came back.
pub(crate) fn take_back(
    tx: &mut Tx<'_>,
    now: TimeMs,
    order: OrderId,
    key: &str,
    basket: &Basket,
    what: CameBack,
) -> Result<(), StockError> {
    let (mut reservation, mut locked) = lock_order(tx, order)?;
    let said = said_of(basket, what);
    match store::note_take_back(tx, order, key, said)? {
        None => {}
        Some(known) if known == said => return Ok(()),
        Some(_) => return Err(StockError::OtherTakeBack { order, key: key.into() }),
    }
    let before = reservation.clone();
    let taken = reservation.take_back(basket, what, &mut locked.shelves);
    taken.map_err(|why| StockError::Order(order, why))?;
    store::put(tx, &before, &reservation)?;
    let reason = match what {
        CameBack::Restock => "came back, to be sold again",
        CameBack::Scrap => "came back, not to be sold again",
    };
    store::save(tx, now, &by_orders(reason), &mut locked)?;
    Ok(())
}

fn said_of(basket: &Basket, what: CameBack) -> [u8; 16] {
    let mut texts = vec![match what {
        CameBack::Restock => "restock".to_owned(),
        CameBack::Scrap => "scrap".to_owned(),
    }];
    for (sku, quantity) in basket {
        texts.extend([sku.to_string(), quantity.to_string()]);
    }
    hash(TAKE_BACKS, &texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Ends reservations of these orders whose time has come. Returns those that the core refused to
/// end, which are put off.
pub(crate) fn expire(
    tx: &mut Tx<'_>,
    now: TimeMs,
    orders: &BTreeSet<OrderId>,
) -> Result<Vec<StockError>, SqlError> {
    let reservations = store::reservations(tx, orders, true)?;
    let sales = reservations.iter().filter_map(|reservation| reservation.sale.clone()).collect();
    let skus = reservations.iter().flat_map(|reservation| reservation.lines.keys());
    let mut locked = store::lock(tx, skus, &sales)?;
    let mut refused = Vec::new();
    for before in &reservations {
        let mut reservation = before.clone();
        match reservation.expire(now, &mut locked.shelves) {
            Ok(true) => store::put(tx, before, &reservation)?,
            Ok(false) => {}
            Err(why) => {
                store::put_off(tx, before.order, now.plus(REFUSED_FOR))?;
                refused.push(StockError::Order(before.order, why));
            }
        }
    }
    store::save(tx, now, &Actor::new(Actor::TIMER, "not paid in time"), &mut locked)?;
    Ok(refused)
}

/// Carries out a change. Returns by how many units it changed what is on hand, and the level after
/// it.
pub(crate) fn change_level(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    sku: &Sku,
    change: Change,
) -> Result<(i64, Stored), StockError> {
    let mut locked = store::lock(tx, [sku], &BTreeSet::new())?;
    let shelf = locked.shelves.get_mut(sku).ok_or_else(|| StockError::UnknownSku(sku.clone()))?;
    let field = match change {
        Change::Receive { .. } => "units",
        Change::Adjust { .. } => "change",
        Change::Count { .. } => "counted",
    };
    let moved = shelf.change(change);
    let moved = moved.map_err(|why| StockError::Number { field, sku: sku.clone(), why })?;
    store::save(tx, now, by, &mut locked)?;
    Ok((moved, after(&locked, sku)?))
}

/// Refuses if there are other units on hand than an operator has seen. Their shelf stays locked.
pub(crate) fn want_on_hand(tx: &mut Tx<'_>, sku: &Sku, seen: Option<u64>) -> Result<(), StockError> {
    let Some(seen) = seen else { return Ok(()) };
    let locked = store::lock(tx, [sku], &BTreeSet::new())?;
    match locked.shelves.get(sku).map(|shelf| shelf.level.on_hand) {
        Some(on_hand) if on_hand != seen => {
            Err(StockError::Changed { sku: sku.clone(), what: "on hand", units: on_hand })
        }
        _ => Ok(()),
    }
}

/// Refuses if a sale has other units in all than an operator has seen.
pub(crate) fn want_claimed(
    tx: &mut Tx<'_>,
    sale: &SaleId,
    sku: &Sku,
    seen: Option<u64>,
) -> Result<(), StockError> {
    let Some(seen) = seen else { return Ok(()) };
    let locked = store::lock(tx, [sku], &set_of(Some(sale)))?;
    let claim = locked.shelves.get(sku).and_then(|shelf| shelf.claims.get(sale));
    match claim.map_or(0, |claim| claim.left + claim.taken) {
        units if units != seen => {
            Err(StockError::Changed { sku: sku.clone(), what: "claimed for the sale", units })
        }
        _ => Ok(()),
    }
}

fn after(locked: &Locked, sku: &Sku) -> Result<Stored, StockError> {
    let shelf = locked.shelves.get(sku).ok_or_else(|| StockError::UnknownSku(sku.clone()))?;
    Ok(Stored { sku: sku.clone(), level: shelf.level, sequence: shelf.sequence })
}

/// Sets how many units of a SKU a sale has in all.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    sale: &SaleId,
    sku: &Sku,
    units: u64,
) -> Result<(core::Claim, Stored), StockError> {
    // The level first: a claim that is made is seen only by those who have its level.
    if store::lock(tx, [sku], &BTreeSet::new())?.shelves.is_empty() {
        return Err(StockError::UnknownSku(sku.clone()));
    }
    store::has_claim(tx, sale, sku)?;
    let mut locked = store::lock(tx, [sku], &set_of(Some(sale)))?;
    let shelf = locked.shelves.get_mut(sku).ok_or_else(|| StockError::UnknownSku(sku.clone()))?;
    let taken = shelf.claims.get(sale).map_or(0, |claim| claim.taken);
    if units < taken {
        return Err(StockError::Taken { sale: sale.clone(), sku: sku.clone(), taken });
    }
    let claimed = shelf.claim(sale, units);
    claimed.map_err(|why| StockError::Number { field: "units", sku: sku.clone(), why })?;
    let claim = shelf.claims.get(sale).copied().unwrap_or_default();
    store::save(tx, now, by, &mut locked)?;
    Ok((claim, after(&locked, sku)?))
}

/// SKUs of a sale whose claims one transaction gives back.
pub(crate) const RETURNED_MAX: usize = 200;

/// Gives back what is left of a sale's claims on SKUs after `after`. Returns how many of each.
pub(crate) fn return_claims(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    sale: &SaleId,
    after: &str,
) -> Result<Vec<(Sku, u64)>, StockError> {
    let claims = store::claims_of(tx, sale, after, RETURNED_MAX)?;
    let mut locked = store::lock(tx, claims.iter().map(|(sku, _)| sku), &set_of(Some(sale)))?;
    let mut returned = Vec::with_capacity(claims.len());
    for (sku, shelf) in &mut locked.shelves {
        let units = shelf.return_claim(sale);
        let units = units.map_err(|why| StockError::Number { field: "claimed", sku: sku.clone(), why })?;
        returned.push((sku.clone(), units));
    }
    store::save(tx, now, by, &mut locked)?;
    Ok(returned)
}
