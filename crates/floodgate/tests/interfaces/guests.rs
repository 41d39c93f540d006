//! Orders of guests: a cart is checked out without an account, paid and seen by the browser that
//! ordered and by a letter's link, by no one else; an account takes it over once its address is
//! proven; and what the shop has of a guest is had and erased.

use crate::{
    carts::{Operator, add},
    harness::{Server, Setup, http::Reply, mariadb::MariaDb, poll},
    store::{Shopper, between, form_token, shop, with_address},
};
use serde_json::json;
use std::fs;

/// The form of the page of a checkout, with this address of mail.
fn form_of(page: &str, email: &str) -> Vec<(String, String)> {
    let of = |name: &str| between(page, &format!("name=\"{name}\" value=\""), "\"").to_owned();
    let fields = ["guest", "key", "total-standard"].map(|name| (name, of(name)));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    let fields = [&fields[..], &[("shipping", "standard"), ("email", email)]].concat();
    with_address(&fields).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn send(shopper: &Shopper<'_>, form: &[(String, String)]) -> Reply {
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (&**name, &**value)).collect();
    shopper.post("/cart/check-out", &form)
}

/// The browser keeps the secret of its order, beside its cart.
fn keep(shopper: &mut Shopper<'_>, reply: &Reply) {
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("shop_guest=") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    let cart =
        shopper.session.split("; ").find(|of| of.starts_with("shop_cart=")).unwrap_or("a=b").to_owned();
    shopper.session = format!("{cart}; {}", cookie.split(';').next().unwrap());
}

/// Orders what is in the cart; returns the path of the order.
#[track_caller]
fn order(shopper: &mut Shopper<'_>, email: &str) -> String {
    let page = shopper.get("/cart/check-out").body;
    let reply = send(shopper, &form_of(&page, email));
    assert_eq!(reply.status, 303, "{reply:?}");
    keep(shopper, &reply);
    reply.header("location").to_owned()
}

/// The link in the letter to this address.
#[track_caller]
fn link_to(server: &Server, email: &str, subject: &str) -> String {
    poll("a letter", || {
        let all = fs::read_dir(server.data.join("store/mail")).ok()?;
        let read = |path| fs::read_to_string(path).ok();
        let all: Vec<String> = all.filter_map(|of| read(of.ok()?.path())).collect();
        let is_it = |letter: &&String| {
            letter.contains(&format!("To: {email}\r\n")) && letter.contains(&format!("Subject: {subject}"))
        };
        let letter = all.iter().find(is_it)?.replace("=\r\n", "").replace("=3D", "=");
        Some(between(&letter, "/guest/order?link=", "&").to_owned())
    })
}

/// Another browser, with a letter's link.
fn by_link<'a>(server: &'a Server, link: &str) -> (Shopper<'a>, Reply) {
    let mut other = Shopper::stranger(server);
    let reply = other.get(&format!("/guest/order?link={link}"));
    if reply.status == 303 {
        keep(&mut other, &reply);
    }
    (other, reply)
}

#[test]
fn a_guest_orders_pays_and_makes_an_account_of_it() {
    from_cart_to_account(&shop());
}

#[test]
fn a_guest_orders_on_mariadb() {
    let maria = MariaDb::start();
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\n", maria.url("guests"));
    from_cart_to_account(&Server::with(Setup { serve, settings, ..Setup::default() }));
}

