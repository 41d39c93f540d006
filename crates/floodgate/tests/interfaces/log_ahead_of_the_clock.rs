//! A server whose log is ahead of its clock comes up with the sale paused, and says so wherever an
//! operator looks.

use crate::harness::{
    Server, poll,
    shop::{self, in_ms, now},
};
use contracts::{Actor, Operation};
use engines::embedded::{EmbeddedLog, LogId, Options, Partition};
use sale::{Command, Worker};
use serde_json::json;
use units::DurationMs;

#[test]
fn a_sale_whose_log_is_ahead_of_the_clock_is_paused_and_every_place_says_so() {
    let mut server = Server::start();
    let mut spec = shop::spec(&[("phone", 5)]);
    spec["rounds"][0]["closes_at"] = in_ms(36_000_000).into();
    let sale = server.open_sale("launch", &spec);
    let pass = server.pass("launch", "alice");
    let bearer = format!("Bearer {}", server.new_key("nora", "owner"));
    let ask = |server: &Server, path: &str| {
        server.client.send("GET", &server.admin_url(path), &[("authorization", &bearer)], "").body
    };
    let metric = |server: &Server| {
        let metrics = ask(server, "/metrics");
        let of_cause = |line: &&str| {
            line.starts_with("floodgate_sale_waits_for_operator{") && line.contains("cause=\"clock\"")
        };
        metrics.lines().find(of_cause).unwrap().rsplit_once(' ').unwrap().1.to_owned()
    };
    // The message service may still be starting.
    poll("nothing to say", || (ask(&server, "/readyz") == "ready\n").then_some(()));
    assert_eq!(metric(&server), "0");
    server.stop();
    // A machine whose clock is ten minutes ahead has written to the log meanwhile.
    let options = Options::new(Partition(0), LogId([0; 16]));
    let log = EmbeddedLog::open_dir(&server.data.join("sales/launch/p0"), options).unwrap();
    let mut worker = Worker::open(log).unwrap().0;
    let operation = Operation::Rate { per_second: 1000 };
    let command = Command::Operate { actor: Actor::new("other", "another machine"), operation };
    assert_eq!(worker.step(now().plus(DurationMs(600_000)), &[command]).len(), 1);
    drop(worker);
    server.restart();
    let ready = ask(&server, "/readyz");
    assert!(ready.starts_with("ready\nsale launch is paused: ") && ready.contains("clock"), "{ready}");
    assert_eq!(metric(&server), "1");
    assert!(ask(&server, "/").contains("data-pause=\"clock\""), "the operators' page");
    assert_eq!(server.stats("launch")["pause"]["cause"], "clock");
    assert_eq!(sale.buy(&pass, "k", "phone")["outcome"], "paused");
    // An operator says that the log's time is right.
    server.admin("POST", "/sales/launch/resume", &json!({ "reason": "the clock was behind" }));
    poll("nothing to say", || (ask(&server, "/readyz") == "ready\n").then_some(()));
    assert_eq!(metric(&server), "0");
    sale.granted(&pass, "k", "phone");
    server.audit();
}
