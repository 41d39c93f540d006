//! CloudEvents 1.0 as publishers send them: in the JSON format (one, or a batch), or with the
//! attributes in HTTP header fields (binary mode). What is stored is always the JSON format, with
//! the attributes in rising order and the data byte for byte as it came.

use super::{command::NewEvent, record::Key};
use crate::filter::Attributes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, fmt};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use units::TimeMs;

/// Bytes of one event in the JSON format.
pub const EVENT_BYTES_MAX: usize = 256 << 10;
/// Events of one batch, and their bytes together: they become durable in one write.
pub const BATCH_EVENTS_MAX: usize = 1000;
pub const BATCH_BYTES_MAX: usize = 2 << 20;
/// Context attributes of one event, and bytes of each.
const ATTRIBUTES_MAX: usize = 40;
const NAME_BYTES_MAX: usize = 40;
const VALUE_BYTES_MAX: usize = 4096;
/// Attributes that are texts.
const TEXTS: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "dataschema",
    "datacontenttype",
    "partitionkey",
    "deliverat",
];

/// Why a document is no CloudEvent that can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError {
    /// Which event of a batch, from 0.
    pub at: Option<usize>,
    pub what: String,
    /// It is over the limit of bytes.
    pub is_too_large: bool,
}

impl EventError {
    fn new(what: impl Into<String>) -> Self {
        Self { at: None, what: what.into(), is_too_large: false }
    }

    fn at(self, at: usize) -> Self {
        Self { at: Some(at), ..self }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "event {at}: {}", self.what),
            None => write!(f, "event: {}", self.what),
        }
    }
}

impl std::error::Error for EventError {}

