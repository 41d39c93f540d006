//! What others were told: each step of each order and of each return once, in its order, if what
//! comes twice under one number counts once.

use super::Orders;
use crate::{process::Outside, world::lock};
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

/// Of each payment its success was told once, if it was followed.
pub(super) fn payments(outside: &Outside) -> Check {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for event in once(&outside.bus.of_payments())? {
        if matches!(event["type"].as_str(), Some("floodgate.payment.succeeded")) {
            *told.entry(event["data"]["payment"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    for charge in outside.till.charges().values() {
        let is_followed = charge.taken.is_some() && !charge.is_other_currency();
        let count = told.get(&charge.payment.to_string()).copied().unwrap_or_default();
        // If all of it went back before, that is told alone.
        let is_sound = if is_followed { count <= 1 } else { count == 0 };
        let is_kept = charge.taken_minor() > charge.back_minor();
        ensure(is_sound && (!is_followed || !is_kept || count == 1), RULE, || {
            format!("the success of payment {} was told {count} times", charge.payment)
        })?;
    }
    Ok(())
}
