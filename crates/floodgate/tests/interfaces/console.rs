//! The console of the shop: categories, the stock, customers, and what each role may do there. What
//! another operator has changed meanwhile is not overwritten.

use crate::{
    harness::{Server, http::Reply, poll, stdout},
    store::{Shopper, form_token, shop},
};
use serde_json::{Value, json};

/// An operator with a browser, and the key by which they signed in.
struct Operator<'a> {
    browser: Shopper<'a>,
    server: &'a Server,
    key: String,
}

impl<'a> Operator<'a> {
    fn new(server: &'a Server, name: &str, role: &str) -> Self {
        let key = server.new_key(name, role);
        let at = format!("http://{}", server.store);
        let link = stdout(&server.command(&["key", "sign-in", "--at", &at, name]));
        let reply = server.client.send("POST", link.trim(), &[], "");
        assert_eq!(reply.status, 303, "{reply:?}");
        let mut browser = Shopper::stranger(server);
        browser.session = reply.header("set-cookie").split(';').next().unwrap().to_owned();
        Self { browser, server, key }
    }

    fn page(&self, path: &str) -> String {
        let reply = self.browser.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// Sends a form of the page at `from`.
    fn send(&self, from: &str, to: &str, fields: &[(&str, &str)]) -> Reply {
        let page = self.page(from);
        let token = match page.contains("name=\"form\"") {
            true => form_token(&page).to_owned(),
            false => String::new(),
        };
        self.browser.post(to, &[&[("form", &*token), ("lang", "en")], fields].concat())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        let url = format!("http://{}/api/v1/store{path}", self.server.store);
        self.server.client.admin(method, &url, &self.key, &body.to_string())
    }
}

/// The value of a hidden field.
fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    page.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1.split_once('"').unwrap().0
}

fn open() -> Server {
    let server = shop();
    let stranger = Shopper::stranger(&server);
    poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
    server
}

