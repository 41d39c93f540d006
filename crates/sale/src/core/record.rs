//! The records of the decision log: what each means, and its bytes. `docs/log-format.md` describes
//! them for other readers.
//!
//! Bytes, once written, are a promise: the layout of a kind never changes; a new layout gets a new
//! number.

use super::command_keys::CommandAnswer;
use super::fields::{self, actor, attempt};
use super::refusal::RefusalCount;
use contracts::{
    Actor, Attempt, AttemptId, CommandKey, ListKind, NotEligibleRange, RoundItemLimit, SaleSpec, ShopperKey,
    SoldOutRange,
};
use engines::codec::{Codec, DecodeError, Reader, Writer};
use units::TimeMs;

/// An entry of the log: what was decided, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub at: TimeMs,
    pub record: Record,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Defined {
        by: Actor,
        spec: Box<SaleSpec>,
    },
    RoundOpened {
        round: u16,
        by: Actor,
    },
    RoundClosed {
        round: u16,
        by: Actor,
    },
    Paused {
        by: Actor,
    },
    Resumed {
        by: Actor,
    },
    Extended {
        round: u16,
        closes_at: TimeMs,
        by: Actor,
    },
    Adjusted {
        item: u16,
        delta: i64,
        by: Actor,
    },
    Limits {
        sale: Option<u32>,
        items: Vec<RoundItemLimit>,
        by: Actor,
    },
    Rate {
        per_second: u32,
        by: Actor,
    },
    List {
        list: ListKind,
        clear: bool,
        shoppers: Vec<ShopperKey>,
        by: Actor,
    },
    Reserved {
        shopper: ShopperKey,
        reserved: bool,
    },
    /// The waitlists are over: the timer takes all places back, and none is given any more.
    WaitlistEnded {
        by: Actor,
    },
    /// An operator's command was carried out under this key: what it changed stands before.
    /// Promotions that it made due may still follow.
    CommandDone {
        key: CommandKey,
        answer: CommandAnswer,
    },
    Granted {
        attempt: Attempt,
        round: u16,
        pay_by: TimeMs,
    },
    Waitlisted {
        attempt: Attempt,
        round: u16,
        position: u32,
    },
    /// A waitlisted attempt's turn has come. Repeats the attempt, so that a reader of the log's
    /// tail need not look back.
    Promoted {
        attempt: Attempt,
        round: u16,
        pay_by: TimeMs,
    },
    /// `by` is `None` in logs that were written before it was kept; the same holds for the next
    /// record.
    Confirmed {
        hold: AttemptId,
        payment: String,
        late: bool,
        by: Option<Actor>,
    },
    /// A payment came for a hold that is over: it is refunded, even if units become free later.
    RefundDue {
        hold: AttemptId,
        payment: String,
        by: Option<Actor>,
    },
    /// A hold was released. In logs that were written before [`Record::Left`] existed, a place on
    /// the waitlist too.
    Released {
        hold: AttemptId,
        by: Actor,
    },
    Expired {
        hold: AttemptId,
    },
    /// A hold was voided; or a place on the waitlist, as in [`Record::Released`].
    Voided {
        hold: AttemptId,
        by: Actor,
    },
    /// A place on the waitlist was given up, or taken back (`voided`). A record of its own, so that
    /// a reader of the log's tail can tell without looking back that there never was a hold.
    Left {
        attempt: AttemptId,
        voided: bool,
        by: Actor,
    },
    /// Refusals since the last such record. In between, no item that a refusal called sold out
    /// became free, and the sale did not open, close, pause or resume.
    Refusals {
        entries: Vec<RefusalCount>,
    },
    /// Refusals by gates: that a single unit is sold out. It was, and the sale was open, at each
    /// entry from `first_as_of` to `last_as_of`, all of them before this one; what has happened
    /// since does not matter.
    GateRefusals {
        entries: Vec<SoldOutRange>,
    },
    /// Refusals by gates: that a shopper is on the deny list, or of too low a tier. From
    /// `first_as_of` to `last_as_of`, all of them before this one, the sale was open, and had
    /// exactly that list or required a tier.
    GateNotEligible {
        entries: Vec<NotEligibleRange>,
    },
    /// The disk was full since `since`; `refused` attempts were told `paused` meanwhile.
    SpaceRegained {
        since: TimeMs,
        refused: u64,
    },
}

