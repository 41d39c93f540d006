//! The steps of returns, and what they lead to. The rules are in
//! [`core::returns`](crate::core::returns).

use crate::{
    core::{
        By, Command,
        returns::{self, Bought, Earlier, NotReturned, Step},
    },
    returned::{REFUND_KEY, found, slot},
    store::{self, NewOrder, OrderError, Stored, TaskKind},
};
use contracts::store::{
    Bucket, CameBack, Charges, OrderId, OrderLine, OrderState, OrderView, PaymentSeen, RequestReturn,
    ReturnState, ReturnView, StockLine, Transition, Wish,
};
use engines::{
    params,
    sql::{SqlError, Tx, outbox},
};
use serde_json::json;
use std::fmt;
use units::TimeMs;

/// Who says that the money of a return is back, if the payment's provider has said so.
const BY_PAYMENT: &str = "payment";

/// Why a return is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnError {
    Order(OrderError),
    NotReturned(NotReturned),
    /// The order has no return of this number.
    NotFound(u32),
    /// The order has another return of this number.
    Other(u32),
    /// The step does not fit the return's state.
    Step(Step, ReturnState),
    /// Of an order that was an exchange itself only an exchange is to be had.
    ExchangeOnly,
    /// The money is on its way by the payment's provider.
    OnItsWay,
    /// The order has no payment of which something could go back.
    NotPaid,
    /// So much of it has not gone back yet.
    Amount {
        left: u64,
    },
}

impl From<SqlError> for ReturnError {
    fn from(error: SqlError) -> Self {
        Self::Order(error.into())
    }
}

impl From<OrderError> for ReturnError {
    fn from(error: OrderError) -> Self {
        Self::Order(error)
    }
}

impl fmt::Display for ReturnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(error) => error.fmt(f),
            Self::NotReturned(NotReturned::State(state)) => {
                write!(f, "return: the order is {}, not delivered", state.as_str().replace('_', " "))
            }
            Self::NotReturned(NotReturned::TooLate) => f.write_str("return: the time to return it is over"),
            Self::NotReturned(NotReturned::TooMany) => {
                write!(f, "return: the order has {} already", returns::RETURNS_MAX)
            }
            Self::NotReturned(NotReturned::Nothing) => f.write_str("lines: want at least one unit"),
            Self::NotReturned(NotReturned::Units { sku, left }) => {
                write!(f, "lines: of {sku} {left} can come back")
            }
            Self::NotFound(number) => write!(f, "return {number}: the order has none of this number"),
            Self::Other(number) => {
                write!(f, "return {number}: another one has this number, look at the order again")
            }
            Self::Step(step, state) => write!(f, "{}: the return is {}", step.as_str(), state.as_str()),
            Self::OnItsWay => f.write_str(
                "settle: the provider of the order's payment gives the money back; this is for what it cannot",
            ),
            Self::NotPaid => f.write_str("refund: the order has no payment that could go back"),
            Self::Amount { left } => write!(f, "amount_minor: want 1 to {left}, which is left"),
            Self::ExchangeOnly => f.write_str("wish: what was sent as an exchange can be exchanged only"),
        }
    }
}

impl std::error::Error for ReturnError {}

fn locked(tx: &mut Tx<'_>, order: OrderId) -> Result<Stored, ReturnError> {
    Ok(store::find(tx, order, true)?.ok_or(OrderError::NotFound(order))?)
}

/// Notes a step of a return, which is a change of its order, and tells it.
fn note(
    tx: &mut Tx<'_>,
    at: TimeMs,
    order: &mut Stored,
    (number, step): (u32, usize),
    state: ReturnState,
    by: By<'_>,
) -> Result<(), SqlError> {
    tx.execute(
        "INSERT INTO return_steps (order_id, number, step, at, state, actor, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![&order.id.to_bytes(), number, step, at.0, state.as_str(), by.actor, by.reason],
    )?;
    order.order.version += 1;
    tx.execute(
        "UPDATE orders SET version = ? WHERE id = ?",
        params![order.order.version, &order.id.to_bytes()],
    )?;
    let summary = store::summary(tx, order)?;
    let event = json!({
        "specversion": "1.0",
        "id": format!("{}-return-{number}-{step}-{}", order.id, at.0),
        "source": "/orders",
        "type": format!("floodgate.return.{}", state.as_str()),
        "subject": order.id,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "order": order.id,
            "shopper": order.shopper,
            "return": number,
            "actor": by.actor,
            "version": order.order.version,
            "summary": summary,
        },
    });
    outbox::put(tx, &event.to_string())
}

