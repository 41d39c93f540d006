//! Orders in databases on two servers of MariaDB: a shop that works as ever, a server that is away,
//! and buckets that move while shoppers buy and the mover is killed.

use crate::{
    carts::{Operator, add, check_out, from_the_cart_to_the_refund},
    harness::{Server, Setup, mariadb::MariaDb, poll},
    store::Shopper,
};
use contracts::store::OrderId;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    thread::{scope, sleep},
    time::Duration,
};

/// The databases of orders in turns on the two servers, with these names.
fn settings([first, second]: &[MariaDb; 2], names: &[&str]) -> String {
    let server = |number: usize| if number.is_multiple_of(2) { first } else { second };
    let one = |(number, name): (usize, &&str)| {
        let url = server(number).url(&format!("shop_{number}"));
        format!("{{ name = \"{name}\", url = \"{url}\" }}")
    };
    let orders: Vec<String> = names.iter().enumerate().map(one).collect();
    format!(
        "[store]\nlisten = \"127.0.0.1:0\"\ndatabases = \"{}\"\norders = [{}]\n",
        first.url("shop"),
        orders.join(", ")
    )
}

const FOUR: [&str; 4] = ["orders_0", "orders_1", "orders_2", "orders_3"];
const SIX: [&str; 6] = ["orders_0", "orders_1", "orders_2", "orders_3", "orders_4", "orders_5"];

fn shop(servers: &[MariaDb; 2]) -> Server {
    let serve = ["--demo", "--demo-opens-in", "0"].map(str::to_owned).to_vec();
    Server::with(Setup { serve, settings: settings(servers, &FOUR), ..Setup::default() })
}

fn bucket(order: &str) -> u16 {
    let id: OrderId = order.trim_start_matches("/orders/").parse().unwrap();
    id.bucket().number()
}

/// Whether an order is on the second server at first.
fn is_on_second(order: &str) -> bool {
    bucket(order) / 256 % 2 == 1
}

/// All orders, as operators list them.
fn listed(operator: &Operator<'_>) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = operator.get(&format!("/orders?limit=100{next}"));
        let ids = page["orders"].as_array().unwrap().iter().map(|of| of["id"].as_str().unwrap());
        all.extend(ids.map(|id| format!("/orders/{id}")));
        match page["next"].as_str() {
            Some(before) => next = format!("&before={before}"),
            None => return all,
        }
    }
}

/// The same, once so many are listed.
#[track_caller]
fn listed_all(operator: &Operator<'_>, count: usize) -> Vec<String> {
    poll("all are listed", || Some(listed(operator)).filter(|all| all.len() == count))
}

