//! What many seeds must have reached, or their passing proves little: both ends of each race, each
//! fault, and the end of the process before and after each kind of transaction's commit.

use std::collections::BTreeMap;

/// What must have happened, under the names that the code gives it.
const WANTED: [&str; 59] = [
    "a caller goes away",
    "a clock that is ahead",
    "a clock that is behind",
    "a database is full for a while",
    "a hold is given back while its payment is on its way",
    "a hold is voided",
    "a hold is voided that was paid",
    "a hold that is paid is not released",
    "a late payment comes after another attempt",
    "a late payment finds a unit",
    "a late payment is over the limit",
    "a movement is refused",
    "a part is given back by hand",
    "a payment after the expiry",
    "a payment buys nothing",
    "a payment is asked about again",
    "a payment of a cart comes just after its expiry",
    "a payment of a cart comes just before its expiry",
    "a payment of a released hold finds its units",
    "a payment of another currency",
    "a payment of another sum",
    "a payment of more than the total",
    "a payment that bought is asked about after a void",
    "a place is promoted",
    "a refund by hand comes back",
    "a refund by hand comes back days later, unheard",
    "a refund comes back days later, unheard",
    "a refund comes back that was made",
    "a refund fails",
    "a refund is asked for again",
    "a refund is made later",
    "a return is asked for",
    "a return is withdrawn",
    "a sale gives its claims back",
    "a warehouse sends no orders",
    "a warehouse sends orders",
    "a webhook is given up",
    "a webhook is never sent",
    "a webhook is sent twice",
    "all is given back by hand",
    "an attempt has to wait for units",
    "an event comes again after it was done",
    "an operator gives money back",
    "an order cannot be given up any more",
    "an order is given up",
    "an order is paid twice",
    "an order is sent from two warehouses",
    "crash",
    "events are replayed",
    "one form twice at once",
    "that a refund has failed is never told",
    "the list is built anew",
    "the machine is suspended",
    "the money of one payment is taken twice",
    "two forms of one cart",
    "units are claimed for the sale",
    "units are lost on their way",
    "units arrive in another warehouse",
    "units leave for another warehouse",
];
/// The same of names that are put together. That an operator says of a return that its money went
/// back elsewhere is not among them: it needs a provider that has too little left, which is rare.
const WANTED_OF_KINDS: [&str; 14] = [
    "a payment is decided just after its hold's expiry",
    "a payment is decided just before its hold's expiry",
    "a return: approve",
    "a return: give up",
    "a return: receive",
    "a return: reject",
    "a transaction fails: it is not known whether this was stored: not stored",
    "a transaction fails: it is not known whether this was stored: stored",
    "a transaction fails: other transactions were in the way",
    "a transaction fails: the database cannot go on for now: no room",
    "an operator does: allocated",
    "an operator does: cancelled",
    "an operator does: delivered",
    "an operator does: shipped",
];
/// Calls to the outside: the process must have ended before each, and after it; and each must have
/// failed before it took effect, and after it.
pub(crate) const CALLS: [&str; 12] = [
    "books",
    "confirm",
    "list of refunds",
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
const COMMITS: u64 = 3_000;

/// What was never reached.
pub fn missed(reached: &BTreeMap<String, (u64, u64)>) -> Vec<String> {
    let of_calls = CALLS.iter().flat_map(|call| {
        let sides = ["crash before", "crash after", "fault before", "fault after"];
        sides.map(|side| format!("{side} {call}"))
    });
    let wanted = WANTED.iter().chain(&WANTED_OF_KINDS).map(|what| (*what).to_owned()).chain(of_calls);
    let mut missed: Vec<String> = wanted.filter(|what| !reached.contains_key(what)).collect();
    for (what, (_, times)) in reached {
        let Some(kind) = what.strip_prefix("commit of ") else { continue };
        let sides = ["before", "after"].map(|side| format!("crash {side} the commit of {kind}"));
        let lacking = sides.into_iter().filter(|side| *times >= COMMITS && !reached.contains_key(side));
        missed.extend(lacking);
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that notes what was reached.
    const SOURCES: [&str; 9] = [
        include_str!("bus.rs"),
        include_str!("catalog.rs"),
        include_str!("checker/stock.rs"),
        include_str!("operators.rs"),
        include_str!("process.rs"),
        include_str!("provider.rs"),
        include_str!("sale.rs"),
        include_str!("shoppers.rs"),
        include_str!("world.rs"),
    ];

    /// The texts within the brackets of each `reach(…)`.
    fn names(source: &str) -> Vec<&str> {
        let mut all = Vec::new();
        for rest in source.split(".reach(").skip(1) {
            let mut depth = 1;
            let end = rest.char_indices().find_map(|(at, letter)| {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                (depth == 0).then_some(at)
            });
            all.extend(rest[..end.unwrap_or_default()].split('"').skip(1).step_by(2));
        }
        all
    }

    #[test]
    fn whatever_the_code_names_is_wanted_and_nothing_else() {
        let named: Vec<&str> = SOURCES.into_iter().flat_map(names).collect();
        let put_together = named.iter().filter_map(|name| name.split_once('{')).map(|(begin, _)| begin);
        let put_together: Vec<&str> = put_together.collect();
        for name in named.iter().filter(|name| !name.contains('{')) {
            assert!(WANTED.contains(name) || ["before", "after"].contains(name), "{name:?} is not wanted");
        }
        for wanted in WANTED {
            assert!(named.contains(&wanted), "{wanted:?} is never noted");
        }
        for wanted in WANTED_OF_KINDS {
            assert!(put_together.iter().any(|begin| wanted.starts_with(begin)), "{wanted:?} is never noted");
        }
    }
}
