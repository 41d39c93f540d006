//! A real shop's shopper on the sale's page, without JavaScript: the shop's page sends its token,
//! the browser keeps a cookie, and nothing else lets anybody in.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running, spec};
use contracts::{Actor, Operation, SaleState};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use gate::config::{ChallengeMode, Config};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering::Relaxed;

const SHOP: &str = "https://shop.example";
const BACK: &str = "https://shop.example/checkout?cart=7";

fn gate_with(change: impl FnOnce(&mut Config)) -> Running {
    Running::start(true, false, |config| {
        config.allowed_origins = vec!["https://first.example".into(), SHOP.into()];
        config.return_urls = vec!["https://shop.example/checkout".into()];
        change(config);
    })
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let value: String = value.bytes().map(byte).collect();
        text.push_str(&format!("&{name}={value}"));
    }
    text.trim_start_matches('&').to_owned()
}

/// What a browser sends for a form on a page of the shop.
fn post(gate: &Running, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
    let headers = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
    send(gate.bound.shop, "POST", path, &headers, form)
}

fn enter_with(gate: &Running, fields: &[(&str, &str)]) -> Answer {
    post(gate, "/sales/demo/enter", &[("origin", SHOP)], &encoded(fields))
}

fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

/// A shopper whom the shop has sent.
struct Shopper<'a> {
    gate: &'a Running,
    cookie: String,
    /// Where the browser was sent.
    at: String,
}

impl<'a> Shopper<'a> {
    #[track_caller]
    fn enters(gate: &'a Running, id: &str) -> Self {
        let token = gate.token(id);
        let entered =
            enter_with(gate, &[("token", &token), ("return_url", BACK), ("lang", "en"), ("item", "phone")]);
        assert_eq!((entered.status, entered.header("cache-control")), (303, Some("no-store")), "{entered:?}");
        let at = entered.header("location").unwrap().to_owned();
        assert!(!entered.head.contains(&token), "{entered:?}");
        Self { gate, cookie: cookie_of(&entered), at }
    }

    fn get(&self, path: &str) -> Answer {
        let path = path.split('#').next().unwrap();
        send(self.gate.bound.shop, "GET", path, &[("cookie", &self.cookie), ("accept", "text/html")], "")
    }

    fn post(&self, path: &str, form: &str) -> Answer {
        post(self.gate, path, &[("cookie", &self.cookie)], form)
    }

    fn page(&self) -> String {
        self.get(&self.at).body
    }

    #[track_caller]
    fn buys(&self, item: &str) -> Answer {
        let bought = self.post("/sales/demo/buy", &buy_form(&self.page(), item));
        assert_eq!(bought.status, 303, "{bought:?}");
        self.get(bought.header("location").unwrap())
    }
}

