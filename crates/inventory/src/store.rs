//! The stock in tables: what is read and written within one transaction. It knows the rules only as
//! [`core`](crate::core) has them.
//!
//! Locks are taken in one order, so that transactions of different orders never lock each other
//! out: first a command's key, then reservations by their id, or a transfer, then levels by SKU and
//! warehouse, then claims. Keys and reservations that may not be there are inserted before they are
//! read: a lock on a gap between rows would be in the way of every new one. Of levels, claims and
//! transfers it may be: new ones are rare.

use crate::{
    core::{Claim, Kind, Level, Line, Move, Movement, Reservation, Shelf, Shelves, Spot, State, Written},
    events,
    transfers::{TRANSFERS, quantity},
    warehouses::{TRAIL, WAREHOUSES},
};
use contracts::{
    Actor, SaleId,
    store::{OrderId, Sku, TransferId},
};
use engines::{
    params, row,
    sql::{Migration, Row, SqlError, Tx, outbox, unexpected},
};
use std::collections::{BTreeMap, BTreeSet};
use units::{DurationMs, TimeMs};

/// How long a command's key is remembered.
const COMMAND_KEPT: DurationMs = DurationMs(7 * 24 * 3_600_000);

pub(crate) const MIGRATIONS: &[Migration] = &[LEVELS, WAREHOUSES, TRAIL, TRANSFERS];

const LEVELS: Migration = Migration {
    name: "levels, the ledger, claims, reservations, what came back, commands, and the outbox",
    statements: &[
        // What the rules promise, said once more where no defect of the rules can reach it.
        "CREATE TABLE levels (
            sku VARCHAR(64) NOT NULL, warehouse VARCHAR(40) NOT NULL,
            on_hand BIGINT NOT NULL, reserved BIGINT NOT NULL, claimed BIGINT NOT NULL,
            sequence BIGINT NOT NULL, PRIMARY KEY (sku, warehouse),
            CHECK (reserved >= 0 AND claimed >= 0 AND on_hand >= reserved + claimed))",
        "CREATE TABLE entries (
            sku VARCHAR(64) NOT NULL, warehouse VARCHAR(40) NOT NULL, sequence BIGINT NOT NULL,
            at BIGINT NOT NULL, kind VARCHAR(20) NOT NULL, units BIGINT NOT NULL, of_claim BIGINT NOT NULL,
            order_id BINARY(16), sale VARCHAR(40), actor VARCHAR(200) NOT NULL, reason VARCHAR(200) NOT NULL,
            PRIMARY KEY (sku, warehouse, sequence))",
        "CREATE TABLE claims (
            sale VARCHAR(40) NOT NULL, sku VARCHAR(64) NOT NULL, warehouse VARCHAR(40) NOT NULL,
            left_units BIGINT NOT NULL, taken_units BIGINT NOT NULL, is_open BIGINT NOT NULL,
            PRIMARY KEY (sale, sku, warehouse), CHECK (left_units >= 0 AND taken_units >= 0))",
        "CREATE TABLE reservations (
            order_id BINARY(16) PRIMARY KEY, state VARCHAR(20) NOT NULL, sale VARCHAR(40),
            held_until BIGINT NOT NULL, version BIGINT NOT NULL)",
        "CREATE INDEX reservations_by_time ON reservations (state, held_until)",
        "CREATE TABLE reservation_lines (
            order_id BINARY(16) NOT NULL, sku VARCHAR(64) NOT NULL, warehouse VARCHAR(40) NOT NULL,
            quantity BIGINT NOT NULL, of_claim BIGINT NOT NULL, came_back BIGINT NOT NULL,
            PRIMARY KEY (order_id, sku, warehouse))",
        "CREATE TABLE take_backs (
            order_id BINARY(16) NOT NULL, take_back VARCHAR(64) NOT NULL, what BINARY(16) NOT NULL,
            PRIMARY KEY (order_id, take_back))",
        "CREATE TABLE commands (
            id BINARY(16) PRIMARY KEY, command BINARY(16) NOT NULL, at BIGINT NOT NULL,
            answer MEDIUMTEXT NOT NULL)",
        "CREATE INDEX commands_by_time ON commands (at)",
        outbox::TABLE,
    ],
};

