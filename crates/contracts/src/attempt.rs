//! One attempt to buy: the request that a gate sends to a sale, and every possible answer.

use crate::{AttemptId, ShopperKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, ops::Deref};
use units::{Sequence, TimeMs};

/// The most lines in one basket. A flash sale sells a handful of items; eight keep an attempt in
/// two cache lines.
pub const LINES_MAX: usize = 8;

/// Units in one line.
pub const QUANTITY_MAX: u16 = 1000;

/// Bytes of a shopper id, as the shop knows it (a UUID has 36).
pub const SHOPPER_ID_BYTES_MAX: usize = 64;
/// What [`is_shopper_id`] takes, in words.
pub const SHOPPER_ID_FORM: &str = "1 to 64 visible ASCII characters, without spaces";

/// The same as a regular expression, for schemas.
pub const SHOPPER_ID_PATTERN: &str = "^[!-~]{1,64}$";

/// Whether a text can be a shopper's id. Tokens, passes, lists and commands have this one grammar,
/// and ids are compared byte for byte: one that looks like another, by a space, a mark or another
/// form of a letter, would be on no list.
pub fn is_shopper_id(text: &str) -> bool {
    (1..=SHOPPER_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A quantity of the sale's `item`-th item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Line {
    /// Index in [`SaleSpec::items`](crate::SaleSpec::items).
    pub item: u16,
    /// 1 to [`QUANTITY_MAX`].
    pub quantity: u16,
}

/// The lines of one attempt: each item once, in item order, so that equal baskets are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Basket {
    len: u8,
    lines: [Line; LINES_MAX],
}

/// Why some lines are not a valid basket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasketError {
    Empty,
    /// More than [`LINES_MAX`] different items.
    TooManyLines,
    /// An item's quantities add up to 0 or to more than [`QUANTITY_MAX`].
    Quantity {
        item: u16,
    },
}

impl fmt::Display for BasketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "lines: none, want 1 to {LINES_MAX}"),
            Self::TooManyLines => write!(f, "lines: more than {LINES_MAX} different items"),
            Self::Quantity { item } => {
                write!(f, "lines: the quantity of item number {item} is not 1 to {QUANTITY_MAX}")
            }
        }
    }
}

impl std::error::Error for BasketError {}

impl Basket {
    /// Sums the lines by item and puts them in item order.
    pub fn new(lines: &[Line]) -> Result<Self, BasketError> {
        let mut basket = Self::default();
        for line in lines {
            let at = basket.partition_point(|l| l.item < line.item);
            let len = usize::from(basket.len);
            if at < len && basket.lines[at].item == line.item {
                let sum = basket.lines[at].quantity.checked_add(line.quantity);
                basket.lines[at].quantity = sum.ok_or(BasketError::Quantity { item: line.item })?;
            } else if len == LINES_MAX {
                return Err(BasketError::TooManyLines);
            } else {
                basket.lines.copy_within(at..len, at + 1);
                basket.lines[at] = *line;
                basket.len += 1;
            }
        }
        match basket.iter().find(|l| l.quantity == 0 || l.quantity > QUANTITY_MAX) {
            Some(line) => Err(BasketError::Quantity { item: line.item }),
            None if basket.is_empty() => Err(BasketError::Empty),
            None => Ok(basket),
        }
    }

    /// The basket of one line. Panics on a quantity that is not 1 to [`QUANTITY_MAX`]: for callers
    /// that have checked.
    pub fn single(item: u16, quantity: u16) -> Self {
        assert!((1..=QUANTITY_MAX).contains(&quantity), "a line of {quantity} units");
        let mut lines = [Line::default(); LINES_MAX];
        lines[0] = Line { item, quantity };
        Self { len: 1, lines }
    }
}

/// Serialized as its lines; lines that are read are checked.
impl Serialize for Basket {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(to)
    }
}

impl<'de> Deserialize<'de> for Basket {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let lines = Vec::<Line>::deserialize(from)?;
        Self::new(&lines).map_err(serde::de::Error::custom)
    }
}

impl Deref for Basket {
    type Target = [Line];
    fn deref(&self) -> &[Line] {
        &self.lines[..usize::from(self.len)]
    }
}

impl fmt::Debug for Basket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|l| (l.item, l.quantity))).finish()
    }
}

/// A shopper's id as the shop knows it, encrypted: the log keeps it so that winners can be named to
/// the shop, and it cannot be read without the key. Deleting the key erases every name from every
/// log and backup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedShopper {
    len: u8,
    bytes: [u8; SHOPPER_ID_BYTES_MAX],
}

impl SealedShopper {
    /// Wraps 0 to [`SHOPPER_ID_BYTES_MAX`] bytes of ciphertext; `None` if there are more.
    pub fn new(ciphertext: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHOPPER_ID_BYTES_MAX];
        bytes.get_mut(..ciphertext.len())?.copy_from_slice(ciphertext);
        Some(Self { len: ciphertext.len() as u8, bytes })
    }
}