/// A JSON object whose names are all different.
struct Members(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.len() > ATTRIBUTES_MAX {
                        return Err(A::Error::custom(format!("more than {ATTRIBUTES_MAX} attributes")));
                    }
                    if members.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{name} is given twice")));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// Reads one event in the JSON format (`application/cloudevents+json`).
pub fn from_json(bytes: &[u8]) -> Result<NewEvent, EventError> {
    let members: Members = serde_json::from_slice(bytes)
        .map_err(|error| EventError::new(format!("not in the JSON format: {error}")))?;
    from_members(members)
}

/// Makes an event of a document in the JSON format that has neither `specversion`, `id` nor `time`.
pub(crate) fn from_template(template: &str, id: &str, time: TimeMs) -> Result<NewEvent, EventError> {
    let Members(mut members) = serde_json::from_str(template)
        .map_err(|error| EventError::new(format!("not in the JSON format: {error}")))?;
    let (id, time) = (Value::from(id).to_string(), Value::from(time.to_string()).to_string());
    for (name, value) in [("specversion", "\"1.0\"".into()), ("id", id), ("time", time)] {
        let value = RawValue::from_string(value).map_err(|error| EventError::new(error.to_string()))?;
        if members.insert(name.into(), value).is_some() {
            return Err(EventError::new(format!("{name}: leave it out; each event gets its own")));
        }
    }
    if members.contains_key("deliverat") {
        return Err(EventError::new("deliverat: leave it out; each event is posted when it is due"));
    }
    from_members(Members(members))
}

/// Reads a batch (`application/cloudevents-batch+json`).
pub fn batch_from_json(bytes: &[u8]) -> Result<Vec<NewEvent>, EventError> {
    let batch: Vec<Box<RawValue>> = serde_json::from_slice(bytes)
        .map_err(|error| EventError::new(format!("not a JSON array: {error}")))?;
    if batch.is_empty() || batch.len() > BATCH_EVENTS_MAX {
        return Err(EventError::new(format!("{} in the batch, want 1 to {BATCH_EVENTS_MAX}", batch.len())));
    }
    let read =
        |(at, raw): (usize, Box<RawValue>)| from_json(raw.get().as_bytes()).map_err(|error| error.at(at));
    batch.into_iter().enumerate().map(read).collect()
}

/// Reads an event in binary mode: `attributes` from the fields `ce-…`, decoded, and
/// `datacontenttype` from `Content-Type`.
pub fn from_binary(
    mut attributes: Attributes,
    content_type: &str,
    data: &[u8],
) -> Result<NewEvent, EventError> {
    if attributes.contains_key("datacontenttype") {
        return Err(EventError::new("ce-datacontenttype: send Content-Type"));
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json") || essence == "text/json";
    if !content_type.is_empty() {
        attributes.insert("datacontenttype".into(), content_type.into());
    }
    let (name, data) = if data.is_empty() {
        ("data", None)
    } else if is_json || content_type.is_empty() {
        let raw: &RawValue = serde_json::from_slice(data)
            .map_err(|error| EventError::new(format!("data: not JSON, as its type says: {error}")))?;
        ("data", Some(raw.get().to_owned()))
    } else if let (true, Ok(text)) = (essence.starts_with("text/"), std::str::from_utf8(data)) {
        ("data", Some(Value::from(text).to_string()))
    } else {
        ("data_base64", Some(Value::from(data_encoding::BASE64.encode(data)).to_string()))
    };
    whole(attributes, BTreeMap::new(), data.map(|data| (name, data)))
}

fn from_members(Members(mut members): Members) -> Result<NewEvent, EventError> {
    let data = match (members.remove("data"), members.remove("data_base64")) {
        (Some(_), Some(_)) => return Err(EventError::new("data and data_base64: want one of them")),
        (Some(data), None) => Some(("data", data.get().to_owned())),
        (None, Some(data)) => {
            let text: String =
                serde_json::from_str(data.get()).map_err(|_| EventError::new("data_base64: want a text"))?;
            data_encoding::BASE64
                .decode(text.as_bytes())
                .map_err(|error| EventError::new(format!("data_base64: {error}")))?;
            Some(("data_base64", data.get().to_owned()))
        }
        (None, None) => None,
    };
    let mut attributes = Attributes::new();
    // Booleans and numbers keep their types in what is stored, and are texts for filters.
    let mut typed = BTreeMap::new();
    for (name, raw) in members {
        let wrong = |what: &str| EventError::new(format!("{name}: {what}"));
        let value: Value = serde_json::from_str(raw.get()).map_err(|_| wrong("not JSON"))?;
        let text = match value {
            // As if it were not there (JSON format, 2.4.1).
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(truth) => {
                typed.insert(name.clone(), truth.to_string());
                truth.to_string()
            }
            Value::Number(number) => {
                let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
                let number = number.ok_or_else(|| wrong("a number is whole and has 32 bits"))?;
                typed.insert(name.clone(), number.to_string());
                number.to_string()
            }
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong("an attribute is a text, a truth value or a whole number"));
            }
        };
        attributes.insert(name, text);
    }
    whole(attributes, typed, data)
}

