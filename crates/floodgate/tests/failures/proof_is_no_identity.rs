//! mCaptcha#186: a proof of work is a price, not an identity: one desktop makes some 250 of the
//! hardest a second. Here it gets passes for one shopper, and the shopper's limit is counted in the
//! sale; a proof works for no other shopper, and none can be made in advance for future shoppers.

use crate::harness::challenge::{PROOF_OF_WORK, altcha, solve};
use crate::harness::shop::{self, in_parallel};
use crate::harness::{Server, Setup};

#[test]
fn a_proof_of_work_gives_no_identity_and_raises_no_limit() {
    let server = Server::with(Setup { settings: PROOF_OF_WORK.into(), ..Setup::default() });
    let sale = server.open_sale("launch", &shop::spec(&[("phone", 100)]));
    let desktop = server.asker("launch", "desktop");
    let proofs: Vec<_> = (0..250).map(|_| altcha(&solve(&desktop.challenge()))).collect();
    let replies = in_parallel(8, &proofs, |proof| desktop.redeem(proof));
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let passes: Vec<String> = replies.iter().map(|r| shop::text(&r.json()["pass"]).to_owned()).collect();
    let keyed: Vec<_> = passes.iter().enumerate().map(|(n, pass)| (pass, format!("key-{n}"))).collect();
    let outcomes = in_parallel(8, &keyed, |(pass, key)| sale.buy(pass, key, "phone")["outcome"].clone());
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "granted").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "limit_reached").count(), 249);
    // Proofs in stock are of no use to another shopper.
    let hoarded = altcha(&solve(&desktop.challenge()));
    server.asker("launch", "another").is_refused(&hoarded, "challenge-refused", "another shopper");
}
