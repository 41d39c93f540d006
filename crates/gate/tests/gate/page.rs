//! The demo's page as a browser without JavaScript uses it: cookies, forms, redirects.

use crate::client::{Answer, send};
use crate::fake::{Mood, Running};

struct Browser<'a> {
    gate: &'a Running,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn open(gate: &'a Running, query: &str) -> (Self, Answer) {
        let page = send(gate.bound.shop, "GET", &format!("/sales/demo{query}"), &[], "");
        let cookie = page.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        (Self { gate, cookie }, page)
    }

    fn get(&self, path: &str) -> Answer {
        send(self.gate.bound.shop, "GET", path, &[("cookie", &self.cookie)], "")
    }

    fn post(&self, path: &str, form: &str) -> Answer {
        let headers = [("cookie", &*self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        send(self.gate.bound.shop, "POST", path, &headers, form)
    }
}

fn field(page: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let rest = page.split(&mark).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().unwrap().to_owned()
}

fn buy_form(page: &str, item: &str) -> String {
    format!("csrf={}&key={}&item={item}&quantity=1&lang=en", field(page, "csrf"), field(page, "key"))
}

#[test]
fn a_visitor_without_javascript_buys_and_pays() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    assert!(
        page.body.contains("<html lang=\"en\">") && page.body.contains("Launch &lt;day&gt;"),
        "{}",
        page.body
    );
    assert!(page.body.contains("This is a demo"));
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    let bought = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    assert_eq!(bought.status, 303, "{bought:?}");
    let result = browser.get(bought.header("location").unwrap());
    assert!(
        result.body.contains("It is yours to pay") && result.body.contains("Pay (sandbox)"),
        "{}",
        result.body
    );
    assert!(!result.body.contains("http-equiv=\"refresh\""), "a hold needs no reloading");

    let pay = format!("csrf={}&hold={}&lang=zh", field(&result.body, "csrf"), field(&result.body, "hold"));
    let paid = browser.post("/sales/demo/pay", &pay);
    let result = browser.get(paid.header("location").unwrap());
    assert!(result.body.contains("已付款") && result.body.contains("<html lang=\"zh\">"), "{}", result.body);
    assert!(browser.get("/sales/demo").body.contains("Paid: it is yours"), "a closed tab loses nothing");
    assert_eq!(browser.get("/").header("location"), Some("/sales/demo"));
}

#[test]
fn the_page_shows_a_refusal_truthfully_and_none_can_be_forged() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let again = browser.get("/sales/demo").body;
    let refused = browser.post("/sales/demo/buy", &buy_form(&again, "phone"));
    let location = refused.header("location").unwrap().to_owned();
    let result = browser.get(&location).body;
    assert!(result.contains("Your limit is reached") && result.contains("See what you have"), "{result}");
    let forged = browser.get(&location.replace("limit_reached", "sold_out")).body;
    assert!(forged.contains("No answer is kept") && !forged.contains("Sold out</h2>"), "{forged}");
}

