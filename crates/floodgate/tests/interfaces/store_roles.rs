//! Each operation and each page of the store asks for what its row says: a key with a sufficient
//! role, or nothing. What is refused has changed nothing.

use crate::{
    harness::http::{Client, Reply},
    store::shop,
};
use web::{
    api_keys::Role,
    operation::{Access, Operation, Row},
};

/// The rows of all contexts of the store.
fn rows() -> Vec<Row> {
    fn of<S>(operations: Vec<Operation<S>>) -> impl Iterator<Item = Row> {
        operations.into_iter().map(|operation| operation.row)
    }
    let mut all: Vec<Row> = of(catalog::api::operations()).chain(of(catalog::pages::pages())).collect();
    all.extend(of(catalog::trail_pages::operations()).chain(of(catalog::trail_pages::pages())));
    all.extend(of(account::api::operations()).chain(of(account::pages::pages())));
    all.extend(of(order::api::operations()).chain(of(order::pages::pages())));
    all.extend(of(payment::api::operations()).chain(of(payment::pages::pages())));
    all.extend(of(inventory::api::operations()).chain(of(inventory::pages::pages())));
    all
}

/// The path of an operation, with parameters of things that there are not.
fn filled(row: &Row) -> String {
    let mut path = row.path.to_owned();
    let none = "0".repeat(26);
    for (name, value) in [
        ("{product}", "no-such-product"),
        ("{picture}", "none"),
        ("{account}", &*none),
        ("{order}", &none),
        ("{number}", "1"),
        ("{sku}", "NO-SUCH-SKU"),
        ("{warehouse}", "nowhere"),
        ("{sale}", "none"),
        ("{transfer}", "none"),
        ("{day}", "2026-01-01"),
        ("{provider}", "none"),
        ("{file}", "none"),
    ] {
        path = path.replace(name, value);
    }
    assert!(!path.contains('{'), "{path}: a parameter that the test does not know");
    path
}

#[test]
fn every_operation_of_the_store_asks_for_the_role_of_its_row() {
    let server = shop();
    let keys = [Role::ReadOnly, Role::Support, Role::Operator, Role::Owner]
        .map(|role| (role, server.new_key(&format!("walker-{role}"), &role.to_string())));
    let tenant = server.tenant_key("tenant", "acme", "produce,consume,manage", &[]);
    let client = Client::undescribed();
    let before = everything(&server, &keys[3].1);
    let mut asked = [0; 5];
    let rows = rows();
    for row in &rows {
        let url = format!("http://{}{}", server.store, filled(row));
        let ask = |key: &str| client.admin(row.method, &url, key, "{}");
        let none = client.send(row.method, &url, &[("content-type", "application/json")], "{}");
        let what = format!("{} {}", row.method, row.path);
        let is_for = |reply: &Reply, kind: &str| reply.body.contains(&format!("#{kind}\""));
        let is_refused = |reply: &Reply| {
            let kinds = ["key-missing", "key-refused", "role-refused", "right-refused"];
            kinds.iter().any(|kind| is_for(reply, kind))
        };
        let refused = ask(&tenant);
        assert_eq!((refused.status, &*refused.problem()), (403, "right-refused"), "{what}: {refused:?}");
        match row.access {
            Access::Role(want) => {
                assert_eq!((none.status, &*none.problem()), (401, "key-missing"), "{what}: {none:?}");
                let wrong = ask("fgk_nonsense");
                assert_eq!((wrong.status, &*wrong.problem()), (401, "key-refused"), "{what}: {wrong:?}");
                for (role, key) in &keys {
                    // A form is sent by a session with its token: a key with the role that sends
                    // none is refused as well, and not for its role.
                    let reply = ask(key);
                    match *role < want {
                        true => assert_eq!(
                            (reply.status, &*reply.problem()),
                            (403, "role-refused"),
                            "{role}: {what}: {reply:?}"
                        ),
                        false => assert!(!is_refused(&reply) || row.is_form, "{role}: {what}: {reply:?}"),
                    }
                    assert!(*role < want || !is_for(&reply, "role-refused"), "{role}: {what}: {reply:?}");
                }
                asked[want as usize] += 1;
            }
            Access::Open => {
                let reply = ask(&keys[0].1);
                assert!(!is_refused(&none) && !is_refused(&reply), "{what}: {none:?} {reply:?}");
                asked[4] += 1;
            }
            Access::Credential(_) | Access::Shared(..) => panic!("{what}: no such row is known"),
        }
    }
    assert!(rows.len() > 80, "{} rows", rows.len());
    assert!(asked[Role::ReadOnly as usize] > 30 && asked[Role::Operator as usize] > 20, "{asked:?}");
    assert!(asked[Role::Support as usize] > 3 && asked[4] > 3, "{asked:?}");
    assert_eq!(everything(&server, &keys[3].1), before);
}

/// What operators see of products, stock, orders, payments and accounts.
fn everything(server: &crate::harness::Server, key: &str) -> Vec<String> {
    let read = |path: &str| {
        let reply =
            server.client.admin("GET", &format!("http://{}/api/v1/store{path}", server.store), key, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    };
    let all = [
        "/products",
        "/categories",
        "/stock",
        "/warehouses",
        "/orders",
        "/payments",
        "/accounts?email=a@b.c",
    ];
    all.map(read).to_vec()
}
