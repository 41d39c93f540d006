//! An invalid request is refused with a problem document that says what to do, and decides nothing.

use crate::harness::{
    Server,
    http::Reply,
    shop::{self, Sale, basket, text},
};

#[test]
fn an_invalid_attempt_is_refused() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    server.open_sale("other", &shop::spec(&[("phone", 5)]));
    let pass = &*server.pass("launch", "shopper");
    let foreign = &*server.pass("other", "shopper");
    let body = &*basket(&[("phone", 1)]);
    let (big, long) = (&*format!("{{\"lines\":[],\"x\":\"{}\"}}", "y".repeat(5000)), &*"k".repeat(65));
    let json = "application/json";
    let check = |pass: Option<&str>, key: Option<&str>, kind: Option<&str>, body: &str, want: (u16, &str)| {
        let named = [("floodgate-pass", pass), ("idempotency-key", key), ("content-type", kind)];
        let headers: Vec<(&str, &str)> = named.iter().filter_map(|(name, v)| Some((*name, (*v)?))).collect();
        let reply = sale.client.send("POST", &sale.attempts_url, &headers, body);
        assert_eq!((reply.status, &*reply.problem()), want, "{headers:?} {body:.80}");
        reply
    };
    check(Some(pass), Some("k"), Some(json), big, (413, "body-too-large"));
    check(Some(pass), Some("k"), Some("text/plain"), body, (415, "media-type"));
    check(Some(pass), Some("k"), None, body, (415, "media-type"));
    check(Some(pass), None, Some(json), body, (422, "idempotency-key"));
    check(Some(pass), Some(long), Some(json), body, (422, "idempotency-key"));
    check(None, Some("k"), Some(json), body, (401, "pass-missing"));
    check(Some("nonsense"), Some("k"), Some(json), body, (401, "pass-refused"));
    let other = check(Some(foreign), Some("k"), Some(json), body, (401, "pass-refused"));
    assert!(other.body.contains("another sale"), "{other:?}");
    for wrong in
        ["", "{", "[]", "{}", "{\"lines\":[]}", "{\"lines\":1}", "{\"lines\":[{\"item\":\"phone\"}]}"]
    {
        check(Some(pass), Some("k"), Some(json), wrong, (422, "invalid"));
    }
    check(Some(pass), Some("k"), Some(json), &basket(&[("phone", 0)]), (422, "invalid"));
    check(Some(pass), Some("k"), Some(json), &basket(&[("phone", 1001)]), (422, "invalid"));
    let unknown = check(Some(pass), Some("k"), Some(json), &basket(&[("tank", 1)]), (422, "invalid"));
    assert!(unknown.body.contains("tank"), "names the item: {unknown:?}");
    let typo = check(Some(pass), Some("k"), Some(json), "{\"line\":[]}", (422, "invalid"));
    assert!(typo.body.contains("line"), "names the field: {typo:?}");
    let stats = server.stats("launch");
    assert_eq!(
        (&stats["items"][0]["free"], &stats["outcomes"]["granted"]),
        (&5.into(), &0.into()),
        "{stats}"
    );
}

#[test]
fn a_reused_idempotency_key_with_another_body_is_refused() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5), ("case", 5)]));
    let pass = server.pass("launch", "shopper");
    let first = sale.granted(&pass, "k", "phone");
    let other = sale.attempt(&pass, "k", &[("case", 1)]);
    assert_eq!((other.status, &*other.problem()), (422, "key-reused"));
    assert_eq!(sale.granted(&pass, "k", "phone"), first, "the first answer stands");
    // Another shopper's key of the same name is another key.
    sale.granted(&server.pass("launch", "another"), "k", "case");
    // The same basket in another spelling is the same body.
    let spelled = " { \"lines\" : [ { \"quantity\":1, \"item\":\"ph\\u006fne\" } ] } ";
    let same = sale.try_attempt(&pass, "k", spelled).unwrap();
    assert_eq!(same.json(), first);
}

