//! The rules of an order: a pure state machine. A command and the time go in; the order's new
//! state, the steps of its history and what is to be done outside of it come out.
//!
//! Of an order that came from a sale, the sale decides whether a payment came in time: this core
//! asks it, and follows its answer. Commands may come late, twice and in any order; those of one
//! sale's hold are told apart by the sequence of the sale's log.

use contracts::store::{Delivery, OrderLine, OrderState, PaymentId, PaymentSeen, Transition};
use serde::{Deserialize, Serialize};
use units::TimeMs;

pub mod returns;
#[cfg(test)]
mod tests;

/// Restored copies whose logs an order remembers.
pub const LOGS_LEFT_MAX: usize = 16;

/// Payments that an order remembers to have had before.
const HAD_MAX: usize = 16;

/// What the rules need to know of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub state: OrderState,
    pub payment: PaymentSeen,
    /// The payment that it was paid with, or is being paid with.
    pub payment_id: Option<PaymentId>,
    pub total_minor: u64,
    /// What is back with the shopper of the payment that it was paid with.
    pub refunded_minor: u64,
    /// Of which version of that payment this is known: what is told of an earlier one comes late.
    pub payment_version: u64,
    pub others: OtherPayments,
    pub delivery: Option<Delivery>,
    /// Units may be set aside for it, which it has not given back.
    pub has_units: bool,
    /// The last entry of a sale's log that it has followed; `None` for a cart's order.
    pub followed: Option<Place>,
    /// Logs that it followed before: of copies that the sale was restored from, what comes again of
    /// an earlier one changes nothing.
    pub left: Vec<String>,
    /// Counts changes.
    pub version: u64,
}

/// What is known of payments that the order does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherPayments {
    /// Money went back of one that is not known to have succeeded: the news of that are still under
    /// way, and may never come if all of it went back.
    pub early: Option<Early>,
    /// It had them before. Their money went back, and they do not come again.
    pub had: Vec<PaymentId>,
}

/// What went back of a payment, as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Early {
    pub payment: PaymentId,
    pub version: u64,
    pub refunded_minor: u64,
    /// All of it did, at this version or an earlier one.
    pub is_all: bool,
}

/// An entry of a sale's log. A sale that was restored from a copy has another log from there on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub log: String,
    pub sequence: u64,
}

impl Order {
    /// A new one, and the first step of its history. That of a sale waits for its payment; that of
    /// a cart, for its stock first.
    pub fn new(
        total_minor: u64,
        followed: Option<Place>,
        at: TimeMs,
        actor: &str,
        reason: &str,
    ) -> (Self, Transition) {
        let order = Self {
            state: match followed {
                Some(_) => OrderState::AwaitingPayment,
                None => OrderState::Created,
            },
            payment: PaymentSeen::None,
            payment_id: None,
            total_minor,
            refunded_minor: 0,
            payment_version: 0,
            others: OtherPayments::default(),
            delivery: None,
            has_units: followed.is_none(),
            followed,
            left: Vec::new(),
            version: 1,
        };
        let to = order.state;
        let first = Transition { at, from: None, to, actor: actor.into(), reason: reason.into() };
        (order, first)
    }
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// An entry of the sale's log tells this of the order's hold.
    InSale {
        place: Place,
        event: HoldEvent,
    },
    /// The sale has answered the order's own question.
    SaleAnswered {
        payment: PaymentId,
        is_confirmed: bool,
    },
    /// The provider has the money.
    Paid {
        payment: PaymentId,
        amount_minor: u64,
    },
    /// The same, of an order whose shopper is not known any more: it could not be sent.
    PaidErased {
        payment: PaymentId,
    },
    /// The shopper has it back, as the payment stands at this version of it.
    Refunded {
        payment: PaymentId,
        version: u64,
    },
    /// The shopper has so much of it back, in all, at this version of it: more than before, or
    /// less, if a refund has failed.
    PartRefunded {
        payment: PaymentId,
        version: u64,
        refunded_minor: u64,
    },
    /// Units that were delivered came back, for money.
    CameBack {
        is_all: bool,
    },
    Cancel,
    /// Whether all units of a cart's order were set aside.
    StockAnswered {
        is_whole: bool,
    },
    /// The units of an order that was paid are set aside until they are shipped.
    /// So far as the stock knows them; `is_all`: these are all that it has.
    StockIsSet {
        is_all: bool,
    },
    /// What was to be sent in exchange is not sent: the money goes back instead.
    GiveUpExchange,
    /// No payment came in time. A sale's order expires by its sale.
    PaymentIsLate,
    Allocate,
    Ship(Delivery),
    Deliver,
}

