//! The operations of the listener for publishers and operators.

mod documents;
mod pull;
mod schedules;
mod stream;

use self::{
    documents::*,
    pull::{pull, settle},
    stream::{StreamQuery, stream},
};
use crate::{
    bodies::Noted,
    command_key::Key,
    core::{
        Accepted, Command, EventSeen, Fill, From, Letter, Letters, NewEvent, Owed, Post, Reply,
        SUBSCRIPTIONS_MAX, SubscriptionSeen, TopicSeen,
        cloud_events::{BATCH_BYTES_MAX, batch_from_json, from_binary, from_json},
        record::{End, EventNo, SubscriptionNo},
        spec::{SubscriptionSpec, SubscriptionState, TopicSpec},
    },
    filter::Attributes,
    parts::{PAGE_MAX, Parts, Running},
    problem::{
        BODY_TOO_LARGE, CONFLICT, EVENT_REPEATED, EVENT_TOO_LARGE, INVALID, KEY_LIMITED, MEDIA_TYPE,
        NOT_AN_EVENT, NOT_FOUND, Problem, RATE_LIMITED, UNAVAILABLE, no_topic, of_event, of_reply,
    },
    push::EndpointUrl,
    scope::{KnownSubscription, KnownTopic, own_part},
    test_delivery::Tested,
};
use axum::{
    extract::{Path, Query, Request, State},
    response::{IntoResponse, Response},
};
use contracts::{SubscriptionId, TopicId};
use http::{HeaderMap, StatusCode, header};
use serde_json::value::RawValue;
use std::sync::Arc;
use units::{DurationMs, Sequence, TimeMs};
use web::{
    api_keys::{Operator, Role},
    command_key::CommandKeyField,
    health,
    json::{JsonBody, JsonReply},
    operation::{Access, Operation, Text, delete, get, post, put},
    protection::Protection,
    reason::Reasons,
    tenants::{
        Right::{self, Consume, Manage, Produce},
        Scope,
    },
};

const EVENTS: &str = "/api/v1/topics/{topic}/events";
const SUBSCRIPTION: &str = "/api/v1/subscriptions/{subscription}";
const LETTERS: &str = "/api/v1/subscriptions/{subscription}/dead-letters";
/// Bytes of a subscription's document: sixty-four comparisons of a kilobyte fit.
const DOCUMENT_BYTES_MAX: usize = 128 << 10;
const COMMAND_BYTES_MAX: usize = 4096;
const ONCE: &str = "Carries the command out once, however often it is sent with this key within a day.";
const LETTERS_MAX: usize = 1000;
const OVERLAP_SECONDS_MAX: u64 = 30 * 86_400;
/// A batch, and the spaces between its events.
const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);

const fn reads(rights: &'static [Right]) -> Access {
    Access::Shared(Role::ReadOnly, rights)
}

const fn operates(rights: &'static [Right]) -> Access {
    Access::Shared(Role::Operator, rights)
}

const fn owns(rights: &'static [Right]) -> Access {
    Access::Shared(Role::Owner, rights)
}

