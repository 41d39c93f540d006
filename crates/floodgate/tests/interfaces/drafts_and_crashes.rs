//! `kill -9` while a draft is published, or a sale is set up or deleted: the next start finds the
//! old state or the new one, is ready, and has nothing that is half done.

use crate::harness::{Server, shop};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn later() -> Value {
    let mut spec = shop::spec(&[("phone", 5)]);
    spec["rounds"][0]["opens_at"] = shop::in_ms(3_600_000).into();
    spec["rounds"][0]["closes_at"] = shop::in_ms(7_200_000).into();
    spec
}

/// What operators and shoppers see of the sale `it`: a draft, a sale, or nothing. Exactly one of
/// them, with the files that belong to it and no others.
fn state(server: &Server) -> &'static str {
    let ready = server.client.get(&server.admin_url("/readyz"));
    assert_eq!(ready.status, 200, "{ready:?}");
    let list = server.admin("GET", "/sales", &Value::Null);
    let has = |kind: &str| list[kind].as_array().unwrap().iter().any(|of| of["sale"] == "it");
    let public = server.client.get(&server.shop_url("/api/v1/sales/it")).status;
    let files =
        (server.data.join("operators/drafts/it.json").exists(), server.data.join("sales/it").exists());
    let unfinished = fs::read_dir(server.data.join("sales/.unfinished")).map_or(0, Iterator::count);
    assert_eq!(unfinished, 0, "what was cut off is removed");
    match (has("drafts"), has("sales"), public, files) {
        (true, false, 404, (true, false)) => "draft",
        (false, true, 200, (false, true)) => "sale",
        (false, false, 404, (false, false)) => "nothing",
        other => panic!("half done: {other:?}"),
    }
}

/// Sends a request and kills the server after ever longer times, until the request was answered
/// first; then both states were seen.
#[track_caller]
fn kill_during(method: &str, path: &str, body: &str, before: &'static str, after: &'static str) {
    let mut server = Server::start();
    let prepare = |server: &Server| match before {
        "draft" => drop(server.admin("PUT", "/sales/it/draft", &later())),
        "sale" => server.define("it", &later()),
        _ => {}
    };
    prepare(&server);
    let mut seen = Vec::new();
    for step in 0..40 {
        assert_eq!(state(&server), before);
        let answered = std::thread::scope(|scope| {
            let asked = scope.spawn(|| server.try_admin_send(method, path, body));
            std::thread::sleep(Duration::from_secs_f64(0.0002 * 1.25_f64.powi(step)));
            server.send_sigkill();
            asked.join().unwrap()
        });
        let ended = server.wait();
        assert!(!ended.success());
        server.restart();
        let now = state(&server);
        if let Some(reply) = &answered {
            assert_eq!((reply.status, now), (200, after), "what was answered holds: {reply:?}");
        }
        seen.push(now);
        if answered.is_some() {
            break;
        }
        if now == after {
            match after {
                "sale" => drop(server.admin("DELETE", "/sales/it?reason=again", &Value::Null)),
                _ => assert_eq!(now, "nothing"),
            }
            prepare(&server);
        }
    }
    assert!(seen.contains(&before) && seen.last() == Some(&after), "{seen:?}");
}