fn same(listed: &[String], placed: &[String]) {
    let different: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(different.len(), listed.len(), "an order is listed twice");
    let lost: Vec<&String> = placed.iter().filter(|order| !different.contains(order)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn from_the_cart_to_the_refund_on_two_servers() {
    let servers = [MariaDb::start(), MariaDb::start()];
    let server = shop(&servers);
    from_the_cart_to_the_refund(&server);
    let said = server.output(&["store", "shards"]);
    assert!(said.starts_with("directory of version 1\norders_0: 256 buckets: 0-255\n"), "{said}");
    let shown = server.output(&["config"]);
    assert!(shown.contains("mysql://…@127.0.0.1") && !shown.contains("root@"), "{shown}");
}

#[test]
fn while_one_server_is_away_the_others_shoppers_go_on() {
    let mut servers = [MariaDb::start(), MariaDb::start()];
    let server = shop(&servers);
    let (operator, sale) = (Operator::new(&server), server.sale("demo"));
    let shoppers: Vec<Shopper<'_>> = (0..8).map(|of| Shopper::new(&server, &format!("Ann{of}"))).collect();
    let (early, late) = shoppers.split_at(4);
    let outcomes: Vec<Value> = early.iter().map(|shopper| shopper.win(&sale, "phone")).collect();
    let orders: Vec<String> =
        early.iter().zip(&outcomes).map(|(shopper, outcome)| shopper.order(&sale, outcome)).collect();
    for (shopper, order) in early.iter().zip(&orders) {
        shopper.choose(&shopper.begin_to_pay(order), "pay");
        shopper.wait_for(order, "Paid: it is yours");
    }
    servers[1].kill();
    let mut seen = [0, 0];
    for (shopper, order) in early.iter().zip(&orders) {
        let status = shopper.try_get(order).expect("an answer").status;
        let is_away = is_on_second(order);
        assert_eq!(status, if is_away { 503 } else { 200 }, "{order}");
        seen[usize::from(is_away)] += 1;
    }
    // The list is in a database of its own, which is not away; and so is how much waits.
    let now = listed_all(&operator, orders.len());
    same(&now, &orders);
    let url = format!("http://{}/console?lang=en", server.store);
    let fields = [("authorization", &*format!("Bearer {}", operator.key)), ("accept", "text/html")];
    let console = server.client.send("GET", &url, &fields, "");
    assert_eq!(console.status, 200, "{console:?}");
    assert!(console.body.contains("not known at the moment"), "refunds are the databases' own");
    // The sale goes on, and its winners on the other server have their orders at once.
    let outcomes: Vec<Value> = late.iter().map(|shopper| shopper.win(&sale, "phone")).collect();
    let is_there = |shopper: &Shopper<'_>, outcome: &Value| {
        let hold = outcome["attempt"].as_str().unwrap();
        let reply = shopper.try_get(&format!("/checkout?sale=demo&hold={hold}"))?;
        Some((reply.status, reply.header("location").to_owned()))
    };
    poll("orders, or 503, of all late winners", || {
        let all = late.iter().zip(&outcomes).map(|(shopper, outcome)| is_there(shopper, outcome));
        let all: Vec<(u16, String)> = all.collect::<Option<_>>()?;
        let is_settled = all.iter().all(|(status, _)| [303, 503].contains(status));
        is_settled.then(|| {
            for (status, order) in all {
                seen[usize::from(status == 503)] += 1;
                assert!(status == 503 || !is_on_second(&order), "{order}");
            }
        })
    });
    assert!(seen.iter().all(|count| *count > 0), "all on one server, which proves nothing: {seen:?}");
    servers[1].restart();
    let mut all = orders.clone();
    for (shopper, outcome) in late.iter().zip(&outcomes) {
        let order = shopper.order(&sale, outcome);
        shopper.choose(&shopper.begin_to_pay(&order), "pay");
        shopper.wait_for(&order, "Paid: it is yours");
        all.push(order);
    }
    for (shopper, order) in early.iter().zip(&orders) {
        assert_eq!(shopper.get(order).status, 200);
    }
    same(&listed_all(&operator, 8), &all);
    server.audit();
}

/// How often the directory has changed.
fn version(shards: &str) -> u32 {
    shards.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn buckets_move_to_another_server_while_shoppers_buy_and_the_mover_is_killed() {
    let servers = [MariaDb::start(), MariaDb::start()];
    let mut server = shop(&servers);
    // Databases that are added have nothing yet; all processes know them before anything moves.
    server.set_settings(&settings(&servers, &SIX));
    server.stop();
    server.restart();
    let (key, placed) = {
        let server = &server;
        let operator = Operator::new(server);
        poll("the store is open", || operator.try_figures());
        // So many that it is never sold out.
        let more = serde_json::json!({ "units": 1_000_000, "reason": "for the test" });
        operator.post("/stock/MARSH-KEYBOARD/receive", &more);
        let said = server.output(&["store", "shards"]);
        assert!(said.contains("orders_3: 256 buckets") && said.contains("orders_5: 0 buckets\n"), "{said}");
        let ends = std::sync::atomic::AtomicBool::new(false);
        let is_over = || ends.load(std::sync::atomic::Ordering::Relaxed);
        let placed: Vec<String> = scope(|scope| {
            let buys = (0..4).map(|number| {
                scope.spawn(move || {
                    let mut shopper = Shopper::new(server, &format!("Bo{number}"));
                    let mut placed = Vec::new();
                    while !is_over() || placed.len() < 2 {
                        add(&mut shopper, "1");
                        let reply = check_out(&shopper);
                        if reply.status == 303 {
                            let order = reply.header("location").to_owned();
                            shopper.wait_for(&order, "Reserved for you");
                            shopper.choose(&shopper.begin_to_pay(&order), "pay");
                            shopper.wait_for(&order, "Paid: it is yours");
                            placed.push(order);
                        }
                    }
                    placed
                })
            });
            let buys: Vec<_> = buys.collect();
            let args = |buckets: &str, to: &str| {
                ["store", "move", "--buckets", buckets, "--to", to].map(str::to_owned).to_vec()
            };
            let kills = [
                (400, "orders_4"),
                (700, "orders_4"),
                (1100, "orders_5"),
                (1500, "orders_5"),
                (2100, "orders_4"),
            ];
            // Until enough has moved: a machine may be slow.
            let more = std::iter::repeat_n((2100, "orders_5"), 20);
            for (number, (kill_after_ms, to)) in kills.into_iter().chain(more).enumerate() {
                if number >= kills.len() && version(&server.output(&["store", "shards"])) > 20 {
                    break;
                }
                let mut mover = Command::new(env!("CARGO_BIN_EXE_floodgate"))
                    .args(args("0-1023", to))
                    .arg("--data")
                    .arg(&server.data)
                    .arg("--config")
                    .arg(server.config_file())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                sleep(Duration::from_millis(kill_after_ms));
                mover.kill().unwrap();
                mover.wait().unwrap();
            }
            server.output(&["store", "finish"]);
            // Those of the shoppers come back to the first server.
            let buckets: BTreeSet<u16> = listed(&operator).iter().map(|order| bucket(order)).collect();
            let buckets: Vec<String> = buckets.iter().map(u16::to_string).collect();
            let all = args(&buckets.join(","), "orders_0");
            server.output(&all.iter().map(String::as_str).collect::<Vec<_>>());
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
            buys.into_iter().flat_map(|buys| buys.join().unwrap()).collect()
        });
        (operator.key, placed)
    };
    let said = server.output(&["store", "shards"]);
    assert!(version(&said) > 20 && !said.contains("being moved"), "{said}");
    {
        let operator = Operator { server: &server, key: key.clone() };
        same(&listed_all(&operator, placed.len()), &placed);
        for order in &placed {
            operator.wait_for(order, "allocated");
        }
        assert_eq!(operator.get("/stock-audit")["differences"], serde_json::json!([]));
    }
    // Two databases that are configured for each other are not opened.
    let swapped = ["orders_0", "orders_1", "orders_2", "orders_3", "orders_5", "orders_4"];
    server.set_settings(&settings(&servers, &swapped));
    let refused = {
        server.stop();
        server.restart();
        poll("the store says why it is not opened", || {
            let said = server.errors();
            said.contains("the store cannot be opened").then_some(said)
        })
    };
    assert!(refused.contains("configured as orders_5 says that it is orders_4"), "{refused}");
    server.set_settings(&settings(&servers, &SIX));
    server.stop();
    server.restart();
    let operator = Operator { server: &server, key };
    poll("the store is open", || operator.try_figures());
    same(&listed_all(&operator, placed.len()), &placed);
    server.audit();
}
