//! Names that identify things. Text forms are strict: what is printed is what is parsed.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// Not 1 to `max` characters long.
    Length { what: &'static str, max: usize, got: usize },
    /// Holds a character outside the id's alphabet.
    Character { what: &'static str, got: char },
    /// Has too many parts.
    Parts { what: &'static str, max: usize, got: usize },
    /// Not of the id's form at all.
    Form { what: &'static str, want: &'static str },
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { what, max, got } => write!(f, "{what}: {got} characters, want 1 to {max}"),
            Self::Character { what, got } => {
                write!(f, "{what}: character {got:?}, want a-z, 0-9 and - (hex digits for a hash)")
            }
            Self::Parts { what, max, got } => {
                write!(f, "{what}: {got} parts with a full stop between, want {max} at the most")
            }
            Self::Form { what, want } => write!(f, "{what}: want {want}"),
        }
    }
}

impl std::error::Error for IdError {}

const SLUG_CHARS_MAX: usize = 40;

fn check_slug(what: &'static str, text: &str) -> Result<(), IdError> {
    let got = text.chars().count();
    if got == 0 || got > SLUG_CHARS_MAX {
        return Err(IdError::Length { what, max: SLUG_CHARS_MAX, got });
    }
    let fits = |at: usize, c: char| match c {
        'a'..='z' | '0'..='9' => true,
        '-' => at > 0,
        _ => false,
    };
    match text.chars().enumerate().find(|&(at, c)| !fits(at, c)) {
        Some((_, got)) => Err(IdError::Character { what, got }),
        None => Ok(()),
    }
}

/// Parts of a name with full stops.
const PARTS_MAX: usize = 4;

/// A slug, or some with a full stop between.
fn check_parts(what: &'static str, text: &str) -> Result<(), IdError> {
    let got = text.split('.').count();
    if got > PARTS_MAX {
        return Err(IdError::Parts { what, max: PARTS_MAX, got });
    }
    text.split('.').try_for_each(|part| check_slug(what, part))
}

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        slug_id!($(#[$doc])* $name, $what, check_slug, "^[a-z0-9][a-z0-9-]{0,39}$");
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(inline, extend("pattern" = $pattern))]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id's text: 1 to 40 of `a-z`, `0-9` and `-`, no `-` in front, so that it is safe
            /// as a directory name, in a URL and in a log line. Topics and subscriptions have up to
            /// four such parts, with a full stop between.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $check($what, text)?;
                Ok(Self(text.into()))
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
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug_id!(
    /// A sale, such as `demo`.
    SaleId,
    "sale id"
);
slug_id!(
    /// An item of a sale, such as `phone`.
    ItemId,
    "item id"
);
slug_id!(
    /// A topic of the message service, such as `sales`, or `acme.orders` of the tenant `acme`.
    TopicId,
    "topic",
    check_parts,
    "^[a-z0-9][a-z0-9-]{0,39}(\\.[a-z0-9][a-z0-9-]{0,39}){0,3}$"
);
slug_id!(
    /// A subscription to a topic, such as `crm`, or `acme.crm` of the tenant `acme`.
    SubscriptionId,
    "subscription",
    check_parts,
    "^[a-z0-9][a-z0-9-]{0,39}(\\.[a-z0-9][a-z0-9-]{0,39}){0,3}$"
);
slug_id!(
    /// A schedule of the message service, such as `nightly`, or `acme.nightly` of the tenant
    /// `acme`.
    ScheduleId,
    "schedule",
    check_parts,
    "^[a-z0-9][a-z0-9-]{0,39}(\\.[a-z0-9][a-z0-9-]{0,39}){0,3}$"
);
slug_id!(
    /// A tenant of the message service, such as `acme`.
    TenantId,
    "tenant"
);

impl SubscriptionId {
    /// Whether it is some tenant's.
    pub fn is_of_tenant(&self) -> bool {
        self.as_str().contains('.')
    }
}

impl TenantId {
    /// Whether a topic or a subscription of this name is the tenant's: it begins with the tenant's
    /// name and a full stop.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(self.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }
}

fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (at, byte) in bytes.iter().enumerate() {
        text[2 * at] = DIGITS[usize::from(byte >> 4)];
        text[2 * at + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The low 64 bits. The value is the output of a keyed hash, so these are uniform and a
            /// table may use them as they are.
            pub fn low_bits(self) -> u64 {
                let b = self.0;
                u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
            }
        }

        impl $name {
            /// Its text, as [`fmt::Display`] writes it.
            pub fn hex(&self) -> [u8; 32] {
                hex(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&hex(&self.0)).unwrap_or_default())
            }
        }

        /// Its text.
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
            }
        }

        impl Serialize for $name {
            /// As text in human-readable formats, else as its bytes.
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    return to.serialize_str(std::str::from_utf8(&hex(&self.0)).unwrap_or_default());
                }
                self.0.serialize(to)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    return String::deserialize(from)?.parse().map_err(serde::de::Error::custom);
                }
                Deserialize::deserialize(from).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 32 {
                    return Err(IdError::Length { what: $what, max: 32, got: text.chars().count() });
                }
                let mut bytes = [0u8; 16];
                for (at, c) in text.bytes().enumerate() {
                    let digit = match c {
                        b'0'..=b'9' => c - b'0',
                        b'a'..=b'f' => c - b'a' + 10,
                        _ => return Err(IdError::Character { what: $what, got: char::from(c) }),
                    };
                    bytes[at / 2] = bytes[at / 2] << 4 | digit;
                }
                Ok(Self(bytes))
            }
        }

    };
}