/// A shopper wants to send units back. The same request again is the same return.
pub(crate) fn request(
    tx: &mut Tx<'_>,
    at: TimeMs,
    order: OrderId,
    by: By<'_>,
    wanted: &RequestReturn,
) -> Result<OrderView, ReturnError> {
    let mut stored = locked(tx, order)?;
    let view = store::view(tx, stored.clone())?;
    let mut lines: Vec<StockLine> = Vec::new();
    for line in wanted.lines.iter().filter(|line| line.quantity > 0) {
        match lines.iter_mut().find(|of| of.sku == line.sku) {
            Some(of) => of.quantity = of.quantity.saturating_add(line.quantity),
            None => lines.push(line.clone()),
        }
    }
    lines.sort_by(|one, other| one.sku.cmp(&other.sku));
    if is_known(&view, wanted.number, |of| of.wish == wanted.wish && of.lines == lines)? {
        return Ok(view);
    }
    if view.payment != PaymentSeen::Received && view.total.amount_minor > 0 {
        return Err(ReturnError::NotPaid);
    }
    if view.total.amount_minor == 0 && wanted.wish == Wish::Refund {
        return Err(ReturnError::ExchangeOnly);
    }
    let earlier: Vec<Earlier> = found(tx, order)?
        .into_iter()
        .map(|of| Earlier { state: of.view.state, lines: of.view.lines, refund_minor: of.value_minor })
        .collect();
    let bought = bought(&stored, &view);
    let value = returns::request(at, bought, &earlier, &lines).map_err(ReturnError::NotReturned)?;
    let (key, number) = (order.to_bytes(), wanted.number);
    insert(tx, order, number, (wanted.wish, value), ReturnState::Requested)?;
    for line in &lines {
        tx.execute(
            "INSERT INTO return_lines (order_id, number, sku, quantity) VALUES (?, ?, ?, ?)",
            params![&key, number, line.sku.as_str(), line.quantity],
        )?;
    }
    note(tx, at, &mut stored, (number, 1), ReturnState::Requested, by)?;
    Ok(store::view(tx, stored)?)
}

fn bought<'a>(stored: &Stored, view: &'a OrderView) -> Bought<'a> {
    // A step that leaves it delivered is of another kind.
    let is_delivery =
        |step: &&Transition| step.to == OrderState::Delivered && step.from != Some(OrderState::Delivered);
    let delivered = view.history.iter().rev().find(is_delivery);
    // What went back elsewhere is not in what the payment's provider has given back.
    let by_provider = |of: &&ReturnView| {
        let is_by_payment = of.history.last().is_some_and(|step| step.actor == BY_PAYMENT);
        of.state == ReturnState::Refunded && is_by_payment
    };
    let by_returns: u64 = view.returns.iter().filter(by_provider).map(|of| of.refund_minor).sum();
    Bought {
        state: view.state,
        delivered_at: delivered.map(|step| step.at),
        lines: &view.lines,
        total_minor: view.total.amount_minor,
        tax_on_top_minor: if view.charges.tax_is_included { 0 } else { view.charges.tax_minor },
        gone_minor: stored.order.refunded_minor.saturating_sub(by_returns),
    }
}

/// Whether the order has the return of this number, which is its next one otherwise. Another one
/// of that number came meanwhile, and is not what was asked for.
fn is_known(
    order: &OrderView,
    number: u32,
    is_same: impl Fn(&ReturnView) -> bool,
) -> Result<bool, ReturnError> {
    let count = order.returns.len() as u32;
    match order.returns.iter().find(|of| of.number == number) {
        Some(of) if is_same(of) => Ok(true),
        Some(_) => Err(ReturnError::Other(number)),
        None if number == count + 1 => Ok(false),
        None => Err(ReturnError::NotFound(number)),
    }
}

fn insert(
    tx: &mut Tx<'_>,
    order: OrderId,
    number: u32,
    (wish, value): (Wish, u64),
    state: ReturnState,
) -> Result<(), SqlError> {
    tx.execute(
        "INSERT INTO returns (order_id, number, state, wish, value_minor) VALUES (?, ?, ?, ?, ?)",
        params![&order.to_bytes(), number, state.as_str(), wish.as_str(), value],
    )?;
    Ok(())
}

