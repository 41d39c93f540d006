//! The records of the decision log: what each says, and its bytes. `docs/log-format.md` describes them for outsiders.
//!
//! Bytes, once written, are a promise: a kind is never given another layout, it gets a new number.

use contracts::{
    Actor, Attempt, AttemptId, Basket, IneligibleBy, ListKind, NotEligibleRange, Refusal, RoundItemLimit,
    SaleSpec, SealedShopper, ShopperKey, SoldOutRange,
};
use std::fmt;
use units::{Sequence, TimeMs};

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
    /// A waitlisted attempt's turn has come. Says again who and what, so that a reader of the log's tail need not look back.
    Promoted {
        attempt: Attempt,
        round: u16,
        pay_by: TimeMs,
    },
    /// `by` is `None` in logs that were written before it was kept; so in the next one.
    Confirmed {
        hold: AttemptId,
        payment: String,
        late: bool,
        by: Option<Actor>,
    },
    /// A payment came for a hold that is over: the money goes back, whatever becomes free later.
    RefundDue {
        hold: AttemptId,
        payment: String,
        by: Option<Actor>,
    },
    /// A hold was given back. In logs that were written before there was [`Record::Left`], a place on the waitlist too.
    Released {
        hold: AttemptId,
        by: Actor,
    },
    Expired {
        hold: AttemptId,
    },
    /// A hold was taken back; a place on the waitlist as in [`Record::Released`].
    Voided {
        hold: AttemptId,
        by: Actor,
    },
    /// A place on the waitlist was given up, or taken back (`voided`). A record of its own, so that a reader of the log's tail
    /// knows without looking back that there never was a hold.
    Left {
        attempt: AttemptId,
        voided: bool,
        by: Actor,
    },
    /// Refusals said since the last such record. In between, nothing became free of which somebody was told that it is sold out,
    /// and the sale did not open, close, pause or resume.
    Refusals {
        entries: Vec<RefusalCount>,
    },
    /// What gates said by themselves: that a single unit is sold out. It was, and the sale was open, at each entry from
    /// `first_as_of` to `last_as_of`, all of them before this one; what has happened since does not matter.
    GateRefusals {
        entries: Vec<SoldOutRange>,
    },
    /// What gates said by themselves: that a shopper is on the deny list, or of too low a tier. From `first_as_of` to `last_as_of`,
    /// all of them before this one, the sale was open, and had that very list or asked for a tier.
    GateNotEligible {
        entries: Vec<NotEligibleRange>,
    },
    /// The disk was full since `since`; `refused` attempts were told `paused` meanwhile.
    SpaceRegained {
        since: TimeMs,
        refused: u64,
    },
}

/// So many refusals of one kind. `item` and `quantity` are what was asked for and not free (sold out), else 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalCount {
    pub kind: RefusalKind,
    pub item: u16,
    pub quantity: u16,
    /// The sequence that the first of them named.
    pub first_as_of: Sequence,
    pub count: u64,
}

/// The kinds of [`Refusal`], without what they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalKind {
    SoldOut = 1,
    LimitReached = 2,
    NotEligible = 3,
    NotOpen = 4,
    Closed = 5,
    Paused = 6,
}

impl RefusalKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] =
        [Self::SoldOut, Self::LimitReached, Self::NotEligible, Self::NotOpen, Self::Closed, Self::Paused];

    /// The name that answers, metrics and audits use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::LimitReached => "limit_reached",
            Self::NotEligible => "not_eligible",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::Paused => "paused",
        }
    }
}

impl From<Refusal> for RefusalKind {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SoldOut => Self::SoldOut,
            Refusal::LimitReached { .. } => Self::LimitReached,
            Refusal::NotEligible => Self::NotEligible,
            Refusal::NotOpen => Self::NotOpen,
            Refusal::Closed => Self::Closed,
            Refusal::Paused => Self::Paused,
        }
    }
}

