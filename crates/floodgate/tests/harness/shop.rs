//! A sale, and its shoppers.

use super::http::{Client, Reply};
use super::{Server, poll};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use units::{DurationMs, TimeMs};

pub fn now() -> TimeMs {
    TimeMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// The time in this many milliseconds, as in a document.
pub fn in_ms(ms: u64) -> String {
    now().plus(DurationMs(ms)).to_string()
}

/// A sale of these items and stocks, open now for an hour, with a limit of one of each item for
/// each shopper, and no waitlist.
pub fn spec(items: &[(&str, u64)]) -> Value {
    let names: Vec<Value> = items.iter().map(|(item, _)| json!({ "item": item, "name": item })).collect();
    let offers: Vec<Value> = items
        .iter()
        .map(|(item, stock)| json!({ "item": item, "stock": stock, "price_minor": 1000, "limit_per_shopper": 1 }))
        .collect();
    json!({
        "name": "Launch", "currency": "CNY", "waitlist": { "places": 0 }, "items": names,
        "rounds": [{ "opens_at": in_ms(0), "closes_at": in_ms(3_600_000), "items": offers }],
    })
}

/// A spec with some fields replaced.
pub fn with(mut spec: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("want fields") };
    spec.as_object_mut().unwrap().extend(fields);
    spec
}

/// Checks a ticket with the server's public keys.
#[track_caller]
fn check_ticket(jwks: &str, ticket: &str) {
    let decode = |text: &str| data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    let (signed, signature) = ticket.rsplit_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(signed.split_once('.').unwrap().0)).unwrap();
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let public: [u8; 32] = decode(text(&key["x"])).try_into().unwrap();
    VerifyingKey::from_bytes(&public)
        .unwrap()
        .verify_strict(signed.as_bytes(), &Signature::from_slice(&decode(signature)).unwrap())
        .unwrap_or_else(|error| panic!("{error}: {ticket}"));
}

/// The body of an attempt.
pub fn basket(lines: &[(&str, u16)]) -> String {
    let lines: Vec<Value> =
        lines.iter().map(|(item, quantity)| json!({ "item": item, "quantity": quantity })).collect();
    json!({ "lines": lines }).to_string()
}

/// An open sale for attempts. Threads can share it while the test owns the server.
#[derive(Debug, Clone)]
pub struct Sale {
    pub name: String,
    pub attempts_url: String,
    pub base: String,
    pub client: Client,
    /// The public keys, as the server publishes them.
    pub jwks: String,
}

impl Server {
    /// Sets a sale up and waits until it is open.
    #[track_caller]
    pub fn open_sale(&self, name: &str, spec: &Value) -> Sale {
        self.define(name, spec);
        self.sale(name)
    }

    #[track_caller]
    pub fn define(&self, name: &str, spec: &Value) {
        self.admin("PUT", &format!("/sales/{name}"), spec);
    }

    /// The sale, once it is open.
    #[track_caller]
    pub fn sale(&self, name: &str) -> Sale {
        let attempts_url = poll("attempts_url", || {
            let seen = self.document(name);
            seen["attempts_url"].as_str().map(|path| self.shop_url(path))
        });
        let base = self.shop_url(&format!("/api/v1/sales/{name}"));
        let jwks = self.client.get(&self.shop_url("/api/v1/keys")).body;
        Sale { name: name.into(), attempts_url, base, client: self.client.clone(), jwks }
    }