hash_id!(
    /// One attempt of one shopper in one sale: a keyed hash of (sale, shopper, Idempotency-Key). It
    /// is also the id of the hold that the attempt may lead to, for an attempt leads to one hold at
    /// the most.
    AttemptId,
    "attempt id"
);
hash_id!(
    /// A shopper as the log knows them: a keyed hash of the shop's own id. Without the key it
    /// reveals nothing.
    ShopperKey,
    "shopper key"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_id_survives_a_round_trip_through_text() {
        let id = AttemptId(*b"\x00\x01\xfe\xff0123456789ab");
        assert_eq!(id.to_string(), "0001feff303132333435363738396162");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_tenant_owns_what_begins_with_its_name_and_a_full_stop() {
        let acme: TenantId = "acme".parse().unwrap();
        for (name, want) in [
            ("acme.orders", true),
            ("acme.a.b", true),
            ("acme", false),
            ("acme-x.orders", false),
            ("acm.e", false),
        ] {
            assert_eq!(acme.owns(name.parse::<TopicId>().unwrap().as_str()), want, "{name}");
        }
        assert!("ac.me".parse::<TenantId>().is_err());
    }

    #[test]
    fn an_invalid_id_is_refused_with_the_reason() {
        let check = |text: &str, want: &str| {
            assert_eq!(text.parse::<SaleId>().unwrap_err().to_string(), want, "{text:?}");
        };
        check("", "sale id: 0 characters, want 1 to 40");
        check("../etc", "sale id: character '.', want a-z, 0-9 and - (hex digits for a hash)");
        check("-x", "sale id: character '-', want a-z, 0-9 and - (hex digits for a hash)");
        check("Sale", "sale id: character 'S', want a-z, 0-9 and - (hex digits for a hash)");
        let check = |text: &str, want: &str| {
            assert_eq!(text.parse::<TopicId>().unwrap_err().to_string(), want, "{text:?}");
        };
        check("acme.", "topic: 0 characters, want 1 to 40");
        check("acme..orders", "topic: 0 characters, want 1 to 40");
        check(".", "topic: 0 characters, want 1 to 40");
        check("a.b.c.d.e", "topic: 5 parts with a full stop between, want 4 at the most");
        check("acme.-x", "topic: character '-', want a-z, 0-9 and - (hex digits for a hash)");
        assert!("é".repeat(16).parse::<AttemptId>().is_err());
        assert!("0001FEFF303132333435363738396162".parse::<AttemptId>().is_err());
    }
}