mod kind {
    pub(super) const DEFINED: u8 = 1;
    pub(super) const ROUND_OPENED: u8 = 2;
    pub(super) const ROUND_CLOSED: u8 = 3;
    pub(super) const PAUSED: u8 = 4;
    pub(super) const RESUMED: u8 = 5;
    pub(super) const EXTENDED: u8 = 6;
    pub(super) const ADJUSTED: u8 = 7;
    pub(super) const LIMITS: u8 = 8;
    pub(super) const RATE: u8 = 9;
    pub(super) const LIST: u8 = 10;
    pub(super) const RESERVED: u8 = 11;
    pub(super) const COMMAND_DONE: u8 = 12;
    pub(super) const WAITLIST_ENDED: u8 = 13;
    pub(super) const GRANTED: u8 = 16;
    pub(super) const WAITLISTED: u8 = 17;
    pub(super) const PROMOTED: u8 = 18;
    pub(super) const CONFIRMED: u8 = 19;
    pub(super) const REFUND_DUE: u8 = 20;
    pub(super) const RELEASED: u8 = 21;
    pub(super) const EXPIRED: u8 = 22;
    pub(super) const VOIDED: u8 = 23;
    pub(super) const CONFIRMED_BY: u8 = 24;
    pub(super) const REFUND_DUE_BY: u8 = 25;
    pub(super) const LEFT: u8 = 26;
    pub(super) const REFUSALS: u8 = 32;
    pub(super) const SPACE_REGAINED: u8 = 33;
    pub(super) const GATE_REFUSALS: u8 = 34;
    pub(super) const GATE_NOT_ELIGIBLE: u8 = 35;
}

impl Record {
    /// Whether this was decided after the timers had done all that was due at its time. The timers'
    /// own entries come before that, and so does what they cause: promotions, and refusals that are
    /// journalled first. The end of a shortage is logged before the timers run again, and a
    /// restored copy's pause is logged when nothing runs.
    pub(super) fn is_decision(&self) -> bool {
        match self {
            Self::RoundOpened { by, .. }
            | Self::RoundClosed { by, .. }
            | Self::WaitlistEnded { by }
            | Self::Left { by, .. } => !by.is_timer(),
            Self::Paused { by } => by.name != Actor::RESTORE,
            Self::Promoted { .. }
            | Self::CommandDone { .. }
            | Self::Expired { .. }
            | Self::Refusals { .. }
            | Self::SpaceRegained { .. } => false,
            _ => true,
        }
    }

    /// Whether this may come while a waiting shopper could be promoted: it is a promotion, takes a
    /// denied shopper's place back instead, or says that the command which freed the units is done.
    /// A backup may end between two promotions, and then its copy is paused.
    pub(super) fn may_precede_promotions(&self) -> bool {
        match self {
            Self::Promoted { .. } | Self::CommandDone { .. } => true,
            Self::Paused { by } => by.name == Actor::RESTORE,
            Self::Left { by, .. } => by.is_timer(),
            _ => false,
        }
    }

    /// Whether the timers write this entry because its time has come.
    pub(super) fn is_timers(&self) -> bool {
        match self {
            Self::RoundOpened { by, .. } | Self::RoundClosed { by, .. } => by.is_timer(),
            Self::Expired { .. } => true,
            _ => false,
        }
    }

    /// Appends the entry's bytes: kind (u8), time (u64), then the fields in order; integers
    /// little-endian.
    pub fn encode(&self, at: TimeMs, out: &mut Vec<u8>) {
        self.write(at, &mut Writer::new(out));
    }

