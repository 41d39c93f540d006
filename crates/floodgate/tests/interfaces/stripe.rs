//! Stripe as the payment provider, against Stripe's own stand-in for its API, which refuses what
//! its description does not allow. It sends no webhooks: they are signed here as Stripe signs
//! them.

use crate::{
    carts,
    harness::{PATIENCE, Server, Setup, http::Reply, poll, shop::text},
    store::{Shopper, form_token},
};
use aws_lc_rs::hmac;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Instant, SystemTime},
};

const SECRET: &str = "whsec_of_the_test";

/// Stripe's stand-in. It is ended with the test.
struct StripeMock {
    child: Child,
    url: String,
    /// What it says of each request, in two lines.
    requests: Arc<Mutex<Vec<String>>>,
}

impl StripeMock {
    fn start() -> Self {
        let mut command = Command::new("stripe-mock");
        let listens = ["-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0", "-verbose"];
        let child = command.args(listens);
        let mut child =
            child.stdout(Stdio::piped()).spawn().expect("stripe-mock: cargo xtask test installs it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| line.strip_prefix("Listening for HTTP at address: ").map(str::to_owned));
        // It writes lines for each request, and ends if it cannot.
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            lines
                .filter(|line| line.starts_with("Request"))
                .for_each(|line| heard.lock().unwrap().push(line));
        });
        Self { child, url: format!("http://{}", address.expect("it says where it listens")), requests }
    }

    /// The data of the requests to a path that it has had.
    fn asked(&self, path: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let data = requests.windows(2).filter(|pair| pair[0].ends_with(path));
        data.map(|pair| pair[1].clone()).collect()
    }
}

