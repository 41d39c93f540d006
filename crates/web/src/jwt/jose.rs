//! The parts of JOSE that are read strictly: base64url without padding, JSON objects whose names
//! are unique, and the compact form of a signed token with its header (RFC 7515, RFC 7519).
//!
//! It knows no keys and believes nothing: a [`Compact`] is what a caller sent.

use super::JwtError;
use data_encoding::BASE64URL_NOPAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// The most bytes of a token. Tokens of large identity providers have about 2,000.
const TOKEN_BYTES_MAX: usize = 4096;
/// The most characters of an encoded header, and members in it. A refused token costs no more than
/// reading these: its claims are read only after its signature was found right.
const HEADER_BYTES_MAX: usize = 1024;
const HEADER_MEMBERS_MAX: usize = 16;

/// Decodes base64url as RFC 7515 has it: no padding, no other characters, and no bits left over.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text).ok()
}

/// A value of JSON. A number is exact where it is a whole one.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    Null,
    Flag(bool),
    Whole(u64),
    /// Any other number.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Item<'a>>),
    Object(Object<'a>),
}

impl Item<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An array of strings.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::List(items) => items.iter().map(Self::text).collect(),
            _ => None,
        }
    }

    /// A `NumericDate` (RFC 7519, section 2): seconds since 1970, which may have a fraction.
    pub(super) fn seconds(&self) -> Option<f64> {
        match *self {
            Self::Whole(seconds) => Some(seconds as f64),
            Self::Number(seconds) => Some(seconds),
            _ => None,
        }
    }
}

/// A JSON object whose names are unique. RFC 7515, RFC 7517 and RFC 7519, section 4 of each, leave
/// a choice between refusing a duplicate and using the last one. Two readers that choose
/// differently disagree on what was signed, so it is refused.
#[derive(Debug, PartialEq)]
pub(super) struct Object<'a> {
    members: Vec<(Cow<'a, str>, Item<'a>)>,
    is_unique: bool,
}

impl<'a> Object<'a> {
    /// Reads an object of at most `members_max` members. Objects in it are not checked.
    pub(super) fn parse(bytes: &'a [u8], members_max: usize) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "no UTF-8".to_owned())?;
        let mut json = serde_json::Deserializer::from_str(text);
        let object = json.deserialize_map(AnyItem { members_max }).and_then(|item| json.end().map(|()| item));
        match object.map_err(|e| e.to_string())? {
            Item::Object(object) if object.is_unique => Ok(object),
            _ => Err("a member twice".to_owned()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Item<'a>> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, item)| item)
    }

    /// For an object in another one.
    pub(super) fn is_unique(&self) -> bool {
        self.is_unique
    }
}

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyItem { members_max: usize::MAX })
    }
}

struct AnyItem {
    members_max: usize,
}

impl<'de> Visitor<'de> for AnyItem {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Item<'de>, E> {
        Ok(Item::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Item<'de>, E> {
        Ok(Item::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Item<'de>, E> {
        Ok(Item::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Item<'de>, E> {
        Ok(Item::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Item<'de>, E> {
        Ok(Item::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Item<'de>, E> {
        Ok(Item::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Item::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Item<'de>)> = Vec::new();
        while let Some(name) = map.next_key()? {
            let Item::Text(name) = name else { return Err(A::Error::custom("a name that is no string")) };
            if members.len() == self.members_max {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name, map.next_value()?));
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        let is_unique = names.windows(2).all(|pair| pair[0] != pair[1]);
        Ok(Item::Object(Object { members, is_unique }))
    }
}

/// A token in its compact form (RFC 7515, section 7.1), with its header read.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub(super) header: Header,
    /// The bytes that are signed: header and claims, encoded.
    pub(super) signed: &'a [u8],
    pub(super) claims: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// The members of a header that decide how a token is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
}

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        if claims.contains('.') {
            return Err(JwtError::Malformed);
        }
        if header.len() > HEADER_BYTES_MAX {
            return Err(JwtError::Header("more than 1,024 bytes"));
        }
        let header = decode(header.as_bytes()).ok_or(JwtError::Malformed)?;
        let header = Header::of(&header)?;
        let (signed, claims, signature) = (signed.as_bytes(), claims.as_bytes(), signature.as_bytes());
        // Decoded later: the claims once they are known to be signed.
        let is_encoded = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !claims.iter().chain(signature).all(is_encoded) {
            return Err(JwtError::Malformed);
        }
        Ok(Self { header, signed, claims, signature })
    }
}

impl Header {
    fn of(bytes: &[u8]) -> Result<Self, JwtError> {
        let members = Object::parse(bytes, HEADER_MEMBERS_MAX).map_err(|_| JwtError::Malformed)?;
        // RFC 7515, section 4.1.11: what is in `crit` must be understood, and no extension is
        // understood here. An empty one, or one that is no list, must not be sent at all.
        if members.get("crit").is_some() {
            return Err(JwtError::Header("crit: no extension is understood here: send none"));
        }
        // RFC 7797, section 7: a JWT is never sent with a payload that is not encoded.
        if members.get("b64").is_some_and(|b64| *b64 != Item::Flag(true)) {
            return Err(JwtError::Header("b64: the claims of a JWT are always encoded"));
        }
        let text = |name, why| match members.get(name) {
            None => Ok(None),
            Some(Item::Text(text)) => Ok(Some(text.clone().into_owned())),
            Some(_) => Err(JwtError::Header(why)),
        };
        let alg = text("alg", "alg: want a string")?.ok_or(JwtError::Header("alg: none in it"))?;
        let (kid, typ) = (text("kid", "kid: want a string")?, text("typ", "typ: want a string")?);
        Ok(Self { alg, kid, typ })
    }

    /// Whether `typ` names this media type (RFC 7515, section 4.1.9): upper and lower case are the
    /// same, and `application/` may be left out.
    pub(super) fn is_typed(&self, want: &str) -> bool {
        let bare = |typ: &str| {
            let lower = typ.to_ascii_lowercase();
            lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
        };
        self.typ.as_deref().is_some_and(|typ| bare(typ) == bare(want))
    }
}
