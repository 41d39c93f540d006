//! The shop behind the sale: browse, win, pay, have the order; what goes wrong with payments; and
//! that after any crash each hold has one order, on which both sides agree.

use crate::harness::{
    PATIENCE, Server, Setup,
    http::{Client, Reply},
    mariadb::MariaDb,
    poll,
    shop::{Sale, hold, in_parallel, spec, text, with},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::sleep,
    time::{Duration, Instant},
};

pub(crate) fn shop() -> Server {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
    Server::with(Setup { serve, settings, ..Setup::default() })
}

/// Where parcels go in these tests.
pub(crate) const ADDRESS: [(&str, &str); 5] = [
    ("name", "Ann 安"),
    ("phone", "13800138000"),
    ("street", "Chang'an Street 1 <b>"),
    ("city", "Beijing"),
    ("country", "CN"),
];

/// A form of a page with the address.
pub(crate) fn with_address<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [fields, &ADDRESS[..]].concat()
}

/// A browser with a shopper before it.
pub(crate) struct Shopper<'a> {
    server: &'a Server,
    /// Its cookies.
    pub(crate) session: String,
    /// The pages are in no description.
    pub(crate) client: Client,
}

impl<'a> Shopper<'a> {
    pub(crate) fn stranger(server: &'a Server) -> Self {
        Self::with(server, String::new())
    }

    pub(crate) fn with(server: &'a Server, session: String) -> Self {
        Self { server, session, client: Client::undescribed() }
    }

    /// A new account.
    #[track_caller]
    pub(crate) fn new(server: &'a Server, name: &str) -> Self {
        let mut shopper = Self::stranger(server);
        let email = format!("{}@example.com", name.to_lowercase());
        let form = [("name", name), ("email", &*email), ("password", "correct horse"), ("next", "/orders")];
        let reply = shopper.post("/account/register", &form);
        assert_eq!((reply.status, reply.header("location")), (303, "/orders"), "{reply:?}");
        shopper.keep_session(&reply);
        shopper
    }

