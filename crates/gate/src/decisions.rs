//! Asks a sale to decide an attempt, and for the state of an attempt.

use crate::{
    front::{Expected, Front},
    limits::Limits,
    metrics::Metrics,
    outcome::{self, Outcome, outcome_of},
    pass::Pass,
    ports::Reply,
    problem::{self, Problem, reply},
    strategy::Strategy,
};
use contracts::{
    Answer, Attempt, AttemptId, Basket, Found, GateRefusal, Refusal, ShopperKey, Told, Unavailable,
};
use std::{fmt, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use web::protection::Protection;

/// How long the sale may take to return the state of an attempt, which does not involve its writer.
const STANDING_WITHIN: Duration = Duration::from_secs(1);

/// Submits attempts to their sales, as the strategy allows.
pub(crate) struct Decisions {
    pub(crate) strategy: Arc<Strategy>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) protection: Arc<Protection>,
    /// How long a request waits for its decision.
    pub(crate) wait_ms: u64,
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decisions").field("wait_ms", &self.wait_ms).finish_non_exhaustive()
    }
}

impl Decisions {
    /// How long a request waits for its decision.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    /// Milliseconds until an attempt may go on to the sale, if its tier has only a part of the
    /// sale's rate; 429 if that is longer than a request may wait here. The rest of the rate is for
    /// other tiers.
    pub(crate) fn turn(&self, front: &Front, tier: u8) -> Result<u64, Problem> {
        let rate = front.sale.view().rate_per_second;
        let now_ms = self.protection.now().0;
        let Some(rate) = (rate > 0).then(|| self.strategy.tier_rate(tier, rate)).flatten() else {
            return Ok(0);
        };
        match front.tier_admissions[usize::from(tier)].turn(rate, now_ms, self.wait_ms) {
            Err(wait) if self.strategy.is_over_rate_share() => {
                let why = "the sale admits no more attempts now; this request decided nothing: wait as Retry-After says";
                Err(Problem::new(&problem::BUSY, why).retry_after(wait))
            }
            Ok(wait_ms) if wait_ms > 0 && self.strategy.is_over_rate_share() => Ok(wait_ms),
            _ => Ok(0),
        }
    }

    /// Submits an attempt to the sale, and waits a limited time for the answer.
    pub(crate) async fn ask(
        &self,
        front: &Front,
        pass: &Pass,
        id: AttemptId,
        basket: Basket,
    ) -> Result<Told, Problem> {
        let start = Instant::now();
        if let Some(said) = front.alone(&front.sale.view(), pass, &basket) {
            front.sale.gate_refused(&[said]);
            self.note_alone(pass, &said);
            return Ok(Told::Answer(said.answer()));
        }
        let mut expected = None;
        match self.turn(front, pass.tier) {
            Ok(0) => {}
            Ok(wait_ms) => {
                expected = Some(Expected::new(front, pass.shopper));
                sleep_until(start + Duration::from_millis(wait_ms)).await;
            }
            Err(busy) => return known(front, id, pass.shopper, basket, busy).await,
        }
        let attempt = Attempt { id, shopper: pass.shopper, sealed: pass.sealed, tier: pass.tier, basket };
        let mut one = vec![(0, attempt)];
        let over = self.strategy.over_queue_share(|| front.sale.queue(), &mut one);
        if !over.is_empty() {
            return known(front, id, pass.shopper, basket, queue_full()).await;
        }
        let until = start + self.wait();
        let patience_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64;
        let mut told = pin!(reply(front.sale.attempt(attempt, patience_ms)));
        // The sale has the attempt now, and knows that its shopper may have something.
        drop(expected);
        let told = match timeout_at(until, &mut told).await {
            Ok(told) => told?,
            Err(_) => match standing(front, id, pass.shopper).await? {
                Some(told) => told,
                // The attempt was decided at this moment, and the answer is on its way.
                None => match timeout(STANDING_WITHIN, told).await {
                    Ok(told) => told?,
                    Err(_) => return Err(Problem::unavailable("the sale does not answer")),
                },
            },
        };
        self.note_answer(front, pass, &told);
        Ok(told)
    }

    /// Counts an answer that the gate gave without asking the sale.
    pub(crate) fn note_alone(&self, pass: &Pass, said: &GateRefusal) {
        self.metrics.answered_alone(outcome::label(&Told::Answer(said.answer())));
        if let GateRefusal::NotEligible(said) = said {
            self.limits.note_ineligible(pass.shopper, said.by);
        }
    }

