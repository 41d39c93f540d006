//! A shopper without JavaScript buys in a sale: from the shop's page by a form to the sale's own,
//! and back with what the sale has signed. In the store, and in anybody's shop.

use crate::{
    gates,
    harness::{
        Server, Setup,
        challenge::read_code,
        http::{Client, Reply},
        poll,
        shop::{in_ms, spec, with},
    },
    store::{Shopper, between, encoded, shop},
};
use serde_json::json;

/// A form of a page, as a browser sends it: where to, and its hidden fields.
#[derive(Debug)]
struct Form {
    action: String,
    fields: Vec<(String, String)>,
}

impl Form {
    /// The first form of the page whose action ends like this.
    #[track_caller]
    fn of(page: &str, action: &str) -> Self {
        let forms = page.split("<form").skip(1).map(|form| form.split("</form>").next().unwrap());
        let attribute = |tag: &str, name: &str| {
            let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
            Some(value.replace("&amp;", "&"))
        };
        for form in forms {
            let to = attribute(form.split('>').next().unwrap(), "action").unwrap();
            if to.ends_with(action) {
                let inputs = form.split("<input").skip(1).map(|input| input.split('>').next().unwrap());
                let field = |input: &str| Some((attribute(input, "name")?, attribute(input, "value")?));
                return Self { action: to, fields: inputs.filter_map(field).collect() };
            }
        }
        panic!("no form to {action} in {page}")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.into(), value.into()));
        self
    }

    fn text(&self) -> String {
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        encoded(&fields)
    }

    #[track_caller]
    fn field(&self, name: &str) -> &str {
        &self.fields.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}: {self:?}")).1
    }
}

/// The browser's half that is at the sale's origin.
struct AtSale {
    origin: String,
    cookie: String,
    client: Client,
}

