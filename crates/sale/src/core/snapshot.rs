//! The state as bytes: it saves replaying the log's beginning, and the log stays the truth.
//!
//! The bytes depend on the log alone (INV-7): a sale that ran for a day and one that was just
//! replayed give the same ones. All that can be derived (tables, chains, deadlines) is left out and
//! rebuilt.

use super::rules::Core;
use super::slots::{NewSlot, Slot, SlotState};
use super::snapshot_fields::{self as fields, SLOT_BYTES_MIN, SlotFields, Switches};
use super::state::{Payment, PaymentKind, Round, State, Stock};
use super::waitlist::Waiter;
use contracts::{HoldState, SaleSpec, SealedShopper, ShopperKey};
use engines::codec::{DecodeError, Reader, Writer};
use runtime::SnapshotError;
use std::sync::Arc;
use units::{Sequence, TimeMs};

/// Version 2: a round's times are those at which it really opened and closed, in the layout of
/// version 1. Version 3: with the entry since which the deny list has been the same. Version 4:
/// with the cause of a pause, and when an operator accepted a log that is ahead; and with the keys
/// of operators' commands; and with whether a backup was restored, and whether the waitlist has
/// ended. Version 5: with the entry since which the sale has been open, paused or closed as it is.
const VERSION: u16 = 5;

/// Writes the part before the lists of shoppers.
fn write(w: &mut Writer<'_>, state: &State) -> Result<(), DecodeError> {
    fields::position(w, &mut { state.sequence }, &mut { state.now })?;
    let spec = state.spec.as_deref().map(|s| serde_json::to_vec(s).unwrap_or_default()).unwrap_or_default();
    w.u32(spec.len() as u32);
    w.bytes(&spec);
    w.u16(state.rounds.len() as u16);
    for round in &state.rounds {
        fields::round(w, &mut round.clone())?;
    }
    Switches::of(state).pass(w)?;
    for stock in &state.stock {
        fields::stock(w, &mut { *stock })?;
    }
    fields::counts(w, &mut { state.counts })?;
    w.u32(state.slots.len() as u32);
    for (at, slot) in state.slots.iter() {
        let Slot { attempt, shopper, pay_by, as_of, position, round, state: standing, .. } = *slot;
        let new = NewSlot { pay_by, as_of, position, round, state: standing };
        SlotFields { attempt, shopper, new, basket: state.slots.basket(at) }.pass(w)?;
    }
    for list in &state.waiting {
        let waiting = list.in_order();
        w.u32(waiting.len() as u32);
        for waiter in waiting {
            fields::waiter(w, &mut { *waiter })?;
        }
    }
    w.u32(state.payments.len() as u32);
    for (slot, payments) in &state.payments {
        w.u32(*slot);
        w.u16(payments.len() as u16);
        for payment in payments {
            fields::payment(w, &mut payment.clone())?;
        }
    }
    let keys = state.command_keys.in_order();
    w.u32(keys.len() as u32);
    for (key, answer) in keys {
        super::fields::write_command(w, key, answer);
    }
    Ok(())
}

impl Core {
    /// The state as bytes, at [`Core::sequence`].
    pub fn snapshot(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::with_capacity(4096 + state.slots.len() * 72);
        let mut w = Writer::new(&mut out);
        w.u16(VERSION);
        // A writer takes every value.
        let _ = write(&mut w, state);
        for set in [&state.reserved, &state.allowed, &state.denied] {
            let keys = set.sorted();
            w.u32(keys.len() as u32);
            keys.iter().for_each(|key| w.bytes(&key.0));
        }
        w.u64(state.denied_shown.since().0);
        w.u64(state.state_since.0);
        out
    }

    /// Whether a snapshot is of the version that this build writes. One of another version proves
    /// nothing.
    pub fn writes_like(snapshot: &[u8]) -> bool {
        snapshot.starts_with(&VERSION.to_le_bytes())
    }

    /// The sale from a snapshot. The rest of the log must be replayed on top.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut r = Reader::new(bytes);
        let version = r.u16()?;
        if version != VERSION {
            return Err(SnapshotError(format!("version {version}, this build reads {VERSION}")));
        }
        let mut state = State::default();
        fields::position(&mut r, &mut state.sequence, &mut state.now)?;
        let spec_len = r.u32()? as usize;
        let spec_json = r.take(spec_len)?;
        if !spec_json.is_empty() {
            let spec: SaleSpec = serde_json::from_slice(spec_json)
                .map_err(|e| SnapshotError(format!("sale document: {e}")))?;
            state.spec = Some(Arc::new(spec));
        }
        let items = state.spec.as_ref().map_or(0, |spec| spec.items.len());
        for _ in 0..r.u16()? {
            let (opens_at, closes_at) = (TimeMs(0), TimeMs(0));
            let mut round = Round { opens_at, closes_at, offers: vec![None; items] };
            fields::round(&mut r, &mut round)?;
            state.rounds.push(round);
        }
        let mut switches = Switches::default();
        switches.pass(&mut r)?;
        switches.set(&mut state);
        for _ in 0..items {
            let mut stock = Stock { empty_since: state.sequence, ..Stock::default() };
            fields::stock(&mut r, &mut stock)?;
            state.stock.push(stock);
        }
        fields::counts(&mut r, &mut state.counts)?;
        let slots = r.u32()?;
        // A false length cannot make us reserve more than the snapshot could fill.
        state.slots.reserve((slots as usize).min(r.left() / SLOT_BYTES_MIN) * 3 / 2);
        let mut deadlines = Vec::new();
        for _ in 0..slots {
            let mut slot = SlotFields::default();
            slot.pass(&mut r)?;
            let SlotFields { attempt, shopper, new, basket } = slot;
            let held = new.state == SlotState::Hold(HoldState::Held);
            let pay_by = new.pay_by;
            let slot = state.slots.push_unindexed(attempt, shopper, &basket, new);
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
                let sealed = SealedShopper::new(&[]).ok_or(DecodeError("sealed shopper"))?;
                let mut waiter = Waiter { slot: 0, tier: 0, sealed };
                fields::waiter(&mut r, &mut waiter)?;
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
                let mut payment = Payment { reference: "".into(), kind: PaymentKind::Refund };
                fields::payment(&mut r, &mut payment)?;
                state.counts.refunds_due += u64::from(payment.kind == PaymentKind::Refund);
                state.note_paid_for(Arc::clone(&payment.reference), slot);
                payments.push(payment);
            }
            state.payments.insert(slot, payments);
        }
        for _ in 0..r.u32()? {
            let (key, answer) = super::fields::command(&mut r)?;
            if !state.command_keys.insert(key, answer) {
                return Err(SnapshotError("a command stands in it twice".into()));
            }
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
        state.state_since = Sequence(r.u64()?);
        r.end()?;
        if !is_whole(&state) {
            return Err(SnapshotError("a number in it names what is not there".into()));
        }
        state.find_due();
        Ok(Self { state, tally: super::tally::Tally::default() })
    }
}

/// Whether every index is valid: it is not checked again after this.
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
    let since_fits = state.state_since <= state.sequence;
    (state.spec.is_some() || state.slots.len() == 0) && since_fits && rounds_fit && slots_fit && payments_fit
}