#[test]
fn categories_are_made_renamed_ordered_and_removed_when_they_are_empty() {
    let server = open();
    let op = Operator::new(&server, "op", "operator");
    let names = || {
        let all = op.ask("GET", "/categories", &json!({})).json();
        let all = all["categories"].as_array().unwrap().clone();
        all.iter().map(|of| of["slug"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = names();
    assert_eq!(before.len(), 6);
    let page = "/console/categories";
    // All that the form has, with other values for some.
    let save = |seen: &str, change: &[(&str, &str)]| {
        let shown = op.page(page);
        let mut fields: Vec<(String, String)> = vec![("seen".into(), seen.to_owned())];
        for at in 0..=names().len() {
            for name in ["slug", "place", "en", "zh"] {
                let field = format!("{name}-{at}");
                let tag = shown.split(&format!("name=\"{field}\"")).nth(1).unwrap_or_default();
                let tag = tag.split('>').next().unwrap();
                let value =
                    tag.split_once("value=\"").map_or("", |(_, rest)| rest.split('"').next().unwrap());
                fields.push((field, value.to_owned()));
            }
        }
        for (name, value) in change {
            fields.retain(|(field, _)| field != name);
            fields.push(((*name).into(), (*value).into()));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        op.send(page, "/console/categories/save", &fields)
    };
    let seen = hidden(&op.page(page), "seen").to_owned();
    let new = [
        ("slug-6", "toys"),
        ("en-6", "Toys"),
        ("zh-6", "玩具"),
        ("place-6", "1"),
        ("place-0", "2"),
        ("en-0", "Phones & more"),
    ];
    let reply = save(&seen, &new);
    assert_eq!((reply.status, reply.header("location")), (303, "/console/categories?lang=en"), "{reply:?}");
    assert_eq!(names()[..2], ["toys".to_owned(), before[0].clone()]);
    assert!(op.page(page).contains("Phones &amp; more"));
    // The page that was seen before does not overwrite it.
    let late = save(&seen, &[]);
    assert!(late.status == 422 && late.body.contains("changed meanwhile"), "{late:?}");
    let seen = hidden(&op.page(page), "seen").to_owned();
    let full = save(&seen, &[("remove-1", "yes")]);
    assert!(full.status == 422 && full.body.contains("has products"), "{full:?}");
    // Nothing of it is done, also not to one that is empty.
    let both = save(&seen, &[("remove-0", "yes"), ("remove-1", "yes")]);
    assert!(both.status == 422 && both.body.contains("has products"), "{both:?}");
    assert_eq!(names()[0], "toys");
    let wrong = save(&seen, &[("en-0", "")]);
    assert!(wrong.status == 422 && wrong.body.contains("toys: name.en"), "{wrong:?}");
    assert_eq!(save(&seen, &[("remove-0", "yes")]).status, 303);
    assert_eq!(names(), before);
    let trail = op.ask("GET", "/trail/catalog?subject=toys", &json!({})).json();
    let did: Vec<_> = trail["steps"].as_array().unwrap().iter().map(|of| of["did"].clone()).collect();
    assert_eq!(did, [json!("category.remove"), json!("category.make")]);
    assert_eq!(trail["steps"][0]["actor"], "op");
    assert!(op.page("/console/trail/catalog?subject=toys").contains("category.make"));
}

#[test]
fn stock_is_received_counted_and_claimed_by_forms() {
    let server = open();
    let op = Operator::new(&server, "op", "operator");
    let sku = "/console/stock/HELM-MOUNT";
    let on_hand = || op.ask("GET", "/stock/HELM-MOUNT", &json!({})).json()["on_hand"].clone();
    assert!(op.page("/console/stock?q=helm").contains("HELM-MOUNT"));
    assert_eq!(on_hand(), 3);
    let shown = op.page(sku);
    let (key, seen) = (hidden(&shown, "key").to_owned(), hidden(&shown, "seen").to_owned());
    let send = |what: &str, units: &str, more: &[(&str, &str)]| {
        let fields = [("sku", "HELM-MOUNT"), ("what", what), ("units", units), ("reason", "a delivery")];
        op.send(sku, "/console/stock/operate", &[&fields, more].concat())
    };
    // The same form twice is one command.
    for _ in 0..2 {
        let reply = send("receive", "5", &[("key", &key)]);
        assert_eq!(reply.status, 303, "{reply:?}");
    }
    assert_eq!(on_hand(), 8);
    let late = send("count", "2", &[("seen", &seen)]);
    assert!(late.status == 422 && late.body.contains("8 units are on hand by now"), "{late:?}");
    assert_eq!(send("count", "7", &[("seen", "8")]).status, 303);
    assert_eq!(send("adjust", "-1", &[]).status, 303);
    assert_eq!(on_hand(), 6);
    let lost = send("adjust", "-7", &[]);
    assert_eq!(lost.status, 422, "{lost:?}");
    let no_reason = [("sku", "HELM-MOUNT"), ("what", "receive"), ("units", "1"), ("reason", "")];
    assert_eq!(op.send(sku, "/console/stock/operate", &no_reason).status, 422);
    let ledger = op.page(sku);
    for want in ["a delivery", "received", "counted", "adjusted"] {
        assert!(ledger.contains(want), "{want}: {ledger}");
    }
    let claim = |units: &str, seen: &str| {
        let fields = [
            ("sale", "autumn"),
            ("what", "set"),
            ("sku", "HELM-MOUNT"),
            ("units", units),
            ("seen", seen),
            ("reason", "for the sale"),
        ];
        op.send("/console/claims?sale=autumn", "/console/claims/operate", &fields)
    };
    assert_eq!(claim("4", "0").status, 303);
    let late = claim("1", "0");
    assert!(late.status == 422 && late.body.contains("4 units are claimed"), "{late:?}");
    assert!(op.page("/console/claims?sale=autumn").contains("HELM-MOUNT"));
    let back = [("sale", "autumn"), ("what", "return"), ("reason", "over")];
    assert_eq!(op.send("/console/claims?sale=autumn", "/console/claims/operate", &back).status, 303);
    assert!(op.page("/console/claims?sale=autumn").contains("given back"));
    let known = [("sku", "NEW-THING")];
    let reply = op.send("/console/stock", "/console/stock/make-known", &known);
    assert_eq!((reply.status, reply.header("location")), (303, "/console/stock/NEW-THING?lang=en"));
    assert!(op.page("/console/stock/NEW-THING").contains("Nothing has moved yet"));
}

#[test]
fn warehouses_are_made_and_changed_by_forms_and_stock_is_received_in_each() {
    let server = open();
    let op = Operator::new(&server, "op", "operator");
    let place = "/console/warehouses";
    let put = |fields: &[(&str, &str)]| op.send(place, "/console/warehouses/put", fields);
    let east =
        [("warehouse", "east"), ("name", "East"), ("ships", "yes"), ("parcel_cost", "9"), ("days", "2")];
    let with = |seen: &'static str| [&east[..], &[("seen", seen), ("reason", "it opens")]].concat();
    assert_eq!(put(&with("0")).status, 303);
    assert_eq!(put(&with("0")).status, 303, "the form was sent twice");
    let other =
        [&east[..3], &[("parcel_cost", "7"), ("days", "2"), ("seen", "0"), ("reason", "cheaper")]].concat();
    let late = put(&other);
    assert!(late.status == 422 && late.body.contains("its version is 1 by now"), "{late:?}");
    for wrong in [("days", "x"), ("warehouse", "E"), ("name", "")] {
        let fields: Vec<_> =
            with("1").into_iter().filter(|(name, _)| *name != wrong.0).chain([wrong]).collect();
        let said = put(&fields);
        assert!(said.status == 422 && said.body.contains(wrong.0), "{wrong:?}: {said:?}");
    }
    let page = op.page(place);
    assert!(page.contains("East") && page.contains("/console/trail/stock"), "{page}");
    let trail = op.page("/console/trail/stock?subject=east");
    for want in ["warehouse.put", "it opens", "cost of a parcel: 9"] {
        assert!(trail.contains(want), "{want}: {trail}");
    }
    let sku = "/console/stock/HELM-MOUNT/east";
    let fields = [
        ("sku", "HELM-MOUNT"),
        ("warehouse", "east"),
        ("what", "receive"),
        ("units", "5"),
        ("reason", "moved"),
    ];
    let received = op.send(sku, "/console/stock/operate", &fields);
    assert_eq!(
        (received.status, received.header("location")),
        (303, "/console/stock/HELM-MOUNT/east?lang=en")
    );
    let page = op.page(sku);
    assert!(
        page.contains("In each warehouse") && page.contains("moved") && page.contains("aria-current"),
        "{page}"
    );
    assert!(page.contains("/console/stock/HELM-MOUNT/east?lang=zh"), "the same warehouse in Chinese");
    assert!(!op.page("/console/stock/HELM-MOUNT").contains("moved"), "it is not in the ledger of main");
}

#[test]
fn an_account_is_found_locked_and_unlocked_and_each_role_does_its_part() {
    let server = open();
    let (op, support) = (Operator::new(&server, "op", "operator"), Operator::new(&server, "help", "support"));
    let reader = Operator::new(&server, "reads", "read-only");
    let ann = Shopper::new(&server, "Ann");
    let found = reader.browser.get("/console/accounts?q=ANN@example.com");
    assert_eq!(found.status, 303, "{found:?}");
    let page = found.header("location").split('?').next().unwrap().to_owned();
    let id = page.rsplit('/').next().unwrap().to_owned();
    let shown = reader.page(&page);
    assert!(shown.contains("ann@example.com") && !shown.contains("argon2"), "{shown}");
    assert!(!shown.contains("name=\"form\""), "a reader has no forms");
    assert!(reader.page(&format!("/console?shopper={id}")).contains("There are none."));
    assert!(reader.page("/console/accounts").contains(&id));

    let of_support = support.page(&page);
    assert!(of_support.contains("send-reset") && !of_support.contains("accounts/operate"), "{of_support}");
    let send = |by: &Operator<'_>, to: &str, what: &str| {
        by.send(&page, to, &[("account", &*id), ("what", what), ("reason", "on the phone")]).status
    };
    let (operate, reset) = ("/console/accounts/operate", "/console/accounts/send-reset");
    assert_eq!(send(&support, reset, "send-reset"), 303);
    assert_eq!(send(&reader, reset, "send-reset"), 403);
    assert_eq!(send(&support, operate, "lock"), 403);
    assert_eq!(ann.get("/account").status, 200);
    assert_eq!(send(&op, operate, "lock"), 303);
    assert_eq!(ann.get("/account").status, 303, "its session is over");
    let form = [("email", "ann@example.com"), ("password", "correct horse"), ("next", "/")];
    assert_eq!(ann.post("/account/log-in", &form).status, 422, "it cannot log in");
    assert!(op.page(&page).contains("locked since"));
    assert_eq!(send(&op, operate, "unlock"), 303);
    assert_eq!(ann.post("/account/log-in", &form).status, 303);

    // By the API.
    let because = json!({ "reason": "on the phone" });
    let path = |what: &str| format!("/accounts/{id}/{what}");
    for (by, what, status) in [
        (&reader, "send-reset", 403),
        (&support, "send-reset", 200),
        (&support, "lock", 403),
        (&support, "end-sessions", 403),
        (&op, "end-sessions", 200),
    ] {
        assert_eq!(by.ask("POST", &path(what), &because).status, status, "{what}");
    }
    let listed = reader.ask("GET", "/accounts?email=ann@example.com", &json!({})).json();
    assert_eq!(listed["accounts"][0]["account"], json!(id));
    assert_eq!(reader.ask("GET", &format!("/accounts/{id}"), &json!({})).json()["name"], "Ann");
    let trail = reader.ask("GET", &format!("/trail/accounts?subject={id}"), &json!({})).json();
    let did: Vec<_> =
        trail["steps"].as_array().unwrap().iter().map(|of| (&of["actor"], &of["did"])).collect();
    let [op_, help] = [json!("op"), json!("help")];
    let [end, unlock, lock] =
        ["account.end-sessions", "account.unlock", "account.lock"].map(|did| json!(did));
    let sent = json!("account.send-reset");
    assert_eq!(did, [(&op_, &end), (&help, &sent), (&op_, &unlock), (&op_, &lock), (&help, &sent)]);
    assert!(reader.page("/console/trail/accounts").contains("account.lock"));

    // Support changes no price, no stock, and gives no money back.
    let units = json!({ "units": 1, "reason": "x" });
    assert_eq!(support.ask("POST", "/stock/HELM-MOUNT/receive", &units).status, 403);
    assert_eq!(support.ask("DELETE", "/products/helm-mount", &json!({})).status, 403);
    let order = "/orders/00000000000000000000000000";
    let sum = json!({ "number": 1, "amount_minor": 1, "reason": "x" });
    assert_eq!(support.ask("POST", &format!("{order}/refunds"), &sum).status, 403);
    for (what, status) in [("cancel", 404), ("allocate", 403), ("deliver", 403)] {
        assert_eq!(support.ask("POST", &format!("{order}/{what}"), &because).status, status, "{what}");
    }
    for (what, status) in [("approve", 404), ("reject", 404), ("settle", 403)] {
        let path = format!("{order}/returns/1/{what}");
        assert_eq!(support.ask("POST", &path, &because).status, status, "{what}");
    }
    let by_form = |what: &str, to: &str| {
        let fields = [
            ("order", "00000000000000000000000000"),
            ("what", what),
            ("reason", "x"),
            ("number", "1"),
            ("amount", "1"),
        ];
        support.send(&page, to, &fields).status
    };
    assert_eq!(by_form("refund", "/console/orders/operate"), 403);
    assert_eq!(by_form("refund", "/console/orders/support"), 422);
    assert_eq!(by_form("cancel", "/console/orders/support"), 404);
}
