//! The checker: reads all books, those of the databases by queries of its own, and compares them
//! with what the sale, the provider and the operators did. What it checks under [`always`] holds at
//! every moment; the rest holds once nothing is on its way any more.

mod list;
mod money;
mod orders;
mod stock;
mod told;

use crate::{
    operators::Books,
    process::{INVENTORY, LIST, Outside, PAYMENTS, SHARDS},
    provider::RefundState,
    shoppers::Baskets,
};
use contracts::{
    AttemptId,
    store::{OrderId, PaymentId},
};
use engines::{
    params,
    sql::{Row, SqlError, Tx},
};
use sim::{Check, Violation, ensure};
use std::collections::BTreeMap;

/// A step of an order's history.
#[derive(Debug, Clone)]
struct Step {
    number: u64,
    from: Option<String>,
    to: String,
}

/// A return with its steps: the state after each, and who did it.
#[derive(Debug, Clone)]
struct Return {
    number: u64,
    state: String,
    wish: String,
    value_minor: u64,
    units: Option<String>,
    lines: BTreeMap<String, u64>,
    steps: Vec<(String, String)>,
}

/// An order as its tables have it.
#[derive(Debug, Clone)]
struct Order {
    id: OrderId,
    shopper: String,
    hold: Option<AttemptId>,
    state: String,
    seen: String,
    payment: Option<PaymentId>,
    total_minor: u64,
    refunded_minor: u64,
    version: u64,
    lines: BTreeMap<String, u64>,
    history: Vec<Step>,
    first_reason: String,
    returns: Vec<Return>,
    tasks: Vec<String>,
}

impl Order {
    fn was(&self, state: &str) -> bool {
        self.history.iter().any(|step| step.to == state)
    }

    /// Whether it is paid, and not given up.
    fn is_bought(&self) -> bool {
        !matches!(&*self.state, "created" | "awaiting_payment" | "cancelled" | "expired")
    }
}

type Orders = BTreeMap<OrderId, Order>;

fn broken(error: &SqlError) -> Violation {
    Violation { rule: "STORE-TABLES", what: error.to_string() }
}

