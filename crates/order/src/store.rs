//! Orders in tables: what is read and written within one transaction on one shard. It knows the
//! rules only as [`core`](crate::core) has them.

use crate::{
    cart_rows,
    core::{By, Command, Effect, Order, OtherPayments, Place, Refused},
    directory::{self, Wants},
    returned,
    summary::{LINES_MAX, OrderSummary, ReturnSummary},
};
use contracts::store::{
    Address, Charges, Delivery, HoldRef, OrderId, OrderLine, OrderOrigin, OrderState, OrderView, PaymentId,
    PaymentSeen, ReturnState, Transition,
};
use engines::{
    params,
    sql::{Migration, Row, SqlError, Tx, outbox, unexpected},
};
use serde_json::json;
use std::fmt;
use units::{Currency, DurationMs, Money, TimeMs};

/// Longer than any pause before a task.
const AHEAD: DurationMs = DurationMs(3_600_000);
/// When the stock is asked for a new order's units, if that did not happen at once.
const RESERVE_AGAIN_AFTER: DurationMs = DurationMs(3_000);

pub(crate) const MIGRATIONS: &[Migration] =
    &[ORDERS, CARTS, returned::RETURNS, ERASED, directory::DIRECTORY, returned::PAYMENT_VERSION];

const ERASED: Migration = Migration {
    name: "whose shoppers are erased",
    statements: &["ALTER TABLE orders ADD COLUMN erased_at BIGINT"],
};

const CARTS: Migration = Migration {
    name: "carts, what orders cost beside their lines, where they go, and their units",
    statements: &[
        "ALTER TABLE orders ADD COLUMN charges MEDIUMTEXT",
        "ALTER TABLE orders ADD COLUMN address MEDIUMTEXT",
        "ALTER TABLE orders ADD COLUMN has_units BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX orders_by_pay_by ON orders (state, pay_by)",
        "CREATE TABLE cart_lines (
            owner VARCHAR(64) NOT NULL, sku VARCHAR(64) NOT NULL, quantity BIGINT NOT NULL,
            added_at BIGINT NOT NULL, changed_at BIGINT NOT NULL, PRIMARY KEY (owner, sku))",
        "CREATE INDEX cart_lines_by_age ON cart_lines (changed_at)",
    ],
};

const ORDERS: Migration = Migration {
    name: "orders with their lines and history, tasks, and the outbox",
    statements: &[
        "CREATE TABLE orders (
            id BINARY(16) PRIMARY KEY, shopper VARCHAR(64) NOT NULL,
            sale VARCHAR(40), hold BINARY(16), sale_log VARCHAR(64), sale_sequence BIGINT,
            sale_logs_left VARCHAR(1100),
            state VARCHAR(20) NOT NULL, payment_seen VARCHAR(20) NOT NULL, payment BINARY(16),
            currency VARCHAR(3) NOT NULL, total_minor BIGINT NOT NULL, pay_by BIGINT,
            carrier VARCHAR(100), tracking VARCHAR(100),
            created_at BIGINT NOT NULL, version BIGINT NOT NULL)",
        "CREATE UNIQUE INDEX orders_of_holds ON orders (sale, hold)",
        "CREATE INDEX orders_of_shoppers ON orders (shopper, id)",
        "CREATE INDEX orders_by_state ON orders (state, id)",
        "CREATE TABLE order_lines (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, sku VARCHAR(64) NOT NULL,
            name VARCHAR(200) NOT NULL, name_zh VARCHAR(200) NOT NULL,
            quantity BIGINT NOT NULL, price_minor BIGINT NOT NULL,
            PRIMARY KEY (order_id, number))",
        "CREATE TABLE order_history (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, at BIGINT NOT NULL,
            from_state VARCHAR(20), to_state VARCHAR(20) NOT NULL,
            actor VARCHAR(200) NOT NULL, reason VARCHAR(200) NOT NULL,
            PRIMARY KEY (order_id, number))",
        "CREATE TABLE tasks (
            number {serial}, kind VARCHAR(20) NOT NULL, order_id BINARY(16) NOT NULL,
            payment BINARY(16) NOT NULL, reason VARCHAR(200) NOT NULL,
            due_at BIGINT NOT NULL, tries BIGINT NOT NULL)",
        "CREATE UNIQUE INDEX tasks_once ON tasks (order_id, kind, payment)",
        "CREATE INDEX tasks_by_time ON tasks (due_at)",
        outbox::TABLE,
    ],
};

