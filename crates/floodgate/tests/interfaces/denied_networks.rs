//! Networks that operators denied stay denied after a crash, and are part of backups.

use crate::harness::{Server, run, stdout};
use serde_json::json;

const DENIED: &str = "/denied-networks";

#[test]
fn a_denied_network_stays_denied_after_kill_9_and_in_a_backup() {
    let mut server = Server::start();
    let order = json!({ "networks": ["198.51.100.0/24", "2001:db8::/32"], "reason": "bots" });
    assert_eq!(server.admin("PUT", DENIED, &order), json!({ "added": 2 }));
    let listed = server.admin("GET", DENIED, &json!({}));
    assert!(server.errors().contains("networks are denied"), "a line of the log: {}", server.errors());
    server.kill();
    server.restart();
    assert_eq!(server.admin("GET", DENIED, &json!({})), listed);
    server.admin("DELETE", &format!("{DENIED}?network=2001:db8::/32&reason=enough"), &json!({}));
    server.kill();
    server.restart();
    let left = server.admin("GET", DENIED, &json!({}));
    assert_eq!(left["networks"], json!([listed["networks"][0]]));
    let (backup, restored) = (server.scratch().join("backup"), server.scratch().join("restored"));
    server.output(&["backup", &backup.display().to_string()]);
    stdout(&run(&restored, None, &["restore", &backup.display().to_string()]));
    let copy = Server::with(crate::harness::Setup { data: Some(restored), ..Default::default() });
    assert_eq!(copy.admin("GET", DENIED, &json!({})), left);
}
