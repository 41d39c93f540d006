//! The fields of a snapshot, each described once: the same description writes it and reads it back.

use super::fields;
use super::refusal::RefusalKind;
use super::slots::{NewSlot, SlotState};
use super::state::{Counts, Offer, Payment, PaymentKind, Round, State, Stock};
use super::waitlist::Waiter;
use contracts::{AttemptId, Basket, HoldState, PauseCause, SealedShopper, ShopperKey};
use engines::codec::{DecodeError, Reader, Writer};
use std::sync::Arc;
use units::{Sequence, TimeMs};

type Passed = Result<(), DecodeError>;

/// A way through the fields: a [`Writer`] takes each value as it is, a [`Reader`] puts another one
/// in its place.
pub(super) trait Pass {
    fn array<const N: usize>(&mut self, bytes: &mut [u8; N]) -> Passed;
    fn basket(&mut self, basket: &mut Basket) -> Passed;
    fn sealed(&mut self, sealed: &mut SealedShopper) -> Passed;
    fn text(&mut self, text: &mut Arc<str>) -> Passed;

    fn byte(&mut self, n: &mut u8) -> Passed {
        let mut bytes = [*n];
        self.array(&mut bytes)?;
        *n = bytes[0];
        Ok(())
    }

    fn short(&mut self, n: &mut u16) -> Passed {
        let mut bytes = n.to_le_bytes();
        self.array(&mut bytes)?;
        *n = u16::from_le_bytes(bytes);
        Ok(())
    }

    fn word(&mut self, n: &mut u32) -> Passed {
        let mut bytes = n.to_le_bytes();
        self.array(&mut bytes)?;
        *n = u32::from_le_bytes(bytes);
        Ok(())
    }

    fn long(&mut self, n: &mut u64) -> Passed {
        let mut bytes = n.to_le_bytes();
        self.array(&mut bytes)?;
        *n = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn flag(&mut self, flag: &mut bool) -> Passed {
        let mut n = u8::from(*flag);
        self.byte(&mut n)?;
        *flag = match n {
            0 => false,
            1 => true,
            _ => return Err(DecodeError("flag is neither 0 nor 1")),
        };
        Ok(())
    }

    /// One of `all`, by its index in it, from 1.
    fn one_of<T: Copy + PartialEq>(&mut self, value: &mut T, all: &[T], what: &'static str) -> Passed {
        let mut number = all.iter().position(|one| one == value).map_or(0, |at| at as u8 + 1);
        self.byte(&mut number)?;
        let at = usize::from(number).checked_sub(1);
        *value = *at.and_then(|at| all.get(at)).ok_or(DecodeError(what))?;
        Ok(())
    }
}

impl Pass for Writer<'_> {
    #[inline]
    fn array<const N: usize>(&mut self, bytes: &mut [u8; N]) -> Passed {
        self.bytes(bytes);
        Ok(())
    }

    #[inline]
    fn basket(&mut self, basket: &mut Basket) -> Passed {
        fields::write_basket(self, basket);
        Ok(())
    }

    #[inline]
    fn sealed(&mut self, sealed: &mut SealedShopper) -> Passed {
        fields::write_sealed(self, sealed);
        Ok(())
    }

    #[inline]
    fn text(&mut self, text: &mut Arc<str>) -> Passed {
        Writer::text(self, text);
        Ok(())
    }
}

impl Pass for Reader<'_> {
    #[inline]
    fn array<const N: usize>(&mut self, bytes: &mut [u8; N]) -> Passed {
        *bytes = Reader::array(self)?;
        Ok(())
    }

    #[inline]
    fn basket(&mut self, basket: &mut Basket) -> Passed {
        *basket = fields::basket(self)?;
        Ok(())
    }

    #[inline]
    fn sealed(&mut self, sealed: &mut SealedShopper) -> Passed {
        *sealed = fields::sealed(self)?;
        Ok(())
    }

    #[inline]
    fn text(&mut self, text: &mut Arc<str>) -> Passed {
        *text = Reader::text(self)?.into();
        Ok(())
    }
}

pub(super) fn position(p: &mut impl Pass, sequence: &mut Sequence, now: &mut TimeMs) -> Passed {
    p.long(&mut sequence.0)?;
    p.long(&mut now.0)
}

pub(super) fn round(p: &mut impl Pass, round: &mut Round) -> Passed {
    p.long(&mut round.opens_at.0)?;
    p.long(&mut round.closes_at.0)?;
    round.offers.iter_mut().try_for_each(|offer| self::offer(p, offer))
}

/// An item that is not offered takes the same room.
fn offer(p: &mut impl Pass, offer: &mut Option<Offer>) -> Passed {
    let mut is_offered = offer.is_some();
    p.flag(&mut is_offered)?;
    let mut fields = offer.unwrap_or(Offer { stock: 0, price_minor: 0, limit: 0 });
    p.long(&mut fields.stock)?;
    p.long(&mut fields.price_minor)?;
    p.word(&mut fields.limit)?;
    *offer = is_offered.then_some(fields);
    Ok(())
}