/// Makes a SKU known in a warehouse. Returns whether it was not.
pub(crate) fn make_known(tx: &mut Tx<'_>, at: &Spot) -> Result<bool, SqlError> {
    tx.insert_new(
        "INSERT INTO levels (sku, warehouse, on_hand, reserved, claimed, sequence) VALUES (?, ?, 0, 0, 0, 0)",
        params![at.sku.as_str(), at.warehouse.as_str()],
    )
}

/// A row of `levels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) at: Spot,
    pub(crate) level: Level,
    pub(crate) sequence: u64,
}

const LEVEL: &str = "sku, warehouse, on_hand, reserved, claimed, in_transit, sequence";

fn spot(row: &Row<'_>) -> Result<Spot, SqlError> {
    Ok(Spot { sku: row.parsed(0, "a sku")?, warehouse: row.parsed(1, "a warehouse")? })
}

fn stored(row: &Row<'_>) -> Result<Stored, SqlError> {
    Ok(Stored {
        at: spot(row)?,
        level: Level {
            on_hand: row.count(2)?,
            reserved: row.count(3)?,
            claimed: row.count(4)?,
            in_transit: row.count(5)?,
        },
        sequence: row.count(6)?,
    })
}

/// The levels of a SKU in its warehouses, for reading; none of one that is not known.
pub(crate) fn levels_of(tx: &mut Tx<'_>, sku: &Sku) -> Result<Vec<Stored>, SqlError> {
    let text = format!("SELECT {LEVEL} FROM levels WHERE sku = ? ORDER BY warehouse");
    tx.query(&text, params![sku.as_str()], stored)
}

/// Levels by SKU and warehouse, from the SKUs after `after`, of SKUs that begin with `prefix`;
/// and whether there are further SKUs.
pub(crate) fn levels(
    tx: &mut Tx<'_>,
    prefix: &str,
    after: &str,
    at_most: usize,
) -> Result<(Vec<Stored>, bool), SqlError> {
    // No SKU has a character as late as this one.
    let end = format!("{prefix}\u{7f}");
    let text = "SELECT DISTINCT sku FROM levels WHERE sku > ? AND sku >= ? AND sku < ? ORDER BY sku LIMIT ?";
    let skus = tx.query(text, params![after, prefix, &end, at_most + 1], |row| row.text(0))?;
    let is_more = skus.len() > at_most;
    let Some(last) = skus.get(at_most.saturating_sub(1)).or(skus.last()) else {
        return Ok((Vec::new(), false));
    };
    let text = format!("SELECT {LEVEL} FROM levels WHERE sku >= ? AND sku <= ? ORDER BY sku, warehouse");
    Ok((tx.query(&text, params![&skus[0], last], stored)?, is_more))
}

/// The shelves of a transaction, with the claims as they were when they were locked.
#[derive(Debug, Default)]
pub(crate) struct Locked {
    pub(crate) shelves: Shelves,
    before: BTreeMap<(Spot, SaleId), Claim>,
}

/// Locks the levels of these SKUs in all their warehouses, in their order, and on those of each the
/// claims of the sales that it is named with. SKUs that are not known are left out.
pub(crate) fn lock<'a>(
    tx: &mut Tx<'_>,
    skus: impl IntoIterator<Item = (&'a Sku, Option<&'a SaleId>)>,
) -> Result<Locked, SqlError> {
    let mut locked = Locked::default();
    let mut sales = BTreeMap::<&Sku, BTreeSet<&SaleId>>::new();
    for (sku, sale) in skus {
        sales.entry(sku).or_default().extend(sale);
    }
    // Each by its whole key: a lock of all of a SKU's rows at once would lock the gap behind them
    // too, where others make theirs. Rows are never deleted; one that comes meanwhile is left out.
    let mut spots = Vec::with_capacity(sales.len());
    for sku in sales.keys() {
        let text = "SELECT sku, warehouse FROM levels WHERE sku = ? ORDER BY warehouse";
        spots.extend(tx.query(text, params![sku.as_str()], spot)?);
    }
    for at in spots {
        lock_also(tx, &at, &mut locked)?;
    }
    let text =
        "SELECT left_units, taken_units, is_open FROM claims WHERE sale = ? AND sku = ? AND warehouse = ?";
    for (at, shelf) in &mut locked.shelves {
        for &sale in sales.get(&at.sku).into_iter().flatten() {
            let key = params![sale.as_str(), at.sku.as_str(), at.warehouse.as_str()];
            if let Some(claim) = tx.query_locked(text, key, |row| claim(row, 0))?.into_iter().next() {
                shelf.claims.insert(sale.clone(), claim);
                locked.before.insert((at.clone(), sale.clone()), claim);
            }
        }
    }
    Ok(locked)
}