fn look<T>(
    outside: &Outside,
    database: &str,
    read: impl FnOnce(&mut Tx<'_>) -> Result<T, SqlError>,
) -> Result<T, Violation> {
    outside.store(database).database.look(read).map_err(|error| broken(&error))
}

fn count(tx: &mut Tx<'_>, text: &str) -> Result<u64, SqlError> {
    Ok(tx.query_first(text, &[], |row| row.count(0))?.unwrap_or_default())
}

/// Units by SKU: the first column, and the second.
fn units(row: &Row<'_>) -> Result<(String, u64), SqlError> {
    Ok((row.text(0)?, row.count(1)?))
}

fn read_orders(outside: &Outside) -> Result<Orders, Violation> {
    let mut all = Orders::new();
    for shard in SHARDS {
        all.extend(look(outside, shard, orders_of)?);
    }
    Ok(all)
}

fn orders_of(tx: &mut Tx<'_>) -> Result<Orders, SqlError> {
    let text = "SELECT id, shopper, hold, state, payment_seen, payment, total_minor, refunded_minor, version FROM orders";
    let found = tx.query(text, &[], |row| {
        let bytes =
            |column| Ok::<_, SqlError>(row.maybe_bytes(column)?.and_then(|id| <[u8; 16]>::try_from(id).ok()));
        Ok(Order {
            id: OrderId::from_bytes(row.array(0)?),
            shopper: row.text(1)?,
            hold: bytes(2)?.map(AttemptId),
            state: row.text(3)?,
            seen: row.text(4)?,
            payment: bytes(5)?.map(PaymentId::from_bytes),
            total_minor: row.count(6)?,
            refunded_minor: row.count(7)?,
            version: row.count(8)?,
            lines: BTreeMap::new(),
            history: Vec::new(),
            first_reason: String::new(),
            returns: Vec::new(),
            tasks: Vec::new(),
        })
    })?;
    let mut orders = Orders::new();
    for mut order in found {
        let id = order.id.to_bytes();
        let text = "SELECT sku, SUM(quantity) FROM order_lines WHERE order_id = ? GROUP BY sku";
        order.lines = tx.query(text, params![&id], units)?.into_iter().collect();
        let text = "SELECT number, from_state, to_state, reason FROM order_history WHERE order_id = ? ORDER BY number";
        let steps = tx.query(text, params![&id], |row| {
            let step = Step { number: row.count(0)?, from: row.maybe_text(1)?, to: row.text(2)? };
            Ok((step, row.text(3)?))
        })?;
        order.first_reason = steps.first().map(|(_, reason)| reason.clone()).unwrap_or_default();
        order.history = steps.into_iter().map(|(step, _)| step).collect();
        order.tasks =
            tx.query("SELECT kind FROM tasks WHERE order_id = ?", params![&id], |row| row.text(0))?;
        let text =
            "SELECT number, state, wish, value_minor, units FROM returns WHERE order_id = ? ORDER BY number";
        order.returns = tx.query(text, params![&id], |row| {
            Ok(Return {
                number: row.count(0)?,
                state: row.text(1)?,
                wish: row.text(2)?,
                value_minor: row.count(3)?,
                units: row.maybe_text(4)?,
                lines: BTreeMap::new(),
                steps: Vec::new(),
            })
        })?;
        for of in &mut order.returns {
            let key = params![&id, of.number];
            let text = "SELECT sku, quantity FROM return_lines WHERE order_id = ? AND number = ?";
            of.lines = tx.query(text, key, units)?.into_iter().collect();
            let text =
                "SELECT state, actor FROM return_steps WHERE order_id = ? AND number = ? ORDER BY step";
            of.steps = tx.query(text, key, |row| Ok((row.text(0)?, row.text(1)?)))?;
        }
        orders.insert(order.id, order);
    }
    Ok(orders)
}

/// What holds at every moment, also while the process is down.
pub(crate) fn always(outside: &Outside, books: &Books) -> Check {
    let is_made = look(outside, SHARDS[1], |tx| {
        count(tx, "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('orders', 'returns', 'order_history')")
    })?;
    let is_stocked =
        look(outside, INVENTORY, |tx| count(tx, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'outbox'"))?;
    if is_made < 3 || is_stocked == 0 {
        return Ok(());
    }
    let orders = read_orders(outside)?;
    orders::histories(&orders)?;
    orders::shown(outside, &orders)?;
    orders::one_for_each_hold(outside, &orders, false)?;
    list::is_not_ahead(outside, &orders)?;
    stock::levels(outside)?;
    stock::booked(outside, books)?;
    stock::transfers(outside, books)
}

/// What holds from one look to the next.
pub(crate) fn since_the_last_look(outside: &Outside) -> Check {
    list::only_grows(outside)
}

/// What is on its way yet; `None` if nothing is.
pub(crate) fn on_its_way(outside: &Outside) -> Result<Option<String>, Violation> {
    if !outside.bus.is_quiet() {
        return Ok(Some("events are not done".into()));
    }
    if list::is_being_built(outside)? {
        return Ok(Some("the list is being built".into()));
    }
    for store in outside.stores.iter().filter(|store| store.name != LIST) {
        let waiting = look(outside, store.name, |tx| count(tx, "SELECT COUNT(*) FROM outbox"))?;
        if waiting > 0 {
            return Ok(Some(format!("{waiting} events of {} are not told", store.name)));
        }
    }
    for shard in SHARDS {
        let text = "SELECT state, hex(id) FROM orders WHERE state IN ('created', 'awaiting_payment') LIMIT 1";
        let waiting = look(outside, shard, |tx| {
            let order = tx.query_first(text, &[], |row| {
                Ok(format!("an order is {}: {}", row.text(0)?, row.text(1)?))
            })?;
            let text = "SELECT kind, tries, order_id, payment FROM tasks";
            let tasks = tx.query(text, &[], |row| {
                let said = format!("a task is not done: {}, {} tries", row.text(0)?, row.count(1)?);
                let number = u128::from_be_bytes(row.array(3)?) as u64;
                Ok((row.text(0)?, OrderId::from_bytes(row.array(2)?), number, said))
            })?;
            Ok((order, tasks))
        })?;
        let (order, tasks) = waiting;
        if order.is_some() {
            return Ok(order);
        }
        for (kind, order, number, said) in tasks {
            if kind != "refund_return" || !is_owed(outside, shard, order, number)? {
                return Ok(Some(said));
            }
        }
    }
    let text = "SELECT payment, refund_key, state, amount_minor FROM refund_parts \
                WHERE state NOT IN ('back', 'forgone')";
    let open = look(outside, PAYMENTS, |tx| {
        tx.query(text, &[], |row| {
            Ok((PaymentId::from_bytes(row.array(0)?), row.text(1)?, row.text(2)?, row.count(3)?))
        })
    })?;
    let charges = outside.till.charges();
    for (payment, key, state, amount_minor) in open {
        // The provider's people have given so much back that it is not to be had any more.
        let is_for_people = charges.get(&payment).is_some_and(|charge| {
            charge.was_refunded_by_hand() && key.starts_with("return-") && charge.left_minor() < amount_minor
        });
        if !is_for_people {
            return Ok(Some(format!("refund {key} of payment {payment} is {state}")));
        }
    }
    let is_slow = charges.values().flat_map(|of| &of.refunds).any(|of| of.state == RefundState::Pending);
    Ok(is_slow.then(|| "the provider has not made a refund".to_owned()))
}

/// Whether the money of a return is not to be had at the provider any more, because its people have
/// given back too much of it: operators give it back elsewhere.
fn is_owed(outside: &Outside, shard: &str, order: OrderId, number: u64) -> Result<bool, Violation> {
    let orders = look(outside, shard, orders_of)?;
    let Some(of) = orders.get(&order) else { return Ok(false) };
    let value = of.returns.iter().find(|of| of.number == number).map_or(0, |of| of.value_minor);
    let charges = outside.till.charges();
    let charge = of.payment.and_then(|payment| charges.get(&payment));
    Ok(charge.is_some_and(|charge| charge.left_minor() < value))
}

/// What holds once nothing is on its way.
pub(crate) async fn at_rest(outside: &Outside, books: &Books, baskets: &Baskets) -> Check {
    always(outside, books)?;
    let orders = read_orders(outside)?;
    ensure(outside.bus.dead() == 0, "STORE-REST", || {
        format!("{} events are dead letters", outside.bus.dead())
    })?;
    orders::one_for_each_hold(outside, &orders, true)?;
    orders::agree_with_the_sale(outside, &orders)?;
    orders::exchanges(&orders)?;
    orders::carts(outside, &orders, baskets)?;
    money::payments(outside, &orders)?;
    money::orders(outside, &orders)?;
    money::returns(outside, &orders)?;
    stock::reservations(outside, &orders)?;
    list::is_equal(outside, &orders)?;
    told::orders(outside, &orders)?;
    told::payments(outside)?;
    told::stock(outside)?;
    let world = &outside.world;
    let audited = world.ask(|of| async move { of.stock.audit(String::new(), 500).await }).await;
    match audited {
        Some(Ok(found)) => ensure(found.differences.is_empty() && found.skus > 0, "STORE-STOCK", || {
            format!("the audit of the stock: {:?}", found.differences)
        })?,
        other => ensure(false, "STORE-REST", || format!("the stock is not audited: {other:?}"))?,
    }
    money::reconciled(outside).await
}
