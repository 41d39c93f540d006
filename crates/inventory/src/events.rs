//! What others are told of the stock: an event for each order, or for each SKU, that a transaction
//! has moved units of.

use crate::core::{Kind, Move, Shelves, Spot};
use contracts::{
    Actor, SaleId,
    store::{OrderId, Sku},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use units::TimeMs;

/// Lines of one event. A longer basket is told in several: an event has a size.
const LINES_MAX: usize = 100;

/// The last part of the type of the event that tells of such a movement, if one does.
fn name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Receive => Some("received"),
        Kind::Adjust | Kind::Count => Some("adjusted"),
        Kind::Reserve => Some("reserved"),
        Kind::Release => Some("released"),
        Kind::Expire => Some("expired"),
        Kind::Ship => Some("shipped"),
        Kind::TakeBack => Some("returned"),
        Kind::Claim => Some("claimed"),
        Kind::ReturnClaim => Some("claim_returned"),
        // No level has changed; and what is scrapped was returned by the same transaction.
        Kind::Confirm | Kind::Scrap => None,
    }
}

/// The events of what was written into the ledger, with the numbers of the entries and the levels
/// after the transaction.
pub(crate) fn of(at: TimeMs, by: &Actor, written: &[(Spot, u64, Move)], shelves: &Shelves) -> Vec<String> {
    type Subject<'a> = (&'static str, Option<OrderId>, Option<&'a Sku>);
    let mut all = BTreeMap::<Subject<'_>, Vec<&(Spot, u64, Move)>>::new();
    for entry in written {
        let (spot, _, moved) = entry;
        let Some(name) = name(moved.movement.kind) else { continue };
        let of_sku = moved.order.is_none().then_some(&spot.sku);
        all.entry((name, moved.order, of_sku)).or_default().push(entry);
    }
    let chunks = all
        .iter()
        .flat_map(|(subject, entries)| entries.chunks(LINES_MAX).map(move |entries| (subject, entries)));
    chunks.map(|((name, order, _), entries)| event(at, by, name, *order, entries, shelves)).collect()
}

fn event(
    at: TimeMs,
    by: &Actor,
    name: &str,
    order: Option<OrderId>,
    entries: &[&(Spot, u64, Move)],
    shelves: &Shelves,
) -> String {
    // There is at least one: a chunk is not empty.
    let (first, sequence, moved) = entries[0];
    let sale: Option<&SaleId> = entries.iter().find_map(|(_, _, moved)| moved.sale.as_ref());
    let lines: Vec<Value> = entries.iter().map(|(spot, _, moved)| line(spot, moved, shelves)).collect();
    let subject = moved.order.map_or_else(|| first.sku.to_string(), |order| order.to_string());
    json!({
        "specversion": "1.0",
        // An entry of the ledger is told once.
        "id": format!("{}:{}:{sequence}", first.sku, first.warehouse),
        "source": "/stock",
        "type": format!("floodgate.stock.{name}"),
        "subject": subject,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "order": order,
            "sale": sale,
            "actor": by.name,
            "reason": by.reason,
            "lines": lines,
        },
    })
    .to_string()
}

fn line(at: &Spot, moved: &Move, shelves: &Shelves) -> Value {
    let shelf = shelves.get(at);
    let level = shelf.map(|shelf| shelf.level).unwrap_or_default();
    json!({
        "sku": at.sku,
        "warehouse": at.warehouse,
        "units": moved.movement.units,
        "of_claim": moved.movement.of_claim,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "claimed": level.claimed,
        "free": level.free(),
        // Of two events of a warehouse the later one has the larger number.
        "sequence": shelf.map(|shelf| shelf.sequence),
    })
}
