//! An attempt's body: the basket that it asks for. The bytes are not trusted, and a fuzz target
//! tests this parser.

use crate::ticket::item_name;
use arrayvec::ArrayVec;
use contracts::{Basket, BasketError, Line, QUANTITY_MAX, SaleSpec};
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, fmt};
use web::body::clip;

/// The most lines of a request. Lines of one item are added up.
const REQUEST_LINES_MAX: usize = 64;

/// A line as it arrived.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineRequest<'a> {
    #[serde(borrow)]
    item: Cow<'a, str>,
    quantity: u16,
}

/// A line that must be an object. Without this, a list of its fields in order would be accepted
/// too.
struct LineObject;

impl<'de> DeserializeSeed<'de> for LineObject {
    type Value = LineRequest<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LineObject {
    type Value = LineRequest<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `item` and `quantity`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        LineRequest::deserialize(de::value::MapAccessDeserializer::new(map))
    }
}

/// A field's name, borrowed from the body.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The lines of a body. Each is looked up as it is read, which saves a list of lines: nearly all
/// bodies have one line.
struct Lines<'s> {
    spec: &'s SaleSpec,
    lines: ArrayVec<Line, REQUEST_LINES_MAX>,
    /// The first line that is wrong. An error of JSON after it takes precedence.
    wrong: Option<String>,
}

impl Lines<'_> {
    fn line(&self, line: &LineRequest<'_>) -> Result<Line, String> {
        if line.quantity == 0 || line.quantity > QUANTITY_MAX {
            return Err(format!(
                "lines: quantity {} of item {:?}, want 1 to {QUANTITY_MAX}",
                line.quantity,
                clip(&line.item)
            ));
        }
        Ok(Line { item: known_item(self.spec, &line.item)?, quantity: line.quantity })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Lines<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Lines<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of {REQUEST_LINES_MAX} lines at the most")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(line) = seq.next_element_seed(LineObject)? {
            count += 1;
            if count > REQUEST_LINES_MAX {
                return Err(de::Error::invalid_length(count, &self));
            }
            if self.wrong.is_none() {
                match self.line(&line) {
                    Ok(line) => self.lines.push(line),
                    Err(why) => self.wrong = Some(why),
                }
            }
        }
        Ok(())
    }
}

/// The body around the lines.
struct Body<'a, 's>(&'a mut Lines<'s>);

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `lines`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(Name(field)) = map.next_key()? {
            if field != "lines" {
                return Err(de::Error::unknown_field(&field, &["lines"]));
            }
            if std::mem::replace(&mut is_there, true) {
                return Err(de::Error::duplicate_field("lines"));
            }
            map.next_value_seed(&mut *self.0)?;
        }
        if is_there { Ok(()) } else { Err(de::Error::missing_field("lines")) }
    }
}

/// The basket that an attempt's body asks for, or what is wrong with it.
pub fn parse_basket(body: &[u8], spec: &SaleSpec) -> Result<Basket, String> {
    let mut lines = Lines { spec, lines: ArrayVec::new(), wrong: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    Body(&mut lines)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|e| format!("body: {e}; want {{\"lines\":[{{\"item\":\"…\",\"quantity\":1}}]}}"))?;
    if let Some(why) = lines.wrong {
        return Err(why);
    }
    Basket::new(&lines.lines).map_err(|e| match e {
        BasketError::Quantity { item } => {
            let item = item_name(spec, item);
            format!("lines: item {item:?} adds up to more than {QUANTITY_MAX}")
        }
        other => other.to_string(),
    })
}

pub(crate) fn known_item(spec: &SaleSpec, item: &str) -> Result<u16, String> {
    spec.item_index(item).ok_or_else(|| format!("lines: the sale has no item {:?}", clip(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let spec = crate::testing::spec();
        let why = |body: &str| parse_basket(body.as_bytes(), &spec).unwrap_err();
        let line = |item: &str, quantity: u32| format!(r#"{{"item":"{item}","quantity":{quantity}}}"#);
        let of = |lines: &[String]| format!(r#"{{"lines":[{}]}}"#, lines.join(","));
        let watch = line("watch", 1);
        assert_eq!(
            parse_basket(of(&[watch.clone(), watch.clone()]).as_bytes(), &spec),
            Ok(Basket::single(1, 2)),
            "one item's lines are added up"
        );
        for (body, want) in [
            (String::new(), "EOF"),
            ("[]".into(), "expected an object with `lines`"),
            ("{}".into(), "missing field `lines`"),
            (r#"{"lines":[]}"#.into(), "lines"),
            (r#"{"lines":{}}"#.into(), "an array of 64 lines at the most"),
            (r#"{"lines":[["watch",1]]}"#.into(), "expected an object with `item` and `quantity`"),
            (r#"{"lines":[{"item":"watch","quantity":1,"item":"watch"}]}"#.into(), "duplicate field `item`"),
            (r#"{"line":[]}"#.into(), "unknown field `line`"),
            (format!(r#"{{"lines":[{watch}],"lines":[{watch}]}}"#), "duplicate field `lines`"),
            (format!("{}x", of(std::slice::from_ref(&watch))), "trailing characters"),
            (of(&[line("watch", 0)]), "quantity 0 of item \"watch\""),
            (of(&[line("nothing", 1)]), "no item \"nothing\""),
            (of(&[line("nothing", 1), line("watch", 0)]), "no item \"nothing\""),
            // An error of JSON takes precedence.
            (of(&[line("nothing", 1), "7".into()]), "body: "),
            (of(&vec![watch.clone(); 65]), "invalid length 65"),
        ] {
            let why = why(&body);
            assert!(why.contains(want), "{body}: {why}");
        }
        assert!(parse_basket(of(&vec![watch; 64]).as_bytes(), &spec).is_ok());
    }
}