impl Serialize for SealedShopper {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(to)
    }
}

impl<'de> Deserialize<'de> for SealedShopper {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        Self::new(&bytes).ok_or_else(|| serde::de::Error::custom("sealed shopper: too long"))
    }
}

impl Deref for SealedShopper {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for SealedShopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedShopper({} bytes)", self.len)
    }
}

/// The request: may this shopper have this basket? The gate has verified the shopper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub shopper: ShopperKey,
    pub sealed: SealedShopper,
    /// The shopper's tier by the shop's token; 0 if it has none.
    pub tier: u8,
    pub basket: Basket,
}

/// The state of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// The units are kept for the shopper until `pay_by`.
    Held,
    /// Paid: the units are theirs.
    Confirmed,
    /// Released before the deadline.
    Released,
    /// The deadline passed unpaid.
    Expired,
    /// Taken back by an operator, with a reason.
    Voided,
}

impl HoldState {
    /// The state's name in JSON, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Voided => "voided",
        }
    }
}

/// A hold as it is now. Its id is the attempt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    pub state: HoldState,
    /// Until when it can be paid.
    pub pay_by: TimeMs,
    /// The log entry by which it was granted.
    pub granted_as_of: Sequence,
}

/// The state of a place on the waitlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Waiting for stock.
    Waiting,
    /// Its turn came: there is a hold.
    Promoted(HoldView),
    /// Given up by the shopper, or taken back by an operator.
    Left,
}

/// Why an attempt got nothing. Each was true at the log sequence that the answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// Less is free than was asked for, and there is no place on the waitlist either.
    SoldOut,
    /// The shopper has, or would have, more than the sale's or the round's limit. Names the attempt
    /// that holds a unit of theirs; none if the basket alone is over the limit.
    LimitReached { held_by: Option<AttemptId> },
    /// Not on the list, no reservation, a tier too low, or denied.
    NotEligible,
    /// No round that offers it is open yet.
    NotOpen,
    /// The last round has ended.
    Closed,
    /// An operator, or a full disk, has paused the sale.
    Paused,
}

impl Refusal {
    /// The refusal's name in JSON, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::LimitReached { .. } => "limit_reached",
            Self::NotEligible => "not_eligible",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::Paused => "paused",
        }
    }
}

/// A sale's answer to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Durable and permanent: this attempt got its basket. Later changes are in the hold's state.
    Granted(HoldView),
    /// Durable and permanent: this attempt got that place (counted from 1) on the waitlist.
    Waitlisted { position: u32, place: Place },
    /// Not stored: a retry of the same attempt is decided afresh.
    Refused { refusal: Refusal, as_of: Sequence },
    /// The same key came with another basket or from another shopper. Nothing was decided.
    KeyReused,
    /// Asked for, but never stored.
    None { as_of: Sequence },
}

/// An attempt that the sale keeps, as its shopper sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAttempt {
    pub id: AttemptId,
    pub basket: Basket,
    pub answer: Answer,
}

/// The place of an undecided attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePlace {
    /// Attempts that will be decided before it.
    pub position: u64,
    /// Milliseconds until it is decided, if that follows from the rate or from recent measurements.
    pub wait_ms: Option<u64>,
}

/// The answer to the caller of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    Answer(Answer),
    /// It will be decided, later than the caller waits for it: to get the answer, the caller asks
    /// again.
    InLine(LinePlace),
}

/// The kept state of an attempt that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub answer: Answer,
    /// The basket of a kept attempt.
    pub basket: Option<Basket>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_baskets_are_equal_values() {
        let line = |item, quantity| Line { item, quantity };
        let a = Basket::new(&[line(3, 1), line(1, 2), line(3, 1)]).unwrap();
        let b = Basket::new(&[line(1, 1), line(3, 2), line(1, 1)]).unwrap();
        assert_eq!(a, b);
        assert_eq!(&*a, &[line(1, 2), line(3, 2)]);
    }

    #[test]
    fn an_invalid_basket_is_refused() {
        let check = |lines: &[(u16, u16)], want| {
            let lines: Vec<Line> = lines.iter().map(|&(item, quantity)| Line { item, quantity }).collect();
            assert_eq!(Basket::new(&lines), Err(want), "{lines:?}");
        };
        check(&[], BasketError::Empty);
        check(&[(4, 0)], BasketError::Quantity { item: 4 });
        check(&[(4, 999), (4, 2)], BasketError::Quantity { item: 4 });
        check(&[(4, u16::MAX), (4, 2)], BasketError::Quantity { item: 4 });
        check(
            &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)],
            BasketError::TooManyLines,
        );
    }
}