#[test]
fn a_missing_resource_is_not_found() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let pass = server.pass("launch", "shopper");
    let headers = Sale::attempt_headers(&pass, "k");
    let not_found = |method: &str, url: String| {
        let reply = server.client.send(method, &url, &headers, &basket(&[("phone", 1)]));
        assert_eq!((reply.status, &*reply.problem()), (404, "not-found"), "{method} {url}");
    };
    not_found("GET", server.shop_url("/api/v1/sales/none"));
    not_found("GET", server.shop_url("/api/v1/sales/none/attempts"));
    not_found("POST", server.shop_url("/api/v1/sales/none/passes"));
    not_found("GET", server.shop_url("/api/v1/sales/launch/attempts/not-an-id"));
    not_found("GET", server.shop_url("/nowhere"));
    not_found("POST", sale.attempts_url.replace("/rounds/", "/rounds/x"));
    let (front, key) = sale.attempts_url.split_once("/rounds/").unwrap();
    let nearly = format!("{front}/rounds/{}{}", if key.starts_with('A') { "B" } else { "A" }, &key[1..]);
    not_found("POST", nearly);
    for path in ["/sales/none/stats", "/sales/none/winners.ndjson"] {
        let reply = server.admin_send("GET", path, "");
        assert_eq!((reply.status, &*reply.problem()), (404, "not-found"), "{path}");
    }
    let hold = format!("/holds/{}/confirm", "0".repeat(32));
    let reply = server.admin_send("POST", &hold, "{\"payment\":\"p\"}");
    assert_eq!((reply.status, &*reply.problem()), (404, "not-found"));

    // An attempt that is not known is not an error: it may be on its way.
    let none = sale.look(&"0".repeat(32).into(), &pass);
    assert_eq!(none["outcome"], "none", "{none}");
    assert!(none["as_of"].is_u64(), "{none}");

    let method = server.client.send("DELETE", &sale.attempts_url, &headers, "");
    assert_eq!((method.status, &*method.problem()), (405, "method-not-allowed"));
    assert_eq!(method.header("allow"), "POST,OPTIONS");
}

