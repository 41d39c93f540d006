//! Pages of other origins: only those of allowed origins may read the API's answers, also on the
//! hot routes.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running};
use std::collections::BTreeMap;
use web::operation::Callers;

const SHOP: &str = "https://shop.example";
const BASKET: &str = r#"{"lines":[{"item":"phone","quantity":1}]}"#;

fn start(open: bool) -> Running {
    Running::start(open, true, |config| {
        config.allowed_origins = vec!["https://first.example".into(), SHOP.into()];
    })
}

fn varies_by_origin(answer: &Answer) -> bool {
    answer.head.lines().any(|line| line.eq_ignore_ascii_case("vary: origin"))
}

/// What the answer lets pages read. No answer may ever allow cookies.
fn allowed(answer: &Answer) -> Option<&str> {
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer:?}");
    assert!(answer.head.matches("access-control-allow-origin").count() <= 1, "{answer:?}");
    answer.header("access-control-allow-origin")
}

/// Origins that are not on the list.
const FOREIGN: [&str; 12] = [
    "null",
    "*",
    "https://evil.example",
    "http://shop.example",
    "https://shop.example:444",
    "https://shop.example.evil.example",
    "https://evilshop.example",
    "https://shop.example/",
    "HTTPS://SHOP.EXAMPLE",
    "https://shop.example https://evil.example",
    "https://shop.example, null",
    "",
];