#[track_caller]
fn field(page: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let rest = page.split(&mark).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

#[track_caller]
fn buy_form(page: &str, item: &str) -> String {
    let (csrf, key, back) = (field(page, "csrf"), field(page, "key"), field(page, "return_url"));
    encoded(&[
        ("csrf", &csrf),
        ("key", &key),
        ("item", item),
        ("quantity", "1"),
        ("lang", "en"),
        ("return_url", &back),
    ])
}

fn hold_form(page: &str) -> String {
    encoded(&[("csrf", &field(page, "csrf")), ("hold", &field(page, "hold")), ("lang", "en")])
}

/// The claims of what the page's link carries to the shop.
#[track_caller]
fn brought_back(page: &str) -> serde_json::Value {
    let link = page.split("href=\"https://shop.example/checkout?cart=7&amp;floodgate=").nth(1);
    let signed = link.unwrap_or_else(|| panic!("no way back in {page}")).split('"').next().unwrap();
    let claims = BASE64URL_NOPAD.decode(signed.split('.').nth(1).unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[test]
fn a_shopper_whom_the_shop_has_sent_buys_and_goes_back_with_the_ticket() {
    let gate = gate_with(|_| {});
    let ann = Shopper::enters(&gate, "ann");
    assert_eq!(
        ann.at,
        "/sales/demo?lang=en&entered=1&return_url=https%3A%2F%2Fshop.example%2Fcheckout%3Fcart%3D7#item-phone"
    );
    let page = ann.page();
    assert!(
        page.contains("id=\"item-phone\"") && page.contains("Buy now") && !page.contains("This is a demo"),
        "{page}"
    );
    assert!(page.contains("You came here from <strong>shop.example</strong>"), "{page}");
    let won = ann.buys("phone").body;
    assert!(won.contains("It is yours to pay") && won.contains("Pay at the shop"), "{won}");
    assert!(won.contains("<details><summary>I do not want it</summary>"), "{won}");
    assert!(!won.contains("sandbox"), "{won}");
    let ticket = brought_back(&won);
    assert_eq!((&ticket["sale"], &ticket["shopper"]), (&json!("demo"), &json!("ann")), "{ticket}");
    assert_eq!(ticket["lines"], json!([{ "item": "phone", "quantity": 1 }]));
    assert!(ann.page().contains("You have as many as you may have"), "a closed tab loses nothing");
    // It is the same shopper at the API, with a tier and all.
    let attempt = won.split("data-attempt=\"").nth(1).unwrap().split('"').next().unwrap();
    let bearer = format!("Bearer {}", gate.token("ann"));
    let pass =
        send(gate.bound.shop, "POST", "/api/v1/sales/demo/passes", &[("authorization", &bearer)], "").json();
    let pass = pass["pass"].as_str().unwrap();
    let seen = send(
        gate.bound.shop,
        "GET",
        &format!("/api/v1/sales/demo/attempts/{attempt}"),
        &[("floodgate-pass", pass)],
        "",
    );
    assert_eq!(seen.json()["outcome"], "granted");

    // The sandbox is a demo's.
    let pay = ann.post("/sales/demo/pay", &hold_form(&won));
    assert_eq!((pay.status, &*pay.problem()), (404, "not-found"));
    assert_eq!(gate.sale.operations(), []);
    let back = ann.post("/sales/demo/give-back", &hold_form(&won));
    let shown = ann.get(&format!("{}&return_url={BACK}", back.header("location").unwrap())).body;
    assert!(shown.contains("Given back"), "{shown}");
    assert_eq!(brought_back(&shown)["outcome"], "released");
    let (actor, operation) = gate.sale.operations().pop().unwrap();
    assert!(
        actor.name == Actor::SHOPPER && matches!(operation, Operation::Release { .. }),
        "{actor:?} {operation:?}"
    );
}

#[test]
fn a_shopper_comes_back_with_each_outcome_that_is_no_hold() {
    let gate = gate_with(|_| {});
    let check = |id: &str, outcome: &str, words: &str| {
        let shopper = Shopper::enters(&gate, id);
        let shown = shopper.buys("watch").body;
        assert!(shown.contains(words), "{words}: {shown}");
        let said = brought_back(&shown);
        assert_eq!((&said["outcome"], &said["shopper"]), (&json!(outcome), &json!(id)), "{said}");
    };
    gate.sale.set_mood(Mood::Waitlists);
    check("ann", "waitlisted", "You are on the waitlist");
    gate.sale.set_mood(Mood::NotEligible);
    check("ben", "not_eligible", "Not for this sale");
    gate.sale.set_mood(Mood::Answers);
    for id in ["cem", "dan"] {
        Shopper::enters(&gate, id).buys("watch");
    }
    check("eve", "sold_out", "Sold out");
    gate.sale.change_view(|view| view.state = SaleState::Closed);
    let late = Shopper::enters(&gate, "fay").page();
    assert!(late.contains("Ended") && !late.contains("data-outcome"), "{late}");
}

#[test]
fn a_page_that_waits_reloads_itself() {
    let gate = gate_with(|_| {});
    gate.sale.change_view(|view| view.state = SaleState::Scheduled);
    let ann = Shopper::enters(&gate, "ann");
    // Its own address, without a fragment: with that, browsers load nothing.
    let shown = ann.page();
    assert!(shown.contains("<noscript><meta http-equiv=\"refresh\" content=\""), "{shown}");
    let again = shown.split(";url=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(again.starts_with("/sales/demo?lang=en&amp;return_url=") && !again.contains('#'), "{again}");
    let early = ann.buys("phone").body;
    let again = early.split(";url=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(again.contains("&amp;said=not_open."), "what is not stored stays: {again}");
    assert!(early.contains("Not open yet") && !early.contains("floodgate="), "{early}");
    assert_eq!(gate.sale.asked(), 0, "before the opening the sale is asked for nothing");
    gate.sale.open();
    gate.sale.set_mood(Mood::InLine);
    let queued = ann.buys("phone").body;
    assert!(
        queued.contains("You are in line")
            && queued.contains("http-equiv=\"refresh\" content=\"2;url=/sales/demo/attempts/"),
        "{queued}"
    );
}

#[test]
fn only_pages_of_the_shop_and_of_the_sale_itself_send_shoppers() {
    let gate = gate_with(|_| {});
    let token = gate.token("ann");
    let form = encoded(&[("token", &token)]);
    let try_from = |headers: &[(&str, &str)]| post(&gate, "/sales/demo/enter", headers, &form);
    for headers in [
        &[][..],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "https://evil.example")],
        &[("origin", "https://shop.example.evil.example")],
        &[("origin", "http://shop.example")],
        &[("origin", "https://shop.example:443")],
        &[("origin", "https://shop.example/")],
        &[("origin", SHOP), ("origin", SHOP)],
        &[("origin", SHOP), ("origin", "https://evil.example")],
        &[("referer", "https://shop.example/")],
        &[("origin", "http://test.evil.example")],
    ] {
        let refused = try_from(headers);
        assert_eq!((refused.status, &*refused.problem()), (403, "form-refused"), "{headers:?}: {refused:?}");
        assert_eq!(refused.header("set-cookie"), None);
        assert!(refused.body.contains("gate.allowed_origins"), "{refused:?}");
    }
    for own in [SHOP, "https://first.example", "http://test"] {
        assert_eq!(try_from(&[("origin", own)]).status, 303, "{own}");
    }
    // Once it is said where shoppers reach the server, the Host of a request says nothing.
    let gate = gate_with(|config| config.public_origin = "https://sale.example".into());
    let form = encoded(&[("token", &gate.token("ann"))]);
    let try_from = |origin: &str| post(&gate, "/sales/demo/enter", &[("origin", origin)], &form);
    assert_eq!(try_from("https://sale.example").status, 303);
    assert_eq!(try_from("http://test").problem(), "form-refused");
    let gate = Running::start(true, false, |_| {});
    let form = encoded(&[("token", &gate.token("ann"))]);
    assert_eq!(
        post(&gate, "/sales/demo/enter", &[("origin", SHOP)], &form).problem(),
        "form-refused",
        "by default"
    );
}

#[test]
fn a_form_that_is_not_in_order_lets_nobody_in() {
    let gate = gate_with(|_| {});
    gate.sales.add("other", spec(0), true);
    let token = gate.token("ann");
    let [head, claims, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let none = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let foreign = {
        let claims =
            json!({ "iss": "shop", "aud": "elsewhere", "sub": "ann", "exp": gate.sales_now_seconds() + 60 });
        format!("{head}.{}.{signature}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()))
    };
    for (token, why) in [
        (format!("{head}.{claims}.{}", signature.chars().rev().collect::<String>()), "forged"),
        (format!("{none}.{claims}."), "unsigned"),
        (foreign, "of another audience, and forged"),
        ("x".into(), "no token"),
        (String::new(), "empty"),
        ("a".repeat(5000), "too long"),
    ] {
        let refused = enter_with(&gate, &[("token", &token)]);
        assert_eq!((refused.status, &*refused.problem()), (401, "token-refused"), "{why}: {refused:?}");
        assert_eq!(refused.header("set-cookie"), None, "{why}");
    }
    let sent = |form: &str| post(&gate, "/sales/demo/enter", &[("origin", SHOP)], form);
    let good = format!("token={token}");
    for (form, why) in [
        (String::new(), "no field"),
        (format!("{good}&return_url=https%3A%2F%2Fevil.example"), "another return URL"),
        (format!("{good}&item=pho"), "no such item"),
        (format!("{good}&x=1"), "an unknown field"),
        (format!("{good}&{good}"), "a field twice"),
    ] {
        let refused = sent(&form);
        assert_eq!((refused.status, &*refused.problem()), (422, "invalid"), "{why}: {refused:?}");
        assert!(!refused.body.contains(&token), "{why}: {refused:?}");
    }
    assert_eq!(sent(&format!("{good}&lang={}", "x".repeat(13_000))).problem(), "body-too-large");
    let plain = [("origin", SHOP), ("content-type", "text/plain")];
    assert_eq!(send(gate.bound.shop, "POST", "/sales/demo/enter", &plain, &good).problem(), "media-type");
    assert_eq!(post(&gate, "/sales/none/enter", &[("origin", SHOP)], &good).problem(), "not-found");
    let by_url = send(gate.bound.shop, "GET", &format!("/sales/demo/enter?{good}"), &[("origin", SHOP)], "");
    assert_eq!(by_url.status, 405, "no URL has a token");

    gate.sales.skew_ms.store(100_000, Relaxed);
    let late = enter_with(&gate, &[("token", &token), ("return_url", BACK)]);
    assert!(late.problem() == "token-refused" && late.body.contains("expired"), "{late:?}");
    // A person gets a page that leads back, in their language.
    let headers = [("origin", SHOP), ("accept", "text/html")];
    let form = encoded(&[("token", &token), ("return_url", BACK), ("lang", "zh")]);
    let shown = post(&gate, "/sales/demo/enter", &headers, &form);
    assert_eq!(
        (shown.status, shown.header("content-type")),
        (401, Some("text/html; charset=utf-8")),
        "{shown:?}"
    );
    assert!(
        shown.body.contains("请从商店重新进入活动")
            && shown.body.contains("href=\"https://shop.example/checkout?cart=7\""),
        "{shown:?}"
    );
    assert!(shown.body.contains("token: expired") && !shown.body.contains(&token), "{shown:?}");
}

#[test]
fn a_cookie_is_of_one_sale_one_shopper_and_some_hours() {
    let gate = gate_with(|_| {});
    gate.sales.add("other", spec(0), true);
    let ann = Shopper::enters(&gate, "ann");
    let of_ann = ann.page();
    let (name, pass) = ann.cookie.split_once('=').unwrap();
    assert_eq!(name, "floodgate-demo");
    let not_known = |cookie: String| {
        let shown = send(gate.bound.shop, "GET", "/sales/demo?entered=1", &[("cookie", &cookie)], "");
        assert!(shown.status == 200 && !shown.body.contains("<form"), "{cookie}: {shown:?}");
        assert!(shown.body.contains("has not kept its cookie"), "{cookie}: {shown:?}");
        let form = buy_form(&of_ann, "phone");
        assert_eq!(post(&gate, "/sales/demo/buy", &[("cookie", &cookie)], &form).problem(), "form-refused");
    };
    not_known(format!("{name}=x"));
    not_known(format!("{name}="));
    not_known(format!("{name}={}", pass.chars().rev().collect::<String>()));
    not_known(format!("{name}={}x", &pass[..pass.len() - 1]));
    not_known(format!("floodgate-other={pass}"));
    not_known("floodgate_demo=AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA".into());
    let token = gate.token("ann");
    let other = post(&gate, "/sales/other/enter", &[("origin", SHOP)], &encoded(&[("token", &token)]));
    let of_other = cookie_of(&other);
    not_known(format!("{name}={}", of_other.split_once('=').unwrap().1));
    // Two sales in one browser: each has its own.
    let both = format!("{of_other}; {}", ann.cookie);
    let shown = send(gate.bound.shop, "GET", "/sales/demo", &[("cookie", &both)], "");
    assert!(shown.body.contains("Buy now"), "{shown:?}");

    // Six hours, though passes are good for a day; and no longer than passes are.
    gate.sales.skew_ms.store(6 * 3_600_000 - 60_000, Relaxed);
    assert!(ann.page().contains("<form"), "{}", ann.page());
    gate.sales.skew_ms.store(6 * 3_600_000, Relaxed);
    not_known(ann.cookie.clone());
    let gate = gate_with(|config| config.pass_ttl_seconds = 90);
    let entered = enter_with(&gate, &[("token", &gate.token("ann"))]);
    let cookie = entered.header("set-cookie").unwrap();
    let seconds: u64 = cookie.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((88..=90).contains(&seconds), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=90; HttpOnly; SameSite=Lax") || seconds < 90, "{cookie}");
}

#[test]
fn with_tls_no_other_host_of_the_domain_can_set_the_cookie() {
    let gate = gate_with(|config| config.public_origin = "https://sale.example".into());
    let entered = enter_with(&gate, &[("token", &gate.token("ann"))]);
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-floodgate-demo=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && !cookie.contains("Domain"), "{cookie}");
    let plain = cookie_of(&entered).replace("__Host-", "");
    let shown = send(gate.bound.shop, "GET", "/sales/demo", &[("cookie", &plain)], "");
    assert!(!shown.body.contains("<form"), "{shown:?}");
}

#[test]
fn the_second_shopper_of_a_browser_is_not_the_first() {
    let gate = gate_with(|_| {});
    let ann = Shopper::enters(&gate, "ann");
    let of_ann = ann.page();
    let won = ann.buys("phone").body;
    let attempt = won.split("data-attempt=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // The cookie of the second has the same name, so it takes the place of the first.
    let ben = Shopper::enters(&gate, "ben");
    assert_eq!(ben.cookie.split('=').next(), ann.cookie.split('=').next());
    assert!(!ben.page().contains(&attempt), "{}", ben.page());
    let form = buy_form(&of_ann, "watch");
    assert_eq!(
        ben.post("/sales/demo/buy", &form).problem(),
        "form-refused",
        "a tab of Ann's that is still open"
    );
    assert_eq!(gate.sale.asked(), 1);
    let shown = ben.get(&format!("/sales/demo/attempts/{attempt}")).body;
    assert!(shown.contains("No answer is kept") && !shown.contains("It is yours"), "{shown}");
    // Nor is a refusal of hers, though the link to it carries what it says.
    let refused = ann.post("/sales/demo/buy", &buy_form(&ann.page(), "phone"));
    let link = refused.header("location").unwrap();
    let of_ann = ann.get(link).body;
    assert!(of_ann.contains("Your limit is reached"), "{of_ann}");
    assert_eq!(brought_back(&of_ann)["shopper"], "ann");
    let shown = ben.get(link).body;
    assert!(shown.contains("No answer is kept"), "{shown}");
    assert!(!shown.contains("Your limit is reached") && !shown.contains("floodgate="), "{shown}");
    let stolen = encoded(&[("csrf", &field(&ben.page(), "csrf")), ("hold", &attempt)]);
    assert_eq!(ben.post("/sales/demo/give-back", &stolen).problem(), "not-found");
    assert_eq!(gate.sale.operations(), []);
    // Back and out: the browser forgets.
    let left = ben.post("/sales/demo/leave", &encoded(&[("csrf", &field(&ben.page(), "csrf"))]));
    assert_eq!((left.status, left.header("location")), (303, Some("/sales/demo?lang=en")));
    assert!(
        left.header("set-cookie").unwrap().starts_with("floodgate-demo=; Path=/; Max-Age=0;"),
        "{left:?}"
    );
    let forged = ben.post("/sales/demo/leave", &encoded(&[("csrf", &field(&ann.page(), "csrf"))]));
    assert_eq!(forged.problem(), "form-refused");
}

#[test]
fn one_address_enters_and_looks_as_often_as_it_may_ask() {
    let gate = gate_with(|config| (config.limits.address_per_second, config.limits.address_burst) = (1, 6));
    let form = encoded(&[("token", &gate.token("ann"))]);
    let ann = Shopper::enters(&gate, "ann");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(post(&gate, "/sales/demo/enter", &[("origin", SHOP)], &form).status);
    }
    assert!(statuses.contains(&303) && statuses.last() == Some(&429), "{statuses:?}");
    let shown = ann.get("/sales/demo");
    assert_eq!(shown.status, 429, "what is asked of the sale for a page counts too: {shown:?}");
    let wait = shown.header("retry-after").unwrap();
    assert!(
        shown.body.contains(&format!("http-equiv=\"refresh\" content=\"{wait};url=/sales/demo\"")),
        "it looks again: {shown:?}"
    );
    let anybody = send(gate.bound.shop, "GET", "/sales/demo", &[], "");
    assert_eq!(anybody.status, 200, "for which nothing is asked");
}

#[test]
fn where_a_solution_is_required_it_is_required_here_too() {
    let gate = gate_with(|config| {
        config.challenge.mode = ChallengeMode::ProofOfWork;
        config.challenge.maxnumber = 500;
    });
    let token = gate.token("ann");
    let asked = enter_with(&gate, &[("token", &token)]);
    assert_eq!(
        (asked.status, &*asked.problem(), asked.header("set-cookie")),
        (403, "challenge-missing", None)
    );
    let headers = [("origin", SHOP), ("accept", "text/html")];
    let form = encoded(&[("token", &token), ("return_url", BACK)]);
    let page = post(&gate, "/sales/demo/enter", &headers, &form);
    assert_eq!((page.status, page.header("cache-control")), (403, Some("no-store")), "{page:?}");
    assert!(page.body.contains("needs JavaScript") && field(&page.body, "return_url") == BACK, "{page:?}");
    // As the page's script does.
    let made = |name: &str| {
        page.body
            .split(&format!("data-{name}=\""))
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .replace("&amp;", "&")
    };
    let hash = |n: u64| HEXLOWER.encode(&Sha256::digest(format!("{}{n}", made("salt"))));
    let number = (0..=500).find(|&n| hash(n) == made("challenge")).unwrap();
    let payload = json!({
        "algorithm": made("algorithm"), "challenge": made("challenge"), "number": number, "salt": made("salt"), "signature": made("signature"),
    });
    let solution = BASE64.encode(payload.to_string().as_bytes());
    let own = [("origin", "http://test")];
    let bob = encoded(&[("token", &gate.token("bob")), ("altcha", &solution)]);
    assert_eq!(post(&gate, "/sales/demo/enter", &own, &bob).problem(), "challenge-refused", "it is Ann's");
    let again = encoded(&[("token", &token), ("altcha", &solution)]);
    assert_eq!(post(&gate, "/sales/demo/enter", &own, &again).status, 303);
    assert_eq!(
        post(&gate, "/sales/demo/enter", &own, &again).problem(),
        "challenge-refused",
        "it is used up"
    );
}

#[test]
fn in_a_demo_a_shopper_of_the_shop_is_no_demo_shopper() {
    let gate = Running::start(true, true, |config| config.allowed_origins = vec![SHOP.into()]);
    let entered = enter_with(&gate, &[("token", &gate.token("ann"))]);
    let demo = cookie_of(&send(gate.bound.shop, "GET", "/sales/demo", &[], ""));
    let both = format!("{demo}; {}", cookie_of(&entered));
    let page = send(gate.bound.shop, "GET", "/sales/demo", &[("cookie", &both)], "");
    assert!(page.header("set-cookie").is_none() && !page.body.contains("This is a demo"), "{page:?}");
    let (csrf, key) = (field(&page.body, "csrf"), field(&page.body, "key"));
    let form = encoded(&[("csrf", &csrf), ("key", &key), ("item", "phone"), ("quantity", "1")]);
    let bought = post(&gate, "/sales/demo/buy", &[("cookie", &both)], &form);
    let won = send(gate.bound.shop, "GET", bought.header("location").unwrap(), &[("cookie", &both)], "").body;
    assert!(won.contains("To pay, go back to the shop.") && !won.contains("Pay (sandbox)"), "{won}");
    let refused = post(&gate, "/sales/demo/pay", &[("cookie", &both)], &hold_form(&won));
    assert_eq!(refused.problem(), "not-found");
    let left = send(gate.bound.shop, "GET", "/sales/demo", &[("cookie", &demo)], "");
    assert!(left.body.contains("This is a demo") && !left.body.contains("It is yours"), "{left:?}");
}

#[test]
fn what_is_given_back_again_and_again_does_not_fill_the_log() {
    let gate = gate_with(|config| config.limits.shopper_per_second = 0);
    gate.sale.change_view(|view| view.items.iter_mut().for_each(|item| item.limit_per_shopper = 0));
    gate.sale.set_mood(Mood::Waitlists);
    let ann = Shopper::enters(&gate, "ann");
    let mut statuses = Vec::new();
    for _ in 0..11 {
        let shown = ann.buys("watch").body;
        statuses.push(ann.post("/sales/demo/give-back", &hold_form(&shown)).status);
    }
    assert!(statuses[..10].iter().all(|status| *status != 429), "{statuses:?}");
    assert_eq!(statuses[10], 429, "{statuses:?}");
    assert_eq!(gate.sale.operations().len(), 10);
    let page = ann.page();
    let refused = ann.post("/sales/demo/give-back", &hold_form(&page));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(
        refused.body.contains("Too many requests") && refused.body.contains("too much given back"),
        "{refused:?}"
    );
}
