//! The shoppers' API: its table of operations, and the checks of its callers.

mod attempts;
mod events;
mod passes;
mod reservation;

use crate::{
    challenge::Made,
    front::{Front, Fronts, SaleDocument},
    keys::{KeySet, Keyring},
    limits::Limits,
    outcome::{OUTCOMES, Outcome},
    parts::Parts,
    pass::Pass,
    passes::Passes,
    problem::{
        BAD_REQUEST, BUSY, CHALLENGE_MISSING, CHALLENGE_REFUSED, CONFLICT, IDEMPOTENCY_KEY, INVALID,
        KEY_REUSED, LOOKS_AUTOMATED, NOT_FOUND, PASS_MISSING, PASS_REFUSED, Problem, QUEUE_FULL,
        RATE_LIMITED, TOKEN_MISSING, TOKEN_REFUSED, TOO_MANY_IN_LINE, UNAVAILABLE,
    },
};
use axum::{
    Extension,
    extract::{FromRef, FromRequestParts, Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header, request};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::{borrow::Cow, sync::Arc};
use web::{
    json::JsonReply,
    jwt::Shopper,
    operation::{Access, Credential, Operation, Sent, Text, delete, get, post, put},
    server::Peer,
};

/// An attempt: an operation that the loops serve, and whose answer is worth an open connection.
pub(crate) const ATTEMPT: &str = "attempt";
/// A sale's document: the other operation that the loops serve.
pub(crate) const READ_SALE: &str = "readSale";

/// The credential of a shopper's attempts.
static PASS: Credential = Credential {
    name: "pass",
    sent: Sent::Field("Floodgate-Pass"),
    missing: &PASS_MISSING,
    refused: &PASS_REFUSED,
};

/// The credential with which a shop names its shopper.
static TOKEN: Credential = Credential {
    name: "shopperToken",
    sent: Sent::Bearer("JWT"),
    missing: &TOKEN_MISSING,
    refused: &TOKEN_REFUSED,
};

/// The Cache-Control field of the sale's document.
#[derive(JsonSchema)]
#[schemars(inline, extend("const" = "public, max-age=1"))]
#[expect(dead_code, reason = "it is only described")]
struct ForASecond(String);

/// The operations of the shop's listener.
pub(crate) fn operations() -> Vec<Operation<Parts>> {
    const SALE: &str = "/api/v1/sales/{sale}";
    const ATTEMPTS: &str = "/api/v1/sales/{sale}/attempts";
    const ATTEMPT_PATH: &str = "/api/v1/sales/{sale}/attempts/{attempt}";
    const EVENTS: &str = "/api/v1/sales/{sale}/attempts/{attempt}/events";
    const ROUND: &str = "/api/v1/sales/{sale}/rounds/{round_key}/attempts";
    const RESERVATION: &str = "/api/v1/sales/{sale}/reservation";
    const PASSES: &str = "/api/v1/sales/{sale}/passes";
    const CHALLENGE: &str = "/api/v1/sales/{sale}/challenge";
    let (by_pass, by_token) = (Access::Credential(&PASS), Access::Credential(&TOKEN));
    // The problems that any request of a shopper may meet.
    let asked = [&NOT_FOUND, &RATE_LIMITED, &UNAVAILABLE];
    vec![
        get(SALE, READ_SALE, Access::Open, sale)
            .hot()
            .does(
                "The public document of a sale. It is the same for every caller, and may be cached for a \
                  second.",
            )
            .replies::<SaleDocument<'static>>("The sale.")
            .with_field::<ForASecond>("Cache-Control", "It may be cached for a second.")
            .problems(&[&NOT_FOUND]),
        post(ROUND, ATTEMPT, by_pass, attempts::create)
            .hot()
            .does(
                "Attempts to buy a basket. Every outcome is 200. A repetition with the same key returns \
                  the same grant or place.",
            )
            .query::<attempts::ReturnTo>()
            .field::<attempts::IdempotencyKey>(
                "Idempotency-Key",
                "New for each purchase, the same for each retry.",
            )
            .takes::<attempts::AttemptRequest>()
            .replies::<Decided>("Decided.")
            .may_accept::<Queued>("In line: it will be decided. Read the attempt after Retry-After.")
            .problems(&asked)
            .problems(&[&IDEMPOTENCY_KEY, &KEY_REUSED, &BUSY, &TOO_MANY_IN_LINE, &QUEUE_FULL]),
        get(ATTEMPTS, "listAttempts", by_pass, attempts::list)
            .does("The shopper's attempts that the sale keeps, newest first, at most 100.")
            .replies::<attempts::AttemptList>("The attempts.")
            .problems(&asked)
            .problems(&[&QUEUE_FULL]),
        get(ATTEMPT_PATH, "readAttempt", by_pass, attempts::read)
            .does(
                "The outcome of an attempt. It is \"none\" for an attempt that was never stored, and for \
                  another shopper's.",
            )
            .query::<attempts::ReturnTo>()
            .replies::<Outcome>("The outcome.")
            .problems(&asked)
            .problems(&[&KEY_REUSED, &QUEUE_FULL]),
        get(EVENTS, "watchAttempt", by_pass, events::stream)
            .does(
                "The outcome now and whenever it changes, as server-sent events named \"attempt\", until \
                  nothing more can happen by itself.",
            )
            .replies_as::<Text>("text/event-stream", "Events; data is an Outcome.")
            .problems(&asked)
            .problems(&[&QUEUE_FULL]),
        get(RESERVATION, "readReservation", by_pass, reservation::read)
            .does("Whether the shopper has a reservation.")
            .replies::<reservation::Reservation>("Whether there is one.")
            .problems(&asked)
            .problems(&[&QUEUE_FULL]),
        put(RESERVATION, "makeReservation", by_pass, reservation::make)
            .does("Makes a reservation.")
            .replies::<reservation::Reservation>("Whether there is one now.")
            .problems(&asked)
            .problems(&[&CONFLICT, &INVALID, &QUEUE_FULL]),
        delete(RESERVATION, "cancelReservation", by_pass, reservation::cancel)
            .does("Cancels the reservation.")
            .replies::<reservation::Reservation>("Whether there is one now.")
            .problems(&asked)
            .problems(&[&CONFLICT, &INVALID, &QUEUE_FULL]),
        get(CHALLENGE, "readChallenge", by_token, passes::challenge)
            .does(
                "What the shopper must solve before a pass. The challenge is valid once, for this \
                  shopper and this sale. 404 if none is required.",
            )
            .query::<passes::ChallengeQuery>()
            .replies::<Made>("The challenge.")
            .problems(&asked)
            .problems(&[&QUEUE_FULL]),
        post(PASSES, "issuePass", by_token, passes::create)
            .does(
                "Exchanges the shop's token for a pass, with a solution in the body if a challenge is \
                  required. A solution is valid once.",
            )
            .may_take::<passes::PassRequest>()
            .replies::<passes::Pass>("The pass.")
            .problems(&asked)
            .problems(&[&LOOKS_AUTOMATED, &CHALLENGE_MISSING, &CHALLENGE_REFUSED]),
        get("/api/v1/keys", "readKeys", Access::Open, keys)
            .does(
                "The public keys: first that of winners, then that of tickets, then that of signed \
                  outcomes. Tickets and outcomes name their key in `kid`.",
            )
            .replies_as::<KeySet>("application/jwk-set+json", "A JWK Set."),
        web::health::alive(),
    ]
}

/// The outcome of an attempt that was decided.
struct Decided;

impl JsonSchema for Decided {
    fn schema_name() -> Cow<'static, str> {
        "Decided".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let decided = &OUTCOMES[..8];
        json_schema!({
            "allOf": [generator.subschema_for::<Outcome>(), { "properties": { "outcome": { "enum": decided } } }],
        })
    }
}

