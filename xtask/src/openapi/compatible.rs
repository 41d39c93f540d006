//! Whether a caller that was written for one OpenAPI document can live with another: all that it
//! may send is still taken, and all that it hears it was told of.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Which way a value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the caller: no less may be taken than before.
    In,
    /// To the caller: no more may be said than before.
    Out,
}

/// What of `old` is broken in `new`.
pub(super) fn compare(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in entries(&old["paths"]) {
        for (method, before) in entries(item).filter(|(method, _)| *method != "parameters") {
            let what = format!("{} {path}", method.to_uppercase());
            match new["paths"].get(path).and_then(|item| item.get(method)) {
                None => found.push(format!("{what}: is gone")),
                Some(after) => {
                    let shared = |document: &Value| document["paths"][path]["parameters"].clone();
                    let operations = [(before, shared(old)), (after, shared(new))];
                    Comparison { old, new, found: &mut found, seen: BTreeSet::new() }
                        .operation(&what, &operations);
                }
            }
        }
    }
    found
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn names(value: Option<&Value>) -> BTreeSet<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    found: &'a mut Vec<String>,
    /// Pairs of references that are being compared, or were, and whether as what is sent.
    seen: BTreeSet<(bool, String, String)>,
}

impl Comparison<'_> {
    fn operation(&mut self, what: &str, [(old, old_shared), (new, new_shared)]: &[(&Value, Value); 2]) {
        let asked = |document: &Value, operation: &Value| -> Vec<(String, Value)> {
            let alternatives = operation["security"].as_array().into_iter().flatten();
            let names = alternatives.flat_map(entries).map(|(name, _)| name.clone());
            names
                .map(|name| (name.clone(), document["components"]["securitySchemes"][&name].clone()))
                .collect()
        };
        if asked(self.old, old) != asked(self.new, new) {
            self.found.push(format!("{what}: another credential is asked for"));
        }
        let role = |operation: &Value| operation["x-role"].as_str().map(str::to_owned);
        if let (Some(before), Some(after)) = (role(old), role(new))
            && before != after
        {
            self.found.push(format!("{what}: the role was {before}, and is {after}"));
        }
        let before = parameters(self.old, old, old_shared);
        let after = parameters(self.new, new, new_shared);
        for parameter in &after {
            let known = before.iter().find(|known| same_parameter(known, parameter));
            let was_required = known.is_some_and(|known| known["required"] == true);
            if parameter["required"] == true && !was_required {
                self.found.push(format!("{what}: parameter {} is needed now", parameter["name"]));
            }
        }
        for parameter in &before {
            let name = format!("{what}: parameter {}", parameter["name"]);
            match after.iter().find(|other| same_parameter(other, parameter)) {
                None => self.found.push(format!("{name} is gone")),
                Some(other) => self.schema(&name, &parameter["schema"], &other["schema"], Way::In),
            }
        }
        let (sent, taken) = (&old["requestBody"], &new["requestBody"]);
        if taken["required"] == true && sent["required"] != true {
            self.found.push(format!("{what}: a body is needed now"));
        }
        self.content(&format!("{what}: body"), &sent["content"], &taken["content"], Way::In);
        let is_success = |(status, _): &(&String, &Value)| status.starts_with(['2', '3']);
        for (status, reply) in entries(&old["responses"]).filter(is_success) {
            match new["responses"].get(status) {
                None => self.found.push(format!("{what}: {status} is gone")),
                Some(other) => self.reply(&format!("{what}: {status}"), reply, other),
            }
        }
        for (status, _) in entries(&new["responses"]).filter(is_success) {
            if old["responses"].get(status).is_none() {
                self.found.push(format!("{what}: {status} is an answer that there was not"));
            }
        }
    }

    fn reply(&mut self, what: &str, old: &Value, new: &Value) {
        for (name, header) in entries(&old["headers"]) {
            match new["headers"].get(name) {
                None => self.found.push(format!("{what}: header {name} is gone")),
                Some(other) => {
                    if header["required"] == true && other["required"] != true {
                        self.found.push(format!("{what}: header {name} may be missing now"));
                    }
                    self.schema(
                        &format!("{what}: header {name}"),
                        &header["schema"],
                        &other["schema"],
                        Way::Out,
                    );
                }
            }
        }
        self.content(what, &old["content"], &new["content"], Way::Out);
    }

    fn content(&mut self, what: &str, old: &Value, new: &Value, way: Way) {
        for (media_type, before) in entries(old) {
            match new.get(media_type) {
                None => self.found.push(format!("{what}: {media_type} is gone")),
                // Text may come to be described as what each of its lines is.
                Some(_) if before["schema"]["type"] == "string" && !media_type.ends_with("/json") => {}
                Some(after) => self.schema(what, &before["schema"], &after["schema"], way),
            }
        }
    }

    fn schema(&mut self, what: &str, old: &Value, new: &Value, way: Way) {
        if let (Some(a), Some(b)) = (reference(old), reference(new))
            && !self.seen.insert((way == Way::In, a.to_owned(), b.to_owned()))
        {
            return;
        }
        let (mut before, mut after) = (forms(self.old, old), forms(self.new, new));
        if before.len() > 1 || after.len() > 1 {
            before = before.into_iter().flat_map(|form| by_value(self.old, form)).collect();
            after = after.into_iter().flat_map(|form| by_value(self.new, form)).collect();
        }
        // Each form of what may be sent is taken by one of today's; each that may be heard was one
        // of the former ones.
        let (given, allowed) = if way == Way::In { (&before, &after) } else { (&after, &before) };
        for one in given {
            let mut fewest: Option<Vec<String>> = None;
            for other in allowed {
                let (a, b) = if way == Way::In { (one, other) } else { (other, one) };
                let mut found = Vec::new();
                let mut inner =
                    Comparison { old: self.old, new: self.new, found: &mut found, seen: self.seen.clone() };
                inner.form(what, a, b, way);
                if fewest.as_ref().is_none_or(|known| found.len() < known.len()) {
                    fewest = Some(found);
                }
            }
            self.found.extend(fewest.unwrap_or_else(|| vec![format!("{what}: has no form any more")]));
        }
    }

    fn form(&mut self, what: &str, old: &Map<String, Value>, new: &Map<String, Value>, way: Way) {
        let (kind_before, kind_after) = (kind_of(old), kind_of(new));
        // An integer is a number, and not the other way round. A form without a type may be
        // anything.
        let (given, allowed) =
            if way == Way::In { (kind_before, kind_after) } else { (kind_after, kind_before) };
        let fits =
            given == allowed || allowed.is_none() || (given, allowed) == (Some("integer"), Some("number"));
        if !fits {
            let name = |kind: Option<&str>| kind.unwrap_or("anything").to_owned();
            self.found.push(format!("{what}: was {}, and is {}", name(kind_before), name(kind_after)));
            return;
        }
        self.unknown(what, old, new);
        self.others(what, old, new, way);
        self.values(what, old, new, way);
        self.limits(what, old, new, way);
        let (was, is) = (names(old.get("required")), names(new.get("required")));
        match way {
            Way::In => {
                for name in is.difference(&was) {
                    self.found.push(format!("{what}.{name}: is needed now"));
                }
            }
            Way::Out => {
                for name in was.difference(&is) {
                    self.found.push(format!("{what}.{name}: may be missing now"));
                }
            }
        }
        let none = Value::Null;
        let (before, after) =
            (old.get("properties").unwrap_or(&none), new.get("properties").unwrap_or(&none));
        for (name, property) in entries(before) {
            match after.get(name) {
                None => self.found.push(format!("{what}.{name}: is gone")),
                Some(other) => self.schema(&format!("{what}.{name}"), property, other, way),
            }
        }
        if let (Some(before), Some(after)) = (old.get("items"), new.get("items")) {
            self.schema(&format!("{what}[]"), before, after, way);
        }
    }

    /// Of what no rule here knows, nothing may differ.
    fn unknown(&mut self, what: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        const KNOWN: [&str; 24] = [
            "$ref",
            "additionalProperties",
            "anyOf",
            "const",
            "default",
            "description",
            "enum",
            "example",
            "examples",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maximum",
            "minItems",
            "minLength",
            "minimum",
            "not",
            "oneOf",
            "pattern",
            "properties",
            "required",
            "title",
            "type",
        ];
        for name in old.keys().chain(new.keys()).filter(|name| !KNOWN.contains(&name.as_str())) {
            if old.get(name) != new.get(name) {
                self.found.push(format!("{what}: {name} differs, and nothing here knows what that means"));
            }
        }
    }

    /// What may be there besides the properties, and what may not be.
    fn others(&mut self, what: &str, old: &Map<String, Value>, new: &Map<String, Value>, way: Way) {
        let closed =
            |form: &Map<String, Value>| form.get("additionalProperties") == Some(&Value::Bool(false));
        if way == Way::In && closed(new) && !closed(old) && old.contains_key("properties") {
            self.found.push(format!("{what}: other properties are refused now"));
        }
        let (before, after) = (old.get("additionalProperties"), new.get("additionalProperties"));
        if let (Some(before @ Value::Object(_)), Some(after @ Value::Object(_))) = (before, after) {
            self.schema(&format!("{what}.*"), before, after, way);
        }
        let (given, allowed) = if way == Way::In { (old, new) } else { (new, old) };
        for name in ["not", "format"] {
            // How wide an integer is, its limits say.
            if let Some(rule) = allowed.get(name).filter(|rule| *rule != "int64")
                && given.get(name) != Some(rule)
            {
                self.found.push(format!(
                    "{what}: {name} was {:?}, and is {:?}",
                    old.get(name),
                    new.get(name)
                ));
            }
        }
        let choices = |form: &Map<String, Value>| form.get("oneOf").cloned();
        if choices(allowed).is_some_and(|rule| choices(given) != Some(rule)) {
            self.found.push(format!("{what}: oneOf differs"));
        }
        if allowed.get("items").is_some_and(|_| given.get("items").is_none()) {
            self.found.push(format!("{what}[]: was or is anything"));
        }
    }

    fn values(&mut self, what: &str, old: &Map<String, Value>, new: &Map<String, Value>, way: Way) {
        let (given, allowed) = if way == Way::In { (old, new) } else { (new, old) };
        let Some(allowed) = listed(allowed) else { return };
        match listed(given) {
            None => self.found.push(format!("{what}: any value was right, now only {allowed:?}")),
            Some(given) => {
                for value in given.iter().filter(|value| !allowed.contains(value)) {
                    self.found.push(format!("{what}: {value} is another value than before"));
                }
            }
        }
    }

    /// What is sent may not be kept within narrower limits than before, and what is said not go
    /// beyond them.
    fn limits(&mut self, what: &str, old: &Map<String, Value>, new: &Map<String, Value>, way: Way) {
        let number = |form: &Map<String, Value>, name: &str| form.get(name).and_then(Value::as_f64);
        let (given, allowed) = if way == Way::In { (old, new) } else { (new, old) };
        for (name, is_least) in [
            ("minimum", true),
            ("minLength", true),
            ("minItems", true),
            ("maximum", false),
            ("maxLength", false),
            ("maxItems", false),
        ] {
            let Some(limit) = number(allowed, name) else { continue };
            let has = number(given, name).or((is_least && name != "minimum").then_some(0.0));
            if !has.is_some_and(|has| if is_least { has >= limit } else { has <= limit }) {
                let (before, after) = (number(old, name), number(new, name));
                self.found.push(format!("{what}: {name} was {before:?}, and is {after:?}"));
            }
        }
        if let Some(pattern) = allowed.get("pattern")
            && given.get("pattern") != Some(pattern)
            && given.get("const").is_none()
        {
            let (before, after) = (old.get("pattern"), new.get("pattern"));
            self.found.push(format!("{what}: the pattern was {before:?}, and is {after:?}"));
        }
    }
}

