//! What others are told of the stock: an event for each order, each transfer, or otherwise each
//! SKU, that a transaction has moved units of.

use crate::core::{Kind, Level, Movement, Spot, Written};
use contracts::{
    Actor, SaleId,
    store::{OrderId, Sku, TransferId, WarehouseId},
};
use serde::Serialize;
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
        Kind::Dispatch => Some("dispatched"),
        Kind::Expect => Some("expected"),
        Kind::Arrive => Some("arrived"),
        Kind::Lose => Some("lost"),
        // No level has changed; and what is scrapped was returned by the same transaction.
        Kind::Confirm | Kind::Scrap => None,
    }
}

/// An event, as it is told.
#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: &'static str,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: TimeMs,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    order: Option<OrderId>,
    sale: Option<&'a SaleId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<&'a TransferId>,
    actor: &'a str,
    reason: &'a str,
    lines: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    sku: &'a Sku,
    warehouse: &'a WarehouseId,
    units: i64,
    of_claim: u64,
    /// The level after what the transaction has done here for this order, or at all.
    on_hand: u64,
    reserved: u64,
    claimed: u64,
    free: u64,
    in_transit: u64,
    /// Of two events of a warehouse the later one has the larger number.
    sequence: u64,
}

/// The last entry of an order, a transfer, or neither, in each ledger.
type Last<'a> = BTreeMap<(Option<OrderId>, Option<&'a TransferId>, &'a Spot), &'a Written>;

/// The events of what was written into the ledger, with the numbers of the entries and the levels
/// after it.
pub(crate) fn of(at: TimeMs, by: &Actor, written: &[Written]) -> Vec<String> {
    type Subject<'a> = (&'static str, Option<OrderId>, Option<&'a TransferId>, Option<&'a Sku>);
    let mut all = BTreeMap::<Subject<'_>, Vec<&Written>>::new();
    let mut last = Last::new();
    for entry in written {
        let (order, transfer) = (entry.moved.order, entry.moved.transfer.as_ref());
        last.insert((order, transfer, &entry.at), entry);
        let Some(name) = name(entry.moved.movement.kind) else { continue };
        let of_sku = (order.is_none() && transfer.is_none()).then_some(&entry.at.sku);
        all.entry((name, order, transfer, of_sku)).or_default().push(entry);
    }
    let chunks = all
        .iter()
        .flat_map(|(subject, entries)| entries.chunks(LINES_MAX).map(move |entries| (subject, entries)));
    chunks.map(|((name, ..), entries)| event(at, by, name, entries, &last)).collect()
}

fn event(at: TimeMs, by: &Actor, name: &str, entries: &[&Written], last: &Last<'_>) -> String {
    // There is at least one: a chunk is not empty.
    let (first, sequence) = (&entries[0].at, entries[0].sequence);
    let (order, transfer) = (entries[0].moved.order, entries[0].moved.transfer.as_ref());
    let sale = entries.iter().find_map(|entry| entry.moved.sale.as_ref());
    let of = order.map(|order| order.to_string()).or_else(|| transfer.map(ToString::to_string));
    let event = Event {
        specversion: "1.0",
        // An entry of the ledger is told once.
        id: format!("{}:{}:{sequence}", first.sku, first.warehouse),
        source: "/stock",
        kind: format!("floodgate.stock.{name}"),
        subject: of.unwrap_or_else(|| first.sku.to_string()),
        time: at,
        datacontenttype: "application/json",
        data: Data {
            order,
            sale,
            transfer,
            actor: &by.name,
            reason: &by.reason,
            lines: entries.iter().map(|entry| line(entry, last)).collect(),
        },
    };
    serde_json::to_string(&event).expect("numbers and texts are written")
}

/// A line, with the level after the last that was done in its ledger for the same subject.
fn line<'a>(entry: &'a Written, last: &Last<'_>) -> Line<'a> {
    let Written { at: Spot { sku, warehouse }, moved, .. } = entry;
    let of = last.get(&(moved.order, moved.transfer.as_ref(), &entry.at)).copied().unwrap_or(entry);
    let Level { on_hand, reserved, claimed, in_transit } = of.level;
    let Movement { units, of_claim, .. } = moved.movement;
    let (free, sequence) = (of.level.free(), of.sequence);
    Line { sku, warehouse, units, of_claim, on_hand, reserved, claimed, free, in_transit, sequence }
}
