//! An answer of the sale as JSON. The same shape for the first answer, for asking again and for events.

use crate::{keys::Keyring, pass::Pass, ticket};
use contracts::{Answer, Basket, HoldState, HoldView, Place, Refusal, SaleView};
use serde::Serialize;
use units::{AttemptId, Sequence, TimeMs};

/// What is said of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) attempt: AttemptId,
    pub(crate) outcome: &'static str,
    /// The log sequence at which a refusal was true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Hold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// `waiting`, `promoted` or `left`, for an attempt that was waitlisted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<AttemptId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

/// A hold in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hold {
    pub(crate) id: AttemptId,
    #[serde(serialize_with = "as_name")]
    pub(crate) state: HoldState,
    pub(crate) pay_by: TimeMs,
    /// Absent only if the key that sealed the shopper's name is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<String>,
}

fn as_name<S: serde::Serializer>(state: &HoldState, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.as_str())
}

/// What a ticket needs beside the hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShopperLines<'a> {
    pub(crate) keys: &'a Keyring,
    pub(crate) view: &'a SaleView,
    pub(crate) pass: &'a Pass,
    pub(crate) basket: Option<Basket>,
}

impl ShopperLines<'_> {
    fn hold(&self, id: AttemptId, hold: &HoldView, room: String) -> Hold {
        let shopper = self.keys.unseal(self.pass.shopper, &self.pass.sealed);
        let ticket = shopper.zip(self.basket).map(|(shopper, basket)| {
            ticket::sign(
                room,
                self.keys,
                self.view.sale.as_str(),
                &self.view.spec,
                id,
                &shopper,
                &basket,
                hold,
            )
        });
        Hold { id, state: hold.state, pay_by: hold.pay_by, ticket }
    }
}

impl Outcome {
    fn plain(attempt: AttemptId, outcome: &'static str) -> Self {
        Self {
            attempt,
            outcome,
            as_of: None,
            hold: None,
            position: None,
            place: None,
            held_by: None,
            retry_after_ms: None,
        }
    }

    /// On its way, with this many before it.
    pub(crate) fn queued(attempt: AttemptId, position: u64) -> Self {
        // A writer decides some 100,000 a second; asking more often than twice a second tells nobody more.
        let retry_after_ms = Some((position / 100).clamp(500, 5000));
        Self { position: Some(position), retry_after_ms, ..Self::plain(attempt, "queued") }
    }

    /// Whether it is on its way still.
    pub(crate) fn is_queued(&self) -> bool {
        self.outcome == "queued"
    }

    /// Whether nothing more will happen to it by itself. A voided purchase or a late payment may still come, and shows
    /// when asked for.
    pub(crate) fn is_final(&self) -> bool {
        match (self.outcome, &self.hold) {
            ("queued", _) => false,
            (_, Some(hold)) => hold.state != HoldState::Held,
            ("waitlisted", None) => self.place != Some("waiting"),
            _ => true,
        }
    }
}

/// The answer in the API's words; `None` for a reused key, which is a problem and no outcome.
pub(crate) fn outcome_of(id: AttemptId, answer: &Answer, with: &ShopperLines<'_>) -> Option<Outcome> {
    outcome_in(String::new(), id, answer, with)
}

/// The same, with a ticket in memory that need not be new.
pub(crate) fn outcome_in(
    room: String,
    id: AttemptId,
    answer: &Answer,
    with: &ShopperLines<'_>,
) -> Option<Outcome> {
    Some(match answer {
        Answer::Granted(hold) => {
            Outcome { hold: Some(with.hold(id, hold, room)), ..Outcome::plain(id, "granted") }
        }
        Answer::Waitlisted { position, place } => {
            let (name, hold) = match place {
                Place::Waiting => ("waiting", None),
                Place::Promoted(hold) => ("promoted", Some(with.hold(id, hold, room))),
                Place::Left => ("left", None),
            };
            let position = Some(u64::from(*position));
            Outcome { position, place: Some(name), hold, ..Outcome::plain(id, "waitlisted") }
        }
        Answer::Refused { refusal, as_of } => {
            let held_by = match refusal {
                Refusal::LimitReached { held_by } => *held_by,
                _ => None,
            };
            Outcome { as_of: Some(*as_of), held_by, ..Outcome::plain(id, refusal.as_str()) }
        }
        Answer::None { as_of } => Outcome { as_of: Some(*as_of), ..Outcome::plain(id, "none") },
        Answer::KeyReused => return None,
    })
}