/// The parts that are single figures.
#[derive(Debug, Default)]
pub(super) struct Switches {
    pub(super) rounds_opened: u16,
    pub(super) round_open: bool,
    pub(super) paused: bool,
    pub(super) pause_cause: PauseCause,
    pub(super) ahead_accepted: TimeMs,
    pub(super) is_restored: bool,
    pub(super) waitlist_ended: bool,
    pub(super) sale_limit: u32,
    pub(super) rate_per_second: u32,
}

impl Switches {
    pub(super) fn of(state: &State) -> Self {
        let State {
            rounds_opened,
            round_open,
            paused,
            is_restored,
            waitlist_ended,
            sale_limit,
            rate_per_second,
            ..
        } = *state;
        // The cause of an earlier pause is not kept.
        let (pause_cause, ahead_accepted) = (state.pause().unwrap_or_default(), state.ahead_accepted);
        Self {
            rounds_opened,
            round_open,
            paused,
            pause_cause,
            ahead_accepted,
            is_restored,
            waitlist_ended,
            sale_limit,
            rate_per_second,
        }
    }

    pub(super) fn set(&self, state: &mut State) {
        state.rounds_opened = self.rounds_opened;
        state.round_open = self.round_open;
        state.paused = self.paused;
        state.pause_cause = self.pause_cause;
        state.ahead_accepted = self.ahead_accepted;
        state.is_restored = self.is_restored;
        state.waitlist_ended = self.waitlist_ended;
        state.sale_limit = self.sale_limit;
        state.rate_per_second = self.rate_per_second;
    }

    pub(super) fn pass(&mut self, p: &mut impl Pass) -> Passed {
        p.short(&mut self.rounds_opened)?;
        p.flag(&mut self.round_open)?;
        p.flag(&mut self.paused)?;
        p.one_of(&mut self.pause_cause, &PauseCause::ALL, "cause of a pause")?;
        p.long(&mut self.ahead_accepted.0)?;
        p.flag(&mut self.is_restored)?;
        p.flag(&mut self.waitlist_ended)?;
        p.word(&mut self.sale_limit)?;
        p.word(&mut self.rate_per_second)
    }
}

/// The entry since which nothing is free is not kept: see [`Stock::empty_since`].
pub(super) fn stock(p: &mut impl Pass, stock: &mut Stock) -> Passed {
    let mut adjusted = stock.adjusted.cast_unsigned();
    p.long(&mut stock.initial)?;
    p.long(&mut adjusted)?;
    p.long(&mut stock.free)?;
    p.long(&mut stock.held)?;
    p.long(&mut stock.sold)?;
    stock.adjusted = adjusted.cast_signed();
    Ok(())
}

pub(super) fn counts(p: &mut impl Pass, counts: &mut Counts) -> Passed {
    p.long(&mut counts.granted)?;
    p.long(&mut counts.waitlisted)?;
    p.long(&mut counts.promoted)?;
    RefusalKind::ALL.into_iter().try_for_each(|kind| p.long(&mut counts.refused[kind as usize - 1]))
}

/// By the number in a snapshot, from 1.
const SLOT_STATES: [SlotState; 7] = [
    SlotState::Waiting,
    SlotState::Left,
    SlotState::Hold(HoldState::Held),
    SlotState::Hold(HoldState::Confirmed),
    SlotState::Hold(HoldState::Released),
    SlotState::Hold(HoldState::Expired),
    SlotState::Hold(HoldState::Voided),
];

/// The fewest bytes of a slot.
pub(super) const SLOT_BYTES_MIN: usize = 58;

/// A stored attempt.
#[derive(Debug)]
pub(super) struct SlotFields {
    pub(super) attempt: AttemptId,
    pub(super) shopper: ShopperKey,
    pub(super) new: NewSlot,
    pub(super) basket: Basket,
}

impl Default for SlotFields {
    fn default() -> Self {
        Self {
            attempt: AttemptId([0; 16]),
            shopper: ShopperKey([0; 16]),
            new: NewSlot {
                pay_by: TimeMs(0),
                as_of: Sequence(0),
                position: 0,
                round: 0,
                state: SlotState::Left,
            },
            basket: Basket::default(),
        }
    }
}

impl SlotFields {
    pub(super) fn pass(&mut self, p: &mut impl Pass) -> Passed {
        p.array(&mut self.attempt.0)?;
        p.array(&mut self.shopper.0)?;
        p.long(&mut self.new.pay_by.0)?;
        p.long(&mut self.new.as_of.0)?;
        p.word(&mut self.new.position)?;
        p.short(&mut self.new.round)?;
        p.one_of(&mut self.new.state, &SLOT_STATES, "slot state")?;
        p.basket(&mut self.basket)
    }
}

pub(super) fn waiter(p: &mut impl Pass, waiter: &mut Waiter) -> Passed {
    p.word(&mut waiter.slot)?;
    p.byte(&mut waiter.tier)?;
    p.sealed(&mut waiter.sealed)
}

/// By the number in a snapshot, from 1.
const PAYMENT_KINDS: [PaymentKind; 3] =
    [PaymentKind::Confirmed, PaymentKind::ConfirmedLate, PaymentKind::Refund];

pub(super) fn payment(p: &mut impl Pass, payment: &mut Payment) -> Passed {
    p.text(&mut payment.reference)?;
    p.one_of(&mut payment.kind, &PAYMENT_KINDS, "payment kind")
}
