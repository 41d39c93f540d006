//! HTML and SQL in every text that a shopper or an operator can type: it is refused by name, or it
//! is kept and shown as the text that it is, on every page and in every language; and all tables
//! are still there.

use crate::{
    carts::Operator,
    harness::{Server, Setup, mariadb::MariaDb, poll},
    store::{Shopper, between, encoded, form_token},
};
use serde_json::{Value, json};

/// Of 61 characters, so that it fits every field with room for some.
const HOSTILE: &str = "x\"'><script>alert(1)</script>'; DROP TABLE orders; -- \\ % _ ?";

#[test]
fn html_and_sql_in_every_field_are_text_or_are_refused() {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    in_every_field(&Server::with(Setup { serve, settings, ..Setup::default() }));
}

#[test]
fn html_and_sql_in_every_field_are_text_or_are_refused_on_mariadb() {
    let maria = MariaDb::start();
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\n", maria.url("hostile"));
    in_every_field(&Server::with(Setup { serve, settings, ..Setup::default() }));
}

fn in_every_field(server: &Server) {
    let operator = Operator::new(server);
    let before = poll("the store is open", || operator.try_figures());
    let put = |path: &str, body: &Value| {
        let url = format!("http://{}/api/v1/store{path}", server.store);
        let reply = server.client.admin("PUT", &url, &operator.key, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    };
    // What operators type: names, descriptions, reasons, carriers.
    let both = json!({ "en": HOSTILE, "zh": HOSTILE });
    let categories = operator.get("/categories")["categories"].as_array().unwrap().clone();
    let with: Vec<Value> =
        categories.into_iter().chain([json!({ "slug": "hostile", "name": both })]).collect();
    put("/categories", &json!({ "categories": with }));
    let product = json!({
        "slug": "hostile", "name": both, "description": both, "category": "hostile", "pictures": [],
        "position": 1, "is_published": true,
        "variants": [
            { "sku": "HOSTILE-1", "name": both, "price": { "amount_minor": 500, "currency": "CNY" }, "offered_in": [] },
            { "sku": "HOSTILE-2", "name": { "en": "b", "zh": "b" }, "price": { "amount_minor": 500, "currency": "CNY" }, "offered_in": [] },
        ],
    });
    put("/products/hostile", &product);
    let warehouse = json!({
        "name": HOSTILE, "ships": true, "parcel_cost": 0, "days": 0, "reason": HOSTILE,
    });
    put("/warehouses/hostile", &warehouse);
    let url = format!("http://{}/api/v1/store/stock/HOSTILE-1", server.store);
    server.client.admin("PUT", &url, &operator.key, "");
    operator
        .post("/stock/HOSTILE-1/receive", &json!({ "units": 9, "warehouse": "hostile", "reason": HOSTILE }));
    operator
        .post("/stock/HOSTILE-1/adjust", &json!({ "change": -1, "warehouse": "hostile", "reason": HOSTILE }));
    operator
        .post("/stock/HOSTILE-1/count", &json!({ "counted": 7, "warehouse": "hostile", "reason": HOSTILE }));
    put("/claims/hostile/HOSTILE-1", &json!({ "units": 2, "reason": HOSTILE }));

    // What shoppers type.
    let mut ann = Shopper::stranger(server);
    let account =
        [("name", HOSTILE), ("email", "ann@example.com"), ("password", HOSTILE), ("next", "/orders")];
    let reply = ann.post("/account/register", &account);
    assert_eq!(reply.status, 303, "{reply:?}");
    ann.keep_session(&reply);
    let page = ann.get("/p/hostile").body;
    let line = [("form", form_token(&page)), ("sku", "HOSTILE-1"), ("quantity", "2")];
    assert_eq!(ann.post("/cart", &line).status, 303);
    let page = ann.get("/cart/check-out").body;
    let field = |name: &str| between(&page, &format!("name=\"{name}\" value=\""), "\"").to_owned();
    let (key, total) = (field("key"), field("total-standard"));
    let good = [
        ("form", form_token(&page)),
        ("key", &key),
        ("total-standard", &total),
        ("shipping", "standard"),
        ("name", HOSTILE),
        ("phone", "13800138000"),
        ("street", HOSTILE),
        ("city", HOSTILE),
        ("country", "CN"),
    ];
    // Where only a choice, a number or an id can stand, it is refused, and the form shown again
    // has it as text.
    for name in ["key", "total-standard", "shipping", "phone", "country"] {
        let with = good.map(|(field, value)| (field, if field == name { HOSTILE } else { value }));
        let reply = ann.post("/cart/check-out", &with);
        assert!([404, 409, 422].contains(&reply.status), "{name}: {reply:?}");
        is_text(name, &reply.body, false);
    }
    let reply = ann.post("/cart/check-out", &good);
    assert_eq!(reply.status, 303, "{reply:?}");
    let order = reply.header("location").to_owned();
    ann.choose(&ann.begin_to_pay(&order), "pay");
    operator.wait_for(&order, "allocated");
    operator.post(
        &format!("{order}/ship"),
        &json!({ "carrier": HOSTILE, "tracking": HOSTILE, "reason": HOSTILE }),
    );
    operator.post(&format!("{order}/deliver"), &json!({ "reason": HOSTILE }));
    let page = ann.get(&format!("{order}/return")).body;
    let back = [
        ("form", form_token(&page)),
        ("number", "1"),
        ("line-0", "1"),
        ("wish", "refund"),
        ("reason", HOSTILE),
    ];
    assert_eq!(ann.post(&format!("{order}/return"), &back).status, 303);
    operator.post(&format!("{order}/returns/1/reject"), &json!({ "reason": HOSTILE }));
    let accounts = operator.get("/accounts?email=ann%40example.com");
    let id = accounts["accounts"][0]["account"].as_str().unwrap().to_owned();
    operator.post(&format!("/accounts/{id}/lock"), &json!({ "reason": HOSTILE }));
    operator.post(&format!("/accounts/{id}/unlock"), &json!({ "reason": HOSTILE }));
    let mut ann = Shopper::stranger(server);
    let again = [("email", "ann@example.com"), ("password", HOSTILE), ("next", "/orders")];
    let reply = ann.post("/account/log-in", &again);
    assert_eq!(reply.status, 303, "a password is a password: {reply:?}");
    ann.keep_session(&reply);
    for name in ["email", "password"] {
        let with = again.map(|(field, value)| (field, if field == name { "x\"'><script>" } else { value }));
        let reply = Shopper::stranger(server).post("/account/log-in", &with);
        assert!(reply.status == 422 || reply.status == 403 || reply.status == 401, "{name}: {reply:?}");
        assert!(!reply.body.contains("\"><script>"), "{name}: {}", reply.body);
    }

    let words = encoded(&[("q", HOSTILE)]);
    let words = words.strip_prefix("q=").unwrap();
    let mut seen = 0;
    for lang in ["en", "zh"] {
        let of_shopper = [
            "/".to_owned(),
            "/p/hostile".into(),
            "/c/hostile".into(),
            format!("/search?q={words}"),
            format!("/search?q=x&category={words}"),
            format!("/p/{words}"),
            format!("/orders/{words}"),
            format!("/account/log-in?next={words}"),
            format!("/account/reset?link={words}"),
            "/cart".into(),
            "/orders".into(),
            order.clone(),
            format!("{order}/return"),
            "/account".into(),
            "/account/settings".into(),
        ];
        for path in of_shopper {
            let path = format!("{path}{}lang={lang}", if path.contains('?') { "&" } else { "?" });
            let page = ann.get(&path);
            assert!([200, 303, 404, 422].contains(&page.status), "{path}: {page:?}");
            seen += usize::from(is_text(&path, &page.body, true));
        }
        let of_operator = [
            "/console".to_owned(),
            format!("/console{order}"),
            "/console/returns".into(),
            "/console/returns?state=rejected".into(),
            "/console/payments".into(),
            "/console/accounts".into(),
            format!("/console/accounts/{id}"),
            format!("/console/accounts?email={words}"),
            "/console/products".into(),
            "/console/products/hostile".into(),
            "/console/stock".into(),
            "/console/stock/HOSTILE-1".into(),
            "/console/stock/HOSTILE-1/hostile".into(),
            "/console/claims?sale=hostile".into(),
            "/console/warehouses".into(),
            "/console/trail/catalog".into(),
            "/console/trail/accounts".into(),
            "/console/trail/stock".into(),
        ];
        for path in of_operator {
            let url = format!(
                "http://{}{path}{}lang={lang}",
                server.store,
                if path.contains('?') { "&" } else { "?" }
            );
            let bearer = format!("Bearer {}", operator.key);
            let fields = [("authorization", &*bearer), ("accept", "text/html")];
            let page = ann.client.send("GET", &url, &fields, "");
            assert!([200, 422].contains(&page.status), "{path}: {page:?}");
            seen += usize::from(is_text(&path, &page.body, true));
        }
    }
    // Where it was kept it is shown: the pages above are the right ones.
    assert!(seen >= 24, "{seen} pages show it");
    let found = operator.get(&order);
    assert_eq!(found["address"]["street"], HOSTILE);
    assert_eq!(found["delivery"]["carrier"], HOSTILE);
    assert_eq!(found["returns"][0]["history"][0]["reason"], HOSTILE);
    assert_eq!(operator.get("/products/hostile")["name"]["zh"], HOSTILE);
    assert_eq!(operator.try_figures(), Some(before), "another SKU's stock");
    assert_eq!(operator.get("/stock-audit")["differences"], json!([]));
}

/// Whether a page shows it; it must be as text.
#[track_caller]
fn is_text(what: &str, page: &str, is_whole: bool) -> bool {
    assert!(!page.contains("<script>alert"), "{what}: {page}");
    assert!(!page.contains("x\"'>") && !page.contains("x\"&#39;>"), "{what}: {page}");
    assert!(!is_whole || page.contains("</html>") || page.is_empty(), "{what}: {page}");
    page.contains("&lt;script&gt;alert(1)")
}
