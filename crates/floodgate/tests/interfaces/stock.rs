//! The stock as operators have it: what they receive, count and claim, what the ledger says of it,
//! and what is refused, with the field that is wrong.

use crate::harness::{
    Server, Setup,
    http::{Client, Reply},
    poll,
    shop::text,
};
use serde_json::{Value, json};

struct Shop {
    server: Server,
    operator: String,
    reader: String,
}

impl Shop {
    fn open(serve: &[&str]) -> Self {
        let serve = serve.iter().map(|arg| (*arg).to_owned()).collect();
        let settings = "[store]\nlisten = \"127.0.0.1:0\"\n".to_owned();
        let server = Server::with(Setup { serve, settings, ..Setup::default() });
        let (operator, reader) = (server.new_key("op", "operator"), server.new_key("reads", "read-only"));
        let shop = Self { server, operator, reader };
        poll("the store is open", || (shop.ask("GET", "/stock", "").status == 200).then_some(()));
        shop
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/store{path}", self.server.store)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.server.client.admin(method, &self.url(path), &self.operator, body)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.ask("POST", path, &body.to_string());
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    fn with_key(&self, key: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {}", self.operator);
        let fields =
            [("authorization", &*bearer), ("content-type", "application/json"), ("idempotency-key", key)];
        self.server.client.send("POST", &self.url(path), &fields, &body.to_string())
    }

    /// On hand, reserved, claimed, free.
    #[track_caller]
    fn figures(&self, sku: &str) -> [u64; 4] {
        let level = self.ask("GET", &format!("/stock/{sku}"), "").json();
        ["on_hand", "reserved", "claimed", "free"].map(|figure| level[figure].as_u64().unwrap())
    }
}

#[test]
fn operators_receive_count_and_claim_and_the_ledger_says_it() {
    let shop = Shop::open(&[]);
    assert_eq!(shop.ask("PUT", "/stock/LAMP-1", "").json(), json!({ "is_new": true }));
    assert_eq!(shop.ask("PUT", "/stock/LAMP-1", "").json(), json!({ "is_new": false }));
    let received = shop.post("/stock/LAMP-1/receive", &json!({ "units": 20, "reason": "purchase 7" }));
    assert_eq!((&received["change"], &received["free"]), (&json!(20), &json!(20)), "{received}");
    let counted = shop.post("/stock/LAMP-1/count", &json!({ "counted": 18, "reason": "count of May" }));
    assert_eq!((&counted["change"], &counted["on_hand"]), (&json!(-2), &json!(18)), "{counted}");
    shop.post("/stock/LAMP-1/adjust", &json!({ "change": -1, "reason": "broken" }));
    let claim = |units: u64| {
        let body = json!({ "units": units, "reason": "for the launch" });
        shop.ask("PUT", "/claims/launch/LAMP-1", &body.to_string())
    };
    let claimed = claim(12).json();
    assert_eq!((&claimed["claim"]["left"], &claimed["level"]["free"]), (&json!(12), &json!(5)), "{claimed}");
    let few = claim(18);
    assert_eq!((few.status, few.problem().as_str()), (409, "conflict"));
    assert!(few.body.contains("units: of sku LAMP-1 only 5 units are free"), "{few:?}");
    assert_eq!(claim(10).status, 200);
    assert_eq!(shop.figures("LAMP-1"), [17, 0, 10, 7]);
    let claims = shop.ask("GET", "/claims/launch", "").json();
    assert_eq!(
        claims["claims"][0],
        json!({ "sku": "LAMP-1", "units": 10, "left": 10, "taken": 0, "is_open": true })
    );
    let back = || shop.ask("DELETE", "/claims/launch?reason=the%20sale%20is%20over", "").json();
    assert_eq!(back(), json!({ "returned": [{ "sku": "LAMP-1", "units": 10 }] }));
    assert_eq!(back(), json!({ "returned": [{ "sku": "LAMP-1", "units": 0 }] }));
    assert_eq!(shop.figures("LAMP-1"), [17, 0, 0, 17]);

    let mut entries = Vec::new();
    let mut before = String::new();
    loop {
        let page = shop.ask("GET", &format!("/stock/LAMP-1/ledger?limit=2{before}"), "").json();
        entries.extend(page["entries"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let said: Vec<_> = entries
        .iter()
        .rev()
        .map(|entry| {
            assert_eq!((text(&entry["actor"]), text(&entry["warehouse"])), ("op", "main"), "{entry}");
            (text(&entry["kind"]), entry["units"].as_i64().unwrap(), text(&entry["reason"]))
        })
        .collect();
    assert_eq!(
        said,
        [
            ("receive", 20, "purchase 7"),
            ("count", -2, "count of May"),
            ("adjust", -1, "broken"),
            ("claim", 12, "for the launch"),
            ("return_claim", 2, "for the launch"),
            ("return_claim", 10, "the sale is over"),
        ]
    );
    let audit = shop.ask("GET", "/stock-audit", "").json();
    assert_eq!(audit, json!({ "skus": 1, "entries": 6, "differences": [] }));
}

#[test]
fn units_lie_in_warehouses_and_what_lies_where_no_orders_are_sent_from_is_not_free() {
    let shop = Shop::open(&[]);
    shop.ask("PUT", "/stock/LAMP-1", "");
    let put = |name: &str, body: &Value| shop.ask("PUT", &format!("/warehouses/{name}"), &body.to_string());
    let east =
        json!({ "name": "East 东仓", "ships": true, "parcel_cost": 900, "days": 2, "reason": "it opens" });
    let made = put("east", &east).json();
    assert_eq!((&made["is_new"], &made["version"]), (&json!(true), &json!(1)), "{made}");
    let again = put("east", &east).json();
    assert_eq!((&again["is_new"], &again["version"]), (&json!(false), &json!(1)), "{again}");
    let returns = json!({ "name": "Returns", "ships": false, "parcel_cost": 0, "days": 0, "version": 0, "reason": "x" });
    assert_eq!(put("returns", &returns).status, 200);
    let late = put(
        "returns",
        &json!({ "name": "R", "ships": true, "parcel_cost": 0, "days": 0, "version": 0, "reason": "x" }),
    );
    assert!(late.status == 409 && late.body.contains("its version is 1 by now"), "{late:?}");
    let all = shop.ask("GET", "/warehouses", "").json();
    let names: Vec<&str> =
        all["warehouses"].as_array().unwrap().iter().map(|of| text(&of["warehouse"])).collect();
    assert_eq!(names, ["east", "main", "returns"]);
    for (warehouse, units) in [("east", 5), ("returns", 7)] {
        shop.post(
            "/stock/LAMP-1/receive",
            &json!({ "warehouse": warehouse, "units": units, "reason": "moved" }),
        );
    }
    let level = shop.ask("GET", "/stock/LAMP-1", "").json();
    assert_eq!((&level["on_hand"], &level["free"]), (&json!(12), &json!(5)), "{level}");
    assert_eq!(level["warehouses"].as_array().unwrap().len(), 3);
    let page = shop.ask("GET", "/stock/LAMP-1/ledger?warehouse=returns", "").json();
    assert_eq!(
        (&page["entries"][0]["units"], text(&page["entries"][0]["warehouse"])),
        (&json!(7), "returns")
    );
    for (method, path, body, status, why) in [
        ("PUT", "/warehouses/East", east.clone(), 404, "warehouse: want 1 to 40 lowercase letters"),
        (
            "PUT",
            "/warehouses/west",
            json!({ "name": "", "ships": true, "parcel_cost": 1, "days": 1, "reason": "x" }),
            422,
            "name",
        ),
        (
            "PUT",
            "/warehouses/west",
            json!({ "name": "W", "ships": true, "parcel_cost": -1, "days": 1, "reason": "x" }),
            422,
            "parcel_cost",
        ),
        (
            "PUT",
            "/warehouses/west",
            json!({ "name": "W", "ships": true, "parcel_cost": 1, "days": 400, "reason": "x" }),
            422,
            "days",
        ),
        (
            "PUT",
            "/warehouses/west",
            json!({ "name": "W", "ships": true, "parcel_cost": 1, "days": 1 }),
            422,
            "reason",
        ),
        (
            "POST",
            "/stock/LAMP-1/receive",
            json!({ "warehouse": "west", "units": 1, "reason": "x" }),
            404,
            "warehouse west: there is none",
        ),
        (
            "POST",
            "/stock/LAMP-1/receive",
            json!({ "warehouse": "W w", "units": 1, "reason": "x" }),
            422,
            "warehouse",
        ),
        ("GET", "/stock/LAMP-1/ledger?warehouse=west", json!(null), 404, "warehouse west: there is none"),
    ] {
        let reply = shop.ask(method, path, &if body.is_null() { String::new() } else { body.to_string() });
        assert!(
            reply.status == status && reply.body.contains(why),
            "{method} {path} {body}: want {why:?}: {reply:?}"
        );
    }
    assert_eq!(shop.ask("GET", "/stock-audit", "").json()["differences"], json!([]));
}

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let shop = Shop::open(&[]);
    shop.ask("PUT", "/stock/LAMP-1", "");
    shop.post("/stock/LAMP-1/receive", &json!({ "units": 20, "reason": "purchase 7" }));
    for (path, body, status, why) in [
        ("/stock/LAMP-1/receive", json!({ "units": -1, "reason": "x" }), 422, "units"),
        ("/stock/LAMP-1/receive", json!({ "units": 0, "reason": "x" }), 422, "units: want 1 to 1000000000"),
        ("/stock/LAMP-1/receive", json!({ "units": 1.5, "reason": "x" }), 422, "units"),
        ("/stock/LAMP-1/receive", json!({ "units": u64::MAX, "reason": "x" }), 422, "units: want 1 to"),
        ("/stock/LAMP-1/receive", json!({ "units": 1e300, "reason": "x" }), 422, "units"),
        ("/stock/LAMP-1/receive", json!({ "units": "5", "reason": "x" }), 422, "units"),
        ("/stock/LAMP-1/receive", json!({ "units": 5 }), 422, "reason: want 1 to 200 bytes"),
        ("/stock/LAMP-1/receive", json!({ "units": 5, "reason": "a\nb" }), 422, "reason"),
        ("/stock/LAMP-1/receive", json!({ "units": 5, "reason": "x", "color": "red" }), 422, "color"),
        ("/stock/LAMP-1/adjust", json!({ "change": 0, "reason": "x" }), 422, "change: want -1000000000"),
        (
            "/stock/LAMP-1/adjust",
            json!({ "change": -21, "reason": "x" }),
            409,
            "change: of sku LAMP-1 only 20",
        ),
        ("/stock/LAMP-1/count", json!({ "counted": -1, "reason": "x" }), 422, "counted"),
        (
            "/stock/LAMP-1/count",
            json!({ "counted": 1_000_000_000_001u64, "reason": "x" }),
            422,
            "counted: want",
        ),
        (
            "/stock/LAMP-2/receive",
            json!({ "units": 5, "reason": "x" }),
            404,
            "sku LAMP-2: the stock does not know it",
        ),
        ("/stock/LAMP-2/count", json!({ "counted": 5, "reason": "x" }), 404, "sku LAMP-2"),
        ("/stock/a%20b/receive", json!({ "units": 5, "reason": "x" }), 404, "sku: want 1 to 64 letters"),
        (
            "/stock/%27%20OR%201/receive",
            json!({ "units": 5, "reason": "x" }),
            404,
            "sku: want 1 to 64 letters",
        ),
    ] {
        let reply = shop.ask("POST", path, &body.to_string());
        assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
        assert!(reply.body.contains(why), "{path} {body}: want {why:?}: {reply:?}");
    }
    let put = |path: &str, body: &Value| shop.ask("PUT", path, &body.to_string());
    for (path, body, status, why) in [
        ("/claims/launch/LAMP-1", json!({ "units": -1, "reason": "x" }), 422, "units"),
        ("/claims/launch/LAMP-1", json!({ "units": 21, "reason": "x" }), 409, "units: of sku LAMP-1 only 20"),
        ("/claims/launch/LAMP-2", json!({ "units": 1, "reason": "x" }), 404, "sku LAMP-2"),
        ("/claims/No%20Sale/LAMP-1", json!({ "units": 1, "reason": "x" }), 404, "sale"),
    ] {
        let reply = put(path, &body);
        assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
        assert!(reply.body.contains(why), "{path} {body}: want {why:?}: {reply:?}");
    }
    for (method, path, status, why) in [
        ("DELETE", "/claims/launch?reason=x", 404, "sale launch: no stock was claimed for it"),
        ("DELETE", "/claims/launch", 422, "reason"),
        ("GET", "/stock/LAMP-2", 404, "sku LAMP-2"),
        ("GET", "/stock/LAMP-2/ledger", 404, "sku LAMP-2"),
        ("GET", "/stock?limit=x", 400, "limit"),
        ("GET", "/stock?prefix=%25", 400, "prefix"),
        ("GET", "/stock?color=red", 400, "color"),
        ("GET", "/reservations/0", 404, "order id"),
        ("GET", "/reservations/00000000000000000000000000", 404, "it has no reservation"),
    ] {
        let reply = shop.ask(method, path, "");
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert!(reply.body.contains(why), "{method} {path}: want {why:?}: {reply:?}");
    }
    // A reader reads, and changes nothing; without a key nothing is said.
    let body = json!({ "units": 5, "reason": "x" }).to_string();
    let receive = shop.url("/stock/LAMP-1/receive");
    assert_eq!(shop.server.client.admin("POST", &receive, &shop.reader, &body).status, 403);
    assert_eq!(shop.server.client.admin("GET", &shop.url("/stock"), &shop.reader, "").status, 200);
    assert_eq!(Client::default().get(&shop.url("/stock")).status, 401);
    assert_eq!(shop.figures("LAMP-1"), [20, 0, 0, 20]);
    let ledger = shop.ask("GET", "/stock/LAMP-1/ledger", "").json();
    assert_eq!(ledger["entries"].as_array().unwrap().len(), 1, "{ledger}");
}

#[test]
fn a_command_that_is_sent_again_with_its_key_is_done_once() {
    let mut shop = Shop::open(&[]);
    shop.ask("PUT", "/stock/LAMP-1", "");
    let body = json!({ "units": 5, "reason": "purchase 7" });
    let first = shop.with_key("k1", "/stock/LAMP-1/receive", &body);
    assert_eq!(first.status, 200, "{first:?}");
    shop.server.kill();
    shop.server.restart();
    poll("the store is open", || {
        let reply = shop.server.client.try_send("GET", &shop.url("/categories"), &[], "").ok()?;
        (reply.status == 200).then_some(())
    });
    assert_eq!(shop.with_key("k1", "/stock/LAMP-1/receive", &body).json(), first.json());
    for (path, other) in [
        ("/stock/LAMP-1/receive", json!({ "units": 6, "reason": "purchase 7" })),
        ("/stock/LAMP-1/receive", json!({ "units": 5, "reason": "purchase 8" })),
        ("/stock/LAMP-1/count", json!({ "counted": 5, "reason": "purchase 7" })),
    ] {
        let reply = shop.with_key("k1", path, &other);
        assert_eq!((reply.status, reply.problem().as_str()), (409, "conflict"), "{path} {other}");
    }
    let wrong = shop.with_key("two words", "/stock/LAMP-1/receive", &body);
    assert_eq!((wrong.status, wrong.problem().as_str()), (422, "invalid"));
    assert_eq!(shop.figures("LAMP-1"), [5, 0, 0, 5]);
}

#[test]
fn units_are_sent_to_another_warehouse_and_arrive_or_are_lost() {
    let shop = Shop::open(&[]);
    shop.ask("PUT", "/stock/A", "");
    shop.post("/stock/A/receive", &json!({ "units": 10, "reason": "delivery" }));
    let east = json!({ "name": "East", "ships": true, "parcel_cost": 5, "days": 2, "reason": "new" });
    assert_eq!(shop.ask("PUT", "/warehouses/east", &east.to_string()).status, 200);
    let send = |units: u32| json!({ "from": "main", "to": "east", "lines": [{ "sku": "A", "quantity": units }], "reason": "needed there" });
    let refused = shop.ask("PUT", "/transfers/t-1", &send(11).to_string());
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("of sku A only 10 units are free"), "{refused:?}");
    let sent = shop.ask("PUT", "/transfers/t-1", &send(6).to_string()).json();
    let line = json!({ "sku": "A", "sent": 6, "arrived": 0, "lost": 0, "in_transit": 6 });
    assert_eq!((&sent["is_new"], &sent["transfer"]["lines"]), (&json!(true), &json!([line])), "{sent}");
    assert_eq!(shop.ask("PUT", "/transfers/t-1", &send(6).to_string()).json()["is_new"], false);
    assert_eq!(shop.ask("PUT", "/transfers/t-1", &send(5).to_string()).status, 409);
    let listed = shop.ask("GET", "/transfers", "").json();
    assert_eq!(listed["transfers"][0]["in_transit"], 6, "{listed}");
    assert_eq!(shop.figures("A"), [4, 0, 0, 4]);
    assert_eq!(shop.ask("GET", "/stock/A", "").json()["in_transit"], 6);
    let arrived = json!({ "lines": [{ "sku": "A", "quantity": 4 }], "reason": "a parcel" });
    for _ in 0..2 {
        let after = shop.with_key("parcel-1", "/transfers/t-1/arrive", &arrived);
        assert_eq!(after.json()["lines"][0]["in_transit"], 2, "{after:?}");
    }
    let more = shop.ask("POST", "/transfers/t-1/arrive", &arrived.to_string());
    assert_eq!(more.status, 409, "{more:?}");
    assert!(more.body.contains("of sku A only 2 units are on their way"), "{more:?}");
    let closed = shop.post("/transfers/t-1/close", &json!({ "reason": "the lorry is empty" }));
    assert_eq!((&closed["state"], &closed["lines"][0]["lost"]), (&json!("closed"), &json!(2)), "{closed}");
    assert_eq!(shop.figures("A"), [8, 0, 0, 8]);
    assert_eq!(shop.ask("GET", "/transfers", "").json()["transfers"], json!([]));
    assert_eq!(shop.ask("GET", "/transfers?state=closed", "").json()["transfers"][0]["transfer"], "t-1");
    assert_eq!(shop.ask("GET", "/transfers/none", "").status, 404);
    let entries = shop.ask("GET", "/stock/A/ledger?warehouse=east", "").json()["entries"].clone();
    let kinds: Vec<&str> = entries.as_array().unwrap().iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["lose", "arrive", "expect"]);
    assert!(entries.as_array().unwrap().iter().all(|entry| entry["transfer"] == "t-1"), "{entries}");
    let audit = shop.ask("GET", "/stock-audit", "").json();
    assert_eq!(audit["differences"], json!([]), "{audit}");
}

#[test]
fn ten_thousand_counts_come_and_go_by_one_sheet() {
    const LINES: usize = 10_000;
    let shop = Shop::open(&[]);
    let bearer = format!("Bearer {}", shop.operator);
    let send = |query: &str, text: &str| -> Reply {
        let fields = [("authorization", &*bearer), ("content-type", "text/csv")];
        shop.server.client.send("POST", &shop.url(&format!("/stock-sheet{query}")), &fields, text)
    };
    let lines = |wrong: Option<usize>| -> String {
        let line = |number: usize| match wrong {
            Some(line) if line == number + 2 => format!("LAMP-{number:05},-1\n"),
            _ => format!("LAMP-{number:05},{}\n", number % 7),
        };
        std::iter::once("sku,on_hand\n".to_owned()).chain((0..LINES).map(line)).collect()
    };
    let wrong = send("?reason=counted&new_skus=true", &lines(Some(9_999)));
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.body.contains("line 9999: on_hand"), "{wrong:?}");
    assert_eq!(shop.ask("GET", "/stock-sheet", "").body.lines().count(), 1, "nothing is stored");
    for (query, want) in [("", "reason"), ("?reason=counted", "line 2: sku LAMP-00000")] {
        let refused = send(query, &lines(None));
        assert_eq!(refused.status, 422, "{query}: {refused:?}");
        assert!(refused.body.contains(want), "{query}: {refused:?}");
    }
    let taken = send("?reason=counted&new_skus=true", &lines(None)).json();
    assert_eq!(taken, json!({ "lines": LINES, "changed": LINES - LINES.div_ceil(7), "new_skus": LINES }));
    let exported = shop.ask("GET", "/stock-sheet", "").body;
    assert_eq!(exported.lines().next(), Some("sku,warehouse,on_hand,reserved,claimed,free,sequence"));
    assert_eq!(exported.lines().nth(LINES), Some("LAMP-09999,main,3,0,0,3,1"));
    let entry = shop.ask("GET", "/stock/LAMP-09999/ledger", "").json()["entries"][0].clone();
    let said = [&entry["kind"], &entry["units"], &entry["actor"], &entry["reason"]];
    assert_eq!(said, [&json!("count"), &json!(3), &json!("op"), &json!("counted")]);
    // What came out goes in, and changes nothing; what has moved since is not overwritten.
    let again = send("?reason=again", &exported).json();
    assert_eq!(again, json!({ "lines": LINES, "changed": 0, "new_skus": 0 }));
    shop.post("/stock/LAMP-00003/receive", &json!({ "units": 4, "reason": "delivery" }));
    let late = send("?reason=late", &exported);
    assert_eq!(late.status, 422, "{late:?}");
    assert!(late.body.contains("line 5: sequence: units of sku LAMP-00003 have moved"), "{late:?}");
    assert_eq!(shop.figures("LAMP-00003")[0], 7);
}