    #[track_caller]
    pub(crate) fn keep_session(&mut self, reply: &Reply) {
        let cookie = reply.header("set-cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
        self.session = cookie.split(';').next().unwrap().to_owned();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.store)
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Reply> {
        let fields = [("cookie", &*self.session), ("accept", "text/html")];
        self.client.try_send("GET", &self.url(path), &fields, "").ok()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        poll(&format!("an answer to {path}"), || self.try_get(path).filter(|reply| reply.status < 500))
    }

    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Reply {
        let fields = [("cookie", &*self.session), ("content-type", "application/x-www-form-urlencoded")];
        self.client.send("POST", &self.url(path), &fields, &encoded(form))
    }

    /// Wins one of an item in a sale with the account's token; returns the outcome.
    #[track_caller]
    pub(crate) fn win(&self, sale: &Sale, item: &str) -> Value {
        let pass = self.pass(sale);
        sale.granted(&pass, "key-of-the-tab", item)
    }

    #[track_caller]
    fn pass(&self, sale: &Sale) -> String {
        let token = self.get("/account/sale-token");
        assert_eq!((token.status, token.header("cache-control")), (200, "no-store"), "{token:?}");
        let bearer = format!("Bearer {}", token.body);
        let reply =
            sale.client.send("POST", &format!("{}/passes", sale.base), &[("authorization", &bearer)], "");
        assert_eq!(reply.status, 200, "{reply:?}");
        text(&reply.json()["pass"]).to_owned()
    }

    /// The path of the order of a hold, once it has come from the sale.
    #[track_caller]
    pub(crate) fn order(&self, sale: &Sale, outcome: &Value) -> String {
        let path = format!("/checkout?sale={}&hold={}", sale.name, text(&outcome["attempt"]));
        poll("the order of the hold", || {
            let reply = self.try_get(&path)?;
            assert!([200, 303].contains(&reply.status) || reply.status >= 500, "{reply:?}");
            (reply.status == 303).then(|| reply.header("location").to_owned())
        })
    }

    /// Begins to pay; returns the path of the provider's page.
    #[track_caller]
    pub(crate) fn begin_to_pay(&self, order: &str) -> String {
        let page = self.get(order).body;
        let form = with_address(&[("form", form_token(&page))]);
        let reply = self.post(&format!("{order}/pay"), &form);
        assert_eq!(reply.status, 303, "{reply:?}");
        let to = reply.header("location").to_owned();
        assert!(to.starts_with("/sandbox/"), "{to}");
        to
    }

    #[track_caller]
    pub(crate) fn choose(&self, sandbox: &str, choice: &str) {
        let reply = self.post(sandbox, &[("choice", choice)]);
        assert_eq!(reply.status, 303, "{reply:?}");
    }

    /// Waits until the order's page has this headline.
    #[track_caller]
    pub(crate) fn wait_for(&self, order: &str, headline: &str) -> String {
        let began = Instant::now();
        loop {
            let page = self.get(order).body;
            let said = between(&page, "<p class=\"title\">", "</p>");
            if said == headline {
                return page;
            }
            assert!(began.elapsed() < PATIENCE, "{order}: {said:?}, want {headline:?}");
            sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let text = |text: &str| text.bytes().map(byte).collect::<String>();
    let pairs: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    pairs.join("&")
}

#[track_caller]
pub(crate) fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}"));
    rest.split_once(after).unwrap().0
}

#[track_caller]
pub(crate) fn form_token(page: &str) -> &str {
    between(page, "name=\"form\" value=\"", "\"")
}

#[test]
fn a_shopper_browses_wins_pays_and_has_the_order() {
    let mut server = shop();
    {
        let stranger = Shopper::stranger(&server);
        let home = stranger.get("/").body;
        assert!(home.contains("Flood One") && home.contains("CN¥1,999.00"), "{home}");
        assert!(stranger.get("/search?q=%E6%BF%80%E6%B5%81&lang=zh").body.contains("激流 One"));
        let product = stranger.get("/p/flood-one");
        assert!(product.body.contains("Log in to take part") && !product.body.contains("floodgate.js"));
        let picture = between(&product.body, "<img src=\"", "\"");
        assert_eq!(stranger.get(picture).header("content-type"), "image/svg+xml");

        let ann = Shopper::new(&server, "Ann");
        let product = ann.get("/p/flood-one");
        let script = format!("http://{}/floodgate.js", server.shop);
        assert!(product.body.contains(&script), "{}", product.body);
        assert!(product.header("content-security-policy").contains(&format!("http://{}", server.shop)));
        let sale = server.sale("demo");
        let outcome = ann.win(&sale, "phone");
        let order = ann.order(&sale, &outcome);
        let page = ann.wait_for(&order, "You got it. Pay now");
        assert!(page.contains("Flood One") && page.contains("Pay CN¥1,999.00"), "{page}");
        let sandbox = ann.begin_to_pay(&order);
        // A second start of the payment is the same payment.
        assert_eq!(ann.begin_to_pay(&order), sandbox);
        ann.choose(&sandbox, "pay");
        let page = ann.wait_for(&order, "Paid: it is yours");
        assert!(!page.contains("/pay\""), "{page}");
        let item = server.wait_for_item("demo", "phone", |item| item["sold"] == 1);
        assert_eq!(item["held"], 0);
        assert!(ann.get(&format!("{order}?lang=zh")).body.contains("付款成功"));
        // Those who run the shop send it, each step under their name.
        let key = server.new_key("packer", "operator");
        let url = |path: &str| format!("http://{}/api/v1/store{order}{path}", server.store);
        let early = json!({ "carrier": "SF", "tracking": "SF1", "reason": "packed" }).to_string();
        let because = json!({ "reason": "taken from the shelf" }).to_string();
        let refused = server.client.admin("POST", &url("/deliver"), &key, &because);
        assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"));
        // Of what was claimed for the sale its units are set aside by themselves.
        poll("the units are set aside", || {
            let seen = server.client.admin("GET", &url(""), &key, "").json();
            (seen["state"] == "allocated").then_some(())
        });
        for (step, body) in
            [("/allocate", &because), ("/ship", &early), ("/ship", &early), ("/deliver", &because)]
        {
            let done = server.client.admin("POST", &url(step), &key, body);
            assert_eq!(done.status, 200, "{step}: {done:?}");
        }
        let seen = server.client.admin("GET", &url(""), &key, "").json();
        let steps: Vec<_> = seen["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (text(&step["to"]), text(&step["actor"])))
            .collect();
        let want = [
            ("awaiting_payment", "sale"),
            ("paid", "sale"),
            ("allocated", "inventory"),
            ("shipped", "packer"),
            ("delivered", "packer"),
        ];
        assert_eq!(steps, want);
        assert!(ann.wait_for(&order, "Delivered").contains("SF1"));
        assert_eq!(server.client.admin("GET", &url(""), "", "").status, 401);
        // What the store tells others.
        let types = poll("events of the order", || {
            let mut steps = events(&server, "store-orders");
            steps.retain(|kind| kind != "floodgate.order.changed");
            (steps.len() == 5).then_some(steps)
        });
        let of = ["awaiting_payment", "paid", "allocated", "shipped", "delivered"];
        assert_eq!(types, of.map(|state| format!("floodgate.order.{state}")));
        assert_eq!(events(&server, "store-payments"), ["floodgate.payment.succeeded"]);
    }
    // All of it is there after a restart, the session too.
    server.stop();
    server.restart();
    let mut ann = Shopper::stranger(&server);
    let form = [("email", "ANN@example.com"), ("password", "correct horse"), ("next", "/orders")];
    let reply = ann.post("/account/log-in", &form);
    assert_eq!(reply.status, 303, "{reply:?}");
    ann.keep_session(&reply);
    let orders = ann.get("/orders").body;
    assert!(orders.contains("Flood One") && orders.contains("Delivered"), "{orders}");
    server.audit();
}

/// The types of all events of a topic.
fn events(server: &Server, topic: &str) -> Vec<String> {
    told(server, topic).iter().map(|event| text(&event["type"]).to_owned()).collect()
}

/// All events of a topic.
pub(crate) fn told(server: &Server, topic: &str) -> Vec<Value> {
    let (name, key) = (format!("reads-{}", nanos()), server.new_key(&format!("reads-{}", nanos()), "owner"));
    let url = |rest: &str| server.events_url(&format!("/api/v1/subscriptions/{name}{rest}"));
    let made = server.client.admin("PUT", &url("?from=1"), &key, &json!({ "topic": topic }).to_string());
    assert!([200, 201].contains(&made.status), "{made:?}");
    let mut all = Vec::new();
    loop {
        let pulled = server.client.admin("POST", &url("/pull"), &key, r#"{"max":100,"wait_ms":500}"#).json();
        let events = pulled["events"].as_array().unwrap().clone();
        if events.is_empty() {
            return all;
        }
        // Events of one order come one after the other.
        let receipt = |event: &Value| json!({ "number": event["number"], "attempt": event["attempt"] });
        let done: Vec<Value> = events.iter().map(receipt).collect();
        let settled =
            server.client.admin("POST", &url("/settle"), &key, &json!({ "done": done }).to_string());
        assert_eq!(settled.status, 200, "{settled:?}");
        all.extend(events.iter().map(|event| event["event"].clone()));
    }
}

fn nanos() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

#[test]
fn the_same_on_mariadb_which_may_be_away_for_a_while() {
    let mut maria = MariaDb::start();
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\n", maria.url("shop"));
    let server = Server::with(Setup { serve, settings, ..Setup::default() });
    let ann = Shopper::new(&server, "Ann");
    let sale = server.sale("demo");
    // The sale goes on without the store's databases.
    let pass = ann.pass(&sale);
    maria.kill();
    let outcome = sale.granted(&pass, "key-of-the-tab", "phone");
    let page = ann.client.get(&ann.url("/"));
    assert_eq!(page.status, 503, "{page:?}");
    maria.restart();
    let order = ann.order(&sale, &outcome);
    ann.wait_for(&order, "You got it. Pay now");
    ann.choose(&ann.begin_to_pay(&order), "pay");
    ann.wait_for(&order, "Paid: it is yours");
    server.wait_for_item("demo", "phone", |item| item["sold"] == 1);
    let shown = server.output(&["config"]);
    assert!(shown.contains("databases = \"mysql://…@127.0.0.1"), "{shown}");
    server.audit();
}

#[test]
fn a_refused_card_is_tried_again_and_news_that_come_twice_count_once() {
    let server = shop();
    let sale = server.sale("demo");
    let bob = Shopper::new(&server, "Bob");
    let order = bob.order(&sale, &bob.win(&sale, "phone"));
    bob.choose(&bob.begin_to_pay(&order), "fail");
    // The order waits on, and a further payment is begun.
    let first = bob.begin_to_pay(&order);
    let again = poll("another payment", || {
        let now = bob.begin_to_pay(&order);
        (now != first || bob.get(&now).body.contains("Pay, and tell")).then_some(now)
    });
    bob.choose(&again, "tell_twice");
    bob.wait_for(&order, "Paid: it is yours");
    sleep(Duration::from_millis(500));
    bob.wait_for(&order, "Paid: it is yours");
    let item = server.wait_for_item("demo", "phone", |item| item["sold"] == 1);
    assert_eq!(item["held"], 0);
    server.audit();
}

#[test]
fn a_payment_after_the_hold_went_to_somebody_else_goes_back() {
    let server = shop();
    let quick = with(spec(&[("lamp", 1)]), json!({ "hold_seconds": 3, "late_payment": "refund" }));
    let quick = server.open_sale("quick", &quick);
    let ann = Shopper::new(&server, "Ann");
    let lost = ann.order(&quick, &ann.win(&quick, "lamp"));
    let sandbox = ann.begin_to_pay(&lost);
    ann.wait_for(&lost, "Payment time expired");
    let bob = Shopper::new(&server, "Bob");
    let pass = bob.pass(&quick);
    let won = poll("the unit is free again", || {
        let reply = quick.attempt(&pass, &format!("k{}", nanos()), &[("lamp", 1)]).json();
        (reply["outcome"] == "granted").then_some(reply)
    });
    let order = bob.order(&quick, &won);
    bob.choose(&bob.begin_to_pay(&order), "pay");
    bob.wait_for(&order, "Paid: it is yours");
    ann.choose(&sandbox, "pay");
    ann.wait_for(&lost, "Refunded");
    server.wait_for_item("quick", "lamp", |item| item["sold"] == 1 && item["free"] == 0);
    server.audit();
}

#[test]
fn an_order_that_is_given_up_returns_its_unit_and_what_operators_void_is_cancelled() {
    let server = shop();
    let sale = server.sale("demo");
    let (ann, bob) = (Shopper::new(&server, "Ann"), Shopper::new(&server, "Bob"));
    let order = ann.order(&sale, &ann.win(&sale, "phone"));
    let page = ann.get(&order).body;
    let reply = ann.post(&format!("{order}/cancel"), &[("form", form_token(&page))]);
    assert_eq!(reply.status, 303, "{reply:?}");
    ann.wait_for(&order, "Cancelled");
    server.wait_for_item("demo", "phone", |item| item["held"] == 0 && item["free"] == 100);

    let outcome = bob.win(&sale, "earbuds");
    let order = bob.order(&sale, &outcome);
    bob.choose(&bob.begin_to_pay(&order), "pay");
    bob.wait_for(&order, "Paid: it is yours");
    let body = json!({ "attempts": [outcome["attempt"]], "reason": "a bot" });
    server.admin("POST", "/sales/demo/void", &body);
    bob.wait_for(&order, "Refunded");
    // What operators confirm themselves is paid too.
    let cem = Shopper::new(&server, "Cem");
    let outcome = cem.win(&sale, "phone");
    let order = cem.order(&sale, &outcome);
    server.admin("POST", &hold(&outcome, "confirm"), &json!({ "payment": "bank-1" }));
    cem.wait_for(&order, "Paid: it is yours");
    server.audit();
}

#[test]
fn what_strangers_and_forgers_send_changes_nothing() {
    let server = shop();
    let sale = server.sale("demo");
    let ann = Shopper::new(&server, "Ann");
    let name = "<script>alert(1)</script>' OR 1=1 --";
    let mut bob = Shopper::stranger(&server);
    let form = [
        ("name", name),
        ("email", "bob@example.com"),
        ("password", "correct horse"),
        ("next", "//evil.example"),
    ];
    let reply = bob.post("/account/register", &form);
    assert_eq!((reply.status, reply.header("location")), (303, "/"), "{reply:?}");
    bob.keep_session(&reply);
    let page = bob.get("/account").body;
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"), "{page}");

    let order = ann.order(&sale, &ann.win(&sale, "phone"));
    let token = form_token(&ann.get(&order).body).to_owned();
    // Another shopper's order is not there, whatever is sent for it.
    let bobs = form_token(&page).to_owned();
    assert_eq!(bob.get(&order).status, 404);
    for action in ["pay", "cancel"] {
        assert_eq!(bob.post(&format!("{order}/{action}"), &[("form", &*bobs)]).status, 404, "{action}");
        // A form without the session's token, or with another's.
        for forged in ["", "x", &*bobs] {
            assert_eq!(ann.post(&format!("{order}/{action}"), &[("form", forged)]).status, 403, "{action}");
        }
        let stranger = Shopper::stranger(&server);
        assert_eq!(stranger.post(&format!("{order}/{action}"), &[("form", &*token)]).status, 403);
    }
    for path in [
        "/orders/1",
        "/orders/%27",
        "/orders/00000000000000000000000000",
        "/p/..%2f..%2fetc",
        "/p/nothing",
        "/c/nothing",
        "/media/x.svg",
        "/sandbox/x",
    ] {
        assert_eq!(ann.get(path).status, 404, "{path}");
    }
    assert_eq!(ann.get("/search?q=%27%3B%20DROP%20TABLE%20products--").status, 200);
    assert_eq!(ann.get(&format!("/search?q={}", "x".repeat(81))).status, 422);
    assert_eq!(ann.get("/orders?after=%00").status, 422);
    assert_eq!(ann.get("/orders?utm_source=mail").status, 200, "links from elsewhere have more");
    assert_eq!(ann.post("/account/log-in", &[("email", "a"), ("password", &"x".repeat(10_000))]).status, 413);
    assert_eq!(
        ann.post("/account/log-in", &[("email", "ann@example.com"), ("password", "wrong wrong")]).status,
        422
    );
    // A hold that is not hers, and one that does not exist.
    let page = bob.get(&format!("/checkout?sale=demo&hold={}", "0".repeat(32)));
    assert!(page.status == 200 && page.body.contains("http-equiv=\"refresh\""), "{page:?}");
    let page = bob.get(&format!("/checkout?sale=demo&hold={}&tries=30", "0".repeat(32)));
    assert!(page.status == 200 && !page.body.contains("http-equiv=\"refresh\""), "{page:?}");
    // A form that another site's page sends.
    let fields = [("content-type", "application/x-www-form-urlencoded"), ("origin", "https://evil.example")];
    let url = ann.url("/account/log-in");
    let form = encoded(&[("email", "ann@example.com"), ("password", "correct horse")]);
    assert_eq!(ann.client.send("POST", &url, &fields, &form).status, 403);
    // Without a session, pages of one's own lead to the log-in, and back.
    let stranger = Shopper::stranger(&server);
    let reply = stranger.get("/orders");
    assert_eq!((reply.status, reply.header("location")), (303, "/account/log-in?next=%2Forders"));
    assert_eq!(stranger.get("/account/sale-token").status, 401);
    assert_eq!(stranger.get("/metrics").status, 401);
    ann.wait_for(&order, "You got it. Pay now");
}

#[test]
fn after_any_crash_each_hold_has_one_order_and_both_sides_agree() {
    const SHOPPERS: usize = 24;
    let mut server = shop();
    let names: Vec<String> = (0..SHOPPERS).map(|n| format!("shopper{n}")).collect();
    let sessions: Vec<String> = in_parallel(2, &names, |name| Shopper::new(&server, name).session.clone());
    let sale = server.sale("demo");
    let passes: Vec<String> =
        sessions.iter().map(|session| Shopper::with(&server, session.clone()).pass(&sale)).collect();
    // Half of them win and pay while the server is killed again and again.
    let outcomes: Vec<Value> = passes.iter().map(|pass| sale.granted(pass, "k", "phone")).collect();
    server.kill();
    server.restart();
    for round in 0..6 {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (at, outcome) in outcomes.iter().enumerate().filter(|(at, _)| at % 6 == round) {
                let (server, sale, over) = (&server, &sale, &over);
                let shopper = Shopper::with(server, sessions[at].clone());
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        let _ = pay_if_possible(&shopper, sale, outcome);
                    }
                });
            }
            sleep(Duration::from_millis(150 + 130 * round as u64));
            server.send_sigkill();
            over.store(true, Relaxed);
        });
        server.wait();
        server.restart();
    }
    // What was cut off is done to its end.
    for (session, outcome) in sessions.iter().zip(&outcomes) {
        let shopper = Shopper::with(&server, session.clone());
        let order = shopper.order(&sale, outcome);
        poll("the order is paid", || {
            let page = shopper.try_get(&order)?.body;
            if page.contains("Paid: it is yours") {
                return Some(());
            }
            pay_if_possible(&shopper, &sale, outcome)?;
            None
        });
        let orders = shopper.get("/orders").body;
        assert_eq!(orders.matches("<li class=\"card\">").count(), 1, "{orders}");
    }
    let item = server.wait_for_item("demo", "phone", |item| item["sold"] == SHOPPERS);
    assert_eq!(item["held"], 0);
    server.audit();
}