/// A step of a return. `units` says what becomes of what came; `random` is for the id of the order
/// that sends the same again.
pub(crate) fn step(
    tx: &mut Tx<'_>,
    (at, random): (TimeMs, [u8; 16]),
    order: OrderId,
    number: u32,
    by: By<'_>,
    (step, units): (Step, Option<CameBack>),
) -> Result<OrderView, ReturnError> {
    let mut stored = locked(tx, order)?;
    let all = found(tx, order)?;
    let one = all.iter().find(|of| of.view.number == number).ok_or(ReturnError::NotFound(number))?;
    let ReturnView { state, wish, lines, history, .. } = &one.view;
    let mut next = returns::follow(*state, *wish, step).ok_or(ReturnError::Step(step, *state))?;
    let was_exchanged = history.iter().any(|of| of.to == ReturnState::Exchanged);
    if step == Step::GiveUp && !was_exchanged {
        return Err(ReturnError::Step(step, *state));
    }
    if next == *state {
        return Ok(store::view(tx, stored)?);
    }
    let order_view = store::view(tx, stored.clone())?;
    let mut value = one.value_minor;
    // Those whose units are here, for money: what is sent in exchange is with the shopper again.
    let come: Vec<Earlier> = all
        .iter()
        .filter(|of| of.view.number != number && has_come(of.view.state))
        .map(|of| Earlier {
            state: of.view.state,
            lines: of.view.lines.clone(),
            refund_minor: of.value_minor,
        })
        .collect();
    if matches!(step, Step::Receive | Step::GiveUp) {
        // What others were to bring back and did not is reckoned now, and what the money is for.
        value = returns::value(bought(&stored, &order_view), &come, lines);
        let is_for_money = step == Step::GiveUp || *wish == Wish::Refund;
        if is_for_money && order_view.total.amount_minor == 0 {
            // It was sent in exchange itself: people give the money back where it was paid.
            value = 0;
        } else if is_for_money && (value == 0 || order_view.payment != PaymentSeen::Received) {
            (next, value) = (ReturnState::Refunded, 0);
        }
    }
    let wish_now = (step == Step::GiveUp).then_some(Wish::Refund.as_str());
    let units_name = units.map(|units| match units {
        CameBack::Restock => "restock",
        CameBack::Scrap => "scrap",
    });
    tx.execute(
        "UPDATE returns SET state = ?, value_minor = ?, units = COALESCE(?, units), wish = COALESCE(?, wish) \
         WHERE order_id = ? AND number = ?",
        params![next.as_str(), value, units_name, wish_now, &order.to_bytes(), number],
    )?;
    note(tx, at, &mut stored, (number, history.len() + 1), next, by)?;
    if step == Step::Refunded {
        store::end_task_of(tx, order, TaskKind::RefundReturn, slot(number))?;
    }
    match step {
        Step::Receive => store::add_task(tx, at, order, TaskKind::TakeBack, Some(slot(number)), "")?,
        Step::GiveUp => {
            let sent = sent_for(tx, &stored, number)?;
            store::apply(tx, at, sent, by, Command::GiveUpExchange)?;
        }
        _ => return Ok(store::view(tx, stored)?),
    }
    if next == ReturnState::Exchanged {
        exchange(tx, (at, random), &stored, number, lines, by)?;
    } else {
        if next == ReturnState::Received && value > 0 {
            store::add_task(tx, at, order, TaskKind::RefundReturn, Some(slot(number)), "")?;
        }
        let this = Earlier { state: next, lines: lines.clone(), refund_minor: value };
        let left = returns::left(&order_view.lines, &[come.as_slice(), &[this]].concat());
        let is_all = left.values().all(|left| *left == 0);
        if order_view.total.amount_minor > 0 {
            store::apply(tx, at, order, by, Command::CameBack { is_all })?;
        }
    }
    let stored = locked(tx, order)?;
    Ok(store::view(tx, stored)?)
}

fn has_come(state: ReturnState) -> bool {
    matches!(state, ReturnState::Received | ReturnState::Refunded)
}

