//! Which shoppers may buy: those with a reservation, of a tier, or on a list; and none on the deny
//! list.

use crate::harness::{
    Server,
    shop::{self, in_ms, text, with},
};
use serde_json::{Value, json};

fn outcome(answer: &Value) -> &str {
    text(&answer["outcome"])
}

#[test]
fn a_reservation_before_the_sale_makes_a_shopper_eligible() {
    let server = Server::start();
    let mut spec = with(shop::spec(&[("phone", 5)]), json!({ "eligibility": { "kind": "reservation" } }));
    spec["rounds"][0]["opens_at"] = in_ms(1_800_000).into();
    server.define("launch", &spec);
    let base = server.shop_url("/api/v1/sales/launch/reservation");
    let [made, undone, none] = ["made", "undone", "none"].map(|shopper| server.pass("launch", shopper));
    let ask = |method: &str, pass: &str| {
        let reply = server.client.send(method, &base, &[("floodgate-pass", pass)], "");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["reserved"] == true
    };
    assert!(!ask("GET", &made));
    for pass in [&made, &undone] {
        assert!(ask("PUT", pass) && ask("PUT", pass) && ask("GET", pass), "however often it is asked for");
    }
    assert!(!ask("DELETE", &undone) && !ask("GET", &undone));
    assert_eq!(server.stats("launch")["reservations"], 1);

    server.admin("POST", "/sales/launch/open", &json!({ "reason": "test" }));
    let sale = server.sale("launch");
    sale.granted(&made, "k", "phone");
    for pass in [&undone, &none] {
        assert_eq!(outcome(&sale.buy(pass, "k", "phone")), "not_eligible");
        let late = server.client.send("PUT", &base, &[("floodgate-pass", pass)], "");
        assert_eq!((late.status, &*late.problem()), (409, "conflict"), "too late for a reservation");
    }
    server.audit();
}

#[test]
fn a_shoppers_tier_is_that_of_the_token() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 5)]), json!({ "eligibility": { "kind": "tier", "min": 2 } }));
    let sale = server.open_sale("launch", &spec);
    for (tier, want) in [("0", "not_eligible"), ("1", "not_eligible"), ("2", "granted"), ("255", "granted")] {
        let shopper = format!("tier-{tier}");
        let token = server.output(&["token", "--shopper", &shopper, "--tier", tier]);
        let bearer = format!("Bearer {}", token.trim());
        let url = format!("{}/passes", sale.base);
        let issued = server.client.send("POST", &url, &[("authorization", &bearer)], "").json();
        assert_eq!(outcome(&sale.buy(text(&issued["pass"]), "k", "phone")), want, "tier {tier}");
    }
    let url = format!("{}/passes", sale.base);
    let none = server.client.send("POST", &url, &[], "");
    assert_eq!((none.status, &*none.problem()), (401, "token-missing"));
    let forged =
        server.client.send("POST", &url, &[("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")], "");
    assert_eq!((forged.status, &*forged.problem()), (401, "token-refused"));
}

#[test]
fn an_allow_list_is_uploaded_and_replaced_as_a_whole() {
    let server = Server::start();
    let spec = with(shop::spec(&[("phone", 50)]), json!({ "eligibility": { "kind": "list" } }));
    let sale = server.open_sale("launch", &spec);
    let key = server.new_key("lists", "operator");
    let bearer = format!("Bearer {key}");
    let upload = |path: &str, kind: &str, body: &str| {
        let headers = [("authorization", &*bearer), ("content-type", kind)];
        server.client.send(
            "PUT",
            &server.admin_url(&format!("/api/v1/admin/sales/launch{path}")),
            &headers,
            body,
        )
    };
    // More than one chunk of the log, with the line ends that spreadsheets write.
    let many: String = (1..=20_000).map(|n| format!("member-{n}\r\n")).collect();
    let reply = upload("/list", "text/plain", &many);
    assert_eq!((reply.status, &reply.json()["shoppers"]), (200, &20_000.into()), "{reply:?}");
    assert_eq!(server.stats("launch")["allowed"], 20_000);
    let buy =
        |shopper: &str| text(&sale.buy(&server.pass("launch", shopper), "k", "phone")["outcome"]).to_owned();
    assert_eq!(buy("member-1"), "granted");
    assert_eq!(buy("member-20000"), "granted");
    assert_eq!(buy("member-20001"), "not_eligible");

    let unsaid = upload("/denylist", "text/plain", "member-7\n");
    assert!(unsaid.status == 422 && unsaid.body.contains("reason"), "{unsaid:?}");
    assert_eq!(upload("/denylist?reason=bots", "text/plain", "member-7\n").status, 200);
    assert_eq!(buy("member-7"), "not_eligible", "on the list, and denied");
    assert_eq!(upload("/list", "text/plain; charset=utf-8", "late\n\nmember-7").status, 200);
    assert_eq!(buy("late"), "granted");
    assert_eq!(buy("member-2"), "not_eligible", "an upload replaces the list");
    assert_eq!(server.stats("launch")["allowed"], 2);

    let wrong = upload("/list", "application/json", "[]");
    assert_eq!((wrong.status, &*wrong.problem()), (415, "media-type"));
    let long = upload("/list", "text/plain", &format!("ok\n{}\n", "x".repeat(65)));
    assert_eq!((long.status, &*long.problem()), (422, "invalid"));
    assert!(long.body.contains("line 2"), "{long:?}");
    assert_eq!(server.stats("launch")["allowed"], 2, "the list is as it was");
    server.audit();
}