/// Why a change of an order was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderError {
    Sql(SqlError),
    NotFound(OrderId),
    Refused(Refused),
}

impl From<SqlError> for OrderError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::NotFound(order) => write!(f, "order {order}: there is none"),
            Self::Refused(Refused { command, state }) => {
                write!(f, "{command}: the order is {}", state.as_str().replace('_', " "))
            }
        }
    }
}

impl std::error::Error for OrderError {}

/// A new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewOrder {
    pub(crate) id: OrderId,
    pub(crate) shopper: String,
    pub(crate) hold: Option<(HoldRef, Place)>,
    pub(crate) currency: Currency,
    pub(crate) lines: Vec<OrderLine>,
    pub(crate) charges: Charges,
    pub(crate) address: Option<Address>,
    pub(crate) pay_by: Option<TimeMs>,
}

impl NewOrder {
    /// `None` if it is more than a number can say.
    pub(crate) fn total_minor(&self) -> Option<u64> {
        let add = |sum: u64, line: &OrderLine| {
            sum.checked_add(line.price_minor.checked_mul(u64::from(line.quantity))?)
        };
        let shipping = self.charges.shipping.as_ref().map_or(0, |method| method.price_minor);
        let tax = if self.charges.tax_is_included { 0 } else { self.charges.tax_minor };
        let goods = self.lines.iter().try_fold(0, add)?;
        let total = goods.checked_add(shipping)?.checked_add(tax)?;
        i64::try_from(total).is_ok().then_some(total)
    }
}

/// A row of `orders`.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: OrderId,
    pub(crate) shopper: String,
    pub(crate) hold: Option<HoldRef>,
    pub(crate) currency: Currency,
    pub(crate) pay_by: Option<TimeMs>,
    pub(crate) created_at: TimeMs,
    pub(crate) charges: Charges,
    pub(crate) address: Option<Address>,
    pub(crate) order: Order,
}

const COLUMNS: &str = "id, shopper, sale, hold, sale_sequence, state, payment_seen, payment, currency, \
    total_minor, pay_by, carrier, tracking, created_at, version, sale_log, sale_logs_left, charges, address, \
    has_units, refunded_minor, payment_version, other_payments";

/// Whether the order's shopper is not known any more.
pub(crate) fn is_erased(tx: &mut Tx<'_>, order: OrderId) -> Result<bool, SqlError> {
    let text = "SELECT erased_at FROM orders WHERE id = ? AND erased_at IS NOT NULL";
    Ok(!tx.query_locked(text, params![&order.to_bytes()], |_| Ok(()))?.is_empty())
}

/// A JSON document that this program has written.
fn document<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>, SqlError> {
    let read = |text: String| serde_json::from_str(&text).map_err(|_| unexpected(column, "a document"));
    row.maybe_text(column)?.map(read).transpose()
}

pub(crate) fn written<T: serde::Serialize>(document: &T) -> Result<String, SqlError> {
    serde_json::to_string(document).map_err(|error| SqlError::Defect(format!("a document: {error}")))
}