/// Locks one level more, also if it came after the moment of which this transaction reads.
pub(crate) fn lock_also(tx: &mut Tx<'_>, at: &Spot, locked: &mut Locked) -> Result<(), SqlError> {
    let text = format!("SELECT {LEVEL} FROM levels WHERE sku = ? AND warehouse = ?");
    let found = tx.query_locked(&text, params![at.sku.as_str(), at.warehouse.as_str()], stored)?;
    for Stored { at, level, sequence } in found {
        locked.shelves.insert(at, Shelf { level, sequence, ..Shelf::default() });
    }
    Ok(())
}

fn claim(row: &Row<'_>, from: usize) -> Result<Claim, SqlError> {
    Ok(Claim { left: row.count(from)?, taken: row.count(from + 1)?, is_open: row.count(from + 2)? != 0 })
}

/// Makes an empty claim of a sale where a level is locked, if there is none.
pub(crate) fn has_claim(tx: &mut Tx<'_>, sale: &SaleId, at: &Spot) -> Result<(), SqlError> {
    tx.insert_new(
        "INSERT INTO claims (sale, sku, warehouse, left_units, taken_units, is_open) VALUES (?, ?, ?, 0, 0, 1)",
        params![sale.as_str(), at.sku.as_str(), at.warehouse.as_str()],
    )?;
    Ok(())
}

/// Writes what was decided: entries of the ledger, levels and claims, and events that tell of it.
pub(crate) fn save(tx: &mut Tx<'_>, at: TimeMs, by: &Actor, locked: &mut Locked) -> Result<(), SqlError> {
    let written = locked.written();
    write_entries(tx, at, by, &written)?;
    // A level changes by movements alone.
    let moved: BTreeSet<&Spot> = written.iter().map(|entry| &entry.at).collect();
    for (spot, shelf) in &locked.shelves {
        let (sku, warehouse) = (spot.sku.as_str(), spot.warehouse.as_str());
        if moved.contains(spot) {
            let Level { on_hand, reserved, claimed, in_transit } = shelf.level;
            tx.execute(
                "UPDATE levels SET on_hand = ?, reserved = ?, claimed = ?, in_transit = ?, sequence = ? \
                 WHERE sku = ? AND warehouse = ?",
                params![on_hand, reserved, claimed, in_transit, shelf.sequence, sku, warehouse],
            )?;
        }
        for (sale, claim) in &shelf.claims {
            if locked.before.get(&(spot.clone(), sale.clone())) == Some(claim) {
                continue;
            }
            let changed = tx.execute(
                "UPDATE claims SET left_units = ?, taken_units = ?, is_open = ? \
                 WHERE sale = ? AND sku = ? AND warehouse = ?",
                params![claim.left, claim.taken, claim.is_open, sale.as_str(), sku, warehouse],
            )?;
            if changed != 1 {
                return Err(SqlError::Defect(format!("{spot}: the claim of sale {sale} is gone")));
            }
        }
    }
    outbox::put_all(tx, &events::of(at, by, &written))
}

impl Locked {
    /// Numbers the movements that were decided.
    fn written(&mut self) -> Vec<Written> {
        let mut written = Vec::new();
        for (at, shelf) in &mut self.shelves {
            for (moved, level) in std::mem::take(&mut shelf.moves) {
                shelf.sequence += 1;
                written.push(Written { at: at.clone(), sequence: shelf.sequence, moved, level });
            }
        }
        written
    }
}