    fn write(&self, at: TimeMs, w: &mut Writer<'_>) {
        let head = |w: &mut Writer<'_>, kind: u8| {
            w.u8(kind);
            w.u64(at.0);
        };
        match self {
            Self::Defined { by, spec } => {
                head(w, kind::DEFINED);
                fields::write_actor(w, by);
                let json = serde_json::to_vec(spec).unwrap_or_default();
                w.u32(json.len() as u32);
                w.bytes(&json);
            }
            Self::RoundOpened { round, by } => {
                head(w, kind::ROUND_OPENED);
                w.u16(*round);
                fields::write_actor(w, by);
            }
            Self::RoundClosed { round, by } => {
                head(w, kind::ROUND_CLOSED);
                w.u16(*round);
                fields::write_actor(w, by);
            }
            Self::Paused { by } => {
                head(w, kind::PAUSED);
                fields::write_actor(w, by);
            }
            Self::Resumed { by } => {
                head(w, kind::RESUMED);
                fields::write_actor(w, by);
            }
            Self::Extended { round, closes_at, by } => {
                head(w, kind::EXTENDED);
                w.u16(*round);
                w.u64(closes_at.0);
                fields::write_actor(w, by);
            }
            Self::Adjusted { item, delta, by } => {
                head(w, kind::ADJUSTED);
                w.u16(*item);
                w.u64(delta.cast_unsigned());
                fields::write_actor(w, by);
            }
            Self::Limits { sale, items, by } => {
                head(w, kind::LIMITS);
                w.flag(sale.is_some());
                w.u32(sale.unwrap_or(0));
                w.u16(items.len() as u16);
                for limit in items {
                    w.u16(limit.round);
                    w.u16(limit.item);
                    w.u16(limit.limit);
                }
                fields::write_actor(w, by);
            }
            Self::Rate { per_second, by } => {
                head(w, kind::RATE);
                w.u32(*per_second);
                fields::write_actor(w, by);
            }
            Self::List { list, clear, shoppers, by } => {
                head(w, kind::LIST);
                w.u8(match list {
                    ListKind::Allowed => 1,
                    ListKind::Denied => 2,
                });
                w.flag(*clear);
                w.u32(shoppers.len() as u32);
                for shopper in shoppers {
                    w.bytes(&shopper.0);
                }
                fields::write_actor(w, by);
            }
            Self::Reserved { shopper, reserved } => {
                head(w, kind::RESERVED);
                w.bytes(&shopper.0);
                w.flag(*reserved);
            }
            Self::WaitlistEnded { by } => {
                head(w, kind::WAITLIST_ENDED);
                fields::write_actor(w, by);
            }
            Self::CommandDone { key, answer } => {
                head(w, kind::COMMAND_DONE);
                fields::write_command(w, *key, *answer);
            }
            Self::Granted { attempt, round, pay_by } => {
                head(w, kind::GRANTED);
                fields::write_attempt(w, attempt);
                w.u16(*round);
                w.u64(pay_by.0);
            }
            Self::Waitlisted { attempt, round, position } => {
                head(w, kind::WAITLISTED);
                fields::write_attempt(w, attempt);
                w.u16(*round);
                w.u32(*position);
            }
            Self::Promoted { attempt, round, pay_by } => {
                head(w, kind::PROMOTED);
                fields::write_attempt(w, attempt);
                w.u16(*round);
                w.u64(pay_by.0);
            }
            Self::Confirmed { hold, payment, late, by } => {
                head(w, by.as_ref().map_or(kind::CONFIRMED, |_| kind::CONFIRMED_BY));
                w.bytes(&hold.0);
                w.text(payment);
                w.flag(*late);
                by.iter().for_each(|by| fields::write_actor(w, by));
            }
            Self::RefundDue { hold, payment, by } => {
                head(w, by.as_ref().map_or(kind::REFUND_DUE, |_| kind::REFUND_DUE_BY));
                w.bytes(&hold.0);
                w.text(payment);
                by.iter().for_each(|by| fields::write_actor(w, by));
            }
            Self::Released { hold, by } => {
                head(w, kind::RELEASED);
                w.bytes(&hold.0);
                fields::write_actor(w, by);
            }
            Self::Expired { hold } => {
                head(w, kind::EXPIRED);
                w.bytes(&hold.0);
            }
            Self::Voided { hold, by } => {
                head(w, kind::VOIDED);
                w.bytes(&hold.0);
                fields::write_actor(w, by);
            }
            Self::Left { attempt, voided, by } => {
                head(w, kind::LEFT);
                w.bytes(&attempt.0);
                w.flag(*voided);
                fields::write_actor(w, by);
            }
            Self::Refusals { entries } => {
                head(w, kind::REFUSALS);
                w.u16(entries.len() as u16);
                entries.iter().for_each(|count| fields::write_refusal_count(w, count));
            }
            Self::GateRefusals { entries } => {
                head(w, kind::GATE_REFUSALS);
                w.u16(entries.len() as u16);
                entries.iter().for_each(|range| fields::write_sold_out_range(w, range));
            }
            Self::GateNotEligible { entries } => {
                head(w, kind::GATE_NOT_ELIGIBLE);
                w.u16(entries.len() as u16);
                entries.iter().for_each(|range| fields::write_not_eligible_range(w, range));
            }
            Self::SpaceRegained { since, refused } => {
                head(w, kind::SPACE_REGAINED);
                w.u64(since.0);
                w.u64(*refused);
            }
        }
    }
}

impl Codec for Entry {
    fn encode(&self, w: &mut Writer<'_>) {
        self.record.write(self.at, w);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(bytes)
    }
}

