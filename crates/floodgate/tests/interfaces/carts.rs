//! The cart: what a visitor puts into it comes along, becomes an order that waits for its payment,
//! is paid, shipped, and comes back; and what is made up about it is refused.

use crate::{
    harness::{Server, Setup, mariadb::MariaDb, poll},
    store::{Shopper, between, form_token, shop, with_address},
};
use serde_json::{Value, json};

/// A product of the demo that is in no sale.
const SKU: &str = "MARSH-KEYBOARD";

pub(crate) struct Operator<'a> {
    pub(crate) server: &'a Server,
    pub(crate) key: String,
}

impl<'a> Operator<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, key: server.new_key("op", "operator") }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/store{path}", self.server.store)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let reply = self.server.client.admin("GET", &self.url(path), &self.key, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.server.client.admin("POST", &self.url(path), &self.key, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// On hand, reserved, free.
    #[track_caller]
    fn figures(&self) -> [u64; 3] {
        self.try_figures().expect("the stock answers")
    }

    pub(crate) fn try_figures(&self) -> Option<[u64; 3]> {
        let url = self.url(&format!("/stock/{SKU}"));
        let reply = self.server.client.try_send(
            "GET",
            &url,
            &[("authorization", &format!("Bearer {}", self.key))],
            "",
        );
        let level = reply.ok().filter(|reply| reply.status == 200)?.json();
        Some(["on_hand", "reserved", "free"].map(|figure| level[figure].as_u64().unwrap()))
    }

    /// Waits until an order is in this state.
    #[track_caller]
    pub(crate) fn wait_for(&self, order: &str, state: &str) -> Value {
        poll(&format!("the order is {state}"), || {
            let found = self.get(order);
            (found["state"] == state).then_some(found)
        })
    }
}

/// Fills in the checkout's form as the page has it.
pub(crate) fn check_out(shopper: &Shopper<'_>) -> crate::harness::http::Reply {
    let page = shopper.get("/cart/check-out").body;
    let form = filled(&page);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (&**name, &**value)).collect();
    shopper.post("/cart/check-out", &form)
}