pub(crate) fn operations() -> Vec<Operation<Parts>> {
    let commanded = [&NOT_FOUND, &CONFLICT, &INVALID, &UNAVAILABLE];
    let mut all = vec![
        post(EVENTS, "postEvents", operates(&[Produce]), post_events)
            .does(
                "Stores a CloudEvent, or all of a batch or none of it, and answers when it is durable. The same event \
                 again is a repetition.",
            )
            .takes_as::<Text>("application/cloudevents+json")
            .accepts::<Stored>("Stored, durably.")
            .problems(&[&NOT_FOUND, &CONFLICT, &EVENT_REPEATED, &EVENT_TOO_LARGE, &KEY_LIMITED, &NOT_AN_EVENT, &UNAVAILABLE]),
        get("/api/v1/topics/{topic}/events/{number}", "readEvent", reads(&[Consume]), read_event)
            .does("What became of an event: which subscriptions have had it, and what comes next.")
            .replies::<EventView>("The event.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/topics/{topic}/events/{number}/attempts", "listAttempts", reads(&[Consume]), list_attempts)
            .does(
                "Every attempt to deliver an event to a subscription that exists, from the log. It is searched in parts: ask \
                 on while there is `next`.",
            )
            .query::<AttemptsQuery>()
            .replies::<Attempts>("The attempts.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/topics/{topic}/stream", "streamEvents", reads(stream::RIGHTS), stream)
            .does(
                "A topic's events as they are stored, as server-sent events: `id` is an event's number, `event` its type, `data` \
                 the event in the JSON format. `gap` says from which number on the stream goes on, if some before it are gone.",
            )
            .query::<StreamQuery>()
            .may_have::<u64>("Last-Event-ID", "The number of the last event that was had: the stream begins after it.")
            .replies_as::<Text>("text/event-stream", "The stream.")
            .problems(&[&NOT_FOUND, &KEY_LIMITED, &UNAVAILABLE]),
        post("/api/v1/subscriptions/{subscription}/pull", "pullEvents", operates(&[Consume]), pull)
            .does(
                "Takes events of a subscription without `url`, and waits for them. Of a key there is one at a time: the next \
                 one comes after it is settled.",
            )
            .takes::<Pull>()
            .replies::<Pulled>("The events; none if none came in time.")
            .problems(&commanded)
            .problems(&[&KEY_LIMITED]),
        post("/api/v1/subscriptions/{subscription}/settle", "settleEvents", operates(&[Consume]), settle)
            .does("Says what became of events that were pulled.")
            .takes::<Settling>()
            .replies::<SettledCount>("It is stored, durably.")
            .problems(&commanded),
        get("/api/v1/topics", "listTopics", reads(&[Produce, Consume, Manage]), list_topics)
            .does("All topics.")
            .replies::<Topics>("The topics.")
            .problems(&[&UNAVAILABLE]),
        put("/api/v1/topics/{topic}", "defineTopic", owns(&[Manage]), define_topic)
            .does("Makes a topic, or changes how long it keeps events.")
            .takes::<TopicSpec>()
            .replies::<Done>("Done, or already so.")
            .problems(&commanded),
        get("/api/v1/subscriptions", "listSubscriptions", reads(&[Consume, Manage]), list_subscriptions)
            .does("Subscriptions, by name, with what they are owed.")
            .query::<SubscriptionsQuery>()
            .replies::<Subscriptions>("The subscriptions.")
            .problems(&[&UNAVAILABLE]),
        get(SUBSCRIPTION, "readSubscription", reads(&[Consume, Manage]), read_subscription)
            .does("A subscription, with what it is owed.")
            .replies::<SubscriptionView>("The subscription.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        put(SUBSCRIPTION, "subscribe", owns(&[Manage]), subscribe)
            .does(
                "Makes a subscription, from the topic's next event on or from an earlier one that is kept, or changes it.",
            )
            .query::<StartQuery>()
            .takes::<SubscriptionSpec>()
            .replies::<SubscriptionView>("The subscription; with its secret, once, if it is new.")
            .problems(&commanded),
        delete(SUBSCRIPTION, "unsubscribe", owns(&[Manage]), unsubscribe)
            .does("Deletes a subscription, with its dead letters and all that it is owed.")
            .replies::<Done>("It is deleted.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/subscriptions/{subscription}/test", "testDelivery", operates(&[Consume, Manage]), test_delivery)
            .does(
                "Posts one signed event of the type `floodgate.test` to the subscription's endpoint at once, whatever state it is \
                 in, and tells what came of it. No attempt is spent, and nothing is logged.",
            )
            .replies::<Tested>("What came of it.")
            .problems(&[&NOT_FOUND, &CONFLICT, &RATE_LIMITED, &UNAVAILABLE]),
        post("/api/v1/subscriptions/{subscription}/pause", "pauseSubscription", operates(&[Consume, Manage]), pause)
            .does("Delivers no more to it. What it is owed is kept.")
            .takes::<Why>()
            .replies::<Done>("Done, or already so.")
            .problems(&commanded),
        post("/api/v1/subscriptions/{subscription}/resume", "resumeSubscription", operates(&[Consume, Manage]), resume)
            .does("Delivers to it again.")
            .takes::<Why>()
            .replies::<Done>("Done, or already so.")
            .problems(&commanded),
        post("/api/v1/subscriptions/{subscription}/replay", "replay", operates(&[Consume]), replay)
            .does(
                "Delivers again what the subscription was to get, from an event or a time on, as far as it is kept; its dead \
                 letters from there on too. What is on the way at that moment may come in between.",
            )
            .takes::<Again>()
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .replies::<Replays>("From where on.")
            .problems(&commanded),
        post("/api/v1/subscriptions/{subscription}/secret", "rotateSecret", owns(&[Manage]), rotate_secret)
            .does(
                "Makes a new secret, and shows it this once. For a while deliveries are signed with both, so that no \
                 receiver misses one.",
            )
            .takes::<Rotation>()
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .replies::<Rotated>("The new secret.")
            .problems(&commanded),
        get(LETTERS, "listDeadLetters", reads(&[Consume]), list_dead)
            .does("Dead letters: events whose attempts are used up.")
            .query::<LettersQuery>()
            .replies::<LettersView>("The dead letters.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        get("/api/v1/subscriptions/{subscription}/blocked", "listBlockedKeys", reads(&[Consume]), list_blocked)
            .does(
                "Keys that wait for an operator: the event of each whose attempts are used up. Redrive or discard it, and \
                 the key goes on.",
            )
            .query::<LettersQuery>()
            .replies::<LettersView>("The events for which their keys wait.")
            .problems(&[&NOT_FOUND, &UNAVAILABLE]),
        post("/api/v1/subscriptions/{subscription}/redrive", "redrive", operates(&[Consume]), redrive)
            .does(
                "Tries a dead letter or a blocked key's event again from its first attempt, or ten thousand of them; or an \
                 event that waits, at once. Later \
                 events of its key may have been delivered before: its key's order is broken by that.",
            )
            .takes::<Chosen>()
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .replies::<Changed>("How many are tried again.")
            .problems(&commanded),
        post("/api/v1/subscriptions/{subscription}/discard", "discard", owns(&[Consume]), discard)
            .does(
                "Gives a dead letter up, or ten thousand of them; or an event that waits or blocks its key. It is never \
                 delivered.",
            )
            .takes::<Chosen>()
            .may_have::<CommandKeyField>("Idempotency-Key", ONCE)
            .replies::<Changed>("How many are given up.")
            .problems(&commanded),
    ];
    all.extend(schedules::operations());
    all.extend(health::operations(crate::health::ready, crate::health::metrics));
    all
}

async fn post_events(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownTopic(topic): KnownTopic,
    scope: Scope,
    request: Request,
) -> Result<Response, Problem> {
    if running.reserved.contains(&topic) {
        let why = format!("topic {topic}: only this server posts there; make a topic of your own");
        return Err(Problem::new(&CONFLICT, why));
    }
    // Before the body is read.
    running.quotas.post(&scope, (0, 0), protection.now())?;
    let (parts, body) = request.into_parts();
    let body = web::body::read(body, BODY_BYTES_MAX, protection.body_timeout()).await?;
    let events = events_of(&parts.headers, &body)?;
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Problem::new(
            &BODY_TOO_LARGE,
            format!("{bytes} bytes in the batch, want {BATCH_BYTES_MAX} at the most"),
        ));
    }
    running.quotas.post(&scope, (events.len(), bytes), protection.now())?;
    match running.ask(Command::Post(Arc::new(Post { topic, events, followed: None }))).await? {
        Reply::Accepted(accepted) => {
            let events = accepted.into_iter().map(|Accepted { event, is_repeat }| StoredEvent {
                number: (event.0 > 0).then_some(event.0),
                is_repeat,
            });
            let stored = Stored { events: events.collect() };
            Ok((StatusCode::ACCEPTED, JsonReply(stored)).into_response())
        }
        other => Err(of_reply(&other)),
    }
}

