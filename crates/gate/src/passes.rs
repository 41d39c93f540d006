//! How the gate issues and checks passes: the shop's token, a challenge if one is required, and the
//! pass that an attempt carries.

use crate::{
    browser,
    challenge::{Asker, Challenges, Made, Refused, Solution, Solved, UseError, Wish},
    keys::Keyring,
    limits::Limits,
    metrics::Metrics,
    pass::{self, Pass},
    problem::{self, Kind, Problem},
    strategy::Strategy,
};
use contracts::SaleId;
use http::HeaderMap;
use std::{fmt, io, sync::Arc};
use units::{DurationMs, TimeMs};
use web::{
    body::bearer,
    jwt::{JwtError, JwtVerifier, Shopper},
    protection::Protection,
    server::Peer,
};

/// The header that carries the pass.
pub(crate) const PASS_HEADER: &str = "floodgate-pass";

/// Issues and checks passes.
pub(crate) struct Passes {
    pub(crate) keys: Arc<Keyring>,
    pub(crate) jwt: JwtVerifier,
    pub(crate) challenges: Challenges,
    pub(crate) ttl_seconds: u64,
    pub(crate) limits: Arc<Limits>,
    pub(crate) strategy: Arc<Strategy>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) protection: Arc<Protection>,
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passes").finish_non_exhaustive()
    }
}

/// The field of a request; a problem if there are two, for then it is not said which one is meant.
pub(crate) fn field_once<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
    kind: &'static Kind,
) -> Result<Option<&'a [u8]>, Problem> {
    let mut fields = headers.get_all(name).iter();
    let field = fields.next().map(http::HeaderValue::as_bytes);
    match fields.next() {
        None => Ok(field),
        Some(_) => Err(Problem::new(kind, format!("{name}: this request has it twice; send it once"))),
    }
}

impl Passes {
    /// The pass that a request for a sale carries.
    pub(crate) fn of(&self, headers: &HeaderMap, sale: &str) -> Result<Pass, Problem> {
        let field = field_once(headers, PASS_HEADER, &problem::PASS_REFUSED)?;
        self.verify(field, sale, self.protection.now())
    }

    /// The pass in a header field, if it is valid.
    pub(crate) fn verify(&self, field: Option<&[u8]>, sale: &str, now: TimeMs) -> Result<Pass, Problem> {
        let text = field.ok_or_else(|| {
            let why = "no Floodgate-Pass: POST /api/v1/sales/{sale}/passes gives one";
            Problem::new(&problem::PASS_MISSING, why)
        })?;
        pass::verify(&self.keys, text, sale, now)
            .map_err(|error| Problem::new(&problem::PASS_REFUSED, error.advice()))
    }

    /// The shopper whom the shop's token in the header names.
    pub(crate) fn shopper(&self, headers: &HeaderMap) -> Result<Shopper, Problem> {
        let token = bearer(headers).ok_or_else(|| {
            let why = "no shopper token: send Authorization: Bearer <JWT> from the shop's log-in";
            Problem::new(&problem::TOKEN_MISSING, why)
        })?;
        self.shopper_of(token)
    }

    /// The shopper whom a token of the shop names.
    pub(crate) fn shopper_of(&self, token: &str) -> Result<Shopper, Problem> {
        self.jwt.verify(token, self.protection.now()).map_err(|error| match error {
            // The set is fetched again every ten seconds. Until then the shopper has done nothing
            // wrong.
            JwtError::NoKeysYet => Problem::unavailable(&error.to_string()).retry_after(10),
            JwtError::KeysOutdated { retry_after_seconds } => {
                Problem::unavailable(&error.to_string()).retry_after(retry_after_seconds)
            }
            _ => Problem::new(&problem::TOKEN_REFUSED, error.to_string()),
        })
    }

    fn asker(&self, sale: &SaleId, shopper: &Shopper) -> Asker {
        let (sale, now) = (sale.as_str().to_owned(), self.protection.now());
        Asker { sale, shopper: self.keys.shopper_key(&shopper.id), now }
    }

