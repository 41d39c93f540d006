//! Reads what this installation has signed for a shop at a return URL: a ticket, or the signed
//! outcome of an attempt. A shop elsewhere does the same with the public keys.

use crate::keys::Keyring;
use contracts::{
    AttemptId, SaleId,
    store::{ReturnedOutcome, SaleReturn},
};
use serde::Deserialize;
use units::TimeMs;

/// More than the longest ticket has.
const BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
struct Ticket {
    sale: SaleId,
    hold: AttemptId,
    shopper: String,
}

#[derive(Deserialize)]
struct Outcome {
    aud: String,
    sale: SaleId,
    attempt: AttemptId,
    outcome: String,
    shopper: String,
    exp: u64,
}

/// What was signed for the shop of this origin; `None` of anything else. A ticket is good for every
/// shop and for good: what became of its hold, the sale knows. An outcome is good for one shop and
/// some minutes.
pub fn read_back(keys: &Keyring, signed: &str, origin: &str, now: TimeMs) -> Option<SaleReturn> {
    if signed.len() > BYTES_MAX {
        return None;
    }
    if let Some(claims) = keys.tickets().verify(signed) {
        let Ticket { sale, hold, shopper } = serde_json::from_slice(&claims).ok()?;
        return Some(SaleReturn { sale, attempt: hold, shopper, outcome: ReturnedOutcome::Won });
    }
    let claims = keys.outcomes().verify(signed)?;
    let Outcome { aud, sale, attempt, outcome, shopper, exp } = serde_json::from_slice(&claims).ok()?;
    let is_for_now = aud == origin && now.0 / 1000 < exp;
    let outcome = ReturnedOutcome::named(&outcome).filter(|_| is_for_now)?;
    Some(SaleReturn { sale, attempt, shopper, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::Hold,
        pass::Pass,
        return_url::ReturnUrl,
        ticket,
        way_back::{Said, sign},
    };
    use contracts::{Basket, HoldState};
    use units::Sequence;

    const ORIGIN: &str = "https://shop.example";

    fn outcome(keys: &Keyring, name: &str) -> String {
        let to = ReturnUrl::parse("https://shop.example/checkout", &["https://shop.example/checkout".into()]);
        let (attempt, as_of) = (AttemptId([1; 16]), Some(Sequence(9)));
        let said = Said { sale: "demo", attempt, outcome: name, as_of, shopper: Some("alice") };
        sign(keys, &to.unwrap(), said, TimeMs(5_000))
    }

    fn ticket(keys: &Keyring) -> String {
        let (shopper, sealed) = keys.seal("alice").unwrap();
        let pass = Pass { shopper, sealed, tier: 0, expires_at: TimeMs(9) };
        let (id, pay_by, granted_as_of) = (AttemptId([1; 16]), TimeMs(5), Sequence(9));
        let hold = Hold { id, state: HoldState::Held, pay_by, ticket: None, granted_as_of };
        ticket::sign(keys, &crate::testing::view(), &pass, &Basket::single(1, 2), &hold).unwrap()
    }

    #[test]
    fn what_was_signed_for_the_shop_is_read() {
        let keys = Keyring::from_master(&[7; 32]);
        let read = |text: &str, origin, now| read_back(&keys, text, origin, TimeMs(now));
        let said = |outcome| {
            let (sale, attempt) = ("demo".parse().unwrap(), AttemptId([1; 16]));
            Some(SaleReturn { sale, attempt, shopper: "alice".into(), outcome })
        };
        assert_eq!(read(&ticket(&keys), ORIGIN, u64::MAX), said(ReturnedOutcome::Won), "for good");
        let sold_out = outcome(&keys, "sold_out");
        assert_eq!(read(&sold_out, ORIGIN, 604_999), said(ReturnedOutcome::SoldOut));
        assert_eq!(read(&sold_out, ORIGIN, 605_000), None, "it is too old");
        assert_eq!(read(&sold_out, "https://other.example", 5_000), None, "it is for another shop");
        assert_eq!(read(&outcome(&keys, "queued"), ORIGIN, 5_000), None, "nothing is decided");
    }

    #[test]
    fn what_was_not_signed_here_is_not_read() {
        let (keys, other) = (Keyring::from_master(&[7; 32]), Keyring::from_master(&[8; 32]));
        let check = |text: &str| assert_eq!(read_back(&keys, text, ORIGIN, TimeMs(5_000)), None, "{text}");
        for signed in [ticket(&other), outcome(&other, "sold_out")] {
            check(&signed);
        }
        let (won, lost) = (ticket(&keys), outcome(&keys, "sold_out"));
        let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (won, lost) = (parts(&won), parts(&lost));
        for [header, claims, signature] in [
            [&won[0], &lost[1], &won[2]],
            [&won[0], &lost[1], &lost[2]],
            [&lost[0], &won[1], &won[2]],
            [&won[0], &won[1], &lost[2]],
        ] {
            check(&format!("{header}.{claims}.{signature}"));
        }
        for text in ["", ".", "..", "a.b.c", &format!("{}.{}.", won[0], won[1]), &"a".repeat(BYTES_MAX + 1)] {
            check(text);
        }
    }
}
