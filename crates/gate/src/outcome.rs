//! An answer of the sale as JSON. The first answer, later queries and events have the same shape.

use contracts::{Answer, AttemptId, HoldState, HoldView, LinePlace, Place, Refusal, Told};
use schemars::JsonSchema;
use serde::Serialize;
use units::{Sequence, TimeMs};

/// The outcomes of an attempt, as in the API and in metrics.
pub(crate) const OUTCOMES: [&str; 10] = [
    "granted",
    "waitlisted",
    "sold_out",
    "limit_reached",
    "not_eligible",
    "not_open",
    "closed",
    "paused",
    "none",
    "queued",
];

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    pub(crate) attempt: AttemptId,
    #[schemars(extend("enum" = OUTCOMES))]
    pub(crate) outcome: &'static str,
    /// The log sequence at which the refusal was true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Hold>,
    /// On the waitlist: the place, counted from 1. In the queue: how many attempts are before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// The state of a place on the waitlist now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["waiting", "promoted", "left"]))]
    pub(crate) place: Option<&'static str>,
    /// The shopper's attempt that has a unit or a place already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<AttemptId>,
    /// Milliseconds until a queued attempt is decided, estimated from the sale's rate or from
    /// recent decisions; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
    /// The return_url of the request with `floodgate=` added: the ticket while the hold is held or
    /// confirmed, otherwise the signed outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) return_url: Option<String>,
}

/// A hold in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Hold {
    pub(crate) id: AttemptId,
    pub(crate) state: HoldState,
    pub(crate) pay_by: TimeMs,
    /// Compact JWS, EdDSA, checked with /api/v1/keys: {sale, hold, shopper, lines, pay_by,
    /// granted_as_of}. Present only where the attempt itself is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<String>,
    /// Needed for the ticket.
    #[serde(skip)]
    pub(crate) granted_as_of: Sequence,
}

impl Hold {
    fn new(id: AttemptId, hold: &HoldView) -> Self {
        Self { id, state: hold.state, pay_by: hold.pay_by, ticket: None, granted_as_of: hold.granted_as_of }
    }
}

impl Outcome {
    /// An outcome without further fields.
    pub(crate) fn plain(attempt: AttemptId, outcome: &'static str) -> Self {
        Self {
            attempt,
            outcome,
            as_of: None,
            hold: None,
            position: None,
            place: None,
            held_by: None,
            wait_ms: None,
            retry_after_ms: None,
            return_url: None,
        }
    }

    /// An attempt in the queue, with its place.
    pub(crate) fn queued(attempt: AttemptId, place: LinePlace) -> Self {
        let LinePlace { position, wait_ms } = place;
        // If the time is not known: a writer decides some 100,000 attempts a second. Asking more
        // than twice a second shows nothing new, and a shopper should see their place move every
        // five seconds.
        let retry_after_ms = Some(wait_ms.unwrap_or(position / 100).clamp(500, 5000));
        Self { position: Some(position), wait_ms, retry_after_ms, ..Self::plain(attempt, "queued") }
    }

    /// Appends the JSON that [`Serialize`] writes for an outcome without ticket and return URL.
    /// None of its values needs escaping, so none is checked.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"attempt\":\"");
        out.extend_from_slice(&self.attempt.hex());
        text(out, "\",\"outcome\":\"", self.outcome);
        out.push(b'"');
        number(out, ",\"as_of\":", self.as_of.map(|as_of| as_of.0));
        if let Some(hold) = &self.hold {
            out.extend_from_slice(b",\"hold\":{\"id\":\"");
            out.extend_from_slice(&hold.id.hex());
            text(out, "\",\"state\":\"", hold.state.as_str());
            out.extend_from_slice(b"\",\"pay_by\":\"");
            out.extend_from_slice(&hold.pay_by.text());
            out.extend_from_slice(b"\"}");
        }
        number(out, ",\"position\":", self.position);
        if let Some(place) = self.place {
            text(out, ",\"place\":\"", place);
            out.push(b'"');
        }
        if let Some(held_by) = self.held_by {
            out.extend_from_slice(b",\"held_by\":\"");
            out.extend_from_slice(&held_by.hex());
            out.push(b'"');
        }
        number(out, ",\"wait_ms\":", self.wait_ms);
        number(out, ",\"retry_after_ms\":", self.retry_after_ms);
        out.push(b'}');
    }

    /// Whether the attempt is still in the queue.
    pub(crate) fn is_queued(&self) -> bool {
        self.outcome == "queued"
    }

    /// Whether the outcome will not change by itself. A void or a late payment may still change it,
    /// which shows when it is queried.
    pub(crate) fn is_final(&self) -> bool {
        match (self.outcome, &self.hold) {
            ("queued", _) => false,
            (_, Some(hold)) => hold.state != HoldState::Held,
            ("waitlisted", None) => self.place != Some("waiting"),
            _ => true,
        }
    }
}

