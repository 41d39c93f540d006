//! `winners.ndjson` as a store imports it: at its own pace, from where it stopped, trusting only
//! the signatures, which it checks with the public key alone.

use crate::harness::{
    Server, poll,
    shop::{self, hold, text, with},
};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A store, which keeps what it was told and where it stopped.
#[derive(Debug)]
struct Store {
    public_key: VerifyingKey,
    after: u64,
    lines: u64,
    /// Hold → its state and units.
    holds: BTreeMap<String, (String, BTreeMap<String, u64>)>,
}

impl Store {
    fn new(server: &Server) -> Self {
        let keys = server.client.get(&server.shop_url("/api/v1/keys")).json();
        let key = &keys["keys"][0];
        assert_eq!((&key["kty"], &key["crv"]), (&"OKP".into(), &"Ed25519".into()), "{keys}");
        let bytes = BASE64URL_NOPAD.decode(text(&key["x"]).as_bytes()).unwrap();
        let public_key = VerifyingKey::from_bytes(&bytes.try_into().unwrap()).unwrap();
        Self { public_key, after: 0, lines: 0, holds: BTreeMap::new() }
    }

    fn verified(&self, sale: &str, line: &str) -> Option<Value> {
        let (body, signature) = line.strip_suffix("\"}")?.split_once(",\"sig\":\"")?;
        let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?).ok()?;
        let signed = format!("floodgate-winner-v1\n{sale}\n{body}");
        self.public_key.verify_strict(signed.as_bytes(), &signature).ok()?;
        serde_json::from_str(line).ok()
    }

    /// Imports the available lines, at most `max`; the connection may then end in any way.
    fn import(&mut self, server: &Server, key: &str, wait: u64, max: usize) -> usize {
        let path = format!("/api/v1/admin/sales/launch/winners.ndjson?after={}&wait={wait}", self.after);
        let bearer = format!("Bearer {key}");
        let lines = server.client.lines(&server.admin_url(&path), &[("authorization", &bearer)]);
        let mut count = 0;
        for line in lines.take(max) {
            let event = self.verified("launch", &line).unwrap_or_else(|| panic!("bad signature: {line}"));
            assert!(self.verified("other", &line).is_none(), "signed for one sale only");
            let changed = line.replacen("\"seq\":", "\"seq\":1", 1);
            assert!(self.verified("launch", &changed).is_none(), "the signature does not fit a changed line");
            let sequence = event["seq"].as_u64().unwrap();
            assert!(sequence > self.after, "in order, none twice: {line}");
            self.after = sequence;
            self.take(&event);
            count += 1;
        }
        self.lines += count as u64;
        count
    }

    fn take(&mut self, event: &Value) {
        let (hold, kind) = (text(&event["hold"]).to_owned(), text(&event["type"]).to_owned());
        if kind == "granted" {
            assert!(text(&event["shopper"]).starts_with("crowd-"), "winners are named to the store: {event}");
            let units = event["lines"].as_array().unwrap().iter();
            let units =
                units.map(|l| (text(&l["item"]).to_owned(), l["quantity"].as_u64().unwrap())).collect();
            assert!(self.holds.insert(hold, (kind, units)).is_none(), "granted twice: {event}");
        } else {
            self.holds.get_mut(&hold).unwrap_or_else(|| panic!("never granted: {event}")).0 = kind;
        }
    }

    /// Units of an item in holds of this state.
    fn units(&self, item: &str, state: &str) -> u64 {
        let holds = self.holds.values().filter(|(s, _)| s == state);
        holds.filter_map(|(_, units)| units.get(item)).sum()
    }

    fn agrees_with(&self, server: &Server) {
        let report = server.audit()[0].clone();
        for item in report["items"].as_array().unwrap() {
            let name = text(&item["item"]);
            assert_eq!(item["sold"], self.units(name, "confirmed"), "{report}");
            assert_eq!(item["held"], self.units(name, "granted"), "{report}");
        }
        for state in ["confirmed", "released", "expired", "voided"] {
            let told = self.holds.values().filter(|(s, _)| s == state).count() as u64;
            assert_eq!(report["holds"][state].as_u64().unwrap_or(0), told, "{state}: {report}");
        }
    }
}