fn stored(row: &Row<'_>) -> Result<Stored, SqlError> {
    let hold = match (row.maybe_text(2)?, row.maybe_bytes(3)?) {
        (Some(sale), Some(hold)) => {
            let hold = <[u8; 16]>::try_from(hold).map_err(|_| unexpected(3, "a hold"))?;
            let sale = sale.parse().map_err(|_| unexpected(2, "a sale"))?;
            Some(HoldRef { sale, hold: contracts::AttemptId(hold) })
        }
        _ => None,
    };
    let state = OrderState::from_name(&row.text(5)?).ok_or_else(|| unexpected(5, "a state"))?;
    let payment =
        PaymentSeen::from_name(&row.text(6)?).ok_or_else(|| unexpected(6, "how the payment stands"))?;
    let payment_id = match row.maybe_bytes(7)? {
        Some(_) => Some(PaymentId::from_bytes(row.array(7)?)),
        None => None,
    };
    let delivery = match (row.maybe_text(11)?, row.maybe_text(12)?) {
        (Some(carrier), Some(tracking)) => Some(Delivery { carrier, tracking }),
        _ => None,
    };
    Ok(Stored {
        id: OrderId::from_bytes(row.array(0)?),
        shopper: row.text(1)?,
        currency: row.parsed(8, "a currency")?,
        pay_by: row.maybe_count(10)?.map(TimeMs),
        created_at: TimeMs(row.count(13)?),
        charges: document(row, 17)?.unwrap_or_default(),
        address: document(row, 18)?,
        order: Order {
            state,
            payment,
            payment_id,
            total_minor: row.count(9)?,
            refunded_minor: row.count(20)?,
            payment_version: row.count(21)?,
            others: document(row, 22)?.unwrap_or_default(),
            delivery,
            has_units: row.count(19)? != 0,
            followed: match (row.maybe_text(15)?, row.maybe_count(4)?) {
                (Some(log), Some(sequence)) => Some(Place { log, sequence }),
                _ => None,
            },
            left: match row.maybe_text(16)? {
                Some(logs) => logs.split('\n').map(str::to_owned).collect(),
                None => Vec::new(),
            },
            version: row.count(14)?,
        },
        hold,
    })
}

/// Stores a new order, unless its hold, or its id, has one. Returns whether it is new.
pub(crate) fn create(tx: &mut Tx<'_>, at: TimeMs, by: By<'_>, new: &NewOrder) -> Result<bool, SqlError> {
    let total = new.total_minor().ok_or_else(|| SqlError::Defect("an order's total is too large".into()))?;
    let place = new.hold.as_ref().map(|(_, place)| place.clone());
    let (order, step) = Order::new(total, place, at, by.actor, by.reason);
    let hold = new.hold.as_ref().map(|(hold, _)| hold);
    let id = new.id.to_bytes();
    let is_new = tx.insert_new(
        "INSERT INTO orders (id, shopper, sale, hold, sale_log, sale_sequence, state, payment_seen, \
         currency, total_minor, pay_by, created_at, version, charges, address, has_units, bucket) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            &id,
            &new.shopper,
            hold.map(|hold| hold.sale.as_str()),
            hold.map(|hold| &hold.hold.0),
            order.followed.as_ref().map(|place| &place.log),
            order.followed.as_ref().map(|place| place.sequence),
            order.state.as_str(),
            order.payment.as_str(),
            new.currency.as_str(),
            total,
            new.pay_by.map(|at| at.0),
            at.0,
            order.version,
            &written(&new.charges)?,
            new.address.as_ref().map(written).transpose()?.as_ref(),
            order.has_units,
            new.id.bucket().number()
        ],
    )?;
    if !is_new {
        return Ok(false);
    }
    for (number, line) in new.lines.iter().enumerate() {
        tx.execute(
            "INSERT INTO order_lines (order_id, number, sku, name, name_zh, quantity, price_minor) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                &id,
                number,
                line.sku.as_str(),
                &line.name,
                &line.name_zh,
                line.quantity,
                line.price_minor
            ],
        )?;
    }
    let state = order.state;
    let stored = Stored {
        id: new.id,
        shopper: new.shopper.clone(),
        hold: hold.cloned(),
        currency: new.currency,
        pay_by: new.pay_by,
        created_at: at,
        charges: new.charges.clone(),
        address: new.address.clone(),
        order,
    };
    if new.hold.is_none() {
        // It is done at once where the cart is checked out; this is for when that was cut off.
        add_task(tx, at.plus(RESERVE_AGAIN_AFTER), new.id, TaskKind::Reserve, None, "")?;
    }
    note_step(tx, &stored, &step)?;
    let lines = new.lines.iter().take(LINES_MAX).cloned().collect();
    let summary = summarized(&stored, (lines, new.lines.len()), Vec::new());
    tell(tx, &stored, at, state.as_str(), &summary)?;
    Ok(true)
}