#[test]
fn the_demo_has_stock_of_all_that_it_sells_and_keeps_it_over_a_restart() {
    let mut shop = Shop::open(&["--demo", "--demo-opens-in", "0", "--demo-stock", "7"]);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = shop.ask("GET", &format!("/stock?limit=15{after}"), "").json();
        all.extend(page["stock"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(all.len(), 40);
    for level in &all {
        let units = level["free"].as_u64().unwrap();
        let is_scarce = ["HELM-MOUNT", "MAST-STICK"].contains(&text(&level["sku"]));
        assert!(is_scarce || (20..=200).contains(&units), "{level}");
    }
    assert_eq!((shop.figures("HELM-MOUNT")[3], shop.figures("MAST-STICK")[3]), (3, 0));
    assert_eq!(shop.figures("FLOOD-ONE")[2], 7, "what the sale sells is claimed for it");
    let flood = shop.ask("GET", "/stock?prefix=FLOOD-", "").json();
    assert_eq!(flood["stock"].as_array().unwrap().len(), 2, "{flood}");
    shop.post("/stock/HELM-MOUNT/adjust", &json!({ "change": -1, "reason": "broken" }));
    shop.server.stop();
    shop.server.restart();
    poll("the store is open", || {
        let reply = shop.server.client.try_send("GET", &shop.url("/categories"), &[], "").ok()?;
        (reply.status == 200).then_some(())
    });
    assert_eq!(shop.figures("HELM-MOUNT")[3], 2, "it is not filled up again");
    let audit = shop.ask("GET", "/stock-audit?limit=100", "").json();
    assert_eq!((&audit["skus"], &audit["differences"]), (&json!(40), &json!([])), "{audit}");
}
