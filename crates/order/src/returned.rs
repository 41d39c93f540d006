//! Returns as they stand in their tables.

use crate::core::returns;
use contracts::store::{CameBack, OrderId, PaymentId, ReturnState, ReturnStep, ReturnView, StockLine, Wish};
use engines::{
    params,
    sql::{Migration, SqlError, Tx, unexpected},
};
use units::TimeMs;

pub(crate) const RETURNS: Migration = Migration {
    name: "returns, and what went back of each order",
    statements: &[
        "ALTER TABLE orders ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE returns (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, state VARCHAR(20) NOT NULL,
            wish VARCHAR(10) NOT NULL, value_minor BIGINT NOT NULL, units VARCHAR(10),
            PRIMARY KEY (order_id, number))",
        "CREATE INDEX returns_by_state ON returns (state, order_id, number)",
        "CREATE TABLE return_lines (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, sku VARCHAR(64) NOT NULL,
            quantity BIGINT NOT NULL, PRIMARY KEY (order_id, number, sku))",
        "CREATE TABLE return_steps (
            order_id BINARY(16) NOT NULL, number BIGINT NOT NULL, step BIGINT NOT NULL, at BIGINT NOT NULL,
            state VARCHAR(20) NOT NULL, actor VARCHAR(200) NOT NULL, reason VARCHAR(200) NOT NULL,
            PRIMARY KEY (order_id, number, step))",
    ],
};

/// Events of payments that come late, or before others, are told by these.
pub(crate) const PAYMENT_VERSION: Migration = Migration {
    name: "the version of its payment that an order knows, and what it knows of others",
    statements: &[
        "ALTER TABLE orders ADD COLUMN payment_version BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE orders ADD COLUMN other_payments VARCHAR(2000)",
    ],
};

/// A return with what its order needs to know.
pub(crate) struct Found {
    pub(crate) view: ReturnView,
    /// What its units cost, also if they are exchanged.
    pub(crate) value_minor: u64,
}

pub(crate) fn found(tx: &mut Tx<'_>, order: OrderId) -> Result<Vec<Found>, SqlError> {
    let key = order.to_bytes();
    let text = "SELECT number, state, wish, value_minor, units FROM returns WHERE order_id = ? ORDER BY number \
                LIMIT ?";
    let rows = tx.query(text, params![&key, 2 * returns::RETURNS_MAX], |row| {
        let state = ReturnState::from_name(&row.text(1)?).ok_or_else(|| unexpected(1, "a state"))?;
        let wish = Wish::from_name(&row.text(2)?).ok_or_else(|| unexpected(2, "a wish"))?;
        let units = match row.maybe_text(4)?.as_deref() {
            None => None,
            Some("restock") => Some(CameBack::Restock),
            Some(_) => Some(CameBack::Scrap),
        };
        let number = u32::try_from(row.count(0)?).map_err(|_| unexpected(0, "a number"))?;
        let value_minor = row.count(3)?;
        let refund_minor = if wish == Wish::Refund { value_minor } else { 0 };
        let (lines, history) = (Vec::new(), Vec::new());
        let view = ReturnView { number, state, lines, wish, refund_minor, units, history };
        Ok(Found { view, value_minor })
    })?;
    rows.into_iter()
        .map(|mut of| {
            let key = params![&key, of.view.number];
            let text = "SELECT sku, quantity FROM return_lines WHERE order_id = ? AND number = ? ORDER BY sku";
            of.view.lines = tx.query(text, key, |row| {
                let quantity = u32::try_from(row.count(1)?).map_err(|_| unexpected(1, "a quantity"))?;
                Ok(StockLine { sku: row.parsed(0, "a sku")?, quantity })
            })?;
            let text =
                "SELECT at, state, actor, reason FROM return_steps WHERE order_id = ? AND number = ? ORDER BY step";
            of.view.history = tx.query(text, key, |row| {
                let to = ReturnState::from_name(&row.text(1)?).ok_or_else(|| unexpected(1, "a state"))?;
                Ok(ReturnStep { at: TimeMs(row.count(0)?), to, actor: row.text(2)?, reason: row.text(3)? })
            })?;
            Ok(of)
        })
        .collect()
}

/// The returns of an order, by their numbers.
pub(crate) fn of_order(tx: &mut Tx<'_>, order: OrderId) -> Result<Vec<ReturnView>, SqlError> {
    Ok(found(tx, order)?.into_iter().map(|of| of.view).collect())
}

/// What the refunds of returns are called in payments, before their numbers.
pub(crate) const REFUND_KEY: &str = "return-";

pub(crate) fn refund_key(number: u32) -> String {
    format!("{REFUND_KEY}{number}")
}

/// A return's number where other tasks have a payment.
pub(crate) fn slot(number: u32) -> PaymentId {
    PaymentId::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn number_of(slot: PaymentId) -> u32 {
    u128::from_be_bytes(slot.to_bytes()) as u32
}
