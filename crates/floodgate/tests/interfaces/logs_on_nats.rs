//! The logs of the sales and of the message service are on a nats-server: both processes are
//! killed, in turn and together, and nothing that was answered is lost.

use crate::harness::{
    Server, Setup,
    nats::NatsServer,
    poll, run,
    shop::{self, hold},
    stderr, stdout,
};
use crate::messages::{Endpoint, ask, event, post, subscribe};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

const JSON: &str = "application/cloudevents+json";

fn settings(nats: &NatsServer) -> String {
    format!("[logs]\nurl = \"{}\"\nreplicas = 1\n", nats.url())
}

fn start(nats: &NatsServer) -> Server {
    let notify = "allowed_networks = [\"127.0.0.0/8\"]\n".to_owned();
    Server::with(Setup { notify, settings: settings(nats), ..Setup::default() })
}

/// The audit of a data directory, with the configuration that says where its logs are.
#[track_caller]
fn audit(output: &Output) -> Value {
    let reports: Value = serde_json::from_str(&stdout(output)).unwrap();
    for report in reports.as_array().unwrap() {
        assert_eq!(report["proven"], true, "{report}");
    }
    reports
}

/// Posts until it is accepted.
#[track_caller]
fn post_until_accepted(server: &Server, key: &str, id: usize) {
    poll("an event is accepted", || {
        let reply = post(server, key, JSON, &event(id, id % 4).to_string());
        assert!([202, 503].contains(&reply.status), "{reply:?}");
        (reply.status == 202).then_some(())
    });
}

fn ids(endpoint: &Endpoint, count: usize) -> BTreeSet<usize> {
    let numbers = |endpoint: &Endpoint| -> BTreeSet<usize> {
        let events = endpoint.wait_for(count).into_iter().map(|got| got.event());
        events.filter_map(|event| event["data"]["n"].as_u64()).map(|n| n as usize).collect()
    };
    poll("all deliveries", || Some(numbers(endpoint)).filter(|ids| ids.len() >= count))
}

#[test]
fn both_logs_survive_kills_of_either_process() {
    let mut nats = NatsServer::start();
    let mut server = start(&nats);
    let key = server.new_key("owner", "owner");
    let endpoint = Endpoint::start();
    assert_eq!(ask(&server, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    subscribe(&server, &key, "orders", &endpoint.url, json!({ "first_seconds": 1, "longest_seconds": 1 }));
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 10)]));
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|shopper| server.pass("launch", shopper));
    let held = sale.granted(&alice, "k", "phone");
    let paid = sale.granted(&bob, "k", "phone");
    server.admin("POST", &hold(&paid, "confirm"), &json!({ "payment": "p-1" }));
    (0..20).for_each(|id| post_until_accepted(&server, &key, id));
    assert!(!server.data.join("sales/launch/p0/seg-00000000000000000001.log").exists());

    // The program is killed; then the server too, while the program is away.
    server.kill();
    server.restart();
    let sale = server.sale("launch");
    assert_eq!(sale.buy(&alice, "k", "phone"), held);
    server.kill();
    nats.kill();
    nats.restart();
    server.restart();
    let sale = server.sale("launch");
    assert_eq!(sale.buy(&alice, "k", "phone"), held);
    assert_eq!(server.stats("launch")["items"][0]["sold"], 1);

    poll("the message service is back", || {
        (ask(&server, &key, "GET", "/api/v1/topics", &json!(null)).status == 200).then_some(())
    });
    // The server is killed alone: who asks meanwhile is told to come again, and the program goes
    // on.
    nats.kill();
    let began = Instant::now();
    let refused = post(&server, &key, JSON, &event(20, 0).to_string());
    assert_eq!(refused.status, 503, "{refused:?}");
    let refused = sale.attempt(&carol, "k", &[("phone", 1)]);
    assert!([202, 503].contains(&refused.status), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    nats.restart();
    (20..40).for_each(|id| post_until_accepted(&server, &key, id));
    let bought = poll("the sale goes on", || {
        let reply = sale.attempt(&carol, "k", &[("phone", 1)]);
        (reply.status == 200 && reply.json()["outcome"] == "granted").then(|| reply.json())
    });
    assert_eq!(sale.buy(&carol, "k", "phone"), bought, "the same answer again");
    assert_eq!(ids(&endpoint, 40), (0..40).collect());
    let report = audit(&server.command(&["audit", "--json"]));
    assert_eq!((&report[0]["items"][0]["held"], &report[0]["items"][0]["sold"]), (&json!(2), &json!(1)));

    // It can be read while the server writes, and by every command.
    assert!(server.output(&["log", "--sale", "launch"]).contains("alice"));
    moves_by_backup(&server, &nats, &key, &report);
    is_never_looked_for_in_the_wrong_place(&server);
}