/// Bytes that are no record of any version this build knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode record: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

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
    /// Appends the entry's bytes: kind (u8), time (u64), then the fields in order; integers little-endian.
    pub fn encode(&self, at: TimeMs, out: &mut Vec<u8>) {
        let mut w = Writer { out };
        let mut head = |kind: u8| {
            w.u8(kind);
            w.u64(at.0);
        };
        match self {
            Self::Defined { by, spec } => {
                head(kind::DEFINED);
                w.actor(by);
                let json = serde_json::to_vec(spec).unwrap_or_default();
                w.u32(json.len() as u32);
                w.bytes(&json);
            }
            Self::RoundOpened { round, by } => {
                head(kind::ROUND_OPENED);
                w.u16(*round);
                w.actor(by);
            }
            Self::RoundClosed { round, by } => {
                head(kind::ROUND_CLOSED);
                w.u16(*round);
                w.actor(by);
            }
            Self::Paused { by } => {
                head(kind::PAUSED);
                w.actor(by);
            }
            Self::Resumed { by } => {
                head(kind::RESUMED);
                w.actor(by);
            }
            Self::Extended { round, closes_at, by } => {
                head(kind::EXTENDED);
                w.u16(*round);
                w.u64(closes_at.0);
                w.actor(by);
            }
            Self::Adjusted { item, delta, by } => {
                head(kind::ADJUSTED);
                w.u16(*item);
                w.u64(delta.cast_unsigned());
                w.actor(by);
            }
            Self::Limits { sale, items, by } => {
                head(kind::LIMITS);
                w.u8(u8::from(sale.is_some()));
                w.u32(sale.unwrap_or(0));
                w.u16(items.len() as u16);
                for limit in items {
                    w.u16(limit.round);
                    w.u16(limit.item);
                    w.u16(limit.limit);
                }
                w.actor(by);
            }
            Self::Rate { per_second, by } => {
                head(kind::RATE);
                w.u32(*per_second);
                w.actor(by);
            }
            Self::List { list, clear, shoppers, by } => {
                head(kind::LIST);
                w.u8(match list {
                    ListKind::Allowed => 1,
                    ListKind::Denied => 2,
                });
                w.u8(u8::from(*clear));
                w.u32(shoppers.len() as u32);
                for shopper in shoppers {
                    w.bytes(&shopper.0);
                }
                w.actor(by);
            }
            Self::Reserved { shopper, reserved } => {
                head(kind::RESERVED);
                w.bytes(&shopper.0);
                w.u8(u8::from(*reserved));
            }
            Self::Granted { attempt, round, pay_by } => {
                head(kind::GRANTED);
                w.attempt(attempt);
                w.u16(*round);
                w.u64(pay_by.0);
            }
            Self::Waitlisted { attempt, round, position } => {
                head(kind::WAITLISTED);
                w.attempt(attempt);
                w.u16(*round);
                w.u32(*position);
            }
            Self::Promoted { attempt, round, pay_by } => {
                head(kind::PROMOTED);
                w.attempt(attempt);
                w.u16(*round);
                w.u64(pay_by.0);
            }
            Self::Confirmed { hold, payment, late, by } => {
                head(by.as_ref().map_or(kind::CONFIRMED, |_| kind::CONFIRMED_BY));
                w.bytes(&hold.0);
                w.text(payment);
                w.u8(u8::from(*late));
                by.iter().for_each(|by| w.actor(by));
            }
            Self::RefundDue { hold, payment, by } => {
                head(by.as_ref().map_or(kind::REFUND_DUE, |_| kind::REFUND_DUE_BY));
                w.bytes(&hold.0);
                w.text(payment);
                by.iter().for_each(|by| w.actor(by));
            }
            Self::Released { hold, by } => {
                head(kind::RELEASED);
                w.bytes(&hold.0);
                w.actor(by);
            }
            Self::Expired { hold } => {
                head(kind::EXPIRED);
                w.bytes(&hold.0);
            }
            Self::Voided { hold, by } => {
                head(kind::VOIDED);
                w.bytes(&hold.0);
                w.actor(by);
            }
            Self::Left { attempt, voided, by } => {
                head(kind::LEFT);
                w.bytes(&attempt.0);
                w.u8(u8::from(*voided));
                w.actor(by);
            }
            Self::Refusals { entries } => {
                head(kind::REFUSALS);
                w.u16(entries.len() as u16);
                for e in entries {
                    w.u8(e.kind as u8);
                    w.u16(e.item);
                    w.u16(e.quantity);
                    w.u64(e.first_as_of.0);
                    w.u64(e.count);
                }
            }
            Self::GateRefusals { entries } => {
                head(kind::GATE_REFUSALS);
                w.u16(entries.len() as u16);
                for e in entries {
                    w.u16(e.item);
                    w.u64(e.first_as_of.0);
                    w.u64(e.last_as_of.0);
                    w.u64(e.count);
                }
            }
            Self::GateNotEligible { entries } => {
                head(kind::GATE_NOT_ELIGIBLE);
                w.u16(entries.len() as u16);
                for e in entries {
                    w.u8(e.by as u8);
                    w.u64(e.first_as_of.0);
                    w.u64(e.last_as_of.0);
                    w.u64(e.count);
                }
            }
            Self::SpaceRegained { since, refused } => {
                head(kind::SPACE_REGAINED);
                w.u64(since.0);
                w.u64(*refused);
            }
        }
    }
}