#[test]
fn a_store_follows_the_winners_stops_and_resumes() {
    let mut server = Server::start();
    let fields = json!({ "hold_seconds": 2, "waitlist": { "places": 4 } });
    let sale = server.open_sale("launch", &with(shop::spec(&[("phone", 8), ("case", 20)]), fields));
    let key = server.new_key("store", "read-only");
    let mut store = Store::new(&server);
    assert_eq!(store.import(&server, &key, 0, usize::MAX), 0, "there are no winners yet");

    // The store waits for the first winner.
    let passes = server.passes("launch", "crowd", 14);
    let waited = std::thread::scope(|scope| {
        let import = scope.spawn(|| store.import(&server, &key, 30, 1));
        sale.granted(&passes[0], "k", "phone");
        import.join().unwrap()
    });
    assert_eq!(waited, 1);

    let mut answers = vec![sale.granted(&passes[0], "k", "phone")];
    for pass in &passes[1..8] {
        let reply = sale.attempt(pass, "k", &[("phone", 1), ("case", 1)]);
        answers.push(reply.json());
    }
    let waiting: Vec<Value> = passes[8..10].iter().map(|pass| sale.buy(pass, "k", "phone")).collect();
    assert!(waiting.iter().all(|w| w["outcome"] == "waitlisted"), "{waiting:?}");
    for answer in &answers[..4] {
        let payment = json!({ "payment": format!("p-{}", text(&answer["attempt"])) });
        assert_eq!(server.admin("POST", &hold(answer, "confirm"), &payment)["result"], "confirmed");
    }
    // The store stops in the middle, and misses a crash of the server.
    assert_eq!(store.import(&server, &key, 0, 5), 5);
    let void = json!({ "attempt": answers[3]["attempt"], "reason": "chargeback" });
    assert_eq!(server.admin("POST", "/sales/launch/void", &void)["voided"], 1);
    server.admin("POST", &hold(&answers[4], "release"), &json!({ "reason": "cancelled" }));
    server.kill();
    server.restart();

    // Three holds were never paid, and both waiting shoppers have had their turn by now, and did
    // not pay.
    poll("end of the unpaid holds", || {
        let stats = server.stats("launch");
        (stats["items"][0]["held"] == 0 && stats["items"][0]["waiting"] == 0).then_some(())
    });
    store.import(&server, &key, 0, 3);
    store.import(&server, &key, 0, usize::MAX);
    assert_eq!(store.import(&server, &key, 0, usize::MAX), 0, "no event comes twice");
    store.agrees_with(&server);
    assert_eq!(store.units("phone", "confirmed"), 3);

    // A store that begins again gets the same lines.
    let mut other = Store::new(&server);
    other.import(&server, &key, 0, usize::MAX);
    assert_eq!((other.lines, &other.holds), (store.lines, &store.holds));
}

/// A place that was released or voided had no hold, so a store that knows only holds gets no event
/// of it.
#[test]
fn the_winners_feed_omits_places_that_never_had_a_hold() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 1)]), json!({ "waitlist": { "places": 4 } }));
    let sale = server.open_sale("launch", &spec);
    let key = server.new_key("store", "read-only");
    let passes = server.passes("launch", "crowd", 4);
    let first = sale.granted(&passes[0], "k", "phone");
    let waiting: Vec<Value> = passes[1..].iter().map(|pass| sale.buy(pass, "k", "phone")).collect();
    server.admin("POST", &format!("/holds/{}/release", text(&waiting[0]["attempt"])), &json!({}));
    let void = json!({ "attempt": waiting[1]["attempt"], "reason": "bot" });
    assert_eq!(server.admin("POST", "/sales/launch/void", &void)["voided"], 1);
    server.admin("POST", &hold(&first, "release"), &json!({}));
    let mut store = Store::new(&server);
    // `Store::take` fails on any event of a hold that was never granted.
    assert_eq!(store.import(&server, &key, 0, usize::MAX), 3, "granted, released, and granted by promotion");
    store.agrees_with(&server);
}

#[test]
fn reading_winners_from_beyond_the_logs_end_is_a_conflict() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let last = server.stats("launch")["as_of"].as_u64().unwrap();
    let ask =
        |after: u64| server.admin_send("GET", &format!("/sales/launch/winners.ndjson?after={after}"), "");
    assert_eq!(ask(last).status, 200);
    let beyond = ask(last + 1000);
    assert_eq!((beyond.status, &*beyond.problem()), (409, "conflict"));
    assert!(beyond.body.contains("backup"), "{beyond:?}");
}

#[test]
fn an_invalid_query_for_winners_is_refused() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    for query in ["after=x", "after=-1", "wait=61", "wait=x", "since=1"] {
        let reply = server.admin_send("GET", &format!("/sales/launch/winners.ndjson?{query}"), "");
        assert_eq!((reply.status, &*reply.problem()), (422, "invalid"), "{query}");
    }
}
