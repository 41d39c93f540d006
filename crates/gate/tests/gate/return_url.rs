//! The return to the shop: with a signed outcome, without a script, and only to URLs that the shop
//! has listed.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

const BACK: &str = "https://shop.example/checkout?cart=7&lang=zh";
const BACK_ENCODED: &str = "https%3A%2F%2Fshop.example%2Fcheckout%3Fcart%3D7%26lang%3Dzh";

fn start() -> Running {
    Running::start(true, true, |config| config.return_urls = vec!["https://shop.example/checkout".into()])
}

struct Browser<'a> {
    gate: &'a Running,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn open(gate: &'a Running) -> Self {
        let page = send(gate.bound.shop, "GET", "/sales/demo", &[], "");
        let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        Self { gate, cookie }
    }

    fn get(&self, path: &str) -> Answer {
        send(self.gate.bound.shop, "GET", path, &[("cookie", &self.cookie)], "")
    }

    /// Sends a form of a page unchanged, with the visitor's choices.
    fn submit(&self, page: &str, action: &str, chosen: &str) -> Answer {
        let form =
            page.split(&format!("action=\"{action}\"")).nth(1).unwrap_or_else(|| panic!("{action}: {page}"));
        let form = form.split("</form>").next().unwrap();
        let mut body = chosen.to_owned();
        for field in form.split("type=\"hidden\" name=\"").skip(1) {
            let (name, rest) = field.split_once('"').unwrap();
            let value = rest.strip_prefix(" value=\"").unwrap().split('"').next().unwrap();
            let value: String = value.replace("&amp;", "&").bytes().map(|b| format!("%{b:02x}")).collect();
            body.push_str(&format!("&{name}={value}"));
        }
        let headers = [("cookie", &*self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        send(self.gate.bound.shop, "POST", action, &headers, &body)
    }

    /// Buys a phone on the page that the shop linked to, and sees the page with the outcome.
    fn buy(&self) -> String {
        let page = self.get(&format!("/sales/demo?return_url={BACK_ENCODED}")).body;
        let answer = self.submit(&page, "/sales/demo/buy", "");
        assert_eq!(answer.status, 303, "{answer:?}");
        self.get(answer.header("location").unwrap()).body
    }
}

/// The link to the shop on a page, and the outcome in it.
fn way_back(page: &str) -> Option<String> {
    // A link of the class `back`, whatever other classes it has.
    let link = page.split("<a class=\"back").nth(1)?.split("href=\"").nth(1)?.split('"').next().unwrap();
    Some(link.replace("&amp;", "&"))
}

/// Checks a JWS with the published keys alone, as a shop does.
fn checked(gate: &Running, jws: &str) -> (Value, Value) {
    let parts: Vec<&str> = jws.split('.').collect();
    let bytes = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
    let header: Value = serde_json::from_slice(&bytes(parts[0])).unwrap();
    let keys = send(gate.bound.shop, "GET", "/api/v1/keys", &[], "").json();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let key = VerifyingKey::try_from(&*bytes(key["x"].as_str().unwrap())).unwrap();
    let signature = Signature::from_slice(&bytes(parts[2])).unwrap();
    key.verify_strict(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).unwrap();
    (header, serde_json::from_slice(&bytes(parts[1])).unwrap())
}

fn outcome(gate: &Running, page: &str) -> (Value, Value) {
    let link = way_back(page).unwrap_or_else(|| panic!("no way back: {page}"));
    let jws = link.strip_prefix(&format!("{BACK}&floodgate=")).unwrap_or_else(|| panic!("{link}"));
    checked(gate, jws)
}

#[test]
fn a_shopper_returns_to_the_shop_with_a_ticket_or_a_signed_outcome() {
    let gate = start();
    let winner = Browser::open(&gate);
    let page = winner.buy();
    let (header, ticket) = outcome(&gate, &page);
    assert_eq!((&header["typ"], &ticket["sale"]), (&"floodgate-ticket+jws".into(), &"demo".into()));
    let paid = winner.submit(&page, "/sales/demo/pay", "");
    let page = winner.get(paid.header("location").unwrap()).body;
    assert_eq!(outcome(&gate, &page).1["hold"], ticket["hold"], "paid");
    let again = winner.get(&format!("/sales/demo?return_url={BACK_ENCODED}&lang=zh")).body;
    assert_eq!(
        outcome(&gate, &again).1["hold"],
        ticket["hold"],
        "the outcome is found again after a closed tab"
    );
    assert!(again.contains("返回商店继续"), "{again}");
    let fragment = format!(
        "/sales/demo/attempts/{}?fragment=1&return_url={BACK_ENCODED}",
        ticket["hold"].as_str().unwrap()
    );
    assert_eq!(
        outcome(&gate, &winner.get(&fragment).body).1["hold"],
        ticket["hold"],
        "the part of the page that the script inserts"
    );

    Browser::open(&gate).buy();
    let loser = Browser::open(&gate);
    let before = gate.sales_now_seconds();
    let (header, said) = outcome(&gate, &loser.buy());
    assert_eq!(header["typ"], "floodgate-outcome+jws");
    assert_eq!(
        (&said["sale"], &said["outcome"], &said["aud"]),
        (&"demo".into(), &"sold_out".into(), &"https://shop.example".into())
    );
    assert!(
        said["as_of"].as_u64().is_some() && said["shopper"].as_str().unwrap().starts_with("demo-"),
        "{said}"
    );
    assert_eq!(said["attempt"].as_str().unwrap().len(), 32);
    let (iat, exp) = (said["iat"].as_u64().unwrap(), said["exp"].as_u64().unwrap());
    assert!((before..before + 60).contains(&iat) && exp == iat + 600, "{said}");
    gate.sale.set_mood(Mood::Waitlists);
    assert_eq!(outcome(&gate, &Browser::open(&gate).buy()).1["outcome"], "waitlisted");
}

#[test]
fn the_page_has_no_return_link_before_there_is_an_outcome_for_the_shop() {
    let gate = start();
    let browser = Browser::open(&gate);
    assert_eq!(way_back(&browser.get(&format!("/sales/demo?return_url={BACK_ENCODED}")).body), None);
    gate.sale.set_mood(Mood::Silent);
    let page = browser.buy();
    assert!(page.contains("You are in line"), "{page}");
    assert_eq!(way_back(&page), None);
    // Nor without a return_url in the request.
    gate.sale.set_mood(Mood::Answers);
    let page = browser.get("/sales/demo").body;
    let bought = browser.submit(&page, "/sales/demo/buy", "");
    let page = browser.get(bought.header("location").unwrap()).body;
    assert!(page.contains("It is yours to pay"), "{page}");
    assert_eq!(way_back(&page), None);
    assert!(!page.contains("shop.example"));
}

#[test]
fn an_unlisted_return_url_is_refused() {
    let gate = start();
    let browser = Browser::open(&gate);
    let page = browser.buy();
    let bought = browser.get("/sales/demo").body;
    let attempt = page.split("data-attempt=\"").nth(1).unwrap().split('"').next().unwrap();
    for hostile in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "https://shop.example@evil.example/checkout",
        "https://shop.example.evil.example/checkout",
        "https://shop.example/checkout/..%2f..",
        "https://shop.example/checkout/../other",
        "https://shop.example/checkoutevil",
        "https://shop.example/checkout\\..\\x",
        "https://shop.example/checkout#x",
        "https://shop.example/checkout?floodgate=forged",
        "https://shop.example/checkout\"><script>",
        "http://shop.example/checkout",
        "https://shop.example:8443/checkout",
        "https://shop.example/checkout\r\nlocation: https://evil.example",
    ] {
        let encoded: String = hostile.bytes().map(|b| format!("%{b:02X}")).collect();
        for path in ["/sales/demo".to_owned(), format!("/sales/demo/attempts/{attempt}")] {
            let answer = browser.get(&format!("{path}?return_url={encoded}"));
            assert_eq!((answer.status, &*answer.problem()), (422, "invalid"), "{hostile:?}");
            assert_eq!((answer.header("location"), answer.body.contains("evil.example")), (None, false));
        }
        let stranger = send(
            gate.bound.shop,
            "GET",
            &format!("/sales/demo/attempts/{attempt}?return_url={encoded}"),
            &[],
            "",
        );
        assert_eq!((stranger.status, stranger.header("location")), (422, None), "{hostile:?}");
        let answer = browser.submit(&bought, "/sales/demo/buy", &format!("item=phone&return_url={encoded}"));
        assert_eq!((answer.status, answer.header("location")), (422, None), "{hostile:?}");
        let answer = browser.submit(&bought, "/sales/demo/pay", &format!("return_url={encoded}"));
        assert_eq!((answer.status, answer.header("location")), (422, None), "{hostile:?}");
    }
    // Naming it twice is refused too, and an empty one counts as none.
    let twice =
        browser.get(&format!("/sales/demo?return_url={BACK_ENCODED}&return_url=https%3A%2F%2Fevil.example"));
    assert!(twice.status == 400 && !twice.body.contains("href=\"https://evil"), "{twice:?}");
    assert_eq!(browser.get("/sales/demo?return_url=").status, 200);
    // Without a list every return URL is refused.
    let gate = Running::start(true, true, |_| {});
    let answer = send(gate.bound.shop, "GET", &format!("/sales/demo?return_url={BACK_ENCODED}"), &[], "");
    assert_eq!(answer.status, 422);
}

