//! The model of a payment provider: its pages, its refunds, its webhooks and its books. Webhooks
//! come late, twice, in another order or never; calls fail before or after they took effect;
//! refunds take time, and some come back. What it has in its books is what has happened.

use crate::{
    catalog::currency,
    services::Process,
    world::{World, lock},
};
use contracts::store::{Asked, OrderId, PaymentId, StoreError};
use http::HeaderMap;
use payment::{
    core::Said,
    provider::{Event, Intent, LedgerPage, Provider, RefundAsked, Started, WebhookError},
};
use sim::Violation;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use units::{DurationMs, Money, TimeMs};

pub(crate) const NAME: &str = "model";
/// For how long a payment that was begun is the same; its page is good for longer.
const GOOD_FOR: DurationMs = DurationMs(180_000);
const PAGE_FOR: DurationMs = DurationMs(3_600_000);
/// Rows of a page of the books.
const PAGE_ROWS: usize = 7;
/// How often a webhook is sent that is not taken.
const WEBHOOK_TRIES: u32 = 7;

/// What the payer does on the provider's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Pay,
    /// The card is refused.
    Fail,
    /// Less is taken than was asked for.
    OtherSum,
    /// More is taken.
    TooMuch,
    /// The same is taken once more.
    Again,
    OtherCurrency,
}

/// How far a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefundState {
    Pending,
    Back,
    Failed,
}

#[derive(Debug, Clone)]
pub(crate) struct Refund {
    /// None for one that was made at the provider, by hand.
    pub(crate) key: Option<String>,
    pub(crate) movement: String,
    pub(crate) amount_minor: u64,
    pub(crate) state: RefundState,
    pub(crate) at: TimeMs,
    /// Whether it was made once, also if it has failed since.
    pub(crate) was_back: bool,
}

impl Refund {
    /// Whether it is of money that was taken twice.
    pub(crate) fn is_of_extra(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.starts_with("extra-"))
    }
}

/// A payment as the provider has it.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) payment: PaymentId,
    pub(crate) order: OrderId,
    asked: Money,
    /// What its page is called, and what the money is called once it is taken.
    page: String,
    pub(crate) movement: String,
    begun_at: TimeMs,
    /// What was taken, and when.
    pub(crate) taken: Option<(Money, TimeMs)>,
    /// What was taken once more, its number, and when.
    pub(crate) extra: Option<(Money, String, TimeMs)>,
    /// Whether a card was refused.
    pub(crate) was_refused: bool,
    pub(crate) refunds: Vec<Refund>,
}

impl Charge {
    /// What has gone back, and what is about to.
    fn given(&self) -> u64 {
        let of = |refund: &&Refund| refund.state != RefundState::Failed;
        self.refunds.iter().filter(of).map(|refund| refund.amount_minor).sum()
    }

    pub(crate) fn back_minor(&self) -> u64 {
        let is_back = |refund: &&Refund| refund.state == RefundState::Back && !refund.is_of_extra();
        self.refunds.iter().filter(is_back).map(|refund| refund.amount_minor).sum()
    }

    /// What of the money that was taken twice has gone back.
    pub(crate) fn extra_back_minor(&self) -> u64 {
        let is_back = |refund: &&Refund| refund.state == RefundState::Back && refund.is_of_extra();
        self.refunds.iter().filter(is_back).map(|refund| refund.amount_minor).sum()
    }

    pub(crate) fn extra_minor(&self) -> u64 {
        self.extra.as_ref().map_or(0, |(money, _, _)| money.amount_minor)
    }

    /// What can be given back yet.
    pub(crate) fn left_minor(&self) -> u64 {
        self.taken_minor() + self.extra_minor() - self.given()
    }

    pub(crate) fn taken_minor(&self) -> u64 {
        self.taken.map_or(0, |(money, _)| money.amount_minor)
    }

    pub(crate) fn is_other_currency(&self) -> bool {
        self.taken.is_some_and(|(money, _)| money.currency != currency())
    }

