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
    assert!(
        result.body.contains("已付款") && result.body.contains("<html lang=\"zh-Hans\">"),
        "{}",
        result.body
    );
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
    assert!(
        shown.status == 403 && shown.body.contains("页面已过期，请返回刷新后重新提交。"),
        "a person gets a page: {shown:?}"
    );
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
    assert!(
        result.contains("You are in line") && result.contains("content=\"2;url=/sales/demo/attempts/"),
        "{result}"
    );
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
        assert!(
            result.contains(words) && result.contains("content=\"2;url=/sales/demo/attempts/"),
            "{result}"
        );
    }
    gate.sale.set_mood(Mood::Full);
    let full = browser.post("/sales/demo/buy", &buy_form(&page.body, "watch"));
    assert_eq!((full.status, full.header("retry-after")), (503, Some("7")));
    assert!(
        full.body.contains("Please try again in a moment.") && full.body.contains("queue is full"),
        "{}",
        full.body
    );
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
    for start in ["/static/sale-", "/static/icon-", "/static/app-"] {
        let path = start.to_owned() + page.split(start).nth(1).unwrap().split('"').next().unwrap();
        let file = send(gate.bound.shop, "GET", &path, &[], "");
        assert!(file.status == 200 && file.header("cache-control").unwrap().contains("immutable"), "{path}");
    }
    assert!(!page.contains("<script>") && !page.contains("style="), "nothing inline");

    assert_eq!(send(gate.bound.admin, "GET", "/", &[], "").problem(), "key-missing");
    let key = gate.api_keys.mint_one_time().unwrap();
    let signed_in = send(gate.bound.admin, "POST", &format!("/sign-in?key={key}"), &[], "");
    let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let stats = send(gate.bound.admin, "GET", "/", &[("cookie", &cookie)], "");
    assert!(stats.status == 200 && stats.body.contains("Launch"), "{stats:?}");
    let again = send(gate.bound.admin, "POST", &format!("/sign-in?key={key}"), &[], "");
    assert_eq!(again.problem(), "key-refused");
    let open = send(gate.bound.admin, "POST", "/api/v1/admin/sales/demo/open", &[("cookie", &cookie)], "");
    assert_eq!(open.problem(), "key-missing", "a session can only read");
}

/// The button of an item: whether it can be pressed, and what it says.
fn button(page: &str, item: &str) -> (bool, String) {
    let row = page.split(&format!("data-row=\"{item}\"")).nth(1).unwrap().split("</li>").next().unwrap();
    let button = row.split("<button").nth(1).unwrap();
    let (tag, text) = button.split_once("<span class=\"does\">").unwrap();
    (!tag.contains(" disabled"), text.split('<').next().unwrap().to_owned())
}

#[test]
fn a_button_says_what_it_does_now_and_buys_only_its_own_item() {
    let gate = Running::start(false, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    assert_eq!(button(&page.body, "phone"), (false, "Waiting for the opening".to_owned()));
    gate.sale.open();
    let page = browser.get("/sales/demo").body;
    assert_eq!(button(&page, "phone"), (true, "Buy now".to_owned()));
    assert!(!page.contains("type=\"radio\""), "nothing is selected: {page}");

    let sell_out = |waitlist_open| {
        gate.sale.change_view(|v| {
            (v.items[0].state, v.items[0].waitlist_open) = (contracts::ItemState::SoldOut, waitlist_open);
        });
        browser.get("/sales/demo").body
    };
    assert_eq!(button(&sell_out(true), "phone"), (true, "Sold out: join the waitlist".to_owned()));
    let page = sell_out(false);
    assert_eq!(button(&page, "phone"), (false, "Sold out".to_owned()));
    assert_eq!(button(&page, "watch"), (true, "Buy now".to_owned()), "the other one stays what it was");

    browser.post("/sales/demo/buy", &buy_form(&page, "watch"));
    let page = browser.get("/sales/demo?lang=zh").body;
    assert_eq!(button(&page, "watch"), (false, "您已达到限购数量".to_owned()));
    gate.sale.change_view(|v| v.state = contracts::SaleState::Paused);
    assert_eq!(button(&browser.get("/sales/demo").body, "phone"), (false, "Paused".to_owned()));
    gate.sale.change_view(|v| v.state = contracts::SaleState::Closed);
    assert_eq!(button(&browser.get("/sales/demo").body, "watch"), (false, "Ended".to_owned()));
}

#[test]
fn a_limit_that_an_operator_changed_is_the_one_that_the_page_goes_by() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    let row = |page: &str| {
        page.split("data-row=\"phone\"").nth(1).unwrap().split("</li>").next().unwrap().to_owned()
    };
    assert!(!row(&page.body).contains("<select"), "the document's limit is one");
    browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let page = browser.get("/sales/demo").body;
    assert_eq!(button(&page, "phone").1, "You have as many as you may have");
    gate.sale.change_view(|v| v.items[0].limit_per_shopper = 3);
    let page = browser.get("/sales/demo").body;
    assert_eq!(button(&page, "phone"), (true, "Buy now".to_owned()));
    assert!(row(&page).contains("<option value=\"3\">") && !row(&page).contains("<option value=\"4\">"));
    gate.sale.change_view(|v| v.limit_per_shopper = 1);
    let page = browser.get("/sales/demo").body;
    assert_eq!(button(&page, "phone").1, "You have as many as you may have", "over the whole sale");
}

