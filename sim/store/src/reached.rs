//! What many seeds must have reached, or their passing proves little: both ends of each race, each
//! fault, and the end of the process before and after each kind of transaction's commit.

use std::collections::BTreeMap;

/// What must have happened.
const WANTED: [&str; 43] = [
    "a caller goes away",
    "a clock that is ahead",
    "a clock that is behind",
    "a database is full for a while",
    "a hold is voided",
    "a late payment finds a unit",
    "a movement is refused",
    "a part is given back by hand",
    "a payment buys nothing",
    "a payment is asked about again",
    "a payment is decided just after its hold's expiry",
    "a payment is decided just before its hold's expiry",
    "a payment of a cart comes just after its expiry",
    "a payment of a cart comes just before its expiry",
    "a payment of another currency",
    "a payment of another sum",
    "a refund comes back that was made",
    "a refund fails",
    "a refund is asked for again",
    "a refund is made later",
    "a return is withdrawn",
    "a return: approve",
    "a return: receive",
    "a return: reject",
    "a sale gives its claims back",
    "a transaction fails: it is not known whether this was stored: not stored",
    "a transaction fails: it is not known whether this was stored: stored",
    "a transaction fails: other transactions were in the way",
    "a transaction fails: the database cannot go on for now: no room",
    "a webhook is given up",
    "a webhook is never sent",
    "a webhook is sent twice",
    "all is given back by hand",
    "an event comes again after it was done",
    "an operator does: allocated",
    "an operator gives money back",
    "an order cannot be given up any more",
    "an order is given up",
    "an order is paid twice",
    "events are replayed",
    "one form twice at once",
    "the machine is suspended",
    "two forms of one cart",
];
/// Calls to the outside: the process must have ended before each, and after it.
pub(crate) const CALLS: [&str; 11] = [
    "books",
    "confirm",
    "post of orders",
    "post of payments",
    "post of stock",
    "refund",
    "release",
    "settle",
    "start of a payment",
    "the catalogue's names",
    "the catalogue's prices",
];
/// A kind of transaction that was committed so often must have been cut off before its commit, and
/// after it.
const COMMITS: u64 = 2_000;

/// What was never reached.
pub fn missed(reached: &BTreeMap<String, (u64, u64)>) -> Vec<String> {
    let mut missed: Vec<String> =
        WANTED.iter().filter(|what| !reached.contains_key(**what)).map(|what| (*what).to_owned()).collect();
    for (side, call) in CALLS.iter().flat_map(|call| [("before", call), ("after", call)]) {
        let what = format!("crash {side} {call}");
        if !reached.contains_key(&what) {
            missed.push(what);
        }
    }
    for (what, (_, times)) in reached {
        let Some(kind) = what.strip_prefix("commit of ") else { continue };
        let sides = ["before", "after"].map(|side| format!("crash {side} the commit of {kind}"));
        let lacking = sides.into_iter().filter(|side| *times >= COMMITS && !reached.contains_key(side));
        missed.extend(lacking);
    }
    missed
}
