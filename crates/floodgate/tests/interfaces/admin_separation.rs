//! Operators' routes need a key with a sufficient role, and are not on the shop's listener at all.

use crate::harness::{
    Server,
    http::{Client, Reply},
    shop,
};
use serde_json::{Value, json};
use web::{
    api_keys::Role,
    operation::{Access, Callers, Row, Sent},
};

/// The path of an operation, with its parameters filled.
fn filled(row: &Row) -> String {
    let mut path = row.path.to_owned();
    for (name, value) in [
        ("{sale}", "launch"),
        ("{item}", "phone"),
        ("{attempt}", &"0".repeat(32)),
        ("{hold}", &"0".repeat(32)),
        ("{round_key}", &"A".repeat(22)),
        ("{file}", "none"),
    ] {
        path = path.replace(name, value);
    }
    assert!(!path.contains('{'), "{path}: a parameter that the test does not know");
    path
}

/// The answers of an operation to a key of each role, and without a key.
#[derive(Debug)]
struct Walked {
    none: Reply,
    wrong: Reply,
    roles: [(Role, Reply); 3],
    tenant: Reply,
}

#[test]
fn every_operation_asks_on_each_listener_for_the_credential_of_its_row() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let keys = [Role::ReadOnly, Role::Operator, Role::Owner]
        .map(|role| (role, server.new_key(&format!("walker-{role}"), &role.to_string())));
    let tenant = server.tenant_key("tenant", "acme", "produce,consume,manage", &[]);
    let client = Client::undescribed();
    let operations = gate::operations();
    let is_on = |callers: Callers, row: &Row| {
        operations
            .iter()
            .any(|(on, other)| *on == callers && (other.method, other.path) == (row.method, row.path))
    };
    let has_path = |callers: Callers, row: &Row| {
        operations.iter().any(|(on, other)| *on == callers && other.path == row.path)
    };
    for (callers, row) in &operations {
        let path = filled(row);
        let (here, there, other) = match callers {
            Callers::Public => (server.shop_url(&path), server.admin_url(&path), Callers::Operators),
            Callers::Operators => (server.admin_url(&path), server.shop_url(&path), Callers::Public),
        };
        let ask = |url: &str, key: &str| client.admin(row.method, url, key, "{}");
        let walked = Walked {
            none: client.send(row.method, &here, &[("content-type", "application/json")], "{}"),
            wrong: ask(&here, "fgk_nonsense"),
            roles: [0, 1, 2].map(|at| (keys[at].0, ask(&here, &keys[at].1))),
            tenant: ask(&here, &tenant),
        };
        let what = format!("{} {} on the {callers:?} listener: {walked:?}", row.method, row.path);
        let is_let_in = |reply: &Reply| {
            !["key-missing", "key-refused", "role-refused"]
                .iter()
                .any(|kind| reply.body.contains(&format!("#{kind}")))
        };
        // Whatever it asks, also what is open to everybody.
        assert_eq!((walked.tenant.status, &*walked.tenant.problem()), (403, "right-refused"), "{what}");
        match row.access {
            Access::Shared(..) => panic!("{what}: no tenant has anything to ask of the gate"),
            Access::Role(want) => {
                assert_eq!((walked.none.status, &*walked.none.problem()), (401, "key-missing"), "{what}");
                assert_eq!((walked.wrong.status, &*walked.wrong.problem()), (401, "key-refused"), "{what}");
                for (role, reply) in &walked.roles {
                    if *role < want {
                        assert_eq!(
                            (reply.status, &*reply.problem()),
                            (403, "role-refused"),
                            "{role}: {what}"
                        );
                    } else {
                        assert!(is_let_in(reply), "{role}: {what}");
                    }
                }
            }
            Access::Credential(of) => {
                // With a guessed round key the answer reveals nothing about credentials.
                let hidden = (row.id == "attempt").then_some("not-found");
                let none = hidden.unwrap_or(of.missing.slug);
                assert_eq!(walked.none.problem(), none, "{what}");
                // As a shopper token an API key is an invalid bearer token; as a pass it counts as
                // none.
                let wrong = match of.sent {
                    Sent::Bearer(_) => of.refused.slug,
                    Sent::Field(_) | Sent::Query(_) => none,
                };
                for reply in [&walked.wrong].into_iter().chain(walked.roles.iter().map(|(_, reply)| reply)) {
                    assert_eq!(reply.problem(), wrong, "{what}");
                }
            }
            Access::Open => {
                let all =
                    [&walked.none, &walked.wrong].into_iter().chain(walked.roles.iter().map(|(_, r)| r));
                all.for_each(|reply| assert!(reply.status != 401 && is_let_in(reply), "{what}"));
            }
        }
        if !is_on(other, row) {
            let owner = ask(&there, &keys[2].1);
            // The other listener may have the same path with another method.
            let want = if has_path(other, row) { 405 } else { 404 };
            assert_eq!(owner.status, want, "{} {}: {owner:?} on the other listener", row.method, row.path);
        }
    }
    assert!(operations.len() > 50, "{} operations", operations.len());
}

#[test]
fn roles_open_what_they_say() {
    let server = Server::start();
    let spec = shop::spec(&[("phone", 1)]);
    server.open_sale("launch", &spec);
    let [reader, operator, owner] =
        ["read-only", "operator", "owner"].map(|role| (role, server.new_key(&format!("k-{role}"), role)));
    let check = |method: &str, path: &str, body: &Value, wants: [u16; 3]| {
        for ((role, key), want) in [&reader, &operator, &owner].into_iter().zip(wants) {
            let url = server.admin_url(&format!("/api/v1/admin{path}"));
            let reply = server.client.admin(method, &url, key, &body.to_string());
            assert_eq!(reply.status, want, "{role} {method} {path}: {reply:?}");
            if want == 403 {
                assert_eq!(reply.problem(), "role-refused");
                assert!(reply.body.contains(role), "{reply:?}");
            }
        }
    };
    check("GET", "/sales/launch/stats", &Value::Null, [200, 200, 200]);
    check("GET", "/sales/launch/winners.ndjson", &Value::Null, [200, 200, 200]);
    check("POST", "/sales/launch/pause", &json!({ "reason": "r" }), [403, 200, 200]);
    check("POST", "/sales/launch/resume", &json!({ "reason": "r" }), [403, 200, 200]);
    check("POST", "/sales/launch/items/phone/adjust", &json!({ "delta": 1, "reason": "r" }), [403, 200, 200]);
    check("POST", "/sales/launch/rate", &json!({ "per_second": 0 }), [403, 200, 200]);
    check("PUT", "/sales/later", &spec, [403, 403, 200]);
    // The log says who did it.
    assert_eq!(server.stats("launch")["items"][0]["adjustments"], 2);
}

#[test]
fn a_revoked_key_is_refused() {
    let server = Server::start();
    let key = server.new_key("leaver", "operator");
    server.output(&["key", "revoke", "leaver"]);
    let url = server.admin_url("/api/v1/admin/sales/none/stats");
    let refused = crate::harness::poll("the end of the key", || {
        Some(server.client.admin("GET", &url, &key, "")).filter(|reply| reply.status == 401)
    });
    assert_eq!(refused.problem(), "key-refused");
    assert!(!server.output(&["key", "list"]).contains("leaver"));
    let kept = std::fs::read_to_string(server.data.join("keys/admin.json")).unwrap();
    assert!(!kept.contains(&key), "keys are kept hashed");
}
