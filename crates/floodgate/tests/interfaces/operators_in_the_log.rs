//! Every command of an operator is in the log with the actor and the reason, as it was given.

use crate::harness::{
    Server, run,
    shop::{self, hold, text, with},
};
use contracts::Actor;
use engines::embedded::open_read_only;
use engines::log::LogRead;
use sale::core::{Entry, Record};
use serde_json::json;
use std::ops::ControlFlow;
use units::Sequence;

/// The kind and the actor of every entry that has one.
fn actors(server: &Server) -> Vec<(&'static str, Actor)> {
    let mut found = Vec::new();
    let mut log = open_read_only(&server.data.join("sales/launch/p0")).unwrap();
    log.read(Sequence(1), &mut |_, bytes| {
        let (what, by) = match Entry::decode(bytes).unwrap().record {
            Record::Defined { by, .. } => ("define", by),
            Record::RoundOpened { by, .. } => ("open", by),
            Record::RoundClosed { by, .. } => ("close", by),
            Record::Paused { by } => ("pause", by),
            Record::Resumed { by } => ("resume", by),
            Record::Extended { by, .. } => ("extend", by),
            Record::Adjusted { by, .. } => ("adjust", by),
            Record::Limits { by, .. } => ("limits", by),
            Record::Rate { by, .. } => ("rate", by),
            Record::List { by, .. } => ("list", by),
            Record::Confirmed { by, .. } => ("confirm", by.unwrap()),
            Record::RefundDue { by, .. } => ("refund", by.unwrap()),
            Record::Released { by, .. } => ("release", by),
            Record::Voided { by, .. } => ("void", by),
            Record::Left { by, .. } => ("leave", by),
            _ => return ControlFlow::Continue(()),
        };
        found.push((what, by));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn every_command_is_logged_with_actor_and_reason() {
    let server = Server::start();
    let key = server.new_key("till-7", "owner");
    let bearer = format!("Bearer {key}");
    let url = |path: &str| server.admin_url(&format!("/api/v1/admin{path}"));
    let mut spec = with(shop::spec(&[("phone", 2)]), json!({ "waitlist": { "places": 2 } }));
    spec["rounds"][0]["opens_at"] = shop::in_ms(1_800_000).into();
    let mut want: Vec<(&str, String)> = Vec::new();
    let mut put = |what: &'static str, path: &str, kind: &str, body: &str| {
        let reason = format!("because of {what} & 50 %");
        let encoded = reason.replace('%', "%25").replace('&', "%26").replace(' ', "+");
        let headers = [("authorization", &*bearer), ("content-type", kind)];
        let reply = server.client.send("PUT", &url(&format!("{path}?reason={encoded}")), &headers, body);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        want.push((what, reason));
    };
    put("define", "/sales/launch", "application/json", &spec.to_string());
    put("list", "/sales/launch/denylist", "text/plain", "bot-1\nbot-2\n");
    put("list", "/sales/launch/list", "text/plain", "");
    let mut post = |what: &'static str, path: &str, mut body: serde_json::Value| {
        body["reason"] = format!("because of {what}").into();
        let reply = server.client.admin("POST", &url(path), &key, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        want.push((what, format!("because of {what}")));
    };
    post("open", "/sales/launch/open", json!({}));
    post("pause", "/sales/launch/pause", json!({}));
    post("resume", "/sales/launch/resume", json!({}));
    post("extend", "/sales/launch/extend", json!({ "closes_at": shop::in_ms(7_200_000) }));
    post("limits", "/sales/launch/limits", json!({ "limit_per_shopper": 9 }));
    post("rate", "/sales/launch/rate", json!({ "per_second": 1000 }));
    let sale = server.sale("launch");
    let passes = server.passes("launch", "crowd", 4);
    let answers: Vec<_> = passes.iter().map(|pass| sale.buy(pass, "k", "phone")).collect();
    post("confirm", &hold(&answers[0], "confirm"), json!({ "payment": "p-1" }));
    post("refund", &hold(&answers[0], "confirm"), json!({ "payment": "p-2" }));
    post("leave", &format!("/holds/{}/release", text(&answers[2]["attempt"])), json!({}));
    post("leave", "/sales/launch/void", json!({ "attempt": answers[3]["attempt"] }));
    post("release", &hold(&answers[1], "release"), json!({}));
    post("void", "/sales/launch/void", json!({ "attempt": answers[0]["attempt"] }));
    post("adjust", "/sales/launch/items/phone/adjust", json!({ "delta": 1 }));
    post("close", "/sales/launch/close", json!({}));
    let got: Vec<(&str, String)> = actors(&server)
        .into_iter()
        .map(|(what, by)| {
            assert_eq!(by.name, "till-7", "{what}");
            (what, by.reason)
        })
        .collect();
    assert_eq!(got, want);
    server.audit();
}

/// Otherwise what it asks for could not be told from what is done by itself.
#[test]
fn no_key_has_a_name_that_logs_use_for_what_is_done_by_itself() {
    let server = Server::start();
    for name in Actor::SYSTEM {
        let refused = run(&server.data, None, &["key", "new", name, "--role", "owner"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("give the key another name"), "{name}: {said}");
    }
    assert!(["timer", "sale", "notify", "endpoint"].iter().all(|name| Actor::SYSTEM.contains(name)));
}