/// Carries out a command on an order. Returns the order after it, and whether anything changed.
pub(crate) fn apply(
    tx: &mut Tx<'_>,
    at: TimeMs,
    id: OrderId,
    by: By<'_>,
    command: Command,
) -> Result<(Stored, bool), OrderError> {
    let mut found = find(tx, id, true)?.ok_or(OrderError::NotFound(id))?;
    let done = found.order.apply(at, by, command).map_err(OrderError::Refused)?;
    if done.is_changed {
        let (order, bytes) = (&found.order, id.to_bytes());
        let payment = order.payment_id.map(PaymentId::to_bytes);
        let delivery = order.delivery.as_ref();
        let left = (!order.left.is_empty()).then(|| order.left.join("\n"));
        let is_any = order.others != OtherPayments::default();
        let others = is_any.then(|| written(&order.others)).transpose()?;
        tx.execute(
            "UPDATE orders SET sale_log = ?, sale_sequence = ?, sale_logs_left = ?, state = ?, payment_seen = ?, payment = ?, carrier = ?, \
             tracking = ?, version = ?, has_units = ?, refunded_minor = ?, payment_version = ?, other_payments = ? WHERE id = ?",
            params![
                order.followed.as_ref().map(|place| &place.log),
                order.followed.as_ref().map(|place| place.sequence),
                left.as_ref(),
                order.state.as_str(),
                order.payment.as_str(),
                payment.as_ref(),
                delivery.map(|delivery| &delivery.carrier),
                delivery.map(|delivery| &delivery.tracking),
                order.version,
                order.has_units,
                order.refunded_minor,
                order.payment_version,
                others.as_ref(),
                &bytes
            ],
        )?;
    }
    if let Some(step) = &done.step {
        note_step(tx, &found, step)?;
    } else if done.is_changed {
        tell_change(tx, &found, at)?;
    }
    for effect in done.effects {
        match effect {
            Effect::Tell => {
                let summary = summary(tx, &found)?;
                tell(tx, &found, at, found.order.state.as_str(), &summary)?;
            }
            Effect::ConfirmHold { payment } => {
                add_task(tx, at, id, TaskKind::Confirm, Some(payment), "")?;
            }
            Effect::ReleaseHold => add_task(tx, at, id, TaskKind::Release, None, "")?,
            Effect::SetStock => {
                // What was to be given back is wanted again.
                end_tasks(tx, id, TaskKind::FreeStock)?;
                add_task(tx, at, id, TaskKind::SetStock, None, "")?;
            }
            Effect::FreeStock => add_task(tx, at, id, TaskKind::FreeStock, None, found.order.state.as_str())?,
            Effect::ShipStock => add_task(tx, at, id, TaskKind::ShipStock, None, "")?,
            Effect::Refund { payment, why } => {
                add_task(tx, at, id, TaskKind::Refund, Some(payment), why.as_str())?;
            }
        }
    }
    Ok((found, done.is_changed))
}

/// The order with this id. `is_locked`: no other transaction changes it before this one has ended.
pub(crate) fn find(tx: &mut Tx<'_>, id: OrderId, is_locked: bool) -> Result<Option<Stored>, SqlError> {
    let text = format!("SELECT {COLUMNS} FROM orders WHERE id = ?");
    let key = id.to_bytes();
    let found = match is_locked {
        true => tx.query_locked(&text, params![&key], stored)?,
        false => tx.query(&text, params![&key], stored)?,
    };
    Ok(found.into_iter().next())
}

/// The order of a hold on this shard, also if its bucket is being moved.
pub(crate) fn of_hold(tx: &mut Tx<'_>, hold: &HoldRef) -> Result<Option<OrderId>, SqlError> {
    let key = params![hold.sale.as_str(), &hold.hold.0];
    tx.query_first("SELECT id FROM orders WHERE sale = ? AND hold = ?", key, |row| {
        row.array(0).map(OrderId::from_bytes)
    })
}

