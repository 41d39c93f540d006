//! What others were told: each step of each order and of each return, what became of each payment,
//! and each movement of the stock: once, in its order, if what comes twice under one number counts
//! once, and nothing that did not happen.

use super::{INVENTORY, Orders, look, stock::change_by};
use crate::{process::Outside, provider::RefundState, world::lock};
use contracts::store::{OrderId, PaymentId};
use serde_json::Value;
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;

const RULE: &str = "STORE-TOLD";

/// Events without repeats. The same number tells the same.
fn once(events: &[String]) -> Result<Vec<Value>, Violation> {
    let (mut known, mut all) = (BTreeMap::<String, &str>::new(), Vec::new());
    for text in events {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        match known.get(&id) {
            Some(before) => {
                ensure(*before == text, RULE, || format!("event {id} is {before}, and then {text}"))?
            }
            None => {
                known.insert(id, text);
                all.push(event);
            }
        }
    }
    Ok(all)
}

/// Events of orders are the steps of their histories.
pub(super) fn orders(outside: &Outside, orders: &Orders) -> Check {
    let events = lock(&outside.bus.orders).clone();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in once(&events)? {
        let kind = event["type"].as_str().unwrap_or_default();
        let order = event["subject"].as_str().unwrap_or_default();
        let (of, state) =
            match (kind.strip_prefix("floodgate.order."), kind.strip_prefix("floodgate.return.")) {
                // It is no step.
                (Some("changed"), _) => continue,
                (Some(state), _) => (order.to_owned(), state),
                (None, Some(state)) => (format!("{order}/{}", event["data"]["return"]), state),
                (None, None) => continue,
            };
        told.entry(of).or_default().push(state.to_owned());
    }
    let mut want: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for order in orders.values() {
        want.insert(order.id.to_string(), order.history.iter().map(|step| step.to.clone()).collect());
        for of in &order.returns {
            let steps = of.steps.iter().map(|(state, _)| state.clone()).collect();
            want.insert(format!("{}/{}", order.id, of.number), steps);
        }
    }
    for (of, steps) in &want {
        let told = told.get(of);
        ensure(told == Some(steps), RULE, || {
            format!("of {of} was told {told:?}, it went through {steps:?}")
        })?;
    }
    ensure(told.len() == want.len(), RULE, || format!("of {} was told, there are {}", told.len(), want.len()))
}

/// What was told of a payment.
struct ToldOf {
    version: u64,
    kind: String,
    amount_minor: u64,
    refunded_minor: u64,
}

/// What was told of each payment has happened, in its order; the last of it is how it stands, and
/// its success was told once.
pub(super) fn payments(outside: &Outside) -> Check {
    let charges = outside.till.charges();
    let mut told: BTreeMap<String, Vec<ToldOf>> = BTreeMap::new();
    for event in once(&outside.bus.of_payments())? {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let (id, data) = (text(&event["data"]["payment"]), &event["data"]);
        let version = text(&event["id"]).rsplit_once('-').and_then(|(_, version)| version.parse().ok());
        let of = ToldOf {
            version: version.unwrap_or_default(),
            kind: text(&event["type"]).trim_start_matches("floodgate.payment.").to_owned(),
            amount_minor: number(&data["amount_minor"]),
            refunded_minor: number(&data["refunded_minor"]),
        };
        let charge = id.parse::<PaymentId>().ok().and_then(|id| charges.get(&id));
        let has_happened = charge.is_some_and(|charge| {
            let made = charge.refunds.iter().filter(|refund| refund.was_back && !refund.is_of_extra());
            let made_minor: u64 = made.clone().map(|refund| refund.amount_minor).sum();
            let key = data["refund"].as_str();
            let is_key = key.is_none() || made.clone().any(|refund| refund.key.as_deref() == key);
            let is_so = match &*of.kind {
                "succeeded" => charge.taken_minor() == of.amount_minor && !charge.is_other_currency(),
                "failed" => charge.was_refused,
                "part_refunded" => of.refunded_minor < of.amount_minor,
                "refunded" => of.refunded_minor == of.amount_minor,
                "refund_failed" => made.clone().any(|refund| refund.state == RefundState::Failed),
                _ => false,
            };
            let subject = text(&event["subject"]);
            is_so && is_key && of.refunded_minor <= made_minor && subject == charge.order.to_string()
        });
        ensure(has_happened, RULE, || format!("{event} was told, of {charge:?}"))?;
        let all = told.entry(id).or_default();
        let is_later = all.last().is_none_or(|before| before.version < of.version);
        ensure(is_later, RULE, || format!("{event} was told after what is later"))?;
        all.push(of);
    }
    for charge in charges.values() {
        let none = Vec::new();
        let all = told.get(&charge.payment.to_string()).unwrap_or(&none);
        let is_followed = charge.taken.is_some() && !charge.is_other_currency();
        let count = all.iter().filter(|of| of.kind == "succeeded").count();
        let (taken, back) = (charge.taken_minor(), charge.back_minor());
        // If all of it went back before, that is told alone.
        let is_sound = match (is_followed, all.last()) {
            (false, _) => count == 0,
            (true, Some(last)) if back == taken => last.kind == "refunded" && count <= 1,
            (true, Some(last)) => last.refunded_minor == back && last.kind != "refunded" && count == 1,
            (true, None) => false,
        };
        ensure(is_sound, RULE, || {
            let last = all.last().map(|of| (&of.kind, of.refunded_minor));
            format!(
                "of payment {}, with {back} of {taken} gone back, {count} successes were told, and last {last:?}",
                charge.payment
            )
        })?;
    }
    Ok(())
}