fn write_entries(tx: &mut Tx<'_>, at: TimeMs, by: &Actor, written: &[Written]) -> Result<(), SqlError> {
    let orders: Vec<_> = written.iter().map(|entry| entry.moved.order.map(OrderId::to_bytes)).collect();
    let rows = written.iter().zip(&orders).map(|(Written { at: spot, sequence, moved, .. }, order)| {
        let Movement { kind, units, of_claim } = moved.movement;
        row![
            spot.sku.as_str(),
            spot.warehouse.as_str(),
            *sequence,
            at.0,
            kind.as_str(),
            units,
            of_claim,
            order.as_ref(),
            moved.sale.as_ref().map(SaleId::as_str),
            &by.name,
            &by.reason,
            moved.transfer.as_ref().map(TransferId::as_str)
        ]
    });
    tx.insert_all(
        "INSERT INTO entries (sku, warehouse, sequence, at, kind, units, of_claim, order_id, sale, actor, reason, transfer)",
        &rows.collect::<Vec<_>>(),
    )
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) at: TimeMs,
    pub(crate) moved: Move,
    pub(crate) by: Actor,
}

const ENTRY: &str = "sequence, at, kind, units, of_claim, order_id, sale, actor, reason, transfer";

fn entry(row: &Row<'_>) -> Result<Entry, SqlError> {
    let kind = Kind::from_name(&row.text(2)?).ok_or_else(|| unexpected(2, "a kind of movement"))?;
    let order = match row.maybe_bytes(5)? {
        Some(_) => Some(OrderId::from_bytes(row.array(5)?)),
        None => None,
    };
    let sale = row.maybe_text(6)?.map(|sale| sale.parse().map_err(|_| unexpected(6, "a sale")));
    let transfer = row.maybe_text(9)?.map(|id| id.parse().map_err(|_| unexpected(9, "a transfer")));
    let movement = Movement { kind, units: row.int(3)?, of_claim: row.count(4)? };
    Ok(Entry {
        sequence: row.count(0)?,
        at: TimeMs(row.count(1)?),
        moved: Move { movement, order, sale: sale.transpose()?, transfer: transfer.transpose()? },
        by: Actor { name: row.text(7)?, reason: row.text(8)? },
    })
}

/// The ledger of a SKU in a warehouse, newest first, from before `before`.
pub(crate) fn newest_entries(
    tx: &mut Tx<'_>,
    at: &Spot,
    before: u64,
    at_most: usize,
) -> Result<Vec<Entry>, SqlError> {
    let text = format!(
        "SELECT {ENTRY} FROM entries WHERE sku = ? AND warehouse = ? AND sequence < ? \
         ORDER BY sequence DESC LIMIT ?"
    );
    tx.query(&text, params![at.sku.as_str(), at.warehouse.as_str(), before, at_most], entry)
}

/// The ledger of a SKU in a warehouse, oldest first, after `after`.
pub(crate) fn oldest_entries(
    tx: &mut Tx<'_>,
    at: &Spot,
    after: u64,
    at_most: usize,
) -> Result<Vec<Entry>, SqlError> {
    let text = format!(
        "SELECT {ENTRY} FROM entries WHERE sku = ? AND warehouse = ? AND sequence > ? \
         ORDER BY sequence LIMIT ?"
    );
    tx.query(&text, params![at.sku.as_str(), at.warehouse.as_str(), after, at_most], entry)
}

/// Whether units came or went after this entry of a ledger: what is only set aside, or on its way,
/// stays where it is.
pub(crate) fn has_moved(tx: &mut Tx<'_>, at: &Spot, after: u64) -> Result<bool, SqlError> {
    let kinds =
        Kind::ALL.into_iter().filter(|kind| kind.moves_units()).map(|kind| format!("'{}'", kind.as_str()));
    let text = format!(
        "SELECT sequence FROM entries WHERE sku = ? AND warehouse = ? AND sequence > ? AND kind IN ({}) LIMIT 1",
        kinds.collect::<Vec<_>>().join(", ")
    );
    let found =
        tx.query_first(&text, params![at.sku.as_str(), at.warehouse.as_str(), after], |row| row.count(0))?;
    Ok(found.is_some())
}

