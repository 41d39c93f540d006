//! What others have written judges the message service: libraries that verify signatures, plain PHP
//! that does, and the SDK of CloudEvents. Their programs are in the directory `clients`.

use crate::harness::{poll, python_program};
use crate::messages::{Got, ask, event, post, signature, subscribe, with_topic};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interfaces/clients");
const JSON: &str = "application/cloudevents+json";

/// A program that is told lines and prints lines. It ends with the test.
struct Program {
    child: Child,
    lines: Box<dyn BufRead>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|e| {
            panic!("start {}: {e}: `cargo xtask test` installs it", command.get_program().display())
        });
        let lines = Box::new(BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines }
    }

    fn python(source: &str, args: &[&str]) -> Self {
        let mut command = Command::new(python_program("python"));
        Self::start(command.arg(Path::new(PROGRAMS).join(source)).args(args))
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// The next line that it prints; nothing once it has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_libraries_of_standard_webhooks_and_svix_verify_what_is_delivered_and_refuse_what_is_not() {
    let (server, key) = with_topic();
    let mut receiver = Program::python("webhook_receiver.py", &[]);
    let url = receiver.line();
    let secret = subscribe(&server, &key, "orders", &url, json!({ "attempts": 1 }));
    receiver.tell(&secret);
    let other = event(2, 1).to_string().replace("order.paid", "größer, 更大");
    for event in [event(1, 1).to_string(), other] {
        assert_eq!(post(&server, &key, JSON, &event).status, 202);
        for library in ["standardwebhooks", "svix"] {
            let no = "No matching signature found";
            let expected = [library, "verified", no, no, no, "Message timestamp too old"].join(" | ");
            assert_eq!(receiver.line(), expected, "as it came; body, id, secret, time are others");
        }
    }
}

#[test]
fn plain_php_verifies_what_is_delivered_and_refuses_what_is_not() {
    let (server, key) = with_topic();
    let [ledger, secret_file] = ["ledger", "secret"].map(|name| server.scratch().join(name));
    std::fs::write(&secret_file, format!("whsec_{}=", "A".repeat(43))).unwrap();
    let mut command = Command::new("php");
    command.args(["-S", "127.0.0.1:0"]).arg(Path::new(PROGRAMS).join("webhook_receiver.php"));
    command.env("LEDGER", &ledger).env("SECRET_FILE", &secret_file).stderr(Stdio::piped());
    let mut php = Program::start(&mut command);
    let mut said = BufReader::new(php.child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let url = line.split_once("(http").unwrap_or_else(|| panic!("{line}")).1.split(')').next().unwrap();
    let url = format!("http{url}/hook");
    // It goes on printing a line for each request.
    std::thread::spawn(move || said.lines().map_while(Result::ok).count());

    let secret = subscribe(&server, &key, "orders", &url, json!({ "attempts": 1 }));
    post(&server, &key, JSON, &event(1, 1).to_string());
    let letters = poll("a dead letter, for it has another secret", || {
        let letters = ask(&server, &key, "GET", "/api/v1/subscriptions/crm/dead-letters", &json!(null));
        letters.json()["letters"].as_array().filter(|letters| letters.len() == 1).cloned()
    });
    assert_eq!((&letters[0]["status"], &letters[0]["said"]), (&json!(401), &json!("no signature fits")));
    std::fs::write(&secret_file, &secret).unwrap();
    ask(&server, &key, "POST", "/api/v1/subscriptions/crm/redrive", &json!({}));
    let line = poll("a line of its ledger", || {
        std::fs::read_to_string(&ledger).ok().filter(|text| text.ends_with('\n'))
    });
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let of = |name: &str| line[name].as_str().unwrap().to_owned();
    let got = Got { id: of("id"), timestamp: of("timestamp"), signature: of("signature"), body: of("body") };
    assert_eq!(got.event()["data"]["n"], 1, "{got:?}");

    let mut old = Got { timestamp: "1700000000".into(), ..got.clone() };
    old.signature = signature(&secret, &old);
    for (sent, status) in [
        (got.clone(), 204),
        (Got { body: got.body.replace("order-1", "order-2"), ..got.clone() }, 401),
        (Got { id: format!("{}0", got.id), ..got.clone() }, 401),
        (old, 400),
    ] {
        let headers = [
            ("webhook-id", &*sent.id),
            ("webhook-timestamp", &*sent.timestamp),
            ("webhook-signature", &*sent.signature),
        ];
        let answer = server.client.send("POST", &url, &headers, &sent.body);
        assert_eq!(answer.status, status, "{sent:?}: {answer:?}");
    }
}

#[test]
fn events_of_the_cloud_events_sdk_arrive_as_it_made_them_in_every_mode() {
    let (server, key) = with_topic();
    let events = server.events_url("/api/v1/topics/orders/events");
    let mut sdk = Program::python("cloud_events.py", &[&events, &key]);
    let url = sdk.line();
    subscribe(&server, &key, "orders", &url, json!({ "attempts": 1 }));
    sdk.tell("go");
    let names = ["json", "untyped", "text", "xml", "bytes", "empty", "attributes"];
    let modes = ["structured", "binary", "batch"];
    let all = modes.iter().flat_map(|mode| names.iter().map(move |name| format!("{mode}-{name}")));
    for id in all.chain(["structured-older".into(), "binary-older".into()]) {
        assert_eq!(sdk.line(), format!("{id} 202 equal"));
    }
    assert_eq!(sdk.line(), "");
}