/// The values that a form may have, if they are listed.
fn listed(form: &Map<String, Value>) -> Option<Vec<Value>> {
    match (form.get("const"), form.get("enum")) {
        (Some(one), _) => Some(vec![one.clone()]),
        (_, Some(Value::Array(all))) => Some(all.clone()),
        _ => None,
    }
}

/// The type of a form, or that of all its values.
fn kind_of(form: &Map<String, Value>) -> Option<&str> {
    let of = |value: &Value| match value {
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("integer"),
        _ => None,
    };
    let value = || form.get("const").or_else(|| form.get("enum")?.as_array()?.first());
    form.get("type").and_then(Value::as_str).or_else(|| value().and_then(of))
}

fn same_parameter(a: &Value, b: &Value) -> bool {
    let name = |of: &Value| of["name"].as_str().unwrap_or_default().to_ascii_lowercase();
    a["in"] == b["in"] && name(a) == name(b)
}

fn parameters(document: &Value, operation: &Value, shared: &Value) -> Vec<Value> {
    let own = operation["parameters"].as_array().into_iter().flatten();
    let all = own.chain(shared.as_array().into_iter().flatten());
    all.map(|parameter| resolve(document, parameter).clone()).collect()
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()
}

fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(target) = reference(value).and_then(|to| document.pointer(to.trim_start_matches('#'))) {
        value = target;
    }
    value
}

