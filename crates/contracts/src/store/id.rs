//! Ids of the store: sortable by time, and not guessable. Text forms are strict: what is printed is
//! what is parsed.

use crate::IdError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};
use units::TimeMs;

/// Crockford's base 32, in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;
/// Bits of an id after its time and, in an order's, its bucket.
const BUCKET_SHIFT: u32 = 70;
const TIME_SHIFT: u32 = 80;

/// Virtual buckets over which orders and carts are spread by shopper. A bucket stays what it is for
/// good; which database has it is written in a directory.
pub const BUCKETS: u16 = 1024;

fn to_text(id: u128) -> String {
    let digit = |at: usize| ALPHABET[(id >> (5 * (TEXT_LEN - 1 - at)) & 31) as usize] as char;
    (0..TEXT_LEN).map(digit).collect()
}

fn from_text(what: &'static str, text: &str) -> Result<u128, IdError> {
    let wrong = IdError::Form { what, want: "26 characters, 0-9 and a-z without i, l, o and u" };
    if text.len() != TEXT_LEN {
        return Err(wrong);
    }
    let digit = |byte| ALPHABET.iter().position(|&of| of == byte).map(|digit| digit as u128);
    // The first character has three bits of the 128.
    match text.bytes().try_fold(0u128, |id, byte| Some(id << 5 | digit(byte)?)) {
        Some(id) if text.as_bytes()[0] < b'8' => Ok(id),
        _ => Err(wrong),
    }
}

macro_rules! sortable_ids {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// 48 bits of time (milliseconds since 1970) and 80 random bits; of an order's, the first
        /// ten of these are its bucket. 26 characters of Crockford's base 32, in lower case.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// From random bytes, of which the last ten are used.
            pub fn new(at: TimeMs, random: [u8; 16]) -> Self {
                let random = u128::from_be_bytes(random) & ((1 << TIME_SHIFT) - 1);
                Self(u128::from(at.0 & ((1 << 48) - 1)) << TIME_SHIFT | random)
            }

            /// As a database keeps it: in the order of time.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// When it was made.
            pub fn at(self) -> TimeMs {
                TimeMs((self.0 >> TIME_SHIFT) as u64)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_text(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_text($what, text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": "^[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}$" })
            }
        }
    )*};
}

sortable_ids! {
    /// A shopper's account. Its text is the shopper's id in sales too.
    AccountId: "account id";
    /// An order, with the bucket of its shopper.
    OrderId: "order id";
    /// A payment of an order.
    PaymentId: "payment id";
}

/// One of the [`BUCKETS`] over which orders and carts are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of a shopper: FNV-1a over the id's bytes, so that every build and every language
    /// finds the same.
    pub fn of_shopper(shopper: &str) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = shopper.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        Self(((hash ^ hash >> 32) % u64::from(BUCKETS)) as u16)
    }

    /// 0 to 1023.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The bucket of this number, if there is one.
    pub fn numbered(number: u16) -> Option<Self> {
        (number < BUCKETS).then_some(Self(number))
    }

    pub fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }
}

impl OrderId {
    /// An order's id in this bucket.
    pub fn in_bucket(at: TimeMs, bucket: Bucket, random: [u8; 16]) -> Self {
        let id = Self::new(at, random).0 & !(u128::from(BUCKETS - 1) << BUCKET_SHIFT);
        Self(id | u128::from(bucket.0) << BUCKET_SHIFT)
    }

    pub fn bucket(self) -> Bucket {
        Bucket((self.0 >> BUCKET_SHIFT) as u16 & (BUCKETS - 1))
    }
}

/// A variant of a product, as it is stocked: 1 to 64 letters, digits and `. _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sku(Box<str>);

impl Sku {
    pub const CHARACTERS_MAX: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Sku {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
        match (1..=Self::CHARACTERS_MAX).contains(&text.len()) && text.chars().all(is_allowed) {
            true => Ok(Self(text.into())),
            false => Err(IdError::Form { what: "sku", want: "1 to 64 letters, digits and . _ -" }),
        }
    }
}

impl TryFrom<String> for Sku {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> String {
        sku.0.into()
    }
}

impl JsonSchema for Sku {
    fn schema_name() -> Cow<'static, str> {
        "Sku".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" })
    }
}

/// Types of names that people choose: 1 to 40 lowercase letters, digits and `-`.
macro_rules! chosen_names {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            pub const CHARACTERS_MAX: usize = 40;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                match (1..=Self::CHARACTERS_MAX).contains(&text.len()) && text.chars().all(is_allowed) {
                    true => Ok(Self(text.into())),
                    false => {
                        Err(IdError::Form { what: $what, want: "1 to 40 lowercase letters, digits and -" })
                    }
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,40}$" })
            }
        }
    )*};
}

chosen_names! {
    /// A warehouse.
    WarehouseId: "warehouse";
    /// A transfer of units from one warehouse to another.
    TransferId: "transfer";
}

impl WarehouseId {
    /// The one that every stock has.
    pub const MAIN: &str = "main";

    pub fn main() -> Self {
        Self(Self::MAIN.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_by_their_time_and_say_it_and_their_bucket() {
        let bucket = Bucket::of_shopper("alice");
        let id = |ms| OrderId::in_bucket(TimeMs(ms), bucket, [0xff; 16]);
        let (early, late) = (id(1_795_521_600_000), id(1_795_521_600_001));
        assert!(early < late && early.to_string() < late.to_string());
        assert!(early.to_bytes() < late.to_bytes());
        assert_eq!((early.at(), early.bucket()), (TimeMs(1_795_521_600_000), bucket));
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(OrderId::from_bytes(early.to_bytes()), early);
    }

    #[test]
    fn the_bucket_of_a_shopper_is_the_same_for_good() {
        let numbers = ["", "alice", "bob", "小米"].map(|shopper| Bucket::of_shopper(shopper).number());
        assert_eq!(numbers, NUMBERS);
        let mut filled = [0u32; BUCKETS as usize];
        (0..102_400).for_each(|n| filled[usize::from(Bucket::of_shopper(&format!("s{n}")).number())] += 1);
        let (least, most) = (filled.iter().min().unwrap(), filled.iter().max().unwrap());
        assert!(*least > 40 && *most < 180, "{least} to {most} of 100 on average");
    }

    /// Written down when the function was new: orders lie where it said.
    const NUMBERS: [u16; 4] = [961, 956, 589, 658];

    #[test]
    fn an_id_with_a_wrong_character_or_length_is_refused() {
        let want = "order id: want 26 characters, 0-9 and a-z without i, l, o and u";
        // Too short, more than 128 bits, a letter that is left out, capitals, not ASCII.
        for text in ["01", "80000000000000000000000000", "0000000000000000000000000l"] {
            assert_eq!(text.parse::<OrderId>().unwrap_err().to_string(), want, "{text:?}");
        }
        assert!("0000000000000000000000000A".parse::<OrderId>().is_err());
        assert!("000000000000000000000000é".parse::<OrderId>().is_err());
        assert!("a b".parse::<Sku>().is_err() && "".parse::<Sku>().is_err());
        assert_eq!("P1-black.256".parse::<Sku>().unwrap().as_str(), "P1-black.256");
        assert!(["", "Main", "a b", "a_b"].iter().all(|text| text.parse::<WarehouseId>().is_err()));
        assert_eq!("main".parse::<WarehouseId>(), Ok(WarehouseId::main()));
    }
}
