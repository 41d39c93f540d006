//! altcha#57: nothing in the protocol keeps a solution from being sent again; preventing it is left
//! to the integrator. Here a solution is valid once: also for a thousand requests at the same time,
//! after a restart, and after a `kill -9` right after the pass.

use crate::harness::challenge::{PROOF_OF_WORK, altcha, solve};
use crate::harness::shop::{self, in_parallel};
use crate::harness::{Server, Setup};

#[test]
fn a_replayed_solution_is_refused() {
    let mut server = Server::with(Setup { settings: PROOF_OF_WORK.into(), ..Setup::default() });
    server.open_sale("launch", &shop::spec(&[("phone", 1)]));
    let solution = altcha(&solve(&server.asker("launch", "alice").challenge()));
    let uses = vec![server.asker("launch", "alice"); 1000];
    let replies = in_parallel(50, &uses, |alice| alice.redeem(&solution));
    drop(uses);
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((reply.status, &*reply.problem()), (403, "challenge-refused"), "{reply:?}");
    }
    let mut used = vec![solution];
    for life in 0..3 {
        let unused = altcha(&solve(&server.asker("launch", "alice").challenge()));
        let solution = altcha(&solve(&server.asker("launch", "alice").challenge()));
        assert_eq!(server.asker("launch", "alice").redeem(&solution).status, 200);
        used.push(solution);
        if life == 2 {
            server.stop();
        } else {
            server.kill();
        }
        server.restart();
        let alice = server.asker("launch", "alice");
        for solution in &used {
            alice.is_refused(solution, "challenge-refused", "used before");
        }
        assert_eq!(alice.redeem(&unused).status, 200, "an unused solution stays valid after a restart");
        used.push(unused);
    }
}
