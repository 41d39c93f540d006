//! The problems that the flash sale's door adds to those of every server. Each kind is explained in
//! `docs/api-problems.md`, which a test holds to this list.

use crate::filter;
use contracts::Unavailable;
pub(crate) use web::problem::*;

/// The text that explains every kind, served at `/problems`.
pub(crate) const DOCUMENT: &str = include_str!("../../../docs/api-problems.md");

web::kinds! {
    /// The door's own kinds.
    OWN_KINDS:
    PASS_MISSING = Kind::new(401, "pass-missing", "A pass is needed").scheme("Floodgate-Pass").because(filter::PASS);
    PASS_REFUSED = Kind::new(401, "pass-refused", "The pass is not good").scheme("Floodgate-Pass").because(filter::PASS);
    TOKEN_MISSING = Kind::new(401, "token-missing", "A shopper token is needed").scheme("Bearer").because(filter::TOKEN);
    TOKEN_REFUSED = Kind::new(401, "token-refused", "The shopper token is not good").scheme("Bearer").because(filter::TOKEN);
    FORM_REFUSED = Kind::new(403, "form-refused", "The form is not from this page");
    // That one is missing is how an honest shopper begins.
    CHALLENGE_MISSING = Kind::new(403, "challenge-missing", "A challenge must be solved first");
    CHALLENGE_REFUSED = Kind::new(403, "challenge-refused", "The solution is not good").because(filter::CHALLENGE);
    IDEMPOTENCY_KEY = Kind::new(422, "idempotency-key", "The Idempotency-Key is missing or wrong");
    KEY_REUSED = Kind::new(422, "key-reused", "The Idempotency-Key was used for something else");
    LOOKS_AUTOMATED = Kind::new(429, "looks-automated", "The address takes passes like a machine").because(filter::RISK);
    BUSY = Kind::new(429, "busy", "More attempts than the sale admits");
    TOO_MANY_IN_LINE = Kind::new(429, "too-many-in-line", "The shopper has too many attempts in line");
    QUEUE_FULL = Kind::new(503, "queue-full", "The queue is full");
}

/// Every kind that the door may answer with, in the order of `docs/api-problems.md`.
pub(crate) fn all_kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(OWN_KINDS).copied()
}

/// Until an operator acts, which is no matter of seconds: a crowd that asks every second would only
/// be in the way. Why the sale stopped, with files and attempts in it, is for the log and the
/// operators.
fn stopped() -> Problem {
    let detail = "the sale has stopped, and an operator must act first; this is no decision: asking the same again \
                  later is safe";
    Problem::new(&UNAVAILABLE, detail).retry_after(30)
}

/// What a caller is told of a sale that cannot answer.
pub(crate) fn of_unavailable(unavailable: Unavailable) -> Problem {
    match unavailable {
        Unavailable::QueueFull => {
            let why = "the queue is full; this request did nothing: wait as Retry-After says";
            Problem::new(&QUEUE_FULL, why).retry_after(1)
        }
        Unavailable::LineFull { wait_ms } => {
            let why = "the queue is full, and so is the line behind it; this request decided nothing: wait as Retry-After says";
            Problem::new(&QUEUE_FULL, why).retry_after(seconds_in_line(wait_ms))
        }
        Unavailable::TooManyInLine { wait_ms } => {
            let why = "as many attempts of this shopper are in line as may be; this request decided nothing: wait for their answers";
            Problem::new(&TOO_MANY_IN_LINE, why).retry_after(seconds_in_line(wait_ms))
        }
        Unavailable::Passing(why) => Problem::unavailable(&why),
        Unavailable::Stopped(_) => stopped(),
    }
}

/// When to come back to a line that is so long: places in it become free all the time, so not much
/// later than a crowd may be asked to.
fn seconds_in_line(wait_ms: Option<u64>) -> u32 {
    // The length is unknown if nothing was decided lately.
    wait_ms.map_or(5, |wait_ms| wait_ms.div_ceil(1000).clamp(1, 30) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_kind_is_explained() {
        let headings: Vec<&str> = DOCUMENT.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        let kinds: BTreeMap<&str, &Kind> = all_kinds().map(|kind| (kind.slug, kind)).collect();
        assert_eq!(kinds.len(), all_kinds().count(), "each slug stands for one kind");
        let mut explained = headings.clone();
        explained.sort_unstable();
        assert_eq!(explained, kinds.keys().copied().collect::<Vec<_>>());
        for (slug, kind) in kinds {
            let status = format!("`{}`", kind.status);
            let section = DOCUMENT.split(&format!("## {slug}\n")).nth(1).unwrap();
            assert!(section.trim_start().starts_with(&status), "{slug}: {status}");
        }
    }
}
