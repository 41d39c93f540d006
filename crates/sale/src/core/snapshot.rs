//! The state as bytes: a short cut past the log's beginning, never the truth.
//!
//! The bytes depend on the log alone (INV-7): a sale that ran for a day and one that was just replayed give the same ones.
//! Whatever can be derived (tables, chains, deadlines) is left out and built again.

use super::Core;
use super::fields;
use super::record::RefusalKind;
use super::slots::{NewSlot, SlotState};
use super::state::{Counts, Offer, Payment, PaymentKind, Round, State, Stock};
use super::waitlist::Waiter;
use contracts::{AttemptId, HoldState, SaleSpec, ShopperKey};
use engines::codec::{DecodeError, Reader, Writer};
use std::fmt;
use std::sync::Arc;
use units::{Sequence, TimeMs};

/// 2 since a round's times are those at which it did open and close, in the layout of 1; 3 since it says since which entry the
/// deny list has been as it is.
const VERSION: u16 = 3;

/// A snapshot that cannot be used; the log can make a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotError(String);

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore snapshot: {}", self.0)
    }
}

impl std::error::Error for SnapshotError {}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> Self {
        Self(error.0.to_owned())
    }
}

fn state_number(state: SlotState) -> u8 {
    match state {
        SlotState::Waiting => 1,
        SlotState::Left => 2,
        SlotState::Hold(HoldState::Held) => 3,
        SlotState::Hold(HoldState::Confirmed) => 4,
        SlotState::Hold(HoldState::Released) => 5,
        SlotState::Hold(HoldState::Expired) => 6,
        SlotState::Hold(HoldState::Voided) => 7,
    }
}

fn state_of_number(number: u8) -> Result<SlotState, DecodeError> {
    Ok(match number {
        1 => SlotState::Waiting,
        2 => SlotState::Left,
        3 => SlotState::Hold(HoldState::Held),
        4 => SlotState::Hold(HoldState::Confirmed),
        5 => SlotState::Hold(HoldState::Released),
        6 => SlotState::Hold(HoldState::Expired),
        7 => SlotState::Hold(HoldState::Voided),
        _ => return Err(DecodeError("slot state")),
    })
}

impl Core {
    /// The state as bytes, at [`Core::sequence`].
    pub fn snapshot(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::with_capacity(4096 + state.slots.len() * 72);
        let mut w = Writer::new(&mut out);
        w.u16(VERSION);
        w.u64(state.sequence.0);
        w.u64(state.now.0);
        let spec =
            state.spec.as_deref().map(|s| serde_json::to_vec(s).unwrap_or_default()).unwrap_or_default();
        w.u32(spec.len() as u32);
        w.bytes(&spec);
        w.u16(state.rounds.len() as u16);
        for round in &state.rounds {
            w.u64(round.opens_at.0);
            w.u64(round.closes_at.0);
            for offer in &round.offers {
                w.u8(u8::from(offer.is_some()));
                let offer = offer.unwrap_or(Offer { stock: 0, price_minor: 0, limit: 0 });
                w.u64(offer.stock);
                w.u64(offer.price_minor);
                w.u32(offer.limit);
            }
        }
        w.u16(state.rounds_opened);
        w.u8(u8::from(state.round_open));
        w.u8(u8::from(state.paused));
        w.u32(state.sale_limit);
        w.u32(state.rate_per_second);
        for stock in &state.stock {
            w.u64(stock.initial);
            w.u64(stock.adjusted.cast_unsigned());
            w.u64(stock.free);
            w.u64(stock.held);
            w.u64(stock.sold);
        }
        w.u64(state.counts.granted);
        w.u64(state.counts.waitlisted);
        w.u64(state.counts.promoted);
        for count in state.counts.refused {
            w.u64(count);
        }
        w.u32(state.slots.len() as u32);
        for (at, slot) in state.slots.iter() {
            w.bytes(&slot.attempt.0);
            w.bytes(&slot.shopper.0);
            w.u64(slot.pay_by.0);
            w.u64(slot.as_of.0);
            w.u32(slot.position);
            w.u16(slot.round);
            w.u8(state_number(slot.state));
            fields::write_basket(&mut w, &state.slots.basket(at));
        }
        for list in &state.waiting {
            let waiting = list.in_order();
            w.u32(waiting.len() as u32);
            for (_, waiter) in waiting {
                w.u32(waiter.slot);
                w.u8(waiter.tier);
                fields::write_sealed(&mut w, &waiter.sealed);
            }
        }
        w.u32(state.payments.len() as u32);
        for (slot, payments) in &state.payments {
            w.u32(*slot);
            w.u16(payments.len() as u16);
            for payment in payments {
                w.text(&payment.reference);
                w.u8(match payment.kind {
                    PaymentKind::Confirmed => 1,
                    PaymentKind::ConfirmedLate => 2,
                    PaymentKind::Refund => 3,
                });
            }
        }
        for set in [&state.reserved, &state.allowed, &state.denied] {
            let keys = set.sorted();
            w.u32(keys.len() as u32);
            keys.iter().for_each(|key| w.bytes(&key.0));
        }
        w.u64(state.denied_shown.since().0);
        out
    }

    /// Whether a snapshot is of the version that this build writes. One of another version is no evidence of anything.
    pub fn writes_like(snapshot: &[u8]) -> bool {
        snapshot.starts_with(&VERSION.to_le_bytes())
    }