fn from_cart_to_account(server: &Server) {
    let operator = Operator::new(server);
    let mut ann = Shopper::stranger(server);
    poll("the store is open", || ann.try_get("/").filter(|reply| reply.status == 200));
    assert_eq!(ann.get("/cart/check-out").header("location"), "/cart", "there is nothing to order");
    add(&mut ann, "2");
    let page = ann.get("/cart/check-out").body;
    assert!(page.contains("Your email") && page.contains("No account is needed"), "{page}");
    assert!(ann.get("/cart/check-out?lang=zh").body.contains("无需注册"));
    // What is wrong is said, and nothing is ordered.
    let refused = send(&ann, &form_of(&page, "no address"));
    assert!(refused.status == 422 && refused.body.contains("id=\"email-error\""), "{refused:?}");
    assert!(
        refused.body.contains("value=\"no address\"")
            && refused.body.contains("Chang&#39;an") | refused.body.contains("Chang'an")
    );
    let elsewhere = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "cross-site")];
    let url = format!("http://{}/cart/check-out", server.store);
    assert_eq!(ann.client.send("POST", &url, &elsewhere, "key=1").status, 403);

    // The same form sent again is the same order.
    let form = form_of(&page, "Ann@Example.com");
    let (first, second) = (send(&ann, &form), send(&ann, &form));
    assert_eq!((first.status, second.status), (303, 303), "{first:?} {second:?}");
    assert_eq!(first.header("location"), second.header("location"));
    keep(&mut ann, &first);
    let path = first.header("location").to_owned();
    assert!(ann.get("/cart").body.contains("Your cart is empty."));
    let page = ann.wait_for(&path, "Reserved for you");
    assert!(page.contains("We have sent a link to ann@example.com"), "{page}");
    assert!(!page.contains("Create an account with this order"), "the address is not proven: {page}");

    // No one else sees it: strangers log in, and other shoppers and guests have no such order.
    assert_eq!(Shopper::stranger(server).get(&path).status, 303);
    let bob = Shopper::new(server, "Bob");
    assert_eq!(bob.get(&path).status, 404);
    let token = form_token(&bob.get("/account").body).to_owned();
    for action in ["pay", "cancel"] {
        let status = bob.post(&format!("{path}/{action}"), &[("form", &token)]).status;
        assert_eq!(status, 404, "{action}");
        assert_eq!(ann.post(&format!("{path}/{action}"), &[("form", &token)]).status, 403, "{action}");
    }
    let mut eve = Shopper::stranger(server);
    add(&mut eve, "1");
    order(&mut eve, "eve@example.com");
    assert_eq!(eve.get(&path).status, 303);
    assert_eq!(eve.post(&format!("{path}/cancel"), &[("form", form_token(&page))]).status, 403);

    // The guest pays, and changes the address.
    let token = form_token(&page).to_owned();
    ann.choose(&ann.begin_to_pay(&path), "pay");
    operator.wait_for(&path, "allocated");
    let other = with_address(&[("form", &*token), ("city", "Shanghai")]);
    let other: Vec<_> = other.into_iter().filter(|of| *of != ("city", "Beijing")).collect();
    assert_eq!(ann.post(&format!("{path}/address"), &other).status, 303);
    assert!(ann.get(&path).body.contains("Shanghai"));
    // A guest is no account.
    assert_eq!(ann.get("/account").status, 303);
    assert_eq!(ann.get("/account/sale-token").status, 401);

    // The letter's link leads there from any browser, and lets an account take the order over.
    let link = link_to(server, "ann@example.com", "Your order at");
    let (mut phone, reply) = by_link(server, &link);
    assert_eq!((reply.header("location"), reply.header("referrer-policy")), (&*path, "strict-origin"));
    let page = phone.get(&path).body;
    assert!(page.contains("Create an account with this order") && page.contains("Shanghai"), "{page}");
    let token = form_token(&page).to_owned();
    let take = |of: &Shopper<'_>, link: &str, token: &str, password: &str| {
        of.post("/guest/account", &[("form", token), ("link", link), ("name", "Ann"), ("password", password)])
    };
    let short = take(&phone, &link, &token, "short");
    assert!(short.status == 422 && short.body.contains("id=\"password-error\""), "{short:?}");
    assert_eq!(take(&phone, &link, "x", "correct horse").status, 403);
    let of_browser = ann.session.split("shop_guest=").last().unwrap().to_owned();
    assert_eq!(take(&ann, &of_browser, &token, "correct horse").status, 422, "the browser proves no address");
    let reply = take(&phone, &link, &token, "correct horse");
    assert_eq!((reply.status, reply.header("location")), (303, &*path), "{reply:?}");
    phone.keep_session(&reply);
    assert!(phone.get("/orders").body.contains(&path));
    assert!(phone.get(&path).body.contains("Shanghai"));
    // The guest's secrets are over.
    assert_eq!(ann.get(&path).status, 303);
    assert_eq!(by_link(server, &link).1.status, 422);
    assert_eq!(take(&phone, &link, &token, "correct horse").status, 422);
    // No secret is in the log.
    let said = server.errors();
    assert!(!said.contains(&link) && !said.contains(&of_browser) && !said.contains("example.com"), "{said}");
}

#[test]
fn an_account_that_there_is_takes_nothing_over_and_the_link_goes_on() {
    let server = shop();
    let owner = Shopper::new(&server, "Ann");
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let path = order(&mut ann, "ann@example.com");
    ann.choose(&ann.begin_to_pay(&path), "pay");
    Operator::new(&server).wait_for(&path, "allocated");
    assert_eq!(owner.get(&path).status, 404);
    let link = link_to(&server, "ann@example.com", "Your order at");
    let (phone, _) = by_link(&server, &link);
    let token = form_token(&phone.get(&path).body).to_owned();
    let form = [("form", &*token), ("link", &link), ("name", "Ann"), ("password", "another horse")];
    let reply = phone.post("/guest/account", &form);
    assert!(reply.status == 409 && reply.body.contains("There is an account with your email"), "{reply:?}");
    assert_eq!(phone.get(&path).status, 200);
    let unknown = by_link(&server, "of-another-letter").1;
    assert!(unknown.status == 422 && !unknown.body.contains("next=%2Fguest"), "{unknown:?}");
    assert!(unknown.header("cache-control").contains("no-store"), "{unknown:?}");
}