/// One try to pay for the order of a hold, on a server that may be killed meanwhile.
fn pay_if_possible(shopper: &Shopper<'_>, sale: &Sale, outcome: &Value) -> Option<()> {
    let client = &shopper.client;
    let path = format!("/checkout?sale={}&hold={}", sale.name, text(&outcome["attempt"]));
    let reply = shopper.try_get(&path)?;
    let order = (reply.status == 303).then(|| reply.header("location").to_owned())?;
    let page = shopper.try_get(&order)?.body;
    let (_, rest) = page.split_once("name=\"form\" value=\"")?;
    let token = rest.split_once('"')?.0;
    let fields = [("cookie", &*shopper.session), ("content-type", "application/x-www-form-urlencoded")];
    let url = shopper.url(&format!("{order}/pay"));
    let form = encoded(&with_address(&[("form", token)]));
    let reply = client.try_send("POST", &url, &fields, &form).ok()?;
    let sandbox = (reply.status == 303).then(|| reply.header("location").to_owned())?;
    client.try_send("POST", &shopper.url(&sandbox), &fields, "choice=pay").ok()?;
    Some(())
}

#[test]
fn outside_of_a_demo_there_is_no_sandbox_unless_it_is_configured() {
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://shop.example\"\n";
    let mut server = Server::with(Setup { settings: settings.into(), ..Setup::default() });
    let outcome = {
        let sale = server.open_sale("launch", &spec(&[("lamp", 3)]));
        let mut ann = Shopper::stranger(&server);
        let form = [("name", "Ann"), ("email", "ann@example.com"), ("password", "correct horse")];
        let reply = poll("the store is open", || {
            let reply = ann.post("/account/register", &form);
            (reply.status == 303).then_some(reply)
        });
        assert!(reply.header("set-cookie").ends_with("; Secure"), "{reply:?}");
        ann.keep_session(&reply);
        let outcome = ann.win(&sale, "lamp");
        let order = ann.order(&sale, &outcome);
        let page = ann.get(&order).body;
        assert!(!page.contains("/pay\"") && page.contains("/cancel\""), "{page}");
        let form = with_address(&[("form", form_token(&page))]);
        let reply = ann.post(&format!("{order}/pay"), &form);
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(reply.body.contains("takes no payments here"), "{reply:?}");
        server.admin("POST", &hold(&outcome, "confirm"), &json!({ "payment": "bank-1" }));
        ann.wait_for(&order, "Paid: it is yours");
        outcome
    };
    assert_eq!(outcome["outcome"], "granted");
    server.stop();
    // A store that could not hear of winners is refused at the start.
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, of_notify) = text.split_once("[notify]\nlisten = \"").unwrap();
    let (_, rest) = of_notify.split_once('"').unwrap();
    std::fs::write(&config, format!("{before}[notify]\nlisten = \"\"{rest}")).unwrap();
    let said = crate::harness::stderr(&server.command(&["config"]));
    assert!(said.contains("store.listen") && said.contains("set notify.listen"), "{said}");
}

