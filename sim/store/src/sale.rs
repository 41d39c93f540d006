//! The model of a sale: it grants holds while it has units, keeps places for those who come later,
//! and decides which payment came in time, by a clock of its own, as the core in `crates/sale`
//! does: a payment that comes after a hold's end buys units that are free, if the sale's policy
//! says so; one that bought, and was voided, is due for a refund. What becomes of a hold is told in
//! its log's order.

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
use units::{DurationMs, TimeMs};

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
    /// Whether it was over once: a late payment may have bought it all the same.
    pub(crate) has_expired: bool,
    /// What each payment was answered: whether it bought the hold.
    payments: BTreeMap<String, bool>,
}

impl Hold {
    pub(crate) fn total_minor(&self) -> u64 {
        self.lines.iter().map(|(item, quantity)| price_minor(*item) * u64::from(*quantity)).sum()
    }

    /// Whether a payment bought it that the store knows nothing of.
    pub(crate) fn was_bought_elsewhere(&self) -> bool {
        self.payments.iter().any(|(payment, buys)| *buys && payment.starts_with("elsewhere"))
    }

    fn has_units(&self) -> bool {
        matches!(self.state, HoldState::Held | HoldState::Confirmed { .. })
    }

    fn units(&self) -> u64 {
        self.lines.iter().map(|(_, quantity)| u64::from(*quantity)).sum()
    }
}

/// A place on the waitlist.
#[derive(Debug, Clone)]
struct Place {
    id: AttemptId,
    shopper: AccountId,
    lines: Vec<(usize, u32)>,
    pay_within: DurationMs,
}

fn price_minor(item: usize) -> u64 {
    5_000 + 100 * item as u64
}

#[derive(Debug)]
struct Inner {
    holds: BTreeMap<AttemptId, Hold>,
    /// In their order. Units that become free go to the first place that they are enough for.
    waiting: Vec<Place>,
    sequence: u64,
    /// Units of each item that no hold has.
    free: [u64; ITEMS.len()],
}

impl Inner {
    fn fits(&self, lines: &[(usize, u32)]) -> bool {
        lines.iter().all(|(item, quantity)| self.free[*item] >= u64::from(*quantity))
    }

    fn take(&mut self, lines: &[(usize, u32)]) {
        lines.iter().for_each(|(item, quantity)| self.free[*item] -= u64::from(*quantity));
    }

    /// What a shopper has of the sale, bought units included.
    fn units_of(&self, shopper: AccountId) -> u64 {
        let has = |of: &&Hold| of.shopper == shopper && of.has_units();
        self.holds.values().filter(has).map(Hold::units).sum()
    }
}

pub(crate) struct Sale {
    world: Arc<World>,
    bus: Arc<Bus>,
    /// Whether a payment that comes after the hold's end still buys units that are free.
    takes_late: bool,
    /// Units of one shopper, at the most.
    limit: u64,
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
        let free = std::array::from_fn(|_| 2 + world.below(12));
        let inner = Inner { holds: BTreeMap::new(), waiting: Vec::new(), sequence: 0, free };
        Arc::new(Self {
            world: Arc::clone(world),
            bus: Arc::clone(bus),
            takes_late: world.percent(75),
            limit: world.pick(&[3, 6]),
            inner: Mutex::new(inner),
        })
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

    /// A shopper wants these. They are held at once, or later if units become free; `None` if they
    /// are refused.
    pub(crate) fn attempt(
        self: &Arc<Self>,
        shopper: AccountId,
        lines: Vec<(usize, u32)>,
        pay_within: DurationMs,
    ) -> Option<AttemptId> {
        let (now, id) = (self.world.now(), AttemptId(self.world.bytes16()));
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
        let units: u64 = lines.iter().map(|(_, quantity)| u64::from(*quantity)).sum();
        if inner.units_of(shopper) + units > self.limit {
            return None;
        }
        let place = Place { id, shopper, lines, pay_within };
        match (inner.fits(&place.lines), place.lines.len()) {
            (true, _) => self.grant(&mut inner, now, place),
            (false, 1) => {
                self.world.reach("an attempt has to wait for units");
                inner.waiting.push(place);
            }
            (false, _) => return None,
        }
        Some(id)
    }

    fn grant(self: &Arc<Self>, inner: &mut Inner, now: TimeMs, of: Place) {
        let Place { id, shopper, lines, pay_within } = of;
        let pay_by = now.plus(pay_within);
        inner.take(&lines);
        let told: Vec<Value> = lines
            .iter()
            .map(|(item, quantity)| {
                json!({ "item": ITEMS[*item].0, "quantity": quantity, "price_minor": price_minor(*item) })
            })
            .collect();
        let (state, payments) = (HoldState::Held, BTreeMap::new());
        inner.holds.insert(id, Hold { shopper, lines, pay_by, state, has_expired: false, payments });
        let data = json!({
            "shopper": shopper.to_string(), "lines": told, "currency": currency(), "pay_by": pay_by,
        });
        self.tell(inner, id, "granted", data);
        // The sale's own timer, which is punctual or not.
        let (sale, world) = (Arc::clone(self), Arc::clone(&self.world));
        let late = world.pick(&[0, 0, 0, 1, 500, 20_000]);
        self.world.spawn_actor(async move {
            world.sleep_until(pay_by.plus(DurationMs(late))).await;
            let now = world.now();
            sale.expire(&mut lock(&sale.inner), now);
        });
    }

    /// By when a hold is to be paid; `None` if none was granted yet.
    pub(crate) fn pay_by(&self, id: AttemptId) -> Option<TimeMs> {
        lock(&self.inner).holds.get(&id).map(|hold| hold.pay_by)
    }