/// Judges the attributes, and writes the event as it is stored.
fn whole(
    attributes: Attributes,
    typed: BTreeMap<String, String>,
    data: Option<(&'static str, String)>,
) -> Result<NewEvent, EventError> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(EventError::new(format!("more than {ATTRIBUTES_MAX} attributes")));
    }
    for (name, value) in &attributes {
        let wrong = |what: &str| Err(EventError::new(format!("{name:?}: {what}")));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return wrong("the name of an attribute has the letters a-z and digits");
        }
        if name == "data" {
            return wrong("no attribute may have this name");
        }
        if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return wrong(&format!(
                "a name has {NAME_BYTES_MAX} bytes at the most, and a value {VALUE_BYTES_MAX}"
            ));
        }
        if value
            .chars()
            .any(|c| c.is_control() || ('\u{fdd0}'..='\u{fdef}').contains(&c) || c as u32 & 0xfffe == 0xfffe)
        {
            return wrong("control characters and noncharacters are not allowed");
        }
    }
    if let Some(name) = TEXTS.into_iter().find(|name| typed.contains_key(*name)) {
        return Err(EventError::new(format!("{name}: want a text")));
    }
    let needed = |name: &str| match attributes.get(name) {
        Some(value) if !value.is_empty() => Ok(value.as_str()),
        Some(_) => Err(EventError::new(format!("{name}: empty"))),
        None => Err(EventError::new(format!("{name}: missing"))),
    };
    if needed("specversion")? != "1.0" {
        return Err(EventError::new("specversion: want \"1.0\""));
    }
    let (id, source) = (needed("id")?, needed("source")?);
    needed("type")?;
    if source.contains(char::is_whitespace) {
        return Err(EventError::new("source: not a URI reference"));
    }
    for name in ["subject", "dataschema", "datacontenttype", "partitionkey"] {
        if attributes.get(name).is_some_and(String::is_empty) {
            return Err(EventError::new(format!("{name}: empty; leave it out")));
        }
    }
    let time = |name: &str| match attributes.get(name).map(|time| OffsetDateTime::parse(time, &Rfc3339)) {
        None => Ok(None),
        Some(Ok(time)) => Ok(Some(time)),
        Some(Err(_)) => Err(EventError::new(format!("{name}: want RFC 3339, such as 2026-11-26T10:00:00Z"))),
    };
    time("time")?;
    let due = time("deliverat")?
        .map(|time| TimeMs(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()));
    let identity = {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(source.len() as u64).to_le_bytes());
        hasher.update(source.as_bytes());
        hasher.update(id.as_bytes());
        hasher.finalize()
    };
    let key = attributes.get("partitionkey").or_else(|| attributes.get("subject"));
    let key = key.map(|key| Key(first_u64(&blake3::hash(key.as_bytes()))));
    let mut body = String::with_capacity(256 + data.as_ref().map_or(0, |(_, data)| data.len()));
    body.push('{');
    for (name, value) in &attributes {
        if body.len() > 1 {
            body.push(',');
        }
        // A name needs no escapes.
        body.push('"');
        body.push_str(name);
        body.push_str("\":");
        match typed.get(name) {
            Some(value) => body.push_str(value),
            None => body.push_str(&Value::from(value.as_str()).to_string()),
        }
    }
    if let Some((name, data)) = data {
        body.push_str(&format!(",\"{name}\":{data}"));
    }
    body.push('}');
    if body.len() > EVENT_BYTES_MAX {
        let what = format!("{} bytes, want {EVENT_BYTES_MAX} at the most", body.len());
        return Err(EventError { is_too_large: true, ..EventError::new(what) });
    }
    let identity = u128::from_le_bytes(*identity.as_bytes().first_chunk().expect("32 bytes"));
    let content = first_u64(&blake3::hash(body.as_bytes()));
    Ok(NewEvent { identity, content, key, due, attributes, body: body.into_bytes().into() })
}

