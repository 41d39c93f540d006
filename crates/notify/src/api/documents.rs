//! What is sent and answered, as JSON.

use crate::core::spec::{SubscriptionSpec, SubscriptionState, TopicSpec};
use contracts::{SubscriptionId, TopicId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use units::TimeMs;
use web::reason::Reason;

/// What was stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stored {
    pub(super) events: Vec<StoredEvent>,
}

/// An event that is stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StoredEvent {
    /// Its number within the topic; an event has none before it is due (`deliverat`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<u64>,
    /// It was stored before: the same event, posted again.
    pub(super) is_repeat: bool,
}

/// A topic.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TopicView {
    pub(super) topic: TopicId,
    #[serde(flatten)]
    pub(super) spec: TopicSpec,
    /// Events that are kept.
    pub(super) kept: u64,
    /// The number of the last event; 0 before the first.
    pub(super) last: u64,
    /// Events that are not due yet.
    pub(super) delayed: u64,
}

/// All topics.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Topics {
    pub(super) topics: Vec<TopicView>,
}

/// A subscription.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SubscriptionView {
    pub(super) subscription: SubscriptionId,
    #[serde(flatten)]
    pub(super) spec: SubscriptionSpec,
    pub(super) state: SubscriptionState,
    /// Events that it has had.
    pub(super) delivered: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
    pub(super) dead_letters: u64,
    /// Keys that wait for an operator, because the attempts of an event are used up.
    pub(super) blocked_keys: u64,
    /// It begins with earlier events, and its filters are still being asked for these. It gets
    /// none of them, and no later one, before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fill: Option<FillView>,
    /// Events that the topic let go before this subscription had them: because it was full, or
    /// before its filters were asked for them (`fill`).
    pub(super) dropped: u64,
    /// Events that it has not had, without dead letters; at the most, because events that were not
    /// looked at yet count before its filters are asked.
    pub(super) backlog: u64,
    pub(super) in_flight: u32,
    /// When the oldest event of the backlog was posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oldest: Option<TimeMs>,
    /// An event that it has not had is older than `lag_alert_seconds`.
    pub(super) is_lagging: bool,
    /// The average milliseconds of its latest attempts, since the server's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) took_ms: Option<u32>,
    /// Its endpoint fails, and is left alone until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_alone_until: Option<TimeMs>,
    /// Signs deliveries (Standard Webhooks). It is shown once, when the subscription is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

/// Events for which filters are still to be asked.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FillView {
    /// The number of the first one.
    pub(super) next: u64,
    /// The number of the first event that was posted after the subscription was made.
    pub(super) end: u64,
}

/// With which event a new subscription begins: give one of these. For one that exists they mean
/// nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartQuery {
    /// The number of the first event; 1 for all that are kept.
    #[serde(default)]
    pub(super) from: Option<u64>,
    /// The first event that was posted at this time or later.
    #[serde(default)]
    pub(super) from_time: Option<TimeMs>,
}

/// Subscriptions, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Subscriptions {
    pub(super) subscriptions: Vec<SubscriptionView>,
    /// Ask with `after` set to this for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<SubscriptionId>,
}

/// Which subscriptions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionsQuery {
    /// Those whose names come after this one.
    #[serde(default)]
    pub(super) after: Option<SubscriptionId>,
    /// So many at the most, up to 500.
    #[serde(default = "hundred")]
    pub(super) limit: usize,
}

/// An event whose attempts are used up: dead, or the one for which its key waits.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LetterView {
    /// The event's number within the topic.
    pub(super) number: u64,
    pub(super) died_at: TimeMs,
    pub(super) attempts: u32,
    /// The HTTP status of the last attempt; 0 if no answer came.
    pub(super) status: u16,
    /// The beginning of the last answer, or why there was none.
    pub(super) said: String,
}

/// Events whose attempts are used up, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LettersView {
    pub(super) letters: Vec<LetterView>,
    /// Ask with `after` set to this for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<u64>,
}

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersQuery {
    /// Those after this event.
    #[serde(default)]
    pub(super) after: u64,
    /// So many at the most, up to 1,000.
    #[serde(default = "hundred")]
    pub(super) limit: usize,
}

pub(super) fn hundred() -> usize {
    100
}

/// Which dead letters, and why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    /// The event's number; if it is left out, ten thousand of those whose attempts are used up.
    #[serde(default)]
    pub(super) number: Option<u64>,
    #[serde(default)]
    pub(super) reason: Reason,
}

/// A command, and why.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default)]
    pub(super) reason: Reason,
}

/// How many events were meant, and how many of their kind are left: ask again for those.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Changed {
    pub(super) changed: u64,
    pub(super) left: u64,
}

