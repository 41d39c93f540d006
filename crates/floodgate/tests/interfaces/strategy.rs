//! The strategy that operators ordered applies after a crash, with the operator's name.

use crate::harness::Server;
use serde_json::json;

#[test]
fn a_strategy_holds_after_kill_9() {
    let mut server = Server::start();
    let mut plan = server.admin("GET", "/strategy", &json!({}))["plan"].clone();
    (plan["stage"], plan["queue_percent"]) = (json!("guarded"), json!(70));
    server.admin("PUT", "/strategy?reason=launch+day", &plan);
    let told = server.admin("GET", "/strategy", &json!({}));
    assert_eq!((&told["plan"], &told["stage"]), (&plan, &json!("guarded")));
    server.kill();
    server.restart();
    crate::harness::poll("the stage that is pinned", || {
        let again = server.admin("GET", "/strategy", &json!({}));
        assert_eq!((&again["plan"], &again["ordered"]), (&told["plan"], &told["ordered"]));
        (again["stage"] == "guarded").then_some(())
    });
    let log = server.errors();
    assert!(log.contains("a strategy was ordered") && log.contains("launch day"), "{log}");
    assert!(log.contains("stage has changed"), "{log}");
}