/// What the sale tells of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldEvent {
    /// It was granted again: the sale was restored from a copy that did not have it.
    Granted,
    /// It was paid; `payment` is what the sale calls the payment.
    Confirmed {
        payment: String,
        is_late: bool,
    },
    Released,
    Expired,
    /// An operator took it back, also if it was paid.
    Voided {
        reason: String,
    },
    /// This payment bought nothing.
    RefundDue {
        payment: String,
    },
}

/// Who gave the command, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub actor: &'a str,
    pub reason: &'a str,
}

/// What is to be done outside of the order. Each is done once or more often: it is safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the sale whether this payment came in time.
    ConfirmHold {
        payment: PaymentId,
    },
    /// The shopper does not want the hold any more.
    ReleaseHold,
    /// Set the units of a paid order aside until they are shipped.
    SetStock,
    /// The order does not need its units any more.
    FreeStock,
    /// They have left the house.
    ShipStock,
    Refund {
        payment: PaymentId,
        why: RefundReason,
    },
    /// Tell the others that the order is now in its state.
    Tell,
}

/// Why money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundReason {
    /// The sale did not take the payment: it came too late.
    TooLate,
    /// The order was paid already.
    Twice,
    /// It is another sum than the order's.
    WrongAmount,
    /// The order is cancelled.
    Cancelled,
    /// The shopper's account was deleted.
    Erased,
}

impl RefundReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLate => "the payment came too late",
            Self::Twice => "the order was paid already",
            Self::WrongAmount => "it is not the order's sum",
            Self::Cancelled => "the order is cancelled",
            Self::Erased => "the shopper's account was deleted",
        }
    }
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Whether anything of the order has changed.
    pub is_changed: bool,
    pub step: Option<Transition>,
    pub effects: Vec<Effect>,
}

/// The command does not fit the order's state: both are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub command: &'static str,
    pub state: OrderState,
}

impl Order {
    /// Carries out a command. An order that refuses one is as it was.
    pub fn apply(&mut self, at: TimeMs, by: By<'_>, command: Command) -> Result<Done, Refused> {
        let before = self.clone();
        let mut effects = Vec::new();
        self.follow(command, &mut effects)?;
        let step = (self.state != before.state).then(|| Transition {
            at,
            from: Some(before.state),
            to: self.state,
            actor: by.actor.into(),
            reason: by.reason.into(),
        });
        effects.extend(self.for_stock(before.state));
        effects.extend(step.is_some().then_some(Effect::Tell));
        let is_changed = *self != before;
        self.version += u64::from(is_changed);
        Ok(Done { is_changed, step, effects })
    }