/// From where on events are delivered again: give one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// The number of the first event.
    #[serde(default)]
    pub(super) from: Option<u64>,
    /// The first event that was posted at this time or later.
    #[serde(default)]
    pub(super) from_time: Option<TimeMs>,
    #[serde(default)]
    pub(super) reason: Reason,
}

/// From where on events are delivered again.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Replays {
    /// The number of the first event.
    pub(super) from: u64,
}

/// How long the old secret signs as well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Up to 30 days.
    #[serde(default = "day")]
    pub(super) overlap_seconds: u64,
    #[serde(default)]
    pub(super) reason: Reason,
}

pub(super) fn day() -> u64 {
    86_400
}

/// A new secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rotated {
    /// Signs deliveries (Standard Webhooks). It is shown this once.
    pub(super) secret: String,
    /// Until then the secret before it signs as well.
    pub(super) old_until: TimeMs,
}

/// Done, or already so.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    #[schemars(extend("const" = true))]
    pub(super) done: bool,
}

/// What became of an event.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventView {
    pub(super) number: u64,
    /// Its entry in the log; keys of tenants are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sequence: Option<u64>,
    pub(super) posted_at: TimeMs,
    /// The event in the JSON format of CloudEvents, as it was posted.
    #[schemars(with = "Value")]
    pub(super) event: Box<RawValue>,
    pub(super) subscriptions: Vec<OwedView>,
}

/// Which attempts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttemptsQuery {
    /// Those from this entry of the log on; the event's own if it is left out.
    #[serde(default)]
    pub(super) from: u64,
}

/// Attempts to deliver an event, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Attempts {
    pub(super) attempts: Vec<AttemptView>,
    /// So far the log was searched: ask with `from` set to this for later attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<u64>,
}

/// An attempt to deliver an event.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AttemptView {
    pub(super) subscription: SubscriptionId,
    pub(super) at: TimeMs,
    /// 1 for the first, and again after a redrive or a replay.
    pub(super) attempt: u32,
    pub(super) outcome: AttemptOutcome,
    /// An HTTP status; 0 if no answer came, or if it was pulled.
    pub(super) status: u16,
    pub(super) took_ms: u32,
    /// The beginning of the answer, or why there was none; empty after a delivery.
    pub(super) said: String,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) again_at: Option<TimeMs>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AttemptOutcome {
    Delivered,
    Failed,
    /// It was the last one, and the event is a dead letter.
    DeadLetter,
    /// It was the last one, and the key waits for an operator.
    BlocksKey,
}

/// How many events, and for how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pull {
    /// Up to 100.
    pub(super) max: usize,
    /// Milliseconds to wait until there is one, up to 30,000.
    pub(super) wait_ms: u64,
    /// What is not settled within so many seconds, 1 to 3,600, has failed.
    pub(super) lease_seconds: u64,
}

impl Default for Pull {
    fn default() -> Self {
        Self { max: 10, wait_ms: 0, lease_seconds: 30 }
    }
}

/// Events to be settled.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pulled {
    pub(super) events: Vec<PulledEvent>,
    /// Until when.
    pub(super) lease_until: TimeMs,
}

/// An event, and what to name when it is settled.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PulledEvent {
    pub(super) number: u64,
    /// 1 for the first.
    pub(super) attempt: u32,
    /// The event in the JSON format of CloudEvents, as it was posted.
    #[schemars(with = "Value")]
    pub(super) event: Box<RawValue>,
}

/// What became of events that were pulled.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settling {
    /// They are done.
    pub(super) done: Vec<Receipt>,
    /// They are tried again by the subscription's schedule.
    pub(super) failed: Vec<FailedReceipt>,
    /// They were not tried: another consumer may have them a second later, and no attempt is spent.
    pub(super) returned: Vec<Receipt>,
}

/// An event that was pulled.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipt {
    pub(super) number: u64,
    pub(super) attempt: u32,
}

/// An event that was pulled, and when to try it again at the earliest.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailedReceipt {
    pub(super) number: u64,
    pub(super) attempt: u32,
    #[serde(default)]
    pub(super) retry_after_seconds: Option<u64>,
}

/// How many were settled.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SettledCount {
    pub(super) settled: u64,
    /// Their leases had ended: another consumer may have them too. What was done counts all the
    /// same, unless it had become a dead letter.
    pub(super) late: u64,
}

/// What a subscription has had of an event.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OwedView {
    pub(super) subscription: SubscriptionId,
    pub(super) state: OwedState,
    /// Attempts so far that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<u32>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) again_at: Option<TimeMs>,
    /// The status and the beginning of the last answer of a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) said: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OwedState {
    Delivered,
    Waiting,
    /// Its key waits for an operator.
    Blocked,
    Dead,
}