#[test]
fn every_hold_is_listed_with_its_item_price_and_own_buttons() {
    let gate = Running::start(true, true, |_| {});
    let (browser, _) = Browser::open(&gate, "");
    for item in ["phone", "watch"] {
        let page = browser.get("/sales/demo").body;
        browser.post("/sales/demo/buy", &buy_form(&page, item));
    }
    let page = browser.get("/sales/demo").body;
    let rows: Vec<&str> = page.split("<li class=\"good\" data-attempt").skip(1).collect();
    assert_eq!(rows.len(), 2, "the second hides the first: {page}");
    for (row, goods) in rows.iter().zip(["1 × Watch · CN¥99.00", "1 × Phone · CN¥1,999.00"]) {
        let row = row.split("</li>").next().unwrap();
        assert!(row.contains(goods) && row.contains("Pay by") && row.contains("data-until="), "{row}");
        assert!(row.contains("Pay (sandbox)") && row.contains("Give it back"), "{row}");
    }
    let watch = field(rows[0], "hold");
    let form = format!("csrf={}&hold={watch}&lang=en", field(&page, "csrf"));
    let back = browser.post("/sales/demo/give-back", &form);
    let shown = browser.get(back.header("location").unwrap()).body;
    assert!(shown.contains("Given back") && shown.contains("It is yours to pay"), "{shown}");
    let (thief, page) = Browser::open(&gate, "");
    let phone = field(rows[1], "hold");
    let stolen = format!("csrf={}&hold={phone}", field(&page.body, "csrf"));
    assert_eq!(thief.post("/sales/demo/give-back", &stolen).problem(), "not-found");

    let fragment = browser.get("/sales/demo?fragment=1").body;
    assert!(fragment.starts_with("<div id=\"yours\"") && !fragment.contains("id=\"answer\""), "{fragment}");
}

#[test]
fn a_refusal_names_what_was_asked_for_and_the_promoted_shopper_sees_it() {
    let gate = Running::start(true, true, |_| {});
    gate.sale.set_mood(Mood::Waitlists);
    let (browser, page) = Browser::open(&gate, "");
    let joined = browser.post("/sales/demo/buy", &buy_form(&page.body, "watch"));
    let shown = browser.get(joined.header("location").unwrap()).body;
    assert!(shown.contains("You are on the waitlist") && shown.contains("1 × Watch · CN¥99.00"), "{shown}");
    assert!(shown.contains("Place <strong>3</strong>") && shown.contains("Leave the waitlist"), "{shown}");
    assert!(!button(&shown, "watch").0, "a place counts for the limit");
    gate.sale.set_mood(Mood::NotEligible);
    let refused = browser.post("/sales/demo/buy", &buy_form(&shown, "phone"));
    let shown = browser.get(refused.header("location").unwrap()).body;
    let answer = shown.split("id=\"yours\"").next().unwrap();
    assert!(answer.contains("Not for this sale") && answer.contains("1 × Phone · CN¥1,999.00"), "{answer}");
    for word in ["log entry", "attempt has", "units", "true at"] {
        assert!(!shown.contains(word), "{word:?} is not a shopper's word");
    }
}