#[test]
fn only_pages_of_allowed_origins_can_read_the_hot_routes() {
    let running = start(true);
    let shop = running.bound.shop;
    let pass = |shopper: &str| {
        let token = format!("Bearer {}", running.token(shopper));
        let answer = send(shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", &token)], "");
        answer.json()["pass"].as_str().unwrap().to_owned()
    };
    let url =
        send(shop, "GET", "/api/v1/sales/demo", &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let attempt = |shopper: &str, origin: Option<&str>| {
        let pass = pass(shopper);
        let mut headers = vec![
            ("floodgate-pass", &*pass),
            ("idempotency-key", "one"),
            ("content-type", "application/json"),
        ];
        headers.extend(origin.map(|origin| ("origin", origin)));
        send(shop, "POST", &url, &headers, BASKET)
    };
    let answer = attempt("alice", Some(SHOP));
    assert_eq!((answer.status, answer.json()["outcome"].as_str()), (200, Some("granted")));
    assert_eq!(allowed(&answer), Some(SHOP));
    assert_eq!(answer.header("access-control-expose-headers"), Some("retry-after"));
    assert!(varies_by_origin(&answer));
    // The answer itself is the same for every origin: a browser decides which page may read it.
    for foreign in FOREIGN {
        let answer = attempt("alice", Some(foreign));
        assert_eq!((answer.status, allowed(&answer)), (200, None), "{foreign:?}");
        assert!(varies_by_origin(&answer), "{foreign:?}");
    }
    assert_eq!(allowed(&attempt("alice", None)), None);

    // Refusals, waiting and the document.
    let check = |origin: Option<&str>, want: Option<&str>| {
        let fields: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let no_pass = send(shop, "POST", &url, &fields, BASKET);
        assert_eq!((no_pass.status, allowed(&no_pass)), (401, want), "{origin:?}");
        let no_round = url.replace("/rounds/", "/rounds/x");
        let no_round = send(shop, "POST", &no_round, &fields, BASKET);
        assert_eq!((no_round.status, allowed(&no_round)), (404, want), "{origin:?}");
        let document = send(shop, "GET", "/api/v1/sales/demo", &fields, "");
        assert_eq!((document.status, allowed(&document)), (200, want), "{origin:?}");
        assert!(varies_by_origin(&document), "it may be cached, so it must have Vary");
    };
    check(Some("https://first.example"), Some("https://first.example"));
    check(Some("null"), None);
    check(None, None);
    running.sale.set_mood(Mood::Silent);
    let queued = attempt("bob", Some(SHOP));
    assert_eq!((queued.status, allowed(&queued)), (202, Some(SHOP)));
    assert!(queued.header("retry-after").is_some());
}

#[test]
fn one_connection_may_carry_requests_of_several_pages() {
    use std::io::{Read, Write};
    let running = start(true);
    let mut stream = std::net::TcpStream::connect(running.bound.shop).unwrap();
    let get = |origin: &str, more: &str| {
        format!("GET /api/v1/sales/demo HTTP/1.1\r\nhost: test\r\n{origin}{more}\r\n")
    };
    let shop = format!("origin: {SHOP}\r\n");
    let twice = format!("{shop}{shop}");
    let all = [
        get(&shop, ""),
        get("", ""),
        get(&shop, ""),
        get("origin: null\r\n", ""),
        get(&twice, "connection: close\r\n"),
    ];
    stream.write_all(all.concat().as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answers: Vec<bool> =
        text.split("HTTP/1.1 200 OK").skip(1).map(|a| a.contains("access-control-allow")).collect();
    assert_eq!(answers, [true, false, true, false, false], "the last one has two origins");
}

#[test]
fn every_route_of_the_api_answers_options() {
    let running = start(true);
    let mut methods = BTreeMap::<&str, Vec<String>>::new();
    let operations = gate::operations();
    let public = operations.iter().filter(|(callers, _)| *callers == Callers::Public);
    for row in public.map(|(_, row)| row).filter(|row| row.path.starts_with("/api/")) {
        let known = methods.entry(row.path).or_default();
        known.push(row.method.to_owned());
        if row.method == "GET" {
            known.push("HEAD".into());
        }
    }
    assert!(methods.len() > 8);
    for (path, mut want) in methods {
        want.push("OPTIONS".into());
        want.sort();
        let sorted = |field: Option<&str>| {
            let mut methods: Vec<String> = field.unwrap().split(", ").map(str::to_owned).collect();
            methods.sort();
            methods
        };
        let at =
            path.replace("{sale}", "demo").replace("{attempt}", &"0".repeat(32)).replace("{round_key}", "k");
        let ask = |origin: Option<&str>, method: Option<&str>| {
            let mut fields: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            fields.extend(method.map(|method| ("access-control-request-method", method)));
            fields.push(("access-control-request-headers", "floodgate-pass, idempotency-key, content-type"));
            let answer = send(running.bound.shop, "OPTIONS", &at, &fields, "");
            assert_eq!((answer.status, &*answer.body), (204, ""), "{path} {origin:?}");
            assert!(varies_by_origin(&answer), "{path} {origin:?}");
            answer
        };
        let preflight = ask(Some(SHOP), Some("POST"));
        assert_eq!(allowed(&preflight), Some(SHOP), "{path}");
        assert_eq!(sorted(preflight.header("access-control-allow-methods")), want, "{path}");
        let headers = preflight.header("access-control-allow-headers");
        assert_eq!(headers, Some("authorization, content-type, floodgate-pass, idempotency-key"));
        assert_eq!(preflight.header("access-control-max-age"), Some("7200"));
        for (origin, method) in [
            (None, None),
            (None, Some("POST")),
            (Some("null"), Some("POST")),
            (Some("https://evil.example"), Some("POST")),
        ] {
            let plain = ask(origin, method);
            assert_eq!(sorted(plain.header("allow")), want, "{path}");
            assert_eq!(plain.head.matches("access-control-").count(), 0, "{path} {origin:?}: {plain:?}");
        }
    }
}

#[test]
fn only_pages_of_allowed_origins_can_read_the_ordinary_routes() {
    let running = start(true);
    let ask = |method: &str, path: &str, origin: &str| {
        send(running.bound.shop, method, path, &[("origin", origin)], "")
    };
    for (method, path, status) in [
        ("POST", "/api/v1/sales/demo/passes", 401),
        ("GET", "/api/v1/sales/demo/attempts", 401),
        ("GET", "/api/v1/sales/none", 404),
        ("GET", "/api/v1/keys", 200),
        ("PATCH", "/api/v1/keys", 405),
        ("GET", "/api/v1/nothing", 404),
    ] {
        let answer = ask(method, path, SHOP);
        assert_eq!((answer.status, allowed(&answer)), (status, Some(SHOP)), "{path}");
        assert!(varies_by_origin(&answer), "{path}");
        assert_eq!(allowed(&ask(method, path, "null")), None, "{path}");
    }
    // Our own pages may be read by no other origin, and the visitor's cookie is not sent for pages
    // of other origins.
    for path in ["/", "/sales/demo", "/time", "/problems"] {
        assert_eq!(allowed(&ask("GET", path, SHOP)), None, "{path}");
    }
    let buy = send(
        running.bound.shop,
        "OPTIONS",
        "/sales/demo/buy",
        &[("origin", SHOP), ("access-control-request-method", "POST")],
        "",
    );
    assert_eq!((buy.status, allowed(&buy)), (405, None));
    let page = send(running.bound.shop, "GET", "/sales/demo", &[], "");
    let cookie = page.header("set-cookie").unwrap();
    assert!(cookie.contains("; SameSite=Lax") && cookie.contains("; HttpOnly"), "{cookie}");
    // Nor does the operators' listener allow other origins.
    let admin = send(running.bound.admin, "GET", "/api/v1/openapi.json", &[("origin", SHOP)], "");
    assert_eq!((admin.status, allowed(&admin)), (200, None));
}

#[test]
fn without_allowed_origins_no_cors_fields_are_sent() {
    let running = Running::start(true, true, |_| {});
    for path in ["/api/v1/sales/demo", "/api/v1/keys"] {
        let answer = send(running.bound.shop, "GET", path, &[("origin", SHOP)], "");
        assert_eq!(
            (answer.status, allowed(&answer), varies_by_origin(&answer)),
            (200, None, false),
            "{path}"
        );
    }
    let options = send(running.bound.shop, "OPTIONS", "/api/v1/sales/demo", &[("origin", SHOP)], "");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn head_is_get_without_its_body() {
    let running = start(true);
    for path in ["/api/v1/sales/demo", "/api/v1/keys", "/api/v1/openapi.json", "/problems"] {
        let [get, head] =
            ["GET", "HEAD"].map(|method| send(running.bound.shop, method, path, &[("origin", SHOP)], ""));
        assert_eq!((get.status, head.status, &*head.body), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-length"), Some(&*get.body.len().to_string()), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(allowed(&head), allowed(&get), "{path}");
    }
    let refused = send(running.bound.shop, "HEAD", "/api/v1/sales/demo/passes", &[], "");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST,OPTIONS")));
}
