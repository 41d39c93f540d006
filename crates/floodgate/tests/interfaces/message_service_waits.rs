//! What the message service needs at its start may be short for a moment, or missing: it is tried
//! again, the sales go on meanwhile, and operators see that it is down.

use crate::harness::{Server, Setup, poll};
use crate::messages::ask;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;

const UP: &str = "floodgate_message_service_up 1\n";
const DOWN: &str = "floodgate_message_service_up 0\n";

fn metrics(server: &Server) -> String {
    server.client.get(&server.admin_url("/metrics")).body
}

fn readiness(server: &Server) -> (u16, String) {
    let ready = server.client.get(&server.admin_url("/readyz"));
    (ready.status, ready.body)
}

#[test]
fn a_key_that_cannot_be_read_for_want_of_a_handle_is_read_a_little_later() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let mut first = Server::with(Setup { data: Some(data.clone()), ..Setup::default() });
    let key = first.new_key("owner", "owner");
    poll("the message service", || metrics(&first).contains(UP).then_some(()));
    assert_eq!(ask(&first, &key, "PUT", "/api/v1/topics/orders", &json!({})).status, 200);
    first.stop();
    // Without a file handle, until strace lets go.
    let secret = fs::canonicalize(data.join("keys/notify.key")).unwrap().display().to_string();
    let strace = ["strace", "-D", "-I", "1", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none"];
    let inject = ["-P", &secret, "-e", "inject=openat:error=EMFILE"];
    let wrapper = strace.iter().chain(&inject).map(|word| (*word).to_owned()).collect();
    let mut server = Server::with(Setup { wrapper, data: Some(data), ..Setup::default() });
    poll("that it is down", || metrics(&server).contains(DOWN).then_some(()));
    let (status, said) = readiness(&server);
    assert_eq!(status, 200, "the sales do not need it");
    assert!(said.contains("the message service does not run"), "{said}");
    let state = fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let tracer = state.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap().trim();
    let tracer = Pid::from_raw(tracer.parse().unwrap()).expect("strace traces the server");
    kill_process(tracer, Signal::TERM).unwrap();
    poll("the message service", || metrics(&server).contains(UP).then_some(()));
    assert_eq!(readiness(&server), (200, "ready\n".into()));
    let topics = ask(&server, &key, "GET", "/api/v1/topics", &json!(null));
    assert!(topics.body.contains("\"orders\""), "{topics:?}");
    assert!(server.errors().contains("the message service waits: "), "{}", server.errors());
    server.stop();
}

#[test]
fn a_file_that_is_missing_is_taken_once_it_is_there() {
    let scratch = tempfile::tempdir().unwrap();
    let roots = scratch.path().join("roots.pem");
    let notify = format!("roots_file = \"{}\"\n", roots.display());
    let mut server = Server::with(Setup { notify, ..Setup::default() });
    poll("a line that names it", || server.errors().contains("roots.pem").then_some(()));
    assert!(metrics(&server).contains(DOWN));
    let certificate = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    fs::write(&roots, certificate.cert.pem()).unwrap();
    poll("the message service", || metrics(&server).contains(UP).then_some(()));
    assert_eq!(server.client.get(&server.events_url("/readyz")).status, 200);
    server.stop();
}