    /// A challenge for a shopper of a sale, or 404 if none is required.
    pub(crate) async fn challenge(
        &self,
        sale: &SaleId,
        shopper: &Shopper,
        peer: Peer,
        sound: bool,
    ) -> Result<Made, Problem> {
        let asker = self.asker(sale, shopper);
        let risk = self.limits.filter.challenge_level(peer.0, asker.now) + self.strategy.harder_levels();
        let made = self.challenges.make(asker, Wish { risk, sound }).await;
        let made = made.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                let why = "too many codes are asked for: wait as Retry-After says";
                return Problem::new(&problem::QUEUE_FULL, why).retry_after(2);
            }
            tracing::error!(%error, "make a challenge: failed");
            Problem::unavailable("no challenge can be made")
        })?;
        let challenge = made.ok_or_else(|| {
            let why = "no challenge is asked for: POST …/passes gives a pass without one";
            Problem::new(&problem::NOT_FOUND, why)
        })?;
        self.metrics.challenge_issued();
        Ok(challenge)
    }

    /// Notes that a pass is asked for, and refuses one to an address that takes them like a
    /// machine.
    pub(crate) fn let_ask(&self, peer: Peer, headers: &HeaderMap) -> Result<(), Problem> {
        let now = self.protection.now();
        match self.limits.filter.asked_for_pass(peer.0, browser::is_bare(headers), now) {
            None => Ok(()),
            Some(wait) => {
                let why = "this address takes passes like a machine, and gets none for a while: wait as Retry-After says, or use another network";
                Err(Problem::new(&problem::LOOKS_AUTOMATED, why).retry_after(wait))
            }
        }
    }

    /// Whether a solution is required before a pass now.
    pub(crate) fn asks_for_solution(&self) -> bool {
        self.challenges.is_asked(|| self.strategy.needs_challenge())
    }

    /// Checks a shopper's solution, if one is required.
    pub(crate) async fn redeem(
        &self,
        sale: &SaleId,
        shopper: &Shopper,
        peer: Peer,
        solution: Option<&Solution>,
    ) -> Result<(), Problem> {
        if !self.asks_for_solution() {
            return Ok(());
        }
        let asker = self.asker(sale, shopper);
        let solved = self.challenges.redeem(&asker, solution).await;
        let Solved { too_fast } = solved.map_err(|refused| self.refuse(&asker, refused))?;
        self.metrics.challenge_solved();
        self.limits.filter.solved(peer.0, too_fast, self.protection.now());
        Ok(())
    }

    fn refuse(&self, asker: &Asker, refused: Refused) -> Problem {
        let sale = &asker.sale;
        match refused {
            Refused::Missing => {
                let detail =
                    format!("no solution: solve GET /api/v1/sales/{sale}/challenge, and send it in the body");
                Problem::new(&problem::CHALLENGE_MISSING, detail)
            }
            Refused::Solution(reason) => {
                self.metrics.challenge_refused(reason);
                self.limits.filter.note_shopper(asker.shopper, crate::filter::CHALLENGE, asker.now);
                let detail = format!("solution: {reason}; get a new one at /api/v1/sales/{sale}/challenge");
                Problem::new(&problem::CHALLENGE_REFUSED, detail)
            }
            Refused::Unavailable(why) => {
                let seconds = if matches!(why, UseError::Disk(_)) { 5 } else { 1 };
                let detail = format!(
                    "{why}; no passes are given meanwhile; the solution stays good as long as it lasts"
                );
                Problem::new(&problem::UNAVAILABLE, detail).retry_after(seconds)
            }
        }
    }

    /// A pass for a shopper whose token and solution were checked. It is valid as long as passes
    /// are, and at the most for so many seconds.
    pub(crate) fn give(
        &self,
        sale: &SaleId,
        shopper: &Shopper,
        peer: Peer,
        seconds_max: u64,
    ) -> Result<(String, TimeMs), Problem> {
        let issued = self
            .issue_for(sale, shopper, self.ttl_seconds.min(seconds_max))
            .ok_or_else(|| Problem::new(&problem::TOKEN_REFUSED, "token: sub is no shopper id"))?;
        self.limits.filter.gave_pass(peer.0, self.keys.shopper_key(&shopper.id), self.protection.now());
        Ok(issued)
    }

    /// A pass that is valid from now on; `None` for an id that is not 1 to 64 bytes long.
    pub(crate) fn issue(&self, sale: &SaleId, shopper: &Shopper) -> Option<(String, TimeMs)> {
        self.issue_for(sale, shopper, self.ttl_seconds)
    }

    fn issue_for(&self, sale: &SaleId, shopper: &Shopper, seconds: u64) -> Option<(String, TimeMs)> {
        let (key, sealed) = self.keys.seal(&shopper.id)?;
        let expires_at = self.protection.now().plus(DurationMs::seconds(seconds));
        let pass = Pass { shopper: key, sealed, tier: shopper.tier, expires_at };
        Some((pass::issue(&self.keys, sale, &pass), expires_at))
    }
}
