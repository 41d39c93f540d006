//! What is done in one transaction: lock, let the core decide, write. It may be run again from its
//! beginning, and changes nothing but the database.

use crate::{
    core::{
        self, Basket, Change, Houses, Line, Refused, Reservation, SheetCount, Shelves, Spot, State,
        TransferRefused, UNITS_MAX, Unfit,
    },
    store::{self, Locked, Stored},
    warehouses::{self, WAREHOUSES_MAX, Warehouse},
};
use contracts::{
    Actor, SaleId,
    store::{CameBack, OrderId, Sku, TransferId, WarehouseId},
};
use engines::sql::{
    SqlError, Tx,
    trail::{self, Step},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use units::{DurationMs, TimeMs};
use web::command_key::hash;

pub(crate) mod transfers;

const TAKE_BACKS: &str = "floodgate inventory take-backs v1";
/// A reservation whose end the core refuses, for its tables do not agree, is tried again after
/// this: it is not in the way of others.
const REFUSED_FOR: DurationMs = DurationMs(3_600_000);

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StockError {
    Sql(SqlError),
    UnknownSku(Sku),
    UnknownWarehouse(WarehouseId),
    TooManyWarehouses,
    /// A warehouse is not as an operator has seen it: it has this version.
    WarehouseChanged(WarehouseId, u64),
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
    /// In this line of a sheet.
    Line(u64, Box<StockError>),
    /// It was counted in a sheet that was written when its ledger had `seen` entries.
    Moved {
        at: Spot,
        seen: u64,
        sequence: u64,
    },
    Transfer(TransferId, TransferRefused),
    NoTransfer(TransferId),
    /// The name was used before, for something else.
    OtherTransfer(TransferId),
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
            Self::UnknownWarehouse(warehouse) => {
                write!(f, "warehouse {warehouse}: there is none of this name: make it first")
            }
            Self::TooManyWarehouses => write!(f, "there are {WAREHOUSES_MAX} warehouses, and can be no more"),
            Self::WarehouseChanged(warehouse, version) => {
                write!(f, "warehouse {warehouse}: its version is {version} by now: look at it again")
            }
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
            Self::Order(order, Refused::Unfit(spot, _)) => {
                write!(f, "order {order}: its reservation and the level of sku {spot} do not agree")
            }
            Self::Changed { sku, what, units } => {
                write!(f, "sku {sku}: {units} units are {what} by now: look at them again")
            }
            Self::Line(line, why) => write!(f, "line {line}: {why}"),
            Self::Moved { at: Spot { sku, warehouse }, seen, sequence } => write!(
                f,
                "sequence: units of sku {sku} have moved in warehouse {warehouse} since the sheet was written \
                 (entry {seen}, and now {sequence}): take a new one"
            ),
            Self::Transfer(_, TransferRefused::Unfit(spot, why)) => {
                let (field, sku) = ("lines", spot.sku.clone());
                Self::Number { field, sku, why: *why }.fmt(f)
            }
            Self::Transfer(id, TransferRefused::SamePlace) => {
                write!(f, "transfer {id}: from and to are the same warehouse")
            }
            Self::Transfer(id, TransferRefused::Closed) => {
                write!(f, "transfer {id}: it is closed: adjust the stock for what was found since")
            }
            Self::Transfer(id, TransferRefused::NotInTransit { sku, in_transit }) => {
                write!(f, "transfer {id}: of sku {sku} only {in_transit} units are on their way")
            }
            Self::NoTransfer(id) => write!(f, "transfer {id}: there is none of this name"),
            Self::OtherTransfer(id) => {
                write!(f, "transfer {id}: the name was used before, for another one")
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

/// A basket that is to be set aside for an order.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// When it is asked for.
    pub(crate) now: TimeMs,
    pub(crate) order: OrderId,
    pub(crate) sale: Option<SaleId>,
    pub(crate) basket: Basket,
    pub(crate) until: TimeMs,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserving {
    Done,
    /// The order has a reservation already: see [`reserve_one`].
    Again,
}

/// Sets baskets aside for orders, each as a whole or not at all: in the order of their ids, which
/// is that of their times. Returns the answers in the order of `wanted`.
pub(crate) fn reserve(
    tx: &mut Tx<'_>,
    wanted: &[Arc<Wanted>],
) -> Result<Vec<Result<Reserving, StockError>>, SqlError> {
    let mut by_order = BTreeMap::<OrderId, &Wanted>::new();
    for of in wanted {
        by_order.entry(of.order).or_insert(of);
    }
    let all: Vec<_> = by_order.values().map(|of| (of.order, of.sale.as_ref(), of.until)).collect();
    let new = store::begin_all(tx, State::Held, &all)?;
    by_order.retain(|order, _| new.contains(order));
    let houses = warehouses::houses(tx)?;
    // What is free in the only warehouse is known already: it is not written while others wait for
    // the levels.
    let known = by_order.values().filter(|of| of.sale.is_none());
    let known: BTreeMap<OrderId, BTreeMap<Spot, Line>> =
        known.filter_map(|of| Some((of.order, free_lines(&of.basket, &houses)?))).collect();
    store::put_lines(tx, &known)?;
    let skus = by_order.values().flat_map(|of| of.basket.keys().map(|sku| (sku, of.sale.as_ref())));
    let mut locked = store::lock(tx, skus)?;
    let (mut said, mut lines) = (BTreeMap::new(), BTreeMap::new());
    for (order, of) in by_order {
        let taken = core::take(order, of.sale.as_ref(), &of.basket, &houses, &mut locked.shelves);
        let answer = match taken {
            Ok(taken) => {
                if !taken.why.is_empty() {
                    store::put_why(tx, order, &taken.why)?;
                }
                if !known.contains_key(&order) {
                    lines.insert(order, taken.lines);
                }
                Ok(Reserving::Done)
            }
            Err(why) => {
                store::forget_new(tx, order, known.get(&order))?;
                Err(StockError::Order(order, why))
            }
        };
        said.insert(order, answer);
    }
    store::put_lines(tx, &lines)?;
    // As late as the last of them.
    let now = wanted.iter().map(|of| of.now).max().unwrap_or_default();
    store::save(tx, now, &by_orders("ordered"), &mut locked)?;
    // Of two that are of one order, the second one is asked again.
    Ok(wanted.iter().map(|of| said.remove(&of.order).unwrap_or(Ok(Reserving::Again))).collect())
}

/// Sets one basket aside, in a transaction of its own. For an order that has a reservation already
/// the same changes nothing, and one that has expired is made anew.
pub(crate) fn reserve_one(tx: &mut Tx<'_>, of: &Arc<Wanted>) -> Result<(), StockError> {
    match reserve(tx, std::slice::from_ref(of))?.pop() {
        Some(Ok(Reserving::Done)) => Ok(()),
        Some(Err(refused)) => Err(refused),
        Some(Ok(Reserving::Again)) | None => {
            let by = by_orders("asked for again");
            change(tx, of.now, of.order, &by, |reservation, houses, shelves| {
                reservation.reserve_again(&of.basket, of.until, houses, shelves)
            })
        }
    }
}

/// The lines of a basket of which nothing comes out of a claim, if there is one warehouse.
fn free_lines(basket: &Basket, houses: &Houses) -> Option<BTreeMap<Spot, Line>> {
    let warehouse = houses.keys().next().filter(|_| houses.len() == 1)?;
    let line = |(sku, quantity): (&Sku, &u32)| {
        let spot = Spot { sku: sku.clone(), warehouse: warehouse.clone() };
        (spot, Line { quantity: *quantity, of_claim: 0, came_back: 0 })
    };
    Some(basket.iter().map(line).collect())
}

/// Does something with the reservation of an order; nothing, if that says that nothing changed.
fn change(
    tx: &mut Tx<'_>,
    now: TimeMs,
    order: OrderId,
    by: &Actor,
    act: impl FnOnce(&mut Reservation, &Houses, &mut Shelves) -> Result<bool, Refused>,
) -> Result<(), StockError> {
    let (mut reservation, mut locked) = lock_order(tx, order)?;
    let before = reservation.clone();
    // Only one that has expired is taken anew.
    let houses = match reservation.state {
        State::Expired => warehouses::houses(tx)?,
        _ => Houses::new(),
    };
    let acted = act(&mut reservation, &houses, &mut locked.shelves);
    if acted.map_err(|why| StockError::Order(order, why))? {
        store::put(tx, &before, &reservation)?;
        store::save(tx, now, by, &mut locked)?;
    }
    Ok(())
}

fn lock_order(tx: &mut Tx<'_>, order: OrderId) -> Result<(Reservation, Locked), StockError> {
    let found = store::reservations(tx, &BTreeSet::from([order]), true)?.pop();
    let reservation = found.ok_or(StockError::NoReservation(order))?;
    let skus = reservation.lines.keys().map(|spot| (&spot.sku, reservation.sale.as_ref()));
    let locked = store::lock(tx, skus)?;
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
    change(tx, now, order, &by_orders(reason), |reservation, _, shelves| reservation.release(shelves))
}

/// The units left the house.
pub(crate) fn ship(tx: &mut Tx<'_>, now: TimeMs, order: OrderId) -> Result<(), StockError> {
    change(tx, now, order, &by_orders("shipped"), |reservation, _, shelves| reservation.ship(shelves))
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
    let skus = reservations.iter().flat_map(|of| of.lines.keys().map(|spot| (&spot.sku, of.sale.as_ref())));
    let mut locked = store::lock(tx, skus)?;
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

/// Carries out a change. Returns by how many units it changed what is on hand, and the SKU's levels
/// after it.
pub(crate) fn change_level(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    at: &Spot,
    change: Change,
) -> Result<(i64, Vec<Stored>), StockError> {
    let sku = &at.sku;
    let mut locked = store::lock(tx, [(sku, None)])?;
    if !locked.shelves.contains_key(at) {
        // A SKU that is known comes into a warehouse for the first time.
        if locked.shelves.is_empty() {
            return Err(StockError::UnknownSku(sku.clone()));
        }
        if warehouses::all(tx)?.iter().all(|known| known.warehouse != at.warehouse) {
            return Err(StockError::UnknownWarehouse(at.warehouse.clone()));
        }
        store::make_known(tx, at)?;
        store::lock_also(tx, at, &mut locked)?;
    }
    let shelf = locked.shelves.get_mut(at).ok_or_else(|| StockError::UnknownSku(sku.clone()))?;
    let field = match change {
        Change::Receive { .. } => "units",
        Change::Adjust { .. } => "change",
        Change::Count { .. } => "counted",
    };
    let moved = shelf.change(change);
    let moved = moved.map_err(|why| StockError::Number { field, sku: sku.clone(), why })?;
    store::save(tx, now, by, &mut locked)?;
    Ok((moved, after(&locked)))
}

/// Counts the lines of a sheet. Returns how many of them have changed what is on hand, and how many
/// SKUs are new.
pub(crate) fn count_all(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    counts: &[SheetCount],
    new_skus: bool,
) -> Result<(usize, usize), StockError> {
    let mut locked = store::lock(tx, counts.iter().map(|of| (&of.at.sku, None)))?;
    let known: BTreeSet<Sku> = locked.shelves.keys().map(|at| at.sku.clone()).collect();
    let (mut changed, mut new) = (0, BTreeSet::new());
    let mut missing: BTreeSet<Spot> = counts.iter().map(|of| of.at.clone()).collect();
    missing.retain(|at| !locked.shelves.contains_key(at));
    for SheetCount { line, at, .. } in counts.iter().filter(|of| !known.contains(&of.at.sku)) {
        if !new_skus {
            return Err(StockError::Line(*line, StockError::UnknownSku(at.sku.clone()).into()));
        }
        // Each is known in the main warehouse, too.
        missing.insert(Spot::from(at.sku.clone()));
        new.insert(&at.sku);
    }
    for at in &missing {
        has_shelf(tx, at, &mut locked)?;
    }
    for SheetCount { line, at, on_hand, sequence } in counts {
        let refused = |why: StockError| StockError::Line(*line, why.into());
        let Some(shelf) = locked.shelves.get_mut(at) else {
            return Err(refused(StockError::UnknownSku(at.sku.clone())));
        };
        let counted = count_one(tx, at, shelf, *on_hand, *sequence);
        changed += usize::from(counted.map_err(|why| match why {
            StockError::Sql(error) => StockError::Sql(error),
            why => refused(why),
        })?);
    }
    store::save(tx, now, by, &mut locked)?;
    Ok((changed, new.len()))
}

/// Counts a shelf, unless it has so many units already. A sheet that was written when its ledger
/// had `sequence` entries is not counted over units that have come or gone since. Returns whether
/// it has changed.
pub(crate) fn count_one(
    tx: &mut Tx<'_>,
    at: &Spot,
    shelf: &mut core::Shelf,
    on_hand: u64,
    sequence: Option<u64>,
) -> Result<bool, StockError> {
    if shelf.level.on_hand == on_hand {
        return Ok(false);
    }
    if let Some(seen) = sequence.filter(|seen| *seen != shelf.sequence)
        && (seen > shelf.sequence || store::has_moved(tx, at, seen)?)
    {
        return Err(StockError::Moved { at: at.clone(), seen, sequence: shelf.sequence });
    }
    let counted = shelf.change(Change::Count { counted: on_hand });
    counted.map_err(|why| StockError::Number { field: "on_hand", sku: at.sku.clone(), why })?;
    Ok(true)
}

/// Locks a level, which is made if there is none.
fn has_shelf(tx: &mut Tx<'_>, at: &Spot, locked: &mut Locked) -> Result<(), StockError> {
    if !locked.shelves.contains_key(at) {
        store::make_known(tx, at)?;
        store::lock_also(tx, at, locked)?;
    }
    Ok(())
}

/// Refuses if there are other units on hand than an operator has seen. Their shelf stays locked.
pub(crate) fn want_on_hand(tx: &mut Tx<'_>, at: &Spot, seen: Option<u64>) -> Result<(), StockError> {
    let Some(seen) = seen else { return Ok(()) };
    let locked = store::lock(tx, [(&at.sku, None)])?;
    match locked.shelves.get(at).map(|shelf| shelf.level.on_hand) {
        Some(on_hand) if on_hand != seen => {
            Err(StockError::Changed { sku: at.sku.clone(), what: "on hand", units: on_hand })
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
    let locked = store::lock(tx, [(sku, Some(sale))])?;
    let claim = core::claim_of(&locked.shelves, sku, sale);
    match claim.left + claim.taken {
        units if units != seen => {
            Err(StockError::Changed { sku: sku.clone(), what: "claimed for the sale", units })
        }
        _ => Ok(()),
    }
}

/// The levels of the only SKU that is locked.
fn after(locked: &Locked) -> Vec<Stored> {
    let stored = |(at, shelf): (&Spot, &core::Shelf)| Stored {
        at: at.clone(),
        level: shelf.level,
        sequence: shelf.sequence,
    };
    locked.shelves.iter().map(stored).collect()
}

/// Sets how many units of a SKU a sale has in all.
pub(crate) fn claim(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    sale: &SaleId,
    sku: &Sku,
    units: u64,
) -> Result<(core::Claim, Vec<Stored>), StockError> {
    // The levels first: claims that are made are seen only by those who have its levels. And they
    // are made before they are looked for, or two new ones would wait for each other.
    let shelves = store::lock(tx, [(sku, None)])?.shelves;
    if shelves.is_empty() {
        return Err(StockError::UnknownSku(sku.clone()));
    }
    let houses = warehouses::houses(tx)?;
    for at in shelves.keys().filter(|at| houses.contains_key(&at.warehouse)) {
        store::has_claim(tx, sale, at)?;
    }
    let mut locked = store::lock(tx, [(sku, Some(sale))])?;
    let taken = core::claim_of(&locked.shelves, sku, sale).taken;
    if units < taken {
        return Err(StockError::Taken { sale: sale.clone(), sku: sku.clone(), taken });
    }
    let claimed = core::claim(&mut locked.shelves, &houses, sku, sale, units);
    claimed.map_err(|why| StockError::Number { field: "units", sku: sku.clone(), why })?;
    let claim = core::claim_of(&locked.shelves, sku, sale);
    store::save(tx, now, by, &mut locked)?;
    Ok((claim, after(&locked)))
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
    let mut locked = store::lock(tx, claims.iter().map(|(sku, _)| (sku, Some(sale))))?;
    let mut returned: BTreeMap<Sku, u64> = claims.into_iter().map(|(sku, _)| (sku, 0)).collect();
    for (Spot { sku, .. }, shelf) in &mut locked.shelves {
        let units = shelf.return_claim(sale);
        let units = units.map_err(|why| StockError::Number { field: "claimed", sku: sku.clone(), why })?;
        *returned.entry(sku.clone()).or_default() += units;
    }
    store::save(tx, now, by, &mut locked)?;
    Ok(returned.into_iter().collect())
}

/// Makes a warehouse, or changes it, if it is still of the version that an operator has seen: 0 of
/// one that is not there yet.
pub(crate) fn put_warehouse(
    tx: &mut Tx<'_>,
    now: TimeMs,
    by: &Actor,
    of: &Warehouse,
    seen: Option<u64>,
) -> Result<(Warehouse, bool), StockError> {
    let id = &of.warehouse;
    let all = warehouses::all_locked(tx)?;
    let found = all.iter().find(|known| known.warehouse == *id);
    let version = found.map_or(0, |of| of.version);
    if found.is_some_and(|found| *found == Warehouse { version, ..of.clone() }) {
        return Ok((Warehouse { version, ..of.clone() }, false));
    }
    if seen.is_some_and(|seen| seen != version) {
        return Err(StockError::WarehouseChanged(id.clone(), version));
    }
    if found.is_none() && all.len() >= WAREHOUSES_MAX {
        return Err(StockError::TooManyWarehouses);
    }
    let is_new = warehouses::put(tx, of)?;
    let Warehouse { name, ships, parcel_cost, days, .. } = of;
    let detail =
        format!("name: {name}; sends orders: {ships}; cost of a parcel: {parcel_cost}; days: {days}");
    let step = Step {
        actor: &by.name,
        did: "warehouse.put",
        subject: id.as_str(),
        reason: &by.reason,
        detail: &detail,
    };
    trail::note(tx, now, step)?;
    Ok((Warehouse { version: version + 1, ..of.clone() }, is_new))
}