/// The forms that a value may have, each with one type and without references at its top.
fn forms(document: &Value, schema: &Value) -> Vec<Map<String, Value>> {
    let beside = schema.as_object().filter(|_| reference(schema).is_some()).cloned();
    let schema = resolve(document, schema);
    let Some(schema) = schema.as_object() else { return vec![Map::new()] };
    let mut schema = schema.clone();
    if let Some(mut beside) = beside {
        beside.remove("$ref");
        merge(&mut schema, beside);
    }
    for part in schema.remove("allOf").as_ref().and_then(Value::as_array).into_iter().flatten() {
        for form in forms(document, part) {
            merge(&mut schema, form);
        }
    }
    for name in ["oneOf", "anyOf"] {
        let alternatives = schema.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        // Alternatives of what must be there say nothing of the form.
        let are_forms =
            alternatives.iter().all(|one| !one.as_object().is_some_and(|one| one.keys().eq(["required"])));
        if !alternatives.is_empty() && are_forms {
            let forms: Vec<_> = alternatives.iter().flat_map(|one| forms(document, one)).collect();
            // Values of which each has a description are one list of values.
            let values: Option<Vec<Value>> =
                forms.iter().map(listed).collect::<Option<Vec<_>>>().map(|all| all.concat());
            return match values {
                Some(values) => vec![Map::from_iter([("enum".to_owned(), Value::Array(values))])],
                None => forms,
            };
        }
    }
    match schema.get("type").cloned() {
        Some(Value::Array(types)) => types
            .into_iter()
            .map(|one| {
                let mut form = schema.clone();
                form.insert("type".to_owned(), one);
                form
            })
            .collect(),
        _ => vec![schema],
    }
}