impl Drop for StripeMock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shop that takes payments by the Stripe at this URL, and the directory with its secrets.
fn shop_with(stripe: &str) -> (Server, tempfile::TempDir) {
    let secrets = tempfile::tempdir().unwrap();
    let (key, webhook) = (secrets.path().join("key"), secrets.path().join("webhook"));
    for (path, text) in [(&key, "sk_test_123\n"), (&webhook, SECRET)] {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let settings = format!(
        "[store]\nlisten = \"127.0.0.1:0\"\npayments = \"stripe\"\npublic_url = \"http://shop.example\"\n\
         [store.stripe]\nsecret_key_file = {key:?}\nwebhook_secret_file = {webhook:?}\napi_url = \"{stripe}\"\n"
    );
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    (Server::with(Setup { serve, settings, ..Setup::default() }), secrets)
}

/// Sends a webhook, signed with this secret so many seconds ago.
fn webhook_signed(server: &Server, (secret, ago): (&str, u64), event: &Value) -> Reply {
    let body = event.to_string();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - ago;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{now}.{body}").as_bytes());
    let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("t={now},v1={hex},v0=00");
    let fields = [("stripe-signature", &*signature), ("content-type", "application/json")];
    let url = format!("http://{}/api/v1/store/webhooks/stripe", server.store);
    server.client.send("POST", &url, &fields, &body)
}

#[track_caller]
fn webhook(server: &Server, event: &Value) {
    let reply = webhook_signed(server, (SECRET, 0), event);
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn succeeded(id: &str, intent: &str, payment: &str, amount: u64) -> Value {
    json!({
        "id": id, "object": "event", "type": "payment_intent.succeeded", "livemode": false,
        "data": { "object": {
            "id": intent, "object": "payment_intent", "amount": amount, "amount_received": amount,
            "currency": "cny", "status": "succeeded", "metadata": { "payment": payment, "order": "x", "shop": "http://shop.example" },
        } },
    })
}

fn refunded(id: &str, kind: &str, of: &Value) -> Value {
    json!({ "id": id, "object": "event", "type": kind, "data": { "object": of } })
}

/// An order that waits for its payment.
fn order(server: &Server) -> (Shopper<'_>, String) {
    let mut ann = Shopper::stranger(server);
    carts::add(&mut ann, "1");
    let ann = carts::register(ann);
    let placed = carts::check_out(&ann);
    assert_eq!(placed.status, 303, "{placed:?}");
    let path = placed.header("location").to_owned();
    ann.wait_for(&path, "Reserved for you");
    (ann, path)
}

#[test]
fn a_shopper_pays_at_stripe_and_gets_the_money_back() {
    let stripe = StripeMock::start();
    let (server, _secrets) = shop_with(&stripe.url);
    let operator = server.new_key("op", "operator");
    let api = |method: &str, path: &str, body: &str| {
        server.client.admin(method, &format!("http://{}/api/v1/store{path}", server.store), &operator, body)
    };
    let (ann, path) = order(&server);
    let page = ann.get(&path).body;
    assert!(!page.contains("andbox"), "{page}");
    let pay = || ann.post(&format!("{path}/pay"), &[("form", form_token(&ann.get(&path).body))]);
    let leaves = pay();
    assert_eq!(leaves.status, 200, "{leaves:?}");
    let refresh = leaves.header("refresh").to_owned();
    let at = refresh.strip_prefix("0; url=https://checkout.stripe.com/").expect("Stripe's page");
    assert!(leaves.body.contains(at), "{}", leaves.body);
    // The same payment, without another call.
    assert_eq!(pay().header("refresh"), refresh);
    assert_eq!(stripe.asked("POST /v1/checkout/sessions").len(), 1);
    let payments = api("GET", "/payments", "").json();
    let payment = payments["payments"][0].clone();
    assert_eq!(payments["payments"].as_array().unwrap().len(), 1, "{payments}");
    assert!(text(&payment["provider_reference"]).starts_with("cs_test_"), "{payment}");
    let (id, amount) = (text(&payment["id"]).to_owned(), payment["amount"]["amount_minor"].as_u64().unwrap());

    // Webhooks that are not Stripe's, or old, change nothing; nor do those of another's payments.
    let paid = succeeded("evt_1", "pi_1", &id, amount);
    for forged in [("whsec_of_another", 0), (SECRET, 400)] {
        let reply = webhook_signed(&server, forged, &paid);
        assert_eq!((reply.status, reply.problem().as_str()), (400, "webhook-refused"), "{forged:?}");
    }
    let reply = webhook_signed(&server, (SECRET, 0), &json!({ "id": "evt_x" }));
    assert_eq!((reply.status, reply.problem().as_str()), (422, "invalid"), "{reply:?}");
    webhook(&server, &json!({ "id": "evt_0", "type": "customer.created", "data": { "object": {} } }));
    let mut foreign = succeeded("evt_2", "pi_9", &id, amount);
    foreign["data"]["object"]["metadata"] = json!({});
    webhook(&server, &foreign);
    assert_eq!(api("GET", "/payments", "").json()["payments"][0]["state"], "pending");
    let unknown = succeeded("evt_3", "pi_8", "00000000000000000000000000", amount);
    assert_eq!(webhook_signed(&server, (SECRET, 0), &unknown).status, 404, "Stripe sends it again");

    for event in ["evt_1", "evt_1", "evt_4"] {
        webhook(&server, &succeeded(event, "pi_1", &id, amount));
    }
    ann.wait_for(&path, "Paid: it is yours");
    let known = || api("GET", "/payments", "").json()["payments"][0].clone();
    assert_eq!(
        (known()["state"].clone(), known()["provider_reference"].clone()),
        ("succeeded".into(), "pi_1".into())
    );

    // All of it goes back; Stripe takes the refund, and tells of it three times.
    let all = json!({ "number": 1, "amount_minor": amount, "reason": "a scratch" });
    let reply = api("POST", &format!("{path}/refunds"), &all.to_string());
    assert_eq!(reply.status, 200, "{reply:?}");
    let asked = poll("Stripe is asked for it", || {
        let asked = stripe.asked("Request: POST /v1/refunds");
        (!asked.is_empty()).then_some(asked)
    });
    assert!(
        asked[0].contains(&format!("amount:{amount}")) && asked[0].contains("payment_intent:pi_1"),
        "{asked:?}"
    );
    let mut refund = json!({
        "id": "re_1", "object": "refund", "payment_intent": "pi_1", "status": "pending", "amount": amount,
        "currency": "cny", "created": 1_800_000_000, "metadata": { "payment": id, "key": "return-1", "shop": "http://shop.example" },
    });
    webhook(&server, &refunded("evt_5", "refund.created", &refund));
    assert_eq!(known()["refunded_minor"], 0);
    refund["status"] = "succeeded".into();
    for (event, kind) in
        [("evt_6", "refund.updated"), ("evt_6", "refund.updated"), ("evt_7", "charge.refund.updated")]
    {
        webhook(&server, &refunded(event, kind, &refund));
    }
    poll("it is back", || (known()["state"] == "refunded").then_some(()));
    assert_eq!(known()["refunded_minor"], amount);

    // Stripe's stand-in knows none of it: the day's report says so, by the number of each.
    let today = text(&known()["created_at"])[..10].to_owned();
    assert_eq!(api("GET", &format!("/reconciliations/{today}"), "").status, 404);
    let report = api("POST", &format!("/reconciliations/{today}"), "").json();
    let mut numbers: Vec<&str> =
        report["differences"].as_array().unwrap().iter().map(|of| text(&of["movement"])).collect();
    numbers.sort_unstable();
    assert_eq!((report["different"].clone(), numbers), (2.into(), vec!["pi_1", "re_1"]), "{report}");
    assert_eq!(report["totals"]["CNY"]["ours_received_minor"], amount);
    assert_eq!(api("GET", &format!("/reconciliations/{today}"), "").json(), report);
    let summary = api("GET", "/reconciliations", "").json()["reports"][0].clone();
    assert_eq!((&summary["day"], &summary["different"]), (&report["day"], &report["different"]));
    assert_eq!(api("POST", "/reconciliations/2999-01-01", "").status, 422);
    for wrong in ["2026-02-30", "today", "1"] {
        assert_eq!(api("POST", &format!("/reconciliations/{wrong}"), "").status, 400, "{wrong}");
    }
}

#[test]
fn while_stripe_is_away_the_order_waits_and_says_so() {
    // A port where nothing listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (server, _secrets) = shop_with(&format!("http://127.0.0.1:{port}"));
    let (ann, path) = order(&server);
    let began = Instant::now();
    let reply = ann.post(&format!("{path}/pay"), &[("form", form_token(&ann.get(&path).body))]);
    assert!(reply.status == 503 && began.elapsed() < PATIENCE, "{reply:?}");
    ann.wait_for(&path, "Reserved for you");
    let config = std::fs::read_to_string(server.config_file()).unwrap();
    let check = |from: &str, to: &str, want: &str| {
        std::fs::write(server.config_file(), config.replace(from, to)).unwrap();
        let said = crate::harness::stderr(&server.command(&["config"]));
        assert!(said.contains(want), "{said}");
    };
    check("\"stripe\"", "\"strip\"", "want \"stripe\", \"sandbox\" or \"\"");
    check("http://shop.example", "", "Stripe's page leads back to it");
    check("secret_key_file = \"", "secret_key_file = \"\" # \"", "store.stripe.secret_key_file");
    check(&format!("http://127.0.0.1:{port}"), "http://stripe.example", "want an origin with https");
}
