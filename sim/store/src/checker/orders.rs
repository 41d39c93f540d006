//! Orders against the sale, against what callers were shown, and their own histories.

use super::{Orders, SHARDS, look, units};
use crate::{
    catalog::ITEMS,
    process::Outside,
    sale::HoldState,
    shoppers::Baskets,
    world::{Shown, lock},
};
use contracts::store::OrderId;
use engines::params;
use sim::{Check, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// The steps that an order of a cart can make, as the manual draws them.
const LEGAL: [(&str, &str); 17] = [
    ("", "created"),
    ("created", "awaiting_payment"),
    ("created", "cancelled"),
    ("created", "expired"),
    ("awaiting_payment", "paid"),
    ("awaiting_payment", "cancelled"),
    ("awaiting_payment", "expired"),
    ("paid", "allocated"),
    ("paid", "cancelled"),
    ("allocated", "shipped"),
    ("allocated", "cancelled"),
    ("shipped", "delivered"),
    ("delivered", "returned"),
    ("delivered", "part_refunded"),
    ("delivered", "refunded"),
    ("part_refunded", "returned"),
    ("part_refunded", "refunded"),
];
/// Those of units that came back for money.
const LEGAL_OF_RETURNS: [(&str, &str); 2] = [("returned", "part_refunded"), ("returned", "refunded")];
/// Those of an order that costs nothing.
const LEGAL_OF_EXCHANGES: [(&str, &str); 1] = [("created", "paid")];
/// The steps of a return.
const LEGAL_RETURNS: [(&str, &str); 13] = [
    ("", "requested"),
    // Money for nothing that was returned.
    ("", "received"),
    ("requested", "approved"),
    ("requested", "rejected"),
    ("requested", "withdrawn"),
    ("approved", "rejected"),
    ("approved", "withdrawn"),
    ("approved", "received"),
    ("approved", "refunded"),
    ("approved", "exchanged"),
    ("received", "refunded"),
    // Nothing is sent in exchange after all.
    ("exchanged", "received"),
    ("exchanged", "refunded"),
];
/// Those of a sale's order: the sale may take a late payment.
const LEGAL_OF_SALES: [(&str, &str); 3] =
    [("", "awaiting_payment"), ("expired", "paid"), ("cancelled", "paid")];

/// Every transition is legal, and recorded.
pub(super) fn histories(orders: &Orders) -> Check {
    for order in orders.values() {
        let id = order.id;
        let mut before = (0, String::new());
        for step in &order.history {
            let from = step.from.clone().unwrap_or_default();
            ensure(from == before.1 && step.number > before.0, "STORE-HISTORY", || {
                format!("order {id}: step {step:?} does not follow {before:?}")
            })?;
            let pair = (&*from, &*step.to);
            let is_legal = LEGAL.contains(&pair) && (!from.is_empty() || order.hold.is_none())
                || LEGAL_OF_RETURNS.contains(&pair)
                || LEGAL_OF_EXCHANGES.contains(&pair) && order.total_minor == 0 && order.hold.is_none()
                || LEGAL_OF_SALES.contains(&pair) && order.hold.is_some();
            ensure(is_legal, "STORE-HISTORY", || format!("order {id}: from {from:?} to {:?}", step.to))?;
            before = (step.number, step.to.clone());
        }
        ensure(before.1 == order.state && before.0 <= order.version, "STORE-HISTORY", || {
            format!("order {id} is {} in version {}, its last step is {before:?}", order.state, order.version)
        })?;
        for of in &order.returns {
            let mut before = "";
            for (state, _) in &of.steps {
                ensure(LEGAL_RETURNS.contains(&(before, state)), "STORE-HISTORY", || {
                    format!("return {} of order {id}: from {before:?} to {state}", of.number)
                })?;
                before = state;
            }
            let last = of.steps.last().map(|(state, _)| state);
            ensure(last == Some(&of.state), "STORE-HISTORY", || {
                format!("return {} of order {id} is {}, its steps are {:?}", of.number, of.state, of.steps)
            })?;
        }
    }
    Ok(())
}

/// What a caller was shown is not lost afterwards.
pub(super) fn shown(outside: &Outside, orders: &Orders) -> Check {
    for Shown { order, version, state, returns } in lock(&outside.world.shown).iter() {
        let found = orders.get(order);
        let found = found.filter(|found| found.version >= *version);
        let then = found.and_then(|of| of.history.iter().rev().find(|step| step.number <= *version));
        ensure(then.is_some_and(|step| step.to == state.as_str()), "STORE-DONE", || {
            let now = found.map(|of| (&of.state, of.version));
            format!("order {order} was shown as {state:?} in version {version}, and is {now:?}")
        })?;
        for (number, steps) in returns {
            let of = found.and_then(|of| of.returns.iter().find(|of| of.number == u64::from(*number)));
            ensure(of.is_some_and(|of| of.steps.len() >= *steps), "STORE-DONE", || {
                format!("return {number} of order {order} was shown with {steps} steps")
            })?;
        }
    }
    Ok(())
}

/// Each hold has one order; `is_all`: none lacks it any more.
pub(super) fn one_for_each_hold(outside: &Outside, orders: &Orders, is_all: bool) -> Check {
    let holds = outside.sale.holds();
    let mut seen: BTreeSet<_> = BTreeSet::new();
    for order in orders.values() {
        let Some(id) = order.hold else { continue };
        ensure(seen.insert(id), "STORE-ONE-ORDER", || format!("hold {id} has two orders"))?;
        let hold = holds.get(&id);
        ensure(hold.is_some(), "STORE-ONE-ORDER", || format!("order {}: there is no hold {id}", order.id))?;
        let Some(hold) = hold else { continue };
        let name = |item: usize| ITEMS[item].1.unwrap_or(ITEMS[item].0).to_owned();
        let lines: BTreeMap<String, u64> =
            hold.lines.iter().map(|(item, quantity)| (name(*item), u64::from(*quantity))).collect();
        let is_same = order.shopper == hold.shopper.to_string()
            && order.total_minor == hold.total_minor()
            && order.lines == lines;
        ensure(is_same, "STORE-ONE-ORDER", || format!("order {order:?} is not what hold {hold:?} is"))?;
    }
    let lacking = holds.keys().find(|id| !seen.contains(*id));
    ensure(!is_all || lacking.is_none(), "STORE-ONE-ORDER", || format!("hold {lacking:?} has no order"))
}

/// Each order is what the sale says of its hold.
pub(super) fn agree_with_the_sale(outside: &Outside, orders: &Orders) -> Check {
    let (holds, charges) = (outside.sale.holds(), outside.till.charges());
    for order in orders.values() {
        let Some(hold) = order.hold.and_then(|id| holds.get(&id)) else { continue };
        let (state, is_cancelled) = (&*order.state, order.state == "cancelled");
        let agrees = match &hold.state {
            HoldState::Held => false,
            HoldState::Released => is_cancelled,
            HoldState::Expired => is_cancelled || state == "expired",
            HoldState::Voided => {
                is_cancelled || order.was("shipped") || hold.has_expired && state == "expired"
            }
            HoldState::Confirmed { payment } => {
                let paid = charges.values().find(|charge| charge.payment.to_string() == *payment);
                let gone = paid.is_some_and(|charge| {
                    charge.was_refunded_by_hand() && charge.back_minor() == charge.taken_minor()
                });
                let is_by = match paid {
                    Some(charge) => order.payment == Some(charge.payment),
                    None => payment.starts_with("elsewhere"),
                };
                let is_over = is_cancelled || hold.has_expired && state == "expired";
                is_by && order.is_bought() || is_over && gone
            }
        };
        ensure(agrees, "STORE-AGREES", || {
            format!(
                "order {} is {state}, {} by {:?}; the sale says {:?}",
                order.id, order.seen, order.payment, hold.state
            )
        })?;
    }
    Ok(())
}

/// Each return that was exchanged has one order that sends the same again, and no other has.
pub(super) fn exchanges(orders: &Orders) -> Check {
    let mut made: BTreeMap<(OrderId, u64), Vec<OrderId>> = BTreeMap::new();
    for order in orders.values() {
        let Some(rest) = order.first_reason.strip_prefix("in exchange for return ") else { continue };
        let of = rest
            .split_once(" of order ")
            .and_then(|(number, id)| Some((id.parse().ok()?, number.parse().ok()?)));
        let Some(of) = of else { continue };
        made.entry(of).or_default().push(order.id);
        let back =
            orders.get(&of.0).and_then(|of_order| of_order.returns.iter().find(|it| it.number == of.1));
        let is_same = back.is_some_and(|back| back.lines == order.lines && was_exchanged(back));
        // It is sent, unless it was given up for the money.
        let is_given_up = back.is_some_and(|back| back.state != "exchanged");
        ensure(
            is_same && is_given_up == (order.state == "cancelled") && order.total_minor == 0,
            "STORE-EXCHANGE",
            || format!("order {} is in exchange for {back:?}", order.id),
        )?;
    }
    for order in orders.values() {
        for of in order.returns.iter().filter(|of| was_exchanged(of)) {
            let count = made.get(&(order.id, of.number)).map_or(0, Vec::len);
            ensure(count == 1, "STORE-EXCHANGE", || {
                format!("return {} of order {} was exchanged {count} times", of.number, order.id)
            })?;
        }
    }
    Ok(())
}

fn was_exchanged(of: &super::Return) -> bool {
    of.steps.iter().any(|(state, _)| state == "exchanged")
}

/// What was put into a cart is in it, or was ordered from it, once.
pub(super) fn carts(outside: &Outside, orders: &Orders, baskets: &Baskets) -> Check {
    for (account, put) in lock(&baskets.0).iter() {
        let mut left: BTreeMap<String, u64> = BTreeMap::new();
        for shard in SHARDS {
            left.extend(look(outside, shard, |tx| {
                tx.query("SELECT sku, quantity FROM cart_lines WHERE owner = ?", params![account], units)
            })?);
        }
        let of = |order: &&super::Order| {
            order.shopper == *account && order.total_minor > 0 && order.was("awaiting_payment")
        };
        for (sku, quantity) in put {
            let ordered: u64 =
                orders.values().filter(of).filter_map(|order| order.lines.get(sku.as_str())).sum();
            let in_cart = left.get(sku.as_str()).copied().unwrap_or_default();
            ensure(ordered + in_cart == u64::from(*quantity), "STORE-CART", || {
                format!(
                    "{account} has put {quantity} of {sku} in, {in_cart} are there, {ordered} were ordered"
                )
            })?;
        }
    }
    Ok(())
}