    /// The sale as a snapshot has it. The rest of the log is to be replayed on top.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut r = Reader::new(bytes);
        let version = r.u16()?;
        if version != VERSION {
            return Err(SnapshotError(format!("version {version}, this build reads {VERSION}")));
        }
        let mut state = State { sequence: Sequence(r.u64()?), now: TimeMs(r.u64()?), ..State::default() };
        state.state_since = state.sequence;
        let spec_len = r.u32()? as usize;
        let spec_json = r.take(spec_len)?;
        if !spec_json.is_empty() {
            let spec: SaleSpec = serde_json::from_slice(spec_json)
                .map_err(|e| SnapshotError(format!("sale document: {e}")))?;
            state.spec = Some(Arc::new(spec));
        }
        let items = state.spec.as_ref().map_or(0, |spec| spec.items.len());
        for _ in 0..r.u16()? {
            state.rounds.push(read_round(&mut r, items)?);
        }
        state.rounds_opened = r.u16()?;
        state.round_open = r.flag()?;
        state.paused = r.flag()?;
        state.sale_limit = r.u32()?;
        state.rate_per_second = r.u32()?;
        for _ in 0..items {
            state.stock.push(Stock {
                initial: r.u64()?,
                adjusted: r.u64()?.cast_signed(),
                free: r.u64()?,
                held: r.u64()?,
                sold: r.u64()?,
                empty_since: state.sequence,
            });
        }
        state.counts =
            Counts { granted: r.u64()?, waitlisted: r.u64()?, promoted: r.u64()?, ..Counts::default() };
        for kind in RefusalKind::ALL {
            state.counts.refused[kind as usize - 1] = r.u64()?;
        }
        let slots = r.u32()?;
        // At least 58 bytes a slot: a length that lies cannot make us reserve more than the snapshot could fill.
        state.slots.reserve((slots as usize).min(r.left() / 58) * 3 / 2);
        let mut deadlines = Vec::with_capacity(state.slots.room());
        for _ in 0..slots {
            let (attempt, shopper) = (AttemptId(r.array()?), ShopperKey(r.array()?));
            let new = NewSlot {
                pay_by: TimeMs(r.u64()?),
                as_of: Sequence(r.u64()?),
                position: r.u32()?,
                round: r.u16()?,
                state: state_of_number(r.u8()?)?,
            };
            let held = new.state == SlotState::Hold(HoldState::Held);
            let pay_by = new.pay_by;
            let slot = state.slots.push_unindexed(attempt, shopper, &fields::basket(&mut r)?, new);
            if held {
                deadlines.push((pay_by, slot));
            }
        }
        state.slots.index();
        deadlines.sort_unstable();
        deadlines.into_iter().for_each(|(pay_by, slot)| state.deadlines.push(pay_by, slot));
        for _ in 0..items {
            let mut list = super::waitlist::WaitingList::default();
            for _ in 0..r.u32()? {
                let waiter = Waiter { slot: r.u32()?, tier: r.u8()?, sealed: fields::sealed(&mut r)? };
                if waiter.slot as usize >= state.slots.len() {
                    return Err(SnapshotError("a waitlist names a slot that is not there".into()));
                }
                list.push(state.slots.basket(waiter.slot)[0].quantity, waiter);
            }
            state.waiting.push(list);
        }
        for _ in 0..r.u32()? {
            let slot = r.u32()?;
            let mut payments = Vec::new();
            for _ in 0..r.u16()? {
                let reference = r.text()?.into_boxed_str();
                let kind = match r.u8()? {
                    1 => PaymentKind::Confirmed,
                    2 => PaymentKind::ConfirmedLate,
                    3 => PaymentKind::Refund,
                    _ => return Err(SnapshotError("payment kind".into())),
                };
                payments.push(Payment { reference, kind });
            }
            state.payments.insert(slot, payments);
        }
        for set in [&mut state.reserved, &mut state.allowed] {
            for _ in 0..r.u32()? {
                set.insert(ShopperKey(r.array()?));
            }
        }
        let denied = r.u32()? as usize;
        let denied = r.take(denied.checked_mul(16).ok_or(DecodeError("deny list"))?)?;
        let denied: Vec<ShopperKey> = denied.as_chunks::<16>().0.iter().map(|key| ShopperKey(*key)).collect();
        state.deny(&denied, Sequence(r.u64()?));
        r.end()?;
        if !is_whole(&state) {
            return Err(SnapshotError("a number in it names what is not there".into()));
        }
        Ok(Self { state, tally: super::tally::Tally::default() })
    }
}

/// Whether every index leads somewhere: from here on nobody asks again.
fn is_whole(state: &State) -> bool {
    let (rounds, items) = (state.rounds.len(), state.stock.len());
    let rounds_fit =
        usize::from(state.rounds_opened) <= rounds && (!state.round_open || state.rounds_opened > 0);
    let slots_fit = state.slots.iter().all(|(_, slot)| {
        let mut fits = usize::from(slot.round) < rounds;
        state.slots.each_line(slot, |line| fits &= usize::from(line.item) < items);
        fits
    });
    let payments_fit = state.payments.keys().all(|slot| (*slot as usize) < state.slots.len());
    (state.spec.is_some() || state.slots.len() == 0) && rounds_fit && slots_fit && payments_fit
}

fn read_round(r: &mut Reader<'_>, items: usize) -> Result<Round, DecodeError> {
    let (opens_at, closes_at) = (TimeMs(r.u64()?), TimeMs(r.u64()?));
    let offers = (0..items).map(|_| {
        let offered = r.flag()?;
        let offer = Offer { stock: r.u64()?, price_minor: r.u64()?, limit: r.u32()? };
        Ok(offered.then_some(offer))
    });
    Ok(Round { opens_at, closes_at, offers: offers.collect::<Result<_, DecodeError>>()? })
}
