//! What many seeds must have reached, or their passing proves little: both ends of each race, each
//! fault, and the end of the process before and after each kind of transaction's commit.

use std::collections::BTreeMap;

/// What must have happened.
const WANTED: [&str; 0] = [];
/// A kind of transaction that was committed so often must have been cut off before its commit, and
/// after it.
const COMMITS: u64 = 2_000;

/// What was never reached.
pub fn missed(reached: &BTreeMap<String, (u64, u64)>) -> Vec<String> {
    let mut missed: Vec<String> =
        WANTED.iter().filter(|what| !reached.contains_key(**what)).map(|what| (*what).to_owned()).collect();
    for (what, (_, times)) in reached {
        let Some(kind) = what.strip_prefix("commit of ") else { continue };
        let sides = ["before", "after"].map(|side| format!("crash {side} the commit of {kind}"));
        let lacking = sides.into_iter().filter(|side| *times >= COMMITS && !reached.contains_key(side));
        missed.extend(lacking);
    }
    missed
}