fn text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, before: &str, number: Option<u64>) {
    if let Some(number) = number {
        out.extend_from_slice(before.as_bytes());
        web::wire::number(out, number);
    }
}

/// The answer in the API's terms; `None` for a reused key, which is a problem and not an outcome.
pub(crate) fn outcome_of(id: AttemptId, answer: &Answer) -> Option<Outcome> {
    Some(match answer {
        Answer::Granted(hold) => Outcome { hold: Some(Hold::new(id, hold)), ..Outcome::plain(id, "granted") },
        Answer::Waitlisted { position, place } => {
            let (name, hold) = match place {
                Place::Waiting => ("waiting", None),
                Place::Promoted(hold) => ("promoted", Some(Hold::new(id, hold))),
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

/// The label of the outcome in metrics; empty for a reused key, which is not an outcome.
pub(crate) fn label(told: &Told) -> &'static str {
    match told {
        Told::Answer(Answer::Granted(_)) => "granted",
        Told::Answer(Answer::Waitlisted { .. }) => "waitlisted",
        Told::Answer(Answer::Refused { refusal, .. }) => refusal.as_str(),
        Told::Answer(_) => "",
        Told::InLine(_) => "queued",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_written_by_hand_equals_what_serde_writes() {
        let id = AttemptId([0xa5; 16]);
        let hold = |state| HoldView { state, pay_by: TimeMs(1_794_391_200_250), granted_as_of: Sequence(7) };
        let as_of = Sequence(u64::MAX);
        let answers = [
            Answer::Granted(hold(HoldState::Held)),
            Answer::Granted(hold(HoldState::Voided)),
            Answer::Waitlisted { position: 1, place: Place::Waiting },
            Answer::Waitlisted { position: u32::MAX, place: Place::Promoted(hold(HoldState::Confirmed)) },
            Answer::Waitlisted { position: 3, place: Place::Left },
            Answer::Refused { refusal: Refusal::SoldOut, as_of },
            Answer::Refused { refusal: Refusal::LimitReached { held_by: Some(id) }, as_of },
            Answer::Refused { refusal: Refusal::LimitReached { held_by: None }, as_of: Sequence(0) },
            Answer::None { as_of },
        ];
        let outcomes = answers.iter().map(|answer| outcome_of(id, answer));
        let queued = [(0, None), (123_456, None), (7, Some(0)), (8, Some(u64::MAX))]
            .map(|(position, wait_ms)| Outcome::queued(id, LinePlace { position, wait_ms }));
        for outcome in outcomes.flatten().chain(queued) {
            let mut written = Vec::new();
            outcome.write(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&outcome).unwrap());
        }
    }

    #[test]
    fn a_queued_shopper_is_told_to_ask_again_when_the_answer_is_due() {
        let retry = |position, wait_ms| {
            Outcome::queued(AttemptId([1; 16]), LinePlace { position, wait_ms }).retry_after_ms.unwrap()
        };
        assert_eq!(
            [Some(0), Some(501), Some(4000), Some(3_600_000)].map(|ms| retry(9, ms)),
            [500, 501, 4000, 5000]
        );
        assert_eq!([0, 100_000, u64::MAX].map(|position| retry(position, None)), [500, 1000, 5000]);
    }
}