#[test]
fn a_page_that_does_not_sell_leads_to_the_shop() {
    let gate = Running::start(true, false, |config| {
        config.shop_url = "https://shop.example/launch".into();
        config.return_urls = vec!["https://shop.example/checkout".into()];
    });
    let page = send(gate.bound.shop, "GET", "/sales/demo", &[], "").body;
    assert!(page.contains("href=\"https://shop.example/launch\""), "{page}");
    let from = "/sales/demo?return_url=https://shop.example/checkout/7";
    let page = send(gate.bound.shop, "GET", from, &[], "").body;
    assert!(page.contains("href=\"https://shop.example/checkout/7\""), "{page}");
    let gate = Running::start(true, false, |_| {});
    let page = send(gate.bound.shop, "GET", "/sales/demo", &[], "").body;
    assert!(page.contains("come from the shop that runs this sale"), "{page}");
}

#[test]
fn a_countdown_of_days_says_days() {
    let gate = Running::start(false, true, |_| {});
    gate.sale.change_view(|v| v.opens_at = v.opens_at.plus(units::DurationMs::seconds(2 * 86_400 + 7200)));
    let (browser, page) = Browser::open(&gate, "");
    let zh = browser.get("/sales/demo?lang=zh").body;
    for (page, days, seconds) in [(&page.body, "days", "seconds"), (&zh, "天", "秒")] {
        let clock = page.split("id=\"countdown\"").nth(1).unwrap().split("</div>").next().unwrap();
        assert!(clock.contains(&format!("<b data-unit=\"d\">02</b> <span>{days}</span>")), "{clock}");
        assert!(clock.contains(&format!("</b> <span>{seconds}</span>")), "{clock}");
        assert!(clock.starts_with(" role=\"timer\" aria-live=\"off\""), "no tick is read out: {clock}");
    }
}

/// Gives an item a picture of this URL.
fn with_picture(gate: &Running, at: usize, url: &str) {
    gate.sale.change_view(|view| {
        let mut spec = (*view.spec).clone();
        let alt_zh = Some("一部“手机”".to_owned());
        let alt = "A \"phone\"".to_owned();
        spec.items[at].picture =
            Some(contracts::ItemPicture { url: url.into(), width: 400, height: 300, alt, alt_zh });
        view.spec = std::sync::Arc::new(spec);
    });
}

fn images_of(answer: &Answer) -> &str {
    let policy = answer.header("content-security-policy").unwrap();
    policy.split("; ").find_map(|part| part.strip_prefix("img-src ")).unwrap()
}

#[test]
fn a_page_loads_pictures_from_where_its_sale_says_and_from_nowhere_else() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    assert_eq!(images_of(&page), "'self'");
    assert!(!page.body.contains("<img") && page.body.contains("class=\"hero plain\""), "{}", page.body);
    with_picture(&gate, 0, "https://media.example/phone.webp?w=800");
    with_picture(&gate, 1, "http://other.example:8080/watch.webp");
    let page = browser.get("/sales/demo");
    assert_eq!(images_of(&page), "'self' https://media.example http://other.example:8080");
    let img = |page: &Answer, url: &str| {
        let tag = page.body.split("<img").find(|tag| tag.contains(url)).unwrap();
        tag.split('>').next().unwrap().to_owned()
    };
    let first = img(&page, "https://media.example/phone.webp?w=800");
    for part in
        ["width=\"400\" height=\"300\"", "alt=\"A &quot;phone&quot;\"", "loading=\"eager\"", "no-referrer"]
    {
        assert!(first.contains(part), "{first}");
    }
    assert!(img(&page, "http://other.example:8080/watch.webp").contains("loading=\"lazy\""));
    let zh = browser.get("/sales/demo?lang=zh");
    assert!(img(&zh, "media.example").contains("alt=\"一部“手机”\""), "{}", zh.body);
    // Also where something was bought, and where something was refused.
    let bought = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let shown = browser.get(bought.header("location").unwrap());
    assert!(images_of(&shown).contains("https://media.example"), "{shown:?}");
    gate.sale.set_mood(Mood::Full);
    let full = browser.post("/sales/demo/buy", &buy_form(&shown.body, "watch"));
    assert!(full.status == 503 && images_of(&full).contains("https://media.example"), "{full:?}");
}