/// The events of a request, in whichever mode it has.
fn events_of(headers: &HeaderMap, body: &[u8]) -> Result<Vec<NewEvent>, Problem> {
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).ok();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(text).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/cloudevents+json" => from_json(body).map(|event| vec![event]),
        "application/cloudevents-batch+json" => batch_from_json(body),
        _ if headers.contains_key("ce-specversion") => {
            let mut attributes = Attributes::new();
            for (name, value) in headers {
                let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
                let value = decoded(value.as_bytes())
                    .ok_or_else(|| Problem::new(&NOT_AN_EVENT, format!("ce-{name}: not UTF-8")))?;
                if attributes.insert(name.to_owned(), value).is_some() {
                    return Err(Problem::new(&NOT_AN_EVENT, format!("ce-{name}: given twice")));
                }
            }
            from_binary(attributes, &content_type, body).map(|event| vec![event])
        }
        _ => {
            let want =
                "want application/cloudevents+json, application/cloudevents-batch+json, or fields ce-…";
            return Err(Problem::new(
                &MEDIA_TYPE,
                format!("Content-Type {:?}: {want}", web::body::clip(&content_type)),
            ));
        }
    }
    .map_err(|error| of_event(&error))
}

/// A field's value without its percent-encoding (HTTP binding, 3.1.3.2). What is no encoding stays
/// as it is.
fn decoded(value: &[u8]) -> Option<String> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        match (byte, digit(value.get(at + 1)), digit(value.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((16 * high + low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn no_event(number: &str) -> Problem {
    Problem::new(&NOT_FOUND, format!("no event {number}: it may be too old to be kept"))
}

async fn seen_event(
    running: &Running,
    topic: TopicId,
    number: &str,
    scope: &Scope,
) -> Result<(EventNo, EventSeen), Problem> {
    let event = EventNo(number.parse().map_err(|_| no_event(number))?);
    match running.ask(Command::Event { topic, event }).await? {
        Reply::Event(Some(seen)) => Ok((event, own_part(scope, seen))),
        Reply::Event(None) => Err(no_event(number)),
        other => Err(of_reply(&other)),
    }
}

async fn read_event(
    State(running): State<Arc<Running>>,
    KnownTopic(topic): KnownTopic,
    Path((_, number)): Path<(String, String)>,
    scope: Scope,
) -> Result<JsonReply<EventView>, Problem> {
    let (event, seen) = seen_event(&running, topic, &number, &scope).await?;
    let mut stored = running.events(vec![seen.sequence]).await?;
    let stored = stored.pop().flatten().ok_or_else(|| no_event(&number))?;
    Ok(JsonReply(view_of_event(event, seen, stored, &scope)))
}

fn view_of_event(event: EventNo, seen: EventSeen, body: Box<RawValue>, scope: &Scope) -> EventView {
    let EventSeen { sequence, at, owed, numbers: _ } = seen;
    let plain = |subscription, state| OwedView {
        subscription,
        state,
        attempts: None,
        again_at: None,
        status: None,
        said: None,
    };
    let owed = owed.into_iter().map(|owed| match owed {
        Owed::Delivered { to } => plain(to, OwedState::Delivered),
        Owed::Waiting { to, attempts, again_at, is_blocked } => {
            let state = if is_blocked { OwedState::Blocked } else { OwedState::Waiting };
            OwedView { attempts: Some(attempts), again_at, ..plain(to, state) }
        }
        Owed::Dead { to, letter } => OwedView {
            attempts: Some(letter.attempts),
            status: Some(letter.status),
            said: Some(letter.said),
            ..plain(to, OwedState::Dead)
        },
    });
    let subscriptions = owed.collect();
    // How many entries lie between two of its events says what others do.
    let sequence = (!matches!(scope, Scope::Tenant(_))).then_some(sequence.0);
    EventView { number: event.0, sequence, posted_at: at, event: body, subscriptions }
}

async fn list_attempts(
    State(running): State<Arc<Running>>,
    KnownTopic(topic): KnownTopic,
    Path((_, number)): Path<(String, String)>,
    Query(AttemptsQuery { from }): Query<AttemptsQuery>,
    scope: Scope,
) -> Result<JsonReply<Attempts>, Problem> {
    let (event, seen) = seen_event(&running, topic, &number, &scope).await?;
    let from = seen.sequence.max(Sequence(from));
    let numbers: Vec<SubscriptionNo> = seen.numbers.keys().copied().collect();
    let (noted, next) =
        running.read_for_stream(move |reading| reading.attempts((from, event), &numbers)).await?;
    let view = |Noted { at, tried, again_at, outcome }: Noted| {
        Some(AttemptView {
            subscription: seen.numbers.get(&tried.subscription)?.clone(),
            at,
            attempt: tried.attempt,
            outcome: match outcome {
                End::Delivered => AttemptOutcome::Delivered,
                End::Failed => AttemptOutcome::Failed,
                End::Died => AttemptOutcome::DeadLetter,
                End::Blocked => AttemptOutcome::BlocksKey,
            },
            status: tried.status,
            took_ms: tried.took_ms,
            said: tried.said,
            again_at,
        })
    };
    let attempts = noted.into_iter().filter_map(view).collect();
    Ok(JsonReply(Attempts { attempts, next: next.map(|next| next.0) }))
}

async fn list_topics(
    State(running): State<Arc<Running>>,
    scope: Scope,
) -> Result<JsonReply<Topics>, Problem> {
    match running.ask(Command::Topics).await? {
        Reply::Topics(mut topics) => {
            topics.retain(|topic| scope.has_topic(&topic.name));
            let view = |TopicSeen { name, spec, kept, last, delayed }| TopicView {
                topic: name,
                spec,
                kept,
                last: last.0,
                delayed,
            };
            Ok(JsonReply(Topics { topics: topics.into_iter().map(view).collect() }))
        }
        other => Err(of_reply(&other)),
    }
}

async fn define_topic(
    operator: Operator,
    State(running): State<Arc<Running>>,
    KnownTopic(name): KnownTopic,
    scope: Scope,
    JsonBody(spec): JsonBody<TopicSpec, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Done>, Problem> {
    if let Some(why) = spec.problem() {
        return Err(Problem::new(&INVALID, why));
    }
    let mut _makes = None;
    if let Some(of) = scope.of_tenant() {
        _makes = Some(running.makes.lock().await);
        let topics = match running.ask(Command::Topics).await? {
            Reply::Topics(topics) => topics,
            other => return Err(of_reply(&other)),
        };
        if !topics.iter().any(|topic| topic.name == name) {
            let own = topics.iter().filter(|topic| of.tenant.owns(topic.name.as_str()));
            running.quotas.topic(of, own.count())?;
        }
    }
    done(running.ask(Command::DefineTopic { name, spec, by: operator.actor("") }).await?)
}

fn done(reply: Reply) -> Result<JsonReply<Done>, Problem> {
    match reply {
        Reply::Done => Ok(JsonReply(Done { done: true })),
        other => Err(of_reply(&other)),
    }
}

fn view_of(seen: SubscriptionSeen, secret: Option<String>, now: TimeMs) -> SubscriptionView {
    let is_lagging = seen.is_lagging(now);
    let SubscriptionSeen {
        number: _,
        name,
        spec,
        state,
        delivered,
        failed,
        dead,
        blocked,
        fill,
        dropped,
        backlog,
        in_flight,
        oldest,
        left_alone_until,
        took_ms,
        signing: _,
    } = seen;
    SubscriptionView {
        subscription: name,
        spec: (*spec).clone(),
        state,
        delivered,
        failed,
        dead_letters: dead,
        blocked_keys: blocked,
        fill: fill.map(|Fill { next, end }| FillView { next: next.0, end: end.0 }),
        dropped,
        backlog,
        in_flight,
        oldest,
        is_lagging,
        took_ms,
        left_alone_until,
        secret,
    }
}

async fn list_subscriptions(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    scope: Scope,
    Query(SubscriptionsQuery { after, limit }): Query<SubscriptionsQuery>,
) -> Result<JsonReply<Subscriptions>, Problem> {
    let at_most = limit.clamp(1, PAGE_MAX);
    let seen = running.subscriptions_of(&scope, after, at_most).await?;
    let next = seen.last().map(|last| last.name.clone()).filter(|_| seen.len() == at_most);
    let subscriptions = seen.into_iter().map(|seen| view_of(seen, None, protection.now())).collect();
    Ok(JsonReply(Subscriptions { subscriptions, next }))
}

async fn read_subscription(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownSubscription(name): KnownSubscription,
) -> Result<JsonReply<SubscriptionView>, Problem> {
    Ok(JsonReply(view_of(running.subscription(&name).await?, None, protection.now())))
}

async fn subscribe(
    operator: Operator,
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownSubscription(name): KnownSubscription,
    scope: Scope,
    Query(StartQuery { from, from_time }): Query<StartQuery>,
    JsonBody(spec): JsonBody<SubscriptionSpec, DOCUMENT_BYTES_MAX>,
) -> Result<JsonReply<SubscriptionView>, Problem> {
    let from = match (from, from_time) {
        (None, None) => None,
        (Some(number), None) => Some(From::Event(EventNo(number))),
        (None, Some(at)) => Some(From::Time(at)),
        (Some(_), Some(_)) => return Err(Problem::new(&INVALID, "want one of from and from_time")),
    };
    let url = spec.url.as_ref().and_then(|url| url.parse::<EndpointUrl>().err());
    let url = url.map(|error| format!("url: {error}"));
    if let Some(why) = url.or_else(|| spec.problem()) {
        return Err(Problem::new(&INVALID, why));
    }
    // An operator may give a tenant a subscription of another's topic.
    if !scope.has_topic(&spec.topic) {
        return Err(no_topic(&spec.topic));
    }
    let mut _makes = None;
    if let Some(of) = scope.of_tenant() {
        _makes = Some(running.makes.lock().await);
        let own = running.subscriptions_of(&scope, None, SUBSCRIPTIONS_MAX).await?;
        if !own.iter().any(|seen| seen.name == name) {
            running.quotas.subscription(of, own.len())?;
        }
    }
    let by = operator.actor("");
    match running.ask(Command::Subscribe { name: name.clone(), spec, from, by }).await? {
        Reply::Subscribed { subscription, signing, is_new } => {
            running.fills.notify_one();
            let secret = is_new.then(|| running.secrets.of(subscription, signing).expose());
            Ok(JsonReply(view_of(running.subscription(&name).await?, secret, protection.now())))
        }
        other => Err(of_reply(&other)),
    }
}

async fn unsubscribe(
    operator: Operator,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
) -> Result<JsonReply<Done>, Problem> {
    done(running.ask(Command::Unsubscribe { name, by: operator.actor("") }).await?)
}

async fn test_delivery(
    State(running): State<Arc<Running>>,
    State(protection): State<Arc<Protection>>,
    KnownSubscription(name): KnownSubscription,
) -> Result<JsonReply<Tested>, Problem> {
    let seen = running.subscription(&name).await?;
    Ok(JsonReply(running.tester.deliver(&seen, &running.secrets, protection.now()).await?))
}

async fn set_state(
    operator: Operator,
    running: &Running,
    (name, state): (SubscriptionId, SubscriptionState),
    Why { reason }: Why,
) -> Result<JsonReply<Done>, Problem> {
    Reasons::Optional.check(&reason.0)?;
    let by = operator.actor(&reason.0);
    done(running.ask(Command::SetState { name, state, by }).await?)
}

async fn pause(
    operator: Operator,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(why): JsonBody<Why, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Done>, Problem> {
    set_state(operator, &running, (name, SubscriptionState::Paused), why).await
}

async fn resume(
    operator: Operator,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(why): JsonBody<Why, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Done>, Problem> {
    set_state(operator, &running, (name, SubscriptionState::Active), why).await
}

async fn replay(
    operator: Operator,
    key: Key,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(Again { from, from_time, reason }): JsonBody<Again, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Replays>, Problem> {
    Reasons::Optional.check(&reason.0)?;
    let from = match (from, from_time) {
        (Some(number), None) => From::Event(EventNo(number)),
        (None, Some(at)) => From::Time(at),
        _ => return Err(Problem::new(&INVALID, "want one of from, a number, and from_time")),
    };
    let by = operator.actor(&reason.0);
    match running.ask(key.once(Command::Replay { name, from, by })).await? {
        Reply::Replays(from) => Ok(JsonReply(Replays { from: from.0 })),
        other => Err(of_reply(&other)),
    }
}

async fn rotate_secret(
    operator: Operator,
    key: Key,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(Rotation { overlap_seconds, reason }): JsonBody<Rotation, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Rotated>, Problem> {
    Reasons::Optional.check(&reason.0)?;
    if overlap_seconds > OVERLAP_SECONDS_MAX {
        let why = format!("overlap_seconds: {overlap_seconds}, want {OVERLAP_SECONDS_MAX} at the most");
        return Err(Problem::new(&INVALID, why));
    }
    let by = operator.actor(&reason.0);
    let overlap = DurationMs::seconds(overlap_seconds);
    match running.ask(key.once(Command::RotateSecret { name, overlap, by })).await? {
        Reply::Subscribed { subscription, signing, .. } => {
            let secret = running.secrets.of(subscription, signing).expose();
            Ok(JsonReply(Rotated { secret, old_until: signing.old_until }))
        }
        other => Err(of_reply(&other)),
    }
}

async fn letters(
    running: &Running,
    (name, which): (SubscriptionId, Letters),
    LettersQuery { after, limit }: LettersQuery,
) -> Result<JsonReply<LettersView>, Problem> {
    let at_most = limit.clamp(1, LETTERS_MAX);
    match running.ask(Command::Letters { name, which, after: EventNo(after), at_most }).await? {
        Reply::Letters(letters) => {
            let next = letters.last().map(|last| last.event.0).filter(|_| letters.len() == at_most);
            let view = |Letter { event, letter, .. }: Letter| LetterView {
                number: event.0,
                died_at: letter.died_at,
                attempts: letter.attempts,
                status: letter.status,
                said: letter.said,
            };
            Ok(JsonReply(LettersView { letters: letters.into_iter().map(view).collect(), next }))
        }
        other => Err(of_reply(&other)),
    }
}

async fn list_dead(
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    Query(query): Query<LettersQuery>,
) -> Result<JsonReply<LettersView>, Problem> {
    letters(&running, (name, Letters::Dead), query).await
}

async fn list_blocked(
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    Query(query): Query<LettersQuery>,
) -> Result<JsonReply<LettersView>, Problem> {
    letters(&running, (name, Letters::Blocked), query).await
}

fn changed(reply: Reply) -> Result<JsonReply<Changed>, Problem> {
    match reply {
        Reply::Changed { changed, left } => Ok(JsonReply(Changed { changed, left })),
        other => Err(of_reply(&other)),
    }
}

async fn redrive(
    operator: Operator,
    key: Key,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(Chosen { number, reason }): JsonBody<Chosen, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Changed>, Problem> {
    Reasons::Optional.check(&reason.0)?;
    let by = operator.actor(&reason.0);
    changed(running.ask(key.once(Command::Redrive { name, event: number.map(EventNo), by })).await?)
}

async fn discard(
    operator: Operator,
    key: Key,
    State(running): State<Arc<Running>>,
    KnownSubscription(name): KnownSubscription,
    JsonBody(Chosen { number, reason }): JsonBody<Chosen, COMMAND_BYTES_MAX>,
) -> Result<JsonReply<Changed>, Problem> {
    Reasons::Needed.check(&reason.0)?;
    let by = operator.actor(&reason.0);
    changed(running.ask(key.once(Command::Discard { name, event: number.map(EventNo), by })).await?)
}