impl Entry {
    /// Reads an entry back. Every byte must be accounted for.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader { rest: bytes };
        let kind = r.u8()?;
        let at = TimeMs(r.u64()?);
        let record = match kind {
            kind::DEFINED => {
                let by = r.actor()?;
                let len = r.u32()? as usize;
                let spec: SaleSpec =
                    serde_json::from_slice(r.take(len)?).map_err(|_| DecodeError("sale document"))?;
                spec.validate().map_err(|_| DecodeError("sale document: a field is wrong"))?;
                Record::Defined { by, spec: Box::new(spec) }
            }
            kind::ROUND_OPENED => Record::RoundOpened { round: r.u16()?, by: r.actor()? },
            kind::ROUND_CLOSED => Record::RoundClosed { round: r.u16()?, by: r.actor()? },
            kind::PAUSED => Record::Paused { by: r.actor()? },
            kind::RESUMED => Record::Resumed { by: r.actor()? },
            kind::EXTENDED => {
                Record::Extended { round: r.u16()?, closes_at: TimeMs(r.u64()?), by: r.actor()? }
            }
            kind::ADJUSTED => {
                Record::Adjusted { item: r.u16()?, delta: r.u64()?.cast_signed(), by: r.actor()? }
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
                Record::Limits { sale, items, by: r.actor()? }
            }
            kind::RATE => Record::Rate { per_second: r.u32()?, by: r.actor()? },
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
                Record::List { list, clear, shoppers, by: r.actor()? }
            }
            kind::RESERVED => Record::Reserved { shopper: ShopperKey(r.array()?), reserved: r.flag()? },
            kind::GRANTED => {
                Record::Granted { attempt: r.attempt()?, round: r.u16()?, pay_by: TimeMs(r.u64()?) }
            }
            kind::WAITLISTED => {
                Record::Waitlisted { attempt: r.attempt()?, round: r.u16()?, position: r.u32()? }
            }
            kind::PROMOTED => {
                Record::Promoted { attempt: r.attempt()?, round: r.u16()?, pay_by: TimeMs(r.u64()?) }
            }
            kind::CONFIRMED | kind::CONFIRMED_BY => Record::Confirmed {
                hold: AttemptId(r.array()?),
                payment: r.text()?,
                late: r.flag()?,
                by: if kind == kind::CONFIRMED_BY { Some(r.actor()?) } else { None },
            },
            kind::REFUND_DUE | kind::REFUND_DUE_BY => Record::RefundDue {
                hold: AttemptId(r.array()?),
                payment: r.text()?,
                by: if kind == kind::REFUND_DUE_BY { Some(r.actor()?) } else { None },
            },
            kind::RELEASED => Record::Released { hold: AttemptId(r.array()?), by: r.actor()? },
            kind::EXPIRED => Record::Expired { hold: AttemptId(r.array()?) },
            kind::VOIDED => Record::Voided { hold: AttemptId(r.array()?), by: r.actor()? },
            kind::LEFT => Record::Left { attempt: AttemptId(r.array()?), voided: r.flag()?, by: r.actor()? },
            kind::REFUSALS => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| r.refusal_count()).collect::<Result<_, _>>()?;
                Record::Refusals { entries }
            }
            kind::GATE_REFUSALS => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| r.sold_out_count()).collect::<Result<_, _>>()?;
                Record::GateRefusals { entries }
            }
            kind::GATE_NOT_ELIGIBLE => {
                let count = r.u16()?;
                let entries = (0..count).map(|_| r.not_eligible_count()).collect::<Result<_, _>>()?;
                Record::GateNotEligible { entries }
            }
            kind::SPACE_REGAINED => Record::SpaceRegained { since: TimeMs(r.u64()?), refused: r.u64()? },
            _ => return Err(DecodeError("unknown kind: written by a newer build?")),
        };
        r.end()?;
        Ok(Self { at, record })
    }
}