    pub(crate) fn was_refunded_by_hand(&self) -> bool {
        self.refunds.iter().any(|refund| refund.key.is_none())
    }
}

#[derive(Debug, Default)]
struct Inner {
    charges: BTreeMap<PaymentId, Charge>,
    number: u64,
    /// Webhooks by their number.
    webhooks: Vec<Event>,
}

/// The provider.
pub(crate) struct Till {
    world: Arc<World>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Till {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Till").finish_non_exhaustive()
    }
}

fn unavailable<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(why.to_owned()))
}

impl Till {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), inner: Mutex::default() })
    }

    pub(crate) fn charges(&self) -> BTreeMap<PaymentId, Charge> {
        lock(&self.inner).charges.clone()
    }

    fn event(&self, charge: &Charge, said: Said, movement: &str, amount: Money) -> Event {
        let what = match said {
            Said::Succeeded => "received",
            Said::Refunded => "given-back",
            Said::Failed | Said::RefundFailed => "failed",
        };
        let reference = if said == Said::Failed { &charge.page } else { &charge.movement };
        let refund = charge.refunds.iter().find(|refund| refund.movement == movement);
        Event {
            id: format!("{movement}-{what}"),
            payment: self.world.manners.names_payments.then_some(charge.payment),
            // Without the shop's names it is known by the one reference alone.
            reference: match self.world.manners.names_payments {
                true => reference.clone(),
                false => charge.page.clone(),
            },
            said,
            movement: if said == Said::Failed { String::new() } else { movement.to_owned() },
            amount,
            refund_key: refund.and_then(|refund| refund.key.clone()),
        }
    }

    fn start(&self, intent: &Intent) -> Started {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        inner.number += 1;
        let number = inner.number;
        let charge = inner.charges.entry(intent.payment).or_insert_with(|| Charge {
            payment: intent.payment,
            order: intent.order,
            asked: intent.amount,
            page: format!("page-{number}"),
            movement: format!("money-{number}"),
            begun_at: now,
            taken: None,
            extra: None,
            was_refused: false,
            refunds: Vec::new(),
        });
        Started { reference: charge.page.clone(), url: format!("https://till.example/{}", intent.payment) }
    }

    /// The payer is on the page. Returns whether money was taken.
    pub(crate) fn pay(self: &Arc<Self>, payment: PaymentId, choice: Choice) -> bool {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        let Some(charge) = inner.charges.get_mut(&payment) else { return false };
        let asked = charge.asked;
        if choice == Choice::Again {
            // A provider that knows the shop's payments takes the money of one once.
            let is_kept = charge.taken.is_some() && charge.refunds.iter().all(|of| of.key.is_some());
            if self.world.manners.names_payments || !is_kept || charge.extra.is_some() {
                return false;
            }
            let number = format!("{}-again", charge.movement);
            charge.extra = Some((asked, number.clone(), now));
            let event = self.event(charge, Said::Succeeded, &number, asked);
            self.world.note(format_args!("provider: {payment} takes {asked} once more"));
            drop(inner);
            self.tell(event);
            return true;
        }
        if charge.taken.is_some() || charge.begun_at.plus(PAGE_FOR) < now {
            return false;
        }
        let money = match choice {
            Choice::Pay => asked,
            Choice::OtherSum => Money { amount_minor: asked.amount_minor - 1, ..asked },
            Choice::TooMuch => {
                Money { amount_minor: asked.amount_minor + 1 + self.world.below(9_999), ..asked }
            }
            Choice::OtherCurrency => Money { currency: "USD".parse().expect("it is a currency"), ..asked },
            Choice::Again => asked,
            Choice::Fail => {
                charge.was_refused = true;
                let event = self.event(charge, Said::Failed, &charge.movement, asked);
                drop(inner);
                self.tell(event);
                return false;
            }
        };
        charge.taken = Some((money, now));
        let event = self.event(charge, Said::Succeeded, &charge.movement, money);
        self.world.note(format_args!("provider: {payment} takes {money}"));
        drop(inner);
        self.tell(event);
        true
    }

    /// The provider's people give money back that the shop did not ask for.
    pub(crate) fn give_back_by_hand(self: &Arc<Self>, payment: PaymentId, is_whole: bool) {
        let mut inner = lock(&self.inner);
        inner.number += 1;
        let number = inner.number;
        let Some(charge) = inner.charges.get_mut(&payment) else { return };
        let left = charge.left_minor();
        if left < 2 || charge.is_other_currency() || charge.extra.is_some() {
            return;
        }
        let amount_minor = if is_whole { left } else { 1 + self.world.below(left - 1) };
        self.world.reach(if is_whole { "all is given back by hand" } else { "a part is given back by hand" });
        let movement = format!("refund-{number}");
        let (key, state, at) = (None, RefundState::Back, self.world.now());
        charge.refunds.push(Refund {
            key,
            movement: movement.clone(),
            amount_minor,
            state,
            at,
            was_back: true,
        });
        let amount = Money { amount_minor, currency: currency() };
        let event = self.event(charge, Said::Refunded, &movement, amount);
        self.world.note(format_args!("provider: {payment} gives {amount} back by hand"));
        drop(inner);
        if self.world.fault(25) {
            let this = Arc::clone(self);
            self.world.spawn_actor(async move { this.end_refund(payment, movement, true).await });
        }
        self.tell(event);
    }

    fn refund(self: &Arc<Self>, asked: &RefundAsked) -> Result<Option<Event>, StoreError> {
        let now = self.world.now();
        let mut inner = lock(&self.inner);
        inner.number += 1;
        let number = inner.number;
        let Some(charge) = inner.charges.get_mut(&asked.payment) else {
            self.violate(format!("a refund of payment {}, which the provider does not have", asked.payment));
            return unavailable("there is no such payment");
        };
        let known = match self.world.manners.names_payments {
            true => &charge.movement,
            false => &charge.page,
        };
        if asked.reference != *known {
            self.violate(format!(
                "a refund of payment {} is asked for as {}",
                asked.payment, asked.reference
            ));
            return unavailable("there is no such payment");
        }
        let is_it = |refund: &&Refund| refund.key.as_ref() == Some(&asked.key);
        let alive = charge.refunds.iter().filter(is_it).find(|refund| refund.state != RefundState::Failed);
        if let Some(refund) = alive {
            self.world.reach("a refund is asked for again");
            let amount = Money { amount_minor: refund.amount_minor, currency: currency() };
            let event = self.event(charge, Said::Refunded, &refund.movement, amount);
            return Ok((refund.state == RefundState::Back).then_some(event));
        }
        let left = charge.left_minor();
        if asked.amount.amount_minor > left {
            if !charge.was_refunded_by_hand() {
                let (payment, amount) = (asked.payment, asked.amount);
                self.violate(format!("a refund of {amount} of payment {payment}, of which {left} is left"));
            }
            return unavailable("so much is not left of it");
        }
        let failed = charge.refunds.iter().filter(is_it).count();
        let movement = format!("refund-{number}");
        let is_slow = self.world.fault(30);
        // At once, later, or never: it fails at once, or after it was told as made.
        let fails = failed < 2 && self.world.fault(12);
        let state = if is_slow { RefundState::Pending } else { RefundState::Back };
        let (key, amount_minor) = (Some(asked.key.clone()), asked.amount.amount_minor);
        let was_back = !is_slow;
        charge.refunds.push(Refund {
            key,
            movement: movement.clone(),
            amount_minor,
            state,
            at: now,
            was_back,
        });
        let event = self.event(charge, Said::Refunded, &movement, asked.amount);
        let payment = asked.payment;
        self.world.note(format_args!("provider: refund {} of {payment}: {movement}, {state:?}", asked.key));
        drop(inner);
        if is_slow || fails {
            let this = Arc::clone(self);
            self.world.spawn_actor(async move { this.end_refund(payment, movement, fails).await });
        }
        if is_slow {
            return Ok(None);
        }
        self.tell(event.clone());
        Ok(self.world.percent(50).then_some(event))
    }

    /// A refund that was slow is made, or fails; one that was made comes back.
    async fn end_refund(self: Arc<Self>, payment: PaymentId, movement: String, fails: bool) {
        self.world.pause(500, 120_000).await;
        let mut inner = lock(&self.inner);
        let Some(charge) = inner.charges.get_mut(&payment) else { return };
        let Some(refund) = charge.refunds.iter_mut().find(|refund| refund.movement == movement) else {
            return;
        };
        let was_back = refund.state == RefundState::Back;
        refund.state = if fails { RefundState::Failed } else { RefundState::Back };
        refund.was_back |= !fails;
        if refund.key.is_none() {
            self.world.reach("a refund by hand comes back");
        }
        let amount = Money { amount_minor: refund.amount_minor, currency: currency() };
        let said = if fails { Said::RefundFailed } else { Said::Refunded };
        self.world.reach(match (fails, was_back) {
            (true, true) => "a refund comes back that was made",
            (true, false) => "a refund fails",
            (false, _) => "a refund is made later",
        });
        let event = self.event(charge, said, &movement, amount);
        self.world.note(format_args!("provider: {movement} of {payment}: {said:?}"));
        drop(inner);
        self.tell(event);
    }

    /// Some refunds come back days later, and no news of it is sent. Returns how many.
    pub(crate) fn fail_late(&self) -> u64 {
        let (mut inner, mut count) = (lock(&self.inner), 0);
        for charge in inner.charges.values_mut() {
            for refund in charge.refunds.iter_mut().filter(|of| of.state == RefundState::Back) {
                if self.world.percent(30) {
                    refund.state = RefundState::Failed;
                    count += 1;
                    self.world.reach(match refund.key {
                        Some(_) => "a refund comes back days later, unheard",
                        None => "a refund by hand comes back days later, unheard",
                    });
                    self.world.note(format_args!("provider: {} comes back, unheard", refund.movement));
                }
            }
        }
        count
    }

    fn violate(&self, what: String) {
        self.world.violate(Violation { rule: "STORE-MONEY", what });
    }

    /// Sends a webhook: once, twice, or never.
    fn tell(self: &Arc<Self>, event: Event) {
        if self.world.fault(self.world.manners.webhooks_lost) {
            self.world.reach(match event.said {
                Said::RefundFailed => "that a refund has failed is never told",
                _ => "a webhook is never sent",
            });
            return self.world.note(format_args!("provider: {} is never told", event.id));
        }
        if self.world.fault(20) {
            self.world.reach("a webhook is sent twice");
            self.send(event.clone());
        }
        // Without the shop's names, one thing may be told as two events.
        if !self.world.manners.names_payments && self.world.fault(15) {
            let again = Event { id: format!("{}-again", event.id), ..event.clone() };
            self.send(again);
        }
        self.send(event);
    }

    fn send(self: &Arc<Self>, event: Event) {
        let mut inner = lock(&self.inner);
        inner.webhooks.push(event);
        let number = inner.webhooks.len() - 1;
        drop(inner);
        let this = Arc::clone(self);
        self.world.spawn_actor(async move { this.deliver(number).await });
    }

    async fn deliver(self: Arc<Self>, number: usize) {
        let late = match self.world.is_calm() {
            true => 100,
            false => self.world.pick(&[0, 10, 200, 2_000, 30_000, 400_000]),
        };
        self.world.pause(0, late).await;
        let mut tries = 0;
        loop {
            let body = number.to_string();
            let webhook = move |process: Arc<Process>| async move {
                process.payments.webhook(NAME, &HeaderMap::new(), body.as_bytes()).await
            };
            let taken = self.world.ask(webhook).await;
            if matches!(taken, Some(Ok(()))) {
                return;
            }
            tries += 1;
            if tries == WEBHOOK_TRIES {
                self.world.reach("a webhook is given up");
                return;
            }
            self.world.pause(500, 2_000 << tries.min(8)).await;
        }
    }

    /// All that stands in the books, by its number.
    pub(crate) fn books(&self) -> BTreeMap<String, (TimeMs, Event)> {
        let inner = lock(&self.inner);
        let mut all = BTreeMap::new();
        for charge in inner.charges.values() {
            let Some((money, at)) = charge.taken else { continue };
            let event = self.event(charge, Said::Succeeded, &charge.movement, money);
            all.insert(charge.movement.clone(), (at, event));
            if let Some((money, number, at)) = &charge.extra {
                let event = self.event(charge, Said::Succeeded, number, *money);
                all.insert(number.clone(), (*at, event));
            }
            for refund in charge.refunds.iter().filter(|refund| refund.state == RefundState::Back) {
                let amount = Money { amount_minor: refund.amount_minor, currency: currency() };
                let event = self.event(charge, Said::Refunded, &refund.movement, amount);
                all.insert(refund.movement.clone(), (refund.at, event));
            }
        }
        all
    }

    /// Refunds that have failed, as the provider lists them.
    fn failed(&self) -> Vec<(TimeMs, Event)> {
        let inner = lock(&self.inner);
        let of_charge = |charge: &Charge| {
            let failed = charge.refunds.iter().filter(|refund| refund.state == RefundState::Failed);
            let event = |refund: &Refund| {
                let amount = Money { amount_minor: refund.amount_minor, currency: currency() };
                (refund.at, self.event(charge, Said::RefundFailed, &refund.movement, amount))
            };
            failed.map(event).collect::<Vec<_>>()
        };
        inner.charges.values().flat_map(of_charge).collect()
    }

    fn page(&self, (from, to): (TimeMs, TimeMs), after: Option<&str>, is_of_refunds: bool) -> LedgerPage {
        let is_meant = |(at, event): &(TimeMs, Event)| {
            (from..to).contains(at) && (!is_of_refunds || event.said != Said::Succeeded)
        };
        let moved = self.books().into_values();
        let mut rows: Vec<(TimeMs, Event)> = moved.chain(self.failed()).filter(is_meant).collect();
        rows.sort_by(|one, other| (one.0, &one.1.movement).cmp(&(other.0, &other.1.movement)));
        let begin = after.and_then(|after| rows.iter().position(|(_, event)| event.movement == after));
        let rows: Vec<_> = rows.into_iter().skip(begin.map_or(0, |at| at + 1)).collect();
        let next = (rows.len() > PAGE_ROWS).then(|| rows[PAGE_ROWS - 1].1.movement.clone());
        LedgerPage { movements: rows.into_iter().take(PAGE_ROWS).collect(), next }
    }
}

