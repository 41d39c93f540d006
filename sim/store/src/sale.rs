//! The model of a sale: it grants holds, and decides which payment came in time, by a clock of its
//! own. A payment is answered the same again; what becomes of a hold is told in its log's order.

use crate::{
    bus::Bus,
    catalog::{ITEMS, currency, sale},
    world::{World, lock},
};
use contracts::{
    AttemptId,
    store::{AccountId, Asked, HoldRef, PaymentId, SaleDecision, SaleHolds, StoreError},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use units::TimeMs;

/// How far a hold is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HoldState {
    Held,
    Confirmed { payment: String },
    Released,
    Expired,
    Voided,
}

#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) shopper: AccountId,
    /// The number of the item, and how many.
    pub(crate) lines: Vec<(usize, u32)>,
    pub(crate) pay_by: TimeMs,
    pub(crate) state: HoldState,
    /// What each payment was answered: whether it bought the hold.
    payments: BTreeMap<String, bool>,
}

impl Hold {
    pub(crate) fn total_minor(&self) -> u64 {
        self.lines.iter().map(|(item, quantity)| price_minor(*item) * u64::from(*quantity)).sum()
    }
}

impl Hold {
    /// Whether a payment bought it that the store knows nothing of.
    pub(crate) fn was_bought_elsewhere(&self) -> bool {
        self.payments.iter().any(|(payment, buys)| *buys && payment.starts_with("elsewhere"))
    }
}

fn price_minor(item: usize) -> u64 {
    5_000 + 100 * item as u64
}

#[derive(Debug, Default)]
struct Inner {
    holds: BTreeMap<AttemptId, Hold>,
    sequence: u64,
    /// Units that are left for payments that come too late.
    left: u64,
}

pub(crate) struct Sale {
    world: Arc<World>,
    bus: Arc<Bus>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Sale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sale").finish_non_exhaustive()
    }
}

pub(crate) fn reference(hold: AttemptId) -> HoldRef {
    HoldRef { sale: sale(), hold }
}

impl Sale {
    pub(crate) fn new(world: &Arc<World>, bus: &Arc<Bus>) -> Arc<Self> {
        let inner = Inner { left: world.below(4), ..Inner::default() };
        Arc::new(Self { world: Arc::clone(world), bus: Arc::clone(bus), inner: Mutex::new(inner) })
    }

    fn tell(&self, inner: &mut Inner, hold: AttemptId, kind: &str, mut data: Value) {
        inner.sequence += 1;
        let (sequence, sale) = (inner.sequence, sale());
        data["sale"] = json!(sale);
        data["log"] = json!("launch-log");
        data["sequence"] = json!(sequence);
        data["hold"] = json!(hold.to_string());
        let event = json!({
            "specversion": "1.0",
            "id": format!("launch-log-{sequence}"),
            "source": "/sales/launch",
            "type": format!("floodgate.sale.{kind}"),
            "subject": hold.to_string(),
            "time": self.world.now(),
            "data": data,
        });
        self.world.note(format_args!("sale: {kind} {hold}"));
        let later = self.world.pick(&[0, 0, 5, 300, 3_000, 40_000]);
        self.bus.tell_of_sale(event.to_string(), Duration::from_millis(later));
    }

    pub(crate) fn grant(&self, shopper: AccountId, lines: Vec<(usize, u32)>, pay_by: TimeMs) -> AttemptId {
        let hold = AttemptId(self.world.bytes16());
        let mut inner = lock(&self.inner);
        let told: Vec<Value> = lines
            .iter()
            .map(|(item, quantity)| {
                json!({ "item": ITEMS[*item].0, "quantity": quantity, "price_minor": price_minor(*item) })
            })
            .collect();
        let payments = BTreeMap::new();
        inner.holds.insert(hold, Hold { shopper, lines, pay_by, state: HoldState::Held, payments });
        let data = json!({
            "shopper": shopper.to_string(), "lines": told, "currency": currency(), "pay_by": pay_by,
        });
        self.tell(&mut inner, hold, "granted", data);
        hold
    }

