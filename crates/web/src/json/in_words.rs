//! What is wrong with JSON, in words for its author: the field by its path, what is wanted
//! there and what it is. The reader's own messages speak of Rust's types, and of lines and columns
//! of a text that is mostly one line.

use super::objects::Objects;
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};

/// Reads a text that must be an object. `what` is its name, for what is wrong with the whole of it.
pub fn from_slice<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, String> {
    // What is read may be a list by itself.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(format!("{what}: want an object with fields, and it is a list"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_path_to_error::deserialize(Objects(&mut reader)) {
        Ok(value) => value,
        // Where a name or an object with one is wanted, the reader of texts calls a list no JSON.
        Err(error) => match serde_json::from_slice::<Value>(bytes) {
            Ok(json) if !matches!(error.inner().classify(), Category::Data) => return from_value(what, json),
            _ => return Err(say(what, &error)),
        },
    };
    reader.end().map_err(|error| no_json(what, &error))?;
    Ok(value)
}

/// The same for what has been read as JSON already.
pub fn from_value<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(Objects(value)).map_err(|error| say(what, &error))
}

/// The same for the message of a reader of the same kind, such as that of queries.
pub fn of_message(what: &str, message: &str) -> String {
    match message.split_once(": ") {
        Some((path, message)) if !path.contains(' ') => of_field(what, path, message),
        _ => of_field(what, "", message),
    }
}

fn say(what: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    if !matches!(error.inner().classify(), Category::Data) {
        return no_json(what, error.inner());
    }
    let path = error.path().to_string();
    let message = error.inner().to_string();
    // The path says where.
    let message = message.rsplit_once(" at line ").map_or(&*message, |(before, _)| before);
    of_field(what, if path == "." { "" } else { &path }, message)
}

fn no_json(what: &str, error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(&*message, |(before, _)| before);
    let (line, column) = (error.line(), error.column());
    format!("{what}: it is no JSON: line {line}, column {column}: {message}")
}

/// The names in a message, which it quotes.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

fn of_field(what: &str, path: &str, message: &str) -> String {
    let inside = |field: &str| match path {
        "" => field.to_owned(),
        path if path == field || path.ends_with(&format!(".{field}")) => path.to_owned(),
        path => format!("{path}.{field}"),
    };
    let path = if path.is_empty() { what } else { path };
    let first = quoted(message).next().unwrap_or_default();
    let others = || quoted(message).skip(1).collect::<Vec<_>>().join(", ");
    if message.starts_with("missing field") {
        return format!("{}: is missing", inside(first));
    }
    if message.starts_with("duplicate field") {
        return format!("{}: stands there twice", inside(first));
    }
    if message.starts_with("unknown field") {
        let known = others();
        let can = if known.is_empty() { "there can be none".into() } else { format!("there can be {known}") };
        return format!("{}: there is no such field; {can}", inside(first));
    }
    if message.starts_with("unknown variant") {
        return format!("{path}: {first} is no choice; choose of {}", others());
    }
    if message.starts_with("data did not match any variant") {
        return format!("{path}: it has none of the forms that it can have");
    }
    let found = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, wanted)) = found.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return format!("{path}: {message}");
    };
    format!("{path}: want {}, and it is {}", wanted_in_words(wanted), found_in_words(found))
}

fn found_in_words(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => format!("the text {text}"),
        Some(("integer" | "floating", number)) => {
            format!("the number {}", number.trim_start_matches("point ").trim_matches('`'))
        }
        Some(("boolean", value)) => value.trim_matches('`').to_owned(),
        _ => match found {
            "map" => "an object".to_owned(),
            "sequence" => "a list".to_owned(),
            "null" => "nothing".to_owned(),
            other => other.to_owned(),
        },
    }
}

