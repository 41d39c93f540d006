//! A list where an object with fields is meant. Readers that take one would give the caller's
//! mistake a meaning: so each place of each document, as the descriptions have them, is tried.

use crate::harness::{Server, Setup, http::Client, shop};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where an object is meant in a document of this schema: each step is a field's name, or `[]` for
/// an entry of a list.
fn objects(of: &Value, schemas: &Value, path: &mut Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    /// Documents that may contain themselves.
    const DEPTH_MAX: usize = 6;
    let mut schema = of;
    while let Some(name) = schema["$ref"].as_str() {
        schema = &schemas[name.rsplit('/').next().unwrap()];
    }
    if path.len() > DEPTH_MAX {
        return;
    }
    for kind in ["anyOf", "oneOf", "allOf"] {
        for choice in schema[kind].as_array().into_iter().flatten() {
            objects(choice, schemas, path, found);
        }
    }
    let fields = schema["properties"].as_object();
    if fields.is_some() && !path.is_empty() {
        found.insert(path.clone());
    }
    let entries = Some(("[]".to_owned(), &schema["items"])).filter(|(_, items)| items.is_object());
    let fields = fields.into_iter().flatten().map(|(name, field)| (name.clone(), field));
    for (step, inner) in fields.chain(entries) {
        path.push(step);
        objects(inner, schemas, path, found);
        path.pop();
    }
}

/// A document with an empty list there, and nothing else.
fn document(path: &[String]) -> Value {
    match path.split_first() {
        None => json!([]),
        Some((step, rest)) if step == "[]" => json!([document(rest)]),
        Some((field, rest)) => Value::Object(Map::from_iter([(field.clone(), document(rest))])),
    }
}

/// As an answer names it.
fn name(path: &[String]) -> String {
    path.join(".").replace(".[]", "[0]")
}

#[test]
fn a_list_is_refused_wherever_an_object_is_meant() {
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
    let server = Server::with(Setup { settings, ..Setup::default() });
    server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let key = server.new_key("walker", "owner");
    let client = Client::undescribed();
    let of_store = include_str!("../../../../openapi/store.json");
    let documents = [
        (server.admin_url(""), "?reason=r", gate::reference().openapi()),
        (server.events_url(""), "", notify::reference::reference().openapi()),
        (format!("http://{}", server.store), "?reason=r", of_store),
    ];
    let mut tried = BTreeSet::new();
    for (at, query, text) in documents {
        let described: Value = serde_json::from_str(text).unwrap();
        for (path, item) in described["paths"].as_object().unwrap() {
            // Shoppers' requests have readers of their own, with tests of their own.
            if path.ends_with("/passes") || path.ends_with("/attempts") {
                continue;
            }
            let mut filled = path.clone();
            for (name, value) in [("{sale}", "launch"), ("{item}", "phone"), ("{subscription}", "crm")] {
                filled = filled.replace(name, value);
            }
            let filled = filled.replace("{product}", "mug").replace("{transfer}", "t-1");
            for (method, operation) in item.as_object().unwrap() {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                let mut found = BTreeSet::new();
                objects(schema, &described["components"]["schemas"], &mut Vec::new(), &mut found);
                for place in found {
                    assert!(!filled.contains('{'), "{path}: a parameter that the test does not know");
                    let url = format!("{at}{filled}{query}");
                    let body = document(&place).to_string();
                    let refused = client.admin(&method.to_uppercase(), &url, &key, &body);
                    let what = format!("{method} {path} with {body}: {refused:?}");
                    assert_eq!((refused.status, &*refused.problem()), (422, "invalid"), "{what}");
                    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
                    let says = |wanted| {
                        detail.contains(&format!("{}: want {wanted}, and it is a list", name(&place)))
                    };
                    let choice = "one of the names that it can be, or an object with one";
                    assert!(says("an object with fields") || says(choice), "{what}");
                    tried.insert(format!("{path} {}", name(&place)));
                }
            }
        }
    }
    let known = [
        "/api/v1/admin/sales/{sale} rounds[0].items[0]",
        "/api/v1/subscriptions/{subscription} filters[0]",
        "/api/v1/store/categories categories[0]",
    ];
    assert!(known.iter().all(|known| tried.contains(*known)), "{tried:?}");
}
