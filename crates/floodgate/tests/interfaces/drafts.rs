//! Drafts: prepared by operators, seen by no shopper, published with a reason, copied and deleted.

use crate::harness::{
    Server,
    http::Reply,
    shop::{self, text, with},
    stderr,
};
use serde_json::{Value, json};
use std::path::Path;

/// A document that opens in an hour.
fn later(items: &[(&str, u64)]) -> Value {
    let mut spec = shop::spec(items);
    spec["rounds"][0]["opens_at"] = shop::in_ms(3_600_000).into();
    spec["rounds"][0]["closes_at"] = shop::in_ms(7_200_000).into();
    spec
}

/// The names of all files and directories under a directory that contain a text.
fn named(dir: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().contains(name) {
                found.push(path.display().to_string());
            }
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

fn publish(server: &Server, sale: &str) -> Reply {
    server.admin_send("POST", &format!("/sales/{sale}/publish"), r#"{"reason":"ready"}"#)
}

fn delete(server: &Server, sale: &str) -> Reply {
    server.admin_send("DELETE", &format!("/sales/{sale}?reason=cancelled"), "")
}

fn draft(server: &Server, sale: &str, definition: &Value) -> Value {
    server.admin("PUT", &format!("/sales/{sale}/draft"), definition)
}

fn listed(server: &Server) -> Value {
    server.admin("GET", "/sales", &Value::Null)
}

fn is_ready(server: &Server) -> bool {
    server.client.get(&server.admin_url("/readyz")).status == 200
}

#[test]
fn a_draft_is_seen_by_operators_only_until_it_is_published() {
    let mut server = Server::start();
    let mut spec = later(&[("phone", 5)]);
    spec.as_object_mut().unwrap().remove("currency");
    let saved = draft(&server, "autumn", &spec);
    assert_eq!((&saved["is_valid"], &saved["state"]), (&false.into(), &"draft".into()), "{saved}");
    assert_eq!(saved["problems"], json!(["currency: is missing"]));
    assert_eq!(saved["definition"], spec, "as it was written");

    let unseen = |server: &Server| {
        for path in ["/api/v1/sales/autumn", "/sales/autumn"] {
            assert_eq!(server.client.get(&server.shop_url(path)).status, 404, "{path}");
        }
        let token = server.output(&["token", "--shopper", "alice"]);
        let bearer = format!("Bearer {}", token.trim());
        let url = server.shop_url("/api/v1/sales/autumn/passes");
        assert_eq!(server.client.send("POST", &url, &[("authorization", &bearer)], "").status, 404);
        assert!(!server.client.get(&server.shop_url("/")).body.contains("autumn"));
        assert!(!server.client.get(&server.admin_url("/metrics")).body.contains("autumn"));
        assert!(!server.data.join("sales/autumn").exists(), "no log, and no worker");
        assert_eq!(server.admin_send("GET", "/sales/autumn/stats", "").status, 404);
        let list = listed(server);
        assert_eq!(list["sales"], json!([]), "{list}");
        assert_eq!(list["drafts"][0]["sale"], "autumn", "{list}");
        assert!(is_ready(server));
    };
    unseen(&server);
    let refused = publish(&server, "autumn");
    assert_eq!((refused.status, &*refused.problem()), (422, "invalid"), "{refused:?}");
    assert!(refused.body.contains("currency: is missing"), "{refused:?}");

    spec["currency"] = "CNY".into();
    let saved = draft(&server, "autumn", &spec);
    assert_eq!(saved["is_valid"], true, "{saved}");
    assert!(text(&saved["says"][0]).starts_with("round 1: "), "{saved}");
    unseen(&server);
    server.kill();
    server.restart();
    unseen(&server);
    assert_eq!(server.admin("GET", "/sales/autumn/draft", &Value::Null)["definition"], spec);

    let no_reason = server.admin_send("POST", "/sales/autumn/publish", "{}");
    assert_eq!(no_reason.problem(), "invalid");
    let operator = server.new_key("runner", "operator");
    let url = server.admin_url("/api/v1/admin/sales/autumn/publish");
    let refused = server.client.admin("POST", &url, &operator, r#"{"reason":"ready"}"#);
    assert_eq!(refused.problem(), "role-refused");

    assert_eq!(publish(&server, "autumn").status, 200);
    assert_eq!(publish(&server, "autumn").status, 200, "done already");
    assert_eq!(server.document("autumn")["state"], "scheduled");
    let list = listed(&server);
    assert_eq!((&list["sales"][0]["sale"], &list["drafts"]), (&"autumn".into(), &json!([])), "{list}");
    assert_eq!(named(&server.data, "autumn"), [server.data.join("sales/autumn").display().to_string()]);
    let log = server.output(&["log", "--json"]);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["reason"]), (&"defined".into(), &"ready".into()), "{first}");
    assert_eq!(publish(&server, "winter").problem(), "not-found");
}

#[test]
fn a_change_is_of_the_draft_that_was_read() {
    let server = Server::start();
    let spec = later(&[("phone", 5)]);
    let url = |rest: &str| server.admin_url(&format!("/api/v1/admin/sales/autumn{rest}"));
    let authorization = format!("Bearer {}", server.new_key("mia", "owner"));
    let send = |method: &str, rest: &str, field: (&str, &str), body: &str| {
        let headers = [("authorization", &*authorization), ("content-type", "application/json"), field];
        server.client.send(method, &url(rest), &headers, body)
    };
    let save = |field, name: &str| {
        send("PUT", "/draft", field, &with(spec.clone(), json!({ "name": name })).to_string())
    };
    let first = save(("if-none-match", "*"), "first");
    let tag = first.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", text(&first.json()["revision"])), "{first:?}");
    assert_eq!(save(("if-none-match", "*"), "first").status, 200, "sent again");
    assert_eq!(save(("if-none-match", "*"), "other").problem(), "draft-changed");
    let second = save(("if-match", &tag), "second");
    assert_eq!(second.status, 200, "{second:?}");
    let late = save(("if-match", &tag), "third");
    assert_eq!((late.status, &*late.problem()), (412, "draft-changed"), "{late:?}");
    let reason = r#"{"reason":"ready"}"#;
    assert_eq!(send("POST", "/publish", ("if-match", &tag), reason).problem(), "draft-changed");
    let delete = |field| send("DELETE", "?reason=no", field, "");
    assert_eq!(delete(("if-match", &tag)).problem(), "draft-changed");
    assert_eq!(delete(("if-none-match", "*")).problem(), "draft-changed", "the sale was meant");
    for wrong in [("if-match", "x"), ("if-match", ""), ("if-none-match", "\"x\"")] {
        assert_eq!(save(wrong, "wrong").problem(), "invalid", "{wrong:?}");
    }
    let read = send("GET", "/draft", ("accept", "*/*"), "");
    assert_eq!(read.json()["definition"]["name"], "second", "{read:?}");
    for _ in 0..2 {
        assert_eq!(send("POST", "/publish", ("if-match", read.header("etag")), reason).status, 200);
    }
    assert_eq!(
        send("POST", "/publish", ("if-match", &tag), reason).problem(),
        "draft-changed",
        "another one"
    );
    let weak = format!("W/{}", read.header("etag"));
    assert_eq!(send("POST", "/publish", ("if-match", &weak), reason).status, 200, "a proxy compressed it");
    assert_eq!(delete(("if-match", "*")).problem(), "draft-changed", "a draft was meant, and it is a sale");
    assert_eq!(delete(("if-none-match", "*")).status, 200);
}

#[test]
fn a_copy_has_the_document_of_a_sale_and_nothing_else() {
    let server = Server::start();
    let spec = shop::spec(&[("phone", 5)]);
    let sale = server.open_sale("launch", &spec);
    sale.granted(&server.pass("launch", "alice"), "k", "phone");
    let copy = |from: &str, to: &str| {
        server.admin_send("POST", &format!("/sales/{from}/copy"), &json!({ "to": to }).to_string())
    };
    let copied = copy("launch", "again");
    assert_eq!(copied.status, 200, "{copied:?}");
    let copied = copied.json();
    assert_eq!(copied["definition"]["rounds"][0]["items"][0]["stock"], 5, "{copied}");
    // Its times are those of the sale that it is a copy of.
    assert!(
        text(&copied["warnings"][0]).contains("this time has passed, so the round would open at once"),
        "{copied}"
    );
    assert_eq!(copy("launch", "again").status, 200, "the same again");
    draft(&server, "again", &with(copied["definition"].clone(), json!({ "name": "Second" })));
    assert_eq!(copy("launch", "again").problem(), "conflict", "it is another one now");
    assert_eq!(copy("again", "third").json()["name"], "Second", "drafts are copied too");
    assert_eq!(copy("again", "launch").problem(), "conflict", "a sale has that name");
    assert_eq!(copy("nosuch", "fourth").problem(), "not-found");
    assert_eq!(copy("launch", "No Name").problem(), "invalid");

    assert_eq!(publish(&server, "third").status, 200);
    server.sale("third");
    assert_eq!(server.stats("third")["items"][0]["free"], 5, "nothing is sold in it");
    assert_eq!(server.stats("launch")["items"][0]["held"], 1);
    let taken = server.admin_send("PUT", "/sales/launch/draft", &spec.to_string());
    assert_eq!(taken.problem(), "conflict");
    let defined = server.admin_send("PUT", "/sales/again", &spec.to_string());
    assert_eq!(defined.problem(), "conflict", "the draft must be published or deleted first");
    server.audit();
}

#[test]
fn only_what_never_opened_and_no_shopper_is_in_can_be_deleted() {
    let mut server = Server::start();
    let open = server.open_sale("open", &shop::spec(&[("phone", 5)]));
    let reserved = with(later(&[("phone", 5)]), json!({ "eligibility": { "kind": "reservation" } }));
    server.define("reserved", &reserved);
    server.define("unmet", &later(&[("phone", 5)]));
    draft(&server, "sketch", &json!({}));
    let reservation = |server: &Server| {
        let pass = server.pass("reserved", "alice");
        let url = server.shop_url("/api/v1/sales/reserved/reservation");
        server.client.send("PUT", &url, &[("floodgate-pass", &pass)], "")
    };
    assert_eq!(reservation(&server).status, 200);

    for (sale, why) in [("open", "the sale has opened"), ("reserved", "is a shopper's reservation")] {
        let refused = delete(&server, sale);
        assert_eq!((refused.status, &*refused.problem()), (409, "conflict"), "{refused:?}");
        assert!(refused.body.contains(why), "{refused:?}");
    }
    // Both go on as if nothing had been asked.
    open.granted(&server.pass("open", "alice"), "k", "phone");
    assert_eq!(server.stats("reserved")["reservations"], 1);
    assert_eq!(reservation(&server).json()["reserved"], true);
    assert!(is_ready(&server));

    let unreasoned = server.admin_send("DELETE", "/sales/unmet", "");
    assert_eq!(unreasoned.problem(), "invalid");
    let operator = server.new_key("runner", "operator");
    let url = server.admin_url("/api/v1/admin/sales/unmet?reason=x");
    assert_eq!(server.client.admin("DELETE", &url, &operator, "").problem(), "role-refused");
    assert_eq!(server.document("unmet")["state"], "scheduled");
    for sale in ["unmet", "sketch"] {
        assert_eq!(delete(&server, sale).status, 200, "{sale}");
        assert_eq!(delete(&server, sale).problem(), "not-found", "{sale}");
        assert_eq!(named(&server.data, sale), Vec::<String>::new());
        let errors = server.errors();
        assert!(errors.lines().any(|line| line.contains("deleted") && line.contains(sale)), "{errors}");
    }
    assert_eq!(server.client.get(&server.shop_url("/api/v1/sales/unmet")).status, 404);
    assert_eq!(server.client.get(&server.shop_url("/sales/unmet")).status, 404);
    // Another sale may have the name.
    let again = server.open_sale("unmet", &shop::spec(&[("phone", 1)]));
    again.granted(&server.pass("unmet", "bob"), "k", "phone");
    assert_eq!(delete(&server, "unmet").problem(), "conflict");
    assert_eq!(delete(&server, "nosuch").problem(), "not-found");

    server.kill();
    server.restart();
    assert!(is_ready(&server));
    assert_eq!(server.stats("unmet")["items"][0]["held"], 1);
    server.audit();
}

#[test]
fn a_reservation_that_was_answered_is_never_deleted() {
    let server = Server::start();
    let reserved = with(later(&[("phone", 5)]), json!({ "eligibility": { "kind": "reservation" } }));
    let mut ends = Vec::new();
    for n in 0..12 {
        let sale = format!("race-{n}");
        server.define(&sale, &reserved);
        let pass = server.pass(&sale, "alice");
        let url = server.shop_url(&format!("/api/v1/sales/{sale}/reservation"));
        let (made, deleted) = std::thread::scope(|scope| {
            let made = scope.spawn(|| server.client.send("PUT", &url, &[("floodgate-pass", &pass)], ""));
            std::thread::sleep(std::time::Duration::from_micros(n * 300));
            let deleted = delete(&server, &sale);
            (made.join().unwrap(), deleted)
        });
        assert!(!(made.status == 200 && deleted.status == 200), "{made:?} {deleted:?}");
        if made.status == 200 {
            assert_eq!(deleted.problem(), "conflict", "{deleted:?}");
            assert_eq!(server.stats(&sale)["reservations"], 1);
        }
        ends.push((made.status, deleted.status));
    }
    assert!(ends.iter().all(|(made, deleted)| *made == 200 || *deleted == 200), "{ends:?}");
    server.audit();
}

#[test]
fn a_backup_has_the_drafts() {
    let server = Server::start();
    let spec = later(&[("phone", 5)]);
    draft(&server, "autumn", &spec);
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    server.output(&["backup", backup.to_str().unwrap()]);
    crate::harness::stdout(&crate::harness::run(&restored, None, &["restore", backup.to_str().unwrap()]));
    let other = Server::with(crate::harness::Setup { data: Some(restored), ..Default::default() });
    assert_eq!(other.admin("GET", "/sales/autumn/draft", &Value::Null)["definition"], spec);
    let audit = server.command(&["audit"]);
    assert!(!stderr(&audit).contains("autumn"), "a draft is no sale: {audit:?}");
}
