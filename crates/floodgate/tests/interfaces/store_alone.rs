//! The store in a process of its own, beside the sales and the message service of another: either
//! may be killed, or be away, and the other goes on.

use crate::{
    gates::{self, Gate},
    harness::{
        BINARY, Server, Setup, poll,
        shop::{Sale, in_parallel, spec, with},
    },
    store::{Shopper, form_token},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

const PAID: &str = "Paid: it is yours";

/// A store; it is killed when the test ends.
struct Store {
    child: Child,
    /// Kept open, because the process must be able to print.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a store, at the same address as the one before.
fn start_store(server: &mut Server) -> Store {
    let config = server.scratch().join("store.toml");
    let listen = if server.store.is_empty() { "127.0.0.1:0" } else { &server.store };
    let notify = "[notify]\nlisten = \"127.0.0.1:1\"\n";
    let limits = "[gate.limits]\nexempt_addresses = [\"127.0.0.0/8\"]\n";
    let text = format!("{notify}{limits}[store]\nlisten = \"{listen}\"\npayments = \"sandbox\"\n");
    fs::write(&config, text).unwrap();
    let errors = server.scratch().join("store-errors");
    let (child, stdout, printed) = poll("start the store", || {
        let mut child = Command::new(BINARY)
            .args(["serve", "--role", "store", "--join"])
            .arg(server.data.join("gates/socket"))
            .arg("--data")
            .arg(&server.data)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        if stdout.read_line(&mut printed).unwrap() == 0 {
            let status = child.wait().unwrap();
            let said = fs::read_to_string(&errors).unwrap();
            assert!(said.ends_with("(os error 98)\n"), "the store ended, {status}: {said}");
            return None;
        }
        Some((child, stdout, printed))
    });
    let at = printed.strip_prefix("store: http://").unwrap_or_else(|| panic!("{printed}"));
    at.trim_end().trim_end_matches('/').clone_into(&mut server.store);
    Store { child, _stdout: stdout }
}

/// The sales with a sale that is open, a gate, and a store.
fn all_apart(stock: u64) -> (Server, Gate, Store, Sale) {
    // The store's settings are in the configuration of the sales too, which serve none.
    let settings = "[store]\nlisten = \"127.0.0.1:0\"\npayments = \"sandbox\"\n".to_owned();
    let serve = vec!["--role".into(), "sale".into()];
    let mut server = Server::with(Setup { serve, settings, ..Setup::default() });
    assert!(!server.printed.contains("store:"), "{}", server.printed);
    let gate = gates::join(&server, "127.0.0.1:0", "");
    server.shop.clone_from(&gate.shop);
    let store = start_store(&mut server);
    let spec = with(spec(&[("lamp", stock)]), json!({ "hold_seconds": 600 }));
    gates::define(&server, &spec, &[&gate]);
    let sale = server.sale("launch");
    (server, gate, store, sale)
}

#[track_caller]
fn pay(shopper: &Shopper<'_>, order: &str) {
    let sandbox = shopper.begin_to_pay(order);
    shopper.choose(&sandbox, "pay");
}

#[test]
fn shoppers_win_and_pay_at_a_store_in_a_process_of_its_own() {
    let (server, _gate, _store, sale) = all_apart(3);
    let ann = Shopper::new(&server, "Ann");
    let won = ann.win(&sale, "lamp");
    let order = ann.order(&sale, &won);
    pay(&ann, &order);
    ann.wait_for(&order, PAID);
    // The sale has it from the store.
    let sold = server.wait_for_item("launch", "lamp", |item| item["sold"] == 1);
    assert_eq!(sold["held"], 0, "{sold}");
    // What a shopper gives up is free in the sale.
    let ben = Shopper::new(&server, "Ben");
    let won = ben.win(&sale, "lamp");
    let order = ben.order(&sale, &won);
    let page = ben.get(&order).body;
    assert_eq!(ben.post(&format!("{order}/cancel"), &[("form", form_token(&page))]).status, 303);
    server.wait_for_item("launch", "lamp", |item| item["held"] == 0 && item["free"] == 2);
}

#[test]
fn a_kill_of_the_store_or_of_the_sales_loses_no_winner_and_no_payment() {
    let (mut server, gate, mut store, sale) = all_apart(12);
    let names: Vec<String> = (0..12).map(|n| format!("Shopper{n}")).collect();
    let sessions: Vec<(String, Value)> = in_parallel(4, &names, |name| {
        let shopper = Shopper::new(&server, name);
        let won = shopper.win(&sale, "lamp");
        (shopper.session.clone(), won)
    });
    drop(store);
    store = start_store(&mut server);
    let orders: Vec<String> = in_parallel(4, &sessions, |(session, won)| {
        let shopper = Shopper::with(&server, session.clone());
        let order = shopper.order(&sale, won);
        pay(&shopper, &order);
        order
    });
    // The sales are killed while payments are on their way to them, and are away for a while: the
    // shop's pages do not need them.
    server.kill();
    for ((session, _), order) in sessions.iter().zip(&orders) {
        let shopper = Shopper::with(&server, session.clone());
        assert_eq!(shopper.get(order).status, 200);
        assert_eq!(shopper.get("/").status, 200);
    }
    drop(store);
    // A store that starts meanwhile waits for nothing.
    let _store = start_store(&mut server);
    let stranger = Shopper::stranger(&server);
    assert_eq!(stranger.get("/").status, 200);
    let shop = server.shop.clone();
    server.restart_unready();
    server.shop = shop;
    for ((session, _), order) in sessions.iter().zip(&orders) {
        Shopper::with(&server, session.clone()).wait_for(order, PAID);
    }
    server.wait_for_item("launch", "lamp", |item| item["sold"] == 12 && item["held"] == 0);
    drop(gate);
    server.stop();
    crate::harness::audit(&server.data);
}

#[test]
fn a_store_says_what_it_needs_before_it_starts() {
    let server = Server::start();
    let config = server.scratch().join("none.toml");
    fs::write(&config, "").unwrap();
    let said = |args: &[&str]| {
        let output = Command::new(BINARY).args(["serve", "--role", "store"]).args(args).output().unwrap();
        assert!(!output.status.success());
        crate::harness::stderr(&output)
    };
    let without_socket = said(&[]);
    assert!(without_socket.contains("--join <SOCKET>"), "{without_socket}");
    let (socket, data) = (server.data.join("gates/socket"), server.data.display().to_string());
    let socket = socket.to_str().unwrap();
    let config = config.to_str().unwrap();
    let without_listener = said(&["--join", socket, "--data", &data, "--config", config]);
    assert!(without_listener.contains("set store.listen"), "{without_listener}");
    let misplaced = Command::new(BINARY).args(["serve", "--join", socket]).output().unwrap();
    let misplaced = crate::harness::stderr(&misplaced);
    assert!(misplaced.contains("--role store"), "{misplaced}");
}