    /// The same for an answer of the sale, if it shows by which rule the shopper was refused.
    pub(crate) fn note_answer(&self, front: &Front, pass: &Pass, told: &Told) {
        self.metrics.answered(outcome::label(told));
        if let Told::Answer(Answer::Refused { refusal: Refusal::NotEligible, .. }) = told
            && let Some(by) = front.sale.view().ineligible_by(pass.shopper, pass.tier)
        {
            self.limits.note_ineligible(pass.shopper, by);
        }
    }
}

/// 422: the key was used for another basket.
pub(crate) fn key_reused() -> Problem {
    Problem::new(
        &problem::KEY_REUSED,
        "this Idempotency-Key stands for another basket: use a new key for a new purchase",
    )
}

/// 503: the part of the queue that the attempt may use is full.
pub(crate) fn queue_full() -> Problem {
    let why = "the queue is full; this request decided nothing: wait as Retry-After says";
    Problem::new(&problem::QUEUE_FULL, why).retry_after(1)
}

/// The earlier answer to the same attempt, if it was final, or its place if it is in the queue;
/// otherwise that there is no room now.
pub(crate) async fn known(
    front: &Front,
    id: AttemptId,
    shopper: ShopperKey,
    basket: Basket,
    full: Problem,
) -> Result<Told, Problem> {
    // The order matters: see `current`.
    let place = standing(front, id, shopper).await;
    let found = reply(front.sale.lookup(id, shopper)).await?;
    match (found.basket, place) {
        (Some(kept), _) if kept == basket => Ok(Told::Answer(found.answer)),
        (Some(_), _) => Err(key_reused()),
        // The queue may have an attempt with this key and another basket. The answer then says so.
        (None, Ok(Some(told @ Told::InLine(_)))) => Ok(told),
        (None, _) => Err(full),
    }
}

/// The state of an attempt, or how it was refused a short time ago, from the sale. The wait is
/// bounded by [`STANDING_WITHIN`]. The result never says that nothing was done, because the
/// question itself would do nothing.
async fn standing(front: &Front, id: AttemptId, shopper: ShopperKey) -> Result<Option<Told>, Problem> {
    standing_of(front.sale.position(id, shopper)).await
}

/// The same for a question that was already sent.
pub(crate) async fn standing_of(position: Reply<Option<Told>>) -> Result<Option<Told>, Problem> {
    let silent = || Problem::unavailable("the sale does not say where this attempt stands");
    match timeout(STANDING_WITHIN, position).await {
        Ok(Ok(Ok(told))) => Ok(told),
        // It found no room, and the sale is looking up whether it has an earlier promise.
        Ok(Ok(Err(full @ (Unavailable::LineFull { .. } | Unavailable::TooManyInLine { .. })))) => {
            Err(problem::of_unavailable(full))
        }
        Ok(Ok(Err(stopped @ Unavailable::Stopped(_)))) => Err(problem::of_unavailable(stopped)),
        _ => Err(silent()),
    }
}

/// What is known of an attempt now, and its basket, if the sale keeps it.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) outcome: Outcome,
    pub(crate) basket: Option<Basket>,
}

/// Looks an attempt up. Another shopper's attempt looks like one that was never made.
pub(crate) async fn current(front: &Front, pass: &Pass, attempt: AttemptId) -> Result<Current, Problem> {
    // The order matters: an attempt that has left the queue has been decided. An earlier promise
    // stands, even if the attempt was sent again and is in the queue again, or found no room.
    let place = standing(front, attempt, pass.shopper).await;
    let Found { mut answer, basket } = reply(front.sale.lookup(attempt, pass.shopper)).await?;
    if let Answer::None { .. } = &answer {
        match place {
            Ok(Some(Told::InLine(place))) => {
                return Ok(Current { outcome: Outcome::queued(attempt, place), basket });
            }
            Ok(Some(Told::Answer(refusal))) => answer = refusal,
            Ok(None) => {}
            // It found no room, so it is not in the queue.
            Err(full) if full.is(&problem::QUEUE_FULL) || full.is(&problem::TOO_MANY_IN_LINE) => {}
            // "Nothing" would be final, and that is not known.
            Err(silent) => return Err(silent),
        }
    }
    let outcome = outcome_of(attempt, &answer).ok_or_else(key_reused)?;
    Ok(Current { outcome, basket })
}