/// The claims of a sale, by SKU, over all warehouses.
pub(crate) fn claims_of(
    tx: &mut Tx<'_>,
    sale: &SaleId,
    after: &str,
    at_most: usize,
) -> Result<Vec<(Sku, Claim)>, SqlError> {
    tx.query(
        "SELECT sku, CAST(SUM(left_units) AS SIGNED), CAST(SUM(taken_units) AS SIGNED), MAX(is_open) \
         FROM claims WHERE sale = ? AND sku > ? GROUP BY sku ORDER BY sku LIMIT ?",
        params![sale.as_str(), after, at_most],
        |row| Ok((row.parsed(0, "a sku")?, claim(row, 1)?)),
    )
}

/// Stores a new reservation without lines, unless the order has one.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    order: OrderId,
    state: State,
    sale: Option<&SaleId>,
    until: TimeMs,
) -> Result<bool, SqlError> {
    Ok(begin_all(tx, state, &[(order, sale, until)])?.contains(&order))
}

/// Stores new reservations without lines, each unless its order has one: in the order of their
/// orders' ids, as others lock them. Returns the orders of those that are new.
pub(crate) fn begin_all(
    tx: &mut Tx<'_>,
    state: State,
    all: &[(OrderId, Option<&SaleId>, TimeMs)],
) -> Result<BTreeSet<OrderId>, SqlError> {
    let ids: Vec<[u8; 16]> = all.iter().map(|(order, ..)| order.to_bytes()).collect();
    let rows = all
        .iter()
        .zip(&ids)
        .map(|((_, sale, until), id)| row![id, state.as_str(), sale.map(SaleId::as_str), until.0, 1u64]);
    let text = "INSERT INTO reservations (order_id, state, sale, held_until, version)";
    let is_new = tx.insert_all_new(text, &rows.collect::<Vec<_>>())?;
    Ok(all.iter().zip(is_new).filter(|(_, is_new)| *is_new).map(|((order, ..), _)| *order).collect())
}

/// Takes a new reservation back, with the lines that it has already: each by its whole key, for a
/// lock on the gap behind them would be in the way of every new one.
pub(crate) fn forget_new(
    tx: &mut Tx<'_>,
    order: OrderId,
    lines: Option<&BTreeMap<Spot, Line>>,
) -> Result<(), SqlError> {
    let id = order.to_bytes();
    for spot in lines.into_iter().flat_map(BTreeMap::keys) {
        remove_line(tx, order, spot)?;
    }
    tx.execute("DELETE FROM reservations WHERE order_id = ?", params![&id])?;
    Ok(())
}

fn remove_line(tx: &mut Tx<'_>, order: OrderId, at: &Spot) -> Result<(), SqlError> {
    tx.execute(
        "DELETE FROM reservation_lines WHERE order_id = ? AND sku = ? AND warehouse = ?",
        params![&order.to_bytes(), at.sku.as_str(), at.warehouse.as_str()],
    )?;
    Ok(())
}

/// Stores lines of reservations.
pub(crate) fn put_lines(
    tx: &mut Tx<'_>,
    all: &BTreeMap<OrderId, BTreeMap<Spot, Line>>,
) -> Result<(), SqlError> {
    let ids: Vec<[u8; 16]> = all.keys().map(|order| order.to_bytes()).collect();
    let lines = all.values().zip(&ids).flat_map(|(lines, id)| lines.iter().map(move |line| (id, line)));
    let rows = lines.map(|(id, (Spot { sku, warehouse }, line))| {
        row![id, sku.as_str(), warehouse.as_str(), line.quantity, line.of_claim, line.came_back]
    });
    tx.insert_all(
        "INSERT INTO reservation_lines (order_id, sku, warehouse, quantity, of_claim, came_back)",
        &rows.collect::<Vec<_>>(),
    )
}

/// Notes why a reservation's units are taken from its warehouses.
pub(crate) fn put_why(tx: &mut Tx<'_>, order: OrderId, why: &str) -> Result<(), SqlError> {
    tx.execute("UPDATE reservations SET why = ? WHERE order_id = ?", params![why, &order.to_bytes()])?;
    Ok(())
}

