//! The seller's list of orders follows what becomes of them, over the message service as it is;
//! how far it is behind, and how far the orders are behind the sales, is on the console's page; and
//! what the catalogue and accounts tell others.

use crate::{
    carts::{Operator, add, check_out, register},
    harness::{Server, poll},
    store::{Shopper, between, form_token, shop, told},
};
use serde_json::{Value, json};

impl Operator<'_> {
    /// The order as it is listed.
    fn listed(&self, order: &str) -> Option<Value> {
        let page = self.get("/orders?limit=100");
        let id = order.strip_prefix("/orders/").unwrap();
        page["orders"].as_array().unwrap().iter().find(|of| of["id"] == id).cloned()
    }

    /// Waits until it is listed as this.
    #[track_caller]
    fn wait_until_listed(&self, order: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        poll("the order is listed as it is", || self.listed(order).filter(|of| is_so(of)))
    }

    fn console(&self, path: &str) -> String {
        let fields = [("authorization", &*format!("Bearer {}", self.key)), ("accept", "text/html")];
        let url = format!("http://{}{path}", self.server.store);
        let reply = self.server.client.send("GET", &url, &fields, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// The events that a subscription has not taken, as the page says. `None`: it does not know.
    fn behind(&self, path: &str, subscription: &str) -> Option<u64> {
        let page = self.console(path);
        let tag = between(&page, &format!("<p data-follows=\"{subscription}\""), ">");
        let (_, count) = tag.split_once("data-behind=\"")?;
        Some(count.trim_end_matches('"').parse().unwrap())
    }
}

/// Stops, or goes on with, what a subscription of the store is delivered.
fn set(server: &Server, subscription: &str, what: &str) {
    let key = server.new_key(&format!("{what}-{subscription}"), "owner");
    let url = server.events_url(&format!("/api/v1/subscriptions/{subscription}/{what}"));
    let because = json!({ "reason": "a test" }).to_string();
    // The store makes it when it first asks.
    poll("the subscription is there", || {
        let done = server.client.admin("POST", &url, &key, &because);
        (done.status == 200).then_some(())
    });
}

#[test]
fn the_list_follows_an_order_from_its_payment_to_its_return() {
    let server = shop();
    let operator = Operator::new(&server);
    poll("the store is open", || operator.try_figures());
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let ann = register(ann);
    let order = check_out(&ann).header("location").to_owned();
    let listed = operator.wait_until_listed(&order, |of| of["state"] == "awaiting_payment");
    assert_eq!(listed["lines"][0]["quantity"], 1, "{listed}");
    assert!(listed.get("address").is_none() && listed.get("history").is_none(), "{listed}");
    ann.wait_for(&order, "Reserved for you");
    ann.choose(&ann.begin_to_pay(&order), "pay");
    operator.wait_until_listed(&order, |of| of["state"] == "allocated" && of["payment"] == "received");
    let ship = json!({ "carrier": "SF", "tracking": "SF1", "reason": "packed" });
    operator.post(&format!("{order}/ship"), &ship);
    operator.wait_until_listed(&order, |of| of["state"] == "shipped");
    operator.post(&format!("{order}/deliver"), &json!({ "reason": "signed for" }));
    operator.wait_until_listed(&order, |of| of["state"] == "delivered");
    let page = ann.get(&format!("{order}/return")).body;
    let form = [
        ("form", form_token(&page)),
        ("number", "1"),
        ("line-0", "1"),
        ("wish", "refund"),
        ("reason", "far too loud for me"),
    ];
    assert_eq!(ann.post(&format!("{order}/return"), &form).status, 303);
    operator.wait_until_listed(&order, |of| of["returns"][0]["state"] == "requested");
    assert_eq!(operator.get("/returns")["orders"].as_array().unwrap().len(), 1);
    let because = json!({ "reason": "fine" });
    operator.post(&format!("{order}/returns/1/approve"), &because);
    operator.post(&format!("{order}/returns/1/receive"), &json!({ "units": "restock", "reason": "as new" }));
    let last = operator
        .wait_until_listed(&order, |of| of["state"] == "refunded" && of["returns"][0]["state"] == "refunded");
    let now = operator.get(&order);
    for same in ["id", "shopper", "state", "payment", "version", "total", "created_at"] {
        assert_eq!(last[same], now[same], "{same}: {last} {now}");
    }
    assert_eq!(operator.get("/returns")["orders"], json!([]), "none waits any more");
    assert_eq!(operator.get("/orders?state=refunded")["orders"][0]["id"], now["id"]);
    // What was told has nothing of what the shopper wrote.
    let events = told(&server, "store-orders");
    assert!(events.iter().any(|event| event["type"] == "floodgate.return.refunded"));
    let all = format!("{events:?}");
    for of_person in ["too loud", "13800138000", "Chang'an", "ann@example.com"] {
        assert!(!all.contains(of_person), "{of_person}");
    }
    // It is built anew beside a store that runs.
    let said = server.output(&["store", "build-list"]);
    assert!(said.ends_with("the list is built\n") && said.contains("1024 of 1024 buckets"), "{said}");
    assert_eq!(operator.listed(&order), Some(last));
}

#[test]
fn the_console_says_how_far_the_list_is_behind_the_orders() {
    let server = shop();
    let operator = Operator::new(&server);
    poll("the store is open", || operator.try_figures());
    poll("nothing is behind", || (operator.behind("/console", "store-listed") == Some(0)).then_some(()));
    set(&server, "store-listed", "pause");
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let ann = register(ann);
    let order = check_out(&ann).header("location").to_owned();
    ann.wait_for(&order, "Reserved for you");
    for path in ["/console", "/console?state=paid", "/console/returns?lang=zh"] {
        let behind = poll("the page says how far it is behind", || {
            operator.behind(path, "store-listed").filter(|count| *count > 0)
        });
        assert!(behind >= 2, "{path}: made, and its units set aside: {behind}");
    }
    assert!(operator.console("/console?lang=en").contains("does not show yet"));
    assert_eq!(operator.listed(&order), None);
    set(&server, "store-listed", "resume");
    operator.wait_until_listed(&order, |of| of["state"] == "awaiting_payment");
    poll("nothing is behind", || (operator.behind("/console", "store-listed") == Some(0)).then_some(()));
}

#[test]
fn the_console_says_how_far_the_orders_are_behind_the_sales() {
    let server = shop();
    let operator = Operator::new(&server);
    poll("the store is open", || operator.try_figures());
    poll("nothing is behind", || (operator.behind("/console", "store-winners") == Some(0)).then_some(()));
    set(&server, "store-winners", "pause");
    let ann = Shopper::new(&server, "Ann");
    let sale = server.sale("demo");
    let outcome = ann.win(&sale, "phone");
    let behind = poll("the page says how far they are behind", || {
        operator.behind("/console?lang=en", "store-winners").filter(|count| *count > 0)
    });
    assert!(behind >= 1);
    assert!(operator.console("/console?lang=en").contains("not in the orders yet"));
    set(&server, "store-winners", "resume");
    let order = ann.order(&sale, &outcome);
    poll("nothing is behind", || (operator.behind("/console", "store-winners") == Some(0)).then_some(()));
    operator.wait_until_listed(&order, |of| of["origin"]["sale"]["sale"] == "demo");
}

#[test]
fn the_catalogue_and_accounts_tell_what_changes() {
    let server = shop();
    let operator = Operator::new(&server);
    poll("the store is open", || operator.try_figures());
    let ann = Shopper::new(&server, "Ann");
    let page = ann.get("/account/settings").body;
    let form = [("form", form_token(&page)), ("name", "Ann Other")];
    assert_eq!(ann.post("/account/name", &form).status, 303);
    let url = format!("http://{}/api/v1/store/products/marsh-keyboard", server.store);
    let mut product = operator.get("/products/marsh-keyboard");
    product["is_published"] = json!(false);
    let done = server.client.admin("PUT", &url, &operator.key, &product.to_string());
    assert_eq!(done.status, 200, "{done:?}");
    let kinds = |topic: &str, subject: &dyn Fn(&str) -> bool| -> Vec<String> {
        let events = told(&server, topic);
        let of = events.iter().filter(|event| subject(event["subject"].as_str().unwrap()));
        of.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    // A topic is there with its first event.
    let key = server.new_key("sees-topics", "owner");
    for topic in ["store-accounts", "store-catalog"] {
        poll(&format!("the topic {topic} is there"), || {
            let all = server.client.admin("GET", &server.events_url("/api/v1/topics"), &key, "");
            all.body.contains(&format!("\"{topic}\"")).then_some(())
        });
    }
    let want = ["floodgate.account.registered", "floodgate.account.renamed"];
    poll("accounts tell", || (kinds("store-accounts", &|_| true) == want).then_some(()));
    let all = format!("{:?}", told(&server, "store-accounts"));
    assert!(!all.contains("Other") && !all.contains("example.com"), "{all}");
    let want = ["floodgate.product.published", "floodgate.product.unpublished"];
    let is_it = |subject: &str| subject == "product/marsh-keyboard";
    poll("the catalogue tells", || (kinds("store-catalog", &is_it) == want).then_some(()));
}