    fn follow(&mut self, command: Command, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        use OrderState::{
            Allocated, AwaitingPayment, Cancelled, Created, Delivered, Expired, Paid, PartRefunded, Returned,
            Shipped,
        };
        match command {
            Command::InSale { place, event } => {
                let is_other = self.followed.as_ref().is_some_and(|of| of.log != place.log);
                let is_old = |of: &Place| of.log == place.log && of.sequence >= place.sequence;
                if !self.left.contains(&place.log) && !self.followed.as_ref().is_some_and(is_old) {
                    let before = self.followed.replace(place);
                    if let Some(before) = before.filter(|_| is_other && self.left.len() < LOGS_LEFT_MAX) {
                        self.left.push(before.log);
                    }
                    self.follow_sale(event, is_other, effects);
                }
            }
            Command::SaleAnswered { payment, is_confirmed } => {
                if self.payment_id == Some(payment) && self.payment == PaymentSeen::BeingConfirmed {
                    match is_confirmed {
                        true => self.is_paid(),
                        false => self.refund(RefundReason::TooLate, effects),
                    }
                }
            }
            Command::Paid { payment, amount_minor } => self.take(payment, amount_minor, effects),
            Command::PaidErased { payment } => {
                if self.payment_id != Some(payment) {
                    effects.push(Effect::Refund { payment, why: RefundReason::Erased });
                }
            }
            Command::Refunded { payment, version } => match self.payment_id == Some(payment) {
                true => self.all_is_back(version),
                false => self.hear_early(payment, version, None),
            },
            Command::PartRefunded { payment, version, refunded_minor } => {
                match self.payment_id == Some(payment) {
                    true => self.part_is_back(version, refunded_minor),
                    false => self.hear_early(payment, version, Some(refunded_minor)),
                }
            }
            Command::CameBack { is_all } => match self.state {
                Delivered | PartRefunded if is_all => self.state = Returned,
                Delivered | PartRefunded | Returned | OrderState::Refunded => {}
                _ => return Err(self.refuse("return")),
            },
            Command::Cancel => match (self.state, self.payment) {
                (Cancelled, _) => {}
                // What is sent in exchange is owed, and has nothing that could go back.
                (Created, _) if self.total_minor == 0 => return Err(self.refuse("cancel")),
                (Created | AwaitingPayment, PaymentSeen::None) => {
                    self.state = Cancelled;
                    effects.extend(self.followed.is_some().then_some(Effect::ReleaseHold));
                }
                _ => return Err(self.refuse("cancel")),
            },
            Command::StockAnswered { is_whole } => {
                if self.state == Created {
                    self.state = match (is_whole, self.total_minor) {
                        // An exchange.
                        (true, 0) => Paid,
                        (true, _) => AwaitingPayment,
                        (false, _) => Cancelled,
                    };
                }
            }
            Command::GiveUpExchange => match self.state {
                Cancelled => {}
                Created | Paid | Allocated if self.total_minor == 0 && self.followed.is_none() => {
                    self.state = Cancelled;
                }
                _ => return Err(self.refuse("give up")),
            },
            Command::StockIsSet { is_all } => match self.state {
                Paid if is_all => self.state = Allocated,
                // It was shipped, or given up, while the stock was asked.
                Shipped | Delivered | PartRefunded | Returned | OrderState::Refunded => {
                    effects.push(Effect::ShipStock);
                }
                Cancelled | Expired => effects.push(Effect::FreeStock),
                _ => {}
            },
            Command::PaymentIsLate => {
                if matches!(self.state, Created | AwaitingPayment)
                    && self.followed.is_none()
                    && self.payment == PaymentSeen::None
                {
                    self.state = Expired;
                }
            }
            Command::Allocate => match self.state {
                Allocated => {}
                Paid => self.state = Allocated,
                _ => return Err(self.refuse("allocate")),
            },
            Command::Ship(delivery) => match self.state {
                Shipped if self.delivery.as_ref() == Some(&delivery) => {}
                Allocated => {
                    self.state = Shipped;
                    self.delivery = Some(delivery);
                }
                _ => return Err(self.refuse("ship")),
            },
            Command::Deliver => match self.state {
                Delivered => {}
                Shipped => self.state = Delivered,
                _ => return Err(self.refuse("deliver")),
            },
        }
        Ok(())
    }

    /// What the stock is to do after a change of the state.
    fn for_stock(&mut self, before: OrderState) -> Option<Effect> {
        use OrderState::{Allocated, Cancelled, Expired, Paid, Shipped};
        if self.state == before {
            return None;
        }
        let effect = match self.state {
            Paid if before != Allocated => Effect::SetStock,
            Shipped if self.has_units => Effect::ShipStock,
            Cancelled | Expired if self.has_units => Effect::FreeStock,
            _ => return None,
        };
        self.has_units = effect == Effect::SetStock;
        Some(effect)
    }