    /// What has expired by now. The sale does it before anything else.
    pub(crate) fn expire_due(&self) {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
    }

    fn expire(&self, inner: &mut Inner, now: TimeMs) {
        let is_due = |of: &Hold| of.state == HoldState::Held && of.pay_by <= now;
        let due: Vec<AttemptId> =
            inner.holds.iter().filter(|(_, of)| is_due(of)).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(hold) = inner.holds.get_mut(&id) {
                hold.state = HoldState::Expired;
            }
            self.tell(inner, id, "expired", json!({}));
        }
    }

    /// Whether this payment buys the hold.
    pub(crate) fn pay(&self, id: AttemptId, payment: &str) -> Result<bool, StoreError> {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
        let left = inner.left;
        let Some(hold) = inner.holds.get_mut(&id) else {
            return Err(StoreError::NotFound("there is no such hold".into()));
        };
        if let Some(known) = hold.payments.get(payment) {
            self.world.reach("a payment is asked about again");
            return Ok(*known);
        }
        let ms_left = i64::try_from(hold.pay_by.0).unwrap_or_default() - now.0 as i64;
        let is_late = hold.state == HoldState::Expired && left > 0;
        let buys = hold.state == HoldState::Held || is_late;
        hold.payments.insert(payment.to_owned(), buys);
        if ms_left.abs() <= 1_500 {
            let which = if ms_left > 0 { "just before" } else { "just after" };
            self.world.reach(format!("a payment is decided {which} its hold's expiry"));
        }
        if buys {
            hold.state = HoldState::Confirmed { payment: payment.to_owned() };
            inner.left -= u64::from(is_late);
            if is_late {
                self.world.reach("a late payment finds a unit");
            }
            self.tell(&mut inner, id, "confirmed", json!({ "payment": payment, "late": is_late }));
        } else {
            self.world.reach("a payment buys nothing");
            self.tell(&mut inner, id, "refund_due", json!({ "payment": payment }));
        }
        Ok(buys)
    }

    pub(crate) fn release(&self, id: AttemptId) -> Result<(), StoreError> {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
        match inner.holds.get_mut(&id) {
            None => Err(StoreError::NotFound("there is no such hold".into())),
            Some(hold) if hold.state == HoldState::Released => Ok(()),
            Some(hold) if hold.state == HoldState::Held => {
                hold.state = HoldState::Released;
                self.tell(&mut inner, id, "released", json!({}));
                Ok(())
            }
            Some(_) => Err(StoreError::Conflict("it is over".into())),
        }
    }

    /// An operator takes a hold back, also if it was paid.
    pub(crate) fn void(&self, id: AttemptId) {
        let mut inner = lock(&self.inner);
        let is_alive = |of: &Hold| matches!(of.state, HoldState::Held | HoldState::Confirmed { .. });
        let Some(hold) = inner.holds.get_mut(&id).filter(|hold| is_alive(hold)) else { return };
        hold.state = HoldState::Voided;
        self.world.reach("a hold is voided");
        self.tell(&mut inner, id, "voided", json!({ "reason": "a bot" }));
    }

    pub(crate) fn holds(&self) -> BTreeMap<AttemptId, Hold> {
        lock(&self.inner).holds.clone()
    }
}

/// The sale, for one life of the process.
#[derive(Debug)]
pub(crate) struct Holds {
    pub(crate) sale: Arc<Sale>,
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
}

impl SaleHolds for Holds {
    fn confirm(&self, hold: HoldRef, payment: PaymentId) -> Asked<'_, SaleDecision> {
        let confirm = move || match self.sale.pay(hold.hold, &payment.to_string())? {
            true => Ok(SaleDecision::Confirmed),
            false => Ok(SaleDecision::Refund),
        };
        Box::pin(self.world.call(self.life, "confirm", confirm))
    }

    fn release(&self, hold: HoldRef) -> Asked<'_, ()> {
        Box::pin(self.world.call(self.life, "release", move || self.sale.release(hold.hold)))
    }
}