fn filled(page: &str) -> Vec<(String, String)> {
    let key = between(page, "name=\"key\" value=\"", "\"");
    let total = between(page, "name=\"total-standard\" value=\"", "\"");
    let fields =
        [("form", form_token(page)), ("key", key), ("total-standard", total), ("shipping", "standard")];
    with_address(&fields).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Registers with what the stranger has in the cart.
#[track_caller]
pub(crate) fn register(mut stranger: Shopper<'_>) -> Shopper<'_> {
    let form = [
        ("name", "Ann"),
        ("email", "ann@example.com"),
        ("password", "correct horse"),
        ("next", "/cart/check-out"),
    ];
    let reply = stranger.post("/account/register", &form);
    assert_eq!((reply.status, reply.header("location")), (303, "/cart/check-out"), "{reply:?}");
    stranger.keep_session(&reply);
    stranger
}

#[track_caller]
pub(crate) fn add<'a>(shopper: &mut Shopper<'a>, quantity: &str) {
    let page = shopper.get("/p/marsh-keyboard").body;
    let form = [("form", form_token(&page)), ("sku", SKU), ("quantity", quantity)];
    let reply = shopper.post("/cart", &form);
    assert_eq!((reply.status, reply.header("location")), (303, "/cart"), "{reply:?}");
    if shopper.session.is_empty() {
        let cookie = reply.header("set-cookie");
        assert!(cookie.starts_with("shop_cart=") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        shopper.session = cookie.split(';').next().unwrap().to_owned();
    }
}

#[test]
fn a_visitor_fills_a_cart_registers_pays_gets_the_parcel_and_sends_a_part_back() {
    from_the_cart_to_the_refund(&shop());
}

#[test]
fn from_the_cart_to_the_refund_on_mariadb() {
    let maria = MariaDb::start();
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\n", maria.url("carts"));
    from_the_cart_to_the_refund(&Server::with(Setup { serve, settings, ..Setup::default() }));
}

pub(crate) fn from_the_cart_to_the_refund(server: &Server) {
    to_the_refund(&Operator::new(server));
}

pub(crate) fn to_the_refund(operator: &Operator<'_>) {
    let server = operator.server;
    let before = poll("the store is open", || operator.try_figures());
    let mut ann = Shopper::stranger(server);
    add(&mut ann, "2");
    let cart = ann.get("/cart").body;
    assert!(cart.contains("value=\"2\"") && cart.contains("<span class=\"badge\">2<"), "{cart}");
    assert!(ann.get("/cart/check-out").body.contains("href=\"/account/log-in?next=%2Fcart%2Fcheck-out\""));
    // What was in the cart comes along.
    let guest = ann.session.clone();
    let ann = register(ann);
    assert_ne!(guest, ann.session);
    let page = ann.get("/cart/check-out").body;
    let form = filled(&page);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (&**name, &**value)).collect();
    let reply = ann.post("/cart/check-out", &form);
    assert_eq!(reply.status, 303, "{reply:?}");
    let order = reply.header("location").to_owned();
    let headline = ann.wait_for(&order, "Reserved for you");
    assert!(
        headline.contains("Chang&#39;an Street 1 &lt;b&gt;")
            || headline.contains("Chang'an Street 1 &lt;b&gt;"),
        "{headline}"
    );
    // The page was sent twice.
    assert_eq!(ann.post("/cart/check-out", &form).header("location"), order);
    assert_eq!(ann.get("/orders").body.matches("<li class=\"card\">").count(), 1);
    assert_eq!(operator.figures(), [before[0], before[1] + 2, before[2] - 2]);
    assert!(ann.get("/cart").body.contains("Your cart is empty."));

    ann.choose(&ann.begin_to_pay(&order), "pay");
    ann.wait_for(&order, "Paid: it is yours");
    operator.wait_for(&order, "allocated");
    let ship = json!({ "carrier": "SF", "tracking": "SF1", "reason": "packed" });
    operator.post(&format!("{order}/ship"), &ship);
    poll("the units have left the house", || {
        (operator.figures() == [before[0] - 2, before[1], before[2] - 2]).then_some(())
    });
    let delivered = operator.post(&format!("{order}/deliver"), &json!({ "reason": "signed for" }));
    let total = delivered["total"]["amount_minor"].as_u64().unwrap();

    // One of the two comes back.
    let page = ann.get(&format!("{order}/return")).body;
    let form = [
        ("form", form_token(&page)),
        ("number", "1"),
        ("line-0", "1"),
        ("wish", "refund"),
        ("reason", "too loud"),
    ];
    // A form that lacks its reason is shown again with what was typed.
    let unexplained = [("form", form_token(&page)), ("number", "1"), ("line-0", "1"), ("wish", "exchange")];
    let refused = ann.post(&format!("{order}/return"), &unexplained);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(between(&refused.body, "id=\"line-0\"", ">").contains("value=\"1\""), "{}", refused.body);
    assert!(between(&refused.body, "value=\"exchange\"", ">").contains("checked"), "{}", refused.body);
    assert!(refused.body.contains("id=\"reason-error\""), "{}", refused.body);
    assert_eq!(ann.post(&format!("{order}/return"), &form).status, 303);
    assert_eq!(ann.post(&format!("{order}/return"), &form).status, 303, "sent twice");
    assert!(ann.get(&order).body.contains("Return requested"));
    poll("the return is listed", || {
        let waiting = operator.get("/returns");
        (waiting["orders"][0]["returns"].as_array()?.len() == 1).then_some(())
    });
    let because = json!({ "reason": "fine" });
    operator.post(&format!("{order}/returns/1/approve"), &because);
    operator.post(&format!("{order}/returns/1/receive"), &json!({ "units": "restock", "reason": "as new" }));
    let refunded = operator.wait_for(&order, "part_refunded");
    assert_eq!(refunded["returns"][0]["refund_minor"], total / 2);
    ann.wait_for(&order, "Refunded in part");
    poll("the unit is back", || {
        (operator.figures() == [before[0] - 1, before[1], before[2] - 1]).then_some(())
    });
    let payments = operator.get("/payments");
    assert_eq!(payments["payments"][0]["refunded_minor"], total / 2, "{payments}");
    assert_eq!(payments["payments"][0]["state"], "succeeded", "{payments}");
    // And all the rest.
    let page = ann.get(&format!("{order}/return")).body;
    let form = [
        ("form", form_token(&page)),
        ("number", "2"),
        ("line-0", "1"),
        ("wish", "refund"),
        ("reason", "too loud"),
    ];
    assert_eq!(ann.post(&format!("{order}/return"), &form).status, 303);
    operator.post(&format!("{order}/returns/2/approve"), &because);
    operator.post(&format!("{order}/returns/2/receive"), &json!({ "units": "scrap", "reason": "broken" }));
    operator.wait_for(&order, "refunded");
    poll("what is broken is not sold again", || {
        (operator.figures() == [before[0] - 1, before[1], before[2] - 1]).then_some(())
    });
    assert_eq!(operator.get("/payments")["payments"][0]["state"], "refunded");
    let audit = operator.get("/stock-audit");
    assert_eq!(audit["differences"], json!([]), "{audit}");
}

#[test]
fn what_is_made_up_about_a_cart_is_refused_and_changes_nothing() {
    let server = shop();
    let operator = Operator::new(&server);
    let before = operator.figures();
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let ann = register(ann);
    let token = form_token(&ann.get("/account").body).to_owned();
    let cart = |sku: &str, quantity: &str| {
        ann.post("/cart", &[("form", &*token), ("sku", sku), ("quantity", quantity)]).status
    };
    for (sku, quantity) in [
        (SKU, "0"),
        (SKU, "-1"),
        (SKU, "100"),
        (SKU, "1.5"),
        (SKU, "99999999999999999999"),
        (SKU, ""),
        ("NO-SUCH-SKU", "1"),
        ("' OR 1=1 --", "1"),
        ("<b>", "1"),
        ("", "1"),
        ("FLOOD-ONE", "1"),
    ] {
        assert_eq!(cart(sku, quantity), 422, "{sku} {quantity}");
    }
    // A form without the session's token.
    assert_eq!(ann.post("/cart", &[("sku", SKU), ("quantity", "1")]).status, 403);
    let page = ann.get("/cart/check-out").body;
    let good = filled(&page);
    let changed = |field: &str, value: &str| {
        let with = |(name, of): &(String, String)| {
            (name.clone(), if name == field { value.to_owned() } else { of.clone() })
        };
        let form: Vec<(String, String)> = good.iter().map(with).collect();
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (&**name, &**value)).collect();
        ann.post("/cart/check-out", &form).status
    };
    for (field, value, want) in [
        ("total-standard", "1", 409),
        ("total-standard", "-1", 422),
        ("shipping", "pigeon", 422),
        ("key", "00000000000000000000000000", 422),
        ("key", "x", 422),
        ("street", " ", 422),
        ("phone", "call me", 422),
        ("country", "'; DROP TABLE orders; --", 422),
        ("form", "x", 403),
    ] {
        assert_eq!(changed(field, value), want, "{field}={value}");
    }
    // A form of ten thousand fields is too large.
    let many: Vec<(String, String)> = (0..10_000).map(|n| (format!("line-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(ann.post("/cart", &many).status, 413);
    assert_eq!(operator.figures(), before);
    assert!(!ann.get("/orders").body.contains("<li class=\"card\">"));
    // It was the forms: as it is, it is taken.
    assert_eq!(check_out(&ann).status, 303);
}

#[test]
fn operators_work_in_the_console_with_a_reason_and_their_role() {
    let server = shop();
    let mut ann = Shopper::stranger(&server);
    poll("the store is open", || ann.try_get("/").filter(|reply| reply.status == 200));
    add(&mut ann, "1");
    let ann = register(ann);
    let order = check_out(&ann).header("location").to_owned();
    let (operator, reader) = (server.new_key("op", "operator"), server.new_key("reads", "read-only"));
    let url = |path: &str| format!("http://{}{path}", server.store);
    let get = |path: &str, key: &str| {
        let fields = [("authorization", &*format!("Bearer {key}")), ("accept", "text/html")];
        ann.client.send("GET", &url(path), &fields, "")
    };
    let number = order.strip_prefix("/orders/").unwrap();
    poll("the order is listed", || {
        get("/console?state=awaiting_payment", &reader).body.contains(number).then_some(())
    });
    for (path, text) in [
        ("/console?lang=en", number),
        ("/console?lang=zh&state=awaiting_payment", number),
        (&*format!("/console{order}?lang=en"), "waits for payment"),
        ("/console/returns?lang=zh", "暂无退货"),
        ("/console/products?q=marsh", "marsh-keyboard"),
        ("/console/products/marsh-keyboard", "Quiet keys"),
        ("/console/payments?lang=en", "There are none."),
    ] {
        let page = get(path, &reader);
        assert!(page.status == 200 && page.body.contains(text), "{path}: {page:?}");
        assert_eq!(ann.get(path).status, 401, "{path}: a shopper is no operator");
    }
    assert_eq!(get("/console/orders/00000000000000000000000000", &reader).status, 404);
    let operate = |key: &str, form: &[(&str, &str)]| {
        let bearer = format!("Bearer {key}");
        let fields = [("authorization", &*bearer), ("content-type", "application/x-www-form-urlencoded")];
        let form = [&[("order", number)], form].concat();
        ann.client.send("POST", &url("/console/orders/operate"), &fields, &crate::store::encoded(&form))
    };
    let cancel = [("what", "cancel"), ("reason", "a test")];
    assert_eq!(operate(&reader, &cancel).status, 403);
    assert_eq!(operate(&operator, &cancel[..1]).status, 422, "no reason");
    assert_eq!(operate(&operator, &[("what", "sell"), ("reason", "a test")]).status, 422);
    let ship = [("what", "ship"), ("carrier", "SF"), ("tracking", "1"), ("reason", "a test")];
    assert_eq!(operate(&operator, &ship).status, 409);
    let done = operate(&operator, &cancel);
    assert_eq!((done.status, done.header("location")), (303, &*format!("/console{order}?lang=en")));
    ann.wait_for(&order, "Cancelled");
}