#[test]
fn a_shopper_in_line_sees_how_far_they_have_come() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    gate.sale.set_mood(Mood::InLine);
    let queued = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let location = queued.header("location").unwrap().to_owned();
    let first = browser.get(&location).body;
    for part in [
        "Place <strong>42</strong>",
        "<progress max=\"42\" value=\"0\" aria-label=\"Your way to the front\">",
        "41 are before you.",
        "data-from=\"41\"",
        "id=\"answer\" aria-live=\"polite\"",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    // The page that reloads itself carries on where it began.
    let again = first.split("http-equiv=\"refresh\"").nth(1).unwrap().split("url=").nth(1).unwrap();
    let again = again.split('"').next().unwrap().replace("&amp;", "&");
    assert!(again.contains("&from=41"), "{again}");
    let later = browser.get(&again.replace("from=41", "from=99")).body;
    assert!(later.contains("<progress max=\"100\" value=\"58\""), "{later}");
    // What the address claims changes the bar alone, and never makes it run backwards.
    let forged = browser.get(&again.replace("from=41", "from=3")).body;
    assert!(forged.contains("<progress max=\"42\" value=\"0\"") && forged.contains("41 are"), "{forged}");
    let forged = browser.get(&again.replace("from=41", "from=18446744073709551615"));
    assert!(forged.status == 200 && forged.body.contains("<progress max=\"18446744073709551615\""));
    let zh = browser.get(&location.replace("lang=en", "lang=zh")).body;
    assert!(zh.contains("当前位置 <strong>42</strong>") && zh.contains("aria-label=\"排队进度\""), "{zh}");
}

#[test]
fn a_shopper_who_got_none_is_thanked_told_the_count_and_led_on() {
    let gate = Running::start(true, true, |config| config.shop_url = "https://shop.example/launch".into());
    for _ in 0..2 {
        let (browser, page) = Browser::open(&gate, "");
        browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    }
    gate.sale.change_view(|v| v.items[0].waitlist_open = false);
    let (browser, page) = Browser::open(&gate, "");
    let refused = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let location = refused.header("location").unwrap().to_owned();
    let answer = |page: &str| page.split("id=\"yours\"").next().unwrap().to_owned();
    let en = answer(&browser.get(&location).body);
    for part in [
        "data-outcome=\"sold_out\"",
        "Sold out. Thank you for being here",
        "Phone: 0 sold, and 2 kept for shoppers who are paying.",
        "href=\"https://shop.example/launch\"",
        "See what else the shop has",
        "<svg class=\"art\"",
    ] {
        assert!(en.contains(part), "{part}: {en}");
    }
    let zh = answer(&browser.get(&location.replace("lang=en", "lang=zh")).body);
    for part in ["已售罄，感谢您的参与", "手机：已售出 0 件，另有 2 件正在付款。", "去商店逛逛"]
    {
        assert!(zh.contains(part), "{part}: {zh}");
    }
}

#[test]
fn what_the_answer_is_about_is_not_listed_once_more() {
    let gate = Running::start(true, true, |_| {});
    let (browser, page) = Browser::open(&gate, "");
    let bought = browser.post("/sales/demo/buy", &buy_form(&page.body, "phone"));
    let shown = browser.get(bought.header("location").unwrap()).body;
    assert_eq!(shown.matches("class=\"pay\"").count(), 1, "one button pays: {shown}");
    assert!(shown.contains("Pay until") && shown.contains("data-have=\"phone\""), "{shown}");
    let attempt = field(&shown, "hold");
    let beside = browser.get(&format!("/sales/demo?fragment=1&above={attempt}")).body;
    assert!(!beside.contains(&attempt) && beside.contains("data-have=\"phone\""), "{beside}");
    assert!(browser.get("/sales/demo?fragment=1").body.contains(&attempt));
}