#[test]
fn operators_fill_the_catalogue_and_forged_webhooks_change_nothing() {
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let server = Server::with(Setup { settings, ..Setup::default() });
    let (operator, reader) = (server.new_key("op", "operator"), server.new_key("reads", "read-only"));
    let url = |path: &str| format!("http://{}/api/v1/store{path}", server.store);
    let categories =
        json!({ "categories": [{ "slug": "lamps", "name": { "en": "Lamps", "zh": "灯" } }] }).to_string();
    let put =
        |path: &str, key: &str, body: &Value| server.client.admin("PUT", &url(path), key, &body.to_string());
    poll("the store is open", || {
        let reply = server.client.admin("PUT", &url("/categories"), &operator, &categories);
        (reply.status == 200).then_some(())
    });
    let lamp = |price: u64| {
        json!({
            "slug": "lamp", "name": { "en": "Lamp", "zh": "台灯" }, "description": { "en": "It shines.", "zh": "会亮。" },
            "category": "lamps", "pictures": [], "position": 1, "is_published": true,
            "variants": [{
                "sku": "LAMP-1", "name": { "en": "", "zh": "" }, "price": { "amount_minor": price, "currency": "EUR" },
                "offered_in": [{ "sale": "launch", "item": "lamp" }],
            }],
        })
    };
    assert_eq!(put("/products/lamp", &reader, &lamp(100)).status, 403);
    let wrong = put("/products/lamp", &operator, &lamp(0));
    assert_eq!((wrong.status, wrong.problem().as_str()), (422, "invalid"));
    assert!(wrong.body.contains("variants[0].price.amount_minor"), "{wrong:?}");
    assert_eq!(put("/products/other", &operator, &lamp(100)).status, 422, "the slug of another path");
    assert_eq!(put("/products/lamp", &operator, &lamp(4900)).status, 200);
    let found = poll("the search has the product", || {
        let found = server.client.get(&url("/products?q=lamp")).json();
        found["rows"][0].is_object().then_some(found)
    });
    assert_eq!(found["rows"][0]["price"]["amount_minor"], 4900, "{found}");
    let page = Shopper::stranger(&server).get("/p/lamp").body;
    assert!(page.contains("€49.00") && page.contains("Log in to take part"), "{page}");
    // No provider is configured; a webhook for one that there is not, or that is not signed, is
    // refused.
    for (path, status) in [("/webhooks/sandbox", 404), ("/webhooks/stripe", 404)] {
        let reply = server.client.admin("POST", &url(path), "", r#"{"id":"1"}"#);
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let demo = shop();
    let hook = format!("http://{}/api/v1/store/webhooks/sandbox", demo.store);
    let body =
        r#"{"id":"1","reference":"x","said":"succeeded","amount":{"amount_minor":1,"currency":"CNY"}}"#;
    for signature in ["", "t=1,v1=00", "t=99999999999999,v1=zz", "v1=00"] {
        let fields = [("sandbox-signature", signature), ("content-type", "application/json")];
        let reply = demo.client.send("POST", &hook, &fields, body);
        assert_eq!((reply.status, reply.problem().as_str()), (400, "webhook-refused"), "{signature}");
    }
    assert_eq!(server.client.admin("DELETE", &url("/products/lamp"), &operator, "").status, 200);
    assert_eq!(Shopper::stranger(&server).get("/p/lamp").status, 404);
}

/// Loopback of IPv4 is exempt in tests, that of IPv6 is not.
#[test]
fn one_address_logs_in_ten_times_at_once_and_then_has_to_wait() {
    let settings = "[store]\nlisten = \"[::1]:0\"\n".to_owned();
    let server = Server::with(Setup { settings, ..Setup::default() });
    let stranger = Shopper::stranger(&server);
    poll("the store is open", || stranger.try_get("/").filter(|reply| reply.status == 200));
    let form = |n: u32| format!("ann{n}@example.com");
    for n in 0..10 {
        let reply = stranger.post("/account/log-in", &[("email", &*form(n)), ("password", "wrong wrong")]);
        assert_eq!(reply.status, 422, "{n}: {reply:?}");
    }
    for path in ["/account/log-in", "/account/register"] {
        let reply =
            stranger.post(path, &[("email", &*form(11)), ("password", "wrong wrong"), ("name", "Ann")]);
        assert_eq!(reply.status, 429, "{path}: {reply:?}");
        let wait: u32 = reply.header("retry-after").parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
    }
    // Pages are not forms.
    assert_eq!(stranger.get("/account/log-in").status, 200);
}