/// A form for each value of a property that must be there and has few: another document may have a
/// form for each.
fn by_value(document: &Value, form: Map<String, Value>) -> Vec<Map<String, Value>> {
    let required = names(form.get("required"));
    let properties = form.get("properties").and_then(Value::as_object);
    let few = |(name, property): (&String, &Value)| {
        let [only] = &*forms(document, property) else { return None };
        let values = listed(only).filter(|_| required.contains(&**name))?;
        Some((name.clone(), values))
    };
    let Some((name, values)) = properties.into_iter().flatten().find_map(few) else { return vec![form] };
    let with = |value: Value| {
        let mut one = form.clone();
        if let Some(Value::Object(properties)) = one.get_mut("properties") {
            properties.insert(name.clone(), serde_json::json!({ "const": value }));
        }
        one
    };
    values.into_iter().map(with).collect()
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => {
                for (key, value) in more {
                    match (known.get_mut(&key), value) {
                        // The later part is the narrower one.
                        (Some(Value::Object(of)), Value::Object(narrower)) => of.extend(narrower),
                        (_, value) => drop(known.insert(key, value)),
                    }
                }
            }
            // More is required of the whole; of two lists of values, what is in both remains.
            (Some(Value::Array(known)), Value::Array(more)) if name == "required" => known.extend(more),
            (Some(Value::Array(known)), Value::Array(more)) if name == "enum" => {
                known.retain(|one| more.contains(one))
            }
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(operation: &Value) -> Value {
        json!({ "paths": { "/things": { "post": operation } } })
    }

    fn taking(schema: &Value) -> Value {
        document(
            &json!({ "requestBody": { "content": { "application/json": { "schema": schema } } }, "responses": {} }),
        )
    }

    fn saying(schema: &Value) -> Value {
        document(
            &json!({ "responses": { "200": { "content": { "application/json": { "schema": schema } } } } }),
        )
    }

    #[track_caller]
    fn check(old: &Value, new: &Value, want: &[&str]) {
        let found = compare(old, new);
        assert_eq!(found.len(), want.len(), "{found:?}");
        for (found, want) in found.iter().zip(want) {
            assert!(found.contains(want), "{found}: want {want}");
        }
    }

    #[test]
    fn an_operation_or_a_status_that_is_gone_is_found() {
        let old = document(&json!({ "responses": { "200": {}, "404": {} } }));
        check(&old, &json!({ "paths": {} }), &["POST /things: is gone"]);
        let other = document(&json!({ "responses": { "202": {} } }));
        check(&old, &other, &["200 is gone", "202 is an answer that there was not"]);
        check(&old, &old, &[]);
    }

    #[test]
    fn another_credential_or_role_is_found() {
        let of = |scheme: Value, role: &str| {
            let mut of = document(&json!({ "responses": {}, "security": [{ "key": [] }], "x-role": role }));
            of["components"] = json!({ "securitySchemes": { "key": scheme } });
            of
        };
        let (field, bearer) = (json!({ "in": "header", "name": "a" }), json!({ "scheme": "bearer" }));
        check(&of(field.clone(), "reader"), &of(field.clone(), "reader"), &[]);
        check(&of(field.clone(), "reader"), &of(bearer, "reader"), &["another credential"]);
        check(&of(field.clone(), "reader"), &of(field, "owner"), &["the role was reader, and is owner"]);
    }

    #[test]
    fn a_header_that_is_gone_or_may_be_missing_is_found() {
        let with = |headers: Value| document(&json!({ "responses": { "200": { "headers": headers } } }));
        let always = with(
            json!({ "Retry-After": { "required": true, "schema": { "type": "integer", "minimum": 1 } } }),
        );
        let perhaps = with(json!({ "Retry-After": { "schema": { "type": "integer" } } }));
        check(&always, &perhaps, &["Retry-After may be missing now", "minimum was Some(1.0), and is None"]);
        check(&perhaps, &always, &[]);
        check(&always, &with(json!({})), &["Retry-After is gone"]);
    }

    #[test]
    fn each_keyword_is_compared() {
        for (wide, narrow) in [
            (json!({ "type": "number" }), json!({ "type": "integer" })),
            (json!({}), json!({ "type": "string" })),
            (json!({ "type": "string" }), json!({ "type": "string", "pattern": "^a$" })),
            (json!({ "type": "string" }), json!({ "type": "string", "format": "date-time" })),
            (json!({ "type": "string", "maxLength": 9 }), json!({ "type": "string", "maxLength": 8 })),
            (json!({ "type": "integer" }), json!({ "type": "integer", "not": { "const": 0 } })),
            (json!({ "type": "array" }), json!({ "type": "array", "items": { "type": "string" } })),
            (json!({ "type": "array" }), json!({ "type": "array", "minItems": 1 })),
            (
                json!({ "type": "object", "additionalProperties": {} }),
                json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            ),
            (json!({ "type": "object" }), json!({ "type": "object", "oneOf": [{ "required": ["a"] }] })),
        ] {
            check(&taking(&narrow), &taking(&wide), &[]);
            check(&saying(&wide), &saying(&narrow), &[]);
            assert!(!compare(&taking(&wide), &taking(&narrow)).is_empty(), "{wide} to {narrow}, taken");
            assert!(!compare(&saying(&narrow), &saying(&wide)).is_empty(), "{narrow} to {wide}, said");
        }
        let (one, other) = (json!({ "type": "integer" }), json!({ "type": "integer", "multipleOf": 2 }));
        check(&taking(&one), &taking(&other), &["multipleOf differs"]);
        check(&saying(&one), &saying(&other), &["multipleOf differs"]);
    }

    #[test]
    fn a_parameter_that_is_needed_now_is_found() {
        let with = |required: bool| {
            document(
                &json!({ "responses": {}, "parameters": [{ "name": "x", "in": "query", "required": required }] }),
            )
        };
        check(&document(&json!({ "responses": {} })), &with(true), &["\"x\" is needed now"]);
        check(&document(&json!({ "responses": {} })), &with(false), &[]);
        check(&with(false), &with(true), &["\"x\" is needed now"]);
        check(&with(true), &document(&json!({ "responses": {} })), &["\"x\" is gone"]);
    }

    #[test]
    fn what_is_taken_may_become_wider_and_not_narrower() {
        let narrow = json!({ "type": "object", "required": ["a", "b"], "properties": {
            "a": { "type": "integer", "minimum": 1, "maximum": 5 }, "b": { "enum": ["x"] } } });
        let wide = json!({ "type": "object", "required": ["a"], "properties": {
            "a": { "type": "integer", "minimum": 0, "maximum": 9 }, "b": { "enum": ["x", "y"] }, "c": {} } });
        check(&taking(&narrow), &taking(&wide), &[]);
        check(
            &taking(&wide),
            &taking(&narrow),
            &["b: is needed now", "minimum", "maximum", "\"y\" is another value", "c: is gone"],
        );
    }

    #[test]
    fn what_is_said_may_become_narrower_and_not_wider() {
        let narrow = json!({ "type": "object", "required": ["a", "b"], "properties": {
            "a": { "type": "string" }, "b": { "enum": ["x"] } } });
        let wide = json!({ "type": "object", "required": ["a"], "properties": {
            "a": { "type": ["string", "null"] }, "b": { "enum": ["x", "y"] } } });
        check(&saying(&wide), &saying(&narrow), &[]);
        check(
            &saying(&narrow),
            &saying(&wide),
            &["b: may be missing now", "was string, and is null", "\"y\" is another value"],
        );
    }

    #[test]
    fn a_form_for_each_value_is_the_same_as_one_for_all() {
        let of = |kinds: &Value| json!({ "type": "object", "required": ["k"], "properties": { "k": kinds } });
        let one = json!({ "oneOf": [of(&json!({ "enum": ["a", "b"] })), of(&json!({ "const": "c" }))] });
        let each = json!({ "oneOf": [of(&json!({ "const": "a" })), of(&json!({ "const": "b" })), of(&json!({ "const": "c" }))] });
        let fewer = json!({ "oneOf": [of(&json!({ "const": "a" })), of(&json!({ "const": "b" }))] });
        check(&taking(&one), &taking(&each), &[]);
        check(&taking(&one), &taking(&fewer), &["\"c\" is another value"]);
        check(&saying(&one), &saying(&fewer), &[]);
    }

    #[test]
    fn references_and_parts_are_followed() {
        let schemas = json!({ "A": { "type": "object", "required": ["n"], "properties": { "n": { "$ref": "#/s/N" } } },
                              "N": { "type": "integer" } });
        let mut old = saying(&json!({ "$ref": "#/s/A" }));
        old["s"] = schemas.clone();
        let mut new =
            saying(&json!({ "allOf": [{ "$ref": "#/s/A" }, { "properties": { "n": { "minimum": 3 } } }] }));
        new["s"] = schemas;
        check(&old, &new, &[]);
        new["s"]["N"]["type"] = json!("string");
        check(&old, &new, &["200.n: was"]);
    }
}