/// Orders of a shopper, newest first, older than `before`.
pub(crate) fn of_shopper(
    tx: &mut Tx<'_>,
    shopper: &str,
    before: Option<OrderId>,
    at_most: usize,
) -> Result<Vec<OrderView>, SqlError> {
    let before = before.map_or([0xff; 16], OrderId::to_bytes);
    let text = format!("SELECT {COLUMNS} FROM orders WHERE shopper = ? AND id < ? ORDER BY id DESC LIMIT ?");
    let found = tx.query(&text, params![shopper, &before, at_most], stored)?;
    found.into_iter().map(|stored| view(tx, stored)).collect()
}

fn line(row: &Row<'_>) -> Result<OrderLine, SqlError> {
    Ok(OrderLine {
        sku: row.parsed(0, "a sku")?,
        name: row.text(1)?,
        name_zh: row.text(2)?,
        quantity: u32::try_from(row.count(3)?).map_err(|_| unexpected(3, "a quantity"))?,
        price_minor: row.count(4)?,
    })
}

/// The whole of an order.
pub(crate) fn view(tx: &mut Tx<'_>, stored: Stored) -> Result<OrderView, SqlError> {
    let key = stored.id.to_bytes();
    let lines = tx.query(
        "SELECT sku, name, name_zh, quantity, price_minor FROM order_lines WHERE order_id = ? ORDER BY number",
        params![&key],
        line,
    )?;
    let state = |name: &str, column| OrderState::from_name(name).ok_or_else(|| unexpected(column, "a state"));
    let history = tx.query(
        "SELECT at, from_state, to_state, actor, reason FROM order_history WHERE order_id = ? ORDER BY number",
        params![&key],
        |row| {
            Ok(Transition {
                at: TimeMs(row.count(0)?),
                from: row.maybe_text(1)?.map(|name| state(&name, 1)).transpose()?,
                to: state(&row.text(2)?, 2)?,
                actor: row.text(3)?,
                reason: row.text(4)?,
            })
        },
    )?;
    let returns = returned::of_order(tx, stored.id)?;
    let Stored { id, shopper, hold, currency, pay_by, created_at, charges, address, order } = stored;
    Ok(OrderView {
        id,
        shopper,
        origin: hold.map_or(OrderOrigin::Cart, OrderOrigin::Sale),
        state: order.state,
        payment: order.payment,
        lines,
        charges,
        address,
        total: Money { amount_minor: order.total_minor, currency },
        pay_by,
        delivery: order.delivery,
        created_at,
        version: order.version,
        history,
        returns,
    })
}

/// Writes a step into the history, under the version that the order has after it.
pub(crate) fn note_step(tx: &mut Tx<'_>, stored: &Stored, step: &Transition) -> Result<(), SqlError> {
    tx.execute(
        "INSERT INTO order_history (order_id, number, at, from_state, to_state, actor, reason) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            &stored.id.to_bytes(),
            stored.order.version,
            step.at.0,
            step.from.map(OrderState::as_str),
            step.to.as_str(),
            &step.actor,
            &step.reason
        ],
    )?;
    Ok(())
}

/// An order as lists have it. `lines` are the first ones, and how many there are.
fn summarized(
    stored: &Stored,
    (lines, count): (Vec<OrderLine>, usize),
    returns: Vec<ReturnSummary>,
) -> OrderSummary {
    let order = &stored.order;
    OrderSummary {
        id: stored.id,
        shopper: stored.shopper.clone(),
        origin: stored.hold.clone().map_or(OrderOrigin::Cart, OrderOrigin::Sale),
        state: order.state,
        payment: order.payment,
        more_lines: count - lines.len(),
        lines,
        total: Money { amount_minor: order.total_minor, currency: stored.currency },
        created_at: stored.created_at,
        version: order.version,
        returns,
    }
}