/// Writes a reservation that has changed, and its lines where they have.
pub(crate) fn put(tx: &mut Tx<'_>, before: &Reservation, reservation: &Reservation) -> Result<(), SqlError> {
    let order = reservation.order.to_bytes();
    tx.execute(
        "UPDATE reservations SET state = ?, held_until = ?, why = ?, version = ? WHERE order_id = ?",
        params![
            reservation.state.as_str(),
            reservation.until.0,
            &reservation.why,
            reservation.version,
            &order
        ],
    )?;
    let changed = reservation.lines.iter().filter(|(spot, line)| before.lines.get(*spot) != Some(*line));
    for (spot, line) in changed {
        if !before.lines.contains_key(spot) {
            let line = BTreeMap::from([(spot.clone(), *line)]);
            put_lines(tx, &BTreeMap::from([(reservation.order, line)]))?;
            continue;
        }
        let (sku, warehouse) = (spot.sku.as_str(), spot.warehouse.as_str());
        tx.execute(
            "UPDATE reservation_lines SET quantity = ?, of_claim = ?, came_back = ? \
             WHERE order_id = ? AND sku = ? AND warehouse = ?",
            params![line.quantity, line.of_claim, line.came_back, &order, sku, warehouse],
        )?;
    }
    // One that has expired may be taken from other warehouses when it is made again.
    for spot in before.lines.keys().filter(|spot| !reservation.lines.contains_key(*spot)) {
        remove_line(tx, reservation.order, spot)?;
    }
    Ok(())
}

/// Reservations of these orders, by the orders' ids. `is_locked`: no other transaction changes them
/// before this one has ended. All are locked before the lines of any are read, for what is read
/// without a lock is of the moment of the first such reading.
pub(crate) fn reservations(
    tx: &mut Tx<'_>,
    orders: &BTreeSet<OrderId>,
    is_locked: bool,
) -> Result<Vec<Reservation>, SqlError> {
    let text = "SELECT state, sale, held_until, version, why FROM reservations WHERE order_id = ?";
    let mut found = Vec::with_capacity(orders.len());
    for &order in orders {
        let read = |row: &Row<'_>| {
            let state = State::from_name(&row.text(0)?).ok_or_else(|| unexpected(0, "a state"))?;
            let sale = row.maybe_text(1)?.map(|sale| sale.parse().map_err(|_| unexpected(1, "a sale")));
            let (sale, until) = (sale.transpose()?, TimeMs(row.count(2)?));
            let (lines, why) = (BTreeMap::new(), row.text(4)?);
            Ok(Reservation { order, state, sale, until, lines, why, version: row.count(3)? })
        };
        let key = order.to_bytes();
        found.extend(match is_locked {
            true => tx.query_locked(text, params![&key], read)?,
            false => tx.query(text, params![&key], read)?,
        });
    }
    for reservation in &mut found {
        let lines = tx.query(
            "SELECT sku, warehouse, quantity, of_claim, came_back FROM reservation_lines WHERE order_id = ?",
            params![&reservation.order.to_bytes()],
            |row| {
                let (quantity, of_claim, came_back) =
                    (quantity(row, 2)?, quantity(row, 3)?, quantity(row, 4)?);
                Ok((spot(row)?, Line { quantity, of_claim, came_back }))
            },
        )?;
        reservation.lines = lines.into_iter().collect();
    }
    Ok(found)
}

/// The orders whose reservations have expired, those that are due for longest first.
pub(crate) fn due(tx: &mut Tx<'_>, now: TimeMs, at_most: usize) -> Result<Vec<OrderId>, SqlError> {
    tx.query(
        "SELECT order_id FROM reservations WHERE state = ? AND held_until <= ? ORDER BY held_until LIMIT ?",
        params![State::Held.as_str(), now.0, at_most],
        |row| row.array(0).map(OrderId::from_bytes),
    )
}

/// Gives a reservation more time.
pub(crate) fn put_off(tx: &mut Tx<'_>, order: OrderId, until: TimeMs) -> Result<(), SqlError> {
    tx.execute(
        "UPDATE reservations SET held_until = ? WHERE order_id = ?",
        params![until.0, &order.to_bytes()],
    )?;
    Ok(())
}

