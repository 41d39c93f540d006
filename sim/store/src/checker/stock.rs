//! The stock: its levels against its ledger, its reservations against the orders, and its movements
//! against what operators booked.

use super::{INVENTORY, Orders, look, units};
use crate::{
    operators::{Booked, Books},
    process::Outside,
    world::lock,
};
use contracts::store::OrderId;
use engines::params;
use inventory::core::Change;
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;

const RULE: &str = "STORE-STOCK";

/// A reservation as its tables have it.
#[derive(Debug, Clone)]
struct Reservation {
    state: String,
    lines: BTreeMap<String, u64>,
    came_back: BTreeMap<String, u64>,
    warehouses: u64,
}

fn read(outside: &Outside) -> Result<BTreeMap<OrderId, Reservation>, Violation> {
    look(outside, INVENTORY, |tx| {
        let found = tx.query("SELECT order_id, state FROM reservations", &[], |row| {
            Ok((row.array::<16>(0)?, row.text(1)?))
        })?;
        let mut all = BTreeMap::new();
        for (id, state) in found {
            let of = |column: &str| {
                format!("SELECT sku, SUM({column}) FROM reservation_lines WHERE order_id = ? GROUP BY sku")
            };
            let lines = tx.query(&of("quantity"), params![&id], units)?.into_iter().collect();
            let came_back = tx.query(&of("came_back"), params![&id], units)?.into_iter().collect();
            let text = "SELECT COUNT(DISTINCT warehouse) FROM reservation_lines WHERE order_id = ?";
            let warehouses = tx.query_first(text, params![&id], |row| row.count(0))?.unwrap_or_default();
            all.insert(OrderId::from_bytes(id), Reservation { state, lines, came_back, warehouses });
        }
        Ok(all)
    })
}

/// Each level is what its ledger adds up to, has what its orders and sales have, and is possible.
pub(super) fn levels(outside: &Outside) -> Check {
    let text = "SELECT sku, warehouse, on_hand, reserved, claimed, in_transit, sequence FROM levels";
    let levels = look(outside, INVENTORY, |tx| {
        tx.query(text, &[], |row| {
            let level = [row.int(2)?, row.int(3)?, row.int(4)?, row.int(5)?, row.int(6)?];
            Ok((row.text(0)?, row.text(1)?, level))
        })
    })?;
    for (sku, warehouse, level) in levels {
        let [on_hand, reserved, claimed, in_transit, _] = level;
        let is_possible = reserved >= 0 && claimed >= 0 && in_transit >= 0 && on_hand >= reserved + claimed;
        ensure(is_possible, RULE, || {
            format!("{sku} in {warehouse}: {on_hand} on hand, {reserved} reserved, {claimed} claimed")
        })?;
        let (derived, others) = look(outside, INVENTORY, |tx| {
            let at = params![&sku, &warehouse];
            let text = "SELECT kind, units, of_claim FROM entries WHERE sku = ? AND warehouse = ?";
            let mut derived = [0i64; 5];
            for (kind, units, of_claim) in
                tx.query(text, at, |row| Ok((row.text(0)?, row.int(1)?, row.int(2)?)))?
            {
                change_by(&kind, units, of_claim).iter().zip(&mut derived).for_each(|(by, of)| *of += by);
                derived[4] += 1;
            }
            let text = "SELECT COALESCE(SUM(l.quantity), 0) FROM reservation_lines l JOIN reservations r \
                        ON r.order_id = l.order_id WHERE l.sku = ? AND l.warehouse = ? AND r.state IN ('held', 'confirmed')";
            let by_orders = tx.query_first(text, at, |row| row.int(0))?.unwrap_or_default();
            let text = "SELECT COALESCE(SUM(left_units), 0) FROM claims WHERE sku = ? AND warehouse = ?";
            let by_sales = tx.query_first(text, at, |row| row.int(0))?.unwrap_or_default();
            let text = "SELECT COALESCE(SUM(taken_units), 0) FROM claims WHERE sku = ? AND warehouse = ?";
            let taken = tx.query_first(text, at, |row| row.int(0))?.unwrap_or_default();
            let text = "SELECT COALESCE(SUM(l.of_claim), 0) FROM reservation_lines l JOIN reservations r \
                        ON r.order_id = l.order_id WHERE l.sku = ? AND l.warehouse = ? AND r.sale IS NOT NULL \
                        AND r.state IN ('held', 'confirmed', 'shipped')";
            let of_claims = tx.query_first(text, at, |row| row.int(0))?.unwrap_or_default();
            let text = "SELECT COALESCE(SUM(l.sent - l.arrived - l.lost), 0) FROM transfer_lines l \
                        JOIN transfers t ON t.id = l.transfer WHERE l.sku = ? AND t.to_warehouse = ?";
            let by_transfers = tx.query_first(text, at, |row| row.int(0))?.unwrap_or_default();
            Ok((derived, [by_orders, by_sales, taken - of_claims, by_transfers]))
        })?;
        ensure(level == derived, RULE, || {
            format!("{sku} in {warehouse}: its level is {level:?}, its ledger says {derived:?}")
        })?;
        ensure(others == [reserved, claimed, 0, in_transit], RULE, || {
            format!(
                "{sku} in {warehouse}: {reserved} reserved, {claimed} claimed and {in_transit} in transit; orders, sales, taken claims and transfers say {others:?}"
            )
        })?;
    }
    Ok(())
}

