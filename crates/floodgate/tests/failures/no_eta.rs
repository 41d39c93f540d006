//! aws-solutions/virtual-waiting-room-on-aws#206: shoppers are not told how long it will take. Here
//! a shopper who is not answered at once is told how many attempts are decided before theirs, and
//! when to ask again; and the answer comes. The disk is slow: each sync takes a second.

use crate::harness::{Server, Setup, poll, shop};
use serde_json::Value;

#[test]
fn a_waiting_shopper_is_told_how_many_are_before_and_when_to_ask_again() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let slow = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"];
    let slow = slow.into_iter().chain(["-e", "inject=fdatasync:delay_enter=1000000"]);
    let setup = Setup {
        wrapper: slow.map(str::to_owned).collect(),
        gate: "decision_wait_ms = 50\n".to_owned(),
        data: Some(data.clone()),
        ..Setup::default()
    };
    let mut server = Server::with(setup);
    server.see_data_at(data);
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 9)]));
    let passes = server.passes("launch", "crowd", 3);
    let told: Vec<Value> = passes
        .iter()
        .map(|pass| {
            let reply = sale.attempt(pass, "k", &[("phone", 1)]);
            assert_eq!(reply.status, 202, "{reply:?}");
            let retry_after: u64 = reply.header("retry-after").parse().unwrap();
            let queued = reply.json();
            let retry_after_ms = queued["retry_after_ms"].as_u64().unwrap();
            assert!(retry_after_ms >= 500 && retry_after == retry_after_ms.div_ceil(1000), "{queued}");
            queued
        })
        .collect();
    let positions: Vec<u64> = told.iter().map(|queued| queued["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 2], "{told:?}");
    for (queued, pass) in told.iter().zip(&passes) {
        let decided = poll("the decision", || {
            Some(sale.look(&queued["attempt"], pass)).filter(|seen| seen["outcome"] != "queued")
        });
        assert_eq!((&decided["outcome"], &decided["attempt"]), (&"granted".into(), &queued["attempt"]));
        assert_eq!(sale.buy(pass, "k", "phone"), decided, "a retry gets the same answer");
    }
}
