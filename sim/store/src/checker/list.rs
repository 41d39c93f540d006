//! The list of all orders against the orders themselves.

use super::{Order, Orders, count, look};
use crate::{
    process::{LIST, Outside},
    world::lock,
};
use contracts::store::OrderId;
use engines::{
    params,
    sql::{SqlError, Tx},
};
use serde_json::Value;
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;

const RULE: &str = "STORE-LIST";

/// What the list has of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    version: u64,
    state: String,
    seen: String,
    shopper: String,
    total_minor: u64,
    is_of_sale: bool,
    lines: BTreeMap<String, u64>,
    returns: BTreeMap<u64, String>,
    /// The same as its lists of returns find it.
    found_by_returns: BTreeMap<u64, String>,
}

impl Listed {
    /// What it should have.
    fn of(order: &Order) -> Self {
        let returns: BTreeMap<u64, String> =
            order.returns.iter().map(|of| (of.number, of.state.clone())).collect();
        Self {
            version: order.version,
            state: order.state.clone(),
            seen: order.seen.clone(),
            shopper: order.shopper.clone(),
            total_minor: order.total_minor,
            is_of_sale: order.hold.is_some(),
            lines: order.lines.clone(),
            found_by_returns: returns.clone(),
            returns,
        }
    }
}

fn read(outside: &Outside) -> Result<BTreeMap<OrderId, Listed>, Violation> {
    look(outside, LIST, |tx| {
        if count(tx, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'list_builds'")? == 0 {
            return Ok(BTreeMap::new());
        }
        let text = "SELECT id, state, version, summary FROM listed_orders";
        let rows = tx.query(text, &[], |row| {
            Ok((OrderId::from_bytes(row.array(0)?), row.text(1)?, row.count(2)?, row.text(3)?))
        })?;
        rows.into_iter()
            .map(|(id, state, version, text)| Ok((id, listed(tx, id, state, version, &text)?)))
            .collect()
    })
}

fn listed(
    tx: &mut Tx<'_>,
    id: OrderId,
    state: String,
    version: u64,
    summary: &str,
) -> Result<Listed, SqlError> {
    let summary: Value = serde_json::from_str(summary).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let each = |name: &str| summary[name].as_array().cloned().unwrap_or_default();
    let found = "SELECT number, state FROM listed_returns WHERE order_id = ?";
    let found = tx.query(found, params![&id.to_bytes()], |row| Ok((row.count(0)?, row.text(1)?)))?;
    let is_same = text(&summary["id"]) == id.to_string()
        && text(&summary["state"]) == state
        && number(&summary["version"]) == version;
    let mut lines = BTreeMap::new();
    for line in each("lines") {
        *lines.entry(text(&line["sku"])).or_default() += number(&line["quantity"]);
    }
    Ok(Listed {
        version,
        // A summary of another order, or of another state, is none of this one's.
        state: if is_same { state } else { format!("{state}, but {summary}") },
        seen: text(&summary["payment"]),
        shopper: text(&summary["shopper"]),
        total_minor: number(&summary["total"]["amount_minor"]),
        is_of_sale: summary["origin"]["sale"].is_object(),
        lines,
        returns: each("returns").iter().map(|of| (number(&of["number"]), text(&of["state"]))).collect(),
        found_by_returns: found.into_iter().collect(),
    })
}

/// It never has what the orders have not: no order that there is not, and no later version.
pub(super) fn is_not_ahead(outside: &Outside, orders: &Orders) -> Check {
    for (id, listed) in read(outside)? {
        let version = orders.get(&id).map(|order| order.version);
        ensure(version.is_some_and(|version| listed.version <= version), RULE, || {
            format!("order {id} is listed in version {}, and is in {version:?}", listed.version)
        })?;
    }
    Ok(())
}

/// A row has never an earlier version than before, unless a later build has written it.
pub(crate) fn only_grows(outside: &Outside) -> Check {
    let rows = look(outside, LIST, |tx| {
        if count(tx, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'list_builds'")? == 0 {
            return Ok(Vec::new());
        }
        tx.query("SELECT id, build, version FROM listed_orders", &[], |row| {
            Ok((OrderId::from_bytes(row.array(0)?), (row.count(1)?, row.count(2)?)))
        })
    })?;
    let mut seen = lock(&outside.listed);
    for (id, now) in rows {
        let before = seen.insert(id, now).unwrap_or_default();
        // By the build, and then by the version.
        ensure(before <= now, RULE, || format!("order {id} was listed as {before:?}, and now as {now:?}"))?;
    }
    Ok(())
}

/// Whether a build of it is not done.
pub(super) fn is_being_built(outside: &Outside) -> Result<bool, Violation> {
    look(outside, LIST, |tx| {
        count(tx, "SELECT COUNT(*) FROM list_builds WHERE bucket IS NOT NULL OR is_whole = 0")
    })
    .map(|open| open > 0)
}

/// Once nothing is on its way, it has each order as it is, and nothing else.
pub(super) fn is_equal(outside: &Outside, orders: &Orders) -> Check {
    let listed = read(outside)?;
    for order in orders.values() {
        let (want, found) = (Listed::of(order), listed.get(&order.id));
        ensure(found == Some(&want), RULE, || {
            format!("order {} is {want:?}, and is listed as {found:?}", order.id)
        })?;
    }
    let stranger = listed.keys().find(|id| !orders.contains_key(id));
    ensure(stranger.is_none(), RULE, || format!("order {stranger:?} is listed, and there is none"))
}