/// What a movement does to what is on hand, reserved, claimed and in transit.
pub(super) fn change_by(kind: &str, units: i64, of_claim: i64) -> [i64; 4] {
    match kind {
        "receive" | "adjust" | "count" | "take_back" => [units, 0, 0, 0],
        "scrap" | "dispatch" => [-units, 0, 0, 0],
        "reserve" => [0, units, -of_claim, 0],
        "release" | "expire" => [0, -units, of_claim, 0],
        "ship" => [-units, -units, 0, 0],
        "claim" => [0, 0, units, 0],
        "return_claim" => [0, 0, -units, 0],
        "expect" => [0, 0, 0, units],
        "arrive" => [units, 0, 0, -units],
        "lose" => [0, 0, 0, -units],
        _ => [0, 0, 0, 0],
    }
}

/// What operators have sent from one warehouse to another has left the one once, and has arrived in
/// the other as often as they said, or is lost, or is on its way.
pub(super) fn transfers(outside: &Outside, books: &Books) -> Check {
    const RULE: &str = "STORE-TRANSFERS";
    let rows = look(outside, INVENTORY, |tx| {
        let text = "SELECT l.transfer, l.sku, l.sent, l.arrived, l.lost, t.state, t.from_warehouse, t.to_warehouse \
                    FROM transfer_lines l JOIN transfers t ON t.id = l.transfer";
        tx.query(text, &[], |row| {
            let place = [row.text(1)?, row.text(6)?, row.text(7)?];
            Ok((row.text(0)?, place, [row.int(2)?, row.int(3)?, row.int(4)?], row.text(5)?))
        })
    })?;
    for (transfer, [sku, from, to], [sent, arrived, lost], state) in &rows {
        let units = |kind: &str, warehouse: &str| {
            look(outside, INVENTORY, |tx| {
                let text = "SELECT COALESCE(SUM(units), 0) FROM entries \
                            WHERE transfer = ? AND sku = ? AND warehouse = ? AND kind = ?";
                tx.query_first(text, params![transfer, sku, warehouse, kind], |row| row.int(0))
            })
        };
        let of = [("dispatch", from), ("expect", to), ("arrive", to), ("lose", to)];
        let of = of.map(|(kind, warehouse)| units(kind, warehouse));
        let mut moved = Vec::new();
        for units in of {
            moved.push(units?.unwrap_or_default());
        }
        let is_closed = sent - arrived - lost == 0;
        let is_sound = moved == [*sent, *sent, *arrived, *lost] && is_closed == (state == "closed");
        ensure(is_sound, RULE, || {
            format!(
                "{transfer}: {sent} sent, {arrived} arrived, {lost} lost, {state}: the ledger has {moved:?}"
            )
        })?;
        let said = lock(&books.sent).get(transfer).copied().unwrap_or_default();
        let is_as_said = said.units == *sent
            && (said.arrived..=said.tried).contains(arrived)
            && (*lost == 0 || said.is_closed);
        ensure(is_as_said, RULE, || {
            format!("{transfer}: {sent} sent, {arrived} arrived and {lost} lost; operators said {said:?}")
        })?;
    }
    let known = |name: &String| rows.iter().any(|(transfer, ..)| transfer == name);
    let gone =
        lock(&books.sent).iter().find(|(name, of)| of.is_answered && !known(name)).map(|of| of.0.clone());
    ensure(gone.is_none(), RULE, || format!("{gone:?} was sent, and there is no such transfer"))
}