/// An order as lists have it, from its tables.
pub(crate) fn summary(tx: &mut Tx<'_>, stored: &Stored) -> Result<OrderSummary, SqlError> {
    let key = stored.id.to_bytes();
    let text = "SELECT sku, name, name_zh, quantity, price_minor FROM order_lines WHERE order_id = ? \
                ORDER BY number LIMIT ?";
    let lines = tx.query(text, params![&key, LINES_MAX], line)?;
    let count = match lines.len() {
        LINES_MAX => {
            let text = "SELECT COUNT(*) FROM order_lines WHERE order_id = ?";
            tx.query_first(text, params![&key], |row| row.count(0))?.unwrap_or_default() as usize
        }
        count => count,
    };
    // As they are now: this transaction may have begun to read before the last of them was written.
    let text = "SELECT number, state FROM returns WHERE order_id = ? ORDER BY number";
    let returns = tx.query_shared(text, params![&key], |row| {
        let number = u32::try_from(row.count(0)?).map_err(|_| unexpected(0, "a number"))?;
        let state = ReturnState::from_name(&row.text(1)?).ok_or_else(|| unexpected(1, "a state"))?;
        Ok(ReturnSummary { number, state })
    })?;
    Ok(summarized(stored, (lines, count), returns))
}

/// Puts an event into the outbox: something of the order has changed, which is no step.
pub(crate) fn tell_change(tx: &mut Tx<'_>, stored: &Stored, at: TimeMs) -> Result<(), SqlError> {
    let summary = summary(tx, stored)?;
    tell(tx, stored, at, "changed", &summary)
}

/// Puts an event into the outbox: of a step, what the order is now.
fn tell(
    tx: &mut Tx<'_>,
    stored: &Stored,
    at: TimeMs,
    what: &str,
    summary: &OrderSummary,
) -> Result<(), SqlError> {
    let order = &stored.order;
    let event = json!({
        "specversion": "1.0",
        // With the time: a database that was put back to an older state tells other changes under
        // the same versions, which are no repeats.
        "id": format!("{}-{}-{}", stored.id, order.version, at.0),
        "source": "/orders",
        "type": format!("floodgate.order.{what}"),
        "subject": stored.id,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "order": stored.id,
            "shopper": stored.shopper,
            "sale": stored.hold.as_ref().map(|hold| &hold.sale),
            "hold": stored.hold.as_ref().map(|hold| hold.hold.to_string()),
            "total_minor": order.total_minor,
            "currency": stored.currency,
            "version": order.version,
            "delivery": order.delivery,
            "summary": summary,
        },
    });
    outbox::put(tx, &event.to_string())
}

/// What is to be done outside of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Confirm,
    Release,
    Refund,
    /// Set the units of a cart's new order aside.
    Reserve,
    SetStock,
    FreeStock,
    ShipStock,
    /// Units of a return came back.
    TakeBack,
    /// Give the money of a return back.
    RefundReturn,
}

/// Whom a task asks: those who do not answer keep no others waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    SalesAndPayments,
    Stock,
}

impl TaskKind {
    pub(crate) fn asks(self) -> Asks {
        match self {
            Self::Confirm | Self::Release | Self::Refund | Self::RefundReturn => Asks::SalesAndPayments,
            Self::Reserve | Self::SetStock | Self::FreeStock | Self::ShipStock | Self::TakeBack => {
                Asks::Stock
            }
        }
    }

    const ALL: [Self; 9] = [
        Self::Confirm,
        Self::Release,
        Self::Refund,
        Self::Reserve,
        Self::SetStock,
        Self::FreeStock,
        Self::ShipStock,
        Self::TakeBack,
        Self::RefundReturn,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Release => "release",
            Self::Refund => "refund",
            Self::Reserve => "reserve",
            Self::SetStock => "set_stock",
            Self::FreeStock => "free_stock",
            Self::ShipStock => "ship_stock",
            Self::TakeBack => "take_back",
            Self::RefundReturn => "refund_return",
        }
    }
}

/// A task that is due.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) number: u64,
    pub(crate) kind: TaskKind,
    pub(crate) order: OrderId,
    /// Of tasks about a payment; those about a return have its number here.
    pub(crate) payment: PaymentId,
    pub(crate) reason: String,
    pub(crate) tries: u64,
}

