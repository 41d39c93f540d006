//! typo3-altcha#33 (GHSA-6gvq-jcmp-8959): the signature covers salt and number as one text, so
//! digits moved from the number to the expiry make a solved challenge last for years. Here each
//! field is bound after its length, and a salt has one spelling.

use crate::harness::challenge::{PROOF_OF_WORK, altcha, solve};
use crate::harness::shop::{self, text};
use crate::harness::{Server, Setup};

#[test]
fn spliced_fields_of_a_signed_challenge_are_refused() {
    let server = Server::with(Setup { settings: PROOF_OF_WORK.into(), ..Setup::default() });
    for sale in ["launch", "launch2"] {
        server.define(sale, &shop::spec(&[("phone", 1)]));
    }
    let alice = server.asker("launch", "alice");
    let good = solve(&alice.challenge());
    let (salt, number) = (text(&good["salt"]).to_owned(), good["number"].as_u64().unwrap());
    let digits = number.to_string();
    let expires = salt.split_once("expires=").unwrap().1.split('&').next().unwrap().to_owned();
    let spliced = [
        // The attack of the advisory: a digit of the number lengthens the last field of the salt.
        (format!("{}{}", salt, &digits[..1]), digits[1..].parse().unwrap_or(0)),
        (format!("{}{digits}&", salt.strip_suffix('&').unwrap()), 0),
        (salt.strip_suffix('&').unwrap().to_owned(), number),
        (salt.replace(&expires, &format!("{expires}0")), number),
        (format!("{salt}expires=99999999999&"), number),
        (salt.replace("expires=", "expires=99999999999&expires="), number),
        // A lower difficulty, and a higher one.
        (salt.replace("maxnumber=2000", "maxnumber=20"), number),
        (salt.replace("maxnumber=2000", "maxnumber=200000"), number),
        // The nonce of another challenge.
        (format!("{}{}", &text(&alice.challenge()["salt"])[..32], &salt[32..]), number),
    ];
    for (salt, number) in spliced {
        let mut changed = good.clone();
        (changed["salt"], changed["number"]) = (salt.into(), number.into());
        alice.is_refused(&altcha(&changed), "challenge-refused", "solution");
    }
    let good = altcha(&good);
    server.asker("launch2", "alice").is_refused(&good, "challenge-refused", "another sale");
    server.asker("launch", "bob").is_refused(&good, "challenge-refused", "another shopper");
    assert_eq!(alice.redeem(&good).status, 200, "none of this has used it up");
}