/// The outcome of an attempt that is in line.
struct Queued;

impl JsonSchema for Queued {
    fn schema_name() -> Cow<'static, str> {
        "QueuedOutcome".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "allOf": [
                generator.subschema_for::<Outcome>(),
                { "properties": { "outcome": { "const": "queued" } }, "required": ["position", "retry_after_ms"] },
            ],
        })
    }
}

async fn sale(AtSale(front): AtSale, State(fronts): State<Arc<Fronts>>) -> Response {
    let mut response = fronts.rendered(&front).body.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=1"));
    response
}

async fn keys(State(keys): State<Arc<Keyring>>) -> Response {
    let mut response = JsonReply(keys.jwks()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

#[derive(Deserialize)]
struct OfSale {
    sale: String,
}

/// The name of the sale in the path.
async fn sale_name(parts: &mut request::Parts, state: &Parts) -> Result<String, Problem> {
    let named = Path::<OfSale>::from_request_parts(parts, state).await;
    let unread = |_| Problem::new(&BAD_REQUEST, "the path or query cannot be read");
    named.map(|Path(OfSale { sale })| sale).map_err(unread)
}

async fn peer_of(parts: &mut request::Parts, state: &Parts) -> Result<Peer, Problem> {
    let peer = Extension::<Peer>::from_request_parts(parts, state).await;
    peer.map(|Extension(peer)| peer).map_err(|_| Problem::internal())
}

/// The sale that the path names; 404 if there is none.
pub(crate) struct AtSale(pub(crate) Arc<Front>);

impl FromRequestParts<Parts> for AtSale {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &Parts) -> Result<Self, Problem> {
        let sale = sale_name(parts, state).await?;
        Arc::<Fronts>::from_ref(state).get(&sale).map(Self)
    }
}

/// A shopper with a valid pass for the sale that the path names, from an address within its limits.
pub(crate) struct PassHolder {
    pub(crate) front: Arc<Front>,
    pub(crate) pass: Pass,
    pub(crate) peer: Peer,
}

impl FromRequestParts<Parts> for PassHolder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &Parts) -> Result<Self, Problem> {
        let sale = sale_name(parts, state).await?;
        let front = Arc::<Fronts>::from_ref(state).get(&sale)?;
        let peer = peer_of(parts, state).await?;
        Arc::<Limits>::from_ref(state).address(peer)?;
        let pass = Arc::<Passes>::from_ref(state).of(&parts.headers, &sale)?;
        Ok(Self { front, pass, peer })
    }
}

/// A shopper with a token of the shop, for the sale that the path names, from an address within its
/// limits.
pub(crate) struct TokenHolder {
    pub(crate) front: Arc<Front>,
    pub(crate) peer: Peer,
    pub(crate) shopper: Shopper,
}

impl FromRequestParts<Parts> for TokenHolder {
    type Rejection = Problem;

    /// The token is checked before anything is noted of the address: a caller without one must not
    /// spoil the record of others who share the address.
    async fn from_request_parts(parts: &mut request::Parts, state: &Parts) -> Result<Self, Problem> {
        let AtSale(front) = AtSale::from_request_parts(parts, state).await?;
        let peer = peer_of(parts, state).await?;
        Arc::<Limits>::from_ref(state).address(peer)?;
        let shopper = Arc::<Passes>::from_ref(state).shopper(&parts.headers)?;
        Ok(Self { front, peer, shopper })
    }
}
