//! The fields that several records, or records and snapshots, share. The encoding of each is next
//! to its decoding.

use super::command_keys::CommandAnswer;
use super::refusal::{RefusalCount, RefusalKind};
use contracts::{
    Actor, Attempt, AttemptId, Basket, CommandKey, IneligibleBy, NotEligibleRange, SealedShopper, ShopperKey,
    SoldOutRange,
};
use engines::codec::{DecodeError, Reader, Writer};
use units::Sequence;

pub(super) fn write_actor(w: &mut Writer<'_>, actor: &Actor) {
    w.text(&actor.name);
    w.text(&actor.reason);
}

pub(super) fn actor(r: &mut Reader<'_>) -> Result<Actor, DecodeError> {
    Ok(Actor { name: r.text()?, reason: r.text()? })
}

pub(super) fn write_command(w: &mut Writer<'_>, key: CommandKey, answer: CommandAnswer) {
    let (what, figure) = answer.as_stored();
    w.bytes(&key.id);
    w.bytes(&key.command);
    w.u8(what);
    w.u64(figure);
}

pub(super) fn command(r: &mut Reader<'_>) -> Result<(CommandKey, CommandAnswer), DecodeError> {
    let key = CommandKey { id: r.array()?, command: r.array()? };
    let answer = CommandAnswer::from_stored((r.u8()?, r.u64()?));
    Ok((key, answer.ok_or(DecodeError("answer to a command"))?))
}

/// In one piece: this is the record of which there are millions.
pub(super) fn write_attempt(w: &mut Writer<'_>, a: &Attempt) {
    const FIXED: usize = 16 + 16 + 1 + 1;
    let mut bytes = [0; FIXED + contracts::SHOPPER_ID_BYTES_MAX];
    bytes[..16].copy_from_slice(&a.id.0);
    bytes[16..32].copy_from_slice(&a.shopper.0);
    bytes[32] = a.tier;
    bytes[33] = a.sealed.len() as u8;
    let len = FIXED + a.sealed.len();
    bytes[FIXED..len].copy_from_slice(&a.sealed);
    w.bytes(&bytes[..len]);
    write_basket(w, &a.basket);
}

pub(super) fn attempt(r: &mut Reader<'_>) -> Result<Attempt, DecodeError> {
    Ok(Attempt {
        id: AttemptId(r.array()?),
        shopper: ShopperKey(r.array()?),
        tier: r.u8()?,
        sealed: sealed(r)?,
        basket: basket(r)?,
    })
}

pub(super) fn write_sealed(w: &mut Writer<'_>, sealed: &SealedShopper) {
    w.u8(sealed.len() as u8);
    w.bytes(sealed);
}

pub(super) fn sealed(r: &mut Reader<'_>) -> Result<SealedShopper, DecodeError> {
    let len = usize::from(r.u8()?);
    SealedShopper::new(r.take(len)?).ok_or(DecodeError("sealed shopper: too long"))
}

pub(super) fn write_basket(w: &mut Writer<'_>, basket: &Basket) {
    w.u8(basket.len() as u8);
    for line in basket.iter() {
        w.u16(line.item);
        w.u16(line.quantity);
    }
}

pub(super) fn basket(r: &mut Reader<'_>) -> Result<Basket, DecodeError> {
    let mut lines = [contracts::Line::default(); contracts::LINES_MAX];
    let count = usize::from(r.u8()?);
    let lines = lines.get_mut(..count).ok_or(DecodeError("basket: too many lines"))?;
    for line in &mut *lines {
        *line = contracts::Line { item: r.u16()?, quantity: r.u16()? };
    }
    let basket = Basket::new(lines).map_err(|_| DecodeError("basket"))?;
    if *basket == *lines { Ok(basket) } else { Err(DecodeError("basket: lines out of order")) }
}

pub(super) fn write_sold_out_range(w: &mut Writer<'_>, range: &SoldOutRange) {
    w.u16(range.item);
    w.u64(range.first_as_of.0);
    w.u64(range.last_as_of.0);
    w.u64(range.count);
}

pub(super) fn sold_out_range(r: &mut Reader<'_>) -> Result<SoldOutRange, DecodeError> {
    Ok(SoldOutRange {
        item: r.u16()?,
        first_as_of: Sequence(r.u64()?),
        last_as_of: Sequence(r.u64()?),
        count: r.u64()?,
    })
}

pub(super) fn write_not_eligible_range(w: &mut Writer<'_>, range: &NotEligibleRange) {
    w.u8(range.by as u8);
    w.u64(range.first_as_of.0);
    w.u64(range.last_as_of.0);
    w.u64(range.count);
}

pub(super) fn not_eligible_range(r: &mut Reader<'_>) -> Result<NotEligibleRange, DecodeError> {
    let number = r.u8()?;
    let by = IneligibleBy::ALL.into_iter().find(|by| *by as u8 == number);
    Ok(NotEligibleRange {
        by: by.ok_or(DecodeError("rule by which nobody is refused"))?,
        first_as_of: Sequence(r.u64()?),
        last_as_of: Sequence(r.u64()?),
        count: r.u64()?,
    })
}

pub(super) fn write_refusal_count(w: &mut Writer<'_>, count: &RefusalCount) {
    w.u8(count.kind as u8);
    w.u16(count.item);
    w.u16(count.quantity);
    w.u64(count.first_as_of.0);
    w.u64(count.count);
}

pub(super) fn refusal_count(r: &mut Reader<'_>) -> Result<RefusalCount, DecodeError> {
    let number = r.u8()?;
    let kind = RefusalKind::ALL.into_iter().find(|k| *k as u8 == number);
    Ok(RefusalCount {
        kind: kind.ok_or(DecodeError("refusal kind"))?,
        item: r.u16()?,
        quantity: r.u16()?,
        first_as_of: Sequence(r.u64()?),
        count: r.u64()?,
    })
}
