//! The shop's pages as people meet them without a browser's help: problems in the shop's own frame
//! and their reader's language, forms that were refused, titles, and what is said of a sale.

use super::carts::{add, check_out};
use super::store::{Shopper, between, form_token, shop};
use crate::harness::{Server, Setup};

/// The text of a page's first heading.
#[track_caller]
fn heading(page: &str) -> &str {
    between(page, "<h1>", "</h1>")
}

#[track_caller]
fn title(page: &str) -> &str {
    between(page, "<title>", "</title>")
}

/// An order of the shopper's that waits for its payment.
#[track_caller]
fn order_of_cart(shopper: &mut Shopper<'_>) -> String {
    add(shopper, "1");
    let reply = check_out(shopper);
    assert_eq!(reply.status, 303, "{reply:?}");
    let order = reply.header("location").to_owned();
    shopper.wait_for(&order, "Reserved for you");
    order
}

#[test]
fn problems_are_pages_of_the_shop_in_the_language_that_its_reader_chose() {
    let server = shop();
    let mut reader = Shopper::stranger(&server);
    let missing = reader.get("/p/nothing");
    assert_eq!((missing.status, heading(&missing.body)), (404, "We can't find this page"));
    assert_eq!(missing.header("cache-control"), "no-store");
    assert!(missing.body.contains("action=\"/search\"") && missing.body.contains("Log in"));
    assert!(!missing.body.contains("there is none of this name"), "details are for programs");
    reader.session = "shop_lang=zh".into();
    let missing = reader.get("/nothing/here");
    assert_eq!((missing.status, heading(&missing.body)), (404, "找不到该页面"));
    assert!(missing.body.contains("<html lang=\"zh-Hans\">") && missing.body.contains("返回商城"));
    // Its link leads to the same page in the other language.
    assert!(missing.body.contains("href=\"/nothing/here?lang=en\""), "{}", missing.body);
    let wrong = reader.get(&format!("/search?q={}", "a".repeat(100)));
    assert_eq!((wrong.status, heading(&wrong.body)), (422, "操作未成功"));
    // One whose session may be good is not asked to log in.
    reader.session = "shop_session=00; shop_lang=en".into();
    let missing = reader.get("/nothing").body;
    assert!(missing.contains("href=\"/orders\"") && !missing.contains("/account/log-in"), "{missing}");
    // Programs get the document, and pages of operators have their own frame.
    let document = reader.client.get(&format!("http://{}/p/nothing", server.store));
    assert_eq!((document.status, document.problem().as_str()), (404, "not-found"));
    assert!(!reader.get("/console/orders/x").body.contains("action=\"/search\""));
}

#[test]
fn the_page_of_the_sandbox_has_the_language_of_the_shop() {
    let server = shop();
    let mut reader = Shopper::stranger(&server);
    reader.session = "shop_lang=zh".into();
    // A problem of its own path, and so in the shop's frame.
    assert_eq!(heading(&reader.get("/sandbox/none").body), "找不到该页面");
    let mut ann = Shopper::new(&server, "Ann");
    let order = order_of_cart(&mut ann);
    let sandbox = ann.begin_to_pay(&order);
    ann.session = format!("{}; shop_lang=zh", ann.session);
    let page = ann.get(&sandbox).body;
    assert!(page.contains("<html lang=\"zh-Hans\">") && page.contains("沙盒支付"), "{page}");
    assert!(page.contains("¥299</strong>"), "{page}");
}

#[test]
fn a_form_that_was_refused_can_be_read_in_the_other_language() {
    let server = shop();
    let ann = Shopper::new(&server, "Ann");
    let token = form_token(&ann.get("/account/settings").body).to_owned();
    let form = [("form", &*token), ("current", "wrong wrong wrong"), ("new", "correct horse 2")];
    let refused = ann.post("/account/password", &form);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(title(&refused.body).starts_with("Error: "), "{}", title(&refused.body));
    let other = between(&refused.body, "<a href=\"/account/settings?", "\"");
    let page = ann.get(&format!("/account/settings?{other}"));
    assert_eq!((page.status, heading(&page.body)), (200, "姓名与密码"));
    // The field that is wrong has the focus.
    assert!(between(&refused.body, "id=\"current\"", ">").contains("autofocus"));
    assert!(!between(&refused.body, "id=\"new\"", ">").contains("autofocus"));
}

#[test]
fn all_that_is_wrong_with_a_registration_is_said_at_once() {
    let server = shop();
    Shopper::new(&server, "Ann");
    let stranger = Shopper::stranger(&server);
    let form = [("name", ""), ("email", "nobody"), ("password", "short"), ("next", "/cart")];
    let refused = stranger.post("/account/register", &form);
    assert_eq!(refused.status, 422);
    for field in ["name", "email", "password"] {
        assert!(refused.body.contains(&format!("id=\"{field}-error\"")), "{field}: {}", refused.body);
    }
    assert!(refused.body.contains("Please enter an email such as"), "{}", refused.body);
    // Who has an account already is led to it, and then to where they wanted to go.
    let form =
        [("name", "Ann"), ("email", "ann@example.com"), ("password", "correct horse"), ("next", "/cart")];
    let taken = stranger.post("/account/register", &form);
    assert!(taken.body.contains("There is already an account with this email."), "{}", taken.body);
    assert!(taken.body.contains("<a class=\"apart\" href=\"/account/log-in?next=%2Fcart\">"));
}