/// An entry of the ledger, as far as it is told.
struct Entry {
    sku: String,
    warehouse: String,
    sequence: i64,
    kind: String,
    units: i64,
    of_claim: i64,
    /// The order or the transfer that it was for.
    of: String,
}

/// The type of the event that tells of a movement; none if none does.
fn event_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "receive" => "received",
        "adjust" | "count" => "adjusted",
        "reserve" => "reserved",
        "release" => "released",
        "expire" => "expired",
        "ship" => "shipped",
        "take_back" => "returned",
        "claim" => "claimed",
        "return_claim" => "claim_returned",
        "dispatch" => "dispatched",
        "expect" => "expected",
        "arrive" => "arrived",
        "lose" => "lost",
        _ => return None,
    })
}

/// Each movement of the stock was told once, and nothing else; with the level that the ledger had
/// after it, and those of each SKU in their order.
pub(super) fn stock(outside: &Outside) -> Check {
    let text = "SELECT sku, sequence, kind, units, of_claim, order_id, warehouse, transfer FROM entries \
                ORDER BY sku, warehouse, sequence";
    let entries = look(outside, INVENTORY, |tx| {
        tx.query(text, &[], |row| {
            let order = row.maybe_bytes(5)?.and_then(|id| <[u8; 16]>::try_from(id).ok());
            Ok(Entry {
                sku: row.text(0)?,
                warehouse: row.text(6)?,
                sequence: row.int(1)?,
                kind: row.text(2)?,
                units: row.int(3)?,
                of_claim: row.int(4)?,
                of: match order {
                    Some(id) => OrderId::from_bytes(id).to_string(),
                    None => row.maybe_text(7)?.unwrap_or_default(),
                },
            })
        })
    })?;
    type Place = (String, String);
    type Moved = (String, String, Place, i64, i64);
    let mut want: BTreeMap<Moved, i64> = BTreeMap::new();
    let mut levels: BTreeMap<(Place, i64), [i64; 4]> = BTreeMap::new();
    let mut level = [0; 4];
    for entry in entries {
        if entry.sequence == 1 {
            level = [0; 4];
        }
        let change = change_by(&entry.kind, entry.units, entry.of_claim);
        level.iter_mut().zip(change).for_each(|(of, by)| *of += by);
        let place = (entry.sku, entry.warehouse);
        levels.insert((place.clone(), entry.sequence), level);
        if let Some(kind) = event_of(&entry.kind) {
            let key = (kind.to_owned(), entry.of, place, entry.units, entry.of_claim);
            *want.entry(key).or_default() += 1;
        }
    }
    let (mut told, mut last) = (BTreeMap::<Moved, i64>::new(), BTreeMap::<Place, i64>::new());
    let events = lock(&outside.bus.stock).clone();
    for event in once(&events)? {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_i64().unwrap_or(-1);
        let kind = text(&event["type"]).trim_start_matches("floodgate.stock.").to_owned();
        let (order, transfer) = (text(&event["data"]["order"]), text(&event["data"]["transfer"]));
        let subject = text(&event["subject"]);
        for line in event["data"]["lines"].as_array().unwrap_or(&Vec::new()) {
            let sequence = number(&line["sequence"]);
            let place = (text(&line["sku"]), text(&line["warehouse"]));
            let (units, of_claim) = (number(&line["units"]), number(&line["of_claim"]));
            let of = if order.is_empty() { &transfer } else { &order };
            let key = (kind.clone(), of.clone(), place.clone(), units, of_claim);
            *told.entry(key).or_default() += 1;
            let then = ["on_hand", "reserved", "claimed", "in_transit"].map(|what| number(&line[what]));
            let is_so = levels.get(&(place.clone(), sequence)) == Some(&then);
            let is_later = last.insert(place.clone(), sequence).is_none_or(|before| before <= sequence);
            let is_of = subject == *if of.is_empty() { &place.0 } else { of };
            ensure(is_so && is_later && is_of, RULE, || format!("of the stock was told {event}"))?;
        }
    }
    let differs = want.iter().find(|(key, count)| told.get(*key) != Some(*count));
    let differs = differs.or(told.iter().find(|(key, _)| !want.contains_key(*key)));
    ensure(differs.is_none(), RULE, || {
        let count = differs.and_then(|(key, _)| told.get(key));
        format!("the stock's ledger has {differs:?}, of which were told {count:?}")
    })
}