#[test]
fn a_form_that_the_page_did_not_issue_does_nothing() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    let (other, _) = Browser::open(&gate, "");
    let form = buy_form(&page.body, "phone");
    assert_eq!(other.post("/sales/demo/buy", &form).problem(), "form-refused");
    assert_eq!(browser.post("/sales/demo/buy", &form.replace("csrf=", "csrf=x")).problem(), "form-refused");
    assert_eq!(browser.post("/sales/demo/buy", &form.replace("csrf=", "x=")).problem(), "invalid");
    let headers = [
        ("cookie", &*other.cookie),
        ("accept", "text/html"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let shown = send(gate.bound.shop, "POST", "/sales/demo/buy?lang=zh", &headers, &form);
    assert!(shown.status == 403 && shown.body.contains("未能完成"), "a person gets a page: {shown:?}");
    let forged = Browser { gate: &gate, cookie: browser.cookie.replace('.', "x.") };
    assert_eq!(forged.post("/sales/demo/buy", &form).problem(), "form-refused");
    let json = send(
        gate.bound.shop,
        "POST",
        "/sales/demo/buy",
        &[("cookie", &browser.cookie), ("content-type", "text/plain")],
        &form,
    );
    assert_eq!(json.problem(), "media-type");

    let bought = browser.post("/sales/demo/buy", &form);
    let attempt = bought.header("location").unwrap().split(['/', '?']).nth(4).unwrap().to_owned();
    let stolen = format!("csrf={}&hold={attempt}", field(&browser.get("/sales/demo").body, "csrf"));
    assert_eq!(other.post("/sales/demo/pay", &stolen).problem(), "form-refused");
    let (thief, page) = Browser::open(&gate, "");
    let stolen = format!("csrf={}&hold={attempt}", field(&page.body, "csrf"));
    assert_eq!(thief.post("/sales/demo/pay", &stolen).problem(), "not-found");
}

#[test]
fn the_page_reloads_itself_only_while_a_change_is_expected() {
    let gate = Running::start(false, true, |_| {});
    let (browser, page) = Browser::open(&gate, "?lang=zh");
    assert!(page.body.contains("距开始") && page.body.contains("手机") && page.body.contains("新品首发"));
    assert!(page.body.contains("http-equiv=\"refresh\"") && page.body.contains("disabled"));
    gate.sale.open();
    let page = browser.get("/sales/demo");
    assert!(!page.body.contains("http-equiv=\"refresh\"") && page.body.contains("Buy now"));
    gate.sale.set_mood(Mood::Silent);
    let queued = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let result = browser.get(queued.header("location").unwrap()).body;
    assert!(result.contains("You are in line") && result.contains("content=\"2\""), "{result}");
    assert!(result.contains("5 are before you.") && !result.contains("should come"), "{result}");
    gate.sale.set_mood(Mood::InLine);
    let page = browser.get("/sales/demo");
    let queued = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let location = queued.header("location").unwrap();
    for (lang, words) in [
        ("en", "41 are before you. Your answer should come in about 2 minutes."),
        ("zh", "您前面还有 41 位。预计约 2 分钟后有结果。"),
    ] {
        let result = browser.get(&location.replace("lang=en", &format!("lang={lang}"))).body;
        assert!(result.contains(words) && result.contains("content=\"2\""), "{result}");
    }
    gate.sale.set_mood(Mood::Full);
    let full = browser.post("/sales/demo/buy", &buy_form(&page.body, "watch"));
    assert_eq!((full.status, full.header("retry-after")), (503, Some("7")));
    assert!(full.body.contains("It did not work") && full.body.contains("queue is full"), "{}", full.body);
}

#[test]
fn unsold_items_are_not_called_sold_out_after_the_sales_end() {
    let gate = Running::start(true, true, |_| {});
    gate.sale.change_view(|v| {
        v.state = contracts::SaleState::Closed;
        v.closes_at = "2026-03-04T05:06:07Z".parse().unwrap();
        v.items.iter_mut().for_each(|i| i.offered = false);
        v.items[1].state = contracts::ItemState::SoldOut;
    });
    for (query, ended, sold_out) in [("", "Ended", "Sold out"), ("?lang=zh", "已结束", "已售罄")] {
        let (_, page) = Browser::open(&gate, query);
        let tag = |item: &str| {
            let rest = page.body.split(&format!("data-item=\"{item}\"")).nth(1).unwrap();
            rest.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned()
        };
        assert_eq!((&*tag("phone"), &*tag("watch")), (ended, sold_out), "{}", page.body);
        assert!(page.body.contains("2026-03-04 05:06:07 UTC"), "{}", page.body);
    }
    let api = send(gate.bound.shop, "GET", "/api/v1/sales/demo", &[], "").json();
    assert_eq!(
        (&api["items"][0]["state"], &api["items"][1]["state"]),
        (&"available".into(), &"sold_out".into())
    );
    assert_eq!(api["closes_at"], "2026-03-04T05:06:07.000Z");
}

#[test]
fn outside_a_demo_no_cookie_makes_a_visitor_a_shopper() {
    let gate = Running::start(true, false, |_| {});
    let page = send(gate.bound.shop, "GET", "/sales/demo", &[], "");
    assert_eq!((page.status, page.header("set-cookie")), (200, None));
    assert!(!page.body.contains("<form") && !page.body.contains("demo</p>"), "{}", page.body);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let bought =
        send(gate.bound.shop, "POST", "/sales/demo/buy", &headers, "csrf=x&key=k&item=phone&quantity=1");
    assert_eq!(bought.problem(), "form-refused");
}

#[test]
fn files_carry_their_hash_and_the_console_page_needs_its_key() {
    let gate = Running::start(true, true, |_| {});
    let page = send(gate.bound.shop, "GET", "/sales/demo", &[], "").body;
    for start in ["/static/style-", "/static/app-"] {
        let path = start.to_owned() + page.split(start).nth(1).unwrap().split('"').next().unwrap();
        let file = send(gate.bound.shop, "GET", &path, &[], "");
        assert!(file.status == 200 && file.header("cache-control").unwrap().contains("immutable"), "{path}");
    }
    assert!(!page.contains("<script>") && !page.contains("style="), "nothing inline");

    assert_eq!(send(gate.bound.admin, "GET", "/", &[], "").problem(), "key-missing");
    let key = gate.api_keys.mint_one_time().unwrap();
    let signed_in = send(gate.bound.admin, "GET", &format!("/sign-in?key={key}"), &[], "");
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let stats = send(gate.bound.admin, "GET", "/", &[("cookie", &cookie)], "");
    assert!(stats.status == 200 && stats.body.contains("Launch"), "{stats:?}");
    let again = send(gate.bound.admin, "GET", &format!("/sign-in?key={key}"), &[], "");
    assert_eq!(again.problem(), "key-refused");
    let open = send(gate.bound.admin, "POST", "/api/v1/admin/sales/demo/open", &[("cookie", &cookie)], "");
    assert_eq!(open.problem(), "key-missing", "a session can only read");
}