    fn refuse(&self, command: &'static str) -> Refused {
        Refused { command, state: self.state }
    }

    /// The sale has said what became of the hold. What it says is so, whatever the order was.
    /// `is_other`: in another log than the one that was followed until now.
    fn follow_sale(&mut self, event: HoldEvent, is_other: bool, effects: &mut Vec<Effect>) {
        let is_ours = |payment: &str| self.payment_id.is_some_and(|ours| ours.to_string() == payment);
        match event {
            HoldEvent::Confirmed { payment, is_late: _ } => {
                let has_gone = matches!(self.payment, PaymentSeen::ToRefund | PaymentSeen::Refunded);
                if is_ours(&payment) && has_gone {
                    // Its money went back before this news came: nothing is sent for it.
                    if self.state == OrderState::AwaitingPayment {
                        self.state = OrderState::Cancelled;
                    }
                } else if is_ours(&payment) {
                    self.is_paid();
                } else if matches!(
                    self.state,
                    OrderState::AwaitingPayment | OrderState::Expired | OrderState::Cancelled
                ) {
                    // An operator, or another store, has confirmed it. If a payment of ours is
                    // under way, the sale refuses that one.
                    self.state = OrderState::Paid;
                    if self.payment == PaymentSeen::None {
                        self.payment = PaymentSeen::Received;
                    }
                }
            }
            HoldEvent::Granted => {
                let is_sent = matches!(
                    self.state,
                    OrderState::Shipped
                        | OrderState::Delivered
                        | OrderState::Returned
                        | OrderState::PartRefunded
                        | OrderState::Refunded
                );
                if !is_sent {
                    self.state = OrderState::AwaitingPayment;
                    self.ask_again(effects);
                }
            }
            HoldEvent::Released => self.ends(OrderState::Cancelled, is_other, effects),
            HoldEvent::Expired => self.ends(OrderState::Expired, is_other, effects),
            HoldEvent::Voided { reason: _ } => {
                if self.state == OrderState::AwaitingPayment {
                    self.state = OrderState::Cancelled;
                }
                if matches!(self.state, OrderState::Paid | OrderState::Allocated) {
                    self.state = OrderState::Cancelled;
                }
                if self.payment == PaymentSeen::Received {
                    self.refund(RefundReason::Cancelled, effects);
                }
            }
            HoldEvent::RefundDue { payment } => {
                if is_ours(&payment)
                    && matches!(self.payment, PaymentSeen::BeingConfirmed | PaymentSeen::Received)
                {
                    self.refund(RefundReason::TooLate, effects);
                }
            }
        }
    }

    /// The hold is over, and was not paid. If it was, by an earlier log of the sale, the sale
    /// decides once more. In the same log this is older than the sale's own answer to the payment.
    fn ends(&mut self, state: OrderState, is_other: bool, effects: &mut Vec<Effect>) {
        match self.state {
            OrderState::AwaitingPayment => self.state = state,
            OrderState::Paid | OrderState::Allocated if is_other && self.payment_id.is_some() => {
                self.state = state;
                self.ask_again(effects);
            }
            _ => {}
        }
    }

    /// Asks the sale about a payment that it has forgotten.
    fn ask_again(&mut self, effects: &mut Vec<Effect>) {
        if let (PaymentSeen::Received, Some(payment)) = (self.payment, self.payment_id) {
            self.payment = PaymentSeen::BeingConfirmed;
            effects.push(Effect::ConfirmHold { payment });
        }
    }