    /// The sale's public document.
    #[track_caller]
    pub fn document(&self, name: &str) -> Value {
        let reply = self.client.get(&self.shop_url(&format!("/api/v1/sales/{name}")));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// A pass as `floodgate token --sale` makes it.
    pub fn pass(&self, sale: &str, shopper: &str) -> String {
        self.output(&["token", "--shopper", shopper, "--sale", sale]).trim().to_owned()
    }

    /// Passes for shoppers NAME-1, NAME-2 ….
    pub fn passes(&self, sale: &str, name: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let lines = self.output(&["token", "--shopper", name, "--sale", sale, "--count", &count]);
        let pass =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["pass"].as_str().unwrap().to_owned();
        lines.lines().map(pass).collect()
    }

    /// Waits until an item has figures like these.
    #[track_caller]
    pub fn wait_for_item(&self, sale: &str, item: &str, want: impl Fn(&Value) -> bool) -> Value {
        poll(&format!("figures of {item} in {sale}"), || {
            let stats = self.stats(sale);
            let found = stats["items"].as_array().unwrap().iter().find(|i| i["item"] == item).cloned();
            found.filter(|i| want(i))
        })
    }
}

impl Sale {
    pub fn attempt_headers<'a>(pass: &'a str, key: &'a str) -> [(&'a str, &'a str); 3] {
        [("content-type", "application/json"), ("floodgate-pass", pass), ("idempotency-key", key)]
    }

    pub fn try_attempt(&self, pass: &str, key: &str, body: &str) -> Option<Reply> {
        let sent = self.client.try_send("POST", &self.attempts_url, &Self::attempt_headers(pass, key), body);
        sent.ok()
    }

    #[track_caller]
    pub fn attempt(&self, pass: &str, key: &str, lines: &[(&str, u16)]) -> Reply {
        let headers = Self::attempt_headers(pass, key);
        self.client.send("POST", &self.attempts_url, &headers, &basket(lines))
    }

    /// Buys one of an item; returns the answer.
    #[track_caller]
    pub fn buy(&self, pass: &str, key: &str, item: &str) -> Value {
        let reply = self.attempt(pass, key, &[(item, 1)]);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    #[track_caller]
    pub fn granted(&self, pass: &str, key: &str, item: &str) -> Value {
        let outcome = self.buy(pass, key, item);
        assert_eq!(outcome["outcome"], "granted", "{outcome}");
        outcome
    }

    /// A shopper's request about the sale, with their pass.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, pass: &str) -> Reply {
        let url = format!("{}{path}", self.base);
        self.client.send(method, &url, &[("floodgate-pass", pass)], "")
    }

    /// An attempt as it stands now. A hold has a ticket, which is checked and left out, so that the
    /// rest can be compared with earlier answers.
    #[track_caller]
    pub fn look(&self, attempt: &Value, pass: &str) -> Value {
        self.look_with_ticket(attempt, pass).0
    }

    /// The ticket of an attempt that has a hold.
    #[track_caller]
    pub fn ticket(&self, attempt: &Value, pass: &str) -> String {
        self.look_with_ticket(attempt, pass).1.expect("a hold has a ticket")
    }

    #[track_caller]
    fn look_with_ticket(&self, attempt: &Value, pass: &str) -> (Value, Option<String>) {
        let reply = self.ask("GET", &format!("/attempts/{}", text(attempt)), pass);
        assert_eq!(reply.status, 200, "{reply:?}");
        let mut outcome = reply.json();
        let hold = outcome.get_mut("hold").and_then(Value::as_object_mut);
        let ticket = hold.map(|hold| hold.remove("ticket").expect("a hold has a ticket"));
        let ticket = ticket.map(|ticket| text(&ticket).to_owned());
        ticket.iter().for_each(|ticket| check_ticket(&self.jwks, ticket));
        (outcome, ticket)
    }
}

#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("want a text: {value}"))
}

/// The path of a command for the hold in an attempt's answer.
#[track_caller]
pub fn hold(outcome: &Value, command: &str) -> String {
    format!("/holds/{}/{command}", text(&outcome["hold"]["id"]))
}

/// Runs the work for each input on this many threads; returns the results in the inputs' order.
pub fn in_parallel<I: Sync, O: Send>(threads: usize, inputs: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let chunk = inputs.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = inputs
            .chunks(chunk)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<O>>()))
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