impl AtSale {
    /// Sends the form of a page of the shop at this origin.
    #[track_caller]
    fn send(form: &Form, from: &str) -> Reply {
        let fields = [
            ("origin", from),
            ("accept", "text/html"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        Client::undescribed().send("POST", &form.action, &fields, &form.text())
    }

    /// The same; the shopper is let in. Returns the page too.
    #[track_caller]
    fn enter(form: &Form, from: &str) -> (Self, String) {
        let entered = Self::send(form, from);
        assert_eq!((entered.status, entered.header("cache-control")), (303, "no-store"), "{entered:?}");
        let cookie = entered.header("set-cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let origin = form.action.split_once("/sales/").unwrap().0.to_owned();
        let at_sale = Self { origin, cookie, client: Client::undescribed() };
        let page = at_sale.get(entered.header("location"));
        (at_sale, page)
    }

    #[track_caller]
    fn get(&self, path: &str) -> String {
        let url = format!("{}{}", self.origin, path.split('#').next().unwrap());
        let reply = self.client.send("GET", &url, &[("cookie", &*self.cookie), ("accept", "text/html")], "");
        assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
        reply.body
    }

    /// Sends a form of the page, and follows the redirect.
    #[track_caller]
    fn post(&self, form: &Form) -> String {
        let fields = [("cookie", &*self.cookie), ("content-type", "application/x-www-form-urlencoded")];
        let url = format!("{}{}", self.origin, form.action);
        let reply = self.client.send("POST", &url, &fields, &form.text());
        assert_eq!(reply.status, 303, "{reply:?}");
        self.get(reply.header("location"))
    }

    /// Buys the item that the page has first, and waits for the answer. Returns the page.
    #[track_caller]
    fn buy(&self, page: &str) -> String {
        let mut shown = self.post(&Form::of(page, "/buy").with("quantity", "1"));
        let attempt = between(&shown, "data-attempt=\"", "\"").to_owned();
        let sale = Form::of(page, "/buy").action;
        let sale = sale.strip_suffix("/buy").unwrap();
        poll("the answer", || {
            let is_queued = shown.contains("data-outcome=\"queued\"");
            is_queued.then(|| shown = self.get(&format!("{sale}/attempts/{attempt}")));
            (!is_queued).then_some(())
        });
        shown
    }
}

/// Where the page of the sale leads back to, of the shop at this origin.
#[track_caller]
fn way_back(page: &str, origin: &str) -> String {
    let links = page.split("href=\"").skip(1).map(|link| link.split('"').next().unwrap());
    let back = links.map(|link| link.replace("&amp;", "&")).find(|link| link.contains("floodgate="));
    let back = back.unwrap_or_else(|| panic!("no way back in {page}"));
    back.strip_prefix(origin).unwrap_or_else(|| panic!("{back}")).to_owned()
}

#[test]
fn a_shopper_of_the_store_wins_on_the_sales_page_and_pays_in_the_shop() {
    let server = shop();
    let ann = Shopper::new(&server, "Ann");
    let product = ann.get("/p/flood-one");
    let (store, gate) = (format!("http://{}", server.store), format!("http://{}", server.shop));
    assert_eq!(product.header("cache-control"), "no-store", "it has a token");
    assert_eq!(product.header("referrer-policy"), "strict-origin", "or the browser hides the Origin");
    let policy = product.header("content-security-policy");
    assert!(policy.contains(&format!("form-action 'self' {gate};")), "{policy}");
    let form = Form::of(&product.body, "/enter");
    assert_eq!(form.action, format!("{gate}/sales/demo/enter"));
    let noscript = between(&product.body, "<noscript>", "</noscript>");
    assert!(noscript.contains("/enter") && noscript.contains("Go to the sale"), "{noscript}");

    // Each entry has a token of its own, and is from this origin.
    for from in ["null", "http://evil.example", &store.replace("http://", "https://")] {
        assert_eq!(AtSale::send(&form, from).status, 403, "{from}");
    }
    let (at_sale, page) = AtSale::enter(&form, &store);
    let won = at_sale.buy(&page);
    assert!(won.contains("It is yours to pay") && !won.contains("sandbox"), "{won}");
    let back = way_back(&won, &store);
    assert!(back.starts_with("/checkout?product=flood-one&floodgate="), "{back}");
    let reply = ann.get(&back);
    assert_eq!(reply.status, 303, "{reply:?}");
    let checkout = reply.header("location").to_owned();
    assert!(
        checkout.starts_with("/checkout?sale=demo&hold=") && !checkout.contains("floodgate"),
        "{checkout}"
    );
    let order = poll("the order of the hold", || {
        let reply = ann.get(&checkout);
        (reply.status == 303).then(|| reply.header("location").to_owned())
    });
    ann.wait_for(&order, "You got it. Pay now");
    ann.choose(&ann.begin_to_pay(&order), "pay");
    ann.wait_for(&order, "Paid: it is yours");
    server.wait_for_item("demo", "phone", |item| item["sold"] == 1 && item["held"] == 0);
    // The sale's page says so too, and leads to the order as before.
    let page = at_sale.get("/sales/demo?lang=en");
    assert!(
        page.contains("Paid: it is yours") && page.contains("You have as many as you may have"),
        "{page}"
    );
    assert_eq!(ann.get(&back).header("location"), checkout);
    server.audit();
}

#[test]
fn what_the_way_back_says_is_for_its_own_shopper_and_cannot_be_made_up() {
    let serve = ["--demo", "--demo-opens-in", "0", "--demo-stock", "1"].map(str::to_owned).to_vec();
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".into();
    let server = Server::with(Setup { serve, settings, ..Setup::default() });
    let store = format!("http://{}", server.store);
    let [ann, ben] = ["Ann", "Ben"].map(|name| Shopper::new(&server, name));
    let enter =
        |shopper: &Shopper<'_>| AtSale::enter(&Form::of(&shopper.get("/p/flood-one").body, "/enter"), &store);
    let (of_ann, page) = enter(&ann);
    let won = way_back(&of_ann.buy(&page), &store);
    let (of_ben, page) = enter(&ben);
    let shown = of_ben.buy(&page);
    let lost = way_back(&shown, &store);
    let says = |shopper: &Shopper<'_>, path: &str, words: &str| {
        let reply = shopper.get(path);
        assert!(reply.status == 200 && reply.body.contains(words), "{path}: {words}: {reply:?}");
        assert!(reply.body.contains("href=\"/orders\""), "{reply:?}");
    };
    let is_in_line = shown.contains("data-outcome=\"waitlisted\"");
    says(&ben, &lost, if is_in_line { "You are on the waitlist" } else { "Sold out" });
    assert!(ben.get(&lost).body.contains("href=\"/p/flood-one\""));
    assert!(ben.get(&format!("{lost}&lang=zh")).body.contains("抢购结果"));
    says(&ben, &won, "You are logged in with another account");
    says(&ann, &lost, "You are logged in with another account");
    let changed = format!("{}x", &won[..won.len() - 1]);
    for made_up in ["/checkout?floodgate=x", "/checkout?floodgate=a.b.c", &*changed] {
        says(&ann, made_up, "This link is out of date");
    }
    // Another shopper is logged in, or none: the log-in leads here again.
    let stranger = Shopper::stranger(&server);
    let reply = stranger.get(&won);
    assert!(
        reply.status == 303 && reply.header("location").starts_with("/account/log-in?next=%2Fcheckout"),
        "{reply:?}"
    );
    let bare = stranger.get("/checkout?product=flood-one");
    assert_eq!((bare.status, bare.header("location")), (303, "/p/flood-one"));
    for odd in ["/checkout", "/checkout?product=..%2F..%2Fevil"] {
        assert_eq!(stranger.get(odd).header("location"), "/", "{odd}");
    }
    assert!(!stranger.get("/p/flood-one").body.contains("/enter"), "only who is logged in has a token");
}

const SHOP: &str = "https://shop.example";

/// A form of anybody's shop, as docs/embedding.md has it.
fn form_of_a_shop(server: &Server, sale: &str, shopper: &str) -> Form {
    let token = server.output(&["token", "--shopper", shopper]);
    let action = server.shop_url(&format!("/sales/{sale}/enter"));
    let fields = vec![
        ("token".into(), token.trim().to_owned()),
        ("return_url".into(), format!("{SHOP}/checkout?cart=7")),
    ];
    Form { action, fields }
}

fn gate_of_a_shop() -> String {
    format!("allowed_origins = [\"{SHOP}\"]\nreturn_urls = [\"{SHOP}/checkout\"]\n")
}

#[test]
fn a_shopper_of_anybodys_shop_waits_for_the_opening_and_for_a_turn() {
    let server = Server::with(Setup { gate: gate_of_a_shop(), ..Setup::default() });
    let mut early = with(spec(&[("phone", 1)]), json!({ "waitlist": { "places": 5 } }));
    early["rounds"][0]["opens_at"] = in_ms(1500).into();
    server.define("launch", &early);
    let (ann, page) = AtSale::enter(&form_of_a_shop(&server, "launch", "ann"), SHOP);
    assert!(page.contains("Waiting for the opening") && page.contains("http-equiv=\"refresh\""), "{page}");
    let open = poll("the opening", || {
        let page = ann.get("/sales/launch?lang=en");
        page.contains("<span class=\"does\">Buy now</span>").then_some(page)
    });
    let won = ann.buy(&open);
    assert!(won.contains("It is yours to pay"), "{won}");
    let (ben, page) = AtSale::enter(&form_of_a_shop(&server, "launch", "ben"), SHOP);
    let waits = ben.buy(&page);
    assert!(waits.contains("You are on the waitlist") && waits.contains("http-equiv=\"refresh\""), "{waits}");
    // Ann gives hers back, so it is Ben's turn; his page finds out by itself.
    let given = ann.post(&Form::of(&won, "/give-back"));
    assert!(given.contains("Given back"), "{given}");
    let turn = poll("the turn", || {
        let page =
            ben.get("/sales/launch?lang=en&return_url=https%3A%2F%2Fshop.example%2Fcheckout%3Fcart%3D7");
        page.contains("It is yours to pay").then_some(page)
    });
    assert!(way_back(&turn, SHOP).starts_with("/checkout?cart=7&floodgate="), "{turn}");
    let done = server.audit();
    assert_eq!(done[0]["items"][0]["held"], 1, "{done}");
    let log = server.output(&["log", "--sale", "launch"]);
    assert!(log.contains("shopper") && log.contains("given back on the sale's page"), "{log}");
}

#[test]
fn a_code_is_read_or_heard_without_javascript() {
    let settings = "[gate.challenge]\nmode = \"image\"\ncode_length = 4\n".to_owned();
    let server = Server::with(Setup { gate: gate_of_a_shop(), settings, ..Setup::default() });
    server.open_sale("launch", &spec(&[("phone", 1)]));
    let first = AtSale::send(&form_of_a_shop(&server, "launch", "ann"), SHOP);
    assert_eq!((first.status, first.header("set-cookie")), (403, ""), "{first:?}");
    assert!(first.body.contains("<img class=\"code\" src=\"data:image/png;base64,"), "{first:?}");
    assert!(first.header("content-security-policy").contains("img-src 'self' data:;"), "{first:?}");
    let own = server.shop_url("");
    // The page's form is one of the sale's own origin.
    let at_sale = |form: Form| Form { action: format!("{own}{}", form.action), ..form };
    let wrong = AtSale::send(&at_sale(Form::of(&first.body, "/enter")).with("code", "????"), &own);
    assert!(wrong.status == 403 && wrong.body.contains("That was not it"), "{wrong:?}");
    let code_of = |page: &str| {
        let id = Form::of(page, "/enter").field("code_id").to_owned();
        read_code(&server, "launch", "ann", &json!({ "code": { "id": id } }))
    };
    let (old, new) = (code_of(&first.body), code_of(&wrong.body));
    let again = AtSale::send(&at_sale(Form::of(&first.body, "/enter")).with("code", &old), &own);
    assert_eq!(again.status, 403, "a wrong guess has used it up: {again:?}");
    let heard = AtSale::send(&at_sale(Form::of(&wrong.body, "/enter")).with("media", "audio"), &own);
    assert!(heard.body.contains("<audio controls src=\"data:audio/wav;base64,"), "{}", heard.status);
    let misheard = AtSale::send(&at_sale(Form::of(&heard.body, "/enter")).with("code", "????"), &own);
    assert!(
        misheard.body.contains("That was not it") && misheard.body.contains("<audio controls"),
        "{}",
        misheard.status
    );
    let solved = at_sale(Form::of(&wrong.body, "/enter")).with("code", &new.to_lowercase());
    let (ann, page) = AtSale::enter(&solved, &own);
    let won = ann.buy(&page);
    assert!(way_back(&won, SHOP).starts_with("/checkout?cart=7&floodgate="), "{won}");
}

#[test]
fn a_gate_in_a_process_of_its_own_lets_shoppers_in_and_takes_back_what_they_give() {
    let server = Server::with(Setup { serve: vec!["--role".into(), "sale".into()], ..Setup::default() });
    let gate = gates::join_with(&server, "127.0.0.1:0", &gate_of_a_shop(), "");
    gates::define(&server, &spec(&[("phone", 1)]), &[&gate]);
    let form = || Form {
        action: format!("http://{}/sales/launch/enter", gate.shop),
        ..form_of_a_shop(&server, "launch", "ann")
    };
    let (ann, _) = AtSale::enter(&form(), SHOP);
    let page = poll("the opening", || {
        let page = ann.get("/sales/launch?lang=en");
        page.contains("<span class=\"does\">Buy now</span>").then_some(page)
    });
    let won = ann.buy(&page);
    assert!(won.contains("It is yours to pay"), "{won}");
    let given = ann.post(&Form::of(&won, "/give-back"));
    assert!(given.contains("Given back"), "{given}");
    server.wait_for_item("launch", "phone", |item| item["free"] == 1 && item["held"] == 0);
}
