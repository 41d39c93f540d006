//! The problems that the message service adds to those of every server.

use crate::core::{Refused, Reply, cloud_events::EventError};
use contracts::{ScheduleId, SubscriptionId, TopicId};
pub(crate) use web::problem::*;

web::kinds! {
    /// The message service's own kinds.
    OWN_KINDS:
    NOT_AN_EVENT = Kind::new(
        422,
        "not-an-event",
        "It is no CloudEvent",
        "The body, or the fields `ce-…`, are no CloudEvent 1.0; `detail` names the attribute, and the event of a batch. \
         Nothing of the request was stored.",
    );
    EVENT_TOO_LARGE = Kind::new(
        413,
        "event-too-large",
        "The event is too large",
        "An event has 256 KiB in the JSON format at the most. Post a reference to what is larger. Nothing of the request \
         was stored.",
    );
    EVENT_REPEATED = Kind::new(
        409,
        "event-repeated",
        "Another event has this source and id",
        "An event with the same `source` and `id` was stored lately, and it is not the same event. Give each event an id \
         of its own. Nothing of the request was stored.",
    );
    KEY_LIMITED = Kind::new(
        429,
        "key-limited",
        "The API key is over its limit",
        "A tenant's key posts too much in a second, or has too much at once; `detail` names the limit, which operators \
         set in `[notify]`. Nothing of the request was done. Wait as long as `Retry-After` says.",
    ).retry_after(1);
}

/// Every kind that the message service may answer with, in the order of their status.
pub(crate) fn all_kinds() -> Vec<&'static Kind> {
    let mut all: Vec<_> = KINDS.iter().chain(OWN_KINDS).copied().collect();
    all.sort_by_key(|kind| (kind.status, kind.slug));
    all
}

/// What kept a document from being an event.
pub(crate) fn of_event(error: &EventError) -> Problem {
    Problem::new(if error.is_too_large { &EVENT_TOO_LARGE } else { &NOT_AN_EVENT }, error.to_string())
}

/// Also of a topic that is not the caller's.
pub(crate) fn no_topic(topic: &TopicId) -> Problem {
    Problem::new(&NOT_FOUND, format!("no topic {topic}: an owner makes it with PUT"))
}

/// Also of a subscription that is not the caller's.
pub(crate) fn no_subscription(name: &SubscriptionId) -> Problem {
    Problem::new(&NOT_FOUND, format!("no subscription {name}"))
}

/// Also of a schedule that is not the caller's.
pub(crate) fn no_schedule(name: &ScheduleId) -> Problem {
    Problem::new(&NOT_FOUND, format!("no schedule {name}"))
}

fn of_refused(refused: &Refused) -> Problem {
    match refused {
        Refused::NoTopic(topic) => no_topic(topic),
        Refused::NoSubscription(name) => no_subscription(name),
        Refused::NoSchedule(name) => no_schedule(name),
        Refused::OtherCommand => Problem::new(
            &CONFLICT,
            "Idempotency-Key: it stands for another command, and nothing was done: use a new key for a new command",
        ),
        Refused::TakesNoKey => Problem::new(&INVALID, "Idempotency-Key: this command takes none"),
        Refused::OtherTopic(topic) => Problem::new(
            &CONFLICT,
            format!("the subscription is to {topic}: make another one, for it cannot move"),
        ),
        Refused::TooMany { what, max } => Problem::new(&CONFLICT, format!("{max} {what} are the most")),
        Refused::Repeated { at, event } => Problem::new(
            &EVENT_REPEATED,
            match event.0 {
                0 => format!("event {at}: a delayed event has its source and id, and is another event"),
                number => format!("event {at}: number {number} has its source and id, and is another event"),
            },
        ),
        Refused::Full { kept } => Problem::new(
            &UNAVAILABLE,
            format!(
                "the topic is full: {kept} events are kept, because a subscription has not had the oldest: see \
                 GET /api/v1/subscriptions, and mend its endpoint or delete it, or let the topic drop the oldest (`when_full`)"
            ),
        )
        .retry_after(30),
        Refused::TooLate { at } => Problem::new(
            &NOT_AN_EVENT,
            format!("event {at}: deliverat: want 366 days from now at the most"),
        ),
        Refused::TooManyComparisons { fit } => Problem::new(
            &BODY_TOO_LARGE,
            format!("the topic's subscriptions have so many filters that {fit} events fit into one request: post fewer at once"),
        ),
        Refused::HasEndpoint(name) => Problem::new(
            &CONFLICT,
            format!("subscription {name} has an endpoint, to which its events are posted: make one without url to pull"),
        ),
        Refused::NotFailed(event) => Problem::new(
            &CONFLICT,
            format!(
                "event {} is no dead letter of this subscription, and is not waiting to be tried again",
                event.0
            ),
        ),
        Refused::FollowedBefore(up_to) => {
            Problem::new(&CONFLICT, format!("that log has been followed up to {up_to} already"))
        }
    }
}

/// The problem for a reply that is none of those that were expected.
pub(crate) fn of_reply(reply: &Reply) -> Problem {
    match reply {
        Reply::Refused(refused) => of_refused(refused),
        Reply::Busy => Problem::unavailable("nothing can be written at the moment"),
        Reply::Unavailable(runtime::Outage::Passing(_)) => {
            Problem::unavailable("the log cannot be read at the moment")
        }
        Reply::Unavailable(runtime::Outage::Stopped(_)) => {
            let why = "the message service has stopped, and an operator must act first; this is no decision: asking the same \
                       again later is safe";
            Problem::new(&UNAVAILABLE, why).retry_after(30)
        }
        _ => Problem::internal(),
    }
}