pub(crate) fn add_task(
    tx: &mut Tx<'_>,
    at: TimeMs,
    order: OrderId,
    kind: TaskKind,
    payment: Option<PaymentId>,
    reason: &str,
) -> Result<(), SqlError> {
    let payment = payment.map_or([0; 16], PaymentId::to_bytes);
    // One that is under way is not this one: it was decided before. Its end finds another number.
    tx.execute(
        "DELETE FROM tasks WHERE order_id = ? AND kind = ? AND payment = ?",
        params![&order.to_bytes(), kind.as_str(), &payment],
    )?;
    tx.execute(
        "INSERT INTO tasks (kind, order_id, payment, reason, due_at, tries) VALUES (?, ?, ?, ?, ?, 0)",
        params![kind.as_str(), &order.to_bytes(), &payment, reason, at.0],
    )?;
    Ok(())
}

/// Sets a new time to pay: the hold was granted again.
pub(crate) fn set_pay_by(tx: &mut Tx<'_>, order: OrderId, pay_by: TimeMs) -> Result<(), SqlError> {
    tx.execute("UPDATE orders SET pay_by = ? WHERE id = ?", params![pay_by.0, &order.to_bytes()])?;
    Ok(())
}

/// Tasks that are due, those that are due for longest first. One that is due later than any pause
/// lasts was written while the clock was ahead.
pub(crate) fn due_tasks(
    tx: &mut Tx<'_>,
    now: TimeMs,
    of: Asks,
    at_most: usize,
) -> Result<Vec<Task>, SqlError> {
    let kinds: Vec<String> = TaskKind::ALL
        .into_iter()
        .filter(|kind| kind.asks() == of)
        .map(|kind| format!("'{}'", kind.as_str()))
        .collect();
    let here = directory::only_here(tx, "order_id", Wants::Change)?;
    let text = format!(
        "SELECT number, kind, order_id, payment, reason, tries FROM tasks \
         WHERE (due_at <= ? OR due_at > ?) AND kind IN ({}){here} ORDER BY due_at, number LIMIT ?",
        kinds.join(", ")
    );
    tx.query(&text, params![now.0, now.plus(AHEAD).0, at_most], |row| {
        let kind = row.text(1)?;
        let kind = TaskKind::ALL.into_iter().find(|of| of.as_str() == kind);
        Ok(Task {
            number: row.count(0)?,
            kind: kind.ok_or_else(|| unexpected(1, "a kind of task"))?,
            order: OrderId::from_bytes(row.array(2)?),
            payment: PaymentId::from_bytes(row.array(3)?),
            reason: row.text(4)?,
            tries: row.count(5)?,
        })
    })
}

/// The units of a cart's order were set aside, or were too few: what was decided first stays. What
/// has become an order is in the cart no more.
pub(crate) fn stock_answered(
    tx: &mut Tx<'_>,
    at: TimeMs,
    id: OrderId,
    is_whole: bool,
) -> Result<OrderView, OrderError> {
    let reason = if is_whole { "its units are set aside" } else { "there is too little stock" };
    let by = By { actor: "inventory", reason };
    let (stored, is_changed) = apply(tx, at, id, by, Command::StockAnswered { is_whole })?;
    end_tasks(tx, id, TaskKind::Reserve)?;
    let shopper = stored.shopper.clone();
    let view = view(tx, stored)?;
    if is_changed && is_whole {
        for line in &view.lines {
            cart_rows::take(tx, &shopper, &line.sku, line.quantity)?;
        }
    }
    Ok(view)
}

/// Orders of carts that a shopper has not paid, some at the most.
pub(crate) fn count_unpaid(tx: &mut Tx<'_>, shopper: &str, at_most: usize) -> Result<usize, SqlError> {
    let text = "SELECT id FROM orders WHERE shopper = ? AND sale IS NULL AND pay_by IS NOT NULL \
                AND state IN (?, ?) LIMIT ?";
    let (created, awaiting) = (OrderState::Created.as_str(), OrderState::AwaitingPayment.as_str());
    Ok(tx.query(text, params![shopper, created, awaiting, at_most], |row| row.array::<16>(0))?.len())
}

