//! Money: the payments' books against the provider's, and both against the orders. Money that
//! bought nothing has gone back in whole, nothing went back twice, and what was bought is paid.

use super::{Order, Orders, PAYMENTS, look};
use crate::{
    process::Outside,
    provider::{Charge, Refund, RefundState},
    sale::{Hold, HoldState},
};
use contracts::store::PaymentId;
use engines::params;
use payment::report::Day;
use sim::{Check, Violation, ensure};
use std::collections::{BTreeMap, BTreeSet};
use units::TimeMs;

const RULE: &str = "STORE-MONEY";

/// A payment as its table has it.
struct Stored {
    state: String,
    received_minor: u64,
    refunded_minor: u64,
}

fn read(outside: &Outside) -> Result<BTreeMap<PaymentId, Stored>, Violation> {
    let text = "SELECT id, state, COALESCE(received_minor, amount_minor), refunded_minor FROM payments";
    let found = look(outside, PAYMENTS, |tx| {
        tx.query(text, &[], |row| {
            let stored =
                Stored { state: row.text(1)?, received_minor: row.count(2)?, refunded_minor: row.count(3)? };
            Ok((PaymentId::from_bytes(row.array(0)?), stored))
        })
    });
    Ok(found?.into_iter().collect())
}

/// Each payment is what the provider has of it, and the two books are the provider's.
pub(super) fn payments(outside: &Outside, orders: &Orders) -> Check {
    let (charges, stored) = (outside.till.charges(), read(outside)?);
    for charge in charges.values() {
        let (id, taken, back) = (charge.payment, charge.taken_minor(), charge.back_minor());
        let here = stored.get(&id);
        ensure(here.is_some(), RULE, || format!("payment {id} of the provider is not known"))?;
        let Some(here) = here else { continue };
        ensure(back <= taken, RULE, || format!("payment {id}: {back} of {taken} went back"))?;
        let (extra, extra_back) = (charge.extra_minor(), charge.extra_back_minor());
        ensure(extra == extra_back, RULE, || {
            format!("payment {id} was received once more, {extra_back} of {extra} went back")
        })?;
        if charge.taken.is_none() || charge.is_other_currency() {
            ensure(matches!(&*here.state, "pending" | "failed"), RULE, || {
                format!("payment {id} is {}, and no money of the order's currency was taken", here.state)
            })?;
            continue;
        }
        let state = if back == taken { "refunded" } else { "succeeded" };
        let is_same = here.state == state && here.received_minor == taken && here.refunded_minor == back;
        ensure(is_same, RULE, || {
            let (state, received, refunded) = (&here.state, here.received_minor, here.refunded_minor);
            format!(
                "payment {id} is {state} with {received}, {refunded} went back; at the provider {taken}, {back}"
            )
        })?;
        let order = orders.get(&charge.order);
        ensure(order.is_some(), RULE, || format!("payment {id}: there is no order {}", charge.order))?;
        if let Some(order) = order {
            of_order(charge, order)?;
        }
    }
    let theirs = outside.till.books();
    let read = |table: &str| {
        let text = format!("SELECT id, amount_minor FROM {table}");
        look(outside, PAYMENTS, |tx| tx.query(&text, &[], |row| Ok((row.text(0)?, row.count(1)?))))
    };
    let followed =
        theirs.iter().filter(|(_, (_, event))| event.amount.currency == crate::catalog::currency());
    let followed: BTreeMap<String, u64> =
        followed.map(|(id, (_, event))| (id.clone(), event.amount.amount_minor)).collect();
    let ours: BTreeMap<String, u64> = read("movements")?.into_iter().collect();
    ensure(ours == followed, "STORE-BOOKS", || {
        format!("the shop's book has {ours:?}, the provider's {followed:?}")
    })
}

/// Money of a payment is kept for what it bought, and for nothing else.
fn of_order(charge: &Charge, order: &Order) -> Check {
    let (id, taken, back) = (charge.payment, charge.taken_minor(), charge.back_minor());
    let is_the_one = order.payment == Some(id) && order.seen == "received";
    if !is_the_one {
        return ensure(back == taken, RULE, || {
            format!(
                "payment {id} of order {}, which is {} ({} by {:?}), keeps {} of {taken}",
                order.id,
                order.state,
                order.seen,
                order.payment,
                taken - back
            )
        });
    }
    ensure(taken == order.total_minor && order.is_bought(), RULE, || {
        format!(
            "payment {id} of {taken} bought order {} of {}, which is {}",
            order.id, order.total_minor, order.state
        )
    })?;
    ensure(order.refunded_minor == back, RULE, || {
        format!("order {}: {} went back, at the provider {back}", order.id, order.refunded_minor)
    })?;
    let (mut by_hand, mut failed_by_hand) = (0, 0);
    for refund in &charge.refunds {
        let is_failed = refund.state == RefundState::Failed && refund.was_back && refund.key.is_none();
        failed_by_hand += if is_failed { refund.amount_minor } else { 0 };
    }
    let is_made = |refund: &&Refund| refund.state == RefundState::Back && !refund.is_of_extra();
    for refund in charge.refunds.iter().filter(is_made) {
        let Some(key) = &refund.key else { continue };
        // What people gave back, and came back, was given once more.
        if key.starts_with("hand-") {
            by_hand += refund.amount_minor;
            continue;
        }
        let is_of = |number: u64| *key == format!("return-{number}");
        let of = order.returns.iter().find(|of| is_of(of.number));
        ensure(of.is_some_and(|of| of.value_minor == refund.amount_minor), RULE, || {
            format!("refund {key} of {} of payment {id} is for {of:?}", refund.amount_minor)
        })?;
    }
    ensure(by_hand <= failed_by_hand, RULE, || {
        format!("payment {id}: {failed_by_hand} that people gave back came back, {by_hand} went again")
    })
}