#[test]
fn all_that_is_wrong_with_an_address_is_said_at_once() {
    let server = shop();
    let mut ann = Shopper::new(&server, "Ann");
    let order = order_of_cart(&mut ann);
    let path = format!("{order}/address");
    let token = form_token(&ann.get(&path).body).to_owned();
    let refused = ann.post(&path, &[("form", &*token), ("name", "Ann"), ("phone", "x"), ("country", "??")]);
    assert_eq!(refused.status, 422);
    for field in ["phone", "street", "city", "country"] {
        assert!(refused.body.contains(&format!("id=\"{field}-error\"")), "{field}: {}", refused.body);
    }
    assert!(refused.body.contains(" value=\"Ann\"") && !refused.body.contains("id=\"name-error\""));
}

#[test]
fn a_page_that_waits_reloads_by_itself_only_without_javascript() {
    let server = shop();
    let ann = Shopper::new(&server, "Ann");
    let hold = "00000000000000000000000000000001";
    let page = ann.get(&format!("/checkout?sale=demo&hold={hold}"));
    assert_eq!(page.status, 200, "{page:?}");
    let refresh = between(&page.body, "<noscript><meta http-equiv=\"refresh\" content=\"", "\"");
    assert!(refresh.starts_with("2;url=/checkout?"), "{refresh}");
    assert_eq!(page.body.matches("http-equiv=\"refresh\"").count(), 1);
    let main = between(&page.body, "<main id=\"main\"", ">");
    assert!(main.contains("data-again=\"/checkout?sale=demo") && main.contains("data-after=\"2\""), "{main}");
    assert!(page.body.contains("<script src=\"/static/shop-"), "{}", page.body);
}

#[test]
fn an_order_whose_payment_is_awaited_offers_no_second_one() {
    let server = shop();
    let mut ann = Shopper::new(&server, "Ann");
    let order = order_of_cart(&mut ann);
    let named = ann.get(&order).body;
    assert_eq!(title(&named), "Marsh Keyboard – Waiting for your payment · Floodgate");
    assert!(named.contains(&format!("action=\"{order}/pay\"")));
    ann.begin_to_pay(&order);
    let waits = ann.get(&format!("{order}?from=payment")).body;
    assert!(waits.contains("This page updates by itself.") && !waits.contains("/pay\""), "{waits}");
    // In the end it says that there is no word, and lets the shopper choose.
    let unheard = ann.get(&format!("{order}?from=payment&tries=30")).body;
    assert!(unheard.contains("No word from the payment provider yet"), "{unheard}");
    assert!(unheard.contains("/pay\"") && !unheard.contains("http-equiv"), "{unheard}");
}

#[test]
fn pages_tell_their_place_and_language_to_those_who_find_them() {
    let server = shop();
    let stranger = Shopper::stranger(&server);
    let home = stranger.get("/");
    assert_eq!(title(&home.body), "Floodgate");
    assert_eq!(home.header("cache-control"), "private, no-cache", "a visitor may go back to it");
    assert_eq!(title(&stranger.get("/search?q=watch").body), "“watch” – Search · Floodgate");
    let product = stranger.get("/p/brook-mini").body;
    assert!(product.contains("<meta name=\"description\" content=\"A small phone"), "{product}");
    let origin = format!("http://{}", server.store);
    let other = format!("hreflang=\"zh-Hans\" href=\"{origin}/p/brook-mini?lang=zh\"");
    assert!(product.contains(&other), "{product}");
    assert!(product.contains("<nav class=\"crumbs\" aria-label=\"Breadcrumb\">"), "{product}");
    // Who is signed in has pages of their own.
    let ann = Shopper::new(&server, "Ann");
    assert_eq!(ann.get("/").header("cache-control"), "no-store");
    assert!(ann.get("/").body.contains("aria-label=\"Your account: Ann\""));
}

#[test]
fn a_guest_reads_when_a_sale_opens_and_whether_it_has() {
    let at = |opens_in: &str| {
        let serve = ["--demo", "--demo-opens-in", opens_in].map(str::to_owned).to_vec();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let stranger = Shopper::stranger(&server);
        ["/", "/p/flood-one", "/p/flood-one?lang=zh"].map(|path| {
            let page = stranger.get(path).body;
            between(&page, "<p class=\"sale-state\"><strong>", "</strong>").to_owned()
        })
    };
    let [home, product, zh] = at("3600");
    assert!(home.starts_with("Opens ") && home.ends_with(" (UTC+8)"), "{home}");
    assert_eq!(home, product);
    assert!(zh.ends_with(" 开抢"), "{zh}");
    assert_eq!(at("0"), ["On sale now", "On sale now", "正在抢购"]);
}
