//! Holds the books of all sides against each other: the sale's, the orders', the payments', the
//! stock's, the provider's, and what shoppers were answered.

use super::server::Server;
use super::shopper::Ledger;
use crate::shell::Failure;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What has been found of each order.
struct Order {
    state: String,
    /// The hold, if it comes from a sale.
    hold: Option<String>,
    total: u64,
    lines: Vec<(String, u64)>,
}

/// What the books say, for the table at the end.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) orders: BTreeMap<String, u64>,
    pub(super) payments: u64,
    pub(super) twice_paid: u64,
    pub(super) of_winners_paid: u64,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn orders(server: &Server) -> Result<BTreeMap<String, Order>, Failure> {
    let read = |of: Value| {
        let lines = of["lines"].as_array().cloned().unwrap_or_default();
        let order = Order {
            state: text(&of["state"]),
            hold: of["origin"]["sale"]["hold"].as_str().map(str::to_owned),
            total: number(&of["total"]["amount_minor"]),
            lines: lines.iter().map(|line| (text(&line["sku"]), number(&line["quantity"]))).collect(),
        };
        (text(&of["id"]), order)
    };
    Ok(server.all("/orders", "orders", "before")?.into_iter().map(read).collect())
}

const PAID: [&str; 4] = ["paid", "allocated", "shipped", "delivered"];

/// What does not fit. What is still on its way does not fit either: ask again until nothing is.
pub(super) fn differences(server: &Server, ledger: &Ledger) -> Result<(Vec<String>, Seen), Failure> {
    let mut found = Vec::new();
    let mut seen = Seen::default();
    let orders = orders(server)?;
    for order in orders.values() {
        *seen.orders.entry(order.state.clone()).or_default() += 1;
        seen.of_winners_paid += u64::from(order.hold.is_some() && PAID.contains(&&*order.state));
    }
    holds(&orders, ledger, &mut found);
    money(server, &orders, ledger, (&mut found, &mut seen))?;
    units(server, &orders, &mut found)?;
    sold(server, &orders, &mut found)?;
    Ok((found, seen))
}

/// Each hold has one order; each order that was placed is there.
fn holds(orders: &BTreeMap<String, Order>, ledger: &Ledger, found: &mut Vec<String>) {
    let (mut of_hold, empty) = (BTreeMap::<&str, u64>::new(), BTreeSet::new());
    for hold in orders.values().filter_map(|order| order.hold.as_deref()) {
        *of_hold.entry(hold).or_default() += 1;
    }
    found.extend(
        of_hold
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(hold, count)| format!("hold {hold} has {count} orders")),
    );
    let granted = ledger.holds.lock().map_or(empty.clone(), |holds| holds.clone());
    let without = granted.iter().filter(|hold| !of_hold.contains_key(hold.as_str()));
    found.extend(without.map(|hold| format!("hold {hold} has no order")));
    let placed = ledger.placed.lock().map_or(empty, |placed| placed.clone());
    let lost = placed.iter().filter(|id| !orders.contains_key(id.as_str()));
    found.extend(lost.map(|id| format!("order {id} was placed, and is not there")));
}

/// A paid order has its price and no more; another one has nothing; both books of the day agree.
fn money(
    server: &Server,
    orders: &BTreeMap<String, Order>,
    ledger: &Ledger,
    (found, seen): (&mut Vec<String>, &mut Seen),
) -> Result<(), Failure> {
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    let mut received: BTreeMap<String, u64> = BTreeMap::new();
    let mut days = BTreeSet::new();
    for payment in server.all("/payments", "payments", "before")? {
        seen.payments += 1;
        days.insert(text(&payment["created_at"])[..10].to_owned());
        let (order, amount) = (text(&payment["order"]), number(&payment["amount"]["amount_minor"]));
        let state = text(&payment["state"]);
        match &*state {
            "succeeded" | "refunded" => {
                *received.entry(order.clone()).or_default() += 1;
                *kept.entry(order).or_default() += amount - number(&payment["refunded_minor"]).min(amount);
            }
            "refunding" => found.push(format!("order {order}: a payment still goes back")),
            _ => {}
        }
    }
    seen.twice_paid = received.values().filter(|times| **times > 1).count() as u64;
    for (id, order) in orders {
        let kept = kept.get(id).copied().unwrap_or_default();
        let want = if PAID.contains(&&*order.state) { order.total } else { 0 };
        if kept != want {
            found.push(format!(
                "order {id} is {}: {kept} of its {} is kept, want {want}",
                order.state, order.total
            ));
        }
    }
    let paid = ledger.paid.lock().map_or(BTreeSet::new(), |paid| paid.clone());
    let lost = paid.iter().filter(|id| !received.contains_key(id.as_str()));
    found.extend(lost.map(|id| format!("order {id}: its payment was made, and was never received")));
    for day in days {
        let report = server.store("POST", &format!("/reconciliations/{day}"), "")?;
        if report["different"] != 0 {
            found.push(format!("the books of {day}: {report}"));
        }
    }
    Ok(())
}

/// What is set aside is what orders have; the stock's own audit finds nothing.
fn units(server: &Server, orders: &BTreeMap<String, Order>, found: &mut Vec<String>) -> Result<(), Failure> {
    let mut set_aside: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, order) in orders {
        let has_units = match (&*order.state, &order.hold) {
            ("allocated", _) | ("awaiting_payment" | "paid", None) => true,
            ("created", _) => {
                found.push(format!("order {id} still waits for its units"));
                false
            }
            ("paid", Some(_)) => {
                found.push(format!("order {id} is paid, and still waits for its units"));
                false
            }
            _ => false,
        };
        for (sku, quantity) in order.lines.iter().filter(|_| has_units) {
            *set_aside.entry(sku).or_default() += quantity;
        }
    }
    for level in server.all("/stock", "stock", "after")? {
        let sku = text(&level["sku"]);
        let (reserved, want) =
            (number(&level["reserved"]), set_aside.get(&*sku).copied().unwrap_or_default());
        if reserved != want {
            found.push(format!("{sku}: {reserved} units are set aside, orders have {want}"));
        }
    }
    let audited = server.all("/stock-audit", "differences", "after")?;
    found.extend(audited.iter().map(|difference| format!("the stock's audit: {difference}")));
    Ok(())
}

/// What the sale has sold is what its winners have paid for, and no order waits for a hold that is
/// over.
fn sold(server: &Server, orders: &BTreeMap<String, Order>, found: &mut Vec<String>) -> Result<(), Failure> {
    let stats = server.admin("/sales/demo/stats")?;
    let items = stats["items"].as_array().cloned().unwrap_or_default();
    let phone = items.iter().find(|item| item["item"] == "phone").cloned().unwrap_or_default();
    let of_sale = |states: &[&str]| {
        orders.values().filter(|order| order.hold.is_some() && states.contains(&&*order.state)).count() as u64
    };
    for (figure, want) in [("sold", of_sale(&PAID)), ("held", of_sale(&["awaiting_payment"]))] {
        if number(&phone[figure]) != want {
            found.push(format!("the sale has {} {figure}, its orders say {want}", phone[figure]));
        }
    }
    Ok(())
}