/// Each order that is bought is paid, and what is not bought has no money.
pub(super) fn orders(outside: &Outside, orders: &Orders) -> Check {
    let (holds, charges) = (outside.sale.holds(), outside.till.charges());
    for order in orders.values() {
        let charge = order.payment.and_then(|id| charges.get(&id));
        let kept = charge.map(|charge| charge.taken_minor() - charge.back_minor());
        let hold = order.hold.and_then(|id| holds.get(&id));
        let is_elsewhere = hold.is_some_and(Hold::was_bought_elsewhere);
        let is_void = hold.is_some_and(|of| of.state == HoldState::Voided);
        let is_sound = match (&*order.seen, order.is_bought()) {
            ("none", false) => order.payment.is_none(),
            ("none", true) => order.total_minor == 0,
            ("received", true) => kept.is_some() || is_elsewhere,
            // The other system gives the money back.
            ("received", false) => is_elsewhere && is_void && order.payment.is_none(),
            ("refunded", false) => kept == Some(0),
            // Nothing is sent for money that went back; what was sent before is gone.
            ("refunded", true) => kept == Some(0) && (order.was("shipped") || is_elsewhere),
            _ => false,
        };
        ensure(is_sound, RULE, || {
            format!(
                "order {} is {}, its payment {:?} {}, of which {kept:?} is kept",
                order.id, order.state, order.payment, order.seen
            )
        })?;
    }
    Ok(())
}

/// The money of each return went back once: by the provider under the return's own key, or
/// elsewhere, if an operator says so; and that of an exchange not at all. What waits, waits for
/// people, because the provider has not so much left.
pub(super) fn returns(outside: &Outside, orders: &Orders) -> Check {
    let charges = outside.till.charges();
    for order in orders.values() {
        for of in &order.returns {
            let charge = order.payment.and_then(|id| charges.get(&id));
            let key = Some(format!("return-{}", of.number));
            let made: Vec<u64> = charge
                .iter()
                .flat_map(|charge| &charge.refunds)
                .filter(|refund| refund.key == key && refund.state == RefundState::Back)
                .map(|refund| refund.amount_minor)
                .collect();
            let is_by_provider = of.steps.last().is_some_and(|(_, actor)| actor == "payment");
            let is_whole = order.seen == "refunded";
            let want = match (&*of.state, &*of.wish) {
                ("refunded", "refund") if is_by_provider => vec![of.value_minor],
                _ => Vec::new(),
            };
            // With all of the payment, that of the return goes back too, under no key of its own.
            let is_for_people = charge.is_none_or(|charge| charge.left_minor() < of.value_minor)
                || order.total_minor == 0
                || is_whole
                || is_forgone(outside, order, of.number)?;
            let is_open = of.state == "received";
            ensure(made == want && (!is_open || is_for_people), "STORE-RETURN", || {
                format!("return {of:?} of order {}: {made:?} went back at the provider", order.id)
            })?;
        }
    }
    Ok(())
}

/// Whether an operator has begun to say that the money of a return went back elsewhere.
fn is_forgone(outside: &Outside, order: &Order, number: u64) -> Result<bool, Violation> {
    let Some(payment) = order.payment else { return Ok(false) };
    let text = "SELECT COUNT(*) FROM refund_parts WHERE payment = ? AND refund_key = ? AND state = 'forgone'";
    let key = format!("return-{number}");
    let found = look(outside, PAYMENTS, |tx| {
        tx.query_first(text, params![&payment.to_bytes(), &key], |row| row.count(0))
    })?;
    Ok(found.unwrap_or_default() > 0)
}

/// The day's reports differ in what is of another currency, and in nothing else.
pub(super) async fn reconciled(outside: &Outside) -> Check {
    let world = &outside.world;
    let books = outside.till.books();
    let days: BTreeSet<Day> =
        books.values().map(|(at, _)| Day::of(*at)).chain([Day::of(world.now())]).collect();
    for day in days {
        let is_other = |(at, event): &&(TimeMs, payment::provider::Event)| {
            Day::of(*at) == day && event.amount.currency != crate::catalog::currency()
        };
        let want = books.values().filter(is_other).count() as u64;
        let of_day = day.clone();
        let report = world.ask(|of| async move { of.payments.reconcile(of_day).await }).await;
        let different = match &report {
            Some(Ok(report)) => report.different,
            other => {
                return ensure(false, "STORE-REST", || format!("{day} is not compared: {other:?}"));
            }
        };
        ensure(different == want, "STORE-BOOKS", || {
            format!("the books of {day} differ in {different} numbers, of another currency are {want}")
        })?;
    }
    Ok(())
}