#[test]
fn a_guests_data_is_had_and_erased() {
    let server = shop();
    let operator = Operator::new(&server);
    let mut ann = Shopper::stranger(&server);
    poll("the store is open", || ann.try_get("/").filter(|reply| reply.status == 200));
    add(&mut ann, "1");
    let path = order(&mut ann, "ann@example.com");
    let link = link_to(&server, "ann@example.com", "Your order at");
    let (phone, _) = by_link(&server, &link);
    let token = form_token(&phone.get(&path).body).to_owned();
    let of_guest = [("form", &*token), ("link", &*link)];
    let file = phone.post("/guest/data", &of_guest);
    assert!(file.header("content-disposition").contains("attachment"), "{file:?}");
    let data = file.json();
    assert_eq!(
        (&data["email"], &data["orders"][0]["address"]["city"]),
        (&json!("ann@example.com"), &json!("Beijing"))
    );
    let reply = phone.post("/guest/forget", &of_guest);
    assert!(reply.status == 409 && reply.body.contains("It cannot be erased yet"), "{reply:?}");
    assert_eq!(phone.post(&format!("{path}/cancel"), &[("form", &token)]).status, 303);
    operator.wait_for(&path, "cancelled");
    let reply = phone.post("/guest/forget", &of_guest);
    assert!(reply.status == 200 && reply.body.contains("will be erased shortly"), "{reply:?}");
    assert_eq!(phone.get(&path).status, 303);
    assert_eq!(ann.get(&path).status, 303);
    poll("the order has no person any more", || {
        (operator.get(&path)["address"]["name"] == "deleted").then_some(())
    });
    // A checkout that came to nothing leaves the cart as it was.
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let page = ann.get("/cart/check-out").body;
    let mut form = form_of(&page, "eve@example.com");
    form.iter_mut().filter(|(name, _)| name == "total-standard").for_each(|(_, value)| *value = "1".into());
    let reply = send(&ann, &form);
    assert!(reply.status == 409 && reply.body.contains("A price has changed"), "{reply:?}");
    assert!(!ann.get("/cart").body.contains("Your cart is empty."), "the cart is as it was");
    assert_eq!(order(&mut ann, "eve@example.com").split('/').count(), 3);
}

/// What a form of this page says in a field.
fn set(form: &mut [(String, String)], name: &str, value: &str) {
    let field = form.iter_mut().find(|(of, _)| of == name).unwrap_or_else(|| panic!("{name}"));
    value.clone_into(&mut field.1);
}

#[test]
fn a_form_that_was_refused_is_not_an_order_that_an_erasure_follows() {
    let server = shop();
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let page = ann.get("/cart/check-out").body;
    let right = form_of(&page, "ann@example.com");
    let mut wrong = right.clone();
    set(&mut wrong, "total-standard", "1");
    let refused = send(&ann, &wrong);
    assert_eq!(refused.status, 409, "{refused:?}");
    // What was kept of the guest is being erased: the page is to be sent with another secret.
    let again = send(&ann, &right);
    assert_eq!(again.status, 422, "{again:?}");
    let fresh = form_of(&again.body, "ann@example.com");
    assert_ne!(fresh[0], right[0], "another secret");
    let reply = send(&ann, &fresh);
    assert_eq!(reply.status, 303, "{reply:?}");
}

#[test]
fn an_address_of_mail_that_was_corrected_is_the_one_that_gets_the_letter() {
    let server = shop();
    let mut ann = Shopper::stranger(&server);
    add(&mut ann, "1");
    let page = ann.get("/cart/check-out").body;
    let mut form = form_of(&page, "ann@exmaple.com");
    set(&mut form, "shipping", "no-such-way");
    let refused = send(&ann, &form);
    assert_eq!(refused.status, 422, "{refused:?}");
    set(&mut form, "shipping", "standard");
    set(&mut form, "email", "ann@example.com");
    let reply = send(&ann, &form);
    assert_eq!(reply.status, 303, "{reply:?}");
    assert!(!link_to(&server, "ann@example.com", "").is_empty());
    let letters = fs::read_dir(server.data.join("store/mail")).unwrap();
    let wrong = letters.filter_map(|of| fs::read_to_string(of.unwrap().path()).ok());
    assert_eq!(wrong.filter(|letter| letter.contains("ann@exmaple.com")).count(), 0);
    // After the order nothing of it changes by the same form.
    set(&mut form, "email", "eve@example.com");
    let late = send(&ann, &form);
    assert_eq!(late.status, 422, "{late:?}");
}