/// A backup is files; restored, the logs are where the configuration says.
fn moves_by_backup(server: &Server, nats: &NatsServer, key: &str, report: &Value) {
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    let said = server.output(&["backup", &backup.display().to_string()]);
    assert!(said.contains("sale launch") && said.contains("message service"), "{said}");
    let of_backup = audit(&run(&backup, None, &["audit", "--json"]));
    assert_eq!(of_backup[0]["items"], report[0]["items"]);
    let config = server.config_file();
    stdout(&run(&restored, Some(&config), &["restore", &backup.display().to_string()]));
    assert!(restored.join("sales/launch/p0/nats.json").exists());
    let of_restored = audit(&run(&restored, Some(&config), &["audit", "--json"]));
    assert_eq!(of_restored[0]["items"], report[0]["items"]);
    let setup = Setup { settings: settings(nats), data: Some(restored), ..Setup::default() };
    let copy = Server::with(setup);
    assert_eq!(copy.stats("launch")["pause"]["cause"], "restored");
    let seen = ask(&copy, key, "GET", "/api/v1/subscriptions/crm", &json!(null)).json();
    assert_eq!(seen["state"], "paused", "{seen}");
}

/// Without the configuration it is not taken for a log in files.
fn is_never_looked_for_in_the_wrong_place(server: &Server) {
    let refused = stderr(&run(&server.data, None, &["audit"]));
    assert!(refused.contains("it is kept on nats://") && refused.contains("set it back"), "{refused}");
}

#[test]
fn a_log_in_files_stays_there_whatever_the_configuration_says() {
    let nats = NatsServer::start();
    let mut server = Server::start();
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    server.stop();
    server.set_settings(&settings(&nats));
    server.restart_unready();
    let ready = server.client.get(&server.admin_url("/readyz"));
    assert!(ready.body.contains("sale launch could not be brought back"), "{ready:?}");
    for log in ["sales/launch/p0", "notify/p0"] {
        let why = format!("{log}: it is kept on file:, and logs.url of the configuration is nats://");
        poll("the reason", || server.errors().contains(&why).then_some(()));
    }
    server.stop();
    server.set_settings("");
    server.restart();
    server.sale("launch");
    // What is made from then on is where the configuration says.
    assert!(nats.ask("$JS.API.STREAM.NAMES", b"").contains("\"streams\":null"));
}

#[test]
fn a_start_without_nats_waits_for_it_and_a_deleted_sale_leaves_no_stream() {
    let mut nats = NatsServer::with("", "authorization { user: gate, password: s3cret }");
    let url = format!("nats://gate:s3cret@{}", nats.address());
    let settings = format!("[logs]\nurl = \"{url}\"\nreplicas = 1\nprefix = \"shop\"\n");
    let mut server = Server::with(Setup { settings, ..Setup::default() });
    let key = server.new_key("owner", "owner");
    let later = json!({ "rounds": [{ "opens_at": shop::in_ms(3_600_000), "closes_at": shop::in_ms(7_200_000),
        "items": [{ "item": "phone", "stock": 1, "price_minor": 1 }] }] });
    let spec = shop::spec(&[("phone", 3)]);
    server.define("later", &shop::with(spec.clone(), later));
    let note = std::fs::read_to_string(server.data.join("sales/later/p0/nats.json")).unwrap();
    assert!(note.contains("\"stream\":\"shop-later-") && !note.contains("s3cret"), "{note}");
    let deleted = server.admin_send("DELETE", "/sales/later?reason=never%20mind", "");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let sale = server.open_sale("launch", &spec);
    let pass = server.pass("launch", "alice");
    let held = sale.granted(&pass, "k", "phone");
    let streams = std::fs::read_dir(nats.dir().join("store/jetstream/$G/streams")).unwrap();
    let streams: Vec<_> = streams.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    assert!(streams.iter().any(|name| name.starts_with("shop-launch-")), "{streams:?}");
    assert!(!streams.iter().any(|name| name.starts_with("shop-later-")), "{streams:?}");

    server.kill();
    nats.kill();
    server.restart_unready();
    let ready = server.client.get(&server.admin_url("/readyz"));
    assert_eq!(ready.status, 503, "{ready:?}");
    nats.restart();
    poll("it comes back by itself", || {
        let ready = server.client.try_send("GET", &server.admin_url("/readyz"), &[], "").ok()?;
        (ready.status == 200).then_some(())
    });
    assert_eq!(server.sale("launch").buy(&pass, "k", "phone"), held);
    poll("the message service comes back too", || {
        let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null));
        (topics.status == 200).then_some(())
    });
    let said = server.errors();
    assert!(!said.contains("s3cret") && said.contains("nats://127.0.0.1"), "{said}");
    let config = server.output(&["config"]);
    assert!(!config.contains("s3cret") && config.contains("nats://127.0.0.1"), "{config}");
}
