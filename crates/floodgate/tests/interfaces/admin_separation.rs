//! Operators' routes need a key of a role that is large enough, and are not on the shop's listener
//! at all.

use crate::harness::{Server, http::Client, shop};
use serde_json::{Value, json};

/// Every method and path of the description, with its placeholders filled.
fn described(server: &Server) -> Vec<(String, String)> {
    let document = server.client.get(&server.admin_url("/api/v1/openapi.json")).json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| *method != "parameters") {
            let path = path
                .replace("{sale}", "launch")
                .replace("{item}", "phone")
                .replace("{attempt}", &"0".repeat(32))
                .replace("{hold}", &"0".repeat(32))
                .replace("{round_key}", &"A".repeat(22));
            routes.push((method.to_uppercase(), path));
        }
    }
    routes
}

#[test]
fn admin_routes_are_absent_on_the_shop_listener() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let key = server.new_key("curious", "owner");
    let client = Client::undescribed();
    let mut admin_count = 0;
    for (method, path) in described(&server) {
        let on_shop = client.admin(&method, &server.shop_url(&path), &key, "{}");
        let is_admin =
            path.starts_with("/api/v1/admin/") || ["/healthz", "/readyz", "/metrics"].contains(&&*path);
        if is_admin {
            admin_count += 1;
            assert_eq!((on_shop.status, &*on_shop.problem()), (404, "not-found"), "{method} {path}");
        }
        let is_shared = ["/api/v1/openapi.json", "/problems"].contains(&&*path);
        if !is_admin && !is_shared {
            let on_admin = client.admin(&method, &server.admin_url(&path), &key, "{}");
            assert_eq!(on_admin.status, 404, "{method} {path}: a shoppers' route on the admin listener");
        }
    }
    assert!(admin_count >= 19, "{admin_count}");
}

#[test]
fn key_required() {
    let server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    for (method, path) in described(&server) {
        if !path.starts_with("/api/v1/admin/") {
            continue;
        }
        let url = server.admin_url(&path);
        let none = server.client.send(&method, &url, &[("content-type", "application/json")], "{}");
        assert_eq!((none.status, &*none.problem()), (401, "key-missing"), "{method} {path}");
        let wrong = server.client.admin(&method, &url, "fgk_nonsense", "{}");
        assert_eq!((wrong.status, &*wrong.problem()), (401, "key-refused"), "{method} {path}");
    }
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