/// Whether a cart's order of this shopper waits for the stock.
pub(crate) fn is_being_made(tx: &mut Tx<'_>, shopper: &str) -> Result<bool, SqlError> {
    let text = "SELECT id FROM orders WHERE shopper = ? AND sale IS NULL AND pay_by IS NOT NULL AND state = ? \
                LIMIT 1";
    let key = params![shopper, OrderState::Created.as_str()];
    Ok(tx.query_first(text, key, |row| row.array::<16>(0))?.is_some())
}

/// Characters of a line's name.
const NAME_MAX: usize = 200;

/// A product's name with its variant's, as an order's line has it.
pub(crate) fn whole_name(name: &str, variant: &str) -> String {
    let whole = match variant.is_empty() {
        true => name.to_owned(),
        false => format!("{name}, {variant}"),
    };
    whole.chars().take(NAME_MAX).collect()
}

/// Orders of carts whose time to pay was over at `before`.
pub(crate) fn unpaid_since(
    tx: &mut Tx<'_>,
    before: TimeMs,
    at_most: usize,
) -> Result<Vec<OrderId>, SqlError> {
    let mut found = Vec::new();
    let here = directory::only_here(tx, "id", Wants::Change)?;
    for state in [OrderState::AwaitingPayment, OrderState::Created] {
        let text = format!(
            "SELECT id FROM orders WHERE state = ? AND pay_by <= ? AND sale IS NULL AND payment_seen = ?{here} \
             ORDER BY pay_by LIMIT ?"
        );
        let key = params![state.as_str(), before.0, PaymentSeen::None.as_str(), at_most];
        found.extend(tx.query(&text, key, |row| row.array(0).map(OrderId::from_bytes))?);
    }
    Ok(found)
}

/// Where an order goes that is not packed yet. Returns false if it is.
pub(crate) fn set_address(tx: &mut Tx<'_>, id: OrderId, address: &Address) -> Result<bool, SqlError> {
    let states = [OrderState::Created, OrderState::AwaitingPayment, OrderState::Paid, OrderState::Allocated];
    let Some(found) = find(tx, id, true)? else { return Ok(false) };
    if !states.contains(&found.order.state) {
        return Ok(found.address.as_ref() == Some(address));
    }
    tx.execute("UPDATE orders SET address = ? WHERE id = ?", params![&written(address)?, &id.to_bytes()])?;
    Ok(true)
}

/// All tasks of this kind that an order has.
pub(crate) fn end_tasks(tx: &mut Tx<'_>, order: OrderId, kind: TaskKind) -> Result<(), SqlError> {
    tx.execute(
        "DELETE FROM tasks WHERE order_id = ? AND kind = ?",
        params![&order.to_bytes(), kind.as_str()],
    )?;
    Ok(())
}

/// The task of this kind about one payment or return.
pub(crate) fn end_task_of(
    tx: &mut Tx<'_>,
    order: OrderId,
    kind: TaskKind,
    of: PaymentId,
) -> Result<(), SqlError> {
    tx.execute(
        "DELETE FROM tasks WHERE order_id = ? AND kind = ? AND payment = ?",
        params![&order.to_bytes(), kind.as_str(), &of.to_bytes()],
    )?;
    Ok(())
}

/// Whether the stock has not heard yet of units that the order takes, or has sent.
pub(crate) fn waits_for_stock(tx: &mut Tx<'_>, order: OrderId) -> Result<bool, SqlError> {
    let text = "SELECT number FROM tasks WHERE order_id = ? AND kind IN (?, ?) LIMIT 1";
    let [set, ship] = [TaskKind::SetStock, TaskKind::ShipStock].map(TaskKind::as_str);
    let id = order.to_bytes();
    Ok(tx.query_first(text, params![&id, set, ship], |row| row.count(0))?.is_some())
}

pub(crate) fn end_task(tx: &mut Tx<'_>, number: u64) -> Result<(), SqlError> {
    tx.execute("DELETE FROM tasks WHERE number = ?", params![number])?;
    Ok(())
}

pub(crate) fn put_task_off(tx: &mut Tx<'_>, task: &Task, until: TimeMs) -> Result<(), SqlError> {
    tx.execute(
        "UPDATE tasks SET due_at = ?, tries = ? WHERE number = ?",
        params![until.0, task.tries + 1, task.number],
    )?;
    Ok(())
}