    /// A hold is over. Its units go to those who wait.
    fn end(
        self: &Arc<Self>,
        inner: &mut Inner,
        id: AttemptId,
        (state, kind): (HoldState, &str),
        data: Value,
    ) {
        let now = self.world.now();
        let Some(hold) = inner.holds.get_mut(&id) else { return };
        hold.has_expired |= state == HoldState::Expired;
        hold.state = state;
        for (item, quantity) in hold.lines.clone() {
            inner.free[item] += u64::from(quantity);
        }
        self.tell(inner, id, kind, data);
        while let Some(at) = inner.waiting.iter().position(|place| inner.fits(&place.lines)) {
            let place = inner.waiting.remove(at);
            self.world.reach("a place is promoted");
            self.grant(inner, now, place);
        }
    }

    /// What has expired by now: the sale does it before anything else.
    fn expire(self: &Arc<Self>, inner: &mut Inner, now: TimeMs) {
        let is_due = |of: &Hold| of.state == HoldState::Held && of.pay_by <= now;
        let mut due: Vec<(TimeMs, AttemptId)> =
            inner.holds.iter().filter(|(_, of)| is_due(of)).map(|(id, of)| (of.pay_by, *id)).collect();
        due.sort_unstable();
        for (_, id) in due {
            self.end(inner, id, (HoldState::Expired, "expired"), json!({}));
        }
    }

    /// Whether this payment buys the hold (`Core::confirm` in `crates/sale/src/core/operate.rs`).
    pub(crate) fn pay(self: &Arc<Self>, id: AttemptId, payment: &str) -> Result<bool, StoreError> {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
        let Some(hold) = inner.holds.get(&id).cloned() else {
            return Err(StoreError::NotFound("there is no such hold".into()));
        };
        if let Some(known) = hold.payments.get(payment) {
            self.world.reach("a payment is asked about again");
            let is_confirmed = matches!(hold.state, HoldState::Confirmed { .. });
            if *known && !is_confirmed {
                self.world.reach("a payment that bought is asked about after a void");
            }
            // A void after the payment means a refund, however often it is asked about.
            return Ok(*known && is_confirmed);
        }
        let ms_left = i64::try_from(hold.pay_by.0).unwrap_or_default() - now.0 as i64;
        if ms_left.abs() <= 1_500 {
            let which = if ms_left > 0 { "just before" } else { "just after" };
            self.world.reach(format!("a payment is decided {which} its hold's expiry"));
        }
        let is_over = matches!(hold.state, HoldState::Expired | HoldState::Released);
        // No place fits what is free, or it would have been promoted: no shopper is overtaken.
        let is_free = is_over && self.takes_late && inner.fits(&hold.lines);
        let is_late = is_free && inner.units_of(hold.shopper) + hold.units() <= self.limit;
        if is_free && !is_late {
            self.world.reach("a late payment is over the limit");
        }
        let buys = hold.state == HoldState::Held || is_late;
        if is_late {
            inner.take(&hold.lines);
            self.world.reach(match hold.state {
                HoldState::Released => "a payment of a released hold finds its units",
                _ => "a late payment finds a unit",
            });
        }
        if let Some(hold) = inner.holds.get_mut(&id) {
            hold.payments.insert(payment.to_owned(), buys);
            if buys {
                hold.state = HoldState::Confirmed { payment: payment.to_owned() };
            }
        }
        if buys {
            self.tell(&mut inner, id, "confirmed", json!({ "payment": payment, "late": is_late }));
        } else {
            self.world.reach("a payment buys nothing");
            self.tell(&mut inner, id, "refund_due", json!({ "payment": payment }));
        }
        Ok(buys)
    }

    /// The shopper does not want the hold, or the place, any more.
    pub(crate) fn release(self: &Arc<Self>, id: AttemptId) -> Result<(), StoreError> {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        self.expire(&mut inner, now);
        match inner.holds.get(&id).map(|hold| hold.state.clone()) {
            None => Err(StoreError::NotFound("there is no such hold".into())),
            Some(HoldState::Held) => {
                self.end(&mut inner, id, (HoldState::Released, "released"), json!({}));
                Ok(())
            }
            Some(HoldState::Confirmed { .. }) => {
                self.world.reach("a hold that is paid is not released");
                Err(StoreError::Conflict("it is paid".into()))
            }
            Some(HoldState::Released | HoldState::Expired | HoldState::Voided) => Ok(()),
        }
    }

    /// An operator takes a hold back, also if it was paid.
    pub(crate) fn void(self: &Arc<Self>, id: AttemptId) {
        let mut inner = lock(&self.inner);
        let Some(hold) = inner.holds.get(&id).filter(|hold| hold.has_units()) else { return };
        self.world.reach(match hold.state {
            HoldState::Confirmed { .. } => "a hold is voided that was paid",
            _ => "a hold is voided",
        });
        self.end(&mut inner, id, (HoldState::Voided, "voided"), json!({ "reason": "a bot" }));
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
        let confirm = move || match self.sale.pay(hold.hold, &payment.to_string()) {
            Ok(true) => Ok(SaleDecision::Confirmed),
            Ok(false) | Err(StoreError::NotFound(_)) => Ok(SaleDecision::Refund),
            Err(error) => Err(error),
        };
        Box::pin(self.world.call(self.life, "confirm", confirm))
    }

    fn release(&self, hold: HoldRef) -> Asked<'_, ()> {
        Box::pin(self.world.call(self.life, "release", move || self.sale.release(hold.hold)))
    }
}
