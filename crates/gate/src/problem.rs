//! The problems that the gate adds to those of every server. `docs/api-problems.md` is made from
//! them.

use crate::{filter, ports::Reply};
use contracts::{OperateError, Unavailable};
pub(crate) use web::problem::*;

web::kinds! {
    /// The gate's own kinds.
    OWN_KINDS:
    PASS_MISSING = Kind::new(
        401,
        "pass-missing",
        "A pass is needed",
        "Send the pass in the header `Floodgate-Pass`. Get one with `POST \
         /api/v1/sales/{sale}/passes`.",
    ).scheme("Floodgate-Pass").because(filter::PASS);
    PASS_REFUSED = Kind::new(
        401,
        "pass-refused",
        "The pass was refused",
        "The pass is malformed, changed, made for another sale or expired; `detail` says which. \
         Get a new one.",
    ).scheme("Floodgate-Pass").because(filter::PASS);
    TOKEN_MISSING = Kind::new(
        401,
        "token-missing",
        "A shopper token is needed",
        "Send the shopper's JWT as `Authorization: Bearer …`.",
    ).scheme("Bearer").because(filter::TOKEN);
    TOKEN_REFUSED = Kind::new(
        401,
        "token-refused",
        "The shopper token was refused",
        "The JWT's algorithm, key, signature, issuer, audience, expiry or a claim is wrong; \
         `detail` says which. Let the shopper log in again, or compare the shop's settings with \
         `[gate.jwt]`.",
    ).scheme("Bearer").because(filter::TOKEN);
    // An honest shopper starts without a pass.
    CHALLENGE_MISSING = Kind::new(
        403,
        "challenge-missing",
        "A challenge must be solved first",
        "A pass must be worked for. Get a challenge with `GET /api/v1/sales/{sale}/challenge`, \
         solve it, and send the solution in the body of `POST /api/v1/sales/{sale}/passes`.",
    );
    CHALLENGE_REFUSED = Kind::new(
        403,
        "challenge-refused",
        "The solution was refused",
        "The solution is wrong, expired, used before, of another kind, or not one to a challenge \
         that this shopper was given for this sale; `detail` says which. Get a new challenge with \
         `GET /api/v1/sales/{sale}/challenge`: a code that was guessed wrong is used up.",
    ).because(filter::CHALLENGE);
    DRAFT_CHANGED = Kind::new(
        412,
        "draft-changed",
        "The draft has changed",
        "Somebody saved, published or deleted the draft after it was read, or there is one already \
         where a new one was meant; `detail` says which. Nothing was done. Read it again with `GET \
         /api/v1/admin/sales/{sale}/draft`, and decide again, with its `ETag` as `If-Match`.",
    );
    IDEMPOTENCY_KEY = Kind::new(
        422,
        "idempotency-key",
        "The Idempotency-Key is missing or wrong",
        "Send `Idempotency-Key`: 1 to 64 visible ASCII characters, new for each purchase, the same \
         for each retry of it.",
    );
    KEY_REUSED = Kind::new(
        422,
        "key-reused",
        "The Idempotency-Key was used for something else",
        "This `Idempotency-Key` already stands for another basket. Use a new key for a new \
         purchase; nothing was decided.",
    );
    LOOKS_AUTOMATED = Kind::new(
        429,
        "looks-automated",
        "The address takes passes like a machine",
        "Passes were taken from this address faster than people do, or at the beat of a clock, so \
         it gets none for a while. Wait as long as `Retry-After` says, or use another network. A \
         server that takes passes for its shoppers belongs in `gate.limits.exempt_addresses`.",
    ).because(filter::RISK).retry_after(1);
    BUSY = Kind::new(
        429,
        "busy",
        "More attempts than the sale admits",
        "More attempts arrive than the shopper's tier is admitted a second. Nothing was decided. \
         Ask again, with the same `Idempotency-Key`, after `Retry-After`.",
    ).retry_after(1);
    TOO_MANY_IN_LINE = Kind::new(
        429,
        "too-many-in-line",
        "The shopper has too many attempts in line",
        "Sixteen attempts of this shopper are in line already, and this one was not put there. Ask \
         what came of those, or ask again, with the same `Idempotency-Key`, after `Retry-After`.",
    ).retry_after(5);
    QUEUE_FULL = Kind::new(
        503,
        "queue-full",
        "The queue is full",
        "More arrives than can be worked off and the line is full, too many event streams are \
         open, or too many codes are asked for. Nothing was decided or done. Ask again, with the \
         same `Idempotency-Key`, after `Retry-After`.",
    ).retry_after(1);
}

/// Every kind that the gate may answer with, in the order of their status.
pub(crate) fn all_kinds() -> Vec<&'static Kind> {
    let mut all: Vec<_> = KINDS.iter().chain(OWN_KINDS).copied().collect();
    all.sort_by_key(|kind| (kind.status, kind.slug));
    all
}

/// Waits for a reply of the sale.
pub(crate) async fn reply<T>(reply: Reply<T>) -> Result<T, Problem> {
    match reply.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(unavailable)) => Err(of_unavailable(unavailable)),
        Err(_) => Err(Problem::unavailable("the sale is stopping")),
    }
}

/// The problem for a command that the sale refused, by what the caller can do about it.
pub(crate) fn of_operation(error: OperateError) -> Problem {
    match error {
        OperateError::Conflict(why) => Problem::new(&CONFLICT, why),
        OperateError::NotFound(why) => Problem::new(&NOT_FOUND, why),
        OperateError::Invalid(why) => Problem::new(&INVALID, why),
    }
}

/// Only an operator can end this, which takes longer than seconds: a crowd that asks every second
/// would only be in the way. Why the sale stopped is for the log and the operators, because the
/// text names files and attempts.
fn stopped() -> Problem {
    let detail = "the sale has stopped, and an operator must act first; this is no decision: asking the same again \
                  later is safe";
    Problem::new(&UNAVAILABLE, detail).retry_after(30)
}

/// The problem for a caller of a sale that cannot answer.
pub(crate) fn of_unavailable(unavailable: Unavailable) -> Problem {
    match unavailable {
        Unavailable::QueueFull => {
            let why = "the queue is full; this request did nothing: wait as Retry-After says";
            Problem::new(&QUEUE_FULL, why).retry_after(1)
        }
        Unavailable::LineFull { wait_ms } => {
            let why = "the queue is full, and so is the line after it; this request decided nothing: wait as Retry-After says";
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

/// When to try again if the line is full. Places in it become free all the time, so the wait is
/// capped: it only has to spread a crowd over time.
fn seconds_in_line(wait_ms: Option<u64>) -> u32 {
    // The wait in line is unknown if nothing was decided a short time ago.
    wait_ms.map_or(5, |wait_ms| wait_ms.div_ceil(1000).clamp(1, 30) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slug_stands_for_one_kind_which_is_explained() {
        let kinds = all_kinds();
        let mut slugs: Vec<&str> = kinds.iter().map(|kind| kind.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), kinds.len());
        assert!(kinds.iter().all(|kind| kind.advice.ends_with('.') && kind.advice.len() > 30));
    }
}
