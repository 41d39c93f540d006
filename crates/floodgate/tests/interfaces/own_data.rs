//! A shopper's own data: all of it as a file; and an account that is deleted, also if the server is
//! killed in the middle, while its orders stay without the person.

use crate::{
    carts::{Operator, add, check_out, register},
    harness::{Server, Setup, mariadb::MariaDb, poll},
    store::{Shopper, form_token, shop},
};
use serde_json::json;
use std::fs;

#[test]
fn an_account_is_deleted_and_its_orders_stay_without_the_person() {
    deleted(shop());
}

#[test]
fn an_account_is_deleted_on_mariadb() {
    let maria = MariaDb::start();
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    let settings = format!("[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\n", maria.url("own"));
    deleted(Server::with(Setup { serve, settings, ..Setup::default() }));
}

fn deleted(mut server: Server) {
    let (order, session, key);
    {
        let operator = Operator::new(&server);
        let mut ann = Shopper::stranger(&server);
        poll("the store is open", || ann.try_get("/").filter(|reply| reply.status == 200));
        add(&mut ann, "2");
        let mut ann = register(ann);
        order = check_out(&ann).header("location").to_owned();
        add(&mut ann, "1");
        let page = ann.get("/account").body;
        assert!(page.contains("Download my data") && page.contains("href=\"/account/delete\""), "{page}");
        let token = form_token(&page).to_owned();
        let delete = |password: &str| {
            let reply = ann.post("/account/delete", &[("form", &*token), ("password", password)]);
            (reply.status, reply.body)
        };
        let (status, body) = delete("correct horse");
        assert!(status == 409 && body.contains(&format!("href=\"{order}\"")), "{body}");
        ann.choose(&ann.begin_to_pay(&order), "pay");
        operator.wait_for(&order, "allocated");
        let ship = json!({ "carrier": "SF", "tracking": "SF-OF-ANN", "reason": "packed" });
        operator.post(&format!("{order}/ship"), &ship);
        assert_eq!(delete("correct horse").0, 409, "it is on its way");
        operator.post(&format!("{order}/deliver"), &json!({ "reason": "signed for" }));
        let back =
            [("form", &*token), ("number", "1"), ("line-0", "1"), ("wish", "refund"), ("reason", "my hand")];
        assert_eq!(ann.post(&format!("{order}/return"), &back).status, 303);
        let (status, body) = delete("correct horse");
        assert!(status == 409 && body.contains("returns is not finished"), "{body}");
        let withdrawn = ann.post(&format!("{order}/returns/1/withdraw"), &[("form", &*token)]);
        assert_eq!(withdrawn.status, 303, "{withdrawn:?}");

        // All of it as a file, for the session's own forms only.
        assert_eq!(ann.post("/account/data", &[("form", "x")]).status, 403);
        let file = ann.post("/account/data", &[("form", &token)]);
        assert!(file.header("content-disposition").contains("attachment"), "{file:?}");
        let data = file.json();
        assert_eq!(data["profile"]["email"], "ann@example.com");
        assert_eq!(data["addresses"][0]["city"], "Beijing");
        assert_eq!(data["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(data["cart"][0]["quantity"], 1);
        assert_eq!(data["has_all_orders"], true);
        let of = &data["orders"][0];
        assert_eq!(of["address"]["city"], "Beijing");
        assert_eq!(of["payments"][0]["state"], "succeeded");
        assert_eq!(of["returns"][0]["state"], "withdrawn");
        assert!(of["history"].as_array().unwrap().len() >= 5, "{of}");

        assert_eq!(delete("wrong horse").0, 422);
        let gone = ann.post("/account/delete", &[("form", &*token), ("password", "correct horse")]);
        assert_eq!((gone.status, gone.header("location")), (303, "/account/log-in?done=deleted"));
        (session, key) = (ann.session.clone(), operator.key.clone());
    }
    server.kill();
    server.restart();
    let operator = Operator { server: &server, key };
    poll("the store is open", || operator.try_figures());
    let before = poll("the order has no person any more", || {
        let found = operator.get(&order);
        (found["address"]["name"] == "deleted").then_some(found)
    });
    let text = before.to_string();
    for personal in ["Ann", "13800138000", "Chang'an", "Beijing", "SF-OF-ANN", "my hand"] {
        assert!(!text.contains(personal), "{personal}: {text}");
    }
    assert_eq!(before["address"]["country"], "CN");
    assert_eq!(before["state"], "delivered");
    assert!(before["total"]["amount_minor"].as_u64().unwrap() > 0);
    let last = before["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["actor"], &last["to"]), (&json!("account"), &json!("delivered")));
    // It is erased once, however often it is asked for.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(operator.get(&order), before);

    let mut ann = Shopper::stranger(&server);
    ann.session = session;
    assert_eq!(ann.get("/account").status, 303, "the session is over");
    ann.session = String::new();
    let form = [("email", "ann@example.com"), ("password", "correct horse"), ("next", "/")];
    assert_eq!(ann.post("/account/log-in", &form).status, 422);
    assert!(ann.get("/account/log-in?done=deleted").body.contains("Your account is deleted"));
    // The address is free, and the new account has nothing of the old one.
    let ann = Shopper::new(&server, "Ann");
    assert!(!ann.get("/orders").body.contains("<li class=\"card\">"));
    assert!(ann.get("/cart").body.contains("Your cart is empty."));
    let letters = poll("a letter about it", || {
        let all = fs::read_dir(server.data.join("store/mail")).ok()?;
        let all: Vec<String> = all.map(|of| fs::read_to_string(of.unwrap().path()).unwrap()).collect();
        (!all.is_empty()).then_some(all)
    });
    assert!(letters.iter().any(|letter| letter.contains("Subject: Your account at")), "{letters:?}");
}
