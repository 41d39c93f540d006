//! `ETag`, `If-None-Match` and `If-Match` of the store's API: what is still so is not sent again,
//! and what another operator has changed meanwhile is not overwritten.

use crate::harness::{Server, Setup, http::Reply, poll};
use serde_json::{Value, json};

fn lamp(slug: &str, price: u64) -> Value {
    json!({
        "slug": slug, "name": { "en": "Lamp", "zh": "台灯" }, "description": { "en": "It shines.", "zh": "会亮。" },
        "category": "lamps", "pictures": [], "position": 1, "is_published": true,
        "variants": [{
            "sku": slug.to_uppercase(), "name": { "en": "", "zh": "" },
            "price": { "amount_minor": price, "currency": "EUR" }, "offered_in": [],
        }],
    })
}

#[test]
fn a_state_that_was_read_is_not_sent_again_and_one_that_has_changed_is_not_overwritten() {
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let server = Server::with(Setup { settings, ..Setup::default() });
    let key = format!("Bearer {}", server.new_key("op", "operator"));
    let send = |method: &str, path: &str, field: Option<(&str, &str)>, body: &Value| -> Reply {
        let mut fields = vec![("authorization", &*key)];
        fields.extend(field);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            fields.push(("content-type", "application/json"));
        }
        server.client.send(method, &format!("http://{}/api/v1/store{path}", server.store), &fields, &body)
    };
    let categories =
        |name: &str| json!({ "categories": [{ "slug": "lamps", "name": { "en": name, "zh": "灯" } }] });
    poll("the store is open", || {
        (send("PUT", "/categories", None, &categories("Lamps")).status == 200).then_some(())
    });

    // A name that is free, or not any more.
    let new = Some(("if-none-match", "*"));
    let made = send("PUT", "/products/lamp", new, &lamp("lamp", 100));
    assert_eq!(made.status, 200, "{made:?}");
    let again = send("PUT", "/products/lamp", new, &lamp("lamp", 200));
    assert_eq!((again.status, again.problem().as_str()), (412, "changed"), "{again:?}");

    // What was read has a tag, which what is stored had already.
    let read = send("GET", "/products/lamp", None, &Value::Null);
    let tag = read.header("etag").to_owned();
    assert_eq!((read.status, &*tag), (200, made.header("etag")), "{read:?}");
    assert_eq!(read.json()["variants"][0]["price"]["amount_minor"], 100);
    let has = send("GET", "/products/lamp", Some(("if-none-match", &tag)), &Value::Null);
    assert_eq!((has.status, &*has.body, has.header("etag")), (304, "", &*tag), "{has:?}");

    // Two have read it; the first change counts.
    let first = send("PUT", "/products/lamp", Some(("if-match", &tag)), &lamp("lamp", 300));
    assert_eq!(first.status, 200, "{first:?}");
    assert_ne!(first.header("etag"), tag);
    for (method, body) in [("PUT", lamp("lamp", 400)), ("DELETE", Value::Null)] {
        let late = send(method, "/products/lamp", Some(("if-match", &tag)), &body);
        assert_eq!((late.status, late.problem().as_str()), (412, "changed"), "{method}: {late:?}");
    }
    let read = send("GET", "/products/lamp", Some(("if-none-match", &tag)), &Value::Null);
    assert_eq!((read.status, read.header("etag")), (200, first.header("etag")), "{read:?}");
    assert_eq!(read.json()["variants"][0]["price"]["amount_minor"], 300);
    for wrong in ["lamp", "\"a\", \"b\"", ""] {
        let refused = send("PUT", "/products/lamp", Some(("if-match", wrong)), &lamp("lamp", 500));
        assert_eq!((refused.status, refused.problem().as_str()), (422, "invalid"), "{wrong}: {refused:?}");
    }
    let absent = send("PUT", "/products/none", Some(("if-match", "*")), &lamp("none", 500));
    assert_eq!((absent.status, absent.problem().as_str()), (412, "changed"), "{absent:?}");

    // Categories, by the answer in which they were read.
    let tag = send("GET", "/categories", None, &Value::Null).header("etag").to_owned();
    let first = send("PUT", "/categories", Some(("if-match", &tag)), &categories("Lights"));
    assert_eq!(first.status, 200, "{first:?}");
    let late = send("PUT", "/categories", Some(("if-match", &tag)), &categories("Lanterns"));
    assert_eq!((late.status, late.problem().as_str()), (412, "changed"), "{late:?}");
    let now = send("GET", "/categories", None, &Value::Null);
    assert_eq!(now.json()["categories"][0]["name"]["en"], "Lights");

    let current = send("GET", "/products/lamp", None, &Value::Null).header("etag").to_owned();
    assert_eq!(send("DELETE", "/products/lamp", Some(("if-match", &current)), &Value::Null).status, 200);
    assert_eq!(send("GET", "/products/lamp", None, &Value::Null).status, 404);
}