#[test]
fn the_api_answers_with_a_signed_return_url_if_asked() {
    let gate = start();
    let bearer = format!("Bearer {}", gate.token("alice"));
    let sale = "/api/v1/sales/demo";
    let pass = send(gate.bound.shop, "POST", &format!("{sale}/passes"), &[("authorization", &bearer)], "");
    let pass = pass.json()["pass"].as_str().unwrap().to_owned();
    let url = send(gate.bound.shop, "GET", sale, &[], "").json()["attempts_url"].as_str().unwrap().to_owned();
    let attempt = |key: &str, query: &str| {
        let headers =
            [("floodgate-pass", &*pass), ("idempotency-key", key), ("content-type", "application/json")];
        let body = r#"{"lines":[{"item":"phone","quantity":1}]}"#;
        send(gate.bound.shop, "POST", &format!("{url}{query}"), &headers, body)
    };
    let query = format!("?return_url={BACK_ENCODED}");
    let bought = attempt("k1", &query).json();
    assert!(bought["hold"].get("ticket").is_none(), "the answer to an attempt has no ticket");
    assert!(attempt("k1", "").json().get("return_url").is_none(), "the request named no return_url");

    let refused = attempt("k2", &query).json();
    let signed = refused["return_url"].as_str().unwrap().strip_prefix(&format!("{BACK}&floodgate=")).unwrap();
    let (_, claims) = checked(&gate, signed);
    assert_eq!((&claims["outcome"], &claims["shopper"]), (&"limit_reached".into(), &"alice".into()));
    assert_eq!((&claims["aud"], &claims["as_of"]), (&"https://shop.example".into(), &refused["as_of"]));
    assert_eq!(claims["attempt"], refused["attempt"]);

    // Also for a later read, and only for URLs of the list.
    let read = |query: &str| {
        let path = format!("{sale}/attempts/{}{query}", bought["attempt"].as_str().unwrap());
        send(gate.bound.shop, "GET", &path, &[("floodgate-pass", &pass)], "")
    };
    let read_now = read(&query).json();
    let ticket = read_now["hold"]["ticket"].as_str().unwrap();
    assert_eq!(read_now["return_url"], format!("{BACK}&floodgate={ticket}"));
    assert_eq!(bought["return_url"], read_now["return_url"], "the return URL has the same ticket");
    let elsewhere = "?return_url=https%3A%2F%2Fshop.example.evil%2Fcheckout";
    assert_eq!((read(elsewhere).status, attempt("k3", elsewhere).status), (422, 422));
}