/// What operators booked stands in the ledger once, if it was answered.
pub(super) fn booked(outside: &Outside, books: &Books) -> Check {
    let text = "SELECT reason, sku, warehouse, kind, units FROM entries WHERE actor = 'operator'";
    let entries = look(outside, INVENTORY, |tx| {
        tx.query(text, &[], |row| {
            let at = (row.text(1)?, row.text(2)?);
            Ok((row.text(0)?, at, row.text(3)?, row.int(4)?))
        })
    })?;
    type Row = ((String, String), String, i64);
    let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for (reason, at, kind, units) in entries {
        found.entry(reason).or_default().push((at, kind, units));
    }
    for (reason, Booked { at, change, answered }) in lock(&books.booked).iter() {
        let rows = found.get(reason).map(Vec::as_slice).unwrap_or_default();
        let is_once = rows.len() <= 1 && (answered.is_none() || rows.len() == 1);
        let is_it = rows.iter().all(|(of, kind, units)| {
            let is_kind = match change {
                Change::Receive { units: n } => kind == "receive" && *units == *n as i64,
                Change::Adjust { change } => kind == "adjust" && units == change,
                Change::Count { .. } => kind == "count",
            };
            let is_there = of.0 == at.sku.as_str() && of.1 == at.warehouse.as_str();
            is_there && is_kind && answered.is_none_or(|answered| answered == *units)
        });
        ensure(is_once && is_it, "STORE-BOOKED", || {
            format!("{reason}: {change:?} of {at}, answered {answered:?}, stands as {rows:?}")
        })?;
    }
    Ok(())
}

/// Each order has the units that it is to have, and has given back what it is to have given back.
pub(super) fn reservations(outside: &Outside, orders: &Orders) -> Check {
    let reservations = read(outside)?;
    let known = look(outside, INVENTORY, |tx| tx.query("SELECT sku FROM levels", &[], |row| row.text(0)))?;
    for order in orders.values() {
        let of = reservations.get(&order.id);
        let state = of.map_or("none", |of| &*of.state);
        let lines: BTreeMap<String, u64> = order
            .lines
            .iter()
            .filter(|(sku, _)| known.contains(sku))
            .map(|(sku, n)| (sku.clone(), *n))
            .collect();
        let is_all_known = lines.len() == order.lines.len();
        let is_none_known = lines.is_empty();
        let is_sound = match (&*order.state, order.hold) {
            // Those of a cart are wanted from the beginning; a winner's, since it was paid.
            ("cancelled" | "expired", None) => state == "released",
            ("cancelled" | "expired", Some(_)) => {
                state == if order.was("paid") { "released" } else { "none" }
            }
            // What the stock does not know is people's to set aside.
            (_, _) if is_none_known => state == "none",
            // It waits for people to set aside the rest: there is enough of all that is known.
            ("paid", _) => state == "confirmed" && !is_all_known,
            ("allocated", _) => state == "confirmed",
            _ => state == "shipped",
        };
        ensure(is_sound, RULE, || format!("order {} is {}, its reservation {state}", order.id, order.state))?;
        let Some(of) = of else { continue };
        if matches!(state, "confirmed" | "shipped") {
            ensure(of.lines == lines, RULE, || {
                format!("order {} of {:?} has {:?} set aside", order.id, order.lines, of.lines)
            })?;
        }
        let mut back: BTreeMap<String, u64> = lines.keys().map(|sku| (sku.clone(), 0)).collect();
        for returned in order.returns.iter().filter(|of| of.units.is_some()) {
            for (sku, quantity) in returned.lines.iter().filter(|(sku, _)| known.contains(*sku)) {
                *back.entry(sku.clone()).or_default() += quantity;
            }
        }
        if state == "shipped" {
            if of.warehouses > 1 {
                outside.world.reach("an order is sent from two warehouses");
            }
            ensure(of.came_back == back, RULE, || {
                format!("of order {} {:?} came back, its returns say {back:?}", order.id, of.came_back)
            })?;
        }
        movements(outside, order.id, of)?;
    }
    let strange = reservations.keys().find(|id| !orders.contains_key(id));
    ensure(strange.is_none(), RULE, || format!("a reservation of order {strange:?}, which there is not"))
}

/// Units of an order were set aside as often as they were freed, or sent, and sent once.
fn movements(outside: &Outside, order: OrderId, of: &Reservation) -> Check {
    let text = "SELECT sku, kind, SUM(units) FROM entries WHERE order_id = ? GROUP BY sku, kind";
    let rows = look(outside, INVENTORY, |tx| {
        tx.query(text, params![&order.to_bytes()], |row| Ok(((row.text(0)?, row.text(1)?), row.count(2)?)))
    })?;
    let moved: BTreeMap<(String, String), u64> = rows.into_iter().collect();
    for (sku, quantity) in &of.lines {
        let units = |kind: &str| moved.get(&(sku.clone(), kind.to_owned())).copied().unwrap_or_default();
        let (taken, freed, sent) = (units("reserve"), units("release") + units("expire"), units("ship"));
        let has = if matches!(&*of.state, "held" | "confirmed") { *quantity } else { 0 };
        let is_sent = if of.state == "shipped" { *quantity } else { 0 };
        let back = of.came_back.get(sku).copied().unwrap_or_default();
        let is_sound = taken == freed + sent + has && sent == is_sent && units("take_back") == back;
        ensure(is_sound, RULE, || {
            format!(
                "order {order}, {quantity} of {sku}, {}: {taken} taken, {freed} freed, {sent} sent",
                of.state
            )
        })?;
    }
    Ok(())
}