fn first_u64(hash: &blake3::Hash) -> u64 {
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t"}"#;

    fn with(members: &str) -> Result<NewEvent, EventError> {
        from_json(PLAIN.replace('}', &format!(",{members}}}")).as_bytes())
    }

    fn body(event: &NewEvent) -> &str {
        std::str::from_utf8(&event.body).unwrap()
    }

    #[test]
    fn what_is_stored_has_the_attributes_in_order_and_the_data_as_it_came() {
        let event =
            with(r#""data":{"price": 1.10, "big":123456789012345678901234567890},"flag":true,"no":7"#);
        let stored = r#"{"flag":true,"id":"a","no":7,"source":"/s","specversion":"1.0","type":"t","data":{"price": 1.10, "big":123456789012345678901234567890}}"#;
        assert_eq!(body(&event.unwrap()), stored);
        let spaced = from_json(PLAIN.replace(',', " ,\n").as_bytes()).unwrap();
        assert_eq!(
            spaced,
            from_json(PLAIN.as_bytes()).unwrap(),
            "white space between members is no difference"
        );
        assert_eq!(with(r#""dataschema":null"#).unwrap(), from_json(PLAIN.as_bytes()).unwrap());
    }

    #[test]
    fn source_and_id_together_are_the_identity() {
        let of = |source: &str, id: &str| {
            let text = PLAIN.replace("/s", source).replace("\"a\"", &format!("\"{id}\""));
            from_json(text.as_bytes()).unwrap().identity
        };
        assert_eq!(of("/s", "a"), of("/s", "a"));
        let all = [of("/s", "a"), of("/sa", "a"), of("/s", "aa"), of("/", "sa")];
        assert!(all.iter().enumerate().all(|(at, one)| !all[at + 1..].contains(one)), "{all:?}");
    }

    #[test]
    fn the_key_is_the_partition_key_or_else_the_subject() {
        let key = |members: &str| with(members).unwrap().key;
        assert_eq!(key(r#""x":"y""#), None);
        assert_eq!(key(r#""subject":"k""#), key(r#""subject":"other","partitionkey":"k""#));
        assert_ne!(key(r#""subject":"k""#), key(r#""subject":"l""#));
    }

    #[test]
    fn what_is_no_cloud_event_is_refused_by_name() {
        for (text, why) in [
            ("7", "a JSON object"),
            (r#"{"specversion":"1.0","id":"a","source":"/s"}"#, "type: missing"),
            (r#"{"specversion":"0.3","id":"a","source":"/s","type":"t"}"#, "specversion"),
            (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "id: empty"),
            (r#"{"specversion":"1.0","id":"a","id":"b","source":"/s","type":"t"}"#, "id is given twice"),
            (r#"{"specversion":"1.0","id":"a","source":"a b","type":"t"}"#, "source: not a URI"),
        ] {
            let error = from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (members, why) in [
            (r#""Big":"x""#, "has the letters a-z"),
            (r#""subject":7"#, "subject: want a text"),
            (r#""x":[1]"#, "an attribute is a text"),
            (r#""x":1.5"#, "whole and has 32 bits"),
            (r#""x":"a\u0000b""#, "control characters"),
            (r#""time":"yesterday""#, "RFC 3339"),
            (r#""subject":"""#, "subject: empty"),
            (r#""data":1,"data_base64":"AA==""#, "want one of them"),
            (r#""data_base64":"A""#, "data_base64"),
        ] {
            let error = with(members).unwrap_err().to_string();
            assert!(error.contains(why), "{members}: {error}");
        }
        assert!(from_json(b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}").is_err(), "not UTF-8");
        let large = with(&format!("\"data\":\"{}\"", "x".repeat(EVENT_BYTES_MAX))).unwrap_err();
        assert!(large.is_too_large);
    }

    #[test]
    fn a_batch_names_the_event_that_is_wrong() {
        let batch = format!("[{PLAIN},{}]", PLAIN.replace("\"t\"", "\"\""));
        assert_eq!(batch_from_json(batch.as_bytes()).unwrap_err().to_string(), "event 1: type: empty");
        assert_eq!(batch_from_json(format!("[{PLAIN}]").as_bytes()).unwrap().len(), 1);
        assert!(batch_from_json(b"[]").is_err());
    }

    #[test]
    fn binary_mode_is_stored_in_the_json_format() {
        let attributes = || -> Attributes {
            [("specversion", "1.0"), ("id", "a"), ("source", "/s"), ("type", "t")]
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect()
        };
        let stored = |content_type: &str, data: &[u8]| {
            let event = from_binary(attributes(), content_type, data);
            event.map(|event| body(&event).to_owned()).map_err(|error| error.to_string())
        };
        assert!(stored("application/json", b"{\"a\": 1}").unwrap().ends_with(r#","data":{"a": 1}}"#));
        assert!(stored("text/plain; charset=utf-8", b"hi\n").unwrap().ends_with(r#","data":"hi\n"}"#));
        assert!(stored("image/png", &[0, 255]).unwrap().ends_with(r#","data_base64":"AP8="}"#));
        assert!(stored("", b"").unwrap().ends_with(r#""type":"t"}"#));
        assert!(stored("application/json", b"{").unwrap_err().contains("not JSON"));
    }
}