#[test]
fn a_kill_while_a_draft_is_published_leaves_the_draft_or_the_sale() {
    kill_during("POST", "/sales/it/publish", r#"{"reason":"ready"}"#, "draft", "sale");
}

#[test]
fn a_kill_while_a_sale_is_set_up_leaves_nothing_or_the_sale() {
    kill_during("PUT", "/sales/it", &later().to_string(), "nothing", "sale");
}

#[test]
fn a_kill_while_a_sale_is_deleted_leaves_the_sale_or_nothing() {
    kill_during("DELETE", "/sales/it?reason=cancelled", "", "sale", "nothing");
}

#[test]
fn every_state_that_a_crash_can_leave_is_settled_at_the_next_start() {
    let mut server = Server::start();
    server.admin("PUT", "/sales/it/draft", &later());
    let draft = server.data.join("operators/drafts/it.json");
    let kept = fs::read(&draft).unwrap();
    assert_eq!(server.admin_send("POST", "/sales/it/publish", r#"{"reason":"ready"}"#).status, 200);
    server.kill();
    // After the sale was made, and before its draft was removed.
    fs::write(&draft, &kept).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    server.restart();
    assert_eq!(state(&server), "sale");

    server.kill();
    // A draft with another document was not published: what somebody wrote is not thrown away.
    let mut other: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    other["definition"]["name"] = "Another one".into();
    fs::write(&draft, other.to_string()).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    server.restart();
    assert_eq!(server.admin("GET", "/sales", &json!(null))["drafts"][0]["name"], "Another one");
    assert!(server.errors().contains("a sale and a draft of this name"), "{}", server.errors());
    let published = server.admin_send("POST", "/sales/it/publish", r#"{"reason":"ready"}"#);
    assert_eq!(published.problem(), "conflict", "the sale stays as it is: {published:?}");
    let unsure = server.admin_send("DELETE", "/sales/it?reason=not+needed", "");
    assert_eq!(unsure.problem(), "conflict", "the draft, or the sale: {unsure:?}");
    let authorization = format!("Bearer {}", server.new_key("otto", "owner"));
    let copy = |to: &str, condition: &str| {
        let url = server.admin_url("/api/v1/admin/sales/it/copy");
        let fields =
            [("authorization", &*authorization), ("content-type", "application/json"), (condition, "*")];
        server.client.send("POST", &url, &fields, &json!({ "to": to }).to_string())
    };
    let unsure = copy("unsure", "x-none");
    assert_eq!(unsure.problem(), "conflict", "the draft, or the sale: {unsure:?}");
    assert_eq!(copy("of-draft", "if-match").json()["name"], "Another one");
    let of_sale = copy("of-sale", "if-none-match");
    assert_eq!(of_sale.json()["name"], later()["name"], "{of_sale:?}");
    for copied in ["of-draft", "of-sale"] {
        assert_eq!(
            server.admin("DELETE", &format!("/sales/{copied}?reason=copy"), &json!(null))["done"],
            true
        );
    }
    let url = server.admin_url("/api/v1/admin/sales/it?reason=not+needed");
    let delete =
        || server.client.send("DELETE", &url, &[("authorization", &authorization), ("if-match", "*")], "");
    assert_eq!((delete().status, state(&server)), (200, "sale"));
    assert_eq!((&*delete().problem(), state(&server)), ("draft-changed", "sale"), "sent again");

    server.kill();
    // While a sale's files were removed; while a sale was begun; while a draft was written.
    let unfinished = server.data.join("sales/.unfinished");
    fs::create_dir_all(unfinished.join("gone/p0")).unwrap();
    fs::write(unfinished.join("gone/made"), "").unwrap();
    fs::rename(server.data.join("sales/it"), unfinished.join("it")).unwrap();
    let torn = server.data.join("operators/drafts/it.new-AbCdEfGh");
    fs::write(&torn, "{").unwrap();
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&torn).unwrap().set_modified(hour_ago).unwrap();
    server.restart();
    assert_eq!(state(&server), "nothing");
    assert!(!torn.exists());

    server.kill();
    // Earlier builds had what was unfinished beside the sales.
    let beside = server.data.join("unfinished");
    fs::create_dir_all(beside.join("gone/p0")).unwrap();
    server.restart();
    assert!(!beside.exists());

    server.kill();
    // Earlier builds made the directory of a sale before its log.
    fs::create_dir_all(server.data.join("sales/it/p0")).unwrap();
    fs::write(server.data.join("sales/it/p0/LOCK"), "").unwrap();
    server.restart();
    assert_eq!(state(&server), "nothing");

    server.kill();
    // A draft that cannot be read keeps nobody from anything else.
    fs::write(&draft, "{").unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    server.restart();
    assert_eq!(server.client.get(&server.admin_url("/readyz")).status, 200);
    assert_eq!(server.admin("GET", "/sales", &json!(null))["drafts"], json!([]));
    assert!(server.errors().contains("a draft cannot be read"), "{}", server.errors());
}