/// What is wrong is named by its path, with what is wanted there, and nothing is done.
#[test]
fn a_wrong_command_is_told_which_field_is_wrong_and_what_is_wanted() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let check = |method: &str, path: &str, body: &str, want: &str| {
        let reply = server.admin_send(method, path, body);
        assert_eq!((reply.status, &*reply.problem()), (422, "invalid"), "{path} {body}: {reply:?}");
        assert_eq!(reply.json()["detail"], want, "{path} {body}");
    };
    let sale = |command: &str| format!("/sales/launch/{command}");
    let number = "want a whole number, and it is the text \"5\"";
    let adjust = &sale("items/phone/adjust");
    check("POST", adjust, r#"{"delta":"5","reason":"test"}"#, &format!("delta: {number}"));
    check("POST", adjust, r#"{"reason":"test"}"#, "delta: is missing");
    check("POST", adjust, r#"[5,"test"]"#, "body: want an object with fields, and it is a list");
    let known = "there is no such field; there can be per_second, reason";
    check("POST", &sale("rate"), r#"{"per_second":1,"pre_second":2}"#, &format!("pre_second: {known}"));
    check("POST", &sale("rate"), "", "body: it is no JSON: line 1, column 0: EOF while parsing a value");
    let limit = "items[0].limit_per_shopper: want a whole number, 0 to 65535, and it is the number -1";
    let limits = r#"{"items":[{"round":0,"item":"phone","limit_per_shopper":-1}]}"#;
    check("POST", &sale("limits"), limits, limit);
    check("PUT", "/sales/other", r#"{"name":7}"#, "name: want a text, and it is the number 7");
    assert_eq!(server.stats("launch")["items"][0]["adjustments"], 0);
    // The message service reads its documents in the same way.
    let key = server.new_key("of-topics", "owner");
    let url = server.events_url("/api/v1/topics/orders");
    let reply = server.client.admin("PUT", &url, &key, r#"{"kept":1}"#);
    assert_eq!(reply.status, 422, "{reply:?}");
    let detail = text(&reply.json()["detail"]).to_owned();
    assert!(detail.starts_with("kept: there is no such field; there can be "), "{detail}");
}

#[test]
fn a_query_with_a_field_that_there_is_not_is_refused() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let pass = server.pass("launch", "shopper");
    let check = |reply: Reply, field: &str| {
        assert_eq!((reply.status, &*reply.problem()), (400, "bad-request"), "{field}: {reply:?}");
        let detail = text(&reply.json()["detail"]).to_owned();
        assert!(detail.starts_with(&format!("{field}: there is no such field")), "{detail}");
    };
    let headers = Sale::attempt_headers(&pass, "k");
    let attempts = format!("{}?return_uri=x", sale.attempts_url);
    check(server.client.send("POST", &attempts, &headers, &basket(&[("phone", 1)])), "return_uri");
    assert_eq!(server.stats("launch")["outcomes"]["granted"], 0);
    let granted = sale.granted(&pass, "k", "phone");
    let look = format!("/attempts/{}?return-url=x", text(&granted["attempt"]));
    check(sale.ask("GET", &look, &pass), "return-url");
    check(server.admin_send("GET", "/refusals?adress=127.0.0.1", ""), "adress");
    check(server.admin_send("DELETE", "/denied-networks?networks=10.0.0.0/8&reason=test", ""), "networks");
    check(server.admin_send("GET", "/sales/launch/log?form=5", ""), "form");
}

#[test]
fn an_operators_command_with_two_keys_is_refused() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    let bearer = format!("Bearer {}", server.new_key("twice", "owner"));
    let url = server.admin_url("/api/v1/admin/sales/launch/items/phone/adjust");
    let send = |keys: &[&str]| {
        let mut fields = vec![("authorization", &*bearer), ("content-type", "application/json")];
        fields.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        server.client.send("POST", &url, &fields, r#"{"delta":2,"reason":"test"}"#)
    };
    for keys in [["a", "b"], ["a", "a"]] {
        let refused = send(&keys);
        assert_eq!((refused.status, &*refused.problem()), (422, "invalid"), "{keys:?}");
    }
    assert_eq!(server.stats("launch")["items"][0]["free"], 5);
    (0..2).for_each(|_| assert_eq!(send(&["a"]).status, 200));
    assert_eq!(server.stats("launch")["items"][0]["free"], 7);
}

/// No id has white space around it, so a line of a list names the id in it.
#[test]
fn a_line_of_a_list_names_an_id_without_the_white_space_around_it() {
    let server = Server::start();
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    server.deny("launch", " bot\n\tbot-2 \r\nbot-3 ");
    assert_eq!(server.stats("launch")["denied"], 3);
    for bot in ["bot", "bot-2", "bot-3"] {
        let said = sale.buy(&server.pass("launch", bot), "k", "phone");
        assert_eq!(said["outcome"], "not_eligible", "{bot}");
    }
    sale.granted(&server.pass("launch", "bot-4"), "k", "phone");
}

#[test]
fn the_sales_rate_puts_a_crowd_in_line() {
    let settings = "\n[gate.connections]\nbody_timeout_seconds = 5\n".to_owned();
    let server = Server::with(crate::harness::Setup { settings, ..Default::default() });
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    server.admin("POST", "/sales/launch/rate", &serde_json::json!({ "per_second": 1 }));
    let passes = server.passes("launch", "crowd", 20);
    let replies = shop::in_parallel(20, &passes, |pass| sale.attempt(pass, "k", &[("phone", 1)]));
    let (in_line, answered): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 202);
    assert!(!in_line.is_empty() && !answered.is_empty(), "{replies:?}");
    assert!(answered.iter().all(|reply| reply.status == 200), "{replies:?}");
    let mut told_at_once = 0;
    for reply in in_line {
        let told = reply.json();
        let (position, wait_ms) = (told["position"].as_u64().unwrap(), told["wait_ms"].as_u64().unwrap());
        assert!(wait_ms > position.saturating_sub(1) * 1000, "one second for each attempt before it: {told}");
        // The others had waited as long as they could.
        told_at_once += usize::from(wait_ms > 2000);
        assert!(wait_ms > 2000 || position <= 2, "{told}");
        assert!((1..=5).contains(&reply.header("retry-after").parse::<u32>().unwrap()), "{reply:?}");
    }
    assert!(told_at_once >= 15, "{told_at_once}: {replies:?}");
}

#[test]
fn one_shopper_does_not_fill_the_line() {
    let server = Server::with(crate::harness::Setup {
        gate: "decision_wait_ms = 1\n".to_owned(),
        ..Default::default()
    });
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 5)]));
    server.admin("POST", "/sales/launch/rate", &serde_json::json!({ "per_second": 1 }));
    let (greedy, other) = (server.pass("launch", "greedy"), server.pass("launch", "other"));
    // One attempt a second is released; a shopper with two in line at the same time is served no
    // sooner.
    let replies: Vec<_> =
        (0..40).map(|n| sale.attempt(&greedy, &format!("k-{n}"), &[("phone", 1)])).collect();
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(!refused.is_empty(), "{replies:?}");
    for reply in refused {
        assert_eq!(reply.problem(), "too-many-in-line");
        assert!((1..=30).contains(&reply.header("retry-after").parse::<u32>().unwrap()), "{reply:?}");
    }
    let told = sale.attempt(&other, "k", &[("phone", 1)]);
    assert_eq!(told.status, 202, "{told:?}");
}