/// Appends fields.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, n: u8) {
        self.out.push(n);
    }

    pub(super) fn u16(&mut self, n: u16) {
        self.bytes(&n.to_le_bytes());
    }

    pub(super) fn u32(&mut self, n: u32) {
        self.bytes(&n.to_le_bytes());
    }

    pub(super) fn u64(&mut self, n: u64) {
        self.bytes(&n.to_le_bytes());
    }

    /// Length (u16) and UTF-8. Whoever makes a record bounds its texts far below 64 KiB.
    pub(super) fn text(&mut self, text: &str) {
        self.u16(text.len() as u16);
        self.bytes(text.as_bytes());
    }

    fn actor(&mut self, actor: &Actor) {
        self.text(&actor.name);
        self.text(&actor.reason);
    }

    /// In one piece: this is the record of which there are millions.
    fn attempt(&mut self, a: &Attempt) {
        const FIXED: usize = 16 + 16 + 1 + 1;
        let mut bytes = [0; FIXED + contracts::SHOPPER_ID_BYTES_MAX];
        bytes[..16].copy_from_slice(&a.id.0);
        bytes[16..32].copy_from_slice(&a.shopper.0);
        bytes[32] = a.tier;
        bytes[33] = a.sealed.len() as u8;
        let len = FIXED + a.sealed.len();
        bytes[FIXED..len].copy_from_slice(&a.sealed);
        self.bytes(&bytes[..len]);
        self.basket(&a.basket);
    }

    pub(super) fn sealed(&mut self, sealed: &SealedShopper) {
        self.u8(sealed.len() as u8);
        self.bytes(sealed);
    }

    pub(super) fn basket(&mut self, basket: &Basket) {
        self.u8(basket.len() as u8);
        for line in basket.iter() {
            self.u16(line.item);
            self.u16(line.quantity);
        }
    }
}

/// Takes fields off the front, each checked.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError("too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError("too short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("flag is neither 0 nor 1")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let len = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn actor(&mut self) -> Result<Actor, DecodeError> {
        Ok(Actor { name: self.text()?, reason: self.text()? })
    }

    pub(super) fn sealed(&mut self) -> Result<SealedShopper, DecodeError> {
        let len = usize::from(self.u8()?);
        SealedShopper::new(self.take(len)?).ok_or(DecodeError("sealed shopper: too long"))
    }

    pub(super) fn basket(&mut self) -> Result<Basket, DecodeError> {
        let mut lines = [contracts::Line::default(); contracts::LINES_MAX];
        let count = usize::from(self.u8()?);
        let lines = lines.get_mut(..count).ok_or(DecodeError("basket: too many lines"))?;
        for line in &mut *lines {
            *line = contracts::Line { item: self.u16()?, quantity: self.u16()? };
        }
        let basket = Basket::new(lines).map_err(|_| DecodeError("basket"))?;
        if *basket == *lines { Ok(basket) } else { Err(DecodeError("basket: lines out of order")) }
    }

    fn attempt(&mut self) -> Result<Attempt, DecodeError> {
        Ok(Attempt {
            id: AttemptId(self.array()?),
            shopper: ShopperKey(self.array()?),
            tier: self.u8()?,
            sealed: self.sealed()?,
            basket: self.basket()?,
        })
    }

    fn sold_out_count(&mut self) -> Result<SoldOutRange, DecodeError> {
        Ok(SoldOutRange {
            item: self.u16()?,
            first_as_of: Sequence(self.u64()?),
            last_as_of: Sequence(self.u64()?),
            count: self.u64()?,
        })
    }

    fn not_eligible_count(&mut self) -> Result<NotEligibleRange, DecodeError> {
        let number = self.u8()?;
        let by = IneligibleBy::ALL.into_iter().find(|by| *by as u8 == number);
        Ok(NotEligibleRange {
            by: by.ok_or(DecodeError("rule by which nobody is refused"))?,
            first_as_of: Sequence(self.u64()?),
            last_as_of: Sequence(self.u64()?),
            count: self.u64()?,
        })
    }

    fn refusal_count(&mut self) -> Result<RefusalCount, DecodeError> {
        let number = self.u8()?;
        let kind = RefusalKind::ALL.into_iter().find(|k| *k as u8 == number);
        Ok(RefusalCount {
            kind: kind.ok_or(DecodeError("refusal kind"))?,
            item: self.u16()?,
            quantity: self.u16()?,
            first_as_of: Sequence(self.u64()?),
            count: self.u64()?,
        })
    }

    pub(super) fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError("bytes left over")) }
    }
}