    fn take(&mut self, payment: PaymentId, amount_minor: u64, effects: &mut Vec<Effect>) {
        if self.payment_id == Some(payment) {
            return;
        }
        let refund = |why| Effect::Refund { payment, why };
        if self.others.had.contains(&payment) {
            return effects.push(refund(RefundReason::Twice));
        }
        if amount_minor != self.total_minor {
            return effects.push(refund(RefundReason::WrongAmount));
        }
        // One that went back, or is on its way back, has made room for another.
        let is_free =
            matches!(self.payment, PaymentSeen::None | PaymentSeen::ToRefund | PaymentSeen::Refunded);
        let is_over =
            !matches!(self.state, OrderState::AwaitingPayment | OrderState::Expired | OrderState::Cancelled);
        if !is_free || is_over {
            return effects.push(refund(RefundReason::Twice));
        }
        if self.followed.is_some() {
            // It may have expired by our clock and be good by the sale's, or there is stock left
            // for late payments.
            self.payment = PaymentSeen::BeingConfirmed;
            self.begin(payment);
            effects.push(Effect::ConfirmHold { payment });
        } else if self.state == OrderState::AwaitingPayment {
            self.begin(payment);
            self.is_paid();
        } else {
            return effects.push(refund(RefundReason::TooLate));
        }
        if let Some(early) = self.others.early.take_if(|early| early.payment == payment) {
            match early.is_all {
                true => self.all_is_back(early.version),
                false => self.part_is_back(early.version, early.refunded_minor),
            }
            self.refunded_minor = early.refunded_minor;
        }
    }

    /// Another payment than before: what went back of that one is nothing of this one.
    fn begin(&mut self, payment: PaymentId) {
        if let Some(before) = self.payment_id.replace(payment) {
            let had = &mut self.others.had;
            if had.len() >= HAD_MAX {
                had.remove(0);
            }
            had.push(before);
        }
        (self.refunded_minor, self.payment_version) = (0, 0);
    }

    /// Whether nothing later is known of the order's payment; if so, this version of it now is.
    /// Events of earlier builds name none (0), and count as they come.
    fn is_news(&mut self, version: u64) -> bool {
        let is_news = version > self.payment_version || (version == 0 && self.payment_version == 0);
        self.payment_version = self.payment_version.max(version);
        is_news
    }

    /// The money of the order's payment is back.
    fn all_is_back(&mut self, version: u64) {
        use OrderState::{Allocated, Cancelled, Delivered, Paid, PartRefunded, Refunded, Returned};
        // Nothing is sent for money that went back, also if the provider did that.
        match self.state {
            Paid | Allocated if self.payment == PaymentSeen::Received => self.state = Cancelled,
            Delivered | Returned | PartRefunded => self.state = Refunded,
            _ => {}
        }
        self.payment = PaymentSeen::Refunded;
        if self.is_news(version) {
            self.refunded_minor = self.total_minor;
        }
    }

    /// So much of it is.
    fn part_is_back(&mut self, version: u64, refunded_minor: u64) {
        if !self.is_news(version) {
            return;
        }
        let is_more = self.refunded_minor < refunded_minor;
        self.refunded_minor = refunded_minor;
        if is_more && matches!(self.state, OrderState::Delivered | OrderState::Returned) {
            self.state = OrderState::PartRefunded;
        }
    }

    /// So much is back, or all of it, of a payment that the order does not have: it may yet hear
    /// that it has succeeded.
    fn hear_early(&mut self, payment: PaymentId, version: u64, refunded_minor: Option<u64>) {
        let known = self.others.early.filter(|early| early.payment == payment);
        let is_all = refunded_minor.is_none();
        let nothing_is_back = known.is_none() && refunded_minor == Some(0);
        if version == 0 || nothing_is_back || self.others.had.contains(&payment) {
            return;
        }
        let heard =
            Early { payment, version, refunded_minor: refunded_minor.unwrap_or(self.total_minor), is_all };
        let mut latest = known.filter(|known| known.version >= version).unwrap_or(heard);
        latest.is_all |= is_all || known.is_some_and(|known| known.is_all);
        self.others.early = Some(latest);
    }

    fn is_paid(&mut self) {
        self.payment = PaymentSeen::Received;
        if matches!(self.state, OrderState::AwaitingPayment | OrderState::Expired | OrderState::Cancelled) {
            self.state = OrderState::Paid;
        }
    }

    /// The payment that the order has goes back.
    fn refund(&mut self, why: RefundReason, effects: &mut Vec<Effect>) {
        if let Some(payment) = self.payment_id {
            self.payment = PaymentSeen::ToRefund;
            effects.push(Effect::Refund { payment, why });
        }
    }
}
