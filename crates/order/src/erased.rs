//! What is erased of a shopper whose account is deleted. Orders stay, for the books: their lines,
//! sums, tax, the country of delivery and the steps. The person does not: name, phone, street and
//! place of the address, the reasons that the shopper wrote for returns, and the cart.

use crate::{
    cart_rows, returned,
    service::{Service, of_sql},
    store::{self, Stored},
};
use contracts::store::{
    AccountId, Address, Asked, Bucket, HoldsPersonalData, InTheWay, OrderId, OrderState, PaymentSeen,
    ReturnState, Transition,
};
use engines::{
    params,
    sql::{SqlError, Tx},
};
use units::TimeMs;

/// What stands where a shopper's words stood.
const DELETED: &str = "deleted";
/// Orders of one transaction.
const AT_ONCE: usize = 50;

/// Whether nothing of the order is to come any more: it was delivered, or ended before that, and no
/// money is on its way.
fn is_ended(state: OrderState, payment: PaymentSeen) -> bool {
    use OrderState::{
        Allocated, AwaitingPayment, Cancelled, Created, Delivered, Expired, Paid, PartRefunded, Refunded,
        Returned, Shipped,
    };
    let is_over = match state {
        Created | AwaitingPayment | Paid | Allocated | Shipped | Returned => false,
        Delivered | Cancelled | Expired | PartRefunded | Refunded => true,
    };
    is_over && !matches!(payment, PaymentSeen::BeingConfirmed | PaymentSeen::ToRefund)
}

fn is_open(state: ReturnState) -> bool {
    matches!(state, ReturnState::Requested | ReturnState::Approved | ReturnState::Received)
}

/// Orders of a shopper that are not erased, oldest first, behind `after`.
fn not_erased(tx: &mut Tx<'_>, shopper: &str, after: Option<OrderId>) -> Result<Vec<OrderId>, SqlError> {
    let after = after.map_or([0; 16], OrderId::to_bytes);
    let text = "SELECT id FROM orders WHERE shopper = ? AND id > ? AND erased_at IS NULL ORDER BY id LIMIT ?";
    tx.query(text, params![shopper, &after, AT_ONCE], |row| row.array(0).map(OrderId::from_bytes))
}

/// What keeps an order from being erased.
fn of_order(tx: &mut Tx<'_>, stored: &Stored) -> Result<Option<InTheWay>, SqlError> {
    if !is_ended(stored.order.state, stored.order.payment) {
        return Ok(Some(InTheWay::Order(stored.id)));
    }
    let returns = returned::of_order(tx, stored.id)?;
    let is_coming = returns.iter().any(|of| is_open(of.state));
    Ok(is_coming.then_some(InTheWay::Return(stored.id)))
}

/// The first order behind `after` that is open, or the last one that was looked at: `Err` then, if
/// there may be more.
pub(crate) fn in_the_way(
    tx: &mut Tx<'_>,
    shopper: &str,
    after: Option<OrderId>,
) -> Result<Result<Option<InTheWay>, OrderId>, SqlError> {
    let ids = not_erased(tx, shopper, after)?;
    for id in &ids {
        let Some(stored) = store::find(tx, *id, false)? else { continue };
        if let Some(open) = of_order(tx, &stored)? {
            return Ok(Ok(Some(open)));
        }
    }
    match ids.last() {
        Some(last) if ids.len() == AT_ONCE => Ok(Err(*last)),
        _ => Ok(Ok(None)),
    }
}

/// Erases the cart and some ended orders behind `after`. Returns the last one that was looked at,
/// if there may be more, and whether one of these is open and was left as it is.
pub(crate) fn erase(
    tx: &mut Tx<'_>,
    now: TimeMs,
    shopper: &str,
    after: Option<OrderId>,
) -> Result<(Option<OrderId>, bool), SqlError> {
    cart_rows::empty(tx, shopper)?;
    let ids = not_erased(tx, shopper, after)?;
    let mut is_one_open = false;
    for id in &ids {
        let Some(stored) = store::find(tx, *id, true)? else { continue };
        match of_order(tx, &stored)? {
            Some(_) => is_one_open = true,
            None => erase_one(tx, now, stored)?,
        }
    }
    let more = ids.last().copied().filter(|_| ids.len() == AT_ONCE);
    Ok((more, is_one_open))
}

fn erase_one(tx: &mut Tx<'_>, now: TimeMs, mut stored: Stored) -> Result<(), SqlError> {
    let id = stored.id.to_bytes();
    // Taxes go by the country.
    let address = stored.address.take().map(|address| Address {
        name: DELETED.into(),
        phone: DELETED.into(),
        street: DELETED.into(),
        city: DELETED.into(),
        region: String::new(),
        postcode: String::new(),
        country: address.country,
    });
    let address = address.as_ref().map(store::written).transpose()?;
    stored.order.version += 1;
    let text = "UPDATE orders SET address = ?, carrier = NULL, tracking = NULL, version = ?, erased_at = ? WHERE id = ?";
    tx.execute(text, params![address.as_ref(), stored.order.version, now.0, &id])?;
    let text = "UPDATE return_steps SET reason = ? WHERE order_id = ? AND actor = ?";
    tx.execute(text, params![DELETED, &id, &stored.shopper])?;
    let state = stored.order.state;
    let step = Transition {
        at: now,
        from: Some(state),
        to: state,
        actor: "account".into(),
        reason: "the shopper's account was deleted: name and address are erased".into(),
    };
    store::note_step(tx, &stored, &step)?;
    // What is erased is not told once more.
    stored.order.delivery = None;
    store::tell_change(tx, &stored, now)
}

impl HoldsPersonalData for Service {
    fn in_the_way(&self, shopper: AccountId) -> Asked<'_, Option<InTheWay>> {
        Box::pin(async move {
            let shopper = shopper.to_string();
            let bucket = Bucket::of_shopper(&shopper);
            let mut after = None;
            loop {
                let shopper = shopper.clone();
                let body = move |tx: &mut Tx<'_>| in_the_way(tx, &shopper, after);
                let found = self.needs.shards.read_primary(bucket, body).await;
                match found.map_err(|error: SqlError| of_sql(&error))? {
                    Ok(open) => return Ok(open),
                    Err(last) => after = Some(last),
                }
            }
        })
    }

    fn erase(&self, shopper: AccountId) -> Asked<'_, bool> {
        Box::pin(async move {
            let shopper = shopper.to_string();
            let bucket = Bucket::of_shopper(&shopper);
            let (mut after, mut is_all) = (None, true);
            loop {
                let (of, now) = (shopper.clone(), self.needs.clock.now());
                let body = move |tx: &mut Tx<'_>| erase(tx, now, &of, after);
                let erased = self.needs.shards.write(bucket, body).await;
                let (more, is_one_open) = erased.map_err(|error: SqlError| of_sql(&error))?;
                is_all &= !is_one_open;
                match more {
                    Some(last) => after = Some(last),
                    None => return Ok(is_all),
                }
            }
        })
    }
}