fn wanted_in_words(wanted: &str) -> &str {
    match wanted {
        "u8" => "a whole number, 0 to 255",
        "u16" => "a whole number, 0 to 65535",
        "u32" => "a whole number, 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "string" | "a borrowed string" => "a text",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "string or map" => "one of the names that it can be, or an object with one",
        other if other.starts_with("a nonzero") => "a whole number, 1 or more",
        other if other.starts_with("struct") || other.contains(" tagged enum") || other == "a map" => {
            "an object with fields"
        }
        other if other.contains("enum") => "one of the names that it can be",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Command {
        name: String,
        lines: Vec<Line>,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        limits: BTreeMap<String, i64>,
        #[serde(default)]
        paused: bool,
        #[serde(default)]
        first: Option<Line>,
        #[serde(default)]
        by_name: BTreeMap<String, Line>,
        #[serde(default)]
        rule: Option<Rule>,
        #[serde(default)]
        move_: Option<Move>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    enum Rule {
        Tier { min: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    enum Move {
        To { place: u8 },
        Swap(Line, Line),
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Line {
        item: String,
        quantity: u16,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        First,
        Last,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    fn wrong<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        from_slice::<T>("body", text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path_with_what_is_wanted_there() {
        let line = |fields: &str| wrong::<Command>(&format!(r#"{{"name":"a","lines":[{{{fields}}}]}}"#));
        let more = |fields: &str| wrong::<Command>(&format!(r#"{{"name":"a","lines":[],{fields}}}"#));
        let of_list = |path: &str| format!("{path}: want an object with fields, and it is a list");
        let number = "lines[0].quantity: want a whole number, 0 to 65535, and it is";
        let cases = [
            (line(r#""item":"a""#), "lines[0].quantity: is missing".to_owned()),
            (line(r#""item":"a","quantity":"1""#), format!("{number} the text \"1\"")),
            (line(r#""item":"a","quantity":-1"#), format!("{number} the number -1")),
            (line(r#""item":"a","quantity":70000"#), format!("{number} the number 70000")),
            (line(r#""item":"a","quantity":1.5"#), format!("{number} the number 1.5")),
            (line(r#""item":"a","quantity":null"#), format!("{number} nothing")),
            (line(r#""item":7,"quantity":1"#), "lines[0].item: want a text, and it is the number 7".into()),
            (line(r#""item":"a","item":"b""#), "lines[0].item: stands there twice".into()),
            (
                line(r#""item":"a","quantity":1,"price":2"#),
                "lines[0].price: there is no such field; there can be item, quantity".into(),
            ),
            (more(r#""kind":"next""#), "kind: next is no choice; choose of first, last".into()),
            (more(r#""limits":{"a":true}"#), "limits.a: want a whole number, and it is true".into()),
            (more(r#""limits":[1]"#), "limits: want an object with fields, and it is a list".into()),
            (more(r#""first":["a",1]"#), "first: want an object with fields, and it is a list".into()),
            (line(r#""item":"a","quantity":1},["b",2],{"item":"c""#), of_list("lines[1]")),
            (more(r#""by_name":{"a":["a",1]}"#), of_list("by_name.a")),
            (more(r#""rule":["tier",3]"#), of_list("rule")),
            (
                more(r#""move_":[3]"#),
                "move_: want one of the names that it can be, or an object with one, and it is a list".into(),
            ),
            (more(r#""move_":{"to":[3]}"#), of_list("move_.to")),
            (more(r#""move_":{"swap":[{"item":"a","quantity":1},["b",2]]}"#), of_list("move_.swap[1]")),
            (more(r#""paused":"yes""#), "paused: want true or false, and it is the text \"yes\"".into()),
            (wrong::<Command>(r#"{"lines":[]}"#), "name: is missing".into()),
            (wrong::<Command>(r#" ["a",[]]"#), "body: want an object with fields, and it is a list".into()),
            (wrong::<Command>("7"), "body: want an object with fields, and it is the number 7".into()),
            (wrong::<Nothing>(r#"{"a":1}"#), "a: there is no such field; there can be none".into()),
        ];
        for (said, want) in cases {
            assert_eq!(said, want);
        }
    }

    #[test]
    fn what_is_right_is_read_as_it_stands() {
        let text = r#"{"name":"a","lines":[{"item":"b","quantity":2}],"kind":"last","limits":{"c":-1},
            "paused":true,"first":{"item":"d","quantity":3},"rule":{"kind":"tier","min":4},
            "move_":{"swap":[{"item":"e","quantity":5},{"item":"f","quantity":6}]}}"#;
        let read: Command = from_slice("body", text.as_bytes()).unwrap();
        let as_value: Command = from_value("body", serde_json::from_str(text).unwrap()).unwrap();
        let plain: Command = serde_json::from_str(text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{plain:?}"));
        assert_eq!(format!("{as_value:?}"), format!("{plain:?}"));
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        for (text, place) in
            [("", "line 1, column 0"), ("{", "line 1, column 1"), ("{}\n}", "line 2, column 1")]
        {
            let said = wrong::<Nothing>(text);
            assert!(said.starts_with(&format!("body: it is no JSON: {place}: ")), "{text:?}: {said}");
        }
    }
}