/// Notes that units of an order came back under this key. Otherwise returns what was noted before.
pub(crate) fn note_take_back(
    tx: &mut Tx<'_>,
    order: OrderId,
    key: &str,
    what: [u8; 16],
) -> Result<Option<[u8; 16]>, SqlError> {
    let id = order.to_bytes();
    let text = "INSERT INTO take_backs (order_id, take_back, what) VALUES (?, ?, ?)";
    if tx.insert_new(text, params![&id, key, &what])? {
        return Ok(None);
    }
    let text = "SELECT what FROM take_backs WHERE order_id = ? AND take_back = ?";
    Ok(tx.query_locked(text, params![&id, key], |row| row.array(0))?.into_iter().next())
}

/// What is remembered of a command's key.
pub(crate) enum Remembered {
    /// Nothing until now.
    New,
    /// The answer to the same command.
    Answer(String),
    /// It was used for another command.
    Other,
}

/// Whether a command's key was noted, and for which command.
pub(crate) fn is_noted(tx: &mut Tx<'_>, id: [u8; 16]) -> Result<Option<[u8; 16]>, SqlError> {
    tx.query_first("SELECT command FROM commands WHERE id = ?", params![&id], |row| row.array(0))
}

/// Notes a command's key, or finds what was noted.
pub(crate) fn remember(
    tx: &mut Tx<'_>,
    at: TimeMs,
    id: [u8; 16],
    command: [u8; 16],
) -> Result<Remembered, SqlError> {
    let text = "INSERT INTO commands (id, command, at, answer) VALUES (?, ?, ?, '')";
    if tx.insert_new(text, params![&id, &command, at.0])? {
        return Ok(Remembered::New);
    }
    let text = "SELECT command, answer FROM commands WHERE id = ?";
    let found = tx.query_locked(text, params![&id], |row| Ok((row.array::<16>(0)?, row.text(1)?)))?;
    Ok(match found.into_iter().next() {
        Some((known, answer)) if known == command => Remembered::Answer(answer),
        _ => Remembered::Other,
    })
}

/// The answer of a command, for its repeats.
pub(crate) fn note_answer(tx: &mut Tx<'_>, id: [u8; 16], answer: &str) -> Result<(), SqlError> {
    tx.execute("UPDATE commands SET answer = ? WHERE id = ?", params![answer, &id])?;
    Ok(())
}

/// Forgets commands that are old enough. Returns how many.
pub(crate) fn forget(tx: &mut Tx<'_>, now: TimeMs, at_most: usize) -> Result<usize, SqlError> {
    let before = now.0.saturating_sub(COMMAND_KEPT.0);
    let text = "SELECT id FROM commands WHERE at < ? ORDER BY at LIMIT ?";
    let old = tx.query(text, params![before, at_most], |row| row.array::<16>(0))?;
    for id in &old {
        tx.execute("DELETE FROM commands WHERE id = ?", params![id])?;
    }
    Ok(old.len())
}

/// Units that open reservations have of each SKU after `after`, up to `to`, in each warehouse.
pub(crate) fn reserved_by_orders(
    tx: &mut Tx<'_>,
    after: &str,
    to: &str,
) -> Result<BTreeMap<Spot, u64>, SqlError> {
    let rows = tx.query(
        "SELECT l.sku, l.warehouse, CAST(SUM(l.quantity) AS SIGNED) FROM reservations r \
         JOIN reservation_lines l ON l.order_id = r.order_id \
         WHERE r.state IN (?, ?) AND l.sku > ? AND l.sku <= ? GROUP BY l.sku, l.warehouse",
        params![State::Held.as_str(), State::Confirmed.as_str(), after, to],
        |row| Ok((spot(row)?, row.count(2)?)),
    )?;
    Ok(rows.into_iter().collect())
}

/// Units that are left of sales' claims, of each SKU after `after`, up to `to`, in each warehouse.
pub(crate) fn left_of_claims(
    tx: &mut Tx<'_>,
    after: &str,
    to: &str,
) -> Result<BTreeMap<Spot, u64>, SqlError> {
    let rows = tx.query(
        "SELECT sku, warehouse, CAST(SUM(left_units) AS SIGNED) FROM claims \
         WHERE left_units > 0 AND sku > ? AND sku <= ? GROUP BY sku, warehouse",
        params![after, to],
        |row| Ok((spot(row)?, row.count(2)?)),
    )?;
    Ok(rows.into_iter().collect())
}
