//! The checks of an attempt before it reaches the sale: its round, its caller, its key, its basket.
//! The loops and the axum handler share them.

use crate::{
    basket::parse_basket,
    decisions::Decisions,
    filter,
    front::{Front, Fronts, Rendered},
    keys::Keyring,
    limits::Limits,
    pass::Pass,
    passes::Passes,
    problem::{self, Problem},
};
use contracts::{AttemptId, Basket, SaleSpec};
use std::{fmt, sync::Arc};
use units::TimeMs;
use web::{body::check_media_type, server::Peer};

/// The most bytes of an attempt's body.
pub(crate) const BODY_BYTES_MAX: usize = 4096;
const KEY_BYTES_MAX: usize = 64;

/// The parts that handle an attempt.
pub(crate) struct Attempts {
    pub(crate) fronts: Arc<Fronts>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) passes: Arc<Passes>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) keys: Arc<Keyring>,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").finish_non_exhaustive()
    }
}

/// An attempt as it arrived, before its body is read.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) sale: &'a str,
    pub(crate) peer: Peer,
    pub(crate) now: TimeMs,
    pub(crate) pass: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) idempotency_key: Option<&'a [u8]>,
}

/// A shopper who may send attempts.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    pub(crate) pass: Pass,
    pub(crate) key: &'a str,
}

impl Attempts {
    /// The sale's front, if a round that has opened has this key. The key is checked before
    /// anything else, so that a guess reveals nothing. A wrong key counts against the limit of the
    /// address like an attempt, so that guessing ends.
    pub(crate) fn round(
        &self,
        peer: Peer,
        sale: &str,
        round_key: &str,
        now: TimeMs,
    ) -> Result<(Arc<Front>, Arc<Rendered>), Problem> {
        let front = self.fronts.get(sale)?;
        let rendered = front.rendered(&self.keys, now);
        if rendered.knows_round_key(round_key) {
            return Ok((front, rendered));
        }
        self.limits.address_at(peer, now)?;
        Err(Problem::new(
            &problem::NOT_FOUND,
            "no round with this key: use the attempts_url that the sale publishes while a round is open",
        )
        .because(filter::ROUND_KEY))
    }

    /// Admits an attempt whose round is open, or refuses it. The cheapest checks come first.
    pub(crate) fn admit<'a>(&self, question: &Question<'a>) -> Result<Admitted<'a>, Problem> {
        self.limits.address_at(question.peer, question.now)?;
        let pass = self.passes.verify(question.pass, question.sale, question.now)?;
        check_media_type(question.content_type, "application/json")?;
        let key = idempotency_key(question.idempotency_key)?;
        self.limits.shopper(&pass, question.now)?;
        Ok(Admitted { pass, key })
    }
}

/// The basket that an attempt's body asks for, or 422.
pub(crate) fn basket(body: &[u8], spec: &SaleSpec) -> Result<Basket, Problem> {
    parse_basket(body, spec).map_err(|why| Problem::new(&problem::INVALID, why))
}

/// The id of an attempt in a path; 404 for a malformed id.
pub(crate) fn parse_attempt(text: &str) -> Result<AttemptId, Problem> {
    text.parse().map_err(|e: contracts::IdError| Problem::new(&problem::NOT_FOUND, e.to_string()))
}

fn idempotency_key(field: Option<&[u8]>) -> Result<&str, Problem> {
    let refused = |why: &str| {
        let want = format!(
            "Idempotency-Key: {why}, want 1 to {KEY_BYTES_MAX} visible ASCII characters, new for each purchase"
        );
        Problem::new(&problem::IDEMPOTENCY_KEY, want)
    };
    let key = field.ok_or_else(|| refused("missing"))?;
    let visible = key.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(key) {
        Ok(key) if visible && (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(key),
        _ => Err(refused("wrong")),
    }
}