/// The provider, for one life of the process.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) till: Arc<Till>,
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
}

impl Provider for Model {
    fn name(&self) -> &'static str {
        NAME
    }

    fn names_payments(&self) -> bool {
        self.world.manners.names_payments
    }

    fn good_for(&self) -> DurationMs {
        GOOD_FOR
    }

    fn start(&self, intent: Intent) -> Asked<'_, Started> {
        Box::pin(self.world.call(self.life, "start of a payment", move || Ok(self.till.start(&intent))))
    }

    fn refund(&self, refund: RefundAsked) -> Asked<'_, Option<Event>> {
        Box::pin(self.world.call(self.life, "refund", move || self.till.refund(&refund)))
    }

    fn read(&self, _headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, WebhookError> {
        let number = std::str::from_utf8(body).ok().and_then(|number| number.parse::<usize>().ok());
        let inner = lock(&self.till.inner);
        let event = number.and_then(|number| inner.webhooks.get(number));
        event.map(|event| vec![event.clone()]).ok_or_else(|| WebhookError::Form("no webhook of mine".into()))
    }

    fn ledger(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage> {
        let page = move || Ok(self.till.page((from, to), after.as_deref(), false));
        Box::pin(self.world.call(self.life, "books", page))
    }

    fn refunds(&self, from: TimeMs, to: TimeMs, after: Option<String>) -> Asked<'_, LedgerPage> {
        let page = move || Ok(self.till.page((from, to), after.as_deref(), true));
        Box::pin(self.world.call(self.life, "list of refunds", page))
    }
}
