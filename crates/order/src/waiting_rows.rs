//! How much waits for people and for tasks, for the console's first page. Each count stops at a
//! bound, so that it costs the same however much there is.

use crate::{
    directory::{self, Wants},
    store::TaskKind,
};
use contracts::store::{OrderState, ReturnState};
use engines::{
    params,
    sql::{SqlError, Tx},
};

/// Of each kind in one database, so many are counted at the most.
pub(crate) const COUNTED_MAX: u64 = 1000;

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) for_payment: u64,
    /// Paid, and its units are not set aside.
    pub(crate) for_stock: u64,
    pub(crate) to_pack: u64,
    pub(crate) returns_to_decide: u64,
    pub(crate) returns_to_come: u64,
}

fn count(tx: &mut Tx<'_>, (of, here): (&str, &str), name: &str) -> Result<u64, SqlError> {
    let text = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {of} = ?{here} LIMIT ?) counted");
    let found = tx.query_first(&text, params![name, COUNTED_MAX], |row| row.count(0))?;
    Ok(found.unwrap_or_default())
}

/// What waits, as it is listed.
pub(crate) fn read(tx: &mut Tx<'_>) -> Result<Waiting, SqlError> {
    let (orders, returns) = (("listed_orders WHERE state", ""), ("listed_returns WHERE state", ""));
    Ok(Waiting {
        for_payment: count(tx, orders, OrderState::AwaitingPayment.as_str())?,
        for_stock: count(tx, orders, OrderState::Paid.as_str())?,
        to_pack: count(tx, orders, OrderState::Allocated.as_str())?,
        returns_to_decide: count(tx, returns, ReturnState::Requested.as_str())?,
        returns_to_come: count(tx, returns, ReturnState::Approved.as_str())?,
    })
}

/// Refunds of one database of orders that the provider has not been asked for yet.
pub(crate) fn refunds(tx: &mut Tx<'_>) -> Result<u64, SqlError> {
    let here = directory::only_here(tx, "order_id", Wants::Read)?;
    let tasks = ("tasks WHERE kind", &*here);
    Ok(count(tx, tasks, TaskKind::Refund.as_str())? + count(tx, tasks, TaskKind::RefundReturn.as_str())?)
}