/// Another order sends the same units, which costs nothing. It waits for stock as long as it takes.
fn exchange(
    tx: &mut Tx<'_>,
    (at, random): (TimeMs, [u8; 16]),
    of: &Stored,
    number: u32,
    lines: &[StockLine],
    by: By<'_>,
) -> Result<(), ReturnError> {
    let bought = store::view(tx, of.clone())?;
    let line = |back: &StockLine| {
        let line = bought.lines.iter().find(|line| line.sku == back.sku)?;
        Some(OrderLine { quantity: back.quantity, price_minor: 0, ..line.clone() })
    };
    let new = NewOrder {
        id: OrderId::in_bucket(at, Bucket::of_shopper(&of.shopper), random),
        shopper: of.shopper.clone(),
        hold: None,
        currency: of.currency,
        lines: lines.iter().filter_map(line).collect(),
        charges: Charges::default(),
        address: of.address.clone(),
        pay_by: None,
    };
    let reason = reason_of_exchange(of.id, number);
    store::create(tx, at, By { actor: by.actor, reason: &reason }, &new)?;
    Ok(())
}

fn reason_of_exchange(order: OrderId, number: u32) -> String {
    format!("in exchange for return {number} of order {order}")
}

/// The order that sends what was exchanged by this return. It is of the same shopper, and so in the
/// same database.
fn sent_for(tx: &mut Tx<'_>, of: &Stored, number: u32) -> Result<OrderId, SqlError> {
    let text = "SELECT o.id FROM orders o JOIN order_history h ON h.order_id = o.id \
                WHERE o.shopper = ? AND h.number = 1 AND h.reason = ? LIMIT 1";
    let reason = reason_of_exchange(of.id, number);
    let found =
        tx.query_first(text, params![&of.shopper, &reason], |row| row.array(0).map(OrderId::from_bytes))?;
    found.ok_or_else(|| SqlError::Defect(format!("order {}: return {number} has sent nothing", of.id)))
}

/// Money goes back for nothing that was returned: as the return of this number, so that the same
/// again is done once.
pub(crate) fn refund_by_hand(
    tx: &mut Tx<'_>,
    at: TimeMs,
    order: OrderId,
    by: By<'_>,
    (amount_minor, number): (u64, u32),
) -> Result<OrderView, ReturnError> {
    let mut stored = locked(tx, order)?;
    let view = store::view(tx, stored.clone())?;
    if is_known(&view, number, |of| of.lines.is_empty() && of.refund_minor == amount_minor)? {
        return Ok(view);
    }
    if view.payment != PaymentSeen::Received || stored.order.payment_id.is_none() {
        return Err(ReturnError::NotPaid);
    }
    if view.returns.len() >= returns::RETURNS_MAX {
        return Err(ReturnError::NotReturned(NotReturned::TooMany));
    }
    // What was exchanged took no money.
    let values: u64 =
        found(tx, order)?.iter().filter(|of| of.view.state.is_alive()).map(|of| of.view.refund_minor).sum();
    let gone = bought(&stored, &view).gone_minor;
    let left = view.total.amount_minor.saturating_sub(values).saturating_sub(gone);
    if !(1..=left).contains(&amount_minor) {
        return Err(ReturnError::Amount { left });
    }
    insert(tx, order, number, (Wish::Refund, amount_minor), ReturnState::Received)?;
    note(tx, at, &mut stored, (number, 1), ReturnState::Received, by)?;
    store::add_task(tx, at, order, TaskKind::RefundReturn, Some(slot(number)), "")?;
    Ok(store::view(tx, stored)?)
}

/// The money of a return is back: the provider has said so.
pub(crate) fn is_back(tx: &mut Tx<'_>, at: TimeMs, order: OrderId, key: &str) -> Result<(), OrderError> {
    let number = key.strip_prefix(REFUND_KEY).and_then(|number| number.parse().ok());
    let Some(number) = number else { return Ok(()) };
    let by = By { actor: BY_PAYMENT, reason: "the money is back" };
    // This step makes no order.
    match step(tx, (at, [0; 16]), order, number, by, (Step::Refunded, None)) {
        Ok(_) | Err(ReturnError::NotFound(_) | ReturnError::Step(..)) => Ok(()),
        Err(ReturnError::Order(error)) => Err(error),
        Err(error) => Err(SqlError::Defect(error.to_string()).into()),
    }
}