impl Entry {
    /// Reads an entry back. Every byte must be accounted for.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let kind = r.u8()?;
        let at = TimeMs(r.u64()?);
        let record = match kind {
            kind::DEFINED => {
                let by = actor(r)?;
                let len = r.u32()? as usize;
                let spec: SaleSpec =
                    serde_json::from_slice(r.take(len)?).map_err(|_| DecodeError("sale document"))?;
                spec.validate().map_err(|_| DecodeError("sale document: a field is wrong"))?;
                Record::Defined { by, spec: Box::new(spec) }
            }
            kind::ROUND_OPENED => Record::RoundOpened { round: r.u16()?, by: actor(r)? },
            kind::ROUND_CLOSED => Record::RoundClosed { round: r.u16()?, by: actor(r)? },
            kind::PAUSED => Record::Paused { by: actor(r)? },
            kind::RESUMED => Record::Resumed { by: actor(r)? },
            kind::EXTENDED => {
                Record::Extended { round: r.u16()?, closes_at: TimeMs(r.u64()?), by: actor(r)? }
            }
            kind::ADJUSTED => {
                Record::Adjusted { item: r.u16()?, delta: r.u64()?.cast_signed(), by: actor(r)? }
            }
            kind::LIMITS => {
                let sale = match (r.flag()?, r.u32()?) {
                    (true, limit) => Some(limit),
                    (false, 0) => None,
                    (false, _) => return Err(DecodeError("limits: a figure that its flag denies")),
                };
                let count = r.u16()?;
                let items = (0..count)
                    .map(|_| Ok(RoundItemLimit { round: r.u16()?, item: r.u16()?, limit: r.u16()? }))
                    .collect::<Result<_, _>>()?;
                Record::Limits { sale, items, by: actor(r)? }
            }
            kind::RATE => Record::Rate { per_second: r.u32()?, by: actor(r)? },
            kind::LIST => {
                let list = match r.u8()? {
                    1 => ListKind::Allowed,
                    2 => ListKind::Denied,
                    _ => return Err(DecodeError("list kind")),
                };
                let clear = r.flag()?;
                let count = r.u32()? as usize;
                let keys = r.take(count.checked_mul(16).ok_or(DecodeError("list length"))?)?;
                let shoppers = keys.as_chunks::<16>().0.iter().map(|key| ShopperKey(*key)).collect();
                Record::List { list, clear, shoppers, by: actor(r)? }
            }
            kind::RESERVED => Record::Reserved { shopper: ShopperKey(r.array()?), reserved: r.flag()? },
            kind::WAITLIST_ENDED => Record::WaitlistEnded { by: actor(r)? },
            kind::COMMAND_DONE => {
                let (key, answer) = fields::command(r)?;
                Record::CommandDone { key, answer }
            }
            kind::GRANTED => {
                Record::Granted { attempt: attempt(r)?, round: r.u16()?, pay_by: TimeMs(r.u64()?) }
            }
            kind::WAITLISTED => {
                Record::Waitlisted { attempt: attempt(r)?, round: r.u16()?, position: r.u32()? }
            }
            kind::PROMOTED => {
                Record::Promoted { attempt: attempt(r)?, round: r.u16()?, pay_by: TimeMs(r.u64()?) }
            }
            kind::CONFIRMED | kind::CONFIRMED_BY => Record::Confirmed {
                hold: AttemptId(r.array()?),
                payment: r.text()?,
                late: r.flag()?,
                by: if kind == kind::CONFIRMED_BY { Some(actor(r)?) } else { None },
            },
            kind::REFUND_DUE | kind::REFUND_DUE_BY => Record::RefundDue {
                hold: AttemptId(r.array()?),
                payment: r.text()?,
                by: if kind == kind::REFUND_DUE_BY { Some(actor(r)?) } else { None },
            },
            kind::RELEASED => Record::Released { hold: AttemptId(r.array()?), by: actor(r)? },
            kind::EXPIRED => Record::Expired { hold: AttemptId(r.array()?) },
            kind::VOIDED => Record::Voided { hold: AttemptId(r.array()?), by: actor(r)? },
            kind::LEFT => Record::Left { attempt: AttemptId(r.array()?), voided: r.flag()?, by: actor(r)? },
            kind::REFUSALS => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| fields::refusal_count(r)).collect::<Result<_, _>>()?;
                Record::Refusals { entries }
            }
            kind::GATE_REFUSALS => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| fields::sold_out_range(r)).collect::<Result<_, _>>()?;
                Record::GateRefusals { entries }
            }
            kind::GATE_NOT_ELIGIBLE => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| fields::not_eligible_range(r)).collect::<Result<_, _>>()?;
                Record::GateNotEligible { entries }
            }
            kind::SPACE_REGAINED => Record::SpaceRegained { since: TimeMs(r.u64()?), refused: r.u64()? },
            _ => return Err(DecodeError("unknown kind: written by a newer build?")),
        };
        reader.end()?;
        Ok(Self { at, record })
    }
}
